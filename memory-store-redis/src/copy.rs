//! Copies: a memory that is written in parts under an absent key, and cannot be used until it is complete.

use memory_core::lease::FencingToken;
use memory_core::store::{
    Access, ArchivedRemoval, COPY_LIFETIME, CopyProgress, CopyStep, CopyWrite, Erasure, Frame,
    Generation, RemovalCause, Removed, StoreError, StoreErrorKind, StoreOperation, UnusedMemory,
    WriterRecord,
};
use memory_core::{MemoryKey, Sequence, StoredMessage};
use memory_redis_link::{LinkError, Reply, Shown};
use redis::{Cmd, Value};
use rmp::encode;

use crate::archive::pairs;
use crate::codec::{self, digits, optional_id};
use crate::commands::{Answer, right};
use crate::error::store_error;
use crate::metadata::packed_metadata;
use crate::reads::{PART_BYTES, PART_MESSAGES};
use crate::scripts::COPY;
use crate::store::RedisStore;

const OPERATION: StoreOperation = StoreOperation::Copy;

impl RedisStore {
    pub(crate) async fn copy_step(
        &self,
        key: &MemoryKey,
        access: Access,
        CopyWrite { copy, attempt, step }: &CopyWrite,
    ) -> Result<CopyProgress, StoreError> {
        let refuse = |kind| StoreError::new(OPERATION, kind).not_applied().at(key);
        let (mut call, token) = self.copy_call(key, access, (&copy.simple().to_string(), *attempt));
        match step {
            CopyStep::Begin => call.arg("begin"),
            CopyStep::Discard => call.arg("discard").arg(""),
            CopyStep::Messages(messages) => {
                let mut progress = None;
                let mut parts = MessageParts::of(messages);
                while let Some(part) = parts.next().map_err(refuse)? {
                    let mut call = call.clone();
                    call.arg("messages");
                    for (stored, text) in part {
                        call.arg(stored.meta.sequence.number()).arg(text);
                    }
                    progress = Some(self.send_copy(key, &call, token).await?);
                }
                if let Some(progress) = progress {
                    return Ok(progress);
                }
                call.arg("messages")
            }
            CopyStep::Archived { removal, messages, end } => {
                return self
                    .copy_archived(key, (&call, token), removal, messages, end.as_ref())
                    .await;
            }
            CopyStep::Finish { frame, removals } => {
                let present = frame.counters.present.messages;
                let complete = memory_core::store::CopiedRemovals::Complete;
                // The script compares the messages.
                frame.check_copied(present, frame.last, complete).map_err(refuse)?;
                let fields = writer_fields(frame);
                let mut before = 0;
                for part in fields.chunks(PART_MESSAGES) {
                    let mut call = call.clone();
                    call.arg("writers").arg(before);
                    for (field, value) in part {
                        call.arg(field).arg(value);
                    }
                    if self.send_copy(key, &call, token).await?.complete {
                        return Ok(CopyProgress::complete());
                    }
                    before += part.len();
                }
                call.arg("finish").arg(removals).arg(before);
                finish(&mut call, frame).map_err(refuse)?;
                &mut call
            }
        };
        self.send_copy(key, &call, token).await
    }

    fn copy_call(
        &self,
        key: &MemoryKey,
        access: Access,
        (copy, attempt): (&str, u64),
    ) -> (Cmd, FencingToken) {
        let mut call = self.call(&COPY, key, &[]);
        let token = right(&mut call, access);
        call.arg(copy).arg(format!("{} {attempt:016x}", COPY_LIFETIME.as_millis()));
        (call, token)
    }

    async fn send_copy(
        &self,
        key: &MemoryKey,
        call: &Cmd,
        token: FencingToken,
    ) -> Result<CopyProgress, StoreError> {
        let failed = |fault| store_error(OPERATION, Some(key), fault);
        match self.write(OPERATION, key, &COPY, call, token).await? {
            Answer::Applied(mut reply) => progress(&mut reply).map_err(failed),
            _ => Err(failed(LinkError::odd_answer())),
        }
    }

