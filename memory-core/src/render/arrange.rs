//! Arranges turns in the order that an API requires: system prompts, alternate roles, the first and the last message.

use super::bug::{RenderBug, is_planted};
use super::repair::{RepairKind, Repairs};
use super::turn::{Speaker, Turn, is_call};
use crate::dialect::{Dialect, Part};
use crate::profile::{
    Alternation, FirstMessage, LastMessage, Profile, ProfileName, SystemPlacement,
};

/// The inserted first line, if the user's first message is missing.
const START: &str = "[earlier messages left out]";
/// The inserted line between results and the user, if the assistant must follow results.
const BETWEEN: &str = "[interrupted]";
/// The inserted last line, if an assistant's message may not be last.
const END: &str = "[continue]";

/// Arranges the turns, and returns the system prompt's turns for the separate field.
pub(super) fn arrange<'a>(
    turns: Vec<Turn<'a>>,
    profile: &Profile,
    dialect: Dialect,
    repairs: &mut Repairs,
) -> (Vec<Turn<'a>>, Vec<Turn<'a>>) {
    let (mut system, turns) = place_system(turns, profile, repairs);
    let turns = split(turns, profile, repairs);
    let turns = join(turns, profile, dialect, repairs);
    let mut turns = fill(turns, profile, repairs);
    ends(&mut turns, &system, profile, repairs);
    if profile.system == SystemPlacement::TopLevelOrAfterUser {
        move_misplaced(&mut turns, &mut system, repairs);
        // The turns around a moved prompt are neighbors now.
        turns = join(turns, profile, dialect, repairs);
    }
    if matches!(profile.system, SystemPlacement::FirstOnly) {
        // One system message before all others.
        let mut all = std::mem::take(&mut system).into_iter();
        if let Some(mut first) = all.next() {
            for turn in all {
                merge(&mut first, turn, repairs);
            }
            turns.insert(0, first);
        }
    } else if profile.system == SystemPlacement::Leading {
        turns.splice(0..0, std::mem::take(&mut system));
    }
    (system, turns)
}

/// Separates the system prompts from the other turns, unless they may be among them.
fn place_system<'a>(
    turns: Vec<Turn<'a>>,
    profile: &Profile,
    repairs: &mut Repairs,
) -> (Vec<Turn<'a>>, Vec<Turn<'a>>) {
    match profile.system {
        SystemPlacement::Anywhere => return (Vec::new(), turns),
        SystemPlacement::TopLevelOrAfterUser => {
            let lead = turns.iter().take_while(|turn| turn.speaker.is_system()).count();
            let mut system = turns;
            let rest = system.split_off(lead);
            return (system, rest);
        }
        SystemPlacement::Leading | SystemPlacement::FirstOnly | SystemPlacement::TopLevel => {}
    }
    let (mut system, mut rest) = (Vec::new(), Vec::with_capacity(turns.len()));
    for turn in turns {
        let moves = rest.is_empty() || !is_planted(RenderBug::SystemNotMoved);
        if turn.speaker.is_system() && moves {
            if !rest.is_empty() {
                repairs.add(RepairKind::SystemMoved, turn.sequence);
            }
            system.push(turn);
        } else {
            rest.push(turn);
        }
    }
    if is_planted(RenderBug::SystemsSwapped) {
        system.reverse();
    }
    (system, rest)
}

