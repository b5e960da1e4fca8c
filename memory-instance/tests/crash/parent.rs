//! Starts children, kills them, and reports the outcomes.

use std::io::{BufRead as _, BufReader};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use fastrand::Rng;
use memory_lock::{Clock, ClockExt as _, LockKey, LockManager, LockOptions, SqliteLock};
use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::child::{builder, open, say};
use crate::ledger::{CrashTally, Ledger};

const ORDERS: &str = "MEMORY_CRASH_ORDERS";
const SEED: &str = "MEMORY_CRASH_SEED";

/// The timeout for a child's step, which normally takes some milliseconds.
const CHILD_TIMEOUT: Duration = Duration::from_secs(60);

/// The TTL of the parent's leases. Only an overloaded machine exceeds it.
pub(crate) const LASTING: Duration = Duration::from_secs(30);

/// The work of a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Errand {
    /// Append and flush until it is killed.
    Write,
    /// Create a file that contains only leases.
    Lease,
    /// Append, flush, replace and clear until it is killed.
    Edit,
    /// Fork and copy a memory once.
    Copy,
    /// Append, and change the past, until it is killed.
    Past,
    /// One operation, named by the point.
    Single,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Orders {
    pub(crate) errand: Errand,
    pub(crate) url: String,
    pub(crate) process: u32,
    /// The marked point at which the child stops, if any.
    pub(crate) point: String,
    /// The number of passes at the point before it stops.
    pub(crate) passes: u32,
    /// The trigger that the child sets after this number of batches; see [`crate::sqlite`].
    pub(crate) arm: Option<String>,
    /// Bytes of padding per message.
    pub(crate) padding: usize,
    /// The maximum length of a file, in KiB. The system kills the child in the middle of a write that exceeds it: the
    /// part that fits is written, and the rest is not.
    pub(crate) file_limit: Option<u64>,
}

impl Orders {
    pub(crate) fn write(url: &str, process: u32) -> Self {
        Self {
            errand: Errand::Write,
            url: url.to_owned(),
            process,
            point: String::new(),
            passes: 0,
            arm: None,
            padding: 0,
            file_limit: None,
        }
    }

    /// The orders of this process, if it is a child.
    pub(crate) fn given() -> Option<Self> {
        std::env::var(ORDERS).ok().map(|orders| serde_json::from_str(&orders).unwrap())
    }
}

/// The seed of this run.
pub(crate) fn seed() -> u64 {
    match std::env::var(SEED) {
        Ok(seed) => seed.parse().unwrap(),
        Err(_) => fastrand::u64(..),
    }
}

/// Lets real time pass. The moment of a kill is random, and changes that another process makes to a file can only be
/// polled. Tokio's timers are too coarse.
#[expect(clippy::disallowed_methods, reason = "other processes have no clock that tests control")]
pub(crate) fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// Polls at this interval until the condition is true.
pub(crate) fn wait_until(what: &str, every: Duration, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < CHILD_TIMEOUT, "{what} has not come in {CHILD_TIMEOUT:?}");
        pause(every);
    }
}

/// A child process; dropping it kills it.
pub(crate) struct Child {
    process: std::process::Child,
    said: Receiver<String>,
    pub(crate) heard: Vec<String>,
    dies_of: Signal,
}

impl Child {
    /// Starts this binary as a child.
    pub(crate) fn start(orders: &Orders) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child::child", "--nocapture", "--test-threads=1"])
            .env(ORDERS, serde_json::to_string(orders).unwrap())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(process.stdout.take().unwrap());
        let (sender, said) = channel();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Self { process, said, heard: Vec::new(), dies_of: Signal::KILL }
    }

    /// Waits for a line with this beginning; false if the child ended before.
    pub(crate) fn wait_for(&mut self, beginning: &str) -> bool {
        loop {
            match self.said.recv_timeout(CHILD_TIMEOUT) {
                Ok(line) => {
                    let found = line.starts_with(beginning);
                    self.heard.push(line);
                    if found {
                        return true;
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return false,
                Err(RecvTimeoutError::Timeout) => {
                    panic!(
                        "no `{beginning}` in {CHILD_TIMEOUT:?}; the last: {:?}",
                        self.heard.last()
                    )
                }
            }
        }
    }

    /// Waits for a line with one of these beginnings; `None` if the child ended before.
    pub(crate) fn wait_for_one_of<'a>(&mut self, beginnings: [&'a str; 2]) -> Option<&'a str> {
        while self.wait_for("") {
            let line = self.heard.last()?;
            if let Some(found) = beginnings.into_iter().find(|it| line.starts_with(it)) {
                return Some(found);
            }
        }
        None
    }

    /// Waits until the system has killed the child because of a file that would be too long. If the signal is
    /// ignored, which children inherit from some programs, the child survives and only its writes fail.
    pub(crate) fn wait_for_the_limit(&mut self) {
        wait_until("the end of the child", Duration::from_millis(1), || {
            self.process.try_wait().unwrap().is_some()
        });
        self.dies_of = Signal::XFSZ;
    }

    /// Reads the lines that it has written so far.
    #[cfg(feature = "redis")]
    pub(crate) fn listen(&mut self) {
        self.heard.extend(self.said.try_iter());
    }

    /// Sends SIGKILL. When this returns, the child has ended and all its lines were read.
    pub(crate) fn kill(mut self) -> Vec<String> {
        self.process.kill().unwrap();
        let status = self.process.wait().unwrap();
        let expected = Some(self.dies_of.as_raw());
        assert_eq!(status.signal(), expected, "it ended by itself: {:?}", self.heard.last());
        while let Ok(line) = self.said.recv() {
            self.heard.push(line);
        }
        std::mem::take(&mut self.heard)
    }

    pub(crate) fn wait(&mut self) {
        assert!(self.process.wait().unwrap().success());
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The moment at which a child is killed.
#[derive(Debug, Clone, Copy)]
pub(crate) enum When<'a> {
    /// At this marked point.
    At(&'a str),
    /// At a random moment: while it starts, or after some acknowledgments.
    AnyMoment,
}

/// One memory and the children that are killed while they use it.
pub(crate) struct Scene<'a> {
    pub(crate) url: &'a str,
    pub(crate) ledger: Ledger,
    pub(crate) rng: &'a mut Rng,
    next: u32,
}

