//! Erasures: the removal of contents on demand, present and archived.

use uuid::Uuid;

use super::archive::{
    FOREVER, Flush, HOUR, MANY, eviction, filled, places, receipt_of, summary, withdrawal,
};
use super::unused::DAY;
use super::{Case, Subject, batch, cases_of, key, lease, message, writer};
use crate::store::{
    Access, AffectedSummary, Applied, Clear, Erase, Erased, Erasure, Evidence, FLUSH_HELD,
    KEPT_ERASURES, KEPT_RECEIPTS, NewMessage, Read, Replace, RestoreRefusal, SequenceSet, Splice,
    StoreErrorKind,
};
use crate::{MemoryKey, Sequence};

pub(super) const CASES: &[Case] = cases_of![
    needs: Erasure,
    erased_messages_are_gone_and_counted,
    erased_summary_is_counted_nowhere,
    erasure_sent_twice_is_applied_once,
    unknown_places_are_reported,
    unwritten_memory_has_nothing_to_erase,
    stale_lease_cannot_erase,
    unusable_requests_are_refused,
    erasure_ends_snapshots_and_the_flush_mark,
    erasure_does_not_renew_the_ttl,
    newest_erasures_are_recorded,
    erasures_end_with_the_memory,
    old_summaries_may_repeat_erased_messages,
    affected_summary_of_another_class_is_listed,
    erasure_is_signaled,
];

pub(super) const ARCHIVE_CASES: &[Case] = cases_of![
    needs: ErasureAndArchive,
    archived_originals_are_erased,
    archived_messages_of_all_causes_are_withdrawn,
    archived_message_without_receipt_stays_counted,
    all_messages_at_a_place_are_erased,
    removal_with_an_erased_message_stays,
    removal_with_an_erased_summary_stays,
    summary_of_a_summary_is_listed,
    undone_removals_are_erased_where_they_are,
    replaced_message_is_counted_once,
    receipts_lose_the_reason_of_a_fallback,
    overdue_messages_are_not_found,
];

const REASON: &str = "request 4711";

fn set(numbers: &[u64]) -> SequenceSet {
    places(numbers).into_iter().collect()
}

fn request(number: u64, numbers: &[u64]) -> Erase {
    Erase { write: writer(60).write(number), places: set(numbers), reason: REASON.into() }
}

impl Subject {
    async fn erase(&self, key: &MemoryKey, number: u64, numbers: &[u64]) -> Erased {
        let request = request(number, numbers);
        let before = self.checked_outline(key).await.head;
        let erased = self.store.erase(key, Access::OPEN, &request).await.unwrap();
        let head = self.checked_outline(key).await.head;
        assert_eq!(head.counters, erased.counters);
        assert!(head.version > before.version && head.generation > before.generation);
        assert_eq!(erased.erasure.generation, head.generation);
        assert_eq!(self.store.erasures(key).await.unwrap()[0], erased.erasure);
        assert_eq!(
            (erased.erasure.write, &*erased.erasure.reason, erased.erasure.erased_at),
            (request.write, REASON, self.clock.now()),
        );
        erased
    }
}

async fn erased_messages_are_gone_and_counted(subject: Subject) {
    let k = filled(&subject).await;
    let before = subject.messages(&k).await;
    let Erased { erasure, counters, .. } = subject.erase(&k, 1, &[2, 4]).await;
    assert_eq!(subject.texts(&k).await, ["!sys", "#two", "four"]);
    assert_eq!((counters.appended, counters.withdrawn), (5, 2));
    assert_eq!((counters.summarized, counters.evicted, counters.cleared), (0, 0, 0));
    assert_eq!((erasure.present, erasure.messages), (set(&[2, 4]), 2));
    assert!(erasure.archived.is_empty() && erasure.not_found.is_empty());
    assert!(erasure.summaries.is_empty());
    let kept: Vec<_> = [0, 2, 4].map(|index: usize| before[index].clone()).into();
    assert_eq!(subject.messages(&k).await, kept);
    // The end of a memory is erased too, and its place is not assigned again.
    subject.erase(&k, 2, &[5]).await;
    let appended = subject.append(&k, writer(2).write(1), &["new"]).await;
    assert_eq!(appended.outcome.first(), Some(Sequence::new(6)));
    subject.checked_outline(&k).await;
}

