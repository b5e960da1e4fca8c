//! Operations on memories, as documents.

mod action;
mod error;
mod payload;
mod reader;
mod write;

use std::num::NonZeroUsize;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::Value;

pub use self::action::{Action, FlushAction, OperationName, ReadRange};
pub use self::error::OperationError;
use crate::format::Format;

/// An operation on the memories of one resource, such as a task of a workflow describes it.
///
/// It is read in both spellings of the original engine. The program, not the document, decides about variables of the key,
/// the access mode and the place of backups.
///
/// ```
/// use memory_config::operation::{Action, MemoryOperation};
///
/// let operation = MemoryOperation::from_json(
///     r#"{"type": "memory", "operation": "flush", "memory_ref": "support",
///         "key_template": "case-{{ workflow.input.case }}", "flush": {"threshold": 0.9, "dry_run": true}}"#,
/// )?;
/// assert!(matches!(&operation.action, Action::Flush(flush) if flush.dry_run));
/// // The other spelling.
/// let same = MemoryOperation::from_json(
///     r#"{"type": "memory-operation", "operation": "flush", "memory_id": "support",
///         "memory_key": "case-{{ workflow.input.case }}", "threshold": 0.9, "dry_run": true}"#,
/// )?;
/// assert_eq!(operation, same);
/// # Ok::<(), memory_config::operation::OperationError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct MemoryOperation {
    /// The id of the resource: `memory_ref` or `memory_id`.
    pub memory: String,
    /// The template of the key: `key_template` or `memory_key`. A `*` in its text is a wildcard, where the operation allows
    /// it. `None` for the resource's own.
    pub key: Option<String>,
    /// The action, with its settings.
    pub action: Action,
    /// The most memories that the operation may concern. A flush has a separate limit.
    pub max_keys: NonZeroUsize,
    /// The most messages of a read without a limit.
    pub batch_size: NonZeroUsize,
}

impl MemoryOperation {
    /// The default of `max_keys`.
    pub const DEFAULT_MAX_KEYS: NonZeroUsize = number(10_000);
    /// The greatest `max_keys`.
    pub const MOST_KEYS: NonZeroUsize = number(50_000);
    /// The default of `max_keys` of a flush.
    pub const DEFAULT_FLUSHED_KEYS: NonZeroUsize = number(100);
    /// The default of `batch_size`.
    pub const DEFAULT_BATCH_SIZE: NonZeroUsize = number(1_000);
    /// The greatest `batch_size`.
    pub const MOST_BATCH_SIZE: NonZeroUsize = number(10_000);

    /// An operation on the memories of this resource, with the default limits.
    #[must_use]
    pub fn new(memory: impl Into<String>, action: Action) -> Self {
        let (max_keys, batch_size) = (Self::DEFAULT_MAX_KEYS, Self::DEFAULT_BATCH_SIZE);
        Self { memory: memory.into(), key: None, action, max_keys, batch_size }
    }

    /// With this template of the key.
    #[must_use]
    pub fn with_key(mut self, template: impl Into<String>) -> Self {
        self.key = Some(template.into());
        self
    }

    /// Reads an operation in JSON.
    ///
    /// # Errors
    /// [`OperationError`] for the first problem.
    pub fn from_json(text: &str) -> Result<Self, OperationError> {
        Self::from_text(Format::Json, text)
    }

    /// Reads an operation in YAML.
    ///
    /// # Errors
    /// As [`from_json`](Self::from_json).
    #[cfg(feature = "yaml")]
    pub fn from_yaml(text: &str) -> Result<Self, OperationError> {
        Self::from_text(Format::Yaml, text)
    }

    fn from_text(format: Format, text: &str) -> Result<Self, OperationError> {
        Self::from_value(format.read(text).map_err(|problem| OperationError::new("", problem))?)
    }

    /// Reads an operation that is already a JSON value.
    ///
    /// # Errors
    /// As [`from_json`](Self::from_json).
    pub fn from_value(value: Value) -> Result<Self, OperationError> {
        reader::read(value)
    }

    /// The name of the operation.
    #[must_use]
    pub const fn name(&self) -> OperationName {
        self.action.name()
    }
}

/// In the spelling with `memory_ref` and `key_template`, with a block for the settings of the operation.
impl Serialize for MemoryOperation {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        write::to_value(self).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for MemoryOperation {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::from_value(Value::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

const fn number(number: usize) -> NonZeroUsize {
    match NonZeroUsize::new(number) {
        Some(number) => number,
        None => NonZeroUsize::MIN,
    }
}
