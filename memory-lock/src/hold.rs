//! A lease from its grant until it is given up: its deadline, and its loss.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use memory_core::lease::{LeaseProof, OwnerId};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::claim::Claim;
use crate::error::{LockError, LockErrorKind, LockOperation};
use crate::give_up::give_up_detached;
use crate::key::LockKey;
use crate::lease::Lease;
use crate::lost::{Lost, LostReason};
use crate::options::LockOptions;
use crate::refresh::Refreshable;
use crate::shared::Shared;
use crate::time::{after, deadline};

/// A held lease: the state that its guard, its scope and the refresh task share.
pub(crate) struct Hold {
    shared: Arc<Shared>,
    lease: Lease,
    refresh_interval: Option<Duration>,
    acquired_at: Instant,
    /// The moment at which `max_hold` ends it.
    ends_at: Option<Instant>,
    state: Mutex<State>,
    lost: Notify,
}

struct State {
    deadline: Instant,
    lost: Option<LostReason>,
    /// Present until the guard gives it up.
    claim: Option<Claim>,
}

impl Hold {
    /// Holds a granted claim and registers it for refreshes.
    pub(crate) fn begin(
        shared: &Arc<Shared>,
        claim: Claim,
        options: &LockOptions,
    ) -> Result<Arc<Self>, LockError> {
        let lease = Lease {
            key: claim.key.clone(),
            owner: claim.owner,
            token: claim.token,
            ttl: claim.ttl,
        };
        let acquired_at = Instant::now();
        let hold = Arc::new(Self {
            refresh_interval: options.refresh_interval(),
            ends_at: options.max_hold().map(|max_hold| after(acquired_at, max_hold)),
            acquired_at,
            state: Mutex::new(State { deadline: claim.deadline, lost: None, claim: Some(claim) }),
            lost: Notify::new(),
            lease,
            shared: Arc::clone(shared),
        });
        shared.client.counters.held.up();
        if !shared.refresher.register(Arc::clone(&hold) as Arc<dyn Refreshable>) {
            drop(hold.end());
            return Err(LockError::new(LockErrorKind::NoRuntime, LockOperation::Acquire)
                .with_key(hold.key())
                .not_applied());
        }
        shared.client.counters.acquired.one();
        Ok(hold)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change of the state is a plain assignment.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(crate) fn key(&self) -> &LockKey {
        &self.lease.key
    }

    pub(crate) fn owner(&self) -> OwnerId {
        self.lease.owner
    }

    pub(crate) fn proof(&self) -> LeaseProof {
        LeaseProof { owner: self.lease.owner, token: self.lease.token }
    }

    pub(crate) fn held_for(&self) -> Duration {
        self.acquired_at.elapsed()
    }

    /// The moment at which the lease must be considered lost, unless it is refreshed before.
    pub(crate) fn deadline(&self) -> Instant {
        let deadline = self.state().deadline;
        self.ends_at.map_or(deadline, |ends_at| ends_at.min(deadline))
    }

    /// Checks that the lease is held, by the received answers and by the clock.
    pub(crate) fn ensure_held(&self) -> Result<(), Lost> {
        match self.lost_by_now() {
            None => Ok(()),
            Some(reason) => Err(Lost { key: self.key().clone(), reason }),
        }
    }

    fn lost_by_now(&self) -> Option<LostReason> {
        let now = Instant::now();
        let deadline = {
            let state = self.state();
            if state.lost.is_some() {
                return state.lost;
            }
            state.deadline
        };
        let reason = if self.ends_at.is_some_and(|ends_at| ends_at <= now) {
            LostReason::MaxHold
        } else if deadline <= now {
            LostReason::Expired
        } else {
            return None;
        };
        self.shared.refresher.unregister(self.owner());
        self.lose(reason);
        Some(reason)
    }

    /// Marks the lease as lost: notifies the tasks that wait for the loss, and calls up the next in line.
    /// The caller has unregistered it.
    pub(crate) fn lose(&self, reason: LostReason) {
        let (turn, lease) = {
            let mut state = self.state();
            if state.lost.is_some() {
                return;
            }
            let Some(claim) = state.claim.as_mut() else { return };
            // A lease that was kept for too long is still held: others need not wait for the rest of its
            // TTL.
            let kept_too_long = reason == LostReason::MaxHold;
            let lease = kept_too_long.then(|| claim.give_up_early());
            let turn = claim.take_turn();
            state.lost = Some(reason);
            (turn, lease)
        };
        tracing::debug!(key = %self.key(), %reason, "lease lost");
        self.shared.client.counters.lost.one();
        self.lost.notify_waiters();
        drop(turn);
        if let Some(lease) = lease {
            give_up_detached(lease);
        }
    }

    /// Returns the reason once the lease is lost; never, if it is released first.
    pub(crate) async fn lost(self: Arc<Self>) -> LostReason {
        loop {
            let told = self.lost.notified();
            tokio::pin!(told);
            // Before the check, or a loss in between would be missed.
            told.as_mut().enable();
            // The first loss counts, although its guard may have been dropped since.
            let told_before = self.state().lost;
            if told_before.is_none() && self.has_ended() {
                std::future::pending::<()>().await;
            }
            if let Some(reason) = told_before.or_else(|| self.lost_by_now()) {
                return reason;
            }
            tokio::select! {
                biased;
                () = told => {}
                () = tokio::time::sleep_until(self.deadline()) => {}
            }
        }
    }

    fn has_ended(&self) -> bool {
        self.state().claim.is_none()
    }

    /// Stops refreshing and takes the claim out, once.
    pub(crate) fn end(&self) -> Option<Claim> {
        self.shared.refresher.unregister(self.owner());
        let claim = self.state().claim.take()?;
        let counters = &self.shared.client.counters;
        counters.released.one();
        counters.held_micros.add(self.held_for());
        if counters.held.down() {
            self.shared.client.idle.notify_waiters();
        }
        Some(claim)
    }
}

impl Refreshable for Hold {
    fn lease(&self) -> &Lease {
        &self.lease
    }

    fn acquired_at(&self) -> Instant {
        self.acquired_at
    }

    fn refresh_interval(&self) -> Option<Duration> {
        self.refresh_interval
    }

    fn deadline(&self) -> Instant {
        Self::deadline(self)
    }

    /// No effect once the lease was lost.
    fn renewed(&self, sent_at: Instant) {
        let mut state = self.state();
        if state.lost.is_none() {
            state.deadline = state.deadline.max(deadline(sent_at, self.lease.ttl));
        }
    }

    fn expire(&self) {
        // By the clock, which also distinguishes the end of the TTL from that of
        // `max_hold`.
        self.lost_by_now();
    }

    fn lose(&self, reason: LostReason) {
        Self::lose(self, reason);
    }
}

impl fmt::Debug for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hold")
            .field("lease", &self.lease)
            .field("lost", &self.state().lost)
            .finish_non_exhaustive()
    }
}
