//! Rollback: the store returns to an earlier state and reuses the numbers that it lost.

use std::num::NonZeroUsize;
use std::time::Duration;

use uuid::Uuid;

use super::unused::DAY;
use super::{Case, Subject, batch, cases_of, key, message, writer};
use crate::store::{
    Access, Clear, Cursor, FlushReceipt, Page, Read, RemoveUnused, Replace, SequenceSet, Splice,
    StoreErrorKind,
};
use crate::{MemoryKey, Sequence};

pub(super) const CASES: &[Case] = cases_of![
    needs: Rollback,
    reader_misses_nothing_after_rollback,
    reader_ahead_of_the_end_restarts,
    reader_of_what_was_kept_goes_on,
    paging_over_a_rollback_restarts,
    paging_backward_over_a_rollback_restarts,
    cursor_without_identity_goes_on,
    reader_restarts_before_the_first_write,
    reader_of_a_lost_flush_restarts,
    reader_of_a_lost_clear_restarts,
    reader_of_a_lost_replace_restarts,
    lost_replace_is_applied_again,
    splice_of_lost_messages_is_refused,
    splice_of_a_lost_newest_message_is_refused,
    splice_of_what_was_kept_is_applied,
    splice_sent_again_after_rollback_is_applied_once,
    fetch_of_lost_messages_is_refused,
    fetch_of_what_was_kept_answers,
    lost_append_is_applied_again,
    memory_with_lost_messages_is_not_removed,
    memory_that_was_empty_is_not_removed,
    memory_that_was_kept_is_removed,
];

const KEPT: [&str; 3] = ["!sys", "one", "two"];

/// A memory with the messages that survive the rollback.
async fn kept(subject: &Subject) -> MemoryKey {
    let k = key("k");
    subject.append(&k, writer(1).write(1), &KEPT).await;
    subject.keep().await;
    k
}

fn places(numbers: &[u64]) -> Vec<Sequence> {
    numbers.iter().copied().map(Sequence::new).collect()
}

fn texts(page: &Page) -> Vec<String> {
    page.messages.iter().map(|message| message.message.text().into_owned()).collect()
}

fn receipt(id: u128) -> FlushReceipt {
    FlushReceipt {
        id: Uuid::from_u128(id),
        strategy: "fifo".into(),
        started_at: crate::Clock::manual().now(),
        duration: Duration::ZERO,
        tokens_before: 20,
        tokens_after: 10,
        messages_before: 5,
        messages_after: 3,
        evicted: SequenceSet::default(),
        summarized: SequenceSet::default(),
        withdrawn: SequenceSet::default(),
        replaced: Vec::new(),
        named: Vec::new(),
        summary: None,
        shortfall: None,
        dry_run: false,
    }
}

impl Subject {
    async fn page(&self, key: &MemoryKey, after: Cursor) -> Page {
        self.store.read(key, Read { after: Some(after), limit: None }).await.unwrap()
    }

    async fn whole(&self, key: &MemoryKey) -> Page {
        self.store.read(key, Read::default()).await.unwrap()
    }
}

/// A reader's collected messages equal the stored ones, whichever of the lost numbers were reused.
async fn reader_misses_nothing_after_rollback(subject: Subject) {
    let k = kept(&subject).await;
    let lost = ["lost 1", "lost 2", "lost 3"];
    for (round, count) in [1, 2, 3, 4, 5].into_iter().enumerate() {
        let write = |number| writer(2).write(round as u64 * 10 + number);
        subject.append(&k, write(1), &lost).await;
        let before = subject.whole(&k).await;
        subject.go_back().await;
        let new = ["new 1", "new 2", "new 3", "new 4", "new 5"];
        subject.append(&k, write(2), &new[..count]).await;
        let page = subject.page(&k, before.cursor).await;
        assert!(page.restarted, "{count} new messages after a rollback of {}", lost.len());
        let expected: Vec<_> = KEPT.iter().chain(&new[..count]).copied().collect();
        assert_eq!(texts(&page), expected);
        // From now on reading continues as usual.
        subject.append(&k, write(3), &["next"]).await;
        let next = subject.page(&k, page.cursor).await;
        assert_eq!((texts(&next), next.restarted), (vec!["next".to_owned()], false));
        subject.go_back().await;
    }
}

