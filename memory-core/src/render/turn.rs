//! Turns of one speaker each, read from stored messages of any dialect.

use super::bug::{RenderBug, is_planted};
use crate::dialect::{CallKind, Dialect, Part};
use crate::link::AnswerItem;
use crate::message::{Message, Role};
use crate::profile::Profile;
use crate::stored::Sequence;
use crate::window::SummaryRole;

/// A message to render.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Input<'a> {
    pub(crate) message: &'a Message,
    /// Its place in the store. Call ids are generated from it if they are missing.
    pub(crate) sequence: Option<Sequence>,
    /// Its tokens, if the counter of this request counted them.
    pub(crate) tokens: Option<u64>,
    /// Whether a flush wrote it.
    pub(crate) is_summary: bool,
    pub(crate) summary_speaker: Speaker,
    /// Whether its calls may still be answered.
    pub(crate) is_awaited: bool,
}

impl<'a> Input<'a> {
    pub(crate) const fn new(message: &'a Message) -> Self {
        Self {
            message,
            sequence: None,
            tokens: None,
            is_summary: false,
            summary_speaker: Speaker::User,
            is_awaited: false,
        }
    }

    /// Marks it as a flush summary with this role.
    pub(crate) const fn as_summary(self, role: SummaryRole) -> Self {
        let summary_speaker = match role {
            SummaryRole::User => Speaker::User,
            SummaryRole::System => Speaker::System,
            SummaryRole::Assistant => Speaker::Assistant,
        };
        Self { is_summary: true, summary_speaker, ..self }
    }
}

/// The speaker. Results are a separate turn in every dialect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Speaker {
    System,
    /// A system message that keeps OpenAI's role `developer`.
    Developer,
    User,
    Assistant,
    Tool,
}

impl Speaker {
    pub(super) const fn is_system(self) -> bool {
        matches!(self, Self::System | Self::Developer)
    }

    pub(super) const fn role(self) -> Role {
        match self {
            Self::System => Role::System,
            Self::Developer => Role::Developer,
            Self::User => Role::User,
            Self::Assistant => Role::Assistant,
            Self::Tool => Role::Tool,
        }
    }
}

/// The parts of one speaker.
#[derive(Debug, Clone)]
pub(super) struct Turn<'a> {
    pub(super) speaker: Speaker,
    pub(super) parts: Vec<Part<'a>>,
    pub(super) author: Option<&'a str>,
    /// The message it was read from; `None` for inserted lines.
    pub(super) input: Option<usize>,
    pub(super) sequence: Option<Sequence>,
    /// The tokens of the written message, while it equals the counted one.
    pub(super) known: Option<u64>,
    /// The dialect of that message.
    pub(super) dialect: Option<Dialect>,
}

impl<'a> Turn<'a> {
    /// An inserted line, not part of any message.
    pub(super) fn inserted(speaker: Speaker, text: &'static str) -> Self {
        let parts = vec![Part::text(text)];
        Self {
            speaker,
            parts,
            author: None,
            input: None,
            sequence: None,
            known: None,
            dialect: None,
        }
    }