/// Splits turns with more content than one message may have.
fn split<'a>(turns: Vec<Turn<'a>>, profile: &Profile, repairs: &mut Repairs) -> Vec<Turn<'a>> {
    if profile.text_beside_calls && profile.max_calls.is_none() {
        return turns;
    }
    let mut split = Vec::with_capacity(turns.len());
    let mut turns = turns.into_iter().peekable();
    while let Some(mut turn) = turns.next() {
        let calls = turn.parts.iter().filter(|part| is_call(part)).count();
        let is_said = |part: &Part<'_>| matches!(part, Part::Text(_) | Part::Media(_));
        if calls > 0 && !profile.text_beside_calls && turn.parts.iter().any(is_said) {
            let (said, rest): (Vec<_>, Vec<_>) = turn.parts.drain(..).partition(is_said);
            repairs.add(RepairKind::TextParted, turn.sequence);
            turn.touch();
            split.push(Turn { parts: said, ..turn.clone() });
            turn.parts = rest;
        }
        let Some(most) = profile.max_calls.filter(|most| calls > *most) else {
            split.push(turn);
            continue;
        };
        repairs.add(RepairKind::CallsSpread, turn.sequence);
        turn.touch();
        let mut results = turns.next_if(|next| next.speaker == Speaker::Tool);
        let (mut calls, rest): (Vec<_>, Vec<_>) = turn.parts.drain(..).partition(is_call);
        let mut head = rest;
        while !calls.is_empty() {
            let later = calls.split_off(calls.len().min(most));
            head.append(&mut calls);
            split.push(Turn { parts: std::mem::take(&mut head), ..turn.clone() });
            if let Some(results) = &mut results {
                results.touch();
                let later = results.parts.split_off(results.parts.len().min(most));
                let parts = std::mem::replace(&mut results.parts, later);
                split.push(Turn { parts, ..results.clone() });
            }
            calls = later;
        }
    }
    split
}

/// Joins neighbors of one role if the API requires that.
fn join<'a>(
    turns: Vec<Turn<'a>>,
    profile: &Profile,
    dialect: Dialect,
    repairs: &mut Repairs,
) -> Vec<Turn<'a>> {
    let joins = |last: &Turn<'_>, turn: &Turn<'_>| {
        joins(last, turn, profile, dialect) && !is_planted(RenderBug::NotMerged)
    };
    if !turns.array_windows().any(|[last, turn]| joins(last, turn)) {
        return turns;
    }
    let mut joined: Vec<Turn<'a>> = Vec::with_capacity(turns.len());
    for turn in turns {
        match joined.last_mut() {
            Some(last) if joins(last, &turn) => merge(last, turn, repairs),
            _ => joined.push(turn),
        }
    }
    joined
}

/// Whether the API requires that a turn is joined to the one before it.
fn joins(last: &Turn<'_>, turn: &Turn<'_>, profile: &Profile, dialect: Dialect) -> bool {
    let is_strict = profile.alternation == Alternation::Strict;
    match (last.speaker, turn.speaker) {
        (Speaker::Assistant, Speaker::Assistant) => {
            // Items of one answer.
            let is_answer = dialect != Dialect::Responses
                && profile.text_beside_calls
                && last.dialect == Some(Dialect::Responses)
                && turn.dialect == Some(Dialect::Responses);
            is_answer || is_strict || profile.alternation == Alternation::CallAfterUser
        }
        (Speaker::User, Speaker::User) => is_strict,
        // Results are part of a user message.
        (Speaker::Tool, Speaker::User) => {
            matches!(profile.name, ProfileName::Anthropic | ProfileName::Bedrock)
        }
        (one, other) if one.is_system() && other.is_system() => {
            profile.system == SystemPlacement::TopLevelOrAfterUser
        }
        _ => false,
    }
}

/// Adds a turn to the one before it.
fn merge<'a>(last: &mut Turn<'a>, turn: Turn<'a>, repairs: &mut Repairs) {
    let is_one_message = last.input.is_some() && last.input == turn.input;
    let is_result = last.speaker == Speaker::Tool;
    if !is_one_message && !is_result {
        repairs.add(RepairKind::Merged, turn.sequence);
    }
    if last.author != turn.author {
        last.author = None;
    }
    last.known = None;
    if !is_planted(RenderBug::MergedAway) {
        last.parts.extend(turn.parts);
    }
}

/// Inserts the assistant's lines that must be between other turns.
fn fill<'a>(turns: Vec<Turn<'a>>, profile: &Profile, repairs: &mut Repairs) -> Vec<Turn<'a>> {
    let is_needed = match profile.alternation {
        Alternation::AssistantAfterTool => true,
        Alternation::Strict => profile.name == ProfileName::StrictTemplate,
        Alternation::Free | Alternation::CallAfterUser => false,
    };
    if !is_needed || is_planted(RenderBug::BetweenNotInserted) {
        return turns;
    }
    let mut filled: Vec<Turn<'a>> = Vec::with_capacity(turns.len());
    for turn in turns {
        let is_gap = filled.last().is_some_and(|last| last.speaker == Speaker::Tool)
            && turn.speaker == Speaker::User;
        if is_gap {
            repairs.add(RepairKind::AssistantInserted, turn.sequence);
            filled.push(Turn::inserted(Speaker::Assistant, BETWEEN));
        }
        filled.push(turn);
    }
    filled
}

