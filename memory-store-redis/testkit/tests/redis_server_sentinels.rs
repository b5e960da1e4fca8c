//! A master that is watched by sentinels.

use memory_redis_testkit::Sentinels;
use redis::Value;
use redis::sentinel::{SentinelClientBuilder, SentinelServerType};

#[tokio::test]
async fn replicas_become_master_repeatedly() {
    let group = Sentinels::start().await;
    for n in 1..=3 {
        let old = group.current_master().await;
        let answers = old.commands(&[&["INCR", "n"], &["WAIT", "2", "5000"]]).await;
        assert_eq!(answers, [Value::Int(n), Value::Int(2)]);
        assert_eq!(group.kill_master().await.port(), old.port());
        let new = group.current_master().await;
        assert_ne!(new.port(), old.port());
        assert_eq!(new.query::<i64>(&["GET", "n"]).await, n);
        group.restart(old).await;
        group.wait_until_healthy().await;
        assert_eq!(group.current_master().await.port(), new.port());
    }
}

#[tokio::test]
async fn client_finds_the_master_through_sentinels() {
    let group = Sentinels::start_with(1, 1).await;
    let url = group.url();
    let hosts = url.strip_prefix("redis+sentinel://").and_then(|it| it.split_once("/?master="));
    let (hosts, master) = hosts.expect("hosts and a name");
    let hosts: Vec<_> = hosts
        .split(',')
        .map(|host| {
            let (host, port) = host.split_once(':').expect("host and port");
            redis::ConnectionAddr::Tcp(host.to_owned(), port.parse().expect("a number"))
        })
        .collect();
    let mut client = SentinelClientBuilder::new(hosts, master, SentinelServerType::Master)
        .and_then(SentinelClientBuilder::build)
        .expect("hosts that the client understands");
    let mut link = client.get_async_connection().await.expect("the master answers");
    redis::cmd("SET").arg("n").arg(1).query_async::<()>(&mut link).await.expect("it is writable");
    assert_eq!(group.current_master().await.query::<u8>(&["GET", "n"]).await, 1);
}
