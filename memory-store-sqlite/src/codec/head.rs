//! The row of a memory.

use std::collections::BTreeMap;

use memory_core::Sequence;
use memory_core::lease::FencingToken;
use memory_core::plan::Class;
use memory_core::store::{Generation, Head, StoreErrorKind, Tally, WriterId};
use rusqlite::Row;
use rusqlite::types::Type;
use uuid::Uuid;

use super::{UnknownForm, int, odd, timestamp, unsigned};
use crate::schema::SEQUENCE_BITS;

/// The row of a memory.
#[derive(Debug, Clone, Default)]
pub(crate) struct HeadRow {
    /// 0 for a memory that has no row yet.
    pub(crate) id: i64,
    pub(crate) head: Head,
    /// The number of the newest receipt, counted from 1.
    pub(crate) receipts: u64,
    /// The id of the newest receipt.
    pub(crate) receipt: Option<Uuid>,
    /// The most recent writers, the latest last.
    pub(crate) writers: Vec<LastWrite>,
    /// The newest time of origin of a session writer whose record was pruned, in milliseconds.
    pub(crate) forgotten: u64,
    /// The copy that is not complete. The memory can then be neither read nor written.
    pub(crate) unfinished: Option<Unfinished>,
}

/// A copy that is not complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unfinished {
    pub(crate) copy: Uuid,
    pub(crate) attempt: u64,
}

/// The first byte of the writers of an unfinished copy, before the copy's id and its attempt. Their length is that of no list of
/// writers, so no column is needed that each append would have to write.
const UNFINISHED: u8 = b'u';

/// The newest write of a writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LastWrite {
    pub(crate) writer: WriterId,
    pub(crate) number: u64,
    /// The place of its first message; a clear has none.
    pub(crate) first: Option<Sequence>,
}

impl LastWrite {
    const BYTES: usize = 32;

    /// The writer's bits, the number and the place (0 for none), each with the highest byte first.
    fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        let first = self.first.unwrap_or_default().number();
        let parts = self.writer.bits().to_be_bytes().into_iter();
        let parts = parts.chain(self.number.to_be_bytes()).chain(first.to_be_bytes());
        for (to, from) in bytes.iter_mut().zip(parts) {
            *to = from;
        }
        bytes
    }

    fn from_bytes(bytes: &[u8; Self::BYTES]) -> Self {
        let number =
            |part: &[u8]| part.iter().fold(0_u128, |bits, byte| bits << 8 | u128::from(*byte));
        let (writer, rest) = bytes.split_at(16);
        let (count, first) = rest.split_at(8);
        // Eight bytes are never more than 64 bits.
        let short = |part| u64::try_from(number(part)).unwrap_or_default();
        let first = Sequence::new(short(first));
        Self {
            writer: WriterId::new(number(writer)),
            number: short(count),
            first: (first > Sequence::ZERO).then_some(first),
        }
    }
}

pub(crate) const SELECT_HEAD: &str = "
SELECT id, generation, version, last, fence, flush_fence, next_flush_at, expires_at, messages,
       tokens, summaries, appended, summarised, evicted, cleared, classes, receipts, receipt,
       writers, forgotten, withdrawn
FROM memory WHERE key = ?1";

