//! The memories of agents, as a project document lists them.

mod turn;

use std::sync::Arc;

use memory_config::{AgentConfig, MemoryReference, Mode};
use metrics::counter;

pub use self::turn::{AgentTurn, AgentWindow, OnFailure, PreparedTurn, TurnOutcome};
use crate::error::MemoryError;
use crate::instance::MemoryInstance;
use crate::manager::MemoryManager;
use crate::template::{KeyContext, KeyTemplate};

/// An agent, with its templates parsed.
#[derive(Debug)]
pub(crate) struct Agent {
    id: String,
    references: Vec<MemoryReference>,
    /// Those of the references, in their order.
    templates: Vec<KeyTemplate>,
    /// The level of its configuration, as in the metrics.
    pattern: &'static str,
}

/// The level of configuration that gives an agent these memories: `none`, `simple` for one, `multi` for several with one key,
/// and `advanced` for modes and keys of each memory.
fn pattern_of(memories: &[MemoryReference]) -> &'static str {
    let Some((first, others)) = memories.split_first() else { return "none" };
    let is_plain = |one: &MemoryReference| one.mode == Mode::ReadWrite && one.key == first.key;
    match (memories.iter().all(is_plain), others.is_empty()) {
        (true, true) => "simple",
        (true, false) => "multi",
        (false, _) => "advanced",
    }
}

impl Agent {
    pub(crate) fn new(config: AgentConfig) -> Result<Self, MemoryError> {
        let AgentConfig { id, memories: references, .. } = config;
        let templates = references
            .iter()
            .map(|reference| KeyTemplate::parse(&reference.key))
            .collect::<Result<_, _>>()?;
        let pattern = pattern_of(&references);
        Ok(Self { id, references, templates, pattern })
    }

    /// The ids of the resources that the agent uses.
    pub(crate) fn resources(&self) -> impl Iterator<Item = &str> {
        self.references.iter().map(|reference| reference.id.as_str())
    }
}

/// The memories of an agent, see [`MemoryManager::agent`]. Clones are cheap.
#[derive(Debug, Clone)]
pub struct AgentMemories {
    manager: MemoryManager,
    agent: Arc<Agent>,
}

impl AgentMemories {
    pub(crate) const fn new(manager: MemoryManager, agent: Arc<Agent>) -> Self {
        Self { manager, agent }
    }

    /// The references, in the order of the document; none for an agent without memory.
    #[must_use]
    pub fn references(&self) -> &[MemoryReference] {
        &self.agent.references
    }

    /// Renders all keys and opens the memories, in the order of the document. No request is made.
    ///
    /// The variables get `agent.id`, `project.id` and `timestamp` (RFC 3339, in UTC, the same for all keys), unless the
    /// caller set them.
    ///
    /// # Errors
    /// [`MemoryError::Template`], which names a missing variable; [`MemoryError::Key`].
    pub fn resolve(&self, context: &KeyContext) -> Result<ResolvedMemories, MemoryError> {
        let resolved = self.open(context);
        let status = if resolved.is_ok() { "ok" } else { "failure" };
        counter!(
            "memory_config_resolution_total", "project" => self.manager.project().to_owned(),
            "pattern" => self.agent.pattern, "status" => status
        )
        .increment(1);
        resolved
    }

    fn open(&self, context: &KeyContext) -> Result<ResolvedMemories, MemoryError> {
        let Agent { id, references, templates, .. } = &*self.agent;
        let context = self.manager.completed(context).or_with("agent.id", id);
        let open = |(reference, template): (&MemoryReference, &KeyTemplate)| {
            let memory = self.manager.memory(&reference.id, &template.render(&context)?)?;
            Ok(match reference.mode {
                Mode::ReadWrite => memory,
                Mode::ReadOnly => memory.read_only(),
            })
        };
        let memories =
            references.iter().zip(templates).map(open).collect::<Result<_, MemoryError>>()?;
        Ok(ResolvedMemories { agent: id.clone(), memories })
    }
}

/// The opened memories of an agent, see [`AgentMemories::resolve`].
#[derive(Debug, Clone)]
pub struct ResolvedMemories {
    agent: String,
    memories: Vec<MemoryInstance>,
}

impl ResolvedMemories {
    /// The memories, in the order of the document. Handles that may only read are [`Mode::ReadOnly`].
    #[must_use]
    pub fn memories(&self) -> &[MemoryInstance] {
        &self.memories
    }

    /// The first memory of this resource.
    #[must_use]
    pub fn memory(&self, resource: &str) -> Option<&MemoryInstance> {
        self.memories.iter().find(|memory| memory.resource().id == resource)
    }

    /// The different memories: two templates may render the same key.
    fn distinct(&self) -> impl Iterator<Item = &MemoryInstance> {
        self.memories.iter().enumerate().filter_map(|(index, memory)| {
            let mut earlier = self.memories.iter().take(index);
            (!earlier.any(|earlier| earlier.key() == memory.key())).then_some(memory)
        })
    }

    /// The different memories with a handle that may write.
    fn writable(&self) -> Vec<MemoryInstance> {
        let mut writable: Vec<MemoryInstance> = Vec::new();
        for memory in self.memories.iter().filter(|memory| memory.mode() == Mode::ReadWrite) {
            if !writable.iter().any(|earlier| earlier.key() == memory.key()) {
                writable.push(memory.clone());
            }
        }
        writable
    }
}
