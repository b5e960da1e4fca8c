//! Splices that replace messages in their places.

use super::archive::{
    FOREVER, Flush, HOUR, eviction, filled, places, receipt_of, summary, withdrawal,
};
use super::splice::receipt;
use super::{Case, Subject, batch, cases_of, key, message, writer};
use crate::dialect::ToolCall;
use crate::store::{
    Access, Append, FLUSH_HELD, FlushReceipt, NewMessage, RemovalCause, Replace, ReplacedRecord,
    Replacement, RestoreRefusal, Retention, Splice, StoreErrorKind,
};
use crate::{MemoryKey, Message, Priority, Sequence};

pub(super) const CASES: &[Case] = cases_of![
    replaced_message_keeps_place_and_counts,
    replacement_changes_class_and_tokens,
    replacing_splice_sent_twice_is_applied_once,
    replacing_ends_snapshots_and_the_flush_mark,
    unsound_replacements_are_refused,
];

pub(super) const ARCHIVE_CASES: &[Case] = cases_of![
    needs: Archive,
    originals_are_archived_among_removed_messages,
    originals_are_read_in_pages,
    undone_replacements_leave_no_trace,
    receipt_must_name_replaced_messages,
    later_removal_of_a_replacement_is_undone_first,
    replaced_replacement_is_not_lost,
    replacement_of_another_class_is_undone,
    replacement_lost_without_archive_cannot_be_undone,
    originals_beyond_max_bytes_are_not_kept,
    overdue_originals_are_gone,
    replacing_without_archive_keeps_nothing,
];

fn replacement(place: u64, message: NewMessage) -> Replacement {
    Replacement { sequence: Sequence::new(place), message }
}

/// Adds replacements by messages with these texts.
fn replacing(splice: Splice, replaced: &[(u64, &str)]) -> Splice {
    let replaced = replaced.iter().map(|(place, text)| replacement(*place, message(text)));
    Splice { replaced: replaced.collect(), ..splice }
}

fn with_receipt(id: u128, splice: Splice) -> Splice {
    let mut receipt = receipt_of(id, &splice);
    receipt.replaced = splice
        .replaced
        .iter()
        .map(|one| ReplacedRecord::new(one.sequence, one.message.id, 9, one.message.tokens))
        .collect();
    Splice { receipt: Some(receipt), archive: Some(FOREVER), ..splice }
}

impl Subject {
    async fn splice_checked(&self, key: &MemoryKey, splice: &Splice) {
        let counters = self.store.splice(key, Access::OPEN, splice).await.unwrap();
        assert_eq!(self.checked_outline(key).await.head.counters, counters);
    }

    /// Commits a flush with this receipt that also replaces messages.
    pub(super) async fn flush_replacing(
        &self,
        key: &MemoryKey,
        id: u128,
        flush: Flush,
        replaced: &[(u64, &str)],
    ) {
        let splice = with_receipt(id, replacing(self.planned(key, flush).await, replaced));
        self.splice_checked(key, &splice).await;
    }
}

async fn replaced_message_keeps_place_and_counts(subject: Subject) {
    let k = key("k");
    let mut call = message("call");
    call.message = Message::calls([ToolCall::function("c", "f", "{}")]);
    let mut result = message("result");
    result.message = Message::tool_result("c", "a long page");
    let append =
        Append { messages: [call, result.clone()].into(), ..batch(writer(1).write(1), &["x"]) };
    subject.store.append(&k, Access::OPEN, &append).await.unwrap();
    let before = subject.checked_outline(&k).await;
    let mut cleared = NewMessage { id: message("cleared").id, tokens: 3, ..result };
    cleared.message = Message::tool_result("c", "cleared");
    let splice = subject.planned(&k, Flush::default()).await;
    let splice = Splice { replaced: vec![replacement(2, cleared.clone())], ..splice };
    subject.splice_checked(&k, &splice).await;

    let after = subject.checked_outline(&k).await;
    let (first, second) = (&after.metas[0], &after.metas[1]);
    assert_eq!(*first, before.metas[0]);
    assert_eq!(*second, cleared.stored_at(Sequence::new(2)).meta);
    assert_eq!(second.link, before.metas[1].link);
    let lifetime = |outline: &crate::store::Outline| {
        let counters = &outline.head.counters;
        (counters.appended, counters.evicted, counters.summarized, counters.withdrawn)
    };
    assert_eq!(lifetime(&after), lifetime(&before));
    assert_eq!(after.head.counters.present.messages, 2);
    assert!(after.head.counters.present.tokens < before.head.counters.present.tokens);
    assert_eq!(after.head.last, before.head.last);
}

