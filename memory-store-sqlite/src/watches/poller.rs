//! The thread that notices the commits of other connections.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use memory_core::store::StoreErrorKind;
use rusqlite::Connection;

use super::registry::{FileState, Registry};
use super::seen::Seen;
use crate::error::JobError;
use crate::open::{OpenFile, open_reader};
use crate::real_time::real_now;

/// The pause after a watched memory has changed. Messages often come in quick succession.
const MIN_WATCH_PAUSE: Duration = Duration::from_millis(2);

/// The pauses grow by half up to this one, so that a write of another process is signaled after 25 ms on average.
const MAX_WATCH_PAUSE: Duration = Duration::from_millis(50);

/// The pauses after panics grow up to this one.
const MAX_PANIC_PAUSE: Duration = Duration::from_secs(5);

/// A pause is at least this many times as long as the poll before it. A poll reads the row of each watched memory, and
/// thousands of them must not occupy the thread.
const PAUSE_PER_POLL: u32 = 3;

pub(super) struct Poller {
    registry: Arc<Registry>,
    link: Option<Link>,
    /// Since when other processes prevent each poll.
    busy: Option<Instant>,
    /// Dropped after the connection.
    file: Arc<OpenFile>,
}

/// The connection, which never writes: the data version does not change with commits of the same connection.
struct Link {
    connection: Connection,
    /// At the last look; none if a look is due.
    data_version: Option<i64>,
}

impl Poller {
    pub(super) const fn new(registry: Arc<Registry>, file: Arc<OpenFile>) -> Self {
        Self { registry, link: None, busy: None, file }
    }

    /// Polls as long as there are watches, also after a panic.
    pub(super) fn run(self) {
        let Self { registry, file, .. } = self;
        restart_after_panics(&registry, || {
            Self::new(Arc::clone(&registry), Arc::clone(&file)).poll_while_watched();
        });
    }

    fn poll_while_watched(mut self) {
        let mut pause = MIN_WATCH_PAUSE;
        while !self.ends() {
            let started = real_now();
            pause = match self.poll() {
                Ok(found) => pause_after(found, pause),
                Err(fault) => {
                    self.report(fault);
                    MAX_WATCH_PAUSE
                }
            };
            self.registry.wait(pause.max(started.elapsed() * PAUSE_PER_POLL));
        }
    }

    /// Closes the connection if there are no watches. Returns whether the thread ends.
    fn ends(&mut self) -> bool {
        if self.registry.needs_poller() {
            return false;
        }
        self.link = None;
        self.registry.end_poller()
    }

    /// Signals the watched memories that have changed since the last poll.
    fn poll(&mut self) -> Result<FileState, JobError> {
        self.file.check_found()?;
        let link = match &mut self.link {
            Some(link) => link,
            none => none.insert(Link { connection: open_reader(&self.file)?, data_version: None }),
        };
        let version = link.read_data_version()?;
        // Checked after the read, which otherwise may be of a file that no path names any more.
        self.file.check()?;
        self.busy = None;
        let unchanged = link.data_version.replace(version) == Some(version);
        let state = if unchanged { FileState::Unchanged } else { FileState::Changed };
        let memories = self.registry.memories_to_look_at(state);
        if memories.is_empty() {
            return Ok(FileState::Unchanged);
        }
        // One snapshot for all.
        let snapshot = link.connection.unchecked_transaction()?;
        let mut found = Vec::with_capacity(memories.len());
        for key in memories {
            let seen = Seen::read(&snapshot, &key)?;
            found.push((key, seen));
        }
        snapshot.commit()?;
        Ok(self.registry.compare(found))
    }

    /// Returns the fault of a poll to the watches. A file that is merely busy is read again, as long as an operation
    /// of the store would wait for it.
    fn report(&mut self, fault: JobError) {
        if !fault.is_busy() {
            self.link = None;
        } else {
            if let Some(link) = &mut self.link {
                link.data_version = None;
            }
            let since = *self.busy.get_or_insert_with(real_now);
            if since.elapsed() < self.registry.config().operation_timeout() {
                return;
            }
        }
        self.registry.fail(fault);
    }
}

impl Link {
    fn read_data_version(&self) -> Result<i64, JobError> {
        let mut statement = self.connection.prepare_cached("PRAGMA data_version")?;
        Ok(statement.query_row((), |row| row.get(0))?)
    }
}

/// Runs the poller again if it panics, and returns an error to the watches each time. The panic hook reports the panic.
fn restart_after_panics(registry: &Registry, mut poll: impl FnMut()) {
    let mut pause = MAX_WATCH_PAUSE;
    while catch_unwind(AssertUnwindSafe(&mut poll)).is_err() {
        let reason = "the watching thread panicked; it was started again";
        let fault = JobError::Refused(StoreErrorKind::Other(reason.into()));
        // It calls wakers, which are the code of any executor.
        let _ = catch_unwind(AssertUnwindSafe(|| registry.fail(fault)));
        registry.wait(pause);
        pause = (pause * 2).min(MAX_PANIC_PAUSE);
    }
}

fn pause_after(found: FileState, pause: Duration) -> Duration {
    match found {
        FileState::Changed => MIN_WATCH_PAUSE,
        FileState::Unchanged => (pause * 3 / 2).min(MAX_WATCH_PAUSE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SqliteConfig;

    #[test]
    fn poller_runs_again_after_a_panic() {
        let registry = Registry::new(SqliteConfig::new("m.db"));
        let key = memory_core::MemoryKey::new("p", "m", "a").unwrap();
        let (_signal, mut reported) = registry.register(&key);
        let mut runs = 0;
        restart_after_panics(&registry, || {
            runs += 1;
            assert!(runs > 2, "planted");
        });
        assert_eq!(runs, 3);
        let error = registry.outcome(&key, &mut reported).unwrap_err();
        assert!(error.to_string().contains("started again"), "{error}");
        registry.outcome(&key, &mut reported).unwrap();
    }

    #[test]
    fn pauses_grow_until_a_change() {
        let mut pause = MIN_WATCH_PAUSE;
        let mut polls = 0;
        while pause < MAX_WATCH_PAUSE {
            pause = pause_after(FileState::Unchanged, pause);
            polls += 1;
        }
        assert_eq!((polls, pause), (8, MAX_WATCH_PAUSE));
        assert_eq!(pause_after(FileState::Unchanged, pause), MAX_WATCH_PAUSE);
        assert_eq!(pause_after(FileState::Changed, pause), MIN_WATCH_PAUSE);
    }
}
