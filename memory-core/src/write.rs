//! Writers and writes: how a store distinguishes a retry from a new write.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest, Sha256};

/// The minimum time that a store keeps the record of a session writer, counted from the writer's first write to the
/// memory.
pub const SESSION_RETENTION: Duration = Duration::from_secs(600);

/// The maximum time that a process uses one session writer. A retry is therefore recognized for at least the rest of
/// the retention after its write was made.
pub const SESSION_LIFETIME: Duration = Duration::from_secs(300);

/// The number of a memory's newest session writers that are kept at any age.
pub const KEPT_SESSIONS: usize = 64;

/// The first 32 bits of a session writer. UUIDs, which earlier versions used, never begin with these bits, and hashed
/// names only with a chance of one in 2^32.
const SESSION_MARK: u128 = 0x5E55_1096;

const TIME_MASK: u64 = (1 << 44) - 1;

const RANDOM_MASK: u64 = (1 << 52) - 1;

/// A source of consecutive writes.
///
/// A store keeps one small record for each writer of a memory and accepts each of the writer's numbers once, in
/// increasing order, like the idempotent producer of Apache Kafka (KIP-98). The cost of recognizing retries grows
/// with the number of writers of a memory, not with its history.
///
/// - The record of a [named](Self::named) writer is kept as long as the memory lives, because the import of a file
///   may be repeated at any time.
/// - The record of a [session](Self::session) writer, which lives at most as long as its process, may be pruned once
///   it is older than [`SESSION_RETENTION`] and at least [`KEPT_SESSIONS`] session writers came after it. The store
///   remembers the newest creation time that it pruned. It refuses a writer without a record from that time or before
///   with [`StoreErrorKind::WriterForgotten`](crate::store::StoreErrorKind::WriterForgotten), and never accepts it as new.
///   SQLite counts the age from the creation time, other stores from the first write.
/// - Any other writer ([`new`](Self::new)) is kept like a named one. So are the writers of processes of earlier
///   versions, which cannot be distinguished from named ones: `clear` does not free their records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WriterId(u128);

impl WriterId {
    /// The writer with these bits. Its record is kept as long as the memory lives; use [`session`](Self::session) for
    /// short-lived writers.
    #[must_use]
    pub const fn new(bits: u128) -> Self {
        Self(bits)
    }

    /// The writer with this name, the same in every process and after every restart. Use numbers that a source
    /// repeats after a crash, such as the offsets of a log or the lines of a file, so that no message is appended
    /// twice.
    #[must_use]
    pub fn named(name: &str) -> Self {
        let hash = Sha256::digest(name.as_bytes());
        let named = Self(hash.iter().take(16).fold(0, |bits, byte| bits << 8 | u128::from(*byte)));
        // One name in 2^32 would otherwise be mistaken for a session.
        if named.born_at().is_some() { Self(!named.0) } else { named }
    }

    /// A writer that a process created at this time, in milliseconds since 1970. Uses 52 bits of
    /// `random`.
    ///
    /// Use it for at most [`SESSION_LIFETIME`], then create another: its record may be pruned [`SESSION_RETENTION`]
    /// after its first write to a memory.
    #[must_use]
    pub const fn session(born_millis: u64, random: u64) -> Self {
        let born = (born_millis & TIME_MASK) as u128;
        let random = (random & RANDOM_MASK) as u128;
        Self(SESSION_MARK << 96 | born << 52 | random)
    }

    /// The creation time of a session writer, in milliseconds since 1970; `None` for all others.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "the mask leaves 44 bits")]
    pub const fn born_at(self) -> Option<u64> {
        if self.0 >> 96 == SESSION_MARK { Some((self.0 >> 52) as u64 & TIME_MASK) } else { None }
    }

    /// The bits.
    #[must_use]
    pub const fn bits(self) -> u128 {
        self.0
    }

    /// The write of this writer with this number.
    #[must_use]
    pub const fn write(self, number: u64) -> WriteId {
        WriteId { writer: self, number }
    }
}

/// As 32 hexadecimal digits, because some formats have no 128-bit numbers.
impl Serialize for WriterId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:032x}", self.0))
    }
}

impl<'de> Deserialize<'de> for WriterId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let digits = String::deserialize(deserializer)?;
        u128::from_str_radix(&digits, 16).map(Self).map_err(de::Error::custom)
    }
}

/// One write of one writer. Sending it again is safe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct WriteId {
    /// The writer.
    pub writer: WriterId,
    /// The number of the write; greater than all before it, not necessarily by one.
    pub number: u64,
}

impl WriteId {
    /// The only write of a writer with this name: an idempotency key.
    #[must_use]
    pub fn once(name: &str) -> Self {
        WriterId::named(name).write(1)
    }
}

impl fmt::Display for WriteId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}:{}", self.writer.0, self.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn named_writer_is_deterministic() {
        // The first 16 bytes of the SHA-256 of "abc" (FIPS 180-2, appendix B.1).
        assert_eq!(WriterId::named("abc").bits(), 0xba78_16bf_8f01_cfea_4141_40de_5dae_2223);
        assert_ne!(WriterId::named("a"), WriterId::named("b"));
    }

    #[test]
    fn session_contains_its_creation_time() {
        let writer = WriterId::session(1_780_000_000_123, u64::MAX);
        assert_eq!(writer.born_at(), Some(1_780_000_000_123));
        assert_eq!(writer.write(1).to_string(), "5e55109619e7044887bfffffffffffff:1");
        let later = WriterId::session(1_780_000_000_124, 0);
        assert!(writer < later, "sessions are ordered by their time");
        assert_eq!(WriterId::session(u64::MAX, 0).born_at(), Some(TIME_MASK));
        for other in [WriterId::new(7), WriterId::named("abc"), WriterId::new(u128::MAX)] {
            assert_eq!(other.born_at(), None);
        }
        assert!(SESSION_LIFETIME < SESSION_RETENTION);
    }

    #[test]
    fn writer_is_stored_as_its_bits() {
        let writer = WriterId::new(0xab);
        let write = writer.write(7);
        assert_eq!((write.writer, write.number), (writer, 7));
        let digits = format!("{}ab", "0".repeat(30));
        assert_eq!(write.to_string(), format!("{digits}:7"));
        let json = serde_json::to_string(&write).unwrap();
        assert_eq!(json, format!(r#"{{"writer":"{digits}","number":7}}"#));
        assert_eq!(serde_json::from_str::<WriteId>(&json).unwrap(), write);
        assert!(serde_json::from_str::<WriterId>("\"xyz\"").is_err());
        assert_eq!(WriteId::once("a"), WriterId::named("a").write(1));
    }
}
