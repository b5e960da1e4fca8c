//! Messages: one type for all dialects, lossless.

mod call;
mod clear;
mod error;
mod length;
mod role;
mod withhold;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::Value;

pub use self::call::ToolCall;
pub use self::error::MessageError;
pub use self::role::Role;
use crate::dialect::{Dialect, NAME, Part, PlainMessage, calls_message, check_entry};
use crate::json::{Json, JsonObject, MAX_JSON_DEPTH};

/// A message of one of the [dialects](crate::dialect). Reading it from JSON and writing it again gives an
/// equal JSON value with the text of every number unchanged. Clones share one copy.
///
/// ```
/// use memory_core::Message;
/// use memory_core::json::Json;
///
/// let text = r#"{"role":"user","content":"Book me a flight","x-trace":12345678901234567890123}"#;
/// let message = Message::from_json(text)?;
/// assert_eq!(message.text(), "Book me a flight");
/// assert_eq!(Json::parse(&message.to_json()?).unwrap(), Json::parse(text).unwrap());
/// # Ok::<(), memory_core::MessageError>(())
/// ```
#[derive(Clone, PartialEq)]
pub struct Message(Repr);

#[derive(Clone, PartialEq)]
enum Repr {
    /// Most messages: a role and a text. Every message that has this form is kept in it, so that equal
    /// messages are equal.
    Plain(Arc<PlainMessage>),
    Full(Arc<Full>),
}

#[derive(Clone, PartialEq)]
struct Full {
    json: Json,
    /// How it is read; [`Dialect::Chat`] if none is detected.
    dialect: Dialect,
    role: Role,
}

impl Message {
    /// A message of this role with text content.
    #[must_use]
    pub fn new(role: Role, text: impl Into<String>) -> Self {
        Self::plain(PlainMessage::new(role, text.into()))
    }

    /// A system prompt.
    #[must_use]
    pub fn system(text: impl Into<String>) -> Self {
        Self::new(Role::System, text)
    }

    /// A text of the user.
    #[must_use]
    pub fn user(text: impl Into<String>) -> Self {
        Self::new(Role::User, text)
    }

    /// A text of the model.
    ///
    /// # Examples
    ///
    /// ```
    /// use memory_core::{Message, Role};
    ///
    /// let message = Message::assistant("Your parcel is in Oslo.");
    /// assert_eq!(message.role(), &Role::Assistant);
    /// let json = r#"{"role":"assistant","content":"Your parcel is in Oslo."}"#;
    /// assert_eq!(message, Message::from_json(json)?);
    /// # Ok::<(), memory_core::MessageError>(())
    /// ```
    #[must_use]
    pub fn assistant(text: impl Into<String>) -> Self {
        Self::new(Role::Assistant, text)
    }

    /// The model's calls of tools, without text (`"content": null`).
    ///
    /// # Examples
    ///
    /// ```
    /// use memory_core::Message;
    /// use memory_core::dialect::ToolCall;
    ///
    /// let call = ToolCall::function("call-1", "weather", r#"{"city":"Oslo"}"#);
    /// let message = Message::calls([call]);
    /// assert_eq!(message.tool_link().calls[0].label(), "call-1");
    /// ```
    #[must_use]
    pub fn calls(calls: impl IntoIterator<Item = ToolCall>) -> Self {
        let json = calls_message(calls);
        Self::full(Full { json, dialect: Dialect::Chat, role: Role::Assistant })
    }

    /// The result of the call with this id.
    ///
    /// # Examples
    ///
    /// ```
    /// use memory_core::{Message, Role};
    ///
    /// let result = Message::tool_result("call-1", "rain").with_name("weather");
    /// assert_eq!(result.role(), &Role::Tool);
    /// assert_eq!(result.text(), "rain");
    /// assert_eq!(result.tool_link().results[0].label(), "call-1");
    /// ```
    #[must_use]
    pub fn tool_result(call_id: impl Into<String>, text: impl Into<String>) -> Self {
        let call_id = Some(call_id.into()).filter(|id| !id.is_empty());
        Self::plain(PlainMessage { call_id, ..PlainMessage::new(Role::Tool, text.into()) })
    }

