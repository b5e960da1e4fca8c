//! The reference store: the contract in its plainest form, for tests and for memories that need not
//! outlive their process.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::num::NonZeroUsize;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use super::{
    Access, Append, AppendOutcome, Appended, Clear, Cursor, Durability, Generation, Head,
    MemoryStore, Outline, Page, Read, Splice, StoreError, StoreErrorKind,
};
use crate::counters::Counters;
use crate::health::ServerHealth;
use crate::key::MemoryKey;
use crate::lease::{FencingToken, LeaseDomain, LeaseProof};
use crate::receipt::{FlushReceipt, KEPT_RECEIPTS};
use crate::stored::{Sequence, StoredMessage};
use crate::write::{WriteId, WriterId};

/// Keeps memories in this process, under one mutex that is never held across an await.
///
/// It shares no lease domain: callers take the lease on a memory before they write.
#[derive(Clone)]
pub struct InMemoryStore {
    memories: Arc<Mutex<BTreeMap<MemoryKey, Memory>>>,
    now: Arc<dyn Fn() -> Timestamp + Send + Sync>,
}

#[derive(Default)]
struct Memory {
    head: Head,
    messages: BTreeMap<Sequence, StoredMessage>,
    writers: HashMap<WriterId, LastWrite>,
    receipts: VecDeque<FlushReceipt>,
}

#[derive(Clone, Copy)]
struct LastWrite {
    number: u64,
    first: Option<Sequence>,
}

