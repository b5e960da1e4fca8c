//! A task waits for the answer of one of our threads.

use std::pin::Pin;
use std::task::Poll;

use tokio::runtime::{EnterGuard, Handle, RuntimeFlavor};
use tokio::sync::oneshot;

use crate::busy::{MAX_BUSY_SLEEP, nap, real_now};

/// A runtime whose clock is paused, as in tests.
///
/// Such a clock jumps to the next timer as soon as no task is runnable; only tokio's own blocking threads
/// hold it. Therefore a task that waits for another thread stays runnable there, and the thread reads the
/// clock of the task's runtime.
#[derive(Debug, Clone)]
pub struct PausedRuntime(Handle);

impl PausedRuntime {
    /// The runtime of the calling task if its clock is paused. Costs four readings of the clock on a
    /// runtime of one thread; no other can be paused.
    #[must_use]
    pub fn current() -> Option<Self> {
        let runtime = Handle::try_current().ok()?;
        let one_thread = runtime.runtime_flavor() == RuntimeFlavor::CurrentThread;
        (one_thread && is_paused()).then_some(Self(runtime))
    }

    /// While the guard lives, this thread reads the clock of the runtime.
    pub fn enter(&self) -> EnterGuard<'_> {
        self.0.enter()
    }
}

/// Returns whether tokio's clock is stopped while the machine's moves.
fn is_paused() -> bool {
    let before = tokio::time::Instant::now();
    let since = real_now();
    while real_now() <= since {
        std::hint::spin_loop();
    }
    tokio::time::Instant::now() == before
}

/// Waits for the answer of a thread, in a task of this `paused` runtime or of any other.
///
/// # Errors
///
/// If the sender was dropped without an answer.
///
/// # Cancel safety
///
/// An answer that was not received stays in the channel.
pub async fn answer<T>(
    receiver: &mut oneshot::Receiver<T>,
    paused: Option<&PausedRuntime>,
) -> Result<T, oneshot::error::RecvError> {
    if paused.is_some() {
        let mut looks = 1;
        loop {
            if let Some(answer) = look(receiver, looks).await {
                return answer;
            }
            // The other tasks run first: they may have work for the same thread.
            tokio::task::yield_now().await;
            looks = 20;
        }
    }
    receiver.await
}

/// Polls for the answer this many times, with short sleeps between. A runtime that sleeps does not become
/// idle. If it polled again instead, the number of polls in a test would depend on the speed of the
/// machine.
async fn look<T>(
    receiver: &mut oneshot::Receiver<T>,
    looks: u32,
) -> Option<Result<T, oneshot::error::RecvError>> {
    std::future::poll_fn(|context| {
        for look in 0..looks {
            if look > 0 {
                nap(1, MAX_BUSY_SLEEP);
            }
            if let Poll::Ready(answer) = Pin::new(&mut *receiver).poll(context) {
                return Poll::Ready(Some(answer));
            }
        }
        Poll::Ready(None)
    })
    .await
}
