//! Priorities and content types, and their changes.

use memory_core::store::MessageMeta;
use memory_core::{ContentType, Priority};

/// The priority and the content type of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Settings {
    /// The priority, if one is stored.
    pub priority: Option<u8>,
    /// The content type.
    pub content_type: Type,
}

/// A content type, as far as agents set it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Type {
    /// Conversation.
    Conversation,
    /// Important facts.
    Facts,
    /// Any other.
    Other,
}

/// A change of one message that keeps its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edit {
    /// It gets this priority.
    Priority(u8),
    /// It gets this content type: facts or conversation.
    Type(Type),
}

impl Type {
    pub(crate) const fn of(content_type: &ContentType) -> Self {
        match content_type {
            ContentType::Conversation => Self::Conversation,
            ContentType::ImportantFacts => Self::Facts,
            _ => Self::Other,
        }
    }

    /// The content type; `None` for any other.
    pub(crate) const fn content_type(self) -> Option<ContentType> {
        match self {
            Self::Conversation => Some(ContentType::Conversation),
            Self::Facts => Some(ContentType::ImportantFacts),
            Self::Other => None,
        }
    }
}

impl Settings {
    pub(crate) fn new(priority: Option<Priority>, content_type: &ContentType) -> Self {
        let priority = priority.map(Priority::number);
        Self { priority, content_type: Type::of(content_type) }
    }

    pub(crate) fn of(meta: &MessageMeta) -> Self {
        Self::new(meta.priority, &meta.content_type)
    }
}

/// The outcome for a summary that an agent had rewritten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rewrote {
    /// The summary with this id took its place.
    By(u128),
    /// It was removed.
    Removed,
    /// Its originals are not archived.
    NoOriginals,
    /// It is not present.
    NotPresent,
}
