//! Replaces the content of tool results within native messages.

use super::{Dialect, Part, ResultPart};
use crate::json::{Json, JsonObject};
use crate::message::Role;

/// The text of a cleared result, with the tokens of the content that it replaces.
pub(crate) fn cleared_text(tokens: usize) -> String {
    let digits = tokens.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    format!("{BEGIN}{grouped}{END}")
}

const BEGIN: &str = "[tool result cleared: ";
const END: &str = " tokens]";

/// Whether the content of a result is that of a cleared one.
pub(crate) fn is_cleared(result: &ResultPart<'_>) -> bool {
    let text = result.text();
    let number = text.strip_prefix(BEGIN).and_then(|rest| rest.strip_suffix(END));
    let is_number = |number: &str| {
        !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit() || byte == b',')
    };
    result.content.len() == 1 && number.is_some_and(is_number)
}

/// Whether the content of a result can be replaced by a text: texts, media and data of a tool that the application ran.
/// The provider verifies results of tools that it runs, and other content, such as references to tools, has an effect
/// beyond its text.
pub(crate) fn is_clearable(result: &ResultPart<'_>) -> bool {
    let is_plain = |part: &Part<'_>| matches!(part, Part::Text(_) | Part::Media(_) | Part::Data(_));
    !result.provider_run
        && !result.content.is_empty()
        && result.content.iter().all(is_plain)
        && !is_cleared(result)
}

/// Replaces the contents of the results of a message, in the order in which they are read: each by the next text, or
/// not if that is `None`. Results that the provider ran are passed over and use no text.
///
/// A form that cannot hold a text is not changed, so the caller reads the message again.
pub(crate) fn clear(dialect: Dialect, message: &mut Json, texts: &[Option<String>]) {
    let role = dialect.role(message);
    let mut texts = texts.iter();
    let mut next = || texts.next().and_then(Option::as_deref);
    let Some(object) = message.as_object_mut() else { return };
    if dialect == Dialect::Responses && object.contains_key("type") {
        return clear_item(object, &mut next);
    }
    let answers =
        object.get("tool_call_id").and_then(Json::as_str).is_some_and(|id| !id.is_empty())
            && role != Some(Role::Assistant)
            || matches!(role, Some(Role::Tool | Role::Function));
    if dialect == Dialect::Chat && answers {
        if let Some(text) = next() {
            object.insert("content", text);
            object.remove("images");
        }
        return;
    }
    // In an answer of the AI SDK the provider ran the tools.
    if dialect == Dialect::AiSdk && role == Some(Role::Assistant) {
        return;
    }
    for key in ["parts", "content"] {
        match object.get_mut(key) {
            Some(Json::Array(blocks)) => {
                let blocks = blocks.iter_mut().filter_map(Json::as_object_mut);
                return blocks.for_each(|block| clear_block(block, &mut next));
            }
            Some(Json::Object(block)) => return clear_block(block, &mut next),
            _ => {}
        }
    }
}

/// The text for the next result.
type Next<'n, 't> = &'n mut dyn FnMut() -> Option<&'t str>;

fn clear_item(item: &mut JsonObject, next: Next<'_, '_>) {
    let kind = item.get("type").and_then(Json::as_str).unwrap_or_default();
    let is_text = item.get("output").is_some_and(|output| output.as_str().is_some());
    match kind {
        "function_call_output" | "custom_tool_call_output" => {}
        "local_shell_call_output" | "apply_patch_call_output" if is_text => {}
        "shell_call_output" => {
            if let Some(text) = next() {
                clear_shell_output(item, text);
            }
            return;
        }
        // A screenshot must stay one, and a list of tools has an effect.
        _ => return,
    }
    if let Some(text) = next() {
        item.insert("output", text);
    }
}

/// Keeps the outcome of the last command.
fn clear_shell_output(item: &mut JsonObject, text: &str) {
    let outputs = item.get_mut("output").and_then(Json::as_array_mut);
    if let Some(mut last) = outputs.and_then(Vec::pop)
        && let Some(output) = last.as_object_mut()
    {
        output.insert("stdout", text);
        output.insert("stderr", "");
        item.insert("output", vec![last]);
    }
}

/// A block of any dialect that groups its content in blocks: each has a name for results that no other one has.
fn clear_block(block: &mut JsonObject, next: Next<'_, '_>) {
    match block.get("type").and_then(Json::as_str) {
        Some("tool_result") => {
            if let Some(text) = next() {
                block.insert("content", text);
            }
        }
        Some("tool-result") => {
            if let Some(text) = next() {
                clear_ai_sdk(block, text);
            }
        }
        Some(_) => {}
        None => {
            if let Some(Json::Object(result)) = block.get_mut("toolResult") {
                // One with a type is a server tool's.
                if !result.contains_key("type")
                    && let Some(text) = next()
                {
                    let content = JsonObject::new().with("text", text);
                    result.insert("content", vec![Json::from(content)]);
                }
                return;
            }
            for key in ["functionResponse", "function_response"] {
                if let Some(Json::Object(response)) = block.get_mut(key) {
                    if let Some(text) = next() {
                        clear_gemini(response, text);
                    }
                    return;
                }
            }
        }
    }
}

fn clear_gemini(response: &mut JsonObject, text: &str) {
    let before = response.get("response").and_then(Json::as_object);
    let failed = before.is_some_and(|before| before.get("error").is_some_and(|it| !it.is_null()));
    let key = if failed { "error" } else { "result" };
    response.insert("response", JsonObject::new().with(key, text));
    // Media of the result.
    response.remove("parts");
}

fn clear_ai_sdk(block: &mut JsonObject, text: &str) {
    let Some(output) = block.get("output") else {
        // Version 4.
        block.insert("result", text);
        block.remove("experimental_content");
        return;
    };
    let kind = match output.get_str("type") {
        Some("error-text" | "error-json") => "error-text",
        // The user refused the call, and the model must know it.
        Some("execution-denied") => return,
        _ => "text",
    };
    block.insert("output", JsonObject::new().with("type", kind).with("value", text));
}
