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

mod calls;
mod conversation;
mod foreign;
mod read;
mod write;

pub use conversation::{GenaiMemory, answer_message};
pub use read::genai_from_messages;
pub use write::{message_from_genai, messages_from_genai};
