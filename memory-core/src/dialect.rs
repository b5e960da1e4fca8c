//! Reads messages of every provider into neutral parts, and writes messages from parts.
//!
//! A [`Dialect`] is the message format of an API or a library. [`Dialect::read`] returns the [`Part`]s of a native
//! message, [`Dialect::write`] makes native messages from parts, and [`convert`] does both.
//!
//! ```
//! use memory_core::dialect::{Dialect, convert};
//! use memory_core::json::Json;
//!
//! let call = Json::parse(r#"{"role":"assistant","content":null,"tool_calls":[{"id":"call_7",
//!     "type":"function","function":{"name":"get_tide","arguments":"{\"port\":\"Brest\"}"}}]}"#)?;
//! assert_eq!(Dialect::detect(&call), Some(Dialect::Chat));
//!
//! let written = convert(&call, Dialect::Chat, Dialect::Anthropic);
//! assert_eq!(
//!     written.messages[0].to_string(),
//!     r#"{"role":"assistant","content":[{"type":"tool_use","id":"call_7","name":"get_tide","input":{"port":"Brest"}}]}"#,
//! );
//! assert!(written.losses.is_empty());
//! # Ok::<(), memory_core::json::JsonError>(())
//! ```
//!
//! # What a part becomes
//!
//! | part | Chat | Responses | Anthropic | Gemini | Bedrock | AI SDK |
//! | --- | --- | --- | --- | --- | --- | --- |
//! | text | `content` | `message` item | `text` | `text` | `text` | `text` |
//! | image | `image_url` | `input_image` | `image` | `inlineData`, `fileData` | `image` (no URL but S3) | `image` |
//! | audio | `input_audio` | `input_audio` | note | `inlineData`, `fileData` | `audio` | `file` |
//! | video | note | note | note | `inlineData`, `fileData` | `video` | `file` |
//! | document | `file` | `input_file` | `document` | `inlineData`, `fileData` | `document` | `file` |
//! | call | `tool_calls` | `function_call` | `tool_use` | `functionCall` | `toolUse` | `tool-call` |
//! | result | `tool` message | `function_call_output` | `tool_result` in a user message | `functionResponse` in a user message | `toolResult` in a user message | `tool-result` in a `tool` message |
//! | arguments | text | text | object | object | object | object |
//!
//! Several results in one call of `write` are grouped into one message if the dialect groups them, and split
//! otherwise.
//!
//! # What a conversion loses
//!
//! Each loss is reported as a [`Loss`]. Within one dialect, parts with their native JSON lose only unknown fields.
//!
//! | loss | where | instead |
//! | --- | --- | --- |
//! | [`Reasoning`](Loss::Reasoning) | between dialects; without a signature to Anthropic and Bedrock | dropped |
//! | [`ProviderRun`](Loss::ProviderRun) | between dialects | call and result dropped |
//! | [`MediaMoved`](Loss::MediaMoved) | Chat | a user message behind the results |
//! | [`MediaReplaced`](Loss::MediaReplaced) | media that the table above has as note; ids of files; to Chat and Responses base64 of an unknown media type | a text in brackets |
//! | [`DocumentAsText`](Loss::DocumentAsText) | text documents to Chat, Responses, Gemini, AI SDK | title and text |
//! | [`ErrorFlag`](Loss::ErrorFlag) | Chat, Responses; beside media AI SDK | the text `Error: ` before the result |
//! | [`ArgumentsWrapped`](Loss::ArgumentsWrapped) | all that want an object | `{"_raw": ".."}`, which reading unwraps |
//! | [`CallKind`](Loss::CallKind) | custom calls to all but Chat and Responses; legacy calls | a function call |
//! | [`IdMissing`](Loss::IdMissing) | all but Gemini | no id: give the parts ids before |
//! | [`ResultName`](Loss::ResultName) | Chat (with an id), Responses, Anthropic, Bedrock | dropped |
//! | [`NameMissing`](Loss::NameMissing) | Gemini, AI SDK | the id: give the parts names before |
//! | [`DataAsText`](Loss::DataAsText) | data to Chat, Responses, Anthropic; beside text to Gemini, AI SDK | JSON as text |
//! | [`ResultsSplit`](Loss::ResultsSplit) | Chat | one message each |
//! | [`Order`](Loss::Order) | Chat | text before calls |
//! | [`Citations`](Loss::Citations) | between dialects | dropped |
//! | [`TextKind`](Loss::TextKind) | refusals to all but Chat and Responses; transcripts from Chat | text |
//! | [`CacheMark`](Loss::CacheMark) | between dialects | dropped |
//! | [`Role`](Loss::Role) | a role that is not known | `user` |
//! | [`Author`](Loss::Author) | `name` from Chat | dropped |
//! | [`Unknown`](Loss::Unknown) | parts of a type that is not known | dropped |
//!
//! Not reported are fields that no dialect knows, such as those of an application, the `annotations` beside the content of
//! a Chat message, which requests do not have, and the spacing of arguments that are written as an object. An answer of text and calls becomes several items of Responses; reading them all and
//! writing their parts at once restores one message.
//!
//! Gemini and Bedrock have no message with role `system`, and Anthropic allows one only in some places. `write`
//! nevertheless writes this role in their form, and the caller moves its text to the place that the request requires.

