//! Appends that are dropped while they wait in line for the lease. A write takes its place in line only after a
//! second. `cancellation` drops all operations after each of their polls.

use std::time::Duration;

use memory_core::Message;
use memory_instance::Session;
use memory_lock_testkit::{Cut, Points, sweep_whole, until};

use crate::support::{On, assert_distinct, checked, hybrid, texts, with};

on_every_backend![
    ; paused_clock:
    dropped_waiting_appends_are_all_or_nothing,
];

async fn dropped_waiting_appends_are_all_or_nothing(on: On) {
    let mut points = Points::default();
    let case = async |cut: Cut| {
        let world = on.world(with(hybrid(3_000))).await;
        let (memory, holder) = (world.memory(), world.memory());
        let (begun, begins) = tokio::sync::oneshot::channel();
        let turn = tokio::spawn(async move {
            let turn = |_session: Session| async move {
                begun.send(()).unwrap();
                // Longer than a write waits before it takes a place in line.
                tokio::time::sleep(Duration::from_millis(1_020)).await;
            };
            holder.exclusive(turn).await.unwrap();
        });
        begins.await.unwrap();
        let batch = [Message::user("one"), Message::user("two")];
        let done = cut.off(memory.append_all(batch)).await.map(Result::unwrap).is_some();
        turn.await.unwrap();
        memory.append(Message::user("probe")).await.unwrap();
        memory.exclusive(|_| async {}).await.unwrap();
        until("no lease is left over", async || {
            let stats = world.manager.locks().stats();
            let busy = (stats.held, stats.waiting, stats.releasing);
            if busy == (0, 0, 0) { Ok(()) } else { Err(format!("busy: {busy:?}")) }
        })
        .await;
        let texts = texts(&memory).await;
        assert_distinct(&texts);
        assert!(texts == ["one", "two", "probe"] || (texts == ["probe"] && !done), "{texts:?}");
        checked(&memory, &world.manager).await;
        done
    };
    sweep_whole(&case, &mut points).await;
    assert!(points.drops() >= 3, "it was not dropped while it waited");
}
