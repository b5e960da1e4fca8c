//! Agents and the memories that they use.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The access mode of a memory. In text: `read-write` or `read-only`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Read and write.
    #[default]
    ReadWrite,
    /// Read only; a write is an error.
    ReadOnly,
}

/// A memory that an agent uses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct MemoryReference {
    /// The id of the memory resource.
    pub id: String,
    /// The access mode.
    pub mode: Mode,
    /// The template of the key: the agent's, else that of the resource.
    pub key: String,
}

/// An agent, and the memories that it uses, in the order of the document.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct AgentConfig {
    /// The id of the agent.
    pub id: String,
    /// Its memories; empty for an agent without memory.
    pub memories: Vec<MemoryReference>,
    /// The fields of the host program, as they were written.
    pub extra: Map<String, Value>,
}
