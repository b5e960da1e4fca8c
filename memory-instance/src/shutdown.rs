//! Graceful shutdown of a manager: flushes and turns get time to end, then their leases are released.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::lifecycle::ShutdownReport;
use crate::manager::MemoryManager;
use crate::telemetry::operation;
use crate::write::after;

/// How long a shutdown waits for the answers to its lease releases.
const SHUTDOWN_RELEASE_TIMEOUT: Duration = Duration::from_secs(2);

impl MemoryManager {
    /// Shuts down the manager and all its handles. No new flush or turn
    /// ([`exclusive`](crate::MemoryInstance::exclusive)) starts, and those under way have `grace` to end. Remaining
    /// work is then dropped at its await point, and its leases are released. With a grace of zero nothing is waited
    /// for.
    ///
    /// A flush that a completed append made due counts as under way. Reads and appends work as before, also after
    /// the shutdown; they start no flush. Call this when the application has stopped serving, before the runtime
    /// ends. Without it a running summary is discarded, and leases on a server last for their TTL. No message is
    /// lost either way: an abandoned flush has changed nothing, unless it was dropped within its commit, and the
    /// next one starts over.
    ///
    /// The call takes `grace`, and up to 6 s more if the lease backend does not answer. Repeated and concurrent
    /// calls are safe: the shortest grace applies, and each call reports all work since the first call.
    ///
    /// # Examples
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// use std::time::Duration;
    ///
    /// use memory_instance::{MemoryManager, MemoryResource};
    ///
    /// let manager = MemoryManager::builder()
    ///     .with_resource(MemoryResource::new("support", 8_000))
    ///     .open("memory://")
    ///     .await?;
    /// let report = manager.shutdown(Duration::from_secs(20)).await;
    /// assert!(report.is_complete(), "abandoned: {report:?}");
    /// # Ok::<(), memory_instance::MemoryError>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Cancel safety
    /// Dropping the future leaves the manager shutting down: it starts no flush and no turn, and those under way
    /// continue. Call it again to wait for them.
    pub async fn shutdown(&self, grace: Duration) -> ShutdownReport {
        let work = async {
            let (lifecycle, locks) = (self.lifecycle(), self.locks());
            let began = Instant::now();
            lifecycle.close();
            lifecycle.until_ended(after(began, grace)).await;
            let mut revoked = JoinSet::new();
            for (id, lease) in lifecycle.abandon() {
                let locks = locks.clone();
                revoked.spawn(async move { (id, locks.revoke(&lease).await) });
            }
            while let Some(done) = revoked.join_next().await {
                if let Ok((id, outcome)) = done {
                    lifecycle.revoked(id, outcome);
                }
            }
            // Work whose lease was already over when it should be revoked is releasing the lease itself.
            lifecycle.until_ended(after(Instant::now(), SHUTDOWN_RELEASE_TIMEOUT)).await;
            locks.until_released(SHUTDOWN_RELEASE_TIMEOUT).await;
            let report = lifecycle.report(began.elapsed());
            if !report.is_complete() {
                tracing::warn!(
                    abandoned_flushes = report.abandoned_flushes.len(),
                    abandoned_turns = report.abandoned_turns.len(),
                    unreleased_leases = report.unreleased_leases.len(),
                    "shut down before all work had ended"
                );
            }
            report
        };
        operation!(self, "shutdown", work).await
    }
}
