//! The tokens that a provider reports, compared with those that were counted.

use serde::{Deserialize, Serialize};

use crate::json::Json;
use crate::profile::ProfileName;
use crate::store::Cursor;

/// The tokens of a request that a provider reports with its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Usage {
    /// The tokens of the whole request: system prompt, tool definitions and messages, cached or not.
    pub input: u64,
}

impl Anchor {
    /// The anchor of a window.
    #[must_use]
    pub const fn new(
        cursor: Cursor,
        profile: ProfileName,
        model: Option<String>,
        counted: u64,
    ) -> Self {
        Self { cursor, profile, model, counted }
    }
}

impl Usage {
    /// A request of this many tokens.
    #[must_use]
    pub const fn new(input: u64) -> Self {
        Self { input }
    }

    /// The usage in an answer, or in its field `usage` or `usageMetadata`; `None` if it has no known form.
    ///
    /// | API | tokens of the request |
    /// | --- | --- |
    /// | OpenAI Chat, Mistral, compatible servers | `prompt_tokens`, which includes `cached_tokens` |
    /// | OpenAI Responses | `input_tokens`, which includes `cached_tokens` |
    /// | Anthropic | `input_tokens` and `cache_creation_input_tokens` and `cache_read_input_tokens` |
    /// | Gemini | `promptTokenCount`, which includes `cachedContentTokenCount`, and `toolUsePromptTokenCount` |
    /// | Bedrock | `inputTokens` and `cacheReadInputTokens` and `cacheWriteInputTokens` |
    ///
    /// ```
    /// use memory_core::plan::Usage;
    /// use memory_core::json::Json;
    ///
    /// let answer = Json::parse(r#"{"usage": {"input_tokens": 12, "cache_read_input_tokens": 900,
    ///     "cache_creation_input_tokens": 0, "output_tokens": 40}}"#)?;
    /// assert_eq!(Usage::from_json(&answer), Some(Usage::new(912)));
    /// # Ok::<(), memory_core::json::JsonError>(())
    /// ```
    #[must_use]
    pub fn from_json(answer: &Json) -> Option<Self> {
        let keys = ["usage", "usageMetadata", "usage_metadata"];
        let usage = keys.iter().find_map(|key| answer.get(key)).unwrap_or(answer);
        let number = |key: &str| usage.get(key).and_then(Json::as_u64);
        let sum = |first: u64, more: &[&str]| {
            more.iter().filter_map(|key| number(key)).fold(first, u64::saturating_add)
        };
        let input = if let Some(tokens) = number("prompt_tokens") {
            tokens
        } else if let Some(tokens) = number("input_tokens") {
            sum(tokens, &["cache_creation_input_tokens", "cache_read_input_tokens"])
        } else if let Some(tokens) = number("inputTokens") {
            sum(tokens, &["cacheReadInputTokens", "cacheWriteInputTokens"])
        } else {
            let tokens = number("promptTokenCount").or(number("prompt_token_count"))?;
            sum(tokens, &["toolUsePromptTokenCount"])
        };
        Some(Self::new(input))
    }
}

/// The window that a usage was reported for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Anchor {
    /// The state of the memory.
    pub cursor: Cursor,
    /// The API.
    pub profile: ProfileName,
    /// The model of the window's profile, else that of the resource.
    pub model: Option<String>,
    /// The tokens of the window and of the tool definitions, as counted.
    pub counted: u64,
}

/// The number of tokens by which a provider's report exceeded the count, for requests of one model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Calibration {
    /// The API.
    pub profile: ProfileName,
    /// The model.
    pub model: Option<String>,
    /// The tokens by which budgets are reduced; 0 if the count was not too low.
    pub excess: u64,
    /// The tokens that were counted for the window that was reported.
    #[serde(default)]
    pub counted: u64,
    #[serde(skip, default)]
    cursor: Cursor,
}

impl Calibration {
    /// The difference between the reported and the counted tokens. It can only reduce budgets: a count that was too
    /// high has no effect.
    #[must_use]
    pub fn new(anchor: &Anchor, usage: Usage) -> Self {
        Self {
            profile: anchor.profile,
            model: anchor.model.clone(),
            excess: usage.input.saturating_sub(anchor.counted),
            counted: anchor.counted,
            cursor: anchor.cursor,
        }
    }

    /// The tokens by which a window of this budget is reduced: the excess, in proportion if the budget is smaller
    /// than the reported window, and at most half of the budget, so that a wrong report cannot block a memory.
    #[must_use]
    pub fn excess_for(&self, budget: u64) -> u64 {
        let counted = self.counted.max(1);
        let share = u128::from(self.excess) * u128::from(budget.min(counted)) / u128::from(counted);
        u64::try_from(share).unwrap_or(u64::MAX).min(budget / 2)
    }

    /// Whether it is for this API and model.
    #[must_use]
    pub fn is_for(&self, profile: ProfileName, model: Option<&str>) -> bool {
        self.profile == profile && self.model.as_deref() == model
    }

    /// Whether a window at this cursor is at least as new as that of this calibration.
    #[must_use]
    pub fn is_superseded_by(&self, cursor: Cursor) -> bool {
        (cursor.generation, cursor.sequence) >= (self.cursor.generation, self.cursor.sequence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn excess_is_in_proportion_and_bounded() {
        let anchor = Anchor::new(Cursor::default(), ProfileName::OpenaiChat, None, 1_000);
        let calibration = Calibration::new(&anchor, Usage::new(1_200));
        let excess = [100, 1_000, 50_000].map(|budget| calibration.excess_for(budget));
        assert_eq!(excess, [20, 200, 200]);
        let wrong = Calibration::new(&anchor, Usage::new(1_000_000));
        assert_eq!(wrong.excess_for(2_000), 1_000);
        assert_eq!(Calibration::new(&anchor, Usage::new(10)).excess_for(2_000), 0);
    }

    #[test]
    fn usage_of_each_provider_is_read_whole() {
        for (text, input) in [
            (
                r#"{"usage":{"prompt_tokens":10,"completion_tokens":5,"prompt_tokens_details":{"cached_tokens":8}}}"#,
                10,
            ),
            (
                r#"{"input_tokens":10,"input_tokens_details":{"cached_tokens":8},"output_tokens":1}"#,
                10,
            ),
            (
                r#"{"usage":{"input_tokens":2,"cache_creation_input_tokens":3,"cache_read_input_tokens":5}}"#,
                10,
            ),
            (
                r#"{"usageMetadata":{"promptTokenCount":9,"cachedContentTokenCount":4,"toolUsePromptTokenCount":1}}"#,
                10,
            ),
            (
                r#"{"usage":{"inputTokens":1,"cacheReadInputTokens":4,"cacheWriteInputTokens":5,"totalTokens":99}}"#,
                10,
            ),
        ] {
            assert_eq!(
                Usage::from_json(&Json::parse(text).unwrap()),
                Some(Usage::new(input)),
                "{text}"
            );
        }
        let unknown = Json::parse(r#"{"usage":{"tokens":1}}"#).unwrap();
        assert_eq!(Usage::from_json(&unknown), None);
    }
}
