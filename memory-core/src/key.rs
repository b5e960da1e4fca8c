//! Storage keys, validated when they are parsed.

mod pattern;
mod prefix;

use std::borrow::Borrow;
use std::fmt::{self, Write as _};
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest, Sha256};

pub use self::pattern::KeyPattern;
pub use self::prefix::KeyPrefix;

/// The longest key, in bytes of its encoded form; longer ones end in a hash.
pub const MAX_KEY_BYTES: usize = 512;

/// The longest project, memory id or rendered key, in bytes before encoding. Useful keys are far shorter; a longer
/// one is usually a text that a template inserted by mistake.
pub const MAX_KEY_PART_BYTES: usize = 64 << 10;

/// The suffix of a flusher's lease name, after the key of its memory. A backend that shards leases must keep a name
/// with this suffix and the same name without it in one shard.
pub const FLUSH_LEASE_SUFFIX: &str = "/flush";

/// The storage key of one memory: `{project}:{memory id}:{rendered key}`.
///
/// The encoding is injective: two different triples never share a key. Letters, digits and `-_.` are kept (in the
/// rendered part `:` too); every other byte is written `%XX`. A key over [`MAX_KEY_BYTES`] keeps a readable prefix
/// and ends in `%~` and the SHA-256 of the whole.
///
/// ```
/// use memory_core::MemoryKey;
///
/// let key = MemoryKey::new("acme", "support", "case:7/a b")?;
/// assert_eq!(key.as_str(), "acme:support:case:7%2Fa%20b");
/// # Ok::<(), memory_core::KeyError>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemoryKey(Arc<str>);

impl MemoryKey {
    /// Encodes the triple.
    ///
    /// # Examples
    ///
    /// ```
    /// use memory_core::{KeyError, MemoryKey};
    ///
    /// let key = MemoryKey::new("acme", "support", "case-4711")?;
    /// assert_eq!(key.as_str(), "acme:support:case-4711");
    /// assert_eq!(key.memory_id(), "support");
    /// assert!(matches!(MemoryKey::new("acme", "support", ""), Err(KeyError::Empty("key"))));
    /// # Ok::<(), memory_core::KeyError>(())
    /// ```
    ///
    /// # Errors
    /// [`KeyError::Empty`] if one of the three is empty, [`KeyError::TooLong`] if one is over [`MAX_KEY_PART_BYTES`].
    pub fn new(project: &str, memory_id: &str, rendered: &str) -> Result<Self, KeyError> {
        for (part, text) in [("project", project), ("memory id", memory_id), ("key", rendered)] {
            if text.is_empty() {
                return Err(KeyError::Empty(part));
            }
            if text.len() > MAX_KEY_PART_BYTES {
                return Err(KeyError::TooLong { part, bytes: text.len() });
            }
        }
        let mut encoded =
            String::with_capacity(project.len() + memory_id.len() + rendered.len() + 8);
        encode(&mut encoded, project, Colons::Encode);
        encoded.push(':');
        encode(&mut encoded, memory_id, Colons::Encode);
        encoded.push(':');
        encode(&mut encoded, rendered, Colons::Keep);
        if encoded.len() > MAX_KEY_BYTES {
            encoded = shorten(&encoded);
        }
        Ok(Self(encoded.into()))
    }

    /// The encoded key.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The three parts before encoding, or `None` for a key that ends in a hash.
    #[must_use]
    pub fn parts(&self) -> Option<(String, String, String)> {
        let mut parts = self.0.splitn(3, ':').map(decode);
        Some((parts.next()??, parts.next()??, parts.next()??))
    }

    /// The prefix of all keys of a project, and of no key of another project. If the encoded project name is too long
    /// for a key, no key has this prefix.
    #[must_use]
    pub fn project_prefix(project: &str) -> String {
        let mut prefix = String::with_capacity(project.len() + 1);
        encode(&mut prefix, project, Colons::Encode);
        prefix.push(':');
        prefix
    }

    /// The name of the writers' lease on the memory.
    #[must_use]
    pub fn lease_name(&self) -> &str {
        &self.0
    }

