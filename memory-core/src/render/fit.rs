//! Changes the parts of each turn into parts that the API accepts there.

mod result;

use std::collections::{HashMap, HashSet};

use super::fault::{Fault, is_planted};
use super::media::{self, Place};
use super::native::is_sound;
use super::repair::{RepairKind, Repairs};
use super::turn::{Speaker, Turn, is_call};
use crate::dialect::{
    CallKind, CallPart, Dialect, Loss, MediaKind, MediaPart, MediaSource, Native, Part,
    ReasoningPart, TextKind, TextPart,
};
use crate::json::Json;
use crate::profile::{ContentKey, Profile, ProfileName, ReasoningForm, TextForm};
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

    /// Leaves out tools of the provider whose call or result is missing, repeated or of a refused id.
    fn drop_unanswered(&mut self, turn: &mut Turn<'_>) {
        let answers = answers(&turn.parts);
        let mut called: HashSet<&str> = HashSet::new();
        let before = turn.parts.len();
        turn.parts.retain(|part| match part {
            Part::Call(call) if call.provider_run => call.id.is_some_and(|id| {
                let stays = self.profile.call_id.accepts(id)
                    && answers.get(id) == Some(&1)
                    && self.provider_ids.insert(id.to_owned());
                stays && called.insert(id)
            }),
            Part::Result(result) => result.link.is_some_and(|id| called.contains(id)),
            _ => true,
        });
        if turn.parts.len() != before {
            self.repairs.add(RepairKind::ProviderRunLeftOut, turn.sequence);
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
        self.drop_unsound(part, speaker == Speaker::Assistant, changed);
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
                    && is_sound(self.dialect, native.json, speaker == Speaker::Assistant)
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
    fn drop_unsound(&self, part: &mut Part<'_>, is_assistant: bool, changed: &mut bool) {
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
            native.dialect == self.dialect && !is_sound(self.dialect, native.json, is_assistant)
        });
        if is_unsound {
            *native = None;
            *changed = true;
        }
    }

    fn is_refused(&self, text: &str) -> bool {
        if is_planted(Fault::EmptyTextKept) {
            return false;
        }
        match self.profile.text {
            TextForm::NotEmpty => text.is_empty(),
            TextForm::NotBlank => text.trim().is_empty(),
        }
    }

    fn text(
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
        *changed |= self.drops_citations(text, keeps_native, sequence);
        true
    }

    /// Leaves out citations that the API does not know, and says whether there were any.
    fn drops_citations(
        &mut self,
        text: &mut TextPart<'_>,
        keeps_native: bool,
        sequence: Option<Sequence>,
    ) -> bool {
        let is_sent = |citations: &Json| match self.dialect {
            Dialect::Anthropic => is_own_citations(citations),
            Dialect::Responses | Dialect::Bedrock => true,
            Dialect::Chat | Dialect::Gemini | Dialect::AiSdk => false,
        };
        let Some(citations) = text.citations.filter(|it| !(keeps_native && is_sent(it))) else {
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

    fn reasoning(&mut self, reasoning: &mut ReasoningPart<'_>) -> bool {
        let is_native = self.is_native(reasoning.native);
        let block = reasoning.native.map(|native| native.json);
        let is_signed = reasoning.opaque.is_some_and(|opaque| !opaque.is_empty())
            || is_planted(Fault::UnsignedReasoningKept);
        match self.profile.reasoning {
            ReasoningForm::Refused => is_planted(Fault::ForeignReasoningKept),
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

    fn call(&mut self, call: &mut CallPart<'_>, sequence: Option<Sequence>, changed: &mut bool) {
        let is_native = self.is_native(call.native);
        let keeps_kind = match call.kind {
            CallKind::Function => true,
            CallKind::LegacyFunction => {
                self.profile.function_role && self.dialect == Dialect::Chat && call.id.is_none()
            }
            CallKind::Custom => {
                matches!(self.profile.name, ProfileName::OpenaiChat | ProfileName::OpenaiResponses)
            }
            CallKind::Native(_) => is_native && self.dialect == Dialect::Responses,
        };
        if !keeps_kind {
            if let (CallKind::Native(kind), true) = (call.kind, call.name.is_empty()) {
                call.name = kind;
            }
            call.kind = CallKind::Function;
            *changed = true;
        }
        let is_object = |key: &str| {
            call.native.is_some_and(|native| {
                let inner = ["toolUse", "functionCall", "function_call"]
                    .iter()
                    .find_map(|wrap| native.json.get(wrap))
                    .unwrap_or(native.json);
                inner.get(key).map_or(key == "args", |value| value.as_object().is_some())
            })
        };
        let is_text = |key: &str| {
            call.native.is_some_and(|native| {
                native.json.get(key).is_some_and(|value| value.as_str().is_some())
            })
        };
        let keeps_native = is_native
            && keeps_kind
            && match self.dialect {
                Dialect::Chat | Dialect::AiSdk => false,
                Dialect::Anthropic | Dialect::Bedrock => is_object("input"),
                Dialect::Gemini => is_object("args"),
                Dialect::Responses => match call.kind {
                    CallKind::Native(_) => true,
                    CallKind::Custom => is_text("input"),
                    _ => is_text("arguments"),
                },
            };
        if !keeps_native {
            let was_chat = call.native.is_some_and(|native| native.dialect == Dialect::Chat);
            // A chat call is rebuilt with the same name and arguments.
            *changed |= !(was_chat && self.dialect == Dialect::Chat);
            call.native = None;
        }
        if call.name.is_empty() && !matches!(call.kind, CallKind::Native(_)) {
            call.name = "tool";
            *changed = true;
            self.repairs.add(RepairKind::FunctionName, sequence);
        }
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

/// For each tool that the provider ran, how many results are behind its call. Each part is looked at once.
fn answers<'p, 'a: 'p>(parts: impl IntoIterator<Item = &'p Part<'a>>) -> HashMap<&'a str, usize> {
    let mut answers = HashMap::new();
    for part in parts {
        match part {
            Part::Call(call) if call.provider_run => {
                if let Some(id) = call.id {
                    answers.entry(id).or_insert(0);
                }
            }
            Part::Result(result) => {
                if let Some(count) = result.link.and_then(|id| answers.get_mut(id)) {
                    *count += 1;
                }
            }
            _ => {}
        }
    }
    answers
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::answers;
    use crate::dialect::Dialect;
    use crate::json::Json;
    use crate::message::Message;
    use crate::profile::Profile;
    use crate::render::tests::render_all;
    use crate::render::{Rendered, RepairKind};

    fn call(id: &str) -> Value {
        json!({"type": "server_tool_use", "id": id, "name": "web_search", "input": {}})
    }

    fn result(id: &str) -> Value {
        json!({"type": "web_search_tool_result", "tool_use_id": id, "content": []})
    }

    fn said(blocks: &[Value]) -> Json {
        let message = json!({"role": "assistant", "content": blocks});
        Json::parse(&message.to_string()).unwrap()
    }

    fn rendered(blocks: &[Value]) -> Rendered {
        let messages = [Message::user("go"), Message::from_any(said(blocks)), Message::user("go")];
        render_all(&messages, &Profile::anthropic(), crate::render::Extent::Whole)
    }

    #[test]
    fn many_server_tools_take_linear_work() {
        const CALLS: usize = 20_000;
        let ids: Vec<String> = (0..CALLS).map(|number| format!("srvtoolu_{number}")).collect();
        let calls = ids.iter().map(|id| call(id));
        let blocks: Vec<_> = calls.chain(ids.iter().rev().map(|id| result(id))).collect();
        let message = said(&blocks);
        let parts = Dialect::Anthropic.parts(&message);
        let mut looked_at = 0;
        let found = answers(parts.iter().inspect(|_| looked_at += 1));
        assert_eq!((looked_at, found.len()), (2 * CALLS, CALLS));
        let rendered = rendered(&blocks);
        assert_eq!(rendered.repairs, []);
        let sent = rendered.request.messages()[1].get("content").and_then(Json::as_array);
        assert_eq!(sent.map(<[Json]>::len), Some(2 * CALLS));
    }

    #[test]
    fn server_tool_needs_one_result_behind_it() {
        let text = json!({"type": "text", "text": "ok"});
        for blocks in [
            vec![call("srvtoolu_1"), text.clone()],
            vec![result("srvtoolu_1"), call("srvtoolu_1"), text.clone()],
            vec![call("srvtoolu_1"), result("srvtoolu_1"), result("srvtoolu_1"), text],
        ] {
            let rendered = rendered(&blocks);
            let sent = rendered.request.messages()[1].get_str("content");
            assert_eq!(sent, Some("ok"));
            let is_listed =
                |repair: &crate::render::Repair| repair.kind == RepairKind::ProviderRunLeftOut;
            assert!(rendered.repairs.iter().any(is_listed));
        }
    }
}
