//! Every public async operation on leases, dropped after each of its polls, on Redis, on a Cluster and on
//! a quorum; and those of the link itself. Leaves no lease, place in line, task or connection behind.

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
use memory_redis_testkit::{Cluster, Server, unique_prefix};
use sweep::{Table, tasks, until, until_tasks};

/// Some servers of the test's own, whose connections can therefore be counted.
#[derive(Debug, Clone)]
pub(crate) struct Servers {
    group: Arc<Group>,
    prefix: String,
}

#[derive(Debug)]
enum Group {
    Apart(Vec<Server>),
    Cluster(Cluster),
}

impl Servers {
    pub(crate) async fn start(count: usize) -> Self {
        let mut servers = Vec::new();
        for _ in 0..count {
            servers.push(Server::start().await);
        }
        Self { group: Arc::new(Group::Apart(servers)), prefix: unique_prefix() }
    }

    async fn start_cluster() -> Self {
        let cluster = Cluster::start().await;
        Self { group: Arc::new(Group::Cluster(cluster)), prefix: unique_prefix() }
    }

    fn all(&self) -> &[Server] {
        match &*self.group {
            Group::Apart(servers) => servers,
            Group::Cluster(cluster) => cluster.nodes(),
        }
    }

    fn running(&self) -> impl Iterator<Item = &Server> {
        self.all().iter().filter(|server| server.is_running())
    }

    pub(crate) fn configs(&self) -> Vec<RedisConfig> {
        let urls = match &*self.group {
            Group::Apart(servers) => servers.iter().map(|server| server.url().to_owned()).collect(),
            Group::Cluster(cluster) => vec![cluster.url()],
        };
        let config = |url: &String| RedisConfig::from_url(url).unwrap();
        urls.iter().map(|url| config(url).with_prefix(&self.prefix).unwrap()).collect()
    }

    /// The leases and the places in line that the servers still have.
    async fn left(self) -> Vec<String> {
        let mut left = Vec::new();
        for server in self.running() {
            for kind in ["lease", "line"] {
                let pattern = format!("{}:*:{kind}:*", self.prefix);
                left.extend(server.query::<Vec<String>>(&["KEYS", &pattern]).await);
            }
        }
        left
    }

    /// How many connections there are to each running server, but for those of its replicas or its
    /// master and that which asks.
    pub(crate) async fn connections(&self) -> Vec<usize> {
        let others = [" flags=S ", " flags=M ", " cmd=client|list "];
        let mut all = Vec::new();
        for server in self.running() {
            let clients: String = server.query(&["CLIENT", "LIST"]).await;
            let is_ours = |client: &&str| !others.iter().any(|other| client.contains(other));
            all.push(clients.lines().filter(is_ours).count());
        }
        all
    }

    /// Waits until each running server has no more connections than this; replicas have none.
    pub(crate) async fn until_connections(&self, most: usize, what: &str) {
        until(what, async || match self.connections().await {
            all if all.iter().all(|there| *there <= most) => Ok(()),
            all => Err(format!("connections: {all:?}, more than {most}")),
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
async fn a_call_dropped_half_way_leaves_nothing_behind_on_redis() {
    let one = Servers::start(1).await;
    let before = tasks();
    let mut table = Table::default();
    let link = RedisLink::open(one.configs().remove(0)).await.unwrap();
    let lock = Arc::new(RedisLock::new(link.clone()));
    one.ground("Redis", lock).sweep(&mut table).await;
    links::sweep_link("Redis", &one, &link, &mut table).await;
    one.until_connections(1, "leases and link").await;
    drop(link);
    one.until_connections(0, "the link is gone").await;
    until_tasks(before, "all is gone").await;
    table.print();
}

#[tokio::test]
async fn a_call_dropped_half_way_leaves_nothing_behind_on_a_cluster() {
    let cluster = Servers::start_cluster().await;
    let before = tasks();
    let mut table = Table::default();
    let link = RedisLink::open(cluster.configs().remove(0)).await.unwrap();
    let lock = Arc::new(RedisLock::new(link.clone()));
    cluster.ground("Cluster", lock).sweep(&mut table).await;
    cluster.until_connections(1, "leases").await;
    links::sweep_link("Cluster", &cluster, &link, &mut table).await;
    cluster.until_connections(1, "leases and link").await;
    drop(link);
    cluster.until_connections(0, "the link is gone").await;
    until_tasks(before, "all is gone").await;
    table.print();
}

#[tokio::test]
async fn a_call_dropped_half_way_leaves_nothing_behind_on_a_quorum() {
    let three = Servers::start(3).await;
    let before = tasks();
    let mut table = Table::default();
    let quorum = RedlockLock::open(three.configs(), Clock::system()).await.unwrap();
    let ground = three.ground("Redlock", Arc::new(quorum));
    ground.sweep(&mut table).await;
    three.until_connections(1, "a quorum").await;
    drop(ground);
    links::sweep_quorum("Redlock", &three, &mut table).await;
    three.until_connections(0, "the quorum is gone").await;

    let quorum = RedlockLock::open(three.configs(), Clock::system()).await.unwrap();
    let ground = three.ground("Redlock, one dead", Arc::new(quorum));
    three.all()[1].kill();
    ground.sweep(&mut table).await;
    three.until_connections(1, "what is left of a quorum").await;
    drop(ground);
    links::sweep_quorum("Redlock, one dead", &three, &mut table).await;
    three.until_connections(0, "the quorum is gone").await;
    until_tasks(before, "all is gone").await;
    table.print();
}
