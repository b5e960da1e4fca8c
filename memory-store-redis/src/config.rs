use memory_core::Clock;

/// How a store uses its connection.
#[derive(Debug, Clone, Default)]
pub struct RedisStoreConfig {
    pub(crate) checks: TokenChecks,
    pub(crate) clock: Option<Clock>,
}

/// The location of the leases whose tokens writers present.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum TokenChecks {
    /// Beside the data, at `RedisLock` of `memory-lock` on the same link: each write checks whether the lease
    /// is still live. Default.
    #[default]
    LiveLeases,
    /// Elsewhere, such as at a quorum of other servers: a write is refused if its token is lower than the
    /// newest that the memory has seen. That token is kept forever, about 60 bytes per memory.
    TokensAlone,
}

impl RedisStoreConfig {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The location of the leases. Default: [`TokenChecks::LiveLeases`].
    #[must_use]
    pub const fn with_token_checks(mut self, checks: TokenChecks) -> Self {
        self.checks = checks;
        self
    }

    /// A custom clock for TTLs and generations instead of the server's; for tests.
    #[must_use]
    pub fn with_clock(mut self, clock: Clock) -> Self {
        self.clock = Some(clock);
        self
    }
}
