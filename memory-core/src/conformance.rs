//! The test suite that every [`MemoryStore`] must pass.
//!
//! # Running it on a custom store
//!
//! 1. Add the suite to the dev-dependencies of your crate:
//!
//!    ```toml
//!    [dev-dependencies]
//!    memory-core = { version = "0.1", features = ["conformance"] }
//!    tokio = { version = "1", features = ["macros", "rt"] }
//!    ```
//! 2. Implement [`StoreFixture`]. Each case asks it for an empty store whose TTLs use the case's [`Clock`] and
//!    in which no task holds a lease. The fixture owns the resources that a store needs (a folder, a server). Give
//!    each store a separate place, because cases use the same keys.
//! 3. If the store's state can be restored (a file from its copy, a key from its dump), also implement
//!    [`StoreFixture::fresh_with_rollback`] for the cases in which a server comes back without its newest writes.
//!    Otherwise these cases are skipped, and the test's output reports it. The same holds for a store without an
//!    archive, or without erasure, whose fixture says so with [`StoreFixture::keeps_archive`],
//!    [`StoreFixture::erases`], [`StoreFixture::copies`], [`StoreFixture::keeps_metadata`] or
//!    [`StoreFixture::forks_in_one_step`].
//! 4. Call [`run_all`] in one test; it names the case that failed. For one test per case, run each of [`cases`].
//!
//! ```
//! use std::sync::{Arc, Mutex, PoisonError};
//!
//! use memory_core::conformance::{StoreFixture, run_all};
//! use memory_core::{Clock, MemoryKey, MemoryStore, Sequence, StoredMessage};
//! use memory_core::health::ServerHealth;
//! use memory_core::lease::{LeaseDomain, LeaseProof};
//! use memory_core::store::{StoreOperation, StoreWatch, LocalWatchers, Access, Append, Appended, ArchivedRemoval, Clear, Cleared, Counters, Cursor, Durability, Erase, Erased, Erasure, FlushReceipt, Head, MemoryState, Outline, Page, PageLimit, Read, RemoveUnused, RemovedUnused, Replace, ReplaceAll, ReplacedAll, Restore, Splice, StoreError, UnusedPage, UnusedQuery};
//! # use std::collections::BTreeMap;
//! # use std::num::NonZeroUsize;
//! # use std::ops::Bound;
//! # use jiff::Timestamp;
//! # use memory_core::store::StoreErrorKind;
//!
//! /// The store under test: here the simplest possible one.
//! #[derive(Debug)]
//! struct MyStore {
//!     memories: Mutex<BTreeMap<MemoryKey, MemoryState>>,
//!     watchers: LocalWatchers,
//!     clock: Clock,
//! }
//!
//! # impl MyStore {
//! #     fn with<T>(&self, key: &MemoryKey, run: impl FnOnce(&mut MemoryState, Timestamp) -> T) -> T {
//! #         let mut memories = self.memories.lock().unwrap_or_else(PoisonError::into_inner);
//! #         let done = run(memories.entry(key.clone()).or_default(), self.clock.now());
//! #         drop(memories);
//! #         self.watchers.notify(key);
//! #         done
//! #     }
//! # }
//! # fn at(key: &MemoryKey) -> impl Fn(StoreErrorKind) -> StoreError {
//! #     move |kind| StoreError::new(StoreOperation::Append, kind).not_applied().at(key)
//! # }
//! #[async_trait::async_trait]
//! impl MemoryStore for MyStore {
//!     async fn append(
//!         &self,
//!         key: &MemoryKey,
//!         access: Access,
//!         append: &Append,
//!     ) -> Result<Appended, StoreError> {
//!         self.with(key, |memory, now| memory.append(access, append, now)).map_err(at(key))
//!     }
//!     // ... and the others.
//! #     async fn replace(
//! #         &self,
//! #         key: &MemoryKey,
//! #         access: Access,
//! #         replace: &Replace,
//! #     ) -> Result<Counters, StoreError> {
//! #         self.with(key, |memory, now| memory.replace(access, replace, now)).map_err(at(key))
//! #     }
//! #     async fn splice(
//! #         &self,
//! #         key: &MemoryKey,
//! #         access: Access,
//! #         splice: &Splice,
//! #     ) -> Result<Counters, StoreError> {
//! #         self.with(key, |memory, now| memory.splice(access, splice, now)).map_err(at(key))
//! #     }
//! #     async fn clear(
//! #         &self,
//! #         key: &MemoryKey,
//! #         access: Access,
//! #         clear: &Clear,
//! #     ) -> Result<Cleared, StoreError> {
//! #         self.with(key, |memory, now| memory.clear(access, clear, now)).map_err(at(key))
//! #     }
//! #     async fn replace_all(
//! #         &self,
//! #         key: &MemoryKey,
//! #         access: Access,
//! #         replace: &ReplaceAll,
//! #     ) -> Result<ReplacedAll, StoreError> {
//! #         self.with(key, |memory, now| memory.replace_all(access, replace, now)).map_err(at(key))
//! #     }
//! #     async fn restore(
//! #         &self,
//! #         key: &MemoryKey,
//! #         access: Access,
//! #         restore: &Restore,
//! #     ) -> Result<Counters, StoreError> {
//! #         self.with(key, |memory, now| memory.restore(access, restore, now)).map_err(at(key))
//! #     }
//! #     async fn removals(
//! #         &self,
//! #         key: &MemoryKey,
//! #         before: Option<u64>,
//! #         limit: NonZeroUsize,
//! #     ) -> Result<Vec<ArchivedRemoval>, StoreError> {
//! #         Ok(self.with(key, |memory, now| memory.removals(before, limit, now)))
//! #     }
//! #     async fn archived(
//! #         &self,
//! #         key: &MemoryKey,
//! #         removal: u64,
//! #         after: Sequence,
//! #         limit: PageLimit,
//! #     ) -> Result<Vec<StoredMessage>, StoreError> {
//! #         Ok(self.with(key, |memory, now| memory.archived(removal, after, limit, now)))
//! #     }
//! #     async fn erase(
//! #         &self,
//! #         key: &MemoryKey,
//! #         access: Access,
//! #         erase: &Erase,
//! #     ) -> Result<Erased, StoreError> {
//! #         self.with(key, |memory, now| memory.erase(access, erase, now)).map_err(at(key))
//! #     }
//! #     async fn erasures(&self, key: &MemoryKey) -> Result<Vec<Erasure>, StoreError> {
//! #         Ok(self.with(key, |memory, now| memory.erasures(now)))
//! #     }
//! #     async fn claim(&self, key: &MemoryKey, lease: LeaseProof) -> Result<(), StoreError> {
//! #         self.with(key, |memory, now| memory.claim(lease, now)).map_err(at(key))
//! #     }
//! #     async fn head(&self, key: &MemoryKey) -> Result<Head, StoreError> {
//! #         Ok(self.with(key, |memory, now| memory.head(now)))
//! #     }
//! #     async fn read(&self, key: &MemoryKey, read: Read) -> Result<Page, StoreError> {
//! #         Ok(self.with(key, |memory, now| memory.read(read, now)))
//! #     }
//! #     async fn read_before(
//! #         &self,
//! #         key: &MemoryKey,
//! #         before: Option<Cursor>,
//! #         limit: NonZeroUsize,
//! #     ) -> Result<Page, StoreError> {
//! #         Ok(self.with(key, |memory, now| memory.read_before(before, limit, now)))
//! #     }
//! #     async fn outline(&self, key: &MemoryKey) -> Result<Outline, StoreError> {
//! #         Ok(self.with(key, |memory, now| memory.outline(now)))
//! #     }
//! #     async fn fetch(
//! #         &self,
//! #         key: &MemoryKey,
//! #         snapshot: Cursor,
//! #         places: &[Sequence],
//! #     ) -> Result<Vec<StoredMessage>, StoreError> {
//! #         self.with(key, |memory, now| memory.fetch(snapshot, places, now)).map_err(at(key))
//! #     }
//! #     async fn receipts(&self, key: &MemoryKey) -> Result<Vec<FlushReceipt>, StoreError> {
//! #         Ok(self.with(key, |memory, now| memory.receipts(now)))
//! #     }
//! #     async fn keys(
//! #         &self,
//! #         after: Option<&MemoryKey>,
//! #         limit: NonZeroUsize,
//! #     ) -> Result<Vec<MemoryKey>, StoreError> {
//! #         let memories = self.memories.lock().unwrap_or_else(PoisonError::into_inner);
//! #         let from = after.map_or(Bound::Unbounded, Bound::Excluded);
//! #         let live = memories
//! #             .range::<MemoryKey, _>((from, Bound::Unbounded))
//! #             .filter(|(_, memory)| memory.has_messages(self.clock.now()));
//! #         Ok(live.take(limit.get()).map(|(key, _)| key.clone()).collect())
//! #     }
//! #     async fn unused(&self, query: &UnusedQuery) -> Result<UnusedPage, StoreError> {
//! #         let memories = self.memories.lock().unwrap_or_else(PoisonError::into_inner);
//! #         let (now, mut page) = (self.clock.now(), UnusedPage::default());
//! #         let mut rest = memories
//! #             .iter()
//! #             .filter(|(key, _)| key.as_str().starts_with(&query.prefix))
//! #             .filter(|(key, _)| query.after.as_ref().is_none_or(|after| *key > after));
//! #         let looked_at: Vec<_> = rest.by_ref().take(query.limit.get()).collect();
//! #         page.next = looked_at.last().filter(|_| rest.next().is_some()).map(|(key, _)| (*key).clone());
//! #         page.memories = looked_at.iter().filter_map(|(key, m)| m.unused(key, query, now)).collect();
//! #         Ok(page)
//! #     }
//! #     async fn remove(
//! #         &self,
//! #         key: &MemoryKey,
//! #         remove: RemoveUnused,
//! #     ) -> Result<RemovedUnused, StoreError> {
//! #         self.with(key, |memory, _| memory.remove(remove)).map_err(at(key))
//! #     }
//! #     async fn watch(&self, key: &MemoryKey) -> Result<Box<dyn StoreWatch>, StoreError> {
//! #         Ok(Box::new(self.watchers.watch(key)))
//! #     }
//! #     async fn server(&self) -> Result<Option<ServerHealth>, StoreError> {
//! #         Ok(None)
//! #     }
//! #     fn lease_domain(&self) -> Option<&LeaseDomain> {
//! #         None
//! #     }
//! #     fn durability(&self) -> Durability {
//! #         Durability::Memory
//! #     }
//! }
//!
//! #[derive(Debug)]
//! struct Fixture;
//!
//! #[async_trait::async_trait]
//! impl StoreFixture for Fixture {
//!     async fn fresh(&self, clock: Clock) -> Arc<dyn MemoryStore> {
//!         Arc::new(MyStore { memories: Mutex::default(), watchers: LocalWatchers::default(), clock })
//!     }
//!
//!     fn copies(&self) -> bool {
//!         false
//!     }
//!
//!     fn keeps_metadata(&self) -> bool {
//!         false
//!     }
//! }
//!
//! // In a test: #[tokio::test] async fn my_store_conforms()
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! run_all(&Fixture).await;
//! # });
//! ```
//!
//! # Coverage
//!
//! Cases cover the recognition of retries, order, batches, fencing, claims, counters against a recount, replaced
//! messages, splices, receipts, the archive, erasures, copies, forks in one step, metadata, searches, TTLs, cursors and listings, the removal of unused memories, watches, interleaved appends on
//! one task, and rollback. If the store shares a [domain](MemoryStore::lease_domain) with a lease backend, they also
//! check that it refuses leases that are not live.
//!
//! The suite cannot simulate a loss of power, or run a second process. Write custom tests for these:
//! `memory-core/tests/file_store` in the repository cuts its file at every byte of a write, and
//! `memory-core/testkit` runs random programs on any store and compares it with the reference.

