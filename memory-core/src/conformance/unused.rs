//! Unused memories, and their removal.

use std::num::NonZeroUsize;
use std::time::Duration;

use super::{Case, Subject, batch, cases_of, key, lease, writer};
use crate::store::{
    Access, Cursor, ExpiredMemories, Head, Read, RemoveUnused, RemovedUnused, StoreErrorKind,
    UnusedMemory, UnusedPage, UnusedQuery,
};
use crate::{MemoryKey, Sequence};

pub(super) const CASES: &[Case] = cases_of![
    unused_memories_are_listed_by_age,
    unused_memories_are_listed_by_project_in_pages,
    removed_memory_reads_unwritten,
    memory_written_after_listing_is_kept,
    memory_is_removed_in_parts,
    write_between_parts_starts_over,
    expired_memory_is_removed,
    removed_memory_fences_stale_tokens,
];

pub(super) const DAY: Duration = Duration::from_secs(86_400);

fn most(number: usize) -> NonZeroUsize {
    NonZeroUsize::new(number).unwrap()
}

fn query() -> UnusedQuery {
    UnusedQuery {
        prefix: MemoryKey::project_prefix("conformance"),
        after: None,
        expired: ExpiredMemories::Selected,
        unwritten_for: None,
        limit: most(100),
    }
}

impl Subject {
    async fn unused(&self, query: UnusedQuery) -> UnusedPage {
        self.store.unused(&query).await.unwrap()
    }

    /// The memories whose TTL has expired.
    pub(super) async fn unused_now(&self) -> Vec<UnusedMemory> {
        self.unused(query()).await.memories
    }

    /// The memories that were not written for a day.
    pub(super) async fn old(&self) -> Vec<UnusedMemory> {
        self.unused(UnusedQuery { unwritten_for: Some(DAY), ..query() }).await.memories
    }

    pub(super) async fn remove(&self, memory: &UnusedMemory, limit: usize) -> RemovedUnused {
        let remove = RemoveUnused::new(memory, most(limit));
        self.store.remove(&memory.key, remove).await.unwrap()
    }
}

fn only(mut memories: Vec<UnusedMemory>) -> UnusedMemory {
    assert_eq!(memories.len(), 1, "one is unused: {memories:?}");
    memories.remove(0)
}

fn names(memories: &[UnusedMemory]) -> Vec<&str> {
    memories.iter().map(|memory| memory.key.as_str().rsplit(':').next().unwrap()).collect()
}

async fn unused_memories_are_listed_by_age(subject: Subject) {
    for (number, name) in (1..).zip(["cleared", "old", "renewed", "short"]) {
        let mut append = batch(writer(number).write(1), &["a", "b"]);
        append.ttl = (name == "short").then_some(DAY / 2);
        subject.store.append(&key(name), Access::OPEN, &append).await.unwrap();
    }
    assert!(subject.old().await.is_empty());
    subject.clock.advance(DAY / 2);
    // The age of an append is that of its message, the age of any other write that of the generation.
    let mut renewal = batch(writer(5).write(1), &["c"]);
    let renewed = std::sync::Arc::make_mut(&mut renewal.messages);
    renewed[0].created_at = subject.clock.now();
    subject.store.append(&key("renewed"), Access::OPEN, &renewal).await.unwrap();
    let clear = crate::store::Clear::new(writer(6).write(1));
    subject.store.clear(&key("cleared"), Access::OPEN, &clear).await.unwrap();

    let expired = subject.unused(query()).await.memories;
    assert_eq!(names(&expired), ["short"]);
    assert!(expired[0].expired);
    assert_eq!(expired[0].messages, 2);
    subject.clock.advance(DAY / 2);
    let old = subject.old().await;
    assert_eq!(names(&old), ["old", "short"]);
    let head = subject.store.head(&key("old")).await.unwrap();
    assert!(!old[0].expired);
    let listed = (old[0].generation, old[0].version, old[0].messages);
    assert_eq!(listed, (head.generation, head.version, 2));
    subject.clock.advance(DAY / 2);
    assert_eq!(names(&subject.old().await), ["cleared", "old", "renewed", "short"]);
}

