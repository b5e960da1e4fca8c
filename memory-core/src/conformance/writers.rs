//! Retention of writer records.

use super::{Case, Subject, batch, cases_of, key, writer};
use crate::store::{
    Access, Append, AppendOutcome, Clear, KEPT_SESSIONS, SESSION_RETENTION, StoreError,
    StoreErrorKind, WriteId, WriterId,
};

pub(super) const CASES: &[Case] = cases_of![
    forgotten_writer_is_refused,
    young_writers_are_recognized,
    newest_writers_are_recognized_at_any_age,
    removed_memory_forgets_writers,
];

/// More than the number of old writers that any store keeps.
const MANY: u64 = 200;

impl Subject {
    fn millis(&self) -> u64 {
        self.clock.now_micros() / 1_000
    }

    /// One append by each of this many new processes.
    async fn sessions(&self, name: &str, count: u64) -> Vec<WriteId> {
        let mut writes = Vec::new();
        for number in 0..count {
            let write = WriterId::session(self.millis(), number).write(1);
            self.append(&key(name), write, &["x"]).await;
            writes.push(write);
        }
        writes
    }

    async fn again(&self, name: &str, write: WriteId) -> Result<AppendOutcome, StoreError> {
        let append: Append = batch(write, &["x"]);
        self.store.append(&key(name), Access::OPEN, &append).await.map(|appended| appended.outcome)
    }

    async fn count(&self, name: &str) -> u64 {
        self.checked_outline(&key(name)).await.head.counters.appended
    }
}

fn is_forgotten<T>(answer: Result<T, StoreError>) -> bool {
    match answer {
        Ok(_) => false,
        Err(error) => {
            assert!(matches!(error.kind(), StoreErrorKind::WriterForgotten { .. }), "{error}");
            true
        }
    }
}

async fn forgotten_writer_is_refused(subject: Subject) {
    let old = subject.sessions("k", 3).await;
    let named = [WriterId::named("a log").write(9), writer(1).write(3)];
    for write in named {
        subject.append(&key("k"), write, &["x"]).await;
    }
    subject.clock.advance(2 * SESSION_RETENTION);
    subject.sessions("k", MANY).await;
    let between = subject.millis() + 1;
    subject.clock.advance(2 * SESSION_RETENTION);
    let last = subject.sessions("k", MANY).await;
    assert!(subject.again("k", last[0]).await.unwrap().is_duplicate());
    let count = subject.count("k").await;
    assert!(is_forgotten(subject.again("k", old[0]).await), "records are pruned");
    for write in old {
        // Refused, never accepted as new, whether its record was pruned or not.
        let _ = is_forgotten(subject.again("k", write).await);
        let next = WriteId { number: 2, ..write };
        if is_forgotten(subject.again("k", write).await) {
            assert!(is_forgotten(subject.again("k", next).await));
            let clear = Clear::new(next);
            assert!(is_forgotten(subject.store.clear(&key("k"), Access::OPEN, &clear).await));
        }
    }
    // A writer of that time that never wrote is also refused, because the store cannot distinguish it.
    let late = WriterId::session(subject.millis() - 3_600_000, 7).write(1);
    assert!(is_forgotten(subject.again("k", late).await));
    assert_eq!(subject.count("k").await, count);
    let young = WriterId::session(between, 7).write(1);
    assert!(!subject.again("k", young).await.unwrap().is_duplicate());
    assert!(subject.again("k", young).await.unwrap().is_duplicate());

    // A clear forgets old writers only, because a retry of a young writer may be in flight.
    subject.clock.advance(2 * SESSION_RETENTION);
    let newest = subject.sessions("k", KEPT_SESSIONS as u64).await;
    let write = WriterId::session(subject.millis(), 1 << 40).write(1);
    let clear = Clear::new(write);
    subject.store.clear(&key("k"), Access::OPEN, &clear).await.unwrap();
    assert!(is_forgotten(subject.again("k", last[0]).await));
    for known in newest.into_iter().chain(named).chain([WriterId::named("a log").write(2)]) {
        assert!(subject.again("k", known).await.unwrap().is_duplicate());
    }
    assert!(
        subject.store.clear(&key("k"), Access::OPEN, &clear).await.is_ok(),
        "a retry is recognized"
    );
    assert!(subject.texts(&key("k")).await.is_empty());
}

async fn young_writers_are_recognized(subject: Subject) {
    let writes = subject.sessions("k", KEPT_SESSIONS as u64 + 40).await;
    subject.clock.advance(SESSION_RETENTION / 2);
    subject.sessions("k", 1).await;
    for write in writes {
        assert!(subject.again("k", write).await.unwrap().is_duplicate());
    }
}

async fn newest_writers_are_recognized_at_any_age(subject: Subject) {
    let writes = subject.sessions("k", MANY).await;
    subject.clock.advance(100 * SESSION_RETENTION);
    subject.sessions("k", 1).await;
    let newest = writes.iter().rev().take(KEPT_SESSIONS - 1);
    for write in newest {
        assert!(subject.again("k", *write).await.unwrap().is_duplicate());
    }
}

async fn removed_memory_forgets_writers(subject: Subject) {
    let mut append = batch(WriterId::session(subject.millis(), 1).write(1), &["x"]);
    append.ttl = Some(2 * SESSION_RETENTION);
    subject.store.append(&key("k"), Access::OPEN, &append).await.unwrap();
    subject.clock.advance(2 * SESSION_RETENTION);
    // The memory with that write was removed, including its writer records.
    let again = subject.store.append(&key("k"), Access::OPEN, &append).await.unwrap();
    assert!(!again.outcome.is_duplicate());
}
