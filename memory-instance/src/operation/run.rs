//! The choice of the memories of an operation, and its execution.

use std::num::NonZeroUsize;

use memory_config::Mode;
use memory_config::operation::{Action, FlushAction, MemoryOperation};
use memory_core::MemoryKey;
use memory_core::stats::{GroupBy, StatsCount};
use memory_core::store::KeyPattern;

use super::each::Each;
use super::report::{KeyOutcome, KeyResult, OperationReport, OperationSummary};
use crate::backup::BackupSink;
use crate::error::MemoryError;
use crate::instance::MemoryInstance;
use crate::list_keys::KeyListing;
use crate::manager::MemoryManager;
use crate::template::{KeyContext, KeyTemplate};

/// An operation that is being executed.
pub(super) struct Run<'a, 'b> {
    pub(super) manager: &'a MemoryManager,
    pub(super) operation: &'a MemoryOperation,
    pub(super) mode: Mode,
    pub(super) backups: Option<&'b mut dyn BackupSink>,
}

impl Run<'_, '_> {
    pub(super) async fn run(
        &mut self,
        variables: &KeyContext,
    ) -> Result<OperationReport, MemoryError> {
        let operation = self.operation;
        let pattern = self.pattern(variables)?;
        self.check(&pattern)?;
        match &operation.action {
            Action::ListKeys { limit, hashed, .. } => {
                let most = limit.map_or(operation.max_keys, |most| most.min(operation.max_keys));
                let listing = self.list(&pattern, most).await?;
                let name = |key: &MemoryKey| if *hashed { key.sha256() } else { key.to_string() };
                let keys = listing.keys.iter().map(name).collect();
                let summary = OperationSummary::Keys { keys, hashed: *hashed };
                Ok(self.report(listing.truncated, Some(summary), Vec::new()))
            }
            Action::Stats { group_by } => self.stats(&pattern, group_by.as_ref()).await,
            Action::Flush(flush) => self.flush(&pattern, flush).await,
            Action::Health { .. } => self.health(&pattern).await,
            _ => {
                let keys = self.all_or_none(&pattern).await?;
                let results = self.each(&keys).await?;
                Ok(self.report(false, None, results))
            }
        }
    }

    /// The memories that are meant.
    fn pattern(&self, variables: &KeyContext) -> Result<KeyPattern, MemoryError> {
        let MemoryOperation { memory, key, action, .. } = self.operation;
        let own = self.manager.key_template(memory)?;
        let (text, is_list) = match action {
            Action::ListKeys { pattern, .. } => (pattern.as_ref().or(key.as_ref()), true),
            _ => (key.as_ref(), false),
        };
        let variables = self.manager.completed(variables);
        match (text, own) {
            (Some(text), _) => Ok(KeyTemplate::parse(text)?.render_pattern(&variables)?),
            (None, _) if is_list => Ok(KeyPattern::parse("*")),
            (None, Some(own)) => Ok(own.render_pattern(&variables)?),
            (None, None) => Err(MemoryError::NoKey { resource: memory.clone() }),
        }
    }

    /// Refuses what neither the reference nor the operation allows, before anything is read.
    fn check(&self, pattern: &KeyPattern) -> Result<(), MemoryError> {
        let name = self.operation.name();
        if self.mode == Mode::ReadOnly && !self.operation.action.is_read_only() {
            // A pattern is named like a key.
            let shown = pattern.to_string();
            let key = MemoryKey::new(self.manager.project(), &self.operation.memory, &shown)?;
            return Err(MemoryError::ReadOnly { operation: name.as_str(), key });
        }
        let refused = |reason: &str| {
            Err(MemoryError::Operation { operation: name.as_str(), reason: reason.to_owned() })
        };
        if pattern.has_wildcard() && !name.takes_wildcards() {
            return refused("the key has a wildcard `*`; name one memory");
        }
        if matches!(self.operation.action, Action::Clear { backup: true }) && self.backups.is_none()
        {
            return refused("there is no place for backups; configure one, or leave `backup` out");
        }
        Ok(())
    }

    /// The matching memories: with a wildcard those with messages, else the one, whether it has messages or not.
    async fn list(
        &self,
        pattern: &KeyPattern,
        most: NonZeroUsize,
    ) -> Result<KeyListing, MemoryError> {
        let (manager, memory) = (self.manager, &self.operation.memory);
        let is_list = matches!(self.operation.action, Action::ListKeys { .. });
        if pattern.has_wildcard() || is_list {
            return manager.list_keys(memory, pattern, None, most).await;
        }
        let key = MemoryKey::new(manager.project(), memory, pattern.prefix())?;
        Ok(KeyListing { keys: vec![key], truncated: false })
    }