async fn unused_memories_are_listed_by_project_in_pages(subject: Subject) {
    let other = MemoryKey::new("conformance2", "store", "k").unwrap();
    subject.append(&other, writer(9).write(1), &["x"]).await;
    for name in ["a", "b", "c", "d", "e"] {
        subject.append(&key(name), writer(1).write(1), &["x"]).await;
    }
    subject.clock.advance(DAY);
    let (mut found, mut after) = (Vec::new(), None);
    let mut pages = 0;
    loop {
        let limit = most(2);
        let asked = UnusedQuery { after, limit, unwritten_for: Some(DAY), ..query() };
        let page = subject.unused(asked).await;
        assert!(page.memories.len() <= 2);
        found.extend(page.memories);
        pages += 1;
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(names(&found), ["a", "b", "c", "d", "e"]);
    assert_eq!(pages, 3);
}

async fn removed_memory_reads_unwritten(subject: Subject) {
    let key = key("k");
    subject.append(&key, writer(1).write(1), &["a", "b", "c"]).await;
    let before = subject.store.head(&key).await.unwrap();
    let cursor = Cursor::unidentified(before.generation, Sequence::new(3));
    subject.clock.advance(DAY);
    let memory = &only(subject.old().await);
    let removed = subject.remove(memory, 100).await;
    assert_eq!(removed, RemovedUnused { messages: 3, more: false });
    // A retry, as after a lost answer.
    assert_eq!(subject.remove(memory, 100).await, RemovedUnused::default());

    assert_eq!(subject.store.head(&key).await.unwrap(), Head::default());
    assert!(subject.texts(&key).await.is_empty());
    assert!(subject.store.keys(None, most(9)).await.unwrap().is_empty());
    assert!(subject.old().await.is_empty(), "removed memories are not listed");
    let appended = subject.append(&key, writer(1).write(2), &["d"]).await;
    assert_eq!(appended.outcome.first(), Some(Sequence::new(1)));
    assert_eq!(subject.checked_outline(&key).await.head.counters.appended, 1);
    let read = Read { after: Some(cursor), limit: None };
    assert!(subject.store.read(&key, read).await.unwrap().restarted);
    assert!(subject.store.head(&key).await.unwrap().generation > before.generation);
}

async fn memory_written_after_listing_is_kept(subject: Subject) {
    let key = key("k");
    subject.append(&key, writer(1).write(1), &["a"]).await;
    subject.clock.advance(DAY);
    let memory = &only(subject.old().await);
    subject.append(&key, writer(1).write(2), &["b"]).await;
    let remove = RemoveUnused::new(memory, most(100));
    let refused = subject.store.remove(&key, remove).await.unwrap_err();
    assert_eq!(refused.kind(), &StoreErrorKind::Conflict);
    assert_eq!(subject.texts(&key).await, ["a", "b"]);
    subject.checked_outline(&key).await;
}

async fn memory_is_removed_in_parts(subject: Subject) {
    let key = key("k");
    subject.append(&key, writer(1).write(1), &["a", "b", "c", "d", "e"]).await;
    subject.clock.advance(DAY);
    let memory = &only(subject.old().await);
    let mut messages = 0;
    for part in 1.. {
        let removed = subject.remove(memory, 2).await;
        messages += removed.messages;
        assert_eq!(subject.store.head(&key).await.unwrap(), Head::default());
        assert!(subject.texts(&key).await.is_empty());
        if !removed.more {
            break;
        }
        assert!(part < 9, "removal terminates");
        // A process that continues after a crash finds the rest.
        let left = subject.unused(query()).await.memories;
        assert_eq!(names(&left), ["k"]);
        assert_eq!((left[0].generation, left[0].version), (memory.generation, memory.version));
        assert_eq!(left[0].messages, 5 - messages);
    }
    assert_eq!(messages, 5);
    assert!(subject.old().await.is_empty());
}

async fn write_between_parts_starts_over(subject: Subject) {
    let key = key("k");
    subject.append(&key, writer(1).write(1), &["a", "b", "c"]).await;
    subject.clock.advance(DAY);
    let memory = &only(subject.old().await);
    let remove = RemoveUnused::new(memory, most(1));
    let removed = subject.store.remove(&key, remove).await.unwrap();
    let appended = subject.append(&key, writer(1).write(1), &["new"]).await;
    assert!(!appended.outcome.is_duplicate(), "the memory with that write was removed");
    let again = subject.store.remove(&key, remove).await;
    // A store may remove everything at once; the memory that started over since is another one.
    let kind = again.map_err(|error| error.kind().clone());
    assert_eq!(kind, Err(StoreErrorKind::Conflict), "after {removed:?}");
    assert_eq!(subject.texts(&key).await, ["new"]);
    subject.checked_outline(&key).await;
}

async fn expired_memory_is_removed(subject: Subject) {
    let key = key("k");
    let mut append = batch(writer(1).write(1), &["a", "b"]);
    append.ttl = Some(DAY);
    subject.store.append(&key, Access::OPEN, &append).await.unwrap();
    let before = subject.store.head(&key).await.unwrap().generation;
    assert!(subject.unused(query()).await.memories.is_empty());
    subject.clock.advance(DAY);
    let unwritten = UnusedQuery { expired: ExpiredMemories::Ignored, ..query() };
    assert!(
        subject.unused(unwritten).await.memories.is_empty(),
        "expired memories were not requested"
    );
    let memory = &only(subject.unused(query()).await.memories);
    assert_eq!(subject.remove(memory, 100).await, RemovedUnused { messages: 2, more: false });
    assert!(subject.unused(query()).await.memories.is_empty());
    subject.append(&key, writer(1).write(1), &["c"]).await;
    assert!(subject.checked_outline(&key).await.head.generation > before);
    assert_eq!(subject.texts(&key).await, ["c"]);
}

/// If leases are kept elsewhere, only the token rejects a stale holder.
async fn removed_memory_fences_stale_tokens(subject: Subject) {
    if subject.store.lease_domain().is_some() {
        return;
    }
    let key = key("k");
    let append = batch(writer(1).write(1), &["a"]);
    subject.store.append(&key, Access::with_lease(lease(5)), &append).await.unwrap();
    subject.clock.advance(DAY);
    let memory = &only(subject.old().await);
    let remove = RemoveUnused::new(memory, most(9));
    let stale = RemoveUnused { access: Access::with_lease(lease(4)), ..remove };
    let refused = subject.store.remove(&key, stale).await.unwrap_err();
    assert!(matches!(refused.kind(), StoreErrorKind::Fenced { .. }), "{refused}");
    let holder = RemoveUnused { access: Access::with_lease(lease(7)), ..remove };
    assert_eq!(subject.store.remove(&key, holder).await.unwrap().messages, 1);
    let late = batch(writer(2).write(1), &["late"]);
    let refused =
        subject.store.append(&key, Access::with_lease(lease(6)), &late).await.unwrap_err();
    assert!(matches!(refused.kind(), StoreErrorKind::Fenced { .. }), "{refused}");
}
