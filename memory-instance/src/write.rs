//! The writes to a store, and their execution: waiting for leases, retries, and the final error.

mod limits;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use memory_core::lease::LeaseProof;
use memory_core::store::{
    Access, Append, Appended, Applied, Clear, Cleared, Counters, Replace, StoreError,
    StoreErrorKind, StoreOperation,
};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

pub(crate) use self::limits::after;
use self::limits::{ANSWER_OVERRUN, Asked, MIN_ANSWER_WAIT, TimeLimits, until};
use crate::asking::Answering;
use crate::audit::{Audit, AuditOperation, Audited};
use crate::error::WriteError;
use crate::inner::Inner;
use crate::telemetry::{Operation, WaitSpan, note};

/// A request of a write, which may be sent several times.
pub(crate) trait WriteRequest: Sized + Send + Sync {
    /// The answer of the store.
    type Answer: Send;

    /// The operation, as named in errors.
    const OPERATION: StoreOperation;

    /// The record in the audit log; `None` if it changes no message.
    fn audited(&self) -> Option<Audited>;

    /// The counters of the memory in the answer of the store.
    fn counters(_: &Self::Answer) -> Option<&Counters> {
        None
    }

    /// Sends the request once, under a lease or under none.
    fn send<'a>(
        &'a self,
        inner: &'a Inner,
        lease: Option<LeaseProof>,
    ) -> Answering<'a, Self::Answer>;

    /// The request to send after one whose outcome is unknown, if it must differ.
    fn renewed(&self, _: &Inner) -> Option<Self> {
        None
    }
}

impl WriteRequest for Append {
    type Answer = Appended;
    const OPERATION: StoreOperation = StoreOperation::Append;

    fn audited(&self) -> Option<Audited> {
        Some(Audited::batch(AuditOperation::Append, &self.messages))
    }

    fn counters(answer: &Self::Answer) -> Option<&Counters> {
        Some(&answer.counters)
    }

    fn send<'a>(&'a self, inner: &'a Inner, lease: Option<LeaseProof>) -> Answering<'a, Appended> {
        inner.store().append(&inner.key, Access { lease }, self)
    }

    fn renewed(&self, inner: &Inner) -> Option<Self> {
        Some(inner.renewed(self))
    }
}

impl WriteRequest for Replace {
    type Answer = Counters;
    const OPERATION: StoreOperation = StoreOperation::Replace;

    fn audited(&self) -> Option<Audited> {
        Some(Audited::batch(AuditOperation::Replace, std::slice::from_ref(&self.message)))
    }

    fn counters(answer: &Self::Answer) -> Option<&Counters> {
        Some(answer)
    }

    fn send<'a>(&'a self, inner: &'a Inner, lease: Option<LeaseProof>) -> Answering<'a, Counters> {
        inner.store().replace(&inner.key, Access { lease }, self)
    }
}

impl WriteRequest for Clear {
    type Answer = Cleared;
    const OPERATION: StoreOperation = StoreOperation::Clear;

    fn audited(&self) -> Option<Audited> {
        Some(Audited::all(AuditOperation::Clear))
    }

    fn counters(answer: &Self::Answer) -> Option<&Counters> {
        Some(&answer.counters)
    }

    fn send<'a>(&'a self, inner: &'a Inner, lease: Option<LeaseProof>) -> Answering<'a, Cleared> {
        inner.store().clear(&inner.key, Access { lease }, self)
    }
}

/// Raises the newest token that the store has seen to that of this lease.
pub(crate) struct ClaimFence(pub(crate) LeaseProof);

impl WriteRequest for ClaimFence {
    type Answer = ();
    const OPERATION: StoreOperation = StoreOperation::Claim;

    fn audited(&self) -> Option<Audited> {
        None
    }

    fn send<'a>(&'a self, inner: &'a Inner, _: Option<LeaseProof>) -> Answering<'a, ()> {
        inner.store().claim(&inner.key, self.0)
    }
}

