//! The archive: its settings, the reads of removals and of their messages, and the return of a removal.

use std::num::NonZeroUsize;

use jiff::Timestamp;
use memory_core::store::{
    Access, ArchivedRemoval, Counters, FLUSH_HELD, Generation, RemovalCause, Restore,
    RestoreRefusal, Retention, SequenceSet, StoreError, StoreErrorKind, StoreOperation,
};
use memory_core::{MemoryKey, Sequence, StoredMessage};
use memory_redis_link::{LinkError, Reply};
use rmp::decode;

use crate::codec::{self, text};
use crate::commands::{named, right};
use crate::error::store_error;
use crate::reads::{PART_BYTES, RESTARTS, text_of, warn_unreadable};
use crate::scripts::{ARCHIVED, REMOVALS, RESTORE};
use crate::store::RedisStore;

/// The retention as scripts read it: the microseconds, empty for no end, and the bytes; empty without an archive.
pub(crate) fn settings(archive: Option<Retention>) -> String {
    let Some(Retention { keep, max_bytes, .. }) = archive else { return String::new() };
    format!("{} {max_bytes}", crate::append::micros(keep))
}

/// The reason for which the script refused to undo a removal.
pub(crate) fn refusal(reason: &str) -> Result<RestoreRefusal, LinkError> {
    Ok(match reason {
        "A" => RestoreRefusal::NotArchived,
        "C" => RestoreRefusal::Cleared,
        "R" => RestoreRefusal::SummaryRemoved,
        "P" => RestoreRefusal::SummaryReplaced,
        "M" => RestoreRefusal::ReplacementRemoved,
        "Q" => RestoreRefusal::ReplacementReplaced,
        _ => return Err(LinkError::odd_answer()),
    })
}

/// A removal in the form that `scripts/archive.lua` describes; `None` for anything else.
fn removal(stored: &[u8]) -> Option<ArchivedRemoval> {
    let space = stored.iter().position(|byte| *byte == b' ')?;
    let (kept, rest) = stored.split_at_checked(space)?;
    let (mut rest, kept) = (rest.get(1..)?, std::str::from_utf8(kept).ok()?);
    let (cause, keep_until) = kept.split_at_checked(1)?;
    let cause = match cause {
        "f" => RemovalCause::Flush,
        "c" => RemovalCause::Clear,
        "w" => RemovalCause::Withdrawal,
        _ => return None,
    };
    let time = |micros: &str| Timestamp::from_microsecond(micros.parse().ok()?).ok();
    let elements = decode::read_array_len(&mut rest).ok()?.checked_sub(KEPT)?;
    let number = decode::read_int(&mut rest).ok()?;
    let removed_at = time(text(&mut rest)?)?;
    let mut removal = ArchivedRemoval::new(number, cause, removed_at, &Retention::forever());
    // A time past the end of time is none.
    removal.keep_until = time(keep_until);
    removal.bytes = decode::read_int(&mut rest).ok()?;
    removal.messages = decode::read_int(&mut rest).ok()?;
    removal.tokens = decode::read_int(&mut rest).ok()?;
    removal.places = places(text(&mut rest)?)?;
    decode::read_int::<u64, _>(&mut rest).ok()?;
    text(&mut rest)?;
    for _ in 0..4 {
        decode::read_int::<u64, _>(&mut rest).ok()?;
    }
    text(&mut rest)?;
    removal.receipt = match text(&mut rest)? {
        "" => None,
        receipt => Some(serde_json::from_str(receipt).ok()?),
    };
    for _ in 0..elements / 3 {
        text(&mut rest)?;
        decode::read_int::<u64, _>(&mut rest).ok()?;
        decode::read_int::<u64, _>(&mut rest).ok()?;
    }
    match elements % 3 {
        0 => {}
        1 => add_replaced(&mut removal.places, text(&mut rest)?)?,
        _ => return None,
    }
    Some(removal)
}

/// The elements of a removal before its classes, as `scripts/archive.lua` lists them.
const KEPT: u32 = 14;

/// Adds the places of replaced messages, each followed by the id of the new message.
fn add_replaced(places: &mut SequenceSet, replaced: &str) -> Option<()> {
    let replaced = replaced.split(' ').step_by(2).map(|place| place.parse().ok());
    let replaced: SequenceSet =
        replaced.map(|place| place.map(Sequence::new)).collect::<Option<_>>()?;
    *places = places.union(&replaced);
    Some(())
}

/// Places from pairs `first last first last ...`.
fn places(pairs: &str) -> Option<SequenceSet> {
    if pairs.is_empty() {
        return Some(SequenceSet::default());
    }
    let numbers: Option<Vec<u64>> = pairs.split(' ').map(|number| number.parse().ok()).collect();
    let numbers = numbers?;
    let (pairs, []) = numbers.as_chunks::<2>() else { return None };
    serde_json::from_value(serde_json::to_value(pairs).ok()?).ok()
}

