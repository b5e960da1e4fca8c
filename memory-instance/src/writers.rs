//! Writer identities of an instance, by which the store recognizes retries.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use memory_core::store::{SESSION_LIFETIME, WriteId};
use tokio::time::Instant;

use crate::ids::Ids;

/// Writers that are free to make the next write.
///
/// A store accepts the numbers of one writer in increasing order, so a writer makes one write at a time. There are as
/// many writers as concurrent writes. A writer is discarded if its write failed or its caller dropped the write: its
/// last number may still be sent again, and would be treated as a duplicate if the writer had continued. A writer
/// older than [`SESSION_LIFETIME`] is discarded too, because stores forget old writers.
#[derive(Debug, Default)]
pub(crate) struct Writers {
    free: Mutex<Vec<Writer>>,
    /// The newest creation time of a writer that the store is known to have forgotten, in milliseconds.
    forgotten: AtomicU64,
}

/// A writer and the id of its next write.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Writer {
    pub(crate) write: WriteId,
    made: Instant,
}

impl Writers {
    /// A writer for a new write.
    pub(crate) fn take(&self, ids: &Ids, now_millis: u64) -> Writer {
        let forgotten = self.forgotten.load(Ordering::Relaxed);
        while let Some(writer) = self.free().pop() {
            let is_known = writer.write.writer.born_at().is_none_or(|born| born > forgotten);
            if is_known && writer.made.elapsed() < SESSION_LIFETIME {
                return writer;
            }
        }
        Writer { write: ids.writer(self.born(now_millis)).write(1), made: Instant::now() }
    }

    /// The creation time of a new writer, in milliseconds: now, or later if this clock is behind those of other
    /// processes, because the store would treat an older writer as forgotten.
    pub(crate) fn born(&self, now_millis: u64) -> u64 {
        now_millis.max(self.forgotten.load(Ordering::Relaxed).saturating_add(1))
    }

    /// Takes back the writer of an acknowledged write.
    pub(crate) fn put_back(&self, done: Writer) {
        let WriteId { writer, number } = done.write;
        let write = WriteId { writer, number: number.saturating_add(1) };
        self.free().push(Writer { write, ..done });
    }

    /// Makes later writers newer than those that the store forgot.
    pub(crate) fn forgot(&self, newest_millis: u64) {
        self.forgotten.fetch_max(newest_millis, Ordering::Relaxed);
    }

    fn free(&self) -> MutexGuard<'_, Vec<Writer>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn writer_is_reused_after_acknowledged_write() {
        let (ids, writers) = (Ids::seeded(1), Writers::default());
        let first = writers.take(&ids, 5);
        let second = writers.take(&ids, 5);
        let [one, other] = [first, second].map(|taken| taken.write.writer);
        assert_ne!(one, other, "two writes under way need two writers");
        assert_eq!(one.born_at(), Some(5));
        writers.put_back(first);
        let third = writers.take(&ids, 6).write;
        assert_eq!((third.writer, third.number), (one, first.write.number + 1));
    }

    #[tokio::test(start_paused = true)]
    async fn old_writers_are_discarded() {
        let (ids, writers) = (Ids::seeded(1), Writers::default());
        let first = writers.take(&ids, 5);
        tokio::time::advance(SESSION_LIFETIME - Duration::from_millis(1)).await;
        writers.put_back(first);
        let again = writers.take(&ids, 6);
        assert_eq!(again.write.writer, first.write.writer);
        writers.put_back(again);
        tokio::time::advance(Duration::from_millis(1)).await;
        let next = writers.take(&ids, 7);
        assert_eq!((next.write.writer.born_at(), next.write.number), (Some(7), 1));
    }

    #[tokio::test(start_paused = true)]
    async fn forgotten_free_writers_are_discarded() {
        let (ids, writers) = (Ids::seeded(1), Writers::default());
        let taken = [5, 6].map(|now| writers.take(&ids, now));
        taken.into_iter().for_each(|writer| writers.put_back(writer));
        writers.forgot(5);
        assert_eq!(writers.take(&ids, 7).write.writer, taken[1].write.writer);
        assert_eq!(writers.take(&ids, 7).write.writer.born_at(), Some(7));
    }

    #[tokio::test(start_paused = true)]
    async fn new_writers_are_newer_than_forgotten_ones() {
        let (ids, writers) = (Ids::seeded(1), Writers::default());
        writers.forgot(100);
        writers.forgot(99);
        assert_eq!(writers.take(&ids, 5).write.writer.born_at(), Some(101));
        assert_eq!(writers.take(&ids, 500).write.writer.born_at(), Some(500));
    }
}
