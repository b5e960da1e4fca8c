//! The parts in which a memory is copied, and their reading from a store.

use std::num::NonZeroUsize;

use memory_core::store::{
    ArchivedRemoval, Counters, Cursor, ForkOrigin, Frame, FrameWriters, PageLimit, Read, Removed,
    SequenceSet,
};
use memory_core::{MemoryKey, Sequence, StoredMessage};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::BackupError;
use crate::error::MemoryError;
use crate::inner::Inner;
use crate::sweep::non_zero;

/// Some messages of a memory, in the order in which a copy is written.
#[derive(Debug)]
pub(crate) enum Chunk {
    /// Present messages.
    Messages(Vec<StoredMessage>),
    /// Messages of an archived removal; with the last ones, the tallies of all.
    Archived { removal: Box<ArchivedRemoval>, messages: Vec<StoredMessage>, end: Option<Removed> },
}

/// The source of a copy.
pub(crate) trait Chunks: Send {
    /// The next chunk; `None` at the end, after which the copy may be completed.
    fn next(&mut self) -> impl Future<Output = Result<Option<Chunk>, Stopped>> + Send;

    /// The frame, once all chunks were read.
    fn into_frame(self) -> Frame;
}

/// Why a copy stopped.
#[derive(Debug)]
pub(crate) enum Stopped {
    /// The source was changed while it was read; it must be read again from the start.
    Changed,
    Failed(BackupError),
}

impl<E: Into<BackupError>> From<E> for Stopped {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// The size of a chunk. So a copy of any memory takes the memory of few chunks and of one message more, and other writers
/// wait for no more than one chunk.
const CHUNK: PageLimit = PageLimit { messages: non_zero(1_024), bytes: 512 << 10 };

/// The removals that are read at once.
pub(crate) const AT_ONCE: NonZeroUsize = non_zero(100);

/// The part of a memory that is copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Extent {
    All,
    /// A fork: messages up to this place.
    UpTo(Sequence, ForkOrigin),
}

/// Reads a memory in parts of one state.
pub(crate) struct StoreReader<'a> {
    inner: &'a Inner,
    frame: Frame,
    extent: Extent,
    stage: Stage,
    /// The numbers and last places of the archived removals, newest first.
    removals: Vec<(u64, Sequence)>,
    counted: Counters,
}

enum Stage {
    Messages(Cursor),
    /// The numbers of removals, newest first, and the removal that is being read.
    Archive {
        numbers: Vec<u64>,
        open: Option<Open>,
    },
    End,
}

struct Open {
    removal: Box<ArchivedRemoval>,
    tallies: Removed,
    read: u64,
    after: Sequence,
}

impl<'a> StoreReader<'a> {
    pub(crate) async fn new(inner: &'a Inner, writers: FrameWriters) -> Result<Self, MemoryError> {
        let frame = inner.store().frame(&inner.key, writers).await?;
        Self::with_frame(inner, frame).await
    }

    /// A reader of the state of this frame.
    pub(crate) async fn with_frame(inner: &'a Inner, frame: Frame) -> Result<Self, MemoryError> {
        let stage = Stage::Messages(Cursor::from(frame.generation));
        let (counted, removals) = (Counters::default(), removals(inner).await?);
        Ok(Self { inner, frame, extent: Extent::All, stage, removals, counted })
    }

    /// The id of the copy, or of the fork with this id of its caller and this end: the same for each attempt that copies
    /// the same state.
    pub(crate) fn id_of_copy(&self, fork: Option<(Uuid, Sequence)>) -> Uuid {
        // Retentions may end meanwhile.
        let removals = self.removals.iter().map(|(number, _)| *number);
        id_of_copy(&self.inner.key, &self.frame, removals, fork)
    }

    /// Reads a part of the memory.
    pub(crate) fn of(self, extent: Extent) -> Self {
        Self { extent, ..self }
    }

    pub(crate) const fn frame(&self) -> &Frame {
        &self.frame
    }

    fn last(&self) -> Sequence {
        match &self.extent {
            Extent::All => self.frame.last,
            Extent::UpTo(at, _) => (*at).min(self.frame.last),
        }
    }

