//! Fitting reasoning.

use super::Fit;
use crate::dialect::ReasoningPart;
use crate::json::Json;
use crate::profile::{ProfileName, ReasoningForm};
use crate::render::bug::{RenderBug, is_planted};

impl Fit<'_> {
    /// Returns whether reasoning is kept.
    pub(super) fn reasoning(&mut self, reasoning: &mut ReasoningPart<'_>) -> bool {
        let is_native = self.is_native(reasoning.native);
        let block = reasoning.native.map(|native| native.json);
        let is_signed = reasoning.opaque.is_some_and(|opaque| !opaque.is_empty())
            || is_planted(RenderBug::UnsignedReasoningKept);
        match self.profile.reasoning {
            ReasoningForm::Refused => is_planted(RenderBug::ForeignReasoningKept),
            ReasoningForm::FieldsBesideCalls if !self.has_calls => false,
            ReasoningForm::Fields
            | ReasoningForm::FieldsWithCalls
            | ReasoningForm::FieldsBesideCalls => {
                let text = reasoning.text.as_ref();
                let fields = ["reasoning_content", "reasoning"]
                    .map(|key| block.and_then(|json| json.get_str(key)).unwrap_or_default());
                let is_field =
                    block.is_some_and(|json| json.get("role").is_some()) && fields.contains(&text);
                // Details repeat what is in a field of text, and so may a second field.
                let has_field = fields.iter().any(|field| !field.is_empty());
                let is_second = self.has_reasoning && self.profile.name != ProfileName::OpenaiChat;
                let is_repeated = has_field && (!is_field || is_second);
                // On servers of the OpenAI form, text fields are kept unchanged.
                if !is_field || self.profile.name != ProfileName::OpenaiChat {
                    reasoning.native = None;
                }
                let has_text = !text.is_empty();
                reasoning.opaque = None;
                let stays = is_native && has_text && !is_repeated;
                self.has_reasoning |= stays;
                stays
            }
            ReasoningForm::Items => {
                let is_item = block.and_then(|json| json.get_str("type")) == Some("reasoning");
                is_native && is_item && (!reasoning.text.is_empty() || is_signed)
            }
            ReasoningForm::SignedBlocks => is_native && is_signed,
            ReasoningForm::BoundBlocks => is_native && is_signed && self.keeps_bound,
            ReasoningForm::Signatures | ReasoningForm::SignedCalls => {
                is_native && (!self.is_refused(&reasoning.text) || is_signed)
            }
            ReasoningForm::Chunks => {
                let texts = block.and_then(|json| json.get("thinking")).and_then(Json::as_array);
                let is_text = |item: &Json| item.get_str("text").is_some_and(|t| !t.is_empty());
                is_native && texts.is_some_and(|list| !list.is_empty() && list.iter().all(is_text))
            }
        }
    }
}
