//! The past of a memory: the messages that were removed, and undoing a flush.

use std::num::NonZeroUsize;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, Ordering};

use memory_core::health::ArchiveHealth;
use memory_core::lease::LeaseProof;
use memory_core::store::{
    Access, ArchivedRemoval, Cleared, Counters, FlushReceipt, MessageId, MessageMeta, Restore,
    RestoreRefusal, StoreError, StoreErrorKind, StoreOperation, receipts_in_effect,
};
use memory_core::{Sequence, StoredMessage};
use uuid::Uuid;

use crate::asking::Answering;
use crate::audit::{Audit, AuditOperation, AuditOutcome, Audited};
use crate::error::MemoryError;
use crate::exclusive::Session;
use crate::ids::name_of;
use crate::inner::Inner;
use crate::instance::MemoryInstance;
use crate::sweep::non_zero;
use crate::telemetry::operation;
use crate::write::WriteRequest;

/// The messages and removals that are read at once.
const AT_ONCE: NonZeroUsize = non_zero(500);

/// The undo of a removal, as named in errors.
const UNDO: &str = "undo a flush of";

/// A removed message that is in the archive.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ArchivedMessage {
    /// The [number](ArchivedRemoval::number) of the removal.
    pub removal: u64,
    /// The message, as it was stored.
    pub message: StoredMessage,
}

impl MemoryInstance {
    /// The removals whose messages are in the archive, newest first: at most `limit`, before the removal with a number.
    ///
    /// Removed messages are kept for 30 days, or as the resource says
    /// ([`MemoryResource::archive`](memory_core::MemoryResource::archive)); on `memory://` only if the resource asks for it.
    ///
    /// # Errors
    /// [`MemoryError::Store`].
    ///
    /// # Cancel safety
    /// Reads have no effect.
    pub async fn removals(
        &self,
        before: Option<u64>,
        limit: NonZeroUsize,
    ) -> Result<Vec<ArchivedRemoval>, MemoryError> {
        let work = async { Ok(self.inner.store().removals(&self.inner.key, before, limit).await?) };
        operation!(&*self.inner, "removals", work).await
    }

    /// The archived messages at these places, in ascending order, and of one place the earlier removal first. The place
    /// of a summary had an original message before.
    ///
    /// The cost is that of all removals with a message in the range. They are read one after another, not as one
    /// snapshot: a removal that is undone or dropped meanwhile may be missing.
    ///
    /// # Errors
    /// [`MemoryError::Store`].
    ///
    /// # Cancel safety
    /// Reads have no effect.
    pub async fn archived(
        &self,
        places: RangeInclusive<Sequence>,
    ) -> Result<Vec<ArchivedMessage>, MemoryError> {
        let work = async {
            let mut found = Vec::new();
            let mut before = None;
            loop {
                let removals = self.removals(before, AT_ONCE).await?;
                let Some(oldest) = removals.last() else { break };
                before = Some(oldest.number);
                for removal in &removals {
                    let ranges = removal.places.ranges();
                    if ranges
                        .iter()
                        .any(|(first, last)| first <= places.end() && places.start() <= last)
                    {
                        let messages = self.inner.removed(removal.number, &places).await?;
                        let number = removal.number;
                        found.extend(
                            messages
                                .into_iter()
                                .map(|message| ArchivedMessage { removal: number, message }),
                        );
                    }
                }
            }
            found.sort_by_key(|one| (one.message.meta.sequence, one.removal));
            Ok(found)
        };
        operation!(&*self.inner, "archived", work).await
    }

    /// The messages that a summary replaced, in order; empty if they are not in the archive. An earlier summary may be
    /// among them. Those of a [rewritten](Self::rewrite_summaries) summary are the messages of the flush that remain, as long as
    /// the receipt of the rewrite is one of the newest 16.
    ///
    /// # Errors
    /// [`MemoryError::Store`].
    ///
    /// # Cancel safety
    /// Reads have no effect.
    pub async fn originals(&self, summary: MessageId) -> Result<Vec<StoredMessage>, MemoryError> {
        let work = async {
            let inner = &self.inner;
            let wrote = |receipt: &FlushReceipt| {
                receipt.summary.as_ref().is_some_and(|written| written.id == summary)
            };
            let mut found = inner.newest_removal(wrote).await?;
            if found.is_none()
                && let Some(flush) = inner.flush_of_rewritten(summary).await?
            {
                found = inner.newest_removal(|receipt| receipt.id == flush).await?;
            }
            let Some((number, receipt)) = found else { return Ok(Vec::new()) };
            let all = Sequence::ZERO..=Sequence::new(u64::MAX);
            let mut messages = inner.removed(number, &all).await?;
            messages.retain(|message| receipt.summarized.contains(message.meta.sequence));
            Ok(messages)
        };
        operation!(&*self.inner, "originals", work).await
    }

