//! Random programs run on each backend whose clock can be moved, and on a model; both must give the same
//! answers.

use std::time::Duration;

use crate::programs::{Time, run, steps};
use memory_lock::{Clock, InProcessLock, LockKey};
use proptest::prelude::*;

struct Manual(Clock);

impl Time for Manual {
    const UNIT: Duration = Duration::from_millis(1);

    async fn pass(&self, units: u32, _: &[(LockKey, Duration)]) {
        self.0.advance(Self::UNIT * units);
    }
}

fn block_on(future: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn in_process_backend_answers_like_the_model(steps in steps()) {
        let clock = Clock::manual();
        block_on(run(&InProcessLock::new(clock.clone()), &Manual(clock), steps));
    }
}

#[cfg(feature = "sqlite")]
proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    #[test]
    fn sqlite_backend_answers_like_the_model(steps in steps()) {
        let (dir, clock) = (tempfile::tempdir().unwrap(), Clock::manual());
        let path = dir.path().join("leases.db");
        let backend = memory_lock::SqliteLock::open(path, clock.clone()).unwrap();
        block_on(run(&backend, &Manual(clock), steps));
    }
}
