//! Writes turns in the form of the API.

use std::collections::HashSet;

use super::bug::{RenderBug, is_planted};
use super::repair::{RepairKind, Repairs};
use super::request::RequestMessage;
use super::turn::{Input, Speaker, Turn};
use crate::dialect::{Dialect, Loss, Part, TextKind, TextPart};
use crate::json::{Json, JsonObject};
use crate::message::Message;
use crate::profile::{Alphabet, ContentKey, NameForm, Profile, ProfileName, ReasoningForm};

/// The placeholder for the signature of another model's call.
/// (D ai.google.dev/gemini-api/docs/thought-signatures)
const SIGNATURE: &str = "skip_thought_signature_validator";

/// A written message, and its tokens if known.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) message: RequestMessage,
    pub(super) known: Option<u64>,
}

impl Line {
    const fn new(json: Json, known: Option<u64>) -> Self {
        Self { message: RequestMessage::Written(json), known }
    }

    /// A message that was written for this request.
    const fn written(&mut self) -> Option<&mut Json> {
        match &mut self.message {
            RequestMessage::Shared(_) => None,
            RequestMessage::Written(json) => Some(json),
        }
    }
}

/// Writes a turn as messages.
pub(super) fn turn(
    turn: &mut Turn<'_>,
    inputs: &[Input<'_>],
    profile: &Profile,
    dialect: Dialect,
    repairs: &mut Repairs,
    lines: &mut Vec<Line>,
) {
    if let Some(known) = turn.known
        && matches!(dialect, Dialect::Chat | Dialect::Anthropic)
        && let Some(message) = stored_form(turn, inputs)
    {
        lines.push(Line { message: RequestMessage::Shared(message.clone()), known: Some(known) });
        return;
    }
    if let ([Part::Text(part)], Some(known)) = (turn.parts.as_slice(), turn.known)
        && let TextPart { text, kind: TextKind::Plain, native: None, citations: None } = part
        && turn.author.is_none()
        && matches!(dialect, Dialect::Chat | Dialect::Anthropic)
    {
        let role = turn.speaker.role();
        let json = JsonObject::new().with("role", role.as_str()).with("content", text.as_ref());
        lines.push(Line::new(json.into(), Some(known)));
        return;
    }
    if profile.name == ProfileName::StrictTemplate {
        join_texts(turn);
    }
    let written = dialect.write(&turn.speaker.role(), &turn.parts);
    if written.losses.iter().any(|loss| *loss != Loss::ResultsSplit) {
        turn.touch();
    }
    for loss in written.losses {
        match loss {
            // The name is sent with the call; results consist of data.
            Loss::ResultName | Loss::ResultsSplit | Loss::DataAsText => {}
            Loss::Reasoning => repairs.add(RepairKind::ReasoningLeftOut, turn.sequence),
            Loss::ArgumentsWrapped => repairs.add(RepairKind::ArgumentsWrapped, turn.sequence),
            Loss::MediaReplaced => repairs.add(RepairKind::MediaReplaced, turn.sequence),
            loss => repairs.add(RepairKind::Lost(loss), turn.sequence),
        }
    }
    let count = written.messages.len();
    for (index, mut json) in written.messages.into_iter().enumerate() {
        if dialect == Dialect::Chat
            && let Json::Object(message) = &mut json
        {
            chat_message(message, turn.author, profile);
        }
        // The messages of one turn are counted together.
        let known = turn.known.map(|known| if index + 1 == count { known } else { 0 });
        lines.push(Line::new(json, known));
    }
}

/// The stored message of which a turn is the unchanged role and text.
fn stored_form<'a>(turn: &Turn<'_>, inputs: &[Input<'a>]) -> Option<&'a Message> {
    let [Part::Text(TextPart { text, kind: TextKind::Plain, native: None, citations: None })] =
        turn.parts.as_slice()
    else {
        return None;
    };
    let message = inputs.get(turn.input?)?.message;
    let stored = message.as_plain().filter(|plain| plain.is_role_and_text())?;
    let is_same = turn.author.is_none()
        && stored.role == turn.speaker.role()
        && std::ptr::eq(text.as_ref(), stored.text.as_str());
    is_same.then_some(message)
}

/// Templates concatenate the content of all roles except the user's as strings.
fn join_texts(turn: &mut Turn<'_>) {
    if turn.speaker == Speaker::Tool {
        for part in &mut turn.parts {
            if let Part::Result(result) = part
                && result.content.len() > 1
            {
                result.content = vec![Part::text(result.text().into_owned())];
                turn.known = None;
            }
        }
        return;
    }
    let texts: Vec<_> = turn
        .parts
        .iter()
        .filter_map(|part| match part {
            Part::Text(text) => Some(text.text.as_ref()),
            _ => None,
        })
        .collect();
    turn.known = turn.known.filter(|_| texts.len() < 2);
    let is_all_text = texts.len() == turn.parts.len() || turn.speaker != Speaker::User;
    if texts.len() > 1 && is_all_text {
        let joined = texts.join("\n\n");
        let mut joined = Some(Part::text(joined));
        turn.parts.retain_mut(|part| match (&part, joined.take()) {
            (Part::Text(_), Some(text)) => {
                *part = text;
                true
            }
            (Part::Text(_), None) => false,
            (_, kept) => {
                joined = kept;
                true
            }
        });
    }
}

/// Keeps the fields that the API knows, in its form.
fn chat_message(message: &mut JsonObject, author: Option<&str>, profile: &Profile) {
    let role = message.get("role").and_then(Json::as_str).unwrap_or_default().to_owned();
    let is_assistant = role == "assistant";
    let needs_reasoning = matches!(
        profile.reasoning,
        ReasoningForm::FieldsWithCalls | ReasoningForm::FieldsBesideCalls
    );
    let takes_reasoning = needs_reasoning
        || profile.reasoning == ReasoningForm::Fields
        || is_planted(RenderBug::ForeignReasoningKept);
    let is_openai = profile.name == ProfileName::OpenaiChat;
    let is_known = |key: &str, value: &Json| match key {
        "role" | "content" => true,
        "tool_call_id" => role == "tool",
        "name" => role == "function",
        "tool_calls" => is_assistant,
        "function_call" => is_assistant && profile.function_role,
        "refusal" => is_assistant && is_openai && value.as_str().is_some(),
        "audio" => is_assistant && is_openai,
        "reasoning_content" | "reasoning" => {
            is_assistant && takes_reasoning && value.as_str().is_some()
        }
        // `reasoning_details` too: OpenRouter reads it, and has no profile.
        _ => false,
    };
    let unknown: Vec<String> = message
        .iter()
        .filter(|(key, value)| !is_known(key, value))
        .map(|(key, _)| key.to_owned())
        .collect();
    for key in unknown {
        message.remove(&key);
    }
    if let Some(author) =
        author.filter(|_| matches!(role.as_str(), "user" | "assistant" | "system" | "developer"))
    {
        message.insert("name", author);
    }
    let has_calls = message.contains_key("tool_calls") || message.contains_key("function_call");
    if is_assistant && message.get("content").is_none_or(Json::is_null) {
        match profile.content {
            ContentKey::Required if has_calls => {
                message.insert("content", "");
            }
            _ if !has_calls => {
                message.remove("content");
            }
            _ => {}
        }
    }
    if is_assistant && has_calls && needs_reasoning && !message.contains_key("reasoning_content") {
        message.insert("reasoning_content", "");
    }
    if profile.name == ProfileName::Mistral {
        mistral_parts(message);
    }
}

/// Audio and documents in the form of Mistral.
fn mistral_parts(message: &mut JsonObject) {
    let Some(Json::Array(parts)) = message.get_mut("content") else { return };
    for part in parts {
        let Some(object) = part.as_object() else { continue };
        let new = match object.get("type").and_then(Json::as_str) {
            Some("input_audio") => {
                let data = object.get("input_audio").and_then(|audio| audio.get_str("data"));
                data.map(|data| {
                    JsonObject::new().with("type", "input_audio").with("input_audio", data)
                })
            }
            Some("file") => {
                let file = object.get("file");
                let data = file.and_then(|file| file.get_str("file_data"));
                let id = file.and_then(|file| file.get_str("file_id"));
                match (data, id) {
                    (Some(data), _) => {
                        let new = JsonObject::new()
                            .with("type", "document_url")
                            .with("document_url", data);
                        Some(match file.and_then(|file| file.get_str("filename")) {
                            Some(name) => new.with("document_name", name),
                            None => new,
                        })
                    }
                    (None, Some(id)) => {
                        Some(JsonObject::new().with("type", "file").with("file_id", id))
                    }
                    (None, None) => None,
                }
            }
            _ => None,
        };
        if let Some(new) = new {
            *part = new.into();
        }
    }
}

/// Sets the fields that depend on the neighboring messages.
pub(super) fn finish(lines: &mut Vec<Line>, profile: &Profile, repairs: &mut Repairs) {
    match profile.name {
        ProfileName::OpenaiResponses => responses(lines, repairs),
        ProfileName::Gemini if profile.reasoning == ReasoningForm::SignedCalls => {
            for line in lines.iter_mut() {
                if line.written().is_some_and(sign) {
                    line.known = None;
                    repairs.add(RepairKind::SignaturePlaceholder, None);
                }
            }
        }
        ProfileName::Anthropic => {
            if let Some(most) = profile.max_cache_marks {
                cache_marks(lines, most, repairs);
            }
        }
        _ => {}
    }
}

/// Adds a signature to the first call of a content, if it has none.
fn sign(content: &mut Json) -> bool {
    let Json::Object(content) = content else { return false };
    let Some(Json::Array(parts)) = content.get_mut("parts") else { return false };
    let is_call = |part: &&mut Json| {
        part.get("functionCall").is_some() || part.get("function_call").is_some()
    };
    let Some(Json::Object(call)) = parts.iter_mut().find(is_call) else { return false };
    let signature = ["thoughtSignature", "thought_signature"];
    let is_signed = signature
        .iter()
        .any(|key| call.get(key).and_then(Json::as_str).is_some_and(|text| !text.is_empty()));
    if is_signed || is_planted(RenderBug::NoPlaceholder) {
        return false;
    }
    for key in signature {
        call.remove(key);
    }
    call.insert("thoughtSignature", SIGNATURE);
    true
}

/// Keeps the latest marks, which cover the longest prefix.
fn cache_marks(lines: &mut [Line], most: usize, repairs: &mut Repairs) {
    let mut left = most;
    for line in lines.iter_mut().rev() {
        if let Some(json) = line.written() {
            strip_marks(json, &mut left, repairs);
        }
    }
}

fn strip_marks(json: &mut Json, left: &mut usize, repairs: &mut Repairs) {
    match json {
        Json::Array(items) => {
            items.iter_mut().rev().for_each(|item| strip_marks(item, left, repairs));
        }
        Json::Object(object) => {
            if let Some(content) = object.get_mut("content") {
                strip_marks(content, left, repairs);
            }
            let is_object = object.get("cache_control").map(|mark| mark.as_object().is_some());
            match is_object {
                None => {}
                Some(true) if *left > 0 => *left -= 1,
                Some(_) => {
                    object.remove("cache_control");
                    repairs.add(RepairKind::CacheMark, None);
                }
            }
        }
        _ => {}
    }
}

/// The items' own ids. (E continue#11494, codex#33176)
const ITEM_ID: NameForm = NameForm::new(Alphabet::Word, 64);

/// The required prefix of item ids; `None` for an item whose id must not change.
fn id_prefix(kind: &str) -> Option<&'static str> {
    match kind {
        "message" => Some("msg_"),
        "function_call" => Some("fc_"),
        "custom_tool_call" => Some("ctc_"),
        "reasoning" => Some("rs_"),
        "item_reference" | "local_shell_call_output" => None,
        _ => Some(""),
    }
}

/// Items: reasoning directly before the item that it produced, ids that are known and unique.
fn responses(lines: &mut Vec<Line>, repairs: &mut Repairs) {
    let mut seen: HashSet<String> = HashSet::new();
    for line in lines.iter_mut() {
        let Some(Json::Object(item)) = line.written() else { continue };
        let kind = item.get("type").and_then(Json::as_str).unwrap_or("message").to_owned();
        let (Some(prefix), Some(id)) = (id_prefix(&kind), item.get("id")) else { continue };
        let is_right = id.as_str().is_some_and(|id| {
            id.starts_with(prefix) && ITEM_ID.accepts(id) && seen.insert(id.to_owned())
        });
        if !is_right && !is_planted(RenderBug::ItemIdKept) {
            item.remove("id");
            repairs.add(RepairKind::ItemId, None);
        }
    }
    // From the end, so that a reasoning item sees what remains behind it.
    let mut next: Option<(bool, usize)> = None;
    let mut index = lines.len();
    while let Some(at) = index.checked_sub(1) {
        index = at;
        let Some(line) = lines.get_mut(at) else { break };
        let Some(json) = line.written() else { continue };
        let kind = json.get_str("type").unwrap_or("message").to_owned();
        if kind == "reasoning" {
            let has_id = json.get("id").is_some();
            let is_followed = next.is_some_and(|(is_product, _)| is_product);
            if !(is_followed || is_planted(RenderBug::LoneReasoningKept)) || !says_something(json) {
                lines.remove(at);
                forget_tokens(lines, at);
                repairs.add(RepairKind::ReasoningLeftOut, None);
                next = next.map(|(product, place)| (product, place.saturating_sub(1)));
                continue;
            }
            if let Some((_, place)) = next.filter(|_| !has_id)
                && let Some(Json::Object(product)) = lines.get_mut(place).and_then(Line::written)
                && product.get("type").and_then(Json::as_str) != Some("reasoning")
                && product.remove("id").is_some()
            {
                repairs.add(RepairKind::ItemId, None);
            }
            next = Some((true, at));
            continue;
        }
        let is_product = match kind.as_str() {
            "message" => json.get_str("role") == Some("assistant"),
            "item_reference"
            | "compaction"
            | "compaction_trigger"
            | "mcp_approval_response"
            | "tool_search_output" => false,
            kind => !kind.ends_with("_output"),
        };
        next = Some((is_product, at));
    }
}

/// Forgets the tokens of the lines that were counted together with the one that was here.
fn forget_tokens(lines: &mut [Line], at: usize) {
    let (before, after) = lines.split_at_mut(at.min(lines.len()));
    for line in before.iter_mut().rev().take_while(|line| line.known == Some(0)) {
        line.known = None;
    }
    for line in after {
        if line.known.take() != Some(0) {
            break;
        }
    }
}

/// Whether a reasoning item has a text or is encrypted. Gives it the field that it must have.
fn says_something(item: &mut Json) -> bool {
    let Json::Object(item) = item else { return false };
    if item.get("summary").and_then(Json::as_array).is_none() {
        item.insert("summary", Vec::new());
    }
    let is_filled = |key| item.get(key).and_then(Json::as_array).is_some_and(|l| !l.is_empty());
    let is_encrypted =
        item.get("encrypted_content").and_then(Json::as_str).is_some_and(|text| !text.is_empty());
    is_encrypted || is_filled("summary") || is_filled("content")
}

/// The tokens of the system prompt beside the messages, if those of all its texts are known. `framing` are those of
/// a system message without text.
pub(super) fn known_system_tokens(turns: &[Turn<'_>], framing: u64) -> Option<u64> {
    turns.iter().try_fold(framing, |sum, turn| Some(sum + turn.known?.saturating_sub(framing)))
}

/// The system prompt beside the messages, in the form of the API.
pub(super) fn system(turns: &[Turn<'_>], profile: &Profile) -> Option<Json> {
    let parts: Vec<_> = turns.iter().flat_map(|turn| &turn.parts).cloned().collect();
    if parts.is_empty() {
        return None;
    }
    let texts = parts.iter().filter_map(|part| match part {
        Part::Text(text) => Some(text),
        _ => None,
    });
    Some(match profile.name {
        ProfileName::Gemini => {
            let parts: Vec<Json> =
                texts.map(|t| JsonObject::new().with("text", t.text.as_ref()).into()).collect();
            JsonObject::new().with("parts", parts).into()
        }
        ProfileName::Bedrock => texts
            .map(|t| JsonObject::new().with("text", t.text.as_ref()).into())
            .collect::<Vec<Json>>()
            .into(),
        _ => {
            let is_marked =
                |part: &Part<'_>| matches!(part, Part::Text(TextPart { native: Some(_), .. }));
            if parts.iter().any(is_marked) {
                let written = Dialect::Anthropic.write(&crate::message::Role::System, &parts);
                let content = written.messages.into_iter().next();
                return content.and_then(|message| match message {
                    Json::Object(mut message) => message.remove("content"),
                    _ => None,
                });
            }
            match parts.as_slice() {
                [Part::Text(text)] => text.text.as_ref().into(),
                _ => texts
                    .map(|t| {
                        JsonObject::new().with("type", "text").with("text", t.text.as_ref()).into()
                    })
                    .collect::<Vec<Json>>()
                    .into(),
            }
        }
    })
}