async fn replacement_changes_class_and_tokens(subject: Subject) {
    let k = filled(&subject).await;
    // Marks stay: that of a closed message, and that of a summary.
    let close = Splice { closed: places(&[4]), ..subject.planned(&k, Flush::default()).await };
    subject.splice_checked(&k, &close).await;
    subject.splice_checked(&k, &subject.planned(&k, summary(&[2, 3], "*sum")).await).await;
    let critical =
        NewMessage { priority: Some(Priority::CRITICAL), tokens: 1_000, ..message("now critical") };
    let splice = subject.planned(&k, Flush::default()).await;
    let replaced = vec![replacement(2, message("*better")), replacement(4, critical)];
    subject.splice_checked(&k, &Splice { replaced, ..splice }).await;
    let outline = subject.checked_outline(&k).await;
    assert_eq!(outline.head.counters.critical_tokens(), 1_000 + u64::from(outline.metas[0].tokens));
    assert!(outline.metas[1].summary && outline.metas[2].closed);
    assert_eq!(subject.texts(&k).await, ["!sys", "*better", "now critical", "four"]);
}

async fn replacing_splice_sent_twice_is_applied_once(subject: Subject) {
    let k = filled(&subject).await;
    let splice = replacing(subject.planned(&k, eviction(&[2])).await, &[(3, "short")]);
    let splice = Splice { receipt: Some(receipt(1)), ..splice };
    subject.splice_checked(&k, &splice).await;
    subject.append(&k, writer(2).write(1), &["late"]).await;
    let before = subject.checked_outline(&k).await;
    subject.splice_checked(&k, &splice).await;
    assert_eq!(subject.checked_outline(&k).await, before);
    assert_eq!(subject.texts(&k).await, ["!sys", "short", "three", "four", "late"]);
}

async fn replacing_ends_snapshots_and_the_flush_mark(subject: Subject) {
    let k = filled(&subject).await;
    let mark = Splice {
        receipt: Some(receipt(1)),
        next_flush_at: Some(900),
        ..subject.planned(&k, Flush::default()).await
    };
    subject.splice_checked(&k, &mark).await;
    let before = subject.checked_outline(&k).await;
    let plan = subject.planned(&k, eviction(&[3])).await;
    let splice = replacing(subject.planned(&k, Flush::default()).await, &[(2, "short")]);
    subject.splice_checked(&k, &splice).await;
    let after = subject.checked_outline(&k).await.head;
    assert_eq!((before.head.next_flush_at, after.next_flush_at), (Some(900), None));
    assert!(after.generation > before.head.generation);
    let refused = subject.store.splice(&k, Access::OPEN, &plan).await.unwrap_err();
    assert_eq!(refused.kind(), &StoreErrorKind::Conflict);
    // The mark of the same splice counts.
    let splice = replacing(subject.planned(&k, Flush::default()).await, &[(2, "shorter")]);
    let splice = Splice { receipt: Some(receipt(2)), next_flush_at: Some(700), ..splice };
    subject.splice_checked(&k, &splice).await;
    assert_eq!(subject.checked_outline(&k).await.head.next_flush_at, Some(700));
}

