//! Windows of random histories, for every profile and random budgets.

use proptest::prelude::*;
use serde_json::json;

use super::{ContextError, ContextPlan, NewestUnit, StartPolicy, WindowOptions, plan_context};
use crate::check_request::check_request;
use crate::message::Message;
use crate::policy::{Entry, Policy};
use crate::priority::Priority;
use crate::profile::Profile;
use crate::render::tests::histories::{lines, messages};
use crate::render::tests::profiles;
use crate::stored::{MessageId, Sequence, StoredMessage};
use crate::testkit::now;
use crate::tokens::EstimateCounter;
use crate::unit::{UnitState, Units};
use crate::{RepairKind, trim_messages};

/// The messages as a memory stores them; every fifth has a priority of its own.
fn stored(messages: Vec<Message>, policy: &Policy, dice: u64) -> Vec<StoredMessage> {
    let all = messages.into_iter().zip(1_u64..);
    all.map(|(message, number)| {
        let entry = match (number * 7 + dice) % 15 {
            0 => Entry::new(message).with_priority(Priority::CRITICAL),
            5 => Entry::new(message).with_priority(Priority::IMPORTANT),
            _ => Entry::new(message),
        };
        let id = MessageId::new(uuid::Uuid::from_u128(number.into()));
        let mut stored =
            policy.admit(entry, id, now(), &EstimateCounter).stored_at(Sequence::new(number));
        stored.meta.closed = (number + dice).is_multiple_of(4);
        stored
    })
    .collect()
}

/// How many histories are tried.
fn histories() -> u32 {
    let wanted = std::env::var("MEMORY_RENDER_HISTORIES").ok();
    wanted.and_then(|number| number.parse().ok()).unwrap_or(5_000)
}

/// What of each unit has to be in a window, by the rules alone.
fn check_plan(
    stored: &[StoredMessage],
    policy: &Policy,
    plan: &ContextPlan,
) -> Result<(), TestCaseError> {
    let metas: Vec<_> = stored.iter().map(|stored| stored.meta.clone()).collect();
    let units = Units::group(&metas, now(), policy.open_call_timeout);
    let is_in = |place: &Sequence| plan.sequences.contains(place);
    let classes = units.classify(policy);
    let mut newest_is_seen = false;
    for (unit, class) in units.iter().zip(classes).rev() {
        let places: Vec<_> = units.members(unit).map(|meta| meta.sequence).collect();
        // Messages without content, and results without a call, are no part of a request.
        let sendable: Vec<_> = places
            .iter()
            .filter(|place| {
                let index = usize::try_from(place.number() - 1).unwrap();
                !stored[index].message.is_blank()
            })
            .collect();
        let held = places.iter().filter(|place| is_in(place)).count();
        if unit.state() != UnitState::Orphan && !unit.is_malformed() && held > 0 {
            let calls = places.iter().filter(|place| {
                let index = usize::try_from(place.number() - 1).unwrap();
                !stored[index].meta.link.is_none()
            });
            prop_assert!(calls.clone().all(is_in), "a unit was torn: {places:?}");
        }
        if class.priority.is_critical() && unit.state() == UnitState::Whole && places.len() == 1 {
            let is_text = stored[usize::try_from(places[0].number() - 1).unwrap()].message.text();
            prop_assert!(
                sendable.is_empty() || is_in(&places[0]) || is_text.trim().is_empty(),
                "critical content is missing: {places:?}"
            );
        }
        if !newest_is_seen && held > 0 {
            newest_is_seen = true;
        } else if !newest_is_seen {
            // Nothing of the newer units could be sent.
            let text = places.iter().any(|place| {
                let message = &stored[usize::try_from(place.number() - 1).unwrap()].message;
                !message.text().trim().is_empty() && message.tool_link().is_none()
            });
            prop_assert!(!text, "the newest unit was dropped: {places:?}");
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(histories()) })]
    #[test]
    fn every_window_is_accepted_and_fits(
        lines in lines(12),
        budget in 1..1_500_u64,
        dice in 0..15_u64,
        system in any::<bool>(),
        truncates in any::<bool>(),
    ) {
        let policy = Policy::with_max_tokens(2_000);
        let stored = stored(messages(&lines), &policy, dice);
        for profile in profiles() {
            let mut options = WindowOptions::new(budget).with_profile(profile.clone());
            if system {
                options = options.with_system("You help.").with_tools(5);
            }
            if truncates {
                options = options.with_newest(NewestUnit::Truncate);
            }
            let plan = plan_context(&stored, &policy, &options, &EstimateCounter, now());
            let plan = match plan {
                Ok(plan) => plan,
                Err(ContextError::CriticalOverBudget { needed, .. }
                    | ContextError::NewestOverBudget { needed, .. }) => {
                    prop_assert!(needed > budget, "{profile:?} needs {needed} of {budget}");
                    continue;
                }
            };
            let recount = plan.request.count_tokens(&EstimateCounter);
            prop_assert_eq!(plan.tokens, recount);
            prop_assert!(plan.tokens + options.reserved() <= budget);
            let text = plan.request.to_string();
            if !plan.request.messages().is_empty() && let Err(error) = check_request(&text, &profile) {
                return Err(TestCaseError::fail(format!("{error}\n{text}")));
            }
            check_plan(&stored, &policy, &plan)?;
            let all = stored.iter().map(|stored| u64::from(stored.meta.tokens)).sum::<u64>();
            prop_assert!(plan.left_out.total().tokens <= all);
            let count = plan.sequences.len() as u64 + plan.left_out.total().messages;
            prop_assert_eq!(count, stored.len() as u64, "{:?} {}", plan, text);
        }
    }
}

