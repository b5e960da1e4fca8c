//! Renders a history as the request of one API, with the repairs that its rules need.

mod arrange;
pub(crate) mod bug;
mod documents;
mod fit;
mod limits;
mod link;
mod media;
mod names;
mod native;
mod repair;
mod request;
mod truncate;
mod turn;
mod unchanged;
mod write;

use std::collections::HashSet;

use self::bug::{RenderBug, is_planted};
use self::documents::DocumentNames;
use self::fit::Fit;
use self::names::Names;
use self::repair::Repairs;
pub use self::repair::{Repair, RepairKind};
pub use self::request::Request;
pub(crate) use self::request::RequestMessage;
use self::request::{dialect_of, json_tokens, system_framing, system_tokens};
pub(crate) use self::truncate::Cut;
pub(crate) use self::turn::Input;
use self::turn::{Speaker, Turn};
use self::write::Line;
use crate::dialect::{CallKind, Part};
use crate::profile::{Profile, ReasoningForm};
use crate::tokens::TokenCounter;

/// The extent of the inputs within the history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// There is no history: an empty request is correct.
    Nothing,
    /// Messages before or between the inputs, or all of them, were left out.
    Part,
    /// No messages before or between the inputs were left out.
    Whole,
}

/// A rendered request.
#[derive(Debug)]
pub(crate) struct Rendered {
    pub(crate) request: Request,
    pub(crate) tokens: u64,
    /// The tokens of each message.
    pub(crate) message_tokens: Vec<u32>,
    pub(crate) repairs: Vec<Repair>,
    /// For each message whether nothing of it is in the request.
    pub(crate) is_left_out: Vec<bool>,
    /// Whether the newest unit can be cut further.
    pub(crate) has_left: bool,
}

