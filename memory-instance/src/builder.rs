//! The builder of a manager.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use memory_config::{AgentConfig, Note, NoteKind, ProjectConfig};
use memory_core::{MemoryResource, MemoryStore, TokenCounter};
use memory_flush::{FlushStrategy, Summarizer};
use memory_lock::{Clock, ClockExt as _, LockManager};

use crate::agents::Agent;
use crate::audit::{AuditSink, Sink};
use crate::backend::Backend;
use crate::error::MemoryError;
use crate::ids::Ids;
use crate::manager::MemoryManager;
use crate::open;
use crate::prefixes::Prefixes;
use crate::rewrite::REWRITE;
use crate::rules::{Extensions, FlushMode, Rules};
use crate::telemetry;
use crate::views::{VIEW_BYTES, Views};

/// Builds a [`MemoryManager`].
#[derive(Debug)]
#[must_use]
pub struct ManagerBuilder {
    project: String,
    resources: Vec<MemoryResource>,
    agents: Vec<AgentConfig>,
    notes: Vec<Note>,
    extensions: Extensions,
    cached_instances: NonZeroUsize,
    view_bytes: usize,
    clock: Option<Clock>,
    ids: Ids,
    audit: Sink,
}

impl MemoryManager {
    /// Returns a builder with the defaults.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use memory_instance::{FlushMode, MemoryManager, MemoryResource};
    ///
    /// let manager = MemoryManager::builder()
    ///     .with_project("acme")
    ///     .with_resource(MemoryResource::new("support", 8_000))
    ///     .with_flush_mode(FlushMode::Manual)
    ///     .open("memory://")
    ///     .await?;
    /// assert_eq!(manager.project(), "acme");
    /// # Ok(()) }
    /// ```
    pub fn builder() -> ManagerBuilder {
        ManagerBuilder::new()
    }
}

/// The default number of instances that a manager caches.
const CACHED_INSTANCES: usize = 10_000;

impl ManagerBuilder {
    pub(crate) fn new() -> Self {
        Self {
            project: "default".into(),
            resources: Vec::new(),
            agents: Vec::new(),
            notes: Vec::new(),
            extensions: Extensions::default(),
            cached_instances: NonZeroUsize::new(CACHED_INSTANCES).unwrap_or(NonZeroUsize::MIN),
            view_bytes: VIEW_BYTES,
            clock: None,
            ids: Ids::system(),
            audit: None,
        }
    }

    /// The project, the first part of every key. Default: `default`.
    pub fn with_project(mut self, project: impl Into<String>) -> Self {
        self.project = project.into();
        self
    }

    /// Adds a resource. Ids are unique, also without regard to case.
    pub fn with_resource(mut self, resource: MemoryResource) -> Self {
        self.resources.push(resource);
        self
    }

    /// Adds the resources and agents of a project. Its notes on settings that have no effect or are replaced are logged
    /// as warnings. See [`MemoryManager::agent`].
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use memory_instance::config::ProjectConfig;
    /// use memory_instance::{KeyContext, MemoryManager};
    ///
    /// let config = ProjectConfig::from_json(
    ///     r#"{
    ///         "memories": [{"id": "log", "description": "A log", "max_tokens": 8000}],
    ///         "agents": [{"id": "radio", "memory": "log", "memory_key": "{{ agent.id }}-log"}]
    ///     }"#,
    /// )?;
    /// let manager = MemoryManager::builder().with_config(config).open("memory://").await?;
    /// let radio = manager.agent("radio")?.resolve(&KeyContext::new())?;
    /// assert_eq!(radio.memories()[0].key().as_str(), "default:log:radio-log");
    /// # Ok(()) }
    /// ```
    pub fn with_config(mut self, config: ProjectConfig) -> Self {
        let ProjectConfig { memories, agents, notes, .. } = config;
        self.resources.extend(memories);
        self.agents.extend(agents);
        self.notes.extend(notes);
        self
    }

