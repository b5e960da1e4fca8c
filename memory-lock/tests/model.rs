//! Random programs run on each backend and on a model of a few lines; both must answer alike.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use memory_lock::{
    Acquired, Clock, FencingToken, HandOver, InProcessLock, Lease, LockBackend, LockKey, OwnerId,
    Release, Renewal,
};
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Step {
    TryAcquire(u8, u8, u64),
    Renew(Vec<(u8, u8, u64)>),
    Release(u8, u8),
    ReleaseNow(u8, u8),
    HandOver(u8, u8, u8, u64),
    Inspect(u8),
    Pass(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let key = 0..3u8;
    let owner = 0..4u8;
    let ttl = 1..40u64;
    let step = prop_oneof![
        5 => (key.clone(), owner.clone(), ttl.clone()).prop_map(|(k, o, t)| Step::TryAcquire(k, o, t)),
        2 => proptest::collection::vec((key.clone(), owner.clone(), ttl.clone()), 0..4)
            .prop_map(Step::Renew),
        3 => (key.clone(), owner.clone()).prop_map(|(k, o)| Step::Release(k, o)),
        1 => (key.clone(), owner.clone()).prop_map(|(k, o)| Step::ReleaseNow(k, o)),
        3 => (key.clone(), owner.clone(), owner, ttl).prop_map(|(k, a, b, t)| Step::HandOver(k, a, b, t)),
        2 => key.prop_map(Step::Inspect),
        3 => (0..30u64).prop_map(Step::Pass),
    ];
    proptest::collection::vec(step, 1..60)
}

/// Owner, token and expiry of what is held, and the last token, for each key.
#[derive(Default)]
struct Model {
    now: u64,
    held: HashMap<u8, (u8, FencingToken, u64)>,
    last: HashMap<u8, FencingToken>,
}

impl Model {
    fn live(&self, key: u8) -> Option<(u8, FencingToken, u64)> {
        self.held.get(&key).copied().filter(|(.., expires)| *expires > self.now)
    }

    /// Takes over the token that the backend chose, which may be any greater one.
    fn grant(&mut self, key: u8, owner: u8, token: FencingToken, ttl: u64) {
        let last = self.last.insert(key, token).unwrap_or(FencingToken::ZERO);
        assert!(token > last, "token {token} after {last}");
        self.held.insert(key, (owner, token, self.now + ttl));
    }

    fn release(&mut self, key: u8, owner: u8) -> Release {
        match self.live(key) {
            Some((holder, ..)) if holder == owner => {
                self.held.remove(&key);
                Release::Released
            }
            _ => Release::NotOwner,
        }
    }

    fn renew(&mut self, key: u8, owner: u8, ttl: u64) -> Renewal {
        match self.live(key) {
            Some((holder, token, _)) if holder == owner => {
                self.held.insert(key, (owner, token, self.now + ttl));
                Renewal::Renewed
            }
            Some(_) => Renewal::NotOwner,
            None => Renewal::Vanished,
        }
    }
}

fn key(number: u8) -> LockKey {
    LockKey::new(format!("k{number}")).unwrap()
}

fn owner(number: u8) -> OwnerId {
    OwnerId::new(u128::from(number) << 100 | u128::from(number))
}

fn millis(number: u64) -> Duration {
    Duration::from_millis(number)
}

async fn run(backend: Arc<dyn LockBackend>, clock: Clock, steps: Vec<Step>) {
    let mut model = Model::default();
    for step in steps {
        match step {
            Step::Pass(time) => {
                clock.advance(millis(time));
                model.now += time;
            }
            Step::TryAcquire(k, o, ttl) => {
                let answer = backend.try_acquire(&key(k), owner(o), millis(ttl)).await.unwrap();
                match (answer, model.live(k)) {
                    (Acquired::Granted { token }, None) => model.grant(k, o, token, ttl),
                    (Acquired::Granted { token }, Some((holder, had, _))) => {
                        assert_eq!((holder, had), (o, token));
                        model.renew(k, o, ttl);
                    }
                    (Acquired::Held { remaining }, Some((holder, _, expires))) => {
                        assert_ne!(holder, o);
                        assert_eq!(remaining, Some(millis(expires - model.now)));
                    }
                    (Acquired::Held { .. }, None) => panic!("a free lease was refused"),
                }
            }
            Step::Renew(batch) => {
                let leases: Vec<_> = batch
                    .iter()
                    .map(|(k, o, ttl)| Lease {
                        key: key(*k),
                        owner: owner(*o),
                        token: FencingToken::ZERO,
                        ttl: millis(*ttl),
                    })
                    .collect();
                let answers = backend.renew(&leases).await.unwrap();
                let expected: Vec<_> =
                    batch.iter().map(|(k, o, ttl)| model.renew(*k, *o, *ttl)).collect();
                assert_eq!(answers, expected);
            }
            Step::Release(k, o) => {
                let answer = backend.release(&key(k), owner(o)).await.unwrap();
                assert_eq!(answer, model.release(k, o));
            }
            Step::ReleaseNow(k, o) => {
                assert!(backend.release_now(&key(k), owner(o)));
                model.release(k, o);
            }
            Step::HandOver(k, from, to, ttl) => {
                let (a, b) = (owner(from), owner(to));
                let answer = backend.hand_over(&key(k), a, b, millis(ttl)).await.unwrap();
                match (answer, model.live(k)) {
                    (HandOver::HandedOver { token }, Some((holder, had, _))) if holder == to => {
                        assert_eq!(token, had);
                        model.renew(k, to, ttl);
                    }
                    (HandOver::HandedOver { token }, Some((holder, ..))) if holder == from => {
                        model.grant(k, to, token, ttl);
                    }
                    (HandOver::NotOwner, Some((holder, ..))) if holder != from && holder != to => {}
                    (HandOver::NotOwner, None) => {}
                    other => panic!("{other:?}"),
                }
            }
            Step::Inspect(k) => {
                let found = backend.inspect(&key(k)).await.unwrap();
                let found = found.map(|lease| (lease.owner, lease.token, lease.remaining));
                let expected = model
                    .live(k)
                    .map(|(o, token, expires)| (owner(o), token, millis(expires - model.now)));
                assert_eq!(found, expected);
            }
        }
    }
}

fn block_on(future: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn the_in_process_backend_answers_like_the_model(steps in steps()) {
        let clock = Clock::manual();
        let backend = Arc::new(InProcessLock::new(clock.clone()));
        block_on(run(backend, clock, steps));
    }
}

#[cfg(feature = "sqlite")]
proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    #[test]
    fn the_sqlite_backend_answers_like_the_model(steps in steps()) {
        let (dir, clock) = (tempfile::tempdir().unwrap(), Clock::manual());
        let path = dir.path().join("leases.db");
        let backend = Arc::new(memory_lock::SqliteLock::open(path, clock.clone()).unwrap());
        block_on(run(backend, clock, steps));
    }
}