    /// The name of the flushers' lease on the memory. No memory's key contains a `/`.
    #[must_use]
    pub fn flush_lease_name(&self) -> String {
        format!("{}{FLUSH_LEASE_SUFFIX}", self.0)
    }

    /// The SHA-256 of the encoded key, in hexadecimal digits, as in the audit log: it names a memory without its key.
    #[must_use]
    pub fn sha256(&self) -> String {
        let mut digits = String::with_capacity(64);
        push_digits(&mut digits, &Sha256::digest(self.0.as_bytes()));
        digits
    }

    /// The memory id; for a key that ends in a hash, its readable part.
    #[must_use]
    pub fn memory_id(&self) -> String {
        let id = self.0.split(':').nth(1).unwrap_or_default();
        decode(id).unwrap_or_else(|| id.to_owned())
    }
}

/// Whether a part of a key keeps its colons: only the last part does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Colons {
    Encode,
    Keep,
}

fn is_plain(byte: u8, colons: Colons) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'-' | b'_' | b'.')
        || (colons == Colons::Keep && byte == b':')
}

fn encode(out: &mut String, text: &str, colons: Colons) {
    for &byte in text.as_bytes() {
        if is_plain(byte, colons) {
            out.push(char::from(byte));
        } else {
            push_hex(out, b'%', byte);
        }
    }
}

fn push_hex(out: &mut String, escape: u8, byte: u8) {
    const DIGITS: [char; 16] =
        ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F'];
    out.push(char::from(escape));
    out.extend(DIGITS.get(usize::from(byte >> 4)));
    out.extend(DIGITS.get(usize::from(byte & 15)));
}

fn decode(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let digit = |byte: u8| match byte {
                b'0'..=b'9' => Some(byte - b'0'),
                b'A'..=b'F' => Some(byte - b'A' + 10),
                _ => None,
            };
            out.push(digit(bytes.next()?)? << 4 | digit(bytes.next()?)?);
        } else {
            out.push(byte);
        }
    }
    String::from_utf8(out).ok()
}

/// A prefix of the key that splits no escape, `%~`, and the hash of the whole. No other key contains `%~`, because an
/// escape continues with a hexadecimal digit.
fn shorten(encoded: &str) -> String {
    let hash = Sha256::digest(encoded.as_bytes());
    let mut cut = MAX_KEY_BYTES - 2 - 2 * hash.len();
    // The encoding is ASCII, and an escape is three bytes long.
    let tail = encoded.get(cut - 2..cut).unwrap_or_default();
    if let Some(escape) = tail.find('%') {
        cut = cut - 2 + escape;
    }
    let mut short = String::with_capacity(MAX_KEY_BYTES);
    short.push_str(encoded.get(..cut).unwrap_or_default());
    short.push_str("%~");
    push_digits(&mut short, &hash);
    short
}

fn push_digits(out: &mut String, bytes: &[u8]) {
    for byte in bytes {
        let _ = write!(out, "{byte:02x}");
    }
}

/// The text of the key, shared.
impl From<&MemoryKey> for Arc<str> {
    fn from(key: &MemoryKey) -> Self {
        Self::clone(&key.0)
    }
}

impl fmt::Display for MemoryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for MemoryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemoryKey({})", self.0)
    }
}

/// Keys are ordered as their encoded forms are.
impl Borrow<str> for MemoryKey {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// Reads an encoded key, such as one that a store lists.
impl FromStr for MemoryKey {
    type Err = KeyError;

