//! The past: removed messages, and undoing a flush.

use std::num::NonZeroUsize;
use std::time::Duration;

use memory_core::resource::ArchiveSettings;
use memory_core::store::{
    Access, Durability, FlushReceipt, MessageId, NewMessage, RemovalCause, RestoreRefusal,
    Retention, Splice, StoreErrorKind, SummaryRecord,
};
use memory_core::{ContentType, MemoryResource, Message, Sequence, StoredMessage};
use memory_instance::{FlushMode, ForkOptions, ManagerBuilder, MemoryInstance};
use uuid::Uuid;

use crate::support::{On, World, checked, texts, with};

on_every_backend![
    flushed_originals_are_in_the_archive,
    undone_flush_restores_the_memory,
    undone_flush_holds_automatic_flushes,
    flush_without_work_ends_the_hold,
    rewind_can_be_undone,
    undone_summary_limits_no_fork,
    undone_eviction_ends_no_turn,
    erasure_ignores_an_undone_summary,
    clear_keeps_an_archive_and_purge_none,
    memory_without_an_archive_refuses_to_undo,
    summary_of_a_summary_is_undone_last_first,
    default_archive_follows_the_store_and_the_ttl,
];

fn archiving() -> MemoryResource {
    let mut resource = MemoryResource::new("m", 400);
    resource.archive = ArchiveSettings::keep_for(Duration::from_hours(24));
    resource
}

fn manual() -> ManagerBuilder {
    with(archiving()).with_flush_mode(FlushMode::Manual)
}

async fn talk(memory: &MemoryInstance, count: usize) -> Vec<StoredMessage> {
    for number in 0..count {
        let text = format!("message {number} of a conversation that goes on");
        memory.append(Message::user(text)).await.unwrap();
    }
    memory.messages().await.unwrap()
}

fn all() -> std::ops::RangeInclusive<Sequence> {
    Sequence::ZERO..=Sequence::new(u64::MAX)
}

const TEN: NonZeroUsize = NonZeroUsize::new(10).unwrap();

async fn flushed_originals_are_in_the_archive(on: On) {
    let world = on.world(manual()).await;
    let memory = world.memory();
    let before = talk(&memory, 40).await;
    let receipt = memory.perform_flush().await.unwrap().unwrap();
    let removals = memory.removals(None, TEN).await.unwrap();
    assert_eq!(removals.len(), 1);
    // A store keeps the duration in milliseconds.
    let stored = removals[0].receipt.as_ref().map(|receipt| receipt.id);
    assert_eq!((removals[0].cause, stored), (RemovalCause::Flush, Some(receipt.id)));
    let summary = receipt.summary.as_ref().unwrap();
    let originals = memory.originals(summary.id).await.unwrap();
    let is_original = |one: &&StoredMessage| receipt.summarized.contains(one.meta.sequence);
    let expected: Vec<_> = before.iter().filter(is_original).cloned().collect();
    assert_eq!(originals, expected);
    let first = expected[0].meta.sequence;
    let archived = memory.archived(first..=first).await.unwrap();
    assert_eq!(archived.len(), 1);
    assert_eq!((archived[0].removal, &archived[0].message), (removals[0].number, &expected[0]));
    let whole = memory.archived(all()).await.unwrap();
    assert_eq!(whole.len() as u64, receipt.summarized.len() + receipt.evicted.len());
    let health = memory.health().await.unwrap().archive.unwrap();
    assert_eq!((health.removals, health.messages), (1, whole.len() as u64));
    assert!(health.bytes > 0);
    checked(&memory, &world.manager).await;
}