async fn erased_summary_is_counted_nowhere(subject: Subject) {
    let k = filled(&subject).await;
    subject.flush(&k, 1, summary(&[2, 3], "*sum"), None).await;
    let Erased { erasure, counters, .. } = subject.erase(&k, 1, &[2]).await;
    assert_eq!(subject.texts(&k).await, ["!sys", "three", "four"]);
    assert_eq!((counters.summaries, counters.summarized, counters.withdrawn), (0, 2, 0));
    assert_eq!((erasure.present, erasure.messages), (set(&[2]), 1));
    assert!(erasure.summaries.is_empty());
}

async fn erasure_sent_twice_is_applied_once(subject: Subject) {
    let k = filled(&subject).await;
    let first = subject.erase(&k, 1, &[2]).await;
    subject.append(&k, writer(2).write(1), &["came later"]).await;
    subject.erase(&k, 2, &[3]).await;
    let before = subject.checked_outline(&k).await;
    let again = subject.store.erase(&k, Access::OPEN, &request(1, &[2])).await.unwrap();
    assert_eq!(again.erasure, first.erasure);
    assert_eq!(again.counters, before.head.counters);
    assert_eq!(subject.checked_outline(&k).await, before);
    assert_eq!(subject.store.erasures(&k).await.unwrap().len(), 2);
}

async fn unknown_places_are_reported(subject: Subject) {
    let k = filled(&subject).await;
    subject.flush(&k, 1, eviction(&[3]), None).await;
    let Erased { erasure, counters, .. } = subject.erase(&k, 1, &[0, 2, 3, 6, 1 << 60]).await;
    assert_eq!((erasure.present, erasure.messages), (set(&[2]), 1));
    assert_eq!(erasure.not_found, set(&[0, 3, 6, 1 << 60]));
    assert_eq!((counters.withdrawn, counters.evicted), (1, 1));
    // A place that is assigned later is not erased.
    subject.append(&k, writer(2).write(1), &["new"]).await;
    assert_eq!(subject.texts(&k).await, ["!sys", "three", "four", "new"]);
}

async fn unwritten_memory_has_nothing_to_erase(subject: Subject) {
    let k = key("unwritten");
    let erased = subject.store.erase(&k, Access::OPEN, &request(1, &[1])).await.unwrap();
    assert_eq!(erased.erasure.not_found, set(&[1]));
    assert_eq!(erased.erasure.messages, 0);
    let again = subject.store.erase(&k, Access::OPEN, &request(1, &[1])).await.unwrap();
    assert_eq!(again.erasure, erased.erasure);
    assert!(!subject.store.keys(None, MANY).await.unwrap().contains(&k));
    subject.append(&k, writer(1).write(1), &["one"]).await;
    assert_eq!(subject.texts(&k).await, ["one"]);
    assert_eq!(subject.checked_outline(&k).await.head.counters.withdrawn, 0);
}

async fn stale_lease_cannot_erase(subject: Subject) {
    let k = filled(&subject).await;
    if subject.store.lease_domain().is_none() {
        subject.store.claim(&k, lease(7)).await.unwrap();
    }
    let before = (subject.checked_outline(&k).await, subject.messages(&k).await);
    let access = Access::with_lease(lease(6));
    let refused = subject.store.erase(&k, access, &request(1, &[2])).await.unwrap_err();
    assert!(matches!(refused.kind(), StoreErrorKind::Fenced { .. }), "{refused}");
    assert_eq!(refused.applied(), Applied::No);
    assert_eq!((subject.checked_outline(&k).await, subject.messages(&k).await), before);
    assert!(subject.store.erasures(&k).await.unwrap().is_empty());
    if subject.store.lease_domain().is_none() {
        let access = Access::with_lease(lease(8));
        subject.store.erase(&k, access, &request(1, &[2])).await.unwrap();
        assert_eq!(subject.checked_outline(&k).await.head.fence, lease(8).token);
    }
}

