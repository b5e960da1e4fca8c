//! Cutting the texts of the newest unit.

use super::fault::{Fault, is_planted};
use super::link::is_synthetic;
use super::repair::{RepairKind, Repairs};
use super::turn::Turn;
use crate::dialect::Part;
use crate::stored::Sequence;
use crate::tokens::TokenCounter;

/// What stands for the rest of a text.
const MARKER: &str = "\n[truncated]";

/// How much to cut, and where.
#[derive(Debug, Clone)]
pub(crate) struct Cut {
    /// The messages whose texts may be cut, in ascending order.
    places: Vec<Sequence>,
    tokens: u64,
}

impl Cut {
    /// Nothing yet, of these messages, in ascending order.
    pub(crate) const fn new(places: Vec<Sequence>) -> Self {
        Self { places, tokens: 0 }
    }

    /// Whether anything was to be cut.
    pub(crate) const fn has_cut(&self) -> bool {
        self.tokens > 0
    }

    /// Cuts that many tokens more; `false` if there is nothing left to cut.
    pub(crate) fn cut_more(&mut self, tokens: u64, has_left: bool) -> bool {
        if !has_left {
            return false;
        }
        // Tokens at the end of a text differ from those of its parts.
        self.tokens = self.tokens.saturating_add(tokens).saturating_add(self.tokens / 64 + 1);
        true
    }
}

/// Cuts the longest texts first; `false` if nothing is left to cut.
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
    let mut left = cut.tokens;
    let marker = counter.count(MARKER) as u64;
    loop {
        let mut longest: Option<(usize, usize)> = None;
        for (index, turn) in turns.iter().enumerate().filter(|(_, turn)| is_newest(turn)) {
            for (number, length) in lengths(turn).into_iter().enumerate() {
                let is_longer = longest.is_none_or(|(at, number)| {
                    let other = turns.get(at).and_then(|turn| lengths(turn).get(number).copied());
                    other.is_none_or(|other| length > other)
                });
                if length > MARKER.len() * 2 && is_longer {
                    longest = Some((index, number));
                }
            }
        }
        let Some((index, number)) = longest else { return false };
        if left == 0 {
            return true;
        }
        let Some(turn) = turns.get_mut(index) else { return false };
        let mut removed = 0;
        with_text(turn, number, &mut |text| {
            let count = counter.count(text) as u64;
            let wanted = count.saturating_sub(left).max(marker);
            let short = shortened(text, count, wanted, counter);
            removed = count.saturating_sub(counter.count(&short) as u64);
            short
        });
        turn.touch();
        repairs.add(RepairKind::Truncated, turn.sequence);
        left = left.saturating_sub(removed.max(1));
    }
}

/// A beginning of the text with the marker, of about that many tokens at most.
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
        if is_planted(Fault::CutInCharacter) {
            let bytes = text.as_bytes().get(..length).unwrap_or_default();
            short = String::from_utf8_lossy(bytes).into_owned();
        }
        if !is_planted(Fault::CutWithoutMarker) {
            short.push_str(MARKER);
        }
        if end == 0 || counter.count(&short) as u64 <= wanted {
            return short;
        }
        length = end - (end / 8).max(1);
    }
}

/// The lengths of the texts of a turn, in order.
fn lengths(turn: &Turn<'_>) -> Vec<usize> {
    let mut lengths = Vec::new();
    for part in &turn.parts {
        match part {
            Part::Text(text) => lengths.push(text.text.len()),
            Part::Result(result) => lengths.extend(result.content.iter().map(|part| match part {
                // Nothing of the history.
                Part::Text(text) if is_synthetic(&text.text) => 0,
                Part::Text(text) => text.text.len(),
                Part::Data(json) => json.to_string().len(),
                _ => 0,
            })),
            _ => lengths.push(0),
        }
    }
    lengths
}

/// Replaces the text with this number.
fn with_text(turn: &mut Turn<'_>, number: usize, new: &mut dyn FnMut(&str) -> String) {
    let mut at = 0;
    for part in &mut turn.parts {
        match part {
            Part::Text(text) => {
                if at == number {
                    text.text = new(&text.text).into();
                    text.citations = None;
                }
                at += 1;
            }
            Part::Result(result) => {
                for part in &mut result.content {
                    if at == number {
                        result.native = None;
                        *part = match part {
                            Part::Text(text) => Part::text(new(&text.text)),
                            Part::Data(json) => Part::text(new(&json.to_string())),
                            _ => return,
                        };
                    }
                    at += 1;
                }
            }
            _ => at += 1,
        }
    }
}
