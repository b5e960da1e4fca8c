//! Drops calls half-way, after each of their polls, and checks for leftovers.
//!
//! An operation is cut off at its first and last poll and at every fourth between them, at other
//! polls on each backend; with `MEMORY_SWEEP=whole` (`cargo xtask test --deep`) at every poll, and
//! several times over.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::Location;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

/// The limit of waiting for anything that happens by itself.
const EVENT_TIMEOUT: Duration = Duration::from_secs(20);
/// More polls than any call here needs.
const MOST_POLLS: usize = 300;
/// The number of the first and of the last polls that are always sampled: after the last one the effect is complete and
/// the answer is not.
const EDGE: usize = 1;
/// Of the polls between, one of this many.
const STRIDE: usize = 4;

thread_local! {
    /// The most polls that a call needed since this was last set to zero.
    static TAKEN: Cell<usize> = const { Cell::new(0) };
}

/// The moment at which a call is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Moment {
    /// Right after its last poll: the requests of that poll are in flight.
    Polled,
    /// After it was woken following that poll, and before it was polled again: the answer has arrived and
    /// has no receiver.
    Woken,
}

/// The point at which a call is cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cut {
    polls: usize,
    moment: Moment,
}

struct Bell(Notify);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.notify_one();
    }
}

impl Cut {
    /// Lets the call complete.
    pub const NEVER: Self = Self { polls: MOST_POLLS, moment: Moment::Polled };

    /// Polls the call, each time only after it was woken, then drops it; returns its output if it completed
    /// before that.
    #[track_caller]
    pub fn off<F: Future>(self, call: F) -> impl Future<Output = Option<F::Output>> {
        let at = Location::caller();
        async move {
            let bell = Arc::new(Bell(Notify::new()));
            let rung = async || {
                let woken = timeout(EVENT_TIMEOUT, bell.0.notified()).await.is_ok();
                assert!(woken, "the call at {at} is not woken: {self:?}");
            };
            let waker = Waker::from(Arc::clone(&bell));
            let mut call = Box::pin(call);
            for poll in 0..self.polls {
                if poll > 0 {
                    rung().await;
                }
                let polled = call.as_mut().poll(&mut Context::from_waker(&waker));
                TAKEN.with(|taken| taken.set(taken.get().max(poll + 1)));
                if let Poll::Ready(output) = polled {
                    return Some(output);
                }
            }
            if self.polls > 0 && self.moment == Moment::Woken {
                rung().await;
            }
            None
        }
    }
}

/// The points at which calls were dropped before their end.
#[derive(Debug, Default)]
pub struct Points {
    places: BTreeSet<Cut>,
    drops: usize,
}

impl Points {
    /// The number of calls that were dropped before their end.
    pub fn drops(&self) -> usize {
        self.drops
    }

    /// Cuts calls off after so many polls, at either moment; returns how many of them did not complete
    /// before.
    async fn cut(&mut self, polls: usize, case: &impl AsyncFn(Cut) -> bool) -> usize {
        let mut dropped = 0;
        for moment in [Moment::Polled, Moment::Woken] {
            if polls == 0 && moment == Moment::Woken {
                continue;
            }
            let cut = Cut { polls, moment };
            if !case(cut).await {
                self.places.insert(cut);
                dropped += 1;
            }
        }
        self.drops += dropped;
        dropped
    }
}

/// Cuts calls of one operation off after so many of their polls. `case` sets one up, cuts it off, checks
/// for leftovers, and returns whether it completed. `name` selects which polls are sampled; only a whole
/// sweep makes several `rounds`.
pub async fn sweep(name: &str, rounds: usize, case: impl AsyncFn(Cut) -> bool) -> Points {
    let mut points = Points::default();
    if std::env::var("MEMORY_SWEEP").is_ok_and(|wanted| wanted == "whole") {
        for _ in 0..rounds {
            sweep_whole(&case, &mut points).await;
        }
    } else {
        sweep_sample(name, &case, &mut points).await;
    }
    points
}

/// After 0, 1, 2, ... polls, until the call completes.
pub async fn sweep_whole(case: &impl AsyncFn(Cut) -> bool, points: &mut Points) {
    for polls in 0.. {
        assert!(polls < MOST_POLLS, "it never completes");
        if points.cut(polls, case).await == 0 {
            return;
        }
    }
}

