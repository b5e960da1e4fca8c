//! Checks at compile time that programs with several threads can share the public types.

use crate::plan::{ContextPlanner, Policy, Units};
use crate::store::{MemoryState, StoreError};
use crate::{
    Clock, EstimateCounter, InMemoryStore, MemoryHealth, MemoryKey, MemoryResource, MemoryStore,
    Message, Profile, Request, StoredMessage, TokenCounter, WindowOptions,
};

const fn shared<T: ?Sized + Send + Sync>() {}

const _: () = {
    shared::<Message>();
    shared::<StoredMessage>();
    shared::<MemoryKey>();
    shared::<MemoryResource>();
    shared::<MemoryHealth>();
    shared::<Policy>();
    shared::<Profile>();
    shared::<Request>();
    shared::<Units<'_>>();
    shared::<ContextPlanner<'_>>();
    shared::<WindowOptions>();
    shared::<Clock>();
    shared::<EstimateCounter>();
    #[cfg(feature = "tiktoken")]
    shared::<crate::TiktokenCounter>();
    shared::<dyn TokenCounter>();
    shared::<InMemoryStore>();
    shared::<MemoryState>();
    shared::<dyn MemoryStore>();
    shared::<StoreError>();
};
