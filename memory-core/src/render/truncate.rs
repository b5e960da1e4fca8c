//! Truncates the texts of the newest unit.

use super::bug::{RenderBug, is_planted};
use super::link::is_synthetic;
use super::repair::{RepairKind, Repairs};
use super::turn::Turn;
use crate::dialect::Part;
use crate::stored::Sequence;
use crate::tokens::TokenCounter;

/// The marker in place of the rest of a text.
const MARKER: &str = "\n[truncated]";
/// The minimum length of a kept text, in markers, if others are dropped.
const READABLE: u64 = 4;

/// The amount to cut, and the messages to cut.
#[derive(Debug, Clone)]
pub(crate) struct Cut {
    /// The messages whose texts may be cut, in ascending order.
    places: Vec<Sequence>,
    tokens: u64,
}

impl Cut {
    /// No cut yet, for these messages in ascending order.
    pub(crate) const fn new(places: Vec<Sequence>) -> Self {
        Self { places, tokens: 0 }
    }

    /// Whether anything was cut.
    pub(crate) const fn has_cut(&self) -> bool {
        self.tokens > 0
    }

    /// Cuts this many tokens more.
    pub(crate) fn cut_more(&mut self, tokens: u64) {
        // Less was removed than planned, because tokens at the end of a text differ from those of its parts.
        let more = if self.tokens > 0 { tokens / 8 } else { 0 };
        self.tokens = self.tokens.saturating_add(tokens).saturating_add(more + 1);
    }
}

/// A text that may be cut.
#[derive(Debug)]
struct Slot {
    /// Texts that directly follow each other in one list of parts share a run number.
    run: usize,
    length: usize,
    tokens: u64,
    /// Whether it may be joined with a line break to the previous text.
    is_joined: bool,
    /// The JSON of data, which is cut like text.
    data: Option<String>,
    fate: Fate,
}

impl Slot {
    const fn whole(run: usize, length: usize) -> Self {
        Self { run, length, tokens: 0, is_joined: false, data: None, fate: Fate::Whole }
    }

    /// Whether a part of it and the marker are shorter than the whole.
    const fn may_shorten(&self) -> bool {
        self.length > MARKER.len() * 2
    }

