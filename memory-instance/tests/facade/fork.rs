//! Forks: memories that begin as others were.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use memory_core::dialect::ToolCall;
use memory_core::resource::ArchiveSettings;
use memory_core::store::{
    Access, CopyStep, CopyWrite, Counters, FrameWriters, Generation, StoreError, StoreErrorKind,
};
use memory_core::{
    ContentType, Entry, InMemoryStore, MemoryResource, MemoryStore, Message, Priority, Sequence,
};
use memory_core_testkit::intercept::{Hook, Intercept, Method};
use memory_instance::{
    Conditional, FlushMode, ForkOptions, ManagerBuilder, MemoryInstance, MemoryManager,
};
use memory_lock::{Clock, ClockExt as _, InProcessLock, LockManager};
use tokio::sync::Notify;
use uuid::Uuid;

use crate::support::{On, World, checked, texts, url, with};

on_every_backend![
    fork_is_independent_and_names_its_origin,
    fork_of_a_past_place_accounts_for_it,
    fork_has_the_archive_of_its_messages,
    long_memory_is_forked_whole,
    erased_archived_messages_are_not_counted,
    fork_ends_neither_in_a_unit_nor_summary,
    fork_sent_twice_returns_its_first_result,
    unfinished_fork_is_refused_and_completed,
    retry_is_recognized_after_the_origin_changed,
    concurrent_forks_to_one_key_are_not_mixed,
];

fn archiving() -> ManagerBuilder {
    let mut resource = MemoryResource::new("m", 400);
    resource.archive = ArchiveSettings::keep_for(Duration::from_hours(24));
    with(resource).with_flush_mode(FlushMode::Manual)
}

async fn talk(memory: &MemoryInstance, count: usize) {
    for number in 0..count {
        let text = format!("message {number} of a conversation that goes on");
        memory.append(Message::user(text)).await.unwrap();
    }
}

fn other(world: &World) -> MemoryInstance {
    world.manager.memory("m", "fork").unwrap()
}

fn at(place: u64) -> ForkOptions {
    ForkOptions::new().with_end(Sequence::new(place))
}

async fn fork_is_independent_and_names_its_origin(on: On) {
    let world = on.world(archiving()).await;
    let (memory, fork) = (world.memory(), other(&world));
    talk(&memory, 5).await;
    let receipt = memory.fork(&fork, ForkOptions::new()).await.unwrap();
    assert_eq!(memory.messages().await.unwrap(), fork.messages().await.unwrap());
    assert_eq!(memory.counters().await.unwrap(), fork.counters().await.unwrap());
    let origin = fork.origin().await.unwrap().unwrap();
    assert_eq!(origin, receipt.origin);
    assert_eq!((&origin.key, origin.at.number(), origin.version), (memory.key(), 5, 5));
    assert_eq!(fork.health().await.unwrap().origin, Some(origin));
    assert_eq!(memory.health().await.unwrap().origin, None);
    memory.append(Message::user("here")).await.unwrap();
    fork.append(Message::user("there")).await.unwrap();
    assert_eq!(texts(&memory).await[5..], ["here"]);
    assert_eq!(texts(&fork).await[5..], ["there"]);
    memory.delete().await.unwrap();
    assert_eq!(fork.len().await.unwrap(), 6);
    checked(&fork, &world.manager).await;
}

