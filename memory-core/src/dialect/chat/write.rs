//! Writes messages of OpenAI Chat Completions.

use super::super::part::{
    CallKind, CallPart, MediaKind, MediaPart, MediaSource, Native, Part, ReasoningPart, ResultPart,
    TextKind, TextPart,
};
use super::super::write::{Loss, Written, argument_text, carries_reasoning, native_part, set_id};
use super::super::{Dialect, Position};
use super::REASONING;
use super::blocks::{audio_id, content_of, media_block, native_call, reasoning_detail, text_block};
use crate::json::{Json, JsonObject};
use crate::message::Role;

const DIALECT: Dialect = Dialect::Chat;

pub(in super::super) fn write(role: &Role, parts: &[Part<'_>]) -> Written {
    let mut writer =
        Writer { written: Written::default(), role, draft: Draft::default(), moved: Vec::new() };
    let mut results = 0;
    for part in parts {
        if let Part::Result(result) = part {
            if result.provider_run {
                writer.written.lose(Loss::ProviderRun);
                continue;
            }
            writer.flush();
            writer.result(result);
            results += 1;
        } else {
            writer.part(part);
        }
    }
    writer.flush();
    writer.flush_moved();
    if results > 1 {
        writer.written.lose(Loss::ResultsSplit);
    }
    writer.written
}

/// A message that is not a result, under construction.
#[derive(Default)]
struct Draft<'a> {
    blocks: Vec<Json>,
    calls: Vec<Json>,
    fields: JsonObject,
    reasoning: Option<&'a Json>,
}

struct Writer<'r, 'a> {
    written: Written,
    role: &'r Role,
    draft: Draft<'a>,
    /// Media of results, collected into a user message behind them.
    moved: Vec<Json>,
}

