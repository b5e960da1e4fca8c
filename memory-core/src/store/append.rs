//! A batch to append, and its outcome.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Version;
use crate::counters::Counters;
use crate::stored::{MessageId, NewMessage, Sequence};
use crate::write::WriteId;

/// A batch to append.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Append {
    /// Recognizes a retry.
    pub write: WriteId,
    /// The messages, in order; at least one. Shared, because a batch may have to be sent again.
    pub messages: Arc<[NewMessage]>,
    /// The TTL of the memory from this write on; `None` for no TTL.
    pub ttl: Option<Duration>,
    /// Appends only if the memory is still at this [`Version`]; `None` appends in any case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<Version>,
}

impl Append {
    /// The same batch under the same [`WriteId`] with new message ids. Send this when an earlier request may have
    /// been applied and then lost in a rollback. See [`MemoryStore`](super::MemoryStore).
    #[must_use]
    pub fn with_new_ids(&self, mut id: impl FnMut(&NewMessage) -> MessageId) -> Self {
        let messages = self.messages.iter().map(|old| NewMessage { id: id(old), ..old.clone() });
        Self { messages: messages.collect(), ..*self }
    }
}

/// The outcome of an append.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Appended {
    /// New or recognized as a duplicate; `outcome` and `first` in JSON.
    #[serde(flatten)]
    pub outcome: AppendOutcome,
    /// The memory's counters after the append.
    pub counters: Counters,
    /// The size in tokens at which the next flush is worthwhile, as set by the last flush. A store keeps this number
    /// and does not interpret it.
    pub next_flush_at: Option<u64>,
    /// The number of tokens by which critical messages exceed the budget of the memory's resource, if they do. No
    /// flush can reduce this, and a window that must hold them all does not fit into that budget. Omitted from JSON
    /// if `None`. A store does not know the budget and returns `None`; the instance of `memory-instance` sets it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub critical_over_budget: Option<u64>,
    /// The indexes, from 0, of messages of the batch that were not stored, because the caller or the privacy policy
    /// of the resource excluded them. The others have consecutive places. Omitted from JSON if empty. A store returns
    /// none; the instance of `memory-instance` sets it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub excluded: Vec<usize>,
    /// The indexes, from 0, of messages of the batch that were stored
    /// [without their contents](crate::Message::withheld) for the same reason, because they make or answer tool calls.
    /// Omitted from JSON if empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub withheld: Vec<usize>,
}

impl Appended {
    /// The answer of a store, which knows neither the budget nor the privacy policy.
    #[must_use]
    pub const fn new(
        outcome: AppendOutcome,
        counters: Counters,
        next_flush_at: Option<u64>,
    ) -> Self {
        Self {
            outcome,
            counters,
            next_flush_at,
            critical_over_budget: None,
            excluded: Vec::new(),
            withheld: Vec::new(),
        }
    }
}

/// Whether a batch was new.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum AppendOutcome {
    /// The batch was new and is stored from this place on.
    Appended {
        /// The place of its first message.
        first: Sequence,
    },
    /// The batch had been appended before.
    Duplicate {
        /// The place of its first message; `None` if the writer has written since, because only the place of a
        /// writer's newest batch is kept.
        first: Option<Sequence>,
    },
    /// Every message of the batch was [excluded](Appended::excluded), so nothing was written. The counters are those
    /// of the memory as it is. A store never returns this.
    Excluded,
}

impl AppendOutcome {
    /// Whether the batch had been appended before.
    #[must_use]
    pub const fn is_duplicate(self) -> bool {
        matches!(self, Self::Duplicate { .. })
    }

    /// The place of the batch's first message, if known.
    #[must_use]
    pub const fn first(self) -> Option<Sequence> {
        match self {
            Self::Appended { first } => Some(first),
            Self::Duplicate { first } => first,
            Self::Excluded => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcome_reports_duplicate_and_first_place() {
        let first = Sequence::new(3);
        let new = AppendOutcome::Appended { first };
        assert_eq!((new.is_duplicate(), new.first()), (false, Some(first)));
        let again = AppendOutcome::Duplicate { first: Some(first) };
        assert_eq!((again.is_duplicate(), again.first()), (true, Some(first)));
        assert_eq!(AppendOutcome::Duplicate { first: None }.first(), None);
        let nothing = AppendOutcome::Excluded;
        assert_eq!((nothing.is_duplicate(), nothing.first()), (false, None));
    }

    #[test]
    fn appended_is_flat_json() {
        let appended = |outcome| {
            let appended = Appended::new(outcome, Counters::default(), None);
            let mut json = serde_json::to_value(appended).unwrap();
            assert_eq!(json["counters"].take()["appended"], 0);
            json
        };
        let first = Sequence::new(3);
        let none = serde_json::Value::Null;
        assert_eq!(
            appended(AppendOutcome::Appended { first }),
            serde_json::json!({"outcome": "appended", "first": 3, "counters": none, "next_flush_at": none})
        );
        assert_eq!(appended(AppendOutcome::Duplicate { first: None })["outcome"], "duplicate");
        assert_eq!(appended(AppendOutcome::Excluded)["outcome"], "excluded");
    }
}
