//! All the servers together, and the tokens that are proposed to them.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::future::join_all;
use memory_core::lease::{FencingToken, LeaseDomain, OwnerId};
use memory_core::store::Applied;
use memory_redis_link::RedisConfig;
use tokio::sync::oneshot;

use super::member::{Identities, Member, Place};
use super::vote::majority;
use crate::Clock;
use crate::error::{LockError, LockErrorKind, LockOperation};

/// The servers.
#[derive(Debug)]
pub(super) struct Quorum {
    pub(super) members: Vec<Member>,
    pub(super) domain: LeaseDomain,
    clock: Clock,
    /// The greatest token that was seen or proposed.
    newest: AtomicU64,
}

/// The lead of a proposed token over the client's clock. If no server's clock is further ahead than this,
/// all of them grant the proposed token, so that one round is enough. It is below the time for which a
/// server that lost its data must stay out anyway.
const TOKEN_LEAD: Duration = Duration::from_millis(50);

/// The servers' scripts count in doubles and could not distinguish greater tokens.
const GREATEST: u64 = 1 << 52;

impl Quorum {
    pub(super) async fn open(configs: Vec<RedisConfig>, clock: Clock) -> Result<Self, LockError> {
        let count = configs.len();
        if count < 3 || count.is_multiple_of(2) {
            return Err(refused(format!(
                "a quorum has an odd number of servers, 3 at least, and these are {count}; an even one \
                 survives no more failures than one server fewer"
            )));
        }
        if let Some(cluster) = configs.iter().find(|config| config.is_cluster()) {
            return Err(refused(format!(
                "`{}` is a Cluster; name independent servers, or use the Cluster alone with `RedisLock`",
                cluster.domain().as_str()
            )));
        }
        let identities = Arc::new(Identities::default());
        let members: Vec<_> =
            configs.into_iter().map(|config| Member::new(config, &identities)).collect();
        let mut names: Vec<_> = members.iter().map(Member::name).collect();
        names.sort_unstable();
        if let Some([name, _]) = names.array_windows().find(|[one, other]| one == other) {
            return Err(refused(format!("`{name}` is named twice; each server has one vote")));
        }
        let domain = LeaseDomain::new(format!("redlock:{}", names.join(",")));
        let quorum = Self { members, domain, clock, newest: AtomicU64::new(0) };
        let opened =
            join_all(quorum.members.iter().map(|member| member.lock(LockOperation::Open))).await;
        let mut failures = Vec::new();
        for (at, opened) in opened.into_iter().enumerate() {
            let Err(error) = opened else { continue };
            // An error that needs manual repair would never be noticed while the other servers do the work.
            if !error.is_retryable() {
                return Err(error);
            }
            failures.push((at, error));
        }
        if count - failures.len() < majority(count) {
            return Err(quorum.failure(LockOperation::Open, &failures, Applied::No));
        }
        for (at, error) in failures {
            tracing::warn!(server = quorum.name(at), %error, "opening a quorum without this server");
        }
        Ok(quorum)
    }

    /// The least token for the next grant.
    pub(super) fn proposal(&self) -> FencingToken {
        let lead = u64::try_from(TOKEN_LEAD.as_micros()).unwrap_or_default();
        let now = self.clock.now_micros().saturating_add(lead);
        let next = |newest| FencingToken::new(newest).next(now).number().min(GREATEST);
        // Each is proposed once: equal ones would be granted in a different order at each server.
        let before = self
            .newest
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |newest| Some(next(newest)));
        FencingToken::new(next(before.unwrap_or_else(|newest| newest)))
    }

    /// Makes later proposals of this process exceed this token.
    pub(super) fn saw(&self, token: FencingToken) {
        self.newest.fetch_max(token.number(), Ordering::Relaxed);
    }

    /// A place at each server, behind the requests in progress for these owners.
    pub(super) fn enter(
        &self,
        owners: &[OwnerId],
        operation: LockOperation,
    ) -> Vec<Result<Place, LockError>> {
        self.members.iter().map(|member| member.enter(owners, operation)).collect()
    }

    /// The time to wait for a server that does not answer.
    pub(super) fn response_timeout(&self) -> Duration {
        let timeouts = self.members.iter().map(|member| member.config().response_timeout());
        timeouts.max().unwrap_or_default()
    }

    fn name(&self, at: usize) -> String {
        self.members.get(at).map(Member::name).unwrap_or_default()
    }

    /// The error if too few servers could be asked. `applied` is the effect at the servers that were.
    pub(super) fn failure(
        &self,
        operation: LockOperation,
        failures: &[(usize, LockError)],
        applied: Applied,
    ) -> LockError {
        let names: Vec<_> = failures.iter().map(|(at, _)| self.name(*at)).collect();
        let count = self.members.len();
        let detail = format!(
            "{} of {count} servers gave no definite answer ({}), and {} must; check that they run",
            failures.len(),
            names.join(", "),
            majority(count),
        );
        let Some((_, first)) = failures.first() else {
            // Servers that contradict each other: a granted lease was removed meanwhile.
            return LockError::new(LockErrorKind::Unavailable, operation)
                .with_detail("the servers do not agree; try again");
        };
        let unknown = failures.iter().any(|(_, error)| error.applied() == Applied::Unknown);
        let error = LockError::new(first.kind().clone(), operation)
            .with_detail(detail)
            .with_source(first.clone());
        let retryable = failures.iter().any(|(_, error)| error.is_retryable());
        let error = if retryable { error.retryable() } else { error.not_retryable() };
        if applied == Applied::Unknown || unknown { error } else { error.not_applied() }
    }
}

fn refused(problem: String) -> LockError {
    LockError::new(LockErrorKind::InvalidOptions, LockOperation::Open)
        .with_detail(problem)
        .not_applied()
}

/// Runs work that must complete even if the caller is dropped, and that sends its answer before its end.
pub(super) async fn in_background<T, F>(
    operation: LockOperation,
    work: impl FnOnce(oneshot::Sender<Result<T, LockError>>) -> F,
) -> Result<T, LockError>
where
    F: Future<Output = ()> + Send + 'static,
{
    let (say, answer) = oneshot::channel();
    tokio::spawn(work(say));
    // The runtime ends, and the work with it.
    answer.await.unwrap_or_else(|_| Err(LockError::new(LockErrorKind::NoRuntime, operation)))
}
