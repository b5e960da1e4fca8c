//! Writes that depend on the version of a memory: appends with an expected version, and withdrawals.

use super::splice::receipt;
use super::{Case, Subject, batch, cases_of, key, lease, message, writer};
use crate::store::{
    Access, Append, Clear, FlushReceipt, Replace, SequenceSet, Splice, StoreErrorKind, Version,
};
use crate::{MemoryKey, Sequence};

pub(super) const CASES: &[Case] = cases_of![
    append_at_its_version_is_applied,
    append_after_another_write_is_refused,
    resent_append_returns_its_first_result,
    stale_lease_is_reported_before_the_version,
    flush_of_older_messages_keeps_the_version,
    removed_or_replaced_newest_message_ends_the_version,
    message_that_came_and_left_ends_the_version,
    version_of_an_empty_memory,
    version_after_the_newest_was_removed,
    expired_memory_is_at_no_version,
    withdrawn_messages_are_removed_and_counted,
    withdrawal_after_another_write_is_refused,
    withdrawal_sent_twice_is_applied_once,
    withdrawal_removes_the_next_flush_mark,
];

async fn filled(subject: &Subject) -> (MemoryKey, Version) {
    let k = key("k");
    subject.append(&k, writer(1).write(1), &["!sys", "one", "two", "three"]).await;
    let version = subject.version(&k).await;
    (k, version)
}

fn places(numbers: &[u64]) -> Vec<Sequence> {
    numbers.iter().copied().map(Sequence::new).collect()
}

fn conditional(number: u64, expected: Version, text: &str) -> Append {
    Append { expected: Some(expected), ..batch(writer(9).write(number), &[text]) }
}

impl Subject {
    async fn version(&self, key: &MemoryKey) -> Version {
        Version::from(&self.checked_outline(key).await)
    }

    /// Asserts that an append with this expected version is refused and changes nothing.
    async fn refuses(&self, key: &MemoryKey, number: u64, expected: Version) {
        let before = self.checked_outline(key).await;
        let append = conditional(number, expected, "never");
        let refused = self.store.append(key, Access::OPEN, &append).await.unwrap_err();
        assert_eq!(refused.kind(), &StoreErrorKind::Conflict);
        assert_eq!(refused.applied(), crate::store::Applied::No);
        assert_eq!(self.checked_outline(key).await, before);
    }

    async fn accepts(&self, key: &MemoryKey, number: u64, expected: Version) {
        let append = conditional(number, expected, "answer");
        let appended = self.store.append(key, Access::OPEN, &append).await.unwrap();
        assert!(!appended.outcome.is_duplicate());
        assert_eq!(self.texts(key).await.last().map(String::as_str), Some("answer"));
        self.checked_outline(key).await;
    }

    pub(super) async fn splice(&self, key: &MemoryKey, change: impl FnOnce(Splice) -> Splice) {
        let splice = change(Splice::of(&self.checked_outline(key).await));
        self.store.splice(key, Access::OPEN, &splice).await.unwrap();
    }
}

async fn append_at_its_version_is_applied(subject: Subject) {
    let (k, version) = filled(&subject).await;
    assert_eq!(version.cursor().sequence, Sequence::new(4));
    subject.accepts(&k, 1, version).await;
    let next = subject.version(&k).await;
    subject.refuses(&k, 2, version).await;
    // A refused batch may be sent again for another version.
    subject.accepts(&k, 2, next).await;
}

async fn append_after_another_write_is_refused(subject: Subject) {
    let (k, version) = filled(&subject).await;
    subject.append(&k, writer(2).write(1), &["other"]).await;
    subject.refuses(&k, 1, version).await;
}

async fn resent_append_returns_its_first_result(subject: Subject) {
    let (k, version) = filled(&subject).await;
    subject.accepts(&k, 1, version).await;
    subject.append(&k, writer(2).write(1), &["other"]).await;
    let again = conditional(1, version, "answer");
    let again = subject.store.append(&k, Access::OPEN, &again).await.unwrap();
    assert!(again.outcome.is_duplicate());
    assert_eq!(again.outcome.first(), Some(Sequence::new(5)));
    assert_eq!(subject.texts(&k).await, ["!sys", "one", "two", "three", "answer", "other"]);
}

