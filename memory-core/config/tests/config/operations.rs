//! Operations in both spellings.

use std::num::NonZeroUsize;

use memory_config::operation::{Action, FlushAction, MemoryOperation, ReadRange};
use memory_core::Message;
use memory_core::stats::GroupBy;
use proptest::prelude::*;
use serde_json::{Value, json};

fn number(number: usize) -> NonZeroUsize {
    NonZeroUsize::new(number).unwrap()
}

fn flush(change: impl FnOnce(&mut FlushAction)) -> Action {
    let mut flush = FlushAction::default();
    change(&mut flush);
    Action::Flush(flush)
}

/// Settings of an operation, and what it does.
fn cases() -> Vec<(&'static str, Value, Action)> {
    let from = |offset, limit| Action::Read(ReadRange::From { offset, limit });
    let list = |pattern: Option<&str>, limit, hashed| Action::ListKeys {
        pattern: pattern.map(str::to_owned),
        limit,
        hashed,
    };
    vec![
        ("read", json!({}), from(0, None)),
        ("read", json!({"offset": 5, "limit": 7}), from(5, Some(number(7)))),
        ("read", json!({"last": 3}), Action::Read(ReadRange::Last(number(3)))),
        ("delete", json!({}), Action::Delete),
        ("flush", json!({}), flush(|_| ())),
        (
            "flush",
            json!({"strategy": "fifo", "dry_run": true, "force": true, "token_target": 9}),
            flush(|it| {
                (it.strategy, it.dry_run, it.force) = (Some("fifo".into()), true, true);
                it.token_target = Some(9);
            }),
        ),
        (
            "flush",
            json!({"threshold": 1, "percentage": 25, "max_keys": 3}),
            flush(|it| {
                (it.threshold, it.percentage) = (Some(1.0), Some(25));
                it.max_keys = number(3);
            }),
        ),
        (
            "health",
            json!({"include_stats": false, "check_connectivity": true}),
            Action::Health { include_stats: false, check_connectivity: true },
        ),
        ("health", json!({}), Action::Health { include_stats: true, check_connectivity: false }),
        ("clear", json!({"confirm": true, "backup": true}), Action::Clear { backup: true }),
        ("clear", json!({"confirm_token": "yes"}), Action::Clear { backup: false }),
        ("stats", json!({"group_by": "role"}), Action::Stats { group_by: Some(GroupBy::Role) }),
        ("get-stats", json!({}), Action::Stats { group_by: None }),
        (
            "list-keys",
            json!({"pattern": "a*", "limit": 10, "hashed": true}),
            list(Some("a*"), Some(number(10)), true),
        ),
        ("list_keys", json!({}), list(None, None, false)),
    ]
}

fn document(fields: &[(&str, Value)]) -> Value {
    fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
}

#[test]
fn both_spellings_give_the_same_operation() {
    for (name, settings, action) in cases() {
        let first = document(&[
            ("type", json!("memory")),
            ("operation", json!(name)),
            ("memory_ref", json!("m")),
            ("key_template", json!("k-{{ v }}")),
            (&name.replace('-', "_"), settings.clone()),
        ]);
        let mut second = document(&[
            ("id", json!("task-1")),
            ("type", json!("memory-operation")),
            ("operation", json!(name)),
            ("memory_id", json!("m")),
            ("memory_key", json!("k-{{ v }}")),
        ]);
        second.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
        let mut expected = MemoryOperation::new("m", action).with_key("k-{{ v }}");
        assert_eq!(MemoryOperation::from_value(first).unwrap(), expected, "{name} {settings}");
        let read = MemoryOperation::from_value(second).unwrap();
        if let Action::Flush(flush) = &expected.action {
            // At the root it is the limit of the operation, too.
            let is_set = settings.get("max_keys").is_some();
            expected.max_keys = if is_set { flush.max_keys } else { expected.max_keys };
        }
        assert_eq!(read, expected, "{name} {settings}");
        let json = serde_json::to_string(&expected).unwrap();
        assert_eq!(MemoryOperation::from_json(&json).unwrap(), expected, "{json}");
    }
}

#[test]
fn payload_is_message_list_or_text() {
    for (payload, messages) in [
        (json!("hello"), vec![Message::user("hello")]),
        (json!({"role": "assistant", "content": "hi"}), vec![Message::assistant("hi")]),
        (
            json!(["a", {"role": "system", "content": "b"}]),
            vec![Message::user("a"), Message::system("b")],
        ),
    ] {
        for (name, action) in [
            ("write", Action::Write { payload: messages.clone() }),
            ("append", Action::Append { payload: messages.clone() }),
        ] {
            let text = json!({"operation": name, "memory_ref": "m", "payload": payload});
            let operation: MemoryOperation = serde_json::from_value(text).unwrap();
            assert_eq!(operation, MemoryOperation::new("m", action));
            let json = serde_json::to_value(&operation).unwrap();
            assert_eq!(MemoryOperation::from_value(json).unwrap(), operation);
        }
    }
}