async fn undone_flush_restores_the_memory(on: On) {
    let world = on.world(manual()).await;
    let (memory, other) = (world.memory(), world.memory());
    let before = talk(&memory, 40).await;
    let receipt = memory.perform_flush().await.unwrap().unwrap();
    memory.append(Message::user("came later")).await.unwrap();
    assert!(texts(&other).await.len() < 40);
    let counters = memory.undo_flush(receipt.id).await.unwrap();
    assert_eq!((counters.summarized, counters.evicted, counters.summaries), (0, 0, 0));
    let after = other.messages().await.unwrap();
    assert_eq!(after[..40], before);
    assert_eq!(after.len(), 41);
    assert!(memory.removals(None, TEN).await.unwrap().is_empty());
    let again = memory.undo_flush(receipt.id).await.unwrap_err();
    let refusal = StoreErrorKind::NotRestorable(RestoreRefusal::NotArchived);
    assert_eq!(again.store_kind(), Some(&refusal));
    checked(&memory, &world.manager).await;
}

async fn undone_flush_holds_automatic_flushes(on: On) {
    let world = on.world(with(archiving()).with_flush_mode(FlushMode::Inline)).await;
    let memory = world.memory();
    let mut number = 0;
    let receipt = loop {
        number += 1;
        memory.append(Message::user(format!("message {number} of a conversation"))).await.unwrap();
        if let Some(receipt) = memory.receipts().await.unwrap().pop() {
            break receipt;
        }
    };
    memory.undo_flush(receipt.id).await.unwrap();
    let version = memory.version().await.unwrap();
    memory.pop_turn(version).await.unwrap().applied().unwrap();
    assert!(memory.health().await.unwrap().flush_held);
    for number in 0..60 {
        memory.append(Message::user(format!("later message {number}"))).await.unwrap();
    }
    // That of the first flush, and that of the rewind.
    assert_eq!(memory.receipts().await.unwrap().len(), 2, "an automatic flush began");
    memory.perform_flush().await.unwrap().unwrap();
    assert!(!memory.health().await.unwrap().flush_held);
    checked(&memory, &world.manager).await;
}

async fn flush_without_work_ends_the_hold(on: On) {
    let world = on.world(with(archiving()).with_flush_mode(FlushMode::Inline)).await;
    let memory = world.memory();
    let before = talk(&memory, 4).await;
    let version = memory.version().await.unwrap();
    let done = memory.rewind(Sequence::new(2), version).await.unwrap().applied().unwrap();
    assert_eq!(memory.perform_flush().await.unwrap(), None);
    memory.undo_flush(done.receipt.unwrap().id).await.unwrap();
    assert!(memory.health().await.unwrap().flush_held);
    let receipt = memory.perform_flush().await.unwrap().unwrap();
    assert_eq!((receipt.messages_before, receipt.messages_after), (4, 4));
    assert!(!memory.health().await.unwrap().flush_held);
    assert_eq!(memory.messages().await.unwrap(), before);
    assert_eq!(memory.perform_flush().await.unwrap(), None);
    assert_eq!(memory.receipts().await.unwrap().len(), 2, "a flush without work was recorded");
    talk(&memory, 60).await;
    assert!(memory.receipts().await.unwrap().len() > 2, "no automatic flush began");
    checked(&memory, &world.manager).await;
}

/// Places from 1 to the last, as a flush that chose them removes them.
async fn flush_up_to(world: &World, last: u64, place_taken_by: Option<MessageId>) -> FlushReceipt {
    let memory = world.memory();
    let outline = world.manager.store().outline(memory.key()).await.unwrap();
    let places: Vec<_> = (1..=last).map(Sequence::new).collect();
    let mut receipt = FlushReceipt::new(Uuid::new_v4(), "test", outline.metas[0].created_at);
    let splice = Splice { archive: Some(Retention::forever()), ..Splice::of(&outline) };
    let splice = match place_taken_by {
        None => {
            receipt.evicted = places.iter().copied().collect();
            Splice { evicted: places, receipt: Some(receipt.clone()), ..splice }
        }
        Some(id) => {
            receipt.summarized = places.iter().copied().collect();
            receipt.summary = Some(SummaryRecord::new(id, Sequence::new(1), 3, "test"));
            let summary = NewMessage {
                id,
                message: Message::system("summary"),
                tokens: 3,
                priority: None,
                content_type: ContentType::Summary,
                created_at: outline.metas[0].created_at,
            };
            let summary = Some(summary);
            Splice { summarized: places, summary, receipt: Some(receipt.clone()), ..splice }
        }
    };
    world.manager.store().splice(memory.key(), Access::OPEN, &splice).await.unwrap();
    receipt
}

