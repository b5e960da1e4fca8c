//! Writes that depend on the version of a memory: conditional appends, and taking back the newest messages.

use std::num::NonZeroUsize;

use memory_core::plan::Units;
use memory_core::store::{
    Appended, Counters, FLUSH_HELD, FlushReceipt, MessageMeta, Outline, Splice, StoreError,
    StoreErrorKind, StoreOperation, Version, receipts_in_effect,
};
use memory_core::{ContentType, Entry, Role, Sequence, StoredMessage};

use crate::audit::AuditOperation;
use crate::commit::Committed;
use crate::error::MemoryError;
use crate::flush;
use crate::ids::note_named;
use crate::inner::{ATTEMPTS, Inner};
use crate::instance::MemoryInstance;
use crate::telemetry::operation;
use crate::views::ViewState;

/// The outcome of a write that is applied only at an expected version, or of an update of metadata at an expected revision.
#[derive(Debug, Clone, PartialEq)]
#[must_use = "a conflict means that nothing was written"]
pub enum Conditional<T, C = Conflict> {
    /// The memory was at the expected version; the write was applied.
    Applied(T),
    /// Another write came after the expected version. Nothing was written.
    Conflict(C),
}

impl<T, C> Conditional<T, C> {
    /// The result, if the write was applied.
    #[must_use]
    pub fn applied(self) -> Option<T> {
        match self {
            Self::Applied(result) => Some(result),
            Self::Conflict(_) => None,
        }
    }
}

/// The messages and the version that came after an expected version.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Conflict {
    /// The version of the memory now.
    pub version: Version,
    /// The messages that were appended after the expected version and are still present, in order. Empty if the newest
    /// message was replaced or removed instead. After a server returned to an earlier state, messages may be missing
    /// here: read again.
    pub came: Vec<StoredMessage>,
}

/// Messages that were taken back.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Withdrawal {
    /// The memory's counters after it.
    pub counters: Counters,
    /// The record, with the places of the messages as `withdrawn`; `None` if there was no message to take back.
    pub receipt: Option<FlushReceipt>,
}

impl MemoryInstance {
    /// The version of the memory now. A window that is sent to a model has its own
    /// [`version`](crate::ContextWindow::version).
    ///
    /// # Errors
    /// [`MemoryError::Store`].
    ///
    /// # Cancel safety
    /// Reads have no effect.
    pub async fn version(&self) -> Result<Version, MemoryError> {
        let work = async {
            let found = self.inner.backend.views.find(&self.inner.key);
            let cursor = match found.state {
                ViewState::View(..) => self.inner.refresh(found).await?.cursor(),
                ViewState::Missing => {
                    let store = self.inner.store();
                    store.read_before(&self.inner.key, None, NonZeroUsize::MIN).await?.cursor
                }
                ViewState::Excluded => {
                    // Without the texts. A memory that changed may have a view.
                    let outline = self.inner.outline().await?;
                    self.inner.backend.views.observe(&self.inner.key, &outline.head);
                    outline.cursor()
                }
            };
            Ok(Version::at_end(cursor))
        };
        operation!(&*self.inner, "version", work).await
    }