async fn unusable_requests_are_refused(subject: Subject) {
    let k = filled(&subject).await;
    let before = subject.checked_outline(&k).await;
    let many: Vec<u64> = (1..=Erase::MAX_PLACES + 1).collect();
    let reason = |reason: &str| Erase { reason: reason.into(), ..request(1, &[2]) };
    let long = "x".repeat(Erase::MAX_REASON + 1);
    for erase in [request(1, &[]), request(1, &many), reason(""), reason(" "), reason(&long)] {
        let refused = subject.store.erase(&k, Access::OPEN, &erase).await.unwrap_err();
        assert!(matches!(refused.kind(), StoreErrorKind::Invalid(_)), "{refused}");
        assert_eq!(refused.applied(), Applied::No);
    }
    assert_eq!(subject.checked_outline(&k).await, before);
    subject.erase(&k, 1, &many[1..]).await;
    assert_eq!(subject.texts(&k).await, ["!sys"]);
}

async fn erasure_ends_snapshots_and_the_flush_mark(subject: Subject) {
    let k = filled(&subject).await;
    let splice = subject.planned(&k, eviction(&[3])).await;
    let receipt = Some(receipt_of(1, &splice));
    let splice = Splice { receipt, next_flush_at: Some(900), ..splice };
    subject.store.splice(&k, Access::OPEN, &splice).await.unwrap();
    let page = subject.store.read(&k, Read::default()).await.unwrap();
    let plan = subject.planned(&k, eviction(&[2])).await;
    subject.erase(&k, 1, &[4]).await;
    assert_eq!(subject.checked_outline(&k).await.head.next_flush_at, None);
    let refused = subject.store.splice(&k, Access::OPEN, &plan).await.unwrap_err();
    assert_eq!(refused.kind(), &StoreErrorKind::Conflict);
    let read = Read { after: Some(page.cursor), limit: None };
    assert!(subject.store.read(&k, read).await.unwrap().restarted);
}

async fn erasure_does_not_renew_the_ttl(subject: Subject) {
    let k = key("k");
    let mut append = batch(writer(1).write(1), &["!sys", "one"]);
    append.ttl = Some(HOUR);
    subject.store.append(&k, Access::OPEN, &append).await.unwrap();
    let end = subject.checked_outline(&k).await.head.expires_at;
    subject.clock.advance(HOUR / 2);
    subject.erase(&k, 1, &[2]).await;
    assert_eq!(subject.checked_outline(&k).await.head.expires_at, end);
    subject.clock.advance(HOUR / 2);
    assert!(subject.texts(&k).await.is_empty());
    assert!(subject.store.erasures(&k).await.unwrap().is_empty());
}

async fn newest_erasures_are_recorded(subject: Subject) {
    let k = filled(&subject).await;
    let most = u64::try_from(KEPT_ERASURES).unwrap();
    for number in 1..=most + 2 {
        subject.store.erase(&k, Access::OPEN, &request(number, &[number])).await.unwrap();
    }
    let erasures = subject.store.erasures(&k).await.unwrap();
    let numbers: Vec<_> = erasures.iter().map(|erasure| erasure.write.number).collect();
    assert_eq!(numbers, (3..=most + 2).rev().collect::<Vec<_>>());
    assert_eq!(subject.checked_outline(&k).await.head.counters.withdrawn, 5);
}

async fn erasures_end_with_the_memory(subject: Subject) {
    let k = filled(&subject).await;
    subject.erase(&k, 1, &[2]).await;
    subject.store.clear(&k, Access::OPEN, &Clear::new(writer(2).write(1))).await.unwrap();
    assert_eq!(subject.store.erasures(&k).await.unwrap().len(), 1);
    assert_eq!(subject.checked_outline(&k).await.head.counters.withdrawn, 1);
    subject.clock.advance(2 * DAY);
    subject.append(&k, writer(1).write(2), &["one"]).await;
    subject.clock.advance(2 * DAY);
    let unused = subject.old().await;
    subject.remove(&unused[0], 100).await;
    assert!(subject.store.erasures(&k).await.unwrap().is_empty());
}

