//! Whether a sequence of messages is one that model APIs accept: every call with its results.

use std::collections::HashMap;

use crate::message::{Message, ToolLink};

/// Checks that tool calls and results are in the order that model APIs ask for.
///
/// The rules are those of OpenAI's chat API ("an assistant message with `tool_calls` must be
/// followed by tool messages responding to each `tool_call_id`") and of Anthropic's messages API
/// ("tool result blocks must immediately follow their corresponding tool use blocks", all results of
/// one turn together), so that a sequence that passes can be sent to both:
///
/// - the results of a call follow directly, with nothing but each other in between;
/// - every call is answered exactly once before anything else follows, or, at the end of the
///   sequence, is still open;
/// - no result stands without its call, and no message uses an id for two calls.
///
/// OpenAI's first function API (`function_call`, role `function`) is checked in the same way.
///
/// ```
/// use memory_core::{Message, ToolCall, check_pairing};
///
/// let call = Message::calls([ToolCall::function("c1", "weather", r#"{"city":"Kyoto"}"#)]);
/// let result = Message::tool_result("c1", "sunny");
///
/// assert!(check_pairing(&[call.clone(), result.clone()]).is_ok());
/// assert!(check_pairing(&[call.clone()]).is_ok(), "open at the end");
///
/// let error = check_pairing(&[call, Message::user("and Osaka?"), result]).unwrap_err();
/// assert_eq!(error.index(), 1);
/// ```
///
/// # Errors
/// The first message that breaks a rule.
pub fn check_pairing<'a>(
    messages: impl IntoIterator<Item = &'a Message>,
) -> Result<(), PairingError> {
    // The calls of the message that the results here answer, and which are answered already.
    let mut calls: HashMap<Box<str>, bool> = HashMap::new();
    let mut calls_at = 0;
    let mut awaited: Vec<Box<str>> = Vec::new();
    for (index, message) in messages.into_iter().enumerate() {
        match message.tool_link() {
            ToolLink::Result(id) => match calls.get_mut(&id) {
                Some(answered) if !*answered => *answered = true,
                Some(_) => return Err(PairingError::AnsweredTwice { index, call: id }),
                None => return Err(PairingError::WithoutCall { index, call: id }),
            },
            link => {
                let open = awaited.drain(..).find(|id| calls.get(id) == Some(&false));
                if let Some(call) = open {
                    return Err(PairingError::Unanswered { index, calls_at, call });
                }
                calls.clear();
                let ToolLink::Calls(ids) = link else { continue };
                calls_at = index;
                for id in &ids {
                    if id.is_empty() {
                        return Err(PairingError::EmptyId { index });
                    }
                    if calls.insert(id.clone(), false).is_some() {
                        return Err(PairingError::RepeatedId { index, call: id.clone() });
                    }
                }
                awaited = ids.into_vec();
            }
        }
    }
    Ok(())
}

/// Why a sequence of messages would be refused. Indices count from 0; a call is named by its id, or
/// as `function_call:` and its name where it has no id. Contents are never quoted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PairingError {
    /// Something else follows before all calls are answered.
    #[error(
        "message {index} follows before call {call:?} of message {calls_at} is answered: \
         put its result directly behind message {calls_at}, or leave the call and its results out"
    )]
    Unanswered {
        /// The message that follows too early.
        index: usize,
        /// The message that calls.
        calls_at: usize,
        /// The call.
        call: Box<str>,
    },
    /// A result that does not follow its call directly.
    #[error(
        "message {index} answers call {call:?}, which the assistant message directly before the \
         results does not make: move the result directly behind its call, or leave it out"
    )]
    WithoutCall {
        /// The result.
        index: usize,
        /// The call that it names.
        call: Box<str>,
    },
    /// A second result for one call.
    #[error("message {index} answers call {call:?} a second time: leave one of the results out")]
    AnsweredTwice {
        /// The second result.
        index: usize,
        /// The call.
        call: Box<str>,
    },
    /// Two calls of one message with one id.
    #[error(
        "message {index} makes two calls with the id {call:?}: give each an id of its own, in its \
         result too"
    )]
    RepeatedId {
        /// The message that calls.
        index: usize,
        /// The id.
        call: Box<str>,
    },
    /// A call without an id.
    #[error("message {index} makes a call with an empty id: give it one, and its result the same")]
    EmptyId {
        /// The message that calls.
        index: usize,
    },
}

impl PairingError {
    /// The position of the message where the rule is broken, counted from 0.
    #[must_use]
    pub const fn index(&self) -> usize {
        match self {
            Self::Unanswered { index, .. }
            | Self::WithoutCall { index, .. }
            | Self::AnsweredTwice { index, .. }
            | Self::RepeatedId { index, .. }
            | Self::EmptyId { index } => *index,
        }
    }
}
