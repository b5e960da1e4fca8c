//! Changes of single messages in their places.

use memory_core::lease::LeaseProof;
use memory_core::store::{Counters, MessageId, MessageMeta, NewMessage, Replace, StoreErrorKind};
use memory_core::{ContentType, Entry, Priority, Sequence, StoredMessage};
use serde::Serialize;

use crate::erase::ForgetView;
use crate::error::MemoryError;
use crate::exclusions::Exclusions;
use crate::exclusive::Session;
use crate::flush;
use crate::inner::{ATTEMPTS, Inner};
use crate::instance::MemoryInstance;
use crate::telemetry::operation;

const OPERATION: &str = "replace a message of";

/// The result of [`MemoryInstance::replace`], [`set_priority`](MemoryInstance::set_priority) and
/// [`set_content_type`](MemoryInstance::set_content_type).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Edited {
    /// The place of the message.
    pub sequence: Sequence,
    /// The id of the message that was there.
    pub replaced: MessageId,
    /// The id of the message that is there now. It is the same if nothing had to be changed.
    pub id: MessageId,
    /// The counters of the memory after the change.
    pub counters: Counters,
    /// The number of tokens by which the critical messages exceed the budget, if they do; see
    /// [`Appended::critical_over_budget`](memory_core::store::Appended::critical_over_budget).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub critical_over_budget: Option<u64>,
}

/// A change of one message.
#[derive(Debug, Clone)]
enum Edit {
    Message(NewMessage, Option<Priority>, Option<ContentType>),
    /// The stub of a message that is excluded.
    Stub(NewMessage, Option<Priority>),
    Priority(Priority),
    ContentType(ContentType),
}

impl MemoryInstance {
    /// Replaces the message at a place by another one, for example to remove a secret from its text. The new message
    /// keeps the place, the time, and, unless the entry sets them, the priority and content type of the old one. It
    /// must make and answer the same tool calls. Returns `None` if no message is at the place now.
    ///
    /// A new message that its entry or the privacy policy [excludes](Entry::do_not_persist) is refused, because its place
    /// would be empty: [`erase`](Self::erase) the old one instead. If it makes or answers tool calls, its
    /// [stub](memory_core::Message::withheld) takes the place.
    ///
    /// Views of this process are dropped at once, those of other processes at their next read. The old message is not
    /// kept in the archive; [`erase`](Self::erase) also reaches earlier originals of the place there. The record of
    /// the change is the message's new id.
    ///
    /// # Examples
    ///
    /// ```
    /// # use memory_instance::{MemoryManager, MemoryResource};
    /// use memory_instance::{Message, Sequence};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let resource = MemoryResource::new("support", 8_000);
    /// # let manager = MemoryManager::builder().with_resource(resource).open("memory://").await?;
    /// # let memory = manager.memory("support", "case-4711")?;
    /// memory.append(Message::user("My card is 4929 1111")).await?;
    /// let edited = memory.replace(Sequence::new(1), Message::user("My card is [removed]")).await?;
    /// assert!(edited.is_some());
    /// assert_eq!(memory.last(1).await?[0].message.text(), "My card is [removed]");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`StoreErrorKind::Invalid`] for a message with other tool calls or results; [`MemoryError::Excluded`] for one that
    /// must not be stored; [`MemoryError::TooLarge`] and [`MemoryError::Limit`] as for an append; [`MemoryError::Contended`] if other processes replaced the message
    /// during every attempt. After an error with an unknown effect, replace again.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the message replaced or not.
    #[doc(alias = "redact")]
    pub async fn replace(
        &self,
        place: Sequence,
        entry: impl Into<Entry> + Send,
    ) -> Result<Option<Edited>, MemoryError> {
        let work = async {
            self.writable(OPERATION)?;
            let edit = self.inner.new_message(entry.into())?;
            self.edit(place, edit).await
        };
        operation!(&*self.inner, "replace", work).await
    }