fn new_id() -> MessageId {
    MessageId::new(Uuid::new_v4())
}

async fn undone_summary_limits_no_fork(on: On) {
    let world = on.world(manual()).await;
    let memory = world.memory();
    talk(&memory, 20).await;
    let first = flush_up_to(&world, 10, Some(new_id())).await;
    memory.undo_flush(first.id).await.unwrap();
    assert_eq!(memory.health().await.unwrap().last_flush, None);
    let second = flush_up_to(&world, 9, Some(new_id())).await;
    assert_eq!(memory.health().await.unwrap().last_flush, Some(second));
    let fork = world.manager.memory("m", "fork").unwrap();
    memory.fork(&fork, ForkOptions::new().with_end(Sequence::new(9))).await.unwrap();
    assert_eq!(fork.len().await.unwrap(), 1);
    checked(&memory, &world.manager).await;
}

async fn undone_eviction_ends_no_turn(on: On) {
    let world = on.world(manual()).await;
    let memory = world.memory();
    talk(&memory, 40).await;
    let flush = flush_up_to(&world, 30, None).await;
    memory.undo_flush(flush.id).await.unwrap();
    let version = memory.version().await.unwrap();
    memory.rewind(Sequence::new(20), version).await.unwrap().applied().unwrap();
    memory.append(Message::assistant("answer")).await.unwrap();
    let version = memory.version().await.unwrap();
    let done = memory.pop_turn(version).await.unwrap().applied().unwrap();
    let withdrawn: Vec<_> = done.receipt.unwrap().withdrawn.iter().collect();
    assert_eq!(withdrawn, [20, 41].map(Sequence::new));
    checked(&memory, &world.manager).await;
}

async fn erasure_ignores_an_undone_summary(on: On) {
    let world = on.world(manual()).await;
    let memory = world.memory();
    talk(&memory, 20).await;
    let first = flush_up_to(&world, 10, Some(new_id())).await;
    memory.undo_flush(first.id).await.unwrap();
    let summary = new_id();
    flush_up_to(&world, 9, Some(summary)).await;
    let erased = memory.erase([Sequence::new(10)], "test").await.unwrap().erasure;
    assert!(erased.summaries.is_empty(), "{erased:?}");
    let erased = memory.erase([Sequence::new(9)], "test").await.unwrap().erasure;
    assert_eq!(erased.summaries.iter().map(|one| one.id).collect::<Vec<_>>(), [summary]);
    checked(&memory, &world.manager).await;
}

async fn rewind_can_be_undone(on: On) {
    let world = on.world(manual()).await;
    let memory = world.memory();
    let before = talk(&memory, 6).await;
    let version = memory.version().await.unwrap();
    let done = memory.rewind(Sequence::new(2), version).await.unwrap().applied().unwrap();
    let removal = memory.removals(None, TEN).await.unwrap().remove(0);
    assert_eq!((removal.cause, removal.messages), (RemovalCause::Withdrawal, 4));
    let counters = memory.undo_flush(done.receipt.unwrap().id).await.unwrap();
    assert_eq!(counters.withdrawn, 0);
    assert_eq!(memory.messages().await.unwrap(), before);
    checked(&memory, &world.manager).await;
}