/// Makes the first and the last message valid for the API.
fn ends(turns: &mut Vec<Turn<'_>>, system: &[Turn<'_>], profile: &Profile, repairs: &mut Repairs) {
    let first = turns.iter().position(|turn| !turn.speaker.is_system());
    if let Some(first) = first
        && profile.first == FirstMessage::User
        && turns.get(first).is_some_and(|turn| turn.speaker != Speaker::User)
        && !is_planted(RenderBug::StartNotInserted)
    {
        repairs.add(RepairKind::StartInserted, None);
        turns.insert(first, Turn::inserted(Speaker::User, START));
    }
    let Some(last) = turns.iter().rev().find(|turn| !turn.speaker.is_system()) else {
        // A system prompt alone is not a request.
        if profile.first == FirstMessage::User && !(system.is_empty() && turns.is_empty()) {
            repairs.add(RepairKind::EndInserted, None);
            turns.push(Turn::inserted(Speaker::User, END));
        }
        return;
    };
    if profile.name == ProfileName::Anthropic
        && profile.last == LastMessage::Any
        && last.speaker == Speaker::Assistant
    {
        trim_prefill(turns);
        return;
    }
    // The provider continues an answer that ends in a tool that it runs.
    let is_paused = profile.name == ProfileName::Anthropic
        && last.parts.last().is_some_and(|part| match part {
            Part::Call(call) => call.provider_run,
            Part::Result(result) => result.provider_run,
            _ => false,
        });
    let needs_line = match profile.last {
        LastMessage::Any => false,
        LastMessage::MarkedPrefix | LastMessage::NotAssistant => {
            last.speaker == Speaker::Assistant && !is_paused
        }
    };
    if needs_line && !is_planted(RenderBug::EndNotInserted) {
        repairs.add(RepairKind::EndInserted, None);
        turns.push(Turn::inserted(Speaker::User, END));
    }
}

/// Inserts the only message if nothing of the history can be sent, because no API accepts an empty request.
pub(super) fn insert_only(turns: &mut Vec<Turn<'_>>, repairs: &mut Repairs) {
    repairs.add(RepairKind::EndInserted, None);
    turns.push(Turn::inserted(Speaker::User, END));
}

/// An answer that the model continues may not end in white space.
fn trim_prefill(turns: &mut [Turn<'_>]) {
    let Some(last) = turns.iter_mut().rev().find(|turn| !turn.speaker.is_system()) else { return };
    if let Some(Part::Text(text)) = last.parts.last_mut()
        && text.text.trim_end() != text.text
    {
        text.text = text.text.trim_end().to_owned().into();
        last.touch();
    }
}

/// Moves system prompts that are not between a user and an assistant message.
fn move_misplaced<'a>(
    turns: &mut Vec<Turn<'a>>,
    system: &mut Vec<Turn<'a>>,
    repairs: &mut Repairs,
) {
    let mut kept: Vec<Turn<'a>> = Vec::with_capacity(turns.len());
    let mut rest = std::mem::take(turns).into_iter().peekable();
    while let Some(turn) = rest.next() {
        if !turn.speaker.is_system() {
            kept.push(turn);
            continue;
        }
        let follows_user =
            kept.last().is_some_and(|last| matches!(last.speaker, Speaker::User | Speaker::Tool));
        let precedes_assistant = rest.peek().is_none_or(|next| next.speaker == Speaker::Assistant);
        if follows_user && precedes_assistant {
            kept.push(turn);
        } else {
            repairs.add(RepairKind::SystemMoved, turn.sequence);
            system.push(turn);
        }
    }
    *turns = kept;
}
