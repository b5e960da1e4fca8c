//! Windows of growing histories keep their prefix until the next step.

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;

use crate::dialect::ToolCall;
use crate::message::Message;
use crate::policy::{Entry, Policy};
use crate::priority::{ContentType, Priority};
use crate::profile::Profile;
use crate::render::bug::{RenderBug, with_bug};
use crate::stored::{MessageId, Sequence, StoredMessage};
use crate::testkit::now;
use crate::tokens::EstimateCounter;
use crate::window::{ContextPlan, WindowAdvance, WindowOptions, plan_context};

fn plan(history: &[StoredMessage], policy: &Policy, options: &WindowOptions) -> ContextPlan {
    plan_context(history, policy, options, &EstimateCounter, now()).unwrap()
}

fn tokens(history: &[StoredMessage]) -> u64 {
    history.iter().map(|stored| u64::from(stored.meta.tokens)).sum()
}

/// A chat of `turns` messages of about 100 tokens, after a system prompt.
fn chat(turns: usize) -> Vec<Message> {
    let text =
        "The tide is high at noon and low in the evening, the ferry leaves at six. ".repeat(5);
    let talk = (0..turns).map(|turn| {
        let text = format!("{turn}: {text}");
        if turn % 2 == 0 { Message::user(text) } else { Message::assistant(text) }
    });
    std::iter::once(Message::system("You know the tides.")).chain(talk).collect()
}

fn numbered(messages: Vec<Message>, policy: &Policy) -> Vec<StoredMessage> {
    let all = messages.into_iter().zip(1_u64..);
    all.map(|(message, number)| stored_entry(Entry::new(message), number, policy)).collect()
}

fn stored_entry(entry: Entry, number: u64, policy: &Policy) -> StoredMessage {
    let id = MessageId::new(uuid::Uuid::from_u128(number.into()));
    policy.admit(entry, id, now(), &EstimateCounter).stored_at(Sequence::new(number))
}

#[test]
fn full_window_of_a_chat_keeps_its_prefix() {
    let policy = Policy::with_max_tokens(100_000);
    let history = numbered(chat(500), &policy);
    let profiles = [Profile::openai_chat(), Profile::anthropic(), Profile::gemini()];
    for profile in profiles {
        let stepped = WindowOptions::new(8_000).with_profile(profile);
        let sliding = stepped.clone().with_advance(WindowAdvance::Sliding);
        let (mut between, mut between_all) = (0, 0);
        let (mut unchanged, mut all, mut full) = (0, 0, 0);
        let mut previous = None;
        for end in 1..=history.len() {
            let plan_of = |options| plan(&history[..end], &policy, options);
            let (window, exact) = (plan_of(&stepped), plan_of(&sliding));
            let mark = window.prefix_mark();
            if let Some((earlier, start)) =
                previous.replace((mark.clone(), window.sequences.get(1).copied()))
                && exact.left_out.budget.messages > 0
            {
                let same = mark.unchanged_tokens(&earlier);
                unchanged += same;
                all += window.tokens;
                full += exact.tokens;
                if window.sequences.get(1).copied() == start {
                    between += same;
                    between_all += window.tokens;
                }
            }
        }
        let percent = |part: u64, whole: u64| part * 100 / whole;
        println!(
            "{}: {} % between cuts, {} % of all, {} % as full",
            stepped.profile.as_ref().unwrap().name,
            percent(between, between_all),
            percent(unchanged, all),
            percent(all, full),
        );
        assert!(percent(between, between_all) >= 95);
        assert!(percent(unchanged, all) >= 75);
        assert!(percent(all, full) >= 85);
    }
}

/// One addition to a history.
#[derive(Debug, Clone, Copy)]
enum Piece {
    User,
    Assistant,
    Tool,
    Fact,
    Note(u8),
}

/// A growing history, and the options of its windows.
#[derive(Debug)]
struct Growth {
    pieces: Vec<(Piece, usize)>,
    budget: u64,
    recent_window: u64,
    profile: Profile,
}

fn growth() -> impl Strategy<Value = Growth> {
    let piece = prop_oneof![
        4 => Just(Piece::User),
        4 => Just(Piece::Assistant),
        2 => Just(Piece::Tool),
        1 => Just(Piece::Fact),
        1 => (1..4_u8).prop_map(Piece::Note),
    ];
    let pieces = prop::collection::vec((piece, 1..25_usize), 30..90);
    let profile = prop_oneof![
        Just(Profile::openai_chat()),
        Just(Profile::anthropic()),
        Just(Profile::openai_responses()),
        Just(Profile::gemini()),
    ];
    (pieces, 1_000..3_000_u64, 0..4_000_u64, profile).prop_map(
        |(pieces, budget, recent_window, profile)| Growth {
            pieces,
            budget,
            recent_window,
            profile,
        },
    )
}

