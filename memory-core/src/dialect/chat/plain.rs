//! The plain chat message, stored without a JSON tree.

use std::borrow::Cow;

use serde::ser::SerializeMap as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::super::media::read_mcp_text;
use super::super::part::{CallKind, Part, ResultPart};
use super::super::{Dialect, Visit};
use crate::json::{Json, JsonObject};
use crate::message::{Role, ToolCall};

/// A message with a role, a text, and optionally a name and a call id: the most frequent form.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PlainMessage {
    pub(crate) role: Role,
    pub(crate) text: String,
    pub(crate) name: Option<String>,
    pub(crate) call_id: Option<String>,
}

/// The same in JSON. Anything else, such as `null` or an unknown field, is an error.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PlainJson<'a> {
    #[serde(borrow)]
    role: Cow<'a, str>,
    content: String,
    #[serde(default, deserialize_with = "present")]
    name: Option<String>,
    #[serde(default, deserialize_with = "present")]
    tool_call_id: Option<String>,
}

fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    String::deserialize(deserializer).map(Some)
}

impl PlainMessage {
    pub(crate) const fn new(role: Role, text: String) -> Self {
        Self { role, text, name: None, call_id: None }
    }

    /// Reads the message from a text; `None` if it is not plain or not JSON.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let json: PlainJson<'_> = serde_json::from_str(text).ok()?;
        Self::of(&json.role, json.content, json.name, json.tool_call_id)
    }

    /// Converts the message from a tree; returns the tree if it is not plain.
    pub(crate) fn from_json(json: Json) -> Result<Self, Json> {
        let Json::Object(object) = json else { return Err(json) };
        let is_plain = object.get("role").and_then(Json::as_str).and_then(plain_role).is_some()
            && object.get("content").and_then(Json::as_str).is_some()
            && object.iter().all(|(key, value)| {
                matches!(key, "role" | "content" | "name" | "tool_call_id")
                    && value.as_str().is_some()
            });
        let links = object.get("tool_call_id").and_then(Json::as_str).is_none_or(|id| {
            !id.is_empty() && object.get("role").and_then(Json::as_str) == Some("tool")
        });
        if !is_plain || !links {
            return Err(Json::Object(object));
        }
        let mut plain = Self::new(Role::User, String::new());
        for (key, value) in object {
            let Json::String(text) = value else { continue };
            match key.as_str() {
                "role" => plain.role = plain_role(&text).unwrap_or(Role::User),
                "content" => plain.text = text,
                "name" => plain.name = Some(text),
                _ => plain.call_id = Some(text),
            }
        }
        Ok(plain)
    }

    fn of(role: &str, text: String, name: Option<String>, call_id: Option<String>) -> Option<Self> {
        let role = plain_role(role)?;
        if call_id.as_ref().is_some_and(|id| id.is_empty() || role != Role::Tool) {
            return None;
        }
        Some(Self { role, text, name, call_id })
    }

    /// The bytes that it occupies apart from its own size.
    pub(crate) fn heap_bytes(&self) -> usize {
        let optional = |text: &Option<String>| text.as_ref().map_or(0, String::capacity);
        self.text.capacity() + optional(&self.name) + optional(&self.call_id)
    }

    pub(crate) fn to_json(&self) -> Json {
        let mut object =
            JsonObject::new().with("role", self.role.as_str()).with("content", self.text.as_str());
        if let Some(name) = &self.name {
            object.insert("name", name.as_str());
        }
        if let Some(id) = &self.call_id {
            object.insert("tool_call_id", id.as_str());
        }
        Json::Object(object)
    }

    /// Whether it has no name and no call id.
    pub(crate) const fn is_role_and_text(&self) -> bool {
        self.name.is_none() && self.call_id.is_none()
    }

    fn answers(&self) -> bool {
        matches!(self.role, Role::Tool | Role::Function)
    }

    /// The name of the author; `None` for results.
    pub(crate) fn author(&self) -> Option<&str> {
        self.name.as_deref().filter(|name| !name.is_empty() && !self.answers())
    }

    /// Equivalent to reading the same message from JSON.
    pub(crate) fn read<'a>(&'a self, visit: Visit<'_, 'a>) {
        if !self.answers() {
            if !self.text.is_empty() {
                visit(Part::text(self.text.as_str()));
            }
            return;
        }
        let content = match read_mcp_text(&self.text) {
            Some(parts) => parts,
            None if self.text.is_empty() => Vec::new(),
            None => vec![Part::text(self.text.as_str())],
        };
        let is_legacy = self.role == Role::Function;
        let kind = if is_legacy { CallKind::LegacyFunction } else { CallKind::Function };
        let result = ResultPart::new(self.call_id.as_deref(), self.name.as_deref(), content);
        visit(Part::Result(ResultPart { kind, ..result }));
    }
}

/// The role with exactly this name.
fn plain_role(name: &str) -> Option<Role> {
    match Role::from(name) {
        Role::Other(_) => None,
        role => Some(role),
    }
}

impl Serialize for PlainMessage {
    /// Writes the fields in the order of their names, without copying the text.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("content", &self.text)?;
        if let Some(name) = &self.name {
            map.serialize_entry("name", name)?;
        }
        map.serialize_entry("role", self.role.as_str())?;
        if let Some(id) = &self.call_id {
            map.serialize_entry("tool_call_id", id)?;
        }
        map.end()
    }
}

/// An assistant message with these calls and no text.
pub(crate) fn calls_message(calls: impl IntoIterator<Item = ToolCall>) -> Json {
    let calls: Vec<Json> = calls
        .into_iter()
        .map(|ToolCall { id, name, arguments }| {
            let function = JsonObject::new().with("name", name).with("arguments", arguments);
            let call = JsonObject::new().with("id", id).with("type", "function");
            call.with("function", function).into()
        })
        .collect();
    let message = JsonObject::new().with("role", "assistant").with("content", Json::Null);
    message.with("tool_calls", calls).into()
}

/// The field of a chat message that has an unreadable form, and the expected form.
///
/// A call or id in another form would be stored but never found, so it is refused on append.
pub(crate) fn misfit(message: &Json) -> Option<(String, &'static str)> {
    let is_string_or_null = |value: &Json| matches!(value, Json::String(_) | Json::Null);
    for key in ["name", "tool_call_id"] {
        if message.get(key).is_some_and(|value| !is_string_or_null(value)) {
            return Some((format!("`{key}`"), "a string or null"));
        }
    }
    if let Some(Json::Bool(_) | Json::Number(_)) = message.get("content") {
        return Some(("`content`".into(), "a string, null or an array of parts"));
    }
    let calls = match message.get("tool_calls") {
        None | Some(Json::Null) => return None,
        Some(Json::Array(calls)) => calls,
        Some(_) => return Some(("`tool_calls`".into(), "an array or null")),
    };
    calls.iter().enumerate().find_map(|(index, call)| {
        let Some(call) = call.as_object() else {
            return Some((format!("`tool_calls[{index}]`"), "an object"));
        };
        let is_odd = call.get("id").is_some_and(|id| !is_string_or_null(id));
        is_odd.then(|| (format!("`tool_calls[{index}].id`"), "a string or null"))
    })
}

impl Dialect {
    /// Like [`misfit`]. Only chat messages can have such a field, because other dialects have their calls in parts.
    pub(crate) fn misfit(self, message: &Json) -> Option<(String, &'static str)> {
        if self == Self::Chat { misfit(message) } else { None }
    }
}
