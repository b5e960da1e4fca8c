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

mod applied;
mod archive;
mod change_tracker;
pub mod changes;
mod check_request;
pub mod clock;
#[cfg(feature = "conformance")]
pub mod conformance;
mod counters;
pub mod dialect;
mod erasure;
mod error_code;
mod error_text;
mod eviction;
mod flush_settings;
pub mod health;
pub mod json;
mod key;
pub mod lease;
pub mod limits;
mod link;
mod message;
mod metadata;
mod model_name;
mod pairing;
pub mod plan;
mod policy;
mod priority;
pub mod profile;
mod receipt;
mod redact;
mod render;
pub mod request;
pub mod resource;
mod search;
#[doc(hidden)]
pub mod sibling;
pub mod stats;
pub mod store;
mod stored;
#[cfg(test)]
mod testkit;
pub mod tokens;
mod undone;
mod unit;
mod usage;
mod view;
mod window;
mod write;

#[cfg(test)]
mod auto_traits;

pub use check_request::check_request;
#[doc(inline)]
pub use clock::Clock;
pub use error_code::ErrorCode;
#[doc(inline)]
pub use health::MemoryHealth;
pub use key::{KeyError, MemoryKey};
pub use message::{Message, MessageError, Role};
pub use policy::Entry;
pub use priority::{ContentType, Priority};
#[doc(inline)]
pub use profile::Profile;
pub use render::Request;
#[doc(inline)]
pub use resource::{MemoryResource, ResourceError};
#[doc(inline)]
pub use store::{InMemoryStore, MemoryStore};
pub use stored::{Sequence, StoredMessage};
#[cfg(feature = "tiktoken")]
#[doc(inline)]
pub use tokens::TiktokenCounter;
#[doc(inline)]
pub use tokens::{EstimateCounter, TokenCounter};
pub use window::{WindowOptions, trim_messages};