async fn reader_ahead_of_the_end_restarts(subject: Subject) {
    let k = kept(&subject).await;
    subject.append(&k, writer(2).write(1), &["lost 1", "lost 2"]).await;
    let before = subject.whole(&k).await.cursor;
    subject.go_back().await;
    let old = Cursor { id: None, ..before };
    for cursor in [before, old] {
        let page = subject.page(&k, cursor).await;
        assert!(page.restarted);
        assert_eq!(texts(&page), KEPT);
        assert_eq!(page.cursor.sequence, Sequence::new(3));
    }
}

async fn paging_backward_over_a_rollback_restarts(subject: Subject) {
    let k = kept(&subject).await;
    let one = NonZeroUsize::MIN;
    let of_kept = subject.store.read_before(&k, None, one).await.unwrap();
    subject.append(&k, writer(2).write(1), &["lost 1", "lost 2"]).await;
    let of_lost = subject.store.read_before(&k, None, one).await.unwrap();
    subject.go_back().await;
    let page = subject.store.read_before(&k, Some(of_lost.cursor), one).await.unwrap();
    assert_eq!((texts(&page), page.restarted), (vec!["two".to_owned()], true));
    // The place of a message that was lost now holds another.
    subject.append(&k, writer(2).write(2), &["new 1", "new 2"]).await;
    let page = subject.store.read_before(&k, Some(of_lost.cursor), one).await.unwrap();
    assert_eq!((texts(&page), page.restarted), (vec!["new 2".to_owned()], true));
    let page = subject.store.read_before(&k, Some(of_kept.cursor), one).await.unwrap();
    assert_eq!((texts(&page), page.restarted), (vec!["one".to_owned()], false));
}

/// A reader does not restart without need.
async fn reader_of_what_was_kept_goes_on(subject: Subject) {
    let k = kept(&subject).await;
    let ends = [1, 2, 3].map(NonZeroUsize::new);
    let mut cursors = vec![Cursor::from(subject.store.head(&k).await.unwrap().generation)];
    for limit in ends {
        let page = subject
            .store
            .read(&k, Read { after: None, limit: limit.map(Into::into) })
            .await
            .unwrap();
        cursors.push(page.cursor);
    }
    subject.append(&k, writer(2).write(1), &["lost"]).await;
    subject.go_back().await;
    subject.append(&k, writer(2).write(2), &["new"]).await;
    for (read, cursor) in cursors.into_iter().enumerate() {
        let page = subject.page(&k, cursor).await;
        assert!(!page.restarted, "{cursor:?}");
        let expected: Vec<_> = KEPT.iter().chain(&["new"]).skip(read).copied().collect();
        assert_eq!(texts(&page), expected);
    }
}

async fn paging_over_a_rollback_restarts(subject: Subject) {
    let k = kept(&subject).await;
    subject.append(&k, writer(2).write(1), &["lost 1", "lost 2", "lost 3"]).await;
    let limit = NonZeroUsize::new(2);
    let mut read = Read { after: None, limit: limit.map(Into::into) };
    for _ in 0..2 {
        read.after = Some(subject.store.read(&k, read).await.unwrap().cursor);
    }
    subject.go_back().await;
    subject.append(&k, writer(2).write(2), &["new 1", "new 2", "new 3"]).await;
    let mut view = Vec::new();
    loop {
        let page = subject.store.read(&k, read).await.unwrap();
        assert_eq!(page.restarted, view.is_empty());
        view.extend(texts(&page));
        read.after = Some(page.cursor);
        if !page.more {
            break;
        }
    }
    assert_eq!(view, ["!sys", "one", "two", "new 1", "new 2", "new 3"]);
}

/// A cursor of an earlier version, which had no ids.
async fn cursor_without_identity_goes_on(subject: Subject) {
    let k = kept(&subject).await;
    let generation = subject.store.head(&k).await.unwrap().generation;
    let old = |number| Cursor::unidentified(generation, Sequence::new(number));
    subject.append(&k, writer(2).write(1), &["new"]).await;
    let page = subject.page(&k, old(3)).await;
    assert_eq!((texts(&page), page.restarted), (vec!["new".to_owned()], false));
    assert!(page.cursor.id.is_some(), "the next cursor has an identity");
    let page = subject.page(&k, old(4)).await;
    assert_eq!((page.messages.len(), page.restarted), (0, false));
    assert!(subject.page(&k, old(5)).await.restarted, "there is no fifth message");
}

