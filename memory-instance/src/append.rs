//! Appends: the path of every message into the store.

use std::pin::Pin;
use std::sync::Arc;

use memory_core::Entry;
use memory_core::lease::LeaseProof;
use memory_core::limits::{BatchSize, LimitError, LimitKind};
use memory_core::store::{
    Access, Append, Appended, Applied, Clear, Counters, NewMessage, StoreErrorKind, WriteId,
};
use memory_flush::flush_due;
use tokio::time::Instant;

use crate::error::{AppendFailure, MemoryError};
use crate::flush;
use crate::instance::{Inner, MemoryInstance};
use crate::prepared::PreparedAppend;
use crate::rules::Rules;
use crate::telemetry::Operation;
use crate::write::{Write, Written};
use crate::writers::Writer;

/// A boxed future for a rare path. Boxing keeps the futures of its callers small.
type OnHeap<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

impl MemoryInstance {
    /// Appends a message.
    ///
    /// The message is redacted, classified and counted first; then the store appends it in one atomic step.
    /// If the critical messages alone exceed the budget after that,
    /// [`critical_over_budget`](Appended::critical_over_budget) reports it. When this returns, the message is in
    /// the history exactly once, and is as durable as the store's configuration says. An append never waits for
    /// a summarizer, except under [`FlushMode::Inline`](crate::FlushMode::Inline) for the flush that it starts
    /// itself.
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
    /// # Errors
    /// As [`append`](Self::append); [`MemoryError::EmptyBatch`].
    ///
    /// # Cancel safety
    /// As [`append`](Self::append).
    #[tracing::instrument(level = "debug", skip_all, fields(memory = %self.resource().id))]
    pub async fn append_all<E: Into<Entry>>(
        &self,
        entries: impl IntoIterator<Item = E>,
    ) -> Result<Appended, MemoryError> {
        self.writable("append to")?;
        let appended = self.append_under(entries, None).await?;
        flush::after(&self.inner, &appended).await;
        Ok(appended)
    }

    /// Appends under a lease that the caller holds or under none, with a free writer.
    pub(crate) async fn append_under<E: Into<Entry>>(
        &self,
        entries: impl IntoIterator<Item = E>,
        lease: Option<LeaseProof>,
    ) -> Result<Appended, MemoryError> {
        let messages = self.inner.admit(entries)?;
        self.append_admitted(messages, lease).await
    }

    /// Appends messages that are already redacted, classified and counted.
    pub(crate) async fn append_admitted(
        &self,
        messages: Arc<[NewMessage]>,
        lease: Option<LeaseProof>,
    ) -> Result<Appended, MemoryError> {
        if let Err(reason) = self.inner.check_kinds(&messages) {
            Box::pin(self.inner.check_kinds_again(&messages, reason)).await?;
        }
        let writer = self.inner.take_writer();
        let prepared = PreparedAppend::new(append_of(&self.inner, writer.write, messages));
        let sent = self.send_as_is(&prepared, lease).await;
        if sent.as_ref().is_err_and(|error| self.inner.needs_newer_writer(error)) {
            return self.append_as_newer(prepared.append().clone(), lease).await;
        }
        let appended = sent?;
        self.inner.writers.put_back(writer);
        Ok(appended)
    }

