//! The archive: removed messages and their retention.

use std::num::NonZeroUsize;
use std::time::Duration;

use super::read::{PAGES, page_limit, with_lengths};
use super::splice::receipt;
use super::unused::DAY;
use super::{Case, Subject, batch, cases_of, key, message, writer};
use crate::store::{
    Access, Applied, ArchivedRemoval, Clear, Counters, FlushReceipt, Head, NewMessage, PageLimit,
    RemovalCause, Restore, RestoreRefusal, Retention, SequenceSet, Splice, StoreError,
    StoreErrorKind, SummaryRecord,
};
use crate::{MemoryKey, Sequence, StoredMessage};
use uuid::Uuid;

pub(super) const CASES: &[Case] = cases_of![
    needs: Archive,
    removed_messages_are_archived,
    archived_messages_are_read_in_pages,
    archived_pages_end_at_a_number_of_bytes,
    removals_are_listed_newest_first,
    splice_without_archive_keeps_the_archive,
    splice_without_removals_archives_nothing,
    splice_sent_twice_is_archived_once,
    receipt_must_name_what_is_archived,
    removal_without_receipt_is_only_read,
    cleared_messages_are_archived,
    clear_without_archive_ends_the_archive,
    overdue_removals_are_gone,
    overdue_removals_do_not_count_as_bytes,
    oldest_removals_leave_beyond_max_bytes,
    removal_beyond_max_bytes_is_not_kept,
    archive_ends_with_the_ttl,
    archive_ends_with_the_removed_memory,
];

pub(super) const FOREVER: Retention = Retention::forever();
pub(super) const HOUR: Duration = Duration::from_secs(3_600);
pub(super) const MANY: NonZeroUsize = NonZeroUsize::new(100).unwrap();

pub(super) async fn filled(subject: &Subject) -> MemoryKey {
    let k = key("k");
    subject.append(&k, writer(1).write(1), &["!sys", "one", "#two", "three", "four"]).await;
    k
}

pub(super) fn places(numbers: &[u64]) -> Vec<Sequence> {
    numbers.iter().copied().map(Sequence::new).collect()
}

/// The receipt of this splice.
pub(super) fn receipt_of(id: u128, splice: &Splice) -> FlushReceipt {
    let set = |places: &[Sequence]| places.iter().copied().collect::<SequenceSet>();
    let mut receipt = receipt(id);
    receipt.summarized = set(&splice.summarized);
    receipt.evicted = set(&splice.evicted);
    receipt.withdrawn = set(&splice.withdrawn);
    receipt.summary = splice.summary.as_ref().map(|summary| {
        SummaryRecord::new(summary.id, splice.summarized[0], summary.tokens, "rules")
    });
    receipt
}

/// The messages that a splice of a case removes, and its summary.
#[derive(Default)]
pub(super) struct Flush {
    pub(super) summarized: &'static [u64],
    pub(super) evicted: &'static [u64],
    pub(super) withdrawn: &'static [u64],
    pub(super) summary: Option<NewMessage>,
}

pub(super) fn summary(places: &'static [u64], text: &str) -> Flush {
    Flush { summarized: places, summary: Some(message(text)), ..Flush::default() }
}

pub(super) fn eviction(places: &'static [u64]) -> Flush {
    Flush { evicted: places, ..Flush::default() }
}

pub(super) fn withdrawal(places: &'static [u64]) -> Flush {
    Flush { withdrawn: places, ..Flush::default() }
}

impl Subject {
    pub(super) async fn planned(&self, key: &MemoryKey, flush: Flush) -> Splice {
        let Flush { summarized, evicted, withdrawn, summary } = flush;
        Splice {
            summarized: places(summarized),
            evicted: places(evicted),
            withdrawn: places(withdrawn),
            summary,
            ..Splice::of(&self.checked_outline(key).await)
        }
    }

    /// Commits a flush whose receipt has this id.
    pub(super) async fn flush(
        &self,
        key: &MemoryKey,
        id: u128,
        flush: Flush,
        archive: Option<Retention>,
    ) {
        let splice = self.planned(key, flush).await;
        let splice = Splice { receipt: Some(receipt_of(id, &splice)), archive, ..splice };
        self.store.splice(key, Access::OPEN, &splice).await.unwrap();
        self.checked_outline(key).await;
    }

