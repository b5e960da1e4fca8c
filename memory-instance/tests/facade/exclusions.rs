//! Messages that must not be stored: marked ones, and those of types that the resource excludes.

use memory_core::dialect::ToolCall;
use memory_core::limits::LimitKind;
use memory_core::store::AppendOutcome;
use memory_core::{ContentType, Entry, MemoryResource, Message, Priority, Sequence, WindowOptions};
use memory_instance::{Conditional, MemoryError, MemoryInstance, Session};

use crate::logs::Logs;
use crate::support::{On, World, assert_window_fits, checked, hybrid, texts, with};

on_every_backend![
    excluded_messages_are_reported_and_absent,
    batch_of_excluded_messages_writes_nothing,
    retry_excludes_the_same_messages,
    conditional_append_of_nothing_checks_the_version,
    withheld_calls_and_results_stay_paired,
    all_messages_are_replaced_without_excluded_ones,
    replacement_must_be_persistable,
    errors_name_the_index_in_the_batch,
    large_excluded_message_is_no_error,
];

const SECRET: &str = "blood type 0";

fn resource() -> MemoryResource {
    let mut resource = hybrid(10_000);
    resource.privacy_policy.non_persistable_message_types =
        vec!["patient_record".into(), "critic".into()];
    resource
}

fn secret() -> Entry {
    Entry::new(Message::user(SECRET)).do_not_persist()
}

fn record(message: Message) -> Entry {
    Entry::new(message).with_content_type(ContentType::from("patient_record"))
}

fn said(text: &str) -> Entry {
    Message::user(text).into()
}

/// The version counts each write, so an equal outline means that nothing was written.
async fn assert_unchanged(world: &World, memory: &MemoryInstance, act: impl AsyncFnOnce()) {
    let before = checked(memory, &world.manager).await;
    act().await;
    assert_eq!(checked(memory, &world.manager).await, before);
}

