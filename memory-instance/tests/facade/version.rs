//! Writes at an expected version: conditional appends, and taking back the newest messages.

use memory_core::dialect::ToolCall;
use memory_core::store::{StoreErrorKind, WriterId};
use memory_core::{MemoryResource, Message, Priority, Sequence};
use memory_instance::{Conditional, FlushMode, MemoryInstance, Version};

use crate::support::{On, checked, texts, with};

on_every_backend![
    answer_is_appended_at_its_version,
    conflict_names_what_came,
    flush_between_window_and_answer_is_no_conflict,
    resent_conditional_batch_returns_its_first_result,
    one_of_many_conditional_appends_wins,
    rewind_takes_back_whole_units,
    rewind_within_a_summary_is_refused,
    pop_turn_takes_back_the_newest_turn,
    pop_turn_without_users_takes_one_unit,
    pop_turn_stops_at_flushed_messages,
    rewind_conflict_names_what_came,
    withdrawn_messages_leave_other_views,
];

fn resource() -> MemoryResource {
    MemoryResource::new("m", 1 << 20)
}

async fn answer_is_appended_at_its_version(on: On) {
    let world = on.world(with(resource())).await;
    let memory = world.memory();
    assert_eq!(memory.version().await.unwrap(), Version::default());
    memory.append(Message::user("question")).await.unwrap();
    let window = memory.context(1_000).await.unwrap();
    assert_eq!(window.version(), memory.version().await.unwrap());
    let answer = [Message::assistant("answer")];
    let appended = memory.append_if(window.version(), answer.clone()).await.unwrap();
    assert_eq!(appended.applied().unwrap().outcome.first(), Some(Sequence::new(2)));
    let again = memory.append_if(window.version(), answer).await.unwrap();
    assert!(matches!(again, Conditional::Conflict(_)));
    assert_eq!(texts(&memory).await, ["question", "answer"]);
    checked(&memory, &world.manager).await;
}

async fn conflict_names_what_came(on: On) {
    let world = on.world(with(resource())).await;
    let (memory, other) = (world.memory(), world.memory());
    memory.append(Message::user("question")).await.unwrap();
    let version = memory.version().await.unwrap();
    other.append_all([Message::user("wait"), Message::user("another")]).await.unwrap();
    let done = memory.append_if(version, [Message::assistant("answer")]).await.unwrap();
    let Conditional::Conflict(conflict) = done else { panic!("{done:?}") };
    let came: Vec<_> = conflict.came.iter().map(|came| came.message.text()).collect();
    assert_eq!(came, ["wait", "another"]);
    let done = memory.append_if(conflict.version, [Message::assistant("answer")]).await.unwrap();
    assert!(done.applied().is_some());
    other.clear().await.unwrap();
    let done = memory.append_if(conflict.version, [Message::assistant("late")]).await.unwrap();
    let Conditional::Conflict(conflict) = done else { panic!("{done:?}") };
    assert!(conflict.came.is_empty());
    assert_eq!(conflict.version, memory.version().await.unwrap());
    checked(&memory, &world.manager).await;
}

async fn flush_between_window_and_answer_is_no_conflict(on: On) {
    let world = on.world(with(MemoryResource::new("m", 400))).await;
    let memory = world.memory();
    for number in 0..40 {
        memory.append(Message::user(format!("message {number} of a long talk"))).await.unwrap();
    }
    let version = memory.version().await.unwrap();
    memory.perform_flush().await.unwrap();
    assert_ne!(memory.version().await.unwrap(), version, "the flush changed the generation");
    let done = memory.append_if(version, [Message::assistant("answer")]).await.unwrap();
    assert!(done.applied().is_some());
    checked(&memory, &world.manager).await;
}

async fn resent_conditional_batch_returns_its_first_result(on: On) {
    let world = on.world(with(resource())).await;
    let memory = world.memory();
    memory.append(Message::user("question")).await.unwrap();
    let version = memory.version().await.unwrap();
    let write = WriterId::named("agent").write(1);
    let batch = memory.prepare_as(write, [Message::assistant("answer")]).unwrap();
    let batch = batch.expecting(version);
    let first = memory.send(&batch).await.unwrap().outcome.first();
    memory.append(Message::user("next")).await.unwrap();
    let again = memory.send(&batch).await.unwrap();
    assert!(again.outcome.is_duplicate());
    assert_eq!(again.outcome.first(), first);
    let late = memory.prepare([Message::assistant("late")]).unwrap().expecting(version);
    let error = memory.send(&late).await.unwrap_err();
    assert_eq!(error.store_kind(), Some(&StoreErrorKind::Conflict));
    assert!(!error.is_retryable());
    checked(&memory, &world.manager).await;
}

