//! Counting tokens.

mod estimate;
#[cfg(feature = "tiktoken")]
mod tiktoken;

use std::fmt::Debug;

pub use self::estimate::EstimateCounter;
#[cfg(feature = "tiktoken")]
pub use self::tiktoken::{TiktokenCounter, Vocabulary};
use crate::dialect::{Arguments, CallPart, MediaPart, MediaSource, Part, ReasoningPart};
use crate::message::Message;

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
/// A medium, by the price of a low-detail image in OpenAI's vision guide.
const PER_MEDIUM: usize = 85;

/// The number of tokens that a message takes in a request.
///
/// Text is counted exactly by the counter; framing follows OpenAI's published rules where there are
/// any. Reasoning, arguments, results and citations count as text. A medium counts a fixed 85 tokens, whatever
/// its data, beside its title; a document whose text is in the message counts by its text. Never 0.
#[must_use]
pub fn message_tokens(counter: &dyn TokenCounter, message: &Message) -> u32 {
    let mut tokens = PER_MESSAGE + counter.count(message.role().as_str());
    if let Some(author) = message.author() {
        tokens += PER_NAME + counter.count(author);
    }
    message.read(&mut |part| tokens += part_tokens(counter, &part));
    u32::try_from(tokens).unwrap_or(u32::MAX)
}

fn part_tokens(counter: &dyn TokenCounter, part: &Part<'_>) -> usize {
    match part {
        Part::Text(part) => {
            let citations = part.citations.map_or(0, |json| counter.count(&json.to_string()));
            counter.count(&part.text) + citations
        }
        Part::Media(part) => {
            let beside = [part.title, part.context].into_iter().flatten();
            let beside: usize = beside.map(|text| counter.count(text)).sum();
            let inner = match &part.source {
                MediaSource::Text(text) => counter.count(text),
                MediaSource::Parts(parts) => {
                    parts.iter().map(|part| part_tokens(counter, part)).sum()
                }
                _ => media_tokens(part),
            };
            beside + inner
        }
        Part::Reasoning(ReasoningPart { text, opaque, .. }) => match opaque {
            // It is there in place of a text that only the provider can read.
            Some(opaque) if text.is_empty() => counter.count(opaque),
            _ => counter.count(text),
        },
        Part::Call(call) => PER_CALL + call_tokens(counter, call),
        Part::Result(result) => {
            let name = result.name.map_or(0, |name| PER_NAME + counter.count(name));
            let content = result.content.iter().map(|part| part_tokens(counter, part));
            PER_CALL + name + content.sum::<usize>()
        }
        Part::Data(json) => counter.count(&json.to_string()),
        Part::Other(native) => counter.count(&native.json.to_string()),
    }
}

fn call_tokens(counter: &dyn TokenCounter, call: &CallPart<'_>) -> usize {
    match (&call.arguments, call.native) {
        // Of a kind that is not known.
        (Arguments::Missing, Some(native)) if call.name.is_empty() => {
            counter.count(&native.json.to_string())
        }
        (arguments, _) => counter.count(call.name) + counter.count(&arguments.to_text()),
    }
}