    fn from_str(encoded: &str) -> Result<Self, Self::Err> {
        let malformed = || KeyError::Malformed(encoded.chars().take(80).collect());
        if encoded.len() > MAX_KEY_BYTES {
            return Err(malformed());
        }
        let (body, hash) = match encoded.split_once("%~") {
            Some((body, hash)) => (body, Some(hash)),
            None => (encoded, None),
        };
        let hash_is_right = hash.is_none_or(|hash| {
            hash.len() == 64 && hash.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        });
        let mut parts = body.splitn(3, ':');
        let whole = [parts.next(), parts.next(), parts.next()]
            .into_iter()
            .all(|part| part.is_some_and(|part| !part.is_empty() && is_encoded(part)));
        // Only a shortened key may end before its third part.
        if !(hash_is_right && (whole || hash.is_some()) && is_encoded(body)) {
            return Err(malformed());
        }
        let key = Self(encoded.into());
        // One triple has one key: bytes that need no escape are not escaped.
        let is_the_one = hash.is_some()
            || key.parts().is_some_and(|(project, id, text)| {
                Self::new(&project, &id, &text).is_ok_and(|one| one == key)
            });
        if is_the_one { Ok(key) } else { Err(malformed()) }
    }
}

fn is_encoded(text: &str) -> bool {
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let hex = |byte: Option<u8>| byte.is_some_and(|b| matches!(b, b'0'..=b'9' | b'A'..=b'F'));
        if byte == b'%' {
            if !(hex(bytes.next()) && hex(bytes.next())) {
                return false;
            }
        } else if !is_plain(byte, Colons::Keep) {
            return false;
        }
    }
    true
}

