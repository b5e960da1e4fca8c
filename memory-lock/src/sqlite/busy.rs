//! Waiting for the locks of other connections: how long, and in which steps.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::time::micros;

/// How long the statements of one connection wait for the locks of other connections. SQLite's own
/// waiting begins with a millisecond; a commit of another connection takes a fraction of that.
#[derive(Debug, Clone)]
pub(super) struct BusyBudget(Arc<AtomicU64>);

/// The first sleep; they double up to the longest.
const SHORTEST: Duration = Duration::from_micros(20);
const LONGEST: Duration = Duration::from_millis(1);

impl BusyBudget {
    /// Makes the statements of this connection wait for up to `budget` each.
    pub(super) fn install(connection: &mut Connection, budget: Duration) -> rusqlite::Result<Self> {
        let shared = Self(Arc::new(AtomicU64::new(micros(budget))));
        let mine = shared.clone();
        let mut since = None;
        connection.busy_handler(Some(move |count: i32| {
            let since = match since {
                Some(since) if count > 0 => since,
                _ => *since.insert(real_now()),
            };
            let left = mine.get().saturating_sub(since.elapsed());
            if left.is_zero() {
                return false;
            }
            nap(count.unsigned_abs(), left);
            true
        }))?;
        Ok(shared)
    }

    pub(super) fn set(&self, budget: Duration) {
        self.0.store(micros(budget), Ordering::Relaxed);
    }

    fn get(&self) -> Duration {
        Duration::from_micros(self.0.load(Ordering::Relaxed))
    }
}

/// Sleeps before the next look at a lock that another connection holds: short, jittered, and longer
/// with each look.
#[expect(
    clippy::disallowed_methods,
    reason = "there is nothing to wait for: another process gives no signal when it unlocks"
)]
pub(super) fn nap(looks: u32, most: Duration) {
    let pause = SHORTEST.saturating_mul(1 << looks.min(6)).min(LONGEST);
    std::thread::sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0).min(most));
}

/// The monotonic clock of the machine.
#[expect(
    clippy::disallowed_methods,
    reason = "another process is waited for in real time, which a paused test clock does not show"
)]
pub(super) fn real_now() -> Instant {
    Instant::now()
}
