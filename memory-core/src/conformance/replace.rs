//! Replacing one message by another.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use uuid::Uuid;

use super::splice::receipt;
use super::{Case, Subject, batch, boxed, cases_of, join_all, key, lease, message, writer};
use crate::dialect::ToolCall;
use crate::store::{
    Access, Append, Clear, MessageId, NewMessage, Outline, Read, Replace, Splice, StoreErrorKind,
    WriteId,
};
use crate::{Message, Sequence};

pub(super) const CASES: &[Case] = cases_of![
    replaced_message_keeps_its_place,
    replace_changes_nothing_but_what_is_present,
    replace_sent_twice_is_applied_once,
    retried_replace_spares_a_newer_one,
    older_replace_of_a_writer_changes_nothing,
    replace_of_another_message_is_refused,
    replace_of_no_message_is_refused,
    replace_under_the_same_id_is_refused,
    replace_with_other_calls_is_refused,
    replace_with_the_same_calls_keeps_them_closed,
    replaced_summary_is_a_summary,
    replace_ends_snapshots,
    replace_keeps_the_ttl,
    replace_of_an_expired_message_is_refused,
    replace_is_fenced,
    one_of_concurrent_replaces_is_applied,
    replaced_message_is_flushed_and_cleared,
];

/// A replacement of the message at a place.
pub(super) fn replace(write: WriteId, outline: &Outline, place: u64, by: NewMessage) -> Replace {
    let sequence = Sequence::new(place);
    let found = outline.metas.iter().find(|meta| meta.sequence == sequence);
    let replaced = found.map_or(MessageId::new(Uuid::max()), |meta| meta.id);
    Replace { write, sequence, replaced, message: by }
}

pub(super) async fn filled(subject: &Subject) -> Outline {
    let k = key("k");
    subject.append(&k, writer(1).write(1), &["!sys", "one", "two", "*three"]).await;
    subject.checked_outline(&k).await
}

async fn refused(subject: &Subject, replace: Replace) -> StoreErrorKind {
    refused_under(subject, Access::OPEN, replace).await
}

async fn refused_under(subject: &Subject, access: Access, replace: Replace) -> StoreErrorKind {
    let k = key("k");
    let before = (subject.checked_outline(&k).await, subject.texts(&k).await);
    let refused = subject.store.replace(&k, access, &replace).await.unwrap_err();
    assert_eq!((subject.checked_outline(&k).await, subject.texts(&k).await), before);
    refused.kind().clone()
}

async fn replaced_message_keeps_its_place(subject: Subject) {
    let (k, before) = (key("k"), filled(&subject).await);
    let new = message("#other and longer");
    let done = replace(writer(1).write(2), &before, 2, new.clone());
    let counters = subject.store.replace(&k, Access::OPEN, &done).await.unwrap();
    assert_eq!(subject.texts(&k).await, ["!sys", "#other and longer", "two", "*three"]);
    let after = subject.checked_outline(&k).await;
    assert_eq!(after.head.counters, counters);
    assert_eq!(after.metas[1], new.stored_at(Sequence::new(2)).meta);
    assert_eq!((&after.metas[0], &after.metas[2..]), (&before.metas[0], &before.metas[2..]));
    // The next place follows all messages, as if nothing had been replaced.
    let appended = subject.append(&k, writer(1).write(3), &["next"]).await;
    assert_eq!(appended.outcome.first(), Some(Sequence::new(5)));
    subject.checked_outline(&k).await;
}

async fn replace_changes_nothing_but_what_is_present(subject: Subject) {
    let (k, before) = (key("k"), filled(&subject).await);
    // Replacing this message removes one class and adds another.
    let done = replace(writer(1).write(2), &before, 1, message("#mine"));
    let counters = subject.store.replace(&k, Access::OPEN, &done).await.unwrap();
    let old = before.head.counters;
    assert_eq!(counters.present.messages, old.present.messages);
    assert_eq!(counters.present.tokens, old.present.tokens + 1);
    assert!(!counters.classes.contains_key(&before.metas[0].class()));
    assert_eq!(counters.classes[&message("#mine").class()].tokens, 5);
    assert_eq!((counters.appended, counters.summaries), (old.appended, old.summaries));
    assert_eq!((counters.summarized, counters.evicted, counters.cleared), (0, 0, 0));
    let head = subject.checked_outline(&k).await.head;
    assert_eq!(head.last, before.head.last);
    assert!(head.version > before.head.version && head.generation > before.head.generation);
}

