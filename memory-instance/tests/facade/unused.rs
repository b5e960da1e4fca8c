//! Removal of unused memories.

use std::num::NonZeroUsize;
use std::time::Duration;

use memory_core::{MemoryResource, Message};
use memory_instance::{MemoryManager, SweepOptions};
use memory_lock::{Clock, ClockExt as _, LockKey, LockOptions};

use crate::support::{On, checked, texts, with};

on_every_backend![
    sweep_removes_unused_memories,
    sweep_spares_leased_memories,
    sweep_spares_other_projects,
    sweep_racing_with_appends_loses_nothing;
    paused_clock: sweep_uses_the_time_of_last_write, sweep_frees_expired_memories
];

/// Removes every memory that is not in use.
fn all() -> SweepOptions {
    SweepOptions::new().with_unused_for(Duration::ZERO)
}

async fn sweep_removes_unused_memories(on: On) {
    let world = on.world(with(MemoryResource::new("m", 1_000))).await;
    for name in ["a", "b", "c"] {
        let memory = world.manager.memory("m", name).unwrap();
        memory.append_all([Message::user("one"), Message::user("two")]).await.unwrap();
    }
    let report = world.manager.sweep(SweepOptions::new()).await.unwrap();
    assert_eq!((report.memories, report.messages), (0, 0), "none has expired");
    let report = world.manager.sweep(all().with_dry_run()).await.unwrap();
    assert_eq!((report.memories, report.messages, report.dry_run), (3, 6, true));
    assert_eq!(texts(&world.manager.memory("m", "a").unwrap()).await, ["one", "two"]);

    let two = NonZeroUsize::new(2).unwrap();
    let report = world.manager.sweep(all().with_max(two)).await.unwrap();
    assert_eq!((report.memories, report.messages, report.more), (2, 4, true));
    let report = world.manager.sweep(all().with_max(two)).await.unwrap();
    assert_eq!((report.memories, report.messages, report.more), (1, 2, false));
    assert_eq!(world.manager.sweep(all()).await.unwrap().memories, 0);
    assert!(world.manager.keys(None, two).await.unwrap().is_empty());

    // The same handle continues with a new memory.
    let memory = world.manager.memory("m", "a").unwrap();
    memory.append(Message::user("three")).await.unwrap();
    assert_eq!(texts(&memory).await, ["three"]);
    checked(&memory, &world.manager).await;
}

async fn sweep_spares_leased_memories(on: On) {
    let world = on.world(with(MemoryResource::new("m", 1_000))).await;
    for (name, suffix) in [("turn", ""), ("flush", "/flush")] {
        let memory = world.manager.memory("m", name).unwrap();
        memory.append(Message::user("kept")).await.unwrap();
        let lease = LockKey::new(format!("{}{suffix}", memory.key())).unwrap();
        let guard = world.manager.locks().lock(&lease, &LockOptions::default()).await.unwrap();
        for options in [all().with_dry_run(), all()] {
            let report = world.manager.sweep(options).await.unwrap();
            assert_eq!(report.memories, 0, "{name}");
        }
        assert_eq!(texts(&memory).await, ["kept"]);
        guard.release().await;
        // A generation may be slightly ahead of a paused clock.
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(world.manager.sweep(all()).await.unwrap().memories, 1, "{name}");
    }
}

async fn sweep_spares_other_projects(on: On) {
    let world = on.world(with(MemoryResource::new("m", 1_000)).with_project("acme")).await;
    let (store, locks) = (world.manager.store().clone(), world.manager.locks().clone());
    let mut others = Vec::new();
    for project in ["acm", "acme2", "acme:m", "acme%"] {
        let builder = MemoryManager::builder().with_project(project).with_clock(Clock::tokio());
        let builder = builder.with_resource(MemoryResource::new("m", 1_000));
        let other = builder.build(store.clone(), locks.clone()).unwrap();
        other.memory("m", "k").unwrap().append(Message::user("theirs")).await.unwrap();
        others.push(other);
    }
    world.memory().append(Message::user("ours")).await.unwrap();
    assert_eq!(world.manager.sweep(all()).await.unwrap().memories, 1);
    for other in others {
        assert_eq!(texts(&other.memory("m", "k").unwrap()).await, ["theirs"]);
    }
}

/// Every acknowledged append is either removed by a sweep or stored.
async fn sweep_racing_with_appends_loses_nothing(on: On) {
    const APPENDS: u64 = 40;
    let world = on.world(with(MemoryResource::new("m", 100_000))).await;
    let memory = world.memory();
    let writing = async {
        for number in 0..APPENDS {
            memory.append(Message::user(number.to_string())).await.unwrap();
        }
    };
    let sweeping = async {
        let mut removed = 0;
        for _ in 0..20 {
            removed += world.manager.sweep(all()).await.unwrap().messages;
            tokio::task::yield_now().await;
        }
        removed
    };
    let ((), removed) = tokio::join!(writing, sweeping);
    let outline = checked(&memory, &world.manager).await;
    assert_eq!(removed + outline.metas.len() as u64, APPENDS);
}

async fn sweep_uses_the_time_of_last_write(on: On) {
    const DAY: Duration = Duration::from_secs(86_400);
    let world = on.world(with(MemoryResource::new("m", 1_000))).await;
    let (old, renewed) = (world.manager.memory("m", "old"), world.manager.memory("m", "renewed"));
    let (old, renewed) = (old.unwrap(), renewed.unwrap());
    old.append(Message::user("one")).await.unwrap();
    renewed.append(Message::user("one")).await.unwrap();
    tokio::time::advance(DAY).await;
    renewed.append(Message::user("two")).await.unwrap();
    tokio::time::advance(DAY).await;
    assert_eq!(texts(&old).await, ["one"], "reading is no use");
    let unused = SweepOptions::new().with_unused_for(2 * DAY);
    let report = world.manager.sweep(unused).await.unwrap();
    assert_eq!((report.memories, report.messages), (1, 1));
    assert!(texts(&old).await.is_empty());
    assert_eq!(texts(&renewed).await, ["one", "two"]);
}

async fn sweep_frees_expired_memories(on: On) {
    const TTL: Duration = Duration::from_secs(60);
    let mut short = MemoryResource::new("m", 1_000_000);
    short.persistence.ttl = Some(TTL);
    let world = on.world(with(short).with_resource(MemoryResource::new("n", 1_000))).await;
    // More messages than one step removes.
    let many = (0..600).map(|number| Message::user(number.to_string()));
    world.memory().append_all(many).await.unwrap();
    let kept = world.manager.memory("n", "k").unwrap();
    kept.append(Message::user("kept")).await.unwrap();
    tokio::time::advance(TTL).await;
    let report = world.manager.sweep(SweepOptions::new()).await.unwrap();
    assert_eq!((report.memories, report.messages), (1, 600));
    assert_eq!(world.manager.sweep(SweepOptions::new()).await.unwrap().memories, 0);
    assert_eq!(texts(&kept).await, ["kept"]);
}
