//! The second reading: agents append, each one key at a time.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use indicatif::ProgressBar;
use memory_core::store::{AppendOutcome, Appended, WriteId};
use memory_core::{MemoryKey, Message};
use memory_instance::{MemoryError, MemoryManager};
use tokio::runtime::Handle;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{Mutex as AsyncMutex, OwnedSemaphorePermit, Semaphore};

use super::source::Source;
use super::survey::{Routed, Router};
use crate::failure::one_line;

/// How much the reader reads ahead of the agents, in KiB of text.
const AHEAD_KIB: u32 = 64 << 10;

/// Lines on their way from the reader to the agents.
///
/// A key with lines is in the hands of one agent until none is left, so a key's order is kept; agents
/// work on different keys at once.
#[derive(Debug, Clone)]
pub(crate) struct Pool(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    manager: MemoryManager,
    lanes: Mutex<HashMap<MemoryKey, Lane>>,
    /// Keys that have lines and no agent; closed at the end of the last source.
    ready: Mutex<Option<UnboundedSender<MemoryKey>>>,
    waiting: AsyncMutex<UnboundedReceiver<MemoryKey>>,
    ahead: Arc<Semaphore>,
    progress: ProgressBar,
    pub(super) tally: ImportTally,
    failure: Mutex<Option<anyhow::Error>>,
}

/// The outcomes of the lines.
#[derive(Debug, Default)]
pub(crate) struct ImportTally {
    pub(super) read: AtomicU64,
    pub(super) appended: AtomicU64,
    pub(super) skipped: AtomicU64,
    pub(super) excluded: AtomicU64,
    pub(super) withheld: AtomicU64,
    pub(super) failed: AtomicU64,
}

#[derive(Debug, Default)]
struct Lane {
    lines: VecDeque<Line>,
    /// An agent has the key, or will get it.
    busy: bool,
    /// One of its messages could not be appended; those after it would be out of order.
    failed: bool,
}

#[derive(Debug)]
struct Line {
    place: String,
    write: WriteId,
    message: Message,
    _ahead: Option<OwnedSemaphorePermit>,
}

impl Pool {
    pub(crate) fn new(manager: MemoryManager, progress: ProgressBar) -> Self {
        let (ready, waiting) = unbounded_channel();
        Self(Arc::new(Shared {
            manager,
            lanes: Mutex::default(),
            ready: Mutex::new(Some(ready)),
            waiting: AsyncMutex::new(waiting),
            ahead: Arc::new(Semaphore::new(AHEAD_KIB as usize)),
            progress,
            tally: ImportTally::default(),
            failure: Mutex::default(),
        }))
    }

    /// Reads a source and hands its lines to the agents. Blocks; run it on a separate thread.
    pub(crate) fn feed(&self, source: &Source, router: &Router) -> anyhow::Result<()> {
        let mut ordinals: HashMap<MemoryKey, u64> = HashMap::new();
        // Only skipped bad records must be found again; otherwise all are good.
        let routing = if router.skip_bad { router.routing() } else { router.routing_unchecked() };
        let records = routing.read(source, |_, routed| {
            match routed {
                Ok(routed) => self.push_all(source, routed, &mut ordinals),
                Err(_) if router.skip_bad => {}
                // The survey accepted it, so the file has changed since.
                Err(problem) => return Err(problem.in_source(source)),
            }
            Ok(())
        })?;
        anyhow::ensure!(
            source.is_unchanged(records),
            "{} was changed while it was imported; import it again when it is complete",
            source.name()
        );
        Ok(())
    }

    fn push_all(&self, source: &Source, routed: Routed, ordinals: &mut HashMap<MemoryKey, u64>) {
        let Some(key) = routed.key else { return };
        let place = format!("{}:{}", source.name(), routed.line);
        let bytes = routed.bytes / routed.messages.len().max(1);
        let kib = u32::try_from(bytes / 1024 + 1).unwrap_or(AHEAD_KIB).min(AHEAD_KIB);
        for message in routed.messages {
            let ordinal = ordinals.entry(key.clone()).or_default();
            *ordinal += 1;
            let write = source.writer(&key).write(*ordinal);
            let permit = Arc::clone(&self.0.ahead).acquire_many_owned(kib);
            let _ahead = Handle::current().block_on(permit).ok();
            self.push(&key, Line { place: place.clone(), write, message, _ahead });
        }
    }