impl<'a> Writer<'_, 'a> {
    fn is_assistant(&self) -> bool {
        *self.role == Role::Assistant
    }

    fn part(&mut self, part: &Part<'a>) {
        match part {
            Part::Text(text) => self.text(text),
            Part::Media(media) => self.media(media),
            Part::Reasoning(reasoning) => self.reasoning(reasoning),
            Part::Call(call) => self.call(call),
            Part::Data(json) => self.block(text_block(json.to_string())),
            Part::Other(native) => match native_part(DIALECT, Some(*native)) {
                Some(block) => self.block(block),
                None => self.written.lose(Loss::Unknown),
            },
            Part::Result(_) => {}
        }
    }

    fn block(&mut self, block: JsonObject) {
        if !self.draft.calls.is_empty() {
            self.written.lose(Loss::Order);
        }
        self.draft.blocks.push(block.into());
    }

    fn text(&mut self, part: &TextPart<'_>) {
        self.written.lose_text_extras(part, DIALECT);
        if let Some(mut block) = native_part(DIALECT, part.native) {
            let key = if part.kind == TextKind::Refusal { "refusal" } else { "text" };
            block.insert(key, part.text.as_ref());
            return self.block(block);
        }
        match part.kind {
            TextKind::Refusal if self.is_assistant() => {
                self.draft.fields.insert("refusal", part.text.as_ref());
            }
            TextKind::Plan if self.is_assistant() => {
                self.draft.fields.insert("tool_plan", part.text.as_ref());
            }
            // The sound is sent by its id, and has the same content.
            TextKind::Transcript
                if part.native.is_some_and(|native| {
                    native.dialect == DIALECT && native.json.get_str("id").is_some()
                }) => {}
            _ => self.block(text_block(part.text.as_ref())),
        }
    }

    fn media(&mut self, part: &MediaPart<'_>) {
        self.written.lose_cache_mark(part.native, DIALECT);
        if let Some(block) = native_part(DIALECT, part.native) {
            return self.block(block);
        }
        if self.is_assistant() && part.kind == MediaKind::Audio {
            let id = part
                .native
                .filter(|native| native.dialect == DIALECT)
                .and(if let MediaSource::FileId(id) = part.source { Some(id) } else { None });
            if let Some(id) = id.or(audio_id(part)) {
                let audio = JsonObject::new().with("id", id);
                self.draft.fields.insert("audio", audio);
                return;
            }
        }
        let block = media_block(&mut self.written, part);
        self.block(block);
    }

    fn reasoning(&mut self, part: &ReasoningPart<'a>) {
        if !self.written.may_write(DIALECT, part.native, Loss::Reasoning) {
            return;
        }
        match part.native {
            Some(native) => self.native_reasoning(native),
            None if carries_reasoning(part) => {
                let fields = &mut self.draft.fields;
                if part.opaque.is_none() && !fields.contains_key("reasoning_details") {
                    let earlier = fields.get("reasoning_content").and_then(Json::as_str);
                    let text = earlier.map(|text| format!("{text}\n")).unwrap_or_default();
                    fields.insert("reasoning_content", text + &part.text);
                    return;
                }
                let detail = reasoning_detail(part);
                match fields.get_mut("reasoning_details").and_then(Json::as_array_mut) {
                    Some(details) => details.push(detail),
                    None => {
                        fields.insert("reasoning_details", vec![detail]);
                    }
                }
            }
            None => {}
        }
    }

    /// A block of the content, or the fields of the message, written once for all parts that were read from them.
    fn native_reasoning(&mut self, native: Native<'a>) {
        if let Some(block) = native_part(DIALECT, Some(native)) {
            return self.block(block);
        }
        if self.draft.reasoning.is_some_and(|json| std::ptr::eq(json, native.json)) {
            return;
        }
        self.draft.reasoning = Some(native.json);
        let known = DIALECT.known_fields(Position::Message).unwrap_or_default();
        for (key, value) in DIALECT.copy_fields(native.json, known) {
            if REASONING.contains(&key.as_str()) {
                self.draft.fields.insert(key, value);
            }
        }
    }

    fn call(&mut self, part: &CallPart<'_>) {
        if part.provider_run {
            return self.written.lose(Loss::ProviderRun);
        }
        if part.kind == CallKind::LegacyFunction && part.id.is_none() {
            let call = JsonObject::new()
                .with("name", part.name)
                .with("arguments", argument_text(part.arguments));
            self.draft.fields.insert("function_call", call);
            return;
        }
        if part.id.is_none() {
            self.written.lose(Loss::IdMissing);
        }
        let native = part.native.filter(|native| native.dialect == DIALECT);
        let mut call = match native {
            Some(native) => native_call(native.json),
            None => JsonObject::new(),
        };
        let key = if part.kind == CallKind::Custom { "custom" } else { "function" };
        if call.is_empty() {
            if !matches!(part.kind, CallKind::Function | CallKind::Custom) {
                self.written.lose(Loss::CallKind);
            }
            if let Some(id) = part.id {
                call.insert("id", id);
            }
            call.insert("type", key);
            let arguments = if key == "custom" { "input" } else { "arguments" };
            let text = if key == "custom" {
                part.arguments.to_text().into_owned()
            } else {
                argument_text(part.arguments)
            };
            let inner = JsonObject::new().with("name", part.name).with(arguments, text);
            call.insert(key, inner);
        } else {
            set_id(&mut call, "id", part.id);
            if let Some(inner) = call.get_mut(key).and_then(Json::as_object_mut) {
                inner.insert("name", part.name);
            }
        }
        self.draft.calls.push(call.into());
    }

    fn flush(&mut self) {
        let draft = std::mem::take(&mut self.draft);
        if draft.blocks.is_empty() && draft.calls.is_empty() && draft.fields.is_empty() {
            return;
        }
        let role = match self.role {
            Role::Other(_) => {
                self.written.lose(Loss::Role);
                "user"
            }
            // Only results may have the role `tool`.
            Role::Tool | Role::Function => "user",
            role => role.as_str(),
        };
        let mut blocks = draft.blocks;
        if role == "user" {
            blocks.splice(..0, self.moved.drain(..));
        }
        let mut message = JsonObject::new().with("role", role);
        message.insert("content", content_of(blocks));
        for (key, value) in draft.fields {
            message.insert(key, value);
        }
        if !draft.calls.is_empty() {
            message.insert("tool_calls", draft.calls);
        }
        self.written.push(message);
    }

    fn flush_moved(&mut self) {
        if !self.moved.is_empty() {
            let content = std::mem::take(&mut self.moved);
            self.written.push(JsonObject::new().with("role", "user").with("content", content));
        }
    }

    fn result(&mut self, part: &ResultPart<'_>) {
        if part.link.is_none() && part.kind != CallKind::LegacyFunction {
            self.written.lose(Loss::IdMissing);
        }
        if let Some(native) = part.native.filter(|native| native.dialect == DIALECT) {
            let known = DIALECT.known_fields(Position::Message).unwrap_or_default();
            let mut message = DIALECT.copy_fields(native.json, known);
            set_id(&mut message, "tool_call_id", part.link);
            let role = if part.kind == CallKind::LegacyFunction { "function" } else { "tool" };
            message.insert("role", role);
            if !message.contains_key("content") {
                message.insert("content", "");
            }
            return self.written.push(message);
        }
        let is_legacy = part.kind == CallKind::LegacyFunction && part.link.is_none();
        let mut message =
            JsonObject::new().with("role", if is_legacy { "function" } else { "tool" });
        match (part.link, part.name) {
            (Some(link), name) => {
                message.insert("tool_call_id", link);
                if name.is_some() {
                    self.written.lose(Loss::ResultName);
                }
            }
            (None, Some(name)) => {
                message.insert("name", name);
            }
            (None, None) => {}
        }
        let mut blocks = Vec::new();
        for part in &part.content {
            match part {
                Part::Text(text) => {
                    self.written.lose_text_extras(text, DIALECT);
                    blocks.push(
                        native_part(DIALECT, text.native)
                            .map(|block| block.with("text", text.text.as_ref()))
                            .unwrap_or_else(|| text_block(text.text.as_ref()))
                            .into(),
                    );
                }
                Part::Data(json) => {
                    self.written.lose(Loss::DataAsText);
                    blocks.push(text_block(json.to_string()).into());
                }
                Part::Media(media) => self.media_of_result(media, &mut blocks),
                _ => self.written.lose(Loss::Unknown),
            }
        }
        if part.is_error {
            self.written.prefix_error(&mut blocks, |text| text_block(text));
        }
        message.insert("content", content_of(blocks));
        if message.get("content") == Some(&Json::Null) {
            message.insert("content", "");
        }
        self.written.push(message);
    }

    fn media_of_result(&mut self, part: &MediaPart<'_>, blocks: &mut Vec<Json>) {
        if let Some(text) = self.written.document_text(part) {
            return blocks.push(text_block(text).into());
        }
        let losses = self.written.losses.len();
        let block = native_part(DIALECT, part.native)
            .unwrap_or_else(|| media_block(&mut self.written, part));
        let is_note = self.written.losses.len() > losses;
        if is_note {
            return blocks.push(block.into());
        }
        self.written.lose(Loss::MediaMoved);
        blocks.push(text_block("[see the attachment in the next message]").into());
        self.moved.push(block.into());
    }
}
