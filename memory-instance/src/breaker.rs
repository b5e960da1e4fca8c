//! A circuit breaker between callers and a store.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use memory_core::health::ServerHealth;
use memory_core::lease::{LeaseDomain, LeaseProof};
use memory_core::resource::CircuitBreakerSettings;
use memory_core::store::{
    Access, Append, Appended, ArchivedRemoval, CaughtUp, Clear, Cleared, CopyProgress, CopyWrite,
    Counters, Cursor, Durability, Erase, Erased, Erasure, FlushReceipt, Fork, ForkOrigin, Forked,
    Frame, FrameWriters, Head, KnownBatch, Metadata, Outline, Page, PageLimit, Read, RemainingCopy,
    RemoveUnused, RemovedUnused, Replace, ReplaceAll, ReplacedAll, Restore, Scrubbed, SearchQuery,
    SearchResults, Splice, StoreError, StoreErrorKind, StoreOperation, StoreWatch, UnusedPage,
    UnusedQuery, UpdateMetadata,
};
use memory_core::{MemoryKey, MemoryStore, Sequence, StoredMessage};
use reliakit_circuit::State;
use tokio::time::{Instant, timeout};

use crate::telemetry::BreakerMetrics;

/// A store behind a circuit breaker. While the circuit is open, calls are refused at once and are not sent, so
/// a server that is down costs its callers little.
///
/// A resource with a `circuit_breaker` block gets a breaker automatically. Use this type for a store without a
/// manager, or for one breaker that several resources share.
///
/// - **Closed**: calls go through. A call fails if it ends with [`StoreErrorKind::Unavailable`], or does not
///   end within `timeout`; then its future is dropped, and a write may have been applied. Any other error is an
///   answer and shows that the store is reachable. A call that its caller drops is not counted.
///   `failure_threshold` failures in a row open the circuit.
/// - **Open**: calls return [`StoreErrorKind::CircuitOpen`] for `reset_timeout`.
/// - **Half open**: one call at a time is sent as a probe, the others are refused. `success_threshold`
///   answered probes close the circuit; one failed probe opens it again. A dropped probe makes room for the
///   next one.
///
/// A call counts only in the state in which it was admitted: a late result from an earlier state does not show
/// the present state of the store.
#[derive(Debug)]
pub struct CircuitBreaker {
    store: Arc<dyn MemoryStore>,
    settings: CircuitBreakerSettings,
    began: Instant,
    circuit: Mutex<Circuit>,
    metrics: Option<BreakerMetrics>,
}

/// Times are nanoseconds since the breaker was created.
#[derive(Debug)]
struct Circuit {
    machine: reliakit_circuit::CircuitBreaker,
    /// Increases with each state change of the machine.
    period: u64,
    /// The number of the probe in flight. The machine itself would admit any number of probes.
    probing: Option<u64>,
    probes: u64,
    /// Calls are refused until then: the end of an open period, or the deadline of a probe.
    until: u64,
}

impl Circuit {
    /// Runs one step of the machine, and starts a new period if its state changed.
    fn step<T>(&mut self, step: impl FnOnce(&mut reliakit_circuit::CircuitBreaker) -> T) -> T {
        let before = self.machine.state();
        let done = step(&mut self.machine);
        if self.machine.state() != before {
            self.period += 1;
            self.probing = None;
        }
        done
    }
}

/// The operation and the key of a call; its errors name them.
#[derive(Debug, Clone, Copy)]
struct Call<'a> {
    operation: StoreOperation,
    key: Option<&'a MemoryKey>,
    writes: bool,
}

impl<'a> Call<'a> {
    const fn read(operation: StoreOperation, key: &'a MemoryKey) -> Self {
        Self { operation, key: Some(key), writes: false }
    }

    const fn write(operation: StoreOperation, key: &'a MemoryKey) -> Self {
        Self { operation, key: Some(key), writes: true }
    }

    fn error(self, kind: StoreErrorKind) -> StoreError {
        let error = StoreError::new(self.operation, kind).not_applied();
        match self.key {
            Some(key) => error.at(key),
            None => error,
        }
    }

    fn timed_out(self, waited: Duration) -> StoreError {
        let problem = format!("no answer within {waited:?}; it may be down or overloaded");
        let error = self.error(StoreErrorKind::Unavailable(problem));
        if self.writes { error.possibly_applied() } else { error }
    }
}