impl InMemoryStore {
    /// An empty store; `now` is the clock that TTLs run on.
    #[must_use]
    pub fn new(now: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self { memories: Arc::default(), now: Arc::new(now) }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<MemoryKey, Memory>> {
        // Each write checks everything before its first change, so a panic leaves no half of one.
        self.memories.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a read on a memory that is there and alive.
    fn read_memory<T: Default>(&self, key: &MemoryKey, read: impl FnOnce(&Memory) -> T) -> T {
        let now = (self.now)();
        self.lock().get(key).filter(|memory| memory.is_alive(now)).map(read).unwrap_or_default()
    }

    /// Runs a write on a memory; where there is none or its TTL has run out, on a new one, which is
    /// kept only if the write was not refused.
    fn write_memory<T>(
        &self,
        operation: &'static str,
        key: &MemoryKey,
        write: impl FnOnce(&mut Memory, u64) -> Result<T, StoreErrorKind>,
    ) -> Result<T, StoreError> {
        let now = (self.now)();
        let now_micros = u64::try_from(now.as_microsecond()).unwrap_or_default();
        let mut memories = self.lock();
        let old = memories.get_mut(key);
        let done = match old {
            Some(memory) if memory.is_alive(now) => write(memory, now_micros),
            expired => {
                let mut memory = Memory::default();
                if let Some(Memory { head, .. }) = expired {
                    // What fences stale writers off outlives the data; generations never repeat.
                    memory.head.fence = head.fence;
                    memory.head.flush_fence = head.flush_fence;
                    memory.head.generation = head.generation;
                }
                memory.head.generation = memory.head.generation.next(now_micros);
                let done = write(&mut memory, now_micros);
                if done.is_ok() {
                    memories.insert(key.clone(), memory);
                }
                done
            }
        };
        done.map_err(|kind| StoreError::new(operation, kind).at(key))
    }
}

impl Memory {
    fn is_alive(&self, now: Timestamp) -> bool {
        self.head.expires_at.is_none_or(|end| now < end)
    }

    /// The place of an earlier write's first message, if this write is a retry.
    fn earlier(&self, write: WriteId) -> Option<Option<Sequence>> {
        let last = self.writers.get(&write.writer).filter(|last| write.number <= last.number)?;
        Some(if last.number == write.number { last.first } else { None })
    }

    /// Refuses a stale lease; raises the newest token to a newer one.
    const fn admit(
        fence: &mut FencingToken,
        lease: Option<LeaseProof>,
    ) -> Result<(), StoreErrorKind> {
        let Some(LeaseProof { token, .. }) = lease else { return Ok(()) };
        if token.number() < fence.number() {
            return Err(StoreErrorKind::Fenced { token, newest: *fence });
        }
        *fence = token;
        Ok(())
    }

    fn append(&mut self, append: Append, now: Timestamp) -> Result<Appended, StoreErrorKind> {
        let Append { write, messages, access: Access { lease }, ttl } = append;
        if messages.is_empty() {
            return Err(StoreErrorKind::Invalid("a batch must hold at least one message".into()));
        }
        let outcome = if let Some(first) = self.earlier(write) {
            AppendOutcome::Duplicate { first }
        } else {
            Self::admit(&mut self.head.fence, lease)?;
            let first = self.head.last.plus(1);
            for message in messages.iter() {
                self.head.last = self.head.last.plus(1);
                self.head.counters.append(message);
                self.messages.insert(self.head.last, message.clone().stored_at(self.head.last));
            }
            self.writers
                .insert(write.writer, LastWrite { number: write.number, first: Some(first) });
            self.head.expires_at = ttl.and_then(|ttl| expiry(now, ttl));
            self.head.version += 1;
            AppendOutcome::Appended { first }
        };
        let counters = self.head.counters.clone();
        Ok(Appended { outcome, counters, next_flush_at: self.head.next_flush_at })
    }

    fn splice(&mut self, splice: Splice, now_micros: u64) -> Result<Counters, StoreErrorKind> {
        let newest = self.receipts.front().map(|receipt| receipt.id);
        if splice.receipt.as_ref().is_some_and(|receipt| Some(receipt.id) == newest) {
            return Ok(self.head.counters.clone());
        }
        let (mut fence, mut flush_fence) = (self.head.fence, self.head.flush_fence);
        Self::admit(&mut flush_fence, splice.flusher)?;
        Self::admit(&mut fence, splice.access.lease)?;
        if splice.generation != self.head.generation {
            return Err(StoreErrorKind::Conflict);
        }
        self.check_places(&splice)?;

        (self.head.fence, self.head.flush_fence) = (fence, flush_fence);
        let place = splice.summarised.first().copied();
        let changes = !(splice.summarised.is_empty()
            && splice.evicted.is_empty()
            && splice.closed.is_empty());
        for sequence in splice.summarised {
            if let Some(message) = self.messages.remove(&sequence) {
                self.head.counters.summarise(&message.meta);
            }
        }
        for sequence in splice.evicted {
            if let Some(message) = self.messages.remove(&sequence) {
                self.head.counters.evict(&message.meta);
            }
        }
        if !splice.closed.is_empty() {
            self.head.next_flush_at = None;
        }
        for sequence in splice.closed {
            if let Some(message) = self.messages.get_mut(&sequence) {
                message.meta.closed = true;
            }
        }
        if let (Some(summary), Some(place)) = (splice.summary, place) {
            self.head.counters.insert_summary(&summary);
            let mut stored = summary.stored_at(place);
            stored.meta.summary = true;
            self.messages.insert(place, stored);
        }
        if let Some(receipt) = splice.receipt {
            self.receipts.push_front(receipt);
            self.receipts.truncate(KEPT_RECEIPTS);
            self.head.next_flush_at = splice.next_flush_at;
        }
        if changes {
            self.head.generation = self.head.generation.next(now_micros);
        }
        self.head.version += 1;
        Ok(self.head.counters.clone())
    }

    /// Every place must be there, and be named once.
    fn check_places(&self, splice: &Splice) -> Result<(), StoreErrorKind> {
        if splice.summary.is_some() && splice.summarised.is_empty() {
            return Err(StoreErrorKind::Invalid(
                "a summary needs the places that it replaces".into(),
            ));
        }
        let mut removed: Vec<_> =
            splice.summarised.iter().chain(&splice.evicted).copied().collect();
        removed.sort_unstable();
        let twice = removed.windows(2).any(|pair| pair.first() == pair.last());
        let unknown = removed
            .iter()
            .chain(&splice.closed)
            .find(|sequence| !self.messages.contains_key(sequence));
        match (unknown, twice) {
            (Some(sequence), _) => {
                Err(StoreErrorKind::Invalid(format!("there is no message at place {sequence}")))
            }
            (None, true) => Err(StoreErrorKind::Invalid("a place is removed twice".into())),
            (None, false) => Ok(()),
        }
    }

    fn clear(&mut self, clear: Clear, now_micros: u64) -> Result<Counters, StoreErrorKind> {
        if self.earlier(clear.write).is_none() {
            Self::admit(&mut self.head.fence, clear.access.lease)?;
            let last = LastWrite { number: clear.write.number, first: None };
            self.writers.insert(clear.write.writer, last);
            self.messages.clear();
            self.receipts.clear();
            self.head.counters.clear();
            self.head.next_flush_at = None;
            self.head.generation = self.head.generation.next(now_micros);
            self.head.version += 1;
        }
        Ok(self.head.counters.clone())
    }

    fn read(&self, read: Read) -> Page {
        let generation = self.head.generation;
        let (after, restarted) = match read.after {
            Some(cursor) if cursor.generation == generation => (cursor.sequence, false),
            Some(cursor) => (Sequence::ZERO, cursor != Cursor::default()),
            None => (Sequence::ZERO, false),
        };
        let limit = read.limit.map_or(usize::MAX, NonZeroUsize::get);
        let mut rest = self.messages.range((Bound::Excluded(after), Bound::Unbounded));
        let messages: Vec<_> =
            rest.by_ref().take(limit).map(|(_, message)| message.clone()).collect();
        let sequence = messages.last().map_or(after, |message| message.meta.sequence);
        let more = rest.next().is_some();
        let cursor = Cursor { generation, sequence };
        Page { messages, cursor, restarted, more, unreadable: Vec::new() }
    }
}

fn expiry(now: Timestamp, ttl: Duration) -> Option<Timestamp> {
    // A TTL past the end of time is none.
    now.checked_add(ttl).ok()
}

#[async_trait]
impl MemoryStore for InMemoryStore {
    async fn append(&self, key: &MemoryKey, append: Append) -> Result<Appended, StoreError> {
        let now = (self.now)();
        self.write_memory("append to", key, |memory, _| memory.append(append, now))
    }

    async fn splice(&self, key: &MemoryKey, splice: Splice) -> Result<Counters, StoreError> {
        self.write_memory("flush", key, |memory, now| memory.splice(splice, now))
    }

    async fn clear(&self, key: &MemoryKey, clear: Clear) -> Result<Counters, StoreError> {
        self.write_memory("clear", key, |memory, now| memory.clear(clear, now))
    }

    async fn claim(&self, key: &MemoryKey, lease: LeaseProof) -> Result<(), StoreError> {
        self.write_memory("claim", key, |memory, _| {
            Memory::admit(&mut memory.head.fence, Some(lease))?;
            memory.head.version += 1;
            Ok(())
        })
    }

    async fn head(&self, key: &MemoryKey) -> Result<Head, StoreError> {
        Ok(self.read_memory(key, |memory| memory.head.clone()))
    }

    async fn read(&self, key: &MemoryKey, read: Read) -> Result<Page, StoreError> {
        let page = self.read_memory(key, |memory| Some(memory.read(read)));
        Ok(page.unwrap_or_else(|| Memory::default().read(read)))
    }

    async fn outline(&self, key: &MemoryKey) -> Result<Outline, StoreError> {
        Ok(self.read_memory(key, |memory| Outline {
            head: memory.head.clone(),
            metas: memory.messages.values().map(|message| message.meta.clone()).collect(),
            unreadable: Vec::new(),
        }))
    }

    async fn fetch(
        &self,
        key: &MemoryKey,
        generation: Generation,
        places: &[Sequence],
    ) -> Result<Vec<StoredMessage>, StoreError> {
        let found = self.read_memory(key, |memory| {
            (memory.head.generation == generation).then(|| {
                places.iter().filter_map(|place| memory.messages.get(place)).cloned().collect()
            })
        });
        found.ok_or_else(|| StoreError::new("read from", StoreErrorKind::Conflict).at(key))
    }

    async fn receipts(&self, key: &MemoryKey) -> Result<Vec<FlushReceipt>, StoreError> {
        Ok(self.read_memory(key, |memory| memory.receipts.iter().cloned().collect()))
    }

    async fn keys(
        &self,
        after: Option<&MemoryKey>,
        limit: NonZeroUsize,
    ) -> Result<Vec<MemoryKey>, StoreError> {
        let now = (self.now)();
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let memories = self.lock();
        let live = memories
            .range::<MemoryKey, _>((from, Bound::Unbounded))
            .filter(|(_, memory)| memory.is_alive(now) && !memory.messages.is_empty());
        Ok(live.take(limit.get()).map(|(key, _)| key.clone()).collect())
    }

    async fn server(&self) -> Result<Option<ServerHealth>, StoreError> {
        Ok(None)
    }

    fn lease_domain(&self) -> Option<&LeaseDomain> {
        None
    }

    fn durability(&self) -> Durability {
        Durability::Memory
    }
}

impl fmt::Debug for InMemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InMemoryStore").field("memories", &self.lock().len()).finish()
    }
}