async fn excluded_messages_are_reported_and_absent(on: On) {
    let world = on.world(with(resource())).await;
    let memory = world.memory();
    let critic = Message::from_json(r#"{"role":"critic","content":"blood type 0"}"#).unwrap();
    let batch = [secret(), said("a"), record(Message::user(SECRET)), critic.into(), said("b")];
    let appended = memory.append_all(batch.clone()).await.unwrap();
    assert_eq!(appended.outcome, AppendOutcome::Appended { first: Sequence::new(1) });
    assert_eq!((&*appended.excluded, &*appended.withheld), (&[0, 2, 3][..], &[][..]));
    assert_eq!(appended.counters.appended, 2);
    let json = serde_json::to_value(&appended).unwrap();
    assert_eq!(json["excluded"], serde_json::json!([0, 2, 3]));
    assert!(json.get("withheld").is_none());

    let first = batch.clone();
    let turn = |session: Session| async move { session.append_all(first).await };
    let appended = memory.exclusive(turn).await.unwrap().unwrap();
    assert_eq!(appended.excluded, [0, 2, 3]);
    let version = memory.version().await.unwrap();
    let Conditional::Applied(appended) = memory.append_if(version, batch).await.unwrap() else {
        panic!("a conflict");
    };
    assert_eq!(appended.excluded, [0, 2, 3]);
    assert_eq!(appended.outcome.first(), Some(Sequence::new(5)));
    assert_eq!(texts(&memory).await, ["a", "b", "a", "b", "a", "b"]);
    let appended = memory.append(Message::user("c")).await.unwrap();
    assert!(appended.excluded.is_empty() && appended.withheld.is_empty());
    let kinds = appended.counters.classes.keys().map(|class| class.content_type.clone());
    assert!(kinds.into_iter().all(|kind| kind == ContentType::Conversation));
}

#[tokio::test(start_paused = true)]
async fn each_exclusion_is_logged_without_text() {
    let (logs, _guard) = Logs::capture();
    let world = On::Memory.world(with(resource()).with_project("acme")).await;
    let withheld = record(Message::tool_result("c", SECRET));
    world.memory().append_all([secret(), said("a"), withheld]).await.unwrap();
    let lines = logs.containing(" event=\"exclusion\"");
    let [flag, kind] = &lines[..] else { panic!("{lines:?}") };
    for (line, reason) in [(flag, "flag"), (kind, "type")] {
        let text = "INFO memory::audit event=\"exclusion\" operation=\"exclude\" outcome=\"applied\" project=acme memory_id=m key_hash=";
        let (hash, rest) = line.strip_prefix(text).unwrap().split_at(64);
        assert!(hash.bytes().all(|digit| digit.is_ascii_hexdigit()), "{line}");
        assert_eq!(rest, format!(" messages=1 reason=\"{reason}\""));
    }
    assert!(logs.containing(SECRET).is_empty());
}

async fn batch_of_excluded_messages_writes_nothing(on: On) {
    let world = on.world(with(resource())).await;
    let memory = world.memory();
    for _ in 0..2 {
        let batch = [secret(), record(Message::assistant(SECRET))];
        assert_unchanged(&world, &memory, async || {
            let before = memory.counters().await.unwrap();
            let appended = memory.append_all(batch.clone()).await.unwrap();
            assert_eq!(appended.outcome, AppendOutcome::Excluded);
            assert_eq!(appended.excluded, [0, 1]);
            assert_eq!(appended.counters, before);
        })
        .await;
        let turn = |session: Session| async move { session.append(secret()).await };
        let appended = memory.exclusive(turn).await.unwrap().unwrap();
        assert_eq!(appended.outcome, AppendOutcome::Excluded);
        let sequence = memory.append(Message::user("next")).await.unwrap().outcome.first();
        assert_eq!(sequence.unwrap().number(), memory.len().await.unwrap());
    }
    assert!(memory.append_all(Vec::<Entry>::new()).await.is_err());
}

async fn retry_excludes_the_same_messages(on: On) {
    let world = on.world(with(resource())).await;
    let memory = world.memory();
    let prepared = memory.prepare([said("a"), secret(), said("b")]).unwrap();
    assert_eq!(prepared.messages().len(), 2);
    for is_duplicate in [false, true, true] {
        let appended = memory.send(&prepared).await.unwrap();
        assert_eq!(appended.outcome.is_duplicate(), is_duplicate);
        assert_eq!(appended.excluded, [1]);
    }
    let nothing = memory.prepare([secret()]).unwrap();
    for _ in 0..2 {
        let appended = memory.send(&nothing).await.unwrap();
        assert_eq!((appended.outcome, &*appended.excluded), (AppendOutcome::Excluded, &[0][..]));
    }
    assert_eq!(texts(&memory).await, ["a", "b"]);
}

async fn conditional_append_of_nothing_checks_the_version(on: On) {
    let world = on.world(with(resource())).await;
    let memory = world.memory();
    memory.append(Message::user("a")).await.unwrap();
    let version = memory.version().await.unwrap();
    for _ in 0..2 {
        let done = memory.append_if(version, [secret()]).await.unwrap().applied().unwrap();
        assert_eq!(done.outcome, AppendOutcome::Excluded);
    }
    memory.append(Message::user("b")).await.unwrap();
    let Conditional::Conflict(conflict) = memory.append_if(version, [secret()]).await.unwrap()
    else {
        panic!("the version is over");
    };
    assert_eq!(conflict.came.len(), 1);
}

async fn withheld_calls_and_results_stay_paired(on: On) {
    let world = on.world(with(resource())).await;
    let memory = world.memory();
    let call = |id: &str| ToolCall::function(id, "look", r#"{"patient":"blood type 0"}"#);
    let batch = [
        said("a"),
        Entry::new(Message::calls([call("c1"), call("c2")])),
        Entry::new(Message::tool_result("c1", "fine")),
        record(Message::tool_result("c2", SECRET)).with_priority(Priority::IMPORTANT),
        record(Message::calls([call("c3")])),
        record(Message::user(SECRET)),
    ];
    let batch = batch.map(|entry| match entry.message.tool_link().calls.len() {
        2 => entry.do_not_persist(),
        _ => entry,
    });
    let appended = memory.append_all(batch).await.unwrap();
    assert_eq!((&*appended.excluded, &*appended.withheld), (&[5][..], &[1, 3, 4][..]));
    assert_eq!(appended.counters.appended, 5);
    memory.append(Message::tool_result("c3", "done")).await.unwrap();
    let stored = memory.messages().await.unwrap();
    assert_eq!(stored[3].message, Message::tool_result("c2", "[REDACTED]"));
    assert_eq!(stored[3].meta.content_type, ContentType::Conversation);
    assert_eq!(stored[3].meta.priority, Some(Priority::IMPORTANT));
    for message in &stored {
        assert!(!message.message.to_json().unwrap().contains("blood"));
    }
    let window = assert_window_fits(&memory, 1_000).await;
    assert_eq!(window.len(), 6);
}

async fn all_messages_are_replaced_without_excluded_ones(on: On) {
    let world = on.world(with(resource())).await;
    let memory = world.memory();
    memory.append(Message::user("old")).await.unwrap();
    assert_unchanged(&world, &memory, async || {
        let refused = memory.replace_all([secret()], None).await.unwrap_err();
        assert!(matches!(refused, MemoryError::Excluded { .. }), "{refused}");
    })
    .await;
    let replaced = memory.replace_all([secret(), said("new")], None).await.unwrap();
    assert_eq!(replaced.applied().unwrap().appended.excluded, [0]);
    assert_eq!(texts(&memory).await, ["new"]);
}

async fn replacement_must_be_persistable(on: On) {
    let world = on.world(with(hybrid(10_000))).await;
    let before = world.memory();
    let call = ToolCall::function("c", "look", "{}");
    before.append(record(Message::user("old"))).await.unwrap();
    let batch = [Message::calls([call]), Message::tool_result("c", "old")];
    before.append_all(batch).await.unwrap();
    // The same memory after its policy became stricter.
    let memory = world.in_another_process(with(resource()));
    let is_excluded = |error: &MemoryError| matches!(error, MemoryError::Excluded { .. });
    assert_unchanged(&world, &before, async || {
        let first = Sequence::new(1);
        for entry in [secret(), record(Message::user("x")), said("keeps the excluded type")] {
            assert!(is_excluded(&memory.replace(first, entry).await.unwrap_err()));
        }
        let typed = memory.set_content_type(first, ContentType::from("patient_record")).await;
        assert!(is_excluded(&typed.unwrap_err()));
    })
    .await;
    let typed = said("x").with_content_type(ContentType::from("note"));
    memory.replace(Sequence::new(1), typed).await.unwrap().unwrap();
    let result = Entry::new(Message::tool_result("c", SECRET)).do_not_persist();
    memory.replace(Sequence::new(3), result).await.unwrap().unwrap();
    assert_eq!(texts(&memory).await, ["x", "", "[REDACTED]"]);
    let mut strict = resource();
    strict.privacy_policy.non_persistable_message_types.push("system".into());
    let memory = world.in_another_process(with(strict));
    assert!(is_excluded(&memory.ensure_system("agent", "Be brief.").await.unwrap_err()));
}

async fn errors_name_the_index_in_the_batch(on: On) {
    let mut resource = resource();
    resource.max_tokens = Some(100);
    resource.limits.content_types = 1;
    let world = on.world(with(resource)).await;
    let memory = world.memory();
    let long = said(&"word ".repeat(500));
    let refused = memory.append_all([secret(), said("a"), secret(), long]).await.unwrap_err();
    assert!(matches!(refused, MemoryError::TooLarge { index: 3, .. }), "{refused}");
    let typed = |name: &str| said("a").with_content_type(ContentType::from(name));
    let refused = memory.append_all([secret(), typed("x"), typed("y")]).await.unwrap_err();
    let MemoryError::Limit { reason, .. } = refused else { panic!("{refused}") };
    assert_eq!((reason.kind, reason.index), (LimitKind::ContentTypes, 2));
}

#[cfg(feature = "redis")]
#[tokio::test]
async fn appends_with_a_policy_take_no_more_requests() {
    use memory_redis_testkit::Server;
    let mut counts = Vec::new();
    for has_policy in [false, true] {
        let server = Server::start().await;
        let builder = if has_policy {
            with(resource()).with_audit_sink(std::sync::Arc::new(Silent))
        } else {
            with(hybrid(10_000))
        };
        let manager = builder.open(server.url()).await.unwrap();
        let memory = manager.memory("m", "k").unwrap();
        memory.append(Message::user("first")).await.unwrap();
        server.reset_stats().await;
        for _ in 0..20 {
            memory.append(Message::user("a")).await.unwrap();
            let batch = if has_policy { vec![said("b"), secret()] } else { vec![said("b")] };
            memory.append_all(batch).await.unwrap();
        }
        counts.push(server.command_counts().await);
    }
    assert_eq!(counts[0], counts[1]);
}

#[cfg(feature = "redis")]
#[derive(Debug)]
struct Silent;

#[cfg(feature = "redis")]
impl memory_instance::AuditSink for Silent {
    fn record(
        &self,
        _: &memory_instance::AuditEvent<'_>,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        Ok(())
    }
}

async fn large_excluded_message_is_no_error(on: On) {
    let mut resource = resource();
    resource.max_tokens = Some(100);
    let world = on.world(with(resource)).await;
    let memory = world.memory();
    let long = said(&"word ".repeat(500)).do_not_persist();
    assert_eq!(memory.append_all([said("a"), long]).await.unwrap().excluded, [1]);
    let window = memory.window(&WindowOptions::new(90)).await.unwrap();
    assert_eq!(window.messages.len(), 1);
}
