//! A lease that this process may hold: from before the request until it is held or released.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use memory_core::lease::{FencingToken, OwnerId};
use tokio::time::Instant;

use crate::backend_client::BackendClient;
use crate::give_up::{GiveUp, give_up_detached};
use crate::key::LockKey;
use crate::line::{LeftBehind, Turn};
use crate::time::deadline;

/// The possibility that the backend granted a lease to this process, from before the request was sent.
/// Dropping it passes the lease on or releases it, so that no exit from an acquisition can leak it.
pub(crate) struct Claim {
    pub(crate) client: Arc<BackendClient>,
    pub(crate) key: LockKey,
    pub(crate) owner: OwnerId,
    pub(crate) ttl: Duration,
    /// The token of the grant; zero before it.
    pub(crate) token: FencingToken,
    /// The moment at which the lease must be considered lost.
    pub(crate) deadline: Instant,
    /// The time of the last request.
    pub(crate) asked_at: Instant,
    /// None once the lease was lost: the next in line does not wait for a holder without a lease.
    turn: Option<Turn<Self>>,
    /// Whether the backend may hold a lease for this claim.
    armed: bool,
}

impl Claim {
    /// A claim without a request.
    pub(crate) fn new(
        client: &Arc<BackendClient>,
        key: &LockKey,
        owner: OwnerId,
        ttl: Duration,
        turn: Turn<Self>,
        now: Instant,
    ) -> Self {
        Self {
            client: Arc::clone(client),
            key: key.clone(),
            owner,
            ttl,
            token: FencingToken::ZERO,
            deadline: now,
            // A lease of an ended runtime may have been handed over to this owner.
            armed: turn.left_behind.is_some(),
            asked_at: now,
            turn: Some(turn),
        }
    }

    /// Records that the backend may hold a lease from now on.
    pub(crate) fn arm(&mut self) {
        self.armed = true;
    }

    /// Records that the backend certainly holds none.
    pub(crate) fn disarm(&mut self) {
        self.armed = false;
    }

    pub(crate) fn is_armed(&self) -> bool {
        self.armed
    }

    /// Records that the backend granted the request of `sent_at`.
    pub(crate) fn grant(&mut self, token: FencingToken, sent_at: Instant) {
        self.armed = true;
        self.token = token;
        self.deadline = deadline(sent_at, self.ttl);
    }

    pub(crate) fn turn(&self) -> Option<&Turn<Self>> {
        self.turn.as_ref()
    }

    /// The lease that the previous holder of the turn may have left behind, until it is freed.
    pub(crate) fn left_behind(&mut self) -> Option<&mut Option<LeftBehind>> {
        self.turn.as_mut().map(|turn| &mut turn.left_behind).filter(|left| left.is_some())
    }

    pub(crate) fn take_turn(&mut self) -> Option<Turn<Self>> {
        self.turn.take()
    }

    /// The data for giving the lease up; the claim itself is used up.
    pub(crate) fn into_give_up(mut self) -> GiveUp {
        self.armed = false;
        self.take_give_up()
    }

    /// Like [`into_give_up`](Self::into_give_up) if the holder does not know that its lease is over.
    pub(crate) fn give_up_early(&mut self) -> GiveUp {
        self.armed = false;
        self.take_give_up()
    }

    fn take_give_up(&mut self) -> GiveUp {
        GiveUp {
            client: Arc::clone(&self.client),
            key: self.key.clone(),
            owner: self.owner,
            ttl: self.ttl,
            turn: self.turn.take(),
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if self.armed {
            give_up_detached(self.take_give_up());
        }
    }
}

impl fmt::Debug for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claim")
            .field("key", &self.key)
            .field("owner", &self.owner)
            .field("token", &self.token)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::line::Lines;
    use crate::{Acquired, Clock, ClockExt as _, InProcessLock, ManagerOptions};

    /// A claim on a lease that the backend has granted, for ten seconds from now.
    async fn granted() -> (Arc<Lines<Claim>>, Claim) {
        let backend = Arc::new(InProcessLock::new(Clock::tokio()));
        let client = Arc::new(BackendClient::new(backend, ManagerOptions::new()));
        let lines = Arc::new(Lines::default());
        let (key, owner) = (LockKey::new("k").unwrap(), OwnerId::new(1));
        let ttl = Duration::from_secs(10);
        let turn = lines.try_enter(&key).unwrap();
        let mut claim = Claim::new(&client, &key, owner, ttl, turn, Instant::now());
        assert_eq!((claim.is_armed(), claim.token), (false, FencingToken::ZERO));
        let answer = client.backend.try_acquire(&key, owner, ttl).await.unwrap();
        let Acquired::Granted { token } = answer else { panic!("{answer:?}") };
        claim.grant(token, Instant::now());
        assert_eq!((claim.is_armed(), claim.token), (true, token));
        (lines, claim)
    }

    async fn is_held(client: &BackendClient, key: &LockKey) -> bool {
        client.backend.inspect(key).await.unwrap().is_some()
    }

    #[tokio::test(start_paused = true)]
    async fn dropped_claim_gives_up_a_possible_grant() {
        let (lines, claim) = granted().await;
        let (client, key) = (Arc::clone(&claim.client), claim.key.clone());
        assert!(is_held(&client, &key).await);
        drop(claim);
        assert!(!is_held(&client, &key).await);
        assert!(lines.try_enter(&key).is_some(), "the turn was given up with it");
    }

    #[tokio::test(start_paused = true)]
    async fn dropped_claim_without_a_grant_sends_nothing() {
        let (_lines, mut claim) = granted().await;
        let (client, key) = (Arc::clone(&claim.client), claim.key.clone());
        claim.disarm();
        assert!(!claim.is_armed());
        claim.arm();
        assert!(claim.is_armed());
        claim.disarm();
        drop(claim);
        assert!(is_held(&client, &key).await, "no release was requested");
    }

    #[tokio::test(start_paused = true)]
    async fn explicit_give_up_happens_once() {
        let (_lines, claim) = granted().await;
        let (client, key, owner) = (Arc::clone(&claim.client), claim.key.clone(), claim.owner);
        let lease = claim.into_give_up();
        assert_eq!((&lease.key, lease.owner, lease.ttl), (&key, owner, Duration::from_secs(10)));
        assert!(lease.turn.is_some());
        assert!(is_held(&client, &key).await, "the present holder releases it");
    }

    #[tokio::test(start_paused = true)]
    async fn turn_is_taken_from_a_claim_once() {
        let (lines, mut claim) = granted().await;
        let key = claim.key.clone();
        assert!(claim.turn().is_some());
        let turn = claim.take_turn();
        assert!(turn.is_some() && claim.turn().is_none() && claim.take_turn().is_none());
        assert!(lines.try_enter(&key).is_none(), "its line continues");
        drop(turn);
        assert!(lines.try_enter(&key).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn claim_ends_before_the_backend_lease() {
        let (_lines, claim) = granted().await;
        // A hundredth of the TTL and two milliseconds before.
        let end = Instant::now() + Duration::from_millis(10_000 - 100 - 2);
        assert_eq!(claim.deadline, end);
        let Claim { key, owner, token, .. } = &claim;
        let shown = format!("Claim {{ key: {key:?}, owner: {owner:?}, token: {token:?}, .. }}");
        assert_eq!(format!("{claim:?}"), shown);
    }
}
