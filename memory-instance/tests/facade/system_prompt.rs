//! System prompts that are stored once, and critical content over the budget.

use std::time::Duration;

use memory_core::resource::{ArchiveSettings, PriorityBlock};
use memory_core::store::{RestoreRefusal, StoreErrorKind};
use memory_core::{ContentType, Entry, MemoryResource, Message, Priority, Sequence};
use memory_instance::{EnsureOutcome, FlushMode, MemoryError, MemoryInstance, Session};

use crate::support::{On, World, checked, hybrid, texts, url, with};

on_every_backend![
    prompt_is_appended_replaced_or_unchanged,
    prompts_of_other_names_are_independent,
    concurrent_calls_leave_one_prompt,
    concurrent_calls_with_other_texts_leave_one_prompt,
    one_prompt_is_left_among_writers_and_clears,
    cleared_prompt_is_appended_again,
    flush_keeps_the_prompt,
    prompt_with_another_priority_keeps_its_name,
    prompt_is_ensured_within_a_turn,
    undo_returns_no_second_prompt_of_a_name,
    undo_beside_an_ensured_prompt_leaves_one,
    prompt_is_redacted_before_it_is_compared,
    append_reports_critical_content_over_the_budget,
];

fn resource() -> MemoryResource {
    MemoryResource::new("m", 1 << 20)
}

/// Handles of two managers. If the backend has a file, the second manager opens it like another process.
async fn two_handles(world: &World) -> [MemoryInstance; 2] {
    let first = world.memory();
    let second = match &world.folder {
        Some(folder) => {
            let manager = with(first.resource().clone()).open(&url(folder)).await.unwrap();
            manager.memory("m", "k").unwrap()
        }
        None => world.memory(),
    };
    [first, second]
}

async fn prompts(memory: &MemoryInstance) -> Vec<String> {
    let messages = memory.messages().await.unwrap();
    let prompts = messages.iter().filter(|it| it.meta.content_type == ContentType::SystemPrompt);
    prompts.map(|prompt| prompt.message.text().into_owned()).collect()
}

async fn prompt_is_appended_replaced_or_unchanged(on: On) {
    let world = on.world(with(resource())).await;
    let memory = world.memory();
    memory.append(Message::user("before")).await.unwrap();
    let first = memory.ensure_system("agent", "Be brief.").await.unwrap();
    assert_eq!((first.outcome, first.sequence), (EnsureOutcome::Appended, Sequence::new(2)));
    memory.append(Message::user("after")).await.unwrap();
    let before = checked(&memory, &world.manager).await;
    assert_eq!(before.metas[1].class().to_string(), "0/system_prompt");

    let same = memory.ensure_system("agent", "Be brief.").await.unwrap();
    assert_eq!((same.outcome, same.sequence), (EnsureOutcome::Unchanged, Sequence::new(2)));
    assert_eq!(checked(&memory, &world.manager).await, before, "nothing was written");

    for text in ["Be thorough, and show your sources.", "Be kind."] {
        let other = memory.ensure_system("agent", text).await.unwrap();
        assert_eq!((other.outcome, other.sequence), (EnsureOutcome::Replaced, Sequence::new(2)));
        assert_eq!(texts(&memory).await, ["before", text, "after"]);
        let same = memory.ensure_system("agent", text).await.unwrap();
        assert_eq!(same.outcome, EnsureOutcome::Unchanged);
    }
    let after = checked(&memory, &world.manager).await.head;
    assert_eq!(after.counters.appended, 3);
    assert!(after.generation > before.head.generation);
    assert_eq!(first.critical_over_budget, None);
}

async fn prompts_of_other_names_are_independent(on: On) {
    let world = on.world(with(resource())).await;
    let memory = world.memory();
    for name in ["a", "b", ""] {
        let ensured = memory.ensure_system(name, "the same text").await.unwrap();
        assert_eq!(ensured.outcome, EnsureOutcome::Appended);
    }
    memory.append(Message::system("appended as ever")).await.unwrap();
    memory.ensure_system("b", "another text").await.unwrap();
    let expected = ["the same text", "another text", "the same text", "appended as ever"];
    assert_eq!(texts(&memory).await, expected);
}