async fn replace_sent_twice_is_applied_once(subject: Subject) {
    let (k, before) = (key("k"), filled(&subject).await);
    let done = replace(writer(2).write(1), &before, 2, message("new"));
    let counters = subject.store.replace(&k, Access::OPEN, &done).await.unwrap();
    let after = subject.checked_outline(&k).await;
    assert_eq!(subject.store.replace(&k, Access::OPEN, &done).await.unwrap(), counters);
    assert_eq!(subject.checked_outline(&k).await, after);
    assert_eq!(subject.texts(&k).await, ["!sys", "new", "two", "*three"]);
}

async fn retried_replace_spares_a_newer_one(subject: Subject) {
    let (k, before) = (key("k"), filled(&subject).await);
    let first = replace(writer(2).write(1), &before, 2, message("first"));
    subject.store.replace(&k, Access::OPEN, &first).await.unwrap();
    let between = subject.checked_outline(&k).await;
    let second = replace(writer(3).write(1), &between, 2, message("second"));
    subject.store.replace(&k, Access::OPEN, &second).await.unwrap();
    let after = subject.checked_outline(&k).await;
    assert_eq!(subject.store.replace(&k, Access::OPEN, &first).await.unwrap(), after.head.counters);
    assert_eq!(subject.checked_outline(&k).await, after);
    assert_eq!(subject.texts(&k).await[1], "second");
}

async fn older_replace_of_a_writer_changes_nothing(subject: Subject) {
    let (k, before) = (key("k"), filled(&subject).await);
    subject.append(&k, writer(2).write(5), &["later"]).await;
    let old = replace(writer(2).write(4), &before, 2, message("new"));
    let after = subject.checked_outline(&k).await;
    subject.store.replace(&k, Access::OPEN, &old).await.unwrap();
    assert_eq!(subject.checked_outline(&k).await, after);
    // An append with a number that a replacement used is also a duplicate.
    let done = replace(writer(2).write(6), &after, 2, message("new"));
    subject.store.replace(&k, Access::OPEN, &done).await.unwrap();
    let again = subject.append(&k, writer(2).write(6), &["again"]).await;
    assert!(again.outcome.is_duplicate());
    assert_eq!(subject.texts(&k).await, ["!sys", "new", "two", "*three", "later"]);
}

async fn replace_of_another_message_is_refused(subject: Subject) {
    let before = filled(&subject).await;
    let mut other = replace(writer(2).write(1), &before, 2, message("new"));
    other.replaced = before.metas[2].id;
    assert_eq!(refused(&subject, other.clone()).await, StoreErrorKind::Conflict);
    // A refused replacement is not recorded under its id: it can be sent again.
    other.replaced = before.metas[1].id;
    subject.store.replace(&key("k"), Access::OPEN, &other).await.unwrap();
    assert_eq!(subject.texts(&key("k")).await[1], "new");
}

async fn replace_of_no_message_is_refused(subject: Subject) {
    let never = replace(writer(2).write(1), &Outline::default(), 1, message("new"));
    assert_eq!(refused(&subject, never).await, StoreErrorKind::Conflict);
    let before = filled(&subject).await;
    for place in [0, 5, 6, 1 << 36, 1 << 53, u64::MAX] {
        let beyond = replace(writer(2).write(1), &before, place, message("new"));
        assert_eq!(refused(&subject, beyond).await, StoreErrorKind::Conflict, "{place}");
    }
    let splice = Splice { evicted: vec![Sequence::new(2)], ..Splice::of(&before) };
    subject.store.splice(&key("k"), Access::OPEN, &splice).await.unwrap();
    let evicted = replace(writer(2).write(1), &before, 2, message("new"));
    assert_eq!(refused(&subject, evicted.clone()).await, StoreErrorKind::Conflict);
    let clear = Clear::new(writer(3).write(1));
    subject.store.clear(&key("k"), Access::OPEN, &clear).await.unwrap();
    let cleared = replace(writer(2).write(1), &before, 3, message("new"));
    assert_eq!(refused(&subject, cleared).await, StoreErrorKind::Conflict);
}

async fn replace_under_the_same_id_is_refused(subject: Subject) {
    let before = filled(&subject).await;
    let same = NewMessage { id: before.metas[1].id, ..message("new") };
    let refused = refused(&subject, replace(writer(2).write(1), &before, 2, same)).await;
    assert!(matches!(refused, StoreErrorKind::Invalid(_)), "{refused}");
}

fn calling(id: &str, text: &str) -> NewMessage {
    let call = Message::calls([ToolCall::function(id, "f", "{}")]).with_field("content", text);
    NewMessage { message: call, ..message(text) }
}

