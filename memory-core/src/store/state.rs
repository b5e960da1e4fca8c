//! The store contract as data: one memory, and each operation on it as a plain function.

mod archive;
mod copy;
mod erase;
mod fork;
mod metadata;
mod read;
mod rename;
mod search;
mod splice;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use jiff::Timestamp;

use self::archive::{Archive, Removal};
use self::copy::{Copied, Unfinished};
use super::{
    Access, Append, AppendOutcome, Appended, Clear, ClearReceipt, Cleared, Cursor, Generation,
    Head, RemovalCause, RemoveUnused, RemovedUnused, Replace, ReplaceAll, ReplacedAll, Retention,
    Splice, StoreErrorKind, Version,
};
use crate::counters::Counters;
use crate::erasure::Erasure;
use crate::lease::{FencingToken, LeaseProof};
use crate::metadata::Metadata;
use crate::receipt::FlushReceipt;
use crate::stored::{NewMessage, Sequence, StoredMessage};
use crate::write::{KEPT_SESSIONS, SESSION_RETENTION, WriteId, WriterId};

/// One memory, with every rule of [`MemoryStore`](crate::MemoryStore) that does not depend on the storage medium:
/// retries, fencing, numbering, counters, splices, TTL and cursors.
///
/// [`InMemoryStore`](crate::InMemoryStore) is a map of these behind a mutex. A custom store that can hold a memory in
/// its process, such as a log that is replayed when it is opened, needs no further rules: it keeps the accepted
/// writes with their times and applies them again. Stores that cannot do this (a database with other writers) must
/// implement the same rules in their own atomic step.
///
/// - **The result depends on the arguments only.** The same writes at the same times produce the same memory in any
///   process, so a log of writes is a valid storage format.
/// - **A refused write changes nothing**, and neither does a recognized retry. [`Head::version`] only grows, and
///   shows whether a write changed anything.
/// - **Leases are checked by token only.** A store that shares the [domain](crate::MemoryStore::lease_domain) of the
///   leases checks whether a lease is live before it calls these functions. A recognized retry needs no lease: call
///   [`recognizes`](Self::recognizes) and [`recognizes_splice`](Self::recognizes_splice) first.
///
/// ```
/// use memory_core::{ContentType, Message};
/// use memory_core::store::{Access, Append, MemoryState, MessageId, NewMessage, WriteId};
///
/// let message = NewMessage {
///     id: MessageId::new(uuid::Uuid::nil()),
///     message: Message::user("hello"),
///     tokens: 4,
///     priority: None,
///     content_type: ContentType::Conversation,
///     created_at: jiff::Timestamp::UNIX_EPOCH,
/// };
/// let append = Append {
///     write: WriteId::once("greeting"),
///     messages: [message].into(),
///     ttl: None,
///     expected: None,
/// };
/// let now = jiff::Timestamp::UNIX_EPOCH;
/// let mut memory = MemoryState::default();
/// assert!(!memory.append(Access::OPEN, &append, now)?.outcome.is_duplicate());
/// assert!(memory.append(Access::OPEN, &append, now)?.outcome.is_duplicate());
/// assert_eq!(memory.head(now).counters.present.messages, 1);
/// # Ok::<(), memory_core::store::StoreErrorKind>(())
/// ```
#[derive(Debug, Clone, PartialEq, Default)]
pub struct MemoryState {
    head: Head,
    messages: BTreeMap<Sequence, StoredMessage>,
    writers: HashMap<WriterId, LastWrite>,
    /// Session writers in the order of their first writes, with the times of these.
    sessions: VecDeque<(Timestamp, WriterId)>,
    /// The newest creation time of a session writer whose record was pruned, in milliseconds.
    forgotten: u64,
    receipts: VecDeque<FlushReceipt>,
    erasures: VecDeque<Erasure>,
    archive: Archive,
    metadata: Metadata,
    /// The copy that made this memory.
    copied: Option<Copied>,
    /// A copy to this key that is not complete; then there is no memory.
    unfinished: Option<Unfinished>,
}

/// How many old writers are pruned with one append.
const PRUNED_AT_ONCE: usize = 32;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct LastWrite {
    number: u64,
    first: Option<Sequence>,
}

