//! AWS Bedrock Converse.

mod write;

use std::borrow::Cow;

pub(super) use self::write::write;
pub(crate) use self::write::{MAX_DOCUMENT_NAME, document_name};
use super::fields::{
    Field, Position, Table, content, find, media, members, opaque, parts, protocol,
};
use super::media::{read_block as read_shared_block, size_of};
use super::part::{
    CallKind, CallPart, MediaKind, MediaPart, MediaSource, Native, Part, ReasoningPart, ResultPart,
    TextPart,
};
use super::write::read_arguments;
use super::{Dialect, Visit};
use crate::json::{Json, JsonObject};
use crate::message::Role;

const DIALECT: Dialect = Dialect::Bedrock;

const SOURCE: &[Field] = &[
    media("bytes"),
    members("s3Location", &[media("uri"), protocol("bucketOwner")]),
    content("text"),
    parts("content"),
];
const MEDIA: &[Field] = &[protocol("format"), members("source", SOURCE)];
const DOCUMENT: &[Field] = &[
    protocol("format"),
    content("name"),
    members("source", SOURCE),
    content("context"),
    protocol("citations"),
];
const REASONING: &[Field] =
    &[members("reasoningText", &[content("text"), opaque("signature")]), opaque("redactedContent")];

const PARTS: Table = &[
    ("text", &[content("text")]),
    ("image", &[members("image", MEDIA)]),
    ("audio", &[members("audio", MEDIA)]),
    ("video", &[members("video", MEDIA)]),
    ("document", &[members("document", DOCUMENT)]),
    (
        "toolUse",
        &[members(
            "toolUse",
            &[protocol("toolUseId"), protocol("name"), content("input"), protocol("type")],
        )],
    ),
    (
        "toolResult",
        &[members(
            "toolResult",
            &[protocol("toolUseId"), parts("content"), protocol("status"), protocol("type")],
        )],
    ),
    ("json", &[content("json")]),
    ("reasoningContent", &[members("reasoningContent", REASONING)]),
    ("guardContent", &[content("guardContent")]),
    ("cachePoint", &[protocol("cachePoint")]),
    ("citationsContent", &[content("citationsContent")]),
    (
        "searchResult",
        &[members(
            "searchResult",
            &[content("source"), content("title"), parts("content"), protocol("citations")],
        )],
    ),
];

pub(super) fn fields(position: Position<'_>) -> Option<&'static [Field]> {
    match position {
        Position::Message => Some(const { &[protocol("role"), parts("content")] }),
        Position::Part(key) => find(PARTS, key),
        Position::Item(_) => None,
    }
}

/// The key that determines the kind of a block.
pub(super) fn tag(block: &JsonObject) -> Option<&'static str> {
    if block.contains_key("type") {
        return None;
    }
    PARTS
        .iter()
        .map(|(key, _)| *key)
        .find(|key| block.get(key).is_some_and(|value| !value.is_null()))
}

pub(super) fn role(message: &Json) -> Option<Role> {
    super::role_from(message.get_str("role")?, &[])
}

pub(super) fn read<'a>(message: &'a Json, visit: Visit<'_, 'a>) {
    match message.get("content") {
        Some(Json::Array(blocks)) => blocks.iter().for_each(|block| read_block(block, visit)),
        Some(Json::String(text)) if !text.is_empty() => visit(Part::text(text.as_str())),
        _ => {}
    }
}