async fn replace_with_other_calls_is_refused(subject: Subject) {
    let k = key("k");
    let result = NewMessage { message: Message::tool_result("c", "r"), ..message("result") };
    let messages = [calling("c", "call"), result, message("plain")].into();
    let append = Append { messages, ..batch(writer(1).write(1), &["x"]) };
    subject.store.append(&k, Access::OPEN, &append).await.unwrap();
    let before = subject.checked_outline(&k).await;
    let other = NewMessage { message: Message::tool_result("d", "r"), ..message("other") };
    for (place, new) in [
        (1, message("new")),
        (1, calling("d", "new")),
        (2, message("new")),
        (2, other.clone()),
        (3, calling("e", "new")),
        (3, other),
    ] {
        let refused = refused(&subject, replace(writer(2).write(1), &before, place, new)).await;
        assert!(matches!(refused, StoreErrorKind::Invalid(_)), "{refused}");
    }
    let redacted = NewMessage { message: Message::tool_result("c", "[gone]"), ..message("gone") };
    let done = replace(writer(2).write(1), &before, 2, redacted);
    subject.store.replace(&k, Access::OPEN, &done).await.unwrap();
    let after = subject.checked_outline(&k).await;
    assert_eq!(after.metas[1].link, before.metas[1].link);
    assert_eq!(subject.texts(&k).await, ["call", "[gone]", "plain"]);
}

async fn replace_with_the_same_calls_keeps_them_closed(subject: Subject) {
    let k = key("k");
    let messages = [calling("c", "call")].into();
    let append = Append { messages, ..batch(writer(1).write(1), &["x"]) };
    subject.store.append(&k, Access::OPEN, &append).await.unwrap();
    let generation = subject.checked_outline(&k).await.head.generation;
    let close = Splice { closed: vec![Sequence::new(1)], ..Splice::new(generation) };
    subject.store.splice(&k, Access::OPEN, &close).await.unwrap();
    let before = subject.checked_outline(&k).await;
    let done = replace(writer(2).write(1), &before, 1, calling("c", "new"));
    subject.store.replace(&k, Access::OPEN, &done).await.unwrap();
    let after = subject.checked_outline(&k).await;
    assert!(after.metas[0].closed, "an abandoned call stays closed");
    assert_eq!(subject.texts(&k).await, ["new"]);
}

async fn replaced_summary_is_a_summary(subject: Subject) {
    let (k, before) = (key("k"), filled(&subject).await);
    let splice = Splice {
        summarized: vec![Sequence::new(2), Sequence::new(3)],
        summary: Some(message("*sum")),
        ..Splice::of(&before)
    };
    subject.store.splice(&k, Access::OPEN, &splice).await.unwrap();
    let before = subject.checked_outline(&k).await;
    let done = replace(writer(2).write(1), &before, 2, message("*shorter"));
    let counters = subject.store.replace(&k, Access::OPEN, &done).await.unwrap();
    assert_eq!((counters.summaries, counters.summarized, counters.appended), (1, 2, 4));
    let after = subject.checked_outline(&k).await;
    assert!(after.metas[1].summary);
    assert_eq!(subject.texts(&k).await, ["!sys", "*shorter", "*three"]);
}

/// No reader may mistake the new message for the old one.
async fn replace_ends_snapshots(subject: Subject) {
    let (k, before) = (key("k"), filled(&subject).await);
    let mark =
        Splice { receipt: Some(receipt(1)), next_flush_at: Some(900), ..Splice::of(&before) };
    subject.store.splice(&k, Access::OPEN, &mark).await.unwrap();
    let page = subject.store.read(&k, Read::default()).await.unwrap();
    // The newest message is unchanged, but its cursor is no longer valid.
    let done = replace(writer(2).write(1), &before, 2, message("new"));
    subject.store.replace(&k, Access::OPEN, &done).await.unwrap();
    let again = Read { after: Some(page.cursor), limit: None };
    let again = subject.store.read(&k, again).await.unwrap();
    assert!(again.restarted);
    assert_eq!(again.messages.len(), 4);
    let head = subject.checked_outline(&k).await.head;
    assert_eq!(head.next_flush_at, None, "the mark of the last shortfall was kept");
    let fetched = subject.store.fetch(&k, before.cursor(), &[Sequence::new(2)]).await;
    assert_eq!(fetched.unwrap_err().kind(), &StoreErrorKind::Conflict);
    let splice = Splice { evicted: vec![Sequence::new(2)], ..Splice::of(&before) };
    let spliced = subject.store.splice(&k, Access::OPEN, &splice.weighed(&before.metas)).await;
    assert_eq!(spliced.unwrap_err().kind(), &StoreErrorKind::Conflict);
    subject.checked_outline(&k).await;
}