    async fn messages(&mut self, after: Cursor) -> Result<Option<Vec<StoredMessage>>, Stopped> {
        let (key, last) = (&self.inner.key, self.last());
        let read = Read { after: Some(after), limit: Some(CHUNK) };
        let page = self.inner.store().read(key, read).await.map_err(MemoryError::from)?;
        if page.restarted || page.cursor.generation != self.frame.generation {
            return Err(Stopped::Changed);
        }
        if let Some(place) = page.unreadable.iter().find(|place| **place <= last) {
            let (key, place) = (key.clone(), place.number());
            return Err(BackupError::Unreadable { key, place }.into());
        }
        let mut messages = page.messages;
        let is_end = !page.more || page.cursor.sequence >= last;
        messages.truncate(messages.partition_point(|stored| stored.meta.sequence <= last));
        self.stage = if is_end {
            Stage::Archive { numbers: self.numbers(), open: None }
        } else {
            Stage::Messages(page.cursor)
        };
        Ok((!messages.is_empty()).then_some(messages))
    }

    /// The numbers of the removals of which the copy has all places, newest first.
    fn numbers(&self) -> Vec<u64> {
        let last = self.last();
        let kept = self.removals.iter().filter(|(_, end)| *end <= last);
        kept.map(|(number, _)| *number).collect()
    }

    /// The next messages of the archive.
    async fn archived(
        &mut self,
        mut numbers: Vec<u64>,
        open: Option<Open>,
    ) -> Result<Option<Chunk>, Stopped> {
        let (store, key) = (self.inner.store(), &self.inner.key);
        let mut open = match open {
            Some(open) => open,
            None => {
                let Some(number) = numbers.pop() else { return Ok(None) };
                let before = Some(number.saturating_add(1));
                let found = store.removals(key, before, NonZeroUsize::MIN).await;
                let found = found.map_err(MemoryError::from)?.pop();
                let removal = found.filter(|removal| removal.number == number);
                let removal = Box::new(removal.ok_or(Stopped::Changed)?);
                let tallies = Removed::default();
                Open { removal, tallies, read: 0, after: Sequence::ZERO }
            }
        };
        let page = store.archived(key, open.removal.number, open.after, CHUNK).await;
        let messages = page.map_err(MemoryError::from)?;
        for stored in &messages {
            open.tallies.count_archived(&open.removal, &stored.meta);
            self.counted.hold_archived(&open.removal, &stored.meta);
            open.after = stored.meta.sequence;
        }
        open.read = open.read.saturating_add(messages.len() as u64);
        let removal = open.removal.clone();
        let is_end = open.read >= removal.messages;
        if messages.is_empty() && !is_end {
            return Err(self.lost(&open).await?);
        }
        let end = is_end.then(|| open.tallies.clone());
        self.stage = Stage::Archive { numbers, open: (!is_end).then_some(open) };
        Ok(Some(Chunk::Archived { removal, messages, end }))
    }

    /// Why a removal has fewer messages than it should: its retention ended, or one of them cannot be decoded.
    async fn lost(&self, open: &Open) -> Result<Stopped, MemoryError> {
        let (store, key) = (self.inner.store(), &self.inner.key);
        let number = open.removal.number;
        let removals =
            store.removals(key, Some(number.saturating_add(1)), NonZeroUsize::MIN).await?;
        let is_there = removals.first().is_some_and(|removal| removal.number == number);
        let unread = open.removal.places.iter().find(|place| *place > open.after);
        Ok(match unread.filter(|_| is_there) {
            Some(place) => {
                let (key, place) = (key.clone(), place.number());
                BackupError::Unreadable { key, place }.into()
            }
            None => Stopped::Changed,
        })
    }

    /// Whether the memory is still in the state of the frame. A store that rolled back since may have as many messages again in
    /// the same generation. Then the newest one of the frame is another one, also if it is not a part of the copy.
    async fn check(&self) -> Result<(), Stopped> {
        let head = self.inner.head().await.map_err(MemoryError::from)?;
        let (found, frame) = (&self.counted, &self.frame.counters);
        if head.generation != self.frame.generation || head.last < self.frame.last {
            return Err(Stopped::Changed);
        }
        if let Some(newest) = self.frame.newest {
            let after = Cursor {
                generation: self.frame.generation,
                sequence: newest.sequence,
                id: Some(newest.id),
            };
            let read = Read { after: Some(after), limit: Some(NonZeroUsize::MIN.into()) };
            let page = self.inner.store().read(&self.inner.key, read).await;
            if page.map_err(MemoryError::from)?.restarted {
                return Err(Stopped::Changed);
            }
        }
        if self.extent == Extent::All && !found.has_same_present(frame) {
            return Err(BackupError::Drifted(self.inner.key.clone()).into());
        }
        Ok(())
    }
}