async fn fork_of_a_past_place_accounts_for_it(on: On) {
    let world = on.world(archiving()).await;
    let (memory, fork) = (world.memory(), other(&world));
    talk(&memory, 9).await;
    memory.erase([Sequence::new(2), Sequence::new(8)], "test").await.unwrap();
    memory.fork(&fork, at(4)).await.unwrap();
    assert_eq!(fork.messages().await.unwrap(), memory.messages().await.unwrap()[..3]);
    let outline = checked(&fork, &world.manager).await;
    let counters = &outline.head.counters;
    assert_eq!((counters.appended, counters.present.messages, counters.withdrawn), (3, 3, 0));
    assert_eq!(fork.erasures().await.unwrap().len(), 1);
    let appended = fork.append(Message::user("next")).await.unwrap();
    assert_eq!(appended.outcome.first(), Some(Sequence::new(5)));
    for wrong in [0, 10] {
        let refused = memory.fork(&world.manager.memory("m", "x").unwrap(), at(wrong)).await;
        let refused = refused.unwrap_err().to_string();
        assert!(refused.contains("a fork ends at one of its numbers, 1 to 9"), "{refused}");
    }
    let nothing = world.manager.memory("m", "nothing").unwrap();
    assert!(nothing.fork(&fork, ForkOptions::new()).await.is_err());
}

/// More messages than one script forks on Redis.
async fn long_memory_is_forked_whole(on: On) {
    let mut resource = MemoryResource::new("m", 30_000);
    resource.archive = ArchiveSettings::keep_for(Duration::from_hours(24));
    let world = on.world(with(resource).with_flush_mode(FlushMode::Manual)).await;
    let (memory, fork) = (world.memory(), other(&world));
    for batch in 0..5 {
        let texts = (0..500).map(|number| format!("message {number} of batch {batch}"));
        memory.append_all(texts.map(Message::user)).await.unwrap();
    }
    let flush = memory.perform_flush().await.unwrap().unwrap();
    assert!(flush.summarized.len() > 100, "{flush:?}");
    memory.fork(&fork, ForkOptions::new()).await.unwrap();
    for read in [&memory, &fork] {
        assert!(read.messages().await.unwrap().len() > 500);
    }
    assert_eq!(memory.messages().await.unwrap(), fork.messages().await.unwrap());
    assert_eq!(memory.counters().await.unwrap(), fork.counters().await.unwrap());
    let all = Sequence::ZERO..=Sequence::new(u64::MAX);
    let archived = memory.archived(all.clone()).await.unwrap();
    assert_eq!(archived, fork.archived(all).await.unwrap());
    fork.undo_flush(flush.id).await.unwrap();
    assert_eq!(fork.len().await.unwrap(), 2_500);
    assert_eq!(memory.receipts().await.unwrap()[0].id, flush.id);
    checked(&fork, &world.manager).await;
}

async fn erased_archived_messages_are_not_counted(on: On) {
    let world = on.world(archiving()).await;
    let (memory, fork) = (world.memory(), other(&world));
    talk(&memory, 40).await;
    let flush = memory.perform_flush().await.unwrap().unwrap();
    let gone: Vec<_> = flush.summarized.iter().chain(flush.evicted.iter()).collect();
    memory.erase([gone[1], gone[2]], "test").await.unwrap();
    talk(&memory, 2).await;
    // Whole, and without the newest message.
    let past = world.manager.memory("m", "past").unwrap();
    memory.fork(&fork, ForkOptions::new()).await.unwrap();
    memory.fork(&past, at(41)).await.unwrap();
    for (fork, appended) in [(&fork, 40), (&past, 39)] {
        let Counters { appended: all, present, summaries, summarized, evicted, withdrawn, .. } =
            checked(fork, &world.manager).await.head.counters;
        assert_eq!(all, present.messages - summaries + summarized + evicted + withdrawn);
        assert_eq!(all, appended);
    }
}