#![expect(
    clippy::missing_panics_doc,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a failing case panics, like any test"
)]

mod append;
mod archive;
mod case;
mod catch_up;
mod clear;
mod copy;
mod erase;
mod fork;
mod metadata;
mod read;
mod replace;
mod replace_all;
mod replaced;
mod restore;
mod rollback;
mod scrub;
mod search;
mod splice;
mod unused;
mod version;
mod watch;
mod writers;

use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use async_trait::async_trait;
use uuid::Uuid;

use self::case::cases_of;
pub use self::case::{Case, CaseFuture};
use crate::lease::{FencingToken, LeaseProof, OwnerId};
use crate::store::{Access, Append, Counters, MessageId, NewMessage, Outline, WriteId, WriterId};
pub use crate::unit::count::{PlanningWork, planning_work};
use crate::{Clock, ContentType, MemoryKey, MemoryStore, Message, Priority};

/// Creates stores to test.
#[async_trait]
pub trait StoreFixture: Debug + Send + Sync {
    /// An empty store whose TTLs use this clock, a [`Clock::manual`], and in which no task holds a lease.
    async fn fresh(&self, clock: Clock) -> Arc<dyn MemoryStore>;

    /// The same with a way to restore its state; `None` (the default) if there is none.
    async fn fresh_with_rollback(
        &self,
        clock: Clock,
    ) -> Option<(Arc<dyn MemoryStore>, Arc<dyn Rollback>)> {
        drop(clock);
        None
    }

