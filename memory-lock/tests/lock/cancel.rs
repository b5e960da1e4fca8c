//! Every call is dropped after each of its polls in turn. Afterwards no lease is held, no caller waits, and
//! no task is left.

use std::sync::Arc;

use crate::common::{Fault, FaultyBackend, Polls, key, ms, secs, until_tasks};
use memory_lock::{
    Clock, ClockExt as _, InProcessLock, LockBackend, LockManager, LockOperation, LockOptions,
    ReleaseOutcome,
};

const PLANS: [Option<Fault>; 6] = [
    None,
    Some(Fault::Late(ms(10))),
    Some(Fault::LateReply(ms(10))),
    Some(Fault::Sent(ms(10))),
    Some(Fault::DropReply),
    Some(Fault::DropRequest),
];
const CALLS: [LockOperation; 3] =
    [LockOperation::Acquire, LockOperation::Release, LockOperation::HandOver];

fn options() -> LockOptions {
    LockOptions::new().with_wait_timeout(secs(60))
}

/// The state is the same as before the call.
async fn assert_clean(backend: &FaultyBackend, manager: &LockManager, what: &str) {
    until_tasks(0).await;
    let stats = manager.stats();
    assert_eq!((stats.held, stats.waiting, stats.releasing), (0, 0, 0), "{what}");
    assert_eq!(manager.waiting(&key("k")), 0, "{what}");
    assert_eq!(backend.inner.inspect(&key("k")).await.unwrap(), None, "{what}");
    backend.heal();
    let guard = manager.lock(&key("k"), &options()).await.unwrap();
    assert_eq!(guard.release().await, ReleaseOutcome::Released, "{what}");
    until_tasks(0).await;
}

#[tokio::test(start_paused = true)]
async fn uncontended_acquisition_leaves_nothing() {
    for plan in PLANS {
        for polls in 0..40 {
            let backend = FaultyBackend::new();
            let manager = backend.manager();
            if let Some(fault) = plan {
                CALLS.iter().for_each(|call| backend.next(*call, fault));
            }
            let done = Polls::new(manager.lock(&key("k"), &options()), polls).await.is_some();
            assert_clean(&backend, &manager, &format!("{plan:?}, {polls} polls")).await;
            if done {
                break;
            }
            assert!(polls < 39, "it never ends");
        }
    }
}

/// The call in question waits behind a holder and before another waiter.
#[tokio::test(start_paused = true)]
async fn queued_acquisition_leaves_nothing() {
    for plan in PLANS {
        for polls in 0..40 {
            let backend = FaultyBackend::new();
            let manager = backend.manager();
            let first = manager.lock(&key("k"), &options()).await.unwrap();
            if let Some(fault) = plan {
                CALLS.iter().for_each(|call| backend.next(*call, fault));
            }
            let holder = tokio::spawn(async move {
                tokio::time::sleep(ms(50)).await;
                drop(first);
            });
            let locks = manager.clone();
            let last = tokio::spawn(async move {
                tokio::time::sleep(ms(20)).await;
                let guard = locks.lock(&key("k"), &options()).await.unwrap();
                guard.ensure_held().unwrap();
            });
            let done = Polls::new(manager.lock(&key("k"), &options()), polls).await.is_some();
            holder.await.unwrap();
            last.await.unwrap();
            assert_clean(&backend, &manager, &format!("{plan:?}, {polls} polls")).await;
            if done {
                break;
            }
            assert!(polls < 39, "it never ends");
        }
    }
}

/// Another process holds the lease.
#[tokio::test(start_paused = true)]
async fn contended_acquisition_leaves_nothing() {
    for plan in PLANS {
        for polls in 0..60 {
            let backend = FaultyBackend::new();
            let manager = backend.manager();
            let other = backend.manager();
            let held = other.lock(&key("k"), &options()).await.unwrap();
            if let Some(fault) = plan {
                backend.next(LockOperation::Acquire, fault);
            }
            let holder = tokio::spawn(async move {
                tokio::time::sleep(ms(50)).await;
                held.release().await
            });
            let done = Polls::new(manager.lock(&key("k"), &options()), polls).await.is_some();
            assert_eq!(holder.await.unwrap(), ReleaseOutcome::Released);
            assert_clean(&backend, &manager, &format!("{plan:?}, {polls} polls")).await;
            if done {
                break;
            }
            assert!(polls < 59, "it never ends");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn release_with_and_without_waiters_leaves_nothing() {
    for plan in PLANS {
        for in_line in [false, true] {
            for polls in 0..40 {
                let backend = FaultyBackend::new();
                let manager = backend.manager();
                let guard = manager.lock(&key("k"), &options()).await.unwrap();
                if let Some(fault) = plan {
                    CALLS.iter().for_each(|call| backend.next(*call, fault));
                }
                let locks = manager.clone();
                let next = in_line.then(|| {
                    tokio::spawn(async move {
                        let guard = locks.lock(&key("k"), &options()).await.unwrap();
                        guard.ensure_held().unwrap();
                    })
                });
                tokio::time::sleep(ms(5)).await;
                let done = Polls::new(guard.release(), polls).await.is_some();
                if let Some(next) = next {
                    next.await.unwrap();
                }
                let what = format!("{plan:?}, in line: {in_line}, {polls} polls");
                assert_clean(&backend, &manager, &what).await;
                if done {
                    break;
                }
                assert!(polls < 39, "it never ends");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn work_under_a_lease_leaves_nothing() {
    for plan in PLANS {
        for polls in 0..80 {
            let backend = FaultyBackend::new();
            let manager = backend.manager();
            if let Some(fault) = plan {
                CALLS.iter().for_each(|call| backend.next(*call, fault));
                backend.next(LockOperation::Renew, fault);
            }
            let work = |_| async {
                for _ in 0..4 {
                    tokio::time::sleep(secs(10)).await;
                }
            };
            let (key, options) = (key("k"), options());
            let call = manager.with_lock_refresh(&key, &options, work);
            let done = Polls::new(call, polls).await.is_some();
            assert_clean(&backend, &manager, &format!("{plan:?}, {polls} polls")).await;
            if done {
                break;
            }
            assert!(polls < 79, "it never ends");
        }
    }
}

/// In process no task is needed: the lease is free when the drop returns.
#[tokio::test(start_paused = true)]
async fn dropped_call_frees_an_in_process_lease() {
    for polls in 0..5 {
        let backend = Arc::new(InProcessLock::new(Clock::tokio()));
        let manager = LockManager::new(Arc::clone(&backend) as Arc<dyn LockBackend>);
        let work = |_| tokio::time::sleep(secs(1));
        let (key, options) = (key("k"), options());
        let call = manager.with_lock_refresh(&key, &options, work);
        let _ = Polls::new(call, polls).await;
        assert_eq!(backend.inspect(&key).await.unwrap(), None, "{polls} polls");
        assert_eq!((manager.stats().held, manager.stats().releasing), (0, 0));
    }
}
