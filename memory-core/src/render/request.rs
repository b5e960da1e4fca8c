//! The request that is sent, in the form of its API.

use std::fmt;
use std::sync::OnceLock;

use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::dialect::Dialect;
use crate::json::{Json, JsonObject};
use crate::message::{Message, Role};
use crate::profile::ProfileName;
use crate::tokens::{TokenCounter, message_tokens};

/// The history in a request to a model, in the form of its API.
///
/// | profile | form |
/// | --- | --- |
/// | `openai_chat`, `mistral`, `strict_template` | an array of messages |
/// | `anthropic`, `bedrock` | an object with `system`, if there is any, and `messages` |
/// | `gemini` | an object with `systemInstruction`, if there is any, and `contents` |
/// | `openai_responses` | an object with `input` |
///
/// `Serialize` and `Display` write stored numbers unchanged. An object can be flattened into a request body with
/// `#[serde(flatten)]`, which also preserves them if the body is written as text.
///
/// It is empty only if the history and the system prompt are empty: no API accepts a request without messages. A
/// history without any sendable content results in the user line `[continue]`.
#[derive(Clone)]
pub struct Request {
    profile: ProfileName,
    system: Option<Json>,
    messages: Vec<RequestMessage>,
    /// The messages as JSON, built when they are first read as such.
    read: OnceLock<Vec<Json>>,
}

/// A message of a request.
#[derive(Debug, Clone)]
pub(crate) enum RequestMessage {
    /// A stored message that is sent unchanged: a role and a text, which it shares.
    Shared(Message),
    Written(Json),
}

impl RequestMessage {
    pub(super) fn to_json(&self) -> Json {
        match self {
            Self::Shared(message) => message.as_json().into_owned(),
            Self::Written(json) => json.clone(),
        }
    }
}

impl Serialize for RequestMessage {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Written(json) => json.serialize(serializer),
            Self::Shared(message) => match message.as_plain() {
                // In the order of a message that is written for a request.
                Some(plain) if plain.is_role_and_text() => {
                    let mut map = serializer.serialize_map(Some(2))?;
                    map.serialize_entry("role", plain.role.as_str())?;
                    map.serialize_entry("content", &plain.text)?;
                    map.end()
                }
                _ => message.serialize(serializer),
            },
        }
    }
}

impl Request {
    pub(super) const fn new(
        profile: ProfileName,
        system: Option<Json>,
        messages: Vec<RequestMessage>,
    ) -> Self {
        Self { profile, system, messages, read: OnceLock::new() }
    }

    pub(crate) fn as_slice(&self) -> &[RequestMessage] {
        &self.messages
    }

    /// The API of the request.
    #[must_use]
    pub const fn profile(&self) -> ProfileName {
        self.profile
    }

    /// The system prompt, if the API has a separate field for it.
    #[must_use]
    pub const fn system(&self) -> Option<&Json> {
        self.system.as_ref()
    }

    /// The messages, contents or items. The first call copies the texts; `Serialize` does not.
    #[must_use]
    pub fn messages(&self) -> &[Json] {
        self.read.get_or_init(|| self.messages.iter().map(RequestMessage::to_json).collect())
    }

    /// The request as one JSON value.
    #[must_use]
    pub fn to_json(&self) -> Json {
        let Some(keys) = Keys::of(self.profile) else {
            return Json::Array(self.messages().to_vec());
        };
        let mut object = JsonObject::new();
        if let Some(system) = &self.system {
            object.insert(keys.system, system.clone());
        }
        object.with(keys.messages, self.messages().to_vec()).into()
    }

    /// The request as a [`Value`], which keeps integers of up to 64 bits and rounds all other numbers to the nearest
    /// double. Use `Serialize` to preserve numbers.
    #[must_use]
    pub fn to_value(&self) -> Value {
        self.to_json().to_value()
    }

    /// Recounts the request: each message with its framing, and the system prompt as a message.
    #[must_use]
    pub fn count_tokens(&self, counter: &dyn TokenCounter) -> u64 {
        let dialect = dialect_of(self.profile);
        let system = self.system.as_ref().map_or(0, |system| system_tokens(counter, system));
        let messages = self.messages().iter().map(|json| json_tokens(counter, dialect, json));
        messages.fold(system, u64::saturating_add)
    }
}

/// The tokens of a message in this dialect.
pub(super) fn json_tokens(counter: &dyn TokenCounter, dialect: Dialect, json: &Json) -> u64 {
    crate::tokens::written_tokens(counter, dialect, json).into()
}

/// The tokens of a system message without text.
pub(super) fn system_framing(counter: &dyn TokenCounter) -> u64 {
    message_tokens(counter, &Message::new(Role::System, "")).into()
}

/// The tokens of the separate system prompt: those of one system message with these texts.
pub(super) fn system_tokens(counter: &dyn TokenCounter, system: &Json) -> u64 {
    let mut tokens = system_framing(counter);
    visit_texts(system, &mut |text| tokens += counter.count(text) as u64);
    tokens
}

fn visit_texts(json: &Json, visit: &mut dyn FnMut(&str)) {
    match json {
        Json::String(text) => visit(text),
        Json::Array(items) => items.iter().for_each(|item| visit_texts(item, visit)),
        Json::Object(object) => {
            for key in ["text", "parts"] {
                if let Some(inner) = object.get(key) {
                    visit_texts(inner, visit);
                }
            }
        }
        _ => {}
    }
}

/// The dialect of an API.
pub(super) const fn dialect_of(profile: ProfileName) -> Dialect {
    match profile {
        ProfileName::OpenaiChat | ProfileName::Mistral | ProfileName::StrictTemplate => {
            Dialect::Chat
        }
        ProfileName::OpenaiResponses => Dialect::Responses,
        ProfileName::Anthropic => Dialect::Anthropic,
        ProfileName::Gemini => Dialect::Gemini,
        ProfileName::Bedrock => Dialect::Bedrock,
    }
}

struct Keys {
    system: &'static str,
    messages: &'static str,
}

impl Keys {
    /// `None` if the request is an array.
    const fn of(profile: ProfileName) -> Option<Self> {
        match profile {
            ProfileName::OpenaiChat | ProfileName::Mistral | ProfileName::StrictTemplate => None,
            ProfileName::OpenaiResponses => {
                Some(Self { system: "instructions", messages: "input" })
            }
            ProfileName::Anthropic | ProfileName::Bedrock => {
                Some(Self { system: "system", messages: "messages" })
            }
            ProfileName::Gemini => Some(Self { system: "systemInstruction", messages: "contents" }),
        }
    }
}

impl PartialEq for Request {
    fn eq(&self, other: &Self) -> bool {
        self.profile == other.profile
            && self.system == other.system
            && self.messages() == other.messages()
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("profile", &self.profile)
            .field("system", &self.system)
            .field("messages", &self.messages())
            .finish()
    }
}

impl Serialize for Request {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Some(keys) = Keys::of(self.profile) else {
            return self.messages.serialize(serializer);
        };
        let mut map = serializer.serialize_map(Some(1 + usize::from(self.system.is_some())))?;
        if let Some(system) = &self.system {
            map.serialize_entry(keys.system, system)?;
        }
        map.serialize_entry(keys.messages, &self.messages)?;
        map.end()
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_json().fmt(f)
    }
}