    /// Whether the store has an archive: it implements [`restore`](MemoryStore::restore),
    /// [`removals`](MemoryStore::removals) and [`archived`](MemoryStore::archived). Default: it has.
    fn keeps_archive(&self) -> bool {
        true
    }

    /// Whether the store implements [`erase`](MemoryStore::erase) and [`erasures`](MemoryStore::erasures). Default: it
    /// does.
    fn erases(&self) -> bool {
        true
    }

    /// Whether the store implements [`frame`](MemoryStore::frame) and [`write_copy`](MemoryStore::write_copy), besides
    /// an archive and erasure. Default: it does.
    fn copies(&self) -> bool {
        true
    }

    /// Whether [`fork`](MemoryStore::fork) forks a small memory in one step. Only stores that copy are asked. Default: it
    /// does.
    fn forks_in_one_step(&self) -> bool {
        true
    }

    /// Whether the store implements [`metadata`](MemoryStore::metadata) and
    /// [`update_metadata`](MemoryStore::update_metadata). Default: it does.
    fn keeps_metadata(&self) -> bool {
        true
    }

    /// Whether the store implements [`replace_all`](MemoryStore::replace_all). Default: it does.
    fn replaces_all(&self) -> bool {
        true
    }
}

/// Restores the state of a store under its open handle, as after a failover that loses the newest writes, or after a
/// restored snapshot.
#[async_trait]
pub trait Rollback: Debug + Send + Sync {
    /// Saves the state of the whole store, replacing the previously saved state.
    async fn keep(&self);

