//! Chat templates that allow one system message, first, and require alternate roles.

use super::chat::{self, ChatForm, ChatRole};
use super::check::{Check, Field, Kind, optional, required};
use super::json::Json;
use super::openai_chat;
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
        optional("tool_calls", Kind::Array),
        optional("reasoning_content", Kind::Text),
        optional("reasoning", Kind::Text),
    ],
    tool: &[
        required("role", Kind::Text),
        required("content", Kind::Any),
        required("tool_call_id", Kind::Text),
        optional("name", Kind::Text),
    ],
    call: &[
        required("id", Kind::Text),
        required("type", Kind::OneOf(&["function"])),
        required("function", Kind::Object),
    ],
    custom_calls: false,
    // Templates concatenate the content of the other roles as strings.
    has_parts: |role| role == ChatRole::User,
    part,
};

pub(super) fn check<'t>(check: &mut Check<'t>, request: Json<'t>) {
    chat::check(check, request, &FORM);
}

const IMAGE_PART: &[Field] = &[required("type", Kind::Text), required("image_url", Kind::Object)];
const VIDEO_PART: &[Field] = &[required("type", Kind::Text), required("video_url", Kind::Object)];
const AUDIO_PART: &[Field] = &[required("type", Kind::Text), required("audio_url", Kind::Object)];
const SOURCE: &[Field] = &[required("url", Kind::Filled)];

fn part<'t>(check: &mut Check<'t>, part: Json<'t>, _: ChatRole) {
    let source = match chat::part_type(check, part) {
        Some("text") => return chat::text_part(check, part),
        Some("image_url" | "input_audio") => return openai_chat::media(check, part, IMAGE_PART),
        Some("video_url") => {
            check.object(part, VIDEO_PART);
            part.field("video_url")
        }
        Some("audio_url") => {
            check.object(part, AUDIO_PART);
            part.field("audio_url")
        }
        Some(_) => return check.report(RequestRule::PartType, part),
        None => return,
    };
    if let Some(source) = source.filter(|source| source.is_object()) {
        check.object(source, SOURCE);
        if let Some(url) = source.field("url") {
            chat::url(check, url);
        }
    }
}
