//! The simulated server: the reference store and the reference lock, with at most one planted bug. Its leases are in
//! [`leases`], and its rollbacks in [`rollback`].

mod leases;
mod rollback;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use jiff::Timestamp;
use memory_core::lease::{FencingToken, LeaseProof};
use memory_core::store::{
    Access, Append, Appended, Clear, Counters, Cursor, FlushReceipt, Generation, Head, Outline,
    Page, Read, RemoveUnused, RemovedUnused, Replace, Splice, StoreError, StoreErrorKind,
    UnusedPage, UnusedQuery, WriteId, WriterId,
};
use memory_core::{InMemoryStore, MemoryKey, MemoryStore, Sequence, StoredMessage};
use memory_lock::{Clock, InProcessLock, LeaseInfo, LockBackend, LockKey};

use self::rollback::Kept;
use crate::bug::Bug;

/// All state of a program. Each call is applied at once, in one step.
#[derive(Debug)]
pub(crate) struct Server {
    store: InMemoryStore,
    lock: InProcessLock,
    /// The store checks leases itself.
    shared_domain: bool,
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
    granted: HashMap<LockKey, FencingToken>,
    /// All leases that were ever requested, in a stable order, so that runs are reproducible.
    leased: BTreeSet<LockKey>,
    /// The clock was stepped back.
    is_behind: bool,
    kept: Kept,
}

/// The calls of the reference implementations never wait.
fn now<T>(future: impl Future<Output = T>) -> T {
    #[expect(clippy::expect_used, reason = "a reference that waits cannot be simulated")]
    future.now_or_never().expect("the reference implementations answer at once")
}

