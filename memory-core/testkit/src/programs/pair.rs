//! A store and the reference, side by side.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::time::Duration;

use memory_core::conformance::assert_counters;
use memory_core::lease::{FencingToken, LeaseProof, OwnerId};
use memory_core::store::{
    Access, Append, Clear, Cursor, Erase, Generation, MessageId, Outline, Read, Replace,
    ReplaceAll, Restore, SearchQuery, SearchScope, Splice, StoreError, StoreErrorKind, Version,
    WriteId, WriterId,
};
use memory_core::{InMemoryStore, MemoryKey, MemoryStore, Sequence};
use memory_lock::{Acquired, Clock, LockKey, Release};
use tokio::runtime::Runtime;
use uuid::Uuid;

use super::content::{drawn, picked, receipt, replacements, retention, without_oblivion};
use super::op::{Batch, Op, Right};
use super::{Opened, Place};

/// Beginnings of the texts of programs, and the name of their tool.
const WORDS: [&str; 5] = ["1*", "2*", "3*", "y*", "f"];

/// Longer than any program, so leases end only by a release.
const TTL: Duration = Duration::from_secs(3_600_000);

pub(super) struct Pair<'a, P> {
    runtime: &'a Runtime,
    place: P,
    clock: Clock,
    opened: Opened,
    reference: InMemoryStore,
    serial: u64,
    held: HashMap<LockKey, LeaseProof>,
    /// All leases that were ever held.
    granted: Vec<LeaseProof>,
    /// The newest write of each writer to each memory.
    writes: HashMap<(u8, u8), u8>,
    /// A version that each memory had at some time.
    versions: HashMap<u8, Version>,
}

impl<'a, P: Place> Pair<'a, P> {
    pub(super) fn open(runtime: &'a Runtime, place: P) -> Self {
        let clock = Clock::manual();
        let opened = runtime.block_on(place.open(&clock));
        let reference = InMemoryStore::new(clock.clone());
        Self {
            runtime,
            place,
            clock,
            opened,
            reference,
            serial: 0,
            held: HashMap::new(),
            granted: Vec::new(),
            writes: HashMap::new(),
            versions: HashMap::new(),
        }
    }

