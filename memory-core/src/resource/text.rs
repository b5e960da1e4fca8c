//! Values from JSON, YAML and TOML, within limits.

use serde_json::Value;

use super::ResourceError;

/// The longest text of a resource in bytes. Typical resources have some kilobytes; parsers use a multiple of that.
pub(super) const MAX_RESOURCE_BYTES: usize = 1 << 20;

/// Without this limit, a few hundred bytes of nested aliases would expand to a gigabyte.
#[cfg(feature = "yaml")]
fn yaml_options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! { max_recorded_anchor_events: 10_000 },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: 10_000 },
    }
}

fn check_length(format: &'static str, text: &str) -> Result<(), ResourceError> {
    if text.len() <= MAX_RESOURCE_BYTES {
        return Ok(());
    }
    let problem = format!(
        "has {} bytes, over the limit of {MAX_RESOURCE_BYTES}; give it the file of one resource",
        text.len()
    );
    Err(ResourceError::Syntax { format, problem })
}

/// The value of a text in JSON of at most [`MemoryResource::MAX_BYTES`](crate::MemoryResource::MAX_BYTES).
pub fn value_from_json(text: &str) -> Result<Value, ResourceError> {
    check_length("JSON", text)?;
    serde_json::from_str(text).map_err(|error| ResourceError::syntax("JSON", &error))
}

/// As [`value_from_json`], with a bound on aliases.
#[cfg(feature = "yaml")]
pub fn value_from_yaml(text: &str) -> Result<Value, ResourceError> {
    check_length("YAML", text)?;
    serde_saphyr::from_str_with_options(text, yaml_options())
        .map_err(|error| ResourceError::yaml(&error))
}

/// As [`value_from_json`].
#[cfg(feature = "toml")]
pub fn value_from_toml(text: &str) -> Result<Value, ResourceError> {
    check_length("TOML", text)?;
    toml::from_str(text).map_err(|error| ResourceError::toml(text, &error))
}