async fn fork_has_the_archive_of_its_messages(on: On) {
    let world = on.world(archiving()).await;
    let (memory, fork) = (world.memory(), other(&world));
    talk(&memory, 40).await;
    let before = memory.messages().await.unwrap();
    let flush = memory.perform_flush().await.unwrap().unwrap();
    let last = memory.messages().await.unwrap().last().unwrap().meta.sequence;
    talk(&memory, 2).await;
    let version = memory.version().await.unwrap();
    let rewound = memory.rewind(Sequence::new(41), version).await.unwrap();
    assert!(matches!(rewound, Conditional::Applied(_)));
    memory.fork(&fork, ForkOptions::new().with_end(last)).await.unwrap();
    let outline = checked(&fork, &world.manager).await;
    assert_eq!(outline.head.counters.summarized, flush.summarized.len());
    assert_eq!(outline.head.counters.appended, 40);
    let removals = fork.removals(None, NonZeroUsize::MAX).await.unwrap();
    assert_eq!(removals.len(), 1, "the rewind was of a later message");
    fork.undo_flush(flush.id).await.unwrap();
    assert_eq!(fork.messages().await.unwrap(), before);
    let counters = checked(&fork, &world.manager).await.head.counters;
    assert_eq!((counters.appended, counters.summarized), (40, 0));
}

async fn fork_ends_neither_in_a_unit_nor_summary(on: On) {
    let world = on.world(archiving()).await;
    let (memory, fork) = (world.memory(), other(&world));
    talk(&memory, 40).await;
    let flush = memory.perform_flush().await.unwrap().unwrap();
    memory.append(Message::calls([ToolCall::function("c", "find", "{}")])).await.unwrap();
    memory.append(Message::tool_result("c", "found")).await.unwrap();
    memory.append(Message::user("thanks")).await.unwrap();
    let refused = memory.fork(&fork, at(41)).await.unwrap_err().to_string();
    assert!(refused.contains("between a call and its results, 41 to 42"), "{refused}");
    let end = flush.summarized.ranges().last().unwrap().1.number();
    let refused = memory.fork(&fork, at(end - 1)).await.unwrap_err().to_string();
    assert!(refused.contains(&format!("covers messages up to {end}")), "{refused}");
    assert_eq!(fork.len().await.unwrap(), 0);
    let cleared = world.manager.memory("m", "cleared").unwrap();
    talk(&cleared, 5).await;
    cleared.clear().await.unwrap();
    talk(&cleared, 2).await;
    let refused = cleared.fork(&fork, at(3)).await.unwrap_err().to_string();
    assert!(refused.contains("messages 1 to 5 were removed together"), "{refused}");
    memory.fork(&fork, at(42)).await.unwrap();
    let messages = memory.messages().await.unwrap();
    assert_eq!(fork.messages().await.unwrap(), messages[..messages.len() - 1]);
}

async fn fork_sent_twice_returns_its_first_result(on: On) {
    let world = on.world(archiving()).await;
    let (memory, fork) = (world.memory(), other(&world));
    talk(&memory, 3).await;
    let options = ForkOptions::new().with_id(Uuid::from_u128(7));
    let first = memory.fork(&fork, options).await.unwrap();
    memory.append(Message::user("later")).await.unwrap();
    let again = memory.fork(&fork, options).await.unwrap();
    assert!(again.completed_before && !first.completed_before);
    assert_eq!((again.origin, again.id), (first.origin, first.id));
    assert_eq!(fork.len().await.unwrap(), 3);
    let refused = memory.fork(&fork, ForkOptions::new()).await.unwrap_err();
    assert_eq!(refused.store_kind(), Some(&StoreErrorKind::Exists));
    let refused = memory.fork(&memory, ForkOptions::new()).await.unwrap_err();
    assert_eq!(refused.store_kind(), Some(&StoreErrorKind::Exists));
    let refused = memory.fork(&fork.read_only(), options).await.unwrap_err();
    assert!(matches!(refused, memory_instance::MemoryError::ReadOnly { .. }));
}

