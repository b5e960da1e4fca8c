//! Every backend of this crate passes the suite, and the suite can fail.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use memory_lock::conformance::{self, Subject};
use memory_lock::{
    Acquired, Clock, HandOver, InProcessLock, Lease, LeaseDomain, LeaseInfo, LockBackend,
    LockError, LockKey, OwnerId, Release, Renewal, Watch,
};

async fn in_process() -> Subject {
    let clock = Clock::manual();
    Subject::new(Arc::new(InProcessLock::new(clock.clone()))).with_manual_clock(clock)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn in_process_backend_conforms() {
    let passed = conformance::run(in_process).await.unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(passed, 25);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn in_process_backend_conforms_in_real_time() {
    conformance::run(async || Subject::new(Arc::new(InProcessLock::default())))
        .await
        .unwrap_or_else(|e| panic!("{e}"));
}

#[cfg(feature = "sqlite")]
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sqlite_backend_conforms() {
    conformance::run(async || {
        let (dir, clock) = (tempfile::tempdir().unwrap(), Clock::manual());
        let path = dir.path().join("leases.db");
        let backend = memory_lock::SqliteLock::open(path, clock.clone()).unwrap();
        Subject::new(Arc::new(backend)).with_manual_clock(clock).keeping(dir)
    })
    .await
    .unwrap_or_else(|e| panic!("{e}"));
}

/// The reference with one of its rules broken.
#[derive(Debug)]
struct Broken {
    inner: InProcessLock,
    how: How,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    ReleasesForAnyone,
    GrantsAgainWithANewToken,
    RevivesWhatVanished,
    AnswersInReverse,
    HandsOverForAnyone,
    NeverWakes,
    ForgetsToExtend,
    ReleaseNowLies,
}

#[async_trait]
impl LockBackend for Broken {
    async fn try_acquire(
        &self,
        key: &LockKey,
        owner: OwnerId,
        ttl: Duration,
    ) -> Result<Acquired, LockError> {
        let held = self.inner.inspect(key).await?.is_some_and(|lease| lease.owner == owner);
        if held && self.how == How::GrantsAgainWithANewToken {
            self.inner.release(key, owner).await?;
        }
        self.inner.try_acquire(key, owner, ttl).await
    }

    async fn renew(&self, leases: &[Lease]) -> Result<Vec<Renewal>, LockError> {
        let mut answers = match self.how {
            How::ForgetsToExtend => {
                let mut answers = Vec::new();
                for lease in leases {
                    answers.push(match self.inner.inspect(&lease.key).await? {
                        Some(found) if found.owner == lease.owner => Renewal::Renewed,
                        Some(_) => Renewal::NotOwner,
                        None => Renewal::Vanished,
                    });
                }
                answers
            }
            _ => self.inner.renew(leases).await?,
        };
        if self.how == How::AnswersInReverse {
            answers.reverse();
        }
        if self.how == How::RevivesWhatVanished {
            for (lease, answer) in leases.iter().zip(&mut answers) {
                if *answer == Renewal::Vanished {
                    self.inner.try_acquire(&lease.key, lease.owner, lease.ttl).await?;
                    *answer = Renewal::Renewed;
                }
            }
        }
        Ok(answers)
    }

    async fn release(&self, key: &LockKey, owner: OwnerId) -> Result<Release, LockError> {
        let holder = self.inner.inspect(key).await?.map_or(owner, |lease| lease.owner);
        let owner = if self.how == How::ReleasesForAnyone { holder } else { owner };
        self.inner.release(key, owner).await
    }

    async fn hand_over(
        &self,
        key: &LockKey,
        from: OwnerId,
        to: OwnerId,
        ttl: Duration,
    ) -> Result<HandOver, LockError> {
        let holder = self.inner.inspect(key).await?.map_or(from, |lease| lease.owner);
        let from = if self.how == How::HandsOverForAnyone { holder } else { from };
        self.inner.hand_over(key, from, to, ttl).await
    }

    async fn inspect(&self, key: &LockKey) -> Result<Option<LeaseInfo>, LockError> {
        self.inner.inspect(key).await
    }

    fn watch(&self, key: &LockKey, waiter: Option<OwnerId>) -> Watch {
        if self.how == How::NeverWakes {
            return Box::pin(std::future::pending());
        }
        self.inner.watch(key, waiter)
    }

    fn release_now(&self, key: &LockKey, owner: OwnerId) -> bool {
        self.how == How::ReleaseNowLies || self.inner.release_now(key, owner)
    }

    fn keeps_places(&self) -> bool {
        self.inner.keeps_places()
    }

    fn domain(&self) -> &LeaseDomain {
        self.inner.domain()
    }
}

#[tokio::test]
async fn suite_finds_each_broken_rule() {
    for (how, found_by) in [
        (How::ReleasesForAnyone, "foreign_release_frees_nothing"),
        (How::GrantsAgainWithANewToken, "same_owner_gets_the_same_grant_again"),
        (How::RevivesWhatVanished, "expired_lease_has_no_owner"),
        (How::AnswersInReverse, "batch_of_renewals_is_answered_in_order"),
        (How::HandsOverForAnyone, "hand_over_by_a_stale_owner_is_refused"),
        (How::NeverWakes, "watch_ends_when_the_lease_is_released"),
        (How::ForgetsToExtend, "renewed_lease_lasts_its_ttl_again"),
        (How::ReleaseNowLies, "release_now_reports_whether_it_freed"),
    ] {
        let failures = conformance::run(async || {
            let clock = Clock::manual();
            let inner = InProcessLock::new(clock.clone());
            Subject::new(Arc::new(Broken { inner, how })).with_manual_clock(clock)
        })
        .await
        .expect_err("a broken backend passed");
        assert!(failures.cases().any(|case| case == found_by), "{how:?}: {failures}");
    }
}
