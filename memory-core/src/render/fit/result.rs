//! Fitting the results of calls.

use std::borrow::Cow;

use super::Fit;
use crate::dialect::{CallKind, Dialect, Loss, Native, Part, ResultPart, TextKind, TextPart};
use crate::render::bug::{RenderBug, is_planted};
use crate::render::media::Place;
use crate::render::repair::RepairKind;
use crate::render::turn::Turn;
use crate::stored::Sequence;

/// The text of an empty result, where the API wants one.
const NO_OUTPUT: &str = "[no output]";
/// The text in place of a medium that was moved.
const MOVED: &str = "[see the attachment in the next message]";

impl Fit<'_> {
    /// Fits a turn of results, and returns the media that were moved out of them.
    pub(in crate::render) fn results<'a>(&mut self, turn: &mut Turn<'a>) -> Vec<Part<'a>> {
        let sequence = turn.sequence;
        let (mut moved, mut changed) = (Vec::new(), false);
        for part in &mut turn.parts {
            self.drop_unsound(part, turn.speaker, &mut changed);
            if let Part::Result(result) = part {
                self.error_flag(result.native, sequence);
                self.result(result, sequence, &mut moved, &mut changed);
            }
        }
        if changed {
            turn.touch();
        }
        moved
    }

    fn result<'a>(
        &mut self,
        result: &mut ResultPart<'a>,
        sequence: Option<Sequence>,
        moved: &mut Vec<Part<'a>>,
        changed: &mut bool,
    ) {
        let is_rebuilt = self.content(result, sequence, moved);
        let keeps_native = !is_rebuilt
            && result.native.is_some_and(|native| {
                native.dialect == self.dialect && is_whole(native, result.kind)
            });
        if !keeps_native {
            let was_chat = result.native.is_some_and(|native| native.dialect == Dialect::Chat);
            *changed |= is_rebuilt || !(was_chat && self.dialect == Dialect::Chat);
            result.native = None;
        }
    }

    /// Fits the content of a result. Returns whether the result must be built anew.
    fn content<'a>(
        &mut self,
        result: &mut ResultPart<'a>,
        sequence: Option<Sequence>,
        moved: &mut Vec<Part<'a>>,
    ) -> bool {
        let mut is_rebuilt = false;
        let mut content = Vec::with_capacity(result.content.len());
        for mut part in std::mem::take(&mut result.content) {
            match &mut part {
                Part::Text(text) => {
                    if self.is_refused(&text.text) {
                        is_rebuilt = true;
                        continue;
                    }
                    text.kind = TextKind::Plain;
                    let keeps_native = self.is_native(text.native) && self.dialect != Dialect::Chat;
                    if !keeps_native {
                        text.native = None;
                    }
                    // The result as it was stored has them.
                    is_rebuilt |= self.drops_citations(text, sequence);
                }
                Part::Media(medium)
                    if !self.profile.media_in_results
                        && !is_planted(RenderBug::MediaInResultKept) =>
                {
                    is_rebuilt = true;
                    if let Some(note) = self.medium(medium, Place::User, sequence) {
                        content.push(Part::text(note));
                        continue;
                    }
                    self.repairs.add(RepairKind::MediaMoved, sequence);
                    content.push(Part::text(MOVED));
                    moved.push(part);
                    continue;
                }
                Part::Media(medium) => {
                    let was_native = self.is_native(medium.native);
                    if let Some(note) = self.medium(medium, Place::Result, sequence) {
                        is_rebuilt = true;
                        content.push(Part::text(note));
                        continue;
                    }
                    is_rebuilt |= was_native && medium.native.is_none();
                }
                Part::Data(json) => {
                    if self.dialect == Dialect::Bedrock && json.as_object().is_none() {
                        is_rebuilt = true;
                        content.push(Part::text(json.to_string()));
                        continue;
                    }
                }
                Part::Other(_) if self.is_native(result.native) => {}
                Part::Other(_) | Part::Reasoning(_) | Part::Call(_) | Part::Result(_) => {
                    is_rebuilt = true;
                    self.repairs.add(RepairKind::Lost(Loss::Unknown), sequence);
                    continue;
                }
            }
            content.push(part);
        }
        let needs_text = match self.dialect {
            Dialect::Bedrock => content.is_empty(),
            // A bare flag would be the text `Error: ` alone.
            _ => false,
        };
        if needs_text {
            self.repairs.add(RepairKind::EmptyResult, sequence);
            content.push(Part::Text(TextPart::new(Cow::Borrowed(NO_OUTPUT))));
            is_rebuilt = true;
        }
        result.content = content;
        is_rebuilt
    }
}

/// Whether the native JSON of a result can be sent to its own API.
fn is_whole(native: Native<'_>, kind: CallKind<'_>) -> bool {
    match native.dialect {
        Dialect::Chat | Dialect::AiSdk => false,
        Dialect::Anthropic => native.json.get("content").is_none_or(|content| {
            content.as_str().is_some() || content.as_array().is_some_and(|c| !c.is_empty())
        }),
        Dialect::Bedrock => true,
        Dialect::Gemini => ["functionResponse", "function_response"]
            .iter()
            .find_map(|key| native.json.get(key))
            .and_then(|inner| inner.get("response"))
            .is_some_and(|response| response.as_object().is_some()),
        Dialect::Responses => {
            matches!(kind, CallKind::Native(_))
                || native.json.get("output").is_some_and(|output| {
                    output.as_str().is_some()
                        || output.as_array().is_some_and(|list| !list.is_empty())
                })
        }
    }
}
