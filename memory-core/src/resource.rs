//! The description of one kind of memory, written in YAML, TOML or JSON.

mod archive;
mod duration;
mod error;
pub(crate) mod explain;
mod model;
mod privacy;
mod sections;
pub(crate) mod text;
mod validate;
mod warnings;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use self::archive::{ArchiveKeep, ArchiveSettings};
pub use self::error::ResourceError;
pub use self::model::{ModelInfo, Tokenizer};
pub use self::privacy::{ExclusionReason, PrivacyPolicy};
pub(crate) use self::sections::DocumentKind;
pub use self::sections::{
    CircuitBreakerSettings, ClearToolResults, FlushingStrategy, LockSettings, Persistence,
    PriorityBlock, Reminders, ResourceKind, Share, StoreKind, TokenAllocation,
};
use crate::flush_settings::share_of;
pub use crate::flush_settings::{FlushSettings, SettingsError};
use crate::limits::Limits;
use crate::policy::{Block, Policy};
use crate::priority::ContentType;
pub use crate::priority::CustomType;
use crate::profile::{Profile, ProfileName};
pub use crate::redact::{RedactPreset, Redactions, Redactor};
use crate::store::{Durability, Retention};
use crate::tokens::{MediaPrices, MediaTokens};
use crate::window::{SummaryRole, WindowAdvance};

/// The description of one kind of memory.
///
/// Reading a resource refuses unknown fields and contradictions; the error names the field and the remedy:
///
/// ```
/// use memory_core::MemoryResource;
///
/// let resource = MemoryResource::from_json(
///     r#"{"id": "support", "max_tokens": 8000, "lock": {"ttl": "30s", "refresh_interval": "20s"}}"#,
/// );
/// assert_eq!(
///     resource.unwrap_err().to_string(),
///     "resource `support`: lock.refresh_interval: 20s is more than half of the ttl (30s); set it to 15s or less",
/// );
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct MemoryResource {
    /// The kind of document, for programs that keep several kinds in one folder. In text: `resource: memory`.
    #[serde(default, rename = "resource", skip_serializing_if = "Option::is_none")]
    document: Option<DocumentKind>,
    /// The name of the resource; part of every storage key.
    pub id: String,
    /// A description for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The version of the description, for people; it changes no behavior.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// How the memory is limited.
    #[serde(rename = "type", default)]
    pub kind: ResourceKind,
    /// The template of its keys, for callers that provide none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The model that reads the memory. It determines the tokenizer, the context size and the API of windows. The
    /// tokenizers of OpenAI's models need the feature `tiktoken`; otherwise set `tokenizer` to
    /// [`Tokenizer::Estimate`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The API for which context windows are rendered, in place of the model's. Default without a model:
    /// `openai_chat`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<ProfileName>,
    /// The role of flush summaries in context windows. Default: `user`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary_role: Option<SummaryRole>,
    /// How the start of context windows moves as the memory grows. Default: `stepped`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window_advance: Option<WindowAdvance>,
    /// The tokenizer, in place of the model's. Default without a model: `estimate`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokenizer: Option<Tokenizer>,
    /// The factor by which the model counts more than the tokenizer, from 0.1 to 10. Default: the model's if its
    /// tokenizer is not public ([`ModelInfo::token_factor`]), else 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_factor: Option<f64>,
    /// Prices of media, in place of those of the model's provider.
    #[serde(default, skip_serializing_if = "MediaTokens::is_default")]
    pub media_tokens: MediaTokens,
    /// The size of the context in tokens, in place of the model's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context_size: Option<u64>,
    /// The budget in tokens. Set either this or `max_context_ratio`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u64>,
    /// The budget as a share of the context size, over 0 and at most 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_context_ratio: Option<f64>,
    /// The message limit. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_limit: Option<u64>,
    /// The priorities of content types. Without any, the oldest messages are evicted first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub priority_blocks: Vec<PriorityBlock>,
    /// The shares of the budget. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_allocation: Option<TokenAllocation>,
    /// The share that a content type belongs to, if not the default one.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub content_shares: BTreeMap<ContentType, Share>,
    /// The tokens of the newest conversation that count as recent. Default: the effective limit of the block that
    /// names `recent_context`, else its share, else half of the budget.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recent_window: Option<u64>,
    /// The time that a tool call may stay open before it is abandoned. Default: 10 minutes.
    #[serde(default, with = "duration::optional", skip_serializing_if = "Option::is_none")]
    pub open_call_timeout: Option<Duration>,
    /// The number of repeated reminders that a window sends. Default: the newest 3.
    #[serde(default, skip_serializing_if = "Reminders::is_default")]
    pub reminders: Reminders,
    /// When and how the memory is reduced below its budget.
    #[serde(default)]
    pub flushing_strategy: FlushingStrategy,
    /// The settings of its leases.
    #[serde(default)]
    pub lock: LockSettings,
    /// The circuit breaker of its store. Default: none; each call then takes as long as the store takes to fail, and
    /// writes are retried for all of `lock.failure_timeout`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub circuit_breaker: Option<CircuitBreakerSettings>,
    /// How the memory is persisted.
    #[serde(default)]
    pub persistence: Persistence,
    /// How long removed messages are kept. Default: 30 days, and not at all on a store whose messages end with the
    /// process.
    #[serde(default, skip_serializing_if = "ArchiveSettings::is_default")]
    pub archive: ArchiveSettings,
    /// The content that must not be stored.
    #[serde(default)]
    pub privacy_policy: PrivacyPolicy,
    /// The size limits of messages and batches.
    #[serde(default)]
    pub limits: Limits,
}

