//! Tests of the facade's public API, on every backend.

/// Runs a test on every backend. In memory and on SQLite tokio's clock is paused, so nothing waits in real time and
/// timeouts are exact. On Redis it is not paused, because it would advance while the server answers. Tests that let the
/// clock jump are listed after `paused_clock` and skipped on Redis; the tests in `on_redis.rs` have short leases
/// instead.
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
        #[cfg(feature = "redis")]
        mod on_redis {
            $(#[tokio::test]
            async fn $name() {
                super::$name(crate::support::On::Redis).await;
            })*
        }
    };
}

mod agents;
mod append;
mod archive;
mod backup;
mod backup_clear;
mod bad_input;
mod breaker;
mod cancel;
mod clear_tool_results;
mod clocks;
mod defaults;
mod edit;
mod erase;
mod exclusions;
mod exclusive;
mod faults;
mod flush;
mod flush_options;
mod fork;
mod isolation;
mod logs;
mod metadata;
#[cfg(feature = "redis")]
mod on_redis;
mod operation;
mod panics;
mod patience;
mod read;
mod replaced;
mod rollback;
mod search;
mod secrets;
mod shutdown;
mod stats;
mod support;
mod system_prompt;
mod tokens;
mod unused;
mod version;
mod waits;
mod watch;
mod window;
mod workflow;
mod writers;
