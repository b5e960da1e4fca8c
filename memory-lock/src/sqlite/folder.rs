//! Whether any name in a folder has changed, by one look at the folder.
//!
//! Removing, renaming or making a file changes the `ctime` of its folder, which no program can set. So a
//! folder whose device, inode and `ctime` are what they were before its names were checked still holds the
//! same names. One look costs a third of looking at the three names of a database.
//!
//! Two changes within one tick of the kernel's clock (at most 10 ms) may leave the same `ctime`. So a look
//! counts only if the last change was clearly before it.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::busy::real_now;
use super::pinned::{FolderState, folder_state};

/// A change must be older than this, by the clock that file systems use.
const SETTLED: Duration = Duration::from_millis(50);

/// How long a check of all names counts at most. A mount over one of the names does not change the folder.
const LONGEST: Duration = Duration::from_millis(10);

#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    longest: Duration,
    /// The folder before all names were found in order, and when that was.
    checked: Mutex<Option<(FolderState, Instant)>>,
}

impl Folder {
    const fn new(path: PathBuf, longest: Duration) -> Self {
        Self { path, longest, checked: Mutex::new(None) }
    }

    /// Checks the names with `check` if the folder may have changed since they were last found in order.
    pub(super) fn check<E>(&self, check: impl FnOnce() -> Result<(), E>) -> Result<(), E> {
        let state = folder_state(&self.path);
        let now = real_now();
        if let (Some(state), Some((checked, at))) = (&state, self.checked())
            && *state == checked
            && now.duration_since(at) < self.longest
        {
            return Ok(());
        }
        // Before the names are looked at.
        let settled = state.filter(|state| state.is_older_than(SETTLED));
        check()?;
        *self.lock() = settled.map(|state| (state, now));
        Ok(())
    }

    fn checked(&self) -> Option<(FolderState, Instant)> {
        *self.lock()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<(FolderState, Instant)>> {
        self.checked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The folder of a file, if its names can be known by looking at the folder: not where symbolic links on the
/// way to the file may be in other folders.
pub(super) fn of_file(real: &Path, named: &Path) -> Option<Folder> {
    let folder = real.parent().filter(|_| real == named)?;
    Some(Folder::new(folder.to_owned(), LONGEST))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::cell::Cell;
    use std::fs;

    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "the clock of the file system passes")]
    fn names_are_looked_at_again_after_any_change() {
        let outer = tempfile::tempdir().unwrap();
        let dir = outer.path().join("dir");
        fs::create_dir(&dir).unwrap();
        let [file, other] = ["file", "other"].map(|name| dir.join(name));
        fs::write(&file, "").unwrap();
        fs::write(&other, "").unwrap();
        let folder = Folder::new(dir.clone(), Duration::from_secs(60));
        let looks_again = || {
            let looked = Cell::new(false);
            let look = || {
                looked.set(true);
                Ok::<_, ()>(())
            };
            folder.check(look).unwrap();
            looked.get()
        };
        // A change that is too fresh.
        assert!(looks_again() && looks_again());
        std::thread::sleep(SETTLED + Duration::from_millis(20));
        assert!(looks_again());
        assert!(!looks_again(), "nothing has changed");
        fs::write(&file, "longer").unwrap();
        assert!(!looks_again(), "what is in a file is no name");

        let changes: [&dyn Fn(); 4] = [
            &|| fs::rename(&other, &file).unwrap(),
            &|| fs::remove_file(&file).unwrap(),
            &|| fs::write(&other, "").unwrap(),
            &|| {
                fs::rename(&dir, dir.with_extension("old")).unwrap();
                fs::create_dir(&dir).unwrap();
            },
        ];
        for change in changes {
            std::thread::sleep(SETTLED + Duration::from_millis(20));
            looks_again();
            assert!(!looks_again());
            change();
            assert!(looks_again());
        }
    }

    #[test]
    fn failed_check_does_not_count() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::new(dir.path().to_owned(), LONGEST);
        for _ in 0..3 {
            assert_eq!(folder.check(|| Err("removed")), Err("removed"));
        }
    }

    #[test]
    fn links_rule_the_folder_out() {
        assert!(of_file(Path::new("/a/x.db"), Path::new("/a/x.db")).is_some());
        assert!(of_file(Path::new("/a/x.db"), Path::new("/b/x.db")).is_none());
    }
}
