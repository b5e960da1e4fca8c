//! P2, P13: a store that fails before or after it applies a write, or does not answer.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Waker};
use std::time::Duration;

use memory_core::resource::ArchiveSettings;
use memory_core::store::{
    Access, AppendOutcome, Applied, Counters, Splice, StoreError, StoreErrorKind, StoreOperation,
};
use memory_core::{InMemoryStore, MemoryResource, MemoryStore, Message, Sequence};
use memory_core_testkit::intercept::{Hook, Intercept, Method};
use memory_instance::{
    Conditional, FlushMode, Leases, MemoryError, MemoryInstance, MemoryManager, RewriteOutcome,
    Session, SweepOptions, WriteError,
};
use memory_lock::{
    Clock, ClockExt as _, InProcessLock, LockGuard, LockKey, LockManager, LockOptions,
};
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::support::{checked, hybrid, texts};

/// The fault of the next write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// It fails and is not applied.
    Before,
    /// It is applied, and the answer is lost.
    After,
    /// It is applied, and no answer comes.
    Silence,
    /// It fails with an error that is not retryable.
    Broken,
}

/// The faults of the next writes.
#[derive(Debug, Default)]
struct Script(Mutex<VecDeque<Fault>>);

impl Script {
    fn rest(&self) -> MutexGuard<'_, VecDeque<Fault>> {
        self.0.lock().unwrap()
    }
}

impl Hook for Script {
    async fn around<T: Send>(
        &self,
        method: Method,
        write: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        if !method.is_write() {
            return write.await;
        }
        let fault = self.rest().pop_front();
        let lost = || StoreErrorKind::Unavailable("the link broke".into());
        match fault {
            None => write.await,
            Some(Fault::Before) => {
                Err(StoreError::new(StoreOperation::Append, lost()).not_applied())
            }
            Some(Fault::After) => {
                write.await?;
                Err(StoreError::new(StoreOperation::Append, lost()).possibly_applied())
            }
            Some(Fault::Silence) => {
                write.await?;
                std::future::pending().await
            }
            Some(Fault::Broken) => Err(StoreError::new(
                StoreOperation::Append,
                StoreErrorKind::ReadOnly("a test".into()),
            )
            .not_applied()),
        }
    }
}

struct World {
    inner: Arc<InMemoryStore>,
    store: Arc<Intercept<Script>>,
    manager: MemoryManager,
}

impl World {
    fn new(resource: MemoryResource) -> Self {
        let clock = Clock::tokio();
        let locks = LockManager::new(Arc::new(InProcessLock::new(clock.clone())));
        let inner = Arc::new(InMemoryStore::new(clock.clone()));
        let store = Arc::new(Intercept::new(inner.clone(), Script::default()));
        let manager = MemoryManager::builder()
            .with_clock(clock)
            .with_resource(resource)
            .with_flush_mode(FlushMode::Manual)
            .build(store.clone(), locks)
            .unwrap();
        Self { inner, store, manager }
    }

    fn memory(&self) -> MemoryInstance {
        self.manager.memory("m", "k").unwrap()
    }

    fn script(&self, faults: &[Fault]) {
        self.store.hook().rest().extend(faults);
    }

    /// The same memory in another process, whose link has no faults.
    fn other(&self) -> MemoryInstance {
        let manager = MemoryManager::builder()
            .with_clock(Clock::tokio())
            .with_resource(archiving())
            .with_flush_mode(FlushMode::Manual);
        let manager = manager.build(self.inner.clone(), self.manager.locks().clone()).unwrap();
        manager.memory("m", "k").unwrap()
    }

    /// Begins work whose next write is applied and its answer lost, and returns before it is sent again.
    async fn with_lost_answer<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        self.script(&[Fault::After]);
        let work = tokio::spawn(work);
        while !self.store.hook().rest().is_empty() {
            tokio::task::yield_now().await;
        }
        work
    }
}

fn archiving() -> MemoryResource {
    let mut resource = hybrid(400);
    resource.archive = ArchiveSettings::keep_for(Duration::from_hours(24));
    resource
}

/// A world with a memory of 40 messages.
async fn talk() -> (World, MemoryInstance) {
    let world = World::new(archiving());
    let memory = world.memory();
    for number in 0..40 {
        let text = format!("message {number} of a conversation that goes on");
        memory.append(Message::user(text)).await.unwrap();
    }
    (world, memory)
}

