//! The options of a manager, for all its leases.

use std::time::Duration;

use crate::error::{LockError, LockErrorKind, LockOperation};

/// The options of a [`LockManager`](crate::LockManager), for all its leases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ManagerOptions {
    answer_timeout: Duration,
    max_hand_overs: u32,
    seed: Option<u64>,
}

const DEFAULT_ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

impl ManagerOptions {
    /// The defaults.
    #[must_use]
    pub const fn new() -> Self {
        Self { answer_timeout: DEFAULT_ANSWER_TIMEOUT, max_hand_overs: 16, seed: None }
    }

    /// The time to wait for the answer to one call of the backend before its effect counts as unknown.
    /// Refreshes have separate, shorter limits. Default: 5 s.
    #[must_use]
    pub const fn with_answer_timeout(mut self, timeout: Duration) -> Self {
        self.answer_timeout = timeout;
        self
    }

    /// The most consecutive times that a lease is passed from task to task in this process before it is
    /// really released, so that other processes get a turn; 0 releases every time. Default: 16.
    #[must_use]
    pub const fn with_max_hand_overs(mut self, most: u32) -> Self {
        self.max_hand_overs = most;
        self
    }

    /// The seed of owner ids and jitter, so that a test is reproducible. Never in production: two managers
    /// with one seed create the same owner ids. Default: fresh randomness.
    #[must_use]
    pub const fn with_seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// See [`Self::with_answer_timeout`].
    #[must_use]
    pub const fn answer_timeout(&self) -> Duration {
        self.answer_timeout
    }

    /// See [`Self::with_max_hand_overs`].
    #[must_use]
    pub const fn max_hand_overs(&self) -> u32 {
        self.max_hand_overs
    }

    /// See [`Self::with_seed`].
    #[must_use]
    pub const fn seed(&self) -> Option<u64> {
        self.seed
    }

    /// Checks the options.
    ///
    /// # Errors
    ///
    /// [`LockErrorKind::InvalidOptions`], naming the field and the remedy.
    pub fn validate(&self) -> Result<(), LockError> {
        if self.answer_timeout.is_zero() {
            return Err(LockError::new(LockErrorKind::InvalidOptions, LockOperation::Configure)
                .not_applied()
                .with_detail("`answer_timeout` is zero; set it to some seconds"));
        }
        Ok(())
    }
}

impl Default for ManagerOptions {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_documented_and_changeable() {
        let options = ManagerOptions::default();
        assert_eq!(options, ManagerOptions::new());
        assert_eq!(options.answer_timeout(), Duration::from_secs(5));
        assert_eq!((options.max_hand_overs(), options.seed()), (16, None));
        let own =
            options.with_answer_timeout(Duration::from_secs(1)).with_max_hand_overs(3).with_seed(7);
        assert_eq!(own.answer_timeout(), Duration::from_secs(1));
        assert_eq!((own.max_hand_overs(), own.seed()), (3, Some(7)));
    }

    #[test]
    fn answer_timeout_is_above_zero() {
        let options = ManagerOptions::new().with_answer_timeout(Duration::from_nanos(1));
        assert!(options.validate().is_ok());
        let error = options.with_answer_timeout(Duration::ZERO).validate().unwrap_err();
        assert_eq!(error.kind(), &LockErrorKind::InvalidOptions);
        assert_eq!(
            error.to_string(),
            "these lock options cannot be used: `answer_timeout` is zero; set it to some seconds"
        );
    }
}
