//! The circuit breaker refuses calls to a dead store cheaply, and closes when the store is back.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};
use std::time::Duration;

use async_trait::async_trait;
use memory_core::conformance::{StoreFixture, run_all};
use memory_core::lease::{FencingToken, LeaseProof, OwnerId};
use memory_core::resource::CircuitBreakerSettings;
use memory_core::store::{Applied, StoreError, StoreErrorKind, StoreOperation};
use memory_core::{InMemoryStore, MemoryKey, MemoryResource, MemoryStore, Message};
use memory_core_testkit::intercept::{Hook, Intercept, Method};
use memory_instance::{CircuitBreaker, FlushMode, MemoryInstance, MemoryManager};
use memory_lock::{Clock, ClockExt as _, InProcessLock, LockManager};
use tokio::time::{Instant, sleep};

use crate::support::{checked, texts};

/// The behavior of the store.
#[derive(Debug, Clone)]
enum Mood {
    Up,
    /// Writes have no effect, and the connection breaks.
    Down,
    /// Writes are applied, and the answer is lost.
    Mute,
    /// Writes have no effect, and no answer comes.
    Hanging,
    /// It answers after this many milliseconds.
    Slow(u64),
    /// Every call is refused with this error.
    Refusing(StoreErrorKind),
}

/// A settable behavior, and the number of calls.
#[derive(Debug)]
struct Moods {
    mood: Mutex<Mood>,
    calls: AtomicU64,
}

type Moody = Intercept<Moods>;

fn moody() -> Arc<Moody> {
    let moods = Moods { mood: Mutex::new(Mood::Up), calls: AtomicU64::new(0) };
    Arc::new(Intercept::new(Arc::new(InMemoryStore::new(Clock::tokio())), moods))
}

impl Moods {
    fn becomes(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }
}

impl Hook for Moods {
    async fn around<T: Send>(
        &self,
        _: Method,
        call: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let lost = StoreError::new(
            StoreOperation::Append,
            StoreErrorKind::Unavailable("the link broke".into()),
        )
        .not_applied();
        let mood = self.mood.lock().unwrap().clone();
        match mood {
            Mood::Up => call.await,
            Mood::Down => Err(lost),
            Mood::Mute => call.await.and(Err(lost.possibly_applied())),
            Mood::Hanging => std::future::pending().await,
            Mood::Slow(millis) => {
                sleep(Duration::from_millis(millis)).await;
                call.await
            }
            Mood::Refusing(kind) => {
                Err(StoreError::new(StoreOperation::Append, kind).not_applied())
            }
        }
    }
}

const FAILURES: u32 = 3;
const RESET: Duration = Duration::from_secs(10);
const TIMEOUT: Duration = Duration::from_secs(2);

fn settings() -> CircuitBreakerSettings {
    let mut settings = CircuitBreakerSettings::default();
    (settings.failure_threshold, settings.reset_timeout) = (FAILURES, RESET);
    settings.timeout = TIMEOUT;
    settings
}

fn key() -> MemoryKey {
    MemoryKey::new("p", "m", "k").unwrap()
}

/// A store and a breaker around it.
fn pair() -> (Arc<Moody>, Arc<CircuitBreaker>) {
    let store = moody();
    let breaker = CircuitBreaker::new(store.clone(), settings());
    (store, Arc::new(breaker))
}

/// The remaining time of the open state, from the breaker's error.
fn refused<T>(answer: Result<T, StoreError>) -> Duration {
    match answer.err().expect("the breaker is open").kind() {
        StoreErrorKind::CircuitOpen { failures: FAILURES, retry_after } => *retry_after,
        other => panic!("not refused by the breaker: {other}"),
    }
}

