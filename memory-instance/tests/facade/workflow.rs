//! Scopes of workflows: the memories that they delete or leave, and failures in between.

use std::error::Error;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use memory_instance::config::ProjectConfig;
use memory_instance::{
    AuditEvent, AuditOperation, AuditSink, KeyContext, ManagerBuilder, MemoryError, MemoryInstance,
    MemoryManager, Message, WorkflowScope,
};
use memory_lock::{Clock, ClockExt as _, LockKey, LockOptions};

use crate::logs::Logs;
use crate::support::{On, texts};

on_every_backend![
    finish_deletes_opened_temporary_memories,
    dropped_scope_deletes_nothing,
    leased_memory_is_deleted_by_later_finish,
    reopened_memory_belongs_to_next_finish
];

const PROJECT: &str = r#"
memories:
  - { id: notes, description: Notes of a workflow, max_tokens: 2000, key: "{{ workflow.id }}", lock: { wait_timeout: 200ms } }
  - { id: sources, description: Sources, max_tokens: 2000 }
  - { id: customer, description: A customer, max_tokens: 2000 }
agents:
  - id: clerk
    memories:
      - { id: notes, key: "{{ workflow.id }}/clerk" }
      - { id: sources, mode: read-only, key: all }
      - { id: customer, key: u-7 }
"#;

/// The keys whose deletion was recorded.
#[derive(Debug, Default)]
struct Deletions(Mutex<usize>);

impl AuditSink for Deletions {
    fn record(&self, event: &AuditEvent<'_>) -> Result<(), Box<dyn Error + Send + Sync>> {
        *self.0.lock().unwrap() += usize::from(event.operation == AuditOperation::Delete);
        Ok(())
    }
}

fn builder() -> ManagerBuilder {
    let config = ProjectConfig::from_yaml(PROJECT).unwrap();
    MemoryManager::builder().with_clock(Clock::tokio()).with_config(config)
}

async fn write(memories: &[&MemoryInstance]) {
    for memory in memories {
        memory.append(Message::user("text")).await.unwrap();
    }
}

async fn finish_deletes_opened_temporary_memories(on: On) {
    let deletions = Arc::new(Deletions::default());
    let world = on.world(builder().with_audit_sink(Arc::clone(&deletions) as _)).await;
    let manager = &world.manager;
    let [sources, foreign] = [("sources", "all"), ("notes", "other")]
        .map(|(resource, key)| manager.memory(resource, key).unwrap());
    // The first attempt of the workflow left a note.
    write(&[&sources, &foreign, &manager.memory("notes", "refund").unwrap()]).await;

    let scope = manager.workflow("refund", ["notes", "sources"]).unwrap();
    let own = scope.memory_from("notes", &KeyContext::new()).unwrap();
    let context = KeyContext::new().with("workflow.id", "other-id");
    let of_caller = scope.memory_for("notes", "{{ workflow.id }}", &context).unwrap();
    let clerk = scope.agent("clerk", &KeyContext::new()).unwrap();
    let [notes, customer] = ["notes", "customer"].map(|id| clerk.memory(id).unwrap());
    write(&[&own, notes, customer]).await;
    let keys = ["other-id", "refund", "refund/clerk"];
    let keys = keys.map(|key| manager.memory("notes", key).unwrap().key().clone());
    assert_eq!(scope.keys(), keys);

    let report = scope.finish().await.unwrap();
    let counts: Vec<_> = report.deleted.iter().map(|it| (it.key.clone(), it.messages)).collect();
    assert_eq!(counts, keys.into_iter().zip([0, 2, 1]).collect::<Vec<_>>());
    assert_eq!(*deletions.0.lock().unwrap(), 3);
    for memory in [&own, &of_caller, notes] {
        assert!(memory.is_empty().await.unwrap(), "{}", memory.key());
    }
    for memory in [&sources, &foreign, customer] {
        assert_eq!(texts(memory).await, ["text"], "{}", memory.key());
    }
    // The keys are free again: another call deletes nothing.
    write(&[&own]).await;
    assert_eq!(scope.finish().await.unwrap(), report);
    assert_eq!(own.len().await.unwrap(), 1);
    // Unless the scope opens one again.
    scope.memory("notes", "refund").unwrap();
    let counts = scope.finish().await.unwrap().deleted;
    assert_eq!(counts.iter().map(|it| it.messages).sum::<u64>(), 4);

    let refused = manager.workflow("refund", ["notices"]).unwrap_err();
    assert!(matches!(refused, MemoryError::UnknownResource { .. }), "{refused}");
}