async fn old_summaries_may_repeat_erased_messages(subject: Subject) {
    let k = filled(&subject).await;
    subject.flush(&k, 1, summary(&[2, 3], "*sum"), None).await;
    let id = subject.messages(&k).await[1].meta.id;
    let found = subject.erase(&k, 1, &[3]).await.erasure;
    assert_eq!(found.not_found, set(&[3]));
    assert_eq!(found.summaries.len(), 1);
    let affected = &found.summaries[0];
    assert_eq!((affected.sequence, affected.id, affected.removal), (Sequence::new(2), id, None));
    assert_eq!(affected.evidence, Evidence::Receipt);
    // The receipt is dropped.
    for number in 0..u128::try_from(KEPT_RECEIPTS).unwrap() {
        subject.flush(&k, 2 + number, Flush::default(), None).await;
    }
    let found = subject.erase(&k, 2, &[1, 3]).await.erasure;
    let evidence: Vec<_> = found.summaries.iter().map(|summary| summary.evidence).collect();
    assert_eq!(evidence, [Evidence::Place]);
    // A message that is present was not summarized, and a summary has the first place that it replaced.
    assert!(subject.erase(&k, 3, &[1, 4]).await.erasure.summaries.is_empty());
}

async fn affected_summary_of_another_class_is_listed(subject: Subject) {
    let k = filled(&subject).await;
    subject.flush(&k, 1, summary(&[2, 3], "*sum"), None).await;
    // A reason may quote an id.
    let quoting = Erase { reason: message("*sum").id.to_string(), ..request(1, &[3]) };
    let erased = subject.store.erase(&k, Access::OPEN, &quoting).await.unwrap();
    let old = erased.erasure.summaries[0];
    let new = NewMessage { id: message("other").id, priority: None, ..message("*sum") };
    let replace = Replace {
        write: writer(2).write(1),
        sequence: old.sequence,
        replaced: old.id,
        message: new.clone(),
    };
    subject.store.replace(&k, Access::OPEN, &replace).await.unwrap();
    let summaries = vec![AffectedSummary { id: new.id, ..old }];
    let renamed = Erasure { summaries: summaries.clone(), ..erased.erasure };
    assert_eq!(subject.store.erasures(&k).await.unwrap(), [renamed]);
    assert_eq!(subject.erase(&k, 2, &[3]).await.erasure.summaries, summaries);
}

async fn erasure_is_signaled(subject: Subject) {
    let k = filled(&subject).await;
    let mut watch = subject.store.watch(&k).await.unwrap();
    subject.erase(&k, 1, &[2]).await;
    watch.changed().await.unwrap();
}

