//! Overwriting deleted rows.

use rusqlite::Connection;

/// While it lives, SQLite overwrites what it deletes with zeros (`secure_delete`).
pub(super) struct SecureDelete<'a>(&'a Connection);

impl<'a> SecureDelete<'a> {
    pub(super) fn new(connection: &'a Connection) -> rusqlite::Result<Self> {
        connection.pragma_update(None, "secure_delete", true)?;
        Ok(Self(connection))
    }
}

impl Drop for SecureDelete<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.0.pragma_update(None, "secure_delete", false) {
            tracing::debug!(%error, "deleted rows are still overwritten, which only costs time");
        }
    }
}
