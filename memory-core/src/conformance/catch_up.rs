//! Reads of new messages without those that the reader appended itself.

use std::time::Duration;

use super::{Case, Subject, batch, cases_of, key, message, writer};
use crate::store::{
    Access, Append, Clear, Cursor, KnownBatch, Page, Read, Replace, Splice, WriteId,
};
use crate::view::OwnBatch;
use crate::{MemoryKey, Sequence};

pub(super) const CASES: &[Case] = cases_of![
    own_batches_are_left_out,
    messages_between_own_batches_are_read,
    own_batch_with_other_ids_is_read,
    own_batches_before_the_cursor_are_ignored,
    long_pages_around_own_batches_are_whole,
    own_batches_of_an_earlier_generation_are_read,
    own_batches_of_a_cleared_memory_are_ignored,
    own_batches_of_an_expired_memory_are_ignored,
];

pub(super) const ROLLBACK_CASES: &[Case] = cases_of![
    needs: Rollback,
    lost_own_batch_is_not_confirmed,
    each_own_batch_is_compared,
    own_batches_of_a_lost_cursor_are_ignored,
];

impl Subject {
    async fn cursor(&self, key: &MemoryKey) -> Cursor {
        self.store.read(key, Read::default()).await.unwrap().cursor
    }

    /// Appends a batch and keeps it.
    async fn own(&self, key: &MemoryKey, write: WriteId, texts: &[&str]) -> OwnBatch {
        self.own_until(key, write, texts, None).await
    }

    async fn own_until(
        &self,
        key: &MemoryKey,
        write: WriteId,
        texts: &[&str],
        ttl: Option<Duration>,
    ) -> OwnBatch {
        let append = Append { ttl, ..batch(write, texts) };
        let appended = self.store.append(key, Access::OPEN, &append).await.unwrap();
        assert!(!appended.outcome.is_duplicate());
        OwnBatch::new(appended.outcome.first().unwrap(), &append.messages).unwrap()
    }

    /// Completes the answer with the reader's own batches: it must equal a read. Returns the confirmed batches, of
    /// which there may be fewer than possible.
    async fn catch_up(&self, key: &MemoryKey, after: Cursor, own: &[OwnBatch]) -> Vec<KnownBatch> {
        let known: Vec<_> = own.iter().map(OwnBatch::known).collect();
        let caught_up = self.store.catch_up(key, after, &known).await.unwrap();
        let confirmed = caught_up.confirmed.clone();
        let page = OwnBatch::complete(caught_up, own).unwrap();
        assert_eq!(page, self.read_after(key, after).await);
        confirmed
    }

    async fn read_after(&self, key: &MemoryKey, after: Cursor) -> Page {
        self.store.read(key, Read { after: Some(after), limit: None }).await.unwrap()
    }
}

async fn own_batches_are_left_out(subject: Subject) {
    let k = key("k");
    subject.append(&k, writer(1).write(1), &["a"]).await;
    let after = subject.cursor(&k).await;
    let mut own = vec![subject.own(&k, writer(2).write(1), &["!b", "*c"]).await];
    subject.catch_up(&k, after, &own).await;
    own.push(subject.own(&k, writer(2).write(2), &["#d"]).await);
    subject.catch_up(&k, after, &own).await;
    // The new position is that after the own batches.
    let known: Vec<_> = own.iter().map(OwnBatch::known).collect();
    let reached = subject.store.catch_up(&k, after, &known).await.unwrap().page.cursor;
    subject.append(&k, writer(1).write(2), &["e"]).await;
    let next = subject.read_after(&k, reached).await;
    assert_eq!((next.messages.len(), next.restarted), (1, false));
    subject.catch_up(&k, after, &[]).await;
}

