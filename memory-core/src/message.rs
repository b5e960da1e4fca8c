//! The chat message, in the form that OpenAI's chat API gave it, without losing a field.

use std::borrow::Cow;
use std::fmt;

use serde::ser::{SerializeMap as _, SerializeStruct as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::{Map, Value};

/// A chat message. Reading it from JSON and writing it again gives an equal JSON value.
///
/// The fields that the engine works with are typed; every other field, and a known field in a form
/// that carries nothing (`"name": null`, `"tool_calls": []`), stays in [`extra`](Self::extra) and
/// comes back unchanged. Numbers keep the precision of an `f64`, `i64` or `u64`.
///
/// ```
/// use memory_core::Message;
///
/// let text = r#"{"role":"user","content":"Book me a flight","x-trace":7}"#;
/// let message = Message::from_json(text)?;
/// assert_eq!(message.text(), "Book me a flight");
/// assert_eq!(
///     serde_json::to_value(&message).unwrap(),
///     serde_json::from_str::<serde_json::Value>(text).unwrap(),
/// );
/// # Ok::<(), memory_core::MessageError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said; `None` where the field is absent.
    pub content: Option<Content>,
    /// The speaker's or, on a tool result, the tool's name.
    pub name: Option<String>,
    /// The calls that an assistant makes with this message.
    pub tool_calls: Vec<ToolCall>,
    /// The call that a tool result answers.
    pub tool_call_id: Option<String>,
    /// Every other field.
    pub extra: Map<String, Value>,
}

impl Message {
    /// A message of this role with text content.
    #[must_use]
    pub fn new(role: Role, text: impl Into<String>) -> Self {
        Self {
            role,
            content: Some(Content::Text(text.into())),
            name: None,
            tool_calls: Vec::new(),
            tool_call_id: None,
            extra: Map::new(),
        }
    }

    /// A system prompt.
    #[must_use]
    pub fn system(text: impl Into<String>) -> Self {
        Self::new(Role::System, text)
    }

    /// What the user says.
    #[must_use]
    pub fn user(text: impl Into<String>) -> Self {
        Self::new(Role::User, text)
    }

    /// What the model says.
    #[must_use]
    pub fn assistant(text: impl Into<String>) -> Self {
        Self::new(Role::Assistant, text)
    }

    /// The model's calls of tools, without text (`"content": null`).
    #[must_use]
    pub fn calls(calls: impl IntoIterator<Item = ToolCall>) -> Self {
        Self {
            content: Some(Content::Null),
            tool_calls: calls.into_iter().collect(),
            ..Self::new(Role::Assistant, "")
        }
    }

    /// The result of the call with this id.
    #[must_use]
    pub fn tool_result(call_id: impl Into<String>, text: impl Into<String>) -> Self {
        Self { tool_call_id: Some(call_id.into()), ..Self::new(Role::Tool, text) }
    }

    /// The same message from a named speaker.
    #[must_use]
    pub fn with_name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Reads a message from JSON.
    ///
    /// # Errors
    /// [`MessageError`] names the place and the expected form, and never quotes the content.
    pub fn from_json(text: &str) -> Result<Self, MessageError> {
        let value = serde_json::from_str(text)
            .map_err(|error| MessageError::Syntax { line: error.line(), column: error.column() })?;
        Self::from_value(value)
    }

    /// Reads a message from a JSON value.
    ///
    /// # Errors
    /// As [`from_json`](Self::from_json).
    pub fn from_value(value: Value) -> Result<Self, MessageError> {
        let Value::Object(mut extra) = value else {
            return Err(MessageError::field("the message", "a JSON object"));
        };
        let role = match extra.remove("role") {
            Some(Value::String(role)) if !role.is_empty() => Role::from(role),
            Some(_) => return Err(MessageError::field("`role`", "a non-empty string")),
            None => return Err(MessageError::MissingRole),
        };
        let content = extra.remove("content").map(Content::from_value).transpose()?;
        let name = take_string(&mut extra, "name")?;
        let tool_call_id = take_string(&mut extra, "tool_call_id")?;
        let tool_calls = match extra.get("tool_calls") {
            Some(Value::Array(calls)) if !calls.is_empty() => {
                let calls = calls
                    .iter()
                    .enumerate()
                    .map(|(index, call)| ToolCall::from_value(index, call))
                    .collect::<Result<_, _>>()?;
                extra.remove("tool_calls");
                calls
            }
            // Nothing is called: the form in which that was said is kept.
            None | Some(Value::Null | Value::Array(_)) => Vec::new(),
            Some(_) => return Err(MessageError::field("`tool_calls`", "an array or null")),
        };
        Ok(Self { role, content, name, tool_calls, tool_call_id, extra })
    }

