//! Summarisers one after another, until one of them has written a summary.

use std::fmt::Debug;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use memory_core::{Redactor, StoredMessage};

use crate::rule_based::RuleBasedSummarizer;
use crate::summarize::{SummarizeError, Summarizer, SummaryRequest, accept_summary};

/// Lets time pass: the clock that this crate does not have.
pub trait Timer: Debug + Send + Sync {
    /// Completes when this much time has passed.
    ///
    /// # Cancel safety
    /// Dropping the future ends the wait.
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;
}

/// Summarisers in order of preference, each with a limit of time, the rule-based one last: a chain
/// always comes to an end, and cannot fail.
#[derive(Debug, Clone)]
pub struct FallbackChain {
    /// The summarisers to ask first, in this order.
    pub steps: Vec<Arc<dyn Summarizer>>,
    /// How long each of them may take.
    pub time_limit: Duration,
    /// The one that writes the summary where none of them does.
    pub last: RuleBasedSummarizer,
    /// Takes secrets out of what they write, and of the reasons why they do not, before anything else sees it. A
    /// model may repeat what a message that is older than the policy says, or put together what patterns did
    /// not find apart. Default: none.
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
    /// How long a summariser may take unless told otherwise: 60 seconds.
    pub const DEFAULT_TIME_LIMIT: Duration = Duration::from_secs(60);

    /// The same chain with one more summariser to ask, after those that it has.
    #[must_use]
    pub fn with_step(mut self, summarizer: Arc<dyn Summarizer>) -> Self {
        self.steps.push(summarizer);
        self
    }

    /// The same chain with another limit of time for each summariser.
    #[must_use]
    pub const fn with_time_limit(mut self, time_limit: Duration) -> Self {
        self.time_limit = time_limit;
        self
    }

    /// The same chain, with secrets taken out of what the summarizers write.
    #[must_use]
    pub fn with_redactor(mut self, redactor: Option<Redactor>) -> Self {
        self.redactor = redactor;
        self
    }

    /// Asks the summarisers, and returns the first summary that can be used.
    ///
    /// # Correctness
    /// The text is within [`SummaryRequest::max_tokens`]. It is empty only where not even the
    /// rule-based summariser can say anything in as few tokens. A summariser that panics has failed.
    ///
    /// # Cancel safety
    /// Dropping the future drops the summariser's; nothing else has happened.
    pub async fn run(&self, request: SummaryRequest, timer: &dyn Timer) -> Summary {
        let mut declined = Vec::new();
        for step in &self.steps {
            let reason = match attempt(&**step, request.clone(), timer, self.time_limit).await {
                Outcome::Written(text) => {
                    match accept_summary(
                        &self.redacted(text),
                        request.max_tokens,
                        &*request.counter,
                    ) {
                        Ok(text) => {
                            return Summary { text, summarizer: step.name().into(), declined };
                        }
                        Err(rejected) => rejected.to_string(),
                    }
                }
                Outcome::Failed(error) => self.redacted(error.to_string()),
                Outcome::TimedOut => {
                    format!("it took longer than {:?}: raise the time limit", self.time_limit)
                }
                Outcome::Panicked => "it panicked: mend the summariser".into(),
            };
            declined.push(Declined { summarizer: step.name().into(), reason: shortened(&reason) });
        }
        Summary { declined, ..self.by_rule(&request) }
    }

    /// The summary that is written where no summarizer writes one.
    pub(crate) fn by_rule(&self, request: &SummaryRequest) -> Summary {
        let text = match &self.redactor {
            Some(redactor) => self.last.write(&without_secrets(request, redactor)),
            None => self.last.write(request),
        };
        Summary { text, summarizer: RuleBasedSummarizer::NAME.into(), declined: Vec::new() }
    }

    fn redacted(&self, text: String) -> String {
        match &self.redactor {
            Some(redactor) => redactor.redact_string(text),
            None => text,
        }
    }
}

/// Before the rules cut it: what is left of a secret then is not recognized.
fn without_secrets(request: &SummaryRequest, redactor: &Redactor) -> SummaryRequest {
    let messages = request.messages.iter().map(|stored| StoredMessage {
        message: redactor.redact(stored.message.clone()),
        ..stored.clone()
    });
    SummaryRequest {
        previous: request
            .previous
            .as_deref()
            .map(|text| redactor.redact_string(text.into()).into()),
        messages: messages.collect(),
        ..request.clone()
    }
}

