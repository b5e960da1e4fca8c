//! Where backups are kept before memories are cleared.

use std::io;
use std::path::{Path, PathBuf};

use memory_instance::MemoryKey;
use memory_instance::backup::{BackupSink, BackupStream, CopyReceipt};
use tokio::fs::{self, OpenOptions};
use tokio::io::BufWriter;

use super::{create, partial_of, sync_folder};

/// The longest file name of a backup in a folder that has the key of the memory.
const MAX_NAME: usize = 200;

/// Writes each backup to a file that is complete or not there.
#[derive(Debug)]
pub(crate) struct FileSink {
    place: Place,
    /// The memory that is being backed up, its file, and the name until it is complete.
    current: Option<Current>,
}

#[derive(Debug)]
enum Place {
    File(PathBuf),
    Folder(PathBuf),
}

#[derive(Debug)]
struct Current {
    key: MemoryKey,
    file: PathBuf,
    partial: PathBuf,
}

impl FileSink {
    /// Keeps the backup of one memory in this file.
    pub(crate) fn file(path: &Path) -> Self {
        Self { place: Place::File(path.to_owned()), current: None }
    }

    /// Keeps each backup in a new file of this folder.
    pub(crate) fn folder(path: &Path) -> Self {
        Self { place: Place::Folder(path.to_owned()), current: None }
    }

    /// The file for a backup of this memory. An existing one may be the only copy of another clear.
    fn new_file(&self, key: &MemoryKey) -> io::Result<PathBuf> {
        let taken = |file: &Path| {
            let problem = format!("{} exists; give another file", file.display());
            io::Error::new(io::ErrorKind::AlreadyExists, problem)
        };
        match &self.place {
            Place::File(file) if file.exists() => Err(taken(file)),
            Place::File(file) => Ok(file.clone()),
            Place::Folder(folder) => {
                let name = key.as_str();
                let name = if name.len() > MAX_NAME { key.sha256() } else { name.to_owned() };
                let file = |number: u32| folder.join(format!("{name}.{number}.memory"));
                (1..=9_999).map(file).find(|file| !file.exists()).ok_or_else(|| taken(&file(9_999)))
            }
        }
    }
}

#[async_trait::async_trait]
impl BackupSink for FileSink {
    async fn begin(&mut self, key: &MemoryKey) -> io::Result<BackupStream> {
        let again = self.current.take().filter(|current| current.key == *key);
        let file = match again {
            Some(current) => {
                // It is there if the memory was changed before its backup was complete.
                let _ = fs::remove_file(&current.partial).await;
                current.file
            }
            None => self.new_file(key)?,
        };
        let partial = partial_of(&file).map_err(|error| io_error(&error))?;
        let stream = create(&partial).await.map_err(|error| io_error(&error))?;
        self.current = Some(Current { key: key.clone(), file, partial });
        Ok(Box::new(BufWriter::new(stream)))
    }

    async fn complete(&mut self, _: &CopyReceipt) -> io::Result<String> {
        let Some(Current { file, partial, .. }) = &self.current else {
            return Err(io::Error::other("no backup was begun"));
        };
        OpenOptions::new().write(true).open(partial).await?.sync_all().await?;
        fs::rename(partial, file).await?;
        sync_folder(file).await.map_err(|error| io_error(&error))?;
        Ok(file.display().to_string())
    }
}

impl Drop for FileSink {
    fn drop(&mut self) {
        if let Some(current) = &self.current {
            // It would not be complete. If it cannot be removed, its name says so.
            let _ = std::fs::remove_file(&current.partial);
        }
    }
}

fn io_error(error: &anyhow::Error) -> io::Error {
    io::Error::other(format!("{error:#}"))
}
