//! Planted bugs, which prove that the tests of windows find real ones. They exist only in the tests of this crate.

/// A bug that a renderer or a planner could have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RenderBug {
    /// A call without a result gets no synthetic result.
    NoSyntheticResult,
    /// A synthetic result is not listed.
    RepairNotListed,
    /// An orphan result is kept.
    OrphanKept,
    /// A second result of one call is kept.
    SecondResultKept,
    /// A result is not moved behind its call.
    ResultNotMoved,
    /// A repeated call id is kept.
    IdRepeated,
    /// A new id is in the call, but not in its result.
    IdInCallOnly,
    /// A refused name is kept.
    NameKept,
    /// Arguments that are no object are kept.
    ArgumentsKept,
    /// No line of the user is inserted at the start.
    StartNotInserted,
    /// No line of the user is inserted at the end.
    EndNotInserted,
    /// No assistant line is inserted behind results.
    BetweenNotInserted,
    /// Neighbors of one role are not merged.
    NotMerged,
    /// Merging loses the parts of the second turn.
    MergedAway,
    /// A system prompt remains in the middle.
    SystemNotMoved,
    /// The system prompts of the middle are before those of the start.
    SystemsSwapped,
    /// Reasoning without a signature is kept.
    UnsignedReasoningKept,
    /// The first call of a content gets no placeholder for its signature.
    NoPlaceholder,
    /// A reasoning item is kept although nothing follows.
    LoneReasoningKept,
    /// A repeated item id is kept.
    ItemIdKept,
    /// Reasoning fields are kept although the API does not know them.
    ForeignReasoningKept,
    /// An author name is kept although the API does not know it.
    AuthorKept,
    /// An empty text is kept.
    EmptyTextKept,
    /// Media are kept in a result although they are refused there.
    MediaInResultKept,
    /// One image more than allowed is sent.
    OneImageMore,
    /// The stored token count is used for a changed message.
    OldTokens,
    /// The system prompt of the options is not sent.
    SystemForgotten,
    /// A window over its budget is returned.
    OverBudget,
    /// The tokens for tools and the answer are not reserved.
    ReserveForgotten,
    /// The newest unit is chosen like any other.
    NewestOptional,
    /// Critical units are chosen like any other.
    CriticalOptional,
    /// Older conversation is included after conversation that did not fit.
    TalkWithHoles,
    /// Reminders before the newest ones are kept.
    OldRemindersKept,
    /// The last message of a unit is not rendered.
    UnitTorn,
    /// The pinned start displaces the newest unit.
    PinDropsNewest,
    /// Messages that do not fit are not counted as left out.
    LeftOutNotCounted,
    /// A text is cut within a character.
    CutInCharacter,
    /// A cut text has no marker.
    CutWithoutMarker,
    /// The start of the window moves with every message.
    StartSlides,
    /// The conversation before a step is recent or historical as counted from the newest message.
    RecencyFromEnd,
}

#[cfg(not(test))]
pub(crate) const fn is_planted(_: RenderBug) -> bool {
    false
}

#[cfg(test)]
pub(crate) use self::planted::{is_planted, with_bug};

#[cfg(test)]
mod planted {
    use std::cell::Cell;

    use super::RenderBug;

    thread_local! {
        static PLANTED: Cell<Option<RenderBug>> = const { Cell::new(None) };
    }

    pub(crate) fn is_planted(bug: RenderBug) -> bool {
        PLANTED.get() == Some(bug)
    }

    /// Runs a closure with a bug in this thread.
    pub(crate) fn with_bug<T>(bug: RenderBug, run: impl FnOnce() -> T) -> T {
        PLANTED.set(Some(bug));
        let result = run();
        PLANTED.set(None);
        result
    }
}
