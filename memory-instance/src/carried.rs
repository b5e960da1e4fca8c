//! Work that a task continues when its caller stops polling it.
//!
//! A caller may poll a future once and then keep it: in a `select!` loop with `&mut future`, or in a collection
//! that is not driven. A flush that is kept this way would hold the flushers' lease for as long, because the
//! lease is refreshed meanwhile. So a task watches the work: if the work was woken and the caller does not poll
//! it, the task polls it. Otherwise the caller polls it. Dropping the future drops the work at once.

use std::any::Any;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use tracing::Instrument;

/// The interval of the watching task. It takes over woken work that was not polled after at most two intervals.
const CARRY_CHECK_INTERVAL: Duration = Duration::from_millis(250);

type Work<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Work that continues even if its caller keeps the future without polling it.
pub(crate) struct Carried<T: Send + 'static> {
    slot: Arc<Slot<T>>,
    /// The task that watches the work. It starts when the work first returns `Pending`.
    task: Option<AbortHandle>,
}

impl<T: Send + 'static> Carried<T> {
    pub(crate) fn new(work: impl Future<Output = T> + Send + 'static) -> Self {
        let slot = Slot {
            progress: Mutex::new(Progress::Working(Box::pin(work))),
            woken: AtomicBool::new(false),
            polls: AtomicU64::new(0),
            is_dropped: AtomicBool::new(false),
            caller: Mutex::default(),
            task: Mutex::default(),
        };
        Self { slot: Arc::new(slot), task: None }
    }
}

impl<T: Send + 'static> Future for Carried<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let slot = Arc::clone(&self.slot);
        register(&slot.caller, cx.waker());
        slot.polls.fetch_add(1, Ordering::SeqCst);
        // If the task is polling the work now, it wakes the caller afterwards.
        if slot.advance() == Advance::Done
            && let Some(done) = slot.take_output()
        {
            return Poll::Ready(done.unwrap_or_else(|payload| resume_unwind(payload)));
        }
        if self.task.is_none()
            && let Ok(runtime) = Handle::try_current()
        {
            let task = runtime.spawn(carry_on(slot).in_current_span());
            self.task = Some(task.abort_handle());
            // A worker thread does not share the task that it spawned last. This empty task takes that slot,
            // so that other workers can steal the watching task.
            runtime.spawn(std::future::ready(()));
        }
        Poll::Pending
    }
}

impl<T: Send + 'static> Drop for Carried<T> {
    fn drop(&mut self) {
        self.slot.is_dropped.store(true, Ordering::SeqCst);
        if let Some(task) = &self.task {
            task.abort();
        }
        self.slot.end_if_dropped();
    }
}

struct Slot<T> {
    progress: Mutex<Progress<T>>,
    /// Set when the work is woken, cleared when it is polled.
    woken: AtomicBool,
    /// The number of polls by the caller.
    polls: AtomicU64,
    is_dropped: AtomicBool,
    caller: Mutex<Option<Waker>>,
    /// The waker of the task, once the task has taken over.
    task: Mutex<Option<Waker>>,
}

enum Progress<T> {
    Working(Work<T>),
    /// The output, or the payload of a panic.
    Done(Result<T, Box<dyn Any + Send>>),
    /// The caller has taken the output or was dropped.
    Over,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Advance {
    Pending,
    /// Another thread is polling the work.
    Busy,
    Done,
}

impl<T: Send + 'static> Slot<T> {
    /// Polls the work, unless another thread is polling it.
    fn advance(self: &Arc<Self>) -> Advance {
        let mut progress = match self.progress.try_lock() {
            Ok(progress) => progress,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Advance::Busy,
        };
        self.woken.store(false, Ordering::SeqCst);
        let Progress::Working(work) = &mut *progress else { return Advance::Done };
        let waker = Waker::from(Arc::clone(self));
        let mut context = Context::from_waker(&waker);
        let polled = match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(&mut context))) {
            Ok(Poll::Pending) => {
                drop(progress);
                // Woken during this poll: the task may have found the work busy, so it would not poll again.
                if self.woken.load(Ordering::SeqCst) {
                    wake(&self.task);
                }
                return Advance::Pending;
            }
            Ok(Poll::Ready(output)) => Ok(output),
            Err(payload) => Err(payload),
        };
        let ended = std::mem::replace(&mut *progress, Progress::Done(polled));
        drop(progress);
        drop(ended);
        Advance::Done
    }

    fn progress(&self) -> MutexGuard<'_, Progress<T>> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_output(&self) -> Option<Result<T, Box<dyn Any + Send>>> {
        match std::mem::replace(&mut *self.progress(), Progress::Over) {
            Progress::Done(output) => Some(output),
            Progress::Working(_) | Progress::Over => None,
        }
    }

    /// Drops the work after its caller was dropped. If the work is being polled, the task drops it after the poll.
    fn end_if_dropped(&self) {
        if !self.is_dropped.load(Ordering::SeqCst) {
            return;
        }
        let ended = match self.progress.try_lock() {
            Ok(mut progress) => std::mem::replace(&mut *progress, Progress::Over),
            Err(TryLockError::Poisoned(poisoned)) => {
                std::mem::replace(&mut *poisoned.into_inner(), Progress::Over)
            }
            Err(TryLockError::WouldBlock) => return,
        };
        // Dropping it releases its lease, which must not happen with the slot locked.
        drop(ended);
    }
}