    pub(super) fn apply(&mut self, op: Op) {
        self.forget();
        self.serial += 100;
        let serial = self.serial;
        match op {
            Op::Append { key: k, batch, by } => {
                let key = key(k);
                let lease = self.proof(key.lease_name(), by);
                let (append, is_new) = self.batch(k, batch);
                let refusal = self.refusal(key.lease_name(), lease).filter(|_| is_new);
                let done = self.both(refusal, &async |store| {
                    store.append(&key, Access { lease }, &append).await
                });
                if done && is_new {
                    self.wrote(k, append.write);
                }
            }
            Op::ReplaceAll { key: k, batch, archive, by } => {
                let key = key(k);
                let lease = self.proof(key.lease_name(), by);
                let (batch, is_new) = self.batch(k, batch);
                let replace = ReplaceAll { batch, archive: archive.map(retention) };
                let refusal = self.refusal(key.lease_name(), lease).filter(|_| is_new);
                let done = self.both(refusal, &async |store| {
                    store.replace_all(&key, Access { lease }, &replace).await
                });
                if done && is_new {
                    self.wrote(k, replace.batch.write);
                }
            }
            Op::Replace { key: k, pick, other, writer, number, message, by } => {
                let key = key(k);
                let outline = self.outline(&key);
                let found = outline.metas.get(usize::from(pick) % outline.metas.len().max(1));
                let lease = self.proof(key.lease_name(), by);
                // Usually the existing message, else its neighbor's id, another place, or none.
                let sequence = found.map_or(Sequence::new(u64::from(pick)), |meta| meta.sequence);
                let newest = outline.metas.last().filter(|_| other == 1).or(found);
                let replace = Replace {
                    write: write(writer, number),
                    sequence: if other == 2 { sequence.plus(1) } else { sequence },
                    replaced: newest.map_or(MessageId::new(Uuid::max()), |meta| meta.id),
                    message: drawn(serial, message),
                };
                // Ids of these programs follow from texts and may be equal, which is refused first.
                let is_sound = replace.check().is_ok();
                let is_new = is_sound && self.is_new(k, writer, number);
                let refusal = self.refusal(key.lease_name(), lease).filter(|_| is_new);
                let done = self.both(refusal, &async |store| {
                    store.replace(&key, Access { lease }, &replace).await
                });
                if done && is_new {
                    self.writes.insert((k, writer), number);
                }
            }
            Op::Splice { key: k, summarized, evicted, closed, replaced, how } => {
                let key = key(k);
                let flush_lease = key.flush_lease_name();
                let outline = self.outline(&key);
                let mut summarized = picked(&outline, &summarized);
                let mut evicted = picked(&outline, &evicted);
                let withdrawn = outline.metas.iter().rev().take(how.withdrawn.into());
                let mut withdrawn: Vec<_> = withdrawn.map(|meta| meta.sequence).collect();
                withdrawn.reverse();
                summarized.retain(|place| !withdrawn.contains(place));
                evicted.retain(|place| !summarized.contains(place) && !withdrawn.contains(place));
                let closed = picked(&outline, &closed);
                let others =
                    [&summarized, &evicted, &withdrawn, &closed].map(Vec::as_slice).concat();
                let replaced = replacements(&outline, &replaced, &others, serial);
                let access = Access { lease: self.proof(key.lease_name(), how.by) };
                let mut splice = Splice {
                    replaced,
                    summary: (how.summary && !summarized.is_empty()).then(|| drawn(serial, (5, 9))),
                    summarized,
                    evicted,
                    withdrawn,
                    closed,
                    archive: how.archive.map(retention),
                    next_flush_at: how.next_flush_at.map(u64::from),
                    flusher: self.proof(&flush_lease, how.flusher),
                    ..Splice::of(&outline)
                };
                if how.summary {
                    splice = splice.weighed(&outline.metas);
                }
                splice.receipt = how.receipt.map(|id| receipt(id.into(), &splice));
                if how.removed_twice && !splice.summarized.is_empty() {
                    splice.evicted.clone_from(&splice.summarized);
                    splice.receipt = None;
                    // If there are several reasons, any may be reported.
                    self.both_refuse(&async |store| store.splice(&key, access, &splice).await);
                    return;
                }
                if how.withdrawn == 1 {
                    // Without its newest message the snapshot is refused.
                    splice.newest = None;
                }
                if how.stale {
                    splice.generation = Generation::new(splice.generation.number() ^ 1);
                }
                if how.unknown_place {
                    splice.evicted.push(outline.head.last.plus(3));
                }
                if let Some(receipt) = splice.receipt.as_mut().filter(|_| how.unknown_place) {
                    receipt.evicted = splice.evicted.iter().copied().collect();
                }
                let newest = self.runtime.block_on(self.reference.receipts(&key)).unwrap();
                let is_new = splice.receipt.is_none()
                    || splice.receipt.as_ref().map(|receipt| receipt.id)
                        != newest.first().map(|receipt| receipt.id);
                let flusher =
                    splice.flusher.and_then(|flusher| self.refusal(&flush_lease, Some(flusher)));
                let refusal = flusher
                    .or_else(|| self.refusal(key.lease_name(), access.lease))
                    .filter(|_| is_new);
                self.both(refusal, &async |store| store.splice(&key, access, &splice).await);
            }
            Op::Clear { key: k, writer, number, archive, by } => {
                let key = key(k);
                let lease = self.proof(key.lease_name(), by);
                let archive = archive.map(retention);
                let clear = Clear { archive, ..Clear::new(write(writer, number)) };
                let is_new = self.is_new(k, writer, number);
                let refusal = self.refusal(key.lease_name(), lease).filter(|_| is_new);
                if self
                    .both(refusal, &async |store| store.clear(&key, Access { lease }, &clear).await)
                    && is_new
                {
                    self.writes.insert((k, writer), number);
                }
            }
            Op::Restore { key: k, receipt, writer, number, by } => {
                let key = key(k);
                let lease = self.proof(key.lease_name(), by);
                let receipt = Uuid::from_u128(receipt.into());
                let restore = Restore { write: write(writer, number), receipt };
                let is_new = self.is_new(k, writer, number);
                let refusal = self.refusal(key.lease_name(), lease).filter(|_| is_new);
                let done = self.both(refusal, &async |store| {
                    store.restore(&key, Access { lease }, &restore).await
                });
                if done && is_new {
                    self.writes.insert((k, writer), number);
                }
            }
            Op::Erase { key: k, picks, places, writer, number, by } => {
                let key = key(k);
                let outline = self.outline(&key);
                let end = outline.head.last.number() + 2;
                let others = places.iter().map(|place| Sequence::new(u64::from(*place) % end));
                let places = picked(&outline, &picks).into_iter().chain(others).collect();
                let reason = "a program".to_owned();
                let erase = Erase { write: write(writer, number), places, reason };
                let lease = self.proof(key.lease_name(), by);
                let is_new = erase.check().is_ok() && self.is_new(k, writer, number);
                let refusal = self.refusal(key.lease_name(), lease).filter(|_| is_new);
                let done = self.both(refusal, &async |store| {
                    store.erase(&key, Access { lease }, &erase).await
                });
                if done && is_new {
                    self.writes.insert((k, writer), number);
                }
            }
            Op::Removals { key: k, before, limit } => {
                let key = key(k);
                let limit = NonZeroUsize::new(limit.into()).unwrap();
                let before = before.map(u64::from);
                self.both(None, &async |store| store.removals(&key, before, limit).await);
            }
            Op::Archived { key: k, pick, after, limit } => {
                let key = key(k);
                let all = self.reference.removals(&key, None, NonZeroUsize::MAX);
                let all = self.runtime.block_on(all).unwrap();
                let picked = all.get(usize::from(pick) % all.len().max(1));
                let number = picked.map_or(u64::from(pick), |removal| removal.number);
                let after = Sequence::new(u64::from(after) % 16);
                let limit = NonZeroUsize::new(limit.into()).unwrap().into();
                self.both(None, &async |store| store.archived(&key, number, after, limit).await);
            }
            Op::Search { key: k, words, scope, before } => {
                let key = key(k);
                let words = WORDS[usize::from(words) % WORDS.len()];
                let mut query = SearchQuery::new(words);
                query.scope = match scope {
                    0 => SearchScope::Present,
                    1 => SearchScope::Archived,
                    _ => SearchScope::All,
                };
                query.before = before.map(|before| Sequence::new(u64::from(before) % 16));
                self.both(None, &async |store| {
                    let found = store.search(&key, &query).await?;
                    Ok((found.hits, found.matches, found.coverage))
                });
            }
            Op::Claim { key: k, by } => {
                let key = key(k);
                if let Some(lease) = self.proof(key.lease_name(), by) {
                    let refusal = self.refusal(key.lease_name(), Some(lease));
                    self.both(refusal, &async |store| store.claim(&key, lease).await);
                }
            }
            Op::Read { key: k, after, stale, limit } => {
                let key = key(k);
                let outline = self.outline(&key);
                let head = &outline.head;
                let generation = Generation::new(head.generation.number() ^ u64::from(stale));
                let sequence = Sequence::new(u64::from(after) % (head.last.number() + 2));
                let meta = outline.metas.iter().find(|meta| meta.sequence == sequence);
                let other = outline.metas.first();
                // None, the right one, or most often a wrong one.
                let id = [None, meta, other].get(usize::from(after / 3 % 3)).copied().flatten();
                let read = Read {
                    after: Some(Cursor { generation, sequence, id: id.map(|meta| meta.id) }),
                    limit: NonZeroUsize::new(limit.into()).map(Into::into),
                };
                self.both(None, &async |store| store.read(&key, read).await);
            }
            Op::Fetch { key: k, picks, stale } => {
                let key = key(k);
                let outline = self.outline(&key);
                let places = picked(&outline, &picks);
                let mut snapshot = outline.cursor();
                if stale {
                    snapshot.generation = Generation::new(snapshot.generation.number() ^ 1);
                }
                self.both(None, &async |store| store.fetch(&key, snapshot, &places).await);
            }
            Op::Acquire { key: k, owner, flush } => {
                self.acquire(lease_of(k, LeaseOf::from(flush)), owner);
            }
            Op::Release { key: k, flush } => self.release(&lease_of(k, LeaseOf::from(flush))),
            Op::Wait { minutes } => self.clock.advance(Duration::from_mins(minutes.into())),
            Op::Reopen => self.opened = self.runtime.block_on(self.place.open(&self.clock)),
        }
    }