/// Receipts as the store keeps them.
async fn kept(memory: &MemoryInstance) -> Vec<Uuid> {
    memory.receipts().await.unwrap().iter().map(|receipt| receipt.id).collect()
}

fn plain() -> World {
    World::new(MemoryResource::new("m", 1 << 20))
}

#[tokio::test(start_paused = true)]
async fn retryable_failures_are_resent_and_appended_once() {
    use Fault::{After, Before};
    for faults in [&[Before][..], &[After], &[Before, After, Before], &[After, After, After]] {
        let world = plain();
        world.script(faults);
        world.memory().append(Message::user("once")).await.unwrap();
        world.memory().append(Message::user("next")).await.unwrap();
        assert_eq!(texts(&world.memory()).await, ["once", "next"], "{faults:?}");
        checked(&world.memory(), &world.manager).await;
    }
}

/// The store lost an applied batch and gave its place to another message before the batch was sent again.
#[tokio::test(start_paused = true)]
async fn retry_after_rollback_gets_new_message_ids() {
    let world = plain();
    let memory = world.memory();
    memory.append(Message::user("kept")).await.unwrap();
    let kept = world.inner.saved();
    memory.append(Message::user("lost")).await.unwrap();
    world.script(&[Fault::After]);
    let append = tokio::spawn({
        let memory = memory.clone();
        async move { memory.append(Message::user("once")).await }
    });
    while !world.store.hook().rest().is_empty() {
        tokio::task::yield_now().await;
    }
    let seen = memory.page(None, None).await.unwrap();
    assert_eq!(seen.messages.len(), 3);
    world.inner.go_back(&kept);
    memory.append(Message::user("new")).await.unwrap();
    assert!(!append.await.unwrap().unwrap().outcome.is_duplicate());
    assert_eq!(texts(&memory).await, ["kept", "new", "once"]);
    let page = memory.page(Some(seen.cursor), None).await.unwrap();
    assert!(page.restarted, "the reader would miss what is before it");
    checked(&memory, &world.manager).await;
}

/// A prompt whose append or replacement is sent again keeps its name and is stored once.
#[tokio::test(start_paused = true)]
async fn resent_prompt_keeps_its_name() {
    use Fault::{After, Before};
    for faults in [&[Before][..], &[After], &[Before, After, Before], &[After, After]] {
        let world = plain();
        let memory = world.memory();
        for text in ["first", "second", "second"] {
            if text == "first" || texts(&memory).await != ["second"] {
                // The turn's claim is the first write.
                world.script(faults);
            }
            memory.ensure_system("agent", text).await.unwrap();
            assert_eq!(texts(&memory).await, [text], "{faults:?}");
        }
        world.store.hook().rest().clear();
        // The prompt's write, after a successful claim.
        let turn = |session: Session| async move {
            session.ensure_held().unwrap();
            session
        };
        drop(memory.exclusive(turn).await.unwrap());
        let (store, faults) = (Arc::clone(&world.store), faults.to_vec());
        let turn = |session: Session| async move {
            store.hook().rest().extend(faults.clone());
            session.clear().await.unwrap();
            store.hook().rest().extend(faults.clone());
            session.ensure_system("agent", "third").await.unwrap();
            store.hook().rest().extend(faults);
            session.ensure_system("agent", "fourth").await.unwrap();
        };
        memory.exclusive(turn).await.unwrap();
        assert_eq!(texts(&memory).await, ["fourth"]);
        let ensured = memory.ensure_system("agent", "fourth").await.unwrap();
        assert_eq!(ensured.outcome, memory_instance::EnsureOutcome::Unchanged);
        checked(&memory, &world.manager).await;
    }
}

