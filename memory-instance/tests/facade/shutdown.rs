//! Graceful shutdown of a manager.

use std::sync::Arc;
use std::time::Duration;

use memory_core::Message;
use memory_core::health::Verdict;
use memory_flush::{Summarizer, from_fn};
use memory_instance::{
    ExclusiveError, FlushMode, ManagerBuilder, MemoryError, MemoryInstance, MemoryManager, Session,
};
use memory_lock::{LockKey, LockOptions, LostReason};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::flush::fill;
use crate::logs::Logs;
use crate::support::{On, World, assert_distinct, checked, hybrid, texts, url, with};

on_every_backend![
    appends_work_after_shutdown_but_nothing_starts,
    unpolled_turn_loses_its_lease;
    paused_clock:
    running_flush_commits_within_the_grace,
    hung_flush_is_abandoned_and_reported,
    hung_turn_is_dropped_and_its_lease_released,
    concurrent_shutdowns_agree,
    dropped_manager_loses_no_message,
];

const GRACE: Duration = Duration::from_secs(10);

/// A summarizer that takes this long, and the number of its calls.
fn slow(takes: Duration) -> (Arc<dyn Summarizer>, watch::Receiver<u64>) {
    let (counting, asked) = watch::channel(0);
    let slow = from_fn("slow", move |_| {
        counting.send_modify(|count| *count += 1);
        async move {
            tokio::time::sleep(takes).await;
            Ok("a summary".to_owned())
        }
    });
    (slow, asked)
}

fn summarizing(summarizer: Arc<dyn Summarizer>) -> ManagerBuilder {
    let builder = with(hybrid(4_000)).with_summarizer(summarizer);
    builder.with_summarizer_time_limit(Duration::from_secs(1_000_000))
}

/// Appends until the summarizer is called.
async fn until_asked(memory: &MemoryInstance, asked: &watch::Receiver<u64>) -> u64 {
    let mut appended = 0;
    while *asked.borrow() == 0 {
        fill(memory, 10).await;
        appended += 10;
        tokio::task::yield_now().await;
    }
    appended
}

/// Asserts that another process can take both leases.
async fn assert_leases_are_free(world: &World) {
    let key = world.memory().key().clone();
    for name in [key.lease_name().to_owned(), key.flush_lease_name()] {
        let lease = LockKey::new(name).unwrap();
        let held = world.manager.locks().inspect(&lease).await.unwrap();
        assert!(held.is_none(), "a leaked lease: {held:?}");
        let guard = world.manager.locks().try_lock(&lease, &LockOptions::new()).await.unwrap();
        guard.expect("the lease is free").release().await;
    }
}

async fn running_flush_commits_within_the_grace(on: On) {
    let (summarizer, asked) = slow(Duration::from_secs(5));
    let world = on.world(summarizing(summarizer)).await;
    let memory = world.memory();
    until_asked(&memory, &asked).await;
    let began = Instant::now();
    let report = world.manager.shutdown(GRACE).await;
    assert!(report.is_complete() && report.finished_flushes == 1, "{report:?}");
    assert!(began.elapsed() < Duration::from_secs(6), "it waited for nothing else");
    let receipts = memory.receipts().await.unwrap();
    assert_eq!(receipts.len(), 1);
    assert_eq!(receipts[0].summary.as_ref().unwrap().summarizer, "slow");
    assert_leases_are_free(&world).await;
    checked(&memory, &world.manager).await;
}

