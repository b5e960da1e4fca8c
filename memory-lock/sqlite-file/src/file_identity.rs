//! Checks that a path still names the files that SQLite has open.
//!
//! SQLite keeps its files open and never looks at their names again. After `rm x.db`, or after a backup was
//! moved over it, commits succeed in files that no path leads to. So a write or a read counts only if,
//! afterwards, the path still names the same database, the same log (`-wal`) and the same index of the log
//! (`-shm`). All three are checked, because a process that finds one of them missing creates another, and
//! then neither process sees the other's writes.
//!
//! SQLite deletes and creates `-wal` and `-shm` only while no other connection is open. Therefore, as long
//! as one is open, another program made the change.
//!
//! **Device and inode** identify a file while something keeps it open: until then its inode is not given to
//! another file. On Linux a descriptor of ours with `O_PATH` keeps it open. Closing that descriptor does
//! not release the locks that the process holds on the file, as closing any other descriptor would.
//!
//! **A copy-up of an overlay file system is not a replacement**, but it may change the numbers that the
//! path shows, from those of the image's layer to those of the container. Opening a file for writing makes
//! the copy, so the numbers are read after SQLite has opened it. Where they differ nevertheless, the
//! descriptor is asked: one with `O_PATH` belongs to the file of the overlay, not to that of a layer, and
//! shows the same numbers as the path. (A descriptor for reading that was opened before the copy would
//! still show the old file.) The same holds for file systems that invent numbers, as some in user space do.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rusqlite::Connection;
use rusqlite::config::DbConfig;

use crate::error::{cannot_open, replaced};
use crate::file_path::DatabasePath;
use crate::folder::{self, Folder};
use crate::pinned::Pinned;

/// The files of an open database, and the paths that must continue to name them.
#[derive(Debug)]
pub struct FileIdentity {
    path: DatabasePath,
    files: Vec<Watched>,
    folder: Option<Folder>,
    replaced: OnceLock<String>,
}

/// A path, and the file that it named when SQLite opened it.
#[derive(Debug)]
struct Watched {
    path: PathBuf,
    file: Pinned,
}

impl FileIdentity {
    /// The files that the path names now. `database` was pinned before SQLite opened the file; `None` if
    /// the path names another one now, or if there is no log. SQLite must have read from the file before,
    /// because it opens the log only then.
    pub(crate) fn capture(
        path: DatabasePath,
        database: &PinnedDatabase,
    ) -> io::Result<Option<Self>> {
        let mut paths = vec![
            path.real.clone(),
            with_suffix(&path.real, "-wal"),
            with_suffix(&path.real, "-shm"),
        ];
        if path.named != path.real {
            // Its symbolic links may be changed to point elsewhere.
            paths.insert(0, path.named.clone());
        }
        let mut files = Vec::with_capacity(paths.len());
        for path in paths {
            match Pinned::new(&path) {
                // Read again: the numbers may have changed when SQLite opened the file.
                Ok(file) => files.push(Watched { path, file }),
                Err(error) if is_missing(&error) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        for database_name in
            files.iter().filter(|file| file.path == path.real || file.path == path.named)
        {
            if !database.0.is_same_as(&database_name.file)? {
                return Ok(None);
            }
        }
        let folder = folder::of_file(&path.real, &path.named);
        Ok(Some(Self { path, files, folder, replaced: OnceLock::new() }))
    }

    /// Checks that the path still names the open database, its log and the index of the log. Costs one
    /// `stat` of their folder, about a microsecond, or of the three names if the folder has changed or 10
    /// ms have passed. To be called after a commit and before it is acknowledged, and after a read and
    /// before its result is used.
    ///
    /// # Errors
    ///
    /// [`SqliteErrorKind::Replaced`](crate::SqliteErrorKind::Replaced) if one of them was removed, replaced
    /// or renamed. The answer is then final, even if the file comes back: other processes may have used
    /// another one meanwhile. [`SqliteErrorKind::Unavailable`](crate::SqliteErrorKind::Unavailable) if the
    /// names cannot be read, as after a loss of permissions.
    pub fn check(&self) -> rusqlite::Result<()> {
        self.check_found()?;
        match &self.folder {
            Some(folder) => folder.check(|| self.check_names()),
            None => self.check_names(),
        }
    }

    fn check_names(&self) -> rusqlite::Result<()> {
        for file in &self.files {
            let problem = match file.file.is_named_by(&file.path) {
                Ok(true) => continue,
                Ok(false) => "was replaced",
                Err(error) if is_missing(&error) => "was removed",
                Err(error) => {
                    let path = file.path.display();
                    return Err(cannot_open(format!("{path} cannot be checked: {error}")));
                }
            };
            let text = format!("{} {problem} while it was open", file.path.display());
            return Err(replaced(self.replaced.get_or_init(|| text)));
        }
        Ok(())
    }

    /// The error of [`check`](Self::check) if an earlier call has found a replacement. Does not access the
    /// files.
    ///
    /// # Errors
    ///
    /// [`SqliteErrorKind::Replaced`](crate::SqliteErrorKind::Replaced).
    pub fn check_found(&self) -> rusqlite::Result<()> {
        self.replaced.get().map_or(Ok(()), |text| Err(replaced(text)))
    }

    /// The file, without symbolic links.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path.real
    }

    /// Lets the closing of this connection, if it is the last one of all processes, fold the log into the
    /// file and remove it. All other connections to the file keep the log: SQLite removes it by name, and
    /// would remove the log of a file that has replaced ours.
    pub fn fold_log_on_close(&self, connection: &Connection) {
        if self.check().is_ok() {
            // If this fails, the log stays, and the next process that opens the file folds it.
            let _ = connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false);
        }
    }
}

/// A database that cannot give its inode to another file.
#[derive(Debug)]
pub(crate) struct PinnedDatabase(Pinned);

impl PinnedDatabase {
    pub(crate) fn new(path: &DatabasePath) -> io::Result<Self> {
        Pinned::new(&path.real).map(Self)
    }
}

pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

/// A folder that was replaced by a file counts as missing too.
fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}