/// The price of a medium whose content is not text.
fn media_tokens(_medium: &MediaPart<'_>) -> usize {
    PER_MEDIUM
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

    fn tokens(message: serde_json::Value) -> u32 {
        message_tokens(&Bytes, &Message::from_value(message).unwrap())
    }

    #[test]
    fn message_takes_its_texts_and_framing() {
        let user = 3 + 4;
        assert_eq!(tokens(json!({"role": "user"})), user);
        assert_eq!(tokens(json!({"role": "user", "content": null})), user);
        assert_eq!(tokens(json!({"role": "user", "content": "hello"})), user + 5);
        let named = json!({"role": "user", "content": "hello", "name": "ann"});
        assert_eq!(tokens(named), user + 5 + 1 + 3);
        let result = json!({"role": "tool", "content": "r", "tool_call_id": "c"});
        assert_eq!(tokens(result), 3 + 4 + 1 + 8);
        let refusal = json!({"role": "user", "refusal": "no", "x": "not counted"});
        assert_eq!(tokens(refusal), user + 2);
    }

    #[test]
    fn call_takes_its_name_and_arguments() {
        let assistant = 3 + 9;
        let call =
            json!({"id": "c", "type": "function", "function": {"name": "fun", "arguments": "{}"}});
        let calls = |calls: serde_json::Value| json!({"role": "assistant", "tool_calls": calls});
        assert_eq!(tokens(calls(json!([call]))), assistant + 8 + 3 + 2);
        assert_eq!(tokens(calls(json!([call, call]))), assistant + 2 * (8 + 3 + 2));
        let old = json!({"role": "assistant", "function_call": {"name": "f", "arguments": "{}"}});
        assert_eq!(tokens(old), assistant + 8 + 1 + 2);
        assert_eq!(tokens(json!({"role": "assistant", "function_call": null})), assistant);
        let block = json!({"type": "tool_use", "id": "t", "name": "ls", "input": {"a": 1}});
        let anthropic = json!({"role": "assistant", "content": [block]});
        assert_eq!(tokens(anthropic), assistant + 8 + 2 + 7);
    }

    #[test]
    fn reasoning_is_counted_in_every_field() {
        let text = "step by step. ".repeat(50);
        for reasoning in [
            json!({"reasoning_content": text}),
            json!({"reasoning_details": [{"type": "reasoning.text", "text": text}]}),
            json!({"thinking_blocks": [{"type": "thinking", "thinking": text, "signature": "s"}]}),
            json!({"content": [{"type": "thinking", "thinking": text, "signature": "s"}]}),
        ] {
            let mut message = json!({"role": "assistant", "content": "391"});
            for (key, value) in reasoning.as_object().unwrap() {
                message[key] = value.clone();
            }
            assert!(tokens(message) >= 12 + 700, "{reasoning}");
        }
    }

    #[test]
    fn media_have_a_price_at_any_depth() {
        let data = "A".repeat(5_000);
        let url = format!("data:image/png;base64,{data}");
        let source = json!({"type": "base64", "media_type": "image/png", "data": data});
        let image = json!({"type": "image", "source": source});
        let in_text = json!([{"type": "image", "data": data, "mimeType": "image/png"}]).to_string();
        for (message, expected) in [
            (
                json!({"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}),
                7,
            ),
            (
                json!({"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": data, "format": "wav"}}]}),
                7,
            ),
            (
                json!({"role": "user", "content": [{"type": "video_url", "video_url": {"url": url}}]}),
                7,
            ),
            (json!({"role": "user", "content": [{"type": "document", "source": source}]}), 7),
            (json!({"role": "user", "content": [image]}), 7),
            (
                json!({"role": "user", "content": [{"inline_data": {"mime_type": "image/png", "data": data}}]}),
                7,
            ),
            (
                json!({"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": [image]}]}),
                7 + 8,
            ),
            (json!({"role": "tool", "tool_call_id": "c", "content": in_text}), 7 + 8),
        ] {
            assert_eq!(tokens(message.clone()), expected + 85, "{message}");
        }
        let file = json!({"type": "file", "file": {"filename": "a.pdf", "file_data": url}});
        assert_eq!(tokens(json!({"role": "user", "content": [file]})), 7 + 85 + 5);
        let beside = json!([{"type": "text", "text": "see"}, {"type": "image_url", "image_url": {"url": url}}]);
        assert_eq!(tokens(json!({"role": "user", "content": beside})), 7 + 3 + 85);
    }

    #[test]
    fn text_of_documents_and_citations_is_counted() {
        let words = "word ".repeat(100);
        let source = json!({"type": "text", "media_type": "text/plain", "data": words});
        let document = json!({"type": "document", "title": "x", "source": source});
        assert_eq!(tokens(json!({"role": "user", "content": [document]})), 7 + 1 + 500);
        let cited = json!({"type": "text", "text": "ok", "citations": [{"cited_text": words}]});
        let result = json!({"role": "tool", "tool_call_id": "c", "content": [cited]});
        assert!(tokens(result) > 500);
        let gemini = json!({"role": "user", "parts": [{"text": words}]});
        assert_eq!(tokens(gemini), 7 + 500);
    }
}