    /// Appends a batch if no message was appended after the expected version, and the newest message then is still
    /// the newest: compare-and-append. A flush or the replacement of an older message is no conflict.
    ///
    /// This suits a turn around a model call without a lease: the model reads a window, and its answer is appended only
    /// if no other message came meanwhile.
    ///
    /// # Examples
    ///
    /// ```
    /// # use memory_instance::{MemoryManager, MemoryResource};
    /// use memory_instance::{Conditional, Message};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let resource = MemoryResource::new("support", 8_000);
    /// # let manager = MemoryManager::builder().with_resource(resource).open("memory://").await?;
    /// # let memory = manager.memory("support", "case-4711")?;
    /// # async fn ask_model(_: &memory_instance::Request) -> Message { Message::assistant("In Oslo.") }
    /// memory.append(Message::user("Where is my parcel?")).await?;
    /// let answered = loop {
    ///     let window = memory.context(4_000).await?;
    ///     let answer = ask_model(window.request()).await;
    ///     match memory.append_if(window.version(), [answer]).await? {
    ///         Conditional::Applied(appended) => break appended,
    ///         // Another agent or the user wrote meanwhile: ask again, with their messages.
    ///         Conditional::Conflict(conflict) => println!("{} new messages", conflict.came.len()),
    ///     }
    /// };
    /// assert_eq!(answered.counters.present.messages, 2);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`append`](Self::append). The batch of [`MemoryError::into_prepared`] keeps its expected version: sent again,
    /// it returns its first result if it was applied, whatever came later. If it was not applied and the version is
    /// over, [`send`](Self::send) fails with
    /// [`StoreErrorKind::Conflict`](memory_core::store::StoreErrorKind::Conflict).
    ///
    /// # Cancel safety
    /// As [`append`](Self::append).
    pub async fn append_if<E: Into<Entry>>(
        &self,
        expected: Version,
        entries: impl IntoIterator<Item = E>,
    ) -> Result<Conditional<Appended>, MemoryError> {
        let work = async {
            self.writable("append to")?;
            let batch = self.inner.prepare_messages(entries)?;
            match self.append_prepared(batch, Some(expected), None).await {
                Ok(appended) => {
                    flush::after(&self.inner, &appended).await;
                    Ok(Conditional::Applied(appended))
                }
                Err(error) if error.store_kind() == Some(&StoreErrorKind::Conflict) => {
                    Ok(Conditional::Conflict(self.inner.conflict(expected).await?))
                }
                Err(error) => Err(error),
            }
        };
        operation!(&*self.inner, "append_if", work).await
    }

    /// Takes back all messages after a place, if the memory is still at the expected version. A tool call and its
    /// results are taken back together, so a call before the place is taken back too if one of its results is after it. The
    /// messages are counted as withdrawn; their places are not used again.
    ///
    /// # Examples
    ///
    /// ```
    /// # use memory_instance::{MemoryManager, MemoryResource};
    /// use memory_instance::{Conditional, Message, Sequence};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let resource = MemoryResource::new("support", 8_000);
    /// # let manager = MemoryManager::builder().with_resource(resource).open("memory://").await?;
    /// # let memory = manager.memory("support", "case-4711")?;
    /// memory.append_all(["one", "two", "three"].map(Message::user)).await?;
    /// let version = memory.version().await?;
    /// let withdrawal = memory.rewind(Sequence::new(1), version).await?.applied().ok_or("conflict")?;
    /// assert_eq!(withdrawal.counters.withdrawn, 2);
    /// assert_eq!(memory.len().await?, 1);
    /// // The version is over.
    /// assert!(memory.rewind(Sequence::new(0), version).await?.applied().is_none());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`StoreErrorKind::Invalid`] for a place within the messages of a summary, which names where to rewind to.
    /// Otherwise [`MemoryError`]. After an error with an unknown effect, look for the withdrawal in
    /// [`receipts`](Self::receipts): a second call with the same version reports a conflict if the first was applied.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the messages taken back or not, never some of them.
    pub async fn rewind(
        &self,
        to: Sequence,
        expected: Version,
    ) -> Result<Conditional<Withdrawal>, MemoryError> {
        let work = async {
            self.writable("rewind")?;
            self.inner.rewind(to, expected).await
        };
        operation!(&*self.inner, "rewind", work).await
    }

