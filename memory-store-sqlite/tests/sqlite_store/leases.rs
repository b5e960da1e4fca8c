//! Leases of `SqliteLock` on the same file are checked in the same step as the write.

use std::time::Duration;

use crate::support;
use crate::support::{append, batch, checked_outline, key, texts, write};
use memory_core::lease::LeaseProof;
use memory_core::store::{
    Access, Append, AppendOutcome, Applied, Clear, Outline, Splice, StoreErrorKind,
};
use memory_core::{MemoryStore, Sequence};
use memory_lock::{
    Acquired, Clock, ClockExt as _, LockBackend, LockKey, OwnerId, Release, SqliteLock,
};
use memory_store_sqlite::{SqliteConfig, SqliteStore};
use tempfile::TempDir;

const TTL: Duration = Duration::from_secs(30);

struct Shared {
    _folder: TempDir,
    store: SqliteStore,
    lock: SqliteLock,
}

impl Shared {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("memory.db");
        let clock = Clock::tokio();
        let lock = SqliteLock::open(&path, clock.clone()).unwrap();
        let store = SqliteStore::open(SqliteConfig::new(&path).with_clock(clock)).await.unwrap();
        assert_eq!(store.lease_domain(), Some(lock.domain()));
        Self { _folder: folder, store, lock }
    }

    async fn acquire(&self, name: &str, owner: u128) -> LeaseProof {
        let owner = OwnerId::new(owner);
        let granted = self.lock.try_acquire(&LockKey::new(name).unwrap(), owner, TTL).await;
        match granted.unwrap() {
            Acquired::Granted { token } => LeaseProof { owner, token },
            held @ Acquired::Held { .. } => panic!("{held:?}"),
        }
    }

    async fn release(&self, name: &str, proof: LeaseProof) {
        let released = self.lock.release(&LockKey::new(name).unwrap(), proof.owner).await;
        assert_eq!(released.unwrap(), Release::Released);
    }
}

#[tokio::test(start_paused = true)]
async fn live_lease_locks_out_writers_without_one() {
    let shared = Shared::new().await;
    let k = key("k");
    let lease = shared.acquire(k.lease_name(), 1).await;
    tokio::time::advance(Duration::from_secs(12)).await;

    let error = append(&shared.store, &k, write(1, 1), &["open"]).await.unwrap_err();
    let remaining = Some(Duration::from_secs(18));
    assert_eq!(error.kind(), &StoreErrorKind::Locked { remaining });
    assert_eq!(error.applied(), Applied::No);
    let clear = Clear::new(write(1, 2));
    let error = shared.store.clear(&k, Access::OPEN, &clear).await.unwrap_err();
    assert_eq!(error.kind(), &StoreErrorKind::Locked { remaining });
    assert_eq!(shared.store.outline(&k).await.unwrap(), Outline::default());

    // The lease is on one memory only.
    append(&shared.store, &key("other"), write(1, 1), &["open"]).await.unwrap();
    // Its holder writes; it is free again after a release, and after it has run out.
    let mine = batch(write(2, 1), &["mine"]);
    shared.store.append(&k, Access::with_lease(lease), &mine).await.unwrap();
    shared.release(k.lease_name(), lease).await;
    append(&shared.store, &k, write(1, 1), &["open"]).await.unwrap();
    shared.acquire(k.lease_name(), 3).await;
    tokio::time::advance(TTL).await;
    append(&shared.store, &k, write(1, 2), &["open again"]).await.unwrap();
    assert_eq!(texts(&shared.store, &k).await, ["mine", "open", "open again"]);
}

