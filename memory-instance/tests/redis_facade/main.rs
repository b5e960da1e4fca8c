//! The tests of `facade` on a real Redis server, in real time.

#![cfg(feature = "redis")]
#![allow(dead_code, reason = "this binary does not use what other backends need")]

/// Runs a test on Redis. The clock is not paused, because it would advance while the server answers. So tests that
/// let the clock jump are skipped, and `leases` covers them with short leases.
macro_rules! on_every_backend {
    ($($name:ident),* $(,)? $(; paused_clock: $($late:ident),* $(,)?)?) => {
        mod on_redis {
            $(#[tokio::test]
            async fn $name() {
                super::$name(crate::support::On::Redis).await;
            })*
        }
    };
}

#[path = "../facade/append.rs"]
mod append;
#[path = "../facade/exclusive.rs"]
mod exclusive;
#[path = "../facade/flush.rs"]
mod flush;
#[path = "../facade/isolation.rs"]
mod isolation;
mod leases;
#[path = "../facade/read.rs"]
mod read;
#[path = "../facade/support.rs"]
mod support;
#[path = "../facade/system_prompt.rs"]
mod system_prompt;
#[path = "../facade/unused.rs"]
mod unused;
#[path = "../facade/window.rs"]
mod window;
