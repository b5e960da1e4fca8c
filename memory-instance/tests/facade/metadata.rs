//! Metadata: compare-and-set, redaction, turns, and what it leaves unchanged.

use std::time::Duration;

use memory_core::store::StoreErrorKind;
use memory_core::{ErrorCode, MemoryResource, Message};
use memory_instance::backup::{BackupReader, RestoredTtl};
use memory_instance::{Conditional, MemoryError, Metadata, MetadataError, MetadataPatch, Session};
use serde_json::json;
use tokio::time::timeout;

use crate::support::{On, session_of_endless_turn, texts, with};

on_every_backend![
    one_of_many_updates_at_a_revision_wins,
    values_are_redacted_and_names_refused,
    turn_updates_metadata_and_fences_others,
    update_leaves_view_and_version,
    backup_and_copy_have_the_metadata,
];

fn resource() -> MemoryResource {
    MemoryResource::new("m", 1 << 20)
}

async fn one_of_many_updates_at_a_revision_wins(on: On) {
    let world = on.world(with(resource())).await;
    let memory = world.memory();
    // Before the memory exists.
    let claim = |_| {
        let memory = world.in_another_process(with(resource()));
        async move { memory.update_metadata([("locked", true)], Some(0)).await.unwrap() }
    };
    let done = futures::future::join_all((0..8).map(claim)).await;
    let won = done.iter().filter(|done| matches!(done, Conditional::Applied(_))).count();
    assert_eq!(won, 1, "{done:?}");
    let now = memory.metadata().await.unwrap();
    assert_eq!((now.revision, now.values.to_string()), (1, r#"{"locked":true}"#.to_owned()));
    for conflict in done {
        if let Conditional::Conflict(metadata) = conflict {
            assert_eq!(metadata, now);
        }
    }
    assert!(memory.is_empty().await.unwrap());
}

async fn values_are_redacted_and_names_refused(on: On) {
    let mut resource = resource();
    resource.privacy_policy.redact_patterns = vec!["needle".into()];
    let world = on.world(with(resource)).await;
    let memory = world.memory();
    let values = json!({"a": ["a needle", {"needle": 1}], "b": 2});
    let patch = MetadataPatch::try_from(values).unwrap();
    let set = memory.update_metadata(patch, None).await.unwrap().applied().unwrap();
    let redacted = r#"{"a":["a [REDACTED]",{"[REDACTED]":1}],"b":2}"#;
    assert_eq!(set.values.to_string(), redacted);
    let refused = memory.update_metadata([("a needle", 1_u64)], None).await.unwrap_err();
    let reason = StoreErrorKind::Metadata(MetadataError::SecretName);
    assert_eq!(refused.store_kind(), Some(&reason));
    assert_eq!(refused.code(), ErrorCode::InvalidOperation);
    assert!(!refused.to_string().contains("needle"), "{refused}");
    // An earlier policy may have let it in.
    memory
        .update_metadata(MetadataPatch::new().without("a needle"), None)
        .await
        .unwrap()
        .applied()
        .unwrap();
    let long = "needle ".repeat(Metadata::MAX_BYTES / 8);
    let refused = memory.update_metadata([("c", long)], None).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::SafetyLimitExceeded, "{refused}");
    let refused = memory.read_only().update_metadata([("a", 1_u64)], None).await.unwrap_err();
    assert!(matches!(refused, MemoryError::ReadOnly { .. }), "{refused}");
    assert_eq!(refused.code(), ErrorCode::Unauthorized);
    assert_eq!(memory.metadata().await.unwrap().values.to_string(), redacted);
}

async fn turn_updates_metadata_and_fences_others(on: On) {
    let world = on.world(with(resource())).await;
    let memory = world.memory();
    let (session, turn) = session_of_endless_turn(&memory).await;
    let other = world.in_another_process(with(resource()));
    let update = other.update_metadata([("by", "other")], None);
    assert!(timeout(Duration::from_millis(100), update).await.is_err(), "a turn is under way");
    let done = session.update_metadata([("by", "turn")], Some(0)).await.unwrap();
    assert_eq!(done.applied(), Some(session.metadata().await.unwrap()));
    memory.break_leases().await.unwrap();
    let late = session.update_metadata([("by", "late")], None).await.unwrap_err();
    assert!(late.is_fenced(), "{late}");
    turn.abort();
    assert_eq!(memory.metadata().await.unwrap().values.to_string(), r#"{"by":"turn"}"#);
    let nested = |_: Session| async { memory.update_metadata([("a", 1_u64)], None).await };
    let nested = memory.exclusive(nested).await.unwrap().unwrap_err();
    assert!(matches!(nested, MemoryError::OwnTurn { .. }), "{nested}");
}

async fn update_leaves_view_and_version(on: On) {
    let world = on.world(with(resource())).await;
    let memory = world.memory();
    let (before, other) =
        (memory.version().await.unwrap(), world.in_another_process(with(resource())));
    other.update_metadata([("a", 1_u64)], None).await.unwrap().applied().unwrap();
    let begun = memory.append_if(before, [Message::user("one")]).await.unwrap();
    assert!(begun.applied().is_some(), "metadata is no message");
    let window = memory.context(1_000).await.unwrap();
    let cursor = memory.page(None, None).await.unwrap().cursor;
    other.update_metadata([("a", 2_u64)], Some(1)).await.unwrap().applied().unwrap();
    let page = memory.page(Some(cursor), None).await.unwrap();
    assert!(!page.restarted && page.messages.is_empty());
    let answer = memory.append_if(window.version(), [Message::assistant("two")]).await.unwrap();
    assert!(answer.applied().is_some());
    assert_eq!(texts(&memory).await, ["one", "two"]);
    let metadata = memory.metadata().await.unwrap();
    assert_eq!((metadata.revision, metadata.values.to_string()), (2, r#"{"a":2}"#.to_owned()));
}

async fn backup_and_copy_have_the_metadata(on: On) {
    let world = on.world(with(resource())).await;
    let memory = world.memory();
    let named = |key: &str| world.manager.memory("m", key).unwrap();
    let header = async || {
        let mut file = Vec::new();
        memory.backup(&mut file).await.unwrap();
        let version = serde_json::from_slice::<serde_json::Value>(
            file.split(|byte| *byte == b'\n').next().unwrap(),
        );
        (version.unwrap()["memory_backup"].as_u64().unwrap(), file)
    };
    memory.append(Message::user("one")).await.unwrap();
    assert_eq!(header().await.0, 1, "earlier versions can read it");
    let exact = r#"{"n":12345678901234567890123}"#;
    let exact = memory_core::json::Json::parse(exact).unwrap();
    memory
        .update_metadata(MetadataPatch::try_from(exact).unwrap(), None)
        .await
        .unwrap()
        .applied()
        .unwrap();
    let set = memory.metadata().await.unwrap();
    let (version, file) = header().await;
    assert_eq!(version, 2, "earlier versions would lose the metadata");
    let backup = BackupReader::open(&*file).await.unwrap();
    named("restored").restore_backup(backup, RestoredTtl::Kept).await.unwrap();
    memory.copy_to(&named("copy")).await.unwrap();
    for key in ["restored", "copy"] {
        assert_eq!(named(key).metadata().await.unwrap(), set, "{key}");
    }
    memory.delete().await.unwrap();
    assert_eq!(memory.metadata().await.unwrap().revision, 0);
    let backup = BackupReader::open(&*file).await.unwrap();
    memory.restore_backup(backup, RestoredTtl::Kept).await.unwrap();
    assert_eq!(memory.metadata().await.unwrap(), set);
}
