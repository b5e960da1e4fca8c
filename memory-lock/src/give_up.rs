//! Giving a lease up: to the next in line or to all, with or without waiting for the answer.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use memory_core::lease::OwnerId;
use tokio::time::Instant;

use crate::answer::{HandOver, Release};
use crate::backend_client::BackendClient;
use crate::claim::Claim;
use crate::error::LockOperation;
use crate::finish::{Releasing, can_carry_on, carry_on};
use crate::key::LockKey;
use crate::line::{HandingOver, LeftBehind, Turn};
use crate::time::{after, until};

/// The result of giving up a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ReleaseOutcome {
    /// The holder had it until this moment. It is now free, or held by the next waiter.
    Released,
    /// The holder no longer had it, so the protected work was not protected to its end.
    NotOwner,
    /// The backend gave no definite answer. The release is retried in the background until the lease has
    /// expired.
    Unknown,
}

/// A lease to be given up.
pub(crate) struct GiveUp {
    pub(crate) client: Arc<BackendClient>,
    pub(crate) key: LockKey,
    pub(crate) owner: OwnerId,
    /// The longest time that it may last from now, including refreshes that may have arrived.
    pub(crate) ttl: Duration,
    pub(crate) turn: Option<Turn<Claim>>,
}

/// The limit for one release or hand-over while a caller waits for it.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(2);
/// The pause between two retries in the background.
const RELEASE_RETRY_PAUSE: Duration = Duration::from_millis(250);

/// Gives up a lease without waiting, from a `Drop`: at once if the backend can, else in a task.
pub(crate) fn give_up_detached(lease: GiveUp) {
    let client = Arc::clone(&lease.client);
    let to_pass_on = lease.turn.as_ref().is_some_and(|turn| turn.waiters() > 0);
    if (!to_pass_on || !can_carry_on(&client))
        && client.backend.release_now(&lease.key, lease.owner)
    {
        return;
    }
    // Without a runtime, or with one that ends, the work is dropped, and with it the turn, which calls up
    // the next waiter to free the lease.
    carry_on(&client, Box::pin(give_up(lease)));
}

/// Passes a lease to the next in line, or releases it. If it is dropped before its end, the next in line
/// does the rest.
pub(crate) fn give_up(mut lease: GiveUp) -> Pin<Box<dyn Future<Output = ReleaseOutcome> + Send>> {
    let until = after(Instant::now(), lease.ttl);
    if let Some(turn) = &mut lease.turn {
        turn.left_behind = Some(LeftBehind { owner: lease.owner, until });
    }
    Box::pin(async move {
        let GiveUp { client, key, mut owner, ttl: last, turn } = lease;
        let Some(mut turn) = turn else {
            return release(&client, &key, owner, last).await;
        };
        let limit = turn.max_hand_overs.unwrap_or_else(|| max_hand_overs(&client, &turn));
        turn.max_hand_overs = Some(limit);
        while turn.hand_overs < limit {
            let Some(next) = turn.next_waiter() else { break };
            let (to, ttl) = (next.owner, next.ttl);
            let sent_at = Instant::now();
            let handing_over = HandingOver::new(next, turn);
            let call = client.backend.hand_over(&key, owner, to, ttl);
            let answer = client.answer(LockOperation::HandOver, RELEASE_TIMEOUT, call).await;
            let Some((next, had)) = handing_over.done() else { return ReleaseOutcome::Unknown };
            turn = had;
            match answer {
                Ok(HandOver::HandedOver { token }) => {
                    tracing::debug!(%key, %token, "lease handed over in line");
                    client.counters.handed_over.one();
                    turn.hand_overs += 1;
                    turn.left_behind = None;
                    let mut claim = Claim::new(&client, &key, to, ttl, turn, sent_at);
                    claim.grant(token, sent_at);
                    match next.grant(claim) {
                        None => return ReleaseOutcome::Released,
                        // That waiter has left. The lease belongs to its owner id now, so that grant is
                        // passed on.
                        Some(mut back) => {
                            back.disarm();
                            let Some(had) = back.take_turn() else {
                                return release(&client, &key, to, ttl).await;
                            };
                            owner = to;
                            turn = had;
                            let until = after(Instant::now(), ttl);
                            turn.left_behind = Some(LeftBehind { owner, until });
                        }
                    }
                }
                Ok(HandOver::NotOwner) => {
                    turn.left_behind = None;
                    next.call_up(turn);
                    return ReleaseOutcome::NotOwner;
                }
                Err(error) => {
                    // Regardless of the current holder, the next in line frees the leases that it knows of,
                    // and asks under the owner id to which the lease may have been passed.
                    tracing::debug!(%key, %error, "hand-over failed");
                    release_in_background(&client, &key, owner, last);
                    next.call_up(turn);
                    return ReleaseOutcome::Unknown;
                }
            }
        }
        turn.hold_back = turn.hand_overs >= limit
            && client.foreign_contention.is_recent()
            && !client.backend.keeps_places();
        let outcome = release(&client, &key, owner, last).await;
        if outcome != ReleaseOutcome::Unknown {
            turn.left_behind = None;
        }
        outcome
    })
}

/// The most consecutive hand-overs from here on. If other processes have places in line at the backend, the
/// present waiters of this process get one turn each before the other processes do.
fn max_hand_overs(client: &BackendClient, turn: &Turn<Claim>) -> u32 {
    let most = client.options.max_hand_overs();
    if client.backend.keeps_places() && client.foreign_contention.is_recent() {
        let waiting = u32::try_from(turn.waiters()).unwrap_or(u32::MAX);
        return most.min(waiting);
    }
    most
}

/// Frees a lease that could not be released when its runtime ended; false without a definite answer.
pub(crate) async fn free_left_behind(
    client: &BackendClient,
    key: &LockKey,
    left: LeftBehind,
) -> bool {
    let call = client.backend.release(key, left.owner);
    match client.answer(LockOperation::Release, RELEASE_TIMEOUT, call).await {
        Ok(_) => true,
        Err(error) => {
            tracing::debug!(%key, %error, "cannot free a lease whose runtime ended");
            false
        }
    }
}

/// Sends one release; without a definite answer, more of them in the background.
async fn release(
    client: &Arc<BackendClient>,
    key: &LockKey,
    owner: OwnerId,
    ttl: Duration,
) -> ReleaseOutcome {
    let call = client.backend.release(key, owner);
    match client.answer(LockOperation::Release, RELEASE_TIMEOUT, call).await {
        Ok(Release::Released) => ReleaseOutcome::Released,
        Ok(Release::NotOwner) => ReleaseOutcome::NotOwner,
        Err(error) => {
            tracing::debug!(%key, %error, "release without a definite answer");
            release_in_background(client, key, owner, ttl);
            ReleaseOutcome::Unknown
        }
    }
}

/// Repeats the release until the backend answers or the lease has expired.
pub(crate) fn release_in_background(
    client: &Arc<BackendClient>,
    key: &LockKey,
    owner: OwnerId,
    ttl: Duration,
) {
    let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
    let releasing = Releasing::begin(client);
    let deadline = after(Instant::now(), ttl);
    let (client, key) = (Arc::clone(client), key.clone());
    runtime.spawn(async move {
        let _releasing = releasing;
        while !until(deadline).is_zero() {
            tokio::time::sleep(client.random.jittered(RELEASE_RETRY_PAUSE)).await;
            let call = client.backend.release(&key, owner);
            match client.answer(LockOperation::Release, RELEASE_TIMEOUT, call).await {
                Err(error) if error.is_retryable() => {}
                _ => return,
            }
        }
    });
}
