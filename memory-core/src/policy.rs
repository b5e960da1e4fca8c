//! The rules of a memory, computed once from its resource: limits, priorities, recency.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::message::{Message, Role};
use crate::priority::{ContentType, Priority};
use crate::stored::{MessageId, NewMessage};
use crate::tokens::{TokenCounter, message_tokens};

/// The rules of one kind of memory. [`MemoryResource::policy`](crate::MemoryResource::policy) computes it from a
/// resource; [`with_max_tokens`](Self::with_max_tokens) needs a budget only.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// The budget of the memory in tokens.
    pub max_tokens: u64,
    /// The most messages, if limited.
    pub message_limit: Option<u64>,
    /// The priority blocks, in ascending order of priority. Without any, eviction is by age alone.
    pub blocks: Vec<Block>,
    /// The tokens of the newest conversation that count as recent. At least the newest unit does.
    pub recent_window: u64,
    /// The time that a tool call may stay open before it is abandoned. Default: 10 minutes.
    pub open_call_timeout: Duration,
    /// The maximum number of the newest [reminders](ContentType::Reminder) that a window sends; at least 1. Default:
    /// 3. Critical ones are always sent, and do not count.
    pub reminders_kept: u64,
}

/// The content types of one priority, and their common limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// Their priority.
    pub priority: Priority,
    /// Their types.
    pub content_types: Vec<ContentType>,
    /// The effective limit in tokens: the lower of the block's explicit limit and its share of the allocation.
    pub limit: Option<u64>,
}

impl Policy {
    /// The default time that a tool call may stay open.
    pub const DEFAULT_OPEN_CALL_TIMEOUT: Duration = Duration::from_mins(10);

    /// The default number of reminders that a window sends.
    pub const DEFAULT_REMINDERS_KEPT: u64 = 3;

    /// A budget without priority blocks: system prompts are critical, everything else is evicted by age.
    #[must_use]
    pub const fn with_max_tokens(max_tokens: u64) -> Self {
        Self {
            max_tokens,
            message_limit: None,
            blocks: Vec::new(),
            recent_window: max_tokens / 2,
            open_call_timeout: Self::DEFAULT_OPEN_CALL_TIMEOUT,
            reminders_kept: Self::DEFAULT_REMINDERS_KEPT,
        }
    }

    /// The default priority of messages of this type: that of the block that names the type. Without such a block,
    /// system prompts are critical; profiles, facts, summaries and recent conversation are important; everything else
    /// is optional.
    #[must_use]
    pub fn priority_of(&self, content_type: &ContentType) -> Priority {
        let block = self.blocks.iter().find(|block| block.content_types.contains(content_type));
        match (block, content_type) {
            (Some(block), _) => block.priority,
            (None, ContentType::SystemPrompt) => Priority::CRITICAL,
            (
                None,
                ContentType::UserProfile
                | ContentType::ImportantFacts
                | ContentType::Summary
                | ContentType::RecentContext,
            ) => Priority::IMPORTANT,
            (
                None,
                ContentType::HistoricalMessages
                | ContentType::Conversation
                | ContentType::Reminder
                | ContentType::Custom(_),
            ) => Priority::OPTIONAL,
        }
    }

    /// Counts and classifies a message that is appended to a memory.
    #[must_use]
    pub fn admit(
        &self,
        entry: Entry,
        id: MessageId,
        created_at: Timestamp,
        counter: &dyn TokenCounter,
    ) -> NewMessage {
        let Entry { message, priority, content_type, .. } = entry;
        let content_type = content_type.unwrap_or_else(|| default_type(&message));
        let priority = match (priority, &content_type) {
            (None, ContentType::Conversation) => None,
            (None, fixed) => Some(self.priority_of(fixed)),
            (own, _) => own,
        };
        let tokens = message_tokens(counter, &message);
        NewMessage { id, message, tokens, priority, content_type, created_at }
    }
}

/// The content type of a message without an explicit one.
pub(crate) fn default_type(message: &Message) -> ContentType {
    match message.role() {
        Role::System | Role::Developer => ContentType::SystemPrompt,
        Role::User | Role::Assistant | Role::Tool | Role::Function | Role::Other(_) => {
            ContentType::Conversation
        }
    }
}

/// A message with the author's settings for it.
///
/// ```
/// use memory_core::{ContentType, Entry, Message, Priority};
///
/// let fact = Entry::new(Message::assistant("The case is about booking 4711"))
///     .with_content_type(ContentType::ImportantFacts)
///     .with_priority(Priority::CRITICAL);
/// # let _ = fact;
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// The message.
    pub message: Message,
    /// Its priority; `None` uses that of the resource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<Priority>,
    /// Its content type; `None` derives it from the role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<ContentType>,
    /// Whether it must not be stored; see [`do_not_persist`](Self::do_not_persist). Default: `false`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub do_not_persist: bool,
}

impl Entry {
    /// A message with default priority and content type.
    #[must_use]
    pub const fn new(message: Message) -> Self {
        Self { message, priority: None, content_type: None, do_not_persist: false }
    }

