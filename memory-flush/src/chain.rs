//! A chain of summarizers, tried in order until one writes a summary.

use std::fmt::Debug;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use memory_core::StoredMessage;
use memory_core::resource::{Redactions, Redactor};

use crate::rule_based::RuleBasedSummarizer;
use crate::summarize::{SummarizeError, Summarizer, SummaryRequest, accept_summary};

/// A timer, because this crate has no clock.
pub trait Timer: Debug + Send + Sync {
    /// Completes after this duration.
    ///
    /// # Cancel safety
    /// Dropping the future ends the wait.
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;
}

/// Summarizers in order of preference, each with a time limit, followed by the rule-based one. A chain therefore
/// always ends and never fails.
#[derive(Debug, Clone)]
pub struct FallbackChain {
    /// The summarizers to try first, in this order.
    pub steps: Vec<Arc<dyn Summarizer>>,
    /// The time limit of each step.
    pub time_limit: Duration,
    /// The summarizer that writes the summary if every step fails.
    pub last: RuleBasedSummarizer,
    /// Redacts the summaries, and the reasons of failed steps, before they are used. A model may repeat a secret from
    /// a message that is older than the policy, or combine parts that the patterns did not match separately. Default:
    /// none.
    pub redactor: Option<Redactor>,
}

impl Default for FallbackChain {
    fn default() -> Self {
        Self {
            steps: Vec::new(),
            time_limit: Self::DEFAULT_TIME_LIMIT,
            last: RuleBasedSummarizer::default(),
            redactor: None,
        }
    }
}

impl FallbackChain {
    /// The default time limit of a step: 60 seconds.
    pub const DEFAULT_TIME_LIMIT: Duration = Duration::from_secs(60);

    /// Adds a summarizer, to be tried after the existing ones.
    #[must_use]
    pub fn with_step(mut self, summarizer: Arc<dyn Summarizer>) -> Self {
        self.steps.push(summarizer);
        self
    }

    /// Sets the time limit of each summarizer.
    #[must_use]
    pub const fn with_time_limit(mut self, time_limit: Duration) -> Self {
        self.time_limit = time_limit;
        self
    }

    /// Sets a redactor for the summaries.
    #[must_use]
    pub fn with_redactor(mut self, redactor: Option<Redactor>) -> Self {
        self.redactor = redactor;
        self
    }

    /// Runs the summarizers, and returns the first usable summary.
    ///
    /// # Correctness
    /// The text is within [`SummaryRequest::max_tokens`]. It is empty only if even the rule-based summarizer cannot
    /// write anything in that many tokens. A panicking summarizer counts as failed.
    ///
    /// # Cancel safety
    /// Dropping the future drops the summarizer's; it has no other effect.
    pub async fn run(&self, request: SummaryRequest, timer: &dyn Timer) -> Summary {
        let (mut declined, mut redactions) = (Vec::new(), Redactions::default());
        for step in &self.steps {
            let reason = match attempt(&**step, request.clone(), timer, self.time_limit).await {
                Outcome::Written(text) => {
                    let text = self.redacted(text, &mut redactions);
                    match accept_summary(&text, request.max_tokens, &*request.counter) {
                        Ok(text) => {
                            let summary = Summary::new(text, step.name());
                            return Summary { declined, redactions, ..summary };
                        }
                        Err(rejected) => rejected.to_string(),
                    }
                }
                Outcome::Failed(error) => self.redacted(error.to_string(), &mut redactions),
                Outcome::TimedOut => {
                    format!("it took longer than {:?}: raise the time limit", self.time_limit)
                }
                Outcome::Panicked => "it panicked: fix the summarizer".into(),
            };
            declined.push(Declined { summarizer: step.name().into(), reason: shortened(&reason) });
        }
        let mut summary = self.by_rule(&request);
        redactions.add(summary.redactions);
        summary.redactions = redactions;
        Summary { declined, ..summary }
    }

    /// The summary to use if no summarizer writes one.
    pub(crate) fn by_rule(&self, request: &SummaryRequest) -> Summary {
        let mut redactions = Redactions::default();
        let text = match &self.redactor {
            Some(redactor) => self.last.write(&without_secrets(request, redactor, &mut redactions)),
            None => self.last.write(request),
        };
        Summary { redactions, ..Summary::new(text, RuleBasedSummarizer::NAME) }
    }

    fn redacted(&self, text: String, redactions: &mut Redactions) -> String {
        match &self.redactor {
            Some(redactor) => redactor.redact_string_counting(text, redactions),
            None => text,
        }
    }
}

