//! Members in their order.

use super::Json;

/// The members of an object, in their order, each key once.
///
/// Members are found by search from the first: the objects of messages are small.
#[derive(Debug, Clone, Default)]
pub struct JsonObject(Vec<(String, Json)>);

impl JsonObject {
    /// The bytes that it occupies apart from its own size.
    pub(super) fn heap_bytes(&self) -> usize {
        let members = self.0.iter().map(|(key, value)| key.capacity() + value.heap_bytes());
        self.0.capacity() * size_of::<(String, Json)>() + members.sum::<usize>()
    }

    /// An object without members.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// The members, whose keys the caller has found to differ.
    pub(super) const fn from_distinct(members: Vec<(String, Json)>) -> Self {
        Self(members)
    }

    /// Adds this member, or replaces the one with this key.
    #[must_use]
    pub fn with(mut self, key: impl Into<String>, value: impl Into<Json>) -> Self {
        self.insert(key, value);
        self
    }

    /// The value of the member with this key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Json> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    /// The value of the member with this key, to change it.
    #[must_use]
    pub fn get_mut(&mut self, key: &str) -> Option<&mut Json> {
        self.0.iter_mut().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    /// Whether there is a member with this key.
    #[must_use]
    pub fn contains_key(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// Sets a member: replaces the one with this key and returns its value, or appends it.
    pub fn insert(&mut self, key: impl Into<String>, value: impl Into<Json>) -> Option<Json> {
        let (key, value) = (key.into(), value.into());
        if let Some(slot) = self.get_mut(&key) {
            return Some(std::mem::replace(slot, value));
        }
        self.0.push((key, value));
        None
    }

    /// Removes the member with this key; the others keep their order.
    pub fn remove(&mut self, key: &str) -> Option<Json> {
        let at = self.0.iter().position(|(name, _)| name == key)?;
        Some(self.0.remove(at).1)
    }

    /// The members in their order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Json)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// The members in their order, to change their values.
    pub fn iter_mut(&mut self) -> impl ExactSizeIterator<Item = (&str, &mut Json)> {
        self.0.iter_mut().map(|(key, value)| (key.as_str(), value))
    }

    /// Renames the members in their order; `None` keeps the key. The caller must ensure that the resulting keys are
    /// distinct.
    pub(crate) fn rename(&mut self, keys: impl IntoIterator<Item = Option<String>>) {
        for ((key, _), new) in self.0.iter_mut().zip(keys) {
            if let Some(new) = new {
                *key = new;
            }
        }
    }

    /// The number of members.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no members.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl PartialEq for JsonObject {
    /// The order of the members does not count.
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len()
            && self.0.iter().enumerate().all(|(index, (key, value))| {
                // Usually the order is the same.
                match other.0.get(index) {
                    Some((name, there)) if name == key => there == value,
                    _ => other.get(key) == Some(value),
                }
            })
    }
}

impl IntoIterator for JsonObject {
    type Item = (String, Json);
    type IntoIter = std::vec::IntoIter<(String, Json)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<K: Into<String>, V: Into<Json>> FromIterator<(K, V)> for JsonObject {
    /// Of members with one key the last one wins, at the place of the first.
    fn from_iter<I: IntoIterator<Item = (K, V)>>(members: I) -> Self {
        let mut object = Self::new();
        for (key, value) in members {
            object.insert(key, value);
        }
        object
    }
}
