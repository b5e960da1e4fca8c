//! Which messages to send to a model: a window that fits a budget.

use jiff::Timestamp;
use uuid::Uuid;

use serde::Serialize;

use crate::counters::Tally;
use crate::message::Message;
use crate::policy::{Entry, Policy};
use crate::stored::{MessageId, MessageMeta, Sequence, StoredMessage};
use crate::tokens::TokenCounter;
use crate::unit::{UnitState, Units};

/// The messages of a context window, and what was left out of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ContextPlan {
    /// The places of the messages, in the order in which to send them.
    pub sequences: Vec<Sequence>,
    /// Their tokens.
    pub tokens: u64,
    /// What was left out, and why.
    pub left_out: LeftOut,
}

/// What a context window leaves out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct LeftOut {
    /// What did not fit the budget, and the talk before what did not fit.
    pub budget: Tally,
    /// Calls whose results are still awaited, except at the end of the window.
    pub open: Tally,
    /// Calls that were given up, with the results that they have.
    pub abandoned: Tally,
    /// Results whose call is gone or never was.
    pub orphans: Tally,
    /// What no model API takes: two calls of one message with the same id, or the result of a call that is gone
    /// beside others.
    pub malformed: Tally,
}

impl LeftOut {
    /// All of it together.
    #[must_use]
    pub fn total(&self) -> Tally {
        let Self { budget, open, abandoned, orphans, malformed } = self;
        let mut total = Tally::default();
        for part in [budget, open, abandoned, orphans, malformed] {
            total.messages = total.messages.saturating_add(part.messages);
            total.tokens = total.tokens.saturating_add(part.tokens);
        }
        total
    }
}

impl ContextPlan {
    /// The places in ascending order, as [`MemoryStore::fetch`](crate::MemoryStore::fetch) wants them.
    #[must_use]
    pub fn places(&self) -> Vec<Sequence> {
        let mut places = self.sequences.clone();
        places.sort_unstable();
        places
    }

    /// The messages in the order in which to send them; those that are not of this plan are dropped.
    #[must_use]
    pub fn arrange(&self, mut messages: Vec<StoredMessage>) -> Vec<StoredMessage> {
        let mut order: Vec<_> = self.sequences.iter().copied().zip(0_usize..).collect();
        order.sort_unstable();
        let rank = |message: &StoredMessage| {
            let at =
                order.binary_search_by_key(&message.meta.sequence, |(place, _)| *place).ok()?;
            order.get(at).map(|(_, rank)| *rank)
        };
        messages.retain(|message| rank(message).is_some());
        messages.sort_by_cached_key(rank);
        messages
    }
}

/// Why there is no context window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ContextError {
    /// The critical content alone does not fit.
    #[error(
        "the critical messages alone take {needed} tokens, over the budget of {budget}: raise the \
         budget to {needed} or more, or give some of them a lower priority"
    )]
    CriticalOverBudget {
        /// The tokens of the critical units.
        needed: u64,
        /// The tokens that were allowed.
        budget: u64,
    },
}

