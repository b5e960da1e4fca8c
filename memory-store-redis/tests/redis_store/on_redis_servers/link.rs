//! Correct and wrong ways to reach a server: it works, or the error names the reason in time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::support::load::assert_unknown;
use crate::support::{append, checked_outline, key, store, texts, until, with_settings, write};
use memory_core::MemoryStore;
use memory_core::lease::OwnerId;
use memory_core::store::{Applied, StoreErrorKind};
use memory_lock::{Acquired, LockBackend, LockKey, RedisLock, Release};
use memory_redis_link::{LinkError, LinkErrorKind};
use memory_redis_testkit::{Cluster, ClusterShape, Fault, Proxy, Sentinels, Server, free_port};
use memory_store_redis::{RedisConfig, RedisLink, RedisStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

const CONNECT: Duration = Duration::from_millis(300);
/// The additional time on a busy machine.
const MARGIN: Duration = Duration::from_millis(700);

async fn open(url: &str) -> Result<RedisLink, LinkError> {
    let url = with_settings(url, "connect_timeout=300ms&response_timeout=300ms");
    RedisLink::open(RedisConfig::from_url(&url).unwrap()).await
}

/// The error of opening this URL. It must arrive in time, concern no write, and show no password.
async fn refused(url: &str) -> LinkError {
    let begun = Instant::now();
    let fault = open(url).await.unwrap_err();
    assert!(begun.elapsed() < CONNECT + MARGIN, "{:?} until {fault}", begun.elapsed());
    assert_eq!(fault.applied(), Applied::No, "{fault:?}");
    assert!(!format!("{fault} {fault:?}").contains("secret"), "{fault:?}");
    println!("{url}: {fault}");
    fault
}

#[track_caller]
fn assert_says(fault: &LinkError, failure: &LinkErrorKind, words: &[&str]) {
    assert_eq!(fault.kind(), failure, "{fault:?}");
    for word in words {
        assert!(fault.to_string().contains(word), "no `{word}` in: {fault}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closed_port_is_unreachable() {
    let port = free_port();
    let place = format!("127.0.0.1:{port}");
    for scheme in ["redis", "redis+cluster"] {
        let fault = refused(&format!("{scheme}://{place}")).await;
        assert_says(&fault, &LinkErrorKind::Unreachable, &[&place, "check the address"]);
        assert!(fault.is_retryable());
    }
    let fault = refused(&format!("redis+sentinel://{place}/?master=m")).await;
    assert_says(&fault, &LinkErrorKind::Unreachable, &[&place]);
    let fault = refused("redis+unix:///nowhere/redis.sock").await;
    assert_says(&fault, &LinkErrorKind::Unreachable, &["/nowhere/redis.sock"]);
}

/// Listens, and does this with each connection.
async fn listener(answer: Option<&'static str>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut bytes = [0; 4096];
                while client.read(&mut bytes).await.is_ok_and(|length| length > 0) {
                    if let Some(answer) = answer {
                        let _ = client.write_all(answer.as_bytes()).await;
                        break;
                    }
                }
            });
        }
    });
    port
}

