//! P6, P7: one holder at a time, and a stale holder cannot write.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use memory_core::{MemoryResource, Message};
use memory_instance::{ExclusiveError, MemoryInstance, Session};
use memory_lock::LostReason;
use tokio::sync::oneshot;

use crate::support::{On, checked, session_of_endless_turn, texts, with};

on_every_backend![
    turns_never_overlap_or_lose_updates,
    append_waits_for_a_turn,
    dropped_turn_releases_the_lease,
    panicking_turn_releases_the_lease,
    reads_continue_during_a_turn,
    busy_memory_recovers_after_a_turn,
    session_ends_with_its_turn,
    session_reuses_few_writers,
    ; paused_clock:
    stale_writer_is_fenced_off,
    stale_writer_is_fenced_before_next_holder_writes,
    long_turn_keeps_its_lease,
];

fn resource() -> MemoryResource {
    MemoryResource::new("m", 1 << 20)
}

async fn turns_never_overlap_or_lose_updates(on: On) {
    let world = on.world(with(resource())).await;
    world.memory().append(Message::user("0")).await.unwrap();
    let inside = Arc::new(AtomicU64::new(0));
    let tasks = (0..8).map(|_| {
        let (memory, inside) = (world.memory(), Arc::clone(&inside));
        tokio::spawn(async move {
            for _ in 0..5 {
                let inside = &inside;
                let turn = |session: Session| async move {
                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two turns at once");
                    let last = session.messages().await.unwrap();
                    let last = last.last().unwrap().message.text().parse::<u64>().unwrap();
                    tokio::task::yield_now().await;
                    session.append(Message::user((last + 1).to_string())).await.unwrap();
                    inside.fetch_sub(1, Ordering::SeqCst);
                };
                memory.exclusive(turn).await.unwrap();
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    let expected: Vec<_> = (0..=40).map(|number| number.to_string()).collect();
    assert_eq!(texts(&world.memory()).await, expected);
    checked(&world.memory(), &world.manager).await;
}

async fn append_waits_for_a_turn(on: On) {
    let world = on.world(with(resource())).await;
    let (begun, begins) = oneshot::channel();
    let (go_on, goes_on) = oneshot::channel::<()>();
    let holder = world.memory();
    let turn = tokio::spawn(async move {
        let turn = |session: Session| async move {
            session.append(Message::user("first of the turn")).await.unwrap();
            begun.send(()).unwrap();
            goes_on.await.unwrap();
            session.append(Message::user("last of the turn")).await.unwrap();
        };
        holder.exclusive(turn).await.unwrap();
    });
    begins.await.unwrap();
    let other = world.memory();
    let append = tokio::spawn(async move { other.append(Message::user("after")).await });
    let waiting = async {
        while world.memory().health().await.unwrap().waiting_tasks == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), waiting).await.expect("it waits in line");
    go_on.send(()).unwrap();
    turn.await.unwrap();
    append.await.unwrap().unwrap();
    assert_eq!(texts(&world.memory()).await, ["first of the turn", "last of the turn", "after"]);
}

async fn stale_writer_is_fenced_off(on: On) {
    let world = on.world(with(resource())).await;
    let memory = world.memory();
    memory.append(Message::user("before")).await.unwrap();
    let (stale, turn) = session_of_endless_turn(&memory).await;
    stale.append(Message::user("in time")).await.unwrap();
    // The whole process is suspended for longer than the lease, so nothing refreshes it.
    tokio::time::advance(Duration::from_secs(31)).await;

    let lost = turn.await.unwrap().unwrap_err();
    assert!(
        matches!(lost, ExclusiveError::Lost { reason: LostReason::Expired, output: None, .. }),
        "{lost}"
    );
    memory
        .exclusive(|session| async move { session.append(Message::user("newer")).await })
        .await
        .unwrap()
        .unwrap();
    let before = checked(&memory, &world.manager).await;
    let refused = stale.append(Message::user("late")).await.unwrap_err();
    assert!(refused.is_fenced(), "{refused}");
    let text = refused.to_string();
    assert!(text.starts_with("append to default:m:k: fenced off: the lease with token "), "{text}");
    assert!(text.ends_with("take a new lease and read again"), "{text}");
    assert!(stale.ensure_held().is_err());
    assert!(stale.clear().await.unwrap_err().is_fenced());
    assert_eq!(checked(&memory, &world.manager).await, before, "the data is untouched");
    assert_eq!(texts(&memory).await, ["before", "in time", "newer"]);
}

/// The session of a turn that has lost its lease.
async fn stale_session(memory: &MemoryInstance) -> Session {
    let (stale, _turn) = session_of_endless_turn(memory).await;
    // The whole process is suspended for longer than the lease, so nothing refreshes it.
    tokio::time::advance(Duration::from_secs(31)).await;
    stale
}

async fn stale_writer_is_fenced_before_next_holder_writes(on: On) {
    let world = on.world(with(resource())).await;
    let memory = world.memory();
    memory.append(Message::user("before")).await.unwrap();
    let stale = stale_session(&memory).await;
    let turn = |session: Session| async move {
        let read = session.messages().await.unwrap().len();
        // If a late write were applied here, this turn would not have read it.
        let refused = stale.append(Message::user("late")).await.unwrap_err();
        assert!(refused.is_fenced(), "{refused}");
        session.append(Message::user(format!("I read {read}"))).await.unwrap();
    };
    memory.exclusive(turn).await.unwrap();
    assert_eq!(texts(&memory).await, ["before", "I read 1"]);
}

async fn dropped_turn_releases_the_lease(on: On) {
    let world = on.world(with(resource())).await;
    let memory = world.memory();
    let (begun, begins) = oneshot::channel();
    let holder = world.memory();
    let turn = tokio::spawn(async move {
        let turn = |_session: Session| async move {
            begun.send(()).unwrap();
            std::future::pending::<()>().await;
        };
        holder.exclusive(turn).await
    });
    begins.await.unwrap();
    turn.abort();
    assert!(turn.await.unwrap_err().is_cancelled());
    let before = tokio::time::Instant::now();
    memory.append(Message::user("at once")).await.unwrap();
    memory.exclusive(|_| async {}).await.unwrap();
    assert!(before.elapsed() < Duration::from_secs(1), "it took {:?}", before.elapsed());
}

async fn panicking_turn_releases_the_lease(on: On) {
    let world = on.world(with(resource())).await;
    let holder = world.memory();
    let turn = |_: Session| async { panic!("a bug in the turn") };
    let turn = tokio::spawn(async move { holder.exclusive(turn).await.map(|(): ()| ()) });
    assert!(turn.await.unwrap_err().is_panic());
    let before = tokio::time::Instant::now();
    world.memory().append(Message::user("at once")).await.unwrap();
    assert!(before.elapsed() < Duration::from_secs(1), "it took {:?}", before.elapsed());
}

async fn long_turn_keeps_its_lease(on: On) {
    let mut resource = resource();
    resource.lock = resource.lock.with_max_turn(Duration::from_secs(120));
    let world = on.world(with(resource)).await;
    let turn = |session: Session| async move {
        // Three times the TTL of the lease.
        tokio::time::sleep(Duration::from_secs(90)).await;
        session.append(Message::user("done")).await.map(drop)
    };
    world.memory().exclusive(turn).await.unwrap().unwrap();
    assert_eq!(texts(&world.memory()).await, ["done"]);
    assert!(world.manager.locks().stats().refreshed >= 3);
}

async fn reads_continue_during_a_turn(on: On) {
    let world = on.world(with(resource())).await;
    let memory = world.memory();
    let reader = world.memory();
    let turn = |session: Session| async move {
        session.append(Message::user("a")).await.unwrap();
        assert_eq!(texts(&reader).await, ["a"]);
        assert_eq!(reader.context(100).await.unwrap().messages.len(), 1);
        let lease = reader.health().await.unwrap().lease.expect("health shows the holder");
        assert_eq!(lease.token, session.fence());
    };
    memory.exclusive(turn).await.unwrap();
    assert_eq!(memory.health().await.unwrap().lease, None);
}

async fn busy_memory_recovers_after_a_turn(on: On) {
    const TASKS: usize = 32;
    let world = on.world(with(resource())).await;
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let tasks: Vec<_> = (0..TASKS)
        .map(|_| {
            let (memory, stop) = (world.memory(), Arc::clone(&stop));
            tokio::spawn(async move {
                while !stop.load(Ordering::SeqCst) {
                    memory.append(Message::user("x")).await.unwrap();
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    let turn = |session: Session| async move {
        session.append(Message::user("mine")).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    world.memory().exclusive(turn).await.unwrap();
    let appended = || async { world.memory().counters().await.unwrap().appended };
    let (before, handed_over) = (appended().await, world.manager.locks().stats().handed_over);
    while appended().await < before + 20 * TASKS as u64 {
        tokio::task::yield_now().await;
    }
    let acquired = world.manager.locks().stats();
    stop.store(true, Ordering::SeqCst);
    for task in tasks {
        task.await.unwrap();
    }
    if on == On::Sqlite {
        // Leases are kept beside the data: appends need none, also after a turn.
        let leased = acquired.handed_over - handed_over;
        assert!(leased < TASKS as u64, "{leased} of {} appends took the lease", 20 * TASKS);
    }
    checked(&world.memory(), &world.manager).await;
}

async fn session_ends_with_its_turn(on: On) {
    let world = on.world(with(resource())).await;
    let memory = world.memory();
    let kept = memory.exclusive(|session| async { session }).await.unwrap();
    let refused = kept.append(Message::user("late")).await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "append to default:m:k: the turn has ended; begin another with `exclusive`"
    );
    assert!(kept.ensure_held().is_err() && kept.clear().await.is_err());
    assert!(memory.is_empty().await.unwrap());
}

async fn session_reuses_few_writers(on: On) {
    let world = on.world(with(resource())).await;
    let turn = |session: Session| async move {
        for _ in 0..100 {
            session.append(Message::user("x")).await.unwrap();
        }
    };
    world.memory().exclusive(turn).await.unwrap();
    world.memory().append(Message::user("x")).await.unwrap();
    if let Some(folder) = &world.folder {
        let file = rusqlite::Connection::open(folder.path().join("memory.db")).unwrap();
        let writers: i64 =
            file.query_row("SELECT count(*) FROM writer", (), |row| row.get(0)).unwrap();
        assert_eq!(writers, 0, "a hundred appends in a row need one writer");
    }
}
