//! A model writes the summaries. It is behind a trait, so that tests and this program use one without a network.
//!
//! `cargo run -p memory-instance --example llm_summarizer`, any number of times: each summary takes up the one before.

use std::error::Error;
use std::fmt;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use memory_instance::{
    FlushMode, MemoryManager, MemoryResource, Message, SummarizeError, Summarizer, SummaryRequest,
};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run("sqlite://llm_summarizer.db", Arc::new(LocalModel)).await {
        Ok(report) => println!("{report}"),
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// Fills a memory to its budget, has it summarized, and reports on it.
async fn run(store: &str, model: Arc<dyn Model>) -> Result<String> {
    let manager = MemoryManager::builder()
        .with_resource(MemoryResource::new("support", 2_000))
        .with_summarizer(Arc::new(LlmSummarizer { model }))
        .with_summarizer_time_limit(Duration::from_secs(30)) // then the rule-based summarizer writes the summary
        .with_flush_mode(FlushMode::Manual) // a service leaves this out: it flushes in the background
        .open(store)
        .await?;
    let memory = manager.memory("support", "case-4711")?;
    for number in 1..=40 {
        let text = format!(
            "Observation {number}: the customer asked again about the delayed flight to Oslo. "
        );
        memory.append(Message::user(text.repeat(3))).await?;
    }
    let receipt = memory.perform_flush().await?.ok_or("the memory needed no flush")?;
    let summary = receipt.summary.as_ref().ok_or("the flush wrote no summary")?;
    let messages = memory.messages().await?;
    let text = messages
        .iter()
        .find(|stored| stored.meta.summary)
        .map(|stored| stored.message.text().into_owned())
        .unwrap_or_default();
    let mut report = format!(
        "{} messages summarized by {}, {} -> {} tokens\n{text}",
        receipt.summarized.len(),
        summary.summarizer,
        receipt.tokens_before,
        receipt.tokens_after,
    );
    if let Some(reason) = &summary.fallback {
        report += &format!("\nthe model wrote none: {reason}");
    }
    Ok(report)
}

/// A language model. Implement it by the HTTP client of your provider.
#[async_trait]
trait Model: fmt::Debug + Send + Sync + 'static {
    /// Answers a prompt in at most so many tokens.
    async fn complete(&self, prompt: String, max_tokens: u64) -> std::io::Result<String>;
}

/// Asks a model for the summaries.
#[derive(Debug)]
struct LlmSummarizer {
    model: Arc<dyn Model>,
}

#[async_trait]
impl Summarizer for LlmSummarizer {
    fn name(&self) -> &str {
        "local-model"
    }

    // No lock is held meanwhile, so twenty seconds block no agent. The future is dropped at the time limit.
    async fn summarize(
        &self,
        request: SummaryRequest,
    ) -> std::result::Result<String, SummarizeError> {
        let mut prompt = format!(
            "Summarize the conversation in at most {} tokens. Keep names, numbers and decisions.\n",
            request.max_tokens
        );
        if let Some(previous) = &request.previous {
            // The new summary replaces this one.
            prompt += &format!("Summary so far: {previous}\n");
        }
        for stored in request.messages.iter() {
            prompt += &format!("{}: {}\n", stored.message.role(), stored.message.text());
        }
        // The reason is kept in the receipt, so it must not quote the conversation.
        let failed = |error| SummarizeError::new("the model did not answer").with_source(error);
        let answer = self.model.complete(prompt, request.max_tokens).await.map_err(failed)?;
        if request.counter.count(&answer) as u64 > request.max_tokens {
            return Err(SummarizeError::new("the answer of the model is too long"));
        }
        Ok(answer)
    }
}

/// Counts the lines of a prompt, in place of a model.
#[derive(Debug)]
struct LocalModel;

#[async_trait]
impl Model for LocalModel {
    async fn complete(&self, prompt: String, _: u64) -> std::io::Result<String> {
        let again = prompt.contains("Summary so far:");
        let observations = prompt.lines().filter(|line| line.starts_with("user:")).count();
        let also = if again { "besides the earlier ones, " } else { "" };
        Ok(format!("The customer waits for a flight to Oslo: {also}{observations} observations."))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Unreachable;

    #[async_trait]
    impl Model for Unreachable {
        async fn complete(&self, _: String, _: u64) -> std::io::Result<String> {
            Err(std::io::ErrorKind::ConnectionRefused.into())
        }
    }

    #[tokio::test]
    async fn second_summary_takes_up_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let store = format!("sqlite://{}", folder.path().join("llm.db").display());
        let first = run(&store, Arc::new(LocalModel)).await.unwrap();
        assert!(first.contains("by local-model") && !first.contains("besides"), "{first}");
        let second = run(&store, Arc::new(LocalModel)).await.unwrap();
        assert!(second.contains("besides the earlier ones"), "{second}");
    }

    #[tokio::test]
    async fn unreachable_model_is_replaced_by_rules() {
        let report = run("memory://", Arc::new(Unreachable)).await.unwrap();
        assert!(report.contains("the model wrote none: "), "{report}");
        assert!(report.contains("the model did not answer"), "{report}");
    }
}
