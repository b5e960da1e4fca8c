//! The replacement of all messages by a batch.

use super::splice::receipt;
use super::{Case, Subject, batch, cases_of, key, lease, writer};
use crate::store::{
    Access, AppendOutcome, RemovalCause, ReplaceAll, ReplacedAll, Retention, Splice, StoreError,
    StoreErrorKind, Version, WriteId,
};
use crate::{MemoryKey, Sequence};

pub(super) const CASES: &[Case] = cases_of![
    needs: ReplaceAll,
    batch_takes_the_place_of_all_messages,
    replacement_of_all_is_refused_at_another_version,
    resent_replacement_of_all_returns_its_first_result,
    stale_lease_replaces_nothing,
    empty_batch_replaces_nothing,
    replacement_of_all_is_signaled,
];

async fn replacement_of_all_is_signaled(subject: Subject) {
    let k = key("k");
    subject.append(&k, writer(1).write(1), &["one"]).await;
    let mut watch = subject.store.watch(&k).await.unwrap();
    subject.replace_all(&k, &request(writer(9).write(1), &["two"])).await.unwrap();
    watch.changed().await.unwrap();
}

pub(super) const ARCHIVE_CASES: &[Case] =
    cases_of![needs: ReplaceAllAndArchive, replaced_messages_are_archived];

fn request(write: WriteId, texts: &[&str]) -> ReplaceAll {
    ReplaceAll { batch: batch(write, texts), archive: None }
}

impl Subject {
    async fn replace_all(
        &self,
        key: &MemoryKey,
        replace: &ReplaceAll,
    ) -> Result<ReplacedAll, StoreError> {
        self.store.replace_all(key, Access::OPEN, replace).await
    }
}

async fn batch_takes_the_place_of_all_messages(subject: Subject) {
    let k = key("k");
    // Also of a memory that was never written.
    let first = subject.replace_all(&k, &request(writer(9).write(1), &["zero"])).await.unwrap();
    assert_eq!(first.appended.outcome, AppendOutcome::Appended { first: Sequence::new(1) });
    assert_eq!(first.receipt.map(|receipt| receipt.messages), Some(0));
    subject.append(&k, writer(1).write(1), &["!sys", "one", "two"]).await;
    subject
        .splice(&k, |splice| Splice {
            evicted: vec![Sequence::new(3)],
            receipt: Some(receipt(1)),
            ..splice
        })
        .await;
    let before = subject.checked_outline(&k).await;
    let replace = request(writer(9).write(2), &["!new", "four"]);
    let ReplacedAll { appended: done, receipt, .. } =
        subject.replace_all(&k, &replace).await.unwrap();
    subject.check_receipt(receipt, &before.head, None);
    assert_eq!(done.outcome, AppendOutcome::Appended { first: Sequence::new(5) });
    assert_eq!(subject.texts(&k).await, ["!new", "four"]);
    let after = subject.checked_outline(&k).await;
    assert_eq!(done.counters, after.head.counters);
    assert_eq!((done.counters.appended, done.counters.evicted, done.counters.cleared), (6, 1, 3));
    assert!(after.head.generation > before.head.generation);
    assert!(subject.store.receipts(&k).await.unwrap().is_empty());
    subject.append(&k, writer(1).write(2), &["five"]).await;
    assert_eq!(subject.texts(&k).await, ["!new", "four", "five"]);
    subject.checked_outline(&k).await;
}

async fn replacement_of_all_is_refused_at_another_version(subject: Subject) {
    let k = key("k");
    let at = |version, number, text| {
        let mut replace = request(writer(9).write(number), &[text]);
        replace.batch.expected = Some(version);
        replace
    };
    subject.replace_all(&k, &at(Version::default(), 1, "one")).await.unwrap();
    let version = Version::from(&subject.checked_outline(&k).await);
    subject.append(&k, writer(1).write(1), &["two"]).await;
    let before = subject.checked_outline(&k).await;
    for old in [version, Version::default()] {
        let refused = subject.replace_all(&k, &at(old, 2, "never")).await.unwrap_err();
        assert_eq!(refused.kind(), &StoreErrorKind::Conflict);
        assert_eq!(subject.checked_outline(&k).await, before);
    }
    let version = Version::from(&before);
    subject.replace_all(&k, &at(version, 2, "three")).await.unwrap();
    assert_eq!(subject.texts(&k).await, ["three"]);
}

async fn resent_replacement_of_all_returns_its_first_result(subject: Subject) {
    let k = key("k");
    subject.append(&k, writer(1).write(1), &["one", "two"]).await;
    let version = Version::from(&subject.checked_outline(&k).await);
    let mut replace = request(writer(9).write(1), &["three"]);
    replace.batch.expected = Some(version);
    subject.replace_all(&k, &replace).await.unwrap();
    subject.append(&k, writer(1).write(2), &["four"]).await;
    let before = subject.checked_outline(&k).await;
    let again = subject.replace_all(&k, &replace).await.unwrap();
    let earlier = AppendOutcome::Duplicate { first: Some(Sequence::new(3)) };
    assert_eq!((again.appended.outcome, again.receipt), (earlier, None));
    assert_eq!(subject.checked_outline(&k).await, before);
}

async fn stale_lease_replaces_nothing(subject: Subject) {
    if subject.store.lease_domain().is_some() {
        return;
    }
    let k = key("k");
    subject.append(&k, writer(1).write(1), &["one"]).await;
    subject.store.claim(&k, lease(7)).await.unwrap();
    let replace = request(writer(9).write(1), &["never"]);
    let access = Access::with_lease(lease(6));
    let refused = subject.store.replace_all(&k, access, &replace).await.unwrap_err();
    assert!(matches!(refused.kind(), StoreErrorKind::Fenced { .. }), "{refused}");
    assert_eq!(subject.texts(&k).await, ["one"]);
}

async fn empty_batch_replaces_nothing(subject: Subject) {
    let k = key("k");
    subject.append(&k, writer(1).write(1), &["one"]).await;
    let replace = request(writer(9).write(1), &[]);
    let refused = subject.replace_all(&k, &replace).await.unwrap_err();
    assert!(matches!(refused.kind(), StoreErrorKind::Invalid(_)), "{refused}");
    assert_eq!(subject.texts(&k).await, ["one"]);
}

async fn replaced_messages_are_archived(subject: Subject) {
    let k = key("k");
    subject.append(&k, writer(1).write(1), &["one", "two"]).await;
    let old = subject.messages(&k).await;
    let archive = Some(Retention::forever());
    let replace = ReplaceAll { archive, ..request(writer(9).write(1), &["three"]) };
    let before = subject.checked_outline(&k).await.head;
    let receipt = subject.replace_all(&k, &replace).await.unwrap().receipt;
    let removals = subject.removals(&k).await;
    subject.check_receipt(receipt, &before, removals.first());
    assert_eq!(removals.len(), 1);
    for removal in &removals {
        assert_eq!(removal.cause, RemovalCause::Clear);
        assert_eq!(subject.archived(&k, removal.number).await, old);
    }
    // Without an archive, that of earlier removals ends.
    subject.replace_all(&k, &request(writer(9).write(2), &["four"])).await.unwrap();
    assert!(subject.removals(&k).await.is_empty());
    assert_eq!(subject.texts(&k).await, ["four"]);
}