    /// Counts tokens with this counter instead of the resources' tokenizers.
    pub fn with_token_counter(mut self, counter: Arc<dyn TokenCounter>) -> Self {
        self.extensions.counter = Some(counter);
        self
    }

    /// Adds a flush strategy. Resources refer to it by its [`name`](FlushStrategy::name), which must not be `rewrite`: that is
    /// the strategy of summaries that were [written anew](crate::MemoryInstance::rewrite_summaries).
    pub fn with_strategy(mut self, strategy: Arc<dyn FlushStrategy>) -> Self {
        let strategies = Arc::make_mut(&mut self.extensions.strategies);
        strategies.insert(strategy.name().to_owned(), strategy);
        self
    }

    /// Adds a summarizer. Summarizers are called in this order, and the rule-based one last. The strategies
    /// `fifo` and `priority` write no summaries and call none.
    pub fn with_summarizer(mut self, summarizer: Arc<dyn Summarizer>) -> Self {
        self.extensions.summarizers.push(summarizer);
        self
    }

    /// The time limit for each summarizer before the next one is called. Default: 60 s.
    pub fn with_summarizer_time_limit(mut self, limit: Duration) -> Self {
        self.extensions.summarizer_time_limit = Some(limit);
        self
    }

    /// When memories are flushed. Default: [`FlushMode::Background`].
    pub fn with_flush_mode(mut self, mode: FlushMode) -> Self {
        self.extensions.flush_mode = mode;
        self
    }

    /// The number of instances that the manager caches. Handles in use stay valid when their instance leaves
    /// the cache. Default: 10,000.
    pub fn with_cached_instances(mut self, instances: NonZeroUsize) -> Self {
        self.cached_instances = instances;
        self
    }

    /// The number of bytes of decoded messages to keep in this process, for all memories of the manager together;
    /// by default 64 MiB. 0 keeps none.
    ///
    /// With the messages at hand, [`window`](crate::MemoryInstance::window), [`messages`](crate::MemoryInstance::messages)
    /// and [`page`](crate::MemoryInstance::page) ask the store only for messages that were appended since the last
    /// read, in one request. Every acknowledged write is seen nevertheless. The least recently used memory is dropped
    /// first. A memory that is larger than this is read again each time.
    pub const fn with_view_bytes(mut self, bytes: usize) -> Self {
        self.view_bytes = bytes;
        self
    }

