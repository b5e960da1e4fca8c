//! Anthropic Messages.

mod write;

use std::borrow::Cow;

pub(super) use self::write::write;
use super::fields::{
    Field, Holds, Position, Table, content, find, media, members, opaque, parts, protocol,
};
use super::media::{kind_of, read_block as read_shared_block, size_of};
use super::part::{
    CallKind, CallPart, MediaKind, MediaPart, MediaSource, Native, Part, ReasoningPart, ResultPart,
    TextKind, TextPart,
};
use super::write::read_arguments;
use super::{Dialect, Visit};
use crate::json::Json;
use crate::message::Role;

const DIALECT: Dialect = Dialect::Anthropic;

const TYPE: Field = protocol("type");
const CACHE: Field = protocol("cache_control");

const SOURCE: &[Field] = &[
    TYPE,
    protocol("media_type"),
    media("url"),
    protocol("file_id"),
    Field { name: "data", holds: Holds::DataByType, is_extension: false },
    parts("content"),
];

const RESULT: &[Field] =
    &[TYPE, protocol("tool_use_id"), content("content"), protocol("caller"), CACHE];

const PARTS: Table = &[
    ("text", &[TYPE, content("text"), content("citations"), CACHE]),
    ("image", &[TYPE, members("source", SOURCE), CACHE]),
    (
        "document",
        &[
            TYPE,
            members("source", SOURCE),
            content("title"),
            content("context"),
            protocol("citations"),
            CACHE,
        ],
    ),
    (
        "search_result",
        &[
            TYPE,
            content("source"),
            content("title"),
            parts("content"),
            protocol("citations"),
            CACHE,
        ],
    ),
    ("thinking", &[TYPE, content("thinking"), opaque("signature")]),
    ("redacted_thinking", &[TYPE, opaque("data")]),
    (
        "tool_use",
        &[TYPE, protocol("id"), protocol("name"), content("input"), protocol("caller"), CACHE],
    ),
    (
        "tool_result",
        &[TYPE, protocol("tool_use_id"), parts("content"), protocol("is_error"), CACHE],
    ),
    ("tool_reference", &[TYPE, protocol("tool_name"), CACHE]),
    (
        "server_tool_use",
        &[TYPE, protocol("id"), protocol("name"), content("input"), protocol("caller"), CACHE],
    ),
    ("web_search_tool_result", RESULT),
    ("web_fetch_tool_result", RESULT),
    ("code_execution_tool_result", RESULT),
    ("bash_code_execution_tool_result", RESULT),
    ("text_editor_code_execution_tool_result", RESULT),
    ("tool_search_tool_result", RESULT),
    ("advisor_tool_result", RESULT),
    (
        "mcp_tool_use",
        &[TYPE, protocol("id"), protocol("name"), protocol("server_name"), content("input"), CACHE],
    ),
    (
        "mcp_tool_result",
        &[TYPE, protocol("tool_use_id"), parts("content"), protocol("is_error"), CACHE],
    ),
    ("container_upload", &[TYPE, protocol("file_id"), CACHE]),
    ("mid_conv_system", &[TYPE, parts("content"), content("text"), CACHE]),
    ("compaction", &[TYPE, content("content"), CACHE]),
    ("fallback", &[TYPE]),
];