/// Permission for one call. If it is dropped without a result, the breaker is unchanged.
#[derive(Debug)]
struct Permit<'a> {
    breaker: &'a CircuitBreaker,
    period: u64,
    probe: Option<u64>,
}

impl Permit<'_> {
    /// Records an answer of the store, whether success or error.
    fn succeeded(self) {
        let mut circuit = self.breaker.circuit();
        if circuit.period == self.period {
            circuit.step(reliakit_circuit::CircuitBreaker::on_success);
            if circuit.period != self.period {
                self.breaker.report(circuit.machine.state());
                tracing::info!("circuit breaker closed: the store answers again");
            }
        }
    }

    /// Records that the store did not answer.
    fn failed(self) {
        let now = self.breaker.now();
        let mut circuit = self.breaker.circuit();
        if circuit.period == self.period {
            circuit.step(|machine| machine.on_failure(now));
            if circuit.period != self.period {
                let CircuitBreakerSettings { failure_threshold, reset_timeout, .. } =
                    self.breaker.settings;
                circuit.until = now.saturating_add(nanos(reset_timeout));
                self.breaker.report(circuit.machine.state());
                tracing::warn!(
                    failure_threshold,
                    ?reset_timeout,
                    "circuit breaker open: the store does not answer"
                );
            }
        }
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        let mut circuit = self.breaker.circuit();
        if circuit.period == self.period && circuit.probing == self.probe {
            circuit.probing = None;
        }
    }
}

impl CircuitBreaker {
    /// Puts a circuit breaker before a store.
    ///
    /// The settings are not validated; those of a parsed resource are already valid.
    #[must_use]
    pub fn new(store: Arc<dyn MemoryStore>, settings: CircuitBreakerSettings) -> Self {
        let CircuitBreakerSettings { failure_threshold, reset_timeout, success_threshold, .. } =
            settings;
        let machine =
            reliakit_circuit::CircuitBreaker::new(failure_threshold, nanos(reset_timeout))
                .with_success_threshold(success_threshold);
        let circuit = Circuit { machine, period: 0, probing: None, probes: 0, until: 0 };
        let (began, circuit) = (Instant::now(), Mutex::new(circuit));
        Self { store, settings, began, circuit, metrics: None }
    }

    /// Reports its state in the metrics of a resource.
    pub(crate) fn with_metrics(mut self, project: &str, id: &str) -> Self {
        self.metrics = Some(BreakerMetrics::new(project, id));
        self
    }

    /// The state changed.
    fn report(&self, state: State) {
        if let Some(metrics) = &self.metrics {
            metrics.report(state);
        }
    }

    fn circuit(&self) -> MutexGuard<'_, Circuit> {
        self.circuit.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> u64 {
        nanos(self.began.elapsed())
    }

