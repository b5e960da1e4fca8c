//! The options of one lease: its TTL, refreshing, waiting and the longest hold.

use std::time::Duration;

use memory_core::sibling::{DEFAULT_LEASE_TTL, MIN_LEASE_TTL};

use crate::error::{LockError, LockErrorKind, LockOperation};

/// The options of acquiring, keeping and releasing one lease.
///
/// ```
/// # use std::time::Duration;
/// # use memory_lock::LockOptions;
/// let options = LockOptions::new().with_ttl(Duration::from_secs(10));
/// assert_eq!(options.refresh_interval(), Some(Duration::from_secs(5)));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LockOptions {
    ttl: Duration,
    refresh: Refresh,
    wait_timeout: Duration,
    failure_timeout: Option<Duration>,
    max_hold: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refresh {
    HalfTtl,
    Every(Duration),
    Never,
}

const DEFAULT_WAIT_TIMEOUT: Duration = Duration::from_secs(10);
const DEFAULT_MAX_HOLD: Duration = Duration::from_secs(3_600);

impl LockOptions {
    /// The shortest TTL. Below it, clock drift and the resolution of timers leave no useful time.
    pub const MIN_TTL: Duration = MIN_LEASE_TTL;

    /// The defaults.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            ttl: DEFAULT_LEASE_TTL,
            refresh: Refresh::HalfTtl,
            wait_timeout: DEFAULT_WAIT_TIMEOUT,
            failure_timeout: None,
            max_hold: Some(DEFAULT_MAX_HOLD),
        }
    }

    /// The time for which the lease lasts without a refresh: the longest time that others wait after this
    /// process was killed. At least [`Self::MIN_TTL`]. Default: 30 s.
    #[must_use]
    pub const fn with_ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// The time of the first attempt to refresh, counted from the grant or the last refresh. At most half
    /// the TTL, so that a failed attempt leaves time for others. Default: half the TTL (15 s).
    #[must_use]
    pub const fn with_refresh_interval(mut self, interval: Duration) -> Self {
        self.refresh = Refresh::Every(interval);
        self
    }

    /// Lets the lease end with its TTL. No effect on
    /// [`with_lock_refresh`](crate::LockManager::with_lock_refresh), which always refreshes.
    #[must_use]
    pub const fn without_refresh(mut self) -> Self {
        self.refresh = Refresh::Never;
        self
    }

    /// The time for which [`lock`](crate::LockManager::lock) waits for others. Default: 10 s.
    /// `Duration::MAX` waits without a limit: the place in line is kept, retryable errors are retried, and
    /// dropping the future leaves the line.
    #[must_use]
    pub const fn with_wait_timeout(mut self, wait: Duration) -> Self {
        self.wait_timeout = wait;
        self
    }

    /// The time for which [`lock`](crate::LockManager::lock) continues while the backend fails or gives no
    /// answer, counted from the first of the consecutive failed calls; never longer than it waits for
    /// others. Default: as long as that.
    #[must_use]
    pub const fn with_failure_timeout(mut self, timeout: Duration) -> Self {
        self.failure_timeout = Some(timeout);
        self
    }

    /// The longest time for which a lease is kept, even if it could be refreshed, so that a stuck holder
    /// ends; `None` for no limit. Default: 1 h.
    #[must_use]
    pub const fn with_max_hold(mut self, max_hold: Option<Duration>) -> Self {
        self.max_hold = max_hold;
        self
    }

    /// See [`Self::with_ttl`].
    #[must_use]
    pub const fn ttl(&self) -> Duration {
        self.ttl
    }

    /// See [`Self::with_refresh_interval`]; `None` if the lease is not refreshed.
    #[must_use]
    pub fn refresh_interval(&self) -> Option<Duration> {
        match self.refresh {
            Refresh::HalfTtl => Some(self.ttl / 2),
            Refresh::Every(interval) => Some(interval),
            Refresh::Never => None,
        }
    }

    /// See [`Self::with_wait_timeout`].
    #[must_use]
    pub const fn wait_timeout(&self) -> Duration {
        self.wait_timeout
    }

    /// See [`Self::with_failure_timeout`].
    #[must_use]
    pub fn failure_timeout(&self) -> Duration {
        self.failure_timeout.map_or(self.wait_timeout, |timeout| timeout.min(self.wait_timeout))
    }

    /// See [`Self::with_max_hold`].
    #[must_use]
    pub const fn max_hold(&self) -> Option<Duration> {
        self.max_hold
    }

    pub(crate) const fn refreshing(mut self) -> Self {
        if matches!(self.refresh, Refresh::Never) {
            self.refresh = Refresh::HalfTtl;
        }
        self
    }

    /// Checks the options; every call that takes them does this first.
    ///
    /// # Errors
    ///
    /// [`LockErrorKind::InvalidOptions`], naming the field and the remedy.
    pub fn validate(&self) -> Result<(), LockError> {
        let (ttl, least) = (self.ttl, Self::MIN_TTL);
        let problem = if ttl < least {
            format!("`ttl` is {ttl:?}; set it to {least:?} or more")
        } else if let Some(interval) = self.refresh_interval()
            && (interval.is_zero() || interval > ttl / 2)
        {
            let most = ttl / 2;
            format!(
                "`refresh_interval` is {interval:?}; set it above zero and to half of `ttl` \
                 ({most:?}) at the most"
            )
        } else if self.max_hold.is_some_and(|max_hold| max_hold.is_zero()) {
            "`max_hold` is zero; set it to how long a lease may be kept, or to none".to_owned()
        } else {
            return Ok(());
        };
        Err(LockError::new(LockErrorKind::InvalidOptions, LockOperation::Configure)
            .not_applied()
            .with_detail(problem))
    }
}

