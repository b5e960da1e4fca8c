//! Views of memories that other processes write, bounds, and erased texts.

use memory_core::store::{Read, StoreError};
use memory_core::{InMemoryStore, MemoryResource, MemoryStore, Message};
use memory_core_testkit::intercept::{Hook, Intercept, Method};
use memory_lock::{ClockExt as _, LockManager};

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::telemetry::recorded::Recorded;
use crate::{FlushMode, MemoryInstance, MemoryManager};

struct World {
    store: Arc<dyn MemoryStore>,
    locks: LockManager,
}

impl World {
    async fn new() -> (Self, MemoryManager) {
        let builder = builder(VIEW_BYTES);
        let manager = builder.open("memory://").await.unwrap();
        let (store, locks) = (Arc::clone(manager.store()), manager.locks().clone());
        (Self { store, locks }, manager)
    }

    /// Another process.
    fn manager(&self, view_bytes: usize) -> MemoryManager {
        builder(view_bytes).build(Arc::clone(&self.store), self.locks.clone()).unwrap()
    }
}

fn builder(view_bytes: usize) -> crate::ManagerBuilder {
    MemoryManager::builder()
        .with_resource(MemoryResource::new("chat", 1 << 20))
        .with_flush_mode(FlushMode::Manual)
        .with_view_bytes(view_bytes)
}

async fn texts(memory: &MemoryInstance) -> Vec<String> {
    let messages = memory.messages().await.unwrap();
    messages.iter().map(|stored| stored.message.text().into_owned()).collect()
}

#[tokio::test]
async fn warm_reads_see_writes_of_others() {
    let (world, manager) = World::new().await;
    let reader = manager.memory("chat", "a").unwrap();
    let writer = world.manager(0).memory("chat", "a").unwrap();
    assert!(reader.messages().await.unwrap().is_empty());
    for round in 0..3 {
        writer.append(Message::user(format!("{round}"))).await.unwrap();
        assert_eq!(texts(&reader).await, texts(&writer).await);
        reader.append(Message::user("mine")).await.unwrap();
        assert_eq!(texts(&reader).await, texts(&writer).await);
        let window = reader.context(1_000).await.unwrap();
        assert_eq!(window.messages.len(), 2 * round + 2);
    }
    writer.clear().await.unwrap();
    assert!(texts(&reader).await.is_empty());
    writer.append(Message::user("new")).await.unwrap();
    assert_eq!(texts(&reader).await, ["new"]);
    let page = reader.page(None, std::num::NonZeroUsize::new(5)).await.unwrap();
    assert_eq!(page, writer.page(None, std::num::NonZeroUsize::new(5)).await.unwrap());
}

#[tokio::test]
async fn newest_messages_are_read_without_a_view() {
    let (world, manager) = World::new().await;
    let reader = manager.memory("chat", "a").unwrap();
    let writer = world.manager(0).memory("chat", "a").unwrap();
    writer.append_all(["one", "two", "three"].map(Message::user)).await.unwrap();
    let two = std::num::NonZeroUsize::new(2).unwrap();
    let cold = reader.page_before(None, two).await.unwrap();
    assert!(matches!(manager.backend().views.find(reader.key()).state, ViewState::Missing));
    reader.messages().await.unwrap();
    assert_eq!(reader.page_before(None, two).await.unwrap(), cold);
    writer.append(Message::user("four")).await.unwrap();
    assert_eq!(reader.last(2).await.unwrap(), writer.last(2).await.unwrap());
    writer.clear().await.unwrap();
    let warm = reader.page_before(Some(cold.cursor), two).await.unwrap();
    assert!(warm.restarted && warm.messages.is_empty());
    assert_eq!(warm, writer.page_before(Some(cold.cursor), two).await.unwrap());
    for appended in 0..4 {
        let warm = reader.page(Some(cold.cursor), Some(two)).await.unwrap();
        assert!(warm.restarted);
        assert_eq!(warm, writer.page(Some(cold.cursor), Some(two)).await.unwrap());
        let warm = reader.page_before(Some(cold.cursor), two).await.unwrap();
        assert_eq!(warm, writer.page_before(Some(cold.cursor), two).await.unwrap());
        writer.append(Message::user(format!("after {appended}"))).await.unwrap();
    }
}

/// Fails reads of all messages.
#[derive(Debug)]
struct NoWholeReads;

impl Hook for NoWholeReads {
    async fn around<T: Send>(
        &self,
        method: Method,
        call: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        assert_ne!(method, Method::Read);
        call.await
    }
}

