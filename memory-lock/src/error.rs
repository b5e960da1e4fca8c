//! The error of all operations on leases.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use memory_core::ErrorCode;
use memory_core::lease::OwnerId;
use memory_core::sibling::{cut_error_source, cut_error_text};
use memory_core::store::Applied;

use crate::key::LockKey;

/// The reason why a lease operation failed: a kind that a caller can act on, the operation, the key,
/// whether the operation may have been applied, and the driver's error as [`source`](StdError::source).
///
/// A lease that another owner holds is not an error of the backend: [`LockManager::try_lock`] returns
/// `None`, and [`LockManager::lock`] returns [`LockErrorKind::WaitTimeout`].
///
/// [`LockManager::try_lock`]: crate::LockManager::try_lock
/// [`LockManager::lock`]: crate::LockManager::lock
#[derive(Debug, Clone)]
pub struct LockError {
    // Boxed, so that a `Result` stays small on the path without errors.
    context: Box<Context>,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

#[derive(Debug, Clone)]
struct Context {
    kind: LockErrorKind,
    operation: LockOperation,
    key: Option<LockKey>,
    applied: Applied,
    retryable: bool,
    detail: Option<String>,
    holder: Option<OwnerId>,
}

/// The kind of a [`LockError`], by the action that a caller can take.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum LockErrorKind {
    /// The key is empty or longer than [`LockKey::MAX_BYTES`].
    InvalidKey,
    /// An option cannot be used; the text names the field and the remedy.
    InvalidOptions,
    /// Other owners held the lease for as long as the caller was willing to wait.
    WaitTimeout {
        /// The time that the caller waited.
        waited: Duration,
        /// The time for which the holder's lease still lasts unless it is refreshed, if known.
        holder_remaining: Option<Duration>,
    },
    /// The backend gave no answer in time.
    NoAnswer {
        /// The time that the caller waited for the answer.
        after: Duration,
    },
    /// The backend was busy with others for longer than its operation timeout.
    Busy,
    /// The backend cannot be reached, or its file cannot be opened or read.
    Unavailable,
    /// The backend does not accept the user or the password, or the user lacks permissions.
    Authentication,
    /// The backend refuses because of its configuration or state: read-only, full.
    Refused,
    /// The backend holds data that this crate did not write.
    Corrupt,
    /// The caller runs in an operation under this very lease, and would wait for itself.
    OwnLease,
    /// The backend's file was removed, replaced or renamed while it was open. Its leases no longer count;
    /// open the backend again.
    Replaced,
    /// [`LockManager::shutdown`](crate::LockManager::shutdown) was called.
    ShutDown,
    /// The call needs a tokio runtime with its time driver, and there is none.
    NoRuntime,
    /// Anything else; see [`source`](StdError::source).
    Backend,
}

impl LockErrorKind {
    /// Its stable code.
    #[must_use]
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::InvalidKey => ErrorCode::TemplateError,
            Self::InvalidOptions | Self::NoRuntime => ErrorCode::ConfigError,
            Self::WaitTimeout { .. } | Self::NoAnswer { .. } => ErrorCode::Timeout,
            Self::Busy | Self::Unavailable | Self::Refused | Self::Replaced | Self::ShutDown => {
                ErrorCode::Unavailable
            }
            Self::Authentication => ErrorCode::Unauthorized,
            Self::Corrupt => ErrorCode::Corrupt,
            Self::OwnLease => ErrorCode::InvalidOperation,
            Self::Backend => ErrorCode::Internal,
        }
    }
}

/// The operation in which a [`LockError`] occurred.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LockOperation {
    /// Checking a key or options.
    Configure,
    /// Opening a backend.
    Open,
    /// Acquiring a lease.
    Acquire,
    /// Renewing leases.
    Renew,
    /// Releasing a lease.
    Release,
    /// Passing a lease to the next waiter.
    HandOver,
    /// Looking up the holder of a lease.
    Inspect,
}