    /// The message as JSON, if it can be read back: a store's last chance to tell a writer.
    ///
    /// # Errors
    /// [`MessageError`] for a message that was put together by hand and is none, such as one whose
    /// role is empty.
    pub fn to_json(&self) -> Result<String, MessageError> {
        let broken = || MessageError::field("the message", "writable as JSON");
        // Room for the usual text and what is around it, so that it does not grow in steps.
        let content = if let Some(Content::Text(text)) = &self.content { text.len() } else { 64 };
        let mut text = Vec::with_capacity(content + content / 16 + 64);
        serde_json::to_writer(&mut text, self).map_err(|_| broken())?;
        let text = String::from_utf8(text).map_err(|_| broken())?;
        let plain = self.extra.is_empty()
            && self.tool_calls.is_empty()
            && !matches!(self.content, Some(Content::Parts(_)))
            && !self.role.as_str().is_empty();
        if !plain {
            Self::from_json(&text)?;
        }
        Ok(text)
    }

    /// The message as a JSON object.
    #[must_use]
    pub fn to_value(&self) -> Value {
        let mut map = self.extra.clone();
        map.insert("role".into(), Value::String(self.role.as_str().into()));
        if let Some(content) = &self.content {
            map.insert("content".into(), content.to_value());
        }
        if let Some(name) = &self.name {
            map.insert("name".into(), Value::String(name.clone()));
        }
        if !self.tool_calls.is_empty() {
            let calls = self.tool_calls.iter().map(ToolCall::to_value).collect();
            map.insert("tool_calls".into(), Value::Array(calls));
        }
        if let Some(id) = &self.tool_call_id {
            map.insert("tool_call_id".into(), Value::String(id.clone()));
        }
        Value::Object(map)
    }

    /// The text of the content: its string, or the text parts joined by line breaks.
    #[must_use]
    pub fn text(&self) -> Cow<'_, str> {
        match &self.content {
            Some(Content::Text(text)) => Cow::Borrowed(text),
            Some(Content::Parts(parts)) => {
                let mut texts = parts.iter().filter_map(|part| part.get("text")?.as_str());
                match (texts.next(), texts.next()) {
                    (None, _) => Cow::Borrowed(""),
                    (Some(only), None) => Cow::Borrowed(only),
                    (Some(first), Some(second)) => {
                        let mut joined = format!("{first}\n{second}");
                        for text in texts {
                            joined.push('\n');
                            joined.push_str(text);
                        }
                        Cow::Owned(joined)
                    }
                }
            }
            Some(Content::Null) | None => Cow::Borrowed(""),
        }
    }

    /// How this message takes part in the calling of tools.
    ///
    /// The `function_call` of OpenAI's first function API has no id; there the function's name
    /// stands in for it.
    #[must_use]
    pub fn tool_link(&self) -> ToolLink {
        match &self.role {
            Role::Assistant if !self.tool_calls.is_empty() => ToolLink::Calls(
                self.tool_calls.iter().map(|call| call.id.as_str().into()).collect(),
            ),
            Role::Assistant => match self.extra.get("function_call").and_then(|c| c.get("name")) {
                Some(Value::String(name)) => ToolLink::Calls([function_call_id(name)].into()),
                _ => ToolLink::None,
            },
            Role::Tool => ToolLink::Result(self.tool_call_id.as_deref().unwrap_or_default().into()),
            Role::Function => {
                ToolLink::Result(function_call_id(self.name.as_deref().unwrap_or_default()))
            }
            Role::System | Role::Developer | Role::User | Role::Other(_) => ToolLink::None,
        }
    }
}

fn function_call_id(name: &str) -> Box<str> {
    format!("function_call:{name}").into()
}

fn take_string(map: &mut Map<String, Value>, field: &str) -> Result<Option<String>, MessageError> {
    match map.remove(field) {
        Some(Value::String(text)) => Ok(Some(text)),
        Some(Value::Null) => {
            map.insert(field.into(), Value::Null);
            Ok(None)
        }
        Some(_) => Err(MessageError::field(format!("`{field}`"), "a string or null")),
        None => Ok(None),
    }
}

impl Serialize for Message {
    /// As [`Message::to_value`], the fields in the order of their names, without a copy of the text.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if !self.extra.is_empty() {
            return self.to_value().serialize(serializer);
        }
        let mut map = serializer.serialize_map(None)?;
        match &self.content {
            Some(Content::Text(text)) => map.serialize_entry("content", text)?,
            Some(Content::Parts(parts)) => map.serialize_entry("content", parts)?,
            Some(Content::Null) => map.serialize_entry("content", &())?,
            None => {}
        }
        if let Some(name) = &self.name {
            map.serialize_entry("name", name)?;
        }
        map.serialize_entry("role", self.role.as_str())?;
        if let Some(id) = &self.tool_call_id {
            map.serialize_entry("tool_call_id", id)?;
        }
        if !self.tool_calls.is_empty() {
            let calls: Vec<_> = self.tool_calls.iter().map(ToolCall::to_value).collect();
            map.serialize_entry("tool_calls", &calls)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Message {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::from_value(Value::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

/// Who speaks.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Role {
    /// Instructions of the application.
    System,
    /// Instructions of the application, in the newer spelling.
    Developer,
    /// The person, or what stands for one.
    User,
    /// The model.
    Assistant,
    /// A tool's result.
    Tool,
    /// A function's result, in the older spelling.
    Function,
    /// Any other role, kept as it came.
    Other(Box<str>),
}

impl Role {
    /// The role as it stands in JSON.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::System => "system",
            Self::Developer => "developer",
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Tool => "tool",
            Self::Function => "function",
            Self::Other(role) => role,
        }
    }
}

