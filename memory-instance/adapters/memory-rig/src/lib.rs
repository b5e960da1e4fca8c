#![doc = include_str!("../README.md")]

mod error;
mod foreign;
mod media;
mod memory;
mod read;
mod write;

pub use error::ConversationError;
pub use memory::RigMemory;
pub use read::rig_from_messages;
pub use write::{message_from_rig, messages_from_rig};
