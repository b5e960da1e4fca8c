//! The health report of a memory.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use memory_core::health::{LeaseHealth, Lifetime, ServerHealth, Verdict};
use memory_core::plan::{UnitState, Units};
use memory_core::store::{FLUSH_HELD, FlushReceipt, Outline, Tally, receipts_in_effect};
use memory_core::{ContentType, MemoryHealth, Priority};
use tokio::time::Instant;

use crate::error::MemoryError;
use crate::inner::Inner;
use crate::instance::MemoryInstance;
use crate::rewrite::REWRITE;
use crate::telemetry::{Operation, operation};

impl MemoryInstance {
    /// The health of the memory, for operators and tests. It reads everything except the texts of messages.
    ///
    /// # Examples
    ///
    /// ```
    /// # use memory_instance::{MemoryManager, MemoryResource};
    /// use memory_instance::{Message, Verdict};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let resource = MemoryResource::new("support", 8_000);
    /// # let manager = MemoryManager::builder().with_resource(resource).open("memory://").await?;
    /// # let memory = manager.memory("support", "case-4711")?;
    /// memory.append(Message::user("Where is my parcel?")).await?;
    /// let health = memory.health().await?;
    /// assert_eq!(health.verdict, Verdict::Healthy);
    /// assert_eq!((health.messages, health.max_tokens), (1, 8_000));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`MemoryError::Store`]; while the resource's circuit breaker is open, the error reports until when. If the
    /// lease backend does not answer, the verdict reports it.
    ///
    /// # Cancel safety
    /// Reads have no effect.
    pub async fn health(&self) -> Result<MemoryHealth, MemoryError> {
        let work = async {
            let started = Instant::now();
            let health = self.inner.health().await;
            let telemetry = &self.inner.rules.telemetry;
            telemetry.ended(Operation::Health, started, &health);
            let healthy = health.as_ref().is_ok_and(|health| health.verdict == Verdict::Healthy);
            telemetry.health(&self.inner.key, healthy);
            health
        };
        operation!(&*self.inner, "health", work).await
    }
}

/// Statistics of an outline: units by priority and by type, open calls, and orphaned results.
#[derive(Debug, Default)]
struct Census {
    priorities: BTreeMap<Priority, Tally>,
    content_types: BTreeMap<ContentType, Tally>,
    open: u64,
    abandoned: u64,
    orphans: u64,
}

/// A limit of a memory, with its unit and the setting that raises it.
struct BudgetLimit {
    most: u64,
    unit: &'static str,
    setting: &'static str,
}

impl Inner {
    async fn health(&self) -> Result<MemoryHealth, MemoryError> {
        let started = Instant::now();
        let outline = self.outline().await?;
        let latency = started.elapsed();
        let receipts = self.store().receipts(&self.key).await?;
        let removals = self.all_removals().await?;
        // Not a rewind, and not a summary that was written anew after an erasure.
        let is_flush =
            |receipt: &FlushReceipt| receipt.withdrawn.is_empty() && receipt.strategy != REWRITE;
        let last_flush = receipts_in_effect(&receipts, &removals, &outline.metas);
        let last_flush = last_flush.into_iter().find(is_flush);
        let archive = self.archive_health(&removals);
        let origin = self.store().origin(&self.key).await?;
        let metadata = self.store().metadata(&self.key).await?;
        let server = self.store().server().await?;
        let locks = &self.backend.locks;
        let inspected = locks.inspect(&self.lease).await;
        let lock_error = inspected.as_ref().err().map(ToString::to_string);
        let overdue = self.overdue_leases().await;
        let lease = inspected.ok().flatten().map(LeaseHealth::from);
        let census = self.census(&outline);
        self.backend.publish_refreshes();
        let flush_error =
            self.flush_failures.error(&outline.head, started, || self.is_due(&outline.head));
        let (policy, counters) = (&self.rules.policy, &outline.head.counters);
        let mut verdict = self.verdict(&outline, &census, flush_error.as_deref());
        if let (Verdict::Healthy, Some(why)) =
            (&verdict, self.server_warning(&outline, server.as_ref()))
        {
            verdict = Verdict::Degraded { why };
        }
        if let (Verdict::Healthy, Some(error)) = (&verdict, lock_error) {
            verdict = Verdict::Degraded { why: format!("leases cannot be read ({error})") };
        }
        if let (Verdict::Healthy, Some(name)) = (&verdict, overdue) {
            let why = format!(
                "the lease of the {name} outlasts its TTL: its holder has crashed, or its clock differs from this one; it is freed after it was observed unrenewed for its TTL, or with `memory lease break`"
            );
            verdict = Verdict::Degraded { why };
        }
        #[expect(clippy::cast_precision_loss, reason = "a ratio for display")]
        let budget_used = counters.present.tokens as f64 / policy.max_tokens.max(1) as f64;
        let mut health = MemoryHealth::new(self.key.clone(), verdict);
        health.messages = counters.present.messages;
        health.tokens = counters.present.tokens;
        health.max_tokens = policy.max_tokens;
        health.budget_used = budget_used;
        health.message_limit = policy.message_limit;
        health.priorities = census.priorities;
        health.content_types = census.content_types;
        health.open_calls = census.open;
        health.abandoned_calls = census.abandoned;
        health.orphaned_results = census.orphans;
        health.lifetime = Lifetime::from(counters);
        health.strategy = self.rules.strategy.name().to_owned();
        health.last_flush = last_flush;
        health.origin = origin;
        health.metadata = metadata;
        health.last_flush_error = flush_error;
        health.flush_held = outline.head.next_flush_at == Some(FLUSH_HELD);
        health.archive = archive;
        health.lease = lease;
        health.waiting_tasks =
            locks.waiting(&self.lease) as u64 + self.waiting.load(Ordering::Relaxed);
        health.fence = outline.head.fence;
        health.expires_at = outline.head.expires_at;
        health.store_latency_us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        health.unreadable = outline.unreadable.len() as u64;
        health.server = server;
        health.calibrations = self.calibrations.all();
        Ok(health)
    }

