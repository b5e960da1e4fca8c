//! The runtime form of a resource, computed once and shared by its instances.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use memory_core::plan::Policy;
use memory_core::resource::{FlushSettings, Redactor, Tokenizer};
use memory_core::store::{Durability, Retention};
use memory_core::tokens::{ConfiguredCounter, message_tokens};
use memory_core::{
    EstimateCounter, MemoryResource, MemoryStore, Message, Profile, TokenCounter, WindowOptions,
};
use memory_flush::{
    ClearToolResults, FallbackChain, Fifo, FlushStrategy, HybridSummary, PriorityEviction,
    Summarizer,
};
use memory_lock::LockOptions;

use crate::breaker::CircuitBreaker;
use crate::error::MemoryError;
use crate::telemetry::Telemetry;
use crate::template::KeyTemplate;

/// When a memory is flushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum FlushMode {
    /// In a separate task, started by the append that made a flush due. The append does not wait.
    #[default]
    Background,
    /// Within the append that made it due, before that append returns. The append waits for the summarizer.
    Inline,
    /// Only when [`perform_flush`](crate::MemoryInstance::perform_flush) is called.
    Manual,
}

/// State that the instances of one resource share.
pub(crate) struct Rules {
    pub(crate) resource: MemoryResource,
    /// The template of its keys.
    pub(crate) key: Option<KeyTemplate>,
    /// The store, behind a circuit breaker if the resource configures one.
    pub(crate) store: Arc<dyn MemoryStore>,
    pub(crate) policy: Policy,
    pub(crate) settings: FlushSettings,
    /// How long removed messages are kept; `None` if they are not.
    pub(crate) archive: Option<Retention>,
    pub(crate) strategy: Arc<dyn FlushStrategy>,
    /// The registered strategies.
    strategies: Arc<HashMap<String, Arc<dyn FlushStrategy>>>,
    pub(crate) redactor: Option<Redactor>,
    pub(crate) counter: Arc<dyn TokenCounter>,
    /// The provider profile for which windows are rendered.
    pub(crate) profile: Profile,
    pub(crate) chain: FallbackChain,
    /// Lock options for leases outside of turns.
    pub(crate) lock: LockOptions,
    /// Lock options for exclusive turns.
    pub(crate) turn: LockOptions,
    pub(crate) flush_mode: FlushMode,
    pub(crate) telemetry: Telemetry,
}

/// Code that a caller adds to a resource, which itself is data.
#[derive(Debug, Clone, Default)]
pub(crate) struct Extensions {
    pub(crate) counter: Option<Arc<dyn TokenCounter>>,
    pub(crate) strategies: Arc<HashMap<String, Arc<dyn FlushStrategy>>>,
    pub(crate) summarizers: Vec<Arc<dyn Summarizer>>,
    pub(crate) summarizer_time_limit: Option<std::time::Duration>,
    pub(crate) flush_mode: FlushMode,
}

impl Rules {
    pub(crate) fn new(
        resource: MemoryResource,
        extensions: &Extensions,
        store: &Arc<dyn MemoryStore>,
        project: &str,
    ) -> Result<Self, MemoryError> {
        let policy = resource.policy()?;
        let settings = resource.flush_settings()?;
        let key = resource.key.as_deref().map(KeyTemplate::parse).transpose()?;
        for warning in resource.warnings() {
            tracing::warn!(resource = %resource.id, "{warning}");
        }
        if let Some(wanted) = resource.persistence.durability
            && wanted > store.durability()
        {
            return Err(MemoryError::NotDurable {
                resource: resource.id,
                wanted: durability_name(wanted),
                given: durability_name(store.durability()),
            });
        }
        let strategies = Arc::clone(&extensions.strategies);
        let strategy = strategy(resource.strategy(), &strategies).ok_or_else(|| {
            MemoryError::UnknownStrategy {
                resource: resource.id.clone(),
                strategy: resource.strategy().to_owned(),
            }
        })?;
        let counter = match &extensions.counter {
            // A custom counter is assumed to count for the model, unless the resource says otherwise.
            Some(counter) => {
                configured(&resource, Arc::clone(counter), resource.token_factor.unwrap_or(1.0))
            }
            None => configured(&resource, counter(&resource)?, resource.token_factor()),
        };
        let redactor = resource.redactor()?;
        let mut chain = FallbackChain::default().with_redactor(redactor.clone());
        for summarizer in &extensions.summarizers {
            chain = chain.with_step(Arc::clone(summarizer));
        }
        if let Some(limit) = extensions.summarizer_time_limit {
            chain = chain.with_time_limit(limit);
        }
        let lock = LockOptions::new()
            .with_ttl(resource.lock.ttl)
            .with_refresh_interval(resource.lock.refresh_interval)
            .with_wait_timeout(resource.lock.wait_timeout)
            .with_failure_timeout(resource.lock.failure_timeout);
        let turn = lock.with_max_hold(Some(resource.lock.max_turn));
        let telemetry = Telemetry::new(project, &resource.id);
        let flush_mode = extensions.flush_mode;
        let store: Arc<dyn MemoryStore> = match resource.circuit_breaker {
            Some(settings) => {
                let breaker = CircuitBreaker::new(Arc::clone(store), settings);
                Arc::new(breaker.with_metrics(project, &resource.id))
            }
            None => Arc::clone(store),
        };
        let profile = resource.profile();
        let archive = resource.retention(store.durability());
        Ok(Self {
            archive,
            resource,
            key,
            store,
            policy,
            settings,
            strategy,
            strategies,
            redactor,
            counter,
            profile,
            chain,
            lock,
            turn,
            flush_mode,
            telemetry,
        })
    }

