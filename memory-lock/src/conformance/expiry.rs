//! The effect of time on a lease, and of a renewal.

use std::time::Duration;

use memory_core::lease::{FencingToken, OwnerId};

use super::grants::{granted, handed_over};
use super::{Subject, Verdict, Violation, ensure, key};
use crate::answer::{Release, Renewal};
use crate::key::LockKey;
use crate::lease::Lease;

fn lease(subject: &Subject, key: &LockKey, owner: OwnerId, token: FencingToken) -> Lease {
    Lease { key: key.clone(), owner, token, ttl: subject.ttl() }
}

async fn renewed(subject: &Subject, lease: Lease) -> Result<Renewal, Violation> {
    match subject.backend().renew(&[lease]).await?.as_slice() {
        [answer] => Ok(*answer),
        answers => Err(Violation(format!("one renewal got {} answers", answers.len()))),
    }
}

async fn is_held(subject: &Subject, key: &LockKey) -> Result<bool, Violation> {
    Ok(subject.backend().inspect(key).await?.is_some())
}

pub(super) async fn expired_lease_is_taken_over_with_greater_token(subject: Subject) -> Verdict {
    let (key, first, second) = (key("k")?, subject.owner(), subject.owner());
    let old = granted(&subject, &key, first).await?;
    subject.pass(11).await;
    let new = granted(&subject, &key, second).await?;
    ensure!(new > old, "token {new} after {old}");
    let released = subject.backend().release(&key, first).await?;
    ensure!(released == Release::NotOwner, "the stale owner's release answered {released:?}");
    ensure!(is_held(&subject, &key).await?, "the stale owner's release freed the new lease");
    Ok(())
}

pub(super) async fn expired_lease_has_no_owner(subject: Subject) -> Verdict {
    let (key, owner) = (key("k")?, subject.owner());
    let token = granted(&subject, &key, owner).await?;
    subject.pass(11).await;
    ensure!(!is_held(&subject, &key).await?, "an expired lease is shown as held");
    let answer = renewed(&subject, lease(&subject, &key, owner, token)).await?;
    ensure!(answer == Renewal::Vanished, "the renewal of an expired lease answered {answer:?}");
    let released = subject.backend().release(&key, owner).await?;
    ensure!(released == Release::NotOwner, "the release of an expired lease: {released:?}");
    let again = granted(&subject, &key, owner).await?;
    ensure!(again > token, "a new grant to the same owner has token {again} after {token}");
    Ok(())
}

pub(super) async fn renewed_lease_lasts_its_ttl_again(subject: Subject) -> Verdict {
    let (key, owner) = (key("k")?, subject.owner());
    let token = granted(&subject, &key, owner).await?;
    for _ in 0..3 {
        subject.pass(6).await;
        let answer = renewed(&subject, lease(&subject, &key, owner, token)).await?;
        ensure!(answer == Renewal::Renewed, "the renewal of a live lease answered {answer:?}");
    }
    let found = subject.backend().inspect(&key).await?;
    ensure!(found.is_some_and(|found| found.token == token), "a renewal changed it: {found:?}");
    subject.pass(11).await;
    ensure!(!is_held(&subject, &key).await?, "it outlived its last renewal");
    Ok(())
}

pub(super) async fn resent_acquisition_restarts_the_ttl(subject: Subject) -> Verdict {
    let (key, owner) = (key("k")?, subject.owner());
    granted(&subject, &key, owner).await?;
    subject.pass(6).await;
    granted(&subject, &key, owner).await?;
    subject.pass(6).await;
    ensure!(is_held(&subject, &key).await?, "it ended with the first of two acquisitions");
    Ok(())
}

pub(super) async fn handed_over_lease_has_a_separate_ttl(subject: Subject) -> Verdict {
    let (key, from, to) = (key("k")?, subject.owner(), subject.owner());
    granted(&subject, &key, from).await?;
    subject.pass(6).await;
    handed_over(&subject, &key, from, to).await?;
    subject.pass(6).await;
    ensure!(is_held(&subject, &key).await?, "it ended with the first owner's TTL");
    handed_over(&subject, &key, from, to).await?;
    subject.pass(6).await;
    ensure!(is_held(&subject, &key).await?, "it ended with the first of two hand-overs");
    Ok(())
}

pub(super) async fn stale_renewal_does_not_revive_a_taken_lease(subject: Subject) -> Verdict {
    let (key, stale, holder) = (key("k")?, subject.owner(), subject.owner());
    let token = granted(&subject, &key, stale).await?;
    subject.pass(11).await;
    granted(&subject, &key, holder).await?;
    let answer = renewed(&subject, lease(&subject, &key, stale, token)).await?;
    ensure!(answer == Renewal::NotOwner, "a stale renewal answered {answer:?}");
    let found = subject.backend().inspect(&key).await?;
    ensure!(found.is_some_and(|found| found.owner == holder), "the holder lost it: {found:?}");
    subject.pass(11).await;
    let answer = renewed(&subject, lease(&subject, &key, stale, token)).await?;
    ensure!(answer != Renewal::Renewed, "a stale renewal came back after its successor");
    Ok(())
}

pub(super) async fn batch_of_renewals_is_answered_in_order(subject: Subject) -> Verdict {
    let owner = subject.owner();
    let (stolen, gone, mine, never) = (key("stolen")?, key("gone")?, key("mine")?, key("never")?);
    let mut batch = Vec::new();
    for name in [&stolen, &gone] {
        let token = granted(&subject, name, owner).await?;
        batch.push(lease(&subject, name, owner, token));
    }
    subject.pass(11).await;
    granted(&subject, &stolen, subject.owner()).await?;
    let token = granted(&subject, &mine, owner).await?;
    batch.push(lease(&subject, &mine, owner, token));
    batch.push(lease(&subject, &never, owner, FencingToken::ZERO));
    let answers = subject.backend().renew(&batch).await?;
    let expected = [Renewal::NotOwner, Renewal::Vanished, Renewal::Renewed, Renewal::Vanished];
    ensure!(answers == expected, "the answers are {answers:?} and not {expected:?}");
    Ok(())
}

pub(super) async fn empty_batch_is_answered_with_nothing(subject: Subject) -> Verdict {
    let answers = subject.backend().renew(&[]).await?;
    ensure!(answers.is_empty(), "no renewals got {} answers", answers.len());
    Ok(())
}

pub(super) async fn each_lease_of_a_batch_has_its_ttl(subject: Subject) -> Verdict {
    let (short, long, owner) = (key("short")?, key("long")?, subject.owner());
    let mut batch = Vec::new();
    for (name, times) in [(&short, 1), (&long, 4)] {
        let token = granted(&subject, name, owner).await?;
        let ttl: Duration = subject.ttl() * times;
        batch.push(Lease { ttl, ..lease(&subject, name, owner, token) });
    }
    subject.backend().renew(&batch).await?;
    subject.pass(15).await;
    ensure!(!is_held(&subject, &short).await?, "the short one outlived its TTL");
    ensure!(is_held(&subject, &long).await?, "the long one ended before its TTL");
    Ok(())
}