#[cfg(feature = "yaml")]
#[test]
fn metadata_is_a_mapping() {
    let read = |text: &str| MemoryOperation::from_yaml(text);
    let root =
        read("operation: update-metadata\nmemory_id: m\nmetadata: {state: open, owner: null}");
    let operation = root.unwrap();
    assert!(
        matches!(&operation.action, Action::UpdateMetadata { metadata } if metadata.len() == 2)
    );
    let block = "operation: update_metadata\nmemory_ref: m\nupdate_metadata: {metadata: {state: open, owner: null}}";
    assert_eq!(read(block).unwrap(), operation);
    let json = serde_json::to_value(&operation).unwrap();
    assert_eq!(MemoryOperation::from_value(json).unwrap(), operation);
    for wrong in ["", "\nmetadata: open"] {
        assert!(read(&format!("operation: update-metadata\nmemory_ref: m{wrong}")).is_err());
    }
}

#[cfg(feature = "yaml")]
#[test]
fn limits_have_defaults_and_bounds() {
    let read = |limits: &str| {
        let text = format!("operation: health\nmemory_ref: m\n{limits}");
        MemoryOperation::from_yaml(&text).map(|it| (it.max_keys.get(), it.batch_size.get()))
    };
    assert_eq!(read("").unwrap(), (10_000, 1_000));
    assert_eq!(read("max_keys: 50000\nbatch_size: 10000").unwrap(), (50_000, 10_000));
    for over in ["max_keys: 50001", "batch_size: 10001", "max_keys: 0", "batch_size: -1"] {
        assert!(read(over).is_err(), "{over}");
    }
    let flush = "operation: flush\nmemory_ref: m\nmax_keys: 7\nflush: {max_keys: 5}";
    let operation = MemoryOperation::from_yaml(flush).unwrap();
    assert_eq!((operation.max_keys, operation.action), (number(7), flush_of(5)));
}

#[cfg(feature = "yaml")]
fn flush_of(max_keys: usize) -> Action {
    flush(|it| it.max_keys = number(max_keys))
}

#[test]
fn refusals_name_the_setting() {
    let with = |name: &str, settings: Value| {
        let mut document = json!({"operation": name, "memory_ref": "m"});
        document.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
        document
    };
    for (document, refusal) in [
        (json!([]), "memory operation: is a list; write a mapping with `operation`"),
        (json!({"memory_ref": "m"}), "`operation` is missing"),
        (json!({"operation": "read"}), "`memory_ref` is missing"),
        (with("drop", json!({})), "`operation` unknown variant `drop`"),
        (with("read", json!({"type": "agent"})), "`type` must be `memory`"),
        (with("read", json!({"memory_id": "n"})), "`memory_id` is there beside `memory_ref`"),
        (with("read", json!({"last": 1, "offset": 2})), "`last` cannot be combined"),
        (with("read", json!({"read": {"limit": 10_001}})), "`read.limit` is 10001; set 1 to 10000"),
        (with("read", json!({"most": 1})), "unknown field `most`"),
        (with("read", json!({"limit": 1, "read": {"limit": 1}})), "`read.limit` is there beside"),
        (with("append", json!({})), "`payload` is missing"),
        (with("append", json!({"payload": ["a", 7]})), "`payload[1]` is a number"),
        (with("append", json!({"payload": {"content": "secret"}})), "`payload` is not a message"),
        (with("clear", json!({})), "`confirm` must be true"),
        (with("clear", json!({"clear": {"confirm_token": ""}})), "`clear.confirm` must be true"),
        (with("flush", json!({"threshold": 0})), "`threshold` is 0; set it over 0"),
        (with("flush", json!({"flush": {"threshold": 1.5}})), "`flush.threshold` is 1.5"),
        (with("flush", json!({"percentage": 0})), "`percentage` is 0; set 1 to 100"),
        (
            with("flush", json!({"percentage": 5, "token_target": 5})),
            "`percentage` is there beside `token_target`",
        ),
        (with("flush", json!({"flush": {"max_keys": 50_001}})), "`flush.max_keys` is 50001"),
        (with("stats", json!({"include_content": true})), "`include_content` is not possible"),
        (with("stats", json!({"group_by": "team"})), "messages cannot be grouped by `team`"),
        (with("list-keys", json!({"limit": 50_001})), "`limit` is 50001; set 1 to 50000"),
    ] {
        let error = MemoryOperation::from_value(document).unwrap_err().to_string();
        assert!(error.contains(refusal) && !error.contains("secret"), "{refusal}: {error}");
    }
}

proptest! {
    #[test]
    fn any_settings_are_read_or_refused(
        name in prop::sample::select(vec![
            "read", "write", "append", "delete", "flush", "health", "clear", "stats", "list-keys",
        ]),
        settings in prop::collection::vec(
            (prop::sample::select(vec![
                "offset", "limit", "last", "payload", "strategy", "dry_run", "force", "threshold",
                "token_target", "percentage", "max_keys", "batch_size", "confirm", "group_by", "hashed",
            ]),
            prop_oneof![
                (-1_i64..20).prop_map(Value::from),
                any::<bool>().prop_map(Value::from),
                Just(json!("role")),
                Just(json!(0.5)),
                Just(Value::Null),
            ]),
            0..4,
        ),
    ) {
        let mut fields = json!({"operation": name, "memory_ref": "m"});
        let each = settings.into_iter().map(|(name, value)| (name.to_owned(), value));
        fields.as_object_mut().unwrap().extend(each);
        if let Ok(operation) = MemoryOperation::from_value(fields) {
            let json = serde_json::to_value(&operation).unwrap();
            prop_assert_eq!(MemoryOperation::from_value(json).unwrap(), operation);
        }
    }
}
