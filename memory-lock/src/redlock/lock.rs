//! The backend: each call is sent to all servers, and a majority decides.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::{FuturesUnordered, StreamExt as _};
use memory_core::lease::{LeaseDomain, OwnerId};
use memory_core::store::Applied;
use memory_redis_link::RedisConfig;
use tokio::sync::oneshot;

use super::grant::Grant;
use super::member::Place;
use super::quorum::{Quorum, in_background};
use super::renew::Renewals;
use super::tally::{Outcome, Sight, VoteTally, sight};
use super::vote::majority;
use crate::Clock;
use crate::LeaseInfo;
use crate::answer::{Acquired, HandOver, Release, Renewal};
use crate::backend::{LockBackend, Watch};
use crate::error::{LockError, LockOperation};
use crate::key::LockKey;
use crate::lease::Lease;

/// Leases on a majority of independent Redis or Valkey servers (the Redlock algorithm, with fencing tokens
/// added).
///
/// Every call asks all servers at once and returns as soon as the outcome is certain: a server that is down
/// or hangs delays nothing while a majority answers. The remaining requests continue in the background,
/// including the withdrawal of late grants of slow servers.
///
/// # Guarantees of a quorum
///
/// - Leases outlive the loss of a minority of the servers (one of three, two of five), without a failover
///   and the writes that it may lose. A server that comes back gets its leases again when they are renewed.
///
/// # Limits of a quorum
///
/// - No protection of data: as with every lease, only a store that checks tokens refuses the writes of a
///   holder that lost its lease without noticing. Open a `RedisStore` beside it with
///   `TokenChecks::TokensAlone`, because the leases are not stored with the data.
/// - Tokens rise only under a condition: the servers keep their counters (`appendfsync always`), or clocks
///   (the servers' and the clients') neither step back nor differ by more than the time for which a server
///   that lost its data stays out. While neither holds, two grants may get one token, or the later one the
///   lower.
/// - No exclusion when a server comes back empty at once: it may take part in a second majority. Keep it
///   out for the longest TTL in use, or let it keep its data.
/// - Lower speed: each call costs a request at every server. Where servers' clocks are more than 50 ms
///   ahead of the client's, a grant takes a second round trip. Waiters are not served in order of arrival.
///
/// Every process must use the same servers.
#[derive(Debug, Clone)]
pub struct RedlockLock {
    quorum: Arc<Quorum>,
}

impl RedlockLock {
    /// Connects to the servers: an odd number of them, at least 3. Fencing tokens are proposed from the
    /// clock; the servers' clocks bound them too.
    ///
    /// A minority may be down: the connection to such a server is made once it answers.
    ///
    /// # Errors
    ///
    /// [`LockErrorKind::InvalidOptions`](crate::LockErrorKind::InvalidOptions) for an even number or too
    /// few, a Cluster, a server that is named twice, or any server that breaks a guarantee; otherwise the
    /// errors of the servers, if too many cannot be used. Returned within the longest connect timeout and
    /// one answer.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the opened connections.
    pub async fn open(
        servers: impl IntoIterator<Item = RedisConfig>,
        clock: Clock,
    ) -> Result<Self, LockError> {
        let quorum = Quorum::open(servers.into_iter().collect(), clock).await?;
        Ok(Self { quorum: Arc::new(quorum) })
    }

    /// The number of servers.
    #[must_use]
    pub fn servers(&self) -> usize {
        self.quorum.members.len()
    }

    async fn grant(&self, operation: LockOperation, grant: Grant) -> Result<Acquired, LockError> {
        let owners: Vec<_> = grant.from.into_iter().chain([grant.to]).collect();
        // Before anything is awaited, so that the next call is ordered after this one.
        let places = self.quorum.enter(&owners, operation);
        let (key, quorum) = (grant.key.clone(), Arc::clone(&self.quorum));
        in_background(operation, |say| grant.decide(quorum, places, say))
            .await
            .map_err(|error| error.with_key(&key))
    }
}

#[async_trait]
impl LockBackend for RedlockLock {
    async fn try_acquire(
        &self,
        key: &LockKey,
        owner: OwnerId,
        ttl: Duration,
    ) -> Result<Acquired, LockError> {
        let grant = Grant { key: key.clone(), from: None, to: owner, ttl };
        self.grant(LockOperation::Acquire, grant).await
    }

    /// One request to each server for all leases. If one lease of several remains in doubt while others are
    /// certain, its answer is [`Renewal::Vanished`].
    async fn renew(&self, leases: &[Lease]) -> Result<Vec<Renewal>, LockError> {
        if leases.is_empty() {
            return Ok(Vec::new());
        }
        let owners: Vec<_> = leases.iter().map(|lease| lease.owner).collect();
        let places = self.quorum.enter(&owners, LockOperation::Renew);
        let (renewals, quorum) = (Renewals { leases: leases.to_vec() }, Arc::clone(&self.quorum));
        in_background(LockOperation::Renew, |say| renewals.decide(quorum, places, say)).await
    }

