//! Waiting for a condition, with a deadline and without guessing how long it takes.

use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, sleep};

/// Far more than any wait here takes on a busy machine; it only ends a wait that would hang.
pub(crate) const CONDITION_TIMEOUT: Duration = Duration::from_secs(30);

/// Polls until the answer is available.
///
/// # Panics
///
/// After 30 s, with the result of the last poll.
pub(crate) async fn until<T, A>(what: &str, mut ask: impl FnMut() -> A + Send) -> T
where
    A: Future<Output = Result<T, String>> + Send,
{
    let deadline = Instant::now() + CONDITION_TIMEOUT;
    let mut pause = Duration::from_millis(1);
    loop {
        match ask().await {
            Ok(found) => return found,
            Err(instead) if Instant::now() >= deadline => {
                panic!("after {CONDITION_TIMEOUT:?} still no {what}: {instead}")
            }
            Err(_) => {}
        }
        sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}
