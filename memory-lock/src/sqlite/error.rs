//! The errors of the file as errors of a lock.

use memory_core::store::Applied;
use memory_sqlite_file::{SqliteError, SqliteErrorKind};

use crate::error::{LockError, LockErrorKind, LockOperation};

/// The error of an operation on leases that failed with this error of the file.
pub(super) fn lock_error(error: impl Into<SqliteError>, operation: LockOperation) -> LockError {
    let error = error.into();
    let kind = match error.kind() {
        SqliteErrorKind::Busy => LockErrorKind::Busy,
        SqliteErrorKind::Unavailable => LockErrorKind::Unavailable,
        SqliteErrorKind::ReadOnly | SqliteErrorKind::Full | SqliteErrorKind::Refused => {
            LockErrorKind::Refused
        }
        SqliteErrorKind::Corrupt => LockErrorKind::Corrupt,
        SqliteErrorKind::Replaced => LockErrorKind::Replaced,
        _ => LockErrorKind::Backend,
    };
    let answer = LockError::new(kind, operation).with_detail(error.detail());
    let answer = if error.is_retryable() { answer.retryable() } else { answer.not_retryable() };
    let answer = match error.applied() {
        Applied::No => answer.not_applied(),
        Applied::Unknown => answer,
    };
    let Some(source) = error.into_source() else { return answer };
    match source.downcast::<rusqlite::Error>() {
        Ok(error) => answer.with_source(*error),
        Err(other) => match other.downcast::<std::io::Error>() {
            Ok(error) => answer.with_source(*error),
            Err(_) => answer,
        },
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::ffi;

    use super::*;

    const DRIVER_ERRORS: &str = include_str!("../../sqlite-file/src/driver_errors.txt");

    /// The table of lock errors by SQLite error, with the lines of one user replaced.
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
}
