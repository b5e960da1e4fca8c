//! The options for opening a store.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use memory_core::Clock;
use memory_core::store::Durability;
use memory_sqlite_file::{DEFAULT_BUSY_TIMEOUT, Links, Synchronous, SystemClock};

/// The thread that commits a write if no other write waits behind it. Writes that wait together are committed by a
/// thread of the store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CommitThread {
    /// The calling thread. A commit blocks it (for about 0.2 ms on an SSD) and saves two hand-offs between threads.
    /// While most commits take longer than 1 ms, a thread of the store commits.
    #[default]
    Caller,
    /// A thread of the store.
    Store,
}

/// The location of the file, and how it is used.
#[derive(Debug, Clone)]
pub struct SqliteConfig {
    path: PathBuf,
    durability: Durability,
    operation_timeout: Duration,
    commit_thread: CommitThread,
    readers: usize,
    links: Links,
    unindexed_limit: u64,
    clock: Clock,
}

impl SqliteConfig {
    /// The defaults, with this file.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            durability: Durability::Disk,
            operation_timeout: DEFAULT_BUSY_TIMEOUT,
            commit_thread: CommitThread::Caller,
            readers: default_readers(),
            links: Links::Refuse,
            unindexed_limit: 128,
            clock: Clock::new(SystemClock),
        }
    }

    /// The failure that an acknowledged write must survive. [`Durability::Disk`] is `synchronous = FULL`,
    /// every lower level `synchronous = NORMAL`. Default: [`Durability::Disk`].
    #[must_use]
    pub const fn with_durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// How long an operation waits while other processes keep the file locked, in real time.
    /// Default: 5 s.
    #[must_use]
    pub const fn with_operation_timeout(mut self, timeout: Duration) -> Self {
        self.operation_timeout = timeout;
        self
    }

    /// The thread that commits a write if no other write waits. Default: [`CommitThread::Caller`].
    #[must_use]
    pub const fn with_commit_thread(mut self, thread: CommitThread) -> Self {
        self.commit_thread = thread;
        self
    }

    /// How many long reads run at once; at least 1. As many connections for reading are kept open, but at least 4,
    /// because short reads run beside them. Default: one less than the processor's cores, at least 1 and at most 4,
    /// so that long reads leave a core to writers.
    #[must_use]
    pub fn with_readers(mut self, readers: usize) -> Self {
        self.readers = readers.max(1);
        self
    }

    /// Whether a file that has more than one name (a second hard link, or a mount of the file alone) is
    /// opened. Default: [`Links::Refuse`].
    #[must_use]
    pub const fn with_links(mut self, links: Links) -> Self {
        self.links = links;
        self
    }

    /// The most new messages that a search scans. If there are more, it first adds them to the index, which is a
    /// write. Default: 128.
    #[must_use]
    pub const fn with_unindexed_limit(mut self, messages: u64) -> Self {
        self.unindexed_limit = messages;
        self
    }

    /// The clock that TTLs and leases are measured by: TTLs by its time of day, leases by its monotonic
    /// count. Default: [`SystemClock`](memory_sqlite_file::SystemClock).
    #[must_use]
    pub fn with_clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The failure that an acknowledged write survives.
    #[must_use]
    pub const fn durability(&self) -> Durability {
        match self.durability {
            Durability::Disk => Durability::Disk,
            // `synchronous = OFF` could damage the file, so it is not offered.
            _ => Durability::Process,
        }
    }

    pub(crate) const fn synchronous(&self) -> Synchronous {
        match self.durability {
            Durability::Disk => Synchronous::Full,
            _ => Synchronous::Normal,
        }
    }

    pub(crate) const fn operation_timeout(&self) -> Duration {
        self.operation_timeout
    }

    pub(crate) const fn commit_thread(&self) -> CommitThread {
        self.commit_thread
    }

    pub(crate) const fn readers(&self) -> usize {
        self.readers
    }

    /// The number of connections for reading that are kept open. To open one takes longer than a short read.
    pub(crate) fn kept_readers(&self) -> usize {
        self.readers.max(MOST_READERS)
    }

    pub(crate) const fn clock(&self) -> &Clock {
        &self.clock
    }

    pub(crate) const fn unindexed_limit(&self) -> u64 {
        self.unindexed_limit
    }

    pub(crate) const fn links(&self) -> Links {
        self.links
    }

    pub(crate) fn now_micros(&self) -> u64 {
        self.clock.now_micros()
    }
}

impl From<PathBuf> for SqliteConfig {
    fn from(path: PathBuf) -> Self {
        Self::new(path)
    }
}

impl From<&Path> for SqliteConfig {
    fn from(path: &Path) -> Self {
        Self::new(path)
    }
}

impl From<&str> for SqliteConfig {
    fn from(path: &str) -> Self {
        Self::new(path)
    }
}

/// The most long reads that run at once by default.
const MOST_READERS: usize = 4;

/// Long reads keep a core busy each, so they leave one to writers, of this process or another.
fn default_readers() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    cores.saturating_sub(1).clamp(1, MOST_READERS)
}
