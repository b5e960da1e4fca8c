//! Media forms that several dialects share.

use std::borrow::Cow;

use serde::Deserialize;

use super::part::{MediaKind, MediaPart, MediaSize, MediaSource, Native, Part, TextPart};
use super::{Dialect, Visit};
use crate::json::Json;

/// The kind of a medium with this media type; `otherwise` if there is none.
pub(super) fn kind_of(media_type: Option<&str>, otherwise: MediaKind) -> MediaKind {
    let Some(media_type) = media_type else { return otherwise };
    match media_type.split('/').next() {
        Some("image") => MediaKind::Image,
        Some("audio") => MediaKind::Audio,
        Some("video") => MediaKind::Video,
        Some("application" | "text") => MediaKind::Document,
        _ => otherwise,
    }
}

/// The content of a URL: base64 with a media type for a data URL, else the URL itself.
pub(super) fn from_url(url: &str) -> (MediaSource<'_>, Option<&str>) {
    let is_data = url.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("data:"));
    match url.get(5..).and_then(|rest| rest.split_once(',')) {
        // Without base64 the data are percent-encoded characters.
        Some((head, data)) if is_data && head.ends_with(";base64") => {
            let media_type = head.split(';').next().filter(|name| !name.is_empty());
            (MediaSource::Data(data), media_type)
        }
        _ => (MediaSource::Url(url), None),
    }
}

/// The media type of base64 data, derived from its first bytes or from the extension of the file name.
pub(crate) fn derived_media_type(title: Option<&str>, data: &str) -> Option<&'static str> {
    const STARTS: [(&str, &str); 4] = [
        ("JVBERi0", "application/pdf"),
        ("iVBORw0KGgo", "image/png"),
        ("/9j/", "image/jpeg"),
        ("R0lGOD", "image/gif"),
    ];
    const EXTENSIONS: [(&str, &str); 15] = [
        ("pdf", "application/pdf"),
        ("txt", "text/plain"),
        ("md", "text/markdown"),
        ("csv", "text/csv"),
        ("html", "text/html"),
        ("json", "application/json"),
        ("docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
        ("xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
        ("pptx", "application/vnd.openxmlformats-officedocument.presentationml.presentation"),
        ("png", "image/png"),
        ("jpg", "image/jpeg"),
        ("jpeg", "image/jpeg"),
        ("gif", "image/gif"),
        ("webp", "image/webp"),
        ("wav", "audio/wav"),
    ];
    let by_start = STARTS.iter().find(|(start, _)| data.starts_with(start));
    let by_name = || {
        let (_, extension) = title?.rsplit_once('.')?;
        EXTENSIONS.iter().find(|(known, _)| known.eq_ignore_ascii_case(extension))
    };
    by_start.or_else(by_name).map(|(_, media_type)| *media_type)
}

/// The file in a base64 string or a data URL, with its media type if known.
pub(super) fn from_file_data<'a>(
    data: &'a str,
    title: Option<&str>,
) -> (MediaSource<'a>, Option<&'a str>) {
    let (source, media_type) = match data.get(..5) {
        Some(start) if start.eq_ignore_ascii_case("data:") => from_url(data),
        _ => (MediaSource::Data(data), None),
    };
    let derived = match source {
        MediaSource::Data(data) => derived_media_type(title, data),
        _ => None,
    };
    (source, media_type.or(derived))
}

/// A medium at a URL.
pub(super) fn at_url(kind: MediaKind, url: &str) -> MediaPart<'_> {
    let (source, media_type) = from_url(url);
    MediaPart { media_type, ..MediaPart::new(kind, source) }
}

/// The text of a data URL.
pub(super) fn data_url(media_type: Option<&str>, kind: MediaKind, data: &str) -> String {
    format!("data:{};base64,{data}", full_media_type(media_type, kind))
}

/// A media type with both halves, from one or from a format such as `png`.
pub(super) fn full_media_type(media_type: Option<&str>, kind: MediaKind) -> Cow<'_, str> {
    match (media_type, kind) {
        (Some(full), _) if full.contains('/') => Cow::Borrowed(full),
        (Some(format), MediaKind::Image) => Cow::Owned(format!("image/{format}")),
        (Some("mp3"), MediaKind::Audio) => Cow::Borrowed("audio/mpeg"),
        (Some(format), MediaKind::Audio) => Cow::Owned(format!("audio/{format}")),
        (Some(format), MediaKind::Video) => Cow::Owned(format!("video/{format}")),
        (Some(format), MediaKind::Document) => {
            let known = DOCUMENT_FORMATS.iter().find(|(known, _)| *known == format);
            known.map_or_else(
                || Cow::Owned(format!("application/{format}")),
                |(_, media_type)| Cow::Borrowed(*media_type),
            )
        }
        (None, MediaKind::Image) => Cow::Borrowed("image/png"),
        (None, MediaKind::Audio) => Cow::Borrowed("audio/wav"),
        (None, MediaKind::Video) => Cow::Borrowed("video/mp4"),
        (None, MediaKind::Document) => Cow::Borrowed("application/pdf"),
    }
}

