//! Memories whose keys share a prefix.

use super::{Colons, KeyError, MAX_KEY_BYTES, MemoryKey, encode};

/// The memories of one resource whose rendered keys begin with a prefix.
///
/// They are adjacent in the order of keys, so a listing can begin at [`first`](Self::first) and end at the first key
/// that does not [match](Self::matches).
///
/// ```
/// use memory_core::MemoryKey;
/// use memory_core::store::KeyPrefix;
///
/// let prefix = KeyPrefix::new("acme", "support", "case-")?;
/// assert!(prefix.matches(&MemoryKey::new("acme", "support", "case-4711")?));
/// assert!(!prefix.matches(&MemoryKey::new("acme", "sales", "case-4711")?));
/// # Ok::<(), memory_core::KeyError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyPrefix {
    first: MemoryKey,
    encoded: String,
}

impl KeyPrefix {
    /// The memories of this project and resource whose rendered key begins with `rendered`; all of the resource if
    /// that is empty.
    ///
    /// A key that is stored as a hash ([`MAX_KEY_BYTES`](crate::limits::MAX_KEY_BYTES)) is found by its readable part.
    ///
    /// # Errors
    /// As [`MemoryKey::new`], but an empty prefix is allowed; [`KeyError::TooLong`] if project and memory id leave no
    /// room for a readable key.
    pub fn new(project: &str, memory_id: &str, rendered: &str) -> Result<Self, KeyError> {
        // The smallest possible key: no other byte has a smaller encoding.
        let least = if rendered.is_empty() { "\0" } else { rendered };
        let first = MemoryKey::new(project, memory_id, least)?;
        let mut encoded = String::new();
        encode(&mut encoded, project, Colons::Encode);
        encoded.push(':');
        encode(&mut encoded, memory_id, Colons::Encode);
        encoded.push(':');
        encode(&mut encoded, rendered, Colons::Keep);
        if rendered.is_empty() && encoded.len() + "%00".len() > MAX_KEY_BYTES {
            return Err(KeyError::TooLong { part: "memory id", bytes: memory_id.len() });
        }
        Ok(Self { first, encoded })
    }

    /// The smallest key that can match. There need not be a memory with this key.
    #[must_use]
    pub const fn first(&self) -> &MemoryKey {
        &self.first
    }

    /// Whether this key has the prefix.
    #[must_use]
    pub fn matches(&self, key: &MemoryKey) -> bool {
        key.as_str().starts_with(&self.encoded) || *key == self.first
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn part() -> impl Strategy<Value = String> {
        prop_oneof![3 => "[ab:%~/. -]{1,3}", 1 => "[aé\0]{1,2}"]
    }

    proptest! {
        #[test]
        fn matches_exactly_keys_with_prefix(
            triple in (part(), part(), part()),
            of in (part(), part(), prop_oneof![Just(String::new()), part()]),
        ) {
            let key = MemoryKey::new(&triple.0, &triple.1, &triple.2).unwrap();
            let prefix = KeyPrefix::new(&of.0, &of.1, &of.2).unwrap();
            let begins = triple.0 == of.0 && triple.1 == of.1 && triple.2.starts_with(&of.2);
            prop_assert_eq!(prefix.matches(&key), begins);
        }

        #[test]
        fn matching_keys_are_neighbors(
            mut keys in prop::collection::vec(part(), 1..20),
            begins in prop_oneof![Just(String::new()), part()],
        ) {
            let prefix = KeyPrefix::new("p", "m", &begins).unwrap();
            keys.push("\0".into());
            let mut keys: Vec<_> =
                keys.iter().map(|key| MemoryKey::new("p", "m", key).unwrap()).collect();
            keys.push(MemoryKey::new("p", "l", "z").unwrap());
            keys.push(MemoryKey::new("p", "n", "a").unwrap());
            keys.sort_unstable();
            let from_first = keys.iter().skip_while(|key| *key < prefix.first());
            let found: Vec<_> = from_first.take_while(|key| prefix.matches(key)).collect();
            let all: Vec<_> = keys.iter().filter(|key| prefix.matches(key)).collect();
            prop_assert_eq!(found, all);
        }
    }

    #[test]
    fn long_keys_are_found_by_their_readable_part() {
        let long = "k".repeat(600);
        let key = MemoryKey::new("p", "m", &long).unwrap();
        assert!(KeyPrefix::new("p", "m", "kkk").unwrap().matches(&key));
        assert!(KeyPrefix::new("p", "m", &long).unwrap().matches(&key), "the whole key");
        assert!(!KeyPrefix::new("p", "m", &"k".repeat(599)).unwrap().matches(&key));
        assert!(KeyPrefix::new("p", &long, "").is_err());
    }
}
