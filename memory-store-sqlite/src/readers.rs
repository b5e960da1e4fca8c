//! Connections that read, and where a read runs.
//!
//! A read of a few rows takes some microseconds and never waits for the writer, so it runs on the
//! calling thread: a hand-off would cost several times as much. A read that would take longer than a
//! commit takes (many rows, or much text) runs on a blocking thread, a few at once.

use std::sync::{Arc, Mutex, PoisonError};

use memory_core::{StoreError, StoreErrorKind};
use rusqlite::Connection;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use crate::config::SqliteConfig;
use crate::error::Fault;
use crate::open::open_reader;
use crate::writer::real_now;

#[derive(Debug)]
pub(crate) struct Readers {
    config: SqliteConfig,
    idle: Mutex<Vec<Connection>>,
    /// Lets in so many long reads at once.
    long: Arc<Semaphore>,
}

/// One snapshot of the file.
pub(crate) struct View<'a> {
    pub(crate) connection: &'a Connection,
    pub(crate) now: u64,
    /// A read that turns out to be long must say so instead of being done.
    pub(crate) brief: bool,
}

impl View<'_> {
    /// Whether so many rows with so many tokens are too much for the calling thread.
    pub(crate) const fn is_too_long(&self, rows: u64, tokens: u64) -> bool {
        self.brief && (rows > 128 || tokens > 1 << 15)
    }
}

impl Readers {
    pub(crate) fn new(config: SqliteConfig) -> Self {
        let long = Arc::new(Semaphore::new(config.readers()));
        Self { config, idle: Mutex::default(), long }
    }

    /// Runs a read on one snapshot; `None` from it means that it is too long for the calling thread.
    pub(crate) async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        operation: &'static str,
        read: impl Fn(&View<'_>) -> Result<Option<T>, Fault> + Send + 'static,
    ) -> Result<T, StoreError> {
        let runtime = Handle::try_current().ok();
        match self.attempt(runtime.is_some(), &read) {
            Ok(None) => {}
            Err(fault) if fault.is_busy() => {}
            Ok(Some(done)) => return Ok(done),
            Err(fault) => return Err(fault.to_error(operation, self.config.path())),
        }
        let this = Arc::clone(self);
        let done = match runtime {
            Some(runtime) => {
                // Closed only when the store is dropped, and nobody calls it any more.
                let permit = Arc::clone(&self.long).acquire_owned().await;
                let task = runtime.spawn_blocking(move || {
                    let _permit = permit;
                    this.attempt_patiently(&read)
                });
                task.await.unwrap_or_else(|_| {
                    let reason = "the runtime is shutting down; try again under another";
                    Err(Fault::Refused(StoreErrorKind::Unavailable(reason.into())))
                })
            }
            // Under another executor than tokio there is no thread to go to.
            None => self.attempt_patiently(&read),
        };
        done.map_err(|fault| fault.to_error(operation, self.config.path()))
    }

    pub(crate) fn close(&self) {
        self.long.close();
        let idle = std::mem::take(&mut *self.idle.lock().unwrap_or_else(PoisonError::into_inner));
        drop(idle);
    }

    /// Tries again while another process keeps the file from being read at all, as it does while it
    /// recovers the log of one that was killed.
    fn attempt_patiently<T>(
        &self,
        read: &impl Fn(&View<'_>) -> Result<Option<T>, Fault>,
    ) -> Result<T, Fault> {
        let since = real_now();
        loop {
            match self.attempt(false, read) {
                Err(fault)
                    if fault.is_busy() && since.elapsed() < self.config.operation_timeout() => {}
                Ok(None) => {
                    return Err(Fault::Refused(StoreErrorKind::Other("read cut short".into())));
                }
                Ok(Some(done)) => return Ok(done),
                Err(fault) => return Err(fault),
            }
        }
    }

    fn attempt<T>(
        &self,
        brief: bool,
        read: &impl Fn(&View<'_>) -> Result<Option<T>, Fault>,
    ) -> Result<Option<T>, Fault> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let connection = match idle {
            Some(connection) => connection,
            None => open_reader(&self.config)?,
        };
        connection.prepare_cached("BEGIN")?.execute(())?;
        let now = self.config.now_micros();
        let done = read(&View { connection: &connection, now, brief });
        // A connection that does not come back is closed; the next read opens another.
        let sound = !matches!(done, Err(Fault::Sqlite(_)));
        if sound && connection.prepare_cached("COMMIT")?.execute(()).is_ok() {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            if idle.len() < self.config.readers() {
                idle.push(connection);
            }
        }
        done
    }
}
