//! Searches through the facade.

use std::time::Duration;

use memory_core::resource::ArchiveSettings;
use memory_core::store::StoreErrorKind;
use memory_core::{MemoryResource, Message, Sequence};
use memory_instance::{
    FlushMode, FoundIn, ManagerBuilder, MemoryError, MemoryInstance, SearchQuery, SearchResults,
};

use crate::support::{On, with};

on_every_backend![
    flushed_and_erased_texts_are_searched,
    read_only_handle_searches_without_writing,
    redacted_texts_are_not_found,
];

fn archiving() -> ManagerBuilder {
    let mut resource = MemoryResource::new("m", 400);
    resource.archive = ArchiveSettings::keep_for(Duration::from_hours(24));
    with(resource).with_flush_mode(FlushMode::Manual)
}

async fn found(memory: &MemoryInstance, words: &str) -> Vec<(u64, bool)> {
    let results = memory.search(&SearchQuery::new(words)).await.unwrap();
    assert!(results.coverage.next().is_none());
    let mut found: Vec<_> = results
        .hits
        .iter()
        .map(|hit| (hit.sequence.number(), hit.found_in == FoundIn::Present))
        .collect();
    found.sort_unstable();
    found
}

async fn flushed_and_erased_texts_are_searched(on: On) {
    let world = on.world(archiving()).await;
    let memory = world.memory();
    for number in 1..=40 {
        let text = format!("message number{number} of a conversation that goes on");
        memory.append(Message::user(text)).await.unwrap();
    }
    assert_eq!(found(&memory, "number3 conversation").await, [(3, true)]);
    let receipt = memory.perform_flush().await.unwrap().unwrap();
    let original = receipt.summarized.iter().chain(receipt.evicted.iter()).max().unwrap();
    let word = format!("\"message number{original} of\"");
    assert!(found(&memory, &word).await.contains(&(original.number(), false)));
    memory.erase([original], "test").await.unwrap();
    assert!(!found(&memory, &word).await.contains(&(original.number(), false)));
    memory.undo_flush(receipt.id).await.unwrap_err();
    memory.append(Message::user("the newest")).await.unwrap();
    assert_eq!(found(&memory, "newest").await, [(41, true)]);
    memory.rebuild_index().await.unwrap();
    assert_eq!(found(&memory, "newest").await, [(41, true)]);
    let refused = memory.search(&SearchQuery::new("!")).await.unwrap_err();
    assert!(matches!(refused.store_kind(), Some(StoreErrorKind::Invalid(_))), "{refused}");
    assert_eq!(
        memory
            .search(&SearchQuery::new("newest").with_before(Sequence::new(41)))
            .await
            .unwrap()
            .matches,
        0
    );
}

async fn redacted_texts_are_not_found(on: On) {
    let mut resource = MemoryResource::new("m", 4_000);
    resource.privacy_policy.redact_patterns = vec!["secret\\d+".into()];
    let world = on.world(with(resource)).await;
    let memory = world.memory();
    memory.append(Message::user("the secret4711 of the harbor")).await.unwrap();
    assert_eq!(found(&memory, "harbor").await.len(), 1);
    assert!(found(&memory, "secret4711").await.is_empty());
}

async fn read_only_handle_searches_without_writing(on: On) {
    let world = on.world(archiving()).await;
    let memory = world.memory();
    // More than are scanned instead of indexed.
    for number in 1..=200 {
        memory.append(Message::user(format!("number{number}"))).await.unwrap();
    }
    let reader = memory.read_only();
    assert_eq!(found(&reader, "number3").await, [(3, true)]);
    let looked_at = |results: SearchResults| results.looked_at;
    let query = SearchQuery::new("number3");
    // Without an index each message is looked at.
    assert_eq!(reader.search(&query).await.map(looked_at).unwrap(), 200);
    let refused = reader.rebuild_index().await.unwrap_err();
    assert!(matches!(refused, MemoryError::ReadOnly { .. }), "{refused}");
    assert_eq!(reader.search(&query).await.map(looked_at).unwrap(), 200);
    memory.rebuild_index().await.unwrap();
    assert_eq!(found(&reader, "number3").await, [(3, true)]);
}
