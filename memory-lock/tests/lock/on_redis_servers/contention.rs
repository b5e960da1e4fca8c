//! Many processes that contend for one lease.
//!
//! The children run this same test binary: [`child`] does nothing unless it is asked to.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use memory_lock::redis::{RedisConfig, RedisLink};
use memory_lock::{LockKey, LockManager, LockOptions, RedisLock, ReleaseOutcome};
use memory_redis_testkit::{Server, unique_prefix};
use tokio::time::{Instant, sleep_until};

const URL: &str = "MEMORY_TEST_URL";
const PROCESSES: usize = 4;
const WAITERS: usize = 8;
const HOLD: Duration = Duration::from_millis(2);
const LASTS: Duration = Duration::from_secs(6);

async fn manager(url: &str) -> LockManager {
    let link = RedisLink::open(RedisConfig::from_url(url).unwrap()).await.unwrap();
    LockManager::new(Arc::new(RedisLock::new(link)))
}

/// The observations of one waiter: the length of each wait, in microseconds.
async fn wait_again_and_again(locks: LockManager, end: Instant) -> Vec<u64> {
    let key = LockKey::new("contended").unwrap();
    let options = LockOptions::new().with_wait_timeout(Duration::from_secs(30));
    let mut waits = Vec::new();
    while Instant::now() < end {
        let asked = Instant::now();
        let guard = locks.lock(&key, &options).await.unwrap();
        let granted = Instant::now();
        waits.push(u64::try_from((granted - asked).as_micros()).unwrap());
        sleep_until(granted + HOLD).await;
        assert_eq!(guard.release().await, ReleaseOutcome::Released);
    }
    waits
}

#[test]
fn child() {
    let Ok(url) = std::env::var(URL) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let locks = manager(&url).await;
        let mut stdout = std::io::stdout();
        writeln!(stdout, "\nready").unwrap();
        let mut go = String::new();
        std::io::stdin().read_line(&mut go).unwrap();
        let end = Instant::now() + LASTS;
        let waiters: Vec<_> =
            (0..WAITERS).map(|_| tokio::spawn(wait_again_and_again(locks.clone(), end))).collect();
        for waiter in waiters {
            let waits: Vec<_> = waiter.await.unwrap().iter().map(u64::to_string).collect();
            writeln!(stdout, "\nwaits {}", waits.join(" ")).unwrap();
        }
    });
}

fn spawn(url: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "on_redis_servers::contention::child", "--nocapture", "--test-threads=1"])
        .env(URL, url)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// The result of a contest.
#[derive(Debug)]
struct Contest {
    least: usize,
    most: usize,
    p99: Duration,
}

async fn contest() -> Contest {
    let server = Server::start().await;
    let url = format!("{}?prefix={}", server.url(), unique_prefix());
    let mut children: Vec<_> = (0..PROCESSES).map(|_| spawn(&url)).collect();
    let mut outputs: Vec<_> = children
        .iter_mut()
        .map(|child| BufReader::new(child.stdout.take().unwrap()).lines())
        .collect();
    for output in &mut outputs {
        assert!(output.any(|line| line.unwrap() == "ready"), "a child did not come up");
    }
    for child in &mut children {
        writeln!(child.stdin.take().unwrap(), "go").unwrap();
    }
    let mut waiters: Vec<Vec<u64>> = Vec::new();
    for output in outputs {
        let waits = output.map(Result::unwrap).filter_map(|line| {
            let numbers = line.strip_prefix("waits ")?.split(' ');
            Some(numbers.map(|number| number.parse().unwrap()).collect())
        });
        waiters.extend(waits);
    }
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(waiters.len(), PROCESSES * WAITERS);
    let shares: Vec<_> = waiters.iter().map(Vec::len).collect();
    let mut waits: Vec<_> = waiters.concat();
    waits.sort_unstable();
    let at = |part: usize| Duration::from_micros(waits[(waits.len() - 1) * part / 1_000]);
    let (least, most) = (*shares.iter().min().unwrap(), *shares.iter().max().unwrap());
    eprintln!(
        "{} holds of {HOLD:?} by {} waiters in {PROCESSES} processes within {LASTS:?}: {least} to {most} \
         each; waits p50 {:.1?}, p99 {:.1?}, longest {:.1?}",
        waits.len(),
        waiters.len(),
        at(500),
        at(990),
        at(1_000),
    );
    Contest { least, most, p99: at(990) }
}

/// Other work on the machine makes waits longer and never shorter, so the best of three counts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_waiter_of_four_processes_starves() {
    let bound = HOLD * 3 * u32::try_from(PROCESSES * WAITERS).unwrap();
    let mut seen = Vec::new();
    for _ in 0..3 {
        let contest = contest().await;
        if contest.most < 2 * contest.least && contest.p99 <= bound {
            return;
        }
        seen.push(contest);
    }
    panic!("shares must differ by less than a factor of 2, and p99 be at most {bound:?}: {seen:?}");
}
