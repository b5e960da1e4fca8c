//! The properties by which messages are grouped.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::json::Json;
use crate::stored::StoredMessage;

/// The property by which [`MessageStats`](super::MessageStats) are grouped. As a text: `role`, `priority`,
/// `content_type`, `resource`, or `extra.NAME` for the field `NAME` of the messages.
///
/// ```
/// use memory_core::stats::GroupBy;
///
/// assert_eq!("extra.team".parse(), Ok(GroupBy::Extra("team".into())));
/// assert!("team".parse::<GroupBy>().is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum GroupBy {
    /// The role.
    Role,
    /// The priority that the message was given on append; conversation without one has no name.
    Priority,
    /// The content type.
    ContentType,
    /// The resource of the memory.
    Resource,
    /// The field of the message's JSON with this name. Objects and lists have no name.
    Extra(Box<str>),
}

impl GroupBy {
    /// The name of a message's group.
    pub(super) fn name_of(&self, resource: &str, stored: &StoredMessage) -> Option<String> {
        match self {
            Self::Role => Some(stored.message.role().as_str().to_owned()),
            Self::Priority => stored.meta.priority.map(|priority| priority.to_string()),
            Self::ContentType => Some(stored.meta.content_type.as_str().to_owned()),
            Self::Resource => Some(resource.to_owned()),
            Self::Extra(field) => match &*stored.message.field(field)? {
                Json::String(text) => Some(text.clone()),
                value @ (Json::Bool(_) | Json::Number(_)) => Some(value.to_string()),
                _ => None,
            },
        }
    }
}

/// The text names no property.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "messages cannot be grouped by `{0}`; write role, priority, content_type, resource or extra.NAME"
)]
pub struct GroupByError(String);

impl FromStr for GroupBy {
    type Err = GroupByError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "role" => Self::Role,
            "priority" => Self::Priority,
            "content_type" => Self::ContentType,
            "resource" => Self::Resource,
            _ => match text.strip_prefix("extra.") {
                Some(field) if !field.is_empty() => Self::Extra(field.into()),
                _ => return Err(GroupByError(text.chars().take(80).collect())),
            },
        })
    }
}

impl fmt::Display for GroupBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Role => f.write_str("role"),
            Self::Priority => f.write_str("priority"),
            Self::ContentType => f.write_str("content_type"),
            Self::Resource => f.write_str("resource"),
            Self::Extra(field) => write!(f, "extra.{field}"),
        }
    }
}

impl Serialize for GroupBy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for GroupBy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_round_trip_as_texts() {
        for name in ["role", "priority", "content_type", "resource", "extra.a.b"] {
            let by: GroupBy = name.parse().unwrap();
            assert_eq!(serde_json::to_value(&by).unwrap(), name);
            assert_eq!(serde_json::from_value::<GroupBy>(name.into()).unwrap(), by);
        }
        assert_eq!("extra.".parse::<GroupBy>(), Err(GroupByError("extra.".into())));
    }
}
