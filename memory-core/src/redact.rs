//! Taking secrets out of messages before anything else sees them.

use regex::{Regex, RegexBuilder};

use crate::dialect::{Dialect, Field, Holds};
use crate::json::{Json, JsonObject};
use crate::message::Message;

/// Replaces all that matches a pattern, at any depth of a message: texts, names of authors, arguments and
/// results, fields that no dialect knows, keys, and numbers, which become a string. A string that holds a JSON
/// object or array is redacted as JSON, so that escapes hide nothing and it stays JSON.
///
/// Exempt are the fields of the dialect that hold no text, in the places that the dialect has them, because
/// providers compare them: roles, types, ids and names of tools, signatures, base64.
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
        if let Some(plain) = message.as_plain_mut() {
            self.redact_text(&mut plain.text);
            if let Some(name) = &mut plain.name {
                self.redact_text(name);
            }
            return message;
        }
        let dialect = message.dialect();
        let mut json = Json::from(message);
        let fields = dialect.message_fields(&json);
        if let Some(object) = json.as_object_mut() {
            self.redact_fields(object, fields, dialect);
        }
        Message::from_any(json)
    }

    /// The text without the secrets; `None` if it has none.
    fn replaced(&self, text: &str) -> Option<String> {
        let mut replaced: Option<String> = None;
        for pattern in &self.patterns {
            let text = replaced.as_deref().unwrap_or(text);
            if pattern.is_match(text) {
                let by = regex::NoExpand(&self.replacement);
                replaced = Some(pattern.replace_all(text, by).into_owned());
            }
        }
        replaced
    }

    /// Redacts a string that a person, model or tool wrote.
    fn redact_text(&self, text: &mut String) {
        if is_data_url(text) {
            return;
        }
        let is_json = text.trim_start().starts_with(['{', '[']);
        let inner = is_json.then(|| Json::parse(text).ok()).flatten();
        if let Some(mut json) = inner {
            if self.redact_any(&mut json) {
                *text = json.to_string();
            }
            // A pattern may match over the punctuation. The string must stay JSON even then.
            if let Some(replaced) = self.replaced(text) {
                let is_valid = Json::parse(&replaced).is_ok();
                *text = if is_valid { replaced } else { Json::String(replaced).to_string() };
            }
        } else if let Some(replaced) = self.replaced(text) {
            *text = replaced;
        }
    }

    /// Redacts a value that no dialect describes. Whether anything has changed.
    fn redact_any(&self, value: &mut Json) -> bool {
        match value {
            Json::Null | Json::Bool(_) => false,
            Json::Number(number) => match self.replaced(&number.to_string()) {
                Some(replaced) => {
                    *value = Json::String(replaced);
                    true
                }
                None => false,
            },
            Json::String(text) => {
                let before = text.clone();
                self.redact_text(text);
                *text != before
            }
            Json::Array(items) => {
                items.iter_mut().fold(false, |changed, item| self.redact_any(item) | changed)
            }
            Json::Object(object) => {
                let changed = object
                    .iter_mut()
                    .fold(false, |changed, (_, value)| self.redact_any(value) | changed);
                self.redact_keys(object, &[]) | changed
            }
        }
    }

    /// Redacts keys that are not of these fields. Of several that become equal, all but the first get a number.
    fn redact_keys(&self, object: &mut JsonObject, fields: &[Field]) -> bool {
        let is_secret = |key: &str| {
            !fields.iter().any(|field| field.name == key) && self.replaced(key).is_some()
        };
        if !object.iter().any(|(key, _)| is_secret(key)) {
            return false;
        }
        let mut redacted = JsonObject::new();
        for (key, value) in std::mem::take(object) {
            let key = if is_secret(&key) { self.replaced(&key).unwrap_or(key) } else { key };
            let mut free = key.clone();
            let mut number = 2_u64;
            while redacted.contains_key(&free) {
                free = format!("{key} {number}");
                number += 1;
            }
            redacted.insert(free, value);
        }
        *object = redacted;
        true
    }

    /// Redacts an object whose fields the dialect knows.
    fn redact_fields(&self, object: &mut JsonObject, fields: &[Field], dialect: Dialect) {
        let is_text = Holds::data_is_text(object);
        for (key, value) in object.iter_mut() {
            match fields.iter().find(|field| field.name == key).map(|field| field.holds) {
                Some(holds) => self.redact_field(value, holds, is_text, dialect),
                None => {
                    self.redact_any(value);
                }
            }
        }
        self.redact_keys(object, fields);
    }

    fn redact_field(&self, value: &mut Json, holds: Holds, is_text: bool, dialect: Dialect) {
        match (holds, value) {
            (Holds::Protocol | Holds::Opaque, _) => {}
            (Holds::DataByType, _) if !is_text => {}
            (Holds::Media, Json::String(address)) if address.starts_with("http") => {
                self.redact_text(address);
            }
            (Holds::Media, _) => {}
            (Holds::Members(fields), Json::Object(object)) => {
                self.redact_fields(object, fields, dialect);
            }
            (Holds::Members(fields), Json::Array(items)) => {
                for item in items {
                    self.redact_field(item, Holds::Members(fields), is_text, dialect);
                }
            }
            (Holds::Parts, Json::Array(items)) => {
                for item in items {
                    self.redact_field(item, Holds::Parts, is_text, dialect);
                }
            }
            (Holds::Parts, part @ Json::Object(_)) => match dialect.part_fields(part) {
                Some(fields) => {
                    self.redact_field(part, Holds::Members(fields), is_text, dialect);
                }
                None => {
                    self.redact_any(part);
                }
            },
            (_, value) => {
                self.redact_any(value);
            }
        }
    }
}

