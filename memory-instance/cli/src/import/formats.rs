//! The formats that an import reads.
//!
//! A message of one of the six dialects is stored as it is. A record of any other format is converted: to the
//! messages in it, where they are of a dialect, else to chat messages.

mod claude_code;
mod codex;
mod conversation;
mod goose;
mod langchain;
mod pydantic_ai;
mod sharegpt;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use memory_core::dialect::Dialect;
use memory_core::json::{Json, JsonObject};
use memory_core::{Message, MessageError};

pub(crate) use self::claude_code::{ClaudeSession, is_turn, merge};

/// A format.
#[derive(Debug)]
pub(crate) struct Format {
    /// Its name for `--format`.
    name: &'static str,
    aliases: &'static [&'static str],
    /// One record of it, with an article.
    record: &'static str,
    about: &'static str,
    kind: Kind,
}

/// How a record of a format becomes messages.
#[derive(Debug)]
enum Kind {
    /// It is a message of this dialect.
    Message(Dialect),
    /// It is converted, if the first function finds that it is of this format.
    Converted(fn(&Json) -> bool, Convert),
    /// As [`Converted`](Self::Converted), or a message of this dialect.
    Both(fn(&Json) -> bool, Convert, Dialect),
    /// It contains messages or turns of other formats.
    Conversation,
}

/// The messages of a record; none if it holds no message of the conversation. The error describes the fault without
/// quoting the record.
type Convert = fn(&Json) -> Result<Vec<Json>, String>;

/// All formats. A record is of the first one that knows it, envelopes first.
static FORMATS: &[Format] = &[
    Format {
        name: "codex",
        aliases: &["codex-rollout"],
        record: "a line of a Codex rollout",
        about: "Codex rollouts: the response items; display copies, session metadata and compactions are left out",
        kind: Kind::Converted(codex::is_line, codex::convert),
    },
    Format {
        name: "claude-code",
        aliases: &["claude"],
        record: "a line of a Claude Code session",
        about: "Claude Code sessions: the messages; those of subagents, titles, system lines and repeated lines are left out",
        kind: Kind::Converted(claude_code::is_line, claude_code::convert),
    },
    Format {
        name: "langchain",
        aliases: &["langchain-role", "langgraph"],
        record: "a LangChain message",
        about: "LangChain and LangGraph messages: {type, data}, {lc, kwargs}, or flat with `type` or `role`",
        kind: Kind::Both(langchain::is_wrapped, langchain::convert, Dialect::Chat),
    },
    Format {
        name: "pydantic-ai",
        aliases: &["pydantic_ai", "pydantic"],
        record: "a pydantic-ai message",
        about: "pydantic-ai requests and responses; instructions and tools that the provider ran are left out",
        kind: Kind::Converted(pydantic_ai::is_message, pydantic_ai::convert),
    },
    Format {
        name: "sharegpt",
        aliases: &["share-gpt"],
        record: "a ShareGPT conversation",
        about: "ShareGPT: {conversations: [{from, value}]}, `function_call` and `observation` as calls and results",
        kind: Kind::Converted(sharegpt::is_conversation, sharegpt::convert),
    },
    Format {
        name: "openai-finetune",
        aliases: &["openai-fine-tuning", "fine-tuning", "finetune", "conversation", "messages"],
        record: "a conversation",
        about: "one conversation a record: an object with `messages`, `conversation`, `contents` or `input` (fine-tuning examples, request bodies, exported sessions), messages of any format; tools and settings are left out",
        kind: Kind::Conversation,
    },
    Format {
        name: "goose",
        aliases: &[],
        record: "a line of a goose session",
        about: "goose sessions; metadata lines and messages that the agent does not see are left out",
        kind: Kind::Both(goose::is_unsent, goose::convert, Dialect::Chat),
    },
    Format {
        name: "chat",
        aliases: &["openai", "openai-chat", "array", "json-array", "context"],
        record: "an OpenAI chat message",
        about: "OpenAI chat messages, and the output of `memory context`",
        kind: Kind::Message(Dialect::Chat),
    },
    Format {
        name: "ollama",
        aliases: &[],
        record: "an Ollama message",
        about: "Ollama: chat messages with arguments as objects and no ids",
        kind: Kind::Message(Dialect::Chat),
    },
    Format {
        name: "huggingface",
        aliases: &["hugging-face", "hf", "hf-template"],
        record: "a message of a Hugging Face template",
        about: "Hugging Face templates: chat messages with arguments as objects and no ids",
        kind: Kind::Message(Dialect::Chat),
    },
    Format {
        name: "responses",
        aliases: &["openai-responses", "responses-items"],
        record: "an item of OpenAI Responses",
        about: "OpenAI Responses items",
        kind: Kind::Message(Dialect::Responses),
    },
    Format {
        name: "openai-agents",
        aliases: &["agents", "openai-agents-sdk"],
        record: "an item of the OpenAI Agents SDK",
        about: "items of the OpenAI Agents SDK",
        kind: Kind::Message(Dialect::Responses),
    },
    Format {
        name: "anthropic",
        aliases: &[],
        record: "an Anthropic message",
        about: "Anthropic messages",
        kind: Kind::Message(Dialect::Anthropic),
    },
    Format {
        name: "gemini",
        aliases: &["gemini-contents"],
        record: "a Gemini content",
        about: "Gemini contents",
        kind: Kind::Message(Dialect::Gemini),
    },
    Format {
        name: "bedrock",
        aliases: &["bedrock-converse"],
        record: "a message of Bedrock Converse",
        about: "messages of AWS Bedrock Converse",
        kind: Kind::Message(Dialect::Bedrock),
    },
    Format {
        name: "ai_sdk",
        aliases: &["ai-sdk", "aisdk", "aisdk-model", "vercel"],
        record: "a message of the AI SDK",
        about: "Vercel AI SDK: messages of the model and of the user interface",
        kind: Kind::Message(Dialect::AiSdk),
    },
];

