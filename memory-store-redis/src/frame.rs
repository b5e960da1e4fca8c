//! The read of everything of a memory but its messages and its archive.

use std::collections::{BTreeMap, BTreeSet};

use memory_core::store::{
    ForkOrigin, Frame, FrameWriters, Head, MessageId, Newest, StoreError, StoreErrorKind,
    StoreOperation, WriterId, WriterRecord,
};
use memory_core::{MemoryKey, Sequence};
use memory_redis_link::{LinkError, Reply};
use redis::Value;
use uuid::Uuid;

use crate::codec;
use crate::commands::decoded;
use crate::erase::record;
use crate::error::store_error;
use crate::metadata::{damaged_metadata, unpacked_metadata};
use crate::reads::damaged;
use crate::scripts::FRAME;
use crate::store::RedisStore;

const OPERATION: StoreOperation = StoreOperation::Read;

/// A script lists the fields of a memory with at most this many at once, because it blocks all other clients.
const LISTED_AT_ONCE: u64 = 4_096;

/// How often the writers of a memory with more fields are read in parts, if others write meanwhile.
const ATTEMPTS: u32 = 8;

/// A frame, whose writers are apart.
struct Found {
    frame: Frame,
    /// In the order of their first writes.
    sessions: Vec<WriterId>,
    writers: BTreeMap<WriterId, WriterRecord>,
}

/// Which writers the script lists.
enum Listed<'a> {
    None,
    All,
    /// Those of sessions, which the memory lists, and these.
    Sessions(&'a BTreeSet<WriterId>),
}

impl RedisStore {
    pub(crate) async fn whole_frame(
        &self,
        key: &MemoryKey,
        writers: FrameWriters,
    ) -> Result<Frame, StoreError> {
        let failed = |fault| store_error(OPERATION, Some(key), fault);
        let memory = self.link().keys().memory(key.as_str());
        let listed = match writers {
            FrameWriters::LeftOut => Listed::None,
            FrameWriters::Included => {
                let fields = self.link().send(redis::cmd("HLEN").arg(&memory)).await;
                let fields = fields.and_then(memory_redis_link::number::<u64>).map_err(failed)?;
                if fields > LISTED_AT_ONCE {
                    return self.long_frame(key, &memory).await;
                }
                Listed::All
            }
        };
        let found = self.frame_part(key, listed).await.map_err(failed)?;
        Ok(found.map_or_else(|| Frame::new(Head::default()), Found::into_frame))
    }

    /// The frame of a memory with many fields. Session writers, which are few, are in the snapshot of the script; the
    /// others are scanned. Within a generation only appends change their records, and these have then a place after the
    /// snapshot. The next snapshot has such writers too.
    async fn long_frame(&self, key: &MemoryKey, memory: &str) -> Result<Frame, StoreError> {
        let failed = |fault| store_error(OPERATION, Some(key), fault);
        let mut busy = BTreeSet::new();
        for _ in 0..ATTEMPTS {
            let found = self.frame_part(key, Listed::Sessions(&busy)).await;
            let Some(mut found) = found.map_err(failed)? else {
                return Ok(Frame::new(Head::default()));
            };
            let scanned = self.scanned_writers(memory).await.map_err(failed)?;
            let head = self.whole_head(key).await?;
            let mut is_same = head.generation == found.frame.generation;
            for (writer, record) in scanned {
                if writer.born_at().is_some() || busy.contains(&writer) {
                    continue;
                }
                if record.first > Some(found.frame.last) {
                    is_same = false;
                    busy.insert(writer);
                }
                found.writers.insert(writer, record);
            }
            if is_same {
                return Ok(found.into_frame());
            }
            if u64::try_from(busy.len()).unwrap_or(u64::MAX) > LISTED_AT_ONCE {
                break;
            }
        }
        let reason = "it was written by too many sources during each of many attempts to read its writers; read it again";
        let kind = StoreErrorKind::Unavailable(reason.into());
        Err(StoreError::new(OPERATION, kind).not_applied().at(key))
    }

    async fn scanned_writers(
        &self,
        memory: &str,
    ) -> Result<BTreeMap<WriterId, WriterRecord>, LinkError> {
        let (mut writers, mut cursor) = (BTreeMap::new(), "0".to_owned());
        loop {
            let mut scan = redis::cmd("HSCAN");
            scan.arg(memory).arg(&cursor).arg("MATCH").arg("w*").arg("COUNT").arg(1_024);
            let mut reply = Reply::parts(self.link().send(&scan).await?)?;
            cursor = reply.text()?;
            add_writers(&mut writers, Reply::parts(reply.value()?)?)?;
            if cursor == "0" {
                return Ok(writers);
            }
        }
    }