    /// Both have the same content, and their counters equal a recount.
    pub(super) fn check(&self) {
        for name in 0..3 {
            let key = key(name);
            assert_counters(&self.runtime.block_on(self.opened.store.outline(&key)).unwrap());
            self.both(None, &async |store| store.head(&key).await.map(without_oblivion));
            self.both(None, &async |store| {
                let Outline { head, metas, unreadable, .. } = store.outline(&key).await?;
                Ok(Outline::new(without_oblivion(head), metas, unreadable))
            });
            self.both(None, &async |store| store.read(&key, Read::default()).await);
            self.both(None, &async |store| store.receipts(&key).await);
            self.both(None, &async |store| store.erasures(&key).await);
            self.both(None, &async |store| store.removals(&key, None, NonZeroUsize::MAX).await);
        }
        self.both(None, &async |store| store.keys(None, NonZeroUsize::new(2).unwrap()).await);
    }

    /// Runs the same on both and compares the answers; returns whether it was done.
    ///
    /// The reference has no leases: if one forbids the write, only the store runs it.
    fn both<T: PartialEq + std::fmt::Debug>(
        &self,
        refusal: Option<StoreErrorKind>,
        run: &impl AsyncFn(&dyn MemoryStore) -> Result<T, StoreError>,
    ) -> bool {
        let tested = self.runtime.block_on(run(&*self.opened.store));
        let expected = match refusal {
            None => self.runtime.block_on(run(&self.reference)).map_err(kind),
            Some(refusal) => Err(refusal),
        };
        let done = expected.is_ok();
        assert_eq!(tested.map_err(kind), expected);
        done
    }

