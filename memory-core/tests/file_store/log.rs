//! The log file: a sequence of records, each of which is stored completely or not at all.
//!
//! A record is a line: its length in bytes, a checksum, and the record itself, which has no line break. A crash may
//! leave the last record truncated, or filled with zeros if the file had grown already. Then its checksum is wrong or
//! its end is missing, and nothing follows. A bad record that other records follow is not the result of a crash but
//! damage, and an error.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;

use sha2::{Digest as _, Sha256};

#[derive(Debug)]
pub(super) struct Log {
    file: File,
}

impl Log {
    /// Opens or creates the file and returns its records. The remains of a torn last record are truncated before
    /// anything is written after it.
    pub(super) fn open(path: &Path) -> io::Result<(Self, Vec<Vec<u8>>)> {
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let (records, end) = records(&bytes)?;
        if end < bytes.len() {
            file.set_len(end as u64)?;
            file.sync_all()?;
        }
        file.seek(SeekFrom::Start(end as u64))?;
        // The directory entry of a new file must be synced as well.
        if let Some(folder) = path.parent().filter(|_| bytes.is_empty()) {
            File::open(folder)?.sync_all()?;
        }
        Ok((Self { file }, records))
    }

    /// Appends a record and syncs it to the disk.
    pub(super) fn append(&mut self, record: &[u8]) -> io::Result<()> {
        self.file.write_all(&line(record))?;
        self.file.sync_data()
    }
}

fn line(record: &[u8]) -> Vec<u8> {
    let mut line = format!("{} {} ", record.len(), checksum(record)).into_bytes();
    line.extend_from_slice(record);
    line.push(b'\n');
    line
}

fn checksum(record: &[u8]) -> String {
    Sha256::digest(record).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// The records of a file, and the end of the last whole one.
fn records(bytes: &[u8]) -> io::Result<(Vec<Vec<u8>>, usize)> {
    let (mut records, mut rest) = (Vec::new(), bytes);
    while let Some((record, behind)) = whole(rest) {
        records.push(record.to_vec());
        rest = behind;
    }
    let end = bytes.len() - rest.len();
    // Nothing was ever written after a torn record. Records contain no line break, so a whole record in the rest is a
    // separate one.
    if (1..rest.len()).any(|start| whole(rest.get(start..).unwrap_or_default()).is_some()) {
        let number = records.len() + 1;
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("record {number} is damaged, and others follow it; restore a backup"),
        ));
    }
    Ok((records, end))
}

/// The record at the start of these bytes, if it is whole, and the bytes after it.
fn whole(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut parts = bytes.splitn(3, |byte| *byte == b' ');
    let length: usize = std::str::from_utf8(parts.next()?).ok()?.parse().ok()?;
    let sum = parts.next()?;
    let (record, behind) = parts.next()?.split_at_checked(length)?;
    let behind = behind.strip_prefix(b"\n")?;
    (checksum(record).as_bytes() == sum).then_some((record, behind))
}