/// The formats of documents in Bedrock, with their media types. (D API_runtime_DocumentBlock)
const DOCUMENT_FORMATS: [(&str, &str); 9] = [
    ("pdf", "application/pdf"),
    ("csv", "text/csv"),
    ("doc", "application/msword"),
    ("docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
    ("xls", "application/vnd.ms-excel"),
    ("xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
    ("html", "text/html"),
    ("txt", "text/plain"),
    ("md", "text/markdown"),
];

/// The format of a document in Bedrock; `None` if Bedrock does not read it. Without a media type it is a PDF.
pub(crate) fn document_format(media_type: Option<&str>) -> Option<&'static str> {
    let media_type = media_type.unwrap_or("pdf").trim();
    let media_type = media_type.split(';').next().unwrap_or_default().trim_end();
    let known = DOCUMENT_FORMATS.iter().find(|(format, full)| {
        media_type.eq_ignore_ascii_case(format) || media_type.eq_ignore_ascii_case(full)
    });
    let markdown = media_type.eq_ignore_ascii_case("text/x-markdown")
        || media_type.eq_ignore_ascii_case("markdown");
    known.map(|(format, _)| *format).or_else(|| markdown.then_some("md"))
}

/// The format in a media type, such as `png` of `image/png`.
pub(super) fn format_of(media_type: Option<&str>, kind: MediaKind) -> String {
    let full = full_media_type(media_type, kind);
    match full.split_once('/').map_or(full.as_ref(), |(_, format)| format) {
        "mpeg" if kind == MediaKind::Audio => "mp3".into(),
        "x-wav" | "wave" => "wav".into(),
        "plain" => "txt".into(),
        format => format.into(),
    }
}

/// The size that a block states.
pub(super) fn size_of(block: &Json) -> MediaSize {
    let number = |key| {
        let number = block.get(key)?.as_number()?.as_f64()?;
        // Within the range, so the cast cannot wrap.
        (0.0..=1e9).contains(&number).then_some(number as u32)
    };
    MediaSize {
        width: number("width"),
        height: number("height"),
        seconds: number("duration").or_else(|| number("duration_seconds")),
    }
}

/// A block that the dialect does not know: text, data, media in the forms that occur in several dialects, or a block
/// of Anthropic's. Anything else is [`Part::Other`].
pub(super) fn read_block<'a>(block: &'a Json, dialect: Dialect, visit: Visit<'_, 'a>) {
    if let Some(text) = block.as_str() {
        return visit(Part::text(text));
    }
    let native = Native { dialect, json: block };
    let kind = block.get_str("type").unwrap_or_default();
    if let Some(text) = block.get_str("text")
        && matches!(kind, "text" | "input_text" | "output_text" | "")
    {
        let citations = block.get("citations").or_else(|| block.get("annotations"));
        let citations = citations.filter(|citations| !citations.is_null());
        return visit(Part::Text(TextPart {
            citations,
            native: Some(native),
            ..TextPart::new(text)
        }));
    }
    if let Some(data) = block.get("json") {
        return visit(Part::Data(data));
    }
    if dialect != Dialect::Anthropic && super::anthropic::is_decisive(block) {
        return super::anthropic::read_block(block, visit);
    }
    let part = super::gemini::read_media(block, native)
        .or_else(|| read_shared(kind, block, dialect))
        .or_else(|| block.get_str("text").map(Part::text));
    visit(part.unwrap_or(Part::Other(native)));
}

/// The value that a tool returned: text, the content blocks of the Model Context Protocol with their media, or data.
/// The flag is whether it can be sent unchanged; base64 within data would be sent as text.
pub(super) fn read_tool_value(value: &Json, dialect: Dialect) -> (Vec<Part<'_>>, bool) {
    if let Some(text) = value.as_str() {
        return match read_mcp_text(text) {
            Some(parts) => (parts, false),
            None => (vec![Part::text(text)], true),
        };
    }
    let blocks = value.get("content").unwrap_or(value).as_array().unwrap_or_default();
    let is_block = |block: &Json| {
        let kind = block.get_str("type");
        kind == Some("text") && block.get_str("text").is_some()
            || kind.is_some_and(|kind| read_shared(kind, block, dialect).is_some())
            || block.get_str("type") == Some("image") && block.get("source").is_some()
    };
    let mut parts = Vec::new();
    if !blocks.is_empty() && blocks.iter().all(is_block) {
        blocks.iter().for_each(|block| read_block(block, dialect, &mut |part| parts.push(part)));
    }
    if parts.iter().any(|part| matches!(part, Part::Media(_))) {
        return (parts, false);
    }
    (vec![Part::Data(value)], true)
}

