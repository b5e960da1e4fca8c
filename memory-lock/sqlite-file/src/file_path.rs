//! The file that a path names, and the check that a database may be kept under that name.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Whether a database file may have more than one name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Links {
    /// A file with more than one hard link, and a file that is itself a mount point, is refused. The
    /// default.
    #[default]
    Refuse,
    /// Such a file is opened. SQLite names the log after the path, so processes that use two names of one
    /// file at the same time overwrite each other's data. Use it only for files of which a single name is
    /// ever opened, such as those that a snapshot tool has linked to.
    Allow,
}

/// A path that is refused. The text names the reason and the remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PathRefused(String);

/// A path to a database, in its given form and as SQLite resolves it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DatabasePath {
    /// Absolute, with its symbolic links: they may be changed to point to another file.
    pub(crate) named: PathBuf,
    /// Without symbolic links. SQLite puts `-wal` and `-shm` beside this one.
    pub(crate) real: PathBuf,
}

/// The reason why a path cannot be used.
#[derive(Debug)]
pub(crate) enum PathError {
    Refused(PathRefused),
    Io(io::Error),
}

impl From<io::Error> for PathError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// One thread of a process creates or finds a file at a time. Closing a file descriptor releases all locks
/// that the process holds on the file (POSIX), so the descriptor that creates a file must be closed before
/// another thread of this process gives the file to SQLite.
static RESOLVING: Mutex<()> = Mutex::new(());

impl DatabasePath {
    /// Resolves the path. A missing file is created: empty, as SQLite does, but only for its owner (mode 0600). SQLite gives `-wal` and `-shm` the mode of the file.
    ///
    /// Refuses a file that is missing while its log is there.
    pub(crate) fn resolve(path: &Path) -> Result<Self, PathError> {
        let named = literal_path(path).map_err(PathError::Refused)?;
        let _one_at_a_time = RESOLVING.lock().unwrap_or_else(PoisonError::into_inner);
        let real = match named.canonicalize() {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let file = link_target(&named)?;
                refuse_log_without_file(&file)?;
                create_private(&file)?;
                named.canonicalize()?
            }
            real => real?,
        };
        Ok(Self { named, real })
    }

    /// Refuses a file that another path may name too. To be called when SQLite has opened the file for
    /// writing: on an overlay file system that makes the container's copy of the file, and until then the
    /// links of the image's layers are counted.
    pub(crate) fn refuse_other_names(&self) -> Result<(), PathError> {
        let shown = self.named.display();
        let links = platform::links(&self.real)?;
        let reason = if links > 1 {
            format!(
                "{shown} has {links} hard links; processes that open it by different names \
                 overwrite each other's data, so remove the other links or copy the file, or write \
                 `?links=allow` if no other name of it is ever opened"
            )
        } else if platform::is_mount_root(&self.real)? {
            format!(
                "{shown} is mounted as a single file, and its log would be kept apart from it; mount \
                 the folder that contains it instead, or write `?links=allow` if no other name of it \
                 is ever opened"
            )
        } else {
            return Ok(());
        };
        Err(PathError::Refused(PathRefused(reason)))
    }
}

/// The path in the only form in which SQLite takes it literally: absolute. The bundled SQLite reads
/// `file:x.db` as a URI, and gives the empty path and `:memory:` a special meaning.
///
/// # Errors
///
/// If it is one of the last two, which cannot be shared.
pub fn literal_path(path: &Path) -> Result<PathBuf, PathRefused> {
    if path.as_os_str().is_empty() || path.as_os_str() == OsStr::new(":memory:") {
        let reason = "SQLite in memory cannot be shared; use memory:// or give the path of a file";
        return Err(PathRefused(reason.into()));
    }
    std::path::absolute(path).map_err(|error| {
        PathRefused(format!("{} cannot be made an absolute path ({error})", path.display()))
    })
}

/// The place where a new file must be created for `path` to name it: a symbolic link may point to a file
/// that does not exist yet.
fn link_target(path: &Path) -> io::Result<PathBuf> {
    const MOST_LINKS: usize = 40;
    let mut target = path.to_owned();
    for _ in 0..MOST_LINKS {
        match fs::read_link(&target) {
            Ok(next) => target = target.parent().unwrap_or_else(|| Path::new("/")).join(next),
            Err(_) => return Ok(target),
        }
    }
    Err(io::Error::other("too many symbolic links"))
}

