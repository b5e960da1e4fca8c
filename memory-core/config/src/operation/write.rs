//! Operations as JSON values.

use memory_core::Message;
use serde_json::{Map, Value, json};

use super::MemoryOperation;
use super::action::{Action, FlushAction, ReadRange};

pub(super) fn to_value(operation: &MemoryOperation) -> Value {
    let MemoryOperation { memory, key, action, max_keys, batch_size } = operation;
    let name = action.name().as_str();
    let mut fields = Map::new();
    let mut add = |name: &str, value: Value| {
        if !value.is_null() {
            fields.insert(name.to_owned(), value);
        }
    };
    add("type", json!("memory"));
    add("operation", json!(name));
    add("memory_ref", json!(memory));
    add("key_template", json!(key));
    add("max_keys", json!(max_keys));
    add("batch_size", json!(batch_size));
    let block = match action {
        Action::Write { payload } | Action::Append { payload } => {
            add("payload", payload.iter().map(message).collect());
            Value::Null
        }
        Action::UpdateMetadata { metadata } => {
            add("metadata", json!(metadata));
            Value::Null
        }
        action => settings(action),
    };
    add(&name.replace('-', "_"), block);
    Value::Object(fields)
}

/// A message of a payload was valid when it was read, or was made by a program.
fn message(message: &Message) -> Value {
    serde_json::to_value(message).unwrap_or_default()
}

/// The block of the operation.
fn settings(action: &Action) -> Value {
    let block = match action {
        Action::Read(ReadRange::From { offset, limit }) => {
            json!({"offset": offset, "limit": limit})
        }
        Action::Read(ReadRange::Last(last)) => json!({"last": last}),
        Action::Flush(FlushAction {
            strategy,
            dry_run,
            force,
            threshold,
            token_target,
            percentage,
            max_keys,
        }) => json!({
            "strategy": strategy, "dry_run": dry_run, "force": force, "threshold": threshold,
            "token_target": token_target, "percentage": percentage, "max_keys": max_keys,
        }),
        Action::Health { include_stats, check_connectivity } => {
            json!({"include_stats": include_stats, "check_connectivity": check_connectivity})
        }
        Action::Clear { backup } => json!({"confirm": true, "backup": backup}),
        Action::Stats { group_by } => json!({"group_by": group_by}),
        Action::ListKeys { pattern, limit, hashed } => {
            json!({"pattern": pattern, "limit": limit, "hashed": hashed})
        }
        Action::Write { .. }
        | Action::Append { .. }
        | Action::Delete
        | Action::UpdateMetadata { .. } => Value::Null,
    };
    match block {
        Value::Object(mut fields) => {
            fields.retain(|_, value| !value.is_null());
            Value::Object(fields)
        }
        other => other,
    }
}
