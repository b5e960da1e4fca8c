//! All grants of leases that processes received: of memories and of flushes.

use std::collections::BTreeMap;
use std::time::Duration;

use memory_core::lease::OwnerId;
use memory_lock::LockKey;

use crate::violation::Check;

/// The time at which a request about a lease was sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sent {
    /// As a count of events.
    pub(crate) event: u64,
    /// On the clock, in microseconds.
    pub(crate) micros: u64,
}

/// A granted lease and the time in which the server certainly has it.
#[derive(Debug)]
struct Grant {
    owner: OwnerId,
    token: u64,
    called: u64,
    answered: u64,
    /// The time of the answer.
    from: u64,
    /// The end of its TTL, counted from before the request, or the first request that may end it.
    until: u64,
    given_up: bool,
}

/// All grants of a program.
#[derive(Debug, Default)]
pub(crate) struct Grants {
    by_key: BTreeMap<LockKey, Vec<Grant>>,
    /// The time, as a count of events, when the server last forgot its leases.
    forgotten: u64,
}

impl Grants {
    /// Records a grant.
    pub(crate) fn granted(
        &mut self,
        key: &LockKey,
        (owner, token): (OwnerId, u64),
        sent: Sent,
        now: Sent,
        ttl: Duration,
    ) {
        let grants = self.by_key.entry(key.clone()).or_default();
        // Requested again after a late answer: the lease may have been released since.
        let given_up = grants.iter().any(|grant| grant.owner == owner && grant.given_up);
        let is_certain = !given_up && self.forgotten < sent.event;
        let until = if is_certain { end(sent, ttl) } else { now.micros };
        let (called, answered) = (sent.event, now.event);
        grants.push(Grant { owner, token, called, answered, from: now.micros, until, given_up });
    }

    /// Records a renewal by a request that was sent at that time.
    pub(crate) fn renewed(&mut self, key: &LockKey, owner: OwnerId, sent: Sent, ttl: Duration) {
        if self.forgotten > sent.event {
            return;
        }
        let grants = self.by_key.get_mut(key).into_iter().flatten();
        // If it had expired in between, it was not the same lease.
        let live = grants
            .filter(|grant| grant.owner == owner && !grant.given_up && grant.until > sent.micros);
        live.for_each(|grant| grant.until = grant.until.max(end(sent, ttl)));
    }

    /// Records that the owner's leases may end from now on.
    pub(crate) fn given_up(&mut self, key: &LockKey, owner: OwnerId, now: u64) {
        let grants = self.by_key.get_mut(key).into_iter().flatten();
        for grant in grants.filter(|grant| grant.owner == owner) {
            grant.given_up = true;
            grant.until = grant.until.min(now);
        }
    }

    /// Records that the server forgot all leases.
    pub(crate) fn forgotten(&mut self, now: Sent) {
        self.forgotten = now.event;
        for grant in self.by_key.values_mut().flatten() {
            grant.until = grant.until.min(now.micros);
        }
    }

    /// P6, P7: live grants do not overlap, and later ones have greater tokens.
    pub(crate) fn check(&self) -> Vec<(Check, String)> {
        let mut broken = Vec::new();
        for (key, grants) in &self.by_key {
            for (index, one) in grants.iter().enumerate() {
                for two in grants.iter().skip(index + 1).filter(|two| two.owner != one.owner) {
                    if one.from.max(two.from) < one.until.min(two.until) {
                        let what = format!("{one:?} and {two:?} overlap");
                        broken.push((Check::GrantsOverlap, format!("{}: {what}", key.as_str())));
                    }
                    let rises = match (one.answered < two.called, two.answered < one.called) {
                        (true, _) => one.token < two.token,
                        (_, true) => two.token < one.token,
                        _ => one.token != two.token,
                    };
                    if !rises {
                        let what = format!("the tokens of {one:?} and {two:?}");
                        broken.push((Check::GrantTokenFalls, format!("{}: {what}", key.as_str())));
                    }
                }
            }
        }
        broken
    }
}

fn end(sent: Sent, ttl: Duration) -> u64 {
    sent.micros.saturating_add(u64::try_from(ttl.as_micros()).unwrap_or(u64::MAX))
}
