//! A batch that can be sent more than once.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use memory_core::store::{Append, NewMessage, Version, WriteId};

use crate::exclusions::Exclusions;

/// A batch that is ready to be sent: redacted, classified and counted. The store recognizes it by its id, so it
/// can be sent any number of times and is appended once.
///
/// Clones are the same batch: the first one that is sent is appended, and the others return its receipt as
/// duplicates. Every request gets new message ids, also requests from clones.
///
/// `Debug` omits the messages, because the batch is part of errors.
#[derive(Clone)]
pub struct PreparedAppend {
    append: Append,
    exclusions: Exclusions,
    /// This batch or a clone of it was sent before.
    sent: Arc<AtomicBool>,
}

/// Ignores whether a batch was sent.
impl PartialEq for PreparedAppend {
    fn eq(&self, other: &Self) -> bool {
        self.append == other.append && self.exclusions == other.exclusions
    }
}

impl PreparedAppend {
    pub(crate) fn new(append: Append, exclusions: Exclusions) -> Self {
        Self { append, exclusions, sent: Arc::default() }
    }

    pub(crate) const fn exclusions(&self) -> &Exclusions {
        &self.exclusions
    }

    pub(crate) const fn append(&self) -> &Append {
        &self.append
    }

    /// The same batch as another one, under another id.
    pub(crate) fn under(self, write: WriteId) -> Self {
        Self::new(Append { write, ..self.append }, self.exclusions)
    }

    /// Marks this batch and its clones as sent. Returns whether one of them was sent before.
    pub(crate) fn mark_sent(&self) -> bool {
        self.sent.swap(true, Ordering::AcqRel)
    }

    /// The same batch, appended only if the memory is still at this version. Otherwise
    /// [`send`](crate::MemoryInstance::send) fails with [`StoreErrorKind::Conflict`]. A batch that was applied and is
    /// sent again is a duplicate, whatever came later.
    ///
    /// [`StoreErrorKind::Conflict`]: memory_core::store::StoreErrorKind::Conflict
    #[must_use]
    pub fn expecting(self, version: Version) -> Self {
        let append = Append { expected: Some(version), ..self.append };
        Self { append, ..self }
    }

    /// The id by which the store recognizes the batch.
    #[must_use]
    pub const fn write(&self) -> WriteId {
        self.append.write
    }

    /// The messages to store, without the excluded ones. They carry the ids of the first request. When the batch is sent again, its messages get new
    /// ids, unless the store recognizes the batch.
    #[must_use]
    pub fn messages(&self) -> &[NewMessage] {
        &self.append.messages
    }
}

impl fmt::Debug for PreparedAppend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PreparedAppend")
            .field("write", &self.write())
            .field("messages", &self.messages().len())
            .finish()
    }
}
