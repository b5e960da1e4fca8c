//! The audit log: a record of each write, without its contents.

mod privacy;

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use memory_core::ErrorCode;
use memory_core::resource::{ExclusionReason, RedactPreset};
use memory_core::store::{Applied, FlushReceipt, NewMessage, Splice};
use serde::Serialize;

use crate::error::WriteError;
use crate::inner::Inner;
use crate::panics::caught;

/// The target of the audit log's `tracing` events.
const TARGET: &str = "memory::audit";

/// A record of the audit log. It has no text of a message, and no key in plain text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct AuditEvent<'a> {
    /// The operation.
    pub operation: AuditOperation,
    /// Its outcome.
    pub outcome: AuditOutcome,
    /// The code of the error that it ended with. Omitted from JSON if `None`: it succeeded, or its future was dropped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<ErrorCode>,
    /// The project of the memory.
    pub project: String,
    /// The id of its resource.
    pub memory_id: &'a str,
    /// The SHA-256 of its key, in hexadecimal digits.
    pub key_hash: String,
    /// The number of messages that were to be written, removed by a flush, a rewind or an erasure, or closed. 0 for
    /// operations on all messages.
    pub messages: u64,
    /// The tokens of the written messages, or those that a flush or rewind frees.
    pub tokens: u64,
    /// Why a message was excluded; `None` for other operations. Omitted from JSON if `None`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<ExclusionReason>,
    /// The number of places that a redaction replaced; 0 for other operations. Omitted from JSON if 0.
    #[serde(skip_serializing_if = "is_zero")]
    pub matches: u64,
    /// The indexes of the `redact_patterns` that matched. Omitted from JSON if empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub patterns: Vec<usize>,
    /// The presets that matched. Omitted from JSON if empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub presets: Vec<RedactPreset>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// The operation of an [`AuditEvent`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum AuditOperation {
    /// Messages were appended.
    Append,
    /// A message was replaced, or its priority or content type set.
    Replace,
    /// All messages were replaced.
    ReplaceAll,
    /// All messages were removed; a purge too.
    Clear,
    /// A flush removed messages.
    Flush,
    /// The newest messages were taken back.
    Rewind,
    /// An open tool call was closed.
    Close,
    /// A flush or a rewind was undone.
    Undo,
    /// Messages were erased.
    Erase,
    /// A summary was written anew after an erasure.
    Rewrite,
    /// The metadata was updated.
    UpdateMetadata,
    /// The memory was deleted.
    Delete,
    /// A part of a copy, fork or restored backup was written.
    Copy,
    /// A message was not stored, or not with its contents. Recorded when its batch is prepared.
    Exclude,
    /// Secrets in the messages of a batch, in a summary or in metadata were replaced. Recorded when the batch is prepared.
    Redact,
}

impl AuditOperation {
    /// The operation as in the log, such as `replace_all`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Append => "append",
            Self::Replace => "replace",
            Self::ReplaceAll => "replace_all",
            Self::Clear => "clear",
            Self::Flush => "flush",
            Self::Rewind => "rewind",
            Self::Close => "close",
            Self::Undo => "undo",
            Self::Erase => "erase",
            Self::Rewrite => "rewrite",
            Self::UpdateMetadata => "update_metadata",
            Self::Delete => "delete",
            Self::Copy => "copy",
            Self::Exclude => "exclude",
            Self::Redact => "redact",
        }
    }
}

/// The outcome of an audited operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum AuditOutcome {
    /// The store acknowledged it.
    Applied,
    /// It had no effect.
    NotApplied,
    /// It may have been applied: the answer was lost, or the caller dropped the future.
    Unknown,
}

impl AuditOutcome {
    /// The outcome as in the log, such as `not_applied`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::NotApplied => "not_applied",
            Self::Unknown => "unknown",
        }
    }
}

/// Receives the audit log, for those who must keep it elsewhere. It is called in the task of the write, after the
/// answer of the store, so it must be quick.
pub trait AuditSink: fmt::Debug + Send + Sync {
    /// Keeps a record.
    ///
    /// # Errors
    /// Any error is counted (`memory_audit_failures_total`), and so is a panic. Neither fails the write.
    fn record(&self, event: &AuditEvent<'_>) -> Result<(), Box<dyn Error + Send + Sync>>;
}

/// The part of a write that is in the audit log.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Audited {
    pub(crate) operation: AuditOperation,
    pub(crate) messages: u64,
    pub(crate) tokens: u64,
}

impl Audited {
    /// An operation on all messages.
    pub(crate) const fn all(operation: AuditOperation) -> Self {
        Self { operation, messages: 0, tokens: 0 }
    }

    pub(crate) fn batch(operation: AuditOperation, messages: &[NewMessage]) -> Self {
        let tokens = messages.iter().map(|message| u64::from(message.tokens)).sum();
        Self { operation, messages: messages.len() as u64, tokens }
    }

