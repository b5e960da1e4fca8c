use std::sync::Arc;

use crate::store::{CaughtUp, KnownBatch, NewMessage, Page};
use crate::stored::{MessageMeta, Sequence, StoredMessage};

/// A batch that this process appended, kept so that it is not read back.
#[derive(Debug, Clone)]
pub struct OwnBatch {
    known: KnownBatch,
    messages: Arc<[NewMessage]>,
    bytes: usize,
}

impl OwnBatch {
    /// The batch as it was sent in the request that was acknowledged, and its first place. `None` for no messages.
    #[must_use]
    pub fn new(first: Sequence, messages: &Arc<[NewMessage]>) -> Option<Self> {
        let newest = messages.last()?;
        let last =
            Sequence::new(first.number().checked_add(u64::try_from(messages.len()).ok()?)? - 1);
        let known = KnownBatch { first, last, id: newest.id };
        let sizes = messages.iter().map(|new| {
            let sizes = size_of::<NewMessage>() + size_of::<MessageMeta>();
            sizes + new.content_type.heap_bytes() + new.message.heap_bytes()
        });
        Some(Self {
            known,
            bytes: size_of::<Self>() + sizes.sum::<usize>(),
            messages: messages.clone(),
        })
    }

    /// Its places and its newest id, by which a store confirms it.
    #[must_use]
    pub const fn known(&self) -> KnownBatch {
        self.known
    }

    /// The bytes of heap memory that it occupies. The message texts count, although the caller may share them.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// The complete page: the messages that the store returned, and those of the confirmed batches. `None` if the
    /// store confirmed a batch that is not one of these.
    #[must_use]
    pub fn complete(CaughtUp { mut page, confirmed }: CaughtUp, own: &[Self]) -> Option<Page> {
        if confirmed.is_empty() {
            return Some(page);
        }
        let mut returned = std::mem::take(&mut page.messages).into_iter().peekable();
        for known in confirmed {
            let batch = own.iter().find(|batch| batch.known == known)?;
            while let Some(message) =
                returned.next_if(|message| message.meta.sequence < known.first)
            {
                page.messages.push(message);
            }
            page.messages.extend(batch.stored());
        }
        page.messages.extend(returned);
        Some(page)
    }

    /// Its messages, as a store returns them.
    fn stored(&self) -> impl Iterator<Item = StoredMessage> {
        let places = (self.known.first.number()..).map(Sequence::new);
        places.zip(&*self.messages).map(|(place, new)| new.clone().stored_at(place))
    }
}
