//! Bugs to plant in the simulated server, which the checks must find.

use crate::program::Family;
use crate::violation::Check;

/// Each bug, with the families of programs in which it is visible, and the checks for it.
macro_rules! bugs {
    ($($(#[$doc:meta])* $name:ident in $($family:ident)|+: $($check:ident)|+,)*) => {
        /// A bug.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Bug {
            $($(#[$doc])* $name,)*
        }

        impl Bug {
            /// All bugs.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The programs in which the bug is visible: in each of these families.
            #[must_use]
            pub const fn families(self) -> &'static [Family] {
                match self {
                    $(Self::$name => &[$(Family::$family),+],)*
                }
            }

            /// The checks for this bug: one of them must find it, whatever other checks report.
            #[must_use]
            pub const fn checks(self) -> &'static [Check] {
                match self {
                    $(Self::$name => &[$(Check::$check),+],)*
                }
            }
        }
    };
}

bugs! {
    /// The store checks neither fencing tokens nor whether a lease is live.
    NoFencing in Plain: StaleWrite,
    /// A write without a lease succeeds although another agent holds it.
    NoLeaseCheck in Plain: TurnInterrupted,
    /// A flush commits although the memory was changed under it.
    NoGenerationCheck in Plain: Unexplained,
    /// A retry is appended again.
    RetryNotRecognized in Plain: Twice,
    /// Retries are forgotten by each flush.
    RetryForgottenByFlush in Plain: Twice | CameBack,
    /// The record of a writer is pruned as soon as another writer writes, and its retry is treated as new.
    WriterPrunedEarly in Plain: Twice,
    /// A batch is appended in two steps.
    TornBatch in Plain: BatchTorn,
    /// Some appends are acknowledged and never applied.
    AppendLost in Plain: Lost,
    /// A flush removes messages that were appended while it computed.
    FlushTakesNewAppends in Plain: Lost,
    /// The counters are updated after the messages.
    CountersApart in Plain: Counted,
    /// Evicted tokens stay in the count.
    TokensNotReturned in Plain: Recount,
    /// A flush also drops the oldest critical message.
    CriticalEvicted in Plain: CriticalGone,
    /// A flush drops a call and leaves its result.
    UnitSplit in Plain: UnitApart,
    /// A flush inserts its summary and keeps the messages that it replaces.
    SourcesKept in Plain: CameBack,
    /// A clear restarts the numbering.
    ClearRestartsNumbers in Plain: OutOfOrder,
    /// A read combines two snapshots.
    TornRead in Plain: HalfSeen | Unexplained,
    /// Some reads are answered from an old copy.
    StaleRead in Plain: Unexplained,
    /// Two concurrently appended messages are swapped.
    OrderLost in Plain: BatchTorn,
    /// An append that was applied is reported as not applied.
    ErrorLies in Plain: ErrorLied,
    /// Errors quote the message.
    ErrorQuotesMessage in Plain: ErrorQuotes,
    /// A release by any process frees the lease.
    ReleaseWithoutOwner in Plain: HoldsOverlap,
    /// A refresh of a lease that was lost is reported as a success.
    RefreshIgnoresLoss in Plain: HoldsOverlap,
    /// A live lease is granted to another holder.
    GrantedTwice in Plain: HoldsOverlap,
    /// Leases expire after a fortieth of their TTL.
    LeaseTooShort in Plain: HoldsOverlap,
    /// Tokens of new grants do not increase.
    TokensStandStill in Plain: TokenFalls,
    /// A hand-over keeps the token of the previous holder.
    HandOverKeepsToken in Plain: TokenFalls,
    /// A release is acknowledged and not applied.
    LeaseLeaked in Plain: LeaseNotFree,
    /// Odd characters of keys are replaced.
    KeysCollide in Plain: Foreign,
    /// Messages are reported smaller than they are.
    TokensUnderstated in Plain: WindowTooLarge,
    /// The mark that a flush leaves for the next one is lost.
    FlushMarkLost in Plain: IdleFlushes,
    /// The summarizer runs under the writers' lease.
    SummarizerUnderLease in Plain: Hindered,
    /// A lease that its holder does not release never expires.
    LeaseNeverExpires in Plain: LeaseLeft,
    /// A read whose answer is lost never times out.
    ReadsHang in Plain: NeverEnds,
    /// A receipt does not report that its flush missed the target.
    ShortfallHidden in Plain: ShortfallHidden,
    /// A window holds the result of a call without the call.
    WindowSplitsUnit in Plain: WindowUnpaired,
    /// A new turn does not raise the store's newest token.
    ClaimIgnored in Plain: TurnNotAtomic,
    /// A holder counts the end of its lease from the answer that granted it.
    DeadlineFromAnswer in Plain: HoldsOverlap | GrantsOverlap,
    /// The lease on a flush is granted to another holder although it is live.
    FlushLeaseTwice in Plain: GrantsOverlap,
    /// Dropping a lease guard does not release it.
    GuardForgets in Plain: LeaseForgotten,
    /// After one request without an answer, a process never reaches the store again.
    LinkStaysBroken in Plain: NotHealed,
    /// A window is in reverse order.
    WindowReversed in Plain: WindowOrder,
    /// A window repeats its first message at its end.
    WindowDoubled in Plain: WindowTwice,
    /// A window lacks its first critical message.
    WindowWithoutCritical in Plain: WindowWithoutCritical,
    /// A window is empty.
    WindowEmpty in Plain: WindowEmpty,
    /// A window is the same as the first one.
    WindowOfOld in Plain: WindowOfNothing,
    /// A window is refused although it fits its budget.
    WindowRefused in Plain: WindowStale,
    /// A window lacks its last message.
    WindowWithoutNewest in Plain: WindowStale,
    /// The version of a window is that of the memory after it.
    WindowVersionLater in Plain: WindowVersion,
    /// A window is answered from the view without asking the store, unless messages were removed.
    WindowUnasked in Plain: WindowStale,
    /// A window lacks the messages that were appended between the last window of the process and the newest message.
    WindowLacksBetween in Plain: WindowStale,
    /// All messages are answered from the view without asking the store, unless messages were removed.
    MessagesUnasked in Plain: Unexplained | Lost,
    /// A window is answered from a view as if nothing had changed, although the store lost or removed the view's state.
    WindowOfLostState in Plain | Rollbacks | Expiries: WindowStale | WindowOfNothing,
    /// The same for all messages.
    MessagesOfLostState in Plain | Rollbacks | Expiries: Unexplained | Lost | CameBack,
    /// Evicted messages are not counted.
    EvictedNotCounted in Plain: NotConserved,
    /// Some appends are refused without reason, and correctly reported as not applied.
    AppendRefused in Plain: FailedInCalm,
    /// A forward step of the wall clock ends live leases.
    LeaseEndedByStep in Plain: GrantsOverlap | HoldsOverlap,
    /// Leases that are granted after a backward step last until the wall clock has caught up.
    LeaseFrozenByStep in Plain: LeaseLeft,
    /// A read continues after its cursor's place, regardless of the message there.
    ReaderGoesOn in Rollbacks: ReaderMisses,
    /// A splice removes the messages at its places, regardless of their ids.
    SpliceTakesOthers in Rollbacks: FlushTookUnseen,
    /// A fetch returns the messages at its places, regardless of their ids.
    FetchFindsOthers in Rollbacks: FetchedOther,
    /// The tokens of a replaced message stay in the count, and those of the new message are not counted.
    ReplaceNotCounted in Prompts: Recount,
    /// A reader continues in the generation in which a message was replaced.
    ReplaceKeepsGeneration in Prompts: Unexplained,
    /// A replacement that is sent again is counted twice.
    ReplaceCountedTwice in Prompts: Recount,
    /// Some reads after a cursor return nothing new, like a view that is used without asking the store.
    DeltaSkipped in Plain: Lost | Unexplained,
    /// A read after a cursor returns only the newest of several new messages.
    DeltaTorn in Plain: Lost | Unexplained,
    /// A reader continues from a cursor although a flush removed messages since.
    FlushUnnoticed in Plain: CameBack | Unexplained,
    /// A reader continues from a cursor although the memory was cleared since.
    ClearUnnoticed in Plain: Unexplained,
    /// A reader continues from a cursor of a state from which the server rolled back.
    RollbackUnnoticed in Rollbacks: ReaderMisses | Unexplained,
    /// A reader continues from a cursor of a memory that was removed since, because its TTL ended.
    TtlUnnoticed in Expiries: ReaderMisses | Unexplained,
    /// An expected version is not compared.
    VersionIgnored in Plain: Unexplained,
    /// The version is compared before a retry is recognized.
    VersionBeforeRetry in Plain: ErrorLied,
    /// Some conditional appends are refused although the version is current.
    ConflictWithoutReason in Plain: Unexplained | ErrorLied,
    /// A conditional append is applied and reported as a conflict.
    ConflictApplied in Plain: ErrorLied,
    /// Messages are taken back although others came since.
    WithdrawalIgnoresNewer in Plain: Unexplained,
    /// Messages that were taken back are counted as evicted.
    WithdrawnCountedAsEvicted in Plain: Counted,
    /// A rewind is applied and reported as a conflict.
    RewindConflictApplied in Plain | Past: Unexplained,
    /// Some rewinds are refused although the version is current.
    RewindConflictWithoutReason in Plain | Past: Unexplained,
    /// A rewind takes messages back although others came since its version.
    RewindIgnoresVersion in Plain | Past: Unexplained,
    /// A rewind of the newest turn takes back the last two messages.
    PopTurnTakesMore in Past: WithdrewOther,
    /// A reader's own batches are confirmed although the server lost them.
    KnownUnchecked in Rollbacks: ReaderMisses | Unexplained,
    /// All batches of a reader are confirmed because the newest one is stored.
    KnownByNewest in Rollbacks: ReaderMisses | Unexplained,
    /// A removal is archived in a second step, some time after its messages were removed.
    ArchiveLater in Past: SearchWrong | ArchiveWrong | Unexplained,
    /// Some removals are archived twice.
    ArchivedAgain in Past: ArchivedTwice,
    /// The archive may exceed its most bytes.
    ArchiveBeyondLimit in Past: SearchWrong | ArchiveWrong | Unexplained,
    /// A read of an archived removal lacks its last message.
    ArchivedReadMissesLast in Past: ArchiveWrong,
    /// A clear keeps nothing, and removes the archive.
    ClearForgetsArchive in Past: SearchWrong | ArchiveWrong | Unexplained,
    /// A purge moves the messages to the archive.
    PurgeKeepsArchive in Past: SearchWrong | ArchiveWrong | Unexplained,
    /// An archived message is shown after the time for which it is kept.
    ArchiveOutlivesKeep in Past: SearchWrong | ArchiveWrong | Unexplained,
    /// Archived messages are removed soon.
    ArchiveEndsEarly in Past: SearchWrong | ArchiveWrong | Unexplained,
    /// A deletion is acknowledged and not applied.
    DeleteNotApplied in Past: Unexplained,
    /// A deletion leaves the list of archived removals.
    DeleteKeepsArchive in Past: ArchiveWrong | Unexplained,
    /// Searches find archived messages of a deleted memory.
    DeleteKeepsIndex in Past: SearchWrong | Unexplained,
    /// A reader continues from a cursor although the memory was deleted since.
    DeleteUnnoticed in Past: Unexplained,
    /// An undo restores the originals except the one at the place of the summary, which stays.
    UndoKeepsSummary in Past: Unexplained,
    /// An undo loses the first original.
    UndoLosesOriginal in Past: Unexplained,
    /// An undo also drops the newest message, which came after the flush.
    UndoDropsNewer in Past: Unexplained,
    /// An undo of a flush whose summary was summarized since undoes the later flush too.
    UndoIgnoresLaterSummary in Past: ArchiveWrong | Unexplained,
    /// An undo of a removal of which a message was erased is acknowledged.
    UndoAfterErase in Past: ArchiveWrong,
    /// Messages that an undo restored are still found in the archive.
    UndoKeepsArchived in Past: ArchivedTwice,
    /// Restored messages are counted twice.
    RestoredCountedTwice in Past: NotConserved,
    /// Automatic flushes continue after an undo.
    UndoHoldsNoFlush in Past: HeldFlush,
    /// An erasure leaves the archived messages.
    EraseLeavesArchived in Past: ErasedShown,
    /// An erasure leaves the present messages.
    EraseLeavesPresent in Past: ErasedShown,
    /// A reader continues from a cursor although a message was erased since.
    EraseUnnoticed in Past: ErasedShown,
    /// Searches find erased messages.
    EraseKeepsIndex in Past: ErasedShown,
    /// An erasure that is sent again reports that it found nothing.
    EraseForgetsRetry in Past: Unexplained,
    /// Erased messages are counted as evicted.
    ErasedCountedAsEvicted in Past: Counted,
    /// Searches find no archived messages.
    SearchMissesArchived in Past: SearchWrong,
    /// Searches do not find the newest message.
    SearchMissesNewest in Past: SearchWrong,
    /// A flush that only clears tool results keeps no originals.
    ClearedForgetsOriginal in Past: SearchWrong | ArchiveWrong | Unexplained,
    /// Cleared tool results are counted as evicted, and stay.
    ClearedCountedAsEvicted in Past: NotConserved,
    /// An undo leaves the texts in place of cleared tool results.
    UndoKeepsMarker in Past: Unexplained,
    /// Searches find replaced texts.
    ReplaceKeepsIndex in Past: SearchWrong | Unexplained,
    /// The memory is cleared before the new messages are appended.
    ReplaceAllInTwoSteps in Past: Unexplained | Lost,
    /// All messages are replaced although the memory is not at the expected version.
    ReplaceAllIgnoresVersion in Past: Unexplained,
    /// All messages are replaced again when the request is sent again.
    ReplaceAllForgetsRetry in Past: Unexplained | Twice,
    /// The version is compared before a retry is recognized.
    ReplaceAllConflictsOnRetry in Past: ErrorLied,
    /// The replaced messages are not archived, and the archive is removed.
    ReplaceAllForgetsArchive in Past: SearchWrong | ArchiveWrong | Unexplained,
    /// A reader continues from a cursor although all messages were replaced since.
    ReplaceAllUnnoticed in Past: Unexplained,
    /// A copy lacks the archived messages.
    CopyMissesArchived in Past: SearchWrong | ArchiveWrong | CopyWrong,
    /// A copy counts summarized messages as evicted.
    CopyMiscounts in Past: Counted | CopyWrong,
    /// A fork has messages after its place.
    ForkTakesLater in Past: CopyWrong,
    /// Later messages of a memory are appended to its forks.
    ForkSharesWrites in Past: CopyWrong,
    /// A change of a priority or a content type is acknowledged and not stored.
    EditNotStored in Past: SettingsWrong | WindowStale | Unexplained,
    /// Such a change writes the text back that was read before, although it was replaced since.
    EditRestoresText in Past: Unexplained | ErasedShown,
    /// Such a change removes the newest message, if that came after the changed one.
    EditLosesNewer in Past: Lost | Unexplained,
    /// A reader continues from a cursor although the priority of a message was changed since.
    EditUnnoticed in Past: SettingsWrong | WindowStale | Unexplained,
    /// A summary whose priority is changed is no longer the one of its flush.
    EditForgetsFlush in Past: ArchiveWrong | SummaryWrong | Unexplained,
    /// A flush takes a message that an agent made critical.
    PinnedFlushed in Past: Unexplained,
    /// A summary is written anew from messages that were erased.
    RewriteFromStale in Past: SummaryWrong,
    /// A new summary takes the place of another one than the one that was read.
    RewriteReplacesNewer in Past: SummaryWrong | Unexplained,
    /// The summary that is written anew moves to the archive.
    RewriteArchivesOld in Past: SearchWrong | ArchiveWrong | Unexplained,
    /// A summary that is written anew has not the priority of the one before.
    RewriteLosesPriority in Past: SettingsWrong | WindowStale | Unexplained,
    /// A new summary is acknowledged and not stored.
    RewriteNotStored in Past: Unexplained,
    /// A summary is reported to have no originals although they are archived.
    RewriteGivesUp in Past: SummaryWrong,
    /// A restored backup lacks the newest message.
    RestoreMissesNewest in Past: CopyWrong,
    /// A restored backup has the archived originals of a flush, and lacks its summary.
    RestoreTearsFlush in Past: CopyWrong,
    /// A restored backup has no archive.
    RestoreLosesArchive in Past: SearchWrong | ArchiveWrong | CopyWrong,
    /// A restored backup has no receipts.
    RestoreLosesReceipts in Past: CopyWrong,
    /// A restored backup has no priorities and content types.
    RestoreLosesSettings in Past: SettingsWrong | CopyWrong,
    /// A restored backup counts only the messages that are present.
    RestoreLosesCounters in Past: Counted | CopyWrong,
    /// The archive stays as it is when the server rolls back.
    RollbackKeepsArchive in Past: ArchivedTwice | SearchWrong | Unexplained,
    /// The record of a copy outlives the deletion of the memory that it made, so the same copy is reported as complete.
    CopyOutlivesDelete in Past: CopyWrong | Unexplained,
    /// A copy of a copy has no archive.
    CopyOfCopyLosesArchive in Past: SearchWrong | ArchiveWrong | CopyWrong,
    /// A system prompt that an undo restored is no longer the ensured one.
    UndoForgetsPrompt in Past: Unexplained,
    /// A system prompt whose priority is changed is no longer the ensured one.
    EditForgetsPrompt in Past: Unexplained,
    /// The originals of any summary are those of the newest flush.
    OriginalsOfNewest in Past: ArchiveWrong,
    /// A backup is restored over a memory.
    RestoreOverwrites in Past: CopyWrong | Lost | Unexplained,
}