async fn reader_restarts_before_the_first_write(subject: Subject) {
    let k = key("k");
    subject.keep().await;
    subject.append(&k, writer(1).write(1), &["lost"]).await;
    let before = subject.whole(&k).await.cursor;
    subject.go_back().await;
    let empty = subject.page(&k, before).await;
    assert_eq!((empty.messages.len(), empty.restarted), (0, true));
    // The clock is stopped, so the memory starts with the generation that was lost.
    subject.append(&k, writer(1).write(2), &["new"]).await;
    let page = subject.page(&k, before).await;
    assert_eq!((texts(&page), page.restarted), (vec!["new".to_owned()], true));
    let page = subject.page(&k, empty.cursor).await;
    assert_eq!(texts(&page), ["new"]);
}

/// The clock is stopped, so both flushes get the generation after the one that was kept.
async fn reader_of_a_lost_flush_restarts(subject: Subject) {
    let k = kept(&subject).await;
    let outline = subject.checked_outline(&k).await;
    let evict = |place, id| Splice {
        evicted: places(&[place]),
        receipt: Some(receipt(id)),
        ..Splice::of(&outline)
    };
    subject.store.splice(&k, Access::OPEN, &evict(2, 1)).await.unwrap();
    let before = subject.whole(&k).await;
    assert_eq!(texts(&before), ["!sys", "two"]);
    subject.go_back().await;
    // Another flush removes another message, and the reader's newest message is at the same place.
    subject.append(&k, writer(2).write(1), &["new"]).await;
    subject.store.splice(&k, Access::OPEN, &evict(1, 2)).await.unwrap();
    let page = subject.page(&k, before.cursor).await;
    assert!(page.restarted);
    assert_eq!(texts(&page), ["one", "two", "new"]);
}

async fn reader_of_a_lost_clear_restarts(subject: Subject) {
    let k = kept(&subject).await;
    let clear = |number| Clear::new(writer(3).write(number));
    subject.store.clear(&k, Access::OPEN, &clear(1)).await.unwrap();
    let generation = subject.store.head(&k).await.unwrap().generation;
    subject.append(&k, writer(2).write(1), &["lost"]).await;
    let before = subject.whole(&k).await.cursor;
    subject.go_back().await;
    let page = subject.page(&k, before).await;
    assert_eq!((texts(&page), page.restarted), (KEPT.map(str::to_owned).to_vec(), true));
    subject.store.clear(&k, Access::OPEN, &clear(2)).await.unwrap();
    assert_ne!(subject.store.head(&k).await.unwrap().generation, generation);
    subject.append(&k, writer(2).write(2), &["new"]).await;
    let page = subject.page(&k, before).await;
    assert_eq!((texts(&page), page.restarted), (vec!["new".to_owned()], true));
}

fn replace(number: u64, replaced: &str, by: &str) -> Replace {
    Replace {
        write: writer(3).write(number),
        sequence: Sequence::new(2),
        replaced: message(replaced).id,
        message: message(by),
    }
}

/// The clock is stopped, and the reader's newest message is at the same place.
async fn reader_of_a_lost_replace_restarts(subject: Subject) {
    let k = kept(&subject).await;
    subject.store.replace(&k, Access::OPEN, &replace(1, "one", "lost")).await.unwrap();
    let before = subject.whole(&k).await;
    assert_eq!(texts(&before), ["!sys", "lost", "two"]);
    subject.go_back().await;
    subject.store.replace(&k, Access::OPEN, &replace(2, "one", "new")).await.unwrap();
    let page = subject.page(&k, before.cursor).await;
    assert_eq!(
        (texts(&page), page.restarted),
        (["!sys", "new", "two"].map(str::to_owned).to_vec(), true)
    );
    // A lost replacement replaces no later message.
    let refused =
        subject.store.replace(&k, Access::OPEN, &replace(3, "lost", "other")).await.unwrap_err();
    assert_eq!(refused.kind(), &StoreErrorKind::Conflict);
}

async fn lost_replace_is_applied_again(subject: Subject) {
    let k = kept(&subject).await;
    let request = replace(1, "one", "new");
    subject.store.replace(&k, Access::OPEN, &request).await.unwrap();
    subject.go_back().await;
    for _ in 0..2 {
        subject.store.replace(&k, Access::OPEN, &request).await.unwrap();
        assert_eq!(subject.texts(&k).await, ["!sys", "new", "two"]);
        subject.checked_outline(&k).await;
    }
}