    /// Undoes a flush, or a rewind, by the id of its [receipt](memory_core::store::FlushReceipt::id): the original
    /// messages return to their places, the originals of cleared tool results too, and the summary is removed, in one step.
    /// Messages that came since stay.
    ///
    /// After that no automatic flush begins until [`perform_flush`](Self::perform_flush), because it would remove the
    /// same messages again; [`health`](Self::health) reports this. A clear ends this
    /// state too. The undoing of a rewind begins it as well.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use memory_instance::{FlushMode, MemoryManager, MemoryResource};
    /// use memory_core::resource::ArchiveSettings;
    /// use memory_instance::Message;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let mut resource = MemoryResource::new("support", 400);
    /// resource.archive = ArchiveSettings::keep_for(Duration::from_hours(24));
    /// # let manager = MemoryManager::builder()
    /// #     .with_resource(resource)
    /// #     .with_flush_mode(FlushMode::Manual)
    /// #     .open("memory://")
    /// #     .await?;
    /// # let memory = manager.memory("support", "case-4711")?;
    /// for number in 0..40 {
    ///     memory.append(Message::user(format!("Message {number} of a long conversation"))).await?;
    /// }
    /// let receipt = memory.perform_flush().await?.ok_or("nothing was flushed")?;
    /// assert!(memory.len().await? < 40);
    /// memory.undo_flush(receipt.id).await?;
    /// assert_eq!(memory.len().await?, 40);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`StoreErrorKind::NotRestorable`](memory_core::store::StoreErrorKind::NotRestorable) with the reason: the
    /// messages are no longer in the archive, a later summary was built on this one or took a message whose tool results this
    /// one cleared (undo that flush first), such a message was replaced since, or the memory was cleared and the archive still has that clear. A clear that removed no message is not recorded.
    /// If a [system prompt](Self::ensure_system) would return while another one of its name is present:
    /// [`RestoreRefusal::PromptPresent`](memory_core::store::RestoreRefusal::PromptPresent). The undo of a removal with such a
    /// prompt takes an [exclusive turn](Self::exclusive), and has its errors too.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the flush undone or not, never half.
    pub async fn undo_flush(&self, receipt: Uuid) -> Result<Counters, MemoryError> {
        let work = async {
            self.writable(UNDO)?;
            let restore = move |write| Restore { write, receipt };
            if !self.inner.undo_returns_prompts(receipt).await? {
                return self.inner.write_new(None, restore).await;
            }
            // No other call sets a prompt meanwhile.
            let is_written = &AtomicBool::new(false);
            let turn = |session: Session| async move {
                let inner = &session.memory.inner;
                inner.check_prompts(receipt).await?;
                is_written.store(true, Ordering::Relaxed);
                inner.write_new(Some(session.scope.proof()), restore).await
            };
            let done = self.in_turn(turn).await;
            // A write records itself.
            if let Err(error) = &done
                && !is_written.load(Ordering::Relaxed)
            {
                let audited = || Some(Audited::all(AuditOperation::Undo));
                let mut audit = Audit::begin(&self.inner, audited);
                audit.record(AuditOutcome::NotApplied, Some(error.code()));
            }
            done
        };
        operation!(&*self.inner, "undo_flush", work).await
    }

    /// Removes all messages, flush receipts and the archive. As [`clear`](Self::clear), but nothing is kept. The receipt does
    /// not count messages that only the archive had.
    ///
    /// # Errors
    /// [`MemoryError`].
    ///
    /// # Cancel safety
    /// Dropping the future leaves the memory cleared or not.
    pub async fn purge(&self) -> Result<Cleared, MemoryError> {
        let work = async {
            self.writable("purge")?;
            self.inner.clear_measured(None, None, None).await
        };
        operation!(&*self.inner, "purge", work).await
    }
}

impl WriteRequest for Restore {
    type Answer = Counters;
    const OPERATION: StoreOperation = StoreOperation::Restore;

    fn audited(&self) -> Option<Audited> {
        Some(Audited::all(AuditOperation::Undo))
    }

    fn counters(answer: &Self::Answer) -> Option<&Counters> {
        Some(answer)
    }

    fn send<'a>(&'a self, inner: &'a Inner, lease: Option<LeaseProof>) -> Answering<'a, Counters> {
        inner.store().restore(&inner.key, Access { lease }, self)
    }
}

