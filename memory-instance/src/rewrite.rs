//! Writing summaries anew that may repeat erased messages.

use std::collections::HashSet;
use std::time::Duration;

use memory_core::lease::LeaseProof;
use memory_core::store::{
    AffectedSummary, ArchivedRemoval, Erasure, FLUSH_HELD, FlushReceipt, MessageId, MessageMeta,
    NewMessage, Outline, Splice, SummaryRecord, receipts_in_effect,
};
use memory_core::{Sequence, StoredMessage};
use memory_flush::WrittenSummary;
use serde::Serialize;
use tokio::time::Instant;
use uuid::Uuid;

use crate::audit::AuditOperation;
use crate::commit::Committed;
use crate::erase::ForgetView;
use crate::error::MemoryError;
use crate::inner::{ATTEMPTS, Inner};
use crate::instance::MemoryInstance;
use crate::panics::caught_in;
use crate::telemetry::operation;

const OPERATION: &str = "rewrite summaries of";

/// The strategy in the receipt of a summary that was written anew.
pub(crate) const REWRITE: &str = "rewrite";

/// The result of [`MemoryInstance::rewrite_summaries`] for one summary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RewrittenSummary {
    /// The summary, as the erasure lists it.
    pub summary: AffectedSummary,
    /// Its outcome.
    pub outcome: RewriteOutcome,
}

/// The outcome for a summary that may repeat erased messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RewriteOutcome {
    /// It was written anew from the messages that remain.
    Rewritten {
        /// The id of the new summary.
        id: MessageId,
    },
    /// It was removed, because too few of its messages remain for a summary. They stay in the archive.
    Removed,
    /// It was not changed: messages that it replaced are no longer in the archive, [`replace`](MemoryInstance::replace)
    /// gave it another text, or it was rewritten before and that receipt is no longer among the newest 16. Erase it if it
    /// repeats the text.
    NoOriginals,
    /// It was not changed: it is in the archive itself, where it ends with its removal. An erasure of its place ends it
    /// before, and the original there with it.
    Archived,
    /// It is no longer there. If a later summary replaced it, another erasure of the same places lists that one.
    Gone,
}

impl MemoryInstance {
    /// Writes the summaries anew that an erasure lists, from those of their original messages that remain in the archive. The
    /// resource's summarizers are used, as in a flush. Each new summary takes the place of the old one, which is not
    /// archived; a receipt with the strategy `rewrite` records it. Earlier erasures are obeyed too, as far as
    /// their [records](Self::erasures) are kept.
    ///
    /// It waits for the lease of flushers, so that no flush merges a summary meanwhile. Appends do not wait. Summaries are
    /// changed one after the other. If another erasure comes meanwhile, a summary is written again without its messages.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use memory_instance::{FlushMode, MemoryManager, MemoryResource};
    /// use memory_core::resource::ArchiveSettings;
    /// use memory_instance::{Message, RewriteOutcome, Sequence};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let mut resource = MemoryResource::new("support", 400);
    /// # resource.archive = ArchiveSettings::keep_for(Duration::from_hours(24));
    /// # let manager = MemoryManager::builder()
    /// #     .with_resource(resource)
    /// #     .with_flush_mode(FlushMode::Manual)
    /// #     .open("memory://")
    /// #     .await?;
    /// # let memory = manager.memory("support", "case-4711")?;
    /// for number in 0..40 {
    ///     memory.append(Message::user(format!("Message {number} of a long conversation"))).await?;
    /// }
    /// memory.perform_flush().await?;
    /// let receipt = memory.erase([Sequence::new(3)], "request of the customer").await?;
    /// for one in memory.rewrite_summaries(&receipt.erasure).await? {
    ///     assert!(matches!(one.outcome, RewriteOutcome::Rewritten { .. }));
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`MemoryError::Lock`] if a flush keeps its lease for too long; otherwise as [`perform_flush`](Self::perform_flush).
    /// Summaries before the one that failed are changed; call it again with the erasure for the others.
    ///
    /// # Cancel safety
    /// Dropping the future leaves each summary as it was, or rewritten.
    pub async fn rewrite_summaries(
        &self,
        erasure: &Erasure,
    ) -> Result<Vec<RewrittenSummary>, MemoryError> {
        let work = async {
            self.writable(OPERATION)?;
            let inner = &self.inner;
            inner.not_in_own_turn("rewrite summaries")?;
            let flusher = inner.wait_for_lease(&inner.flush_lease).await?;
            let mut rewritten = Vec::with_capacity(erasure.summaries.len());
            for summary in &erasure.summaries {
                match inner.rewrite(summary, erasure, flusher.proof()).await {
                    Ok(outcome) => rewritten.push(RewrittenSummary { summary: *summary, outcome }),
                    Err(error) => {
                        flusher.release().await;
                        return Err(error);
                    }
                }
            }
            flusher.release().await;
            Ok(rewritten)
        };
        operation!(&*self.inner, "rewrite_summaries", work).await
    }
}

