//! Leases on Redis, beside what other crates and the bare commands take, all in one run by turns.
//!
//! `cargo run --release --manifest-path memory-lock/lease-bench/Cargo.toml -- redis://127.0.0.1:6379`
//!
//! - a pair: acquire and release of a lease that nobody else wants;
//! - a hand-over: from the moment a holder begins to release until a waiter with a connection of its own,
//!   as in another process, has the lease;
//! - contention: 32 waiters with 4 connections on one lease, each holding it for 2 ms.

use std::sync::Arc;
use std::time::{Duration, Instant};

use memory_lock::redis::{RedisConfig, RedisLink};
use memory_lock::{Lease, LockBackend as _, LockKey, LockManager, LockOptions, OwnerId, RedisLock};
use tokio::sync::{Mutex, Notify};

const TTL: Duration = Duration::from_secs(30);
const RELEASE: &str = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0";

/// A client of one of the libraries, with a connection of its own.
#[derive(Clone)]
enum Client {
    /// `SET NX PX` and a compare-and-delete: the floor, and no way to wait.
    Bare(redis::aio::MultiplexedConnection, Arc<redis::Script>),
    Ours(LockManager),
    Rslock(rslock::LockManager),
    AsyncRedisLock(async_redis_lock::Locker),
    RedisLock(Arc<Mutex<redis_027::aio::MultiplexedConnection>>),
}

const NAMES: [&str; 5] = ["bare commands", "memory-lock", "rslock", "async-redis-lock", "redis-lock"];

impl Client {
    async fn open(name: &str, url: &str) -> Self {
        match name {
            "bare commands" => {
                let client = redis::Client::open(url).unwrap();
                let connection = client.get_multiplexed_async_connection().await.unwrap();
                Self::Bare(connection, Arc::new(redis::Script::new(RELEASE)))
            }
            "memory-lock" => {
                let link = RedisLink::open(RedisConfig::from_url(url).unwrap()).await.unwrap();
                Self::Ours(LockManager::new(Arc::new(RedisLock::new(link))))
            }
            "rslock" => Self::Rslock(rslock::LockManager::new(vec![url])),
            "async-redis-lock" => {
                let locker = async_redis_lock::Locker::from_redis_url(url).await;
                Self::AsyncRedisLock(locker.unwrap())
            }
            _ => {
                let client = redis_027::Client::open(url).unwrap();
                let connection = client.get_multiplexed_async_connection().await.unwrap();
                Self::RedisLock(Arc::new(Mutex::new(connection)))
            }
        }
    }

    /// Holds the lease while `inside` runs.
    async fn hold<T: Send + 'static>(
        &self,
        key: &str,
        inside: impl Future<Output = T> + Send + 'static,
    ) -> T {
        match self {
            Self::Bare(connection, script) => {
                let mut connection = connection.clone();
                let mut set = redis::cmd("SET");
                set.arg(key).arg("an owner of 32 characters or so").arg("NX").arg("PX").arg(30_000);
                set.query_async::<()>(&mut connection).await.unwrap();
                let output = inside.await;
                let mut release = script.prepare_invoke();
                release.key(key).arg("an owner of 32 characters or so");
                release.invoke_async::<i64>(&mut connection).await.unwrap();
                output
            }
            Self::Ours(locks) => {
                let options = LockOptions::new().with_ttl(TTL).with_wait_timeout(TTL);
                let guard = locks.lock(&LockKey::new(key).unwrap(), &options).await.unwrap();
                let output = inside.await;
                guard.release().await;
                output
            }
            Self::Rslock(locks) => {
                let guard = locks.acquire(key, TTL).await.unwrap();
                let output = inside.await;
                guard.release().await;
                output
            }
            Self::AsyncRedisLock(locker) => {
                let options = async_redis_lock::Options::new().ttl(TTL).timeout(None);
                let lock = locker.acquire_with_options(&options, key).await.unwrap();
                let output = inside.await;
                lock.release().await.unwrap();
                output
            }
            Self::RedisLock(connection) => {
                let options = redis_lock::LockAcrossOptions { ttl: TTL, duration: TTL, ..Default::default() };
                let connections = [Arc::clone(connection)];
                redis_lock::lock_across(&connections, key, inside, options).await.ok().unwrap()
            }
        }
    }
}

fn percentile(sorted: &[Duration], part: usize) -> Duration {
    sorted[(sorted.len() - 1) * part / 1_000]
}

async fn pairs(clients: &[Client]) {
    const ROUNDS: usize = 15;
    const PAIRS: usize = 400;
    let mut taken = vec![Vec::new(); clients.len()];
    for _ in 0..ROUNDS {
        for (client, taken) in clients.iter().zip(&mut taken) {
            for _ in 0..PAIRS {
                let begun = Instant::now();
                client.hold("pair", std::future::ready(())).await;
                taken.push(begun.elapsed());
            }
        }
    }
    taken.iter_mut().for_each(|taken| taken.sort_unstable());
    let bare = percentile(&taken[0], 500);
    println!("pair, uncontended, {} each\n  {:18} {:>10} {:>10} {:>8}", ROUNDS * PAIRS, "", "p50", "p99", "of bare");
    for (name, taken) in NAMES.iter().zip(&taken) {
        let p50 = percentile(taken, 500);
        let ratio = p50.as_secs_f64() / bare.as_secs_f64();
        println!("  {name:18} {p50:>10.1?} {:>10.1?} {ratio:>8.2}", percentile(taken, 990));
    }
}