/// Each task makes 20 calls; the prompt's text depends on the task and the round.
async fn call_from_all(handles: &[MemoryInstance; 2], text: fn(usize, usize) -> String) {
    let tasks: Vec<_> = (0..16)
        .map(|task| {
            let memory = handles[task % 2].clone();
            tokio::spawn(async move {
                for round in 0..20 {
                    memory.ensure_system("agent", text(task, round)).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}

async fn concurrent_calls_leave_one_prompt(on: On) {
    let world = on.world(with(resource())).await;
    let handles = two_handles(&world).await;
    call_from_all(&handles, |_, _| "You are a travel agent.".into()).await;
    assert_eq!(texts(&handles[0]).await, ["You are a travel agent."]);
    let head = checked(&handles[0], &world.manager).await.head;
    assert_eq!(head.counters.appended, 1);
}

async fn concurrent_calls_with_other_texts_leave_one_prompt(on: On) {
    let world = on.world(with(resource())).await;
    let handles = two_handles(&world).await;
    call_from_all(&handles, |task, round| format!("prompt {} of {task}", round / 10)).await;
    let found = texts(&handles[1]).await;
    assert!(found.len() == 1 && found[0].starts_with("prompt "), "{found:?}");
    assert_eq!(checked(&handles[0], &world.manager).await.head.counters.appended, 1);
    handles[1].ensure_system("agent", "the last one").await.unwrap();
    assert_eq!(texts(&handles[0]).await, ["the last one"]);
}

async fn one_prompt_is_left_among_writers_and_clears(on: On) {
    let world = on.world(with(hybrid(600))).await;
    let handles = two_handles(&world).await;
    let tasks: Vec<_> = (0..6)
        .map(|task| {
            let memory = handles[task % 2].clone();
            tokio::spawn(async move {
                for round in 0..10 {
                    match task {
                        0 if round % 5 == 4 => drop(memory.clear().await.unwrap()),
                        0 => drop(memory.perform_flush().await.unwrap()),
                        1 => {
                            let text = format!("message {round} {}", "word ".repeat(20));
                            memory.append(Message::user(text)).await.unwrap();
                        }
                        _ => {
                            let text = format!("prompt {}", round % (task + 1));
                            memory.ensure_system("agent", text).await.unwrap();
                        }
                    }
                    let found = prompts(&memory).await;
                    assert!(found.len() <= 1, "{found:?}");
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    handles[0].ensure_system("agent", "at the end").await.unwrap();
    assert_eq!(prompts(&handles[1]).await, ["at the end"]);
    checked(&handles[0], &world.manager).await;
}

async fn cleared_prompt_is_appended_again(on: On) {
    let world = on.world(with(resource())).await;
    let memory = world.memory();
    for _ in 0..3 {
        memory.clear().await.unwrap();
        let ensured = memory.ensure_system("agent", "Be brief.").await.unwrap();
        assert_eq!(ensured.outcome, EnsureOutcome::Appended);
        assert_eq!(texts(&memory).await, ["Be brief."]);
    }
}

/// Also if the resource permits the eviction of system prompts.
async fn flush_keeps_the_prompt(on: On) {
    let mut resource = hybrid(600);
    resource.priority_blocks =
        vec![PriorityBlock::new(Priority::new(3), [ContentType::SystemPrompt])];
    let world = on.world(with(resource).with_flush_mode(FlushMode::Inline)).await;
    let memory = world.memory();
    memory.ensure_system("agent", "Be brief.").await.unwrap();
    memory.append(Message::system("may go")).await.unwrap();
    for round in 0..60 {
        let text = format!("message {round} {}", "word ".repeat(20));
        memory.append(Message::user(text)).await.unwrap();
        let ensured = memory.ensure_system("agent", "Be brief.").await.unwrap();
        assert_eq!(ensured.outcome, EnsureOutcome::Unchanged);
    }
    assert!(memory.counters().await.unwrap().summarized > 0);
    assert_eq!(prompts(&memory).await, ["Be brief."]);
    let window = memory.context(500).await.unwrap();
    assert_eq!(window.messages[0].text(), "Be brief.");
}

async fn prompt_with_another_priority_keeps_its_name(on: On) {
    let world = on.world(with(resource())).await;
    let memory = world.memory();
    let place = memory.ensure_system("agent", "Be brief.").await.unwrap().sequence;
    memory.set_priority(place, Priority::IMPORTANT).await.unwrap().unwrap();
    let ensured = memory.ensure_system("agent", "Be brief.").await.unwrap();
    assert_eq!((ensured.outcome, ensured.sequence), (EnsureOutcome::Replaced, place));
    assert_eq!(prompts(&memory).await, ["Be brief."]);
}

async fn prompt_is_ensured_within_a_turn(on: On) {
    let world = on.world(with(resource())).await;
    let memory = world.memory();
    let (own, turn_memory) = (EnsureOutcome::Appended, memory.clone());
    let turn = |session: Session| async move {
        let refused = turn_memory.ensure_system("agent", "Be brief.").await.unwrap_err();
        assert!(matches!(refused, MemoryError::OwnTurn { .. }), "{refused}");
        assert_eq!(session.ensure_system("agent", "Be brief.").await.unwrap().outcome, own);
        let other = session.ensure_system("agent", "Be kind.").await.unwrap();
        assert_eq!(other.outcome, EnsureOutcome::Replaced);
        session
    };
    let session = memory.exclusive(turn).await.unwrap();
    assert_eq!(texts(&memory).await, ["Be kind."]);
    let late = session.ensure_system("agent", "late").await.unwrap_err();
    assert!(matches!(late, MemoryError::TurnEnded { .. }), "{late}");
}

async fn prompt_is_redacted_before_it_is_compared(on: On) {
    let mut resource = resource();
    resource.privacy_policy.redact_patterns = vec!["sk-[0-9]+".into()];
    let world = on.world(with(resource)).await;
    let memory = world.memory();
    for (text, expected) in [
        ("The key is sk-1.", EnsureOutcome::Appended),
        ("The key is sk-2.", EnsureOutcome::Unchanged),
    ] {
        assert_eq!(memory.ensure_system("agent", text).await.unwrap().outcome, expected);
    }
    assert_eq!(texts(&memory).await, ["The key is [REDACTED]."]);
}

/// P4: only an append that takes critical content over the budget reports it.
async fn append_reports_critical_content_over_the_budget(on: On) {
    let resource = MemoryResource::new("m", 100);
    let world = on.world(with(resource).with_flush_mode(FlushMode::Manual)).await;
    let memory = world.memory();
    let talk = || Message::user("word ".repeat(40));
    let prompt = || Message::system("rule ".repeat(60));
    for message in [talk(), talk(), talk(), prompt()] {
        let appended = memory.append(message).await.unwrap();
        assert_eq!(appended.critical_over_budget, None, "only critical content counts");
        let json = serde_json::to_value(&appended).unwrap();
        assert!(json.get("critical_over_budget").is_none());
    }
    for entry in [Entry::new(prompt()), Entry::new(talk()).with_priority(Priority::CRITICAL)] {
        let appended = memory.append(entry).await.unwrap();
        let critical = appended.counters.critical_tokens();
        assert!(critical > 100);
        assert_eq!(appended.critical_over_budget, Some(critical - 100));
        assert_eq!(
            serde_json::to_value(&appended).unwrap()["critical_over_budget"],
            critical - 100
        );
    }
    let ensured = memory.ensure_system("agent", "rule").await.unwrap();
    let counters = memory.counters().await.unwrap();
    assert_eq!(ensured.critical_over_budget, Some(counters.critical_tokens() - 100));
    let prepared = memory.prepare([Message::user("word")]).unwrap();
    for _ in 0..2 {
        let sent = memory.send(&prepared).await.unwrap();
        assert_eq!(sent.critical_over_budget, ensured.critical_over_budget);
    }
    let turn = |session: Session| async move { session.append(Message::user("word")).await };
    let appended = memory.exclusive(turn).await.unwrap().unwrap();
    assert_eq!(appended.critical_over_budget, ensured.critical_over_budget);
}

/// The README's program. Without `ensure_system` each start adds a critical prompt, until no window fits.
#[tokio::test(start_paused = true)]
async fn program_started_many_times_keeps_one_prompt() {
    let folder = tempfile::tempdir().unwrap();
    for start in 1..=50 {
        let manager = with(MemoryResource::new("m", 8_000)).open(&url(&folder)).await.unwrap();
        let memory = manager.memory("m", "k").unwrap();
        let prompt = format!("You are a travel agent. {}", "Be patient. ".repeat(100));
        memory.ensure_system("agent", prompt.clone()).await.unwrap();
        memory.append(Message::user("My flight was canceled.")).await.unwrap();
        let window = memory.context(4_000).await.unwrap();
        assert!(window.tokens <= 4_000);
        assert_eq!(prompts(&memory).await, [prompt]);
        assert_eq!(memory.counters().await.unwrap().appended, start + 1);
    }
}

fn archived() -> MemoryResource {
    let mut resource = resource();
    resource.archive = ArchiveSettings::keep_for(Duration::from_hours(24));
    resource
}

/// Takes back all messages after this place; returns the id of the receipt.
async fn rewind(memory: &MemoryInstance, to: u64) -> uuid::Uuid {
    let version = memory.version().await.unwrap();
    let done = memory.rewind(Sequence::new(to), version).await.unwrap().applied().unwrap();
    done.receipt.unwrap().id
}

async fn undo_returns_no_second_prompt_of_a_name(on: On) {
    let world = on.world(with(archived()).with_flush_mode(FlushMode::Manual)).await;
    let memory = world.memory();
    let ensure = async |text| memory.ensure_system("agent", text).await.unwrap();
    let refusal = async |receipt| {
        let error = memory.undo_flush(receipt).await.unwrap_err();
        match error.store_kind() {
            Some(StoreErrorKind::NotRestorable(refusal)) => *refusal,
            _ => panic!("{error:?}"),
        }
    };
    memory.append(Message::user("before")).await.unwrap();
    ensure("first").await;
    memory.ensure_system("other", "another name").await.unwrap();
    let first = rewind(&memory, 1).await;
    let second = ensure("second").await;
    assert_eq!(refusal(first).await, RestoreRefusal::PromptPresent);
    assert_eq!(prompts(&memory).await, ["second"]);
    let later = rewind(&memory, 1).await;
    memory.undo_flush(first).await.unwrap();
    assert_eq!(prompts(&memory).await, ["first", "another name"]);
    // Older than the one that would return.
    assert_eq!(refusal(later).await, RestoreRefusal::PromptPresent);
    assert_eq!(refusal(first).await, RestoreRefusal::NotArchived);
    memory.erase([Sequence::new(2)], "test").await.unwrap();
    memory.undo_flush(later).await.unwrap();
    assert_eq!(prompts(&memory).await, ["another name", "second"]);
    assert_eq!(ensure("third").await.sequence, second.sequence);
    assert_eq!(prompts(&memory).await, ["another name", "third"]);
    let last = rewind(&memory, 0).await;
    memory.append(Message::user("before the clear")).await.unwrap();
    memory.clear().await.unwrap();
    ensure("fourth").await;
    assert_eq!(refusal(last).await, RestoreRefusal::Cleared);
    checked(&memory, &world.manager).await;
}

async fn undo_beside_an_ensured_prompt_leaves_one(on: On) {
    let world = on.world(with(archived()).with_flush_mode(FlushMode::Manual)).await;
    let [memory, other] = two_handles(&world).await;
    for round in 0..10 {
        memory.ensure_system("agent", format!("{round}")).await.unwrap();
        let receipt = rewind(&memory, 0).await;
        let ensured = other.ensure_system("agent", format!("{round} again"));
        let (ensured, undone) = tokio::join!(ensured, memory.undo_flush(receipt));
        ensured.unwrap();
        if let Err(error) = undone {
            let refusal = StoreErrorKind::NotRestorable(RestoreRefusal::PromptPresent);
            assert_eq!(error.store_kind(), Some(&refusal), "{error}");
        }
        assert_eq!(prompts(&memory).await, [format!("{round} again")]);
    }
    checked(&memory, &world.manager).await;
}