pub(super) fn fields(position: Position<'_>) -> Option<&'static [Field]> {
    match position {
        Position::Message => Some(const { &[protocol("role"), parts("content")] }),
        Position::Part(kind) => find(PARTS, kind),
        Position::Item(_) => None,
    }
}

pub(super) fn role(message: &Json) -> Option<Role> {
    super::role_from(message.get_str("role")?, &[])
}

/// Whether only Anthropic has blocks of this type.
pub(super) fn is_decisive(block: &Json) -> bool {
    match block.get_str("type") {
        Some("text") => block.get("source").is_some_and(|source| source.as_object().is_some()),
        // Mistral has an array here.
        Some("thinking") => block.get_str("thinking").is_some(),
        Some("image") => block.get("source").is_some_and(|source| source.as_object().is_some()),
        // Cohere has an object `document`.
        Some("document") => block.get("source").is_some(),
        Some("tool_use" | "tool_result" | "redacted_thinking" | "search_result") => true,
        Some(kind) => {
            kind.ends_with("_tool_result") || kind != "file" && find(PARTS, kind).is_some()
        }
        None => false,
    }
}

pub(super) fn read<'a>(message: &'a Json, visit: Visit<'_, 'a>) {
    match message.get("content") {
        Some(Json::String(text)) if text.is_empty() => {}
        Some(Json::String(text)) => visit(Part::text(text.as_str())),
        Some(Json::Array(blocks)) => blocks.iter().for_each(|block| read_block(block, visit)),
        Some(block @ Json::Object(_)) => read_block(block, visit),
        _ => {}
    }
}

pub(super) fn read_block<'a>(block: &'a Json, visit: Visit<'_, 'a>) {
    let native = Some(Native { dialect: DIALECT, json: block });
    let text = |key| Cow::Borrowed(block.get_str(key).unwrap_or_default());
    match block.get_str("type").unwrap_or_default() {
        "thinking" => {
            let opaque = block.get_str("signature").filter(|signature| !signature.is_empty());
            visit(Part::Reasoning(ReasoningPart { text: text("thinking"), opaque, native }));
        }
        "redacted_thinking" => {
            let opaque = block.get_str("data");
            visit(Part::Reasoning(ReasoningPart { text: Cow::Borrowed(""), opaque, native }));
        }
        kind @ ("tool_use" | "server_tool_use" | "mcp_tool_use") => {
            let name = block.get_str("name").unwrap_or_default();
            let provider_run = kind != "tool_use";
            let kind = if provider_run { CallKind::Native(kind) } else { CallKind::Function };
            let arguments = read_arguments(block.get("input"));
            let call = CallPart::new(block.get_str("id"), name, arguments);
            visit(Part::Call(CallPart { kind, provider_run, native, ..call }));
        }
        "tool_result" => visit(Part::Result(read_result(block, CallKind::Function))),
        kind if kind.ends_with("_tool_result") => {
            let result = read_result(block, CallKind::Native(kind));
            visit(Part::Result(ResultPart { provider_run: true, ..result }));
        }
        "compaction" => {
            let kind = TextKind::Compaction;
            visit(Part::Text(TextPart { kind, native, ..TextPart::new(text("content")) }));
        }
        "mid_conv_system" => match block.get_str("text").or_else(|| block.get_str("content")) {
            Some(text) => visit(Part::Text(TextPart { native, ..TextPart::new(text) })),
            None => read_blocks(block.get("content"), visit),
        },
        "search_result" => {
            let mut inner = Vec::new();
            read_blocks(block.get("content"), &mut |part| inner.push(part));
            visit(Part::Media(MediaPart {
                title: block.get_str("title"),
                context: block.get_str("source"),
                native,
                ..MediaPart::new(MediaKind::Document, MediaSource::Parts(inner))
            }));
        }
        "image" | "document" if block.get("source").is_some() => {
            visit(Part::Media(read_media(block)));
        }
        _ => read_shared_block(block, DIALECT, visit),
    }
}

fn read_blocks<'a>(content: Option<&'a Json>, visit: Visit<'_, 'a>) {
    for block in content.and_then(Json::as_array).unwrap_or_default() {
        read_block(block, visit);
    }
}

