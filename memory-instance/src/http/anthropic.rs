//! Requests and answers of Anthropic's Messages.

use memory_core::Message;
use serde::Deserialize;
use serde_json::{Value, json};

use super::api::{Prompt, Stop, text_of};
use super::error::{ModelError, ModelErrorKind};

pub(super) fn body(prompt: Prompt<'_>) -> Value {
    json!({
        "model": prompt.model,
        "max_tokens": prompt.max_output_tokens,
        "system": prompt.system,
        "messages": [Message::user(prompt.user)],
    })
}

/// The fields beside the message, which the answer itself is.
#[derive(Deserialize)]
struct Answer {
    #[serde(rename = "content")]
    _content: Vec<serde::de::IgnoredAny>,
    stop_reason: Option<String>,
}

pub(super) fn read(body: &str) -> Result<String, ModelError> {
    let answer: Answer = serde_json::from_str(body).map_err(|_| ModelErrorKind::Malformed)?;
    let message = Message::from_json(body).map_err(|_| ModelErrorKind::Malformed)?;
    let stop = match answer.stop_reason.as_deref() {
        Some("max_tokens" | "model_context_window_exceeded") => Stop::AtLimit,
        Some("refusal") => Stop::Refused,
        _ => Stop::Done,
    };
    text_of(&message, stop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_blocks(content: &Value, stop: &str) -> Result<String, ModelErrorKind> {
        let answer = json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "m",
            "content": content, "stop_reason": stop, "usage": {"output_tokens": 5}});
        read(&answer.to_string()).map_err(|error| error.kind())
    }

    #[test]
    fn texts_are_joined_without_thinking() {
        let blocks = json!([
            {"type": "thinking", "thinking": "hm", "signature": "s"},
            {"type": "text", "text": "Ann "},
            {"type": "text", "text": "flies."},
        ]);
        assert_eq!(read_blocks(&blocks, "end_turn"), Ok("Ann flies.".into()));
        let thinking = json!([{"type": "thinking", "thinking": "hm", "signature": "s"}]);
        assert_eq!(read_blocks(&thinking, "end_turn"), Err(ModelErrorKind::Empty));
        assert_eq!(read_blocks(&json!([]), "end_turn"), Err(ModelErrorKind::Empty));
    }

    #[test]
    fn unfinished_and_malformed_answers_are_errors() {
        let text = json!([{"type": "text", "text": "Ann"}]);
        assert_eq!(read_blocks(&text, "max_tokens"), Err(ModelErrorKind::CutShort));
        assert_eq!(read_blocks(&text, "refusal"), Err(ModelErrorKind::Refused));
        for body in ["", "<html>", "{}", r#"{"content":"Ann"}"#, r#"{"content":[{"text":7}]}"#] {
            assert_eq!(read(body).unwrap_err().kind(), ModelErrorKind::Malformed, "{body}");
        }
    }
}
