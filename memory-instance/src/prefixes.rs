//! The prefixes of the newest windows of a manager's memories.

use std::sync::{Mutex, PoisonError};

use lru::LruCache;
use memory_core::MemoryKey;
use memory_core::plan::PrefixMark;

/// The number of agents, or of other kinds of windows, whose prefixes are kept of each memory.
const KEPT: usize = 4;

/// The bytes of all prefixes. Those of the memory that had its newest window longest ago are dropped first.
const MAX_BYTES: usize = 4 << 20;

/// The size of an entry beside its marks, about.
const ENTRY_BYTES: usize = 256;

/// The prefixes of the newest windows of each memory in this process, bounded in bytes.
#[derive(Debug)]
pub(crate) struct Prefixes(Mutex<Marks>);

#[derive(Debug)]
struct Marks {
    /// The newest of each memory first.
    of: LruCache<MemoryKey, Vec<PrefixMark>>,
    bytes: usize,
}

impl Default for Prefixes {
    fn default() -> Self {
        Self(Mutex::new(Marks { of: LruCache::unbounded(), bytes: 0 }))
    }
}

impl Prefixes {
    /// Keeps the prefix of a window of this many tokens. Returns the most tokens of it that an earlier window of the
    /// memory begins with.
    ///
    /// It takes the place of that window's if they share at least half, else it belongs to another agent or another
    /// kind of window.
    pub(crate) fn advance(&self, key: &MemoryKey, mark: PrefixMark, tokens: u64) -> u64 {
        let mut marks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut kept = marks.of.pop(key).unwrap_or_default();
        marks.bytes = marks.bytes.saturating_sub(bytes_of(&kept));
        let shared = kept.iter().map(|earlier| mark.unchanged_tokens(earlier)).enumerate();
        // The first of equal ones: the newest.
        let (at, unchanged) = shared.rev().max_by_key(|(_, shared)| *shared).unwrap_or_default();
        if unchanged >= tokens.div_ceil(2) && at < kept.len() {
            kept.remove(at);
        }
        kept.truncate(KEPT - 1);
        kept.insert(0, mark);
        marks.bytes += bytes_of(&kept);
        marks.of.put(key.clone(), kept);
        while marks.bytes > MAX_BYTES
            && let Some((_, dropped)) = marks.of.pop_lru()
        {
            marks.bytes = marks.bytes.saturating_sub(bytes_of(&dropped));
        }
        unchanged
    }
}

/// The bytes of a memory's entry; 0 if it has none.
fn bytes_of(marks: &[PrefixMark]) -> usize {
    match marks {
        [] => 0,
        marks => ENTRY_BYTES + marks.iter().map(PrefixMark::bytes).sum::<usize>(),
    }
}

#[cfg(test)]
mod tests {
    use memory_core::plan::{Policy, plan_context};
    use memory_core::store::MessageId;
    use memory_core::{Entry, EstimateCounter, Message, Sequence, WindowOptions};

    use super::*;

    #[test]
    fn bytes_of_all_prefixes_are_bounded() {
        let (policy, now) = (Policy::with_max_tokens(1 << 20), jiff::Timestamp::UNIX_EPOCH);
        let messages = (1..=300_u64).map(|number| {
            let id = MessageId::new(uuid::Uuid::from_u128(number.into()));
            let entry = Entry::new(Message::user(format!("message {number}")));
            policy.admit(entry, id, now, &EstimateCounter).stored_at(Sequence::new(number))
        });
        let messages: Vec<_> = messages.collect();
        let options = WindowOptions::new(1 << 20);
        let plan = plan_context(&messages, &policy, &options, &EstimateCounter, now).unwrap();
        let prefixes = Prefixes::default();
        let key = |number: u32| MemoryKey::new("p", "chat", &number.to_string()).unwrap();
        let advance = |number| prefixes.advance(&key(number), plan.prefix_mark(), plan.tokens);
        for number in 0..10_000 {
            assert_eq!(advance(number), 0);
            let marks = prefixes.0.lock().unwrap();
            assert!(marks.bytes <= MAX_BYTES, "{} bytes", marks.bytes);
        }
        assert_eq!((advance(9_999), advance(9_000), advance(0)), (plan.tokens, plan.tokens, 0));
        let marks = prefixes.0.lock().unwrap();
        assert_eq!(marks.of.iter().map(|(_, kept)| bytes_of(kept)).sum::<usize>(), marks.bytes);
        assert!(marks.of.len() > 1_000, "{} memories", marks.of.len());
    }
}
