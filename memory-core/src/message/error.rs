//! Why a text or value is not a message.

use crate::json::{JsonError, JsonErrorKind};

/// Why a text or value is not a message. The error text never quotes the message's content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MessageError {
    /// The text is not JSON, or an object has a key twice.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// `role` is missing, which nearly every message has.
    #[error("`role` is missing: add who speaks, such as \"user\"")]
    MissingRole,
    /// A field in another form than expected.
    #[error("{field} must be {expected}")]
    Field {
        /// The path of the field.
        field: String,
        /// The expected form.
        expected: &'static str,
    },
    /// The role is unknown, and the message has no readable content.
    #[error(
        "`role` is not known and the message has nothing to read: give it a known role such as \"user\", or content"
    )]
    UnknownRole,
    /// The object is in a format that is not a message of a dialect.
    #[error("this looks like {format}: convert it to one message of a supported dialect")]
    Unsupported {
        /// The name of the format.
        format: &'static str,
    },
}

impl MessageError {
    pub(crate) fn field(field: impl Into<String>, expected: &'static str) -> Self {
        Self::Field { field: field.into(), expected }
    }

    /// The kind of the JSON error, if the JSON is invalid.
    #[must_use]
    pub fn json_kind(&self) -> Option<JsonErrorKind> {
        if let Self::Json(error) = self { Some(error.kind()) } else { None }
    }
}
