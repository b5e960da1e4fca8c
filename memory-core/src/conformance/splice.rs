//! Splices: the commit of a flush.

use super::{Case, Subject, cases_of, key, lease, message, writer};
use crate::plan::ToolLink;
use crate::store::{
    Access, Clear, FlushReceipt, Generation, KEPT_RECEIPTS, SequenceSet, Splice, StoreErrorKind,
};
use crate::{MemoryKey, Sequence};
use uuid::Uuid;

pub(super) const CASES: &[Case] = cases_of![
    summary_takes_first_replaced_place,
    evicted_messages_are_removed_and_counted,
    splice_keeps_later_appends,
    splice_of_older_generation_is_refused,
    splice_after_clear_is_refused,
    splice_sent_twice_is_applied_once,
    resummarizing_counts_no_message_twice,
    unknown_place_is_refused,
    place_after_the_end_is_refused,
    doubly_removed_place_is_refused,
    summary_without_places_is_refused,
    closed_calls_are_marked,
    empty_splice_keeps_generation_and_receipt,
    the_newest_receipts_are_kept,
    stale_flusher_is_fenced,
    clear_removes_receipts_and_the_next_flush_mark,
];

async fn filled(subject: &Subject) -> (MemoryKey, Generation) {
    let k = key("k");
    subject.append(&k, writer(1).write(1), &["!sys", "one", "two", "three", "four"]).await;
    let generation = subject.checked_outline(&k).await.head.generation;
    (k, generation)
}

fn places(numbers: &[u64]) -> Vec<Sequence> {
    numbers.iter().copied().map(Sequence::new).collect()
}

pub(super) fn receipt(id: u128) -> FlushReceipt {
    FlushReceipt {
        id: Uuid::from_u128(id),
        strategy: "hybrid_summary".into(),
        started_at: crate::Clock::manual().now(),
        duration: std::time::Duration::from_millis(12),
        tokens_before: 20,
        tokens_after: 10,
        messages_before: 5,
        messages_after: 3,
        evicted: SequenceSet::default(),
        summarized: places(&[2, 3]).into_iter().collect(),
        withdrawn: SequenceSet::default(),
        replaced: Vec::new(),
        named: Vec::new(),
        summary: None,
        shortfall: None,
        dry_run: false,
    }
}

async fn summary_takes_first_replaced_place(subject: Subject) {
    let (k, generation) = filled(&subject).await;
    let splice = Splice {
        summarized: places(&[2, 3, 4]),
        summary: Some(message("*sum")),
        receipt: Some(receipt(1)),
        ..Splice::new(generation)
    };
    let counters = subject.store.splice(&k, Access::OPEN, &splice).await.unwrap();
    assert_eq!(subject.texts(&k).await, ["!sys", "*sum", "four"]);
    let outline = subject.checked_outline(&k).await;
    assert_eq!(outline.head.counters, counters);
    assert_eq!((counters.summarized, counters.summaries, counters.appended), (3, 1, 5));
    assert!(outline.head.generation > generation);
    let summary = &outline.metas[1];
    assert!(summary.summary && summary.sequence == Sequence::new(2));
    assert_eq!(subject.store.receipts(&k).await.unwrap(), [receipt(1)]);
}

async fn evicted_messages_are_removed_and_counted(subject: Subject) {
    let (k, generation) = filled(&subject).await;
    let metas = subject.checked_outline(&k).await.metas;
    let splice = Splice { evicted: places(&[2, 4]), ..Splice::new(generation) };
    let counters = subject.store.splice(&k, Access::OPEN, &splice.weighed(&metas)).await.unwrap();
    assert_eq!((counters.evicted, counters.present.messages), (2, 3));
    assert_eq!(subject.texts(&k).await, ["!sys", "two", "four"]);
    subject.checked_outline(&k).await;
}

async fn splice_keeps_later_appends(subject: Subject) {
    let (k, generation) = filled(&subject).await;
    subject.append(&k, writer(2).write(1), &["late"]).await;
    let splice = Splice {
        summarized: places(&[2, 3, 4, 5]),
        summary: Some(message("*sum")),
        ..Splice::new(generation)
    };
    subject.store.splice(&k, Access::OPEN, &splice).await.unwrap();
    assert_eq!(subject.texts(&k).await, ["!sys", "*sum", "late"]);
    let appended = subject.append(&k, writer(2).write(2), &["later"]).await;
    assert_eq!(appended.outcome.first(), Some(Sequence::new(7)));
    subject.checked_outline(&k).await;
}