/// The most patterns of a privacy policy: each is compiled, and runs on every message.
pub(crate) const MAX_REDACT_PATTERNS: usize = 100;

impl MemoryResource {
    /// The longest text that is read as a resource, in bytes.
    pub const MAX_BYTES: usize = text::MAX_RESOURCE_BYTES;

    /// A resource with a budget, and defaults for everything else.
    #[must_use]
    pub fn new(id: impl Into<String>, max_tokens: u64) -> Self {
        Self {
            document: None,
            id: id.into(),
            description: None,
            version: None,
            kind: ResourceKind::default(),
            key: None,
            model: None,
            profile: None,
            summary_role: None,
            window_advance: None,
            tokenizer: None,
            token_factor: None,
            media_tokens: MediaTokens::default(),
            context_size: None,
            max_tokens: Some(max_tokens),
            max_context_ratio: None,
            message_limit: None,
            priority_blocks: Vec::new(),
            token_allocation: None,
            content_shares: BTreeMap::new(),
            recent_window: None,
            open_call_timeout: None,
            reminders: Reminders::default(),
            flushing_strategy: FlushingStrategy::default(),
            lock: LockSettings::default(),
            circuit_breaker: None,
            persistence: Persistence::default(),
            archive: ArchiveSettings::default(),
            privacy_policy: PrivacyPolicy::default(),
            limits: Limits::default(),
        }
    }

    /// Reads and validates a resource written in JSON.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use memory_core::MemoryResource;
    ///
    /// let text = r#"{"id": "support", "max_tokens": 8000, "persistence": {"ttl": "30d"}}"#;
    /// let resource = MemoryResource::from_json(text)?;
    /// assert_eq!(resource.persistence.ttl, Some(Duration::from_secs(30 * 24 * 3600)));
    /// let error = MemoryResource::from_json(r#"{"id": "support", "max_token": 8000}"#).unwrap_err();
    /// assert!(error.to_string().contains("max_tokens"), "{error}");
    /// # Ok::<(), memory_core::ResourceError>(())
    /// ```
    ///
    /// # Errors
    /// [`ResourceError`] with the path of the field and the remedy.
    pub fn from_json(text: &str) -> Result<Self, ResourceError> {
        Self::from_value(text::value_from_json(text)?)
    }

