//! Dropping a future before it completes.

use std::pin::Pin;
use std::task::{Context, Poll};

/// Polls a future at most a given number of times, then ends without it. It ends when the future is woken for the
/// next poll, so the awaited event has happened: the worst moment for a drop.
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
