//! Size limits of messages and batches.

use std::fmt;

pub use crate::error_text::MAX_ERROR_TEXT;
use crate::json::{Json, JsonNumber, JsonObject};
pub use crate::key::{MAX_KEY_BYTES, MAX_KEY_PART_BYTES};
use crate::message::Message;
use crate::policy::Entry;
use crate::priority::ContentType;
use serde::{Deserialize, Serialize};

/// Size limits of messages and batches. They protect against mistakes and attacks; they are not budgets.
///
/// A batch over a limit is refused before it is counted or sent. The checks visit each field, not each byte. Set the
/// limits in a resource:
///
/// ```
/// use memory_core::{MemoryResource, Message};
///
/// let resource = MemoryResource::from_json(
///     r#"{"id": "chat", "max_tokens": 8000, "limits": {"message_bytes": 20}}"#,
/// )?;
/// let refused = resource.limits.check(&[Message::user("It is a long story, so sit down")]);
/// assert_eq!(
///     refused.unwrap_err().to_string(),
///     "message 0 has 35 bytes, over the limit of 20: make it smaller, or raise limits.message_bytes of the resource",
/// );
/// # Ok::<(), memory_core::ResourceError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct Limits {
    /// The most bytes of one message: its texts, field names and numbers, without the punctuation of JSON. Default:
    /// 16 MiB, which is more than any context window holds; such a message is usually a file that was pasted by
    /// mistake.
    pub message_bytes: u64,
    /// The maximum nesting of arrays and objects of one message, including the message itself; at most
    /// [`Limits::MOST_NESTING`]. Default: 100.
    pub nesting: u32,
    /// The most messages of one batch. Default: 10,000, because a batch is one step of the store, and all other
    /// writes wait for it.
    pub batch_messages: u64,
    /// The most bytes of one batch. Default: 64 MiB, because other writes wait for it.
    pub batch_bytes: u64,
    /// The most custom content types ([`ContentType::Custom`]) in one memory, as far as its writers can see; 0 allows
    /// none. Default: 64, because each type has a counter that is updated with every write. A more specific label,
    /// such as an id, belongs in a field of the message.
    pub content_types: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_bytes: 16 << 20,
            nesting: 100,
            batch_messages: 10_000,
            batch_bytes: 64 << 20,
            content_types: 64,
        }
    }
}

impl Limits {
    /// The deepest nesting that can be allowed. `serde_json` reads 127 levels, so deeper values could be written but
    /// never read again. The remaining levels are for structures that contain messages, such as the array of a
    /// request.
    pub const MOST_NESTING: u32 = 120;

    /// Checks a batch.
    ///
    /// # Errors
    /// The first limit that is exceeded.
    pub fn check<'a>(
        &self,
        messages: impl IntoIterator<Item = &'a Message>,
    ) -> Result<(), LimitError> {
        let mut batch = BatchSize::new(*self);
        messages.into_iter().try_for_each(|message| batch.add(message))
    }

    /// The longest JSON line that a message can have: JSON may write a character in up to six bytes, and other fields
    /// are stored beside the message.
    #[must_use]
    pub const fn line_bytes(&self) -> u64 {
        self.message_bytes.saturating_mul(6).saturating_add(4_096)
    }
}

/// Measures a batch message by message.
///
/// ```
/// use memory_core::Message;
/// use memory_core::limits::{BatchSize, Limits};
///
/// let mut limits = Limits::default();
/// limits.batch_messages = 1;
/// let mut batch = BatchSize::new(limits);
/// batch.add(&Message::user("a"))?;
/// assert!(batch.add(&Message::user("b")).is_err());
/// # Ok::<(), memory_core::limits::LimitError>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct BatchSize {
    limits: Limits,
    messages: u64,
    bytes: u64,
}

impl BatchSize {
    /// An empty batch under these limits.
    #[must_use]
    pub const fn new(limits: Limits) -> Self {
        Self { limits, messages: 0, bytes: 0 }
    }

    /// Adds an entry.
    ///
    /// # Errors
    /// The limit that the message, its content type, or the batch with it exceeds.
    pub fn add_entry(&mut self, entry: &Entry) -> Result<(), LimitError> {
        let index = usize::try_from(self.messages).unwrap_or(usize::MAX);
        self.add(&entry.message)?;
        let (found, most) =
            (entry.content_type.as_ref().map(|kind| kind.as_str().len()), ContentType::MAX_BYTES);
        match found {
            Some(found) if !(1..=most).contains(&found) => {
                let (found, most) = (found as u64, most as u64);
                Err(LimitError { kind: LimitKind::ContentTypeName, index, found, most })
            }
            _ => Ok(()),
        }
    }

