//! The blocks of Anthropic's messages. (T anthropic-sdk-python `types/content_block_param.py`)

use crate::check_request::chat::{self, arguments, part_type};
use crate::check_request::check::{Check, Field, Kind, optional, required};
use crate::check_request::json::Json;
use crate::check_request::rule::RequestRule;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AnthropicRole {
    System,
    User,
    Assistant,
}

/// The meaning of a block for the order of blocks and messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BlockMeaning {
    Use,
    Result,
    ServerUse,
    ServerResult,
    Thinking,
    Other,
}

const TEXT: &[Field] = &[
    required("type", Kind::Text),
    required("text", Kind::Text),
    optional("citations", Kind::Array),
    optional("cache_control", Kind::Object),
];
const IMAGE: &[Field] = &[
    required("type", Kind::Text),
    required("source", Kind::Object),
    optional("cache_control", Kind::Object),
];
const DOCUMENT: &[Field] = &[
    required("type", Kind::Text),
    required("source", Kind::Object),
    optional("title", Kind::Text),
    optional("context", Kind::Text),
    optional("citations", Kind::Object),
    optional("cache_control", Kind::Object),
];
const SEARCH_RESULT: &[Field] = &[
    required("type", Kind::Text),
    required("source", Kind::Text),
    required("title", Kind::Text),
    required("content", Kind::Array),
    optional("citations", Kind::Object),
    optional("cache_control", Kind::Object),
];
const THINKING: &[Field] = &[
    required("type", Kind::Text),
    required("thinking", Kind::Text),
    optional("signature", Kind::Text),
];
const REDACTED: &[Field] = &[required("type", Kind::Text), optional("data", Kind::Text)];
const USE: &[Field] = &[
    required("type", Kind::Text),
    required("id", Kind::Text),
    required("name", Kind::Text),
    required("input", Kind::Any),
    optional("cache_control", Kind::Object),
    optional("caller", Kind::Object),
];
const MCP_USE: &[Field] = &[
    required("type", Kind::Text),
    required("id", Kind::Text),
    required("name", Kind::Text),
    required("server_name", Kind::Text),
    required("input", Kind::Any),
    optional("cache_control", Kind::Object),
];
const RESULT: &[Field] = &[
    required("type", Kind::Text),
    required("tool_use_id", Kind::Text),
    optional("content", Kind::TextOrArray),
    optional("is_error", Kind::Bool),
    optional("cache_control", Kind::Object),
];
const SERVER_RESULT: &[Field] = &[
    required("type", Kind::Text),
    required("tool_use_id", Kind::Text),
    required("content", Kind::Any),
    optional("is_error", Kind::Bool),
    optional("cache_control", Kind::Object),
    optional("caller", Kind::Object),
];
const UPLOAD: &[Field] = &[
    required("type", Kind::Text),
    required("file_id", Kind::Filled),
    optional("cache_control", Kind::Object),
];
const TOOL_REFERENCE: &[Field] = &[
    required("type", Kind::Text),
    required("tool_name", Kind::Text),
    optional("cache_control", Kind::Object),
];
const CACHE_CONTROL: &[Field] =
    &[required("type", Kind::OneOf(&["ephemeral"])), optional("ttl", Kind::OneOf(&["5m", "1h"]))];

/// Checks a block and returns its meaning; `None` if it may not be in this message.
pub(super) fn block<'t>(
    check: &mut Check<'t>,
    part: Json<'t>,
    role: AnthropicRole,
) -> Option<BlockMeaning> {
    if !part.is_object() {
        check.report(RequestRule::Form, part);
        return None;
    }
    let kind = part_type(check, part)?;
    let is_allowed = match kind {
        "text" | "mid_conv_system" => true,
        "image" | "document" | "search_result" | "tool_result" | "container_upload" => {
            role == AnthropicRole::User
        }
        "thinking"
        | "redacted_thinking"
        | "tool_use"
        | "server_tool_use"
        | "mcp_tool_use"
        | "mcp_tool_result"
        | "compaction"
        | "fallback"
        | "web_search_tool_result"
        | "web_fetch_tool_result"
        | "code_execution_tool_result"
        | "bash_code_execution_tool_result"
        | "text_editor_code_execution_tool_result"
        | "tool_search_tool_result"
        | "advisor_tool_result" => role == AnthropicRole::Assistant,
        _ => {
            check.report(RequestRule::PartType, part);
            return None;
        }
    };
    if !is_allowed || (role == AnthropicRole::System && kind != "text") {
        check.report(RequestRule::PartPlacement, part);
        return None;
    }
    cache_mark(check, part);
    Some(fields(check, part, kind))
}

