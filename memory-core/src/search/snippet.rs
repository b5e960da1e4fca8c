//! The part of a message that shows why it was found.

use std::fmt;
use std::ops::Range;

use serde::Serialize;

use super::pattern::SearchPattern;
use super::texts::visit_texts;
use crate::message::Message;

/// The most characters of a snippet, apart from the marks of left out text.
const LENGTH: usize = 160;

/// The characters before the first match.
const BEFORE: usize = 40;

/// A part of a text, at most about 160 characters, in one line.
#[derive(Clone, PartialEq, Eq, Default, Serialize)]
#[non_exhaustive]
pub struct Snippet {
    /// The text, with `…` where something was left out.
    pub text: String,
    /// The bytes of the matches in it, in order.
    pub matches: Vec<Range<usize>>,
}

impl fmt::Debug for Snippet {
    /// Without the text, which is that of a message.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snippet").field("matches", &self.matches).finish_non_exhaustive()
    }
}

impl Snippet {
    /// The part of a message in which most of the words and phrases occur.
    pub(super) fn of(pattern: &SearchPattern, message: &Message) -> Self {
        let (mut best, mut most) = (Self::default(), 0);
        visit_texts(message, &mut |text| {
            let matches = pattern.matches(text);
            let Some((start, clauses)) = densest(&matches) else { return };
            if clauses > most {
                (best, most) = (Self::around(text, start, &matches), clauses);
            }
        });
        best
    }

    fn around(text: &str, start: usize, matches: &[(usize, Range<usize>)]) -> Self {
        let before = text.get(..start).unwrap_or_default();
        let mut from = before.char_indices().rev().take(BEFORE).last().map_or(start, |(at, _)| at);
        if from > 0
            && let Some(space) =
                text.get(from..start).and_then(|part| part.find(char::is_whitespace))
        {
            from += space;
        }
        let rest = text.get(from..).unwrap_or_default();
        let shown = rest.trim_start();
        from += rest.len() - shown.len();
        let length = shown.char_indices().nth(LENGTH).map_or(shown.len(), |(at, _)| at);
        let shown = shown.get(..length).unwrap_or_default().trim_end();
        let end = from + shown.len();
        let mut snippet = Self::default();
        if !text.get(..from).unwrap_or_default().trim().is_empty() {
            snippet.text.push('…');
        }
        let shift = snippet.text.len();
        for letter in shown.chars() {
            // Line breaks and tabs have one byte, as a space has. Other control characters cannot be shown.
            match letter {
                letter if letter.is_ascii_control() => snippet.text.push(' '),
                letter => snippet.text.push(letter),
            }
        }
        if !text.get(end..).unwrap_or_default().trim().is_empty() {
            snippet.text.push('…');
        }
        for (_, Range { start, end: to }) in matches {
            if *start >= from && *to <= end {
                let range = start - from + shift..to - from + shift;
                match snippet.matches.last_mut() {
                    Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
                    _ => snippet.matches.push(range),
                }
            }
        }
        snippet
    }
}

/// The start of the match after which most clauses occur within a snippet, and their number.
fn densest(matches: &[(usize, Range<usize>)]) -> Option<(usize, usize)> {
    let mut best: Option<(usize, usize)> = None;
    for (index, (_, first)) in matches.iter().enumerate() {
        let near = matches.iter().skip(index).take(LENGTH);
        let near = near.take_while(|(_, range)| range.end <= first.start + LENGTH - BEFORE);
        let mut clauses: Vec<_> = near.map(|(clause, _)| *clause).collect();
        clauses.sort_unstable();
        clauses.dedup();
        let clauses = clauses.len().max(1);
        if best.is_none_or(|(_, most)| clauses > most) {
            best = Some((first.start, clauses));
        }
        if index == LENGTH {
            break;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snippet(query: &str, text: &str) -> Snippet {
        Snippet::of(&SearchPattern::parse(query).unwrap(), &Message::user(text))
    }

    fn shown(snippet: &Snippet) -> Vec<&str> {
        snippet.matches.iter().map(|range| &snippet.text[range.clone()]).collect()
    }

    #[test]
    fn short_text_is_shown_as_a_whole() {
        let found = snippet("ferry", "The ferry\nleaves. Ferry!");
        assert_eq!(found.text, "The ferry leaves. Ferry!");
        assert_eq!(shown(&found), ["ferry", "Ferry"]);
    }

    #[test]
    fn long_text_is_cut_around_the_words() {
        let text = format!("{}the red ferry {}", "word ".repeat(100), "after ".repeat(100));
        let found = snippet("ferry red", &text);
        assert!(found.text.starts_with('…') && found.text.ends_with('…'), "{}", found.text);
        assert!(found.text.chars().count() <= LENGTH + 2);
        assert_eq!(shown(&found), ["red", "ferry"]);
        let dense = snippet("ferry red", &format!("ferry {text}"));
        assert_eq!(shown(&dense), ["red", "ferry"], "where most words are");
    }

    #[test]
    fn unspaced_text_is_cut_at_characters() {
        let text = format!("{}渡轮{}", "早".repeat(300), "上".repeat(300));
        let found = snippet("渡轮", &text);
        assert_eq!(shown(&found), ["渡轮"]);
        assert_eq!(found.text.chars().count(), LENGTH + 2);
        assert!(!format!("{found:?}").contains('渡'));
    }

    proptest::proptest! {
        #[test]
        fn matches_are_within_the_text(text in "\\PC{0,300}", query in "[a-c ä猫]{1,3}") {
            if let Ok(pattern) = SearchPattern::parse(&query) {
                let found = Snippet::of(&pattern, &Message::user(text));
                for range in &found.matches {
                    proptest::prop_assert!(found.text.get(range.clone()).is_some_and(|part| !part.is_empty()));
                }
            }
        }
    }
}
