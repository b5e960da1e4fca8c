//! The connection of one process to the server: it adds latency, and loses requests and answers.

mod leases;
mod witness;

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use memory_core::health::ServerHealth;
use memory_core::lease::{LeaseDomain, LeaseProof};
use memory_core::store::{
    Access, Append, Appended, Applied, Clear, Counters, Cursor, Durability, FlushReceipt, Head,
    Outline, Page, Read, RemoveUnused, RemovedUnused, Replace, Splice, StoreError, StoreErrorKind,
    StoreOperation, StoreWatch, UnusedPage, UnusedQuery,
};
use memory_core::{MemoryKey, MemoryStore, Sequence, StoredMessage};
use memory_lock::{LockError, LockErrorKind, LockOperation};
use tokio::sync::oneshot;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::bug::Bug;
use crate::checks::check_outline;
use crate::history::{Answer, Call, Recorder, Totals, call_of};
use crate::program::{Faults, Program};
use crate::run::{KEYS, key_number};
use crate::server::Server;

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

/// The timeout of the store's half for a read.
const READ_TIMEOUT: Duration = Duration::from_secs(3);

/// The connection of one process.
#[derive(Debug)]
pub(crate) struct Link {
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
}

#[derive(Debug)]
struct State {
    random: fastrand::Rng,
    /// The process is suspended until then.
    stalled_until: Instant,
    /// When the newest request about a lease arrives: they keep their order.
    lock_arrives: Instant,
}

impl Link {
    pub(crate) fn new(
        server: &Arc<Server>,
        recorder: &Arc<Recorder>,
        faulty: &Arc<AtomicBool>,
        faults: Faults,
        program: &Program,
        seed: u64,
    ) -> Self {
        let lock_domain = LeaseDomain::new("model");
        let now = Instant::now();
        Self {
            server: Arc::clone(server),
            recorder: Arc::clone(recorder),
            witness: Witness::new(recorder, program.goes_back()),
            shared: Arc::clone(faulty),
            faults,
            state: Mutex::new(State {
                random: fastrand::Rng::with_seed(seed),
                stalled_until: now,
                lock_arrives: now,
            }),
            dead: AtomicBool::new(false),
            has_had_silence: AtomicBool::new(false),
            store_domain: program.shared_domain.then(|| lock_domain.clone()),
            lock_domain,
        }
    }

    /// Kills the process: nothing more is sent or received.
    pub(crate) fn die(&self) {
        self.dead.store(true, Ordering::SeqCst);
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
        self.moved(&Call::Keep, Server::keep);
    }

    /// The server rolls back to the last saved state.
    pub(crate) fn go_back(&self) {
        self.moved(&Call::GoBack, Server::go_back);
    }

    /// Records the call for each memory, and applies it at once.
    fn moved(&self, call: &Call, act: impl FnOnce(&Server)) {
        let ops: Vec<_> =
            (0..KEYS.len()).map(|key| self.recorder.call(key, call.clone())).collect();
        act(&self.server);
        for op in ops {
            self.recorder.answer(op, Answer::Nothing);
        }
    }