async fn unsound_replacements_are_refused(subject: Subject) {
    let k = filled(&subject).await;
    let mut call = message("call");
    call.message = Message::calls([ToolCall::function("c", "f", "{}")]);
    let before = subject.checked_outline(&k).await;
    let plain = subject.planned(&k, Flush::default()).await;
    let with = |replaced: &[(u64, &str)]| replacing(plain.clone(), replaced);
    for wrong in [
        with(&[(2, "one")]),
        with(&[(77, "short")]),
        with(&[(1 << 53, "short")]),
        with(&[(u64::MAX, "short")]),
        with(&[(2, "short"), (2, "shorter")]),
        with(&[(3, "short"), (2, "shorter")]),
        Splice { evicted: places(&[2]), ..with(&[(2, "short")]) },
        Splice { withdrawn: places(&[5]), ..with(&[(5, "short")]) },
        Splice { closed: places(&[2]), ..with(&[(2, "short")]) },
        Splice {
            summarized: places(&[2, 3]),
            summary: Some(message("*sum")),
            ..with(&[(2, "short")])
        },
        Splice { replaced: vec![replacement(2, call)], ..plain.clone() },
    ] {
        let refused = subject.store.splice(&k, Access::OPEN, &wrong).await.unwrap_err();
        assert!(matches!(refused.kind(), StoreErrorKind::Invalid(_)), "{refused}");
        assert_eq!(subject.checked_outline(&k).await, before);
    }
    let stale = Splice { generation: crate::store::Generation::new(1), ..with(&[(2, "short")]) };
    let refused = subject.store.splice(&k, Access::OPEN, &stale).await.unwrap_err();
    assert_eq!(refused.kind(), &StoreErrorKind::Conflict);
}

async fn originals_are_archived_among_removed_messages(subject: Subject) {
    let k = filled(&subject).await;
    let before = subject.messages(&k).await;
    subject.flush_replacing(&k, 1, eviction(&[3]), &[(2, "short"), (4, "shorter")]).await;
    assert_eq!(subject.texts(&k).await, ["!sys", "short", "shorter", "four"]);
    let [removal] = subject.removals(&k).await.try_into().unwrap();
    assert_eq!(removal.cause, RemovalCause::Flush);
    assert_eq!(removal.places, places(&[2, 3, 4]).into_iter().collect());
    assert_eq!(removal.messages, 3);
    let tokens = before[1..4].iter().map(|stored| u64::from(stored.meta.tokens));
    assert_eq!(removal.tokens, tokens.sum::<u64>());
    let bytes = before[1..4].iter().map(|stored| stored.message.to_json().unwrap().len() as u64);
    assert_eq!(removal.bytes, bytes.sum::<u64>());
    assert_eq!(subject.archived(&k, removal.number).await, before[1..4]);
    // A splice without a receipt archives too, but cannot be undone.
    let splice = replacing(subject.planned(&k, Flush::default()).await, &[(5, "shortest")]);
    subject.splice_checked(&k, &Splice { archive: Some(FOREVER), ..splice }).await;
    let [newest, _] = subject.removals(&k).await.try_into().unwrap();
    assert_eq!((newest.cause, newest.receipt, newest.messages), (RemovalCause::Flush, None, 1));
    assert_eq!(subject.archived(&k, newest.number).await, before[4..]);
}

async fn originals_are_read_in_pages(subject: Subject) {
    let k = filled(&subject).await;
    let before = subject.messages(&k).await;
    let replaced = [(1, "a"), (3, "b"), (5, "c")];
    subject.flush_replacing(&k, 1, eviction(&[2, 4]), &replaced).await;
    let number = subject.removals(&k).await[0].number;
    for limit in 1..=5_usize {
        for after in 0..=5_usize {
            let until = (after + limit).min(5);
            let (place, limit): (_, std::num::NonZeroUsize) =
                (Sequence::new(after as u64), limit.try_into().unwrap());
            let page = subject.store.archived(&k, number, place, limit.into()).await.unwrap();
            assert_eq!(page, before[after..until]);
        }
    }
}

async fn undone_replacements_leave_no_trace(subject: Subject) {
    let k = filled(&subject).await;
    let (before, messages) = (subject.checked_outline(&k).await, subject.messages(&k).await);
    let flush = Flush { evicted: &[5], ..summary(&[2, 3], "*sum") };
    subject.flush_replacing(&k, 1, flush, &[(1, "!new"), (4, "short")]).await;
    assert_eq!(subject.texts(&k).await, ["!new", "*sum", "short"]);
    let head = subject.restore(&k, 1, 1).await;
    assert_eq!(subject.messages(&k).await, messages);
    assert_eq!(head.counters, before.head.counters);
    assert_eq!(head.next_flush_at, Some(FLUSH_HELD));
    assert!(subject.removals(&k).await.is_empty());
    // A retry changes nothing, and all can be done again.
    subject.restore(&k, 1, 1).await;
    subject.flush_replacing(&k, 2, Flush::default(), &[(2, "short"), (3, "shorter")]).await;
    subject.restore(&k, 2, 2).await;
    assert_eq!(subject.messages(&k).await, messages);
    // Newer messages stay, and replacements before withdrawn messages return with them.
    subject.flush_replacing(&k, 3, withdrawal(&[4, 5]), &[(2, "short")]).await;
    subject.append(&k, writer(2).write(1), &["new"]).await;
    subject.restore(&k, 3, 3).await;
    assert_eq!(subject.messages(&k).await[..5], messages);
    assert_eq!(subject.texts(&k).await[5], "new");
}

