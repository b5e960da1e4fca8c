//! Validation of messages on append.

use super::{Dialect, Part, resembles};
use crate::json::Json;
use crate::message::{MessageError, Role};

/// The key of names in messages of several dialects.
pub(crate) const NAME: &str = "name";

/// Validates a message on append.
///
/// # Errors
/// [`MessageError`] for an object in which no dialect finds a role or type, one with a field of an unreadable form,
/// and an unknown role without readable content.
pub(crate) fn check_entry(json: &Json) -> Result<(), MessageError> {
    if json.as_object().is_none() {
        return Err(MessageError::field("the message", "a JSON object"));
    }
    let Some(dialect) = Dialect::detect(json) else {
        return Err(match (resembles(json), json.get("role")) {
            (Some(format), _) => MessageError::Unsupported { format },
            (None, None) => MessageError::MissingRole,
            (None, Some(_)) => MessageError::field("`role`", "a non-empty string"),
        });
    };
    if let Some((field, expected)) = dialect.misfit(json) {
        return Err(MessageError::Field { field, expected });
    }
    match dialect.role(json) {
        None => Err(MessageError::field("`role`", "a non-empty string")),
        Some(Role::Other(_)) if !is_readable(dialect, json) => Err(match resembles(json) {
            Some(format) => MessageError::Unsupported { format },
            None => MessageError::UnknownRole,
        }),
        Some(_) => Ok(()),
    }
}

fn is_readable(dialect: Dialect, json: &Json) -> bool {
    let mut is_readable = false;
    dialect.read(json, &mut |part| {
        is_readable |= !matches!(part, Part::Other(_)) && !part.is_blank();
    });
    is_readable
}
