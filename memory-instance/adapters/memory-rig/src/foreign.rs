//! Reads messages that other programs have stored, by the neutral parts of their dialects.

use memory_instance::memory_core::dialect::{
    Arguments, MediaKind, MediaPart, MediaSource, ResultPart,
};
use memory_instance::{Message, Part, Role};
use rig_core::message::{
    AssistantContent, AssistantMessage, Audio, AudioMediaType, CallId, Document, DocumentMediaType,
    DocumentSourceKind, Image, ImageMediaType, Message as RigMessage, MimeType, Reasoning,
    ToolCall, ToolFunction, ToolName, ToolResult, ToolResultContent, UserContent, Video,
    VideoMediaType,
};

use crate::read::Tools;

/// The name of a tool that nothing names.
const UNNAMED: &str = "tool";

pub(crate) fn read(message: &Message, tools: &mut Tools, read: &mut Vec<RigMessage>) {
    let role = message.role();
    if matches!(role, Role::System | Role::Developer) {
        return read.push(RigMessage::system(message.text()));
    }
    let is_assistant = *role == Role::Assistant;
    let start = read.len();
    message.read(&mut |part| match part {
        Part::Text(text) if is_assistant => {
            add_to_assistant(read, start, AssistantContent::text(&*text.text));
        }
        Part::Text(text) => add_to_user(read, start, UserContent::text(&*text.text)),
        Part::Data(json) if is_assistant => {
            add_to_assistant(read, start, AssistantContent::text(json.to_string()));
        }
        Part::Data(json) => add_to_user(read, start, UserContent::text(json.to_string())),
        Part::Media(medium) if is_assistant => {
            if let Some(image) = image(&medium) {
                add_to_assistant(read, start, AssistantContent::Image(image));
            }
        }
        Part::Media(medium) => {
            if let Some(content) = medium_of_user(&medium) {
                add_to_user(read, start, content);
            }
        }
        Part::Reasoning(part) if !part.text.trim().is_empty() => {
            add_to_assistant(read, start, AssistantContent::Reasoning(Reasoning::new(&*part.text)));
        }
        Part::Call(call) if !call.provider_run => {
            let Some(name) = name(Some(call.name)) else { return };
            let id = call.id.unwrap_or(call.name);
            tools.called(id, &name);
            let function = match call.arguments {
                Arguments::Json(json) => ToolFunction::new(name, json.to_value()),
                other => ToolFunction::parse(name, &other.to_text()),
            };
            add_to_assistant(
                read,
                start,
                AssistantContent::ToolCall(ToolCall::from_wire(id, function)),
            );
        }
        Part::Result(result) if !result.provider_run => {
            if let Some(result) = result_of(&result, tools) {
                add_to_user(read, start, UserContent::ToolResult(result));
            }
        }
        _ => {}
    });
}

/// Adds content of the assistant, in the same turn if the message has one open.
fn add_to_assistant(read: &mut Vec<RigMessage>, start: usize, content: AssistantContent) {
    match read.get_mut(start..).and_then(<[_]>::last_mut) {
        Some(RigMessage::Assistant(turn)) => turn.content.push(content),
        _ => read.push(RigMessage::Assistant(AssistantMessage::new(vec![content]))),
    }
}

/// Adds content of the user, in the same message if the last one is of the user.
fn add_to_user(read: &mut Vec<RigMessage>, start: usize, added: UserContent) {
    match read.get_mut(start..).and_then(<[_]>::last_mut) {
        Some(RigMessage::User { content }) => content.push(added),
        _ => read.push(RigMessage::User { content: vec![added] }),
    }
}

/// The name of a tool; `None` never, because names that are not empty are accepted.
fn name(name: Option<&str>) -> Option<ToolName> {
    ToolName::new(name.filter(|name| !name.is_empty()).unwrap_or(UNNAMED)).ok()
}

fn result_of(result: &ResultPart<'_>, tools: &Tools) -> Option<ToolResult> {
    // Gemini's calls may have no id; they are answered by name.
    let id = result.link.or(result.name).unwrap_or(UNNAMED);
    let named = result.name.and_then(|known| name(Some(known)));
    let content = result.content.iter().filter_map(|part| match part {
        Part::Text(text) => Some(ToolResultContent::text(&*text.text)),
        Part::Data(json) => Some(ToolResultContent::Json { value: json.to_value() }),
        Part::Media(medium) => image(medium).map(ToolResultContent::Image),
        _ => None,
    });
    Some(ToolResult {
        call: CallId::from_wire(id),
        name: named.or_else(|| tools.name_of(id)).or_else(|| name(None))?,
        content: content.collect(),
        is_error: result.is_error,
    })
}

fn image(medium: &MediaPart<'_>) -> Option<Image> {
    if medium.kind != MediaKind::Image {
        return None;
    }
    let media_type = media_type::<ImageMediaType>(medium, "image");
    let detail = medium.detail.and_then(|detail| detail.parse().ok());
    Some(Image { data: source(medium)?, media_type, detail, native: None })
}

fn medium_of_user(medium: &MediaPart<'_>) -> Option<UserContent> {
    Some(match medium.kind {
        MediaKind::Image => UserContent::Image(image(medium)?),
        MediaKind::Audio => UserContent::Audio(Audio {
            data: source(medium)?,
            media_type: media_type::<AudioMediaType>(medium, "audio"),
        }),
        MediaKind::Video => UserContent::Video(Video {
            data: source(medium)?,
            media_type: media_type::<VideoMediaType>(medium, "video"),
            additional_params: None,
        }),
        _ => UserContent::Document(Document {
            data: source(medium)?,
            media_type: media_type::<DocumentMediaType>(medium, "application"),
            additional_params: None,
        }),
    })
}

/// The media type, which may be only its last part, such as `wav`.
fn media_type<T: MimeType>(medium: &MediaPart<'_>, kind: &str) -> Option<T> {
    let name = medium.media_type?;
    T::from_mime_type(name).or_else(|| T::from_mime_type(&format!("{kind}/{name}")))
}

fn source(medium: &MediaPart<'_>) -> Option<DocumentSourceKind> {
    Some(match &medium.source {
        MediaSource::Data(data) => DocumentSourceKind::base64(*data),
        MediaSource::Url(url) => DocumentSourceKind::url(*url),
        MediaSource::FileId(id) => DocumentSourceKind::file_id(*id),
        MediaSource::Text(text) => DocumentSourceKind::string(*text),
        MediaSource::Parts(parts) => {
            let texts: Vec<_> = parts.iter().filter_map(text_of).collect();
            DocumentSourceKind::string(texts.join("\n"))
        }
        _ => return None,
    })
}

fn text_of<'p>(part: &'p Part<'_>) -> Option<&'p str> {
    if let Part::Text(text) = part { Some(&text.text) } else { None }
}
