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

#[cfg(test)]
#[path = "../facade/append.rs"]
mod append;
#[cfg(test)]
#[path = "../facade/exclusive.rs"]
mod exclusive;
#[cfg(test)]
#[path = "../facade/flush.rs"]
mod flush;
#[cfg(test)]
#[path = "../facade/isolation.rs"]
mod isolation;
#[cfg(test)]
mod leases;
#[cfg(test)]
#[path = "../facade/read.rs"]
mod read;
#[cfg(test)]
#[path = "../facade/support.rs"]
mod support;
#[cfg(test)]
#[path = "../facade/system_prompt.rs"]
mod system_prompt;
#[cfg(test)]
#[path = "../facade/unused.rs"]
mod unused;
#[cfg(test)]
#[path = "../facade/window.rs"]
mod window;
