//! P13: malformed input, and the error text for each case.
//!
//! The tables for malformed resources, messages and templates are beside the code that parses them
//! (`memory-core`: `resource/tests/refusals.rs`, `message/tests.rs`; here: `template.rs`).

use std::path::Path;
use std::sync::Arc;

use memory_core::MemoryResource;
use memory_instance::MemoryManager;
use memory_lock::{InProcessLock, LockManager};

use crate::support;

async fn open(url: &str) -> Result<MemoryManager, String> {
    let opened = MemoryManager::builder().open(url).await;
    opened.map_err(|error| error.to_string())
}

#[tokio::test]
async fn invalid_urls_report_the_valid_form() {
    for (url, error) in [
        (
            "memory.db",
            "store URL `memory.db`: has no scheme; write memory://, sqlite://PATH or redis://HOST, such as sqlite://memory.db",
        ),
        ("memory://x", "store URL `memory://x`: takes nothing after memory://; remove the rest"),
        (
            "sqlite://",
            "store URL `sqlite://`: names no file; write a path, such as sqlite://memory.db",
        ),
        (
            "sqlite://x.db?mode=ro",
            "store URL `sqlite://x.db?mode=ro`: has the unknown setting `mode=ro`; there are synchronous=full, synchronous=normal, links=refuse and links=allow",
        ),
        (
            "sqlite://file:x.db?mode=memory",
            "store URL `sqlite://file:x.db?mode=memory`: has the unknown setting `mode=memory`; there are synchronous=full, synchronous=normal, links=refuse and links=allow",
        ),
        #[cfg(feature = "redis")]
        (
            "redis://user:secret@host,other/0",
            "store URL `redis://***@host,other/0`: the URL names several hosts; for these write redis+cluster:// or redis+sentinel://",
        ),
        (
            "postgres://h",
            "store URL `postgres://h`: has an unknown scheme; write memory://, sqlite://PATH or redis://HOST",
        ),
        ("", "store URL ``: is empty; write memory://, sqlite://PATH or redis://HOST"),
    ] {
        assert_eq!(open(url).await.unwrap_err(), error, "{url}");
    }
    assert!(!Path::new("x.db").exists(), "a refused URL makes no file");
}

#[tokio::test]
async fn resources_with_unmet_needs_are_refused() {
    let mut unknown = MemoryResource::new("m", 1_000);
    unknown.flushing_strategy.kind = Some("lru".into());
    let mut durable = MemoryResource::new("m", 1_000);
    durable.persistence.durability = Some(memory_core::store::Durability::Disk);
    let mut pattern = MemoryResource::new("m", 1_000);
    pattern.privacy_policy.redact_patterns = vec!["(".into()];
    for (resource, error) in [
        (
            unknown,
            "resource `m`: flushing_strategy.type: `lru` is not known; choose fifo, priority, hybrid_summary or clear_tool_results, or register a custom strategy",
        ),
        (
            durable,
            "resource `m`: persistence.durability: the store provides `memory`, not `disk`; open it with a more durable setting, or lower `durability`",
        ),
        (pattern, "resource `m`: privacy_policy.redact_patterns[0]: is not a regular expression"),
    ] {
        let refused = MemoryManager::builder().with_resource(resource).open("memory://").await;
        let text = refused.map(drop).unwrap_err().to_string();
        assert!(text.starts_with(error), "{text}");
    }
}

/// The store would refuse each write under such a lease as fenced.
#[tokio::test]
async fn leases_of_another_place_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let opened = MemoryManager::builder().open(&support::url(&folder)).await.unwrap();
    let elsewhere = LockManager::new(Arc::new(InProcessLock::default()));
    let store = Arc::clone(opened.store());
    let refused = MemoryManager::builder().build(store, elsewhere.clone()).map(drop).unwrap_err();
    let looks = opened.locks().domain().as_str();
    let are = elsewhere.domain().as_str();
    assert_eq!(
        refused.to_string(),
        format!(
            "the store checks leases at `{looks}`, but they are kept at `{are}`; give the manager a lease backend at the place of the store, or open the store with `TokenChecks::TokensAlone`"
        )
    );
    let (store, own) = (Arc::clone(opened.store()), opened.locks().clone());
    MemoryManager::builder().build(store, own).unwrap();
}

#[tokio::test]
async fn invalid_keys_are_refused() {
    let manager = MemoryManager::builder()
        .with_resource(MemoryResource::new("m", 1_000))
        .open("memory://")
        .await
        .unwrap();
    assert_eq!(
        manager.memory("m", "").unwrap_err().to_string(),
        "the key of a memory key is empty: give it at least one character"
    );
    assert_eq!(
        manager.memory("nope", "k").unwrap_err().to_string(),
        "no resource has the id `nope`; known resources: m"
    );
}
