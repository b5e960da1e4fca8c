//! Erasure: messages, archived originals, and whole memories.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use memory_core::changes::{Change, RemovalReason};
use memory_core::resource::ArchiveSettings;
use memory_core::store::{
    Head, MessageMeta, RemainingCopy, RemoveUnused, RestoreRefusal, Scrubbed, StoreError,
    StoreErrorKind, UnusedMemory,
};
use memory_core::{MemoryResource, Message, Priority, Profile, Sequence, check_request};
use memory_core_testkit::intercept::{Hook, Intercept, Method};
use memory_flush::from_fn;
use memory_instance::{
    FlushMode, ManagerBuilder, MemoryInstance, RewriteOutcome, SweepOptions, WatchFrom,
};
use tokio::sync::Notify;

use crate::support::{On, World, checked, texts, with};

on_every_backend![
    erased_message_is_gone_for_all_readers,
    erased_result_leaves_a_valid_window,
    erased_original_is_gone_and_its_summary_listed,
    summaries_are_rewritten_without_erased_messages,
    originals_of_rewritten_summary_are_found,
    summary_without_originals_is_not_rewritten,
    rewrite_obeys_an_erasure_meanwhile,
    rewrite_obeys_an_earlier_erasure,
    summary_with_too_few_messages_is_removed,
    watcher_reports_an_erasure,
    deleted_memory_begins_anew,
    deletion_waits_for_an_exclusive_turn,
    deletion_completes_an_earlier_one,
    deletion_lets_others_append_during_a_flush,
    scrub_reaches_copies_in_files;
    paused_clock: deletion_frees_an_expired_memory
];

const TEN: NonZeroUsize = NonZeroUsize::new(10).unwrap();

fn manual() -> ManagerBuilder {
    let mut resource = MemoryResource::new("m", 400);
    resource.archive = ArchiveSettings::keep_for(Duration::from_hours(24));
    with(resource).with_flush_mode(FlushMode::Manual)
}

async fn talk(memory: &MemoryInstance, count: usize) {
    say(memory, 0..count).await;
}

async fn say(memory: &MemoryInstance, numbers: std::ops::Range<usize>) {
    for number in numbers {
        let text = format!("message {number} of a conversation that goes on");
        memory.append(Message::user(text)).await.unwrap();
    }
}

async fn erased_message_is_gone_for_all_readers(on: On) {
    let world = on.world(manual()).await;
    let memory = world.memory();
    let other = world.in_another_process(manual());
    memory.append_all(["one", "two", "three"].map(Message::user)).await.unwrap();
    // Warm views, and a batch that this process has appended itself.
    assert_eq!(texts(&other).await.len(), 3);
    memory.append(Message::user("four")).await.unwrap();
    let places = [2, 4].map(Sequence::new);
    let receipt = memory.erase(places, "request 7").await.unwrap();
    assert_eq!((receipt.erasure.messages, &*receipt.erasure.reason), (2, "request 7"));
    assert!(receipt.remaining.contains(&RemainingCopy::OtherViews));
    assert!(receipt.remaining.contains(&RemainingCopy::Forks));
    assert_eq!(texts(&memory).await, ["one", "three"]);
    assert_eq!(texts(&other).await, ["one", "three"]);
    assert_eq!(memory.erasures().await.unwrap(), [receipt.erasure]);
    let counters = checked(&memory, &world.manager).await.head.counters;
    assert_eq!((counters.appended, counters.withdrawn), (4, 2));
    let refused = memory.erase([Sequence::new(1)], "").await.unwrap_err();
    assert!(matches!(refused.store_kind(), Some(StoreErrorKind::Invalid(_))), "{refused}");
}

