//! A runtime that ends while others wait, or that is no longer driven: the others take over its work in
//! progress.

use std::sync::Arc;
use std::time::Duration;

use memory_lock::{
    LockBackend, LockErrorKind, LockGuard, LockManager, LockOperation, LockOptions, LostReason,
};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use super::waits::{Locking, kept};
use crate::common::{Fault, FaultyBackend, key, ms, secs};

/// The survivors do not wait for the TTL of a lease that was left behind, which is 30 s.
const SOON: Duration = secs(10);

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn patient() -> LockOptions {
    LockOptions::new().with_wait_timeout(secs(60))
}

/// Callers on this runtime that wait in line and each hold the lease for a moment.
fn waiters(survivor: &Runtime, manager: &LockManager, count: usize) -> Vec<JoinHandle<()>> {
    let before = manager.waiting(&key("k"));
    let spawn = |_| {
        let locks = manager.clone();
        survivor.spawn(async move {
            let guard = locks.lock(&key("k"), &patient()).await.unwrap();
            guard.ensure_held().unwrap();
        })
    };
    let tasks = (0..count).map(spawn).collect();
    survivor.block_on(async {
        while manager.waiting(&key("k")) < before + count {
            tokio::task::yield_now().await;
        }
    });
    tasks
}

fn all_served(survivor: &Runtime, tasks: Vec<JoinHandle<()>>) {
    survivor.block_on(async {
        for task in tasks {
            timeout(SOON, task).await.expect("not in time").unwrap();
        }
    });
}

#[test]
fn waiters_outlive_the_runtime_of_a_holder() {
    let faults = [Fault::Hang, Fault::LateReply(secs(60)), Fault::Late(secs(60))];
    for (fault, is_released) in faults.into_iter().flat_map(|fault| [(fault, true), (fault, false)])
    {
        let backend = FaultyBackend::new();
        let manager = backend.manager();
        let (ending, survivor) = (runtime(), runtime());
        let guard = ending.block_on(manager.lock(&key("k"), &patient())).unwrap();
        let tasks = waiters(&survivor, &manager, 10);
        backend.next(LockOperation::HandOver, fault);
        if is_released {
            // The hand-over is in progress when the runtime ends.
            ending.block_on(async { timeout(ms(20), guard.release()).await.unwrap_err() });
        } else {
            // It starts when the runtime ends.
            ending.spawn(async move {
                let _guard = guard;
                std::future::pending::<()>().await;
            });
        }
        drop(ending);
        all_served(&survivor, tasks);
    }
}

#[test]
fn waiters_outlive_the_runtime_of_a_requester() {
    for fault in [Fault::Hang, Fault::LateReply(secs(60))] {
        let backend = FaultyBackend::new();
        let manager = backend.manager();
        let (ending, survivor) = (runtime(), runtime());
        backend.next(LockOperation::Acquire, fault);
        let locks = manager.clone();
        let asks = async move { timeout(ms(20), locks.lock(&key("k"), &patient())).await };
        ending.block_on(async {
            let asking = tokio::spawn(asks);
            while backend.calls(LockOperation::Acquire).is_empty() {
                tokio::task::yield_now().await;
            }
            drop(asking);
        });
        let tasks = waiters(&survivor, &manager, 3);
        drop(ending);
        all_served(&survivor, tasks);
    }
}

#[test]
fn waiters_outlive_the_runtime_of_a_contender() {
    let backend = FaultyBackend::new();
    let (manager, other_process) = (backend.manager(), backend.manager());
    let (ending, survivor) = (runtime(), runtime());
    let foreign = survivor.block_on(other_process.lock(&key("k"), &patient())).unwrap();
    let contender = waiters(&ending, &manager, 1);
    let tasks = waiters(&survivor, &manager, 3);
    drop((ending, contender));
    survivor.block_on(foreign.release());
    all_served(&survivor, tasks);
}

#[test]
fn next_caller_frees_leases_of_an_ended_runtime() {
    let backend = FaultyBackend::new();
    let manager = backend.manager();
    let (ending, survivor) = (runtime(), runtime());
    let guard = ending.block_on(manager.lock(&key("k"), &patient())).unwrap();
    let owner = guard.proof().owner;
    backend.next(LockOperation::Release, Fault::Hang);
    ending.block_on(async { timeout(ms(20), guard.release()).await.unwrap_err() });
    drop(ending);
    survivor.block_on(async {
        // The request was lost with its runtime.
        let left = backend.inner.inspect(&key("k")).await.unwrap();
        assert_eq!(left.map(|lease| lease.owner), Some(owner));
        let begun = Instant::now();
        drop(manager.lock(&key("k"), &patient()).await.unwrap());
        assert!(begun.elapsed() < SOON);
        assert!(manager.try_lock(&key("k"), &patient()).await.unwrap().is_some());
    });
}

