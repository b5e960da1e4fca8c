//! Shared parts of the tests: a backend that fails by script, and a way to drop futures half-way.

#![allow(dead_code, unreachable_pub, reason = "without some features a part of it is not used")]

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use memory_lock::{
    Acquired, Clock, ClockExt as _, HandOver, InProcessLock, Lease, LeaseDomain, LeaseInfo,
    LockBackend, LockError, LockErrorKind, LockKey, LockManager, LockOperation, OwnerId, Release,
    Renewal, Watch,
};
use tokio::sync::Notify;
use tokio::time::Instant;

pub const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

pub const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

pub fn key(text: &str) -> LockKey {
    LockKey::new(text).unwrap()
}

/// The fault of one call.
#[derive(Debug, Clone, Copy)]
pub enum Fault {
    /// It never arrives, and the caller gets an error.
    DropRequest,
    /// It takes effect, and the answer is lost.
    DropReply,
    /// It arrives this much later.
    Late(Duration),
    /// Its answer comes this much later.
    LateReply(Duration),
    /// It is in flight: it arrives this much later, whether the caller stays or not.
    Sent(Duration),
    /// It never arrives, and the caller gets no answer.
    Hang,
    /// It is refused permanently.
    Refuse,
}

/// An in-process backend that fails by script and keeps a log.
#[derive(Debug)]
pub struct FaultyBackend {
    pub inner: Arc<InProcessLock>,
    script: Mutex<HashMap<LockOperation, VecDeque<Fault>>>,
    always: Mutex<HashMap<LockOperation, Fault>>,
    log: Mutex<Vec<(LockOperation, Instant, usize)>>,
    /// Signals a new call in the log.
    called: Notify,
    /// Leases last this many times longer here than their holders assume.
    pub stretch: u32,
}

impl FaultyBackend {
    pub fn new() -> Arc<Self> {
        Self::stretched(1)
    }

    pub fn stretched(stretch: u32) -> Arc<Self> {
        Arc::new(Self {
            inner: Arc::new(InProcessLock::new(Clock::tokio())),
            script: Mutex::default(),
            always: Mutex::default(),
            log: Mutex::default(),
            called: Notify::new(),
            stretch,
        })
    }

    pub fn manager(self: &Arc<Self>) -> LockManager {
        LockManager::new(Arc::clone(self) as Arc<dyn LockBackend>)
    }

    /// The next call of this kind that is not scripted yet has this fault.
    pub fn next(&self, operation: LockOperation, fault: Fault) {
        self.script.lock().unwrap().entry(operation).or_default().push_back(fault);
    }

    /// All calls of this kind that are not scripted have this fault.
    pub fn always(&self, operation: LockOperation, fault: Fault) {
        self.always.lock().unwrap().insert(operation, fault);
    }

    /// From now on nothing fails.
    pub fn heal(&self) {
        self.script.lock().unwrap().clear();
        self.always.lock().unwrap().clear();
    }

    /// Waits for the first call of this kind.
    pub async fn until_called(&self, operation: LockOperation) {
        loop {
            let called = self.called.notified();
            if !self.calls(operation).is_empty() {
                return;
            }
            called.await;
        }
    }

    /// The arrival times of calls of this kind, and the number of leases of each.
    pub fn calls(&self, operation: LockOperation) -> Vec<(Instant, usize)> {
        let log = self.log.lock().unwrap();
        log.iter().filter(|(op, ..)| *op == operation).map(|(_, at, n)| (*at, *n)).collect()
    }

