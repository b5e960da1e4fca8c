//! Counting tokens.

mod configured;
mod estimate;
mod media;
#[cfg(feature = "tiktoken")]
mod tiktoken;

use std::fmt::Debug;

pub use self::configured::ConfiguredCounter;
pub use self::estimate::EstimateCounter;
pub use self::media::{MediaPrices, MediaTokens};
#[cfg(feature = "tiktoken")]
pub use self::tiktoken::{TiktokenCounter, Vocabulary};
use crate::dialect::{Arguments, CallPart, Dialect, MediaSource, Part, ReasoningPart, ResultPart};
use crate::json::Json;
use crate::message::{Message, Role};

/// Counts the tokens of a text.
///
/// # Correctness
/// Pure: the same text always has the same count, and an empty text has none. Counting is done once for each message,
/// outside of any lock, on the appending task; it must not block.
pub trait TokenCounter: Debug + Send + Sync + 'static {
    /// The name of the tokenizer, such as `o200k_base`.
    fn name(&self) -> &str;

    /// The number of tokens in this text. Special tokens are counted as ordinary text.
    fn count(&self, text: &str) -> usize;

    /// The prices of media in a message that is counted with this counter. Default: those of an unknown model.
    /// [`ConfiguredCounter`] has others. A counter that wraps another must return that one's prices.
    fn media_prices(&self) -> MediaPrices {
        MediaPrices::default()
    }
}

/// Tokens that frame every message ("How to count tokens with tiktoken", OpenAI Cookbook).
const PER_MESSAGE: usize = 3;
/// Tokens that a `name` adds to its own (same source).
const PER_NAME: usize = 1;
/// Tokens that frame a tool call or its result: an id, a type and JSON punctuation.
const PER_CALL: usize = 8;

/// The number of tokens that a message takes in a request.
///
/// Text is counted by the counter; framing follows OpenAI's published rules if there are any. Reasoning, arguments,
/// results and citations count as text; encrypted reasoning, whose text is not available, counts as a text of the
/// same number of bytes. Media cost their [price](MediaPrices), whatever their data, plus their titles; a document
/// whose text is in the message counts by its text. Fields that are not sent do not count. Never 0.
#[must_use]
pub fn message_tokens(counter: &dyn TokenCounter, message: &Message) -> u32 {
    let mut tokens = PER_MESSAGE + counter.count(message.role().as_str());
    if let Some(author) = message.author() {
        tokens += PER_NAME + counter.count(author);
    }
    message.read(&mut |part| tokens += part_tokens(counter, &part));
    u32::try_from(tokens).unwrap_or(u32::MAX)
}

/// As [`message_tokens`] for a message that was written in this dialect.
pub(crate) fn written_tokens(counter: &dyn TokenCounter, dialect: Dialect, message: &Json) -> u32 {
    let role = dialect.role(message).unwrap_or(Role::User);
    let mut tokens = PER_MESSAGE + counter.count(role.as_str());
    if let Some(author) = dialect.author(message) {
        tokens += PER_NAME + counter.count(author);
    }
    dialect.read(message, &mut |part| tokens += part_tokens(counter, &part));
    u32::try_from(tokens).unwrap_or(u32::MAX)
}

/// The number of tokens that a part takes in a message, with its framing.
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
                _ => counter.media_prices().price(counter, part),
            };
            beside + inner
        }
        Part::Reasoning(ReasoningPart { text, opaque, .. }) => match opaque {
            // It replaces a text that only the provider can read.
            Some(opaque) if text.is_empty() => counter.media_prices().opaque(opaque),
            _ => counter.count(text),
        },
        Part::Call(call) => PER_CALL + call_tokens(counter, call),
        Part::Result(result) => {
            let name = result.name.map_or(0, |name| PER_NAME + counter.count(name));
            PER_CALL + name + result_tokens(counter, result)
        }
        Part::Data(json) => counter.count(&json.to_string()),
        Part::Other(native) => json_tokens(counter, native.json),
    }
}

/// The tokens of the content of a result, without framing.
pub(crate) fn result_tokens(counter: &dyn TokenCounter, result: &ResultPart<'_>) -> usize {
    result.content.iter().map(|part| part_tokens(counter, part)).sum()
}

