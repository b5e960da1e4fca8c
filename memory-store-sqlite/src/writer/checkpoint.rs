//! Checkpoints: copying the log (WAL) into the file.
//!
//! SQLite's automatic checkpoint does not suit several processes that all write. It runs beside the commits
//! of the others, so that it hardly ever reaches the end of the log; then the log does not start over, and
//! from its 1,000th page on every commit runs one more checkpoint, with two syncs, and extends the file of the
//! log. The writer turns it off and works in two steps: `PASSIVE` copies most of the log beside the commits of
//! other processes, `RESTART` copies the few pages that were added meanwhile under the write lock and lets the
//! log start over. Measured with four processes: `cargo bench -p memory-store-sqlite --bench ratios -- processes`.

use std::time::Duration;

use memory_lock::sqlite::with_busy_timeout;
use rusqlite::Connection;

/// A log of this many pages is copied into the file; SQLite's default.
const LONG_LOG: i64 = 1_000;

/// The writer asks for the length of the log after this many pages of its own, because other processes write
/// to it too.
const LOOK_EVERY: usize = 64;

/// What a commit writes at least: a message, its memory, two indexes.
const PAGES_OF_COMMIT: usize = 4;
const PAGE: usize = 4_096;

/// How long a checkpoint waits for the commits of other processes, which go on meanwhile, and then for reads
/// of the log, while commits wait. The writer's own callers wait for both.
const CHECKPOINT_WAIT: Duration = Duration::from_millis(50);

#[derive(Debug)]
pub(super) struct Checkpoints {
    /// About how many pages this writer has committed since it last looked.
    written: usize,
    /// A log of this many pages is copied: more than usual after a reader has kept it from starting over.
    pub(super) limit: i64,
}

/// What the log holds, in pages.
struct Log {
    pages: i64,
    copied: i64,
}

impl Checkpoints {
    pub(super) const fn new() -> Self {
        // The first commit looks: a process may end after a few, and many such would never look.
        Self { written: LOOK_EVERY, limit: LONG_LOG }
    }

    /// To be called after a commit, with the bytes of its messages.
    pub(super) const fn committed(&mut self, bytes: usize) {
        self.written = self.written.saturating_add(PAGES_OF_COMMIT + bytes / PAGE);
    }

    /// Whether it is time to ask for the length of the log. If so, `written` starts over.
    pub(super) const fn look(&mut self) -> bool {
        let due = self.written >= LOOK_EVERY;
        if due {
            self.written = 0;
        }
        due
    }
}

/// Whether the log has at least `limit` pages and some of them are not in the file. Takes some microseconds.
pub(super) fn is_due(connection: &Connection, limit: i64) -> bool {
    pragma(connection, "PRAGMA wal_checkpoint(NOOP)")
        .is_some_and(|log| log.pages >= limit && log.copied < log.pages)
}

/// Copies the log into the file. Returns from how many pages on to do so again. Errors are left to the next
/// commit, as SQLite does with those of its automatic checkpoint.
pub(super) fn checkpoint(connection: &Connection, limit: i64) -> i64 {
    // No answer: another process runs a checkpoint.
    let Some(log) = pragma(connection, "PRAGMA wal_checkpoint(PASSIVE)") else { return limit };
    let restart = || pragma(connection, "PRAGMA wal_checkpoint(RESTART)");
    match with_busy_timeout(CHECKPOINT_WAIT, restart) {
        Some(_) => LONG_LOG,
        // A long read needs the log. Trying again at once would delay others in vain.
        None => log.pages + LONG_LOG,
    }
}

/// The result of a checkpoint; none if other connections kept it from finishing.
fn pragma(connection: &Connection, sql: &str) -> Option<Log> {
    let mut statement = connection.prepare_cached(sql).ok()?;
    let log = statement.query_row((), |row| {
        let log = Log { pages: row.get(1)?, copied: row.get(2)? };
        Ok((row.get::<_, i64>(0)? == 0).then_some(log))
    });
    log.ok().flatten()
}