    /// Adds a message.
    ///
    /// # Errors
    /// The limit that the message, or the batch with it, exceeds.
    pub fn add(&mut self, message: &Message) -> Result<(), LimitError> {
        let index = usize::try_from(self.messages).unwrap_or(usize::MAX);
        let over = |kind, found, most| Err(LimitError { kind, index, found, most });
        let Limits { message_bytes, nesting, batch_messages, batch_bytes, .. } = self.limits;
        if self.messages >= batch_messages {
            return over(LimitKind::BatchMessages, self.messages + 1, batch_messages);
        }
        let most_nesting = nesting.min(Limits::MOST_NESTING);
        let Some(bytes) = bytes_of(message, most_nesting) else {
            return over(LimitKind::Nesting, u64::from(most_nesting) + 1, u64::from(most_nesting));
        };
        if bytes > message_bytes {
            return over(LimitKind::MessageBytes, bytes, message_bytes);
        }
        let all = self.bytes.saturating_add(bytes);
        if all > batch_bytes {
            return over(LimitKind::BatchBytes, all, batch_bytes);
        }
        (self.messages, self.bytes) = (self.messages + 1, all);
        Ok(())
    }
}

/// The bytes of a message; `None` if it is nested deeper than `most_nesting`.
fn bytes_of(message: &Message, most_nesting: u32) -> Option<u64> {
    // The message is the first level.
    let inner = most_nesting.checked_sub(1)?;
    if let Some(plain) = message.as_plain() {
        let beside = [&plain.name, &plain.call_id].into_iter().flatten();
        let beside: u64 = beside.map(|text| text.len() as u64).sum();
        return Some((plain.role.as_str().len() + plain.text.len()) as u64 + beside);
    }
    match &*message.as_json() {
        Json::Object(fields) => bytes_of_fields(fields, inner),
        _ => Some(0),
    }
}

fn bytes_of_fields(fields: &JsonObject, inner: u32) -> Option<u64> {
    let bytes =
        |(name, value): (&str, &Json)| Some(name.len() as u64 + bytes_of_value(value, inner)?);
    fields.iter().map(bytes).sum()
}

/// `inner` is the number of levels that may still follow; it bounds the recursion for any value.
fn bytes_of_value(value: &Json, inner: u32) -> Option<u64> {
    /// The minimum size of any value, so that a million empty values are not free.
    const LEAST: u64 = 4;
    Some(
        LEAST
            + match value {
                Json::Null | Json::Bool(_) => 0,
                Json::Number(number) => LEAST.max(bytes_of_number(number)),
                Json::String(text) => text.len() as u64,
                Json::Array(values) => {
                    let inner = inner.checked_sub(1)?;
                    values.iter().map(|value| bytes_of_value(value, inner)).sum::<Option<u64>>()?
                }
                Json::Object(fields) => bytes_of_fields(fields, inner.checked_sub(1)?)?,
            },
    )
}

/// The length of a number that is stored as text; other numbers are stored in 64 bits.
fn bytes_of_number(number: &JsonNumber) -> u64 {
    let is_short = number.as_u64().is_some() || number.as_i64().is_some();
    if is_short { 0 } else { number.to_string().len() as u64 }
}

/// The limit that was exceeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LimitKind {
    /// [`Limits::message_bytes`].
    MessageBytes,
    /// [`Limits::nesting`].
    Nesting,
    /// [`Limits::batch_messages`].
    BatchMessages,
    /// [`Limits::batch_bytes`].
    BatchBytes,
    /// [`ContentType::MAX_BYTES`], and the minimum of one.
    ContentTypeName,
    /// [`Limits::content_types`].
    ContentTypes,
}

/// A batch exceeds a limit. Nothing of it was stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct LimitError {
    /// The exceeded limit.
    pub kind: LimitKind,
    /// The index of the message in the batch, from 0, at which the limit was exceeded.
    pub index: usize,
    /// The measured size up to that message. Measuring stops at the limit, so for nesting this is the first level
    /// that is too deep.
    pub found: u64,
    /// The allowed maximum.
    pub most: u64,
}

impl LimitError {
    /// Message `index` has `found` of a kind of which at most `most` are allowed.
    #[must_use]
    pub const fn new(kind: LimitKind, index: usize, found: u64, most: u64) -> Self {
        Self { kind, index, found, most }
    }
}

impl std::error::Error for LimitError {}