async fn messages_between_own_batches_are_read(subject: Subject) {
    let k = key("k");
    subject.append(&k, writer(1).write(1), &["a"]).await;
    let start = Cursor::from(subject.cursor(&k).await.generation);
    let after = subject.cursor(&k).await;
    let mut own = Vec::new();
    for round in 1..5 {
        let foreign = [format!("{round}f"), format!("{round}g")];
        subject.append(&k, writer(1).write(1 + round), &[&*foreign[0], &*foreign[1]]).await;
        let mine = [format!("{round}m"), format!("{round}n")];
        own.push(subject.own(&k, writer(2).write(round), &[&*mine[0], &*mine[1]]).await);
        subject.catch_up(&k, after, &own).await;
        subject.catch_up(&k, start, &own[1..]).await;
    }
    subject.append(&k, writer(1).write(9), &["end"]).await;
    subject.catch_up(&k, after, &own).await;
}

async fn own_batch_with_other_ids_is_read(subject: Subject) {
    let k = key("k");
    subject.append(&k, writer(1).write(1), &["a"]).await;
    let after = subject.cursor(&k).await;
    let own = subject.own(&k, writer(2).write(1), &["b", "c"]).await;
    let mut other = own.known();
    other.id = message("other").id;
    let place = |number| Sequence::new(number);
    // The same places with another id, a place that another batch has, and places that were never assigned.
    let moved = KnownBatch { first: place(2), last: place(2), ..own.known() };
    let beyond = KnownBatch { first: place(4), last: place(5), ..own.known() };
    for known in [other, moved, beyond] {
        let caught_up = subject.store.catch_up(&k, after, &[known]).await.unwrap();
        assert!(caught_up.confirmed.is_empty(), "{known:?}");
        assert_eq!(caught_up.page, subject.read_after(&k, after).await);
    }
}

async fn own_batches_before_the_cursor_are_ignored(subject: Subject) {
    let k = key("k");
    subject.append(&k, writer(1).write(1), &["a"]).await;
    let before = subject.cursor(&k).await;
    let own = subject.own(&k, writer(2).write(1), &["b", "c"]).await;
    subject.append(&k, writer(1).write(2), &["d"]).await;
    let middle =
        Read { after: Some(before), limit: std::num::NonZeroUsize::new(1).map(Into::into) };
    let middle = subject.store.read(&k, middle).await.unwrap().cursor;
    for after in [middle, subject.cursor(&k).await] {
        assert!(subject.catch_up(&k, after, std::slice::from_ref(&own)).await.is_empty());
    }
}

/// Longer than one part of a store that reads in parts.
async fn long_pages_around_own_batches_are_whole(subject: Subject) {
    let k = key("k");
    subject.append(&k, writer(1).write(1), &["a"]).await;
    let after = subject.cursor(&k).await;
    let long = |name: &str, count: usize| {
        let text = |number| format!("{name}{number:05} {}", "x".repeat(300));
        (0..count).map(text).collect::<Vec<_>>()
    };
    let mut own = Vec::new();
    for (round, name) in (1..).zip(["x", "y", "z"]) {
        let foreign = long(&format!("f{name}"), 220);
        let foreign: Vec<_> = foreign.iter().map(String::as_str).collect();
        subject.append(&k, writer(1).write(1 + round), &foreign).await;
        let mine = long(&format!("m{name}"), 150);
        let mine: Vec<_> = mine.iter().map(String::as_str).collect();
        own.push(subject.own(&k, writer(2).write(round), &mine).await);
        subject.catch_up(&k, after, &own).await;
    }
    subject.append(&k, writer(1).write(5), &["end"]).await;
    subject.catch_up(&k, after, &own).await;
    subject.catch_up(&k, after, &own[1..]).await;
}

/// In another generation a batch may have a gap or a changed message, although its newest message is stored. The page
/// before it is longer than one part of a store that reads in parts.
async fn own_batches_of_an_earlier_generation_are_read(subject: Subject) {
    let k = key("k");
    let many: Vec<_> = (0..600).map(|number| format!("{number:04}")).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    subject.append(&k, writer(1).write(1), &many).await;
    let mut after = subject.cursor(&k).await;
    let own = [subject.own(&k, writer(2).write(1), &["b", "c", "d"]).await];
    let generation = after.generation;
    let evict = Splice { evicted: vec![Sequence::new(602)], ..Splice::new(generation) };
    subject.store.splice(&k, Access::OPEN, &evict).await.unwrap();
    assert!(subject.catch_up(&k, after, &own).await.is_empty());

    after = subject.cursor(&k).await;
    let own = [subject.own(&k, writer(2).write(2), &["e", "f"]).await];
    let replace = Replace {
        write: writer(1).write(2),
        sequence: own[0].known().first,
        replaced: message("e").id,
        message: message("E"),
    };
    subject.store.replace(&k, Access::OPEN, &replace).await.unwrap();
    assert!(subject.catch_up(&k, after, &own).await.is_empty());
}

