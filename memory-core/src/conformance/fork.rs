//! Forks in one step, which equal copies in parts.

use std::time::Duration;

use uuid::Uuid;

use super::archive::{FOREVER, filled, summary};
use super::copy::{finish, rich};
use super::unused::DAY;
use super::{Case, Subject, batch, cases_of, key, lease, writer};
use crate::store::{
    Access, Append, AppendOutcome, Applied, Clear, CopyProgress, CopyStep, Counters, Fork,
    ForkOrigin, Forked, StoreErrorKind,
};
use crate::{MemoryKey, Sequence};

pub(super) const CASES: &[Case] = cases_of![
    needs: Forks,
    fork_equals_a_copy_in_parts,
    fork_of_a_cleared_memory_has_its_archive,
    fork_has_no_overdue_removals,
    fork_and_origin_are_independent,
    fork_sent_twice_is_applied_once,
    fork_of_a_changed_origin_is_refused,
    unfinished_copy_is_not_forked,
    fork_replaces_an_unfinished_copy,
    fork_takes_the_key_of_an_expired_memory,
    second_fork_to_a_key_is_refused,
    stale_lease_cannot_fork,
];

impl Subject {
    pub(super) async fn planned_fork(&self, from: &MemoryKey, at: u64, copy: u128) -> Fork {
        let head = self.store.head(from).await.unwrap();
        let (at, forked_at) = (Sequence::new(at), self.clock.now());
        let id = Some(Uuid::from_u128(copy));
        let origin = ForkOrigin { key: from.clone(), at, version: head.version, forked_at, id };
        let (from, copy) = (from.clone(), Uuid::from_u128(copy));
        Fork { from, generation: head.generation, copy, origin }
    }

    pub(super) async fn fork(&self, to: &MemoryKey, fork: &Fork) {
        let forked = self.store.fork(to, Access::OPEN, fork).await.unwrap();
        assert_eq!(forked, Forked::Complete);
    }

    async fn refused_fork(&self, to: &MemoryKey, fork: &Fork) -> StoreErrorKind {
        let refused = self.store.fork(to, Access::OPEN, fork).await.unwrap_err();
        assert_eq!(refused.applied(), Applied::No);
        refused.kind().clone()
    }

    async fn fork_in_parts(&self, to: &MemoryKey, Fork { from, copy, origin, .. }: &Fork) {
        let (at, mut counters) = (origin.at, Counters::default());
        let (mut steps, mut removals) = (vec![CopyStep::Begin], 0);
        for step in self.steps(from).await {
            match &step {
                CopyStep::Messages(one) if one[0].meta.sequence <= at => {
                    counters.hold(&one[0].meta);
                }
                CopyStep::Archived { removal, messages, end }
                    if removal.places.ranges().iter().all(|(_, last)| *last <= at) =>
                {
                    messages.iter().for_each(|one| counters.hold_archived(removal, &one.meta));
                    removals += u64::from(end.is_some());
                }
                _ => continue,
            }
            steps.push(step);
        }
        let frame = self.frame(from).await.into_fork(at, counters, origin.clone());
        steps.push(finish(frame, removals));
        for step in steps {
            self.step(to, copy.as_u128(), step).await;
        }
    }

    /// Forks at this place in one step and in parts, and compares both. Returns the fork in one step.
    async fn checked_fork(&self, from: &MemoryKey, at: u64) -> MemoryKey {
        let fork = self.planned_fork(from, at, at.into()).await;
        let [one, other] = ["step", "parts"].map(|how| key(&format!("{how}-{at}")));
        self.fork(&one, &fork).await;
        self.fork_in_parts(&other, &fork).await;
        self.assert_equal(&one, &other).await;
        assert_eq!(self.store.origin(&one).await.unwrap(), Some(fork.origin));
        one
    }
}

async fn fork_equals_a_copy_in_parts(subject: Subject) {
    let k = rich(&subject).await;
    // Those between are within the places of a removal.
    for at in [1, 5, 6, 7, 8, 9, 20] {
        let fork = subject.checked_fork(&k, at).await;
        let next = subject.append(&fork, writer(1).write(1), &["next"]).await;
        assert_eq!(next.outcome.first(), Some(Sequence::new(at.min(9) + 1)));
        if at >= 5 {
            subject.restore(&fork, 1, 4).await;
        }
    }
}