/// If the error reported that the append was not applied, the caller might append the message again and duplicate it.
#[tokio::test(start_paused = true)]
async fn lost_answer_without_lease_for_retry_is_unknown() {
    let world = plain();
    let memory = world.memory();
    world.script(&[Fault::After]);
    let append = tokio::spawn({
        let memory = memory.clone();
        async move { memory.append(Message::user("once")).await }
    });
    // The answer is lost at once; before the retry, a shutdown prevents new leases.
    while !world.store.hook().rest().is_empty() {
        tokio::task::yield_now().await;
    }
    world.manager.locks().shutdown(Duration::ZERO).await;
    let error = append.await.unwrap().unwrap_err();
    let MemoryError::Append(failure) = &error else { panic!("{error:?}") };
    assert!(matches!(failure.reason, WriteError::Lock(_)), "{error:?}");
    assert_eq!(error.applied(), Applied::Unknown, "{error}");
    assert_eq!(texts(&memory).await, ["once"]);
}

#[tokio::test(start_paused = true)]
async fn timed_out_batch_can_be_sent_again() {
    let world = plain();
    let memory = world.memory();
    memory.append(Message::user("before")).await.unwrap();
    world.script(&[Fault::Silence; 4]);
    let begun = tokio::time::Instant::now();
    let error = memory.append(Message::user("unknown")).await.unwrap_err();
    assert_eq!(begun.elapsed().as_secs(), 10, "the resource's wait_timeout");
    assert_eq!(error.applied(), Applied::Unknown);
    assert!(error.to_string().contains("no definite answer within 10s"), "{error}");
    let prepared = error.into_prepared().expect("what failed can be sent again");
    // Other writes continue meanwhile; they must not use the writer of the lost write.
    for _ in 0..3 {
        let appended = memory.append(Message::user("others")).await.unwrap();
        assert!(!appended.outcome.is_duplicate());
    }
    let again = memory.send(&prepared).await.unwrap();
    assert_eq!(again.outcome, AppendOutcome::Duplicate { first: Some(Sequence::new(2)) });
    assert_eq!(memory.len().await.unwrap(), 5);
}

