//! Calls that are kept and not polled, and the report of a call that timed out.

use std::error::Error;
use std::task::{Context, Waker};

use futures::FutureExt;
use futures::future::BoxFuture;
use memory_lock::{
    Applied, LockError, LockErrorKind, LockGuard, LockManager, LockOperation, LockOptions,
    LostReason, ReleaseOutcome, WithLockError,
};
use tokio::time::Instant;

use super::{in_process, patient, until_waiting};
use crate::common::{Fault, FaultyBackend, key, ms, secs, until_tasks};

pub(crate) type Locking = BoxFuture<'static, Result<LockGuard, LockError>>;

/// A call that was polled once and is kept.
pub(crate) fn kept(manager: &LockManager) -> Locking {
    let manager = manager.clone();
    let mut call = async move { manager.lock(&key("k"), &patient()).await }.boxed();
    let polled = call.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    assert!(polled.is_pending());
    call
}

#[tokio::test(start_paused = true)]
async fn kept_waiters_do_not_block_others() {
    let (_, manager) = in_process();
    let first = manager.lock(&key("k"), &patient()).await.unwrap();
    let all_kept: Vec<Locking> = (0..20).map(|_| kept(&manager)).collect();
    let live = tokio::spawn({
        let manager = manager.clone();
        async move { manager.lock(&key("k"), &patient()).await.unwrap() }
    });
    until_waiting(&manager, 21).await;
    drop(first);
    let begun = Instant::now();
    let guard = live.await.unwrap();
    assert!(begun.elapsed() <= secs(1), "{:?}", begun.elapsed());
    assert_eq!(manager.waiting(&key("k")), 0, "they have left the line");
    drop(guard);
    // When polled again they get their turns.
    for call in all_kept {
        assert_eq!(call.await.unwrap().release().await, ReleaseOutcome::Released);
    }
    until_tasks(0).await;
}

#[tokio::test(start_paused = true)]
async fn live_waiters_keep_their_order_behind_kept_ones() {
    let (_, manager) = in_process();
    let first = manager.lock(&key("k"), &patient()).await.unwrap();
    let (served, mut order) = tokio::sync::mpsc::unbounded_channel();
    let mut all_kept = Vec::new();
    for n in 0..10 {
        all_kept.push(kept(&manager));
        let (manager, served) = (manager.clone(), served.clone());
        tokio::spawn(async move {
            let _guard = manager.lock(&key("k"), &patient()).await.unwrap();
            served.send(n).unwrap();
            // Longer than the limit for a kept call: those behind are not mistaken for kept ones.
            tokio::time::sleep(secs(2)).await;
        });
        tokio::task::yield_now().await;
    }
    drop((first, served));
    for n in 0..10 {
        assert_eq!(order.recv().await, Some(n));
    }
    drop(all_kept);
}

