//! Operations that documents describe.

use std::io;

use async_trait::async_trait;
use memory_core::resource::ArchiveSettings;
use memory_core::{Entry, MemoryKey, MemoryResource, Message, Priority};
use memory_instance::backup::{BackupSink, BackupStream, CopyReceipt};
use memory_instance::{
    FlushMode, KeyContext, MemoryManager, MemoryOperation, Mode, OperationContext, OperationReport,
};
use serde_json::{Value, json};

use crate::support::{On, World, texts, with};

on_every_backend![
    messages_are_written_read_and_counted,
    metadata_is_merged,
    wildcards_concern_several_memories,
    too_many_memories_are_not_changed,
    read_only_reference_changes_nothing,
    threshold_decides_unless_forced,
    failures_have_stable_codes,
    health_has_the_names_of_the_original,
];

async fn world(on: On) -> World {
    let mut resource = MemoryResource::new("m", 400);
    resource.archive = ArchiveSettings::forever();
    let mut keyed = MemoryResource::new("keyed", 400);
    keyed.key = Some("{{ project.id }}-{{ case }}".into());
    let builder = with(resource).with_resource(keyed).with_flush_mode(FlushMode::Manual);
    on.world(builder).await
}

fn operation(name: &str, key: &str, settings: &Value) -> MemoryOperation {
    let mut fields = json!({"operation": name, "memory_ref": "m", "key_template": key});
    fields.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
    MemoryOperation::from_value(fields).unwrap()
}

fn variables() -> KeyContext {
    KeyContext::new().with("case", "a*")
}

async fn report(manager: &MemoryManager, operation: &MemoryOperation) -> OperationReport {
    manager.run(operation, OperationContext::new(variables())).await
}

/// The JSON of the report of an operation.
async fn run(world: &World, name: &str, key: &str, settings: Value) -> Value {
    let report = report(&world.manager, &operation(name, key, &settings)).await;
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["success"], report.success);
    json
}

async fn filled(world: &World, keys: &[&str]) {
    for key in keys {
        let memory = world.manager.memory("m", key).unwrap();
        memory.append_all(["one", "two", "three"].map(Message::user)).await.unwrap();
    }
}

async fn messages_are_written_read_and_counted(on: On) {
    let world = world(on).await;
    let read = async |settings: Value| {
        let json = run(&world, "read", "{{ case }}", json!({"read": settings})).await;
        let result = json["results"][0].clone();
        let messages = result["messages"].as_array().unwrap().clone();
        let text = |it: &Value| it["message"]["content"].as_str().unwrap().to_owned();
        (messages.iter().map(text).collect::<Vec<_>>(), result["more"] == true)
    };
    assert_eq!(read(json!({})).await, (vec![], false), "an absent memory is empty");
    let payload = json!({"payload": ["zero", {"role": "assistant", "content": "one"}]});
    let appended = run(&world, "append", "{{ case }}", payload).await;
    let result = &appended["results"][0];
    assert_eq!((&result["key"], &result["first"]), (&json!("default:m:a%2A"), &json!(1)));
    assert_eq!(result["message_count"], 2);
    let payload: Vec<_> = (0..5).map(|number| number.to_string()).collect();
    let written = run(&world, "write", "{{ case }}", json!({"payload": payload})).await;
    assert_eq!(written["results"][0]["message_count"], 5);
    let of = |numbers: std::ops::Range<u32>| numbers.map(|it| it.to_string()).collect::<Vec<_>>();
    assert_eq!(read(json!({})).await, (of(0..5), false));
    assert_eq!(read(json!({"offset": 1, "limit": 2})).await, (of(1..3), true));
    assert_eq!(read(json!({"offset": 5})).await, (vec![], false));
    assert_eq!(read(json!({"last": 2})).await, (of(3..5), true));
    let one = run(&world, "read", "{{ case }}", json!({"batch_size": 1})).await;
    assert_eq!(one["results"][0]["messages"].as_array().unwrap().len(), 1);
    let stats = run(&world, "get-stats", "{{ case }}", json!({"group_by": "role"})).await;
    assert_eq!((&stats["memories"], &stats["messages"]), (&json!(1), &json!(5)));
    assert_eq!(stats["groups"][0]["name"], "user");
    let absent = run(&world, "stats", "absent", json!({})).await;
    assert_eq!((&absent["memories"], &absent["messages"]), (&json!(1), &json!(0)));
    let own = MemoryOperation::from_json(
        r#"{"operation": "append", "memory_id": "keyed", "payload": "x"}"#,
    );
    let report = report(&world.manager, &own.unwrap()).await;
    assert_eq!(report.results[0].key.as_str(), "default:keyed:default-a%2A");
}