    async fn frame_part(
        &self,
        key: &MemoryKey,
        listed: Listed<'_>,
    ) -> Result<Option<Found>, LinkError> {
        let arguments = match listed {
            Listed::None => vec!["0".to_owned()],
            Listed::All => vec!["1".to_owned()],
            Listed::Sessions(others) => {
                let fields = others.iter().map(|writer| format!("w{:032x}", writer.bits()));
                std::iter::once("2".to_owned()).chain(fields).collect()
            }
        };
        let Some(mut reply) = Reply::array(self.look(key, &FRAME, &arguments).await?)? else {
            return Ok(None);
        };
        let packed = reply.bytes()?;
        let (marks, origin) = (reply.text()?, reply.text()?);
        let metadata = reply.bytes()?;
        let newest = Uuid::try_parse(&reply.text()?).ok().map(MessageId::new);
        let mut frame = Frame::new(decoded(&packed)?);
        frame.origin = decoded_origin(&origin);
        frame.newest = newest.map(|id| Newest { sequence: frame.last, id });
        if !metadata.is_empty() {
            frame.metadata = unpacked_metadata(&metadata).ok_or_else(damaged_metadata)?;
        }
        let forgotten = marks.rsplit(' ').next().and_then(|millis| millis.parse().ok());
        frame.forgotten_millis = forgotten.unwrap_or_default();
        // A copy without them would differ from its source.
        let unreadable = |what: &str, number: usize| {
            LinkError::corrupt(format!(
                "{what} cannot be read (number {number}, counted from the newest); clear the memory"
            ))
        };
        for number in 1..=reply.number::<usize>()? {
            let receipt = serde_json::from_str(&reply.text()?);
            frame.receipts.push(receipt.map_err(|_| unreadable("a receipt", number))?);
        }
        for number in 1..=reply.number::<usize>()? {
            let erasure = record(&reply.text()?);
            let unreadable = || unreadable("the record of an erasure", number);
            frame.erasures.push(erasure.ok_or_else(unreadable)?);
        }
        let mut found = Found { frame, sessions: Vec::new(), writers: BTreeMap::new() };
        for _ in 0..reply.number::<usize>()? {
            found.sessions.extend(writer(&reply.text()?));
        }
        add_writers(&mut found.writers, reply)?;
        Ok(Some(found))
    }

    /// Uses a plain command, as for the head.
    pub(crate) async fn fork_origin(
        &self,
        key: &MemoryKey,
    ) -> Result<Option<ForkOrigin>, StoreError> {
        let failed = |fault| store_error(OPERATION, Some(key), fault);
        let memory = self.link().keys().memory(key.as_str());
        let found = self.link().send(redis::cmd("HMGET").arg(&memory).arg("h").arg("f")).await;
        let mut reply = found.and_then(Reply::parts).map_err(failed)?;
        let Value::BulkString(packed) = reply.value().map_err(failed)? else { return Ok(None) };
        let head = codec::head(&packed).ok_or_else(|| failed(damaged(&memory, &packed)))?;
        match reply.value().map_err(failed)? {
            Value::BulkString(origin) if !self.has_expired(&head) => {
                let text = String::from_utf8_lossy(&origin);
                let origin = decoded_origin(&text);
                if origin.is_none() && !text.ends_with(' ') {
                    let problem = "the origin of a fork cannot be read; restore a backup";
                    let kind = StoreErrorKind::Corrupt(problem.into());
                    return Err(StoreError::new(OPERATION, kind).not_applied().at(key));
                }
                Ok(origin)
            }
            _ => Ok(None),
        }
    }
}

/// The field `f` of a memory that was copied.
fn decoded_origin(stored: &str) -> Option<ForkOrigin> {
    let (_, json) = stored.split_once(' ')?;
    serde_json::from_str(json).ok()
}

fn writer(id: &str) -> Option<WriterId> {
    u128::from_str_radix(id, 16).ok().map(WriterId::new)
}

/// Adds writers from pairs of fields and values.
fn add_writers(
    writers: &mut BTreeMap<WriterId, WriterRecord>,
    mut reply: Reply,
) -> Result<(), LinkError> {
    while !reply.is_empty() {
        let (field, value) = (reply.text()?, reply.text()?);
        let found = field.strip_prefix('w').and_then(writer).zip(value.split_once(' '));
        let record = found.and_then(|(writer, (number, first))| {
            let first = first.parse().ok().map(Sequence::new);
            Some(WriterRecord { writer, number: number.parse().ok()?, first })
        });
        let record = record.ok_or_else(LinkError::odd_answer)?;
        writers.insert(record.writer, record);
    }
    Ok(())
}

impl Found {
    /// The frame with its writers: session writers in the order of their first writes, after the others.
    fn into_frame(mut self) -> Frame {
        let sessions: Vec<_> =
            self.sessions.iter().filter_map(|id| self.writers.remove(id)).collect();
        self.frame.writers = self.writers.into_values().chain(sessions).collect();
        self.frame
    }
}
