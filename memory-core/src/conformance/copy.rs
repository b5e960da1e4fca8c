//! Copies of whole memories: complete, unfinished, sent again, refused and abandoned.

use std::num::NonZeroUsize;
use std::time::Duration;

use uuid::Uuid;

use super::archive::{FOREVER, Flush, MANY, eviction, filled, summary, withdrawal};
use super::unused::DAY;
use super::{Case, Subject, batch, cases_of, key, lease, writer};
use crate::MemoryKey;
use crate::Sequence;
use crate::store::{
    Access, Append, AppendOutcome, Applied, COPY_LIFETIME, Clear, CopyProgress, CopyStep,
    CopyWrite, Erase, ForkOrigin, Frame, FrameWriters, Read, Removed, StoreErrorKind,
};

pub(super) const CASES: &[Case] = cases_of![
    needs: Copies,
    copied_memory_equals_its_source,
    copied_memory_goes_on_like_its_source,
    cleared_memory_is_copied_with_its_archive,
    unfinished_copy_is_neither_read_nor_written,
    steps_sent_twice_are_applied_once,
    copy_is_resumed_where_it_ended,
    memory_is_not_replaced_by_a_copy,
    another_copy_takes_the_place,
    late_part_of_a_discarded_attempt_is_refused,
    resumed_copy_takes_no_earlier_attempt,
    incomplete_copy_is_not_finished,
    abandoned_copy_is_swept,
    continued_copy_is_not_swept,
    discarded_copy_leaves_the_key_free,
    memory_without_messages_counts_as_absent,
    stale_lease_cannot_copy,
    origin_is_kept_and_copied,
];

/// Some removals of each kind, an erasure, a TTL and writers.
pub(super) async fn rich(subject: &Subject) -> MemoryKey {
    let k = filled(subject).await;
    let more = Append { ttl: Some(10 * DAY), ..batch(writer(2).write(7), &["five", "six"]) };
    subject.store.append(&k, Access::OPEN, &more).await.unwrap();
    subject.flush(&k, 1, Flush { evicted: &[5], ..summary(&[2, 3], "*sum") }, Some(FOREVER)).await;
    subject.flush(&k, 2, withdrawal(&[7]), Some(FOREVER)).await;
    subject.flush_replacing(&k, 3, Flush::default(), &[(4, "cleared")]).await;
    subject.flush(&k, 4, summary(&[2, 4], "*sum2"), Some(FOREVER)).await;
    let session = crate::store::WriterId::session(1_700_000_000_000, 5);
    let late = Append { ttl: Some(10 * DAY), ..batch(session.write(1), &["seven", "eight"]) };
    subject.store.append(&k, Access::OPEN, &late).await.unwrap();
    let places = std::iter::once(Sequence::new(8)).collect();
    let erase = Erase { write: writer(60).write(1), places, reason: "request 4711".into() };
    subject.store.erase(&k, Access::OPEN, &erase).await.unwrap();
    k
}

pub(super) fn finish(frame: Frame, removals: u64) -> CopyStep {
    CopyStep::Finish { frame: Box::new(frame), removals }
}

const ONE: NonZeroUsize = NonZeroUsize::MIN;

impl Subject {
    pub(super) async fn frame(&self, key: &MemoryKey) -> Frame {
        self.store.frame(key, FrameWriters::Included).await.unwrap()
    }

    pub(super) async fn step(&self, to: &MemoryKey, copy: u128, step: CopyStep) -> CopyProgress {
        self.attempt(1, to, copy, step).await
    }

    async fn attempt(
        &self,
        attempt: u64,
        to: &MemoryKey,
        copy: u128,
        step: CopyStep,
    ) -> CopyProgress {
        let write = CopyWrite { copy: Uuid::from_u128(copy), attempt, step };
        self.store.write_copy(to, Access::OPEN, &write).await.unwrap()
    }

    pub(super) async fn refused_step(
        &self,
        to: &MemoryKey,
        copy: u128,
        step: CopyStep,
    ) -> StoreErrorKind {
        let write = CopyWrite { copy: Uuid::from_u128(copy), attempt: 1, step };
        let refused = self.store.write_copy(to, Access::OPEN, &write).await.unwrap_err();
        assert_eq!(refused.applied(), Applied::No);
        refused.kind().clone()
    }

