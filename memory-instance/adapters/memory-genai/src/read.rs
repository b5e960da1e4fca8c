//! Reads messages of a memory as messages of genai.

use genai::ModelIden;
use genai::adapter::AdapterKind;
use genai::chat::{
    Binary, BinarySource, ChatMessage, ChatRole, ContentPart, CustomPart, MessageContent,
    MessageOptions, ToolCall, ToolResponse,
};
use memory_instance::Message;
use serde_json::{Map, Value};

use crate::foreign;
use crate::write::{
    CALL_SIGNATURES, DATA, GENAI, MESSAGE_OPTIONS, MODEL, OPTIONS, SIGNATURE, SOURCE, URL,
};

/// The messages of genai for these messages of a memory, in order, such as those of a
/// [window](memory_instance::ContextWindow::messages).
///
/// Messages that [`messages_from_genai`](crate::messages_from_genai) made become equal to the original. A part that was
/// changed in the memory since, by redaction or by clearing tool results, is read as it is now. Messages of other
/// programs, in any [dialect](memory_instance::memory_core::dialect::Dialect), are converted part by part:
///
/// - A message with calls and their results becomes several, one for each speaker.
/// - Media in the result of a tool become a message of the user behind it. The result of a tool that failed starts with
///   `Error: `.
/// - Left out are signatures and encrypted reasoning, citations, tools that the provider ran, and files by the id of a
///   provider: they belong to an API that the message does not name.
///
/// # Examples
///
/// ```
/// use genai::chat::ChatRole;
/// use memory_genai::genai_from_messages;
/// use memory_instance::{Message, ToolCall};
///
/// let stored = [
///     Message::calls([ToolCall::function("call-1", "weather", r#"{"city":"Oslo"}"#)]),
///     Message::tool_result("call-1", "rain"),
/// ];
/// let messages = genai_from_messages(&stored);
/// assert_eq!(messages[0].content.tool_calls()[0].fn_arguments["city"], "Oslo");
/// assert_eq!(messages[1].role, ChatRole::Tool);
/// ```
#[must_use]
pub fn genai_from_messages<'a>(
    messages: impl IntoIterator<Item = &'a Message>,
) -> Vec<ChatMessage> {
    let mut read = Vec::new();
    for message in messages {
        match exact(message) {
            Some(message) => read.push(message),
            None => foreign::read(message, &mut read),
        }
    }
    read
}

/// The message of genai, if genai wrote it or it has only a text.
fn exact(message: &Message) -> Option<ChatMessage> {
    let Value::Object(mut fields) = message.to_value() else { return None };
    let role = match fields.get("role")?.as_str()? {
        "system" => ChatRole::System,
        "user" => ChatRole::User,
        "assistant" => ChatRole::Assistant,
        "tool" => ChatRole::Tool,
        _ => return None,
    };
    if fields.len() == 2
        && let Some(Value::String(text)) = fields.get("content")
    {
        return Some(ChatMessage::new(role, text));
    }
    let mut rest = take_rest(&mut fields)?;
    let Some(Value::Array(blocks)) = fields.remove("content") else { return None };
    let parts: Option<Vec<_>> = blocks.into_iter().map(part).collect();
    let options = match rest.remove(MESSAGE_OPTIONS) {
        Some(options) => Some(serde_json::from_value::<MessageOptions>(options).ok()?),
        None => None,
    };
    Some(ChatMessage { role, content: MessageContent::from_parts(parts?), options })
}

/// The fields that only genai reads of a message or part.
fn take_rest(block: &mut Map<String, Value>) -> Option<Map<String, Value>> {
    match block.get_mut(OPTIONS)?.get_mut(GENAI)?.take() {
        Value::Object(rest) => Some(rest),
        _ => None,
    }
}

/// The part of genai, from the one that was written for it.
fn part(block: Value) -> Option<ContentPart> {
    let Value::Object(mut block) = block else { return None };
    let mut rest = take_rest(&mut block)?;
    let text = |key: &str| Some(block.get(key)?.as_str()?.to_owned());
    Some(match block.get("type")?.as_str()? {
        "text" => ContentPart::Text(text("text")?),
        "reasoning" => match rest.remove(SIGNATURE) {
            Some(signature) => ContentPart::ThoughtSignature(signature.as_str()?.to_owned()),
            None => ContentPart::ReasoningContent(text("text")?),
        },
        "image" | "file" => {
            let data = text("image").or_else(|| text("data"))?;
            let is_url = rest.get(SOURCE).and_then(Value::as_str) == Some(URL);
            let source = match is_url {
                true => BinarySource::Url(data),
                false => BinarySource::Base64(data.into()),
            };
            ContentPart::Binary(Binary::new(text("mediaType")?, source, text("filename")))
        }
        "tool-call" => ContentPart::ToolCall(ToolCall {
            call_id: text("toolCallId")?,
            fn_name: text("toolName")?,
            fn_arguments: block.get("input")?.clone(),
            thought_signatures: match rest.remove(CALL_SIGNATURES) {
                Some(signatures) => Some(serde_json::from_value(signatures).ok()?),
                None => None,
            },
        }),
        "tool-result" => {
            let output = block.get("output")?;
            if output.get("type")?.as_str()? != "text" {
                return None;
            }
            ContentPart::ToolResponse(ToolResponse {
                call_id: text("toolCallId")?,
                fn_name: text("toolName"),
                content: output.get("value")?.as_str()?.to_owned(),
            })
        }
        "custom" => {
            let model_iden = match rest.remove(MODEL) {
                Some(model) => {
                    let (kind, name): (AdapterKind, String) = serde_json::from_value(model).ok()?;
                    Some(ModelIden::new(kind, name))
                }
                None => None,
            };
            ContentPart::Custom(CustomPart { model_iden, data: rest.remove(DATA)? })
        }
        _ => return None,
    })
}