    /// The same message from a named speaker, or of a named tool.
    #[must_use]
    pub fn with_name(self, name: impl Into<String>) -> Self {
        match self.0 {
            Repr::Plain(plain) => {
                let plain = Arc::unwrap_or_clone(plain);
                Self::plain(PlainMessage { name: Some(name.into()), ..plain })
            }
            Repr::Full(_) => self.with_field(NAME, name.into()),
        }
    }

    /// The same message with this field beside the others, or in place of the one with this key. Fields that
    /// no dialect knows, such as a trace id, are kept and not sent.
    ///
    /// ```
    /// use memory_core::Message;
    ///
    /// let message = Message::user("hi").with_field("trace", 7_u64);
    /// assert_eq!(message.field("trace").and_then(|trace| trace.as_u64()), Some(7));
    /// ```
    #[must_use]
    pub fn with_field(self, key: impl Into<String>, value: impl Into<Json>) -> Self {
        let mut json = Json::from(self);
        if let Some(object) = json.as_object_mut() {
            object.insert(key, value);
        }
        Self::from_any(json)
    }

    /// Reads a message from JSON.
    ///
    /// # Examples
    ///
    /// ```
    /// use memory_core::Message;
    /// use memory_core::dialect::Dialect;
    ///
    /// // The format of Anthropic's Messages API.
    /// let text = r#"{"role":"user","content":[{"type":"tool_result","tool_use_id":"t-1","content":"rain"}]}"#;
    /// let message = Message::from_json(text)?;
    /// assert_eq!(message.dialect(), Dialect::Anthropic);
    /// assert!(Message::from_json(r#"{"content":"a message without a role"}"#).is_err());
    /// # Ok::<(), memory_core::MessageError>(())
    /// ```
    ///
    /// # Errors
    /// [`MessageError`] names the place and the expected form, and never quotes the content. Refused are a key
    /// that an object has twice, an object in which no dialect finds a role or type, and an unknown role without
    /// anything that can be read.
    pub fn from_json(text: &str) -> Result<Self, MessageError> {
        match PlainMessage::parse(text) {
            Some(plain) => Ok(Self::plain(plain)),
            None => Self::try_from(Json::parse(text)?),
        }
    }

    /// Reads a message from a JSON value, whose numbers have the precision of an `f64`, `i64` or `u64` already.
    ///
    /// # Errors
    /// As [`from_json`](Self::from_json).
    pub fn from_value(value: Value) -> Result<Self, MessageError> {
        Self::try_from(Json::from(value))
    }

    /// Reads a message that a store has written, of this version or an earlier one. Also accepts messages that no
    /// dialect recognizes.
    ///
    /// # Errors
    /// [`MessageError`] for text that is no JSON object.
    pub fn from_stored_json(text: &str) -> Result<Self, MessageError> {
        match PlainMessage::parse(text) {
            Some(plain) => Ok(Self::plain(plain)),
            None => Self::lenient(Json::parse(text)?),
        }
    }

    fn lenient(json: Json) -> Result<Self, MessageError> {
        if json.as_object().is_none() {
            return Err(MessageError::field("the message", "a JSON object"));
        }
        Ok(Self::from_any(json))
    }

    /// A message from any JSON object.
    pub(crate) fn from_any(json: Json) -> Self {
        let json = match PlainMessage::from_json(json) {
            Ok(plain) => return Self::plain(plain),
            Err(json) => json,
        };
        let dialect = Dialect::detect(&json).unwrap_or(Dialect::Chat);
        let role = dialect.role(&json).unwrap_or_else(|| Role::Other("".into()));
        Self::full(Full { json, dialect, role })
    }