    /// The steps of a copy after the first, each with one message.
    pub(super) async fn steps(&self, from: &MemoryKey) -> Vec<CopyStep> {
        let mut steps = Vec::new();
        for stored in self.messages(from).await {
            steps.push(CopyStep::Messages(vec![stored]));
        }
        let mut removals = self.removals(from).await;
        removals.reverse();
        let count = removals.len() as u64;
        for removal in removals {
            let (mut tallies, mut after) = (Removed::default(), Sequence::ZERO);
            loop {
                let page =
                    self.store.archived(from, removal.number, after, ONE.into()).await.unwrap();
                let Some(last) = page.last() else { break };
                after = last.meta.sequence;
                tallies.count_archived(&removal, &last.meta);
                let removal = Box::new(removal.clone());
                steps.push(CopyStep::Archived { removal, messages: page, end: None });
            }
            let end = Some(tallies);
            let removal = Box::new(removal);
            steps.push(CopyStep::Archived { removal, messages: Vec::new(), end });
        }
        steps.push(finish(self.frame(from).await, count));
        steps
    }

    pub(super) async fn copy(&self, from: &MemoryKey, to: &MemoryKey) {
        let steps = self.steps(from).await;
        self.step(to, 1, CopyStep::Begin).await;
        for step in steps {
            self.step(to, 1, step).await;
        }
    }

    /// Asserts that both memories read the same, apart from their generations.
    pub(super) async fn assert_equal(&self, one: &MemoryKey, other: &MemoryKey) {
        assert_eq!(self.messages(one).await, self.messages(other).await);
        let (first, second) = (self.checked_outline(one).await, self.checked_outline(other).await);
        assert_eq!(first.metas, second.metas);
        let (first, second) = (self.frame(one).await, self.frame(other).await);
        assert_eq!(Frame { generation: second.generation, ..first.clone() }, second);
        assert_ne!(second.generation, crate::store::Generation::NONE);
        let removals = self.removals(one).await;
        assert_eq!(removals, self.removals(other).await);
        for removal in removals {
            let number = removal.number;
            assert_eq!(self.archived(one, number).await, self.archived(other, number).await);
        }
        let erasures = self.store.erasures(one).await.unwrap();
        assert_eq!(erasures, self.store.erasures(other).await.unwrap());
        let receipts = self.store.receipts(one).await.unwrap();
        assert_eq!(receipts, self.store.receipts(other).await.unwrap());
    }
}

async fn copied_memory_equals_its_source(subject: Subject) {
    let (k, to) = (rich(&subject).await, key("copy"));
    let frame = subject.frame(&k).await;
    assert_eq!((frame.last.number(), frame.receipts.len(), frame.erasures.len()), (9, 4, 1));
    assert_eq!((frame.writers.len(), frame.writers[0].number), (4, 1));
    assert!(frame.expires_at.is_some());
    let newest = subject.messages(&k).await.pop().map(|newest| newest.meta.newest());
    assert!(frame.newest.is_some_and(|newest| newest.sequence == frame.last));
    assert_eq!(frame.newest, newest);
    let mut without = subject.store.frame(&k, FrameWriters::LeftOut).await.unwrap();
    assert_eq!(without.writers, []);
    (without.writers, without.forgotten_millis) = (frame.writers.clone(), frame.forgotten_millis);
    assert_eq!(without, frame);
    subject.copy(&k, &to).await;
    subject.assert_equal(&k, &to).await;
    let keys = subject.store.keys(None, MANY).await.unwrap();
    assert_eq!(keys, [to, k.clone()]);
    subject.flush(&k, 5, withdrawal(&[9]), Some(FOREVER)).await;
    assert_eq!(subject.frame(&k).await.newest, None);
}

