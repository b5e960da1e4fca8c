//! Every public async operation on leases, dropped after each of its polls, on Redis and on a quorum;
//! and those of the link itself. Leaves no lease, place in line, task or connection behind.

#![cfg(feature = "redlock")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, in its helpers too"
)]
#![allow(clippy::future_not_send, reason = "the sweeps run on the thread of their test")]
#![allow(dead_code, reason = "shared with the sweep without servers")]

#[path = "../cancellation/leases.rs"]
mod leases;
mod links;
#[path = "../cancellation/sweep.rs"]
mod sweep;

use std::sync::Arc;

use leases::Ground;
use memory_lock::redis::{RedisConfig, RedisLink};
use memory_lock::{Clock, RedisLock, RedlockLock};
use memory_redis_testkit::{Server, unique_prefix};
use sweep::{Table, tasks, until, until_tasks};

/// Some servers of the test's own, which can therefore be counted.
#[derive(Debug, Clone)]
pub(crate) struct Servers {
    servers: Arc<Vec<Server>>,
    prefix: String,
}

impl Servers {
    pub(crate) async fn start(count: usize) -> Self {
        let mut servers = Vec::new();
        for _ in 0..count {
            servers.push(Server::start().await);
        }
        Self { servers: Arc::new(servers), prefix: unique_prefix() }
    }

    pub(crate) fn configs(&self) -> Vec<RedisConfig> {
        let config = |server: &Server| RedisConfig::from_url(server.url()).unwrap();
        let configs = self.servers.iter().map(config);
        configs.map(|config| config.with_prefix(&self.prefix).unwrap()).collect()
    }

    /// The leases and the places in line that the servers still have.
    async fn left(self) -> Vec<String> {
        let mut left = Vec::new();
        for server in self.servers.iter() {
            for kind in ["lease", "line"] {
                let pattern = format!("{}:*:{kind}:*", self.prefix);
                left.extend(server.query::<Vec<String>>(&["KEYS", &pattern]).await);
            }
        }
        left
    }

    /// How many connections there are to each server, but for that which asks.
    pub(crate) async fn connections(&self) -> Vec<usize> {
        let mut all = Vec::new();
        for server in self.servers.iter() {
            let clients: String = server.query(&["CLIENT", "LIST"]).await;
            let asking = "cmd=client|list";
            all.push(clients.lines().filter(|client| !client.contains(asking)).count());
        }
        all
    }

    /// Waits until each server has this many connections.
    pub(crate) async fn until_connections(&self, each: usize, what: &str) {
        until(what, async || match self.connections().await {
            all if all.iter().all(|there| *there == each) => Ok(()),
            all => Err(format!("connections: {all:?}, not {each}")),
        })
        .await;
    }

    fn ground(&self, name: &'static str, backend: Arc<dyn memory_lock::LockBackend>) -> Ground {
        let mut ground = Ground::new(name, backend, ROUNDS);
        let servers = self.clone();
        ground.left = Box::new(move || Box::pin(servers.clone().left()));
        ground
    }
}

const ROUNDS: usize = 5;

#[tokio::test]
async fn no_call_that_is_dropped_half_way_leaves_anything_behind() {
    let (one, three) = (Servers::start(1).await, Servers::start(3).await);
    let before = tasks();
    let mut table = Table::default();

    let link = RedisLink::open(one.configs().remove(0)).await.unwrap();
    let lock = Arc::new(RedisLock::new(link.clone()));
    one.ground("Redis", lock).sweep(&mut table).await;
    links::sweep_link(&one, &link, &mut table).await;
    one.until_connections(1, "leases and link").await;
    drop(link);

    let quorum = RedlockLock::open(three.configs(), Clock::system()).await.unwrap();
    let ground = three.ground("Redlock", Arc::new(quorum));
    ground.sweep(&mut table).await;
    three.until_connections(1, "a quorum").await;
    drop(ground);
    links::sweep_quorum(&three, &mut table).await;

    one.until_connections(0, "the link is gone").await;
    three.until_connections(0, "the quorum is gone").await;
    until_tasks(before, "all is gone").await;
    table.print();
}
