//! Exact byte-pair counts for OpenAI's vocabularies.

use std::fmt;

use tiktoken::CoreBpe;

use super::{EstimateCounter, TokenCounter};
use crate::resource::{ModelInfo, Tokenizer};

/// Counts tokens exactly as OpenAI's tokenizers do. Text that looks like a special token is text.
///
/// The vocabulary is loaded when the first text is counted and shared by the process: about 90 ms and 23 MiB for
/// `o200k_base`, 30 ms and 12 MiB for `cl100k_base`. [`load`](Self::load) does so earlier. Each thread that counts keeps a cache of
/// 1.2 MB. A message of 140 bytes takes 0.3 us when its words are in that cache.
///
/// A single text of more than [256 KiB](Self::ESTIMATE_ABOVE) is estimated, because merging takes more than linear
/// time on some texts: 15 MB of line breaks took 26 s. The rule is part of the counter, so a later recount
/// of the text gives the same number.
#[derive(Clone, Copy)]
pub struct TiktokenCounter {
    vocabulary: Vocabulary,
    estimate_above: usize,
}

/// A vocabulary of OpenAI.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Vocabulary {
    /// GPT-4o and its successors.
    O200kBase,
    /// GPT-4 and GPT-3.5.
    Cl100kBase,
}

impl Vocabulary {
    const fn name(self) -> &'static str {
        match self {
            Self::O200kBase => "o200k_base",
            Self::Cl100kBase => "cl100k_base",
        }
    }
}

impl TiktokenCounter {
    /// The longest text in bytes that is counted exactly by default: 256 KiB.
    pub const ESTIMATE_ABOVE: usize = 256 * 1024;

    /// A counter for this vocabulary, which is not loaded yet.
    #[must_use]
    pub const fn new(vocabulary: Vocabulary) -> Self {
        Self { vocabulary, estimate_above: Self::ESTIMATE_ABOVE }
    }

    /// Loads the vocabulary now unless the process has it, as a server may do before it takes requests. Blocks the thread
    /// for about 90 ms.
    pub fn load(&self) {
        let _ = self.encoding();
    }

    /// `None` only if the `tiktoken` crate was built without this vocabulary, which the features of this crate prevent.
    fn encoding(&self) -> Option<&'static CoreBpe> {
        tiktoken::get_encoding(self.vocabulary.name())
    }

    /// Sets the bound: a text of more bytes is counted by [`EstimateCounter`]. All processes must use the same bound
    /// for a memory, or their counts of such texts differ.
    #[must_use]
    pub const fn with_estimate_above(mut self, bytes: usize) -> Self {
        self.estimate_above = bytes;
        self
    }

    /// A counter for a model by its name, such as `gpt-4o-2024-08-06`.
    ///
    /// `None` for an unknown model ([`ModelInfo::of`]) or a model without a public tokenizer, such as Claude's: use
    /// [`EstimateCounter`](crate::EstimateCounter) for those.
    #[must_use]
    pub fn for_model(model: &str) -> Option<Self> {
        match ModelInfo::of(model)?.tokenizer {
            Tokenizer::O200kBase => Some(Self::new(Vocabulary::O200kBase)),
            Tokenizer::Cl100kBase => Some(Self::new(Vocabulary::Cl100kBase)),
            Tokenizer::Estimate => None,
        }
    }
}

impl TokenCounter for TiktokenCounter {
    fn name(&self) -> &str {
        self.vocabulary.name()
    }

    fn count(&self, text: &str) -> usize {
        let Some(encoding) = self.encoding().filter(|_| text.len() <= self.estimate_above) else {
            return EstimateCounter.count(text);
        };
        let mut tokens = 0;
        let mut rest = text;
        while let Some((head, tail)) = cut(rest) {
            tokens += encoding.count(head);
            rest = tail;
        }
        tokens + encoding.count(rest)
    }
}

impl fmt::Debug for TiktokenCounter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TiktokenCounter").field(&self.vocabulary).finish()
    }
}

/// Longer texts are counted in pieces of at least this many bytes.
const PIECE: usize = 1024;