async fn copied_memory_goes_on_like_its_source(subject: Subject) {
    let (k, to) = (rich(&subject).await, key("copy"));
    subject.copy(&k, &to).await;
    // Retries are recognized, and places continue.
    let again = batch(writer(1).write(1), &["!sys", "one", "#two", "three", "four"]);
    let again = subject.store.append(&to, Access::OPEN, &again).await.unwrap();
    assert_eq!(again.outcome, AppendOutcome::Duplicate { first: Some(Sequence::new(1)) });
    for k in [&k, &to] {
        let new = subject.append(k, writer(3).write(1), &["nine"]).await;
        assert_eq!(new.outcome.first(), Some(Sequence::new(10)));
        // Undone in the reverse order: the summary of a summary, the cleared message, the summary.
        for (number, receipt) in [(1, 4), (2, 3), (3, 2)] {
            subject.restore(k, number, receipt).await;
        }
        subject.restore(k, 4, 1).await;
        subject.flush(k, 9, eviction(&[2]), Some(FOREVER)).await;
        let erase = Erase {
            write: writer(61).write(1),
            places: [2, 3].map(Sequence::new).into_iter().collect(),
            reason: "request 4712".into(),
        };
        subject.store.erase(k, Access::OPEN, &erase).await.unwrap();
    }
    assert_eq!(subject.messages(&k).await, subject.messages(&to).await);
    let counters = |outline: crate::store::Outline| outline.head.counters;
    let (one, other) = (subject.checked_outline(&k).await, subject.checked_outline(&to).await);
    assert_eq!(counters(one), counters(other));
    assert_eq!(subject.texts(&k).await, ["!sys", "three", "four", "five", "six", "eight", "nine"]);
}

async fn cleared_memory_is_copied_with_its_archive(subject: Subject) {
    let (k, to) = (filled(&subject).await, key("copy"));
    subject.flush(&k, 1, summary(&[2, 3], "*sum"), Some(FOREVER)).await;
    let clear = Clear { archive: Some(FOREVER), ..Clear::new(writer(9).write(1)) };
    subject.store.clear(&k, Access::OPEN, &clear).await.unwrap();
    subject.copy(&k, &to).await;
    subject.assert_equal(&k, &to).await;
    subject.append(&k, writer(1).write(2), &["new"]).await;
    let last = key("last");
    subject.copy(&k, &last).await;
    subject.assert_equal(&k, &last).await;
    assert_eq!(subject.texts(&last).await, ["new"]);
}

async fn unfinished_copy_is_neither_read_nor_written(subject: Subject) {
    let (k, to) = (rich(&subject).await, key("copy"));
    let steps = subject.steps(&k).await;
    subject.step(&to, 1, CopyStep::Begin).await;
    for step in steps {
        let kind = &StoreErrorKind::Unfinished;
        let store = &subject.store;
        assert_eq!(store.head(&to).await.unwrap_err().kind(), kind);
        assert_eq!(store.read(&to, Read::default()).await.unwrap_err().kind(), kind);
        assert_eq!(store.read_before(&to, None, MANY).await.unwrap_err().kind(), kind);
        assert_eq!(store.outline(&to).await.unwrap_err().kind(), kind);
        assert_eq!(store.receipts(&to).await.unwrap_err().kind(), kind);
        assert_eq!(store.removals(&to, None, MANY).await.unwrap_err().kind(), kind);
        assert_eq!(store.erasures(&to).await.unwrap_err().kind(), kind);
        assert_eq!(store.frame(&to, FrameWriters::LeftOut).await.unwrap_err().kind(), kind);
        assert_eq!(store.origin(&to).await.unwrap_err().kind(), kind);
        let append = batch(writer(8).write(1), &["early"]);
        let refused = store.append(&to, Access::OPEN, &append).await.unwrap_err();
        assert_eq!((refused.kind(), refused.applied()), (kind, Applied::No));
        let clear = Clear::new(writer(8).write(1));
        let refused = store.clear(&to, Access::OPEN, &clear).await.unwrap_err();
        assert_eq!(refused.kind(), kind);
        assert_eq!(store.keys(None, MANY).await.unwrap(), std::slice::from_ref(&k));
        subject.step(&to, 1, step).await;
    }
    subject.assert_equal(&k, &to).await;
}

