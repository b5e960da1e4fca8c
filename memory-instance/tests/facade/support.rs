//! Shared helpers: backends, resources, and checks of the invariants.

use std::collections::BTreeSet;
use std::sync::Arc;

use memory_core::store::Outline;
use memory_core::{
    EstimateCounter, MemoryResource, Message, Profile, TokenCounter, check_request,
    conformance::assert_counters,
};
use memory_instance::{ExclusiveError, ManagerBuilder, MemoryInstance, MemoryManager, Session};
use memory_lock::{Clock, ClockExt as _};
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// A manager with its backend.
pub(crate) struct World {
    pub(crate) manager: MemoryManager,
    pub(crate) folder: Option<TempDir>,
    #[cfg(feature = "redis")]
    _server: Option<memory_redis_testkit::AnyServer>,
}

/// The backends for every test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum On {
    Memory,
    Sqlite,
    #[cfg(feature = "redis")]
    Redis,
}

impl On {
    pub(crate) async fn world(self, builder: ManagerBuilder) -> World {
        #[cfg(feature = "redis")]
        if self == Self::Redis {
            let server = memory_redis_testkit::any_server().await;
            let prefix = memory_redis_testkit::unique_prefix();
            let url = format!("{}?prefix={prefix}", server.url());
            let manager = builder.open(&url).await.unwrap();
            return World { manager, folder: None, _server: Some(server) };
        }
        let folder = (self == Self::Sqlite).then(|| tempfile::tempdir().unwrap());
        let url = folder.as_ref().map_or_else(|| "memory://".to_owned(), url);
        World {
            manager: builder.open(&url).await.unwrap(),
            folder,
            #[cfg(feature = "redis")]
            _server: None,
        }
    }
}

pub(crate) fn url(folder: &TempDir) -> String {
    format!("sqlite://{}", folder.path().join("memory.db").display())
}

/// A builder with one resource, on tokio's clock.
pub(crate) fn with(resource: MemoryResource) -> ManagerBuilder {
    MemoryManager::builder().with_clock(Clock::tokio()).with_resource(resource)
}

/// A small resource with summaries.
pub(crate) fn hybrid(max_tokens: u64) -> MemoryResource {
    let mut resource = MemoryResource::new("m", max_tokens);
    resource.flushing_strategy.kind = Some("hybrid_summary".into());
    resource
}

impl World {
    pub(crate) fn memory(&self) -> MemoryInstance {
        self.manager.memory("m", "k").unwrap()
    }

    /// The same memory, of another manager, which shares neither views nor writers with the first one.
    pub(crate) fn in_another_process(&self, builder: ManagerBuilder) -> MemoryInstance {
        let (store, locks) = (Arc::clone(self.manager.store()), self.manager.locks().clone());
        builder.build(store, locks).unwrap().memory("m", "k").unwrap()
    }
}

/// A turn that hands out its session and does not end by itself, as if the session were passed to code that does not
/// notice the elapsed time.
pub(crate) async fn session_of_endless_turn(
    memory: &MemoryInstance,
) -> (Session, JoinHandle<Result<(), ExclusiveError<()>>>) {
    let (hand_out, handed_out) = oneshot::channel();
    let holder = memory.clone();
    let turn = tokio::spawn(async move {
        let turn = |session: Session| async move {
            hand_out.send(session).unwrap();
            std::future::pending::<()>().await;
        };
        holder.exclusive(turn).await
    });
    (handed_out.await.unwrap(), turn)
}

/// The outline, after P1, P3 and P10 were checked on it.
pub(crate) async fn checked(memory: &MemoryInstance, manager: &MemoryManager) -> Outline {
    let outline = manager.store().outline(memory.key()).await.unwrap();
    assert_counters(&outline);
    outline
}

/// Asserts that a window is within its budget, valid for a model, and begins with its system prompt.
pub(crate) async fn assert_window_fits(memory: &MemoryInstance, budget: u64) -> Vec<Message> {
    let window = memory.context(budget).await.unwrap();
    let counted = window.request().count_tokens(&EstimateCounter);
    assert!(counted <= budget, "{counted} tokens in a window of {budget}");
    assert_eq!(counted, window.tokens);
    check_request(&window.request().to_string(), &Profile::openai_chat()).unwrap();
    window.messages
}

/// The texts of all messages.
pub(crate) async fn texts(memory: &MemoryInstance) -> Vec<String> {
    let messages = memory.messages().await.unwrap();
    messages.iter().map(|message| message.message.text().into_owned()).collect()
}

pub(crate) fn assert_distinct(texts: &[String]) {
    let distinct: BTreeSet<_> = texts.iter().collect();
    assert_eq!(distinct.len(), texts.len(), "something is doubled: {texts:?}");
}

/// Counts one token per byte of text, plus framing.
#[derive(Debug)]
pub(crate) struct Bytes;

impl TokenCounter for Bytes {
    fn name(&self) -> &str {
        "bytes"
    }

    fn count(&self, text: &str) -> usize {
        text.len()
    }
}

pub(crate) fn bytes() -> Arc<dyn TokenCounter> {
    Arc::new(Bytes)
}
