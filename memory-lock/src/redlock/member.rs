//! One of the servers: connecting to it, and the calls that go to it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use memory_core::lease::{FencingToken, OwnerId};
use memory_core::store::Applied;
use memory_redis_link::{
    LEASE_LUA, LinkError, RedisConfig, RedisLink, Script, WRITE_LEASE_LUA, flag, number,
};
use redis::Value;

use super::turns::{Turn, Turns};
use super::vote::Answer;
use crate::error::{LockError, LockErrorKind, LockOperation};
use crate::key::LockKey;
use crate::lease::Lease;
use crate::redis::{
    ACQUIRE, AcquireReply, HAND_OVER, RedisLock, acquired, handed_over, lock_error, millis,
};

const RAISE_LUA: &str = include_str!("scripts/raise.lua");

static SETTLE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(&[LEASE_LUA, WRITE_LEASE_LUA, RAISE_LUA, include_str!("scripts/settle.lua")])
});
static RESTORE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(&[LEASE_LUA, WRITE_LEASE_LUA, RAISE_LUA, include_str!("scripts/restore.lua")])
});
static WITHDRAW: LazyLock<Script> =
    LazyLock::new(|| Script::new(&[LEASE_LUA, include_str!("scripts/withdraw.lua")]));

/// The most calls in progress at a server. A server that hangs must not accumulate them without a limit.
const MOST_CALLS: usize = 1_024;

/// One of the servers. The connection is made when it is first needed, because a quorum works without some
/// servers.
#[derive(Debug)]
pub(super) struct Member {
    config: RedisConfig,
    lock: OnceLock<RedisLock>,
    opening: tokio::sync::Mutex<Option<LockError>>,
    /// The number of failed attempts to open it.
    attempts: AtomicU64,
    turns: Arc<Turns>,
    calls: Arc<AtomicUsize>,
    identities: Arc<Identities>,
}

/// The server behind each address, as it identifies itself: a server with two votes would break the quorum.
#[derive(Debug, Default)]
pub(super) struct Identities(Mutex<HashMap<String, String>>);

/// The right to send requests to a server, in the order in which the rights were given.
#[derive(Debug)]
pub(super) struct Place {
    turn: Turn,
    calls: Arc<AtomicUsize>,
}

