//! The changes that rendering makes, and their reasons.

use std::fmt;

use serde::ser::SerializeStruct as _;
use serde::{Serialize, Serializer};

use crate::dialect::Loss;
use crate::stored::Sequence;

/// A change that was needed for the provider to accept a request.
///
/// Serialized as an object with `repair`, `sequence` if it concerns a stored message, and `text`, which describes the
/// change. It contains no text of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Repair {
    /// The kind of change.
    pub kind: RepairKind,
    /// The stored message; `None` if it concerns no single message.
    pub sequence: Option<Sequence>,
}

/// The kind of a [`Repair`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RepairKind {
    /// A call without a result was answered with a synthetic one.
    SyntheticResult,
    /// A result whose call is not before it was left out.
    OrphanResult,
    /// A second result of one call was left out.
    DuplicateResult,
    /// A result was moved directly behind its call.
    ResultMoved,
    /// The id of a call was missing, repeated, or of a refused form; it was changed in the call and its result.
    ///
    /// The new id is derived from the place of its message, so it does not change while messages are appended. If
    /// calls share an id, the first one in the window keeps it; after that one has left the window, the next one
    /// keeps its stored id.
    CallId,
    /// The name of a function was of a refused form.
    FunctionName,
    /// The name of an author was of a refused form.
    AuthorName,
    /// The name of an author was left out, because the API has no field for it.
    AuthorLeftOut,
    /// Arguments that are no JSON object were wrapped as `{"_raw": ".."}`.
    ArgumentsWrapped,
    /// Reasoning was left out: it is foreign, unsigned, or not accepted.
    ReasoningLeftOut,
    /// A call got the placeholder that Gemini documents for calls without a thought signature.
    SignaturePlaceholder,
    /// A system prompt was moved to the place that the API requires.
    SystemMoved,
    /// Neighbors of one role were merged.
    Merged,
    /// A text was separated from the calls of its message.
    TextParted,
    /// The calls of a message were spread over several messages.
    CallsSpread,
    /// A user line was inserted at the start.
    StartInserted,
    /// An assistant line was inserted between tool results and the user.
    AssistantInserted,
    /// A user line was inserted at the end.
    EndInserted,
    /// A user message before the window was kept, so that the window does not start in the middle.
    StartPinned,
    /// A text of the newest unit was cut.
    Truncated,
    /// An empty text beside other content was left out.
    EmptyText,
    /// An empty result got the text `[no output]`.
    EmptyResult,
    /// Media of a result were moved into a user message behind the results.
    MediaMoved,
    /// A medium was replaced by a note, because the API does not accept it there, or not as many.
    MediaReplaced,
    /// A text that the API requires was added beside a document.
    TextAdded,
    /// A call or result of a tool that a provider runs was left out.
    ProviderRunLeftOut,
    /// The item's own id was left out: it was repeated or of a refused form.
    ItemId,
    /// A cache mark above the allowed number was left out.
    CacheMark,
    /// The name of a document was of a refused form or repeated.
    DocumentName,
    /// The error flag of a result was no boolean: it was written as one, or left out where it is not set.
    ErrorFlagType,
    /// A conversion between dialects lost something else.
    Lost(Loss),
}

