//! The errors of SQLite and of its files, by the action that a caller can take.

use std::error::Error;
use std::fmt;

use memory_core::sibling::cut_error_text;
use memory_core::store::Applied;
use rusqlite::types::FromSqlError;
use rusqlite::{ErrorCode, ffi};

/// The kind of a [`SqliteError`], by the action that a caller can take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SqliteErrorKind {
    /// Another connection held its lock for too long.
    Busy,
    /// The file cannot be opened, read or written.
    Unavailable,
    /// The file is read-only, or permissions are missing.
    ReadOnly,
    /// The disk is full.
    Full,
    /// It is not a database, is damaged, or belongs to another program.
    Corrupt,
    /// The file, its log or the index of its log was removed, replaced or renamed while it was open.
    Replaced,
    /// The file, the path or the library is not suitable.
    Refused,
    /// Anything else.
    Other,
}

/// Each code of SQLite that has a separate kind. Any other is [`SqliteErrorKind::Other`]: do not retry.
const BY_CODE: [(ErrorCode, SqliteErrorKind); 9] = [
    (ErrorCode::DatabaseBusy, SqliteErrorKind::Busy),
    (ErrorCode::DatabaseLocked, SqliteErrorKind::Busy),
    (ErrorCode::CannotOpen, SqliteErrorKind::Unavailable),
    (ErrorCode::SystemIoFailure, SqliteErrorKind::Unavailable),
    (ErrorCode::ReadOnly, SqliteErrorKind::ReadOnly),
    (ErrorCode::PermissionDenied, SqliteErrorKind::ReadOnly),
    (ErrorCode::DiskFull, SqliteErrorKind::Full),
    (ErrorCode::DatabaseCorrupt, SqliteErrorKind::Corrupt),
    (ErrorCode::NotADatabase, SqliteErrorKind::Corrupt),
];

const REPLACED: &str = "the SQLite file, its -wal or its -shm was removed, replaced or renamed while it was \
                        open; put all three in order, then open it again";

impl SqliteErrorKind {
    /// Whether the failed statement may have been applied, whether the same call may succeed when it is made
    /// again, and the text. A statement that could not write was rolled back; one that met an I/O error may be
    /// in the log. After an error that has no separate kind, anything may have happened.
    #[rustfmt::skip] // a row for each kind
    const fn row(self) -> (Applied, bool, &'static str) {
        match self {
            Self::Busy => (Applied::No, true, "other connections kept the SQLite file locked; try again"),
            Self::Unavailable => (Applied::Unknown, true, "the SQLite file cannot be opened, read or written; check it"),
            Self::ReadOnly => (Applied::No, false, "the SQLite file may not be written; check its permissions"),
            Self::Full => (Applied::No, false, "the disk of the SQLite file is full; make room"),
            Self::Corrupt => (Applied::Unknown, false, "the SQLite file holds no lease table of ours; check its path"),
            Self::Replaced => (Applied::Unknown, false, REPLACED),
            Self::Refused => (Applied::No, false, "the SQLite file cannot be used; choose another"),
            Self::Other => (Applied::Unknown, false, "SQLite failed; see the source of this error"),
        }
    }

    /// Returns whether the same call may succeed when it is made again.
    #[must_use]
    pub fn is_retryable(self) -> bool {
        self.row().1
    }

    /// Returns whether the statement may have been applied.
    #[must_use]
    pub fn applied(self) -> Applied {
        self.row().0
    }
}

/// The kind of an error of SQLite.
#[must_use]
pub fn classify(error: &rusqlite::Error) -> SqliteErrorKind {
    use rusqlite::Error;
    match error {
        Error::SqliteFailure(error, _) | Error::SqlInputError { error, .. } => {
            if error.extended_code == ffi::SQLITE_READONLY_DBMOVED {
                return SqliteErrorKind::Replaced;
            }
            let row = BY_CODE.iter().find(|row| row.0 == error.code);
            row.map_or(SqliteErrorKind::Other, |row| row.1)
        }
        Error::FromSqlConversionFailure(..)
        | Error::IntegralValueOutOfRange(..)
        | Error::InvalidColumnType(..) => SqliteErrorKind::Corrupt,
        _ => SqliteErrorKind::Other,
    }
}

/// An operation on a file that failed: its kind, whether it may have been applied, a text that names the remedy, and the
/// error of SQLite or of the system as the source.
#[derive(Debug)]
pub struct SqliteError {
    kind: SqliteErrorKind,
    applied: Applied,
    detail: String,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl SqliteError {
    /// Nothing was done. SQLite does not report the reason.
    pub(crate) fn refused(kind: SqliteErrorKind, detail: impl Into<String>) -> Self {
        Self { kind, applied: Applied::No, detail: cut_error_text(detail), source: None }
    }

    /// The same error, which had no effect.
    pub(crate) fn not_applied(mut self) -> Self {
        self.applied = Applied::No;
        self
    }

    pub(crate) fn caused_by(mut self, source: impl Error + Send + Sync + 'static) -> Self {
        self.source = Some(Box::new(source));
        self
    }

    /// The kind, by the action that a caller can take.
    #[must_use]
    pub const fn kind(&self) -> SqliteErrorKind {
        self.kind
    }

    /// Whether the operation may have been applied nevertheless.
    #[must_use]
    pub const fn applied(&self) -> Applied {
        self.applied
    }

    /// Returns whether the same call may succeed when it is made again.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.kind.is_retryable()
    }

