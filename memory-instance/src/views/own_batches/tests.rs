//! Batches that a process appended itself: a warm read equals a cold one.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use memory_core::store::{
    Access, MessageId, NewMessage, Read, Replace, Splice, StoreError, WriterId,
};
use memory_core::{
    Clock, Entry, InMemoryStore, MemoryResource, MemoryStore, Message, Priority, StoredMessage,
};
use memory_core_testkit::generators::history;
use memory_core_testkit::intercept::{Hook, Intercept, Method};
use memory_lock::{ClockExt as _, InProcessLock, LockManager};
use proptest::prelude::*;
use uuid::Uuid;

use super::super::*;
use crate::{FlushMode, MemoryInstance, MemoryManager};

const TTL: Duration = Duration::from_secs(1_000);

/// Counts the reads of each kind.
#[derive(Debug, Default)]
struct Reads {
    whole: AtomicUsize,
    caught_up: AtomicUsize,
}

impl Hook for Reads {
    async fn around<T: Send>(
        &self,
        method: Method,
        call: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        let count = match method {
            Method::Read => Some(&self.whole),
            Method::CatchUp => Some(&self.caught_up),
            _ => None,
        };
        count.map(|count| count.fetch_add(1, Ordering::SeqCst));
        call.await
    }
}

struct World {
    clock: Clock,
    store: InMemoryStore,
    reads: Arc<Intercept<Reads>>,
    locks: LockManager,
}

impl World {
    fn new() -> Self {
        let clock = Clock::tokio();
        let store = InMemoryStore::new(clock.clone());
        let reads = Arc::new(Intercept::new(Arc::new(store.clone()), Reads::default()));
        let locks = LockManager::new(Arc::new(InProcessLock::new(clock.clone())));
        Self { clock, store, reads, locks }
    }

    /// The memory in another process.
    fn memory(&self, view_bytes: usize) -> MemoryInstance {
        let mut resource = MemoryResource::new("chat", 1 << 20);
        resource.persistence.ttl = Some(TTL);
        let manager = MemoryManager::builder()
            .with_clock(self.clock.clone())
            .with_resource(resource)
            .with_flush_mode(FlushMode::Manual)
            .with_view_bytes(view_bytes)
            .build(Arc::clone(&self.reads) as _, self.locks.clone())
            .unwrap();
        manager.memory("chat", "a").unwrap()
    }
}

fn own(memory: &MemoryInstance) -> usize {
    match memory.inner.backend.views.find(memory.key()).state {
        ViewState::View(_, own) => own.len(),
        ViewState::Missing | ViewState::Excluded => 0,
    }
}

/// One line of a program on a memory.
#[derive(Debug, Clone)]
enum Op {
    Own(Vec<StoredMessage>),
    Other(Vec<StoredMessage>),
    Look,
    Keep,
    GoBack,
    Evict(usize),
    Replace(usize),
    Clear,
    Expire,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        12 => history(4).prop_map(Op::Own),
        6 => history(3).prop_map(Op::Other),
        4 => Just(Op::Look),
        3 => Just(Op::Keep),
        3 => Just(Op::GoBack),
        1 => (0..30_usize).prop_map(Op::Evict),
        1 => (0..30_usize).prop_map(Op::Replace),
        1 => Just(Op::Clear),
        1 => Just(Op::Expire),
    ]
}

async fn append(memory: &MemoryInstance, messages: Vec<StoredMessage>) {
    let entries = messages.into_iter().map(|StoredMessage { meta, message, .. }| {
        let entry = Entry::new(message).with_content_type(meta.content_type);
        entry.with_priority(meta.priority.unwrap_or(Priority::new(3)))
    });
    // A batch may be empty.
    let _ = memory.append_all(entries).await;
}

