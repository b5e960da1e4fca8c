//! P1, P2, P8: a store that returns to an earlier state while agents read, flush and resend.

use std::sync::{Arc, Mutex};

use memory_core::store::{SavedMemories, StoreError};
use memory_core::{InMemoryStore, MemoryResource, Message};
use memory_core_testkit::intercept::{Hook, Intercept, Method};
use memory_flush::{Summarizer, from_fn};
use memory_instance::{FlushMode, MemoryInstance, MemoryManager};
use memory_lock::{Clock, ClockExt as _, InProcessLock, LockManager};
use tokio::sync::Semaphore;

use crate::support::{bytes, checked, hybrid, texts};

struct World {
    store: InMemoryStore,
    manager: MemoryManager,
}

impl World {
    fn new(resource: MemoryResource, summarizer: Option<Arc<dyn Summarizer>>) -> Self {
        let clock = Clock::tokio();
        let locks = LockManager::new(Arc::new(InProcessLock::new(clock.clone())));
        let store = InMemoryStore::new(clock.clone());
        let mut builder = MemoryManager::builder()
            .with_clock(clock)
            .with_resource(resource)
            .with_token_counter(bytes())
            .with_flush_mode(FlushMode::Manual);
        if let Some(summarizer) = summarizer {
            builder = builder.with_summarizer(summarizer);
        }
        let manager = builder.build(Arc::new(store.clone()), locks).unwrap();
        Self { store, manager }
    }

    fn memory(&self) -> MemoryInstance {
        self.manager.memory("m", "k").unwrap()
    }
}

async fn say(memory: &MemoryInstance, texts: impl IntoIterator<Item = String>) {
    for text in texts {
        memory.append(Message::user(text)).await.unwrap();
    }
}

/// Five critical messages were stored at the places of messages that the flush had read and the store then lost.
#[tokio::test(start_paused = true)]
async fn flush_removes_only_messages_it_read() {
    let (asked, go_on) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let (asks, waits) = (Arc::clone(&asked), Arc::clone(&go_on));
    let summarizer = from_fn("slow", move |request| {
        let (asks, waits) = (Arc::clone(&asks), Arc::clone(&waits));
        async move {
            asks.add_permits(1);
            waits.acquire().await.unwrap().forget();
            Ok(format!("a summary of {} messages", request.messages.len()))
        }
    });
    let world = World::new(hybrid(4_000), Some(summarizer));
    let memory = world.memory();
    say(&memory, (0..20).map(|number| format!("kept {number} {}", "x".repeat(80)))).await;
    let kept = world.store.saved();
    say(&memory, (0..20).map(|number| format!("lost {number} {}", "x".repeat(80)))).await;

    let flush = tokio::spawn({
        let memory = memory.clone();
        async move { memory.perform_flush().await }
    });
    asked.acquire().await.unwrap().forget();
    world.store.go_back(&kept);
    let critical = (0..5).map(|number| Message::system(format!("critical {number}")));
    memory.append_all(critical).await.unwrap();
    say(&memory, (0..20).map(|number| format!("new {number} {}", "x".repeat(80)))).await;
    go_on.add_permits(100);

    let receipt = flush.await.unwrap().unwrap().expect("there was enough to flush");
    let after = texts(&memory).await;
    for number in 0..5 {
        assert!(after.contains(&format!("critical {number}")), "{after:?}");
    }
    assert!(receipt.summary.is_some());
    let counters = checked(&memory, &world.manager).await.head.counters;
    assert_eq!((counters.appended, counters.evicted), (45, 0), "{counters:?}");
    assert_eq!(counters.summarized, receipt.summarized.len());
}

#[tokio::test(start_paused = true)]
async fn reader_restarts_after_rollback() {
    let world = World::new(MemoryResource::new("m", 1 << 20), None);
    let memory = world.memory();
    say(&memory, ["kept".to_owned()]).await;
    let kept = world.store.saved();
    say(&memory, ["lost 1", "lost 2"].map(str::to_owned)).await;
    let before = memory.page(None, None).await.unwrap();
    world.store.go_back(&kept);
    // Fewer, as many, and more than were lost.
    for (count, new) in ["new 1", "new 2", "new 3"].into_iter().enumerate() {
        say(&memory, [new.to_owned()]).await;
        let page = memory.page(Some(before.cursor), None).await.unwrap();
        assert!(page.restarted);
        assert_eq!(page.messages.len(), count + 2);
    }
}

