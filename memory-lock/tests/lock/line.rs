//! Waiting in line, handing over, giving up, shutting down.

mod runtimes;
mod waits;

use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::common::{Fault, FaultyBackend, key, ms, secs, until_tasks};
use futures::FutureExt;
use memory_lock::{
    Applied, Clock, ClockExt as _, InProcessLock, LockBackend, LockErrorKind, LockManager,
    LockOperation, LockOptions, LostReason, ManagerOptions, ReleaseOutcome, WithLockError,
};
use tokio::time::Instant;

fn in_process() -> (Arc<InProcessLock>, LockManager) {
    let backend = Arc::new(InProcessLock::new(Clock::tokio()));
    let manager = LockManager::new(Arc::clone(&backend) as Arc<dyn LockBackend>);
    (backend, manager)
}

fn patient() -> LockOptions {
    LockOptions::new().with_wait_timeout(secs(600))
}

/// Lets tasks run until this many wait for the key.
async fn until_waiting(manager: &LockManager, count: usize) {
    while manager.waiting(&key("k")) != count {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn waiters_are_served_in_order_with_rising_tokens() {
    let (_, manager) = in_process();
    let first = manager.lock(&key("k"), &patient()).await.unwrap();
    let served = Arc::new(Mutex::new(Vec::new()));
    let mut tasks = Vec::new();
    for n in 0..40 {
        let (locks, served) = (manager.clone(), Arc::clone(&served));
        tasks.push(tokio::spawn(async move {
            let guard = locks.lock(&key("k"), &patient()).await.unwrap();
            served.lock().unwrap().push((n, guard.fence()));
            tokio::time::sleep(ms(1)).await;
            if n % 2 == 0 {
                assert_eq!(guard.release().await, ReleaseOutcome::Released);
            }
        }));
        until_waiting(&manager, n + 1).await;
    }
    assert_eq!(manager.stats().waiting, 40);
    drop(first);
    for task in tasks {
        task.await.unwrap();
    }
    let served = served.lock().unwrap();
    assert!(served.iter().map(|(n, _)| *n).eq(0..40));
    assert!(served.is_sorted_by(|(_, a), (_, b)| a < b));
    let stats = manager.stats();
    assert_eq!((stats.waiting, stats.held, stats.acquired), (0, 0, 41));
    // Two real releases among the 40.
    assert_eq!(stats.handed_over, 38);
}

#[tokio::test(start_paused = true)]
async fn max_hand_overs_let_another_process_in() {
    let backend = FaultyBackend::new();
    let options = ManagerOptions::new().with_max_hand_overs(4);
    let ours = Arc::clone(&backend) as Arc<dyn LockBackend>;
    let ours = LockManager::with_options(ours, options).unwrap();
    let theirs = backend.manager();
    // The manager notices once that another process uses the key.
    let company = theirs.lock(&key("k"), &patient()).await.unwrap();
    assert!(ours.try_lock(&key("k"), &patient()).await.unwrap().is_none());
    drop(company);

    let order = Arc::new(Mutex::new(Vec::new()));
    let first = ours.lock(&key("k"), &patient()).await.unwrap();
    let mut tasks = Vec::new();
    for n in 0..12 {
        let (manager, order) = (ours.clone(), Arc::clone(&order));
        tasks.push(tokio::spawn(async move {
            let _guard = manager.lock(&key("k"), &patient()).await.unwrap();
            order.lock().unwrap().push("ours");
            tokio::time::sleep(ms(10)).await;
        }));
        until_waiting(&ours, n + 1).await;
    }
    let waiting = theirs.clone();
    let their_order = Arc::clone(&order);
    tasks.push(tokio::spawn(async move {
        let _guard = waiting.lock(&key("k"), &patient()).await.unwrap();
        their_order.lock().unwrap().push("theirs");
    }));
    until_waiting(&theirs, 1).await;
    drop(first);
    for task in tasks {
        task.await.unwrap();
    }
    let order = order.lock().unwrap();
    let place = order.iter().position(|who| *who == "theirs");
    assert_eq!(place, Some(4), "{order:?}");
}

#[tokio::test(start_paused = true)]
async fn wait_timeout_reports_wait_and_remaining_ttl() {
    let (backend, manager) = in_process();
    let other = LockManager::new(backend);
    let _held = other.lock(&key("k"), &LockOptions::new()).await.unwrap();
    let begun = Instant::now();
    let error = manager.lock(&key("k"), &LockOptions::new()).await.unwrap_err();
    assert_eq!(Instant::now() - begun, secs(10));
    let LockErrorKind::WaitTimeout { waited, holder_remaining } = error.kind() else {
        panic!("{error}")
    };
    assert_eq!(*waited, secs(10));
    assert_eq!(*holder_remaining, Some(secs(20)));
    assert_eq!(error.applied(), Applied::No);
    assert_eq!(manager.waiting(&key("k")), 0);
    assert!(manager.try_lock(&key("k"), &LockOptions::new()).await.unwrap().is_none());
    let hasty = LockOptions::new().with_wait_timeout(Duration::ZERO);
    let error = manager.lock(&key("k"), &hasty).await.unwrap_err();
    assert!(matches!(error.kind(), LockErrorKind::WaitTimeout { .. }), "{error}");
}

#[tokio::test(start_paused = true)]
async fn waiter_that_gives_up_is_skipped() {
    let (_, manager) = in_process();
    let first = manager.lock(&key("k"), &patient()).await.unwrap();
    let hasty = LockOptions::new().with_wait_timeout(ms(5));
    let error = manager.lock(&key("k"), &hasty).await.unwrap_err();
    assert!(matches!(error.kind(), LockErrorKind::WaitTimeout { .. }));
    assert_eq!(manager.waiting(&key("k")), 0);
    let next = tokio::spawn({
        let manager = manager.clone();
        async move { manager.lock(&key("k"), &patient()).await.unwrap().fence() }
    });
    until_waiting(&manager, 1).await;
    let fence = first.fence();
    drop(first);
    assert!(next.await.unwrap() > fence);
    assert_eq!(manager.stats().held, 0);
}

#[tokio::test(start_paused = true)]
async fn foreign_release_wakes_a_waiter_at_once() {
    let (backend, manager) = in_process();
    let other = LockManager::new(backend);
    let held = other.lock(&key("k"), &patient()).await.unwrap();
    let waiting = tokio::spawn({
        let manager = manager.clone();
        async move {
            let _guard = manager.lock(&key("k"), &patient()).await.unwrap();
            Instant::now()
        }
    });
    until_waiting(&manager, 1).await;
    tokio::time::sleep(ms(1_234)).await;
    let released = Instant::now();
    drop(held);
    assert_eq!(waiting.await.unwrap(), released);
}

#[tokio::test(start_paused = true)]
async fn lost_wake_up_only_delays() {
    let (backend, manager) = in_process();
    let owner = memory_lock::OwnerId::new(9);
    // It is neither refreshed nor released: it expires without a message.
    backend.try_acquire(&key("k"), owner, ms(2_500)).await.unwrap();
    let begun = Instant::now();
    let _guard = manager.lock(&key("k"), &patient()).await.unwrap();
    let waited = Instant::now() - begun;
    assert!((ms(2_500)..ms(2_600)).contains(&waited), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn retryable_errors_are_retried() {
    for fault in [Fault::DropRequest, Fault::DropReply, Fault::Late(secs(7)), Fault::Hang] {
        let backend = FaultyBackend::new();
        let manager = backend.manager();
        backend.next(LockOperation::Acquire, fault);
        backend.next(LockOperation::Acquire, fault);
        let guard = manager.lock(&key("k"), &patient()).await.unwrap();
        let lease = backend.inner.inspect(&key("k")).await.unwrap().unwrap();
        assert_eq!(lease.proof(), guard.proof(), "{fault:?}");
        assert!(guard.deadline() <= Instant::now() + lease.remaining);
    }
}

#[tokio::test(start_paused = true)]
async fn grant_without_an_answer_is_released() {
    let backend = FaultyBackend::new();
    let manager = backend.manager();
    backend.next(LockOperation::Acquire, Fault::DropReply);
    let error = manager.try_lock(&key("k"), &patient()).await.unwrap_err();
    assert_eq!(error.kind(), &LockErrorKind::Unavailable);
    assert_eq!(error.applied(), Applied::Unknown);
    until_tasks(0).await;
    assert_eq!(backend.inner.inspect(&key("k")).await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn hand_over_without_an_answer_blocks_no_waiter() {
    for fault in [Fault::DropRequest, Fault::DropReply, Fault::Hang, Fault::Refuse] {
        let backend = FaultyBackend::new();
        let manager = backend.manager();
        let first = manager.lock(&key("k"), &patient()).await.unwrap();
        let next = tokio::spawn({
            let manager = manager.clone();
            async move { manager.lock(&key("k"), &patient()).await.unwrap() }
        });
        until_waiting(&manager, 1).await;
        backend.next(LockOperation::HandOver, fault);
        assert_eq!(first.release().await, ReleaseOutcome::Unknown);
        let next = next.await.unwrap();
        let lease = backend.inner.inspect(&key("k")).await.unwrap().unwrap();
        assert_eq!(lease.proof(), next.proof(), "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn hung_backend_does_not_exceed_the_wait_timeout() {
    let backend = FaultyBackend::new();
    let manager = backend.manager();
    backend.always(LockOperation::Acquire, Fault::Hang);
    let hasty = LockOptions::new().with_wait_timeout(ms(300));
    let begun = Instant::now();
    let error = manager.lock(&key("k"), &hasty).await.unwrap_err();
    assert_eq!(Instant::now() - begun, ms(300), "{error}");
    assert!(matches!(error.kind(), LockErrorKind::NoAnswer { .. }), "{error}");
    assert_eq!(error.applied(), Applied::Unknown);
}

#[tokio::test]
async fn guard_dropped_without_a_runtime_frees_at_once() {
    let (backend, manager) = in_process();
    let guard = manager.lock(&key("k"), &patient()).await.unwrap();
    std::thread::spawn(move || drop(guard)).join().unwrap();
    assert_eq!(backend.inspect(&key("k")).await.unwrap(), None);
    assert_eq!(manager.stats().held, 0);
}

#[test]
fn guard_outlives_its_runtime() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (backend, manager) = in_process();
    let faulty = FaultyBackend::new();
    let remote = faulty.manager();
    let first = runtime();
    let guard = first.block_on(manager.lock(&key("k"), &patient())).unwrap();
    let remote_guard = first.block_on(remote.lock(&key("k"), &patient())).unwrap();
    drop(first);
    drop(guard);
    drop(remote_guard);
    // Another runtime can use the same manager, and its leases are refreshed there.
    let second = runtime();
    second.block_on(async {
        assert_eq!(backend.inspect(&key("k")).await.unwrap(), None);
        let short = LockOptions::new().with_ttl(ms(100));
        let guard = manager.lock(&key("k"), &short).await.unwrap();
        tokio::time::sleep(ms(300)).await;
        assert!(guard.ensure_held().is_ok());
    });
}

#[test]
fn next_runtime_resends_an_interrupted_refresh() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let backend = FaultyBackend::new();
    let manager = backend.manager();
    let options = LockOptions::new().with_ttl(ms(900)).with_refresh_interval(ms(50));
    backend.next(LockOperation::Renew, Fault::Hang);
    let first = runtime();
    let guard = first.block_on(async {
        let guard = manager.lock(&key("k"), &options).await.unwrap();
        backend.until_called(LockOperation::Renew).await;
        guard
    });
    drop(first);
    runtime().block_on(async {
        let _other = manager.lock(&key("other"), &options).await.unwrap();
        tokio::time::sleep(ms(1_200)).await;
        assert!(guard.ensure_held().is_ok());
    });
}

/// Workers of a runtime that shuts down may still be inside a poll, in which a lease is acquired.
#[test]
fn lease_taken_during_runtime_shutdown_blocks_no_caller() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (_, manager) = in_process();
    let (tell, told) = std::sync::mpsc::channel();
    let others = manager.clone();
    std::thread::spawn(move || {
        let ending = runtime();
        let handle = ending.handle().clone();
        drop(ending);
        let _inside = handle.enter();
        let guard = others.lock(&key("k"), &patient()).now_or_never();
        tell.send(guard.is_some()).unwrap();
    });
    let granted = told.recv_timeout(secs(20)).expect("the thread is blocked");
    assert!(granted);
    let again = runtime().block_on(manager.lock(&key("k"), &patient()));
    again.unwrap().ensure_held().unwrap();
}

#[test]
fn acquiring_without_a_runtime_fails_cleanly() {
    let (backend, manager) = in_process();
    let options = LockOptions::new();
    let name = key("k");
    let mut context = Context::from_waker(Waker::noop());
    match pin!(manager.try_lock(&name, &options)).poll(&mut context) {
        Poll::Ready(Err(error)) => assert_eq!(error.kind(), &LockErrorKind::NoRuntime),
        other => panic!("{other:?}"),
    }
    let Poll::Ready(Ok(lease)) = pin!(backend.inspect(&name)).poll(&mut context) else { panic!() };
    assert_eq!(lease, None);
}

#[tokio::test(start_paused = true)]
async fn panic_under_the_lease_releases_it() {
    let (backend, manager) = in_process();
    let task = tokio::spawn({
        let manager = manager.clone();
        async move {
            let work = async |_| panic!("as it happens");
            let _: Result<(), WithLockError<()>> =
                manager.with_lock_refresh(&key("k"), &LockOptions::new(), work).await;
        }
    });
    assert!(task.await.unwrap_err().is_panic());
    assert_eq!(backend.inspect(&key("k")).await.unwrap(), None);
    assert_eq!(manager.stats().held, 0);
}

#[tokio::test(start_paused = true)]
async fn shutdown_refuses_waiters_and_ends_late_holders() {
    let backend = FaultyBackend::new();
    let manager = backend.manager();
    let stuck = tokio::spawn({
        let manager = manager.clone();
        async move {
            let work = |_| std::future::pending::<()>();
            manager.with_lock_refresh(&key("k"), &LockOptions::new(), work).await
        }
    });
    tokio::time::sleep(secs(1)).await;
    let waiting = tokio::spawn({
        let manager = manager.clone();
        async move { manager.lock(&key("k"), &patient()).await.unwrap_err() }
    });
    until_waiting(&manager, 1).await;
    let begun = Instant::now();
    assert_eq!(manager.shutdown(secs(3)).await, 1);
    assert!(Instant::now() - begun >= secs(3));
    assert_eq!(waiting.await.unwrap().kind(), &LockErrorKind::ShutDown);
    let Err(WithLockError::Lost { reason, .. }) = stuck.await.unwrap() else { panic!() };
    assert_eq!(reason, LostReason::ShutDown);
    assert_eq!(backend.inner.inspect(&key("k")).await.unwrap(), None);
    let error = manager.lock(&key("k"), &patient()).await.unwrap_err();
    assert_eq!(error.kind(), &LockErrorKind::ShutDown);
    assert_eq!(manager.shutdown(secs(3)).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_tasks_on_many_threads_never_overlap() {
    let backend = Arc::new(InProcessLock::default());
    let managers: Vec<_> =
        (0..3).map(|_| LockManager::new(Arc::clone(&backend) as Arc<dyn LockBackend>)).collect();
    let room = Arc::new(Mutex::new((false, memory_lock::FencingToken::ZERO)));
    let mut tasks = Vec::new();
    for n in 0..24 {
        let (manager, room) = (managers[n % 3].clone(), Arc::clone(&room));
        tasks.push(tokio::spawn(async move {
            for round in 0..50 {
                let guard = manager.lock(&key("k"), &patient()).await.unwrap();
                {
                    let mut room = room.lock().unwrap();
                    assert!(!room.0 && room.1 < guard.fence());
                    *room = (true, guard.fence());
                }
                tokio::task::yield_now().await;
                room.lock().unwrap().0 = false;
                if round % 2 == 0 {
                    assert_eq!(guard.release().await, ReleaseOutcome::Released);
                }
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    for manager in managers {
        assert_eq!((manager.stats().held, manager.stats().waiting), (0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn broken_lease_is_free_and_reported_to_holder() {
    let backend = FaultyBackend::new();
    let (manager, operator) = (backend.manager(), backend.manager());
    assert_eq!(operator.break_lease(&key("k")).await.unwrap(), None);
    let guard = manager.lock(&key("k"), &patient()).await.unwrap();
    let broken = operator.break_lease(&key("k")).await.unwrap().unwrap();
    assert_eq!(broken.proof(), guard.proof());
    assert_eq!(backend.inner.inspect(&key("k")).await.unwrap(), None);
    let next = operator.lock(&key("k"), &patient()).await.unwrap();
    assert!(next.fence().number() > guard.fence().number() + 1);
    assert_eq!(guard.lost().await, LostReason::Stolen);
    assert!(next.ensure_held().is_ok());
}

#[tokio::test(start_paused = true)]
async fn dropped_break_leaves_the_next_holder_alone() {
    for dropped_during in [LockOperation::Inspect, LockOperation::HandOver] {
        let backend = FaultyBackend::new();
        let (manager, operator) = (backend.manager(), backend.manager());
        let guard = manager.lock(&key("k"), &patient()).await.unwrap();
        backend.next(dropped_during, Fault::Late(secs(1)));
        let (found, stuck) = (key("k"), Duration::from_millis(500));
        assert!(tokio::time::timeout(stuck, operator.break_lease(&found)).await.is_err());
        assert_eq!(guard.release().await, ReleaseOutcome::Released);
        let next = manager.lock(&key("k"), &patient()).await.unwrap();
        tokio::time::sleep(secs(10)).await;
        assert!(next.ensure_held().is_ok(), "{dropped_during:?}");
        assert_eq!(next.release().await, ReleaseOutcome::Released, "{dropped_during:?}");
    }
}