async fn hand_overs(name: &str, url: &str) {
    let (holder, waiter) = (Client::open(name, url).await, Client::open(name, url).await);
    let mut taken = Vec::new();
    for round in 0..60 {
        let key = format!("hand-over-{name}-{round}");
        let (held, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let holding = {
            let (holder, key, held, go) = (holder.clone(), key.clone(), held.clone(), go.clone());
            async move {
                let inside = async move {
                    held.notify_one();
                    go.notified().await;
                    Instant::now()
                };
                holder.hold(&key, inside).await
            }
        };
        let waiting = async {
            held.notified().await;
            let released = async {
                // By then the waiter has found it held, and waits.
                tokio::time::sleep(Duration::from_millis(25 + round % 7 * 10)).await;
                go.notify_one();
            };
            let (granted, ()) = tokio::join!(waiter.hold(&key, async { Instant::now() }), released);
            granted
        };
        let (released, granted) = tokio::join!(holding, waiting);
        taken.push(granted.saturating_duration_since(released));
    }
    taken.sort_unstable();
    println!("  {name:18} {:>10.2?} {:>10.2?}", percentile(&taken, 500), percentile(&taken, 990));
}

async fn contention(name: &str, url: &str) {
    const CLIENTS: usize = 4;
    const EACH: usize = 8;
    let end = Instant::now() + Duration::from_secs(6);
    let key = format!("contended-{name}");
    let mut waiters = Vec::new();
    for _ in 0..CLIENTS {
        let client = Client::open(name, url).await;
        for _ in 0..EACH {
            let (client, key) = (client.clone(), key.clone());
            // Not every library's future can be sent to another thread.
            waiters.push(tokio::task::spawn_local(async move {
                let mut waits = Vec::new();
                while Instant::now() < end {
                    let asked = Instant::now();
                    let inside = async {
                        let granted = Instant::now();
                        tokio::time::sleep(Duration::from_millis(2)).await;
                        granted
                    };
                    let granted = client.hold(&key, inside).await;
                    waits.push(granted - asked);
                }
                waits
            }));
        }
    }
    let mut shares = Vec::new();
    let mut all = Vec::new();
    for waiter in waiters {
        let waits = waiter.await.unwrap();
        shares.push(waits.len());
        all.extend(waits);
    }
    all.sort_unstable();
    println!(
        "  {name:18} {:>7} {:>10.1?} {:>10.1?} {:>10.1?}   {} to {}",
        all.len(),
        percentile(&all, 500),
        percentile(&all, 990),
        percentile(&all, 1_000),
        shares.iter().min().unwrap(),
        shares.iter().max().unwrap(),
    );
}

/// 10,000 leases held: what renewing all of them takes.
async fn renewals(url: &str) {
    const LEASES: u128 = 10_000;
    let link = RedisLink::open(RedisConfig::from_url(url).unwrap()).await.unwrap();
    let backend = RedisLock::new(link);
    let mut leases = Vec::new();
    for number in 0..LEASES {
        let (key, owner) = (LockKey::new(format!("held-{number}")).unwrap(), OwnerId::new(number + 1));
        if let memory_lock::Acquired::Granted { token } = backend.try_acquire(&key, owner, TTL).await.unwrap() {
            leases.push(Lease { key, owner, token, ttl: TTL });
        }
    }
    let begun = Instant::now();
    let mut requests = 0;
    // As the manager does: 128 in one request.
    for batch in leases.chunks(128) {
        assert!(backend.renew(batch).await.unwrap().iter().all(|a| *a == memory_lock::Renewal::Renewed));
        requests += 1;
    }
    let took = begun.elapsed();
    println!(
        "{} leases renewed with {requests} requests in {took:.1?}; refreshed every 15 s, that is {:.1} requests a second",
        leases.len(),
        f64::from(requests) / 15.0,
    );
    for lease in &leases {
        backend.release(&lease.key, lease.owner).await.unwrap();
    }
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let Some(url) = std::env::args().nth(1) else {
        eprintln!("say which server, such as redis://127.0.0.1:6379; keys of this bench are written there");
        std::process::exit(2);
    };
    let mut clients = Vec::new();
    for name in NAMES {
        clients.push(Client::open(name, &url).await);
    }
    pairs(&clients).await;
    println!("hand-over to a waiter with another connection\n  {:18} {:>10} {:>10}", "", "p50", "p99");
    for name in &NAMES[1..] {
        hand_overs(name, &url).await;
    }
    println!(
        "32 waiters with 4 connections, 2 ms each, for 6 s\n  {:18} {:>7} {:>10} {:>10} {:>10}   shares",
        "", "holds", "wait p50", "p99", "longest"
    );
    let local = tokio::task::LocalSet::new();
    local
        .run_until(async {
            for name in &NAMES[1..] {
                contention(name, &url).await;
            }
        })
        .await;
    renewals(&url).await;
}