impl Inner {
    /// The id of the flush whose messages a rewritten summary replaces, as far as receipts are kept; `None` for any other
    /// message.
    pub(crate) async fn flush_of_rewritten(
        &self,
        summary: MessageId,
    ) -> Result<Option<Uuid>, MemoryError> {
        let is_it = |receipt: &FlushReceipt| {
            receipt.strategy == REWRITE
                && receipt.summary.as_ref().is_some_and(|written| written.id == summary)
        };
        if !self.store().receipts(&self.key).await?.iter().any(is_it) {
            return Ok(None);
        }
        let outline = self.outline().await?;
        let sources = Sources::read(self, std::iter::empty(), &outline.metas).await?;
        Ok(sources.flush_of(summary).map(|receipt| receipt.id))
    }

    async fn rewrite(
        &self,
        summary: &AffectedSummary,
        erasure: &Erasure,
        flusher: LeaseProof,
    ) -> Result<RewriteOutcome, MemoryError> {
        let id = self.backend.ids.uuid(self.backend.clock.now_millis());
        for _ in 0..ATTEMPTS {
            let started = Instant::now();
            // Before all else: the splice is refused if a message was erased since.
            let outline = self.outline().await?;
            let erasures = self.store().erasures(&self.key).await?;
            let id_now = recorded(&erasures, erasure, summary).id;
            let present = outline.metas.iter().find(|meta| meta.id == id_now);
            let originals = match present {
                Some(_) => {
                    let erasures = erasures.iter().chain([erasure]);
                    let sources = Sources::read(self, erasures, &outline.metas).await?;
                    sources.originals(self, id_now).await?
                }
                None => None,
            };
            let (Some(old), Some(originals)) = (present, originals) else {
                if self.outline().await?.head.generation != outline.head.generation {
                    // These reads are not one snapshot: an erasure or an undo between them looks like a loss.
                    continue;
                }
                return Ok(match (present, summary.removal) {
                    (Some(_), _) => RewriteOutcome::NoOriginals,
                    (None, Some(_)) => RewriteOutcome::Archived,
                    (None, None) => RewriteOutcome::Gone,
                });
            };
            let written = match originals.is_empty() {
                true => None,
                false => caught_in(self.summarize(originals))
                    .await
                    .ok_or_else(|| self.panicked("a summarizer or the token counter".into()))?,
            };
            let outcome = written.as_ref().map_or(RewriteOutcome::Removed, |written| {
                RewriteOutcome::Rewritten { id: written.message.id }
            });
            let mut splice = self.rewriting(id, &outline, old, written, started.elapsed());
            splice.flusher = Some(flusher);
            // Readers of this process must not return the old text again, also if the caller drops the future.
            let _forget = ForgetView(&self.backend.views, &self.key);
            let waits = self.rules.lock.wait_timeout();
            match self.commit(AuditOperation::Rewrite, &splice, waits).await? {
                Committed::Applied(_) => return Ok(outcome),
                Committed::Outdated => {}
            }
        }
        Err(self.contended(OPERATION))
    }

    /// The splice that puts the new summary in the place of the old one, or removes it.
    fn rewriting(
        &self,
        id: Uuid,
        outline: &Outline,
        old: &MessageMeta,
        written: Option<WrittenSummary>,
        duration: Duration,
    ) -> Splice {
        let before = outline.head.counters.present;
        let mut receipt = FlushReceipt::new(id, REWRITE, self.backend.now());
        receipt.duration = duration;
        (receipt.tokens_before, receipt.messages_before) = (before.tokens, before.messages);
        let others = before.tokens.saturating_sub(old.tokens.into());
        (receipt.tokens_after, receipt.messages_after) =
            (others, before.messages.saturating_sub(1));
        // An undone flush stays held.
        let next_flush_at = outline.head.next_flush_at.filter(|mark| *mark == FLUSH_HELD);
        let mut splice = Splice { next_flush_at, ..Splice::of(outline) };
        let place: Vec<_> = vec![old.sequence];
        match written {
            Some(WrittenSummary { message, summarizer, fallback, .. }) => {
                receipt.tokens_after = others.saturating_add(message.tokens.into());
                receipt.messages_after = before.messages;
                receipt.summarized = place.iter().copied().collect();
                let mut record =
                    SummaryRecord::new(message.id, old.sequence, message.tokens, summarizer);
                record.fallback = fallback;
                receipt.summary = Some(record);
                splice.summarized = place;
                splice.summary = Some(NewMessage {
                    priority: old.priority,
                    content_type: old.content_type.clone(),
                    created_at: old.created_at,
                    ..message
                });
            }
            None => {
                receipt.evicted = place.iter().copied().collect();
                splice.evicted = place;
            }
        }
        splice.receipt = Some(receipt);
        splice.weighed(&outline.metas)
    }
}

