//! Appending: order, batches, retries, counters, fencing, TTL.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Case, Subject, batch, boxed, cases_of, join_all, key, lease, message, writer};
use crate::dialect::ToolCall;
use crate::store::{Access, Append, AppendOutcome, Appended, Clear, StoreErrorKind};
use crate::{ContentType, Message, Priority, Sequence};

pub(super) const CASES: &[Case] = cases_of![
    unwritten_memory_reads_empty,
    sequences_begin_at_one_and_have_no_gaps,
    version_rises_with_each_write,
    batch_is_contiguous_and_ordered,
    empty_batch_is_refused,
    messages_round_trip_unchanged,
    counters_are_returned_with_the_append,
    counters_equal_a_recount,
    retried_append_is_a_duplicate,
    older_write_is_duplicate_without_place,
    writers_are_distinguished,
    writer_may_write_to_several_memories,
    memories_are_isolated,
    stale_token_is_fenced_without_change,
    claim_fences_older_tokens,
    claim_is_idempotent_and_refuses_older_tokens,
    retry_is_recognized_after_lease_ends,
    memory_expires_ttl_after_last_write,
    expired_memory_starts_over,
    append_without_ttl_removes_ttl,
    concurrent_batches_stay_whole,
    large_messages_and_odd_characters_round_trip,
];

async fn unwritten_memory_reads_empty(subject: Subject) {
    let outline = subject.checked_outline(&key("none")).await;
    assert_eq!(outline, crate::store::Outline::default());
    assert!(subject.texts(&key("none")).await.is_empty());
    assert!(subject.store.receipts(&key("none")).await.unwrap().is_empty());
}

async fn sequences_begin_at_one_and_have_no_gaps(subject: Subject) {
    let k = key("k");
    for number in 1..=5 {
        let appended = subject.append(&k, writer(1).write(number), &["x"]).await;
        let first = Sequence::new(number);
        assert_eq!(appended.outcome, AppendOutcome::Appended { first });
    }
    assert_eq!(subject.checked_outline(&k).await.head.last, Sequence::new(5));
}

async fn version_rises_with_each_write(subject: Subject) {
    let k = key("k");
    let version = async || subject.store.head(&k).await.unwrap().version;
    let mut before = version().await;
    for number in 1..=3 {
        subject.append(&k, writer(1).write(number), &["x"]).await;
        let after = version().await;
        assert!(after > before, "{after} after {before}");
        before = after;
    }
    let clear = Clear::new(writer(1).write(4));
    subject.store.clear(&k, Access::OPEN, &clear).await.unwrap();
    assert!(version().await > before);
}

async fn batch_is_contiguous_and_ordered(subject: Subject) {
    let k = key("k");
    subject.append(&k, writer(1).write(1), &["a", "b"]).await;
    let appended = subject.append(&k, writer(1).write(2), &["c", "d", "e"]).await;
    assert_eq!(appended.outcome.first(), Some(Sequence::new(3)));
    assert_eq!(subject.texts(&k).await, ["a", "b", "c", "d", "e"]);
}

async fn empty_batch_is_refused(subject: Subject) {
    let refused =
        subject.store.append(&key("k"), Access::OPEN, &batch(writer(1).write(1), &[])).await;
    assert!(matches!(refused.unwrap_err().kind(), StoreErrorKind::Invalid(_)));
    assert_eq!(subject.checked_outline(&key("k")).await, crate::store::Outline::default());
}

