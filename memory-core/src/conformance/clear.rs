//! Clears and their receipts.

use super::{Case, Subject, cases_of, key, message, writer};
use crate::Sequence;
use crate::store::{
    Access, ArchivedRemoval, Clear, ClearReceipt, Head, Replace, Splice, StoreErrorKind, Version,
};

pub(super) const CASES: &[Case] = cases_of![
    clear_counts_messages_and_continues_sequences,
    clear_sent_twice_clears_once,
    receipt_of_a_clear_counts_summaries,
    clear_of_another_state_is_refused,
];

impl Subject {
    /// Checks that a receipt has the tallies that the memory had, the time, and the number of this removal.
    pub(super) fn check_receipt(
        &self,
        receipt: Option<ClearReceipt>,
        before: &Head,
        kept: Option<&ArchivedRemoval>,
    ) {
        let tally = before.counters.present;
        let number = kept.map(|removal| removal.number);
        let expected = ClearReceipt::new(self.clock.now(), tally, number);
        assert_eq!(receipt, Some(expected));
        if let Some(ArchivedRemoval { removed_at, messages, tokens, .. }) = kept {
            let entry = (*removed_at, *messages, *tokens);
            assert_eq!(entry, (expected.cleared_at, expected.messages, expected.tokens));
        }
    }
}

async fn clear_counts_messages_and_continues_sequences(subject: Subject) {
    let k = key("k");
    subject.append(&k, writer(1).write(1), &["!a", "b"]).await;
    let before = subject.checked_outline(&k).await.head;
    let clear = Clear::new(writer(1).write(2));
    let cleared = subject.store.clear(&k, Access::OPEN, &clear).await.unwrap();
    subject.check_receipt(cleared.receipt, &before, None);
    let counters = cleared.counters;
    assert_eq!((counters.appended, counters.cleared, counters.present.messages), (2, 2, 0));
    let after = subject.checked_outline(&k).await;
    assert!(after.metas.is_empty());
    assert!(after.head.generation > before.generation);
    assert!(subject.store.keys(None, std::num::NonZeroUsize::MIN).await.unwrap().is_empty());
    let appended = subject.append(&k, writer(1).write(3), &["c"]).await;
    assert_eq!(appended.outcome.first(), Some(Sequence::new(3)));
}

async fn clear_sent_twice_clears_once(subject: Subject) {
    let k = key("k");
    subject.append(&k, writer(1).write(1), &["a"]).await;
    let clear = Clear::new(writer(2).write(1));
    subject.store.clear(&k, Access::OPEN, &clear).await.unwrap();
    subject.append(&k, writer(1).write(2), &["b"]).await;
    let again = subject.store.clear(&k, Access::OPEN, &clear).await.unwrap();
    assert_eq!(again.receipt, None, "the record of the first clear is not stored");
    assert_eq!((again.counters.cleared, again.counters.present.messages), (1, 1));
    assert_eq!(subject.texts(&k).await, ["b"]);
    subject.checked_outline(&k).await;
}

async fn receipt_of_a_clear_counts_summaries(subject: Subject) {
    let k = key("k");
    // Of a memory that was never written, and of one without messages.
    for number in 1..=2 {
        let head = subject.store.head(&k).await.unwrap();
        let clear = Clear::new(writer(2).write(number));
        let cleared = subject.store.clear(&k, Access::OPEN, &clear).await.unwrap();
        subject.check_receipt(cleared.receipt, &head, None);
    }
    subject.append(&k, writer(1).write(1), &["!sys", "one", "two"]).await;
    let outline = subject.checked_outline(&k).await;
    let summarized = [2, 3].map(Sequence::new).to_vec();
    let splice = Splice { summarized, summary: Some(message("*sum")), ..Splice::of(&outline) };
    subject.store.splice(&k, Access::OPEN, &splice).await.unwrap();
    let before = subject.checked_outline(&k).await.head;
    let clear = Clear::new(writer(2).write(3));
    let cleared = subject.store.clear(&k, Access::OPEN, &clear).await.unwrap();
    subject.check_receipt(cleared.receipt, &before, None);
    assert_eq!((before.counters.present.messages, cleared.counters.cleared), (2, 1));
}

/// Every change of a message ends the state that a clear expects, also one that leaves the version as it is.
async fn clear_of_another_state_is_refused(subject: Subject) {
    let k = key("k");
    subject.append(&k, writer(1).write(1), &["!sys", "one", "two", "three"]).await;
    let mut number = 0;
    let mut clear = |expected| {
        number += 1;
        Clear { expected: Some(expected), ..Clear::new(writer(2).write(number)) }
    };
    for change in 0..4 {
        let before = Version::from(&subject.checked_outline(&k).await);
        match change {
            0 => {
                subject.append(&k, writer(1).write(2), &["four"]).await;
            }
            1 => {
                let evicted = vec![Sequence::new(2)];
                subject.splice(&k, |splice| Splice { evicted, ..splice }).await;
            }
            2 => {
                let newest = subject.checked_outline(&k).await.metas[1].clone();
                let replace = Replace {
                    write: writer(3).write(1),
                    sequence: newest.sequence,
                    replaced: newest.id,
                    message: message("other two"),
                };
                subject.store.replace(&k, Access::OPEN, &replace).await.unwrap();
            }
            _ => {
                let withdrawn = vec![Sequence::new(5)];
                subject.splice(&k, |splice| Splice { withdrawn, ..splice }).await;
            }
        }
        let state = subject.checked_outline(&k).await;
        let refused = subject.store.clear(&k, Access::OPEN, &clear(before)).await.unwrap_err();
        assert_eq!(refused.kind(), &StoreErrorKind::Conflict, "change {change}");
        assert_eq!(refused.applied(), crate::store::Applied::No);
        assert_eq!(subject.checked_outline(&k).await, state);
    }
    let now = Version::from(&subject.checked_outline(&k).await);
    let request = clear(now);
    let cleared = subject.store.clear(&k, Access::OPEN, &request).await.unwrap();
    assert_eq!(cleared.receipt.map(|receipt| receipt.messages), Some(3));
    // A retry is recognized before the state is compared.
    let again = subject.store.clear(&k, Access::OPEN, &request).await.unwrap();
    assert_eq!((again.receipt, again.counters), (None, cleared.counters));
    let empty = Version::from(&subject.checked_outline(&k).await);
    subject.append(&k, writer(1).write(3), &["five"]).await;
    subject.store.clear(&k, Access::OPEN, &clear(empty)).await.unwrap_err();
    assert_eq!(subject.texts(&k).await, ["five"]);
    // Of a memory that was never written.
    let other = key("other");
    subject.store.clear(&other, Access::OPEN, &clear(now)).await.unwrap_err();
    subject.store.clear(&other, Access::OPEN, &clear(Version::default())).await.unwrap();
}