    /// Repeats an append that was refused because the store has forgotten newer writers.
    fn append_as_newer(
        &self,
        append: Append,
        lease: Option<LeaseProof>,
    ) -> OnHeap<'_, Result<Appended, MemoryError>> {
        Box::pin(async move {
            let writer = self.inner.take_writer();
            let prepared = PreparedAppend::new(Append { write: writer.write, ..append });
            let appended = self.send_as_is(&prepared, lease).await?;
            self.inner.writers.put_back(writer);
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
    /// # Errors
    /// As [`prepare`](Self::prepare).
    pub fn prepare_as<E: Into<Entry>>(
        &self,
        write: WriteId,
        entries: impl IntoIterator<Item = E>,
    ) -> Result<PreparedAppend, MemoryError> {
        let messages = self.inner.admit(entries)?;
        self.inner.check_kinds(&messages).map_err(|reason| self.inner.over_limit(reason))?;
        Ok(PreparedAppend::new(append_of(&self.inner, write, messages)))
    }

    /// Sends a batch. Sending it again is safe, from any handle and any process: it is appended once.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    /// [`StoreErrorKind::WriterForgotten`](memory_core::store::StoreErrorKind::WriterForgotten) if the batch was prepared
    /// too long ago: whether it was appended is then unknown.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the batch appended or not. Send it again to find out.
    #[tracing::instrument(level = "debug", skip_all, fields(memory = %self.resource().id))]
    pub async fn send(&self, prepared: &PreparedAppend) -> Result<Appended, MemoryError> {
        self.writable("append to")?;
        let sent = self.send_as_is(prepared, None).await;
        if let Err(error) = &sent {
            // The next batch that is prepared is newer than the writers that the store forgot.
            self.inner.needs_newer_writer(error);
        }
        let appended = sent.map_err(MemoryError::with_earlier_sends)?;
        flush::after(&self.inner, &appended).await;
        Ok(appended)
    }

    /// Removes all messages and receipts. The counters report the removed messages as cleared.
    ///
    /// # Errors
    /// [`MemoryError`].
    ///
    /// # Cancel safety
    /// Dropping the future leaves the memory cleared or not.
    #[tracing::instrument(level = "debug", skip_all, fields(memory = %self.resource().id))]
    pub async fn clear(&self) -> Result<Counters, MemoryError> {
        self.writable("clear")?;
        self.inner.clear(None).await
    }

    /// Sends a batch under a lease that the caller holds, or under none.
    pub(crate) async fn send_as_is(
        &self,
        prepared: &PreparedAppend,
        lease: Option<LeaseProof>,
    ) -> Result<Appended, MemoryError> {
        let started = Instant::now();
        let again = prepared.mark_sent();
        let renewed = again.then(|| Box::new(self.inner.renewed(prepared.append())));
        let write = Write::Append(renewed.as_deref().unwrap_or(prepared.append()));
        let appended = match self.inner.write(write, lease).await {
            Ok(Written::Appended(appended)) => Appended {
                critical_over_budget: self.inner.critical_over_budget(&appended.counters),
                ..*appended
            },
            Ok(Written::Changed(_) | Written::Claimed) => {
                return Err(self.inner.contended("append to"));
            }
            Err(reason) => {
                return Err(AppendFailure { reason, prepared: prepared.clone() }.into());
            }
        };
        self.inner.kinds.learn_from(prepared.messages(), &appended.counters);
        let telemetry = &self.inner.rules.telemetry;
        telemetry.took(Operation::Append, started.elapsed());
        if !appended.outcome.is_duplicate() {
            telemetry.appended(prepared.messages().len());
        }
        Ok(appended)
    }
}

fn append_of(inner: &Inner, write: WriteId, messages: Arc<[NewMessage]>) -> Append {
    let ttl = inner.rules.resource.persistence.ttl;
    Append { write, messages, access: Access::OPEN, ttl }
}

impl Inner {
    /// The number of tokens by which the critical messages alone exceed the budget. No flush removes them.
    pub(crate) fn critical_over_budget(&self, counters: &Counters) -> Option<u64> {
        counters
            .critical_tokens()
            .checked_sub(self.rules.policy.max_tokens)
            .filter(|over| *over > 0)
    }

    /// Decides from the returned counters, without another read, whether a flush is due.
    pub(crate) fn finds_due(&self, appended: &Appended) -> bool {
        self.are_due(&appended.counters, appended.next_flush_at)
    }

    pub(crate) fn are_due(&self, counters: &Counters, next_flush_at: Option<u64>) -> bool {
        let Rules { policy, settings, telemetry, .. } = &*self.rules;
        let due = flush_due(counters, next_flush_at, policy, settings).is_due();
        if !due {
            telemetry.gate_stopped();
        }
        due
    }

    /// Redacts, classifies and counts, outside of any lock.
    pub(crate) fn admit<E: Into<Entry>>(
        &self,
        entries: impl IntoIterator<Item = E>,
    ) -> Result<Arc<[NewMessage]>, MemoryError> {
        let rules = &self.rules;
        let now = self.backend.now();
        let millis = u64::try_from(now.as_millisecond()).unwrap_or_default();
        let mut size = BatchSize::new(rules.resource.limits);
        let messages: Arc<[NewMessage]> = entries
            .into_iter()
            .map(|entry| {
                let mut entry: Entry = entry.into();
                // Check the size first: the following steps take time and memory in proportion to it.
                size.add_entry(&entry).map_err(|reason| self.over_limit(reason))?;
                if let Some(redactor) = &rules.redactor {
                    entry.message = redactor.redact(entry.message);
                }
                let id = self.backend.ids.message(millis);
                Ok(rules.policy.admit(entry, id, now, &*rules.counter))
            })
            .collect::<Result<_, MemoryError>>()?;
        if messages.is_empty() {
            return Err(MemoryError::EmptyBatch { key: self.key.clone() });
        }
        let budget = rules.policy.max_tokens;
        for (index, message) in messages.iter().enumerate() {
            let answers = || !message.message.tool_link().results.is_empty();
            if u64::from(message.tokens) > budget && !answers() {
                let (key, tokens) = (self.key.clone(), message.tokens);
                return Err(MemoryError::TooLarge { key, index, tokens, budget });
            }
        }
        Ok(messages)
    }

    fn check_kinds(&self, messages: &[NewMessage]) -> Result<(), LimitError> {
        self.kinds.check(messages, self.rules.resource.limits.content_types)
    }

    /// Checks the kinds against the store's counters: other writers may have removed messages since this
    /// instance read them.
    async fn check_kinds_again(
        &self,
        messages: &[NewMessage],
        refused: LimitError,
    ) -> Result<(), MemoryError> {
        if refused.kind == LimitKind::ContentTypes {
            self.kinds.learn(&self.store().head(&self.key).await?.counters);
        }
        self.check_kinds(messages).map_err(|reason| self.over_limit(reason))
    }

    fn over_limit(&self, reason: LimitError) -> MemoryError {
        MemoryError::Limit { key: self.key.clone(), reason }
    }

    pub(crate) async fn clear(&self, lease: Option<LeaseProof>) -> Result<Counters, MemoryError> {
        let cleared = self.clear_once(lease).await;
        if cleared.as_ref().is_err_and(|error| self.needs_newer_writer(error)) {
            return self.clear_again(lease).await;
        }
        cleared
    }

    fn clear_again(&self, lease: Option<LeaseProof>) -> OnHeap<'_, Result<Counters, MemoryError>> {
        Box::pin(self.clear_once(lease))
    }

    async fn clear_once(&self, lease: Option<LeaseProof>) -> Result<Counters, MemoryError> {
        let writer = self.take_writer();
        let write = Write::Clear(Clear { write: writer.write, access: Access::OPEN });
        match self.write(write, lease).await? {
            Written::Changed(counters) => {
                self.writers.put_back(writer);
                Ok(counters)
            }
            Written::Appended(_) | Written::Claimed => Err(self.contended("clear")),
        }
    }

    pub(crate) fn take_writer(&self) -> Writer {
        self.writers.take(&self.backend.ids, self.backend.now_millis())
    }

    /// Whether the store refused the write only because it has forgotten newer writers than this one. This
    /// happens to a process whose clock is behind, and to a writer that was idle. The write was never sent under
    /// this id before, so it may be sent under another one.
    pub(crate) fn needs_newer_writer(&self, error: &MemoryError) -> bool {
        let Some(&StoreErrorKind::WriterForgotten { newest_millis }) = error.store_kind() else {
            return false;
        };
        self.writers.forgot(newest_millis);
        error.applied() == Applied::No
    }
}