    /// The message as JSON, validated: a store's last chance to refuse it.
    ///
    /// # Errors
    /// [`MessageError`] for a message that [`from_json`](Self::from_json) would refuse, such as one whose role
    /// is empty.
    pub fn to_json(&self) -> Result<String, MessageError> {
        match &self.0 {
            Repr::Plain(plain) => {
                if plain.role.as_str().trim().is_empty() {
                    return Err(MessageError::field("`role`", "a non-empty string"));
                }
                // Reserve enough for typical text and framing, so that the buffer does not grow in steps.
                let mut text = Vec::with_capacity(plain.text.len() + plain.text.len() / 16 + 64);
                let broken = || MessageError::field("the message", "writable as JSON");
                serde_json::to_writer(&mut text, &**plain).map_err(|_| broken())?;
                String::from_utf8(text).map_err(|_| broken())
            }
            Repr::Full(full) => {
                if !is_within(&full.json, MAX_JSON_DEPTH) {
                    let expected = "nested less deep: 127 levels at most";
                    return Err(MessageError::field("the message", expected));
                }
                check_entry(&full.json)?;
                Ok(full.json.to_string())
            }
        }
    }

    /// The message as a JSON object of `serde_json`, a convenience that loses the text of numbers beyond `i64`,
    /// `u64` and `f64`, as [`Json::to_value`] describes. Serializing the message loses nothing.
    #[must_use]
    pub fn to_value(&self) -> Value {
        self.as_json().to_value()
    }

    /// The message as a JSON object.
    #[must_use]
    pub fn as_json(&self) -> Cow<'_, Json> {
        match &self.0 {
            Repr::Plain(plain) => Cow::Owned(plain.to_json()),
            Repr::Full(full) => Cow::Borrowed(&full.json),
        }
    }

    /// The field of the JSON object with this key.
    #[must_use]
    pub fn field(&self, key: &str) -> Option<Cow<'_, Json>> {
        match self.as_json() {
            Cow::Borrowed(json) => json.get(key).map(Cow::Borrowed),
            Cow::Owned(json) => json.get(key).cloned().map(Cow::Owned),
        }
    }

    /// The dialect that it is read in.
    #[must_use]
    pub fn dialect(&self) -> Dialect {
        match &self.0 {
            Repr::Plain(_) => Dialect::Chat,
            Repr::Full(full) => full.dialect,
        }
    }

    /// The role in its dialect, compared without surrounding white space and case. An unknown role counts as the
    /// user's.
    #[must_use]
    pub fn role(&self) -> &Role {
        match &self.0 {
            Repr::Plain(plain) => &plain.role,
            Repr::Full(full) => &full.role,
        }
    }

    /// The `name` of the message: of its author or, on a tool's result, of the tool.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        match &self.0 {
            Repr::Plain(plain) => plain.name.as_deref(),
            Repr::Full(full) => full.json.get_str(NAME),
        }
    }

    /// The name of the author, if the message states one.
    #[must_use]
    pub fn author(&self) -> Option<&str> {
        match &self.0 {
            Repr::Plain(plain) => plain.author(),
            Repr::Full(full) => full.dialect.author(&full.json),
        }
    }

    /// Calls `visit` with each part, in order. A plain text costs no allocation.
    pub fn read<'a>(&'a self, visit: &mut dyn FnMut(Part<'a>)) {
        match &self.0 {
            Repr::Plain(plain) => plain.read(visit),
            Repr::Full(full) => full.dialect.read(&full.json, visit),
        }
    }

    /// The parts, in order: texts, media, reasoning, calls and results. Works for every dialect.
    ///
    /// ```
    /// use memory_core::dialect::Part;
    /// use memory_core::Message;
    /// use memory_core::dialect::ToolCall;
    ///
    /// let answer = Message::calls([ToolCall::function("call_1", "weather", r#"{"city":"Oslo"}"#)]);
    /// for part in answer.parts() {
    ///     if let Part::Call(call) = part {
    ///         assert_eq!((call.id, call.name), (Some("call_1"), "weather"));
    ///         assert_eq!(call.arguments.to_text(), r#"{"city":"Oslo"}"#);
    ///     }
    /// }
    /// ```
    #[must_use]
    pub fn parts(&self) -> Vec<Part<'_>> {
        let mut parts = Vec::new();
        self.read(&mut |part| parts.push(part));
        parts
    }

    /// The text of its text parts and results, joined by line breaks.
    #[must_use]
    pub fn text(&self) -> Cow<'_, str> {
        let mut joined = None;
        self.read(&mut |part| join_text(part, &mut joined));
        joined.unwrap_or_default()
    }

    /// Whether it has no content: no part, or only white space.
    #[must_use]
    pub fn is_blank(&self) -> bool {
        let mut is_blank = true;
        self.read(&mut |part| {
            is_blank &= part.is_blank();
        });
        is_blank
    }

    /// The bytes that it occupies apart from its own size, shared with its clones.
    pub(crate) fn heap_bytes(&self) -> usize {
        2 * size_of::<usize>()
            + match &self.0 {
                Repr::Plain(plain) => size_of::<PlainMessage>() + plain.heap_bytes(),
                Repr::Full(full) => {
                    size_of::<Full>() + full.json.heap_bytes() + full.role.heap_bytes()
                }
            }
    }

    fn plain(plain: PlainMessage) -> Self {
        Self(Repr::Plain(Arc::new(plain)))
    }

    fn full(full: Full) -> Self {
        Self(Repr::Full(Arc::new(full)))
    }

    pub(crate) fn as_plain(&self) -> Option<&PlainMessage> {
        match &self.0 {
            Repr::Plain(plain) => Some(plain),
            Repr::Full(_) => None,
        }
    }

    pub(crate) fn as_plain_mut(&mut self) -> Option<&mut PlainMessage> {
        match &mut self.0 {
            Repr::Plain(plain) => Some(Arc::make_mut(plain)),
            Repr::Full(_) => None,
        }
    }
}

