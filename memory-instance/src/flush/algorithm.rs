//! The steps of a flush: outline, plan, fetch, summarize, splice.

use std::sync::Arc;
use std::time::Duration;

use memory_core::lease::LeaseProof;
use memory_core::store::{
    FLUSH_HELD, FlushReceipt, MessageMeta, Outline, Replacement, Splice, StoreErrorKind,
};
use memory_core::{Sequence, StoredMessage};
use memory_flush::{
    FlushInput, FlushPlan, FlushRecord, SummaryRequest, WrittenSummary, clear_message, receipt_for,
    splice_for,
};
use tokio::time::Instant;

use super::options::Order;
use super::timer::TokioTimer;
use crate::audit::AuditOperation;
use crate::commit::Committed;
use crate::error::MemoryError;
use crate::ids::note_named;
use crate::inner::{ATTEMPTS, Inner};
use crate::panics::{caught, caught_in};
use crate::rules::FlushMode;
use crate::telemetry::{part, plan_span};

/// The number of other holders' maximum turns that the commit of a flush waits.
const COMMIT_WAITS: u32 = 2;

/// The messages that are read at once to clear their tool results.
const CLEARED_AT_ONCE: usize = 128;

/// The trigger of a flush.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trigger {
    /// An explicit call.
    Explicit,
    /// An append after which a flush was due.
    Due,
}

/// The result of planning a flush.
enum Planned<T> {
    /// Commit or report this change.
    Change(T),
    /// There is nothing to do.
    Nothing,
    /// The snapshot is outdated; start over.
    Outdated,
}

/// A plan, with the cleared forms of the messages whose tool results it clears.
struct Draft {
    plan: FlushPlan,
    clearable: Vec<Replacement>,
}

impl Inner {
    /// Plans a flush that does not take place.
    pub(super) async fn dry_run(&self, order: &Order) -> Result<Option<FlushReceipt>, MemoryError> {
        let started = Instant::now();
        for _ in 0..ATTEMPTS {
            let mut record = self.record(order);
            let outline = self.outline().await?;
            if !order.applies_to(self, &outline.head) {
                return Ok(None);
            }
            let Draft { plan, clearable } = match self.draft(&outline, order).await? {
                Planned::Change(draft) => draft,
                Planned::Nothing => return Ok(None),
                Planned::Outdated => continue,
            };
            record.duration = started.elapsed();
            let input = self.input(&outline.metas, order).with_clearable(&clearable);
            return Ok(Some(receipt_for(&plan, &input, record)));
        }
        Err(self.contended("plan a flush of"))
    }