/// Reads the value of `--format`, and lists the formats in the help.
pub(crate) fn parser() -> impl TypedValueParser<Value = &'static Format> {
    let values = FORMATS.iter().map(|format| {
        PossibleValue::new(format.name).help(format.about).aliases(format.aliases.iter().copied())
    });
    PossibleValuesParser::new(values).try_map(|name| {
        FORMATS
            .iter()
            .find(|format| format.name == name || format.aliases.contains(&name.as_str()))
            .ok_or("no such format")
    })
}

/// The messages of a record, in order; none if it holds no message of the conversation. `only` is the format that
/// the user named.
///
/// # Errors
/// The fault of the record, and the remedy. Messages are not checked.
pub(crate) fn read(
    record: Json,
    only: Option<&'static Format>,
    session: &mut ClaudeSession,
) -> Result<Vec<Json>, String> {
    if let Some(only) = only {
        check_format(&record, only)?;
    }
    if session.is_repeated(&record) {
        return Ok(Vec::new());
    }
    if conversation::elements(&record).is_none() {
        // Its format was checked above.
        return read_element(record, None);
    }
    let mut messages = Vec::new();
    read_elements(record, only, &mut messages)?;
    Ok(messages)
}

/// Reads a conversation; one within an array is read as well. JSON is nested 127 levels deep at most.
fn read_elements(
    record: Json,
    only: Option<&'static Format>,
    messages: &mut Vec<Json>,
) -> Result<(), String> {
    let Some(elements) = conversation::elements(&record) else {
        messages.extend(read_element(record, only)?);
        return Ok(());
    };
    for (element, number) in elements.into_iter().zip(1..) {
        read_elements(element, only, messages)
            .map_err(|error| format!("message {number} of it: {error}"))?;
    }
    Ok(())
}

/// The messages of a record that is no conversation.
fn read_element(record: Json, only: Option<&'static Format>) -> Result<Vec<Json>, String> {
    if let Some(only) = only
        && !matches!(only.kind, Kind::Conversation)
    {
        check_format(&record, only)?;
    }
    let format = FORMATS.iter().find_map(|format| match format.kind {
        Kind::Converted(is, convert) | Kind::Both(is, convert, _) if is(&record) => Some(convert),
        _ => None,
    });
    match format {
        Some(convert) => convert(&record),
        None => Ok(vec![record]),
    }
}

