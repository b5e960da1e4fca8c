//! Acquiring a lease: first the turn in the line of this process, then the backend, until the timeout.

use std::sync::Arc;
use std::time::Duration;

use memory_core::lease::OwnerId;
use memory_core::store::Applied;
use tokio::time::{Instant, timeout, timeout_at};

use crate::answer::Acquired;
use crate::backend::Watch;
use crate::claim::Claim;
use crate::error::{LockError, LockErrorKind, LockOperation};
use crate::finish::Finish;
use crate::give_up::free_left_behind;
use crate::guard::LockGuard;
use crate::hold::Hold;
use crate::key::LockKey;
use crate::line::{Entered, Failing, Pass, Ticket};
use crate::options::LockOptions;
use crate::revocable::Revocable;
use crate::shared::Shared;
use crate::time::{after, until};
use crate::with_lock;

/// The longest time between two polls of a lease that others hold: the fallback for a lost wake-up.
const MAX_POLL_INTERVAL: Duration = Duration::from_secs(1);
/// The least time between two polls, and the jitter added to a holder's remaining time.
const MIN_POLL_INTERVAL: Duration = Duration::from_millis(20);
/// The first pause after a call that failed and is retryable. Pauses double and are jittered.
const FIRST_ACQUIRE_PAUSE: Duration = Duration::from_millis(20);
/// The longest of these pauses.
const MAX_ACQUIRE_PAUSE: Duration = Duration::from_millis(500);
/// The limit for looking up the holder that the error of a wait timeout names.
const HOLDER_LOOKUP_TIMEOUT: Duration = Duration::from_millis(500);
/// The time without an answer after which the backend counts as silent, instead of its last answer.
const SILENCE_AFTER: Duration = Duration::from_secs(1);
/// The time for which the next waiter of this process holds back after the maximum of consecutive
/// hand-overs, if other processes use the same keys: other processes poll several times within it if the
/// backend has no notifications.
const HOLD_BACK: Duration = Duration::from_millis(50);

/// Acquires the lease if that needs no waiting for others.
pub(crate) async fn try_lock(
    shared: &Arc<Shared>,
    key: &LockKey,
    options: &LockOptions,
) -> Result<Option<LockGuard>, LockError> {
    check(shared, key, options)?;
    loop {
        let Some(turn) = shared.lines.try_enter(key) else {
            shared.client.counters.contended.one();
            return Ok(None);
        };
        let (owner, now) = (shared.client.random.owner(), Instant::now());
        let claim = Claim::new(&shared.client, key, owner, options.ttl(), turn, now);
        let attempt = Finish::new(&shared.client, attempt(claim));
        match Revocable::new(&shared.attendance, key, attempt).await {
            Some(Outcome::Granted(claim)) => return Ok(Some(hold(shared, claim, options)?)),
            Some(Outcome::Held(..)) => {
                shared.client.counters.contended.one();
                return Ok(None);
            }
            Some(Outcome::Failed(_, error)) => return Err(error.with_key(key)),
            // The caller did not poll it, so its answer is no longer of use.
            None => {}
        }
    }
}

/// Acquires the lease, waiting in line for it.
pub(crate) async fn lock(
    shared: &Arc<Shared>,
    key: &LockKey,
    options: &LockOptions,
) -> Result<LockGuard, LockError> {
    check(shared, key, options)?;
    if with_lock::runs_under(shared, key) {
        return Err(LockError::new(LockErrorKind::OwnLease, LockOperation::Acquire)
            .with_key(key)
            .not_applied());
    }
    let since = Instant::now();
    loop {
        let work = acquire(Arc::clone(shared), key.clone(), *options, since);
        // A caller that did not poll its call has lost its place, and continues at the end of the line.
        if let Some(claim) = Revocable::new(&shared.attendance, key, work).await {
            return hold(shared, claim?, options);
        }
    }
}