async fn own_batches_of_a_cleared_memory_are_ignored(subject: Subject) {
    let k = key("k");
    subject.append(&k, writer(1).write(1), &["a"]).await;
    let after = subject.cursor(&k).await;
    let own = [subject.own(&k, writer(2).write(1), &["b"]).await];
    let clear = Clear::new(writer(1).write(2));
    subject.store.clear(&k, Access::OPEN, &clear).await.unwrap();
    assert!(subject.catch_up(&k, after, &own).await.is_empty());
    // A reader of the cleared memory has a cursor without a message.
    let empty = subject.cursor(&k).await;
    let own = [subject.own(&k, writer(2).write(2), &["c"]).await];
    subject.catch_up(&k, empty, &own).await;
}

async fn own_batches_of_an_expired_memory_are_ignored(subject: Subject) {
    let k = key("k");
    let never_written = subject.cursor(&k).await;
    let ttl = Some(Duration::from_secs(60));
    let first = [subject.own_until(&k, writer(1).write(1), &["a"], ttl).await];
    subject.catch_up(&k, never_written, &first).await;
    let after = subject.cursor(&k).await;
    let own = [subject.own_until(&k, writer(2).write(1), &["b"], ttl).await];
    subject.catch_up(&k, after, &own).await;
    subject.clock.advance(Duration::from_secs(61));
    assert!(subject.catch_up(&k, after, &own).await.is_empty());
    subject.append(&k, writer(1).write(2), &["c", "d"]).await;
    assert!(subject.catch_up(&k, after, &own).await.is_empty());
}

async fn lost_own_batch_is_not_confirmed(subject: Subject) {
    let k = key("k");
    subject.append(&k, writer(1).write(1), &["a", "b"]).await;
    let after = subject.cursor(&k).await;
    subject.keep().await;
    let own = [subject.own(&k, writer(2).write(1), &["lost 1", "lost 2"]).await];
    subject.go_back().await;
    assert!(subject.catch_up(&k, after, &own).await.is_empty());
    for (round, text) in (2..).zip(["c", "d", "e"]) {
        subject.append(&k, writer(1).write(round), &[text]).await;
        assert!(subject.catch_up(&k, after, &own).await.is_empty(), "{text} is at its place");
    }
}

/// A foreign message took the place of a lost batch before a later batch of the reader.
async fn each_own_batch_is_compared(subject: Subject) {
    let k = key("k");
    subject.append(&k, writer(1).write(1), &["a"]).await;
    let after = subject.cursor(&k).await;
    let kept = subject.own(&k, writer(2).write(1), &["kept"]).await;
    subject.keep().await;
    let lost = subject.own(&k, writer(2).write(2), &["lost 1", "lost 2"]).await;
    subject.go_back().await;
    subject.append(&k, writer(1).write(2), &["new 1", "new 2"]).await;
    let newest = subject.own(&k, writer(2).write(3), &["newest"]).await;
    let own = [kept, lost, newest];
    let confirmed = subject.catch_up(&k, after, &own).await;
    assert!(!confirmed.contains(&own[1].known()));
}

async fn own_batches_of_a_lost_cursor_are_ignored(subject: Subject) {
    let k = key("k");
    subject.append(&k, writer(1).write(1), &["a"]).await;
    subject.keep().await;
    subject.append(&k, writer(1).write(2), &["seen"]).await;
    let after = subject.cursor(&k).await;
    subject.go_back().await;
    subject.append(&k, writer(1).write(2), &["other"]).await;
    let own = [subject.own(&k, writer(2).write(1), &["mine"]).await];
    let page = subject.read_after(&k, after).await;
    assert!(page.restarted && page.messages.len() == 3);
    assert!(subject.catch_up(&k, after, &own).await.is_empty());
}
