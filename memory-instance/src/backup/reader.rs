//! Reading a backup.

use std::collections::VecDeque;
use std::fmt;

use jiff::Timestamp;
use memory_core::store::{ArchivedRemoval, Counters, Frame, Removed};
use memory_core::{MemoryKey, Sequence};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader};
use uuid::Uuid;

use super::chunks::{Chunk, Chunks, Stopped};
use super::format::{
    End, FORMAT_VERSION, Header, HeaderVersion, Line, MOST_LINE, MOST_PART, Mark, hex,
};
use super::{BackupError, RestoredTtl};

/// A backup that is being read; [`MemoryInstance::restore_backup`](crate::MemoryInstance::restore_backup) restores it.
pub struct BackupReader<R> {
    from: BufReader<R>,
    header: Header,
    frame: Box<Frame>,
    id: Uuid,
    hash: Sha256,
    at: Place,
    read: End,
    chunks: VecDeque<Chunk>,
    last: Sequence,
    /// The number of the newest removal that was read.
    removal: u64,
    /// The present messages that were read.
    counted: Counters,
    open: Option<Open>,
}

/// A place in the input.
#[derive(Debug, Clone, Copy)]
struct Place {
    line: u64,
    byte: u64,
}

struct Open {
    removal: Box<ArchivedRemoval>,
    tallies: Removed,
    read: u64,
    last: Sequence,
}

impl<R> fmt::Debug for BackupReader<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackupReader").field("header", &self.header).finish_non_exhaustive()
    }
}

impl<R: AsyncRead + Unpin + Send> BackupReader<R> {
    /// Reads the begin of a backup.
    ///
    /// # Errors
    /// [`BackupError::NotABackup`], [`BackupError::Newer`], [`BackupError::Damaged`], [`BackupError::Read`].
    ///
    /// # Cancel safety
    /// Dropping the future loses what was read of the input.
    pub async fn open(from: R) -> Result<Self, BackupError> {
        let at = Place { line: 1, byte: 0 };
        let mut input = Input { from: BufReader::new(from), hash: Sha256::new(), at };
        let line = match input.line().await {
            Err(BackupError::Damaged { .. }) => {
                return Err(BackupError::NotABackup("its first line is too long or not complete"));
            }
            line => line?,
        };
        let other = || BackupError::NotABackup("its first line is not the header of one");
        let version: HeaderVersion = serde_json::from_slice(&line).map_err(|_| other())?;
        let found = version.memory_backup;
        if found > FORMAT_VERSION {
            return Err(BackupError::Newer { found });
        }
        let header = serde_json::from_slice(&line).map_err(|_| other())?;
        let mut id = Sha256::new().chain_update(&line);
        let before = input.at;
        let Mark::Part { bytes, sha256 } = input.mark().await? else {
            return Err(before.damaged("it ends before its first part"));
        };
        let at = input.at;
        let part = input.part(bytes, &sha256).await?;
        id.update(&part);
        let Ok(Line::<&RawValue>::Frame(frame)) = serde_json::from_slice(&part) else {
            return Err(at.damaged("the first part is not the frame of a memory"));
        };
        let id = id.finalize().iter().take(16).fold(0, |id, byte| id << 8 | u128::from(*byte));
        let Input { from, hash, at } = input;
        let read = End { parts: 1, messages: 0, removals: 0, archived: 0, sha256: String::new() };
        let id = Uuid::from_u128(id);
        let (chunks, last, removal) = (VecDeque::new(), Sequence::ZERO, 0);
        let (counted, open) = (Counters::default(), None);
        Ok(Self { from, header, frame, id, hash, at, read, chunks, last, removal, counted, open })
    }

    /// The key of the memory that was backed up.
    pub fn key(&self) -> &MemoryKey {
        &self.header.key
    }

    /// When the backup was begun, by the clock of the process that made it.
    pub fn created_at(&self) -> Timestamp {
        self.header.created_at
    }