    /// All matching memories, or an error if these are more than the operation may concern.
    async fn all_or_none(&self, pattern: &KeyPattern) -> Result<Vec<MemoryKey>, MemoryError> {
        let MemoryOperation { memory, max_keys, .. } = self.operation;
        let listing = self.list(pattern, *max_keys).await?;
        if listing.truncated {
            return Err(MemoryError::TooManyKeys {
                operation: self.operation.name().as_str(),
                resource: memory.clone(),
                pattern: pattern.to_string(),
                most: max_keys.get(),
            });
        }
        Ok(listing.keys)
    }

    fn memory(&self, key: &MemoryKey) -> Result<MemoryInstance, MemoryError> {
        let memory = self.manager.memory_of(&self.operation.memory, key)?;
        Ok(match self.mode {
            Mode::ReadWrite => memory,
            Mode::ReadOnly => memory.read_only(),
        })
    }

    /// The outcome of each memory.
    async fn each(&mut self, keys: &[MemoryKey]) -> Result<Vec<KeyResult>, MemoryError> {
        let mut results = Vec::with_capacity(keys.len());
        for key in keys {
            let memory = self.memory(key)?;
            // The loop borrows the sink for one memory at a time.
            let backups = self.backups.as_mut().map(|sink| &mut **sink as &mut dyn BackupSink);
            let each = Each { memory: &memory, operation: self.operation };
            let outcome = each.outcome(backups).await;
            let outcome = outcome.unwrap_or_else(|error| KeyOutcome::Failed { error });
            results.push(KeyResult { key: key.clone(), outcome });
        }
        Ok(results)
    }

    fn report(
        &self,
        truncated: bool,
        summary: Option<OperationSummary>,
        results: Vec<KeyResult>,
    ) -> OperationReport {
        let has_failed = |it: &KeyResult| matches!(it.outcome, KeyOutcome::Failed { .. });
        let success = !results.iter().any(has_failed);
        let operation = self.operation.name();
        OperationReport { operation, success, error: None, truncated, summary, results }
    }

    async fn stats(
        &self,
        pattern: &KeyPattern,
        group_by: Option<&GroupBy>,
    ) -> Result<OperationReport, MemoryError> {
        let listing = self.list(pattern, self.operation.max_keys).await?;
        let mut count = StatsCount::new(group_by.cloned());
        for key in &listing.keys {
            count.merge(self.memory(key)?.stats_count(group_by.cloned()).await?);
        }
        let memories = listing.keys.len() as u64;
        let summary = OperationSummary::Stats { memories, stats: count.finish() };
        Ok(self.report(listing.truncated, Some(summary), Vec::new()))
    }

    async fn flush(
        &mut self,
        pattern: &KeyPattern,
        flush: &FlushAction,
    ) -> Result<OperationReport, MemoryError> {
        let listing = self.list(pattern, flush.max_keys).await?;
        let results = self.each(&listing.keys).await?;
        let (mut messages_freed, mut tokens_freed) = (0_u64, 0_u64);
        for result in &results {
            if let KeyOutcome::Flushed { receipt: Some(it) } = &result.outcome {
                let messages = it.messages_before.saturating_sub(it.messages_after);
                messages_freed = messages_freed.saturating_add(messages);
                let tokens = it.tokens_before.saturating_sub(it.tokens_after);
                tokens_freed = tokens_freed.saturating_add(tokens);
            }
        }
        let dry_run = flush.dry_run;
        let summary = OperationSummary::Flush { dry_run, messages_freed, tokens_freed };
        Ok(self.report(listing.truncated, Some(summary), results))
    }

    async fn health(&mut self, pattern: &KeyPattern) -> Result<OperationReport, MemoryError> {
        let listing = self.list(pattern, self.operation.max_keys).await?;
        let results = self.each(&listing.keys).await?;
        let is_healthy =
            |it: &&KeyResult| matches!(&it.outcome, KeyOutcome::Health(it) if it.healthy);
        let healthy = results.iter().filter(is_healthy).count() as u64;
        let unhealthy = (results.len() as u64).saturating_sub(healthy);
        let last_checked = self.manager.backend().now();
        let summary = OperationSummary::Health { healthy, unhealthy, last_checked };
        Ok(self.report(listing.truncated, Some(summary), results))
    }
}