/// Waits for the lease, starting at the end of the line.
async fn acquire(
    shared: Arc<Shared>,
    key: LockKey,
    options: LockOptions,
    since: Instant,
) -> Result<Claim, LockError> {
    let (shared, key, options) = (&shared, &key, &options);
    let (owner, ttl) = (shared.client.random.owner(), options.ttl());
    match shared.lines.enter(key, owner, ttl) {
        Entered::First(turn) => {
            let claim = Claim::new(&shared.client, key, owner, ttl, turn, Instant::now());
            let attempt = Finish::new(&shared.client, attempt(claim));
            let sent_at = Instant::now();
            match timeout(first_limit(shared, options), attempt).await {
                Ok(Outcome::Granted(claim)) => Ok(claim),
                Ok(outcome) => Waiting::new(shared, key, options, since).contend(outcome).await,
                Err(_elapsed) => {
                    let kind = LockErrorKind::NoAnswer { after: sent_at.elapsed() };
                    Err(LockError::new(kind, LockOperation::Acquire).with_key(key))
                }
            }
        }
        Entered::Queued(ticket) => {
            Waiting::new(shared, key, options, since).in_line(ticket, owner, ttl).await
        }
    }
}

/// The limit for the first answer. A caller that does not wait for others still waits for that answer.
fn first_limit(shared: &Shared, options: &LockOptions) -> Duration {
    let wait = options.wait_timeout();
    if wait.is_zero() { shared.client.options.answer_timeout() } else { wait }
}

/// The checks that need no request.
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

fn hold(shared: &Arc<Shared>, claim: Claim, options: &LockOptions) -> Result<LockGuard, LockError> {
    let hold = Hold::begin(shared, claim, options)?;
    tracing::debug!(key = %hold.key(), token = %hold.proof().token, "lease acquired");
    Ok(LockGuard::new(hold))
}

/// The result of one request for a lease. Each variant cleans up when it is dropped.
enum Outcome {
    Granted(Claim),
    Held(Claim, Option<Duration>),
    Failed(Claim, LockError),
}

/// Asks the backend once. Runs to its end even if the caller is dropped; see [`Finish`].
async fn attempt(mut claim: Claim) -> Outcome {
    let client = Arc::clone(&claim.client);
    let was_armed = claim.is_armed();
    claim.arm();
    if let Some(left) = claim.left_behind().and_then(|left| *left)
        && free_left_behind(&client, &claim.key, left).await
        && let Some(left) = claim.left_behind()
    {
        *left = None;
    }
    let sent_at = Instant::now();
    claim.asked_at = sent_at;
    let call = client.backend.try_acquire(&claim.key, claim.owner, claim.ttl);
    let limit = client.options.answer_timeout();
    match client.answer(LockOperation::Acquire, limit, call).await {
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
            client.foreign_contention.record();
            Outcome::Held(claim, remaining)
        }
        Err(error) => {
            if error.applied() == Applied::No && !was_armed {
                claim.disarm();
            }
            Outcome::Failed(claim, error)
        }
    }
}

/// A call that waits, included in the count of waiting calls.
struct Waiting<'a> {
    shared: &'a Arc<Shared>,
    key: &'a LockKey,
    options: &'a LockOptions,
    since: Instant,
    until: Instant,
    failures: u32,
    watch: Option<Watch>,
}

impl<'a> Waiting<'a> {
    fn new(
        shared: &'a Arc<Shared>,
        key: &'a LockKey,
        options: &'a LockOptions,
        since: Instant,
    ) -> Self {
        shared.client.counters.contended.one();
        shared.client.counters.waiting.up();
        let until = after(since, options.wait_timeout());
        Self { shared, key, options, since, until, failures: 0, watch: None }
    }