    /// The frame of the memory.
    pub fn frame(&self) -> &Frame {
        &self.frame
    }

    /// The id of the copy: the same for each restore of this backup.
    pub(super) fn id(&self) -> Uuid {
        self.id
    }

    pub(super) fn set_ttl(&mut self, ttl: RestoredTtl, now: Timestamp) -> Result<(), BackupError> {
        match (ttl, self.frame.expires_at) {
            (RestoredTtl::Dropped, _) => self.frame.expires_at = None,
            (RestoredTtl::Kept, Some(end)) if end <= now => return Err(BackupError::Expired(end)),
            (RestoredTtl::Kept, _) => {}
        }
        Ok(())
    }

    /// Reads the next part into chunks; false at the end, which was compared with what was read.
    async fn part(&mut self) -> Result<bool, BackupError> {
        let hash = std::mem::take(&mut self.hash);
        let digest = hex(hash.clone());
        let mut input = Input { from: &mut self.from, hash, at: self.at };
        let before = input.at;
        match input.mark().await? {
            Mark::Part { bytes, sha256 } => {
                let at = input.at;
                let part = input.part(bytes, &sha256).await?;
                (self.hash, self.at) = (input.hash, input.at);
                self.read.parts = self.read.parts.saturating_add(1);
                self.decode(&part, at)?;
                Ok(true)
            }
            Mark::End(end) => {
                let at = input.at;
                if end != (End { sha256: digest, ..self.read.clone() }) {
                    return Err(before.damaged("its end does not match what is before it"));
                }
                if self.open.is_some() {
                    return Err(before.damaged("it lacks messages of its archive"));
                }
                if !self.counted.has_same_present(&self.frame.counters) {
                    return Err(before.damaged("its messages are not those that its frame counts"));
                }
                let mut more = [0];
                if input.from.read(&mut more).await.map_err(BackupError::Read)? > 0 {
                    return Err(at.damaged("there is more after its end"));
                }
                Ok(false)
            }
        }
    }

    /// Decodes the lines of a part.
    fn decode(&mut self, part: &[u8], mut at: Place) -> Result<(), BackupError> {
        let mut messages = Vec::new();
        for line in part.split_inclusive(|byte| *byte == b'\n') {
            let odd = || at.damaged("the line has an unknown form");
            match serde_json::from_slice::<Line<&RawValue>>(line).map_err(|_| odd())? {
                Line::Message(message) => {
                    let stored = message.into_stored().ok_or_else(odd)?;
                    if stored.meta.sequence <= self.last || self.read.removals > 0 {
                        return Err(at.damaged("the message is out of order"));
                    }
                    self.last = stored.meta.sequence;
                    self.counted.hold(&stored.meta);
                    messages.push(stored);
                }
                Line::Removal(removal) => {
                    if self.read.removals == 0 && !messages.is_empty() {
                        return Err(at.damaged("the removal is in a part of messages"));
                    }
                    self.push_archived(&mut messages);
                    if self.open.is_some() {
                        return Err(at.damaged("the removal before it lacks messages"));
                    }
                    if removal.number <= self.removal {
                        return Err(at.damaged("the removal is out of order"));
                    }
                    self.removal = removal.number;
                    self.read.removals = self.read.removals.saturating_add(1);
                    let (tallies, last) = (Removed::default(), Sequence::ZERO);
                    self.open = Some(Open { removal, tallies, read: 0, last });
                }
                Line::Archived(message) => {
                    let stored = message.into_stored().ok_or_else(odd)?;
                    let Some(open) = &mut self.open else {
                        return Err(at.damaged("the message is of no removal"));
                    };
                    let place = stored.meta.sequence;
                    if place <= open.last || open.read >= open.removal.messages {
                        return Err(at.damaged("the archived message is out of order"));
                    }
                    if !open.removal.places.contains(place) {
                        return Err(at.damaged("the removal does not list the message"));
                    }
                    open.last = place;
                    open.tallies.count_archived(&open.removal, &stored.meta);
                    open.read = open.read.saturating_add(1);
                    messages.push(stored);
                }
                Line::Frame(_) => return Err(at.damaged("there is a second frame")),
            }
            at.pass(line);
        }
        if self.read.removals == 0 && !messages.is_empty() {
            self.read.messages = self.read.messages.saturating_add(messages.len() as u64);
            self.chunks.push_back(Chunk::Messages(messages));
        } else {
            self.push_archived(&mut messages);
        }
        Ok(())
    }