async fn fork_of_a_cleared_memory_has_its_archive(subject: Subject) {
    let k = filled(&subject).await;
    subject.flush(&k, 1, summary(&[2, 3], "*sum"), Some(FOREVER)).await;
    let clear = Clear { archive: Some(FOREVER), ..Clear::new(writer(9).write(1)) };
    subject.store.clear(&k, Access::OPEN, &clear).await.unwrap();
    subject.append(&k, writer(1).write(2), &["six", "seven"]).await;
    for at in [5, 6, 7] {
        let fork = subject.checked_fork(&k, at).await;
        let counters = subject.checked_outline(&fork).await.head.counters;
        assert_eq!((counters.appended, counters.cleared, counters.summarized), (at, 3, 2));
    }
}

async fn fork_has_no_overdue_removals(subject: Subject) {
    let k = filled(&subject).await;
    let hour = crate::store::Retention::keep_for(Duration::from_secs(3_600));
    subject.flush(&k, 1, summary(&[2, 3], "*sum"), Some(hour)).await;
    subject.flush(&k, 2, super::archive::eviction(&[4]), Some(FOREVER)).await;
    subject.clock.advance(Duration::from_secs(3_601));
    let fork = subject.checked_fork(&k, 5).await;
    assert_eq!(subject.archived_receipts(&fork).await, [2]);
    let counters = subject.checked_outline(&fork).await.head.counters;
    assert_eq!((counters.summarized, counters.evicted), (0, 1));
}

async fn fork_and_origin_are_independent(subject: Subject) {
    let (k, to) = (rich(&subject).await, key("fork"));
    let fork = subject.planned_fork(&k, 9, 7).await;
    subject.fork(&to, &fork).await;
    let before = subject.messages(&to).await;
    // The fork has no records of writers.
    assert_eq!(subject.frame(&to).await.writers, []);
    let again = batch(writer(1).write(1), &["again"]);
    let again = subject.store.append(&to, Access::OPEN, &again).await.unwrap();
    assert!(matches!(again.outcome, AppendOutcome::Appended { .. }));
    assert_eq!(subject.messages(&k).await, before);
    subject.flush(&to, 9, super::archive::eviction(&[6]), Some(FOREVER)).await;
    assert_eq!(subject.messages(&k).await, before);
    let after = subject.messages(&to).await;
    subject.store.clear(&k, Access::OPEN, &Clear::new(writer(9).write(1))).await.unwrap();
    assert_eq!(subject.messages(&to).await, after);
    assert_eq!(subject.archived_receipts(&to).await.len(), 5);
}

async fn fork_sent_twice_is_applied_once(subject: Subject) {
    let (k, to) = (filled(&subject).await, key("fork"));
    let fork = subject.planned_fork(&k, 5, 7).await;
    subject.fork(&to, &fork).await;
    subject.append(&to, writer(1).write(1), &["later"]).await;
    let outline = subject.checked_outline(&to).await;
    subject.fork(&to, &fork).await;
    // Also if the origin is no longer there.
    subject.store.clear(&k, Access::OPEN, &Clear::new(writer(9).write(1))).await.unwrap();
    subject.fork(&to, &fork).await;
    assert_eq!(subject.step(&to, 7, CopyStep::Begin).await, CopyProgress::complete());
    assert_eq!(subject.checked_outline(&to).await, outline);
}

async fn fork_of_a_changed_origin_is_refused(subject: Subject) {
    let (k, to) = (filled(&subject).await, key("fork"));
    let fork = subject.planned_fork(&k, 5, 7).await;
    // An append does not change what the fork takes.
    subject.append(&k, writer(1).write(2), &["five"]).await;
    let other = key("other");
    subject.fork(&other, &fork).await;
    assert_eq!(subject.messages(&other).await, subject.messages(&k).await[..5]);
    let whole = subject.planned_fork(&k, 6, 8).await;
    subject.flush(&k, 1, summary(&[2, 3], "*sum"), Some(FOREVER)).await;
    let missing = Fork { from: key("missing"), ..fork.clone() };
    for fork in [fork, whole, missing] {
        assert_eq!(subject.refused_fork(&to, &fork).await, StoreErrorKind::Conflict);
        assert_eq!(subject.texts(&to).await, [""; 0]);
    }
    subject.append(&to, writer(1).write(1), &["new"]).await;
    assert_eq!(subject.texts(&to).await, ["new"]);
}

