//! The keys and channels of a server, by lease and memory.

use std::sync::Arc;

use memory_core::lease::FLUSH_LEASE_SUFFIX;

/// The names of all keys and channels on the server.
///
/// Every key begins with `{prefix}:{bucket}:`. The bucket is one of 1,024 and, in braces, the hash tag of
/// the key. The data of a memory, its leases, their counter of fencing tokens and the channels that
/// announce releases and changes are therefore in one slot of a Cluster, so that one script can access all of them.
/// The buckets are spread over the slots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keyspace {
    prefix: Arc<str>,
}

/// The number of buckets. A change would move all keys.
const BUCKETS: u16 = 1_024;

impl Keyspace {
    /// The keys below this prefix, which must not contain a brace.
    pub(crate) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.into() }
    }

    /// The beginning of every key.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The bucket of a lease or memory: the lower bits of the Cluster's own hash (CRC16 XMODEM) of
    /// its name. The two leases of a memory share its bucket.
    #[must_use]
    pub fn bucket(name: &str) -> u16 {
        let name = name.strip_suffix(FLUSH_LEASE_SUFFIX).unwrap_or(name);
        crc16::State::<crc16::XMODEM>::calculate(name.as_bytes()) % BUCKETS
    }

    /// The common beginning of all keys of one name.
    #[must_use]
    pub fn base(&self, name: &str) -> String {
        format!("{}:{{{}}}:", self.prefix, Self::bucket(name))
    }

    /// The lease of this name: `owner token granted`, with the lease's TTL.
    #[must_use]
    pub fn lease(&self, name: &str) -> String {
        self.key(name, "lease", name)
    }

    /// The owners that wait for the lease of this name, in order of arrival.
    #[must_use]
    pub fn line(&self, name: &str) -> String {
        self.key(name, "line", name)
    }

    /// The newest fencing token of the bucket.
    #[must_use]
    pub fn fence(&self, name: &str) -> String {
        self.base(name) + "fence"
    }

    /// The channel on which releases of the bucket's leases are announced.
    #[must_use]
    pub fn channel(&self, name: &str) -> String {
        self.base(name) + "released"
    }

    /// The channel on which changes of the bucket's watched memories are announced.
    #[must_use]
    pub fn changes(&self, name: &str) -> String {
        self.base(name) + "changes"
    }

    /// The data of the memory with this key.
    #[must_use]
    pub fn memory(&self, key: &str) -> String {
        self.key(key, "memory", key)
    }

    /// The fencing tokens of those memories of the bucket whose leases are in another backend.
    #[must_use]
    pub fn fences(&self, name: &str) -> String {
        self.base(name) + "fences"
    }

    /// The key of the memory that this server key stores, if it stores one.
    #[must_use]
    pub fn memory_name<'a>(&self, key: &'a str) -> Option<&'a str> {
        let rest = key.strip_prefix(&*self.prefix)?.strip_prefix(":{")?;
        let (_, name) = rest.split_once("}:memory:")?;
        Some(name)
    }

    /// A pattern for `SCAN` that finds all memories.
    #[must_use]
    pub fn memories(&self) -> String {
        let mut pattern = String::new();
        for character in self.prefix.chars() {
            if matches!(character, '*' | '?' | '[' | ']' | '\\' | '^') {
                pattern.push('\\');
            }
            pattern.push(character);
        }
        pattern + ":{*}:memory:*"
    }

    fn key(&self, name: &str, kind: &str, rest: &str) -> String {
        self.base(name) + kind + ":" + rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_a_memory_share_a_hash_tag() {
        let keys = Keyspace::new("agents");
        let name = "acme:support:case-4711";
        let flush = format!("{name}{FLUSH_LEASE_SUFFIX}");
        let tag = |key: &str| key.split_once('{').unwrap().1.split_once('}').unwrap().0.to_owned();
        let all = [
            keys.lease(name),
            keys.lease(&flush),
            keys.line(name),
            keys.fence(name),
            keys.fence(&flush),
            keys.channel(&flush),
            keys.changes(name),
            keys.memory(name),
        ];
        assert!(all.iter().all(|key| tag(key) == tag(&all[0])), "{all:?}");
    }

    #[test]
    fn bucket_of_a_key_never_changes() {
        // CRC16 XMODEM of "123456789" is 0x31C3, the check value of the Cluster specification.
        assert_eq!(Keyspace::bucket("123456789"), 0x31C3 % 1_024);
    }

    #[test]
    fn stored_keys_keep_their_names() {
        // Another process, or another version, uses the same names.
        let keys = Keyspace::new("agents");
        let name = "123456789";
        assert_eq!((keys.prefix(), &*keys.base(name)), ("agents", "agents:{451}:"));
        assert_eq!(keys.lease(name), "agents:{451}:lease:123456789");
        assert_eq!(keys.line(name), "agents:{451}:line:123456789");
        assert_eq!(keys.fence(name), "agents:{451}:fence");
        assert_eq!(keys.channel(name), "agents:{451}:released");
        assert_eq!(keys.changes(name), "agents:{451}:changes");
        assert_eq!(keys.memory(name), "agents:{451}:memory:123456789");
        assert_eq!(keys.fences(name), "agents:{451}:fences");
    }

    #[test]
    fn memory_keys_are_recognized() {
        let keys = Keyspace::new("agents");
        assert_eq!(keys.memory_name(&keys.memory("a:b:c")), Some("a:b:c"));
        assert_eq!(keys.memory_name(&keys.lease("a:b:c")), None);
        assert_eq!(keys.memory_name("agents2:{1}:memory:x"), None);
    }

    #[test]
    fn prefix_is_not_a_pattern() {
        assert_eq!(Keyspace::new("a*[b]").memories(), r"a\*\[b\]:{*}:memory:*");
        assert_eq!(Keyspace::new(r"a?\^").memories(), r"a\?\\\^:{*}:memory:*");
    }
}
