//! Facts about models.

use crate::model_name::{Family, ModelName};
use serde::{Deserialize, Serialize};

/// A way of counting tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Tokenizer {
    /// An estimate that needs no vocabulary.
    Estimate,
    /// The vocabulary of GPT-4o and its successors.
    #[serde(rename = "o200k_base")]
    O200kBase,
    /// The vocabulary of GPT-4 and GPT-3.5.
    #[serde(rename = "cl100k_base")]
    Cl100kBase,
}

/// Facts about a model.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct ModelInfo {
    /// The tokenizer used for it; the estimate if its own is not public.
    pub tokenizer: Tokenizer,
    /// Its context size in tokens; the smallest one if hosts differ.
    pub context_size: u64,
    /// The factor by which its true tokenizer counts more than `tokenizer`; 1 if they are the same.
    ///
    /// - Claude before Opus 4.7: 1.15, on English 1.1 to 1.2 (not published).
    /// - Claude from Opus 4.7 and 5.0 on: 1.5, 30 % more than before (Anthropic, token counting).
    /// - Gemini: 1.15, from 4 characters to a token of English (Google, tokens).
    /// - Other families with private tokenizers: 1.1; they are within 10 to 15 % on English and code (not published).
    pub token_factor: f64,
}

const O200K: Tokenizer = Tokenizer::O200kBase;
const CL100K: Tokenizer = Tokenizer::Cl100kBase;
const ESTIMATE: Tokenizer = Tokenizer::Estimate;

/// By the beginning of the name, with `-` for every separator; the longest match wins. Sizes are those on the
/// providers' model pages; for providers other than OpenAI, Anthropic and Google also from models.dev; the smallest
/// if hosts differ.
const MODELS: &[(&str, Tokenizer, u64)] = &[
    ("gpt-6", O200K, 1_050_000),
    ("gpt-5-6", O200K, 1_050_000),
    ("gpt-5-5", O200K, 1_050_000),
    ("gpt-5-4", O200K, 1_050_000),
    ("gpt-5-4-mini", O200K, 400_000),
    ("gpt-5-4-nano", O200K, 400_000),
    ("gpt-5-3-codex-spark", O200K, 128_000),
    ("gpt-5-4-chat", O200K, 128_000),
    ("gpt-5-3-chat", O200K, 128_000),
    ("gpt-5-2-chat", O200K, 128_000),
    ("gpt-5-1-chat", O200K, 128_000),
    ("gpt-5-chat", O200K, 128_000),
    ("gpt-5", O200K, 400_000),
    ("gpt-4-5", O200K, 128_000),
    ("gpt-4-1", O200K, 1_047_576),
    ("gpt-4o", O200K, 128_000),
    ("chatgpt-4o", O200K, 128_000),
    ("o1", O200K, 200_000),
    ("o1-mini", O200K, 128_000),
    ("o1-preview", O200K, 128_000),
    ("o3", O200K, 200_000),
    ("o4", O200K, 200_000),
    ("gpt-oss", O200K, 131_072),
    ("gpt-4-turbo", CL100K, 128_000),
    ("gpt-4-1106-preview", CL100K, 128_000),
    ("gpt-4-0125-preview", CL100K, 128_000),
    ("gpt-4-32k", CL100K, 32_768),
    ("gpt-4", CL100K, 8_192),
    ("gpt-3-5-turbo", CL100K, 16_385),
    ("gpt-35-turbo", CL100K, 16_385),
    // Before 2.1 and before 4.6, see below.
    ("claude", ESTIMATE, 1_000_000),
    ("gemini", ESTIMATE, 1_048_576),
    ("gemini-1-5-pro", ESTIMATE, 2_097_152),
    ("llama-3", ESTIMATE, 8_192),
    ("llama-3-1", ESTIMATE, 131_072),
    ("llama-3-2", ESTIMATE, 131_072),
    ("llama-3-3", ESTIMATE, 131_072),
    ("llama-4", ESTIMATE, 131_072),
    ("llama3", ESTIMATE, 8_192),
    ("llama3-1", ESTIMATE, 131_072),
    ("llama3-2", ESTIMATE, 131_072),
    ("llama3-3", ESTIMATE, 131_072),
    ("llama4", ESTIMATE, 131_072),
    ("qwen2-5", ESTIMATE, 32_768),
    ("qwen-2-5", ESTIMATE, 32_768),
    ("qwen3", ESTIMATE, 32_768),
    ("qwen-3", ESTIMATE, 32_768),
    ("qwen3-coder", ESTIMATE, 262_144),
    ("deepseek", ESTIMATE, 64_000),
    ("deepseek-v3-1", ESTIMATE, 131_072),
    ("deepseek-v3-2", ESTIMATE, 131_072),
    ("deepseek-v4", ESTIMATE, 1_048_576),
    ("mistral-large", ESTIMATE, 131_072),
    ("mistral-medium", ESTIMATE, 131_072),
    ("mistral-small", ESTIMATE, 131_072),
    ("mistral-nemo", ESTIMATE, 131_072),
    ("open-mistral-nemo", ESTIMATE, 131_072),
    ("codestral", ESTIMATE, 32_000),
    ("devstral", ESTIMATE, 131_072),
    ("magistral", ESTIMATE, 40_000),
    ("ministral", ESTIMATE, 131_072),
    ("grok-2", ESTIMATE, 131_072),
    ("grok-3", ESTIMATE, 131_072),
    ("grok-4", ESTIMATE, 256_000),
    ("grok-4-fast", ESTIMATE, 2_000_000),
    ("grok-4-1-fast", ESTIMATE, 2_000_000),
    ("grok-4-20", ESTIMATE, 1_000_000),
    ("grok-4-3", ESTIMATE, 1_000_000),
    ("grok-4-5", ESTIMATE, 500_000),
    ("grok-4-6", ESTIMATE, 500_000),
    ("grok-4-7", ESTIMATE, 500_000),
    ("grok-code-fast", ESTIMATE, 256_000),
    ("kimi-k2", ESTIMATE, 131_072),
    ("kimi-k2-0905", ESTIMATE, 262_144),
    ("kimi-k2-5", ESTIMATE, 262_144),
    ("kimi-k2-6", ESTIMATE, 262_144),
    ("kimi-k3", ESTIMATE, 1_048_576),
    ("glm-4-5", ESTIMATE, 131_072),
    ("glm-4-6", ESTIMATE, 204_800),
    ("glm-4-6v", ESTIMATE, 131_072),
    ("glm-4-7", ESTIMATE, 204_800),
    ("glm-5", ESTIMATE, 204_800),
    ("glm-5-2", ESTIMATE, 1_048_576),
    ("glm-5-3", ESTIMATE, 1_048_576),
    ("command-r", ESTIMATE, 128_000),
    ("command-a", ESTIMATE, 256_000),
];