/// As if the process had ended after its first part, and the memory had then been flushed.
async fn unfinished_fork_is_refused_and_completed(on: On) {
    let world = on.world(archiving()).await;
    let (memory, fork) = (world.memory(), other(&world));
    talk(&memory, 40).await;
    let copy = Uuid::from_u128(7);
    for step in [CopyStep::Begin, CopyStep::Messages(memory.messages().await.unwrap())] {
        let write = CopyWrite { copy, attempt: 1, step };
        world.manager.store().write_copy(fork.key(), Access::OPEN, &write).await.unwrap();
    }
    let refused = fork.messages().await.unwrap_err();
    assert_eq!(refused.store_kind(), Some(&StoreErrorKind::Unfinished));
    let refused = fork.append(Message::user("early")).await.unwrap_err();
    assert_eq!(refused.store_kind(), Some(&StoreErrorKind::Unfinished));
    assert!(refused.to_string().contains("run it again to complete it"), "{refused}");
    memory.perform_flush().await.unwrap().unwrap();
    memory.fork(&fork, ForkOptions::new().with_id(copy)).await.unwrap();
    assert_eq!(fork.messages().await.unwrap(), memory.messages().await.unwrap());
    checked(&fork, &world.manager).await;
}

async fn retry_is_recognized_after_the_origin_changed(on: On) {
    let world = on.world(archiving()).await;
    let (memory, fork) = (world.memory(), other(&world));
    talk(&memory, 6).await;
    let options = at(3).with_id(Uuid::from_u128(7));
    let first = memory.fork(&fork, options).await.unwrap();
    // The place is now within messages that were removed together.
    memory.clear().await.unwrap();
    let again = memory.fork(&fork, options).await.unwrap();
    assert_eq!((again.origin, again.completed_before), (first.origin, true));
    let refused = memory.fork(&fork, at(3).with_id(Uuid::from_u128(8))).await.unwrap_err();
    assert!(refused.to_string().contains("removed together"), "{refused}");
    memory.delete().await.unwrap();
    assert!(memory.fork(&fork, options).await.unwrap().completed_before);
    // The id of a fork of another memory.
    let another = world.manager.memory("m", "another").unwrap();
    talk(&another, 2).await;
    let options = ForkOptions::new().with_id(Uuid::from_u128(7));
    let refused = another.fork(&fork, options).await.unwrap_err();
    assert_eq!(refused.store_kind(), Some(&StoreErrorKind::Exists));
}

async fn concurrent_forks_to_one_key_are_not_mixed(on: On) {
    let world = on.world(archiving()).await;
    let memory = world.memory();
    talk(&memory, 30).await;
    for round in 0..5 {
        let fork = world.manager.memory("m", &format!("fork-{round}")).unwrap();
        let (one, other) =
            tokio::join!(memory.fork(&fork, at(10 + round)), memory.fork(&fork, at(20 + round)));
        let done: Vec<_> = [one, other].into_iter().filter_map(Result::ok).collect();
        assert_eq!(done.len(), 1, "{done:?}");
        let end = usize::try_from(done[0].origin.at.number()).unwrap();
        assert_eq!(fork.messages().await.unwrap(), memory.messages().await.unwrap()[..end]);
        assert_eq!(fork.origin().await.unwrap().as_ref(), Some(&done[0].origin));
        checked(&fork, &world.manager).await;
    }
}

/// The calls as they are, for another manager of the same store.
#[derive(Debug)]
struct Through;

impl Hook for Through {
    async fn around<T: Send>(
        &self,
        _: Method,
        call: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        call.await
    }
}

