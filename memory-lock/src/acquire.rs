//! Taking a lease: first the turn in the line of this process, then the backend, until the time is up.

use std::sync::Arc;
use std::time::Duration;

use memory_core::OwnerId;
use tokio::time::{Instant, timeout, timeout_at};

use crate::answer::Acquired;
use crate::backend::Watch;
use crate::claim::Claim;
use crate::error::{Applied, LockError, LockErrorKind, LockOperation};
use crate::finish::Finish;
use crate::give_up::free_left_behind;
use crate::guard::LockGuard;
use crate::hold::Hold;
use crate::key::LockKey;
use crate::line::{Entered, Lines, Pass, Ticket};
use crate::options::LockOptions;
use crate::shared::{Shared, until};
use crate::time::after;

/// The longest time between two looks at a lease that others hold: the net below a lost wake-up.
const NET: Duration = Duration::from_secs(1);
/// The least time between two looks, and the jitter on top of a holder's remaining time.
const GRAIN: Duration = Duration::from_millis(20);
/// The pauses after calls that failed and may be sent again: doubling, jittered.
const RETRY: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));
/// How long the next of this process holds back after a row of hand-overs, if other processes use
/// the same keys: some polls of a backend without notifications fall into it.
const HOLD_BACK: Duration = Duration::from_millis(50);

/// Takes the lease if that needs no waiting for others.
pub(crate) async fn try_lock(
    shared: &Arc<Shared>,
    key: &LockKey,
    options: &LockOptions,
) -> Result<Option<LockGuard>, LockError> {
    check(shared, key, options)?;
    let Some(turn) = Lines::try_enter(shared, key) else {
        shared.counters.contended.one();
        return Ok(None);
    };
    let claim = Claim::new(shared, key, shared.random.owner(), options.ttl(), turn, Instant::now());
    match Finish::new(shared, attempt(claim)).await {
        Outcome::Granted(claim) => Ok(Some(hold(claim, options)?)),
        Outcome::Held(..) => {
            shared.counters.contended.one();
            Ok(None)
        }
        Outcome::Failed(_, error) => Err(error.with_key(key)),
    }
}

/// Takes the lease, waiting in line for it.
pub(crate) async fn lock(
    shared: &Arc<Shared>,
    key: &LockKey,
    options: &LockOptions,
) -> Result<LockGuard, LockError> {
    check(shared, key, options)?;
    let since = Instant::now();
    let (owner, ttl) = (shared.random.owner(), options.ttl());
    let claim = match Lines::enter(shared, key, owner, ttl) {
        Entered::First(turn) => {
            let claim = Claim::new(shared, key, owner, ttl, turn, since);
            let attempt = Finish::new(shared, attempt(claim));
            match timeout(first_limit(shared, options), attempt).await {
                Ok(Outcome::Granted(claim)) => claim,
                Ok(outcome) => Waiting::new(shared, key, options, since).contend(outcome).await?,
                Err(_elapsed) => {
                    let kind = LockErrorKind::NoAnswer { after: since.elapsed() };
                    return Err(LockError::new(kind, LockOperation::Acquire).with_key(key));
                }
            }
        }
        Entered::Queued(ticket) => {
            Waiting::new(shared, key, options, since).in_line(ticket, owner, ttl).await?
        }
    };
    hold(claim, options)
}

/// How long the first answer is waited for. Who will not wait for others still waits for that.
fn first_limit(shared: &Shared, options: &LockOptions) -> Duration {
    let wait = options.wait_timeout();
    if wait.is_zero() { shared.options.answer_timeout() } else { wait }
}

/// What can be refused before anything is done.
fn check(shared: &Shared, key: &LockKey, options: &LockOptions) -> Result<(), LockError> {
    options.validate()?;
    if shared.is_closed() {
        return Err(Shared::shut_down_error(key));
    }
    // Timers and the refresh task would panic without one.
    if tokio::runtime::Handle::try_current().is_err() {
        return Err(LockError::new(LockErrorKind::NoRuntime, LockOperation::Acquire)
            .with_key(key)
            .not_applied());
    }
    Ok(())
}

