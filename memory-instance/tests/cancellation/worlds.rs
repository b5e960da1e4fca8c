//! The worlds of the sweeps: a backend, and memories on it with a history.

use std::sync::Arc;
use std::time::Duration;

use memory_core::conformance::assert_counters;
use memory_core::dialect::ToolCall;
use memory_core::resource::CircuitBreakerSettings;
use memory_core::store::Outline;
use memory_core::{MemoryResource, MemoryStore, Message};
use memory_flush::from_fn;
use memory_instance::config::ProjectConfig;
use memory_instance::{
    CircuitBreaker, FlushMode, KeyContext, ManagerBuilder, MemoryInstance, MemoryManager,
    ResolvedMemories,
};
use memory_lock::{LockKey, LockManager, LockOptions, ReleaseOutcome};
use memory_lock_testkit::{Cut, Table, sweep, tasks, until, until_tasks};

/// Much longer than a test waits, so that a leaked lease cannot expire unnoticed.
pub(crate) const TTL: Duration = Duration::from_secs(60);
/// More messages than SQLite reads on the calling thread.
pub(crate) const HISTORY: usize = 150;

/// The end of a call that may have been dropped before it completed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CallEnd {
    Completed,
    Dropped,
}

impl From<bool> for CallEnd {
    fn from(completed: bool) -> Self {
        if completed { Self::Completed } else { Self::Dropped }
    }
}

pub(crate) struct World {
    pub(crate) name: &'static str,
    pub(crate) manager: MemoryManager,
    /// Memories of the same store that flush within the append that makes a flush due.
    pub(crate) flushing: MemoryManager,
    /// The store as used by memories.
    pub(crate) store: Arc<dyn MemoryStore>,
    /// The lease manager of another process.
    pub(crate) others: LockManager,
    /// The number of repetitions, because a real backend does not answer after the same polls each time.
    pub(crate) rounds: usize,
}

/// Memories under pressure that flush only on an explicit call.
pub(crate) fn builder() -> ManagerBuilder {
    let slow = from_fn("slow", |_| async {
        tokio::task::yield_now().await;
        tokio::time::sleep(Duration::from_millis(1)).await;
        Ok("a summary".to_owned())
    });
    MemoryManager::builder().with_flush_mode(FlushMode::Manual).with_summarizer(slow)
}

fn resources(breaker: Option<CircuitBreakerSettings>) -> [MemoryResource; 2] {
    let mut usual = MemoryResource::new("m", 1_000);
    usual.flushing_strategy.kind = Some("hybrid_summary".into());
    usual.lock.ttl = TTL;
    usual.lock.refresh_interval = TTL / 2;
    usual.circuit_breaker = breaker;
    // Notices soon that its lease was broken.
    let mut short = usual.clone();
    short.id = "short".into();
    short.lock.ttl = Duration::from_secs(1);
    short.lock.refresh_interval = Duration::from_millis(5);
    [usual, short]
}

/// An agent that uses the memories of the sweeps by their key.
fn agent() -> ProjectConfig {
    let text = r#"{
        "memories": [{"id": "m", "max_tokens": 1000}],
        "agents": [{"id": "agent", "memory": "m", "memory_key": "{{ key }}"}]
    }"#;
    let mut config = ProjectConfig::from_json(text).unwrap();
    config.memories.clear();
    config
}

impl World {
    pub(crate) fn new(
        name: &'static str,
        store: &Arc<dyn MemoryStore>,
        locks: &LockManager,
        breaker: Option<CircuitBreakerSettings>,
    ) -> Self {
        let [usual, short] = resources(breaker);
        let build = |builder: ManagerBuilder| {
            let builder = builder.with_resource(usual.clone()).with_resource(short.clone());
            let builder = builder.with_config(agent());
            builder.build(Arc::clone(store), locks.clone()).unwrap()
        };
        let seen: Arc<dyn MemoryStore> = match breaker {
            Some(settings) => Arc::new(CircuitBreaker::new(Arc::clone(store), settings)),
            None => Arc::clone(store),
        };
        Self {
            name,
            manager: build(builder()),
            flushing: build(builder().with_flush_mode(FlushMode::Inline)),
            store: seen,
            others: LockManager::new(Arc::clone(locks.backend())),
            rounds: 2,
        }
    }

    pub(crate) async fn opened(name: &'static str, url: &str, rounds: usize) -> Self {
        let manager = MemoryManager::builder().open(url).await.unwrap();
        Self { rounds, ..Self::new(name, manager.store(), manager.locks(), None) }
    }

    pub(crate) fn behind_a_breaker(&self, name: &'static str) -> Self {
        let breaker = Some(CircuitBreakerSettings::default());
        let world = Self::new(name, self.manager.store(), self.manager.locks(), breaker);
        Self { rounds: self.rounds, ..world }
    }