async fn run(program: Vec<Op>) {
    let world = World::new();
    let (me, other) = (world.memory(VIEW_BYTES), world.memory(0));
    let mut saved = world.store.saved();
    for (number, op) in (1..).zip(program) {
        let there = world.store.read(me.key(), Read::default()).await.unwrap();
        let nth = |n: usize| there.messages.get(n % there.messages.len().max(1));
        match op {
            Op::Own(messages) => append(&me, messages).await,
            Op::Other(messages) => append(&other, messages).await,
            Op::Look => {
                let page = me.page(None, None).await.unwrap();
                assert_eq!(page, other.page(None, None).await.unwrap());
            }
            Op::Keep => saved = world.store.saved(),
            Op::GoBack => world.store.go_back(&saved),
            Op::Evict(n) => {
                let Some(message) = nth(n) else { continue };
                let evicted = vec![message.meta.sequence];
                let splice = Splice { evicted, ..Splice::new(there.cursor.generation) };
                world.store.splice(me.key(), Access::OPEN, &splice).await.unwrap();
            }
            Op::Replace(n) => {
                let Some(StoredMessage { meta, message, .. }) = nth(n) else { continue };
                let message = NewMessage {
                    id: MessageId::new(Uuid::from_u128(number)),
                    message: message.clone().with_field("replaced", true),
                    tokens: meta.tokens + 1,
                    priority: meta.priority,
                    content_type: meta.content_type.clone(),
                    created_at: meta.created_at,
                };
                let write = WriterId::new(number).write(1);
                let replace =
                    Replace { write, sequence: meta.sequence, replaced: meta.id, message };
                world.store.replace(me.key(), Access::OPEN, &replace).await.unwrap();
            }
            Op::Clear => drop(other.clear().await.unwrap()),
            Op::Expire => tokio::time::advance(TTL).await,
        }
    }
    let two = NonZeroUsize::new(2).unwrap();
    assert_eq!(
        me.page_before(None, two).await.unwrap(),
        other.page_before(None, two).await.unwrap()
    );
    assert_eq!(me.page(None, None).await.unwrap(), other.page(None, None).await.unwrap());
    let views = &me.inner.backend.views;
    let sum: usize = views.lock().entries.iter().map(|(_, entry)| entry.bytes()).sum();
    assert_eq!(sum, views.lock().bytes);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn warm_read_equals_a_cold_read(program in prop::collection::vec(op(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(run(program));
    }
}

#[tokio::test(start_paused = true)]
async fn own_batches_are_kept_for_a_view() {
    let world = World::new();
    let memory = world.memory(VIEW_BYTES);
    memory.append(Message::user("one")).await.unwrap();
    assert_eq!(own(&memory), 0, "there is no view");
    memory.messages().await.unwrap();
    memory.append_all(["two", "three"].map(Message::user)).await.unwrap();
    let prepared = memory.prepare([Message::user("four")]).unwrap();
    memory.send(&prepared).await.unwrap();
    assert_eq!(own(&memory), 2);
    memory.send(&prepared).await.unwrap();
    assert_eq!(own(&memory), 2, "the batch was a duplicate");
    let whole = world.reads.hook().whole.load(Ordering::SeqCst);
    let messages = memory.messages().await.unwrap();
    assert_eq!(messages, world.memory(0).messages().await.unwrap());
    let reads = world.reads.hook();
    assert_eq!(reads.caught_up.load(Ordering::SeqCst), 1);
    assert_eq!(reads.whole.load(Ordering::SeqCst), whole + 1, "only the cold one");
    assert_eq!(own(&memory), 0);
}

#[tokio::test(start_paused = true)]
async fn kept_own_batches_are_bounded() {
    let world = World::new();
    let small = 64 << 10;
    let memory = world.memory(small);
    memory.append(Message::user("one")).await.unwrap();
    memory.messages().await.unwrap();
    let views = &memory.inner.backend.views;
    for number in 0..50 {
        memory.append(Message::user(format!("{number}"))).await.unwrap();
    }
    assert_eq!(own(&memory), 32);
    for _ in 0..20 {
        memory.append(Message::user("x".repeat(10_000))).await.unwrap();
        assert!(views.lock().bytes <= small);
    }
    assert_eq!(memory.messages().await.unwrap(), world.memory(0).messages().await.unwrap());
}
