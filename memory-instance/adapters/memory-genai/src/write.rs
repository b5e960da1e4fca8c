//! Writes genai's messages as messages of a memory.
//!
//! The stored form is a model message of the AI SDK, because its parts are nearly those of genai. Everything else of a
//! part, such as its signatures, is stored in its `providerOptions.genai`.

use genai::chat::{
    Binary, BinarySource, ChatMessage, ChatRole, ContentPart, ToolCall, ToolResponse,
};
use memory_instance::Message;
use memory_instance::memory_core::json::{Json, JsonObject};
use serde_json::{Map, Value, json};

/// The key of everything that only genai reads.
pub(crate) const GENAI: &str = "genai";
pub(crate) const OPTIONS: &str = "providerOptions";
/// The name under which a memory finds, counts and protects the signature of reasoning.
pub(crate) const SIGNATURE: &str = "signature";
/// The signatures of a call. A memory protects keys with this ending.
pub(crate) const CALL_SIGNATURES: &str = "thoughtSignature";
pub(crate) const MESSAGE_OPTIONS: &str = "options";
pub(crate) const SOURCE: &str = "source";
pub(crate) const URL: &str = "url";
pub(crate) const MODEL: &str = "model";
pub(crate) const DATA: &str = "data";

/// The messages of a memory for these messages of genai, one for each.
///
/// [`genai_from_messages`](crate::genai_from_messages) returns equal messages, with thought signatures, reasoning,
/// binaries, custom parts and options.
///
/// # Examples
///
/// ```
/// use genai::chat::{ChatMessage, ContentPart};
/// use memory_genai::{genai_from_messages, messages_from_genai};
///
/// let parts = vec![ContentPart::ThoughtSignature("c2ln".into()), ContentPart::from_text("Yes.")];
/// let turn = [ChatMessage::user("Do I need an umbrella?"), ChatMessage::assistant(parts)];
/// let stored = messages_from_genai(&turn);
/// assert_eq!(stored[1].text(), "Yes.");
/// let read = genai_from_messages(&stored);
/// assert_eq!(read[1].content.first_thought_signature(), Some("c2ln"));
/// ```
#[must_use]
pub fn messages_from_genai<'a>(
    messages: impl IntoIterator<Item = &'a ChatMessage>,
) -> Vec<Message> {
    messages.into_iter().map(message_from_genai).collect()
}

/// The message of a memory for this message of genai, see [`messages_from_genai`].
#[must_use]
pub fn message_from_genai(message: &ChatMessage) -> Message {
    if let (None, [ContentPart::Text(text)]) =
        (&message.options, message.content.parts().as_slice())
    {
        match message.role {
            ChatRole::System => return Message::system(text),
            ChatRole::User => return Message::user(text),
            ChatRole::Assistant => return Message::assistant(text),
            ChatRole::Tool => {}
        }
    }
    let role = match message.role {
        ChatRole::System => "system",
        ChatRole::User => "user",
        ChatRole::Assistant => "assistant",
        ChatRole::Tool => "tool",
    };
    let content: Vec<Value> = message.content.parts().iter().map(part).collect();
    let mut rest = Map::new();
    if let Some(Ok(options)) = message.options.as_ref().map(serde_json::to_value) {
        rest.insert(MESSAGE_OPTIONS.into(), options);
    }
    let stored = with_provider_options(json!({"role": role, "content": content}), rest);
    match Json::from(stored) {
        Json::Object(object) => Message::from(object),
        _ => Message::from(JsonObject::new()),
    }
}

/// Adds what only genai reads.
fn with_provider_options(mut block: Value, rest: Map<String, Value>) -> Value {
    if let Some(block) = block.as_object_mut() {
        block.insert(OPTIONS.into(), Value::from_iter([(GENAI, Value::Object(rest))]));
    }
    block
}

/// Adds a text, if there is one.
fn with_text(mut block: Value, key: &str, text: Option<&str>) -> Value {
    if let (Some(block), Some(text)) = (block.as_object_mut(), text) {
        block.insert(key.into(), text.into());
    }
    block
}

fn part(part: &ContentPart) -> Value {
    let mut rest = Map::new();
    let block = match part {
        ContentPart::Text(text) => json!({"type": "text", "text": text}),
        ContentPart::Binary(binary) => return file(binary),
        ContentPart::ToolCall(call) => return tool_call(call),
        ContentPart::ToolResponse(response) => tool_result(response),
        ContentPart::ThoughtSignature(signature) => {
            rest.insert(SIGNATURE.into(), signature.as_str().into());
            json!({"type": "reasoning", "text": ""})
        }
        ContentPart::ReasoningContent(text) => json!({"type": "reasoning", "text": text}),
        ContentPart::Custom(custom) => {
            if let Some(model) = &custom.model_iden {
                // Genai does not read the name as it writes it.
                let name: &str = &model.model_name;
                rest.insert(MODEL.into(), json!([model.adapter_kind, name]));
            }
            rest.insert(DATA.into(), custom.data.clone());
            json!({"type": "custom", "kind": "genai.custom"})
        }
    };
    with_provider_options(block, rest)
}

fn file(binary: &Binary) -> Value {
    let mut rest = Map::new();
    let data = match &binary.source {
        BinarySource::Base64(data) => &**data,
        BinarySource::Url(url) => {
            rest.insert(SOURCE.into(), URL.into());
            url.as_str()
        }
    };
    let (kind, key) = if binary.is_image() { ("image", "image") } else { ("file", "data") };
    let block = json!({"type": kind, key: data, "mediaType": binary.content_type});
    with_provider_options(with_text(block, "filename", binary.name.as_deref()), rest)
}

fn tool_call(call: &ToolCall) -> Value {
    let mut rest = Map::new();
    if let Some(signatures) = &call.thought_signatures {
        rest.insert(CALL_SIGNATURES.into(), signatures.as_slice().into());
    }
    let block = json!({
        "type": "tool-call",
        "toolCallId": call.call_id,
        "toolName": call.fn_name,
        "input": call.fn_arguments,
    });
    with_provider_options(block, rest)
}

fn tool_result(response: &ToolResponse) -> Value {
    let output = json!({"type": "text", "value": response.content});
    let block = json!({"type": "tool-result", "toolCallId": response.call_id, "output": output});
    with_text(block, "toolName", response.fn_name.as_deref())
}
