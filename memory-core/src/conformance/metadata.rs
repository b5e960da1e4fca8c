//! Metadata: merged, compared, limited, and no message.

use serde_json::json;

use super::archive::{FOREVER, Flush, summary};
use super::splice::receipt;
use super::unused::DAY;
use super::{Case, Subject, batch, cases_of, key, lease, writer};
use crate::MemoryKey;
use crate::json::Json;
use crate::store::{
    Access, Append, Clear, CopyStep, CopyWrite, Erase, Head, Metadata, MetadataError,
    MetadataPatch, Read, ReplaceAll, Splice, StoreError, StoreErrorKind, UpdateMetadata, Version,
    WriteId,
};

pub(super) const CASES: &[Case] = cases_of![
    needs: Metadata,
    metadata_is_merged_and_null_removes,
    metadata_at_another_revision_is_refused,
    resent_update_of_metadata_is_recognized,
    update_of_metadata_is_no_message,
    metadata_outlives_all_but_its_memory,
    update_of_metadata_renews_the_ttl,
    metadata_over_a_limit_is_refused_whole,
    stale_lease_updates_no_metadata,
    update_of_metadata_is_signaled,
];

pub(super) const COPY_CASES: &[Case] = cases_of![
    needs: MetadataAndCopies,
    copy_has_the_metadata,
    memory_of_metadata_alone_is_copied_and_kept,
];

pub(super) const FORK_CASES: &[Case] = cases_of![needs: MetadataAndForks, fork_has_the_metadata];

fn update(write: WriteId, patch: serde_json::Value) -> UpdateMetadata {
    UpdateMetadata { write, patch: patch.try_into().unwrap(), expected: None, ttl: None }
}

impl Subject {
    async fn update(
        &self,
        key: &MemoryKey,
        update: &UpdateMetadata,
    ) -> Result<Metadata, StoreError> {
        self.store.update_metadata(key, Access::OPEN, update).await
    }

    /// Sets some names as the write of this number.
    async fn set(&self, key: &MemoryKey, number: u64, patch: serde_json::Value) -> Metadata {
        let updated = self.update(key, &update(writer(9).write(number), patch)).await.unwrap();
        assert_eq!(updated, self.metadata(key).await);
        updated
    }

    async fn metadata(&self, key: &MemoryKey) -> Metadata {
        self.store.metadata(key).await.unwrap()
    }

    async fn unset(&self, key: &MemoryKey) {
        assert_eq!(self.metadata(key).await, Metadata::default());
    }
}

fn text(metadata: &Metadata) -> String {
    metadata.values.to_string()
}

