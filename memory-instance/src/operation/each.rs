//! An operation on one memory.

use std::num::NonZeroUsize;

use memory_config::Mode;
use memory_config::operation::{Action, FlushAction, MemoryOperation, ReadRange};
use memory_core::store::{Appended, Page};

use super::report::{Connectivity, HealthReport, KeyOutcome, OperationFailure};
use crate::backup::BackupSink;
use crate::error::MemoryError;
use crate::exclusive::ExclusiveError;
use crate::flush::FlushOptions;
use crate::inner::ATTEMPTS;
use crate::instance::MemoryInstance;
use crate::sweep::non_zero;
use crate::version::Conditional;

/// The messages that are passed over in one request.
const SKIPPED: NonZeroUsize = non_zero(1_000);

/// One memory of an operation.
pub(super) struct Each<'a> {
    pub(super) memory: &'a MemoryInstance,
    pub(super) operation: &'a MemoryOperation,
}

impl Each<'_> {
    pub(super) async fn outcome(
        &self,
        backups: Option<&mut dyn BackupSink>,
    ) -> Result<KeyOutcome, OperationFailure> {
        match (&self.operation.action, backups) {
            (Action::Clear { backup: true }, Some(sink)) => {
                let done = self.memory.clear_with_backup(sink).await;
                let done = done.map_err(|error| OperationFailure::from(&error))?;
                let (cleared, backup) = (done.cleared.receipt, Some(done.place));
                Ok(KeyOutcome::Cleared { cleared, backup_created: true, backup })
            }
            (action, _) => {
                let outcome = self.plain(action).await;
                outcome.map_err(|error| OperationFailure::from(&error))
            }
        }
    }

    async fn plain(&self, action: &Action) -> Result<KeyOutcome, MemoryError> {
        let memory = self.memory;
        match action {
            Action::Read(range) => self.read(*range).await,
            Action::Append { payload } => {
                Ok(appended(memory.append_all(payload.iter().cloned()).await?))
            }
            Action::Write { payload } => {
                match memory.replace_all(payload.iter().cloned(), None).await? {
                    Conditional::Applied(replaced) => Ok(appended(replaced.appended)),
                    // Only a replacement with an expected version meets a conflict.
                    Conditional::Conflict(_) => Err(memory.inner.contended("write")),
                }
            }
            Action::UpdateMetadata { metadata } => {
                match memory.update_metadata(metadata.clone(), None).await? {
                    Conditional::Applied(now) => {
                        Ok(KeyOutcome::Metadata { metadata: now.values, revision: now.revision })
                    }
                    // Only an update with an expected revision meets a conflict.
                    Conditional::Conflict(_) => Err(memory.inner.contended("update-metadata")),
                }
            }
            Action::Delete => {
                let receipt = memory.delete().await?;
                let (messages, remaining) = (receipt.messages, receipt.remaining);
                Ok(KeyOutcome::Deleted { messages, remaining })
            }
            Action::Flush(flush) => {
                let options = options(flush);
                let receipt = if flush.dry_run {
                    memory.plan_flush(&options).await?
                } else {
                    memory.flush(&options).await?
                };
                Ok(KeyOutcome::Flushed { receipt: receipt.map(Box::new) })
            }
            Action::Health { include_stats, check_connectivity } => {
                let mut report = HealthReport::new(memory.health().await?);
                if !include_stats {
                    report.counts = None;
                }
                if *check_connectivity {
                    // The report is the read.
                    report.connectivity =
                        Some(Connectivity { read: true, write: self.write().await? });
                }
                Ok(KeyOutcome::Health(Box::new(report)))
            }
            Action::Clear { .. } => {
                let cleared = memory.clear().await?.receipt;
                Ok(KeyOutcome::Cleared { cleared, backup_created: false, backup: None })
            }
            other => {
                let reason = "does not concern single memories".to_owned();
                Err(MemoryError::Operation { operation: other.name().as_str(), reason })
            }
        }
    }

    /// A write that changes no message: an empty turn, which makes its lease known to the store.
    async fn write(&self) -> Result<Option<bool>, MemoryError> {
        if self.memory.mode() == Mode::ReadOnly {
            return Ok(None);
        }
        match self.memory.exclusive(|_| std::future::ready(())).await {
            // The store has acknowledged it, whatever became of the lease since.
            Ok(()) | Err(ExclusiveError::Lost { output: Some(()), .. }) => Ok(Some(true)),
            Err(ExclusiveError::Begin(error)) => Err(*error),
            Err(ExclusiveError::Lost { reason, .. }) => {
                Err(MemoryError::LeaseLost { key: self.memory.key().clone(), reason })
            }
        }
    }

    async fn read(&self, range: ReadRange) -> Result<KeyOutcome, MemoryError> {
        let page = match range {
            ReadRange::Last(most) => self.memory.page_before(None, most).await?,
            ReadRange::From { offset, limit } => {
                let limit = limit.unwrap_or(self.operation.batch_size);
                let offset = usize::try_from(offset).unwrap_or(usize::MAX);
                self.page_from(offset, limit).await?
            }
        };
        let Page { messages, more, .. } = page;
        Ok(KeyOutcome::Messages { messages, more })
    }

    /// At most this many messages after the first ones, of one generation.
    async fn page_from(&self, offset: usize, limit: NonZeroUsize) -> Result<Page, MemoryError> {
        let (mut left, mut after, mut attempts) = (offset, None, 1);
        loop {
            let skipped = NonZeroUsize::new(left).map(|left| left.min(SKIPPED));
            let mut page = self.memory.page(after, Some(skipped.unwrap_or(limit))).await?;
            if page.restarted {
                attempts += 1;
                if attempts > ATTEMPTS {
                    return Err(self.memory.inner.contended("read"));
                }
                (left, after) = (offset, None);
                continue;
            }
            if skipped.is_none() {
                return Ok(page);
            }
            left = left.saturating_sub(page.messages.len().saturating_add(page.unreadable.len()));
            if !page.more {
                page.messages.clear();
                return Ok(page);
            }
            after = Some(page.cursor);
        }
    }
}

fn appended(done: Appended) -> KeyOutcome {
    let present = done.counters.present;
    KeyOutcome::Appended {
        first: done.outcome.first(),
        message_count: present.messages,
        token_count: present.tokens,
        excluded: done.excluded,
        withheld: done.withheld,
    }
}

/// The options of one flush. Without force, the threshold decides: this one, or the resource's.
fn options(flush: &FlushAction) -> FlushOptions {
    let mut options = FlushOptions::new();
    if let Some(strategy) = &flush.strategy {
        options = options.with_strategy(strategy);
    }
    if let Some(tokens) = flush.token_target {
        options = options.with_target_tokens(tokens);
    }
    if let Some(percent) = flush.percentage {
        options = options.with_freed_percent(percent);
    }
    match flush.threshold {
        _ if flush.force => options,
        Some(share) => options.only_from(share),
        None => options.only_if_due(),
    }
}