    async fn go<T: Send + 'static>(
        &self,
        operation: LockOperation,
        leases: usize,
        call: impl Future<Output = Result<T, LockError>> + Send + 'static,
    ) -> Result<T, LockError> {
        self.log.lock().unwrap().push((operation, Instant::now(), leases));
        self.called.notify_waiters();
        let scripted =
            self.script.lock().unwrap().get_mut(&operation).and_then(VecDeque::pop_front);
        let fault = scripted.or_else(|| self.always.lock().unwrap().get(&operation).copied());
        let error = |kind| Err(LockError::new(kind, operation));
        match fault {
            None => call.await,
            Some(Fault::DropRequest) => error(LockErrorKind::Unavailable),
            Some(Fault::DropReply) => {
                call.await?;
                error(LockErrorKind::Unavailable)
            }
            Some(Fault::Late(by)) => {
                tokio::time::sleep(by).await;
                call.await
            }
            Some(Fault::Sent(by)) => {
                let call = async move {
                    tokio::time::sleep(by).await;
                    call.await
                };
                tokio::spawn(call).await.unwrap()
            }
            Some(Fault::LateReply(by)) => {
                let answer = call.await;
                tokio::time::sleep(by).await;
                answer
            }
            Some(Fault::Hang) => std::future::pending().await,
            Some(Fault::Refuse) => error(LockErrorKind::Refused),
        }
    }
}

#[async_trait]
impl LockBackend for FaultyBackend {
    async fn try_acquire(
        &self,
        key: &LockKey,
        owner: OwnerId,
        ttl: Duration,
    ) -> Result<Acquired, LockError> {
        let (inner, key, ttl) = (Arc::clone(&self.inner), key.clone(), ttl * self.stretch);
        let call = async move { inner.try_acquire(&key, owner, ttl).await };
        self.go(LockOperation::Acquire, 1, call).await
    }

    async fn renew(&self, leases: &[Lease]) -> Result<Vec<Renewal>, LockError> {
        let (inner, leases) = (Arc::clone(&self.inner), leases.to_vec());
        let count = leases.len();
        self.go(LockOperation::Renew, count, async move { inner.renew(&leases).await }).await
    }

    async fn release(&self, key: &LockKey, owner: OwnerId) -> Result<Release, LockError> {
        let (inner, key) = (Arc::clone(&self.inner), key.clone());
        let call = async move { inner.release(&key, owner).await };
        self.go(LockOperation::Release, 1, call).await
    }

    async fn hand_over(
        &self,
        key: &LockKey,
        from: OwnerId,
        to: OwnerId,
        ttl: Duration,
    ) -> Result<HandOver, LockError> {
        let (inner, key) = (Arc::clone(&self.inner), key.clone());
        let call = async move { inner.hand_over(&key, from, to, ttl).await };
        self.go(LockOperation::HandOver, 1, call).await
    }

    async fn inspect(&self, key: &LockKey) -> Result<Option<LeaseInfo>, LockError> {
        let (inner, key) = (Arc::clone(&self.inner), key.clone());
        self.go(LockOperation::Inspect, 1, async move { inner.inspect(&key).await }).await
    }

    fn watch(&self, key: &LockKey, waiter: Option<OwnerId>) -> Watch {
        self.inner.watch(key, waiter)
    }

    /// Like a remote backend: never at once.
    fn release_now(&self, _key: &LockKey, _owner: OwnerId) -> bool {
        false
    }

    fn keeps_places(&self) -> bool {
        self.inner.keeps_places()
    }

    fn domain(&self) -> &LeaseDomain {
        self.inner.domain()
    }
}

/// Polls a future this many times, then drops it. `None` if it had not completed by then.
pub struct Polls<F> {
    future: Pin<Box<F>>,
    left: usize,
}

impl<F> Polls<F> {
    pub fn new(future: F, polls: usize) -> Self {
        Self { future: Box::pin(future), left: polls }
    }
}

impl<F: Future> Future for Polls<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        self.left -= 1;
        match self.future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if self.left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    }
}

/// Runs all ready tasks, and advances time, until this many tasks are left.
pub async fn until_tasks(count: usize) {
    for _ in 0..10_000 {
        if tokio::runtime::Handle::current().metrics().num_alive_tasks() <= count {
            return;
        }
        tokio::time::sleep(ms(10)).await;
    }
    panic!("tasks are left over");
}
