//! Vercel AI SDK: model messages and user-interface messages (`parts`), in versions 4 to 6. Writes model messages.

mod ui;
mod write;

use std::borrow::Cow;

pub(super) use self::write::write;
use super::fields::{Field, Position, Table, content, find, media, protocol};
use super::media::{from_url, kind_of, read_block as read_shared_block, read_tool_value};
use super::part::{
    CallKind, CallPart, MediaKind, MediaPart, MediaSource, Native, Part, ReasoningPart, ResultPart,
    TextPart,
};
use super::write::read_arguments;
use super::{Dialect, Visit};
use crate::json::Json;
use crate::message::Role;

const DIALECT: Dialect = Dialect::AiSdk;

const TYPE: Field = protocol("type");
const OPTIONS: Field = protocol("providerOptions");

const PARTS: Table = &[
    ("text", &[TYPE, content("text"), OPTIONS]),
    ("image", &[TYPE, media("image"), protocol("mediaType"), protocol("mimeType"), OPTIONS]),
    (
        "file",
        &[
            TYPE,
            media("data"),
            protocol("mediaType"),
            protocol("mimeType"),
            content("filename"),
            OPTIONS,
        ],
    ),
    ("reasoning", &[TYPE, content("text"), protocol("signature"), OPTIONS]),
    ("redacted-reasoning", &[TYPE, protocol("data"), OPTIONS]),
    ("reasoning-file", &[TYPE, media("data"), protocol("mediaType"), OPTIONS]),
    ("custom", &[TYPE, protocol("kind"), OPTIONS]),
    (
        "tool-call",
        &[
            TYPE,
            protocol("toolCallId"),
            protocol("toolName"),
            content("input"),
            content("args"),
            protocol("providerExecuted"),
            OPTIONS,
        ],
    ),
    (
        "tool-result",
        &[
            TYPE,
            protocol("toolCallId"),
            protocol("toolName"),
            content("output"),
            content("result"),
            protocol("isError"),
            OPTIONS,
        ],
    ),
    ("tool-approval-request", &[TYPE, protocol("approvalId"), protocol("toolCallId"), OPTIONS]),
    (
        "tool-approval-response",
        &[TYPE, protocol("approvalId"), protocol("approved"), content("reason"), OPTIONS],
    ),
];

pub(super) fn fields(position: Position<'_>) -> Option<&'static [Field]> {
    match position {
        Position::Message => {
            Some(const { &[protocol("role"), super::fields::parts("content"), OPTIONS] })
        }
        Position::Part(kind) => find(PARTS, kind),
        Position::Item(_) => None,
    }
}

pub(super) fn role(message: &Json) -> Option<Role> {
    super::role_from(message.get_str("role")?, &[])
}

/// Whether an element of `content` belongs to this dialect only.
pub(super) fn is_decisive(part: &Json) -> bool {
    match part.get_str("type") {
        Some("tool-call" | "tool-result" | "reasoning-file" | "redacted-reasoning") => true,
        Some("tool-approval-request" | "tool-approval-response") => true,
        Some("reasoning") => part.get_str("text").is_some(),
        Some("image") => part.get("image").is_some(),
        Some("file") => part.get("mediaType").is_some() || part.get("data").is_some(),
        Some("text") => part.get("providerOptions").is_some(),
        Some("custom") => part.get("kind").is_some(),
        _ => false,
    }
}

pub(super) fn read<'a>(message: &'a Json, visit: Visit<'_, 'a>) {
    if message.get("parts").is_some()
        || message.get("toolInvocations").is_some()
        || message.get("experimental_attachments").is_some()
    {
        return ui::read(message, visit);
    }
    let runner =
        if role(message) == Some(Role::Assistant) { Runner::Provider } else { Runner::Client };
    match message.get("content") {
        Some(Json::String(text)) if text.is_empty() => {}
        Some(Json::String(text)) => visit(Part::text(text.as_str())),
        Some(Json::Array(parts)) => {
            parts.iter().for_each(|part| read_part(part, runner, visit));
        }
        _ => {}
    }
}

/// The side that ran the tool of a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Runner {
    Provider,
    Client,
}

fn read_part<'a>(part: &'a Json, runner: Runner, visit: Visit<'_, 'a>) {
    let native = Some(Native { dialect: DIALECT, json: part });
    let id = part.get_str("toolCallId");
    match part.get_str("type").unwrap_or_default() {
        "text" => {
            let text = part.get_str("text").unwrap_or_default();
            visit(Part::Text(TextPart { native, ..TextPart::new(text) }));
        }
        "image" if part.get("image").is_some() => {
            visit(Part::Media(read_media(part, part.get("image"), MediaKind::Image)));
        }
        "file" if part.get("data").is_some() => {
            visit(Part::Media(read_media(part, part.get("data"), MediaKind::Document)));
        }
        "reasoning" => visit(Part::Reasoning(read_reasoning(part))),
        "redacted-reasoning" => visit(Part::Reasoning(ReasoningPart {
            text: Cow::Borrowed(""),
            opaque: part.get_str("data"),
            native,
        })),
        "tool-call" => {
            let name = part.get_str("toolName").unwrap_or_default();
            let arguments = read_arguments(part.get("input").or_else(|| part.get("args")));
            let provider_run = part.get("providerExecuted").and_then(Json::as_bool) == Some(true);
            visit(Part::Call(CallPart {
                provider_run,
                native,
                ..CallPart::new(id, name, arguments)
            }));
        }
        "tool-result" => {
            let (content, is_verbatim, failed) = match (part.get("output"), part.get("result")) {
                (Some(output), _) => read_output(output),
                (None, Some(value)) => {
                    let (content, is_verbatim) = read_tool_value(value, DIALECT);
                    (content, is_verbatim, false)
                }
                (None, None) => (Vec::new(), true, false),
            };
            let flagged = part.get("isError").and_then(Json::as_bool) == Some(true);
            visit(Part::Result(ResultPart {
                is_error: failed || flagged,
                provider_run: runner == Runner::Provider,
                native: native.filter(|_| is_verbatim),
                ..ResultPart::new(id, part.get_str("toolName"), content)
            }));
        }
        _ => read_shared_block(part, DIALECT, visit),
    }
}

