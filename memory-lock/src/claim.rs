use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use memory_core::{FencingToken, OwnerId};
use tokio::time::Instant;

use crate::give_up::{GiveUp, give_up_detached};
use crate::key::LockKey;
use crate::line::Turn;
use crate::shared::Shared;
use crate::time::deadline;

/// The possibility that the backend granted us a lease, from before the request was sent. Dropping
/// it passes the lease on or releases it, so that no way out of an acquisition can forget it.
pub(crate) struct Claim {
    pub(crate) shared: Arc<Shared>,
    pub(crate) key: LockKey,
    pub(crate) owner: OwnerId,
    pub(crate) ttl: Duration,
    /// The token of the grant; zero before it.
    pub(crate) token: FencingToken,
    /// When the lease must be taken for lost.
    pub(crate) deadline: Instant,
    /// Gone once the lease was lost: the next in line does not wait for a holder who has nothing.
    turn: Option<Turn>,
    /// Whether the backend may hold a lease for us.
    armed: bool,
}

impl Claim {
    /// A claim on nothing yet.
    pub(crate) fn new(
        shared: &Arc<Shared>,
        key: &LockKey,
        owner: OwnerId,
        ttl: Duration,
        turn: Turn,
        now: Instant,
    ) -> Self {
        Self {
            shared: Arc::clone(shared),
            key: key.clone(),
            owner,
            ttl,
            token: FencingToken::ZERO,
            deadline: now,
            turn: Some(turn),
            armed: false,
        }
    }

    /// From here on the backend may hold a lease for us.
    pub(crate) fn arm(&mut self) {
        self.armed = true;
    }

    /// The backend certainly holds none.
    pub(crate) fn disarm(&mut self) {
        self.armed = false;
    }

    pub(crate) fn is_armed(&self) -> bool {
        self.armed
    }

    /// The backend granted it, asked at `sent_at`.
    pub(crate) fn grant(&mut self, token: FencingToken, sent_at: Instant) {
        self.armed = true;
        self.token = token;
        self.deadline = deadline(sent_at, self.ttl);
    }

    pub(crate) fn turn(&self) -> Option<&Turn> {
        self.turn.as_ref()
    }

    pub(crate) fn take_turn(&mut self) -> Option<Turn> {
        self.turn.take()
    }

    /// What it takes to give the lease up; the claim itself is spent.
    pub(crate) fn into_give_up(mut self) -> GiveUp {
        self.armed = false;
        self.take_give_up()
    }

    fn take_give_up(&mut self) -> GiveUp {
        GiveUp {
            shared: Arc::clone(&self.shared),
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