fn hold(claim: Claim, options: &LockOptions) -> Result<LockGuard, LockError> {
    let hold = Hold::begin(claim, options)?;
    tracing::debug!(key = %hold.key(), token = %hold.proof().token, "lease acquired");
    Ok(LockGuard::new(hold))
}

/// How one request for a lease ended. Each of them tidies up when dropped.
enum Outcome {
    Granted(Claim),
    Held(Claim, Option<Duration>),
    Failed(Claim, LockError),
}

/// Asks the backend once. Runs to its end even if the caller goes; see [`Finish`].
async fn attempt(mut claim: Claim) -> Outcome {
    let shared = Arc::clone(&claim.shared);
    let was_armed = claim.is_armed();
    claim.arm();
    if let Some(left) = claim.left_behind().and_then(|left| *left) {
        if free_left_behind(&shared, &claim.key, left).await
            && let Some(left) = claim.left_behind()
        {
            *left = None;
        }
    }
    let sent_at = Instant::now();
    let call = shared.backend.try_acquire(&claim.key, claim.owner, claim.ttl);
    let limit = shared.options.answer_timeout();
    match shared.answer(LockOperation::Acquire, limit, call).await {
        Ok(Acquired::Granted { token }) => {
            claim.grant(token, sent_at);
            if claim.deadline > Instant::now() {
                return Outcome::Granted(claim);
            }
            let kind = LockErrorKind::NoAnswer { after: sent_at.elapsed() };
            Outcome::Failed(claim, LockError::new(kind, LockOperation::Acquire))
        }
        Ok(Acquired::Held { remaining }) => {
            claim.disarm();
            shared.strangers.seen();
            Outcome::Held(claim, remaining)
        }
        Err(error) => {
            if error.applied() == Applied::NotApplied && !was_armed {
                claim.disarm();
            }
            Outcome::Failed(claim, error)
        }
    }
}

/// A call that waits; it is counted among those that do.
struct Waiting<'a> {
    shared: &'a Arc<Shared>,
    key: &'a LockKey,
    since: Instant,
    until: Instant,
    failures: u32,
    watch: Option<Watch>,
}

impl<'a> Waiting<'a> {
    fn new(
        shared: &'a Arc<Shared>,
        key: &'a LockKey,
        options: &LockOptions,
        since: Instant,
    ) -> Self {
        shared.counters.contended.one();
        shared.counters.waiting.up();
        let until = after(since, options.wait_timeout());
        Self { shared, key, since, until, failures: 0, watch: None }
    }

    /// Waits to be called up, and asks then.
    async fn in_line(
        mut self,
        mut ticket: Ticket,
        owner: OwnerId,
        ttl: Duration,
    ) -> Result<Claim, LockError> {
        let (shared, key, since) = (self.shared, self.key, self.since);
        loop {
            let turn = match timeout_at(self.until, &mut ticket.called).await {
                Ok(Ok(Pass::Granted(claim))) if claim.deadline > Instant::now() => {
                    return Ok(claim);
                }
                // Called up long ago and not polled since: ask again, under the same owner id.
                Ok(Ok(Pass::Granted(claim))) => return self.ask(claim).await,
                Ok(Ok(Pass::Turn(turn))) => turn,
                Ok(Err(_)) if shared.is_closed() => return Err(Shared::shut_down_error(key)),
                Err(_elapsed) => return Err(self.gave_up(None)),
                Ok(Err(_)) if until(self.until).is_zero() => return Err(self.gave_up(None)),
                // Whoever took it out of the line came to no end with it: back into the line.
                Ok(Err(_)) => match Lines::enter(shared, key, owner, ttl) {
                    Entered::First(turn) => turn,
                    Entered::Queued(again) => {
                        ticket = again;
                        continue;
                    }
                },
            };
            let hold_back = turn.hold_back;
            let claim = Claim::new(shared, key, owner, ttl, turn, since);
            if hold_back {
                tokio::time::sleep(shared.random.jittered(HOLD_BACK)).await;
            }
            return self.ask(claim).await;
        }
    }