/// The context window that Ollama configures on a machine with less than 24 GiB of graphics memory, whatever the
/// model supports.
const OLLAMA_WINDOW: u64 = 4_096;

impl ModelInfo {
    /// The facts about the model with this name, in the spelling of APIs, gateways and libraries: case, routes such
    /// as `openai/` and `us.anthropic.`, ARNs, dates and other suffixes are ignored. Models of Ollama have its
    /// default window of 4,096 tokens, because their window is configured there.
    ///
    /// ```
    /// use memory_core::resource::ModelInfo;
    ///
    /// let size = |name| ModelInfo::of(name).map(|info| info.context_size);
    /// assert_eq!(size("openai/GPT-4o-2024-08-06"), Some(128_000));
    /// assert_eq!(size("us.anthropic.claude-sonnet-4-5-20250929-v1:0"), Some(200_000));
    /// assert_eq!(size("my-model"), None);
    /// ```
    #[must_use]
    pub fn of(model: &str) -> Option<Self> {
        let name = ModelName::new(model);
        let fitting = MODELS.iter().filter(|(entry, ..)| name.is_entry(entry));
        let &(_, tokenizer, size) = fitting.max_by_key(|(entry, ..)| entry.len())?;
        let family = name.family();
        let context_size = match (family, name.version()) {
            _ if name.ollama => OLLAMA_WINDOW,
            (Family::Claude, Some(version)) if version < (2, 1) => 100_000,
            (Family::Claude, Some(version)) if version < (4, 6) => 200_000,
            (Family::Claude, None) => 200_000,
            (Family::Gemini, _) if name.has("image") => 32_768,
            _ => size,
        };
        let token_factor = match family {
            _ if tokenizer != ESTIMATE => 1.0,
            Family::Claude if name.has_new_claude_tokenizer() => 1.5,
            Family::Claude | Family::Gemini => 1.15,
            _ => 1.1,
        };
        Some(Self { tokenizer, context_size, token_factor })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn model_is_known_by_the_longest_entry() {
        for (model, tokenizer, context_size) in [
            ("gpt-5-mini", O200K, 400_000),
            ("gpt-5.1", O200K, 400_000),
            ("gpt-5.3-codex", O200K, 400_000),
            ("gpt-5-chat-latest", O200K, 128_000),
            ("gpt-5.4", O200K, 1_050_000),
            ("gpt-5.4-mini", O200K, 400_000),
            ("gpt-6.1-sol", O200K, 1_050_000),
            ("gpt-4o-2024-08-06", O200K, 128_000),
            ("gpt-4.1-nano", O200K, 1_047_576),
            ("o1-mini", O200K, 128_000),
            ("o3-deep-research", O200K, 200_000),
            ("gpt-4", CL100K, 8_192),
            ("gpt-4-0613", CL100K, 8_192),
            ("gpt-4-1106-preview", CL100K, 128_000),
            ("gpt-4-32k-0613", CL100K, 32_768),
            ("gpt-4-turbo-preview", CL100K, 128_000),
            ("claude-sonnet-4", ESTIMATE, 200_000),
            ("claude-opus-4-6", ESTIMATE, 1_000_000),
            ("claude-haiku-4-5", ESTIMATE, 200_000),
            ("claude-haiku-5.5", ESTIMATE, 1_000_000),
            ("claude-2.0", ESTIMATE, 100_000),
            ("claude-2.1", ESTIMATE, 200_000),
            ("claude-latest", ESTIMATE, 200_000),
            ("gemini-2.5-flash", ESTIMATE, 1_048_576),
            ("gemini-2.5-flash-image", ESTIMATE, 32_768),
            ("llama-3.3-70b-versatile", ESTIMATE, 131_072),
            ("llama-3-8b", ESTIMATE, 8_192),
            ("qwen3-8b", ESTIMATE, 32_768),
            ("glm-4.6v", ESTIMATE, 131_072),
        ] {
            let info = ModelInfo::of(model).unwrap();
            assert_eq!((info.tokenizer, info.context_size), (tokenizer, context_size), "{model}");
        }
        for model in ["", "gpt", "gpt-4x", "gpt-", "my-gpt-4", "o1x", "claudette", "my-deployment"]
        {
            assert_eq!(ModelInfo::of(model), None, "{model}");
        }
        assert!(MODELS.iter().all(|(entry, ..)| ModelInfo::of(entry).is_some()));
    }

    #[test]
    fn spelling_of_a_name_does_not_matter() {
        for (spellings, plain) in [
            (
                &[
                    "openai/gpt-4o",
                    "GPT-4o",
                    " gpt-4o ",
                    "azure/gpt-4o",
                    "openrouter/openai/gpt-4o:free",
                    "gpt-4o-2024-08-06",
                    "gpt-4o-latest",
                    "ft:gpt-4o-2024-08-06:org:name:id",
                    "gpt_4o",
                ][..],
                "gpt-4o",
            ),
            (&["gpt-35-turbo", "azure/gpt-35-turbo-16k"], "gpt-3.5-turbo"),
            (
                &[
                    "anthropic/claude-sonnet-4.5",
                    "us.anthropic.claude-sonnet-4-5-20250929-v1:0",
                    "claude-sonnet-4-5@20250929",
                    "claude-4-5-sonnet",
                    "claude-sonnet-4-5[1m]",
                    "bedrock/eu.anthropic.claude-sonnet-4-5-20250929-v1:0",
                    "arn:aws:bedrock:us-east-1:1:inference-profile/us.anthropic.claude-sonnet-4-5-20250929-v1:0",
                    "~anthropic/claude-sonnet-4.5",
                ],
                "claude-sonnet-4-5",
            ),
            (
                &[
                    "models/gemini-2.5-pro",
                    "publishers/google/models/gemini-2.5-pro",
                    "gemini-2.5-pro-preview-05-06",
                ],
                "gemini-2.5-pro",
            ),
            (&["deepseek-ai/DeepSeek-V3.2", "deepseek/deepseek-v3.2:nitro"], "deepseek-v3-2"),
            (&["meta-llama/Llama-3.3-70B-Instruct"], "llama-3.3"),
            (&["moonshotai/Kimi-K2-Thinking"], "kimi-k2"),
        ] {
            let wanted = ModelInfo::of(plain);
            assert!(wanted.is_some(), "{plain}");
            for spelling in spellings {
                assert_eq!(ModelInfo::of(spelling), wanted, "{spelling}");
            }
        }
    }

    #[test]
    fn ollama_models_have_ollama_window() {
        for model in ["ollama/llama3.1:8b", "ollama_chat/qwen3:32b"] {
            assert_eq!(ModelInfo::of(model).unwrap().context_size, 4_096, "{model}");
        }
        assert_eq!(ModelInfo::of("llama3.1:8b").unwrap().context_size, 131_072);
    }

    #[test]
    fn factors_are_of_families_without_a_public_tokenizer() {
        for (model, factor) in [
            ("gpt-4o", 1.0),
            ("gpt-oss-20b", 1.0),
            ("claude-sonnet-4-5", 1.15),
            ("claude-opus-4-6", 1.15),
            ("claude-opus-4-7", 1.5),
            ("claude-sonnet-5", 1.5),
            ("gemini-2.5-pro", 1.15),
            ("grok-4", 1.1),
        ] {
            assert_eq!(ModelInfo::of(model).map(|it| it.token_factor), Some(factor), "{model}");
        }
    }
}
