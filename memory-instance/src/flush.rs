//! Flushes: bringing a memory back under its budget while others append.

use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use memory_core::StoredMessage;
use memory_core::lease::{FencingToken, LeaseProof};
use memory_core::store::{Appended, Applied, FlushReceipt, Head, Outline, Splice, StoreErrorKind};
use memory_flush::{
    FlushInput, FlushPlan, FlushRecord, SummaryRequest, Timer, WrittenSummary, flush_due,
    splice_for, validate_plan,
};
use memory_lock::{LeaseScope, LockErrorKind, WithLockError};
use tokio::time::Instant;

use crate::carried::Carried;
use crate::error::{LeaseFailure, MemoryError};
use crate::instance::{ATTEMPTS, Inner, MemoryInstance};
use crate::panics::{caught, caught_in};
use crate::rules::{FlushMode, Rules};
use crate::shutdown::{Activity, Underway};
use crate::telemetry::Operation;
use crate::write::Write;

impl MemoryInstance {
    /// Flushes now, down to the target, whatever the threshold is, and returns when the flush is done.
    ///
    /// One flush of a memory runs at a time, in all processes. A second one waits in line for at most the
    /// resource's `lock.wait_timeout`. Appends continue meanwhile, and their messages are kept.
    ///
    /// Returns the receipt: which messages were evicted, summarized and kept, and the reason if the flush missed
    /// its target. Returns `None` if there was nothing to do.
    ///
    /// # Errors
    /// [`MemoryError`]. A failing summarizer is no error: the rule-based one takes its place, and the receipt
    /// reports that. [`MemoryError::Panicked`] if a strategy, token counter or store panics;
    /// [`MemoryError::ShutDown`] after [`shutdown`](crate::MemoryManager::shutdown).
    ///
    /// # Cancel safety
    /// Dropping the future leaves the memory flushed or not, and releases the lease at once. A future that is kept
    /// without being polled blocks no other flush: after half a second a task continues its flush.
    #[doc(alias = "performFlushAsync")]
    #[tracing::instrument(level = "debug", skip_all, fields(memory = %self.resource().id))]
    pub async fn perform_flush(&self) -> Result<Option<FlushReceipt>, MemoryError> {
        self.writable("flush")?;
        self.inner.not_in_own_turn("flush")?;
        let underway = self.inner.begin(Activity::Flush, "flush")?;
        carried(&self.inner, Trigger::Explicit, underway).await
    }

    /// Starts a flush in a separate task if one is due and none runs in this instance. See
    /// [`receipts`](Self::receipts) and [`health`](Self::health) for its result.
    ///
    /// # Errors
    /// [`MemoryError::ReadOnly`]; [`MemoryError::Store`]; [`MemoryError::ShutDown`].
    ///
    /// # Cancel safety
    /// Dropping the future before it completes starts no flush.
    pub async fn flush_in_background(&self) -> Result<(), MemoryError> {
        self.writable("flush")?;
        // Before the request to the store: a call that came before a shutdown counts as under way.
        let underway = self.inner.begin(Activity::Flush, "flush")?;
        if self.inner.is_due(&self.inner.head().await?) {
            spawn(&self.inner, underway);
        } else {
            underway.ended();
        }
        Ok(())
    }
}

/// The trigger of a flush.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trigger {
    /// An explicit call.
    Explicit,
    /// An append after which a flush was due.
    Due,
}

/// The failure state of an instance's newest flushes.
#[derive(Debug)]
pub(crate) struct FlushFailures {
    error: String,
    /// The number of failures in a row.
    failures: u32,
    /// The time of the newest failure.
    at: Instant,
    /// The token of the failed flush's lease, if it had one.
    token: Option<FencingToken>,
    /// Appends start no flush before this time, so that a flush that always fails does not run at each append.
    not_before: Instant,
}

/// The pause after the first failed flush. It doubles with each further failure.
const FIRST_FLUSH_PAUSE: Duration = Duration::from_secs(1);
/// The number of other holders' maximum turns that the commit of a flush waits.
const COMMIT_WAITS: u32 = 2;
/// The longest pause between failed flushes.
const MAX_FLUSH_PAUSE: Duration = Duration::from_secs(60);

/// Flushes after an append, if a flush is due.
pub(crate) async fn after(inner: &Arc<Inner>, appended: &Appended) {
    if inner.finds_due(appended) {
        Box::pin(when_due(inner)).await;
    }
}

