#![doc = include_str!("../README.md")]
#![cfg_attr(
    not(test),
    warn(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::string_slice,
        clippy::print_stdout,
        clippy::print_stderr
    )
)]

mod answer;
mod backend;
mod clock;
mod error;
mod key;
mod lease;

mod local;
#[cfg(feature = "redis")]
pub mod redis;
#[cfg(feature = "redlock")]
mod redlock;
#[cfg(feature = "sqlite")]
pub mod sqlite;

mod guard;
mod lost;
mod manager;
mod manager_options;
mod options;
mod scope;
mod stats;
mod with_lock;

mod acquire;
mod backend_client;
mod break_lease;
mod claim;
mod finish;
mod foreign_contention;
mod give_up;
mod hold;
mod line;
mod random;
mod refresh;
mod revocable;
mod shared;
mod time;

#[cfg(feature = "conformance")]
pub mod conformance;

#[cfg(test)]
mod auto_traits;

#[cfg(feature = "redis")]
pub use self::redis::RedisLock;
pub use answer::{Acquired, HandOver, Release, Renewal};
pub use backend::{LockBackend, Watch};
pub use clock::ClockExt;
pub use error::{LockError, LockErrorKind, LockOperation};
pub use give_up::ReleaseOutcome;
pub use guard::LockGuard;
pub use key::LockKey;
pub use lease::Lease;
pub use local::InProcessLock;
pub use lost::{Lost, LostReason};
pub use manager::LockManager;
pub use manager_options::ManagerOptions;
pub use memory_core::Clock;
pub use memory_core::lease::{FencingToken, LeaseDomain, LeaseInfo, LeaseProof, OwnerId};
pub use memory_core::store::Applied;
pub use options::LockOptions;
#[cfg(feature = "redlock")]
pub use redlock::RedlockLock;
pub use scope::LeaseScope;
#[cfg(feature = "sqlite")]
pub use sqlite::SqliteLock;
pub use stats::LockStats;
pub use with_lock::WithLockError;