    /// The operation is not visible in the splice: a flush that frees nothing and a closed call both remove no message.
    pub(crate) fn splice(operation: AuditOperation, splice: &Splice) -> Self {
        let freed = |it: &FlushReceipt| it.tokens_before.saturating_sub(it.tokens_after);
        let messages = splice.removed_places().count().saturating_add(splice.closed.len()) as u64;
        Self { operation, messages, tokens: splice.receipt.as_ref().map_or(0, freed) }
    }
}

/// Records a write when it ends, also if its future is dropped.
pub(crate) struct Audit<'a> {
    inner: &'a Inner,
    audited: Option<Audited>,
}

impl<'a> Audit<'a> {
    /// Begins the record of a write, which is computed only if someone receives it.
    pub(crate) fn begin(inner: &'a Inner, audited: impl FnOnce() -> Option<Audited>) -> Self {
        Self { inner, audited: is_received(inner).then(audited).flatten() }
    }

    pub(crate) fn end<T>(mut self, done: &Result<T, WriteError>) {
        let outcome = match done {
            Ok(_) => AuditOutcome::Applied,
            Err(error) if error.applied() == Applied::No => AuditOutcome::NotApplied,
            Err(_) => AuditOutcome::Unknown,
        };
        self.record(outcome, done.as_ref().err().map(WriteError::code));
    }

    pub(crate) fn record(&mut self, outcome: AuditOutcome, code: Option<ErrorCode>) {
        let Some(Audited { operation, messages, tokens }) = self.audited.take() else { return };
        let mut event = AuditEvent::of(self.inner, operation, outcome);
        (event.messages, event.tokens, event.code) = (messages, tokens, code);
        tracing::info!(
            target: TARGET,
            event = "write",
            operation = operation.as_str(),
            outcome = outcome.as_str(),
            code = code.map(ErrorCode::as_str),
            project = %event.project,
            memory_id = %event.memory_id,
            key_hash = %event.key_hash,
            messages,
            tokens,
        );
        event.send(self.inner);
    }
}

/// Whether someone receives the records of a memory.
fn is_received(inner: &Inner) -> bool {
    inner.backend.audit.is_some() || tracing::enabled!(target: TARGET, tracing::Level::INFO)
}

impl<'a> AuditEvent<'a> {
    fn of(inner: &'a Inner, operation: AuditOperation, outcome: AuditOutcome) -> Self {
        let key = &inner.key;
        Self {
            operation,
            outcome,
            code: None,
            project: key.parts().map(|(project, ..)| project).unwrap_or_default(),
            memory_id: &inner.rules.resource.id,
            key_hash: key.sha256(),
            messages: 0,
            tokens: 0,
            reason: None,
            matches: 0,
            patterns: Vec::new(),
            presets: Vec::new(),
        }
    }

    /// Passes the record to the sink, if there is one.
    fn send(&self, inner: &Inner) {
        if let Some(sink) = inner.backend.audit.as_deref()
            && !caught(|| sink.record(self).is_ok()).unwrap_or_default()
        {
            inner.rules.telemetry.audit_failed();
        }
    }
}

impl Drop for Audit<'_> {
    fn drop(&mut self) {
        self.record(AuditOutcome::Unknown, None);
    }
}