    async fn release(&self, key: &LockKey, owner: OwnerId) -> Result<Release, LockError> {
        let places = self.quorum.enter(&[owner], LockOperation::Release);
        let (quorum, released) = (Arc::clone(&self.quorum), key.clone());
        in_background(LockOperation::Release, |say| release(quorum, released, owner, places, say))
            .await
            .map_err(|error| error.with_key(key))
    }

    async fn hand_over(
        &self,
        key: &LockKey,
        from: OwnerId,
        to: OwnerId,
        ttl: Duration,
    ) -> Result<HandOver, LockError> {
        let grant = Grant { key: key.clone(), from: Some(from), to, ttl };
        Ok(match self.grant(LockOperation::HandOver, grant).await? {
            Acquired::Granted { token } => HandOver::HandedOver { token },
            Acquired::Held { .. } => HandOver::NotOwner,
        })
    }

    /// The lease that a majority reports.
    async fn inspect(&self, key: &LockKey) -> Result<Option<LeaseInfo>, LockError> {
        let servers = self.servers();
        let mut asked: FuturesUnordered<_> = self
            .quorum
            .members
            .iter()
            .enumerate()
            .map(|(at, member)| async move {
                let asked = async { member.lock(LockOperation::Inspect).await?.inspect(key).await };
                (at, asked.await)
            })
            .collect();
        let (mut seen, mut failures) = (Vec::new(), Vec::new());
        while let Some((at, answer)) = asked.next().await {
            match answer {
                Ok(info) => seen.push(info),
                Err(error) => failures.push((at, error)),
            }
            match sight(&seen, failures.len(), servers) {
                Sight::Open => {}
                Sight::Held(info) => return Ok(Some(info)),
                Sight::Free => return Ok(None),
                Sight::InDoubt => break,
            }
        }
        Err(self.quorum.failure(LockOperation::Inspect, &failures, Applied::No).with_key(key))
    }

    /// Ends when a majority of the servers has announced a release, or has subscribed to releases.
    fn watch(&self, key: &LockKey, _waiter: Option<OwnerId>) -> Watch {
        // Without the waiter, or each server would reserve the lease for another one.
        let watches = self.quorum.members.iter().filter_map(|member| member.opened());
        let mut watches: FuturesUnordered<_> =
            watches.map(|server| server.watch(key, None)).collect();
        let needed = majority(self.servers());
        Box::pin(async move {
            for _ in 0..needed {
                if watches.next().await.is_none() {
                    // Too few servers were reached; the caller's timer is the fallback.
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
        false
    }

    fn domain(&self) -> &LeaseDomain {
        &self.quorum.domain
    }
}

/// Frees the lease at every server, and returns once a majority has done so.
async fn release(
    quorum: Arc<Quorum>,
    key: LockKey,
    owner: OwnerId,
    places: Vec<Result<Place, LockError>>,
    say: oneshot::Sender<Result<Release, LockError>>,
) {
    let mut asked: FuturesUnordered<_> = places
        .into_iter()
        .enumerate()
        .zip(&quorum.members)
        .map(|((at, place), member)| {
            let key = &key;
            async move {
                let asked = async {
                    let place = place?;
                    place.come().await;
                    let answer =
                        member.lock(LockOperation::Release).await?.release(key, owner).await;
                    drop(place);
                    answer
                };
                (at, asked.await)
            }
        })
        .collect();
    let (mut tally, mut failures, mut say) = (VoteTally::default(), Vec::new(), Some(say));
    while let Some((at, answer)) = asked.next().await {
        match answer {
            Ok(Release::Released) => tally.yes += 1,
            Ok(Release::NotOwner) => tally.another += 1,
            Err(error) => {
                tally.failed += 1;
                failures.push((at, error));
            }
        }
        let answer = match tally.outcome(quorum.members.len()) {
            Outcome::Open => continue,
            Outcome::Yes => Ok(Release::Released),
            Outcome::Another | Outcome::Free => Ok(Release::NotOwner),
            Outcome::InDoubt => {
                let heard = tally.yes + tally.another + tally.failed;
                let may_have_changed = tally.yes > 0 || heard < quorum.members.len();
                let applied = if may_have_changed { Applied::Unknown } else { Applied::No };
                Err(quorum.failure(LockOperation::Release, &failures, applied))
            }
        };
        if let Some(say) = say.take() {
            let _ = say.send(answer);
        }
    }
}
