//! A quorum of real servers, some of which are stopped, killed, or come back empty.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use memory_lock::conformance::{self, Subject};
use memory_lock::redis::RedisConfig;
use memory_lock::{
    Acquired, Clock, ClockExt as _, FencingToken, HandOver, Lease, LockBackend, LockErrorKind,
    LockKey, LockManager, LockOptions, OwnerId, RedlockLock, Release, ReleaseOutcome, Renewal,
};
use memory_redis_testkit::{Fault, Proxy, Server, unique_prefix};
use tokio::time::{Instant, sleep, timeout};

const TTL: Duration = Duration::from_secs(30);
/// Far below the 2 s timeout for a server that does not answer.
const AT_ONCE: Duration = Duration::from_millis(500);

/// The absence of an effect has no event to wait for: requests in flight reach their servers meanwhile.
async fn time_to_go_wrong() {
    sleep(Duration::from_millis(100)).await;
}

struct Servers {
    servers: Vec<Server>,
    prefix: String,
}

impl Servers {
    async fn start(count: usize) -> Self {
        let mut servers = Vec::new();
        for _ in 0..count {
            servers.push(Server::start().await);
        }
        Self { servers, prefix: unique_prefix() }
    }

    fn configs(&self) -> Vec<RedisConfig> {
        let config = |server: &Server| RedisConfig::from_url(server.url()).unwrap();
        let configs = self.servers.iter().map(config);
        configs.map(|config| config.with_prefix(&self.prefix).unwrap()).collect()
    }

    async fn open(&self) -> RedlockLock {
        RedlockLock::open(self.configs(), Clock::system()).await.unwrap()
    }

    /// The lease as one server has it.
    async fn lease(&self, server: usize, key: &LockKey) -> Option<(OwnerId, u64)> {
        let name = self.configs()[server].keyspace().lease(key.as_str());
        let value: Option<String> = self.servers[server].query(&["GET", &name]).await;
        let value = value?;
        let mut parts = value.split(' ');
        Some((parts.next()?.parse().unwrap(), parts.next()?.parse().unwrap()))
    }

    /// Gives the lease to another owner at one server, bypassing the quorum.
    async fn put(&self, server: usize, key: &LockKey, owner: OwnerId) {
        let name = self.configs()[server].keyspace().lease(key.as_str());
        let value = format!("{owner} 1 1");
        self.servers[server].command(&["SET", &name, &value, "PX", "30000"]).await;
    }

    async fn remove(&self, server: usize, key: &LockKey) {
        let name = self.configs()[server].keyspace().lease(key.as_str());
        self.servers[server].command(&["DEL", &name]).await;
    }

    async fn counter(&self, server: usize, key: &LockKey) -> u64 {
        let name = self.configs()[server].keyspace().fence(key.as_str());
        let value: Option<u64> = self.servers[server].query(&["GET", &name]).await;
        value.unwrap_or_default()
    }

    /// Waits until a server has this lease, because the change happens in the background.
    async fn until_lease(&self, server: usize, key: &LockKey, lease: Option<(OwnerId, u64)>) {
        let begun = Instant::now();
        while self.lease(server, key).await != lease {
            let seen = self.lease(server, key).await;
            assert!(begun.elapsed() < Duration::from_secs(10), "server {server} has {seen:?}");
            sleep(Duration::from_millis(5)).await;
        }
    }
}

fn key() -> LockKey {
    LockKey::new("support:case-17").unwrap()
}

fn owner() -> OwnerId {
    OwnerId::new(fastrand::u128(..))
}

fn lease(owner: OwnerId, token: FencingToken) -> Lease {
    Lease { key: key(), owner, token, ttl: TTL }
}

