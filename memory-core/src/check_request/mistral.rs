//! Mistral chat completions.

use super::chat::{self, ChatForm, ChatRole};
use super::check::{Check, Field, Kind, optional, required};
use super::json::Json;
use super::rule::RequestRule;

const SPOKEN: &[Field] = &[required("role", Kind::Text), required("content", Kind::Any)];

const FORM: ChatForm = ChatForm {
    system: SPOKEN,
    user: SPOKEN,
    assistant: &[
        required("role", Kind::Text),
        optional("content", Kind::Any),
        optional("tool_calls", Kind::Array),
        optional("prefix", Kind::Bool),
    ],
    tool: &[
        required("role", Kind::Text),
        required("content", Kind::Any),
        required("tool_call_id", Kind::Text),
        optional("name", Kind::Text),
    ],
    call: &[
        required("id", Kind::Text),
        optional("type", Kind::OneOf(&["function"])),
        required("function", Kind::Object),
    ],
    custom_calls: false,
    has_parts: |_| true,
    part,
};

pub(super) fn check<'t>(check: &mut Check<'t>, request: Json<'t>) {
    chat::check(check, request, &FORM);
}

const IMAGE_PART: &[Field] = &[required("type", Kind::Text), required("image_url", Kind::Any)];
const IMAGE: &[Field] =
    &[required("url", Kind::Filled), optional("detail", Kind::OneOf(&["low", "high", "auto"]))];
const DOCUMENT: &[Field] = &[
    required("type", Kind::Text),
    required("document_url", Kind::Filled),
    optional("document_name", Kind::Text),
];
const FILE: &[Field] = &[required("type", Kind::Text), required("file_id", Kind::Filled)];
const AUDIO: &[Field] = &[required("type", Kind::Text), required("input_audio", Kind::Filled)];
const REFERENCE: &[Field] = &[required("type", Kind::Text), required("reference_ids", Kind::Array)];
const TOOL_REFERENCE: &[Field] = &[
    required("type", Kind::Text),
    required("tool", Kind::Text),
    required("title", Kind::Text),
    optional("url", Kind::Text),
    optional("favicon", Kind::Text),
    optional("description", Kind::Text),
];
const THINKING: &[Field] = &[
    required("type", Kind::Text),
    required("thinking", Kind::Array),
    optional("closed", Kind::Bool),
    optional("signature", Kind::Text),
];

fn part<'t>(check: &mut Check<'t>, part: Json<'t>, role: ChatRole) {
    let Some(kind) = chat::part_type(check, part) else { return };
    let is_allowed = match kind {
        "text" => true,
        "image_url" | "document_url" | "file" | "input_audio" => role == ChatRole::User,
        "thinking" => matches!(role, ChatRole::Assistant | ChatRole::System),
        "reference" | "tool_reference" => matches!(role, ChatRole::Assistant | ChatRole::Tool),
        _ => return check.report(RequestRule::PartType, part),
    };
    if !is_allowed {
        return check.report(RequestRule::PartPlacement, part);
    }
    match kind {
        "text" => chat::text_part(check, part),
        "image_url" => image(check, part),
        "document_url" => {
            check.object(part, DOCUMENT);
            check.document(part);
        }
        "file" => {
            check.object(part, FILE);
        }
        "input_audio" => {
            check.object(part, AUDIO);
        }
        "reference" => {
            check.object(part, REFERENCE);
        }
        "tool_reference" => {
            check.object(part, TOOL_REFERENCE);
        }
        _ => thinking(check, part),
    }
}

fn image<'t>(check: &mut Check<'t>, part: Json<'t>) {
    check.object(part, IMAGE_PART);
    check.image(part);
    let Some(image) = part.field("image_url") else { return };
    if image.as_str().is_some() {
        chat::url(check, image);
    } else if check.object(image, IMAGE)
        && let Some(url) = image.field("url")
    {
        chat::url(check, url);
    }
}

/// A list of texts, where Anthropic has a string.
fn thinking<'t>(check: &mut Check<'t>, part: Json<'t>) {
    check.object(part, THINKING);
    let Some(list) = part.field("thinking").filter(|list| list.is_array()) else { return };
    if list.is_empty() {
        check.report(RequestRule::ReasoningForm, list);
    }
    for item in list.items() {
        match item.text("type") {
            Some("text") => chat::text_part(check, item),
            Some("reference") => {
                check.object(item, REFERENCE);
            }
            _ => check.report(RequestRule::PartType, item),
        }
    }
}
