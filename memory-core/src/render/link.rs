//! Putting each result directly behind its call, and answering the calls that have none.

use std::collections::HashMap;

use super::fault::{Fault, is_planted};
use super::repair::{RepairKind, Repairs};
use super::turn::{Speaker, Turn, is_call};
use crate::dialect::{CallKind, Part, ResultPart};

/// The text of a synthetic result.
const NO_RESULT: &str = "[no result: the call was interrupted]";
/// The text of a synthetic result of a call that may still be answered.
const NO_RESULT_YET: &str = "[no result yet]";

/// Whether a text is that of a synthetic result.
pub(super) fn is_synthetic(text: &str) -> bool {
    matches!(text, NO_RESULT | NO_RESULT_YET)
}

struct Open<'a> {
    turn: usize,
    id: Option<&'a str>,
    name: &'a str,
    is_legacy: bool,
    answer: Option<Answer<'a>>,
}

struct Answer<'a> {
    result: ResultPart<'a>,
    /// The turn that it was read from.
    turn: usize,
    sequence: Option<crate::stored::Sequence>,
    known: Option<u64>,
}

/// The calls that results may answer.
#[derive(Default)]
struct Calls<'a> {
    all: Vec<Open<'a>>,
    /// The calls with this id, the latest last. Those of the latest turn are looked at without it: most results are
    /// directly behind their calls.
    by_id: HashMap<&'a str, Vec<usize>>,
    /// How many calls are in the map.
    hashed: usize,
    /// The calls without an answer, in order.
    open: Vec<usize>,
}

impl<'a> Calls<'a> {
    fn push(&mut self, call: Open<'a>) {
        let index = self.all.len();
        self.open.push(index);
        self.all.push(call);
    }

    /// The call that a result answers, by the rules of [`ToolLink`](crate::ToolLink).
    fn find(&mut self, result: &ResultPart<'a>) -> Option<usize> {
        if let Some(id) = result.link {
            let latest = self.all.last()?.turn;
            let mut in_latest = None;
            for (index, call) in self.all.iter().enumerate().rev() {
                if call.turn != latest {
                    break;
                }
                if call.id == Some(id) && call.answer.is_none() {
                    in_latest = Some(index);
                }
            }
            if in_latest.is_some() {
                return in_latest;
            }
            self.hash_all();
            let is_open = |index: &&usize| self.open_call(**index).is_some();
            let mut open = self.by_id.get(id)?.iter().filter(is_open);
            let last = *open.next_back()?;
            let turn = self.all.get(last)?.turn;
            // The first one of the nearest turn.
            let in_turn = |index: &&usize| self.all.get(**index).is_some_and(|c| c.turn == turn);
            let first = self.by_id.get(id)?.iter().filter(is_open).find(in_turn).copied();
            return first.or(Some(last));
        }
        let Some(name) = result.name else { return self.nearest(|_| true) };
        if result.kind == CallKind::LegacyFunction {
            return self.nearest(|call| call.is_legacy && call.name == name);
        }
        // A call of the first function API is known by its id only, which is made of its name.
        let named = self.nearest(|call| !call.is_legacy && call.name == name);
        named.or_else(|| self.nearest(|call| call.is_legacy || call.name.is_empty()))
    }

    fn hash_all(&mut self) {
        for (index, call) in self.all.iter().enumerate().skip(self.hashed) {
            if let Some(id) = call.id {
                self.by_id.entry(id).or_default().push(index);
            }
        }
        self.hashed = self.all.len();
    }

    /// Whether a call has this id, answered or not.
    fn knows(&mut self, id: &str) -> bool {
        self.hash_all();
        self.by_id.contains_key(id)
    }

    fn open_call(&self, index: usize) -> Option<&Open<'a>> {
        self.all.get(index).filter(|call| call.answer.is_none())
    }

    /// In the nearest turn with such a call, the first one.
    fn nearest(&self, matches: impl Fn(&Open<'a>) -> bool) -> Option<usize> {
        let mut found: Option<(usize, usize)> = None;
        for index in self.open.iter().rev() {
            let Some(call) = self.open_call(*index) else { continue };
            match found {
                Some((turn, _)) if turn != call.turn => break,
                _ if matches(call) => found = Some((call.turn, *index)),
                _ => {}
            }
        }
        found.map(|(_, index)| index)
    }

    fn answer(&mut self, index: usize, answer: Answer<'a>) {
        if let Ok(at) = self.open.binary_search(&index) {
            self.open.remove(at);
        }
        if let Some(call) = self.all.get_mut(index) {
            call.answer = Some(answer);
        }
    }
}