impl HeadRow {
    pub(crate) fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        let classes = row.get_ref(15)?.as_str()?;
        let classes: BTreeMap<Class, Tally> =
            serde_json::from_str(classes).map_err(|error| odd(15, Type::Text, error))?;
        let expires_at =
            row.get::<_, Option<i64>>(7)?.map(|micros| timestamp(7, micros)).transpose()?;
        let mut head = Head::default();
        head.generation = Generation::new(unsigned(row, 1)?);
        head.version = unsigned(row, 2)?;
        head.last = Sequence::new(unsigned(row, 3)?);
        head.fence = FencingToken::new(unsigned(row, 4)?);
        head.flush_fence = FencingToken::new(unsigned(row, 5)?);
        head.next_flush_at = row.get::<_, Option<i64>>(6)?.map(i64::cast_unsigned);
        head.expires_at = expires_at;
        let counters = &mut head.counters;
        counters.present = Tally { messages: unsigned(row, 8)?, tokens: unsigned(row, 9)? };
        counters.classes = classes;
        counters.summaries = unsigned(row, 10)?;
        counters.appended = unsigned(row, 11)?;
        counters.summarized = unsigned(row, 12)?;
        counters.evicted = unsigned(row, 13)?;
        counters.cleared = unsigned(row, 14)?;
        counters.withdrawn = unsigned(row, 20)?;
        let receipt = row.get::<_, Option<[u8; 16]>>(17)?.map(Uuid::from_bytes);
        let (writers, rest) = row.get_ref(18)?.as_blob()?.as_chunks();
        let unfinished = match rest {
            [] => None,
            [UNFINISHED, id @ ..] if writers.is_empty() => {
                let (copy, attempt) = id.split_at_checked(16).unwrap_or((id, &[]));
                let copy = Uuid::from_slice(copy).map_err(|error| odd(18, Type::Blob, error))?;
                let attempt = <[u8; 8]>::try_from(attempt);
                let attempt = attempt.map_err(|error| odd(18, Type::Blob, error))?;
                Some(Unfinished { copy, attempt: u64::from_be_bytes(attempt) })
            }
            _ => return Err(odd(18, Type::Blob, UnknownForm)),
        };
        let writers = writers.iter().map(LastWrite::from_bytes).collect();
        let (receipts, forgotten) = (unsigned(row, 16)?, unsigned(row, 19)?);
        Ok(Self { id: row.get(0)?, head, receipts, receipt, writers, forgotten, unfinished })
    }

    pub(crate) fn writers(&self) -> Vec<u8> {
        if let Some(Unfinished { copy, attempt }) = self.unfinished {
            let id = copy.into_bytes().into_iter().chain(attempt.to_be_bytes());
            return std::iter::once(UNFINISHED).chain(id).collect();
        }
        self.writers.iter().copied().flat_map(LastWrite::to_bytes).collect()
    }

    pub(crate) fn is_alive(&self, now_micros: u64) -> bool {
        self.head.expires_at.is_none_or(|end| int(now_micros) < end.as_microsecond())
    }

    pub(crate) fn classes(&self) -> Result<String, StoreErrorKind> {
        // Classes are strings and tallies are numbers, so this cannot fail.
        serde_json::to_string(&self.head.counters.classes)
            .map_err(|error| StoreErrorKind::Other(format!("cannot encode counters: {error}")))
    }

    /// The key of the message at this place; none for a place that a file cannot represent.
    pub(crate) const fn place(&self, sequence: Sequence) -> Option<i64> {
        let number = sequence.number();
        if number >> SEQUENCE_BITS == 0 { Some(self.first_place() | int(number)) } else { None }
    }

    /// The key below those of all messages of this memory.
    pub(crate) const fn first_place(&self) -> i64 {
        self.id << SEQUENCE_BITS
    }

    /// The key of the last message that this memory could have.
    pub(crate) const fn last_place(&self) -> i64 {
        self.first_place() | ((1 << SEQUENCE_BITS) - 1)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn places_of_different_memories_never_meet(
            a in (1..1_i64 << 27, 1..1_u64 << 36),
            b in (1..1_i64 << 27, 1..1_u64 << 36),
        ) {
            let place = |(id, number)| {
                let row = HeadRow { id, ..HeadRow::default() };
                let place = row.place(Sequence::new(number)).unwrap();
                assert!(row.first_place() < place && place <= row.last_place());
                place
            };
            prop_assert_eq!(place(a) == place(b), a == b);
        }
    }

    proptest! {
        #[test]
        fn last_write_of_a_writer_reads_back(
            writer in any::<u128>(),
            number in any::<u64>(),
            first in prop::option::of(1..u64::MAX),
        ) {
            let writer = WriterId::new(writer);
            let last = LastWrite { writer, number, first: first.map(Sequence::new) };
            prop_assert_eq!(LastWrite::from_bytes(&last.to_bytes()), last);
        }
    }

    #[test]
    fn place_beyond_the_last_is_none() {
        let row = HeadRow { id: 7, ..HeadRow::default() };
        assert_eq!(row.place(Sequence::new(1 << SEQUENCE_BITS)), None);
    }
}
