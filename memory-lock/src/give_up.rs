//! Giving a lease up: to the next in line or to all, waiting for the answer or not.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use memory_core::lease::OwnerId;
use tokio::time::Instant;

use crate::answer::{HandOver, Release};
use crate::claim::Claim;
use crate::error::LockOperation;
use crate::finish::{Releasing, can_carry_on, carry_on};
use crate::key::LockKey;
use crate::line::{HandingOver, LeftBehind, Turn};
use crate::shared::{Shared, until};
use crate::time::after;

/// What became of a lease when its holder gave it up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ReleaseOutcome {
    /// It was ours until this moment, and is free or the next waiter's.
    Released,
    /// It was not ours any more: what it protected was not protected to the end.
    NotOwner,
    /// The backend gave no definite answer; the release is tried again in the background until the
    /// lease has run out anyway.
    Unknown,
}

/// A lease to be given up.
pub(crate) struct GiveUp {
    pub(crate) shared: Arc<Shared>,
    pub(crate) key: LockKey,
    pub(crate) owner: OwnerId,
    /// How long it may last from now, refreshed as it may have been.
    pub(crate) ttl: Duration,
    pub(crate) turn: Option<Turn>,
}

/// How long one release or hand-over may take while somebody waits for it.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(2);
/// The pause between two tries in the background.
const RELEASE_RETRY_PAUSE: Duration = Duration::from_millis(250);

/// Gives up a lease without waiting, from a `Drop`: at once if the backend can, else by a task.
pub(crate) fn give_up_detached(lease: GiveUp) {
    let (shared, key) = (Arc::clone(&lease.shared), lease.key.clone());
    let owner = lease.owner;
    let to_pass_on = lease.turn.is_some() && shared.lines.has_waiters(&key);
    if (!to_pass_on || !can_carry_on(&shared)) && shared.backend.release_now(&key, owner) {
        return;
    }
    // Without a runtime, or with one that ends, the work is dropped, and with it the turn, which calls up the
    // next to free the lease.
    carry_on(&shared, Box::pin(give_up(lease)));
}

/// Passes a lease to the next in line, or releases it. Dropped before its end, it leaves the rest to the
/// next.
pub(crate) fn give_up(mut lease: GiveUp) -> Pin<Box<dyn Future<Output = ReleaseOutcome> + Send>> {
    let until = after(Instant::now(), lease.ttl);
    if let Some(turn) = &mut lease.turn {
        turn.left_behind = Some(LeftBehind { owner: lease.owner, until });
    }
    Box::pin(async move {
        let GiveUp { shared, key, mut owner, ttl: last, turn } = lease;
        let Some(mut turn) = turn else {
            return release(&shared, &key, owner, last).await;
        };
        let most = *turn.most_hand_overs.get_or_insert_with(|| row(&shared, &key));
        while turn.hand_overs < most {
            let Some(next) = shared.lines.next(&key) else { break };
            let (to, ttl) = (next.owner, next.ttl);
            let sent_at = Instant::now();
            let handing_over = HandingOver::new(next, turn);
            let call = shared.backend.hand_over(&key, owner, to, ttl);
            let answer = shared.answer(LockOperation::HandOver, RELEASE_TIMEOUT, call).await;
            let Some((next, had)) = handing_over.done() else { return ReleaseOutcome::Unknown };
            turn = had;
            match answer {
                Ok(HandOver::HandedOver { token }) => {
                    tracing::debug!(%key, %token, "lease handed over in line");
                    shared.counters.handed_over.one();
                    turn.hand_overs += 1;
                    turn.left_behind = None;
                    let mut claim = Claim::new(&shared, &key, to, ttl, turn, sent_at);
                    claim.grant(token, sent_at);
                    match next.grant(claim) {
                        None => return ReleaseOutcome::Released,
                        // That one has left: the lease is its owner id's now, so pass that on.
                        Some(back) => {
                            owner = to;
                            turn = back;
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
                    // Whoever has the lease now, the next in line frees what it knows of and asks under the
                    // owner id to which the lease may have been passed.
                    tracing::debug!(%key, %error, "hand-over failed");
                    release_in_background(&shared, &key, owner, last);
                    next.call_up(turn);
                    return ReleaseOutcome::Unknown;
                }
            }
        }
        turn.hold_back = turn.hand_overs >= most
            && shared.foreign_contention.is_recent()
            && !shared.backend.keeps_places();
        let outcome = release(&shared, &key, owner, last).await;
        if outcome != ReleaseOutcome::Unknown {
            turn.left_behind = None;
        }
        outcome
    })
}

/// How many hand-overs in a row there may be from here on. Where other processes have places in line
/// at the backend, those who wait here now get one turn each before it is the others' again.
fn row(shared: &Shared, key: &LockKey) -> u32 {
    let most = shared.options.max_hand_overs();
    if shared.backend.keeps_places() && shared.foreign_contention.is_recent() {
        let waiting = u32::try_from(shared.lines.length(key)).unwrap_or(u32::MAX);
        return most.min(waiting);
    }
    most
}

/// Frees a lease that could not be given up when its runtime ended; false without a definite answer.
pub(crate) async fn free_left_behind(shared: &Shared, key: &LockKey, left: LeftBehind) -> bool {
    let call = shared.backend.release(key, left.owner);
    match shared.answer(LockOperation::Release, RELEASE_TIMEOUT, call).await {
        Ok(_) => true,
        Err(error) => {
            tracing::debug!(%key, %error, "cannot free the lease of one whose runtime ended");
            false
        }
    }
}

/// One release; without a definite answer, more of them in the background.
async fn release(
    shared: &Arc<Shared>,
    key: &LockKey,
    owner: OwnerId,
    ttl: Duration,
) -> ReleaseOutcome {
    let call = shared.backend.release(key, owner);
    match shared.answer(LockOperation::Release, RELEASE_TIMEOUT, call).await {
        Ok(Release::Released) => ReleaseOutcome::Released,
        Ok(Release::NotOwner) => ReleaseOutcome::NotOwner,
        Err(error) => {
            tracing::debug!(%key, %error, "release without a definite answer");
            release_in_background(shared, key, owner, ttl);
            ReleaseOutcome::Unknown
        }
    }
}

/// Goes on releasing until the backend answers or the lease has run out anyway.
pub(crate) fn release_in_background(
    shared: &Arc<Shared>,
    key: &LockKey,
    owner: OwnerId,
    ttl: Duration,
) {
    let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
    let releasing = Releasing::begin(shared);
    let deadline = after(Instant::now(), ttl);
    let (shared, key) = (Arc::clone(shared), key.clone());
    runtime.spawn(async move {
        let _releasing = releasing;
        while !until(deadline).is_zero() {
            tokio::time::sleep(shared.random.jittered(RELEASE_RETRY_PAUSE)).await;
            let call = shared.backend.release(&key, owner);
            match shared.answer(LockOperation::Release, RELEASE_TIMEOUT, call).await {
                Err(error) if error.is_retryable() => {}
                _ => return,
            }
        }
    });
}
