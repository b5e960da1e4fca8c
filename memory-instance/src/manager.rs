//! The manager: memories by resource and key.

use std::collections::HashMap;
use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;

use memory_config::Mode;
use memory_core::health::{ServerHealth, ServerWarning};
use memory_core::store::KeyPrefix;
use memory_core::{MemoryKey, MemoryStore};
use memory_lock::LockManager;
use quick_cache::sync::Cache;
use serde::Serialize;

use crate::agents::{Agent, AgentMemories};
use crate::backend::Backend;
use crate::error::MemoryError;
use crate::inner::Inner;
use crate::instance::MemoryInstance;
use crate::lifecycle::Lifecycle;
use crate::rules::Rules;
use crate::telemetry::operation;
use crate::template::{KeyContext, KeyTemplate};

/// Opens memories by resource and key. Clones are cheap and share all state.
///
/// ```
/// # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
/// use memory_core::{MemoryResource, Message};
/// use memory_instance::{KeyContext, MemoryManager};
///
/// let manager = MemoryManager::builder()
///     .with_project("acme")
///     .with_resource(MemoryResource::new("support", 8_000))
///     .open("memory://")
///     .await?;
/// let context = KeyContext::new().with("workflow.input.case", 4711);
/// let memory = manager.memory_for("support", "case-{{ workflow.input.case }}", &context)?;
/// memory.append(Message::user("My flight was canceled")).await?;
/// assert_eq!(memory.key().as_str(), "acme:support:case-4711");
/// # Ok::<(), memory_instance::MemoryError>(())
/// # }).unwrap();
/// ```
#[derive(Clone)]
pub struct MemoryManager {
    shared: Arc<Shared>,
    warnings: Arc<[OpenWarning]>,
}

/// A server setting, found when the store was opened, that puts memories of these resources at risk. Opening
/// continues; each call of [`health`](MemoryInstance::health) checks the setting again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct OpenWarning {
    /// The ids of the affected resources, ascending.
    pub resources: Vec<String>,
    /// The risk and the remedy.
    pub warning: ServerWarning,
}

impl fmt::Display for OpenWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "resources {}: {}", self.resources.join(", "), self.warning)
    }
}

struct Shared {
    project: String,
    rules: HashMap<String, Arc<Rules>>,
    agents: HashMap<String, Arc<Agent>>,
    backend: Arc<Backend>,
    instances: Cache<MemoryKey, Arc<Inner>>,
}

impl MemoryManager {
    pub(crate) fn new(
        project: String,
        rules: HashMap<String, Arc<Rules>>,
        agents: HashMap<String, Arc<Agent>>,
        backend: Backend,
        cached_instances: NonZeroUsize,
    ) -> Self {
        let instances = Cache::new(cached_instances.get());
        let shared = Shared { project, rules, agents, backend: Arc::new(backend), instances };
        Self { shared: Arc::new(shared), warnings: Arc::new([]) }
    }

    /// Stores and logs the warnings about a server's settings.
    pub(crate) fn warned_by(self, server: Option<&ServerHealth>) -> Self {
        let warnings = server.into_iter().flat_map(|server| &server.warnings);
        let warnings = warnings.filter_map(|warning| {
            let rules = self.shared.rules.iter();
            let has_ttl = |rules: &Rules| rules.resource.persistence.ttl.is_some();
            let threatened = rules.filter(|(_, rules)| warning.threatens_all() || has_ttl(rules));
            let mut resources: Vec<_> = threatened.map(|(id, _)| id.clone()).collect();
            resources.sort_unstable();
            let warning = warning.clone();
            (!resources.is_empty()).then_some(OpenWarning { resources, warning })
        });
        let warnings: Arc<[_]> = warnings.collect();
        for warning in warnings.iter() {
            tracing::warn!("{warning}");
        }
        Self { warnings, ..self }
    }

    /// The risks to acknowledged messages that [`open`](crate::ManagerBuilder::open) found, such as a Redis server
    /// that may evict memories with a TTL when it is out of memory. Empty for a manager that was
    /// [built](crate::ManagerBuilder::build) around a store. An application may refuse to start if there are any.
    #[must_use]
    pub fn warnings(&self) -> &[OpenWarning] {
        &self.warnings
    }

    /// The memory of this resource with this key. The key is plain text, not a template.
    ///
    /// No request is made: the store creates a memory with its first message.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use memory_instance::{MemoryError, MemoryManager, MemoryResource};
    ///
    /// let resource = MemoryResource::new("support", 8_000);
    /// let manager = MemoryManager::builder().with_resource(resource).open("memory://").await?;
    /// let memory = manager.memory("support", "case 4711")?;
    /// assert_eq!(memory.key().as_str(), "default:support:case%204711");
    /// let unknown = manager.memory("sales", "case 4711");
    /// assert!(matches!(unknown, Err(MemoryError::UnknownResource { .. })));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`MemoryError::UnknownResource`]; [`MemoryError::Key`] for an empty key.
    pub fn memory(&self, resource: &str, key: &str) -> Result<MemoryInstance, MemoryError> {
        let rules = self.rules(resource)?;
        let key = MemoryKey::new(&self.shared.project, resource, key)?;
        self.instance(&key, rules)
    }

