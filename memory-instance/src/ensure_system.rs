//! A system prompt that is stored once, even if many agents set it.

use std::sync::Arc;

use memory_core::store::{Counters, MessageMeta, NewMessage, StoreErrorKind};
use memory_core::{Entry, Message, Priority, Sequence};
use serde::Serialize;

use crate::error::MemoryError;
use crate::exclusions::{Batch, Exclusions};
use crate::exclusive::{ExclusiveError, Session};
use crate::ids::name_of;
use crate::inner::{ATTEMPTS, Inner};
use crate::instance::MemoryInstance;
use crate::telemetry::operation;

const OPERATION: &str = "ensure the system prompt of";

/// The result of [`MemoryInstance::ensure_system`]. In JSON: `outcome`, `sequence`, and
/// `critical_over_budget` where there is something to report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct EnsuredSystem {
    /// The change that was made.
    pub outcome: EnsureOutcome,
    /// The sequence number of the prompt.
    pub sequence: Sequence,
    /// The number of tokens by which the critical messages exceed the budget, if they do; see
    /// [`Appended::critical_over_budget`](memory_core::store::Appended::critical_over_budget).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub critical_over_budget: Option<u64>,
}

/// The change that [`MemoryInstance::ensure_system`] made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum EnsureOutcome {
    /// None: the prompt was already stored with this text.
    Unchanged,
    /// No prompt had this name, and it was appended.
    Appended,
    /// The prompt with this name had another text, and was replaced in its place.
    Replaced,
}

impl MemoryInstance {
    /// Ensures that exactly one system prompt is stored under this name, with this text. It is appended if there
    /// is none and replaced in its place if its text differs; if the text is the same, nothing is written. Call
    /// it at each start of a program, instead of [`append`](Self::append), which would add a prompt each time.
    /// The prompt is critical, whatever the resource configures for system prompts, so no flush removes it. A
    /// [`clear`](Self::clear) removes it, and the next call appends it again.
    ///
    /// Any number of tasks and processes may call this at once: one prompt of each name is stored, with the text
    /// of the last call. The undo of a removal with a prompt is refused while another one of its name is present, unless an earlier version removed it
    /// ([`RestoreRefusal::PromptPresent`](memory_core::store::RestoreRefusal::PromptPresent)). If nothing has to be written, the call makes two reads, of all messages' metadata and of
    /// the prompt, and does not wait. Otherwise it takes an [exclusive turn](Self::exclusive). Within a turn use
    /// [`Session::ensure_system`].
    ///
    /// The name is not stored: it determines a part of the message's id. A copy of the message that is appended
    /// or imported has another id, and is treated like any other message.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), memory_instance::MemoryError> {
    /// use memory_instance::{EnsureOutcome, MemoryManager, MemoryResource};
    ///
    /// let resource = MemoryResource::new("support", 8_000);
    /// let manager = MemoryManager::builder().with_resource(resource).open("memory://").await?;
    /// let memory = manager.memory("support", "case-4711")?;
    /// for expected in [EnsureOutcome::Appended, EnsureOutcome::Unchanged] {
    ///     let ensured = memory.ensure_system("agent", "You are a travel agent.").await?;
    ///     assert_eq!(ensured.outcome, expected);
    /// }
    /// memory.ensure_system("agent", "You are a patient travel agent.").await?;
    /// assert_eq!(memory.len().await?, 1);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`append`](Self::append) and [`exclusive`](Self::exclusive); [`MemoryError::Excluded`] if the privacy policy
    /// excludes system prompts; [`MemoryError::LeaseLost`] if the turn lost its lease, [`MemoryError::OwnTurn`] within a
    /// turn of this memory. Calling it again is always safe.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the prompt unchanged or as wanted, and stored once.
    pub async fn ensure_system(
        &self,
        name: &str,
        prompt: impl Into<String>,
    ) -> Result<EnsuredSystem, MemoryError> {
        let work = async {
            self.writable(OPERATION)?;
            self.inner.not_in_own_turn(OPERATION)?;
            let wanted = self.inner.system_prompt(name, prompt.into())?;
            if let Found::Same(ensured) = self.inner.find_system(&wanted).await? {
                return Ok(ensured);
            }
            self.in_turn(|session: Session| async move { session.ensure(&wanted).await }).await
        };
        operation!(&*self.inner, "ensure_system", work).await
    }

