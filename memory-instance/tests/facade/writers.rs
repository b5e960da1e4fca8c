//! Writers that the store has forgotten.

use std::time::Duration;

use memory_core::store::{
    Applied, KEPT_SESSIONS, RestoreRefusal, SESSION_RETENTION, StoreErrorKind, WriterId,
};
use memory_core::{MemoryResource, Message, Sequence};
use memory_instance::{MemoryError, MemoryInstance, MemoryManager};
use memory_lock::Clock;

use crate::support::{On, checked, texts, with};

on_every_backend![
    ; paused_clock: old_batch_is_refused_not_duplicated, process_with_clock_behind_can_write,
    each_write_of_a_process_behind_is_retried,
    long_lived_handle_is_never_refused
];

/// Simulates more short-lived processes than a store remembers.
async fn others_write(memory: &MemoryInstance) {
    tokio::time::advance(2 * SESSION_RETENTION).await;
    for _ in 0..4 * KEPT_SESSIONS {
        let batch = memory.prepare([Message::user("other")]).unwrap();
        memory.send(&batch).await.unwrap();
    }
}

fn is_forgotten(error: &MemoryError) -> bool {
    matches!(error.store_kind(), Some(StoreErrorKind::WriterForgotten { .. }))
}

async fn old_batch_is_refused_not_duplicated(on: On) {
    let world = on.world(with(MemoryResource::new("m", 100_000))).await;
    let memory = world.memory();
    let sent = memory.prepare([Message::user("sent")]).unwrap();
    memory.send(&sent).await.unwrap();
    let unsent = memory.prepare([Message::user("unsent")]).unwrap();
    let import = WriterId::named("log").write(1);
    let import = memory.prepare_as(import, [Message::user("import")]).unwrap();
    memory.send(&import).await.unwrap();
    assert!(memory.send(&sent).await.unwrap().outcome.is_duplicate());
    others_write(&memory).await;
    others_write(&memory).await;
    for batch in [&sent, &unsent] {
        let error = memory.send(batch).await.unwrap_err();
        assert!(is_forgotten(&error), "{error}");
        assert!(error.to_string().contains("too old"), "{error}");
        assert_eq!((error.applied(), error.is_retryable()), (Applied::Unknown, false));
    }
    assert!(memory.send(&import).await.unwrap().outcome.is_duplicate());
    let there = texts(&memory).await;
    assert_eq!(there.iter().filter(|text| *text == "sent").count(), 1);
    assert!(!there.contains(&"unsent".to_owned()));
    checked(&memory, &world.manager).await;
}

async fn process_with_clock_behind_can_write(on: On) {
    let world = on.world(with(MemoryResource::new("m", 100_000))).await;
    let memory = world.memory();
    others_write(&memory).await;
    others_write(&memory).await;
    let behind = MemoryManager::builder()
        .with_clock(Clock::manual())
        .with_resource(MemoryResource::new("m", 100_000))
        .build(world.manager.store().clone(), world.manager.locks().clone())
        .unwrap();
    let behind = behind.memory("m", "k").unwrap();
    for text in ["late", "later"] {
        assert!(!behind.append(Message::user(text)).await.unwrap().outcome.is_duplicate());
    }
    assert_eq!(texts(&memory).await.iter().filter(|text| text.starts_with("late")).count(), 2);
    behind.clear().await.unwrap();
    assert!(texts(&memory).await.is_empty());
    checked(&memory, &world.manager).await;
}

async fn each_write_of_a_process_behind_is_retried(on: On) {
    let world = on.world(with(MemoryResource::new("m", 100_000))).await;
    let memory = world.memory();
    others_write(&memory).await;
    others_write(&memory).await;
    // A handle for each, because a refusal teaches the others of its manager.
    let behind = || {
        let manager = MemoryManager::builder()
            .with_clock(Clock::manual())
            .with_resource(MemoryResource::new("m", 100_000))
            .build(world.manager.store().clone(), world.manager.locks().clone())
            .unwrap();
        manager.memory("m", "k").unwrap()
    };
    let undone = behind().undo_flush(uuid::Uuid::nil()).await.unwrap_err();
    let refusal = StoreErrorKind::NotRestorable(RestoreRefusal::NotArchived);
    assert_eq!(undone.store_kind(), Some(&refusal));
    let first = Sequence::new(1);
    behind().replace(first, Message::user("changed")).await.unwrap().unwrap();
    assert_eq!(texts(&memory).await[0], "changed");
    let erased = behind().erase([first], "test").await.unwrap();
    assert_eq!(erased.erasure.messages, 1);
    let digest = behind().replace_all([Message::user("digest")], None).await.unwrap();
    assert!(digest.applied().is_some());
    assert_eq!(texts(&memory).await, ["digest"]);
    behind().purge().await.unwrap();
    assert!(texts(&memory).await.is_empty());
    checked(&memory, &world.manager).await;
}

async fn long_lived_handle_is_never_refused(on: On) {
    let world = on.world(with(MemoryResource::new("m", 100_000))).await;
    let memory = world.memory();
    memory.append(Message::user("first")).await.unwrap();
    others_write(&memory).await;
    tokio::time::advance(Duration::from_secs(86_400)).await;
    others_write(&memory).await;
    memory.append(Message::user("last")).await.unwrap();
    let there = texts(&memory).await;
    assert_eq!(
        (there.first().unwrap().as_str(), there.last().unwrap().as_str()),
        ("first", "last")
    );
}