impl Serialize for MemoryKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for MemoryKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// Why a text or a triple is not a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// A part is empty.
    #[error("the {0} of a memory key is empty: give it at least one character")]
    Empty(&'static str),
    /// A part is over [`MAX_KEY_PART_BYTES`].
    #[error(
        "the {part} of a memory key has {bytes} bytes, over the limit of {MAX_KEY_PART_BYTES}: name the memory by an id, not by a text"
    )]
    TooLong {
        /// The name of the part.
        part: &'static str,
        /// Its length in bytes.
        bytes: usize,
    },
    /// The text is not in the encoding of a key.
    #[error("`{0}` is not a memory key: expected project:memory-id:key as `memory keys` prints it")]
    Malformed(String),
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn part() -> impl Strategy<Value = String> {
        prop_oneof![
            4 => "[ab/_:%~. -]{1,4}",
            2 => "\\PC{1,8}",
            1 => "[a%é]{200,400}",
        ]
    }

    proptest! {
        #[test]
        fn different_triples_never_share_a_key(
            a in (part(), part(), part()),
            b in (part(), part(), part()),
        ) {
            let key = |t: &(String, String, String)| MemoryKey::new(&t.0, &t.1, &t.2).unwrap();
            prop_assert_eq!(a == b, key(&a) == key(&b));
        }

        #[test]
        fn key_round_trips_within_alphabet(triple in (part(), part(), part())) {
            let key = MemoryKey::new(&triple.0, &triple.1, &triple.2).unwrap();
            prop_assert!(key.as_str().len() <= MAX_KEY_BYTES);
            prop_assert!(key.as_str().bytes().all(|b| is_plain(b, Colons::Keep) || b"%~".contains(&b)));
            prop_assert_eq!(key.as_str().parse::<MemoryKey>(), Ok(key.clone()));
            match key.parts() {
                Some(parts) => prop_assert_eq!(parts, triple),
                None => prop_assert!(key.as_str().contains("%~")),
            }
        }

        #[test]
        fn parsing_never_panics(text in "\\PC{0,40}") {
            if let Ok(key) = text.parse::<MemoryKey>() {
                prop_assert_eq!(key.as_str(), text);
            }
        }
    }

    #[test]
    fn similar_keys_stay_distinct() {
        let key = |rendered| MemoryKey::new("p", "m", rendered).unwrap();
        assert_ne!(key("a/b"), key("a_b"));
        assert_ne!(MemoryKey::new("p", "m:a", "b").unwrap(), key("a:b"));
        assert_eq!(MemoryKey::new("p", "", "b"), Err(KeyError::Empty("memory id")));
    }

    #[test]
    fn key_parts_have_a_length_limit() {
        let text = "k".repeat(MAX_KEY_PART_BYTES);
        assert!(MemoryKey::new("p", "m", &text).is_ok());
        let refused = MemoryKey::new("p", "m", &format!("{text}k")).unwrap_err();
        assert_eq!(refused, KeyError::TooLong { part: "key", bytes: MAX_KEY_PART_BYTES + 1 });
    }

    #[test]
    fn key_displays_encoded() {
        let key = MemoryKey::new("acme", "a b", "case:7/x_-.Z9").unwrap();
        let text = "acme:a%20b:case:7%2Fx_-.Z9";
        assert_eq!((key.as_str(), &*key.to_string(), key.lease_name()), (text, text, text));
        assert_eq!(format!("{key:?}"), format!("MemoryKey({text})"));
        assert_eq!(key.flush_lease_name(), format!("{text}/flush"));
        assert_eq!(key.memory_id(), "a b");
        let json = serde_json::to_string(&key).unwrap();
        assert_eq!(json, format!("\"{text}\""));
        assert_eq!(serde_json::from_str::<MemoryKey>(&json).unwrap(), key);
        assert!(serde_json::from_str::<MemoryKey>("\"a:b\"").is_err());
    }

    #[test]
    fn long_key_ends_in_hash() {
        let key = |rendered: &str| MemoryKey::new("p", "m", rendered).unwrap();
        let longest = "k".repeat(MAX_KEY_BYTES - "p:m:".len());
        assert_eq!(key(&longest).as_str(), format!("p:m:{longest}"));

        // 64 digits and the two bytes of the marker.
        let cut = MAX_KEY_BYTES - 66;
        for (rendered, kept) in [
            (format!("{longest}k"), cut),
            // An escape is kept or left out as a whole: `%20` across the end, and just before it.
            (format!("{} {}", "k".repeat(cut - 5), "k".repeat(100)), cut - 1),
            (format!("{} {}", "k".repeat(cut - 6), "k".repeat(100)), cut - 2),
            (format!("{} {}", "k".repeat(cut - 7), "k".repeat(100)), cut),
        ] {
            let short = key(&rendered);
            let (body, hash) = short.as_str().split_once("%~").unwrap();
            assert_eq!((body.len(), hash.len()), (kept, 64), "{short}");
            let mut whole = "p:m:".to_owned();
            encode(&mut whole, &rendered, Colons::Keep);
            assert!(whole.starts_with(body));
            let digest = Sha256::digest(whole.as_bytes());
            let digits: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(hash, digits);
            assert_eq!((short.parts(), short.memory_id()), (None, "m".to_owned()));
        }
    }

    #[test]
    fn noncanonical_text_is_no_key() {
        let hash = "0123456789abcdef".repeat(4);
        for text in [format!("a:b:c%~{hash}"), format!("a%~{hash}"), "a:b:c%20:%C3%A9".into()] {
            assert_eq!(text.parse::<MemoryKey>().unwrap().as_str(), text);
        }
        for text in [
            String::new(),
            "a".into(),
            "a:b".into(),
            "a::c".into(),
            ":b:c".into(),
            "a:b:".into(),
            "a:b:c d".into(),
            "a:b:c/d".into(),
            "a:b:%2f".into(),
            "a:b:%2".into(),
            "a:b:%".into(),
            "a:b:%G0".into(),
            "a:b:%0G".into(),
            "a:b:%FF".into(),
            "a:b:%61".into(),
            "a%3Ab".into(),
            format!("a:b:c%~{}", hash.trim_start_matches('0')),
            format!("a:b:c%~{hash}0"),
            format!("a:b:c%~{}", hash.to_uppercase()),
            format!("a b%~{hash}"),
            format!("a%G0%~{hash}"),
            format!("a%0G%~{hash}"),
            format!("a%2%~{hash}"),
            format!("a:b:{}", "k".repeat(MAX_KEY_BYTES - 3)),
        ] {
            let error = text.parse::<MemoryKey>().unwrap_err();
            let start: String = text.chars().take(80).collect();
            assert_eq!(error, KeyError::Malformed(start), "{text}");
        }
        let longest = format!("a:b:{}", "k".repeat(MAX_KEY_BYTES - 4));
        assert!(longest.parse::<MemoryKey>().is_ok());
    }

    #[test]
    fn key_limits_never_change() {
        // Messages stored under a shortened key would otherwise be lost.
        assert_eq!((MAX_KEY_BYTES, MAX_KEY_PART_BYTES), (512, 65_536));
        assert_eq!(FLUSH_LEASE_SUFFIX, "/flush");
    }
}