impl Server {
    pub(crate) fn new(clock: &Clock, shared_domain: bool, bug: Option<Bug>) -> Self {
        let time = clock.clone();
        let time = move || {
            let micros = i64::try_from(time.now_micros()).unwrap_or(i64::MAX);
            Timestamp::from_microsecond(micros).unwrap_or(Timestamp::MAX)
        };
        Self {
            store: InMemoryStore::new(time),
            lock: InProcessLock::new(clock.clone()),
            shared_domain,
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

    /// The check of a store that shares the leases' domain, within its atomic step.
    fn admit(&self, key: &MemoryKey, access: Access, is_retry: bool) -> Result<(), StoreError> {
        if !self.shared_domain || is_retry {
            return Ok(());
        }
        let held = self.held(key.lease_name());
        match (access.lease, held) {
            (None, Some(info)) if !self.has(Bug::NoLeaseCheck) => {
                let remaining = Some(info.remaining);
                Err(StoreError::new("write to", StoreErrorKind::Locked { remaining }).at(key))
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
        Err(StoreError::new("write to", kind).at(key))
    }

    fn held(&self, lease: &str) -> Option<LeaseInfo> {
        let key = LockKey::new(lease).ok()?;
        now(self.lock.inspect(&key)).ok().flatten()
    }

    fn access(&self, access: Access) -> Access {
        if self.has(Bug::NoFencing) { Access::OPEN } else { access }
    }

    pub(crate) fn append(
        self: &Arc<Self>,
        key: &MemoryKey,
        append: Append,
    ) -> Result<Appended, StoreError> {
        let at = self.place(key);
        let (write, access) = (append.write, append.access);
        let is_retry = self.is_retry(&at, write);
        self.admit(key, access, is_retry)?;
        let mut append = Append { access: self.access(append.access), ..append };
        let mut rest = None;
        let count = {
            let mut state = self.state();
            state.appends += 1;
            state.appends
        };
        match self.bug {
            Some(Bug::AppendRefused) if count.is_multiple_of(11) => {
                let kind = StoreErrorKind::Full("no room".into());
                return Err(StoreError::new("append to", kind).at(key));
            }
            Some(Bug::RetryNotRecognized) => append.write = self.fresh_write(),
            Some(Bug::WriterPrunedEarly) if is_retry => {
                let newest = self.state().newest_writer.get(&at).copied();
                if newest != Some(write.writer) {
                    append.write = self.fresh_write();
                }
            }
            Some(Bug::RetryForgottenByFlush) if is_retry => {
                let flushed = !now(self.store.receipts(&at))?.is_empty();
                if flushed {
                    append.write = self.fresh_write();
                }
            }
            Some(Bug::TornBatch) if append.messages.len() > 1 && !is_retry => {
                let messages: Vec<_> = append.messages.iter().skip(1).cloned().collect();
                rest = Some(Append {
                    write: self.fresh_write(),
                    messages: messages.into(),
                    ..append.clone()
                });
                append.messages = append.messages.iter().take(1).cloned().collect();
            }
            Some(Bug::OrderLost) if append.messages.len() > 1 && !is_retry => {
                append.messages = append.messages.iter().rev().cloned().collect();
            }
            Some(Bug::AppendLost) if count.is_multiple_of(7) && !is_retry => {
                let head = now(self.store.head(&at))?;
                let first = head.last.plus(1);
                let outcome = memory_core::store::AppendOutcome::Appended { first };
                let next_flush_at = head.next_flush_at;
                let counters = head.counters;
                let critical_over_budget = None;
                return Ok(Appended { outcome, counters, next_flush_at, critical_over_budget });
            }
            _ => {}
        }
        let before = now(self.store.head(&at))?;
        self.state().old_head.insert(at.clone(), before.clone());
        let quoted = append.messages.first().map(|m| m.message.text().into_owned());
        let mut appended = now(self.store.append(&at, append))?;
        self.wrote(&at, write);
        if let Some(rest) = rest {
            let (server, at) = (Arc::clone(self), at.clone());
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(3)).await;
                let _ = now(server.store.append(&at, rest));
            });
        }
        match self.bug {
            Some(Bug::CountersApart) => appended.counters = before.counters,
            Some(Bug::FlushMarkLost) => appended.next_flush_at = None,
            Some(Bug::ErrorLies) if count.is_multiple_of(5) => {
                return Err(
                    StoreError::new("append to", StoreErrorKind::Full("no room".into())).at(key)
                );
            }
            Some(Bug::ErrorQuotesMessage) if count.is_multiple_of(9) => {
                let text = quoted.unwrap_or_default();
                return Err(
                    StoreError::new("append to", StoreErrorKind::Other(text)).possibly_applied()
                );
            }
            _ => {}
        }
        self.repair(&at, &mut appended.counters);
        Ok(appended)
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
        if self.has(Bug::EvictedNotCounted) {
            counters.evicted = 0;
        }
    }

    /// The effect of a planted bug on a replacement.
    fn replaced(
        &self,
        at: &MemoryKey,
        write: WriteId,
        before: &Head,
        after: &Counters,
    ) -> Result<(), StoreError> {
        let generation = now(self.store.head(at))?.generation;
        let tokens = after.present.tokens.cast_signed();
        let change = tokens - before.counters.present.tokens.cast_signed();
        let mut state = self.state();
        state.replaced_tokens.insert((at.clone(), write), change);
        match self.bug {
            Some(Bug::ReplaceNotCounted) => {
                *state.skewed_tokens.entry(at.clone()).or_default() -= change;
            }
            Some(Bug::ReplaceKeepsGeneration) => {
                state.replaced_in.insert((at.clone(), before.generation), generation);
            }
            _ => {}
        }
        Ok(())
    }

    fn replaced_again(&self, at: &MemoryKey, write: WriteId) {
        if self.has(Bug::ReplaceCountedTwice) {
            let mut state = self.state();
            let change = state.replaced_tokens.get(&(at.clone(), write)).copied().unwrap_or(0);
            *state.skewed_tokens.entry(at.clone()).or_default() += change;
        }
    }

    /// The cursor in the generation that the store has, where replacements do not seem to change it.
    fn replaced_under(&self, at: &MemoryKey, mut cursor: Cursor) -> Cursor {
        let state = self.state();
        while let Some(next) = state.replaced_in.get(&(at.clone(), cursor.generation)) {
            cursor.generation = *next;
        }
        cursor
    }

    fn fresh_write(&self) -> WriteId {
        let mut state = self.state();
        state.fresh += 1;
        WriterId::new(u128::MAX - state.fresh).write(1)
    }

    pub(crate) fn splice(&self, key: &MemoryKey, splice: Splice) -> Result<Counters, StoreError> {
        let at = self.place(key);
        let newest = now(self.store.receipts(&at))?.first().map(|receipt| receipt.id);
        let is_retry = splice.receipt.as_ref().is_some_and(|r| Some(r.id) == newest);
        self.admit(key, splice.access, is_retry)?;
        if let Some(proof) = splice.flusher.filter(|_| self.shared_domain && !is_retry) {
            self.live(key, proof, self.held(&key.flush_lease_name()))?;
        }
        let mut splice = Splice { access: self.access(splice.access), ..splice };
        if self.has(Bug::NoFencing) {
            splice.flusher = None;
        }
        if self.bug.is_some() {
            // The store below would compare it with the removed messages, and refuse the effect of a planted bug. The
            // checks of the history must find the bug themselves.
            splice.removed = None;
        }
        let outline = now(self.store.outline(&at))?;
        let is_current = splice.generation == outline.head.generation && !is_retry;
        if self.has(Bug::SpliceTakesOthers) {
            splice.newest = None;
        }
        let removes = !splice.summarised.is_empty() || !splice.evicted.is_empty();
        let is_planned = |place: Sequence, splice: &Splice| {
            splice.summarised.contains(&place) || splice.evicted.contains(&place)
        };
        match self.bug {
            Some(Bug::NoGenerationCheck) if !is_retry => {
                splice.generation = outline.head.generation;
                let there: HashSet<_> = outline.metas.iter().map(|meta| meta.sequence).collect();
                splice.summarised.retain(|place| there.contains(place));
                splice.evicted.retain(|place| there.contains(place));
                if splice.summarised.is_empty() {
                    splice.summary = None;
                }
            }
            Some(Bug::FlushTakesNewAppends) if is_current && removes => {
                let seen = splice.receipt.as_ref().map_or(0, |receipt| receipt.messages_before);
                let seen = usize::try_from(seen).unwrap_or(usize::MAX);
                let new = outline.metas.iter().skip(seen).map(|meta| meta.sequence);
                let new: Vec<_> = new.filter(|place| !is_planned(*place, &splice)).collect();
                splice.evicted.extend(new);
            }
            Some(Bug::CriticalEvicted) if is_current && removes => {
                let critical = outline
                    .metas
                    .iter()
                    .find(|meta| meta.priority.is_some_and(memory_core::Priority::is_critical));
                splice.evicted.extend(critical.map(|meta| meta.sequence));
            }
            Some(Bug::UnitSplit) if is_current && removes => {
                let call = outline.metas.iter().find(|meta| {
                    let is_answered = |call: &memory_core::plan::ToolRef| {
                        let results = outline.metas.iter().flat_map(|other| &other.link.results);
                        results.into_iter().any(|result| result.id == call.id)
                    };
                    !is_planned(meta.sequence, &splice) && meta.link.calls.iter().any(is_answered)
                });
                splice.evicted.extend(call.map(|meta| meta.sequence));
            }
            Some(Bug::SourcesKept) if is_current => {
                splice.summarised.truncate(1);
            }
            Some(Bug::TokensNotReturned) if is_current => {
                let gone =
                    outline.metas.iter().filter(|meta| splice.evicted.contains(&meta.sequence));
                let tokens: u64 = gone.map(|meta| u64::from(meta.tokens)).sum();
                *self.state().leaked_tokens.entry(at.clone()).or_default() += tokens;
            }
            _ => {}
        }
        let mut counters = now(self.store.splice(&at, splice))?;
        self.repair(&at, &mut counters);
        Ok(counters)
    }

    pub(crate) fn replace(
        &self,
        key: &MemoryKey,
        replace: Replace,
    ) -> Result<Counters, StoreError> {
        let at = self.place(key);
        self.admit(key, replace.access, self.is_retry(&at, replace.write))?;
        let write = replace.write;
        let is_retry = self.is_retry(&at, write);
        let replace = Replace { access: self.access(replace.access), ..replace };
        let before = now(self.store.head(&at))?;
        let mut counters = now(self.store.replace(&at, replace))?;
        self.wrote(&at, write);
        if is_retry {
            self.replaced_again(&at, write);
        } else {
            self.replaced(&at, write, &before, &counters)?;
        }
        self.repair(&at, &mut counters);
        Ok(counters)
    }

    pub(crate) fn clear(&self, key: &MemoryKey, clear: Clear) -> Result<Counters, StoreError> {
        let at = self.place(key);
        self.admit(key, clear.access, self.is_retry(&at, clear.write))?;
        let clear = Clear { access: self.access(clear.access), ..clear };
        let mut counters = now(self.store.clear(&at, clear))?;
        self.wrote(&at, clear.write);
        if self.has(Bug::ClearRestartsNumbers) {
            *self.state().numbering.entry(key.clone()).or_default() += 1;
        }
        self.repair(&at, &mut counters);
        Ok(counters)
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

    pub(crate) fn head(&self, key: &MemoryKey) -> Result<Head, StoreError> {
        let at = self.place(key);
        let mut head = now(self.store.head(&at))?;
        match self.bug {
            Some(Bug::CountersApart) => {
                if let Some(old) = self.state().old_head.get(&at) {
                    head.counters = old.counters.clone();
                }
            }
            Some(Bug::FlushMarkLost) => head.next_flush_at = None,
            _ => {}
        }
        self.repair(&at, &mut head.counters);
        Ok(head)
    }

    pub(crate) fn read(&self, key: &MemoryKey, read: Read) -> Result<Page, StoreError> {
        let at = self.place(key);
        let after = read.after.map(|cursor| self.compared(cursor, Bug::ReaderGoesOn));
        let after = after.map(|cursor| self.replaced_under(&at, cursor));
        let page = now(self.store.read(&at, Read { after, ..read }))?;
        if !matches!(self.bug, Some(Bug::StaleRead | Bug::TornRead)) || read.after.is_some() {
            return Ok(page);
        }
        let mut state = self.state();
        state.reads += 1;
        let count = state.reads;
        let old = state.old_pages.insert(at, page.clone());
        let Some(old) = old.filter(|_| count.is_multiple_of(2)) else { return Ok(page) };
        if self.has(Bug::StaleRead) {
            return Ok(old);
        }
        // The first half as it was, the second as it is.
        let half = old.messages.len().div_ceil(2);
        let from = old.messages.get(half.saturating_sub(1)).map(|message| message.meta.sequence);
        let mut messages: Vec<_> = old.messages.into_iter().take(half).collect();
        messages.extend(page.messages.into_iter().filter(|m| Some(m.meta.sequence) > from));
        Ok(Page { messages, ..page })
    }

    pub(crate) fn outline(&self, key: &MemoryKey) -> Result<Outline, StoreError> {
        let at = self.place(key);
        let mut outline = now(self.store.outline(&at))?;
        match self.bug {
            Some(Bug::TokensUnderstated) => {
                for meta in &mut outline.metas {
                    meta.tokens = meta.tokens.div_ceil(2);
                }
            }
            Some(Bug::FlushMarkLost) => outline.head.next_flush_at = None,
            _ => {}
        }
        self.repair(&at, &mut outline.head.counters);
        Ok(outline)
    }

    pub(crate) fn fetch(
        &self,
        key: &MemoryKey,
        snapshot: Cursor,
        places: &[Sequence],
    ) -> Result<Vec<StoredMessage>, StoreError> {
        let snapshot = self.compared(snapshot, Bug::FetchFindsOthers);
        now(self.store.fetch(&self.place(key), snapshot, places))
    }

    pub(crate) fn receipts(&self, key: &MemoryKey) -> Result<Vec<FlushReceipt>, StoreError> {
        now(self.store.receipts(&self.place(key)))
    }

    pub(crate) fn keys(
        &self,
        after: Option<&MemoryKey>,
        limit: NonZeroUsize,
    ) -> Result<Vec<MemoryKey>, StoreError> {
        now(self.store.keys(after, limit))
    }

    pub(crate) fn unused(&self, query: &UnusedQuery) -> Result<UnusedPage, StoreError> {
        now(self.store.unused(query))
    }

    pub(crate) fn remove(
        &self,
        key: &MemoryKey,
        remove: RemoveUnused,
    ) -> Result<RemovedUnused, StoreError> {
        self.admit(key, remove.access, false)?;
        if self.shared_domain && self.held(&key.flush_lease_name()).is_some() {
            let kind = StoreErrorKind::Locked { remaining: None };
            return Err(StoreError::new("remove", kind).at(key));
        }
        now(self.store.remove(&self.place(key), remove))
    }
}
