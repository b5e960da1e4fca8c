//! Restores: the return of removed messages.

use super::archive::{
    FOREVER, Flush, HOUR, MANY, eviction, filled, places, receipt_of, summary, withdrawal,
};
use super::{Case, Subject, batch, cases_of, key, lease, message, writer};
use crate::store::{
    Access, Clear, FLUSH_HELD, FlushReceipt, KEPT_RECEIPTS, MessageId, NewMessage, RemovalCause,
    Replace, Restore, RestoreRefusal, Splice, StoreErrorKind,
};
use crate::{Priority, Sequence};
use uuid::Uuid;

pub(super) const CASES: &[Case] = cases_of![
    needs: Archive,
    restored_flush_leaves_no_trace,
    restored_messages_keep_their_marks,
    withdrawn_messages_return_before_newer_ones,
    restore_holds_flushes_and_ends_snapshots,
    replacements_and_closed_calls_keep_the_hold,
    restore_does_not_renew_the_ttl,
    restore_sent_twice_is_applied_once,
    stale_lease_cannot_restore,
    unknown_receipt_is_not_restorable,
    later_flush_is_undone_first,
    replaced_summary_is_not_lost,
    pinned_summary_is_undone,
    lost_summary_cannot_be_undone,
    cleared_memory_is_not_restored,
    newest_removal_of_a_receipt_is_restored,
    restore_is_signaled,
    receipt_lives_as_long_as_its_archive,
];

/// Longer than the list of the newest receipts.
async fn receipt_lives_as_long_as_its_archive(subject: Subject) {
    const EVICTED: [[u64; 1]; KEPT_RECEIPTS + 1] = [
        [2],
        [3],
        [4],
        [5],
        [6],
        [7],
        [8],
        [9],
        [10],
        [11],
        [12],
        [13],
        [14],
        [15],
        [16],
        [17],
        [18],
    ];
    let k = filled(&subject).await;
    let texts = ["x"; KEPT_RECEIPTS];
    subject.append(&k, writer(1).write(2), &texts).await;
    let before = subject.messages(&k).await;
    for (evicted, id) in EVICTED.iter().zip(1..) {
        subject.flush(&k, id, eviction(evicted), Some(FOREVER)).await;
    }
    let listed = subject.store.receipts(&k).await.unwrap();
    assert!(listed.iter().all(|receipt| receipt.id != Uuid::from_u128(1)));
    subject.restore(&k, 1, 1).await;
    assert_eq!(subject.messages(&k).await[1], before[1]);
}

async fn restore_is_signaled(subject: Subject) {
    let k = filled(&subject).await;
    subject.flush(&k, 1, summary(&[2, 3], "*sum"), Some(FOREVER)).await;
    let mut watch = subject.store.watch(&k).await.unwrap();
    subject.restore(&k, 1, 1).await;
    watch.changed().await.unwrap();
}

async fn restored_flush_leaves_no_trace(subject: Subject) {
    let k = filled(&subject).await;
    let (before, messages) = (subject.checked_outline(&k).await, subject.messages(&k).await);
    let flush = Flush { evicted: &[5], ..summary(&[2, 3], "*sum") };
    subject.flush(&k, 1, flush, Some(FOREVER)).await;
    let number = subject.removals(&k).await[0].number;
    let receipts = subject.store.receipts(&k).await.unwrap();
    let head = subject.restore(&k, 1, 1).await;
    assert_eq!(subject.messages(&k).await, messages);
    assert_eq!(head.counters, before.head.counters);
    assert_eq!(head.last, before.head.last);
    assert!(subject.removals(&k).await.is_empty());
    assert!(subject.archived(&k, number).await.is_empty());
    assert_eq!(subject.store.receipts(&k).await.unwrap(), receipts);
    // The messages can be flushed and restored again.
    subject.flush(&k, 2, summary(&[2, 3, 4, 5], "*sum2"), Some(FOREVER)).await;
    assert_eq!(subject.texts(&k).await, ["!sys", "*sum2"]);
    subject.restore(&k, 2, 2).await;
    assert_eq!(subject.messages(&k).await, messages);
}