/// A block of the Model Context Protocol or of LangChain, which occur in the content of several dialects:
/// `{"type":"image","data":..,"mimeType":..}`, `resource`, `resource_link`.
fn read_shared<'a>(kind: &str, block: &'a Json, dialect: Dialect) -> Option<Part<'a>> {
    let native = Some(Native { dialect, json: block });
    let media_kind = match kind {
        "image" => MediaKind::Image,
        "audio" => MediaKind::Audio,
        "video" => MediaKind::Video,
        "file" | "document" => MediaKind::Document,
        "resource" => {
            return block.get("resource").and_then(|resource| read_resource(resource, native));
        }
        "resource_link" => {
            let source = MediaSource::Url(block.get_str("uri")?);
            let title = block.get_str("title").or_else(|| block.get_str("name"));
            let media_type = block.get_str("mimeType");
            let kind = kind_of(media_type, MediaKind::Document);
            return Some(Part::Media(MediaPart {
                media_type,
                title,
                native,
                ..MediaPart::new(kind, source)
            }));
        }
        _ => return None,
    };
    let media_type = ["mimeType", "mime_type", "mediaType", "media_type"]
        .iter()
        .find_map(|key| block.get_str(key));
    let (source, inner_type) = if let Some(data) = block.get_str("data") {
        // A data URL in place of base64 is common.
        if data.starts_with("data:") { from_url(data) } else { (MediaSource::Data(data), None) }
    } else if let Some(data) = block.get_str("base64") {
        (MediaSource::Data(data), None)
    } else if let Some(url) = block.get_str("url") {
        from_url(url)
    } else {
        (MediaSource::FileId(block.get_str("file_id")?), None)
    };
    let media_type = media_type.or(inner_type);
    Some(Part::Media(MediaPart {
        media_type,
        title: block.get_str("filename"),
        size: size_of(block),
        native,
        ..MediaPart::new(kind_of(media_type, media_kind), source)
    }))
}

fn read_resource<'a>(resource: &'a Json, native: Option<Native<'a>>) -> Option<Part<'a>> {
    let media_type = resource.get_str("mimeType");
    let source = match (resource.get_str("text"), resource.get_str("blob")) {
        (Some(text), _) => MediaSource::Text(text),
        (None, Some(blob)) => MediaSource::Data(blob),
        (None, None) => MediaSource::Url(resource.get_str("uri")?),
    };
    let kind = kind_of(media_type, MediaKind::Document);
    Some(Part::Media(MediaPart {
        media_type,
        title: resource.get_str("uri"),
        native,
        ..MediaPart::new(kind, source)
    }))
}

/// An MCP content block within a string.
#[derive(Deserialize)]
struct McpBlock<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    text: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    data: Option<&'a str>,
    #[serde(borrow, default, rename = "mimeType", alias = "mime_type")]
    media_type: Option<&'a str>,
}

/// The parts of a tool's result that is a string of MCP content with at least one medium. Servers of that protocol
/// return it if a client does not unpack it. `None` for any other text.
pub(super) fn read_mcp_text(text: &str) -> Option<Vec<Part<'_>>> {
    let trimmed = text.trim();
    let looks_so = trimmed.starts_with(['[', '{'])
        && trimmed.contains("\"data\"")
        && (trimmed.contains("\"mimeType\"") || trimmed.contains("\"mime_type\""));
    if !looks_so {
        return None;
    }
    let blocks = if trimmed.starts_with('[') {
        serde_json::from_str::<Vec<McpBlock<'_>>>(trimmed).ok()?
    } else {
        vec![serde_json::from_str(trimmed).ok()?]
    };
    let mut has_media = false;
    let mut parts = Vec::with_capacity(blocks.len());
    for block in blocks {
        let kind = match block.kind.as_ref() {
            "text" => {
                parts.push(Part::Text(TextPart::new(block.text?)));
                continue;
            }
            "image" => MediaKind::Image,
            "audio" => MediaKind::Audio,
            "video" => MediaKind::Video,
            _ => return None,
        };
        has_media = true;
        let source = MediaSource::Data(block.data?);
        parts.push(Part::Media(MediaPart {
            media_type: block.media_type,
            ..MediaPart::new(kind, source)
        }));
    }
    has_media.then_some(parts)
}