async fn granted(lock: &RedlockLock, owner: OwnerId) -> FencingToken {
    match lock.try_acquire(&key(), owner, TTL).await.unwrap() {
        Acquired::Granted { token } => token,
        held @ Acquired::Held { .. } => panic!("not granted: {held:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quorum_conforms() {
    let servers = Servers::start(3).await;
    let passed = conformance::run(async || {
        let fresh = unique_prefix();
        let configs = servers.configs().into_iter();
        let configs = configs.map(|config| config.with_prefix(&fresh).unwrap());
        let lock = RedlockLock::open(configs, Clock::system()).await.unwrap();
        Subject::new(Arc::new(lock))
    })
    .await
    .unwrap_or_else(|failures| panic!("{failures}"));
    assert_eq!(passed, 25);
}

#[tokio::test]
async fn quorum_conforms_with_one_server_down() {
    let servers = Servers::start(3).await;
    servers.servers[1].kill();
    conformance::run(async || {
        let fresh = unique_prefix();
        let configs = servers.configs().into_iter();
        let configs = configs.map(|config| config.with_prefix(&fresh).unwrap());
        let lock = RedlockLock::open(configs, Clock::system()).await.unwrap();
        Subject::new(Arc::new(lock))
    })
    .await
    .unwrap_or_else(|failures| panic!("{failures}"));
}

#[tokio::test]
async fn invalid_quorum_is_refused_with_the_remedy() {
    let servers = Servers::start(3).await;
    let configs = servers.configs();
    let cluster = RedisConfig::from_url("redis+cluster://127.0.0.1:1").unwrap();
    let port = servers.servers[0].port();
    let alias = RedisConfig::from_url(&format!("redis://localhost:{port}/1")).unwrap();
    let with = |extra: RedisConfig| vec![configs[0].clone(), configs[1].clone(), extra];
    for (configs, remedy) in [
        (configs[..1].to_vec(), "3 at least"),
        (configs[..2].to_vec(), "3 at least"),
        ([configs.clone(), configs[..1].to_vec()].concat(), "odd number"),
        (with(cluster), "is a Cluster"),
        (with(configs[0].clone()), "named twice"),
        (with(alias), "are one server"),
    ] {
        let error = RedlockLock::open(configs, Clock::system()).await.unwrap_err();
        assert_eq!(error.kind(), &LockErrorKind::InvalidOptions, "{error}");
        assert!(error.to_string().contains(remedy), "{error}");
    }
    let mut reversed = configs.clone();
    reversed.reverse();
    let (one, two) = (servers.open().await, RedlockLock::open(reversed, Clock::system()).await);
    assert_eq!(one.domain(), two.unwrap().domain());
    assert!(one.domain().as_str().starts_with("redlock:127.0.0.1:"), "{:?}", one.domain());
}

#[tokio::test]
async fn one_round_is_enough_when_clocks_agree() {
    let servers = Servers::start(3).await;
    let lock = servers.open().await;
    let first = owner();
    granted(&lock, first).await;
    assert_eq!(lock.release(&key(), first).await.unwrap(), Release::Released);
    for server in 0..3 {
        servers.until_lease(server, &key(), None).await;
        servers.servers[server].reset_stats().await;
    }
    for _ in 0..20 {
        let owner = owner();
        granted(&lock, owner).await;
        assert_eq!(lock.release(&key(), owner).await.unwrap(), Release::Released);
    }
    for server in 0..3 {
        servers.until_lease(server, &key(), None).await;
        let counts = servers.servers[server].command_counts().await;
        assert_eq!(counts.get("evalsha"), Some(&40), "{counts:?}");
    }
}

#[tokio::test]
async fn hung_server_delays_nothing() {
    let servers = Servers::start(3).await;
    let lock = servers.open().await;
    for hung in 0..3 {
        servers.servers[hung].pause();
        for _ in 0..5 {
            let (first, second) = (owner(), owner());
            let token = granted(&lock, first).await;
            let steps = async {
                let renewed = lock.renew(&[lease(first, token)]).await.unwrap();
                assert_eq!(renewed, [Renewal::Renewed]);
                let held = lock.try_acquire(&key(), owner(), TTL).await.unwrap();
                assert!(matches!(held, Acquired::Held { remaining: Some(_) }), "{held:?}");
                let info = lock.inspect(&key()).await.unwrap().unwrap();
                assert_eq!((info.owner, info.token), (first, token));
                let handed = lock.hand_over(&key(), first, second, TTL).await.unwrap();
                assert!(matches!(handed, HandOver::HandedOver { token: new } if new > token));
                assert_eq!(lock.release(&key(), second).await.unwrap(), Release::Released);
                assert_eq!(lock.release(&key(), second).await.unwrap(), Release::NotOwner);
            };
            timeout(AT_ONCE, steps).await.expect("no call waits for the server that hangs");
        }
        servers.servers[hung].resume();
        // Its pending requests are executed now, and their effects withdrawn.
        time_to_go_wrong().await;
        for server in 0..3 {
            servers.until_lease(server, &key(), None).await;
        }
    }
}

#[tokio::test]
async fn late_grant_is_withdrawn() {
    let servers = Servers::start(3).await;
    let (lock, other) = (servers.open().await, servers.open().await);
    let holder = owner();
    servers.servers[2].pause();
    granted(&lock, holder).await;
    let held = timeout(AT_ONCE, other.try_acquire(&key(), owner(), TTL)).await.unwrap().unwrap();
    assert!(matches!(held, Acquired::Held { .. }));
    servers.servers[2].resume();
    // Either may be served first there: the holder's grant gets its token, the other one is withdrawn.
    let begun = Instant::now();
    loop {
        let token = lock.inspect(&key()).await.unwrap().unwrap().token;
        lock.renew(&[lease(holder, token)]).await.unwrap();
        if servers.lease(2, &key()).await == Some((holder, token.number())) {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(5));
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn missing_majority_fails_and_leaves_nothing() {
    let servers = Servers::start(3).await;
    let lock = servers.open().await;
    let token = granted(&lock, owner()).await;
    for server in &servers.servers {
        server.command(&["FLUSHALL"]).await;
    }
    servers.servers[0].kill();
    servers.servers[1].kill();
    let begun = Instant::now();
    let error = lock.try_acquire(&key(), owner(), TTL).await.unwrap_err();
    assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
    assert_eq!(error.kind(), &LockErrorKind::Unavailable, "{error}");
    assert!(error.is_retryable() && error.to_string().contains("2 of 3 servers"), "{error}");
    servers.until_lease(2, &key(), None).await;
    assert!(lock.release(&key(), owner()).await.is_err());
    assert!(lock.inspect(&key()).await.is_err());
    assert!(lock.renew(&[lease(owner(), token)]).await.is_err());
    // A quorum cannot be opened either.
    let error = RedlockLock::open(servers.configs(), Clock::system()).await.unwrap_err();
    assert_eq!(error.kind(), &LockErrorKind::Unavailable, "{error}");

    servers.servers[0].restart().await;
    servers.servers[1].restart().await;
    servers.servers[0].pause();
    servers.servers[1].pause();
    let begun = Instant::now();
    let error = lock.try_acquire(&key(), owner(), TTL).await.unwrap_err();
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}: {error}", begun.elapsed());
    servers.servers[0].resume();
    servers.servers[1].resume();
    for server in 0..3 {
        servers.until_lease(server, &key(), None).await;
    }
    granted(&lock, owner()).await;
}

#[tokio::test]
async fn renewal_restores_leases_on_an_emptied_server() {
    let servers = Servers::start(3).await;
    let lock = servers.open().await;
    let holder = owner();
    let token = granted(&lock, holder).await;
    for lost in 0..3 {
        servers.until_lease(lost, &key(), Some((holder, token.number()))).await;
        servers.servers[lost].restart().await;
        assert_eq!(servers.lease(lost, &key()).await, None);
        let begun = Instant::now();
        // One renewal may be needed to find that the connection to the old process is broken.
        while servers.lease(lost, &key()).await.is_none() {
            let renewed = lock.renew(&[lease(holder, token)]).await.unwrap();
            assert_eq!(renewed, [Renewal::Renewed]);
            assert!(begun.elapsed() < Duration::from_secs(5));
            sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(servers.lease(lost, &key()).await, Some((holder, token.number())));
        assert!(servers.counter(lost, &key()).await >= token.number());
        let name = servers.configs()[lost].keyspace().lease(key().as_str());
        let left: i64 = servers.servers[lost].query(&["PTTL", &name]).await;
        assert!(left > 20_000, "{left} ms");
    }
    // By now every server has lost the lease once, and the quorum never did.
    assert_eq!(granted(&lock, holder).await, token);
    assert_eq!(lock.release(&key(), holder).await.unwrap(), Release::Released);
}

#[tokio::test]
async fn lease_lost_by_a_majority_is_not_restored() {
    let servers = Servers::start(3).await;
    let lock = servers.open().await;
    let (holder, another) = (owner(), owner());
    let token = granted(&lock, holder).await;
    for server in 0..3 {
        servers.until_lease(server, &key(), Some((holder, token.number()))).await;
    }
    for server in &servers.servers[..2] {
        server.command(&["FLUSHALL"]).await;
    }
    let lost = lock.renew(&[lease(holder, token)]).await.unwrap();
    assert_eq!(lost, [Renewal::Vanished]);
    time_to_go_wrong().await;
    assert_eq!(servers.lease(0, &key()).await, None);
    assert!(granted(&lock, another).await > token);
    assert_eq!(lock.renew(&[lease(holder, token)]).await.unwrap(), [Renewal::NotOwner]);
    assert_eq!(lock.release(&key(), holder).await.unwrap(), Release::NotOwner);
}

#[tokio::test]
async fn tokens_rise_when_any_minority_is_lost() {
    let servers = Servers::start(3).await;
    let locks = [servers.open().await, servers.open().await];
    let mut last = FencingToken::ZERO;
    for round in 0..60 {
        let lost = fastrand::usize(..3);
        match round % 4 {
            0 => servers.servers[lost].pause(),
            // Its keys and its counter.
            1 => drop(servers.servers[lost].command(&["FLUSHALL"]).await),
            2 => servers.servers[lost].restart().await,
            _ => {}
        }
        // The two processes alternate: neither knows the other's grants.
        let lock = &locks[round % 2];
        let owner = owner();
        let begun = Instant::now();
        let token = loop {
            match lock.try_acquire(&key(), owner, TTL).await {
                Ok(Acquired::Granted { token }) => break token,
                other => assert!(begun.elapsed() < Duration::from_secs(10), "{round}: {other:?}"),
            }
            sleep(Duration::from_millis(5)).await;
        };
        assert!(token > last, "round {round}: token {token} after {last}");
        last = token;
        if round % 4 == 0 {
            servers.servers[lost].resume();
        }
        while lock.release(&key(), owner).await.is_err() {
            sleep(Duration::from_millis(5)).await;
        }
    }
}

#[tokio::test]
async fn stall_during_renewal_loses_no_lease() {
    let servers = Servers::start(3).await;
    let stall = async |which: &[usize]| {
        which.iter().for_each(|server| servers.servers[*server].pause());
        sleep(Duration::from_millis(700)).await;
        which.iter().for_each(|server| servers.servers[*server].resume());
    };
    let patient = servers.open().await;
    let hasty = servers.configs().into_iter();
    let hasty = hasty.map(|it| it.with_response_timeout(Duration::from_millis(200)));
    let hasty = RedlockLock::open(hasty, Clock::system()).await.unwrap();
    let holder = owner();
    let token = granted(&patient, holder).await;
    for stalled in [&[0, 1][..], &[1, 2], &[0, 1, 2], &[2]] {
        // It waits for the answer.
        let renewal = [lease(holder, token)];
        let (renewed, ()) = tokio::join!(patient.renew(&renewal), stall(stalled));
        assert_eq!(renewed.unwrap(), [Renewal::Renewed]);
        // It gives up, and has destroyed nothing.
        let (renewed, ()) = tokio::join!(hasty.renew(&renewal), stall(stalled));
        match renewed {
            Ok(renewed) => assert_eq!(renewed, [Renewal::Renewed]),
            Err(error) => assert!(stalled.len() > 1 && error.is_retryable(), "{error}"),
        }
        let stranger = patient.try_acquire(&key(), owner(), TTL).await.unwrap();
        assert!(matches!(stranger, Acquired::Held { .. }));
        assert_eq!(patient.renew(&renewal).await.unwrap(), [Renewal::Renewed]);
        let info = patient.inspect(&key()).await.unwrap().unwrap();
        assert_eq!((info.owner, info.token), (holder, token));
    }
    assert_eq!(patient.release(&key(), holder).await.unwrap(), Release::Released);
}

#[tokio::test]
async fn dropped_call_does_not_disturb_the_next() {
    let servers = Servers::start(3).await;
    let lock = servers.open().await;
    for round in 0..60 {
        let owner = owner();
        let key = key();
        let mut call = Box::pin(lock.try_acquire(&key, owner, TTL));
        for _ in 0..round % 6 {
            if futures::poll!(&mut call).is_ready() {
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(call);
        // It is ordered after the dropped call, which was executed or not.
        let token = granted(&lock, owner).await;
        assert_eq!(lock.renew(&[lease(owner, token)]).await.unwrap(), [Renewal::Renewed]);
        assert_eq!(lock.release(&key, owner).await.unwrap(), Release::Released);
        for server in 0..3 {
            servers.until_lease(server, &key, None).await;
        }
    }
}

/// Both calls reach the third server before it answers the first. The withdrawal for the first call must
/// not remove the grant of the second.
#[tokio::test]
async fn withdrawal_spares_the_grant_of_the_next_call() {
    let servers = Servers::start(3).await;
    let lock = servers.open().await;
    let (stranger, owner) = (owner(), owner());
    servers.put(0, &key(), stranger).await;
    servers.put(1, &key(), stranger).await;
    servers.servers[2].pause();
    let held = lock.try_acquire(&key(), owner, TTL).await.unwrap();
    assert!(matches!(held, Acquired::Held { .. }));
    servers.remove(1, &key()).await;
    servers.servers[0].kill();
    let again = tokio::spawn({
        let lock = lock.clone();
        async move { granted(&lock, owner).await }
    });
    time_to_go_wrong().await;
    assert!(!again.is_finished(), "it cannot be decided without the server that hangs");
    servers.servers[2].resume();
    let token = again.await.unwrap();
    time_to_go_wrong().await;
    for server in [1, 2] {
        servers.until_lease(server, &key(), Some((owner, token.number()))).await;
    }
    assert_eq!(lock.renew(&[lease(owner, token)]).await.unwrap(), [Renewal::Renewed]);
}

/// One server is free, one is held, and the one that would decide between them hangs.
#[tokio::test]
async fn decision_does_not_wait_for_a_hung_server() {
    let servers = Servers::start(3).await;
    let lock = servers.open().await;
    servers.put(1, &key(), owner()).await;
    servers.servers[2].pause();
    let asked = timeout(AT_ONCE, lock.try_acquire(&key(), owner(), TTL)).await;
    let held = asked.expect("it is not waited for").unwrap();
    assert_eq!(held, Acquired::Held { remaining: Some(Duration::ZERO) });
    servers.until_lease(0, &key(), None).await;
    servers.servers[2].resume();
    servers.until_lease(2, &key(), None).await;
}

/// Between a server's answer that it lacks the lease and the attempt to restore it, another owner takes it.
#[tokio::test]
async fn lease_is_not_restored_over_another() {
    let servers = Servers::start(3).await;
    let link = Proxy::in_front_of(servers.servers[0].url()).await;
    let mut configs = servers.configs();
    let beside = RedisConfig::from_url(link.url()).unwrap();
    configs[0] = beside.with_prefix(&servers.prefix).unwrap();
    let lock = RedlockLock::open(configs, Clock::system()).await.unwrap();
    let (holder, stranger) = (owner(), owner());
    let token = granted(&lock, holder).await;
    servers.until_lease(0, &key(), Some((holder, token.number()))).await;
    // Both scripts are loaded there, so that each call is one request.
    servers.remove(0, &key()).await;
    lock.renew(&[lease(holder, token)]).await.unwrap();
    servers.until_lease(0, &key(), Some((holder, token.number()))).await;

    servers.remove(0, &key()).await;
    link.reset_requests();
    link.set(Fault::Delay(Duration::from_millis(200)));
    let renewed = timeout(AT_ONCE, lock.renew(&[lease(holder, token)])).await.unwrap().unwrap();
    assert_eq!(renewed, [Renewal::Renewed]);
    let passed = async |count| {
        while link.requests() < count {
            sleep(Duration::from_millis(5)).await;
        }
    };
    passed(1).await;
    servers.put(0, &key(), stranger).await;
    passed(2).await;
    time_to_go_wrong().await;
    assert_eq!(servers.lease(0, &key()).await, Some((stranger, 1)));
}

/// The servers grant different tokens. Before the greater one is written back to the other server, another
/// owner takes the lease there.
#[tokio::test]
async fn token_is_settled_only_on_the_owners_lease() {
    let servers = Servers::start(3).await;
    let link = Proxy::in_front_of(servers.servers[0].url()).await;
    let mut configs = servers.configs();
    let beside = RedisConfig::from_url(link.url()).unwrap();
    configs[0] = beside.with_prefix(&servers.prefix).unwrap();
    let lock = RedlockLock::open(configs.clone(), Clock::system()).await.unwrap();
    servers.servers[2].kill();
    let ahead = 1_u64 << 51;
    let fence = configs[1].keyspace().fence(key().as_str());
    servers.servers[1].command(&["SET", &fence, &(ahead - 1).to_string()]).await;

    let first = owner();
    assert_eq!(granted(&lock, first).await.number(), ahead);
    servers.until_lease(0, &key(), Some((first, ahead))).await;
    assert!(servers.counter(0, &key()).await >= ahead, "the counter is raised with it");
    assert_eq!(lock.release(&key(), first).await.unwrap(), Release::Released);

    let (second, stranger) = (owner(), owner());
    // Only the other server's token is far ahead, so that this one must be updated.
    servers.servers[0].command(&["DEL", &fence]).await;
    let lower = RedlockLock::open(configs, Clock::system()).await.unwrap();
    link.set(Fault::Delay(Duration::from_millis(200)));
    let asked = tokio::spawn(async move { lower.try_acquire(&key(), second, TTL).await });
    while servers.lease(0, &key()).await.is_none_or(|(owner, _)| owner != second) {
        sleep(Duration::from_millis(5)).await;
    }
    servers.put(0, &key(), stranger).await;
    let answer = asked.await.unwrap();
    assert!(!matches!(answer, Ok(Acquired::Granted { .. })), "{answer:?}");
    link.set(Fault::Forward);
    servers.until_lease(0, &key(), Some((stranger, 1))).await;
    servers.until_lease(1, &key(), None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn managers_of_several_processes_take_turns() {
    let servers = Servers::start(3).await;
    let inside = Arc::new(AtomicUsize::new(0));
    let mut tasks = Vec::new();
    for _ in 0..4 {
        let manager = LockManager::new(Arc::new(servers.open().await));
        for _ in 0..4 {
            let (manager, inside) = (manager.clone(), Arc::clone(&inside));
            tasks.push(tokio::spawn(async move {
                for _ in 0..10 {
                    let guard = manager.lock(&key(), &LockOptions::default()).await.unwrap();
                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two are inside");
                    tokio::task::yield_now().await;
                    inside.fetch_sub(1, Ordering::SeqCst);
                    assert_eq!(guard.release().await, ReleaseOutcome::Released);
                }
            }));
        }
    }
    let begun = Instant::now();
    for task in tasks {
        task.await.unwrap();
    }
    println!("160 turns of 16 tasks of 4 managers: {:?}", begun.elapsed());
}