    /// The memory of this resource whose key a template renders.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use memory_instance::{KeyContext, MemoryManager, MemoryResource};
    ///
    /// let resource = MemoryResource::new("support", 8_000);
    /// let manager = MemoryManager::builder().with_resource(resource).open("memory://").await?;
    /// let context = KeyContext::new().with("user.id", "u-7");
    /// let memory = manager.memory_for("support", "user:{{ user.id }}", &context)?;
    /// assert_eq!(memory.key().as_str(), "default:support:user:u-7");
    /// let missing = manager.memory_for("support", "user:{{ user.name }}", &context);
    /// assert!(missing.unwrap_err().to_string().contains("user.name"));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`memory`](Self::memory); [`MemoryError::Template`], which names a missing variable.
    pub fn memory_for(
        &self,
        resource: &str,
        template: &str,
        context: &KeyContext,
    ) -> Result<MemoryInstance, MemoryError> {
        self.memory(resource, &KeyTemplate::parse(template)?.render(context)?)
    }

    /// The memory of this resource whose key the resource's own `key` renders. The variables get `project.id` and
    /// `timestamp` (RFC 3339, in UTC), unless the caller set them.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use memory_instance::{KeyContext, MemoryManager, MemoryResource};
    ///
    /// let mut resource = MemoryResource::new("support", 8_000);
    /// resource.key = Some("{{ project.id }}-{{ user.id }}".into());
    /// let manager = MemoryManager::builder().with_resource(resource).open("memory://").await?;
    /// let memory = manager.memory_from("support", &KeyContext::new().with("user.id", "u-7"))?;
    /// assert_eq!(memory.key().as_str(), "default:support:default-u-7");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`memory_for`](Self::memory_for); [`MemoryError::NoKey`] for a resource without `key`.
    pub fn memory_from(
        &self,
        resource: &str,
        context: &KeyContext,
    ) -> Result<MemoryInstance, MemoryError> {
        let Some(template) = &self.rules(resource)?.key else {
            return Err(MemoryError::NoKey { resource: resource.to_owned() });
        };
        self.memory(resource, &template.render(&self.completed(context))?)
    }

    /// The memories of an agent of the [configuration](crate::ManagerBuilder::with_config).
    ///
    /// # Errors
    /// [`MemoryError::UnknownAgent`].
    pub fn agent(&self, id: &str) -> Result<AgentMemories, MemoryError> {
        let agents = &self.shared.agents;
        let agent = agents.get(id).ok_or_else(|| MemoryError::UnknownAgent {
            id: id.to_owned(),
            known: listed(agents.keys()),
        })?;
        Ok(AgentMemories::new(self.clone(), Arc::clone(agent)))
    }

    /// Checks that the memories of all agents exist.
    pub(crate) fn check_agents(&self) -> Result<(), MemoryError> {
        let agents = self.shared.agents.values();
        agents.flat_map(|agent| agent.resources()).try_for_each(|id| self.rules(id).map(drop))
    }

    /// The variables, with those of the project and the time.
    pub(crate) fn completed(&self, context: &KeyContext) -> KeyContext {
        let now = self.shared.backend.now().to_string();
        context.clone().or_with("project.id", &self.shared.project).or_with("timestamp", &now)
    }

    /// The memory with this storage key, as listed by [`keys`](Self::keys).
    ///
    /// # Errors
    /// [`MemoryError::UnknownResource`] if no resource of this manager has the key's memory id.
    pub fn memory_at(&self, key: &MemoryKey) -> Result<MemoryInstance, MemoryError> {
        self.instance(key, self.rules(&key.memory_id())?)
    }

    /// The storage keys of all memories with messages, of every project and resource: at most `limit` keys,
    /// ascending, after a given key.
    ///
    /// # Examples
    ///
    /// ```
    /// # use memory_instance::{MemoryManager, MemoryResource};
    /// use std::num::NonZeroUsize;
    ///
    /// use memory_instance::Message;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let resource = MemoryResource::new("support", 8_000);
    /// # let manager = MemoryManager::builder().with_resource(resource).open("memory://").await?;
    /// # let memory = manager.memory("support", "case-4711")?;
    /// memory.append(Message::user("Where is my parcel?")).await?;
    /// let limit = NonZeroUsize::new(100).ok_or("zero")?;
    /// let keys = manager.keys(None, limit).await?;
    /// assert_eq!(keys, [memory.key().clone()]);
    /// // The next page begins after the last key of this one.
    /// assert!(manager.keys(keys.last(), limit).await?.is_empty());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`MemoryError::Store`].
    ///
    /// # Cancel safety
    /// Reads have no effect.
    pub async fn keys(
        &self,
        after: Option<&MemoryKey>,
        limit: NonZeroUsize,
    ) -> Result<Vec<MemoryKey>, MemoryError> {
        let work = async { Ok(self.shared.backend.store.keys(after, limit).await?) };
        operation!(self, "keys", work).await
    }