    pub(crate) fn stalled_until(&self) -> Instant {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).stalled_until
    }

    /// Draws the arrival time of a request, the delay of its answer, and its fate.
    fn draw(&self, about_lease: bool) -> (Instant, Duration, Fate) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let latency = u64::from(self.faults.latency);
        let mut way = || Duration::from_micros(state.random.u64(0..=latency * 1_000));
        let (there, back) = (way(), way());
        let mut arrives = (Instant::now() + there).max(state.stalled_until);
        if about_lease {
            arrives = arrives.max(state.lock_arrives);
            state.lock_arrives = arrives;
        }
        let faulty = self.shared.load(Ordering::SeqCst);
        let fate = if faulty && state.random.u8(0..100) < self.faults.percent {
            match state.random.u8(0..15) {
                0..3 => Fate::NotSent,
                3..5 => Fate::RequestLost,
                5..8 => Fate::AnswerLost,
                8 | 9 if !about_lease => {
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
        about_lease: bool,
        effect: impl FnOnce(&Arc<Server>, Duration) -> Result<T, E> + Send + 'static,
        broken: impl Fn(Applied) -> E + Send,
    ) -> Result<T, E> {
        // Yields, so that the order of requests depends on more than their times.
        self.let_others_go_first().await;
        if self.is_dead() {
            return std::future::pending().await;
        }
        let (arrives, mut back, fate) = self.draw(about_lease);
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
        let yields = if about_lease { 0 } else { self.yields() };
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
        self.send(call.0, false, move |server, _| effect(server), broken).await
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
        self.send("lease", true, effect, broken).await
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl MemoryStore for Link {
    async fn append(
        &self,
        key: &MemoryKey,
        access: Access,
        append: &Append,
    ) -> Result<Appended, StoreError> {
        let (key, append, witness) = (key.clone(), append.clone(), self.witness.clone());
        let append = move |server: &Arc<Server>| {
            let batch = Witness::batch(&append);
            let appended = server.append(&key, access, append)?;
            witness.appended(batch, &appended);
            Ok(appended)
        };
        self.store(("append", StoreOperation::Append), append).await
    }

    async fn replace(
        &self,
        key: &MemoryKey,
        access: Access,
        replace: &Replace,
    ) -> Result<Counters, StoreError> {
        let (key, replace) = (key.clone(), replace.clone());
        self.store(("replace", StoreOperation::Replace), move |server| {
            server.replace(&key, access, &replace)
        })
        .await
    }

    async fn splice(
        &self,
        key: &MemoryKey,
        access: Access,
        splice: &Splice,
    ) -> Result<Counters, StoreError> {
        // The model does not include explicit closing of calls.
        let op = self.recorder.call(key_number(key), call_of(splice));
        let (at, splice, witness) = (key.clone(), splice.clone(), self.witness.clone());
        let splice = move |server: &Arc<Server>| {
            witness
                .spliced(server, &at, splice, |server, splice| server.splice(&at, access, splice))
        };
        let answer = self.store(("splice", StoreOperation::Splice), splice).await;
        if self.is_dead() {
            return std::future::pending().await;
        }
        match &answer {
            Ok(counters) => self.recorder.answer(op, Answer::Spliced(Totals::from(counters))),
            Err(error) if error.kind() == &StoreErrorKind::Conflict => {
                self.recorder.answer(op, Answer::Conflict);
            }
            Err(error) if error.applied() == Applied::No => self.recorder.refused(op),
            Err(_) => {}
        }
        answer
    }

    async fn clear(
        &self,
        key: &MemoryKey,
        access: Access,
        clear: &Clear,
    ) -> Result<Counters, StoreError> {
        let (key, clear, witness) = (key.clone(), *clear, self.witness.clone());
        let clear = move |server: &Arc<Server>| {
            let counters = server.clear(&key, access, &clear)?;
            witness.cleared(&key, &clear);
            Ok(counters)
        };
        self.store(("clear", StoreOperation::Clear), clear).await
    }

    async fn claim(&self, key: &MemoryKey, lease: LeaseProof) -> Result<(), StoreError> {
        let key = key.clone();
        self.store(("claim", StoreOperation::Claim), move |server| server.claim(&key, lease)).await
    }

    async fn head(&self, key: &MemoryKey) -> Result<Head, StoreError> {
        let key = key.clone();
        self.ask(("head", StoreOperation::Read), move |server| server.head(&key)).await
    }

    async fn read(&self, key: &MemoryKey, read: Read) -> Result<Page, StoreError> {
        let (key, witness) = (key.clone(), self.witness.clone());
        let read = move |server: &Arc<Server>| {
            let page = server.read(&key, read)?;
            witness.read(server, &key, read, &page);
            Ok(page)
        };
        self.ask(("read", StoreOperation::Read), read).await
    }

    async fn read_before(
        &self,
        key: &MemoryKey,
        before: Option<Cursor>,
        limit: NonZeroUsize,
    ) -> Result<Page, StoreError> {
        let key = key.clone();
        let read = move |server: &Arc<Server>| server.read_before(&key, before, limit);
        self.ask(("read_before", StoreOperation::Read), read).await
    }

    async fn outline(&self, key: &MemoryKey) -> Result<Outline, StoreError> {
        let (key, witness) = (key.clone(), self.witness.clone());
        let outline = move |server: &Arc<Server>| {
            let outline = server.outline(&key)?;
            witness.outlined(&key, &outline);
            Ok(outline)
        };
        let outline = self.ask(("outline", StoreOperation::Read), outline).await?;
        check_outline(&outline, &mut self.recorder.history());
        Ok(outline)
    }

    async fn fetch(
        &self,
        key: &MemoryKey,
        snapshot: Cursor,
        places: &[Sequence],
    ) -> Result<Vec<StoredMessage>, StoreError> {
        let (key, places, witness) = (key.clone(), places.to_vec(), self.witness.clone());
        let fetch = move |server: &Arc<Server>| {
            let messages = server.fetch(&key, snapshot, &places)?;
            witness.fetched(&key, snapshot, &places, &messages);
            Ok(messages)
        };
        self.ask(("fetch", StoreOperation::Read), fetch).await
    }

    async fn receipts(&self, key: &MemoryKey) -> Result<Vec<FlushReceipt>, StoreError> {
        let key = key.clone();
        self.ask(("receipts", StoreOperation::Read), move |server| server.receipts(&key)).await
    }

    async fn keys(
        &self,
        after: Option<&MemoryKey>,
        limit: NonZeroUsize,
    ) -> Result<Vec<MemoryKey>, StoreError> {
        let after = after.cloned();
        self.ask(("keys", StoreOperation::ListKeys), move |server| {
            server.keys(after.as_ref(), limit)
        })
        .await
    }

    async fn unused(&self, query: &UnusedQuery) -> Result<UnusedPage, StoreError> {
        let query = query.clone();
        self.ask(("unused", StoreOperation::ListUnused), move |server| server.unused(&query)).await
    }

    async fn remove(
        &self,
        key: &MemoryKey,
        remove: RemoveUnused,
    ) -> Result<RemovedUnused, StoreError> {
        let key = key.clone();
        self.store(("remove", StoreOperation::Remove), move |server| server.remove(&key, remove))
            .await
    }

    async fn watch(&self, key: &MemoryKey) -> Result<Box<dyn StoreWatch>, StoreError> {
        // A signal is a hint that no fault of the network can make wrong.
        self.server.watch_memory(key)
    }

    async fn server(&self) -> Result<Option<ServerHealth>, StoreError> {
        self.ask(("server", StoreOperation::AskServer), |_| Ok(None)).await
    }

    fn lease_domain(&self) -> Option<&LeaseDomain> {
        self.store_domain.as_ref()
    }

    fn durability(&self) -> Durability {
        Durability::Memory
    }
}
