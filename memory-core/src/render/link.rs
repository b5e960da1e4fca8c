//! Moves each result directly behind its call, and adds results to calls that have none.

use std::collections::HashMap;

use super::bug::{RenderBug, is_planted};
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
    /// The turn of the call.
    turn: usize,
    sequence: Option<crate::stored::Sequence>,
    known: Option<u64>,
}

/// Turns with at most this many calls are searched without an index, because most results directly follow a few
/// calls.
const FEW: usize = 16;

/// The key by which a result refers to its call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Key<'a> {
    Id(&'a str),
    Function(&'a str),
    Legacy(&'a str),
    /// A legacy call or a call without a name.
    Loose,
    Any,
}

impl Key<'_> {
    fn matches(self, call: &Open<'_>) -> bool {
        match self {
            Self::Id(id) => call.id == Some(id),
            Self::Function(name) => !call.is_legacy && call.name == name,
            Self::Legacy(name) => call.is_legacy && call.name == name,
            Self::Loose => call.is_legacy || call.name.is_empty(),
            Self::Any => true,
        }
    }
}

/// The calls of each key: those of the nearest turn last; within a turn, the first one last. Answered calls at the
/// end are removed lazily.
#[derive(Default)]
struct Index<'a> {
    calls: HashMap<Key<'a>, Vec<usize>>,
    /// The number of indexed calls, of whole turns.
    indexed: usize,
}

impl<'a> Index<'a> {
    /// Indexes the new calls.
    fn update(&mut self, all: &[Open<'a>], keys: impl Fn(&Open<'a>) -> [Option<Key<'a>>; 3]) {
        let mut start = self.indexed;
        for turn in all.get(start..).unwrap_or_default().chunk_by(|a, b| a.turn == b.turn) {
            for (index, call) in turn.iter().enumerate().rev() {
                for key in keys(call).into_iter().flatten() {
                    self.calls.entry(key).or_default().push(start + index);
                }
            }
            start += turn.len();
        }
        self.indexed = all.len();
    }

    /// The first open call with this key in the nearest turn that has one.
    fn first(&mut self, key: Key<'a>, all: &[Open<'a>]) -> Option<usize> {
        let calls = self.calls.get_mut(&key)?;
        while let Some(index) = calls.last() {
            if all.get(*index).is_some_and(|call| call.answer.is_none()) {
                return Some(*index);
            }
            calls.pop();
        }
        None
    }
}

/// The calls that results may answer.
#[derive(Default)]
struct Calls<'a> {
    all: Vec<Open<'a>>,
    /// The first call of the latest turn with open calls.
    latest: usize,
    by_id: Index<'a>,
    by_name: Index<'a>,
}

impl<'a> Calls<'a> {
    fn push(&mut self, call: Open<'a>) {
        if self.all.last().is_none_or(|last| last.turn != call.turn) {
            self.latest = self.all.len();
        }
        self.all.push(call);
    }

    /// The call that a result answers, by the rules of [`ToolLink`](crate::plan::ToolLink).
    fn find(&mut self, result: &ResultPart<'a>) -> Option<usize> {
        if let Some(id) = result.link {
            return self.nearest(Key::Id(id));
        }
        let Some(name) = result.name else { return self.nearest(Key::Any) };
        if result.kind == CallKind::LegacyFunction {
            return self.nearest(Key::Legacy(name));
        }
        // A call of the first function API is identified by its id, which is derived from its name.
        self.nearest(Key::Function(name)).or_else(|| self.nearest(Key::Loose))
    }

    fn index_ids(&mut self) {
        self.by_id.update(&self.all, |call| [call.id.map(Key::Id), None, None]);
    }

    fn index_names(&mut self) {
        self.by_name.update(&self.all, |call| {
            let name =
                if call.is_legacy { Key::Legacy(call.name) } else { Key::Function(call.name) };
            [Some(name), Some(Key::Loose).filter(|key| key.matches(call)), Some(Key::Any)]
        });
    }

    /// Whether a call has this id, answered or not.
    fn knows(&mut self, id: &'a str) -> bool {
        self.index_ids();
        self.by_id.calls.contains_key(&Key::Id(id))
    }

    /// The first such open call in the nearest turn that has one.
    fn nearest(&mut self, key: Key<'a>) -> Option<usize> {
        while self.all.get(self.latest).is_some_and(|call| call.answer.is_some()) {
            self.latest += 1;
        }
        let latest = self.all.get(self.latest..).unwrap_or_default();
        // Results are mostly in the order of their calls.
        let searched = if latest.len() > FEW { 1 } else { FEW };
        let mut open = latest.iter().take(searched);
        if let Some(at) = open.position(|call| call.answer.is_none() && key.matches(call)) {
            return Some(self.latest + at);
        }
        let index = if matches!(key, Key::Id(_)) {
            self.index_ids();
            &mut self.by_id
        } else {
            self.index_names();
            &mut self.by_name
        };
        index.first(key, &self.all)
    }

    fn answer(&mut self, index: usize, answer: Answer<'a>) {
        let call = self.all.get_mut(index);
        debug_assert!(call.is_some(), "a result answers a call that is not in the index");
        if let Some(call) = call {
            call.answer = Some(answer);
        }
    }
}

