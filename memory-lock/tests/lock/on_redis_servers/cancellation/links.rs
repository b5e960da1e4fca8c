//! The operations of links, and opening them.

use memory_lock::{Clock, ClockExt as _, RedlockLock};
use memory_lock_testkit::{Cut, Table, sweep, tasks, until_tasks};
use memory_redis_link::{RedisLink, Script};
use redis::Value;

use super::{ROUNDS, Servers};

/// All public async operations of a link.
pub(crate) const OPERATIONS: &[&str] = &[
    "RedisLink::open",
    "RedisLink::run",
    "RedisLink::scan_memories",
    "RedisLink::send",
    "RedisLink::status",
    "RedisLink::write",
];

pub(crate) const QUORUM_OPERATIONS: &[&str] = &["RedlockLock::open"];

pub(crate) async fn sweep_link(
    name: &'static str,
    servers: &Servers,
    link: &RedisLink,
    table: &mut Table,
) {
    let before = tasks();
    for operation in OPERATIONS {
        let points =
            sweep(name, ROUNDS, async |cut| cut_off(servers, link, operation, cut).await).await;
        table.add(operation, name, points);
        until_tasks(before, operation).await;
    }
}

async fn cut_off(servers: &Servers, link: &RedisLink, operation: &str, cut: Cut) -> bool {
    let what = format!("{operation}, {cut:?}");
    let counter = format!("{}:counter {:x}", link.keys().prefix(), fastrand::u64(..));
    let mut increment = redis::cmd("INCR");
    increment.arg(&counter);
    let script = Script::new(&["return redis.call('INCR', KEYS[1])"]);
    let call = script.on([counter.as_str()]);
    let one = |value: Value| assert_eq!(value, Value::Int(1), "{what}");
    let ended = match operation {
        "RedisLink::open" => {
            let done = cut.off(RedisLink::open(servers.configs().remove(0))).await;
            let done = done.map(|link| drop(link.unwrap())).is_some();
            servers.until_connections(1, &what).await;
            return done;
        }
        "RedisLink::run" => cut.off(link.run(&script, &call)).await.map(|done| one(done.unwrap())),
        "RedisLink::write" => {
            let done = cut.off(link.write(&script, &call)).await;
            done.map(|done| one(done.unwrap().answer))
        }
        "RedisLink::send" => cut.off(link.send(&increment)).await.map(|done| one(done.unwrap())),
        "RedisLink::scan_memories" => {
            let done = cut.off(link.scan_memories(|key| panic!("{key}, {what}"))).await;
            return done.map(Result::unwrap).is_some();
        }
        "RedisLink::status" => {
            let done = cut.off(link.status()).await;
            return done.map(|status| drop(status.unwrap())).is_some();
        }
        other => panic!("the sweep has no case for {other}"),
    };
    // Over the same connection, so after the dropped request.
    let mut look = redis::cmd("GET");
    look.arg(&counter);
    let counted = link.send(&look).await.unwrap();
    let there = counted == Value::BulkString(b"1".to_vec());
    assert!(there || (counted == Value::Nil && ended.is_none()), "{what}: {counted:?}");
    ended.is_some()
}

pub(crate) async fn sweep_quorum(name: &'static str, servers: &Servers, table: &mut Table) {
    let before = tasks();
    for operation in QUORUM_OPERATIONS {
        let points = sweep(name, ROUNDS, async |cut| {
            let what = format!("{operation}, {cut:?}");
            let done = cut.off(RedlockLock::open(servers.configs(), Clock::system())).await;
            let done = done.map(|lock| drop(lock.unwrap())).is_some();
            servers.until_connections(0, &what).await;
            done
        })
        .await;
        table.add(operation, name, points);
        until_tasks(before, operation).await;
    }
}