    /// The problem and its remedy.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// The error of SQLite, if SQLite reported one.
    #[must_use]
    pub fn sqlite_error(&self) -> Option<&rusqlite::Error> {
        self.source.as_ref()?.downcast_ref()
    }

    /// The error of SQLite or of the system.
    #[must_use]
    pub fn into_source(self) -> Option<Box<dyn Error + Send + Sync>> {
        self.source
    }
}

impl From<rusqlite::Error> for SqliteError {
    fn from(error: rusqlite::Error) -> Self {
        let kind = classify(&error);
        let (applied, _, text) = kind.row();
        Self { kind, applied, detail: text.to_owned(), source: Some(Box::new(error)) }
    }
}

impl fmt::Display for SqliteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl Error for SqliteError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_ref().map(|source| &**source as &(dyn Error + 'static))
    }
}

/// The error for a file that its path no longer names; the code is SQLite's own for this case.
pub(crate) fn replaced(text: &str) -> rusqlite::Error {
    let code = ffi::Error::new(ffi::SQLITE_READONLY_DBMOVED);
    rusqlite::Error::SqliteFailure(code, Some(text.to_owned()))
}

/// The error for a path that cannot be opened or looked at.
pub(crate) fn cannot_open(text: String) -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_CANTOPEN), Some(text))
}

/// The error for a value in the table that this crate did not write.
pub(crate) fn out_of_range(column: usize) -> rusqlite::Error {
    let error = Box::new(FromSqlError::InvalidType);
    rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Integer, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Codes that are not listed, one of which SQLite does not have.
    #[test]
    fn unlisted_code_may_be_applied() {
        for code in [ffi::SQLITE_MISUSE, ffi::SQLITE_NOMEM, ffi::SQLITE_INTERRUPT, 99] {
            let source = rusqlite::Error::SqliteFailure(ffi::Error::new(code), Some("odd".into()));
            let error = SqliteError::from(source);
            assert_eq!(error.kind(), SqliteErrorKind::Other, "code {code}");
            assert_eq!(error.applied(), Applied::Unknown, "code {code}");
            assert!(!error.is_retryable(), "code {code}");
            assert_eq!(error.to_string(), "SQLite failed; see the source of this error");
            assert_eq!(error.source().unwrap().to_string(), "odd");
        }
    }

    #[test]
    fn each_code_has_its_kind() {
        for (code, expected) in [
            (ffi::SQLITE_BUSY, SqliteErrorKind::Busy),
            (ffi::SQLITE_BUSY_SNAPSHOT, SqliteErrorKind::Busy),
            (ffi::SQLITE_LOCKED, SqliteErrorKind::Busy),
            (ffi::SQLITE_CANTOPEN, SqliteErrorKind::Unavailable),
            (ffi::SQLITE_IOERR, SqliteErrorKind::Unavailable),
            (ffi::SQLITE_READONLY, SqliteErrorKind::ReadOnly),
            (ffi::SQLITE_READONLY_DBMOVED, SqliteErrorKind::Replaced),
            (ffi::SQLITE_PERM, SqliteErrorKind::ReadOnly),
            (ffi::SQLITE_FULL, SqliteErrorKind::Full),
            (ffi::SQLITE_CORRUPT, SqliteErrorKind::Corrupt),
            (ffi::SQLITE_NOTADB, SqliteErrorKind::Corrupt),
            (ffi::SQLITE_CONSTRAINT, SqliteErrorKind::Other),
            (ffi::SQLITE_MISUSE, SqliteErrorKind::Other),
        ] {
            let error = rusqlite::Error::SqliteFailure(ffi::Error::new(code), None);
            assert_eq!(classify(&error), expected, "code {code}");
        }
        assert_eq!(classify(&rusqlite::Error::QueryReturnedNoRows), SqliteErrorKind::Other);
        assert_eq!(classify(&out_of_range(0)), SqliteErrorKind::Corrupt);
    }

    #[test]
    fn foreign_value_is_corrupt_in_each_form() {
        use rusqlite::types::Type;
        for error in [
            rusqlite::Error::IntegralValueOutOfRange(1, -1),
            rusqlite::Error::InvalidColumnType(1, "owner".into(), Type::Null),
        ] {
            assert_eq!(classify(&error), SqliteErrorKind::Corrupt, "{error}");
        }
    }
}
