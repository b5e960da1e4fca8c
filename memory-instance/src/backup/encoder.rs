//! Writing a backup.

use memory_core::Message;
use memory_core::store::{ArchivedRemoval, Frame};
use serde::Serialize;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncWrite, AsyncWriteExt as _};

use super::BackupError;
use super::chunks::Chunk;
use super::format::{End, Header, Line, Mark, MessageLine, PART_BYTES, hex};

/// Writes the parts of a backup, each at once.
pub(super) struct Encoder<W> {
    to: W,
    hash: Sha256,
    buffer: Vec<u8>,
    end: End,
    /// The number of the removal whose line was written last.
    removal: Option<u64>,
}

impl<W: AsyncWrite + Unpin + Send> Encoder<W> {
    pub(super) fn new(to: W) -> Self {
        let end = End { parts: 0, messages: 0, removals: 0, archived: 0, sha256: String::new() };
        Self { to, hash: Sha256::new(), buffer: Vec::new(), end, removal: None }
    }

    pub(super) async fn begin(
        &mut self,
        header: &Header,
        frame: &Frame,
    ) -> Result<(), BackupError> {
        let mut line = Vec::new();
        add(&mut line, header)?;
        self.write(&line).await?;
        add(&mut self.buffer, &Line::<&Message>::Frame(Box::new(frame.clone())))?;
        self.part().await
    }

    pub(super) async fn chunk(&mut self, chunk: &Chunk) -> Result<(), BackupError> {
        match chunk {
            Chunk::Messages(messages) => {
                for stored in messages {
                    add(&mut self.buffer, &Line::Message(MessageLine::new(stored)))?;
                    self.part_if_full().await?;
                }
                self.end.messages = self.end.messages.saturating_add(messages.len() as u64);
            }
            Chunk::Archived { removal, messages, end: _ } => {
                self.begin_removal(removal)?;
                for stored in messages {
                    add(&mut self.buffer, &Line::Archived(MessageLine::new(stored)))?;
                    self.part_if_full().await?;
                }
                self.end.archived = self.end.archived.saturating_add(messages.len() as u64);
            }
        }
        if self.buffer.is_empty() { Ok(()) } else { self.part().await }
    }

    async fn part_if_full(&mut self) -> Result<(), BackupError> {
        if self.buffer.len() < PART_BYTES { Ok(()) } else { self.part().await }
    }

    fn begin_removal(&mut self, removal: &ArchivedRemoval) -> Result<(), BackupError> {
        if self.removal != Some(removal.number) {
            self.removal = Some(removal.number);
            self.end.removals = self.end.removals.saturating_add(1);
            add(&mut self.buffer, &Line::<&Message>::Removal(Box::new(removal.clone())))?;
        }
        Ok(())
    }

    /// Writes the last line.
    pub(super) async fn finish(mut self) -> Result<(End, W), BackupError> {
        let sha256 = hex(self.hash.clone());
        let end = End { sha256, ..self.end.clone() };
        let mut line = Vec::new();
        add(&mut line, &Mark::End(end.clone()))?;
        self.write(&line).await?;
        self.to.flush().await.map_err(BackupError::Write)?;
        Ok((end, self.to))
    }

    async fn part(&mut self) -> Result<(), BackupError> {
        let part = std::mem::take(&mut self.buffer);
        let (bytes, sha256) = (part.len() as u64, hex(Sha256::new().chain_update(&part)));
        let mut line = Vec::new();
        add(&mut line, &Mark::Part { bytes, sha256 })?;
        self.write(&line).await?;
        self.write(&part).await?;
        self.end.parts = self.end.parts.saturating_add(1);
        self.buffer = part;
        self.buffer.clear();
        Ok(())
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), BackupError> {
        self.hash.update(bytes);
        self.to.write_all(bytes).await.map_err(BackupError::Write)
    }
}

fn add(buffer: &mut Vec<u8>, line: &impl Serialize) -> Result<(), BackupError> {
    serde_json::to_writer(&mut *buffer, line).map_err(|error| BackupError::Write(error.into()))?;
    buffer.push(b'\n');
    Ok(())
}