    /// Copies the kinds of the calls to their results.
    pub(super) fn set_kinds(&mut self, kinds: &[CallKind<'a>]) {
        let mut changed = false;
        for (part, kind) in self.parts.iter_mut().zip(kinds) {
            if let Part::Result(result) = part
                && result.kind != *kind
            {
                result.kind = *kind;
                result.native = None;
                changed = true;
            }
        }
        if changed {
            self.touch();
        }
    }

    /// Clears the known tokens, because the turn changed.
    pub(super) fn touch(&mut self) {
        self.known = self.known.filter(|_| is_planted(RenderBug::OldTokens));
    }
}

pub(super) const fn is_call(part: &Part<'_>) -> bool {
    matches!(part, Part::Call(call) if !call.provider_run)
}

pub(super) const fn is_result(part: &Part<'_>) -> bool {
    matches!(part, Part::Result(result) if !result.provider_run)
}

/// Reads a message: one turn, several if it has parts of several speakers, none if it is blank.
pub(super) fn read<'a>(
    index: usize,
    input: &Input<'a>,
    profile: &Profile,
    target: Dialect,
    turns: &mut Vec<Turn<'a>>,
) {
    let message = input.message;
    let own = match message.role() {
        _ if input.is_summary => input.summary_speaker,
        Role::System => Speaker::System,
        Role::Developer if profile.developer_role => Speaker::Developer,
        Role::Developer => Speaker::System,
        Role::Assistant => Speaker::Assistant,
        Role::Tool | Role::Function => Speaker::Tool,
        Role::User | Role::Other(_) => Speaker::User,
    };
    let dialect = message.dialect();
    let start = turns.len();
    message.read(&mut |part| {
        let speaker = match &part {
            Part::Result(result) if result.provider_run => Speaker::Assistant,
            Part::Result(_) => Speaker::Tool,
            Part::Call(_) => Speaker::Assistant,
            _ if own == Speaker::Tool => Speaker::User,
            _ => own,
        };
        match turns.last_mut().filter(|turn| turn.input == Some(index)) {
            Some(turn) if turn.speaker == speaker => turn.parts.push(part),
            _ => turns.push(Turn {
                speaker,
                parts: vec![part],
                author: None,
                input: Some(index),
                sequence: input.sequence,
                known: None,
                dialect: Some(dialect),
            }),
        }
    });
    let is_blank = turns.iter().skip(start).flat_map(|turn| &turn.parts).all(Part::is_blank);
    if is_blank {
        return turns.truncate(start);
    }
    let Some([turn]) = turns.get_mut(start..) else { return };
    turn.author = message.author();
    // Only this form is written with the same tokens in every dialect.
    let is_plain = matches!(turn.parts.as_slice(), [Part::Text(text)] if text.citations.is_none());
    let is_same = match message.role() {
        Role::System | Role::User | Role::Assistant => own.role() == *message.role(),
        Role::Tool => dialect == target && dialect == Dialect::Chat,
        _ => false,
    };
    if is_same && turn.speaker == own && (is_plain || dialect == target) {
        turn.known = input.tokens;
    }
}

/// Whether the turn is an item of an answer of OpenAI Responses, each of which is a separate message.
pub(super) fn is_item(turn: &Turn<'_>) -> bool {
    turn.speaker == Speaker::Assistant && turn.dialect == Some(Dialect::Responses)
}

/// Joins the items of one answer, by the rule of [`AnswerItem`].
pub(super) fn join_items(turns: Vec<Turn<'_>>, target: Dialect) -> Vec<Turn<'_>> {
    if !turns.iter().any(is_item) {
        return turns;
    }
    let mut joined: Vec<Turn<'_>> = Vec::with_capacity(turns.len());
    // The kind and place of the item that was added last.
    let mut last: Option<(AnswerItem, Option<Sequence>)> = None;
    for turn in turns {
        let kind = is_item(&turn).then(|| {
            let item = |part: &Part<'_>| match part {
                Part::Text(_) | Part::Media(_) => AnswerItem::Text,
                call if is_call(call) => AnswerItem::Call,
                _ => AnswerItem::Work,
            };
            turn.parts.iter().map(item).max().unwrap_or(AnswerItem::Work)
        });
        let continues = kind.zip(last).is_some_and(|(kind, (before, place))| {
            // Calls with another message between them, which the window leaves out, are of two answers.
            let is_next = kind != AnswerItem::Call
                || before != AnswerItem::Call
                || place.map(|place| place.plus(1)) == turn.sequence;
            is_next && kind.continues(before)
        });
        last = kind.map(|kind| (kind, turn.sequence));
        match joined.last_mut().filter(|_| continues) {
            Some(last) => {
                last.known = last
                    .known
                    .zip(turn.known)
                    .filter(|_| target == Dialect::Responses)
                    .map(|(one, other)| one + other);
                last.parts.extend(turn.parts);
            }
            None => joined.push(turn),
        }
    }
    joined
}