impl RepairKind {
    /// The name, in snake case.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SyntheticResult => "synthetic_result",
            Self::OrphanResult => "orphan_result",
            Self::DuplicateResult => "duplicate_result",
            Self::ResultMoved => "result_moved",
            Self::CallId => "call_id",
            Self::FunctionName => "function_name",
            Self::AuthorName => "author_name",
            Self::AuthorLeftOut => "author_left_out",
            Self::ArgumentsWrapped => "arguments_wrapped",
            Self::ReasoningLeftOut => "reasoning_left_out",
            Self::SignaturePlaceholder => "signature_placeholder",
            Self::SystemMoved => "system_moved",
            Self::Merged => "merged",
            Self::TextParted => "text_parted",
            Self::CallsSpread => "calls_spread",
            Self::StartInserted => "start_inserted",
            Self::AssistantInserted => "assistant_inserted",
            Self::EndInserted => "end_inserted",
            Self::StartPinned => "start_pinned",
            Self::Truncated => "truncated",
            Self::EmptyText => "empty_text",
            Self::EmptyResult => "empty_result",
            Self::MediaMoved => "media_moved",
            Self::MediaReplaced => "media_replaced",
            Self::TextAdded => "text_added",
            Self::ProviderRunLeftOut => "provider_run_left_out",
            Self::ItemId => "item_id",
            Self::CacheMark => "cache_mark",
            Self::DocumentName => "document_name",
            Self::ErrorFlagType => "error_flag_type",
            Self::Lost(loss) => loss.as_str(),
        }
    }

    /// The change, as a sentence without a period.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::SyntheticResult => "answered a call without a result with a synthetic result",
            Self::OrphanResult => "left out a result whose call is not before it",
            Self::DuplicateResult => "left out a second result of one call",
            Self::ResultMoved => "moved a result directly behind its call",
            Self::CallId => "changed the id of a call and of its result",
            Self::FunctionName => "changed the name of a function",
            Self::AuthorName => "changed the name of an author",
            Self::AuthorLeftOut => "left out the name of an author",
            Self::ArgumentsWrapped => "wrapped arguments that are no JSON object",
            Self::ReasoningLeftOut => "left out reasoning",
            Self::SignaturePlaceholder => "signed a call with the documented placeholder",
            Self::SystemMoved => "moved a system prompt",
            Self::Merged => "merged neighbors of one role",
            Self::TextParted => "parted a text from the calls of its message",
            Self::CallsSpread => "spread the calls of a message over several",
            Self::StartInserted => "inserted a line of the user at the start",
            Self::AssistantInserted => {
                "inserted a line of the assistant between results and the user"
            }
            Self::EndInserted => "inserted a line of the user at the end",
            Self::StartPinned => "kept an earlier message of the user as the start",
            Self::Truncated => "cut a text of the newest unit",
            Self::EmptyText => "left out an empty text",
            Self::EmptyResult => "marked an empty result",
            Self::MediaMoved => "moved media of a result into a message of the user",
            Self::MediaReplaced => "replaced a medium with a note",
            Self::TextAdded => "added a text beside a document",
            Self::ProviderRunLeftOut => "left out a tool that another provider ran",
            Self::ItemId => "left out the id of an item",
            Self::CacheMark => "left out a cache mark",
            Self::DocumentName => "changed the name of a document",
            Self::ErrorFlagType => "corrected the type of an error flag",
            Self::Lost(loss) => loss.text(),
        }
    }
}

impl fmt::Display for Repair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.sequence {
            Some(sequence) => write!(f, "message {sequence}: {}", self.kind.text()),
            None => f.write_str(self.kind.text()),
        }
    }
}

impl Serialize for Repair {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let count = if self.sequence.is_some() { 3 } else { 2 };
        let mut repair = serializer.serialize_struct("Repair", count)?;
        repair.serialize_field("repair", self.kind.as_str())?;
        if let Some(sequence) = self.sequence {
            repair.serialize_field("sequence", &sequence.number())?;
        }
        repair.serialize_field("text", self.kind.text())?;
        repair.end()
    }
}

/// The repairs of a request under construction.
#[derive(Debug, Default)]
pub(super) struct Repairs(Vec<Repair>);

impl Repairs {
    pub(super) fn add(&mut self, kind: RepairKind, sequence: Option<Sequence>) {
        // Repairs of one kind in one message are listed once.
        let repair = Repair { kind, sequence };
        if self.0.iter().rev().take(8).all(|before| *before != repair) {
            self.0.push(repair);
        }
    }

    /// Sorts by message.
    pub(super) fn into_sorted(mut self) -> Vec<Repair> {
        self.0.sort_by_key(|repair| repair.sequence);
        self.0.dedup();
        self.0
    }
}
