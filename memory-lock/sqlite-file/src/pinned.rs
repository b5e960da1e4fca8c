//! A file whose inode cannot be given to another one.

#[cfg(not(target_os = "linux"))]
pub(crate) use self::folder::{FolderState, folder_state};
#[cfg(target_os = "linux")]
pub(crate) use self::id::{FolderState, folder_state};
#[cfg(unix)]
pub(crate) use self::unix::Pinned;

#[cfg(not(unix))]
pub(crate) use self::other::Pinned;

#[cfg(unix)]
mod unix {
    use std::fs::File;
    use std::io;
    use std::path::Path;

    use super::id::{FileId, id_of_file, id_of_path};

    /// A file by its device and inode.
    #[derive(Debug)]
    pub(crate) struct Pinned {
        id: FileId,
        /// Opened with `O_PATH`. On other systems than Linux SQLite's own descriptors keep the inode.
        handle: Option<File>,
    }

    impl Pinned {
        /// The file that the path names, through symbolic links.
        pub(crate) fn new(path: &Path) -> io::Result<Self> {
            let handle = open(path)?;
            let id = handle.as_ref().map_or_else(|| id_of_path(path), id_of_file)?;
            Ok(Self { id, handle })
        }

        /// Returns whether the path names this file now.
        pub(crate) fn is_named_by(&self, path: &Path) -> io::Result<bool> {
            let found = id_of_path(path)?;
            Ok(found == self.id || found == self.current_id()?)
        }

        /// Returns whether the other one was made of the same file, at a later time.
        pub(crate) fn is_same_as(&self, later: &Self) -> io::Result<bool> {
            Ok(later.id == self.current_id()?)
        }

        /// The numbers that the file has now; they change when an overlay file system copies it.
        fn current_id(&self) -> io::Result<FileId> {
            self.handle.as_ref().map_or(Ok(self.id), id_of_file)
        }
    }

    #[cfg(target_os = "linux")]
    fn open(path: &Path) -> io::Result<Option<File>> {
        use std::os::unix::fs::OpenOptionsExt;

        use rustix::fs::OFlags;
        let flags = OFlags::PATH.bits().cast_signed();
        File::options().read(true).custom_flags(flags).open(path).map(Some)
    }

    #[cfg(not(target_os = "linux"))]
    #[expect(clippy::unnecessary_wraps, reason = "it can fail on Linux")]
    fn open(_: &Path) -> io::Result<Option<File>> {
        Ok(None)
    }
}

/// Device and inode, without asking for times.
///
/// `std::fs::metadata` asks for all attributes. Since Linux 6.13 a file whose times were asked for gets exact
/// ones from its next write ("multigrain timestamps"), so that each sync after it also writes the inode to
/// the journal of the file system: a commit at FULL took 168 us in place of 116 us.
#[cfg(target_os = "linux")]
mod id {
    use std::fs::File;
    use std::io;
    use std::os::fd::AsFd;
    use std::path::Path;
    use std::time::Duration;

    use rustix::fs::{AtFlags, CWD, StatxFlags, fstat, stat, statx};
    use rustix::io::Errno;
    use rustix::time::{ClockId, clock_gettime};

    /// The two parts of the device, and the inode.
    pub(crate) type FileId = (u32, u32, u64);

    pub(crate) fn id_of_path(path: &Path) -> io::Result<FileId> {
        match id_at(CWD, path, AtFlags::empty()) {
            Err(Errno::NOSYS) => Ok(id(&stat(path)?)),
            found => Ok(found?),
        }
    }

    pub(crate) fn id_of_file(file: &File) -> io::Result<FileId> {
        match id_at(file, Path::new(""), AtFlags::EMPTY_PATH) {
            Err(Errno::NOSYS) => Ok(id(&fstat(file)?)),
            found => Ok(found?),
        }
    }

