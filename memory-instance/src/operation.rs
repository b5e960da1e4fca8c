//! Executing operations that documents describe.

mod each;
mod report;
mod run;

use memory_config::Mode;
use memory_config::operation::MemoryOperation;

pub use self::report::{
    Connectivity, HealthCounts, HealthReport, KeyOutcome, KeyResult, OperationFailure,
    OperationReport, OperationSummary,
};
use self::run::Run;
use crate::backup::BackupSink;
use crate::manager::MemoryManager;
use crate::telemetry::operation as in_span;
use crate::template::KeyContext;

/// The settings of an operation that the program decides, not the document.
#[derive(Debug)]
pub struct OperationContext<'a> {
    variables: KeyContext,
    mode: Mode,
    backups: Option<&'a mut dyn BackupSink>,
}

impl<'a> OperationContext<'a> {
    /// Read-write access, with these variables of the key and without a place for backups.
    #[must_use]
    pub const fn new(variables: KeyContext) -> Self {
        Self { variables, mode: Mode::ReadWrite, backups: None }
    }

    /// With this access mode. [`Mode::ReadOnly`] allows `read`, `health`, `stats`, `list-keys`, and a `flush` that is a dry
    /// run.
    #[must_use]
    pub fn with_mode(self, mode: Mode) -> Self {
        Self { mode, ..self }
    }

    /// With a place for the backups of a `clear`.
    #[must_use]
    pub fn with_backups(self, backups: &'a mut dyn BackupSink) -> Self {
        Self { backups: Some(backups), ..self }
    }
}

impl MemoryManager {
    /// Executes an operation that a document describes, such as a task of a workflow.
    ///
    /// The variables get `project.id` and `timestamp`, unless the caller set them. A `*` in the text of the key's template is
    /// a wildcard for the memories with messages of the resource; `read`, `write`, `append` and `update-metadata` refuse it. An operation on
    /// several memories handles one after another, in the order of their keys, and continues if one fails. `clear` and
    /// `delete` change nothing if more than `max_keys` memories match; others stop there and report
    /// [`truncated`](OperationReport::truncated).
    ///
    /// # Examples
    ///
    /// ```
    /// # use memory_instance::{MemoryManager, MemoryResource};
    /// use memory_instance::{KeyContext, MemoryOperation, OperationContext};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let resource = MemoryResource::new("support", 8_000);
    /// # let manager = MemoryManager::builder().with_resource(resource).open("memory://").await?;
    /// let append = MemoryOperation::from_json(
    ///     r#"{"operation": "append", "memory_ref": "support", "key_template": "case-{{ case }}",
    ///         "payload": {"role": "user", "content": "Where is my parcel?"}}"#,
    /// )?;
    /// let variables = KeyContext::new().with("case", 4711);
    /// let report = manager.run(&append, OperationContext::new(variables)).await;
    /// assert!(report.success);
    ///
    /// let stats = r#"{"operation": "stats", "memory_ref": "support", "key_template": "case-*"}"#;
    /// let stats = MemoryOperation::from_json(stats)?;
    /// let report = manager.run(&stats, OperationContext::new(KeyContext::new())).await;
    /// assert_eq!(serde_json::to_value(&report)?["messages"], 1);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// They are part of the report, with their [codes](memory_core::ErrorCode): of the whole operation in
    /// [`error`](OperationReport::error), of one memory in its [`outcome`](KeyResult::outcome).
    ///
    /// # Cancel safety
    /// Dropping the future leaves each memory as its operation alone would: see [`append`](crate::MemoryInstance::append),
    /// [`replace_all`](crate::MemoryInstance::replace_all), [`flush`](crate::MemoryInstance::flush),
    /// [`clear`](crate::MemoryInstance::clear) and [`delete`](crate::MemoryInstance::delete). Others are not begun.
    #[doc(alias = "ExecuteOperation")]
    pub async fn run(
        &self,
        operation: &MemoryOperation,
        context: OperationContext<'_>,
    ) -> OperationReport {
        let OperationContext { variables, mode, backups } = context;
        let mut run = Run { manager: self, operation, mode, backups };
        let work = async {
            match run.run(&variables).await {
                Ok(report) => report,
                Err(error) => OperationReport::failed(operation.name(), &error),
            }
        };
        in_span!(self, "run", work).await
    }
}
