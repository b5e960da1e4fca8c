//! Metadata of a memory: named JSON values beside its messages.

mod error;
mod patch;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use self::error::MetadataError;
pub use self::patch::MetadataPatch;
use crate::json::{Json, JsonObject};

/// The metadata of a memory: named JSON values that describe the memory as a whole, such as a customer or a state of
/// work. It is no message: it is in no window, is not searched, flushed, archived or cleared, and ends with the memory.
///
/// A memory without metadata has revision 0 and no values.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Metadata {
    /// The number of updates of this memory's metadata; 0 if there was none. It has no connection with the
    /// [`Version`](crate::store::Version) of the messages. A deleted or expired memory starts over at 0.
    pub revision: u64,
    /// The values by their names.
    pub values: JsonObject,
    /// The time of the newest update, by the clock of the store.
    pub updated_at: Option<Timestamp>,
}

impl Metadata {
    /// The most names.
    pub const MAX_NAMES: usize = 64;

    /// The most bytes of a name.
    pub const MAX_NAME_BYTES: usize = 128;

    /// The most bytes of all values and names, as a JSON object without white space.
    pub const MAX_BYTES: usize = 16 << 10;

    /// Metadata as it is stored.
    #[must_use]
    pub const fn new(revision: u64, values: JsonObject, updated_at: Option<Timestamp>) -> Self {
        Self { revision, values, updated_at }
    }

    /// The value with this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Json> {
        self.values.get(name)
    }

    /// Whether the memory never had metadata.
    #[must_use]
    pub const fn is_unset(&self) -> bool {
        self.revision == 0
    }

    /// The metadata after an update at this time.
    ///
    /// # Errors
    /// The limit that the result would exceed.
    pub fn updated(&self, patch: &MetadataPatch, now: Timestamp) -> Result<Self, MetadataError> {
        let values = patch.merged(&self.values)?;
        Ok(Self { revision: self.revision.saturating_add(1), values, updated_at: Some(now) })
    }

    /// Whether these values can be stored.
    pub(crate) fn check_values(values: &JsonObject) -> Result<(), MetadataError> {
        let names = values.len();
        if names > Self::MAX_NAMES {
            return Err(MetadataError::TooManyNames { names });
        }
        let text = values.to_string();
        let bytes = text.len();
        if bytes > Self::MAX_BYTES {
            return Err(MetadataError::TooLarge { bytes });
        }
        // Other values than those of a text may be nested more deeply than can be read back.
        Json::parse(&text).map(drop).map_err(|_| MetadataError::TooDeep)
    }
}
