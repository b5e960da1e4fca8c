use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::link::ToolRef;
use crate::message::Message;
use crate::policy::Policy;
use crate::stored::StoredMessage;
use crate::testkit::{history, metas, now, policy};

/// A literal implementation of the rules of [`ToolLink`]: each result looks back for its call. Returns the unit of
/// each message, identified by its first message, and the unanswered calls of each message.
fn by_looking_back(metas: &[MessageMeta]) -> (Vec<usize>, Vec<Vec<ToolRef>>) {
    let mut open: Vec<Vec<ToolRef>> = metas.iter().map(|meta| meta.link.calls.to_vec()).collect();
    let mut unit_of: Vec<usize> = (0..metas.len()).collect();
    let join = |unit_of: &mut Vec<usize>, one: usize, other: usize| {
        let (one, other) = (unit_of[one], unit_of[other]);
        unit_of.iter_mut().filter(|unit| [one, other].contains(unit)).for_each(|unit| {
            *unit = one.min(other);
        });
    };
    // The first item of the answer of each message; the message itself if it is not an item.
    let mut answer_of: Vec<usize> = (0..metas.len()).collect();
    for (position, meta) in metas.iter().enumerate() {
        if let Some(before) = position.checked_sub(1)
            && let (Some(item), Some(last)) = (meta.link.item, metas[before].link.item)
            && item.continues(last)
            && metas[before].sequence.plus(1) == meta.sequence
        {
            join(&mut unit_of, before, position);
            answer_of[position] = answer_of[before];
        }
        for result in meta.link.results.iter() {
            let mut take = |answers: &dyn Fn(&ToolRef) -> bool| {
                let nearest = (0..position).rev().find(|call| open[*call].iter().any(answers))?;
                let of_answer = answer_of[nearest]..=nearest;
                let call = of_answer.into_iter().find(|call| open[*call].iter().any(answers))?;
                let answered = open[call].iter().position(answers)?;
                open[call].remove(answered);
                Some(call)
            };
            let call = match (result.id.is_empty(), result.name.is_empty()) {
                (false, _) => take(&|call| call.id == result.id),
                (true, true) => take(&|_| true),
                (true, false) => take(&|call| call.name == result.name)
                    .or_else(|| take(&|call| call.name.is_empty())),
            };
            if let Some(call) = call {
                join(&mut unit_of, call, position);
            }
        }
    }
    (unit_of, open)
}

fn grouped(metas: &[MessageMeta]) -> Units<'_> {
    Units::group(metas, now(), Policy::DEFAULT_OPEN_CALL_TIMEOUT)
}

