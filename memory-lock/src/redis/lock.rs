//! The backend: each call is one script on the link.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, Weak};
use std::time::Duration;

use async_trait::async_trait;
use memory_core::lease::{FencingToken, LeaseDomain, OwnerId};
use memory_redis_link::{
    Keyspace, LEASE_LUA, LinkError, RedisLink, Reply, Script, Shown, WRITE_LEASE_LUA, flag, number,
};

use super::error::lock_error;
use super::replies::{AcquireReply, acquired, handed_over, owner, time_left};
use super::waiters::{LINE_TTL, RESERVED_FOR_WAITER, Waiters};
use crate::LeaseInfo;
use crate::answer::{Acquired, HandOver, Release, Renewal};
use crate::backend::{LockBackend, Watch};
use crate::error::{LockError, LockOperation};
use crate::key::LockKey;
use crate::lease::Lease;

/// Leases in Redis or Valkey, for any number of machines.
///
/// Each call is one script in one request. One subscription wakes the waiters of all processes, and a
/// released lease is reserved briefly for the process that has waited longest, so that none starves.
/// Fencing tokens are `max(last + 1, server clock in microseconds)`, from a counter that the leases of a
/// bucket share. They do not decrease, even if a server comes back without its data, unless its clock was
/// also set back.
///
/// Redis expires keys by its wall clock, and a failover may lose a lease that was just granted: then two
/// owners may hold one lease for a while. A store that checks tokens keeps them apart.
#[derive(Debug, Clone)]
pub struct RedisLock {
    link: RedisLink,
    waiters: Arc<Waiters>,
}

macro_rules! script {
    ($name:ident, $file:literal) => {
        pub(crate) static $name: LazyLock<Script> =
            LazyLock::new(|| Script::new(&[LEASE_LUA, include_str!(concat!("scripts/", $file))]));
    };
}
script!(RENEW, "renew.lua");
script!(RELEASE, "release.lua");
script!(INSPECT, "inspect.lua");

pub(crate) static ACQUIRE: LazyLock<Script> = LazyLock::new(|| {
    let line_ttl = format!("local LINE_TTL = {}\n", millis(LINE_TTL));
    Script::new(&[LEASE_LUA, WRITE_LEASE_LUA, &line_ttl, include_str!("scripts/acquire.lua")])
});
pub(crate) static HAND_OVER: LazyLock<Script> = LazyLock::new(|| {
    Script::new(&[LEASE_LUA, WRITE_LEASE_LUA, include_str!("scripts/hand_over.lua")])
});

impl RedisLock {
    /// The leases on the server of this link.
    #[must_use]
    pub fn new(link: RedisLink) -> Self {
        let waiters = Arc::new(Waiters::default());
        let listener: Weak<Waiters> = Arc::downgrade(&waiters);
        link.add_listener(listener);
        Self { link, waiters }
    }

    /// The link.
    #[must_use]
    pub const fn link(&self) -> &RedisLink {
        &self.link
    }

    fn keys(&self) -> &Keyspace {
        self.link.keys()
    }

    /// Renews leases whose keys may be in one request.
    async fn renew_together(&self, leases: &[&Lease]) -> Result<Vec<Renewal>, LinkError> {
        let keys: Vec<_> =
            leases.iter().map(|lease| self.keys().lease(lease.key.as_str())).collect();
        let mut call = RENEW.on(keys.iter().map(String::as_str));
        for lease in leases {
            call.arg(Shown(lease.owner)).arg(millis(lease.ttl));
        }
        let mut reply = Reply::parts(self.link.run(&RENEW, &call).await?)?;
        if reply.len() != leases.len() {
            return Err(LinkError::odd_answer());
        }
        let answer = |_| match reply.number::<u8>()? {
            1 => Ok(Renewal::Renewed),
            2 => Ok(Renewal::NotOwner),
            0 => Ok(Renewal::Vanished),
            _ => Err(LinkError::odd_answer()),
        };
        leases.iter().map(answer).collect()
    }
}

/// Redis counts in whole milliseconds; a lease of zero would end before it began.
pub(crate) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX).clamp(1, 1 << 52)
}