    /// The storage keys of the memories with messages of one resource of this project whose rendered key begins
    /// with `prefix`: at most `limit` keys, ascending, after a given key. An empty prefix lists all. The resource
    /// need not be registered with this manager.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
    /// # use std::num::NonZeroUsize;
    /// # use memory_instance::MemoryManager;
    /// # let manager = MemoryManager::builder().open("memory://").await?;
    /// let limit = NonZeroUsize::new(100).unwrap_or(NonZeroUsize::MIN);
    /// let cases = manager.keys_with_prefix("support", "case-", None, limit).await?;
    /// # assert!(cases.is_empty());
    /// # Ok::<(), memory_instance::MemoryError>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// [`MemoryError::Store`]; [`MemoryError::Key`] for a resource without a name.
    ///
    /// # Cancel safety
    /// Reads have no effect.
    pub async fn keys_with_prefix(
        &self,
        resource: &str,
        prefix: &str,
        after: Option<&MemoryKey>,
        limit: NonZeroUsize,
    ) -> Result<Vec<MemoryKey>, MemoryError> {
        let work = async {
            let prefix = KeyPrefix::new(&self.shared.project, resource, prefix)?;
            let store = &self.shared.backend.store;
            let (mut found, mut rest) = (Vec::new(), limit.get());
            let after = match after {
                Some(after) if after >= prefix.first() => after,
                _ => {
                    // A listing starts after a key, so the first possible key is checked separately.
                    if store.head(prefix.first()).await?.counters.present.messages > 0 {
                        found.push(prefix.first().clone());
                        rest -= 1;
                    }
                    prefix.first()
                }
            };
            if let Some(rest) = NonZeroUsize::new(rest) {
                let listed = store.keys(Some(after), rest).await?;
                found.extend(listed.into_iter().take_while(|key| prefix.matches(key)));
            }
            Ok(found)
        };
        operation!(self, "keys_with_prefix", work).await
    }

    /// The project.
    #[must_use]
    pub fn project(&self) -> &str {
        &self.shared.project
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn MemoryStore> {
        &self.shared.backend.store
    }

    /// The leases.
    #[must_use]
    pub fn locks(&self) -> &LockManager {
        &self.shared.backend.locks
    }

    pub(crate) fn lifecycle(&self) -> &Lifecycle {
        &self.shared.backend.lifecycle
    }

    pub(crate) fn backend(&self) -> &Backend {
        &self.shared.backend
    }

    /// The template of the resource's own key.
    pub(crate) fn key_template(&self, resource: &str) -> Result<Option<&KeyTemplate>, MemoryError> {
        Ok(self.rules(resource)?.key.as_ref())
    }

    /// The memory with this storage key, which is one of this resource.
    pub(crate) fn memory_of(
        &self,
        resource: &str,
        key: &MemoryKey,
    ) -> Result<MemoryInstance, MemoryError> {
        self.instance(key, self.rules(resource)?)
    }

    /// Checks that a resource exists.
    pub(crate) fn check_resource(&self, resource: &str) -> Result<(), MemoryError> {
        self.rules(resource).map(drop)
    }

    fn rules(&self, resource: &str) -> Result<&Arc<Rules>, MemoryError> {
        let rules = &self.shared.rules;
        rules.get(resource).ok_or_else(|| MemoryError::UnknownResource {
            id: resource.to_owned(),
            known: listed(rules.keys()),
        })
    }

    fn instance(&self, key: &MemoryKey, rules: &Arc<Rules>) -> Result<MemoryInstance, MemoryError> {
        let new = || Inner::new(key, rules, &self.shared.backend).map(Arc::new);
        let inner = self.shared.instances.get_or_insert_with(key, new)?;
        Ok(MemoryInstance { inner, mode: Mode::ReadWrite })
    }
}

/// The ids in order, as errors list them.
fn listed<'a>(ids: impl Iterator<Item = &'a String>) -> String {
    let mut ids: Vec<_> = ids.map(String::as_str).collect();
    ids.sort_unstable();
    if ids.is_empty() { "none".to_owned() } else { ids.join(", ") }
}

impl fmt::Debug for MemoryManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryManager")
            .field("project", &self.shared.project)
            .field("resources", &self.shared.rules.keys())
            .field("instances", &self.shared.instances.len())
            .finish_non_exhaustive()
    }
}