async fn hung_flush_is_abandoned_and_reported(on: On) {
    for (grace, by_hand) in [(GRACE, false), (Duration::ZERO, false), (GRACE, true)] {
        let (logs, _guard) = Logs::capture();
        let (summarizer, asked) = slow(Duration::from_secs(100_000));
        let mode = if by_hand { FlushMode::Manual } else { FlushMode::Background };
        let world = on.world(summarizing(summarizer).with_flush_mode(mode)).await;
        let memory = world.memory();
        let flush = by_hand.then(|| {
            let memory = memory.clone();
            tokio::spawn(async move {
                fill(&memory, 600).await;
                memory.perform_flush().await
            })
        });
        let appended = if by_hand {
            asked.clone().wait_for(|count| *count > 0).await.unwrap();
            600
        } else {
            until_asked(&memory, &asked).await
        };
        let began = Instant::now();
        let report = world.manager.shutdown(grace).await;
        assert!(began.elapsed() <= grace + Duration::from_millis(10), "{:?}", began.elapsed());
        assert_eq!(report.abandoned_flushes, [memory.key().clone()]);
        assert!(report.unreleased_leases.is_empty() && !report.is_complete(), "{report:?}");
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["abandoned_flushes"][0], "default:m:k");
        if let Some(flush) = flush {
            let error = flush.await.unwrap().unwrap_err();
            assert!(matches!(error, MemoryError::ShutDown { .. }), "{error}");
        }
        assert_leases_are_free(&world).await;
        assert_eq!(memory.len().await.unwrap(), appended, "no message is lost");
        assert_eq!(memory.health().await.unwrap().last_flush_error, None);
        assert!(logs.containing("flush failed").is_empty());
        assert_eq!(logs.containing("flush abandoned").len(), 1);
        checked(&memory, &world.manager).await;
    }
}

async fn hung_turn_is_dropped_and_its_lease_released(on: On) {
    let world = on.world(with(hybrid(4_000))).await;
    let memory = world.memory();
    let begun = Arc::<Notify>::default();
    let turn = |begun: Arc<Notify>| {
        let memory = memory.clone();
        tokio::spawn(async move {
            let turn = |session: Session| async move {
                session.append(Message::user("within the turn")).await.unwrap();
                begun.notify_one();
                std::future::pending::<()>().await;
            };
            memory.exclusive(turn).await
        })
    };
    let first = turn(Arc::clone(&begun));
    begun.notified().await;
    let in_line = turn(Arc::clone(&begun));
    tokio::task::yield_now().await;
    let report = world.manager.shutdown(Duration::from_secs(1)).await;
    assert_eq!(report.abandoned_turns.len(), 2, "{report:?}");
    assert!(report.unreleased_leases.is_empty(), "{report:?}");
    let error = first.await.unwrap().unwrap_err();
    assert!(
        matches!(error, ExclusiveError::Lost { reason: LostReason::ShutDown, output: None, .. }),
        "{error}"
    );
    let error = in_line.await.unwrap().unwrap_err();
    assert!(matches!(error, ExclusiveError::Begin(_)), "{error}");
    assert_leases_are_free(&world).await;
    assert_eq!(texts(&memory).await, ["within the turn"]);
}

async fn appends_work_after_shutdown_but_nothing_starts(on: On) {
    let (summarizer, asked) = slow(Duration::ZERO);
    let world = on.world(summarizing(summarizer)).await;
    let memory = world.memory();
    let report = world.manager.shutdown(GRACE).await;
    assert!(report.is_complete() && report.finished_flushes == 0, "{report:?}");
    fill(&memory, 600).await;
    assert_eq!(memory.len().await.unwrap(), 600);
    assert!(memory.context(1_000).await.unwrap().tokens <= 1_000);
    for refused in [
        memory.perform_flush().await.map(drop).unwrap_err(),
        memory.flush_in_background().await.unwrap_err(),
    ] {
        assert_eq!(
            refused.to_string(),
            "flush default:m:k: the manager is shut down; open another manager"
        );
        assert!(!refused.is_retryable());
    }
    let refused = memory.exclusive(|_| async {}).await.unwrap_err();
    assert!(refused.to_string().contains("shut down"), "{refused}");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(*asked.borrow(), 0, "a flush was begun");
    let health = memory.health().await.unwrap();
    assert_eq!(health.last_flush_error, None);
    assert!(matches!(health.verdict, Verdict::Degraded { .. }), "a flush is due");
}