/// P1: a flush removes only the messages that its summary covers.
async fn splice_of_lost_messages_is_refused(subject: Subject) {
    let k = kept(&subject).await;
    subject.append(&k, writer(2).write(1), &["lost 1", "lost 2", "lost 3"]).await;
    let outline = subject.checked_outline(&k).await;
    let splice = Splice {
        summarized: places(&[2, 3, 4, 5]),
        summary: Some(message("*sum")),
        receipt: Some(receipt(1)),
        ..Splice::of(&outline)
    };
    subject.go_back().await;
    subject.append(&k, writer(2).write(2), &["!new 1", "new 2", "new 3", "new 4"]).await;
    let before = subject.checked_outline(&k).await;
    for splice in [splice.clone(), splice.weighed(&outline.metas)] {
        let refused = subject.store.splice(&k, Access::OPEN, &splice).await.unwrap_err();
        assert_eq!(refused.kind(), &StoreErrorKind::Conflict);
        assert_eq!(subject.checked_outline(&k).await, before);
    }
    assert!(subject.store.receipts(&k).await.unwrap().is_empty());
}

/// All messages that it removes are present, but the snapshot that it was planned from was lost.
async fn splice_of_a_lost_newest_message_is_refused(subject: Subject) {
    let k = kept(&subject).await;
    subject.append(&k, writer(2).write(1), &["lost"]).await;
    let outline = subject.checked_outline(&k).await;
    subject.go_back().await;
    let splice = Splice { evicted: places(&[2]), ..Splice::of(&outline) };
    let refused = subject.store.splice(&k, Access::OPEN, &splice).await.unwrap_err();
    assert_eq!(refused.kind(), &StoreErrorKind::Conflict);
    let now = subject.checked_outline(&k).await;
    let splice = Splice { evicted: places(&[2]), ..Splice::of(&now) };
    subject.store.splice(&k, Access::OPEN, &splice).await.unwrap();
    assert_eq!(subject.texts(&k).await, ["!sys", "two"]);
}

async fn splice_of_what_was_kept_is_applied(subject: Subject) {
    let k = kept(&subject).await;
    let outline = subject.checked_outline(&k).await;
    subject.append(&k, writer(2).write(1), &["lost"]).await;
    subject.go_back().await;
    subject.append(&k, writer(2).write(2), &["new"]).await;
    let splice = Splice {
        summarized: places(&[2, 3]),
        summary: Some(message("*sum")),
        ..Splice::of(&outline)
    };
    subject.store.splice(&k, Access::OPEN, &splice.weighed(&outline.metas)).await.unwrap();
    assert_eq!(subject.texts(&k).await, ["!sys", "*sum", "new"]);
    subject.checked_outline(&k).await;
}

async fn splice_sent_again_after_rollback_is_applied_once(subject: Subject) {
    let k = kept(&subject).await;
    let outline = subject.checked_outline(&k).await;
    let splice = Splice {
        summarized: places(&[2, 3]),
        summary: Some(message("*sum")),
        receipt: Some(receipt(1)),
        ..Splice::of(&outline)
    };
    subject.store.splice(&k, Access::OPEN, &splice).await.unwrap();
    subject.go_back().await;
    for _ in 0..2 {
        subject.store.splice(&k, Access::OPEN, &splice).await.unwrap();
        assert_eq!(subject.texts(&k).await, ["!sys", "*sum"]);
        assert_eq!(subject.store.receipts(&k).await.unwrap(), [receipt(1)]);
        subject.checked_outline(&k).await;
    }
    // A splice that survived is recognized, although its newest message was removed.
    subject.keep().await;
    subject.append(&k, writer(2).write(1), &["lost"]).await;
    subject.go_back().await;
    let before = subject.checked_outline(&k).await;
    subject.store.splice(&k, Access::OPEN, &splice).await.unwrap();
    assert_eq!(subject.checked_outline(&k).await, before);
}

async fn fetch_of_lost_messages_is_refused(subject: Subject) {
    let k = kept(&subject).await;
    subject.append(&k, writer(2).write(1), &["lost 1", "lost 2"]).await;
    let snapshot = subject.checked_outline(&k).await.cursor();
    subject.go_back().await;
    let refused = |answer: Result<Vec<_>, crate::store::StoreError>| {
        assert_eq!(answer.unwrap_err().kind(), &StoreErrorKind::Conflict);
    };
    refused(subject.store.fetch(&k, snapshot, &places(&[2, 4])).await);
    subject.append(&k, writer(2).write(2), &["new 1", "new 2", "new 3"]).await;
    refused(subject.store.fetch(&k, snapshot, &places(&[2, 4])).await);
    refused(subject.store.fetch(&k, snapshot, &[]).await);
}