#[tokio::test(start_paused = true)]
async fn unpolled_writes_lose_their_leases() {
    let world = plain();
    let memory = world.memory();
    world.script(&[Fault::Silence]);
    let mut kept = Box::pin(memory.append(Message::user("kept")));
    assert!(kept.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    let begun = tokio::time::Instant::now();
    memory.append(Message::user("goes on")).await.unwrap();
    assert!(begun.elapsed() <= Duration::from_secs(4), "{:?}", begun.elapsed());
    kept.await.unwrap();
    assert_eq!(texts(&memory).await, ["kept", "goes on"]);
}

#[tokio::test(start_paused = true)]
async fn unpolled_sweeps_lose_their_leases() {
    let world = plain();
    let memory = world.memory();
    memory.append(Message::user("removed")).await.unwrap();
    world.script(&[Fault::Silence]);
    let unused = SweepOptions::new().with_unused_for(Duration::ZERO);
    let mut kept = Box::pin(world.manager.sweep(unused));
    assert!(kept.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    assert!(memory.leases().await.unwrap().flush.is_some(), "it is removing the memory");
    let begun = tokio::time::Instant::now();
    memory.append(Message::user("goes on")).await.unwrap();
    assert!(begun.elapsed() <= Duration::from_secs(31), "{:?}", begun.elapsed());
    assert_eq!(texts(&memory).await, ["goes on"]);
}

#[tokio::test(start_paused = true)]
async fn deletion_waits_for_its_answer_only_briefly() {
    for fault in [Fault::Silence, Fault::After, Fault::Before] {
        let world = plain();
        let memory = world.memory();
        memory.append_all(["one", "two"].map(Message::user)).await.unwrap();
        world.script(&[fault]);
        let deleted = memory.delete();
        let deleted = tokio::time::timeout(Duration::from_secs(30), deleted).await.unwrap();
        match deleted {
            Err(MemoryError::TimedOut { .. }) if fault == Fault::Silence => {}
            deleted => assert_eq!(deleted.unwrap().messages, 2, "{fault:?}"),
        }
        assert_eq!(memory.counters().await.unwrap(), Counters::default());
        let leases = memory.leases().await.unwrap();
        assert!(leases.memory.is_none() && leases.flush.is_none(), "{fault:?}: {leases:?}");
        assert_eq!(memory.delete().await.unwrap().messages, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn sweep_waits_for_its_answer_only_briefly() {
    let world = plain();
    let memory = world.memory();
    memory.append(Message::user("removed")).await.unwrap();
    world.script(&[Fault::Silence]);
    let unused = SweepOptions::new().with_unused_for(Duration::ZERO);
    let swept = tokio::time::timeout(Duration::from_secs(29), world.manager.sweep(unused));
    let error = swept.await.unwrap().unwrap_err();
    assert!(matches!(error, MemoryError::TimedOut { .. }), "{error:?}");
    assert!(error.to_string().contains("no definite answer within 10s"), "{error}");
    assert_eq!(error.applied(), Applied::Unknown);
    let leases = memory.leases().await.unwrap();
    assert!(leases.memory.is_none() && leases.flush.is_none(), "{leases:?}");
    memory.append(Message::user("goes on")).await.unwrap();
    assert_eq!(world.manager.sweep(unused).await.unwrap().memories, 1);
}

#[tokio::test(start_paused = true)]
async fn unanswered_write_blocks_others_only_briefly() {
    let world = plain();
    let memory = world.memory();
    world.script(&[Fault::Silence]);
    let begun = tokio::time::Instant::now();
    let (silent, other) =
        tokio::join!(memory.append(Message::user("silent")), memory.append(Message::user("other")));
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    assert!(silent.unwrap().outcome.is_duplicate(), "it was there when it was sent again");
    assert!(!other.unwrap().outcome.is_duplicate());
    assert_eq!(texts(&memory).await, ["silent", "other"]);
}

#[tokio::test(start_paused = true)]
async fn unapplied_batch_is_appended_on_resend() {
    let world = plain();
    let memory = world.memory();
    memory.append(Message::user("before")).await.unwrap();
    world.script(&[Fault::Broken]);
    let error = memory.append(Message::user("refused")).await.unwrap_err();
    assert_eq!(error.applied(), Applied::No);
    assert!(matches!(error.store_kind(), Some(StoreErrorKind::ReadOnly(_))));
    let prepared = error.into_prepared().unwrap();
    memory.append(Message::user("others")).await.unwrap();
    let sent = memory.send(&prepared).await.unwrap();
    assert!(!sent.outcome.is_duplicate(), "a write that never was must not pass for a duplicate");
    assert_eq!(texts(&memory).await, ["before", "others", "refused"]);
}

#[tokio::test(start_paused = true)]
async fn no_lease_remains_after_a_fault() {
    let world = plain();
    for fault in [Fault::Before, Fault::After, Fault::Silence, Fault::Broken] {
        world.script(&[fault]);
        let _ = world.memory().append(Message::user("x")).await;
        let begun = tokio::time::Instant::now();
        world.memory().append(Message::user("y")).await.unwrap();
        assert!(begun.elapsed() < Duration::from_secs(1), "{fault:?} left the lease");
        assert_eq!(world.manager.locks().stats().held, 0);
    }
}

/// The writers' and flushers' leases of the memory, held by a stuck holder.
async fn stuck_holder(memory: &MemoryInstance, world: &World) -> [LockGuard; 2] {
    let key = memory.key();
    let names = [key.lease_name().to_owned(), key.flush_lease_name()];
    let hold = async |name: String| {
        let name = LockKey::new(name).unwrap();
        world.manager.locks().lock(&name, &LockOptions::default()).await.unwrap()
    };
    let [writer, flusher] = names.map(hold);
    [writer.await, flusher.await]
}

/// A late commit of the lease's holder: a splice of the newest snapshot.
async fn late_commit(
    world: &World,
    memory: &MemoryInstance,
    flusher: &LockGuard,
) -> Result<Counters, StoreError> {
    let outline = world.store.outline(memory.key()).await.unwrap();
    let mut splice = Splice::of(&outline);
    splice.evicted = vec![Sequence::new(1)];
    splice.flusher = Some(flusher.proof());
    world.store.splice(memory.key(), Access::OPEN, &splice).await
}

#[tokio::test(start_paused = true)]
async fn broken_leases_fence_writers_and_flushers_off() {
    let world = plain();
    let memory = world.memory();
    memory.append(Message::user("one")).await.unwrap();
    let [writer, flusher] = stuck_holder(&memory, &world).await;
    let broken = memory.break_leases().await.unwrap();
    assert!(broken.memory.is_some() && broken.flush.is_some(), "{broken:?}");
    let refused = late_commit(&world, &memory, &flusher).await.unwrap_err();
    assert!(matches!(refused.kind(), StoreErrorKind::Fenced { .. }), "{refused}");
    let refused = world.store.claim(memory.key(), writer.proof()).await.unwrap_err();
    assert!(matches!(refused.kind(), StoreErrorKind::Fenced { .. }), "{refused}");
    assert_eq!(memory.leases().await.unwrap(), Leases::default());
    assert_eq!(texts(&memory).await, ["one"]);
}

#[tokio::test(start_paused = true)]
async fn both_leases_are_broken_despite_failures() {
    for faults in [&[Fault::Broken][..], &[Fault::Broken, Fault::Broken]] {
        let world = plain();
        let memory = world.memory();
        memory.append(Message::user("one")).await.unwrap();
        let [_writer, flusher] = stuck_holder(&memory, &world).await;
        world.script(faults);
        let error = memory.break_leases().await.unwrap_err();
        assert!(matches!(error.store_kind(), Some(StoreErrorKind::ReadOnly(_))), "{error}");
        assert_eq!(memory.leases().await.unwrap(), Leases::default(), "{faults:?}");
        // A second call completes the remaining steps.
        memory.break_leases().await.unwrap();
        let refused = late_commit(&world, &memory, &flusher).await.unwrap_err();
        assert!(matches!(refused.kind(), StoreErrorKind::Fenced { .. }), "{refused}");
    }
}

#[tokio::test(start_paused = true)]
async fn flush_with_lost_answer_commits_once() {
    for fault in [Fault::Before, Fault::After] {
        let world = World::new(hybrid(2_000));
        let memory = world.memory();
        let batch = (0..200).map(|number| Message::user(format!("message number {number}")));
        memory.append_all(batch).await.unwrap();
        world.script(&[fault]);
        let receipt = memory.perform_flush().await.unwrap().expect("there was much to flush");
        assert_eq!(memory.receipts().await.unwrap(), [receipt], "{fault:?}");
        let counters = checked(&memory, &world.manager).await.head.counters;
        assert_eq!(counters.summaries, 1);
        assert_eq!(counters.appended, 200);
    }
}

#[tokio::test(start_paused = true)]
async fn applied_rewind_before_a_flush_is_no_conflict() {
    let (world, memory) = talk().await;
    let version = memory.version().await.unwrap();
    let pop = {
        let memory = memory.clone();
        world.with_lost_answer(async move { memory.pop_turn(version).await }).await
    };
    let flush = world.other().perform_flush().await.unwrap().unwrap();
    let done = pop.await.unwrap().unwrap().applied().unwrap();
    let receipt = done.receipt.unwrap();
    assert!(receipt.withdrawn.iter().eq([Sequence::new(40)]));
    assert_eq!(kept(&memory).await, [flush.id, receipt.id]);
    let counters = checked(&memory, &world.manager).await.head.counters;
    assert_eq!((counters.withdrawn, done.counters), (1, counters));
}

#[tokio::test(start_paused = true)]
async fn lost_rewind_after_an_append_is_a_conflict() {
    let (world, memory) = talk().await;
    let version = memory.version().await.unwrap();
    let before = world.inner.saved();
    let pop = {
        let memory = memory.clone();
        world.with_lost_answer(async move { memory.pop_turn(version).await }).await
    };
    world.inner.go_back(&before);
    world.other().append(Message::user("came")).await.unwrap();
    let done = pop.await.unwrap().unwrap();
    let Conditional::Conflict(conflict) = done else { panic!("{done:?}") };
    assert_eq!(conflict.came.len(), 1);
    assert_eq!(memory.len().await.unwrap(), 41);
}

#[tokio::test(start_paused = true)]
async fn applied_flush_before_a_rewind_is_reported() {
    let (world, memory) = talk().await;
    let flush = {
        let memory = memory.clone();
        world.with_lost_answer(async move { memory.perform_flush().await }).await
    };
    let other = world.other();
    let version = other.version().await.unwrap();
    let rewind = other.pop_turn(version).await.unwrap().applied().unwrap().receipt.unwrap();
    let receipt = flush.await.unwrap().unwrap().unwrap();
    assert_eq!(kept(&memory).await, [rewind.id, receipt.id]);
    checked(&memory, &world.manager).await;
}

#[tokio::test(start_paused = true)]
async fn applied_rewrite_before_a_rewind_is_reported() {
    let (world, memory) = talk().await;
    memory.perform_flush().await.unwrap().unwrap();
    let erasure = memory.erase([Sequence::new(3)], "test").await.unwrap().erasure;
    let rewrite = {
        let memory = memory.clone();
        world.with_lost_answer(async move { memory.rewrite_summaries(&erasure).await }).await
    };
    let other = world.other();
    let version = other.version().await.unwrap();
    other.pop_turn(version).await.unwrap().applied().unwrap();
    let rewritten = rewrite.await.unwrap().unwrap();
    let RewriteOutcome::Rewritten { id } = rewritten[0].outcome else { panic!("{rewritten:?}") };
    let summary = memory.messages().await.unwrap().into_iter().find(|one| one.meta.summary);
    assert_eq!(summary.unwrap().meta.id, id);
    checked(&memory, &world.manager).await;
}

#[tokio::test(start_paused = true)]
async fn clear_with_lost_answer_applies_once() {
    let world = plain();
    let memory = world.memory();
    memory.append(Message::user("old")).await.unwrap();
    world.script(&[Fault::After]);
    let cleared = memory.clear().await.unwrap();
    assert_eq!((cleared.receipt, cleared.counters.cleared), (None, 1));
    memory.append(Message::user("new")).await.unwrap();
    assert_eq!(texts(&memory).await, ["new"]);
    let error = {
        world.script(&[Fault::Broken]);
        memory.clear().await.unwrap_err()
    };
    assert!(matches!(error, MemoryError::Store(_)), "{error}");
}

#[tokio::test(start_paused = true)]
async fn turn_begins_after_failed_claim_is_retried() {
    for fault in [Fault::Before, Fault::After] {
        let world = plain();
        world.script(&[fault]);
        let turn = |session: Session| async move { session.append(Message::user("a")).await };
        world.memory().exclusive(turn).await.unwrap().unwrap();
        assert_eq!(texts(&world.memory()).await, ["a"], "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn close_call_survives_a_lost_answer() {
    let world = plain();
    let memory = world.memory();
    let call = memory_core::dialect::ToolCall::function("c", "f", "{}");
    memory.append(Message::calls([call])).await.unwrap();
    world.script(&[Fault::After]);
    memory.close_call("c").await.unwrap();
    assert_eq!(memory.health().await.unwrap().abandoned_calls, 1);
}

#[tokio::test(start_paused = true)]
async fn errors_never_contain_message_text() {
    const SECRET: &str = "the launch code is 0000";
    let world = plain();
    for faults in [[Fault::Broken; 1].as_slice(), &[Fault::Silence; 4]] {
        world.script(faults);
        let error = world.memory().append(Message::user(SECRET)).await.unwrap_err();
        for shown in
            [format!("{error}"), format!("{error:?}"), format!("{error:#?}"), error.chain()]
        {
            assert!(!shown.contains("launch"), "{shown}");
        }
    }
    let tiny = World::new(MemoryResource::new("m", 2));
    let error = tiny.memory().append(Message::user(SECRET)).await.unwrap_err();
    assert!(!format!("{error:?} {error}").contains("launch"));
}

#[tokio::test(start_paused = true)]
async fn huge_timeout_does_not_overflow() {
    let mut resource = MemoryResource::new("m", 1_000);
    resource.lock.wait_timeout = Duration::MAX;
    let world = World::new(resource);
    world.memory().append(Message::user("a")).await.unwrap();
    world.memory().exclusive(|_| async {}).await.unwrap();
    world.memory().perform_flush().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn lost_answer_is_no_conflict_of_metadata() {
    let world = World::new(MemoryResource::new("m", 10_000));
    let memory = world.memory();
    world.script(&[Fault::After, Fault::Before, Fault::After]);
    let done = memory.update_metadata([("state", "open")], Some(0)).await.unwrap();
    let metadata = done.applied().unwrap();
    assert_eq!((metadata.revision, metadata.get("state")), (1, Some(&"open".into())));
    // Another caller with the same values is one.
    let same = memory.update_metadata([("state", "open")], Some(0)).await.unwrap();
    assert_eq!(same, Conditional::Conflict(metadata));
}
