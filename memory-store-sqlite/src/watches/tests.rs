//! Tests of the poller's thread.

use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use memory_core::MemoryKey;
use memory_core::store::StoreWatch as _;
use tempfile::TempDir;

use super::{Registry, Watches};
use crate::config::SqliteConfig;
use crate::open::{OpenFile, open_file};
use crate::readers::{Readers, Reads};

struct Fixture {
    watches: Watches,
    readers: Arc<Readers>,
    file: Arc<OpenFile>,
    _folder: TempDir,
}

fn fixture() -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let config = SqliteConfig::new(folder.path().join("m.db"));
    let (_, file) = open_file(&config).unwrap();
    let readers = Arc::new(Readers::new(config.clone(), Arc::clone(&file)));
    let watches = Watches::new(Arc::new(Registry::new(config)), Arc::clone(&file));
    Fixture { watches, readers, file, _folder: folder }
}

fn key(name: &str) -> MemoryKey {
    MemoryKey::new("p", "m", name).unwrap()
}

/// Waits in steps, because the end of a thread sends no notification.
fn until(condition: impl Fn() -> bool) {
    let (_sender, never) = mpsc::channel::<()>();
    for _ in 0..2_000 {
        if condition() {
            return;
        }
        let _ = never.recv_timeout(Duration::from_millis(5));
    }
    panic!("not within ten seconds");
}

#[tokio::test]
async fn thread_ends_with_the_last_watch() {
    let Fixture { watches, readers, file, _folder } = fixture();
    assert_eq!(watches.threads.running(), 0);
    let users = Arc::strong_count(&file);
    for _ in 0..2 {
        let one = watches.watch(&key("a"), &readers).await.unwrap();
        let two = watches.watch(&key("b"), &readers).await.unwrap();
        drop(one);
        assert!(watches.registry.needs_poller());
        assert_eq!(watches.threads.running(), 1);
        drop(two);
        assert!(!watches.registry.needs_poller());
        // The poller has closed its connection and given the file back.
        until(|| Arc::strong_count(&file) == users);
    }
    until(|| watches.threads.running() == 0);
}

#[tokio::test]
async fn poller_starts_again_before_its_thread_ends() {
    let Fixture { watches, readers, .. } = &fixture();
    for _ in 0..200 {
        drop(watches.watch(&key("a"), readers).await.unwrap());
        assert!(watches.threads.running() <= 1);
    }
    let _watch = watches.watch(&key("a"), readers).await.unwrap();
    assert_eq!(watches.threads.running(), 1);
}

#[tokio::test]
async fn closing_ends_the_poller() {
    let Fixture { watches, readers, file, _folder } = fixture();
    let users = Arc::strong_count(&file);
    let mut watch = watches.watch(&key("a"), &readers).await.unwrap();
    // A slow poller is not waited for.
    let closed = watches.close();
    assert!(closed == Reads::Running || !watches.registry.is_polled());
    watch.changed().await.unwrap_err();
    until(|| Arc::strong_count(&file) == users);
}
