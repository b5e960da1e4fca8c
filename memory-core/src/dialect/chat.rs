//! OpenAI Chat Completions, and the forms close to it.
//!
//! Also reads Ollama and Hugging Face templates (arguments as objects, no ids, `images`, `tool_name`), Mistral
//! (`thinking` chunks, `document_url`), Cohere v2 (`tool_plan`, `document`), LangChain's flat messages (`type` in
//! place of `role`, calls with `args`) and goose (`toolRequest`, `toolResponse`). Writes OpenAI's form.

mod blocks;
mod plain;
mod write;

use std::borrow::Cow;

pub(crate) use self::plain::{PlainMessage, calls_message};
pub(super) use self::write::write;
use super::fields::{
    Field, Position, Table, content, extension, find, media, members, opaque, parts, protocol,
};
use super::media::{
    at_url, from_file_data, from_url, read_block as read_shared_block, read_mcp_text, size_of,
};
use super::part::{
    Arguments, CallKind, CallPart, MediaKind, MediaPart, MediaSource, Native, Part, ReasoningPart,
    ResultPart, TextKind, TextPart,
};
use super::write::read_arguments;
use super::{Dialect, Visit};
use crate::json::Json;
use crate::message::Role;

const NAME_AND_ARGUMENTS: &[Field] = &[protocol("name"), content("arguments")];

/// The fields in which providers return reasoning.
const REASONING: [&str; 5] =
    ["reasoning_content", "reasoning", "reasoning_details", "thinking_blocks", "thinking"];

const MESSAGE: &[Field] = &[
    protocol("role"),
    parts("content"),
    content("name"),
    members(
        "tool_calls",
        &[
            protocol("id"),
            protocol("type"),
            members("function", NAME_AND_ARGUMENTS),
            members("custom", &[protocol("name"), content("input")]),
            extension(opaque("extra_content")),
        ],
    ),
    protocol("tool_call_id"),
    members("function_call", NAME_AND_ARGUMENTS),
    content("refusal"),
    members("audio", &[protocol("id")]),
    extension(content("reasoning_content")),
    extension(content("reasoning")),
    extension(members(
        "reasoning_details",
        &[
            protocol("type"),
            protocol("id"),
            protocol("format"),
            protocol("index"),
            content("text"),
            content("summary"),
            opaque("signature"),
            opaque("data"),
        ],
    )),
    extension(members(
        "thinking_blocks",
        &[protocol("type"), content("thinking"), opaque("signature"), opaque("data")],
    )),
    extension(content("thinking")),
    extension(content("tool_plan")),
    extension(protocol("prefix")),
    extension(media("images")),
];

const URL: &[Field] = &[media("url"), protocol("detail")];
const CACHE_BREAKPOINT: Field = extension(protocol("prompt_cache_breakpoint"));
const CACHE_CONTROL: Field = extension(protocol("cache_control"));

const PARTS: Table = &[
    ("text", &[protocol("type"), content("text"), CACHE_BREAKPOINT, CACHE_CONTROL]),
    ("refusal", &[protocol("type"), content("refusal")]),
    ("image_url", &[protocol("type"), members("image_url", URL), CACHE_BREAKPOINT, CACHE_CONTROL]),
    (
        "input_audio",
        &[protocol("type"), members("input_audio", &[media("data"), protocol("format")])],
    ),
    (
        "file",
        &[
            protocol("type"),
            members("file", &[protocol("file_id"), content("filename"), media("file_data")]),
            extension(protocol("file_id")),
        ],
    ),
    ("video_url", &[protocol("type"), extension(members("video_url", URL))]),
    ("audio_url", &[protocol("type"), extension(members("audio_url", URL))]),
    (
        "document_url",
        &[protocol("type"), extension(media("document_url")), extension(content("document_name"))],
    ),
    ("reference", &[protocol("type"), extension(protocol("reference_ids"))]),
    (
        "thinking",
        &[
            protocol("type"),
            extension(parts("thinking")),
            extension(protocol("closed")),
            extension(opaque("signature")),
        ],
    ),
    (
        "document",
        &[protocol("type"), extension(members("document", &[protocol("id"), content("data")]))],
    ),
];

