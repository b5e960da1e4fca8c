//! Message items, and the parts of messages and outputs.

use super::items::Effect;
use crate::check_request::chat::{self, part_type};
use crate::check_request::check::{Check, Field, Kind, optional, required};
use crate::check_request::json::Json;
use crate::check_request::rule::RequestRule;

const MESSAGE: &[Field] = &[
    optional("type", Kind::Text),
    optional("id", Kind::Text),
    required("role", Kind::Text),
    required("content", Kind::TextOrArray),
    optional("status", Kind::OneOf(&["in_progress", "completed", "incomplete"])),
    optional("phase", Kind::Text),
];
const INPUT_TEXT: &[Field] = &[
    required("type", Kind::Text),
    required("text", Kind::Text),
    // From GPT-5.6. (T async-openai)
    optional("prompt_cache_breakpoint", Kind::Object),
];
const OUTPUT_TEXT: &[Field] = &[
    required("type", Kind::Text),
    required("text", Kind::Text),
    optional("annotations", Kind::Array),
    optional("logprobs", Kind::Array),
];
const REFUSAL: &[Field] = &[required("type", Kind::Text), required("refusal", Kind::Text)];
const IMAGE: &[Field] = &[
    required("type", Kind::Text),
    optional("image_url", Kind::Filled),
    optional("file_id", Kind::Filled),
    optional("detail", Kind::OneOf(&["low", "high", "auto", "original"])),
    optional("prompt_cache_breakpoint", Kind::Object),
];
const FILE: &[Field] = &[
    required("type", Kind::Text),
    optional("file_id", Kind::Filled),
    optional("file_data", Kind::Filled),
    optional("file_url", Kind::Filled),
    optional("filename", Kind::Text),
    optional("detail", Kind::Text),
];
const AUDIO: &[Field] = &[required("type", Kind::Text), required("input_audio", Kind::Object)];

/// Checks a message, and returns whether the model produced it.
pub(super) fn message<'t>(check: &mut Check<'t>, item: Json<'t>) -> Effect {
    check.object(item, MESSAGE);
    let mut is_assistant = false;
    if let Some(role) = item.field("role")
        && let Some(text) = role.as_str()
    {
        is_assistant = text == "assistant";
        let is_known = matches!(text, "user" | "assistant" | "system")
            || (text == "developer" && check.profile.developer_role);
        if !is_known {
            check.report(RequestRule::Role, role);
        }
    }
    let Some(content) = item.field("content") else {
        return if is_assistant { Effect::Produced } else { Effect::Other };
    };
    let is_empty = content.as_str().is_some_and(|text| check.is_empty_text(text))
        || (content.is_array() && content.is_empty());
    if is_empty {
        check.report(RequestRule::EmptyContent, content);
    }
    for part in content.items() {
        match part_type(check, part) {
            Some("output_text") if is_assistant => {
                chat::text_part_with(check, part, OUTPUT_TEXT);
            }
            Some("refusal") if is_assistant => {
                check.object(part, REFUSAL);
            }
            Some(kind @ ("input_text" | "input_image" | "input_file" | "input_audio"))
                if !is_assistant =>
            {
                input_part(check, part, kind);
            }
            Some(
                "output_text" | "refusal" | "input_text" | "input_image" | "input_file"
                | "input_audio",
            ) => check.report(RequestRule::PartPlacement, part),
            Some(_) => check.report(RequestRule::PartType, part),
            None => {}
        }
    }
    if is_assistant { Effect::Produced } else { Effect::Other }
}

/// The parts of an output.
pub(super) fn output_parts<'t>(check: &mut Check<'t>, output: Json<'t>) {
    if output.is_empty() {
        check.report(RequestRule::EmptyContent, output);
    }
    for part in output.items() {
        match part_type(check, part) {
            Some(kind @ ("input_text" | "input_image" | "input_file")) => {
                if kind == "input_text" || check.profile.media_in_results {
                    input_part(check, part, kind);
                } else {
                    check.report(RequestRule::PartPlacement, part);
                }
            }
            Some(_) => check.report(RequestRule::PartType, part),
            None => {}
        }
    }
}

fn input_part<'t>(check: &mut Check<'t>, part: Json<'t>, kind: &str) {
    let sources: &[&str] = match kind {
        "input_text" => return chat::text_part_with(check, part, INPUT_TEXT),
        "input_audio" => {
            check.object(part, AUDIO);
            return;
        }
        "input_image" => {
            check.object(part, IMAGE);
            check.image(part);
            &["image_url", "file_id"]
        }
        _ => {
            check.object(part, FILE);
            check.document(part);
            &["file_id", "file_data", "file_url"]
        }
    };
    if sources.iter().filter(|key| part.field(key).is_some()).count() != 1 {
        check.report(RequestRule::Media, part);
    }
    for key in ["image_url", "file_url"] {
        if let Some(url) = part.field(key) {
            chat::url(check, url);
        }
    }
}
