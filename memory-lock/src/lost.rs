//! The reasons for which a lease is lost, and the error that names one.

use std::fmt;

use thiserror::Error;

use crate::key::LockKey;

/// The reason why a lease was lost. Decided by this process, from a definite answer or by its clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LostReason {
    /// Another owner holds the key.
    Stolen,
    /// Its deadline passed without a successful refresh.
    Expired,
    /// The backend knows no lease of the key.
    Vanished,
    /// It was kept for as long as [`LockOptions::with_max_hold`](crate::LockOptions::with_max_hold)
    /// allows.
    MaxHold,
    /// [`LockManager::shutdown`](crate::LockManager::shutdown) ended it.
    ShutDown,
}

impl LostReason {
    /// A stable name for metrics and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stolen => "stolen",
            Self::Expired => "expired",
            Self::Vanished => "vanished",
            Self::MaxHold => "max_hold",
            Self::ShutDown => "shut_down",
        }
    }
}

impl fmt::Display for LostReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stolen => "another owner holds it",
            Self::Expired => "it could not be refreshed before its deadline",
            Self::Vanished => "the backend no longer knows it",
            Self::MaxHold => "it was held for as long as `max_hold` (of a turn: `max_turn`) allows",
            Self::ShutDown => "the lock manager was shut down",
        })
    }
}

/// The lease is no longer held: stop the protected work. A store that checks tokens refuses writes that
/// carry its token.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the lease of `{key}` was lost: {reason}; start over with a new one")]
#[non_exhaustive]
pub struct Lost {
    /// The key of the lease.
    pub key: LockKey,
    /// The reason of the loss.
    pub reason: LostReason,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loss_has_text_and_stable_name() {
        for (reason, name, words) in [
            (LostReason::Stolen, "stolen", "another owner holds it"),
            (LostReason::Expired, "expired", "it could not be refreshed before its deadline"),
            (LostReason::Vanished, "vanished", "the backend no longer knows it"),
            (
                LostReason::MaxHold,
                "max_hold",
                "it was held for as long as `max_hold` (of a turn: `max_turn`) allows",
            ),
            (LostReason::ShutDown, "shut_down", "the lock manager was shut down"),
        ] {
            assert_eq!(reason.as_str(), name);
            let lost = Lost { key: LockKey::new("k").unwrap(), reason };
            let text = format!("the lease of `k` was lost: {words}; start over with a new one");
            assert_eq!(lost.to_string(), text);
        }
    }
}