    pub(super) async fn removals(&self, key: &MemoryKey) -> Vec<ArchivedRemoval> {
        self.store.removals(key, None, MANY).await.unwrap()
    }

    /// The ids of the receipts of the archived removals, newest first.
    pub(super) async fn archived_receipts(&self, key: &MemoryKey) -> Vec<u128> {
        let removals = self.removals(key).await;
        let receipts = removals.iter().map(|removal| removal.receipt.as_ref());
        receipts.map(|receipt| receipt.map_or(0, |receipt| receipt.id.as_u128())).collect()
    }

    pub(super) async fn archived(&self, key: &MemoryKey, removal: u64) -> Vec<StoredMessage> {
        self.store.archived(key, removal, Sequence::ZERO, MANY.into()).await.unwrap()
    }

    pub(super) async fn messages(&self, key: &MemoryKey) -> Vec<StoredMessage> {
        self.store.read(key, crate::store::Read::default()).await.unwrap().messages
    }

    pub(super) async fn try_restore(
        &self,
        key: &MemoryKey,
        number: u64,
        receipt: u128,
    ) -> Result<Counters, StoreError> {
        let receipt = Uuid::from_u128(receipt);
        let restore = Restore { write: writer(50).write(number), receipt };
        self.store.restore(key, Access::OPEN, &restore).await
    }

    pub(super) async fn restore(&self, key: &MemoryKey, number: u64, receipt: u128) -> Head {
        let counters = self.try_restore(key, number, receipt).await.unwrap();
        let head = self.checked_outline(key).await.head;
        assert_eq!(head.counters, counters);
        head
    }

    /// Asserts that a removal cannot be undone for this reason, and that nothing changes.
    pub(super) async fn cannot_restore(
        &self,
        key: &MemoryKey,
        number: u64,
        receipt: u128,
        reason: RestoreRefusal,
    ) {
        let before = (self.checked_outline(key).await, self.removals(key).await);
        let refused = self.try_restore(key, number, receipt).await.unwrap_err();
        assert_eq!(refused.kind(), &StoreErrorKind::NotRestorable(reason));
        assert_eq!(refused.applied(), Applied::No);
        let after = (self.checked_outline(key).await, self.removals(key).await);
        assert_eq!(after, before);
    }
}

fn bytes_of(messages: &[StoredMessage]) -> u64 {
    messages.iter().map(|stored| stored.message.to_json().unwrap().len() as u64).sum()
}

async fn removed_messages_are_archived(subject: Subject) {
    let k = filled(&subject).await;
    let before = subject.messages(&k).await;
    subject.clock.advance(HOUR);
    let flush = Flush { evicted: &[5], ..summary(&[2, 3], "*sum") };
    let splice = subject.planned(&k, flush).await;
    let receipt = receipt_of(7, &splice);
    let archive = Some(Retention { keep: Some(DAY), max_bytes: 1_000 });
    let splice = Splice { receipt: Some(receipt.clone()), archive, ..splice };
    subject.store.splice(&k, Access::OPEN, &splice).await.unwrap();

    let removed: Vec<_> = [1, 2, 4].map(|index: usize| before[index].clone()).into();
    let now = subject.clock.now();
    let version = subject.checked_outline(&k).await.head.version;
    let mut expected =
        ArchivedRemoval::new(version, RemovalCause::Flush, now, &Retention::keep_for(DAY));
    assert_eq!(expected.keep_until, now.checked_add(DAY).ok());
    expected.places = places(&[2, 3, 5]).into_iter().collect();
    expected.messages = 3;
    expected.tokens = removed.iter().map(|stored| u64::from(stored.meta.tokens)).sum();
    expected.bytes = bytes_of(&removed);
    expected.receipt = Some(receipt);
    assert_eq!(subject.removals(&k).await, [expected]);
    assert_eq!(subject.archived(&k, version).await, removed);
    assert_eq!(subject.texts(&k).await, ["!sys", "*sum", "three"]);
}