async fn restored_messages_keep_their_marks(subject: Subject) {
    let k = filled(&subject).await;
    let close = Splice { closed: places(&[2]), ..subject.planned(&k, Flush::default()).await };
    subject.store.splice(&k, Access::OPEN, &close).await.unwrap();
    // A message may be closed and removed at once.
    let flush = subject.planned(&k, summary(&[2, 3, 4], "*sum")).await;
    let receipt = Some(receipt_of(1, &flush));
    let flush = Splice { receipt, closed: places(&[3]), archive: Some(FOREVER), ..flush };
    subject.store.splice(&k, Access::OPEN, &flush).await.unwrap();
    let archived = subject.archived(&k, subject.removals(&k).await[0].number).await;
    let marks: Vec<_> = archived.iter().map(|stored| stored.meta.closed).collect();
    assert_eq!(marks, [true, true, false]);
    // An archived summary is one, and returns as one.
    subject.flush(&k, 2, eviction(&[2, 5]), Some(FOREVER)).await;
    let archived = subject.archived(&k, subject.removals(&k).await[0].number).await;
    assert!(archived[0].meta.summary && !archived[1].meta.summary);
    let head = subject.restore(&k, 1, 2).await;
    assert_eq!((head.counters.summaries, head.counters.evicted), (1, 0));
    let metas = subject.checked_outline(&k).await.metas;
    assert!(metas[1].summary && !metas[2].summary);
    subject.restore(&k, 2, 1).await;
    let metas = subject.checked_outline(&k).await.metas;
    let closed: Vec<_> = metas.iter().map(|meta| (meta.closed, meta.summary)).collect();
    let [open, marked] = [(false, false), (true, false)];
    assert_eq!(closed, [open, marked, marked, open, open]);
}

async fn withdrawn_messages_return_before_newer_ones(subject: Subject) {
    let k = filled(&subject).await;
    subject.flush(&k, 1, withdrawal(&[4, 5]), Some(FOREVER)).await;
    assert_eq!(subject.removals(&k).await[0].cause, RemovalCause::Withdrawal);
    let appended = subject.append(&k, writer(2).write(1), &["new"]).await;
    assert_eq!(appended.outcome.first(), Some(Sequence::new(6)));
    let head = subject.restore(&k, 1, 1).await;
    assert_eq!(subject.texts(&k).await, ["!sys", "one", "#two", "three", "four", "new"]);
    assert_eq!((head.counters.withdrawn, head.counters.appended), (0, 6));
    let appended = subject.append(&k, writer(2).write(2), &["newer"]).await;
    assert_eq!(appended.outcome.first(), Some(Sequence::new(7)));
}

async fn restore_holds_flushes_and_ends_snapshots(subject: Subject) {
    let k = filled(&subject).await;
    subject.flush(&k, 1, eviction(&[2]), Some(FOREVER)).await;
    let before = subject.checked_outline(&k).await;
    let plan = subject.planned(&k, eviction(&[3])).await;
    let head = subject.restore(&k, 1, 1).await;
    assert_eq!(head.next_flush_at, Some(FLUSH_HELD));
    assert!(head.generation > before.head.generation);
    assert!(head.version > before.head.version);
    let refused = subject.store.splice(&k, Access::OPEN, &plan).await.unwrap_err();
    assert_eq!(refused.kind(), &StoreErrorKind::Conflict);
    let appended = subject.append(&k, writer(2).write(1), &["x"]).await;
    assert_eq!(appended.next_flush_at, Some(FLUSH_HELD));
    let splice = subject.planned(&k, eviction(&[3])).await;
    let receipt = Some(receipt_of(2, &splice));
    let splice = Splice { receipt, next_flush_at: Some(900), ..splice };
    subject.store.splice(&k, Access::OPEN, &splice).await.unwrap();
    assert_eq!(subject.checked_outline(&k).await.head.next_flush_at, Some(900));
}

async fn replacements_and_closed_calls_keep_the_hold(subject: Subject) {
    let k = filled(&subject).await;
    subject.flush(&k, 1, eviction(&[2]), Some(FOREVER)).await;
    subject.restore(&k, 1, 1).await;
    let newest = subject.checked_outline(&k).await.metas.pop().unwrap();
    let replace = Replace {
        write: writer(5).write(1),
        sequence: newest.sequence,
        replaced: newest.id,
        message: message("redacted"),
    };
    let store = &subject.store;
    store.replace(&k, Access::OPEN, &replace).await.unwrap();
    assert_eq!(subject.checked_outline(&k).await.head.next_flush_at, Some(FLUSH_HELD));
    let mut close = Splice::of(&subject.checked_outline(&k).await);
    close.closed = vec![newest.sequence];
    store.splice(&k, Access::OPEN, &close).await.unwrap();
    assert_eq!(subject.checked_outline(&k).await.head.next_flush_at, Some(FLUSH_HELD));
}

