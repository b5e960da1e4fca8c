//! What a store must know about leases: who holds one, and which token proves it.
//!
//! A lease grants one owner exclusive use of a key for a while. Its *fencing token* orders all
//! grants of that key for ever, so that a store can turn away a holder whose lease ran out while it
//! was stopped: a lease alone is an optimisation, the token is the safety (M. Kleppmann, "How to do
//! distributed locking", 2016).

use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The number of a grant. Of two grants of one key, the later one has the greater token.
///
/// Lease backends give out `max(last + 1, server clock in microseconds)`, so tokens do not go back
/// when a backend forgets what it gave out before.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct FencingToken(u64);

impl FencingToken {
    /// Lower than every token that a backend gives out.
    pub const ZERO: Self = Self(0);

    /// The token with this number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number itself.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0
    }

    /// The number for a signed column, as SQL databases have them; tokens compare as these do.
    ///
    /// Saturates at `i64::MAX`, which tokens in microseconds reach in the year 294,247.
    #[must_use]
    pub const fn as_i64(self) -> i64 {
        if self.0 > i64::MAX as u64 { i64::MAX } else { self.0.cast_signed() }
    }

    /// The token of the grant after this one, at a backend whose clock shows `now_micros`.
    #[must_use]
    pub const fn next(self, now_micros: u64) -> Self {
        let after = self.0.saturating_add(1);
        Self(if now_micros > after { now_micros } else { after })
    }
}

impl fmt::Display for FencingToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Who holds a lease: 128 random bits, fresh for every acquisition.
///
/// Never one per process or per lock object: a late release would then free a successor's lease.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OwnerId(u128);

impl OwnerId {
    /// The owner with these bits; they come from a random generator of the caller's.
    #[must_use]
    pub const fn new(bits: u128) -> Self {
        Self(bits)
    }

    /// The bits.
    #[must_use]
    pub const fn bits(self) -> u128 {
        self.0
    }
}

impl fmt::Display for OwnerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for OwnerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OwnerId({self})")
    }
}

impl FromStr for OwnerId {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u128::from_str_radix(text, 16).map(Self)
    }
}

/// In its text form, for not every format has numbers of 128 bits.
impl Serialize for OwnerId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for OwnerId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// What the holder of a lease shows to a store with each write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LeaseProof {
    /// The owner to which the lease was granted.
    pub owner: OwnerId,
    /// The token of that grant.
    pub token: FencingToken,
}

/// Names the place where leases live (a file, a server and database), so that a store and a lease
/// backend can find out whether they share it.
///
/// Equal domains mean that a store can check a lease in the same atomic step as its write.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LeaseDomain(String);

impl LeaseDomain {
    /// The domain with this name, such as `sqlite:` and the canonical path of the file.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn signed_numbers_keep_the_order_of_tokens() {
        let max = i64::MAX.unsigned_abs();
        let signed = [0, 1, max - 1, max, max + 1, u64::MAX].map(|n| FencingToken::new(n).as_i64());
        assert_eq!(signed, [0, 1, i64::MAX - 1, i64::MAX, i64::MAX, i64::MAX]);
    }

    proptest! {
        #[test]
        fn the_next_token_is_greater_and_not_behind_the_clock(
            last in 0..u64::MAX,
            now in any::<u64>(),
        ) {
            let next = FencingToken::new(last).next(now);
            prop_assert!(next > FencingToken::new(last));
            prop_assert!(next.number() >= now);
        }

        #[test]
        fn an_owner_reads_back_from_its_text(bits in any::<u128>()) {
            let owner = OwnerId::new(bits);
            prop_assert_eq!(owner.to_string().parse::<OwnerId>(), Ok(owner));
        }
    }

    #[test]
    fn tokens_and_owners_are_written_as_their_numbers() {
        assert_eq!(FencingToken::new(7).to_string(), "7");
        assert_eq!(FencingToken::ZERO.number(), 0);
        let owner = OwnerId::new(0xab);
        assert_eq!(owner.to_string(), format!("{}ab", "0".repeat(30)));
        assert_eq!(format!("{owner:?}"), format!("OwnerId({owner})"));
        assert_eq!(owner.bits(), 0xab);
        let proof = LeaseProof { owner, token: FencingToken::new(7) };
        let json = serde_json::to_string(&proof).unwrap();
        assert_eq!(json, format!(r#"{{"owner":"{owner}","token":7}}"#));
        assert_eq!(serde_json::from_str::<LeaseProof>(&json).unwrap(), proof);
        assert!("xyz".parse::<OwnerId>().is_err());
        assert_eq!(LeaseDomain::new("sqlite:/m.db").as_str(), "sqlite:/m.db");
    }

    #[test]
    fn a_token_follows_the_clock_and_goes_on_by_one_where_the_clock_is_behind() {
        let next = |now| FencingToken::new(10).next(now).number();
        assert_eq!([0, 10, 11, 12].map(next), [11, 11, 11, 12]);
        assert_eq!(FencingToken::new(u64::MAX).next(0).number(), u64::MAX);
    }
}