impl RedisStore {
    pub(crate) async fn restore_removal(
        &self,
        key: &MemoryKey,
        access: Access,
        restore: &Restore,
    ) -> Result<Counters, StoreError> {
        let mut call = self.call(&RESTORE, key, &[]);
        let token = right(&mut call, access);
        named(&mut call, restore.write);
        call.arg(restore.spread());
        call.arg(restore.receipt.simple().to_string());
        call.arg(FLUSH_HELD);
        self.counted(StoreOperation::Restore, key, &RESTORE, &call, token).await
    }

    pub(crate) async fn list_removals(
        &self,
        key: &MemoryKey,
        before: Option<u64>,
        limit: NonZeroUsize,
    ) -> Result<Vec<ArchivedRemoval>, StoreError> {
        for bytes in attempts() {
            let found = self.attempt_removals(key, before, limit.get(), bytes).await;
            if let Some(found) = found.map_err(|fault| store_error(OPERATION, Some(key), fault))? {
                return Ok(found);
            }
        }
        Err(busy(key))
    }

    /// `None` if the memory changed between two parts.
    async fn attempt_removals(
        &self,
        key: &MemoryKey,
        before: Option<u64>,
        limit: usize,
        bytes: usize,
    ) -> Result<Option<Vec<ArchivedRemoval>>, LinkError> {
        let mut all = Vec::new();
        let mut reached: Option<(Generation, u64)> = None;
        loop {
            let arguments = [
                before.map(|number| number.to_string()).unwrap_or_default(),
                reached.map(|(_, index)| index.to_string()).unwrap_or_default(),
                (limit - all.len()).to_string(),
                bytes.to_string(),
            ];
            let mut reply = Reply::parts(self.look(key, &REMOVALS, &arguments).await?)?;
            let (generation, next) = (Generation::new(reply.number()?), reply.number()?);
            if reached.is_some_and(|(before, _)| before != generation) {
                return Ok(None);
            }
            while !reply.is_empty() {
                match removal(&reply.bytes()?) {
                    Some(removal) => all.push(removal),
                    None => tracing::warn!(%key, "an archived removal cannot be read"),
                }
            }
            if next == 0 || all.len() >= limit {
                return Ok(Some(all));
            }
            reached = Some((generation, next));
        }
    }

    pub(crate) async fn archived_messages(
        &self,
        key: &MemoryKey,
        removal: u64,
        after: Sequence,
        limit: NonZeroUsize,
    ) -> Result<Vec<StoredMessage>, StoreError> {
        for bytes in attempts() {
            let found = self.attempt_archived(key, removal, after, limit.get(), bytes).await;
            if let Some(found) = found.map_err(|fault| store_error(OPERATION, Some(key), fault))? {
                return Ok(found);
            }
        }
        Err(busy(key))
    }

    /// `None` if the memory changed between two parts.
    async fn attempt_archived(
        &self,
        key: &MemoryKey,
        removal: u64,
        mut after: Sequence,
        limit: usize,
        bytes: usize,
    ) -> Result<Option<Vec<StoredMessage>>, LinkError> {
        let mut all = Vec::new();
        let mut read_in = None;
        loop {
            let arguments = [
                removal.to_string(),
                after.to_string(),
                (limit - all.len()).to_string(),
                bytes.to_string(),
            ];
            let mut reply = Reply::parts(self.look(key, &ARCHIVED, &arguments).await?)?;
            let generation = Generation::new(reply.number()?);
            if read_in.is_some_and(|before| before != generation) {
                return Ok(None);
            }
            let more = reply.number::<u8>()? == 1;
            while !reply.is_empty() {
                let (place, text) = (Sequence::new(reply.number()?), text_of(reply.value()?));
                after = place;
                let text = text.ok_or_else(|| "it is not UTF-8".to_owned());
                match text.and_then(|text| codec::stored(place, &text)) {
                    Ok(message) => all.push(message),
                    Err(reason) => warn_unreadable(key, place, &reason),
                }
            }
            if !more || all.len() >= limit {
                return Ok(Some(all));
            }
            read_in = Some(generation);
        }
    }
}

const OPERATION: StoreOperation = StoreOperation::Read;

/// The bytes of the parts of a read in each attempt. Every change of an archive changes the generation, so parts of
/// one generation are one snapshot. After some attempts the parts are as large as possible, so that few changes
/// can interfere.
fn attempts() -> impl Iterator<Item = usize> {
    (0..=2 * RESTARTS).map(|attempt| if attempt < RESTARTS { PART_BYTES } else { usize::MAX })
}

/// The error for an archive that changed during each attempt to read it.
fn busy(key: &MemoryKey) -> StoreError {
    let reason = "its archive changed during each of many attempts to read it; read it again";
    StoreError::new(OPERATION, StoreErrorKind::Corrupt(reason.into())).not_applied().at(key)
}
