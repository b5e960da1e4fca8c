//! The counter of a memory.

use memory_instance::memory_core::TokenCounter;
use memory_instance::memory_core::tokens::MediaPrices;
use memory_instance::{MemoryInstance, Message};

/// Counts texts as the memory counts them.
#[derive(Debug)]
pub(crate) struct MemoryCounter {
    memory: MemoryInstance,
    prices: MediaPrices,
    /// The tokens of a message without text.
    framing: u64,
}

impl MemoryCounter {
    pub(crate) fn new(memory: &MemoryInstance) -> Self {
        Self {
            memory: memory.clone(),
            prices: memory.resource().media_prices(),
            framing: memory.count(&Message::user("")),
        }
    }
}

impl TokenCounter for MemoryCounter {
    fn name(&self) -> &str {
        "memory"
    }

    fn count(&self, text: &str) -> usize {
        let tokens = self.memory.count(&Message::user(text)).saturating_sub(self.framing);
        usize::try_from(tokens).unwrap_or(usize::MAX)
    }

    fn media_prices(&self) -> MediaPrices {
        self.prices
    }
}
