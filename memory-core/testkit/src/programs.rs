//! Random programs that compare a store with the reference.
//!
//! They are independent of the backend.

mod content;
mod op;
mod pair;

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use memory_core::MemoryStore;
use memory_lock::{Clock, LockBackend};
use proptest::test_runner::{Config, TestRunner};
use proptest_state_machine::ReferenceStateMachine as _;
use tokio::runtime::Runtime;

use self::op::Programs;
use self::pair::Pair;

/// The place where one program runs, empty at first.
#[expect(async_fn_in_trait, reason = "only this crate calls it")]
pub trait Place: Debug {
    /// Opens it; a program does so again and again.
    async fn open(&self, clock: &Clock) -> Opened;
}

/// The requirements of the programs on an open place.
#[derive(Debug)]
pub struct Opened {
    /// The store to compare.
    pub store: Arc<dyn MemoryStore>,
    /// The leases that the store checks with each write; none if it uses tokens alone.
    pub leases: Option<Arc<dyn LockBackend>>,
}

/// Runs this many programs, each in a separate place, and shows the shortest that fails.
pub fn run<P: Place>(runtime: &Runtime, cases: u32, fresh: impl Fn() -> P) {
    let config =
        Config { cases, max_shrink_iters: 4_000, failure_persistence: None, ..Config::default() };
    let programs = Programs::sequential_strategy(1..60);
    let done = TestRunner::new(config).run(&programs, |((), ops, seen)| {
        let mut pair = Pair::open(runtime, fresh());
        for op in ops {
            // Shrinking first removes the operations that were not reached.
            if let Some(seen) = &seen {
                seen.fetch_add(1, Ordering::SeqCst);
            }
            pair.apply(op);
            pair.check();
        }
        Ok(())
    });
    if let Err(failure) = done {
        panic!("{failure}");
    }
}