impl fmt::Display for LimitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, index, found, most } = self;
        match kind {
            LimitKind::MessageBytes => write!(
                f,
                "message {index} has {found} bytes, over the limit of {most}: make it smaller, or raise limits.message_bytes of the resource"
            ),
            LimitKind::Nesting => write!(
                f,
                "message {index} is nested deeper than the limit of {most} levels: flatten it, or raise limits.nesting of the resource (to {} at most)",
                Limits::MOST_NESTING
            ),
            LimitKind::BatchMessages => write!(
                f,
                "the batch has more than {most} messages: split it, or raise limits.batch_messages of the resource"
            ),
            LimitKind::BatchBytes => write!(
                f,
                "the batch has {found} bytes up to message {index}, over the limit of {most}: split it, or raise limits.batch_bytes of the resource"
            ),
            LimitKind::ContentTypeName => write!(
                f,
                "the content type of message {index} has {found} bytes: give it a name of 1 to {most} bytes"
            ),
            LimitKind::ContentTypes => write!(
                f,
                "message {index} would add custom content type number {found} to the memory, over the limit of {most}: use an existing type, or raise limits.content_types of the resource"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn nested(levels: u32) -> Value {
        (0..levels).fold(json!(1), |inner, _| json!([inner]))
    }

    #[test]
    fn allowed_nesting_round_trips() {
        let limits = Limits { nesting: Limits::MOST_NESTING, ..Limits::default() };
        for levels in [0, 1, 50, 116, 117, 118, 119, 120, 126, 127, 200] {
            for json in [
                json!({"role": "user", "x": nested(levels)}),
                json!({"role": "user", "content": [nested(levels)]}),
                json!({"role": "assistant", "tool_calls": [{"id": "a", "x": nested(levels)}]}),
            ] {
                let message = Message::from_value(json).unwrap();
                match limits.check([&message]) {
                    Ok(()) => {
                        let json = message.to_json().unwrap();
                        assert!(Message::from_json(&json).is_ok(), "{levels}");
                    }
                    Err(error) => {
                        assert_eq!(error.kind, LimitKind::Nesting);
                        assert!(levels > 116);
                    }
                }
            }
        }
    }

    /// Code can build values that are nested deeper than any parser allows; no stack could hold a full recursion.
    #[test]
    fn deep_value_is_refused_without_recursion() {
        let message = Message::user("").with_field("x", nested(1_000));
        let refused = Limits::default().check([&message]).unwrap_err();
        assert_eq!((refused.kind, refused.found, refused.most), (LimitKind::Nesting, 101, 100));
    }

    #[test]
    fn batch_error_names_offending_message() {
        let messages: Vec<_> = ["aaaa", "bbbb", "cccc"].map(Message::user).to_vec();
        let check = |limits: Limits| limits.check(&messages).unwrap_err();
        let refused = check(Limits { batch_bytes: 20, ..Limits::default() });
        assert_eq!((refused.kind, refused.index, refused.found), (LimitKind::BatchBytes, 2, 24));
        let refused = check(Limits { batch_messages: 2, ..Limits::default() });
        assert_eq!((refused.kind, refused.index, refused.found), (LimitKind::BatchMessages, 2, 3));
        let refused = check(Limits { message_bytes: 7, ..Limits::default() });
        assert_eq!((refused.kind, refused.index, refused.found), (LimitKind::MessageBytes, 0, 8));
        for refused in [refused, check(Limits { nesting: 0, ..Limits::default() })] {
            assert!(!refused.to_string().contains("aaaa"));
        }
        assert_eq!(Limits::default().check(&messages), Ok(()));
        let just = Limits {
            batch_bytes: 24,
            batch_messages: 3,
            message_bytes: 8,
            nesting: 1,
            ..Limits::default()
        };
        assert_eq!(just.check(&messages), Ok(()));
    }

    #[test]
    fn content_type_name_length_is_bounded() {
        let add = |name: &str| {
            let mut batch = BatchSize::new(Limits::default());
            batch.add(&Message::user("first")).unwrap();
            batch.add_entry(&Entry::new(Message::user("hi")).with_content_type(name.into()))
        };
        for name in ["n".to_owned(), "n".repeat(ContentType::MAX_BYTES), "summary".to_owned()] {
            assert_eq!(add(&name), Ok(()));
        }
        for (name, found) in [(String::new(), 0), ("n".repeat(ContentType::MAX_BYTES + 1), 129)] {
            let refused = add(&name).unwrap_err();
            assert_eq!((refused.kind, refused.index), (LimitKind::ContentTypeName, 1));
            let text = format!(
                "the content type of message 1 has {found} bytes: give it a name of 1 to 128 bytes"
            );
            assert_eq!(refused.to_string(), text);
        }
        let mut batch = BatchSize::new(Limits { batch_messages: 0, ..Limits::default() });
        let refused = batch.add_entry(&Entry::new(Message::user("hi"))).unwrap_err();
        assert_eq!(refused.kind, LimitKind::BatchMessages);
    }

    proptest! {
        #[test]
        fn message_size_is_that_of_its_texts(text in "\\PC{0,40}", name in "\\PC{0,9}") {
            let message = Message::user(&*text).with_name(&*name);
            let most = (4 + text.len() + name.len()) as u64;
            let limits = Limits { message_bytes: most, ..Limits::default() };
            prop_assert_eq!(limits.check([&message]), Ok(()));
            let limits = Limits { message_bytes: most - 1, ..Limits::default() };
            prop_assert_eq!(limits.check([&message]).unwrap_err().found, most);
        }
    }

    #[test]
    fn every_part_of_a_message_is_measured() {
        let bytes = |message: Value| {
            let message = Message::from_value(message).unwrap();
            bytes_of(&message, Limits::MOST_NESTING).unwrap()
        };
        assert_eq!(bytes(json!({"role": "user", "content": "12345", "name": "abc"})), 4 + 5 + 3);
        assert_eq!(bytes(json!({"role": "tool", "tool_call_id": "c1", "content": "r"})), 4 + 2 + 1);
        // A value takes 4 bytes, a number 8, plus the length of texts and names.
        let user = 4 + 4 + 4;
        assert_eq!(bytes(json!({"role": "user"})), user);
        assert_eq!(bytes(json!({"role": "user", "x": null, "y": true})), user + 5 + 5);
        assert_eq!(bytes(json!({"role": "user", "x": 7})), user + 1 + 8);
        assert_eq!(bytes(json!({"role": "user", "x": ["ab", 1]})), user + 1 + 4 + (4 + 2) + 8);
        assert_eq!(bytes(json!({"role": "user", "x": {"yy": "abc"}})), user + 1 + 4 + 2 + (4 + 3));
        let long = format!(r#"{{"role":"user","x":{}}}"#, "1".repeat(500));
        let long = Message::from_json(&long).unwrap();
        assert_eq!(bytes_of(&long, 100), Some(user + 1 + 4 + 500));
    }

    #[test]
    fn nesting_limit_is_exact() {
        for (message, levels) in [
            (json!({"role": "user", "content": "x"}), 1),
            (json!({"role": "user", "content": ["x"]}), 2),
            (json!({"role": "user", "content": [{"text": "x"}]}), 3),
            (json!({"role": "user", "x": [["x"]]}), 3),
            (json!({"role": "assistant", "tool_calls": [{"id": "a", "type": "function"}]}), 3),
            (json!({"role": "assistant", "tool_calls": [{"id": "a", "function": {}}]}), 4),
        ] {
            let message = Message::from_value(message).unwrap();
            let check = |nesting| Limits { nesting, ..Limits::default() }.check([&message]);
            assert_eq!(check(levels), Ok(()), "{message:?}");
            let refused = check(levels - 1).unwrap_err();
            assert_eq!((refused.kind, refused.most), (LimitKind::Nesting, u64::from(levels) - 1));
        }
        // A deeper value could not be read again.
        let deep = Message::from_value(json!({"role": "user", "x": nested(120)})).unwrap();
        let limits = Limits { nesting: u32::MAX, ..Limits::default() };
        assert_eq!(limits.check([&deep]).unwrap_err().most, 120);
    }

    #[test]
    fn longest_message_fits_into_line_bytes() {
        let message = Message::user("\u{1}".repeat(2_000));
        let limits = Limits { message_bytes: 4 + 2_000, ..Limits::default() };
        assert_eq!(limits.check([&message]), Ok(()));
        let line = message.to_json().unwrap();
        assert!(line.len() > 12_000 && line.len() as u64 <= limits.line_bytes(), "{}", line.len());
        assert_eq!(limits.line_bytes(), 6 * 2_004 + 4_096);
        let unlimited = Limits { message_bytes: u64::MAX, ..limits };
        assert_eq!(unlimited.line_bytes(), u64::MAX);
    }

    #[test]
    fn defaults_match_the_documentation() {
        let limits = Limits::default();
        assert_eq!((limits.message_bytes, limits.batch_bytes), (16_777_216, 67_108_864));
        assert_eq!((limits.nesting, limits.batch_messages), (100, 10_000));
    }

    #[test]
    fn each_limit_error_has_a_remedy() {
        let text = |kind| LimitError { kind, index: 3, found: 9, most: 8 }.to_string();
        assert_eq!(
            text(LimitKind::MessageBytes),
            "message 3 has 9 bytes, over the limit of 8: make it smaller, or raise \
             limits.message_bytes of the resource"
        );
        assert_eq!(
            text(LimitKind::Nesting),
            "message 3 is nested deeper than the limit of 8 levels: flatten it, or raise \
             limits.nesting of the resource (to 120 at most)"
        );
        assert_eq!(
            text(LimitKind::BatchMessages),
            "the batch has more than 8 messages: split it, or raise limits.batch_messages of the \
             resource"
        );
        assert_eq!(
            text(LimitKind::BatchBytes),
            "the batch has 9 bytes up to message 3, over the limit of 8: split it, or raise \
             limits.batch_bytes of the resource"
        );
    }
}
