//! The views of a manager: the decoded messages of its memories, bounded in bytes.

mod own_batches;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lru::LruCache;
use memory_core::MemoryKey;
use memory_core::sibling::{OwnBatch, View};
use memory_core::store::{Generation, Page};
use metrics::{Counter, Gauge, counter, gauge};

use self::own_batches::OwnBatches;

/// The default of [`ManagerBuilder::with_view_bytes`](crate::ManagerBuilder::with_view_bytes): 64 MiB.
pub(crate) const VIEW_BYTES: usize = 64 << 20;

/// The size of an entry beside its view: the node of the list, the place in the table and the key.
const ENTRY_BYTES: usize = 256;

/// The views of all memories of a manager, up to a number of bytes. The least recently used view is dropped first.
///
/// A view is shared with the readers that are using it, so a dropped view occupies memory until they end.
pub(crate) struct Views {
    max_bytes: usize,
    kept: Mutex<Kept>,
    warm: Counter,
    cold: Counter,
    evicted: Counter,
    bytes: Gauge,
}

struct Kept {
    entries: LruCache<MemoryKey, CachedView>,
    bytes: usize,
}

#[derive(Debug)]
enum CachedView {
    /// The view, and the batches that this process appended after it in the view's generation.
    View(Arc<View>, OwnBatches),
    /// In this generation the memory is larger than all views together may be.
    TooLarge(Generation),
    /// Messages were erased, with this generation: a reader that began before must not bring them back.
    Erased(Generation),
}

impl CachedView {
    fn bytes(&self) -> usize {
        let content = match self {
            Self::View(view, own) => view.bytes() + own.bytes(),
            Self::TooLarge(_) | Self::Erased(_) => 0,
        };
        ENTRY_BYTES + content
    }
}

/// The state of a memory's view before a read.
#[derive(Debug, Clone)]
pub(crate) enum Found {
    /// This view, and the batches that this process appended after it.
    View(Arc<View>, Vec<OwnBatch>),
    /// None, but one may be kept.
    Nothing,
    /// Views are off, or the memory was too large for one.
    Excluded,
}

impl Views {
    pub(crate) fn new(max_bytes: usize) -> Self {
        let read = |outcome: &'static str| counter!("memory_view_reads_total", "view" => outcome);
        let kept = Kept { entries: LruCache::unbounded(), bytes: 0 };
        Self {
            max_bytes,
            kept: Mutex::new(kept),
            warm: read("warm"),
            cold: read("cold"),
            evicted: counter!("memory_view_evictions_total"),
            bytes: gauge!("memory_view_bytes"),
        }
    }

    /// The view of this memory, which is now the most recently used.
    pub(crate) fn find(&self, key: &MemoryKey) -> Found {
        if self.max_bytes == 0 {
            return Found::Excluded;
        }
        let mut kept = self.lock();
        let found = match kept.entries.get(key) {
            Some(CachedView::View(view, own)) => {
                Found::View(Arc::clone(view), own.as_slice().to_vec())
            }
            Some(CachedView::TooLarge(_)) => Found::Excluded,
            Some(CachedView::Erased(_)) | None => Found::Nothing,
        };
        drop(kept);
        let counted = if matches!(found, Found::View(..)) { &self.warm } else { &self.cold };
        counted.increment(1);
        found
    }

    /// The memory has this generation. One that was too large in another generation may have a view again.
    pub(crate) fn observe(&self, key: &MemoryKey, generation: Generation) {
        if self.max_bytes == 0 {
            return;
        }
        let mut kept = self.lock();
        if let Some(CachedView::TooLarge(at)) = kept.entries.peek(key)
            && *at != generation
        {
            self.remove(&mut kept, key);
        }
    }

    /// The generation of the memory's view, if there is one.
    pub(crate) fn generation(&self, key: &MemoryKey) -> Option<Generation> {
        if self.max_bytes == 0 {
            return None;
        }
        match self.lock().entries.peek(key)? {
            CachedView::View(view, _) => Some(view.cursor().generation),
            CachedView::TooLarge(_) | CachedView::Erased(_) => None,
        }
        // A memory that was never written gets its generation with the append.
        .filter(|generation| *generation != Generation::NONE)
    }

