//! A breaker between callers and a store that may be down.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use memory_core::{
    Append, Appended, CircuitBreakerSettings, Clear, Counters, Cursor, Durability, FlushReceipt,
    Head, LeaseDomain, LeaseProof, MemoryKey, MemoryStore, Outline, Page, Read, RemoveUnused,
    RemovedUnused, Replace, Sequence, ServerHealth, Splice, StoreError, StoreErrorKind,
    StoredMessage, UnusedPage, UnusedQuery,
};
use reliakit_circuit::State;
use tokio::time::{Instant, timeout};

/// A store behind a circuit breaker: while the store is taken to be down, calls are refused at once,
/// without being sent, so that a dead server costs its callers little.
///
/// A resource with a `circuit_breaker` block gets one by itself; this is for a store that is used
/// without a manager, or for one breaker that several resources share.
///
/// - **Closed**: calls go through. A call fails that ends with [`StoreErrorKind::Unavailable`], or
///   not within `timeout`; its future is dropped then, and a write may have been applied. Any other
///   error is an answer, and shows that the store is there. A call whose caller drops it counts for
///   nothing. `failure_threshold` failures in a row open the breaker.
/// - **Open**: calls are [`StoreErrorKind::CircuitOpen`] for `reset_timeout`.
/// - **Half open**: one call at a time goes through as a probe, the others are refused.
///   `success_threshold` probes that are answered close the breaker, one that fails opens it again. A
///   probe that is dropped makes room for the next one.
///
/// A call counts only in the state that let it through: one that ends late, from before the store
/// went down, says nothing of how it is now.
#[derive(Debug)]
pub struct CircuitBreaker {
    store: Arc<dyn MemoryStore>,
    settings: CircuitBreakerSettings,
    began: Instant,
    circuit: Mutex<Circuit>,
}

/// Times are nanoseconds since the breaker began.
#[derive(Debug)]
struct Circuit {
    machine: reliakit_circuit::CircuitBreaker,
    /// Goes up with each change of the machine's state.
    period: u64,
    /// The number of the probe that is under way. The machine itself would let any number through.
    probing: Option<u64>,
    probes: u64,
    /// Until when calls are refused: to the end of an open period, or of a probe at its latest.
    until: u64,
}

impl Circuit {
    /// Lets the machine take a step.
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

/// What a call is, for its errors.
#[derive(Debug, Clone, Copy)]
struct Call<'a> {
    operation: &'static str,
    key: Option<&'a MemoryKey>,
    writes: bool,
}

impl<'a> Call<'a> {
    const fn read(operation: &'static str, key: &'a MemoryKey) -> Self {
        Self { operation, key: Some(key), writes: false }
    }

    const fn write(operation: &'static str, key: &'a MemoryKey) -> Self {
        Self { operation, key: Some(key), writes: true }
    }

    fn error(self, kind: StoreErrorKind) -> StoreError {
        let error = StoreError::new(self.operation, kind);
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

/// The right to make one call. Dropped without a verdict, it leaves the breaker as it was.
#[derive(Debug)]
struct Permit<'a> {
    breaker: &'a CircuitBreaker,
    period: u64,
    probe: Option<u64>,
}

impl Permit<'_> {
    /// The store has answered, whatever it said.
    fn succeeded(self) {
        let mut circuit = self.breaker.circuit();
        if circuit.period == self.period {
            circuit.step(reliakit_circuit::CircuitBreaker::on_success);
            if circuit.period != self.period {
                tracing::info!("the store answers again");
            }
        }
    }