async fn archived_messages_are_read_in_pages(subject: Subject) {
    let k = filled(&subject).await;
    let before = subject.messages(&k).await;
    subject.flush(&k, 1, eviction(&[2, 3, 5]), Some(FOREVER)).await;
    let number = subject.removals(&k).await[0].number;
    let page = async |after, limit| {
        let (after, limit) = (Sequence::new(after), NonZeroUsize::new(limit).unwrap());
        subject.store.archived(&k, number, after, limit.into()).await.unwrap()
    };
    assert_eq!(page(0, 2).await, before[1..3]);
    assert_eq!(page(3, 2).await, before[4..]);
    assert_eq!(page(4, 1).await, before[4..]);
    let one = PageLimit { messages: MANY, bytes: 1 };
    let found = subject.store.archived(&k, number, Sequence::ZERO, one).await.unwrap();
    assert_eq!(found, before[1..2]);
    assert!(page(5, 2).await.is_empty());
    assert!(page(u64::MAX, 2).await.is_empty());
    for unknown in [0, number - 1, number + 1, u64::MAX] {
        assert!(subject.archived(&k, unknown).await.is_empty());
    }
    assert!(subject.archived(&key("other"), number).await.is_empty());
}

async fn archived_pages_end_at_a_number_of_bytes(subject: Subject) {
    for (number, (lengths, messages, bytes, expected)) in PAGES.into_iter().enumerate() {
        let k = with_lengths(&subject, &format!("k{number}"), lengths).await;
        subject.flush(&k, 1, eviction(&[1, 2, 3, 4, 5]), Some(FOREVER)).await;
        let removal = subject.removals(&k).await[0].number;
        let (mut sizes, mut after) = (Vec::new(), Sequence::ZERO);
        loop {
            let limit = page_limit(messages, bytes);
            let page = subject.store.archived(&k, removal, after, limit).await.unwrap();
            let Some(last) = page.last() else { break };
            after = last.meta.sequence;
            sizes.push(page.len());
        }
        assert_eq!(sizes, expected, "{lengths:?}, {messages} messages, {bytes} bytes");
    }
}

async fn removals_are_listed_newest_first(subject: Subject) {
    let k = filled(&subject).await;
    for (id, places) in [(1, &[2][..]), (2, &[3]), (3, &[4])] {
        subject.flush(&k, id, eviction(places), Some(FOREVER)).await;
    }
    let all = subject.removals(&k).await;
    assert_eq!(subject.archived_receipts(&k).await, [3, 2, 1]);
    assert!(all.windows(2).all(|pair| pair[0].number > pair[1].number));
    let page = async |before, limit| {
        let limit = NonZeroUsize::new(limit).unwrap();
        subject.store.removals(&k, before, limit).await.unwrap()
    };
    assert_eq!(page(None, 2).await, all[..2]);
    assert_eq!(page(Some(all[1].number), 2).await, all[2..]);
    assert_eq!(page(Some(all[1].number), 1).await, all[2..]);
    assert!(page(Some(all[2].number), 2).await.is_empty());
    assert_eq!(page(Some(u64::MAX), 1).await, all[..1]);
    assert!(subject.removals(&key("other")).await.is_empty());
}

async fn splice_without_archive_keeps_the_archive(subject: Subject) {
    let k = filled(&subject).await;
    subject.flush(&k, 1, eviction(&[2]), None).await;
    assert!(subject.removals(&k).await.is_empty());
    subject.flush(&k, 2, eviction(&[3]), Some(FOREVER)).await;
    subject.flush(&k, 3, eviction(&[4]), None).await;
    assert_eq!(subject.archived_receipts(&k).await, [2]);
    subject.cannot_restore(&k, 1, 3, RestoreRefusal::NotArchived).await;
    subject.restore(&k, 2, 2).await;
    assert_eq!(subject.texts(&k).await, ["!sys", "#two", "four"]);
}

