//! Compacts a plain list of messages with a summary in one call: no store, no runtime, no clock.

use std::collections::HashSet;
use std::fmt;
use std::future::pending;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use memory_core::plan::{EvictionGoal, Policy};
use memory_core::resource::FlushSettings;
use memory_core::store::{Generation, MessageId, MessageMeta, Shortfall};
use memory_core::tokens::message_tokens;
use memory_core::{
    ContentType, Entry, EstimateCounter, Message, Role, Sequence, StoredMessage, TokenCounter,
};
use uuid::Uuid;

use crate::chain::{Declined, FallbackChain, Summary, Timer};
use crate::hybrid::HybridSummary;
use crate::plan::FlushPlan;
use crate::splice::{FlushRecord, WrittenSummary, splice_for};
use crate::strategy::{FlushInput, FlushStrategy};
use crate::summarize::{Summarizer, SummaryRequest};

/// The name of a summary among plain messages; the next compaction recognizes it by this name.
const SUMMARY_NAME: &str = "summary";

/// The most tokens of a summary by default.
const SUMMARY_TOKENS: u64 = 500;

/// The options of a compaction.
#[derive(Debug, Clone)]
pub struct CompactOptions {
    max_tokens: u64,
    summary_tokens: Option<u64>,
    counter: Arc<dyn TokenCounter>,
    chain: FallbackChain,
}

impl CompactOptions {
    /// Compacts to this many tokens, with a rule-based summary and estimated tokens.
    #[must_use]
    pub fn new(max_tokens: u64) -> Self {
        Self {
            max_tokens,
            summary_tokens: None,
            counter: Arc::new(EstimateCounter),
            chain: FallbackChain::default(),
        }
    }

    /// Adds a summarizer, such as a model behind [`from_fn`](crate::from_fn). Summarizers are tried in order; if none
    /// writes a usable summary, the rules do.
    #[must_use]
    pub fn with_summarizer(mut self, summarizer: Arc<dyn Summarizer>) -> Self {
        self.chain = self.chain.with_step(summarizer);
        self
    }

    /// Sets the token counter. Default: [`EstimateCounter`].
    #[must_use]
    pub fn with_counter(mut self, counter: Arc<dyn TokenCounter>) -> Self {
        self.counter = counter;
        self
    }

    /// Sets the limit of the summary in tokens. Default: 500, or a quarter of `max_tokens` if that is less.
    #[must_use]
    pub const fn with_summary_tokens(mut self, tokens: u64) -> Self {
        self.summary_tokens = Some(tokens);
        self
    }
}

/// The result of a compaction. Its `Debug` form omits the messages.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub struct Compacted {
    /// The messages, in order; the summary is in the place of the first that it replaces.
    pub messages: Vec<Message>,
    /// The tokens before the compaction.
    pub tokens_before: u64,
    /// The tokens after the compaction.
    pub tokens_after: u64,
    /// The number of messages that the summary replaces, including an earlier summary.
    pub summarized: u64,
    /// The number of messages removed without a summary, which happens only if a summary would be as large as the
    /// messages it replaces.
    pub evicted: u64,
    /// The summarizer that wrote the summary, if there is a new one.
    pub summarizer: Option<String>,
    /// The summarizers that were tried before, with the reasons of their failures.
    pub declined: Vec<Declined>,
    /// Why the result is still over `max_tokens`, if it is.
    pub shortfall: Option<Shortfall>,
}

