//! Replaces the oldest messages by a summary.

use memory_core::plan::{EvictionGoal, plan_unit_eviction};
use memory_core::store::{MessageMeta, Shortfall};

use crate::plan::FlushPlan;
use crate::strategy::{FlushInput, FlushStrategy, tally};

/// Summarizes the messages that [`PriorityEviction`](crate::PriorityEviction) would evict.
///
/// - The goal leaves room for the summary ([`summary_tokens`]).
/// - At least [`summarize_oldest_percent`] of the summarizable tokens are summarized at once, so that summaries are
///   rare.
/// - With [`clear_tool_results`], old tool results are [cleared](crate::ClearToolResults) first. A summary is written only
///   if the memory is still over the target, and the summarizer gets the cleared results.
/// - An earlier summary is always merged into the new one: there is never more than one, and summaries never nest.
/// - If a summary could be as large as the messages it replaces, the flush evicts instead, so that no flush makes a
///   memory larger.
///
/// [`clear_tool_results`]: memory_core::resource::FlushSettings::clear_tool_results
/// [`summary_tokens`]: memory_core::resource::FlushSettings::summary_tokens
/// [`summarize_oldest_percent`]: memory_core::resource::FlushSettings::summarize_oldest_percent
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HybridSummary;

impl FlushStrategy for HybridSummary {
    fn name(&self) -> &'static str {
        "hybrid_summary"
    }

    fn plan(&self, input: &FlushInput<'_>) -> FlushPlan {
        let whole = summarize(input);
        if whole.is_empty() && whole.shortfall.is_none() {
            return whole;
        }
        let Some(clearing) = input.clearing() else { return whole };
        let rest = summarize(&input.after_clearing(&clearing.metas));
        FlushPlan { clear: clearing.places, ..rest }
    }
}

/// The plan without clearing.
fn summarize(input: &FlushInput<'_>) -> FlushPlan {
    let FlushInput { metas, policy, settings, .. } = *input;
    let (plain, goal) = input.evict_by_priority();
    if plain.evict.is_empty() {
        return plain.into();
    }
    let before = input.before();
    let free = before.tokens.saturating_sub(plain.pinned.tokens);
    let at_least = percent_of(free, settings.summarize_oldest_percent);
    let goal = EvictionGoal {
        tokens: goal
            .tokens
            .saturating_sub(settings.summary_tokens)
            .min(before.tokens.saturating_sub(at_least)),
        messages: goal.messages.map(|messages| messages.saturating_sub(1)),
    };
    let (units, classes) = input.units();
    let mut summarize = plan_unit_eviction(units, classes, policy, goal).evict;
    let may_go = units.iter().zip(classes).filter(|(unit, class)| !unit.is_pinned(class));
    let earlier = may_go.flat_map(|(unit, _)| units.members(unit)).filter(|meta| meta.summary);
    summarize.extend(earlier.map(|meta| meta.sequence));
    summarize.sort_unstable();
    summarize.dedup();
    let plan = FlushPlan::new(input, Vec::new(), summarize);
    let summarized = |meta: &&MessageMeta| plan.summarize.binary_search(&meta.sequence).is_ok();
    if tally(metas.iter().filter(summarized)).tokens <= settings.summary_tokens {
        return plain.into();
    }
    FlushPlan {
        shortfall: plan.shortfall.map(|_| plain.shortfall.unwrap_or(Shortfall::SummaryTooLarge)),
        ..plan
    }
}