impl LockError {
    /// An error of this kind, with an unknown effect, not retryable unless the kind is
    /// [`WaitTimeout`](LockErrorKind::WaitTimeout), [`NoAnswer`](LockErrorKind::NoAnswer), [`Busy`](LockErrorKind::Busy) or
    /// [`Unavailable`](LockErrorKind::Unavailable). Backends build on it with the methods below.
    #[must_use]
    pub fn new(kind: LockErrorKind, operation: LockOperation) -> Self {
        let retryable = matches!(
            kind,
            LockErrorKind::WaitTimeout { .. }
                | LockErrorKind::NoAnswer { .. }
                | LockErrorKind::Busy
                | LockErrorKind::Unavailable
        );
        let applied = Applied::Unknown;
        let context =
            Context { kind, operation, key: None, applied, retryable, detail: None, holder: None };
        Self { context: Box::new(context), source: None }
    }

    /// Sets the key that the operation concerned.
    #[must_use]
    pub fn with_key(mut self, key: &LockKey) -> Self {
        self.context.key = Some(key.clone());
        self
    }

    /// Sets that the operation had no effect.
    #[must_use]
    pub fn not_applied(mut self) -> Self {
        self.context.applied = Applied::No;
        self
    }

    /// Sets that the same call may succeed when it is sent again, whatever the kind.
    #[must_use]
    pub fn retryable(mut self) -> Self {
        self.context.retryable = true;
        self
    }

    /// Sets that the same call fails again, whatever the kind.
    #[must_use]
    pub fn not_retryable(mut self) -> Self {
        self.context.retryable = false;
        self
    }

    /// Replaces the text that explains the kind: the problem and its remedy, lower case. A text over
    /// [`MAX_ERROR_TEXT`](memory_core::limits::MAX_ERROR_TEXT) is cut.
    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.context.detail = Some(cut_error_text(detail));
        self
    }

    /// The problem and its remedy, if the backend knew more than the kind expresses.
    #[must_use]
    pub fn detail(&self) -> Option<&str> {
        self.context.detail.as_deref()
    }

    /// Keeps the driver's error as [`source`](StdError::source); its text is not repeated here.
    #[must_use]
    pub fn with_source(mut self, source: impl StdError + Send + Sync + 'static) -> Self {
        self.source = Some(Arc::from(cut_error_source(source)));
        self
    }

    /// Sets the owner that held the lease.
    #[must_use]
    pub fn with_holder(mut self, holder: OwnerId) -> Self {
        self.context.holder = Some(holder);
        self
    }

    /// Sets the total waiting time of the caller, if it had waited before it asked for the lease.
    #[must_use]
    pub fn with_waited(mut self, time: Duration) -> Self {
        if let LockErrorKind::WaitTimeout { waited, .. } = &mut self.context.kind {
            *waited = time;
        }
        self
    }

    /// The same error for another operation, which included this one.
    pub(crate) fn during(mut self, operation: LockOperation) -> Self {
        self.context.operation = operation;
        self
    }

    /// Keeps another error of a lease operation as the source.
    pub(crate) fn caused_by(self, error: &Self) -> Self {
        self.with_source(error.clone())
    }

    /// The kind of the error.
    #[must_use]
    pub fn kind(&self) -> &LockErrorKind {
        &self.context.kind
    }

    /// The operation that failed.
    #[must_use]
    pub fn operation(&self) -> LockOperation {
        self.context.operation
    }

    /// The key of the operation, if it concerned one key.
    #[must_use]
    pub fn key(&self) -> Option<&LockKey> {
        self.context.key.as_ref()
    }

    /// The owner that held the lease when this caller gave up waiting for it, if known.
    #[must_use]
    pub fn holder(&self) -> Option<OwnerId> {
        self.context.holder
    }

    /// Whether the operation may have been applied nevertheless.
    #[must_use]
    pub fn applied(&self) -> Applied {
        self.context.applied
    }

    /// Returns whether the same call may succeed when it is sent again unchanged.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.context.retryable
    }
}

impl fmt::Display for LockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.context.fmt(f)
    }
}

