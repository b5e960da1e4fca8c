//! Reads operations in both spellings.

use std::num::NonZeroUsize;

use memory_core::stats::GroupBy;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::action::{Action, FlushAction, OperationName, ReadRange};
use super::{MemoryOperation, OperationError, payload};
use crate::report::type_of;

type Fields = Map<String, Value>;

pub(super) fn read(value: Value) -> Result<MemoryOperation, OperationError> {
    let mut fields = match value {
        Value::Object(fields) => fields,
        other => {
            let problem = format!("is {}; write a mapping with `operation`", type_of(&other));
            return Err(OperationError::new("", problem));
        }
    };
    // Those of a task, which belong to the host program.
    for name in ["id", "description"] {
        fields.remove(name);
    }
    if let Some(kind) = fields.remove("type")
        && !matches!(kind.as_str(), Some("memory" | "memory-operation"))
    {
        return Err(OperationError::new("type", "must be `memory` or `memory-operation`"));
    }
    let spelled: String = required(&mut fields, &["operation"])?;
    let name = OperationName::deserialize(Value::from(spelled.as_str()))
        .map_err(|error| OperationError::new("operation", error.to_string()))?;
    let memory: String = required(&mut fields, &["memory_ref", "memory_id"])?;
    let key: Option<String> = take(&mut fields, &["key_template", "memory_key"])?;
    let max_keys = take(&mut fields, &["max_keys"])?;
    let batch_size = take(&mut fields, &["batch_size"])?;
    let (max_keys, batch_size) = (
        bounded("max_keys", max_keys, MemoryOperation::MOST_KEYS)?,
        bounded("batch_size", batch_size, MemoryOperation::MOST_BATCH_SIZE)?,
    );
    let block = unwrap_block(&mut fields, &spelled)?;
    let action = action(name, &block, fields, max_keys)?;
    Ok(MemoryOperation {
        memory,
        key: key.filter(|key| !key.trim().is_empty()),
        action,
        max_keys: max_keys.unwrap_or(MemoryOperation::DEFAULT_MAX_KEYS),
        batch_size: batch_size.unwrap_or(MemoryOperation::DEFAULT_BATCH_SIZE),
    })
}

/// The value of a field that has several spellings, of which a document has one.
fn take<T: DeserializeOwned>(
    fields: &mut Fields,
    names: &[&str],
) -> Result<Option<T>, OperationError> {
    let mut found: Option<(&str, Value)> = None;
    for &name in names {
        if let Some(value) = fields.remove(name).filter(|value| !value.is_null()) {
            if let Some((other, _)) = found {
                let problem = format!("is there beside `{other}`; leave one of the two out");
                return Err(OperationError::new(name, problem));
            }
            found = Some((name, value));
        }
    }
    let Some((name, value)) = found else { return Ok(None) };
    let read = T::deserialize(value).map_err(|error| OperationError::new(name, error.to_string()));
    read.map(Some)
}

fn required<T: DeserializeOwned>(fields: &mut Fields, names: &[&str]) -> Result<T, OperationError> {
    let name = names.first().copied().unwrap_or_default();
    take(fields, names)?.ok_or_else(|| OperationError::new(name, "is missing; add it"))
}

fn bounded(
    name: &str,
    number: Option<NonZeroUsize>,
    most: NonZeroUsize,
) -> Result<Option<NonZeroUsize>, OperationError> {
    match number {
        Some(number) if number > most => {
            Err(OperationError::new(name, format!("is {number}; set 1 to {most}")))
        }
        number => Ok(number),
    }
}