fn join_text<'a>(part: Part<'a>, joined: &mut Option<Cow<'a, str>>) {
    let text = match part {
        Part::Text(part) => part.text,
        Part::Data(json) => Cow::Owned(json.to_string()),
        Part::Result(result) => {
            return result.content.into_iter().for_each(|part| join_text(part, joined));
        }
        _ => return,
    };
    match joined {
        None => *joined = Some(text),
        Some(before) => {
            let before = before.to_mut();
            before.push('\n');
            before.push_str(&text);
        }
    }
}

/// Whether the value has at most this many levels, which also bounds the recursion.
fn is_within(json: &Json, levels: usize) -> bool {
    let inner = |value: &Json| levels.checked_sub(1).is_some_and(|rest| is_within(value, rest));
    match json {
        Json::Array(items) => levels > 0 && items.iter().all(inner),
        Json::Object(object) => levels > 0 && object.iter().all(|(_, value)| inner(value)),
        _ => true,
    }
}

impl<'a> From<&'a Message> for Cow<'a, Message> {
    fn from(message: &'a Message) -> Self {
        Cow::Borrowed(message)
    }
}

impl From<Message> for Cow<'_, Message> {
    fn from(message: Message) -> Self {
        Cow::Owned(message)
    }
}

impl TryFrom<Json> for Message {
    type Error = MessageError;

    /// As [`Message::from_json`].
    fn try_from(json: Json) -> Result<Self, MessageError> {
        check_entry(&json)?;
        Ok(Self::from_any(json))
    }
}

impl From<Message> for Json {
    fn from(message: Message) -> Self {
        match message.0 {
            Repr::Plain(plain) => plain.to_json(),
            Repr::Full(full) => Arc::unwrap_or_clone(full).json,
        }
    }
}

impl fmt::Debug for Message {
    /// As JSON.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Message({})", self.as_json())
    }
}

impl Serialize for Message {
    /// The object without a copy, numbers with their text.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            Repr::Plain(plain) => plain.serialize(serializer),
            Repr::Full(full) => full.json.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Message {
    /// Accepts the same input as [`Message::from_stored_json`], because serialized values were messages before.
    /// Numbers keep their text in JSON.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::lenient(Json::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

impl From<JsonObject> for Message {
    /// Accepts any object, as [`Message::from_stored_json`]; a store refuses one that is no message.
    fn from(object: JsonObject) -> Self {
        Self::from_any(object.into())
    }
}

#[cfg(test)]
mod tests;