async fn messages_round_trip_unchanged(subject: Subject) {
    let k = key("k");
    let mut call = message("");
    call.message = Message::calls([ToolCall::function("c1", "f", "{\"x\":1.5e300}")]);
    let mut result = message("");
    result.message = Message::tool_result("c1", "42").with_name("f");
    result.message = result.message.with_field("x-number", 9_007_199_254_740_993_u64);
    let mut parts = message("*");
    let text = serde_json::json!({"type": "text", "text": "é"});
    parts.message = parts.message.with_field("content", serde_json::json!([text]));
    let mut blocks = message("");
    blocks.message = Message::from_json(
        r#"{"role":"user","content":[
            {"type":"tool_result","tool_use_id":"a","content":"x"},
            {"type":"tool_result","tool_use_id":"b","content":"y"},
            {"type":"tool_use","id":"c","name":"f","input":{}},
            {"type":"text","text":"go on"}],
            "id":12345678901234567890123,"x":0.1000000000000000055511151231257827,"y":1.0,"w":1e400}"#,
    )
    .unwrap();
    let sent = vec![call, result, parts, blocks, message("#")];
    let append = Append { messages: sent.clone().into(), ..batch(writer(1).write(1), &["x"]) };
    subject.store.append(&k, Access::OPEN, &append).await.unwrap();
    let page = subject.store.read(&k, crate::store::Read::default()).await.unwrap();
    for (index, (sent, stored)) in sent.into_iter().zip(&page.messages).enumerate() {
        assert_eq!(&sent.stored_at(Sequence::new(index as u64 + 1)), stored);
    }
    let metas: Vec<_> = page.messages.into_iter().map(|message| message.meta).collect();
    assert_eq!(subject.checked_outline(&k).await.metas, metas);
}

async fn counters_are_returned_with_the_append(subject: Subject) {
    let k = key("k");
    subject.append(&k, writer(1).write(1), &["!sys", "abc"]).await;
    let Appended { counters, .. } = subject.append(&k, writer(1).write(2), &["*fact"]).await;
    assert_eq!(counters, subject.checked_outline(&k).await.head.counters);
    assert_eq!((counters.present.messages, counters.present.tokens), (3, 12));
    assert_eq!(counters.appended, 3);
}

async fn counters_equal_a_recount(subject: Subject) {
    let k = key("k");
    for number in 0..40 {
        let text = ["!s", "plain", "*f", "#own", "again"][number % 5];
        subject.append(&k, writer(1).write(number as u64 + 1), &[text]).await;
    }
    let counters = subject.checked_outline(&k).await.head.counters;
    let own = crate::plan::Class {
        priority: Some(Priority::new(7)),
        content_type: ContentType::from("my notes/1"),
    };
    assert_eq!(counters.classes[&own].messages, 8);
}

async fn retried_append_is_a_duplicate(subject: Subject) {
    let k = key("k");
    subject.append(&k, writer(1).write(1), &["a"]).await;
    let before = subject.append(&k, writer(1).write(2), &["b", "c"]).await;
    let version = subject.checked_outline(&k).await.head.version;
    let again = subject.append(&k, writer(1).write(2), &["b", "c"]).await;
    assert_eq!(again.outcome, AppendOutcome::Duplicate { first: Some(Sequence::new(2)) });
    assert_eq!(again.counters, before.counters);
    assert_eq!(subject.texts(&k).await, ["a", "b", "c"]);
    assert_eq!(subject.checked_outline(&k).await.head.version, version);
}

async fn older_write_is_duplicate_without_place(subject: Subject) {
    let k = key("k");
    subject.append(&k, writer(1).write(5), &["a"]).await;
    subject.append(&k, writer(1).write(9), &["b"]).await;
    for number in [1, 5, 7] {
        let again = subject.append(&k, writer(1).write(number), &["a"]).await;
        assert_eq!(again.outcome, AppendOutcome::Duplicate { first: None });
    }
    assert_eq!(subject.texts(&k).await, ["a", "b"]);
}

async fn writers_are_distinguished(subject: Subject) {
    let k = key("k");
    for number in [u128::MAX, 0, 1, 1 << 64] {
        let appended = subject.append(&k, writer(number).write(1), &["a"]).await;
        assert!(!appended.outcome.is_duplicate(), "writer {number}");
    }
    assert_eq!(subject.checked_outline(&k).await.metas.len(), 4);
}

async fn writer_may_write_to_several_memories(subject: Subject) {
    for name in ["a", "b"] {
        let appended = subject.append(&key(name), writer(1).write(1), &["x"]).await;
        assert_eq!(appended.outcome, AppendOutcome::Appended { first: Sequence::new(1) });
    }
}

