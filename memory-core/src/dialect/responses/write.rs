//! Writes items of OpenAI Responses.

use super::super::Dialect;
use super::super::media::{data_url, format_of};
use super::super::part::{
    CallKind, CallPart, MediaKind, MediaPart, MediaSource, Native, Part, ReasoningPart, ResultPart,
    TextKind, TextPart,
};
use super::super::write::{
    Loss, Written, argument_text, carries_reasoning, media_type_of, native_part, set_id,
};
use super::{DIALECT, item_fields};
use crate::json::{Json, JsonObject};
use crate::message::Role;

pub(in super::super) fn write(role: &Role, parts: &[Part<'_>]) -> Written {
    let mut written = Written::default();
    let role = match role {
        Role::System => "system",
        Role::Developer => "developer",
        Role::Assistant => "assistant",
        Role::User | Role::Tool | Role::Function => "user",
        Role::Other(_) => {
            written.lose(Loss::Role);
            "user"
        }
    };
    let mut writer = Writer { written, role, blocks: Vec::new(), last: None };
    for part in parts {
        writer.part(part);
    }
    writer.flush();
    writer.written
}

struct Writer<'r, 'a> {
    written: Written,
    role: &'r str,
    /// The content of a message under construction.
    blocks: Vec<Json>,
    /// The last copied item, because one item may have been read into two parts.
    last: Option<&'a Json>,
}

impl<'a> Writer<'_, 'a> {
    fn part(&mut self, part: &Part<'a>) {
        match part {
            Part::Text(part) => self.text(part),
            Part::Media(part) => {
                let block = media(&mut self.written, part, self.role);
                self.blocks.push(block.into());
            }
            Part::Data(json) => {
                self.written.lose(Loss::DataAsText);
                self.blocks.push(text_block(self.role, &json.to_string()).into());
            }
            Part::Reasoning(part) => self.reasoning(part),
            Part::Call(part) => self.call(part),
            Part::Result(part) => self.result(part),
            Part::Other(native) => match self.copy(Some(*native)) {
                Some(item) => self.item(item, Some(*native)),
                None => match native_part(DIALECT, Some(*native)) {
                    Some(block) => self.blocks.push(block.into()),
                    None => self.written.lose(Loss::Unknown),
                },
            },
        }
    }

    /// The known fields of an item of this dialect.
    fn copy(&self, native: Option<Native<'_>>) -> Option<JsonObject> {
        let native = native.filter(|native| native.dialect == DIALECT)?;
        let is_item = ["role", "type"].iter().any(|key| native.json.get_str(key).is_some());
        let fields = item_fields(native.json).filter(|_| is_item)?;
        let mut item = DIALECT.copy_fields(native.json, fields);
        if item.contains_key("role") {
            item.insert("role", self.role);
        }
        Some(item)
    }

    fn item(&mut self, item: JsonObject, native: Option<Native<'a>>) {
        self.flush();
        self.last = native.map(|native| native.json);
        self.written.push(item);
    }

    fn flush(&mut self) {
        let mut blocks = std::mem::take(&mut self.blocks);
        if blocks.is_empty() {
            return;
        }
        let text = match blocks.as_mut_slice() {
            [Json::Object(block)] if block.len() == 2 => block.remove("text"),
            [Json::Object(block)]
                if block.get("annotations").and_then(Json::as_array) == Some(&[]) =>
            {
                block.remove("text")
            }
            _ => None,
        };
        let content = text.unwrap_or(Json::Array(blocks));
        let item = JsonObject::new().with("type", "message").with("role", self.role);
        self.written.push(item.with("content", content));
    }

    fn text(&mut self, part: &TextPart<'a>) {
        let item = part.native.filter(|native| native.json.get("content").is_some());
        if let Some(mut item) = self.copy(item) {
            match item.get_mut("content") {
                Some(Json::Array(blocks)) => {
                    if let Some(Json::Object(block)) = blocks.first_mut() {
                        let key = if part.kind == TextKind::Refusal { "refusal" } else { "text" };
                        block.insert(key, part.text.as_ref());
                    }
                }
                Some(content) => *content = part.text.as_ref().into(),
                None => {}
            }
            return self.item(item, part.native);
        }
        let block = match native_part(DIALECT, part.native) {
            Some(block) if part.kind == TextKind::Refusal => {
                block.with("refusal", part.text.as_ref())
            }
            Some(block) => block.with("text", part.text.as_ref()),
            None if part.kind == TextKind::Refusal && self.role == "assistant" => {
                JsonObject::new().with("type", "refusal").with("refusal", part.text.as_ref())
            }
            None => {
                self.written.lose_text_extras(part, DIALECT);
                text_block(self.role, &part.text)
            }
        };
        self.blocks.push(block.into());
    }

    fn reasoning(&mut self, part: &ReasoningPart<'a>) {
        if !self.written.may_write(DIALECT, part.native, Loss::Reasoning) {
            return;
        }
        if let Some(item) = self.copy(part.native) {
            // An item without text and signature is refused, unless its id refers to a stored one.
            if carries_reasoning(part) || item.contains_key("id") {
                self.item(item, part.native);
            }
            return;
        }
        if !carries_reasoning(part) {
            return;
        }
        let mut summary = Vec::new();
        if !part.text.is_empty() {
            let text = JsonObject::new().with("type", "summary_text");
            summary.push(text.with("text", part.text.as_ref()).into());
        }
        let mut item = JsonObject::new().with("type", "reasoning").with("summary", summary);
        if let Some(data) = part.opaque {
            item.insert("encrypted_content", data);
        }
        self.item(item, None);
    }

    fn call(&mut self, part: &CallPart<'a>) {
        let native = self.copy(part.native);
        if part.provider_run && native.is_none() {
            return self.written.lose(Loss::ProviderRun);
        }
        if let Some(mut item) = native {
            if item.contains_key("call_id")
                && !matches!(part.kind, CallKind::Native("local_shell_call"))
            {
                set_id(&mut item, "call_id", part.id);
            }
            if item.contains_key("name") {
                item.insert("name", part.name);
            }
            return self.item(item, part.native);
        }
        if part.id.is_none() {
            self.written.lose(Loss::IdMissing);
        }
        let is_custom = part.kind == CallKind::Custom;
        if !is_custom && part.kind != CallKind::Function {
            self.written.lose(Loss::CallKind);
        }
        let kind = if is_custom { "custom_tool_call" } else { "function_call" };
        let mut item = JsonObject::new().with("type", kind);
        set_id(&mut item, "call_id", part.id);
        item.insert("name", part.name);
        if is_custom {
            item.insert("input", part.arguments.to_text().into_owned());
        } else {
            item.insert("arguments", argument_text(part.arguments));
        }
        self.item(item, None);
    }

    fn result(&mut self, part: &ResultPart<'a>) {
        if let (Some(native), Some(last)) = (part.native, self.last)
            && std::ptr::eq(native.json, last)
        {
            // Copied with its call.
            return;
        }
        let native = self.copy(part.native);
        if part.provider_run && native.is_none() {
            return self.written.lose(Loss::ProviderRun);
        }
        if let Some(mut item) = native {
            if item.contains_key("call_id") {
                set_id(&mut item, "call_id", part.link);
            }
            return self.item(item, part.native);
        }
        if part.link.is_none() {
            self.written.lose(Loss::IdMissing);
        }
        if part.name.is_some() {
            self.written.lose(Loss::ResultName);
        }
        let is_custom = part.kind == CallKind::Custom;
        let kind = if is_custom { "custom_tool_call_output" } else { "function_call_output" };
        let mut item = JsonObject::new().with("type", kind);
        set_id(&mut item, "call_id", part.link);
        let output = self.output(part);
        item.insert("output", output);
        self.item(item, None);
    }

    /// A string if there is only text, else the array.
    fn output(&mut self, part: &ResultPart<'_>) -> Json {
        let written = &mut self.written;
        let mut blocks: Vec<Json> = Vec::new();
        for part in &part.content {
            let block = match part {
                Part::Text(part) => {
                    written.lose_text_extras(part, DIALECT);
                    text_block("tool", &part.text)
                }
                Part::Data(json) => {
                    written.lose(Loss::DataAsText);
                    text_block("tool", &json.to_string())
                }
                Part::Media(part) => media(written, part, "tool"),
                _ => {
                    written.lose(Loss::Unknown);
                    continue;
                }
            };
            blocks.push(block.into());
        }
        if part.is_error {
            written.prefix_error(&mut blocks, |text| text_block("tool", text));
        }
        match blocks.as_mut_slice() {
            [] => "".into(),
            [Json::Object(block)] if block.len() == 2 => {
                block.remove("text").unwrap_or(Json::Array(blocks))
            }
            _ => Json::Array(blocks),
        }
    }
}