    fn both_refuse<T: std::fmt::Debug>(
        &self,
        run: &impl AsyncFn(&dyn MemoryStore) -> Result<T, StoreError>,
    ) {
        self.runtime.block_on(async {
            run(&*self.opened.store).await.unwrap_err();
            run(&self.reference).await.unwrap_err();
        });
    }

    fn outline(&self, key: &MemoryKey) -> Outline {
        self.runtime.block_on(self.reference.outline(key)).unwrap()
    }

    /// A memory that expired has forgotten its writers.
    fn forget(&mut self) {
        for k in 0..3 {
            if self.outline(&key(k)).head.version == 0 {
                self.writes.retain(|(of, _), _| *of != k);
            }
        }
    }

    /// Whether the memory does not recognize this write.
    fn is_new(&self, k: u8, writer: u8, number: u8) -> bool {
        self.writes.get(&(k, writer)).is_none_or(|newest| number > *newest)
    }

    /// A batch to write, and whether the memory does not know it.
    fn batch(&mut self, k: u8, batch: Batch) -> (Append, bool) {
        let Batch { writer, number, messages, ttl, version } = batch;
        let current = Version::from(&self.outline(&key(k)));
        let expected = match version {
            0..=5 => None,
            6 => self.versions.get(&k).copied(),
            _ => Some(current),
        };
        self.versions.insert(k, current);
        let messages = messages.into_iter().zip(self.serial..);
        let append = Append {
            write: write(writer, number),
            messages: messages.map(|(drawing, serial)| drawn(serial, drawing)).collect(),
            ttl: ttl.map(|minutes| Duration::from_mins(minutes.into())),
            expected,
        };
        let is_new = !append.messages.is_empty() && self.is_new(k, writer, number);
        (append, is_new)
    }