async fn concurrent_shutdowns_agree(on: On) {
    let (summarizer, asked) = slow(Duration::from_secs(100_000));
    let world = on.world(summarizing(summarizer)).await;
    let memory = world.memory();
    until_asked(&memory, &asked).await;
    // A dropped shutdown does not affect the running flush.
    let dropped = tokio::time::timeout(Duration::from_secs(1), world.manager.shutdown(GRACE));
    dropped.await.unwrap_err();
    assert!(memory.perform_flush().await.is_err(), "it has begun");
    let again = world.manager.clone();
    let began = Instant::now();
    let (long, short) =
        tokio::join!(world.manager.shutdown(GRACE), again.shutdown(Duration::from_secs(2)));
    assert!(began.elapsed() < Duration::from_secs(3), "the shortest grace counts");
    assert_eq!(long.abandoned_flushes, [memory.key().clone()]);
    assert_eq!(short.abandoned_flushes, long.abandoned_flushes);
    let last = world.manager.shutdown(Duration::MAX).await;
    assert_eq!(last.abandoned_flushes, long.abandoned_flushes, "it is over: nothing is waited for");
    assert_leases_are_free(&world).await;
}

async fn unpolled_turn_loses_its_lease(on: On) {
    let world = on.world(with(hybrid(4_000))).await;
    let memory = world.memory();
    let (tell, told) = tokio::sync::oneshot::channel();
    let turn = |session: Session| async move {
        tell.send(session.clone()).ok().unwrap();
        std::future::pending::<()>().await;
    };
    let mut kept = Box::pin(memory.exclusive(turn));
    let session = tokio::select! {
        _ = &mut kept => panic!("it is pending"),
        session = told => session.unwrap(),
    };
    let report = world.manager.shutdown(Duration::ZERO).await;
    assert_eq!(report.abandoned_turns, [memory.key().clone()]);
    assert!(report.unreleased_leases.is_empty(), "{report:?}");
    assert_leases_are_free(&world).await;
    let refused = session.append(Message::user("too late")).await.unwrap_err();
    assert!(refused.is_fenced(), "{refused}");
    assert!(matches!(kept.await, Err(ExclusiveError::Lost { .. })));
}

async fn dropped_manager_loses_no_message(on: On) {
    let (summarizer, asked) = slow(Duration::from_secs(5));
    let world = on.world(summarizing(summarizer)).await;
    let (memory, store) = (world.memory(), Arc::clone(world.manager.store()));
    let appended = until_asked(&memory, &asked).await;
    let (key, World { manager, folder, .. }) = (memory.key().clone(), world);
    drop((manager, memory));
    let head = || async { store.head(&key).await.unwrap().counters };
    assert_eq!(head().await.present.messages, appended);
    tokio::time::sleep(Duration::from_secs(6)).await;
    let counters = head().await;
    assert_eq!(counters.summaries, 1, "on a runtime that lives the flush goes on");
    assert!(counters.is_conserved() && counters.appended == appended, "{counters:?}");
    drop(folder);
}

