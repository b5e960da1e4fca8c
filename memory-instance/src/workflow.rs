//! The scope of a workflow: deletes the memories that it opened, when it is finished.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::StreamExt as _;
use futures::stream;
use memory_config::Mode;
use memory_core::MemoryKey;
use serde::Serialize;

use crate::agents::ResolvedMemories;
use crate::erase::DeletionReceipt;
use crate::error::MemoryError;
use crate::instance::MemoryInstance;
use crate::manager::MemoryManager;
use crate::telemetry::operation;
use crate::template::KeyContext;

/// The number of memories that [`WorkflowScope::finish`] deletes at the same time, so that one under a lease does not
/// delay the others.
const AT_ONCE: usize = 8;

/// Opens memories for a workflow, and deletes those of its temporary resources when the workflow is
/// [finished](Self::finish). See [`MemoryManager::workflow`]. Clones are cheap and share all state.
///
/// Only an explicit call deletes anything. A scope that is dropped before leaves its memories, with a warning in the
/// log. So does a process that ends: open the same keys by another scope and finish that one, or rely on
/// `persistence.ttl` and [`MemoryManager::sweep`].
#[derive(Clone)]
pub struct WorkflowScope {
    shared: Arc<Shared>,
}

struct Shared {
    manager: MemoryManager,
    id: String,
    /// The ids of the resources whose memories are deleted.
    temporary: BTreeSet<String>,
    state: Mutex<ScopeState>,
}

#[derive(Default)]
struct ScopeState {
    /// The keys of temporary resources that are not deleted yet.
    /// How often each was opened.
    opened: BTreeMap<MemoryKey, u64>,
    deleted: BTreeMap<MemoryKey, DeletionReceipt>,
}

/// The result of a finished workflow, counted from the beginning of its scope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct WorkflowReport {
    /// The id of the workflow.
    pub id: String,
    /// The receipts of the deleted memories, by their keys in ascending order. A memory that was never written has one
    /// too, with 0 messages.
    pub deleted: Vec<DeletionReceipt>,
}

/// A workflow that is not finished, because some of its memories could not be deleted.
#[derive(Debug)]
#[non_exhaustive]
pub struct WorkflowError {
    /// The deleted memories, counted from the beginning of the scope.
    pub report: WorkflowReport,
    /// The memories that remain, by their keys in ascending order, and why.
    pub failures: Vec<(MemoryKey, MemoryError)>,
}

impl WorkflowError {
    /// Whether [`finish`](WorkflowScope::finish) may succeed when it is called again.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.failures.iter().all(|(_, error)| error.is_retryable())
    }
}

impl fmt::Display for WorkflowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (failed, deleted) = (self.failures.len(), self.report.deleted.len());
        let id = &self.report.id;
        write!(
            f,
            "finish workflow `{id}`: {failed} memories remain, {deleted} were deleted; finish it again"
        )?;
        self.failures.first().map_or(Ok(()), |(_, error)| write!(f, ": {error}"))
    }
}

/// The source is that of the first failure, because the text already contains the failure's text.
impl Error for WorkflowError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.failures.first().and_then(|(_, error)| error.source())
    }
}

impl MemoryManager {
    /// Begins the scope of a workflow. [`WorkflowScope::finish`] deletes the memories of the `temporary` resources that
    /// were opened by the scope to be written; all others outlive the workflow. No request is made.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use memory_instance::{KeyContext, MemoryManager, MemoryResource, Message};
    ///
    /// let manager = MemoryManager::builder()
    ///     .with_resource(MemoryResource::new("scratch", 8_000))
    ///     .with_resource(MemoryResource::new("customer", 2_000))
    ///     .open("memory://")
    ///     .await?;
    /// let workflow = manager.workflow("refund-4711", ["scratch"])?;
    /// let scratch = workflow.memory_for("scratch", "{{ workflow.id }}", &KeyContext::new())?;
    /// let customer = workflow.memory("customer", "u-7")?;
    /// scratch.append(Message::user("The booking is X1")).await?;
    /// customer.append(Message::user("I sit at the aisle")).await?;
    ///
    /// let report = workflow.finish().await?;
    /// assert_eq!(report.deleted.len(), 1);
    /// assert!(scratch.is_empty().await?);
    /// assert_eq!(customer.len().await?, 1);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`MemoryError::UnknownResource`] for a temporary resource that does not exist.
    pub fn workflow<R: Into<String>>(
        &self,
        id: impl Into<String>,
        temporary: impl IntoIterator<Item = R>,
    ) -> Result<WorkflowScope, MemoryError> {
        let temporary: BTreeSet<String> = temporary.into_iter().map(Into::into).collect();
        temporary.iter().try_for_each(|resource| self.check_resource(resource))?;
        let (manager, id, state) = (self.clone(), id.into(), Mutex::default());
        Ok(WorkflowScope { shared: Arc::new(Shared { manager, id, temporary, state }) })
    }
}