async fn memories_are_isolated(subject: Subject) {
    subject.append(&key("a/b"), writer(1).write(1), &["one"]).await;
    subject.append(&key("a_b"), writer(1).write(2), &["two", "three"]).await;
    assert_eq!(subject.texts(&key("a/b")).await, ["one"]);
    assert_eq!(subject.texts(&key("a_b")).await, ["two", "three"]);
    let clear = Clear::new(writer(2).write(1));
    subject.store.clear(&key("a/b"), Access::OPEN, &clear).await.unwrap();
    assert_eq!(subject.texts(&key("a_b")).await, ["two", "three"]);
    subject.checked_outline(&key("a_b")).await;
}

/// Whether the store checks leases itself. If so, a lease that no task took counts as lost, and the backend's own
/// tests cover fencing among holders with real leases.
fn checks_leases(subject: &Subject) -> bool {
    subject.store.lease_domain().is_some()
}

async fn stale_token_is_fenced_without_change(subject: Subject) {
    let k = key("k");
    if checks_leases(&subject) {
        let access = Access::with_lease(lease(20));
        let forged = batch(writer(1).write(1), &["forged"]);
        let refused = subject.store.append(&k, access, &forged).await.unwrap_err();
        assert!(matches!(refused.kind(), StoreErrorKind::Fenced { .. }), "{refused}");
        assert_eq!(subject.checked_outline(&k).await, crate::store::Outline::default());
        return;
    }
    let new = batch(writer(1).write(1), &["new"]);
    subject.store.append(&k, Access::with_lease(lease(20)), &new).await.unwrap();
    let before = subject.checked_outline(&k).await;
    let old = batch(writer(2).write(1), &["old"]);
    let refused = subject.store.append(&k, Access::with_lease(lease(19)), &old).await.unwrap_err();
    let (token, newest) = (lease(19).token, lease(20).token);
    assert_eq!(refused.kind(), &StoreErrorKind::Fenced { token, newest });
    let clear = Clear::new(writer(2).write(2));
    let access = Access::with_lease(lease(19));
    let refused = subject.store.clear(&k, access, &clear).await.unwrap_err();
    assert_eq!(refused.kind(), &StoreErrorKind::Fenced { token, newest });
    assert_eq!(subject.checked_outline(&k).await, before);
}

async fn claim_fences_older_tokens(subject: Subject) {
    if checks_leases(&subject) {
        return assert_forged_claim_is_refused(&subject).await;
    }
    let k = key("k");
    subject.store.claim(&k, lease(30)).await.unwrap();
    let old = batch(writer(1).write(1), &["old"]);
    let refused = subject.store.append(&k, Access::with_lease(lease(29)), &old).await.unwrap_err();
    assert!(matches!(refused.kind(), StoreErrorKind::Fenced { .. }));
    let same = batch(writer(1).write(2), &["same"]);
    subject.store.append(&k, Access::with_lease(lease(30)), &same).await.unwrap();
    assert_eq!(subject.checked_outline(&k).await.head.fence, lease(30).token);
}

async fn claim_is_idempotent_and_refuses_older_tokens(subject: Subject) {
    if checks_leases(&subject) {
        return assert_forged_claim_is_refused(&subject).await;
    }
    let k = key("k");
    subject.store.claim(&k, lease(30)).await.unwrap();
    subject.store.claim(&k, lease(30)).await.unwrap();
    let refused = subject.store.claim(&k, lease(29)).await.unwrap_err();
    assert!(matches!(refused.kind(), StoreErrorKind::Fenced { .. }));
}

async fn assert_forged_claim_is_refused(subject: &Subject) {
    let refused = subject.store.claim(&key("k"), lease(30)).await.unwrap_err();
    assert!(matches!(refused.kind(), StoreErrorKind::Fenced { .. }), "{refused}");
}

async fn retry_is_recognized_after_lease_ends(subject: Subject) {
    let k = key("k");
    let write = writer(1).write(1);
    subject.append(&k, write, &["a"]).await;
    if !checks_leases(&subject) {
        subject.store.claim(&k, lease(50)).await.unwrap();
    }
    let retry = batch(write, &["a"]);
    let again = subject.store.append(&k, Access::with_lease(lease(40)), &retry).await.unwrap();
    assert_eq!(again.outcome, AppendOutcome::Duplicate { first: Some(Sequence::new(1)) });
}