#[tokio::test(start_paused = true)]
async fn expired_lease_fences_its_writer() {
    let shared = Shared::new().await;
    let k = key("k");
    let stale = shared.acquire(k.lease_name(), 1).await;
    shared.store.claim(&k, stale).await.unwrap();
    shared
        .store
        .append(&k, Access::with_lease(stale), &batch(write(1, 1), &["in time"]))
        .await
        .unwrap();
    let before = checked_outline(&shared.store, &k).await;
    assert_eq!(before.head.fence, stale.token);

    tokio::time::advance(TTL).await;
    let late = batch(write(1, 2), &["late"]);
    let fenced = |newest| StoreErrorKind::Fenced { token: stale.token, newest };
    let error = shared.store.append(&k, Access::with_lease(stale), &late).await.unwrap_err();
    assert_eq!(error.kind(), &fenced(stale.token));
    assert_eq!(error.applied(), Applied::No);

    // Another holder has it now and has not written yet: its token is known nevertheless.
    let fresh = shared.acquire(k.lease_name(), 2).await;
    assert!(fresh.token > stale.token);
    assert_eq!(
        shared.store.append(&k, Access::with_lease(stale), &late).await.unwrap_err().kind(),
        &fenced(fresh.token)
    );
    shared.store.claim(&k, fresh).await.unwrap();
    shared.release(k.lease_name(), fresh).await;
    // After the lease is released, the claim is still in the memory.
    assert_eq!(
        shared.store.append(&k, Access::with_lease(stale), &late).await.unwrap_err().kind(),
        &fenced(fresh.token)
    );
    assert_eq!(shared.store.claim(&k, stale).await.unwrap_err().kind(), &fenced(fresh.token));
    assert_eq!(checked_outline(&shared.store, &k).await.metas, before.metas);

    // An earlier write is recognized with or without a lease.
    let retry = batch(write(1, 1), &["in time"]);
    let outcome = shared.store.append(&k, Access::with_lease(stale), &retry).await.unwrap().outcome;
    assert_eq!(outcome, AppendOutcome::Duplicate { first: Some(Sequence::new(1)) });
}

#[tokio::test(start_paused = true)]
async fn right_token_of_the_wrong_owner_is_fenced() {
    let shared = Shared::new().await;
    let k = key("k");
    let lease = shared.acquire(k.lease_name(), 1).await;
    let forged = LeaseProof { owner: OwnerId::new(2), ..lease };
    let error = shared
        .store
        .append(&k, Access::with_lease(forged), &batch(write(1, 1), &["x"]))
        .await
        .unwrap_err();
    assert!(matches!(error.kind(), StoreErrorKind::Fenced { .. }), "{error}");
}

/// Leases are not synced to the disk, so a power loss may undo the newest of them. The token
/// that a write under them left in the memory is kept.
#[tokio::test(start_paused = true)]
async fn live_lease_with_an_older_token_is_fenced() {
    let shared = Shared::new().await;
    let k = key("k");
    let lease = shared.acquire(k.lease_name(), 1).await;
    shared.store.claim(&k, lease).await.unwrap();
    let file = rusqlite::Connection::open(shared.store.path()).unwrap();
    file.execute("UPDATE memory SET fence = fence + 5", ()).unwrap();
    let write = batch(write(1, 1), &["x"]);
    let error = shared.store.append(&k, Access::with_lease(lease), &write).await.unwrap_err();
    let newest = memory_core::lease::FencingToken::new(lease.token.number() + 5);
    assert_eq!(error.kind(), &StoreErrorKind::Fenced { token: lease.token, newest });
    assert_eq!(shared.store.head(&k).await.unwrap().fence, newest);
}

#[tokio::test(start_paused = true)]
async fn flushers_have_separate_lease_and_fence() {
    let shared = Shared::new().await;
    let k = key("k");
    append(&shared.store, &k, write(1, 1), &["a", "b", "c"]).await.unwrap();
    let flusher = shared.acquire(&k.flush_lease_name(), 1).await;
    // Appends continue meanwhile.
    append(&shared.store, &k, write(1, 2), &["d"]).await.unwrap();
    let evict = |generation, place, flusher| Splice {
        evicted: vec![Sequence::new(place)],
        flusher: Some(flusher),
        ..Splice::new(generation)
    };
    let generation = shared.store.head(&k).await.unwrap().generation;
    shared.store.splice(&k, Access::OPEN, &evict(generation, 1, flusher)).await.unwrap();
    let head = checked_outline(&shared.store, &k).await.head;
    assert_eq!((head.flush_fence, head.fence.number()), (flusher.token, 0));

    // A writer's lease does not allow a flush.
    let writer = shared.acquire(k.lease_name(), 2).await;
    let wrong = evict(head.generation, 2, writer);
    let error = shared.store.splice(&k, Access::with_lease(writer), &wrong).await.unwrap_err();
    assert!(matches!(error.kind(), StoreErrorKind::Fenced { .. }), "{error}");
    // A flusher without the writers' lease is locked out like any other caller.
    let locked = shared
        .store
        .splice(&k, Access::OPEN, &evict(head.generation, 2, flusher))
        .await
        .unwrap_err();
    assert!(matches!(locked.kind(), StoreErrorKind::Locked { .. }), "{locked}");
    shared.release(k.lease_name(), writer).await;

    tokio::time::advance(TTL).await;
    let error = shared
        .store
        .splice(&k, Access::OPEN, &evict(head.generation, 2, flusher))
        .await
        .unwrap_err();
    let newest = flusher.token;
    assert_eq!(error.kind(), &StoreErrorKind::Fenced { token: flusher.token, newest });
    let next = shared.acquire(&k.flush_lease_name(), 3).await;
    shared.store.splice(&k, Access::OPEN, &evict(head.generation, 2, next)).await.unwrap();
    assert_eq!(texts(&shared.store, &k).await, ["c", "d"]);
}

