//! Appending: the path that every message takes.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use memory_core::{
    Access, Append, Appended, Applied, BatchSize, Clear, Counters, Entry, LeaseProof, LimitError,
    LimitKind, NewMessage, Role, Splice, StoreError, StoreErrorKind, WriteId,
};
use memory_flush::flush_due;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use crate::error::{AppendFailure, MemoryError};
use crate::flush;
use crate::instance::{Inner, MemoryInstance};
use crate::rules::Rules;
use crate::telemetry::Operation;

/// A batch that is ready to be sent: redacted, classified, counted, and under an id by which the
/// store recognises it, so that it can be sent any number of times and is appended once.
///
/// Its `Debug` form leaves the messages out, for it travels in errors.
#[derive(Clone, PartialEq)]
pub struct PreparedAppend {
    append: Append,
}

impl PreparedAppend {
    /// The id by which the store recognises it.
    #[must_use]
    pub const fn write(&self) -> WriteId {
        self.append.write
    }

    /// The messages.
    #[must_use]
    pub fn messages(&self) -> &[NewMessage] {
        &self.append.messages
    }
}

impl fmt::Debug for PreparedAppend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PreparedAppend")
            .field("write", &self.write())
            .field("messages", &self.messages().len())
            .finish()
    }
}

impl MemoryInstance {
    /// Appends a message.
    ///
    /// The message is redacted, classified and counted first; then one atomic step of the store
    /// appends it. When this returns it is as durable as the store's configuration says, and is in
    /// the history exactly once. It never waits for a summariser, but for the one that it asks itself
    /// under [`FlushMode::Inline`](crate::FlushMode::Inline).
    ///
    /// # Errors
    /// [`MemoryError::TooLarge`] for a message over the whole budget, unless it is the result of a
    /// tool: its call is in the memory already and must not stay open. [`MemoryError::Limit`] for what is
    /// over one of the resource's [limits](memory_core::Limits).
    /// [`MemoryError::Append`] for what went wrong at the store or in line for the lease, within the
    /// resource's `lock.wait_timeout`; [`MemoryError::into_prepared`] gives back what can be
    /// [sent](Self::send) again.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the message appended or not, never half. Appending the same
    /// message again after that may double it; [`prepare`](Self::prepare) and [`send`](Self::send)
    /// cannot.
    #[doc(alias = "AppendAsync")]
    pub async fn append(&self, entry: impl Into<Entry>) -> Result<Appended, MemoryError> {
        self.append_all([entry.into()]).await
    }

    /// Appends a batch: contiguous, in order, all or nothing.
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

    /// Appends under a lease that the caller holds, or under none, by a writer that is free.
    pub(crate) async fn append_under<E: Into<Entry>>(
        &self,
        entries: impl IntoIterator<Item = E>,
        lease: Option<LeaseProof>,
    ) -> Result<Appended, MemoryError> {
        let messages = self.inner.admit(entries)?;
        if let Err(reason) = self.inner.check_kinds(&messages) {
            Box::pin(self.inner.check_kinds_again(&messages, reason)).await?;
        }
        let write = self.inner.writers.take(&self.inner.backend.ids);
        let prepared = PreparedAppend { append: append_of(&self.inner, write, messages) };
        let appended = self.send_as_is(&prepared, lease).await?;
        self.inner.writers.put_back(write);
        Ok(appended)
    }

    /// Readies a batch that can be sent more than once, under an id of its own.
    ///
    /// The store keeps a row of some 40 bytes for the id for as long as the memory lives, which
    /// [`append`](Self::append) does not need; batches in a row are better numbered by one writer
    /// ([`prepare_as`](Self::prepare_as)).
    ///
    /// # Errors
    /// As [`append`](Self::append), of what is known without the store.
    pub fn prepare<E: Into<Entry>>(
        &self,
        entries: impl IntoIterator<Item = E>,
    ) -> Result<PreparedAppend, MemoryError> {
        let write = self.inner.backend.ids.writer().write(1);
        self.prepare_as(write, entries)
    }