    async fn copy_archived(
        &self,
        key: &MemoryKey,
        (call, token): (&Cmd, FencingToken),
        removal: &ArchivedRemoval,
        messages: &[StoredMessage],
        end: Option<&Removed>,
    ) -> Result<CopyProgress, StoreError> {
        let refuse = |kind| StoreError::new(OPERATION, kind).not_applied().at(key);
        let invalid = |problem: &str| refuse(StoreErrorKind::Invalid(problem.into()));
        if let Some(stored) =
            messages.iter().find(|stored| !removal.places.contains(stored.meta.sequence))
        {
            let place = stored.meta.sequence;
            return Err(invalid(&format!(
                "the removal of the copy has no message at place {place}"
            )));
        }
        let taken = taken(removal);
        let receipt = removal.receipt.as_ref().map(|receipt| receipt.id.simple().to_string());
        let mut parts = MessageParts::of(messages);
        let mut part = parts.next().map_err(refuse)?.unwrap_or_default();
        loop {
            let is_last = parts.is_empty();
            let mut call = call.clone();
            call.arg("archived").arg(removal.number).arg(removal.messages);
            match end.filter(|_| is_last) {
                Some(tallies) => {
                    let packed = packed(removal, taken, tallies);
                    call.arg(packed.ok_or_else(|| invalid("the removal cannot be written"))?)
                }
                None => call.arg(""),
            };
            call.arg(receipt.as_deref().unwrap_or_default()).arg(removal.bytes);
            for (stored, text) in part {
                let place = stored.meta.sequence;
                let kept = match place {
                    place if taken == Some(place) => "o",
                    place if removal.has_original(place) => "r",
                    _ => "m",
                };
                call.arg(place.number()).arg(kept).arg(text);
            }
            let progress = self.send_copy(key, &call, token).await?;
            match parts.next().map_err(refuse)? {
                Some(next) => part = next,
                None => return Ok(progress),
            }
        }
    }

    /// The unfinished copy at a key, as a listing of unused memories shows it, with its last change and the time.
    pub(crate) async fn listed_copy(
        &self,
        key: &MemoryKey,
    ) -> Result<Option<(UnusedMemory, u64)>, LinkError> {
        let memory = self.link().keys().memory(key.as_str());
        let found = self.link().send(redis::cmd("HGET").arg(&memory).arg("c")).await?;
        let Value::BulkString(state) = found else { return Ok(None) };
        let now = match self.now() {
            Some(now) => now,
            None => {
                let mut time = Reply::parts(self.link().send(&redis::cmd("TIME")).await?)?;
                let (seconds, micros) = (time.number::<u64>()?, time.number::<u64>()?);
                seconds.saturating_mul(1_000_000).saturating_add(micros)
            }
        };
        let state = String::from_utf8_lossy(&state);
        let mut parts = state.split(' ').skip(1);
        let mut number = || parts.next()?.parse::<u64>().ok();
        let (Some(generation), Some(expires)) = (number(), {
            number();
            number();
            number()
        }) else {
            return Err(LinkError::corrupt(format!("{memory} holds a copy that is not ours")));
        };
        let mut listed = UnusedMemory::new(key.clone(), Generation::new(generation), 0);
        listed.expired = expires <= now;
        Ok(Some((listed, now)))
    }

    /// Removes an unfinished copy that was listed.
    pub(crate) async fn remove_copy(
        &self,
        key: &MemoryKey,
        access: Access,
        generation: Generation,
    ) -> Result<(), StoreError> {
        let (mut call, token) = self.copy_call(key, access, ("0", 0));
        call.arg("discard").arg(generation.number());
        self.write(StoreOperation::Remove, key, &COPY, &call, token).await.map(drop)
    }
}

fn progress(reply: &mut Reply) -> Result<CopyProgress, LinkError> {
    if reply.number::<u8>()? == 1 {
        return Ok(CopyProgress::complete());
    }
    Ok(CopyProgress::reached(Sequence::new(reply.number()?), reply.number()?))
}

/// The messages, with their stored forms, in parts for one script each, because a script blocks all other clients.
struct MessageParts<'a>(std::iter::Peekable<std::slice::Iter<'a, StoredMessage>>);

impl<'a> MessageParts<'a> {
    fn of(messages: &'a [StoredMessage]) -> Self {
        Self(messages.iter().peekable())
    }

    fn is_empty(&mut self) -> bool {
        self.0.peek().is_none()
    }