async fn open(store: &Moody, breaker: &CircuitBreaker) {
    store.hook().becomes(Mood::Down);
    for _ in 0..FAILURES {
        let error = breaker.head(&key()).await.unwrap_err();
        assert!(matches!(error.kind(), StoreErrorKind::Unavailable(_)), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn open_breaker_refuses_and_reports_retry_after() {
    let (store, breaker) = pair();
    open(&store, &breaker).await;
    let calls = store.hook().calls();
    assert_eq!(calls, u64::from(FAILURES));
    let begun = Instant::now();
    assert_eq!(refused(breaker.head(&key()).await), RESET);
    let limit = NonZeroUsize::MIN;
    assert_eq!(refused(breaker.keys(None, limit).await), RESET);
    assert_eq!(begun.elapsed(), Duration::ZERO, "at once");
    sleep(Duration::from_millis(1_800)).await;
    let error = breaker.outline(&key()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "read from p:m:k: circuit breaker open after 3 failures in a row, so this was not sent; try again in 8.2s",
    );
    assert_eq!((error.applied(), error.is_retryable()), (Applied::No, false));
    sleep(refused(breaker.receipts(&key()).await) - Duration::from_millis(1)).await;
    refused(breaker.head(&key()).await);
    assert_eq!(store.hook().calls(), calls, "nothing reached the store");
}

#[tokio::test(start_paused = true)]
async fn only_consecutive_failures_open_the_breaker() {
    let (store, breaker) = pair();
    for _ in 0..5 {
        store.hook().becomes(Mood::Down);
        for _ in 1..FAILURES {
            breaker.head(&key()).await.unwrap_err();
        }
        store.hook().becomes(Mood::Up);
        breaker.head(&key()).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn answered_probe_closes_the_breaker() {
    let (store, breaker) = pair();
    open(&store, &breaker).await;
    store.hook().becomes(Mood::Up);
    sleep(RESET).await;
    breaker.head(&key()).await.unwrap();
    // Opening it again takes the full number of failures.
    open(&store, &breaker).await;
    assert_eq!(refused(breaker.head(&key()).await), RESET);
}

#[tokio::test(start_paused = true)]
async fn failed_probe_reopens_for_the_whole_reset_timeout() {
    let (store, breaker) = pair();
    open(&store, &breaker).await;
    for _ in 0..3 {
        sleep(RESET).await;
        let calls = store.hook().calls();
        let error = breaker.head(&key()).await.unwrap_err();
        assert!(matches!(error.kind(), StoreErrorKind::Unavailable(_)), "{error}");
        assert_eq!(refused(breaker.head(&key()).await), RESET);
        assert_eq!(store.hook().calls(), calls + 1);
    }
}

#[tokio::test(start_paused = true)]
async fn success_threshold_probes_close_the_breaker() {
    let store = moody();
    let mut settings = settings();
    settings.success_threshold = 2;
    let breaker = CircuitBreaker::new(store.clone(), settings);
    open(&store, &breaker).await;
    sleep(RESET).await;
    store.hook().becomes(Mood::Up);
    breaker.head(&key()).await.unwrap();
    store.hook().becomes(Mood::Down);
    breaker.head(&key()).await.unwrap_err();
    assert_eq!(refused(breaker.head(&key()).await), RESET, "one probe was not enough");
    sleep(RESET).await;
    store.hook().becomes(Mood::Up);
    breaker.head(&key()).await.unwrap();
    breaker.head(&key()).await.unwrap();
    store.hook().becomes(Mood::Down);
    let error = breaker.head(&key()).await.unwrap_err();
    assert!(matches!(error.kind(), StoreErrorKind::Unavailable(_)));
    store.hook().becomes(Mood::Up);
    breaker.head(&key()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn one_probe_at_a_time_is_admitted() {
    let (store, breaker) = pair();
    open(&store, &breaker).await;
    sleep(RESET).await;
    store.hook().becomes(Mood::Slow(1_500));
    let calls = store.hook().calls();
    let probing = Arc::clone(&breaker);
    let probe = tokio::spawn(async move { probing.head(&key()).await });
    sleep(Duration::from_millis(500)).await;
    for _ in 0..10 {
        // The probe has an answer by then, or counts as failed.
        assert_eq!(refused(breaker.head(&key()).await), Duration::from_millis(1_500));
    }
    assert_eq!(store.hook().calls(), calls + 1, "only the probe");
    probe.await.unwrap().unwrap();
    store.hook().becomes(Mood::Up);
    breaker.head(&key()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn unpolled_probe_blocks_no_other_call() {
    let (store, breaker) = pair();
    open(&store, &breaker).await;
    sleep(RESET).await;
    store.hook().becomes(Mood::Hanging);
    let key = key();
    let mut kept = breaker.head(&key);
    assert!(kept.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    store.hook().becomes(Mood::Up);
    sleep(TIMEOUT).await;
    breaker.head(&key).await.unwrap();
    // The new probe closed the breaker; the end of the old one does not change that.
    drop(kept);
    breaker.head(&key).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn dropped_probe_makes_room_for_the_next() {
    let (store, breaker) = pair();
    open(&store, &breaker).await;
    sleep(RESET).await;
    store.hook().becomes(Mood::Hanging);
    for _ in 0..3 {
        let key = key();
        let probe = breaker.head(&key);
        tokio::time::timeout(Duration::from_millis(100), probe).await.unwrap_err();
    }
    // A probe that was never polled takes no place.
    drop(breaker.head(&key()));
    store.hook().becomes(Mood::Up);
    breaker.head(&key()).await.unwrap();
    breaker.head(&key()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn hanging_store_times_out_and_counts_as_failure() {
    let (store, breaker) = pair();
    store.hook().becomes(Mood::Hanging);
    for failure in 1..=FAILURES {
        let begun = Instant::now();
        let (error, applied) = if failure == 1 {
            let lease = LeaseProof { owner: OwnerId::new(7), token: FencingToken::new(1) };
            (breaker.claim(&key(), lease).await.unwrap_err(), Applied::Unknown)
        } else {
            (breaker.head(&key()).await.unwrap_err(), Applied::No)
        };
        assert_eq!(begun.elapsed(), TIMEOUT);
        assert_eq!(error.applied(), applied);
        assert!(error.to_string().contains("p:m:k: the store did not answer: no answer within 2s"));
    }
    refused(breaker.head(&key()).await);
    // A probe times out too.
    sleep(RESET).await;
    breaker.head(&key()).await.unwrap_err();
    assert_eq!(refused(breaker.head(&key()).await), RESET);
}

#[tokio::test(start_paused = true)]
async fn refusal_counts_as_answer() {
    let (store, breaker) = pair();
    let kinds = [
        StoreErrorKind::Locked { remaining: None },
        StoreErrorKind::Conflict,
        StoreErrorKind::Invalid("a test".into()),
        StoreErrorKind::Fenced { token: FencingToken::new(1), newest: FencingToken::new(2) },
        StoreErrorKind::Full("a test".into()),
    ];
    for kind in kinds {
        store.hook().becomes(Mood::Refusing(kind.clone()));
        for _ in 0..2 * FAILURES {
            assert_eq!(breaker.head(&key()).await.unwrap_err().kind(), &kind);
        }
    }
    open(&store, &breaker).await;
    sleep(RESET).await;
    store.hook().becomes(Mood::Refusing(StoreErrorKind::Conflict));
    breaker.head(&key()).await.unwrap_err();
    store.hook().becomes(Mood::Up);
    breaker.head(&key()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn open_inner_breaker_is_not_counted() {
    let (store, inner) = pair();
    let mut patient = settings();
    patient.failure_threshold = FAILURES + 1;
    let outer = CircuitBreaker::new(inner.clone(), patient);
    open(&store, &outer).await;
    for _ in 0..5 {
        refused(outer.head(&key()).await);
    }
    sleep(RESET).await;
    outer.head(&key()).await.unwrap_err();
    // The fourth failure in a row: the refusals in between have not interrupted the row.
    match outer.head(&key()).await.unwrap_err().kind() {
        StoreErrorKind::CircuitOpen { failures, .. } => assert_eq!(*failures, FAILURES + 1),
        other => panic!("{other}"),
    }
}

#[tokio::test(start_paused = true)]
async fn answer_from_before_opening_does_not_close() {
    let (store, breaker) = pair();
    store.hook().becomes(Mood::Slow(1_999));
    let late = Arc::clone(&breaker);
    let late = tokio::spawn(async move { late.head(&key()).await });
    sleep(Duration::from_millis(1)).await;
    open(&store, &breaker).await;
    late.await.unwrap().unwrap();
    refused(breaker.head(&key()).await);
}

#[tokio::test(start_paused = true)]
async fn late_answer_does_not_count_as_probe() {
    let store = moody();
    let mut quick = settings();
    quick.reset_timeout = Duration::from_millis(500);
    let breaker = Arc::new(CircuitBreaker::new(store.clone(), quick));
    let spawn = |breaker: &Arc<CircuitBreaker>| {
        let breaker = Arc::clone(breaker);
        tokio::spawn(async move { breaker.head(&key()).await })
    };
    store.hook().becomes(Mood::Slow(1_000));
    let late = spawn(&breaker);
    sleep(Duration::from_millis(1)).await;
    open(&store, &breaker).await;
    sleep(Duration::from_millis(600)).await;
    store.hook().becomes(Mood::Hanging);
    let probe = spawn(&breaker);
    late.await.unwrap().unwrap();
    refused(breaker.head(&key()).await);
    probe.await.unwrap().unwrap_err();
    refused(breaker.head(&key()).await);
}

/// In-memory stores with breakers around them.
#[derive(Debug)]
struct Guarded;

#[async_trait]
impl StoreFixture for Guarded {
    async fn fresh(&self, clock: Clock) -> Arc<dyn MemoryStore> {
        let store = Arc::new(InMemoryStore::new(clock));
        Arc::new(CircuitBreaker::new(store, settings()))
    }
}

#[tokio::test]
async fn store_behind_a_breaker_keeps_the_contract() {
    run_all(&Guarded).await;
}

struct World {
    store: Arc<Moody>,
    manager: MemoryManager,
}

impl World {
    fn new() -> Self {
        let locks = LockManager::new(Arc::new(InProcessLock::new(Clock::tokio())));
        let store = moody();
        let mut guarded = MemoryResource::new("m", 1 << 20);
        guarded.circuit_breaker = Some(settings());
        let manager = MemoryManager::builder()
            .with_clock(Clock::tokio())
            .with_resource(guarded)
            .with_resource(MemoryResource::new("plain", 1 << 20))
            .with_flush_mode(FlushMode::Manual)
            .build(store.clone(), locks)
            .unwrap();
        Self { store, manager }
    }

    fn memory(&self) -> MemoryInstance {
        self.manager.memory("m", "k").unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn failed_append_can_be_sent_after_recovery() {
    for (mood, applied) in [(Mood::Down, Applied::No), (Mood::Mute, Applied::Unknown)] {
        let lands = matches!(mood, Mood::Mute);
        let world = World::new();
        let memory = world.memory();
        memory.append(Message::user("before")).await.unwrap();
        world.store.hook().becomes(mood);
        let begun = Instant::now();
        let error = memory.append(Message::user("meanwhile")).await.unwrap_err();
        assert!(begun.elapsed() < Duration::from_millis(200), "{:?}", begun.elapsed());
        assert_eq!(error.applied(), applied, "what an earlier attempt may have done counts");
        let text = error.to_string();
        assert!(text.starts_with("append to default:m:k: circuit breaker open"), "{text}");
        assert!(text.ends_with("try again in 10.0s"), "{text}");
        let Some(&StoreErrorKind::CircuitOpen { retry_after, .. }) = error.store_kind() else {
            panic!("{error}");
        };
        let calls = world.store.hook().calls();
        for _ in 0..100 {
            let refused = memory.append(Message::user("refused")).await.unwrap_err();
            assert_eq!(refused.applied(), Applied::No);
        }
        assert_eq!(world.store.hook().calls(), calls, "nothing reached the store");
        sleep(retry_after).await;
        world.store.hook().becomes(Mood::Up);
        let prepared = error.into_prepared().expect("it can be sent again");
        let sent = memory.send(&prepared).await.unwrap();
        assert_eq!(sent.outcome.is_duplicate(), lands);
        assert_eq!(texts(&memory).await, ["before", "meanwhile"]);
        checked(&memory, &world.manager).await;
    }
}

#[tokio::test(start_paused = true)]
async fn hanging_store_costs_only_first_callers_a_timeout() {
    let world = World::new();
    world.store.hook().becomes(Mood::Hanging);
    let append = |name: String| {
        let memory = world.manager.memory("m", &name).unwrap();
        async move {
            let begun = Instant::now();
            let error = memory.append(Message::user("x")).await.unwrap_err();
            assert!(
                matches!(error.store_kind(), Some(StoreErrorKind::CircuitOpen { .. })),
                "{error}"
            );
            (begun.elapsed(), error.applied())
        }
    };
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..FAILURES {
        tasks.spawn(append(format!("k{number}")));
    }
    for (took, applied) in tasks.join_all().await {
        assert!(took < TIMEOUT + Duration::from_millis(100), "{took:?}");
        assert_eq!(applied, Applied::Unknown, "it was sent once");
    }
    assert_eq!(append("later".into()).await, (Duration::ZERO, Applied::No));
}

/// A write under a lease is sent again before other writers time out, but not before the breaker has counted it.
#[tokio::test(start_paused = true)]
async fn hanging_store_opens_breaker_despite_leases() {
    let locks = LockManager::new(Arc::new(InProcessLock::new(Clock::tokio())));
    let store = moody();
    let mut resource = MemoryResource::new("m", 1 << 20);
    resource.lock.wait_timeout = Duration::from_secs(6);
    resource.circuit_breaker = Some(settings());
    let manager = MemoryManager::builder().with_clock(Clock::tokio()).with_resource(resource);
    let manager = manager.build(store.clone(), locks).unwrap();
    let memory = manager.memory("m", "k").unwrap();
    store.hook().becomes(Mood::Hanging);
    for _ in 0..settings().failure_threshold {
        memory.append(Message::user("lost")).await.unwrap_err();
    }
    let error = memory.append(Message::user("refused")).await.unwrap_err();
    assert!(matches!(error.store_kind(), Some(StoreErrorKind::CircuitOpen { .. })), "{error}");
}

#[tokio::test(start_paused = true)]
async fn open_breaker_refuses_every_operation() {
    let world = World::new();
    let memory = world.memory();
    world.store.hook().becomes(Mood::Down);
    memory.append(Message::user("opens it")).await.unwrap_err();
    let calls = world.store.hook().calls();
    let begun = Instant::now();
    let errors = [
        memory.health().await.unwrap_err(),
        memory.messages().await.unwrap_err(),
        memory.context(100).await.unwrap_err(),
        memory.clear().await.unwrap_err(),
        memory.perform_flush().await.unwrap_err(),
        memory.receipts().await.unwrap_err(),
    ];
    for error in errors {
        let text = error.to_string();
        assert!(text.contains("default:m:k: circuit breaker open"), "{text}");
        assert!(matches!(error.store_kind(), Some(StoreErrorKind::CircuitOpen { .. })));
    }
    let turn = memory.exclusive(|_| async {}).await.unwrap_err();
    assert!(turn.to_string().contains("circuit breaker open"), "{turn}");
    assert!(begun.elapsed() < Duration::from_millis(100), "{:?}", begun.elapsed());
    assert_eq!(world.store.hook().calls(), calls);
}

#[tokio::test(start_paused = true)]
async fn each_resource_has_its_own_breaker() {
    let world = World::new();
    let (memory, other) = (world.memory(), world.manager.memory("m", "other").unwrap());
    world.store.hook().becomes(Mood::Down);
    memory.append(Message::user("opens it")).await.unwrap_err();
    world.store.hook().becomes(Mood::Up);
    let error = other.len().await.unwrap_err();
    assert!(matches!(error.store_kind(), Some(StoreErrorKind::CircuitOpen { .. })));
    let plain = world.manager.memory("plain", "k").unwrap();
    plain.append(Message::user("no breaker")).await.unwrap();
    world.manager.store().head(memory.key()).await.unwrap();
}