/// Moves the results of each turn's calls into a turn behind it. `is_awaited` returns whether the calls of a message
/// may still be answered; `is_left_out` becomes `false` for the messages whose results are included.
pub(super) fn link<'a>(
    turns: Vec<Turn<'a>>,
    is_awaited: impl Fn(usize) -> bool,
    repairs: &mut Repairs,
    is_left_out: &mut [bool],
) -> Vec<Turn<'a>> {
    if !turns.iter().any(|turn| turn.speaker == Speaker::Tool || turn.parts.iter().any(is_call)) {
        return turns;
    }
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
                        // A turn without a message of the input has no place in the list.
                        debug_assert!(
                            turn.input.is_none() || input.is_some(),
                            "an input without a place"
                        );
                        if let Some(is_left_out) = input {
                            *is_left_out = false;
                        }
                        let answer = Answer { result, turn: index, sequence: turn.sequence, known };
                        calls.answer(call, answer);
                    }
                    None => {
                        let is_second = result.link.is_some_and(|id| calls.knows(id));
                        let stays = if is_second {
                            is_planted(RenderBug::SecondResultKept)
                        } else {
                            is_planted(RenderBug::OrphanKept)
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
    // The next turn that is not a tool's, to detect results that were moved.
    let mut all = calls.all.into_iter();
    let mut linked = Vec::with_capacity(turns.len() + 4);
    let mut late = Vec::new();
    let speakers: Vec<_> = turns.iter().map(|turn| turn.speaker).collect();
    // For each turn, the number of earlier turns that are not tools'.
    let mut others = Vec::with_capacity(speakers.len());
    let mut count = 0_usize;
    for speaker in &speakers {
        others.push(count);
        count += usize::from(*speaker != Speaker::Tool);
    }
    for (index, turn) in turns.into_iter().enumerate() {
        if turn.speaker == Speaker::Tool {
            // Only a planted bug leaves results in it.
            linked.extend(Some(turn).filter(|turn| !turn.parts.is_empty()));
            continue;
        }
        let count = turn.parts.iter().filter(|part| is_call(part)).count();
        if count == 0 {
            linked.push(turn);
            continue;
        }
        let missing = if turn.input.is_some_and(&is_awaited) { NO_RESULT_YET } else { NO_RESULT };
        let mut turn = turn;
        let results = results(index, &mut turn, &mut all, &others, missing, repairs);
        let is_apart = speakers.get(index + 1).is_some_and(|next| *next != Speaker::Tool);
        if is_apart && is_planted(RenderBug::ResultNotMoved) {
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

/// The turn with the results of this turn's calls, in the order of the calls, and with the text `missing` for those
/// without a result.
fn results<'a>(
    index: usize,
    turn: &mut Turn<'a>,
    calls: &mut impl Iterator<Item = Open<'a>>,
    others: &[usize],
    missing: &'static str,
    repairs: &mut Repairs,
) -> Turn<'a> {
    let mut known = Some(0_u64);
    let mut parts = Vec::new();
    let mut sequence = None;
    for part in turn.parts.iter_mut().filter(|part| is_call(part)) {
        let Part::Call(call) = part else { continue };
        let answer = calls.next().and_then(|call| call.answer);
        let Some(Answer { mut result, turn: from, sequence: at, known: tokens }) = answer else {
            if is_planted(RenderBug::NoSyntheticResult) {
                continue;
            }
            if !is_planted(RenderBug::RepairNotListed) {
                repairs.add(RepairKind::SyntheticResult, turn.sequence);
            }
            if matches!(call.kind, CallKind::Native(_)) {
                // Its result has a form that only the tool can produce.
                call.kind = CallKind::Function;
                call.native = None;
                turn.known = None;
            }
            let mut result = ResultPart::new(call.id, Some(call.name), vec![Part::text(missing)]);
            result.kind = call.kind;
            parts.push(Part::Result(result));
            known = None;
            continue;
        };
        // The turn itself is one of them.
        let own = others.get(index).map(|before| before + 1);
        if others.get(from).copied() > own {
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
            // Call and result were read from different dialects.
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
        // A name in a result is counted but not sent.
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::json::Json;
    use crate::message::Message;
    use crate::tokens::EstimateCounter;
    use crate::window::{WindowOptions, trim_messages};

    const CALLS: usize = 5_000;

    #[derive(Clone, Copy, PartialEq, Eq)]
    enum CallIds {
        Present,
        Absent,
    }

    fn request(order: impl Iterator<Item = usize>, ids: CallIds) -> (String, usize) {
        let read =
            |json: serde_json::Value| Message::from_any(Json::parse(&json.to_string()).unwrap());
        let call = |n: usize| {
            let mut call = json!({"functionCall": {"name": format!("f{n}"), "args": {}}});
            if ids == CallIds::Present {
                call["functionCall"]["id"] = format!("c{n}").into();
            }
            call
        };
        let result = |n: usize| {
            let mut part =
                json!({"functionResponse": {"name": format!("f{n}"), "response": {"result": n}}});
            if ids == CallIds::Present {
                part["functionResponse"]["id"] = format!("c{n}").into();
            }
            part
        };
        let calls: Vec<_> = (0..CALLS).map(call).collect();
        let results: Vec<_> = order.map(result).collect();
        let history = vec![
            read(json!({"role": "user", "parts": [{"text": "go"}]})),
            read(json!({"role": "model", "parts": calls})),
            read(json!({"role": "user", "parts": results})),
        ];
        let window =
            trim_messages(history, &EstimateCounter, WindowOptions::new(10_000_000)).unwrap();
        (window.request.to_string(), window.repairs.len())
    }

    #[test]
    fn parallel_calls_are_answered_in_any_order() {
        for ids in [CallIds::Present, CallIds::Absent] {
            let ordered = request(0..CALLS, ids);
            assert!(
                ordered.0.contains(&format!("f{}", CALLS - 1)) && !ordered.0.contains("[no result")
            );
            assert_eq!(request((0..CALLS).rev(), ids), ordered);
            let odd_last = (0..CALLS).step_by(2).chain((1..CALLS).step_by(2));
            assert_eq!(request(odd_last, ids), ordered);
        }
    }
}
