//! The archive: its settings, the reads of removals and of their messages, and the return of a removal.

use std::num::NonZeroUsize;

use jiff::Timestamp;
use memory_core::store::{
    Access, ArchivedRemoval, Counters, FLUSH_HELD, Generation, PageLimit, RemovalCause, Restore,
    RestoreRefusal, Retention, SequenceSet, StoreError, StoreErrorKind, StoreOperation,
};
use memory_core::{MemoryKey, Sequence, StoredMessage};
use memory_redis_link::{LinkError, Reply};
use rmp::{decode, encode};

use crate::codec::{self, text};
use crate::commands::{named, right};
use crate::error::store_error;
use crate::reads::{PART_BYTES, RESTARTS, log_unreadable, text_of};
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
        "E" => RestoreRefusal::Erased,
        "R" => RestoreRefusal::SummaryRemoved,
        "P" => RestoreRefusal::SummaryReplaced,
        "M" => RestoreRefusal::ReplacementRemoved,
        "Q" => RestoreRefusal::ReplacementReplaced,
        _ => return Err(LinkError::odd_answer()),
    })
}

/// A removal in the form that `scripts/archive.lua` describes; `None` for anything else.
pub(crate) fn removal(stored: &[u8]) -> Option<ArchivedRemoval> {
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
        1 => {
            let (replaced, erased) = more(text(&mut rest)?)?;
            removal.places = removal.places.union(&replaced_places(&replaced));
            removal.erased = erased;
        }
        _ => return None,
    }
    Some(removal)
}

/// The elements of a removal before its classes, as `scripts/archive.lua` lists them.
const KEPT: u32 = 14;

/// The place of a replaced message, and the id of the new one.
type Replaced = (Sequence, String);

/// The replaced messages and the erased places, from the text after the classes.
fn more(text: &str) -> Option<(Vec<Replaced>, SequenceSet)> {
    let (replaced, erased) = text.split_once('/').unwrap_or((text, ""));
    let replaced: Vec<_> = replaced.split_ascii_whitespace().collect();
    let (replaced, []) = replaced.as_chunks::<2>() else { return None };
    let one =
        |[place, id]: &[&str; 2]| Some((Sequence::new(place.parse().ok()?), (*id).to_owned()));
    Some((replaced.iter().map(one).collect::<Option<_>>()?, places(erased)?))
}

fn replaced_places(replaced: &[Replaced]) -> SequenceSet {
    replaced.iter().map(|(place, _)| *place).collect()
}

/// Where a removal keeps its messages: the place that its summary took, and those of replaced messages.
pub(crate) struct Layout {
    pub(crate) taken: Option<Sequence>,
    pub(crate) replaced: SequenceSet,
}

/// The layout of a stored removal; `None` for a form that this version does not write.
pub(crate) fn layout(stored: &[u8]) -> Option<Layout> {
    let space = stored.iter().position(|byte| *byte == b' ')?;
    let mut rest = stored.get(space + 1..)?;
    let elements = decode::read_array_len(&mut rest).ok()?.checked_sub(KEPT)?;
    let numbers = |rest: &mut &[u8], count: u32| -> Option<u64> {
        let mut last = 0;
        for _ in 0..count {
            last = decode::read_int(rest).ok()?;
        }
        Some(last)
    };
    numbers(&mut rest, 1)?;
    text(&mut rest)?;
    numbers(&mut rest, 3)?;
    text(&mut rest)?;
    let taken = numbers(&mut rest, 1)?;
    text(&mut rest)?;
    numbers(&mut rest, 4)?;
    text(&mut rest)?;
    text(&mut rest)?;
    for _ in 0..elements / 3 {
        text(&mut rest)?;
        numbers(&mut rest, 2)?;
    }
    let replaced = match elements % 3 {
        1 => replaced_places(&more(text(&mut rest)?)?.0),
        _ => SequenceSet::default(),
    };
    Some(Layout { taken: (taken > 0).then(|| Sequence::new(taken)), replaced })
}