/// Flushes according to the memory's flush mode.
pub(crate) async fn when_due(inner: &Arc<Inner>) {
    if inner.rules.flush_mode == FlushMode::Manual || inner.is_paused() {
        return;
    }
    // A manager that is shutting down starts no flush.
    let Ok(underway) = inner.begin(Activity::Flush, "flush") else { return };
    match inner.rules.flush_mode {
        FlushMode::Manual => {}
        FlushMode::Background => spawn(inner, underway),
        // The append was applied; `health` reports a failed flush.
        FlushMode::Inline => drop(carried(inner, Trigger::Due, underway).await),
    }
}

/// Starts a flush in a separate task, unless a flush of this instance is under way.
fn spawn(inner: &Arc<Inner>, underway: Underway) {
    if inner.flushing.swap(true, Ordering::AcqRel) {
        underway.ended();
        return;
    }
    let flag = ClearOnDrop(Arc::clone(inner));
    let task = async move {
        let inner = &flag.0;
        let mut next = Some(underway);
        for _ in 0..ATTEMPTS {
            // Appends during the flush may make another one due. An error is stored for `health`, because
            // there is no caller to return it to.
            let Some(underway) = next.take() else { break };
            if matches!(run(inner, Trigger::Due, underway).await, Ok(Some(_))) {
                next = inner.begin(Activity::Flush, "flush").ok();
            }
        }
        if let Some(unneeded) = next {
            unneeded.ended();
        }
        drop(flag);
    };
    tokio::spawn(tracing::Instrument::in_current_span(task));
}

/// Clears the flag of a running flush, also if the task panicked, was aborted, or never started.
struct ClearOnDrop(Arc<Inner>);

impl Drop for ClearOnDrop {
    fn drop(&mut self) {
        self.0.flushing.store(false, Ordering::Release);
    }
}

/// A flush that its caller waits for. It continues if the caller keeps the future without polling it.
fn carried(
    inner: &Arc<Inner>,
    trigger: Trigger,
    underway: Underway,
) -> Carried<Result<Option<FlushReceipt>, MemoryError>> {
    let inner = Arc::clone(inner);
    Carried::new(async move { run(&inner, trigger, underway).await })
}

/// Flushes under the flushers' lease, which is refreshed meanwhile.
async fn run(
    inner: &Arc<Inner>,
    trigger: Trigger,
    underway: Underway,
) -> Result<Option<FlushReceipt>, MemoryError> {
    let started = Instant::now();
    let token = OnceLock::new();
    let work = caught_in(inner.run_locked(trigger, &token, &underway));
    let done = tokio::select! {
        biased;
        done = work => done.unwrap_or_else(|| Err(inner.panicked("the lease backend".into()))),
        () = underway.abandoned_in_line() => Err(inner.abandoned("flush")),
    };
    let telemetry = &inner.rules.telemetry;
    match &done {
        Ok(receipt) => {
            // Without a receipt another flusher may hold the lease, so the past failure still counts.
            if receipt.is_some() || trigger == Trigger::Explicit {
                *inner.flush_failures() = None;
            }
            if let Some(receipt) = receipt {
                telemetry.flushed(receipt);
                inner.log_removed(receipt);
            }
        }
        // Not a failure: the shutdown abandoned this flush, and the next one starts over.
        Err(error) if underway.is_abandoned() || error.is_shut_down() => {
            tracing::info!(key = %inner.key, "flush abandoned by a shutdown; no message is lost");
            return Err(inner.abandoned("flush"));
        }
        Err(error) => {
            inner.note_failure(error, token.get().copied());
            telemetry.flush_failed();
            tracing::warn!(key = %inner.key, error = %error, "flush failed");
        }
    }
    telemetry.took(Operation::Flush, started.elapsed());
    inner.backend.publish_refreshes();
    underway.ended();
    done
}

impl Inner {
    fn flush_failures(&self) -> MutexGuard<'_, Option<FlushFailures>> {
        self.flush_failures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Delays the next automatic flush by a pause that grows with each failure.
    fn note_failure(&self, error: &MemoryError, token: Option<FencingToken>) {
        let mut newest = self.flush_failures();
        let failures = newest.as_ref().map_or(0, |newest| newest.failures);
        let pause = FIRST_FLUSH_PAUSE.saturating_mul(1 << failures.min(6)).min(MAX_FLUSH_PAUSE);
        let (at, failures) = (Instant::now(), failures.saturating_add(1));
        let (error, not_before) = (error.chain(), at + pause);
        *newest = Some(FlushFailures { error, failures, at, token, not_before });
    }

