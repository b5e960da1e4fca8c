//! Leases on Redis, compared with other crates and the bare commands, interleaved in one run.
//!
//! `cargo run --release --manifest-path memory-lock/lease-bench/Cargo.toml -- redis://127.0.0.1:6379`
//!
//! - a pair: acquire and release of an uncontended lease;
//! - a pair: compared with the bare commands also two scripts that do nothing, and the two calls of our
//!   backend without the manager;
//! - a hand-over: from the moment a holder begins to release until a waiter in another process, a child of
//!   this one, has the lease, by the wall clock that both read;
//! - contention: 32 waiters with 4 connections on one lease, each holding it for 2 ms;
//! - 10,000 leases held by a manager: the number of requests that the server counts while they are
//!   refreshed.
//! - 10,000 leases held by a manager: how many requests the server counts while they are refreshed.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex as StdMutex};
use std::time::{Duration, Instant, SystemTime};

use memory_lock::redis::{RedisConfig, RedisLink};
use memory_lock::{LockBackend as _, LockKey, LockManager, LockOptions, OwnerId, RedisLock};
use tokio::sync::Mutex;

const TTL: Duration = Duration::from_secs(30);
const RELEASE: &str = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0";

/// A client of one of the libraries, with a separate connection.
#[derive(Clone)]
enum Client {
    /// `SET NX PX` and a compare-and-delete: the lower bound, without a way to wait.
    Bare(redis::aio::MultiplexedConnection, Arc<redis::Script>),
    /// Two scripts that do nothing: the cost of any two scripts.
    Empty(redis::aio::MultiplexedConnection, Arc<redis::Script>),
    Ours(LockManager),
    /// The two calls of our backend, without the manager.
    Backend(RedisLock),
    Rslock(rslock::LockManager),
    AsyncRedisLock(async_redis_lock::Locker),
    RedisLock(Arc<Mutex<redis_027::aio::MultiplexedConnection>>),
}

const BARE: &str = "bare commands";
const NAMES: [&str; 4] = ["memory-lock", "rslock", "async-redis-lock", "redis-lock"];
const FLOORS: [&str; 3] = [BARE, "two empty scripts", "our backend alone"];