mod ai_sdk;
mod anthropic;
mod bedrock;
mod chat;
mod clear;
mod detect;
mod entry;
mod fields;
mod gemini;
mod known_fields;
mod media;
mod part;
mod resemble;
mod responses;
mod write;

use std::fmt;
use std::str::FromStr;

pub(crate) use self::bedrock::{MAX_DOCUMENT_NAME, document_name};
pub(crate) use self::chat::{PlainMessage, calls_message};
pub(crate) use self::clear::{clear, cleared_text, is_clearable, is_cleared};
pub(crate) use self::entry::{NAME, check_entry};
pub use self::fields::{Field, Holds, Position};
pub(crate) use self::media::{derived_media_type, document_format};
pub use self::part::{
    Arguments, CallKind, CallPart, MediaKind, MediaPart, MediaSize, MediaSource, Native, Part,
    ReasoningPart, ResultPart, TextKind, TextPart,
};
use self::resemble::resembles;
pub use self::write::{Loss, Written};
use crate::json::{Json, JsonObject};
use crate::message::Role;
pub use crate::message::ToolCall;

/// Called with each part of a message.
type Visit<'v, 'a> = &'v mut dyn FnMut(Part<'a>);

/// The message format of an API or a library.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Dialect {
    /// OpenAI Chat Completions; also reads the forms of Ollama, Mistral, Cohere v2, LangChain and goose.
    Chat,
    /// OpenAI Responses items.
    Responses,
    /// Anthropic Messages.
    Anthropic,
    /// Google Gemini contents.
    Gemini,
    /// AWS Bedrock Converse.
    Bedrock,
    /// Vercel AI SDK, model messages and user-interface messages.
    AiSdk,
}

impl Dialect {
    /// All dialects.
    pub const ALL: [Self; 6] =
        [Self::Chat, Self::Responses, Self::Anthropic, Self::Gemini, Self::Bedrock, Self::AiSdk];

    /// Detects the dialect of a message, by the first of these steps that decides:
    ///
    /// 1. Not an object, or an envelope around messages (a line of a Claude Code or Codex session, LangChain's
    ///    `data` and `kwargs`, `messages`, `contents`): none. Between steps 4 and 5, a turn of Cohere's first API
    ///    (`message` or `tool_results` without `content`): none.
    /// 2. `type` of a Responses item other than `message`; a `function_call` without `call_id` is none.
    /// 3. `parts`: elements with `type` are of the AI SDK, with one of Gemini's keys of Gemini, with `part_kind`
    ///    none. An empty array is of the AI SDK if there is an `id`.
    /// 4. `toolInvocations` or `experimental_attachments`: AI SDK.
    /// 5. Elements in `tool_calls`, or a `tool_call_id`: Chat, whatever form the content has.
    /// 6. The first element of `content` that decides: without `type` by the keys of Bedrock or Gemini; with one by
    ///    types that only one dialect has.
    /// 7. A key that only chat messages have, such as `function_call`, `refusal` and `reasoning_content`: Chat.
    /// 8. `type` `message`: Anthropic beside `stop_reason`, else Responses.
    /// 9. `cache_control` or `citations` in the content: Anthropic.
    /// 10. A role with `content`, or without any text elsewhere (`message`, `text`, `value`): Chat, because nearly
    ///     all dialects have these in common.
    /// 11. No role, but `content` and a `type` of LangChain's flat messages (`human`, `ai`, `tool`): Chat.
    ///
    /// A history may change its dialect from one message to the next, so each message is detected separately.
    #[must_use]
    pub fn detect(message: &Json) -> Option<Self> {
        detect::detect(message)
    }

