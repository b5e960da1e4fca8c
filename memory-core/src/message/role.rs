//! Roles.

use std::fmt;

use serde::{Serialize, Serializer};

/// The author of a message.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Role {
    /// Instructions of the application.
    System,
    /// Instructions of the application, in the newer spelling.
    Developer,
    /// The user.
    User,
    /// The model.
    Assistant,
    /// A tool's result.
    Tool,
    /// A function's result, in the older spelling.
    Function,
    /// Any other role, kept as it came.
    Other(Box<str>),
}

impl Role {
    /// The role as OpenAI spells it in JSON.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::System => "system",
            Self::Developer => "developer",
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Tool => "tool",
            Self::Function => "function",
            Self::Other(role) => role,
        }
    }

    /// The bytes that it occupies apart from its own size.
    pub(crate) fn heap_bytes(&self) -> usize {
        if let Self::Other(role) = self { role.len() } else { 0 }
    }
}

/// The role as OpenAI spells it.
impl Serialize for Role {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl From<&str> for Role {
    fn from(role: &str) -> Self {
        match role {
            "system" => Self::System,
            "developer" => Self::Developer,
            "user" => Self::User,
            "assistant" => Self::Assistant,
            "tool" => Self::Tool,
            "function" => Self::Function,
            _ => Self::Other(role.into()),
        }
    }
}

impl From<String> for Role {
    fn from(role: String) -> Self {
        Self::from(role.as_str())
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
