//! Bugs of reads after a cursor: the reads by which the facade brings a view up to date.

use memory_core::store::{Cursor, Generation, Page, Read, StoreError};
use memory_core::{MemoryKey, MemoryStore};

use super::{Server, now};
use crate::bug::Bug;

impl Server {
    /// The page after this cursor as the planted bug falsifies it.
    pub(super) fn delta(
        &self,
        at: &MemoryKey,
        after: Cursor,
        mut page: Page,
    ) -> Result<Page, StoreError> {
        match self.bug {
            Some(Bug::DeltaSkipped) => {
                let mut state = self.state();
                state.reads += 1;
                if state.reads.is_multiple_of(3) {
                    return Ok(Page::new(after));
                }
            }
            Some(Bug::DeltaTorn) if !page.restarted => {
                let older = page.messages.len().saturating_sub(1);
                page.messages.drain(..older);
            }
            _ if page.restarted && self.is_unnoticed(at, after) => {
                return self.continued(at, after);
            }
            _ => {}
        }
        Ok(page)
    }

    /// Records that cursors of this generation are invalid from now on, if the planted bug hides that from readers.
    pub(super) fn ended(&self, bug: Bug, at: &MemoryKey, generation: Generation) {
        if self.has(bug) && generation != Generation::NONE {
            self.state().unnoticed.insert((at.clone(), generation));
        }
    }

    fn is_unnoticed(&self, at: &MemoryKey, cursor: Cursor) -> bool {
        self.state().unnoticed.contains(&(at.clone(), cursor.generation))
    }

    /// The messages behind the cursor's place, as if the cursor were valid.
    fn continued(&self, at: &MemoryKey, after: Cursor) -> Result<Page, StoreError> {
        let mut page = now(self.store.read(at, Read::default()))?;
        page.messages.retain(|message| message.meta.sequence > after.sequence);
        if page.messages.is_empty() {
            page.cursor = after;
        }
        Ok(page)
    }
}