/// Puts the results of each turn's calls into a turn behind it. `is_awaited` says of a message whether its calls may
/// still be answered; `is_left_out` becomes `false` for the messages whose results are there.
pub(super) fn link<'a>(
    turns: Vec<Turn<'a>>,
    is_awaited: impl Fn(usize) -> bool,
    repairs: &mut Repairs,
    is_left_out: &mut [bool],
) -> Vec<Turn<'a>> {
    let mut turns = turns;
    let mut calls = Calls::default();
    for (index, turn) in turns.iter_mut().enumerate() {
        if turn.speaker == Speaker::Tool {
            let known = turn.known;
            for part in std::mem::take(&mut turn.parts) {
                let Part::Result(result) = part else { continue };
                match calls.find(&result) {
                    Some(call) => {
                        let input = turn.input.and_then(|input| is_left_out.get_mut(input));
                        if let Some(is_left_out) = input {
                            *is_left_out = false;
                        }
                        let answer = Answer { result, turn: index, sequence: turn.sequence, known };
                        calls.answer(call, answer);
                    }
                    None => {
                        let is_second = result.link.is_some_and(|id| calls.knows(id));
                        let stays = if is_second {
                            is_planted(Fault::SecondResultKept)
                        } else {
                            is_planted(Fault::OrphanKept)
                        };
                        if stays {
                            turn.parts.push(Part::Result(result));
                        }
                        let kind = if is_second {
                            RepairKind::DuplicateResult
                        } else {
                            RepairKind::OrphanResult
                        };
                        repairs.add(kind, turn.sequence);
                    }
                }
            }
            continue;
        }
        for part in &turn.parts {
            if let Part::Call(call) = part
                && !call.provider_run
            {
                calls.push(Open {
                    turn: index,
                    id: call.id,
                    name: call.name,
                    is_legacy: call.kind == CallKind::LegacyFunction,
                    answer: None,
                });
            }
        }
    }
    // The next turn that is not a tool's, to see which results were elsewhere.
    let mut all = calls.all.into_iter();
    let mut linked = Vec::with_capacity(turns.len() + 4);
    let mut late = Vec::new();
    let speakers: Vec<_> = turns.iter().map(|turn| turn.speaker).collect();
    for (index, turn) in turns.into_iter().enumerate() {
        if turn.speaker == Speaker::Tool {
            // Only a planted fault leaves results in it.
            linked.extend(Some(turn).filter(|turn| !turn.parts.is_empty()));
            continue;
        }
        let count = turn.parts.iter().filter(|part| is_call(part)).count();
        if count == 0 {
            linked.push(turn);
            continue;
        }
        let awaited = turn.input.is_some_and(&is_awaited);
        let mut turn = turn;
        let results = results(index, &mut turn, &mut all, &speakers, awaited, repairs);
        let is_apart = speakers.get(index + 1).is_some_and(|next| *next != Speaker::Tool);
        if is_apart && is_planted(Fault::ResultNotMoved) {
            late.push(results);
            linked.push(turn);
            continue;
        }
        linked.push(turn);
        linked.push(results);
    }
    linked.append(&mut late);
    linked
}

/// The turn with the results of this turn's calls, in the order of the calls.
fn results<'a>(
    index: usize,
    turn: &mut Turn<'a>,
    calls: &mut impl Iterator<Item = Open<'a>>,
    speakers: &[Speaker],
    awaited: bool,
    repairs: &mut Repairs,
) -> Turn<'a> {
    let mut known = Some(0_u64);
    let mut parts = Vec::new();
    let mut sequence = None;
    for part in turn.parts.iter_mut().filter(|part| is_call(part)) {
        let Part::Call(call) = part else { continue };
        let answer = calls.next().and_then(|call| call.answer);
        let Some(Answer { mut result, turn: from, sequence: at, known: tokens }) = answer else {
            if is_planted(Fault::NoSyntheticResult) {
                continue;
            }
            if !is_planted(Fault::RepairNotListed) {
                repairs.add(RepairKind::SyntheticResult, turn.sequence);
            }
            let text = if awaited { NO_RESULT_YET } else { NO_RESULT };
            if matches!(call.kind, CallKind::Native(_)) {
                // Its result has a form that only the tool can fill.
                call.kind = CallKind::Function;
                call.native = None;
                turn.known = None;
            }
            let mut result = ResultPart::new(call.id, Some(call.name), vec![Part::text(text)]);
            result.kind = call.kind;
            parts.push(Part::Result(result));
            known = None;
            continue;
        };
        let between = speakers.get(index + 1..from).unwrap_or_default();
        if between.iter().any(|speaker| *speaker != Speaker::Tool) {
            repairs.add(RepairKind::ResultMoved, at);
        }
        sequence = sequence.or(at);
        if call.kind == CallKind::Custom && result.kind == CallKind::Function {
            // Only Responses says in a result that its call is a custom one.
            result.kind = CallKind::Custom;
            result.native = None;
            known = None;
        }
        if result.kind != call.kind {
            // One of them was read from another dialect.
            for kind in [&mut result.kind, &mut call.kind] {
                if *kind != CallKind::LegacyFunction || call.id.is_some() {
                    *kind = CallKind::Function;
                }
            }
            if result.kind != call.kind {
                result.kind = CallKind::Function;
                call.kind = CallKind::Function;
            }
            call.native = None;
            result.native = None;
            turn.known = None;
        }
        // A name in a result is counted, but not sent.
        let is_linked = result.link == call.id && result.name.is_none();
        known = known.zip(tokens.filter(|_| is_linked)).map(|(sum, tokens)| sum + tokens);
        result.link = call.id;
        result.name = Some(call.name).filter(|name| !name.is_empty()).or(result.name);
        parts.push(Part::Result(result));
    }
    Turn {
        speaker: Speaker::Tool,
        parts,
        author: None,
        input: None,
        sequence: sequence.or(turn.sequence),
        known,
        dialect: turn.dialect,
    }
}
