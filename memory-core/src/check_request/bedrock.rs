//! AWS Bedrock Converse. (D API_runtime_ContentBlock, API_runtime_Message)

use super::calls::{Calls, ToolKind};
use super::chat::arguments;
use super::check::{Check, Field, Kind, Side, optional, required};
use super::json::Json;
use super::rule::RequestRule;
use crate::profile::{Alternation, FirstMessage, LastMessage, ReasoningForm};

const MESSAGE: &[Field] = &[required("role", Kind::Text), required("content", Kind::Array)];
const TOOL_USE: &[Field] = &[
    required("toolUseId", Kind::Text),
    required("name", Kind::Text),
    required("input", Kind::Any),
];
const TOOL_RESULT: &[Field] = &[
    required("toolUseId", Kind::Text),
    required("content", Kind::Array),
    optional("status", Kind::OneOf(&["success", "error"])),
];
const REASONING: &[Field] =
    &[optional("reasoningText", Kind::Object), optional("redactedContent", Kind::Text)];
const REASONING_TEXT: &[Field] = &[required("text", Kind::Text), optional("signature", Kind::Text)];
const IMAGE: &[Field] = &[
    required("format", Kind::OneOf(&["png", "jpeg", "gif", "webp"])),
    required("source", Kind::Object),
];
const CLIP: &[Field] = &[required("format", Kind::Filled), required("source", Kind::Object)];
/// (D API_runtime_DocumentBlock)
const DOCUMENT_FORMAT: Kind =
    Kind::OneOf(&["pdf", "csv", "doc", "docx", "xls", "xlsx", "html", "txt", "md"]);
const DOCUMENT: &[Field] = &[
    required("format", DOCUMENT_FORMAT),
    required("name", Kind::Filled),
    required("source", Kind::Object),
    optional("context", Kind::Text),
    optional("citations", Kind::Object),
];
const SOURCE: &[Field] = &[
    optional("bytes", Kind::Filled),
    optional("s3Location", Kind::Object),
    optional("text", Kind::Text),
    optional("content", Kind::Array),
];
const CACHE_POINT: &[Field] =
    &[required("type", Kind::OneOf(&["default"])), optional("ttl", Kind::OneOf(&["5m", "1h"]))];

/// Facts about an earlier message.
#[derive(Debug, Clone, Copy)]
struct Seen<'t> {
    message: Json<'t>,
    side: Side,
    has_calls: bool,
}

pub(super) fn check<'t>(check: &mut Check<'t>, request: Json<'t>) {
    let Some(messages) = check.list_field(request, "messages") else { return };
    check.once(request, &["messages", "system"]);
    if let Some(system) = request.field("system") {
        self::system(check, system);
    }
    let mut calls = Calls::new();
    let mut previous: Option<Seen<'t>> = None;
    for (index, message) in messages.items().enumerate() {
        if !check.object(message, MESSAGE) {
            continue;
        }
        let Some(side) = side(check, message) else { continue };
        match previous {
            None if side == Side::Model && check.profile.first == FirstMessage::User => {
                check.report(RequestRule::FirstMessage, message);
            }
            Some(seen) if seen.side == side && check.profile.alternation == Alternation::Strict => {
                check.report(RequestRule::Alternation, message);
            }
            _ => {}
        }
        let has_calls = content(check, message, side, index, &mut calls);
        previous = Some(Seen { message, side, has_calls });
    }
    calls.finish(check, None);
    // Open calls are reported as such.
    if let Some(last) = previous
        && check.profile.last != LastMessage::Any
        && last.side == Side::Model
        && !last.has_calls
    {
        check.report(RequestRule::LastMessage, last.message);
    }
}

fn system<'t>(check: &mut Check<'t>, system: Json<'t>) {
    check.kind(system, Kind::Array);
    for block in system.items() {
        match single(check, block) {
            Some(("text", text)) => self::text(check, text),
            Some(("cachePoint", point)) => {
                check.object(point, CACHE_POINT);
            }
            Some(("guardContent", guard)) => check.kind(guard, Kind::Object),
            Some((_, block)) => check.report(RequestRule::PartType, block),
            None => {}
        }
    }
}

fn side(check: &mut Check<'_>, message: Json<'_>) -> Option<Side> {
    let role = message.field("role")?;
    match role.as_str()? {
        "user" => Some(Side::User),
        "assistant" => Some(Side::Model),
        "system" => {
            check.report(RequestRule::SystemPlacement, message);
            None
        }
        _ => {
            check.report(RequestRule::Role, role);
            None
        }
    }
}

/// The only field of a block.
fn single<'t>(check: &mut Check<'t>, block: Json<'t>) -> Option<(&'t str, Json<'t>)> {
    if !block.is_object() {
        check.report(RequestRule::Form, block);
        return None;
    }
    let mut fields = block.fields();
    match (fields.next(), fields.next()) {
        (Some(field), None) => Some(field),
        _ => {
            check.report(RequestRule::PartShape, block);
            None
        }
    }
}