/// The answer to a write.
pub(crate) struct Written<T> {
    pub(crate) answer: T,
    /// Whether an earlier attempt of the same call may have been applied. If not, the answer is to the request as the
    /// caller passed it.
    pub(crate) earlier: Applied,
}

impl Inner {
    /// Executes a write: the answer of [`write_reporting`](Self::write_reporting).
    pub(crate) async fn write<W: WriteRequest>(
        &self,
        write: &W,
        lease: Option<LeaseProof>,
        waits: Duration,
    ) -> Result<W::Answer, WriteError> {
        self.write_reporting(write, lease, waits).await.map(|written| written.answer)
    }

    /// Executes a write: with the store alone if the store checks leases itself, else under the lease. It waits for
    /// the turns of others for at most `waits`; with a timeout of zero it still waits for the first answer. Retryable
    /// errors are retried with the same id for at most the resource's `lock.failure_timeout`.
    pub(crate) async fn write_reporting<W: WriteRequest>(
        &self,
        write: &W,
        lease: Option<LeaseProof>,
        waits: Duration,
    ) -> Result<Written<W::Answer>, WriteError> {
        let audit = Audit::begin(self, || write.audited());
        let operation = Operation::of_write(W::OPERATION);
        // Of an append the whole call is measured.
        let started =
            operation.filter(|it| *it != Operation::Append).map(|it| (it, Instant::now()));
        let done = self.write_until_answered(write, lease, waits).await;
        audit.end(&done);
        note(|totals| {
            totals.messages += write.audited().map_or(0, |audited| audited.messages);
            let counters = done.as_ref().ok().and_then(|written| W::counters(&written.answer));
            totals.tokens = counters.map(|counters| counters.present.tokens).or(totals.tokens);
        });
        let telemetry = &self.rules.telemetry;
        match &done {
            Ok(written) => {
                if let Some((operation, started)) = started {
                    telemetry.took(operation, started.elapsed());
                }
                if let Some(counters) = W::counters(&written.answer) {
                    telemetry.holds(&self.held, counters, &self.rules.policy);
                }
            }
            // The answer to a conditional write that came too late, or the reason for another attempt.
            Err(WriteError::Store(error)) if error.kind() == &StoreErrorKind::Conflict => {}
            Err(error) => {
                if let Some(operation) = operation {
                    telemetry.failed(operation, error.code());
                }
            }
        }
        done
    }

    async fn write_until_answered<W: WriteRequest>(
        &self,
        write: &W,
        lease: Option<LeaseProof>,
        waits: Duration,
    ) -> Result<Written<W::Answer>, WriteError> {
        let began = Instant::now();
        if lease.is_none() {
            self.not_in_own_turn(W::OPERATION.as_str())?;
        }
        let limits = TimeLimits::new(began, waits, self.rules.lock.failure_timeout());
        let mut answer = limits.answer_by(began, None);
        let mut pauses = None;
        let mut unknown = false;
        let mut asked = Asked { at: began, failing: None };
        // Rare paths are boxed, because otherwise the future of every write would have their size.
        let direct = lease.is_some() || self.backend.is_fused();
        let mut renewed: Option<Box<W>> = None;
        loop {
            let write = renewed.as_deref().unwrap_or(write);
            let done = if direct {
                match timeout_at(answer, self.sent(write, lease)).await {
                    Ok(Err(error)) if lease.is_none() && is_locked(&error) => {
                        asked.failing = None;
                        Box::pin(self.write_when_free(write, error, limits, &mut asked)).await
                    }
                    Ok(done) => done.map_err(WriteError::from),
                    Err(_) => Err(self.timed_out(W::OPERATION.as_str(), limits)),
                }
            } else {
                Box::pin(self.write_in_line(write, limits, &mut asked)).await
            };
            let error = match done {
                Ok(answer) => {
                    let earlier = if unknown { Applied::Unknown } else { Applied::No };
                    return Ok(Written { answer, earlier });
                }
                Err(error) => error,
            };
            let retryable = is_retryable(&error, lease);
            if retryable {
                let definite = error.applied() == Applied::No;
                unknown |= !definite;
                if !definite && let Some(next) = write.renewed(self) {
                    renewed = Some(Box::new(next));
                }
                let since = *asked.failing.get_or_insert(asked.at);
                let end = if limits.waits { limits.answer_by(since, None) } else { limits.end };
                let pause =
                    pauses.get_or_insert_with(growing_pauses).next().unwrap_or(MIN_ANSWER_WAIT);
                let next = Instant::now() + pause;
                // A retry after a slow answer needs as much time again: if it is cut short, the outcome is
                // unknown, while after a definite refusal it is known.
                let took = if definite { asked.at.elapsed() } else { Duration::ZERO };
                let last = after(end, ANSWER_OVERRUN);
                sleep_until(next.min(end)).await;
                if next < end && after(next, took) <= last {
                    asked.at = next;
                    answer = limits.answer_by(next, Some(since));
                    if !took.is_zero() {
                        answer = after(next, took + ANSWER_OVERRUN / 2).min(last).max(answer);
                    }
                    continue;
                }
            }
            // A refused later attempt does not change that an earlier one, whose answer was lost, may be applied.
            return Err(if unknown { error.possibly_applied() } else { error });
        }
    }