/// The content of an `output`, whether it can be sent unchanged, and whether the tool failed.
fn read_output(output: &Json) -> (Vec<Part<'_>>, bool, bool) {
    let value = output.get("value");
    match output.get_str("type") {
        Some(kind @ ("text" | "error-text")) => {
            let text = value.and_then(Json::as_str).filter(|text| !text.is_empty());
            let (content, is_verbatim) = match text.and_then(super::media::read_mcp_text) {
                Some(content) => (content, false),
                None => (text.map(Part::text).into_iter().collect(), true),
            };
            (content, is_verbatim, kind == "error-text")
        }
        Some("json") => match value {
            // A string in JSON remains data, so that its quotes are kept.
            Some(value @ Json::String(_)) => (vec![Part::Data(value)], true, false),
            Some(value) => {
                let (content, is_verbatim) = read_tool_value(value, DIALECT);
                (content, is_verbatim, false)
            }
            None => (Vec::new(), true, false),
        },
        Some("error-json") => (value.map(Part::Data).into_iter().collect(), true, true),
        Some("execution-denied") => {
            let reason = output.get_str("reason").unwrap_or("execution denied");
            (vec![Part::text(reason)], true, true)
        }
        Some("content") => {
            let blocks = value.and_then(Json::as_array).unwrap_or_default();
            let mut content = Vec::new();
            for block in blocks {
                match read_output_media(block) {
                    Some(part) => content.push(Part::Media(part)),
                    None => read_shared_block(block, DIALECT, &mut |part| content.push(part)),
                }
            }
            (content, true, false)
        }
        // The first form of version 5 has the value directly here.
        _ => {
            let (content, is_verbatim) = read_tool_value(output, DIALECT);
            (content, is_verbatim, false)
        }
    }
}

/// A medium in an output of type `content`.
fn read_output_media(block: &Json) -> Option<MediaPart<'_>> {
    let media_type = block.get_str("mediaType").or_else(|| block.get_str("mimeType"));
    let (otherwise, source) = match block.get_str("type")? {
        "media" | "file-data" => (MediaKind::Document, MediaSource::Data(block.get_str("data")?)),
        "image-data" => (MediaKind::Image, MediaSource::Data(block.get_str("data")?)),
        "file-url" => (MediaKind::Document, MediaSource::Url(block.get_str("url")?)),
        "image-url" => (MediaKind::Image, MediaSource::Url(block.get_str("url")?)),
        "file-id" => (MediaKind::Document, file_id(block)?),
        "image-file-id" => (MediaKind::Image, file_id(block)?),
        _ => return None,
    };
    Some(MediaPart {
        media_type,
        title: block.get_str("filename"),
        native: Some(Native { dialect: DIALECT, json: block }),
        ..MediaPart::new(kind_of(media_type, otherwise), source)
    })
}

/// The id of a file, which may be an object of ids by provider.
fn file_id(block: &Json) -> Option<MediaSource<'_>> {
    Some(block.get_str("fileId").map_or(MediaSource::Native, MediaSource::FileId))
}

fn read_media<'a>(part: &'a Json, data: Option<&'a Json>, otherwise: MediaKind) -> MediaPart<'a> {
    let (source, inner_type) = match data.and_then(Json::as_str) {
        Some(url) if url.starts_with("data:") || url.contains("://") => from_url(url),
        Some(data) => (MediaSource::Data(data), None),
        // Bytes in an unknown form.
        None => (MediaSource::Native, None),
    };
    let media_type = part.get_str("mediaType").or_else(|| part.get_str("mimeType")).or(inner_type);
    // `image/*` means an image of unknown type.
    let kind = kind_of(media_type, otherwise);
    MediaPart {
        media_type: media_type.filter(|name| !name.ends_with("/*")),
        title: part.get_str("filename"),
        native: Some(Native { dialect: DIALECT, json: part }),
        ..MediaPart::new(kind, source)
    }
}

/// Reasoning, whose signature is among the options of its provider.
fn read_reasoning(part: &Json) -> ReasoningPart<'_> {
    const OPAQUE: [&str; 4] =
        ["signature", "redactedData", "reasoningEncryptedContent", "thoughtSignature"];
    let text = part.get_str("text").or_else(|| part.get_str("reasoning")).unwrap_or_default();
    let options = part.get("providerOptions").or_else(|| part.get("providerMetadata"));
    let opaque = options.and_then(Json::as_object).and_then(|options| {
        options.iter().find_map(|(_, provider)| OPAQUE.iter().find_map(|key| provider.get_str(key)))
    });
    ReasoningPart {
        text: Cow::Borrowed(text),
        opaque: opaque.or_else(|| part.get_str("signature")),
        native: Some(Native { dialect: DIALECT, json: part }),
    }
}

/// This dialect has function calls only.
const KIND: CallKind<'static> = CallKind::Function;
