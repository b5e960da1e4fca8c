//! The trait of summarizers, and its input.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::sync::Arc;

use async_trait::async_trait;
use memory_core::resource::FlushSettings;
use memory_core::tokens::message_tokens;
use memory_core::{Message, StoredMessage, TokenCounter};

/// Writes the summary that replaces messages.
///
/// [`from_fn`] makes one from a closure that calls a large language model. The rule-based one
/// ([`RuleBasedSummarizer`](crate::RuleBasedSummarizer)) has no dependencies.
#[async_trait]
pub trait Summarizer: fmt::Debug + Send + Sync + 'static {
    /// The name in receipts.
    fn name(&self) -> &str;

    /// Writes a summary of the messages, and of the previous summary if there is one.
    ///
    /// # Correctness
    /// The text must not be empty or over [`SummaryRequest::max_tokens`]; otherwise it is not used. It should repeat
    /// the relevant parts of [`SummaryRequest::previous`], because the new summary replaces that one. Called outside
    /// of any lock; other tasks append and read while it runs.
    ///
    /// # Errors
    /// [`SummarizeError`]; another summarizer then writes the summary.
    ///
    /// # Cancel safety
    /// The future is dropped when its time limit expires or the flush is canceled.
    async fn summarize(&self, request: SummaryRequest) -> Result<String, SummarizeError>;
}

/// The input of a summarizer. Its `Debug` form omits the contents.
#[derive(Clone)]
pub struct SummaryRequest {
    /// The text of the summary that the new one replaces, if there is one.
    pub previous: Option<Arc<str>>,
    /// The messages, in order; tool calls with all their results.
    pub messages: Arc<[StoredMessage]>,
    /// The most tokens of the text.
    pub max_tokens: u64,
    /// Counts the tokens of the text.
    pub counter: Arc<dyn TokenCounter>,
}

impl SummaryRequest {
    /// The request for the messages that a plan summarizes, fetched in ascending order of places.
    ///
    /// The summary may be as large as the settings allow, including its framing as a message, but always smaller than
    /// the messages it replaces. `None` if that leaves no room for any text.
    #[must_use]
    pub fn new(
        messages: Vec<StoredMessage>,
        settings: &FlushSettings,
        counter: Arc<dyn TokenCounter>,
    ) -> Option<Self> {
        let replaced: u64 = messages.iter().map(|message| u64::from(message.meta.tokens)).sum();
        let framing = message_tokens(&*counter, &Message::system(""));
        let max_tokens = settings
            .summary_tokens
            .min(replaced.saturating_sub(1))
            .checked_sub(framing.into())
            .filter(|tokens| *tokens > 0)?;
        let (earlier, messages): (Vec<_>, Vec<_>) =
            messages.into_iter().partition(|message| message.meta.summary);
        let previous = earlier.iter().map(|summary| summary.message.text()).collect::<Vec<_>>();
        let previous = (!previous.is_empty()).then(|| previous.join("\n\n").into());
        Some(Self { previous, messages: messages.into(), max_tokens, counter })
    }
}

impl fmt::Debug for SummaryRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SummaryRequest")
            .field("previous", &self.previous.is_some())
            .field("messages", &self.messages.len())
            .field("max_tokens", &self.max_tokens)
            .field("counter", &self.counter.name())
            .finish()
    }
}

/// Why a summarizer wrote no summary.
///
/// The reason is stored in the receipt of the flush and shown by health, so it must not quote the messages.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub struct SummarizeError {
    reason: String,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl SummarizeError {
    /// An error with this reason, such as "the model answered with status 529".
    #[must_use]
    pub fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), source: None }
    }

    /// Adds the source error.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }
}

/// Checks a summarizer's text, and trims white space at its ends.
///
/// # Errors
/// [`Rejected`] if the text is empty or too long.
pub fn accept_summary(
    text: &str,
    max_tokens: u64,
    counter: &dyn TokenCounter,
) -> Result<String, Rejected> {
    let text = text.trim();
    if text.is_empty() {
        return Err(Rejected::Empty);
    }
    let tokens = counter.count(text) as u64;
    if tokens > max_tokens {
        return Err(Rejected::TooLong { tokens, max_tokens });
    }
    Ok(text.into())
}

/// Why a summary is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Rejected {
    /// The text is empty.
    #[error("the summary is empty: return text from the summarizer")]
    Empty,
    /// The text is over its limit.
    #[error(
        "the summary has {tokens} tokens, over its limit of {max_tokens}: \
         pass the limit to the summarizer, or raise `summary_tokens`"
    )]
    TooLong {
        /// The tokens of the text.
        tokens: u64,
        /// The limit.
        max_tokens: u64,
    },
}