async fn metadata_is_merged(on: On) {
    let world = world(on).await;
    let update = async |key: &str, metadata: Value| {
        run(&world, "update-metadata", key, json!({"metadata": metadata})).await
    };
    update("k", json!({"state": "open", "owner": "ann"})).await;
    let json = update("k", json!({"state": "closed", "owner": null})).await;
    let result = &json["results"][0];
    assert_eq!(
        (&result["metadata"], &result["revision"]),
        (&json!({"state": "closed"}), &json!(2))
    );
    assert_eq!(world.memory().metadata().await.unwrap().revision, 2);
    let refused = update("k*", json!({"state": "open"})).await;
    assert_eq!(refused["error"]["code"], "invalid_operation");
}

async fn wildcards_concern_several_memories(on: On) {
    let world = world(on).await;
    filled(&world, &["a*-1", "a*-2", "ab-1", "b-1"]).await;
    let keyed = world.manager.memory("keyed", "a*-1").unwrap();
    keyed.append(Message::user("other")).await.unwrap();
    let keys = |names: &[&str]| -> Value {
        names.iter().map(|name| format!("default:m:{name}")).collect()
    };
    let list = async |key: &str, settings: Value| run(&world, "list-keys", key, settings).await;
    let listed = list("{{ case }}*", json!({})).await;
    assert_eq!(
        (&listed["keys"], &listed["truncated"]),
        (&keys(&["a%2A-1", "a%2A-2"]), &json!(false))
    );
    let listed = list("x", json!({"pattern": "a*-1", "limit": 1})).await;
    assert_eq!((&listed["keys"], &listed["truncated"]), (&keys(&["a%2A-1"]), &json!(true)));
    let hashed = list("ab-1", json!({"hashed": true})).await;
    let key = MemoryKey::new("default", "m", "ab-1").unwrap();
    assert_eq!((&hashed["keys"], &hashed["hashed"]), (&json!([key.sha256()]), &json!(true)));
    let stats = run(&world, "stats", "*", json!({"max_keys": 3})).await;
    let counted = ["memories", "messages", "truncated"].map(|name| stats[name].clone());
    assert_eq!(counted, [json!(3), json!(9), json!(true)]);
    let cleared = run(&world, "clear", "*-1", json!({"confirm": true})).await;
    let results = cleared["results"].as_array().unwrap();
    assert_eq!(results.len(), 3);
    assert_eq!(results[2]["cleared"]["messages"], 3);
    assert_eq!(results[2]["backup_created"], false);
    let deleted = run(&world, "delete", "{{ case }}*", json!({})).await;
    assert_eq!(deleted["results"].as_array().unwrap().len(), 1, "empty memories match no pattern");
    assert_eq!(deleted["results"][0]["messages"], 3);
    assert_eq!(list("*", json!({})).await["keys"], json!([]));
    assert_eq!(keyed.len().await.unwrap(), 1);
    for name in ["read", "write", "append"] {
        let payload = if name == "read" { json!({}) } else { json!({"payload": "x"}) };
        let refused = run(&world, name, "a*", payload).await;
        assert_eq!(refused["error"]["code"], "invalid_operation", "{refused}");
    }
}

