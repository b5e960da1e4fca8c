//! Reading: cursors, pages, snapshots, listings.

use std::num::NonZeroUsize;

use super::{
    Access, Case, Subject, assert_counters, boxed, cases_of, join_all, key, message, writer,
};
use crate::store::{Clear, Cursor, Generation, Page, PageLimit, Read, Splice, StoreErrorKind};
use crate::{MemoryKey, Sequence};

pub(super) const CASES: &[Case] = cases_of![
    pages_have_no_gap_or_overlap,
    pages_end_at_a_number_of_bytes,
    reader_gets_only_newer_messages,
    reader_restarts_after_a_flush,
    cursor_of_empty_memory_works,
    newest_messages_are_read_first,
    pages_backward_have_no_gap_or_overlap,
    pages_backward_pass_over_gaps,
    pages_backward_ignore_appends,
    long_pages_backward_are_whole,
    page_backward_restarts_after_a_flush,
    page_backward_restarts_after_a_clear,
    page_backward_of_empty_memory_works,
    fetch_returns_the_places_in_order,
    fetch_of_another_generation_is_refused,
    keys_are_listed_in_ordered_pages,
    reads_are_atomic_snapshots,
];

fn limit(count: usize) -> Option<PageLimit> {
    NonZeroUsize::new(count).map(PageLimit::from)
}

async fn pages_have_no_gap_or_overlap(subject: Subject) {
    let k = key("k");
    subject.append(&k, writer(1).write(1), &["a", "b", "c", "d", "e"]).await;
    let mut read = Read { after: None, limit: limit(2) };
    let mut pages = Vec::new();
    loop {
        let page = subject.store.read(&k, read).await.unwrap();
        assert!(!page.restarted);
        pages.push(page.messages.iter().map(|m| m.message.text().into_owned()).collect::<Vec<_>>());
        read.after = Some(page.cursor);
        if !page.more {
            break;
        }
    }
    assert_eq!(pages, [vec!["a", "b"], vec!["c", "d"], vec!["e"]]);
}

/// The lengths of texts, a limit of messages and of bytes, and the sizes of the pages. Stores count some bytes more for each
/// message.
pub(super) const PAGES: [(&[usize], usize, u64, &[usize]); 8] = [
    (&[1_000; 5], usize::MAX, 1, &[1; 5]),
    (&[1_000; 5], usize::MAX, 1_500, &[2, 2, 1]),
    (&[1_000; 5], usize::MAX, 100_000, &[5]),
    (&[1_000; 5], 2, 100_000, &[2, 2, 1]),
    (&[1_000; 5], 3, 1_500, &[2, 2, 1]),
    (&[1_000; 5], 1, u64::MAX, &[1; 5]),
    // The message that exceeds the limit is part of the page.
    (&[10, 2_000, 10, 10, 2_000], usize::MAX, 1_500, &[2, 3]),
    // More than some stores read at once.
    (&[30_000; 5], usize::MAX, 100_000, &[4, 1]),
];

/// Appends messages with texts of these lengths to a memory of this name.
pub(super) async fn with_lengths(subject: &Subject, name: &str, lengths: &[usize]) -> MemoryKey {
    let k = key(name);
    let texts: Vec<_> = lengths.iter().map(|length| "x".repeat(*length)).collect();
    let texts: Vec<_> = texts.iter().map(String::as_str).collect();
    subject.append(&k, writer(1).write(1), &texts).await;
    k
}

pub(super) fn page_limit(messages: usize, bytes: u64) -> PageLimit {
    PageLimit { messages: NonZeroUsize::new(messages).unwrap(), bytes }
}

async fn pages_end_at_a_number_of_bytes(subject: Subject) {
    for (number, (lengths, messages, bytes, expected)) in PAGES.into_iter().enumerate() {
        let k = with_lengths(&subject, &format!("k{number}"), lengths).await;
        let mut read = Read { after: None, limit: Some(page_limit(messages, bytes)) };
        let mut sizes = Vec::new();
        loop {
            let page = subject.store.read(&k, read).await.unwrap();
            sizes.push(page.messages.len());
            read.after = Some(page.cursor);
            if !page.more {
                break;
            }
        }
        assert_eq!(sizes, expected, "{lengths:?}, {messages} messages, {bytes} bytes");
    }
}