    fn wrote(&mut self, k: u8, write: WriteId) {
        let [writer, number] = [write.writer.bits(), write.number.into()].map(|it| it as u8);
        self.writes.insert((k, writer), number);
    }

    fn proof(&self, lease: &str, right: Right) -> Option<LeaseProof> {
        match right {
            Right::None => None,
            Right::Held => self.held.get(&LockKey::new(lease).unwrap()).copied(),
            Right::Earlier(pick) => {
                let count = self.granted.len();
                (count > 0).then(|| self.granted[usize::from(pick) % count])
            }
        }
    }

    /// The reason why a live lease forbids a write by this one.
    fn refusal(&self, lease: &str, shown: Option<LeaseProof>) -> Option<StoreErrorKind> {
        self.opened.leases.as_ref()?;
        match (shown, self.held.get(&LockKey::new(lease).unwrap())) {
            (None, Some(_)) => Some(StoreErrorKind::Locked { remaining: None }),
            (Some(shown), held) if held != Some(&shown) => Some(FENCED),
            _ => None,
        }
    }

    fn acquire(&mut self, lease: LockKey, owner: u8) {
        let owner = OwnerId::new(u128::from(owner) + 1);
        let held = self.held.get(&lease).copied();
        let granted = match &self.opened.leases {
            Some(leases) => self.runtime.block_on(leases.try_acquire(&lease, owner, TTL)).unwrap(),
            None if held.is_some_and(|held| held.owner != owner) => {
                Acquired::Held { remaining: None }
            }
            None => {
                // If leases are stored elsewhere, the store learns their tokens from writes.
                let token = FencingToken::new(self.granted.len() as u64 + 1);
                Acquired::Granted { token: held.map_or(token, |held| held.token) }
            }
        };
        match (granted, held) {
            (Acquired::Granted { token }, None) => {
                let proof = LeaseProof { owner, token };
                self.granted.push(proof);
                self.held.insert(lease, proof);
            }
            (Acquired::Granted { token }, Some(held)) => {
                assert_eq!(LeaseProof { owner, token }, held);
            }
            (Acquired::Held { .. }, Some(held)) => assert_ne!(owner, held.owner),
            (Acquired::Held { .. }, None) => panic!("a free lease was refused"),
        }
    }

    fn release(&mut self, lease: &LockKey) {
        if let Some(LeaseProof { owner, .. }) = self.held.remove(lease)
            && let Some(leases) = &self.opened.leases
        {
            let released = self.runtime.block_on(leases.release(lease, owner)).unwrap();
            assert_eq!(released, Release::Released);
        }
    }
}

/// The token that a refusal names is not compared: an expired memory no longer has its newest, and if a
/// caller presents two leases, either may be named.
const FENCED: StoreErrorKind =
    StoreErrorKind::Fenced { token: FencingToken::ZERO, newest: FencingToken::ZERO };

#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
fn kind(error: StoreError) -> StoreErrorKind {
    match error.kind().clone() {
        StoreErrorKind::Invalid(_) => StoreErrorKind::Invalid(String::new()),
        StoreErrorKind::Locked { .. } => StoreErrorKind::Locked { remaining: None },
        StoreErrorKind::Fenced { .. } => FENCED,
        kind => kind,
    }
}

fn key(name: u8) -> MemoryKey {
    MemoryKey::new("tests", "programs", &name.to_string()).unwrap()
}

#[derive(Clone, Copy)]
enum LeaseOf {
    Memory,
    Flush,
}

impl From<bool> for LeaseOf {
    fn from(flush: bool) -> Self {
        if flush { Self::Flush } else { Self::Memory }
    }
}

fn lease_of(name: u8, lease: LeaseOf) -> LockKey {
    let key = key(name);
    let name = match lease {
        LeaseOf::Memory => key.lease_name().to_owned(),
        LeaseOf::Flush => key.flush_lease_name(),
    };
    LockKey::new(name).unwrap()
}

fn write(writer: u8, number: u8) -> WriteId {
    WriterId::new(writer.into()).write(number.into())
}
