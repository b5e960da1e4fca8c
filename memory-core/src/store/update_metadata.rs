use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{MetadataPatch, WriteId};

/// An update of a memory's metadata.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UpdateMetadata {
    /// Recognizes a retry.
    pub write: WriteId,
    /// The names to set and to remove.
    pub patch: MetadataPatch,
    /// Updates only if the metadata has this [revision](super::Metadata::revision); `None` updates in any case.
    pub expected: Option<u64>,
    /// The TTL of the memory from this write on; `None` for no TTL.
    pub ttl: Option<Duration>,
}
