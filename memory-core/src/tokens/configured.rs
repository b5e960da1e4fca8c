//! A counter with the settings of a resource.

use std::sync::Arc;

use super::{MediaPrices, TokenCounter};

/// A counter whose counts are multiplied by a factor, and with custom prices of media.
///
/// The factor is for models without a public tokenizer: their counts are estimated from another vocabulary.
///
/// ```
/// use std::sync::Arc;
/// use memory_core::{EstimateCounter, TokenCounter};
/// use memory_core::tokens::ConfiguredCounter;
///
/// let counter = ConfiguredCounter::new(Arc::new(EstimateCounter)).with_factor(1.35);
/// assert_eq!(counter.name(), "estimate*1.35");
/// assert!(counter.count("Good morning, Sir!") > EstimateCounter.count("Good morning, Sir!"));
/// ```
#[derive(Debug, Clone)]
pub struct ConfiguredCounter {
    counter: Arc<dyn TokenCounter>,
    name: String,
    thousandths: u64,
    prices: MediaPrices,
}

impl ConfiguredCounter {
    /// A counter with the counts and prices of this one.
    #[must_use]
    pub fn new(counter: Arc<dyn TokenCounter>) -> Self {
        let (name, prices) = (counter.name().to_owned(), counter.media_prices());
        Self { counter, name, thousandths: 1_000, prices }
    }

    /// Multiplies counts of text by a factor, rounded to a thousandth and clamped to 0.001 to 1,000. Counts are
    /// rounded; a non-empty text has at least one token. The factor becomes part of the name, so that stored counts
    /// can be compared.
    #[must_use]
    pub fn with_factor(mut self, factor: f64) -> Self {
        // Clamped, so the cast loses only the fraction.
        let thousandths = (factor * 1_000.0).round().clamp(1.0, 1e6) as u64;
        // NaN becomes zero.
        self.thousandths = thousandths.max(1);
        let name = self.counter.name();
        self.name = match self.thousandths {
            1_000 => name.to_owned(),
            thousandths => format!("{name}*{}", thousandths as f64 / 1_000.0),
        };
        self
    }

    /// Sets these prices of media. The factor does not apply to them.
    #[must_use]
    pub fn with_media_prices(mut self, prices: MediaPrices) -> Self {
        self.prices = prices;
        self
    }
}

impl TokenCounter for ConfiguredCounter {
    fn name(&self) -> &str {
        &self.name
    }

    fn count(&self, text: &str) -> usize {
        let count = self.counter.count(text);
        let scaled = (count as u64).saturating_mul(self.thousandths).saturating_add(500) / 1_000;
        usize::try_from(scaled).unwrap_or(usize::MAX).max(usize::from(count > 0))
    }

    fn media_prices(&self) -> MediaPrices {
        self.prices
    }
}

#[cfg(test)]
mod tests {
    use super::super::EstimateCounter;
    use super::*;

    fn estimate() -> ConfiguredCounter {
        ConfiguredCounter::new(Arc::new(EstimateCounter))
    }

    #[test]
    fn factor_multiplies_and_names() {
        let text = "hello ".repeat(100);
        let plain = EstimateCounter.count(&text);
        for (factor, name, thousandths) in [
            (1.0, "estimate", 1_000),
            (1.35, "estimate*1.35", 1_350),
            (1.5, "estimate*1.5", 1_500),
            (0.0, "estimate*0.001", 1),
            (f64::NAN, "estimate*0.001", 1),
            (f64::INFINITY, "estimate*1000", 1_000_000),
        ] {
            let counter = estimate().with_factor(factor);
            let tokens = ((plain * thousandths + 500) / 1_000).max(1);
            assert_eq!((counter.name(), counter.count(&text)), (name, tokens));
            assert_eq!((counter.count(""), counter.count("a") > 0), (0, true));
        }
    }

    #[test]
    fn prices_of_media_are_replaced() {
        let prices = MediaPrices::for_model("gpt-4o");
        assert_eq!(estimate().media_prices(), MediaPrices::default());
        assert_eq!(estimate().with_media_prices(prices).media_prices(), prices);
    }
}
