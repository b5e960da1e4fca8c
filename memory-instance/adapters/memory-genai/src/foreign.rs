//! Reads messages that other programs have stored, by the neutral parts of their dialects.

use genai::chat::{Binary, ChatMessage, ChatRole, ContentPart, ToolCall, ToolResponse};
use memory_instance::memory_core::dialect::{
    Arguments, CallPart, MediaKind, MediaPart, MediaSource, ResultPart,
};
use memory_instance::{Message, Part, Role};
use serde_json::{Value, json};

/// The id of a call that nothing names.
const UNNAMED: &str = "tool";

pub(crate) fn read(message: &Message, read: &mut Vec<ChatMessage>) {
    let speaker = match message.role() {
        Role::System | Role::Developer => {
            return read.push(ChatMessage::system(message.text().into_owned()));
        }
        Role::Assistant => ChatRole::Assistant,
        // Text beside results is of the user.
        _ => ChatRole::User,
    };
    let start = read.len();
    let mut add = |role: &ChatRole, part: ContentPart| match read.get_mut(start..) {
        Some([.., last]) if last.role == *role => last.content.push(part),
        _ => read.push(ChatMessage::new(role.clone(), part)),
    };
    message.read(&mut |part| match part {
        Part::Text(text) => add(&speaker, ContentPart::Text(text.text.into_owned())),
        Part::Data(json) => add(&speaker, ContentPart::Text(json.to_string())),
        Part::Media(medium) => {
            if let Some(part) = medium_of(&medium) {
                add(&speaker, part);
            }
        }
        Part::Reasoning(part) if !part.text.trim().is_empty() => {
            add(&ChatRole::Assistant, ContentPart::ReasoningContent(part.text.into_owned()));
        }
        Part::Call(call) if !call.provider_run => {
            add(&ChatRole::Assistant, ContentPart::ToolCall(call_of(&call)));
        }
        Part::Result(result) if !result.provider_run => {
            add(&ChatRole::Tool, ContentPart::ToolResponse(response_of(&result)));
            for part in &result.content {
                if let Part::Media(medium) = part
                    && let Some(part) = medium_of(medium)
                {
                    add(&ChatRole::User, part);
                }
            }
        }
        _ => {}
    });
}

fn call_of(call: &CallPart<'_>) -> ToolCall {
    let fn_arguments = match call.arguments {
        Arguments::Missing => json!({}),
        Arguments::Json(json) => json.to_value(),
        other => {
            let text = other.to_text();
            serde_json::from_str(&text).unwrap_or_else(|_| Value::String(text.into_owned()))
        }
    };
    ToolCall {
        // Gemini's calls may have no id; they are answered by name.
        call_id: call.id.unwrap_or(call.name).to_owned(),
        fn_name: call.name.to_owned(),
        fn_arguments,
        thought_signatures: None,
    }
}

fn response_of(result: &ResultPart<'_>) -> ToolResponse {
    let id = result.link.or(result.name).unwrap_or(UNNAMED);
    let text = result.text();
    let content = if result.is_error { format!("Error: {text}") } else { text.into_owned() };
    ToolResponse { call_id: id.to_owned(), fn_name: result.name.map(str::to_owned), content }
}

fn medium_of(medium: &MediaPart<'_>) -> Option<ContentPart> {
    let title = medium.title.map(str::to_owned);
    Some(match &medium.source {
        MediaSource::Data(data) => {
            ContentPart::from_binary_base64(media_type(medium), *data, title)
        }
        MediaSource::Url(url) => {
            ContentPart::Binary(Binary::from_url(media_type(medium), *url, title))
        }
        MediaSource::Text(text) => ContentPart::from_text(*text),
        MediaSource::Parts(parts) => {
            let text = |part: &Part<'_>| match part {
                Part::Text(text) => Some(text.text.clone().into_owned()),
                _ => None,
            };
            ContentPart::Text(parts.iter().filter_map(text).collect::<Vec<_>>().join("\n"))
        }
        _ => return None,
    })
}

/// The whole media type; one that is only its last part, such as `wav`, is completed.
fn media_type(medium: &MediaPart<'_>) -> String {
    let kind = match medium.kind {
        MediaKind::Image => "image",
        MediaKind::Audio => "audio",
        MediaKind::Video => "video",
        _ => "application",
    };
    match medium.media_type {
        Some(name) if name.contains('/') => name.to_owned(),
        Some(name) => format!("{kind}/{name}"),
        None if kind == "application" => "application/octet-stream".to_owned(),
        None => format!("{kind}/*"),
    }
}