    /// Waits in line until it is called up; `None` if it lost its place without a shutdown or a timeout.
    async fn called(
        &mut self,
        ticket: &mut Ticket<Claim>,
    ) -> Result<Option<Pass<Claim>>, LockError> {
        loop {
            let (failing, until) = self.outlook();
            match timeout_at(until, &mut ticket.called).await {
                Ok(Ok(pass)) => return Ok(Some(pass)),
                Ok(Err(_)) if self.shared.is_closed() => {
                    return Err(Shared::shut_down_error(self.key));
                }
                Ok(Err(_)) if self.is_over() => return Err(self.gave_up(None).await),
                Ok(Err(_)) => return Ok(None),
                Err(_elapsed) if failing.is_some() || self.is_over() => {
                    // A request for all waiters in line may have been answered meanwhile.
                    match self.outlook() {
                        (Some(failing), until) if until <= Instant::now() => {
                            return Err(failing.error.with_key(self.key));
                        }
                        _ if self.is_over() => return Err(self.gave_up(None).await),
                        _ => {}
                    }
                }
                Err(_elapsed) => {}
            }
        }
    }

    fn is_over(&self) -> bool {
        until(self.until).is_zero()
    }

    /// Returns whether the backend is failing now, and the moment until which waiting is useful. While the
    /// backend works, the check is repeated as soon as a failure that begins now would last too long.
    fn outlook(&self) -> (Option<Failing>, Instant) {
        let failing = self.shared.lines.failing(self.key);
        let from = failing.as_ref().map_or_else(Instant::now, |it| it.since.max(self.since));
        let until = self.until.min(after(from, self.options.failure_timeout()));
        (failing, until)
    }

    /// Waits to be called up, and then asks the backend.
    async fn in_line(
        mut self,
        mut ticket: Ticket<Claim>,
        owner: OwnerId,
        ttl: Duration,
    ) -> Result<Claim, LockError> {
        let (shared, key, since) = (self.shared, self.key, self.since);
        loop {
            let turn = match self.called(&mut ticket).await? {
                Some(Pass::Granted(claim)) if claim.deadline > Instant::now() => return Ok(claim),
                // Called up long ago and not polled since: asks again, under the same owner id.
                Some(Pass::Granted(claim)) => return self.ask(claim).await,
                Some(Pass::Turn(turn)) => turn,
                // The caller that took it out of the line did not finish: it enters the line again.
                None => match shared.lines.enter(key, owner, ttl) {
                    Entered::First(turn) => turn,
                    Entered::Queued(again) => {
                        ticket = again;
                        continue;
                    }
                },
            };
            let hold_back = turn.hold_back;
            let claim = Claim::new(&shared.client, key, owner, ttl, turn, since);
            if hold_back {
                tokio::time::sleep(shared.client.random.jittered(HOLD_BACK)).await;
            }
            return self.ask(claim).await;
        }
    }

    /// Asks for a lease while holding the turn, and retries.
    async fn ask(&mut self, claim: Claim) -> Result<Claim, LockError> {
        match self.attempt(claim, None).await {
            Ok(outcome) => self.contend_on(outcome).await,
            Err(error) => Err(error),
        }
    }

    async fn contend(mut self, outcome: Outcome) -> Result<Claim, LockError> {
        self.contend_on(outcome).await
    }

    /// Asks once. An attempt that is cut off is completed, and undone, in the background.
    async fn attempt(
        &mut self,
        claim: Claim,
        held: Option<Option<Duration>>,
    ) -> Result<Outcome, LockError> {
        let (failing, until) = self.outlook();
        let sent_at = Instant::now();
        // One answer is awaited, regardless of how long the backend has failed for others.
        let until = if failing.is_some() { until.max(sent_at + SILENCE_AFTER) } else { self.until };
        let attempt = Finish::new(&self.shared.client, attempt(claim));
        if let Ok(outcome) = timeout_at(until, attempt).await {
            return Ok(outcome);
        }
        if let Some(failing) = failing {
            return Err(failing.error.with_key(self.key));
        }
        let after = sent_at.elapsed();
        match held {
            Some(remaining) if after < SILENCE_AFTER => Err(self.gave_up(remaining).await),
            _ => {
                let kind = LockErrorKind::NoAnswer { after };
                Err(LockError::new(kind, LockOperation::Acquire).with_key(self.key))
            }
        }
    }