async fn erased_result_leaves_a_valid_window(on: On) {
    let world = on.world(manual()).await;
    let memory = world.memory();
    let call = Message::from_json(
        r#"{"role":"assistant","content":null,"tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":"{}"}}]}"#,
    );
    let batch = [
        Message::user("call it"),
        call.unwrap(),
        Message::tool_result("c", "secret"),
        Message::assistant("done"),
    ];
    memory.append_all(batch).await.unwrap();
    for (place, kept) in [(3, "done"), (2, "call it")] {
        memory.erase([Sequence::new(place)], "test").await.unwrap();
        let window = memory.context(4_000).await.unwrap();
        let text = window.request().to_string();
        assert!(!text.contains("secret") && text.contains(kept), "{text}");
        check_request(&text, &Profile::openai_chat()).unwrap();
    }
}

async fn erased_original_is_gone_and_its_summary_listed(on: On) {
    let world = on.world(manual()).await;
    let memory = world.memory();
    talk(&memory, 40).await;
    let receipt = memory.perform_flush().await.unwrap().unwrap();
    let summary = receipt.summary.as_ref().unwrap();
    let place = receipt.summarized.ranges()[0].1;
    assert_ne!(place, summary.sequence);
    let erased = memory.erase([place], "test").await.unwrap().erasure;
    assert!(erased.archived.contains(place));
    assert_eq!((erased.summaries.len(), erased.summaries[0].id), (1, summary.id));
    assert!(memory.archived(place..=place).await.unwrap().is_empty());
    let originals = memory.originals(summary.id).await.unwrap();
    assert_eq!(originals.len() as u64, receipt.summarized.len() - 1);
    let refused = memory.undo_flush(receipt.id).await.unwrap_err();
    let erased = StoreErrorKind::NotRestorable(RestoreRefusal::Erased);
    assert_eq!(refused.store_kind(), Some(&erased));
    assert!(refused.to_string().contains("was erased"), "{refused}");
    let counters = checked(&memory, &world.manager).await.head.counters;
    assert_eq!(counters.withdrawn, 1);
}

/// A summary that names all messages, after the summary before.
fn quoting(request: &memory_flush::SummaryRequest) -> String {
    let name = |text: &str| text.split_inclusive("of").next().unwrap().to_owned();
    let names = request.messages.iter().map(|one| name(&one.message.text()));
    let previous = request.previous.iter().map(ToString::to_string);
    previous.chain(names).collect::<Vec<_>>().join("|")
}

fn quoting_manager() -> ManagerBuilder {
    let mut resource = MemoryResource::new("m", 1_200);
    resource.archive = ArchiveSettings::keep_for(Duration::from_hours(24));
    resource.flushing_strategy.summary_tokens = Some(500);
    let quoting = from_fn("quoting", |request| async move { Ok(quoting(&request)) });
    with(resource).with_flush_mode(FlushMode::Manual).with_summarizer(quoting)
}