    /// Reads and validates a resource written in YAML.
    ///
    /// # Examples
    ///
    /// ```
    /// use memory_core::MemoryResource;
    ///
    /// let resource = MemoryResource::from_yaml(
    ///     "id: support
    /// model: gpt-4o
    /// max_tokens: 8000
    /// flushing_strategy:
    ///   type: hybrid_summary
    /// ",
    /// )?;
    /// assert_eq!(resource.strategy(), "hybrid_summary");
    /// # Ok::<(), memory_core::ResourceError>(())
    /// ```
    ///
    /// # Errors
    /// As [`from_json`](Self::from_json).
    #[cfg(feature = "yaml")]
    pub fn from_yaml(text: &str) -> Result<Self, ResourceError> {
        Self::from_value(text::value_from_yaml(text)?)
    }

    /// Reads and validates a resource written in TOML.
    ///
    /// # Errors
    /// As [`from_json`](Self::from_json).
    #[cfg(feature = "toml")]
    pub fn from_toml(text: &str) -> Result<Self, ResourceError> {
        Self::from_value(text::value_from_toml(text)?)
    }

    /// Reads and validates a resource that is already a JSON value.
    ///
    /// # Errors
    /// As [`from_json`](Self::from_json).
    pub fn from_value(value: serde_json::Value) -> Result<Self, ResourceError> {
        let id = value.get("id").and_then(|id| id.as_str()).unwrap_or_default().to_owned();
        let resource: Self = serde_path_to_error::deserialize(value).map_err(|error| {
            let path = error.path().to_string();
            ResourceError::field(
                &id,
                if path == "." { "" } else { &path },
                explain::explain(&error.into_inner().to_string()),
            )
        })?;
        resource.validate()?;
        Ok(resource)
    }

    /// How long a store of this durability keeps removed messages: the setting of the [archive](Self::archive), but
    /// not longer than `persistence.ttl`. `None` if nothing is kept.
    #[must_use]
    pub fn retention(&self, durability: Durability) -> Option<Retention> {
        let mut retention = self.archive.retention(durability)?;
        if let Some(ttl) = self.persistence.ttl {
            retention.keep = Some(retention.keep.map_or(ttl, |keep| keep.min(ttl)));
        }
        Some(retention)
    }

    /// The rules that follow from this resource.
    ///
    /// # Errors
    /// [`ResourceError`] if it contradicts itself; resources that were read are already validated.
    pub fn policy(&self) -> Result<Policy, ResourceError> {
        self.validate()?;
        let max_tokens = self.budget_tokens()?;
        let share_limit = |share: Share| {
            self.token_allocation.map(|allocation| {
                let ratio = match share {
                    Share::ShortTerm => allocation.short_term,
                    Share::LongTerm => allocation.long_term,
                    Share::System => allocation.system,
                };
                share_of(max_tokens, ratio)
            })
        };
        let mut blocks: Vec<_> = self
            .priority_blocks
            .iter()
            .map(|block| {
                let mut shares: Vec<_> = block
                    .content_types
                    .iter()
                    .map(|content_type| self.share_of_type(content_type))
                    .collect();
                shares.sort_unstable();
                shares.dedup();
                // A type outside of all shares leaves its block without a share's limit.
                let allocated = shares
                    .into_iter()
                    .map(|share| share_limit(share?))
                    .sum::<Option<u64>>()
                    .filter(|_| self.token_allocation.is_some());
                Block {
                    priority: block.priority,
                    content_types: block.content_types.clone(),
                    limit: match (block.max_tokens, allocated) {
                        (Some(own), Some(share)) => Some(own.min(share)),
                        (own, share) => own.or(share),
                    },
                }
            })
            .collect();
        blocks.sort_by_key(|block| block.priority);
        let recent_block =
            blocks.iter().find(|block| block.content_types.contains(&ContentType::RecentContext));
        let recent_window = self
            .recent_window
            .or_else(|| recent_block.and_then(|block| block.limit))
            .or_else(|| share_limit(Share::ShortTerm))
            .unwrap_or(max_tokens / 2);
        Ok(Policy {
            max_tokens,
            message_limit: self.message_limit,
            blocks,
            recent_window,
            open_call_timeout: self.open_call_timeout.unwrap_or(Policy::DEFAULT_OPEN_CALL_TIMEOUT),
            reminders_kept: self.reminders.keep,
        })
    }

