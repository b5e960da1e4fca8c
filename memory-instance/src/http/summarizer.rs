//! The summarizer over HTTP.

use std::fmt;

use async_trait::async_trait;
use memory_flush::{
    Rejected, SummarizeError, Summarizer, SummaryRequest, Transcript, accept_summary,
};

use super::api::{Api, OutputLimitField, Prompt};
use super::builder::HttpSummarizerBuilder;
use super::client::Client;
use super::error::{ModelError, ModelErrorKind};

/// A summarizer that calls a model over HTTP, built by [`openai`](Self::openai) or [`anthropic`](Self::anthropic).
/// Its name in receipts is that of the model.
///
/// # Errors
/// [`SummarizeError`] with a [`ModelError`] as its source.
///
/// # Cancel safety
/// Dropping the future closes the connection. The provider may bill the request all the same.
pub struct HttpSummarizer {
    pub(super) api: Api,
    pub(super) client: Client,
    pub(super) model: String,
    pub(super) prompt: String,
    pub(super) max_input_tokens: u64,
    pub(super) max_output_tokens: Option<u64>,
    pub(super) limit_field: OutputLimitField,
}

/// The least limit of output tokens by default: reasoning models write more than the summary.
const LEAST_OUTPUT: u64 = 4_096;

impl HttpSummarizer {
    /// A summarizer by a model behind OpenAI's Chat Completions or a compatible API. Default base URL:
    /// `https://api.openai.com/v1`.
    #[must_use]
    pub fn openai(model: impl Into<String>) -> HttpSummarizerBuilder {
        HttpSummarizerBuilder::new(Api::OpenAi, model.into())
    }

    /// A summarizer by a model behind Anthropic's Messages API. Default base URL: `https://api.anthropic.com/v1`.
    #[must_use]
    pub fn anthropic(model: impl Into<String>) -> HttpSummarizerBuilder {
        HttpSummarizerBuilder::new(Api::Anthropic, model.into())
    }

    async fn ask(&self, request: &SummaryRequest) -> Result<String, ModelError> {
        let SummaryRequest { max_tokens, counter, .. } = request;
        let transcript = Transcript::new(request, self.max_input_tokens);
        // Models count words better than tokens.
        let words = max_tokens.saturating_mul(3) / 5;
        let user = format!(
            "{}\n\nWrite the summary in at most {words} words ({max_tokens} tokens).",
            transcript.text
        );
        let by_default = max_tokens.saturating_mul(2).max(LEAST_OUTPUT);
        let body = self.api.body(Prompt {
            model: &self.model,
            system: &self.prompt,
            user: &user,
            max_output_tokens: self.max_output_tokens.unwrap_or(by_default),
            limit_field: self.limit_field,
        });
        let text = self.api.read(&self.client.post(&body).await?)?;
        let kind = |rejected| match rejected {
            Rejected::TooLong { .. } => ModelErrorKind::TooLong,
            _ => ModelErrorKind::Empty,
        };
        accept_summary(&text, *max_tokens, &**counter).map_err(|rejected| kind(rejected).into())
    }
}

#[async_trait]
impl Summarizer for HttpSummarizer {
    fn name(&self) -> &str {
        &self.model
    }

    async fn summarize(&self, request: SummaryRequest) -> Result<String, SummarizeError> {
        let failed = |error: ModelError| SummarizeError::new(error.to_string()).with_source(error);
        self.ask(&request).await.map_err(failed)
    }
}

/// Omits the key, the prompt, and the URL but its host.
impl fmt::Debug for HttpSummarizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpSummarizer")
            .field("api", &self.api)
            .field("host", &self.client.host())
            .field("model", &self.model)
            .field("max_input_tokens", &self.max_input_tokens)
            .field("max_output_tokens", &self.max_output_tokens)
            .field("timeout", &self.client.timeout())
            .finish_non_exhaustive()
    }
}
