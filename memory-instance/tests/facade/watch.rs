//! The stream of changes.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::StreamExt as _;
use memory_core::{MemoryResource, Message, Sequence};
use memory_core_testkit::replica::Replica;
use memory_instance::{Change, FlushMode, MemoryInstance, RemovalReason, WatchFrom, Watcher};

use crate::support::{On, World, hybrid, with};

on_every_backend![
    appends_arrive_in_order,
    flush_arrives_as_a_removal,
    clear_and_replacement_arrive,
    watch_resumes_from_its_cursor,
    watch_resumes_between_its_first_changes,
    copy_equals_the_memory_after_a_race,
    dropped_wait_loses_no_change,
];

async fn world(on: On) -> World {
    on.world(with(MemoryResource::new("m", 90_000)).with_flush_mode(FlushMode::Manual)).await
}

fn appended(change: Change) -> Vec<String> {
    let Change::Appended(messages) = change else { panic!("unexpected: {change:?}") };
    messages.iter().map(|stored| stored.message.text().into_owned()).collect()
}

async fn appends_arrive_in_order(on: On) {
    let world = world(on).await;
    let memory = world.memory();
    memory.append(Message::user("before")).await.unwrap();
    let mut all = memory.watch(WatchFrom::Start).await.unwrap();
    let mut new = memory.watch(WatchFrom::Now).await.unwrap();
    assert_eq!(appended(all.next().await.unwrap()), ["before"]);
    memory.append_all(["one", "two"].map(Message::user)).await.unwrap();
    assert_eq!(appended(all.next().await.unwrap()), ["one", "two"]);
    assert_eq!(appended(new.next().await.unwrap()), ["one", "two"]);
    let mut stream = Box::pin(new.into_stream());
    memory.append(Message::user("three")).await.unwrap();
    assert_eq!(appended(stream.next().await.unwrap().unwrap()), ["three"]);
}

async fn flush_arrives_as_a_removal(on: On) {
    let world = on.world(with(hybrid(400)).with_flush_mode(FlushMode::Manual)).await;
    let memory = world.memory();
    for turn in 0..20 {
        memory.append(Message::user(format!("{turn} {}", "word ".repeat(20)))).await.unwrap();
    }
    let mut watch = memory.watch(WatchFrom::Now).await.unwrap();
    let receipt = memory.perform_flush().await.unwrap().unwrap();
    let Change::Removed(removal) = watch.next().await.unwrap() else { panic!() };
    assert_eq!(removal.reason, RemovalReason::Summarized);
    assert_eq!([(removal.first, removal.last)], receipt.summarized.ranges());
    let summary = removal.summary.unwrap();
    assert_eq!(summary.meta.id, receipt.summary.unwrap().id);
    memory.append(Message::user("next")).await.unwrap();
    assert_eq!(appended(watch.next().await.unwrap()), ["next"]);
}

async fn clear_and_replacement_arrive(on: On) {
    let world = world(on).await;
    let memory = world.memory();
    memory.ensure_system("agent", "first").await.unwrap();
    let mut watch = memory.watch(WatchFrom::Now).await.unwrap();
    memory.ensure_system("agent", "second").await.unwrap();
    let Change::Replaced(message) = watch.next().await.unwrap() else { panic!() };
    assert_eq!(message.message.text(), "second");
    memory.append(Message::user("gone")).await.unwrap();
    memory.clear().await.unwrap();
    let mut last = Sequence::ZERO;
    while last < Sequence::new(2) {
        match watch.next().await.unwrap() {
            Change::Cleared { last: cleared } => last = cleared,
            other => assert_eq!(appended(other), ["gone"]),
        }
    }
    memory.append(Message::user("new")).await.unwrap();
    assert_eq!(appended(watch.next().await.unwrap()), ["new"]);
}

async fn watch_resumes_from_its_cursor(on: On) {
    let world = world(on).await;
    let memory = world.memory();
    memory.append_all(["one", "two"].map(Message::user)).await.unwrap();
    let mut watch = memory.watch(WatchFrom::Start).await.unwrap();
    watch.next().await.unwrap();
    let cursor = watch.cursor();
    drop(watch);
    memory.append(Message::user("three")).await.unwrap();
    let mut resumed = memory.watch(cursor).await.unwrap();
    assert_eq!(appended(resumed.next().await.unwrap()), ["three"]);
    memory.clear().await.unwrap();
    memory.append(Message::user("four")).await.unwrap();
    let mut late = memory.watch(cursor).await.unwrap();
    assert!(matches!(late.next().await.unwrap(), Change::Lagged));
    let mut copy = Replica::default();
    follow(&mut late, &mut copy, &memory).await;
    assert_eq!(copy.lags, 0);
}

