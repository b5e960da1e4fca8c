//! The views of a manager: the decoded messages of its memories, bounded in bytes.

mod cold_reads;
mod own_batches;
#[cfg(test)]
mod tests;

use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lru::LruCache;
use memory_core::MemoryKey;
use memory_core::sibling::{OwnBatch, View};
use memory_core::store::{Generation, Head, Page};
use metrics::{Counter, Gauge, counter, gauge};

pub(crate) use self::cold_reads::ColdRead;
use self::cold_reads::{ColdReads, Ended};
use self::own_batches::OwnBatches;

/// The default of [`ManagerBuilder::with_view_bytes`](crate::ManagerBuilder::with_view_bytes): 64 MiB.
pub(crate) const VIEW_BYTES: usize = 64 << 20;

/// The size of an entry beside its view: the node of the list, the place in the table and the key.
const ENTRY_BYTES: usize = 256;

/// Erasures are counted by groups of memories: a read of the same group that began before one is not kept.
const ERASURE_GROUPS: usize = 64;

/// The views of all memories of a manager, up to a number of bytes. The least recently used view is dropped first.
///
/// A view is shared with the readers that are using it, so a dropped view occupies memory until they end.
pub(crate) struct Views {
    max_bytes: usize,
    kept: Mutex<Kept>,
    cold_reads: Arc<ColdReads>,
    hasher: RandomState,
    warm: Counter,
    cold: Counter,
    excluded: Counter,
    evicted: Counter,
    bytes: Gauge,
}

struct Kept {
    entries: LruCache<MemoryKey, CachedView>,
    bytes: usize,
    erasures: [u64; ERASURE_GROUPS],
}

#[derive(Debug)]
enum CachedView {
    /// The view, and the batches that this process appended after it in the view's generation.
    View(Arc<View>, OwnBatches),
    /// The memory is larger than all views together may be.
    TooLarge(Size),
    /// A message of this generation cannot be decoded. The store knows its metadata, which a window is planned with.
    Damaged(Generation),
}

/// The size of a memory without a view.
#[derive(Debug, Clone, Copy)]
struct Size {
    generation: Generation,
    tokens: u64,
    bytes: usize,
}

impl Size {
    fn of(view: &View) -> Self {
        let tokens = view.metas().iter().map(|meta| u64::from(meta.tokens)).sum();
        Self { generation: view.cursor().generation, tokens, bytes: view.bytes() }
    }

    /// The bytes of a view of the memory with this many tokens, about.
    fn at(self, tokens: u64) -> u64 {
        let bytes = self.bytes as u128 * u128::from(tokens) / u128::from(self.tokens.max(1));
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }
}

impl CachedView {
    fn bytes(&self) -> usize {
        let content = match self {
            Self::View(view, own) => view.bytes() + own.bytes(),
            Self::TooLarge(_) | Self::Damaged(_) => 0,
        };
        ENTRY_BYTES + content
    }
}

/// The knowledge of a memory when a read began.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) state: ViewState,
    /// The erasures until then.
    erasures: u64,
}

/// The state of a memory's view.
#[derive(Debug, Clone)]
pub(crate) enum ViewState {
    /// This view, and the batches that this process appended after it.
    View(Arc<View>, Vec<OwnBatch>),
    /// None, but one may be kept.
    Missing,
    /// Views are off, or the memory was too large for one or has a damaged message.
    Excluded,
}

impl Views {
    pub(crate) fn new(max_bytes: usize, project: &str) -> Self {
        let read = |outcome: &'static str| counter!("memory_view_reads_total", "project" => project.to_owned(), "view" => outcome);
        let erasures = [0; ERASURE_GROUPS];
        let kept = Kept { entries: LruCache::unbounded(), bytes: 0, erasures };
        Self {
            max_bytes,
            kept: Mutex::new(kept),
            cold_reads: Arc::default(),
            hasher: RandomState::new(),
            warm: read("warm"),
            cold: read("cold"),
            excluded: read("excluded"),
            evicted: counter!("memory_view_evictions_total", "project" => project.to_owned()),
            bytes: gauge!("memory_view_bytes", "project" => project.to_owned()),
        }
    }

