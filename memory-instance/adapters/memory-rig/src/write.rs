//! Writes rig's messages as messages of a memory.
//!
//! The stored form is a model message of the AI SDK, because its parts are nearly those of rig: reasoning, calls,
//! results with the name of their tool, files of any kind. Everything else of a block of rig, such as the provider's
//! item, is stored in its `providerOptions.rig`.

use memory_instance::Message;
use memory_instance::memory_core::json::{Json, JsonObject};
use rig_core::message::{AssistantContent, Message as RigMessage, Text, UserContent};
use serde_json::{Map, Value, json};

use crate::media;

/// The key of everything that only rig reads.
pub(crate) const RIG: &str = "rig";
pub(crate) const OPTIONS: &str = "providerOptions";

/// Where a provider item of a reasoning block may have its signature or encrypted text.
pub(crate) const SIGNATURES: [&str; 4] =
    ["signature", "encrypted_content", "thoughtSignature", "data"];
/// The signature of a reasoning block, where a memory finds, counts and protects it.
pub(crate) const SIGNATURE: &str = "signature";
/// Where in the provider item it was.
pub(crate) const SIGNED: &str = "signed";

/// The messages of a memory for these messages of rig, one for each.
///
/// [`rig_from_messages`](crate::rig_from_messages) returns equal messages, with everything that the provider sent:
/// reasoning and its signatures, native items, citations, media, the origin and the stop reason.
///
/// # Examples
///
/// ```
/// use memory_rig::{messages_from_rig, rig_from_messages};
/// use rig_core::message::{AssistantContent, AssistantMessage, Message, Reasoning};
///
/// let item = serde_json::json!({"type": "thinking", "thinking": "It rains.", "signature": "c2ln"});
/// let thought = AssistantContent::Reasoning(Reasoning::new("It rains.")).with_native(item);
/// let turn = [
///     Message::user("Do I need an umbrella?"),
///     Message::Assistant(AssistantMessage::new(vec![thought, AssistantContent::text("Yes.")])),
/// ];
/// let stored = messages_from_rig(&turn);
/// assert_eq!(stored[1].text(), "Yes.");
/// assert_eq!(rig_from_messages(&stored), turn);
/// ```
#[must_use]
pub fn messages_from_rig<'a>(messages: impl IntoIterator<Item = &'a RigMessage>) -> Vec<Message> {
    messages.into_iter().map(message_from_rig).collect()
}

/// The message of a memory for this message of rig, see [`messages_from_rig`].
#[must_use]
pub fn message_from_rig(message: &RigMessage) -> Message {
    if let Some(plain) = plain(message) {
        return plain;
    }
    let fields = match serde_json::to_value(message) {
        Ok(Value::Object(fields)) => stored(fields),
        // Never the case; a memory refuses the empty object.
        _ => Map::new(),
    };
    match Json::from(Value::Object(fields)) {
        Json::Object(object) => Message::from(object),
        _ => Message::from(JsonObject::new()),
    }
}

/// The message, if it has nothing but a text.
fn plain(message: &RigMessage) -> Option<Message> {
    let only_text = |text: &Text| (*text == Text::new(&*text.text)).then(|| text.text.clone());
    match message {
        RigMessage::System { content } => Some(Message::system(content)),
        RigMessage::User { content } => match content.as_slice() {
            [UserContent::Text(text)] => only_text(text).map(Message::user),
            _ => None,
        },
        RigMessage::Assistant(turn) if turn.origin.is_none() && turn.stop.is_none() => {
            match turn.content.as_slice() {
                [AssistantContent::Text(text)] => only_text(text).map(Message::assistant),
                _ => None,
            }
        }
        RigMessage::Assistant(_) => None,
    }
}

/// The fields of a stored message, from those of rig.
fn stored(mut fields: Map<String, Value>) -> Map<String, Value> {
    let role = fields.remove("role").unwrap_or_default();
    let blocks = match fields.remove("content") {
        Some(Value::Array(blocks)) => blocks,
        _ => Vec::new(),
    };
    let is_result = |block: &Value| block.get("type").is_some_and(|kind| kind == "toolresult");
    let is_tool = !blocks.is_empty() && blocks.iter().all(is_result);
    let mut stored = Map::new();
    stored.insert("role".into(), if is_tool { "tool".into() } else { role });
    stored.insert("content".into(), blocks.into_iter().map(block).collect());
    with_provider_options(stored, fields)
}

/// Adds what only rig reads.
pub(crate) fn with_provider_options(
    mut block: Map<String, Value>,
    rest: Map<String, Value>,
) -> Map<String, Value> {
    block.insert(OPTIONS.into(), Value::from_iter([(RIG, Value::Object(rest))]));
    block
}