impl StdError for LockError {
    /// The driver's error itself, which can be downcast, not the `Arc` that shares it.
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

impl fmt::Display for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (&self.kind, self.operation) {
            (LockErrorKind::InvalidKey, _) => "this cannot be a lock key",
            (LockErrorKind::InvalidOptions, _) => "these lock options cannot be used",
            (_, LockOperation::Configure) => "cannot use these settings",
            (_, LockOperation::Open) => "cannot open the lease backend",
            (_, LockOperation::Acquire) => "cannot acquire the lease",
            (_, LockOperation::Renew) => "cannot renew leases",
            (_, LockOperation::Release) => "cannot release the lease",
            (_, LockOperation::HandOver) => "cannot hand over the lease",
            (_, LockOperation::Inspect) => "cannot inspect the lease",
        })?;
        if let Some(key) = &self.key {
            write!(f, " of `{key}`")?;
        }
        f.write_str(": ")?;
        match (&self.detail, &self.kind, self.holder) {
            (Some(detail), ..) => f.write_str(detail),
            (None, LockErrorKind::WaitTimeout { waited, holder_remaining }, Some(holder)) => {
                write_wait(f, *waited, &format_args!("the holder {holder}"), *holder_remaining)
            }
            (None, kind, _) => kind.fmt(f),
        }
    }
}

impl fmt::Display for LockErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::WaitTimeout { waited, holder_remaining } => {
                return write_wait(f, *waited, &"another holder", *holder_remaining);
            }
            Self::NoAnswer { after } => {
                write!(f, "the backend gave no answer within {after:.1?}")?;
                "; check that it is reachable, then try again"
            }
            Self::InvalidKey => "use 1 to 1,024 bytes",
            Self::InvalidOptions => "see the documentation of the options",
            Self::Busy => "the backend was busy for too long; try again",
            Self::Unavailable => "the backend cannot be reached; check that it runs, try again",
            Self::Authentication => {
                "the backend does not accept the user or password; check them, and the user's rights"
            }
            Self::Refused => "the backend refuses by its configuration; check rights and space",
            Self::Corrupt => "the backend holds data that is not ours; check where it points",
            Self::OwnLease => {
                "the caller runs under this lease and would wait for itself; use the scope that its \
                 operation received (for a memory, the session)"
            }
            Self::Replaced => "the backend's file was replaced while it was open; open it again",
            Self::ShutDown => "the lock manager was shut down; make a new one",
            Self::NoRuntime => "there is no tokio runtime with time enabled; call it from one",
            Self::Backend => "the backend failed; see the source of this error",
        };
        f.write_str(text)
    }
}