/// Redacts before the rules cut the text, because the patterns would not match a cut secret.
fn without_secrets(
    request: &SummaryRequest,
    redactor: &Redactor,
    redactions: &mut Redactions,
) -> SummaryRequest {
    let previous = request
        .previous
        .as_deref()
        .map(|text| redactor.redact_string_counting(text.into(), redactions).into());
    let messages = request.messages.iter().map(|stored| {
        let message = redactor.redact_counting(stored.message.clone(), redactions);
        StoredMessage::new(stored.meta.clone(), message)
    });
    SummaryRequest { messages: messages.collect(), previous, ..request.clone() }
}

/// The outcome of one attempt.
enum Outcome {
    Written(String),
    Failed(SummarizeError),
    TimedOut,
    Panicked,
}

async fn attempt(
    summarizer: &dyn Summarizer,
    request: SummaryRequest,
    timer: &dyn Timer,
    time_limit: Duration,
) -> Outcome {
    let Ok(mut work) = catch_unwind(AssertUnwindSafe(|| summarizer.summarize(request))) else {
        return Outcome::Panicked;
    };
    let mut time = timer.sleep(time_limit);
    poll_fn(|cx| {
        // After a panic the future is dropped and never polled again.
        match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(cx))) {
            Ok(Poll::Ready(Ok(text))) => Poll::Ready(Outcome::Written(text)),
            Ok(Poll::Ready(Err(error))) => Poll::Ready(Outcome::Failed(error)),
            Ok(Poll::Pending) => time.as_mut().poll(cx).map(|()| Outcome::TimedOut),
            Err(_panic) => Poll::Ready(Outcome::Panicked),
        }
    })
    .await
}

/// Reasons are stored in receipts, so long texts such as error pages are cut.
fn shortened(reason: &str) -> String {
    const LONGEST: usize = 300;
    match reason.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}...", reason.get(..end).unwrap_or_default()),
        None => reason.into(),
    }
}

/// A summary and its origin. Its `Debug` form omits the text.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    /// The text.
    pub text: String,
    /// The summarizer that wrote it.
    pub summarizer: String,
    /// The summarizers that were tried before, with the reasons of their failures.
    pub declined: Vec<Declined>,
    /// The places that the [redactor](FallbackChain::redactor) replaced in the text and the reasons.
    pub redactions: Redactions,
}

impl Summary {
    /// A summary by this summarizer, the first that was tried.
    #[must_use]
    pub fn new(text: impl Into<String>, summarizer: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            summarizer: summarizer.into(),
            declined: Vec::new(),
            redactions: Redactions::default(),
        }
    }

    /// Why a fallback wrote the summary instead of the preferred summarizer, if so.
    #[must_use]
    pub fn fallback(&self) -> Option<String> {
        let reasons = self.declined.iter().map(|declined| {
            let Declined { summarizer, reason } = declined;
            format!("{summarizer}: {reason}")
        });
        (!self.declined.is_empty()).then(|| reasons.collect::<Vec<_>>().join("; "))
    }
}

impl Debug for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Summary")
            .field("bytes", &self.text.len())
            .field("summarizer", &self.summarizer)
            .field("declined", &self.declined)
            .finish()
    }
}