pub(super) fn fields(position: Position<'_>) -> Option<&'static [Field]> {
    match position {
        Position::Message => Some(MESSAGE),
        Position::Part(kind) => find(PARTS, kind),
        Position::Item(_) => None,
    }
}

/// The role; in LangChain's flat messages, the type.
pub(super) fn role(message: &Json) -> Option<Role> {
    let role = message.get_str("role").or_else(|| message.get_str("type"))?;
    let more = [
        // LangChain.
        ("human", Role::User),
        ("ai", Role::Assistant),
        ("AIMessageChunk", Role::Assistant),
        // Templates of open models.
        ("model", Role::Assistant),
        ("ipython", Role::Tool),
    ];
    super::role_from(role, &more)
}

pub(super) fn read<'a>(message: &'a Json, visit: Visit<'_, 'a>) {
    let role = role(message);
    let answers = message.get_str("tool_call_id").is_some_and(|id| !id.is_empty());
    if answers && role != Some(Role::Assistant) || matches!(role, Some(Role::Tool | Role::Function))
    {
        let kind = match role {
            Some(Role::Function) => CallKind::LegacyFunction,
            _ => CallKind::Function,
        };
        visit(Part::Result(read_result(message, kind)));
        return;
    }
    let native = Some(Native { dialect: Dialect::Chat, json: message });
    read_reasoning(message, native, visit);
    if let Some(plan) = message.get_str("tool_plan").filter(|plan| !plan.is_empty()) {
        let kind = TextKind::Plan;
        visit(Part::Text(TextPart { kind, native, ..TextPart::new(plan) }));
    }
    if let Some(content) = message.get("content") {
        read_content(content, message.get("tool_calls"), visit);
    }
    read_images(message, visit);
    if let Some(refusal) = message.get_str("refusal").filter(|text| !text.is_empty()) {
        let kind = TextKind::Refusal;
        visit(Part::Text(TextPart { kind, native, ..TextPart::new(refusal) }));
    }
    if let Some(audio) = message.get("audio").filter(|audio| audio.as_object().is_some()) {
        read_audio(audio, visit);
    }
    for call in message.get("tool_calls").and_then(Json::as_array).unwrap_or_default() {
        visit(Part::Call(read_call(call)));
    }
    if let Some(call) = message.get("function_call").filter(|call| call.as_object().is_some()) {
        let name = call.get_str("name").unwrap_or_default();
        let arguments = read_arguments(call.get("arguments"));
        let kind = CallKind::LegacyFunction;
        visit(Part::Call(CallPart { kind, ..CallPart::new(None, name, arguments) }));
    }
}

fn read_reasoning<'a>(message: &'a Json, native: Option<Native<'a>>, visit: Visit<'_, 'a>) {
    for key in REASONING {
        match message.get(key) {
            Some(Json::String(text)) if !text.is_empty() => {
                let text = Cow::Borrowed(text.as_str());
                visit(Part::Reasoning(ReasoningPart { text, opaque: None, native }));
            }
            Some(Json::Array(items)) => {
                for item in items {
                    let text =
                        ["text", "summary", "thinking"].iter().find_map(|key| item.get_str(key));
                    let opaque = ["signature", "data"].iter().find_map(|key| item.get_str(key));
                    let text = Cow::Borrowed(text.unwrap_or_default());
                    visit(Part::Reasoning(ReasoningPart { text, opaque, native }));
                }
            }
            _ => {}
        }
    }
}

/// Images beside the content: base64 or addresses (Ollama), or parts (OpenRouter).
fn read_images<'a>(message: &'a Json, visit: Visit<'_, 'a>) {
    for image in message.get("images").and_then(Json::as_array).unwrap_or_default() {
        match image {
            Json::String(data) => {
                let (source, media_type) = if data.starts_with("http") || data.starts_with("data:")
                {
                    from_url(data)
                } else {
                    (MediaSource::Data(data.as_str()), None)
                };
                let image = MediaPart::new(MediaKind::Image, source);
                visit(Part::Media(MediaPart { media_type, ..image }));
            }
            Json::Object(_) => read_block(image, None, visit),
            _ => {}
        }
    }
}

