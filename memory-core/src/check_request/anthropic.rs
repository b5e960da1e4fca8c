//! Anthropic Messages.

mod blocks;

use self::blocks::{AnthropicRole, BlockMeaning, block, text_block};
use super::calls::{Calls, ToolKind};
use super::check::{Check, Field, Kind, required};
use super::json::Json;
use super::rule::RequestRule;
use crate::profile::{FirstMessage, LastMessage, SystemPlacement};

const MESSAGE: &[Field] = &[required("role", Kind::Text), required("content", Kind::TextOrArray)];

/// Facts about an earlier message.
#[derive(Debug, Clone, Copy)]
struct Seen<'t> {
    message: Json<'t>,
    role: AnthropicRole,
    has_calls: bool,
    /// Whether the last block is a tool that the provider runs: it continues such a message.
    is_paused: bool,
    starts_with_thinking: bool,
    has_only_results: bool,
}

pub(super) fn check<'t>(check: &mut Check<'t>, request: Json<'t>) {
    let Some(messages) = check.list_field(request, "messages") else { return };
    check.once(request, &["messages", "system"]);
    if let Some(system) = request.field("system") {
        self::system(check, system);
    }
    let mut calls = Calls::new();
    let (mut previous, mut assistant): (Option<Seen<'t>>, Option<Seen<'t>>) = (None, None);
    let mut count = 0;
    let mut items = messages.items().peekable();
    while let Some(message) = items.next() {
        let index = count;
        count += 1;
        if !check.object(message, MESSAGE) {
            continue;
        }
        let Some(role) = role_of(check, message) else { continue };
        order(check, message, role, previous);
        let next = items.peek().copied();
        let seen = content(check, message, role, index, next, &mut calls);
        if role == AnthropicRole::Assistant {
            assistant = Some(seen);
        }
        previous = Some(seen);
    }
    let Some(last) = previous else { return };
    end(check, last);
    calls.finish(check, last.is_paused.then(|| count.saturating_sub(1)));
    let thinks = request.field("thinking").and_then(|thinking| thinking.text("type"));
    if let Some(assistant) = assistant
        && thinks == Some("enabled")
        && assistant.has_calls
        && last.has_only_results
        && !assistant.starts_with_thinking
    {
        check.report(RequestRule::ReasoningMissing, assistant.message);
    }
}

fn system<'t>(check: &mut Check<'t>, system: Json<'t>) {
    check.kind(system, Kind::TextOrArray);
    check.sent_text(system);
    if system.is_array() && system.is_empty() {
        check.report(RequestRule::EmptyContent, system);
    }
    for part in system.items() {
        if part.text("type") == Some("text") {
            text_block(check, part);
        } else {
            check.report(RequestRule::PartType, part);
        }
    }
}

fn role_of<'t>(check: &mut Check<'t>, message: Json<'t>) -> Option<AnthropicRole> {
    let role = message.field("role")?;
    match role.as_str()? {
        "user" => Some(AnthropicRole::User),
        "assistant" => Some(AnthropicRole::Assistant),
        "system" => Some(AnthropicRole::System),
        _ => {
            check.report(RequestRule::Role, role);
            None
        }
    }
}

fn order(
    check: &mut Check<'_>,
    message: Json<'_>,
    role: AnthropicRole,
    previous: Option<Seen<'_>>,
) {
    let may_be_first = check.profile.first == FirstMessage::Any;
    match (role, previous) {
        (AnthropicRole::System, _)
            if check.profile.system != SystemPlacement::TopLevelOrAfterUser =>
        {
            check.report(RequestRule::SystemPlacement, message);
        }
        (AnthropicRole::System, Some(seen))
            if seen.role == AnthropicRole::User || seen.is_paused => {}
        (AnthropicRole::System, _) => check.report(RequestRule::SystemPlacement, message),
        (AnthropicRole::User, Some(seen)) if seen.role == AnthropicRole::System => {
            if check.profile.system == SystemPlacement::TopLevelOrAfterUser {
                check.report(RequestRule::SystemPlacement, seen.message);
            }
        }
        (AnthropicRole::Assistant, None) if !may_be_first => {
            check.report(RequestRule::FirstMessage, message);
        }
        (AnthropicRole::User | AnthropicRole::Assistant, _) => {}
    }
}

fn content<'t>(
    check: &mut Check<'t>,
    message: Json<'t>,
    role: AnthropicRole,
    index: usize,
    next: Option<Json<'t>>,
    calls: &mut Calls<'t>,
) -> Seen<'t> {
    let mut seen = Seen {
        message,
        role,
        has_calls: false,
        is_paused: false,
        starts_with_thinking: false,
        has_only_results: false,
    };
    let Some(content) = message.field("content") else { return seen };
    let may_be_empty = next.is_none()
        && role == AnthropicRole::Assistant
        && check.profile.last == LastMessage::Any;
    let is_empty = content.as_str().is_some_and(|text| check.is_empty_text(text))
        || (content.is_array() && content.is_empty());
    if is_empty && !may_be_empty {
        check.report(RequestRule::EmptyContent, content);
    }
    if may_be_empty && !is_empty {
        prefill(check, content);
    }
    seen.has_only_results = content.is_array() && !content.is_empty();
    let (mut is_first, mut final_thinking) = (true, None);
    for part in content.items() {
        let kind = block(check, part, role);
        let is_thinking = kind == Some(BlockMeaning::Thinking);
        seen.starts_with_thinking |= is_first && is_thinking;
        final_thinking = is_thinking.then_some(part);
        seen.is_paused = matches!(kind, Some(BlockMeaning::ServerUse | BlockMeaning::ServerResult));
        is_first = false;
        match (kind, part.field("id"), part.field("tool_use_id")) {
            (Some(BlockMeaning::Use), Some(id), _) => {
                seen.has_calls = true;
                calls.call(check, ToolKind::Function, id, index);
            }
            (Some(BlockMeaning::ServerUse), Some(id), _) => {
                calls.call(check, ToolKind::Server, id, index);
            }
            (Some(BlockMeaning::ServerResult), _, Some(id)) => {
                calls.result(check, ToolKind::Server, id, Some(index));
            }
            (Some(BlockMeaning::Result), _, Some(id)) => {
                // No message has this index, so that a result in the first message is an orphan.
                let step = index.checked_sub(1).unwrap_or(usize::MAX);
                calls.result(check, ToolKind::Function, id, Some(step));
                if !seen.has_only_results {
                    check.report(RequestRule::ResultPlacement, part);
                }
                continue;
            }
            _ => {}
        }
        seen.has_only_results = false;
    }
    if let (Some(part), AnthropicRole::Assistant) = (final_thinking, role) {
        check.report(RequestRule::ReasoningPlacement, part);
    }
    seen
}

/// A final assistant message that the model continues may not end with white space ("final assistant content cannot
/// end with trailing whitespace" M).
fn prefill(check: &mut Check<'_>, content: Json<'_>) {
    let last = content.items().last().and_then(|part| part.field("text"));
    let Some(text) = content.as_str().or_else(|| last?.as_str()) else { return };
    if text.trim_end() != text && !check.is_empty_text(text) {
        check.report(RequestRule::LastMessage, content);
    }
}

fn end(check: &mut Check<'_>, last: Seen<'_>) {
    // Open calls are reported separately.
    if check.profile.last != LastMessage::Any
        && last.role == AnthropicRole::Assistant
        && !last.has_calls
        && !last.is_paused
    {
        check.report(RequestRule::LastMessage, last.message);
    }
}