async fn too_many_memories_are_not_changed(on: On) {
    let world = world(on).await;
    filled(&world, &["a-1", "a-2", "a-3"]).await;
    for name in ["clear", "delete"] {
        let confirm = if name == "clear" { json!({"confirm": true}) } else { json!({}) };
        let mut settings = confirm.clone();
        settings["max_keys"] = json!(2);
        let refused = run(&world, name, "a-*", settings).await;
        assert_eq!(refused["error"]["code"], "safety_limit_exceeded", "{refused}");
        assert_eq!(run(&world, "stats", "*", json!({})).await["messages"], 9);
    }
    let cleared = run(&world, "clear", "a-*", json!({"confirm": true, "max_keys": 3})).await;
    assert_eq!(cleared["results"].as_array().unwrap().len(), 3);
}

async fn read_only_reference_changes_nothing(on: On) {
    let world = world(on).await;
    filled(&world, &["a-1"]).await;
    let run = async |name: &str, settings: Value| {
        let context = OperationContext::new(variables()).with_mode(Mode::ReadOnly);
        let report = world.manager.run(&operation(name, "a-1", &settings), context).await;
        serde_json::to_value(&report).unwrap()
    };
    for (name, settings) in [
        ("write", json!({"payload": "x"})),
        ("append", json!({"payload": "x"})),
        ("delete", json!({})),
        ("flush", json!({"force": true})),
        ("clear", json!({"confirm": true})),
    ] {
        assert_eq!(run(name, settings).await["error"]["code"], "unauthorized", "{name}");
    }
    for (name, settings) in [
        ("read", json!({})),
        ("stats", json!({})),
        ("list-keys", json!({})),
        ("flush", json!({"dry_run": true, "force": true})),
        ("health", json!({"check_connectivity": true})),
    ] {
        let json = run(name, settings).await;
        assert_eq!(json["success"], true, "{json}");
        if name == "health" {
            let connectivity = json!({"read": true, "write": null});
            assert_eq!(json["results"][0]["connectivity"], connectivity);
        }
    }
    assert_eq!(texts(&world.manager.memory("m", "a-1").unwrap()).await, ["one", "two", "three"]);
}

async fn threshold_decides_unless_forced(on: On) {
    let world = world(on).await;
    let memory = world.memory();
    let text = |number| Message::user(format!("message {number} of a long conversation"));
    memory.append_all((0..20).map(text)).await.unwrap();
    let used = memory.health().await.unwrap().budget_used;
    assert!(used > 0.4 && used < 0.8, "{used}");
    let flush = async |settings: Value| {
        let json = run(&world, "flush", "k", json!({"flush": settings})).await;
        (json["results"][0]["receipt"].clone(), json)
    };
    // By the resource's threshold of 0.8, and by another.
    assert_eq!(flush(json!({})).await.0, Value::Null);
    assert_eq!(flush(json!({"threshold": 0.95})).await.0, Value::Null);
    let goal = json!({"threshold": 0.4, "token_target": 100, "strategy": "fifo", "dry_run": true});
    let (planned, json) = flush(goal.clone()).await;
    assert_eq!((&planned["dry_run"], &planned["strategy"]), (&json!(true), &json!("fifo")));
    assert_eq!(json["dry_run"], true);
    assert_eq!(memory.len().await.unwrap(), 20);
    let (receipt, json) = flush(json!({"force": true, "percentage": 50, "strategy": "fifo"})).await;
    let after = receipt["messages_after"].as_u64().unwrap();
    assert!((9..=10).contains(&after), "{receipt}");
    assert_eq!(json["messages_freed"].as_u64().unwrap(), 20 - after);
    assert!(json["tokens_freed"].as_u64().unwrap() > 0);
    let unknown = flush(json!({"force": true, "strategy": "random"})).await.1;
    assert_eq!(unknown["results"][0]["error"]["code"], "invalid_operation");
    // More memories than a flush may concern.
    filled(&world, &["a-1", "a-2"]).await;
    let two = run(&world, "flush", "a-*", json!({"flush": {"max_keys": 1}})).await;
    assert_eq!((two["results"].as_array().unwrap().len(), &two["truncated"]), (1, &json!(true)));
}