async fn archived_originals_are_erased(subject: Subject) {
    let k = filled(&subject).await;
    let before = subject.messages(&k).await;
    let flush = Flush { evicted: &[5], ..summary(&[2, 3, 4], "*sum") };
    subject.flush(&k, 1, flush, Some(FOREVER)).await;
    let removal = subject.removals(&k).await.remove(0);
    let Erased { erasure, counters, .. } = subject.erase(&k, 1, &[3, 5]).await;
    assert_eq!((erasure.archived, erasure.messages), (set(&[3, 5]), 2));
    assert!(erasure.present.is_empty() && erasure.not_found.is_empty());
    assert_eq!((counters.summarized, counters.evicted, counters.withdrawn), (2, 0, 2));
    assert_eq!(erasure.summaries.len(), 1);
    let affected = &erasure.summaries[0];
    assert_eq!((affected.sequence, affected.evidence), (Sequence::new(2), Evidence::Receipt));
    let after = subject.removals(&k).await.remove(0);
    assert_eq!((&after.places, &after.erased), (&set(&[2, 4]), &set(&[3, 5])));
    let gone: Vec<_> = [2, 4].map(|index: usize| before[index].clone()).into();
    let bytes: u64 = gone.iter().map(|one| one.message.json_bytes()).sum();
    let tokens: u64 = gone.iter().map(|one| u64::from(one.meta.tokens)).sum();
    assert_eq!((after.messages, after.tokens), (2, removal.tokens - tokens));
    assert_eq!((after.bytes, after.receipt), (removal.bytes - bytes, removal.receipt));
    let archived = subject.archived(&k, after.number).await;
    assert_eq!(archived, [before[1].clone(), before[3].clone()]);
    assert_eq!(subject.texts(&k).await, ["!sys", "*sum"]);
    // All that is left of the removal.
    subject.erase(&k, 2, &[2, 3, 4, 5]).await;
    let after = subject.removals(&k).await.remove(0);
    assert_eq!((after.messages, after.tokens, after.bytes), (0, 0, 0));
    assert_eq!((after.places, after.erased), (set(&[]), set(&[2, 3, 4, 5])));
    assert!(subject.archived(&k, after.number).await.is_empty());
    assert_eq!(subject.texts(&k).await, ["!sys"]);
}

async fn archived_messages_of_all_causes_are_withdrawn(subject: Subject) {
    let k = filled(&subject).await;
    subject.flush(&k, 1, withdrawal(&[5]), Some(FOREVER)).await;
    subject.flush(&k, 2, eviction(&[4]), Some(FOREVER)).await;
    let clear = Clear { archive: Some(FOREVER), ..Clear::new(writer(2).write(1)) };
    subject.store.clear(&k, Access::OPEN, &clear).await.unwrap();
    let Erased { erasure, counters, .. } = subject.erase(&k, 1, &[1, 2, 4, 5]).await;
    assert_eq!(erasure.archived, set(&[1, 2, 4, 5]));
    assert_eq!((counters.evicted, counters.cleared, counters.withdrawn), (0, 1, 4));
    let left: Vec<_> = subject.removals(&k).await.iter().map(|one| one.messages).collect();
    assert_eq!(left, [1, 0, 0]);
}

async fn archived_message_without_receipt_stays_counted(subject: Subject) {
    let k = filled(&subject).await;
    let splice = subject.planned(&k, eviction(&[2, 3])).await;
    let splice = Splice { archive: Some(FOREVER), ..splice };
    subject.store.splice(&k, Access::OPEN, &splice).await.unwrap();
    let Erased { erasure, counters, .. } = subject.erase(&k, 1, &[2]).await;
    assert_eq!((erasure.archived, counters.evicted), (set(&[2]), 2));
    assert_eq!(counters.withdrawn, 0);
    assert_eq!(subject.removals(&k).await[0].messages, 1);
}

async fn all_messages_at_a_place_are_erased(subject: Subject) {
    let k = filled(&subject).await;
    subject.flush(&k, 1, summary(&[2, 3], "*sum1"), Some(FOREVER)).await;
    subject.flush(&k, 2, summary(&[2, 4], "*sum2"), Some(FOREVER)).await;
    let Erased { erasure, counters, .. } = subject.erase(&k, 1, &[2]).await;
    assert_eq!((erasure.present, erasure.archived), (set(&[2]), set(&[2])));
    assert_eq!(erasure.messages, 3);
    assert!(erasure.summaries.is_empty());
    assert_eq!((counters.summarized, counters.withdrawn, counters.summaries), (2, 1, 0));
    assert_eq!(subject.texts(&k).await, ["!sys", "four"]);
    let removals = subject.removals(&k).await;
    assert_eq!(subject.archived(&k, removals[0].number).await.len(), 1);
    assert_eq!(subject.archived(&k, removals[1].number).await.len(), 1);
    for (number, receipt) in [(1, 1), (2, 2)] {
        subject.cannot_restore(&k, number, receipt, RestoreRefusal::Erased).await;
    }
}