proptest! {
    #[test]
    fn result_answers_nearest_open_call(history in history(40)) {
        let metas = metas(&history);
        let units = grouped(&metas);
        let mut unit_of = vec![usize::MAX; metas.len()];
        for unit in &units {
            let mut members = units.members(unit);
            while let Some(position) = members.next_position() {
                prop_assert_eq!(unit_of[position], usize::MAX, "a message in two units");
                unit_of[position] = unit.first();
            }
        }
        prop_assert_eq!(unit_of, by_looking_back(&metas).0);
    }

    #[test]
    fn other_tokens_leave_the_units(
        history in history(40), sizes in prop::collection::vec(0..200_u32, 40), policy in policy(),
    ) {
        let before = metas(&history);
        let mut after = before.clone();
        for (meta, tokens) in after.iter_mut().zip(sizes) {
            meta.tokens = tokens;
        }
        let (changed, whole) = (grouped(&before).with_tokens_of(&after), grouped(&after));
        prop_assert_eq!(changed.as_slice(), whole.as_slice());
        prop_assert_eq!(changed.totals(), whole.totals());
        let mut classes = grouped(&before).classify(&policy);
        changed.reclassify(&policy, &mut classes);
        prop_assert_eq!(classes, whole.classify(&policy));
        prop_assert_eq!(changed.classify(&policy), whole.classify(&policy));
        for window in [50, 500, 2_000] {
            let recent = |units: &Units<'_>| units.recent_from(units.len(), window);
            prop_assert_eq!(recent(&changed), recent(&whole));
        }
    }

    /// Long enough for several sums of conversation.
    #[test]
    fn recent_conversation_is_found_from_its_sums(
        sizes in prop::collection::vec(0..60_u32, 300..700), end in 0..700_usize, window in 0..30_000_u64,
    ) {
        let facts = |place: u64| if place.is_multiple_of(7) { ContentType::ImportantFacts } else { ContentType::Conversation };
        let metas: Vec<_> = (1..).zip(&sizes).map(|(place, tokens)| {
            let id = crate::store::MessageId::new(uuid::Uuid::from_u128(place.into()));
            let mut meta = MessageMeta::new(crate::Sequence::new(place), id, facts(place), now());
            meta.tokens = *tokens;
            meta
        }).collect();
        let units = grouped(&metas);
        let from = units.recent_from(end, window);
        let talk = |range: std::ops::Range<usize>| {
            metas[range].iter().filter(|meta| meta.content_type == ContentType::Conversation)
        };
        let end = end.min(metas.len());
        let sum = |from: usize| talk(from..end).map(|meta| u64::from(meta.tokens)).sum::<u64>();
        prop_assert!(sum(from) <= window || talk(from..end).count() == 1);
        let before = (0..from).rev().find(|at| metas[*at].content_type == ContentType::Conversation);
        prop_assert!(before.is_none_or(|before| sum(before) > window && talk(from..end).count() > 0));
    }

    #[test]
    fn units_come_in_order_and_add_up(history in history(40)) {
        let metas = metas(&history);
        let units = grouped(&metas);
        prop_assert!(units.iter().map(Unit::first).is_sorted_by(|a, b| a < b));
        for unit in &units {
            let members: Vec<_> = units.members(unit).collect();
            prop_assert!(members.is_sorted_by(|a, b| a.sequence < b.sequence));
            prop_assert_eq!(members.len() as u64, unit.messages());
            prop_assert_eq!(members.iter().map(|m| u64::from(m.tokens)).sum::<u64>(), unit.tokens());
        }
    }

    #[test]
    fn state_matches_missing_results(history in history(40)) {
        let metas = metas(&history);
        let units = grouped(&metas);
        let (_, open) = by_looking_back(&metas);
        for unit in &units {
            let mut members = units.members(unit);
            let positions: Vec<_> = std::iter::from_fn(|| members.next_position()).collect();
            let unanswered: usize = positions.iter().map(|at| open[*at].len()).sum();
            prop_assert_eq!(unit.unanswered(), unanswered);
            let given_up = |at: &usize| {
                let old = now().duration_since(metas[*at].created_at) > SignedDuration::from_mins(10);
                metas[*at].closed || old
            };
            let mut waiting = positions.iter().filter(|at| !open[**at].is_empty());
            let first = &metas[unit.first()].link;
            let expected = if unanswered > 0 && !waiting.all(given_up) {
                UnitState::Open
            } else if unanswered > 0 {
                UnitState::Abandoned
            } else if first.calls.is_empty() && !first.results.is_empty() {
                UnitState::Orphan
            } else {
                UnitState::Whole
            };
            prop_assert_eq!(unit.state(), expected);
        }
    }

    #[test]
    fn newest_conversation_within_window_is_recent(
        history in history(40), policy in policy(),
    ) {
        let metas = metas(&history);
        let units = grouped(&metas);
        let classes = units.classify(&policy);
        prop_assert_eq!(classes.len(), units.len());
        let talk: Vec<_> = units.iter().zip(&classes).filter(|(_, c)| c.conversation).collect();
        for (from_end, (_, class)) in talk.iter().rev().enumerate() {
            let sum: u64 = talk.iter().rev().take(from_end + 1).map(|(u, _)| u.tokens()).sum();
            let recent = from_end == 0 || sum <= policy.recent_window;
            let expected =
                if recent { ContentType::RecentContext } else { ContentType::HistoricalMessages };
            prop_assert_eq!(class.content_type, &expected);
        }
    }

    #[test]
    fn unit_takes_most_critical_priority(
        history in history(40), policy in policy(),
    ) {
        let metas = metas(&history);
        let units = grouped(&metas);
        for (unit, class) in units.iter().zip(units.classify(&policy)) {
            let own = units.members(unit).map(|meta| {
                meta.priority.unwrap_or_else(|| policy.priority_of(class.content_type))
            });
            prop_assert_eq!(class.priority, own.min().unwrap());
            let block = policy.blocks.iter().position(|b| b.content_types.contains(class.content_type));
            prop_assert_eq!(class.block, block);
        }
    }
}

