//! Every public async operation on leases, dropped after each of its polls, on Redis, on a Cluster and on a
//! quorum; and those of the link itself. No lease, place in line, task or connection is left behind.

#![allow(clippy::future_not_send, reason = "the sweeps run on the thread of their test")]

mod links;

use std::sync::Arc;

use memory_lock::redis::{RedisConfig, RedisLink};
use memory_lock::{Clock, ClockExt as _, RedisLock, RedlockLock};
use memory_lock_testkit::{LeaseSweep, Table, tasks, until, until_tasks};
use memory_redis_testkit::{Cluster, Server, unique_prefix};

/// Separate servers for the test, whose connections can therefore be counted.
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

    /// Waits until each running server has no more connections than this; replicas have none.
    pub(crate) async fn until_connections(&self, most: usize, what: &str) {
        until(what, async || {
            for server in self.running() {
                let there = server.clients().await;
                if there.len() > most {
                    return Err(format!("{} connections: {there:#?}", there.len()));
                }
            }
            Ok(())
        })
        .await;
    }

    fn leases(&self, name: &'static str, backend: Arc<dyn memory_lock::LockBackend>) -> LeaseSweep {
        let servers = self.clone();
        LeaseSweep::new(name, backend, ROUNDS)
            .with_leftovers(move || Box::pin(servers.clone().left()))
    }
}

const ROUNDS: usize = 5;

/// Sweeps leases over one link, and the link itself, which has one connection to each server.
async fn sweep_at(name: &'static str, servers: &Servers) {
    let before = tasks();
    let mut table = Table::default();
    let link = RedisLink::open(servers.configs().remove(0)).await.unwrap();
    let lock = Arc::new(RedisLock::new(link.clone()));
    servers.leases(name, lock).run(&mut table).await;
    servers.until_connections(1, "leases").await;
    links::sweep_link(name, servers, &link, &mut table).await;
    servers.until_connections(1, "leases and link").await;
    drop(link);
    servers.until_connections(0, "the link was dropped").await;
    until_tasks(before, "everything was dropped").await;
    table.print();
}

/// The same over a quorum, and the opening of one.
async fn sweep_quorum(
    name: &'static str,
    quorum: RedlockLock,
    servers: &Servers,
    table: &mut Table,
) {
    let leases = servers.leases(name, Arc::new(quorum));
    leases.run(table).await;
    servers.until_connections(1, name).await;
    drop(leases);
    links::sweep_quorum(name, servers, table).await;
    servers.until_connections(0, name).await;
}

#[tokio::test]
async fn dropped_calls_leave_nothing_behind_on_redis() {
    sweep_at("Redis", &Servers::start(1).await).await;
}

#[tokio::test]
async fn dropped_calls_leave_nothing_behind_on_a_cluster() {
    sweep_at("Cluster", &Servers::start_cluster().await).await;
}

#[tokio::test]
async fn dropped_calls_leave_nothing_behind_on_a_quorum() {
    let three = Servers::start(3).await;
    let before = tasks();
    let mut table = Table::default();
    let open = || RedlockLock::open(three.configs(), Clock::system());
    sweep_quorum("Redlock", open().await.unwrap(), &three, &mut table).await;
    let quorum = open().await.unwrap();
    three.all()[1].kill();
    sweep_quorum("Redlock, one dead", quorum, &three, &mut table).await;
    until_tasks(before, "everything was dropped").await;
    table.print();
}
