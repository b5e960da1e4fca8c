//! The forms in which a request is checked.

use serde_json::Value;

use super::json::Tape;

/// A request for [`check_request`](super::check_request): a JSON text, or a [`Value`] that is already parsed.
///
/// Both give the same answer, with one exception: a `Value` keeps one of several fields with one name, so
/// [`RequestRule::DuplicateField`](super::RequestRule::DuplicateField) is found in texts only.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum RequestInput<'r> {
    /// A JSON text.
    Text(&'r str),
    /// A parsed request.
    Value(&'r Value),
}

impl<'r> RequestInput<'r> {
    /// The nodes of the request. `None` if it is not JSON or is nested too deeply.
    pub(super) fn tape(self) -> Option<Tape<'r>> {
        match self {
            Self::Text(text) => Tape::from_text(text),
            Self::Value(value) => Tape::from_value(value),
        }
    }
}

impl<'r> From<&'r str> for RequestInput<'r> {
    fn from(text: &'r str) -> Self {
        Self::Text(text)
    }
}

impl<'r> From<&'r String> for RequestInput<'r> {
    fn from(text: &'r String) -> Self {
        Self::Text(text)
    }
}

impl<'r> From<&'r Value> for RequestInput<'r> {
    fn from(value: &'r Value) -> Self {
        Self::Value(value)
    }
}
