//! The summarizers of programs.

use std::collections::BTreeSet;
use std::time::Duration;

use async_trait::async_trait;
use memory_core::Message;
use memory_flush::{SummarizeError, Summarizer, SummaryRequest};
use memory_lock::{LockKey, LockManager, LockOptions};

use crate::history::{Tag, tag_in, tag_of};
use crate::program::SummarizerKind;

/// A summarizer with the program's behavior.
#[derive(Debug)]
pub(crate) struct ModelSummarizer {
    pub(crate) kind: SummarizerKind,
    /// Its summaries name the messages that they repeat.
    pub(crate) names: bool,
    /// The planted bug: it holds this lease while it writes.
    pub(crate) holds: Option<(LockManager, LockKey)>,
}

#[async_trait]
impl Summarizer for ModelSummarizer {
    fn name(&self) -> &str {
        "model"
    }

    async fn summarize(&self, request: SummaryRequest) -> Result<String, SummarizeError> {
        let held = match &self.holds {
            Some((locks, key)) => locks.lock(key, &LockOptions::new()).await.ok(),
            None => None,
        };
        let messages = request.messages.len();
        let named = Some(&request).filter(|_| self.names).and_then(named);
        let text = match self.kind {
            SummarizerKind::Quick | SummarizerKind::Slow => {
                if self.kind == SummarizerKind::Slow {
                    let millis = 500 + u64::try_from(messages).unwrap_or(0) * 250;
                    tokio::time::sleep(Duration::from_millis(millis)).await;
                }
                named.unwrap_or_else(|| format!("S{messages}"))
            }
            SummarizerKind::Failing => return Err(SummarizeError::new("the model is overloaded")),
            SummarizerKind::Hanging => std::future::pending().await,
            SummarizerKind::Empty => " \n".to_owned(),
            SummarizerKind::Wordy => "many words ".repeat(1_000),
        };
        drop(held);
        Ok(text)
    }
}

/// Begins the text of a summary that names the messages that it repeats.
const NAMED: &str = "of ";

/// The text of a summary of these messages, unless it is unknown what an earlier one repeats, or the text is too long.
fn named(request: &SummaryRequest) -> Option<String> {
    // A flush may clear tool results before it summarizes them.
    let mut messages = request.messages.iter().map(|stored| &stored.message);
    let has_text = |message: &&Message| message.tool_link().results.is_empty();
    let mut all: BTreeSet<Tag> = messages.by_ref().filter(has_text).filter_map(tag_of).collect();
    for text in request.previous.iter().flat_map(|texts| texts.split("\n\n")) {
        all.extend(sources_in(text)?);
    }
    let mut ranges: Vec<(Tag, Tag)> = Vec::new();
    for tag in all {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == tag => *last = tag,
            _ => ranges.push((tag, tag)),
        }
    }
    let range = |(first, last): &(Tag, Tag)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    };
    let text = NAMED.to_owned() + &ranges.iter().map(range).collect::<Vec<_>>().join(",");
    (request.counter.count(&text) as u64 <= request.max_tokens).then_some(text)
}

/// The messages that a summary repeats, or the message of an agent in its place; `None` if its text does not say so.
pub(crate) fn sources_in(text: &str) -> Option<BTreeSet<Tag>> {
    if let Some(tag) = tag_in(text) {
        return Some([tag].into());
    }
    let mut all = BTreeSet::new();
    for range in text.strip_prefix(NAMED)?.split(',').filter(|range| !range.is_empty()) {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        all.extend(first.parse::<Tag>().ok()?..=last.parse().ok()?);
    }
    Some(all)
}
