//! The chat message, in the form that OpenAI's chat API gave it, without losing a field.

use std::borrow::Cow;
use std::fmt;

use serde::ser::SerializeMap as _;
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
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_filter("JSON has no NaN", |x| x.is_finite()).prop_map(Value::from),
            "\\PC{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("\\PC{0,6}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    fn any_call() -> impl Strategy<Value = Value> {
        ("[a-z0-9_]{1,8}", "\\PC{0,8}", prop::option::of(any_json())).prop_map(
            |(id, arguments, more)| {
                let mut call = json!({
                    "id": id, "type": "function",
                    "function": {"name": "f", "arguments": arguments},
                });
                if let Some(more) = more {
                    call["more"] = more;
                }
                call
            },
        )
    }

    fn any_message() -> impl Strategy<Value = Value> {
        let role = prop_oneof![
            prop::sample::select(vec![
                "system",
                "developer",
                "user",
                "assistant",
                "tool",
                "function"
            ])
            .prop_map(String::from),
            "[a-z]{1,6}",
        ];
        let content = prop_oneof![
            Just(Value::Null),
            "\\PC{0,20}".prop_map(Value::from),
            prop::collection::vec(any_json(), 0..3).prop_map(Value::from),
        ];
        let calls = prop_oneof![
            Just(Value::Null),
            prop::collection::vec(any_call(), 0..3).prop_map(Value::from),
        ];
        let name = prop_oneof![Just(Value::Null), "\\PC{0,6}".prop_map(Value::from)];
        (
            role,
            prop::option::of(content),
            prop::option::of(calls),
            prop::option::of(name.clone()),
            prop::option::of(name),
            prop::collection::btree_map("x[a-z]{0,3}", any_json(), 0..3),
        )
            .prop_map(|(role, content, calls, name, call_id, extra)| {
                let mut map: Map<_, _> = extra.into_iter().collect();
                map.insert("role".into(), role.into());
                for (field, value) in [
                    ("content", content),
                    ("tool_calls", calls),
                    ("name", name),
                    ("tool_call_id", call_id),
                ] {
                    if let Some(value) = value {
                        map.insert(field.into(), value);
                    }
                }
                Value::Object(map)
            })
    }

    proptest! {
        #[test]
        fn the_direct_form_is_that_of_the_value(
            text in "\\PC{0,20}", name in prop::option::of("[a-z]{1,4}"), calls in 0..3_usize,
        ) {
            let mut message = Message::assistant(text);
            message.name = name;
            message.tool_calls = (0..calls).map(|n| ToolCall::function(n.to_string(), "f", "{}")).collect();
            for extra in [false, true] {
                if extra {
                    message.extra.insert("a".into(), Value::Null);
                }
                prop_assert_eq!(message.to_json().unwrap(), message.to_value().to_string());
            }
        }
    }

    #[test]
    fn a_message_that_could_not_be_read_back_is_not_written() {
        assert!(Message::new(Role::Other("".into()), "x").to_json().is_err());
        assert!(Message::calls([ToolCall::function("", "f", "{}")]).to_json().is_err());
        let deep = (0..200).fold(Value::Null, |inner, _| Value::Array(vec![inner]));
        let mut message = Message::user("");
        message.content = Some(Content::Parts(vec![deep]));
        assert!(message.to_json().is_err(), "JSON is read 128 levels deep");
    }

    proptest! {
        #[test]
        fn reading_and_writing_a_message_loses_nothing(value in any_message()) {
            let text = value.to_string();
            let message = Message::from_json(&text).unwrap();
            prop_assert_eq!(&message.to_value(), &value);
            let again = Message::from_json(&serde_json::to_string(&message).unwrap()).unwrap();
            prop_assert_eq!(again, message);
        }

        #[test]
        fn no_json_value_makes_reading_panic(value in any_json()) {
            let _ = Message::from_value(value).map(|message| message.tool_link());
        }

        #[test]
        fn errors_never_quote_the_content(secret in "[A-Z]{12}") {
            for value in [
                json!({"role": 7, "content": secret}),
                json!({"role": "user", "content": {"text": secret}}),
                json!({"role": "user", "name": [secret]}),
                json!({"role": "assistant", "tool_calls": [{"id": 5, "x": secret}]}),
                json!([secret]),
            ] {
                let error = Message::from_value(value).unwrap_err().to_string();
                prop_assert!(!error.contains(&secret), "{}", error);
            }
        }
    }

    #[test]
    fn a_malformed_message_names_the_field_and_the_mend() {
        for (text, error) in [
            ("{", "invalid JSON at line 1, column 1: write one complete JSON object"),
            ("[]", "the message must be a JSON object"),
            ("{}", "`role` is missing: add who speaks, such as \"user\""),
            (r#"{"role":""}"#, "`role` must be a non-empty string"),
            (
                r#"{"role":"user","content":5}"#,
                "`content` must be a string, null or an array of parts",
            ),
            (r#"{"role":"user","name":{}}"#, "`name` must be a string or null"),
            (r#"{"role":"tool","tool_call_id":1}"#, "`tool_call_id` must be a string or null"),
            (r#"{"role":"assistant","tool_calls":{}}"#, "`tool_calls` must be an array or null"),
            (r#"{"role":"assistant","tool_calls":[3]}"#, "`tool_calls[0]` must be an object"),
            (
                r#"{"role":"assistant","tool_calls":[{"id":"a"},{"id":""}]}"#,
                "`tool_calls[1].id` must be a non-empty string, for its result refers to it",
            ),
        ] {
            assert_eq!(Message::from_json(text).unwrap_err().to_string(), error, "{text}");
        }
    }

    #[test]
    fn calls_and_results_are_linked_by_id_and_old_functions_by_name() {
        let calls = Message::calls([
            ToolCall::function("a", "f", "{}"),
            ToolCall::function("b", "g", "{}"),
        ]);
        assert_eq!(calls.tool_link(), ToolLink::Calls(["a".into(), "b".into()].into()));
        assert_eq!(Message::tool_result("a", "1").tool_link(), ToolLink::Result("a".into()));
        let old = Message::from_value(
            json!({"role": "assistant", "content": null, "function_call": {"name": "f"}}),
        );
        let result = Message::from_value(json!({"role": "function", "name": "f", "content": "1"}));
        let id: Box<str> = "function_call:f".into();
        assert_eq!(old.unwrap().tool_link(), ToolLink::Calls([id.clone()].into()));
        assert_eq!(result.unwrap().tool_link(), ToolLink::Result(id));
    }

    #[test]
    fn each_role_has_its_name() {
        for (role, name) in [
            (Role::System, "system"),
            (Role::Developer, "developer"),
            (Role::User, "user"),
            (Role::Assistant, "assistant"),
            (Role::Tool, "tool"),
            (Role::Function, "function"),
            (Role::Other("critic".into()), "critic"),
        ] {
            assert_eq!((role.as_str(), &*role.to_string()), (name, name));
            assert_eq!(Role::from(name.to_owned()), role);
        }
    }

    #[test]
    fn the_text_of_parts_is_joined_by_line_breaks_and_other_parts_are_passed_over() {
        let text = |content: Value| {
            let message = Message::from_value(json!({"role": "user", "content": content})).unwrap();
            message.text().into_owned()
        };
        let part = |text: &str| json!({"type": "text", "text": text});
        let image = json!({"type": "image_url", "image_url": {"url": "data:,"}});
        assert_eq!(text(json!("plain")), "plain");
        assert_eq!((text(Value::Null), text(json!([image]))), (String::new(), String::new()));
        assert_eq!(text(json!([image, part("one"), image])), "one");
        assert_eq!(text(json!([part("one"), image, part("two")])), "one\ntwo");
        assert_eq!(text(json!([part("1"), part("2"), part("3"), part("4")])), "1\n2\n3\n4");
    }

    #[test]
    fn the_ways_to_make_a_message_fill_the_fields_that_they_name() {
        for (message, role) in [
            (Message::system("x"), Role::System),
            (Message::user("x"), Role::User),
            (Message::assistant("x"), Role::Assistant),
            (Message::tool_result("c", "x"), Role::Tool),
        ] {
            assert_eq!((message.role.clone(), &*message.text()), (role, "x"));
        }
        assert_eq!(Message::tool_result("c", "x").tool_call_id.as_deref(), Some("c"));
        assert_eq!(Message::user("x").with_name("ann").name.as_deref(), Some("ann"));
        let call = ToolCall::function("c", "f", "{}");
        assert_eq!((call.name(), call.arguments()), (Some("f"), Some("{}")));
        assert_eq!(call.body["type"], "function");
        let bare = ToolCall { body: Map::new(), ..call.clone() };
        assert_eq!((bare.name(), bare.arguments()), (None, None));
        let calls = Message::calls([call.clone()]);
        assert_eq!((calls.role, calls.content), (Role::Assistant, Some(Content::Null)));
        assert_eq!(calls.tool_calls, [call]);
    }

    #[test]
    fn only_an_assistant_calls_and_only_a_tool_answers() {
        let calls = Message::calls([ToolCall::function("a", "f", "{}")]);
        let as_user = Message { role: Role::User, ..calls };
        assert_eq!(as_user.tool_link(), ToolLink::None);
        assert_eq!(Message::assistant("x").tool_link(), ToolLink::None);
        let without_id = Message::new(Role::Tool, "x");
        assert_eq!(without_id.tool_link(), ToolLink::Result("".into()));
        let without_name = Message::new(Role::Function, "x");
        assert_eq!(without_name.tool_link(), ToolLink::Result("function_call:".into()));
        let odd = json!({"role": "assistant", "content": "x", "function_call": {"name": 7}});
        assert_eq!(Message::from_value(odd).unwrap().tool_link(), ToolLink::None);
    }
}