/// Whether a record is of this format.
fn check_format(record: &Json, only: &'static Format) -> Result<(), String> {
    let is_it = match only.kind {
        Kind::Conversation => conversation::elements(record).is_some(),
        Kind::Converted(is, _) => is(record) || holds_elements(record, only),
        Kind::Both(is, _, dialect) => {
            is(record) || is_message(record, dialect) || holds_elements(record, only)
        }
        Kind::Message(dialect) => is_message(record, dialect) || holds_elements(record, only),
    };
    if is_it {
        return Ok(());
    }
    let name = only.name;
    let Some(likely) = FORMATS.iter().find(|format| format.is_likely(record)) else {
        // Its fault is reported when it is checked as a message.
        return match Message::try_from(record.clone()) {
            Err(error) => Err(format!("not of --format {name}: {}", problem_of(&error))),
            Ok(_) => Err(format!("not of --format {name}; leave --format out")),
        };
    };
    Err(format!(
        "not of --format {name}: this looks like {}; use --format {}, or leave --format out",
        likely.record, likely.name
    ))
}

/// Whether the record is a conversation whose elements may be of the format: they are checked one by one.
fn holds_elements(record: &Json, only: &Format) -> bool {
    let is_other = |format: &Format| match format.kind {
        Kind::Converted(is, _) => is(record),
        _ => false,
    };
    let Some(elements) = conversation::elements(record) else { return false };
    let begins_so = match only.kind {
        Kind::Converted(is, _) => elements.iter().any(is),
        _ => true,
    };
    begins_so && !FORMATS.iter().any(is_other)
}

/// Whether a record is a message of this dialect, or one that it shares with the others: a role and a text.
fn is_message(record: &Json, dialect: Dialect) -> bool {
    let Some(detected) = Dialect::detect(record) else { return false };
    let is_shared = || {
        let has_text = match record.get("content") {
            Some(Json::String(_)) => true,
            Some(Json::Array(blocks)) => {
                blocks.iter().all(|block| block.get_str("type") == Some("text"))
            }
            _ => false,
        };
        has_text && record.as_object().is_some_and(|object| !object.contains_key("tool_calls"))
    };
    detected == dialect
        || detected == Dialect::Chat
            && matches!(dialect, Dialect::Anthropic | Dialect::Responses | Dialect::AiSdk)
            && is_shared()
}

impl Format {
    fn is_likely(&self, record: &Json) -> bool {
        match self.kind {
            Kind::Converted(is, _) | Kind::Both(is, ..) => is(record),
            Kind::Conversation => conversation::elements(record).is_some(),
            Kind::Message(dialect) => Dialect::detect(record) == Some(dialect),
        }
    }
}

/// The fault of a message, and the remedy.
pub(crate) fn problem_of(error: &MessageError) -> String {
    match error {
        MessageError::Unsupported { format } => format!(
            "this looks like {format}, which import does not read; convert it to chat messages, such as {{\"role\": \"user\", \"content\": \"hi\"}}"
        ),
        error => error.to_string(),
    }
}

/// Whether the object has a member of this key that is not `null`.
fn has(object: &JsonObject, key: &str) -> bool {
    object.get(key).is_some_and(|value| !value.is_null())
}

/// The chat message of a role with this content.
fn message(role: &str, content: impl Into<Json>) -> JsonObject {
    JsonObject::new().with("role", role).with("content", content)
}

/// An element of `tool_calls`.
fn call(id: Option<&str>, name: &str, arguments: Option<&Json>) -> Json {
    let arguments = match arguments {
        None | Some(Json::Null) => "{}".to_owned(),
        Some(Json::String(text)) => text.clone(),
        Some(json) => json.to_string(),
    };
    let function = JsonObject::new().with("name", name).with("arguments", arguments);
    let mut call = JsonObject::new();
    if let Some(id) = id {
        call.insert("id", id);
    }
    call.with("type", "function").with("function", function).into()
}

/// A text, or any other value as JSON.
fn text_of(value: Option<&Json>) -> String {
    match value {
        None | Some(Json::Null) => String::new(),
        Some(Json::String(text)) => text.clone(),
        Some(json) => json.to_string(),
    }
}

#[cfg(test)]
mod tests;