fn fields<'t>(check: &mut Check<'t>, part: Json<'t>, kind: &str) -> BlockMeaning {
    match kind {
        "text" => chat::text_part_with(check, part, TEXT),
        "image" | "document" | "search_result" => medium(check, part, kind),
        "container_upload" => {
            check.object(part, UPLOAD);
        }
        "thinking" => {
            check.object(part, THINKING);
            filled(check, part, "signature");
            return BlockMeaning::Thinking;
        }
        "redacted_thinking" => {
            check.object(part, REDACTED);
            filled(check, part, "data");
            return BlockMeaning::Thinking;
        }
        "tool_use" | "server_tool_use" | "mcp_tool_use" => {
            check.object(part, if kind == "mcp_tool_use" { MCP_USE } else { USE });
            check.function_name(part);
            if let Some(input) = part.field("input") {
                arguments(check, input);
            }
            return if kind == "tool_use" { BlockMeaning::Use } else { BlockMeaning::ServerUse };
        }
        "tool_result" => {
            check.object(part, RESULT);
            result(check, part);
            return BlockMeaning::Result;
        }
        // Beta blocks, whose fields are not documented in the sources.
        "compaction" | "fallback" | "mid_conv_system" => {}
        "advisor_tool_result" => return BlockMeaning::ServerResult,
        _ => {
            check.object(part, SERVER_RESULT);
            return BlockMeaning::ServerResult;
        }
    }
    BlockMeaning::Other
}

/// A text block of the system prompt.
pub(super) fn text_block<'t>(check: &mut Check<'t>, part: Json<'t>) {
    chat::text_part_with(check, part, TEXT);
    cache_mark(check, part);
}

fn cache_mark<'t>(check: &mut Check<'t>, part: Json<'t>) {
    if let Some(mark) = part.field("cache_control").filter(|mark| mark.is_object()) {
        check.object(mark, CACHE_CONTROL);
        check.cache_mark(mark);
    }
}

fn filled<'t>(check: &mut Check<'t>, part: Json<'t>, key: &str) {
    if part.text(key).is_none_or(str::is_empty) {
        check.report(RequestRule::ReasoningForm, part);
    }
}

fn result<'t>(check: &mut Check<'t>, part: Json<'t>) {
    let Some(content) = part.field("content").filter(|content| content.is_array()) else { return };
    if content.is_empty() {
        check.report(RequestRule::EmptyContent, content);
    }
    for inner in content.items() {
        if !inner.is_object() {
            check.report(RequestRule::Form, inner);
            continue;
        }
        cache_mark(check, inner);
        match part_type(check, inner) {
            Some("text") => chat::text_part_with(check, inner, TEXT),
            Some("tool_reference") => {
                check.object(inner, TOOL_REFERENCE);
            }
            Some(kind @ ("image" | "document" | "search_result")) => {
                if check.profile.media_in_results || kind == "search_result" {
                    medium(check, inner, kind);
                } else {
                    check.report(RequestRule::PartPlacement, inner);
                }
            }
            Some(_) => check.report(RequestRule::PartType, inner),
            None => {}
        }
    }
}

fn medium<'t>(check: &mut Check<'t>, part: Json<'t>, kind: &str) {
    match kind {
        "image" => {
            check.object(part, IMAGE);
            check.image(part);
        }
        "document" => {
            check.object(part, DOCUMENT);
            check.document(part);
        }
        _ => {
            check.object(part, SEARCH_RESULT);
            if let Some(content) = part.field("content").filter(|content| content.is_array()) {
                if content.is_empty() {
                    check.report(RequestRule::EmptyContent, content);
                }
                for text in content.items() {
                    if text.text("type") == Some("text") {
                        chat::text_part_with(check, text, TEXT);
                    } else {
                        check.report(RequestRule::PartType, text);
                    }
                }
            }
            return;
        }
    }
    if let Some(source) = part.field("source").filter(|source| source.is_object()) {
        self::source(check, source, kind);
    }
}

const IMAGES: &[&str] = &["image/jpeg", "image/png", "image/gif", "image/webp"];
const IMAGE_DATA: &[Field] = &[
    required("type", Kind::Text),
    required("media_type", Kind::OneOf(IMAGES)),
    required("data", Kind::Filled),
];
const PDF_DATA: &[Field] = &[
    required("type", Kind::Text),
    required("media_type", Kind::OneOf(&["application/pdf"])),
    required("data", Kind::Filled),
];
const TEXT_DATA: &[Field] = &[
    required("type", Kind::Text),
    required("media_type", Kind::OneOf(&["text/plain"])),
    required("data", Kind::Text),
];
const URL: &[Field] = &[required("type", Kind::Text), required("url", Kind::Filled)];
const FILE: &[Field] = &[required("type", Kind::Text), required("file_id", Kind::Filled)];
const CONTENT: &[Field] = &[required("type", Kind::Text), required("content", Kind::TextOrArray)];

fn source<'t>(check: &mut Check<'t>, source: Json<'t>, block: &str) {
    let is_image = block == "image";
    let fields = match source.text("type") {
        Some("base64") if is_image => IMAGE_DATA,
        Some("base64") => PDF_DATA,
        Some("url") => URL,
        Some("file") => FILE,
        Some("text") if !is_image => TEXT_DATA,
        Some("content") if !is_image => CONTENT,
        _ => return check.report(RequestRule::Media, source),
    };
    check.object(source, fields);
    if let Some(url) = source.field("url") {
        chat::url(check, url);
    }
}
