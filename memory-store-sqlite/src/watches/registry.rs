//! The watched memories, shared by the watches, the writer and the poller.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use memory_core::MemoryKey;
use memory_core::store::{LocalWatch, LocalWatchers, StoreError, StoreErrorKind, StoreOperation};

use super::seen::{Seen, Version};
use crate::commands::Changes;
use crate::config::SqliteConfig;
use crate::error::JobError;
use crate::readers::Reads;
use crate::real_time::MAX_CLOSE_WAIT;

#[derive(Debug)]
pub(crate) struct Registry {
    config: SqliteConfig,
    signals: LocalWatchers,
    /// The number of watches, which a writer reads after each commit.
    watches: AtomicUsize,
    state: Mutex<State>,
    /// The last watch or the store was dropped, or the poller has ended.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    memories: HashMap<MemoryKey, Watched>,
    /// A poller runs, and has or may open a connection.
    polled: bool,
    /// A watch began: a change may be older than the data version that the poller saw last.
    look: bool,
    closed: bool,
    /// The number of failed polls, and the fault of the last one.
    failures: u64,
    fault: Option<JobError>,
}

#[derive(Debug, Default)]
struct Watched {
    watches: usize,
    /// The state that was signaled last; none until the first watch has read one.
    seen: Option<Seen>,
    /// A later version that this store has written and signaled.
    written: Option<Version>,
}

impl State {
    fn needs_poller(&self) -> bool {
        !self.closed && !self.memories.is_empty()
    }
}

