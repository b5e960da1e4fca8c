//! Appends: the path of every message into the store.

use std::sync::Arc;

use memory_core::Entry;
use memory_core::lease::LeaseProof;
use memory_core::sibling::OwnBatch;
use memory_core::store::{
    Append, AppendOutcome, Appended, Applied, Head, MessageMeta, NewMessage, Outline, StoreError,
    StoreErrorKind, StoreOperation, Version, WriteId,
};
use tokio::time::Instant;

use crate::error::{AppendError, MemoryError};
use crate::exclusions::{Batch, Exclusions};
use crate::flush;
use crate::inner::{Inner, OnHeap};
use crate::instance::MemoryInstance;
use crate::prepared::PreparedAppend;
use crate::telemetry::{Operation, note, operation};
use crate::write::Written;

impl MemoryInstance {
    /// Appends a message.
    ///
    /// The message is redacted, classified and counted first; then the store appends it in one atomic step. A message
    /// that its entry or the privacy policy [excludes](Entry::do_not_persist) is not stored; the append succeeds and
    /// reports its index.
    /// If the critical messages alone exceed the budget after that,
    /// [`critical_over_budget`](Appended::critical_over_budget) reports it. When this returns, the message is in
    /// the history exactly once, and is as durable as the store's configuration says. An append never waits for
    /// a summarizer, except under [`FlushMode::Inline`](crate::FlushMode::Inline) for the flush that it starts
    /// itself.
    ///
    /// # Examples
    ///
    /// ```
    /// # use memory_instance::{MemoryManager, MemoryResource};
    /// use memory_instance::{ContentType, Entry, Message};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let resource = MemoryResource::new("support", 8_000);
    /// # let manager = MemoryManager::builder().with_resource(resource).open("memory://").await?;
    /// # let memory = manager.memory("support", "case-4711")?;
    /// memory.append(Message::user("My flight was canceled")).await?;
    /// // An entry has a content type or a priority that differs from the message's default.
    /// let fact = Entry::new(Message::assistant("The booking is 4711"))
    ///     .with_content_type(ContentType::ImportantFacts);
    /// let appended = memory.append(fact).await?;
    /// assert_eq!(appended.counters.present.messages, 2);
    /// assert!(!appended.outcome.is_duplicate());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`MemoryError::TooLarge`] for a message over the whole budget, except the result of a tool: its call is
    /// in the memory already and must not stay open. [`MemoryError::Limit`] for a message or batch over one of
    /// the resource's [limits](memory_core::limits::Limits). [`MemoryError::Append`] if the store failed, or if the lease
    /// was not free within the resource's `lock.wait_timeout`; [`MemoryError::into_prepared`] returns the batch,
    /// to be [sent](Self::send) again.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the message appended or not, never half. Appending the same message again
    /// after that may duplicate it. To retry safely, use [`prepare`](Self::prepare) and [`send`](Self::send).
    #[doc(alias = "AppendAsync")]
    pub async fn append(&self, entry: impl Into<Entry>) -> Result<Appended, MemoryError> {
        self.append_all([entry.into()]).await
    }

    /// Appends a batch contiguously, in order, all or nothing.
    ///
    /// # Examples
    ///
    /// ```
    /// # use memory_instance::{MemoryManager, MemoryResource};
    /// use memory_instance::{Message, ToolCall};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let resource = MemoryResource::new("support", 8_000);
    /// # let manager = MemoryManager::builder().with_resource(resource).open("memory://").await?;
    /// # let memory = manager.memory("support", "case-4711")?;
    /// let call = ToolCall::function("call-1", "weather", r#"{"city":"Oslo"}"#);
    /// let turn = [
    ///     Message::user("How is the weather in Oslo?"),
    ///     Message::calls([call]),
    ///     Message::tool_result("call-1", "rain"),
    /// ];
    /// let appended = memory.append_all(turn).await?;
    /// assert_eq!(appended.counters.appended, 3);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`append`](Self::append); [`MemoryError::EmptyBatch`].
    ///
    /// # Cancel safety
    /// As [`append`](Self::append).
    pub async fn append_all<E: Into<Entry>>(
        &self,
        entries: impl IntoIterator<Item = E>,
    ) -> Result<Appended, MemoryError> {
        let work = async {
            self.writable("append to")?;
            let batch = self.inner.prepare_messages(entries)?;
            let appended = self.append_prepared(batch, None, None).await?;
            flush::after(&self.inner, &appended).await;
            Ok(appended)
        };
        operation!(&*self.inner, "append_all", work).await
    }