/// A summarizer that blocks its thread cannot be dropped. The shutdown revokes its lease, and the store refuses its
/// write. The flush and the shutdown run on different runtimes.
#[test]
fn blocked_flush_is_fenced_off() {
    const BOUND: Duration = Duration::from_secs(60);
    let runtime = || tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    // Dropped after `release`, so that a failing test does not wait for the blocked thread.
    let (working, closing) = (runtime(), runtime());
    let folder = tempfile::tempdir().unwrap();
    let (begun, begins) = std::sync::mpsc::channel();
    let (release, released) = std::sync::mpsc::channel::<()>();
    let released = std::sync::Mutex::new(released);
    let blocks = from_fn("blocks", move |_| {
        begun.send(()).unwrap();
        // Returns an error if the test has failed.
        let _ = released.lock().unwrap().recv();
        async { Ok("a summary".to_owned()) }
    });
    let open = || async {
        let builder = MemoryManager::builder()
            .with_resource(hybrid(1_000))
            .with_flush_mode(FlushMode::Manual);
        builder.with_summarizer(Arc::clone(&blocks)).open(&url(&folder)).await.unwrap()
    };
    let manager = working.block_on(open());
    let memory = manager.memory("m", "k").unwrap();
    let flusher = memory.clone();
    let flush = working.spawn(async move {
        fill(&flusher, 200).await;
        flusher.perform_flush().await
    });
    begins.recv_timeout(BOUND).expect("no flush has begun");
    let shutdown = async { tokio::time::timeout(BOUND, manager.shutdown(Duration::ZERO)).await };
    let report = closing.block_on(shutdown).expect("the shutdown waits for the flush");
    assert_eq!(report.abandoned_flushes, [memory.key().clone()]);
    assert!(report.unreleased_leases.is_empty(), "{report:?}");
    let lease = LockKey::new(memory.key().flush_lease_name()).unwrap();
    let other = closing.block_on(open());
    assert_eq!(closing.block_on(other.locks().inspect(&lease)).unwrap(), None);
    release.send(()).unwrap();
    let flush = async { tokio::time::timeout(BOUND, flush).await };
    let error = working.block_on(flush).expect("the flush does not end").unwrap().unwrap_err();
    assert!(matches!(error, MemoryError::ShutDown { .. }), "{error}");
    let texts = closing.block_on(texts(&memory));
    assert_eq!(texts.len(), 200, "nothing was committed");
    assert_distinct(&texts);
}

/// The runtime of a flush is dropped during the grace; a shutdown on another runtime notices.
#[test]
fn flush_whose_runtime_is_dropped_is_abandoned() {
    let runtime = || {
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
    };
    let (working, closing) = (runtime(), runtime());
    let (summarizer, asked) = slow(Duration::from_secs(100_000));
    let builder = MemoryManager::builder().with_resource(hybrid(4_000)).with_summarizer(summarizer);
    let manager = closing.block_on(builder.open("memory://")).unwrap();
    let memory = manager.memory("m", "k").unwrap();
    let writer = memory.clone();
    working.block_on(async move {
        tokio::spawn(async move { until_asked(&writer, &asked).await }).await.unwrap()
    });
    let shutdown = closing.spawn(async move { manager.shutdown(Duration::from_secs(600)).await });
    // The report counts from the start of the shutdown.
    closing.block_on(async {
        while memory.flush_in_background().await.is_ok() {
            tokio::task::yield_now().await;
        }
    });
    drop(working);
    let report = closing.block_on(shutdown).unwrap();
    assert_eq!(report.abandoned_flushes, [memory.key().clone()]);
}

/// Neither `Debug` nor `Clone`.
struct Answer(u32);

#[tokio::test(start_paused = true)]
async fn turn_errors_convert_with_question_mark() {
    async fn with_anyhow(memory: &MemoryInstance) -> anyhow::Result<u32> {
        Ok(memory.exclusive(|_| async { Answer(7) }).await?.0)
    }
    async fn boxed(memory: &MemoryInstance) -> Result<u32, Box<dyn std::error::Error>> {
        let turn = |session: Session| async move {
            session.append(Message::user("hello")).await?;
            Ok::<_, MemoryError>(Answer(7))
        };
        Ok(memory.exclusive(turn).await??.0)
    }
    let world = On::Memory.world(with(hybrid(1_000))).await;
    let memory = world.memory();
    assert_eq!((with_anyhow(&memory).await.unwrap(), boxed(&memory).await.unwrap()), (7, 7));
    world.manager.shutdown(Duration::ZERO).await;
    let text = "work on default:m:k: the manager is shut down; open another manager";
    assert_eq!(with_anyhow(&memory).await.unwrap_err().to_string(), text);
    assert_eq!(boxed(&memory).await.unwrap_err().to_string(), text);
}
