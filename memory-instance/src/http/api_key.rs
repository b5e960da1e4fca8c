//! A key that no output shows.

use std::env;
use std::fmt;

use reqwest::header::HeaderValue;

/// The key of a provider's API. Its `Debug` form shows nothing of it.
///
/// ```
/// use memory_instance::http::ApiKey;
///
/// assert_eq!(format!("{:?}", ApiKey::new("sk-123")), "ApiKey(..)");
/// ```
#[derive(Clone)]
pub struct ApiKey(String);

impl ApiKey {
    /// A key, without white space at its ends, such as the line break of a file.
    #[must_use]
    pub fn new(key: impl Into<String>) -> Self {
        Self(key.into().trim().to_owned())
    }

    /// The key in this environment variable.
    ///
    /// # Errors
    /// [`NoApiKey`] if the variable is not set, blank, or not UTF-8.
    pub fn from_env(variable: &str) -> Result<Self, NoApiKey> {
        let missing = || NoApiKey { variable: variable.to_owned() };
        let key = Self::new(env::var(variable).map_err(|_| missing())?);
        if key.0.is_empty() { Err(missing()) } else { Ok(key) }
    }

    /// The value of a header, after this prefix; `None` if a header cannot hold it.
    pub(super) fn header(&self, prefix: &str) -> Option<HeaderValue> {
        if self.0.is_empty() {
            return None;
        }
        let mut value = HeaderValue::try_from(format!("{prefix}{}", self.0)).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(..)")
    }
}

/// An environment variable has no key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot read the API key: set the environment variable {variable}")]
pub struct NoApiKey {
    variable: String,
}
