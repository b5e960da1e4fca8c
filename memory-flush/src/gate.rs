//! Whether a flush is due, from counters alone.

use memory_core::{Counters, FlushSettings, Policy, Tally};

use crate::strategy::target_of;

/// Whether a flush is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// It is.
    Due,
    /// It is not.
    NotDue(NotDue),
}

impl Gate {
    /// Whether a flush is due.
    #[must_use]
    pub const fn is_due(self) -> bool {
        matches!(self, Self::Due)
    }
}

/// Why no flush is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotDue {
    /// There are fewer messages than [`FlushSettings::min_messages`], and within the budget.
    FewMessages,
    /// Messages and tokens are under the threshold.
    UnderThreshold,
    /// The last flush could not come down to its target, and little has come since.
    AwaitingGrowth,
}

impl NotDue {
    /// A short name for metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::FewMessages => "few_messages",
            Self::UnderThreshold => "under_threshold",
            Self::AwaitingGrowth => "awaiting_growth",
        }
    }
}

/// Decides whether a flush is due, after an append: a few comparisons, the cheapest first.
///
/// - Fewer messages than [`FlushSettings::min_messages`] are not flushed while they are within
///   [`Policy::max_tokens`] and [`Policy::message_limit`].
/// - A flush is due from [`FlushSettings::summarize_threshold`] of either limit on, unless the
///   memory is within the target of a flush already.
/// - After a flush that could not come down to its target, only from `next_flush_at` on.
#[must_use]
pub fn flush_due(
    counters: &Counters,
    next_flush_at: Option<u64>,
    policy: &Policy,
    settings: &FlushSettings,
) -> Gate {
    let Tally { messages, tokens } = counters.present;
    let limit = policy.message_limit;
    let within = tokens <= policy.max_tokens && limit.is_none_or(|limit| messages <= limit);
    if messages < settings.min_messages && within {
        return Gate::NotDue(NotDue::FewMessages);
    }
    let reached = limit.is_some_and(|limit| messages >= settings.threshold_tokens(limit))
        || tokens >= settings.threshold_tokens(policy.max_tokens);
    // The ratios of a tiny budget may round to the same number.
    if !reached || target_of(policy, settings).is_met_by(counters.present) {
        return Gate::NotDue(NotDue::UnderThreshold);
    }
    if next_flush_at.is_some_and(|at| tokens < at) {
        return Gate::NotDue(NotDue::AwaitingGrowth);
    }
    Gate::Due
}

/// The tokens from which on the next flush is worth its while, given what a flush left (promise
/// P11): `None` where it is within the target, so that the threshold decides.
///
/// Else the memory must grow by the hysteresis first, threshold less target, so that flushes which
/// cannot help stay rare. The budget cuts that short, down to a quarter of it: a memory that
/// is still within its budget is flushed again when it has reached it.
#[must_use]
pub fn next_flush_at(left: Tally, policy: &Policy, settings: &FlushSettings) -> Option<u64> {
    let target = target_of(policy, settings);
    if target.is_met_by(left) {
        return None;
    }
    let hysteresis =
        settings.threshold_tokens(policy.max_tokens).saturating_sub(target.tokens).max(1);
    let after = |growth: u64| left.tokens.saturating_add(growth);
    let at = after(hysteresis);
    if left.tokens >= policy.max_tokens {
        return Some(at);
    }
    Some(at.min(policy.max_tokens.max(after(hysteresis.div_ceil(4)))))
}

#[cfg(test)]
mod tests {
    use memory_core::{
        Generation, MessageId, MessageMeta, NewMessage, Priority, Sequence, Shortfall,
        StoredMessage,
    };
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;
    use crate::splice::{FlushRecord, WrittenSummary, splice_for, summary_message};
    use crate::strategy::{FlushInput, FlushStrategy};
    use crate::testkit::{history, now, policy};
    use crate::{Fifo, HybridSummary, PriorityEviction, validate_plan};