    /// Appends messages that are already redacted, classified and counted, with a free writer, under a lease that the
    /// caller holds or under none, in any case or at a version.
    pub(crate) async fn append_prepared(
        &self,
        batch: Batch,
        expected: Option<Version>,
        lease: Option<LeaseProof>,
    ) -> Result<Appended, MemoryError> {
        let Batch { messages, exclusions } = batch;
        if messages.is_empty() {
            return self.append_nothing(&exclusions, expected).await;
        }
        if let Err(reason) = self.inner.check_kinds(&messages, &exclusions) {
            Box::pin(self.inner.check_kinds_again(&messages, &exclusions, reason)).await?;
        }
        let writer = self.inner.take_writer();
        let append = append_of(&self.inner, writer.write, messages);
        let prepared = PreparedAppend::new(Append { expected, ..append }, exclusions);
        let sent = self.send_as_is(&prepared, lease).await;
        if sent.as_ref().is_err_and(|error| self.inner.needs_newer_writer(error)) {
            return self.append_as_newer(prepared, lease).await;
        }
        // A conflict was not applied, and its batch is not sent again.
        let is_conflict =
            |error: &MemoryError| error.store_kind() == Some(&StoreErrorKind::Conflict);
        if sent.as_ref().map_or_else(is_conflict, |_| true) {
            self.inner.writers.put_back(writer);
        }
        sent
    }