async fn metadata_is_merged_and_null_removes(subject: Subject) {
    let k = key("k");
    subject.unset(&k).await;
    // A number that no float can hold, a quote, and a null that is not at the top.
    let exact = r#"{"n":12345678901234567890123,"a \"name\"":[1.0,null,{"x":null}],"t":"x"}"#;
    let first = UpdateMetadata {
        patch: Json::parse(exact).unwrap().try_into().unwrap(),
        ..update(writer(9).write(1), json!({}))
    };
    let set = subject.update(&k, &first).await.unwrap();
    assert_eq!((set.revision, text(&set)), (1, exact.to_owned()));
    assert_eq!(set.updated_at, Some(subject.clock.now()));
    assert_eq!(subject.metadata(&k).await, set);
    subject.clock.advance(DAY);
    let next = subject.set(&k, 2, json!({"t": {"y": 1}, "n": null, "absent": null, "é": ""})).await;
    let merged = r#"{"a \"name\"":[1.0,null,{"x":null}],"t":{"y":1},"é":""}"#;
    assert_eq!((next.revision, text(&next)), (2, merged.to_owned()));
    assert_eq!(next.updated_at, Some(subject.clock.now()));
    // A value is replaced as a whole. Also without any change, the revision grows.
    let last = subject.set(&k, 3, json!({"t": {"z": 1}, "a \"name\"": null, "é": null})).await;
    assert_eq!((last.revision, text(&last)), (3, r#"{"t":{"z":1}}"#.to_owned()));
    assert_eq!(subject.set(&k, 4, json!({"t": null})).await.revision, 4);
    assert_eq!(text(&subject.set(&k, 5, json!({})).await), "{}");
    subject.unset(&key("other")).await;
}

async fn metadata_at_another_revision_is_refused(subject: Subject) {
    let k = key("k");
    let at = |number, revision| UpdateMetadata {
        expected: Some(revision),
        ..update(writer(9).write(number), json!({"by": number}))
    };
    for wrong in [1, u64::MAX] {
        let refused = subject.update(&k, &at(1, wrong)).await.unwrap_err();
        assert_eq!(refused.kind(), &StoreErrorKind::Conflict);
    }
    assert_eq!(subject.store.head(&k).await.unwrap(), Head::default());
    assert_eq!(subject.update(&k, &at(1, 0)).await.unwrap().revision, 1);
    let before = subject.set(&k, 2, json!({"other": true})).await;
    let head = subject.store.head(&k).await.unwrap();
    for wrong in [0, 1, 3] {
        let refused = subject.update(&k, &at(3, wrong)).await.unwrap_err();
        assert_eq!(refused.kind(), &StoreErrorKind::Conflict);
    }
    assert_eq!(subject.metadata(&k).await, before);
    assert_eq!(subject.store.head(&k).await.unwrap(), head);
    // A refused update may be sent again for another revision.
    let done = subject.update(&k, &at(3, 2)).await.unwrap();
    assert_eq!((done.revision, text(&done)), (3, r#"{"by":3,"other":true}"#.to_owned()));
}

async fn resent_update_of_metadata_is_recognized(subject: Subject) {
    let k = key("k");
    subject.append(&k, writer(1).write(1), &["one"]).await;
    let first =
        UpdateMetadata { expected: Some(0), ..update(writer(9).write(1), json!({"locked": true})) };
    let set = subject.update(&k, &first).await.unwrap();
    // Not by its contents: two callers may want to set the same.
    let other = UpdateMetadata { write: writer(8).write(1), ..first.clone() };
    let refused = subject.update(&k, &other).await.unwrap_err();
    assert_eq!(refused.kind(), &StoreErrorKind::Conflict);
    assert_eq!(subject.update(&k, &first).await.unwrap(), set);
    let later = subject.update(&k, &update(writer(8).write(1), json!({"locked": null}))).await;
    let (later, head) = (later.unwrap(), subject.store.head(&k).await.unwrap());
    assert_eq!(subject.update(&k, &first).await.unwrap(), later);
    assert_eq!(subject.metadata(&k).await, later);
    assert_eq!(subject.store.head(&k).await.unwrap(), head);
}

async fn update_of_metadata_is_no_message(subject: Subject) {
    let k = key("k");
    // Also one that begins the memory.
    subject.set(&k, 1, json!({"a": 1})).await;
    let conditional = |number, expected| Append {
        expected: Some(expected),
        ..batch(writer(2).write(number), &["one", "two"])
    };
    let begun = conditional(1, Version::default());
    subject.store.append(&k, Access::OPEN, &begun).await.unwrap();
    subject.append(&k, writer(1).write(1), &["!sys", "three"]).await;
    let flush = |splice| Splice {
        evicted: vec![crate::Sequence::new(2)],
        receipt: Some(receipt(1)),
        next_flush_at: Some(500),
        ..splice
    };
    subject.splice(&k, flush).await;
    let before = subject.checked_outline(&k).await;
    assert_eq!(before.head.next_flush_at, Some(500));
    let page = subject.store.read(&k, Read::default()).await.unwrap();
    subject.set(&k, 2, json!({"a": 2})).await;
    let after = subject.checked_outline(&k).await;
    let version = before.head.version + 1;
    assert_eq!(after.head, Head { version, ..before.head.clone() });
    assert_eq!(after.metas, before.metas);
    let read = Read { after: Some(page.cursor), limit: None };
    let rest = subject.store.read(&k, read).await.unwrap();
    assert!(!rest.restarted && rest.messages.is_empty());
    let conditional = conditional(2, Version::from(&before));
    subject.store.append(&k, Access::OPEN, &conditional).await.unwrap();
    let planned = Splice::of(&before);
    let evicted = vec![crate::Sequence::new(4)];
    subject.store.splice(&k, Access::OPEN, &Splice { evicted, ..planned }).await.unwrap();
    assert_eq!(text(&subject.metadata(&k).await), r#"{"a":2}"#);
}

async fn metadata_outlives_all_but_its_memory(subject: Subject) {
    let k = key("k");
    subject.append(&k, writer(1).write(1), &["!sys", "one", "two"]).await;
    let set = subject.set(&k, 1, json!({"a": 1})).await;
    subject.splice(&k, |it| Splice { evicted: vec![crate::Sequence::new(2)], ..it }).await;
    subject.store.clear(&k, Access::OPEN, &Clear::new(writer(3).write(1))).await.unwrap();
    let replace = ReplaceAll { batch: batch(writer(3).write(2), &["three"]), archive: None };
    // Not every store has these.
    drop(subject.store.replace_all(&k, Access::OPEN, &replace).await);
    let places = std::iter::once(crate::Sequence::new(4)).collect();
    let erase = Erase { write: writer(3).write(3), places, reason: "request".into() };
    drop(subject.store.erase(&k, Access::OPEN, &erase).await);
    assert_eq!(subject.metadata(&k).await, set);
    // An update is the last write of a memory.
    subject.clock.advance(DAY * 2);
    let old = subject.old().await;
    assert_eq!(old.len(), 1);
    subject.set(&k, 2, json!({"b": 2})).await;
    assert!(subject.old().await.is_empty());
    let remove = crate::store::RemoveUnused::new(&old[0], std::num::NonZeroUsize::MAX);
    let refused = subject.store.remove(&k, remove).await.unwrap_err();
    assert_eq!(refused.kind(), &StoreErrorKind::Conflict);
    subject.clock.advance(DAY * 2);
    let old = subject.old().await;
    assert!(!subject.remove(&old[0], 1_000).await.more);
    subject.unset(&k).await;
    subject.append(&k, writer(1).write(2), &["new"]).await;
    subject.unset(&k).await;
    assert_eq!(subject.set(&k, 3, json!({"c": 3})).await.revision, 1);
}

async fn update_of_metadata_renews_the_ttl(subject: Subject) {
    let k = key("k");
    let with_ttl = |number, days| UpdateMetadata {
        ttl: Some(DAY * days),
        ..update(writer(9).write(number), json!({"a": number}))
    };
    subject.update(&k, &with_ttl(1, 3)).await.unwrap();
    assert!(subject.store.keys(None, std::num::NonZeroUsize::MIN).await.unwrap().is_empty());
    subject.clock.advance(DAY * 2);
    subject.append(&k, writer(1).write(1), &["one"]).await;
    subject.update(&k, &with_ttl(2, 3)).await.unwrap();
    subject.clock.advance(DAY * 2);
    assert_eq!(text(&subject.metadata(&k).await), r#"{"a":2}"#);
    subject.clock.advance(DAY * 2);
    subject.unset(&k).await;
    // The memory starts over, with nothing of the old one.
    let anew = subject.update(&k, &with_ttl(3, 3)).await.unwrap();
    assert_eq!((anew.revision, text(&anew)), (1, r#"{"a":3}"#.to_owned()));
    assert!(subject.texts(&k).await.is_empty());
    // Without a TTL it stays, also if a clear or a lease is all that comes after it.
    subject.set(&k, 4, json!({"a": 4})).await;
    subject.store.clear(&k, Access::OPEN, &Clear::new(writer(3).write(1))).await.unwrap();
    if subject.store.lease_domain().is_none() {
        subject.store.claim(&k, lease(7)).await.unwrap();
    }
    subject.clock.advance(DAY * 9);
    assert_eq!(text(&subject.metadata(&k).await), r#"{"a":4}"#);
}

async fn metadata_over_a_limit_is_refused_whole(subject: Subject) {
    let k = key("k");
    let names = |range: std::ops::Range<usize>| -> serde_json::Value {
        let values = range.map(|n| (n.to_string(), json!(n)));
        values.collect::<serde_json::Map<_, _>>().into()
    };
    let refused = async |patch| {
        let refused = subject.update(&k, &update(writer(9).write(100), patch)).await;
        refused.unwrap_err().kind().clone()
    };
    subject.set(&k, 1, names(0..40)).await;
    let full = subject.set(&k, 2, names(40..64)).await;
    let reason = refused(json!({"64": 64, "0": 1})).await;
    assert_eq!(reason, MetadataError::TooManyNames { names: 65 }.into());
    assert_eq!(subject.metadata(&k).await, full);
    // `{"a":"...","b":"..."}` has 15 bytes besides the texts.
    let x = |bytes: usize| "x".repeat(bytes);
    let mut only = MetadataPatch::new();
    for name in 0..64 {
        only = only.without(name.to_string());
    }
    let only =
        UpdateMetadata { patch: only.with("a", x(9_000)), ..update(writer(9).write(3), json!({})) };
    let before = subject.update(&k, &only).await.unwrap();
    let room = Metadata::MAX_BYTES - 15 - 9_000;
    let reason = refused(json!({"b": x(room + 1)})).await;
    assert_eq!(reason, MetadataError::TooLarge { bytes: Metadata::MAX_BYTES + 1 }.into());
    assert_eq!(subject.metadata(&k).await, before);
    subject.set(&k, 4, json!({"b": x(room)})).await;
    let reason = refused(json!({ x(129): 1 })).await;
    assert_eq!(reason, MetadataError::LongName { bytes: 129 }.into());
}

async fn stale_lease_updates_no_metadata(subject: Subject) {
    if subject.store.lease_domain().is_some() {
        return;
    }
    let k = key("k");
    subject.append(&k, writer(1).write(1), &["one"]).await;
    let under = |token, number| {
        let store = &subject.store;
        let update = update(writer(9).write(number), json!({"token": token}));
        let k = &k;
        async move { store.update_metadata(k, Access::with_lease(lease(token)), &update).await }
    };
    under(7, 1).await.unwrap();
    let refused = under(6, 2).await.unwrap_err();
    assert!(matches!(refused.kind(), StoreErrorKind::Fenced { .. }), "{refused}");
    assert_eq!(text(&subject.metadata(&k).await), r#"{"token":7}"#);
    let late = subject.store.claim(&k, lease(6)).await.unwrap_err();
    assert!(matches!(late.kind(), StoreErrorKind::Fenced { .. }), "{late}");
}

async fn update_of_metadata_is_signaled(subject: Subject) {
    let k = key("k");
    subject.append(&k, writer(1).write(1), &["one"]).await;
    let mut watch = subject.store.watch(&k).await.unwrap();
    subject.set(&k, 1, json!({"a": 1})).await;
    watch.changed().await.unwrap();
}

async fn copy_has_the_metadata(subject: Subject) {
    let (k, to) = (key("k"), key("to"));
    subject.append(&k, writer(1).write(1), &["one", "two"]).await;
    let set = subject.set(&k, 1, json!({"a": 1, "b": [1.0]})).await;
    assert_eq!(subject.frame(&k).await.metadata, set);
    subject.copy(&k, &to).await;
    assert_eq!(subject.metadata(&to).await, set);
    let next = subject.set(&to, 2, json!({"a": null})).await;
    assert_eq!((next.revision, text(&next)), (2, r#"{"b":[1.0]}"#.to_owned()));
    assert_eq!(subject.metadata(&k).await, set);
}

async fn memory_of_metadata_alone_is_copied_and_kept(subject: Subject) {
    let (k, to) = (key("k"), key("to"));
    let set = subject.set(&k, 1, json!({"a": 1})).await;
    subject.copy(&k, &to).await;
    assert_eq!(subject.metadata(&to).await, set);
    // The same copy again, and another one.
    assert!(subject.step(&to, 1, CopyStep::Begin).await.complete);
    let write = CopyWrite { copy: uuid::Uuid::from_u128(8), attempt: 1, step: CopyStep::Begin };
    let refused = subject.store.write_copy(&to, Access::OPEN, &write).await.unwrap_err();
    assert_eq!(refused.kind(), &StoreErrorKind::Exists);
    assert_eq!(subject.metadata(&to).await, set);
}

async fn fork_has_the_metadata(subject: Subject) {
    let k = key("k");
    subject.append(&k, writer(1).write(1), &["!sys", "one", "two", "three"]).await;
    let set = subject.set(&k, 1, json!({"a": 1})).await;
    let of = async |to: &MemoryKey, at, copy| {
        let fork = subject.planned_fork(&k, at, copy).await;
        subject.fork(to, &fork).await;
        assert_eq!(subject.metadata(to).await, set, "{to}");
    };
    of(&key("whole"), 4, 1).await;
    of(&key("part"), 2, 2).await;
    // With receipts and an archive.
    subject.flush(&k, 1, Flush { evicted: &[3], ..summary(&[2], "*sum") }, Some(FOREVER)).await;
    of(&key("flushed"), 4, 3).await;
}
