//! Threads for statements that may block for long: because another process holds the lock, or because
//! they read many rows.
//!
//! They are not tokio's blocking threads. Callers may fill that pool (`spawn_blocking` around `block_on`),
//! and each of them would then wait for a thread that is not free before its request is served. A pool also
//! ends with its runtime, while a file may be used from several runtimes.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::Builder;
use std::time::Duration;

/// A thread without work ends after this time.
const THREAD_LINGER: Duration = Duration::from_millis(500);

type Work = Box<dyn FnOnce() + Send>;

/// A bounded number of threads for work that blocks.
///
/// A thread is started when there is work for it. It ends after 500 ms without work, and at once when this
/// is dropped; dropping does not wait for work that has begun. A panic of the work ends no thread.
#[derive(Debug)]
pub struct WorkerThreads(Arc<Shared>);

struct Shared {
    name: &'static str,
    most: usize,
    stack_size: Option<usize>,
    state: Mutex<State>,
    /// There is new work, or no more will come.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Work>,
    threads: usize,
    idle: usize,
    closing: bool,
}

/// No thread could be started, and none is running that could do the work. The work was not started.
#[derive(Debug)]
pub struct NoThread<T> {
    /// The input of the work, given back.
    pub input: T,
    /// The error of the operating system.
    pub source: io::Error,
}

impl WorkerThreads {
    /// At most `most` threads with this name. None is started yet.
    #[must_use]
    pub fn new(name: &'static str, most: NonZeroUsize) -> Self {
        Self::with_stack(name, most, None)
    }

    /// Like [`new`](Self::new), with the stack size of each thread in bytes. Default: that of [`Builder`].
    #[must_use]
    pub fn with_stack_size(name: &'static str, most: NonZeroUsize, bytes: usize) -> Self {
        Self::with_stack(name, most, Some(bytes))
    }

    fn with_stack(name: &'static str, most: NonZeroUsize, stack_size: Option<usize>) -> Self {
        let (state, changed) = (Mutex::default(), Condvar::new());
        Self(Arc::new(Shared { name, most: most.get(), stack_size, state, changed }))
    }

    /// Calls `work` with `input` on one of the threads, after the earlier work. Does not wait for it.
    ///
    /// # Errors
    ///
    /// [`NoThread`] if there is no thread and none can be started. If only an additional one cannot be
    /// started, the work waits for the running ones.
    pub fn run<T: Send + 'static>(
        &self,
        input: T,
        work: impl FnOnce(T) + Send + 'static,
    ) -> Result<(), NoThread<T>> {
        let mut state = self.0.lock();
        if state.idle <= state.queue.len() && state.threads < self.0.most {
            // Started under the lock, so that other work cannot rely on a thread that fails to start.
            match self.0.start() {
                Ok(()) => state.threads += 1,
                Err(source) if state.threads == 0 => return Err(NoThread { input, source }),
                Err(error) => tracing::warn!(name = self.0.name, %error, "cannot start a thread"),
            }
        }
        state.queue.push_back(Box::new(move || work(input)));
        drop(state);
        self.0.changed.notify_one();
        Ok(())
    }

    /// The number of threads.
    #[must_use]
    pub fn running(&self) -> usize {
        self.0.lock().threads
    }
}

impl Drop for WorkerThreads {
    fn drop(&mut self) {
        self.0.lock().closing = true;
        self.0.changed.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while the lock is held, and the state is consistent between any two statements.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start(self: &Arc<Self>) -> io::Result<()> {
        let mut thread = Builder::new().name(self.name.into());
        if let Some(bytes) = self.stack_size {
            thread = thread.stack_size(bytes);
        }
        let shared = Arc::clone(self);
        thread.spawn(move || shared.work()).map(drop)
    }

    fn work(&self) {
        let mut state = self.lock();
        let mut lingered = false;
        loop {
            if let Some(work) = state.queue.pop_front() {
                drop(state);
                // The guards of the work answer its callers; the panic hook has reported the panic.
                let _ = catch_unwind(AssertUnwindSafe(work));
                state = self.lock();
                lingered = false;
            } else if state.closing || lingered {
                break;
            } else {
                state.idle += 1;
                let waited = self.changed.wait_timeout(state, THREAD_LINGER);
                let (woken, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
                state = woken;
                state.idle -= 1;
                lingered = timeout.timed_out();
            }
        }
        state.threads -= 1;
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("name", &self.name).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    fn threads(most: usize) -> WorkerThreads {
        WorkerThreads::new("test", NonZeroUsize::new(most).unwrap())
    }

    /// Waits in steps, because the end of a thread sends no notification.
    fn until(condition: impl Fn() -> bool) {
        let (_sender, never) = mpsc::channel::<()>();
        for _ in 0..2_000 {
            if condition() {
                return;
            }
            let _ = never.recv_timeout(Duration::from_millis(5));
        }
        panic!("not within ten seconds");
    }

    #[test]
    fn work_runs_in_order_on_a_bounded_number() {
        for most in [1, 3] {
            let threads = threads(most);
            let (sender, receiver) = mpsc::channel();
            for number in 0..100 {
                threads.run(sender.clone(), move |done| done.send(number).unwrap()).unwrap();
                assert!(threads.running() <= most);
            }
            let mut done: Vec<_> = receiver.iter().take(100).collect();
            assert!(most > 1 || done.is_sorted());
            done.sort_unstable();
            assert_eq!(done, (0..100).collect::<Vec<_>>());
        }
    }

    #[test]
    fn blocked_work_leaves_the_other_threads() {
        let threads = threads(2);
        let (release, blocked) = mpsc::channel::<()>();
        threads.run(blocked, |blocked| blocked.recv().unwrap()).unwrap();
        let (sender, receiver) = mpsc::channel();
        threads.run(sender, |done| done.send(()).unwrap()).unwrap();
        receiver.recv().unwrap();
        release.send(()).unwrap();
    }

    #[test]
    fn idle_threads_end_and_come_back() {
        let threads = threads(2);
        for _ in 0..2 {
            let (sender, receiver) = mpsc::channel();
            threads.run(sender, |done| done.send(()).unwrap()).unwrap();
            receiver.recv().unwrap();
            assert_eq!(threads.running(), 1);
            until(|| threads.running() == 0);
        }
    }

    #[test]
    fn dropping_ends_threads_after_queued_work() {
        let threads = threads(1);
        let shared = Arc::clone(&threads.0);
        let (release, blocked) = mpsc::channel::<()>();
        let (sender, receiver) = mpsc::channel();
        threads.run(blocked, |blocked| blocked.recv().unwrap()).unwrap();
        threads.run(sender, |done| done.send(()).unwrap()).unwrap();
        drop(threads);
        release.send(()).unwrap();
        receiver.recv().unwrap();
        until(|| Arc::strong_count(&shared) == 1);
    }

    #[test]
    fn panic_leaves_the_thread_running() {
        let threads = threads(1);
        threads.run((), |()| panic!("as it should")).unwrap();
        let (sender, receiver) = mpsc::channel();
        threads.run(sender, |done| done.send(()).unwrap()).unwrap();
        receiver.recv().unwrap();
        assert_eq!(threads.running(), 1);
    }

    #[test]
    fn without_a_thread_the_input_comes_back() {
        let most = NonZeroUsize::MIN;
        let threads = WorkerThreads::with_stack_size("test", most, 1 << 48);
        let refused = threads.run("input", |_| ()).unwrap_err();
        assert_eq!(refused.input, "input");
        assert_eq!(threads.running(), 0);
    }
}
