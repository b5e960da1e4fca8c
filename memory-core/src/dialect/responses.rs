//! OpenAI Responses items.

mod fields;
mod items;
mod write;

pub(super) use self::fields::{fields, item_fields};
pub(super) use self::write::write;
use super::media::{at_url, from_file_data, kind_of, read_block as read_shared_block, size_of};
use super::part::{MediaKind, MediaPart, MediaSource, Native, Part, TextKind, TextPart};
use super::{Dialect, Visit};
use crate::json::Json;
use crate::message::Role;

const DIALECT: Dialect = Dialect::Responses;

/// The role; for an item without one, `tool` for an output, else `assistant`.
pub(super) fn role(item: &Json) -> Option<Role> {
    if let Some(role) = item.get_str("role") {
        return super::role_from(role, &[]);
    }
    let kind = item.get_str("type")?;
    let answers = kind.ends_with("_output") || kind == "mcp_approval_response";
    Some(if answers { Role::Tool } else { Role::Assistant })
}

/// Whether only this dialect has items of this type; `message` is ambiguous.
pub(super) fn is_item(kind: &str) -> bool {
    kind != "message" && fields::is_known_item(kind)
}

pub(super) fn read<'a>(item: &'a Json, visit: Visit<'_, 'a>) {
    let native = Native { dialect: DIALECT, json: item };
    match item.get_str("type") {
        None | Some("message") => read_message(item, native, visit),
        Some(kind) => items::read(kind, item, native, visit),
    }
}

fn read_message<'a>(item: &'a Json, native: Native<'a>, visit: Visit<'_, 'a>) {
    match item.get("content") {
        Some(Json::String(text)) if text.is_empty() => {}
        Some(Json::String(text)) => {
            visit(Part::Text(TextPart { native: Some(native), ..TextPart::new(text.as_str()) }));
        }
        Some(Json::Array(blocks)) => {
            let is_only = blocks.len() == 1;
            for block in blocks {
                read_block(block, &mut |part| match part {
                    // The item itself, so that its id is kept.
                    Part::Text(text) if is_only => {
                        visit(Part::Text(TextPart { native: Some(native), ..text }));
                    }
                    part => visit(part),
                });
            }
        }
        Some(block @ Json::Object(_)) => read_block(block, visit),
        _ => {}
    }
}

/// An element of a message's content or of an output.
pub(super) fn read_block<'a>(block: &'a Json, visit: Visit<'_, 'a>) {
    let native = Some(Native { dialect: DIALECT, json: block });
    let medium = match block.get_str("type").unwrap_or_default() {
        "refusal" => {
            let text = TextPart::new(block.get_str("refusal").unwrap_or_default());
            return visit(Part::Text(TextPart { kind: TextKind::Refusal, native, ..text }));
        }
        "summary_text" | "reasoning_text" => {
            return visit(Part::text(block.get_str("text").unwrap_or_default()));
        }
        "input_image" | "computer_screenshot" => {
            let part = match (block.get_str("image_url"), block.get_str("file_id")) {
                (Some(url), _) => Some(at_url(MediaKind::Image, url)),
                (None, Some(id)) => Some(MediaPart::new(MediaKind::Image, MediaSource::FileId(id))),
                (None, None) => None,
            };
            part.map(|part| MediaPart { detail: block.get_str("detail"), ..part })
        }
        "input_file" => {
            let members = ["file_data", "file_url", "file_id"].map(|key| block.get_str(key));
            let found = match members {
                [Some(data), ..] => Some(from_file_data(data, block.get_str("filename"))),
                [None, Some(url), _] => Some((MediaSource::Url(url), None)),
                [None, None, Some(id)] => Some((MediaSource::FileId(id), None)),
                [None, None, None] => None,
            };
            found.map(|(source, media_type)| MediaPart {
                media_type,
                title: block.get_str("filename"),
                ..MediaPart::new(kind_of(media_type, MediaKind::Document), source)
            })
        }
        "input_audio" => block.get("input_audio").and_then(|audio| {
            let source = MediaSource::Data(audio.get_str("data")?);
            let media_type = audio.get_str("format");
            Some(MediaPart { media_type, ..MediaPart::new(MediaKind::Audio, source) })
        }),
        _ => None,
    };
    match medium {
        Some(part) => visit(Part::Media(MediaPart { size: size_of(block), native, ..part })),
        None => read_shared_block(block, DIALECT, visit),
    }
}