    /// Makes a chunk of the messages of the removal that is being read.
    fn push_archived(&mut self, messages: &mut Vec<memory_core::StoredMessage>) {
        let Some(open) = self.open.take() else { return };
        let is_end = open.read >= open.removal.messages;
        let messages = std::mem::take(messages);
        self.read.archived = self.read.archived.saturating_add(messages.len() as u64);
        let end = is_end.then(|| open.tallies.clone());
        let removal = open.removal.clone();
        self.chunks.push_back(Chunk::Archived { removal, messages, end });
        self.open = (!is_end).then_some(open);
    }
}

impl<R: AsyncRead + Unpin + Send> Chunks for BackupReader<R> {
    async fn next(&mut self) -> Result<Option<Chunk>, Stopped> {
        loop {
            if let Some(chunk) = self.chunks.pop_front() {
                return Ok(Some(chunk));
            }
            if !self.part().await? {
                return Ok(None);
            }
        }
    }

    fn into_frame(self) -> Frame {
        *self.frame
    }
}

impl Place {
    fn damaged(self, problem: impl Into<String>) -> BackupError {
        BackupError::Damaged { line: self.line, byte: self.byte, problem: problem.into() }
    }

    fn pass(&mut self, bytes: &[u8]) {
        let lines = bytes.iter().filter(|byte| **byte == b'\n').count();
        self.line = self.line.saturating_add(lines as u64);
        self.byte = self.byte.saturating_add(bytes.len() as u64);
    }
}

/// The input, with the place and the digest of what was read.
struct Input<B> {
    from: B,
    hash: Sha256,
    at: Place,
}

impl<B: tokio::io::AsyncBufRead + Unpin + Send> Input<B> {
    /// The next line outside of parts.
    async fn line(&mut self) -> Result<Vec<u8>, BackupError> {
        let mut line = Vec::new();
        let mut bounded = (&mut self.from).take(MOST_LINE);
        bounded.read_until(b'\n', &mut line).await.map_err(BackupError::Read)?;
        if line.last() != Some(&b'\n') {
            let is_cut = (line.len() as u64) < MOST_LINE;
            return Err(self.at.damaged(if is_cut {
                "it ends here, before its end line; it was cut off"
            } else {
                "the line is too long"
            }));
        }
        self.pass(&line);
        Ok(line)
    }

    async fn mark(&mut self) -> Result<Mark, BackupError> {
        let at = self.at;
        let line = self.line().await?;
        serde_json::from_slice(&line).map_err(|_| at.damaged("no part begins here, and no end"))
    }

    /// The bytes of a part, which have this digest.
    async fn part(&mut self, bytes: u64, sha256: &str) -> Result<Vec<u8>, BackupError> {
        if bytes > MOST_PART {
            return Err(self.at.damaged("the part that begins here is longer than any part is"));
        }
        let mut part = Vec::new();
        (&mut self.from).take(bytes).read_to_end(&mut part).await.map_err(BackupError::Read)?;
        if (part.len() as u64) < bytes {
            let missing = bytes.saturating_sub(part.len() as u64);
            let problem =
                format!("the part that begins here lacks {missing} bytes; it was cut off");
            return Err(self.at.damaged(problem));
        }
        if hex(Sha256::new().chain_update(&part)) != sha256 {
            let problem = "the part that begins here has another SHA-256 than it had";
            return Err(self.at.damaged(problem));
        }
        self.pass(&part);
        Ok(part)
    }

    fn pass(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
        self.at.pass(bytes);
    }
}