async fn stale_lease_is_reported_before_the_version(subject: Subject) {
    let (k, version) = filled(&subject).await;
    if subject.store.lease_domain().is_some() {
        return;
    }
    subject.store.claim(&k, lease(7)).await.unwrap();
    let append = conditional(1, version, "never");
    let refused =
        subject.store.append(&k, Access::with_lease(lease(6)), &append).await.unwrap_err();
    assert!(matches!(refused.kind(), StoreErrorKind::Fenced { .. }), "{refused}");
    subject.accepts(&k, 1, version).await;
}

async fn flush_of_older_messages_keeps_the_version(subject: Subject) {
    let (k, version) = filled(&subject).await;
    subject
        .splice(&k, |splice| Splice {
            summarized: places(&[2, 3]),
            summary: Some(message("*sum")),
            receipt: Some(receipt(1)),
            ..splice
        })
        .await;
    subject.accepts(&k, 1, version).await;
    assert_eq!(subject.texts(&k).await, ["!sys", "*sum", "three", "answer"]);
}

async fn removed_or_replaced_newest_message_ends_the_version(subject: Subject) {
    let (k, version) = filled(&subject).await;
    let newest = subject.checked_outline(&k).await.metas.pop().unwrap();
    let replace = Replace {
        write: writer(3).write(1),
        sequence: newest.sequence,
        replaced: newest.id,
        message: message("other three"),
    };
    subject.store.replace(&k, Access::OPEN, &replace).await.unwrap();
    subject.refuses(&k, 1, version).await;
    let replaced = subject.version(&k).await;
    subject.splice(&k, |splice| Splice { evicted: places(&[4]), ..splice }).await;
    subject.refuses(&k, 1, replaced).await;
}

async fn message_that_came_and_left_ends_the_version(subject: Subject) {
    let (k, version) = filled(&subject).await;
    subject.append(&k, writer(2).write(1), &["other"]).await;
    subject.splice(&k, |splice| Splice { evicted: places(&[5]), ..splice }).await;
    subject.refuses(&k, 1, version).await;
    let next = subject.version(&k).await;
    assert_eq!(next.cursor().sequence, Sequence::new(4));
    subject.accepts(&k, 1, next).await;
}

async fn version_of_an_empty_memory(subject: Subject) {
    let k = key("k");
    subject.accepts(&k, 1, Version::default()).await;
    subject.refuses(&k, 2, Version::default()).await;
    subject.store.clear(&k, Access::OPEN, &Clear::new(writer(3).write(1))).await.unwrap();
    subject.refuses(&k, 2, Version::default()).await;
    let cleared = subject.version(&k).await;
    subject.append(&k, writer(2).write(1), &["other"]).await;
    subject.splice(&k, |splice| Splice { evicted: places(&[2]), ..splice }).await;
    subject.refuses(&k, 2, cleared).await;
    let empty = subject.version(&k).await;
    subject.accepts(&k, 2, empty).await;
}

async fn version_after_the_newest_was_removed(subject: Subject) {
    let (k, _) = filled(&subject).await;
    subject.splice(&k, |splice| Splice { evicted: places(&[3, 4]), ..splice }).await;
    let version = subject.version(&k).await;
    assert_eq!(version.cursor().sequence, Sequence::new(2));
    // A change of an older message makes the version uncertain, because places after it were removed.
    subject.splice(&k, |splice| Splice { evicted: places(&[1]), ..splice }).await;
    subject.refuses(&k, 1, version).await;
    let version = subject.version(&k).await;
    subject.accepts(&k, 1, version).await;
}

async fn expired_memory_is_at_no_version(subject: Subject) {
    let k = key("k");
    let ttl = Some(std::time::Duration::from_secs(60));
    let append = Append { ttl, ..batch(writer(1).write(1), &["short"]) };
    subject.store.append(&k, Access::OPEN, &append).await.unwrap();
    let version = subject.version(&k).await;
    subject.clock.advance(std::time::Duration::from_secs(61));
    let append = conditional(1, version, "never");
    let refused = subject.store.append(&k, Access::OPEN, &append).await.unwrap_err();
    assert_eq!(refused.kind(), &StoreErrorKind::Conflict);
    subject.accepts(&k, 1, Version::default()).await;
}

