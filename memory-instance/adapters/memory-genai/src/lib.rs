#![doc = include_str!("../README.md")]

mod conversation;
mod foreign;
mod read;
mod write;

pub use conversation::{ChatWindow, GenaiMemory, answer_message, usage_from_genai};
pub use read::genai_from_messages;
pub use write::{message_from_genai, messages_from_genai};