    /// Sends a request once.
    fn sent<'a, W: WriteRequest>(
        &'a self,
        write: &'a W,
        lease: Option<LeaseProof>,
    ) -> Answering<'a, W::Answer> {
        note(|totals| totals.attempts += 1);
        write.send(self, lease)
    }

    /// The batch with new message ids. The store may have applied the earlier request, shown it to readers, and then
    /// lost it by returning to an earlier state. If the batch is then appended at another place with the same ids,
    /// readers could mistake it for the one that they saw.
    pub(crate) fn renewed(&self, append: &Append) -> Append {
        append.with_new_ids(|message| {
            let millis = u64::try_from(message.created_at.as_millisecond()).unwrap_or_default();
            self.backend.ids.renewed(message.id, millis)
        })
    }

    fn timed_out(&self, operation: &'static str, limits: TimeLimits) -> WriteError {
        let waited = limits.answers_in();
        WriteError::TimedOut { operation, key: self.key.clone(), waited }
    }

    /// Writes with the store alone as soon as the current holder has released the lease.
    ///
    /// Only after [`QUEUE_AFTER`] does the write take a place in line for the lease and write under it. If it did so at
    /// once, concurrent writes would find the lease held by this write and line up too. After a single turn a busy
    /// memory would then commit one write at a time for as long as the load lasts.
    async fn write_when_free<W: WriteRequest>(
        &self,
        write: &W,
        mut refused: StoreError,
        limits: TimeLimits,
        asked: &mut Asked,
    ) -> Result<W::Answer, WriteError> {
        self.rules.telemetry.lock_contended();
        let contended = Waiting::new(&self.waiting);
        let patience_ends = (Instant::now() + QUEUE_AFTER).min(limits.end);
        let mut watch = None;
        loop {
            let StoreErrorKind::Locked { remaining } = *refused.kind() else {
                return Err(refused.into());
            };
            let patience = until(patience_ends);
            if patience.is_zero() {
                drop(contended);
                return self.write_in_line(write, limits, asked).await;
            }
            // The first call only starts to watch: the lease may have been released before.
            if let Some(released) =
                watch.replace(self.backend.locks.backend().watch(&self.lease, None))
            {
                let _wait = WaitSpan::begin();
                let _ = timeout(remaining.unwrap_or(patience).min(patience), released).await;
            }
            *asked = Asked { at: Instant::now(), failing: None };
            let answer = limits.answer_by(asked.at, None);
            refused = match timeout_at(answer, self.sent(write, None)).await {
                Ok(Ok(done)) => return Ok(done),
                Ok(Err(error)) => error,
                Err(_) => return Err(self.timed_out(W::OPERATION.as_str(), limits)),
            };
        }
    }

    /// Waits in line for the lease on the memory, and writes under it.
    async fn write_in_line<W: WriteRequest>(
        &self,
        write: &W,
        limits: TimeLimits,
        asked: &mut Asked,
    ) -> Result<W::Answer, WriteError> {
        let answer = self.answer_under_lease();
        // Bounds the wait of others if the caller keeps this call without polling it.
        let options = self
            .rules
            .lock
            .with_wait_timeout(until(limits.end))
            .with_max_hold(Some(answer.saturating_add(MIN_ANSWER_WAIT)));
        let wait = WaitSpan::begin();
        let guard = self
            .backend
            .locks
            .lock(&self.lease, &options)
            .await
            .map_err(|reason| self.lock_error(reason.with_waited(limits.began.elapsed())))?;
        drop(wait);
        self.rules.telemetry.lock_acquired();
        let started = Instant::now();
        asked.at = started;
        let attempt = self.sent(write, Some(guard.proof()));
        // The time may have run out in line; still wait for one answer.
        let last = match until(limits.answer_by(started, asked.failing)) {
            Duration::ZERO => until(limits.answer_by(started, None)),
            left => left,
        };
        let done = match timeout(answer.min(last), attempt).await {
            Ok(done) => done.map_err(WriteError::from),
            Err(_) if last <= answer => Err(self.timed_out(W::OPERATION.as_str(), limits)),
            Err(_) => {
                let kind = StoreErrorKind::Unavailable(format!("no answer within {answer:?}"));
                let error = StoreError::new(W::OPERATION, kind).at(&self.key);
                Err(error.possibly_applied().into())
            }
        };
        // The answer does not depend on the release, so the release is not awaited.
        drop(guard);
        self.rules.telemetry.lock_held(started.elapsed());
        done
    }

    /// How long a write under a lease waits for its answer before it is sent again under another lease. The lease is
    /// refreshed meanwhile, so a request that is never answered would block all other writers until their timeouts.
    /// It is longer than the timeout of a circuit breaker, which otherwise would never count the failure.
    fn answer_under_lease(&self) -> Duration {
        let waits = (self.rules.lock.failure_timeout() / 4).max(MIN_ANSWER_WAIT);
        match self.rules.resource.circuit_breaker {
            Some(breaker) => waits.max(breaker.timeout.saturating_add(BREAKER_MARGIN)),
            None => waits,
        }
    }
}

