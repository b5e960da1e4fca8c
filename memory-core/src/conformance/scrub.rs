//! Scrubs, and the places out of a store's reach.

use std::collections::BTreeSet;

use super::archive::{FOREVER, Flush, HOUR, MANY, eviction, filled, summary};
use super::unused::DAY;
use super::{Case, Subject, batch, cases_of, key, writer};
use crate::store::{
    Access, Append, ArchivedRemoval, Erase, Erasure, Read, RemainingCopy, Scrubbed,
};
use crate::{MemoryKey, Sequence, StoredMessage};

pub(super) const CASES: &[Case] = cases_of![
    scrub_changes_no_memory,
    scrub_keeps_snapshots_and_retries,
    scrub_keeps_the_ttl,
    scrub_of_an_empty_store_is_harmless,
    remaining_copies_are_listed_once,
];

pub(super) const ARCHIVE_CASES: &[Case] = cases_of![
    needs: ErasureAndArchive,
    scrub_keeps_archive_and_records,
];

impl Subject {
    /// A scrub is done unless the store has no files; no other process is in the way.
    async fn scrub(&self) -> Scrubbed {
        let scrubbed = self.store.scrub().await.unwrap();
        assert_ne!(scrubbed, Scrubbed::Busy, "no reader or writer is in the way");
        scrubbed
    }
}

async fn scrub_changes_no_memory(subject: Subject) {
    let (k, other) = (filled(&subject).await, key("other"));
    subject.append(&other, writer(9).write(1), &["one"]).await;
    subject.flush(&k, 1, Flush { evicted: &[5], ..summary(&[2, 3], "*sum") }, None).await;
    let mut before = Vec::new();
    let mut first = None;
    for round in 0..3 {
        let mut now = Vec::new();
        for key in [&k, &other] {
            let receipts = subject.store.receipts(key).await.unwrap();
            now.push((subject.checked_outline(key).await, subject.messages(key).await, receipts));
        }
        assert!(round == 0 || now == before, "scrub {round} changed a memory");
        before = now;
        let scrubbed = subject.scrub().await;
        assert_eq!(*first.get_or_insert(scrubbed), scrubbed, "repeated");
    }
    assert_eq!(subject.store.keys(None, MANY).await.unwrap(), [k.clone(), other]);
    let appended = subject.append(&k, writer(2).write(1), &["new"]).await;
    assert_eq!(appended.outcome.first(), Some(Sequence::new(6)));
    assert_eq!(subject.texts(&k).await, ["!sys", "*sum", "three", "new"]);
}

async fn scrub_keeps_snapshots_and_retries(subject: Subject) {
    let k = filled(&subject).await;
    let first = subject.append(&k, writer(2).write(1), &["five"]).await;
    let page = subject.store.read(&k, Read::default()).await.unwrap();
    let plan = subject.planned(&k, eviction(&[2])).await;
    let mut watch = subject.store.watch(&k).await.unwrap();
    subject.scrub().await;
    let again = subject.append(&k, writer(2).write(1), &["five"]).await;
    assert_eq!(again.outcome.first(), first.outcome.first());
    let read = Read { after: Some(page.cursor), limit: None };
    let later = subject.store.read(&k, read).await.unwrap();
    assert!(!later.restarted && later.messages.is_empty(), "the cursor holds");
    subject.store.splice(&k, Access::OPEN, &plan).await.unwrap();
    watch.changed().await.unwrap();
    assert_eq!(subject.texts(&k).await, ["!sys", "#two", "three", "four", "five"]);
}

async fn scrub_keeps_the_ttl(subject: Subject) {
    let k = key("k");
    let append = Append { ttl: Some(HOUR), ..batch(writer(1).write(1), &["one"]) };
    subject.store.append(&k, Access::OPEN, &append).await.unwrap();
    let end = subject.checked_outline(&k).await.head.expires_at;
    subject.clock.advance(HOUR / 2);
    subject.scrub().await;
    assert_eq!(subject.checked_outline(&k).await.head.expires_at, end);
    assert_eq!(subject.texts(&k).await, ["one"]);
    subject.clock.advance(HOUR / 2);
    subject.scrub().await;
    assert!(subject.texts(&k).await.is_empty());
}

async fn scrub_of_an_empty_store_is_harmless(subject: Subject) {
    let k = key("k");
    subject.scrub().await;
    assert!(subject.store.keys(None, MANY).await.unwrap().is_empty());
    assert_eq!(subject.checked_outline(&k).await.head.counters.appended, 0);
    subject.append(&k, writer(1).write(1), &["one"]).await;
    subject.clock.advance(2 * DAY);
    let unused = subject.old().await;
    subject.remove(&unused[0], 100).await;
    subject.scrub().await;
    assert!(subject.texts(&k).await.is_empty());
    // The numbers begin anew, as without a scrub.
    let appended = subject.append(&k, writer(3).write(1), &["two"]).await;
    assert_eq!(appended.outcome.first(), Some(Sequence::new(1)));
}

async fn remaining_copies_are_listed_once(subject: Subject) {
    let list = subject.store.remaining_copies();
    let names: BTreeSet<_> = list.iter().map(|copy| copy.as_str()).collect();
    assert_eq!(names.len(), list.len(), "{list:?} names a place twice");
    for known in [RemainingCopy::OtherViews, RemainingCopy::Forks] {
        assert!(!list.contains(&known), "no store knows {known:?}: its caller adds it");
    }
    let k = filled(&subject).await;
    subject.flush(&k, 1, eviction(&[2]), None).await;
    assert_eq!(subject.store.remaining_copies(), list);
    // Their documentation says that a scrub reaches them.
    let has_files = list.iter().any(|copy| {
        use RemainingCopy::{FreeSpace, SearchIndex, WriteAheadLog};
        matches!(copy, FreeSpace | SearchIndex | WriteAheadLog)
    });
    let scrubbed = subject.scrub().await;
    assert!(!has_files || scrubbed == Scrubbed::Done, "{list:?} after {scrubbed:?}");
    assert_eq!(subject.store.remaining_copies(), list);
}

async fn scrub_keeps_archive_and_records(subject: Subject) {
    let k = filled(&subject).await;
    subject.flush(&k, 1, summary(&[2, 3, 4], "*sum"), Some(FOREVER)).await;
    let erase = Erase {
        write: writer(60).write(1),
        places: [Sequence::new(3)].into_iter().collect(),
        reason: "request 4711".into(),
    };
    let erased = subject.store.erase(&k, Access::OPEN, &erase).await.unwrap();
    let before = records(&subject, &k).await;
    let removal = before.0[0].number;
    assert_eq!(before.1.len(), 2);
    subject.scrub().await;
    assert_eq!(records(&subject, &k).await, before);
    let again = subject.store.erase(&k, Access::OPEN, &erase).await.unwrap();
    assert_eq!(again.erasure, erased.erasure, "a retry is recognized");
    subject.scrub().await;
    assert_eq!(subject.archived(&k, removal).await, before.1);
}

type Records = (Vec<ArchivedRemoval>, Vec<StoredMessage>, Vec<Erasure>);

async fn records(subject: &Subject, k: &MemoryKey) -> Records {
    let removals = subject.removals(k).await;
    let archived = subject.archived(k, removals[0].number).await;
    (removals, archived, subject.store.erasures(k).await.unwrap())
}