#[tokio::test]
async fn pop_turn_without_a_view_reads_backward() {
    let (mut world, manager) = World::new().await;
    let writer = manager.memory("chat", "a").unwrap();
    writer.append_all(["one", "two"].map(Message::user)).await.unwrap();
    writer.append_all((0..300).map(|n| Message::assistant(format!("{n}")))).await.unwrap();
    world.store = Arc::new(Intercept::new(world.store, NoWholeReads));
    let memory = world.manager(VIEW_BYTES).memory("chat", "a").unwrap();
    let version = memory.version().await.unwrap();
    assert_eq!(version, writer.version().await.unwrap());
    let withdrawn = memory.pop_turn(version).await.unwrap().applied().unwrap();
    assert_eq!(withdrawn.counters.present.messages, 1);
    assert_eq!(texts(&writer).await, ["one"]);
    for left in [0, 0] {
        let version = memory.version().await.unwrap();
        assert_eq!(version, writer.version().await.unwrap());
        let withdrawn = memory.pop_turn(version).await.unwrap().applied().unwrap();
        assert_eq!(withdrawn.counters.present.messages, left);
    }
}

#[tokio::test]
async fn bytes_of_all_views_are_bounded() {
    let (world, _) = World::new().await;
    let limit = 64 << 10;
    let manager = world.manager(limit);
    let views = &manager.backend().views;
    let memory = manager.memory("chat", "first").unwrap();
    let messages = [Message::user("x".repeat(1_000)), Message::user("short")];
    memory.append_all(messages).await.unwrap();
    let page = world.store.read(memory.key(), Read::default()).await.unwrap();
    let key = |number: u32| MemoryKey::new("p", "chat", &number.to_string()).unwrap();
    for number in 0..10_000 {
        let view = views.advance(&key(number), views.find(&key(number)), page.clone());
        assert_eq!(view.messages().len(), 2);
        assert!(views.lock().bytes <= limit);
    }
    let is_kept = |number: u32| matches!(views.find(&key(number)).state, ViewState::View(..));
    assert!(is_kept(9_999) && is_kept(9_980) && !is_kept(9_900));
    let sum: usize = views.lock().entries.iter().map(|(_, entry)| entry.bytes()).sum();
    assert_eq!(sum, views.lock().bytes);
}

#[tokio::test]
async fn slow_readers_keep_no_erased_text() {
    let (world, _) = World::new().await;
    let manager = world.manager(VIEW_BYTES);
    let views = &manager.backend().views;
    let memory = manager.memory("chat", "a").unwrap();
    memory.append(Message::user("secret")).await.unwrap();
    let mut page = world.store.read(memory.key(), Read::default()).await.unwrap();
    let slow = views.find(memory.key());
    memory.erase([memory_core::Sequence::new(1)], "test").await.unwrap();
    assert!(texts(&memory).await.is_empty());
    for restarted in [false, true] {
        page.restarted = restarted;
        memory.append(Message::user("later")).await.unwrap();
        memory.messages().await.unwrap();
        views.advance(memory.key(), slow.clone(), page.clone());
        let ViewState::View(view, _) = views.find(memory.key()).state else {
            panic!("{restarted}")
        };
        assert!(view.messages().iter().all(|message| message.text() == "later"));
    }
}

#[tokio::test]
async fn large_memory_has_no_view_until_it_shrinks() {
    let (world, _) = World::new().await;
    let manager = world.manager(8 << 10);
    let memory = manager.memory("chat", "large").unwrap();
    let views = &manager.backend().views;
    memory.append_all(vec![Message::user("y".repeat(500)); 20]).await.unwrap();
    assert_eq!(memory.messages().await.unwrap().len(), 20);
    assert!(matches!(views.find(memory.key()).state, ViewState::Excluded));
    let without = world.manager(0).memory_at(memory.key()).unwrap();
    let window = memory.context(300).await.unwrap();
    assert_eq!(window, without.context(300).await.unwrap());
    assert!(!window.messages.is_empty());
    memory.clear().await.unwrap();
    memory.append(Message::user("small")).await.unwrap();
    assert_eq!(memory.context(300).await.unwrap().messages.len(), 1);
    assert_eq!(memory.messages().await.unwrap().len(), 1);
    assert!(matches!(views.find(memory.key()).state, ViewState::View(..)));
}

