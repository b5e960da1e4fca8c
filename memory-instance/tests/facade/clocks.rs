//! Lease holders with a wrong clock, and stuck holders.

use std::time::Duration;

use memory_core::Message;
use memory_core::health::Verdict;
use memory_instance::{ExclusiveError, MemoryInstance};
use memory_lock::{Acquired, Clock, LockBackend, LockKey, LostReason, OwnerId, SqliteLock};
use tokio::time::Instant;

use crate::support::{On, World, hybrid, texts, with};

const TTL: Duration = Duration::from_secs(30);

on_every_backend!(broken_leases_free_the_memory);

/// Simulates a process, three hours ahead, that took both leases of the memory and was killed.
async fn killed_ahead(world: &World, memory: &MemoryInstance) {
    let clock = Clock::manual();
    clock.step_forward(Duration::from_secs(3 * 3_600));
    let path = world.folder.as_ref().unwrap().path().join("memory.db");
    let lock = SqliteLock::open(path, clock).unwrap();
    for name in [memory.key().lease_name().to_owned(), memory.key().flush_lease_name()] {
        let name = LockKey::new(name).unwrap();
        let granted = lock.try_acquire(&name, OwnerId::new(1), TTL).await.unwrap();
        assert!(matches!(granted, Acquired::Granted { .. }), "{granted:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn dead_holder_ahead_loses_lease_after_ttl() {
    let mut resource = hybrid(200);
    resource.lock.wait_timeout = Duration::from_secs(7);
    let world = On::Sqlite.world(with(resource)).await;
    let memory = world.memory();
    memory.append_all((0..12).map(|n| Message::user(format!("{n}")))).await.unwrap();
    killed_ahead(&world, &memory).await;

    let begun = Instant::now();
    let health = memory.health().await.unwrap();
    assert!(
        matches!(&health.verdict, Verdict::Degraded { why } if why.contains("memory lease break"))
    );
    assert!(health.lease.is_some_and(|lease| lease.remaining_ms <= 30_000));
    // Each operation times out long before the TTL ends; their observations add up.
    let (mut appends, mut flushes) = (0, 0);
    let append = async {
        while memory.append(Message::user("late")).await.is_err() {
            appends += 1;
        }
        begun.elapsed()
    };
    let flush = async {
        while memory.perform_flush().await.is_err() {
            flushes += 1;
        }
        begun.elapsed()
    };
    let (appended, flushed) = tokio::join!(append, flush);
    assert!((2..=5).contains(&appends) && (2..=5).contains(&flushes), "{appends} and {flushes}");
    for waited in [appended, flushed] {
        assert!(waited >= TTL && waited < TTL + Duration::from_secs(5), "{waited:?}");
    }
    assert_eq!(memory.leases().await.unwrap(), memory_instance::Leases::default());
    assert_eq!(memory.health().await.unwrap().verdict, Verdict::Healthy);
    assert_eq!(texts(&memory).await.last().map(String::as_str), Some("late"));
}

async fn broken_leases_free_the_memory(on: On) {
    let world = on.world(with(hybrid(2_000))).await;
    let memory = world.memory();
    memory.append(Message::user("before")).await.unwrap();
    let (stuck, held) = (memory.clone(), std::sync::Arc::new(tokio::sync::Notify::new()));
    let holds = std::sync::Arc::clone(&held);
    let turn = tokio::spawn(async move {
        stuck
            .exclusive(|_session| async move {
                holds.notify_one();
                std::future::pending::<()>().await;
            })
            .await
    });
    held.notified().await;
    let fence = memory.leases().await.unwrap().memory.unwrap().token;
    let begun = Instant::now();
    let broken = memory.break_leases().await.unwrap();
    assert_eq!(broken.memory.map(|lease| lease.token), Some(fence));
    assert_eq!(broken.flush, None);
    memory.append(Message::user("after")).await.unwrap();
    assert!(begun.elapsed() < TTL / 2, "it waited for the holder");
    let lost = turn.await.unwrap().unwrap_err();
    assert!(matches!(lost, ExclusiveError::Lost { reason: LostReason::Stolen, .. }), "{lost}");
    assert_eq!(texts(&memory).await, ["before", "after"]);
    let next = memory.exclusive(|session| async move { session.fence() }).await.unwrap();
    assert!(next > fence);
}
