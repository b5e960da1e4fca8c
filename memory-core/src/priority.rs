//! The priority and the content type of a message.

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The priority of a message: 0 is critical, 1 important, 2 and more optional.
///
/// Lower numbers are kept longer. [`CRITICAL`](Self::CRITICAL) is never evicted and never summarized.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Priority(u8);

impl Priority {
    /// Never evicted, never summarized.
    pub const CRITICAL: Self = Self(0);
    /// Evicted last.
    pub const IMPORTANT: Self = Self(1);
    /// Evicted first; the oldest first within a priority.
    pub const OPTIONAL: Self = Self(2);

    /// The priority with this number.
    #[must_use]
    pub const fn new(number: u8) -> Self {
        Self(number)
    }

    /// The number.
    #[must_use]
    pub const fn number(self) -> u8 {
        self.0
    }

    /// Whether it is never evicted.
    #[must_use]
    pub const fn is_critical(self) -> bool {
        self.0 == 0
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// The kind of content of a message. Priority blocks and allocation shares refer to it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ContentType {
    /// Instructions; the default for system and developer messages.
    SystemPrompt,
    /// Facts about the user.
    UserProfile,
    /// Findings that should outlive the conversation around them.
    ImportantFacts,
    /// A summary that a flush wrote in place of older messages.
    Summary,
    /// Conversation, before its recency is known. Recency depends on the position, so it is computed for each plan or
    /// report and never stored.
    Conversation,
    /// The newest conversation, within the recent window.
    RecentContext,
    /// Older conversation.
    HistoricalMessages,
    /// Text that an application injects repeatedly, such as the time or a rule. Only the newest are relevant: a
    /// window sends the newest [`Policy::reminders_kept`](crate::plan::Policy::reminders_kept).
    Reminder,
    /// A custom type with a name: `ContentType::from("notes")`.
    Custom(CustomType),
}

/// The name of a custom content type. It cannot be the name of a built-in type, so each type has exactly one name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CustomType(Arc<str>);

impl ContentType {
    /// The longest name that an append accepts, in bytes.
    pub const MAX_BYTES: usize = 128;

    pub(crate) fn heap_bytes(&self) -> usize {
        if let Self::Custom(CustomType(name)) = self { name.len() } else { 0 }
    }

    /// The built-in types.
    pub(crate) const BUILT_IN: [Self; 8] = [
        Self::SystemPrompt,
        Self::UserProfile,
        Self::ImportantFacts,
        Self::Summary,
        Self::Conversation,
        Self::RecentContext,
        Self::HistoricalMessages,
        Self::Reminder,
    ];

    /// The name as written in resources and reports.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::SystemPrompt => "system_prompt",
            Self::UserProfile => "user_profile",
            Self::ImportantFacts => "important_facts",
            Self::Summary => "summary",
            Self::Conversation => "conversation",
            Self::RecentContext => "recent_context",
            Self::HistoricalMessages => "historical_messages",
            Self::Reminder => "reminder",
            Self::Custom(CustomType(name)) => name,
        }
    }
}

impl From<&str> for ContentType {
    fn from(name: &str) -> Self {
        match name {
            "system_prompt" => Self::SystemPrompt,
            "user_profile" => Self::UserProfile,
            "important_facts" => Self::ImportantFacts,
            "summary" => Self::Summary,
            "conversation" => Self::Conversation,
            "recent_context" => Self::RecentContext,
            "historical_messages" => Self::HistoricalMessages,
            "reminder" => Self::Reminder,
            _ => Self::Custom(CustomType(name.into())),
        }
    }
}

impl FromStr for ContentType {
    type Err = Infallible;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Ok(name.into())
    }
}

impl fmt::Display for ContentType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for ContentType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for ContentType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        if name.is_empty() {
            return Err(de::Error::custom("a content type must not be empty"));
        }
        Ok(name.as_str().into())
    }
}

/// The part of a message's classification that is fixed on append; stores keep a counter for each class.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Class {
    /// `None` for conversation without an explicit priority: it follows from recency.
    pub priority: Option<Priority>,
    /// The content type; [`Conversation`](ContentType::Conversation) for plain conversation.
    pub content_type: ContentType,
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.priority {
            Some(priority) => write!(f, "{priority}/{}", self.content_type),
            None => write!(f, "-/{}", self.content_type),
        }
    }
}

/// The text is not a [`Class`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a class is written as priority/content type, such as 1/important_facts or -/conversation")]
pub struct ClassError;

impl FromStr for Class {
    type Err = ClassError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (priority, content_type) = text.split_once('/').ok_or(ClassError)?;
        let priority = match priority {
            "-" => None,
            number => Some(Priority::new(number.parse().map_err(|_| ClassError)?)),
        };
        Ok(Self { priority, content_type: content_type.into() })
    }
}

impl Serialize for Class {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Class {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn class_round_trips(priority in any::<Option<u8>>(), name in "\\PC{1,12}") {
            let class = Class {
                priority: priority.map(Priority::new),
                content_type: name.as_str().into(),
            };
            prop_assert_eq!(class.to_string().parse::<Class>(), Ok(class));
        }
    }

    #[test]
    fn built_in_content_types_round_trip() {
        for name in [
            "system_prompt",
            "user_profile",
            "important_facts",
            "summary",
            "conversation",
            "recent_context",
            "historical_messages",
            "reminder",
        ] {
            let content_type = ContentType::from(name);
            assert_eq!(content_type.as_str(), name);
            assert!(!matches!(content_type, ContentType::Custom(_)), "{name}");
        }
    }

    #[test]
    fn only_the_lowest_number_is_critical() {
        assert!(Priority::CRITICAL.is_critical() && Priority::new(0).is_critical());
        assert!(!Priority::IMPORTANT.is_critical() && !Priority::new(255).is_critical());
        assert_eq!((Priority::new(7).number(), &*Priority::new(7).to_string()), (7, "7"));
        assert!(
            Priority::CRITICAL < Priority::IMPORTANT && Priority::IMPORTANT < Priority::OPTIONAL
        );
    }

    #[test]
    fn classes_and_types_serialize_as_names() {
        let class = |priority: Option<u8>, name: &str| Class {
            priority: priority.map(Priority::new),
            content_type: name.into(),
        };
        for (class, text) in [
            (class(Some(1), "important_facts"), "1/important_facts"),
            (class(None, "conversation"), "-/conversation"),
            (class(Some(0), "a/b"), "0/a/b"),
        ] {
            assert_eq!(class.to_string(), text);
            assert_eq!(serde_json::to_value(&class).unwrap(), text);
            assert_eq!(serde_json::from_value::<Class>(text.into()).unwrap(), class);
        }
        for text in ["conversation", "x/summary", "256/summary", "/summary"] {
            assert_eq!(text.parse::<Class>(), Err(ClassError), "{text}");
        }
        let note: ContentType = "note".parse().unwrap();
        assert_eq!((note.as_str(), &*note.to_string()), ("note", "note"));
        assert_eq!(serde_json::to_value(&note).unwrap(), "note");
        assert_eq!(serde_json::from_value::<ContentType>("note".into()).unwrap(), note);
        assert!(serde_json::from_value::<ContentType>("".into()).is_err());
    }
}