fn write_wait(
    f: &mut fmt::Formatter<'_>,
    waited: Duration,
    holder: &dyn fmt::Display,
    remaining: Option<Duration>,
) -> fmt::Result {
    write!(f, "gave up after waiting {waited:.1?} for {holder}")?;
    if let Some(remaining) = remaining {
        write!(f, " whose lease lasts {remaining:.1?} more unless it is refreshed")?;
    }
    f.write_str("; raise `wait_timeout`, or ask `inspect` who holds it")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_names_operation_key_and_remedy() {
        let key = LockKey::new("a/b").unwrap();
        let kind = LockErrorKind::WaitTimeout {
            waited: Duration::from_secs(10),
            holder_remaining: Some(Duration::from_millis(12_300)),
        };
        let error = LockError::new(kind, LockOperation::Acquire).with_key(&key).not_applied();
        assert_eq!(
            error.to_string(),
            "cannot acquire the lease of `a/b`: gave up after waiting 10.0s for another holder \
             whose lease lasts 12.3s more unless it is refreshed; raise `wait_timeout`, or ask \
             `inspect` who holds it"
        );
        assert_eq!((error.applied(), error.holder()), (Applied::No, None));

        let error = error.with_holder(OwnerId::new(7)).with_waited(Duration::from_secs(12));
        assert_eq!(error.holder(), Some(OwnerId::new(7)));
        let text = format!("waiting 12.0s for the holder {} whose lease lasts", OwnerId::new(7));
        assert!(error.to_string().contains(&text), "{error}");
    }

    #[test]
    fn source_text_is_not_repeated() {
        let source = std::io::Error::other("disk on fire");
        let error =
            LockError::new(LockErrorKind::Backend, LockOperation::Renew).with_source(source);
        assert!(!error.to_string().contains("fire"));
        let source = error.source().and_then(|source| source.downcast_ref::<std::io::Error>());
        assert!(source.is_some_and(|source| source.to_string().contains("fire")));
        assert!(!error.is_retryable());
    }

    #[test]
    fn transient_kinds_are_retryable_unless_overridden() {
        let after = Duration::from_secs(1);
        for (kind, retryable) in [
            (LockErrorKind::InvalidKey, false),
            (LockErrorKind::InvalidOptions, false),
            (LockErrorKind::WaitTimeout { waited: after, holder_remaining: None }, true),
            (LockErrorKind::OwnLease, false),
            (LockErrorKind::NoAnswer { after }, true),
            (LockErrorKind::Busy, true),
            (LockErrorKind::Unavailable, true),
            (LockErrorKind::Refused, false),
            (LockErrorKind::Corrupt, false),
            (LockErrorKind::Replaced, false),
            (LockErrorKind::ShutDown, false),
            (LockErrorKind::NoRuntime, false),
            (LockErrorKind::Backend, false),
        ] {
            let error = LockError::new(kind.clone(), LockOperation::Renew);
            assert_eq!(error.kind(), &kind);
            assert_eq!(error.is_retryable(), retryable, "{kind:?}");
            assert_eq!(error.applied(), Applied::Unknown, "{kind:?}");
            assert!(error.clone().retryable().is_retryable(), "{kind:?}");
            assert!(!error.not_retryable().is_retryable(), "{kind:?}");
        }
    }

    #[test]
    fn error_reports_operation_and_key() {
        let key = LockKey::new("a/b").unwrap();
        for (operation, text) in [
            (LockOperation::Configure, "cannot use these settings"),
            (LockOperation::Open, "cannot open the lease backend"),
            (LockOperation::Acquire, "cannot acquire the lease"),
            (LockOperation::Renew, "cannot renew leases"),
            (LockOperation::Release, "cannot release the lease"),
            (LockOperation::HandOver, "cannot hand over the lease"),
            (LockOperation::Inspect, "cannot inspect the lease"),
        ] {
            let error = LockError::new(LockErrorKind::Busy, operation).with_detail("wait");
            assert_eq!(error.to_string(), format!("{text}: wait"));
            assert_eq!((error.operation(), error.key()), (operation, None));
            let error = error.with_key(&key);
            assert_eq!(error.to_string(), format!("{text} of `a/b`: wait"));
            assert_eq!(error.key(), Some(&key));
        }
    }

    #[test]
    fn each_kind_names_a_remedy() {
        let after = Duration::from_millis(1_500);
        for (kind, text) in [
            (LockErrorKind::InvalidKey, "this cannot be a lock key: use 1 to 1,024 bytes"),
            (
                LockErrorKind::InvalidOptions,
                "these lock options cannot be used: see the documentation of the options",
            ),
            (
                LockErrorKind::WaitTimeout { waited: after, holder_remaining: None },
                "cannot renew leases: gave up after waiting 1.5s for another holder; raise \
                 `wait_timeout`, or ask `inspect` who holds it",
            ),
            (
                LockErrorKind::NoAnswer { after },
                "cannot renew leases: the backend gave no answer within 1.5s; check that it is \
                 reachable, then try again",
            ),
            (
                LockErrorKind::Busy,
                "cannot renew leases: the backend was busy for too long; try again",
            ),
            (
                LockErrorKind::Unavailable,
                "cannot renew leases: the backend cannot be reached; check that it runs, try again",
            ),
            (
                LockErrorKind::Refused,
                "cannot renew leases: the backend refuses by its configuration; check rights and \
                 space",
            ),
            (
                LockErrorKind::Corrupt,
                "cannot renew leases: the backend holds data that is not ours; check where it points",
            ),
            (
                LockErrorKind::OwnLease,
                "cannot renew leases: the caller runs under this lease and would wait for itself; use \
                 the scope that its operation received (for a memory, the session)",
            ),
            (
                LockErrorKind::Replaced,
                "cannot renew leases: the backend's file was replaced while it was open; open it again",
            ),
            (
                LockErrorKind::ShutDown,
                "cannot renew leases: the lock manager was shut down; make a new one",
            ),
            (
                LockErrorKind::NoRuntime,
                "cannot renew leases: there is no tokio runtime with time enabled; call it from one",
            ),
            (
                LockErrorKind::Backend,
                "cannot renew leases: the backend failed; see the source of this error",
            ),
        ] {
            assert_eq!(LockError::new(kind, LockOperation::Renew).to_string(), text);
        }
    }
}
