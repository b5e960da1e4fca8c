//! Reads messages of a memory as messages of rig.

use std::collections::HashMap;

use memory_instance::Message;
use rig_core::message::{
    AssistantContent, AssistantMessage, Message as RigMessage, ToolName, UserContent,
};
use rig_core::serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::foreign;
use crate::media;
use crate::write::{OPTIONS, RIG, SIGNATURE, SIGNED};

/// The messages of rig for these messages of a memory, in order, such as those of a
/// [window](memory_instance::ContextWindow::messages).
///
/// Messages that [`messages_from_rig`](crate::messages_from_rig) made become equal to the original. A part that was
/// changed in the memory since, by redaction or by clearing tool results, is read as it is now. Messages of other
/// programs, in any [dialect](memory_instance::memory_core::dialect::Dialect), are converted part by part:
///
/// - A message with calls and their results becomes several, because rig has results in messages of the user.
/// - A result without the name of its tool gets that of its call, if the call is among the messages.
/// - Left out are signatures and encrypted reasoning, citations, tools that the provider ran, and media of the assistant
///   other than images: they belong to an API that the message does not name.
///
/// # Examples
///
/// ```
/// use memory_instance::{Message, ToolCall};
/// use memory_rig::rig_from_messages;
/// use rig_core::message::{Message as RigMessage, UserContent};
///
/// let stored = [
///     Message::calls([ToolCall::function("call-1", "weather", r#"{"city":"Oslo"}"#)]),
///     Message::tool_result("call-1", "rain"),
/// ];
/// let messages = rig_from_messages(&stored);
/// let RigMessage::User { content } = &messages[1] else { return Err("no result") };
/// let [UserContent::ToolResult(result)] = content.as_slice() else { return Err("no result") };
/// assert_eq!(result.name, "weather");
/// # Ok::<(), &str>(())
/// ```
#[must_use]
pub fn rig_from_messages<'a>(messages: impl IntoIterator<Item = &'a Message>) -> Vec<RigMessage> {
    let mut tools = Tools::default();
    let mut read = Vec::new();
    for message in messages {
        match exact(message, &mut tools) {
            Some(message) => read.push(message),
            None => foreign::read(message, &mut tools, &mut read),
        }
    }
    read
}

/// The names of the tools that were called, by the ids of the calls.
#[derive(Debug, Default)]
pub(crate) struct Tools(HashMap<String, ToolName>);

impl Tools {
    pub(crate) fn called(&mut self, id: &str, name: &ToolName) {
        self.0.insert(id.to_owned(), name.clone());
    }

    pub(crate) fn name_of(&self, id: &str) -> Option<ToolName> {
        self.0.get(id).cloned()
    }
}

/// The message of rig, if rig wrote it or it has only a text.
fn exact(message: &Message, tools: &mut Tools) -> Option<RigMessage> {
    let Value::Object(mut fields) = message.to_value() else { return None };
    if fields.len() == 2
        && let Some(Value::String(text)) = fields.get("content")
    {
        let text = text.as_str();
        return match fields.get("role")?.as_str()? {
            "system" => Some(RigMessage::system(text)),
            "user" => Some(RigMessage::user(text)),
            "assistant" => Some(RigMessage::assistant(text)),
            _ => None,
        };
    }
    let rest = take_rest(&mut fields)?;
    let Some(Value::Array(blocks)) = fields.remove("content") else { return None };
    match fields.get("role")?.as_str()? {
        "user" | "tool" => {
            let content = exact_blocks::<UserContent>(blocks)?;
            Some(RigMessage::User { content })
        }
        "assistant" => {
            let content = exact_blocks::<AssistantContent>(blocks)?;
            let mut turn = Map::from_iter(rest);
            turn.insert("content".into(), json!([]));
            let turn = AssistantMessage::deserialize(Value::Object(turn)).ok()?;
            let turn = turn.with_content(content);
            for call in turn.tool_calls() {
                tools.called(&call.id.wire(), &call.function.name);
            }
            Some(RigMessage::Assistant(turn))
        }
        _ => None,
    }
}

/// The fields that only rig reads of a message or block.
fn take_rest(block: &mut Map<String, Value>) -> Option<Map<String, Value>> {
    match block.get_mut(OPTIONS)?.get_mut(RIG)?.take() {
        Value::Object(rest) => Some(rest),
        _ => None,
    }
}