    /// The next part: so many messages, or up to the message with which it has so many bytes.
    fn next(&mut self) -> Result<Option<Vec<(&'a StoredMessage, String)>>, StoreErrorKind> {
        let (mut part, mut bytes) = (Vec::new(), 0);
        while part.len() < PART_MESSAGES
            && bytes < PART_BYTES
            && let Some(stored) = self.0.next()
        {
            let text = text_of(stored)?;
            bytes += text.len();
            part.push((stored, text));
        }
        Ok((!part.is_empty()).then_some(part))
    }
}

/// The stored form of a message, described in `scripts/memory.lua`.
fn text_of(StoredMessage { meta, message, .. }: &StoredMessage) -> Result<String, StoreErrorKind> {
    let body = message.to_json().map_err(|reason| {
        StoreErrorKind::Invalid(format!("a message of the copy is malformed: {reason}"))
    })?;
    Ok(codec::described_text(meta) + &body)
}

/// The place that the summary of a removal took. Without a receipt it is unknown, and the first place takes its role.
fn taken(removal: &ArchivedRemoval) -> Option<Sequence> {
    match &removal.receipt {
        Some(receipt) => receipt.summary.as_ref().map(|summary| summary.sequence),
        None if removal.cause == RemovalCause::Flush => removal.places.iter().next(),
        None => None,
    }
}

/// A removal in the form that `scripts/archive.lua` describes.
fn packed(
    removal: &ArchivedRemoval,
    taken: Option<Sequence>,
    tallies: &Removed,
) -> Option<Vec<u8>> {
    let cause = match removal.cause {
        RemovalCause::Flush => 'f',
        RemovalCause::Clear => 'c',
        RemovalCause::Withdrawal => 'w',
        _ => return None,
    };
    let keep_until = removal.keep_until.map(|end| end.as_microsecond().to_string());
    let mut to = format!("{cause}{} ", keep_until.unwrap_or_default()).into_bytes();
    let receipt = removal.receipt.as_ref();
    let replaced: Vec<_> = receipt
        .map(|receipt| receipt.replaced.as_slice())
        .unwrap_or_default()
        .iter()
        .filter(|one| removal.places.contains(one.sequence))
        .collect();
    let others = removal.places.without(&replaced.iter().map(|one| one.sequence).collect());
    let has_more = !replaced.is_empty() || !removal.erased.is_empty();
    let classes = u32::try_from(tallies.classes.len()).ok()?;
    encode::write_array_len(&mut to, 14 + classes * 3 + u32::from(has_more)).ok()?;
    encode::write_uint(&mut to, removal.number).ok()?;
    encode::write_str(&mut to, &removal.removed_at.as_microsecond().to_string()).ok()?;
    for number in [removal.bytes, removal.messages, removal.tokens] {
        encode::write_uint(&mut to, number).ok()?;
    }
    encode::write_str(&mut to, &pairs(&others)).ok()?;
    encode::write_uint(&mut to, taken.unwrap_or_default().number()).ok()?;
    let summary = receipt.and_then(|receipt| receipt.summary.as_ref());
    encode::write_str(&mut to, &optional_id(summary.map(|summary| summary.id))).ok()?;
    let Removed { summaries, summarized, evicted, withdrawn, .. } = tallies;
    for number in [summaries, summarized, evicted, withdrawn] {
        encode::write_uint(&mut to, *number).ok()?;
    }
    let id = receipt.map(|receipt| receipt.id.simple().to_string()).unwrap_or_default();
    encode::write_str(&mut to, &id).ok()?;
    let json = receipt.map(serde_json::to_string).transpose().ok()?;
    encode::write_str(&mut to, &json.unwrap_or_default()).ok()?;
    for (class, tally) in &tallies.classes {
        encode::write_str(&mut to, &class.to_string()).ok()?;
        encode::write_uint(&mut to, tally.messages).ok()?;
        encode::write_uint(&mut to, tally.tokens).ok()?;
    }
    if has_more {
        let replaced: Vec<_> = replaced
            .iter()
            .map(|one| format!("{} {}", one.sequence, optional_id(Some(one.id))))
            .collect();
        let mut text = replaced.join(" ");
        if !removal.erased.is_empty() {
            text = format!("{text}/{}", pairs(&removal.erased));
        }
        encode::write_str(&mut to, &text).ok()?;
    }
    Some(to)
}