#[tokio::test]
async fn state_that_went_back_replaces_the_view() {
    let (world, _) = World::new().await;
    let store = Arc::new(InMemoryStore::new(memory_lock::Clock::system()));
    let world = World { store: Arc::clone(&store) as _, ..world };
    let reader = world.manager(VIEW_BYTES).memory("chat", "a").unwrap();
    let writer = world.manager(0).memory("chat", "a").unwrap();
    writer.append(Message::user("one")).await.unwrap();
    let saved = store.saved();
    writer.append(Message::user("lost")).await.unwrap();
    assert_eq!(texts(&reader).await, ["one", "lost"]);
    store.go_back(&saved);
    assert_eq!(texts(&reader).await, ["one"]);
    writer.append(Message::user("two")).await.unwrap();
    assert_eq!(texts(&reader).await, ["one", "two"]);
    // Warm again: the view that was rebuilt is kept.
    let ViewState::View(view, _) = reader.inner.backend.views.find(reader.key()).state else {
        panic!()
    };
    assert_eq!(view.messages().len(), 2);
}

#[tokio::test]
async fn large_memory_stays_cold_until_it_fits() {
    let (world, _) = World::new().await;
    let manager = world.manager(8 << 10);
    let memory = manager.memory("chat", "large").unwrap();
    let is_excluded =
        || matches!(manager.backend().views.find(memory.key()).state, ViewState::Excluded);
    memory.append_all(vec![Message::user("y".repeat(500)); 40]).await.unwrap();
    memory.context(300).await.unwrap();
    assert!(is_excluded());
    // A little smaller in another generation.
    let version = memory.version().await.unwrap();
    let _ = memory.rewind(memory_core::Sequence::new(36), version).await.unwrap();
    memory.context(300).await.unwrap();
    memory.version().await.unwrap();
    assert!(is_excluded());
    assert_eq!(memory.messages().await.unwrap().len(), 36);
    assert!(is_excluded());
    // Small: a whole read is enough.
    let version = memory.version().await.unwrap();
    let _ = memory.rewind(memory_core::Sequence::new(2), version).await.unwrap();
    assert_eq!(memory.messages().await.unwrap().len(), 2);
    assert!(!is_excluded());
}

#[tokio::test]
async fn waiting_readers_share_one_view() {
    let (world, manager) = World::new().await;
    let reader = manager.memory("chat", "a").unwrap();
    let writer = world.manager(0).memory("chat", "a").unwrap();
    let views = &manager.backend().views;
    writer.append(Message::user("one")).await.unwrap();
    reader.messages().await.unwrap();
    writer.append(Message::user("two")).await.unwrap();
    let [first, second, third] = [(); 3].map(|()| views.find(reader.key()));
    let ViewState::View(before, _) = &first.state else { panic!("{first:?}") };
    let after = Some(before.cursor());
    let page = world.store.read(reader.key(), Read { after, limit: None }).await.unwrap();
    let ahead = views.advance(reader.key(), first, page.clone());
    // A batch of this process after the view.
    reader.append(Message::user("mine")).await.unwrap();
    let behind = views.advance(reader.key(), second, page);
    assert!(Arc::ptr_eq(&ahead, &behind));
    let ViewState::View(_, own) = views.find(reader.key()).state else { panic!("no view") };
    assert_eq!(own.len(), 1);
    // A slower reader has more than the view: the batch is after its end too.
    writer.append(Message::user("four")).await.unwrap();
    drop(third);
    assert_eq!(texts(&reader).await, ["one", "two", "mine", "four"]);
}

/// While a view grows it is not kept, and other readers wait for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn growing_view_is_never_missing() {
    let (world, manager) = World::new().await;
    let memory = manager.memory("chat", "a").unwrap();
    for batch in 0..4 {
        let numbers = batch * 1_000..(batch + 1) * 1_000;
        let messages = numbers.map(|number: u32| Message::user(number.to_string()));
        memory.append_all(messages).await.unwrap();
    }
    let (mut pages, mut after) = (Vec::new(), None);
    loop {
        let limit = std::num::NonZeroUsize::new(100).map(Into::into);
        let mut page = world.store.read(memory.key(), Read { after, limit }).await.unwrap();
        let is_last = !std::mem::take(&mut page.more);
        after = Some(page.cursor);
        pages.push(page);
        if is_last {
            break;
        }
    }
    let views = &manager.backend().views;
    let mut pages = pages.into_iter();
    views.advance(memory.key(), views.find(memory.key()), pages.next().unwrap());
    let looks = Arc::new(AtomicUsize::new(0));
    let reader = {
        let (manager, key, looks) = (manager.clone(), memory.key().clone(), Arc::clone(&looks));
        tokio::spawn(async move {
            loop {
                looks.fetch_add(1, Ordering::Relaxed);
                let (found, _) = manager.backend().views.find_or_read(&key).await;
                let ViewState::View(view, _) = found.state else { panic!("{:?}", found.state) };
                if view.metas().len() == 4_000 {
                    break;
                }
            }
        })
    };
    for page in pages {
        let before = looks.load(Ordering::Relaxed);
        while looks.load(Ordering::Relaxed) < before + 3 && !reader.is_finished() {
            tokio::task::yield_now().await;
        }
        views.advance(memory.key(), views.find(memory.key()), page);
    }
    reader.await.unwrap();
}