/// The sink of a manager.
pub(crate) type Sink = Option<Arc<dyn AuditSink>>;

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::task::{Context, Poll, Waker};

    use memory_core::dialect::ToolCall;
    use memory_core::resource::ArchiveSettings;
    use memory_core::{Entry, MemoryResource, Message, Priority, Sequence};
    use memory_lock::{Clock, ClockExt as _, LockOptions};

    use super::*;
    use crate::{FlushMode, MemoryManager};

    #[derive(Debug, Default)]
    struct Kept(Mutex<Vec<String>>);

    impl AuditSink for Kept {
        fn record(&self, event: &AuditEvent<'_>) -> Result<(), Box<dyn Error + Send + Sync>> {
            let AuditEvent { operation, outcome, messages, code, .. } = event;
            let code = code.map(|code| format!(" {code}")).unwrap_or_default();
            let line = format!("{} {} {messages}{code}", operation.as_str(), outcome.as_str());
            self.0.lock().unwrap().push(line);
            assert_eq!((&*event.project, event.memory_id), ("acme", "m"));
            assert_eq!(event.key_hash.len(), 64);
            Err("the sink is full".into())
        }
    }

    #[tokio::test]
    async fn each_write_is_recorded_once() {
        let kept = Arc::new(Kept::default());
        let mut resource = MemoryResource::new("m", 400);
        resource.archive = ArchiveSettings::forever();
        let manager = MemoryManager::builder()
            .with_project("acme")
            .with_resource(resource)
            .with_flush_mode(FlushMode::Manual)
            .with_audit_sink(Arc::clone(&kept) as _)
            .open("memory://")
            .await
            .unwrap();
        let memory = manager.memory("m", "k").unwrap();
        let lines = || std::mem::take(&mut *kept.0.lock().unwrap());
        let text = |number| Message::user(format!("message {number} of a long conversation"));
        memory.append_all((0..40).map(text)).await.unwrap();
        assert_eq!(lines(), ["append applied 40"]);
        let receipt = memory.perform_flush().await.unwrap().unwrap();
        let removed = receipt.summarized.len() + receipt.evicted.len();
        assert_eq!(lines(), [format!("flush applied {removed}")]);
        memory.undo_flush(receipt.id).await.unwrap();
        memory.undo_flush(receipt.id).await.unwrap_err();
        assert_eq!(lines(), ["undo applied 0", "undo not_applied 0 invalid_operation"]);
        memory.replace(Sequence::new(2), Message::user("other")).await.unwrap().unwrap();
        memory.erase([Sequence::new(3)], "test").await.unwrap();
        let version = memory.version().await.unwrap();
        memory.rewind(Sequence::new(38), version).await.unwrap().applied().unwrap();
        assert_eq!(lines(), ["replace applied 1", "erase applied 1", "rewind applied 2"]);
        let replaced = memory.replace_all([text(41)], Some(version)).await.unwrap();
        assert!(replaced.applied().is_none());
        memory.replace_all([text(41)], None).await.unwrap().applied().unwrap();
        memory.clear().await.unwrap();
        assert_eq!(
            lines(),
            ["replace_all not_applied 1 conflict", "replace_all applied 1", "clear applied 0"]
        );
        memory.update_metadata([("a", 1_u64)], Some(0)).await.unwrap().applied().unwrap();
        assert!(memory.update_metadata([("a", 2_u64)], Some(0)).await.unwrap().applied().is_none());
        assert_eq!(
            lines(),
            ["update_metadata applied 0", "update_metadata not_applied 0 conflict"]
        );
        memory.ensure_system("agent", "first").await.unwrap();
        let version = memory.version().await.unwrap();
        let withdrawn = memory.rewind(Sequence::ZERO, version).await.unwrap().applied().unwrap();
        memory.ensure_system("agent", "second").await.unwrap();
        lines();
        memory.undo_flush(withdrawn.receipt.unwrap().id).await.unwrap_err();
        assert_eq!(lines(), ["undo not_applied 0 invalid_operation"]);
        memory.delete().await.unwrap();
        assert_eq!(lines().last().unwrap(), "delete applied 0");
    }

    #[tokio::test]
    async fn closed_call_and_useless_flush_are_named() {
        let kept = Arc::new(Kept::default());
        let builder = MemoryManager::builder()
            .with_project("acme")
            .with_resource(MemoryResource::new("m", 400))
            .with_flush_mode(FlushMode::Manual)
            .with_audit_sink(Arc::clone(&kept) as _);
        let memory = builder.open("memory://").await.unwrap().memory("m", "k").unwrap();
        let lines = || std::mem::take(&mut *kept.0.lock().unwrap());
        let text = |number| Message::user(format!("message {number} of a long conversation"));
        let critical = |number| Entry::new(text(number)).with_priority(Priority::CRITICAL);
        memory.append_all((0..40).map(critical)).await.unwrap();
        assert_eq!(lines(), ["append applied 40"]);
        let receipt = memory.perform_flush().await.unwrap().unwrap();
        assert_eq!(receipt.messages_after, 40);
        assert_eq!(lines(), ["flush applied 0"]);
        memory.append(Message::calls([ToolCall::function("c", "look", "{}")])).await.unwrap();
        memory.close_call("c").await.unwrap();
        assert_eq!(lines(), ["append applied 1", "close applied 1"]);
    }

    #[tokio::test(start_paused = true)]
    async fn refused_deletion_is_not_applied() {
        let kept = Arc::new(Kept::default());
        let manager = MemoryManager::builder()
            .with_project("acme")
            .with_clock(Clock::tokio())
            .with_resource(MemoryResource::new("m", 400))
            .with_audit_sink(Arc::clone(&kept) as _)
            .open("memory://")
            .await
            .unwrap();
        let memory = manager.memory("m", "k").unwrap();
        for lease in [&memory.inner.lease, &memory.inner.flush_lease] {
            let held = manager.locks().lock(lease, &LockOptions::default()).await.unwrap();
            memory.delete().await.unwrap_err();
            assert_eq!(
                std::mem::take(&mut *kept.0.lock().unwrap()),
                ["delete not_applied 0 timeout"]
            );
            held.release().await;
        }
    }

    #[test]
    fn dropped_write_has_an_unknown_outcome() {
        let kept = Arc::new(Kept::default());
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let manager = runtime.block_on(
            MemoryManager::builder()
                .with_project("acme")
                .with_resource(MemoryResource::new("m", 400))
                .with_audit_sink(Arc::clone(&kept) as _)
                .open("memory://"),
        );
        let memory = manager.unwrap().memory("m", "k").unwrap();
        let inner = &memory.inner;
        let mut work = Box::pin(async {
            let _audit = Audit::begin(inner, || Some(Audited::all(AuditOperation::Clear)));
            std::future::pending::<()>().await;
        });
        assert_eq!(work.as_mut().poll(&mut Context::from_waker(Waker::noop())), Poll::Pending);
        assert!(kept.0.lock().unwrap().is_empty());
        drop(work);
        assert_eq!(*kept.0.lock().unwrap(), ["clear unknown 0"]);
    }
}
