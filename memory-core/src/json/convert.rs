//! From and to other forms of JSON.

use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::{Json, JsonError, JsonErrorKind, JsonNumber, JsonObject, MAX_JSON_DEPTH};

/// The key under which `serde_json` hands out a number if some crate of the program has enabled its
/// `arbitrary_precision`.
const NUMBER_KEY: &str = "$serde_json::private::Number";

impl Json {
    /// The value as `serde_json` has it, a convenience that loses: members are sorted; an integer beyond `u64`
    /// and the text of a float become the nearest `f64`, which is the largest one for `1e400`; `-0` becomes
    /// `-0.0`.
    ///
    /// To hand a value on without loss, serialize it.
    #[must_use]
    pub fn to_value(&self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Bool(value) => Value::Bool(*value),
            Self::Number(number) => number_to_value(number),
            Self::String(text) => Value::String(text.clone()),
            Self::Array(items) => Value::Array(items.iter().map(Self::to_value).collect()),
            Self::Object(object) => Value::Object(
                object.iter().map(|(key, value)| (key.to_owned(), value.to_value())).collect(),
            ),
        }
    }
}

fn number_to_value(number: &JsonNumber) -> Value {
    if let Some(number) = number.as_u64() {
        return number.into();
    }
    if let Some(number) = number.as_i64() {
        return number.into();
    }
    let negative = number.raw().is_some_and(|text| text.starts_with('-'));
    number.as_f64().unwrap_or(if negative { f64::MIN } else { f64::MAX }).into()
}

impl From<Value> for Json {
    fn from(value: Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(value) => Self::Bool(value),
            Value::Number(number) => {
                JsonNumber::from_text(&number.to_string()).map_or(Self::Null, Self::Number)
            }
            Value::String(text) => Self::String(text),
            Value::Array(items) => Self::Array(items.into_iter().map(Self::from).collect()),
            Value::Object(members) => Self::Object(JsonObject::from_distinct(
                members.into_iter().map(|(key, value)| (key, Self::from(value))).collect(),
            )),
        }
    }
}

impl From<&str> for Json {
    fn from(text: &str) -> Self {
        Self::String(text.into())
    }
}

impl From<String> for Json {
    fn from(text: String) -> Self {
        Self::String(text)
    }
}

impl From<bool> for Json {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<u64> for Json {
    fn from(number: u64) -> Self {
        Self::Number(number.into())
    }
}

impl From<JsonNumber> for Json {
    fn from(number: JsonNumber) -> Self {
        Self::Number(number)
    }
}

impl From<Vec<Json>> for Json {
    fn from(items: Vec<Json>) -> Self {
        Self::Array(items)
    }
}

impl From<JsonObject> for Json {
    fn from(object: JsonObject) -> Self {
        Self::Object(object)
    }
}

impl std::str::FromStr for Json {
    type Err = JsonError;

    fn from_str(text: &str) -> Result<Self, JsonError> {
        Self::parse(text)
    }
}

impl<'de> Deserialize<'de> for Json {
    /// Repeated keys are refused. From JSON text every number keeps its text. Other formats hand out floats and
    /// integers beyond `u64` as `f64`, whose text becomes the shortest one.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct(RAW_KEY, Raw)
    }
}

impl<'de> Deserialize<'de> for JsonObject {
    /// As [`Json`]; other values than objects are refused.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Json::deserialize(deserializer)? {
            Json::Object(object) => Ok(object),
            _ => Err(D::Error::custom("expected a JSON object")),
        }
    }
}

/// The name by which `serde_json` knows that the text of a value is wanted, and the key under which it hands the
/// text out. Other deserializers do not look at it.
const RAW_KEY: &str = "$serde_json::private::RawValue";

/// A value as its text if the deserializer has one.
struct Raw;

impl<'de> Visitor<'de> for Raw {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Json, D::Error> {
        Level(0).deserialize(deserializer)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Json, A::Error> {
        match access.next_key::<String>()? {
            Some(key) if key == RAW_KEY => {
                Json::parse(&access.next_value::<String>()?).map_err(A::Error::custom)
            }
            _ => Err(A::Error::custom(JsonError::placeless(JsonErrorKind::Syntax))),
        }
    }
}

/// How many arrays and objects are around the value.
#[derive(Clone, Copy)]
struct Level(usize);

impl Level {
    fn deeper<E: serde::de::Error>(self) -> Result<Self, E> {
        if self.0 == MAX_JSON_DEPTH {
            return Err(E::custom(JsonError::placeless(JsonErrorKind::TooDeep)));
        }
        Ok(Self(self.0 + 1))
    }
}

impl<'de> DeserializeSeed<'de> for Level {
    type Value = Json;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Json, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Level {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_none<E: serde::de::Error>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Json, D::Error> {
        self.deserialize(deserializer)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Json, D::Error> {
        self.deserialize(deserializer)
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Json, E> {
        Ok(Json::Number(number.into()))
    }

    fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Json, E> {
        Ok(Json::Number(number.into()))
    }

    fn visit_u128<E: serde::de::Error>(self, number: u128) -> Result<Json, E> {
        number_from_text(&number.to_string())
    }

    fn visit_i128<E: serde::de::Error>(self, number: i128) -> Result<Json, E> {
        number_from_text(&number.to_string())
    }

    fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<Json, E> {
        match JsonNumber::from_f64(number) {
            Some(number) => Ok(Json::Number(number)),
            None => Err(E::custom(JsonError::placeless(JsonErrorKind::NotFinite))),
        }
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Json, E> {
        Ok(text.into())
    }

    fn visit_string<E: serde::de::Error>(self, text: String) -> Result<Json, E> {
        Ok(text.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Json, A::Error> {
        let level = self.deeper()?;
        let mut items = Vec::new();
        while let Some(item) = access.next_element_seed(level)? {
            items.push(item);
        }
        Ok(Json::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Json, A::Error> {
        let level = self.deeper()?;
        let mut keys = HashSet::new();
        let mut members = Vec::new();
        while let Some(key) = access.next_key::<String>()? {
            if key == NUMBER_KEY && members.is_empty() {
                return number_from_text(&access.next_value::<String>()?);
            }
            if !keys.insert(key.clone()) {
                let error = JsonError::placeless(JsonErrorKind::DuplicateKey);
                return Err(A::Error::custom(error.in_member(&key, members.len())));
            }
            let value = access.next_value_seed(level)?;
            members.push((key, value));
        }
        Ok(Json::Object(JsonObject::from_distinct(members)))
    }
}

fn number_from_text<E: serde::de::Error>(text: &str) -> Result<Json, E> {
    JsonNumber::from_text(text)
        .map(Json::Number)
        .ok_or_else(|| E::custom(JsonError::placeless(JsonErrorKind::Syntax)))
}