/// Puts the fields of the block of this operation beside the others; returns the path before their names.
fn unwrap_block(fields: &mut Fields, operation: &str) -> Result<String, OperationError> {
    let short = operation.trim_start_matches("get-").trim_start_matches("get_");
    for name in [operation, &operation.replace('-', "_"), &operation.replace('_', "-"), short] {
        match fields.remove(name) {
            None => {}
            Some(Value::Null) => return Ok(String::new()),
            Some(Value::Object(block)) => {
                for (field, value) in block {
                    if fields.contains_key(&field) {
                        let problem =
                            format!("is there beside `{field}`; leave one of the two out");
                        return Err(OperationError::new(format!("{name}.{field}"), problem));
                    }
                    fields.insert(field, value);
                }
                return Ok(format!("{name}."));
            }
            Some(other) => {
                let problem = format!("is {}; write a mapping", type_of(&other));
                return Err(OperationError::new(name, problem));
            }
        }
    }
    Ok(String::new())
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ReadFields {
    offset: Option<u64>,
    limit: Option<NonZeroUsize>,
    last: Option<NonZeroUsize>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct NoFields {}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct FlushFields {
    strategy: Option<String>,
    dry_run: bool,
    force: bool,
    threshold: Option<f64>,
    token_target: Option<u64>,
    percentage: Option<u8>,
    max_keys: Option<NonZeroUsize>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct HealthFields {
    include_stats: bool,
    check_connectivity: bool,
}

impl Default for HealthFields {
    fn default() -> Self {
        Self { include_stats: true, check_connectivity: false }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ClearFields {
    confirm: bool,
    confirm_token: Option<String>,
    backup: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct StatsFields {
    group_by: Option<GroupBy>,
    include_content: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ListFields {
    pattern: Option<String>,
    limit: Option<NonZeroUsize>,
    hashed: bool,
}

fn action(
    name: OperationName,
    block: &str,
    mut fields: Fields,
    max_keys: Option<NonZeroUsize>,
) -> Result<Action, OperationError> {
    match name {
        OperationName::Read => read_range(block, fields).map(Action::Read),
        OperationName::Write | OperationName::Append => {
            let payload = fields.remove("payload");
            let missing = || OperationError::new("payload", "is missing; add messages or a text");
            let payload = payload::messages(payload.ok_or_else(missing)?)?;
            settings::<NoFields>(block, fields)?;
            Ok(match name {
                OperationName::Write => Action::Write { payload },
                _ => Action::Append { payload },
            })
        }
        OperationName::Delete => settings::<NoFields>(block, fields).map(|_| Action::Delete),
        OperationName::Flush => flush(block, fields, max_keys).map(Action::Flush),
        OperationName::Health => {
            let HealthFields { include_stats, check_connectivity } = settings(block, fields)?;
            Ok(Action::Health { include_stats, check_connectivity })
        }
        OperationName::Clear => {
            let ClearFields { confirm, confirm_token, backup } = settings(block, fields)?;
            if !confirm && confirm_token.is_none_or(|token| token.is_empty()) {
                let problem = "must be true, because a clear removes all messages";
                return Err(OperationError::new(format!("{block}confirm"), problem));
            }
            Ok(Action::Clear { backup })
        }
        OperationName::Stats => {
            let StatsFields { group_by, include_content } = settings(block, fields)?;
            if include_content {
                let problem = "is not possible: statistics have no texts; use `read`";
                return Err(OperationError::new(format!("{block}include_content"), problem));
            }
            Ok(Action::Stats { group_by })
        }
        OperationName::UpdateMetadata => {
            let metadata = take(&mut fields, &["metadata"])?;
            settings::<NoFields>(block, fields)?;
            let missing = || OperationError::new("metadata", "is missing; add values by name");
            Ok(Action::UpdateMetadata { metadata: metadata.ok_or_else(missing)? })
        }
        OperationName::ListKeys => {
            let ListFields { pattern, limit, hashed } = settings(block, fields)?;
            let limit = bounded(&format!("{block}limit"), limit, MemoryOperation::MOST_KEYS)?;
            Ok(Action::ListKeys { pattern, limit, hashed })
        }
    }
}

fn settings<T: DeserializeOwned>(block: &str, fields: Fields) -> Result<T, OperationError> {
    let path = block.trim_end_matches('.');
    T::deserialize(Value::Object(fields))
        .map_err(|error| OperationError::new(path, error.to_string()))
}

fn read_range(block: &str, fields: Fields) -> Result<ReadRange, OperationError> {
    let ReadFields { offset, limit, last } = settings(block, fields)?;
    let limit = bounded(&format!("{block}limit"), limit, MemoryOperation::MOST_BATCH_SIZE)?;
    let last = bounded(&format!("{block}last"), last, MemoryOperation::MOST_BATCH_SIZE)?;
    match last {
        None => Ok(ReadRange::From { offset: offset.unwrap_or_default(), limit }),
        Some(last) if offset.is_none() && limit.is_none() => Ok(ReadRange::Last(last)),
        Some(_) => {
            let problem = "cannot be combined with `offset` and `limit`; leave them out";
            Err(OperationError::new(format!("{block}last"), problem))
        }
    }
}

fn flush(
    block: &str,
    fields: Fields,
    max_keys: Option<NonZeroUsize>,
) -> Result<FlushAction, OperationError> {
    let read: FlushFields = settings(block, fields)?;
    let FlushFields { strategy, dry_run, force, threshold, token_target, percentage, .. } = read;
    let refused =
        |field: &str, problem: String| Err(OperationError::new(format!("{block}{field}"), problem));
    if let Some(share) = threshold
        && !(share > 0.0 && share <= 1.0)
    {
        return refused("threshold", format!("is {share}; set it over 0 and at most 1"));
    }
    if let Some(percent) = percentage
        && !(1..=100).contains(&percent)
    {
        return refused("percentage", format!("is {percent}; set 1 to 100"));
    }
    if percentage.is_some() && token_target.is_some() {
        return refused("percentage", "is there beside `token_target`; leave one out".into());
    }
    let own = bounded(&format!("{block}max_keys"), read.max_keys, MemoryOperation::MOST_KEYS)?;
    let max_keys = own.or(max_keys).unwrap_or(MemoryOperation::DEFAULT_FLUSHED_KEYS);
    Ok(FlushAction { strategy, dry_run, force, threshold, token_target, percentage, max_keys })
}