async fn unfinished_copy_is_not_forked(subject: Subject) {
    let (k, from, to) = (filled(&subject).await, key("copy"), key("fork"));
    let fork = Fork { from: from.clone(), ..subject.planned_fork(&k, 1, 7).await };
    subject.step(&from, 1, CopyStep::Begin).await;
    subject.step(&from, 1, subject.steps(&k).await.remove(0)).await;
    assert_eq!(subject.refused_fork(&to, &fork).await, StoreErrorKind::Conflict);
    assert_eq!(subject.texts(&to).await, [""; 0]);
}

async fn fork_replaces_an_unfinished_copy(subject: Subject) {
    let k = filled(&subject).await;
    let steps = subject.steps(&k).await;
    // Another copy, and an attempt in parts with the same id.
    for copy in [1, 7] {
        let to = key(&format!("fork-{copy}"));
        subject.step(&to, copy, CopyStep::Begin).await;
        subject.step(&to, copy, steps[4].clone()).await;
        let fork = subject.planned_fork(&k, 3, 7).await;
        subject.fork(&to, &fork).await;
        assert_eq!(subject.messages(&to).await, subject.messages(&k).await[..3]);
        subject.checked_outline(&to).await;
        if copy == 1 {
            let refused = subject.refused_step(&to, copy, steps[1].clone()).await;
            assert_eq!(refused, StoreErrorKind::Exists);
        }
    }
}

async fn fork_takes_the_key_of_an_expired_memory(subject: Subject) {
    let (k, to) = (filled(&subject).await, key("fork"));
    let short = Append { ttl: Some(DAY), ..batch(writer(1).write(1), &["old", "older"]) };
    subject.store.append(&to, Access::OPEN, &short).await.unwrap();
    let before = subject.store.head(&to).await.unwrap().generation;
    let fork = subject.planned_fork(&k, 5, 7).await;
    assert_eq!(subject.refused_fork(&to, &fork).await, StoreErrorKind::Exists);
    subject.clock.advance(DAY + Duration::from_secs(1));
    subject.fork(&to, &fork).await;
    assert_eq!(subject.messages(&to).await, subject.messages(&k).await);
    assert!(subject.checked_outline(&to).await.head.generation > before);
    // The fork has no TTL, as its origin.
    subject.clock.advance(10 * DAY);
    assert_eq!(subject.texts(&to).await.len(), 5);
}

async fn second_fork_to_a_key_is_refused(subject: Subject) {
    let (k, to) = (filled(&subject).await, key("fork"));
    let first = subject.planned_fork(&k, 2, 7).await;
    let second = subject.planned_fork(&k, 4, 8).await;
    subject.fork(&to, &first).await;
    assert_eq!(subject.refused_fork(&to, &second).await, StoreErrorKind::Exists);
    let itself = subject.planned_fork(&k, 5, 9).await;
    assert_eq!(subject.refused_fork(&k, &itself).await, StoreErrorKind::Exists);
    assert_eq!(subject.messages(&to).await, subject.messages(&k).await[..2]);
    assert_eq!(subject.store.origin(&to).await.unwrap(), Some(first.origin));
}

async fn stale_lease_cannot_fork(subject: Subject) {
    let (k, to) = (filled(&subject).await, key("fork"));
    if subject.store.lease_domain().is_none() {
        subject.store.claim(&to, lease(7)).await.unwrap();
    }
    let fork = subject.planned_fork(&k, 5, 7).await;
    let access = Access::with_lease(lease(6));
    let refused = subject.store.fork(&to, access, &fork).await.unwrap_err();
    assert!(matches!(refused.kind(), StoreErrorKind::Fenced { .. }), "{refused}");
    assert_eq!(subject.store.keys(None, super::archive::MANY).await.unwrap(), [k]);
}
