//! Checks at compile time that programs with several threads can share the store and spawn its futures.

use memory_core::{MemoryKey, MemoryStore};

use crate::{SqliteConfig, SqliteStore};

const fn shared<T: Send + Sync + 'static>() {}
const fn spawned<T: Send>(_: &T) {}

const _: () = {
    shared::<SqliteStore>();
    shared::<SqliteConfig>();
};

/// The body is compiled and never run.
const _: fn(&SqliteStore, &MemoryKey) = |store, key| spawned(&store.head(key));