async fn reader_gets_only_newer_messages(subject: Subject) {
    let k = key("k");
    subject.append(&k, writer(1).write(1), &["a", "b"]).await;
    let first = subject.store.read(&k, Read::default()).await.unwrap();
    let nothing = Read { after: Some(first.cursor), limit: None };
    let page = subject.store.read(&k, nothing).await.unwrap();
    assert!(page.messages.is_empty() && !page.restarted && !page.more);
    assert_eq!(page.cursor, first.cursor);
    subject.append(&k, writer(1).write(2), &["c"]).await;
    let page = subject.store.read(&k, nothing).await.unwrap();
    assert_eq!(page.messages.len(), 1);
    assert_eq!(page.cursor.sequence, Sequence::new(3));
}

async fn reader_restarts_after_a_flush(subject: Subject) {
    let k = key("k");
    subject.append(&k, writer(1).write(1), &["a", "b", "c"]).await;
    let first = subject.store.read(&k, Read::default()).await.unwrap();
    let evict = Splice { evicted: vec![Sequence::new(1)], ..Splice::new(first.cursor.generation) };
    subject.store.splice(&k, Access::OPEN, &evict).await.unwrap();
    let again = Read { after: Some(first.cursor), limit: None };
    let page = subject.store.read(&k, again).await.unwrap();
    assert!(page.restarted);
    assert_eq!(page.messages.len(), 2);
    assert!(page.cursor.generation > first.cursor.generation);
}

async fn cursor_of_empty_memory_works(subject: Subject) {
    let k = key("k");
    let empty = subject.store.read(&k, Read::default()).await.unwrap();
    assert_eq!(empty.cursor, Cursor::default());
    subject.append(&k, writer(1).write(1), &["a"]).await;
    let page =
        subject.store.read(&k, Read { after: Some(empty.cursor), limit: None }).await.unwrap();
    assert_eq!((page.messages.len(), page.restarted), (1, false));
}

fn texts(page: &Page) -> Vec<String> {
    page.messages.iter().map(|stored| stored.message.text().into_owned()).collect()
}

impl Subject {
    async fn before(&self, key: &MemoryKey, before: Option<Cursor>, limit: usize) -> Page {
        let limit = NonZeroUsize::new(limit).unwrap();
        self.store.read_before(key, before, limit).await.unwrap()
    }

    /// The texts of all pages backward, newest page first. No page may restart.
    async fn pages_backward(&self, key: &MemoryKey, limit: usize) -> Vec<Vec<String>> {
        let (mut before, mut pages) = (None, Vec::new());
        loop {
            let page = self.before(key, before, limit).await;
            assert!(!page.restarted && page.unreadable.is_empty());
            let first =
                page.messages.first().map(|first| Cursor::at(page.cursor.generation, &first.meta));
            assert_eq!(Some(page.cursor), first, "a page before more messages");
            pages.push(texts(&page));
            before = Some(page.cursor);
            if !page.more {
                break;
            }
        }
        let end = self.before(key, before, limit).await;
        assert_eq!(end, Page::new(before.unwrap()), "nothing is before the first message");
        pages
    }
}

async fn newest_messages_are_read_first(subject: Subject) {
    let k = key("k");
    subject.append(&k, writer(1).write(1), &["a", "b", "c"]).await;
    let all = subject.store.read(&k, Read::default()).await.unwrap();
    let page = subject.before(&k, None, 2).await;
    assert_eq!(page.messages, all.messages[1..]);
    assert!(page.more && !page.restarted);
    let whole = subject.before(&k, None, 3).await;
    assert_eq!((whole.messages, whole.more), (all.messages, false));
    let more_than_all = subject.before(&k, None, usize::MAX).await;
    assert_eq!((texts(&more_than_all).len(), more_than_all.more), (3, false));
    // A reader that continues forward from the newest message.
    let newest = Cursor::at(page.cursor.generation, &page.messages[1].meta);
    let next = subject.store.read(&k, Read { after: Some(newest), limit: None }).await.unwrap();
    assert_eq!(next, Page::new(newest));
}