fn call_tokens(counter: &dyn TokenCounter, call: &CallPart<'_>) -> usize {
    match (&call.arguments, call.native) {
        // A call of an unknown kind.
        (Arguments::Missing, Some(native)) if call.name.is_empty() => {
            json_tokens(counter, native.json)
        }
        (arguments, _) => counter.count(call.name) + counter.count(&arguments.to_text()),
    }
}

/// JSON of an unknown kind, counted as text except for base64, which only the provider can interpret.
fn json_tokens(counter: &dyn TokenCounter, json: &Json) -> usize {
    let mut opaque = 0;
    match without_base64(counter, json, &mut opaque) {
        Some(rest) => opaque + counter.count(&rest.to_string()),
        None => counter.count(&json.to_string()),
    }
}

/// Shorter strings are ids and names.
const SHORTEST_BASE64: usize = 256;

/// A copy without base64, whose price is added to `opaque`; `None` if there is none.
fn without_base64(counter: &dyn TokenCounter, json: &Json, opaque: &mut usize) -> Option<Json> {
    match json {
        Json::String(text) => {
            let data = text.split_once(";base64,").map_or(&**text, |(_, data)| data);
            let is_base64 = |byte: u8| byte.is_ascii_alphanumeric() || b"+/=-_".contains(&byte);
            if data.len() < SHORTEST_BASE64 || !data.bytes().all(is_base64) {
                return None;
            }
            let prices = counter.media_prices();
            *opaque += match text.starts_with("data:image/") {
                true => prices.image_in(data),
                false => prices.opaque(data),
            };
            Some(Json::from(""))
        }
        Json::Array(items) => {
            let mut changed = false;
            let copies = items.iter().map(|item| {
                let copy = without_base64(counter, item, opaque);
                changed |= copy.is_some();
                copy.unwrap_or_else(|| item.clone())
            });
            let copies: Vec<Json> = copies.collect();
            changed.then_some(Json::Array(copies))
        }
        Json::Object(object) => {
            let mut copy = None;
            for (key, value) in object.iter() {
                if let Some(value) = without_base64(counter, value, opaque) {
                    copy.get_or_insert_with(|| object.clone()).insert(key, value);
                }
            }
            copy.map(Json::Object)
        }
        _ => None,
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
        let (image_price, second_of_audio, second_of_video, page) = (1_300, 32, 263, 2_300);
        let url = format!("data:image/png;base64,{data}");
        let source = json!({"type": "base64", "media_type": "image/png", "data": data});
        let image = json!({"type": "image", "source": source});
        let pdf = json!({"type": "base64", "media_type": "application/pdf", "data": data});
        let in_text = json!([{"type": "image", "data": data, "mimeType": "image/png"}]).to_string();
        for (message, expected) in [
            (
                json!({"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}),
                7 + image_price,
            ),
            (
                json!({"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": data, "format": "wav"}}]}),
                7 + second_of_audio,
            ),
            (
                json!({"role": "user", "content": [{"type": "video_url", "video_url": {"url": url}}]}),
                7 + second_of_video,
            ),
            (json!({"role": "user", "content": [{"type": "document", "source": pdf}]}), 7 + page),
            (json!({"role": "user", "content": [image]}), 7 + image_price),
            (
                json!({"role": "user", "content": [{"inline_data": {"mime_type": "image/png", "data": data}}]}),
                7 + image_price,
            ),
            (
                json!({"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": [image]}]}),
                7 + 8 + image_price,
            ),
            (json!({"role": "tool", "tool_call_id": "c", "content": in_text}), 7 + 8 + image_price),
        ] {
            assert_eq!(tokens(message.clone()), expected, "{message}");
        }
        let pdf_url = url.replace("image/png", "application/pdf");
        let file = json!({"type": "file", "file": {"filename": "a.pdf", "file_data": pdf_url}});
        assert_eq!(tokens(json!({"role": "user", "content": [file]})), 7 + page + 5);
        let beside = json!([{"type": "text", "text": "see"}, {"type": "image_url", "image_url": {"url": url}}]);
        assert_eq!(tokens(json!({"role": "user", "content": beside})), 7 + 3 + image_price);
    }

    #[test]
    fn image_price_depends_on_detail_and_size() {
        let image = |url: &str, detail: &str| {
            let image_url = json!({"url": url, "detail": detail});
            let content = json!([{"type": "image_url", "image_url": image_url}]);
            tokens(json!({"role": "user", "content": content})) - 7
        };
        let url = "https://example.com/a.png";
        assert_eq!((image(url, "low"), image(url, "high"), image(url, "auto")), (85, 1_300, 1_300));
        // 640 x 480 pixels.
        let png = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAoAAAAHgCAYAAAA10dzk";
        assert_eq!((image(png, "low"), image(png, "high")), (85, 23 * 18));
    }

    #[test]
    fn duration_decides_the_price_of_audio_and_video() {
        let content =
            |block: serde_json::Value| tokens(json!({"role": "user", "content": [block]})) - 7;
        // 96,000 bytes: 6 seconds at 16,000, 2 as PCM at 48,000, 3 at the 32,000 of the header.
        let data = "A".repeat(128_000);
        let audio = |data: &str, format: &str| {
            content(json!({"type": "input_audio", "input_audio": {"data": data, "format": format}}))
        };
        let header = "UklGRgAAAABXQVZFZm10IBAAAAABAAEAgD4AAAB9AAACABAA";
        let wav = [header, &"A".repeat(128_000 - header.len())].concat();
        assert_eq!(audio(&data, "mp3"), 6 * 32);
        assert_eq!(audio(&data, "pcm16"), 2 * 32);
        assert_eq!(audio(&wav, "wav"), 3 * 32);
        let stated =
            json!({"type": "audio", "data": data, "mimeType": "audio/mpeg", "duration": 90});
        assert_eq!(content(stated), 90 * 32);
        let video = json!({"type": "video_url", "video_url": {"url": "https://example.com/a.mp4"}});
        assert_eq!(content(video), 10 * 263);
    }

    #[test]
    fn size_decides_the_pages_of_a_document() {
        let document = |media_type: &str, data: &str| {
            let source = json!({"type": "base64", "media_type": media_type, "data": data});
            tokens(json!({"role": "user", "content": [{"type": "document", "source": source}]})) - 7
        };
        assert_eq!(document("application/pdf", &"A".repeat(4_000)), 2_300);
        assert_eq!(document("application/pdf", &"A".repeat(400_000)), 6 * 2_300);
        assert_eq!(document("text/plain", "aGVsbG8="), 5, "its text");
    }

    #[test]
    fn prices_are_those_of_the_counter() {
        let set = MediaTokens { image: Some(11), ..MediaTokens::default() };
        let prices = MediaPrices::default().with_settings(&set);
        let counter = ConfiguredCounter::new(std::sync::Arc::new(Bytes)).with_media_prices(prices);
        let source = json!({"type": "url", "url": "https://example.com/a.png"});
        let image = json!({"type": "image", "source": source});
        let content = json!([{"type": "tool_result", "tool_use_id": "t", "content": [image]}]);
        let message = Message::from_value(json!({"role": "user", "content": content})).unwrap();
        assert_eq!(message_tokens(&counter, &message), 7 + 8 + 11);
    }

    #[test]
    fn base64_of_unknown_kinds_is_no_text() {
        let data = "A".repeat(4_000);
        let item = json!({"type": "image_generation_call", "id": "ig_1", "result": data});
        assert!((1_300..1_400).contains(&tokens(item.clone())), "{}", tokens(item));
        let content = |block: serde_json::Value| {
            let result = json!({"type": "tool_result", "tool_use_id": "t", "content": [block]});
            tokens(json!({"role": "user", "content": [result]})) - 7 - 8
        };
        let unknown = content(json!({"type": "new_kind", "inner": [{"data": data}, 7]}));
        assert_eq!(unknown, 750 + 43);
        let foreign = json!({"url": format!("data:image/png;base64,{data}")});
        let foreign = content(json!({"type": "image_url", "image_url": foreign}));
        assert!((1_300..1_400).contains(&foreign), "{foreign}");
        let reasoning =
            json!({"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": data});
        assert_eq!(tokens(reasoning), 3 + 9 + 750);
    }

    #[test]
    fn unknown_fields_are_not_counted() {
        let plain = json!({"role": "user", "content": [{"type": "text", "text": "hi"}]});
        let more = json!({"role": "user", "content": [{"type": "text", "text": "hi", "note": "not sent"}],
            "conversation_id": "c-1", "index": 7, "metadata": {"a": "long text that is not sent"}});
        assert_eq!(tokens(more), tokens(plain));
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
