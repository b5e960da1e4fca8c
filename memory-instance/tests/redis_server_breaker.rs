//! A real server that dies and recovers behind a circuit breaker, and one that may evict memories.

#![cfg(feature = "redis")]

use std::time::Duration;

use memory_core::health::{ServerWarning, Verdict};
use memory_core::resource::CircuitBreakerSettings;
use memory_core::store::StoreErrorKind;
use memory_core::{MemoryResource, Message};
use memory_instance::{FlushMode, MemoryError, MemoryManager};
use memory_redis_testkit::{Proxy, Server};
use tokio::time::{Instant, sleep};

const FAILURES: u32 = 3;
const RESET: Duration = Duration::from_millis(1_500);

fn open_until(error: &MemoryError) -> Option<Duration> {
    let MemoryError::Store(error) = error else { panic!("{error}") };
    match error.kind() {
        StoreErrorKind::CircuitOpen { failures: FAILURES, retry_after } => Some(*retry_after),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_server_is_refused_and_used_after_recovery() {
    let server = Server::start_with(&["--appendonly", "yes", "--appendfsync", "always"]).await;
    let proxy = Proxy::in_front_of(server.url()).await;
    let mut resource = MemoryResource::new("m", 10_000);
    let mut breaker = CircuitBreakerSettings::default();
    breaker.timeout = Duration::from_millis(500);
    breaker.failure_threshold = FAILURES;
    breaker.reset_timeout = RESET;
    breaker.success_threshold = 1;
    resource.circuit_breaker = Some(breaker);
    let builder =
        MemoryManager::builder().with_resource(resource).with_flush_mode(FlushMode::Manual);
    let manager = builder.open(proxy.url()).await.unwrap();
    let memory = manager.memory("m", "k").unwrap();
    memory.append(Message::user("before")).await.unwrap();

    server.kill();
    for failure in 1..=FAILURES {
        let error = memory.len().await.unwrap_err();
        assert_eq!(open_until(&error), None, "failure {failure}: the server is asked");
    }
    let (opened, asked) = (Instant::now(), proxy.connections());
    let retry_after = open_until(&memory.len().await.unwrap_err()).unwrap();
    assert!(retry_after <= RESET && retry_after > RESET / 2, "{retry_after:?}");
    for _ in 0..100 {
        assert!(open_until(&memory.len().await.unwrap_err()).is_some());
    }
    let took = opened.elapsed();
    assert!(took < RESET / 2, "101 answers took {took:?}");
    assert_eq!(proxy.connections(), asked, "nobody was asked");

    // The probe finds the server still down and opens the circuit again.
    sleep(retry_after).await;
    assert_eq!(open_until(&memory.len().await.unwrap_err()), None, "a probe");
    let retry_after = open_until(&memory.len().await.unwrap_err()).unwrap();

    server.restart().await;
    sleep(retry_after).await;
    assert_eq!(memory.len().await.unwrap(), 1, "a probe closes it");
    memory.append(Message::user("after")).await.unwrap();
    assert_eq!(memory.len().await.unwrap(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memories_at_risk_of_eviction_are_degraded() {
    let server = Server::start_with(&["--maxmemory-policy", "volatile-lru"]).await;
    let mut kept = MemoryResource::new("kept", 1_000);
    kept.persistence.ttl = None;
    let mut expires = MemoryResource::new("expires", 1_000);
    expires.persistence.ttl = Some(Duration::from_secs(3_600));
    let open = async || {
        let builder =
            MemoryManager::builder().with_resource(kept.clone()).with_resource(expires.clone());
        builder.open(server.url()).await.unwrap()
    };
    let manager = open().await;
    let [warning] = manager.warnings() else { panic!("{:?}", manager.warnings()) };
    assert_eq!(warning.resources, ["expires"]);
    assert_eq!(warning.warning, ServerWarning::Eviction { policy: "volatile-lru".into() });
    assert!(warning.to_string().contains("set maxmemory-policy to noeviction"), "{warning}");

    let degraded = async |resource: &str| {
        let memory = manager.memory(resource, "k").unwrap();
        memory.append(Message::user("hello")).await.unwrap();
        let health = memory.health().await.unwrap();
        let warnings = health.server.unwrap().warnings.len();
        let degraded = match health.verdict {
            Verdict::Degraded { why } => {
                assert!(why.contains("set maxmemory-policy to noeviction"), "{why}");
                true
            }
            verdict => {
                assert_eq!(verdict, Verdict::Healthy);
                false
            }
        };
        (warnings, degraded)
    };
    assert_eq!(degraded("expires").await, (1, true));
    assert_eq!(degraded("kept").await, (1, false), "without a TTL it is not dropped");
    server.command(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]).await;
    assert_eq!(degraded("kept").await, (1, true), "now any may be dropped");
    server.command(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]).await;
    assert_eq!(degraded("expires").await, (0, false));
    assert_eq!(open().await.warnings(), []);
}
