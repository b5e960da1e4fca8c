//! The timer of the fallback chain of summarizers.

use std::pin::Pin;
use std::time::Duration;

use memory_flush::Timer;

/// Sleeps with tokio's timer in the fallback chain.
#[derive(Debug)]
pub(super) struct TokioTimer;

impl Timer for TokioTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(tokio::time::sleep(duration))
    }
}
