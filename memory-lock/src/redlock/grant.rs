//! A lease that is to be granted or handed over: asking all servers, and cleaning up after it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt as _};
use memory_core::lease::{FencingToken, OwnerId};
use memory_core::store::Applied;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use super::member::{Member, Place, answer_of};
use super::quorum::Quorum;
use super::vote::{Answer, Motion, Order, Vote, VoteResult};
use crate::answer::Acquired;
use crate::error::{LockError, LockOperation};
use crate::key::LockKey;
use crate::time::after;

/// A lease that the servers are asked to grant.
#[derive(Debug, Clone)]
pub(super) struct Grant {
    pub(super) key: LockKey,
    /// The present holder, if the lease is to be handed over.
    pub(super) from: Option<OwnerId>,
    pub(super) to: OwnerId,
    pub(super) ttl: Duration,
}

/// The time to wait for slow servers after a majority has answered and the decision depends on them.
const SLOW_SERVER_WAIT: Duration = Duration::from_millis(50);

/// A server's answer, and its place for the requests that follow.
type Heard = (usize, Place, Result<Answer, LockError>);

impl Grant {
    fn operation(&self) -> LockOperation {
        match self.from {
            None => LockOperation::Acquire,
            Some(_) => LockOperation::HandOver,
        }
    }

    /// Asks all servers, sends the outcome as soon as it is certain, and ends when no server is left with a
    /// token or a grant that has no effect.
    pub(super) async fn decide(
        self,
        quorum: Arc<Quorum>,
        places: Vec<Result<Place, LockError>>,
        say: oneshot::Sender<Result<Acquired, LockError>>,
    ) {
        let motion = if self.from.is_none() { Motion::Acquire } else { Motion::HandOver };
        let mut vote = Vote::new(motion, quorum.members.len());
        let mut say = Some(say);
        let (decide, decided) = watch::channel(false);
        let mut failures = Vec::new();
        let mut idle = HashMap::new();
        let mut give_up_at = None;
        let mut under_way = FuturesUnordered::new();
        let least = quorum.proposal();
        for ((at, place), member) in places.into_iter().enumerate().zip(&quorum.members) {
            match place {
                Ok(place) => {
                    under_way.push(self.ask(member, at, place, least, decided.clone()));
                }
                Err(error) => {
                    vote.hear(at, answer_of(&error));
                    failures.push((at, error));
                }
            }
        }
        loop {
            if let Some(verdict) = vote.verdict()
                && let Some(say) = say.take()
            {
                let answer = match verdict {
                    VoteResult::Granted(token) => {
                        quorum.saw(token);
                        Ok(Acquired::Granted { token })
                    }
                    VoteResult::Refused => Ok(Acquired::Held { remaining: vote.remaining() }),
                    VoteResult::InDoubt => {
                        let changed = vote.may_have_changed();
                        let applied = if changed { Applied::Unknown } else { Applied::No };
                        Err(quorum.failure(self.operation(), &failures, applied))
                    }
                };
                decide.send_replace(true);
                // The caller has been dropped; the grant is valid nevertheless.
                let _ = say.send(answer);
            }
            for (at, order) in vote.orders() {
                let (Some(place), Some(member)) = (idle.remove(&at), quorum.members.get(at)) else {
                    continue;
                };
                match order {
                    Order::Settle(token) => under_way.push(self.settle(member, at, place, token)),
                    Order::Withdraw => under_way.push(self.withdraw(member, at, place)),
                    Order::Rest => drop(place),
                }
            }
            if vote.hinges_on_the_slow() {
                give_up_at.get_or_insert_with(|| after(Instant::now(), SLOW_SERVER_WAIT));
            }
            let heard = tokio::select! {
                biased;
                heard = under_way.next() => heard,
                () = until(give_up_at), if vote.hinges_on_the_slow() => {
                    vote.give_up();
                    continue;
                }
            };
            let Some((at, place, answer)) = heard else { break };
            let answer = answer.unwrap_or_else(|error| {
                let answer = answer_of(&error);
                failures.push((at, error));
                answer
            });
            if let Answer::Holds(token) = answer {
                quorum.saw(token);
            }
            idle.insert(at, place);
            vote.hear(at, answer);
        }
        debug_assert!(say.is_none(), "all have answered, and nothing is certain");
    }

    fn ask<'a>(
        &'a self,
        member: &'a Member,
        at: usize,
        place: Place,
        least: FencingToken,
        mut decided: watch::Receiver<bool>,
    ) -> BoxFuture<'a, Heard> {
        Box::pin(async move {
            let is_acquisition = self.from.is_none();
            tokio::select! {
                biased;
                () = place.come() => {}
                // It was never asked: an earlier call of this owner is still without an answer there. A
                // hand-over waits for that one, or the giver would keep a lease that it gets there.
                _ = decided.wait_for(|decided| *decided), if is_acquisition => {
                    return (at, place, Ok(Answer::Failed));
                }
            }
            let answer = match self.from {
                None => member.acquire(&self.key, self.to, self.ttl, least).await,
                Some(from) => member.hand_over(&self.key, from, self.to, self.ttl, least).await,
            };
            (at, place, answer)
        })
    }

    fn settle<'a>(
        &'a self,
        member: &'a Member,
        at: usize,
        place: Place,
        token: FencingToken,
    ) -> BoxFuture<'a, Heard> {
        Box::pin(async move {
            let answer = member.settle(&self.key, self.to, token, self.operation()).await;
            (at, place, answer)
        })
    }

    fn withdraw<'a>(&'a self, member: &'a Member, at: usize, place: Place) -> BoxFuture<'a, Heard> {
        Box::pin(async move {
            // It expires by itself if this fails.
            if let Err(error) = member.withdraw(&self.key, self.to).await {
                tracing::debug!(key = %self.key, server = member.name(), %error, "grant left behind");
            }
            (at, place, Ok(Answer::Failed))
        })
    }
}

async fn until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}