    fn id_at(folder: impl AsFd, path: &Path, flags: AtFlags) -> Result<FileId, Errno> {
        let found = statx(folder, path, flags, StatxFlags::INO)?;
        Ok((found.stx_dev_major, found.stx_dev_minor, found.stx_ino))
    }

    /// The state of a folder at one time: its identity, and the time of the last change of its names.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(crate) struct FolderState {
        id: FileId,
        changed: Duration,
    }

    /// A change is older than any step of the kernel's clock (at most 10 ms).
    const SETTLED: Duration = Duration::from_millis(50);

    /// The same where the file system keeps whole seconds, or even steps of two seconds.
    const SETTLED_COARSE: Duration = Duration::from_secs(3);

    impl FolderState {
        /// Returns whether a later change will have another time. False if the last one is in the future.
        pub(crate) fn is_settled(&self) -> bool {
            // The clock from which the kernel takes the times of files.
            let now = clock_gettime(ClockId::RealtimeCoarse);
            let Some(now) = time(now.tv_sec, now.tv_nsec) else { return false };
            now.saturating_sub(self.changed) > settled_after(self.changed)
        }
    }

    fn settled_after(changed: Duration) -> Duration {
        if changed.subsec_nanos() == 0 { SETTLED_COARSE } else { SETTLED }
    }

    fn time(seconds: i64, nanos: impl TryInto<u32>) -> Option<Duration> {
        Some(Duration::new(u64::try_from(seconds).ok()?, nanos.try_into().ok()?))
    }

    /// None if it is not available.
    pub(crate) fn folder_state(path: &Path) -> Option<FolderState> {
        let wanted = StatxFlags::INO | StatxFlags::CTIME;
        let found = statx(CWD, path, AtFlags::empty(), wanted).ok()?;
        if !StatxFlags::from_bits_retain(found.stx_mask).contains(StatxFlags::CTIME) {
            return None;
        }
        let id = (found.stx_dev_major, found.stx_dev_minor, found.stx_ino);
        let changed = time(found.stx_ctime.tv_sec, found.stx_ctime.tv_nsec)?;
        Some(FolderState { id, changed })
    }

    /// Before Linux 4.11, and where a sandbox forbids `statx`.
    fn id(found: &rustix::fs::Stat) -> FileId {
        let device = found.st_dev;
        (rustix::fs::major(device), rustix::fs::minor(device), found.st_ino)
    }
}

#[cfg(all(unix, not(target_os = "linux")))]
mod id {
    use std::fs::{File, Metadata};
    use std::io;
    use std::os::unix::fs::MetadataExt;
    use std::path::Path;

    /// The device and the inode.
    pub(crate) type FileId = (u64, u64);

    pub(crate) fn id_of_path(path: &Path) -> io::Result<FileId> {
        Ok(id(&path.metadata()?))
    }

    pub(crate) fn id_of_file(file: &File) -> io::Result<FileId> {
        Ok(id(&file.metadata()?))
    }

    fn id(metadata: &Metadata) -> FileId {
        (metadata.dev(), metadata.ino())
    }
}

#[cfg(not(target_os = "linux"))]
mod folder {
    use std::path::Path;

    /// Nothing: the names are always checked.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(crate) struct FolderState;

    impl FolderState {
        pub(crate) const fn is_settled(&self) -> bool {
            false
        }
    }

    pub(crate) const fn folder_state(_: &Path) -> Option<FolderState> {
        None
    }
}

#[cfg(not(unix))]
mod other {
    use std::io;
    use std::path::Path;

    /// Nothing: SQLite opens files in a mode that prevents their removal and renaming.
    #[derive(Debug)]
    pub(crate) struct Pinned;

    impl Pinned {
        pub(crate) fn new(_: &Path) -> io::Result<Self> {
            Ok(Self)
        }

        pub(crate) const fn is_named_by(&self, _: &Path) -> io::Result<bool> {
            Ok(true)
        }

        pub(crate) const fn is_same_as(&self, _: &Self) -> io::Result<bool> {
            Ok(true)
        }
    }
}
