//! The connection of one process to the server: it adds latency, and loses requests and answers.

mod leases;
mod reading;
mod scopes;
mod store;
mod witness;

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use memory_core::lease::LeaseDomain;
use memory_core::store::{Applied, StoreError, StoreErrorKind, StoreOperation};
use memory_core::{MemoryKey, Sequence};
use memory_lock::{LockError, LockErrorKind, LockOperation};
use tokio::sync::oneshot;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::bug::Bug;
use crate::history::{Answer, Call, Caller, Recorder};
use crate::program::{Faults, Program};
use crate::run::key_number;
use crate::server::Server;

pub(crate) use self::reading::Reading;
pub(crate) use self::scopes::{Rewinding, deleting, restoring, rewriting, writing};
pub(crate) use self::witness::Views;
use self::witness::Witness;

/// The fate of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It arrives, and so does its answer.
    Fine,
    /// It is not sent, and the caller receives an error.
    NotSent,
    /// It is lost, and the caller receives an error that does not say so.
    RequestLost,
    /// It is applied, and its answer is lost.
    AnswerLost,
    /// It is applied long after its caller received a connection error.
    Late(Duration),
    /// It is applied, and its answer is delayed by this time.
    AnswerLate(Duration),
    /// It is applied, and no answer comes.
    Silence,
    /// It is lost, and no answer comes.
    Lost,
}

/// The subject of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum About {
    Memory,
    /// Requests about leases keep their order.
    Lease,
}

/// The timeout of the store's half for a read.
const READ_TIMEOUT: Duration = Duration::from_secs(3);

/// The connection of one process.
#[derive(Debug)]
pub(crate) struct Link {
    /// The process.
    number: u64,
    server: Arc<Server>,
    recorder: Arc<Recorder>,
    witness: Witness,
    shared: Arc<AtomicBool>,
    faults: Faults,
    state: Mutex<State>,
    dead: AtomicBool,
    /// A request was not answered; used by a planted bug.
    has_had_silence: AtomicBool,
    store_domain: Option<LeaseDomain>,
    lock_domain: LeaseDomain,
    /// The number of memories.
    keys: usize,
}

#[derive(Debug)]
struct State {
    random: fastrand::Rng,
    /// The process is suspended until then.
    stalled_until: Instant,
    /// When the newest request about a lease arrives: they keep their order.
    lock_arrives: Instant,
    /// The newest place of the last outline for a window; used by a planted bug.
    outlined: HashMap<MemoryKey, Sequence>,
}

impl Link {
    pub(crate) fn new(
        server: &Arc<Server>,
        recorder: &Arc<Recorder>,
        faulty: &Arc<AtomicBool>,
        faults: Faults,
        program: &Program,
        number: u64,
    ) -> Self {
        let lock_domain = LeaseDomain::new("model");
        let now = Instant::now();
        Self {
            number,
            server: Arc::clone(server),
            recorder: Arc::clone(recorder),
            witness: Witness::of(program, recorder),
            shared: Arc::clone(faulty),
            faults,
            state: Mutex::new(State {
                random: fastrand::Rng::with_seed(program.process_seed(number)),
                stalled_until: now,
                lock_arrives: now,
                outlined: HashMap::new(),
            }),
            dead: AtomicBool::new(false),
            has_had_silence: AtomicBool::new(false),
            store_domain: program.shared_domain.then(|| lock_domain.clone()),
            lock_domain,
            keys: program.keys(),
        }
    }

    /// Kills the process: nothing more is sent or received.
    pub(crate) fn die(&self) {
        self.dead.store(true, Ordering::SeqCst);
    }

