//! Google Gemini contents. Names are read in camelCase, as on the wire, and in snake_case, as Python dumps them.

mod write;

use std::borrow::Cow;

pub(super) use self::write::write;
use super::fields::{Field, Position, content, media, members, opaque, parts, protocol};
use super::media::{kind_of, read_block as read_shared_block, read_tool_value};
use super::part::{
    CallKind, CallPart, MediaKind, MediaPart, MediaSize, MediaSource, Native, Part, ReasoningPart,
    ResultPart, TextPart,
};
use super::write::read_arguments;
use super::{Dialect, Visit};
use crate::json::{Json, JsonObject};
use crate::message::Role;

const DIALECT: Dialect = Dialect::Gemini;

const MEDIA: &[Field] = &[
    protocol("mimeType"),
    protocol("mime_type"),
    media("data"),
    media("fileUri"),
    media("file_uri"),
    content("displayName"),
];

const CALL: &[Field] = &[protocol("id"), protocol("name"), content("args")];

const RESPONSE: &[Field] = &[
    protocol("id"),
    protocol("name"),
    content("response"),
    parts("parts"),
    protocol("scheduling"),
    protocol("willContinue"),
    protocol("will_continue"),
];

const CODE: &[Field] = &[protocol("id"), protocol("language"), content("code")];
const CODE_RESULT: &[Field] = &[protocol("id"), protocol("outcome"), content("output")];

const PART: &[Field] = &[
    content("text"),
    members("inlineData", MEDIA),
    members("inline_data", MEDIA),
    members("fileData", MEDIA),
    members("file_data", MEDIA),
    members("functionCall", CALL),
    members("function_call", CALL),
    members("functionResponse", RESPONSE),
    members("function_response", RESPONSE),
    members("executableCode", CODE),
    members("executable_code", CODE),
    members("codeExecutionResult", CODE_RESULT),
    members("code_execution_result", CODE_RESULT),
    protocol("thought"),
    opaque("thoughtSignature"),
    opaque("thought_signature"),
    protocol("videoMetadata"),
    protocol("video_metadata"),
    protocol("mediaResolution"),
    protocol("media_resolution"),
];

pub(super) fn fields(position: Position<'_>) -> Option<&'static [Field]> {
    match position {
        Position::Message => Some(const { &[protocol("role"), parts("parts")] }),
        Position::Part(_) => Some(PART),
        Position::Item(_) => None,
    }
}

/// The role; `user` if it is missing, as in the API.
pub(super) fn role(message: &Json) -> Option<Role> {
    match message.get_str("role") {
        Some(role) => super::role_from(role, &[("model", Role::Assistant)]),
        None => Some(Role::User),
    }
}

/// A member in either spelling.
fn either<'a>(json: &'a Json, camel: &str, snake: &str) -> Option<&'a Json> {
    json.get(camel).or_else(|| json.get(snake))
}

/// Whether this is a part of a message: an object without a type and with one of the keys that hold data.
pub(super) fn is_part(part: &Json) -> bool {
    const KEYS: [&str; 13] = [
        "text",
        "inlineData",
        "inline_data",
        "fileData",
        "file_data",
        "functionCall",
        "function_call",
        "functionResponse",
        "function_response",
        "executableCode",
        "executable_code",
        "codeExecutionResult",
        "code_execution_result",
    ];
    part.get("type").is_none() && KEYS.iter().any(|key| part.get(key).is_some())
}

pub(super) fn read<'a>(message: &'a Json, visit: Visit<'_, 'a>) {
    match message.get("parts").or_else(|| message.get("content")) {
        Some(Json::Array(parts)) => parts.iter().for_each(|part| read_part(part, visit)),
        Some(Json::String(text)) => visit(Part::text(text.as_str())),
        Some(part @ Json::Object(_)) => read_part(part, visit),
        _ => {}
    }
}

