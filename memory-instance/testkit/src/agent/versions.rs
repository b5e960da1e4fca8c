//! Writes at the version that the agent read before.

use memory_core::Sequence;
use memory_core::store::Version;
use memory_instance::Conditional;

use super::reads::items_of;
use super::{Refused, Run};
use crate::history::{Answer, Call, Expected, Item};
use crate::program::Kind;

impl Run<'_> {
    /// Reads, and then appends if no other write came since.
    pub(super) async fn append_if(&mut self, kinds: &[Kind]) {
        let Some((version, items)) = self.read_version().await else { return };
        let expected = Expected::at(version, &items);
        let (entries, pieces) = self.messages(kinds);
        let tags: Vec<_> = pieces.iter().map(|piece| piece.tag).collect();
        let call = Call::Append { batch: self.tags.call(), pieces, expected: Some(expected) };
        let op = self.recorder.call(self.key, call);
        match self.memory.append_if(version, entries).await {
            Ok(Conditional::Applied(appended)) => self.settle(op, Ok(&appended), Refused::ForGood),
            Ok(Conditional::Conflict(_)) => {
                self.recorder.answer(op, Answer::Conflict);
                self.recorder.history().refused.extend(tags);
            }
            Err(error) => self.settle(op, Err(&error), Refused::ForGood),
        }
    }

    /// Reads, and then takes back this number of messages if no other write came since. The connection records the
    /// request.
    pub(super) async fn rewind(&self, count: usize) {
        let Some((version, items)) = self.read_version().await else { return };
        let kept = items.len().saturating_sub(count);
        let to = kept.checked_sub(1).and_then(|at| items.get(at)).map_or(0, |(place, _)| *place);
        let rewound = self.memory.rewind(Sequence::new(to), version).await;
        self.told(rewound.as_ref().err());
        if let Ok(rewound) = rewound {
            self.recorder.note(format!("rewound: {}", rewound.applied().is_some()));
        }
    }

    pub(super) async fn read_version(&self) -> Option<(Version, Vec<(u64, Item)>)> {
        let op = self.recorder.call(self.key, Call::Read(None));
        let page = self.memory.page(None, None).await;
        self.told(page.as_ref().err());
        let page = page.ok()?;
        let items = items_of(&page.messages);
        let generation = page.cursor.generation.number();
        self.recorder.answer(op, Answer::Page(items.clone(), Some(generation)));
        Some((Version::at_end(page.cursor), items))
    }
}