    /// The tokenizer: the explicit one, else the model's, else the estimate.
    #[must_use]
    pub fn tokenizer(&self) -> Tokenizer {
        let of_model = || Some(ModelInfo::of(self.model.as_deref()?)?.tokenizer);
        self.tokenizer.or_else(of_model).unwrap_or(Tokenizer::Estimate)
    }

    /// The factor by which the model counts more than [`tokenizer`](Self::tokenizer): the explicit one, else that of
    /// the model if its counts are estimated, else 1.
    #[must_use]
    pub fn token_factor(&self) -> f64 {
        let of_model = || match self.tokenizer() {
            Tokenizer::Estimate => Some(ModelInfo::of(self.model.as_deref()?)?.token_factor),
            _ => None,
        };
        self.token_factor.or_else(of_model).unwrap_or(1.0)
    }

    /// The prices of media: the explicit ones, else those of the model's provider.
    #[must_use]
    pub fn media_prices(&self) -> MediaPrices {
        let prices = self.model.as_deref().map(MediaPrices::for_model).unwrap_or_default();
        prices.with_settings(&self.media_tokens)
    }

    /// The API for which context windows are rendered, with the rules of the model's generation.
    #[must_use]
    pub fn profile(&self) -> Profile {
        let model = self.model.as_deref();
        self.profile.map_or_else(|| Profile::for_model(model), |name| Profile::new(name, model))
    }

    /// The name of the flush strategy: the explicit one, else `hybrid_summary`, with or without priority blocks: the
    /// oldest messages are summarized instead of deleted.
    #[must_use]
    pub fn strategy(&self) -> &str {
        self.flushing_strategy.kind.as_deref().unwrap_or(FlushingStrategy::DEFAULT_KIND)
    }

    fn share_of_type(&self, content_type: &ContentType) -> Option<Share> {
        self.content_shares.get(content_type).copied().or(match content_type {
            ContentType::SystemPrompt | ContentType::UserProfile => Some(Share::System),
            ContentType::Summary | ContentType::HistoricalMessages => Some(Share::LongTerm),
            ContentType::RecentContext | ContentType::ImportantFacts => Some(Share::ShortTerm),
            ContentType::Conversation | ContentType::Reminder | ContentType::Custom(_) => None,
        })
    }

    fn context_tokens(&self) -> Option<u64> {
        self.context_size.or_else(|| Some(ModelInfo::of(self.model.as_deref()?)?.context_size))
    }

    fn budget_tokens(&self) -> Result<u64, ResourceError> {
        match (self.max_tokens, self.max_context_ratio, self.context_tokens()) {
            (Some(tokens), None, _) => Ok(tokens),
            (None, Some(ratio), Some(context)) => Ok(share_of(context, ratio).max(1)),
            (None, Some(_), None) => Err(ResourceError::field(
                &self.id,
                "max_context_ratio",
                "is a share of the context size, which is not known; add `model` or `context_size`",
            )),
            (Some(_), Some(_), _) => Err(ResourceError::field(
                &self.id,
                "max_context_ratio",
                "is set beside max_tokens; keep one of the two",
            )),
            (None, None, _) => Err(ResourceError::field(
                &self.id,
                "max_tokens",
                "is missing; set the budget in tokens, or max_context_ratio with a model",
            )),
        }
    }
}

#[cfg(test)]
mod tests;
