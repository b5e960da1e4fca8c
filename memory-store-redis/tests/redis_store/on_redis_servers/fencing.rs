//! Processes that hold a lease and are stopped or killed.
//!
//! The children run this same test binary: [`child`] does nothing unless the parent requests it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use crate::support::{
    append, batch, checked_outline, key, link, texts, until, with_settings, write,
};
use memory_core::MemoryStore;
use memory_core::store::{Access, StoreError, StoreErrorKind};
use memory_lock::{LockGuard, LockKey, LockManager, LockOptions, RedisLock};
use memory_redis_testkit::Server;
use memory_store_redis::{RedisStore, RedisStoreConfig, TokenChecks};
use tokio::time::Instant;

const ROLE: &str = "MEMORY_TEST_ROLE";
const URL: &str = "MEMORY_TEST_URL";
const TTL: Duration = Duration::from_millis(600);

/// Starts this binary again, in another role.
fn spawn(role: &str, url: &str) -> (Process, Lines) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "on_redis_servers::fencing::child", "--nocapture", "--test-threads=1"])
        .env(ROLE, role)
        .env(URL, url)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let stdout: BufReader<ChildStdout> = BufReader::new(child.stdout.take().unwrap());
    let (to, from) = tokio::sync::mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in stdout.lines().map_while(Result::ok) {
            let _ = to.send(line);
        }
    });
    (Process(child), Lines(from))
}

/// Killed when the test ends, regardless of its state.
struct Process(Child);

impl Process {
    fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.0.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The output of a child.
struct Lines(tokio::sync::mpsc::UnboundedReceiver<String>);

impl Lines {
    /// The text after this word, in the next line that contains it.
    async fn after(&mut self, word: &str) -> String {
        let find = async {
            loop {
                let line = self.0.recv().await.expect("the child lives");
                if let Some((_, rest)) = line.split_once(word) {
                    return rest.trim().to_owned();
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(30), find).await.expect("the child says it")
    }
}

fn say(line: &str) {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(format!("{line}\n").as_bytes()).unwrap();
    stdout.flush().unwrap();
}

#[test]
fn child() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let url = std::env::var(URL).unwrap();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let (store, manager) = open(&url, checks_of(&role)).await;
        match role.trim_end_matches(" elsewhere") {
            "write" => write_under_a_lease(&store, &manager).await,
            "hold" => {
                let _guard = lock(&manager, TTL).await;
                say("holds");
                std::future::pending::<()>().await;
            }
            "wait" => {
                say("waits");
                let guard = lock(&manager, Duration::from_secs(10)).await;
                say(&format!("holds {}", guard.fence()));
                guard.release().await;
                say("released");
            }
            other => panic!("{other}"),
        }
    });
}

/// A role or its suffix ends with `elsewhere` if the leases are not in the store's domain.
fn checks_of(role: &str) -> TokenChecks {
    if role.ends_with("elsewhere") { TokenChecks::TokensAlone } else { TokenChecks::LiveLeases }
}

async fn open(url: &str, checks: TokenChecks) -> (RedisStore, LockManager) {
    let link = link(url).await;
    let manager = LockManager::new(Arc::new(RedisLock::new(link.clone())));
    let config = RedisStoreConfig::new().with_token_checks(checks);
    (RedisStore::with_config(link, config), manager)
}

async fn lock(manager: &LockManager, ttl: Duration) -> LockGuard {
    let options = LockOptions::new().with_ttl(ttl).with_wait_timeout(Duration::from_secs(25));
    manager.lock(&LockKey::new(key("k").lease_name()).unwrap(), &options).await.unwrap()
}

async fn append_under(
    store: &RedisStore,
    guard: &LockGuard,
    writer: u128,
    number: u64,
    text: &str,
) -> Result<(), StoreError> {
    let append = batch(write(writer, number), &[text, "and its second half"]);
    store.append(&key("k"), Access::with_lease(guard.proof()), &append).await.map(drop)
}

/// Writes without a pause until the store refuses, and prints the error. It does not check whether it still
/// holds the lease: that is the store's task.
async fn write_under_a_lease(store: &RedisStore, manager: &LockManager) {
    let guard = lock(manager, TTL).await;
    store.claim(&key("k"), guard.proof()).await.unwrap();
    say(&format!("holds {}", guard.fence()));
    for number in 1.. {
        match append_under(store, &guard, 1, number, &format!("old {number}")).await {
            Ok(()) => {
                if number == 20 {
                    say("writes");
                }
            }
            // It may have been stopped in the middle of a request; a retry shows the result.
            Err(error) if error.is_retryable() => {
                let again = append_under(store, &guard, 1, number, &format!("old {number}")).await;
                if let Err(error) = again {
                    say(&format!("refused {number} {error:?}"));
                    return;
                }
            }
            Err(error) => {
                say(&format!("refused {number} {error:?}"));
                return;
            }
        }
    }
}

