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