#[test]
fn task_of_a_long_tool_run_is_kept() {
    let mut history = vec![Message::user("Find the cheapest ferry of the year.")];
    for number in 0..200 {
        let id = format!("call_{number}");
        history.push(Message::calls([crate::ToolCall::function(&id, "ferries", "{\"day\":1}")]));
        history.push(Message::tool_result(&id, "three ferries, the cheapest for 40 euros"));
    }
    let policy = Policy::with_max_tokens(20_000);
    let all = trim_messages(history.clone(), &policy, &EstimateCounter, 1_000_000).unwrap();
    for profile in profiles() {
        let options = WindowOptions::new(all.tokens / 10).with_profile(profile.clone());
        let window = trim_messages(history.clone(), &policy, &EstimateCounter, options).unwrap();
        let text = window.request.to_string();
        assert_eq!(check_request(&text, &profile), Ok(()));
        assert!(text.contains("Find the cheapest ferry of the year."), "{}", profile.name);
        assert!(window.messages.len() > 20, "{}", profile.name);
        assert!(window.repairs.iter().any(|repair| repair.kind == RepairKind::StartPinned));
        let any = WindowOptions::new(all.tokens / 10)
            .with_profile(profile.clone())
            .with_start(StartPolicy::Any);
        let window = trim_messages(history.clone(), &policy, &EstimateCounter, any).unwrap();
        assert!(!window.request.to_string().contains("cheapest ferry of the year"));
    }
}

#[test]
fn newest_unit_is_an_error_or_cut() {
    let history = vec![
        Message::system("You help."),
        Message::user("Hello"),
        Message::user("the harbor of the old town is full of boats today. ".repeat(40)),
    ];
    let policy = Policy::with_max_tokens(2_000);
    let error = trim_messages(history.clone(), &policy, &EstimateCounter, 100).unwrap_err();
    let ContextError::NewestOverBudget { sequence, tokens, needed, budget } = error else {
        panic!("{error}")
    };
    assert_eq!((sequence, budget), (Sequence::new(3), 100));
    assert!(tokens > 400 && needed > tokens, "{tokens} {needed}");
    let ok = trim_messages(history.clone(), &policy, &EstimateCounter, needed).unwrap();
    assert_eq!(ok.messages.len(), 2);
    let options = WindowOptions::new(100).with_newest(NewestUnit::Truncate);
    let window = trim_messages(history, &policy, &EstimateCounter, options).unwrap();
    assert!((80..=100).contains(&window.tokens), "{}", window.tokens);
    let text = window.request.to_string();
    assert!(text.contains("[truncated]") && text.contains("the harbor"), "{text}");
    assert!(window.repairs.iter().any(|repair| repair.kind == RepairKind::Truncated));
}

#[test]
fn longest_result_of_the_newest_unit_is_cut_first() {
    let calls = ["a", "b"].map(|id| crate::ToolCall::function(id, "read", "{}"));
    let history = vec![
        Message::user("Compare both files, please."),
        Message::calls(calls),
        Message::tool_result("a", "short"),
        Message::tool_result("b", "é".repeat(4_000)),
    ];
    let policy = Policy::with_max_tokens(2_000);
    for profile in profiles() {
        let options =
            WindowOptions::new(150).with_profile(profile.clone()).with_newest(NewestUnit::Truncate);
        let window = trim_messages(history.clone(), &policy, &EstimateCounter, options).unwrap();
        let text = window.request.to_string();
        assert_eq!(check_request(&text, &profile), Ok(()));
        assert!(window.tokens <= 150 && text.contains("short") && text.contains("éé"), "{text}");
        assert!(text.contains("truncated"), "{text}");
    }
}

#[test]
fn system_prompt_of_the_options_is_first_and_counted() {
    let history = vec![Message::system("Stored."), Message::user("Hello")];
    let policy = Policy::with_max_tokens(2_000);
    let plain = trim_messages(history.clone(), &policy, &EstimateCounter, 100).unwrap();
    let options = WindowOptions::new(100).with_system("You plan.");
    let window = trim_messages(history.clone(), &policy, &EstimateCounter, options).unwrap();
    assert_eq!(window.request.messages()[0].get_str("content"), Some("You plan."));
    assert!(window.tokens > plain.tokens);
    let options =
        WindowOptions::new(100).with_system("You plan.").with_profile(Profile::anthropic());
    let window = trim_messages(history, &policy, &EstimateCounter, options).unwrap();
    let expected = json!([
        {"type": "text", "text": "You plan."}, {"type": "text", "text": "Stored."},
    ]);
    assert_eq!(window.request.to_value()["system"], expected);
    let options = WindowOptions::new(4).with_system("You plan.");
    let error = trim_messages(Vec::new(), &policy, &EstimateCounter, options).unwrap_err();
    assert!(matches!(error, ContextError::CriticalOverBudget { budget: 4, .. }), "{error}");
}
