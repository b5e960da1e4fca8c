//! Planted faults, which show that the tests of windows find mistakes. They exist in the tests of this crate only.

/// A mistake that a renderer or a planner could make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A call without a result gets no synthetic one.
    NoSyntheticResult,
    /// A synthetic result is not listed.
    RepairNotListed,
    /// A result without a call stays.
    OrphanKept,
    /// A second result of one call stays.
    SecondResultKept,
    /// A result that was apart from its call stays apart.
    ResultNotMoved,
    /// A repeated id of a call stays.
    IdRepeated,
    /// A new id is in the call, but not in its result.
    IdInCallOnly,
    /// A name that is refused stays.
    NameKept,
    /// Arguments that are no object stay.
    ArgumentsKept,
    /// No line of the user is inserted at the start.
    StartNotInserted,
    /// No line of the user is inserted at the end.
    EndNotInserted,
    /// No line of the assistant is inserted behind results.
    BetweenNotInserted,
    /// Neighbors of one role stay apart.
    NotMerged,
    /// Merging loses the parts of the second turn.
    MergedAway,
    /// A system prompt stays in the middle.
    SystemNotMoved,
    /// The system prompts of the middle are before those of the start.
    SystemsSwapped,
    /// Reasoning without a signature stays.
    UnsignedReasoningKept,
    /// The first call of a content gets no placeholder for its signature.
    NoPlaceholder,
    /// A reasoning item stays although nothing follows.
    LoneReasoningKept,
    /// The id of an item stays although it is repeated.
    ItemIdKept,
    /// Fields of reasoning stay where the API does not know them.
    ForeignReasoningKept,
    /// The name of an author stays where the API does not know it.
    AuthorKept,
    /// An empty text stays.
    EmptyTextKept,
    /// Media stay in a result where they are refused.
    MediaInResultKept,
    /// One image more than allowed is sent.
    OneImageMore,
    /// The tokens of a changed message are taken to be those of the stored one.
    OldTokens,
    /// The system prompt of the options is not sent.
    SystemForgotten,
    /// A window over its budget is returned.
    OverBudget,
    /// The tokens for tools and the answer are not kept free.
    ReserveForgotten,
    /// The newest unit is chosen like any other.
    NewestOptional,
    /// Critical units are chosen like any other.
    CriticalOptional,
    /// Older talk is taken behind talk that did not fit.
    TalkWithHoles,
    /// Reminders before the newest ones stay.
    OldRemindersKept,
    /// The last message of a unit is not rendered.
    UnitTorn,
    /// Room for the pinned start is made at the expense of the newest unit.
    PinDropsNewest,
    /// Messages that do not fit are not counted as left out.
    LeftOutNotCounted,
    /// A text is cut within a character.
    CutInCharacter,
    /// A cut text has no marker.
    CutWithoutMarker,
}

#[cfg(not(test))]
pub(crate) const fn is_planted(_: Fault) -> bool {
    false
}

#[cfg(test)]
pub(crate) use self::planted::{is_planted, with_fault};

#[cfg(test)]
mod planted {
    use std::cell::Cell;

    use super::Fault;

    thread_local! {
        static PLANTED: Cell<Option<Fault>> = const { Cell::new(None) };
    }

    pub(crate) fn is_planted(fault: Fault) -> bool {
        PLANTED.get() == Some(fault)
    }

    /// Runs something with a fault in this thread.
    pub(crate) fn with_fault<T>(fault: Fault, run: impl FnOnce() -> T) -> T {
        PLANTED.set(Some(fault));
        let result = run();
        PLANTED.set(None);
        result
    }
}
