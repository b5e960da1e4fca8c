//! Maps the errors of SQLite to the errors of the store.

use std::path::Path;
use std::sync::Arc;

use memory_core::store::{Applied, StoreError, StoreErrorKind, StoreOperation};
use memory_sqlite_file::{SqliteError, SqliteErrorKind, classify};
use rusqlite::ErrorCode;

/// The reason that a job was not applied.
#[derive(Debug, Clone)]
pub(crate) enum JobError {
    /// The job was refused before it changed anything; the transaction continues without it.
    Refused(StoreErrorKind),
    /// SQLite failed; nothing in the transaction can be trusted. Shared, because it may concern many jobs.
    Sqlite(Arc<rusqlite::Error>),
}

impl JobError {
    /// Whether other connections held the lock for too long.
    pub(crate) fn is_busy(&self) -> bool {
        matches!(self, Self::Sqlite(error) if classify(error) == SqliteErrorKind::Busy)
    }

    /// Whether a commit that failed with this error may have taken effect. A commit that could not write its
    /// last frame did not take effect; after an I/O error it is unknown which frames are in the log.
    pub(crate) fn leaves_commit_unknown(&self) -> bool {
        matches!(self, Self::Sqlite(error) if classify(error).applied() == Applied::Unknown)
    }

    /// The error for the caller of an operation on the file at `path`.
    pub(crate) fn to_error(&self, operation: StoreOperation, path: &Path) -> StoreError {
        match self {
            Self::Refused(kind) => StoreError::new(operation, kind.clone()).not_applied(),
            Self::Sqlite(error) => StoreError::new(operation, kind_of(error, path))
                .not_applied()
                .caused_by(Arc::clone(error)),
        }
    }
}

impl From<rusqlite::Error> for JobError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(Arc::new(error))
    }
}

impl From<StoreErrorKind> for JobError {
    fn from(kind: StoreErrorKind) -> Self {
        Self::Refused(kind)
    }
}

impl From<SqliteError> for JobError {
    fn from(error: SqliteError) -> Self {
        if let Some(rusqlite::Error::SqliteFailure(code, text)) = error.sqlite_error() {
            return rusqlite::Error::SqliteFailure(*code, text.clone()).into();
        }
        let detail = error.detail().to_owned();
        Self::Refused(match error.kind() {
            SqliteErrorKind::Refused => StoreErrorKind::Invalid(detail),
            SqliteErrorKind::Corrupt => StoreErrorKind::Corrupt(detail),
            _ => StoreErrorKind::Other(detail),
        })
    }
}

/// The error of an operation for which no thread could be started. Nothing was done.
pub(crate) fn no_thread(operation: StoreOperation, error: &Arc<std::io::Error>) -> StoreError {
    let reason =
        "no thread can be started for the SQLite file; raise the process's limit on threads";
    StoreError::new(operation, StoreErrorKind::Unavailable(reason.into()))
        .not_applied()
        .caused_by(Arc::clone(error))
}

/// Maps an error of SQLite to an error for the file at `path`, with its remedy. An unknown error is
/// [`StoreErrorKind::Other`]: do not retry.
pub(crate) fn kind_of(error: &rusqlite::Error, path: &Path) -> StoreErrorKind {
    let path = path.display();
    if let Some(ErrorCode::TooBig) = error.sqlite_error_code() {
        return StoreErrorKind::Invalid(
            "a message is larger than SQLite can hold; keep it elsewhere and store a reference"
                .into(),
        );
    }
    match classify(error) {
        SqliteErrorKind::Busy => StoreErrorKind::Unavailable(format!(
            "another process kept {path} locked; end long transactions on it or raise the operation timeout"
        )),
        SqliteErrorKind::Unavailable => StoreErrorKind::Unavailable(format!(
            "{path} cannot be opened, read or written; check its folder, permissions, disk and quota"
        )),
        SqliteErrorKind::ReadOnly => StoreErrorKind::ReadOnly(format!(
            "{path} may not be written; check the permissions of the file and its folder"
        )),
        SqliteErrorKind::Full => {
            StoreErrorKind::Full(format!("the disk of {path} is full; make room and try again"))
        }
        SqliteErrorKind::Corrupt => StoreErrorKind::Corrupt(format!(
            "{path} is not a SQLite database or is damaged; check the path or restore a backup"
        )),
        SqliteErrorKind::Replaced => StoreErrorKind::Replaced(format!(
            "{}; this handle neither reads nor writes any more, and a write that was under way may be in the \
             old file, so put {path}, its -wal and its -shm in order and open the store again",
            replaced_file(error).unwrap_or("the file or its log was replaced")
        )),
        _ => {
            StoreErrorKind::Other(format!("SQLite failed on {path}; see the source of this error"))
        }
    }
}

