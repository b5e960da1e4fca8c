//! Redacts secrets in messages before any other code sees them.

mod digits;
mod email;
mod escapes;
mod links;
mod preset;
mod redactions;
mod uuid;

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::ops::Range;

use regex::{Regex, RegexBuilder};

use self::escapes::{Decoded, MAX_LEVELS};
pub use self::preset::RedactPreset;
pub use self::redactions::Redactions;

use crate::dialect::{Dialect, Field, Holds};
use crate::json::{Json, JsonObject};
use crate::message::{Message, Role};

/// Replaces every match of a pattern or a [preset](RedactPreset), at any depth of a message: texts, author names,
/// arguments and results, fields that no dialect knows, keys, and numbers, which become strings. A string that
/// contains JSON is redacted as JSON, so that escapes cannot hide a secret and it remains JSON. In a text with
/// escapes that is not JSON, such as truncated arguments, the unescaped characters are matched too.
///
/// Exempt are the dialect's fields without text, in their places in the dialect, because providers compare them:
/// roles, types, tool ids and names, signatures, base64.
///
/// All patterns and presets are matched against the original text. Overlapping matches are replaced once; empty
/// matches are skipped.
///
/// Patterns run in time linear in the text (the `regex` crate), so none is refused for slow matching. A pattern that
/// takes more than 4 MiB when compiled, such as `(\w{100}){100}`, is refused.
#[derive(Debug, Clone)]
pub struct Redactor {
    presets: Vec<RedactPreset>,
    patterns: Vec<Regex>,
    replacement: String,
}

/// The most bytes of one compiled pattern.
const COMPILED_BYTES: usize = 4 << 20;

impl Redactor {
    /// The default replacement of a secret.
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
        Ok(Self { presets: Vec::new(), patterns, replacement: replacement.into() })
    }

    /// Also replaces these kinds of secrets.
    ///
    /// ```
    /// use memory_core::Message;
    /// use memory_core::resource::{RedactPreset, Redactor};
    ///
    /// let redactor = Redactor::new::<&str>(&[], Redactor::DEFAULT_REPLACEMENT)
    ///     .map_err(|(_, error)| error)?
    ///     .with_presets(&[RedactPreset::Email, RedactPreset::CardNumber]);
    /// let message = Message::user("ann@example.com pays with 4111 1111 1111 1111");
    /// assert_eq!(redactor.redact(message).text(), "[REDACTED] pays with [REDACTED]");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn with_presets(mut self, presets: &[RedactPreset]) -> Self {
        self.presets.extend(presets);
        self.presets.sort_unstable();
        self.presets.dedup();
        self
    }

    /// The message without the secrets.
    #[must_use]
    pub fn redact(&self, message: Message) -> Message {
        Pass::new(self).message(message)
    }

    /// As [`redact`](Self::redact). Adds what was replaced to `redactions`.
    #[must_use]
    pub fn redact_counting(&self, message: Message, redactions: &mut Redactions) -> Message {
        let pass = Pass::new(self);
        let message = pass.message(message);
        redactions.add(pass.redactions.into_inner());
        message
    }

    /// Redacts a JSON value that is not a message, at any depth. Adds what was replaced to `redactions`.
    #[must_use]
    pub fn redact_json_counting(&self, mut value: Json, redactions: &mut Redactions) -> Json {
        let pass = Pass::new(self);
        pass.redact_any(&mut value, 0);
        redactions.add(pass.redactions.into_inner());
        value
    }

    /// Redacts a text that is not a message, such as a model's answer.
    #[must_use]
    pub fn redact_string(&self, text: String) -> String {
        self.redact_string_counting(text, &mut Redactions::default())
    }

    /// As [`redact_string`](Self::redact_string). Adds what was replaced to `redactions`.
    #[must_use]
    pub fn redact_string_counting(&self, mut text: String, redactions: &mut Redactions) -> String {
        let pass = Pass::new(self);
        pass.redact_text(&mut text, 0);
        redactions.add(pass.redactions.into_inner());
        text
    }
}

/// The redaction of one message or text.
struct Pass<'r> {
    redactor: &'r Redactor,
    redactions: RefCell<Redactions>,
}

impl<'r> Pass<'r> {
    fn new(redactor: &'r Redactor) -> Self {
        Self { redactor, redactions: RefCell::default() }
    }