    /// Runs an exclusive turn that reads and then writes once.
    pub(crate) async fn in_turn<T, F, Fut>(&self, turn: F) -> Result<T, MemoryError>
    where
        F: FnOnce(Session) -> Fut,
        Fut: Future<Output = Result<T, MemoryError>>,
    {
        match self.exclusive(turn).await {
            Ok(done) => done,
            Err(ExclusiveError::Begin(error)) => Err(*error),
            // The store checked the token of each write, so the turn's result is valid.
            Err(ExclusiveError::Lost { output: Some(done), .. }) => done,
            Err(ExclusiveError::Lost { reason, .. }) => {
                Err(MemoryError::LeaseLost { key: self.inner.key.clone(), reason })
            }
        }
    }
}

impl Session {
    /// As [`MemoryInstance::ensure_system`], within the turn.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    ///
    /// # Cancel safety
    /// As [`MemoryInstance::ensure_system`].
    pub async fn ensure_system(
        &self,
        name: &str,
        prompt: impl Into<String>,
    ) -> Result<EnsuredSystem, MemoryError> {
        let work = async {
            self.still_on(OPERATION)?;
            let wanted = self.memory.inner.system_prompt(name, prompt.into())?;
            self.ensure(&wanted).await
        };
        operation!(&*self.memory.inner, "ensure_system", work).await
    }

    /// The lease excludes other writers, so a missing prompt is appended once.
    async fn ensure(&self, wanted: &NewMessage) -> Result<EnsuredSystem, MemoryError> {
        let inner = &self.memory.inner;
        let lease = self.scope.proof();
        for _ in 0..ATTEMPTS {
            self.still_on(OPERATION)?;
            let old = match inner.find_system(wanted).await? {
                Found::Same(ensured) => return Ok(ensured),
                Found::Other(old) => old,
                Found::Missing => {
                    let messages = Arc::from([wanted.clone()]);
                    let batch = Batch { messages, exclusions: Exclusions::default() };
                    let appended = self.memory.append_prepared(batch, None, Some(lease)).await?;
                    self.note(&appended);
                    let Some(sequence) = appended.outcome.first() else { continue };
                    let critical_over_budget = appended.critical_over_budget;
                    let outcome = EnsureOutcome::Appended;
                    return Ok(EnsuredSystem { outcome, sequence, critical_over_budget });
                }
            };
            match inner.replace(&old, wanted, Some(lease)).await {
                Ok(counters) => {
                    self.note_counters(&counters);
                    return Ok(inner.ensured(EnsureOutcome::Replaced, old.sequence, &counters));
                }
                // A store whose leases are elsewhere may have returned to an earlier state meanwhile.
                Err(error) if error.store_kind() == Some(&StoreErrorKind::Conflict) => {}
                Err(error) => return Err(error),
            }
        }
        Err(inner.contended(OPERATION))
    }
}

/// The message stored under the name of a system prompt.
enum Found {
    Missing,
    Same(EnsuredSystem),
    Other(Box<MessageMeta>),
}

impl Inner {
    /// The prompt as a message whose id contains the hash of its name.
    fn system_prompt(&self, name: &str, prompt: String) -> Result<NewMessage, MemoryError> {
        let entry = Entry::new(Message::system(prompt)).with_priority(Priority::CRITICAL);
        let (message, _) = self.prepare_one(OPERATION, entry)?;
        let id = self.backend.ids.named("system prompt", name);
        Ok(NewMessage { id, ..message })
    }

    async fn find_system(&self, wanted: &NewMessage) -> Result<Found, MemoryError> {
        for _ in 0..ATTEMPTS {
            let outline = self.outline().await?;
            let name = name_of(wanted.id);
            let Some(meta) = outline.metas.iter().find(|meta| name_of(meta.id) == name) else {
                return Ok(Found::Missing);
            };
            let fetched = self.store().fetch(&self.key, outline.cursor(), &[meta.sequence]).await;
            let found = match fetched {
                Ok(found) => found,
                Err(error) if error.kind() == &StoreErrorKind::Conflict => continue,
                Err(error) => return Err(error.into()),
            };
            // A prompt that cannot be read is replaced.
            let is_same = found.first().is_some_and(|found| found.message == wanted.message)
                && meta.class() == wanted.class();
            return Ok(if is_same {
                let counters = &outline.head.counters;
                Found::Same(self.ensured(EnsureOutcome::Unchanged, meta.sequence, counters))
            } else {
                Found::Other(Box::new(meta.clone()))
            });
        }
        Err(self.contended(OPERATION))
    }

    fn ensured(
        &self,
        outcome: EnsureOutcome,
        sequence: Sequence,
        counters: &Counters,
    ) -> EnsuredSystem {
        let critical_over_budget = self.critical_over_budget(counters);
        EnsuredSystem { outcome, sequence, critical_over_budget }
    }
}