async fn splice_without_removals_archives_nothing(subject: Subject) {
    let k = filled(&subject).await;
    subject.flush(&k, 1, Flush::default(), Some(FOREVER)).await;
    let closed = Splice {
        closed: places(&[3]),
        archive: Some(FOREVER),
        ..subject.planned(&k, Flush::default()).await
    };
    subject.store.splice(&k, Access::OPEN, &closed).await.unwrap();
    assert!(subject.removals(&k).await.is_empty());
    subject.cannot_restore(&k, 1, 1, RestoreRefusal::NotArchived).await;
}

async fn splice_sent_twice_is_archived_once(subject: Subject) {
    let k = filled(&subject).await;
    let splice = subject.planned(&k, summary(&[2, 3], "*sum")).await;
    let receipt = Some(receipt_of(1, &splice));
    let splice = Splice { receipt, archive: Some(FOREVER), ..splice };
    for _ in 0..2 {
        subject.store.splice(&k, Access::OPEN, &splice).await.unwrap();
    }
    assert_eq!(subject.archived_receipts(&k).await, [1]);
    subject.restore(&k, 1, 1).await;
    let texts = subject.texts(&k).await;
    subject.store.splice(&k, Access::OPEN, &splice).await.unwrap();
    assert_eq!(subject.texts(&k).await, texts, "the flush was undone");
    assert!(subject.removals(&k).await.is_empty());
}

async fn receipt_must_name_what_is_archived(subject: Subject) {
    let k = filled(&subject).await;
    let flush = Flush { evicted: &[4], withdrawn: &[5], ..summary(&[2, 3], "*sum") };
    let splice = subject.planned(&k, flush).await;
    let right = receipt_of(1, &splice);
    let before = subject.checked_outline(&k).await;
    let other = || places(&[9]).into_iter().collect();
    let named = right.summary.clone().unwrap();
    for wrong in [
        FlushReceipt { summarized: other(), ..right.clone() },
        FlushReceipt { evicted: other(), ..right.clone() },
        FlushReceipt { withdrawn: other(), ..right.clone() },
        FlushReceipt { summary: None, ..right.clone() },
        FlushReceipt {
            summary: Some(SummaryRecord { sequence: Sequence::new(3), ..named.clone() }),
            ..right.clone()
        },
        FlushReceipt {
            summary: Some(SummaryRecord { id: message("other").id, ..named }),
            ..right.clone()
        },
    ] {
        let wrong = Splice { receipt: Some(wrong), archive: Some(FOREVER), ..splice.clone() };
        let refused = subject.store.splice(&k, Access::OPEN, &wrong).await.unwrap_err();
        assert!(matches!(refused.kind(), StoreErrorKind::Invalid(_)), "{refused}");
        assert_eq!(subject.checked_outline(&k).await, before);
    }
    let right = Splice { receipt: Some(right), archive: Some(FOREVER), ..splice };
    subject.store.splice(&k, Access::OPEN, &right).await.unwrap();
    assert_eq!(subject.archived_receipts(&k).await, [1]);
}

async fn removal_without_receipt_is_only_read(subject: Subject) {
    let k = filled(&subject).await;
    let splice = Splice { archive: Some(FOREVER), ..subject.planned(&k, eviction(&[2])).await };
    subject.store.splice(&k, Access::OPEN, &splice).await.unwrap();
    let removals = subject.removals(&k).await;
    assert_eq!((removals.len(), &removals[0].receipt), (1, &None));
    assert_eq!(subject.archived(&k, removals[0].number).await.len(), 1);
    subject.cannot_restore(&k, 1, 0, RestoreRefusal::NotArchived).await;
}

async fn cleared_messages_are_archived(subject: Subject) {
    let k = filled(&subject).await;
    let before = subject.messages(&k).await;
    let head = subject.checked_outline(&k).await.head;
    let clear = Clear { archive: Some(FOREVER), ..Clear::new(writer(2).write(1)) };
    let receipt = subject.store.clear(&k, Access::OPEN, &clear).await.unwrap().receipt;
    let removals = subject.removals(&k).await;
    subject.check_receipt(receipt, &head, removals.first());
    assert_eq!((removals.len(), removals[0].cause), (1, RemovalCause::Clear));
    assert_eq!((removals[0].messages, removals[0].bytes), (5, bytes_of(&before)));
    assert_eq!((&removals[0].receipt, removals[0].keep_until), (&None, None));
    assert_eq!(subject.archived(&k, removals[0].number).await, before);
    // Nothing is left that another clear could archive.
    let head = subject.checked_outline(&k).await.head;
    let clear = Clear { write: writer(2).write(2), ..clear };
    let receipt = subject.store.clear(&k, Access::OPEN, &clear).await.unwrap().receipt;
    subject.check_receipt(receipt, &head, None);
    assert_eq!(subject.removals(&k).await, removals);
    assert!(subject.texts(&k).await.is_empty());
}

