//! A SQLite file that is replaced under an open manager.

use std::fs;

use memory_core::store::StoreErrorKind;
use memory_core::{MemoryResource, Message};
use memory_instance::MemoryError;

use crate::support::{On, texts, url, with};

#[track_caller]
fn assert_replaced(error: &MemoryError) {
    assert!(matches!(error.store_kind(), Some(StoreErrorKind::Replaced(_))), "{error}");
}

#[tokio::test]
async fn replaced_file_fails_until_reopened() {
    let world = On::Sqlite.world(with(MemoryResource::new("m", 1_000))).await;
    let memory = world.memory();
    memory.append(Message::user("before")).await.unwrap();
    let folder = world.folder.as_ref().unwrap();
    let [file, away] = ["memory.db", "away.db"].map(|name| folder.path().join(name));

    fs::rename(&file, &away).unwrap();
    for error in [
        // It was committed to the file before the check, and reported as possibly applied.
        memory.append(Message::user("unknown")).await.unwrap_err(),
        memory.health().await.unwrap_err(),
        memory.messages().await.unwrap_err(),
    ] {
        assert_replaced(&error);
        assert!(!error.is_retryable(), "{error}");
    }
    // Another process may have used another file meanwhile, so the handle stays as it is.
    fs::rename(&away, &file).unwrap();
    assert_replaced(&memory.append(Message::user("refused")).await.unwrap_err());

    let again = with(MemoryResource::new("m", 1_000)).open(&url(folder)).await.unwrap();
    let memory = again.memory("m", "k").unwrap();
    memory.append(Message::user("after")).await.unwrap();
    let mut texts = texts(&memory).await;
    texts.retain(|text| text != "unknown");
    assert_eq!(texts, ["before", "after"]);
    memory.health().await.unwrap();
}