    /// A message that the application injects repeatedly, such as the time or a rule, as a
    /// [`Reminder`](ContentType::Reminder). It is optional (priority 2) for any role, unless a block of the resource
    /// names the type. As plain system messages, reminders would be critical and fill the budget.
    ///
    /// ```
    /// use memory_core::{ContentType, Entry, Message};
    ///
    /// let entry = Entry::reminder(Message::system("Answer in at most 3 sentences."));
    /// assert_eq!(entry.content_type, Some(ContentType::Reminder));
    /// ```
    #[must_use]
    pub fn reminder(message: Message) -> Self {
        Self::new(message).with_content_type(ContentType::Reminder)
    }

    /// Sets an explicit priority.
    #[must_use]
    pub const fn with_priority(mut self, priority: Priority) -> Self {
        self.priority = Some(priority);
        self
    }

    /// Sets the content type.
    #[must_use]
    pub fn with_content_type(mut self, content_type: ContentType) -> Self {
        self.content_type = Some(content_type);
        self
    }

    /// Excludes the message from the memory: an append leaves it out and reports its index in
    /// [`Appended::excluded`](crate::store::Appended::excluded). A message with tool calls or results is stored
    /// [without its contents](Message::withheld) instead, because a call must not lose its result.
    ///
    /// ```
    /// use memory_core::{Entry, Message};
    ///
    /// let entry = Entry::new(Message::user("My PIN is 4711")).do_not_persist();
    /// assert!(entry.do_not_persist);
    /// ```
    #[must_use]
    pub const fn do_not_persist(mut self) -> Self {
        self.do_not_persist = true;
        self
    }
}

impl From<Message> for Entry {
    fn from(message: Message) -> Self {
        Self::new(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokens::EstimateCounter;

    #[test]
    fn types_without_blocks_have_default_priority() {
        let policy = Policy::with_max_tokens(101);
        assert_eq!((policy.max_tokens, policy.recent_window), (101, 50));
        assert_eq!(policy.open_call_timeout, Duration::from_secs(600));
        assert_eq!(policy.reminders_kept, 3);
        for (content_type, priority) in [
            (ContentType::SystemPrompt, Priority::CRITICAL),
            (ContentType::UserProfile, Priority::IMPORTANT),
            (ContentType::ImportantFacts, Priority::IMPORTANT),
            (ContentType::Summary, Priority::IMPORTANT),
            (ContentType::RecentContext, Priority::IMPORTANT),
            (ContentType::HistoricalMessages, Priority::OPTIONAL),
            (ContentType::Conversation, Priority::OPTIONAL),
            (ContentType::Reminder, Priority::OPTIONAL),
            (ContentType::from("note"), Priority::OPTIONAL),
        ] {
            assert_eq!(policy.priority_of(&content_type), priority, "{content_type}");
        }
        let block = |priority, content_type| Block {
            priority: Priority::new(priority),
            content_types: vec![content_type],
            limit: None,
        };
        let blocks = vec![block(3, ContentType::Summary), block(7, ContentType::SystemPrompt)];
        let policy = Policy { blocks, ..policy };
        assert_eq!(policy.priority_of(&ContentType::SystemPrompt), Priority::new(7));
        assert_eq!(policy.priority_of(&ContentType::UserProfile), Priority::IMPORTANT);
    }

    #[test]
    fn entry_settings_override_role_defaults() {
        let policy = Policy::with_max_tokens(100);
        let admit = |entry: Entry| {
            let id = MessageId::new(uuid::Uuid::from_u128(5));
            let new = policy.admit(entry, id, Timestamp::UNIX_EPOCH, &EstimateCounter);
            assert_eq!((new.id, new.created_at), (id, Timestamp::UNIX_EPOCH));
            assert_eq!(new.tokens, message_tokens(&EstimateCounter, &new.message));
            (new.content_type, new.priority)
        };
        let developer = Message::new(Role::Developer, "x");
        let prompt = (ContentType::SystemPrompt, Some(Priority::CRITICAL));
        assert_eq!(admit(Message::system("x").into()), prompt);
        assert_eq!(admit(developer.clone().into()), prompt);
        for role in [Role::User, Role::Assistant, Role::Tool, Role::Other("critic".into())] {
            let talk = (ContentType::Conversation, None);
            assert_eq!(admit(Message::new(role, "x").into()), talk, "recency decides later");
        }
        let fact = Entry::new(Message::user("x")).with_content_type(ContentType::ImportantFacts);
        let expected = (ContentType::ImportantFacts, Some(Priority::IMPORTANT));
        assert_eq!(admit(fact.clone()), expected);
        let own = fact.with_priority(Priority::new(9));
        assert_eq!(admit(own), (ContentType::ImportantFacts, Some(Priority::new(9))));
        for message in [Message::system("x"), Message::user("x")] {
            let reminder = (ContentType::Reminder, Some(Priority::OPTIONAL));
            assert_eq!(admit(Entry::reminder(message)), reminder, "whatever its role");
        }
        let talk = Entry::new(developer).with_content_type(ContentType::Conversation);
        assert_eq!(admit(talk.clone()), (ContentType::Conversation, None));
        let own = talk.with_priority(Priority::CRITICAL);
        assert_eq!(admit(own), (ContentType::Conversation, Some(Priority::CRITICAL)));
    }
}