    /// The number of the process.
    pub(crate) const fn number(&self) -> u64 {
        self.number
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::SeqCst)
    }

    /// Delays later requests by this time.
    pub(crate) fn stall(&self, time: Duration) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.stalled_until = state.stalled_until.max(Instant::now() + time);
    }

    /// The planted bug.
    pub(crate) fn bug(&self) -> Option<Bug> {
        self.server.bug
    }

    pub(crate) fn forget_leases(&self) {
        let mut history = self.recorder.history();
        let now = history.now();
        history.grants.forgotten(now);
        drop(history);
        self.server.forget_leases();
    }

    /// The server saves its state.
    pub(crate) fn keep(&self) {
        self.moved(&Call::Keep, 0..self.keys, Server::keep);
    }

    /// The server rolls back to the last saved state.
    pub(crate) fn go_back(&self) {
        self.moved(&Call::GoBack, 0..self.keys, Server::go_back);
    }

    /// The TTL of this memory ends.
    pub(crate) fn expire(&self, key: &MemoryKey) {
        let number = key_number(key);
        self.moved(&Call::Expire, number..number + 1, |server| {
            let expired = server.expire(key);
            debug_assert!(expired.is_ok(), "nothing else runs meanwhile: {expired:?}");
        });
    }

    /// The time for which all archived messages are kept ends.
    pub(crate) fn end_archives(&self) {
        self.moved(&Call::EndArchives, 0..self.keys, Server::end_archives);
    }

    /// Records the call for each of these memories, and applies it at once.
    fn moved(&self, call: &Call, keys: Range<usize>, act: impl FnOnce(&Server)) {
        let ops: Vec<_> =
            keys.map(|key| self.recorder.call_of(Caller::Server, key, call.clone())).collect();
        act(&self.server);
        for op in ops {
            self.recorder.answer(op, Answer::Nothing);
        }
    }

    /// Records an operation of the running task. A task that another one has spawned counts as one of the process.
    fn call(&self, key: &MemoryKey, call: Call) -> usize {
        let caller = Caller::now().unwrap_or(Caller::Process(self.number));
        self.recorder.call_of(caller, key_number(key), call)
    }

    pub(crate) fn stalled_until(&self) -> Instant {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).stalled_until
    }

    /// Draws the arrival time of a request, the delay of its answer, and its fate.
    fn draw(&self, about: About) -> (Instant, Duration, Fate) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let latency = u64::from(self.faults.latency);
        let mut way = || Duration::from_micros(state.random.u64(0..=latency * 1_000));
        let (there, back) = (way(), way());
        let mut arrives = (Instant::now() + there).max(state.stalled_until);
        if about == About::Lease {
            arrives = arrives.max(state.lock_arrives);
            state.lock_arrives = arrives;
        }
        let faulty = self.shared.load(Ordering::SeqCst);
        let fate = if faulty && state.random.u8(0..100) < self.faults.percent {
            match state.random.u8(0..15) {
                0..3 => Fate::NotSent,
                3..5 => Fate::RequestLost,
                5..8 => Fate::AnswerLost,
                8 | 9 if about == About::Memory => {
                    Fate::Late(Duration::from_millis(state.random.u64(0..8_000)))
                }
                8..10 => Fate::AnswerLost,
                10 => Fate::Silence,
                11 => Fate::Lost,
                // Requests about leases time out after a second.
                12 => Fate::AnswerLate(Duration::from_millis(state.random.u64(0..4_000))),
                _ => Fate::AnswerLate(Duration::from_millis(state.random.u64(0..1_000))),
            }
        } else {
            Fate::Fine
        };
        (arrives, back, fate)
    }

    fn yields(&self) -> u8 {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.random.u8(0..4)
    }

    async fn let_others_go_first(&self) {
        for _ in 0..self.yields() {
            yield_now().await;
        }
    }

    /// Whether a planted bug cuts the connection to the store: after one request without an answer, nothing is ever
    /// sent again.
    fn is_broken_for_good(&self) -> bool {
        self.bug() == Some(Bug::LinkStaysBroken) && self.has_had_silence.load(Ordering::SeqCst)
    }

    /// Sends a read to the store. A store must bound the time of each read (the facade bounds writes), so an
    /// unanswered one fails after a timeout.
    async fn ask<T: Send + 'static>(
        &self,
        call: (&'static str, StoreOperation),
        effect: impl FnOnce(&Arc<Server>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        if self.is_dead() {
            return std::future::pending().await;
        }
        if self.server.has(Bug::ReadsHang) {
            return self.store(call, effect).await;
        }
        match timeout(READ_TIMEOUT, self.store(call, effect)).await {
            Ok(answer) => answer,
            Err(_) => {
                let kind = StoreErrorKind::Unavailable("no answer in time".into());
                Err(StoreError::new(call.1, kind).not_applied())
            }
        }
    }

    /// Sends a request. Once sent it arrives, even if its caller drops the call.
    async fn send<T: Send + 'static, E: Send + 'static>(
        &self,
        name: &'static str,
        about: About,
        effect: impl FnOnce(&Arc<Server>, Duration) -> Result<T, E> + Send + 'static,
        broken: impl Fn(Applied) -> E + Send,
    ) -> Result<T, E> {
        // Yields, so that the order of requests depends on more than their times.
        self.let_others_go_first().await;
        if self.is_dead() {
            return std::future::pending().await;
        }
        let (arrives, mut back, fate) = self.draw(about);
        if let Fate::AnswerLate(by) = fate {
            back += by;
        }
        if fate != Fate::Fine {
            let mut history = self.recorder.history();
            if matches!(fate, Fate::Silence | Fate::Lost) {
                self.has_had_silence.store(true, Ordering::SeqCst);
            }
            history.faults += 1;
            history.trace.push(format!("{name}: {fate:?}"));
        }
        match fate {
            Fate::NotSent => {
                sleep_until(arrives).await;
                return Err(broken(Applied::No));
            }
            Fate::RequestLost => {
                sleep_until(arrives).await;
                return Err(broken(Applied::Unknown));
            }
            Fate::Lost => return std::future::pending().await,
            _ => {}
        }
        let arrives = if let Fate::Late(by) = fate { arrives + by } else { arrives };
        let (tell, told) = oneshot::channel();
        let server = Arc::clone(&self.server);
        let took = arrives.saturating_duration_since(Instant::now()) + back;
        // Requests about leases keep their order.
        let yields = if about == About::Lease { 0 } else { self.yields() };
        tokio::spawn(async move {
            sleep_until(arrives).await;
            for _ in 0..yields {
                yield_now().await;
            }
            // The caller may have been dropped.
            let _ = tell.send(effect(&server, took));
        });
        match fate {
            Fate::Late(_) => {
                sleep(back).await;
                Err(broken(Applied::Unknown))
            }
            Fate::AnswerLost => {
                let _ = told.await;
                sleep(back).await;
                Err(broken(Applied::Unknown))
            }
            Fate::Silence => std::future::pending().await,
            _ => {
                let answer = told.await;
                sleep(back).await;
                self.let_others_go_first().await;
                if self.is_dead() {
                    return std::future::pending().await;
                }
                answer.unwrap_or_else(|_| Err(broken(Applied::Unknown)))
            }
        }
    }

    async fn store<T: Send + 'static>(
        &self,
        call: (&'static str, StoreOperation),
        effect: impl FnOnce(&Arc<Server>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let broken = move |applied| {
            let error =
                StoreError::new(call.1, StoreErrorKind::Unavailable("the link broke".into()))
                    .not_applied();
            if applied == Applied::No { error } else { error.possibly_applied() }
        };
        if self.is_broken_for_good() {
            return Err(broken(Applied::No));
        }
        self.send(call.0, About::Memory, move |server, _| effect(server), broken).await
    }

    async fn lock<T: Send + 'static>(
        &self,
        operation: LockOperation,
        effect: impl FnOnce(&Arc<Server>, Duration) -> Result<T, LockError> + Send + 'static,
    ) -> Result<T, LockError> {
        let broken = move |applied| {
            let error = LockError::new(LockErrorKind::Unavailable, operation);
            if applied == Applied::No { error.not_applied() } else { error }
        };
        self.send("lease", About::Lease, effect, broken).await
    }
}