/// A percentage, rounded up.
fn percent_of(tokens: u64, percent: u8) -> u64 {
    let share = (u128::from(tokens) * u128::from(percent)).div_ceil(100);
    u64::try_from(share).unwrap_or(u64::MAX).min(tokens)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use memory_core::plan::{EvictionPlan, Policy, Units, plan_eviction};
    use memory_core::resource::FlushSettings;
    use memory_core::store::{MessageId, NewMessage, Tally};
    use memory_core::{Message, Priority, Sequence};
    use proptest::prelude::*;

    use super::*;
    use crate::fifo::Fifo;
    use crate::plan::validate_plan;
    use crate::priority::PriorityEviction;
    use crate::strategy::target_of;
    use memory_core_testkit::generators::{history, metas, now, policy};

    fn settings() -> impl Strategy<Value = FlushSettings> {
        (0.1..1.0_f64, 0.1..0.95_f64, 1..200_u64, 1..=100_u8).prop_map(
            |(threshold, part, summary_tokens, oldest_percent)| {
                let mut settings =
                    FlushSettings::for_budget(1_000).with_summary_tokens(summary_tokens);
                settings.summarize_threshold = threshold;
                settings.flush_target = threshold * part;
                settings.summarize_oldest_percent = oldest_percent;
                settings
            },
        )
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
        fn plans_of_all_strategies_are_valid(
            history in history(40), policy in policy(), settings in settings(), strategy in strategy(),
        ) {
            let metas = metas(&history);
            let plan = strategy.plan(&FlushInput::new(&metas, &policy, &settings, now()));
            prop_assert_eq!(validate_plan(&plan, &metas, &policy, now()), Ok(()));
            prop_assert!(plan.evict.is_sorted_by(|a, b| a < b));
            prop_assert!(plan.summarize.is_sorted_by(|a, b| a < b));
        }

        #[test]
        fn plan_reaches_target_or_reports_shortfall(
            history in history(40), policy in policy(), settings in settings(), strategy in strategy(),
        ) {
            let metas = metas(&history);
            let input = FlushInput::new(&metas, &policy, &settings, now());
            let plan = strategy.plan(&input);
            if metas.is_empty() {
                prop_assert_eq!(plan.shortfall, Some(Shortfall::Empty));
            } else {
                prop_assert_eq!(plan.shortfall.is_none(), input.target.is_met_by(plan.after));
            }
        }

        #[test]
        fn plan_never_grows_a_memory(
            history in history(40), policy in policy(), settings in settings(), strategy in strategy(),
        ) {
            let metas = metas(&history);
            let input = FlushInput::new(&metas, &policy, &settings, now());
            let plan = strategy.plan(&input);
            if plan.is_empty() {
                prop_assert_eq!(plan.after, input.before());
            } else {
                prop_assert!(plan.after.tokens < input.before().tokens);
            }
        }

        #[test]
        fn summary_merges_all_earlier_summaries(
            history in history(40), policy in policy(), settings in settings(),
        ) {
            let metas = metas(&history);
            let input = FlushInput::new(&metas, &policy, &settings, now());
            let plan = HybridSummary.plan(&input);
            if plan.summarize.is_empty() {
                return Ok(());
            }
            prop_assert!(plan.evict.is_empty());
            let units = Units::group(&metas, now(), policy.open_call_timeout);
            let classes = units.classify(&policy);
            let (mut free, mut taken) = (0, 0);
            for (unit, _) in units.iter().zip(&classes).filter(|(unit, class)| !unit.is_pinned(class)) {
                let first = units.members(unit).next().unwrap();
                free += unit.tokens();
                if plan.summarize.contains(&first.sequence) {
                    taken += unit.tokens();
                } else {
                    prop_assert!(!first.summary, "an earlier summary is left beside the new one");
                }
            }
            prop_assert!(taken * 100 >= free * u64::from(settings.summarize_oldest_percent));
        }

        #[test]
        fn evictable_messages_are_summarized(
            history in history(40), policy in policy(), settings in settings(),
        ) {
            let metas = metas(&history);
            let input = FlushInput::new(&metas, &policy, &settings, now());
            let (plain, hybrid) = (PriorityEviction.plan(&input), HybridSummary.plan(&input));
            if hybrid.summarize.is_empty() {
                prop_assert_eq!(hybrid, plain);
            } else {
                prop_assert!(plain.evict.iter().all(|place| hybrid.summarize.contains(place)));
            }
        }

        #[test]
        fn reachable_target_is_reached(
            history in history(40), policy in policy(), settings in settings(),
        ) {
            let metas = metas(&history);
            let input = FlushInput::new(&metas, &policy, &settings, now());
            let plan = HybridSummary.plan(&input);
            let none = EvictionGoal { tokens: 0, messages: Some(0) };
            let Tally { messages, tokens } = plan_eviction(&metas, &policy, none, now()).pinned;
            let least = Tally { messages: messages + 1, tokens: tokens + settings.summary_tokens };
            if input.target.is_met_by(least) && !metas.is_empty() {
                prop_assert_eq!(plan.shortfall, None);
            }
        }

        #[test]
        fn useless_evictions_are_avoided(
            history in history(40), policy in policy(), settings in settings(), strategy in strategy(),
        ) {
            // If pinned messages alone are over the target, its share of the room above them remains filled, or
            // nearly: one more unit would exceed it.
            let metas = metas(&history);
            let policy = Policy { message_limit: None, blocks: Vec::new(), ..policy };
            let input = FlushInput::new(&metas, &policy, &settings, now());
            let EvictionPlan { pinned, .. } =
                plan_eviction(&metas, &policy, EvictionGoal::tokens(0), now());
            let plan = strategy.plan(&input);
            let target = target_of(&policy, &settings).tokens;
            if pinned.tokens <= target || !plan.summarize.is_empty() {
                return Ok(());
            }
            let room = policy.max_tokens.saturating_sub(pinned.tokens);
            let goal = pinned.tokens + room * target / policy.max_tokens;
            let largest = Units::group(&metas, now(), policy.open_call_timeout)
                .iter().map(memory_core::plan::Unit::tokens).max().unwrap_or(0);
            prop_assert!(plan.after.tokens <= goal.max(pinned.tokens) || plan.evict.is_empty());
            prop_assert!(plan.evict.is_empty() || plan.after.tokens + largest > goal);
            prop_assert!(plan.shortfall.is_some());
        }
    }

    fn message(number: u64, tokens: u32, priority: Option<Priority>) -> MessageMeta {
        NewMessage {
            id: MessageId::new(uuid::Uuid::from_u128(number.into())),
            message: Message::user("u"),
            tokens,
            priority,
            content_type: memory_core::ContentType::Conversation,
            created_at: Timestamp::UNIX_EPOCH,
        }
        .stored_at(Sequence::new(number))
        .meta
    }

    #[test]
    fn strategies_have_stable_names() {
        let strategies: [&dyn FlushStrategy; 3] = [&Fifo, &PriorityEviction, &HybridSummary];
        let names = strategies.map(FlushStrategy::name);
        assert_eq!(names, ["fifo", "priority", "hybrid_summary"]);
    }

    #[test]
    fn oversized_summary_is_replaced_by_eviction() {
        let metas: Vec<_> = (1..=10).map(|number| message(number, 10, None)).collect();
        let policy = Policy::with_max_tokens(100);
        let plan = |summary_tokens| {
            let settings = FlushSettings::for_budget(100).with_summary_tokens(summary_tokens);
            let input = FlushInput::new(&metas, &policy, &settings, Timestamp::UNIX_EPOCH)
                .with_target(EvictionGoal::tokens(50));
            HybridSummary.plan(&input)
        };
        let places = |last| (1..=last).map(Sequence::new).collect::<Vec<_>>();

        // A summary of this size leaves room for nothing else, and would replace all 100 tokens.
        let FlushPlan { evict, summarize, after, shortfall, .. } = plan(100);
        assert_eq!((evict, summarize), (places(5), places(0)));
        assert_eq!((after, shortfall), (Tally { messages: 5, tokens: 50 }, None));

        let FlushPlan { evict, summarize, after, shortfall, .. } = plan(99);
        assert_eq!((evict, summarize), (places(0), places(10)));
        assert_eq!(after, Tally { messages: 1, tokens: 99 });
        assert_eq!(shortfall, Some(Shortfall::SummaryTooLarge));
    }

    #[test]
    fn pinned_messages_over_target_leave_proportional_room() {
        let mut metas = vec![message(1, 5_000, Some(Priority::CRITICAL))];
        metas.extend((2..=31).map(|number| message(number, 100, None)));
        let policy = Policy::with_max_tokens(8_000);
        let settings = FlushSettings::for_budget(8_000);
        let input = FlushInput::new(&metas, &policy, &settings, Timestamp::UNIX_EPOCH);
        let plan = Fifo.plan(&input);
        assert_eq!(plan.after, Tally { messages: 16, tokens: 6_500 });
        assert_eq!(plan.shortfall, Some(Shortfall::Critical));
    }
}