fn failed(operation: LockOperation, key: &LockKey) -> impl Fn(LinkError) -> LockError {
    move |error| lock_error(error, operation).with_key(key)
}

/// A waiter's place in line at the server. A waiter that leaves without the lease gives the place up, or a
/// release would reserve the lease for an absent waiter for a while.
struct Place {
    link: RedisLink,
    waiters: Arc<Waiters>,
    key: LockKey,
    owner: Option<OwnerId>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(owner) = self.owner.filter(|owner| self.waiters.keeps_place(&self.key, *owner))
        else {
            return;
        };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (link, key) = (self.link.clone(), self.key.clone());
        let waiters = Arc::clone(&self.waiters);
        runtime.spawn(async move {
            // A caller that continues to wait does so under the same owner id, at once.
            tokio::time::sleep(RESERVED_FOR_WAITER).await;
            if waiters.takes_back_place(&key, owner) {
                let mut leave = redis::cmd("ZREM");
                leave.arg(link.keys().line(key.as_str())).arg(Shown(owner));
                if let Err(error) = link.send(&leave).await {
                    tracing::debug!(%key, %error, "a place in line was not given up");
                }
            }
        });
    }
}

#[async_trait]
impl LockBackend for RedisLock {
    async fn try_acquire(
        &self,
        key: &LockKey,
        owner: OwnerId,
        ttl: Duration,
    ) -> Result<Acquired, LockError> {
        let failed = failed(LockOperation::Acquire, key);
        let (keys, name) = (self.keys(), key.as_str());
        let (lease, fence, line) = (keys.lease(name), keys.fence(name), keys.line(name));
        let mut call = ACQUIRE.on([lease.as_str(), &fence, &line]);
        let waits = u8::from(self.waiters.waits(key, owner));
        call.arg(Shown(owner)).arg(millis(ttl)).arg(waits);
        if waits == 1 {
            self.waiters.add_place(key, owner);
        }
        let answer = self.link.run(&ACQUIRE, &call).await.map_err(&failed)?;
        match acquired(answer).map_err(failed)? {
            AcquireReply::Granted(token) => {
                self.waiters.remove_place(key, owner);
                Ok(Acquired::Granted { token })
            }
            AcquireReply::Held { remaining, .. } => {
                Ok(Acquired::Held { remaining: Some(remaining) })
            }
        }
    }

    /// One request for all leases, or one for those of each slot where the server is a Cluster.
    async fn renew(&self, leases: &[Lease]) -> Result<Vec<Renewal>, LockError> {
        let mut groups: BTreeMap<u16, Vec<usize>> = BTreeMap::new();
        for (index, lease) in leases.iter().enumerate() {
            let cluster = self.link.is_cluster();
            let group = if cluster { Keyspace::bucket(lease.key.as_str()) } else { 0 };
            groups.entry(group).or_default().push(index);
        }
        let renewals = groups.into_values().map(|indexes| async {
            let group: Vec<_> = indexes.iter().filter_map(|index| leases.get(*index)).collect();
            let answers = self.renew_together(&group).await?;
            Ok::<_, LinkError>(indexes.into_iter().zip(answers).collect::<Vec<_>>())
        });
        let mut answers: Vec<_> = futures::future::try_join_all(renewals)
            .await
            .map_err(|error| lock_error(error, LockOperation::Renew))?
            .concat();
        answers.sort_unstable_by_key(|(index, _)| *index);
        Ok(answers.into_iter().map(|(_, answer)| answer).collect())
    }

    async fn release(&self, key: &LockKey, owner: OwnerId) -> Result<Release, LockError> {
        let failed = failed(LockOperation::Release, key);
        let (keys, name) = (self.keys(), key.as_str());
        let (lease, line) = (keys.lease(name), keys.line(name));
        let mut call = RELEASE.on([lease.as_str(), &line]);
        call.arg(Shown(owner)).arg(name).arg(keys.channel(name));
        call.arg(self.link.publish_command()).arg(millis(RESERVED_FOR_WAITER));
        let answer = self.link.run(&RELEASE, &call).await.map_err(&failed)?;
        let released = flag(&answer).map_err(failed)?;
        Ok(if released { Release::Released } else { Release::NotOwner })
    }