#[tokio::test]
async fn uncertain_erasure_keeps_slow_readers_out() {
    let (world, manager) = World::new().await;
    let memory = manager.memory("chat", "a").unwrap();
    let views = &manager.backend().views;
    memory.append(Message::user("secret")).await.unwrap();
    let slow = views.find(memory.key());
    let page = world.store.read(memory.key(), Read::default()).await.unwrap();
    views.forget(memory.key());
    // A later reader that was dropped.
    let later = views.find(memory.key());
    views.advance(memory.key(), slow, page.clone());
    assert!(matches!(views.find(memory.key()).state, ViewState::Missing));
    views.advance(memory.key(), later, page);
    assert!(matches!(views.find(memory.key()).state, ViewState::View(..)));
}

#[tokio::test]
async fn removal_of_all_messages_drops_the_view() {
    let (_world, manager) = World::new().await;
    let memory = manager.memory("chat", "a").unwrap();
    let has_view = || {
        let state = manager.backend().views.find(memory.key()).state;
        matches!(state, ViewState::View(..))
    };
    for removal in ["clear", "purge", "replace_all"] {
        memory.append(Message::user("secret")).await.unwrap();
        memory.messages().await.unwrap();
        assert!(has_view());
        match removal {
            "clear" => drop(memory.clear().await.unwrap()),
            "purge" => drop(memory.purge().await.unwrap()),
            _ => drop(memory.replace_all([Message::user("new")], None).await.unwrap()),
        }
        assert!(!has_view(), "{removal} left the text in the view");
    }
}

#[tokio::test]
async fn memory_with_damage_has_no_view() {
    let (world, manager) = World::new().await;
    let memory = manager.memory("chat", "a").unwrap();
    let views = &manager.backend().views;
    memory.append_all(["one", "two"].map(Message::user)).await.unwrap();
    let mut page = world.store.read(memory.key(), Read::default()).await.unwrap();
    let damaged = page.messages.pop().unwrap();
    page.unreadable.push(damaged.meta.sequence);
    let view = views.advance(memory.key(), views.find(memory.key()), page);
    assert_eq!((view.messages().len(), view.has_damage()), (1, true));
    let is_excluded = || matches!(views.find(memory.key()).state, ViewState::Excluded);
    assert!(is_excluded());
    memory.context(300).await.unwrap();
    assert!(is_excluded());
    memory.replace(damaged.meta.sequence, Message::user("mended")).await.unwrap().unwrap();
    assert_eq!(memory.context(300).await.unwrap().messages.len(), 2);
    assert_eq!(texts(&memory).await, ["one", "mended"]);
    assert!(matches!(views.find(memory.key()).state, ViewState::View(..)));
}

#[tokio::test]
async fn metrics_count_reads_and_bytes_of_views() {
    let sums = Recorded::default();
    let (world, _) = World::new().await;
    let manager = {
        let _local = metrics::set_default_local_recorder(&sums);
        world.manager(16 << 10)
    };
    for (name, reads) in [("a", 2), ("b", 1)] {
        let memory = manager.memory("chat", name).unwrap();
        memory.append(Message::user("x".repeat(9_000))).await.unwrap();
        for _ in 0..reads {
            memory.messages().await.unwrap();
        }
        let bytes = sums.exactly("memory_view_bytes{project=default}");
        assert!((9_000.0..16_384.0).contains(&bytes), "{bytes}");
    }
    assert_eq!(sums.exactly("memory_view_reads_total{project=default,view=warm}"), 1.0);
    assert_eq!(sums.exactly("memory_view_reads_total{project=default,view=cold}"), 2.0);
    assert_eq!(sums.exactly("memory_view_evictions_total{project=default}"), 1.0);
    let large = manager.memory("chat", "c").unwrap();
    large.append(Message::user("x".repeat(20_000))).await.unwrap();
    large.messages().await.unwrap();
    large.messages().await.unwrap();
    assert_eq!(sums.exactly("memory_view_reads_total{project=default,view=excluded}"), 1.0);
    drop((large, manager));
    assert_eq!(sums.exactly("memory_view_bytes{project=default}"), 0.0);
}
