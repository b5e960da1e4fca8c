//! Fuzzing of store URLs. The test connects to no server, and creates no file outside of its folder.

#![cfg(all(feature = "redis", feature = "sqlite"))]

use memory_core_testkit::fuzz::{SECRET, fuzz, peak_of};
use memory_instance::{MemoryManager, without_password};
use memory_store_redis::RedisConfig;

memory_core_testkit::count_allocations!();

#[test]
fn urls_never_panic_or_leak_passwords() {
    fuzz("url", 3_000, |input| {
        let url = String::from_utf8_lossy(input);
        let (told, peak) = peak_of(|| match RedisConfig::from_url(&url) {
            Ok(config) => format!("{config:?}"),
            Err(fault) => format!("{} {fault} {fault:?}", fault.detail()),
        });
        assert!(peak <= 64 * url.len() + (64 << 10), "{peak} for {}", url.len());
        // In the place of a password, in a valid URL; the settings behind `?` contain no password.
        let secret = url.split_once("://").is_some_and(|(scheme, rest)| {
            let before_settings = rest.split('?').next().unwrap_or_default();
            !scheme.contains([':', '@']) && before_settings.contains(":5ecr3t@")
        });
        if secret && url.matches(SECRET).count() == 1 {
            assert!(!told.contains(SECRET), "{url}: {told}");
            assert!(!without_password(&url).contains(SECRET), "{url}");
        }
    });
}

#[test]
fn file_settings_never_panic() {
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let place = format!("sqlite://{}/memory.db?", folder.path().display());
    fuzz("url", 150, |input| {
        let settings = String::from_utf8_lossy(input);
        let opened = runtime.block_on(MemoryManager::builder().open(&format!("{place}{settings}")));
        if let Err(error) = opened {
            assert!(error.to_string().contains("has the unknown setting"), "{error}");
        }
    });
    assert!(std::fs::read_dir(folder.path()).unwrap().count() <= 3, "memory.db and its log");
}