    /// The store has not answered.
    fn failed(self) {
        let now = self.breaker.now();
        let mut circuit = self.breaker.circuit();
        if circuit.period == self.period {
            circuit.step(|machine| machine.on_failure(now));
            if circuit.period != self.period {
                let CircuitBreakerSettings { failure_threshold, reset_timeout, .. } =
                    self.breaker.settings;
                circuit.until = now.saturating_add(nanos(reset_timeout));
                tracing::warn!(failure_threshold, ?reset_timeout, "the store is taken to be down");
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
    /// Puts a breaker before a store.
    ///
    /// The settings are taken as they are; those of a resource that was read have been checked.
    #[must_use]
    pub fn new(store: Arc<dyn MemoryStore>, settings: CircuitBreakerSettings) -> Self {
        let CircuitBreakerSettings { failure_threshold, reset_timeout, success_threshold, .. } =
            settings;
        let machine =
            reliakit_circuit::CircuitBreaker::new(failure_threshold, nanos(reset_timeout))
                .with_success_threshold(success_threshold);
        let circuit = Circuit { machine, period: 0, probing: None, probes: 0, until: 0 };
        Self { store, settings, began: Instant::now(), circuit: Mutex::new(circuit) }
    }

    fn circuit(&self) -> MutexGuard<'_, Circuit> {
        self.circuit.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> u64 {
        nanos(self.began.elapsed())
    }

    /// Lets a call through, or says when to try again.
    fn admit(&self) -> Result<Permit<'_>, Duration> {
        let now = self.now();
        let mut circuit = self.circuit();
        let allowed = circuit.step(|machine| machine.allow(now));
        // A probe whose caller has stopped polling it would else refuse all calls for ever.
        let probing = circuit.probing.is_some() && now < circuit.until;
        if !allowed || probing {
            return Err(Duration::from_nanos(circuit.until.saturating_sub(now)));
        }
        let mut probe = None;
        if circuit.machine.state() == State::HalfOpen {
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
        let permit = self.admit().map_err(|retry_after| {
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
            // Another breaker further in: the store has not been asked.
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
    async fn append(&self, key: &MemoryKey, append: Append) -> Result<Appended, StoreError> {
        self.guard(Call::write("append to", key), self.store.append(key, append)).await
    }

    async fn replace(&self, key: &MemoryKey, replace: Replace) -> Result<Counters, StoreError> {
        self.guard(Call::write("replace a message of", key), self.store.replace(key, replace)).await
    }

    async fn splice(&self, key: &MemoryKey, splice: Splice) -> Result<Counters, StoreError> {
        self.guard(Call::write("flush", key), self.store.splice(key, splice)).await
    }

    async fn clear(&self, key: &MemoryKey, clear: Clear) -> Result<Counters, StoreError> {
        self.guard(Call::write("clear", key), self.store.clear(key, clear)).await
    }

    async fn claim(&self, key: &MemoryKey, lease: LeaseProof) -> Result<(), StoreError> {
        self.guard(Call::write("claim", key), self.store.claim(key, lease)).await
    }

    async fn head(&self, key: &MemoryKey) -> Result<Head, StoreError> {
        self.guard(Call::read("read from", key), self.store.head(key)).await
    }

    async fn read(&self, key: &MemoryKey, read: Read) -> Result<Page, StoreError> {
        self.guard(Call::read("read from", key), self.store.read(key, read)).await
    }

    async fn outline(&self, key: &MemoryKey) -> Result<Outline, StoreError> {
        self.guard(Call::read("read from", key), self.store.outline(key)).await
    }

    async fn fetch(
        &self,
        key: &MemoryKey,
        snapshot: Cursor,
        places: &[Sequence],
    ) -> Result<Vec<StoredMessage>, StoreError> {
        self.guard(Call::read("read from", key), self.store.fetch(key, snapshot, places)).await
    }

    async fn receipts(&self, key: &MemoryKey) -> Result<Vec<FlushReceipt>, StoreError> {
        self.guard(Call::read("read from", key), self.store.receipts(key)).await
    }

    async fn keys(
        &self,
        after: Option<&MemoryKey>,
        limit: NonZeroUsize,
    ) -> Result<Vec<MemoryKey>, StoreError> {
        let call = Call { operation: "list the keys", key: None, writes: false };
        self.guard(call, self.store.keys(after, limit)).await
    }

    async fn unused(&self, query: &UnusedQuery) -> Result<UnusedPage, StoreError> {
        let call = Call { operation: "list unused memories", key: None, writes: false };
        self.guard(call, self.store.unused(query)).await
    }

    async fn remove(
        &self,
        key: &MemoryKey,
        remove: RemoveUnused,
    ) -> Result<RemovedUnused, StoreError> {
        self.guard(Call::write("remove", key), self.store.remove(key, remove)).await
    }

    async fn server(&self) -> Result<Option<ServerHealth>, StoreError> {
        let call = Call { operation: "ask the server of", key: None, writes: false };
        self.guard(call, self.store.server()).await
    }

    fn lease_domain(&self) -> Option<&LeaseDomain> {
        self.store.lease_domain()
    }

    fn durability(&self) -> Durability {
        self.store.durability()
    }
}