    /// Its tokens if it is cut to this many.
    fn cut_to(&self, level: u64) -> u64 {
        if self.may_shorten() { self.tokens.min(level) } else { self.tokens }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Whole,
    /// Cut to about this many tokens.
    Cut(u64),
    /// Replaced by the marker.
    Marker,
    Dropped,
}

/// Cuts the longest texts first, and drops the last ones if that is not enough; returns `false` if nothing is left to
/// cut.
pub(super) fn apply(
    turns: &mut [Turn<'_>],
    cut: &Cut,
    counter: &dyn TokenCounter,
    repairs: &mut Repairs,
) -> bool {
    let is_newest = |turn: &Turn<'_>| {
        turn.sequence.is_some_and(|place| cut.places.binary_search(&place).is_ok())
            && !turn.speaker.is_system()
    };
    let mut slots = Slots::default();
    for turn in turns.iter().filter(|turn| is_newest(turn)) {
        slots.read(&turn.parts);
    }
    let mut slots = slots.all;
    if cut.tokens == 0 {
        let mut pairs = slots.iter().zip(slots.iter().skip(1));
        return slots.iter().any(Slot::may_shorten)
            || pairs.any(|(one, other)| one.run == other.run);
    }
    // Texts are counted in place; only data are copied.
    let mut counted = slots.iter_mut();
    for turn in turns.iter().filter(|turn| is_newest(turn)) {
        each_text(&turn.parts, &mut |text| {
            if let Some(slot) = counted.next() {
                let text = text.or(slot.data.as_deref()).unwrap_or_default();
                slot.tokens = counter.count(text) as u64 + u64::from(slot.is_joined);
            }
        });
    }
    let has_left = plan(&mut slots, cut.tokens, counter.count(MARKER) as u64);
    let mut writer = Writer { slots: slots.into_iter(), counter, changed: false };
    for turn in turns.iter_mut().filter(|turn| is_newest(turn)) {
        writer.changed = false;
        writer.parts(&mut turn.parts, Within::Message);
        if writer.changed {
            turn.touch();
            repairs.add(RepairKind::Truncated, turn.sequence);
        }
    }
    has_left
}

/// Decides how to cut each text to remove this many tokens; returns `false` if nothing more can be cut.
fn plan(slots: &mut [Slot], tokens: u64, marker: u64) -> bool {
    let total: u64 = slots.iter().map(|slot| slot.tokens).sum();
    // At least the marker remains of each run, so that no message, result or reasoning becomes empty.
    let runs: Vec<u64> = slots
        .chunk_by(|one, other| one.run == other.run)
        .map(|run| run.iter().map(|slot| slot.tokens).sum::<u64>().min(marker))
        .collect();
    let least: u64 = runs.iter().sum();
    let has_left = tokens < total.saturating_sub(least);
    let target = total.saturating_sub(tokens);
    let floor: u64 = slots.iter().map(|slot| slot.cut_to(marker)).sum();
    let mut room = target;
    if floor > target {
        room = target.saturating_sub(least);
        drop_last(slots, &runs, &mut room, marker);
    }
    let kept = |slot: &&mut Slot| slot.fate == Fate::Whole;
    let size = |level: u64, slots: &[Slot]| -> u64 {
        let kept = slots.iter().filter(|slot| slot.fate == Fate::Whole);
        kept.map(|slot| slot.cut_to(level)).sum()
    };
    // The largest common length that fits.
    let (mut low, mut high) = (marker, slots.iter().map(|slot| slot.tokens).max().unwrap_or(0));
    while low < high {
        let level = low + (high - low).div_ceil(2);
        if size(level, slots) <= room {
            low = level;
        } else {
            high = level - 1;
        }
    }
    for slot in slots.iter_mut().filter(kept) {
        if slot.may_shorten() && slot.tokens > low {
            slot.fate = Fate::Cut(low);
        }
    }
    has_left
}

/// Keeps the first texts that fit, each with more than its marker, and drops the later ones.
fn drop_last(slots: &mut [Slot], runs: &[u64], room: &mut u64, marker: u64) {
    let mut left = *room;
    let mut is_full = false;
    for (run, least) in slots.chunk_by_mut(|one, other| one.run == other.run).zip(runs) {
        if *least < marker {
            // It is smaller than its marker.
            run.iter_mut().filter(|slot| slot.may_shorten()).for_each(|slot| slot.length = 0);
            *room += *least;
            continue;
        }
        let mut has_dropped = false;
        for slot in run {
            let cost = slot.cut_to(marker * READABLE);
            is_full |= cost > left;
            if !is_full {
                left -= cost;
                continue;
            }
            slot.fate = if has_dropped { Fate::Dropped } else { Fate::Marker };
            has_dropped = true;
        }
        if !has_dropped {
            *room += *least;
        }
    }
}

/// Collects the texts that may be cut.
#[derive(Default)]
struct Slots {
    all: Vec<Slot>,
    run: usize,
}

impl Slots {
    fn read(&mut self, parts: &[Part<'_>]) {
        self.run += 1;
        for part in parts {
            match part {
                Part::Text(text) => self.push(text.text.len()),
                Part::Result(result) => {
                    self.run += 1;
                    for part in &result.content {
                        match part {
                            Part::Text(text) if !is_synthetic(&text.text) => {
                                self.push_in_result(text.text.len(), None);
                            }
                            Part::Data(json) => {
                                let json = json.to_string();
                                self.push_in_result(json.len(), Some(json));
                            }
                            _ => self.run += 1,
                        }
                    }
                    self.run += 1;
                }
                _ => self.run += 1,
            }
        }
    }

    fn push(&mut self, length: usize) {
        self.all.push(Slot::whole(self.run, length));
    }

    fn push_in_result(&mut self, length: usize, data: Option<String>) {
        let is_joined = self.all.last().is_some_and(|last| last.run == self.run);
        self.all.push(Slot { is_joined, data, ..Slot::whole(self.run, length) });
    }
}

/// Calls `visit` with the texts of [`Slots`], in order; `None` for data.
fn each_text(parts: &[Part<'_>], visit: &mut dyn FnMut(Option<&str>)) {
    for part in parts {
        match part {
            Part::Text(text) => visit(Some(&text.text)),
            Part::Result(result) => result.content.iter().for_each(|part| match part {
                Part::Text(text) if !is_synthetic(&text.text) => visit(Some(&text.text)),
                Part::Data(_) => visit(None),
                _ => {}
            }),
            _ => {}
        }
    }
}

/// Replaces the texts as planned, in the order of [`Slots`].
struct Writer<'c> {
    slots: std::vec::IntoIter<Slot>,
    counter: &'c dyn TokenCounter,
    changed: bool,
}

/// The list that holds parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Within {
    Message,
    Result,
}

impl Writer<'_> {
    fn parts(&mut self, parts: &mut Vec<Part<'_>>, within: Within) {
        parts.retain_mut(|part| match part {
            // A synthetic text, not part of the history.
            Part::Text(text) if within == Within::Result && is_synthetic(&text.text) => true,
            Part::Text(text) => match self.next(Some(&text.text)) {
                Next::Same => true,
                Next::New(new) if within == Within::Result => {
                    *part = Part::text(new);
                    true
                }
                Next::New(new) => {
                    text.text = new.into();
                    text.citations = None;
                    true
                }
                Next::Gone => false,
            },
            Part::Data(_) if within == Within::Result => match self.next(None) {
                Next::Same => true,
                Next::New(new) => {
                    *part = Part::text(new);
                    true
                }
                Next::Gone => false,
            },
            Part::Result(result) if within == Within::Message => {
                let before = std::mem::take(&mut self.changed);
                self.parts(&mut result.content, Within::Result);
                if self.changed {
                    result.native = None;
                }
                self.changed |= before;
                true
            }
            _ => true,
        });
    }

