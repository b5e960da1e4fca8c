//! Renewing a batch of leases at all servers, and restoring leases to the servers that lack them.

use std::collections::HashMap;
use std::sync::Arc;

use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use memory_core::store::Applied;

use super::member::{Member, Place};
use super::quorum::Quorum;
use super::renewal_vote::{RenewalOrder, RenewalVerdict, RenewalVote};
use crate::answer::Renewal;
use crate::backend::LockBackend as _;
use crate::error::{LockError, LockErrorKind, LockOperation};
use crate::lease::Lease;
use crate::time::after;

/// Leases that the servers are asked to renew.
#[derive(Debug)]
pub(super) struct Renewals {
    pub(super) leases: Vec<Lease>,
}

/// A server's answers, and its place for the next request. `None` if it was not asked, or has its leases back.
type Heard = (usize, Place, Option<Result<Vec<Renewal>, LockError>>);

impl Renewals {
    /// Asks all servers and carries out what [`RenewalVote`] decides. Answers as soon as each lease is certain,
    /// and ends when each server that lacked a renewed lease has been given it again.
    pub(super) async fn decide(
        self,
        quorum: Arc<Quorum>,
        places: Vec<Result<Place, LockError>>,
        say: oneshot::Sender<Result<Vec<Renewal>, LockError>>,
    ) {
        let mut vote = RenewalVote::new(self.leases.len(), quorum.members.len());
        let mut say = Some(say);
        let (decide, decided) = watch::channel(false);
        let mut failures = Vec::new();
        let mut idle = HashMap::new();
        let mut under_way = FuturesUnordered::new();
        for ((at, place), member) in places.into_iter().enumerate().zip(&quorum.members) {
            match place {
                Ok(place) => under_way.push(self.ask(member, at, place, decided.clone())),
                Err(error) => {
                    vote.fail(at);
                    failures.push((at, error));
                }
            }
        }
        // One slow server must not delay the leases that are certain until the caller's own timeout.
        let give_up_at = after(Instant::now(), quorum.response_timeout() / 4 * 3);
        loop {
            if let Some(verdict) = vote.verdict()
                && let Some(say) = say.take()
            {
                let answer = match verdict {
                    RenewalVerdict::Decided(answers) => Ok(answers.clone()),
                    RenewalVerdict::InDoubt => {
                        Err(quorum.failure(LockOperation::Renew, &failures, Applied::Unknown))
                    }
                };
                decide.send_replace(true);
                // The caller may have been dropped.
                let _ = say.send(answer);
            }
            for (at, order) in vote.orders() {
                let (Some(place), Some(member)) = (idle.remove(&at), quorum.members.get(at)) else {
                    continue;
                };
                match order {
                    RenewalOrder::Restore(leases) => {
                        under_way.push(self.restore(member, at, place, &leases));
                    }
                    RenewalOrder::Rest => drop(place),
                }
            }
            let heard = tokio::select! {
                biased;
                heard = under_way.next() => heard,
                () = tokio::time::sleep_until(give_up_at), if vote.hinges_on_the_slow() => {
                    vote.give_up();
                    continue;
                }
            };
            let Some((at, place, answers)) = heard else { break };
            match answers {
                None => {}
                Some(Ok(answers)) => {
                    idle.insert(at, place);
                    vote.hear(at, &answers);
                }
                Some(Err(error)) => {
                    vote.fail(at);
                    failures.push((at, error));
                }
            }
        }
        debug_assert!(say.is_none(), "all have answered, and nothing is certain");
    }

    fn ask<'a>(
        &'a self,
        member: &'a Member,
        at: usize,
        place: Place,
        mut decided: watch::Receiver<bool>,
    ) -> BoxFuture<'a, Heard> {
        Box::pin(async move {
            tokio::select! {
                biased;
                () = place.come() => {}
                // An earlier call of one of the owners is still in flight there. Once the batch is decided
                // without this server, the next renewal asks it.
                _ = decided.wait_for(|decided| *decided) => return (at, place, None),
            }
            let answers = async {
                let answers = member.lock(LockOperation::Renew).await?.renew(&self.leases).await?;
                if answers.len() == self.leases.len() {
                    Ok(answers)
                } else {
                    Err(LockError::new(LockErrorKind::Backend, LockOperation::Renew))
                }
            };
            (at, place, Some(answers.await))
        })
    }

    /// Grants a server the leases with these indexes again.
    fn restore<'a>(
        &self,
        member: &'a Member,
        at: usize,
        place: Place,
        indexes: &[usize],
    ) -> BoxFuture<'a, Heard> {
        let leases = indexes.iter().filter_map(|index| self.leases.get(*index));
        // A lease without a token was not granted by this backend.
        let leases: Vec<_> = leases.filter(|lease| lease.token.number() > 0).cloned().collect();
        Box::pin(async move {
            if leases.is_empty() {
                return (at, place, None);
            }
            match member.restore(&leases).await {
                Ok(restored) => {
                    tracing::debug!(
                        server = member.name(),
                        restored,
                        "restored leases to a server"
                    );
                }
                // The next renewal tries again.
                Err(error) => {
                    tracing::debug!(server = member.name(), %error, "a server still lacks leases");
                }
            }
            (at, place, None)
        })
    }
}
