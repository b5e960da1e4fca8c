//! Ids of messages, flushes and writers, from the system's randomness or from a seed.

use std::sync::{Mutex, PoisonError};

use memory_core::{MessageId, WriterId};
use uuid::{Builder, Uuid};

/// Where ids come from.
#[derive(Debug)]
pub(crate) enum Ids {
    /// The operating system's randomness.
    System,
    /// A seed, so that a test can be replayed.
    Seeded(Mutex<fastrand::Rng>),
}

impl Ids {
    pub(crate) fn seeded(seed: u64) -> Self {
        Self::Seeded(Mutex::new(fastrand::Rng::with_seed(seed)))
    }

    fn bits(&self) -> u128 {
        match self {
            Self::System => Uuid::new_v4().as_u128(),
            Self::Seeded(rng) => rng.lock().unwrap_or_else(PoisonError::into_inner).u128(..),
        }
    }

    /// A UUID, version 7, of this time.
    pub(crate) fn uuid(&self, now_millis: u64) -> Uuid {
        let [_, _, _, _, _, _, random @ ..] = self.bits().to_be_bytes();
        Builder::from_unix_timestamp_millis(now_millis, &random).into_uuid()
    }

    pub(crate) fn message(&self, now_millis: u64) -> MessageId {
        MessageId::new(self.uuid(now_millis))
    }

    pub(crate) fn writer(&self) -> WriterId {
        WriterId::new(self.bits())
    }
}