fn block(block: Value) -> Value {
    let Value::Object(mut rest) = block else { return Value::Null };
    let kind = match rest.remove("type") {
        Some(Value::String(kind)) => kind,
        _ => String::new(),
    };
    Value::Object(match kind.as_str() {
        "text" => {
            let text = rest.remove("text").unwrap_or_default();
            with_provider_options(object(json!({"type": "text", "text": text})), rest)
        }
        "toolcall" => call(rest),
        "reasoning" => reasoning(rest),
        "toolresult" => result(rest),
        "image" | "audio" | "video" | "document" => media::write(&kind, rest),
        _ => {
            rest.insert("type".into(), kind.as_str().into());
            with_provider_options(
                object(json!({"type": "custom", "kind": format!("rig.{kind}")})),
                rest,
            )
        }
    })
}

/// The fields of a JSON object that was just made.
pub(crate) fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

/// The id of a call. One that rig made is marked, because rig sends it to no provider that wants none.
fn call_id(rest: &mut Map<String, Value>, key: &str) -> Value {
    let mut id = object(rest.remove(key).unwrap_or_default());
    if let Some(local) = id.remove("local") {
        rest.insert("local".into(), true.into());
        return local;
    }
    id.remove("provider").unwrap_or_default()
}

fn call(mut rest: Map<String, Value>) -> Map<String, Value> {
    let id = call_id(&mut rest, "id");
    let mut function = object(rest.remove("function").unwrap_or_default());
    let name = function.remove("name").unwrap_or_default();
    let input = function.remove("arguments").unwrap_or_default();
    if !function.is_empty() {
        rest.insert("function".into(), function.into());
    }
    let call = json!({"type": "tool-call", "toolCallId": id, "toolName": name, "input": input});
    with_provider_options(object(call), rest)
}

fn reasoning(mut rest: Map<String, Value>) -> Map<String, Value> {
    let text = rest.remove("text").unwrap_or_default();
    let item = rest.get_mut("native").and_then(|native| native.get_mut("item"));
    if let Some(item) = item.and_then(Value::as_object_mut) {
        let is_text = |key: &&&str| item.get(**key).is_some_and(Value::is_string);
        if let Some(key) = SIGNATURES.iter().find(is_text)
            && let Some(signature) = item.remove(*key)
        {
            rest.insert(SIGNATURE.into(), signature);
            rest.insert(SIGNED.into(), (*key).into());
        }
    }
    with_provider_options(object(json!({"type": "reasoning", "text": text})), rest)
}

fn result(mut rest: Map<String, Value>) -> Map<String, Value> {
    let id = call_id(&mut rest, "call");
    let name = rest.remove("name").unwrap_or_default();
    let outcome = match rest.remove("is_error") {
        Some(Value::Bool(true)) => ToolOutcome::Failed,
        _ => ToolOutcome::Succeeded,
    };
    let mut content = match rest.remove("content") {
        Some(Value::Array(content)) => content,
        _ => Vec::new(),
    };
    let mut result = object(json!({"type": "tool-result", "toolCallId": id, "toolName": name}));
    let simple = match content.as_mut_slice() {
        [Value::Object(only)] => simple_output(only, outcome),
        _ => None,
    };
    let output = simple.unwrap_or_else(|| {
        if outcome == ToolOutcome::Failed {
            result.insert("isError".into(), true.into());
        }
        let blocks: Vec<Value> = content.into_iter().map(output_block).collect();
        json!({"type": "content", "value": blocks})
    });
    result.insert("output".into(), output);
    with_provider_options(result, rest)
}

/// Whether a tool failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ToolOutcome {
    Succeeded,
    Failed,
}

/// The output of a result that is one text or one value.
fn simple_output(only: &mut Map<String, Value>, outcome: ToolOutcome) -> Option<Value> {
    if only.len() != 2 {
        return None;
    }
    let (key, kinds) = match only.get("type").and_then(Value::as_str)? {
        "text" => ("text", ["text", "error-text"]),
        "json" => ("value", ["json", "error-json"]),
        _ => return None,
    };
    let value = only.remove(key)?;
    let [succeeded, failed] = kinds;
    let kind = match outcome {
        ToolOutcome::Succeeded => succeeded,
        ToolOutcome::Failed => failed,
    };
    Some(json!({"type": kind, "value": value}))
}

/// One of several blocks of an output.
fn output_block(content: Value) -> Value {
    let mut rest = object(content);
    let kind = match rest.remove("type") {
        Some(Value::String(kind)) => kind,
        _ => String::new(),
    };
    Value::Object(match kind.as_str() {
        "text" => {
            let text = rest.remove("text").unwrap_or_default();
            with_provider_options(object(json!({"type": "text", "text": text})), rest)
        }
        "json" => {
            // The AI SDK has no block for a value beside others.
            let text = rest.remove("value").unwrap_or_default().to_string();
            rest.insert("type".into(), "json".into());
            with_provider_options(object(json!({"type": "text", "text": text})), rest)
        }
        "image" => media::write_output(rest),
        _ => {
            rest.insert("type".into(), kind.as_str().into());
            with_provider_options(
                object(json!({"type": "custom", "kind": format!("rig.{kind}")})),
                rest,
            )
        }
    })
}
