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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::message::{Role, ToolCall};
    use crate::testkit::history;

    fn call(ids: &[&str]) -> Message {
        Message::calls(ids.iter().map(|id| ToolCall::function(*id, "f", "{}")))
    }

    fn result(id: &str) -> Message {
        Message::tool_result(id, "r")
    }

    /// The rules as OpenAI and Anthropic write them, by splitting into turns.
    fn is_valid(messages: &[Message]) -> bool {
        let links: Vec<_> = messages.iter().map(Message::tool_link).collect();
        let mut at = 0;
        while at < links.len() {
            let ToolLink::Calls(ids) = &links[at] else {
                if matches!(links[at], ToolLink::Result(_)) {
                    return false;
                }
                at += 1;
                continue;
            };
            let results: Vec<_> = links[at + 1..]
                .iter()
                .map_while(|link| match link {
                    ToolLink::Result(id) => Some(id.clone()),
                    _ => None,
                })
                .collect();
            let end = at + 1 + results.len();
            let unique = |ids: &[Box<str>]| {
                ids.iter()
                    .enumerate()
                    .all(|(index, id)| !id.is_empty() && !ids[..index].contains(id))
            };
            let all = ids.iter().all(|id| results.contains(id));
            if !unique(ids)
                || !unique(&results)
                || !results.iter().all(|id| ids.contains(id))
                || !(all || end == links.len())
            {
                return false;
            }
            at = end;
        }
        true
    }

    proptest! {
        #[test]
        fn the_check_agrees_with_the_rules_turn_by_turn(history in history(8)) {
            let messages: Vec<_> = history.into_iter().map(|stored| stored.message).collect();
            let verdict = check_pairing(&messages);
            prop_assert_eq!(verdict.is_ok(), is_valid(&messages), "{:?}", verdict);
        }

        #[test]
        fn the_error_names_the_first_message_that_is_wrong(history in history(20)) {
            let messages: Vec<_> = history.into_iter().map(|stored| stored.message).collect();
            if let Err(error) = check_pairing(&messages) {
                prop_assert_eq!(check_pairing(&messages[..error.index()]), Ok(()));
                prop_assert!(check_pairing(&messages[..=error.index()]).is_err());
            }
        }
    }

    #[test]
    fn each_broken_rule_has_its_own_error_with_a_mend() {
        let cases: [(&[Message], &str); 5] = [
            (
                &[call(&["a", "b"]), result("a"), Message::user("u")],
                "message 2 follows before call \"b\" of message 0",
            ),
            (&[result("a")], "message 0 answers call \"a\", which"),
            (
                &[call(&["a"]), result("a"), result("a")],
                "message 2 answers call \"a\" a second time",
            ),
            (&[call(&["a", "a"])], "message 0 makes two calls with the id \"a\""),
            (&[call(&[""])], "message 0 makes a call with an empty id"),
        ];
        for (messages, start) in cases {
            let text = check_pairing(messages).unwrap_err().to_string();
            assert!(text.starts_with(start), "{text}");
            assert!(text.contains(": "), "no mend: {text}");
        }
    }

    #[test]
    fn parallel_calls_are_answered_together_in_any_order_or_open_at_the_end() {
        assert_eq!(
            check_pairing(&[call(&["a", "b"]), result("b"), result("a"), Message::user("u")]),
            Ok(())
        );
        assert_eq!(check_pairing(&[call(&["a", "b"]), result("b")]), Ok(()));
        assert_eq!(
            check_pairing(&[call(&["a"]), call(&["b"]), result("b"), result("a")])
                .unwrap_err()
                .index(),
            1
        );
    }

    #[test]
    fn ids_may_come_again_in_a_later_turn() {
        let turn = [call(&["a"]), result("a")];
        assert_eq!(check_pairing(turn.iter().chain(&turn)), Ok(()));
    }

    #[test]
    fn the_older_function_api_is_checked_by_name() {
        let mut calls = Message::assistant("");
        calls.extra.insert("function_call".into(), json!({"name": "f", "arguments": "{}"}));
        let answer = |name: &str| Message::new(Role::Function, "r").with_name(name);
        assert_eq!(check_pairing(&[calls.clone(), answer("f"), calls.clone()]), Ok(()));
        let error = check_pairing(&[calls, answer("g")]).unwrap_err();
        assert_eq!(error, PairingError::WithoutCall { index: 1, call: "function_call:g".into() });
    }
}
