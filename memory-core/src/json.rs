//! A lossless JSON tree: members in their order, numbers as their original text.

mod convert;
mod error;
mod number;
mod object;
mod parse;
mod write;

pub use self::error::{JsonError, JsonErrorKind};
pub use self::number::JsonNumber;
pub use self::object::JsonObject;

/// The number of levels of arrays and objects that a text may have, as in `serde_json`.
pub const MAX_JSON_DEPTH: usize = 127;

/// A JSON value that is written as it was read, apart from white space and escapes in strings.
///
/// | | `Json` | `serde_json::Value` (default features) |
/// | --- | --- | --- |
/// | order of members | kept | sorted |
/// | repeated key | refused | last one wins |
/// | `12345678901234567890123` | kept | becomes a float |
/// | `1.0`, `1e2`, `-0`, `1e400` | kept as text | `1.0`, `100.0`, `-0.0`, refused |
///
/// Two values are equal if they hold the same members, in whatever order, and the same text of each
/// number: `1.0` is not `1`.
///
/// ```
/// use memory_core::json::Json;
///
/// let text = r#"{"role":"user","id":12345678901234567890123,"x":1e400}"#;
/// let json = Json::parse(text)?;
/// assert_eq!(json.get("role").and_then(Json::as_str), Some("user"));
/// assert_eq!(json.to_string(), text);
/// # Ok::<(), memory_core::json::JsonError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Json {
    /// `null`.
    #[default]
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number.
    Number(JsonNumber),
    /// A string.
    String(String),
    /// An array.
    Array(Vec<Json>),
    /// An object.
    Object(JsonObject),
}

impl Json {
    /// The bytes that it occupies apart from its own size.
    pub(crate) fn heap_bytes(&self) -> usize {
        match self {
            Self::Null | Self::Bool(_) => 0,
            Self::Number(number) => number.heap_bytes(),
            Self::String(text) => text.capacity(),
            Self::Array(items) => {
                let inner: usize = items.iter().map(Self::heap_bytes).sum();
                items.capacity() * size_of::<Self>() + inner
            }
            Self::Object(object) => object.heap_bytes(),
        }
    }

    /// Reads one value from a text. A byte order mark before it is skipped.
    ///
    /// # Errors
    /// [`JsonError`] with the kind, the line and column, and the path; it never quotes a value.
    pub fn parse(text: &str) -> Result<Self, JsonError> {
        parse::whole(text, parse::Surrogates::Refuse).map(|(json, _)| json)
    }

    /// As [`parse`](Self::parse), but writes U+FFFD for each lone surrogate escape (`\ud83d` without its
    /// other half), and returns how many it replaced.
    ///
    /// # Errors
    /// As [`parse`](Self::parse), without [`JsonErrorKind::LoneSurrogate`].
    pub fn parse_replacing_surrogates(text: &str) -> Result<(Self, usize), JsonError> {
        parse::whole(text, parse::Surrogates::Replace)
    }

    /// Reads the first value of a text and returns the rest, for objects that were written one after the other
    /// without a line break.
    ///
    /// # Errors
    /// As [`parse`](Self::parse), without those that concern the rest.
    pub fn parse_prefix(text: &str) -> Result<(Self, &str), JsonError> {
        parse::prefix(text)
    }

    /// Reads one value from bytes, which must be UTF-8.
    ///
    /// # Errors
    /// As [`parse`](Self::parse), and [`JsonErrorKind::Utf16`] or [`JsonErrorKind::NotUtf8`] for text in
    /// another encoding.
    pub fn parse_bytes(bytes: &[u8]) -> Result<Self, JsonError> {
        parse::bytes(bytes)
    }

    /// The member with this key, if this is an object that has one.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Self> {
        self.as_object()?.get(key)
    }

    /// The member with this key, if it is a string.
    #[must_use]
    pub fn get_str(&self, key: &str) -> Option<&str> {
        self.get(key)?.as_str()
    }

    /// The string.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        if let Self::String(text) = self { Some(text) } else { None }
    }

    /// The string, to change it.
    #[must_use]
    pub fn as_string_mut(&mut self) -> Option<&mut String> {
        if let Self::String(text) = self { Some(text) } else { None }
    }

    /// The truth value.
    #[must_use]
    pub fn as_bool(&self) -> Option<bool> {
        if let Self::Bool(value) = self { Some(*value) } else { None }
    }

    /// The number.
    #[must_use]
    pub fn as_number(&self) -> Option<&JsonNumber> {
        if let Self::Number(number) = self { Some(number) } else { None }
    }

    /// The number, if it is an integer in the range of a `u64`.
    #[must_use]
    pub fn as_u64(&self) -> Option<u64> {
        self.as_number()?.as_u64()
    }

    /// The elements of the array.
    #[must_use]
    pub fn as_array(&self) -> Option<&[Self]> {
        if let Self::Array(items) = self { Some(items) } else { None }
    }

    /// The elements of the array, to change them.
    #[must_use]
    pub fn as_array_mut(&mut self) -> Option<&mut Vec<Self>> {
        if let Self::Array(items) = self { Some(items) } else { None }
    }

    /// The members of the object.
    #[must_use]
    pub fn as_object(&self) -> Option<&JsonObject> {
        if let Self::Object(object) = self { Some(object) } else { None }
    }

    /// The members of the object, to change them.
    #[must_use]
    pub fn as_object_mut(&mut self) -> Option<&mut JsonObject> {
        if let Self::Object(object) = self { Some(object) } else { None }
    }

    /// Whether this is `null`.
    #[must_use]
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }
}

#[cfg(test)]
mod tests;