async fn removal_with_an_erased_message_stays(subject: Subject) {
    let k = filled(&subject).await;
    subject.flush(&k, 1, summary(&[2, 3], "*sum"), Some(FOREVER)).await;
    subject.flush(&k, 2, eviction(&[4, 5]), Some(FOREVER)).await;
    subject.erase(&k, 1, &[3, 4]).await;
    subject.cannot_restore(&k, 1, 1, RestoreRefusal::Erased).await;
    subject.cannot_restore(&k, 2, 2, RestoreRefusal::Erased).await;
    // Later removals are archived and undone as before.
    subject.append(&k, writer(2).write(1), &["five", "six"]).await;
    subject.flush(&k, 3, eviction(&[6]), Some(FOREVER)).await;
    subject.restore(&k, 3, 3).await;
    assert_eq!(subject.texts(&k).await, ["!sys", "*sum", "five", "six"]);
    let clear = Clear { archive: Some(FOREVER), ..Clear::new(writer(2).write(2)) };
    subject.store.clear(&k, Access::OPEN, &clear).await.unwrap();
    subject.cannot_restore(&k, 4, 1, RestoreRefusal::Cleared).await;
    let clear = Clear::new(writer(2).write(3));
    subject.store.clear(&k, Access::OPEN, &clear).await.unwrap();
    assert!(subject.removals(&k).await.is_empty());
}

async fn removal_with_an_erased_summary_stays(subject: Subject) {
    let k = filled(&subject).await;
    subject.flush(&k, 1, summary(&[2, 3], "*sum1"), Some(FOREVER)).await;
    subject.flush(&k, 2, summary(&[2, 4], "*sum2"), None).await;
    subject.cannot_restore(&k, 1, 1, RestoreRefusal::SummaryReplaced).await;
    subject.erase(&k, 1, &[2]).await;
    subject.cannot_restore(&k, 1, 1, RestoreRefusal::Erased).await;
    // Only its summary is erased.
    subject.append(&k, writer(2).write(1), &["five", "six", "seven"]).await;
    let flush = Flush { evicted: &[5], ..summary(&[6, 7], "*sum3") };
    subject.flush(&k, 3, flush, Some(FOREVER)).await;
    subject.erase(&k, 2, &[6]).await;
    let erased = &subject.removals(&k).await[0].erased;
    assert_eq!(erased, &set(&[6]));
    subject.cannot_restore(&k, 1, 3, RestoreRefusal::Erased).await;
}

async fn summary_of_a_summary_is_listed(subject: Subject) {
    let k = filled(&subject).await;
    subject.flush(&k, 1, summary(&[2, 3], "*sum1"), Some(FOREVER)).await;
    subject.flush(&k, 2, summary(&[2, 4], "*sum2"), Some(FOREVER)).await;
    let number = subject.removals(&k).await[0].number;
    let found = subject.erase(&k, 1, &[3]).await.erasure;
    let listed: Vec<_> = found
        .summaries
        .iter()
        .map(|one| (one.sequence.number(), one.removal, one.evidence))
        .collect();
    let by_receipt = Evidence::Receipt;
    assert_eq!(listed, [(2, Some(number), by_receipt), (2, None, by_receipt)]);
    // Only the second was written from this one.
    let found = subject.erase(&k, 2, &[4]).await.erasure;
    let listed: Vec<_> = found.summaries.iter().map(|one| one.removal).collect();
    assert_eq!(listed, [None]);
}

async fn undone_removals_are_erased_where_they_are(subject: Subject) {
    let k = filled(&subject).await;
    subject.flush(&k, 1, summary(&[2, 3], "*sum"), Some(FOREVER)).await;
    subject.restore(&k, 1, 1).await;
    let Erased { erasure, counters, .. } = subject.erase(&k, 1, &[2]).await;
    assert_eq!((erasure.present, counters.withdrawn), (set(&[2]), 1));
    assert!(erasure.summaries.is_empty());
    // Automatic flushes stay held.
    assert_eq!(subject.checked_outline(&k).await.head.next_flush_at, Some(FLUSH_HELD));
    assert_eq!(subject.texts(&k).await, ["!sys", "#two", "three", "four"]);
}

