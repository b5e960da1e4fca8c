//! Defects to be planted in the simulated server, so that the checks are seen to fail.

use crate::violation::Check;

/// A defect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Bug {
    /// The store does not look at fencing tokens, nor whether a lease is live.
    NoFencing,
    /// A write without a lease goes through although another agent holds it.
    NoLeaseCheck,
    /// A flush commits although the memory was changed under it.
    NoGenerationCheck,
    /// A retry is appended again.
    RetryNotRecognized,
    /// Retries are forgotten by each flush.
    RetryForgottenByFlush,
    /// The record of a writer is pruned as soon as another wrote, and its next write is taken for new.
    WriterPrunedEarly,
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
    /// Leases run out after a fortieth of their time.
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
    /// A lease that its holder does not give up never runs out.
    LeaseNeverExpires,
    /// A read whose answer is lost is waited for as long as it takes.
    ReadsHang,
    /// A receipt does not say that its flush missed the target.
    ShortfallHidden,
    /// A window holds the result of a call without the call.
    WindowSplitsUnit,
    /// A turn that begins does not raise the store's newest token.
    ClaimIgnored,
    /// A holder counts the end of its lease from the answer that granted it.
    DeadlineFromAnswer,
    /// The lease on a flush is granted to the next although it is live.
    FlushLeaseTwice,
    /// Who drops a lease keeps it.
    GuardForgets,
    /// A process that once had no answer never reaches the store again.
    LinkStaysBroken,
    /// A window is in reverse.
    WindowReversed,
    /// A window shows its first message again at its end.
    WindowDoubled,
    /// A window lacks its first critical message.
    WindowWithoutCritical,
    /// A window is empty.
    WindowEmpty,
    /// A window is what it was the first time.
    WindowOfOld,
    /// Evicted messages are not counted.
    EvictedNotCounted,
    /// Now and then an append is refused for no reason, and says so rightly.
    AppendRefused,
    /// A step of the time of day forward ends live leases.
    LeaseEndedByStep,
    /// Leases that are granted after a step back last until the time of day has caught up.
    LeaseFrozenByStep,
    /// A read goes on behind its cursor's place, whichever message is there.
    ReaderGoesOn,
    /// A splice takes the messages at its places, whichever these are.
    SpliceTakesOthers,
    /// A fetch returns the messages at its places, whichever these are.
    FetchFindsOthers,
    /// The tokens of a message that is replaced stay in the count, and those of the new one are not counted.
    ReplaceNotCounted,
    /// A reader goes on in the generation in which a message was replaced.
    ReplaceKeepsGeneration,
    /// A replacement that is sent again is counted again.
    ReplaceCountedTwice,
}

impl Bug {
    /// All of them.
    pub const ALL: [Self; 55] = [
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
        Self::SummariserUnderLease,
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
    ];

    /// Whether it shows only where the server goes back to an earlier state.
    #[must_use]
    pub const fn needs_rollback(self) -> bool {
        matches!(self, Self::ReaderGoesOn | Self::SpliceTakesOthers | Self::FetchFindsOthers)
    }

    /// Whether it shows only where agents make sure of a system prompt.
    #[must_use]
    pub const fn needs_prompts(self) -> bool {
        matches!(
            self,
            Self::ReplaceNotCounted | Self::ReplaceKeepsGeneration | Self::ReplaceCountedTwice
        )
    }

    /// The checks that are there for it: one of them has to find it, whatever others see of it.
    #[must_use]
    pub const fn checks(self) -> &'static [Check] {
        match self {
            Self::NoFencing => &[Check::StaleWrite],
            Self::NoLeaseCheck => &[Check::TurnInterrupted],
            // What a memory is after a flush of another generation is no order's.
            Self::NoGenerationCheck | Self::StaleRead | Self::ReplaceKeepsGeneration => {
                &[Check::Unexplained]
            }
            Self::RetryNotRecognized | Self::WriterPrunedEarly => &[Check::Twice],
            Self::RetryForgottenByFlush => &[Check::Twice, Check::CameBack],
            Self::TornBatch | Self::OrderLost => &[Check::BatchTorn],
            Self::AppendLost | Self::FlushTakesNewAppends => &[Check::Lost],
            Self::CountersApart => &[Check::Counted],
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
            Self::SummariserUnderLease => &[Check::Hindered],
            Self::ReaderGoesOn => &[Check::ReaderMisses],
            Self::SpliceTakesOthers => &[Check::FlushTookUnseen],
            Self::FetchFindsOthers => &[Check::FetchedOther],
        }
    }
}