async fn pages_backward_have_no_gap_or_overlap(subject: Subject) {
    let k = key("k");
    subject.append(&k, writer(1).write(1), &["a", "b", "c", "d", "e"]).await;
    let pages = subject.pages_backward(&k, 2).await;
    assert_eq!(pages, [vec!["d", "e"], vec!["b", "c"], vec!["a"]]);
    assert_eq!(subject.pages_backward(&k, 5).await, [["a", "b", "c", "d", "e"]]);
    // Other memories are no part of it.
    for (number, name) in ["j", "l"].into_iter().enumerate() {
        subject.append(&key(name), writer(2).write(number as u64 + 1), &["x", "y"]).await;
    }
    assert_eq!(subject.pages_backward(&k, 5).await, [["a", "b", "c", "d", "e"]]);
    assert_eq!(subject.pages_backward(&key("l"), 5).await, [["x", "y"]]);
}

async fn pages_backward_pass_over_gaps(subject: Subject) {
    let k = key("k");
    subject.append(&k, writer(1).write(1), &["a", "b", "c", "d", "e", "f", "g"]).await;
    let generation = subject.store.head(&k).await.unwrap().generation;
    let flush = Splice {
        summarized: [2, 3].map(Sequence::new).into(),
        evicted: [5, 7].map(Sequence::new).into(),
        summary: Some(message("summary")),
        ..Splice::new(generation)
    };
    subject.store.splice(&k, Access::OPEN, &flush).await.unwrap();
    let pages = subject.pages_backward(&k, 2).await;
    assert_eq!(pages, [["d", "f"], ["a", "summary"]]);
    subject.append(&k, writer(1).write(2), &["h"]).await;
    assert_eq!(subject.pages_backward(&k, 1).await, [["h"], ["f"], ["d"], ["summary"], ["a"]]);
    // A cursor without identity, at a place without a message.
    let generation = subject.store.head(&k).await.unwrap().generation;
    let gap = Cursor::unidentified(generation, Sequence::new(5));
    assert_eq!(texts(&subject.before(&k, Some(gap), 2).await), ["summary", "d"]);
    let beyond = Cursor::unidentified(generation, Sequence::new(9));
    let page = subject.before(&k, Some(beyond), 1).await;
    assert_eq!((texts(&page), page.restarted), (vec!["h".to_owned()], true));
}

async fn pages_backward_ignore_appends(subject: Subject) {
    let k = key("k");
    subject.append(&k, writer(1).write(1), &["a", "b", "c"]).await;
    let page = subject.before(&k, None, 1).await;
    subject.append(&k, writer(1).write(2), &["d", "e"]).await;
    let next = subject.before(&k, Some(page.cursor), 5).await;
    assert_eq!((texts(&next), next.restarted), (vec!["a".to_owned(), "b".to_owned()], false));
}

/// Longer than one part of a store that reads in parts.
async fn long_pages_backward_are_whole(subject: Subject) {
    let k = key("k");
    let texts: Vec<_> = (0..300).map(|number| format!("{number:04} {}", "x".repeat(600))).collect();
    let texts: Vec<_> = texts.iter().map(String::as_str).collect();
    subject.append(&k, writer(1).write(1), &texts).await;
    let pages = subject.pages_backward(&k, 140).await;
    assert_eq!(pages, [&texts[160..], &texts[20..160], &texts[..20]]);
}

async fn page_backward_restarts_after_a_flush(subject: Subject) {
    let k = key("k");
    subject.append(&k, writer(1).write(1), &["a", "b", "c"]).await;
    let page = subject.before(&k, None, 1).await;
    let evict = Splice { evicted: vec![Sequence::new(1)], ..Splice::new(page.cursor.generation) };
    subject.store.splice(&k, Access::OPEN, &evict).await.unwrap();
    let page = subject.before(&k, Some(page.cursor), 1).await;
    assert!(page.restarted && page.more);
    assert_eq!(texts(&page), ["c"]);
    let page = subject.before(&k, Some(page.cursor), 1).await;
    assert!(!page.restarted && !page.more);
    assert_eq!(texts(&page), ["b"]);
}

