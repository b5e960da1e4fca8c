//! Replacements of one message, and of all.

use memory_core::Sequence;
use memory_core::store::Version;
use memory_instance::Conditional;

use super::{Refused, Run};
use crate::history::{Answer, Call, Expected};
use crate::link::writing;
use crate::program::Kind;

impl Run<'_> {
    /// Replaces the message at one of the places in use.
    pub(super) async fn replace(&mut self, at: usize) {
        let Some((_, items)) = self.read_version().await else { return };
        let at = at.checked_rem(items.len()).and_then(|at| items.get(at));
        let Some((place, _)) = at.copied() else { return };
        let (entries, pieces) = self.messages(&[Kind::Talk]);
        let (Some(entry), Some(piece)) = (entries.into_iter().next(), pieces.first().copied())
        else {
            return;
        };
        let op = self.recorder.call(self.key, Call::Replace { id: self.tags.call(), place, piece });
        let replaced = writing(op, self.memory.replace(Sequence::new(place), entry)).await;
        let replaced = replaced.map(|edited| match edited {
            Some(_) => Answer::Replaced,
            None => Answer::NotThere,
        });
        self.settle_other(op, replaced);
    }

    /// Replaces all messages, at a version if one is given.
    pub(super) async fn replace_all(
        &mut self,
        kinds: &[Kind],
        expected: Option<(Version, Expected)>,
    ) {
        let (entries, pieces) = self.messages(kinds);
        let tags: Vec<_> = pieces.iter().map(|piece| piece.tag).collect();
        let (version, expected) = expected.unzip();
        let call = Call::ReplaceAll { batch: self.tags.call(), pieces, expected };
        let op = self.recorder.call(self.key, call);
        match writing(op, self.memory.replace_all(entries, version)).await {
            Ok(Conditional::Applied(replaced)) => {
                self.settle(op, Ok(&replaced.appended), Refused::ForGood);
            }
            Ok(Conditional::Conflict(_)) => {
                self.recorder.answer(op, Answer::Conflict);
                self.recorder.history().refused.extend(tags);
            }
            Err(error) => self.settle(op, Err(&error), Refused::ForGood),
        }
    }
}
