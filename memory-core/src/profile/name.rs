//! The names of the profiles.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Which API a request is written for.
///
/// The name, not the whole [`Profile`](super::Profile), belongs into settings: the rules that
/// differ between generations of models follow from the model's name
/// ([`Profile::new`](super::Profile::new)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ProfileName {
    /// OpenAI Chat Completions and compatible servers: an array of messages.
    OpenaiChat,
    /// OpenAI Responses: an object with `input` and `instructions`.
    OpenaiResponses,
    /// Anthropic Messages: an object with `system` and `messages`.
    Anthropic,
    /// Google Gemini `generateContent`: an object with `systemInstruction` and `contents`.
    Gemini,
    /// AWS Bedrock Converse: an object with `system` and `messages`.
    Bedrock,
    /// Mistral chat completions: an array of messages.
    Mistral,
    /// Chat templates that allow one system message and alternate roles: an array of messages.
    StrictTemplate,
}

impl ProfileName {
    /// Every profile.
    pub const ALL: [Self; 7] = [
        Self::OpenaiChat,
        Self::OpenaiResponses,
        Self::Anthropic,
        Self::Gemini,
        Self::Bedrock,
        Self::Mistral,
        Self::StrictTemplate,
    ];

    /// The name as it is written in a resource, such as `openai_chat`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OpenaiChat => "openai_chat",
            Self::OpenaiResponses => "openai_responses",
            Self::Anthropic => "anthropic",
            Self::Gemini => "gemini",
            Self::Bedrock => "bedrock",
            Self::Mistral => "mistral",
            Self::StrictTemplate => "strict_template",
        }
    }
}

impl fmt::Display for ProfileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for ProfileName {
    type Err = ProfileError;

    fn from_str(name: &str) -> Result<Self, ProfileError> {
        Self::ALL.into_iter().find(|profile| profile.as_str() == name).ok_or(ProfileError)
    }
}

/// A name that is not the name of a profile.
///
/// The text does not repeat the name, because it can come from anywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown profile: use openai_chat, openai_responses, anthropic, gemini, bedrock, mistral or \
     strict_template"
)]
#[non_exhaustive]
pub struct ProfileError;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for name in ProfileName::ALL {
            assert_eq!(name.to_string().parse(), Ok(name));
            let json = serde_json::to_string(&name).unwrap();
            assert_eq!(json, format!("\"{name}\""));
            assert_eq!(serde_json::from_str::<ProfileName>(&json).unwrap(), name);
        }
        assert_eq!(format!("{:>8}", ProfileName::Gemini), "  gemini");
    }

    #[test]
    fn error_lists_every_profile() {
        for name in ["", "openai", "Anthropic", "claude"] {
            assert_eq!(name.parse::<ProfileName>(), Err(ProfileError), "{name}");
        }
        let text = ProfileError.to_string();
        assert!(ProfileName::ALL.iter().all(|name| text.contains(name.as_str())), "{text}");
    }
}