/// The summary as the store lists it now: its id is another one if its priority or content type was changed since the
/// erasure.
fn recorded<'a>(
    erasures: &'a [Erasure],
    erasure: &Erasure,
    summary: &'a AffectedSummary,
) -> &'a AffectedSummary {
    let of = |summary: &AffectedSummary| (summary.sequence, summary.removal);
    let recorded = erasures.iter().find(|recorded| recorded.write == erasure.write);
    let mut summaries = recorded.iter().flat_map(|recorded| &recorded.summaries);
    summaries.find(|one| of(one) == of(summary)).unwrap_or(summary)
}

/// The messages that the summaries of a memory replaced, as far as they are kept.
struct Sources {
    /// The receipts that are kept or archived and were not undone, newest first.
    receipts: Vec<FlushReceipt>,
    /// All removals in the archive.
    removals: Vec<ArchivedRemoval>,
    /// The summaries that may repeat what was erased: those that erasures list, and those written from them.
    affected: HashSet<MessageId>,
    /// The places of those that erasures list.
    listed: HashSet<Sequence>,
}

impl Sources {
    async fn read(
        inner: &Inner,
        erasures: impl Iterator<Item = &Erasure>,
        present: &[MessageMeta],
    ) -> Result<Self, MemoryError> {
        let receipts = inner.store().receipts(&inner.key).await?;
        let removals = inner.all_removals().await?;
        let receipts = receipts_in_effect(&receipts, &removals, present);
        let summaries = erasures.flat_map(|erasure| &erasure.summaries);
        let (affected, listed) = summaries.map(|summary| (summary.id, summary.sequence)).unzip();
        let mut sources = Self { receipts, removals, affected, listed };
        sources.add_later();
        Ok(sources)
    }

    /// Adds the summaries that were written from affected ones. An erasure lists none that came after it.
    fn add_later(&mut self) {
        for index in (0..self.receipts.len()).rev() {
            let Some(receipt) = self.receipts.get(index) else { continue };
            let Some(summary) = receipt.summary.as_ref().map(|summary| summary.id) else {
                continue;
            };
            let is_affected = |place| {
                let earlier = self.at(place, index).and_then(|earlier| self.receipts.get(earlier));
                match earlier.and_then(|earlier| earlier.summary.as_ref()) {
                    Some(earlier) => self.affected.contains(&earlier.id),
                    // The receipt is no longer kept, so it may have been the listed one.
                    None => self.listed.contains(&place),
                }
            };
            // A summary that was written anew repeats nothing of the one before.
            if receipt.strategy != REWRITE && receipt.summarized.iter().any(is_affected) {
                self.affected.insert(summary);
            }
        }
    }