/// A summarizer that was tried and wrote no usable summary.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Declined {
    /// Its name.
    pub summarizer: String,
    /// The reason, at most 300 characters.
    pub reason: String,
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::task::{Context, Waker};

    use memory_core::plan::Policy;
    use memory_core::store::MessageId;
    use memory_core::{EstimateCounter, Message, Sequence};

    use super::*;
    use crate::summarize::from_fn;
    use memory_core_testkit::generators::now;

    /// A timer that fires at once, or never.
    #[derive(Debug)]
    struct Passes(bool);

    impl Timer for Passes {
        fn sleep(&self, _: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
            if self.0 { Box::pin(ready(())) } else { Box::pin(pending()) }
        }
    }

    fn request() -> SummaryRequest {
        let policy = Policy::with_max_tokens(1_000);
        let messages = (1..=9_u64).map(|number| {
            let message = Message::user(format!("message {number}"));
            let id = MessageId::new(uuid::Uuid::from_u128(number.into()));
            policy
                .admit(message.into(), id, now(), &EstimateCounter)
                .stored_at(Sequence::new(number))
        });
        SummaryRequest {
            previous: None,
            messages: messages.collect::<Vec<_>>().into(),
            max_tokens: 60,
            counter: Arc::new(EstimateCounter),
        }
    }

    /// A chain only waits for the timer, so one poll is enough.
    fn run(chain: &FallbackChain, timer: &dyn Timer) -> Option<Summary> {
        let mut work = Box::pin(chain.run(request(), timer));
        match work.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(summary) => Some(summary),
            Poll::Pending => None,
        }
    }

    fn says(name: &str, text: &'static str) -> Arc<dyn Summarizer> {
        from_fn(name, move |_| ready(Ok(text.to_owned())))
    }

    #[test]
    fn first_usable_summary_is_taken() {
        let chain = FallbackChain::default()
            .with_step(from_fn("fails", |_| ready(Err(SummarizeError::new("status 529")))))
            .with_step(says("empty", "  "))
            .with_step(from_fn("chatty", |_| ready(Ok("word ".repeat(100)))))
            .with_step(from_fn("hangs", |_| pending()))
            .with_step(from_fn("panics", |_| async { panic!("oh no") }))
            .with_step(from_fn("panics early", |_| -> std::future::Ready<_> { panic!("oh no") }))
            .with_step(says("good", " all is well "))
            .with_step(says("never asked", "x"));
        let summary = run(&chain, &Passes(true)).unwrap();
        assert_eq!(summary.text, "all is well");
        assert_eq!(summary.summarizer, "good");
        let names: Vec<_> = summary.declined.iter().map(|d| d.summarizer.as_str()).collect();
        assert_eq!(names, ["fails", "empty", "chatty", "hangs", "panics", "panics early"]);
        let fallback = summary.fallback().unwrap();
        assert!(
            fallback.starts_with("fails: status 529; empty: the summary is empty"),
            "{fallback}"
        );
        assert!(fallback.contains("hangs: it took longer than 60s"), "{fallback}");
    }

    #[test]
    fn summary_debug_omits_the_text() {
        let summary =
            run(&FallbackChain::default().with_step(says("good", "secret")), &Passes(true));
        assert_eq!(
            format!("{:?}", summary.unwrap()),
            r#"Summary { bytes: 6, summarizer: "good", declined: [] }"#
        );
    }

    #[test]
    fn rules_are_the_last_fallback() {
        let chain = FallbackChain::default().with_step(from_fn("hangs", |_| pending()));
        let summary = run(&chain, &Passes(true)).unwrap();
        assert_eq!(summary.summarizer, RuleBasedSummarizer::NAME);
        assert!(summary.text.starts_with("Summary of 9 earlier messages"), "{}", summary.text);
        assert!(EstimateCounter.count(&summary.text) <= 60);
        assert_eq!(summary.declined.len(), 1);
        let alone = run(&FallbackChain::default(), &Passes(true)).unwrap();
        assert_eq!(alone.fallback(), None);
    }

    #[test]
    fn summaries_and_reasons_are_redacted() {
        let redactor = Redactor::new(&["message|status"], "[left out]").unwrap();
        let chain = FallbackChain::default().with_redactor(Some(redactor));
        let fails = from_fn("fails", |_| ready(Err(SummarizeError::new("status 529"))));
        let written = chain.clone().with_step(fails).with_step(says("good", "one message"));
        let summary = run(&written, &Passes(true)).unwrap();
        assert_eq!(summary.text, "one [left out]");
        assert_eq!(summary.fallback().unwrap(), "fails: [left out] 529");

        // The rules quote messages that are older than the policy.
        let by_rule = run(&chain, &Passes(true)).unwrap().text;
        assert!(by_rule.contains("user: [left out] 1") && !by_rule.contains("user: message"));
        assert!(EstimateCounter.count(&by_rule) <= 60);

        // A text that becomes too long by the replacement is not used.
        let long = Redactor::new(&["word"], "a long replacement ").unwrap();
        let chain = FallbackChain::default().with_redactor(Some(long));
        let words = from_fn("words", |_| ready(Ok("word ".repeat(40))));
        let summary = run(&chain.with_step(words), &Passes(true)).unwrap();
        assert_eq!(summary.summarizer, RuleBasedSummarizer::NAME);
        assert!(EstimateCounter.count(&summary.text) <= 60);
    }

    #[test]
    fn summarizer_may_use_its_time_limit() {
        let chain = FallbackChain::default().with_step(from_fn("slow", |_| pending()));
        assert_eq!(run(&chain, &Passes(false)), None);
    }

    #[test]
    fn long_reason_is_cut() {
        let chain = FallbackChain::default()
            .with_step(from_fn("verbose", |_| ready(Err(SummarizeError::new("é".repeat(1_000))))));
        let summary = run(&chain, &Passes(true)).unwrap();
        assert_eq!(summary.declined[0].reason.chars().count(), 303);
    }

    use memory_core::TokenCounter;
}