/// Compacts a conversation: one summary replaces the oldest messages, within the limits of `options`.
///
/// System prompts and calls without a result are kept. A call and its results are kept or summarized together. An
/// earlier summary is merged into the new one. A list within `max_tokens` is returned unchanged, without calling a
/// summarizer. The summary is a system message with the name `summary`.
///
/// There is no time limit, because this crate has no clock. The caller can add one, such as `tokio::time::timeout`,
/// with [`compact_by_rule`] as the fallback.
///
/// # Examples
///
/// ```
/// use memory_core::Message;
/// use memory_flush::{CompactOptions, compact, from_fn};
///
/// # async fn example() {
/// let mut messages = vec![Message::system("You are a travel agent.")];
/// messages.extend((1..=200).map(|day| Message::user(format!("What is there to see on day {day}?"))));
///
/// let model = from_fn("my-model", |request| async move {
///     Ok(format!("(what a model says of {} messages)", request.messages.len()))
/// });
/// let options = CompactOptions::new(600).with_summarizer(model);
/// let compacted = compact(&messages, &options).await;
/// assert!(compacted.tokens_after <= 600 && compacted.evicted == 0);
/// assert_eq!(compacted.messages[0].text(), "You are a travel agent.");
/// assert!(compacted.messages[1].text().starts_with("(what a model says of "));
/// # }
/// # let mut work = Box::pin(example());
/// # let mut context = std::task::Context::from_waker(std::task::Waker::noop());
/// # assert!(work.as_mut().poll(&mut context).is_ready());
/// ```
///
/// # Cancel safety
/// Dropping the future drops the summarizer's; `messages` is only read.
pub async fn compact(messages: &[Message], options: &CompactOptions) -> Compacted {
    let compaction = Compaction::plan(messages, options);
    let summary = match compaction.request() {
        Some(request) => Some(options.chain.run(request, &NoTimer).await),
        None => None,
    };
    compaction.finish(summary.as_ref())
}

/// Like [`compact`], with a rule-based summary for any summarizers in `options`: a pure function.
///
/// # Examples
///
/// ```
/// use memory_core::Message;
/// use memory_flush::{CompactOptions, compact_by_rule};
///
/// let messages: Vec<_> = (1..=200).map(|day| Message::user(format!("Where to on day {day}?"))).collect();
/// let compacted = compact_by_rule(&messages, &CompactOptions::new(600));
/// assert!(compacted.tokens_after <= 600);
/// assert!(compacted.messages[0].text().starts_with("Summary of "));
/// ```
#[must_use]
pub fn compact_by_rule(messages: &[Message], options: &CompactOptions) -> Compacted {
    let compaction = Compaction::plan(messages, options);
    let summary = compaction.request().map(|request| options.chain.by_rule(&request));
    compaction.finish(summary.as_ref())
}

/// A compaction in progress.
struct Compaction<'a> {
    options: &'a CompactOptions,
    policy: Policy,
    settings: FlushSettings,
    history: Vec<StoredMessage>,
    metas: Vec<MessageMeta>,
    plan: FlushPlan,
}

impl<'a> Compaction<'a> {
    fn plan(messages: &[Message], options: &'a CompactOptions) -> Self {
        let CompactOptions { max_tokens, summary_tokens, counter, .. } = options;
        let policy = Policy::with_max_tokens(*max_tokens);
        let defaults = FlushSettings::for_budget(*max_tokens);
        let most = SUMMARY_TOKENS.min(max_tokens / 4);
        let settings = defaults.with_summary_tokens(summary_tokens.unwrap_or(most).max(1));
        let history: Vec<_> = (1..)
            .zip(messages)
            .map(|(place, message)| {
                let is_summary = is_summary(message);
                let mut entry = Entry::new(message.clone());
                if is_summary {
                    entry = entry.with_content_type(ContentType::Summary);
                }
                let id = MessageId::new(Uuid::from_u128(place.into()));
                let new = policy.admit(entry, id, Timestamp::UNIX_EPOCH, &**counter);
                let mut stored = new.stored_at(Sequence::new(place));
                stored.meta.summary = is_summary;
                stored
            })
            .collect();
        let metas: Vec<_> = history.iter().map(|stored| stored.meta.clone()).collect();
        let input = Self::input(&metas, &policy, &settings);
        let plan = if input.before().tokens <= *max_tokens {
            FlushPlan::new(&input, Vec::new(), Vec::new())
        } else {
            HybridSummary.plan(&input)
        };
        Self { options, policy, settings, history, metas, plan }
    }

