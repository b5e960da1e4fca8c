//! Watches: the writer signals the writes of this store, and a poller those of all other connections to the file.
//!
//! The poller runs on a thread that exists only while there are watches. `PRAGMA data_version` of its connection
//! changes with each commit of any other connection, at the cost of some microseconds. After a change it compares
//! the state of each watched memory with the one that it saw last.

mod poller;
mod registry;
mod seen;
#[cfg(test)]
mod tests;

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;

use async_trait::async_trait;
use memory_core::MemoryKey;
use memory_core::store::{LocalWatch, StoreError, StoreOperation, StoreWatch};
use memory_sqlite_file::WorkerThreads;

use self::poller::Poller;
pub(crate) use self::registry::Registry;
use self::seen::Seen;
pub(crate) use self::seen::Version;
use crate::error::no_thread;
use crate::open::OpenFile;
use crate::readers::{Readers, Reads};

/// The watches of a store.
#[derive(Debug)]
pub(crate) struct Watches {
    registry: Arc<Registry>,
    /// The thread of the poller.
    threads: WorkerThreads,
    file: Arc<OpenFile>,
}

impl Watches {
    pub(crate) fn new(registry: Arc<Registry>, file: Arc<OpenFile>) -> Self {
        let threads = WorkerThreads::new("sqlite-watcher", NonZeroUsize::MIN);
        Self { registry, threads, file }
    }

    /// Watches a memory from its present state on.
    pub(crate) async fn watch(
        &self,
        key: &MemoryKey,
        readers: &Arc<Readers>,
    ) -> Result<SqliteWatch, StoreError> {
        // Registered before the state is read: a write that commits later is either in that state or signaled.
        let watch = SqliteWatch::new(&self.registry, key);
        let name = key.clone();
        let state = readers
            .run(StoreOperation::Watch, move |view| Ok(Some(Seen::read(view.connection, &name)?)))
            .await
            .map_err(|error| error.at(key))?;
        self.registry
            .begin(key, state, || self.start_poller())
            .map_err(|error| no_thread(StoreOperation::Watch, &Arc::new(error)).at(key))?;
        Ok(watch)
    }

    fn start_poller(&self) -> Result<(), std::io::Error> {
        let poller = Poller::new(Arc::clone(&self.registry), Arc::clone(&self.file));
        self.threads.run(poller, Poller::run).map_err(|refused| refused.source)
    }

    /// Ends all watches, and waits for the poller to close its connection. If that takes too long, the poller closes
    /// it, and possibly the file, later.
    pub(crate) fn close(&self) -> Reads {
        self.registry.close()
    }
}

/// A watch of one memory.
pub(crate) struct SqliteWatch {
    key: MemoryKey,
    local: LocalWatch,
    /// The number of failed polls that this watch has reported, or that were before it.
    reported: u64,
    registry: Arc<Registry>,
}

impl SqliteWatch {
    pub(crate) fn new(registry: &Arc<Registry>, key: &MemoryKey) -> Self {
        let (local, reported) = registry.register(key);
        Self { key: key.clone(), local, reported, registry: Arc::clone(registry) }
    }
}

#[async_trait]
impl StoreWatch for SqliteWatch {
    async fn changed(&mut self) -> Result<(), StoreError> {
        // After the store was dropped no signal comes.
        self.registry.check_open(&self.key)?;
        self.local.changed().await;
        self.registry.outcome(&self.key, &mut self.reported)
    }
}

impl Drop for SqliteWatch {
    fn drop(&mut self) {
        self.registry.unregister(&self.key);
    }
}

impl fmt::Debug for SqliteWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteWatch").field("key", &self.key).finish_non_exhaustive()
    }
}