fn read_part<'a>(part: &'a Json, visit: Visit<'_, 'a>) {
    let native = Some(Native { dialect: DIALECT, json: part });
    let signature = either(part, "thoughtSignature", "thought_signature").and_then(Json::as_str);
    if let Some(call) = either(part, "functionCall", "function_call") {
        let name = call.get_str("name").unwrap_or_default();
        let arguments = read_arguments(call.get("args"));
        visit(Part::Call(CallPart {
            native,
            ..CallPart::new(call.get_str("id"), name, arguments)
        }));
    } else if let Some(response) = either(part, "functionResponse", "function_response") {
        visit(Part::Result(read_response(part, response)));
    } else if let Some(code) = either(part, "executableCode", "executable_code") {
        let arguments = read_arguments(Some(code));
        visit(Part::Call(CallPart {
            kind: CallKind::Native("executableCode"),
            provider_run: true,
            native,
            ..CallPart::new(code.get_str("id"), "code_execution", arguments)
        }));
    } else if let Some(result) = either(part, "codeExecutionResult", "code_execution_result") {
        let output = result.get_str("output").filter(|text| !text.is_empty());
        let content = output.map(Part::text).into_iter().collect();
        let is_error = result.get_str("outcome").is_some_and(|outcome| outcome != "OUTCOME_OK");
        visit(Part::Result(ResultPart {
            is_error,
            kind: CallKind::Native("codeExecutionResult"),
            provider_run: true,
            native,
            ..ResultPart::new(result.get_str("id"), Some("code_execution"), content)
        }));
    } else if let Some(text) = part.get_str("text") {
        let is_thought = part.get("thought").and_then(Json::as_bool) == Some(true);
        // A signature without other content has an empty text.
        if is_thought || text.is_empty() && signature.is_some() {
            let text = Cow::Borrowed(text);
            visit(Part::Reasoning(ReasoningPart { text, opaque: signature, native }));
        } else {
            visit(Part::Text(TextPart { native, ..TextPart::new(text) }));
        }
    } else if signature.is_some() && part.as_object().is_some_and(|object| object.len() <= 2) {
        let text = Cow::Borrowed("");
        visit(Part::Reasoning(ReasoningPart { text, opaque: signature, native }));
    } else {
        read_shared_block(part, DIALECT, visit);
    }
}

/// A medium in Gemini's form, wherever it occurs.
pub(super) fn read_media<'a>(part: &'a Json, native: Native<'a>) -> Option<Part<'a>> {
    let (inner, source) = match either(part, "inlineData", "inline_data") {
        Some(inner) => (inner, MediaSource::Data(inner.get_str("data")?)),
        None => {
            let inner = either(part, "fileData", "file_data")?;
            let uri = either(inner, "fileUri", "file_uri")?.as_str()?;
            // Files of the account have URLs of the API itself.
            let is_own = uri.contains("generativelanguage.googleapis.com");
            (inner, if is_own { MediaSource::FileId(uri) } else { MediaSource::Url(uri) })
        }
    };
    let media_type = either(inner, "mimeType", "mime_type").and_then(Json::as_str);
    let resolution = either(part, "mediaResolution", "media_resolution");
    let level = resolution.and_then(|json| json.as_str().or_else(|| json.get_str("level")));
    let detail = level.and_then(|level| {
        [("LOW", "low"), ("MEDIUM", "medium"), ("HIGH", "high")]
            .iter()
            .find(|(name, _)| level.contains(name))
            .map(|(_, detail)| *detail)
    });
    let offset = |camel, snake| {
        let video = either(part, "videoMetadata", "video_metadata")?;
        let text = either(video, camel, snake)?.as_str()?;
        text.trim_end_matches('s')
            .parse::<f64>()
            .ok()
            .filter(|seconds| (0.0..1e9).contains(seconds))
    };
    let start = offset("startOffset", "start_offset").unwrap_or_default();
    let end = offset("endOffset", "end_offset");
    // Within the range, so the cast cannot wrap.
    let seconds = end.map(|end| (end - start).max(0.0).ceil() as u32);
    Some(Part::Media(MediaPart {
        media_type,
        detail,
        title: inner.get_str("displayName"),
        size: MediaSize { seconds, ..MediaSize::default() },
        native: Some(native),
        ..MediaPart::new(kind_of(media_type, MediaKind::Document), source)
    }))
}

fn read_response<'a>(part: &'a Json, response: &'a Json) -> ResultPart<'a> {
    let value = response.get("response");
    let (mut content, is_verbatim, is_error) = match value.and_then(Json::as_object) {
        Some(object) if object.is_empty() => (Vec::new(), true, false),
        Some(object) => {
            let (inner, is_error) = unwrap_response(object);
            let (content, is_verbatim) = match (inner, value) {
                (Some(inner), _) | (None, Some(inner)) => read_tool_value(inner, DIALECT),
                (None, None) => (Vec::new(), true),
            };
            (content, is_verbatim, is_error)
        }
        // Not the form of the API.
        None => match value {
            Some(value) => (read_tool_value(value, DIALECT).0, false, false),
            None => (Vec::new(), false, false),
        },
    };
    for part in response.get("parts").and_then(Json::as_array).unwrap_or_default() {
        read_part(part, &mut |part| content.push(part));
    }
    let native = is_verbatim.then_some(Native { dialect: DIALECT, json: part });
    ResultPart {
        is_error,
        native,
        ..ResultPart::new(response.get_str("id"), response.get_str("name"), content)
    }
}

/// The value in a response that only wraps it, and whether it is an error.
pub(super) fn unwrap_response(object: &JsonObject) -> (Option<&Json>, bool) {
    let error = object.get("error").filter(|error| !error.is_null());
    let inner = match error {
        Some(error) => Some(error),
        None => object.get("result").or_else(|| object.get("output")),
    };
    (inner.filter(|_| object.len() == 1), error.is_some())
}
