//! The reasons for which metadata is refused.

use super::Metadata;
use crate::error_code::ErrorCode;

/// Why an update of metadata is refused. The text never quotes a name or a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MetadataError {
    /// The JSON is not an object.
    #[error("metadata is a JSON object of names and values; give an object")]
    NotObject,
    /// A name is empty.
    #[error("a name of the metadata is empty; give each value a name")]
    EmptyName,
    /// A name is too long.
    #[error(
        "a name of the metadata has {bytes} bytes, over the limit of {}; shorten it",
        Metadata::MAX_NAME_BYTES
    )]
    LongName {
        /// Its bytes.
        bytes: usize,
    },
    /// There would be too many names, or an update has more than twice as many.
    #[error(
        "the metadata would have {names} names, over the limit of {}; remove some, or put values that belong together into one object",
        Metadata::MAX_NAMES
    )]
    TooManyNames {
        /// The names that there would be.
        names: usize,
    },
    /// The values would be too large.
    #[error(
        "the metadata would have {bytes} bytes as JSON, over the limit of {}; remove values, or store them elsewhere and keep a reference",
        Metadata::MAX_BYTES
    )]
    TooLarge {
        /// The bytes that there would be.
        bytes: usize,
    },
    /// A value is nested too deeply to be read back.
    #[error("a value of the metadata is nested more than 126 levels deep; flatten it")]
    TooDeep,
    /// A name contains what the privacy policy redacts. A replacement could be the name of another value.
    #[error(
        "a name of the metadata contains what the privacy policy of the resource redacts; put it into the value, which is redacted"
    )]
    SecretName,
}

impl MetadataError {
    /// Its stable code.
    #[must_use]
    pub const fn code(self) -> ErrorCode {
        match self {
            Self::NotObject | Self::EmptyName | Self::SecretName => ErrorCode::InvalidOperation,
            Self::LongName { .. }
            | Self::TooManyNames { .. }
            | Self::TooLarge { .. }
            | Self::TooDeep => ErrorCode::SafetyLimitExceeded,
        }
    }
}