async fn replaced_message_is_counted_once(subject: Subject) {
    let k = filled(&subject).await;
    subject.flush_replacing(&k, 1, summary(&[5], "*sum"), &[(3, "short"), (4, "brief")]).await;
    subject.flush(&k, 2, eviction(&[3]), Some(FOREVER)).await;
    // The original and what replaced it, in two removals.
    let Erased { erasure, counters, .. } = subject.erase(&k, 1, &[3]).await;
    assert_eq!((erasure.archived, erasure.messages), (set(&[3]), 2));
    assert_eq!((counters.evicted, counters.withdrawn), (0, 1));
    let removals = subject.removals(&k).await;
    assert_eq!((removals[0].messages, &removals[1].places), (0, &set(&[4, 5])));
    assert_eq!(subject.archived(&k, removals[1].number).await.len(), 2);
    let Erased { erasure, counters, .. } = subject.erase(&k, 2, &[4]).await;
    assert_eq!((erasure.present, erasure.archived), (set(&[4]), set(&[4])));
    assert_eq!((counters.summarized, counters.withdrawn), (1, 2));
    assert_eq!(subject.removals(&k).await[1].erased, set(&[3, 4]));
    subject.cannot_restore(&k, 1, 1, RestoreRefusal::Erased).await;
    subject.cannot_restore(&k, 2, 2, RestoreRefusal::Erased).await;
    assert_eq!(subject.texts(&k).await, ["!sys", "one", "*sum"]);
}

async fn receipts_lose_the_reason_of_a_fallback(subject: Subject) {
    let k = filled(&subject).await;
    // The third is written from the first one.
    let flushes = [(&[2, 3][..], "*sum1"), (&[4], "*sum2"), (&[2, 5], "*sum3")];
    for (id, (places, text)) in (1..).zip(flushes) {
        let flush = summary(places, text);
        let splice = subject.planned(&k, flush).await;
        let mut receipt = receipt_of(id, &splice);
        let summary = receipt.summary.as_mut().unwrap();
        summary.fallback = Some("other: \"one\" \\ \"fallback\":\"{}\" is odd".into());
        let splice = Splice { receipt: Some(receipt), archive: Some(FOREVER), ..splice };
        subject.store.splice(&k, Access::OPEN, &splice).await.unwrap();
    }
    subject.erase(&k, 1, &[3]).await;
    let receipts = subject.store.receipts(&k).await.unwrap();
    let removals = subject.removals(&k).await;
    let archived: Vec<_> = removals.into_iter().filter_map(|removal| removal.receipt).collect();
    assert_eq!(receipts, archived);
    let ids: Vec<_> = receipts.iter().map(|receipt| receipt.id).collect();
    assert_eq!(ids, [3, 2, 1].map(Uuid::from_u128));
    let reasons = receipts.into_iter().filter_map(|receipt| receipt.summary);
    let reasons: Vec<_> = reasons.map(|summary| summary.fallback.is_some()).collect();
    assert_eq!(reasons, [false, true, false]);
}

async fn overdue_messages_are_not_found(subject: Subject) {
    let k = filled(&subject).await;
    let archive = crate::store::Retention::keep_for(HOUR);
    subject.flush(&k, 1, eviction(&[2]), Some(archive)).await;
    subject.flush(&k, 2, eviction(&[3]), Some(FOREVER)).await;
    subject.clock.advance(HOUR);
    let Erased { erasure, counters, .. } = subject.erase(&k, 1, &[2, 3]).await;
    assert_eq!((erasure.not_found, erasure.archived), (set(&[2]), set(&[3])));
    assert_eq!((counters.evicted, counters.withdrawn), (1, 1));
    subject.flush(&k, 3, eviction(&[4]), Some(FOREVER)).await;
    subject.restore(&k, 1, 3).await;
}
