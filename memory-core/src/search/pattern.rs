//! A query as words to look for, and the matches in a message.

use std::ops::Range;

use super::texts::visit_texts;
use super::words::{Word, WordKind, words};
use crate::message::Message;
use crate::store::StoreErrorKind;

/// The most characters of a query.
pub(super) const MAX_CHARACTERS: usize = 1_000;

/// The most words of a query, pairs of characters included.
const MAX_WORDS: usize = 128;

/// Words and phrases, each of which must occur in a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SearchPattern {
    clauses: Vec<SearchClause>,
}

/// A word, or words that follow each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SearchClause {
    /// At least one.
    pub terms: Vec<String>,
    /// The last term need only be the beginning of a word.
    pub is_prefix: bool,
}

/// How often each clause occurs in a message.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Occurrences {
    pub(super) clauses: Vec<u64>,
    /// The words of the message.
    pub(super) words: u64,
    /// The bytes of its texts.
    pub(super) bytes: u64,
}

/// The beginning of a phrase that was found.
#[derive(Debug, Clone, Copy)]
struct Begun {
    clause: usize,
    terms: usize,
    start: usize,
}

impl SearchPattern {
    /// Reads a query: words, and phrases in quotation marks.
    ///
    /// # Errors
    /// [`StoreErrorKind::Invalid`] for a query without words, or one that is too long.
    pub fn parse(text: &str) -> Result<Self, StoreErrorKind> {
        let invalid = |problem: String| Err(StoreErrorKind::Invalid(problem));
        if text.chars().count() > MAX_CHARACTERS {
            return invalid(format!("a search has at most {MAX_CHARACTERS} characters"));
        }
        let mut clauses = Vec::new();
        // An open quotation ends with the query.
        for (number, part) in text.split(['"', '“', '”', '„']).enumerate() {
            if number % 2 == 1 {
                clauses.extend(SearchClause::of(part));
            } else {
                clauses.extend(part.split_whitespace().filter_map(SearchClause::of));
            }
        }
        let words = clauses.iter().map(|clause| clause.terms.len()).sum::<usize>();
        if words == 0 {
            return invalid("a search needs at least one word: letters or digits".into());
        }
        if words > MAX_WORDS {
            return invalid(format!("a search has at most {MAX_WORDS} words"));
        }
        Ok(Self { clauses })
    }

    /// Its words and phrases.
    #[must_use]
    pub fn clauses(&self) -> &[SearchClause] {
        &self.clauses
    }

    /// The occurrences in a message; `None` if a clause does not occur.
    pub(super) fn look(&self, message: &Message) -> (Option<Occurrences>, u64) {
        let mut found = Occurrences { clauses: vec![0; self.clauses.len()], words: 0, bytes: 0 };
        let mut begun = Vec::new();
        visit_texts(message, &mut |text| {
            found.bytes = found.bytes.saturating_add(u64::try_from(text.len()).unwrap_or(u64::MAX));
            let Occurrences { clauses, words, .. } = &mut found;
            *words += self.find(text, &mut begun, &mut |clause, _| {
                if let Some(count) = clauses.get_mut(clause) {
                    *count += 1;
                }
            });
        });
        let bytes = found.bytes;
        let is_match = found.clauses.iter().all(|count| *count > 0);
        (is_match.then_some(found), bytes)
    }

    /// The occurrences in a text, by their clauses and bytes.
    pub(super) fn matches(&self, text: &str) -> Vec<(usize, Range<usize>)> {
        let mut matches = Vec::new();
        self.find(text, &mut Vec::new(), &mut |clause, range| matches.push((clause, range)));
        matches.sort_by_key(|(_, range)| (range.start, range.end));
        matches
    }

    /// Calls `found` for each occurrence; returns the number of words.
    fn find(
        &self,
        text: &str,
        begun: &mut Vec<Begun>,
        found: &mut dyn FnMut(usize, Range<usize>),
    ) -> u64 {
        let mut count = 0;
        begun.clear();
        words(text, &mut |word| {
            count += 1;
            begun.retain_mut(|one| {
                let Some(clause) = self.clauses.get(one.clause) else { return false };
                let Some(end) = clause.match_at(one.terms, &word) else { return false };
                one.terms += 1;
                if one.terms == clause.terms.len() {
                    found(one.clause, one.start..end);
                }
                one.terms < clause.terms.len()
            });
            for (index, clause) in self.clauses.iter().enumerate() {
                let Some(end) = clause.match_at(0, &word) else { continue };
                if clause.terms.len() == 1 {
                    found(index, word.range.start..end);
                } else {
                    begun.push(Begun { clause: index, terms: 1, start: word.range.start });
                }
            }
        });
        count
    }
}

impl SearchClause {
    /// The words of a part of a query that must follow each other.
    fn of(part: &str) -> Option<Self> {
        let mut terms = Vec::new();
        words(part, &mut |word| terms.push((word.term.to_owned(), word.kind)));
        let mut is_prefix = part.trim_end().ends_with('*');
        if let Some((_, WordKind::Tail)) = terms.last() {
            // More characters may follow in the text. The pair before it contains the last character.
            is_prefix = true;
            if let [.., (_, WordKind::Pair), _] = terms.as_slice() {
                terms.pop();
                is_prefix = false;
            }
        }
        let terms: Vec<_> = terms.into_iter().map(|(term, _)| term).collect();
        (!terms.is_empty()).then_some(Self { terms, is_prefix })
    }

