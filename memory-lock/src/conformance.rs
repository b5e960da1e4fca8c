//! The suite that every [`LockBackend`] must pass.
//!
//! # Running it on a custom backend
//!
//! 1. Take the suite into the tests of your crate:
//!
//!    ```toml
//!    [dev-dependencies]
//!    memory-lock = { version = "0.1", features = ["conformance"] }
//!    tokio = { version = "1", features = ["macros", "rt", "time"] }
//!    ```
//! 2. Let one test call [`run`] with a function that makes a [`Subject`]: a separate backend,
//!    on a [`Clock::manual`](crate::Clock::manual) if its leases go by a clock that can be moved. Things that
//!    it needs, such as a folder, are passed to [`Subject::keeping`].
//! 3. [`Failures`] names each case that failed, and its finding.
//!
//! `memory-lock/tests/lock/third_party.rs` in the repository is a whole backend over a map that uses only public
//! items, made to be copied. The suite covers the behavior within one process. Test separately that leases
//! are safe between processes, and when a server restarts.
//!
//! ```
//! use std::sync::Arc;
//! use memory_lock::conformance::{self, Subject};
//! use memory_lock::{Clock, InProcessLock};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let passed = conformance::run(async || {
//!     let clock = Clock::manual();
//!     Subject::new(Arc::new(InProcessLock::new(clock.clone()))).with_manual_clock(clock)
//! })
//! .await
//! .unwrap_or_else(|failures| panic!("{failures}"));
//! assert!(passed > 15);
//! # }
//! ```
//!
//! Each case gets a separate backend. Cases in which a lease must expire move the manual clock of the
//! subject. If the clock of a backend cannot be moved, its leases last half a second, and the case waits
//! for that.

mod expiry;
mod failures;
mod grants;
mod subject;
mod waiting;

use std::pin::Pin;
use std::sync::Arc;

pub use failures::Failures;
pub use subject::Subject;

use crate::backend::LockBackend;
use crate::error::LockError;
use crate::key::LockKey;

type Verdict = Result<(), Violation>;
type Case = fn(Subject) -> Pin<Box<dyn Future<Output = Verdict> + Send>>;

/// The finding of a failed case.
#[derive(Debug)]
struct Violation(String);

impl From<LockError> for Violation {
    fn from(error: LockError) -> Self {
        Self(format!("a call failed: {error}"))
    }
}

macro_rules! ensure {
    ($condition:expr, $($explanation:tt)+) => {
        if !$condition {
            return Err($crate::conformance::Violation(format!($($explanation)+)));
        }
    };
}
use ensure;

macro_rules! cases {
    ($($module:ident :: $case:ident),+ $(,)?) => {
        [$((stringify!($case), (|subject| Box::pin($module::$case(subject))) as Case)),+]
    };
}

/// Runs every case, each against a fresh subject, and returns the number of cases. Call it inside a tokio
/// runtime with time enabled, not paused.
///
/// # Errors
///
/// The cases that failed, and the finding of each.
pub async fn run<M, F>(make: M) -> Result<usize, Failures>
where
    M: Fn() -> F,
    F: Future<Output = Subject>,
{
    let cases = cases![
        grants::free_lease_is_granted_and_held_lease_refused,
        grants::released_lease_is_granted_again,
        grants::same_owner_gets_the_same_grant_again,
        grants::tokens_rise_over_releases_expiries_and_hand_overs,
        grants::foreign_release_frees_nothing,
        grants::second_release_is_not_owner,
        grants::keys_are_independent,
        grants::keys_of_all_characters_are_distinct,
        grants::inspect_reports_owner_token_and_ttl,
        grants::hand_over_leaves_no_gap,
        grants::repeated_hand_over_returns_the_same_token,
        grants::hand_over_by_a_stale_owner_is_refused,
        grants::release_now_reports_whether_it_freed,
        expiry::expired_lease_is_taken_over_with_greater_token,
        expiry::expired_lease_has_no_owner,
        expiry::renewed_lease_lasts_its_ttl_again,
        expiry::resent_acquisition_restarts_the_ttl,
        expiry::handed_over_lease_has_a_separate_ttl,
        expiry::stale_renewal_does_not_revive_a_taken_lease,
        expiry::batch_of_renewals_is_answered_in_order,
        expiry::empty_batch_is_answered_with_nothing,
        expiry::each_lease_of_a_batch_has_its_ttl,
        waiting::watch_ends_when_the_lease_is_released,
        waiting::watch_begun_after_the_release_does_not_hang,
        waiting::contenders_never_overlap_and_tokens_rise,
    ];
    let mut failures = Failures::default();
    for (name, case) in cases {
        if let Err(Violation(what)) = case(make().await).await {
            failures.add(name, what);
        }
    }
    if failures.is_empty() { Ok(cases.len()) } else { Err(failures) }
}

fn key(text: &str) -> Result<LockKey, Violation> {
    Ok(LockKey::new(text)?)
}

fn shared(subject: &Subject) -> Arc<dyn LockBackend> {
    Arc::clone(subject.backend())
}