/// A resent batch may be stored at the place where a reader saw it, after another message than before.
#[tokio::test(start_paused = true)]
async fn resent_batch_gets_new_ids_after_rollback() {
    let world = World::new(MemoryResource::new("m", 1 << 20), None);
    let memory = world.memory();
    say(&memory, ["kept".to_owned()]).await;
    let kept = world.store.saved();
    say(&memory, ["lost".to_owned()]).await;
    let prepared = memory.prepare([Message::user("sent twice")]).unwrap();
    memory.send(&prepared).await.unwrap();
    let before = memory.page(None, None).await.unwrap();
    world.store.go_back(&kept);
    say(&memory, ["new".to_owned()]).await;
    let again = memory.send(&prepared).await.unwrap();
    assert!(!again.outcome.is_duplicate());
    let page = memory.page(Some(before.cursor), None).await.unwrap();
    assert!(page.restarted, "the reader would miss what is before it");
    assert_eq!(texts(&memory).await, ["kept", "new", "sent twice"]);
    assert!(memory.send(&prepared).await.unwrap().outcome.is_duplicate());
}

#[tokio::test(start_paused = true)]
async fn agents_continue_after_a_rollback() {
    let world = World::new(hybrid(4_000), None);
    let memory = world.memory();
    say(&memory, (0..10).map(|number| format!("kept {number}"))).await;
    let kept = world.store.saved();
    for round in 0..5 {
        say(&memory, (0..40).map(|number| format!("{round} {number} {}", "x".repeat(80)))).await;
        memory.perform_flush().await.unwrap();
        memory
            .exclusive(async |turn| turn.append(Message::user("a turn")).await)
            .await
            .unwrap()
            .unwrap();
        world.store.go_back(&kept);
        memory
            .exclusive(async |turn| turn.append(Message::user("a turn")).await)
            .await
            .unwrap()
            .unwrap();
        let counters = checked(&memory, &world.manager).await.head.counters;
        assert_eq!((counters.appended, counters.present.messages), (11, 11));
        world.store.go_back(&kept);
    }
}

/// Returns to a saved state after the first answer of a method, and appends as many messages as were lost.
#[derive(Debug)]
struct RollsBack {
    store: InMemoryStore,
    after: Method,
    to: Mutex<Option<(SavedMemories, MemoryInstance)>>,
}

impl Hook for RollsBack {
    async fn around<T: Send>(
        &self,
        method: Method,
        call: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        let answer = call.await;
        let to = self.to.lock().unwrap().take_if(|_| method == self.after);
        if let Some((kept, memory)) = to {
            self.store.go_back(&kept);
            say(&memory, (0..2).map(|number| format!("new  {number}"))).await;
        }
        answer
    }
}

/// The frame of the lost state has its writers, so a copy of the messages that came instead would take the lost ones for
/// known.
#[tokio::test(start_paused = true)]
async fn copy_mixes_no_states_across_a_rollback() {
    for after in [Method::Frame, Method::Removals, Method::Read, Method::Head] {
        let world = World::new(MemoryResource::new("m", 1 << 20), None);
        let memory = world.memory();
        say(&memory, (0..1_100).map(|number| format!("kept {number}"))).await;
        let kept = world.store.saved();
        let lost = memory.prepare((0..2).map(|number| Message::user(format!("lost {number}"))));
        let lost = lost.unwrap();
        memory.send(&lost).await.unwrap();
        let to = Mutex::new(Some((kept, memory.clone())));
        let hook = RollsBack { store: world.store.clone(), after, to };
        let store = Arc::new(Intercept::new(Arc::new(world.store.clone()), hook));
        let locks = world.manager.locks().clone();
        let builder = MemoryManager::builder().with_resource(MemoryResource::new("m", 1 << 20));
        let manager = builder.with_token_counter(bytes()).build(store, locks).unwrap();
        let other = World::new(MemoryResource::new("m", 1 << 20), None);
        let copy = other.memory();
        manager.memory("m", "k").unwrap().copy_to(&copy).await.unwrap();
        let is_lost = texts(&copy).await.last().unwrap().starts_with("lost");
        let sent = copy.send(&lost).await;
        assert_eq!(sent.unwrap().outcome.is_duplicate(), is_lost, "after {after:?}");
        checked(&copy, &other.manager).await;
    }
}