fn stored(messages: impl IntoIterator<Item = Message>) -> Vec<MessageMeta> {
    let policy = Policy::with_max_tokens(1_000);
    let stored = messages.into_iter().zip(1_u64..).map(|(message, number)| -> StoredMessage {
        policy
            .admit(
                message.into(),
                crate::store::MessageId::new(uuid::Uuid::from_u128(number.into())),
                now(),
                &crate::EstimateCounter,
            )
            .stored_at(crate::Sequence::new(number))
    });
    stored.map(|stored| stored.meta).collect()
}

fn states(metas: &[MessageMeta], now: Timestamp) -> Vec<UnitState> {
    let units = Units::group(metas, now, Duration::from_mins(10));
    units.iter().map(Unit::state).collect()
}

fn call(ids: &[&str]) -> Message {
    Message::calls(ids.iter().map(|id| crate::dialect::ToolCall::function(*id, "f", "{}")))
}

#[test]
fn call_is_abandoned_after_timeout() {
    let metas = stored([call(&["a", "b"]), Message::tool_result("a", "r")]);
    let at = |offset: SignedDuration| states(&metas, now() + offset);
    assert_eq!(at(SignedDuration::from_mins(10)), [UnitState::Open]);
    let later = SignedDuration::from_mins(10) + SignedDuration::from_nanos(1);
    assert_eq!(at(later), [UnitState::Abandoned]);
    assert_eq!(at(SignedDuration::from_mins(-90)), [UnitState::Open], "clocks may disagree");
}

#[test]
fn late_result_completes_abandoned_call() {
    let mut metas = stored([call(&["a"]), Message::user("never mind")]);
    metas[0].closed = true;
    assert_eq!(states(&metas, now()), [UnitState::Abandoned, UnitState::Whole]);
    let mut metas =
        stored([call(&["a"]), Message::user("never mind"), Message::tool_result("a", "r")]);
    metas[0].closed = true;
    assert_eq!(states(&metas, now()), [UnitState::Whole, UnitState::Whole]);
}

#[test]
fn second_result_is_an_orphan() {
    let metas =
        stored([call(&["a"]), Message::tool_result("a", "r"), Message::tool_result("a", "r")]);
    assert_eq!(states(&metas, now()), [UnitState::Whole, UnitState::Orphan]);
}