/// With leases beside the data, and with leases that the store cannot look up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writer_stopped_past_its_lease_is_refused() {
    for elsewhere in ["", " elsewhere"] {
        let server = Server::start().await;
        let url = with_settings(server.url(), "");
        let (process, mut lines) = spawn(&format!("write{elsewhere}"), &url);
        let old: u64 = lines.after("holds").await.parse().unwrap();
        lines.after("writes").await;
        process.signal("STOP");
        let stopped = Instant::now();

        let (store, manager) = open(&url, checks_of(elsewhere)).await;
        let guard = lock(&manager, Duration::from_secs(20)).await;
        let waited = stopped.elapsed();
        assert!(waited < TTL + Duration::from_millis(500), "{waited:?} until the lease was free");
        assert!(guard.fence().number() > old);
        store.claim(&key("k"), guard.proof()).await.unwrap();
        let before = texts(&store, &key("k")).await;
        for number in 1..=5 {
            append_under(&store, &guard, 2, number, &format!("new {number}")).await.unwrap();
        }
        let written = texts(&store, &key("k")).await;
        assert_eq!(written.len(), before.len() + 10);

        process.signal("CONT");
        let refusal = lines.after("refused").await;
        assert!(refusal.contains("Fenced"), "{refusal}");
        let newest = format!("newest: FencingToken({})", guard.fence().number());
        assert!(refusal.contains(&newest), "{refusal} does not name {newest}");
        let told: usize = refusal.split(' ').next().unwrap().parse().unwrap();

        assert_eq!(texts(&store, &key("k")).await, written, "the stopped one has written");
        // Everything that was acknowledged exists, and nothing is torn.
        let expected: Vec<_> = (1..told)
            .map(|number| format!("old {number}"))
            .chain((1..=5).map(|number| format!("new {number}")))
            .flat_map(|text| [text, "and its second half".to_owned()])
            .collect();
        assert_eq!(written, expected);
        guard.release().await;
        append(&store, &key("k"), write(3, 1), &["afterwards"]).await.unwrap();
        let outline = checked_outline(&store, &key("k")).await;
        assert_eq!(outline.metas.len(), expected.len() + 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lease_of_a_killed_process_expires_for_waiters() {
    let server = Server::start().await;
    let url = with_settings(server.url(), "");
    let (store, manager) = open(&url, TokenChecks::LiveLeases).await;
    let (holder, mut said) = spawn("hold", &url);
    said.after("holds").await;
    // A waiter here, and two in other processes.
    let others = [spawn("wait", &url), spawn("wait", &url)];
    let mut waiting = Vec::new();
    for (process, mut lines) in others {
        lines.after("waits").await;
        waiting.push((process, lines));
    }
    let place = store.link().keys().line(key("k").lease_name());
    let ours = tokio::spawn({
        let manager = manager.clone();
        async move { lock(&manager, Duration::from_secs(10)).await }
    });
    until("line of three", async || {
        let length: u64 = server.query(&["ZCARD", &place]).await;
        (length == 3).then_some(())
    })
    .await;
    let error = append(&store, &key("k"), write(1, 1), &["x"]).await.unwrap_err();
    let StoreErrorKind::Locked { remaining } = error.kind() else { panic!("{error:?}") };
    assert!(remaining.unwrap() <= TTL);
    // It refreshes, so that it outlives its TTL.
    tokio::time::sleep(TTL * 2).await;
    assert!(!ours.is_finished());

    holder.signal("KILL");
    let killed = Instant::now();
    drop(holder);
    let guard = ours.await.unwrap();
    let first = killed.elapsed();
    guard.release().await;
    for (_process, lines) in &mut waiting {
        lines.after("released").await;
    }
    let all = killed.elapsed();
    println!("first waiter {first:?} after the kill, all three {all:?}, TTL {TTL:?}");
    assert!(all < TTL + Duration::from_secs(1), "{first:?}, {all:?}");
    append(&store, &key("k"), write(1, 1), &["x"]).await.unwrap();
    checked_outline(&store, &key("k")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn release_wakes_waiters_in_other_processes() {
    let server = Server::start().await;
    let url = with_settings(server.url(), "");
    let (store, manager) = open(&url, TokenChecks::LiveLeases).await;
    let guard = lock(&manager, Duration::from_secs(30)).await;
    let mut waiting = [spawn("wait", &url), spawn("wait", &url), spawn("wait", &url)];
    let place = store.link().keys().line(key("k").lease_name());
    until("line of three", async || {
        let length: u64 = server.query(&["ZCARD", &place]).await;
        (length == 3).then_some(())
    })
    .await;
    let begun = Instant::now();
    guard.release().await;
    let mut tokens = Vec::new();
    for (_process, lines) in &mut waiting {
        tokens.push(lines.after("holds").await.parse::<u64>().unwrap());
        lines.after("released").await;
    }
    let took = begun.elapsed();
    println!("three processes, one after the other, in {took:?}");
    // Far less than the TTL, which a waiter without a notification would wait for.
    assert!(took < Duration::from_secs(1), "{took:?}");
    tokens.sort_unstable();
    tokens.dedup();
    assert_eq!(tokens.len(), 3, "a token twice");
}

/// Uses the short form of the script, which the suite with a custom clock does not use.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn append_without_a_lease_waits_for_its_holder() {
    let server = Server::start().await;
    let link = link(server.url()).await;
    let store = RedisStore::new(link.clone());
    let locks = LockManager::new(Arc::new(RedisLock::new(link)));
    let k = key("k");
    append(&store, &k, write(1, 1), &["before"]).await.unwrap();
    let name = LockKey::new(k.lease_name()).unwrap();
    let guard = locks.lock(&name, &LockOptions::new()).await.unwrap();
    let error = append(&store, &k, write(1, 2), &["beside"]).await.unwrap_err();
    let StoreErrorKind::Locked { remaining: Some(left) } = error.kind() else {
        panic!("{error:?}")
    };
    assert!(*left > Duration::ZERO);
    let own = batch(write(2, 1), &["within"]);
    store.append(&k, Access::with_lease(guard.proof()), &own).await.unwrap();
    guard.release().await;
    append(&store, &k, write(1, 2), &["after"]).await.unwrap();
    assert_eq!(texts(&store, &k).await, ["before", "within", "after"]);
}
