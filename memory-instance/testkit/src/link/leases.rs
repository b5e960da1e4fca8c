//! The lease backend's half of a connection, and the records about leases.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use memory_core::lease::{LeaseDomain, OwnerId};
use memory_lock::{
    Acquired, HandOver, Lease, LeaseInfo, LockBackend, LockError, LockKey, LockOperation, Release,
    Renewal, Watch,
};
use tokio::time::sleep;

use super::{About, Fate, Link};
use crate::bug::Bug;
use crate::grants::Sent;
use crate::server::Server;

/// Records about leases.
impl Link {
    fn now(&self) -> Sent {
        self.recorder.history().now()
    }

    fn granted(&self, key: &LockKey, to: (OwnerId, u64), sent: Sent, ttl: Duration) {
        let mut history = self.recorder.history();
        let now = history.now();
        history.grants.granted(key, to, sent, now, ttl);
    }

    fn given_up(&self, key: &LockKey, owner: OwnerId) {
        let mut history = self.recorder.history();
        let now = history.now().micros;
        history.grants.given_up(key, owner, now);
    }

    /// The TTL on the server for a requested TTL and a round-trip time. They are equal, except for the planted bug of a
    /// holder that counts its deadline from the answer. Shortening the server's TTL has the same effect as extending
    /// the holder's.
    fn shift(&self) -> impl Fn(Duration, Duration) -> Duration + Send + 'static {
        let is_shifted = self.bug() == Some(Bug::DeadlineFromAnswer);
        move |ttl, took| {
            let shorter = ttl.saturating_sub(took).max(Duration::from_millis(1));
            if is_shifted { shorter } else { ttl }
        }
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl LockBackend for Link {
    async fn try_acquire(
        &self,
        key: &LockKey,
        owner: OwnerId,
        ttl: Duration,
    ) -> Result<Acquired, LockError> {
        let (at, sent, shift) = (key.clone(), self.now(), self.shift());
        let effect =
            move |server: &Arc<Server>, took| server.try_acquire(&at, owner, shift(ttl, took));
        let answer = self.lock(LockOperation::Acquire, effect).await;
        if let Ok(Acquired::Granted { token }) = &answer {
            self.granted(key, (owner, token.number()), sent, ttl);
        }
        answer
    }

    async fn renew(&self, leases: &[Lease]) -> Result<Vec<Renewal>, LockError> {
        let (sent, shift) = (self.now(), self.shift());
        let asked = leases.to_vec();
        let effect = move |server: &Arc<Server>, took| {
            let leases = asked.into_iter();
            let leases: Vec<_> =
                leases.map(|lease| Lease { ttl: shift(lease.ttl, took), ..lease }).collect();
            server.renew(&leases)
        };
        let answer = self.lock(LockOperation::Renew, effect).await;
        let answers = answer.iter().flatten();
        for (lease, _) in leases.iter().zip(answers).filter(|(_, a)| **a == Renewal::Renewed) {
            let mut history = self.recorder.history();
            history.grants.renewed(&lease.key, lease.owner, sent, lease.ttl);
        }
        answer
    }

    async fn release(&self, key: &LockKey, owner: OwnerId) -> Result<Release, LockError> {
        self.given_up(key, owner);
        let key = key.clone();
        let effect = move |server: &Arc<Server>, _| server.release(&key, owner);
        self.lock(LockOperation::Release, effect).await
    }

    async fn hand_over(
        &self,
        key: &LockKey,
        from: OwnerId,
        to: OwnerId,
        ttl: Duration,
    ) -> Result<HandOver, LockError> {
        self.given_up(key, from);
        let (at, sent, shift) = (key.clone(), self.now(), self.shift());
        let effect =
            move |server: &Arc<Server>, took| server.hand_over(&at, from, to, shift(ttl, took));
        let answer = self.lock(LockOperation::HandOver, effect).await;
        if let Ok(HandOver::HandedOver { token }) = &answer {
            self.granted(key, (to, token.number()), sent, ttl);
        }
        answer
    }

    async fn inspect(&self, key: &LockKey) -> Result<Option<LeaseInfo>, LockError> {
        let key = key.clone();
        self.lock(LockOperation::Inspect, move |server, _| server.inspect(&key)).await
    }

    /// Never: the server's clock does not step.
    async fn is_overdue(&self, _key: &LockKey) -> Result<bool, LockError> {
        Ok(false)
    }

    fn watch(&self, key: &LockKey, _waiter: Option<OwnerId>) -> Watch {
        let (_, back, fate) = self.draw(About::Memory);
        if self.is_dead() || fate != Fate::Fine {
            // A lost wake-up costs only time.
            return Box::pin(std::future::pending());
        }
        let released = self.server.watch(key);
        Box::pin(async move {
            released.await;
            sleep(back).await;
        })
    }

    fn keeps_places(&self) -> bool {
        false
    }

    /// As in every lease backend over a network.
    fn release_now(&self, _key: &LockKey, _owner: OwnerId) -> bool {
        // A dead process releases nothing.
        self.is_dead() || self.bug() == Some(Bug::GuardForgets)
    }

    fn domain(&self) -> &LeaseDomain {
        &self.lock_domain
    }
}