/// Refuses to create a file beside a log that is not empty. SQLite would delete the log, and with it all
/// data acknowledged since the last checkpoint, while the file may only have been moved away.
fn refuse_log_without_file(file: &Path) -> Result<(), PathError> {
    let mut log = file.as_os_str().to_owned();
    log.push("-wal");
    let log = Path::new(&log);
    let has_content = log.metadata().is_ok_and(|metadata| metadata.len() > 0);
    // Checked last: another process may have created the file and its log meanwhile.
    if !has_content || file.exists() {
        return Ok(());
    }
    let (file, log) = (file.display(), log.display());
    Err(PathError::Refused(PathRefused(format!(
        "{file} is missing, and its log {log} is still there; put the file back, or remove {log} to \
         begin with an empty one"
    ))))
}

fn create_private(path: &Path) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    platform::private(&mut options);
    match options.open(path) {
        Ok(file) => {
            // The process's umask has been applied to the mode. A file system without modes refuses.
            let _ = platform::make_private(&file);
            Ok(())
        }
        // Another process has made it.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(unix)]
mod platform {
    use std::fs::{File, OpenOptions, Permissions};
    use std::io;
    use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
    use std::path::Path;

    const MODE: u32 = 0o600;

    pub(crate) fn private(options: &mut OpenOptions) {
        options.mode(MODE);
    }

    pub(crate) fn make_private(file: &File) -> io::Result<()> {
        file.set_permissions(Permissions::from_mode(MODE))
    }

    pub(crate) fn links(path: &Path) -> io::Result<u64> {
        path.metadata().map(|metadata| metadata.nlink())
    }

    #[cfg(not(target_os = "linux"))]
    pub(crate) fn is_mount_root(_: &Path) -> io::Result<bool> {
        Ok(false)
    }

    #[cfg(target_os = "linux")]
    pub(crate) fn is_mount_root(path: &Path) -> io::Result<bool> {
        use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};
        let answer = statx(CWD, path, AtFlags::empty(), StatxFlags::BASIC_STATS);
        if let Ok(answer) = answer
            && answer.stx_attributes_mask.contains(StatxAttributes::MOUNT_ROOT)
        {
            return Ok(answer.stx_attributes.contains(StatxAttributes::MOUNT_ROOT));
        }
        // The kernel is older than 5.8, or a sandbox forbids it. Without /proc nothing is known.
        let mounts = std::fs::read("/proc/self/mountinfo").unwrap_or_default();
        Ok(super::is_mount_point(&mounts, path))
    }
}

#[cfg(not(unix))]
mod platform {
    use std::fs::{File, OpenOptions};
    use std::io;
    use std::path::Path;

    pub(crate) const fn private(_: &mut OpenOptions) {}

    pub(crate) const fn make_private(_: &File) -> io::Result<()> {
        Ok(())
    }

    pub(crate) const fn links(_: &Path) -> io::Result<u64> {
        Ok(1)
    }

    pub(crate) const fn is_mount_root(_: &Path) -> io::Result<bool> {
        Ok(false)
    }
}

/// Returns whether the text of `/proc/self/mountinfo` lists the path: it is the fifth field of a line, with
/// space, tab, newline and backslash as octal numbers.
#[cfg(target_os = "linux")]
fn is_mount_point(mounts: &[u8], path: &Path) -> bool {
    use std::os::unix::ffi::OsStrExt;
    let escaped: Vec<u8> = path
        .as_os_str()
        .as_bytes()
        .iter()
        .flat_map(|byte| match byte {
            b' ' | b'\t' | b'\n' | b'\\' => format!("\\{byte:03o}").into_bytes(),
            byte => vec![*byte],
        })
        .collect();
    mounts
        .split(|byte| *byte == b'\n')
        .any(|line| line.split(|byte| *byte == b' ').nth(4) == Some(&escaped))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_taken_literally() {
        let folder = std::env::current_dir().unwrap();
        for name in ["file:x.db", "file:x.db?mode=memory", "x.db#y", "%20", ":memory:x"] {
            assert_eq!(literal_path(Path::new(name)).unwrap(), folder.join(name));
        }
        assert_eq!(literal_path(Path::new("/x.db")).unwrap(), Path::new("/x.db"));
        for name in ["", ":memory:"] {
            let refused = literal_path(Path::new(name)).unwrap_err();
            assert!(refused.to_string().contains("memory://"), "{refused}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn mount_points_are_found_in_their_escaped_form() {
        let mounts =
            b"36 35 98:0 /m1 /data/a\\040b\\134.db rw,noatime master:1 - ext3 /dev/root rw\n\
                       37 35 98:0 /x.db /data/x.db rw - ext4 /dev/vda rw\n";
        for (path, expected) in [
            ("/data/a b\\.db", true),
            ("/data/x.db", true),
            ("/x.db", false),
            ("/data", false),
            ("/data/x.db-wal", false),
        ] {
            assert_eq!(is_mount_point(mounts, Path::new(path)), expected, "{path}");
        }
    }
}
