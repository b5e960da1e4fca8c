//! Completing work that has begun, even if its caller is dropped.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use tokio::runtime::{EnterGuard, Handle};

use crate::backend_client::BackendClient;

type Work<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Work that, once begun, is completed even if its caller is dropped: first by the caller, then by a task.
/// In the second case the output is dropped, so it must clean up on drop.
///
/// No task is spawned while the caller stays, so a backend that answers at once costs none.
pub(crate) struct Finish<T: Send + 'static> {
    work: Option<Work<T>>,
    begun: bool,
    client: Arc<BackendClient>,
}

impl<T: Send + 'static> Finish<T> {
    pub(crate) fn new(
        client: &Arc<BackendClient>,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Self {
        Self { work: Some(Box::pin(work)), begun: false, client: Arc::clone(client) }
    }
}

impl<T: Send + 'static> Future for Finish<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        self.begun = true;
        let Some(work) = self.work.as_mut() else { return Poll::Pending };
        let polled = work.as_mut().poll(cx);
        if polled.is_ready() {
            self.work = None;
        }
        polled
    }
}

impl<T: Send + 'static> Drop for Finish<T> {
    fn drop(&mut self) {
        if let Some(work) = self.work.take()
            && self.begun
        {
            carry_on(&self.client, work);
        }
    }
}

/// Completes work from a `Drop`, with the caller's runtime or the manager's. Without either the work is
/// dropped. The part that needs no waiting is done before this returns.
pub(crate) fn carry_on<T: Send + 'static>(client: &Arc<BackendClient>, mut work: Work<T>) {
    let Some(runtime) = Runtime::find(client) else { return };
    let _context = runtime.enter();
    let mut context = Context::from_waker(Waker::noop());
    // A panic here would abort a process that is already unwinding.
    match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(&mut context).is_ready())) {
        Ok(true) | Err(_) => {}
        Ok(false) => {
            let pending = Releasing::begin(client);
            runtime.handle().spawn(async move {
                let _pending = pending;
                drop(work.await);
            });
        }
    }
}

/// Returns whether [`carry_on`] would find a runtime here.
pub(crate) fn can_carry_on(client: &BackendClient) -> bool {
    Runtime::find(client).is_some()
}

/// A runtime that can be used from here: the one that this thread is in, or the manager's.
enum Runtime {
    Current(Handle),
    Managers(Handle),
}

impl Runtime {
    fn find(client: &BackendClient) -> Option<Self> {
        match Handle::try_current() {
            Ok(handle) => Some(Self::Current(handle)),
            // The thread is ending: entering a runtime would panic.
            Err(error) if error.is_thread_local_destroyed() => None,
            Err(_) => client.runtime().map(Self::Managers),
        }
    }

    fn enter(&self) -> Option<EnterGuard<'_>> {
        match self {
            Self::Current(_) => None,
            Self::Managers(handle) => Some(handle.enter()),
        }
    }

    fn handle(&self) -> &Handle {
        match self {
            Self::Current(handle) | Self::Managers(handle) => handle,
        }
    }
}

/// Counts work in progress without a caller, until it is dropped.
pub(crate) struct Releasing(Arc<BackendClient>);

impl Releasing {
    pub(crate) fn begin(client: &Arc<BackendClient>) -> Self {
        client.counters.releasing.up();
        Self(Arc::clone(client))
    }
}

impl Drop for Releasing {
    fn drop(&mut self) {
        if self.0.counters.releasing.down() {
            self.0.idle.notify_waiters();
        }
    }
}
