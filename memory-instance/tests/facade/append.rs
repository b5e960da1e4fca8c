//! P1, P2, P3, P13: an acknowledged message is stored once, in order.

use memory_core::store::{AppendOutcome, WriterId};
use memory_core::{ContentType, Entry, MemoryResource, Message, Priority, Sequence};
use memory_instance::MemoryError;

use crate::support::{On, assert_distinct, checked, texts, with};

on_every_backend![
    messages_keep_program_order,
    batches_of_concurrent_writers_stay_contiguous,
    resent_batch_appends_nothing,
    clones_of_a_batch_are_appended_once,
    named_writer_is_recognized_by_another_manager,
    secrets_never_reach_the_store,
    entry_metadata_is_stored,
    read_only_handle_refuses_writes,
    clear_counts_all_messages_as_cleared,
    empty_batch_is_refused,
    tool_result_over_budget_is_accepted,
    number_of_custom_content_types_is_limited,
];

async fn messages_keep_program_order(on: On) {
    let world = on.world(with(MemoryResource::new("m", 1 << 20))).await;
    let memory = world.memory();
    for number in 0..50 {
        let appended = memory.append(Message::user(number.to_string())).await.unwrap();
        assert_eq!(appended.outcome.first(), Some(Sequence::new(number + 1)));
    }
    let expected: Vec<_> = (0..50).map(|number| number.to_string()).collect();
    assert_eq!(texts(&memory).await, expected);
    checked(&memory, &world.manager).await;
}

