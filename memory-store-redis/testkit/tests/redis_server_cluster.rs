//! A real Cluster: its clients, its failovers, and slots that move.

use std::time::Duration;

use memory_redis_testkit::{Cluster, ClusterShape, Fault};
use redis::Value;
use redis::cluster::ClusterClientBuilder;
use redis::cluster_async::ClusterConnection;

/// A client with shorter timeouts than the `redis` crate's defaults, and without retries unless
/// requested.
async fn client(cluster: &Cluster, retries: u32) -> ClusterConnection {
    let url = cluster.url();
    let hosts = url.strip_prefix("redis+cluster://").expect("its scheme").split(',');
    ClusterClientBuilder::new(hosts.map(|host| format!("redis://{host}")))
        .retries(retries)
        .response_timeout(Duration::from_millis(500))
        .build()
        .expect("hosts that the client understands")
        .get_async_connection()
        .await
        .expect("the Cluster answers")
}

async fn increment(client: &mut ClusterConnection, key: &str) -> redis::RedisResult<u64> {
    redis::cmd("INCR").arg(key).query_async(client).await
}

/// `CLUSTER KEYSLOT foo`.
const FOO: u16 = 12_182;

#[tokio::test]
async fn replica_replaces_killed_master_until_it_returns() {
    let cluster = Cluster::start().await;
    assert_eq!(cluster.nodes().len(), 6);
    let mut link = client(&cluster, 3).await;
    increment(&mut link, "foo").await.expect("a healthy Cluster");
    let old = cluster.master_of(FOO).await;
    assert_eq!(old.query::<u16>(&["CLUSTER", "KEYSLOT", "foo"]).await, FOO);
    let answers = old.commands(&[&["INCR", "foo"], &["WAIT", "1", "5000"]]).await;
    assert_eq!(answers, [Value::Int(2), Value::Int(1)]);
    old.kill();
    let new = cluster.master_of(FOO).await;
    assert_ne!(new.port(), old.port());
    assert_eq!(new.query::<u64>(&["GET", "foo"]).await, 2);
    old.restart().await;
    cluster.wait_until_healthy().await;
    assert_eq!(cluster.master_of(FOO).await.port(), new.port());
    increment(&mut client(&cluster, 3).await, "foo").await.expect("a healthy Cluster");
}

#[tokio::test]
async fn replica_takes_over_on_request() {
    let cluster = Cluster::start().await;
    let mut link = client(&cluster, 3).await;
    increment(&mut link, "foo").await.expect("a healthy Cluster");
    let old = cluster.master_of(FOO).await.port();
    let new = cluster.fail_over(FOO).await;
    assert_ne!(new.port(), old);
    assert_eq!(increment(&mut link, "foo").await.expect("the client follows"), 2);
}

#[tokio::test]
async fn slot_moves_with_its_keys_under_load() {
    let cluster =
        Cluster::start_with(ClusterShape { replicas: 0, ..ClusterShape::default() }).await;
    let mut link = client(&cluster, 16).await;
    for n in 0..50 {
        increment(&mut link, &format!("{{foo}}{n}")).await.expect("a healthy Cluster");
    }
    let from = cluster.master_of(FOO).await.port();
    let to = cluster.nodes().iter().find(|node| node.port() != from).expect("three masters");
    let load = async {
        for n in (0..50).cycle().take(200) {
            increment(&mut link, &format!("{{foo}}{n}")).await.expect("the client follows");
        }
    };
    tokio::join!(cluster.migrate_slot(FOO, to), load);
    cluster.wait_until_healthy().await;
    assert_eq!(cluster.master_of(FOO).await.port(), to.port());
    for n in 0..50 {
        let key = format!("{{foo}}{n}");
        assert_eq!(to.query::<u64>(&["GET", &key]).await, 5);
    }
}

/// The reason why the link makes its own retries: the client repeats applied requests.
#[tokio::test]
async fn proxies_show_the_redis_crate_sending_twice() {
    let shape = ClusterShape { masters: 1, replicas: 0, proxied: true };
    let cluster = Cluster::start_with(shape).await;
    let node = cluster.nodes().first().expect("one node");
    let proxy = cluster.proxies().first().expect("its link");
    for (retries, applied) in [(0, 1), (3, 2)] {
        let mut link = client(&cluster, retries).await;
        node.command(&["DEL", "n"]).await;
        cluster.reset_stats().await;
        proxy.times_on(1, Fault::CutAfterRequest, &["INCR"]);
        let told = increment(&mut link, "n").await;
        assert_eq!(told.ok(), (retries > 0).then_some(2));
        assert_eq!(node.query::<u64>(&["GET", "n"]).await, applied);
        assert_eq!(cluster.command_counts().await.get("incr"), Some(&applied));
    }
}