/// Plans a context window of at most `budget` tokens (promise P9).
///
/// - Critical units come in first; then those with the lowest priority number, the newest first
///   within a priority, each if it still fits (greedy, not the best packing).
/// - Once a unit of plain talk does not fit, the talk before it stays out as well, so that the talk
///   has no holes; facts, profiles and summaries may still fit.
/// - Units are whole, in the order of their first messages, a call's results directly behind it even
///   where other agents' messages stood between, so that [`check_pairing`](crate::check_pairing)
///   holds for the window.
/// - A call whose results are awaited is there only if it ends the window. Abandoned calls, results
///   without a call, and calls that no API takes are not in it, even where they are critical.
///
/// Linear in the number of messages. `metas` is in ascending order of places.
///
/// # Errors
/// [`ContextError::CriticalOverBudget`].
pub fn plan_context(
    metas: &[MessageMeta],
    policy: &Policy,
    budget: u64,
    now: Timestamp,
) -> Result<ContextPlan, ContextError> {
    let units = Units::group(metas, now, policy.open_call_timeout);
    let classes = units.classify(policy);
    let sendable = |unit: &crate::unit::Unit| {
        !unit.is_malformed() && matches!(unit.state(), UnitState::Whole | UnitState::Open)
    };
    let last = units.iter().rposition(sendable);
    let mut left_out = LeftOut::default();
    let mut included = vec![false; units.len()];
    let mut needed = 0_u64;
    let mut optional = Vec::with_capacity(units.len());
    let positions = units.iter().zip(&classes).zip(&mut included).enumerate();
    for (index, ((unit, class), included)) in positions {
        let part = match unit.state() {
            UnitState::Abandoned => &mut left_out.abandoned,
            UnitState::Orphan => &mut left_out.orphans,
            UnitState::Whole | UnitState::Open if unit.is_malformed() => &mut left_out.malformed,
            UnitState::Open if last != Some(index) => &mut left_out.open,
            UnitState::Whole | UnitState::Open => {
                if class.priority.is_critical() {
                    *included = true;
                    needed = needed.saturating_add(unit.tokens());
                } else {
                    optional.push((index, unit, class));
                }
                continue;
            }
        };
        part.messages += unit.messages();
        part.tokens = part.tokens.saturating_add(unit.tokens());
    }
    if needed > budget {
        return Err(ContextError::CriticalOverBudget { needed, budget });
    }
    // Stable: the newest first within a priority.
    optional.reverse();
    optional.sort_by_key(|(_, _, class)| class.priority);
    let mut tokens = needed;
    // Talk before this unit stays out.
    let mut talk_from = 0;
    for (index, unit, class) in optional {
        let fits = tokens.checked_add(unit.tokens()).is_some_and(|sum| sum <= budget);
        if fits && !(class.conversation && index < talk_from) {
            tokens += unit.tokens();
            if let Some(included) = included.get_mut(index) {
                *included = true;
            }
            continue;
        }
        if class.conversation {
            talk_from = talk_from.max(index);
        }
        left_out.budget.messages += unit.messages();
        left_out.budget.tokens = left_out.budget.tokens.saturating_add(unit.tokens());
    }
    let sequences = units
        .iter()
        .zip(included)
        .filter(|(_, included)| *included)
        .flat_map(|(unit, _)| units.members(unit))
        .map(|meta| meta.sequence)
        .collect();
    Ok(ContextPlan { sequences, tokens, left_out })
}

