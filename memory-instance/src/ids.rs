//! Ids of messages, flushes and writers, from the system's random numbers or from a seed.

use std::sync::{Mutex, MutexGuard, PoisonError};

use memory_core::store::{FlushReceipt, MessageId, MessageMeta, WriterId};
use uuid::{Builder, Uuid};

/// The source of ids.
#[derive(Debug)]
pub(crate) enum Ids {
    /// The operating system's random numbers. Those for messages are requested in bulk, because the system call
    /// takes longer than the rest of making an id.
    System(Mutex<Pool>),
    /// A seed, so that a test can be replayed.
    Seeded(Mutex<fastrand::Rng>),
}

/// The random bytes of a UUID, version 7.
type Random = [u8; 10];

/// Random bytes that were requested in bulk and are not used yet.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    bytes: Box<[Random; 32]>,
    left: usize,
}

impl Pool {
    fn take(&mut self) -> Option<Random> {
        if self.left == 0 {
            getrandom::fill(self.bytes.as_flattened_mut()).ok()?;
            self.left = self.bytes.len();
        }
        self.left -= 1;
        self.bytes.get(self.left).copied()
    }
}

/// The random part of a named message's id, except for the two bits that all UUIDs have in common.
const RANDOM_HALF: u128 = (1 << 64) - 1;

/// The part of an id that is derived from the name of its message: 60 bits of a digest. `None` for a message without
/// a name. This crate makes no other ids that are UUIDs of version 8.
pub(crate) fn name_of(id: MessageId) -> Option<u64> {
    let (name, _) = id.uuid().as_u64_pair();
    (id.uuid().get_version_num() == 8).then_some(name)
}

/// Notes the ids of removed messages that have a name. These are the messages before the removal.
pub(crate) fn note_named(receipt: &mut FlushReceipt, metas: &[MessageMeta]) {
    let removed = [&receipt.evicted, &receipt.summarized, &receipt.withdrawn];
    let is_removed = |meta: &&MessageMeta| removed.iter().any(|set| set.contains(meta.sequence));
    let named = metas.iter().filter(|meta| name_of(meta.id).is_some()).filter(is_removed);
    receipt.named = named.map(|meta| meta.id).collect();
}

impl Ids {
    pub(crate) fn system() -> Self {
        Self::System(Mutex::default())
    }

    pub(crate) fn seeded(seed: u64) -> Self {
        Self::Seeded(Mutex::new(fastrand::Rng::with_seed(seed)))
    }

    fn bits(&self) -> u128 {
        match self {
            Self::System(_) => Uuid::new_v4().as_u128(),
            Self::Seeded(rng) => locked(rng).u128(..),
        }
    }

    /// The number of an attempt to copy a memory.
    pub(crate) fn attempt(&self) -> u64 {
        Uuid::from_u128(self.bits()).as_u64_pair().1
    }

    /// A UUID, version 7, of this time, unique across processes. The store identifies a flush by it.
    pub(crate) fn uuid(&self, now_millis: u64) -> Uuid {
        let [_, _, _, _, _, _, random @ ..] = self.bits().to_be_bytes();
        Builder::from_unix_timestamp_millis(now_millis, &random).into_uuid()
    }

    pub(crate) fn message(&self, now_millis: u64) -> MessageId {
        let pooled = match self {
            Self::System(pool) => locked(pool).take(),
            Self::Seeded(_) => None,
        };
        let id = match pooled {
            Some(random) => Builder::from_unix_timestamp_millis(now_millis, &random).into_uuid(),
            None => self.uuid(now_millis),
        };
        MessageId::new(id)
    }

    /// An id for a message with a name, such as a system prompt. Its first half is derived from the name and the
    /// second is random, so no two requests have the same id and a replaced message keeps its name.
    pub(crate) fn named(&self, kind: &str, name: &str) -> MessageId {
        // The same digest as for named writers.
        let digest = WriterId::named(&format!("{kind}: {name}")).bits();
        let bits = digest & !RANDOM_HALF | self.bits() & RANDOM_HALF;
        MessageId::new(Builder::from_custom_bytes(bits.to_be_bytes()).into_uuid())
    }

    /// A new id for the same message; it keeps its name, if it has one.
    pub(crate) fn renewed(&self, id: MessageId, now_millis: u64) -> MessageId {
        let new = self.message(now_millis);
        if name_of(id).is_none() {
            return new;
        }
        let bits = id.uuid().as_u128() & !RANDOM_HALF | new.uuid().as_u128() & RANDOM_HALF;
        MessageId::new(Uuid::from_u128(bits))
    }

    /// Never from a pool: after a fork two processes would use one id, and the store would treat the writes of one
    /// as retries of the other's.
    pub(crate) fn writer(&self, born_millis: u64) -> WriterId {
        let [_, _, _, _, _, _, _, _, random @ ..] = self.bits().to_be_bytes();
        WriterId::session(born_millis, u64::from_be_bytes(random))
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_are_unique_and_contain_their_time() {
        let ids = Ids::system();
        let made: HashSet<Uuid> =
            (0..1_000).map(|_| ids.message(1_764_050_000_000).uuid()).collect();
        assert_eq!(made.len(), 1_000);
        for id in made {
            let time = id.get_timestamp().unwrap().to_unix();
            assert_eq!((id.get_version_num(), time), (7, (1_764_050_000, 0)));
        }
    }
}