    /// Sets the priority of the message at a place. Returns `None` if no message is at the place now.
    ///
    /// The message gets a new id, because readers must not confuse its settings with the old ones. A summary stays that of
    /// its flush, which can be undone as before.
    ///
    /// # Examples
    ///
    /// ```
    /// # use memory_instance::{MemoryManager, MemoryResource};
    /// use memory_instance::{Message, Priority, Sequence};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let resource = MemoryResource::new("support", 8_000);
    /// # let manager = MemoryManager::builder().with_resource(resource).open("memory://").await?;
    /// # let memory = manager.memory("support", "case-4711")?;
    /// memory.append(Message::user("I am allergic to nuts")).await?;
    /// // No flush removes it from now on.
    /// memory.set_priority(Sequence::new(1), Priority::CRITICAL).await?;
    /// assert_eq!(memory.last(1).await?[0].meta.priority, Some(Priority::CRITICAL));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`replace`](Self::replace).
    ///
    /// # Cancel safety
    /// As [`replace`](Self::replace).
    #[doc(alias = "pin")]
    pub async fn set_priority(
        &self,
        place: Sequence,
        priority: Priority,
    ) -> Result<Option<Edited>, MemoryError> {
        let work = async {
            self.writable(OPERATION)?;
            self.edit(place, Edit::Priority(priority)).await
        };
        operation!(&*self.inner, "set_priority", work).await
    }

    /// Sets the content type of the message at a place. A priority that followed from the old type becomes that of
    /// the new one; an explicit priority stays. Returns `None` if no message is at the place now.
    ///
    /// # Errors
    /// As [`replace`](Self::replace); [`MemoryError::Limit`] for one custom content type too many;
    /// [`MemoryError::Excluded`] for a type that the privacy policy excludes.
    ///
    /// # Cancel safety
    /// As [`replace`](Self::replace).
    pub async fn set_content_type(
        &self,
        place: Sequence,
        content_type: ContentType,
    ) -> Result<Option<Edited>, MemoryError> {
        let work = async {
            self.writable(OPERATION)?;
            if self.inner.excludes_type(&content_type) {
                return Err(self.inner.all_excluded(OPERATION));
            }
            let content_type = self.inner.persistable_type(content_type);
            self.edit(place, Edit::ContentType(content_type)).await
        };
        operation!(&*self.inner, "set_content_type", work).await
    }

    async fn edit(&self, place: Sequence, edit: Edit) -> Result<Option<Edited>, MemoryError> {
        let edited = self.inner.edit(place, &edit, None).await?;
        if edited.as_ref().is_some_and(|edited| self.inner.are_due(&edited.counters, None)) {
            Box::pin(flush::when_due(&self.inner)).await;
        }
        Ok(edited)
    }
}

impl Session {
    /// As [`MemoryInstance::replace`], within the turn.
    ///
    /// # Errors
    /// As [`MemoryInstance::replace`]; [`MemoryError::is_fenced`] if the lease is lost.
    ///
    /// # Cancel safety
    /// As [`MemoryInstance::replace`].
    pub async fn replace(
        &self,
        place: Sequence,
        entry: impl Into<Entry> + Send,
    ) -> Result<Option<Edited>, MemoryError> {
        let work = async {
            self.still_on(OPERATION)?;
            let edit = self.memory.inner.new_message(entry.into())?;
            let edited = self.memory.inner.edit(place, &edit, Some(self.scope.proof())).await?;
            if let Some(edited) = &edited {
                self.note_counters(&edited.counters);
            }
            Ok(edited)
        };
        operation!(&*self.memory.inner, "replace", work).await
    }
}

impl Inner {
    fn new_message(&self, entry: Entry) -> Result<Edit, MemoryError> {
        let (priority, has_type) = (entry.priority, entry.content_type.is_some());
        let (message, exclusions) = self.prepare_one(OPERATION, entry)?;
        // As it was redacted.
        let content_type = has_type.then(|| message.content_type.clone());
        Ok(if exclusions.is_empty() {
            Edit::Message(message, priority, content_type)
        } else {
            Edit::Stub(message, priority)
        })
    }