    /// The clock for `created_at`, TTLs and leases. Default: [`Clock::system`](crate::ClockExt::system) for a store that several
    /// processes share; [`Clock::anchored`](crate::ClockExt::anchored), which never steps, for `memory://`.
    pub fn with_clock(mut self, clock: Clock) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Generates ids from a seed, so that a test can be replayed. Never use it in production: two processes
    /// with the same seed treat each other's writes as retries.
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.ids = Ids::seeded(seed);
        self
    }

    /// Passes the record of each write to this sink, beside the `tracing` events of the target `memory::audit`. Default:
    /// none.
    pub fn with_audit_sink(mut self, sink: Arc<dyn AuditSink>) -> Self {
        self.audit = Some(sink);
        self
    }

    /// Opens the store and the lease backend that a URL names: `memory://`; or `sqlite://` and a path, such as
    /// `sqlite://memory.db` or `sqlite:///var/lib/app/memory.db?synchronous=normal` (with `links=allow` for a
    /// file that has other hard links, if none of them is ever opened); or, with the feature `redis`,
    /// `redis://host`, `rediss://`, `redis+cluster://a,b,c`, `redis+sentinel://a,b,c/?master=name` or
    /// `redis+unix:///path`, with settings such as `?prefix=agents&replicas=1`.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use memory_instance::{MemoryManager, MemoryResource, Message};
    ///
    /// let folder = tempfile::tempdir()?;
    /// let url = format!("sqlite://{}", folder.path().join("memory.db").display());
    /// for expected in [1, 2] {
    ///     // Each round is a program that starts, opens the same file, appends and ends.
    ///     let resource = MemoryResource::new("support", 8_000);
    ///     let manager = MemoryManager::builder().with_resource(resource).open(&url).await?;
    ///     let memory = manager.memory("support", "case-4711")?;
    ///     memory.append(Message::user("Where is my parcel?")).await?;
    ///     assert_eq!(memory.len().await?, expected);
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`MemoryError::Url`]; [`MemoryError::Store`] if the file or server cannot be used; the errors of
    /// [`build`](Self::build).
    ///
    /// # Cancel safety
    /// Dropping the future leaves at most an empty database file.
    pub async fn open(mut self, url: &str) -> Result<MemoryManager, MemoryError> {
        let clock = self.clock.take().unwrap_or_else(|| open::default_clock(url));
        let patience = self
            .resources
            .iter()
            .map(|resource| resource.lock.failure_timeout.min(resource.lock.wait_timeout));
        let patience = patience.min().unwrap_or(Duration::MAX);
        open::warn_of_other_kind(url, &self.resources);
        let (store, locks) = open::open(url, &clock, patience).await?;
        // Without an answer there is nothing to warn about: the store reports its failures itself.
        let server = store.server().await.ok().flatten();
        let manager = self.with_clock(clock).build(store, locks)?;
        Ok(manager.warned_by(server.as_ref()))
    }

    /// Uses the given store and lease manager.
    ///
    /// # Errors
    /// [`MemoryError::LeasesElsewhere`]; [`MemoryError::ReservedStrategy`]; [`MemoryError::DuplicateResource`] and [`MemoryError::DuplicateAgent`];
    /// [`MemoryError::Template`] for a key template of a resource or an agent; [`MemoryError::UnknownResource`] for an
    /// agent whose memory was taken out of its configuration; and [`MemoryError`] for a resource that is inconsistent, or
    /// that needs something which the store, this build or the registered strategies do not provide.
    pub fn build(
        self,
        store: Arc<dyn MemoryStore>,
        locks: LockManager,
    ) -> Result<MemoryManager, MemoryError> {
        if let Some(domain) = store.lease_domain().filter(|domain| *domain != locks.domain()) {
            return Err(MemoryError::LeasesElsewhere {
                store: domain.as_str().to_owned(),
                leases: locks.domain().as_str().to_owned(),
            });
        }
        if self.extensions.strategies.contains_key(REWRITE) {
            return Err(MemoryError::ReservedStrategy { strategy: REWRITE.to_owned() });
        }
        for note in &self.notes {
            if matches!(note.kind, NoteKind::NoEffect | NoteKind::Replaced) {
                tracing::warn!("configuration: {note}");
            }
        }
        telemetry::describe();
        let mut rules = HashMap::new();
        let mut ids: HashMap<String, String> = HashMap::new();
        for resource in self.resources {
            let id = resource.id.clone();
            if let Some(earlier) = ids.insert(id.to_lowercase(), id.clone()) {
                return Err(MemoryError::DuplicateResource { id: earlier, other: id });
            }
            let compiled = Rules::new(resource, &self.extensions, &store, &self.project)?;
            rules.insert(id, Arc::new(compiled));
        }
        let mut agents = HashMap::new();
        for config in self.agents {
            let id = config.id.clone();
            if agents.insert(id.clone(), Arc::new(Agent::new(config)?)).is_some() {
                return Err(MemoryError::DuplicateAgent { id });
            }
        }
        let clock = self.clock.unwrap_or_else(Clock::system);
        let backend = Backend {
            store,
            locks,
            clock,
            ids: self.ids,
            lifecycle: Arc::default(),
            audit: self.audit,
            views: Views::new(self.view_bytes, &self.project),
            refreshed: metrics::counter!("memory_lock_refresh_total", "project" => self.project.clone()),
            prefixes: Prefixes::default(),
            refreshes: AtomicU64::new(0),
        };
        let manager =
            MemoryManager::new(self.project, rules, agents, backend, self.cached_instances);
        manager.check_agents()?;
        Ok(manager)
    }
}
