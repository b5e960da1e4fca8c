//! Waiting for the locks of other connections: the limit and the steps.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::table::micros;

/// The first sleep; they double up to the longest.
const MIN_BUSY_SLEEP: Duration = Duration::from_micros(20);
pub(crate) const MAX_BUSY_SLEEP: Duration = Duration::from_millis(1);

/// A busy handler of rusqlite before 0.41 is a plain function, which cannot capture a budget. So there is
/// one function for each budget. A program has few different budgets: those of its configuration.
static BUDGETS: [AtomicU64; HANDLERS.len()] = [const { AtomicU64::new(FREE) }; HANDLERS.len()];

#[rustfmt::skip] // four in a line
const HANDLERS: [fn(i32) -> bool; 16] = [
    wait::<0>, wait::<1>, wait::<2>, wait::<3>,
    wait::<4>, wait::<5>, wait::<6>, wait::<7>,
    wait::<8>, wait::<9>, wait::<10>, wait::<11>,
    wait::<12>, wait::<13>, wait::<14>, wait::<15>,
];

const FREE: u64 = u64::MAX;

thread_local! {
    /// The budget of the statements that this thread runs, if it differs from their connection's.
    static OVERRIDE: Cell<Option<Duration>> = const { Cell::new(None) };
    /// The moment since which the statement that this thread runs has waited.
    static SINCE: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Makes each statement of this connection wait for up to `budget` for the locks of other connections.
/// SQLite's own waits begin with a millisecond; a commit of another connection takes a fraction of that.
pub(crate) fn install(connection: &mut Connection, budget: Duration) -> rusqlite::Result<()> {
    match slot(&BUDGETS, budget).and_then(|slot| HANDLERS.get(slot)) {
        Some(handler) => connection.busy_handler(Some(*handler)),
        // SQLite's own handler waits as long, in longer sleeps.
        None => connection.busy_timeout(budget),
    }
}

/// Runs `work`. Each of its statements waits for the locks of other connections for up to `timeout`,
/// regardless of the timeout of its connection.
pub fn with_busy_timeout<T>(timeout: Duration, work: impl FnOnce() -> T) -> T {
    struct Restore(Option<Duration>);
    impl Drop for Restore {
        fn drop(&mut self) {
            OVERRIDE.with(|it| it.set(self.0));
        }
    }
    let _restore = Restore(OVERRIDE.with(|it| it.replace(Some(timeout))));
    work()
}

/// The index of this budget in the table; none if the table is full of others.
fn slot(budgets: &[AtomicU64], budget: Duration) -> Option<usize> {
    let wanted = micros(budget).min(FREE - 1);
    budgets.iter().position(|slot| {
        let was = slot.compare_exchange(FREE, wanted, Ordering::SeqCst, Ordering::SeqCst);
        was.is_ok() || was == Err(wanted)
    })
}

/// Called by SQLite on the thread of a statement that met a lock, after `count` earlier calls: sleeps, and
/// returns whether to try again.
fn wait<const SLOT: usize>(count: i32) -> bool {
    let of_connection = || BUDGETS.get(SLOT).map_or(0, |it| it.load(Ordering::SeqCst));
    let budget = OVERRIDE.with(Cell::get);
    let budget = budget.unwrap_or_else(|| Duration::from_micros(of_connection()));
    let since = SINCE.with(Cell::get).filter(|_| count > 0).unwrap_or_else(real_now);
    SINCE.with(|it| it.set(Some(since)));
    let left = budget.saturating_sub(since.elapsed());
    if left.is_zero() {
        return false;
    }
    nap(count.unsigned_abs(), left);
    true
}

/// Sleeps before the next try for a lock that another connection holds: short, jittered, and longer with
/// each try.
#[expect(
    clippy::disallowed_methods,
    reason = "there is nothing to wait for: another process gives no signal when it unlocks"
)]
pub(crate) fn nap(looks: u32, most: Duration) {
    let pause = MIN_BUSY_SLEEP.saturating_mul(1 << looks.min(6)).min(MAX_BUSY_SLEEP);
    std::thread::sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0).min(most));
}

/// The monotonic clock of the machine.
#[expect(
    clippy::disallowed_methods,
    reason = "another process is waited for in real time, which a paused test clock does not show"
)]
pub(crate) fn real_now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets_have_handlers_until_table_is_full() {
        let table = [const { AtomicU64::new(FREE) }; 2];
        let slot = |millis| slot(&table, Duration::from_millis(millis));
        assert_eq!(
            [slot(0), slot(5_000), slot(0), slot(5_000)],
            [Some(0), Some(1), Some(0), Some(1)]
        );
        assert_eq!(slot(1), None);
    }

    #[test]
    fn statement_waits_for_its_connection_or_thread_budget() {
        let dir = tempfile::tempdir().unwrap();
        let open = |millis| {
            let mut connection = Connection::open(dir.path().join("m.db")).unwrap();
            install(&mut connection, Duration::from_millis(millis)).unwrap();
            connection
        };
        let (holder, long, short) = (open(0), open(150), open(0));
        holder.execute_batch("BEGIN EXCLUSIVE").unwrap();
        let waited = |connection: &Connection| {
            let since = real_now();
            connection.execute_batch("BEGIN IMMEDIATE").unwrap_err();
            since.elapsed()
        };
        assert!(waited(&short) < Duration::from_millis(100));
        assert!(waited(&long) >= Duration::from_millis(150));
        assert!(with_busy_timeout(Duration::ZERO, || waited(&long)) < Duration::from_millis(100));
        assert!(waited(&long) >= Duration::from_millis(150), "the next one waits again");
        assert!(
            with_busy_timeout(Duration::from_millis(150), || waited(&short)).as_millis() >= 150
        );
    }
}
