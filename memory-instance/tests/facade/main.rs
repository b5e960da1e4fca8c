//! Tests of the facade's public API, on every backend.
//!
//! The modules are marked as tests so that clippy applies its rules for test code.

/// Runs a test on every backend with tokio's clock paused, so nothing waits in real time and timeouts are exact.
/// Tests that let the clock jump are listed after `paused_clock`.
macro_rules! on_every_backend {
    ($($name:ident),* $(,)? $(; paused_clock: $($late:ident),* $(,)?)?) => {
        mod on_memory {
            $(#[tokio::test(start_paused = true)]
            async fn $name() {
                super::$name(crate::support::On::Memory).await;
            })*
            $($(#[tokio::test(start_paused = true)]
            async fn $late() {
                super::$late(crate::support::On::Memory).await;
            })*)?
        }
        mod on_sqlite {
            $(#[tokio::test(start_paused = true)]
            async fn $name() {
                super::$name(crate::support::On::Sqlite).await;
            })*
            $($(#[tokio::test(start_paused = true)]
            async fn $late() {
                super::$late(crate::support::On::Sqlite).await;
            })*)?
        }
    };
}

#[cfg(test)]
mod append;
#[cfg(test)]
mod bad_input;
#[cfg(test)]
mod breaker;
#[cfg(test)]
mod cancel;
#[cfg(test)]
mod clocks;
#[cfg(test)]
mod defaults;
#[cfg(test)]
mod exclusive;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod flush;
#[cfg(test)]
mod isolation;
#[cfg(test)]
mod logs;
#[cfg(test)]
mod panics;
#[cfg(test)]
mod patience;
#[cfg(test)]
mod read;
#[cfg(test)]
mod replaced;
#[cfg(test)]
mod rollback;
#[cfg(test)]
mod shutdown;
#[cfg(test)]
mod support;
#[cfg(test)]
mod system_prompt;
#[cfg(test)]
mod tokens;
#[cfg(test)]
mod unused;
#[cfg(test)]
mod waits;
#[cfg(test)]
mod window;
#[cfg(test)]
mod writers;