async fn summaries_are_rewritten_without_erased_messages(on: On) {
    let world = on.world(quoting_manager()).await;
    let memory = world.memory();
    let other = world.in_another_process(quoting_manager());
    say(&memory, 0..60).await;
    let first = memory.perform_flush().await.unwrap().unwrap();
    say(&memory, 60..100).await;
    let second = memory.perform_flush().await.unwrap().unwrap();
    let summary = second.summary.as_ref().unwrap();
    // The second summary was written from the first one, which was written from the message.
    let place = first.summarized.ranges()[0].1;
    assert!(second.summarized.contains(first.summary.as_ref().unwrap().sequence));
    let erasure = memory.erase([place], "test").await.unwrap().erasure;
    let secret = format!("message {} of", place.number() - 1);
    assert!(texts(&other).await.iter().any(|text| text.contains(&secret)));
    let outcomes = memory.rewrite_summaries(&erasure).await.unwrap();
    let outcomes: Vec<_> = outcomes.into_iter().map(|one| one.outcome).collect();
    let [RewriteOutcome::Archived, RewriteOutcome::Rewritten { id }] = outcomes[..] else {
        panic!("{outcomes:?}")
    };
    for reader in [&memory, &other] {
        let messages = reader.messages().await.unwrap();
        assert!(messages.iter().all(|one| !one.message.text().contains(&secret)));
        let new = messages.iter().find(|one| one.meta.id == id).unwrap();
        assert!(new.meta.is_summary() && new.meta.sequence == summary.sequence);
        let text = new.message.text();
        assert!(text.contains("message 0 of") && text.contains("message 2 of"), "{text}");
    }
    checked(&memory, &world.manager).await;
    let again = memory.rewrite_summaries(&erasure).await.unwrap();
    assert_eq!(again[1].outcome, RewriteOutcome::Gone);
    let last_flush = memory.health().await.unwrap().last_flush.unwrap();
    assert_eq!(
        (last_flush.id, &*memory.receipts().await.unwrap()[0].strategy),
        (second.id, "rewrite")
    );
    // The rewritten summary is written anew from the same originals.
    let other_place = first.summarized.ranges()[0].0.plus(1);
    let erasure = memory.erase([other_place], "test").await.unwrap().erasure;
    let outcomes = memory.rewrite_summaries(&erasure).await.unwrap();
    let rewritten = |one: &memory_instance::RewrittenSummary| match one.outcome {
        RewriteOutcome::Rewritten { id } => Some(id),
        _ => None,
    };
    let id = outcomes.iter().find_map(rewritten).unwrap();
    let messages = memory.messages().await.unwrap();
    let text = messages.iter().find(|one| one.meta.id == id).unwrap().message.text();
    let gone = format!("message {} of", other_place.number() - 1);
    assert!(!text.contains(&secret) && !text.contains(&gone), "{text}");
    assert!(text.contains("message 0 of"), "{text}");
    let all = second.summarized.union(&first.summarized);
    let erasure = memory.erase(all.iter(), "test").await.unwrap().erasure;
    assert!(memory.rewrite_summaries(&erasure).await.unwrap().is_empty());
}

async fn originals_of_rewritten_summary_are_found(on: On) {
    let world = on.world(quoting_manager()).await;
    let memory = world.memory();
    talk(&memory, 60).await;
    let receipt = memory.perform_flush().await.unwrap().unwrap();
    let summary = receipt.summary.as_ref().unwrap();
    let mut left: Vec<_> = receipt.summarized.iter().collect();
    // The second one rewrites a rewritten summary with another priority.
    for round in 1..=2 {
        let erasure = memory.erase(left.pop(), "test").await.unwrap().erasure;
        let outcomes = memory.rewrite_summaries(&erasure).await.unwrap();
        let RewriteOutcome::Rewritten { id: rewritten } = outcomes[0].outcome else {
            panic!("{outcomes:?}")
        };
        let priority = Priority::new(round + 3);
        let edited = memory.set_priority(summary.sequence, priority).await.unwrap().unwrap();
        assert_eq!(edited.replaced, rewritten);
        let originals = memory.originals(edited.id).await.unwrap();
        assert!(originals.iter().map(|one| one.meta.sequence).eq(left.iter().copied()));
        assert!(memory.originals(rewritten).await.unwrap().is_empty(), "its id is another one");
    }
    let message = memory.messages().await.unwrap().pop().unwrap();
    assert!(memory.originals(message.meta.id).await.unwrap().is_empty());
}

async fn summary_without_originals_is_not_rewritten(on: On) {
    let mut resource = MemoryResource::new("m", 400);
    resource.archive = ArchiveSettings::none();
    let world = on.world(with(resource).with_flush_mode(FlushMode::Manual)).await;
    let memory = world.memory();
    talk(&memory, 40).await;
    let receipt = memory.perform_flush().await.unwrap().unwrap();
    let before = texts(&memory).await;
    let erasure = memory.erase([receipt.summarized.ranges()[0].1], "test").await.unwrap().erasure;
    let outcomes = memory.rewrite_summaries(&erasure).await.unwrap();
    assert_eq!((outcomes.len(), outcomes[0].outcome), (1, RewriteOutcome::NoOriginals));
    assert_eq!(texts(&memory).await, before);
}

