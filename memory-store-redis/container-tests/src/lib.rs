#![doc = include_str!("../README.md")]
#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a test without its container fails here, with the last observation"
)]

mod container;
mod image;

pub use container::RedisContainer;
pub use image::image;
