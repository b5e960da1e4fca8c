//! Why something is not a message.

use crate::json::{JsonError, JsonErrorKind};

/// Why something is not a message. The text never quotes the message's content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MessageError {
    /// Not JSON, or with a key twice in an object.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// The one field that nearly every message has.
    #[error("`role` is missing: add who speaks, such as \"user\"")]
    MissingRole,
    /// A field in another form than expected.
    #[error("{field} must be {expected}")]
    Field {
        /// Which field, with its path.
        field: String,
        /// The form to give it.
        expected: &'static str,
    },
    /// The role is not known, and there is nothing to read.
    #[error(
        "`role` is not known and the message has nothing to read: give it a known role such as \"user\", or content"
    )]
    UnknownRole,
    /// The object is of a format that is no message of a dialect.
    #[error("this looks like {format}: convert it to one message of a supported dialect")]
    Unsupported {
        /// The format.
        format: &'static str,
    },
}

impl MessageError {
    pub(crate) fn field(field: impl Into<String>, expected: &'static str) -> Self {
        Self::Field { field: field.into(), expected }
    }

    /// What is wrong with the JSON, if that is what is wrong.
    #[must_use]
    pub fn json_kind(&self) -> Option<JsonErrorKind> {
        if let Self::Json(error) = self { Some(error.kind()) } else { None }
    }
}