/// Removals of each kind, in random order.
async fn random_talk(memory: &MemoryInstance, random: &mut fastrand::Rng) {
    for number in 0..random.u32(5..14) {
        match random.u8(..9) {
            0 => drop(memory.perform_flush().await.unwrap()),
            1 => {
                let version = memory.version().await.unwrap();
                let places = memory.messages().await.unwrap();
                let last = places.last().map_or(Sequence::ZERO, |one| one.meta.sequence);
                let to = Sequence::new(last.number().saturating_sub(random.u64(1..3)));
                drop(memory.rewind(to, version).await);
            }
            2 => {
                let place = Sequence::new(random.u64(1..10));
                drop(memory.erase([place], "test").await.unwrap());
            }
            3 if random.u8(..4) == 0 => drop(memory.clear().await.unwrap()),
            4 => {
                let call = ToolCall::function(format!("c{number}"), "find", "{}");
                memory.append(Message::calls([call])).await.unwrap();
                let result = Message::tool_result(format!("c{number}"), "found");
                memory.append(result).await.unwrap();
            }
            5 => {
                let fact = Entry::from(Message::user(format!("fact {number}")))
                    .with_priority(Priority::new(random.u8(..4)))
                    .with_content_type(ContentType::ImportantFacts);
                memory.append(fact).await.unwrap();
            }
            _ => talk(memory, random.usize(1..15)).await,
        }
    }
}

async fn assert_same_forks(memory: &MemoryInstance, one: &MemoryManager, parts: &MemoryManager) {
    let last = one.store().head(memory.key()).await.unwrap().last;
    let seed = memory.key().as_str().to_owned();
    for end in 1..=last.number() {
        let name = |how: &str| format!("{}-{how}-{end}", seed.rsplit(':').next().unwrap());
        let [fork, other] =
            [(one, "step"), (parts, "parts")].map(|(of, how)| of.memory("m", &name(how)).unwrap());
        let options = at(end).with_id(Uuid::from_u128(end.into()));
        let (done, expected) =
            (memory.fork(&fork, options).await, memory.fork(&other, options).await);
        let (done, expected) = match (done, expected) {
            (Err(refused), Err(expected)) => {
                assert_eq!(refused.to_string(), expected.to_string(), "{seed} {end}");
                continue;
            }
            (done, expected) => (done.unwrap(), expected.unwrap()),
        };
        let frame = async |key| {
            let mut frame = one.store().frame(key, FrameWriters::Included).await.unwrap();
            frame.generation = Generation::NONE;
            frame.origin.as_mut().unwrap().forked_at = done.origin.forked_at;
            frame
        };
        assert_eq!(frame(fork.key()).await, frame(other.key()).await, "{seed} {end}");
        assert_eq!(fork.messages().await.unwrap(), other.messages().await.unwrap());
        let all = Sequence::ZERO..=last;
        let archived = [fork.archived(all.clone()).await, other.archived(all).await];
        let [archived, expected_archived] = archived.map(Result::unwrap);
        assert_eq!(archived, expected_archived, "{seed} {end}");
        let most = NonZeroUsize::MAX;
        let removals = [fork.removals(None, most).await, other.removals(None, most).await];
        let [removals, expected_removals] = removals.map(Result::unwrap);
        assert_eq!(removals, expected_removals, "{seed} {end}");
        checked(&fork, one).await;
        assert!(!done.completed_before && !expected.completed_before);
        assert!(memory.fork(&fork, options).await.unwrap().completed_before);
    }
}

#[tokio::test]
async fn fork_in_one_step_equals_one_in_parts() {
    let mut random = fastrand::Rng::with_seed(4711);
    for round in 0..6 {
        let store: Arc<dyn MemoryStore> = Arc::new(InMemoryStore::new(Clock::tokio()));
        let locks = LockManager::new(Arc::new(InProcessLock::new(Clock::tokio())));
        let one = archiving().build(Arc::clone(&store), locks.clone()).unwrap();
        let parts = archiving().build(Arc::new(Intercept::new(store, Through)), locks).unwrap();
        let memory = one.memory("m", &format!("k{round}")).unwrap();
        random_talk(&memory, &mut random).await;
        assert_same_forks(&memory, &one, &parts).await;
    }
    let world = On::Sqlite.world(archiving()).await;
    let parts = archiving().open(&url(world.folder.as_ref().unwrap())).await.unwrap();
    for round in 0..4 {
        let memory = world.manager.memory("m", &format!("k{round}")).unwrap();
        random_talk(&memory, &mut random).await;
        assert_same_forks(&memory, &world.manager, &parts).await;
    }
}