    /// The first server warning that concerns this memory.
    fn server_warning(&self, outline: &Outline, server: Option<&ServerHealth>) -> Option<String> {
        let has_ttl =
            self.rules.resource.persistence.ttl.is_some() || outline.head.expires_at.is_some();
        let mut warnings =
            server?.warnings.iter().filter(|warning| has_ttl || warning.threatens_all());
        warnings.next().map(ToString::to_string)
    }

    /// The name of a lease of the memory that should have expired.
    async fn overdue_leases(&self) -> Option<&'static str> {
        let locks = &self.backend.locks;
        for (lease, name) in [(&self.lease, "memory"), (&self.flush_lease, "flush")] {
            if locks.is_overdue(lease).await.is_ok_and(|overdue| overdue) {
                return Some(name);
            }
        }
        None
    }

    fn census(&self, outline: &Outline) -> Census {
        let policy = &self.rules.policy;
        let units = Units::group(&outline.metas, self.backend.now(), policy.open_call_timeout);
        let classes = units.classify(policy);
        let mut census = Census::default();
        for (unit, class) in units.iter().zip(&classes) {
            let count = |tally: &mut Tally| {
                tally.messages += unit.messages();
                tally.tokens += unit.tokens();
            };
            count(census.priorities.entry(class.priority).or_default());
            count(census.content_types.entry(class.content_type.clone()).or_default());
            match unit.state() {
                UnitState::Open => census.open += unit.unanswered() as u64,
                UnitState::Abandoned => census.abandoned += unit.unanswered() as u64,
                UnitState::Orphan => census.orphans += unit.messages(),
                _ => {}
            }
        }
        census
    }

    fn verdict(&self, outline: &Outline, census: &Census, flush_error: Option<&str>) -> Verdict {
        let counters = &outline.head.counters;
        let critical = census.priorities.get(&Priority::CRITICAL).copied().unwrap_or_default();
        for (held, BudgetLimit { most, unit, setting }) in self.limits(critical) {
            if held > most {
                let why = format!(
                    "critical messages alone take {held} of {most} {unit}; lower some priorities or raise {setting}"
                );
                return Verdict::OverBudget { why };
            }
        }
        if !counters.is_conserved() {
            let why = "the counters do not add up; please report this as a bug".to_owned();
            return Verdict::Degraded { why };
        }
        if let Some(error) = flush_error {
            let why = format!("the last flush failed ({error}); it is tried again when one is due");
            return Verdict::Degraded { why };
        }
        for (held, BudgetLimit { most, unit, setting }) in self.limits(counters.present) {
            if held > most {
                return if self.is_due(&outline.head) {
                    let why = format!("{held} of {most} {unit}; a flush is due");
                    Verdict::Degraded { why }
                } else {
                    let why = format!(
                        "{held} of {most} {unit}, and the last flush could not free enough; close open calls, lower some priorities or raise {setting}"
                    );
                    Verdict::OverBudget { why }
                };
            }
        }
        if !outline.unreadable.is_empty() {
            let what = match outline.unreadable.len() {
                1 => "1 message cannot be decoded and is".to_owned(),
                count => format!("{count} messages cannot be decoded and are"),
            };
            let why = format!("{what} left out; restore it, or clear the memory");
            return Verdict::Degraded { why };
        }
        if census.orphans > 0 {
            let what = match census.orphans {
                1 => "1 tool result without a call is".to_owned(),
                count => format!("{count} tool results without a call are"),
            };
            let why = format!(
                "{what} kept and left out of context windows; append calls before their results"
            );
            return Verdict::Degraded { why };
        }
        Verdict::Healthy
    }

    /// The limited quantities, with their limits.
    fn limits(&self, held: Tally) -> impl Iterator<Item = (u64, BudgetLimit)> {
        let policy = &self.rules.policy;
        let tokens = BudgetLimit { most: policy.max_tokens, unit: "tokens", setting: "max_tokens" };
        let messages = policy.message_limit.map(|most| {
            (held.messages, BudgetLimit { most, unit: "messages", setting: "message_limit" })
        });
        std::iter::once((held.tokens, tokens)).chain(messages)
    }
}