impl MemoryState {
    /// [`MemoryStore::append`](crate::MemoryStore::append) at this time.
    ///
    /// # Errors
    /// [`StoreErrorKind::Invalid`] for an empty batch, [`StoreErrorKind::Fenced`].
    pub fn append(
        &mut self,
        access: Access,
        append: &Append,
        now: Timestamp,
    ) -> Result<Appended, StoreErrorKind> {
        let Append { write, messages, ttl, expected } = append;
        if messages.is_empty() {
            return Err(StoreErrorKind::Invalid("a batch must hold at least one message".into()));
        }
        let is_current = expected.is_none_or(|expected| self.is_at(expected, now));
        self.change(now, |memory| {
            let outcome = if let Some(first) = memory.earlier(*write)? {
                AppendOutcome::Duplicate { first }
            } else {
                let mut fence = memory.head.fence;
                raise_fence(&mut fence, access.lease)?;
                if !is_current {
                    return Err(StoreErrorKind::Conflict);
                }
                memory.head.fence = fence;
                let first = memory.add(messages);
                memory.wrote(*write, Some(first), now, PRUNED_AT_ONCE);
                memory.head.expires_at = ttl.and_then(|ttl| expiry(now, ttl));
                memory.head.version += 1;
                AppendOutcome::Appended { first }
            };
            let Head { counters, next_flush_at, .. } = &memory.head;
            let (counters, next_flush_at) = (counters.clone(), *next_flush_at);
            Ok(Appended::new(outcome, counters, next_flush_at))
        })
    }

    /// [`MemoryStore::replace`](crate::MemoryStore::replace) at this time.
    ///
    /// # Errors
    /// [`StoreErrorKind::Conflict`], [`StoreErrorKind::Fenced`], and [`StoreErrorKind::Invalid`] for a message that
    /// cannot replace the old one.
    pub fn replace(
        &mut self,
        access: Access,
        replace: &Replace,
        now: Timestamp,
    ) -> Result<Counters, StoreErrorKind> {
        replace.check()?;
        self.change(now, |memory| {
            if memory.earlier(replace.write)?.is_none() {
                let mut fence = memory.head.fence;
                raise_fence(&mut fence, access.lease)?;
                let Replace { write, sequence, message, .. } = replace;
                replace.check_against(memory.messages.get(sequence).map(|found| &found.meta))?;
                let old = memory.replace_at(*sequence, message);
                // A flush wrote summaries and cleared tool results.
                if old.is_some_and(|StoredMessage { meta, message: old }| {
                    (meta.summary || !meta.link.results.is_empty()) && old == message.message
                }) {
                    memory.rename(replace.replaced, message.id);
                }
                memory.wrote(*write, None, now, PRUNED_AT_ONCE);
                memory.head.fence = fence;
                memory.head.forget_flush_mark();
                memory.head.generation =
                    memory.head.generation.after(micros(now), replace.spread());
                memory.head.version += 1;
            }
            Ok(memory.head.counters.clone())
        })
    }

    /// [`MemoryStore::clear`](crate::MemoryStore::clear) at this time.
    ///
    /// # Errors
    /// [`StoreErrorKind::Conflict`], [`StoreErrorKind::Fenced`].
    pub fn clear(
        &mut self,
        access: Access,
        clear: &Clear,
        now: Timestamp,
    ) -> Result<Cleared, StoreErrorKind> {
        let is_expected = self.is_as_expected(clear, now);
        self.change(now, |memory| {
            let mut receipt = None;
            if memory.earlier(clear.write)?.is_none() {
                let mut fence = memory.head.fence;
                raise_fence(&mut fence, access.lease)?;
                if !is_expected {
                    return Err(StoreErrorKind::Conflict);
                }
                memory.head.fence = fence;
                memory.wrote(clear.write, None, now, usize::MAX);
                receipt = Some(memory.remove_all(clear.archive, clear.spread(), now));
            }
            Ok(Cleared::new(receipt, memory.head.counters.clone()))
        })
    }

    /// [`MemoryStore::replace_all`](crate::MemoryStore::replace_all) at this time.
    ///
    /// # Errors
    /// [`StoreErrorKind::Conflict`], [`StoreErrorKind::Fenced`], and [`StoreErrorKind::Invalid`] without a message.
    pub fn replace_all(
        &mut self,
        access: Access,
        replace: &ReplaceAll,
        now: Timestamp,
    ) -> Result<ReplacedAll, StoreErrorKind> {
        replace.check()?;
        let Append { write, ref messages, ttl, expected } = replace.batch;
        let is_current = expected.is_none_or(|expected| self.is_at(expected, now));
        self.change(now, |memory| {
            let mut receipt = None;
            let outcome = if let Some(first) = memory.earlier(write)? {
                AppendOutcome::Duplicate { first }
            } else {
                let mut fence = memory.head.fence;
                raise_fence(&mut fence, access.lease)?;
                if !is_current {
                    return Err(StoreErrorKind::Conflict);
                }
                memory.head.fence = fence;
                receipt = Some(memory.remove_all(replace.archive, replace.spread(), now));
                let first = memory.add(messages);
                memory.wrote(write, Some(first), now, PRUNED_AT_ONCE);
                memory.head.expires_at = ttl.and_then(|ttl| expiry(now, ttl));
                AppendOutcome::Appended { first }
            };
            let Head { counters, next_flush_at, .. } = &memory.head;
            let appended = Appended::new(outcome, counters.clone(), *next_flush_at);
            Ok(ReplacedAll::new(appended, receipt))
        })
    }

