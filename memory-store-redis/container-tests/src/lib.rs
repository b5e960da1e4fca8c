#![doc = include_str!("../README.md")]
#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot have its container fails here, with what was seen last"
)]

mod container;
mod image;

pub use container::RedisContainer;
pub use image::image;
