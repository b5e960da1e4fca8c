//! A file that is kept from giving its inode to another one.

#[cfg(unix)]
pub(super) use self::unix::Pinned;

#[cfg(not(unix))]
pub(super) use self::other::Pinned;

#[cfg(unix)]
mod unix {
    use std::fs::{File, Metadata};
    use std::io;
    use std::os::unix::fs::MetadataExt;
    use std::path::Path;

    /// A file by its device and inode.
    #[derive(Debug)]
    pub(in super::super) struct Pinned {
        id: FileId,
        /// With `O_PATH`. Elsewhere than on Linux SQLite's own descriptors keep the inode.
        handle: Option<File>,
    }

    type FileId = (u64, u64);

    fn id(metadata: &Metadata) -> FileId {
        (metadata.dev(), metadata.ino())
    }

    impl Pinned {
        /// The file that the path names, through symbolic links.
        pub(in super::super) fn new(path: &Path) -> io::Result<Self> {
            let handle = open(path)?;
            let metadata = handle.as_ref().map_or_else(|| path.metadata(), File::metadata)?;
            Ok(Self { id: id(&metadata), handle })
        }

        /// Whether the path names this file now.
        pub(in super::super) fn is_named_by(&self, path: &Path) -> io::Result<bool> {
            let found = id(&path.metadata()?);
            Ok(found == self.id || found == self.current_id()?)
        }

        /// Whether the other one was made of the same file, at a later time.
        pub(in super::super) fn is_same_as(&self, later: &Self) -> io::Result<bool> {
            Ok(later.id == self.current_id()?)
        }

        /// The numbers that the file has now; they change when an overlay file system copies it.
        fn current_id(&self) -> io::Result<FileId> {
            self.handle.as_ref().map_or(Ok(self.id), |handle| handle.metadata().map(|m| id(&m)))
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

#[cfg(not(unix))]
mod other {
    use std::io;
    use std::path::Path;

    /// Nothing: SQLite opens files so that they can be neither removed nor renamed.
    #[derive(Debug)]
    pub(in super::super) struct Pinned;

    impl Pinned {
        pub(in super::super) fn new(_: &Path) -> io::Result<Self> {
            Ok(Self)
        }

        pub(in super::super) const fn is_named_by(&self, _: &Path) -> io::Result<bool> {
            Ok(true)
        }

        pub(in super::super) const fn is_same_as(&self, _: &Self) -> io::Result<bool> {
            Ok(true)
        }
    }
}
