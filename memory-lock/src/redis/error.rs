//! The errors of the link as errors of a lock.

use memory_core::store::Applied;
use memory_redis_link::{LinkError, LinkErrorKind};

use crate::error::{LockError, LockErrorKind, LockOperation};

/// The error of an operation on leases that failed with this error of the link.
pub(crate) fn lock_error(error: LinkError, operation: LockOperation) -> LockError {
    let kind = match error.kind() {
        LinkErrorKind::Unreachable | LinkErrorKind::Broken | LinkErrorKind::NotConfirmed { .. } => {
            LockErrorKind::Unavailable
        }
        LinkErrorKind::NoAnswer(after) => LockErrorKind::NoAnswer { after: *after },
        LinkErrorKind::Busy => LockErrorKind::Busy,
        LinkErrorKind::Authentication | LinkErrorKind::NotPermitted => {
            LockErrorKind::Authentication
        }
        LinkErrorKind::Refused | LinkErrorKind::ReadOnly | LinkErrorKind::Full => {
            LockErrorKind::Refused
        }
        LinkErrorKind::Corrupt | LinkErrorKind::Newer { .. } => LockErrorKind::Corrupt,
        LinkErrorKind::Config => LockErrorKind::InvalidOptions,
        _ => LockErrorKind::Backend,
    };
    let answer = LockError::new(kind, operation).with_detail(error.detail());
    let answer = if error.is_retryable() { answer.retryable() } else { answer.not_retryable() };
    let answer = match error.applied() {
        Applied::No => answer.not_applied(),
        Applied::Unknown => answer,
    };
    match error.into_source() {
        Some(source) => answer.with_source(source),
        None => answer,
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    #[test]
    fn driver_errors_become_lock_errors() {
        memory_redis_testkit::assert_driver_errors("lock", |error| {
            let error = lock_error(error.into(), LockOperation::Acquire);
            let applied = match error.applied() {
                Applied::No => "not applied",
                Applied::Unknown => "applied unknown",
            };
            let retryable = if error.is_retryable() { "retryable" } else { "final" };
            format!("{:?}, {applied}, {retryable}: {error}", error.kind())
        });
    }

    #[test]
    fn source_and_operation_are_kept() {
        let broken = redis::RedisError::from(std::io::Error::from(std::io::ErrorKind::BrokenPipe));
        let error = lock_error(broken.into(), LockOperation::Release);
        assert_eq!(error.operation(), LockOperation::Release);
        assert!(error.source().unwrap().is::<redis::RedisError>());
        let error = lock_error(LinkError::odd_answer(), LockOperation::Release);
        assert!(error.source().is_none());
    }

    #[test]
    fn long_texts_are_cut() {
        let line = format!("-ERR x: CORRUPT {}\r\n", "語".repeat(1 << 20));
        let driver =
            redis::parse_redis_value(line.as_bytes()).unwrap().extract_error().unwrap_err();
        let error = lock_error(driver.into(), LockOperation::Acquire);
        assert!(error.to_string().len() < 4 << 10);
        assert!(error.source().unwrap().to_string().len() < 4 << 10);
    }
}
