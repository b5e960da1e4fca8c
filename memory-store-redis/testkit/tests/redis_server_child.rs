//! Servers as children: start, kill, pause, restart, and their statistics.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use memory_redis_testkit::Server;
use redis::Value;

#[tokio::test]
async fn server_answers_until_it_is_dropped() {
    let server = Server::start().await;
    let pid = server.pid().expect("it runs");
    let dir = server.dir().to_owned();
    assert_eq!(server.command(&["PING"]).await, Value::SimpleString("PONG".to_owned()));
    assert!(dir.exists() && exists(pid));
    drop(server);
    assert!(!dir.exists() && !exists(pid));
}

#[tokio::test]
async fn killed_server_restarts_empty_without_a_log() {
    for (args, kept) in
        [(vec![], None), (vec!["--appendonly", "yes", "--appendfsync", "always"], Some(1))]
    {
        let server = Server::start_with(&args).await;
        let (url, port, pid) = (server.url().to_owned(), server.port(), server.pid());
        server.command(&["SET", "key", "1"]).await;
        server.kill();
        assert!(!server.is_running());
        assert!(server.try_query::<Value>(&["PING"]).await.is_err());
        server.restart().await;
        assert_eq!((server.url(), server.port()), (url.as_str(), port));
        assert_ne!(server.pid(), pid);
        assert_eq!(server.query::<Option<u8>>(&["GET", "key"]).await, kept, "{args:?}");
    }
}

#[tokio::test]
async fn paused_server_answers_after_it_resumes() {
    let server = Server::start().await;
    server.pause();
    let late = server.command(&["INCR", "n"]);
    tokio::pin!(late);
    let limit = Duration::from_millis(200);
    assert!(tokio::time::timeout(limit, &mut late).await.is_err());
    assert!(server.is_running());
    server.resume();
    assert_eq!(late.await, Value::Int(1));
}

#[tokio::test]
async fn paused_server_is_killed_and_running_one_stopped() {
    let server = Server::start().await;
    server.pause();
    server.kill();
    server.restart().await;
    let pid = server.pid().expect("it runs");
    server.stop().await;
    assert!(!server.is_running() && !exists(pid));
    server.restart().await;
}

#[tokio::test]
async fn password_is_in_the_url() {
    let server = Server::start_with(&["--requirepass", "secret"]).await;
    assert!(server.url().contains(":secret@"));
    assert_eq!(server.command(&["PING"]).await, Value::SimpleString("PONG".to_owned()));
}

#[tokio::test]
async fn calls_of_the_testkit_are_not_counted() {
    let server = Server::start().await;
    assert!(server.command_counts().await.is_empty());
    server.command(&["SET", "key", "1"]).await;
    server.command(&["CLIENT", "ID"]).await;
    server.reset_stats().await;
    server.command(&["GET", "key"]).await;
    server.command(&["EVAL", "return redis.call('GET', 'key')", "0"]).await;
    server.command(&["CLIENT", "ID"]).await;
    server.command(&["INFO"]).await;
    // As servers before 7.0 count, too.
    let counts = async || -> BTreeMap<String, u64> {
        let counts = server.command_counts().await.into_iter();
        counts.map(|(name, n)| (name.split('|').next().unwrap_or_default().to_owned(), n)).collect()
    };
    let expected: BTreeMap<String, u64> = [("client", 1), ("eval", 1), ("get", 2), ("info", 1)]
        .map(|(name, n)| (name.into(), n))
        .into();
    assert_eq!(counts().await, expected);
    assert_eq!(counts().await, expected);
}

/// A process that is killed has no chance to clean up after itself.
#[tokio::test]
async fn server_ends_when_its_test_is_killed() {
    let mut test = Command::new(std::env::current_exe().expect("this very test"))
        .args(["--exact", "child", "--nocapture", "--test-threads=1"])
        .env(CHILD, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts again");
    let output = BufReader::new(test.stdout.take().expect("stdout is piped"));
    let pid = output
        .lines()
        .find_map(|line| line.expect("text").strip_prefix("pid ")?.parse().ok())
        .expect("it tells the id of its server");
    assert!(exists(pid));
    test.kill().expect("it runs");
    test.wait().expect("it was killed");
    let end = async {
        while exists(pid) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), end).await.expect("the server ends too");
}

const CHILD: &str = "MEMORY_TEST_CHILD";

/// The process that the test above kills; not a separate test.
#[tokio::test]
async fn child() {
    if std::env::var_os(CHILD).is_some() {
        let server = Server::start().await;
        println!("\npid {}", server.pid().expect("it runs"));
        std::future::pending::<()>().await;
    }
}

fn exists(pid: u32) -> bool {
    let kill = format!("kill -0 {pid} 2>/dev/null");
    Command::new("sh").args(["-c", &kill]).status().expect("`sh` starts").success()
}
