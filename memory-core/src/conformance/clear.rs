//! Clears and their receipts.

use super::{Case, Subject, cases_of, key, message, writer};
use crate::Sequence;
use crate::store::{Access, ArchivedRemoval, Clear, ClearReceipt, Head, Splice};

pub(super) const CASES: &[Case] = cases_of![
    clear_counts_messages_and_continues_sequences,
    clear_sent_twice_clears_once,
    receipt_of_a_clear_counts_summaries,
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
