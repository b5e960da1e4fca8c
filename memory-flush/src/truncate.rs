//! Cuts a text to a number of tokens, with a note.

use memory_core::TokenCounter;

/// The text, or as much of its beginning as fits with a note of how many tokens are left out.
///
/// The result never exceeds `max_tokens`, and the cut is between characters. If not even the note fits, the result is
/// empty.
///
/// ```
/// use memory_core::EstimateCounter;
/// use memory_flush::truncate_to_tokens;
///
/// let text = "All work and no play makes Jack a dull boy. ".repeat(10);
/// let cut = truncate_to_tokens(&text, 20, &EstimateCounter);
/// assert_eq!(cut, "All work and no play makes Jack a dull boy. All [... 102 tokens left out]");
/// ```
#[must_use]
pub fn truncate_to_tokens(text: &str, max_tokens: u64, counter: &dyn TokenCounter) -> String {
    Excerpt::of(text.into(), counter).cut(max_tokens, counter)
}

/// A text of which some tokens may already be left out, counted once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Excerpt {
    text: String,
    left_out: u64,
    /// The tokens of the text.
    total: u64,
    /// The tokens of the text with its note.
    size: u64,
}

const NOTE: (&str, &str) = ("[... ", " tokens left out]");

impl Excerpt {
    /// A whole text.
    pub(crate) fn of(text: String, counter: &dyn TokenCounter) -> Self {
        let total = counter.count(&text) as u64;
        Self { text, left_out: 0, total, size: total }
    }

    /// A text that may have been cut before; a further cut adds to its note.
    pub(crate) fn reread(text: &str, counter: &dyn TokenCounter) -> Self {
        let cut = text.strip_suffix(NOTE.1).and_then(|text| {
            let (text, count) = text.rsplit_once(NOTE.0)?;
            Some((text.trim_end(), count.parse().ok()?))
        });
        let size = counter.count(text) as u64;
        match cut {
            None => Self { text: text.into(), left_out: 0, total: size, size },
            Some((text, left_out)) => {
                Self { text: text.into(), left_out, total: counter.count(text) as u64, size }
            }
        }
    }

    /// Its tokens, with the note if there is one.
    pub(crate) const fn tokens(&self) -> u64 {
        self.size
    }

    /// As much of it as fits, with a note of the tokens left out.
    pub(crate) fn cut(&self, max_tokens: u64, counter: &dyn TokenCounter) -> String {
        if self.size <= max_tokens {
            return self.with_note(&self.text, self.left_out);
        }
        let fits = |text: &String| counter.count(text) as u64 <= max_tokens;
        let cut_at = |end: usize| {
            let end = self.text.floor_char_boundary(end);
            let text = self.text.get(..end).unwrap_or_default().trim_end();
            let left_out = self.total.saturating_sub(counter.count(text) as u64);
            Some(self.with_note(text, self.left_out.saturating_add(left_out.max(1)))).filter(fits)
        };
        let Some(mut best) = cut_at(0) else { return String::new() };
        // Exponential search first, so that the work depends on the limit and not on the length of the text.
        let length = self.text.len();
        let (mut fitting, mut step) = (0_usize, 64_usize);
        let mut too_long = loop {
            let end = fitting.saturating_add(step).min(length);
            match cut_at(end) {
                Some(cut) if end < length => (best, fitting, step) = (cut, end, step * 2),
                _ => break end,
            }
        };
        while too_long - fitting > 1 {
            let middle = fitting.midpoint(too_long);
            match cut_at(middle) {
                Some(cut) => (best, fitting) = (cut, middle),
                None => too_long = middle,
            }
        }
        best
    }

    fn with_note(&self, text: &str, left_out: u64) -> String {
        debug_assert!(text.len() <= self.text.len());
        match left_out {
            0 => text.into(),
            _ if text.is_empty() => format!("{}{left_out}{}", NOTE.0, NOTE.1),
            _ => format!("{text} {}{left_out}{}", NOTE.0, NOTE.1),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testcount::{Count, counter};

    proptest! {
        #[test]
        fn cut_text_is_within_its_limit(
            text in "(\\PC|[a-z ]){0,300}", limit in 0..120_u64, counter in counter(),
        ) {
            let cut = truncate_to_tokens(&text, limit, &*counter);
            prop_assert!(counter.count(&cut) as u64 <= limit);
            prop_assert_eq!(cut == text, counter.count(&text) as u64 <= limit || text.is_empty());
        }

        #[test]
        fn cut_text_is_a_prefix_with_count(
            text in "[a-z日本]{1,300}", limit in 0..120_u64,
        ) {
            let cut = truncate_to_tokens(&text, limit, &Count::Chars);
            if cut == text || cut.is_empty() {
                return Ok(());
            }
            let Excerpt { text: beginning, left_out, .. } = Excerpt::reread(&cut, &Count::Chars);
            prop_assert!(text.starts_with(&beginning));
            prop_assert_eq!(left_out as usize, text.chars().count() - beginning.chars().count());
            // Nothing more would have fitted, except if the note's count is one digit longer.
            prop_assert!(limit as usize - cut.chars().count() <= 2);
        }

        #[test]
        fn cutting_again_counts_on(text in "[a-z]{200,300}", first in 40..150_u64, second in 30..150_u64) {
            let once = truncate_to_tokens(&text, first, &Count::Chars);
            let twice = Excerpt::reread(&once, &Count::Chars).cut(second, &Count::Chars);
            let Excerpt { text: beginning, left_out, .. } = Excerpt::reread(&twice, &Count::Chars);
            prop_assert_eq!(beginning.len() as u64 + left_out, text.len() as u64);
            prop_assert_eq!(twice.matches("left out").count(), 1);
        }
    }

    #[test]
    fn note_alone_has_no_leading_space() {
        let cut = truncate_to_tokens(&"a".repeat(300), 25, &Count::Chars);
        assert_eq!(cut, "[... 300 tokens left out]");
    }

    #[test]
    fn trailing_white_space_is_cut() {
        let text = format!("a{}", " ".repeat(100));
        let cut = truncate_to_tokens(&text, 50, &Count::Chars);
        assert_eq!(cut, "a [... 100 tokens left out]");
    }

    #[test]
    fn work_depends_on_limit_not_length() {
        use std::sync::atomic::{AtomicUsize, Ordering};

        #[derive(Debug, Default)]
        struct Metered(AtomicUsize);
        impl TokenCounter for Metered {
            fn name(&self) -> &'static str {
                "metered"
            }
            fn count(&self, text: &str) -> usize {
                self.0.fetch_add(text.len(), Ordering::Relaxed);
                text.len()
            }
        }
        let text = "a".repeat(1_000_000);
        // The whole text once, and then prefixes with about the length of the limit.
        for (limit, most) in [(500, 1_050_000), (50_000, 4_000_000)] {
            let counter = Metered::default();
            assert_eq!(truncate_to_tokens(&text, limit, &counter).len() as u64, limit);
            let counted = counter.0.into_inner();
            assert!(counted < most, "{counted} bytes were counted");
        }
    }
}