    /// Sweeps these operations. `case` sets one up, drops it at the cut, and returns whether it had completed.
    pub(crate) async fn sweep(
        &self,
        operations: &[&'static str],
        table: &mut Table,
        case: impl AsyncFn(&Case<'_>, &str, Cut) -> bool,
    ) {
        let before = tasks();
        for operation in operations {
            let points = sweep(self.name, self.rounds, async |cut| {
                let what = format!("{operation} on {}, {cut:?}", self.name);
                let set_up = Case::new(self, "m", what).await;
                let ended = case(&set_up, operation, cut).await;
                set_up.check().await;
                ended
            })
            .await;
            table.add(operation, self.name, points);
        }
        // Everything is still open and idle. Tasks that watch a lease may run for up to a second more, so this waits once
        // for all operations.
        until_tasks(before, self.name).await;
    }
}

/// A memory with a history, and one operation on it.
pub(crate) struct Case<'a> {
    pub(crate) world: &'a World,
    pub(crate) memory: MemoryInstance,
    pub(crate) what: String,
}

impl<'a> Case<'a> {
    pub(crate) async fn new(world: &'a World, resource: &str, what: String) -> Self {
        let key = format!("{:x}", fastrand::u64(..));
        let memory = world.manager.memory(resource, &key).unwrap();
        let talk = (0..HISTORY).map(|number| Message::user(format!("before {number}")));
        let call = Message::calls([ToolCall::function("open", "look", "{}")]);
        memory.append_all(talk.chain([call])).await.unwrap();
        Self { world, memory, what }
    }

    /// Completes when a dropped operation can have no more effect: a later write has passed the same queue, and a
    /// turn has completed.
    pub(crate) async fn settle(&self) {
        let Self { memory, what, .. } = self;
        let probe = memory.append(Message::user("probe")).await;
        let probe = probe.unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(!probe.outcome.is_duplicate(), "{what}: a new message is taken for another");
        let turn = memory.exclusive(|_| async {}).await;
        turn.unwrap_or_else(|error| panic!("{what}: {error}"));
    }

    pub(crate) async fn texts(&self) -> Vec<String> {
        let messages = self.memory.messages().await.unwrap();
        messages.iter().map(|message| message.message.text().into_owned()).collect()
    }

    /// The number of these texts in the memory, after it settled.
    pub(crate) async fn count(&self, texts: &[&str]) -> usize {
        self.settle().await;
        self.texts().await.iter().filter(|text| texts.contains(&text.as_str())).count()
    }

    /// Asserts that all of these texts are stored or, if the call did not complete, all or none.
    pub(crate) async fn assert_all_or_nothing(&self, end: CallEnd, texts: &[&str]) {
        let there = self.count(texts).await;
        let all = there == texts.len();
        assert!(
            all || (there == 0 && end == CallEnd::Dropped),
            "{}: {there} of {texts:?}",
            self.what
        );
    }

    /// The same memory with inline flushes.
    pub(crate) fn flushing(&self) -> MemoryInstance {
        let (_, resource, key) = self.memory.key().parts().unwrap();
        self.world.flushing.memory(&resource, &key).unwrap()
    }

    /// The memory as that of an agent.
    pub(crate) fn agent(&self) -> ResolvedMemories {
        let (_, _, key) = self.memory.key().parts().unwrap();
        let context = KeyContext::new().with("key", key);
        self.world.manager.agent("agent").unwrap().resolve(&context).unwrap()
    }

    pub(crate) async fn outline(&self) -> Outline {
        self.world.manager.store().outline(self.memory.key()).await.unwrap()
    }

    pub(crate) fn lease(&self) -> LockKey {
        LockKey::new(self.memory.key().lease_name()).unwrap()
    }

    pub(crate) fn flush_lease(&self) -> LockKey {
        LockKey::new(self.memory.key().flush_lease_name()).unwrap()
    }

    /// Checks the invariants after any drop.
    async fn check(&self) {
        let Self { world, what, .. } = self;
        self.settle().await;
        assert_counters(&self.outline().await);
        let texts = self.texts().await;
        let talk: Vec<usize> =
            texts.iter().filter_map(|text| text.strip_prefix("before ")?.parse().ok()).collect();
        assert!(talk.is_sorted_by(|one, next| one < next), "{what}: {talk:?}");
        for lease in [self.lease(), self.flush_lease()] {
            let options = LockOptions::new().with_ttl(TTL);
            until(what, async || match world.others.try_lock(&lease, &options).await.unwrap() {
                Some(guard) => {
                    assert_eq!(guard.release().await, ReleaseOutcome::Released, "{what}");
                    Ok(())
                }
                None => Err(format!("{lease} is held")),
            })
            .await;
        }
        until(what, async || {
            let stats = world.manager.locks().stats();
            let busy = (stats.held, stats.waiting, stats.releasing);
            if busy == (0, 0, 0) { Ok(()) } else { Err(format!("busy: {busy:?}")) }
        })
        .await;
    }
}