    /// Takes back the newest turn, if the memory is still at the expected version: the newest message of the user and
    /// all messages after it, or the newest message and its tool calls if there is none of the user. If a flush has
    /// removed that message of the user, what is left of the turn. Use it to ask the model again.
    ///
    /// # Examples
    ///
    /// ```
    /// # use memory_instance::{MemoryManager, MemoryResource};
    /// use memory_instance::Message;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let resource = MemoryResource::new("support", 8_000);
    /// # let manager = MemoryManager::builder().with_resource(resource).open("memory://").await?;
    /// # let memory = manager.memory("support", "case-4711")?;
    /// memory.append_all([Message::user("Hello"), Message::assistant("Good morning")]).await?;
    /// memory.append_all([Message::user("Who are you?"), Message::assistant("A parrot")]).await?;
    /// let withdrawn = memory.pop_turn(memory.version().await?).await?.applied();
    /// assert!(withdrawn.is_some());
    /// assert_eq!(memory.last(1).await?[0].message.text(), "Good morning");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`MemoryError`].
    ///
    /// # Cancel safety
    /// As [`rewind`](Self::rewind).
    pub async fn pop_turn(
        &self,
        expected: Version,
    ) -> Result<Conditional<Withdrawal>, MemoryError> {
        let work = async {
            self.writable("rewind")?;
            let first = self.inner.newest_turn().await?;
            // If what was read is older than the expected version or newer, the rewind reports a conflict.
            self.inner.rewind(Sequence::new(first.number().saturating_sub(1)), expected).await
        };
        operation!(&*self.inner, "pop_turn", work).await
    }
}

/// Whether a turn begins with this message.
fn begins_turn(StoredMessage { meta, message, .. }: &StoredMessage) -> bool {
    *message.role() == Role::User
        && meta.link.results.is_empty()
        && !meta.summary
        && meta.content_type != ContentType::Reminder
}

/// The messages that a search for the newest turn reads first. Each further read is twice as long.
const TURN_MESSAGES: NonZeroUsize = NonZeroUsize::MIN.saturating_add(31);

impl Inner {
    /// The place at which the newest turn begins: the newest message of the user or, without one, the newest message.
    /// If a flush removed the beginning of the turn, the place after the removed messages. Reads backward from the
    /// newest message.
    async fn newest_turn(&self) -> Result<Sequence, MemoryError> {
        let (mut before, mut limit) = (None, TURN_MESSAGES);
        // The message after the one that is looked at.
        let (mut later, mut attempts) = (None, 1);
        let mut newest = None;
        loop {
            let page = self.page_before(before, limit).await?;
            if page.restarted {
                // Messages were removed: it begins at the newest message again.
                attempts += 1;
                (later, newest) = (None, None);
            }
            if attempts > ATTEMPTS {
                return Err(self.contended("rewind"));
            }
            for stored in page.messages.iter().rev() {
                let place = stored.meta.sequence;
                newest = newest.or(Some(place));
                if let Some(later) = later
                    && (stored.meta.summary || self.is_flushed(place, later).await?)
                {
                    return Ok(later);
                }
                if begins_turn(stored) {
                    return Ok(place);
                }
                later = Some(place);
            }
            if !page.more {
                return Ok(newest.unwrap_or_default());
            }
            (before, limit) = (Some(page.cursor), limit.saturating_add(limit.get()));
        }
    }

    /// Whether a flush removed messages between these two places and was not undone, as far as receipts are kept.
    async fn is_flushed(&self, first: Sequence, last: Sequence) -> Result<bool, MemoryError> {
        if first.plus(1) >= last {
            return Ok(false);
        }
        let removed_some = |receipts: &[FlushReceipt]| {
            let mut removed = receipts.iter().flat_map(|it| [&it.summarized, &it.evicted]);
            removed.any(|set| set.ranges().iter().any(|(from, to)| *from < last && *to > first))
        };
        let receipts = self.store().receipts(&self.key).await?;
        if !removed_some(&receipts) {
            return Ok(false);
        }
        let outline = self.outline().await?;
        Ok(removed_some(&receipts_in_effect(&receipts, [], &outline.metas)))
    }

    /// The messages and the version that came after this one.
    pub(crate) async fn conflict(&self, expected: Version) -> Result<Conflict, MemoryError> {
        let page = self.page(None, None).await?;
        let version = Version::at_end(page.cursor);
        let after = expected.cursor().sequence;
        let came = page.messages.into_iter().filter(|came| came.meta.sequence > after).collect();
        Ok(Conflict { version, came })
    }