    /// Keeps a batch that was appended after its sender knew this generation, if the view is still of this generation
    /// and before the batch. A batch of another generation may have lost messages to a flush.
    pub(crate) fn keep_own(&self, key: &MemoryKey, generation: Generation, batch: OwnBatch) {
        let mut kept = self.lock();
        let Some(CachedView::View(view, own)) = kept.entries.peek_mut(key) else { return };
        let cursor = view.cursor();
        let content = view.bytes().saturating_add(own.bytes()).saturating_add(batch.bytes());
        let fits = content.saturating_add(ENTRY_BYTES) <= self.max_bytes;
        let is_after = cursor.generation == generation && batch.known().first > cursor.sequence;
        if !fits || !is_after {
            return;
        }
        let before = own.bytes();
        own.add(batch);
        let after = own.bytes();
        self.discount(&mut kept, before);
        self.count(&mut kept, after);
        self.evict(&mut kept);
    }

    /// Applies the complete page after the cursor of this view, and keeps the result.
    pub(crate) fn advance(&self, key: &MemoryKey, found: Found, page: Page) -> Arc<View> {
        let (mut view, requested, outdated) = match found {
            Found::View(view, requested) if !view.is_changed_by(&page) => {
                self.drop_own(key, &requested);
                return view;
            }
            Found::View(view, requested) if !page.restarted => (view, requested, None),
            Found::View(view, _) => (Arc::default(), Vec::new(), Some(view)),
            Found::Nothing | Found::Excluded => (Arc::default(), Vec::new(), None),
        };
        let mut own = OwnBatches::default();
        // Without another reader the view grows in place, otherwise this reader continues with a copy.
        if self.max_bytes > 0 {
            let mut kept = self.lock();
            let is_outdated = |entry: &CachedView| match entry {
                CachedView::View(current, _) => {
                    Arc::ptr_eq(current, outdated.as_ref().unwrap_or(&view))
                        || page.restarted && current.cursor().generation <= page.cursor.generation
                }
                CachedView::TooLarge(_) => true,
                CachedView::Erased(_) => false,
            };
            if kept.entries.peek(key).is_some_and(is_outdated) {
                own = self.remove(&mut kept, key);
            }
        }
        if page.restarted {
            own = OwnBatches::default();
        }
        own.remove(&requested);
        Arc::make_mut(&mut view).apply(page);
        self.keep(key, &view, own);
        view
    }

    /// Forgets batches of this process that are not stored.
    fn drop_own(&self, key: &MemoryKey, requested: &[OwnBatch]) {
        if requested.is_empty() {
            return;
        }
        let mut kept = self.lock();
        if let Some(CachedView::View(_, own)) = kept.entries.peek_mut(key) {
            let before = own.bytes();
            own.remove(requested);
            let dropped = before - own.bytes();
            self.discount(&mut kept, dropped);
        }
    }

    fn keep(&self, key: &MemoryKey, view: &Arc<View>, mut own: OwnBatches) {
        if self.max_bytes == 0 {
            return;
        }
        let cursor = view.cursor();
        let is_older = |entry: &CachedView| match entry {
            // A later generation may be without erased messages.
            CachedView::View(other, _) => {
                (other.cursor().generation, other.cursor().sequence)
                    > (cursor.generation, cursor.sequence)
            }
            CachedView::Erased(generation) => cursor.generation < *generation,
            CachedView::TooLarge(_) => false,
        };
        let fits = |own: usize| {
            view.bytes().saturating_add(own).saturating_add(ENTRY_BYTES) <= self.max_bytes
        };
        let mut kept = self.lock();
        // Another reader may have read more meanwhile.
        if kept.entries.peek(key).is_some_and(is_older) {
            return;
        }
        self.remove(&mut kept, key);
        own.remove_up_to(cursor);
        if !fits(own.bytes()) {
            own = OwnBatches::default();
        }
        let entry = if fits(0) {
            CachedView::View(Arc::clone(view), own)
        } else {
            CachedView::TooLarge(cursor.generation)
        };
        self.count(&mut kept, entry.bytes());
        kept.entries.put(key.clone(), entry);
        self.evict(&mut kept);
    }

    /// Drops the view of a memory, and the batches that this process appended.
    pub(crate) fn forget(&self, key: &MemoryKey) {
        self.remove(&mut self.lock(), key);
    }

