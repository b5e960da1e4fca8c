//! The two APIs: where and how a request is sent, and how an answer is read.

use memory_core::Message;
use memory_core::dialect::{Part, TextKind};
use serde_json::Value;

use super::anthropic;
use super::api_key::ApiKey;
use super::error::{ModelError, ModelErrorKind};
use super::openai;
use reqwest::header::HeaderValue;

/// A provider's API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Api {
    /// OpenAI's Chat Completions.
    OpenAi,
    /// Anthropic's Messages.
    Anthropic,
}

/// The field of a request to an OpenAI-compatible API that limits the tokens of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum OutputLimitField {
    /// `max_tokens`: most compatible servers know only this one.
    MaxTokens,
    /// `max_completion_tokens`: OpenAI's reasoning models accept only this one.
    MaxCompletionTokens,
}

impl OutputLimitField {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::MaxTokens => "max_tokens",
            Self::MaxCompletionTokens => "max_completion_tokens",
        }
    }
}

/// The content of a request.
#[derive(Clone, Copy)]
pub(super) struct Prompt<'a> {
    pub(super) model: &'a str,
    /// The instructions.
    pub(super) system: &'a str,
    /// The message of the user.
    pub(super) user: &'a str,
    pub(super) max_output_tokens: u64,
    pub(super) limit_field: OutputLimitField,
}

impl Api {
    pub(super) const fn default_base_url(self) -> &'static str {
        match self {
            Self::OpenAi => "https://api.openai.com/v1",
            Self::Anthropic => "https://api.anthropic.com/v1",
        }
    }

    /// The path below the base URL.
    pub(super) const fn path(self) -> &'static str {
        match self {
            Self::OpenAi => "chat/completions",
            Self::Anthropic => "messages",
        }
    }

    /// The headers of every request.
    pub(super) const fn headers(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::OpenAi => &[],
            Self::Anthropic => &[("anthropic-version", "2023-06-01")],
        }
    }

    /// The header with the key; `None` if a header cannot hold the key.
    pub(super) fn key_header(self, key: &ApiKey) -> Option<(&'static str, HeaderValue)> {
        let (name, prefix) = match self {
            Self::OpenAi => ("authorization", "Bearer "),
            Self::Anthropic => ("x-api-key", ""),
        };
        Some((name, key.header(prefix)?))
    }

    pub(super) fn body(self, prompt: Prompt<'_>) -> Value {
        match self {
            Self::OpenAi => openai::body(prompt),
            Self::Anthropic => anthropic::body(prompt),
        }
    }

    /// The text of an answer.
    pub(super) fn read(self, body: &str) -> Result<String, ModelError> {
        match self {
            Self::OpenAi => openai::read(body),
            Self::Anthropic => anthropic::read(body),
        }
    }
}

/// The text of the model's message, without reasoning, given why the model stopped.
pub(super) fn text_of(message: &Message, stop: Stop) -> Result<String, ModelError> {
    let (mut text, mut refused) = (String::new(), stop == Stop::Refused);
    message.read(&mut |part| {
        if let Part::Text(part) = part {
            refused |= part.kind == TextKind::Refusal;
            text.push_str(&part.text);
        }
    });
    match stop {
        _ if refused => Err(ModelErrorKind::Refused.into()),
        Stop::AtLimit => Err(ModelErrorKind::CutShort.into()),
        _ if text.trim().is_empty() => Err(ModelErrorKind::Empty.into()),
        _ => Ok(text),
    }
}

/// Why the model stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// The answer is complete, or the API does not say.
    Done,
    /// The limit of tokens was reached.
    AtLimit,
    /// The model or a filter refused.
    Refused,
}
