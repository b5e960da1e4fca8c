//! The owners to which leases are granted, and the tokens of the grants.

use std::time::Duration;

use memory_core::lease::{FencingToken, OwnerId};

use super::{Subject, Verdict, Violation, ensure, key};
use crate::answer::{Acquired, HandOver, Release};
use crate::key::LockKey;

/// Acquires a lease that must be free.
pub(super) async fn granted(
    subject: &Subject,
    key: &LockKey,
    owner: OwnerId,
) -> Result<FencingToken, Violation> {
    match subject.backend().try_acquire(key, owner, subject.ttl()).await? {
        Acquired::Granted { token } => Ok(token),
        held @ Acquired::Held { .. } => {
            Err(Violation(format!("a free lease was not granted to {owner}: {held:?}")))
        }
    }
}

/// Hands over a lease that the giver must hold.
pub(super) async fn handed_over(
    subject: &Subject,
    key: &LockKey,
    from: OwnerId,
    to: OwnerId,
) -> Result<FencingToken, Violation> {
    match subject.backend().hand_over(key, from, to, subject.ttl()).await? {
        HandOver::HandedOver { token } => Ok(token),
        HandOver::NotOwner => {
            Err(Violation(format!("a lease held by {from} was not handed over to {to}")))
        }
    }
}

pub(super) async fn free_lease_is_granted_and_held_lease_refused(subject: Subject) -> Verdict {
    let (key, holder, other) = (key("k")?, subject.owner(), subject.owner());
    let token = granted(&subject, &key, holder).await?;
    ensure!(token > FencingToken::ZERO, "the token is zero");
    match subject.backend().try_acquire(&key, other, subject.ttl()).await? {
        Acquired::Held { remaining } => ensure!(
            remaining.is_none_or(|remaining| remaining <= subject.ttl()),
            "the holder has {remaining:?} left of a TTL of {:?}",
            subject.ttl()
        ),
        Acquired::Granted { .. } => ensure!(false, "a held lease was granted to another owner"),
    }
    Ok(())
}

pub(super) async fn released_lease_is_granted_again(subject: Subject) -> Verdict {
    let (key, first, second) = (key("k")?, subject.owner(), subject.owner());
    granted(&subject, &key, first).await?;
    let released = subject.backend().release(&key, first).await?;
    ensure!(released == Release::Released, "the holder's release answered {released:?}");
    granted(&subject, &key, second).await?;
    Ok(())
}

pub(super) async fn same_owner_gets_the_same_grant_again(subject: Subject) -> Verdict {
    let (key, owner) = (key("k")?, subject.owner());
    let first = granted(&subject, &key, owner).await?;
    let second = granted(&subject, &key, owner).await?;
    ensure!(first == second, "the same owner got the tokens {first} and {second}");
    Ok(())
}

pub(super) async fn tokens_rise_over_releases_expiries_and_hand_overs(subject: Subject) -> Verdict {
    let key = key("k")?;
    let mut last = FencingToken::ZERO;
    for round in 0..12 {
        let (owner, next) = (subject.owner(), subject.owner());
        let token = granted(&subject, &key, owner).await?;
        ensure!(token > last, "round {round}: token {token} after {last}");
        last = token;
        if round % 2 == 0 {
            let token = handed_over(&subject, &key, owner, next).await?;
            ensure!(token > last, "round {round}: token {token} of a hand-over after {last}");
            last = token;
        }
        if round == 5 || round == 6 {
            subject.pass(11).await;
        } else {
            let owner = if round % 2 == 0 { next } else { owner };
            let released = subject.backend().release(&key, owner).await?;
            ensure!(released == Release::Released, "round {round}: {released:?}");
        }
    }
    Ok(())
}

pub(super) async fn foreign_release_frees_nothing(subject: Subject) -> Verdict {
    let (key, holder, other) = (key("k")?, subject.owner(), subject.owner());
    granted(&subject, &key, holder).await?;
    let released = subject.backend().release(&key, other).await?;
    ensure!(released == Release::NotOwner, "a foreign release answered {released:?}");
    let lease = subject.backend().inspect(&key).await?;
    ensure!(lease.is_some_and(|lease| lease.owner == holder), "the lease was removed: {lease:?}");
    Ok(())
}

pub(super) async fn second_release_is_not_owner(subject: Subject) -> Verdict {
    let (key, owner) = (key("k")?, subject.owner());
    granted(&subject, &key, owner).await?;
    subject.backend().release(&key, owner).await?;
    let released = subject.backend().release(&key, owner).await?;
    ensure!(released == Release::NotOwner, "a second release answered {released:?}");
    Ok(())
}

pub(super) async fn keys_are_independent(subject: Subject) -> Verdict {
    let (one, two, owner, other) = (key("one")?, key("two")?, subject.owner(), subject.owner());
    granted(&subject, &one, owner).await?;
    granted(&subject, &two, other).await?;
    let released = subject.backend().release(&two, other).await?;
    ensure!(released == Release::Released, "the release of the other key answered {released:?}");
    let lease = subject.backend().inspect(&one).await?;
    ensure!(lease.is_some(), "releasing one key freed another");
    Ok(())
}