    fn message(&self, mut message: Message) -> Message {
        if let Some(plain) = message.as_plain_mut() {
            self.redact_text(&mut plain.text, 0);
            let is_tool = matches!(plain.role, Role::Tool | Role::Function);
            if let Some(name) = plain.name.as_mut().filter(|name| !is_tool || !links::is_name(name))
            {
                self.redact_text(name, 0);
            }
            return message;
        }
        let dialect = message.dialect();
        // An unknown role may be any text.
        let has_free_role = matches!(message.role(), Role::Other(_));
        let mut json = Json::from(message);
        if let Some(role) = json.as_object_mut().and_then(|object| object.get_mut("role"))
            && has_free_role
        {
            self.redact_any(role, 0);
        }
        let fields = dialect.message_fields(&json);
        let kept: Vec<_> =
            links::unlisted(&mut json, dialect).into_iter().map(|link| link.clone()).collect();
        if let Some(object) = json.as_object_mut() {
            self.redact_fields(object, fields, dialect);
        }
        let links = links::unlisted(&mut json, dialect);
        if links.len() == kept.len() {
            for (redacted, link) in links.into_iter().zip(kept) {
                if link.as_str().is_some_and(links::is_name) {
                    *redacted = link;
                }
            }
        }
        Message::from_any(json)
    }

    /// The redacted text; `None` if it has no secrets.
    fn replaced(&self, text: &str) -> Option<String> {
        self.replace(text, self.matches(text))
    }

    /// The places of the secrets, in any order.
    fn matches(&self, text: &str) -> Vec<Range<usize>> {
        let mut found = Vec::new();
        for preset in &self.redactor.presets {
            let before = found.len();
            preset.find(text, &mut found);
            if found.len() > before {
                self.redactions.borrow_mut().found_by_preset(*preset);
            }
        }
        for (index, pattern) in self.redactor.patterns.iter().enumerate() {
            let before = found.len();
            let matches = pattern.find_iter(text).map(|found| found.range());
            found.extend(matches.filter(|range| !range.is_empty()));
            if found.len() > before {
                self.redactions.borrow_mut().found_by_pattern(index);
            }
        }
        found
    }

    /// Like [`replaced`](Self::replaced); the text may have escapes without being JSON.
    fn replaced_unescaped(&self, text: &str) -> Option<String> {
        let mut found = self.matches(text);
        let mut level = Decoded::of(text);
        for _ in 0..MAX_LEVELS {
            let Some(decoded) = level else { break };
            let matches = self.matches(&decoded.text);
            found.extend(matches.iter().filter_map(|range| decoded.original(range)));
            level = decoded.again();
        }
        self.replace(text, found)
    }

    /// Replaces these places; `None` if there are none.
    fn replace(&self, text: &str, mut places: Vec<Range<usize>>) -> Option<String> {
        if places.is_empty() {
            return None;
        }
        places.sort_unstable_by_key(|range| range.start);
        let mut replaced = String::with_capacity(text.len());
        let mut kept_from = 0;
        for place in places {
            // A match that overlaps the previous one only extends it.
            if place.start >= kept_from {
                replaced.push_str(text.get(kept_from..place.start)?);
                replaced.push_str(&self.redactor.replacement);
                self.redactions.borrow_mut().replaced_one();
            }
            kept_from = kept_from.max(place.end);
        }
        replaced.push_str(text.get(kept_from..)?);
        Some(replaced)
    }

    /// Redacts a string that a person, model or tool wrote, nested in `strings` other strings. Returns whether it
    /// changed.
    fn redact_text(&self, text: &mut String, strings: usize) -> bool {
        if is_data_url(text) {
            return false;
        }
        let may_be_json = strings < MAX_LEVELS && text.trim_start().starts_with(['{', '[', '"']);
        let inner = may_be_json.then(|| Json::parse(text).ok()).flatten();
        let Some(mut json) = inner else {
            return self.replaced_unescaped(text).map(|replaced| *text = replaced).is_some();
        };
        let mut has_changed = self.redact_any(&mut json, strings + 1);
        if has_changed {
            *text = json.to_string();
        }
        // A pattern may match across punctuation. The string must remain JSON even then.
        if let Some(replaced) = self.replaced(text) {
            let is_valid = Json::parse(&replaced).is_ok();
            *text = if is_valid { replaced } else { Json::String(replaced).to_string() };
            has_changed = true;
        }
        has_changed
    }

    /// Redacts a value that no dialect describes. Returns whether it changed.
    fn redact_any(&self, value: &mut Json, strings: usize) -> bool {
        match value {
            Json::Null | Json::Bool(_) => false,
            Json::Number(number) => match self.replaced(&number.to_string()) {
                Some(replaced) => {
                    *value = Json::String(replaced);
                    true
                }
                None => false,
            },
            Json::String(text) => self.redact_text(text, strings),
            Json::Array(items) => items
                .iter_mut()
                .fold(false, |changed, item| self.redact_any(item, strings) | changed),
            Json::Object(object) => {
                let changed = object
                    .iter_mut()
                    .fold(false, |changed, (_, value)| self.redact_any(value, strings) | changed);
                self.redact_keys(object, &[]) | changed
            }
        }
    }