fn withdrawal(id: u128, splice: Splice, numbers: &[u64]) -> Splice {
    let withdrawn = places(numbers);
    let set = withdrawn.iter().copied().collect();
    let none = SequenceSet::default();
    let receipt = FlushReceipt { withdrawn: set, summarized: none, ..receipt(id) };
    Splice { withdrawn, receipt: Some(receipt), ..splice }
}

async fn withdrawn_messages_are_removed_and_counted(subject: Subject) {
    let (k, version) = filled(&subject).await;
    let outline = subject.checked_outline(&k).await;
    let splice = withdrawal(1, Splice::of(&outline).weighed(&outline.metas), &[3, 4]);
    let splice = splice.weighed(&outline.metas);
    let counters = subject.store.splice(&k, Access::OPEN, &splice).await.unwrap();
    assert_eq!((counters.withdrawn, counters.evicted, counters.appended), (2, 0, 4));
    assert_eq!(subject.checked_outline(&k).await.head.counters, counters);
    assert_eq!(subject.texts(&k).await, ["!sys", "one"]);
    let receipts = subject.store.receipts(&k).await.unwrap();
    assert_eq!(Some(&receipts[0]), splice.receipt.as_ref());
    subject.refuses(&k, 1, version).await;
    // Sequence numbers continue.
    let appended = subject.append(&k, writer(2).write(1), &["again"]).await;
    assert_eq!(appended.outcome.first(), Some(Sequence::new(5)));
    assert_eq!(appended.counters.withdrawn, 2);
    // A withdrawn summary counts nowhere; without tallies the store looks the messages up.
    let summary = message("*sum");
    subject
        .splice(&k, |splice| Splice { summarized: places(&[5]), summary: Some(summary), ..splice })
        .await;
    subject.splice(&k, |splice| withdrawal(2, splice, &[2, 5])).await;
    let counters = subject.checked_outline(&k).await.head.counters;
    assert_eq!((counters.withdrawn, counters.summarized, counters.summaries), (3, 1, 0));
    subject.store.clear(&k, Access::OPEN, &Clear::new(writer(3).write(1))).await.unwrap();
    assert_eq!(subject.checked_outline(&k).await.head.counters.withdrawn, 3);
}

async fn withdrawal_after_another_write_is_refused(subject: Subject) {
    let (k, _) = filled(&subject).await;
    let splice = withdrawal(1, Splice::of(&subject.checked_outline(&k).await), &[4]);
    subject.append(&k, writer(2).write(1), &["other"]).await;
    let before = subject.checked_outline(&k).await;
    let refused = subject.store.splice(&k, Access::OPEN, &splice).await.unwrap_err();
    assert_eq!(refused.kind(), &StoreErrorKind::Conflict);
    assert_eq!(subject.checked_outline(&k).await, before);
}

async fn withdrawal_sent_twice_is_applied_once(subject: Subject) {
    let (k, _) = filled(&subject).await;
    let splice = withdrawal(1, Splice::of(&subject.checked_outline(&k).await), &[4]);
    subject.store.splice(&k, Access::OPEN, &splice).await.unwrap();
    subject.append(&k, writer(2).write(1), &["other"]).await;
    let before = subject.checked_outline(&k).await;
    let again = subject.store.splice(&k, Access::OPEN, &splice).await.unwrap();
    assert_eq!(again, before.head.counters);
    assert_eq!(subject.checked_outline(&k).await, before);
}

async fn withdrawal_removes_the_next_flush_mark(subject: Subject) {
    let (k, _) = filled(&subject).await;
    subject
        .splice(&k, |splice| Splice {
            evicted: places(&[2]),
            receipt: Some(receipt(1)),
            next_flush_at: Some(500),
            ..splice
        })
        .await;
    assert_eq!(subject.checked_outline(&k).await.head.next_flush_at, Some(500));
    let splice = |splice| Splice { withdrawn: places(&[4]), ..splice };
    subject.splice(&k, splice).await;
    assert_eq!(subject.checked_outline(&k).await.head.next_flush_at, None);
}
