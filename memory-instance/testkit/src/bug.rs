//! Defects to be planted in the simulated server, so that the checks are seen to fail.

/// A defect, and the promise that it breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Bug {
    /// The store does not look at fencing tokens, nor whether a lease is live.
    NoFencing,
    /// A write without a lease goes through although another agent holds it.
    NoLeaseCheck,
    /// A flush commits although the memory was changed under it.
    NoGenerationCheck,
    /// A retry is appended again.
    RetryNotRecognised,
    /// Retries are forgotten by each flush.
    RetryForgottenByFlush,
    /// A batch is appended in two steps.
    TornBatch,
    /// Some appends are acknowledged and never happen.
    AppendLost,
    /// A flush takes along what was appended while it computed.
    FlushTakesNewAppends,
    /// The counters are updated after the messages.
    CountersApart,
    /// Evicted tokens stay in the count.
    TokensNotReturned,
    /// A flush also drops the oldest critical message.
    CriticalEvicted,
    /// A flush drops a call and leaves its result.
    UnitSplit,
    /// A flush inserts its summary and leaves what it replaces.
    SourcesKept,
    /// A clear starts the numbering anew.
    ClearRestartsNumbers,
    /// A read is put together from two looks.
    TornRead,
    /// Some reads are answered from an old copy.
    StaleRead,
    /// Two messages appended at once change places.
    OrderLost,
    /// An append that took effect is reported as certain not to have.
    ErrorLies,
    /// Errors quote the message.
    ErrorQuotesMessage,
    /// Anybody's release frees the lease.
    ReleaseWithoutOwner,
    /// A refresh of a lease that was lost is reported as a success.
    RefreshIgnoresLoss,
    /// A lease that is still live is granted to the next.
    GrantedTwice,
    /// Leases run out at half of their time.
    LeaseTooShort,
    /// Tokens of new grants do not rise.
    TokensStandStill,
    /// A hand-over keeps the token of the holder before.
    HandOverKeepsToken,
    /// A release is acknowledged and does not happen.
    LeaseLeaked,
    /// Odd characters of keys are replaced.
    KeysCollide,
    /// Messages are reported smaller than they are.
    TokensUnderstated,
    /// The mark that a flush leaves for the next one is lost.
    FlushMarkLost,
    /// The summariser runs under the writers' lease.
    SummariserUnderLease,
}

impl Bug {
    /// All of them.
    pub const ALL: [Self; 30] = [
        Self::NoFencing,
        Self::NoLeaseCheck,
        Self::NoGenerationCheck,
        Self::RetryNotRecognised,
        Self::RetryForgottenByFlush,
        Self::TornBatch,
        Self::AppendLost,
        Self::FlushTakesNewAppends,
        Self::CountersApart,
        Self::TokensNotReturned,
        Self::CriticalEvicted,
        Self::UnitSplit,
        Self::SourcesKept,
        Self::ClearRestartsNumbers,
        Self::TornRead,
        Self::StaleRead,
        Self::OrderLost,
        Self::ErrorLies,
        Self::ErrorQuotesMessage,
        Self::ReleaseWithoutOwner,
        Self::RefreshIgnoresLoss,
        Self::GrantedTwice,
        Self::LeaseTooShort,
        Self::TokensStandStill,
        Self::HandOverKeepsToken,
        Self::LeaseLeaked,
        Self::KeysCollide,
        Self::TokensUnderstated,
        Self::FlushMarkLost,
        Self::SummariserUnderLease,
    ];

    /// The promise that it breaks first of all.
    #[must_use]
    pub const fn promise(self) -> &'static str {
        match self {
            Self::AppendLost | Self::FlushTakesNewAppends => "P1 nothing is lost",
            Self::RetryNotRecognised | Self::RetryForgottenByFlush | Self::SourcesKept => {
                "P2 nothing is doubled"
            }
            Self::TornBatch | Self::OrderLost | Self::ClearRestartsNumbers => "P3 order",
            Self::CriticalEvicted => "P4 critical is for ever",
            Self::UnitSplit => "P5 units stay whole",
            Self::NoFencing | Self::TokensStandStill | Self::HandOverKeepsToken => "P6 fencing",
            Self::NoLeaseCheck
            | Self::ReleaseWithoutOwner
            | Self::RefreshIgnoresLoss
            | Self::GrantedTwice
            | Self::LeaseTooShort
            | Self::LeaseLeaked => "P7 mutual exclusion",
            Self::NoGenerationCheck | Self::TornRead | Self::StaleRead => "P8 snapshots",
            Self::TokensUnderstated => "P9 windows fit",
            Self::CountersApart | Self::TokensNotReturned => "P10 exact counts",
            Self::FlushMarkLost => "P11 flushes make progress",
            Self::SummariserUnderLease => "P12 appends do not wait",
            Self::ErrorLies | Self::ErrorQuotesMessage => "P13 errors",
            Self::KeysCollide => "P14 tenants are apart",
        }
    }
}