impl Growth {
    /// The messages, and the lengths at which nothing is open.
    fn history(&self, policy: &Policy) -> (Vec<StoredMessage>, Vec<usize>) {
        let (mut entries, mut ends) = (Vec::new(), Vec::new());
        for (number, (piece, size)) in self.pieces.iter().enumerate() {
            let text = format!("{number} {}", "the ferry leaves at six. ".repeat(*size));
            match piece {
                Piece::User => entries.push(Entry::new(Message::user(text))),
                Piece::Assistant => entries.push(Entry::new(Message::assistant(text))),
                Piece::Tool => {
                    let id = format!("call_{number}");
                    let call = ToolCall::function(&id, "tides", "{}");
                    entries.push(Entry::new(Message::calls([call])));
                    entries.push(Entry::new(Message::tool_result(&id, text)));
                }
                Piece::Fact => entries.push(
                    Entry::new(Message::user(text)).with_content_type(ContentType::ImportantFacts),
                ),
                Piece::Note(priority) => entries
                    .push(Entry::new(Message::user(text)).with_priority(Priority::new(*priority))),
            }
            ends.push(entries.len());
        }
        let stored = entries.into_iter().zip(1_u64..);
        (stored.map(|(entry, number)| stored_entry(entry, number, policy)).collect(), ends)
    }

    /// The prefix changes at most once for each step, and once when the window is full.
    fn check(&self) -> Result<(), TestCaseError> {
        let mut policy = Policy::with_max_tokens(100_000);
        policy.recent_window = self.recent_window;
        let (history, ends) = self.history(&policy);
        let options = WindowOptions::new(self.budget).with_profile(self.profile.clone());
        let step = self.budget / 5;
        let mut previous: Option<ContextPlan> = None;
        let (mut changes, mut steps, mut last) = (0, 0, 0);
        for end in ends {
            let window = plan(&history[..end], &policy, &options);
            let reached = tokens(&history[..end]) / step;
            let is_full = window.left_out.budget.messages > 0;
            steps += u64::from(is_full && reached > last);
            last = reached;
            if let Some(before) = previous.replace(window.clone()) {
                let is_changed = !window.sequences.starts_with(&before.sequences);
                changes += u64::from(is_changed);
            }
            // One change when the window is full for the first time, and one that comes before its step because a
            // window was larger than planned.
            prop_assert!(changes <= steps + 2, "{changes} changes in {steps} steps");
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(60) })]
    #[test]
    fn prefix_changes_once_a_step(growth in growth()) {
        growth.check()?;
    }
}

#[test]
fn changes_within_a_step_are_found() {
    for bug in [RenderBug::StartSlides, RenderBug::RecencyFromEnd] {
        let mut runner = TestRunner::deterministic();
        let cases = growth();
        let found = (1..=60).find(|_| {
            let case = cases.new_tree(&mut runner).unwrap().current();
            with_bug(bug, || case.check()).is_err()
        });
        println!("{bug:?} is found after {found:?} histories");
        assert!(found.is_some(), "{bug:?}");
    }
}

#[test]
fn flush_changes_the_prefix_once() {
    let mut policy = Policy::with_max_tokens(100_000);
    policy.recent_window = 500;
    let mut history = numbered(chat(200), &policy);
    let options = WindowOptions::new(4_000);
    let flushed = 150;
    // The oldest half becomes a summary at the place of its first message.
    let summary = Entry::new(Message::system("Earlier: the tides of a week."));
    let mut summary = stored_entry(summary, 2, &policy);
    summary.meta.priority = Some(Priority::IMPORTANT);
    summary.meta.summary = true;
    let before = plan(&history[..flushed], &policy, &options);
    history.splice(1..80, [summary]);
    let flushed = flushed - 78;
    let after = plan(&history[..flushed], &policy, &options);
    assert!(!after.sequences.starts_with(&before.sequences));
    let mut changes = 0;
    for end in flushed..history.len() {
        let (window, next) =
            (plan(&history[..end], &policy, &options), plan(&history[..=end], &policy, &options));
        assert!(window.sequences.contains(&Sequence::new(2)), "the summary is kept");
        changes += u64::from(!next.sequences.starts_with(&window.sequences));
    }
    let steps = tokens(&history) / 800 - tokens(&history[..flushed]) / 800;
    assert!(changes <= steps, "{changes} changes in {steps} steps");
}

#[test]
fn small_difference_in_reserve_moves_nothing() {
    let policy = Policy::with_max_tokens(100_000);
    let history = numbered(chat(300), &policy);
    let starts: std::collections::BTreeSet<_> = (0..40)
        .map(|tools| {
            let options = WindowOptions::new(8_000).with_tools(500 + tools);
            plan(&history, &policy, &options).sequences[1]
        })
        .collect();
    assert!(starts.len() <= 2, "{starts:?}");
}

#[test]
fn window_is_whole_until_it_is_full() {
    let policy = Policy::with_max_tokens(100_000);
    let history = numbered(chat(60), &policy);
    let all = tokens(&history);
    let window = plan(&history, &policy, &WindowOptions::new(all + 100));
    assert_eq!((window.sequences.len(), window.tokens), (history.len(), all));
    assert_eq!(window.left_out.total().messages, 0);
}
