//! Limits on the number and size of media in one request.

use super::bug::{RenderBug, is_planted};
use super::media::{data_len, note};
use super::repair::{RepairKind, Repairs};
use super::turn::{Speaker, Turn};
use crate::dialect::{MediaKind, MediaPart, Part};
use crate::profile::{Profile, ProfileName};

/// The text added beside a document without one.
const DOCUMENT: &str = "[document]";

/// The media that may still be sent, counted from the newest message.
struct Left {
    images: usize,
    documents: usize,
    bytes: usize,
}

impl Left {
    /// Whether one more medium may be sent.
    fn take(&mut self, medium: &MediaPart<'_>) -> bool {
        let size = data_len(medium);
        let count = match medium.kind {
            MediaKind::Image => &mut self.images,
            MediaKind::Document => &mut self.documents,
            MediaKind::Audio | MediaKind::Video => &mut usize::MAX.clone(),
        };
        if *count == 0 || size > self.bytes {
            return false;
        }
        *count -= 1;
        self.bytes -= size;
        true
    }
}

/// Replaces the oldest media above the limits with notes, and adds required texts to documents.
pub(super) fn apply(turns: &mut [Turn<'_>], profile: &Profile, repairs: &mut Repairs) {
    let mut left = Left {
        images: profile
            .max_images
            .map_or(usize::MAX, |most| most + usize::from(is_planted(RenderBug::OneImageMore))),
        documents: profile.max_documents.unwrap_or(usize::MAX),
        // A part of the size is reserved for texts.
        bytes: profile.max_bytes.map_or(usize::MAX, |most| most / 8 * 7),
    };
    for turn in turns.iter_mut().rev() {
        let mut changed = false;
        for part in turn.parts.iter_mut().rev() {
            match part {
                Part::Media(medium) if !left.take(medium) => {
                    *part = Part::text(note(medium));
                    changed = true;
                }
                Part::Result(result) => {
                    for part in result.content.iter_mut().rev() {
                        if let Part::Media(medium) = part
                            && !left.take(medium)
                        {
                            *part = Part::text(note(medium));
                            changed = true;
                            result.native = None;
                        }
                    }
                }
                _ => {}
            }
        }
        if changed {
            turn.touch();
            repairs.add(RepairKind::MediaReplaced, turn.sequence);
        }
        if profile.name == ProfileName::Bedrock {
            add_text(turn, repairs);
        }
    }
}

fn add_text(turn: &mut Turn<'_>, repairs: &mut Repairs) {
    let is_document =
        |part: &Part<'_>| matches!(part, Part::Media(m) if m.kind == MediaKind::Document);
    let is_text = |part: &Part<'_>| matches!(part, Part::Text(_));
    let needs_text = turn.speaker != Speaker::Assistant
        && turn.parts.iter().any(is_document)
        && !turn.parts.iter().any(is_text);
    if needs_text {
        turn.parts.push(Part::text(DOCUMENT));
        turn.touch();
        repairs.add(RepairKind::TextAdded, turn.sequence);
    }
}