    /// The view of this memory, or the task to read all its messages, which concurrent readers share: one of them reads,
    /// and the others wait for its view. Like every view, it must be [advanced](Self::advance) by a later read.
    ///
    /// Cancel safety: if the reader that reads is dropped, another one does it.
    pub(crate) async fn find_or_read(&self, key: &MemoryKey) -> (Found, Option<ColdRead>) {
        loop {
            if self.max_bytes == 0 {
                return (self.find(key), None);
            }
            if let Some(found) = self.find_known(key) {
                return (found, None);
            }
            match self.cold_reads.begin(key) {
                Ok(read) => return (self.find(key), Some(read)),
                Err(other) => match other.ended().await {
                    Ended::Finished => {}
                    Ended::Failed => return (self.find(key), None),
                },
            }
        }
    }

    /// The known state of the memory; `None` if nothing is known, so that it may have a view.
    fn find_known(&self, key: &MemoryKey) -> Option<Found> {
        let kept = self.lock();
        kept.entries.contains(key).then(|| self.find_in(kept, key))
    }

    /// The view of this memory, which is now the most recently used.
    pub(crate) fn find(&self, key: &MemoryKey) -> Found {
        if self.max_bytes == 0 {
            return Found { state: ViewState::Excluded, erasures: 0 };
        }
        self.find_in(self.lock(), key)
    }

    fn find_in(&self, mut kept: MutexGuard<'_, Kept>, key: &MemoryKey) -> Found {
        let erasures = self.erasures(&kept, key);
        let (state, counted) = match kept.entries.get(key) {
            Some(CachedView::View(view, own)) => {
                let state = ViewState::View(Arc::clone(view), own.as_slice().to_vec());
                (state, &self.warm)
            }
            Some(CachedView::TooLarge(_) | CachedView::Damaged(_)) => {
                (ViewState::Excluded, &self.excluded)
            }
            None => (ViewState::Missing, &self.cold),
        };
        drop(kept);
        counted.increment(1);
        Found { state, erasures }
    }

    /// The number of erasures in the group of this memory.
    fn erasures(&self, kept: &Kept, key: &MemoryKey) -> u64 {
        kept.erasures.get(self.erasure_group(key)).copied().unwrap_or_default()
    }

    fn erasure_group(&self, key: &MemoryKey) -> usize {
        let group = self.hasher.hash_one(key) % ERASURE_GROUPS as u64;
        usize::try_from(group).unwrap_or_default()
    }

    /// Whether there are views.
    pub(crate) const fn are_on(&self) -> bool {
        self.max_bytes > 0
    }