async fn splice_of_older_generation_is_refused(subject: Subject) {
    let (k, generation) = filled(&subject).await;
    let evict = |number| Splice { evicted: places(&[number]), ..Splice::new(generation) };
    subject.store.splice(&k, Access::OPEN, &evict(2)).await.unwrap();
    let before = subject.checked_outline(&k).await;
    let refused = subject.store.splice(&k, Access::OPEN, &evict(3)).await.unwrap_err();
    assert_eq!(refused.kind(), &StoreErrorKind::Conflict);
    assert_eq!(subject.checked_outline(&k).await, before);
}

async fn splice_after_clear_is_refused(subject: Subject) {
    let (k, generation) = filled(&subject).await;
    let clear = Clear::new(writer(3).write(1));
    subject.store.clear(&k, Access::OPEN, &clear).await.unwrap();
    subject.append(&k, writer(1).write(2), &["new"]).await;
    let splice = Splice {
        summarized: places(&[2]),
        summary: Some(message("*sum")),
        ..Splice::new(generation)
    };
    let refused = subject.store.splice(&k, Access::OPEN, &splice).await.unwrap_err();
    assert_eq!(refused.kind(), &StoreErrorKind::Conflict);
    assert_eq!(subject.texts(&k).await, ["new"]);
}

async fn splice_sent_twice_is_applied_once(subject: Subject) {
    let (k, generation) = filled(&subject).await;
    let splice = Splice {
        summarized: places(&[2, 3]),
        summary: Some(message("*sum")),
        receipt: Some(receipt(1)),
        ..Splice::new(generation)
    };
    subject.store.splice(&k, Access::OPEN, &splice).await.unwrap();
    subject.append(&k, writer(2).write(1), &["late"]).await;
    let before = subject.checked_outline(&k).await;
    let counters = subject.store.splice(&k, Access::OPEN, &splice).await.unwrap();
    assert_eq!(counters, before.head.counters);
    assert_eq!(subject.checked_outline(&k).await, before);
    assert_eq!(subject.store.receipts(&k).await.unwrap().len(), 1);
}

async fn resummarizing_counts_no_message_twice(subject: Subject) {
    let (k, generation) = filled(&subject).await;
    let first = Splice {
        summarized: places(&[2, 3]),
        summary: Some(message("*sum1")),
        ..Splice::new(generation)
    };
    subject.store.splice(&k, Access::OPEN, &first).await.unwrap();
    let generation = subject.checked_outline(&k).await.head.generation;
    let second = Splice {
        summarized: places(&[2, 4]),
        summary: Some(message("*sum2")),
        evicted: places(&[5]),
        ..Splice::new(generation)
    };
    let counters = subject.store.splice(&k, Access::OPEN, &second).await.unwrap();
    assert_eq!(subject.texts(&k).await, ["!sys", "*sum2"]);
    assert_eq!((counters.summarized, counters.evicted, counters.summaries), (3, 1, 1));
    subject.checked_outline(&k).await;
}

async fn refused(subject: &Subject, make: impl FnOnce(Generation) -> Splice) {
    let (k, generation) = filled(subject).await;
    let before = subject.checked_outline(&k).await;
    let refused = subject.store.splice(&k, Access::OPEN, &make(generation)).await.unwrap_err();
    assert!(matches!(refused.kind(), StoreErrorKind::Invalid(_)), "{refused}");
    assert_eq!(subject.checked_outline(&k).await, before);
}

async fn unknown_place_is_refused(subject: Subject) {
    refused(&subject, |generation| Splice { evicted: places(&[2, 77]), ..Splice::new(generation) })
        .await;
}

async fn place_after_the_end_is_refused(subject: Subject) {
    for place in [1 << 53, u64::MAX] {
        refused(&subject, |generation| Splice {
            evicted: places(&[2, place]),
            ..Splice::new(generation)
        })
        .await;
    }
}

async fn doubly_removed_place_is_refused(subject: Subject) {
    refused(&subject, |generation| Splice {
        evicted: places(&[2]),
        summarized: places(&[2, 3]),
        summary: Some(message("*sum")),
        ..Splice::new(generation)
    })
    .await;
}

async fn summary_without_places_is_refused(subject: Subject) {
    refused(&subject, |generation| Splice {
        summary: Some(message("*sum")),
        ..Splice::new(generation)
    })
    .await;
}

