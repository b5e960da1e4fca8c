#![doc = include_str!("../README.md")]

mod project;

mod agent;
mod agents;
mod compat;
mod loader;
pub mod operation;

mod error;
mod format;
mod native;
mod note;
mod report;

pub use agent::{AgentConfig, MemoryReference, Mode};
pub use compat::read_compat;
pub use error::{ConfigError, ConfigErrorKind, ConfigErrors};
pub use loader::ConfigLoader;
pub use note::{Note, NoteKind, Strictness};
pub use project::ProjectConfig;
