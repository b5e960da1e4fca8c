//! The requests of writes to a store, each with the type of its answer.

use std::pin::Pin;

use memory_core::MemoryKey;
use memory_core::lease::LeaseProof;
use memory_core::store::{
    Access, Append, Appended, Clear, Counters, MemoryStore, Replace, Splice, StoreError,
    StoreOperation,
};

use crate::inner::Inner;

/// The answer of a store that is being waited for.
pub(crate) type Answering<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// A request of a write, which may be sent several times.
pub(crate) trait WriteRequest: Sized + Send + Sync {
    /// The answer of the store.
    type Answer: Send;

    /// The operation, as named in errors.
    const OPERATION: StoreOperation;

    /// Sends the request once.
    fn send<'a>(
        &'a self,
        store: &'a dyn MemoryStore,
        key: &'a MemoryKey,
        access: Access,
    ) -> Answering<'a, Self::Answer>;

    /// The request to send after one whose outcome is unknown, if it must differ.
    fn renewed(&self, _: &Inner) -> Option<Self> {
        None
    }
}

impl WriteRequest for Append {
    type Answer = Appended;
    const OPERATION: StoreOperation = StoreOperation::Append;

    fn send<'a>(
        &'a self,
        store: &'a dyn MemoryStore,
        key: &'a MemoryKey,
        access: Access,
    ) -> Answering<'a, Appended> {
        store.append(key, access, self)
    }

    fn renewed(&self, inner: &Inner) -> Option<Self> {
        Some(inner.renewed(self))
    }
}

impl WriteRequest for Replace {
    type Answer = Counters;
    const OPERATION: StoreOperation = StoreOperation::Replace;

    fn send<'a>(
        &'a self,
        store: &'a dyn MemoryStore,
        key: &'a MemoryKey,
        access: Access,
    ) -> Answering<'a, Counters> {
        store.replace(key, access, self)
    }
}

impl WriteRequest for Splice {
    type Answer = Counters;
    const OPERATION: StoreOperation = StoreOperation::Splice;

    fn send<'a>(
        &'a self,
        store: &'a dyn MemoryStore,
        key: &'a MemoryKey,
        access: Access,
    ) -> Answering<'a, Counters> {
        store.splice(key, access, self)
    }
}

impl WriteRequest for Clear {
    type Answer = Counters;
    const OPERATION: StoreOperation = StoreOperation::Clear;

    fn send<'a>(
        &'a self,
        store: &'a dyn MemoryStore,
        key: &'a MemoryKey,
        access: Access,
    ) -> Answering<'a, Counters> {
        store.clear(key, access, self)
    }
}

/// Raises the newest token that the store has seen to that of this lease.
pub(crate) struct ClaimFence(pub(crate) LeaseProof);

impl WriteRequest for ClaimFence {
    type Answer = ();
    const OPERATION: StoreOperation = StoreOperation::Claim;

    fn send<'a>(
        &'a self,
        store: &'a dyn MemoryStore,
        key: &'a MemoryKey,
        _: Access,
    ) -> Answering<'a, ()> {
        store.claim(key, self.0)
    }
}
