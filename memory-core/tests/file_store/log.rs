//! The file: records, one after another, each of which is there as a whole or not at all.
//!
//! A record is a line: its length in bytes, a checksum, and the record itself, which has no line
//! break. A crash may leave the last one cut off, or full of zeros where the file had grown already;
//! then its checksum is wrong or its end is not there, and nothing follows. A bad record that is
//! followed by others is no trace of a crash but damage, and an error.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;

use sha2::{Digest as _, Sha256};

#[derive(Debug)]
pub(super) struct Log {
    file: File,
}

impl Log {
    /// Opens the file, or makes it, and returns its records. What a crash left of the last one is cut
    /// away, before anything is written behind it.
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
        // The name of a new file is in its folder, which has to be synced as well.
        if let Some(folder) = path.parent().filter(|_| bytes.is_empty()) {
            File::open(folder)?.sync_all()?;
        }
        Ok((Self { file }, records))
    }

    /// Appends a record; when this returns it is on the disk.
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

/// The records of a file, and where the last whole one ends.
fn records(bytes: &[u8]) -> io::Result<(Vec<Vec<u8>>, usize)> {
    let (mut records, mut rest) = (Vec::new(), bytes);
    while let Some((record, behind)) = whole(rest) {
        records.push(record.to_vec());
        rest = behind;
    }
    let end = bytes.len() - rest.len();
    // Behind a torn record nothing was ever written. A record has no line break in it, so what is
    // whole within what is left is a record of its own.
    if (1..rest.len()).any(|start| whole(rest.get(start..).unwrap_or_default()).is_some()) {
        let number = records.len() + 1;
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("record {number} is damaged, and others follow it; restore a backup"),
        ));
    }
    Ok((records, end))
}

/// The record that these bytes begin with, if all of it is there, and what follows it.
fn whole(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut parts = bytes.splitn(3, |byte| *byte == b' ');
    let length: usize = std::str::from_utf8(parts.next()?).ok()?.parse().ok()?;
    let sum = parts.next()?;
    let (record, behind) = parts.next()?.split_at_checked(length)?;
    let behind = behind.strip_prefix(b"\n")?;
    (checksum(record).as_bytes() == sum).then_some((record, behind))
}