fn read_media(block: &Json) -> MediaPart<'_> {
    let otherwise = match block.get_str("type") {
        Some("image") => MediaKind::Image,
        _ => MediaKind::Document,
    };
    let source = block.get("source");
    let member = |key| source.and_then(|source| source.get_str(key));
    let media_type = member("media_type");
    let kind = kind_of(media_type, otherwise);
    let source = match (member("type"), member("data")) {
        (Some("text"), Some(text)) => MediaSource::Text(text),
        (_, Some(data)) => MediaSource::Data(data),
        (_, None) => match (member("url"), member("file_id"), source) {
            (Some(url), _, _) => super::media::from_url(url).0,
            (None, Some(id), _) => MediaSource::FileId(id),
            (None, None, Some(source)) => match source.get("content") {
                Some(Json::String(text)) => MediaSource::Text(text),
                Some(content) => {
                    let mut inner = Vec::new();
                    read_blocks(Some(content), &mut |part| inner.push(part));
                    MediaSource::Parts(inner)
                }
                None => MediaSource::Native,
            },
            (None, None, None) => MediaSource::Native,
        },
    };
    MediaPart {
        media_type,
        title: block.get_str("title"),
        context: block.get_str("context"),
        size: size_of(block),
        native: Some(Native { dialect: DIALECT, json: block }),
        ..MediaPart::new(kind, source)
    }
}

fn read_result<'a>(block: &'a Json, kind: CallKind<'a>) -> ResultPart<'a> {
    let mut content = Vec::new();
    let mut native = Some(Native { dialect: DIALECT, json: block });
    match block.get("content") {
        Some(Json::String(text)) => match super::media::read_mcp_text(text) {
            Some(parts) => (content, native) = (parts, None),
            None if text.is_empty() => {}
            None => content.push(Part::text(text.as_str())),
        },
        Some(Json::Array(blocks)) if kind == CallKind::Function || kind == MCP_RESULT => {
            blocks.iter().for_each(|block| read_block(block, &mut |part| content.push(part)));
        }
        Some(Json::Null) | None => {}
        // Search hits, output of programs: each server tool has a different form.
        Some(value) => read_server_content(value, &mut content),
    }
    let error_type = block.get("content").and_then(|content| content.get_str("type"));
    let is_error = block.get("is_error").is_some_and(is_set)
        || error_type.is_some_and(|kind| kind.ends_with("_error"));
    // An unknown block would be refused within the result.
    if content.iter().any(is_foreign) {
        native = None;
    }
    ResultPart {
        is_error,
        kind,
        native,
        ..ResultPart::new(block.get_str("tool_use_id"), None, content)
    }
}

/// Whether a flag is set, which stored messages may hold as a string or number.
fn is_set(flag: &Json) -> bool {
    match flag {
        Json::Bool(flag) => *flag,
        Json::String(text) => text.trim().eq_ignore_ascii_case("true"),
        Json::Number(number) => number.as_f64().is_some_and(|number| number != 0.0),
        Json::Null | Json::Array(_) | Json::Object(_) => false,
    }
}

const MCP_RESULT: CallKind<'static> = CallKind::Native("mcp_tool_result");

fn is_foreign(part: &Part<'_>) -> bool {
    let native = match part {
        Part::Text(part) => part.native,
        Part::Media(part) => part.native,
        Part::Other(native) => Some(*native),
        Part::Data(_) | Part::Reasoning(_) | Part::Call(_) | Part::Result(_) => None,
    };
    native.is_some_and(|native| {
        let is_mcp_image = native.json.get("data").is_some() && native.json.get("source").is_none();
        native.dialect == DIALECT && (!DIALECT.knows_part(native.json) || is_mcp_image)
    })
}

/// The texts that a server tool's result shows to the model, without encrypted content.
fn read_server_content<'a>(value: &'a Json, content: &mut Vec<Part<'a>>) {
    match value {
        Json::Array(items) => items.iter().for_each(|item| read_server_content(item, content)),
        Json::Object(object) => {
            if matches!(value.get_str("type"), Some("document" | "image")) {
                return read_block(value, &mut |part| content.push(part));
            }
            for (key, member) in object.iter() {
                match (key, member) {
                    (
                        "title" | "url" | "stdout" | "stderr" | "text" | "error_code" | "tool_name",
                        Json::String(text),
                    ) if !text.is_empty() => {
                        content.push(Part::text(text.as_str()));
                    }
                    ("content", Json::String(text)) => content.push(Part::text(text.as_str())),
                    (_, Json::Array(_) | Json::Object(_)) => read_server_content(member, content),
                    _ => {}
                }
            }
        }
        _ => {}
    }
}