    /// Drops the view of a memory of which messages were erased with this generation. A reader that began before keeps
    /// no view.
    pub(crate) fn erased(&self, key: &MemoryKey, generation: Generation) {
        if self.max_bytes == 0 {
            return;
        }
        let mut kept = self.lock();
        self.remove(&mut kept, key);
        let entry = CachedView::Erased(generation);
        self.count(&mut kept, entry.bytes());
        kept.entries.put(key.clone(), entry);
        self.evict(&mut kept);
    }

    fn evict(&self, kept: &mut Kept) {
        while kept.bytes > self.max_bytes {
            let Some((_, dropped)) = kept.entries.pop_lru() else { break };
            self.discount(kept, dropped.bytes());
            self.evicted.increment(1);
        }
    }

    /// Removes a memory's entry and returns its own batches.
    fn remove(&self, kept: &mut Kept, key: &MemoryKey) -> OwnBatches {
        let Some(entry) = kept.entries.pop(key) else { return OwnBatches::default() };
        self.discount(kept, entry.bytes());
        match entry {
            CachedView::View(_, own) => own,
            CachedView::TooLarge(_) | CachedView::Erased(_) => OwnBatches::default(),
        }
    }

    fn count(&self, kept: &mut Kept, bytes: usize) {
        kept.bytes += bytes;
        self.bytes.increment(float(bytes));
    }

    fn discount(&self, kept: &mut Kept, bytes: usize) {
        kept.bytes = kept.bytes.saturating_sub(bytes);
        self.bytes.decrement(float(bytes));
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
const fn float(bytes: usize) -> f64 {
    bytes as f64
}

impl Drop for Views {
    fn drop(&mut self) {
        self.bytes.decrement(float(self.lock().bytes));
    }
}

impl fmt::Debug for Views {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kept = self.lock();
        f.debug_struct("Views")
            .field("max_bytes", &self.max_bytes)
            .field("views", &kept.entries.len())
            .field("bytes", &kept.bytes)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use memory_core::store::Read;
    use memory_core::{InMemoryStore, MemoryResource, MemoryStore, Message};
    use memory_lock::{ClockExt as _, LockManager};

    use super::*;
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
        assert!(matches!(manager.backend().views.find(reader.key()), Found::Nothing));
        reader.messages().await.unwrap();
        assert_eq!(reader.page_before(None, two).await.unwrap(), cold);
        writer.append(Message::user("four")).await.unwrap();
        assert_eq!(reader.last(2).await.unwrap(), writer.last(2).await.unwrap());
        writer.clear().await.unwrap();
        let warm = reader.page_before(Some(cold.cursor), two).await.unwrap();
        assert!(warm.restarted && warm.messages.is_empty());
        assert_eq!(warm, writer.page_before(Some(cold.cursor), two).await.unwrap());
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
            let view = views.advance(&key(number), Found::Nothing, page.clone());
            assert_eq!(view.messages().len(), 2);
            assert!(views.lock().bytes <= limit);
        }
        let is_kept = |number: u32| matches!(views.find(&key(number)), Found::View(..));
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
        memory.erase([memory_core::Sequence::new(1)], "test").await.unwrap();
        assert!(texts(&memory).await.is_empty());
        for restarted in [false, true] {
            page.restarted = restarted;
            let found = if restarted { views.find(memory.key()) } else { Found::Nothing };
            memory.append(Message::user("later")).await.unwrap();
            memory.messages().await.unwrap();
            views.advance(memory.key(), found, page.clone());
            let Found::View(view, _) = views.find(memory.key()) else { panic!("{restarted}") };
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
        assert!(matches!(views.find(memory.key()), Found::Excluded));
        let without = world.manager(0).memory_at(memory.key()).unwrap();
        let window = memory.context(300).await.unwrap();
        assert_eq!(window, without.context(300).await.unwrap());
        assert!(!window.messages.is_empty());
        memory.clear().await.unwrap();
        memory.append(Message::user("small")).await.unwrap();
        assert_eq!(memory.context(300).await.unwrap().messages.len(), 1);
        assert_eq!(memory.messages().await.unwrap().len(), 1);
        assert!(matches!(views.find(memory.key()), Found::View(..)));
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
        let Found::View(view, _) = reader.inner.backend.views.find(reader.key()) else { panic!() };
        assert_eq!(view.messages().len(), 2);
    }
}