async fn steps_sent_twice_are_applied_once(subject: Subject) {
    let (k, to) = (rich(&subject).await, key("copy"));
    let steps = subject.steps(&k).await;
    subject.step(&to, 1, CopyStep::Begin).await;
    for step in &steps {
        let first = subject.step(&to, 1, step.clone()).await;
        assert_eq!(subject.step(&to, 1, step.clone()).await, first);
    }
    subject.assert_equal(&k, &to).await;
    subject.append(&to, writer(8).write(1), &["later"]).await;
    let outline = subject.checked_outline(&to).await;
    for step in std::iter::once(CopyStep::Begin).chain(steps) {
        assert_eq!(subject.step(&to, 1, step).await, CopyProgress::complete());
    }
    assert_eq!(subject.checked_outline(&to).await, outline);
}

async fn copy_is_resumed_where_it_ended(subject: Subject) {
    let (k, to) = (rich(&subject).await, key("copy"));
    let steps = subject.steps(&k).await;
    assert_eq!(subject.step(&to, 1, CopyStep::Begin).await, CopyProgress::default());
    let removals: Vec<_> = subject.removals(&k).await.iter().rev().map(|one| one.number).collect();
    let (mut last, mut removal) = (Sequence::ZERO, 0);
    for step in steps {
        let reached = subject.step(&to, 1, CopyStep::Begin).await;
        assert_eq!(reached, CopyProgress::reached(last, removal));
        match &step {
            CopyStep::Messages(messages) => last = messages[0].meta.sequence,
            CopyStep::Archived { removal: one, end: Some(_), .. } => {
                removal = one.number;
                assert!(removals.contains(&removal));
            }
            _ => {}
        }
        subject.step(&to, 1, step).await;
    }
    // All messages again from the start, as another process reads them.
    subject.assert_equal(&k, &to).await;
}

async fn memory_is_not_replaced_by_a_copy(subject: Subject) {
    let (k, to) = (rich(&subject).await, key("copy"));
    subject.append(&to, writer(1).write(1), &["there"]).await;
    let before = subject.checked_outline(&to).await;
    for step in std::iter::once(CopyStep::Begin).chain(subject.steps(&k).await) {
        assert_eq!(subject.refused_step(&to, 1, step).await, StoreErrorKind::Exists);
    }
    assert_eq!(subject.refused_step(&to, 1, CopyStep::Discard).await, StoreErrorKind::Exists);
    assert_eq!(subject.checked_outline(&to).await, before);
}

async fn another_copy_takes_the_place(subject: Subject) {
    let (k, to) = (rich(&subject).await, key("copy"));
    let steps = subject.steps(&k).await;
    for step in &steps {
        assert_eq!(subject.refused_step(&to, 1, step.clone()).await, StoreErrorKind::Conflict);
    }
    subject.step(&to, 7, CopyStep::Begin).await;
    for step in &steps[..3] {
        subject.step(&to, 7, step.clone()).await;
    }
    subject.step(&to, 1, CopyStep::Begin).await;
    let refused = subject.refused_step(&to, 7, steps[3].clone()).await;
    assert_eq!(refused, StoreErrorKind::Conflict);
    for step in steps {
        subject.step(&to, 1, step).await;
    }
    subject.assert_equal(&k, &to).await;
}