    /// Flushes until a splice is committed or there is nothing to do.
    pub(super) async fn flush_under_lease(
        &self,
        flusher: LeaseProof,
        order: &Order,
    ) -> Result<Option<FlushReceipt>, MemoryError> {
        let (started, record) = (Instant::now(), self.record(order));
        for _ in 0..ATTEMPTS {
            let outline = self.outline().await?;
            // A flush that ended just now may have freed enough.
            if !order.applies_to(self, &outline.head) {
                return Ok(None);
            }
            let mut record = record.clone();
            record.id = self.backend.ids.uuid(self.backend.clock.now_millis());
            let mut splice = match self.plan(&outline, order, record, started).await? {
                Planned::Change(splice) => splice,
                Planned::Nothing => return Ok(None),
                Planned::Outdated => continue,
            };
            splice.flusher = Some(flusher);
            splice.archive = self.rules.archive;
            if let Some(receipt) = &mut splice.receipt {
                note_named(receipt, &outline.metas);
            }
            let waits = self.commit_patience(order.trigger);
            match self.commit(AuditOperation::Flush, &splice, waits).await? {
                Committed::Applied(_) => return Ok(splice.receipt),
                Committed::Outdated => {}
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

    fn record(&self, order: &Order) -> FlushRecord {
        FlushRecord {
            id: self.backend.ids.uuid(self.backend.clock.now_millis()),
            strategy: order.strategy.name().to_owned(),
            started_at: self.backend.now(),
            duration: Duration::ZERO,
        }
    }

    fn input<'a>(&'a self, metas: &'a [MessageMeta], order: &'a Order) -> FlushInput<'a> {
        let settings = order.settings(self);
        let input = FlushInput::new(metas, &self.rules.policy, settings, self.backend.now());
        match order.goal(|| input.before()) {
            Some(goal) => input.with_target(goal),
            None => input,
        }
    }

    /// Plans a flush of this snapshot.
    async fn draft(&self, outline: &Outline, order: &Order) -> Result<Planned<Draft>, MemoryError> {
        let input = self.input(&outline.metas, order);
        let Some(clearable) = self.clearable(outline, input.clear_candidates()).await? else {
            return Ok(Planned::Outdated);
        };
        let input = input.with_clearable(&clearable);
        let strategy = &order.strategy;
        let plan = caught(|| strategy.plan(&input))
            .ok_or_else(|| self.panicked(format!("the strategy `{}`", strategy.name())))?;
        input.validate(&plan).map_err(|problem| MemoryError::Plan {
            key: self.key.clone(),
            strategy: strategy.name().to_owned(),
            problem: problem.to_string(),
        })?;
        // An explicit flush ends the hold of an undo, also if it has nothing to do. A store changes the mark only
        // together with a receipt.
        let is_held = outline.head.next_flush_at == Some(FLUSH_HELD);
        if plan.is_empty() && input.target.is_met_by(input.before()) && !is_held {
            return Ok(Planned::Nothing);
        }
        drop(input);
        Ok(Planned::Change(Draft { plan, clearable }))
    }

    /// Plans a flush of this snapshot and has its summary written.
    async fn plan(
        &self,
        outline: &Outline,
        order: &Order,
        mut record: FlushRecord,
        started: Instant,
    ) -> Result<Planned<Box<Splice>>, MemoryError> {
        let drafted = part(plan_span, self.draft(outline, order)).await?;
        let Draft { plan, clearable } = match drafted {
            Planned::Change(draft) => draft,
            Planned::Nothing => return Ok(Planned::Nothing),
            Planned::Outdated => return Ok(Planned::Outdated),
        };
        let Some(mut messages) = self.fetch_planned(outline, &plan).await? else {
            return Ok(Planned::Outdated);
        };
        for message in &mut messages {
            let place = message.meta.sequence;
            let cleared = clearable.iter().find(|one| one.sequence == place);
            if let Some(one) = cleared.filter(|_| plan.clear.contains(&place)) {
                *message = one.message.clone().stored_at(place);
            }
        }
        let summary = caught_in(self.summarize(messages))
            .await
            .ok_or_else(|| self.panicked("a summarizer or the token counter".into()))?;
        record.duration = started.elapsed();
        let generation = outline.head.generation;
        let input = self.input(&outline.metas, order).with_clearable(&clearable);
        Ok(Planned::Change(Box::new(splice_for(&plan, &input, generation, summary, record))))
    }

    /// The messages that a plan summarizes, or `None` if the snapshot is outdated.
    async fn fetch_planned(
        &self,
        outline: &Outline,
        plan: &FlushPlan,
    ) -> Result<Option<Vec<StoredMessage>>, MemoryError> {
        if plan.summarize.is_empty() {
            return Ok(Some(Vec::new()));
        }
        let mut places = plan.summarize.clone();
        places.sort_unstable();
        self.fetch_at(outline, &places).await
    }

    /// The messages at these places, or `None` if the snapshot is outdated.
    async fn fetch_at(
        &self,
        outline: &Outline,
        places: &[Sequence],
    ) -> Result<Option<Vec<StoredMessage>>, MemoryError> {
        match self.store().fetch(&self.key, outline.cursor(), places).await {
            Ok(messages) => Ok(Some(messages)),
            Err(error) if error.kind() == &StoreErrorKind::Conflict => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The cleared forms of the messages at these places, in ascending order, or `None` if the snapshot is outdated.
    /// Messages without a result that can be cleared are left out.
    async fn clearable(
        &self,
        outline: &Outline,
        places: Vec<Sequence>,
    ) -> Result<Option<Vec<Replacement>>, MemoryError> {
        let mut clearable = Vec::new();
        // Only the short cleared forms are kept.
        for part in places.chunks(CLEARED_AT_ONCE) {
            let Some(messages) = self.fetch_at(outline, part).await? else { return Ok(None) };
            let counter = &*self.rules.counter;
            let clear = |message: &StoredMessage| {
                let id = self.backend.ids.message(self.backend.clock.now_millis());
                clear_message(message, id, counter)
            };
            let cleared = caught(|| messages.iter().filter_map(clear).collect::<Vec<_>>());
            clearable.extend(cleared.ok_or_else(|| self.panicked("the token counter".into()))?);
        }
        Ok(Some(clearable))
    }

    /// Has the summary of these messages written. Appends continue meanwhile.
    pub(crate) async fn summarize(&self, messages: Vec<StoredMessage>) -> Option<WrittenSummary> {
        let rules = &self.rules;
        let request = SummaryRequest::new(messages, &rules.settings, Arc::clone(&rules.counter))?;
        let span = || tracing::debug_span!("summarize");
        let summary = part(span, rules.chain.run(request, &TokioTimer)).await;
        self.record_redactions(1, &summary.redactions);
        let (id, now) =
            (self.backend.ids.message(self.backend.clock.now_millis()), self.backend.now());
        WrittenSummary::new(&summary, id, now, &rules.policy, &*rules.counter)
    }
}