    /// Waits and asks again, until the lease is granted or the timeout.
    async fn contend_on(&mut self, mut outcome: Outcome) -> Result<Claim, LockError> {
        loop {
            if self.shared.is_closed() && !matches!(outcome, Outcome::Granted(_)) {
                return Err(Shared::shut_down_error(self.key));
            }
            self.note(&outcome);
            let mut held = None;
            let claim = match outcome {
                Outcome::Granted(claim) => {
                    if let Some(turn) = claim.turn() {
                        turn.stop_contending();
                    }
                    return Ok(claim);
                }
                Outcome::Held(claim, remaining) if self.is_over() => {
                    drop(claim);
                    return Err(self.gave_up(remaining).await);
                }
                Outcome::Held(claim, remaining) => {
                    held = Some(remaining);
                    self.wait(&claim, remaining).await;
                    claim
                }
                Outcome::Failed(_, error)
                    if !error.is_retryable() || until(self.outlook().1).is_zero() =>
                {
                    return Err(error.with_key(self.key));
                }
                Outcome::Failed(claim, error) => {
                    tracing::debug!(key = %self.key, %error, "acquiring again");
                    self.pause().await;
                    claim
                }
            };
            outcome = self.attempt(claim, held).await?;
        }
    }

    /// Informs the waiters behind this one whether the backend answers.
    fn note(&self, outcome: &Outcome) {
        let failing = match outcome {
            Outcome::Failed(claim, error) if error.is_retryable() => Some((error, claim.asked_at)),
            _ => None,
        };
        self.shared.lines.note(self.key, failing);
    }

    /// Waits until the lease may be free: a release was seen, or the holder's TTL is over. The first time
    /// it only starts to watch, because the release may have come before that.
    async fn wait(&mut self, claim: &Claim, remaining: Option<Duration>) {
        if let Some(watch) = self.watch.take() {
            let net = remaining.unwrap_or(MAX_POLL_INTERVAL).min(MAX_POLL_INTERVAL)
                + self.shared.client.random.jittered(MIN_POLL_INTERVAL);
            let closing = self.shared.closing.notified();
            tokio::select! {
                biased;
                () = closing => {}
                () = watch => {}
                () = tokio::time::sleep_until(self.until.min(after(Instant::now(), net))) => {}
            }
        } else if let Some(turn) = claim.turn() {
            turn.contend();
        }
        self.watch = Some(self.shared.client.backend.watch(self.key, Some(claim.owner)));
    }

    async fn pause(&mut self) {
        let (first, most) = (FIRST_ACQUIRE_PAUSE, MAX_ACQUIRE_PAUSE);
        let pause = first.saturating_mul(1 << self.failures.min(8)).min(most);
        self.failures += 1;
        let until =
            self.outlook().1.min(after(Instant::now(), self.shared.client.random.jittered(pause)));
        let closing = self.shared.closing.notified();
        tokio::select! {
            biased;
            () = closing => {}
            () = tokio::time::sleep_until(until) => {}
        }
    }

    /// The wait timeout error, with the known facts about the holder. A caller that did not want to wait
    /// does not wait for those facts either.
    async fn gave_up(&mut self, remaining: Option<Duration>) -> LockError {
        let waited = self.since.elapsed();
        let asked = if self.options.wait_timeout().is_zero() {
            Ok(None)
        } else {
            let call = self.shared.client.backend.inspect(self.key);
            self.shared.client.answer(LockOperation::Inspect, HOLDER_LOOKUP_TIMEOUT, call).await
        };
        let timed_out = |holder_remaining| {
            let kind = LockErrorKind::WaitTimeout { waited, holder_remaining };
            LockError::new(kind, LockOperation::Acquire).with_key(self.key).not_applied()
        };
        match asked {
            Ok(Some(info)) => timed_out(Some(info.remaining)).with_holder(info.owner),
            Ok(None) => timed_out(remaining),
            // It was held when it was last requested.
            Err(error) if remaining.is_some() => timed_out(remaining).caused_by(&error),
            Err(error) => error.during(LockOperation::Acquire).with_key(self.key).not_applied(),
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.shared.client.counters.waiting.down();
        self.shared.client.counters.waited_micros.add(self.since.elapsed());
    }
}