pub(super) async fn keys_of_all_characters_are_distinct(subject: Subject) -> Verdict {
    let long = "k".repeat(LockKey::MAX_BYTES);
    let names = ["a/b", "a_b", "a:b", "A/B", "a/b ", "{a}", "ä", "a%2Fb", "a\0b", "*", "'", &long];
    for name in names {
        granted(&subject, &key(name)?, subject.owner()).await?;
    }
    Ok(())
}

pub(super) async fn inspect_reports_owner_token_and_ttl(subject: Subject) -> Verdict {
    let (key, owner) = (key("k")?, subject.owner());
    let before = subject.backend().inspect(&key).await?;
    ensure!(before.is_none(), "a lease that was never granted is held: {before:?}");
    let token = granted(&subject, &key, owner).await?;
    subject.pass(2).await;
    let Some(lease) = subject.backend().inspect(&key).await? else {
        return Err(Violation("a held lease is not seen".to_owned()));
    };
    ensure!(lease.owner == owner, "the owner is {} and not {owner}", lease.owner);
    ensure!(lease.token == token, "the token is {} and not {token}", lease.token);
    let passed = subject.ttl() * 2 / 10 - Duration::from_millis(5);
    ensure!(
        lease.remaining > Duration::ZERO && lease.remaining <= subject.ttl() - passed,
        "{:?} of {:?} remain after two tenths",
        lease.remaining,
        subject.ttl()
    );
    ensure!(
        lease.held_for.is_none_or(|held_for| held_for >= passed),
        "it was held for {:?} after two tenths of {:?}",
        lease.held_for,
        subject.ttl()
    );
    subject.backend().release(&key, owner).await?;
    let after = subject.backend().inspect(&key).await?;
    ensure!(after.is_none(), "a released lease is held: {after:?}");
    Ok(())
}

pub(super) async fn hand_over_leaves_no_gap(subject: Subject) -> Verdict {
    let (key, from, to) = (key("k")?, subject.owner(), subject.owner());
    granted(&subject, &key, from).await?;
    let token = handed_over(&subject, &key, from, to).await?;
    let lease = subject.backend().inspect(&key).await?;
    ensure!(
        lease.is_some_and(|lease| lease.owner == to && lease.token == token),
        "after a hand-over to {to} under {token} the lease is {lease:?}"
    );
    let released = subject.backend().release(&key, from).await?;
    ensure!(released == Release::NotOwner, "the old owner's release answered {released:?}");
    Ok(())
}

pub(super) async fn repeated_hand_over_returns_the_same_token(subject: Subject) -> Verdict {
    let (key, from, to) = (key("k")?, subject.owner(), subject.owner());
    granted(&subject, &key, from).await?;
    let first = handed_over(&subject, &key, from, to).await?;
    let second = handed_over(&subject, &key, from, to).await?;
    ensure!(first == second, "a repeated hand-over answered {first}, then {second}");
    let acquired = granted(&subject, &key, to).await?;
    ensure!(first == acquired, "the new owner's acquisition got {acquired} and not {first}");
    Ok(())
}

pub(super) async fn hand_over_by_a_stale_owner_is_refused(subject: Subject) -> Verdict {
    let (key, stale, holder, to) = (key("k")?, subject.owner(), subject.owner(), subject.owner());
    let free = subject.backend().hand_over(&key, stale, to, subject.ttl()).await?;
    ensure!(free == HandOver::NotOwner, "a free lease was handed over: {free:?}");
    granted(&subject, &key, stale).await?;
    subject.pass(11).await;
    let expired = subject.backend().hand_over(&key, stale, to, subject.ttl()).await?;
    ensure!(expired == HandOver::NotOwner, "an expired lease was handed over: {expired:?}");
    granted(&subject, &key, holder).await?;
    let stolen = subject.backend().hand_over(&key, stale, to, subject.ttl()).await?;
    ensure!(stolen == HandOver::NotOwner, "another's lease was handed over: {stolen:?}");
    let lease = subject.backend().inspect(&key).await?;
    ensure!(lease.is_some_and(|lease| lease.owner == holder), "the holder lost it: {lease:?}");
    Ok(())
}

pub(super) async fn release_now_reports_whether_it_freed(subject: Subject) -> Verdict {
    let (key, holder, other) = (key("k")?, subject.owner(), subject.owner());
    granted(&subject, &key, holder).await?;
    subject.backend().release_now(&key, other);
    let lease = subject.backend().inspect(&key).await?;
    ensure!(lease.is_some(), "a foreign release_now freed the lease");
    if !subject.backend().release_now(&key, holder) {
        subject.backend().release(&key, holder).await?;
    }
    // It may be queued on a thread of the backend: the next acquisition is behind it, or waits.
    for _ in 0..1_000 {
        if subject.backend().inspect(&key).await?.is_none() {
            return Ok(());
        }
        tokio::task::yield_now().await;
    }
    Err(Violation("release_now said that it was done, and the lease is held".to_owned()))
}
