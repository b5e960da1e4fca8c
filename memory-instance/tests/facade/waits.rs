//! Waiting for turns: their limit, unpolled calls, and the errors of wait timeouts.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Waker};
use std::time::Duration;

use memory_core::store::Applied;
use memory_core::{MemoryResource, Message};
use memory_flush::from_fn;
use memory_instance::{ExclusiveError, FlushMode, MemoryError, Session, WriteError};
use memory_lock::{LockErrorKind, LostReason};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};

use crate::support::{On, hybrid, texts, with};

on_every_backend![
    writes_in_their_own_turn_are_refused,
    unpolled_waiting_turns_block_no_append,
    unpolled_flushes_block_no_flush,
    unpolled_reads_block_no_read;
    paused_clock:
    turn_ends_at_max_turn,
    appends_outlast_long_turns,
    waiters_report_holder_wait_and_max_turn,
];

fn resource() -> MemoryResource {
    MemoryResource::new("m", 1 << 20)
}

async fn writes_in_their_own_turn_are_refused(on: On) {
    let world = on.world(with(resource())).await;
    let (memory, same) = (world.memory(), world.memory());
    let other = world.manager.memory("m", "other").unwrap();
    let begun = Instant::now();
    let turn = |session: Session| async move {
        let prepared = same.prepare([Message::user("prepared")]).unwrap();
        let refused = [
            same.append(Message::user("lost")).await.unwrap_err(),
            same.send(&prepared).await.unwrap_err(),
            same.clear().await.unwrap_err(),
            same.perform_flush().await.unwrap_err(),
            match same.exclusive(|_| async {}).await.unwrap_err() {
                ExclusiveError::Begin(error) => *error,
                error @ ExclusiveError::Lost { .. } => panic!("{error}"),
                error => panic!("{error}"),
            },
        ];
        for error in refused {
            let is_own_turn = match &error {
                MemoryError::Append(failure) => {
                    matches!(failure.reason, WriteError::OwnTurn { .. })
                }
                reason => matches!(reason, MemoryError::OwnTurn { .. }),
            };
            assert!(is_own_turn, "{error}");
            assert!(!error.is_retryable() && error.applied() == Applied::No, "{error}");
            assert!(error.to_string().contains("session"), "{error}");
        }
        // Turns of another memory are independent.
        let nested = async |inner: Session| {
            inner.append(Message::user("nested")).await.unwrap();
            same.append(Message::user("lost")).await.unwrap_err();
        };
        other.exclusive(nested).await.unwrap();
        other.append(Message::user("other")).await.unwrap();
        session.append(Message::user("ours")).await.unwrap();
        // A separate task waits for the end of the turn; so does a call that is awaited after the turn.
        let later = same.clone();
        let task = tokio::spawn(async move { same.append(Message::user("task")).await.unwrap() });
        (task, async move { later.append(Message::user("after")).await.unwrap() })
    };
    let (task, after) = memory.exclusive(turn).await.unwrap();
    task.await.unwrap();
    after.await;
    assert_eq!(texts(&memory).await, ["ours", "task", "after"]);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

async fn turn_ends_at_max_turn(on: On) {
    let mut resource = resource();
    resource.lock = resource.lock.with_max_turn(Duration::from_secs(5));
    let world = on.world(with(resource)).await;
    let memory = world.memory();
    let begun = Instant::now();
    let turn = tokio::spawn({
        let memory = memory.clone();
        async move { memory.exclusive(|_| sleep(Duration::from_secs(3_600))).await.unwrap_err() }
    });
    sleep(Duration::from_secs(1)).await;
    memory.append(Message::user("waits")).await.unwrap();
    // Earlier than the rest of the lease's 30 s.
    assert!(begun.elapsed() < Duration::from_secs(7), "{:?}", begun.elapsed());
    let error = turn.await.unwrap();
    assert!(!error.is_retryable(), "{error}");
    let ExclusiveError::Lost { reason, output, .. } = error else { panic!("{error}") };
    assert_eq!((reason, output), (LostReason::MaxHold, None));
    assert!(reason.to_string().contains("max_turn"), "{reason}");
}

async fn appends_outlast_long_turns(on: On) {
    let world = on.world(with(resource())).await;
    let memory = world.memory();
    let turn = tokio::spawn({
        let memory = memory.clone();
        async move { memory.exclusive(|_| sleep(Duration::from_secs(50))).await }
    });
    sleep(Duration::from_secs(1)).await;
    memory.append(Message::user("waits")).await.unwrap();
    turn.await.unwrap().unwrap();
    assert_eq!(texts(&memory).await, ["waits"]);
}

async fn waiters_report_holder_wait_and_max_turn(on: On) {
    let mut resource = resource();
    resource.lock.wait_timeout = Duration::from_secs(9);
    let world = on.world(with(resource)).await;
    let memory = world.memory();
    let turn = tokio::spawn({
        let memory = memory.clone();
        async move { memory.exclusive(|_| sleep(Duration::from_secs(50))).await }
    });
    sleep(Duration::from_secs(1)).await;
    let owner = memory.health().await.unwrap().lease.expect("a turn is under way").owner;
    let begun = Instant::now();
    let error = memory.append(Message::user("lost")).await.unwrap_err();
    assert_eq!(begun.elapsed().as_secs(), 9);
    let MemoryError::Append(failure) = &error else { panic!("{error}") };
    let WriteError::Lock(lease) = &failure.reason else { panic!("{error}") };
    let LockErrorKind::WaitTimeout { waited, holder_remaining } = lease.reason.kind() else {
        panic!("{error}")
    };
    assert_eq!(waited.as_secs(), 9, "in full");
    assert!(holder_remaining.is_some_and(|left| left <= Duration::from_secs(30)), "{error}");
    assert_eq!(lease.reason.holder().map(|owner| owner.to_string()), Some(owner.clone()));
    assert_eq!(lease.max_turn, Some(Duration::from_secs(60)));
    for part in [&*owner, "lock.max_turn", "60s", "9.0s"] {
        assert!(error.to_string().contains(part), "{part} in {error}");
    }
    turn.abort();
}

async fn unpolled_waiting_turns_block_no_append(on: On) {
    let world = on.world(with(resource())).await;
    let memory = world.memory();
    let (end, ends) = oneshot::channel::<()>();
    let (begun, begins) = oneshot::channel();
    let turn = tokio::spawn({
        let memory = memory.clone();
        let turn = |_| {
            begun.send(()).unwrap();
            ends
        };
        async move { memory.exclusive(turn).await.unwrap() }
    });
    begins.await.unwrap();
    let mut kept = Vec::new();
    for _ in 0..5 {
        let memory = memory.clone();
        let mut turn = Box::pin(async move { memory.exclusive(|_| async {}).await.unwrap() });
        assert!(turn.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        kept.push(turn);
    }
    end.send(()).unwrap();
    turn.await.unwrap().unwrap();
    let begun = Instant::now();
    memory.append(Message::user("goes on")).await.unwrap();
    assert!(begun.elapsed() <= Duration::from_secs(2), "{:?}", begun.elapsed());
    for turn in kept {
        turn.await;
    }
}

async fn unpolled_reads_block_no_read(on: On) {
    let world = on.world(with(MemoryResource::new("m", 100_000))).await;
    let memory = world.memory();
    // More messages than are read at once on the calling thread.
    memory.append_all((0..300).map(|number| Message::user(format!("{number}")))).await.unwrap();
    let mut kept = Vec::new();
    for _ in 0..32 {
        let memory = world.memory();
        let mut read = Box::pin(async move { memory.messages().await.unwrap().len() });
        if read.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
            kept.push(read);
        }
    }
    assert_eq!(texts(&memory).await.len(), 300);
    for read in kept {
        assert_eq!(read.await, 300);
    }
}

async fn unpolled_flushes_block_no_flush(on: On) {
    for mode in [FlushMode::Manual, FlushMode::Inline] {
        let begun = Arc::<AtomicBool>::default();
        let begins = Arc::clone(&begun);
        let slow = from_fn("slow", move |_| {
            begins.store(true, Ordering::SeqCst);
            async {
                sleep(Duration::from_millis(20)).await;
                Ok("a summary".to_owned())
            }
        });
        let world = on.world(with(hybrid(4_000)).with_flush_mode(mode).with_summarizer(slow)).await;
        let memory = world.memory();
        let mut kept = Box::pin(async {
            let many = (0..800).map(|number| Message::user(format!("message number {number}")));
            memory.append_all(many).await.unwrap();
            if mode == FlushMode::Manual {
                memory.perform_flush().await.unwrap();
            }
        });
        // The flush is not polled any more once it holds the lease.
        let begins = async {
            while !begun.load(Ordering::SeqCst) {
                assert!(kept.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
                tokio::task::yield_now().await;
            }
        };
        timeout(Duration::from_secs(60), begins).await.expect("no flush begins");
        let began = Instant::now();
        world.memory().perform_flush().await.unwrap();
        // Far less than the hour for which a lease may be held.
        assert!(began.elapsed() <= Duration::from_secs(30), "{mode:?}: {:?}", began.elapsed());
        let receipts = world.memory().receipts().await.unwrap();
        assert_eq!(receipts.len(), 1, "{mode:?}: the kept flush came to its end");
        kept.await;
    }
}

/// Other programs may lock the file for any time. Then nothing was written, and the error reports it, whatever the
/// caller's timeout is.
#[tokio::test]
async fn foreign_transaction_timeout_is_named_and_definite() {
    for wait in [Duration::ZERO, Duration::from_millis(1_500)] {
        let folder = tempfile::tempdir().unwrap();
        let mut resource = resource();
        resource.lock.wait_timeout = wait;
        let manager = with(resource).open(&crate::support::url(&folder)).await.unwrap();
        let memory = manager.memory("m", "k").unwrap();
        memory.append(Message::user("one")).await.unwrap();
        let file = rusqlite::Connection::open(folder.path().join("memory.db")).unwrap();
        file.execute_batch("BEGIN IMMEDIATE").unwrap();
        let error = memory.append(Message::user("two")).await.unwrap_err();
        assert_eq!((error.applied(), error.is_retryable()), (Applied::No, true), "{error}");
        assert!(error.to_string().contains("another process kept"), "{error}");
        let error = memory.exclusive(|_| async {}).await.unwrap_err();
        let ExclusiveError::Begin(error) = error else { panic!("{error}") };
        assert_eq!((error.applied(), error.is_retryable()), (Applied::No, true), "{error}");
        assert!(error.to_string().contains("kept the SQLite file locked"), "{error}");
        assert!(error.source().is_some(), "{error:?}");
        file.execute_batch("ROLLBACK").unwrap();
        memory.append(Message::user("two")).await.unwrap();
        assert_eq!(texts(&memory).await, ["one", "two"]);
    }
}