async fn one_of_many_conditional_appends_wins(on: On) {
    let world = on.world(with(resource())).await;
    let memory = world.memory();
    memory.append(Message::user("question")).await.unwrap();
    for round in 0..5_u64 {
        let version = memory.version().await.unwrap();
        let tasks: Vec<_> = (0..8)
            .map(|agent| {
                let memory = world.memory();
                tokio::spawn(async move {
                    let answer = [Message::assistant(format!("{agent}"))];
                    memory.append_if(version, answer).await.unwrap().applied().is_some()
                })
            })
            .collect();
        let mut winners = 0;
        for task in tasks {
            winners += u32::from(task.await.unwrap());
        }
        assert_eq!(winners, 1);
        assert_eq!(memory.len().await.unwrap(), 2 + round);
    }
    checked(&memory, &world.manager).await;
}

async fn with_calls(memory: &MemoryInstance) {
    let call = |id: &str| Message::calls([ToolCall::function(id, "look", "{}")]);
    let turns = [
        Message::system("You help."),
        Message::user("first"),
        call("a"),
        Message::tool_result("a", "found"),
        Message::assistant("one"),
        Message::user("second"),
        call("b"),
        Message::tool_result("b", "found"),
        Message::assistant("two"),
    ];
    for message in turns {
        memory.append(message).await.unwrap();
    }
}

async fn rewind_takes_back_whole_units(on: On) {
    let world = on.world(with(resource())).await;
    let memory = world.memory();
    with_calls(&memory).await;
    let version = memory.version().await.unwrap();
    // The call at 7 and its result at 8 are one unit.
    let done = memory.rewind(Sequence::new(7), version).await.unwrap().applied().unwrap();
    assert_eq!(done.counters.withdrawn, 3);
    let receipt = done.receipt.unwrap();
    assert_eq!(receipt.withdrawn.len(), 3);
    assert_eq!((receipt.messages_before, receipt.messages_after), (9, 6));
    assert_eq!(receipt.tokens_after, done.counters.present.tokens);
    assert_eq!(memory.receipts().await.unwrap(), [receipt]);
    assert_eq!(memory.last(1).await.unwrap()[0].message.text(), "second");
    let nothing = memory.rewind(Sequence::new(7), memory.version().await.unwrap()).await.unwrap();
    assert_eq!(nothing.applied().unwrap().receipt, None);
    let health = memory.health().await.unwrap();
    assert_eq!((health.lifetime.withdrawn, health.last_flush), (3, None));
    memory.append(Message::assistant("again")).await.unwrap();
    checked(&memory, &world.manager).await;
}

async fn rewind_within_a_summary_is_refused(on: On) {
    let builder = with(crate::support::hybrid(400)).with_flush_mode(FlushMode::Manual);
    let world = on.world(builder).await;
    let memory = world.memory();
    for number in 0..40 {
        let text = format!("message {number} of a conversation that goes on");
        memory.append(Message::user(text)).await.unwrap();
    }
    let receipt = memory.perform_flush().await.unwrap().unwrap();
    let (first, last) = receipt.summarized.ranges()[0];
    assert_eq!(receipt.summary.as_ref().unwrap().sequence, first);
    let version = memory.version().await.unwrap();
    let refused = memory.rewind(first.plus(3), version).await.unwrap_err();
    assert!(matches!(refused.store_kind(), Some(StoreErrorKind::Invalid(_))), "{refused}");
    assert!(refused.to_string().contains(&format!("covers messages up to {last}")), "{refused}");
    let done = memory.rewind(last, version).await.unwrap().applied().unwrap();
    assert_eq!((done.counters.withdrawn, done.counters.summaries), (40 - last.number(), 1));
    // The summary is removed with its messages.
    let version = memory.version().await.unwrap();
    let done = memory.rewind(Sequence::new(first.number() - 1), version).await.unwrap();
    assert_eq!(done.applied().unwrap().counters.summaries, 0);
    checked(&memory, &world.manager).await;
}