/// What became of one attempt.
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

/// Reasons are kept with the receipts: a body of an error page is not one.
fn shortened(reason: &str) -> String {
    const LONGEST: usize = 300;
    match reason.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}...", reason.get(..end).unwrap_or_default()),
        None => reason.into(),
    }
}

/// A summary, and how it came about. Its `Debug` form leaves the text out.
#[derive(Clone, PartialEq, Eq)]
pub struct Summary {
    /// The text.
    pub text: String,
    /// Who wrote it.
    pub summarizer: String,
    /// Who was asked before, and why they did not.
    pub declined: Vec<Declined>,
}

impl Summary {
    /// Why somebody else wrote it than was asked first, if so.
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

/// A summariser that was asked and wrote nothing that can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declined {
    /// Its name.
    pub summarizer: String,
    /// Why, in at most 300 characters.
    pub reason: String,
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::task::{Context, Waker};

    use memory_core::{EstimateCounter, Message, MessageId, Policy, Sequence};

    use super::*;
    use crate::summarize::from_fn;
    use crate::testkit::now;

    /// Time that passes at once, or never.
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

    /// Nothing in a chain waits for anything but the timer, so one poll is enough.
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
    fn the_first_usable_summary_is_taken_and_the_others_are_told_apart() {
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
        let told = summary.fallback().unwrap();
        assert!(told.starts_with("fails: status 529; empty: the summary is empty"), "{told}");
        assert!(told.contains("hangs: it took longer than 60s"), "{told}");
    }

    #[test]
    fn the_debug_form_of_a_summary_tells_its_size_and_leaves_the_text_out() {
        let summary =
            run(&FallbackChain::default().with_step(says("good", "secret")), &Passes(true));
        assert_eq!(
            format!("{:?}", summary.unwrap()),
            r#"Summary { bytes: 6, summarizer: "good", declined: [] }"#
        );
    }

    #[test]
    fn where_everybody_fails_the_rules_write_the_summary() {
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
    fn secrets_are_taken_out_of_summaries_and_reasons() {
        let redactor = Redactor::new(&["message|status"], "[left out]").unwrap();
        let chain = FallbackChain::default().with_redactor(Some(redactor));
        let fails = from_fn("fails", |_| ready(Err(SummarizeError::new("status 529"))));
        let written = chain.clone().with_step(fails).with_step(says("good", "one message"));
        let summary = run(&written, &Passes(true)).unwrap();
        assert_eq!(summary.text, "one [left out]");
        assert_eq!(summary.fallback().unwrap(), "fails: [left out] 529");

        // Messages that are older than the policy are quoted by the rules.
        let by_rule = run(&chain, &Passes(true)).unwrap().text;
        assert!(by_rule.contains("user: [left out] 1") && !by_rule.contains("user: message"));
        assert!(EstimateCounter.count(&by_rule) <= 60);

        // A text that the replacement makes too long is not used.
        let long = Redactor::new(&["word"], "a long replacement ").unwrap();
        let chain = FallbackChain::default().with_redactor(Some(long));
        let words = from_fn("words", |_| ready(Ok("word ".repeat(40))));
        let summary = run(&chain.with_step(words), &Passes(true)).unwrap();
        assert_eq!(summary.summarizer, RuleBasedSummarizer::NAME);
        assert!(EstimateCounter.count(&summary.text) <= 60);
    }

    #[test]
    fn a_summariser_is_waited_for_while_it_has_time() {
        let chain = FallbackChain::default().with_step(from_fn("slow", |_| pending()));
        assert_eq!(run(&chain, &Passes(false)), None);
    }

    #[test]
    fn a_long_reason_is_kept_short() {
        let chain = FallbackChain::default()
            .with_step(from_fn("verbose", |_| ready(Err(SummarizeError::new("é".repeat(1_000))))));
        let summary = run(&chain, &Passes(true)).unwrap();
        assert_eq!(summary.declined[0].reason.chars().count(), 303);
    }

    use memory_core::TokenCounter;
}
