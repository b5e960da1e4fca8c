//! Maps the errors of the link to the errors of the store.

use memory_core::MemoryKey;
use memory_core::store::{Applied, StoreError, StoreErrorKind, StoreOperation};
use memory_redis_link::{LinkError, LinkErrorKind};

use crate::codec::{FORM, UNFINISHED};

/// The store error for this link error.
pub(crate) fn store_error(
    operation: StoreOperation,
    key: Option<&MemoryKey>,
    error: LinkError,
) -> StoreError {
    let detail = error.detail().to_owned();
    let kind = match error.kind() {
        LinkErrorKind::Unreachable
        | LinkErrorKind::Broken
        | LinkErrorKind::NoAnswer(_)
        | LinkErrorKind::Busy
        | LinkErrorKind::NotConfirmed { .. } => StoreErrorKind::Unavailable(detail),
        LinkErrorKind::Authentication | LinkErrorKind::NotPermitted => {
            StoreErrorKind::Authentication(detail)
        }
        LinkErrorKind::ReadOnly | LinkErrorKind::Refused => StoreErrorKind::ReadOnly(detail),
        LinkErrorKind::Full => StoreErrorKind::Full(detail),
        LinkErrorKind::Corrupt => StoreErrorKind::Corrupt(detail),
        LinkErrorKind::Newer { found: UNFINISHED } => StoreErrorKind::Unfinished,
        LinkErrorKind::Newer { found } => {
            let place = key.map_or_else(String::new, ToString::to_string);
            StoreErrorKind::Newer { place, found: *found, known: FORM }
        }
        LinkErrorKind::Config => StoreErrorKind::Invalid(detail),
        _ => StoreErrorKind::Other(detail),
    };
    let mut answer = StoreError::new(operation, kind);
    if let Some(key) = key {
        answer = answer.at(key);
    }
    if error.applied() == Applied::No {
        answer = answer.not_applied();
    }
    match error.into_source() {
        Some(source) => answer.caused_by(source),
        None => answer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn driver_errors_become_store_errors() {
        let key = MemoryKey::new("p", "m", "k").unwrap();
        memory_redis_testkit::assert_driver_errors("store", |error| {
            let error = store_error(StoreOperation::Append, Some(&key), LinkError::from(error));
            let kind = format!("{:?}", error.kind());
            let kind = kind.split(['(', ' ']).next().unwrap_or_default();
            let applied = match error.applied() {
                Applied::No => "not applied",
                Applied::Unknown => "applied unknown",
            };
            let retryable = if error.is_retryable() { "retryable" } else { "final" };
            format!("{kind}, {applied}, {retryable}: {error}")
        });
    }
}
