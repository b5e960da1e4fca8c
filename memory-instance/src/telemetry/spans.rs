//! Spans of operations, with their totals, and of their parts.
//!
//! Nothing is allocated and no clock is read while no subscriber wants spans of the level `debug`: then each place
//! compares a level.

use std::cell::RefCell;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use memory_core::store::FlushReceipt;
use memory_core::{ErrorCode, Sequence};
use pin_project_lite::pin_project;
use tokio::time::Instant;
use tracing::instrument::Instrumented;
use tracing::{Instrument as _, Level, Span};
use uuid::Uuid;

use super::outcome::Outcome;
use crate::inner::Inner;
use crate::manager::MemoryManager;

/// Runs a future as an operation with this name: in a span whose fields are recorded when it ends. The future's output is
/// an [`Outcome`].
macro_rules! operation {
    ($of:expr, $name:literal, $work:expr) => {
        $crate::telemetry::OperationSpan::of($of, $name, || {
            $crate::telemetry::operation_span!($name)
        })
        .run($work)
    };
}

/// The span of an operation, with empty fields.
macro_rules! operation_span {
    ($(parent: $parent:expr,)? $name:literal) => {
        ::tracing::debug_span!(
            $(parent: $parent,)?
            $name,
            operation = $name,
            project = ::tracing::field::Empty,
            memory_id = ::tracing::field::Empty,
            outcome = ::tracing::field::Empty,
            code = ::tracing::field::Empty,
            messages = ::tracing::field::Empty,
            tokens_used = ::tracing::field::Empty,
            sequence = ::tracing::field::Empty,
            flush_id = ::tracing::field::Empty,
            attempts = ::tracing::field::Empty,
            wait_ms = ::tracing::field::Empty,
            duration_ms = ::tracing::field::Empty,
        )
    };
}

pub(crate) use {operation, operation_span};

/// The effects of an operation so far.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    /// The messages of its batch, page or window, or those that it removed.
    pub(crate) messages: u64,
    /// The tokens of the memory after it, or of the window.
    pub(crate) tokens: Option<u64>,
    /// The place of its first message.
    pub(crate) sequence: Option<Sequence>,
    /// The flush that it was.
    pub(crate) flush: Option<Uuid>,
    /// The requests of its writes, retries included.
    pub(crate) attempts: u64,
    /// How long it waited for leases.
    waited: Duration,
}

impl Totals {
    /// Records the result of a flush.
    pub(crate) fn set_flush(&mut self, receipt: &FlushReceipt) {
        self.flush = Some(receipt.id);
        self.tokens = Some(receipt.tokens_after);
        self.messages = receipt.evicted.len() + receipt.summarized.len();
    }
}

/// The operation that is being polled.
type Current = Arc<Mutex<Totals>>;

thread_local! {
    static CURRENT: RefCell<Option<Current>> = const { RefCell::new(None) };
}

/// Whether any subscriber wants spans of operations.
fn is_wanted() -> bool {
    tracing::level_enabled!(Level::DEBUG)
}

fn current() -> Option<Current> {
    if !is_wanted() {
        return None;
    }
    CURRENT.try_with(|current| current.borrow().clone()).ok().flatten()
}

fn locked(totals: &Mutex<Totals>) -> MutexGuard<'_, Totals> {
    totals.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Adds to the totals of the operation that is being polled, if it has a span.
pub(crate) fn note(add: impl FnOnce(&mut Totals)) {
    if let Some(current) = current() {
        add(&mut locked(&current));
    }
}

/// A wait for a lease, as a part of the operation that is being polled. It ends when it is dropped.
pub(crate) struct WaitSpan(Option<(Current, Instant, Span)>);

impl WaitSpan {
    pub(crate) fn begin() -> Self {
        let begun = |current| (current, Instant::now(), tracing::debug_span!("wait"));
        Self(current().map(begun))
    }
}

impl Drop for WaitSpan {
    fn drop(&mut self) {
        if let Some((current, since, _)) = &self.0 {
            locked(current).waited += since.elapsed();
        }
    }
}

/// A future as a part of the operation that is being polled, in a span that is created only for one.
pub(crate) fn part<F: Future>(span: impl FnOnce() -> Span, work: F) -> Instrumented<F> {
    let span = if current().is_some() { span() } else { Span::none() };
    work.instrument(span)
}

/// The span of planning a flush or a window.
pub(crate) fn plan_span() -> Span {
    tracing::debug_span!("plan")
}

/// The subject of an operation.
pub(crate) trait Subject {
    fn project(&self) -> &str;
    fn memory_id(&self) -> Option<&str>;
}

impl Subject for Inner {
    fn project(&self) -> &str {
        &self.rules.telemetry.project
    }

    fn memory_id(&self) -> Option<&str> {
        Some(&self.rules.resource.id)
    }
}

impl Subject for MemoryManager {
    fn project(&self) -> &str {
        self.project()
    }

    fn memory_id(&self) -> Option<&str> {
        None
    }
}

/// The span of an operation that has not begun.
pub(crate) struct OperationSpan(Option<Box<Running>>);