    /// Restores the saved state.
    async fn go_back(&self);
}

/// All cases.
pub fn cases() -> impl Iterator<Item = Case> {
    let plain = append::CASES.iter().chain(replace::CASES).chain(splice::CASES).chain(read::CASES);
    plain
        .chain(clear::CASES)
        .chain(unused::CASES)
        .chain(archive::CASES)
        .chain(restore::CASES)
        .chain(replace_all::CASES)
        .chain(replace_all::ARCHIVE_CASES)
        .chain(replaced::CASES)
        .chain(replaced::ARCHIVE_CASES)
        .chain(erase::CASES)
        .chain(erase::ARCHIVE_CASES)
        .chain(scrub::CASES)
        .chain(scrub::ARCHIVE_CASES)
        .chain(copy::CASES)
        .chain(fork::CASES)
        .chain(metadata::CASES)
        .chain(metadata::COPY_CASES)
        .chain(metadata::FORK_CASES)
        .chain(search::CASES)
        .chain(search::ARCHIVE_CASES)
        .chain(search::ERASURE_CASES)
        .chain(search::ROLLBACK_CASES)
        .chain(version::CASES)
        .chain(writers::CASES)
        .chain(watch::CASES)
        .chain(rollback::CASES)
        .chain(catch_up::CASES)
        .chain(catch_up::ROLLBACK_CASES)
        .copied()
}

/// Runs all cases, each on a fresh store, and panics at the first that fails.
pub async fn run_all(fixture: &dyn StoreFixture) {
    for case in cases() {
        let _failed = NameOnPanic(case.name);
        case.run(fixture).await;
    }
}

/// Reports which case panicked.
struct NameOnPanic(&'static str);

impl Drop for NameOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            report(format_args!("conformance case failed: {}", self.0));
        }
    }
}

#[expect(clippy::print_stderr, reason = "test results are reported on stderr")]
fn report(line: std::fmt::Arguments<'_>) {
    eprintln!("{line}");
}

/// The store of a case, with helper functions.
#[derive(Clone)]
struct Subject {
    store: Arc<dyn MemoryStore>,
    clock: Clock,
    rollback: Option<Arc<dyn Rollback>>,
}