    /// Admits a call, or returns the time after which to retry.
    fn permit(&self) -> Result<Permit<'_>, Duration> {
        let now = self.now();
        let mut circuit = self.circuit();
        let allowed = circuit.step(|machine| machine.allow(now));
        // The caller of a probe may have stopped polling it. Without this bound it would block all calls.
        let probing = circuit.probing.is_some() && now < circuit.until;
        if !allowed || probing {
            return Err(Duration::from_nanos(circuit.until.saturating_sub(now)));
        }
        let mut probe = None;
        if circuit.machine.state() == State::HalfOpen {
            self.report(State::HalfOpen);
            circuit.probes += 1;
            probe = Some(circuit.probes);
            circuit.probing = probe;
            circuit.until = now.saturating_add(nanos(self.settings.timeout));
        }
        Ok(Permit { breaker: self, period: circuit.period, probe })
    }

    async fn guard<T>(
        &self,
        call: Call<'_>,
        answer: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        let permit = self.permit().map_err(|retry_after| {
            let failures = self.settings.failure_threshold;
            call.error(StoreErrorKind::CircuitOpen { failures, retry_after })
        })?;
        let waited = self.settings.timeout;
        let Ok(answer) = timeout(waited, answer).await else {
            permit.failed();
            return Err(call.timed_out(waited));
        };
        match answer.as_ref().map_err(StoreError::kind) {
            Err(StoreErrorKind::Unavailable(_)) => permit.failed(),
            // Another breaker inside this one refused the call, so the store was not asked.
            Err(StoreErrorKind::CircuitOpen { .. }) => drop(permit),
            _ => permit.succeeded(),
        }
        answer
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl MemoryStore for CircuitBreaker {
    async fn append(
        &self,
        key: &MemoryKey,
        access: Access,
        append: &Append,
    ) -> Result<Appended, StoreError> {
        self.guard(Call::write(StoreOperation::Append, key), self.store.append(key, access, append))
            .await
    }

    async fn replace(
        &self,
        key: &MemoryKey,
        access: Access,
        replace: &Replace,
    ) -> Result<Counters, StoreError> {
        self.guard(
            Call::write(StoreOperation::Replace, key),
            self.store.replace(key, access, replace),
        )
        .await
    }

    async fn splice(
        &self,
        key: &MemoryKey,
        access: Access,
        splice: &Splice,
    ) -> Result<Counters, StoreError> {
        self.guard(Call::write(StoreOperation::Splice, key), self.store.splice(key, access, splice))
            .await
    }

    async fn clear(
        &self,
        key: &MemoryKey,
        access: Access,
        clear: &Clear,
    ) -> Result<Cleared, StoreError> {
        self.guard(Call::write(StoreOperation::Clear, key), self.store.clear(key, access, clear))
            .await
    }

    async fn replace_all(
        &self,
        key: &MemoryKey,
        access: Access,
        replace: &ReplaceAll,
    ) -> Result<ReplacedAll, StoreError> {
        let call = Call::write(StoreOperation::ReplaceAll, key);
        self.guard(call, self.store.replace_all(key, access, replace)).await
    }

    async fn restore(
        &self,
        key: &MemoryKey,
        access: Access,
        restore: &Restore,
    ) -> Result<Counters, StoreError> {
        let call = Call::write(StoreOperation::Restore, key);
        self.guard(call, self.store.restore(key, access, restore)).await
    }

    async fn removals(
        &self,
        key: &MemoryKey,
        before: Option<u64>,
        limit: NonZeroUsize,
    ) -> Result<Vec<ArchivedRemoval>, StoreError> {
        let read = self.store.removals(key, before, limit);
        self.guard(Call::read(StoreOperation::Read, key), read).await
    }

    async fn archived(
        &self,
        key: &MemoryKey,
        removal: u64,
        after: Sequence,
        limit: PageLimit,
    ) -> Result<Vec<StoredMessage>, StoreError> {
        let read = self.store.archived(key, removal, after, limit);
        self.guard(Call::read(StoreOperation::Read, key), read).await
    }

    async fn erase(
        &self,
        key: &MemoryKey,
        access: Access,
        erase: &Erase,
    ) -> Result<Erased, StoreError> {
        let call = Call::write(StoreOperation::Erase, key);
        self.guard(call, self.store.erase(key, access, erase)).await
    }

    async fn erasures(&self, key: &MemoryKey) -> Result<Vec<Erasure>, StoreError> {
        let read = self.store.erasures(key);
        self.guard(Call::read(StoreOperation::Read, key), read).await
    }

    /// Without the timeout of the breaker: the first search of a long memory may build its index.
    async fn search(
        &self,
        key: &MemoryKey,
        query: &SearchQuery,
    ) -> Result<SearchResults, StoreError> {
        self.store.search(key, query).await
    }

    /// Without the timeout of the breaker, as [`search`](MemoryStore::search).
    async fn rebuild_index(&self, key: &MemoryKey) -> Result<Option<u64>, StoreError> {
        self.store.rebuild_index(key).await
    }

    /// Without the timeout of the breaker: it takes as long as rewriting all data takes.
    async fn scrub(&self) -> Result<Scrubbed, StoreError> {
        self.store.scrub().await
    }

    fn remaining_copies(&self) -> &'static [RemainingCopy] {
        self.store.remaining_copies()
    }

    async fn frame(&self, key: &MemoryKey, writers: FrameWriters) -> Result<Frame, StoreError> {
        self.guard(Call::read(StoreOperation::Read, key), self.store.frame(key, writers)).await
    }

    async fn write_copy(
        &self,
        key: &MemoryKey,
        access: Access,
        write: &CopyWrite,
    ) -> Result<CopyProgress, StoreError> {
        let call = Call::write(StoreOperation::Copy, key);
        self.guard(call, self.store.write_copy(key, access, write)).await
    }

    async fn fork(
        &self,
        key: &MemoryKey,
        access: Access,
        fork: &Fork,
    ) -> Result<Forked, StoreError> {
        let call = Call::write(StoreOperation::Copy, key);
        self.guard(call, self.store.fork(key, access, fork)).await
    }

    async fn origin(&self, key: &MemoryKey) -> Result<Option<ForkOrigin>, StoreError> {
        self.guard(Call::read(StoreOperation::Read, key), self.store.origin(key)).await
    }

    async fn metadata(&self, key: &MemoryKey) -> Result<Metadata, StoreError> {
        self.guard(Call::read(StoreOperation::Read, key), self.store.metadata(key)).await
    }

    async fn update_metadata(
        &self,
        key: &MemoryKey,
        access: Access,
        update: &UpdateMetadata,
    ) -> Result<Metadata, StoreError> {
        let call = Call::write(StoreOperation::UpdateMetadata, key);
        self.guard(call, self.store.update_metadata(key, access, update)).await
    }

    async fn claim(&self, key: &MemoryKey, lease: LeaseProof) -> Result<(), StoreError> {
        self.guard(Call::write(StoreOperation::Claim, key), self.store.claim(key, lease)).await
    }

    async fn head(&self, key: &MemoryKey) -> Result<Head, StoreError> {
        self.guard(Call::read(StoreOperation::Read, key), self.store.head(key)).await
    }

    async fn read(&self, key: &MemoryKey, read: Read) -> Result<Page, StoreError> {
        self.guard(Call::read(StoreOperation::Read, key), self.store.read(key, read)).await
    }

    async fn catch_up(
        &self,
        key: &MemoryKey,
        after: Cursor,
        known: &[KnownBatch],
    ) -> Result<CaughtUp, StoreError> {
        let caught_up = self.store.catch_up(key, after, known);
        self.guard(Call::read(StoreOperation::Read, key), caught_up).await
    }

    async fn read_before(
        &self,
        key: &MemoryKey,
        before: Option<Cursor>,
        limit: NonZeroUsize,
    ) -> Result<Page, StoreError> {
        let read = self.store.read_before(key, before, limit);
        self.guard(Call::read(StoreOperation::Read, key), read).await
    }

    async fn outline(&self, key: &MemoryKey) -> Result<Outline, StoreError> {
        self.guard(Call::read(StoreOperation::Read, key), self.store.outline(key)).await
    }

    async fn fetch(
        &self,
        key: &MemoryKey,
        snapshot: Cursor,
        places: &[Sequence],
    ) -> Result<Vec<StoredMessage>, StoreError> {
        self.guard(Call::read(StoreOperation::Read, key), self.store.fetch(key, snapshot, places))
            .await
    }

    async fn receipts(&self, key: &MemoryKey) -> Result<Vec<FlushReceipt>, StoreError> {
        self.guard(Call::read(StoreOperation::Read, key), self.store.receipts(key)).await
    }

    async fn keys(
        &self,
        after: Option<&MemoryKey>,
        limit: NonZeroUsize,
    ) -> Result<Vec<MemoryKey>, StoreError> {
        let call = Call { operation: StoreOperation::ListKeys, key: None, writes: false };
        self.guard(call, self.store.keys(after, limit)).await
    }

    async fn unused(&self, query: &UnusedQuery) -> Result<UnusedPage, StoreError> {
        let call = Call { operation: StoreOperation::ListUnused, key: None, writes: false };
        self.guard(call, self.store.unused(query)).await
    }

    async fn remove(
        &self,
        key: &MemoryKey,
        remove: RemoveUnused,
    ) -> Result<RemovedUnused, StoreError> {
        self.guard(Call::write(StoreOperation::Remove, key), self.store.remove(key, remove)).await
    }

    async fn watch(&self, key: &MemoryKey) -> Result<Box<dyn StoreWatch>, StoreError> {
        self.guard(Call::read(StoreOperation::Watch, key), self.store.watch(key)).await
    }

    async fn server(&self) -> Result<Option<ServerHealth>, StoreError> {
        let call = Call { operation: StoreOperation::AskServer, key: None, writes: false };
        self.guard(call, self.store.server()).await
    }

    fn lease_domain(&self) -> Option<&LeaseDomain> {
        self.store.lease_domain()
    }

    fn durability(&self) -> Durability {
        self.store.durability()
    }
}