    /// Readies a batch under an id of the caller's, such as
    /// [`WriterId::named`](memory_core::WriterId::named) and the offset in a log: after a crash of
    /// the caller the store still recognises what it has.
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
        Ok(PreparedAppend { append: append_of(&self.inner, write, messages) })
    }

    /// Sends a batch. Sending it again is safe, from any handle and any process: it is appended
    /// once.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    ///
    /// # Cancel safety
    /// Dropping the future leaves the batch appended or not; sending it again tells.
    #[tracing::instrument(level = "debug", skip_all, fields(memory = %self.resource().id))]
    pub async fn send(&self, prepared: &PreparedAppend) -> Result<Appended, MemoryError> {
        self.writable("append to")?;
        let appended = self.send_as_is(prepared, None).await?;
        flush::after(&self.inner, &appended).await;
        Ok(appended)
    }

    /// Removes all messages and receipts. What was appended is counted as cleared.
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
        let write = Write::Append(&prepared.append);
        let appended = match self.inner.write(write, lease).await {
            Ok(Written::Appended(appended)) => *appended,
            Ok(Written::Changed(_) | Written::Claimed) => {
                return Err(self.inner.contended("append to"));
            }
            Err(reason) => {
                return Err(AppendFailure { reason, prepared: prepared.clone() }.into());
            }
        };
        self.inner.kinds.learn_from(&prepared.append.messages, &appended.counters);
        let telemetry = &self.inner.rules.telemetry;
        telemetry.took(Operation::Append, started.elapsed());
        if !appended.outcome.is_duplicate() {
            telemetry.appended(prepared.append.messages.len());
        }
        Ok(appended)
    }
}

fn append_of(inner: &Inner, write: WriteId, messages: Arc<[NewMessage]>) -> Append {
    let ttl = inner.rules.resource.persistence.ttl;
    Append { write, messages, access: Access::OPEN, ttl }
}

/// A write, on its way to the store.
#[derive(Clone, Copy)]
pub(crate) enum Write<'a> {
    Append(&'a Append),
    Splice(&'a Splice),
    Clear(Clear),
    /// Raises the newest token to that of the lease that the write is made under.
    Claim,
}

/// What came of it.
pub(crate) enum Written {
    Appended(Box<Appended>),
    Changed(Counters),
    Claimed,
}

impl Write<'_> {
    const fn name(self) -> &'static str {
        match self {
            Self::Append(_) => "append to",
            Self::Splice(_) => "flush",
            Self::Clear(_) => "clear",
            Self::Claim => "claim",
        }
    }
}

impl Inner {
    /// Decides from the counters that came back, without another read, whether a flush is due.
    pub(crate) fn finds_due(&self, appended: &Appended) -> bool {
        let Rules { policy, settings, telemetry, .. } = &*self.rules;
        let due = flush_due(&appended.counters, appended.next_flush_at, policy, settings).is_due();
        if !due {
            telemetry.gate_stopped();
        }
        due
    }