async fn receipt_must_name_replaced_messages(subject: Subject) {
    let k = filled(&subject).await;
    let before = subject.checked_outline(&k).await;
    let plan = subject.planned(&k, eviction(&[2])).await;
    let right = with_receipt(1, replacing(plan, &[(3, "short")]));
    let named = right.receipt.clone().unwrap();
    let record = named.replaced[0];
    let elsewhere = ReplacedRecord { sequence: Sequence::new(4), ..record };
    let other = ReplacedRecord { id: message("other").id, ..record };
    for replaced in [vec![], vec![record, elsewhere], vec![elsewhere], vec![other]] {
        let receipt = Some(FlushReceipt { replaced, ..named.clone() });
        let wrong = Splice { receipt, ..right.clone() };
        let refused = subject.store.splice(&k, Access::OPEN, &wrong).await.unwrap_err();
        assert!(matches!(refused.kind(), StoreErrorKind::Invalid(_)), "{refused}");
        assert_eq!(subject.checked_outline(&k).await, before);
    }
    subject.splice_checked(&k, &right).await;
}

async fn later_removal_of_a_replacement_is_undone_first(subject: Subject) {
    let k = filled(&subject).await;
    let messages = subject.messages(&k).await;
    subject.flush_replacing(&k, 1, Flush::default(), &[(2, "short"), (4, "shorter")]).await;
    let replaced = subject.messages(&k).await;
    for (id, later) in [(2, summary(&[1, 2], "*sum")), (3, summary(&[2, 3], "*sum"))] {
        subject.flush(&k, id, later, Some(FOREVER)).await;
        subject.cannot_restore(&k, id as u64, 1, RestoreRefusal::ReplacementRemoved).await;
        subject.restore(&k, id as u64, id).await;
    }
    subject.flush(&k, 4, withdrawal(&[4, 5]), Some(FOREVER)).await;
    subject.cannot_restore(&k, 4, 1, RestoreRefusal::ReplacementRemoved).await;
    subject.restore(&k, 4, 4).await;
    // One that was replaced again by a flush.
    subject.flush_replacing(&k, 5, Flush::default(), &[(2, "shortest")]).await;
    subject.cannot_restore(&k, 5, 1, RestoreRefusal::ReplacementRemoved).await;
    subject.restore(&k, 5, 5).await;
    assert_eq!(subject.messages(&k).await, replaced);
    // A later removal of other messages does not matter.
    subject.flush(&k, 6, eviction(&[5]), Some(FOREVER)).await;
    subject.restore(&k, 6, 1).await;
    subject.restore(&k, 7, 6).await;
    assert_eq!(subject.messages(&k).await, messages);
}

async fn replaced_replacement_is_not_lost(subject: Subject) {
    let k = filled(&subject).await;
    subject.flush_replacing(&k, 1, eviction(&[3]), &[(2, "short")]).await;
    let replace = Replace {
        write: writer(2).write(1),
        sequence: Sequence::new(2),
        replaced: message("short").id,
        message: message("better"),
    };
    subject.store.replace(&k, Access::OPEN, &replace).await.unwrap();
    subject.cannot_restore(&k, 1, 1, RestoreRefusal::ReplacementReplaced).await;
    assert_eq!(subject.texts(&k).await, ["!sys", "better", "three", "four"]);
}