    fn next(&mut self, text: Option<&str>) -> Next {
        let Some(slot) = self.slots.next() else { return Next::Same };
        let text = text.or(slot.data.as_deref()).unwrap_or_default();
        let next = match slot.fate {
            Fate::Whole => return Next::Same,
            Fate::Cut(level) => Next::New(shortened(text, slot.tokens, level, self.counter)),
            Fate::Marker => Next::New(shortened(text, slot.tokens, 0, self.counter)),
            Fate::Dropped => Next::Gone,
        };
        self.changed = true;
        next
    }
}

enum Next {
    Same,
    New(String),
    Gone,
}

/// A prefix of the text with the marker, of at most about this many tokens.
fn shortened(text: &str, count: u64, wanted: u64, counter: &dyn TokenCounter) -> String {
    let share = |length: usize, part: u64, whole: u64| {
        let scaled = (length as u128) * u128::from(part) / u128::from(whole.max(1));
        usize::try_from(scaled).unwrap_or(length)
    };
    let marker = counter.count(MARKER) as u64;
    let mut length = share(text.len(), wanted.saturating_sub(marker), count).min(text.len());
    loop {
        let mut end = length;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let mut short = text.get(..end).unwrap_or_default().to_owned();
        if is_planted(RenderBug::CutInCharacter) {
            let bytes = text.as_bytes().get(..length).unwrap_or_default();
            short = String::from_utf8_lossy(bytes).into_owned();
        }
        if !is_planted(RenderBug::CutWithoutMarker) {
            short.push_str(MARKER);
        }
        if end == 0 || counter.count(&short) as u64 <= wanted {
            return short;
        }
        length = end - (end / 8).max(1);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use serde_json::json;

    use crate::check_request::check_request;
    use crate::json::Json;
    use crate::message::Message;
    use crate::profile::Profile;
    use crate::tokens::{EstimateCounter, TokenCounter};
    use crate::window::{NewestUnit, WindowOptions, trim_messages};

    #[derive(Debug)]
    struct Counting(Arc<AtomicUsize>);

    impl TokenCounter for Counting {
        fn name(&self) -> &str {
            EstimateCounter.name()
        }

        fn count(&self, text: &str) -> usize {
            self.0.fetch_add(1, Ordering::Relaxed);
            EstimateCounter.count(text)
        }
    }

    fn profiles() -> [Profile; 3] {
        [Profile::default(), Profile::anthropic(), Profile::gemini()]
    }

    fn message(value: &serde_json::Value) -> Message {
        Message::from_any(Json::parse(&value.to_string()).unwrap())
    }

    #[test]
    fn many_texts_fit_with_few_counts() {
        for (count, length) in [(1_000, 35), (10_000, 35), (10_000, 8)] {
            let part = |n: usize| json!({"type": "text", "text": format!("{n:0length$}")});
            let parts: Vec<_> = (0..count).map(part).collect();
            let history = vec![message(&json!({"role": "user", "content": parts}))];
            for profile in profiles() {
                let calls = Arc::new(AtomicUsize::new(0));
                let options = WindowOptions::new(300)
                    .with_profile(profile.clone())
                    .with_newest(NewestUnit::Truncate);
                let window =
                    trim_messages(history.clone(), &Counting(Arc::clone(&calls)), options).unwrap();
                let text = window.request.to_string();
                assert_eq!(check_request(&text, &profile), Ok(()));
                assert!((200..=300).contains(&window.tokens), "{}", window.tokens);
                assert_eq!(text.matches("[truncated]").count(), 1, "{text}");
                assert!(text.contains(&format!("{:0length$}", 1)), "{text}");
                let calls = calls.load(Ordering::Relaxed);
                assert!(calls < count * 10, "{calls} counts of {count} texts");
            }
        }
    }

    #[test]
    fn results_of_many_texts_remain() {
        let calls = ["a", "b"].map(|id| crate::dialect::ToolCall::function(id, "read", "{}"));
        let parts: Vec<_> =
            (0..2_000).map(|n| json!({"type": "text", "text": format!("{n:040}")})).collect();
        let result = |id: &str| {
            message(&json!({"role": "tool", "tool_call_id": id, "content": parts.clone()}))
        };
        let history = vec![Message::calls(calls), result("a"), result("b")];
        for profile in profiles() {
            let options = WindowOptions::new(300)
                .with_profile(profile.clone())
                .with_newest(NewestUnit::Truncate);
            let window = trim_messages(history.clone(), &EstimateCounter, options).unwrap();
            let text = window.request.to_string();
            assert_eq!(check_request(&text, &profile), Ok(()));
            assert!((100..=300).contains(&window.tokens), "{}", window.tokens);
            assert_eq!(text.matches("[truncated]").count(), 2, "{text}");
        }
    }
}