/// The error for the result of the check of the file.
fn replaced_file(error: &rusqlite::Error) -> Option<&str> {
    match error {
        rusqlite::Error::SqliteFailure(_, text) => text.as_deref(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::ffi;

    use super::*;

    /// The same table lists how the leases in the same file map these errors.
    const DRIVER_ERRORS: &str = include_str!("../../memory-lock/sqlite-file/src/driver_errors.txt");

    /// The table of error mappings, with the lines of one user replaced.
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
    fn driver_errors_become_store_errors() {
        let table = table_with("store", |error| {
            let error = JobError::from(error);
            let unknown =
                if error.leaves_commit_unknown() { "applied unknown" } else { "not applied" };
            let error = error.to_error(StoreOperation::Append, Path::new("/m.db"));
            let kind = format!("{:?}", error.kind());
            let kind = kind.split(['(', ' ']).next().unwrap_or_default();
            let retryable = if error.is_retryable() { "retryable" } else { "final" };
            format!("{kind}, {unknown}, {retryable}: {error}")
        });
        assert!(table == DRIVER_ERRORS, "{table}");
    }

    #[test]
    fn each_sqlite_code_has_meaning_and_remedy() {
        let unavailable = "the store did not answer: /m.db cannot be opened, read or written; \
                           check its folder, permissions, disk and quota";
        let busy = "the store did not answer: another process kept /m.db locked; end long \
                    transactions on it or raise the operation timeout";
        let read_only = "the store is read-only: /m.db may not be written; check the permissions \
                         of the file and its folder";
        let corrupt = "damaged or foreign data: /m.db is not a SQLite database or is damaged; \
                       check the path or restore a backup";
        let other = "SQLite failed on /m.db; see the source of this error";
        for (code, text, unknown) in [
            (ffi::SQLITE_BUSY, busy, false),
            (ffi::SQLITE_BUSY_SNAPSHOT, busy, false),
            (ffi::SQLITE_BUSY_RECOVERY, busy, false),
            (ffi::SQLITE_LOCKED, busy, false),
            (ffi::SQLITE_CANTOPEN, unavailable, true),
            (ffi::SQLITE_IOERR, unavailable, true),
            (ffi::SQLITE_IOERR_WRITE, unavailable, true),
            (ffi::SQLITE_IOERR_FSYNC, unavailable, true),
            (ffi::SQLITE_READONLY, read_only, false),
            (ffi::SQLITE_PERM, read_only, false),
            (
                ffi::SQLITE_FULL,
                "no room left: the disk of /m.db is full; make room and try again",
                false,
            ),
            (ffi::SQLITE_CORRUPT, corrupt, true),
            (ffi::SQLITE_NOTADB, corrupt, true),
            (
                ffi::SQLITE_READONLY_DBMOVED,
                "the store was replaced while it was open: the file or its log was replaced; this \
                 handle neither reads nor writes any more, and a write that was under way may be in the old file, so put /m.db, its -wal and its -shm in \
                 order and open the store again",
                true,
            ),
            (
                ffi::SQLITE_TOOBIG,
                "invalid request: a message is larger than SQLite can hold; keep it elsewhere and \
                 store a reference",
                true,
            ),
            (ffi::SQLITE_NOMEM, other, true),
            (ffi::SQLITE_CONSTRAINT, other, true),
            (ffi::SQLITE_MISUSE, other, true),
            (ffi::SQLITE_SCHEMA, other, true),
        ] {
            let error = rusqlite::Error::SqliteFailure(ffi::Error::new(code), None);
            assert_eq!(kind_of(&error, Path::new("/m.db")).to_string(), text, "code {code}");
            assert_eq!(JobError::from(error).leaves_commit_unknown(), unknown, "code {code}");
        }
        let error = rusqlite::Error::QueryReturnedNoRows;
        assert_eq!(kind_of(&error, Path::new("/m.db")).to_string(), other);
    }
}