/// Bytes of this process in memory at the most, so far.
#[cfg(target_os = "linux")]
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_answers_fill_neither_memory_nor_errors() {
    let before = peak();
    let answers = [
        format!("-ERR {}\r\n", "x".repeat(1 << 20)),
        format!("-{}\r\n", "語".repeat(1 << 20)),
        format!("-WRONGPASS {}\r\n", "x".repeat(1 << 20)),
        "?".repeat(1 << 20),
        "$2147483647\r\nhello".to_owned(),
        "*2147483647\r\n".repeat(90),
        "*1\r\n".repeat(200_000),
        "%9223372036854775807\r\n".to_owned(),
    ];
    for answer in answers {
        let shown: String = answer.chars().take(20).collect();
        let port = listener(Some(answer.leak())).await;
        let fault = open(&format!("redis://127.0.0.1:{port}")).await.unwrap_err();
        let mut cause: Option<&dyn std::error::Error> = Some(&fault);
        while let Some(error) = cause {
            assert!(error.to_string().len() < 4 << 10, "{shown}");
            cause = error.source();
        }
        assert!(format!("{fault:?}").len() < 16 << 10, "{shown}");
    }
    assert!(peak() - before < 100 << 20, "{} more bytes", peak() - before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mute_server_times_out() {
    let place = format!("127.0.0.1:{}", listener(None).await);
    for url in [
        format!("redis://{place}"),
        format!("redis+cluster://{place}"),
        format!("redis+sentinel://{place}/?master=m"),
    ] {
        assert_says(&refused(&url).await, &LinkErrorKind::Unreachable, &[&place]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_servers_are_reported() {
    let http = "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    for answer in [http, "SSH-2.0-OpenSSH_9.2\r\n", "+PONG\r\n+PONG\r\n+PONG\r\n"] {
        let place = format!("127.0.0.1:{}", listener(Some(answer)).await);
        let fault = refused(&format!("redis://{place}")).await;
        assert_says(&fault, &LinkErrorKind::Unreachable, &["check the address"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_kind_of_server_names_the_right_url() {
    let config = &LinkErrorKind::Config;
    let master = Server::start_with(&["--repl-diskless-sync-delay", "0"]).await;
    let port = master.port().to_string();
    let replica = Server::start_with(&["--replicaof", "127.0.0.1", &port]).await;
    assert_says(&refused(replica.url()).await, config, &["replica", "redis+sentinel://"]);

    let single = format!("redis+cluster://127.0.0.1:{}", master.port());
    let fault = refused(&single).await;
    assert!(
        fault.to_string().contains("no Cluster") && fault.to_string().contains("redis://"),
        "{fault:?}"
    );

    let group = Sentinels::start_with(1, 1).await;
    let sentinel = group.sentinels()[0].url();
    assert_says(&refused(sentinel).await, config, &["is a Sentinel", "redis+sentinel://"]);
    let unknown = group.url().replace("mymaster", "another");
    let fault = refused(&unknown).await;
    assert_says(&fault, &LinkErrorKind::Unreachable, &["`another`", "master="]);
    let no_sentinel = format!("redis+sentinel://127.0.0.1:{}/?master=m", master.port());
    assert_says(&refused(&no_sentinel).await, &LinkErrorKind::Unreachable, &["Sentinel"]);

    let shape = ClusterShape { masters: 1, replicas: 0, proxied: false };
    let cluster = Cluster::start_with(shape).await;
    let node = cluster.nodes()[0].url();
    assert_says(&refused(node).await, config, &["node of a Cluster", "redis+cluster://"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_and_passwords_are_checked_and_reported() {
    let server = Server::start_with(&["--requirepass", "right"]).await;
    let port = server.port();
    let refusal = &LinkErrorKind::Authentication;
    let check = ["user or password", "check"];
    assert_says(&refused(&format!("redis://:secret@127.0.0.1:{port}")).await, refusal, &check);
    assert_says(&refused(&format!("redis://127.0.0.1:{port}")).await, refusal, &check);
    let unknown = format!("redis://nobody:secret@127.0.0.1:{port}");
    assert_says(&refused(&unknown).await, refusal, &check);

    // A user with only the required permissions, for separate keys and channels.
    let prefix = "tenant";
    let rights = [
        "ACL",
        "SETUSER",
        "agent",
        "on",
        ">pa/ss",
        "resetkeys",
        "~tenant:*",
        "resetchannels",
        "&tenant:*",
        "-@all",
        "+@connection",
        "+evalsha",
        "+eval",
        "+@hash",
        "+@read",
        "+set",
        "+zadd",
        "+zpopmin",
        "+zrem",
        "+del",
        "+unlink",
        "+pexpire",
        "+persist",
        "+time",
        "+publish",
        "+subscribe",
        "+scan",
        "+info",
    ];
    server.command(&rights).await;
    let url = |prefix: &str| format!("redis://agent:pa%2Fss@127.0.0.1:{port}/?prefix={prefix}");
    let link = RedisLink::open(RedisConfig::from_url(&url(prefix)).unwrap()).await.unwrap();
    let store = RedisStore::new(link.clone());
    let k = key("k");
    append(&store, &k, write(1, 1), &["one"]).await.unwrap();
    let lock = RedisLock::new(link);
    let name = LockKey::new(k.lease_name()).unwrap();
    let (owner, ttl) = (OwnerId::new(1), Duration::from_secs(9));
    assert!(matches!(lock.try_acquire(&name, owner, ttl).await.unwrap(), Acquired::Granted { .. }));
    lock.watch(&name, None).await;
    lock.release(&name, owner).await.unwrap();
    assert_eq!(
        store.keys(None, std::num::NonZeroUsize::MAX).await.unwrap(),
        std::slice::from_ref(&k)
    );
    checked_outline(&store, &k).await;

    // Waiters of other processes have a timer, so they do not depend on the notification.
    server.command(&["ACL", "SETUSER", "agent", "-publish"]).await;
    let acquired = lock.try_acquire(&name, owner, ttl).await.unwrap();
    assert!(matches!(acquired, Acquired::Granted { .. }));
    assert_eq!(lock.release(&name, owner).await.unwrap(), Release::Released);
    assert_eq!(lock.inspect(&name).await.unwrap(), None);

    // The keys of others are out of its reach.
    let link = RedisLink::open(RedisConfig::from_url(&url("other")).unwrap()).await.unwrap();
    let error = append(&RedisStore::new(link), &k, write(1, 1), &["x"]).await.unwrap_err();
    let StoreErrorKind::Authentication(text) = error.kind() else { panic!("{error:?}") };
    assert!(text.contains("access rules"), "{error}");
    assert_eq!(error.applied(), Applied::No);
    assert!(!error.is_retryable());

    // The password changes while the link is open: later connections are refused with the reason.
    let open = RedisLink::open(RedisConfig::from_url(&url(prefix)).unwrap()).await.unwrap();
    let (store, lock) = (RedisStore::new(open.clone()), RedisLock::new(open));
    server.command(&["ACL", "SETUSER", "agent", "resetpass", ">changed"]).await;
    server.command(&["CLIENT", "KILL", "USER", "agent"]).await;
    let error = until("refusal", async || {
        let error = store.head(&k).await.err()?;
        (!error.is_retryable()).then_some(error)
    })
    .await;
    assert!(matches!(error.kind(), StoreErrorKind::Authentication(_)), "{error:?}");
    assert!(error.to_string().contains("check those of the URL"), "{error}");
    let error = lock.try_acquire(&name, owner, ttl).await.unwrap_err();
    assert_eq!(error.kind(), &memory_lock::LockErrorKind::Authentication);
    assert!(!error.is_retryable());
    server.command(&["ACL", "SETUSER", "agent", "resetpass", ">pa/ss"]).await;
    store.head(&k).await.unwrap();

    // A user without permission for INFO can still connect.
    server.command(&["ACL", "SETUSER", "agent", "-info"]).await;
    let link = RedisLink::open(RedisConfig::from_url(&url(prefix)).unwrap()).await.unwrap();
    append(&RedisStore::new(link), &k, write(1, 2), &["two"]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn databases_of_one_server_are_apart() {
    let server = Server::start().await;
    let settings = with_settings("", "");
    let in_database = async |number: u32| {
        let url = format!("{}/{number}{}", server.url(), settings.trim_start_matches('/'));
        store(&url).await
    };
    let (zero, five) = (in_database(0).await, in_database(5).await);
    append(&zero, &key("k"), write(1, 1), &["zero"]).await.unwrap();
    append(&five, &key("k"), write(1, 1), &["five"]).await.unwrap();
    assert_eq!(texts(&zero, &key("k")).await, ["zero"]);
    assert_eq!(texts(&five, &key("k")).await, ["five"]);
    assert_ne!(zero.link().domain(), five.link().domain());
    let place = zero.link().keys().memory(key("k").as_str());
    let answers = server.commands(&[&["SELECT", "5"], &["EXISTS", &place]]).await;
    assert_eq!(answers[1], redis::Value::Int(1));
    let fault = refused(&format!("{}/99", server.url())).await;
    assert_says(&fault, &LinkErrorKind::Refused, &["refuses", "check the URL"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unix_socket_reaches_the_server() {
    let server = Server::start_with(&["--unixsocket", "redis.sock"]).await;
    let socket = server.dir().join("redis.sock");
    let url = with_settings(&format!("redis+unix://{}?db=3", socket.display()), "");
    let store = store(&url).await;
    append(&store, &key("k"), write(1, 1), &["by a socket"]).await.unwrap();
    assert_eq!(texts(&store, &key("k")).await, ["by a socket"]);
    let place = store.link().keys().memory(key("k").as_str());
    let answers = server.commands(&[&["SELECT", "3"], &["EXISTS", &place]]).await;
    assert_eq!(answers[1], redis::Value::Int(1));
    server.kill();
    server.restart().await;
    until("link to the server", async || store.head(&key("k")).await.ok()).await;
}

#[cfg(feature = "tls")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn untrusted_tls_certificate_is_refused_unless_allowed() {
    let dir = tempfile::tempdir().unwrap();
    let (cert, key_file) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    let made = std::process::Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"])
        .args(["-nodes", "-days", "2", "-subj", "/CN=localhost"])
        .args(["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"])
        .arg("-keyout")
        .arg(&key_file)
        .arg("-out")
        .arg(&cert)
        .output()
        .expect("`openssl` makes a certificate");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let port = free_port();
    let (cert, key_file) = (cert.display().to_string(), key_file.display().to_string());
    let port_text = port.to_string();
    let _server = Server::start_with(&[
        "--tls-port",
        &port_text,
        "--tls-cert-file",
        &cert,
        "--tls-key-file",
        &key_file,
        "--tls-auth-clients",
        "no",
    ])
    .await;
    let place = format!("127.0.0.1:{port}");
    let store =
        store(&format!("{}#insecure", with_settings(&format!("rediss://{place}"), ""))).await;
    append(&store, &key("k"), write(1, 1), &["over TLS"]).await.unwrap();
    assert_eq!(texts(&store, &key("k")).await, ["over TLS"]);
    let fault = refused(&format!("rediss://{place}")).await;
    assert_says(&fault, &LinkErrorKind::Unreachable, &[&place]);
    let source = format!("{:?}", std::error::Error::source(&fault).unwrap());
    assert!(source.to_lowercase().contains("certificate"), "{source}");
    // A plaintext client on a TLS port fails in time.
    refused(&format!("redis://{place}")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn same_objects_use_a_restarted_server() {
    let server = Server::start_with(&["--appendonly", "yes", "--appendfsync", "always"]).await;
    let store = store(server.url()).await;
    let lock = RedisLock::new(store.link().clone());
    let k = key("k");
    let name = LockKey::new("a lease").unwrap();
    for round in 1..=3_u64 {
        append(&store, &k, write(1, round), &["x"]).await.unwrap();
        server.kill();
        let begun = Instant::now();
        let error = append(&store, &k, write(2, round), &["y"]).await.unwrap_err();
        assert!(error.is_retryable(), "{error:?}");
        // From the second attempt on it is certain that no server answered.
        let error = append(&store, &k, write(2, round), &["y"]).await.unwrap_err();
        assert_eq!(error.applied(), Applied::No, "{error:?}");
        assert!(begun.elapsed() < MARGIN, "{:?}", begun.elapsed());
        server.restart().await;
        let begun = Instant::now();
        append(&store, &k, write(2, round), &["y"]).await.unwrap();
        let owner = OwnerId::new(round.into());
        lock.try_acquire(&name, owner, Duration::from_secs(9)).await.unwrap();
        lock.release(&name, owner).await.unwrap();
        assert!(begun.elapsed() < MARGIN, "{:?}", begun.elapsed());
    }
    assert_eq!(checked_outline(&store, &k).await.head.counters.appended, 6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_of_a_lost_server_reconnect_together() {
    let server = Server::start().await;
    let proxy = Proxy::in_front_of(server.url()).await;
    let store = store(proxy.url()).await;
    let k = key("k");
    append(&store, &k, write(0, 1), &["x"]).await.unwrap();
    for round in 2..=6_u64 {
        proxy.cut_links();
        let before = proxy.connections();
        let all = (1..=64_u128).map(|writer| {
            let (store, k) = (store.clone(), k.clone());
            tokio::spawn(async move {
                while append(&store, &k, write(writer, round), &["x"]).await.is_err() {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            })
        });
        for one in all.collect::<Vec<_>>() {
            one.await.unwrap();
        }
        let made = proxy.connections() - before;
        assert!((1..=3).contains(&made), "{made} connections for 64 callers");
    }
    assert_eq!(checked_outline(&store, &k).await.head.counters.appended, 1 + 5 * 64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stalled_server_delays_callers_within_their_timeout() {
    let server = Server::start().await;
    let store =
        store(&with_settings(server.url(), "response_timeout=200ms&connect_timeout=200ms")).await;
    let k = key("k");
    append(&store, &k, write(1, 1), &["x"]).await.unwrap();
    server.pause();
    for attempt in 0..6 {
        let begun = Instant::now();
        let error = append(&store, &k, write(1, 2), &["y"]).await.unwrap_err();
        assert!(begun.elapsed() < Duration::from_millis(200) + MARGIN, "{:?}", begun.elapsed());
        assert!(error.is_retryable(), "{error:?}");
        if attempt < RedisLink::TIMEOUTS {
            assert_unknown(&error);
        }
    }
    server.resume();
    let appended =
        until("answer", async || append(&store, &k, write(1, 2), &["y"]).await.ok()).await;
    assert_eq!(appended.outcome.first(), Some(memory_core::Sequence::new(2)));
    assert_eq!(checked_outline(&store, &k).await.head.counters.appended, 2);
}

/// A link whose other end disappeared without closing, as after the restart of a router.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connection_with_several_unanswered_calls_is_replaced() {
    let server = Server::start().await;
    let proxy = Proxy::in_front_of(&with_settings(server.url(), "response_timeout=200ms")).await;
    let store = store(proxy.url()).await;
    let k = key("k");
    append(&store, &k, write(1, 1), &["x"]).await.unwrap();
    assert_eq!(proxy.connections(), 1);
    proxy.hold_links();
    for _ in 0..RedisLink::TIMEOUTS {
        assert_unknown(&append(&store, &k, write(1, 2), &["y"]).await.unwrap_err());
    }
    assert_eq!(proxy.connections(), 1, "one lost answer is no reason");
    append(&store, &k, write(1, 2), &["y"]).await.unwrap();
    assert_eq!(proxy.connections(), 2);
    assert_eq!(texts(&store, &k).await, ["x", "y"]);
    assert_eq!(proxy.connections(), 2);
    proxy.set(Fault::Forward);
}

/// A proxy that forwards every new connection after a delay.
async fn slow_to_connect(port: u16, after: &Arc<AtomicU64>) -> (u16, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let front = listener.local_addr().unwrap().port();
    let accepted = Arc::new(AtomicU64::new(0));
    let (count, after) = (Arc::clone(&accepted), Arc::clone(after));
    tokio::spawn(async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            count.fetch_add(1, Ordering::SeqCst);
            let after = Duration::from_millis(after.load(Ordering::SeqCst));
            tokio::spawn(async move {
                tokio::time::sleep(after).await;
                let mut server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    (front, accepted)
}

/// No single caller owns the connection attempt: it continues while waiters join and leave.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn impatient_callers_still_connect_to_a_slow_server() {
    let server = Server::start().await;
    let after = Arc::new(AtomicU64::new(0));
    let (front, accepted) = slow_to_connect(server.port(), &after).await;
    let url = with_settings(&format!("redis://127.0.0.1:{front}"), "connect_timeout=20s");
    let store = store(&url).await;
    let k = key("k");
    append(&store, &k, write(1, 1), &["x"]).await.unwrap();
    after.store(600, Ordering::SeqCst);
    server.command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]).await;
    let (before, begun) = (accepted.load(Ordering::SeqCst), Instant::now());
    let mut gave_up = 0;
    loop {
        let call = append(&store, &k, write(1, 2), &["y"]);
        match tokio::time::timeout(Duration::from_millis(50), call).await {
            Ok(Ok(_)) => break,
            // The first may have found the broken connection.
            Ok(Err(error)) => assert!(error.is_retryable(), "{error:?}"),
            Err(_) => gave_up += 1,
        }
        assert!(begun.elapsed() < Duration::from_secs(15), "they never connect");
    }
    assert!(gave_up > 2, "nobody had to give up");
    assert_eq!(accepted.load(Ordering::SeqCst) - before, 1, "one attempt for all");
    assert_eq!(texts(&store, &k).await, ["x", "y"]);
}

/// An attempt that is under way ends with the link.
#[tokio::test]
async fn connection_dropped_while_connecting_leaves_no_task() {
    let server = Server::start().await;
    let after = Arc::new(AtomicU64::new(0));
    let (front, _) = slow_to_connect(server.port(), &after).await;
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    let url = with_settings(&format!("redis://127.0.0.1:{front}"), "connect_timeout=600s");
    let store = store(&url).await;
    after.store(600_000, Ordering::SeqCst);
    server.command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]).await;
    let k = key("k");
    let impatient = async || {
        let call = store.head(&k);
        tokio::time::timeout(Duration::from_millis(50), call).await.is_err().then_some(())
    };
    until("attempt to connect", impatient).await;
    let connecting = tasks();
    drop(store);
    // One task of the front still waits, and no more of the link's.
    until("end of the attempt", async || (tasks() < connecting).then_some(())).await;
    until("end of the link", async || (tasks() <= before + 1).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn disk_durability_is_checked_again_after_reconnect() {
    for (name, value, back) in [("appendfsync", "everysec", "always"), ("appendonly", "no", "yes")]
    {
        let server = Server::start_with(&["--appendonly", "yes", "--appendfsync", "always"]).await;
        let store = store(&with_settings(server.url(), "fsync=always")).await;
        let k = key("k");
        append(&store, &k, write(1, 1), &["on disk"]).await.unwrap();
        // As after a restart under another configuration.
        server.command(&["CONFIG", "SET", name, value]).await;
        server.command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]).await;
        let mut refusals = 0;
        let told = until("word of it", async || {
            let error = append(&store, &k, write(1, 2), &["not"]).await.unwrap_err();
            refusals += 1;
            let says = error.to_string();
            (says.contains("appendfsync always") || says.contains("appendonly yes"))
                .then_some(error)
        })
        .await;
        assert!(refusals <= 2, "the first may find the broken connection, no other one");
        assert_eq!(told.applied(), Applied::No, "{told:?}");
        // Not once, but as long as the setting is wrong.
        append(&store, &k, write(1, 2), &["not"]).await.unwrap_err();
        server.command(&["CONFIG", "SET", name, back]).await;
        append(&store, &k, write(1, 2), &["on disk too"]).await.unwrap();
        assert_eq!(texts(&store, &k).await, ["on disk", "on disk too"]);
    }
}

/// Two groups of Sentinels know a master by one name, as after a split. The group that is named first has a
/// master that accepts connections and does not answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sentinel_naming_a_dead_master_blocks_no_caller() {
    let (dead, alive) = (Sentinels::start_with(0, 1).await, Sentinels::start_with(0, 1).await);
    let silent = dead.current_master().await;
    silent.pause();
    let place = |group: &Sentinels| format!("127.0.0.1:{}", group.sentinels()[0].port());
    let both = format!("redis+sentinel://{},{}/?master=mymaster", place(&dead), place(&alive));
    let url = both + "&connect_timeout=20s&response_timeout=20s&prefix=test";
    let begun = Instant::now();
    let link = RedisLink::open(RedisConfig::from_url(&url).unwrap()).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    append(&RedisStore::new(link), &key("k"), write(1, 1), &["x"]).await.unwrap();
    silent.resume();
}