    /// Redacts, classifies and counts, outside of any lock.
    fn admit<E: Into<Entry>>(
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
                // First of all: what follows takes time and room by the size of the message.
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
            let result = matches!(message.message.role, Role::Tool | Role::Function);
            if u64::from(message.tokens) > budget && !result {
                let (key, tokens) = (self.key.clone(), message.tokens);
                return Err(MemoryError::TooLarge { key, index, tokens, budget });
            }
        }
        Ok(messages)
    }

    fn check_kinds(&self, messages: &[NewMessage]) -> Result<(), LimitError> {
        self.kinds.check(messages, self.rules.resource.limits.content_types)
    }

    /// Others may have taken messages out since this instance saw which kinds there are.
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
        let id = self.writers.take(&self.backend.ids);
        let write = Write::Clear(Clear { write: id, access: Access::OPEN });
        match self.write(write, lease).await? {
            Written::Changed(counters) => {
                self.writers.put_back(id);
                Ok(counters)
            }
            Written::Appended(_) | Written::Claimed => Err(self.contended("clear")),
        }
    }

    /// Carries a write out: at the store alone where that looks at leases itself, else under the
    /// lease. What may pass is tried again, with the same id, until the resource's
    /// `lock.wait_timeout` is over.
    pub(crate) async fn write(
        &self,
        write: Write<'_>,
        lease: Option<LeaseProof>,
    ) -> Result<Written, MemoryError> {
        self.write_within(self.rules.lock.wait_timeout(), write, lease).await
    }

    /// As [`write`](Self::write), until this time is over. Whoever will not wait for others still waits for
    /// the first answer.
    pub(crate) async fn write_within(
        &self,
        waits: Duration,
        write: Write<'_>,
        lease: Option<LeaseProof>,
    ) -> Result<Written, MemoryError> {
        let limit = Limit::new(waits, self.rules.lock.wait_timeout());
        let mut answer = limit.first_answer;
        let mut pauses = None;
        let mut unknown = false;
        // On the heap whatever is rare, for every write would carry the room that it takes.
        let direct = lease.is_some() || self.backend.is_fused();
        loop {
            let done = if direct {
                match timeout_at(answer, self.attempt(write, lease)).await {
                    Ok(Err(error)) if lease.is_none() && is_locked(&error) => {
                        Box::pin(self.write_when_free(write, error, limit)).await
                    }
                    Ok(done) => done.map_err(MemoryError::from),
                    Err(_) => Err(self.timed_out(write, limit)),
                }
            } else {
                Box::pin(self.write_in_line(write, limit)).await
            };
            let Err(error) = done else { return done };
            let may_pass = may_pass(&error, lease.is_some());
            if may_pass {
                unknown |= error.applied() == Applied::Unknown;
                let pause = pauses.get_or_insert_with(growing_pauses).next().unwrap_or(ANSWER);
                let next = Instant::now() + pause;
                sleep_until(next.min(limit.end)).await;
                if next < limit.end {
                    answer = limit.next_answer();
                    continue;
                }
            }
            // A later attempt that was refused does not undo an earlier one whose answer was lost.
            return Err(if unknown { error.possibly_applied() } else { error });
        }
    }

    fn timed_out(&self, write: Write<'_>, limit: Limit) -> MemoryError {
        let (operation, waited) = (write.name(), limit.answers_in);
        MemoryError::TimedOut { operation, key: self.key.clone(), waited }
    }

    /// Writes at the store alone as soon as the lease is free that somebody was found to hold.
    ///
    /// Only after [`PATIENCE`] does the write take a place in line for the lease and go under it. If
    /// it did so at once, the writes that come meanwhile would find the lease held by this one and
    /// line up too: after a single turn a busy memory would be written one commit at a time for ever.
    async fn write_when_free(
        &self,
        write: Write<'_>,
        mut refused: StoreError,
        limit: Limit,
    ) -> Result<Written, MemoryError> {
        self.rules.telemetry.lock_contended();
        let contended = Waiting::new(&self.waiting);
        let patience_ends = (Instant::now() + PATIENCE).min(limit.end);
        let mut watch = None;
        loop {
            let StoreErrorKind::Locked { remaining } = *refused.kind() else {
                return Err(refused.into());
            };
            let patience = until(patience_ends);
            if patience.is_zero() {
                drop(contended);
                return self.write_in_line(write, limit).await;
            }
            // The first time only begins to watch: the lease may have been freed before that.
            if let Some(released) =
                watch.replace(self.backend.locks.backend().watch(&self.lease, None))
            {
                let _ = timeout(remaining.unwrap_or(patience).min(patience), released).await;
            }
            refused = match timeout_at(limit.next_answer(), self.attempt(write, None)).await {
                Ok(Ok(done)) => return Ok(done),
                Ok(Err(error)) => error,
                Err(_) => return Err(self.timed_out(write, limit)),
            };
        }
    }

    /// Waits in line for the lease on the memory, and writes under it.
    async fn write_in_line(&self, write: Write<'_>, limit: Limit) -> Result<Written, MemoryError> {
        let options = self.rules.lock.with_wait_timeout(until(limit.end));
        let guard = self
            .backend
            .locks
            .lock(&self.lease, &options)
            .await
            .map_err(|reason| self.lock_error(reason))?;
        self.rules.telemetry.lock_acquired();
        let started = Instant::now();
        let attempt = self.attempt(write, Some(guard.proof()));
        let last = until(limit.next_answer());
        let answer = self.answer_under_lease();
        let done = match timeout(answer.min(last), attempt).await {
            Ok(done) => done.map_err(MemoryError::from),
            Err(_) if last <= answer => Err(self.timed_out(write, limit)),
            Err(_) => {
                let kind = StoreErrorKind::Unavailable(format!("no answer within {answer:?}"));
                let error = StoreError::new(write.name(), kind).at(&self.key);
                Err(error.possibly_applied().into())
            }
        };
        // The answer does not depend on how the release ends, so nobody waits for it.
        drop(guard);
        self.rules.telemetry.lock_held(started.elapsed());
        done
    }

    /// How long the answer to a write under a lease is waited for before it is sent again, under another.
    /// The lease is refreshed meanwhile, so a request that is never answered would keep all others out for
    /// as long as they are willing to wait. Longer than a breaker waits, which else would never count it.
    fn answer_under_lease(&self) -> Duration {
        let waits = (self.rules.lock.wait_timeout() / 4).max(ANSWER);
        match self.rules.resource.circuit_breaker {
            Some(breaker) => waits.max(breaker.timeout.saturating_add(BREAKER_MARGIN)),
            None => waits,
        }
    }

    async fn attempt(
        &self,
        write: Write<'_>,
        lease: Option<LeaseProof>,
    ) -> Result<Written, StoreError> {
        let access = Self::access(lease);
        match write {
            Write::Append(append) => {
                let append = Append { access, ..append.clone() };
                let appended = self.store().append(&self.key, append).await?;
                Ok(Written::Appended(Box::new(appended)))
            }
            Write::Splice(splice) => {
                let splice = Splice { access, ..splice.clone() };
                Ok(Written::Changed(self.store().splice(&self.key, splice).await?))
            }
            Write::Clear(clear) => {
                let clear = Clear { access, ..clear };
                Ok(Written::Changed(self.store().clear(&self.key, clear).await?))
            }
            Write::Claim => {
                if let Some(lease) = lease {
                    self.store().claim(&self.key, lease).await?;
                }
                Ok(Written::Claimed)
            }
        }
    }
}