impl<'a> Scene<'a> {
    pub(crate) fn new(url: &'a str, rng: &'a mut Rng) -> Self {
        Self { url, ledger: Ledger::default(), rng, next: 1 }
    }

    /// Orders for the next child.
    pub(crate) fn orders(&mut self) -> Orders {
        self.next += 1;
        Orders::write(self.url, self.next - 1)
    }

    pub(crate) async fn kill(&mut self, when: When<'_>) {
        let mut orders = self.orders();
        if let When::At(point) = when {
            orders.point = point.to_owned();
            orders.passes = self.rng.u32(0..4);
        }
        let mut child = Child::start(&orders);
        match when {
            When::At(point) => assert!(child.wait_for("here"), "{point}: {:?}", child.heard),
            When::AnyMoment => self.any_moment(&mut child),
        }
        self.bury(&orders, child).await;
    }

    fn any_moment(&mut self, child: &mut Child) {
        if self.rng.u8(0..4) > 0 {
            for _ in 0..self.rng.u8(0..40) {
                assert!(child.wait_for("ack"), "{:?}", child.heard);
            }
        }
        pause(Duration::from_micros(self.rng.u64(0..20_000)));
    }

    /// Kills the child, and checks the state after it.
    pub(crate) async fn bury(&mut self, orders: &Orders, child: Child) {
        let heard = child.kill();
        self.examine(orders, &heard).await;
    }

    /// Checks the state after a child that wrote these lines.
    pub(crate) async fn examine(&mut self, orders: &Orders, heard: &[String]) {
        self.ledger.hear(orders.process, heard);
        let (store, locks) = open(self.url).await;
        let locks = LockManager::new(locks);
        let manager = builder(orders.padding, LASTING).build(store, locks).unwrap();
        self.ledger.check(&manager, orders.process, orders.padding).await;
        manager.locks().shutdown(Duration::from_secs(5)).await;
    }
}

/// Takes another lease, and keeps it until the child is killed.
pub(crate) async fn hold_a_lease(orders: &Orders) {
    let path = orders.url.strip_prefix("sqlite://").unwrap();
    let locks =
        LockManager::new(std::sync::Arc::new(SqliteLock::open(path, Clock::system()).unwrap()));
    let guard = locks.lock(&LockKey::new("another").unwrap(), &LockOptions::new()).await.unwrap();
    say("held");
    std::mem::forget(guard);
}

/// Whether the run is a deep one (`cargo xtask test --deep`).
pub(crate) fn is_deep() -> bool {
    std::env::var("MEMORY_SWEEP").is_ok_and(|wanted| wanted == "whole")
}

/// The number of kills of one kind: this many, or three times as many in a deep run.
pub(crate) fn kills(few: u32) -> u32 {
    if is_deep() { 3 * few } else { few }
}

/// Prints the outcomes of all kills, and checks their minimum number.
pub(crate) fn tell(backend: &str, seed: u64, rows: &[(String, CrashTally)], at_least: u64) {
    println!("seed {seed} ({SEED} repeats it)");
    println!(
        "{:<8} {:<46} {:>5} {:>6} {:>7} {:>7} {:>7} {:>5} {:>8} {:>17}",
        "backend",
        "killed",
        "kills",
        "acked",
        "landed",
        "absent",
        "flushes",
        "lost",
        "doubled",
        "summarized twice"
    );
    let mut total = CrashTally::default();
    for (point, tally) in rows {
        line(backend, point, tally);
        total += *tally;
    }
    line(backend, "in all", &total);
    assert!(total.kills >= at_least, "{} kills", total.kills);
    assert!(total.acknowledged > total.kills, "the children did not live to write");
    assert!(total.landed > 0 && total.absent > 0, "the kills all fell on one side of a write");
    assert_eq!((total.lost, total.doubled, total.summarized_twice), (0, 0, 0));
}

fn line(backend: &str, point: &str, tally: &CrashTally) {
    let CrashTally {
        kills,
        acknowledged,
        landed,
        absent,
        flushes,
        lost,
        doubled,
        summarized_twice,
    } = tally;
    println!(
        "{backend:<8} {point:<46} {kills:>5} {acknowledged:>6} {landed:>7} {absent:>7} \
         {flushes:>7} {lost:>5} {doubled:>8} {summarized_twice:>17}"
    );
}
