#![doc = include_str!("../README.md")]
#![cfg_attr(
    not(test),
    warn(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::string_slice,
        clippy::print_stdout,
        clippy::print_stderr
    )
)]

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
