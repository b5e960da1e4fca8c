//! Values from texts.

use memory_core::ResourceError;
use memory_core::sibling::value_from_json;
use serde_json::Value;

/// A format of documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Json,
    Yaml,
    Toml,
}

impl Format {
    pub(crate) fn of_extension(extension: &str) -> Option<Self> {
        match extension {
            "json" => Some(Self::Json),
            "yaml" | "yml" => Some(Self::Yaml),
            "toml" => Some(Self::Toml),
            _ => None,
        }
    }

    /// The value of a text, or the problem.
    pub(crate) fn read(self, text: &str) -> Result<Value, String> {
        let value = match self {
            Self::Json => value_from_json(text),
            #[cfg(feature = "yaml")]
            Self::Yaml => memory_core::sibling::value_from_yaml(text),
            #[cfg(not(feature = "yaml"))]
            Self::Yaml => return Err("YAML needs the feature `yaml`; enable it".to_owned()),
            #[cfg(feature = "toml")]
            Self::Toml => memory_core::sibling::value_from_toml(text),
            #[cfg(not(feature = "toml"))]
            Self::Toml => return Err("TOML needs the feature `toml`; enable it".to_owned()),
        };
        value.map_err(|error| match error {
            ResourceError::Syntax { format, problem } => format!("{format}: {problem}"),
            other => other.to_string(),
        })
    }
}