    async fn rewind(
        &self,
        to: Sequence,
        expected: Version,
    ) -> Result<Conditional<Withdrawal>, MemoryError> {
        let id = self.backend.ids.uuid(self.backend.clock.now_millis());
        for _ in 0..ATTEMPTS {
            let outline = self.outline().await?;
            let newest = outline.metas.last().map(MessageMeta::newest);
            if !expected.is_current(&outline.head, newest) {
                return Ok(Conditional::Conflict(self.conflict(expected).await?));
            }
            let withdrawn = self.units_after(&outline.metas, to);
            if withdrawn.is_empty() {
                let counters = outline.head.counters;
                return Ok(Conditional::Applied(Withdrawal { counters, receipt: None }));
            }
            self.check_summaries(&outline, to).await?;
            let splice = self.withdrawal(&outline, id, withdrawn);
            let waits = self.rules.lock.wait_timeout();
            match self.commit(AuditOperation::Rewind, &splice, waits).await? {
                Committed::Applied(counters) => {
                    let receipt = splice.receipt;
                    return Ok(Conditional::Applied(Withdrawal { counters, receipt }));
                }
                Committed::Outdated => {}
            }
        }
        Err(self.contended("rewind"))
    }

    /// Refuses a place within the messages of a summary, because the summary also repeats those after the place.
    async fn check_summaries(&self, outline: &Outline, to: Sequence) -> Result<(), MemoryError> {
        let after = outline.metas.iter().filter(|meta| meta.sequence > to).count() as u64;
        let summaries = outline.metas.iter().filter(|meta| meta.summary && meta.sequence <= to);
        let summaries: Vec<_> = summaries.map(|meta| meta.sequence).collect();
        if to.plus(after) >= outline.head.last || summaries.is_empty() {
            return Ok(());
        }
        let kept = self.store().receipts(&self.key).await?;
        for summary in summaries {
            let last = self.end_of_summary(summary, &kept, &outline.metas).await?;
            if last > to {
                let problem = format!(
                    "the summary at {summary} covers messages up to {last}; rewind to {last} or later, or to before {summary}, or undo that flush first"
                );
                let error =
                    StoreError::new(StoreOperation::Splice, StoreErrorKind::Invalid(problem));
                return Err(error.not_applied().at(&self.key).into());
            }
        }
        Ok(())
    }

    /// The places after this one, and those of the units that they belong to.
    fn units_after(&self, metas: &[MessageMeta], to: Sequence) -> Vec<Sequence> {
        let units = Units::group(metas, self.backend.now(), self.rules.policy.open_call_timeout);
        let mut places: Vec<_> = units
            .iter()
            .filter(|unit| units.members(unit).any(|meta| meta.sequence > to))
            .flat_map(|unit| units.members(unit).map(|meta| meta.sequence))
            .collect();
        places.sort_unstable();
        places
    }

    fn withdrawal(&self, outline: &Outline, id: uuid::Uuid, places: Vec<Sequence>) -> Splice {
        let before = outline.head.counters.present;
        let is_withdrawn = |meta: &&MessageMeta| places.binary_search(&meta.sequence).is_ok();
        let tokens = outline.metas.iter().filter(is_withdrawn).map(|meta| u64::from(meta.tokens));
        let mut receipt = FlushReceipt::new(id, "rewind", self.backend.now());
        receipt.tokens_before = before.tokens;
        receipt.tokens_after = before.tokens.saturating_sub(tokens.sum());
        receipt.messages_before = before.messages;
        receipt.messages_after = before.messages.saturating_sub(places.len() as u64);
        receipt.withdrawn = places.iter().copied().collect();
        note_named(&mut receipt, &outline.metas);
        let archive = self.rules.archive;
        let splice =
            Splice { withdrawn: places, receipt: Some(receipt), archive, ..Splice::of(outline) };
        // An undone flush stays held.
        let next_flush_at = outline.head.next_flush_at.filter(|mark| *mark == FLUSH_HELD);
        Splice { next_flush_at, ..splice }.weighed(&outline.metas)
    }
}