    /// The number of tokens of a message.
    pub(crate) fn count(&self, message: &Message) -> u64 {
        message_tokens(&*self.counter, message).into()
    }

    /// Another strategy for one flush, with its settings.
    ///
    /// # Errors
    /// The text for the caller, if there is no strategy of this name.
    pub(crate) fn other_strategy(
        &self,
        name: &str,
    ) -> Result<(Arc<dyn FlushStrategy>, FlushSettings), String> {
        let strategy = strategy(name, &self.strategies).ok_or_else(|| {
            let mut known: Vec<_> = self.strategies.keys().map(String::as_str).collect();
            known.extend(BUILT_IN);
            known.sort_unstable();
            known.dedup();
            format!("there is no strategy `{name}`; choose one of {}", known.join(", "))
        })?;
        let mut resource = self.resource.clone();
        resource.flushing_strategy.kind = Some(name.to_owned());
        if name == "fifo" || name == "priority" {
            resource.flushing_strategy.clear_tool_results = None;
        }
        let settings = resource.flush_settings().map_err(|error| error.to_string())?;
        Ok((strategy, settings))
    }

    /// The options, completed from the resource.
    pub(crate) fn complete<'o>(&self, options: &'o WindowOptions) -> Cow<'o, WindowOptions> {
        let WindowOptions { profile, summary_role, advance, .. } = options;
        if profile.is_some() && summary_role.is_some() && advance.is_some() {
            return Cow::Borrowed(options);
        }
        let mut options = options.clone();
        options.profile.get_or_insert_with(|| self.profile.clone());
        options.summary_role = options.summary_role.or(self.resource.summary_role);
        options.advance = options.advance.or(self.resource.window_advance);
        Cow::Owned(options)
    }
}

/// The names of the strategies that need no registration.
const BUILT_IN: [&str; 4] = ["clear_tool_results", "fifo", "hybrid_summary", "priority"];

/// The strategy of this name, if there is one.
fn strategy(
    name: &str,
    registered: &HashMap<String, Arc<dyn FlushStrategy>>,
) -> Option<Arc<dyn FlushStrategy>> {
    if let Some(own) = registered.get(name) {
        return Some(Arc::clone(own));
    }
    Some(match name {
        "fifo" => Arc::new(Fifo),
        "priority" => Arc::new(PriorityEviction),
        "hybrid_summary" => Arc::new(HybridSummary),
        "clear_tool_results" => Arc::new(ClearToolResults),
        _ => return None,
    })
}

fn counter(resource: &MemoryResource) -> Result<Arc<dyn TokenCounter>, MemoryError> {
    let tokenizer = resource.tokenizer();
    #[cfg(feature = "tiktoken")]
    {
        use memory_core::TiktokenCounter;
        use memory_core::tokens::Vocabulary;
        let vocabulary = match tokenizer {
            Tokenizer::O200kBase => Some(Vocabulary::O200kBase),
            Tokenizer::Cl100kBase => Some(Vocabulary::Cl100kBase),
            _ => None,
        };
        if let Some(counter) = vocabulary.map(TiktokenCounter::new) {
            return Ok(Arc::new(counter));
        }
    }
    let missing =
        |tokenizer| Err(MemoryError::NoTokenizer { resource: resource.id.clone(), tokenizer });
    match tokenizer {
        Tokenizer::Estimate => Ok(Arc::new(EstimateCounter)),
        Tokenizer::O200kBase => missing("o200k_base"),
        Tokenizer::Cl100kBase => missing("cl100k_base"),
        _ => missing("of that name"),
    }
}

/// The counter, with the resource's factor and media prices applied.
fn configured(
    resource: &MemoryResource,
    counter: Arc<dyn TokenCounter>,
    factor: f64,
) -> Arc<dyn TokenCounter> {
    // A custom counter has its own prices; a resource without prices does not change them.
    let prices = if resource.model.is_none() {
        counter.media_prices().with_settings(&resource.media_tokens)
    } else {
        resource.media_prices()
    };
    Arc::new(ConfiguredCounter::new(counter).with_factor(factor).with_media_prices(prices))
}

/// The name of a durability in resources.
fn durability_name(durability: Durability) -> String {
    serde_json::to_value(durability)
        .ok()
        .and_then(|value| value.as_str().map(str::to_owned))
        .unwrap_or_default()
}

impl fmt::Debug for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rules")
            .field("resource", &self.resource.id)
            .field("strategy", &self.strategy.name())
            .field("counter", &self.counter.name())
            .finish_non_exhaustive()
    }
}