async fn batches_of_concurrent_writers_stay_contiguous(on: On) {
    const WRITERS: usize = 16;
    let world = on.world(with(MemoryResource::new("m", 1 << 20))).await;
    let tasks = (0..WRITERS).map(|writer| {
        // One handle for all: its clones must not block each other.
        let memory = world.memory();
        tokio::spawn(async move {
            for round in 0..10 {
                let batch = [0, 1, 2].map(|part| Message::user(format!("{writer} {round} {part}")));
                memory.append_all(batch).await.unwrap();
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    let texts = texts(&world.memory()).await;
    assert_eq!(texts.len(), WRITERS * 30);
    assert_distinct(&texts);
    let mut rounds = [0; WRITERS];
    for batch in texts.chunks(3) {
        let (writer, round) = batch[0].split_once(' ').unwrap();
        let writer: usize = writer.parse().unwrap();
        let round = round.strip_suffix(" 0").expect("a batch begins with its first message");
        assert_eq!(batch[1..], [format!("{writer} {round} 1"), format!("{writer} {round} 2")]);
        assert_eq!(round, rounds[writer].to_string(), "a writer's order is lost");
        rounds[writer] += 1;
    }
    checked(&world.memory(), &world.manager).await;
}

async fn resent_batch_appends_nothing(on: On) {
    let world = on.world(with(MemoryResource::new("m", 1 << 20))).await;
    let memory = world.memory();
    let prepared = memory.prepare([Message::user("a"), Message::user("b")]).unwrap();
    let first = memory.send(&prepared).await.unwrap();
    assert_eq!(first.outcome, AppendOutcome::Appended { first: Sequence::new(1) });
    memory.append(Message::user("c")).await.unwrap();
    for _ in 0..3 {
        let again = memory.send(&prepared).await.unwrap();
        assert_eq!(again.outcome, AppendOutcome::Duplicate { first: Some(Sequence::new(1)) });
    }
    assert_eq!(texts(&memory).await, ["a", "b", "c"]);
    checked(&memory, &world.manager).await;
}

async fn clones_of_a_batch_are_appended_once(on: On) {
    let world = on.world(with(MemoryResource::new("m", 1 << 20))).await;
    let memory = world.memory();
    let prepared = memory.prepare([Message::user("one"), Message::user("two")]).unwrap();
    let clones = [prepared.clone(), prepared.clone()];
    let first = memory.send(&prepared).await.unwrap();
    let again = memory.send(&clones[0]).await.unwrap();
    assert_eq!(again.outcome, AppendOutcome::Duplicate { first: first.outcome.first() });
    // A memory that does not know the batch appends it, under other message ids.
    let other = world.manager.memory("m", "other").unwrap();
    assert!(!other.send(&clones[1]).await.unwrap().outcome.is_duplicate());
    assert_eq!(texts(&other).await, ["one", "two"]);
    let messages = [memory.messages().await.unwrap(), other.messages().await.unwrap()].concat();
    assert_distinct(
        &messages.iter().map(|message| message.meta.id.uuid().to_string()).collect::<Vec<_>>(),
    );
}

async fn named_writer_is_recognized_by_another_manager(on: On) {
    let resource = || with(MemoryResource::new("m", 1 << 20));
    let world = on.world(resource()).await;
    let write = |number| WriterId::named("queue/7").write(number);
    let memory = world.memory();
    memory.send(&memory.prepare_as(write(1), [Message::user("one")]).unwrap()).await.unwrap();
    let (store, locks) = (world.manager.store().clone(), world.manager.locks().clone());
    let other = resource().build(store, locks).unwrap().memory("m", "k").unwrap();
    let again = other.prepare_as(write(1), [Message::user("one")]).unwrap();
    assert!(other.send(&again).await.unwrap().outcome.is_duplicate());
    let next = other.prepare_as(write(2), [Message::user("two")]).unwrap();
    assert!(!other.send(&next).await.unwrap().outcome.is_duplicate());
    assert_eq!(texts(&memory).await, ["one", "two"]);
}

async fn secrets_never_reach_the_store(on: On) {
    let mut resource = MemoryResource::new("m", 1 << 20);
    resource.privacy_policy.redact_patterns = vec![r"\b\d{3}-\d{2}-\d{4}\b".into()];
    let world = on.world(with(resource)).await;
    let memory = world.memory();
    memory.append(Message::user("my number is 078-05-1120, thanks")).await.unwrap();
    assert_eq!(texts(&memory).await, ["my number is [REDACTED], thanks"]);
    if let Some(folder) = &world.folder {
        for file in std::fs::read_dir(folder.path()).unwrap() {
            let bytes = std::fs::read(file.unwrap().path()).unwrap();
            assert!(!bytes.windows(11).any(|window| window == b"078-05-1120"));
        }
    }
}

async fn entry_metadata_is_stored(on: On) {
    let world = on.world(with(MemoryResource::new("m", 1 << 20))).await;
    let memory = world.memory();
    let entry = Entry::new(Message::assistant("the case is 4711"))
        .with_content_type(ContentType::ImportantFacts)
        .with_priority(Priority::CRITICAL);
    memory.append(entry).await.unwrap();
    memory.append(Message::system("be kind")).await.unwrap();
    memory.append(Message::user("hello")).await.unwrap();
    let metas = checked(&memory, &world.manager).await.metas;
    assert_eq!(metas[0].class().to_string(), "0/important_facts");
    assert_eq!(metas[1].class().to_string(), "0/system_prompt");
    assert_eq!(metas[2].class().to_string(), "-/conversation");
}

async fn read_only_handle_refuses_writes(on: On) {
    let world = on.world(with(MemoryResource::new("m", 1 << 20))).await;
    world.memory().append(Message::user("a")).await.unwrap();
    let reader = world.memory().read_only();
    let (first, before) = (Sequence::new(1), reader.messages().await.unwrap());
    assert_eq!(reader.len().await.unwrap(), 1);
    reader.context(100).await.unwrap();
    reader.health().await.unwrap();
    let refusals = [
        reader.append(Message::user("b")).await.map(drop).unwrap_err(),
        reader.clear().await.map(drop).unwrap_err(),
        reader.ensure_system("name", "prompt").await.map(drop).unwrap_err(),
        reader.perform_flush().await.map(drop).unwrap_err(),
        reader.flush_in_background().await.unwrap_err(),
        reader.close_call("x").await.unwrap_err(),
        reader.set_priority(first, Priority::CRITICAL).await.map(drop).unwrap_err(),
        reader.set_content_type(first, ContentType::Summary).await.map(drop).unwrap_err(),
    ];
    for refused in refusals {
        assert!(matches!(refused, MemoryError::ReadOnly { .. }), "{refused}");
        assert!(
            refused.to_string().ends_with("this handle is read-only; open the memory read-write")
        );
    }
    assert!(reader.exclusive(|_| async {}).await.is_err());
    assert_eq!(reader.messages().await.unwrap(), before);
}

async fn clear_counts_all_messages_as_cleared(on: On) {
    let world = on.world(with(MemoryResource::new("m", 1 << 20))).await;
    let memory = world.memory();
    memory.append_all([Message::system("s"), Message::user("u")]).await.unwrap();
    let counters = memory.clear().await.unwrap().counters;
    assert_eq!((counters.appended, counters.cleared, counters.present.tokens), (2, 2, 0));
    assert!(memory.is_empty().await.unwrap());
    memory.append(Message::user("new")).await.unwrap();
    assert_eq!(checked(&memory, &world.manager).await.head.counters.appended, 3);
}

async fn empty_batch_is_refused(on: On) {
    let world = on.world(with(MemoryResource::new("m", 1 << 20))).await;
    let refused = world.memory().append_all(Vec::<Message>::new()).await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "append to default:m:k: the batch is empty; give it at least one message"
    );
}

async fn tool_result_over_budget_is_accepted(on: On) {
    let world = on.world(with(MemoryResource::new("m", 60))).await;
    let memory = world.memory();
    let call = memory_core::dialect::ToolCall::function("c", "f", "{}");
    memory.append(Message::calls([call])).await.unwrap();
    let long = "word ".repeat(400);
    memory.append(Message::tool_result("c", &long)).await.unwrap();
    let refused = memory.append(Message::user(&long)).await.unwrap_err();
    assert!(matches!(refused, MemoryError::TooLarge { index: 0, budget: 60, .. }), "{refused}");
    checked(&memory, &world.manager).await;
}

/// Each type has a counter in the row that every append writes. A caller that uses ids as types would grow that row.
async fn number_of_custom_content_types_is_limited(on: On) {
    let mut resource = MemoryResource::new("m", 1 << 20);
    resource.limits.content_types = 2;
    let world = on.world(with(resource)).await;
    let memory = world.memory();
    let of = |kind: &str| Entry::new(Message::user("hi")).with_content_type(kind.into());
    memory.append_all(["one", "two", "summary"].map(of)).await.unwrap();
    let refused = memory.append_all(["one", "two", "three"].map(of)).await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        format!(
            "append to {}: message 2 would add custom content type number 3 to the memory, over the limit of 2: use an existing type, or raise limits.content_types of the resource",
            memory.key()
        )
    );
    memory.append(of("two")).await.unwrap();
    let empty = memory.append(of("")).await.unwrap_err();
    assert!(matches!(empty, MemoryError::Limit { .. }), "{empty}");
    // Removed types make room for new ones.
    memory.clear().await.unwrap();
    memory.append_all(["three", "four"].map(of)).await.unwrap();
    assert_eq!(memory.len().await.unwrap(), 2);
}