/// Cuts a list of messages down to a budget, by the rules of [`plan_context`], with no store at all.
///
/// The result is what to send to a model: results of tools stand directly behind their calls, and
/// results without a call are gone. No call is too old here, for a plain message does not say when
/// it was made.
///
/// ```
/// use memory_core::{EstimateCounter, Message, Policy, ToolCall, check_pairing, trim_messages};
///
/// let mut messages = vec![Message::system("You are a travel agent.")];
/// for day in 1..=100 {
///     let id = format!("call_{day}");
///     messages.push(Message::user(format!("What about day {day}?")));
///     messages.push(Message::calls([ToolCall::function(&id, "flights", "{}")]));
///     messages.push(Message::tool_result(&id, "three flights"));
/// }
/// let policy = Policy::with_max_tokens(500);
/// let window = trim_messages(messages, &policy, &EstimateCounter, 500)?;
///
/// assert_eq!(window[0].text(), "You are a travel agent.");
/// assert_eq!(window.last().unwrap().text(), "three flights");
/// assert!(check_pairing(&window).is_ok(), "no budget tears a call from its results");
/// # Ok::<(), memory_core::ContextError>(())
/// ```
///
/// # Errors
/// [`ContextError::CriticalOverBudget`].
pub fn trim_messages(
    messages: Vec<Message>,
    policy: &Policy,
    counter: &dyn TokenCounter,
    budget: u64,
) -> Result<Vec<Message>, ContextError> {
    let now = Timestamp::UNIX_EPOCH;
    let stored: Vec<_> = messages
        .into_iter()
        .zip(1_u64..)
        .map(|(message, number)| {
            let id = MessageId::new(Uuid::from_u128(number.into()));
            let new = policy.admit(Entry::new(message), id, now, counter);
            new.stored_at(Sequence::new(number))
        })
        .collect();
    let metas: Vec<_> = stored.iter().map(|message| message.meta.clone()).collect();
    let plan = plan_context(&metas, policy, budget, now)?;
    Ok(plan.arrange(stored).into_iter().map(|stored| stored.message).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::message::ToolCall;
    use crate::pairing::check_pairing;
    use crate::testkit::{history, metas, now, policy};
    use crate::tokens::EstimateCounter;
    use crate::unit::{Unit, UnitClass};

    type Judged<'a> = (usize, Unit, UnitClass<'a>, bool);

    /// The units that could be sent, and whether the plan holds them; panics if it tears one.
    fn judged<'a>(units: &Units<'a>, policy: &Policy, plan: &ContextPlan) -> Vec<Judged<'a>> {
        let last = units.iter().rposition(|unit| {
            !unit.is_malformed() && matches!(unit.state(), UnitState::Whole | UnitState::Open)
        });
        let classes = units.classify(policy);
        let mut judged = Vec::new();
        for (index, (unit, class)) in units.iter().zip(classes).enumerate() {
            let held: Vec<_> =
                units.members(unit).map(|meta| plan.sequences.contains(&meta.sequence)).collect();
            assert!(held.iter().all(|one| *one == held[0]), "a unit was torn");
            let sendable = !unit.is_malformed()
                && match unit.state() {
                    UnitState::Whole => true,
                    UnitState::Open => last == Some(index),
                    UnitState::Abandoned | UnitState::Orphan => false,
                };
            assert!(sendable || !held[0], "what cannot be sent is in the window");
            if sendable {
                judged.push((index, *unit, class, held[0]));
            }
        }
        judged
    }

    proptest! {
        #[test]
        fn a_window_is_within_its_budget_and_counts_right(
            history in history(40), policy in policy(), budget in 0..1_500_u64,
        ) {
            let metas = metas(&history);
            let Ok(plan) = plan_context(&metas, &policy, budget, now()) else { return Ok(()) };
            prop_assert!(plan.tokens <= budget);
            let (mut held, mut all) = (Tally::default(), Tally::default());
            for meta in &metas {
                all.add(meta.tokens);
                if plan.sequences.contains(&meta.sequence) {
                    held.add(meta.tokens);
                }
            }
            prop_assert_eq!(held.messages, plan.sequences.len() as u64);
            prop_assert_eq!(held.tokens, plan.tokens);
            let out = plan.left_out.total();
            prop_assert_eq!(held.messages + out.messages, all.messages);
            prop_assert_eq!(held.tokens + out.tokens, all.tokens);
        }

        #[test]
        fn every_window_is_one_that_a_model_api_takes(
            history in history(40), policy in policy(), budget in 0..1_500_u64,
        ) {
            let Ok(plan) = plan_context(&metas(&history), &policy, budget, now()) else {
                return Ok(());
            };
            let window = plan.arrange(history);
            prop_assert!(window.iter().map(|message| message.meta.sequence).eq(plan.sequences.iter().copied()));
            prop_assert_eq!(check_pairing(window.iter().map(|stored| &stored.message)), Ok(()));
        }

        #[test]
        fn critical_content_is_always_there_or_the_error_says_how_much_it_needs(
            history in history(40), policy in policy(), budget in 0..600_u64,
        ) {
            let metas = metas(&history);
            let units = Units::group(&metas, now(), policy.open_call_timeout);
            let plan = plan_context(&metas, &policy, budget, now());
            let all = plan_context(&metas, &policy, u64::MAX, now()).unwrap();
            let critical = |judged: &&Judged<'_>| judged.2.priority.is_critical();
            let needed = judged(&units, &policy, &all).iter().filter(critical).map(|j| j.1.tokens()).sum();
            match plan {
                Ok(plan) => {
                    prop_assert!(needed <= budget);
                    prop_assert!(judged(&units, &policy, &plan).iter().filter(critical).all(|j| j.3));
                }
                Err(error) => {
                    prop_assert!(needed > budget);
                    prop_assert_eq!(error, ContextError::CriticalOverBudget { needed, budget });
                }
            }
        }

        #[test]
        fn units_stand_in_the_order_of_their_first_messages_with_results_behind_their_calls(
            history in history(40), policy in policy(), budget in 0..1_500_u64,
        ) {
            let metas = metas(&history);
            let Ok(plan) = plan_context(&metas, &policy, budget, now()) else { return Ok(()) };
            let units = Units::group(&metas, now(), policy.open_call_timeout);
            let held = judged(&units, &policy, &plan).into_iter().filter(|judged| judged.3);
            let expected: Vec<_> = held
                .flat_map(|(_, unit, _, _)| units.members(&unit).map(|m| m.sequence).collect::<Vec<_>>())
                .collect();
            prop_assert_eq!(plan.sequences, expected);
        }

        #[test]
        fn what_was_left_out_did_not_fit_beside_what_comes_before_it(
            history in history(40), policy in policy(), budget in 0..1_500_u64,
        ) {
            let metas = metas(&history);
            let Ok(plan) = plan_context(&metas, &policy, budget, now()) else { return Ok(()) };
            let units = Units::group(&metas, now(), policy.open_call_timeout);
            let judged = judged(&units, &policy, &plan);
            for (index, unit, class, held) in &judged {
                let rank = |judged: &Judged<'_>| (judged.2.priority, std::cmp::Reverse(judged.0));
                let own = (class.priority, std::cmp::Reverse(*index));
                let before = judged.iter().filter(|other| rank(other) < own);
                let taken: u64 = before.clone().filter(|j| j.3).map(|j| j.1.tokens()).sum();
                let newer_talk_out = class.conversation
                    && before.clone().any(|j| j.2.conversation && !j.3 && j.0 > *index);
                let fits = taken + unit.tokens() <= budget;
                prop_assert_eq!(*held, fits && !newer_talk_out, "{:?}", class);
            }
        }

        #[test]
        fn talk_has_no_holes_but_for_what_matters_more(
            history in history(40), policy in policy(), budget in 0..1_500_u64,
        ) {
            let metas = metas(&history);
            let Ok(plan) = plan_context(&metas, &policy, budget, now()) else { return Ok(()) };
            let units = Units::group(&metas, now(), policy.open_call_timeout);
            let talk: Vec<_> =
                judged(&units, &policy, &plan).into_iter().filter(|j| j.2.conversation).collect();
            for (newer, _, out, _) in talk.iter().filter(|judged| !judged.3) {
                for (_, _, older, held) in talk.iter().filter(|judged| judged.0 < *newer) {
                    prop_assert!(!held || older.priority < out.priority);
                }
            }
        }
    }

    #[test]
    fn critical_content_may_fill_the_whole_budget() {
        let policy = Policy::with_max_tokens(1_000);
        let messages = vec![Message::system("You are a travel agent."), Message::user("hello")];
        let needed = crate::message_tokens(&EstimateCounter, &messages[0]).into();
        let trim = |budget| trim_messages(messages.clone(), &policy, &EstimateCounter, budget);
        assert_eq!(trim(needed), Ok(messages[..1].to_vec()));
        let budget = needed - 1;
        assert_eq!(trim(budget), Err(ContextError::CriticalOverBudget { needed, budget }));
    }

    #[test]
    fn the_places_of_a_plan_are_fetched_in_ascending_order() {
        let sequences = [3, 1, 2].map(Sequence::new).to_vec();
        let plan = ContextPlan { sequences, ..ContextPlan::default() };
        assert_eq!(plan.places(), [1, 2, 3].map(Sequence::new));
    }

    fn call(id: &str) -> Message {
        Message::calls([ToolCall::function(id, "f", "{}")])
    }

    #[test]
    fn results_of_interleaved_agents_come_back_behind_their_own_calls() {
        let messages = vec![
            call("a"),
            call("b"),
            Message::user("and?"),
            Message::tool_result("a", "ra"),
            Message::tool_result("b", "rb"),
        ];
        let policy = Policy::with_max_tokens(1_000);
        let window = trim_messages(messages.clone(), &policy, &EstimateCounter, 1_000).unwrap();
        let expected = [0, 3, 1, 4, 2].map(|index| messages[index].clone());
        assert_eq!(window, expected);
    }

    #[test]
    fn only_an_open_call_that_ends_the_window_is_in_it() {
        let policy = Policy::with_max_tokens(1_000);
        let trim = |messages: &[Message]| {
            trim_messages(messages.to_vec(), &policy, &EstimateCounter, 1_000).unwrap()
        };
        let ends = [Message::user("hello"), call("a")];
        assert_eq!(trim(&ends), ends);
        let goes_on = [Message::user("hello"), call("a"), Message::user("well?")];
        assert_eq!(trim(&goes_on), [Message::user("hello"), Message::user("well?")]);
        let orphan_after = [Message::user("hello"), call("a"), Message::tool_result("z", "r")];
        assert_eq!(trim(&orphan_after), ends);
    }

    #[test]
    fn a_call_with_one_id_twice_is_left_out_although_it_is_answered_twice() {
        let twice = Message::calls([
            ToolCall::function("a", "f", "{}"),
            ToolCall::function("a", "f", "{}"),
        ]);
        let messages = vec![
            twice,
            Message::tool_result("a", "1"),
            Message::tool_result("a", "2"),
            Message::user("u"),
        ];
        let policy = Policy::with_max_tokens(1_000);
        let window = trim_messages(messages, &policy, &EstimateCounter, 1_000).unwrap();
        assert_eq!(window, [Message::user("u")]);
    }
}
