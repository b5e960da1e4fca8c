//! All kinds of violations, by check.

/// Every kind of check, with its invariant.
macro_rules! checks {
    ($($(#[$doc:meta])* $name:ident $promise:literal,)*) => {
        /// A kind of check. `tests/planted_bugs.rs` requires that each one finds a bug.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Check {
            $($(#[$doc])* $name,)*
        }

        impl Check {
            /// All checks.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The number of the violated invariant.
            #[must_use]
            pub const fn promise(self) -> &'static str {
                match self {
                    $(Self::$name => $promise,)*
                }
            }
        }
    };
}

checks! {
    /// An acknowledged message is missing, and no flush or clear accounts for it.
    Lost "P1",
    /// The counters of an outline do not add up.
    NotConserved "P1",
    /// A flush removed a message that it had not seen.
    FlushTookUnseen "P1",
    /// Other messages were taken back than those of the newest turn.
    WithdrewOther "P1",
    /// A message is there twice.
    Twice "P2",
    /// A message is there after a flush that removed it.
    CameBack "P2",
    /// The messages of a batch are not contiguous or not in order.
    BatchTorn "P3",
    /// A later append has an earlier place.
    OutOfOrder "P3",
    /// A critical message is missing.
    CriticalGone "P4",
    /// A call and its result are separated.
    UnitApart "P5",
    /// A window that no model accepts.
    WindowUnpaired "P5",
    /// A write under an older token came after one under a newer token.
    StaleWrite "P6",
    /// Other writes between the first read of a turn and its last write.
    TurnNotAtomic "P6",
    /// A later grant has no greater token.
    TokenFalls "P6",
    /// A later grant of two has no greater token.
    GrantTokenFalls "P6",
    /// A lease was granted while another was live.
    GrantsOverlap "P7",
    /// A lease is held although no process knows it.
    LeaseForgotten "P7",
    /// Two agents held the lease at once.
    HoldsOverlap "P7",
    /// Other writes during a turn.
    TurnInterrupted "P7",
    /// Leases are left long after the end.
    LeaseLeft "P7",
    /// A lease cannot be acquired at the end, or not released.
    LeaseNotFree "P7",
    /// A read saw a part of a batch.
    HalfSeen "P8",
    /// A continued read lacks stored messages.
    ReaderMisses "P8",
    /// A fetch returned other messages than those of its outline.
    FetchedOther "P8",
    /// No order of the operations explains the answers.
    Unexplained "P8",
    /// A window is over its budget.
    WindowTooLarge "P9",
    /// A window is not in the order of the memory.
    WindowOrder "P9",
    /// A window shows a message twice.
    WindowTwice "P9",
    /// A window contains messages that were not stored at any one time.
    WindowOfNothing "P9",
    /// A window is not that of the memory at any time of the call. It may lack the newest messages.
    WindowStale "P9",
    /// The version of a window is not that of its messages.
    WindowVersion "P9",
    /// A window lacks critical messages.
    WindowWithoutCritical "P9",
    /// A window is empty although something fits.
    WindowEmpty "P9",
    /// Only the counters cannot be explained by any order of the operations.
    Counted "P10",
    /// The counters of an outline differ from a recount.
    Recount "P10",
    /// The program does not end.
    NeverEnds "P11",
    /// An operation failed although the faults had ended.
    NotHealed "P11",
    /// An operation took long although the faults had ended.
    HealedLate "P11",
    /// An append failed although no faults were injected.
    FailedInCalm "P11",
    /// A flush missed its target and does not report why.
    ShortfallHidden "P11",
    /// Futile flushes are started again and again.
    IdleFlushes "P11",
    /// An append waited without a reason.
    Hindered "P12",
    /// An error quotes a message.
    ErrorQuotes "P13",
    /// A message that was reported as not applied is stored.
    ErrorLied "P13",
    /// A message of another memory.
    Foreign "P14",
    /// Only the answers about the archive cannot be explained by any order of the operations.
    ArchiveWrong "P17",
    /// Only the answers to searches cannot be explained.
    SearchWrong "P17",
    /// The answers of a copy cannot be explained by any state of its source.
    CopyWrong "P17",
    /// Only the priorities and content types cannot be explained.
    SettingsWrong "P8",
    /// Only the texts of summaries, or the outcomes of rewriting them, cannot be explained.
    SummaryWrong "P18",
    /// A message is archived twice, or archived and present.
    ArchivedTwice "P17",
    /// An automatic flush took messages after an undo.
    HeldFlush "P17",
    /// An erased message is shown.
    ErasedShown "P18",
    /// Not a violation: the search for an order exceeded its budget.
    NoVerdict "none",
}

/// A violated invariant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The check that found it.
    pub check: Check,
    /// The details.
    pub what: String,
}
