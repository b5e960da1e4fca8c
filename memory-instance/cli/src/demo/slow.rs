//! A slow substitute for a language model.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use memory_flush::{RuleBasedSummarizer, Summarizer, from_fn};

/// How long a summary takes.
pub(crate) const DEMO_PAUSE: Duration = Duration::from_millis(300);

/// Counts the summaries that were begun and ended.
#[derive(Debug, Clone, Default)]
pub(crate) struct SlowModel(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    begun: AtomicUsize,
    ended: AtomicUsize,
}

impl SlowModel {
    pub(crate) fn summarizer(&self) -> Arc<dyn Summarizer> {
        let counts = Arc::clone(&self.0);
        from_fn("a slow model", move |request| {
            let counts = Arc::clone(&counts);
            async move {
                counts.begun.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(DEMO_PAUSE).await;
                let summary = RuleBasedSummarizer::default().write(&request);
                counts.ended.fetch_add(1, Ordering::Relaxed);
                Ok(summary)
            }
        })
    }

    /// Whether a summary is being written now.
    pub(crate) fn is_busy(&self) -> bool {
        self.0.begun.load(Ordering::Relaxed) > self.ended()
    }

    /// How many were written.
    pub(crate) fn ended(&self) -> usize {
        self.0.ended.load(Ordering::Relaxed)
    }
}
