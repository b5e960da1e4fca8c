//! Histories of plain texts that an API accepts as they are stored.
//!
//! Most windows of a chat are such histories. They need none of the steps of the general renderer, which reads every
//! message into parts and writes it again.

use super::Rendered;
use super::request::{Request, RequestMessage, json_tokens, system_tokens};
use super::turn::{Input, Speaker};
use crate::dialect::Dialect;
use crate::json::{Json, JsonObject};
use crate::message::Role;
use crate::profile::{
    Alternation, FirstMessage, LastMessage, Profile, ProfileName, SystemPlacement,
};
use crate::tokens::TokenCounter;

/// Renders a history of which every message is sent as it is stored. `None` if anything must be changed, moved or
/// counted. The result equals that of the general renderer.
pub(super) fn render(
    inputs: &[Input<'_>],
    system: Option<&str>,
    profile: &Profile,
    dialect: Dialect,
    counter: &dyn TokenCounter,
) -> Option<Rendered> {
    let is_written_so = matches!(dialect, Dialect::Chat | Dialect::Anthropic);
    if inputs.is_empty() || !is_written_so {
        return None;
    }
    let mut messages = Vec::with_capacity(inputs.len() + 1);
    let mut message_tokens = Vec::with_capacity(inputs.len() + 1);
    let mut tokens = 0_u64;
    let mut field = None;
    match system.filter(|text| !text.trim().is_empty()) {
        None => {}
        Some(text) if dialect == Dialect::Anthropic => {
            let json = Json::from(text);
            tokens = system_tokens(counter, &json);
            field = Some(json);
        }
        Some(text) => {
            let json = JsonObject::new().with("role", "system").with("content", text).into();
            tokens = json_tokens(counter, dialect, &json);
            message_tokens.push(u32::try_from(tokens).unwrap_or(u32::MAX));
            messages.push(RequestMessage::Written(json));
        }
    }
    // The last speaker apart from the system.
    let mut last = None;
    for input in inputs {
        let speaker = unchanged_speaker(input)?;
        if speaker == Speaker::System {
            if profile.system != SystemPlacement::Anywhere {
                return None;
            }
        } else if may_follow(last, speaker, profile) {
            last = Some(speaker);
        } else {
            return None;
        }
        let own = input.tokens?;
        tokens = tokens.saturating_add(own);
        message_tokens.push(u32::try_from(own).unwrap_or(u32::MAX));
        messages.push(RequestMessage::Shared(input.message.clone()));
    }
    may_end(last?, profile).then(|| Rendered {
        request: Request::new(profile.name, field, messages),
        tokens,
        message_tokens,
        repairs: Vec::new(),
        is_left_out: vec![false; inputs.len()],
        has_left: false,
    })
}

/// The speaker of a message that is a role and a text, and is sent with this role.
fn unchanged_speaker(input: &Input<'_>) -> Option<Speaker> {
    let plain = input.message.as_plain()?;
    let speaker = match plain.role {
        Role::System => Speaker::System,
        Role::User => Speaker::User,
        Role::Assistant => Speaker::Assistant,
        _ => return None,
    };
    let is_same = !input.is_summary || input.summary_speaker == speaker;
    (is_same && plain.is_role_and_text() && !plain.text.trim().is_empty()).then_some(speaker)
}

/// Whether a message may follow one of this speaker, or be the first.
fn may_follow(last: Option<Speaker>, next: Speaker, profile: &Profile) -> bool {
    match last {
        None => next == Speaker::User || profile.first == FirstMessage::Any,
        Some(last) if last != next => true,
        Some(Speaker::Assistant) => {
            matches!(profile.alternation, Alternation::Free | Alternation::AssistantAfterTool)
        }
        Some(_) => profile.alternation != Alternation::Strict,
    }
}

/// Whether a request may end with a message of this speaker, unchanged: an answer that Anthropic continues is trimmed.
fn may_end(last: Speaker, profile: &Profile) -> bool {
    let continues = profile.last == LastMessage::Any && profile.name != ProfileName::Anthropic;
    last == Speaker::User || continues
}
