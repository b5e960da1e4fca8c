//! Requests and answers of OpenAI's Chat Completions.

use memory_core::Message;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::api::{Prompt, Stop, text_of};
use super::error::{ModelError, ModelErrorKind};

pub(super) fn body(prompt: Prompt<'_>) -> Value {
    json!({
        "model": prompt.model,
        "messages": [Message::system(prompt.system), Message::user(prompt.user)],
        (prompt.limit_field.name()): prompt.max_output_tokens,
    })
}

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    choices: Vec<Choice<'a>>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(borrow)]
    message: &'a RawValue,
    finish_reason: Option<String>,
}

pub(super) fn read(body: &str) -> Result<String, ModelError> {
    let answer: Answer<'_> = serde_json::from_str(body).map_err(|_| ModelErrorKind::Malformed)?;
    let choice = answer.choices.first().ok_or(ModelErrorKind::Malformed)?;
    let message = Message::from_stored_json(choice.message.get());
    let stop = match choice.finish_reason.as_deref() {
        Some("length") => Stop::AtLimit,
        Some("content_filter") => Stop::Refused,
        _ => Stop::Done,
    };
    text_of(&message.map_err(|_| ModelErrorKind::Malformed)?, stop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_choice(choice: &Value) -> Result<String, ModelErrorKind> {
        read(&json!({ "choices": [choice] }).to_string()).map_err(|error| error.kind())
    }

    #[test]
    fn answers_of_many_servers_are_read() {
        let said =
            |message: Value| read_choice(&json!({"message": message, "finish_reason": "stop"}));
        let text = |content: Value| said(json!({"role": "assistant", "content": content}));
        assert_eq!(text(json!("Ann flies.")), Ok("Ann flies.".into()));
        // Mistral's reasoning models answer with chunks.
        let chunks = json!([
            {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
            {"type": "text", "text": "Ann flies."},
        ]);
        assert_eq!(text(chunks), Ok("Ann flies.".into()));
        let reasoning = json!({"role": "assistant", "content": "Ann.", "reasoning_content": "hm"});
        assert_eq!(said(reasoning), Ok("Ann.".into()));
        assert_eq!(text(json!(null)), Err(ModelErrorKind::Empty));
        assert_eq!(text(json!(" ")), Err(ModelErrorKind::Empty));
        let refusal = json!({"role": "assistant", "content": null, "refusal": "I cannot."});
        assert_eq!(said(refusal), Err(ModelErrorKind::Refused));
    }

    #[test]
    fn unfinished_and_malformed_answers_are_errors() {
        let message = json!({"role": "assistant", "content": "Ann"});
        let stopped =
            |reason: &str| read_choice(&json!({"message": message, "finish_reason": reason}));
        assert_eq!(stopped("length"), Err(ModelErrorKind::CutShort));
        assert_eq!(stopped("content_filter"), Err(ModelErrorKind::Refused));
        assert_eq!(stopped("eos"), Ok("Ann".into()));
        let malformed = ["", "<html>", "{}", r#"{"choices":[]}"#, r#"{"choices":[{"message":7}]}"#];
        for body in malformed {
            assert_eq!(read(body).unwrap_err().kind(), ModelErrorKind::Malformed, "{body}");
        }
    }
}