/// The arguments of the last step.
fn finish(call: &mut Cmd, frame: &Frame) -> Result<(), StoreErrorKind> {
    let counters = &frame.counters;
    let kept = frame.receipts.len() as u64;
    for number in [
        frame.version.max(1),
        frame.last.number(),
        counters.present.messages,
        counters.present.tokens,
        counters.summaries,
        counters.appended,
        counters.summarized,
        counters.evicted,
        counters.cleared,
        counters.withdrawn,
        kept,
    ] {
        call.arg(number);
    }
    call.arg(frame.expires_at.map(|end| end.as_microsecond().to_string()).unwrap_or_default());
    call.arg(frame.next_flush_at.map(|mark| mark.to_string()).unwrap_or_default());
    let newest = frame.receipts.first();
    call.arg(newest.map(|receipt| receipt.id.simple().to_string()).unwrap_or_default());
    call.arg(written(frame.origin.as_ref().map_or(Ok(String::new()), serde_json::to_string))?);
    call.arg(counters.classes.len());
    for (class, tally) in &counters.classes {
        call.arg(Shown(class)).arg(tally.messages).arg(tally.tokens);
    }
    records(call, frame)?;
    if !frame.metadata.is_unset() {
        call.arg("d").arg(packed_metadata(&frame.metadata)?);
    }
    let sessions = frame.writers.iter().filter(|one| one.writer.born_at().is_some()).count();
    if sessions > 0 || frame.forgotten_millis > 0 {
        call.arg("p").arg(format!("0 {sessions} {}", frame.forgotten_millis));
    }
    Ok(())
}

/// The fields of the receipts and of the records of erasures, with their values.
pub(crate) fn records(call: &mut Cmd, frame: &Frame) -> Result<(), StoreErrorKind> {
    for (number, receipt) in frame.receipts.iter().rev().enumerate() {
        call.arg(format!("r{number}")).arg(written(serde_json::to_string(receipt))?);
    }
    if !frame.erasures.is_empty() {
        call.arg("x").arg(frame.erasures.len());
    }
    for (number, erasure) in frame.erasures.iter().rev().enumerate() {
        let Erasure { write, erased_at, generation, .. } = erasure;
        let (writer, at) = (write.writer.bits(), erased_at.as_microsecond());
        let (number_of_write, generation) = (digits(write.number), generation.number());
        let record = written(serde_json::to_string(erasure))?;
        call.arg(format!("x{number}"));
        call.arg(format!("{writer:032x} {number_of_write} {at} {generation} {record}"));
    }
    Ok(())
}

/// The fields of the writers of a memory, with their values.
fn writer_fields(frame: &Frame) -> Vec<(String, String)> {
    let (mut fields, mut sessions) = (Vec::new(), 0_u64);
    for WriterRecord { writer, number, first } in &frame.writers {
        let id = format!("{:032x}", writer.bits());
        let first = first.map(|first| first.number().to_string()).unwrap_or_default();
        fields.push((format!("w{id}"), format!("{} {first}", digits(*number))));
        if let Some(born) = writer.born_at() {
            let is_marked = (sessions + 1).is_multiple_of(64);
            let time =
                if is_marked { format!(" {}", born.saturating_mul(1_000)) } else { String::new() };
            fields.push((format!("s{sessions}"), id + &time));
            sessions += 1;
        }
    }
    fields
}

pub(crate) fn written(json: serde_json::Result<String>) -> Result<String, StoreErrorKind> {
    json.map_err(|error| StoreErrorKind::Invalid(format!("a record cannot be written: {error}")))
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use memory_core::store::{MessageId, MessageMeta};
    use memory_core::{ContentType, Message};
    use uuid::Uuid;

    use super::*;

    #[test]
    fn parts_of_large_messages_are_bounded() {
        let of_length = |(place, length): (u64, usize)| {
            let id = MessageId::new(Uuid::from_u128(place.into()));
            let (sequence, now) = (Sequence::new(place), Timestamp::UNIX_EPOCH);
            // An image has few tokens.
            let meta = MessageMeta::new(sequence, id, ContentType::Conversation, now);
            StoredMessage::new(meta, Message::user("x".repeat(length)))
        };
        let lengths = [10, 10, 1 << 20, 10, 1 << 20, 1 << 20].into_iter();
        let messages: Vec<_> = (1..).zip(lengths).map(of_length).collect();
        let (mut parts, mut counts) = (MessageParts::of(&messages), Vec::new());
        while let Some(part) = parts.next().unwrap() {
            counts.push(part.len());
        }
        assert_eq!((counts, parts.is_empty()), (vec![3, 2, 1], true));
    }
}