impl WorkflowScope {
    /// The id of the workflow, which templates of keys use as `workflow.id`.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.shared.id
    }

    /// The memory of this resource with this key. If the resource is temporary, [`finish`](Self::finish) deletes the
    /// memory, also if it had messages before the scope began: a workflow that was repeated after a crash deletes what
    /// its first attempt left.
    ///
    /// # Errors
    /// As [`MemoryManager::memory`].
    pub fn memory(&self, resource: &str, key: &str) -> Result<MemoryInstance, MemoryError> {
        Ok(self.opened(self.shared.manager.memory(resource, key)?))
    }

    /// The memory of this resource whose key a template renders, otherwise as [`memory`](Self::memory). The variables
    /// get `workflow.id`, unless the caller set it.
    ///
    /// # Errors
    /// As [`MemoryManager::memory_for`].
    pub fn memory_for(
        &self,
        resource: &str,
        template: &str,
        context: &KeyContext,
    ) -> Result<MemoryInstance, MemoryError> {
        let context = self.completed(context);
        Ok(self.opened(self.shared.manager.memory_for(resource, template, &context)?))
    }

    /// The memory of this resource whose key the resource's own `key` renders, otherwise as
    /// [`memory_for`](Self::memory_for).
    ///
    /// # Errors
    /// As [`MemoryManager::memory_from`].
    pub fn memory_from(
        &self,
        resource: &str,
        context: &KeyContext,
    ) -> Result<MemoryInstance, MemoryError> {
        let context = self.completed(context);
        Ok(self.opened(self.shared.manager.memory_from(resource, &context)?))
    }

    /// The memories of an agent. [`finish`](Self::finish) deletes those of temporary resources that the agent may write;
    /// a memory that it may only read belongs to others. The variables get `workflow.id`, unless the caller set it.
    ///
    /// # Errors
    /// As [`MemoryManager::agent`] and [`AgentMemories::resolve`](crate::AgentMemories::resolve).
    pub fn agent(&self, id: &str, context: &KeyContext) -> Result<ResolvedMemories, MemoryError> {
        let memories = self.shared.manager.agent(id)?.resolve(&self.completed(context))?;
        for memory in memories.memories() {
            self.record(memory);
        }
        Ok(memories)
    }

    /// The keys that [`finish`](Self::finish) deletes, in ascending order.
    #[must_use]
    pub fn keys(&self) -> Vec<MemoryKey> {
        self.shared.state().opened.keys().cloned().collect()
    }

    /// Leaves the memories as they are, and returns the keys that the scope would have deleted. For a step of a workflow
    /// that continues in another process.
    pub fn detach(&self) -> Vec<MemoryKey> {
        std::mem::take(&mut self.shared.state().opened).into_keys().collect()
    }

    /// Deletes the memories of temporary resources that the scope opened, as [`MemoryInstance::delete`] does, several at
    /// the same time. The audit log has a record of each.
    ///
    /// A memory that cannot be deleted does not prevent the deletion of the others. Call it again for the rest; a memory
    /// that was deleted is not deleted again, so its key may be used by others. Keys that are opened after a call belong
    /// to the next one. Without an opened key it does nothing.
    ///
    /// # Errors
    /// [`WorkflowError`] with the error of each memory that remains, such as [`MemoryError::Lock`] if a turn of another
    /// workflow holds its lease for longer than the resource's `lock.wait_timeout`.
    ///
    /// # Cancel safety
    /// Dropping the future leaves each memory unchanged or deleted for all readers. Call it again to complete it.
    pub async fn finish(&self) -> Result<WorkflowReport, WorkflowError> {
        let work = async {
            let opened = self.shared.state().opened.clone();
            let deletions = stream::iter(opened).map(|(key, times)| self.delete(key, times));
            let failed = deletions.buffer_unordered(AT_ONCE).filter_map(std::future::ready);
            let mut failures: Vec<_> = failed.collect().await;
            failures.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
            let deleted: Vec<_> = self.shared.state().deleted.values().cloned().collect();
            let messages: u64 = deleted.iter().map(|receipt| receipt.messages).sum();
            let (memories, remaining) = (deleted.len(), failures.len());
            tracing::info!(
                workflow = %self.shared.id,
                memories,
                messages,
                remaining,
                "finished a workflow"
            );
            let report = WorkflowReport { id: self.shared.id.clone(), deleted };
            if failures.is_empty() { Ok(report) } else { Err(WorkflowError { report, failures }) }
        };
        operation!(&self.shared.manager, "finish", work).await
    }

    async fn delete(&self, key: MemoryKey, times: u64) -> Option<(MemoryKey, MemoryError)> {
        let deleted = match self.shared.manager.memory_at(&key) {
            Ok(memory) => memory.delete().await,
            Err(error) => Err(error),
        };
        match deleted {
            Ok(receipt) => {
                let ScopeState { opened, deleted } = &mut *self.shared.state();
                // If it was opened again meanwhile, it may have been written after the deletion.
                if opened.get(&key) == Some(&times) {
                    opened.remove(&key);
                }
                // A concurrent call, or one before the key was opened again, may have deleted messages too.
                let before = deleted.get(&key).map_or(0, |earlier| earlier.messages);
                let messages = before.saturating_add(receipt.messages);
                deleted.insert(key, DeletionReceipt { messages, ..receipt });
                None
            }
            Err(error) => Some((key, error)),
        }
    }

    fn completed(&self, context: &KeyContext) -> KeyContext {
        context.clone().or_with("workflow.id", &self.shared.id)
    }

    fn opened(&self, memory: MemoryInstance) -> MemoryInstance {
        self.record(&memory);
        memory
    }

    fn record(&self, memory: &MemoryInstance) {
        let is_temporary = self.shared.temporary.contains(&memory.resource().id);
        if is_temporary && memory.mode() == Mode::ReadWrite {
            *self.shared.state().opened.entry(memory.key().clone()).or_default() += 1;
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, ScopeState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let memories = self.state().opened.len();
        if memories > 0 {
            tracing::warn!(
                workflow = %self.id,
                memories,
                "a workflow was not finished: its memories remain until their TTL or a sweep"
            );
        }
    }
}

impl fmt::Debug for WorkflowScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkflowScope")
            .field("id", &self.shared.id)
            .field("temporary", &self.shared.temporary)
            .field("opened", &self.shared.state().opened)
            .finish_non_exhaustive()
    }
}