    /// The memory has this head. One that was too large may have a view again once it has fewer tokens, and one with a
    /// damaged message once it was changed.
    pub(crate) fn observe(&self, key: &MemoryKey, head: &Head) {
        if self.max_bytes == 0 {
            return;
        }
        let mut kept = self.lock();
        let may_have_one = match kept.entries.peek(key) {
            Some(CachedView::TooLarge(size)) => {
                size.generation != head.generation
                    && size.at(head.counters.present.tokens) <= self.max_bytes as u64
            }
            Some(CachedView::Damaged(generation)) => *generation != head.generation,
            Some(CachedView::View(..)) | None => false,
        };
        if may_have_one {
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
            CachedView::TooLarge(_) | CachedView::Damaged(_) => None,
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
        let Found { state, erasures } = found;
        let (mut view, requested, outdated) = match state {
            ViewState::View(view, requested) if !view.is_changed_by(&page) => {
                self.drop_own(key, &requested);
                return view;
            }
            ViewState::View(view, requested) if !page.restarted => (view, requested, None),
            ViewState::View(view, _) => (Arc::default(), Vec::new(), Some(view)),
            ViewState::Missing | ViewState::Excluded => (Arc::default(), Vec::new(), None),
        };
        let mut own = OwnBatches::default();
        // Until the view is kept again, other readers wait for it instead of reading the whole memory.
        let mut growing = None;
        if self.max_bytes > 0 {
            let mut kept = self.lock();
            // Readers that wait for the same message need one copy: the view with it, of the fastest reader.
            if let Some(CachedView::View(current, _)) = kept.entries.peek(key)
                && !page.restarted
                && current.cursor() == page.cursor
            {
                let current = Arc::clone(current);
                drop(kept);
                self.drop_own(key, &requested);
                return current;
            }
            let is_taken = |entry: &CachedView| match entry {
                CachedView::View(current, _) if page.restarted => {
                    outdated.as_ref().is_some_and(|outdated| Arc::ptr_eq(current, outdated))
                        || current.cursor().generation <= page.cursor.generation
                }
                // Without another reader the view grows in place. Otherwise this reader continues with a copy, and the
                // view stays for those who begin meanwhile.
                CachedView::View(current, _) => {
                    Arc::ptr_eq(current, &view) && Arc::strong_count(current) == 2
                }
                CachedView::TooLarge(_) | CachedView::Damaged(_) => true,
            };
            if kept.entries.peek(key).is_some_and(is_taken) {
                growing = self.cold_reads.begin(key).ok();
                own = self.remove(&mut kept, key);
            }
        }
        if page.restarted {
            own = OwnBatches::default();
        }
        Arc::make_mut(&mut view).apply(page);
        self.keep(key, &view, own, &requested, erasures);
        drop(growing);
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

    /// Keeps a view of a reader that began after this many erasures.
    fn keep(
        &self,
        key: &MemoryKey,
        view: &Arc<View>,
        mut own: OwnBatches,
        requested: &[OwnBatch],
        erasures: u64,
    ) {
        if self.max_bytes == 0 {
            return;
        }
        let cursor = view.cursor();
        let fits = |own: usize| {
            view.bytes().saturating_add(own).saturating_add(ENTRY_BYTES) <= self.max_bytes
        };
        let mut kept = self.lock();
        if self.erasures(&kept, key) != erasures {
            return;
        }
        let present = kept.entries.peek(key);
        let is_newer = |entry: &CachedView| match entry {
            // Another reader has read as much or more meanwhile. A later generation may be without erased messages.
            CachedView::View(other, _) => {
                let other = other.cursor();
                let position = (other.generation, other.sequence);
                other == cursor || position > (cursor.generation, cursor.sequence)
            }
            CachedView::TooLarge(_) | CachedView::Damaged(_) => false,
        };
        if present.is_some_and(is_newer) {
            return;
        }
        let is_of_generation = matches!(
            present,
            Some(CachedView::View(other, _)) if other.cursor().generation == cursor.generation
        );
        let later = self.remove(&mut kept, key);
        if is_of_generation {
            own.merge(later);
        }
        own.remove(requested);
        own.remove_up_to(cursor);
        if !fits(own.bytes()) {
            own = OwnBatches::default();
        }
        let entry = if view.has_damage() {
            CachedView::Damaged(cursor.generation)
        } else if fits(0) {
            CachedView::View(Arc::clone(view), own)
        } else {
            CachedView::TooLarge(Size::of(view))
        };
        self.count(&mut kept, entry.bytes());
        kept.entries.put(key.clone(), entry);
        self.evict(&mut kept);
    }

    /// Drops the view of a memory of which messages may have been erased, and the batches that this process appended.
    /// A reader that began before keeps no view.
    pub(crate) fn forget(&self, key: &MemoryKey) {
        if self.max_bytes == 0 {
            return;
        }
        let mut kept = self.lock();
        if let Some(erasures) = kept.erasures.get_mut(self.erasure_group(key)) {
            *erasures += 1;
        }
        self.remove(&mut kept, key);
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
            CachedView::TooLarge(_) | CachedView::Damaged(_) => OwnBatches::default(),
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