async fn restore_does_not_renew_the_ttl(subject: Subject) {
    let k = key("k");
    let mut append = batch(writer(1).write(1), &["!sys", "one"]);
    append.ttl = Some(HOUR);
    subject.store.append(&k, Access::OPEN, &append).await.unwrap();
    let end = subject.checked_outline(&k).await.head.expires_at;
    subject.flush(&k, 1, eviction(&[2]), Some(FOREVER)).await;
    subject.clock.advance(HOUR / 2);
    assert_eq!(subject.restore(&k, 1, 1).await.expires_at, end);
    subject.clock.advance(HOUR / 2);
    assert!(subject.texts(&k).await.is_empty());
}

async fn restore_sent_twice_is_applied_once(subject: Subject) {
    let k = filled(&subject).await;
    subject.flush(&k, 1, summary(&[2, 3], "*sum"), Some(FOREVER)).await;
    subject.restore(&k, 1, 1).await;
    let before = subject.checked_outline(&k).await;
    assert_eq!(subject.try_restore(&k, 1, 1).await.unwrap(), before.head.counters);
    assert_eq!(subject.checked_outline(&k).await, before);
    // A retry is recognized although the same receipt could be restored again.
    subject.flush(&k, 2, summary(&[2, 3], "*sum2"), Some(FOREVER)).await;
    let before = subject.checked_outline(&k).await;
    assert_eq!(subject.try_restore(&k, 1, 2).await.unwrap(), before.head.counters);
    assert_eq!(subject.checked_outline(&k).await, before);
    assert_eq!(subject.archived_receipts(&k).await, [2]);
    subject.cannot_restore(&k, 2, 1, RestoreRefusal::NotArchived).await;
    // A refused request may be sent again for another removal.
    subject.restore(&k, 2, 2).await;
}

async fn stale_lease_cannot_restore(subject: Subject) {
    let k = filled(&subject).await;
    subject.flush(&k, 1, eviction(&[2]), Some(FOREVER)).await;
    if subject.store.lease_domain().is_none() {
        subject.store.claim(&k, lease(7)).await.unwrap();
    }
    let before = subject.checked_outline(&k).await;
    // An unknown receipt is reported after the lease.
    for receipt in [1, 9] {
        let restore = Restore { write: writer(50).write(1), receipt: Uuid::from_u128(receipt) };
        let access = Access::with_lease(lease(6));
        let refused = subject.store.restore(&k, access, &restore).await.unwrap_err();
        assert!(matches!(refused.kind(), StoreErrorKind::Fenced { .. }), "{refused}");
        assert_eq!(subject.checked_outline(&k).await, before);
    }
    if subject.store.lease_domain().is_none() {
        let restore = Restore { write: writer(50).write(1), receipt: Uuid::from_u128(1) };
        let access = Access::with_lease(lease(8));
        subject.store.restore(&k, access, &restore).await.unwrap();
        assert_eq!(subject.checked_outline(&k).await.head.fence, lease(8).token);
    }
}

async fn unknown_receipt_is_not_restorable(subject: Subject) {
    let k = filled(&subject).await;
    subject.cannot_restore(&k, 1, 1, RestoreRefusal::NotArchived).await;
    subject.flush(&k, 1, eviction(&[2]), Some(FOREVER)).await;
    subject.cannot_restore(&k, 1, 2, RestoreRefusal::NotArchived).await;
    subject.cannot_restore(&key("unwritten"), 1, 1, RestoreRefusal::NotArchived).await;
    assert!(subject.store.keys(None, MANY).await.unwrap().contains(&k));
}

async fn later_flush_is_undone_first(subject: Subject) {
    let k = filled(&subject).await;
    let messages = subject.messages(&k).await;
    subject.flush(&k, 1, summary(&[2, 3], "*sum1"), Some(FOREVER)).await;
    let first = subject.messages(&k).await;
    subject.flush(&k, 2, summary(&[2, 4], "*sum2"), Some(FOREVER)).await;
    subject.cannot_restore(&k, 1, 1, RestoreRefusal::SummaryRemoved).await;
    subject.restore(&k, 1, 2).await;
    assert_eq!(subject.messages(&k).await, first);
    subject.flush(&k, 3, eviction(&[2]), Some(FOREVER)).await;
    subject.cannot_restore(&k, 2, 1, RestoreRefusal::SummaryRemoved).await;
    subject.restore(&k, 2, 3).await;
    // A later removal of other messages does not matter.
    subject.flush(&k, 4, eviction(&[5]), Some(FOREVER)).await;
    subject.restore(&k, 3, 1).await;
    subject.restore(&k, 4, 4).await;
    assert_eq!(subject.messages(&k).await, messages);
}