    /// Redacts keys that are not among these fields. If keys become equal, all but the first get a number.
    fn redact_keys(&self, object: &mut JsonObject, fields: &[Field]) -> bool {
        let redacted = |key: &str| {
            let mut text = key.to_owned();
            let is_known = fields.iter().any(|field| field.name == key);
            (!is_known && self.redact_text(&mut text, 0)).then_some(text)
        };
        let mut keys: Vec<_> = object.iter().map(|(key, _)| redacted(key)).collect();
        if keys.iter().all(Option::is_none) {
            return false;
        }
        let mut taken: HashSet<String> = object
            .iter()
            .zip(&keys)
            .filter(|(_, redacted)| redacted.is_none())
            .map(|((key, _), _)| key.to_owned())
            .collect();
        let mut numbers: HashMap<String, u64> = HashMap::new();
        for key in keys.iter_mut().flatten() {
            let number = numbers.entry(key.clone()).or_default();
            let mut free = key.clone();
            while !taken.insert(free.clone()) {
                *number += 1;
                free = format!("{key} {}", *number + 1);
            }
            *key = free;
        }
        object.rename(keys);
        true
    }

    /// Redacts an object whose fields the dialect knows.
    fn redact_fields(&self, object: &mut JsonObject, fields: &[Field], dialect: Dialect) {
        let is_text = Holds::data_is_text(object);
        for (key, value) in object.iter_mut() {
            match fields.iter().find(|field| field.name == key).map(|field| field.holds) {
                Some(Holds::DataByType) if !is_text => self.redact_media(value),
                Some(holds) => self.redact_field(value, holds, dialect),
                None => {
                    self.redact_any(value, 0);
                }
            }
        }
        self.redact_keys(object, fields);
    }

    /// Redacts objects in a field without text, because settings may contain anything. `key` is the key above the
    /// value within that object.
    fn redact_settings(&self, value: &mut Json, key: Option<&str>) {
        match value {
            Json::Array(items) => {
                items.iter_mut().for_each(|item| self.redact_settings(item, key));
            }
            Json::Object(object) => {
                object.iter_mut().for_each(|(key, value)| self.redact_settings(value, Some(key)));
                self.redact_keys(object, &[]);
            }
            _ if key.is_none_or(is_compared) => {}
            _ => {
                self.redact_any(value, 0);
            }
        }
    }

    /// Redacts URLs of media, but not base64 and arrays of bytes, whose digits are meaningless.
    fn redact_media(&self, value: &mut Json) {
        match value {
            Json::String(text) if !is_base64_of_media(text) => {
                self.redact_text(text, 0);
            }
            Json::Array(items) => items.iter_mut().for_each(|item| self.redact_media(item)),
            Json::Object(object) => {
                object.iter_mut().for_each(|(_, value)| self.redact_media(value));
            }
            _ => {}
        }
    }

    fn redact_field(&self, value: &mut Json, holds: Holds, dialect: Dialect) {
        match (holds, value) {
            (Holds::Opaque, _) => {}
            (Holds::Protocol, value) => self.redact_settings(value, None),
            (Holds::Media, value) => self.redact_media(value),
            (Holds::Members(fields), Json::Object(object)) => {
                self.redact_fields(object, fields, dialect);
            }
            (Holds::Members(fields), Json::Array(items)) => {
                for item in items {
                    self.redact_field(item, Holds::Members(fields), dialect);
                }
            }
            (Holds::Parts, Json::Array(items)) => {
                for item in items {
                    self.redact_field(item, Holds::Parts, dialect);
                }
            }
            (Holds::Parts, part @ Json::Object(_)) => match dialect.part_fields(part) {
                Some(fields) => {
                    self.redact_field(part, Holds::Members(fields), dialect);
                }
                None => {
                    self.redact_any(part, 0);
                }
            },
            (_, value) => {
                self.redact_any(value, 0);
            }
        }
    }
}

/// Whether the text is the data of a medium, whose digits are meaningless.
fn is_data_url(text: &str) -> bool {
    let data = text.strip_prefix("data:").and_then(|rest| rest.split_once(";base64,"));
    data.is_some_and(|(kind, data)| kind.len() < 100 && is_base64(data))
}

/// Whether the text is base64, with or without line breaks. The URL-safe alphabet is recognized only in long texts.
fn is_base64_of_media(text: &str) -> bool {
    const LONG: usize = 64;
    let is_part = |byte: u8| {
        byte.is_ascii_alphanumeric()
            || matches!(byte, b'+' | b'/' | b'-' | b'_' | b'=' | b'\r' | b'\n')
    };
    is_base64(text) || text.len() >= LONG && text.bytes().all(is_part)
}

/// Whether the text is base64 in one line, without the hyphen of the URL-safe alphabet.
fn is_base64(text: &str) -> bool {
    let data = text.trim_end_matches('=');
    text.len() - data.len() <= 2
        && data.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'))
}

/// Whether providers compare the value with this key among the settings of a part.
fn is_compared(key: &str) -> bool {
    matches!(key, "id" | "type")
        || ["Id", "_id", "ignature", "ncryptedContent", "ncrypted_content", "edactedData"]
            .iter()
            .any(|end| key.ends_with(end))
}

#[cfg(test)]
mod tests;