impl Client {
    async fn open(name: &str, url: &str) -> Self {
        match name {
            BARE | "two empty scripts" => {
                let client = redis::Client::open(url).unwrap();
                let connection = client.get_multiplexed_async_connection().await.unwrap();
                if name == BARE {
                    Self::Bare(connection, Arc::new(redis::Script::new(RELEASE)))
                } else {
                    Self::Empty(connection, Arc::new(redis::Script::new("return 1")))
                }
            }
            "our backend alone" => {
                let link = RedisLink::open(RedisConfig::from_url(url).unwrap()).await.unwrap();
                Self::Backend(RedisLock::new(link))
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
            Self::Empty(connection, script) => {
                let mut connection = connection.clone();
                let mut call = script.prepare_invoke();
                call.key(key).arg("an owner of 32 characters or so");
                call.invoke_async::<i64>(&mut connection).await.unwrap();
                let output = inside.await;
                call.invoke_async::<i64>(&mut connection).await.unwrap();
                output
            }
            Self::Backend(backend) => {
                let (key, owner) = (LockKey::new(key).unwrap(), OwnerId::new(7));
                backend.try_acquire(&key, owner, TTL).await.unwrap();
                let output = inside.await;
                backend.release(&key, owner).await.unwrap();
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

async fn pairs(url: &str) {
    let names: Vec<_> = FLOORS.into_iter().chain(NAMES).collect();
    let mut clients = Vec::new();
    for name in &names {
        clients.push(Client::open(name, url).await);
    }
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
    for (name, taken) in names.iter().zip(&taken) {
        let p50 = percentile(taken, 500);
        let ratio = p50.as_secs_f64() / bare.as_secs_f64();
        println!("  {name:18} {p50:>10.1?} {:>10.1?} {ratio:>8.2}", percentile(taken, 990));
    }
}

/// Nanoseconds by the clock that all processes share.
fn wall() -> u128 {
    SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos()
}

async fn hand_overs(name: &str, url: &str) {
    let holder = Client::open(name, url).await;
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--waiter", name, url])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let tell = Arc::new(StdMutex::new(child.stdin.take().unwrap()));
    let mut told = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut taken = Vec::new();
    for round in 0..60_u64 {
        let key = format!("hand-over-{name}-{round}");
        let inside = {
            let (tell, key) = (Arc::clone(&tell), key.clone());
            async move {
                writeln!(tell.lock().unwrap(), "{key}").unwrap();
                // By then the waiter has found the lease held, and waits.
                tokio::time::sleep(Duration::from_millis(25 + round % 7 * 10)).await;
                wall()
            }
        };
        let released = holder.hold(&key, inside).await;
        let line;
        (told, line) = tokio::task::spawn_blocking(move || {
            let line = told.next().unwrap().unwrap();
            (told, line)
        })
        .await
        .unwrap();
        let granted: u128 = line.parse().unwrap();
        let nanos = granted.saturating_sub(released);
        taken.push(Duration::from_nanos(u64::try_from(nanos).unwrap()));
    }
    // The end of its input ends the child.
    drop(tell);
    child.wait().unwrap();
    taken.sort_unstable();
    println!("  {name:18} {:>10.2?} {:>10.2?}", percentile(&taken, 500), percentile(&taken, 990));
}

/// The other process of a hand-over: takes each lease that the parent names, and reports when it had it.
async fn wait_for_each(name: &str, url: &str) {
    let client = Client::open(name, url).await;
    for key in std::io::stdin().lines() {
        let granted = client.hold(&key.unwrap(), async { wall() }).await;
        println!("{granted}");
    }
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
            // Some libraries' futures cannot be sent to another thread.
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

/// 10,000 leases held by one manager, and the number of requests that the server counts meanwhile.
async fn renewals(url: &str) {
    const LEASES: usize = 10_000;
    const WATCHED: Duration = Duration::from_secs(45);
    let client = Client::open("memory-lock", url).await;
    let Client::Ours(locks) = client else { unreachable!("that is ours") };
    let options = LockOptions::new().with_ttl(TTL).with_wait_timeout(TTL);
    let mut guards = Vec::new();
    for number in 0..LEASES {
        let key = LockKey::new(format!("held-{number}")).unwrap();
        guards.push(locks.lock(&key, &options).await.unwrap());
    }
    let mut server = redis::Client::open(url).unwrap().get_multiplexed_async_connection().await.unwrap();
    let (scripts, refreshed) = (scripts_run(&mut server).await, locks.stats().refreshed);
    tokio::time::sleep(WATCHED).await;
    let scripts = scripts_run(&mut server).await - scripts;
    let stats = locks.stats();
    println!(
        "{LEASES} leases of {TTL:?} held by a manager for {WATCHED:?}: {} refreshes in {scripts} requests, {:.1} a second; \
         {} lost",
        stats.refreshed - refreshed,
        f64::from(scripts) / WATCHED.as_secs_f64(),
        stats.lost,
    );
    for guard in guards {
        guard.release().await;
    }
}

/// The number of scripts that the server has run.
async fn scripts_run(server: &mut redis::aio::MultiplexedConnection) -> u32 {
    let stats: String = redis::cmd("INFO").arg("commandstats").query_async(server).await.unwrap();
    let line = stats.lines().find_map(|line| line.strip_prefix("cmdstat_evalsha:calls=")).unwrap();
    line.split(',').next().unwrap().parse().unwrap()
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    if let [flag, name, url] = arguments.as_slice()
        && flag == "--waiter"
    {
        return wait_for_each(name, url).await;
    }
    let [url] = arguments.as_slice() else {
        eprintln!("say which server, such as redis://127.0.0.1:6379; keys of this bench are written there");
        std::process::exit(2);
    };
    pairs(url).await;
    println!("hand-over to a waiter in another process\n  {:18} {:>10} {:>10}", "", "p50", "p99");
    for name in NAMES {
        hand_overs(name, url).await;
    }
    println!(
        "32 waiters with 4 connections, 2 ms each, for 6 s\n  {:18} {:>7} {:>10} {:>10} {:>10}   shares",
        "", "holds", "wait p50", "p99", "longest"
    );
    let local = tokio::task::LocalSet::new();
    local
        .run_until(async {
            for name in NAMES {
                contention(name, url).await;
            }
        })
        .await;
    renewals(url).await;
}
