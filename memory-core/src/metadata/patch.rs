//! Changes of metadata.

use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::{Map, Value};

use super::{Metadata, MetadataError};
use crate::json::{Json, JsonObject};

/// A change of metadata: the names to set, with their values, and the names to remove. Other names keep their values.
///
/// Its JSON is an object in which `null` removes a name. A value is replaced as a whole, also if both the old one and the
/// new one are objects.
///
/// ```
/// use memory_core::store::MetadataPatch;
///
/// let patch = MetadataPatch::new().with("customer", "ACME").with("open", true).without("draft");
/// let same: MetadataPatch =
///     serde_json::from_str(r#"{"customer": "ACME", "open": true, "draft": null}"#)?;
/// assert_eq!(patch, same);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[serde(transparent)]
pub struct MetadataPatch(JsonObject);

impl MetadataPatch {
    /// A change that sets and removes nothing. As an update it still counts as a write.
    #[must_use]
    pub const fn new() -> Self {
        Self(JsonObject::new())
    }

    /// Sets a name; `null` removes it.
    #[must_use]
    pub fn with(self, name: impl Into<String>, value: impl Into<Json>) -> Self {
        Self(self.0.with(name, value))
    }

    /// Removes a name.
    #[must_use]
    pub fn without(self, name: impl Into<String>) -> Self {
        Self(self.0.with(name, Json::Null))
    }

    /// The names and their new values, `null` for those to remove.
    #[must_use]
    pub const fn as_object(&self) -> &JsonObject {
        &self.0
    }

    /// The names and their new values, to change them.
    #[must_use]
    pub fn into_object(self) -> JsonObject {
        self.0
    }

    /// Validates the change without looking at the memory. Every store calls this first.
    ///
    /// # Errors
    /// The first limit that it exceeds, whatever the memory has.
    pub fn check(&self) -> Result<(), MetadataError> {
        let names = self.0.len();
        // As many to remove as there can be, and as many to set.
        if names > 2 * Metadata::MAX_NAMES {
            return Err(MetadataError::TooManyNames { names });
        }
        for (name, _) in self.0.iter() {
            let bytes = name.len();
            if bytes == 0 {
                return Err(MetadataError::EmptyName);
            }
            if bytes > Metadata::MAX_NAME_BYTES {
                return Err(MetadataError::LongName { bytes });
            }
        }
        self.merged(&JsonObject::new()).map(drop)
    }

    /// These values after the change.
    ///
    /// # Errors
    /// The limit that the result exceeds.
    pub(super) fn merged(&self, old: &JsonObject) -> Result<JsonObject, MetadataError> {
        let mut merged = old.clone();
        for (name, value) in self.0.iter() {
            if value.is_null() {
                merged.remove(name);
            } else {
                merged.insert(name, value.clone());
            }
        }
        Metadata::check_values(&merged)?;
        Ok(merged)
    }
}

impl From<JsonObject> for MetadataPatch {
    fn from(values: JsonObject) -> Self {
        Self(values)
    }
}

impl From<Map<String, Value>> for MetadataPatch {
    fn from(values: Map<String, Value>) -> Self {
        Self(values.into_iter().collect())
    }
}

impl<K: Into<String>, V: Into<Json>, const N: usize> From<[(K, V); N]> for MetadataPatch {
    fn from(values: [(K, V); N]) -> Self {
        values.into_iter().collect()
    }
}

impl TryFrom<Json> for MetadataPatch {
    type Error = MetadataError;

    fn try_from(json: Json) -> Result<Self, MetadataError> {
        match json {
            Json::Object(values) => Ok(Self(values)),
            _ => Err(MetadataError::NotObject),
        }
    }
}

impl TryFrom<Value> for MetadataPatch {
    type Error = MetadataError;

    fn try_from(value: Value) -> Result<Self, MetadataError> {
        Json::from(value).try_into()
    }
}

impl<K: Into<String>, V: Into<Json>> FromIterator<(K, V)> for MetadataPatch {
    /// Of several values of one name the last one wins.
    fn from_iter<I: IntoIterator<Item = (K, V)>>(values: I) -> Self {
        Self(values.into_iter().collect())
    }
}

impl<'de> Deserialize<'de> for MetadataPatch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Json::deserialize(deserializer)?.try_into().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn patch(value: Value) -> Result<MetadataPatch, MetadataError> {
        let patch = MetadataPatch::try_from(value)?;
        patch.check().map(|()| patch)
    }

    #[test]
    fn refusal_names_the_limit() {
        let long = "n".repeat(Metadata::MAX_NAME_BYTES + 1);
        let many = |names: usize| -> Value {
            (0..names).map(|name| (format!("n{name}"), json!(1))).collect::<Map<_, _>>().into()
        };
        // `{"n":"..."}` is eight bytes longer than its text.
        let large = |bytes: usize| json!({"n": "x".repeat(bytes - 8)});
        let mut deep = json!(1);
        for _ in 0..126 {
            deep = json!([deep]);
        }
        for (value, refusal) in [
            (json!([1]), MetadataError::NotObject),
            (json!({"": 1}), MetadataError::EmptyName),
            (json!({ &long: null }), MetadataError::LongName { bytes: 129 }),
            (many(65), MetadataError::TooManyNames { names: 65 }),
            (large(16_385), MetadataError::TooLarge { bytes: 16_385 }),
            (json!({"n": [deep]}), MetadataError::TooDeep),
        ] {
            assert_eq!(patch(value).unwrap_err(), refusal);
        }
        for value in [json!({ &long[1..]: 1 }), many(64), large(16_384), json!({"n": deep})] {
            patch(value).unwrap();
        }
        let removals: MetadataPatch = (0..129).map(|n| (n.to_string(), Json::Null)).collect();
        assert_eq!(removals.check(), Err(MetadataError::TooManyNames { names: 129 }));
    }
}