impl From<String> for Role {
    fn from(role: String) -> Self {
        match role.as_str() {
            "system" => Self::System,
            "developer" => Self::Developer,
            "user" => Self::User,
            "assistant" => Self::Assistant,
            "tool" => Self::Tool,
            "function" => Self::Function,
            _ => Self::Other(role.into()),
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a message says.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// `"content": null`, as on a message that only calls tools.
    Null,
    /// A text.
    Text(String),
    /// Parts: texts, images, files and whatever a provider adds, kept as they came.
    Parts(Vec<Value>),
}

impl Content {
    fn from_value(value: Value) -> Result<Self, MessageError> {
        match value {
            Value::Null => Ok(Self::Null),
            Value::String(text) => Ok(Self::Text(text)),
            Value::Array(parts) => Ok(Self::Parts(parts)),
            Value::Bool(_) | Value::Number(_) | Value::Object(_) => {
                Err(MessageError::field("`content`", "a string, null or an array of parts"))
            }
        }
    }

    fn to_value(&self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Text(text) => Value::String(text.clone()),
            Self::Parts(parts) => Value::Array(parts.clone()),
        }
    }
}

/// One call of a tool.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolCall {
    /// What the result refers to; not empty.
    pub id: String,
    /// The rest of the call: `type`, `function` and whatever a provider adds.
    pub body: Map<String, Value>,
}

impl ToolCall {
    /// A call of a function; `arguments` is JSON text, as the model wrote it.
    #[must_use]
    pub fn function(
        id: impl Into<String>,
        name: impl Into<String>,
        arguments: impl Into<String>,
    ) -> Self {
        let mut function = Map::new();
        function.insert("name".into(), Value::String(name.into()));
        function.insert("arguments".into(), Value::String(arguments.into()));
        let mut body = Map::new();
        body.insert("type".into(), Value::String("function".into()));
        body.insert("function".into(), Value::Object(function));
        Self { id: id.into(), body }
    }

    /// The name of the function that is called.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.body.get("function")?.get("name")?.as_str()
    }

    /// The arguments, as the model wrote them.
    #[must_use]
    pub fn arguments(&self) -> Option<&str> {
        self.body.get("function")?.get("arguments")?.as_str()
    }

    fn from_value(index: usize, value: &Value) -> Result<Self, MessageError> {
        let Value::Object(body) = value else {
            return Err(MessageError::field(format!("`tool_calls[{index}]`"), "an object"));
        };
        let mut body = body.clone();
        match body.remove("id") {
            Some(Value::String(id)) if !id.is_empty() => Ok(Self { id, body }),
            _ => Err(MessageError::field(
                format!("`tool_calls[{index}].id`"),
                "a non-empty string, for its result refers to it",
            )),
        }
    }

    fn to_value(&self) -> Value {
        let mut map = self.body.clone();
        map.insert("id".into(), Value::String(self.id.clone()));
        Value::Object(map)
    }
}

/// How a message takes part in the calling of tools: all that is needed to keep units whole.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub enum ToolLink {
    /// Not at all.
    #[default]
    None,
    /// It calls, under these ids.
    Calls(Box<[Box<str>]>),
    /// It answers the call with this id; an empty id answers none.
    Result(Box<str>),
}

/// As `{"calls": [...], "results": [...]}`, with both lists for every message.
impl Serialize for ToolLink {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (calls, results): (&[Box<str>], &[Box<str>]) = match self {
            Self::None => (&[], &[]),
            Self::Calls(ids) => (ids, &[]),
            Self::Result(id) => (&[], std::slice::from_ref(id)),
        };
        let mut link = serializer.serialize_struct("ToolLink", 2)?;
        link.serialize_field("calls", calls)?;
        link.serialize_field("results", results)?;
        link.end()
    }
}

/// Why something is not a message. The text never quotes the message's content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MessageError {
    /// Not JSON at all.
    #[error("invalid JSON at line {line}, column {column}: write one complete JSON object")]
    Syntax {
        /// Counted from 1.
        line: usize,
        /// Counted from 1.
        column: usize,
    },
    /// The one field that every message has.
    #[error("`role` is missing: add who speaks, such as \"user\"")]
    MissingRole,
    /// A field in another form than expected.
    #[error("{field} must be {expected}")]
    Field {
        /// Which field, with its path.
        field: String,
        /// The form to give it.
        expected: &'static str,
    },
}

impl MessageError {
    fn field(field: impl Into<String>, expected: &'static str) -> Self {
        Self::Field { field: field.into(), expected }
    }
}

#[cfg(test)]
mod tests;