    /// [`MemoryStore::claim`](crate::MemoryStore::claim) at this time.
    ///
    /// # Errors
    /// [`StoreErrorKind::Fenced`].
    pub fn claim(&mut self, lease: LeaseProof, now: Timestamp) -> Result<(), StoreErrorKind> {
        self.change(now, |memory| {
            raise_fence(&mut memory.head.fence, Some(lease))?;
            memory.head.version += 1;
            Ok(())
        })
    }

    /// [`MemoryStore::remove`](crate::MemoryStore::remove) at this time. The fencing tokens and the generation of a
    /// completely removed memory are kept.
    ///
    /// # Errors
    /// [`StoreErrorKind::Conflict`], [`StoreErrorKind::Fenced`].
    pub fn remove(&mut self, remove: RemoveUnused) -> Result<RemovedUnused, StoreErrorKind> {
        if let Some(copy) = self.unfinished.take() {
            if copy.generation == remove.generation {
                return Ok(RemovedUnused::default());
            }
            self.unfinished = Some(copy);
            return Err(StoreErrorKind::Conflict);
        }
        let head = &mut self.head;
        if head.version == 0 {
            return Ok(RemovedUnused::default());
        }
        let newest = self.messages.get(&head.last).map(|newest| newest.meta.newest());
        if (head.generation, head.version, newest)
            != (remove.generation, remove.version, remove.newest)
        {
            return Err(StoreErrorKind::Conflict);
        }
        let (mut fence, mut flush_fence) = (head.fence, head.flush_fence);
        raise_fence(&mut flush_fence, remove.flusher)?;
        raise_fence(&mut fence, remove.access.lease)?;
        (head.fence, head.flush_fence) = (fence, flush_fence);
        // From here on the memory reads like one that was never written.
        head.expires_at = Some(Timestamp::UNIX_EPOCH);
        let mut removed = RemovedUnused::default();
        for _ in 0..remove.limit.get() {
            if self.messages.pop_first().is_none() {
                break;
            }
            removed.messages += 1;
        }
        removed.more = !self.messages.is_empty();
        if !removed.more {
            let Head { generation, fence, flush_fence, expires_at, .. } = self.head;
            *self = Self::default();
            self.head = Head { generation, fence, flush_fence, expires_at, ..Head::default() };
        }
        Ok(removed)
    }

    /// Whether an append, a replacement, a clear or a restore with this id would be recognized as a retry.
    #[must_use]
    pub fn recognizes(&self, write: WriteId, now: Timestamp) -> bool {
        self.is_alive(now) && self.earlier(write).is_ok_and(|first| first.is_some())
    }

    /// Whether this splice would be recognized as a retry.
    #[must_use]
    pub fn recognizes_splice(&self, splice: &Splice, now: Timestamp) -> bool {
        self.is_alive(now) && self.was_spliced(splice)
    }

    fn is_alive(&self, now: Timestamp) -> bool {
        self.head.expires_at.is_none_or(|end| now < end)
    }

    /// Whether the messages up to this cursor are still present as they were read.
    fn holds(&self, Cursor { generation, sequence, id }: Cursor) -> bool {
        let is_there = match id {
            Some(id) => self.messages.get(&sequence).is_some_and(|message| message.meta.id == id),
            None => sequence <= self.head.last,
        };
        generation == self.head.generation && is_there
    }

    /// Whether the memory is still at this version.
    fn is_at(&self, expected: Version, now: Timestamp) -> bool {
        if !self.is_alive(now) {
            return expected == Version::default();
        }
        let newest = self.messages.values().next_back().map(|newest| newest.meta.newest());
        expected.is_current(&self.head, newest)
    }

    /// Whether the memory is in the state that a clear expects.
    fn is_as_expected(&self, clear: &Clear, now: Timestamp) -> bool {
        if !self.is_alive(now) {
            return clear.expected.is_none_or(|expected| expected == Version::default());
        }
        let newest = self.messages.values().next_back().map(|newest| newest.meta.newest());
        clear.is_expected(&self.head, newest)
    }

