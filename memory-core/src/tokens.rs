//! Counting tokens.

mod estimate;
#[cfg(feature = "tiktoken")]
mod tiktoken;

use std::fmt::Debug;

use serde_json::Value;

pub use self::estimate::EstimateCounter;
#[cfg(feature = "tiktoken")]
pub use self::tiktoken::{TiktokenCounter, Vocabulary};
use crate::message::{Content, Message};

/// Counts the tokens of a text.
///
/// # Correctness
/// Pure: the same text always has the same count, and an empty text has none. Counting is done once
/// for each message, outside of any lock, on the task that appends; it must not block.
pub trait TokenCounter: Debug + Send + Sync + 'static {
    /// The name of the tokenizer, such as `o200k_base`.
    fn name(&self) -> &str;

    /// The number of tokens in this text. Text that looks like a special token is text.
    fn count(&self, text: &str) -> usize;
}

/// Tokens that frame every message ("How to count tokens with tiktoken", OpenAI Cookbook).
const PER_MESSAGE: usize = 3;
/// Tokens that a `name` adds to its own (same source).
const PER_NAME: usize = 1;
/// Tokens that frame a tool call or its result: an id, a type and JSON punctuation.
const PER_CALL: usize = 8;
/// An image, by the price of a low-detail one in OpenAI's vision guide. Its data is not text.
const PER_IMAGE: usize = 85;

/// The number of tokens that a message takes in a request.
///
/// Text is counted exactly by the counter; framing follows OpenAI's published rules where there are
/// any. An image counts a fixed 85 tokens, any other part that is not text by its JSON. Never 0.
#[must_use]
pub fn message_tokens(counter: &dyn TokenCounter, message: &Message) -> u32 {
    let mut tokens = PER_MESSAGE + counter.count(message.role.as_str());
    match &message.content {
        Some(Content::Text(text)) => tokens += counter.count(text),
        Some(Content::Parts(parts)) => {
            tokens += parts.iter().map(|part| part_tokens(counter, part)).sum::<usize>();
        }
        Some(Content::Null) | None => {}
    }
    if let Some(name) = &message.name {
        tokens += PER_NAME + counter.count(name);
    }
    for call in &message.tool_calls {
        tokens += PER_CALL;
        tokens += match (call.name(), call.arguments()) {
            (Some(name), Some(arguments)) => counter.count(name) + counter.count(arguments),
            _ => counter.count(&Value::Object(call.body.clone()).to_string()),
        };
    }
    if message.tool_call_id.is_some() {
        tokens += PER_CALL;
    }
    if let Some(call) = message.extra.get("function_call").filter(|call| !call.is_null()) {
        tokens += PER_CALL + counter.count(&call.to_string());
    }
    if let Some(Value::String(refusal)) = message.extra.get("refusal") {
        tokens += counter.count(refusal);
    }
    u32::try_from(tokens).unwrap_or(u32::MAX)
}

fn part_tokens(counter: &dyn TokenCounter, part: &Value) -> usize {
    match (part.get("type").and_then(Value::as_str), part.get("text").and_then(Value::as_str)) {
        (_, Some(text)) => counter.count(text),
        (Some("image_url" | "image" | "input_image"), None) => PER_IMAGE,
        _ => counter.count(&part.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// One token for each byte.
    #[derive(Debug)]
    struct Bytes;

    impl TokenCounter for Bytes {
        fn name(&self) -> &'static str {
            "bytes"
        }

        fn count(&self, text: &str) -> usize {
            text.len()
        }
    }

    #[test]
    fn a_message_takes_its_texts_and_their_framing() {
        let tokens =
            |message: Value| message_tokens(&Bytes, &Message::from_value(message).unwrap());
        let user = 3 + 4;
        assert_eq!(tokens(json!({"role": "user"})), user);
        assert_eq!(tokens(json!({"role": "user", "content": null})), user);
        assert_eq!(tokens(json!({"role": "user", "content": "hello"})), user + 5);
        assert_eq!(
            tokens(json!({"role": "user", "content": "hello", "name": "ann"})),
            user + 5 + 1 + 3
        );
        assert_eq!(
            tokens(json!({"role": "tool", "content": "r", "tool_call_id": "c"})),
            3 + 4 + 1 + 8
        );
        assert_eq!(tokens(json!({"role": "user", "refusal": "no", "x": "not counted"})), user + 2);
    }

    #[test]
    fn a_call_takes_its_name_and_arguments_and_the_rest_its_json() {
        let tokens =
            |message: Value| message_tokens(&Bytes, &Message::from_value(message).unwrap());
        let assistant = 3 + 9;
        let call =
            json!({"id": "c", "type": "function", "function": {"name": "fun", "arguments": "{}"}});
        let odd = json!({"id": "c", "type": "custom"});
        let calls = |calls: Value| json!({"role": "assistant", "tool_calls": calls});
        assert_eq!(tokens(calls(json!([call]))), assistant + 8 + 3 + 2);
        assert_eq!(tokens(calls(json!([call, call]))), assistant + 2 * (8 + 3 + 2));
        assert_eq!(
            tokens(calls(json!([odd]))),
            assistant + 8 + r#"{"type":"custom"}"#.len() as u32
        );
        let old = json!({"role": "assistant", "function_call": {"name": "f"}});
        assert_eq!(tokens(old), assistant + 8 + r#"{"name":"f"}"#.len() as u32);
        assert_eq!(tokens(json!({"role": "assistant", "function_call": null})), assistant);
    }

    #[test]
    fn an_image_has_a_price_and_any_other_part_is_counted_by_its_json() {
        let tokens = |parts: Value| {
            let message = json!({"role": "user", "content": parts});
            message_tokens(&Bytes, &Message::from_value(message).unwrap()) - 7
        };
        assert_eq!(tokens(json!([{"type": "text", "text": "hello"}])), 5);
        for kind in ["image_url", "image", "input_image"] {
            assert_eq!(tokens(json!([{"type": kind, kind: "x".repeat(500)}])), 85, "{kind}");
        }
        assert_eq!(tokens(json!([{"type": "image", "text": "alt"}])), 3, "its text is what counts");
        let file = json!({"type": "file", "id": 1});
        assert_eq!(tokens(json!([file, file])), 2 * file.to_string().len() as u32);
    }
}
