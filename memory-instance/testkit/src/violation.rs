//! What can be found wrong with a program, check by check.

/// Every kind of check, with the promise that it is about.
macro_rules! checks {
    ($($(#[$doc:meta])* $name:ident $promise:literal,)*) => {
        /// A kind of check. Each has to be seen to fail: `tests/planted_bugs.rs` asks for it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Check {
            $($(#[$doc])* $name,)*
        }

        impl Check {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The promise that is broken where it fails, as the design numbers them.
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
    /// A message was acknowledged and is gone, and no flush or clear accounts for it.
    Lost "P1",
    /// The counters of an outline do not add up.
    NotConserved "P1",
    /// A flush removed a message that it had not seen.
    FlushTookUnseen "P1",
    /// A message is there twice.
    Twice "P2",
    /// A message is there after a flush that removed it.
    CameBack "P2",
    /// The messages of a batch do not stand side by side in their order.
    BatchTorn "P3",
    /// What was appended later has an earlier place.
    OutOfOrder "P3",
    /// A critical message is gone.
    CriticalGone "P4",
    /// A call and its result are apart.
    UnitApart "P5",
    /// A window that no model takes.
    WindowUnpaired "P5",
    /// A write under an old token came after one under a newer.
    StaleWrite "P6",
    /// Others wrote between the first look of a turn and its last write.
    TurnNotAtomic "P6",
    /// A later grant has no greater token.
    TokenFalls "P6",
    /// Of two leases that were granted the later one has no greater token.
    GrantTokenFalls "P6",
    /// A lease was granted while another was live.
    GrantsOverlap "P7",
    /// A lease is held although nobody in any process knows of it.
    LeaseForgotten "P7",
    /// Two held the lease at once.
    HoldsOverlap "P7",
    /// Others wrote in the middle of a turn.
    TurnInterrupted "P7",
    /// Leases are left long after the end.
    LeaseLeft "P7",
    /// A lease is not to be had at the end, or not given back.
    LeaseNotFree "P7",
    /// A read saw a part of a batch.
    HalfSeen "P8",
    /// A reader that was to go on has not what is there.
    ReaderMisses "P8",
    /// A fetch returned other messages than the outline that it was made by.
    FetchedOther "P8",
    /// No order of the operations explains what was answered.
    Unexplained "P8",
    /// A window is over its budget.
    WindowTooLarge "P9",
    /// A window is not in the order of the memory.
    WindowOrder "P9",
    /// A window shows a message twice.
    WindowTwice "P9",
    /// A window shows what was not there at any one time.
    WindowOfNothing "P9",
    /// A window lacks critical messages.
    WindowWithoutCritical "P9",
    /// A window is empty although something fits.
    WindowEmpty "P9",
    /// Only the counters cannot be explained by any order of the operations.
    Counted "P10",
    /// The counters of an outline are not those of a recount.
    Recount "P10",
    /// The program does not come to its end.
    NeverEnds "P11",
    /// Something failed although the faults had ended.
    NotHealed "P11",
    /// Something took long although the faults had ended.
    HealedLate "P11",
    /// An append failed although nothing was made to fail.
    FailedInCalm "P11",
    /// A flush missed its target and does not say why.
    ShortfallHidden "P11",
    /// Flushes that can do nothing are begun again and again.
    IdleFlushes "P11",
    /// An append waited with nothing in its way.
    Hindered "P12",
    /// An error quotes a message.
    ErrorQuotes "P13",
    /// What was told for certain not to be there is there.
    ErrorLied "P13",
    /// A message of another memory.
    Foreign "P14",
    /// No fault of the memory: the search for an order was given up.
    NoVerdict "none",
}

/// A promise that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which check found it.
    pub check: Check,
    /// How.
    pub what: String,
}