    /// Ends the input.
    pub(crate) fn close(&self) {
        *locked(&self.0.ready) = None;
    }

    fn push(&self, key: &MemoryKey, line: Line) {
        self.0.tally.read.fetch_add(1, Ordering::Relaxed);
        let mut lanes = locked(&self.0.lanes);
        let lane = lanes.entry(key.clone()).or_default();
        lane.lines.push_back(line);
        if !std::mem::replace(&mut lane.busy, true)
            && let Some(ready) = &*locked(&self.0.ready)
        {
            // The receiver lives as long as the pool.
            let _ = ready.send(key.clone());
        }
    }

    /// The next line of a key, and whether one before it failed; with none left the key is given back.
    fn next(&self, key: &MemoryKey) -> Option<(Line, bool)> {
        let mut lanes = locked(&self.0.lanes);
        let lane = lanes.get_mut(key)?;
        let line = lane.lines.pop_front();
        lane.busy = line.is_some();
        line.map(|line| (line, lane.failed))
    }

    /// An agent: appends until all is done.
    pub(crate) async fn work(self) {
        loop {
            let key = self.0.waiting.lock().await.recv().await;
            let Some(key) = key else { return };
            while let Some((line, given_up)) = self.next(&key) {
                if given_up {
                    self.0.tally.failed.fetch_add(1, Ordering::Relaxed);
                } else {
                    self.append(&key, line).await;
                }
                self.0.progress.inc(1);
            }
        }
    }

    async fn append(&self, key: &MemoryKey, line: Line) {
        let tally = &self.0.tally;
        match self.send(key, line.write, line.message).await {
            Ok(Appended { outcome, withheld, .. }) => {
                let count = match outcome {
                    AppendOutcome::Appended { .. } => {
                        tally.withheld.fetch_add(withheld.len() as u64, Ordering::Relaxed);
                        &tally.appended
                    }
                    AppendOutcome::Duplicate { .. } => &tally.skipped,
                    AppendOutcome::Excluded => &tally.excluded,
                };
                count.fetch_add(1, Ordering::Relaxed)
            }
            Err(error) => {
                if let Some(lane) = locked(&self.0.lanes).get_mut(key) {
                    lane.failed = true;
                }
                let mut failure = locked(&self.0.failure);
                failure
                    .get_or_insert_with(|| anyhow::anyhow!("{}: {}", line.place, one_line(&error)));
                tally.failed.fetch_add(1, Ordering::Relaxed)
            }
        };
    }

    async fn send(
        &self,
        key: &MemoryKey,
        write: WriteId,
        message: Message,
    ) -> Result<Appended, MemoryError> {
        let memory = self.0.manager.memory_at(key)?;
        let prepared = memory.prepare_as(write, [message])?;
        memory.send(&prepared).await
    }

    pub(crate) fn tally(&self) -> &ImportTally {
        &self.0.tally
    }

    /// How many memories the lines belong to.
    pub(crate) fn keys(&self) -> usize {
        locked(&self.0.lanes).len()
    }

    /// The first failure, if there was one.
    pub(crate) fn into_failure(self) -> Option<anyhow::Error> {
        let failure = locked(&self.0.failure).take()?;
        let more = self.0.tally.failed.load(Ordering::Relaxed).saturating_sub(1);
        Some(match more {
            0 => failure,
            1 => anyhow::anyhow!(
                "{failure:#} (and 1 more message was not appended; run the import again to go on)"
            ),
            more => anyhow::anyhow!(
                "{failure:#} (and {more} more messages were not appended; run the import again to go on)"
            ),
        })
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