#[tokio::test(start_paused = true)]
async fn fences_outlive_the_ttl_of_the_data() {
    let shared = Shared::new().await;
    let k = key("k");
    let old = shared.acquire(k.lease_name(), 1).await;
    let append = Append { ttl: Some(TTL / 2), ..batch(write(1, 1), &["short-lived"]) };
    shared.store.append(&k, Access::with_lease(old), &append).await.unwrap();
    let generation = shared.store.head(&k).await.unwrap().generation;
    tokio::time::advance(TTL).await;
    assert_eq!(shared.store.outline(&k).await.unwrap(), Outline::default());
    let late = batch(write(1, 2), &["late"]);
    let error = shared.store.append(&k, Access::with_lease(old), &late).await.unwrap_err();
    assert_eq!(error.kind(), &StoreErrorKind::Fenced { token: old.token, newest: old.token });
    // The same write starts a new memory, because its writers are forgotten.
    let first = support::append(&shared.store, &k, write(1, 1), &["new"]).await.unwrap().outcome;
    assert_eq!(first, AppendOutcome::Appended { first: Sequence::new(1) });
    let outline = checked_outline(&shared.store, &k).await;
    assert_eq!((outline.head.fence, outline.metas.len()), (old.token, 1));
    assert!(outline.head.generation > generation);
}

#[tokio::test(start_paused = true)]
async fn dead_holder_ahead_locks_for_one_ttl() {
    let shared = Shared::new().await;
    let k = key("k");
    let ahead = Clock::manual();
    ahead.step_forward(Duration::from_secs(3 * 3_600));
    let lock = SqliteLock::open(shared.store.path(), ahead).unwrap();
    let dead = Shared { lock, ..shared };
    let stale = dead.acquire(k.lease_name(), 1).await;
    let stale_flusher = dead.acquire(&k.flush_lease_name(), 1).await;
    let store = &dead.store;
    for (passes, left) in [(0, 30), (29, 1)] {
        tokio::time::advance(Duration::from_secs(passes)).await;
        let error = append(store, &k, write(1, 1), &["a"]).await.unwrap_err();
        let remaining = Some(Duration::from_secs(left));
        assert_eq!(error.kind(), &StoreErrorKind::Locked { remaining });
        // Its own writes are accepted as long.
        store.claim(&k, stale).await.unwrap();
    }
    tokio::time::advance(Duration::from_secs(1)).await;
    append(store, &k, write(1, 1), &["a"]).await.unwrap();
    let error = store.claim(&k, stale).await.unwrap_err();
    assert!(matches!(error.kind(), StoreErrorKind::Fenced { .. }), "{error}");

    let generation = store.head(&k).await.unwrap().generation;
    let splice = |flusher| Splice { flusher: Some(flusher), ..Splice::new(generation) };
    store.splice(&k, Access::OPEN, &splice(stale_flusher)).await.unwrap();
    tokio::time::advance(TTL).await;
    let error = store.splice(&k, Access::OPEN, &splice(stale_flusher)).await.unwrap_err();
    assert!(matches!(error.kind(), StoreErrorKind::Fenced { .. }), "{error}");
}

#[tokio::test(start_paused = true)]
async fn lease_table_of_an_earlier_version_is_completed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("memory.db");
    let k = key("k");
    drop(SqliteStore::open(&*path).await.unwrap());
    let file = rusqlite::Connection::open(&path).unwrap();
    for column in ["ttl", "source", "renewed", "renewals", "stamp", "watched"] {
        file.execute_batch(&format!("ALTER TABLE memory_leases DROP COLUMN {column}")).unwrap();
    }
    let store = SqliteStore::open(&*path).await.unwrap();
    append(&store, &k, write(1, 1), &["a"]).await.unwrap();
    file.execute(
        "INSERT INTO memory_leases (key, owner, token, granted, expires)
         VALUES (?1, zeroblob(16), 7, 1000000, 9000000)",
        [k.lease_name()],
    )
    .unwrap();
    let error = append(&store, &k, write(1, 2), &["b"]).await.unwrap_err();
    let StoreErrorKind::Locked { remaining } = error.kind() else { panic!("{error}") };
    assert!(remaining.is_some_and(|left| left <= Duration::from_secs(8)), "{remaining:?}");
}
