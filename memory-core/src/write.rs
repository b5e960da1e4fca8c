//! How a store tells a retry from a new write.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest, Sha256};

/// A source of writes that come one after another.
///
/// A store keeps one small row for each writer of a memory and accepts each of the writer's numbers
/// once, in increasing order: the idempotent producer of Apache Kafka (KIP-98). That recognises a
/// retry for as long as the memory lives, at a cost that grows with the writers of a memory and not with its
/// history: whoever starts a process, or a handle, for each write has a row kept for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WriterId(u128);

impl WriterId {
    /// The writer with these bits, random ones for a writer that lives as long as its process.
    #[must_use]
    pub const fn new(bits: u128) -> Self {
        Self(bits)
    }

    /// The writer with this name, the same in every process and after every restart. Give it
    /// numbers that a source repeats after a crash, such as the offsets of a log or the lines of a
    /// file, and nothing is appended twice.
    #[must_use]
    pub fn named(name: &str) -> Self {
        let hash = Sha256::digest(name.as_bytes());
        Self(hash.iter().take(16).fold(0, |bits, byte| bits << 8 | u128::from(*byte)))
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

/// As 32 hexadecimal digits, for not every format has numbers of 128 bits.
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
    /// Whose write.
    pub writer: WriterId,
    /// Which of its writes; greater than those before it, not necessarily by one.
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
    fn a_named_writer_is_the_same_everywhere() {
        // The first 16 bytes of the SHA-256 of "abc" (FIPS 180-2, appendix B.1).
        assert_eq!(WriterId::named("abc").bits(), 0xba78_16bf_8f01_cfea_4141_40de_5dae_2223);
        assert_ne!(WriterId::named("a"), WriterId::named("b"));
    }

    #[test]
    fn a_write_is_one_of_a_writer_and_the_writer_is_stored_as_its_bits() {
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