/// It has another id, and the same text.
async fn replacement_of_another_class_is_undone(subject: Subject) {
    let k = key("k");
    let texts = ["call", "result", "cleared", "other"].map(|text| {
        let link = match text {
            "call" => Message::calls([ToolCall::function("c", "f", "{}")]),
            text => Message::tool_result("c", text),
        };
        NewMessage { message: link, ..message(text) }
    });
    let [call, result, cleared, other] = texts;
    let append = Append { messages: [call, result].into(), ..batch(writer(1).write(1), &["x"]) };
    subject.store.append(&k, Access::OPEN, &append).await.unwrap();
    let before = subject.messages(&k).await;
    let replaced = vec![replacement(2, cleared.clone())];
    let splice = Splice { replaced, ..subject.planned(&k, Flush::default()).await };
    subject.splice_checked(&k, &with_receipt(1, splice)).await;
    let pinned = NewMessage { priority: Some(Priority::CRITICAL), ..cleared.clone() };
    let replace = Replace {
        write: writer(2).write(1),
        sequence: Sequence::new(2),
        replaced: cleared.id,
        message: NewMessage { id: other.id, ..pinned },
    };
    subject.store.replace(&k, Access::OPEN, &replace).await.unwrap();
    let receipts = subject.store.receipts(&k).await.unwrap();
    assert_eq!(receipts[0].replaced[0].id, other.id);
    subject.restore(&k, 1, 1).await;
    assert_eq!(subject.messages(&k).await, before);
}

async fn replacement_lost_without_archive_cannot_be_undone(subject: Subject) {
    let k = filled(&subject).await;
    subject.flush_replacing(&k, 1, Flush::default(), &[(2, "short"), (3, "shorter")]).await;
    subject.flush(&k, 2, eviction(&[3]), None).await;
    subject.cannot_restore(&k, 1, 1, RestoreRefusal::ReplacementRemoved).await;
    assert_eq!(subject.archived_receipts(&k).await, [1], "its messages can still be read");
}

async fn originals_beyond_max_bytes_are_not_kept(subject: Subject) {
    let k = filled(&subject).await;
    let size = |text: &str| message(text).message.to_json().unwrap().len() as u64;
    let flush = async |id, most, places: &'static [u64], replaced: &[(u64, &str)]| {
        let splice = replacing(subject.planned(&k, eviction(places)).await, replaced);
        let retention = Retention { keep: None, max_bytes: most };
        let splice = Splice { archive: Some(retention), ..with_receipt(id, splice) };
        subject.splice_checked(&k, &splice).await;
    };
    let both = size("one") + size("three");
    flush(1, both - 1, &[4], &[(2, "short")]).await;
    assert!(subject.removals(&k).await.is_empty());
    subject.cannot_restore(&k, 1, 1, RestoreRefusal::NotArchived).await;
    let both = size("#two") + size("four");
    flush(2, both, &[5], &[(3, "shorter")]).await;
    assert_eq!(subject.archived_receipts(&k).await, [2]);
    // The next removal drops this one.
    flush(3, both, &[], &[(1, "!new")]).await;
    assert_eq!(subject.archived_receipts(&k).await, [3]);
    assert_eq!(subject.texts(&k).await, ["!new", "short", "shorter"]);
}

async fn overdue_originals_are_gone(subject: Subject) {
    let k = filled(&subject).await;
    let splice = replacing(subject.planned(&k, eviction(&[3])).await, &[(2, "short")]);
    let archive = Some(Retention::keep_for(HOUR));
    let splice = Splice { archive, ..with_receipt(1, splice) };
    subject.splice_checked(&k, &splice).await;
    let number = subject.removals(&k).await[0].number;
    subject.clock.advance(HOUR);
    assert!(subject.removals(&k).await.is_empty());
    assert!(subject.archived(&k, number).await.is_empty());
    subject.cannot_restore(&k, 1, 1, RestoreRefusal::NotArchived).await;
    subject.flush(&k, 2, eviction(&[4]), Some(FOREVER)).await;
    assert_eq!(subject.archived_receipts(&k).await, [2]);
    assert_eq!(subject.texts(&k).await, ["!sys", "short", "four"]);
}

async fn replacing_without_archive_keeps_nothing(subject: Subject) {
    let k = filled(&subject).await;
    let splice = replacing(subject.planned(&k, eviction(&[3])).await, &[(2, "short")]);
    let splice = Splice { archive: None, ..with_receipt(1, splice) };
    subject.splice_checked(&k, &splice).await;
    assert!(subject.removals(&k).await.is_empty());
    subject.cannot_restore(&k, 1, 1, RestoreRefusal::NotArchived).await;
    assert_eq!(subject.texts(&k).await, ["!sys", "short", "three", "four"]);
}
