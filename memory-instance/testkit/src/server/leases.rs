//! Leases of the simulated server.

use std::time::Duration;

use memory_core::lease::OwnerId;
use memory_lock::{
    Acquired, HandOver, Lease, LeaseInfo, LockBackend, LockError, LockKey, Release, Renewal, Watch,
};

use super::{Server, now};
use crate::bug::Bug;

impl Server {
    pub(crate) fn try_acquire(
        &self,
        key: &LockKey,
        owner: OwnerId,
        ttl: Duration,
    ) -> Result<Acquired, LockError> {
        let twice = match self.bug {
            Some(Bug::GrantedTwice) => true,
            Some(Bug::FlushLeaseTwice) => key.as_str().ends_with("flush"),
            _ => false,
        };
        if twice
            && let Some(info) = now(self.lock.inspect(key))?
            && info.held_for.is_some_and(|held| held > Duration::from_millis(30))
        {
            now(self.lock.release(key, info.owner))?;
        }
        self.state().leased.insert(key.clone());
        let ttl = match self.bug {
            Some(Bug::LeaseTooShort) => ttl / 40,
            Some(Bug::LeaseNeverExpires) => Duration::from_secs(86_400),
            Some(Bug::LeaseFrozenByStep) if self.state().is_behind => Duration::from_secs(86_400),
            _ => ttl,
        };
        let mut acquired = now(self.lock.try_acquire(key, owner, ttl))?;
        if self.has(Bug::TokensStandStill)
            && let Acquired::Granted { token } = &mut acquired
        {
            *token = *self.state().granted.entry(key.clone()).or_insert(*token);
        }
        Ok(acquired)
    }

    pub(crate) fn renew(&self, leases: &[Lease]) -> Result<Vec<Renewal>, LockError> {
        let leases: Vec<_> = leases.to_vec();
        let mut answers = now(self.lock.renew(&leases))?;
        if self.has(Bug::RefreshIgnoresLoss) || self.has(Bug::GrantedTwice) {
            answers.fill(Renewal::Renewed);
        }
        Ok(answers)
    }

    pub(crate) fn release(&self, key: &LockKey, owner: OwnerId) -> Result<Release, LockError> {
        match self.bug {
            Some(Bug::ReleaseWithoutOwner) => {
                let held = now(self.lock.inspect(key))?;
                let holder = held.map_or(owner, |info| info.owner);
                now(self.lock.release(key, holder))
            }
            Some(Bug::LeaseLeaked) => {
                let held = now(self.lock.inspect(key))?;
                let ours = held.is_some_and(|info| info.owner == owner);
                Ok(if ours { Release::Released } else { Release::NotOwner })
            }
            Some(Bug::RefreshIgnoresLoss | Bug::GrantedTwice | Bug::LeaseTooShort) => {
                now(self.lock.release(key, owner))?;
                Ok(Release::Released)
            }
            _ => now(self.lock.release(key, owner)),
        }
    }

    pub(crate) fn hand_over(
        &self,
        key: &LockKey,
        from: OwnerId,
        to: OwnerId,
        ttl: Duration,
    ) -> Result<HandOver, LockError> {
        let before = now(self.lock.inspect(key))?;
        let mut handed = now(self.lock.hand_over(key, from, to, ttl))?;
        if let (true, HandOver::HandedOver { token }, Some(before)) =
            (self.has(Bug::HandOverKeepsToken), &mut handed, before)
        {
            *token = before.token;
        }
        Ok(handed)
    }

    /// The wall clock was stepped forward; no lease is measured by it.
    pub(crate) fn clock_stepped_forward(&self) {
        if self.has(Bug::LeaseEndedByStep) {
            self.forget_leases();
        }
    }

    /// The wall clock was stepped back; no lease is measured by it.
    pub(crate) fn clock_stepped_back(&self) {
        self.state().is_behind = true;
    }

    /// Drops every lease without notifying the holders.
    pub(crate) fn forget_leases(&self) {
        let keys: Vec<_> = self.state().leased.iter().cloned().collect();
        for key in keys {
            if let Ok(Some(info)) = now(self.lock.inspect(&key)) {
                let _ = now(self.lock.release(&key, info.owner));
            }
        }
    }

    pub(crate) fn inspect(&self, key: &LockKey) -> Result<Option<LeaseInfo>, LockError> {
        now(self.lock.inspect(key))
    }

    pub(crate) fn watch(&self, key: &LockKey) -> Watch {
        self.lock.watch(key, None)
    }
}
