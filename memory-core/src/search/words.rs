//! The words of a text, in the form in which a search compares them.
//!
//! The same function splits queries, texts that are scanned and texts that are put into an index, so they agree.

use std::ops::Range;

use unicode_normalization::UnicodeNormalization as _;
use unicode_normalization::char::is_combining_mark;

/// The most characters of a word. A longer one, such as base64, is several words in a row.
const LONGEST: usize = 64;

/// A word of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Word<'a> {
    /// Lower case, in a compatible form (NFKC), and without accents.
    pub(super) term: &'a str,
    /// Its bytes in the text.
    pub(super) range: Range<usize>,
    /// The end of its first character in the text.
    pub(super) first_end: usize,
    pub(super) kind: WordKind,
}

/// The kind of a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WordKind {
    /// Letters and digits of a script that puts spaces between words.
    Plain,
    /// Two neighboring characters of a script without spaces.
    Pair,
    /// The last character of a run of such characters.
    Tail,
}

/// Calls `visit` with each word, in order.
///
/// Scripts without spaces between words, and Korean, whose particles are attached to words, have a word for each pair
/// of neighboring characters. A dictionary would find the words of some languages more exactly, but a pair never
/// misses one.
pub(super) fn words(text: &str, visit: &mut dyn FnMut(Word<'_>)) {
    let mut term = String::new();
    let mut run: Vec<(char, Range<usize>)> = Vec::new();
    let mut chars = text.char_indices().peekable();
    while let Some((start, first)) = chars.next() {
        if !is_of_word(first) {
            continue;
        }
        let mut end = start + first.len_utf8();
        if !is_unspaced(first) {
            while let Some((_, next)) =
                chars.next_if(|(_, next)| continues(*next) && !is_unspaced(*next))
            {
                end += next.len_utf8();
            }
            let slice = text.get(start..end).unwrap_or_default();
            term.clear();
            if slice.is_ascii() {
                term.extend(slice.chars().map(|letter| letter.to_ascii_lowercase()));
            } else {
                term.extend(folded(slice));
            }
            visit_plain(&term, start..end, visit);
            continue;
        }
        // A run of characters, each with the marks that follow it.
        run.clear();
        let mut from = start;
        loop {
            while let Some((_, mark)) = chars.next_if(|(_, next)| is_attached(*next)) {
                end += mark.len_utf8();
            }
            let character = text.get(from..end).unwrap_or_default();
            run.extend(folded(character).map(|folded| (folded, from..end)));
            let Some((at, next)) =
                chars.next_if(|(_, next)| is_of_word(*next) && is_unspaced(*next))
            else {
                break;
            };
            (from, end) = (at, at + next.len_utf8());
        }
        let seconds = run.iter().skip(1).map(Some).chain([None]);
        for ((letter, range), second) in run.iter().zip(seconds) {
            term.clear();
            term.push(*letter);
            term.extend(second.map(|(letter, _)| letter));
            let end = second.map_or(range.end, |(_, second)| second.end);
            let kind = if second.is_some() { WordKind::Pair } else { WordKind::Tail };
            visit(Word { term: &term, range: range.start..end, first_end: range.end, kind });
        }
    }
}

/// A word of more than [`LONGEST`] characters becomes several.
fn visit_plain(term: &str, range: Range<usize>, visit: &mut dyn FnMut(Word<'_>)) {
    let mut rest = term;
    while !rest.is_empty() {
        let cut = rest.char_indices().nth(LONGEST).map_or(rest.len(), |(at, _)| at);
        let (term, later) = rest.split_at(cut);
        let (range, first_end) = (range.clone(), range.end);
        visit(Word { term, range, first_end, kind: WordKind::Plain });
        rest = later;
    }
}

/// The characters that are compared.
fn folded(text: &str) -> impl Iterator<Item = char> {
    let plain = text.nfkd().filter(|letter| !is_accent(*letter));
    plain.flat_map(char::to_lowercase).flat_map(variants).nfc().filter(|folded| is_of_word(*folded))
}

/// Letters whose lower case has several forms.
fn variants(letter: char) -> impl Iterator<Item = char> {
    let (first, second) = match letter {
        'ß' => ('s', Some('s')),
        'ς' => ('σ', None),
        other => (other, None),
    };
    std::iter::once(first).chain(second)
}

fn is_of_word(letter: char) -> bool {
    if letter.is_ascii() {
        return letter.is_ascii_alphanumeric();
    }
    letter.is_alphanumeric() || is_combining_mark(letter)
}

/// Whether a word that has begun continues: also over joiners and soft hyphens, which are not shown.
fn continues(letter: char) -> bool {
    is_of_word(letter) || matches!(letter, '\u{ad}' | '\u{200c}' | '\u{200d}' | '\u{2060}')
}

/// Marks over, under and after a character, which have no place apart from it.
fn is_attached(letter: char) -> bool {
    matches!(letter, '\u{1160}'..='\u{11ff}' | '\u{ff9e}' | '\u{ff9f}') || is_combining_mark(letter)
}

/// Accents of Latin, Greek and Cyrillic letters, and the points of Hebrew and Arabic, which are often left out. The
/// marks of other scripts are vowels or change a letter.
const fn is_accent(letter: char) -> bool {
    matches!(letter,
        '\u{300}'..='\u{36f}'
        | '\u{591}'..='\u{5bd}' | '\u{5bf}' | '\u{5c1}'..='\u{5c2}' | '\u{5c4}'..='\u{5c5}' | '\u{5c7}'
        | '\u{610}'..='\u{61a}' | '\u{640}' | '\u{64b}'..='\u{65f}' | '\u{670}')
}

/// Chinese, Japanese, Korean, Thai, Lao, Burmese, Khmer, and other scripts without spaces between words.
const fn is_unspaced(letter: char) -> bool {
    matches!(letter,
        '\u{e00}'..='\u{eff}'
        | '\u{1000}'..='\u{109f}' | '\u{1100}'..='\u{11ff}' | '\u{1780}'..='\u{17ff}'
        | '\u{1950}'..='\u{19ff}' | '\u{1a20}'..='\u{1aaf}' | '\u{1b00}'..='\u{1b7f}'
        | '\u{2e80}'..='\u{2fdf}' | '\u{3005}'..='\u{3007}' | '\u{3021}'..='\u{3035}'
        | '\u{3040}'..='\u{31bf}' | '\u{31f0}'..='\u{31ff}' | '\u{3400}'..='\u{4dbf}'
        | '\u{4e00}'..='\u{9fff}' | '\u{a000}'..='\u{a4cf}' | '\u{a960}'..='\u{a97f}'
        | '\u{a980}'..='\u{a9ff}' | '\u{aa60}'..='\u{aadf}' | '\u{ac00}'..='\u{d7ff}'
        | '\u{f900}'..='\u{faff}' | '\u{ff66}'..='\u{ffdc}' | '\u{1b000}'..='\u{1b16f}'
        | '\u{20000}'..='\u{3ffff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(text: &str) -> Vec<String> {
        let mut terms = Vec::new();
        words(text, &mut |word| {
            assert!(
                text.is_char_boundary(word.range.start) && text.is_char_boundary(word.range.end)
            );
            assert!(word.range.start < word.first_end && word.first_end <= word.range.end);
            terms.push(word.term.to_owned());
        });
        terms
    }

    #[test]
    fn spaced_scripts_have_whole_words() {
        assert_eq!(terms("The ferry, at 9:30!"), ["the", "ferry", "at", "9", "30"]);
        assert_eq!(terms("get_weather{\"city\":\"Oslo\"}"), ["get", "weather", "city", "oslo"]);
        assert_eq!(terms("नमस्ते दुनिया"), ["नमस्ते", "दुनिया"], "marks do not end words");
        assert_eq!(terms("می\u{200c}خواهم"), ["میخواهم"]);
    }

    #[test]
    fn forms_of_a_word_are_equal() {
        let same = [
            ("Café", "cafe\u{301}"),
            ("STRASSE", "straße"),
            ("ΣΊΣΥΦΟΣ", "σίσυφος"),
            ("İSTANBUL", "istanbul"),
            ("ＡＢＣ１", "abc1"),
            ("ﬁle", "file"),
            ("Ёлка", "елка"),
            ("كِتَاب", "كتاب"),
            ("ﾊﾟｰﾄ", "パート"),
            ("한국어", "\u{1112}\u{1161}\u{11ab}\u{1100}\u{116e}\u{11a8}\u{110b}\u{1165}"),
        ];
        for (one, other) in same {
            assert_eq!(terms(one), terms(other), "{one} {other}");
        }
        assert_ne!(terms("か"), terms("が"));
    }

    #[test]
    fn unspaced_scripts_have_pairs() {
        assert_eq!(terms("大模型"), ["大模", "模型", "型"]);
        assert_eq!(terms("GPT模型v2"), ["gpt", "模型", "型", "v2"]);
        assert_eq!(terms("猫。犬"), ["猫", "犬"]);
        assert_eq!(terms("학교에"), ["학교", "교에", "에"]);
    }

    #[test]
    fn long_words_are_cut() {
        let long = "a".repeat(150);
        assert_eq!(terms(&long).iter().map(String::len).collect::<Vec<_>>(), [64, 64, 22]);
        assert_eq!(terms("⑴ ½ … \u{fdfa}").iter().filter(|term| term.contains(' ')).count(), 0);
    }

    proptest::proptest! {
        #[test]
        fn any_text_has_sound_words(text in ".{0,40}") {
            for term in terms(&text) {
                proptest::prop_assert!(term.chars().all(is_of_word), "{term:?}");
                // Nothing that an index would split again.
                proptest::prop_assert_eq!(term.is_empty(), false);
            }
        }
    }
}