/// Cuts a long text where its count is the sum of its parts' counts: before white space that is not a line break and
/// that follows another character, because both vocabularies begin a new pre-token there.
///
/// The crate scans all of the remaining text for each run of non-ASCII white space (4.1.2, in
/// `adjust_whitespace_end`), so that 120 kB of no-break spaces and digits take over a second in one piece, and 15 ms
/// in small pieces.
fn cut(text: &str) -> Option<(&str, &str)> {
    if text.len() <= PIECE {
        return None;
    }
    let from = text.floor_char_boundary(PIECE);
    let mut after_space = true;
    let at = text.get(from..)?.char_indices().find_map(|(at, character)| {
        let space = character.is_whitespace();
        let hit = space && !after_space && !matches!(character, '\n' | '\r');
        after_space = space;
        hit.then_some(from + at)
    })?;
    text.split_at_checked(at)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn counter(vocabulary: Vocabulary) -> TiktokenCounter {
        TiktokenCounter::new(vocabulary)
    }

    proptest! {
        #[test]
        fn counting_in_pieces_is_counting_the_whole(
            words in prop::collection::vec("[a-zA-Z0-9\u{a0}\u{3000}\u{4e2d} \t\r\n.,'é]{0,12}", 300..600),
        ) {
            let text = words.concat();
            for vocabulary in [Vocabulary::O200kBase, Vocabulary::Cl100kBase] {
                let counter = counter(vocabulary);
                prop_assert_eq!(counter.count(&text), counter.encoding().unwrap().count(&text));
            }
        }
    }

    #[test]
    fn counts_agree_with_the_reference_tokenizer() {
        // From Python tiktoken 0.14.0, `len(encode_ordinary(text))`, o200k_base then cl100k_base.
        for (text, o200k, cl100k) in [
            ("", 0, 0),
            ("hello world", 2, 2),
            ("<|endoftext|>", 7, 7),
            ("Grüße aus Köln, 東京 と 서울!", 10, 16),
            ("  indented\n\n\tcode() { return 0x1F; }", 15, 15),
            ("👩\u{200d}👩\u{200d}👧\u{200d}👦 family \u{a0}\u{3000} x", 15, 22),
            (r#"{"user_id":"mia_li_3668","flights":["HAT069",12345678]}"#, 21, 21),
        ] {
            assert_eq!(counter(Vocabulary::O200kBase).count(text), o200k, "{text}");
            assert_eq!(counter(Vocabulary::Cl100kBase).count(text), cl100k, "{text}");
        }
    }

    #[test]
    fn quadratic_text_is_counted_in_linear_time() {
        // 1 MB; whole, this takes minutes.
        let text = "\u{a0}1".repeat(350_000);
        let counter = counter(Vocabulary::O200kBase).with_estimate_above(usize::MAX);
        assert!(counter.count(&text) > 350_000);
    }

    #[test]
    fn text_above_the_bound_is_estimated() {
        let counter = counter(Vocabulary::O200kBase);
        // The time of an exact count of 15 MB of this text is half a minute, with optimizations.
        let text = "\n".repeat(TiktokenCounter::ESTIMATE_ABOVE + 1);
        assert_eq!(counter.count(&text), EstimateCounter.count(&text));
        let text = "zyxwvut ".repeat(20);
        let at = |bytes| counter.with_estimate_above(bytes).count(&text);
        assert_eq!(at(text.len()), counter.encoding().unwrap().count(&text));
        assert_eq!(at(text.len() - 1), EstimateCounter.count(&text));
        assert_ne!(at(text.len()), at(text.len() - 1));
    }

    #[test]
    fn bound_is_a_quarter_of_a_mebibyte() {
        let counter = counter(Vocabulary::Cl100kBase);
        let text = "zyxwvut ".repeat(256 * 128);
        assert_eq!(text.len(), TiktokenCounter::ESTIMATE_ABOVE);
        let exact = counter.with_estimate_above(usize::MAX).count(&text);
        assert_eq!(counter.count(&text), exact);
        assert_ne!(counter.count(&[&text, "."].concat()).abs_diff(exact), 1);
    }

    #[test]
    fn counter_is_found_by_model_name() {
        let name = |model| TiktokenCounter::for_model(model).map(|it| it.name().to_owned());
        assert_eq!(name("gpt-4o-2024-08-06").as_deref(), Some("o200k_base"));
        assert_eq!(name("gpt-4").as_deref(), Some("cl100k_base"));
        assert_eq!((name("claude-sonnet-4"), name("llama-9")), (None, None));
    }

    #[test]
    fn counter_is_named_after_vocabulary() {
        for (vocabulary, name, shown) in [
            (Vocabulary::O200kBase, "o200k_base", "TiktokenCounter(O200kBase)"),
            (Vocabulary::Cl100kBase, "cl100k_base", "TiktokenCounter(Cl100kBase)"),
        ] {
            let counter = counter(vocabulary);
            assert_eq!((counter.name(), &*format!("{counter:?}")), (name, shown));
        }
    }

    #[test]
    fn cut_is_before_first_space_after_piece() {
        let at = |text: &str| cut(text).map(|(head, _)| head.len());
        let text = |rest: &str| format!("{}{rest}", "a".repeat(PIECE));
        assert_eq!(at(&text("")), None, "not longer than a piece");
        assert_eq!(at(&text("b c")), Some(PIECE + 1));
        // The character before the cut is unknown there, so the first character after it is skipped.
        assert_eq!(at(&text(" b c")), Some(PIECE + 2));
        assert_eq!(at(&text("b\nc\r d")), None, "not at a line break, nor behind one");
        assert_eq!(at(&text("b\n c d")), Some(PIECE + 4), "not behind white space");
        assert_eq!(at(&text("b\u{a0}c")), Some(PIECE + 1));
        assert_eq!(at(&text("bcd")), None);
    }
}
