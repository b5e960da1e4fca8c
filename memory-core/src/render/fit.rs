//! Changes the parts of each turn into parts that the API accepts there.

mod call;
mod provider_run;
mod reasoning;
mod result;
mod text;

use std::collections::HashSet;

use super::bug::{RenderBug, is_planted};
use super::media::{self, Place};
use super::native::is_sound;
use super::repair::{RepairKind, Repairs};
use super::turn::{Speaker, Turn, is_call};
use crate::dialect::{Dialect, Loss, MediaKind, MediaPart, MediaSource, Native, Part};
use crate::profile::{Profile, TextForm};
use crate::stored::Sequence;

/// Fits parts to a profile.
pub(super) struct Fit<'p> {
    pub(super) profile: &'p Profile,
    pub(super) dialect: Dialect,
    /// Whether reasoning that is bound to its prefix is still valid.
    pub(super) keeps_bound: bool,
    pub(super) repairs: &'p mut Repairs,
    /// Whether the turn has calls that are not run by the provider.
    pub(super) has_calls: bool,
    /// Whether a text of reasoning of the turn is kept.
    pub(super) has_reasoning: bool,
    /// The call ids of tools that the provider ran; their results cannot be renamed.
    pub(super) provider_ids: HashSet<String>,
}

impl Fit<'_> {
    /// Fits a turn without results. Nothing of it may remain.
    pub(super) fn turn(&mut self, turn: &mut Turn<'_>) {
        let (speaker, sequence) = (turn.speaker, turn.sequence);
        self.has_calls = turn.parts.iter().any(is_call);
        self.has_reasoning = false;
        let before = turn.parts.len();
        let mut changed = false;
        turn.parts.retain_mut(|part| self.part(part, speaker, sequence, &mut changed));
        if speaker == Speaker::Assistant {
            self.drop_unfinished(turn);
        }
        if changed || turn.parts.len() != before {
            turn.touch();
        }
    }

    /// Removes reasoning without following content, and provider tools without results.
    fn drop_unfinished(&mut self, turn: &mut Turn<'_>) {
        if self.dialect == Dialect::Anthropic {
            self.drop_unanswered(turn);
        }
        let is_thought = |part: &Part<'_>| matches!(part, Part::Reasoning(_));
        let is_only_thought = !turn.parts.is_empty() && turn.parts.iter().all(is_thought);
        if self.dialect == Dialect::Chat && is_only_thought {
            // A message needs other content beside it.
            turn.parts.clear();
            self.repairs.add(RepairKind::ReasoningLeftOut, turn.sequence);
        }
        if matches!(self.dialect, Dialect::Anthropic | Dialect::Bedrock) {
            while matches!(turn.parts.last(), Some(Part::Reasoning(_))) {
                turn.parts.pop();
                self.repairs.add(RepairKind::ReasoningLeftOut, turn.sequence);
            }
        }
    }

    fn is_native(&self, native: Option<Native<'_>>) -> bool {
        native.is_some_and(|native| native.dialect == self.dialect)
    }

    /// Returns whether a part is kept.
    fn part(
        &mut self,
        part: &mut Part<'_>,
        speaker: Speaker,
        sequence: Option<Sequence>,
        changed: &mut bool,
    ) -> bool {
        self.drop_unsound(part, speaker, changed);
        match part {
            Part::Text(text) => self.text(text, speaker, sequence, changed),
            Part::Media(medium) => {
                let place = match speaker {
                    Speaker::User => Place::User,
                    Speaker::Assistant => Place::Assistant,
                    Speaker::System | Speaker::Developer | Speaker::Tool => Place::System,
                };
                let was_native = medium.native.is_some();
                if let Some(note) = self.medium(medium, place, sequence) {
                    *changed = true;
                    *part = Part::text(note);
                    return true;
                }
                // A document that is built anew may get a name; other media of a chat message stay as they were.
                let stays = self.dialect == Dialect::Chat && medium.kind != MediaKind::Document;
                *changed |= was_native && medium.native.is_none() && !stays;
                true
            }
            Part::Reasoning(reasoning) => {
                let was_native = reasoning.native.is_some();
                let stays = speaker == Speaker::Assistant && self.reasoning(reasoning);
                *changed |= was_native && reasoning.native.is_none();
                if !stays {
                    self.repairs.add(RepairKind::ReasoningLeftOut, sequence);
                }
                stays
            }
            Part::Call(call) if call.provider_run => {
                let input = call.native.and_then(|native| native.json.get("input"));
                let stays = self.is_native(call.native)
                    && self.dialect != Dialect::Chat
                    && (self.dialect != Dialect::Anthropic
                        || input.is_some_and(|input| input.as_object().is_some()));
                if !stays {
                    self.repairs.add(RepairKind::ProviderRunLeftOut, sequence);
                }
                stays
            }
            Part::Call(call) => {
                self.call(call, sequence, changed);
                true
            }
            Part::Result(result) => {
                let stays = self.is_native(result.native) && self.dialect != Dialect::Chat;
                if stays {
                    self.error_flag(result.native, sequence);
                } else {
                    self.repairs.add(RepairKind::ProviderRunLeftOut, sequence);
                }
                stays
            }
            Part::Data(json) => {
                *changed = true;
                *part = Part::text(json.to_string());
                true
            }
            Part::Other(native) => {
                let is_known = self.dialect != Dialect::Chat
                    && self.is_native(Some(*native))
                    && !speaker.is_system()
                    && is_sound(self.dialect, native.json, speaker)
                    && (self.dialect.part_fields(native.json).is_some()
                        || self.dialect == Dialect::Responses
                            && !self.dialect.message_fields(native.json).is_empty());
                if !is_known {
                    self.repairs.add(RepairKind::Lost(Loss::Unknown), sequence);
                }
                is_known
            }
        }
    }

    /// Lists an error flag that is not a boolean; the writer sends a boolean or leaves the flag out.
    fn error_flag(&mut self, native: Option<Native<'_>>, sequence: Option<Sequence>) {
        let flag = native.and_then(|native| native.json.get("is_error"));
        let is_odd = flag.is_some_and(|flag| flag.as_bool().is_none());
        if is_odd && self.dialect == Dialect::Anthropic && self.is_native(native) {
            self.repairs.add(RepairKind::ErrorFlagType, sequence);
        }
    }

    /// Drops the native JSON of a part that cannot be sent unchanged.
    fn drop_unsound(&self, part: &mut Part<'_>, speaker: Speaker, changed: &mut bool) {
        if self.dialect == Dialect::Chat {
            return;
        }
        let native = match part {
            Part::Text(part) => &mut part.native,
            Part::Media(part) => &mut part.native,
            Part::Reasoning(part) => &mut part.native,
            Part::Call(part) => &mut part.native,
            Part::Result(part) => &mut part.native,
            Part::Data(_) | Part::Other(_) => return,
        };
        let is_unsound = native.is_some_and(|native| {
            native.dialect == self.dialect && !is_sound(self.dialect, native.json, speaker)
        });
        if is_unsound {
            *native = None;
            *changed = true;
        }
    }

    fn is_refused(&self, text: &str) -> bool {
        if is_planted(RenderBug::EmptyTextKept) {
            return false;
        }
        match self.profile.text {
            TextForm::NotEmpty => text.is_empty(),
            TextForm::NotBlank => text.trim().is_empty(),
        }
    }

    /// Fits a medium, or returns the note that replaces it.
    fn medium(
        &mut self,
        medium: &mut MediaPart<'_>,
        place: Place,
        sequence: Option<Sequence>,
    ) -> Option<String> {
        if media::fit(medium, self.profile, self.dialect, place) {
            return None;
        }
        let kind = match medium.source {
            MediaSource::Text(_) => RepairKind::Lost(Loss::DocumentAsText),
            _ => RepairKind::MediaReplaced,
        };
        self.repairs.add(kind, sequence);
        Some(media::note(medium))
    }
}
