//! The errors of SQLite, sorted by what a caller can do about them.

use memory_core::Applied;
use rusqlite::types::FromSqlError;
use rusqlite::{ErrorCode, ffi};

use crate::error::{LockError, LockErrorKind, LockOperation};

/// What an error of SQLite means to a caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SqliteFailure {
    /// Another connection held its lock for too long.
    Busy,
    /// The file cannot be opened, read or written.
    Unavailable,
    /// The file is read-only, or rights are missing.
    ReadOnly,
    /// The disk is full.
    Full,
    /// It is not a database, is damaged, or holds other tables than ours.
    Corrupt,
    /// The file, its log or the index of its log was removed, replaced or renamed while it was open.
    Replaced,
    /// Anything else.
    Other,
}

/// Says what an error of SQLite means. What is not known is [`SqliteFailure::Other`]: do not retry.
#[must_use]
pub fn classify(error: &rusqlite::Error) -> SqliteFailure {
    use rusqlite::Error;
    match error {
        Error::SqliteFailure(error, _) | Error::SqlInputError { error, .. } => match error.code {
            _ if error.extended_code == ffi::SQLITE_READONLY_DBMOVED => SqliteFailure::Replaced,
            ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => SqliteFailure::Busy,
            ErrorCode::CannotOpen | ErrorCode::SystemIoFailure => SqliteFailure::Unavailable,
            ErrorCode::ReadOnly | ErrorCode::PermissionDenied => SqliteFailure::ReadOnly,
            ErrorCode::DiskFull => SqliteFailure::Full,
            ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => SqliteFailure::Corrupt,
            _ => SqliteFailure::Other,
        },
        Error::FromSqlConversionFailure(..)
        | Error::IntegralValueOutOfRange(..)
        | Error::InvalidColumnType(..) => SqliteFailure::Corrupt,
        _ => SqliteFailure::Other,
    }
}

impl SqliteFailure {
    /// Whether the same call may succeed when it is made again.
    #[must_use]
    pub const fn is_retryable(self) -> bool {
        matches!(self, Self::Busy | Self::Unavailable)
    }

    /// Whether the statement may have taken effect. One that could not write was rolled back; one
    /// that met an I/O error may be in the log all the same.
    #[must_use]
    pub const fn applied(self) -> Applied {
        match self {
            Self::Busy | Self::ReadOnly | Self::Full => Applied::No,
            Self::Unavailable | Self::Corrupt | Self::Replaced | Self::Other => Applied::Unknown,
        }
    }
}

/// The error of a lease operation that failed with this error of SQLite.
pub(super) fn lock_error(error: rusqlite::Error, operation: LockOperation) -> LockError {
    let failure = classify(&error);
    let kind = match failure {
        SqliteFailure::Busy => LockErrorKind::Busy,
        SqliteFailure::Unavailable => LockErrorKind::Unavailable,
        SqliteFailure::ReadOnly | SqliteFailure::Full => LockErrorKind::Refused,
        SqliteFailure::Corrupt => LockErrorKind::Corrupt,
        SqliteFailure::Replaced => LockErrorKind::Replaced,
        SqliteFailure::Other => LockErrorKind::Backend,
    };
    let detail = match failure {
        SqliteFailure::Busy => "other connections kept the SQLite file locked; try again",
        SqliteFailure::Unavailable => "the SQLite file cannot be opened, read or written; check it",
        SqliteFailure::ReadOnly => "the SQLite file may not be written; check its permissions",
        SqliteFailure::Full => "the disk of the SQLite file is full; make room",
        SqliteFailure::Corrupt => "the SQLite file holds no lease table of ours; check its path",
        SqliteFailure::Replaced => {
            "the SQLite file, its -wal or its -shm was removed, replaced or renamed while it was \
             open; put all three in order, then open it again"
        }
        SqliteFailure::Other => "SQLite failed; see the source of this error",
    };
    let answer =
        LockError::new(kind, operation).retryable(failure.is_retryable()).with_detail(detail);
    let answer = match failure.applied() {
        Applied::No => answer.not_applied(),
        Applied::Unknown => answer,
    };
    answer.with_source(error)
}

/// The error for a file that its path no longer names; the code is SQLite's own for this case.
pub(super) fn replaced(text: &str) -> rusqlite::Error {
    let code = ffi::Error::new(ffi::SQLITE_READONLY_DBMOVED);
    rusqlite::Error::SqliteFailure(code, Some(text.to_owned()))
}

/// The error for a path that cannot be opened or looked at.
pub(super) fn cannot_open(text: String) -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_CANTOPEN), Some(text))
}

