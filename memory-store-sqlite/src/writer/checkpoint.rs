//! Checkpoints: copying the log (WAL) into the file.
//!
//! SQLite's automatic checkpoint does not suit several processes that all write. It runs beside the commits
//! of the others, so that it hardly ever reaches the end of the log; then the log does not start over, and
//! from its 1,000th page on every commit runs one more checkpoint, with two syncs, and extends the file of the
//! log. The writer turns it off and works in two steps: it copies most of the log beside the commits of other
//! processes, and then, with the write lock, the few pages that were added meanwhile. The next write of any
//! process finds all of the log copied and starts it over, unless a read still needs it. Measured with four
//! processes: `cargo bench -p memory-store-sqlite --bench ratios -- processes`.
//!
//! `PRAGMA wal_checkpoint(RESTART)` is not used, because it waits for reads while it holds the write lock.

use std::time::Duration;

use memory_sqlite_file::with_busy_timeout;
use rusqlite::Connection;

/// A log of this many pages is copied into the file; SQLite's default.
const LONG_LOG: i64 = 1_000;

/// The writer asks for the length of the log after it has written this many pages, because other processes
/// write to the log too.
const LOOK_EVERY: usize = 64;

/// Pages that a commit writes at least: a message, its memory, two indexes.
const PAGES_OF_COMMIT: usize = 4;

/// More pages than this are not copied under the write lock. If so many are left, a long read needs them.
const FEW: i64 = 200;

/// How long a checkpoint waits for the write lock. Other processes continue meanwhile; the callers of this
/// writer wait.
const CHECKPOINT_WAIT: Duration = Duration::from_millis(50);

#[derive(Debug)]
pub(super) struct Checkpoints {
    /// About how many pages this writer has committed since it last looked.
    written: usize,
    /// How long the log was at the last checkpoint.
    last: i64,
}

/// The pages of the log.
#[derive(Debug, Clone, Copy)]
pub(super) struct Log {
    pages: i64,
    copied: i64,
}

impl Checkpoints {
    pub(super) const fn new() -> Self {
        // The first commit checks, because many processes that end after a few commits would never check.
        Self { written: LOOK_EVERY, last: 0 }
    }

    /// To be called after a commit, with the pages that it wrote besides the usual ones.
    pub(super) const fn committed(&mut self, pages: usize) {
        self.written = self.written.saturating_add(PAGES_OF_COMMIT).saturating_add(pages);
    }

    /// Whether it is time to ask for the length of the log. If so, `written` starts over.
    pub(super) const fn look(&mut self) -> bool {
        let due = self.written >= LOOK_EVERY;
        if due {
            self.written = 0;
        }
        due
    }

    /// Whether a log of this length is to be copied. One that did not start over after the last checkpoint,
    /// because a read needed it, is copied again only when it has grown by as much.
    pub(super) const fn is_due(&mut self, log: Log) -> bool {
        if log.pages < self.last {
            self.last = 0;
        }
        let due = log.pages >= self.last.saturating_add(LONG_LOG) && log.copied < log.pages;
        if due {
            self.last = log.pages;
        }
        due
    }
}

/// The length of the log. Takes some microseconds.
pub(super) fn log(connection: &Connection) -> Option<Log> {
    pragma(connection, "PRAGMA wal_checkpoint(NOOP)")
}

/// The first step: copies the log beside the commits of other processes. Returns whether the second step can
/// copy the rest. Errors are left to the next commit, as SQLite does with those of its automatic checkpoint.
pub(super) fn copy_most(connection: &Connection) -> bool {
    // No answer: another process runs a checkpoint.
    copy(connection).is_some()
        && log(connection).is_some_and(|log| (1..=FEW).contains(&(log.pages - log.copied)))
}

/// The second step: copies the rest with the write lock, which `connection` holds while `second`, another
/// connection to the file, copies.
pub(super) fn copy_rest(connection: &Connection, second: &Connection) {
    let begin = || connection.execute_batch("BEGIN IMMEDIATE");
    if with_busy_timeout(CHECKPOINT_WAIT, begin).is_ok() {
        copy(second);
        // Nothing was written. If it fails, the next transaction fails, and the connection is replaced.
        let _ = connection.execute_batch("ROLLBACK");
    }
}

/// Copies the pages that no read needs in the log. It does not wait.
fn copy(connection: &Connection) -> Option<Log> {
    pragma(connection, "PRAGMA wal_checkpoint(PASSIVE)")
}

/// The result of a checkpoint; none if another one is under way.
fn pragma(connection: &Connection, sql: &str) -> Option<Log> {
    let mut statement = connection.prepare_cached(sql).ok()?;
    let log = statement.query_row((), |row| {
        let log = Log { pages: row.get(1)?, copied: row.get(2)? };
        Ok((row.get::<_, i64>(0)? == 0).then_some(log))
    });
    log.ok().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checkpoint_runs_again_after_as_many_pages() {
        let mut checkpoints = Checkpoints::new();
        let mut due = |pages| checkpoints.is_due(Log { pages, copied: 0 });
        assert_eq!([due(999), due(1_000), due(1_999), due(2_000)], [false, true, false, true]);
        // It has started over.
        assert_eq!([due(10), due(999), due(1_000)], [false, false, true]);
        assert!(
            !checkpoints.is_due(Log { pages: 5_000, copied: 5_000 }),
            "nothing is left to copy"
        );
    }

    #[test]
    fn first_commit_looks_and_then_some_pages() {
        let mut checkpoints = Checkpoints::new();
        let mut looks = Vec::new();
        for _ in 0..40 {
            checkpoints.committed(0);
            looks.push(checkpoints.look());
        }
        assert_eq!(looks.iter().filter(|look| **look).count(), 3);
        assert!(looks[0]);
        checkpoints.committed(LOOK_EVERY);
        assert!(checkpoints.look());
    }
}