/// The id of a copy of the memory at this key with this frame and these archived removals.
pub(crate) fn id_of_copy(
    key: &MemoryKey,
    frame: &Frame,
    removals: impl Iterator<Item = u64>,
    fork: Option<(Uuid, Sequence)>,
) -> Uuid {
    let mut hash = Sha256::new().chain_update(key.as_str());
    // A frame is numbers and texts, so it can always be written.
    hash.update(serde_json::to_vec(frame).unwrap_or_default());
    if let Some(newest) = frame.newest {
        hash.update(newest.id.uuid());
    }
    for number in removals {
        hash.update(number.to_be_bytes());
    }
    if let Some((id, at)) = fork {
        hash.update(id);
        hash.update(at.number().to_be_bytes());
    }
    let digest = hash.finalize();
    Uuid::from_u128(digest.iter().take(16).fold(0, |id, byte| id << 8 | u128::from(*byte)))
}

/// The numbers and last places of the archived removals, newest first.
async fn removals(inner: &Inner) -> Result<Vec<(u64, Sequence)>, MemoryError> {
    let (mut all, mut before) = (Vec::new(), None);
    loop {
        let page = inner.store().removals(&inner.key, before, AT_ONCE).await?;
        let Some(oldest) = page.last() else { return Ok(all) };
        before = Some(oldest.number);
        let end = |places: &SequenceSet| places.ranges().last().map(|(_, last)| *last);
        let removals = page.iter().map(|one| (one.number, end(&one.places).unwrap_or_default()));
        all.extend(removals);
    }
}

impl Chunks for StoreReader<'_> {
    async fn next(&mut self) -> Result<Option<Chunk>, Stopped> {
        loop {
            match std::mem::replace(&mut self.stage, Stage::End) {
                Stage::Messages(after) => {
                    if let Some(messages) = self.messages(after).await? {
                        messages.iter().for_each(|stored| self.counted.hold(&stored.meta));
                        return Ok(Some(Chunk::Messages(messages)));
                    }
                }
                Stage::Archive { numbers, open } => {
                    if let Some(chunk) = self.archived(numbers, open).await? {
                        return Ok(Some(chunk));
                    }
                }
                Stage::End => {
                    self.check().await?;
                    return Ok(None);
                }
            }
        }
    }

    fn into_frame(self) -> Frame {
        let last = self.last();
        match self.extent {
            Extent::All => self.frame,
            Extent::UpTo(_, origin) => self.frame.into_fork(last, self.counted, origin),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use memory_core::resource::ArchiveSettings;
    use memory_core::{MemoryResource, Message};

    use super::*;
    use crate::{FlushMode, MemoryManager};

    const LARGE: usize = 1 << 20;

    /// A message with few tokens and many bytes.
    fn image() -> Message {
        let url = format!("data:image/png;base64,{}", "A".repeat(LARGE));
        let part = serde_json::json!({"type": "image_url", "image_url": {"url": url}});
        Message::from_value(serde_json::json!({"role": "user", "content": [part]})).unwrap()
    }

    fn bytes_of(messages: &[StoredMessage]) -> u64 {
        messages.iter().map(|stored| stored.message.to_json().unwrap().len() as u64).sum()
    }

    #[tokio::test]
    async fn chunks_of_large_messages_are_bounded() {
        let mut resource = MemoryResource::new("m", 10_000_000);
        resource.archive = ArchiveSettings::keep_for(Duration::from_hours(24));
        let builder = MemoryManager::builder().with_flush_mode(FlushMode::Manual);
        let manager = builder.with_resource(resource).open("memory://").await.unwrap();
        let memory = manager.memory("m", "k").unwrap();
        let talk = || (0..60).map(|number| Message::user(format!("message {number}")));
        for round in 0..2 {
            memory.append_all(talk()).await.unwrap();
            memory.append_all((0..6).map(|_| image())).await.unwrap();
            memory.append_all(talk()).await.unwrap();
            if round == 0 {
                memory.clear().await.unwrap();
            }
        }
        let mut reader = StoreReader::new(&memory.inner, FrameWriters::LeftOut).await.unwrap();
        let (mut present, mut archived) = (Vec::new(), Vec::new());
        while let Some(chunk) = reader.next().await.unwrap() {
            match chunk {
                Chunk::Messages(messages) => present.push(messages),
                Chunk::Archived { messages, .. } => archived.push(messages),
            }
        }
        let most = CHUNK.bytes + LARGE as u64 + 1_000;
        for chunks in [present, archived] {
            assert_eq!(chunks.iter().map(Vec::len).sum::<usize>(), 126);
            assert!(chunks.len() >= 7, "{}", chunks.len());
            let sizes: Vec<_> = chunks.iter().map(|chunk| bytes_of(chunk)).collect();
            assert!(sizes.iter().all(|bytes| *bytes <= most), "{sizes:?}");
        }
    }
}