    /// The name: `chat`, `responses`, `anthropic`, `gemini`, `bedrock` or `ai_sdk`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Responses => "responses",
            Self::Anthropic => "anthropic",
            Self::Gemini => "gemini",
            Self::Bedrock => "bedrock",
            Self::AiSdk => "ai_sdk",
        }
    }

    /// The role of a message of this dialect.
    ///
    /// Roles are compared without surrounding white space and case. `human` and `ai` are known in Chat, `model` in
    /// Chat and Gemini. In Gemini a message without a role is the user's; in Responses an item without one is a
    /// tool's if its type ends in `_output`, else the assistant's.
    #[must_use]
    pub fn role(self, message: &Json) -> Option<Role> {
        match self {
            Self::Chat => chat::role(message),
            Self::Responses => responses::role(message),
            Self::Anthropic => anthropic::role(message),
            Self::Gemini => gemini::role(message),
            Self::Bedrock => bedrock::role(message),
            Self::AiSdk => ai_sdk::role(message),
        }
    }

    /// Calls `visit` with each part of a message of this dialect, in order. Empty texts are left out unless there is
    /// other content. Reading a message whose content is a text does not allocate.
    pub fn read<'a>(self, message: &'a Json, visit: &mut dyn FnMut(Part<'a>)) {
        match self {
            Self::Chat => chat::read(message, visit),
            Self::Responses => responses::read(message, visit),
            Self::Anthropic => anthropic::read(message, visit),
            Self::Gemini => gemini::read(message, visit),
            Self::Bedrock => bedrock::read(message, visit),
            Self::AiSdk => ai_sdk::read(message, visit),
        }
    }

    /// The parts of a message of this dialect, in order.
    #[must_use]
    pub fn parts(self, message: &Json) -> Vec<Part<'_>> {
        let mut parts = Vec::new();
        self.read(message, &mut |part| parts.push(part));
        parts
    }

    /// Writes parts of one speaker as messages of this dialect: none without parts, several if the dialect has
    /// separate messages for results, calls or items. An unknown role is written as `user`.
    ///
    /// Parts may come from several messages: this is how results are grouped.
    #[must_use]
    pub fn write(self, role: &Role, parts: &[Part<'_>]) -> Written {
        match self {
            Self::Chat => chat::write(role, parts),
            Self::Responses => responses::write(role, parts),
            Self::Anthropic => anthropic::write(role, parts),
            Self::Gemini => gemini::write(role, parts),
            Self::Bedrock => bedrock::write(role, parts),
            Self::AiSdk => ai_sdk::write(role, parts),
        }
    }

    /// The name of the author of a message: `name` in Chat, except on results.
    #[must_use]
    pub fn author(self, message: &Json) -> Option<&str> {
        let name = message.get_str("name").filter(|name| !name.is_empty())?;
        let is_chat = self == Self::Chat;
        let answers = matches!(self.role(message), Some(Role::Tool | Role::Function));
        (is_chat && !answers && message.get_str("tool_call_id").is_none()).then_some(name)
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Dialect {
    type Err = UnknownDialectError;

    fn from_str(name: &str) -> Result<Self, UnknownDialectError> {
        Self::ALL.into_iter().find(|dialect| dialect.as_str() == name).ok_or(UnknownDialectError)
    }
}

/// No dialect has this name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("unknown dialect: use chat, responses, anthropic, gemini, bedrock or ai_sdk")]
pub struct UnknownDialectError;

/// The role of a message in its detected dialect.
#[must_use]
pub fn role(message: &Json) -> Option<Role> {
    Dialect::detect(message)?.role(message)
}

/// Converts one message from one dialect to another. If both are the same, known fields are kept and others left out.
/// A message with an unknown role, such as `narrator`, is converted as the user's.
#[must_use]
pub fn convert(message: &Json, from: Dialect, to: Dialect) -> Written {
    let role = from.role(message).unwrap_or(Role::User);
    let mut written = to.write(&role, &from.parts(message));
    if let Some(author) = from.author(message) {
        let first = written.messages.first_mut().and_then(Json::as_object_mut);
        match first {
            Some(first) if to == Dialect::Chat => {
                first.insert("name", author);
            }
            _ => written.losses.push(Loss::Author),
        }
    }
    if from == to && from == Dialect::AiSdk {
        keep_options(message, &mut written);
    }
    written
}

/// Keeps the AI SDK's options beside the content of a message.
fn keep_options(message: &Json, written: &mut Written) {
    let options = message.get("providerOptions").filter(|options| options.as_object().is_some());
    if let (Some(options), [Json::Object(only)]) = (options, written.messages.as_mut_slice()) {
        JsonObject::insert(only, "providerOptions", options.clone());
    }
}

/// The role with this name. `more` lists names that only some dialects have.
fn role_from(name: &str, more: &[(&str, Role)]) -> Option<Role> {
    const KNOWN: [(&str, Role); 6] = [
        ("user", Role::User),
        ("assistant", Role::Assistant),
        ("system", Role::System),
        ("developer", Role::Developer),
        ("tool", Role::Tool),
        ("function", Role::Function),
    ];
    let trimmed = name.trim();
    if trimmed.is_empty() {
        return None;
    }
    let known = KNOWN.iter().chain(more).find(|(known, _)| known.eq_ignore_ascii_case(trimmed));
    Some(known.map_or_else(|| Role::Other(name.into()), |(_, role)| role.clone()))
}

#[cfg(test)]
mod tests;