async fn replace_keeps_the_ttl(subject: Subject) {
    let k = key("k");
    let append =
        Append { ttl: Some(Duration::from_secs(60)), ..batch(writer(1).write(1), &["one", "two"]) };
    subject.store.append(&k, Access::OPEN, &append).await.unwrap();
    let before = subject.checked_outline(&k).await;
    subject.clock.advance(Duration::from_secs(59));
    let done = replace(writer(1).write(2), &before, 2, message("new"));
    subject.store.replace(&k, Access::OPEN, &done).await.unwrap();
    let after = subject.checked_outline(&k).await;
    assert_eq!(after.head.expires_at, before.head.expires_at);
    subject.clock.advance(Duration::from_secs(1));
    assert_eq!(subject.checked_outline(&k).await, Outline::default());
}

async fn replace_of_an_expired_message_is_refused(subject: Subject) {
    let k = key("k");
    let ttl = Some(Duration::from_secs(60));
    let append = Append { ttl, ..batch(writer(1).write(1), &["one"]) };
    subject.store.append(&k, Access::OPEN, &append).await.unwrap();
    let before = subject.checked_outline(&k).await;
    subject.clock.advance(Duration::from_secs(60));
    let late = replace(writer(1).write(2), &before, 1, message("new"));
    assert_eq!(refused(&subject, late).await, StoreErrorKind::Conflict);
}

async fn replace_is_fenced(subject: Subject) {
    let (k, before) = (key("k"), filled(&subject).await);
    let by = |token: u64| Access::with_lease(lease(token));
    let request = replace(writer(2).write(1), &before, 2, message("new"));
    let is_fenced = |kind| matches!(kind, StoreErrorKind::Fenced { .. });
    if subject.store.lease_domain().is_some() {
        // No task took this lease, so it counts as lost.
        assert!(is_fenced(refused_under(&subject, by(20), request).await));
        return;
    }
    subject.store.claim(&k, lease(20)).await.unwrap();
    assert!(is_fenced(refused_under(&subject, by(19), request.clone()).await));
    subject.store.replace(&k, by(21), &request).await.unwrap();
    assert_eq!(subject.checked_outline(&k).await.head.fence, lease(21).token);
    // A retry needs no lease.
    subject.store.claim(&k, lease(30)).await.unwrap();
    subject.store.replace(&k, by(21), &request).await.unwrap();
    assert_eq!(subject.texts(&k).await[1], "new");
}

async fn one_of_concurrent_replaces_is_applied(subject: Subject) {
    const WRITERS: u128 = 8;
    let (k, before) = (key("k"), filled(&subject).await);
    let applied = AtomicU32::new(0);
    let replaces = (0..WRITERS).map(|name| {
        let (subject, k, applied) = (subject.clone(), k.clone(), &applied);
        let new = message(&format!("{name} won"));
        let request = replace(writer(10 + name).write(1), &before, 2, new);
        async move {
            match subject.store.replace(&k, Access::OPEN, &request).await {
                Ok(_) => drop(applied.fetch_add(1, Ordering::SeqCst)),
                Err(error) => assert_eq!(error.kind(), &StoreErrorKind::Conflict),
            }
        }
    });
    join_all(replaces.map(boxed)).await;
    assert_eq!(applied.load(Ordering::SeqCst), 1);
    let texts = subject.texts(&k).await;
    assert_eq!(texts.len(), 4);
    assert!(texts[1].ends_with(" won"), "{texts:?}");
    subject.checked_outline(&k).await;
}

async fn replaced_message_is_flushed_and_cleared(subject: Subject) {
    let (k, before) = (key("k"), filled(&subject).await);
    for (number, place) in [(1, 2), (2, 3)] {
        let new = message(&format!("#{number} of another class"));
        let done = replace(writer(2).write(number), &before, place, new);
        subject.store.replace(&k, Access::OPEN, &done).await.unwrap();
    }
    let outline = subject.checked_outline(&k).await;
    let splice = Splice { evicted: vec![Sequence::new(2)], ..Splice::of(&outline) };
    let counters =
        subject.store.splice(&k, Access::OPEN, &splice.weighed(&outline.metas)).await.unwrap();
    assert_eq!((counters.evicted, counters.present.messages), (1, 3));
    subject.checked_outline(&k).await;
    let clear = Clear::new(writer(3).write(1));
    let counters = subject.store.clear(&k, Access::OPEN, &clear).await.unwrap().counters;
    assert_eq!((counters.cleared, counters.present.tokens), (3, 0));
    subject.checked_outline(&k).await;
}