    /// Whether messages were appended after the newest one that the planner saw.
    fn has_newer(&self, splice: &Splice) -> bool {
        let newest = self.messages.last_key_value().map(|(place, _)| *place);
        newest > splice.newest.map(|newest| newest.sequence)
    }

    /// Adds messages at the end; returns the place of the first.
    fn add(&mut self, messages: &[NewMessage]) -> Sequence {
        let first = self.head.last.plus(1);
        for message in messages {
            let place = self.head.last.plus(1);
            self.head.last = place;
            self.head.counters.append(message);
            self.messages.insert(place, message.clone().stored_at(place));
        }
        first
    }

    /// Removes all messages and receipts.
    fn remove_all(
        &mut self,
        archive: Option<Retention>,
        spread: u16,
        now: Timestamp,
    ) -> ClearReceipt {
        let removed = self.head.counters.present;
        let messages = std::mem::take(&mut self.messages).into_values().collect();
        self.receipts.clear();
        self.head.counters.clear();
        self.head.next_flush_at = None;
        self.head.generation = self.head.generation.after(micros(now), spread);
        self.head.version += 1;
        let number = self.head.version;
        let is_kept = match archive {
            Some(retention) => {
                let cause = RemovalCause::Clear;
                let removal = Removal { cause, receipt: None, messages, retention };
                self.archive.add(removal, number, now)
            }
            None => {
                self.archive = Archive::default();
                false
            }
        };
        ClearReceipt::new(now, removed, is_kept.then_some(number))
    }

    /// Runs a write on this memory. A memory that was never written, or has expired, starts over; the new state
    /// replaces the old one only if the write is not refused.
    fn change<T>(
        &mut self,
        now: Timestamp,
        write: impl FnOnce(&mut Self) -> Result<T, StoreErrorKind>,
    ) -> Result<T, StoreErrorKind> {
        if self.is_unfinished(now) {
            return Err(StoreErrorKind::Unfinished);
        }
        if self.is_alive(now) && self.head.generation != Generation::NONE {
            return write(self);
        }
        let mut anew = Self::default();
        // Fencing tokens outlive the data, and generations never repeat.
        anew.head.fence = self.head.fence;
        anew.head.flush_fence = self.head.flush_fence;
        anew.head.generation = self.head.generation.next(micros(now));
        let done = write(&mut anew)?;
        *self = anew;
        Ok(done)
    }

    /// The place of the first message of an earlier write, if this write is a retry.
    fn earlier(&self, write: WriteId) -> Result<Option<Option<Sequence>>, StoreErrorKind> {
        let newest_millis = self.forgotten;
        match self.writers.get(&write.writer) {
            Some(last) if write.number > last.number => Ok(None),
            Some(last) => Ok(Some(last.first.filter(|_| last.number == write.number))),
            None if write.writer.born_at().is_some_and(|born| born <= newest_millis) => {
                Err(StoreErrorKind::WriterForgotten { newest_millis })
            }
            None => Ok(None),
        }
    }

    /// Records the newest write of a writer. A new session writer prunes at most [`PRUNED_AT_ONCE`] old ones, so that
    /// the records of a memory do not grow with the number of processes that ever wrote to it.
    fn wrote(
        &mut self,
        WriteId { writer, number }: WriteId,
        first: Option<Sequence>,
        now: Timestamp,
        most: usize,
    ) {
        let is_new = self.writers.insert(writer, LastWrite { number, first }).is_none();
        if !is_new || writer.born_at().is_none() {
            return;
        }
        self.sessions.push_back((now, writer));
        for _ in 0..most {
            let Some((began, oldest)) = self.sessions.front().copied() else { return };
            let is_old = began.checked_add(SESSION_RETENTION).is_ok_and(|end| end <= now);
            if !is_old || self.sessions.len() <= KEPT_SESSIONS {
                return;
            }
            self.sessions.pop_front();
            self.writers.remove(&oldest);
            self.forgotten = self.forgotten.max(oldest.born_at().unwrap_or_default());
        }
    }

    fn was_spliced(&self, splice: &Splice) -> bool {
        let newest = self.receipts.front().map(|receipt| receipt.id);
        splice.receipt.as_ref().is_some_and(|receipt| Some(receipt.id) == newest)
    }
}

/// Refuses a stale lease; raises the newest token to that of a newer lease.
const fn raise_fence(
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

fn expiry(now: Timestamp, ttl: Duration) -> Option<Timestamp> {
    // A TTL beyond the representable time counts as no TTL.
    now.checked_add(ttl).ok()
}

fn micros(now: Timestamp) -> u64 {
    u64::try_from(now.as_microsecond()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
