//! The messages of an operation.

use memory_core::Message;
use serde_json::Value;

use super::OperationError;
use crate::report::type_of;

/// The messages of a payload: one message, a text of the user, or a list of both.
pub(super) fn messages(payload: Value) -> Result<Vec<Message>, OperationError> {
    match payload {
        Value::Array(items) => {
            let each = items.into_iter().enumerate();
            each.map(|(index, item)| message(&format!("payload[{index}]"), item)).collect()
        }
        one => Ok(vec![message("payload", one)?]),
    }
}

fn message(path: &str, value: Value) -> Result<Message, OperationError> {
    match value {
        Value::String(text) => Ok(Message::user(text)),
        Value::Object(_) => Message::from_value(value)
            .map_err(|error| OperationError::new(path, format!("is not a message: {error}"))),
        other => {
            let problem = format!("is {}; write a message or a text", type_of(&other));
            Err(OperationError::new(path, problem))
        }
    }
}