fn read_block<'a>(block: &'a Json, visit: Visit<'_, 'a>) {
    let native = Some(Native { dialect: DIALECT, json: block });
    let tag = block.as_object().and_then(tag);
    let Some((tag, inner)) = tag.and_then(|tag| Some((tag, block.get(tag)?))) else {
        return read_shared_block(block, DIALECT, visit);
    };
    let part = match tag {
        "text" => {
            Part::Text(TextPart { native, ..TextPart::new(inner.as_str().unwrap_or_default()) })
        }
        "json" => Part::Data(inner),
        "image" => Part::Media(read_media(block, inner, MediaKind::Image)),
        "audio" => Part::Media(read_media(block, inner, MediaKind::Audio)),
        "video" => Part::Media(read_media(block, inner, MediaKind::Video)),
        "document" => Part::Media(read_media(block, inner, MediaKind::Document)),
        "searchResult" => Part::Media(MediaPart {
            title: inner.get_str("title"),
            context: inner.get_str("source"),
            native,
            ..MediaPart::new(MediaKind::Document, MediaSource::Parts(read_blocks(inner)))
        }),
        "toolUse" => {
            let name = inner.get_str("name").unwrap_or_default();
            let kind = inner.get_str("type").map_or(CallKind::Function, CallKind::Native);
            let call =
                CallPart::new(inner.get_str("toolUseId"), name, read_arguments(inner.get("input")));
            let provider_run = kind != CallKind::Function;
            Part::Call(CallPart { kind, provider_run, native, ..call })
        }
        "toolResult" => {
            let kind = inner.get_str("type").map_or(CallKind::Function, CallKind::Native);
            let content = read_blocks(inner);
            let is_foreign = content.iter().any(|part| matches!(part, Part::Other(_)));
            Part::Result(ResultPart {
                is_error: inner.get_str("status") == Some("error"),
                kind,
                provider_run: kind != CallKind::Function,
                native: native.filter(|_| !is_foreign),
                ..ResultPart::new(inner.get_str("toolUseId"), None, content)
            })
        }
        "reasoningContent" => {
            let shown = inner.get("reasoningText");
            let text = shown.and_then(|shown| shown.get_str("text")).unwrap_or_default();
            let opaque = shown
                .and_then(|shown| shown.get_str("signature"))
                .or_else(|| inner.get_str("redactedContent"));
            Part::Reasoning(ReasoningPart { text: Cow::Borrowed(text), opaque, native })
        }
        "guardContent" => match inner.get("text").and_then(|text| text.get_str("text")) {
            Some(text) => Part::Text(TextPart { native, ..TextPart::new(text) }),
            None => match inner.get("image") {
                Some(image) => Part::Media(read_media(block, image, MediaKind::Image)),
                None => Part::Other(Native { dialect: DIALECT, json: block }),
            },
        },
        "citationsContent" => {
            let texts = inner.get("content").and_then(Json::as_array).unwrap_or_default();
            let text = super::part::join(
                texts.iter().filter_map(|part| part.get_str("text")).map(Cow::Borrowed),
            );
            let citations = inner.get("citations");
            Part::Text(TextPart { citations, native, ..TextPart::new(text) })
        }
        _ => Part::Other(Native { dialect: DIALECT, json: block }),
    };
    visit(part);
}

fn read_blocks(json: &Json) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    for block in json.get("content").and_then(Json::as_array).unwrap_or_default() {
        read_block(block, &mut |part| parts.push(part));
    }
    parts
}

fn read_media<'a>(block: &'a Json, inner: &'a Json, kind: MediaKind) -> MediaPart<'a> {
    let source = inner.get("source");
    let member = |key| source.and_then(|source| source.get(key));
    let text = |key| member(key).and_then(Json::as_str);
    let found = if let Some(data) = text("bytes") {
        MediaSource::Data(data)
    } else if let Some(uri) = member("s3Location").and_then(|location| location.get_str("uri")) {
        MediaSource::Url(uri)
    } else if let Some(text) = text("text") {
        MediaSource::Text(text)
    } else if member("content").is_some() {
        MediaSource::Parts(source.map(read_blocks).unwrap_or_default())
    } else {
        // Bytes as an array of numbers, for example.
        MediaSource::Native
    };
    MediaPart {
        media_type: inner.get_str("format"),
        title: inner.get_str("name"),
        context: inner.get_str("context"),
        size: size_of(inner),
        native: Some(Native { dialect: DIALECT, json: block }),
        ..MediaPart::new(kind, found)
    }
}