impl Place {
    /// Ends when the earlier requests for the same owners are over.
    pub(super) async fn come(&self) {
        self.turn.come().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.calls.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Member {
    pub(super) fn new(config: RedisConfig, identities: &Arc<Identities>) -> Self {
        Self {
            config,
            lock: OnceLock::new(),
            opening: tokio::sync::Mutex::default(),
            attempts: AtomicU64::new(0),
            turns: Arc::default(),
            calls: Arc::default(),
            identities: Arc::clone(identities),
        }
    }

    /// `host:port/db/prefix` and the like, without users and passwords.
    pub(super) fn name(&self) -> String {
        let domain = self.config.domain();
        domain.as_str().trim_start_matches("redis:").to_owned()
    }

    pub(super) fn config(&self) -> &RedisConfig {
        &self.config
    }

    /// A place behind the requests in progress for these owners.
    pub(super) fn enter(
        &self,
        owners: &[OwnerId],
        operation: LockOperation,
    ) -> Result<Place, LockError> {
        let calls = Arc::clone(&self.calls);
        if calls.fetch_add(1, Ordering::Relaxed) >= MOST_CALLS {
            calls.fetch_sub(1, Ordering::Relaxed);
            let detail = format!(
                "{MOST_CALLS} calls to this server are still without an answer; check what holds it up"
            );
            return Err(LockError::new(LockErrorKind::Busy, operation)
                .with_detail(detail)
                .not_applied());
        }
        Ok(Place { turn: self.turns.enter(owners), calls })
    }

    /// The server's leases, if it was connected before.
    pub(super) fn opened(&self) -> Option<&RedisLock> {
        self.lock.get()
    }

    /// The server's leases; connects to it if that was not done yet.
    pub(super) async fn lock(&self, operation: LockOperation) -> Result<&RedisLock, LockError> {
        if let Some(lock) = self.lock.get() {
            return Ok(lock);
        }
        let seen = self.attempts.load(Ordering::SeqCst);
        let mut failed = self.opening.lock().await;
        if let Some(lock) = self.lock.get() {
            return Ok(lock);
        }
        // Another caller has tried while this one waited: its result is valid for all of them.
        if self.attempts.load(Ordering::SeqCst) != seen
            && let Some(error) = &*failed
        {
            return Err(error.clone());
        }
        let opened = async {
            let link = RedisLink::open(self.config.clone()).await?;
            self.check_identity(&link).await?;
            Ok::<_, LinkError>(link)
        };
        match opened.await {
            Ok(link) => Ok(self.lock.get_or_init(|| RedisLock::new(link))),
            Err(error) => {
                let error = lock_error(error, operation);
                *failed = Some(error.clone());
                self.attempts.fetch_add(1, Ordering::SeqCst);
                Err(error)
            }
        }
    }

    async fn check_identity(&self, link: &RedisLink) -> Result<(), LinkError> {
        let info = link.send(redis::cmd("INFO").arg("server")).await;
        let text = match info {
            Ok(Value::BulkString(text)) => String::from_utf8_lossy(&text).into_owned(),
            Ok(Value::VerbatimString { text, .. }) => text,
            // The user has no permission to read it.
            _ => return Ok(()),
        };
        let Some(id) = text.lines().find_map(|line| line.strip_prefix("run_id:")) else {
            return Ok(());
        };
        let name = self.name();
        let mut known = self.identities.0.lock().unwrap_or_else(PoisonError::into_inner);
        let first = known.entry(id.to_owned()).or_insert_with(|| name.clone());
        if *first == name {
            return Ok(());
        }
        Err(LinkError::config(format!(
            "`{first}` and `{name}` are one server; a quorum needs servers that fail independently"
        )))
    }

    /// Asks for a grant with this token or a greater one.
    pub(super) async fn acquire(
        &self,
        key: &LockKey,
        owner: OwnerId,
        ttl: Duration,
        least: FencingToken,
    ) -> Result<Answer, LockError> {
        let link = self.lock(LockOperation::Acquire).await?.link();
        let name = key.as_str();
        let (lease, fence, line) =
            (link.keys().lease(name), link.keys().fence(name), link.keys().line(name));
        let mut call = ACQUIRE.on([lease.as_str(), &fence, &line]);
        // A line of waiters would be a different one at each server.
        call.arg(owner.to_string()).arg(millis(ttl)).arg(0).arg(least.number());
        let asked = async {
            let answer = link.run(&ACQUIRE, &call).await?;
            Ok(match acquired(answer)? {
                AcquireReply::Granted(token) => Answer::Holds(token),
                AcquireReply::Held { remaining, holder } => {
                    Answer::NotOurs { holder, remaining: Some(remaining) }
                }
            })
        };
        asked.await.map_err(failed(LockOperation::Acquire))
    }

    /// Asks for a hand-over with this token or a greater one.
    pub(super) async fn hand_over(
        &self,
        key: &LockKey,
        from: OwnerId,
        to: OwnerId,
        ttl: Duration,
        least: FencingToken,
    ) -> Result<Answer, LockError> {
        let link = self.lock(LockOperation::HandOver).await?.link();
        let (lease, fence) = (link.keys().lease(key.as_str()), link.keys().fence(key.as_str()));
        let mut call = HAND_OVER.on([lease.as_str(), &fence]);
        call.arg(from.to_string()).arg(to.to_string()).arg(millis(ttl)).arg(least.number());
        let asked = async {
            let token = handed_over(link.run(&HAND_OVER, &call).await?)?;
            Ok(token.map_or(NOT_OURS, Answer::Holds))
        };
        asked.await.map_err(failed(LockOperation::HandOver))
    }

    /// Sets the token of the lease, if the owner holds it.
    pub(super) async fn settle(
        &self,
        key: &LockKey,
        owner: OwnerId,
        token: FencingToken,
        operation: LockOperation,
    ) -> Result<Answer, LockError> {
        let link = self.lock(operation).await?.link();
        let (lease, fence) = (link.keys().lease(key.as_str()), link.keys().fence(key.as_str()));
        let mut call = SETTLE.on([lease.as_str(), &fence]);
        call.arg(owner.to_string()).arg(token.number());
        let settled = async {
            let is_ours = flag(&link.run(&SETTLE, &call).await?)?;
            Ok(if is_ours { Answer::Holds(token) } else { NOT_OURS })
        };
        settled.await.map_err(failed(operation))
    }

    /// Restores leases on this server, only where they are missing.
    pub(super) async fn restore(&self, leases: &[Lease]) -> Result<usize, LockError> {
        let link = self.lock(LockOperation::Renew).await?.link();
        let mut keys = Vec::new();
        for lease in leases {
            let name = lease.key.as_str();
            keys.extend([link.keys().lease(name), link.keys().fence(name)]);
        }
        let mut call = RESTORE.on(keys.iter().map(String::as_str));
        for lease in leases {
            call.arg(lease.owner.to_string()).arg(lease.token.number()).arg(millis(lease.ttl));
        }
        let restored = async { number(link.run(&RESTORE, &call).await?) };
        restored.await.map_err(failed(LockOperation::Renew))
    }

    /// Withdraws a grant that has no effect.
    pub(super) async fn withdraw(&self, key: &LockKey, owner: OwnerId) -> Result<(), LockError> {
        let link = self.lock(LockOperation::Release).await?.link();
        let lease = link.keys().lease(key.as_str());
        let mut call = WITHDRAW.on([lease.as_str()]);
        call.arg(owner.to_string());
        let withdrawn = async { flag(&link.run(&WITHDRAW, &call).await?) };
        withdrawn.await.map(drop).map_err(failed(LockOperation::Release))
    }
}

const NOT_OURS: Answer = Answer::NotOurs { holder: None, remaining: None };

fn failed(operation: LockOperation) -> impl FnOnce(LinkError) -> LockError {
    move |error| lock_error(error, operation)
}

/// The possible outcomes of a failed call.
pub(super) fn answer_of(error: &LockError) -> Answer {
    match error.applied() {
        Applied::No => Answer::Failed,
        Applied::Unknown => Answer::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Processes of several versions share a server. A hash changes on purpose only, with the reason in the commit.
    #[test]
    fn scripts_keep_their_hashes() {
        let scripts: [(&str, &LazyLock<Script>); 3] =
            [("settle", &SETTLE), ("restore", &RESTORE), ("withdraw", &WITHDRAW)];
        let hashes: String =
            scripts.map(|(name, script)| format!("{} {name}\n", script.hash())).concat();
        assert_eq!(hashes, include_str!("scripts/hashes.txt"));
    }
}