impl Registry {
    pub(crate) fn new(config: SqliteConfig) -> Self {
        Self {
            config,
            signals: LocalWatchers::default(),
            watches: AtomicUsize::new(0),
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    pub(super) const fn config(&self) -> &SqliteConfig {
        &self.config
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is consistent between any two of its statements. Signals are sent without the lock, because a
        // waker may run the code of any executor.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a watch. Returns its signal and the number of failed polls so far.
    pub(super) fn register(&self, key: &MemoryKey) -> (LocalWatch, u64) {
        let local = self.signals.watch(key);
        let mut state = self.lock();
        state.memories.entry(key.clone()).or_default().watches += 1;
        let failures = state.failures;
        drop(state);
        // Sequentially consistent with `committed`: a writer that reads 0 here committed before the watch reads the
        // state of the memory.
        self.watches.fetch_add(1, Ordering::SeqCst);
        (local, failures)
    }

    pub(super) fn unregister(&self, key: &MemoryKey) {
        self.watches.fetch_sub(1, Ordering::SeqCst);
        let mut state = self.lock();
        if let Some(watched) = state.memories.get_mut(key) {
            watched.watches = watched.watches.saturating_sub(1);
            if watched.watches == 0 {
                state.memories.remove(key);
            }
        }
        let last = state.memories.is_empty();
        drop(state);
        if last {
            self.changed.notify_all();
        }
    }

    /// Compares the memory with this state from now on. Calls `start` if no poller runs.
    pub(super) fn begin<E>(
        &self,
        key: &MemoryKey,
        seen: Seen,
        start: impl FnOnce() -> Result<(), E>,
    ) -> Result<(), E> {
        let mut state = self.lock();
        if !state.polled {
            // With the lock, so that no other watch relies on a poller that fails to start.
            start()?;
            state.polled = true;
        }
        state.look = true;
        let earlier = state.memories.get_mut(key).and_then(|watched| watched.seen.replace(seen));
        drop(state);
        if earlier.is_some_and(|earlier| earlier != seen) {
            // The other watches are signaled here, because the poller did not see the change yet.
            self.signals.notify(key);
        }
        Ok(())
    }

    /// Signals what a transaction of this store has changed. Without a watch it is one atomic load.
    pub(crate) fn committed(&self, changes: &Changes) {
        if self.watches.load(Ordering::SeqCst) == 0 {
            return;
        }
        let mut state = self.lock();
        changes.for_each(|key, version| {
            if let Some(watched) = state.memories.get_mut(key) {
                let is_seen = watched.seen.is_some_and(|seen| seen.version == version);
                watched.written = (!is_seen).then_some(version);
            }
        });
        drop(state);
        changes.for_each(|key, _| self.signals.notify(key));
    }

    /// The memories to look at, if the file or the set of watches has changed.
    pub(super) fn memories_to_look_at(&self, file: FileState) -> Vec<MemoryKey> {
        let mut state = self.lock();
        let look = std::mem::take(&mut state.look) || file == FileState::Changed;
        if look { state.memories.keys().cloned().collect() } else { Vec::new() }
    }

    /// Signals the memories that have changed since they were seen last, except by the last write of this store, which
    /// was signaled when it was committed. Returns whether there are any.
    pub(super) fn compare(&self, found: Vec<(MemoryKey, Seen)>) -> FileState {
        let mut changed = Vec::new();
        let mut state = self.lock();
        for (key, now) in found {
            let Some(watched) = state.memories.get_mut(&key) else { continue };
            // A watch that has not read a state yet will read a later one.
            let Some(seen) = &mut watched.seen else { continue };
            if *seen != now {
                *seen = now;
                if watched.written.take() != Some(now.version) {
                    changed.push(key);
                }
            }
        }
        drop(state);
        for key in &changed {
            self.signals.notify(key);
        }
        if changed.is_empty() { FileState::Unchanged } else { FileState::Changed }
    }

    /// Returns this error to all watches.
    pub(super) fn fail(&self, fault: JobError) {
        let mut state = self.lock();
        state.failures += 1;
        state.fault = Some(fault);
        drop(state);
        self.signals.notify_all();
    }

    /// The result of a wait that a signal has ended: an error if a poll has failed since the last one.
    pub(super) fn outcome(&self, key: &MemoryKey, reported: &mut u64) -> Result<(), StoreError> {
        self.check_open(key)?;
        let state = self.lock();
        if state.failures == *reported {
            return Ok(());
        }
        *reported = state.failures;
        let error = state
            .fault
            .as_ref()
            .map(|fault| fault.to_error(StoreOperation::Watch, self.config.path()).at(key));
        error.map_or(Ok(()), Err)
    }

    pub(super) fn check_open(&self, key: &MemoryKey) -> Result<(), StoreError> {
        if !self.lock().closed {
            return Ok(());
        }
        let kind = StoreErrorKind::Other("the store was closed; open it and watch again".into());
        Err(StoreError::new(StoreOperation::Watch, kind).not_applied().at(key))
    }

    /// Waits at most this long, until the poller is not needed any more.
    pub(super) fn wait(&self, pause: Duration) {
        let state = self.lock();
        let waited = self.changed.wait_timeout_while(state, pause, |state| state.needs_poller());
        drop(waited);
    }

    #[cfg(test)]
    pub(super) fn is_polled(&self) -> bool {
        self.lock().polled
    }

    pub(super) fn needs_poller(&self) -> bool {
        self.lock().needs_poller()
    }

    /// Ends the poller, which has closed its connection, unless it is needed again.
    pub(super) fn end_poller(&self) -> bool {
        let mut state = self.lock();
        let needed = state.needs_poller();
        state.polled = needed;
        drop(state);
        self.changed.notify_all();
        !needed
    }

    pub(super) fn close(&self) -> Reads {
        let mut state = self.lock();
        state.closed = true;
        self.changed.notify_all();
        let (state, _) = self
            .changed
            .wait_timeout_while(state, MAX_CLOSE_WAIT, |state| state.polled)
            .unwrap_or_else(PoisonError::into_inner);
        let polled = state.polled;
        drop(state);
        self.signals.notify_all();
        if polled { Reads::Running } else { Reads::Ended }
    }
}

/// Whether a file, or the watched memories in it, have changed since the last look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileState {
    Changed,
    Unchanged,
}
