//! Bugs to plant in the simulated server, which the checks must find.

use crate::violation::Check;

/// A bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Bug {
    /// The store checks neither fencing tokens nor whether a lease is live.
    NoFencing,
    /// A write without a lease succeeds although another agent holds it.
    NoLeaseCheck,
    /// A flush commits although the memory was changed under it.
    NoGenerationCheck,
    /// A retry is appended again.
    RetryNotRecognized,
    /// Retries are forgotten by each flush.
    RetryForgottenByFlush,
    /// The record of a writer is pruned as soon as another writer writes, and its retry is treated as new.
    WriterPrunedEarly,
    /// An expected version is not compared.
    VersionIgnored,
    /// The version is compared before a retry is recognized.
    VersionBeforeRetry,
    /// A conditional append is applied and reported as a conflict.
    ConflictApplied,
    /// Messages are taken back although others came since.
    WithdrawalIgnoresNewer,
    /// Messages that were taken back are counted as evicted.
    WithdrawnCountedAsEvicted,
    /// A batch is appended in two steps.
    TornBatch,
    /// Some appends are acknowledged and never applied.
    AppendLost,
    /// A flush removes messages that were appended while it computed.
    FlushTakesNewAppends,
    /// The counters are updated after the messages.
    CountersApart,
    /// Evicted tokens stay in the count.
    TokensNotReturned,
    /// A flush also drops the oldest critical message.
    CriticalEvicted,
    /// A flush drops a call and leaves its result.
    UnitSplit,
    /// A flush inserts its summary and keeps the messages that it replaces.
    SourcesKept,
    /// A clear restarts the numbering.
    ClearRestartsNumbers,
    /// A read combines two snapshots.
    TornRead,
    /// Some reads are answered from an old copy.
    StaleRead,
    /// Two concurrently appended messages are swapped.
    OrderLost,
    /// An append that was applied is reported as not applied.
    ErrorLies,
    /// Errors quote the message.
    ErrorQuotesMessage,
    /// A release by any process frees the lease.
    ReleaseWithoutOwner,
    /// A refresh of a lease that was lost is reported as a success.
    RefreshIgnoresLoss,
    /// A live lease is granted to another holder.
    GrantedTwice,
    /// Leases expire after a fortieth of their TTL.
    LeaseTooShort,
    /// Tokens of new grants do not increase.
    TokensStandStill,
    /// A hand-over keeps the token of the previous holder.
    HandOverKeepsToken,
    /// A release is acknowledged and not applied.
    LeaseLeaked,
    /// Odd characters of keys are replaced.
    KeysCollide,
    /// Messages are reported smaller than they are.
    TokensUnderstated,
    /// The mark that a flush leaves for the next one is lost.
    FlushMarkLost,
    /// The summarizer runs under the writers' lease.
    SummarizerUnderLease,
    /// A lease that its holder does not release never expires.
    LeaseNeverExpires,
    /// A read whose answer is lost never times out.
    ReadsHang,
    /// A receipt does not report that its flush missed the target.
    ShortfallHidden,
    /// A window holds the result of a call without the call.
    WindowSplitsUnit,
    /// A new turn does not raise the store's newest token.
    ClaimIgnored,
    /// A holder counts the end of its lease from the answer that granted it.
    DeadlineFromAnswer,
    /// The lease on a flush is granted to another holder although it is live.
    FlushLeaseTwice,
    /// Dropping a lease guard does not release it.
    GuardForgets,
    /// After one request without an answer, a process never reaches the store again.
    LinkStaysBroken,
    /// A window is in reverse order.
    WindowReversed,
    /// A window repeats its first message at its end.
    WindowDoubled,
    /// A window lacks its first critical message.
    WindowWithoutCritical,
    /// A window is empty.
    WindowEmpty,
    /// A window is the same as the first one.
    WindowOfOld,
    /// Evicted messages are not counted.
    EvictedNotCounted,
    /// Some appends are refused without reason, and correctly reported as not applied.
    AppendRefused,
    /// A forward step of the wall clock ends live leases.
    LeaseEndedByStep,
    /// Leases that are granted after a backward step last until the wall clock has caught up.
    LeaseFrozenByStep,
    /// A read continues after its cursor's place, regardless of the message there.
    ReaderGoesOn,
    /// A splice removes the messages at its places, regardless of their ids.
    SpliceTakesOthers,
    /// A fetch returns the messages at its places, regardless of their ids.
    FetchFindsOthers,
    /// The tokens of a replaced message stay in the count, and those of the new message are not counted.
    ReplaceNotCounted,
    /// A reader continues in the generation in which a message was replaced.
    ReplaceKeepsGeneration,
    /// A replacement that is sent again is counted twice.
    ReplaceCountedTwice,
    /// Some reads after a cursor return nothing new, like a view that is used without asking the store.
    DeltaSkipped,
    /// A read after a cursor returns only the newest of several new messages.
    DeltaTorn,
    /// A reader continues from a cursor although a flush removed messages since.
    FlushUnnoticed,
    /// A reader continues from a cursor although the memory was cleared since.
    ClearUnnoticed,
    /// A reader continues from a cursor of a state from which the server rolled back.
    RollbackUnnoticed,
    /// A reader continues from a cursor of a memory that was removed since, because its TTL ended.
    TtlUnnoticed,
    /// A reader's own batches are confirmed although the server lost them.
    KnownUnchecked,
    /// All batches of a reader are confirmed because the newest one is stored.
    KnownByNewest,
}