impl Subject {
    /// Saves the state of the store.
    async fn keep(&self) {
        self.rollback.as_ref().unwrap().keep().await;
    }

    /// Restores the saved state.
    async fn go_back(&self) {
        self.rollback.as_ref().unwrap().go_back().await;
    }

    async fn append(
        &self,
        key: &MemoryKey,
        write: WriteId,
        texts: &[&str],
    ) -> crate::store::Appended {
        self.store.append(key, Access::OPEN, &batch(write, texts)).await.unwrap()
    }

    /// The texts of the present messages, in order.
    async fn texts(&self, key: &MemoryKey) -> Vec<String> {
        let page = self.store.read(key, crate::store::Read::default()).await.unwrap();
        page.messages.iter().map(|message| message.message.text().into_owned()).collect()
    }

    /// Returns the outline after checking that the counters equal a recount (P10) and account for every message ever
    /// appended (P1).
    async fn checked_outline(&self, key: &MemoryKey) -> Outline {
        let outline = self.store.outline(key).await.unwrap();
        assert_counters(&outline);
        assert_eq!(self.store.head(key).await.unwrap(), outline.head, "head and outline differ");
        // Not each time, because a scan takes several requests.
        if outline.head.version.is_multiple_of(3) {
            self.check_search(key).await;
        }
        outline
    }
}

/// Checks that the counters of an outline equal a recount, and that they are conserved.
pub fn assert_counters(outline: &Outline) {
    let Counters { present, classes, summaries, .. } = outline.head.counters.clone();
    let recount = Counters::recount(&outline.metas);
    assert_eq!(
        (present, classes, summaries),
        (recount.present, recount.classes, recount.summaries),
        "counters differ from a recount",
    );
    assert!(outline.head.counters.is_conserved(), "not conserved: {:?}", outline.head.counters);
    assert!(
        outline.metas.windows(2).all(|pair| pair[0].sequence < pair[1].sequence),
        "messages out of order",
    );
}

fn key(name: &str) -> MemoryKey {
    MemoryKey::new("conformance", "store", name).unwrap()
}

fn writer(number: u128) -> WriterId {
    WriterId::new(number)
}

fn batch(write: WriteId, texts: &[&str]) -> Append {
    Append {
        write,
        messages: texts.iter().map(|text| message(text)).collect(),
        ttl: None,
        expected: None,
    }
}

/// A message whose first character selects its class: `!` critical, `*` a fact, `#` a custom type.
fn message(text: &str) -> NewMessage {
    let (priority, content_type) = match text.chars().next() {
        Some('!') => (Some(Priority::CRITICAL), ContentType::SystemPrompt),
        Some('*') => (Some(Priority::IMPORTANT), ContentType::ImportantFacts),
        Some('#') => (Some(Priority::new(7)), ContentType::from("my notes/1")),
        _ => (None, ContentType::Conversation),
    };
    NewMessage {
        id: MessageId::new(Uuid::from_u128(u128::from(u64::from_be_bytes(first_bytes(text))))),
        message: Message::user(text),
        tokens: u32::try_from(text.len()).unwrap_or(u32::MAX),
        priority,
        content_type,
        created_at: Clock::manual().now(),
    }
}

fn first_bytes(text: &str) -> [u8; 8] {
    let mut bytes = [0; 8];
    for (to, from) in bytes.iter_mut().zip(text.bytes()) {
        *to = from;
    }
    bytes
}

fn lease(token: u64) -> LeaseProof {
    LeaseProof { owner: OwnerId::new(u128::from(token)), token: FencingToken::new(token) }
}

fn boxed<'a>(
    future: impl Future<Output = ()> + Send + 'a,
) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
    Box::pin(future)
}

/// Polls all futures on this task until all are done, because the suite needs no runtime.
async fn join_all<'a>(
    futures: impl IntoIterator<Item = Pin<Box<dyn Future<Output = ()> + Send + 'a>>>,
) {
    let mut futures: Vec<_> = futures.into_iter().map(Some).collect();
    std::future::poll_fn(|context| {
        for slot in &mut futures {
            if slot.as_mut().is_some_and(|future| future.as_mut().poll(context).is_ready()) {
                *slot = None;
            }
        }
        if futures.iter().all(Option::is_none) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}