/// A summarizer from an async closure.
///
/// ```
/// use memory_flush::{SummarizeError, from_fn};
///
/// let summarizer = from_fn("my-model", |request| async move {
///     let prompt = format!("Summarize in at most {} tokens: ...", request.max_tokens);
///     let answer = Ok::<_, std::io::Error>(format!("(what a model says to: {prompt})"));
///     answer.map_err(|error| SummarizeError::new("the model did not answer").with_source(error))
/// });
/// # let _ = summarizer;
/// ```
pub fn from_fn<F, Fut>(name: impl Into<String>, summarize: F) -> Arc<dyn Summarizer>
where
    F: Fn(SummaryRequest) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<String, SummarizeError>> + Send + 'static,
{
    Arc::new(FromFn { name: name.into(), summarize })
}

struct FromFn<F> {
    name: String,
    summarize: F,
}

impl<F> fmt::Debug for FromFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FromFn").field("name", &self.name).finish_non_exhaustive()
    }
}

#[async_trait]
impl<F, Fut> Summarizer for FromFn<F>
where
    F: Fn(SummaryRequest) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<String, SummarizeError>> + Send + 'static,
{
    fn name(&self) -> &str {
        &self.name
    }

    async fn summarize(&self, request: SummaryRequest) -> Result<String, SummarizeError> {
        (self.summarize)(request).await
    }
}

#[cfg(test)]
mod tests {
    use memory_core::EstimateCounter;
    use proptest::prelude::*;

    use super::*;
    use crate::rule_based::RuleBasedSummarizer;
    use crate::splice::summary_message;
    use crate::testcount::counter;
    use memory_core_testkit::generators::{history, now};

    proptest! {
        #[test]
        fn accepted_summary_is_smaller_than_replaced(
            history in history(20), summary_tokens in 1..200_u64, counter in counter(),
        ) {
            let settings = FlushSettings::for_budget(10_000).with_summary_tokens(summary_tokens);
            let replaced: u64 = history.iter().map(|m| u64::from(m.meta.tokens)).sum();
            let summaries = history.iter().filter(|message| message.meta.summary).count();
            let count = history.len();
            let Some(request) = SummaryRequest::new(history, &settings, counter.clone()) else {
                return Ok(());
            };
            prop_assert_eq!(request.previous.is_some(), summaries > 0);
            prop_assert_eq!(request.messages.len(), count - summaries);
            let text = RuleBasedSummarizer::default().write(&request);
            let policy = memory_core::plan::Policy::with_max_tokens(10_000);
            let id = memory_core::store::MessageId::new(uuid::Uuid::nil());
            let message = summary_message(&text, id, now(), &policy, &*counter);
            prop_assert!(u64::from(message.tokens) < replaced);
            prop_assert!(u64::from(message.tokens) <= summary_tokens);
        }
    }

    #[test]
    fn empty_or_long_summary_is_rejected() {
        let accept = |text| accept_summary(text, 2, &EstimateCounter);
        assert_eq!(accept(" short \n"), Ok("short".into()));
        assert_eq!(accept("hello world"), Ok("hello world".into()), "just as long as it may be");
        assert_eq!(accept(" \n"), Err(Rejected::Empty));
        assert_eq!(accept("much too long"), Err(Rejected::TooLong { tokens: 3, max_tokens: 2 }));
    }

    #[test]
    fn request_debug_omits_contents() {
        let message = Message::user("secret");
        let policy = memory_core::plan::Policy::with_max_tokens(100);
        let id = memory_core::store::MessageId::new(uuid::Uuid::nil());
        let stored = policy
            .admit(message.into(), id, now(), &EstimateCounter)
            .stored_at(memory_core::Sequence::new(1));
        let request = SummaryRequest {
            previous: Some("secret".into()),
            messages: vec![stored].into(),
            max_tokens: 10,
            counter: Arc::new(EstimateCounter),
        };
        assert_eq!(
            format!("{request:?}"),
            "SummaryRequest { previous: true, messages: 1, max_tokens: 10, counter: \"estimate\" }"
        );
    }

    #[test]
    fn chain_debug_names_its_closures() {
        let own = from_fn("my-model", |_| std::future::ready(Ok(String::new())));
        assert_eq!(format!("{own:?}"), r#"FromFn { name: "my-model", .. }"#);
    }
}