    fn is_paused(&self) -> bool {
        self.flush_failures().as_ref().is_some_and(|newest| Instant::now() < newest.not_before)
    }

    /// The error of this instance's newest flush, if it failed and the failure is still relevant for this head,
    /// which was requested at `asked_at`.
    ///
    /// Another process may have flushed since. Its clock may differ, so the tokens of the flushers' leases decide
    /// which flush is newer. A failure before the flush had a lease is relevant as long as a flush is due.
    pub(crate) fn flush_error(&self, head: &Head, asked_at: Instant) -> Option<String> {
        let mut newest = self.flush_failures();
        let _settled = newest.take_if(|newest| {
            let settled =
                newest.token.map_or_else(|| !self.is_due(head), |token| token <= head.flush_fence);
            newest.at <= asked_at && settled
        });
        newest.as_ref().map(|newest| newest.error.clone())
    }

    /// Logs one line for each flush that removes messages: only counts.
    fn log_removed(&self, receipt: &FlushReceipt) {
        let (evicted, summarized) = (receipt.evicted.len(), receipt.summarised.len());
        if evicted + summarized == 0 {
            return;
        }
        tracing::info!(
            memory_id = %self.rules.resource.id,
            key = %self.key,
            strategy = %receipt.strategy,
            removed = evicted + summarized,
            evicted,
            summarized,
            messages_before = receipt.messages_before,
            messages_after = receipt.messages_after,
            tokens_before = receipt.tokens_before,
            tokens_after = receipt.tokens_after,
            duration_ms = u64::try_from(receipt.duration.as_millis()).unwrap_or(u64::MAX),
            "flush removed messages"
        );
    }

    pub(crate) fn is_due(&self, head: &Head) -> bool {
        let Rules { policy, settings, .. } = &*self.rules;
        flush_due(&head.counters, head.next_flush_at, policy, settings).is_due()
    }

    /// Records the token of the flush's lease.
    async fn run_locked(
        &self,
        trigger: Trigger,
        token: &OnceLock<FencingToken>,
        underway: &Underway,
    ) -> Result<Option<FlushReceipt>, MemoryError> {
        let options = match trigger {
            Trigger::Explicit => self.rules.lock,
            // If another process flushes this memory already, this flush is not needed.
            Trigger::Due => self.rules.lock.with_wait_timeout(Duration::ZERO),
        };
        let flush = |scope: LeaseScope| async move {
            token.get_or_init(|| scope.fence());
            if !underway.holds(&scope) {
                return Err(self.abandoned("flush"));
            }
            // Caught here, a panic ends the flush like any other error: its lease is released first.
            let work = caught_in(self.flush_under_lease(scope.proof(), trigger));
            work.await.unwrap_or_else(|| Err(self.panicked("the store".into())))
        };
        match self.backend.locks.with_lock_refresh(&self.flush_lease, &options, flush).await {
            Ok(done) => done,
            Err(WithLockError::Acquire(error)) => match error.kind() {
                LockErrorKind::WaitTimeout { .. } if trigger == Trigger::Due => Ok(None),
                _ => Err(self.lock_error(error)),
            },
            // The flush completed, and the store decided whether its token was still valid.
            Err(WithLockError::Lost { output: Some(done), .. }) => done,
            Err(WithLockError::Lost { reason, .. }) => {
                Err(MemoryError::LeaseLost { key: self.key.clone(), reason })
            }
            Err(_) => Err(self.contended("flush")),
        }
    }

    async fn flush_under_lease(
        &self,
        flusher: LeaseProof,
        trigger: Trigger,
    ) -> Result<Option<FlushReceipt>, MemoryError> {
        let (started, started_at) = (Instant::now(), self.backend.now());
        for _ in 0..ATTEMPTS {
            let outline = self.outline().await?;
            // A flush that ended just now may have freed enough.
            if trigger == Trigger::Due && !self.is_due(&outline.head) {
                return Ok(None);
            }
            let record = FlushRecord {
                id: self.backend.ids.uuid(self.backend.clock.now_millis()),
                strategy: self.rules.strategy.name().to_owned(),
                started_at,
                duration: Duration::ZERO,
            };
            let mut splice = match self.plan(&outline, record, started).await? {
                Planned::Splice(splice) => splice,
                Planned::Nothing => return Ok(None),
                Planned::Outdated => continue,
            };
            splice.flusher = Some(flusher);
            let waits = self.commit_patience(trigger);
            match self.write_within(waits, Write::Splice(&splice), None).await {
                Ok(_) => return Ok(splice.receipt),
                Err(MemoryError::Store(error)) if error.kind() == &StoreErrorKind::Conflict => {}
                Err(error) => return Err(error),
            }
        }
        Err(self.contended("flush"))
    }

