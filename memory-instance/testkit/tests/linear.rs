//! Tests of the checker: compared with brute force, on valid and invalid histories.

use std::collections::BTreeMap;
use std::sync::Arc;

use memory_core::MemoryResource;
use memory_core::store::NewMessage;
use memory_testkit::{
    Answer, Backward, Call as MemoryCall, Explanation, Item, Kind, Model, Operation, Piece,
    Position, Recorded, SequentialMemory, WindowRules, check,
};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

/// A counting register: `Add` returns the sum before, `Get` the sum.
#[derive(Clone, Default)]
struct Register(u8);

#[derive(Debug, Clone, Copy)]
enum Call {
    Add(u8),
    Get,
}

impl Model for Register {
    type Call = Call;
    type Answer = u8;

    fn step(&self, call: &Call, answer: Option<&u8>) -> Option<Self> {
        if answer.is_some_and(|answer| *answer != self.0) {
            return None;
        }
        Some(match call {
            Call::Add(by) => Self(self.0.wrapping_add(*by)),
            Call::Get => self.clone(),
        })
    }

    fn fingerprint(&self) -> u64 {
        self.0.into()
    }
}

type Op = Operation<Call, u8>;

/// Tries every order of every choice of the unanswered operations.
fn by_brute_force(history: &[Op]) -> bool {
    fn go(state: &Register, history: &[Op], done: &mut Vec<bool>) -> bool {
        let open = |index: &usize| !done[*index];
        let earliest = (0..history.len())
            .filter(open)
            .filter_map(|index| history[index].returned.map(|(at, _)| at))
            .min();
        let Some(earliest) = earliest else { return true };
        for index in 0..history.len() {
            if done[index] || history[index].called > earliest {
                continue;
            }
            let answer = history[index].returned.map(|(_, answer)| answer);
            if let Some(next) = state.step(&history[index].call, answer.as_ref()) {
                done[index] = true;
                let explained = go(&next, history, done);
                done[index] = false;
                if explained {
                    return true;
                }
            }
        }
        false
    }
    go(&Register::default(), history, &mut vec![false; history.len()])
}

fn history() -> impl Strategy<Value = Vec<Op>> {
    let call = prop_oneof![(1..3_u8).prop_map(Call::Add), Just(Call::Get)];
    let op = (call, 0..20_u64, 1..12_u64, prop::option::weighted(0.8, 0..6_u8));
    prop::collection::vec(op, 0..7).prop_map(|ops| {
        // Twice the times plus the index: no two are the same.
        let time = |at: u64, index: usize, end: u64| (at * 16 + index as u64) * 2 + end;
        ops.into_iter()
            .enumerate()
            .map(|(index, (call, at, takes, answer))| Operation {
                call,
                called: time(at, index, 0),
                returned: answer.map(|answer| (time(at + takes, index, 1), answer)),
            })
            .collect()
    })
}

#[test]
fn checker_agrees_with_exhaustive_search() {
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(20_000) };
    let (mut right, mut wrong) = (0_u32, 0_u32);
    let counts = std::cell::RefCell::new((&mut right, &mut wrong));
    let checked = TestRunner::new(config).run(&history(), |history| {
        let verdict = check(&Register::default(), &history, 1_000_000);
        let explained = by_brute_force(&history);
        prop_assert_eq!(verdict == Explanation::Linearizable, explained);
        let mut counts = counts.borrow_mut();
        *(if explained { &mut *counts.0 } else { &mut *counts.1 }) += 1;
        Ok(())
    });
    if let Err(error) = checked {
        panic!("{error}");
    }
    eprintln!("{} histories: {right} could have happened, {wrong} could not", right + wrong);
    assert!(right > 4_000 && wrong > 4_000, "one verdict hardly ever came up: {right}, {wrong}");
}

/// One operation adds, the other reads.
fn pair(answer: u8, looked_from: u64) -> Vec<Op> {
    vec![
        Operation { call: Call::Add(1), called: 1, returned: Some((4, 0)) },
        Operation { call: Call::Get, called: looked_from, returned: Some((9, answer)) },
    ]
}

