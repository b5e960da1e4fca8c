//! Leases as a store sees them: the owner and the fencing token.
//!
//! A lease grants one owner exclusive use of a key for a limited time. Its *fencing token* orders all grants of that
//! key forever, so that a store can reject a holder whose lease expired while its process was stopped. The lease
//! alone is an optimization; the token provides safety (M. Kleppmann, "How to do distributed locking", 2016).

use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

pub use crate::key::FLUSH_LEASE_SUFFIX;

/// The shortest TTL of a lease. Below it, clock drift and the resolution of timers leave no useful time.
pub const MIN_LEASE_TTL: Duration = Duration::from_millis(10);
/// The default TTL of a lease; it is refreshed after half of it.
pub const DEFAULT_LEASE_TTL: Duration = Duration::from_secs(30);

/// The number of a grant. A later grant of the same key has a greater token.
///
/// Lease backends issue `max(last + 1, server clock in microseconds)`, so tokens do not decrease when a backend loses
/// its record of earlier grants.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct FencingToken(u64);

impl FencingToken {
    /// Lower than every token that a backend issues.
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

    /// The number for a signed SQL column; tokens have the same order as these.
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

/// The owner of a lease: 128 random bits, new for every acquisition.
///
/// An id per process or per lock object would be unsafe: a late release would then free a successor's lease.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OwnerId(u128);

impl OwnerId {
    /// The owner with these bits, which must be random.
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

/// As text, because some formats have no 128-bit numbers.
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

/// The proof that the holder of a lease presents to a store with each write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LeaseProof {
    /// The owner to which the lease was granted.
    pub owner: OwnerId,
    /// The token of that grant.
    pub token: FencingToken,
}

/// The place where leases are stored (a file, a server and database), so that a store and a lease backend can detect
/// whether they share it.
///
/// If the domains are equal, the store can check a lease in the same atomic step as its write.
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

/// A live lease as its backend stores it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct LeaseInfo {
    /// The holder.
    pub owner: OwnerId,
    /// The token of its grant.
    pub token: FencingToken,
    /// How long it lasts unless it is refreshed, by the backend's clock; its TTL at the most.
    pub remaining: Duration,
    /// How long ago it was granted, where the backend keeps that.
    pub held_for: Option<Duration>,
}

impl LeaseInfo {
    /// A lease granted at an unknown time.
    #[must_use]
    pub const fn new(owner: OwnerId, token: FencingToken, remaining: Duration) -> Self {
        Self { owner, token, remaining, held_for: None }
    }

    /// The proof that the holder presents to a store.
    #[must_use]
    pub const fn proof(&self) -> LeaseProof {
        LeaseProof { owner: self.owner, token: self.token }
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
        fn next_token_exceeds_previous_and_clock(
            last in 0..u64::MAX,
            now in any::<u64>(),
        ) {
            let next = FencingToken::new(last).next(now);
            prop_assert!(next > FencingToken::new(last));
            prop_assert!(next.number() >= now);
        }

        #[test]
        fn owner_round_trips(bits in any::<u128>()) {
            let owner = OwnerId::new(bits);
            prop_assert_eq!(owner.to_string().parse::<OwnerId>(), Ok(owner));
        }
    }

    #[test]
    fn tokens_and_owners_serialize_as_numbers() {
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
    fn token_grows_even_with_a_stopped_clock() {
        let next = |now| FencingToken::new(10).next(now).number();
        assert_eq!([0, 10, 11, 12].map(next), [11, 11, 11, 12]);
        assert_eq!(FencingToken::new(u64::MAX).next(0).number(), u64::MAX);
    }

    #[test]
    fn lease_info_proves_its_grant() {
        let (owner, token) = (OwnerId::new(7), FencingToken::new(9));
        let info = LeaseInfo { owner, token, remaining: Duration::ZERO, held_for: None };
        assert_eq!(info.proof(), LeaseProof { owner, token });
    }
}
