//! The simulated server: the reference store and the reference lock, with at most one planted bug.

mod append;
mod copies;
mod deltas;
mod edits;
mod leases;
mod past;
mod reads;
mod replace;
mod replace_all;
mod rollback;
mod splice;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use futures::FutureExt;
use memory_core::lease::{FencingToken, LeaseProof};
use memory_core::store::{
    Access, Clear, Cleared, Counters, Generation, Head, Metadata, Page, RemoveUnused,
    RemovedUnused, StoreError, StoreErrorKind, StoreOperation, UpdateMetadata, WriteId, WriterId,
};
use memory_core::{InMemoryStore, MemoryKey, MemoryStore};
use memory_lock::{Clock, InProcessLock, LeaseInfo, LockBackend, LockKey};

pub(crate) use self::copies::Source;
use self::past::PastBugs;
use self::rollback::Kept;
use crate::bug::Bug;
use crate::program::Program;

/// All state of a program. Each call is applied at once, in one step.
#[derive(Debug)]
pub(crate) struct Server {
    store: InMemoryStore,
    lock: InProcessLock,
    clock: Clock,
    /// The store checks leases itself.
    shared_domain: bool,
    forks_in_parts: bool,
    pub(crate) bug: Option<Bug>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The newest number of each writer, to recognize a retry before the lease is checked.
    writers: HashMap<(MemoryKey, WriterId), u64>,
    /// The newest writer of each memory.
    newest_writer: HashMap<MemoryKey, WriterId>,
    /// The number of calls, for bugs that occur now and then.
    appends: u64,
    reads: u64,
    fresh: u128,
    old_pages: HashMap<MemoryKey, Page>,
    old_head: HashMap<MemoryKey, Head>,
    numbering: HashMap<MemoryKey, u32>,
    leaked_tokens: HashMap<MemoryKey, u64>,
    /// The error of the token counters after replacements.
    skewed_tokens: HashMap<MemoryKey, i64>,
    /// The change of the token counters by each replacement.
    replaced_tokens: HashMap<(MemoryKey, WriteId), i64>,
    /// The new generation of each replacement, and the old one.
    replaced_in: HashMap<(MemoryKey, Generation), Generation>,
    /// Generations whose end a planted bug hides from readers.
    unnoticed: HashSet<(MemoryKey, Generation)>,
    granted: HashMap<LockKey, FencingToken>,
    /// All leases that were ever requested, in a stable order, so that runs are reproducible.
    leased: BTreeSet<LockKey>,
    /// The clock was stepped back.
    is_behind: bool,
    kept: Kept,
    past: PastBugs,
}

/// The calls of the reference implementations never wait.
fn now<T>(future: impl Future<Output = T>) -> T {
    #[expect(clippy::expect_used, reason = "a reference that waits cannot be simulated")]
    future.now_or_never().expect("the reference implementations answer at once")
}

