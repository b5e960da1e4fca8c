//! Preparation of a batch: filtered, redacted, classified, counted, and checked against the limits.

use std::borrow::Cow;
use std::sync::Arc;

use memory_core::limits::{BatchSize, LimitError, LimitKind};
use memory_core::resource::{Redactions, Redactor};
use memory_core::store::{Counters, NewMessage};
use memory_core::{ContentType, Entry};

use crate::error::MemoryError;
use crate::exclusions::{Batch, Exclusions, Remains};
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

    /// Leaves out what must not be stored, redacts, classifies and counts, outside of any lock.
    pub(crate) fn prepare_messages<E: Into<Entry>>(
        &self,
        entries: impl IntoIterator<Item = E>,
    ) -> Result<Batch, MemoryError> {
        let rules = &self.rules;
        let now = self.backend.now();
        let millis = u64::try_from(now.as_millisecond()).unwrap_or_default();
        let mut size = BatchSize::new(rules.resource.limits);
        let mut exclusions = Exclusions::default();
        let (mut redacted, mut redactions) = (0, Redactions::default());
        let messages: Arc<[NewMessage]> = entries
            .into_iter()
            .enumerate()
            .filter_map(|(index, entry)| {
                let entry: Entry = entry.into();
                // Check the size first: the following steps take time and memory in proportion to it.
                if let Err(reason) = size.add_entry(&entry) {
                    return Some(Err(self.over_limit(reason)));
                }
                let mut entry = self.persistable(index, entry, &mut exclusions)?;
                if let Some(redactor) = &rules.redactor {
                    let before = redactions.replaced();
                    entry = redacted_entry(redactor, entry, &mut redactions);
                    redacted += u64::from(redactions.replaced() > before);
                }
                let id = self.backend.ids.message(millis);
                Some(Ok(rules.policy.admit(entry, id, now, &*rules.counter)))
            })
            .collect::<Result<_, MemoryError>>()?;
        if messages.is_empty() && exclusions.is_empty() {
            return Err(MemoryError::EmptyBatch { key: self.key.clone() });
        }
        let budget = rules.policy.max_tokens;
        for (index, message) in messages.iter().enumerate() {
            let answers = || !message.message.tool_link().results.is_empty();
            if u64::from(message.tokens) > budget && !answers() {
                let (key, tokens) = (self.key.clone(), message.tokens);
                let index = exclusions.index_in_batch(index);
                return Err(MemoryError::TooLarge { key, index, tokens, budget });
            }
        }
        self.record_exclusions(exclusions.reasons());
        self.record_redactions(redacted, &redactions);
        Ok(Batch { messages, exclusions })
    }

    /// A content type that replaces the one of a stored message, without secrets.
    pub(crate) fn persistable_type(&self, content_type: ContentType) -> ContentType {
        let mut redactions = Redactions::default();
        let content_type = match &self.rules.redactor {
            Some(redactor) => redacted_type(redactor, content_type, &mut redactions),
            None => content_type,
        };
        self.record_redactions(1, &redactions);
        content_type
    }

    /// A text of the caller that is stored beside the messages, without secrets. Replacements make it no longer than this
    /// many bytes.
    pub(crate) fn persistable_text<'t>(&self, text: &'t str, most: usize) -> Cow<'t, str> {
        let Some(redactor) = &self.rules.redactor else { return text.into() };
        let mut redactions = Redactions::default();
        let redacted = redactor.redact_string_counting(text.into(), &mut redactions);
        if redactions.is_empty() {
            return text.into();
        }
        self.record_redactions(0, &redactions);
        cut(redacted, most.max(text.len())).into()
    }

    /// The entry as it may be stored: unchanged, or a stub that links a call and its results. `None` if nothing of it
    /// may be.
    fn persistable(
        &self,
        index: usize,
        entry: Entry,
        exclusions: &mut Exclusions,
    ) -> Option<Entry> {
        let policy = &self.rules.resource.privacy_policy;
        let Some(reason) = policy.exclusion(&entry) else { return Some(entry) };
        let stub = entry.message.withheld(&policy.replacement);
        let remains = if stub.is_some() { Remains::Stub } else { Remains::Nothing };
        exclusions.add(index, reason, remains);
        // The content type is a text of the caller too.
        Some(Entry { priority: entry.priority, ..Entry::new(stub?) })
    }

    /// The only message of a batch of one.
    ///
    /// # Errors
    /// [`MemoryError::Excluded`] if nothing of it may be stored.
    pub(crate) fn prepare_one(
        &self,
        operation: &'static str,
        entry: Entry,
    ) -> Result<(NewMessage, Exclusions), MemoryError> {
        let Batch { messages, exclusions } = self.prepare_messages([entry])?;
        let message = messages.first().cloned().ok_or_else(|| self.all_excluded(operation))?;
        Ok((message, exclusions))
    }

    /// Whether the privacy policy keeps messages of this type out of the store.
    pub(crate) fn excludes_type(&self, content_type: &ContentType) -> bool {
        self.rules.resource.privacy_policy.excludes_type(content_type)
    }

    /// The error of an operation that cannot store a message that is excluded.
    pub(crate) fn all_excluded(&self, operation: &'static str) -> MemoryError {
        MemoryError::Excluded { operation, key: self.key.clone() }
    }

    /// Checks the number of custom content types against those that this instance knows.
    pub(crate) fn check_kinds(
        &self,
        messages: &[NewMessage],
        exclusions: &Exclusions,
    ) -> Result<(), LimitError> {
        let most = self.rules.resource.limits.content_types;
        self.kinds.check(messages, most).map_err(|reason| exclusions.in_batch(reason))
    }

    /// Checks the number of custom content types of a batch that replaces all messages.
    pub(crate) fn check_kinds_alone(
        &self,
        messages: &[NewMessage],
        exclusions: &Exclusions,
    ) -> Result<(), MemoryError> {
        Kinds::check_alone(messages, self.rules.resource.limits.content_types)
            .map_err(|reason| self.over_limit(exclusions.in_batch(reason)))
    }

    /// Checks the kinds against the store's counters: other writers may have removed messages since this
    /// instance read them.
    pub(crate) async fn check_kinds_again(
        &self,
        messages: &[NewMessage],
        exclusions: &Exclusions,
        refused: LimitError,
    ) -> Result<(), MemoryError> {
        if refused.kind == LimitKind::ContentTypes {
            self.kinds.learn(&self.store().head(&self.key).await?.counters);
        }
        self.check_kinds(messages, exclusions).map_err(|reason| self.over_limit(reason))
    }

    pub(crate) fn over_limit(&self, reason: LimitError) -> MemoryError {
        MemoryError::Limit { key: self.key.clone(), reason }
    }
}

fn redacted_entry(redactor: &Redactor, entry: Entry, redactions: &mut Redactions) -> Entry {
    let message = redactor.redact_counting(entry.message, redactions);
    let content_type = entry.content_type.map(|it| redacted_type(redactor, it, redactions));
    Entry { message, content_type, ..entry }
}

/// The name of a custom type is a text of the caller.
fn redacted_type(
    redactor: &Redactor,
    content_type: ContentType,
    redactions: &mut Redactions,
) -> ContentType {
    if !matches!(content_type, ContentType::Custom(_)) {
        return content_type;
    }
    let mut found = Redactions::default();
    let redacted = redactor.redact_string_counting(content_type.as_str().into(), &mut found);
    if found.is_empty() {
        return content_type;
    }
    redactions.add(found);
    ContentType::from(&*cut(redacted, ContentType::MAX_BYTES))
}

/// A redacted text of at most this many bytes, because the replacement may be longer than the secret. It is never empty.
fn cut(mut text: String, most: usize) -> String {
    if text.is_empty() {
        return Redactor::DEFAULT_REPLACEMENT.into();
    }
    text.truncate(text.floor_char_boundary(most));
    text
}