    /// How long a commit waits for other holders' turns. The commit takes its place in line after a second, behind
    /// the current turn and earlier waiters. Each of these may last longer than an append's wait timeout. A commit
    /// that gives up wastes the whole flush, and the next flush would meet the same wait. A failing store is waited
    /// for only as long as in an append.
    fn commit_patience(&self, trigger: Trigger) -> Duration {
        let waits = self.rules.lock.wait_timeout();
        match (trigger, self.rules.flush_mode) {
            (Trigger::Due, FlushMode::Inline) => waits,
            _ => waits.max(self.rules.resource.lock.max_turn.saturating_mul(COMMIT_WAITS)),
        }
    }

    /// Plans a flush of this snapshot and has its summary written.
    async fn plan(
        &self,
        outline: &Outline,
        mut record: FlushRecord,
        started: Instant,
    ) -> Result<Planned, MemoryError> {
        let rules = &self.rules;
        let now = self.backend.now();
        let input = FlushInput::new(&outline.metas, &rules.policy, &rules.settings, now);
        let plan = caught(|| rules.strategy.plan(&input))
            .ok_or_else(|| self.panicked(format!("the strategy `{}`", record.strategy)))?;
        validate_plan(&plan, &outline.metas, &rules.policy, now).map_err(|problem| {
            MemoryError::Plan {
                key: self.key.clone(),
                strategy: rules.strategy.name().to_owned(),
                problem: problem.to_string(),
            }
        })?;
        if plan.is_empty() && input.target.is_met_by(input.before()) {
            return Ok(Planned::Nothing);
        }
        let Some(messages) = self.fetch_planned(outline, &plan).await? else {
            return Ok(Planned::Outdated);
        };
        let summary = caught_in(self.summarize(messages))
            .await
            .ok_or_else(|| self.panicked("a summarizer or the token counter".into()))?;
        record.duration = started.elapsed();
        let generation = outline.head.generation;
        Ok(Planned::Splice(Box::new(splice_for(&plan, &input, generation, summary, record))))
    }

    /// The messages that a plan summarizes, or `None` if the snapshot is outdated.
    async fn fetch_planned(
        &self,
        outline: &Outline,
        plan: &FlushPlan,
    ) -> Result<Option<Vec<StoredMessage>>, MemoryError> {
        if plan.summarise.is_empty() {
            return Ok(Some(Vec::new()));
        }
        let mut places = plan.summarise.clone();
        places.sort_unstable();
        match self.store().fetch(&self.key, outline.cursor(), &places).await {
            Ok(messages) => Ok(Some(messages)),
            Err(error) if error.kind() == &StoreErrorKind::Conflict => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Has the summary of these messages written. Appends continue meanwhile.
    async fn summarize(&self, messages: Vec<StoredMessage>) -> Option<WrittenSummary> {
        let rules = &self.rules;
        let request = SummaryRequest::new(messages, &rules.settings, Arc::clone(&rules.counter))?;
        let summary = rules.chain.run(request, &TokioTimer).await;
        let (id, now) =
            (self.backend.ids.message(self.backend.clock.now_millis()), self.backend.now());
        WrittenSummary::new(&summary, id, now, &rules.policy, &*rules.counter)
    }

    fn panicked(&self, culprit: String) -> MemoryError {
        MemoryError::Panicked { operation: "flush", key: self.key.clone(), culprit }
    }

    pub(crate) fn lock_error(&self, reason: memory_lock::LockError) -> MemoryError {
        let max_turn = self.rules.resource.lock.max_turn;
        let key = self.key.clone();
        LeaseFailure { key, reason, applied: Applied::No, max_turn: Some(max_turn) }.into()
    }
}

/// The result of planning a flush.
enum Planned {
    /// Commit this change.
    Splice(Box<Splice>),
    /// There is nothing to do.
    Nothing,
    /// The snapshot is outdated; start over.
    Outdated,
}

/// Sleeps with tokio's timer in the fallback chain.
#[derive(Debug)]
struct TokioTimer;

impl Timer for TokioTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(tokio::time::sleep(duration))
    }
}