/// The error for a value in the table that this crate did not write.
pub(super) fn out_of_range(column: usize) -> rusqlite::Error {
    let error = Box::new(FromSqlError::InvalidType);
    rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Integer, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRIVER_ERRORS: &str = include_str!("driver_errors.txt");

    /// The table of what errors of SQLite become, with the lines of one user replaced.
    fn table_with(user: &str, describe: impl Fn(rusqlite::Error) -> String) -> String {
        let mut table = String::new();
        let mut error = "";
        for line in DRIVER_ERRORS.lines() {
            if line.starts_with(&format!("  {user}: ")) {
                table += &format!("  {user}: {}\n", describe(driver_error(error)));
            } else {
                if !line.starts_with(' ') {
                    error = line;
                }
                table += line;
                table.push('\n');
            }
        }
        table
    }

    fn driver_error(name: &str) -> rusqlite::Error {
        let code = match name {
            "BUSY" => ffi::SQLITE_BUSY,
            "BUSY_SNAPSHOT" => ffi::SQLITE_BUSY_SNAPSHOT,
            "BUSY_RECOVERY" => ffi::SQLITE_BUSY_RECOVERY,
            "LOCKED" => ffi::SQLITE_LOCKED,
            "CANTOPEN" => ffi::SQLITE_CANTOPEN,
            "IOERR" => ffi::SQLITE_IOERR,
            "IOERR_WRITE" => ffi::SQLITE_IOERR_WRITE,
            "IOERR_FSYNC" => ffi::SQLITE_IOERR_FSYNC,
            "READONLY" => ffi::SQLITE_READONLY,
            "READONLY_DBMOVED" => ffi::SQLITE_READONLY_DBMOVED,
            "PERM" => ffi::SQLITE_PERM,
            "FULL" => ffi::SQLITE_FULL,
            "CORRUPT" => ffi::SQLITE_CORRUPT,
            "NOTADB" => ffi::SQLITE_NOTADB,
            "TOOBIG" => ffi::SQLITE_TOOBIG,
            "NOMEM" => ffi::SQLITE_NOMEM,
            "CONSTRAINT" => ffi::SQLITE_CONSTRAINT,
            "MISUSE" => ffi::SQLITE_MISUSE,
            "SCHEMA" => ffi::SQLITE_SCHEMA,
            "no rows" => return rusqlite::Error::QueryReturnedNoRows,
            "column type" => {
                let kind = rusqlite::types::Type::Null;
                return rusqlite::Error::InvalidColumnType(1, "owner".into(), kind);
            }
            "column range" => return rusqlite::Error::IntegralValueOutOfRange(1, -1),
            _ => panic!("{name} is no error of SQLite"),
        };
        rusqlite::Error::SqliteFailure(ffi::Error::new(code), None)
    }

    #[test]
    fn driver_errors_become_lock_errors() {
        let table = table_with("lock", |error| {
            let error = lock_error(error, LockOperation::Acquire);
            let applied = match error.applied() {
                Applied::No => "not applied",
                Applied::Unknown => "applied unknown",
            };
            let retryable = if error.is_retryable() { "retryable" } else { "final" };
            format!("{:?}, {applied}, {retryable}: {error}", error.kind())
        });
        assert!(table == DRIVER_ERRORS, "{table}");
    }

    #[test]
    fn each_code_means_what_the_table_says() {
        for (code, expected) in [
            (ffi::SQLITE_BUSY, SqliteFailure::Busy),
            (ffi::SQLITE_BUSY_SNAPSHOT, SqliteFailure::Busy),
            (ffi::SQLITE_LOCKED, SqliteFailure::Busy),
            (ffi::SQLITE_CANTOPEN, SqliteFailure::Unavailable),
            (ffi::SQLITE_IOERR, SqliteFailure::Unavailable),
            (ffi::SQLITE_READONLY, SqliteFailure::ReadOnly),
            (ffi::SQLITE_READONLY_DBMOVED, SqliteFailure::Replaced),
            (ffi::SQLITE_PERM, SqliteFailure::ReadOnly),
            (ffi::SQLITE_FULL, SqliteFailure::Full),
            (ffi::SQLITE_CORRUPT, SqliteFailure::Corrupt),
            (ffi::SQLITE_NOTADB, SqliteFailure::Corrupt),
            (ffi::SQLITE_CONSTRAINT, SqliteFailure::Other),
            (ffi::SQLITE_MISUSE, SqliteFailure::Other),
        ] {
            let error = rusqlite::Error::SqliteFailure(ffi::Error::new(code), None);
            assert_eq!(classify(&error), expected, "code {code}");
        }
        assert_eq!(classify(&rusqlite::Error::QueryReturnedNoRows), SqliteFailure::Other);
        assert_eq!(classify(&out_of_range(0)), SqliteFailure::Corrupt);
    }

    #[test]
    fn what_an_error_means_decides_whether_it_is_tried_again_and_may_be_applied() {
        use Applied::{No, Unknown};
        for (code, kind, retryable, applied, mend) in [
            (ffi::SQLITE_BUSY, LockErrorKind::Busy, true, No, "try again"),
            (ffi::SQLITE_CANTOPEN, LockErrorKind::Unavailable, true, Unknown, "check it"),
            (ffi::SQLITE_READONLY, LockErrorKind::Refused, false, No, "permissions"),
            (ffi::SQLITE_FULL, LockErrorKind::Refused, false, No, "make room"),
            (
                ffi::SQLITE_READONLY_DBMOVED,
                LockErrorKind::Replaced,
                false,
                Unknown,
                "open it again",
            ),
            (ffi::SQLITE_NOTADB, LockErrorKind::Corrupt, false, Unknown, "check its path"),
            (ffi::SQLITE_MISUSE, LockErrorKind::Backend, false, Unknown, "see the source"),
        ] {
            let error = rusqlite::Error::SqliteFailure(ffi::Error::new(code), None);
            let error = lock_error(error, LockOperation::Acquire);
            assert_eq!(error.kind(), &kind);
            assert_eq!((error.is_retryable(), error.applied()), (retryable, applied), "{kind:?}");
            assert_eq!(error.operation(), LockOperation::Acquire);
            assert!(error.to_string().contains(mend), "{error}");
            assert!(std::error::Error::source(&error).is_some());
        }
    }

    #[test]
    fn a_value_that_is_not_ours_is_corrupt_in_each_of_its_forms() {
        use rusqlite::types::Type;
        for error in [
            rusqlite::Error::IntegralValueOutOfRange(1, -1),
            rusqlite::Error::InvalidColumnType(1, "owner".into(), Type::Null),
        ] {
            assert_eq!(classify(&error), SqliteFailure::Corrupt, "{error}");
        }
    }
}