async fn clear_keeps_an_archive_and_purge_none(on: On) {
    let world = on.world(manual()).await;
    let memory = world.memory();
    let before = talk(&memory, 5).await;
    let receipt = memory.clear().await.unwrap().receipt.unwrap();
    let removal = memory.removals(None, TEN).await.unwrap().remove(0);
    assert_eq!((removal.cause, removal.receipt), (RemovalCause::Clear, None));
    assert_eq!((receipt.messages, receipt.removal), (5, Some(removal.number)));
    let archived = memory.archived(all()).await.unwrap();
    assert!(archived.iter().map(|one| &one.message).eq(&before));
    memory.append(Message::user("new")).await.unwrap();
    let cleared = memory.exclusive(|session| async move { session.clear().await });
    let receipt = cleared.await.unwrap().unwrap().receipt.unwrap();
    assert!(receipt.messages == 1 && receipt.removal > Some(removal.number), "{receipt:?}");
    memory.append(Message::user("newer")).await.unwrap();
    let receipt = memory.purge().await.unwrap().receipt.unwrap();
    assert_eq!((receipt.messages, receipt.removal), (1, None));
    assert!(memory.removals(None, TEN).await.unwrap().is_empty());
    assert!(memory.archived(all()).await.unwrap().is_empty());
    checked(&memory, &world.manager).await;
}

async fn memory_without_an_archive_refuses_to_undo(on: On) {
    let mut resource = MemoryResource::new("m", 400);
    resource.archive = ArchiveSettings::none();
    let world = on.world(with(resource).with_flush_mode(FlushMode::Manual)).await;
    let memory = world.memory();
    talk(&memory, 40).await;
    let receipt = memory.perform_flush().await.unwrap().unwrap();
    let error = memory.undo_flush(receipt.id).await.unwrap_err();
    assert!(error.to_string().contains("not in the archive"), "{error}");
    assert!(memory.removals(None, TEN).await.unwrap().is_empty());
    assert_eq!(memory.health().await.unwrap().archive, None);
}

async fn summary_of_a_summary_is_undone_last_first(on: On) {
    let world = on.world(manual()).await;
    let memory = world.memory();
    let before = talk(&memory, 40).await;
    let first = memory.perform_flush().await.unwrap().unwrap();
    talk(&memory, 40).await;
    let after_first = memory.messages().await.unwrap();
    let second = memory.perform_flush().await.unwrap().unwrap();
    let place = first.summary.as_ref().unwrap().sequence;
    assert!(second.summarized.contains(place), "the second summary replaces the first");
    let error = memory.undo_flush(first.id).await.unwrap_err();
    let refusal = StoreErrorKind::NotRestorable(RestoreRefusal::SummaryRemoved);
    assert_eq!(error.store_kind(), Some(&refusal));
    memory.undo_flush(second.id).await.unwrap();
    assert_eq!(memory.messages().await.unwrap(), after_first);
    memory.undo_flush(first.id).await.unwrap();
    let messages = memory.messages().await.unwrap();
    assert_eq!(messages[..40], before);
    assert_eq!(messages.len(), 80);
    checked(&memory, &world.manager).await;
}

async fn default_archive_follows_the_store_and_the_ttl(on: On) {
    for ttl in [None, Some(Duration::from_hours(2))] {
        let mut resource = MemoryResource::new("m", 400);
        resource.persistence.ttl = ttl;
        let world = on.world(with(resource).with_flush_mode(FlushMode::Manual)).await;
        let memory = world.memory();
        talk(&memory, 40).await;
        memory.perform_flush().await.unwrap().unwrap();
        let version = memory.version().await.unwrap();
        memory.rewind(Sequence::new(39), version).await.unwrap().applied().unwrap();
        memory.replace_all([Message::user("anew")], None).await.unwrap().applied().unwrap();
        memory.clear().await.unwrap();
        let removals = memory.removals(None, TEN).await.unwrap();
        if world.manager.store().durability() == Durability::Memory {
            assert!(removals.is_empty());
            continue;
        }
        let kept = ttl.unwrap_or(Duration::from_hours(30 * 24));
        assert_eq!(removals.len(), 4);
        for removal in removals {
            let end = removal.removed_at.checked_add(kept).unwrap();
            assert_eq!(removal.keep_until, Some(end));
        }
    }
}
