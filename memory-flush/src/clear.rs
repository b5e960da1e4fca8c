//! Clears old tool results: replaces them by a short text, in their places.

use std::collections::HashSet;
use std::sync::OnceLock;

use memory_core::resource::ClearToolResults as ClearSettings;
use memory_core::store::{MessageId, MessageMeta, NewMessage, Replacement};
use memory_core::tokens::message_tokens;
use memory_core::{Sequence, StoredMessage, TokenCounter};

use crate::plan::FlushPlan;
use crate::strategy::{FlushInput, FlushStrategy, tally};

/// A message of at most this many tokens for each of its results is left as it is. Clearing it would free next to
/// nothing, and cleared messages need not be read again.
const SMALL_RESULT: u64 = 32;

/// Clears the old tool results, and removes nothing.
///
/// - The newest [`keep`](ClearSettings::keep) results stay, and so do those of critical messages, of open calls, and
///   those that were cleared before. All others are cleared at once, because clearing ends the provider's prompt cache
///   from the first cleared result on.
/// - Nothing is cleared if that would free fewer than [`min_tokens`](ClearSettings::min_tokens) tokens, or if the memory
///   is within the target.
/// - A memory that is still over the target stays so: the receipt says
///   [`Shortfall::Strategy`](memory_core::store::Shortfall::Strategy). As the first stage of
///   [`HybridSummary`](crate::HybridSummary), clearing is followed by a summary instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ClearToolResults;

impl FlushStrategy for ClearToolResults {
    fn name(&self) -> &'static str {
        "clear_tool_results"
    }

    fn plan(&self, input: &FlushInput<'_>) -> FlushPlan {
        let nothing = |input: &FlushInput<'_>| FlushPlan::new(input, Vec::new(), Vec::new());
        if input.target.is_met_by(input.before()) {
            return nothing(input);
        }
        let Some(clearing) = input.clearing() else { return nothing(input) };
        FlushPlan { clear: clearing.places, ..nothing(&input.after_clearing(&clearing.metas)) }
    }
}

/// The messages whose tool results a flush clears.
#[derive(Debug, Clone, PartialEq)]
pub struct Clearing {
    /// Their places, ascending.
    pub places: Vec<Sequence>,
    /// The metadata of all messages of the memory, with the tokens that they have after clearing.
    pub metas: Vec<MessageMeta>,
    /// The tokens that clearing frees.
    pub freed: u64,
}

/// The cleared form of a message, with this id; `None` if it has no tool result that can be cleared.
///
/// It has the same place, priority, content type, creation time and calls.
#[must_use]
pub fn clear_message(
    stored: &StoredMessage,
    id: MessageId,
    counter: &dyn TokenCounter,
) -> Option<Replacement> {
    let StoredMessage { meta, message, .. } = stored;
    let message = message.clear_tool_results(counter)?;
    let tokens = message_tokens(counter, &message);
    let message = NewMessage {
        id,
        tokens,
        message,
        priority: meta.priority,
        content_type: meta.content_type.clone(),
        created_at: meta.created_at,
    };
    (tokens < meta.tokens).then_some(Replacement { sequence: meta.sequence, message })
}

/// Whether a message has results and makes no calls.
pub(crate) fn answers_only(meta: &MessageMeta) -> bool {
    !meta.link.results.is_empty() && meta.link.calls.is_empty()
}