async fn fetch_of_what_was_kept_answers(subject: Subject) {
    let k = kept(&subject).await;
    let snapshot = subject.checked_outline(&k).await.cursor();
    subject.append(&k, writer(2).write(1), &["lost"]).await;
    subject.go_back().await;
    subject.append(&k, writer(2).write(2), &["new"]).await;
    let found = subject.store.fetch(&k, snapshot, &places(&[1, 3])).await.unwrap();
    let texts: Vec<_> = found.iter().map(|message| message.message.text().into_owned()).collect();
    assert_eq!(texts, ["!sys", "two"]);
}

/// The memory was unused in the lost state; its numbers now belong to another write.
async fn memory_with_lost_messages_is_not_removed(subject: Subject) {
    let k = kept(&subject).await;
    subject.append(&k, writer(2).write(1), &["lost"]).await;
    not_removed_after_rollback(&subject, &k).await;
    assert_eq!(subject.texts(&k).await, ["!sys", "one", "two", "new"]);
}

async fn memory_that_was_empty_is_not_removed(subject: Subject) {
    let k = key("k");
    subject.append(&k, writer(1).write(1), &["one", "two"]).await;
    let outline = subject.checked_outline(&k).await;
    let splice = Splice { evicted: places(&[1, 2]), ..Splice::of(&outline) };
    subject.store.splice(&k, Access::OPEN, &splice).await.unwrap();
    subject.keep().await;
    // The claim changes only the version, and is lost.
    let generation = subject.store.head(&k).await.unwrap().generation;
    subject.store.splice(&k, Access::OPEN, &Splice::new(generation)).await.unwrap();
    not_removed_after_rollback(&subject, &k).await;
    assert_eq!(subject.texts(&k).await, ["new"]);
}

/// The store rolls back after the memory was listed, and one new write takes the place of the lost one.
async fn not_removed_after_rollback(subject: &Subject, key: &MemoryKey) {
    // A generation may be slightly ahead of the clock.
    subject.clock.advance(2 * DAY);
    let listed = subject.old().await.remove(0);
    subject.go_back().await;
    subject.append(key, writer(3).write(1), &["new"]).await;
    let head = subject.store.head(key).await.unwrap();
    assert_eq!((head.generation, head.version), (listed.generation, listed.version));
    let remove = RemoveUnused::new(&listed, NonZeroUsize::MAX);
    let refused = subject.store.remove(key, remove).await.unwrap_err();
    assert_eq!(refused.kind(), &StoreErrorKind::Conflict);
    subject.checked_outline(key).await;
}

async fn memory_that_was_kept_is_removed(subject: Subject) {
    let k = kept(&subject).await;
    subject.clock.advance(DAY);
    let listed = subject.old().await.remove(0);
    subject.append(&k, writer(2).write(1), &["lost"]).await;
    subject.go_back().await;
    assert_eq!(subject.remove(&listed, 100).await.messages, 3);
    assert!(subject.texts(&k).await.is_empty());
}

/// P2: a retry of a lost append is new, a retry of a kept append is a duplicate.
async fn lost_append_is_applied_again(subject: Subject) {
    let k = key("k");
    subject.append(&k, writer(1).write(1), &["kept"]).await;
    subject.keep().await;
    subject.append(&k, writer(1).write(2), &["lost"]).await;
    subject.append(&k, writer(1).write(3), &["later"]).await;
    subject.go_back().await;
    let again = subject.append(&k, writer(1).write(1), &["kept"]).await;
    assert!(again.outcome.is_duplicate());
    assert_eq!(again.outcome.first(), Some(Sequence::new(1)));
    let lost = batch(writer(1).write(2), &["lost"]);
    let ids = lost.with_new_ids(|old| {
        crate::store::MessageId::new(Uuid::from_u128(!old.id.uuid().as_u128()))
    });
    let again = subject.store.append(&k, Access::OPEN, &ids).await.unwrap();
    assert!(!again.outcome.is_duplicate());
    assert!(subject.store.append(&k, Access::OPEN, &ids).await.unwrap().outcome.is_duplicate());
    assert_eq!(subject.texts(&k).await, ["kept", "lost"]);
    // The writer continues, whatever it had written before.
    let next = subject.append(&k, writer(1).write(4), &["next"]).await;
    assert_eq!(next.outcome.first(), Some(Sequence::new(3)));
    subject.checked_outline(&k).await;
}