/// All blocks, or `None` if one cannot be read exactly.
fn exact_blocks<T: for<'de> Deserialize<'de>>(blocks: Vec<Value>) -> Option<Vec<T>> {
    blocks.into_iter().map(|part| T::deserialize(block(part)?).ok()).collect()
}

/// The block of rig, from the part that was written for it.
fn block(part: Value) -> Option<Value> {
    let Value::Object(mut part) = part else { return None };
    let mut rest = take_rest(&mut part)?;
    let part = part;
    match part.get("type")?.as_str()? {
        "text" if rest.contains_key("type") => {
            // A document that is stored as its text.
            let data = rest.get_mut("data")?.as_object_mut()?;
            data.insert("value".into(), part.get("text")?.clone());
        }
        "text" => {
            rest.insert("type".into(), "text".into());
            rest.insert("text".into(), part.get("text")?.clone());
        }
        "reasoning" => {
            rest.insert("type".into(), "reasoning".into());
            rest.insert("text".into(), part.get("text")?.clone());
            sign(&mut rest)?;
        }
        "tool-call" => {
            let id = call_id(&part, &mut rest)?;
            let mut function = match rest.remove("function") {
                Some(Value::Object(function)) => function,
                _ => Map::new(),
            };
            function.insert("name".into(), part.get("toolName")?.clone());
            function.insert("arguments".into(), part.get("input")?.clone());
            rest.insert("type".into(), "toolcall".into());
            rest.insert("id".into(), id);
            rest.insert("function".into(), function.into());
        }
        "tool-result" => {
            let call = call_id(&part, &mut rest)?;
            let (content, failed) = output(part.get("output")?)?;
            if failed || part.get("isError") == Some(&Value::Bool(true)) {
                rest.insert("is_error".into(), true.into());
            }
            rest.insert("type".into(), "toolresult".into());
            rest.insert("call".into(), call);
            rest.insert("name".into(), part.get("toolName")?.clone());
            rest.insert("content".into(), content.into());
        }
        "image" | "file" => return media::read(&Value::Object(part), rest),
        // The whole block is there.
        "custom" => {}
        _ => return None,
    }
    Some(rest.into())
}

/// Puts the signature back into the provider item.
fn sign(rest: &mut Map<String, Value>) -> Option<()> {
    if let Some(signature) = rest.remove(SIGNATURE) {
        let key = rest.remove(SIGNED)?;
        let item = rest.get_mut("native")?.get_mut("item")?.as_object_mut()?;
        item.insert(key.as_str()?.to_owned(), signature);
    }
    Some(())
}

fn call_id(part: &Map<String, Value>, rest: &mut Map<String, Value>) -> Option<Value> {
    let kind = if rest.remove("local").is_some() { "local" } else { "provider" };
    Some(json!({ kind: part.get("toolCallId")? }))
}

/// The content of a result, and whether the tool failed.
fn output(output: &Value) -> Option<(Vec<Value>, bool)> {
    let value = output.get("value")?;
    let (content, failed) = match output.get("type")?.as_str()? {
        "text" => (json!({"type": "text", "text": value}), false),
        "error-text" => (json!({"type": "text", "text": value}), true),
        "json" => (json!({"type": "json", "value": value}), false),
        "error-json" => (json!({"type": "json", "value": value}), true),
        "content" => {
            let blocks = value.as_array()?.iter().map(output_block);
            return Some((blocks.collect::<Option<_>>()?, false));
        }
        _ => return None,
    };
    Some((vec![content], failed))
}

fn output_block(part: &Value) -> Option<Value> {
    let mut part = part.as_object()?.clone();
    let mut rest = take_rest(&mut part)?;
    let part = Value::Object(part);
    match part.get("type")?.as_str()? {
        "text" if rest.contains_key("type") => {
            let value: Value = serde_json::from_str(part.get("text")?.as_str()?).ok()?;
            rest.insert("value".into(), value);
        }
        "text" => {
            rest.insert("type".into(), "text".into());
            rest.insert("text".into(), part.get("text")?.clone());
        }
        "custom" => {}
        _ => return media::read_output(&part, rest),
    }
    Some(rest.into())
}