async fn clear_without_archive_ends_the_archive(subject: Subject) {
    let k = filled(&subject).await;
    subject.flush(&k, 1, eviction(&[2]), Some(FOREVER)).await;
    let earlier = subject.removals(&k).await[0].number;
    subject.store.clear(&k, Access::OPEN, &Clear::new(writer(2).write(1))).await.unwrap();
    assert!(subject.removals(&k).await.is_empty());
    assert!(subject.archived(&k, earlier).await.is_empty());
    subject.cannot_restore(&k, 1, 1, RestoreRefusal::NotArchived).await;
    subject.append(&k, writer(2).write(2), &["new"]).await;
    subject.flush(&k, 2, eviction(&[6]), Some(FOREVER)).await;
    let later = subject.removals(&k).await;
    assert!(later.len() == 1 && later[0].number > earlier, "numbers do not repeat");
}

async fn overdue_removals_are_gone(subject: Subject) {
    let k = filled(&subject).await;
    subject.flush(&k, 1, eviction(&[2]), Some(Retention::keep_for(HOUR))).await;
    subject.flush(&k, 2, eviction(&[3]), Some(FOREVER)).await;
    subject.flush(&k, 3, eviction(&[4]), Some(Retention::keep_for(HOUR * 3))).await;
    let overdue = subject.removals(&k).await[2].number;
    subject.clock.advance(HOUR - Duration::from_secs(1));
    assert_eq!(subject.archived_receipts(&k).await, [3, 2, 1]);
    subject.clock.advance(Duration::from_secs(1));
    assert_eq!(subject.archived_receipts(&k).await, [3, 2]);
    assert!(subject.archived(&k, overdue).await.is_empty());
    subject.cannot_restore(&k, 1, 1, RestoreRefusal::NotArchived).await;
    subject.flush(&k, 4, eviction(&[5]), Some(FOREVER)).await;
    assert_eq!(subject.archived_receipts(&k).await, [4, 3, 2]);
    subject.clock.advance(HOUR * 2);
    assert_eq!(subject.archived_receipts(&k).await, [4, 2]);
    subject.restore(&k, 2, 2).await;
    assert_eq!(subject.texts(&k).await, ["!sys", "#two"]);
}

async fn overdue_removals_do_not_count_as_bytes(subject: Subject) {
    let k = filled(&subject).await;
    let bytes = bytes_of(&subject.messages(&k).await[1..3]);
    subject.flush(&k, 1, eviction(&[4]), Some(Retention::keep_for(HOUR))).await;
    subject.clock.advance(HOUR);
    let enough = Retention { max_bytes: bytes, ..FOREVER };
    subject.flush(&k, 2, eviction(&[2]), Some(enough)).await;
    subject.flush(&k, 3, eviction(&[3]), Some(enough)).await;
    assert_eq!(subject.archived_receipts(&k).await, [3, 2]);
}

async fn oldest_removals_leave_beyond_max_bytes(subject: Subject) {
    let k = filled(&subject).await;
    let bytes = bytes_of(&subject.messages(&k).await[2..]);
    subject.flush(&k, 1, eviction(&[2]), Some(FOREVER)).await;
    subject.flush(&k, 2, eviction(&[3, 4]), Some(FOREVER)).await;
    let dropped = subject.removals(&k).await[1].number;
    let exact = Retention { max_bytes: bytes, ..FOREVER };
    subject.flush(&k, 3, eviction(&[5]), Some(exact)).await;
    assert_eq!(subject.archived_receipts(&k).await, [3, 2]);
    assert!(subject.archived(&k, dropped).await.is_empty());
    subject.cannot_restore(&k, 1, 1, RestoreRefusal::NotArchived).await;
    // A removal leaves as a whole.
    let less = Retention { max_bytes: bytes - 1, ..FOREVER };
    subject.append(&k, writer(2).write(1), &["x"]).await;
    subject.flush(&k, 4, eviction(&[6]), Some(less)).await;
    assert_eq!(subject.archived_receipts(&k).await, [4, 3]);
}

