//! Opening of managers and stores, and the remains of an opening that was dropped.

use memory_core::{MemoryResource, Message};
use memory_instance::MemoryManager;
use memory_lock_testkit::{Cut, Table, sweep, tasks, until, until_tasks};

pub(crate) const OPERATIONS: [&str; 1] = ["ManagerBuilder::open"];

/// Sweeps the opening of a manager at this URL. After each drop no connection and no task remains, and the manager
/// can be opened.
pub(crate) async fn sweep_managers(
    backend: &'static str,
    url: &str,
    rounds: usize,
    left: impl AsyncFn() -> Vec<String>,
    table: &mut Table,
) {
    let open = async |cut: Cut| {
        let builder = || MemoryManager::builder().with_resource(MemoryResource::new("m", 1_000));
        let done = cut.off(builder().open(url)).await.map(Result::unwrap);
        let ended = done.is_some();
        drop(done);
        let what = format!("opening {backend}, {cut:?}");
        assert_closed(&what, &left).await;
        let manager = builder().open(url).await.unwrap();
        let key = format!("{:x}", fastrand::u64(..));
        manager.memory("m", &key).unwrap().append(Message::user("hello")).await.unwrap();
        drop(manager);
        assert_closed(&what, &left).await;
        ended
    };
    let [operation] = OPERATIONS;
    sweep_opening(operation, backend, rounds, open, table).await;
}

pub(crate) async fn sweep_opening(
    operation: &'static str,
    backend: &'static str,
    rounds: usize,
    open: impl AsyncFn(Cut) -> bool,
    table: &mut Table,
) {
    let before = tasks();
    let points = sweep(backend, rounds, async |cut| {
        let ended = open(cut).await;
        until_tasks(before, &format!("{operation} on {backend}, {cut:?}")).await;
        ended
    })
    .await;
    table.add(operation, backend, points);
}

pub(crate) async fn assert_closed(what: &str, left: &impl AsyncFn() -> Vec<String>) {
    until(what, async || match left().await {
        left if left.is_empty() => Ok(()),
        left => Err(format!("still connected: {left:?}")),
    })
    .await;
}
