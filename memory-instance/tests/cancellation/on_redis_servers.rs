//! The sweeps in setups where calls take other paths than on one server: on a Cluster, with
//! Sentinels and a write that waits for a replica, with one that waits for the disk, and with leases of a quorum,
//! which are kept elsewhere than the messages.

use std::sync::Arc;

use memory_core::MemoryStore;
use memory_lock::{Clock, ClockExt as _, LockManager, RedlockLock};
use memory_lock_testkit::{Table, tasks, until, until_tasks};
use memory_redis_testkit::{Cluster, Sentinels, Server};
use memory_store_redis::{RedisConfig, RedisLink, RedisStore, RedisStoreConfig, TokenChecks};

use crate::opening::{assert_closed, sweep_managers};
use crate::worlds::{Case, World};
use crate::{facade, stores};

const ROUNDS: usize = 2;

/// The client connections to these servers.
async fn connections(servers: &[&Server]) -> Vec<String> {
    let mut all = Vec::new();
    for server in servers {
        all.extend(server.clients().await);
    }
    all
}

/// Waits until each server has at most this number of connections.
async fn until_few_connections(most: usize, servers: &[&Server], what: &str) {
    until(what, async || {
        for server in servers {
            let ours = server.clients().await;
            if ours.len() > most {
                return Err(format!("{} connections: {ours:#?}", ours.len()));
            }
        }
        Ok(())
    })
    .await;
}

/// Waits until only keys that a memory keeps are left.
async fn until_nothing_is_left(servers: &[&Server], what: &str) {
    until(what, async || {
        let mut left: Vec<String> = Vec::new();
        for server in servers {
            left.extend(server.query::<Vec<String>>(&["KEYS", "*"]).await);
        }
        left.retain(|key| !key.contains("}:memory:") && !key.contains("}:fence"));
        if left.is_empty() { Ok(()) } else { Err(format!("left on the servers: {left:?}")) }
    })
    .await;
}

/// Sweeps the operations of memories and stores, and the opening of managers at this URL. A client may
/// connect to all of `servers`; those in `keep` have its keys.
async fn sweep_at(
    name: &'static str,
    url: &str,
    most: usize,
    servers: &[&Server],
    keep: &[&Server],
) {
    let before = tasks();
    let mut table = Table::default();
    let world = World::opened(name, url, ROUNDS).await;
    sweep_world(&world, most, keep, &mut table).await;
    drop(world);
    let left = async || connections(servers).await;
    assert_closed(name, &left).await;
    until_tasks(before, name).await;
    sweep_managers(name, url, ROUNDS, left, &mut table).await;
    table.print();
}

/// All handles together have at most `most` connections to a server.
async fn sweep_world(world: &World, most: usize, keep: &[&Server], table: &mut Table) {
    // The first write opens the connection on which writes wait.
    Case::new(world, "m", world.name.to_owned()).await.settle().await;
    world.sweep(facade::OPERATIONS, table, facade::cut_off).await;
    world.sweep(stores::OPERATIONS, table, stores::cut_off).await;
    until_nothing_is_left(keep, world.name).await;
    until_few_connections(most, keep, world.name).await;
}

#[tokio::test]
async fn dropped_call_leaves_nothing_behind_on_a_cluster() {
    let cluster = Cluster::start().await;
    let nodes: Vec<_> = cluster.nodes().iter().collect();
    sweep_at("Cluster", &cluster.url(), 1, &nodes, &nodes).await;
}

#[tokio::test]
async fn dropped_call_leaves_nothing_behind_with_replica_wait() {
    let group = Sentinels::start_with(1, 3).await;
    let keep: Vec<_> = group.servers().iter().collect();
    let all: Vec<_> = keep.iter().copied().chain(group.sentinels()).collect();
    // One connection for requests, and one on which a write and its confirmation wait.
    sweep_at("Sentinels, WAIT", &format!("{}&replicas=1", group.url()), 2, &all, &keep).await;
}

#[tokio::test]
async fn dropped_call_leaves_nothing_behind_with_disk_wait() {
    let server = Server::start_with(&["--appendonly", "yes", "--appendfsync", "always"]).await;
    let url = format!("{}?fsync=always", server.url());
    sweep_at("Redis, fsync", &url, 2, &[&server], &[&server]).await;
}

#[tokio::test]
async fn dropped_call_leaves_nothing_behind_with_quorum_leases() {
    let servers = [Server::start().await, Server::start().await, Server::start().await];
    let servers: Vec<_> = servers.iter().collect();
    let before = tasks();
    let mut table = Table::default();
    let configs = servers.iter().map(|server| RedisConfig::from_url(server.url()).unwrap());
    let quorum = RedlockLock::open(configs, Clock::system()).await.unwrap();
    // One of the servers has the messages, and does not check leases.
    let config = RedisConfig::from_url(servers[0].url()).unwrap();
    let link = RedisLink::open(config).await.unwrap();
    let tokens_alone = RedisStoreConfig::new().with_token_checks(TokenChecks::TokensAlone);
    let store: Arc<dyn MemoryStore> = Arc::new(RedisStore::with_config(link, tokens_alone));
    let world = World::new("Redlock", &store, &LockManager::new(Arc::new(quorum)), None);
    drop(store);
    // One connection of the quorum, plus one of the store to its server.
    sweep_world(&world, 2, &servers, &mut table).await;
    drop(world);
    assert_closed("Redlock", &async || connections(&servers).await).await;
    until_tasks(before, "Redlock").await;
    table.print();
}