impl Bug {
    /// All bugs.
    pub const ALL: [Self; 68] = [
        Self::NoFencing,
        Self::NoLeaseCheck,
        Self::NoGenerationCheck,
        Self::RetryNotRecognized,
        Self::RetryForgottenByFlush,
        Self::WriterPrunedEarly,
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
        Self::SummarizerUnderLease,
        Self::LeaseNeverExpires,
        Self::ReadsHang,
        Self::ShortfallHidden,
        Self::WindowSplitsUnit,
        Self::ClaimIgnored,
        Self::DeadlineFromAnswer,
        Self::FlushLeaseTwice,
        Self::GuardForgets,
        Self::LinkStaysBroken,
        Self::WindowReversed,
        Self::WindowDoubled,
        Self::WindowWithoutCritical,
        Self::WindowEmpty,
        Self::WindowOfOld,
        Self::EvictedNotCounted,
        Self::AppendRefused,
        Self::LeaseEndedByStep,
        Self::LeaseFrozenByStep,
        Self::ReaderGoesOn,
        Self::SpliceTakesOthers,
        Self::FetchFindsOthers,
        Self::ReplaceNotCounted,
        Self::ReplaceKeepsGeneration,
        Self::ReplaceCountedTwice,
        Self::DeltaSkipped,
        Self::DeltaTorn,
        Self::FlushUnnoticed,
        Self::ClearUnnoticed,
        Self::RollbackUnnoticed,
        Self::TtlUnnoticed,
        Self::VersionIgnored,
        Self::VersionBeforeRetry,
        Self::ConflictApplied,
        Self::WithdrawalIgnoresNewer,
        Self::WithdrawnCountedAsEvicted,
        Self::KnownUnchecked,
        Self::KnownByNewest,
    ];

    /// Whether the bug is visible only if the server rolls back.
    #[must_use]
    pub const fn needs_rollback(self) -> bool {
        matches!(
            self,
            Self::ReaderGoesOn
                | Self::SpliceTakesOthers
                | Self::FetchFindsOthers
                | Self::RollbackUnnoticed
                | Self::KnownUnchecked
                | Self::KnownByNewest
        )
    }

    /// Whether the bug is visible only if the TTL of a memory ends.
    #[must_use]
    pub const fn needs_expiry(self) -> bool {
        matches!(self, Self::TtlUnnoticed)
    }

    /// Whether the bug is visible only if agents ensure a system prompt.
    #[must_use]
    pub const fn needs_prompts(self) -> bool {
        matches!(
            self,
            Self::ReplaceNotCounted | Self::ReplaceKeepsGeneration | Self::ReplaceCountedTwice
        )
    }