/// The model's answer as audio: a transcript, and the sound itself.
fn read_audio<'a>(audio: &'a Json, visit: Visit<'_, 'a>) {
    let native = Some(Native { dialect: Dialect::Chat, json: audio });
    if let Some(transcript) = audio.get_str("transcript") {
        let kind = TextKind::Transcript;
        visit(Part::Text(TextPart { kind, native, ..TextPart::new(transcript) }));
    }
    let source = match (audio.get_str("id"), audio.get_str("data")) {
        (Some(id), _) => MediaSource::FileId(id),
        (None, Some(data)) => MediaSource::Data(data),
        (None, None) => return,
    };
    visit(Part::Media(MediaPart { native, ..MediaPart::new(MediaKind::Audio, source) }));
}

fn read_content<'a>(content: &'a Json, calls: Option<&'a Json>, visit: Visit<'_, 'a>) {
    match content {
        Json::Null => {}
        Json::String(text) if text.is_empty() => {}
        Json::String(text) => visit(Part::text(text.as_str())),
        Json::Array(blocks) => blocks.iter().for_each(|block| read_block(block, calls, visit)),
        block => read_block(block, calls, visit),
    }
}

/// Whether `tool_calls` holds the call with this id: LangChain keeps a copy in the content.
fn is_copy(calls: Option<&Json>, id: Option<&str>) -> bool {
    let calls = calls.and_then(Json::as_array).unwrap_or_default();
    id.is_some() && calls.iter().any(|call| call.get_str("id") == id)
}

fn read_block<'a>(block: &'a Json, calls: Option<&'a Json>, visit: Visit<'_, 'a>) {
    let native = Some(Native { dialect: Dialect::Chat, json: block });
    let address = |key: &str| {
        let value = block.get(key)?;
        value.as_str().or_else(|| value.get_str("url"))
    };
    let at_address = |key: &str, kind| {
        let detail = block.get(key).and_then(|inner| inner.get_str("detail"));
        let size = size_of(block);
        Some(MediaPart { detail, size, native, ..at_url(kind, address(key)?) })
    };
    let kind = block.get_str("type").unwrap_or_default();
    let medium = match kind {
        "refusal" => {
            let text = TextPart::new(block.get_str("refusal").unwrap_or_default());
            return visit(Part::Text(TextPart { kind: TextKind::Refusal, native, ..text }));
        }
        "image_url" => at_address("image_url", MediaKind::Image),
        "video_url" => at_address("video_url", MediaKind::Video),
        "audio_url" => at_address("audio_url", MediaKind::Audio),
        "document_url" => at_address("document_url", MediaKind::Document)
            .map(|part| MediaPart { title: block.get_str("document_name"), ..part }),
        "input_audio" => block.get("input_audio").and_then(|audio| {
            let (source, media_type) = match audio.get_str("data") {
                Some(data) if data.starts_with("data:") => from_url(data),
                Some(data) => (MediaSource::Data(data), audio.get_str("format")),
                // Mistral sends base64 without a surrounding object.
                None => (MediaSource::Data(audio.as_str()?), None),
            };
            Some(MediaPart { media_type, native, ..MediaPart::new(MediaKind::Audio, source) })
        }),
        "file" if block.get("file").is_some() => block.get("file").and_then(|file| {
            let title = file.get_str("filename");
            let (source, media_type) = match (file.get_str("file_data"), file.get_str("file_id")) {
                (Some(data), _) => from_file_data(data, title),
                (None, id) => (MediaSource::FileId(id?), None),
            };
            let kind = super::media::kind_of(media_type, MediaKind::Document);
            Some(MediaPart { media_type, title, native, ..MediaPart::new(kind, source) })
        }),
        "document" if block.get("document").is_some() => {
            block.get("document").and_then(|document| {
                let data = document.get("data")?;
                let source = match data.as_str() {
                    Some(text) => MediaSource::Text(text),
                    None => MediaSource::Parts(vec![Part::Data(data)]),
                };
                Some(MediaPart { native, ..MediaPart::new(MediaKind::Document, source) })
            })
        }
        "thinking" => return visit(Part::Reasoning(read_thinking(block, native))),
        "toolRequest" => return visit(Part::Call(read_goose_call(block))),
        "toolResponse" => return visit(Part::Result(read_goose_result(block))),
        "tool_use" if is_copy(calls, block.get_str("id")) => return,
        _ => None,
    };
    match medium {
        Some(part) => visit(Part::Media(part)),
        None => read_shared_block(block, Dialect::Chat, visit),
    }
}