    fn input<'m>(
        metas: &'m [MessageMeta],
        policy: &'m Policy,
        settings: &'m FlushSettings,
    ) -> FlushInput<'m> {
        // No call times out, because a plain message has no creation time.
        let goal = EvictionGoal::tokens(policy.max_tokens);
        FlushInput::new(metas, policy, settings, Timestamp::UNIX_EPOCH).with_target(goal)
    }

    fn request(&self) -> Option<SummaryRequest> {
        if self.plan.summarize.is_empty() {
            return None;
        }
        let places: HashSet<_> = self.plan.summarize.iter().collect();
        let picked = self.history.iter().filter(|stored| places.contains(&stored.meta.sequence));
        // The name of the summary is also sent, so it counts.
        let counter = &*self.options.counter;
        let framing = |message| u64::from(message_tokens(counter, &message));
        let name = framing(named_summary("")).saturating_sub(framing(Message::system("")));
        let summary_tokens = self.settings.summary_tokens.saturating_sub(name);
        let settings = self.settings.with_summary_tokens(summary_tokens);
        SummaryRequest::new(picked.cloned().collect(), &settings, Arc::clone(&self.options.counter))
    }

    fn finish(self, summary: Option<&Summary>) -> Compacted {
        let Self { options, policy, settings, history, metas, plan } = self;
        let counter = &*options.counter;
        let id = MessageId::new(Uuid::nil());
        let written = summary.and_then(|summary| {
            let mut written =
                WrittenSummary::new(summary, id, Timestamp::UNIX_EPOCH, &policy, counter)?;
            written.message.message = named_summary(&summary.text);
            written.message.tokens = message_tokens(counter, &written.message.message);
            Some(written)
        });
        let record = FlushRecord {
            id: Uuid::nil(),
            strategy: HybridSummary.name().to_owned(),
            started_at: Timestamp::UNIX_EPOCH,
            duration: Duration::ZERO,
        };
        let input = Self::input(&metas, &policy, &settings);
        let before = input.before().tokens;
        let splice = splice_for(&plan, &input, Generation::new(1), written, record);
        let gone: HashSet<_> = splice.summarized.iter().chain(&splice.evicted).copied().collect();
        let mut place = splice.summarized.first().copied();
        let mut new = splice.summary.map(|summary| summary.message);
        let summarizer = summary.filter(|_| new.is_some()).map(|it| it.summarizer.clone());
        let mut messages = Vec::with_capacity(history.len() + 1 - gone.len().min(history.len()));
        for stored in history {
            if place.take_if(|place| *place == stored.meta.sequence).is_some() {
                messages.extend(new.take());
            }
            if !gone.contains(&stored.meta.sequence) {
                messages.push(stored.message);
            }
        }
        let receipt = splice.receipt.as_ref();
        let tokens_after = receipt.map_or(before, |receipt| receipt.tokens_after);
        Compacted {
            messages,
            tokens_before: before,
            tokens_after,
            summarized: splice.summarized.len() as u64,
            evicted: splice.evicted.len() as u64,
            summarizer,
            declined: summary.map(|summary| summary.declined.clone()).unwrap_or_default(),
            shortfall: receipt
                .and_then(|receipt| receipt.shortfall)
                .filter(|_| tokens_after > options.max_tokens),
        }
    }
}

fn named_summary(text: &str) -> Message {
    Message::system(text).with_name(SUMMARY_NAME)
}

fn is_summary(message: &Message) -> bool {
    *message.role() == Role::System && message.name() == Some(SUMMARY_NAME)
}

/// This crate has no clock: the caller limits the time.
#[derive(Debug)]
struct NoTimer;

impl Timer for NoTimer {
    fn sleep(&self, _: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(pending())
    }
}