async fn removal_beyond_max_bytes_is_not_kept(subject: Subject) {
    let k = filled(&subject).await;
    let first = subject.messages(&k).await[1..2].to_vec();
    subject.flush(&k, 1, eviction(&[2]), Some(FOREVER)).await;
    let number = subject.removals(&k).await[0].number;
    // The earlier removal fits, and stays.
    let one = Some(Retention { max_bytes: bytes_of(&first), ..FOREVER });
    subject.flush(&k, 2, eviction(&[3]), one).await;
    assert_eq!(subject.archived_receipts(&k).await, [1]);
    assert_eq!(subject.texts(&k).await, ["!sys", "three", "four"]);
    subject.cannot_restore(&k, 1, 2, RestoreRefusal::NotArchived).await;
    let head = subject.checked_outline(&k).await.head;
    let clear = Clear { archive: one, ..Clear::new(writer(2).write(1)) };
    let receipt = subject.store.clear(&k, Access::OPEN, &clear).await.unwrap().receipt;
    subject.check_receipt(receipt, &head, None);
    assert_eq!(subject.archived_receipts(&k).await, [1]);
    assert_eq!(subject.archived(&k, number).await, first);
    assert_eq!(subject.checked_outline(&k).await.head.counters.cleared, 3);
    // One that does not fit leaves, also with a removal that is not kept.
    let tiny = Some(Retention { max_bytes: 1, ..FOREVER });
    subject.append(&k, writer(2).write(2), &["more"]).await;
    subject.flush(&k, 3, eviction(&[6]), tiny).await;
    assert!(subject.removals(&k).await.is_empty());
}

async fn archive_ends_with_the_ttl(subject: Subject) {
    let k = key("k");
    let mut append = batch(writer(1).write(1), &["!sys", "one", "two"]);
    append.ttl = Some(HOUR);
    subject.store.append(&k, Access::OPEN, &append).await.unwrap();
    subject.flush(&k, 1, eviction(&[2]), Some(FOREVER)).await;
    let number = subject.removals(&k).await[0].number;
    subject.clock.advance(HOUR);
    assert!(subject.removals(&k).await.is_empty());
    assert!(subject.archived(&k, number).await.is_empty());
    subject.cannot_restore(&k, 1, 1, RestoreRefusal::NotArchived).await;
    subject.append(&k, writer(1).write(1), &["again"]).await;
    assert!(subject.removals(&k).await.is_empty());
    assert!(subject.archived(&k, number).await.is_empty());
    subject.cannot_restore(&k, 1, 1, RestoreRefusal::NotArchived).await;
}

async fn archive_ends_with_the_removed_memory(subject: Subject) {
    let k = filled(&subject).await;
    subject.flush(&k, 1, eviction(&[2, 3, 4]), Some(FOREVER)).await;
    let number = subject.removals(&k).await[0].number;
    subject.clock.advance(DAY + HOUR);
    let listed = subject.old().await;
    assert_eq!(listed.len(), 1);
    // The first part ends the memory and its archive.
    let mut parts = 1;
    while subject.remove(&listed[0], 1).await.more {
        parts += 1;
        assert!(parts < 20, "a bounded number of parts");
        assert!(subject.removals(&k).await.is_empty());
    }
    assert!(subject.removals(&k).await.is_empty());
    assert!(subject.archived(&k, number).await.is_empty());
    subject.append(&k, writer(1).write(1), &["again"]).await;
    assert!(subject.removals(&k).await.is_empty());
    subject.cannot_restore(&k, 1, 1, RestoreRefusal::NotArchived).await;
}
