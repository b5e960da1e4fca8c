//! Turns panics of code that a flush calls into values.

use std::any::Any;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Poll;

/// The result of the code, or `None` if it panicked.
pub(crate) fn caught<T>(code: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(code)).map_err(discard).ok()
}

/// The output of the future, or `None` if it panicked; it is not polled again after that. It is boxed so that the
/// futures of its callers stay small.
pub(crate) fn caught_in<T>(work: impl Future<Output = T>) -> impl Future<Output = Option<T>> {
    let mut work = Box::pin(work);
    poll_fn(move |cx| match caught(|| work.as_mut().poll(cx)) {
        Some(polled) => polled.map(Some),
        None => Poll::Ready(None),
    })
}

/// Discards a panic's payload without showing it, because it may quote a message. Dropping a payload may panic too.
fn discard(payload: Box<dyn Any + Send>) {
    if let Err(again) = catch_unwind(AssertUnwindSafe(move || drop(payload))) {
        std::mem::forget(again);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct PanicsOnDrop;

    impl Drop for PanicsOnDrop {
        fn drop(&mut self) {
            std::panic::panic_any(7);
        }
    }

    #[tokio::test]
    async fn panics_with_any_payload_become_none() {
        assert_eq!((caught(|| 1), caught_in(async { 2 }).await), (Some(1), Some(2)));
        assert_eq!(caught(|| -> u32 { panic!("secret") }), None);
        assert_eq!(caught(|| -> u32 { std::panic::panic_any(PanicsOnDrop) }), None);
        let late = async {
            tokio::task::yield_now().await;
            std::panic::panic_any(PanicsOnDrop)
        };
        assert_eq!(caught_in::<()>(late).await, None);
    }
}