impl<'a> FlushInput<'a> {
    /// The places of the messages whose tool results may be cleared by the settings, in ascending order: fetch them, and
    /// pass their cleared forms to [`with_clearable`](Self::with_clearable). None if
    /// [`FlushSettings::clear_tool_results`](memory_core::resource::FlushSettings::clear_tool_results) is `None`.
    ///
    /// These stay as they are: the newest results, those of critical units and of open calls, and messages that are
    /// too small. None also if nothing is to be cleared whatever the texts are: the memory is within the target, or the
    /// candidates together have fewer than
    /// [`min_tokens`](memory_core::resource::ClearToolResults::min_tokens) tokens.
    #[must_use]
    pub fn clear_candidates(&self) -> Vec<Sequence> {
        let Some(ClearSettings { keep, min_tokens, .. }) = self.settings.clear_tool_results else {
            return Vec::new();
        };
        if self.target.is_met_by(self.before()) {
            return Vec::new();
        }
        let older = self.older_than_newest(keep);
        if older.is_empty() || tally(older.iter().copied()).tokens < min_tokens {
            return Vec::new();
        }
        let (units, classes) = self.units();
        let pinned = units.iter().zip(classes).filter(|(unit, class)| unit.is_pinned(class));
        let pinned: HashSet<_> =
            pinned.flat_map(|(unit, _)| units.members(unit)).map(|meta| meta.sequence).collect();
        let is_free = |meta: &&MessageMeta| !pinned.contains(&meta.sequence);
        let free: Vec<_> = older.into_iter().filter(is_free).collect();
        if tally(free.iter().copied()).tokens < min_tokens {
            return Vec::new();
        }
        free.into_iter().map(|meta| meta.sequence).collect()
    }

    /// The messages with results before the newest `keep` results, ascending. A message of several results is kept
    /// whole if one of them is.
    fn older_than_newest(&self, keep: u64) -> Vec<&'a MessageMeta> {
        let mut newer = 0_u64;
        let mut older = Vec::new();
        for meta in self.metas.iter().rev() {
            let results = u64::try_from(meta.link.results.len()).unwrap_or(u64::MAX);
            if results == 0 {
                continue;
            }
            let is_large = u64::from(meta.tokens) > SMALL_RESULT.saturating_mul(results);
            if newer >= keep && is_large && answers_only(meta) {
                older.push(meta);
            }
            newer = newer.saturating_add(results);
        }
        older.reverse();
        older
    }

    /// The cleared form of the message at a place, if it was passed to [`with_clearable`](Self::with_clearable).
    pub(crate) fn clearable_at(&self, place: Sequence) -> Option<&'a Replacement> {
        let at = self.clearable.binary_search_by_key(&place, |one| one.sequence).ok()?;
        self.clearable.get(at)
    }

    /// The tool results that the settings allow to clear, with the cleared forms that are known. `None` if there are
    /// none, or if clearing frees fewer tokens than
    /// [`min_tokens`](memory_core::resource::ClearToolResults::min_tokens).
    #[must_use]
    pub fn clearing(&self) -> Option<Clearing> {
        let settings = self.settings.clear_tool_results?;
        let candidates: HashSet<_> = self.clear_candidates().into_iter().collect();
        let mut clearing = Clearing { places: Vec::new(), metas: self.metas.to_vec(), freed: 0 };
        for meta in clearing.metas.iter_mut().filter(|meta| candidates.contains(&meta.sequence)) {
            let cleared = self.clearable_at(meta.sequence).map(|one| one.message.tokens);
            if let Some(tokens) = cleared.filter(|tokens| *tokens < meta.tokens) {
                clearing.freed =
                    clearing.freed.saturating_add(u64::from(meta.tokens.saturating_sub(tokens)));
                clearing.places.push(meta.sequence);
                meta.tokens = tokens;
            }
        }
        let is_worthwhile = !clearing.places.is_empty() && clearing.freed >= settings.min_tokens;
        is_worthwhile.then_some(clearing)
    }

    /// The same input after clearing, with the metadata of all messages then.
    pub(crate) fn after_clearing<'m>(&self, metas: &'m [MessageMeta]) -> FlushInput<'m>
    where
        'a: 'm,
    {
        let Self { policy, settings, target, now, .. } = *self;
        let (units, classes) = self.units();
        let (units, mut classes) = (units.with_tokens_of(metas), classes.to_vec());
        // Which conversation is recent depends on the tokens.
        units.reclassify(policy, &mut classes);
        let units = OnceLock::from((units, classes));
        FlushInput { metas, policy, settings, target, now, clearable: &[], units }
    }
}

#[cfg(test)]
mod tests;
