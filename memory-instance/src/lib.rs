#![doc = include_str!("../README.md")]

mod manager;

mod instance;

mod append;
mod exclusive;
mod flush;
mod health;
mod write;

mod breaker;
mod builder;
mod open;
mod rules;
mod template;

mod error;
mod ids;
mod kinds;
mod telemetry;
mod writers;

pub use append::PreparedAppend;
pub use breaker::CircuitBreaker;
pub use builder::ManagerBuilder;
pub use error::{AppendFailure, LeaseFailure, MemoryError};
pub use exclusive::{ExclusiveError, Session};
pub use instance::{ContextWindow, MemoryInstance, Mode};
pub use manager::MemoryManager;
pub use open::without_password;
pub use rules::FlushMode;
pub use template::{KeyContext, KeyTemplate, TemplateError};