fn text<'t>(check: &mut Check<'t>, text: Json<'t>) {
    check.kind(text, Kind::Text);
    check.sent_text(text);
}

fn content<'t>(
    check: &mut Check<'t>,
    message: Json<'t>,
    side: Side,
    index: usize,
    calls: &mut Calls<'t>,
) -> bool {
    let Some(content) = message.field("content").filter(|content| content.is_array()) else {
        return false;
    };
    if content.is_empty() {
        check.report(RequestRule::EmptyContent, content);
    }
    let (mut has_calls, mut has_other, mut has_text, mut document) = (false, false, false, None);
    let mut final_reasoning = None;
    for block in content.items() {
        let Some((kind, body)) = single(check, block) else { continue };
        final_reasoning = (kind == "reasoningContent").then_some(block);
        let is_allowed = match kind {
            "text" | "cachePoint" | "guardContent" => true,
            "image" | "document" | "video" | "audio" | "toolResult" | "searchResult" => {
                side == Side::User
            }
            "toolUse" | "reasoningContent" | "citationsContent" => side == Side::Model,
            _ => {
                check.report(RequestRule::PartType, body);
                continue;
            }
        };
        if !is_allowed {
            check.report(RequestRule::PartPlacement, body);
            continue;
        }
        match kind {
            "text" => {
                has_text = true;
                text(check, body);
            }
            "toolUse" => {
                has_calls = true;
                call(check, body, index, calls);
            }
            "toolResult" => {
                result(check, body, index, calls);
                if has_other {
                    check.report(RequestRule::ResultPlacement, block);
                }
            }
            "reasoningContent" => reasoning(check, body),
            "cachePoint" => {
                check.object(body, CACHE_POINT);
            }
            "guardContent" | "citationsContent" | "searchResult" => check.kind(body, Kind::Object),
            _ => medium(check, kind, body),
        }
        document = document.or((kind == "document").then_some(block));
        has_other |= !matches!(kind, "toolResult" | "cachePoint");
    }
    if let Some(document) = document.filter(|_| !has_text) {
        check.report(RequestRule::DocumentText, document);
    }
    if let Some(block) = final_reasoning.filter(|_| side == Side::Model) {
        check.report(RequestRule::ReasoningPlacement, block);
    }
    has_calls
}

fn call<'t>(check: &mut Check<'t>, call: Json<'t>, index: usize, calls: &mut Calls<'t>) {
    check.object(call, TOOL_USE);
    check.function_name(call);
    if let Some(input) = call.field("input") {
        arguments(check, input);
    }
    if let Some(id) = call.field("toolUseId") {
        calls.call(check, ToolKind::Function, id, index);
    }
}

fn result<'t>(check: &mut Check<'t>, result: Json<'t>, index: usize, calls: &mut Calls<'t>) {
    check.object(result, TOOL_RESULT);
    if let Some(id) = result.field("toolUseId") {
        let step = index.checked_sub(1).unwrap_or(usize::MAX);
        calls.result(check, ToolKind::Function, id, Some(step));
    }
    let Some(content) = result.field("content").filter(|content| content.is_array()) else {
        return;
    };
    if content.is_empty() {
        check.report(RequestRule::EmptyContent, content);
    }
    for block in content.items() {
        match single(check, block) {
            Some(("text", text)) => self::text(check, text),
            // "Provide a json object" (M)
            Some(("json", json)) => check.kind(json, Kind::Object),
            Some(("searchResult", found)) => check.kind(found, Kind::Object),
            Some((kind @ ("image" | "document" | "video"), body)) => {
                if check.profile.media_in_results {
                    medium(check, kind, body);
                } else {
                    check.report(RequestRule::PartPlacement, body);
                }
            }
            Some((_, body)) => check.report(RequestRule::PartType, body),
            None => {}
        }
    }
}

fn reasoning<'t>(check: &mut Check<'t>, body: Json<'t>) {
    if !check.object(body, REASONING) {
        return;
    }
    match (body.field("reasoningText"), body.text("redactedContent")) {
        (Some(text), None) if text.is_object() => {
            check.object(text, REASONING_TEXT);
            let is_signed = text.text("signature").is_some_and(|signature| !signature.is_empty());
            if !is_signed && check.profile.reasoning != ReasoningForm::Signatures {
                check.report(RequestRule::ReasoningForm, body);
            }
        }
        (None, Some(data)) if !data.is_empty() => {}
        // The field has a wrong type, which is reported already.
        (Some(text), None) if !text.is_object() => {}
        _ => check.report(RequestRule::ReasoningForm, body),
    }
}

fn medium<'t>(check: &mut Check<'t>, kind: &str, body: Json<'t>) {
    match kind {
        "image" => {
            check.object(body, IMAGE);
            check.image(body);
        }
        "document" => {
            check.object(body, DOCUMENT);
            check.document(body);
        }
        _ => {
            check.object(body, CLIP);
        }
    }
    if let Some(source) = body.field("source").filter(|source| source.is_object())
        && check.object(source, SOURCE)
        && source.fields().count() != 1
    {
        check.report(RequestRule::Media, source);
    }
}