#[test]
fn message_with_many_calls_is_grouped() {
    let ids: Vec<String> = (0..40).map(|n| format!("c{n}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let results = || ids.iter().map(|id| Message::tool_result(*id, "r"));
    let metas = stored([call(&ids)].into_iter().chain(results()).chain(results()));
    let states = states(&metas, now());
    assert_eq!(states[0], UnitState::Whole);
    assert_eq!(states[1..], [UnitState::Orphan; 40]);

    let twice: Vec<&str> = ids.iter().chain(&ids).copied().collect();
    let metas = stored([call(&twice)].into_iter().chain(results()).chain(results()));
    let units = grouped(&metas);
    assert_eq!(units.len(), 1);
    assert!(units.iter().all(Unit::is_malformed));
}

#[test]
fn timeout_beyond_clock_range_never_expires() {
    let metas = stored([call(&["a"])]);
    let units = Units::group(&metas, Timestamp::MAX, Duration::MAX);
    assert_eq!(units.iter().next().unwrap().state(), UnitState::Open);
}

#[test]
fn more_calls_than_bits_are_answered() {
    for count in [15, 16, 17] {
        let ids: Vec<String> = (0..count).map(|n| format!("c{n}")).collect();
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        let results = ids.iter().map(|id| Message::tool_result(*id, "r"));
        let metas = stored([call(&ids)].into_iter().chain(results));
        let units = grouped(&metas[..count]);
        let unit = units.iter().next().unwrap();
        assert_eq!((units.len(), unit.unanswered(), unit.state()), (1, 1, UnitState::Open));
        assert_eq!(states(&metas, now()), [UnitState::Whole]);
    }
}

#[test]
fn calls_with_one_id_twice_are_malformed() {
    let malformed = |ids: &[&str]| {
        let metas = stored([call(ids)]);
        grouped(&metas).iter().next().unwrap().is_malformed()
    };
    let long: Vec<String> = (0..20).map(|n| format!("c{n}")).collect();
    let long: Vec<&str> = long.iter().map(String::as_str).collect();
    assert!(!malformed(&["a"]) && !malformed(&["a", "b"]) && !malformed(&long));
    assert!(!malformed(&[""]) && !malformed(&["", ""]), "these are linked by name");
    assert!(malformed(&["a", "a"]) && malformed(&["a", "b", "a"]));
    for odd in ["c0", "c19"] {
        assert!(malformed(&[&long[..], &[odd]].concat()), "{odd}");
    }
}

fn read(history: &[serde_json::Value]) -> Vec<Message> {
    history.iter().map(|json| Message::from_value(json.clone()).unwrap()).collect()
}

fn members(metas: &[MessageMeta]) -> Vec<Vec<u64>> {
    let units = grouped(metas);
    let of = |unit| units.members(unit).map(|meta| meta.sequence.number()).collect();
    units.iter().map(of).collect()
}

fn tool_use(id: &str) -> serde_json::Value {
    json!({"type": "tool_use", "id": id, "name": "f", "input": {}})
}

fn tool_result(id: &str) -> serde_json::Value {
    json!({"type": "tool_result", "tool_use_id": id, "content": "r"})
}

fn item(kind: &str, id: &str) -> serde_json::Value {
    match kind {
        "reasoning" => json!({"type": kind, "id": id, "summary": []}),
        "message" => json!({"type": kind, "role": "assistant",
            "content": [{"type": "output_text", "text": "I will look."}]}),
        "function_call" => json!({"type": kind, "call_id": id, "name": "f", "arguments": "{}"}),
        _ => json!({"type": kind, "call_id": id, "output": "r"}),
    }
}

#[test]
fn items_of_one_answer_are_one_unit() {
    let history = read(&[
        json!({"role": "user", "content": "Oslo and Bergen?"}),
        item("reasoning", "r1"),
        item("message", ""),
        item("function_call", "a"),
        item("function_call", "b"),
        item("function_call_output", "a"),
        item("function_call_output", "b"),
        item("reasoning", "r2"),
        item("message", ""),
        item("message", ""),
        item("function_call", "c"),
    ]);
    let mut metas = stored(history);
    let expected = [vec![1], vec![2, 3, 4, 5, 6, 7], vec![8, 9], vec![10, 11]];
    assert_eq!(members(&metas), expected);
    let twice = stored(read(&[
        item("function_call", "a"),
        item("reasoning", "r"),
        item("function_call", "a"),
    ]));
    assert_eq!(members(&twice), [vec![1], vec![2, 3]]);
    let twice = stored(read(&[item("function_call", "a"), item("function_call", "a")]));
    assert!(grouped(&twice).iter().all(Unit::is_malformed));
    // Calls of one answer are linked as those of one message.
    let unnamed = json!({"type": "computer_call", "id": "c", "call_id": "",
        "action": {"type": "screenshot"}, "pending_safety_checks": []});
    let by_place = stored(read(&[
        item("function_call", "a"),
        unnamed,
        item("function_call_output", ""),
        json!({"role": "tool", "name": "f", "content": "r"}),
        json!({"role": "tool", "name": "computer", "content": "r"}),
    ]));
    assert_eq!(members(&by_place), [vec![1, 2, 3, 5], vec![4]]);
    assert_eq!(by_looking_back(&by_place).0, [0, 0, 0, 3, 0]);
    // A removed neighbor does not make one answer of two.
    metas.remove(8);
    assert_eq!(members(&metas), [vec![1], vec![2, 3, 4, 5, 6, 7], vec![8], vec![10, 11]]);
}

#[test]
fn anthropic_calls_and_results_are_one_unit() {
    let metas = stored(read(&[
        json!({"role": "user", "content": "Oslo and Bergen?"}),
        json!({"role": "assistant", "content": [tool_use("a"), tool_use("b")]}),
        json!({"role": "user", "content": [tool_result("a"), tool_result("b")]}),
        json!({"role": "assistant", "content": [{"type": "text", "text": "Rain."}]}),
    ]));
    assert_eq!(members(&metas), [vec![1], vec![2, 3], vec![4]]);
    let open = stored(read(&[
        json!({"role": "assistant", "content": [tool_use("a")]}),
        json!({"role": "user", "content": "Never mind."}),
    ]));
    assert_eq!(states(&open, now()), [UnitState::Open, UnitState::Whole]);
}

#[test]
fn message_that_answers_two_units_joins_them() {
    let metas = stored(read(&[
        json!({"role": "assistant", "content": [tool_use("a")]}),
        json!({"role": "user", "content": "between"}),
        json!({"role": "assistant", "content": [tool_use("b"), tool_use("c")]}),
        json!({"role": "user", "content": [tool_result("a"), tool_result("b")]}),
        json!({"role": "user", "content": [tool_result("c")]}),
    ]));
    assert_eq!(members(&metas), [vec![1, 3, 4, 5], vec![2]]);
    assert_eq!(states(&metas, now()), [UnitState::Whole, UnitState::Whole]);
    assert_eq!(states(&metas[..4], now()), [UnitState::Open, UnitState::Whole]);
}

#[test]
fn answering_and_calling_message_joins_answered_unit() {
    let metas = stored(read(&[
        json!({"role": "assistant", "content": [tool_use("a")]}),
        json!({"role": "user", "content": [tool_result("a"), tool_use("b")]}),
        json!({"role": "user", "content": [tool_result("b")]}),
    ]));
    assert_eq!(members(&metas), [vec![1, 2, 3]]);
}

#[test]
fn stray_result_beside_another_is_malformed() {
    let metas = stored(read(&[
        json!({"role": "assistant", "content": [tool_use("a")]}),
        json!({"role": "user", "content": [tool_result("a"), tool_result("gone")]}),
        json!({"role": "user", "content": [tool_result("gone")]}),
    ]));
    let units = grouped(&metas);
    let found: Vec<_> = units.iter().map(|unit| (unit.state(), unit.is_malformed())).collect();
    assert_eq!(found, [(UnitState::Whole, true), (UnitState::Orphan, false)]);
}

#[test]
fn calls_without_ids_link_by_name_or_position() {
    let call = |names: &[&str]| {
        let calls: Vec<_> =
            names.iter().map(|name| json!({"function": {"name": name, "arguments": {}}})).collect();
        json!({"role": "assistant", "content": "", "tool_calls": calls})
    };
    let result = |name: &str| json!({"role": "tool", "tool_name": name, "content": "r"});
    let nameless = json!({"role": "tool", "content": "r"});
    let metas = stored(read(&[
        call(&["f", "g"]),
        call(&["h"]),
        result("g"),
        result("h"),
        nameless.clone(),
        nameless,
    ]));
    assert_eq!(members(&metas), [vec![1, 3, 5], vec![2, 4], vec![6]]);
    let by_name = stored(read(&[
        json!({"role": "assistant", "content": null, "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "get_temp", "arguments": "{}"}}]}),
        json!({"role": "tool", "name": "get_temp", "content": "22"}),
    ]));
    assert_eq!(members(&by_name), [vec![1, 2]]);
}

#[test]
fn result_before_its_call_is_an_orphan() {
    let metas = stored([Message::user("go"), Message::tool_result("a", "early"), call(&["a"])]);
    assert_eq!(states(&metas, now()), [UnitState::Whole, UnitState::Orphan, UnitState::Open]);
}

#[test]
fn repeated_id_answers_newest_call_first() {
    let result = || Message::tool_result("a", "r");
    let metas = stored([call(&["a"]), call(&["a", "b"]), call(&["c"]), result(), result()]);
    let units = grouped(&metas);
    let members: Vec<Vec<u64>> = units
        .iter()
        .map(|unit| units.members(unit).map(|meta| meta.sequence.number()).collect())
        .collect();
    assert_eq!(members, [vec![1, 5], vec![2, 4], vec![3]]);
    let third = stored([call(&["a"]), result(), call(&["b"]), result()]);
    assert_eq!(
        states(&third, now()),
        [UnitState::Whole, UnitState::Open, UnitState::Orphan],
        "an answered call is not answered again after another call"
    );
}

#[test]
fn empty_history_has_no_units() {
    assert!(grouped(&[]).is_empty());
    assert!(!grouped(&stored([Message::user("u")])).is_empty());
}
