//! Dropping a future half-way.

use std::pin::Pin;
use std::task::{Context, Poll};

/// Polls a future at most so many times, then ends without it. It ends at once when its turn to be
/// polled again would come, so what it waits for has happened: the worst moment to go.
pub(crate) struct Cut<F> {
    pub(crate) future: Pin<Box<F>>,
    pub(crate) polls: u8,
}

impl<F: Future> Future for Cut<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if self.polls == 0 {
            return Poll::Ready(None);
        }
        self.polls -= 1;
        self.future.as_mut().poll(context).map(Some)
    }
}
