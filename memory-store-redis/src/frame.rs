//! The read of everything of a memory but its messages and its archive.

use std::collections::BTreeMap;

use memory_core::store::{
    ForkOrigin, Frame, Head, StoreError, StoreErrorKind, StoreOperation, WriterId, WriterRecord,
};
use memory_core::{MemoryKey, Sequence};
use memory_redis_link::{LinkError, Reply};
use redis::Value;

use crate::codec;
use crate::commands::decoded;
use crate::erase::record;
use crate::error::store_error;
use crate::reads::damaged;
use crate::scripts::FRAME;
use crate::store::RedisStore;

const OPERATION: StoreOperation = StoreOperation::Read;

/// A script lists the fields of a memory with at most this many at once, because it blocks all other clients.
const LISTED_AT_ONCE: u64 = 4_096;

/// How often the writers are read in parts, if others write meanwhile. Then one script reads them.
const ATTEMPTS: u32 = 4;

/// The stored head, and the frame without its writers.
type Found = (Vec<u8>, Frame, Vec<WriterId>);

impl RedisStore {
    pub(crate) async fn whole_frame(&self, key: &MemoryKey) -> Result<Frame, StoreError> {
        let failed = |fault| store_error(OPERATION, Some(key), fault);
        let memory = self.link().keys().memory(key.as_str());
        let fields = self.link().send(redis::cmd("HLEN").arg(&memory)).await.map_err(failed)?;
        let fields: u64 = memory_redis_link::number(fields).map_err(failed)?;
        if fields > LISTED_AT_ONCE {
            for _ in 0..ATTEMPTS {
                if let Some(frame) = self.attempt_frame(key, &memory).await.map_err(failed)? {
                    return Ok(frame);
                }
            }
        }
        let mut writers = BTreeMap::new();
        let found = self.frame_part(key, Writers::Listed(&mut writers)).await.map_err(failed)?;
        Ok(found.map_or_else(
            || Frame::new(Head::default()),
            |(_, frame, sessions)| with_writers(frame, &sessions, writers),
        ))
    }

    /// `None` if the memory was written meanwhile.
    async fn attempt_frame(
        &self,
        key: &MemoryKey,
        memory: &str,
    ) -> Result<Option<Frame>, LinkError> {
        let Some((head, frame, sessions)) = self.frame_part(key, Writers::Left).await? else {
            return Ok(Some(Frame::new(Head::default())));
        };
        let (mut writers, mut cursor) = (BTreeMap::new(), "0".to_owned());
        loop {
            let mut scan = redis::cmd("HSCAN");
            scan.arg(memory).arg(&cursor).arg("MATCH").arg("w*").arg("COUNT").arg(1_024);
            let mut reply = Reply::parts(self.link().send(&scan).await?)?;
            cursor = reply.text()?;
            add_writers(&mut writers, Reply::parts(reply.value()?)?)?;
            if cursor == "0" {
                break;
            }
        }
        let after = self.link().send(redis::cmd("HGET").arg(memory).arg("h")).await?;
        let is_same = after == Value::BulkString(head);
        Ok(is_same.then(|| with_writers(frame, &sessions, writers)))
    }

    async fn frame_part(
        &self,
        key: &MemoryKey,
        writers: Writers<'_>,
    ) -> Result<Option<Found>, LinkError> {
        let listed = u8::from(matches!(writers, Writers::Listed(_))).to_string();
        let Some(mut reply) = Reply::array(self.look(key, &FRAME, &[listed]).await?)? else {
            return Ok(None);
        };
        let packed = reply.bytes()?;
        let (marks, origin) = (reply.text()?, reply.text()?);
        let mut frame = Frame::new(decoded(&packed)?);
        frame.origin = decoded_origin(&origin);
        let forgotten = marks.rsplit(' ').next().and_then(|millis| millis.parse().ok());
        frame.forgotten_millis = forgotten.unwrap_or_default();
        for _ in 0..reply.number::<usize>()? {
            match serde_json::from_str(&reply.text()?) {
                Ok(receipt) => frame.receipts.push(receipt),
                Err(error) => tracing::warn!(%key, %error, "a receipt cannot be read"),
            }
        }
        for _ in 0..reply.number::<usize>()? {
            match record(&reply.text()?) {
                Some(erasure) => frame.erasures.push(erasure),
                None => tracing::warn!(%key, "the record of an erasure cannot be read"),
            }
        }
        let mut sessions = Vec::new();
        for _ in 0..reply.number::<usize>()? {
            sessions.extend(writer(&reply.text()?));
        }
        if let Writers::Listed(writers) = writers {
            add_writers(writers, reply)?;
        }
        Ok(Some((packed, frame, sessions)))
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

/// Whether the script lists the writers.
enum Writers<'a> {
    Listed(&'a mut BTreeMap<WriterId, WriterRecord>),
    Left,
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

/// The frame with its writers: session writers in the order of their first writes, after the others.
fn with_writers(
    mut frame: Frame,
    sessions: &[WriterId],
    mut writers: BTreeMap<WriterId, WriterRecord>,
) -> Frame {
    let sessions: Vec<_> = sessions.iter().filter_map(|id| writers.remove(id)).collect();
    frame.writers = writers.into_values().chain(sessions).collect();
    frame
}
