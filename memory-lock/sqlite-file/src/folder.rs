//! Detects that a name in a folder has changed, by one `stat` of the folder.
//!
//! Removing, renaming or creating a file changes the `ctime` of its folder, which no program can set. So if
//! the device, inode and `ctime` of a folder are the same as before its names were checked, the folder
//! still holds the same names. One `stat` of the folder costs a third of that of the three names of a
//! database.
//!
//! Two changes within one step of the clock of the file system may leave the same `ctime`. So the result
//! for a folder counts only if its last change is older than that step. A mount over one of the names does
//! not change the folder; it is detected when the names are checked again, which is after 10 ms at the
//! latest.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::busy::real_now;
use crate::pinned::{FolderState, folder_state};

/// The lifetime of a check of all names.
const FOLDER_CHECK_LIFETIME: Duration = Duration::from_millis(10);

/// The number of checks that read the names alone after the folder was found changed too recently: in a
/// folder where other files are created and removed, reading it too would cost time without benefit.
const CHECKS_WITHOUT_FOLDER: u32 = 32;

#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    count_for: Duration,
    seen: Mutex<Seen>,
}

#[derive(Debug, Clone, Copy)]
enum Seen {
    /// The state of the folder before all names were found unchanged, and the time of that.
    InOrder(FolderState, Instant),
    /// The number of checks that still read the names alone.
    Changing(u32),
}

impl Folder {
    const fn new(path: PathBuf, count_for: Duration) -> Self {
        Self { path, count_for, seen: Mutex::new(Seen::Changing(0)) }
    }

    /// Checks the names with `check` if the folder may have changed since they were last found unchanged.
    pub(crate) fn check<E>(&self, check: impl FnOnce() -> Result<(), E>) -> Result<(), E> {
        let seen = self.seen();
        if let Seen::Changing(checks @ 1..) = seen {
            self.set(Seen::Changing(checks - 1));
            return check();
        }
        let state = folder_state(&self.path);
        let now = real_now();
        if let (Some(state), Seen::InOrder(before, at)) = (&state, seen)
            && *state == before
            && now.duration_since(at) < self.count_for
        {
            return Ok(());
        }
        // Read before the names.
        let settled = state.filter(FolderState::is_settled);
        check()?;
        let changing = Seen::Changing(CHECKS_WITHOUT_FOLDER);
        self.set(settled.map_or(changing, |state| Seen::InOrder(state, now)));
        Ok(())
    }

    fn seen(&self) -> Seen {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, seen: Seen) {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = seen;
    }
}

/// The folder of a file, if its names can be known from the folder: not where symbolic links on the way to
/// the file may be in other folders.
pub(crate) fn of_file(real: &Path, named: &Path) -> Option<Folder> {
    let folder = real.parent().filter(|_| real == named)?;
    Some(Folder::new(folder.to_owned(), FOLDER_CHECK_LIFETIME))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::cell::Cell;
    use std::fs;

    use super::*;

    /// Waits until the folder's last change counts as settled: the clock of the file system must advance.
    fn settle(path: &Path) {
        while folder_state(path).is_some_and(|state| !state.is_settled()) {
            std::thread::yield_now();
        }
    }

    #[test]
    fn names_are_looked_at_again_after_any_change() {
        let outer = tempfile::tempdir().unwrap();
        let dir = outer.path().join("dir");
        fs::create_dir(&dir).unwrap();
        let [file, other] = ["file", "other"].map(|name| dir.join(name));
        fs::write(&file, "").unwrap();
        fs::write(&other, "").unwrap();
        let folder = Folder::new(dir.clone(), Duration::from_secs(600));
        let looks_again = || {
            let looked = Cell::new(false);
            let look = || {
                looked.set(true);
                Ok::<_, ()>(())
            };
            folder.check(look).unwrap();
            looked.get()
        };
        let settle = || {
            settle(&dir);
            // The checks that follow a recent change read the names alone.
            assert!((0..=CHECKS_WITHOUT_FOLDER + 1).any(|_| !looks_again()));
        };
        settle();
        assert!(!looks_again(), "nothing has changed");
        fs::write(&file, "longer").unwrap();
        assert!(!looks_again(), "a file has changed, not its name");

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
            settle();
            change();
            assert!(looks_again());
        }
    }

    #[test]
    fn failed_check_does_not_count() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::new(dir.path().to_owned(), FOLDER_CHECK_LIFETIME);
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