fn text_block(role: &str, text: &str) -> JsonObject {
    if role == "assistant" {
        let block = JsonObject::new().with("type", "output_text").with("text", text);
        return block.with("annotations", Vec::new());
    }
    JsonObject::new().with("type", "input_text").with("text", text)
}

fn media(written: &mut Written, part: &MediaPart<'_>, role: &str) -> JsonObject {
    if let Some(block) = native_part(DIALECT, part.native) {
        return block;
    }
    written.lose_cache_mark(part.native, DIALECT);
    let is_own = part
        .native
        .is_none_or(|native| matches!(native.dialect, Dialect::Responses | Dialect::Chat));
    let typed = |kind: &str| JsonObject::new().with("type", kind);
    let image = |object: JsonObject| match part.detail {
        Some(detail @ ("low" | "high" | "auto" | "original")) => object.with("detail", detail),
        _ => object,
    };
    match (part.kind, &part.source) {
        // The model's messages contain no media.
        _ if role == "assistant" => text_block(role, &written.media_note(part)),
        (MediaKind::Image, MediaSource::Data(data)) => {
            let url = data_url(part.media_type, part.kind, data);
            image(typed("input_image").with("image_url", url))
        }
        (MediaKind::Image, MediaSource::Url(url)) => {
            image(typed("input_image").with("image_url", *url))
        }
        (MediaKind::Image, MediaSource::FileId(id)) if is_own => {
            image(typed("input_image").with("file_id", *id))
        }
        (MediaKind::Audio, MediaSource::Data(data)) if role != "tool" => {
            let format = format_of(part.media_type, part.kind);
            let audio = JsonObject::new().with("data", *data).with("format", format);
            typed("input_audio").with("input_audio", audio)
        }
        (MediaKind::Document, MediaSource::Data(data)) if part.media_type.is_some() => {
            let url = format!("data:{};base64,{data}", media_type_of(part));
            let name = part.title.unwrap_or("document");
            typed("input_file").with("filename", name).with("file_data", url)
        }
        (MediaKind::Document, MediaSource::Url(url)) => typed("input_file").with("file_url", *url),
        (MediaKind::Document, MediaSource::FileId(id)) if is_own => {
            typed("input_file").with("file_id", *id)
        }
        _ => text_block(role, &written.media_note(part)),
    }
}