struct Running {
    span: Span,
    totals: Current,
    began: Instant,
    operation: &'static str,
    project: String,
    memory_id: Option<String>,
    /// The operation that this one is a part of.
    outer: Option<Current>,
}

impl OperationSpan {
    pub(crate) fn of(
        subject: &impl Subject,
        operation: &'static str,
        span: impl FnOnce() -> Span,
    ) -> Self {
        if !is_wanted() {
            return Self(None);
        }
        let span = span();
        if span.is_disabled() {
            return Self(None);
        }
        let (project, memory_id) = (subject.project().to_owned(), subject.memory_id());
        span.record("project", &project).record("memory_id", memory_id);
        let (totals, began) = (Current::default(), Instant::now());
        let (memory_id, outer) = (memory_id.map(str::to_owned), current());
        let running = Running { span, totals, began, operation, project, memory_id, outer };
        Self(Some(Box::new(running)))
    }

    /// Links it to the span in which this is called. It is no part of that operation.
    pub(crate) fn following(mut self) -> Self {
        if let Self(Some(running)) = &mut self {
            running.span.follows_from(Span::current().id());
            running.outer = None;
        }
        self
    }

    pub(crate) fn run<F: Future>(self, work: F) -> InOperation<F> {
        InOperation { running: self.0, work }
    }
}

/// A future that counts to the operation in which this is called, also if another task polls it.
pub(crate) fn continued<F: Future>(work: F) -> Continued<F> {
    Continued { of: current().map(|totals| (Span::current(), totals)), work }
}

pin_project! {
    /// A future that is an operation.
    pub(crate) struct InOperation<F> {
        // If it is dropped, it adds its waits before the operation ends.
        #[pin]
        work: F,
        running: Option<Box<Running>>,
    }
}

pin_project! {
    /// See [`continued`].
    pub(crate) struct Continued<F> {
        of: Option<(Span, Current)>,
        #[pin]
        work: F,
    }
}

impl<F> Future for InOperation<F>
where
    F: Future,
    F::Output: Outcome,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let Some(running) = this.running else { return this.work.poll(cx) };
        let done = within(&running.span, &running.totals, || this.work.poll(cx));
        if let Poll::Ready(output) = &done
            && let Some(mut running) = this.running.take()
        {
            running.end(output.error_code().map_or(Ended::Ok, Ended::Error));
        }
        done
    }
}

impl<F: Future> Future for Continued<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        match this.of {
            Some((span, totals)) => within(span, totals, || this.work.poll(cx)),
            None => this.work.poll(cx),
        }
    }
}

/// Polls within a span, with these totals as the current ones.
fn within<T>(span: &Span, totals: &Current, poll: impl FnOnce() -> T) -> T {
    let _entered = span.enter();
    let replaced = CURRENT.try_with(|current| current.replace(Some(Arc::clone(totals))));
    let _restore = Restore(replaced.ok().flatten());
    poll()
}

/// Restores the operation around the one that was polled, also after a panic.
struct Restore(Option<Current>);

impl Drop for Restore {
    fn drop(&mut self) {
        let before = self.0.take();
        // Without thread-local values the thread is ending.
        let _ = CURRENT.try_with(|current| current.replace(before));
    }
}

#[derive(Clone, Copy)]
enum Ended {
    Ok,
    Error(ErrorCode),
    /// The caller dropped the future.
    Canceled,
}

impl Running {
    fn end(&mut self, ended: Ended) {
        let (outcome, code) = match ended {
            Ended::Ok => ("ok", None),
            Ended::Error(code) => ("error", Some(code.as_str())),
            Ended::Canceled => ("canceled", None),
        };
        let Totals { messages, tokens, sequence, flush, attempts, waited } =
            std::mem::take(&mut *locked(&self.totals));
        if let Some(outer) = &self.outer {
            let mut outer = locked(outer);
            outer.attempts += attempts;
            outer.waited += waited;
            outer.tokens = outer.tokens.or(tokens);
            outer.sequence = outer.sequence.or(sequence);
            outer.flush = outer.flush.or(flush);
        }
        let messages = (messages > 0).then_some(messages);
        let attempts = (attempts > 0).then_some(attempts);
        let sequence = sequence.map(Sequence::number);
        let flush_id = flush.map(tracing::field::display);
        let [wait_ms, duration_ms] = [waited, self.began.elapsed()].map(millis);
        self.span
            .record("outcome", outcome)
            .record("code", code)
            .record("messages", messages)
            .record("tokens_used", tokens)
            .record("sequence", sequence)
            .record("flush_id", &flush_id)
            .record("attempts", attempts)
            .record("wait_ms", wait_ms)
            .record("duration_ms", duration_ms);
        tracing::debug!(
            parent: &self.span,
            operation = self.operation,
            project = self.project,
            memory_id = self.memory_id,
            outcome,
            code,
            messages,
            tokens_used = tokens,
            sequence,
            flush_id,
            attempts,
            wait_ms,
            duration_ms,
            "operation ended"
        );
        self.operation = "";
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.operation.is_empty() {
            self.end(Ended::Canceled);
        }
    }
}

/// Milliseconds with the precision of microseconds.
fn millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 1_000_000.0).round() / 1_000.0
}