impl fmt::Debug for Compacted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compacted")
            .field("messages", &self.messages.len())
            .field("tokens_before", &self.tokens_before)
            .field("tokens_after", &self.tokens_after)
            .field("summarized", &self.summarized)
            .field("evicted", &self.evicted)
            .field("summarizer", &self.summarizer)
            .field("declined", &self.declined)
            .field("shortfall", &self.shortfall)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use memory_core::dialect::ToolCall;
    use memory_core::plan::check_pairing;
    use proptest::prelude::*;

    use super::*;
    use memory_core_testkit::generators::history;

    fn tokens(messages: &[Message]) -> u64 {
        messages.iter().map(|it| u64::from(message_tokens(&EstimateCounter, it))).sum()
    }

    proptest! {
        #[test]
        fn compaction_fits_or_says_why(history in history(40), max_tokens in 1..2_000_u64) {
            let messages: Vec<_> = history.into_iter().map(|stored| stored.message).collect();
            let options = CompactOptions::new(max_tokens);
            let done = compact_by_rule(&messages, &options);
            prop_assert_eq!(done.tokens_before, tokens(&messages));
            prop_assert_eq!(done.tokens_after, tokens(&done.messages));
            prop_assert!(done.tokens_after <= done.tokens_before);
            prop_assert_eq!(done.shortfall.is_none(), done.tokens_after <= max_tokens);
            let new = u64::from(done.summarizer.is_some());
            let gone = done.summarized + done.evicted;
            prop_assert_eq!(done.messages.len() as u64, messages.len() as u64 - gone + new);
            if done.tokens_before <= max_tokens {
                prop_assert_eq!(&done.messages, &messages);
            }
        }
    }

    #[test]
    fn summaries_are_merged_and_calls_stay_whole() {
        let mut messages = vec![Message::system("You are a travel agent.")];
        for round in 0..6 {
            for day in 0..40 {
                let id = format!("call_{round}_{day}");
                messages.push(Message::user(format!("What about day {round} {day}?")));
                messages.push(Message::calls([ToolCall::function(&id, "flights", "{}")]));
                messages.push(Message::tool_result(&id, "three flights"));
            }
            let done = compact_by_rule(&messages, &CompactOptions::new(800));
            assert!(
                done.tokens_after <= 800 && done.summarized > 0 && done.evicted == 0,
                "{done:?}"
            );
            check_pairing(&done.messages).unwrap();
            assert_eq!(done.messages[0].text(), "You are a travel agent.");
            assert_eq!(done.messages.iter().filter(|message| is_summary(message)).count(), 1);
            assert_eq!(done.messages.last(), messages.last());
            messages = done.messages;
        }
        assert!(messages[1].text().contains("day 0 0"), "the beginning is still quoted");
    }

    #[test]
    fn debug_form_leaves_the_messages_out() {
        let messages = [Message::user("secret ".repeat(100)), Message::user("secret")];
        let done = compact_by_rule(&messages, &CompactOptions::new(60));
        let debug = format!("{done:?}");
        assert!(!debug.contains("secret") && debug.contains("tokens_before"), "{debug}");
    }

    fn talk(rounds: u32) -> Vec<Message> {
        let long = |round| {
            format!("round {round}: {}", "we talk about the harbor and the tide ".repeat(8))
        };
        (0..rounds).map(|round| Message::user(long(round))).collect()
    }

    #[test]
    fn summary_uses_its_whole_limit() {
        let summary_tokens = |options: &CompactOptions| {
            let done = compact_by_rule(&talk(400), options);
            let summary = done.messages.iter().find(|message| is_summary(message)).unwrap();
            u64::from(message_tokens(&EstimateCounter, summary))
        };
        // The default is a quarter of the budget; the rules write at most 250 here.
        let by_default = summary_tokens(&CompactOptions::new(400));
        assert!((40..=100).contains(&by_default), "{by_default}");
        for most in 40..=240 {
            let tokens = summary_tokens(&CompactOptions::new(20_000).with_summary_tokens(most));
            assert!(tokens <= most && tokens * 10 >= most * 4, "{tokens} of {most}");
        }
    }

    #[test]
    fn shortfall_is_reported_at_any_budget() {
        let messages = [vec![Message::system("Be kind to the harbor master.")], talk(6)].concat();
        for max_tokens in 1..600 {
            let done = compact_by_rule(&messages, &CompactOptions::new(max_tokens));
            assert_eq!(done.shortfall.is_none(), done.tokens_after <= max_tokens, "{max_tokens}");
        }
    }
}
