//! Wait timeouts of writes, and the errors when they expire.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use memory_core::store::Applied;
use memory_core::{MemoryResource, Message};
use memory_flush::from_fn;
use memory_instance::{MemoryError, MemoryInstance, Session, WriteError};
use memory_lock::LockErrorKind;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::support::{On, hybrid, texts, with};

on_every_backend![
    zero_wait_timeout_still_writes,
    zero_wait_timeout_is_refused_during_a_turn,
    unknown_batch_is_resent_within_the_turn,
    ; paused_clock:
    wait_timeout_reports_that_nothing_was_written,
    flush_commits_between_long_turns,
];

fn resource(wait: Duration) -> MemoryResource {
    let mut resource = MemoryResource::new("m", 1 << 20);
    resource.lock.wait_timeout = wait;
    resource
}

/// A turn that lasts until the sender signals its end.
async fn turn(memory: MemoryInstance) -> (oneshot::Sender<()>, JoinHandle<()>) {
    let (begun, begins) = oneshot::channel();
    let (end, ends) = oneshot::channel::<()>();
    let turn = tokio::spawn(async move {
        let turn = |_| async {
            begun.send(()).unwrap();
            ends.await.unwrap();
        };
        memory.exclusive(turn).await.unwrap();
    });
    begins.await.unwrap();
    (end, turn)
}

/// Asserts that another holder has the lease, and that nothing was written.
fn assert_in_line(error: &MemoryError) {
    let MemoryError::Append(failure) = error else { panic!("{error:?}") };
    let WriteError::Lock(lease) = &failure.reason else { panic!("{error:?}") };
    assert!(matches!(lease.reason.kind(), LockErrorKind::WaitTimeout { .. }), "{error}");
    assert_eq!(error.applied(), Applied::No, "{error}");
    assert!(error.is_retryable(), "{error}");
}

async fn zero_wait_timeout_still_writes(on: On) {
    let world = on.world(with(resource(Duration::ZERO))).await;
    let memory = world.memory();
    memory.append(Message::user("one")).await.unwrap();
    let append = |session: Session| async move { session.append(Message::user("two")).await };
    memory.exclusive(append).await.unwrap().unwrap();
    assert_eq!(texts(&memory).await, ["one", "two"]);
    memory.clear().await.unwrap();
    assert!(memory.is_empty().await.unwrap());
}

async fn zero_wait_timeout_is_refused_during_a_turn(on: On) {
    let world = on.world(with(resource(Duration::ZERO))).await;
    let memory = world.memory();
    let (end, turn) = turn(world.memory()).await;
    let begun = Instant::now();
    assert_in_line(&memory.append(Message::user("one")).await.unwrap_err());
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    end.send(()).unwrap();
    turn.await.unwrap();
    assert!(memory.is_empty().await.unwrap());
}

async fn wait_timeout_reports_that_nothing_was_written(on: On) {
    let world = on.world(with(resource(Duration::from_secs(4)))).await;
    let memory = world.memory();
    let (end, turn) = turn(world.memory()).await;
    let begun = Instant::now();
    let error = memory.append(Message::user("one")).await.unwrap_err();
    assert_in_line(&error);
    assert_eq!(begun.elapsed().as_secs(), 4, "the resource's wait_timeout");
    end.send(()).unwrap();
    turn.await.unwrap();
    assert!(memory.is_empty().await.unwrap());
    memory.send(&error.into_prepared().unwrap()).await.unwrap();
    assert_eq!(texts(&memory).await, ["one"]);
}

async fn unknown_batch_is_resent_within_the_turn(on: On) {
    let world = on.world(with(resource(Duration::from_secs(10)))).await;
    let memory = world.memory();
    let prepared = memory.prepare([Message::user("once")]).unwrap();
    let turn = |session: Session| async move {
        let first = session.send(&prepared).await.unwrap();
        let again = session.send(&prepared).await.unwrap();
        (first.outcome.is_duplicate(), again.outcome.is_duplicate())
    };
    let begun = Instant::now();
    assert_eq!(memory.exclusive(turn).await.unwrap(), (false, true));
    assert!(begun.elapsed() < Duration::from_secs(1), "it waited for its own turn");
    assert_eq!(texts(&memory).await, ["once"]);
}

/// One agent takes turn after turn, each with a long call of a model in it.
async fn flush_commits_between_long_turns(on: On) {
    let mut resource = hybrid(2_000);
    resource.lock.wait_timeout = Duration::from_secs(2);
    let summarizer = from_fn("a model", |_| async {
        sleep(Duration::from_secs(3)).await;
        Ok("what was said".to_owned())
    });
    let world = on.world(with(resource).with_summarizer(summarizer)).await;
    let memory = world.memory();
    for number in 0..40 {
        let turn = |session: Session| async move {
            sleep(Duration::from_secs(5)).await;
            let said = format!("turn {number}: {}", "word ".repeat(60));
            session.append(Message::assistant(said)).await.unwrap();
        };
        memory.exclusive(turn).await.unwrap();
    }
    let counters = memory.counters().await.unwrap();
    assert!(counters.summarized > 0, "no flush came through: {counters:?}");
    assert!(counters.present.tokens < 3_000, "{counters:?}");
    assert_eq!(memory.health().await.unwrap().last_flush_error, None);
}

/// The text names the operation; the driver's text is in the chain of sources, for callers that log causes.
#[tokio::test]
async fn error_chain_repeats_no_text() {
    let folder = tempfile::tempdir().unwrap();
    let url = crate::support::url(&folder);
    let manager = with(resource(Duration::ZERO)).open(&url).await.unwrap();
    let memory = manager.memory("m", "k").unwrap();
    memory.append(Message::user("one")).await.unwrap();
    let file = rusqlite::Connection::open(folder.path().join("memory.db")).unwrap();
    file.execute_batch("DROP TABLE message").unwrap();
    let error = memory.append(Message::user("two")).await.unwrap_err();
    let cause = Arc::new(error.source().expect("a cause").to_string());
    assert!(cause.contains("no such table"), "{cause}");
    assert!(!error.to_string().contains(&**cause), "{error}");
    assert_eq!(error.chain(), format!("{error}: {}", causes(&error)));
}

fn causes(error: &dyn Error) -> String {
    let mut causes = Vec::new();
    let mut cause = error.source();
    while let Some(error) = cause {
        causes.push(error.to_string());
        cause = error.source();
    }
    causes.join(": ")
}