async fn with_ttl(subject: &Subject, number: u64, text: &str, ttl: Option<Duration>) -> Appended {
    let append = Append { ttl, ..batch(writer(1).write(number), &[text]) };
    subject.store.append(&key("k"), Access::OPEN, &append).await.unwrap()
}

async fn memory_expires_ttl_after_last_write(subject: Subject) {
    let ttl = Some(Duration::from_secs(60));
    with_ttl(&subject, 1, "a", ttl).await;
    subject.clock.advance(Duration::from_secs(59));
    with_ttl(&subject, 2, "b", ttl).await;
    subject.clock.advance(Duration::from_secs(59));
    assert_eq!(subject.texts(&key("k")).await, ["a", "b"]);
    let expires = subject.checked_outline(&key("k")).await.head.expires_at.unwrap();
    assert_eq!(expires.duration_since(subject.clock.now()).as_secs(), 1);
    subject.clock.advance(Duration::from_secs(1));
    assert_eq!(subject.checked_outline(&key("k")).await, crate::store::Outline::default());
    assert!(subject.store.keys(None, std::num::NonZeroUsize::MIN).await.unwrap().is_empty());
}

async fn expired_memory_starts_over(subject: Subject) {
    let ttl = Some(Duration::from_secs(60));
    with_ttl(&subject, 1, "a", ttl).await;
    let before = subject.checked_outline(&key("k")).await.head;
    subject.clock.advance(Duration::from_secs(61));
    let appended = with_ttl(&subject, 1, "b", ttl).await;
    assert_eq!(appended.outcome, AppendOutcome::Appended { first: Sequence::new(1) });
    let after = subject.checked_outline(&key("k")).await.head;
    assert_eq!(after.counters.appended, 1);
    assert!(after.generation > before.generation, "generations never repeat");
    assert_eq!(subject.texts(&key("k")).await, ["b"]);
}

async fn append_without_ttl_removes_ttl(subject: Subject) {
    with_ttl(&subject, 1, "a", Some(Duration::from_secs(60))).await;
    with_ttl(&subject, 2, "b", None).await;
    subject.clock.advance(Duration::from_secs(1_000_000));
    assert_eq!(subject.texts(&key("k")).await, ["a", "b"]);
}

async fn concurrent_batches_stay_whole(subject: Subject) {
    const WRITERS: u128 = 8;
    const BATCHES: u64 = 12;
    let k = key("k");
    let writers = (0..WRITERS).map(|name| {
        let (subject, k) = (subject.clone(), k.clone());
        async move {
            for number in 1..=BATCHES {
                let texts = [0, 1, 2].map(|part| format!("{name}.{number}.{part}"));
                let texts: Vec<_> = texts.iter().map(String::as_str).collect();
                subject.append(&k, writer(name).write(number), &texts).await;
            }
        }
    });
    join_all(writers.map(boxed)).await;

    let texts = subject.texts(&k).await;
    assert_eq!(texts.len() as u64, WRITERS as u64 * BATCHES * 3);
    assert_eq!(texts.iter().collect::<BTreeSet<_>>().len(), texts.len(), "something is doubled");
    let mut last = [0_u64; WRITERS as usize];
    for batch in texts.chunks(3) {
        let parts: Vec<Vec<u64>> = batch
            .iter()
            .map(|text| text.split('.').map(|n| n.parse().unwrap()).collect())
            .collect();
        assert!(parts.iter().all(|part| part[..2] == parts[0][..2]), "torn batch {batch:?}");
        assert_eq!([parts[0][2], parts[1][2], parts[2][2]], [0, 1, 2]);
        let (name, number) = (parts[0][0] as usize, parts[0][1]);
        assert_eq!(number, last[name] + 1, "a writer's order is lost");
        last[name] = number;
    }
    subject.checked_outline(&k).await;
}

async fn large_messages_and_odd_characters_round_trip(subject: Subject) {
    let k = key("k");
    let large = "x".repeat(1 << 20);
    let odd = "\u{0}\u{1F468}\u{200D}\u{1F469} \\ \" \u{2028} é %s ? :1 ' --";
    subject.append(&k, writer(1).write(1), &[&large, odd]).await;
    assert_eq!(subject.texts(&k).await, [large.as_str(), odd]);
    subject.checked_outline(&k).await;
}
