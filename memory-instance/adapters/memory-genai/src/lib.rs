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

mod conversation;
mod foreign;
mod read;
mod write;

pub use conversation::{ChatWindow, GenaiMemory, answer_message, usage_from_genai};
pub use read::genai_from_messages;
pub use write::{message_from_genai, messages_from_genai};