    /// The end of the match if this word is the term at this index.
    fn match_at(&self, index: usize, word: &Word<'_>) -> Option<usize> {
        let term = self.terms.get(index)?;
        if term == word.term {
            return Some(word.range.end);
        }
        let is_last = index + 1 == self.terms.len();
        let begins = self.is_prefix && is_last && word.term.starts_with(term.as_str());
        begins.then_some(match word.kind {
            WordKind::Pair => word.first_end,
            WordKind::Plain | WordKind::Tail => word.range.end,
        })
    }
}

/// The words of a message, separated by spaces. An index must split them at ASCII characters other than letters and
/// digits, and compare the rest byte by byte. A message that matches a [`SearchPattern`] has its terms among them, those
/// of a phrase in a row.
#[must_use]
pub fn index_words(message: &Message) -> String {
    let mut all = String::new();
    visit_texts(message, &mut |text| {
        words(text, &mut |word| {
            all.push_str(if all.is_empty() { "" } else { " " });
            all.push_str(word.term);
        });
    });
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(query: &str) -> SearchPattern {
        SearchPattern::parse(query).unwrap()
    }

    fn is_in(query: &str, text: &str) -> bool {
        pattern(query).look(&Message::user(text)).0.is_some()
    }

    #[test]
    fn all_words_must_occur() {
        let text = "The ferry leaves at nine, the Ferry returns at ten.";
        for query in ["ferry", "FERRY nine", "ten nine", "leav*", "\"at nine\"", "\"leaves at nine"]
        {
            assert!(is_in(query, text), "{query}");
        }
        for query in ["ferries", "leav", "ferry eleven", "\"nine at\"", "\"at nine leaves\""] {
            assert!(!is_in(query, text), "{query}");
        }
    }

    #[test]
    fn phrases_overlap_themselves() {
        assert!(is_in("\"a a b\"", "a a a b"));
        assert_eq!(pattern("\"a a\"").matches("a a a").len(), 2);
    }

    #[test]
    fn operators_are_plain_words() {
        for query in
            ["a AND b", "NEAR(a b)", "a OR", "col:a", "-a", "^a", "(a", "a'b;--", "a \"\" b"]
        {
            let pattern = pattern(query);
            let terms = pattern.clauses().iter().flat_map(|clause| &clause.terms);
            assert!(terms.clone().all(|term| term.chars().all(char::is_alphanumeric)), "{query}");
        }
        assert!(is_in("NOT a", "a is not b"));
        assert!(is_in("get_weather", "call get_weather now"));
        assert!(!is_in("get_weather", "get the weather"));
    }

    #[test]
    fn unspaced_text_is_found_inside() {
        let text = "渡轮每天早上九点出发，GPT模型";
        for query in ["渡", "发", "九点", "每天早上", "GPT模型", "gpt模", "早上 渡轮"]
        {
            assert!(is_in(query, text), "{query}");
        }
        assert!(!is_in("天早点", text) && !is_in("船", text));
        assert_eq!(pattern("每").matches(text), [(0, 6..9)]);
        assert_eq!(pattern("早上").matches(text), [(0, 12..18)]);
    }

    #[test]
    fn every_word_of_every_language_is_found() {
        const LANGUAGES: &str = include_str!("../../tests/data/languages.jsonl");
        const MORE: &str = include_str!("../../tests/data/more_languages.jsonl");
        let mut lines = 0;
        for line in LANGUAGES.lines().chain(MORE.lines()) {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            let text = line["text"].as_str().unwrap();
            let message = Message::user(text);
            let mut found = 0;
            for word in text.split_whitespace() {
                let Ok(pattern) = SearchPattern::parse(word) else { continue };
                assert!(pattern.look(&message).0.is_some(), "{word}");
                found += 1;
            }
            assert!(found > 0, "{}", line["language"]);
            lines += 1;
        }
        assert!(lines >= 21);
    }

    #[test]
    fn queries_without_words_are_refused() {
        let long = "a".repeat(MAX_CHARACTERS + 1);
        let many = "a ".repeat(MAX_WORDS + 1);
        for query in ["", "  ", "\"\"", "* !", &long, &many] {
            let refused = SearchPattern::parse(query).unwrap_err();
            assert!(matches!(refused, StoreErrorKind::Invalid(_)), "{query}");
        }
    }

    proptest::proptest! {
        #[test]
        fn each_part_of_a_text_is_found(text in "[a-zA-Zäß0-9猫犬だ ก.,_-]{1,30}", from in 0..30_usize, length in 1..9_usize) {
            let message = Message::user(text.clone());
            let index = format!(" {} ", index_words(&message));
            // Whole words of spaced scripts, any part of others.
            let part: String = text.split(' ').nth(from % text.split(' ').count()).unwrap().to_owned();
            let unspaced: String = text.chars().filter(|letter| *letter > '\u{fff}').collect();
            let piece: String = text.chars().skip(from).take(length).take_while(|letter| *letter > '\u{fff}').collect();
            for query in [part, piece] {
                if let Ok(pattern) = SearchPattern::parse(&query) {
                    proptest::prop_assert!(pattern.look(&message).0.is_some(), "{query:?} in {text:?} {unspaced}");
                    for clause in pattern.clauses() {
                        let end = if clause.is_prefix { "" } else { " " };
                        let row = format!(" {}{end}", clause.terms.join(" "));
                        proptest::prop_assert!(index.contains(&row), "{row:?} in {index:?}");
                    }
                }
            }
        }
    }
}
