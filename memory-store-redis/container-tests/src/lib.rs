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
#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a test without its container fails here, with the last observation"
)]

mod container;
mod image;

pub use container::RedisContainer;
pub use image::image;