    /// Repeats an append that was refused because the store has forgotten newer writers.
    fn append_as_newer(
        &self,
        refused: PreparedAppend,
        lease: Option<LeaseProof>,
    ) -> OnHeap<'_, Result<Appended, MemoryError>> {
        Box::pin(async move {
            let writer = self.inner.take_writer();
            let prepared = refused.under(writer.write);
            let appended = self.send_as_is(&prepared, lease).await?;
            self.inner.writers.put_back(writer);
            Ok(appended)
        })
    }

    /// The result of a batch of which nothing may be stored. It reads the counters, and with an expected version the
    /// metadata. Nothing is written, so no lease is needed.
    fn append_nothing<'a>(
        &'a self,
        exclusions: &'a Exclusions,
        expected: Option<Version>,
    ) -> OnHeap<'a, Result<Appended, MemoryError>> {
        Box::pin(async move {
            let inner = &self.inner;
            let head = match expected {
                None => inner.head().await?,
                Some(expected) => {
                    let Outline { head, metas, .. } = inner.outline().await?;
                    if !expected.is_current(&head, metas.last().map(MessageMeta::newest)) {
                        let kind = StoreErrorKind::Conflict;
                        let conflict = StoreError::new(StoreOperation::Append, kind);
                        return Err(conflict.not_applied().at(&inner.key).into());
                    }
                    head
                }
            };
            let Head { counters, next_flush_at, .. } = head;
            let mut appended = Appended::new(AppendOutcome::Excluded, counters, next_flush_at);
            appended.critical_over_budget = inner.critical_over_budget(&appended.counters);
            exclusions.report_in(&mut appended);
            Ok(appended)
        })
    }

    /// Prepares a batch that can be sent more than once, under a new id.
    ///
    /// The store recognizes the id for at least [`SESSION_RETENTION`](memory_core::store::SESSION_RETENTION) after the
    /// batch was first sent, and as long as fewer than [`KEPT_SESSIONS`](memory_core::store::KEPT_SESSIONS) other
    /// writers came after it. Later the store may refuse the batch with
    /// [`StoreErrorKind::WriterForgotten`](memory_core::store::StoreErrorKind::WriterForgotten), even if it was never
    /// sent; it never appends the batch twice. For a batch that may be sent at any time use
    /// [`prepare_as`](Self::prepare_as) with a named writer.
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
    /// let prepared = memory.prepare([Message::user("Where is my parcel?")])?;
    /// memory.send(&prepared).await?;
    /// // The caller did not see the answer, and sends the batch again.
    /// let again = memory.send(&prepared).await?;
    /// assert!(again.outcome.is_duplicate());
    /// assert_eq!(memory.len().await?, 1);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// The errors of [`append`](Self::append) that need no store.
    pub fn prepare<E: Into<Entry>>(
        &self,
        entries: impl IntoIterator<Item = E>,
    ) -> Result<PreparedAppend, MemoryError> {
        let backend = &self.inner.backend;
        let born = self.inner.writers.born(backend.now_millis());
        self.prepare_as(backend.ids.writer(born).write(1), entries)
    }

    /// Prepares a batch under an id that the caller chooses, such as
    /// [`WriterId::named`](memory_core::store::WriterId::named) with the offset in a log. The store then recognizes the
    /// batch also after the caller has crashed and restarted.
    ///
    /// # Examples
    ///
    /// ```
    /// # use memory_instance::{MemoryManager, MemoryResource};
    /// use memory_instance::{Message, WriterId};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let resource = MemoryResource::new("support", 8_000);
    /// # let manager = MemoryManager::builder().with_resource(resource).open("memory://").await?;
    /// # let memory = manager.memory("support", "case-4711")?;
    /// let offset = 17; // of the record in a log that is read at least once
    /// let write = WriterId::named("orders-log").write(offset);
    /// for _ in 0..2 {
    ///     memory.send(&memory.prepare_as(write, [Message::user("Order 4711 was paid")])?).await?;
    /// }
    /// assert_eq!(memory.len().await?, 1);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`prepare`](Self::prepare).
    pub fn prepare_as<E: Into<Entry>>(
        &self,
        write: WriteId,
        entries: impl IntoIterator<Item = E>,
    ) -> Result<PreparedAppend, MemoryError> {
        let Batch { messages, exclusions } = self.inner.prepare_messages(entries)?;
        self.inner
            .check_kinds(&messages, &exclusions)
            .map_err(|reason| self.inner.over_limit(reason))?;
        Ok(PreparedAppend::new(append_of(&self.inner, write, messages), exclusions))
    }

    /// Sends a batch. Sending it again is safe, from any handle and any process: it is appended once.
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
    /// let prepared = memory.prepare([Message::user("Where is my parcel?")])?;
    /// let appended = loop {
    ///     match memory.send(&prepared).await {
    ///         // The batch may have been appended; sending it again does not append it twice.
    ///         Err(error) if error.is_retryable() => {}
    ///         done => break done?,
    ///     }
    /// };
    /// assert_eq!(appended.counters.present.messages, 1);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`append`](Self::append).
    /// [`StoreErrorKind::WriterForgotten`](memory_core::store::StoreErrorKind::WriterForgotten) if the batch was prepared
    /// too long ago: whether it was appended is then unknown.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the batch appended or not. Send it again to find out.
    pub async fn send(&self, prepared: &PreparedAppend) -> Result<Appended, MemoryError> {
        let work = async {
            self.writable("append to")?;
            let sent = self.send_as_is(prepared, None).await;
            if let Err(error) = &sent {
                // The next batch that is prepared is newer than the writers that the store forgot.
                self.inner.needs_newer_writer(error);
            }
            let appended = sent.map_err(MemoryError::with_earlier_sends)?;
            flush::after(&self.inner, &appended).await;
            Ok(appended)
        };
        operation!(&*self.inner, "send", work).await
    }

    /// Sends a batch under a lease that the caller holds, or under none.
    pub(crate) async fn send_as_is(
        &self,
        prepared: &PreparedAppend,
        lease: Option<LeaseProof>,
    ) -> Result<Appended, MemoryError> {
        if prepared.messages().is_empty() {
            return self.append_nothing(prepared.exclusions(), prepared.append().expected).await;
        }
        let started = Instant::now();
        let again = prepared.mark_sent();
        let renewed = again.then(|| Box::new(self.inner.renewed(prepared.append())));
        let append = renewed.as_deref().unwrap_or(prepared.append());
        let waits = self.inner.rules.lock.wait_timeout();
        // A batch that may have been sent before is not kept for the view.
        let views = &self.inner.backend.views;
        let generation = if again { None } else { views.generation(&self.inner.key) };
        let mut appended = match self.inner.write_reporting(append, lease, waits).await {
            Ok(Written { answer, earlier }) => {
                let generation = generation.filter(|_| earlier == Applied::No);
                if let (Some(generation), AppendOutcome::Appended { first }) =
                    (generation, answer.outcome)
                    && let Some(batch) = OwnBatch::new(first, &append.messages)
                {
                    views.keep_own(&self.inner.key, generation, batch);
                }
                answer
            }
            Err(reason) => {
                return Err(AppendError { reason, prepared: prepared.clone() }.into());
            }
        };
        note(|totals| totals.sequence = appended.outcome.first());
        appended.critical_over_budget = self.inner.critical_over_budget(&appended.counters);
        prepared.exclusions().report_in(&mut appended);
        self.inner.kinds.learn_from(prepared.messages(), &appended.counters);
        let telemetry = &self.inner.rules.telemetry;
        telemetry.took(Operation::Append, started.elapsed());
        if !appended.outcome.is_duplicate() {
            telemetry.appended(prepared.messages(), &self.inner.rules.policy);
        }
        Ok(appended)
    }
}

fn append_of(inner: &Inner, write: WriteId, messages: Arc<[NewMessage]>) -> Append {
    let ttl = inner.rules.resource.persistence.ttl;
    Append { write, messages, ttl, expected: None }
}