#[test]
fn remaining_runtime_refreshes_leases() {
    let backend = FaultyBackend::new();
    let manager = backend.manager();
    let (ending, also_ending, survivor) = (runtime(), runtime(), runtime());
    let short = LockOptions::new().with_ttl(ms(900)).with_refresh_interval(ms(50));
    let mut guards = Vec::new();
    for (runtime, name) in [(&ending, "a"), (&also_ending, "b"), (&survivor, "c")] {
        guards.push(runtime.block_on(manager.lock(&key(name), &short)).unwrap());
    }
    drop(also_ending);
    drop(ending);
    survivor.block_on(async {
        tokio::time::sleep(ms(1_200)).await;
        assert!(guards.iter().all(|guard| guard.ensure_held().is_ok()));
    });
}

/// A call that was polled once on this runtime and is kept.
fn kept_on(runtime: &Runtime, manager: &LockManager) -> Locking {
    let _inside = runtime.enter();
    kept(manager)
}

#[test]
fn waiters_on_undriven_runtime_do_not_block_others() {
    for is_late in [false, true] {
        let backend = FaultyBackend::new();
        let manager = backend.manager();
        let (undriven, driven) = (runtime(), runtime());
        let guard = driven.block_on(manager.lock(&key("k"), &patient())).unwrap();
        // The calls on the other runtime start before or after this one is no longer driven.
        let mut tasks = Vec::new();
        let mut all_kept = vec![kept_on(&undriven, &manager)];
        if is_late {
            all_kept.push(kept_on(&undriven, &manager));
        }
        tasks.extend(waiters(&driven, &manager, 3));
        if !is_late {
            all_kept.push(kept_on(&undriven, &manager));
        }
        driven.block_on(guard.release());
        all_served(&driven, tasks);
        // Their runtime serves them once it is driven again.
        for call in all_kept {
            drop(undriven.block_on(call).unwrap());
        }
    }
}

/// Waits until each lease was renewed twice from now on.
async fn renewed_twice(guards: &[&LockGuard]) {
    for _ in 0..2 {
        let before: Vec<_> = guards.iter().map(|guard| guard.deadline()).collect();
        let renewed = async {
            while guards.iter().zip(&before).any(|(guard, before)| guard.deadline() <= *before) {
                tokio::time::sleep(ms(5)).await;
            }
        };
        timeout(secs(60), renewed).await.expect("leases are not renewed");
    }
    for guard in guards {
        guard.ensure_held().unwrap();
    }
}

#[test]
fn leases_are_refreshed_beside_an_undriven_runtime() {
    for is_under_way in [false, true] {
        let backend = FaultyBackend::new();
        let manager = backend.manager();
        let (undriven, driven) = (runtime(), runtime());
        let short = LockOptions::new().with_ttl(secs(20)).with_refresh_interval(ms(50));
        if is_under_way {
            backend.next(LockOperation::Renew, Fault::Hang);
        }
        let stalled = undriven.block_on(async {
            let guard = manager.lock(&key("stalled"), &short).await.unwrap();
            while is_under_way && backend.calls(LockOperation::Renew).is_empty() {
                tokio::task::yield_now().await;
            }
            guard
        });
        driven.block_on(async {
            let guard = manager.lock(&key("k"), &short).await.unwrap();
            // If a lease is held there, the task there also refreshes those of the other runtime.
            renewed_twice(&[&guard, &stalled]).await;
        });
    }
}

#[test]
fn leases_held_before_a_runtime_stalls_are_refreshed() {
    let backend = FaultyBackend::new();
    let manager = backend.manager();
    let (undriven, driven) = (runtime(), runtime());
    let short = LockOptions::new().with_ttl(secs(20)).with_refresh_interval(ms(50));
    let first = undriven.block_on(manager.lock(&key("first"), &short)).unwrap();
    let guard = driven.block_on(manager.lock(&key("k"), &short)).unwrap();
    undriven.block_on(async {
        while backend.calls(LockOperation::Renew).is_empty() {
            tokio::task::yield_now().await;
        }
    });
    driven.block_on(async {
        renewed_twice(&[&guard, &first]).await;
    });
}

#[tokio::test(start_paused = true)]
async fn only_a_shutdown_refuses_waiters() {
    let backend: Arc<FaultyBackend> = FaultyBackend::new();
    let manager = backend.manager();
    let guard = manager.lock(&key("k"), &patient()).await.unwrap();
    let locks = manager.clone();
    let waiter = tokio::spawn(async move { locks.lock(&key("k"), &patient()).await });
    while manager.waiting(&key("k")) == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(manager.shutdown(secs(1)).await, 1);
    assert_eq!(guard.ensure_held().unwrap_err().reason, LostReason::ShutDown);
    let error = waiter.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), &LockErrorKind::ShutDown);
}
