//! Replacements by the simulated server, with the bugs that are planted in them.

use memory_core::store::{Access, Counters, Head, Replace, StoreError, WriteId};
use memory_core::{MemoryKey, MemoryStore};

use super::{Server, now};
use crate::bug::Bug;

impl Server {
    pub(crate) fn replace(
        &self,
        key: &MemoryKey,
        access: Access,
        replace: &Replace,
    ) -> Result<Counters, StoreError> {
        let at = self.place(key);
        if !self.is_retry(&at, replace.write) {
            self.check_lease(key, access)?;
        }
        let write = replace.write;
        let is_retry = self.is_retry(&at, write);
        let before = now(self.store.head(&at))?;
        self.keep_hits(Bug::ReplaceKeepsIndex, &at, |place| place == replace.sequence)?;
        let mut counters = self.edited(&at, self.access(access), replace, is_retry)?;
        self.wrote(&at, write);
        if is_retry {
            self.replaced_again(&at, write);
        } else {
            self.replaced(&at, write, &before, &counters)?;
        }
        self.repair(&at, &mut counters);
        Ok(counters)
    }

    /// The effect of a planted bug on a replacement.
    fn replaced(
        &self,
        at: &MemoryKey,
        write: WriteId,
        before: &Head,
        after: &Counters,
    ) -> Result<(), StoreError> {
        let generation = now(self.store.head(at))?.generation;
        let tokens = after.present.tokens.cast_signed();
        let change = tokens - before.counters.present.tokens.cast_signed();
        let mut state = self.state();
        state.replaced_tokens.insert((at.clone(), write), change);
        match self.bug {
            Some(Bug::ReplaceNotCounted) => {
                *state.skewed_tokens.entry(at.clone()).or_default() -= change;
            }
            Some(Bug::EditUnnoticed) => {
                state.unnoticed.insert((at.clone(), before.generation));
            }
            Some(Bug::ReplaceKeepsGeneration) => {
                state.replaced_in.insert((at.clone(), before.generation), generation);
            }
            _ => {}
        }
        Ok(())
    }

    fn replaced_again(&self, at: &MemoryKey, write: WriteId) {
        if self.has(Bug::ReplaceCountedTwice) {
            let mut state = self.state();
            let change = state.replaced_tokens.get(&(at.clone(), write)).copied().unwrap_or(0);
            *state.skewed_tokens.entry(at.clone()).or_default() += change;
        }
    }
}