impl Default for LockOptions {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn defaults_match_the_documentation() {
        let options = LockOptions::new();
        assert!(options.validate().is_ok());
        assert_eq!(options.ttl(), seconds(30));
        assert_eq!(options.refresh_interval(), Some(seconds(15)));
        assert_eq!(options.wait_timeout(), seconds(10));
        assert_eq!(options.max_hold(), Some(seconds(3_600)));
        assert_eq!(options.without_refresh().refreshing(), options);
    }

    #[test]
    fn invalid_options_are_refused_with_field_and_remedy() {
        let good = LockOptions::new();
        assert!(good.with_refresh_interval(seconds(15)).validate().is_ok());
        assert!(good.with_ttl(LockOptions::MIN_TTL).validate().is_ok());
        assert!(good.with_max_hold(None).validate().is_ok());
        for (bad, field) in [
            (good.with_ttl(Duration::ZERO), "`ttl` is"),
            (good.with_refresh_interval(seconds(16)), "`refresh_interval` is"),
            (good.with_refresh_interval(Duration::ZERO), "`refresh_interval` is"),
            (good.with_ttl(seconds(1)).with_refresh_interval(seconds(15)), "`refresh_interval` is"),
            (good.with_max_hold(Some(Duration::ZERO)), "`max_hold` is"),
        ] {
            let error = bad.validate().unwrap_err();
            assert_eq!(error.kind(), &LockErrorKind::InvalidOptions);
            assert!(error.to_string().contains(field) && error.to_string().contains("set it"));
        }
    }

    #[test]
    fn error_names_the_longest_refresh_interval() {
        let error = LockOptions::new().with_refresh_interval(seconds(16)).validate().unwrap_err();
        assert_eq!(
            error.to_string(),
            "these lock options cannot be used: `refresh_interval` is 16s; set it above zero and to \
             half of `ttl` (15s) at the most"
        );
    }

    #[test]
    fn each_option_can_be_changed() {
        let options = LockOptions::default()
            .with_ttl(seconds(20))
            .with_refresh_interval(seconds(5))
            .with_wait_timeout(seconds(1))
            .with_max_hold(Some(seconds(60)));
        assert_eq!((options.ttl(), options.refresh_interval()), (seconds(20), Some(seconds(5))));
        assert_eq!((options.wait_timeout(), options.max_hold()), (seconds(1), Some(seconds(60))));
        assert_eq!(options.refreshing(), options, "an explicit interval is kept");
        assert_eq!(options.without_refresh().refresh_interval(), None);
    }
}
