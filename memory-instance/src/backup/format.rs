//! The lines of a backup, as `docs/backup-format.md` describes them.

use jiff::Timestamp;
use memory_core::store::{ArchivedRemoval, Frame, MessageId, MessageMeta};
use memory_core::{ContentType, MemoryKey, Message, Priority, Sequence, StoredMessage};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

/// The newest version of the format that this software reads and writes.
pub(super) const FORMAT_VERSION: u32 = 2;

/// The version that has everything but metadata. A memory without metadata is written in it, so that earlier versions of
/// this software can read the backup. They would lose metadata in silence.
const WITHOUT_METADATA: u32 = 1;

/// The version of the format for a memory with this frame.
pub(super) const fn version_for(frame: &Frame) -> u32 {
    if frame.metadata.is_unset() { WITHOUT_METADATA } else { FORMAT_VERSION }
}

/// The most bytes of a line outside of parts.
pub(super) const MOST_LINE: u64 = 64 << 10;

/// The bytes after which a writer ends a part.
pub(super) const PART_BYTES: usize = 1 << 20;

/// The most bytes of a part, which a reader holds in memory: a part of a writer and one message more.
pub(super) const MOST_PART: u64 = 256 << 20;

/// The first line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Header {
    pub(super) memory_backup: u32,
    pub(super) key: MemoryKey,
    pub(super) created_at: Timestamp,
}

/// The version alone, because a newer header may have other fields.
#[derive(Deserialize)]
pub(super) struct HeaderVersion {
    pub(super) memory_backup: u32,
}

/// A line before each part, and the last line.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Mark {
    Part { bytes: u64, sha256: String },
    End(End),
}

/// The last line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct End {
    pub(super) parts: u64,
    pub(super) messages: u64,
    pub(super) removals: u64,
    pub(super) archived: u64,
    /// Of all bytes before this line.
    pub(super) sha256: String,
}

/// A line of a part. The message is written from [`Message`], and read as its text, which is parsed only once.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Line<M> {
    Frame(Box<Frame>),
    Message(MessageLine<M>),
    Removal(Box<ArchivedRemoval>),
    Archived(MessageLine<M>),
}

#[derive(Serialize, Deserialize)]
pub(super) struct MessageLine<M> {
    sequence: Sequence,
    id: MessageId,
    tokens: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    priority: Option<Priority>,
    content_type: ContentType,
    created_at: Timestamp,
    #[serde(default, skip_serializing_if = "is_false")]
    closed: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    summary: bool,
    message: M,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
const fn is_false(value: &bool) -> bool {
    !*value
}

impl<'a> MessageLine<&'a Message> {
    pub(super) fn new(stored: &'a StoredMessage) -> Self {
        let StoredMessage { meta, message, .. } = stored;
        Self {
            sequence: meta.sequence,
            id: meta.id,
            tokens: meta.tokens,
            priority: meta.priority,
            content_type: meta.content_type.clone(),
            created_at: meta.created_at,
            closed: meta.closed,
            summary: meta.summary,
            message,
        }
    }
}

impl MessageLine<&RawValue> {
    pub(super) fn into_stored(self) -> Option<StoredMessage> {
        let message = Message::from_stored_json(self.message.get()).ok()?;
        let mut meta = MessageMeta::new(self.sequence, self.id, self.content_type, self.created_at);
        meta.tokens = self.tokens;
        meta.priority = self.priority;
        meta.link = message.tool_link();
        meta.closed = self.closed;
        meta.summary = self.summary;
        Some(StoredMessage::new(meta, message))
    }
}

/// The digits of a SHA-256.
pub(super) fn hex(hash: Sha256) -> String {
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