/// The attempts have the same id, and the messages of the first were other ones.
async fn late_part_of_a_discarded_attempt_is_refused(subject: Subject) {
    let (k, old) = (rich(&subject).await, key("old"));
    subject.append(&old, writer(1).write(1), &["A", "B", "C", "D", "E", "F"]).await;
    let steps = subject.steps(&k).await;
    let late = subject.steps(&old).await;
    let archived = steps.iter().find(|step| matches!(step, CopyStep::Archived { .. }));
    let late: Vec<_> = late.into_iter().chain(archived.cloned()).collect();
    let expiry = COPY_LIFETIME + Duration::from_secs(1);
    for round in 0..3 {
        let to = key(&format!("copy-{round}"));
        subject.step(&to, 1, CopyStep::Begin).await;
        subject.step(&to, 1, late[0].clone()).await;
        match round {
            0 => drop(subject.step(&to, 1, CopyStep::Discard).await),
            1 => drop(subject.step(&to, 7, CopyStep::Begin).await),
            _ => subject.clock.advance(expiry),
        }
        let begun = subject.attempt(2, &to, 1, CopyStep::Begin).await;
        assert_eq!(begun, CopyProgress::default());
        for step in &steps {
            for late in &late {
                let refused = subject.refused_step(&to, 1, late.clone()).await;
                assert_eq!(refused, StoreErrorKind::Conflict);
            }
            subject.attempt(2, &to, 1, step.clone()).await;
        }
        subject.assert_equal(&k, &to).await;
    }
}

async fn resumed_copy_takes_no_earlier_attempt(subject: Subject) {
    let (k, to) = (rich(&subject).await, key("copy"));
    let steps = subject.steps(&k).await;
    subject.step(&to, 1, CopyStep::Begin).await;
    subject.step(&to, 1, steps[0].clone()).await;
    let reached = CopyProgress::reached(Sequence::new(1), 0);
    assert_eq!(subject.attempt(2, &to, 1, CopyStep::Begin).await, reached);
    let refused = subject.refused_step(&to, 1, steps[1].clone()).await;
    assert_eq!(refused, StoreErrorKind::Conflict);
    assert_eq!(subject.attempt(2, &to, 1, CopyStep::Begin).await, reached);
    for step in &steps {
        subject.attempt(2, &to, 1, step.clone()).await;
    }
    subject.assert_equal(&k, &to).await;
    // A complete copy answers every attempt.
    let again = subject.step(&to, 1, steps[1].clone()).await;
    assert_eq!(again, CopyProgress::complete());
}

async fn incomplete_copy_is_not_finished(subject: Subject) {
    let k = rich(&subject).await;
    let steps = subject.steps(&k).await;
    let ends = |step: &CopyStep| matches!(step, CopyStep::Archived { end: Some(_), .. });
    for left_out in 0..steps.len() - 1 {
        let to = key("copy");
        subject.step(&to, left_out as u128 + 5, CopyStep::Begin).await;
        let mut refused = Vec::new();
        for (number, step) in steps.iter().enumerate() {
            let copy = Uuid::from_u128(left_out as u128 + 5);
            let write = CopyWrite { copy, attempt: 1, step: step.clone() };
            if number != left_out
                && let Err(error) = subject.store.write_copy(&to, Access::OPEN, &write).await
            {
                refused.push(error.kind().clone());
            }
        }
        let expected = |kind: &StoreErrorKind| {
            matches!(kind, StoreErrorKind::Invalid(_) | StoreErrorKind::Conflict)
        };
        assert!(!refused.is_empty() && refused.iter().all(expected), "{left_out}: {refused:?}");
        if !ends(&steps[left_out]) {
            assert!(matches!(refused[0], StoreErrorKind::Invalid(_)), "{refused:?}");
        }
        let head = subject.store.head(&to).await;
        assert_eq!(head.unwrap_err().kind(), &StoreErrorKind::Unfinished);
    }
}

async fn abandoned_copy_is_swept(subject: Subject) {
    let (k, to) = (filled(&subject).await, key("copy"));
    let steps = subject.steps(&k).await;
    subject.step(&to, 1, CopyStep::Begin).await;
    subject.step(&to, 1, steps[0].clone()).await;
    assert!(subject.unused_now().await.is_empty());
    subject.clock.advance(COPY_LIFETIME + Duration::from_secs(1));
    let listed = subject.unused_now().await;
    assert_eq!((listed.len(), &listed[0].key, listed[0].expired), (1, &to, true));
    while subject.remove(&listed[0], 1).await.more {}
    assert!(subject.unused_now().await.is_empty());
    let refused = subject.refused_step(&to, 1, steps[1].clone()).await;
    assert_eq!(refused, StoreErrorKind::Conflict);
    subject.append(&to, writer(1).write(1), &["new"]).await;
    assert_eq!(subject.texts(&to).await, ["new"]);
}