#[test]
fn only_overlapping_operations_may_be_reordered() {
    let verdict = |history: &[Op]| check(&Register::default(), history, 1_000);
    assert_eq!(verdict(&pair(0, 2)), Explanation::Linearizable);
    assert_eq!(verdict(&pair(1, 2)), Explanation::Linearizable);
    assert_eq!(verdict(&pair(1, 5)), Explanation::Linearizable);
    assert_eq!(verdict(&pair(0, 5)), Explanation::Impossible { explained: vec![0], stuck: 1 });
}

#[test]
fn unfinished_operation_may_have_happened() {
    for answer in [0, 1] {
        let mut history = pair(answer, 5);
        history[0].returned = None;
        assert_eq!(check(&Register::default(), &history, 1_000), Explanation::Linearizable);
    }
    let mut history = pair(2, 5);
    history[0].returned = None;
    assert_ne!(check(&Register::default(), &history, 1_000), Explanation::Linearizable);
}

#[test]
fn pending_reads_are_not_tried_at_every_place() {
    let looked = |called| Operation { call: Call::Get, called, returned: None };
    let mut history: Vec<Op> = (0..24).map(looked).collect();
    for (index, answer) in [(24, 0), (25, 0), (26, 0), (27, 99)] {
        history.push(Operation {
            call: Call::Get,
            called: index,
            returned: Some((index + 9, answer)),
        });
    }
    let verdict = check(&Register::default(), &history, 200);
    assert!(matches!(verdict, Explanation::Impossible { stuck: 27, .. }), "{verdict:?}");
}

#[test]
fn search_over_its_limit_does_not_pass() {
    let under_way = |called| Operation { call: Call::Add(1), called, returned: None };
    let mut history: Vec<Op> = (0..24).map(under_way).collect();
    history.push(Operation { call: Call::Get, called: 24, returned: Some((25, 99)) });
    assert_eq!(check(&Register::default(), &history, 100), Explanation::OutOfBudget);
}

/// An append of one message with this number; it was answered if it has a place.
fn append(batch: u32, place: Option<u64>) -> (MemoryCall, Option<Answer>) {
    let pieces = vec![Piece { tag: batch, tokens: 1, kind: Kind::Talk, bytes: 1 }];
    // The answer of a retry, whose counters are not compared.
    let answer = place.map(|place| Answer::Appended {
        first: Some(place),
        duplicate: true,
        totals: memory_testkit::Totals::default(),
    });
    (MemoryCall::Append { batch, pieces, expected: None }, answer)
}

fn read(tags: &[u32]) -> (MemoryCall, Option<Answer>) {
    let places = (1..).zip(tags).map(|(place, tag)| (place, Item::Message(*tag))).collect();
    (MemoryCall::Read(None), Some(Answer::Page(places, None)))
}

fn keep() -> (MemoryCall, Option<Answer>) {
    (MemoryCall::Keep, Some(Answer::Nothing))
}

fn go_back() -> (MemoryCall, Option<Answer>) {
    (MemoryCall::GoBack, Some(Answer::Nothing))
}

/// The message with this number, of a little over 100 tokens.
fn message(tag: u32) -> NewMessage {
    let text = format!("#{tag} {}", "x".repeat(100));
    let new = serde_json::json!({
        "id": uuid::Uuid::from_u128(tag.into()), "message": {"role": "user", "content": text},
        "tokens": 107, "priority": null, "content_type": "conversation", "created_at": "2026-01-01T00:00:00Z",
    });
    serde_json::from_value(new).unwrap()
}

/// Whether these calls are explained in this order.
fn is_explained(calls: impl IntoIterator<Item = (MemoryCall, Option<Answer>)>) -> bool {
    let recorded = |(at, (call, answer)): (u64, (_, Option<_>))| Recorded {
        call,
        called: 2 * at,
        returned: answer.map(|answer| (2 * at + 1, answer)),
    };
    let history: Vec<_> = (0..).zip(calls).map(recorded).collect();
    let sent = (1..=9).map(|tag| (Item::Message(tag), message(tag))).collect();
    let rules = WindowRules::new(&MemoryResource::new("m", 600), sent).unwrap();
    let memory = SequentialMemory::for_history(&history, &BTreeMap::new());
    let memory = memory.with_windows(Arc::new(rules));
    check(&memory, &history, 1_000) == Explanation::Linearizable
}