/// The first changes of a memory with gaps are several, and a watcher may end after each.
async fn watch_resumes_between_its_first_changes(on: On) {
    let world = world(on).await;
    for (key, ends) in [("grows", false), ("ends", true)] {
        let memory = world.manager.memory("m", key).unwrap();
        memory.append_all((1..=6).map(|number| Message::user(number.to_string()))).await.unwrap();
        let version = memory.version().await.unwrap();
        memory.rewind(Sequence::new(4), version).await.unwrap().applied().unwrap();
        memory.append_all(["7", "8"].map(Message::user)).await.unwrap();
        let mut copy = BTreeMap::new();
        let mut watch = memory.watch(WatchFrom::Start).await.unwrap();
        watch.next().await.unwrap().apply(&mut copy);
        assert_eq!(copy.len(), 4);
        let cursor = watch.cursor();
        drop(watch);
        if ends {
            memory.delete().await.unwrap();
        }
        memory.append(Message::user("9")).await.unwrap();
        let mut resumed = memory.watch(cursor).await.unwrap();
        let mut changes = Vec::new();
        loop {
            let change = resumed.next().await.unwrap();
            changes.push(change.clone());
            change.apply(&mut copy);
            if copy.values().eq(&memory.messages().await.unwrap()) {
                break;
            }
        }
        match &changes[..] {
            [Change::Appended(messages)] if !ends => assert_eq!(messages.len(), 3),
            [Change::Lagged, Change::Appended(messages)] if ends => assert_eq!(messages.len(), 1),
            other => panic!("{key}: {other:?}"),
        }
    }
}

/// Applies changes until the copy equals the memory.
async fn follow(watch: &mut Watcher, copy: &mut Replica, memory: &MemoryInstance) {
    loop {
        let now = memory.messages().await.unwrap();
        if copy.equals(&now) {
            return;
        }
        copy.apply(watch.next().await.unwrap());
    }
}

/// Appends, flushes, replacements and clears of two handles, beside a watcher.
async fn copy_equals_the_memory_after_a_race(on: On) {
    let world = on.world(with(hybrid(600)).with_flush_mode(FlushMode::Manual)).await;
    let memory = world.memory();
    let mut watch = memory.watch(WatchFrom::Start).await.unwrap();
    let writers = (0..2).map(|writer| {
        let memory = world.memory();
        tokio::spawn(async move {
            for turn in 0..40 {
                let text = format!("{writer}.{turn} {}", "word ".repeat(8));
                memory.append(Message::user(text)).await.unwrap();
                match turn % 13 {
                    5 => drop(memory.perform_flush().await),
                    8 => drop(memory.ensure_system("agent", &format!("{writer}.{turn}")).await),
                    12 if turn > 30 => drop(memory.clear().await),
                    _ => {}
                }
            }
        })
    });
    let writers: Vec<_> = writers.collect();
    let mut copy = Replica::default();
    while writers.iter().any(|writer| !writer.is_finished()) {
        let next = tokio::time::timeout(Duration::from_millis(20), watch.next());
        if let Ok(change) = next.await {
            copy.apply(change.unwrap());
        }
    }
    for writer in writers {
        writer.await.unwrap();
    }
    follow(&mut watch, &mut copy, &memory).await;
    assert_eq!(copy.lags, 0);
}

async fn dropped_wait_loses_no_change(on: On) {
    let world = world(on).await;
    let memory = world.memory();
    let mut watch = memory.watch(WatchFrom::Now).await.unwrap();
    let mut seen = Vec::new();
    for number in 0..10 {
        memory.append(Message::user(format!("{number}"))).await.unwrap();
        for polls in 0..4 {
            // Dropped after some polls, wherever it is then.
            let mut next = Box::pin(watch.next());
            for _ in 0..=polls {
                if let std::task::Poll::Ready(change) = futures::poll!(&mut next) {
                    seen.extend(appended(change.unwrap()));
                    break;
                }
                tokio::task::yield_now().await;
            }
        }
    }
    while seen.len() < 10 {
        seen.extend(appended(watch.next().await.unwrap()));
    }
    let all: Vec<_> = (0..10).map(|number| number.to_string()).collect();
    assert_eq!(seen, all);
}

/// Nothing signals the end of a TTL, and no wait is longer than a second.
#[tokio::test(start_paused = true)]
async fn cut_waits_notice_the_end_of_a_ttl() {
    let mut resource = MemoryResource::new("m", 90_000);
    resource.persistence.ttl = Some(Duration::from_secs(60));
    let world = On::Memory.world(with(resource)).await;
    let memory = world.memory();
    memory.append(Message::user("one")).await.unwrap();
    let mut watch = memory.watch(WatchFrom::Now).await.unwrap();
    for _ in 0..120 {
        if let Ok(change) = tokio::time::timeout(Duration::from_secs(1), watch.next()).await {
            assert!(matches!(change.unwrap(), Change::Lagged));
            return;
        }
    }
    panic!("the end of the memory was not noticed");
}

#[tokio::test]
async fn cursor_of_a_missing_memory_misses_nothing() {
    let world = world(On::Memory).await;
    let memory = world.memory();
    let cursor = memory.watch(WatchFrom::Now).await.unwrap().cursor();
    memory.append(Message::user("one")).await.unwrap();
    let mut resumed = memory.watch(cursor).await.unwrap();
    assert_eq!(appended(resumed.next().await.unwrap()), ["one"]);
}