async fn replaced_summary_is_not_lost(subject: Subject) {
    let k = filled(&subject).await;
    subject.flush(&k, 1, summary(&[2, 3], "*sum"), Some(FOREVER)).await;
    let replace = Replace {
        write: writer(2).write(1),
        sequence: Sequence::new(2),
        replaced: message("*sum").id,
        message: message("*better"),
    };
    subject.store.replace(&k, Access::OPEN, &replace).await.unwrap();
    subject.cannot_restore(&k, 1, 1, RestoreRefusal::SummaryReplaced).await;
    assert_eq!(subject.texts(&k).await, ["!sys", "*better", "three", "four"]);
}

/// It has another id, and is still the summary of its flush.
async fn pinned_summary_is_undone(subject: Subject) {
    let k = filled(&subject).await;
    let before = subject.messages(&k).await;
    subject.flush(&k, 1, eviction(&[5]), Some(FOREVER)).await;
    subject.flush(&k, 2, summary(&[2, 3], "*sum"), Some(FOREVER)).await;
    subject.flush(&k, 3, eviction(&[4]), Some(FOREVER)).await;
    let id = |number| MessageId::new(Uuid::from_u128(number));
    for (number, other) in [(1, id(0xabc << 100)), (2, id(7))] {
        let found = subject.messages(&k).await[1].clone();
        let class = NewMessage { priority: Some(Priority::new(number)), ..message("*sum") };
        let replace = Replace {
            write: writer(2).write(number.into()),
            sequence: found.meta.sequence,
            replaced: found.meta.id,
            message: NewMessage { id: other, ..class },
        };
        subject.store.replace(&k, Access::OPEN, &replace).await.unwrap();
        let listed = subject.store.receipts(&k).await.unwrap();
        let archived = subject.removals(&k).await.into_iter().filter_map(|one| one.receipt);
        for receipts in [listed, archived.collect()] {
            let of = |receipt: &FlushReceipt| Some(receipt.summary.as_ref()?.id);
            let written: Vec<_> = receipts.iter().map(of).collect();
            assert_eq!(written, [None, Some(other), None]);
        }
    }
    subject.restore(&k, 1, 2).await;
    assert_eq!(subject.messages(&k).await, before[..3]);
    let removals = subject.removals(&k).await;
    assert_eq!(subject.archived(&k, removals[0].number).await, before[3..4]);
}

async fn lost_summary_cannot_be_undone(subject: Subject) {
    let k = filled(&subject).await;
    subject.flush(&k, 1, summary(&[2, 3], "*sum1"), Some(FOREVER)).await;
    subject.flush(&k, 2, summary(&[2, 4], "*sum2"), None).await;
    subject.cannot_restore(&k, 1, 1, RestoreRefusal::SummaryReplaced).await;
    subject.flush(&k, 3, eviction(&[2]), None).await;
    subject.cannot_restore(&k, 1, 1, RestoreRefusal::SummaryRemoved).await;
    assert_eq!(subject.archived_receipts(&k).await, [1], "its messages can still be read");
}

async fn cleared_memory_is_not_restored(subject: Subject) {
    let k = filled(&subject).await;
    subject.flush(&k, 1, summary(&[2, 3], "*sum"), Some(FOREVER)).await;
    subject.flush(&k, 2, eviction(&[4]), Some(FOREVER)).await;
    let clear = Clear { archive: Some(FOREVER), ..Clear::new(writer(2).write(1)) };
    subject.store.clear(&k, Access::OPEN, &clear).await.unwrap();
    subject.append(&k, writer(2).write(2), &["new", "newer"]).await;
    subject.flush(&k, 3, eviction(&[6]), Some(FOREVER)).await;
    for earlier in [1, 2] {
        subject.cannot_restore(&k, 1, earlier, RestoreRefusal::Cleared).await;
    }
    subject.restore(&k, 1, 3).await;
    assert_eq!(subject.texts(&k).await, ["new", "newer"]);
    assert_eq!(subject.archived_receipts(&k).await, [0, 2, 1]);
}

/// A custom flusher may give a receipt's id twice.
async fn newest_removal_of_a_receipt_is_restored(subject: Subject) {
    let k = filled(&subject).await;
    subject.flush(&k, 1, eviction(&[2]), Some(FOREVER)).await;
    subject.flush(&k, 2, eviction(&[3]), Some(FOREVER)).await;
    subject.flush(&k, 1, eviction(&[4]), Some(FOREVER)).await;
    subject.restore(&k, 1, 1).await;
    assert_eq!(subject.texts(&k).await, ["!sys", "three", "four"]);
    subject.restore(&k, 2, 1).await;
    assert_eq!(subject.texts(&k).await, ["!sys", "one", "three", "four"]);
    assert_eq!(subject.archived_receipts(&k).await, [2]);
}
