//! Random programs, and a model of a few lines that gives the answers that each backend must give.

use std::collections::HashMap;
use std::time::Duration;

use memory_lock::{
    Acquired, FencingToken, HandOver, Lease, LockBackend, LockKey, OwnerId, Release, Renewal,
};
use proptest::prelude::*;

#[derive(Debug, Clone)]
pub(crate) enum Step {
    TryAcquire(u8, u8, u64),
    Renew(Vec<(u8, u8, u64)>),
    Release(u8, u8),
    ReleaseNow(u8, u8),
    HandOver(u8, u8, u8, u64),
    Inspect(u8),
    Pass(u64),
}

pub(crate) fn steps() -> impl Strategy<Value = Vec<Step>> {
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

/// For each key, the owner, token and expiry of the lease, and the last token.
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

    /// Adopts the token that the backend chose, which may be any greater one.
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

/// The time that leases use.
pub(crate) trait Time: Sync {
    /// The unit of TTLs.
    const UNIT: Duration;

    /// Advances time; afterwards each lease in `left` has this much remaining.
    fn pass(&self, units: u32, left: &[(LockKey, Duration)]) -> impl Future<Output = ()> + Send;
}

fn key(number: u8) -> LockKey {
    LockKey::new(format!("k{number}")).unwrap()
}

fn owner(number: u8) -> OwnerId {
    OwnerId::new(u128::from(number) << 100 | u128::from(number))
}

fn units<T: Time>(number: u64) -> Duration {
    T::UNIT * u32::try_from(number).unwrap()
}

/// The remaining time of a lease, rounded up to a full unit, because a program takes some time.
fn whole<T: Time>(left: Duration) -> u64 {
    u64::try_from(left.as_nanos().div_ceil(T::UNIT.as_nanos())).unwrap()
}

/// Runs the program on a backend that holds no leases.
pub(crate) async fn run<T: Time>(backend: &dyn LockBackend, time: &T, steps: Vec<Step>) {
    let mut model = Model::default();
    for step in steps {
        match step {
            Step::Pass(passed) => {
                let live: Vec<_> = (0..3)
                    .filter_map(|k| model.live(k).map(|(.., expires)| (k, expires)))
                    .collect();
                model.now += passed;
                let left = |expires: u64| units::<T>(expires.saturating_sub(model.now));
                let left: Vec<_> =
                    live.into_iter().map(|(k, expires)| (key(k), left(expires))).collect();
                time.pass(u32::try_from(passed).unwrap(), &left).await;
            }
            Step::TryAcquire(k, o, ttl) => {
                let answer = backend.try_acquire(&key(k), owner(o), units::<T>(ttl)).await.unwrap();
                match (answer, model.live(k)) {
                    (Acquired::Granted { token }, None) => model.grant(k, o, token, ttl),
                    (Acquired::Granted { token }, Some((holder, had, _))) => {
                        assert_eq!((holder, had), (o, token));
                        model.renew(k, o, ttl);
                    }
                    (Acquired::Held { remaining }, Some((holder, _, expires))) => {
                        assert_ne!(holder, o);
                        assert_eq!(remaining.map(whole::<T>), Some(expires - model.now));
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
                        ttl: units::<T>(*ttl),
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
                if !backend.release_now(&key(k), owner(o)) {
                    backend.release(&key(k), owner(o)).await.unwrap();
                }
                model.release(k, o);
            }
            Step::HandOver(k, from, to, ttl) => {
                let (a, b) = (owner(from), owner(to));
                let answer = backend.hand_over(&key(k), a, b, units::<T>(ttl)).await.unwrap();
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
                let found =
                    found.map(|lease| (lease.owner, lease.token, whole::<T>(lease.remaining)));
                let expected =
                    model.live(k).map(|(o, token, expires)| (owner(o), token, expires - model.now));
                assert_eq!(found, expected);
            }
        }
    }
}
