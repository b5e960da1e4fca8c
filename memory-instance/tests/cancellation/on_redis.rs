//! Memories on a Redis server, alone and behind a circuit breaker.

use memory_lock_testkit::{Cut, Table, tasks, until, until_tasks};
use memory_redis_testkit::{AnyServer, any_server, unique_prefix};
use memory_store_redis::{RedisConfig, RedisStore};
use redis::aio::MultiplexedConnection;

use crate::opening::{assert_closed, sweep_managers, sweep_opening};
use crate::worlds::World;
use crate::{facade, stores};

const OPERATIONS: [&str; 1] = ["RedisStore::open"];

const ROUNDS: usize = 2;

/// A server with a custom user, whose name identifies the connections of this test.
struct Redis {
    server: AnyServer,
    user: String,
    prefix: String,
    admin: MultiplexedConnection,
}

impl Redis {
    async fn new() -> Self {
        let server = any_server().await;
        let client = redis::Client::open(server.url()).unwrap();
        let mut admin = client.get_multiplexed_async_connection().await.unwrap();
        let (user, prefix) = (unique_prefix(), unique_prefix());
        let mut set = redis::cmd("ACL");
        set.arg(&["SETUSER", &user, "on", &format!(">{user}"), "~*", "&*", "+@all"]);
        set.exec_async(&mut admin).await.unwrap();
        Self { server, user, prefix, admin }
    }

    fn url(&self) -> String {
        let (scheme, rest) = self.server.url().split_once("://").unwrap();
        let place = rest.rsplit_once('@').map_or(rest, |(_, place)| place);
        let user = &self.user;
        format!("{scheme}://{user}:{user}@{place}?prefix={}", self.prefix)
    }

    async fn connections(&self) -> Vec<String> {
        let user = format!(" user={} ", self.user);
        let mut list = redis::cmd("CLIENT");
        let list: String = list.arg("LIST").query_async(&mut self.admin.clone()).await.unwrap();
        list.lines().filter(|client| client.contains(&user)).map(ToOwned::to_owned).collect()
    }

    /// The remaining leases and places in line, and other keys that a memory does not keep.
    async fn leftovers(&self) -> Vec<String> {
        let (mut left, mut cursor) = (Vec::new(), 0_u64);
        loop {
            let mut scan = redis::cmd("SCAN");
            scan.arg(cursor).arg("MATCH").arg(format!("{}:*", self.prefix)).arg("COUNT").arg(1_000);
            let (next, keys): (u64, Vec<String>) =
                scan.query_async(&mut self.admin.clone()).await.unwrap();
            let kept = |key: &str| key.contains("}:memory:") || key.ends_with("}:fence");
            left.extend(keys.into_iter().filter(|key| !kept(key)));
            cursor = next;
            if cursor == 0 {
                return left;
            }
        }
    }

    async fn until_nothing_is_left(&self, what: &str) {
        until(what, async || match self.leftovers().await {
            left if left.is_empty() => Ok(()),
            left => Err(format!("left on the server: {left:?}")),
        })
        .await;
    }

    async fn end(mut self) {
        let mut forget = redis::cmd("ACL");
        forget.arg(&["DELUSER", &self.user]).exec_async(&mut self.admin).await.unwrap();
    }
}

#[tokio::test]
async fn dropped_call_leaves_nothing_behind() {
    let redis = Redis::new().await;
    let before = tasks();
    let mut table = Table::default();
    let world = World::opened("Redis", &redis.url(), ROUNDS).await;
    let guarded = world.behind_a_breaker("Redis, breaker");
    for world in [&world, &guarded] {
        world.sweep(facade::OPERATIONS, &mut table, facade::cut_off).await;
        world.sweep(stores::OPERATIONS, &mut table, stores::cut_off).await;
        redis.until_nothing_is_left(world.name).await;
        assert_eq!(redis.connections().await.len(), 1, "all share one connection");
    }
    drop((world, guarded));
    let connections = async || redis.connections().await;
    assert_closed("Redis", &connections).await;
    until_tasks(before, "Redis").await;

    sweep_managers("Redis", &redis.url(), ROUNDS, connections, &mut table).await;
    let config = RedisConfig::from_url(&redis.url()).unwrap();
    let open = async |cut: Cut| {
        let done = cut.off(RedisStore::open(config.clone())).await.map(Result::unwrap);
        let ended = done.is_some();
        drop(done);
        assert_closed("a store", &connections).await;
        ended
    };
    sweep_opening(OPERATIONS[0], "Redis", ROUNDS, open, &mut table).await;
    redis.end().await;
    table.print();
}
