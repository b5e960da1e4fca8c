//! What the errors of the link mean to a caller of the store.

use memory_core::{MemoryKey, StoreError, StoreErrorKind};
use memory_lock::Applied;
use memory_lock::redis::{RedisFailure, RedisFault};

use crate::codec::FORM;

/// The store's error for this fault.
pub(crate) fn store_error(
    operation: &'static str,
    key: Option<&MemoryKey>,
    fault: RedisFault,
) -> StoreError {
    let detail = fault.detail().to_owned();
    let kind = match fault.failure() {
        RedisFailure::Unreachable
        | RedisFailure::Broken
        | RedisFailure::NoAnswer(_)
        | RedisFailure::Busy
        | RedisFailure::NotConfirmed { .. } => StoreErrorKind::Unavailable(detail),
        RedisFailure::Authentication | RedisFailure::NotPermitted => {
            StoreErrorKind::Authentication(detail)
        }
        RedisFailure::ReadOnly | RedisFailure::Refused => StoreErrorKind::ReadOnly(detail),
        RedisFailure::Full => StoreErrorKind::Full(detail),
        RedisFailure::Corrupt => StoreErrorKind::Corrupt(detail),
        RedisFailure::Newer { found } => {
            let place = key.map_or_else(String::new, ToString::to_string);
            StoreErrorKind::Newer { place, found: *found, known: FORM }
        }
        RedisFailure::Config => StoreErrorKind::Invalid(detail),
        _ => StoreErrorKind::Other(detail),
    };
    let mut error = StoreError::new(operation, kind);
    if let Some(key) = key {
        error = error.at(key);
    }
    if fault.applied() == Applied::Unknown {
        error = error.possibly_applied();
    }
    match fault.into_source() {
        Some(source) => error.caused_by(source),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn driver_errors_become_store_errors() {
        let key = MemoryKey::new("p", "m", "k").unwrap();
        memory_redis_testkit::assert_driver_errors("store", |error| {
            let error = store_error("append to", Some(&key), RedisFault::from(error));
            let kind = format!("{:?}", error.kind());
            let kind = kind.split(['(', ' ']).next().unwrap_or_default();
            let applied = match error.applied() {
                memory_core::Applied::No => "not applied",
                memory_core::Applied::Unknown => "applied unknown",
            };
            let retryable = if error.is_retryable() { "retryable" } else { "final" };
            format!("{kind}, {applied}, {retryable}: {error}")
        });
    }
}