    /// A memory as a store keeps it, with a flusher that carries plans out.
    struct Memory<'a> {
        policy: &'a Policy,
        settings: FlushSettings,
        metas: Vec<MessageMeta>,
        counters: Counters,
        next_flush_at: Option<u64>,
    }

    impl Memory<'_> {
        fn append(&mut self, message: StoredMessage) {
            let StoredMessage { meta, message } = message;
            self.counters.append(&NewMessage {
                id: meta.id,
                message,
                tokens: meta.tokens,
                priority: meta.priority,
                content_type: meta.content_type.clone(),
                created_at: meta.created_at,
            });
            // Only flushes write summaries.
            self.metas.push(MessageMeta { summary: false, ..meta });
        }

        fn gate(&self) -> Gate {
            flush_due(&self.counters, self.next_flush_at, self.policy, &self.settings)
        }

        /// Flushes as `memory-instance` does, with a summary of a size as a share of what it may be.
        fn flush(&mut self, strategy: &dyn FlushStrategy, share: u64) -> Option<Shortfall> {
            let metas = self.metas.clone();
            let input = FlushInput::new(&metas, self.policy, &self.settings, now());
            let plan = strategy.plan(&input);
            assert_eq!(validate_plan(&plan, &metas, self.policy, now()), Ok(()));
            let summary = (!plan.summarise.is_empty()).then(|| {
                let id = MessageId::new(Uuid::from_u128(7));
                let counter = memory_core::EstimateCounter;
                let mut message = summary_message("s", id, now(), self.policy, &counter);
                message.tokens = u32::try_from(self.settings.summary_tokens * share / 100).unwrap();
                WrittenSummary { message, summarizer: "test".into(), fallback: None }
            });
            let record = FlushRecord {
                id: Uuid::nil(),
                strategy: strategy.name().into(),
                started_at: now(),
                duration: std::time::Duration::ZERO,
            };
            let splice = splice_for(&plan, &input, Generation::NONE, summary, record);
            let receipt = splice.receipt.clone().unwrap();

            for meta in &metas {
                if splice.summarised.contains(&meta.sequence) {
                    self.counters.summarise(meta);
                }
                if splice.evicted.contains(&meta.sequence) {
                    self.counters.evict(meta);
                }
            }
            self.metas.retain(|meta| {
                !splice.summarised.contains(&meta.sequence)
                    && !splice.evicted.contains(&meta.sequence)
            });
            if let Some(summary) = splice.summary {
                self.counters.insert_summary(&summary);
                let mut meta = summary.stored_at(splice.summarised[0]).meta;
                meta.summary = true;
                let at = self.metas.partition_point(|other| other.sequence < meta.sequence);
                self.metas.insert(at, meta);
            }
            self.next_flush_at = splice.next_flush_at;

            assert_eq!(receipt.tokens_after, self.counters.present.tokens);
            assert_eq!(receipt.messages_after, self.counters.present.messages);
            assert_eq!(receipt.evicted.len(), splice.evicted.len() as u64);
            assert_eq!(receipt.summarised.len(), splice.summarised.len() as u64);
            assert_eq!(
                receipt.summary.is_some(),
                self.counters.summaries > 0 && !splice.summarised.is_empty()
            );
            assert!(
                receipt.tokens_after <= receipt.tokens_before,
                "a flush made the memory larger"
            );
            assert!(self.counters.is_conserved());
            receipt.shortfall
        }
    }

    fn strategy() -> impl Strategy<Value = &'static dyn FlushStrategy> {
        prop_oneof![
            Just(&Fifo as &dyn FlushStrategy),
            Just(&PriorityEviction as _),
            Just(&HybridSummary as _)
        ]
    }

    proptest! {
        #[test]
        fn flushes_come_to_their_target_or_say_why_and_never_loop(
            history in history(120),
            policy in policy(),
            strategy in strategy(),
            (threshold, part) in (0.05..1.0_f64, 0.1..0.95_f64),
            (summary_tokens, share) in (4..150_u64, 1..=100_u64),
        ) {
            let settings = FlushSettings {
                summarize_threshold: threshold,
                flush_target: threshold * part,
                summary_tokens,
                summarize_oldest_percent: 30,
                min_messages: 3,
            };
            let mut memory = Memory {
                policy: &policy,
                settings,
                metas: Vec::new(),
                counters: Counters::default(),
                next_flush_at: None,
            };
            let mut at_last_flush = None;
            for message in history {
                memory.append(message);
                if !memory.gate().is_due() {
                    continue;
                }
                let tokens = memory.counters.present.tokens;
                if let Some((left, shortfall)) = at_last_flush {
                    prop_assert!(tokens > left, "a flush without new tokens");
                    let hysteresis = settings.threshold_tokens(policy.max_tokens)
                        - settings.target_tokens(policy.max_tokens);
                    if shortfall {
                        prop_assert!(tokens >= left + hysteresis / 4, "a flush too soon");
                    }
                }
                let shortfall = memory.flush(strategy, share);
                let left = memory.counters.present;
                let target = target_of(&policy, &settings);
                prop_assert_eq!(shortfall.is_some(), !target.is_met_by(left), "{:?}", shortfall);
                prop_assert!(!memory.gate().is_due(), "due again at once");
                prop_assert!(memory.counters.summaries <= 1, "summaries pile up");
                at_last_flush = Some((left.tokens, shortfall.is_some()));
            }
        }

        #[test]
        fn a_full_memory_is_flushed_whatever_its_count(
            messages in 1..10_u64, over in 1..1_000_u64, tokens in 1..1_000_u64,
        ) {
            let policy = Policy::with_max_tokens(tokens);
            let settings = FlushSettings::for_budget(tokens);
            let mut counters = present(messages, tokens + over);
            prop_assert_eq!(flush_due(&counters, None, &policy, &settings), Gate::Due);
            counters.present.tokens = tokens;
            let gate = flush_due(&counters, None, &policy, &settings);
            prop_assert_eq!(gate, Gate::NotDue(NotDue::FewMessages));
        }
    }

    fn present(messages: u64, tokens: u64) -> Counters {
        Counters { present: Tally { messages, tokens }, ..Counters::default() }
    }

    #[test]
    fn the_gates_come_one_after_another() {
        let policy = Policy { message_limit: Some(100), ..Policy::with_max_tokens(8_000) };
        let settings = FlushSettings::for_budget(8_000);
        let gate = |counters, next| flush_due(&counters, next, &policy, &settings);
        assert_eq!(gate(present(9, 8_000), None), Gate::NotDue(NotDue::FewMessages));
        assert_eq!(gate(present(10, 6_399), None), Gate::NotDue(NotDue::UnderThreshold));
        assert_eq!(gate(present(10, 6_400), None), Gate::Due);
        assert_eq!(gate(present(79, 100), None), Gate::NotDue(NotDue::UnderThreshold));
        assert_eq!(gate(present(80, 100), None), Gate::Due);
        assert_eq!(gate(present(80, 6_400), Some(6_401)), Gate::NotDue(NotDue::AwaitingGrowth));
        assert_eq!(gate(present(80, 6_401), Some(6_401)), Gate::Due);
    }

    #[test]
    fn after_a_shortfall_a_memory_waits_for_growth_and_its_budget_cuts_the_wait_short() {
        let policy = Policy::with_max_tokens(8_000);
        let settings = FlushSettings::for_budget(8_000);
        let next = |tokens| next_flush_at(Tally { messages: 1, tokens }, &policy, &settings);
        assert_eq!(next(4_000), None);
        assert_eq!(next(4_001), Some(6_401), "the hysteresis is 2,400");
        assert_eq!(next(7_000), Some(8_000), "at its budget");
        assert_eq!(next(7_900), Some(8_500), "a quarter of the hysteresis at least");
        assert_eq!(next(9_000), Some(11_400), "over its budget, no flush helps soon");
        assert_eq!(next(u64::MAX), Some(u64::MAX));
    }

    #[test]
    fn critical_messages_over_the_budget_do_not_make_a_memory_flush_for_ever() {
        let policy = Policy::with_max_tokens(100);
        let settings = FlushSettings::for_budget(100);
        let mut memory = Memory {
            policy: &policy,
            settings,
            metas: Vec::new(),
            counters: Counters::default(),
            next_flush_at: None,
        };
        let mut flushes = 0;
        for number in 1..=100 {
            let new = NewMessage {
                id: MessageId::new(Uuid::from_u128(number.into())),
                message: memory_core::Message::user("u"),
                tokens: 10,
                priority: Some(Priority::CRITICAL),
                content_type: memory_core::ContentType::Conversation,
                created_at: now(),
            };
            memory.append(new.stored_at(Sequence::new(number)));
            if memory.gate().is_due() {
                flushes += 1;
                assert_eq!(memory.flush(&Fifo, 100), Some(Shortfall::Critical));
            }
        }
        // 1,000 tokens with a hysteresis of 30.
        assert!((5..=34).contains(&flushes), "{flushes}");
    }

    #[test]
    fn metrics_know_the_reasons_by_these_names() {
        let reasons = [NotDue::FewMessages, NotDue::UnderThreshold, NotDue::AwaitingGrowth];
        let names = reasons.map(NotDue::as_str);
        assert_eq!(names, ["few_messages", "under_threshold", "awaiting_growth"]);
    }
}
