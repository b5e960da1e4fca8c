//! Summarizers that call a model over HTTP: OpenAI's Chat Completions, its many compatible servers, and Anthropic's
//! Messages.
//!
//! ```no_run
//! use std::sync::Arc;
//!
//! use memory_instance::http::{ApiKey, HttpSummarizer};
//! use memory_instance::{MemoryManager, MemoryResource};
//!
//! # async fn open() -> Result<(), Box<dyn std::error::Error>> {
//! let summarizer = HttpSummarizer::anthropic("claude-haiku-4-5")
//!     .with_api_key(ApiKey::from_env("ANTHROPIC_API_KEY")?)
//!     .build()?;
//! let manager = MemoryManager::builder()
//!     .with_resource(MemoryResource::new("support", 8_000))
//!     .with_summarizer(Arc::new(summarizer))
//!     .open("sqlite://memory.db")
//!     .await?;
//! # let _ = manager;
//! # Ok(()) }
//! ```
//!
//! A summary is one request. It has the prompt as instructions and, as the message of the user, a
//! [`Transcript`](crate::memory_flush::Transcript) of the messages and of the previous summary, within
//! [`with_max_input_tokens`](HttpSummarizerBuilder::with_max_input_tokens). No request is repeated, because the chain of
//! summarizers continues with the next one; [`ModelError::is_retryable`] says whether a caller may repeat it.
//!
//! # The key
//! The key is sent in one header, which is marked as sensitive, to the host of the base URL only: redirections are errors. It is part of no `Debug` form,
//! error, log line or metric. Over `http` it is sent to this machine only, unless
//! [`with_plain_http`](HttpSummarizerBuilder::with_plain_http) allows more.
//!
//! # Connections
//! Each request opens a connection and closes it, so an idle summarizer has none. TLS is `rustls`, with the certificates
//! of the operating system. The proxies of `HTTPS_PROXY` and `NO_PROXY` are used, except for this machine.

mod anthropic;
mod api;
mod api_key;
mod builder;
mod client;
mod error;
mod openai;
mod summarizer;
#[cfg(test)]
mod tests;

pub use api::OutputLimitField;
pub use api_key::{ApiKey, NoApiKey};
pub use builder::{HttpConfigError, HttpSummarizerBuilder, PlainHttp};
pub use error::{ModelError, ModelErrorKind};
pub use summarizer::HttpSummarizer;