    async fn edit(
        &self,
        place: Sequence,
        edit: &Edit,
        lease: Option<LeaseProof>,
    ) -> Result<Option<Edited>, MemoryError> {
        for _ in 0..ATTEMPTS {
            let outline = self.outline().await?;
            let fetched = self.store().fetch(&self.key, outline.cursor(), &[place]).await;
            let found = match fetched {
                Ok(found) => found.into_iter().next(),
                Err(error) if error.kind() == &StoreErrorKind::Conflict => continue,
                Err(error) => return Err(error.into()),
            };
            let Some(old) = found else { return Ok(None) };
            let edited = |id, counters: Counters| Edited {
                sequence: place,
                replaced: old.meta.id,
                id,
                critical_over_budget: self.critical_over_budget(&counters),
                counters,
            };
            let new = self.edited(&old, edit);
            if matches!(edit, Edit::Message(..)) && self.excludes_type(&new.content_type) {
                return Err(self.all_excluded(OPERATION));
            }
            if new.message == old.message && new.class() == old.meta.class() {
                return Ok(Some(edited(old.meta.id, outline.head.counters)));
            }
            let (new, none) = ([new], Exclusions::default());
            if let Err(reason) = self.check_kinds(&new, &none) {
                self.check_kinds_again(&new, &none, reason).await?;
            }
            let [new] = new;
            // Readers of this process must not return the old text again, also if the caller drops the future.
            let _forget = ForgetView(&self.backend.views, &self.key);
            match self.replace(&old.meta, &new, lease).await {
                Ok(counters) => {
                    self.kinds.learn(&counters);
                    return Ok(Some(edited(new.id, counters)));
                }
                Err(error) if error.store_kind() == Some(&StoreErrorKind::Conflict) => {}
                Err(error) => return Err(error),
            }
        }
        Err(self.contended(OPERATION))
    }

    /// The message after the edit.
    fn edited(&self, old: &StoredMessage, edit: &Edit) -> NewMessage {
        let StoredMessage { meta, message, .. } = old;
        let policy = &self.rules.policy;
        let kept = || {
            let now = self.backend.now();
            let millis = u64::try_from(now.as_millisecond()).unwrap_or_default();
            NewMessage {
                // A system prompt keeps its name.
                id: self.backend.ids.renewed(meta.id, millis),
                message: message.clone(),
                tokens: meta.tokens,
                priority: meta.priority,
                content_type: meta.content_type.clone(),
                // The age of an open call is counted from here.
                created_at: meta.created_at,
            }
        };
        let retyped = |content_type: &ContentType| {
            let is_derived = meta.priority.is_none()
                || meta.priority == Some(policy.priority_of(&meta.content_type));
            let priority = match content_type {
                _ if !is_derived => meta.priority,
                ContentType::Conversation => None,
                fixed => Some(policy.priority_of(fixed)),
            };
            (priority, content_type.clone())
        };
        match edit {
            Edit::Priority(priority) => NewMessage { priority: Some(*priority), ..kept() },
            Edit::ContentType(content_type) => {
                let (priority, content_type) = retyped(content_type);
                NewMessage { priority, content_type, ..kept() }
            }
            Edit::Stub(new, priority) => NewMessage {
                priority: priority.or(meta.priority),
                content_type: meta.content_type.clone(),
                created_at: meta.created_at,
                ..new.clone()
            },
            Edit::Message(new, priority, content_type) => {
                let kept_class = || (meta.priority, meta.content_type.clone());
                let (derived, content_type) =
                    content_type.as_ref().map_or_else(kept_class, retyped);
                let priority = priority.or(derived);
                let created_at = meta.created_at;
                NewMessage { priority, content_type, created_at, ..new.clone() }
            }
        }
    }

    /// Replaces a message, with a free writer.
    pub(crate) async fn replace(
        &self,
        old: &MessageMeta,
        new: &NewMessage,
        lease: Option<LeaseProof>,
    ) -> Result<Counters, MemoryError> {
        let (sequence, replaced) = (old.sequence, old.id);
        let request = |write| Replace { write, sequence, replaced, message: new.clone() };
        self.write_new(lease, request).await
    }
}