    /// The checks for this bug: one of them must find it, whatever other checks report.
    #[must_use]
    pub const fn checks(self) -> &'static [Check] {
        match self {
            Self::NoFencing => &[Check::StaleWrite],
            Self::NoLeaseCheck => &[Check::TurnInterrupted],
            // No order explains a memory after a flush that was planned for another generation.
            Self::NoGenerationCheck | Self::StaleRead | Self::ReplaceKeepsGeneration => {
                &[Check::Unexplained]
            }
            Self::DeltaSkipped | Self::DeltaTorn => &[Check::Lost, Check::Unexplained],
            Self::FlushUnnoticed => &[Check::CameBack, Check::Unexplained],
            Self::ClearUnnoticed => &[Check::Unexplained],
            Self::RollbackUnnoticed
            | Self::TtlUnnoticed
            | Self::KnownUnchecked
            | Self::KnownByNewest => &[Check::ReaderMisses, Check::Unexplained],
            Self::RetryNotRecognized | Self::WriterPrunedEarly => &[Check::Twice],
            Self::RetryForgottenByFlush => &[Check::Twice, Check::CameBack],
            Self::TornBatch | Self::OrderLost => &[Check::BatchTorn],
            Self::AppendLost | Self::FlushTakesNewAppends => &[Check::Lost],
            Self::CountersApart | Self::WithdrawnCountedAsEvicted => &[Check::Counted],
            Self::VersionIgnored | Self::WithdrawalIgnoresNewer => &[Check::Unexplained],
            Self::VersionBeforeRetry | Self::ConflictApplied => &[Check::ErrorLied],
            Self::TokensNotReturned | Self::ReplaceNotCounted | Self::ReplaceCountedTwice => {
                &[Check::Recount]
            }
            Self::CriticalEvicted => &[Check::CriticalGone],
            Self::UnitSplit => &[Check::UnitApart],
            Self::SourcesKept => &[Check::CameBack],
            Self::ClearRestartsNumbers => &[Check::OutOfOrder],
            Self::TornRead => &[Check::HalfSeen, Check::Unexplained],
            Self::ErrorLies => &[Check::ErrorLied],
            Self::ErrorQuotesMessage => &[Check::ErrorQuotes],
            Self::ReleaseWithoutOwner
            | Self::RefreshIgnoresLoss
            | Self::GrantedTwice
            | Self::LeaseTooShort => &[Check::HoldsOverlap],
            Self::TokensStandStill | Self::HandOverKeepsToken => &[Check::TokenFalls],
            Self::LeaseLeaked => &[Check::LeaseNotFree],
            Self::LeaseNeverExpires | Self::LeaseFrozenByStep => &[Check::LeaseLeft],
            Self::LeaseEndedByStep => &[Check::GrantsOverlap, Check::HoldsOverlap],
            Self::KeysCollide => &[Check::Foreign],
            Self::TokensUnderstated => &[Check::WindowTooLarge],
            Self::WindowSplitsUnit => &[Check::WindowUnpaired],
            Self::ClaimIgnored => &[Check::TurnNotAtomic],
            Self::DeadlineFromAnswer => &[Check::HoldsOverlap, Check::GrantsOverlap],
            Self::FlushLeaseTwice => &[Check::GrantsOverlap],
            Self::GuardForgets => &[Check::LeaseForgotten],
            Self::LinkStaysBroken => &[Check::NotHealed],
            Self::WindowReversed => &[Check::WindowOrder],
            Self::WindowDoubled => &[Check::WindowTwice],
            Self::WindowWithoutCritical => &[Check::WindowWithoutCritical],
            Self::WindowEmpty => &[Check::WindowEmpty],
            Self::WindowOfOld => &[Check::WindowOfNothing],
            Self::EvictedNotCounted => &[Check::NotConserved],
            Self::AppendRefused => &[Check::FailedInCalm],
            Self::FlushMarkLost => &[Check::IdleFlushes],
            Self::ReadsHang => &[Check::NeverEnds],
            Self::ShortfallHidden => &[Check::ShortfallHidden],
            Self::SummarizerUnderLease => &[Check::Hindered],
            Self::ReaderGoesOn => &[Check::ReaderMisses],
            Self::SpliceTakesOthers => &[Check::FlushTookUnseen],
            Self::FetchFindsOthers => &[Check::FetchedOther],
        }
    }
}
