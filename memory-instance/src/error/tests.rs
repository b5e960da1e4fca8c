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
        if let Some(store) = store {
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