impl Server {
    pub(crate) fn new(clock: &Clock, program: &Program, bug: Option<Bug>) -> Self {
        Self {
            store: InMemoryStore::new(clock.clone()),
            lock: InProcessLock::new(clock.clone()),
            clock: clock.clone(),
            shared_domain: program.shared_domain,
            forks_in_parts: program.seed.is_multiple_of(2),
            bug,
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn has(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    /// The storage key of a memory.
    fn place(&self, key: &MemoryKey) -> MemoryKey {
        let rename = |key: &MemoryKey, to: &dyn Fn(String) -> String| {
            let (project, id, rendered) = key.parts().unwrap_or_default();
            MemoryKey::new(&project, &id, &to(rendered)).unwrap_or_else(|_| key.clone())
        };
        let mut at = key.clone();
        if self.has(Bug::KeysCollide) {
            at = rename(&at, &|rendered| rendered.replace('/', "_"));
        }
        let numbering = self.state().numbering.get(&at).copied();
        match numbering {
            Some(numbering) => rename(&at, &|rendered| format!("{rendered}~{numbering}")),
            None => at,
        }
    }

    /// The check of a store that shares the leases' domain, within its atomic step. A retry needs none.
    fn check_lease(&self, key: &MemoryKey, access: Access) -> Result<(), StoreError> {
        if !self.shared_domain {
            return Ok(());
        }
        let held = self.held(key.lease_name());
        match (access.lease, held) {
            (None, Some(info)) if !self.has(Bug::NoLeaseCheck) => {
                let remaining = Some(info.remaining);
                Err(StoreError::new(StoreOperation::Append, StoreErrorKind::Locked { remaining })
                    .not_applied()
                    .at(key))
            }
            (Some(proof), held) => self.live(key, proof, held),
            (None, _) => Ok(()),
        }
    }

    fn live(
        &self,
        key: &MemoryKey,
        proof: LeaseProof,
        held: Option<LeaseInfo>,
    ) -> Result<(), StoreError> {
        let is_live =
            held.as_ref().is_some_and(|l| l.owner == proof.owner && l.token == proof.token);
        if is_live || self.has(Bug::NoFencing) {
            return Ok(());
        }
        let newest = held.map_or(proof.token, |lease| lease.token);
        let kind = StoreErrorKind::Fenced { token: proof.token, newest };
        Err(StoreError::new(StoreOperation::Append, kind).not_applied().at(key))
    }

    fn held(&self, lease: &str) -> Option<LeaseInfo> {
        let key = LockKey::new(lease).ok()?;
        now(self.lock.inspect(&key)).ok().flatten()
    }

    fn access(&self, access: Access) -> Access {
        if self.has(Bug::NoFencing) { Access::OPEN } else { access }
    }

    fn is_retry(&self, at: &MemoryKey, write: WriteId) -> bool {
        let last = self.state().writers.get(&(at.clone(), write.writer)).copied();
        last.is_some_and(|last| write.number <= last)
    }

    fn wrote(&self, at: &MemoryKey, write: WriteId) {
        let mut state = self.state();
        let last = state.writers.entry((at.clone(), write.writer)).or_default();
        *last = write.number.max(*last);
        state.newest_writer.insert(at.clone(), write.writer);
    }

    /// The counters as falsified by the planted bug.
    fn repair(&self, at: &MemoryKey, counters: &mut Counters) {
        if self.has(Bug::TokensNotReturned) {
            counters.present.tokens += self.state().leaked_tokens.get(at).copied().unwrap_or(0);
        }
        if let Some(skew) = self.state().skewed_tokens.get(at) {
            counters.present.tokens = counters.present.tokens.saturating_add_signed(*skew);
        }
        if let Some(restored) = self.state().past.restored.get(at) {
            counters.present.messages += restored;
        }
        if let Some(cleared) = self.state().past.cleared.get(at) {
            counters.evicted += cleared;
        }
        if let Some(erased) = self.state().past.erased.get(at) {
            counters.withdrawn = counters.withdrawn.saturating_sub(*erased);
            counters.evicted += erased;
        }
        if self.has(Bug::EvictedNotCounted) {
            counters.evicted = 0;
        }
    }

    fn fresh_write(&self) -> WriteId {
        let mut state = self.state();
        state.fresh += 1;
        WriterId::new(u128::MAX - state.fresh).write(1)
    }

    pub(crate) fn clear(
        &self,
        key: &MemoryKey,
        access: Access,
        clear: &Clear,
    ) -> Result<Cleared, StoreError> {
        let at = self.place(key);
        if !self.is_retry(&at, clear.write) {
            self.check_lease(key, access)?;
        }
        let ended = now(self.store.head(&at))?.generation;
        let changed = self.changed_clear(clear);
        let mut cleared = now(self.store.clear(&at, self.access(access), &changed))?;
        self.archived_now(&at)?;
        self.wrote(&at, clear.write);
        self.ended(Bug::ClearUnnoticed, &at, ended);
        if self.has(Bug::ClearRestartsNumbers) {
            *self.state().numbering.entry(key.clone()).or_default() += 1;
        }
        self.repair(&at, &mut cleared.counters);
        Ok(cleared)
    }

    pub(crate) fn claim(&self, key: &MemoryKey, lease: LeaseProof) -> Result<(), StoreError> {
        if self.shared_domain {
            self.live(key, lease, self.held(key.lease_name()))?;
        }
        if matches!(self.bug, Some(Bug::NoFencing | Bug::ClaimIgnored)) {
            return Ok(());
        }
        now(self.store.claim(&self.place(key), lease))
    }

    pub(crate) fn update_metadata(
        &self,
        key: &MemoryKey,
        access: Access,
        update: &UpdateMetadata,
    ) -> Result<Metadata, StoreError> {
        let at = self.place(key);
        if !self.is_retry(&at, update.write) {
            self.check_lease(key, access)?;
        }
        let updated = now(self.store.update_metadata(&at, access, update))?;
        self.wrote(&at, update.write);
        Ok(updated)
    }

    pub(crate) fn remove(
        &self,
        key: &MemoryKey,
        remove: RemoveUnused,
    ) -> Result<RemovedUnused, StoreError> {
        self.check_lease(key, remove.access)?;
        if self.shared_domain && self.held(&key.flush_lease_name()).is_some() {
            let kind = StoreErrorKind::Locked { remaining: None };
            return Err(StoreError::new(StoreOperation::Remove, kind).not_applied().at(key));
        }
        let at = self.place(key);
        if self.has(Bug::DeleteNotApplied) {
            return Ok(RemovedUnused::default());
        }
        self.keep_archive(&at)?;
        let ended = now(self.store.head(&at))?.generation;
        let removed = now(self.store.remove(&at, remove))?;
        if !removed.more {
            self.state().writers.retain(|(of, _), _| *of != at);
            self.ended(Bug::DeleteUnnoticed, &at, ended);
        }
        Ok(removed)
    }
}
