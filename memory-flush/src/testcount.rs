//! Token counters for property tests: exact, coarse and irregular ones.

use std::sync::Arc;

use memory_core::{EstimateCounter, TokenCounter};
use proptest::prelude::*;

/// A way to count tokens.
#[derive(Debug)]
pub(crate) enum Count {
    /// One for each character.
    Chars,
    /// One for each word.
    Words,
    /// One for two bytes, counted from the start: parts do not add up to the whole.
    Pairs,
    /// Two for every character and three more for every text: parts take more than the whole.
    Dear,
}

impl TokenCounter for Count {
    fn name(&self) -> &'static str {
        "test"
    }

    fn count(&self, text: &str) -> usize {
        match self {
            Self::Chars => text.chars().count(),
            Self::Words => text.split_whitespace().count(),
            Self::Pairs => text.len().div_ceil(2),
            Self::Dear if text.is_empty() => 0,
            Self::Dear => 2 * text.chars().count() + 3,
        }
    }
}

pub(crate) fn counter() -> impl Strategy<Value = Arc<dyn TokenCounter>> {
    prop_oneof![
        Just(Arc::new(EstimateCounter) as Arc<dyn TokenCounter>),
        Just(Arc::new(Count::Chars) as _),
        Just(Arc::new(Count::Words) as _),
        Just(Arc::new(Count::Pairs) as _),
        Just(Arc::new(Count::Dear) as _),
    ]
}
