//! OpenAI Chat Completions, and the content parts that compatible servers adopted.

use super::chat::{self, ChatForm, ChatRole};
use super::check::{Check, Field, Kind, optional, required};
use super::json::Json;
use super::rule::RequestRule;

const SPOKEN: &[Field] =
    &[required("role", Kind::Text), required("content", Kind::Any), optional("name", Kind::Text)];

const FORM: ChatForm = ChatForm {
    system: SPOKEN,
    user: SPOKEN,
    assistant: &[
        required("role", Kind::Text),
        optional("content", Kind::Any),
        optional("name", Kind::Text),
        optional("refusal", Kind::Text),
        optional("audio", Kind::Object),
        optional("tool_calls", Kind::Array),
        optional("function_call", Kind::Object),
        optional("reasoning_content", Kind::Text),
        optional("reasoning", Kind::Text),
        optional("reasoning_details", Kind::Array),
    ],
    tool: &[
        required("role", Kind::Text),
        required("content", Kind::Any),
        required("tool_call_id", Kind::Text),
    ],
    call: &[
        required("id", Kind::Text),
        required("type", Kind::OneOf(&["function", "custom"])),
        required("function", Kind::Object),
    ],
    custom_calls: true,
    has_parts: |_| true,
    part,
};

pub(super) fn check<'t>(check: &mut Check<'t>, request: Json<'t>) {
    chat::check(check, request, &FORM);
}

fn part<'t>(check: &mut Check<'t>, part: Json<'t>, role: ChatRole) {
    match chat::part_type(check, part) {
        Some("text") => chat::text_part_with(check, part, TEXT),
        Some("refusal") if role == ChatRole::Assistant => {
            check.object(part, REFUSAL);
        }
        Some("image_url" | "input_audio" | "file") if role == ChatRole::User => {
            media(check, part, IMAGE_PART);
        }
        Some("image_url" | "input_audio" | "file" | "refusal") => {
            check.report(RequestRule::PartPlacement, part);
        }
        Some(_) => check.report(RequestRule::PartType, part),
        None => {}
    }
}

const TEXT: &[Field] = &[
    required("type", Kind::Text),
    required("text", Kind::Text),
    // From GPT-5.6. (T async-openai)
    optional("prompt_cache_breakpoint", Kind::Object),
];
const REFUSAL: &[Field] = &[required("type", Kind::Text), required("refusal", Kind::Text)];
const IMAGE_PART: &[Field] = &[
    required("type", Kind::Text),
    required("image_url", Kind::Object),
    optional("prompt_cache_breakpoint", Kind::Object),
];
const IMAGE: &[Field] = &[
    required("url", Kind::Filled),
    optional("detail", Kind::OneOf(&["low", "high", "auto", "original"])),
];
const AUDIO_PART: &[Field] = &[required("type", Kind::Text), required("input_audio", Kind::Object)];
const AUDIO: &[Field] =
    &[required("data", Kind::Filled), required("format", Kind::OneOf(&["wav", "mp3"]))];
const FILE_PART: &[Field] = &[required("type", Kind::Text), required("file", Kind::Object)];
const FILE: &[Field] = &[
    optional("file_id", Kind::Filled),
    optional("filename", Kind::Filled),
    optional("file_data", Kind::Filled),
];

/// `image_url`, `input_audio` or `file`.
pub(super) fn media<'t>(check: &mut Check<'t>, part: Json<'t>, image_part: &[Field]) {
    let body = |key| part.field(key).filter(|body: &Json<'t>| body.is_object());
    if let Some("image_url") = part.text("type") {
        check.object(part, image_part);
        check.image(part);
        if let Some(image) = body("image_url") {
            check.object(image, IMAGE);
            if let Some(url) = image.field("url") {
                chat::url(check, url);
            }
        }
    } else if let Some("input_audio") = part.text("type") {
        check.object(part, AUDIO_PART);
        if let Some(audio) = body("input_audio") {
            check.object(audio, AUDIO);
        }
    } else {
        check.object(part, FILE_PART);
        if let Some(file) = body("file") {
            check.object(file, FILE);
            if file.field("file_id").is_some() == file.field("file_data").is_some() {
                check.report(RequestRule::Media, file);
            }
            // `file_data` is a data URL. (T)
            if let Some(data) = file.field("file_data")
                && data.as_str().is_some_and(|data| !data.is_empty() && !data.starts_with("data:"))
            {
                check.report(RequestRule::Media, data);
            }
        }
    }
}