async fn continued_copy_is_not_swept(subject: Subject) {
    let (k, to) = (filled(&subject).await, key("copy"));
    let steps = subject.steps(&k).await;
    subject.step(&to, 1, CopyStep::Begin).await;
    subject.clock.advance(COPY_LIFETIME + Duration::from_secs(1));
    let listed = subject.unused_now().await.remove(0);
    // It begins again: it was abandoned.
    assert_eq!(subject.step(&to, 1, CopyStep::Begin).await, CopyProgress::default());
    let remove = crate::store::RemoveUnused::new(&listed, ONE);
    let refused = subject.store.remove(&to, remove).await.unwrap_err();
    assert_eq!(refused.kind(), &StoreErrorKind::Conflict);
    for step in steps {
        subject.clock.advance(COPY_LIFETIME - Duration::from_secs(1));
        subject.step(&to, 1, step).await;
    }
    subject.assert_equal(&k, &to).await;
}

async fn discarded_copy_leaves_the_key_free(subject: Subject) {
    let (k, to) = (filled(&subject).await, key("copy"));
    subject.step(&to, 1, CopyStep::Discard).await;
    subject.step(&to, 1, CopyStep::Begin).await;
    subject.step(&to, 1, subject.steps(&k).await.remove(0)).await;
    subject.step(&to, 9, CopyStep::Discard).await;
    assert_eq!(subject.texts(&to).await, [""; 0]);
    subject.append(&to, writer(1).write(1), &["new"]).await;
    assert_eq!(subject.texts(&to).await, ["new"]);
}

async fn memory_without_messages_counts_as_absent(subject: Subject) {
    let (k, to) = (filled(&subject).await, key("copy"));
    let clear = Clear::new(writer(4).write(1));
    subject.store.clear(&to, Access::OPEN, &clear).await.unwrap();
    subject.copy(&k, &to).await;
    subject.assert_equal(&k, &to).await;
    let nothing = Frame::new(crate::store::Head::default());
    let other = key("other");
    subject.step(&other, 1, CopyStep::Begin).await;
    let refused = subject.refused_step(&other, 1, finish(nothing, 0)).await;
    assert!(matches!(refused, StoreErrorKind::Invalid(_)));
}

async fn stale_lease_cannot_copy(subject: Subject) {
    let to = key("copy");
    if subject.store.lease_domain().is_none() {
        subject.store.claim(&to, lease(7)).await.unwrap();
    }
    let write = CopyWrite { copy: Uuid::from_u128(1), attempt: 1, step: CopyStep::Begin };
    let access = Access::with_lease(lease(6));
    let refused = subject.store.write_copy(&to, access, &write).await.unwrap_err();
    assert!(matches!(refused.kind(), StoreErrorKind::Fenced { .. }), "{refused}");
    assert_eq!(subject.store.keys(None, MANY).await.unwrap(), []);
}

async fn origin_is_kept_and_copied(subject: Subject) {
    let (k, to, last) = (filled(&subject).await, key("fork"), key("last"));
    assert_eq!(subject.store.origin(&k).await.unwrap(), None);
    let (at, forked_at) = (Sequence::new(5), subject.clock.now());
    let id = Some(Uuid::from_u128(7));
    let origin = ForkOrigin { key: k.clone(), at, version: 1, forked_at, id };
    let mut steps = subject.steps(&k).await;
    let mut frame = subject.frame(&k).await;
    frame.origin = Some(origin.clone());
    *steps.last_mut().unwrap() = finish(frame, 0);
    subject.step(&to, 1, CopyStep::Begin).await;
    for step in steps {
        subject.step(&to, 1, step).await;
    }
    subject.copy(&to, &last).await;
    for k in [&to, &last] {
        assert_eq!(subject.store.origin(k).await.unwrap().as_ref(), Some(&origin));
    }
    let clear = Clear::new(writer(4).write(1));
    subject.store.clear(&last, Access::OPEN, &clear).await.unwrap();
    assert_eq!(subject.store.origin(&last).await.unwrap(), Some(origin));
}
