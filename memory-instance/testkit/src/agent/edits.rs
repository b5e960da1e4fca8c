//! Changes of priorities and content types, and rewriting summaries.

use memory_core::store::{Erasure, MessageId};
use memory_core::{Priority, Sequence};
use memory_instance::{MemoryError, MemoryInstance, RewriteOutcome};

use super::Run;
use crate::bug::Bug;
use crate::history::{Answer, Call, Edit, Recorder, Rewrote, Settings};
use crate::link::{rewriting, writing};

impl Run<'_> {
    /// Changes the settings of the message at one of the places in use.
    pub(super) async fn edit(&self, at: usize, edit: Edit) {
        let Some((_, items)) = self.read_version().await else { return };
        let at = at.checked_rem(items.len()).and_then(|at| items.get(at));
        let Some((place, _)) = at.copied() else { return };
        let op = self.recorder.call(self.key, Call::Edit { id: self.tags.call(), place, edit });
        let at = Sequence::new(place);
        let edited = match edit {
            Edit::Priority(priority) => {
                writing(op, self.memory.set_priority(at, Priority::new(priority))).await
            }
            Edit::Type(content_type) => match content_type.content_type() {
                Some(content_type) => {
                    writing(op, self.memory.set_content_type(at, content_type)).await
                }
                None => return self.recorder.refused(op),
            },
        };
        let edited = edited.map(|edited| match edited {
            Some(_) => Answer::Replaced,
            None => Answer::NotThere,
        });
        self.settle_other(op, edited);
    }

    /// Has the summaries rewritten that the newest erasure with affected summaries lists. The connection records the
    /// requests.
    pub(super) async fn rewrite(&self) {
        let erasures = self.memory.erasures().await;
        self.told(erasures.as_ref().err());
        let is_listing = |erasure: &Erasure| !erasure.summaries.is_empty();
        let Some(erasure) = erasures.unwrap_or_default().into_iter().find(is_listing) else {
            return;
        };
        let call = |id: MessageId| self.recorder.call(self.key, Call::Rewrite(id.uuid().as_u128()));
        let ops: Vec<_> = erasure.summaries.iter().map(|summary| call(summary.id)).collect();
        let rewritten = rewriting(self.memory.rewrite_summaries(&erasure)).await;
        self.told(rewritten.as_ref().err());
        for (op, one) in ops.into_iter().zip(rewritten.into_iter().flatten()) {
            let outcome = match one.outcome {
                RewriteOutcome::Rewritten { .. }
                    if self.process.link.bug() == Some(Bug::RewriteGivesUp) =>
                {
                    Rewrote::NoOriginals
                }
                RewriteOutcome::Rewritten { id } => Rewrote::By(id.uuid().as_u128()),
                RewriteOutcome::Removed => Rewrote::Removed,
                RewriteOutcome::NoOriginals => Rewrote::NoOriginals,
                // It is archived, or another one took its place.
                _ => Rewrote::NotPresent,
            };
            self.recorder.answer(op, Answer::Rewrote(outcome));
        }
    }
}

/// Reads the settings of all messages, and the receipts.
pub(crate) async fn inspect(
    memory: &MemoryInstance,
    key: usize,
    recorder: &Recorder,
) -> Result<(), MemoryError> {
    let op = recorder.call(key, Call::Settings);
    let messages = memory.messages().await?;
    let settings = messages.iter().map(|one| (one.meta.sequence.number(), Settings::of(&one.meta)));
    recorder.answer(op, Answer::Settings(settings.collect()));
    let op = recorder.call(key, Call::Receipts);
    let receipts = memory.receipts().await?;
    let receipts = receipts.iter().map(|receipt| {
        let summary = receipt.summary.as_ref().map(|summary| summary.id.uuid().as_u128());
        (receipt.id.as_u128(), summary)
    });
    recorder.answer(op, Answer::Receipts(receipts.collect()));
    Ok(())
}
