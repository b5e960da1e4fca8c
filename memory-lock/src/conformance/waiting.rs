//! Waking waiters, and many contenders at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use memory_core::lease::OwnerId;

use super::grants::granted;
use super::{Subject, Verdict, Violation, ensure, key, shared};
use crate::answer::{Acquired, Release};
use crate::backend::LockBackend;
use crate::key::LockKey;

/// Far more than any backend should need to notice a release.
const WAKE_UP_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) async fn watch_ends_when_the_lease_is_released(subject: Subject) -> Verdict {
    let (key, owner) = (key("k")?, subject.owner());
    granted(&subject, &key, owner).await?;
    let watch = subject.backend().watch(&key, None);
    let unheeded = subject.backend().watch(&key, None);
    drop(unheeded);
    let watching = tokio::spawn(tokio::time::timeout(WAKE_UP_TIMEOUT, watch));
    subject.backend().release(&key, owner).await?;
    ensure!(matches!(watching.await, Ok(Ok(()))), "no wake-up within {WAKE_UP_TIMEOUT:?}");
    Ok(())
}

pub(super) async fn watch_begun_after_the_release_does_not_hang(subject: Subject) -> Verdict {
    let (key, owner) = (key("k")?, subject.owner());
    granted(&subject, &key, owner).await?;
    subject.backend().release(&key, owner).await?;
    // It may wait for the next release; its users have a timer as a fallback.
    let timer = Duration::from_millis(100);
    drop(tokio::time::timeout(timer, subject.backend().watch(&key, None)).await);
    granted(&subject, &key, subject.owner()).await?;
    Ok(())
}

#[derive(Default)]
struct Room {
    occupied: AtomicBool,
    last: AtomicU64,
}

pub(super) async fn contenders_never_overlap_and_tokens_rise(subject: Subject) -> Verdict {
    const CONTENDERS: usize = 32;
    const ROUNDS: usize = 4;
    let room = Arc::new(Room::default());
    let ttl = subject.ttl().max(Duration::from_secs(30));
    let mut contenders = Vec::new();
    for _ in 0..CONTENDERS {
        let backend = shared(&subject);
        let (key, room) = (key("k")?, Arc::clone(&room));
        contenders.push(tokio::spawn(async move {
            for _ in 0..ROUNDS {
                occupy(&*backend, &key, ttl, &room).await?;
            }
            Ok::<_, Violation>(())
        }));
    }
    for contender in contenders {
        match contender.await {
            Ok(verdict) => verdict?,
            Err(error) => ensure!(false, "a contender did not come to its end: {error}"),
        }
    }
    Ok(())
}

async fn occupy(backend: &dyn LockBackend, key: &LockKey, ttl: Duration, room: &Room) -> Verdict {
    let owner = OwnerId::new(fastrand::u128(..));
    let token = loop {
        let watch = backend.watch(key, Some(owner));
        match backend.try_acquire(key, owner, ttl).await? {
            Acquired::Granted { token } => break token,
            Acquired::Held { .. } => {
                drop(tokio::time::timeout(Duration::from_millis(20), watch).await);
            }
        }
    };
    let occupied = room.occupied.swap(true, Ordering::SeqCst);
    ensure!(!occupied, "two owners held the lease at once");
    let last = room.last.swap(token.number(), Ordering::SeqCst);
    ensure!(token.number() > last, "token {token} after {last}");
    for _ in 0..3 {
        tokio::task::yield_now().await;
    }
    room.occupied.store(false, Ordering::SeqCst);
    let released = backend.release(key, owner).await?;
    ensure!(released == Release::Released, "the holder's release answered {released:?}");
    Ok(())
}