async fn dropped_scope_deletes_nothing(on: On) {
    let world = on.world(builder()).await;
    let (logs, _guard) = Logs::capture();
    let scope = world.manager.workflow("refund", ["notes"]).unwrap();
    let notes = scope.memory("notes", "a").unwrap();
    write(&[&notes]).await;
    let clone = scope.clone();
    drop(scope);
    assert!(logs.containing("WARN").is_empty());
    drop(clone);
    let [line] = &logs.containing("not finished")[..] else { panic!("{logs:?}") };
    assert!(line.starts_with("WARN") && line.contains("memories=1"), "{line}");
    assert_eq!(texts(&notes).await, ["text"]);

    let scope = world.manager.workflow("refund", ["notes"]).unwrap();
    scope.memory("notes", "a").unwrap();
    assert_eq!(scope.detach(), [notes.key().clone()]);
    assert!(scope.finish().await.unwrap().deleted.is_empty());
    drop(scope);
    assert_eq!(logs.containing("not finished").len(), 1, "a detached scope has no memories");
    assert_eq!(texts(&notes).await, ["text"]);
}

async fn leased_memory_is_deleted_by_later_finish(on: On) {
    let world = on.world(builder()).await;
    let scope = world.manager.workflow("refund", ["notes"]).unwrap();
    let [leased, free] = ["a", "b"].map(|key| scope.memory("notes", key).unwrap());
    write(&[&leased, &free]).await;
    let lease = LockKey::new(leased.key().lease_name()).unwrap();
    let guard = world.manager.locks().lock(&lease, &LockOptions::default()).await.unwrap();

    let error = scope.finish().await.unwrap_err();
    let [(key, failure)] = &error.failures[..] else { panic!("{error}") };
    assert_eq!(key, leased.key());
    assert!(matches!(failure, MemoryError::Lock(_)) && error.is_retryable(), "{failure}");
    let text = "finish workflow `refund`: 1 memories remain, 1 were deleted; finish it again: take";
    assert!(error.to_string().starts_with(text), "{error}");
    assert_eq!(error.report.deleted.len(), 1);
    assert_eq!(scope.keys(), [leased.key().clone()]);
    assert!(free.is_empty().await.unwrap());
    assert_eq!(texts(&leased).await, ["text"]);

    guard.release().await;
    // A generation may be slightly ahead of a paused clock.
    tokio::time::sleep(Duration::from_millis(1)).await;
    let report = scope.finish().await.unwrap();
    let counts: Vec<_> = report.deleted.iter().map(|it| (&it.key, it.messages)).collect();
    assert_eq!(counts, [(leased.key(), 1), (free.key(), 1)]);
    assert!(leased.is_empty().await.unwrap());
}

/// Opens a memory again when its deletion is recorded.
#[derive(Default)]
struct Reopening(Mutex<Option<Arc<WorkflowScope>>>);

impl std::fmt::Debug for Reopening {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reopening")
    }
}

impl AuditSink for Reopening {
    fn record(&self, event: &AuditEvent<'_>) -> Result<(), Box<dyn Error + Send + Sync>> {
        if event.operation == AuditOperation::Delete
            && let Some(scope) = self.0.lock().unwrap().take()
        {
            scope.memory("notes", "again").unwrap();
        }
        Ok(())
    }
}

async fn reopened_memory_belongs_to_next_finish(on: On) {
    let sink = Arc::new(Reopening::default());
    let world = on.world(builder().with_audit_sink(Arc::clone(&sink) as _)).await;
    let scope = Arc::new(world.manager.workflow("w-9", ["notes"]).unwrap());
    let memory = scope.memory("notes", "again").unwrap();
    write(&[&memory]).await;
    *sink.0.lock().unwrap() = Some(Arc::clone(&scope));
    scope.finish().await.unwrap();
    write(&[&memory]).await;
    assert_eq!(scope.keys(), [memory.key().clone()]);
    scope.finish().await.unwrap();
    assert!(memory.is_empty().await.unwrap() && scope.keys().is_empty());
}