async fn pop_turn_takes_back_the_newest_turn(on: On) {
    let world = on.world(with(resource())).await;
    let memory = world.memory();
    with_calls(&memory).await;
    for (left, newest) in [(5, "one"), (1, "You help.")] {
        let version = memory.version().await.unwrap();
        let done = memory.pop_turn(version).await.unwrap().applied().unwrap();
        assert_eq!(done.counters.present.messages, left);
        assert_eq!(memory.last(1).await.unwrap()[0].message.text(), newest);
    }
    checked(&memory, &world.manager).await;
}

async fn pop_turn_without_users_takes_one_unit(on: On) {
    let world = on.world(with(resource())).await;
    let memory = world.memory();
    let call = Message::calls([ToolCall::function("a", "look", "{}")]);
    let batch = [Message::assistant("hello"), call, Message::tool_result("a", "found")];
    memory.append_all(batch).await.unwrap();
    for left in [1, 0, 0] {
        let version = memory.version().await.unwrap();
        let done = memory.pop_turn(version).await.unwrap().applied().unwrap();
        assert_eq!(done.counters.present.messages, left);
    }
    checked(&memory, &world.manager).await;
}

async fn rewind_conflict_names_what_came(on: On) {
    let world = on.world(with(resource())).await;
    let memory = world.memory();
    with_calls(&memory).await;
    let version = memory.version().await.unwrap();
    world.memory().append(Message::user("third")).await.unwrap();
    let pop = memory.pop_turn(version).await.unwrap();
    let rewind = memory.rewind(Sequence::new(1), version).await.unwrap();
    for done in [pop, rewind] {
        let Conditional::Conflict(conflict) = done else { panic!("{done:?}") };
        let came: Vec<_> = conflict.came.iter().map(|came| came.message.text()).collect();
        assert_eq!(came, ["third"]);
    }
    assert_eq!(memory.len().await.unwrap(), 10);
    checked(&memory, &world.manager).await;
}

async fn withdrawn_messages_leave_other_views(on: On) {
    let world = on.world(with(resource())).await;
    let (memory, other) = (world.memory(), world.memory());
    memory.append_all(["one", "two", "three"].map(Message::user)).await.unwrap();
    assert_eq!(texts(&other).await, ["one", "two", "three"]);
    let version = memory.version().await.unwrap();
    memory.rewind(Sequence::new(1), version).await.unwrap().applied().unwrap();
    assert_eq!(texts(&other).await, ["one"]);
    let window = other.context(1_000).await.unwrap();
    assert_eq!(window.messages.len(), 1);
    // A window may end before places that were taken back.
    let answer = [Message::assistant("answer")];
    assert!(other.append_if(window.version(), answer).await.unwrap().applied().is_some());
    checked(&memory, &world.manager).await;
}

async fn pop_turn_stops_at_flushed_messages(on: On) {
    for resource in [crate::support::hybrid(400), MemoryResource::new("m", 400)] {
        let world = on.world(with(resource).with_flush_mode(FlushMode::Manual)).await;
        let memory = world.memory();
        memory.append(Message::user("I am allergic to nuts")).await.unwrap();
        memory.set_priority(Sequence::new(1), Priority::CRITICAL).await.unwrap().unwrap();
        memory.append(Message::user("Plan my journey")).await.unwrap();
        for number in 0..40 {
            let text = format!("step {number} of a long journey that goes on");
            memory.append(Message::assistant(text)).await.unwrap();
        }
        memory.perform_flush().await.unwrap().unwrap();
        let before = memory.messages().await.unwrap();
        let version = memory.version().await.unwrap();
        let done = memory.pop_turn(version).await.unwrap().applied().unwrap();
        let kept = before
            .iter()
            .filter(|one| one.meta.is_summary() || one.meta.priority == Some(Priority::CRITICAL));
        assert_eq!(memory.messages().await.unwrap(), kept.cloned().collect::<Vec<_>>());
        assert!(done.counters.withdrawn > 1);
        checked(&memory, &world.manager).await;
    }
}