async fn rewrite_obeys_an_erasure_meanwhile(on: On) {
    let (writing, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let told = (Arc::clone(&writing), Arc::clone(&go_on));
    let slow = from_fn("slow", move |request| {
        let (writing, go_on) = (Arc::clone(&told.0), Arc::clone(&told.1));
        async move {
            writing.notify_one();
            go_on.notified().await;
            Ok(quoting(&request))
        }
    });
    let mut resource = MemoryResource::new("m", 1_200);
    resource.archive = ArchiveSettings::keep_for(Duration::from_hours(24));
    resource.flushing_strategy.summary_tokens = Some(500);
    let builder = with(resource).with_flush_mode(FlushMode::Manual).with_summarizer(slow);
    let world = on.world(builder).await;
    let memory = world.memory();
    talk(&memory, 60).await;
    go_on.notify_one();
    let receipt = memory.perform_flush().await.unwrap().unwrap();
    writing.notified().await;
    let (first, last) = receipt.summarized.ranges()[0];
    let erasure = memory.erase([last], "test").await.unwrap().erasure;
    let rewriting = {
        let memory = memory.clone();
        tokio::spawn(async move { memory.rewrite_summaries(&erasure).await })
    };
    writing.notified().await;
    // It has read the originals.
    memory.erase([first.plus(1)], "test").await.unwrap();
    go_on.notify_one();
    writing.notified().await;
    go_on.notify_one();
    let outcomes = rewriting.await.unwrap().unwrap();
    assert!(matches!(outcomes[0].outcome, RewriteOutcome::Rewritten { .. }), "{outcomes:?}");
    let all = texts(&memory).await.join(" ");
    for erased in [first.plus(1), last] {
        assert!(!all.contains(&format!("message {} of", erased.number() - 1)), "{all}");
    }
    assert!(all.contains("message 0 of"), "{all}");
}

/// The erased text is in a later summary, which no erasure lists and which the rewritten one was written from.
async fn rewrite_obeys_an_earlier_erasure(on: On) {
    let world = on.world(quoting_manager()).await;
    let memory = world.memory();
    let mut flushes = Vec::new();
    for (first, numbers) in [(true, 0..50), (false, 50..80), (false, 80..110)] {
        say(&memory, numbers).await;
        flushes.push(memory.perform_flush().await.unwrap().unwrap());
        if first {
            memory.erase([Sequence::new(3)], "earlier").await.unwrap();
        }
    }
    let earlier = "message 2 of";
    assert!(texts(&memory).await.join(" ").contains(earlier));
    let [_, second, third] = &flushes[..] else { panic!("{flushes:?}") };
    let place = third.summarized.without(&second.summarized).ranges()[0].1;
    let erasure = memory.erase([place], "test").await.unwrap().erasure;
    let rewritten = memory.rewrite_summaries(&erasure).await.unwrap();
    assert!(matches!(rewritten[0].outcome, RewriteOutcome::Rewritten { .. }), "{rewritten:?}");
    let all = texts(&memory).await.join(" ");
    let later = format!("message {} of", place.number() - 1);
    assert!(!all.contains(earlier) && !all.contains(&later), "{all}");
    assert!(all.contains("message 0 of"), "{all}");
}

/// Erases a message before the first read of archived messages.
#[derive(Debug, Default)]
struct ErasedMeanwhile(Mutex<Option<(MemoryInstance, Sequence)>>);

impl Hook for ErasedMeanwhile {
    async fn around<T: Send>(
        &self,
        method: Method,
        call: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        let erased = self.0.lock().unwrap().take_if(|_| method == Method::Archived);
        if let Some((memory, place)) = erased {
            memory.erase([place], "meanwhile").await.unwrap();
        }
        call.await
    }
}

#[tokio::test(start_paused = true)]
async fn erasure_between_reads_hides_no_originals() {
    let world = On::Memory.world(quoting_manager()).await;
    let memory = world.memory();
    talk(&memory, 60).await;
    let receipt = memory.perform_flush().await.unwrap().unwrap();
    let (first, last) = receipt.summarized.ranges()[0];
    let erasure = memory.erase([last], "test").await.unwrap().erasure;
    let hook = ErasedMeanwhile(Mutex::new(Some((memory.clone(), first.plus(1)))));
    let store = Arc::new(Intercept::new(Arc::clone(world.manager.store()), hook));
    let manager = quoting_manager().build(store, world.manager.locks().clone()).unwrap();
    let rewritten = manager.memory("m", "k").unwrap().rewrite_summaries(&erasure).await.unwrap();
    assert!(matches!(rewritten[0].outcome, RewriteOutcome::Rewritten { .. }), "{rewritten:?}");
    let all = texts(&memory).await.join(" ");
    for erased in [first.plus(1), last] {
        assert!(!all.contains(&format!("message {} of", erased.number() - 1)), "{all}");
    }
}

async fn summary_with_too_few_messages_is_removed(on: On) {
    let world = on.world(quoting_manager()).await;
    let memory = world.memory();
    talk(&memory, 60).await;
    let receipt = memory.perform_flush().await.unwrap().unwrap();
    let summary = receipt.summary.as_ref().unwrap();
    // The original at the place of the summary stays, and so does the summary.
    let others = receipt.summarized.iter().filter(|place| *place != summary.sequence);
    let others: Vec<_> = others.collect();
    let erasure = memory.erase(others.clone(), "test").await.unwrap().erasure;
    let outcomes = memory.rewrite_summaries(&erasure).await.unwrap();
    let messages = memory.messages().await.unwrap();
    match outcomes[0].outcome {
        RewriteOutcome::Removed => {
            assert!(messages.iter().all(|message| !message.meta.is_summary()));
        }
        RewriteOutcome::Rewritten { id } => {
            let text = messages.iter().find(|one| one.meta.id == id).unwrap().message.text();
            assert!(text.contains("message 0 of") && !text.contains("message 1 of"), "{text}");
        }
        other => panic!("{other:?}"),
    }
    // Only what was to be erased is withdrawn.
    let counters = checked(&memory, &world.manager).await.head.counters;
    assert_eq!(counters.withdrawn, others.len() as u64);
    let place = summary.sequence;
    assert_eq!(memory.archived(place..=place).await.unwrap().len(), 1);
}

async fn watcher_reports_an_erasure(on: On) {
    let world = on.world(manual()).await;
    let memory = world.memory();
    memory.append_all(["one", "two"].map(Message::user)).await.unwrap();
    let mut watch = memory.watch(WatchFrom::Now).await.unwrap();
    memory.erase([Sequence::new(1)], "test").await.unwrap();
    let Change::Removed(removal) = watch.next().await.unwrap() else { panic!() };
    assert_eq!((removal.first, removal.last), (Sequence::new(1), Sequence::new(1)));
    assert_eq!(removal.reason, RemovalReason::Erased);
}

async fn deleted_memory_begins_anew(on: On) {
    let world = on.world(manual()).await;
    let (memory, other) = (world.memory(), world.memory());
    talk(&memory, 40).await;
    memory.perform_flush().await.unwrap().unwrap();
    let before = texts(&other).await.len() as u64;
    let receipt = memory.delete().await.unwrap();
    assert_eq!((&receipt.key, receipt.messages), (memory.key(), before));
    assert!(texts(&memory).await.is_empty() && texts(&other).await.is_empty());
    assert!(memory.removals(None, TEN).await.unwrap().is_empty());
    assert!(memory.receipts().await.unwrap().is_empty());
    assert!(memory.erasures().await.unwrap().is_empty());
    assert_eq!(checked(&memory, &world.manager).await.head.counters.appended, 0);
    assert_eq!(memory.delete().await.unwrap().messages, 0);
    other.append(Message::user("anew")).await.unwrap();
    assert_eq!(texts(&memory).await, ["anew"]);
    assert_eq!(checked(&memory, &world.manager).await.head.counters.appended, 1);
}

async fn deletion_waits_for_an_exclusive_turn(on: On) {
    let world = on.world(manual()).await;
    let (memory, other) = (world.memory(), world.memory());
    memory.append(Message::user("one")).await.unwrap();
    let own = &memory;
    let turn = memory.exclusive(|session| async move {
        session.append(Message::user("two")).await?;
        let refused = own.delete().await.unwrap_err();
        assert!(refused.to_string().contains("turn"), "{refused}");
        let deletion = tokio::spawn(async move { other.delete().await });
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        session.append(Message::user("three")).await?;
        Ok::<_, memory_instance::MemoryError>(deletion)
    });
    let deletion = turn.await.unwrap().unwrap();
    assert_eq!(deletion.await.unwrap().unwrap().messages, 3);
    assert!(texts(&memory).await.is_empty());
}

/// The sweep finds nothing of the memory.
async fn assert_nothing_is_left(world: &World) {
    let report = world.manager.sweep(SweepOptions::new()).await.unwrap();
    assert_eq!((report.memories, report.messages), (0, 0));
}

async fn deletion_completes_an_earlier_one(on: On) {
    let world = on.world(manual()).await;
    let memory = world.memory();
    talk(&memory, 20).await;
    let store = world.manager.store();
    let outline = store.outline(memory.key()).await.unwrap();
    let Head { generation, version, .. } = outline.head;
    let mut listed = UnusedMemory::new(memory.key().clone(), generation, version);
    listed.newest = outline.metas.last().map(MessageMeta::newest);
    // The first part of a deletion whose process died.
    let part = RemoveUnused::new(&listed, NonZeroUsize::new(5).unwrap());
    store.remove(memory.key(), part).await.unwrap();
    memory.delete().await.unwrap();
    assert!(texts(&memory).await.is_empty());
    assert_nothing_is_left(&world).await;
}

async fn deletion_frees_an_expired_memory(on: On) {
    const TTL: Duration = Duration::from_secs(60);
    let mut short = MemoryResource::new("m", 1_000_000);
    short.persistence.ttl = Some(TTL);
    let world = on.world(with(short)).await;
    let memory = world.memory();
    talk(&memory, 20).await;
    tokio::time::advance(TTL).await;
    assert_eq!(memory.delete().await.unwrap().messages, 0);
    assert_nothing_is_left(&world).await;
}

/// The summarizer waits for an append, which must not wait for the deletion.
async fn deletion_lets_others_append_during_a_flush(on: On) {
    let mut resource = MemoryResource::new("m", 400);
    resource.flushing_strategy.kind = Some("hybrid_summary".into());
    let (begun, finish) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let signals = (Arc::clone(&begun), Arc::clone(&finish));
    let slow = from_fn("slow", move |_| {
        let (begun, finish) = signals.clone();
        async move {
            begun.notify_one();
            finish.notified().await;
            Ok("in short".to_owned())
        }
    });
    let builder = with(resource).with_flush_mode(FlushMode::Manual).with_summarizer(slow);
    let world = on.world(builder).await;
    let (memory, flusher, deleter) = (world.memory(), world.memory(), world.memory());
    talk(&memory, 60).await;
    let flush = tokio::spawn(async move { flusher.perform_flush().await });
    begun.notified().await;
    let deletion = tokio::spawn(async move { deleter.delete().await });
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
    memory.append(Message::user("not delayed")).await.unwrap();
    finish.notify_one();
    flush.await.unwrap().unwrap();
    deletion.await.unwrap().unwrap();
    assert!(texts(&memory).await.is_empty());
}

async fn scrub_reaches_copies_in_files(on: On) {
    let world = on.world(manual()).await;
    let memory = world.memory();
    talk(&memory, 3).await;
    let receipt = memory.erase([Sequence::new(2)], "test").await.unwrap();
    let in_file =
        [RemainingCopy::WriteAheadLog, RemainingCopy::FreeSpace, RemainingCopy::SearchIndex];
    let had = in_file.iter().any(|copy| receipt.remaining.contains(copy));
    let scrubbed = world.manager.scrub().await.unwrap();
    assert_eq!(scrubbed == Scrubbed::Done, had);
    let receipt = receipt.after(scrubbed);
    assert!(in_file.iter().all(|copy| !receipt.remaining.contains(copy)));
    assert_eq!(texts(&memory).await.len(), 2);
}