/// Refuses copies in parts.
#[cfg(feature = "redis")]
#[derive(Debug)]
struct NoParts;

#[cfg(feature = "redis")]
impl Hook for NoParts {
    async fn around<T: Send>(
        &self,
        method: Method,
        call: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        assert_ne!(method, Method::Copy, "a fork in parts");
        call.await
    }
}

#[cfg(feature = "redis")]
#[tokio::test]
async fn fork_on_redis_equals_one_in_parts() {
    use memory_store_redis::{RedisConfig, RedisLink, RedisStore};

    let mut random = fastrand::Rng::with_seed(4711);
    let server = memory_redis_testkit::any_server().await;
    let prefix = memory_redis_testkit::unique_prefix();
    let config = RedisConfig::from_url(server.url()).unwrap().with_prefix(&prefix).unwrap();
    let link = RedisLink::open(config).await.unwrap();
    let store: Arc<dyn MemoryStore> = Arc::new(RedisStore::new(link.clone()));
    let locks = LockManager::new(Arc::new(memory_lock::RedisLock::new(link)));
    let one = Arc::new(Intercept::new(Arc::clone(&store), NoParts));
    let one = archiving().build(one, locks.clone()).unwrap();
    let parts = archiving().build(Arc::new(Intercept::new(store, Through)), locks).unwrap();
    for round in 0..6 {
        let memory = one.memory("m", &format!("k{round}")).unwrap();
        random_talk(&memory, &mut random).await;
        assert_same_forks(&memory, &one, &parts).await;
    }
}

/// Holds the second step of a copy back until it is released.
#[derive(Debug, Default)]
struct Held {
    steps: AtomicUsize,
    reached: Notify,
    release: Notify,
}

#[derive(Debug, Clone, Default)]
struct HeldStep(Arc<Held>);

impl Hook for HeldStep {
    async fn around<T: Send>(
        &self,
        method: Method,
        call: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        if method == Method::Copy && self.0.steps.fetch_add(1, Ordering::Relaxed) == 1 {
            self.0.reached.notify_one();
            self.0.release.notified().await;
        }
        call.await
    }
}

#[tokio::test]
async fn late_part_of_an_earlier_attempt_is_refused() {
    let store = Arc::new(InMemoryStore::new(Clock::tokio()));
    let locks = LockManager::new(Arc::new(InProcessLock::new(Clock::tokio())));
    let open = |store: Arc<dyn MemoryStore>, key: &str| {
        let manager = archiving().build(store, locks.clone()).unwrap();
        manager.memory("m", key).unwrap()
    };
    let memory = open(store.clone(), "k");
    talk(&memory, 3).await;
    let options = ForkOptions::new().with_id(Uuid::from_u128(7));
    let [first, second] = [(); 2].map(|()| HeldStep::default());
    let attempt = |step: &HeldStep| {
        let fork = open(Arc::new(Intercept::new(store.clone(), step.clone())), "fork");
        let memory = memory.clone();
        tokio::spawn(async move { memory.fork(&fork, options).await })
    };
    let early = attempt(&first);
    first.0.reached.notified().await;
    memory.append(Message::user("newer")).await.unwrap();
    let late = attempt(&second);
    second.0.reached.notified().await;
    first.0.release.notify_one();
    let refused = early.await.unwrap().unwrap_err();
    assert_eq!(refused.store_kind(), Some(&StoreErrorKind::Conflict));
    second.0.release.notify_one();
    assert!(!late.await.unwrap().unwrap().completed_before);
    let fork = open(store.clone(), "fork");
    assert_eq!(fork.messages().await.unwrap(), memory.messages().await.unwrap());
    // The first attempt again.
    let again = memory.fork(&fork, options).await.unwrap();
    assert_eq!((again.origin.at.number(), again.completed_before), (4, true));
}
