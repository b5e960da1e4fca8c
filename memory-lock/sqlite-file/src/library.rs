//! The SQLite libraries that may write.

use crate::error::{SqliteError, SqliteErrorKind};

/// 3.51.3 is the first release in which a checkpoint cannot mistake a write-ahead log that was reset for
/// one that it has already copied. That mistake damaged files that several connections wrote
/// (<https://sqlite.org/wal.html>).
const OLDEST: i32 = 3_051_003;

/// Refuses a library that is too old to write safely. The bundled one never is; one of the system may be.
///
/// # Errors
///
/// If the version, as `sqlite3_libversion_number` returns it, is below 3.51.3.
pub(crate) fn check(version: i32) -> Result<(), SqliteError> {
    if version >= OLDEST {
        return Ok(());
    }
    let (major, minor, patch) = (version / 1_000_000, version / 1_000 % 1_000, version % 1_000);
    Err(SqliteError::refused(
        SqliteErrorKind::Refused,
        format!(
            "this program is linked to SQLite {major}.{minor}.{patch}, which may damage files that \
         several connections write; build it with the bundled SQLite (unset \
         LIBSQLITE3_SYS_USE_PKG_CONFIG) or with SQLite 3.51.3 or later"
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_library_is_refused_with_the_remedy() {
        for version in [3_051_003, 3_052_000, 4_000_000] {
            assert!(check(version).is_ok(), "{version}");
        }
        for (version, name) in
            [(3_051_002, "3.51.2"), (3_046_001, "3.46.1"), (3_050_099, "3.50.99")]
        {
            let error = check(version).unwrap_err();
            assert_eq!(error.kind(), SqliteErrorKind::Refused);
            assert!(!error.is_retryable());
            let text = error.to_string();
            assert!(text.contains(name) && text.contains("bundled"), "{text}");
        }
    }

    #[test]
    fn library_of_this_build_may_write() {
        check(rusqlite::version_number()).unwrap();
    }
}