/// How long a write waits for the lease to be free before it takes a place in line.
const QUEUE_AFTER: Duration = Duration::from_secs(1);

/// The additional time beyond a circuit breaker's timeout for the answer to a write under a lease.
const BREAKER_MARGIN: Duration = Duration::from_millis(50);

/// The first pause after a write that failed and is retryable. Pauses grow and are jittered.
const FIRST_WRITE_PAUSE: Duration = Duration::from_millis(5);

/// The longest of these pauses.
const MAX_WRITE_PAUSE: Duration = Duration::from_millis(500);

/// Counts a write that waits for the lease to be free.
struct Waiting<'a>(&'a AtomicU64);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicU64) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn is_locked(error: &StoreError) -> bool {
    matches!(error.kind(), StoreErrorKind::Locked { .. })
}

/// Whether the same write may succeed when it is sent again. A lease that this write acquired itself and lost is
/// acquired again; a lease of the caller is not.
fn is_retryable(error: &WriteError, callers_lease: Option<LeaseProof>) -> bool {
    match error {
        WriteError::Store(error) => match error.kind() {
            StoreErrorKind::Fenced { .. } => callers_lease.is_none(),
            // A write under its own lease does not wait for others.
            StoreErrorKind::Locked { .. } => false,
            _ => error.is_retryable(),
        },
        _ => false,
    }
}

/// Growing, jittered pauses without an end; the timeout ends the loop.
fn growing_pauses() -> impl Iterator<Item = Duration> {
    ExponentialBuilder::default()
        .with_min_delay(FIRST_WRITE_PAUSE)
        .with_max_delay(MAX_WRITE_PAUSE)
        .with_jitter()
        .without_max_times()
        .build()
}