/// Reasoning as a part: an array of texts (Mistral) or a text.
fn read_thinking<'a>(block: &'a Json, native: Option<Native<'a>>) -> ReasoningPart<'a> {
    let text = match block.get("thinking") {
        Some(Json::String(text)) => Cow::Borrowed(text.as_str()),
        Some(Json::Array(chunks)) => super::part::join(
            chunks.iter().filter_map(|chunk| chunk.get_str("text")).map(Cow::Borrowed),
        ),
        _ => Cow::Borrowed(""),
    };
    ReasoningPart { text, opaque: block.get_str("signature"), native }
}

/// An element of `tool_calls`: OpenAI's, Ollama's or LangChain's.
fn read_call(call: &Json) -> CallPart<'_> {
    let id = call.get_str("id");
    let native = Some(Native { dialect: Dialect::Chat, json: call });
    if let Some(custom) = call.get("custom") {
        let arguments = custom.get_str("input").map_or(Arguments::Missing, Arguments::Text);
        let name = custom.get_str("name").unwrap_or_default();
        let kind = CallKind::Custom;
        return CallPart { kind, native, ..CallPart::new(id, name, arguments) };
    }
    let function = call.get("function").unwrap_or(call);
    let name = function.get_str("name").unwrap_or_default();
    let arguments = ["arguments", "args", "parameters"].iter().find_map(|key| function.get(key));
    // OpenAI does not have arguments as an object.
    let is_native =
        call.get("function").is_some() && arguments.is_some_and(|a| a.as_str().is_some());
    let native = native.filter(|_| is_native);
    CallPart { native, ..CallPart::new(id, name, read_arguments(arguments)) }
}

fn read_result<'a>(message: &'a Json, kind: CallKind<'a>) -> ResultPart<'a> {
    let link = message.get_str("tool_call_id");
    let name = message.get_str("name").or_else(|| message.get_str("tool_name"));
    let mut content = Vec::new();
    let mut native = Some(Native { dialect: Dialect::Chat, json: message });
    match message.get("content") {
        Some(Json::String(text)) => match read_mcp_text(text) {
            // Sent unchanged, the base64 would count as text.
            Some(parts) => (content, native) = (parts, None),
            None if text.is_empty() => {}
            None => content.push(Part::text(text.as_str())),
        },
        Some(value) => read_content(value, None, &mut |part| content.push(part)),
        None => {}
    }
    let texts = content.len();
    read_images(message, &mut |part| content.push(part));
    let has_images = content.len() > texts;
    let is_named = link.is_none() && message.get("tool_name").is_some();
    if is_named || has_images || content.iter().any(is_foreign) {
        native = None;
    }
    // LangChain has this status.
    let is_error = message.get_str("status") == Some("error");
    let native = native.filter(|_| !is_error);
    ResultPart { is_error, kind, native, ..ResultPart::new(link, name, content) }
}

/// Whether a part of a result has a type that OpenAI does not know.
fn is_foreign(part: &Part<'_>) -> bool {
    let native = match part {
        Part::Text(part) => part.native,
        Part::Media(part) => part.native,
        Part::Other(native) => Some(*native),
        Part::Data(_) | Part::Reasoning(_) | Part::Call(_) | Part::Result(_) => return true,
    };
    native.is_some_and(|native| !Dialect::Chat.knows_part(native.json))
}

fn read_goose_call(block: &Json) -> CallPart<'_> {
    let call = block.get("toolCall").and_then(|call| call.get("value"));
    let name = call.and_then(|call| call.get_str("name")).unwrap_or_default();
    let arguments = read_arguments(call.and_then(|call| call.get("arguments")));
    CallPart::new(block.get_str("id"), name, arguments)
}

fn read_goose_result(block: &Json) -> ResultPart<'_> {
    let result = block.get("toolResult");
    let value = result.and_then(|result| result.get("value"));
    let blocks = value.and_then(|value| value.get("content")).or(value);
    let mut content = Vec::new();
    for block in blocks.and_then(Json::as_array).unwrap_or_default() {
        read_block(block, None, &mut |part| content.push(part));
    }
    let failed = result.and_then(|result| result.get_str("status")) == Some("error");
    if let Some(error) = result.and_then(|result| result.get_str("error")) {
        content.push(Part::text(error));
    }
    let flagged = value.and_then(|value| value.get("isError")).and_then(Json::as_bool);
    let is_error = failed || flagged == Some(true);
    ResultPart { is_error, ..ResultPart::new(block.get_str("id"), None, content) }
}
