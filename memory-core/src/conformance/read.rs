//! Reading: cursors, pages, snapshots, listings.

use std::num::NonZeroUsize;

use super::{Access, Case, Subject, assert_counters, boxed, cases_of, join_all, key, writer};
use crate::Sequence;
use crate::store::{Cursor, Generation, Read, Splice, StoreErrorKind};

pub(super) const CASES: &[Case] = cases_of![
    pages_have_no_gap_or_overlap,
    reader_gets_only_newer_messages,
    reader_restarts_after_a_flush,
    cursor_of_empty_memory_works,
    fetch_returns_the_places_in_order,
    fetch_of_another_generation_is_refused,
    keys_are_listed_in_ordered_pages,
    reads_are_atomic_snapshots,
];

fn limit(count: usize) -> Option<NonZeroUsize> {
    NonZeroUsize::new(count)
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