/// The stored form of a removal after an erasure; `None` for a form that this version does not write.
pub(crate) fn after_erasure(stored: &[u8], after: &ArchivedRemoval) -> Option<Vec<u8>> {
    let before = removal(stored)?;
    let space = stored.iter().position(|byte| *byte == b' ')?;
    let (kept, mut rest) = stored.split_at_checked(space + 1)?;
    let mut packed = kept.to_vec();
    let elements = decode::read_array_len(&mut rest).ok()?.checked_sub(KEPT)?;
    let classes = elements / 3;
    encode::write_array_len(&mut packed, KEPT + classes * 3 + 1).ok()?;
    let number = |rest: &mut &[u8], packed: &mut Vec<u8>, other: Option<u64>| {
        let number = decode::read_int::<u64, _>(rest).ok()?;
        encode::write_uint(packed, other.unwrap_or(number)).ok()
    };
    let copied = |rest: &mut &[u8], packed: &mut Vec<u8>, other: Option<&str>| {
        let found = text(rest)?;
        encode::write_str(packed, other.unwrap_or(found)).ok()
    };
    number(&mut rest, &mut packed, None)?;
    copied(&mut rest, &mut packed, None)?;
    for changed in [after.bytes, after.messages, after.tokens] {
        number(&mut rest, &mut packed, Some(changed))?;
    }
    let is_left = |place: &Sequence| after.places.contains(*place);
    let left: SequenceSet = places(text(&mut rest)?)?.iter().filter(is_left).collect();
    encode::write_str(&mut packed, &pairs(&left)).ok()?;
    number(&mut rest, &mut packed, None)?;
    copied(&mut rest, &mut packed, None)?;
    for _ in 0..4 {
        number(&mut rest, &mut packed, None)?;
    }
    copied(&mut rest, &mut packed, None)?;
    let receipt = if after.receipt == before.receipt {
        None
    } else {
        Some(serde_json::to_string(after.receipt.as_ref()?).ok()?)
    };
    copied(&mut rest, &mut packed, receipt.as_deref())?;
    for _ in 0..classes {
        copied(&mut rest, &mut packed, None)?;
        for _ in 0..2 {
            number(&mut rest, &mut packed, None)?;
        }
    }
    let mut replaced = match elements % 3 {
        1 => more(text(&mut rest)?)?.0,
        _ => Vec::new(),
    };
    replaced.retain(|(place, _)| is_left(place));
    let replaced: Vec<_> =
        replaced.into_iter().map(|(place, id)| format!("{place} {id}")).collect();
    let end = format!("{}/{}", replaced.join(" "), pairs(&after.erased));
    encode::write_str(&mut packed, &end).ok()?;
    Some(packed)
}

/// Places as pairs `first last first last ...`.
pub(crate) fn pairs(places: &SequenceSet) -> String {
    let numbers = places.ranges().iter().flat_map(|(first, last)| [first, last]);
    numbers.map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

/// Places from pairs `first last first last ...`.
fn places(pairs: &str) -> Option<SequenceSet> {
    let numbers: Option<Vec<u64>> =
        pairs.split_ascii_whitespace().map(|number| number.parse().ok()).collect();
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
        self.counted_in_parts(StoreOperation::Restore, key, &RESTORE, &call, token).await
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
        limit: PageLimit,
    ) -> Result<Vec<StoredMessage>, StoreError> {
        for bytes in attempts() {
            let found = self.attempt_archived(key, removal, after, limit, bytes).await;
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
        limit: PageLimit,
        bytes: usize,
    ) -> Result<Option<Vec<StoredMessage>>, LinkError> {
        let part = u64::try_from(bytes).unwrap_or(u64::MAX);
        let (mut all, mut read) = (Vec::new(), 0_u64);
        let mut read_in = None;
        loop {
            let arguments = [
                removal.to_string(),
                after.to_string(),
                (limit.messages.get() - all.len()).to_string(),
                part.min(limit.bytes.saturating_sub(read)).to_string(),
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
                let length = text.as_ref().map_or(0, String::len);
                read = read.saturating_add(u64::try_from(length).unwrap_or(u64::MAX));
                let text = text.ok_or_else(|| "it is not UTF-8".to_owned());
                match text.and_then(|text| codec::stored(place, &text)) {
                    Ok(message) => all.push(message),
                    Err(reason) => log_unreadable(key, place, &reason),
                }
            }
            if !more || limit.is_reached(all.len(), read) {
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