/// How long a write waits for the lease to be free before it takes a place in line for it.
const PATIENCE: Duration = Duration::from_secs(1);

/// The least time that the answer to a write is waited for.
const ANSWER: Duration = Duration::from_secs(1);

/// How much longer than a breaker a write under a lease waits for its answer.
const BREAKER_MARGIN: Duration = Duration::from_millis(50);

/// Until when a write goes on.
#[derive(Debug, Clone, Copy)]
struct Limit {
    /// Until when others are waited for, and what failed is tried again.
    end: Instant,
    /// Until when the first answer is waited for.
    first_answer: Instant,
    /// Until when any is.
    last_answer: Instant,
    /// How long one is.
    answers_in: Duration,
}

impl Limit {
    /// Waits so long for others, and so long for an answer; who waits for nobody still waits for that.
    fn new(waits: Duration, answers_in: Duration) -> Self {
        let began = Instant::now();
        let after = |time: Duration| {
            // As long as tokio's timers reach where it is longer than a clock can tell.
            began.checked_add(time).unwrap_or_else(|| began + Duration::from_secs(86_400 * 365))
        };
        let end = after(waits);
        let answers_in = if answers_in.is_zero() { ANSWER } else { answers_in };
        let first_answer = after(answers_in);
        Self { end, first_answer, last_answer: end.max(first_answer), answers_in }
    }

    fn next_answer(self) -> Instant {
        let next = Instant::now().checked_add(self.answers_in);
        next.map_or(self.last_answer, |next| next.min(self.last_answer))
    }
}

/// How long it is until then; zero afterwards.
fn until(moment: Instant) -> Duration {
    moment.saturating_duration_since(Instant::now())
}

/// Counts a write that waits for the lease to be free.
struct Waiting<'a>(&'a AtomicU64);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicU64) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn is_locked(error: &StoreError) -> bool {
    matches!(error.kind(), StoreErrorKind::Locked { .. })
}

/// Whether the same write may succeed when it is sent again. A lease that this write took for itself
/// and lost on the way is taken anew; one that the caller holds is the caller's affair.
fn may_pass(error: &MemoryError, callers_lease: bool) -> bool {
    match error {
        MemoryError::Store(error) => match error.kind() {
            StoreErrorKind::Fenced { .. } => !callers_lease,
            _ => error.is_retryable(),
        },
        _ => false,
    }
}

/// Growing, jittered pauses, without an end: the time-out ends them.
fn growing_pauses() -> impl Iterator<Item = Duration> {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(5))
        .with_max_delay(Duration::from_millis(500))
        .with_jitter()
        .without_max_times()
        .build()
}
