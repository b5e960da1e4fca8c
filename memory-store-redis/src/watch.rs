//! Signals of changes, which the server publishes to the processes that watch a memory.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use memory_core::MemoryKey;
use memory_core::store::{
    Generation, LocalWatch, LocalWatchers, StoreError, StoreOperation, StoreWatch,
};
use memory_redis_link::{LinkError, LinkErrorKind, PushListener, Reply};
use tokio::time::{Instant, timeout_at};

use crate::error::store_error;
use crate::scripts::WATCH;
use crate::store::RedisStore;

/// The time for which the server announces writes after the last renewal of a watch.
const WATCH_LIFETIME: Duration = Duration::from_secs(30);

/// The interval between renewals, which also find what no announcement did.
const WATCH_RENEWAL: Duration = Duration::from_secs(10);

/// The shortest interval, for memories with a short TTL: a registration ends with the memory.
const MIN_WATCH_RENEWAL: Duration = Duration::from_millis(100);

/// The interval between reads of the state of a memory whose watch the server does not register: it is full, or the
/// user may only read. Each time the registration is tried again.
const UNREGISTERED_WATCH_READ: Duration = Duration::from_secs(1);

/// The watches of this process, and the server's announcements for them.
#[derive(Debug, Default)]
pub(crate) struct Watches {
    watchers: LocalWatchers,
    /// The number of connections that broke, with which subscriptions and perhaps announcements were lost.
    disconnections: AtomicU64,
}

impl Watches {
    /// Signals the watches of this process when the write ended or its caller dropped it.
    pub(crate) const fn signal_when_dropped<'a>(&'a self, key: &'a MemoryKey) -> WriteSignal<'a> {
        WriteSignal { watches: self, key: Some(key) }
    }

    fn disconnections(&self) -> u64 {
        self.disconnections.load(Ordering::SeqCst)
    }
}

impl PushListener for Watches {
    fn message(&self, channel: &[u8], payload: &[u8]) {
        if !channel.ends_with(b"}:changes") {
            return;
        }
        let Ok(name) = std::str::from_utf8(payload) else { return };
        if let Ok(key) = name.parse() {
            self.watchers.notify(&key);
        }
    }

    fn disconnected(&self) {
        self.disconnections.fetch_add(1, Ordering::SeqCst);
        // An announcement may have been missed. Each watch then registers again.
        self.watchers.notify_all();
    }
}

/// Signals the watches of this process when it is dropped.
#[derive(Debug)]
pub(crate) struct WriteSignal<'a> {
    watches: &'a Watches,
    key: Option<&'a MemoryKey>,
}

impl WriteSignal<'_> {
    /// The write was not applied.
    pub(crate) fn cancel(mut self) {
        self.key = None;
    }
}

impl Drop for WriteSignal<'_> {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.watches.watchers.notify(key);
        }
    }
}

/// Generation and version of a memory, zero if there is none.
type State = (Generation, u64);

/// A registration at the server.
#[derive(Debug, Clone, Copy)]
struct Registration {
    /// The disconnections before it began.
    disconnections: u64,
    renew_at: Instant,
}

/// A watch that is registered at the server while its caller waits.
#[derive(Debug)]
pub(crate) struct ServerWatch {
    store: RedisStore,
    key: MemoryKey,
    local: LocalWatch,
    /// The memory at the last registration; `None` after a lost connection: another server may have reached the same
    /// version with other messages.
    seen: Option<State>,
    registration: Option<Registration>,
}

impl ServerWatch {
    pub(crate) async fn begin(store: &RedisStore, key: &MemoryKey) -> Result<Self, StoreError> {
        let local = store.watches.watchers.watch(key);
        let mut watch =
            Self { store: store.clone(), key: key.clone(), local, seen: None, registration: None };
        watch.seen = Some(watch.register().await?);
        Ok(watch)
    }

    /// When the registration must be renewed, if it still exists.
    fn renew_at(&self) -> Option<Instant> {
        let current = self.store.watches.disconnections();
        let registration = self.registration.filter(|it| it.disconnections == current)?;
        (Instant::now() < registration.renew_at).then_some(registration.renew_at)
    }

    /// Subscribes, then registers, so that no write between the two is missed. Without a registration the state is read.
    async fn register(&mut self) -> Result<State, StoreError> {
        self.registration = None;
        let disconnections = self.store.watches.disconnections();
        let begun = Instant::now();
        let (state, interval) = match self.announce().await {
            Ok((state, expires)) => {
                let interval = expires
                    .map_or(WATCH_RENEWAL, |left| left.clamp(MIN_WATCH_RENEWAL, WATCH_RENEWAL));
                (state, interval)
            }
            Err(error) if takes_no_registration(&error) => {
                let head = self.store.whole_head(&self.key).await?;
                ((head.generation, head.version), UNREGISTERED_WATCH_READ)
            }
            Err(error) => return Err(store_error(StoreOperation::Watch, Some(&self.key), error)),
        };
        self.registration = Some(Registration { disconnections, renew_at: begun + interval });
        Ok(state)
    }

    async fn announce(&self) -> Result<(State, Option<Duration>), LinkError> {
        let link = self.store.link();
        link.subscribe(link.keys().changes(self.key.as_str())).await?;
        self.store.register_watch(&self.key).await
    }
}

/// Whether the server answers reads, and takes no registration.
fn takes_no_registration(error: &LinkError) -> bool {
    use LinkErrorKind::{Full, NotPermitted, ReadOnly, Refused};

    matches!(error.kind(), Full | NotPermitted | ReadOnly | Refused)
}

impl RedisStore {
    /// Registers a watch; returns the memory's state and the time until it expires.
    async fn register_watch(
        &self,
        key: &MemoryKey,
    ) -> Result<(State, Option<Duration>), LinkError> {
        let channel_kind = if self.link().publish_command() == "SPUBLISH" { "S" } else { "P" };
        let arguments = [WATCH_LIFETIME.as_micros().to_string(), channel_kind.to_owned()];
        let mut reply = Reply::parts(self.look(key, &WATCH, &arguments).await?)?;
        let state = (Generation::new(reply.number()?), reply.number()?);
        // One millisecond more: then it has expired.
        let left = u64::try_from(reply.number::<i64>()?).ok();
        Ok((state, left.map(|left| Duration::from_millis(left.saturating_add(1)))))
    }
}

#[async_trait]
impl StoreWatch for ServerWatch {
    async fn changed(&mut self) -> Result<(), StoreError> {
        loop {
            let Some(renew_at) = self.renew_at() else {
                let current = self.store.watches.disconnections();
                if self.registration.is_some_and(|it| it.disconnections != current) {
                    self.seen = None;
                }
                let state = self.register().await?;
                if self.seen.replace(state) != Some(state) {
                    return Ok(());
                }
                continue;
            };
            if timeout_at(renew_at, self.local.changed()).await.is_ok() {
                return Ok(());
            }
        }
    }
}
