//! Keeping a lease, and detecting its loss.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::common::{Fault, FaultyBackend, key, ms, secs, until_tasks};
use memory_lock::{
    LockBackend, LockManager, LockOperation, LockOptions, LostReason, OwnerId, ReleaseOutcome,
    WithLockError,
};
use tokio::time::Instant;

/// TTL 30 s less 1 % and 2 ms.
const LEASE: Duration = ms(29_698);

fn lost<T>(result: Result<T, WithLockError<T>>) -> (LostReason, Option<T>) {
    match result {
        Err(WithLockError::Lost { reason, output, .. }) => (reason, output),
        Err(WithLockError::Acquire(error)) => panic!("not acquired: {error}"),
        Ok(_) => panic!("not lost"),
    }
}

async fn sleeping(manager: &LockManager, time: Duration) -> Result<(), WithLockError<()>> {
    let work = |_| tokio::time::sleep(time);
    manager.with_lock_refresh(&key("k"), &LockOptions::new(), work).await
}

#[tokio::test(start_paused = true)]
async fn refreshed_lease_outlives_its_ttl() {
    let backend = FaultyBackend::new();
    let manager = backend.manager();
    let begun = Instant::now();
    sleeping(&manager, secs(300)).await.unwrap();
    let renewals = backend.calls(LockOperation::Renew);
    assert_eq!(renewals[0].0 - begun, secs(15));
    assert!((19..=20).contains(&renewals.len()), "{renewals:?}");
    assert_eq!(manager.stats().refreshed, renewals.len() as u64);
    assert_eq!(backend.inner.inspect(&key("k")).await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn deadline_counts_from_before_the_request() {
    let backend = FaultyBackend::new();
    let begun = Instant::now();
    backend.next(LockOperation::Acquire, Fault::LateReply(secs(4)));
    let guard = backend.manager().lock(&key("k"), &LockOptions::new()).await.unwrap();
    assert_eq!(Instant::now() - begun, secs(4));
    assert_eq!(guard.deadline() - begun, LEASE);

    backend.next(LockOperation::Renew, Fault::LateReply(ms(1_500)));
    tokio::time::sleep(secs(18)).await;
    // The refresh was due 15 s after the grant, which was 4 s late.
    assert_eq!(guard.deadline() - begun, secs(19) + LEASE);
}

#[tokio::test(start_paused = true)]
async fn one_failed_refresh_disturbs_nothing() {
    for fault in [Fault::DropRequest, Fault::DropReply, Fault::Hang, Fault::Late(secs(3))] {
        let backend = FaultyBackend::new();
        let manager = backend.manager();
        backend.next(LockOperation::Renew, fault);
        sleeping(&manager, secs(40)).await.unwrap();
        let stats = manager.stats();
        assert_eq!((stats.refresh_failed, stats.lost), (1, 0), "{fault:?}");
        assert!(stats.refreshed >= 1, "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn unrefreshed_lease_is_lost_exactly_at_its_deadline() {
    for fault in [Fault::DropRequest, Fault::Hang, Fault::Refuse] {
        let backend = FaultyBackend::new();
        let manager = backend.manager();
        backend.always(LockOperation::Renew, fault);
        let begun = Instant::now();
        let (reason, output) = lost(sleeping(&manager, secs(300)).await);
        assert_eq!((reason, output), (LostReason::Expired, None));
        let after = Instant::now() - begun;
        assert!((LEASE..LEASE + ms(2)).contains(&after), "{fault:?}: {after:?}");
        let attempts = backend.calls(LockOperation::Renew).len();
        assert!(attempts > 5, "{fault:?}: {attempts} attempts");
        assert_eq!(manager.stats().lost, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn answer_after_the_deadline_changes_nothing() {
    let backend = FaultyBackend::new();
    let guard = backend.manager().lock(&key("k"), &LockOptions::new()).await.unwrap();
    backend.always(LockOperation::Renew, Fault::LateReply(secs(60)));
    assert_eq!(guard.lost().await, LostReason::Expired);
    tokio::time::sleep(secs(120)).await;
    assert_eq!(guard.ensure_held().unwrap_err().reason, LostReason::Expired);
}

#[tokio::test(start_paused = true)]
async fn refresh_notices_another_owner_or_none() {
    for (stolen, expected) in [(true, LostReason::Stolen), (false, LostReason::Vanished)] {
        let backend = FaultyBackend::new();
        let manager = backend.manager();
        let begun = Instant::now();
        let thief = Arc::clone(&backend);
        let work = |lease: memory_lock::LeaseScope| async move {
            thief.inner.release(lease.key(), lease.proof().owner).await.unwrap();
            if stolen {
                let other = OwnerId::new(1);
                thief.inner.try_acquire(lease.key(), other, secs(60)).await.unwrap();
            }
            assert!(lease.ensure_held().is_ok());
            tokio::time::sleep(secs(300)).await;
        };
        let result = manager.with_lock_refresh(&key("k"), &LockOptions::new(), work).await;
        assert_eq!(lost(result), (expected, None));
        assert_eq!(Instant::now() - begun, secs(15));
    }
}

#[tokio::test(start_paused = true)]
async fn theft_found_at_release_is_an_error() {
    let backend = FaultyBackend::new();
    let thief = Arc::clone(&backend);
    let work = |lease: memory_lock::LeaseScope| async move {
        thief.inner.release(lease.key(), lease.proof().owner).await.unwrap();
        7
    };
    let result = backend.manager().with_lock_refresh(&key("k"), &LockOptions::new(), work).await;
    assert_eq!(lost(result), (LostReason::Stolen, Some(7)));
}

#[tokio::test(start_paused = true)]
async fn unanswered_release_before_the_deadline_is_resent() {
    let backend = FaultyBackend::new();
    let manager = backend.manager();
    backend.next(LockOperation::Release, Fault::DropRequest);
    backend.next(LockOperation::Release, Fault::Hang);
    sleeping(&manager, secs(1)).await.unwrap();
    assert!(backend.inner.inspect(&key("k")).await.unwrap().is_some());
    until_tasks(0).await;
    assert_eq!(backend.inner.inspect(&key("k")).await.unwrap(), None);
    assert_eq!(backend.calls(LockOperation::Release).len(), 3);
}

#[tokio::test(start_paused = true)]
async fn max_hold_ends_a_stuck_holder() {
    let backend = FaultyBackend::new();
    let options = LockOptions::new().with_max_hold(Some(secs(100)));
    let begun = Instant::now();
    let manager = backend.manager();
    let work = |_| std::future::pending::<()>();
    let result = manager.with_lock_refresh(&key("k"), &options, work).await;
    assert_eq!(lost(result).0, LostReason::MaxHold);
    assert!((secs(100)..secs(100) + ms(2)).contains(&(Instant::now() - begun)));
    until_tasks(0).await;
    assert_eq!(backend.inner.inspect(&key("k")).await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn lost_lease_passes_to_the_next_waiter() {
    let backend = FaultyBackend::new();
    let manager = backend.manager();
    let options = LockOptions::new().with_wait_timeout(secs(120));
    let stuck = manager.lock(&key("k"), &options).await.unwrap();
    backend.always(LockOperation::Renew, Fault::Hang);
    // The guard is still alive in a task that does not check it.
    let next = manager.lock(&key("k"), &options).await.unwrap();
    assert!(next.fence() > stuck.fence());
    assert_eq!(stuck.ensure_held().unwrap_err().reason, LostReason::Expired);
    assert_eq!(stuck.release().await, ReleaseOutcome::NotOwner);
    assert!(next.ensure_held().is_ok());
}

#[tokio::test(start_paused = true)]
async fn without_refresh_a_guard_ends_with_its_ttl() {
    let backend = FaultyBackend::new();
    let begun = Instant::now();
    let options = LockOptions::new().without_refresh();
    let guard = backend.manager().lock(&key("k"), &options).await.unwrap();
    assert_eq!(guard.lost().await, LostReason::Expired);
    assert!(Instant::now() - begun < LEASE + ms(2));
    assert!(backend.calls(LockOperation::Renew).is_empty());
}

/// A task that waits for the loss may only run after the guard is dropped.
#[tokio::test(start_paused = true)]
async fn loss_is_reported_after_its_guard_is_dropped() {
    let manager = FaultyBackend::new().manager();
    let options = LockOptions::new().without_refresh();
    let guard = manager.lock(&key("k"), &options).await.unwrap();
    let (scope, lost) = (guard.scope(), guard.lost());
    tokio::time::sleep(LEASE).await;
    guard.ensure_held().unwrap_err();
    drop(guard);
    assert_eq!(tokio::time::timeout(secs(1), lost).await, Ok(LostReason::Expired));
    assert_eq!(tokio::time::timeout(secs(1), scope.lost()).await, Ok(LostReason::Expired));
}

#[tokio::test(start_paused = true)]
async fn release_ends_refreshes_and_their_task() {
    let backend = FaultyBackend::new();
    let manager = backend.manager();
    for _ in 0..3 {
        let guard = manager.lock(&key("k"), &LockOptions::new()).await.unwrap();
        tokio::time::sleep(secs(16)).await;
        assert_eq!(guard.release().await, ReleaseOutcome::Released);
        until_tasks(0).await;
    }
    let before = backend.calls(LockOperation::Renew).len();
    assert_eq!(before, 3);
    tokio::time::sleep(secs(100)).await;
    assert_eq!(backend.calls(LockOperation::Renew).len(), before);
    assert_eq!(manager.stats().held, 0);
}

#[tokio::test(start_paused = true)]
async fn many_leases_are_refreshed_together() {
    let backend = FaultyBackend::new();
    let manager = backend.manager();
    let mut guards = Vec::new();
    for n in 0..300 {
        guards.push(manager.lock(&key(&format!("k{n}")), &LockOptions::new()).await.unwrap());
        if n % 100 == 0 {
            tokio::time::sleep(ms(10)).await;
        }
    }
    tokio::time::sleep(secs(15)).await;
    let renewals = backend.calls(LockOperation::Renew);
    assert_eq!(renewals.iter().map(|(_, leases)| leases).sum::<usize>(), 300);
    assert!(renewals.len() <= 4, "{} calls", renewals.len());
    assert!(guards.iter().all(|guard| guard.ensure_held().is_ok()));
}

#[tokio::test(start_paused = true)]
async fn urgent_lease_does_not_shorten_timeouts_of_others() {
    let backend = FaultyBackend::new();
    let manager = backend.manager();
    let begun = Instant::now();
    let mut well = Vec::new();
    for n in 0..40 {
        well.push(manager.lock(&key(&format!("k{n}")), &LockOptions::new()).await.unwrap());
        tokio::time::sleep(ms(25)).await;
    }
    // Its answers may take a quarter of a second, those of the others two seconds.
    backend.always(LockOperation::Renew, Fault::LateReply(ms(300)));
    tokio::time::sleep_until(begun + secs(14)).await;
    let hurried = LockOptions::new().with_ttl(secs(2));
    let hurried = manager.lock(&key("hurried"), &hurried).await.unwrap();
    assert_eq!(hurried.lost().await, LostReason::Expired);
    tokio::time::sleep_until(begun + secs(18)).await;
    for (n, guard) in (0..).zip(&well) {
        // At their first attempt, which may be early to be batched with another.
        let due = begun + ms(25 * n) + secs(15) + LEASE;
        assert!((due - ms(52)..=due + ms(2)).contains(&guard.deadline()), "lease {n}");
    }
}

#[tokio::test]
async fn refresh_answered_late_does_not_revive_the_lease() {
    let backend = FaultyBackend::new();
    let options = LockOptions::new().with_ttl(ms(400)).with_refresh_interval(ms(200));
    let guard = backend.manager().lock(&key("k"), &options).await.unwrap();
    backend.next(LockOperation::Renew, Fault::LateReply(ms(100)));
    backend.until_called(LockOperation::Renew).await;
    // The answer arrives meanwhile, and would move the deadline to about 590 ms.
    block(ms(260));
    tokio::time::sleep(ms(5)).await;
    assert_eq!(guard.ensure_held().unwrap_err().reason, LostReason::Expired);
}

#[tokio::test(start_paused = true)]
async fn loss_drops_work_at_next_await_point() {
    struct Dropped(Arc<AtomicBool>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    let backend = FaultyBackend::new();
    backend.always(LockOperation::Renew, Fault::DropRequest);
    let dropped = Arc::new(AtomicBool::new(false));
    let witness = Dropped(Arc::clone(&dropped));
    let manager = backend.manager();
    let work = |_| async move {
        let _witness = witness;
        // Often ready, so that only the bias towards the loss ends it in time.
        loop {
            tokio::time::sleep(ms(1)).await;
        }
    };
    let result: Result<(), _> =
        manager.with_lock_refresh(&key("k"), &LockOptions::new(), work).await;
    assert_eq!(lost(result).0, LostReason::Expired);
    assert!(dropped.load(Ordering::SeqCst));
}

#[expect(clippy::disallowed_methods, reason = "simulates work that blocks its thread")]
fn block(time: Duration) {
    std::thread::sleep(time);
}

/// Two runs, which differ in whether the backend still held the lease.
#[tokio::test]
async fn late_work_is_ok_only_if_release_confirms() {
    let options = LockOptions::new().with_ttl(ms(60));
    for (stretch, held) in [(100, true), (1, false)] {
        let manager = FaultyBackend::stretched(stretch).manager();
        let work = async |_| {
            block(ms(90));
            "done"
        };
        let result = manager.with_lock_refresh(&key("k"), &options, work).await;
        if held {
            assert_eq!(result.unwrap(), "done");
            assert_eq!(manager.stats().late_but_held, 1);
        } else {
            assert_eq!(lost(result), (LostReason::Expired, Some("done")));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lease_of_blocking_work_is_refreshed() {
    let backend = FaultyBackend::new();
    let manager = backend.manager();
    let options = LockOptions::new().with_ttl(ms(800)).with_refresh_interval(ms(100));
    let task = tokio::spawn({
        let manager = manager.clone();
        async move {
            let work = async |_| block(ms(1_800));
            manager.with_lock_refresh(&key("k"), &options, work).await
        }
    });
    task.await.unwrap().unwrap();
    assert!(manager.stats().refreshed >= 3, "{:?}", manager.stats());
}

#[tokio::test(start_paused = true)]
async fn work_does_not_start_without_the_lease() {
    let backend = FaultyBackend::new();
    let manager = backend.manager();
    backend.always(LockOperation::Acquire, Fault::Refuse);
    let work = async |_| panic!("begun without the lease");
    let result = manager.with_lock_refresh(&key("k"), &LockOptions::new(), work).await;
    let Err(WithLockError::<()>::Acquire(error)) = result else { panic!("no error") };
    assert_eq!(error.kind(), &memory_lock::LockErrorKind::Refused);
    assert_eq!(error.key(), Some(&key("k")));
}

/// Not `Debug`.
struct Output(u32);

#[tokio::test(start_paused = true)]
async fn errors_convert_with_the_question_mark() {
    async fn boxed_send(
        manager: &LockManager,
    ) -> Result<u32, Box<dyn std::error::Error + Send + Sync>> {
        let work = |_| async { Output(7) };
        Ok(manager.with_lock_refresh(&key("k"), &LockOptions::new(), work).await?.0)
    }
    async fn boxed(manager: &LockManager) -> Result<u32, Box<dyn std::error::Error>> {
        let work = |_| async { std::cell::Cell::new(7) };
        let done = manager.with_lock_refresh(&key("k"), &LockOptions::new(), work).await;
        Ok(done.map_err(WithLockError::without_output)?.get())
    }
    let backend = FaultyBackend::new();
    let manager = backend.manager();
    assert_eq!(boxed_send(&manager).await.unwrap(), 7);
    assert_eq!(boxed(&manager).await.unwrap(), 7);
    assert_eq!(manager.shutdown(Duration::ZERO).await, 0);
    boxed_send(&manager).await.unwrap_err();
    boxed(&manager).await.unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn revoked_lease_is_free_and_its_work_ends() {
    let backend = FaultyBackend::new();
    let manager = backend.manager();
    let guard = manager.lock(&key("k"), &LockOptions::new()).await.unwrap();
    let (scope, other) = (guard.scope(), backend.manager());
    assert_eq!(manager.revoke(&scope).await, ReleaseOutcome::Released);
    assert_eq!(guard.ensure_held().unwrap_err().reason, LostReason::ShutDown);
    assert_eq!(scope.lost().await, LostReason::ShutDown);
    let next = other.try_lock(&key("k"), &LockOptions::new()).await.unwrap().unwrap();
    assert_eq!(manager.revoke(&scope).await, ReleaseOutcome::NotOwner);
    drop(guard);
    next.ensure_held().unwrap();
    assert_eq!(next.release().await, ReleaseOutcome::Released);

    let (tell, told) = tokio::sync::oneshot::channel();
    let work = async |scope| {
        tell.send(scope).unwrap();
        std::future::pending::<()>().await;
    };
    let options = LockOptions::new();
    let lock = key("k");
    let work = manager.with_lock_refresh(&lock, &options, work);
    let (done, _) = tokio::join!(work, async { manager.revoke(&told.await.unwrap()).await });
    assert_eq!(lost(done), (LostReason::ShutDown, None));
}