    async fn hand_over(
        &self,
        key: &LockKey,
        from: OwnerId,
        to: OwnerId,
        ttl: Duration,
    ) -> Result<HandOver, LockError> {
        let failed = failed(LockOperation::HandOver, key);
        let (lease, fence) = (self.keys().lease(key.as_str()), self.keys().fence(key.as_str()));
        let mut call = HAND_OVER.on([lease.as_str(), &fence]);
        call.arg(from.to_string()).arg(to.to_string()).arg(millis(ttl));
        let answer = self.link.run(&HAND_OVER, &call).await.map_err(&failed)?;
        let token = handed_over(answer).map_err(failed)?;
        Ok(token.map_or(HandOver::NotOwner, |token| HandOver::HandedOver { token }))
    }

    async fn inspect(&self, key: &LockKey) -> Result<Option<LeaseInfo>, LockError> {
        let failed = failed(LockOperation::Inspect, key);
        let lease = self.keys().lease(key.as_str());
        let call = INSPECT.on([lease.as_str()]);
        let answer = self.link.run(&INSPECT, &call).await.map_err(&failed)?;
        let decode = || {
            let Some(mut reply) = Reply::array(answer)? else { return Ok(None) };
            let owner = owner(&mut reply)?;
            let token = FencingToken::new(reply.number()?);
            let (granted, now): (u64, u64) = (reply.number()?, reply.number()?);
            let mut info = LeaseInfo::new(owner, token, time_left(&mut reply)?);
            info.held_for = Some(Duration::from_micros(now.saturating_sub(granted)));
            Ok(Some(info))
        };
        decode().map_err(failed)
    }

    /// Returns whether the key has lost its expiry. The next caller that asks for the lease sets one.
    async fn is_overdue(&self, key: &LockKey) -> Result<bool, LockError> {
        let failed = failed(LockOperation::Inspect, key);
        let mut ask = redis::cmd("PTTL");
        ask.arg(self.keys().lease(key.as_str()));
        let left = number::<i64>(self.link.send(&ask).await.map_err(&failed)?).map_err(failed)?;
        Ok(left == -1)
    }

    /// Ends at once after it has subscribed to the bucket of the lease, because a release may have come
    /// before that.
    fn watch(&self, key: &LockKey, waiter: Option<OwnerId>) -> Watch {
        let (link, key) = (self.link.clone(), key.clone());
        let waiting = self.waiters.wait(&key, waiter);
        let waiters = Arc::clone(&self.waiters);
        let place = Place { link: link.clone(), waiters, key: key.clone(), owner: waiter };
        Box::pin(async move {
            let (_place, waiting) = (place, waiting);
            match link.subscribe(link.keys().channel(key.as_str())).await {
                Ok(true) => {}
                Ok(false) => waiting.released().await,
                // The caller's timer is the fallback.
                Err(error) => {
                    tracing::debug!(%key, %error, "cannot listen for releases");
                    std::future::pending::<()>().await;
                }
            }
        })
    }

    /// Never: a release is a request, and a request needs a task.
    fn release_now(&self, _key: &LockKey, _owner: OwnerId) -> bool {
        false
    }

    fn keeps_places(&self) -> bool {
        true
    }

    fn domain(&self) -> &LeaseDomain {
        self.link.domain()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Processes of several versions share a server. A hash changes on purpose only, with the reason in the commit.
    #[test]
    fn scripts_keep_their_hashes() {
        let scripts: [(&str, &LazyLock<Script>); 5] = [
            ("acquire", &ACQUIRE),
            ("renew", &RENEW),
            ("release", &RELEASE),
            ("hand_over", &HAND_OVER),
            ("inspect", &INSPECT),
        ];
        let hashes: String =
            scripts.map(|(name, script)| format!("{} {name}\n", script.hash())).concat();
        assert_eq!(hashes, include_str!("scripts/hashes.txt"));
    }
}
