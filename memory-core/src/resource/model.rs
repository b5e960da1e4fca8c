//! What is known about models.

use serde::{Deserialize, Serialize};

/// A way of counting tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Tokenizer {
    /// A guess that needs no vocabulary.
    Estimate,
    /// The vocabulary of GPT-4o and its successors.
    #[serde(rename = "o200k_base")]
    O200kBase,
    /// The vocabulary of GPT-4 and GPT-3.5.
    #[serde(rename = "cl100k_base")]
    Cl100kBase,
}

/// What is known about a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModelInfo {
    /// The tokenizer that counts for it; the estimate where its own is not public.
    pub tokenizer: Tokenizer,
    /// Its context in tokens.
    pub context_size: u64,
}

/// By the beginning of the name; of several that fit, the longest counts. Sizes are those on the
/// providers' model pages (OpenAI, Anthropic, Google).
const MODELS: &[(&str, Tokenizer, u64)] = &[
    ("gpt-5", Tokenizer::O200kBase, 400_000),
    ("gpt-4.1", Tokenizer::O200kBase, 1_047_576),
    ("gpt-4o", Tokenizer::O200kBase, 128_000),
    ("chatgpt-4o", Tokenizer::O200kBase, 128_000),
    ("o1", Tokenizer::O200kBase, 200_000),
    ("o3", Tokenizer::O200kBase, 200_000),
    ("o4", Tokenizer::O200kBase, 200_000),
    ("gpt-4-turbo", Tokenizer::Cl100kBase, 128_000),
    ("gpt-4-32k", Tokenizer::Cl100kBase, 32_768),
    ("gpt-4", Tokenizer::Cl100kBase, 8_192),
    ("gpt-3.5-turbo", Tokenizer::Cl100kBase, 16_385),
    ("claude", Tokenizer::Estimate, 200_000),
    ("gemini", Tokenizer::Estimate, 1_048_576),
];

impl ModelInfo {
    /// What is known about the model with this name; dated and sized variants count as their model.
    #[must_use]
    pub fn of(model: &str) -> Option<Self> {
        MODELS
            .iter()
            .filter(|(name, ..)| {
                model
                    .strip_prefix(name)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
            })
            .max_by_key(|(name, ..)| name.len())
            .map(|&(_, tokenizer, context_size)| Self { tokenizer, context_size })
    }

    /// The beginnings of the names that are known.
    pub(super) fn names() -> impl Iterator<Item = &'static str> {
        MODELS.iter().map(|(name, ..)| *name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_known_by_the_longest_beginning_of_its_name() {
        for (model, tokenizer, context_size) in [
            ("gpt-5-mini", Tokenizer::O200kBase, 400_000),
            ("gpt-4o-2024-08-06", Tokenizer::O200kBase, 128_000),
            ("gpt-4.1-nano", Tokenizer::O200kBase, 1_047_576),
            ("gpt-4", Tokenizer::Cl100kBase, 8_192),
            ("gpt-4-0613", Tokenizer::Cl100kBase, 8_192),
            ("gpt-4-32k-0613", Tokenizer::Cl100kBase, 32_768),
            ("gpt-4-turbo-preview", Tokenizer::Cl100kBase, 128_000),
            ("claude-sonnet-4", Tokenizer::Estimate, 200_000),
        ] {
            assert_eq!(
                ModelInfo::of(model),
                Some(ModelInfo { tokenizer, context_size }),
                "{model}"
            );
        }
        for model in ["", "gpt", "gpt-4x", "gpt-", "my-gpt-4", "o1x"] {
            assert_eq!(ModelInfo::of(model), None, "{model}");
        }
        assert_eq!(ModelInfo::names().next(), Some("gpt-5"));
        assert!(ModelInfo::names().all(|name| ModelInfo::of(name).is_some()));
    }
}
