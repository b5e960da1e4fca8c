//! Whether any name in a folder has changed, by one look at the folder.
//!
//! Removing, renaming or making a file changes the `ctime` of its folder, which no program can set. So a
//! folder whose device, inode and `ctime` are what they were before its names were checked still holds the
//! same names. One look costs a third of looking at the three names of a database.
//!
//! Two changes within one step of the clock of the file system may leave the same `ctime`. So a folder
//! counts only if its last change is older than that step. A mount over one of the names does not change the
//! folder; it is noticed when the names are looked at again, which is after 10 ms at the latest.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::busy::real_now;
use crate::pinned::{FolderState, folder_state};

/// How long a check of all names counts at most.
const FOLDER_CHECK_LIFETIME: Duration = Duration::from_millis(10);

/// So many checks look at the names alone after the folder was found changed too recently: in a folder where
/// other files come and go, looking at it too would cost and help in vain.
const CHECKS_WITHOUT_FOLDER: u32 = 32;

#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    count_for: Duration,
    seen: Mutex<Seen>,
}

#[derive(Debug, Clone, Copy)]
enum Seen {
    /// The folder before all names were found in order, and when that was.
    InOrder(FolderState, Instant),
    /// So many checks look at the names alone.
    Changing(u32),
}

impl Folder {
    const fn new(path: PathBuf, count_for: Duration) -> Self {
        Self { path, count_for, seen: Mutex::new(Seen::Changing(0)) }
    }

    /// Checks the names with `check` if the folder may have changed since they were last found in order.
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
        // Before the names are looked at.
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

/// The folder of a file, if its names can be known by looking at the folder: not where symbolic links on the
/// way to the file may be in other folders.
pub(crate) fn of_file(real: &Path, named: &Path) -> Option<Folder> {
    let folder = real.parent().filter(|_| real == named)?;
    Some(Folder::new(folder.to_owned(), FOLDER_CHECK_LIFETIME))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::cell::Cell;
    use std::fs;

    use super::*;

    /// Waits until the folder's last change counts as settled: the clock of the file system has to pass.
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
            // Those that follow a look at a fresh change look at the names alone.
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
