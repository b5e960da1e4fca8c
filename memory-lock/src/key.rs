//! The names of guarded things.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use crate::error::{LockError, LockErrorKind, LockOperation};

/// The name of a guarded thing: 1 to 1,024 bytes of UTF-8, checked once and trusted after.
///
/// Cloning is cheap (it increments a counter), so keys are passed by value.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LockKey(Arc<str>);

impl LockKey {
    /// The longest key, in bytes.
    pub const MAX_BYTES: usize = 1_024;

    /// The key with this text.
    ///
    /// # Errors
    ///
    /// [`LockErrorKind::InvalidKey`] if the text is empty or longer than [`Self::MAX_BYTES`].
    pub fn new(text: impl Into<Arc<str>>) -> Result<Self, LockError> {
        let text = text.into();
        let problem = if text.is_empty() {
            "it is empty; name what the lease guards".to_owned()
        } else if text.len() > Self::MAX_BYTES {
            let (length, most) = (text.len(), Self::MAX_BYTES);
            format!("it has {length} bytes; keep to {most}, for instance by hashing its tail")
        } else {
            return Ok(Self(text));
        };
        Err(LockError::new(LockErrorKind::InvalidKey, LockOperation::Configure)
            .not_applied()
            .with_detail(problem))
    }

    /// The text of the key.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for LockKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for LockKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LockKey({:?})", &self.0)
    }
}

impl AsRef<str> for LockKey {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for LockKey {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl TryFrom<&str> for LockKey {
    type Error = LockError;

    fn try_from(text: &str) -> Result<Self, Self::Error> {
        Self::new(text)
    }
}

impl TryFrom<String> for LockKey {
    type Error = LockError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::new(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_length_is_bounded() {
        assert!(LockKey::new("k").is_ok());
        assert!(LockKey::new("é".repeat(512)).is_ok());
        for refused in [String::new(), "k".repeat(LockKey::MAX_BYTES + 1)] {
            let error = LockKey::new(refused).unwrap_err();
            assert_eq!(error.kind(), &LockErrorKind::InvalidKey);
            assert!(!error.is_retryable());
        }
    }

    #[test]
    fn key_converts_to_its_text() {
        let key = LockKey::try_from("a/b").unwrap();
        assert_eq!(key, LockKey::try_from("a/b".to_owned()).unwrap());
        assert_eq!((key.as_str(), &*key.to_string()), ("a/b", "a/b"));
        assert_eq!(AsRef::<str>::as_ref(&key), "a/b");
        assert_eq!(Borrow::<str>::borrow(&key), "a/b");
        assert_eq!(format!("{key:?}"), r#"LockKey("a/b")"#);
        assert!(LockKey::try_from("").is_err() && LockKey::try_from(String::new()).is_err());
    }
}