/// Fails for the memories with this name.
#[derive(Debug)]
struct Failing(&'static str);

#[async_trait]
impl BackupSink for Failing {
    async fn begin(&mut self, key: &MemoryKey) -> io::Result<BackupStream> {
        if key.as_str().ends_with(self.0) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(Box::new(tokio::io::sink()))
    }

    async fn complete(&mut self, receipt: &CopyReceipt) -> io::Result<String> {
        Ok(format!("kept {}", receipt.key))
    }
}

async fn failures_have_stable_codes(on: On) {
    let world = world(on).await;
    filled(&world, &["a-1", "a-2", "a-3"]).await;
    let code = async |operation: &str| {
        let operation = MemoryOperation::from_json(operation).unwrap();
        let report = report(&world.manager, &operation).await;
        assert!(!report.success && report.results.is_empty());
        report.error.unwrap().code.as_str()
    };
    for (operation, expected) in [
        (r#"{"operation": "read", "memory_ref": "x", "key_template": "k"}"#, "not_found"),
        (r#"{"operation": "read", "memory_ref": "m"}"#, "config_error"),
        (
            r#"{"operation": "read", "memory_ref": "m", "key_template": "{{ x }}"}"#,
            "template_error",
        ),
        (
            r#"{"operation": "clear", "memory_ref": "m", "key_template": "k", "confirm": true, "backup": true}"#,
            "invalid_operation",
        ),
    ] {
        assert_eq!(code(operation).await, expected, "{operation}");
    }
    // One memory fails, and the others are cleared.
    let clear = operation("clear", "a-*", &json!({"confirm_token": "yes", "backup": true}));
    let mut sink = Failing("a-2");
    let context = OperationContext::new(variables()).with_backups(&mut sink);
    let json = serde_json::to_value(world.manager.run(&clear, context).await).unwrap();
    assert_eq!(json["success"], false);
    let results = json["results"].as_array().unwrap();
    assert_eq!(results[0]["backup"], "kept default:m:a-1");
    assert_eq!(results[1]["error"]["code"], "unavailable");
    assert_eq!((&results[2]["backup_created"], results.len()), (&json!(true), 3));
    let left = world.manager.memory("m", "a-2").unwrap();
    assert_eq!(texts(&left).await, ["one", "two", "three"]);
    assert!(world.manager.memory("m", "a-3").unwrap().is_empty().await.unwrap());
}

async fn health_has_the_names_of_the_original(on: On) {
    let world = world(on).await;
    filled(&world, &["a-1"]).await;
    let memory = world.manager.memory("m", "a-2").unwrap();
    let fact = |n: u32| {
        let text = format!("fact {n}: {}", "word ".repeat(150));
        Entry::from(Message::user(text)).with_priority(Priority::CRITICAL)
    };
    memory.append_all((0..3).map(fact)).await.unwrap();
    memory.perform_flush().await.unwrap();
    let json = run(&world, "health", "a-*", json!({"check_connectivity": true})).await;
    assert_eq!((&json["healthy"], &json["unhealthy"]), (&json!(1), &json!(1)));
    assert!(json["last_checked"].is_string());
    let (first, second) = (&json["results"][0], &json["results"][1]);
    assert_eq!((&first["healthy"], &first["message_count"]), (&json!(true), &json!(3)));
    assert_eq!(first["connectivity"], json!({"read": true, "write": true}));
    assert_eq!(first["last_flush"], Value::Null);
    assert_eq!(second["priority_breakdown"], json!({"0": 3}));
    assert_eq!(
        (&second["healthy"], &second["verdict"]["status"]),
        (&json!(false), &json!("over_budget"))
    );
    let tokens = memory.token_count().await.unwrap();
    assert_eq!(second["token_count"], tokens);
    assert_eq!(second["flush_strategy"], memory.health().await.unwrap().strategy);
    let short = run(&world, "health", "a-1", json!({"include_stats": false})).await;
    assert_eq!(short["results"][0].get("token_count"), None);
    assert_eq!(short["results"][0]["healthy"], true);
}
