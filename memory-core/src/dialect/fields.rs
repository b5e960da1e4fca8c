//! The known fields of each dialect, as data.

use crate::json::{Json, JsonObject};

/// A place in a message with a separate set of fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Position<'k> {
    /// A message, an object with a role; in Responses also an item of type `message`.
    Message,
    /// An item without a role (Responses), by its `type`.
    Item(&'k str),
    /// An element of the content, by its `type`, or by its key in Bedrock. In Gemini all have the same fields.
    Part(&'k str),
}

/// A field that a dialect's requests may contain.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Field {
    /// The key.
    pub name: &'static str,
    /// The kind of its content.
    pub holds: Holds,
    /// Whether only some providers of the dialect accept it.
    pub is_extension: bool,
}

/// The kind of content of a field.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Holds {
    /// A role, type, id, tool name, or setting: not written by a person.
    Protocol,
    /// Content that a person, model or tool wrote, as text or any JSON.
    Content,
    /// A signature or encrypted content, which must not change.
    Opaque,
    /// Base64 or the URL of a medium.
    Media,
    /// Text if the `type` beside it is `text`, else base64.
    DataByType,
    /// An object with these fields, or an array of them. A value in another form is content.
    Members(&'static [Field]),
    /// A text, or an array of parts of the same dialect.
    Parts,
}

impl Holds {
    /// Whether a field of this object that holds [`DataByType`](Self::DataByType) is text.
    pub(crate) fn data_is_text(object: &JsonObject) -> bool {
        object.get("type").and_then(Json::as_str) == Some("text")
    }
}

const fn field(name: &'static str, holds: Holds) -> Field {
    Field { name, holds, is_extension: false }
}

pub(super) const fn protocol(name: &'static str) -> Field {
    field(name, Holds::Protocol)
}

pub(super) const fn content(name: &'static str) -> Field {
    field(name, Holds::Content)
}

pub(super) const fn opaque(name: &'static str) -> Field {
    field(name, Holds::Opaque)
}

pub(super) const fn media(name: &'static str) -> Field {
    field(name, Holds::Media)
}

pub(super) const fn members(name: &'static str, fields: &'static [Field]) -> Field {
    field(name, Holds::Members(fields))
}

pub(super) const fn parts(name: &'static str) -> Field {
    field(name, Holds::Parts)
}

pub(super) const fn extension(field: Field) -> Field {
    Field { is_extension: true, ..field }
}

/// The fields of parts or items, by their tag.
pub(super) type Table = &'static [(&'static str, &'static [Field])];

/// The fields of the part or item with this tag.
pub(super) fn find(table: Table, tag: &str) -> Option<&'static [Field]> {
    table.iter().find(|(name, _)| *name == tag).map(|(_, fields)| *fields)
}