/// Renders a history in which calls precede their results. `cut` is the text to remove from the newest unit.
pub(crate) fn render(
    inputs: &[Input<'_>],
    system: Option<&str>,
    profile: &Profile,
    counter: &dyn TokenCounter,
    extent: Extent,
    cut: Option<&Cut>,
) -> Rendered {
    if cut.is_none()
        && let Some(rendered) =
            unchanged::render(inputs, system, profile, dialect_of(profile.name), counter)
    {
        return rendered;
    }
    render_parts(inputs, system, profile, counter, extent, cut)
}

/// Renders any history, by way of its parts.
fn render_parts(
    inputs: &[Input<'_>],
    system: Option<&str>,
    profile: &Profile,
    counter: &dyn TokenCounter,
    extent: Extent,
    cut: Option<&Cut>,
) -> Rendered {
    let is_bound = profile.reasoning == ReasoningForm::BoundBlocks;
    let rendered = once(inputs, system, profile, counter, extent, cut);
    if is_bound && extent == Extent::Whole && !rendered.repairs.is_empty() {
        // A change of the prefix invalidates the later bound blocks.
        return once(inputs, system, profile, counter, Extent::Part, cut);
    }
    rendered
}

fn once<'a>(
    inputs: &[Input<'a>],
    system: Option<&'a str>,
    profile: &Profile,
    counter: &dyn TokenCounter,
    extent: Extent,
    cut: Option<&Cut>,
) -> Rendered {
    let dialect = dialect_of(profile.name);
    let mut repairs = Repairs::default();
    let mut turns = Vec::with_capacity(inputs.len() + 1);
    if let Some(system) = system.filter(|text| !text.trim().is_empty())
        && !is_planted(RenderBug::SystemForgotten)
    {
        turns.push(Turn {
            dialect: Some(dialect),
            parts: vec![Part::text(system)],
            ..Turn::inserted(Speaker::System, "")
        });
    }
    for (index, input) in inputs.iter().enumerate() {
        turn::read(index, input, profile, dialect, &mut turns);
    }
    let mut is_left_out = vec![true; inputs.len()];
    let provider_ids = HashSet::new();
    let mut fit = Fit {
        profile,
        dialect,
        keeps_bound: extent == Extent::Whole,
        has_reasoning: false,
        repairs: &mut repairs,
        has_calls: false,
        provider_ids,
    };
    let turns = fit_turns(turns, inputs, &mut fit, &mut is_left_out);
    // The names are borrowed by the following turns.
    let names = Names::choose(&turns, profile);
    let mut turns = turns;
    names.set(&mut turns, profile, &mut repairs);
    // Before messages are merged, because a merged one is not the newest unit alone.
    let has_left = cut.is_some_and(|cut| truncate::apply(&mut turns, cut, counter, &mut repairs));
    let (system, mut turns) = arrange::arrange(turns, profile, dialect, &mut repairs);
    if turns.is_empty() && system.is_empty() && extent != Extent::Nothing {
        arrange::insert_only(&mut turns, &mut repairs);
    }
    limits::apply(&mut turns, profile, &mut repairs);
    let documents = DocumentNames::choose(&turns, profile);
    documents.set(&mut turns, &mut repairs);
    let mut lines = Vec::with_capacity(turns.len() + turns.len() / 4);
    for turn in &mut turns {
        write::turn(turn, inputs, profile, dialect, &mut repairs, &mut lines);
    }
    write::finish(&mut lines, profile, &mut repairs);
    let known = write::known_system_tokens(&system, system_framing(counter));
    let system = write::system(&system, profile);
    let mut tokens =
        system.as_ref().map_or(0, |system| known.unwrap_or_else(|| system_tokens(counter, system)));
    let mut messages = Vec::with_capacity(lines.len());
    let mut message_tokens = Vec::with_capacity(lines.len());
    for Line { message, known } in lines {
        let own = known.unwrap_or_else(|| json_tokens(counter, dialect, &message.to_json()));
        tokens = tokens.saturating_add(own);
        message_tokens.push(u32::try_from(own).unwrap_or(u32::MAX));
        messages.push(message);
    }
    let request = Request::new(profile.name, system, messages);
    let repairs = repairs.into_sorted();
    Rendered { request, tokens, message_tokens, repairs, is_left_out, has_left }
}

/// Links results to calls, fits all parts, and marks the messages of which a part remains.
fn fit_turns<'a>(
    turns: Vec<Turn<'a>>,
    inputs: &[Input<'a>],
    fit: &mut Fit<'_>,
    is_left_out: &mut [bool],
) -> Vec<Turn<'a>> {
    let mut turns = turns;
    turns.retain_mut(|turn| {
        // Items are fitted before they are joined, to know which of them remain.
        !turn::is_item(turn) || fit_turn(turn, fit, is_left_out)
    });
    if fit.profile.reasoning == ReasoningForm::Items {
        drop_last_thoughts(&mut turns, fit.repairs, is_left_out);
    }
    let turns = turn::join_items(turns, fit.dialect);
    let is_awaited = |index: usize| inputs.get(index).is_some_and(|input| input.is_awaited);
    let mut turns = link::link(turns, is_awaited, fit.repairs, is_left_out);
    if !turns.iter().any(|turn| turn.speaker == Speaker::Tool) {
        turns.retain_mut(|turn| fit_turn(turn, fit, is_left_out));
        return turns;
    }
    let mut fitted: Vec<Turn<'a>> = Vec::with_capacity(turns.len());
    let mut kinds: Vec<CallKind<'a>> = Vec::new();
    for mut turn in turns {
        if turn.speaker == Speaker::Tool {
            turn.set_kinds(&kinds);
            let moved = fit.results(&mut turn);
            let after = Turn { parts: moved, ..Turn::inserted(Speaker::User, "") };
            let after = Turn { sequence: turn.sequence, ..after };
            fitted.push(turn);
            if !after.parts.is_empty() {
                fitted.push(after);
            }
            continue;
        }
        if !fit_turn(&mut turn, fit, is_left_out) {
            continue;
        }
        kinds.clear();
        kinds.extend(turn.parts.iter().filter_map(|part| match part {
            Part::Call(call) if !call.provider_run => Some(call.kind),
            _ => None,
        }));
        fitted.push(turn);
    }
    fitted
}

/// Removes reasoning items that no item of the same answer follows.
fn drop_last_thoughts(turns: &mut Vec<Turn<'_>>, repairs: &mut Repairs, is_left_out: &mut [bool]) {
    let mut is_followed = false;
    let mut stays: Vec<bool> = (turns.iter().rev())
        .map(|turn| {
            let is_thought = turn.parts.iter().all(|part| matches!(part, Part::Reasoning(_)));
            let stays = !is_thought
                || !turn::is_item(turn)
                || is_followed
                || is_planted(RenderBug::LoneReasoningKept);
            is_followed = stays && turn::is_item(turn);
            stays
        })
        .collect();
    stays.reverse();
    let mut stays = stays.into_iter();
    turns.retain(|turn| {
        let stays = stays.next().unwrap_or(true);
        if !stays {
            repairs.add(RepairKind::ReasoningLeftOut, turn.sequence);
            if let Some(is_left_out) = turn.input.and_then(|index| is_left_out.get_mut(index)) {
                *is_left_out = true;
            }
        }
        stays
    });
}

/// Fits a turn; returns `false` if nothing of it remains.
fn fit_turn(turn: &mut Turn<'_>, fit: &mut Fit<'_>, is_left_out: &mut [bool]) -> bool {
    fit.turn(turn);
    let is_there = !turn.parts.is_empty();
    if let Some(is_left_out) = turn.input.and_then(|index| is_left_out.get_mut(index)) {
        *is_left_out &= !is_there;
    }
    is_there
}

#[cfg(test)]
pub(crate) mod tests;
