//! The generated histories and policies of `memory-core-testkit`, for unit tests: the kit is linked to another build
//! of this crate, so its types are converted.

pub(crate) use generators::now;
use memory_core_testkit::generators::{self, Block as GeneratedBlock, StoredMessage as Generated};
use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::plan::{Block, Policy};
use crate::store::{MessageMeta, NewMessage};
use crate::{ContentType, Priority, StoredMessage};

/// A value of this build with the same JSON.
fn own<T: DeserializeOwned>(other: &impl Serialize) -> T {
    serde_json::from_value(serde_json::to_value(other).unwrap()).unwrap()
}

/// See [`generators::history`].
pub(crate) fn history(longest: usize) -> impl Strategy<Value = Vec<StoredMessage>> {
    let stored = |other: Generated| {
        let meta = &other.meta;
        let new = NewMessage {
            id: own(&meta.id),
            message: own(&other.message),
            tokens: meta.tokens,
            priority: own(&meta.priority),
            content_type: own(&meta.content_type),
            created_at: meta.created_at,
        };
        let mut stored = new.stored_at(own(&meta.sequence));
        (stored.meta.closed, stored.meta.summary) = (meta.closed, meta.summary);
        stored
    };
    generators::history(longest).prop_map(move |others| others.into_iter().map(stored).collect())
}

pub(crate) fn metas(history: &[StoredMessage]) -> Vec<MessageMeta> {
    history.iter().map(|message| message.meta.clone()).collect()
}

/// See [`generators::policy`].
pub(crate) fn policy() -> impl Strategy<Value = Policy> {
    let block = |other: GeneratedBlock| Block {
        priority: own::<Priority>(&other.priority),
        content_types: own::<Vec<ContentType>>(&other.content_types),
        limit: other.limit,
    };
    generators::policy().prop_map(move |other| Policy {
        message_limit: other.message_limit,
        blocks: other.blocks.into_iter().map(block).collect(),
        recent_window: other.recent_window,
        open_call_timeout: other.open_call_timeout,
        ..Policy::with_max_tokens(other.max_tokens)
    })
}
