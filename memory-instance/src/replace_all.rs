//! Replacing all messages of a memory in one step.

use std::sync::Arc;

use memory_core::Entry;
use memory_core::lease::LeaseProof;
use memory_core::store::{
    Access, Append, Counters, NewMessage, ReplaceAll, ReplacedAll, StoreErrorKind, StoreOperation,
    Version,
};

use crate::asking::Answering;
use crate::audit::{AuditOperation, Audited};
use crate::erase::ForgetView;
use crate::error::MemoryError;
use crate::exclusions::Batch;
use crate::flush;
use crate::inner::Inner;
use crate::instance::MemoryInstance;
use crate::telemetry::operation;
use crate::version::Conditional;
use crate::write::WriteRequest;

const OPERATION: &str = "replace all messages of";

impl MemoryInstance {
    /// Replaces all messages by a batch, in one step: no reader sees the memory empty or with both. The old messages
    /// are counted as cleared, and kept if the resource has an [archive](memory_core::MemoryResource::archive). With an
    /// expected version, nothing is replaced if another message came meanwhile. Views of this process are dropped at
    /// once, those of other processes at their next read. The [receipt](ReplacedAll::receipt) is that of a
    /// [`clear`](Self::clear).
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
    /// memory.append_all(["Hello", "Where is my parcel?"].map(Message::user)).await?;
    /// let version = memory.version().await?;
    /// let digest = [Message::user("A customer asks for a parcel.")];
    /// match memory.replace_all(digest, Some(version)).await? {
    ///     Conditional::Applied(replaced) => {
    ///         assert_eq!(replaced.appended.counters.present.messages, 1);
    ///         assert_eq!(replaced.receipt.map(|receipt| receipt.messages), Some(2));
    ///     }
    ///     Conditional::Conflict(conflict) => println!("{} new messages", conflict.came.len()),
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`append_all`](Self::append_all), also for an empty batch; [`MemoryError::Excluded`] if every message is
    /// [excluded](Entry::do_not_persist). [`clear`](Self::clear) removes all messages.
    /// After an error with an unknown effect, read the memory before trying again with the same version: if the first call
    /// was applied, it is over.
    ///
    /// # Cancel safety
    /// Dropping the future leaves all old messages or all new ones.
    #[doc(alias = "write")]
    pub async fn replace_all<E: Into<Entry>>(
        &self,
        entries: impl IntoIterator<Item = E>,
        expected: Option<Version>,
    ) -> Result<Conditional<ReplacedAll>, MemoryError> {
        let work = async {
            self.writable(OPERATION)?;
            let inner = &self.inner;
            let Batch { messages, exclusions } = inner.prepare_messages(entries)?;
            if messages.is_empty() {
                return Err(inner.all_excluded(OPERATION));
            }
            // No custom type of the old messages is left.
            inner.check_kinds_alone(&messages, &exclusions)?;
            match inner.replace_all(&messages, expected).await {
                Ok(mut replaced) => {
                    let appended = &mut replaced.appended;
                    exclusions.report_in(appended);
                    inner.kinds.learn(&appended.counters);
                    flush::after(inner, appended).await;
                    Ok(Conditional::Applied(replaced))
                }
                Err(error) => match expected {
                    Some(expected) if error.store_kind() == Some(&StoreErrorKind::Conflict) => {
                        Ok(Conditional::Conflict(inner.conflict(expected).await?))
                    }
                    _ => Err(error),
                },
            }
        };
        operation!(&*self.inner, "replace_all", work).await
    }
}

impl Inner {
    async fn replace_all(
        &self,
        messages: &Arc<[NewMessage]>,
        expected: Option<Version>,
    ) -> Result<ReplacedAll, MemoryError> {
        let _forget = ForgetView(&self.backend.views, &self.key);
        let (ttl, archive) = (self.rules.resource.persistence.ttl, self.rules.archive);
        let request = |write| {
            let batch = Append { write, messages: Arc::clone(messages), ttl, expected };
            ReplaceAll { batch, archive }
        };
        let mut replaced = self.write_new(None, request).await?;
        let appended = &mut replaced.appended;
        appended.critical_over_budget = self.critical_over_budget(&appended.counters);
        Ok(replaced)
    }
}

impl WriteRequest for ReplaceAll {
    type Answer = ReplacedAll;
    const OPERATION: StoreOperation = StoreOperation::ReplaceAll;

    fn audited(&self) -> Option<Audited> {
        Some(Audited::batch(AuditOperation::ReplaceAll, &self.batch.messages))
    }

    fn counters(answer: &Self::Answer) -> Option<&Counters> {
        Some(&answer.appended.counters)
    }

    fn send<'a>(
        &'a self,
        inner: &'a Inner,
        lease: Option<LeaseProof>,
    ) -> Answering<'a, ReplacedAll> {
        inner.store().replace_all(&inner.key, Access { lease }, self)
    }

    fn renewed(&self, inner: &Inner) -> Option<Self> {
        Some(Self { batch: inner.renewed(&self.batch), ..self.clone() })
    }
}