impl Inner {
    /// The number and the receipt of the newest removal in the archive with such a receipt.
    async fn newest_removal(
        &self,
        is_it: impl Fn(&FlushReceipt) -> bool,
    ) -> Result<Option<(u64, FlushReceipt)>, MemoryError> {
        let mut before = None;
        loop {
            let removals = self.store().removals(&self.key, before, AT_ONCE).await?;
            let Some(oldest) = removals.last() else { return Ok(None) };
            before = Some(oldest.number);
            let mut receipts =
                removals.into_iter().filter_map(|removal| Some((removal.number, removal.receipt?)));
            if let Some(found) = receipts.find(|(_, receipt)| is_it(receipt)) {
                return Ok(Some(found));
            }
        }
    }

    /// Whether the removal with this receipt is in the archive and has system prompts.
    async fn undo_returns_prompts(&self, receipt: Uuid) -> Result<bool, MemoryError> {
        let found = self.newest_removal(|found| found.id == receipt).await?;
        Ok(found.is_some_and(|(_, receipt)| !receipt.named.is_empty()))
    }

    /// Refuses to undo a removal with a system prompt whose name another one has now. Within an exclusive turn the answer
    /// stays true.
    async fn check_prompts(&self, receipt: Uuid) -> Result<(), MemoryError> {
        let removals = self.all_removals().await?;
        let receipt_of = |removal: &ArchivedRemoval| removal.receipt.as_ref().map(|it| it.id);
        let Some(index) = removals.iter().position(|one| receipt_of(one) == Some(receipt)) else {
            return Ok(());
        };
        let (later, from) = removals.split_at(index);
        let Some(removal) = from.first() else { return Ok(()) };
        let outline = self.outline().await?;
        let named = removal.receipt.iter().flat_map(|receipt| &receipt.named);
        let names: Vec<_> = named.filter_map(|id| name_of(*id)).collect();
        let has_name = |meta: &MessageMeta| name_of(meta.id).is_some_and(|it| names.contains(&it));
        if !outline.metas.iter().any(has_name) {
            return Ok(());
        }
        let present = |place| outline.metas.iter().find(|meta| meta.sequence == place);
        let refusal = removal.check_restorable(later.iter(), present);
        let refusal = refusal.err().unwrap_or(RestoreRefusal::PromptPresent);
        let kind = StoreErrorKind::NotRestorable(refusal);
        Err(StoreError::new(StoreOperation::Restore, kind).not_applied().at(&self.key).into())
    }

    /// All removals in the archive, newest first.
    pub(crate) async fn all_removals(&self) -> Result<Vec<ArchivedRemoval>, MemoryError> {
        let mut all: Vec<ArchivedRemoval> = Vec::new();
        loop {
            let before = all.last().map(|oldest| oldest.number);
            let removals = self.store().removals(&self.key, before, AT_ONCE).await?;
            if removals.is_empty() {
                return Ok(all);
            }
            all.extend(removals);
        }
    }

    /// The last place of the messages of all summaries that were written at a place and not undone, as far as receipts
    /// are kept.
    pub(crate) async fn end_of_summary(
        &self,
        place: Sequence,
        kept: &[FlushReceipt],
        present: &[MessageMeta],
    ) -> Result<Sequence, MemoryError> {
        let removals = self.all_removals().await?;
        let receipts = receipts_in_effect(kept, &removals, present);
        let written = receipts.iter().filter(|receipt| {
            receipt.summary.as_ref().is_some_and(|summary| summary.sequence == place)
        });
        let ends = written.filter_map(|receipt| Some(receipt.summarized.ranges().last()?.1));
        Ok(ends.fold(place, Sequence::max))
    }

    /// The size of the archive, if the resource keeps one, or if an earlier setting left one.
    pub(crate) fn archive_health(&self, removals: &[ArchivedRemoval]) -> Option<ArchiveHealth> {
        let mut health = ArchiveHealth::default();
        removals.iter().for_each(|removal| health.add(removal));
        let is_used = self.rules.archive.is_some() || !removals.is_empty();
        is_used.then_some(health)
    }

    /// The messages of a removal at these places.
    pub(crate) async fn removed(
        &self,
        removal: u64,
        places: &RangeInclusive<Sequence>,
    ) -> Result<Vec<StoredMessage>, MemoryError> {
        let mut found: Vec<StoredMessage> = Vec::new();
        let mut after = Sequence::new(places.start().number().saturating_sub(1));
        loop {
            let page = self.store().archived(&self.key, removal, after, AT_ONCE.into()).await?;
            let Some(last) = page.last().map(|last| last.meta.sequence) else { return Ok(found) };
            found.extend(page.into_iter().filter(|one| places.contains(&one.meta.sequence)));
            if last >= *places.end() {
                return Ok(found);
            }
            after = last;
        }
    }
}
