//! Fitting texts and their citations.

use super::Fit;
use crate::dialect::{Dialect, Loss, Native, TextKind, TextPart};
use crate::json::Json;
use crate::profile::{ContentKey, ProfileName};
use crate::render::repair::RepairKind;
use crate::render::turn::Speaker;
use crate::stored::Sequence;

impl Fit<'_> {
    /// Returns whether a text is kept.
    pub(super) fn text(
        &mut self,
        text: &mut TextPart<'_>,
        speaker: Speaker,
        sequence: Option<Sequence>,
        changed: &mut bool,
    ) -> bool {
        let is_native = self.is_native(text.native);
        let is_sound_sent = text.kind == TextKind::Transcript
            && self.profile.name == ProfileName::OpenaiChat
            && self.profile.content == ContentKey::Optional
            && speaker == Speaker::Assistant
            && is_native
            && text
                .native
                .is_some_and(|native| native.json.get_str("id").is_some_and(|id| !id.is_empty()));
        if is_sound_sent {
            // The writer omits it, because the sound has the same content.
            *changed = true;
            return true;
        }
        if self.is_refused(&text.text) {
            // A signature of Gemini may have an empty text.
            let is_signed = is_native
                && self.dialect == Dialect::Gemini
                && text.native.is_some_and(|native| native.json.get("thoughtSignature").is_some());
            if !is_signed {
                self.repairs.add(RepairKind::EmptyText, sequence);
                return false;
            }
        }
        let keeps_kind = match text.kind {
            TextKind::Plain => true,
            TextKind::Refusal => {
                // Servers that require content in each message do not know the separate field.
                let has_field = match self.profile.name {
                    ProfileName::OpenaiChat => self.profile.content == ContentKey::Optional,
                    name => name == ProfileName::OpenaiResponses,
                };
                speaker == Speaker::Assistant && has_field
            }
            TextKind::Compaction => is_native && self.dialect == Dialect::Anthropic,
            TextKind::Transcript | TextKind::Plan => false,
        };
        if !keeps_kind {
            text.kind = TextKind::Plain;
            *changed = true;
        }
        // Bedrock's citations are for the assistant.
        let has_place = text.native.is_none_or(|native| {
            speaker == Speaker::Assistant || native.json.get("citationsContent").is_none()
        });
        let keeps_native = is_native
            && keeps_kind
            && has_place
            && !(speaker.is_system() && self.dialect == Dialect::Responses)
            && (self.dialect != Dialect::Chat || self.is_cached(text.native));
        if !keeps_native {
            text.native = None;
        }
        *changed |= self.drops_citations(text, sequence);
        true
    }

    /// Leaves out citations that the API does not know or that are not sent as they are, and returns whether there were
    /// any.
    pub(super) fn drops_citations(
        &mut self,
        text: &mut TextPart<'_>,
        sequence: Option<Sequence>,
    ) -> bool {
        let is_sent = |citations: &Json| match self.dialect {
            Dialect::Anthropic => is_own_citations(citations),
            Dialect::Responses | Dialect::Bedrock => true,
            Dialect::Chat | Dialect::Gemini | Dialect::AiSdk => false,
        };
        let Some(citations) = text.citations.filter(|it| !(text.native.is_some() && is_sent(it)))
        else {
            return false;
        };
        text.citations = None;
        if citations.as_array() != Some(&[]) {
            self.repairs.add(RepairKind::Lost(Loss::Citations), sequence);
        }
        true
    }

    /// Whether a text block of a chat message has the cache mark of OpenAI and no other.
    fn is_cached(&self, native: Option<Native<'_>>) -> bool {
        self.profile.name == ProfileName::OpenaiChat
            && native.is_some_and(|native| {
                native.json.get("prompt_cache_breakpoint").is_some_and(|m| m.as_object().is_some())
                    && native.json.get("cache_control").is_none()
            })
    }
}

/// Whether citations have the form of Anthropic: other providers put their own under the same key.
fn is_own_citations(citations: &Json) -> bool {
    const TYPES: [&str; 5] = [
        "char_location",
        "page_location",
        "content_block_location",
        "web_search_result_location",
        "search_result_location",
    ];
    let is_own = |citation: &Json| citation.get_str("type").is_some_and(|it| TYPES.contains(&it));
    citations.as_array().is_some_and(|list| list.iter().all(is_own))
}