    /// The messages that a summary replaced and that remain, in order, without affected summaries: their own messages take
    /// their place. `None` if messages are missing for another reason than their erasure.
    async fn originals(
        &self,
        inner: &Inner,
        summary: MessageId,
    ) -> Result<Option<Vec<StoredMessage>>, MemoryError> {
        let mut found = Vec::new();
        let Some(wrote) = self.wrote(summary) else { return Ok(None) };
        let mut open = vec![wrote];
        while let Some(index) = open.pop() {
            let Some(receipt) = self.receipts.get(index) else { continue };
            if receipt.strategy == REWRITE {
                // Its messages are those of the summary that it replaced.
                let replaced = receipt.summary.as_ref().map(|summary| summary.sequence);
                let Some(earlier) = replaced.and_then(|place| self.at(place, index)) else {
                    return Ok(None);
                };
                open.push(earlier);
                continue;
            }
            let of_flush = |removal: &&ArchivedRemoval| {
                removal.receipt.as_ref().is_some_and(|other| other.id == receipt.id)
            };
            let Some(removal) = self.removals.iter().find(of_flush) else { return Ok(None) };
            let all = Sequence::ZERO..=Sequence::new(u64::MAX);
            let mut messages = inner.removed(removal.number, &all).await?;
            messages.retain(|message| receipt.summarized.contains(message.meta.sequence));
            let there = messages.iter().map(|message| message.meta.sequence).collect();
            if !receipt.summarized.without(&removal.erased).without(&there).is_empty() {
                return Ok(None);
            }
            // An earlier summary that was erased itself: its messages were not.
            let erased = removal.erased.iter().filter(|place| receipt.summarized.contains(*place));
            open.extend(erased.filter_map(|place| self.at(place, index)));
            for message in messages {
                if !self.affected.contains(&message.meta.id) {
                    found.push(message);
                    continue;
                }
                // Written before the one that replaced it.
                let earlier = self.wrote(message.meta.id).filter(|earlier| *earlier > index);
                let Some(earlier) = earlier else { return Ok(None) };
                open.push(earlier);
            }
        }
        found.sort_by_key(|message| message.meta.sequence);
        found.dedup_by_key(|message| message.meta.id);
        Ok(Some(found))
    }

    /// The receipt of the flush whose messages this summary replaces: of a summary that was written anew, that of the one
    /// before.
    fn flush_of(&self, summary: MessageId) -> Option<&FlushReceipt> {
        let mut index = self.wrote(summary)?;
        loop {
            let receipt = self.receipts.get(index)?;
            if receipt.strategy != REWRITE {
                return Some(receipt);
            }
            index = self.at(receipt.summary.as_ref()?.sequence, index)?;
        }
    }

    /// The index of the receipt of this summary.
    fn wrote(&self, summary: MessageId) -> Option<usize> {
        let id = |receipt: &FlushReceipt| Some(receipt.summary.as_ref()?.id);
        self.receipts.iter().position(|receipt| id(receipt) == Some(summary))
    }

    /// The index of the newest receipt before another one whose summary has this place.
    fn at(&self, place: Sequence, before: usize) -> Option<usize> {
        let earlier = self.receipts.iter().enumerate().skip(before + 1);
        let place_of = |receipt: &FlushReceipt| Some(receipt.summary.as_ref()?.sequence);
        earlier.into_iter().find(|(_, one)| place_of(one) == Some(place)).map(|(index, _)| index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A flush that wrote a summary of these places in the first of them.
    fn summarized(number: u128, places: &[u64]) -> FlushReceipt {
        let mut receipt = FlushReceipt::new(
            Uuid::from_u128(number),
            "hybrid_summary",
            jiff::Timestamp::UNIX_EPOCH,
        );
        receipt.summarized = places.iter().copied().map(Sequence::new).collect();
        let id = MessageId::new(Uuid::from_u128(number));
        receipt.summary = Some(SummaryRecord::new(id, Sequence::new(places[0]), 20, "rule_based"));
        receipt
    }

    /// The summaries of these receipts, newest first, that may repeat a text which an erasure found in summary 1 at place 2.
    fn affected(receipts: Vec<FlushReceipt>) -> Vec<u128> {
        let first = MessageId::new(Uuid::from_u128(1));
        let (affected, listed) = (HashSet::from([first]), HashSet::from([Sequence::new(2)]));
        let mut sources = Sources { receipts, removals: Vec::new(), affected, listed };
        sources.add_later();
        let mut found: Vec<_> = sources.affected.iter().map(|id| id.uuid().as_u128()).collect();
        found.sort_unstable();
        found
    }

    #[test]
    fn summaries_of_forgotten_affected_ones_are_found() {
        let (one, two, three) =
            (summarized(1, &[2, 3, 4]), summarized(2, &[2, 5, 6]), summarized(3, &[2, 7]));
        let other = summarized(4, &[8, 9]);
        let all = vec![other.clone(), three.clone(), two.clone(), one];
        assert_eq!(affected(all), [1, 2, 3]);
        // The receipt of the first is no longer kept.
        assert_eq!(affected(vec![other.clone(), three.clone(), two]), [1, 2, 3]);
        // The first was written anew, so nothing was repeated.
        let mut anew = summarized(5, &[2]);
        anew.strategy = REWRITE.to_owned();
        assert_eq!(affected(vec![other, three, anew]), [1]);
    }
}
