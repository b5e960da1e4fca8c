//! Listing memories by a pattern of their keys.

use std::num::NonZeroUsize;

use memory_core::MemoryKey;
use memory_core::store::KeyPattern;
use serde::Serialize;

use crate::error::MemoryError;
use crate::manager::MemoryManager;
use crate::sweep::non_zero;
use crate::telemetry::operation;

/// The keys that are listed in one request at most. A server of Redis looks at all its keys for each request.
const PAGE: usize = 10_000;

/// Keys of memories that match a pattern.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[non_exhaustive]
pub struct KeyListing {
    /// The storage keys, ascending.
    pub keys: Vec<MemoryKey>,
    /// Whether there are more matching memories, after the last of these keys.
    pub truncated: bool,
}

impl MemoryManager {
    /// The most keys of one listing, and the most memories of one operation.
    pub const MAX_KEYS: NonZeroUsize = non_zero(50_000);

    /// The memories with messages of one resource of this project whose rendered key matches: at most `limit` keys,
    /// ascending, after a given key. The resource need not be registered with this manager.
    ///
    /// It looks at all memories whose keys begin with the [prefix](KeyPattern::prefix) of the pattern, in pages. So begin a
    /// pattern with a text.
    ///
    /// # Examples
    ///
    /// ```
    /// # use memory_instance::{MemoryManager, MemoryResource};
    /// use std::num::NonZeroUsize;
    ///
    /// use memory_instance::{KeyPattern, Message};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let resource = MemoryResource::new("support", 8_000);
    /// # let manager = MemoryManager::builder().with_resource(resource).open("memory://").await?;
    /// for key in ["case-1-open", "case-2-closed", "case-3-open"] {
    ///     manager.memory("support", key)?.append(Message::user("Hello")).await?;
    /// }
    /// let open = KeyPattern::parse("case-*-open");
    /// let first = manager.list_keys("support", &open, None, NonZeroUsize::MIN).await?;
    /// assert_eq!(first.keys[0].as_str(), "default:support:case-1-open");
    /// assert!(first.truncated);
    /// let after = first.keys.last();
    /// let rest = manager.list_keys("support", &open, after, MemoryManager::MAX_KEYS).await?;
    /// assert_eq!((rest.keys.len(), rest.truncated), (1, false));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`MemoryError::Operation`] for a limit over [`MAX_KEYS`](Self::MAX_KEYS); [`MemoryError::Key`] for a resource without a
    /// name, or a pattern that no key can match; [`MemoryError::Store`].
    ///
    /// # Cancel safety
    /// Reads have no effect.
    pub async fn list_keys(
        &self,
        resource: &str,
        pattern: &KeyPattern,
        after: Option<&MemoryKey>,
        limit: NonZeroUsize,
    ) -> Result<KeyListing, MemoryError> {
        operation!(self, "list_keys", self.matching_keys(resource, pattern, after, limit)).await
    }

    async fn matching_keys(
        &self,
        resource: &str,
        pattern: &KeyPattern,
        after: Option<&MemoryKey>,
        limit: NonZeroUsize,
    ) -> Result<KeyListing, MemoryError> {
        if limit > Self::MAX_KEYS {
            let reason = format!("the limit {limit} is over {}; list in parts", Self::MAX_KEYS);
            return Err(MemoryError::Operation { operation: "list-keys", reason });
        }
        let mut listing = KeyListing::default();
        if !pattern.has_wildcard() {
            let key = MemoryKey::new(self.project(), resource, pattern.prefix())?;
            let is_later = after.is_none_or(|after| *after < key);
            if is_later && self.store().head(&key).await?.counters.present.messages > 0 {
                listing.keys.push(key);
            }
            return Ok(listing);
        }
        let mut after = after.cloned();
        loop {
            // One more than needed, to know whether there are more.
            let missing = limit.get().saturating_sub(listing.keys.len()).saturating_add(1);
            let page = NonZeroUsize::new(if pattern.is_prefix() { missing } else { PAGE });
            let page = page.unwrap_or(NonZeroUsize::MIN);
            let prefix = pattern.prefix();
            let keys = self.keys_with_prefix(resource, prefix, after.as_ref(), page).await?;
            let is_last = keys.len() < page.get();
            after = keys.last().cloned();
            for key in keys {
                if pattern.matches_key(self.project(), resource, &key)? {
                    if listing.keys.len() == limit.get() {
                        listing.truncated = true;
                        return Ok(listing);
                    }
                    listing.keys.push(key);
                }
            }
            if is_last {
                return Ok(listing);
            }
        }
    }
}