/// Whether the text is the data of a medium, in which digits mean nothing.
fn is_data_url(text: &str) -> bool {
    text.starts_with("data:") && text.get(..100).unwrap_or(text).contains(";base64,")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    proptest! {
        #[test]
        fn no_secret_is_kept(number in "[0-9]{3}-[0-9]{2}-[0-9]{4}") {
            let redactor = Redactor::new(&[r"\b\d{3}-\d{2}-\d{4}\b"], "$0").unwrap();
            for message in [
                json!({"role": "user", "content": format!("it is {number}, yes")}),
                json!({"role": "user", "content": [{"type": "text", "text": number}]}),
                json!({"role": "assistant", "content": null, "tool_calls": [
                    {"id": "a", "type": "function",
                     "function": {"name": "f", "arguments": format!("{{\"ssn\":\"{number}\"}}")}}]}),
                json!({"role": "assistant", "content": null, "tool_calls": [
                    {"id": "a", "type": "function",
                     "function": {"name": "f", "arguments": {"id": number, "name": [number]}}}]}),
                json!({"role": "tool", "tool_call_id": "a", "content": "", "raw": {"deep": [number]}}),
                json!({"role": "assistant", "content": [
                    {"type": "tool_use", "id": "t", "name": "f", "input": {"id": number, "x": {"type": number}}}]}),
                json!({"role": "model", "parts": [{"functionCall": {"name": "f", "args": {"name": number}}}]}),
                json!({"role": "user", "content": [{"toolResult": {"toolUseId": "t", "content": [{"json": {number.clone(): 1}}]}}]}),
                json!({"type": "function_call_output", "call_id": "c", "output": number}),
                json!({"role": "user", "content": "hi", "user": {"id": number, "name": number, "role": number}}),
            ] {
                let redacted = redactor.redact(Message::from_value(message.clone()).unwrap());
                let text = redacted.to_json().unwrap();
                prop_assert!(!text.contains(&number), "{}", text);
                prop_assert!(text.contains("$0"), "the replacement is text, not a reference");
                prop_assert_eq!(redacted.tool_link(), Message::from_value(message).unwrap().tool_link());
            }
        }
    }

    fn redacted(patterns: &[&str], message: serde_json::Value) -> serde_json::Value {
        let redactor = Redactor::new(patterns, Redactor::DEFAULT_REPLACEMENT).unwrap();
        redactor.redact(Message::from_value(message).unwrap()).to_value()
    }

    fn call(arguments: &str) -> serde_json::Value {
        json!({"role": "assistant", "content": null, "tool_calls": [
            {"id": "a", "type": "function", "function": {"name": "f", "arguments": arguments}}]})
    }

    #[test]
    fn escapes_in_arguments_hide_nothing() {
        let mail = [r"[a-z.]+@example\.com"];
        for (arguments, expected) in [
            (r#"{"mail":"ann\u0040example.com"}"#, r#"{"mail":"[REDACTED]"}"#),
            (
                r#"{"a":"{\"mail\":\"ann\\u0040example.com\"}"}"#,
                r#"{"a":"{\"mail\":\"[REDACTED]\"}"}"#,
            ),
            (r#"{ "b": 1.0 }"#, r#"{ "b": 1.0 }"#),
        ] {
            assert_eq!(redacted(&mail, call(arguments)), call(expected));
        }
    }

    #[test]
    fn arguments_stay_json_whatever_is_matched() {
        for pattern in [r#""ssn":"[^"]*""#, r#"\{"#, "1"] {
            let message = redacted(&[pattern], call(r#"{"ssn":"x","n":1}"#));
            let arguments = message["tool_calls"][0]["function"]["arguments"].as_str().unwrap();
            assert!(Json::parse(arguments).is_ok(), "{arguments}");
            assert!(arguments.contains("[REDACTED]"), "{arguments}");
        }
    }

    #[test]
    fn numbers_and_keys_are_redacted() {
        let message = json!({"role": "user", "content": "hi", "ssn": 123456789, "x": {"123456789": 1, "1234567890": 2}});
        let expected = json!({"role": "user", "content": "hi", "ssn": "[REDACTED]",
            "x": {"[REDACTED]": 1, "[REDACTED] 2": 2}});
        assert_eq!(redacted(&[r"\d{9,}"], message), expected);
    }

    #[test]
    fn base64_and_signatures_are_unchanged() {
        for part in [
            json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "123456789"}}),
            json!({"type": "image_url", "image_url": {"url": "data:image/png;base64,123456789"}}),
            json!({"type": "thinking", "thinking": "hm", "signature": "123456789"}),
        ] {
            let message = json!({"role": "user", "content": [part]});
            assert_eq!(redacted(&[r"\d{9}"], message.clone()), message);
        }
        let text = json!({"role": "user", "content": [{"type": "document", "source": {"type": "text", "data": "123456789"}}]});
        assert!(!redacted(&[r"\d{9}"], text).to_string().contains("123"));
    }

    #[test]
    fn invalid_pattern_is_named() {
        let (index, _) = Redactor::new(&["a", "("], "").unwrap_err();
        assert_eq!(index, 1);
    }

    #[test]
    fn pattern_may_take_four_mebibytes() {
        assert_eq!(COMPILED_BYTES, 4_194_304);
        assert!(Redactor::new(&[r"\w{30}"], "").is_ok());
        let (index, error) = Redactor::new(&["a", r"(\w{100}){100}"], "").unwrap_err();
        assert_eq!((index, error), (1, regex::Error::CompiledTooBig(COMPILED_BYTES)));
    }

    #[test]
    fn only_protocol_fields_in_their_places_are_exempt() {
        let call = json!({"id": "secret-1", "type": "secret-2", "function": {
            "name": "secret-3", "arguments": "secret"}});
        let message = json!({"role": "assistant", "content": "a secret", "name": "secret-4",
            "tool_calls": [call], "tool_call_id": "secret-5", "x": {"role": "secret-6", "y": 7}});
        let call = json!({"id": "secret-1", "type": "secret-2", "function": {
            "name": "secret-3", "arguments": "[REDACTED]"}});
        let expected = json!({"role": "assistant", "content": "a [REDACTED]", "name": "[REDACTED]-4",
            "tool_calls": [call], "tool_call_id": "secret-5", "x": {"role": "[REDACTED]-6", "y": 7}});
        assert_eq!(redacted(&["secret"], message), expected);
    }
}
