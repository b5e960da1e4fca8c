//! Consistency of the errors of all crates for one event.

use memory_core::store::{StoreErrorKind, StoreOperation};
use memory_lock::{LockError, LockErrorKind, LockOperation, WithLockError};

use super::*;
use crate::exclusive::ExclusiveError;

/// One event, as reported by each crate.
#[test]
fn retryability_is_the_same_in_all_crates() {
    let after = Duration::from_secs(1);
    let text = || "a reason".to_owned();
    let lock = |kind: &LockErrorKind| LockError::new(kind.clone(), LockOperation::Acquire);
    let waited = LockErrorKind::WaitTimeout { waited: after, holder_remaining: None };
    let silent = LockErrorKind::NoAnswer { after };
    let gone = StoreErrorKind::Unavailable(text());
    for (event, leases, store, retryable) in [
        ("held by another", waited, Some(StoreErrorKind::Locked { remaining: None }), true),
        ("silent", silent, Some(gone.clone()), true),
        ("not reachable", LockErrorKind::Unavailable, Some(gone.clone()), true),
        ("a busy file", LockErrorKind::Busy, Some(gone), true),
        ("read-only", LockErrorKind::Refused, Some(StoreErrorKind::ReadOnly(text())), false),
        ("full", LockErrorKind::Refused, Some(StoreErrorKind::Full(text())), false),
        ("damaged", LockErrorKind::Corrupt, Some(StoreErrorKind::Corrupt(text())), false),
        ("invalid", LockErrorKind::InvalidOptions, Some(StoreErrorKind::Invalid(text())), false),
        ("unknown", LockErrorKind::Backend, Some(StoreErrorKind::Other(text())), false),
        ("its own turn", LockErrorKind::OwnLease, None, false),
        ("shut down", LockErrorKind::ShutDown, None, false),
    ] {
        let open = OpenLeasesError { url: "sqlite://x.db".into(), reason: lock(&leases) };
        let mut answers = vec![
            ("LockError", lock(&leases).is_retryable()),
            ("WithLockError", WithLockError::<()>::Acquire(lock(&leases)).is_retryable()),
            ("MemoryError::OpenLeases", MemoryError::OpenLeases(Box::new(open)).is_retryable()),
        ];
        let locked = MemoryError::Lock(Box::new(lease_failure(lock(&leases))));
        answers.push(("MemoryError::Lock", locked.is_retryable()));
        let begin = ExclusiveError::<()>::Begin(Box::new(locked));
        answers.push(("ExclusiveError", begin.is_retryable()));
        let mut codes = vec![leases.code()];
        if let Some(store) = store {
            codes.push(store.code());
            answers.push((
                "StoreError",
                StoreError::new(StoreOperation::Append, store.clone()).is_retryable(),
            ));
            let error = MemoryError::Store(StoreError::new(StoreOperation::Append, store));
            answers.push(("MemoryError::Store", error.is_retryable()));
        }
        for (crate_error, answer) in answers {
            assert_eq!(answer, retryable, "{event}: {crate_error}");
        }
        for code in codes {
            assert!(code.may_be_retried() || !retryable, "{event}: {code}");
        }
    }
}

fn lease_failure(reason: LockError) -> LeaseError {
    let key = MemoryKey::new("p", "m", "k").unwrap();
    LeaseError { key, reason, applied: Applied::No, max_turn: None }
}

#[test]
fn lease_open_failure_is_not_a_url_error() {
    let source = std::io::Error::other("permission denied");
    let reason =
        LockError::new(LockErrorKind::Unavailable, LockOperation::Open).with_source(source);
    let failure = OpenLeasesError { url: "sqlite://x.db".into(), reason };
    let error = MemoryError::OpenLeases(Box::new(failure));
    assert!(error.to_string().starts_with("open the leases of sqlite://x.db: "), "{error}");
    assert!(error.chain().ends_with("permission denied"), "{}", error.chain());
    assert!(error.is_retryable() && error.applied() == Applied::No);
}

/// The codes that callers and dashboards rely on.
#[test]
fn codes_of_frequent_errors_are_stable() {
    let key = || MemoryKey::new("p", "m", "k").unwrap();
    let store = |kind| MemoryError::Store(StoreError::new(StoreOperation::Append, kind));
    let lock = |kind| {
        MemoryError::Lock(Box::new(lease_failure(LockError::new(kind, LockOperation::Acquire))))
    };
    let waited = Duration::from_secs(1);
    for (error, code) in [
        (store(StoreErrorKind::Conflict), "conflict"),
        (store(StoreErrorKind::Locked { remaining: None }), "conflict"),
        (store(StoreErrorKind::Full(String::new())), "quota_exceeded"),
        (store(StoreErrorKind::Unavailable(String::new())), "unavailable"),
        (store(StoreErrorKind::ReadOnly(String::new())), "unauthorized"),
        (store(StoreErrorKind::Corrupt(String::new())), "corrupt"),
        (store(StoreErrorKind::Other(String::new())), "internal"),
        (lock(LockErrorKind::WaitTimeout { waited, holder_remaining: None }), "timeout"),
        (lock(LockErrorKind::Unavailable), "unavailable"),
        (MemoryError::EmptyBatch { key: key() }, "invalid_operation"),
        (MemoryError::ReadOnly { operation: "append to", key: key() }, "unauthorized"),
        (MemoryError::UnknownResource { id: "a".into(), known: "b".into() }, "not_found"),
        (MemoryError::NoKey { resource: "a".into() }, "config_error"),
        (MemoryError::Key(MemoryKey::new("p", "m", "").unwrap_err()), "template_error"),
        (MemoryError::TimedOut { operation: "append to", key: key(), waited }, "timeout"),
    ] {
        assert_eq!(error.code().as_str(), code, "{error}");
    }
}
