//! Preparation of a batch: redacted, classified, counted, and checked against the limits.

use std::sync::Arc;

use memory_core::Entry;
use memory_core::limits::{BatchSize, LimitError, LimitKind};
use memory_core::store::{Counters, NewMessage};

use crate::error::MemoryError;
use crate::inner::Inner;
use crate::kinds::Kinds;

impl Inner {
    /// The number of tokens by which the critical messages alone exceed the budget. No flush removes them.
    pub(crate) fn critical_over_budget(&self, counters: &Counters) -> Option<u64> {
        counters
            .critical_tokens()
            .checked_sub(self.rules.policy.max_tokens)
            .filter(|over| *over > 0)
    }

    /// Redacts, classifies and counts, outside of any lock.
    pub(crate) fn prepare_messages<E: Into<Entry>>(
        &self,
        entries: impl IntoIterator<Item = E>,
    ) -> Result<Arc<[NewMessage]>, MemoryError> {
        let rules = &self.rules;
        let now = self.backend.now();
        let millis = u64::try_from(now.as_millisecond()).unwrap_or_default();
        let mut size = BatchSize::new(rules.resource.limits);
        let messages: Arc<[NewMessage]> = entries
            .into_iter()
            .map(|entry| {
                let mut entry: Entry = entry.into();
                // Check the size first: the following steps take time and memory in proportion to it.
                size.add_entry(&entry).map_err(|reason| self.over_limit(reason))?;
                if let Some(redactor) = &rules.redactor {
                    entry.message = redactor.redact(entry.message);
                }
                let id = self.backend.ids.message(millis);
                Ok(rules.policy.admit(entry, id, now, &*rules.counter))
            })
            .collect::<Result<_, MemoryError>>()?;
        if messages.is_empty() {
            return Err(MemoryError::EmptyBatch { key: self.key.clone() });
        }
        let budget = rules.policy.max_tokens;
        for (index, message) in messages.iter().enumerate() {
            let answers = || !message.message.tool_link().results.is_empty();
            if u64::from(message.tokens) > budget && !answers() {
                let (key, tokens) = (self.key.clone(), message.tokens);
                return Err(MemoryError::TooLarge { key, index, tokens, budget });
            }
        }
        Ok(messages)
    }

    /// Checks the number of custom content types against those that this instance knows.
    pub(crate) fn check_kinds(&self, messages: &[NewMessage]) -> Result<(), LimitError> {
        self.kinds.check(messages, self.rules.resource.limits.content_types)
    }

    /// Checks the number of custom content types of a batch that replaces all messages.
    pub(crate) fn check_kinds_alone(&self, messages: &[NewMessage]) -> Result<(), MemoryError> {
        Kinds::check_alone(messages, self.rules.resource.limits.content_types)
            .map_err(|reason| self.over_limit(reason))
    }

    /// Checks the kinds against the store's counters: other writers may have removed messages since this
    /// instance read them.
    pub(crate) async fn check_kinds_again(
        &self,
        messages: &[NewMessage],
        refused: LimitError,
    ) -> Result<(), MemoryError> {
        if refused.kind == LimitKind::ContentTypes {
            self.kinds.learn(&self.store().head(&self.key).await?.counters);
        }
        self.check_kinds(messages).map_err(|reason| self.over_limit(reason))
    }

    pub(crate) fn over_limit(&self, reason: LimitError) -> MemoryError {
        MemoryError::Limit { key: self.key.clone(), reason }
    }
}