async fn closed_calls_are_marked(subject: Subject) {
    let k = key("k");
    let mut call = message("call");
    call.message = crate::Message::calls([crate::dialect::ToolCall::function("c", "f", "{}")]);
    let append = crate::store::Append {
        messages: [call].into(),
        ..super::batch(writer(1).write(1), &["x"])
    };
    subject.store.append(&k, Access::OPEN, &append).await.unwrap();
    let generation = subject.checked_outline(&k).await.head.generation;
    let mark =
        Splice { receipt: Some(receipt(1)), next_flush_at: Some(900), ..Splice::new(generation) };
    subject.store.splice(&k, Access::OPEN, &mark).await.unwrap();
    let splice = Splice { closed: places(&[1]), ..Splice::new(generation) };
    subject.store.splice(&k, Access::OPEN, &splice).await.unwrap();
    let outline = subject.checked_outline(&k).await;
    assert_eq!(
        outline.head.next_flush_at, None,
        "messages that waited for the call can be freed now"
    );
    assert!(outline.metas[0].closed);
    assert_eq!(
        outline.metas[0].link,
        ToolLink::of_calls([crate::plan::ToolRef { id: "c".into(), name: "f".into() }])
    );
    assert!(outline.head.generation > generation, "plans made before must not be applied");
}

async fn empty_splice_keeps_generation_and_receipt(subject: Subject) {
    let (k, generation) = filled(&subject).await;
    let splice =
        Splice { receipt: Some(receipt(5)), next_flush_at: Some(900), ..Splice::new(generation) };
    subject.store.splice(&k, Access::OPEN, &splice).await.unwrap();
    let head = subject.checked_outline(&k).await.head;
    assert_eq!((head.generation, head.next_flush_at), (generation, Some(900)));
    assert_eq!(subject.store.receipts(&k).await.unwrap(), [receipt(5)]);
    let appended = subject.append(&k, writer(2).write(1), &["x"]).await;
    assert_eq!(appended.next_flush_at, Some(900));
}

async fn the_newest_receipts_are_kept(subject: Subject) {
    let (k, generation) = filled(&subject).await;
    for id in 1..=KEPT_RECEIPTS as u128 + 3 {
        let splice = Splice { receipt: Some(receipt(id)), ..Splice::new(generation) };
        subject.store.splice(&k, Access::OPEN, &splice).await.unwrap();
    }
    let kept: Vec<_> =
        subject.store.receipts(&k).await.unwrap().iter().map(|r| r.id.as_u128()).collect();
    let newest: Vec<_> = (4..=KEPT_RECEIPTS as u128 + 3).rev().collect();
    assert_eq!(kept, newest);
}

async fn stale_flusher_is_fenced(subject: Subject) {
    let (k, generation) = filled(&subject).await;
    let by = |token: u64, place| Splice {
        evicted: places(&[place]),
        flusher: Some(lease(token)),
        ..Splice::new(generation)
    };
    let checks_leases = subject.store.lease_domain().is_some();
    if checks_leases {
        // No task took this lease, so it counts as lost.
        let refused = subject.store.splice(&k, Access::OPEN, &by(8, 2)).await.unwrap_err();
        assert!(matches!(refused.kind(), StoreErrorKind::Fenced { .. }), "{refused}");
        return;
    }
    let receipt_only = Splice { evicted: Vec::new(), receipt: Some(receipt(1)), ..by(8, 2) };
    subject.store.splice(&k, Access::OPEN, &receipt_only).await.unwrap();
    let refused = subject.store.splice(&k, Access::OPEN, &by(7, 2)).await.unwrap_err();
    assert!(matches!(refused.kind(), StoreErrorKind::Fenced { .. }), "{refused}");
    let head = subject.checked_outline(&k).await.head;
    assert_eq!(head.flush_fence, lease(8).token);
    assert_eq!(head.fence, crate::lease::FencingToken::ZERO, "flushers do not fence writers");
    subject.store.splice(&k, Access::OPEN, &by(9, 2)).await.unwrap();
}

async fn clear_removes_receipts_and_the_next_flush_mark(subject: Subject) {
    let (k, generation) = filled(&subject).await;
    let splice =
        Splice { receipt: Some(receipt(1)), next_flush_at: Some(900), ..Splice::new(generation) };
    subject.store.splice(&k, Access::OPEN, &splice).await.unwrap();
    let clear = Clear::new(writer(3).write(1));
    subject.store.clear(&k, Access::OPEN, &clear).await.unwrap();
    assert!(subject.store.receipts(&k).await.unwrap().is_empty());
    assert_eq!(subject.checked_outline(&k).await.head.next_flush_at, None);
}
