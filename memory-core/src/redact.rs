//! Taking secrets out of messages before anything else sees them.

use regex::{Regex, RegexBuilder};
use serde_json::{Map, Value};

use crate::message::{Content, Message};

/// Replaces what matches a pattern, in every text of a message: its content, its parts, the
/// arguments of its calls and the fields that we do not know. Ids, roles, names and types stay, for
/// calls and results find each other by them.
///
/// Patterns run in time linear to the text (the `regex` crate), so none needs to be refused for that;
/// one that takes more than 4 MiB when compiled, such as `(\w{100}){100}`, is.
#[derive(Debug, Clone)]
pub struct Redactor {
    patterns: Vec<Regex>,
    replacement: String,
}

/// The most that one compiled pattern may take.
const COMPILED_BYTES: usize = 4 << 20;

impl Redactor {
    /// What stands in for a secret unless told otherwise.
    pub const DEFAULT_REPLACEMENT: &str = "[REDACTED]";

    /// Compiles the patterns.
    ///
    /// # Errors
    /// The index of the first pattern that is not a regular expression, and why.
    pub fn new<P: AsRef<str>>(
        patterns: &[P],
        replacement: impl Into<String>,
    ) -> Result<Self, (usize, regex::Error)> {
        let patterns = patterns
            .iter()
            .enumerate()
            .map(|(index, pattern)| {
                RegexBuilder::new(pattern.as_ref())
                    .size_limit(COMPILED_BYTES)
                    .build()
                    .map_err(|error| (index, error))
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { patterns, replacement: replacement.into() })
    }

    /// The message without the secrets.
    #[must_use]
    pub fn redact(&self, mut message: Message) -> Message {
        match &mut message.content {
            Some(Content::Text(text)) => self.redact_text(text),
            Some(Content::Parts(parts)) => {
                for part in parts {
                    self.redact_value(part);
                }
            }
            Some(Content::Null) | None => {}
        }
        for call in &mut message.tool_calls {
            self.redact_map(&mut call.body);
        }
        self.redact_map(&mut message.extra);
        message
    }

    fn redact_text(&self, text: &mut String) {
        for pattern in &self.patterns {
            if pattern.is_match(text) {
                *text = pattern.replace_all(text, regex::NoExpand(&self.replacement)).into_owned();
            }
        }
    }

    fn redact_value(&self, value: &mut Value) {
        match value {
            Value::String(text) => self.redact_text(text),
            Value::Array(values) => values.iter_mut().for_each(|value| self.redact_value(value)),
            Value::Object(map) => self.redact_map(map),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn redact_map(&self, map: &mut Map<String, Value>) {
        for (field, value) in map {
            if !matches!(field.as_str(), "id" | "type" | "name" | "role" | "tool_call_id") {
                self.redact_value(value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    proptest! {
        #[test]
        fn no_secret_stays_wherever_it_stands(number in "[0-9]{3}-[0-9]{2}-[0-9]{4}") {
            let redactor = Redactor::new(&[r"\b\d{3}-\d{2}-\d{4}\b"], "$0").unwrap();
            for message in [
                json!({"role": "user", "content": format!("it is {number}, yes")}),
                json!({"role": "user", "content": [{"type": "text", "text": number}]}),
                json!({"role": "assistant", "content": null, "tool_calls": [
                    {"id": "a", "type": "function",
                     "function": {"name": "f", "arguments": format!("{{\"ssn\":\"{number}\"}}")}}]}),
                json!({"role": "tool", "tool_call_id": "a", "content": "", "raw": {"deep": [number]}}),
            ] {
                let redacted = redactor.redact(Message::from_value(message.clone()).unwrap());
                let text = redacted.to_value().to_string();
                prop_assert!(!text.contains(&number));
                prop_assert!(text.contains("$0"), "the replacement is text, not a reference");
                prop_assert_eq!(redacted.tool_link(), Message::from_value(message).unwrap().tool_link());
            }
        }
    }

    #[test]
    fn a_pattern_that_is_none_is_named() {
        let (index, _) = Redactor::new(&["a", "("], "").unwrap_err();
        assert_eq!(index, 1);
    }

    #[test]
    fn a_pattern_may_take_four_mebibytes_when_compiled() {
        assert_eq!(COMPILED_BYTES, 4_194_304);
        assert!(Redactor::new(&[r"\w{30}"], "").is_ok());
        let (index, error) = Redactor::new(&["a", r"(\w{100}){100}"], "").unwrap_err();
        assert_eq!((index, error), (1, regex::Error::CompiledTooBig(COMPILED_BYTES)));
    }

    #[test]
    fn what_messages_are_known_by_stays() {
        let redactor = Redactor::new(&["secret"], Redactor::DEFAULT_REPLACEMENT).unwrap();
        let call = json!({"id": "secret-1", "type": "secret-2", "function": {
            "name": "secret-3", "arguments": "secret"}});
        let message = json!({"role": "assistant", "content": "a secret", "name": "secret-4",
            "tool_calls": [call], "tool_call_id": "secret-5", "x": {"role": "secret-6", "y": 7}});
        let redacted = redactor.redact(Message::from_value(message).unwrap()).to_value();
        let call = json!({"id": "secret-1", "type": "secret-2", "function": {
            "name": "secret-3", "arguments": "[REDACTED]"}});
        let expected = json!({"role": "assistant", "content": "a [REDACTED]", "name": "secret-4",
            "tool_calls": [call], "tool_call_id": "secret-5", "x": {"role": "secret-6", "y": 7}});
        assert_eq!(redacted, expected);
    }
}
