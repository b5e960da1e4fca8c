//! Appends to the simulated server, with the bugs that are planted in them.

use std::sync::Arc;
use std::time::Duration;

use memory_core::store::{Access, Append, Appended, StoreError, StoreErrorKind, StoreOperation};
use memory_core::{MemoryKey, MemoryStore};

use super::{Server, now};
use crate::bug::Bug;

impl Server {
    pub(crate) fn append(
        self: &Arc<Self>,
        key: &MemoryKey,
        access: Access,
        mut append: Append,
    ) -> Result<Appended, StoreError> {
        let at = self.place(key);
        let write = append.write;
        let is_retry = self.is_retry(&at, write);
        if !is_retry {
            self.check_lease(key, access)?;
        }
        let access = self.access(access);
        let mut rest = None;
        let count = {
            let mut state = self.state();
            state.appends += 1;
            state.appends
        };
        let is_refused = match self.bug {
            Some(Bug::VersionBeforeRetry) => is_retry,
            Some(Bug::ConflictWithoutReason) => !is_retry && count.is_multiple_of(2),
            _ => false,
        };
        if is_refused && append.expected.is_some() {
            let error = StoreError::new(StoreOperation::Append, StoreErrorKind::Conflict);
            return Err(error.not_applied().at(key));
        }
        match self.bug {
            Some(Bug::AppendRefused) if count.is_multiple_of(11) => {
                let kind = StoreErrorKind::Full("no room".into());
                return Err(StoreError::new(StoreOperation::Append, kind).not_applied().at(key));
            }
            Some(Bug::VersionIgnored) => append.expected = None,
            Some(Bug::RetryNotRecognized) => append.write = self.fresh_write(),
            Some(Bug::WriterPrunedEarly) if is_retry => {
                let newest = self.state().newest_writer.get(&at).copied();
                if newest != Some(write.writer) {
                    append.write = self.fresh_write();
                }
            }
            Some(Bug::RetryForgottenByFlush) if is_retry => {
                let flushed = !now(self.store.receipts(&at))?.is_empty();
                if flushed {
                    append.write = self.fresh_write();
                }
            }
            Some(Bug::TornBatch) if append.messages.len() > 1 && !is_retry => {
                let messages: Vec<_> = append.messages.iter().skip(1).cloned().collect();
                rest = Some(Append {
                    write: self.fresh_write(),
                    messages: messages.into(),
                    ..append.clone()
                });
                append.messages = append.messages.iter().take(1).cloned().collect();
            }
            Some(Bug::OrderLost) if append.messages.len() > 1 && !is_retry => {
                append.messages = append.messages.iter().rev().cloned().collect();
            }
            Some(Bug::AppendLost) if count.is_multiple_of(7) && !is_retry => {
                let head = now(self.store.head(&at))?;
                let first = head.last.plus(1);
                let outcome = memory_core::store::AppendOutcome::Appended { first };
                let next_flush_at = head.next_flush_at;
                let counters = head.counters;
                return Ok(Appended::new(outcome, counters, next_flush_at));
            }
            _ => {}
        }
        let before = now(self.store.head(&at))?;
        self.state().old_head.insert(at.clone(), before.clone());
        let quoted = append.messages.first().map(|m| m.message.text().into_owned());
        let mut appended = now(self.store.append(&at, access, &append))?;
        if self.has(Bug::ConflictApplied) && append.expected.is_some() && count.is_multiple_of(3) {
            let kind = StoreErrorKind::Conflict;
            return Err(StoreError::new(StoreOperation::Append, kind).not_applied().at(key));
        }
        self.wrote(&at, write);
        if !is_retry {
            self.share(&at, &append)?;
        }
        if let Some(rest) = rest {
            let (server, at) = (Arc::clone(self), at.clone());
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(3)).await;
                let _ = now(server.store.append(&at, access, &rest));
            });
        }
        match self.bug {
            Some(Bug::CountersApart) => appended.counters = before.counters,
            Some(Bug::FlushMarkLost) => appended.next_flush_at = None,
            Some(Bug::UndoHoldsNoFlush) => {
                appended.next_flush_at = self.flush_mark(appended.next_flush_at);
            }
            Some(Bug::ErrorLies) if count.is_multiple_of(5) => {
                return Err(StoreError::new(
                    StoreOperation::Append,
                    StoreErrorKind::Full("no room".into()),
                )
                .not_applied()
                .at(key));
            }
            Some(Bug::ErrorQuotesMessage) if count.is_multiple_of(9) => {
                let text = quoted.unwrap_or_default();
                return Err(StoreError::new(StoreOperation::Append, StoreErrorKind::Other(text))
                    .possibly_applied());
            }
            _ => {}
        }
        self.repair(&at, &mut appended.counters);
        Ok(appended)
    }
}