async fn page_backward_restarts_after_a_clear(subject: Subject) {
    let k = key("k");
    subject.append(&k, writer(1).write(1), &["a", "b"]).await;
    let page = subject.before(&k, None, 1).await;
    let clear = Clear::new(writer(1).write(2));
    subject.store.clear(&k, Access::OPEN, &clear).await.unwrap();
    let empty = subject.before(&k, Some(page.cursor), 1).await;
    assert!(empty.restarted && empty.messages.is_empty() && !empty.more);
    subject.append(&k, writer(1).write(3), &["c"]).await;
    let end = subject.before(&k, Some(empty.cursor), 1).await;
    assert_eq!(end, Page::new(empty.cursor), "nothing is before the start");
    assert_eq!(subject.pages_backward(&k, 2).await, [["c"]]);
}

async fn page_backward_of_empty_memory_works(subject: Subject) {
    let k = key("k");
    let empty = subject.before(&k, None, 3).await;
    assert_eq!(empty, Page::new(Cursor::default()));
    assert_eq!(subject.before(&k, Some(empty.cursor), 3).await, empty);
}

async fn fetch_returns_the_places_in_order(subject: Subject) {
    let k = key("k");
    subject.append(&k, writer(1).write(1), &["a", "b", "c", "d"]).await;
    let generation = subject.store.head(&k).await.unwrap().generation;
    let places = [1, 3, 4].map(Sequence::new);
    let found = subject.store.fetch(&k, generation.into(), &places).await.unwrap();
    let texts: Vec<_> = found.iter().map(|m| m.message.text().into_owned()).collect();
    assert_eq!(texts, ["a", "c", "d"]);
    assert!(subject.store.fetch(&k, generation.into(), &[]).await.unwrap().is_empty());
}

async fn fetch_of_another_generation_is_refused(subject: Subject) {
    let k = key("k");
    subject.append(&k, writer(1).write(1), &["a", "b"]).await;
    let generation = subject.store.head(&k).await.unwrap().generation;
    let evict = Splice { evicted: vec![Sequence::new(1)], ..Splice::new(generation) };
    subject.store.splice(&k, Access::OPEN, &evict).await.unwrap();
    for generation in [generation, Generation::NONE] {
        let refused = subject.store.fetch(&k, generation.into(), &[Sequence::new(2)]).await;
        let refused = refused.unwrap_err();
        assert_eq!(refused.kind(), &StoreErrorKind::Conflict);
    }
}

async fn keys_are_listed_in_ordered_pages(subject: Subject) {
    let names = ["b", "a", "c/d", "c", "~"];
    for (number, name) in names.iter().enumerate() {
        subject.append(&key(name), writer(1).write(number as u64 + 1), &["x"]).await;
    }
    let mut expected: Vec<_> = names.iter().map(|name| key(name)).collect();
    expected.sort();
    let mut listed = Vec::new();
    loop {
        let page = subject.store.keys(listed.last(), NonZeroUsize::new(2).unwrap()).await.unwrap();
        if page.is_empty() {
            break;
        }
        listed.extend(page);
    }
    assert_eq!(listed, expected);
}

async fn reads_are_atomic_snapshots(subject: Subject) {
    let k = key("k");
    subject.append(&k, writer(1).write(1), &["a", "a", "a"]).await;
    let writing = {
        let (subject, k) = (subject.clone(), k.clone());
        async move {
            for number in 2..40 {
                yield_once().await;
                subject.append(&k, writer(1).write(number), &["a", "a", "a"]).await;
                let outline = subject.store.outline(&k).await.unwrap();
                let oldest: Vec<_> =
                    outline.metas.iter().take(3).map(|meta| meta.sequence).collect();
                let splice = Splice { evicted: oldest, ..Splice::new(outline.head.generation) };
                subject.store.splice(&k, Access::OPEN, &splice).await.unwrap();
            }
        }
    };
    let reading = async {
        for _ in 0..80 {
            let outline = subject.store.outline(&k).await.unwrap();
            assert_counters(&outline);
            assert_eq!(outline.metas.len() % 3, 0, "half a batch or half a flush");
            let page = subject.store.read(&k, Read::default()).await.unwrap();
            assert_eq!(page.messages.len() % 3, 0, "half a batch or half a flush");
            yield_once().await;
        }
    };
    join_all([boxed(writing), boxed(reading)]).await;
}

/// Yields to the other tasks once.
async fn yield_once() {
    let mut yielded = false;
    std::future::poll_fn(|context| {
        if yielded {
            return std::task::Poll::Ready(());
        }
        yielded = true;
        context.waker().wake_by_ref();
        std::task::Poll::Pending
    })
    .await;
}