#[tokio::test(start_paused = true)]
async fn kept_requests_do_not_block_others() {
    for fault in [Fault::Late(ms(20)), Fault::LateReply(ms(20)), Fault::DropRequest, Fault::Hang] {
        let backend = FaultyBackend::new();
        let manager = backend.manager();
        backend.next(LockOperation::Acquire, fault);
        let call = kept(&manager);
        let begun = Instant::now();
        let guard = manager.lock(&key("k"), &patient()).await.unwrap();
        // A request that hangs ends by its limit of 5 s.
        assert!(begun.elapsed() <= secs(7), "{fault:?}: {:?}", begun.elapsed());
        drop(guard);
        assert!(call.await.is_ok(), "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn kept_releases_do_not_block_others() {
    let backend = FaultyBackend::new();
    let manager = backend.manager();
    let guard = manager.lock(&key("k"), &patient()).await.unwrap();
    backend.always(LockOperation::Release, Fault::Late(ms(20)));
    let mut release = guard.release().boxed();
    assert!(release.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    let begun = Instant::now();
    drop(manager.lock(&key("k"), &patient()).await.unwrap());
    assert!(begun.elapsed() <= secs(2), "{:?}", begun.elapsed());
    assert_eq!(release.await, ReleaseOutcome::Unknown);
}

#[tokio::test(start_paused = true)]
async fn kept_turns_end_with_max_hold() {
    let backend = FaultyBackend::new();
    let manager = backend.manager();
    let (k, options) = (key("k"), patient().with_max_hold(Some(secs(5))));
    let mut turn = manager
        .with_lock_refresh(&k, &options, async |_| tokio::time::sleep(ms(10)).await)
        .boxed_local();
    assert!(turn.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    let begun = Instant::now();
    drop(manager.lock(&key("k"), &patient()).await.unwrap());
    // Not the rest of its TTL of 30 s.
    assert!(begun.elapsed() <= secs(6), "{:?}", begun.elapsed());
    let lost = turn.await.unwrap_err();
    assert!(matches!(lost, WithLockError::Lost { reason: LostReason::MaxHold, .. }), "{lost}");
}

/// The error of a call, and the milliseconds until it.
async fn ends(manager: &LockManager, options: LockOptions) -> (LockError, u128) {
    let begun = Instant::now();
    let error = manager.lock(&key("k"), &options).await.unwrap_err();
    (error, begun.elapsed().as_millis())
}

#[tokio::test(start_paused = true)]
async fn backend_failures_are_reported_as_such() {
    for fault in [Fault::DropRequest, Fault::Hang] {
        let backend = FaultyBackend::new();
        let manager = backend.manager();
        backend.always(LockOperation::Acquire, fault);
        let options = LockOptions::new().with_wait_timeout(secs(7));
        // One asks the backend, the others wait in line behind it.
        let waiting = (0..4).map(|_| ends(&manager, options));
        for (error, took) in futures::future::join_all(waiting).await {
            let silent = matches!(error.kind(), LockErrorKind::NoAnswer { .. });
            assert!(silent || error.kind() == &LockErrorKind::Unavailable, "{fault:?}: {error}");
            assert!(error.is_retryable(), "{error}");
            assert!((6_900..=8_100).contains(&took), "{fault:?}: {took}");
            assert_eq!(error.key(), Some(&key("k")));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn failures_end_sooner_than_waits() {
    for fault in [Fault::DropRequest, Fault::Hang] {
        let backend = FaultyBackend::new();
        let manager = backend.manager();
        let options = LockOptions::new().with_wait_timeout(secs(60)).with_failure_timeout(secs(10));
        backend.always(LockOperation::Acquire, fault);
        let waiting = (0..4).map(|_| ends(&manager, options));
        for (error, took) in futures::future::join_all(waiting).await {
            assert!(error.is_retryable() && took <= 11_100, "{fault:?}: {error} after {took}");
        }
        // The wait for another holder takes its full time, despite a short failure.
        backend.heal();
        let other = backend.manager();
        let _held = other.lock(&key("k"), &LockOptions::new()).await.unwrap();
        for _ in 0..3 {
            backend.next(LockOperation::Acquire, Fault::DropRequest);
        }
        let (error, took) = ends(&manager, options).await;
        assert!(matches!(error.kind(), LockErrorKind::WaitTimeout { .. }), "{error}");
        assert_eq!(took, 60_000);
    }
}

#[tokio::test(start_paused = true)]
async fn wait_timeouts_name_the_holder() {
    let (backend, manager) = in_process();
    let other = LockManager::new(backend);
    let held = other.lock(&key("k"), &LockOptions::new()).await.unwrap();
    let options = LockOptions::new().with_wait_timeout(secs(3));
    let errors = [ends(&manager, options).await.0, ends(&other, options).await.0];
    for error in errors {
        assert_eq!(error.holder(), Some(held.proof().owner));
        assert!(error.to_string().contains(&held.proof().owner.to_string()), "{error}");
        let LockErrorKind::WaitTimeout { waited, holder_remaining } = error.kind() else {
            panic!("{error}")
        };
        assert_eq!(*waited, secs(3));
        assert!(holder_remaining.is_some_and(|left| left <= secs(30)), "{error}");
        assert!(error.is_retryable() && error.applied() == Applied::No);
    }
}

#[expect(clippy::async_yields_async, reason = "the task outlives the operation that starts it")]
#[tokio::test(start_paused = true)]
async fn operations_do_not_wait_for_their_own_lease() {
    let (backend, manager) = in_process();
    let (again, options) = (LockManager::new(backend), patient());
    let other = key("other");
    let outcome = manager
        .with_lock_refresh(&key("k"), &options, async |_| {
            assert!(manager.runs_under(&key("k")) && !manager.runs_under(&other));
            // Leases of other keys may be nested.
            let nested = manager.with_lock_refresh(&other, &options, async |_| {
                (ends(&manager, options).await, ends(&again, options).await)
            });
            let (ours, theirs) = nested.await.unwrap();
            for (error, took) in [ours, theirs] {
                assert_eq!((error.kind(), took), (&LockErrorKind::OwnLease, 0));
                assert!(!error.is_retryable() && error.source().is_none());
            }
            // A separate task waits for the end of the operation.
            let manager = manager.clone();
            tokio::spawn(async move { manager.lock(&key("k"), &patient()).await.map(drop) })
        })
        .await
        .unwrap();
    outcome.await.unwrap().unwrap();
    assert!(!manager.runs_under(&key("k")));
}
