//! A circuit breaker before a real server that dies and comes back.

#![cfg(feature = "redis")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that fails panics")]

use std::time::Duration;

use memory_core::{CircuitBreakerSettings, MemoryResource, Message, StoreErrorKind};
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
async fn a_dead_server_costs_its_callers_little_and_is_used_again_when_it_is_back() {
    let server = Server::start_with(&["--appendonly", "yes", "--appendfsync", "always"]).await;
    let proxy = Proxy::in_front_of(server.url()).await;
    let mut resource = MemoryResource::new("m", 10_000);
    resource.circuit_breaker = Some(CircuitBreakerSettings {
        timeout: Duration::from_millis(500),
        failure_threshold: FAILURES,
        reset_timeout: RESET,
        success_threshold: 1,
    });
    let builder = MemoryManager::builder().resource(resource).flush_mode(FlushMode::Manual);
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

    // The probe that finds the server still gone opens the breaker again.
    sleep(retry_after).await;
    assert_eq!(open_until(&memory.len().await.unwrap_err()), None, "a probe");
    let retry_after = open_until(&memory.len().await.unwrap_err()).unwrap();

    server.restart().await;
    sleep(retry_after).await;
    assert_eq!(memory.len().await.unwrap(), 1, "a probe closes it");
    memory.append(Message::user("after")).await.unwrap();
    assert_eq!(memory.len().await.unwrap(), 2);
}
