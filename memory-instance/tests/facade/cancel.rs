//! Every operation, dropped after each of its polls: nothing is lost, doubled, or left locked.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use memory_core::Message;
use memory_flush::from_fn;
use memory_instance::{FlushMode, MemoryInstance, Session};

use crate::support::{On, World, assert_distinct, checked, hybrid, texts, with};

on_every_backend![
    appends_dropped_anywhere_leave_all_or_nothing,
    flushes_dropped_anywhere_leave_all_or_nothing,
    turns_dropped_anywhere_free_the_lease,
    clears_dropped_anywhere_leave_all_or_nothing,
    ; paused_clock:
    appends_dropped_while_they_wait_for_a_turn_leave_all_or_nothing,
];

/// Polls a future this many times and drops it; whether it came to its end.
async fn dropped_after<F: Future>(polls: usize, future: F) -> bool {
    let mut future = pin!(future);
    for _ in 0..polls {
        let polled = poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await;
        if polled.is_ready() {
            return true;
        }
        // Lets what it waits for happen: other tasks, and paused time.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    false
}

async fn world(on: On) -> World {
    let slow = from_fn("slow", |_| async {
        tokio::time::sleep(Duration::from_millis(3)).await;
        Ok("a summary".to_owned())
    });
    let builder = with(hybrid(3_000)).flush_mode(FlushMode::Manual).summarizer(slow);
    let world = on.world(builder).await;
    let batch = (0..300).map(|number| Message::user(format!("before {number}")));
    world.memory().append_all(batch).await.unwrap();
    world
}

/// Nothing is held, and the next write goes through at once.
async fn assert_free(world: &World, memory: &MemoryInstance) {
    let begun = tokio::time::Instant::now();
    memory.append(Message::user("probe")).await.unwrap();
    memory.exclusive(|_| async {}).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(1), "something stayed locked");
    let wait = async {
        loop {
            let stats = world.manager.locks().stats();
            if (stats.held, stats.waiting, stats.releasing) == (0, 0, 0) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), wait).await.expect("no lease is left over");
}

/// Drops what `make` makes after 0, 1, 2, ... polls until one comes to its end.
macro_rules! sweep {
    ($on:expr, |$memory:ident| $make:expr, |$world:ident, $done:ident| $check:expr) => {{
        let mut ended = false;
        for polls in 0..200 {
            let $world = world($on).await;
            let $memory = $world.memory();
            let $done = dropped_after(polls, $make).await;
            assert_free(&$world, &$world.memory()).await;
            checked(&$world.memory(), &$world.manager).await;
            $check;
            if $done {
                ended = true;
                break;
            }
        }
        assert!(ended, "it never came to its end");
    }};
}

async fn appends_dropped_anywhere_leave_all_or_nothing(on: On) {
    sweep!(
        on,
        |memory| memory.append_all([Message::user("one"), Message::user("two")]),
        |world, done| {
            let texts = texts(&world.memory()).await;
            let there = texts.iter().filter(|text| ["one", "two"].contains(&text.as_str())).count();
            assert!(there == 2 || (there == 0 && !done), "{there} of a batch of two");
            assert_distinct(&texts.into_iter().filter(|text| text != "probe").collect::<Vec<_>>());
        }
    );
}

async fn flushes_dropped_anywhere_leave_all_or_nothing(on: On) {
    sweep!(on, |memory| memory.perform_flush(), |world, done| {
        let memory = world.memory();
        let counters = memory.counters().await.unwrap();
        let flushed = counters.summarised > 0;
        assert_eq!(memory.receipts().await.unwrap().len(), usize::from(flushed));
        assert_eq!(counters.summaries, u64::from(flushed));
        assert!(flushed || !done);
        // Whatever became of this one, the next one works.
        let next = memory.perform_flush().await.unwrap();
        assert_eq!(next.is_some(), !flushed);
    });
}

async fn turns_dropped_anywhere_free_the_lease(on: On) {
    let turn = |session: Session| async move {
        session.messages().await.unwrap();
        session.append(Message::user("in the turn")).await.unwrap();
        tokio::time::sleep(Duration::from_millis(2)).await;
    };
    sweep!(on, |memory| memory.exclusive(turn), |world, done| {
        let texts = texts(&world.memory()).await;
        let there = texts.iter().filter(|text| *text == "in the turn").count();
        assert!(there == 1 || (there == 0 && !done));
    });
}

async fn clears_dropped_anywhere_leave_all_or_nothing(on: On) {
    sweep!(on, |memory| memory.clear(), |world, done| {
        let counters = world.memory().counters().await.unwrap();
        assert!(counters.cleared == 300 || (counters.cleared == 0 && !done), "{counters:?}");
    });
}

async fn appends_dropped_while_they_wait_for_a_turn_leave_all_or_nothing(on: On) {
    for polls in 0..40 {
        let world = world(on).await;
        let holder = world.memory();
        let (begun, begins) = tokio::sync::oneshot::channel();
        let turn = tokio::spawn(async move {
            let turn = |_session: Session| async move {
                begun.send(()).unwrap();
                // Longer than a write waits for the lease before it takes a place in line.
                tokio::time::sleep(Duration::from_millis(1_020)).await;
            };
            holder.exclusive(turn).await.unwrap();
        });
        begins.await.unwrap();
        let memory = world.memory();
        let batch = [Message::user("one"), Message::user("two")];
        let done = dropped_after(polls, memory.append_all(batch)).await;
        turn.await.unwrap();
        assert_free(&world, &memory).await;
        let texts = texts(&memory).await;
        let there = texts.iter().filter(|text| ["one", "two"].contains(&text.as_str())).count();
        assert!(there == 2 || (there == 0 && !done), "{there} of a batch of two");
        checked(&memory, &world.manager).await;
        if done {
            return;
        }
    }
}
