//! The summarizers of programs.

use std::time::Duration;

use async_trait::async_trait;
use memory_flush::{SummarizeError, Summarizer, SummaryRequest};
use memory_lock::{LockKey, LockManager, LockOptions};

use crate::program::SummarizerKind;

/// A summarizer with the program's behavior.
#[derive(Debug)]
pub(crate) struct ModelSummarizer {
    pub(crate) kind: SummarizerKind,
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
        let text = match self.kind {
            SummarizerKind::Quick => format!("S{messages}"),
            SummarizerKind::Slow => {
                let millis = 500 + u64::try_from(messages).unwrap_or(0) * 250;
                tokio::time::sleep(Duration::from_millis(millis)).await;
                format!("S{messages}")
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