    /// Asks for a lease with the turn in hand, and goes on asking.
    async fn ask(&mut self, claim: Claim) -> Result<Claim, LockError> {
        let attempt = Finish::new(self.shared, attempt(claim));
        match timeout_at(self.until, attempt).await {
            Ok(outcome) => self.contend_on(outcome).await,
            // The attempt is completed, and undone, in the background.
            Err(_elapsed) => Err(self.gave_up(None)),
        }
    }

    async fn contend(mut self, outcome: Outcome) -> Result<Claim, LockError> {
        self.contend_on(outcome).await
    }

    /// Waits for its time and asks again, until the lease is granted or the time is up.
    async fn contend_on(&mut self, mut outcome: Outcome) -> Result<Claim, LockError> {
        loop {
            if self.shared.is_closed() && !matches!(outcome, Outcome::Granted(_)) {
                return Err(Shared::shut_down_error(self.key));
            }
            let last = until(self.until).is_zero();
            let claim = match outcome {
                Outcome::Granted(claim) => {
                    if let Some(turn) = claim.turn() {
                        turn.contending(false);
                    }
                    return Ok(claim);
                }
                Outcome::Held(_, remaining) if last => return Err(self.gave_up(remaining)),
                Outcome::Held(claim, remaining) => {
                    self.wait(&claim, remaining).await;
                    claim
                }
                Outcome::Failed(_, error) if last || !error.is_retryable() => {
                    return Err(error.with_key(self.key));
                }
                Outcome::Failed(claim, error) => {
                    tracing::debug!(key = %self.key, %error, "acquiring again");
                    self.pause().await;
                    claim
                }
            };
            let attempt = Finish::new(self.shared, attempt(claim));
            outcome = match timeout_at(self.until, attempt).await {
                Ok(outcome) => outcome,
                Err(_elapsed) => return Err(self.gave_up(None)),
            };
        }
    }

    /// Until the lease may be free: a release was seen, or the holder's time is over. The first time
    /// it only begins to watch, for the release may have come before that.
    async fn wait(&mut self, claim: &Claim, remaining: Option<Duration>) {
        if let Some(watch) = self.watch.take() {
            let net = remaining.unwrap_or(NET).min(NET) + self.shared.random.jittered(GRAIN);
            let closing = self.shared.closing.notified();
            tokio::select! {
                biased;
                () = closing => {}
                () = watch => {}
                () = tokio::time::sleep_until(self.until.min(after(Instant::now(), net))) => {}
            }
        } else if let Some(turn) = claim.turn() {
            turn.contending(true);
        }
        self.watch = Some(self.shared.backend.watch(self.key, Some(claim.owner)));
    }

    async fn pause(&mut self) {
        let (first, most) = RETRY;
        let pause = first.saturating_mul(1 << self.failures.min(8)).min(most);
        self.failures += 1;
        let until = self.until.min(after(Instant::now(), self.shared.random.jittered(pause)));
        let closing = self.shared.closing.notified();
        tokio::select! {
            biased;
            () = closing => {}
            () = tokio::time::sleep_until(until) => {}
        }
    }

    fn gave_up(&self, holder_remaining: Option<Duration>) -> LockError {
        let kind = LockErrorKind::WaitTimeout { waited: self.since.elapsed(), holder_remaining };
        LockError::new(kind, LockOperation::Acquire).with_key(self.key).not_applied()
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.shared.counters.waiting.down();
        self.shared.counters.waited_micros.add(self.since.elapsed());
    }
}
