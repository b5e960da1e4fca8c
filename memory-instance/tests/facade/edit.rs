//! Changes of single messages: text, priority, content type.

use std::time::Duration;

use memory_core::dialect::ToolCall;
use memory_core::resource::ArchiveSettings;
use memory_core::store::StoreErrorKind;
use memory_core::{ContentType, Entry, MemoryResource, Message, Priority, Sequence};
use memory_instance::{Conditional, FlushMode, RewriteOutcome};

use crate::support::{On, checked, texts, with};

on_every_backend![
    replaced_message_keeps_its_place_and_class,
    replacement_keeps_calls_and_results,
    pinned_message_outlives_flushes,
    content_type_sets_the_derived_priority,
    pinned_summary_is_still_that_of_its_flush,
    all_messages_are_replaced_at_once,
];

const TWO: Sequence = Sequence::new(2);

async fn replaced_message_keeps_its_place_and_class(on: On) {
    let world = on.world(with(MemoryResource::new("m", 1 << 20))).await;
    let (memory, other) = (world.memory(), world.memory());
    let fact = Entry::new(Message::user("my card is 4929")).with_priority(Priority::IMPORTANT);
    memory
        .append_all([Message::user("one").into(), fact, Message::user("three").into()])
        .await
        .unwrap();
    let before = other.messages().await.unwrap();
    // The clock moves on, so that the time of the message is another one than that of the replacement.
    tokio::time::sleep(Duration::from_millis(2)).await;
    let edited = memory.replace(TWO, Message::user("my card is [removed]")).await.unwrap().unwrap();
    assert_eq!((edited.sequence, edited.replaced), (TWO, before[1].meta.id));
    for reader in [&memory, &other] {
        let now = reader.messages().await.unwrap();
        let (old, new) = (&before[1].meta, &now[1].meta);
        assert_eq!(now[1].message.text(), "my card is [removed]");
        assert_eq!((new.id, new.sequence, new.created_at), (edited.id, TWO, old.created_at));
        assert_eq!(new.class(), old.class());
        assert_eq!([&now[0], &now[2]], [&before[0], &before[2]]);
    }
    // The same again changes nothing.
    let again = memory.replace(TWO, Message::user("my card is [removed]")).await.unwrap().unwrap();
    assert_eq!((again.id, again.replaced), (edited.id, edited.id));
    assert_eq!(memory.replace(Sequence::new(4), Message::user("none")).await.unwrap(), None);
    let reset = Entry::new(Message::user("two")).with_content_type(ContentType::Conversation);
    memory.exclusive(async |session| session.replace(TWO, reset).await).await.unwrap().unwrap();
    assert_eq!(texts(&other).await, ["one", "two", "three"]);
    checked(&memory, &world.manager).await;
}

async fn replacement_keeps_calls_and_results(on: On) {
    let world = on.world(with(MemoryResource::new("m", 1 << 20))).await;
    let memory = world.memory();
    let call = Message::calls([ToolCall::function("c", "find", "{}")]);
    memory.append_all([call, Message::tool_result("c", "secret")]).await.unwrap();
    let error = memory.replace(TWO, Message::user("x")).await.unwrap_err();
    assert!(matches!(error.store_kind(), Some(StoreErrorKind::Invalid(_))), "{error}");
    memory.replace(TWO, Message::tool_result("c", "[removed]")).await.unwrap().unwrap();
    assert_eq!(memory.context(1_000).await.unwrap().repairs, []);
    assert_eq!(memory.last(1).await.unwrap()[0].message.text(), "[removed]");
    checked(&memory, &world.manager).await;
}

async fn pinned_message_outlives_flushes(on: On) {
    let world =
        on.world(with(MemoryResource::new("m", 400)).with_flush_mode(FlushMode::Manual)).await;
    let memory = world.memory();
    for number in 0..30 {
        memory.append(Message::user(format!("message {number} of a long talk"))).await.unwrap();
    }
    let edited = memory.set_priority(TWO, Priority::CRITICAL).await.unwrap().unwrap();
    assert_eq!(edited.counters.critical_tokens(), edited.counters.present.tokens / 30);
    memory.perform_flush().await.unwrap().unwrap();
    let left = texts(&memory).await;
    let is_left = |text: &str| left.iter().any(|left| left == text);
    assert!(is_left("message 1 of a long talk"), "{left:?}");
    assert!(!is_left("message 0 of a long talk") && !is_left("message 2 of a long talk"));
    assert_eq!(memory.set_priority(Sequence::new(3), Priority::CRITICAL).await.unwrap(), None);
    checked(&memory, &world.manager).await;
}

