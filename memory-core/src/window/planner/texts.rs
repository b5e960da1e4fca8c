//! The messages of a window under construction.

use std::borrow::Cow;

use crate::message::Message;
use crate::stored::{MessageMeta, Sequence};

/// The messages at hand, by the position of their metadata.
#[derive(Debug)]
pub(super) enum Texts<'a> {
    /// All of them.
    All(&'a [Message]),
    /// Those that were added.
    Added {
        /// For each position the number of its message, from 1; 0 for none. Most positions have none, and a message is
        /// large.
        numbers: Vec<u32>,
        messages: Vec<Cow<'a, Message>>,
        /// The position behind the one that was added last.
        next: usize,
    },
}

impl<'a> Texts<'a> {
    pub(super) fn none_of(metas: &[MessageMeta]) -> Self {
        Self::Added { numbers: vec![0; metas.len()], messages: Vec::new(), next: 0 }
    }

    pub(super) fn all(metas: &[MessageMeta], messages: &'a [Message]) -> Self {
        if messages.len() >= metas.len() {
            return Self::All(messages);
        }
        let mut texts = Self::none_of(metas);
        for (meta, message) in metas.iter().zip(messages) {
            texts.add(metas, meta.sequence, Cow::Borrowed(message));
        }
        texts
    }

    /// Whether no message is missing.
    pub(super) const fn is_complete(&self) -> bool {
        matches!(self, Self::All(_))
    }

    pub(super) fn get(&self, position: usize) -> Option<&Message> {
        match self {
            Self::All(messages) => messages.get(position),
            Self::Added { numbers, messages, .. } => {
                let number = usize::try_from(*numbers.get(position)?).ok()?;
                messages.get(number.checked_sub(1)?).map(AsRef::as_ref)
            }
        }
    }

    /// Adds the message at a place, if there is metadata of it.
    pub(super) fn add(
        &mut self,
        metas: &[MessageMeta],
        place: Sequence,
        message: Cow<'a, Message>,
    ) {
        let Self::Added { numbers, messages, next } = self else { return };
        // Messages are mostly added in order.
        let is_next = metas.get(*next).is_some_and(|meta| meta.sequence == place);
        let position = if is_next {
            *next
        } else {
            let Ok(position) = metas.binary_search_by_key(&place, |meta| meta.sequence) else {
                return;
            };
            position
        };
        *next = position + 1;
        messages.push(message);
        let number = u32::try_from(messages.len()).unwrap_or(0);
        if let Some(slot) = numbers.get_mut(position) {
            *slot = number;
        }
    }
}