async fn sweep_sample(name: &str, case: &impl AsyncFn(Cut) -> bool, points: &mut Points) {
    TAKEN.with(|taken| taken.set(0));
    assert!(case(Cut::NEVER).await, "it never completes");
    for polls in sample(name, TAKEN.with(Cell::get)) {
        points.cut(polls, case).await;
    }
}

/// The numbers of polls after which a call that takes `taken` polls is cut off.
fn sample(name: &str, taken: usize) -> impl Iterator<Item = usize> {
    let first = name.bytes().map(usize::from).sum::<usize>() % STRIDE;
    let is_edge = move |polls| polls < EDGE || polls + EDGE >= taken;
    (0..taken).filter(move |&polls| is_edge(polls) || polls % STRIDE == first)
}

#[test]
fn sample_has_both_ends_and_some_between() {
    assert_eq!(sample("any", 2).collect::<Vec<_>>(), [0, 1]);
    let of_many: Vec<_> = sample("any", 30).collect();
    assert_eq!((of_many.first(), of_many.last()), (Some(&0), Some(&29)));
    assert_eq!(of_many, sample("any", 30).collect::<Vec<_>>());
    let names = ["memory", "SQLite", "busy SQLite", "Redis", "Cluster", "Redlock", "far memory"];
    let of_all: BTreeSet<_> = names.iter().flat_map(|name| sample(name, 30)).collect();
    assert_eq!(of_all.len(), 30, "the samples of the backends together have all 30");
}

/// The coverage: for each operation and backend, the numbers of polls after which calls were dropped.
#[derive(Debug, Default)]
pub struct Table {
    backends: Vec<&'static str>,
    rows: BTreeMap<&'static str, BTreeMap<&'static str, Points>>,
}

impl Table {
    /// Adds the points of an operation on a backend; panics if they are there.
    pub fn add(&mut self, operation: &'static str, backend: &'static str, points: Points) {
        if !self.backends.contains(&backend) {
            self.backends.push(backend);
        }
        let before = self.rows.entry(operation).or_default().insert(backend, points);
        assert!(before.is_none(), "{operation} was swept twice on {backend}");
    }

    /// Prints it: distinct cancellation points and, after the cross, the number of dropped calls.
    #[expect(clippy::print_stdout, reason = "people read the coverage")]
    pub fn print(&self) {
        let width = self.rows.keys().map(|name| name.len()).max().unwrap_or_default();
        print!("{:width$}", "cancellation points (drops)");
        self.backends.iter().for_each(|backend| print!("  {backend:>16}"));
        println!();
        let (mut places, mut drops) = (0, 0);
        for (operation, row) in &self.rows {
            print!("{operation:width$}");
            for backend in &self.backends {
                let cell = row.get(backend).map_or_else(String::new, |points| {
                    places += points.places.len();
                    drops += points.drops;
                    format!("{} ({})", points.places.len(), points.drops)
                });
                print!("  {cell:>16}");
            }
            println!();
        }
        let operations = self.rows.len();
        println!("{operations} operations, {places} cancellation points, {drops} calls dropped");
    }
}

/// The number of tasks of the runtime.
pub fn tasks() -> usize {
    Handle::current().metrics().num_alive_tasks()
}

/// Waits until this is so, because it must happen by itself.
pub async fn until(what: &str, mut is_so: impl AsyncFnMut() -> Result<(), String>) {
    let begun = Instant::now();
    while let Err(seen) = is_so().await {
        assert!(begun.elapsed() < EVENT_TIMEOUT, "{what}: {seen}");
        sleep(Duration::from_millis(2)).await;
    }
}

/// Waits until there are no more tasks than this.
pub async fn until_tasks(most: usize, what: &str) {
    let few = async || match tasks() {
        there if there > most => Err(format!("{there} tasks are left over, not {most}")),
        _ => Ok(()),
    };
    until(what, few).await;
}

/// The files below this folder that this process has open; none if the system does not report them.
pub fn open_files(folder: &Path) -> Vec<PathBuf> {
    let Ok(descriptors) = std::fs::read_dir("/proc/self/fd") else { return Vec::new() };
    let targets = descriptors.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
    targets.filter(|target| target.starts_with(folder)).collect()
}
