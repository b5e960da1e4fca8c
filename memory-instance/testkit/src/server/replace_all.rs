//! Replacements of all messages by the simulated server, with the bugs that are planted in them.

use std::sync::Arc;
use std::time::Duration;

use memory_core::store::{
    Access, AppendOutcome, Appended, Clear, Cleared, ReplaceAll, ReplacedAll, StoreError,
    StoreErrorKind, StoreOperation,
};
use memory_core::{MemoryKey, MemoryStore};

use super::{Server, now};
use crate::bug::Bug;

impl Server {
    pub(crate) fn replace_all(
        self: &Arc<Self>,
        key: &MemoryKey,
        access: Access,
        replace: &ReplaceAll,
    ) -> Result<ReplacedAll, StoreError> {
        let at = self.place(key);
        let write = replace.batch.write;
        let is_retry = self.is_retry(&at, write);
        if !is_retry {
            self.check_lease(key, access)?;
        }
        let access = self.access(access);
        let mut replace = replace.clone();
        replace.archive = self.retention(replace.archive);
        match self.bug {
            Some(Bug::ReplaceAllIgnoresVersion) => replace.batch.expected = None,
            Some(Bug::ReplaceAllForgetsRetry) if is_retry => {
                replace.batch.write = self.fresh_write();
                replace.batch.expected = None;
            }
            Some(Bug::ReplaceAllConflictsOnRetry)
                if is_retry && replace.batch.expected.is_some() =>
            {
                let kind = StoreErrorKind::Conflict;
                let error = StoreError::new(StoreOperation::ReplaceAll, kind);
                return Err(error.not_applied().at(key));
            }
            Some(Bug::ReplaceAllForgetsArchive) => replace.archive = None,
            Some(Bug::ReplaceAllInTwoSteps) if replace.batch.expected.is_none() && !is_retry => {
                return self.replace_in_two_steps(&at, access, replace);
            }
            _ => {}
        }
        let ended = now(self.store.head(&at))?.generation;
        let mut replaced = now(self.store.replace_all(&at, access, &replace))?;
        self.wrote(&at, write);
        self.ended(Bug::ReplaceAllUnnoticed, &at, ended);
        self.repair(&at, &mut replaced.appended.counters);
        Ok(replaced)
    }

    /// Clears the memory, and appends the batch a little later.
    fn replace_in_two_steps(
        self: &Arc<Self>,
        at: &MemoryKey,
        access: Access,
        replace: ReplaceAll,
    ) -> Result<ReplacedAll, StoreError> {
        let ReplaceAll { batch, archive } = replace;
        let clear = Clear { archive, ..Clear::new(self.fresh_write()) };
        let Cleared { receipt, counters, .. } = now(self.store.clear(at, access, &clear))?;
        let first = now(self.store.head(at))?.last.plus(1);
        let write = batch.write;
        let (server, to) = (Arc::clone(self), at.clone());
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(20)).await;
            let _ = now(server.store.append(&to, access, &batch));
        });
        self.wrote(at, write);
        let appended = Appended::new(AppendOutcome::Appended { first }, counters, None);
        Ok(ReplacedAll::new(appended, receipt))
    }
}