#[test]
fn rollback_loses_only_later_writes() {
    let before = || [append(1, Some(1)), keep(), append(2, Some(2)), read(&[1, 2])];
    let after = |calls: Vec<_>| is_explained(before().into_iter().chain(calls));
    assert!(after(vec![go_back(), read(&[1])]));
    assert!(after(vec![go_back(), append(3, Some(2)), read(&[1, 3]), go_back(), read(&[1])]));
    assert!(!after(vec![read(&[1])]), "nothing was lost");
    assert!(!after(vec![go_back(), read(&[1, 2])]), "the server went back");
    assert!(!after(vec![go_back(), read(&[])]), "one was kept");
}

#[test]
fn rollback_without_a_copy_loses_everything() {
    assert!(is_explained([
        append(1, Some(1)),
        go_back(),
        read(&[]),
        append(2, Some(1)),
        read(&[2])
    ]));
    assert!(!is_explained([append(1, Some(1)), go_back(), read(&[1])]));
}

#[test]
fn append_under_way_is_kept_or_lost() {
    for there in [vec![1, 2], vec![1]] {
        let calls = [append(1, Some(1)), keep(), append(2, None), keep(), go_back(), read(&there)];
        assert!(is_explained(calls), "{there:?}");
    }
}

/// A page backward of at most two messages, from a position in generation 7 or from the end.
fn before(position: Option<u64>, tags: &[u32], page: Backward) -> (MemoryCall, Option<Answer>) {
    let item = |place: u64| Item::Message(u32::try_from(place).unwrap());
    let position = position.map(|place| Position { generation: 7, place, item: item(place) });
    let places = tags.iter().map(|tag| (u64::from(*tag), Item::Message(*tag))).collect();
    (MemoryCall::Before { position, limit: 2 }, Some(Answer::Before(places, Some(page))))
}

#[test]
fn pages_backward_are_those_of_the_memory() {
    let last = Backward { generation: 7, restarted: false, more: false };
    let more = Backward { more: true, ..last };
    let restarted = Backward { restarted: true, ..more };
    let calls = |page| [append(1, Some(1)), append(2, Some(2)), append(3, Some(3)), page];
    let newest = || before(None, &[2, 3], more);
    let next = |page| is_explained(calls(newest()).into_iter().chain([page]));
    assert!(next(before(Some(2), &[1], last)));
    assert!(!is_explained(calls(before(None, &[1, 2], more))), "stale");
    assert!(!is_explained(calls(before(None, &[2, 3], last))), "there are more");
    assert!(!next(before(Some(2), &[], last)), "one is missing");
    assert!(!next(before(Some(2), &[2, 3], restarted)), "the position is valid");
    assert!(!next(before(Some(4), &[2, 3], more)), "there is no such message");
}

fn window(budget: u64, tags: &[u32]) -> (MemoryCall, Option<Answer>) {
    let shown = tags.iter().map(|tag| Some(*tag)).collect();
    (MemoryCall::Window(budget, None), Some(Answer::Window(shown, None)))
}

#[test]
fn windows_show_the_newest_messages() {
    let after =
        |window| is_explained([append(1, Some(1)), append(2, Some(2)), append(3, Some(3)), window]);
    assert!(after(window(900, &[1, 2, 3])));
    assert!(after(window(250, &[2, 3])), "two fit");
    assert!(!after(window(900, &[1, 2])), "without the newest");
    assert!(!after(window(900, &[1, 3])), "with a hole");
    assert!(!after(window(900, &[2, 3])), "one more fits");
    assert!(!after(window(900, &[1, 2, 3, 4])), "never appended");
}

#[test]
fn windows_may_show_appends_under_way() {
    for shown in [&[1][..], &[1, 2]] {
        assert!(is_explained([append(1, Some(1)), append(2, None), window(900, shown)]));
    }
    let lost = [append(1, Some(1)), append(2, None), window(900, &[1, 2]), window(900, &[1])];
    assert!(!is_explained(lost), "it was seen before");
}