impl<T: Send + 'static> Wake for Slot<T> {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.store(true, Ordering::SeqCst);
        wake(&self.task);
        wake(&self.caller);
    }
}

fn register(place: &Mutex<Option<Waker>>, waker: &Waker) {
    let mut place = place.lock().unwrap_or_else(PoisonError::into_inner);
    place.get_or_insert_with(|| waker.clone()).clone_from(waker);
}

fn wake(place: &Mutex<Option<Waker>>) {
    let waker = place.lock().unwrap_or_else(PoisonError::into_inner).clone();
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// The watching task: waits until the work is woken and its caller does not poll it, and then polls it.
async fn carry_on<T: Send + 'static>(slot: Arc<Slot<T>>) {
    let mut seen = None;
    loop {
        tokio::time::sleep(CARRY_CHECK_INTERVAL).await;
        let polls = slot.polls.load(Ordering::SeqCst);
        let is_due = slot.woken.load(Ordering::SeqCst);
        if is_due && seen == Some(polls) {
            break;
        }
        seen = is_due.then_some(polls);
    }
    tracing::debug!("continuing work that its caller keeps without polling");
    let done = poll_fn(|cx| {
        register(&slot.task, cx.waker());
        let advance = slot.advance();
        slot.end_if_dropped();
        match advance {
            Advance::Done => Poll::Ready(()),
            Advance::Pending | Advance::Busy => Poll::Pending,
        }
    });
    done.await;
    wake(&slot.caller);
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use tokio::sync::oneshot;
    use tokio::time::{Instant, sleep, timeout};

    use super::*;

    fn polled_once<T: Send + 'static>(
        work: impl Future<Output = T> + Send + 'static,
    ) -> Pin<Box<Carried<T>>> {
        let mut kept = Box::pin(Carried::new(work));
        assert!(kept.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        kept
    }

    /// Counts how often it is dropped.
    struct Counted(Arc<AtomicU32>);

    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn unpolled_work_completes() {
        let (say, heard) = oneshot::channel();
        let kept = polled_once(async move {
            for _ in 0..20 {
                sleep(Duration::from_millis(10)).await;
            }
            say.send(()).unwrap();
            7
        });
        let begun = Instant::now();
        timeout(Duration::from_secs(10), heard).await.expect("the work was not continued").unwrap();
        assert!(begun.elapsed() <= Duration::from_secs(1), "{:?}", begun.elapsed());
        assert_eq!(kept.await, 7);
        assert_eq!(Handle::current().metrics().num_alive_tasks(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn caller_receives_output_of_continued_work() {
        let (go, gone) = oneshot::channel::<()>();
        let mut kept = polled_once(async move {
            sleep(Duration::from_millis(10)).await;
            gone.await.unwrap();
            8
        });
        sleep(Duration::from_secs(2)).await;
        assert!(kept.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        let caller = tokio::spawn(kept);
        tokio::task::yield_now().await;
        go.send(()).unwrap();
        assert_eq!(caller.await.unwrap(), 8);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    #[expect(clippy::disallowed_methods, reason = "the poll must block its thread")]
    async fn work_woken_during_a_poll_is_continued() {
        let (say, heard) = oneshot::channel();
        let mut say = Some(say);
        let polls = Arc::<AtomicU32>::default();
        let counted = Arc::clone(&polls);
        let mut kept = polled_once(poll_fn(move |cx| {
            match counted.fetch_add(1, Ordering::SeqCst) + 1 {
                // Makes the task take over, so that it does the next poll.
                1 => cx.waker().wake_by_ref(),
                2 => {}
                3 => {
                    cx.waker().wake_by_ref();
                    // Gives the task time to find the work busy.
                    std::thread::sleep(Duration::from_millis(50));
                }
                _ => {
                    let _ = say.take().unwrap().send(());
                    return Poll::Ready(());
                }
            }
            Poll::Pending
        }));
        while polls.load(Ordering::SeqCst) < 2 {
            tokio::task::yield_now().await;
        }
        // The caller does the third poll and does not poll again.
        while polls.load(Ordering::SeqCst) < 3 {
            assert!(kept.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        }
        timeout(Duration::from_secs(10), heard).await.expect("the work was not continued").unwrap();
        kept.await;
    }

    #[tokio::test(start_paused = true)]
    async fn dropping_the_future_drops_the_work() {
        for wait in [Duration::ZERO, Duration::from_secs(2)] {
            let drops = Arc::<AtomicU32>::default();
            let counted = Counted(Arc::clone(&drops));
            let kept = polled_once(async move {
                let _counted = counted;
                sleep(Duration::from_millis(10)).await;
                std::future::pending::<()>().await;
            });
            sleep(wait).await;
            assert_eq!(drops.load(Ordering::SeqCst), 0);
            drop(kept);
            assert_eq!(drops.load(Ordering::SeqCst), 1, "{wait:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn panics_of_continued_work_reach_the_caller() {
        let kept = polled_once(async {
            sleep(Duration::from_millis(10)).await;
            std::panic::panic_any(7_u8);
        });
        sleep(Duration::from_secs(2)).await;
        let payload = tokio::spawn(kept).await.unwrap_err().into_panic();
        assert_eq!(payload.downcast_ref(), Some(&7_u8));
    }
}