async fn content_type_sets_the_derived_priority(on: On) {
    let world = on.world(with(MemoryResource::new("m", 1 << 20))).await;
    let memory = world.memory();
    memory.append_all(["one", "two"].map(Message::user)).await.unwrap();
    let class = async || {
        let meta = memory.last(1).await.unwrap().remove(0).meta;
        (meta.content_type, meta.priority)
    };
    let facts = ContentType::ImportantFacts;
    memory.set_content_type(TWO, facts.clone()).await.unwrap().unwrap();
    assert_eq!(class().await, (facts.clone(), Some(Priority::IMPORTANT)));
    memory.set_content_type(TWO, ContentType::Conversation).await.unwrap().unwrap();
    assert_eq!(class().await, (ContentType::Conversation, None));
    // An explicit priority stays.
    memory.set_priority(TWO, Priority::CRITICAL).await.unwrap().unwrap();
    memory.set_content_type(TWO, facts.clone()).await.unwrap().unwrap();
    assert_eq!(class().await, (facts, Some(Priority::CRITICAL)));
    checked(&memory, &world.manager).await;
}

async fn pinned_summary_is_still_that_of_its_flush(on: On) {
    let mut resource = MemoryResource::new("m", 400);
    resource.archive = ArchiveSettings::keep_for(Duration::from_hours(24));
    let world = on.world(with(resource).with_flush_mode(FlushMode::Manual)).await;
    let memory = world.memory();
    for number in 0..40 {
        let text = format!("message {number} of a conversation that goes on");
        memory.append(Message::user(text)).await.unwrap();
    }
    let before = memory.messages().await.unwrap();
    let flush = memory.perform_flush().await.unwrap().unwrap();
    let place = flush.summary.unwrap().sequence;
    let pinned = memory.set_priority(place, Priority::CRITICAL).await.unwrap().unwrap();
    let originals = memory.originals(pinned.id).await.unwrap();
    assert_eq!(originals.len() as u64, flush.summarized.len());
    memory.undo_flush(flush.id).await.unwrap();
    assert_eq!(memory.messages().await.unwrap(), before);

    let flush = memory.perform_flush().await.unwrap().unwrap();
    let last = flush.summarized.ranges()[0].1;
    let erasure = memory.erase([last], "test").await.unwrap().erasure;
    let facts = ContentType::ImportantFacts;
    memory.set_content_type(place, facts.clone()).await.unwrap().unwrap();
    memory.set_priority(place, Priority::CRITICAL).await.unwrap().unwrap();
    let rewritten = memory.rewrite_summaries(&erasure).await.unwrap();
    let RewriteOutcome::Rewritten { id } = rewritten[0].outcome else { panic!("{rewritten:?}") };
    let messages = memory.messages().await.unwrap();
    let new = &messages.iter().find(|one| one.meta.id == id).unwrap().meta;
    assert_eq!((new.priority, &new.content_type), (Some(Priority::CRITICAL), &facts));

    // Another text is its author's.
    memory.replace(place, Message::user("a better summary")).await.unwrap().unwrap();
    let other = Sequence::new(last.number() - 1);
    let erasure = memory.erase([other], "test").await.unwrap().erasure;
    let rewritten = memory.rewrite_summaries(&erasure).await.unwrap();
    assert_eq!(rewritten[0].outcome, RewriteOutcome::NoOriginals);
    checked(&memory, &world.manager).await;
}

async fn all_messages_are_replaced_at_once(on: On) {
    let world = on.world(with(MemoryResource::new("m", 1 << 20))).await;
    let (memory, other) = (world.memory(), world.memory());
    memory.append_all(["one", "two"].map(Message::user)).await.unwrap();
    assert_eq!(texts(&other).await.len(), 2);
    let version = memory.version().await.unwrap();
    other.append(Message::user("three")).await.unwrap();
    let digest = || [Message::user("one to three")];
    let done = memory.replace_all(digest(), Some(version)).await.unwrap();
    let Conditional::Conflict(conflict) = done else { panic!("{done:?}") };
    assert_eq!(conflict.came.len(), 1);
    let done = memory.replace_all(digest(), Some(conflict.version)).await.unwrap();
    let done = done.applied().unwrap();
    assert_eq!(done.receipt.map(|receipt| receipt.messages), Some(3));
    let counters = done.appended.counters;
    assert_eq!((counters.appended, counters.cleared, counters.present.messages), (4, 3, 1));
    for reader in [&memory, &other] {
        assert_eq!(texts(reader).await, ["one to three"]);
    }
    let done = memory.replace_all(["four", "five"].map(Message::user), None).await.unwrap();
    assert!(done.applied().is_some());
    assert_eq!(texts(&other).await, ["four", "five"]);
    memory.replace_all(Vec::<Message>::new(), None).await.unwrap_err();
    checked(&memory, &world.manager).await;
}
