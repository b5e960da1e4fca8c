//! Checks that a sequence of messages has a result for every call, as model APIs require.

use crate::dialect::Dialect;
use crate::link::{ToolLink, ToolRef};
use crate::message::{Message, Role};

/// Checks that tool calls and results are in the order that model APIs require.
///
/// The rules are those of OpenAI's chat API ("an assistant message with `tool_calls` must be
/// followed by tool messages responding to each `tool_call_id`") and of Anthropic's messages API
/// ("tool result blocks must immediately follow their corresponding tool use blocks", all results of
/// one turn together), so that a sequence that passes can be sent to both:
///
/// - the results of a call follow it directly, with only results in between;
/// - every call is answered exactly once before anything else follows, or, at the end of the
///   sequence, is still open;
/// - no result is without its call, and no message uses an id for two calls.
///
/// Every dialect is checked in this way, and so is OpenAI's first function API (`function_call`, role
/// `function`). Results without an id are matched by name or position, as [`ToolLink`] describes. In OpenAI's
/// Responses API calls are separate items, so consecutive calls, and texts of the model in between, count as one
/// message with calls.
///
/// ```
/// use memory_core::Message;
/// use memory_core::dialect::ToolCall;
/// use memory_core::plan::check_pairing;
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
    let mut turn = Turn::default();
    for (index, message) in messages.into_iter().enumerate() {
        let ToolLink { calls, results, .. } = message.tool_link();
        for result in results.iter() {
            turn.answer(index, result)?;
        }
        let is_item = message.dialect() == Dialect::Responses && *message.role() == Role::Assistant;
        let continues = is_item && turn.of_items && !turn.has_results;
        if continues {
            turn.call(index, &calls)?;
        } else if !calls.is_empty() || results.is_empty() {
            turn.end(index)?;
            turn = Turn { of_items: is_item, ..Turn::default() };
            turn.call(index, &calls)?;
        }
    }
    Ok(())
}

/// The calls whose results may follow.
#[derive(Debug, Default)]
struct Turn {
    calls: Vec<Call>,
    of_items: bool,
    has_results: bool,
}

#[derive(Debug)]
struct Call {
    made_at: usize,
    made: ToolRef,
    is_answered: bool,
}

impl Turn {
    fn call(&mut self, index: usize, calls: &[ToolRef]) -> Result<(), PairingError> {
        for made in calls.iter().cloned() {
            let is_repeated = |call: &Call| call.made.id == made.id;
            if !made.id.is_empty() && self.calls.iter().any(is_repeated) {
                return Err(PairingError::RepeatedId { index, call: made.id });
            }
            self.calls.push(Call { made_at: index, made, is_answered: false });
        }
        Ok(())
    }

    fn answer(&mut self, index: usize, result: &ToolRef) -> Result<(), PairingError> {
        self.has_results = true;
        let ToolRef { id, name } = result;
        let mut open = self.calls.iter_mut().filter(|call| !call.is_answered);
        let found = match (id.is_empty(), name.is_empty()) {
            (false, _) => open.find(|call| call.made.id == *id),
            (true, true) => open.next(),
            (true, false) => {
                let mut open: Vec<_> = open.collect();
                let named = open.iter().position(|call| call.made.name == *name);
                let unnamed = || open.iter().position(|call| call.made.name.is_empty());
                named.or_else(unnamed).map(|at| open.swap_remove(at))
            }
        };
        if let Some(call) = found {
            call.is_answered = true;
            return Ok(());
        }
        let call: Box<str> = result.label().into();
        let is_known = |call: &Call| {
            if id.is_empty() { call.made.name == *name } else { call.made.id == *id }
        };
        Err(if self.calls.iter().any(is_known) {
            PairingError::AnsweredTwice { index, call }
        } else {
            PairingError::WithoutCall { index, call }
        })
    }

    /// Something other than a result follows.
    fn end(&self, index: usize) -> Result<(), PairingError> {
        match self.calls.iter().find(|call| !call.is_answered) {
            None => Ok(()),
            Some(Call { made_at, made, .. }) => Err(PairingError::Unanswered {
                index,
                calls_at: *made_at,
                call: made.label().into(),
            }),
        }
    }
}

/// Why model APIs would refuse a sequence of messages. Indices count from 0. A call is named by its id, or by its
/// name if it has no id. Contents are never quoted.
/// Another message follows before all calls are answered.
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
    /// Two calls of one message share an id.
    #[error(
        "message {index} makes two calls with the id {call:?}: give each call a separate id, and \
         use it in the result too"
    )]
    RepeatedId {
        /// The message that calls.
        index: usize,
        /// The id.
        call: Box<str>,
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
            | Self::RepeatedId { index, .. } => *index,
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
        let mut links: Vec<ToolLink> = Vec::new();
        let mut was_item = false;
        for message in messages {
            let link = message.tool_link();
            let is_item = link.item.is_some();
            match links.last_mut().filter(|_| is_item && was_item) {
                // Items of the model that follow each other are one message.
                Some(answer) => {
                    answer.calls = [&*answer.calls, &*link.calls].concat().into();
                }
                None => links.push(link),
            }
            was_item = is_item;
        }
        let mut at = 0;
        while at < links.len() {
            let ToolLink { calls, results, .. } = &links[at];
            if calls.is_empty() {
                if !results.is_empty() {
                    return false;
                }
                at += 1;
                continue;
            }
            let following = links[at + 1..].iter().take_while(|link| !link.results.is_empty());
            let results: Vec<_> = following.flat_map(|link| link.results.to_vec()).collect();
            let end = at + 1 + results.len();
            let mut open = calls.to_vec();
            for result in &results {
                // All tools have the same name here.
                let answers = |call: &ToolRef| result.id.is_empty() || call.id == result.id;
                let Some(call) = open.iter().position(answers) else { return false };
                open.remove(call);
            }
            let is_repeated = calls.iter().enumerate().any(|(index, call)| {
                !call.id.is_empty() && calls[..index].iter().any(|other| other.id == call.id)
            });
            if is_repeated || !(open.is_empty() || end == links.len()) {
                return false;
            }
            at = end;
        }
        true
    }

    proptest! {
        #[test]
        fn check_agrees_with_literal_rules(history in history(8)) {
            let messages: Vec<_> = history.into_iter().map(|stored| stored.message).collect();
            let verdict = check_pairing(&messages);
            prop_assert_eq!(verdict.is_ok(), is_valid(&messages), "{:?}", verdict);
        }

        #[test]
        fn error_names_first_wrong_message(history in history(20)) {
            let messages: Vec<_> = history.into_iter().map(|stored| stored.message).collect();
            if let Err(error) = check_pairing(&messages) {
                prop_assert_eq!(check_pairing(&messages[..error.index()]), Ok(()));
                prop_assert!(check_pairing(&messages[..=error.index()]).is_err());
            }
        }
    }

    #[test]
    fn each_broken_rule_has_error_and_remedy() {
        let cases: [(&[Message], &str); 4] = [
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
        ];
        for (messages, start) in cases {
            let text = check_pairing(messages).unwrap_err().to_string();
            assert!(text.starts_with(start), "{text}");
            assert!(text.contains(": "), "no remedy: {text}");
        }
    }

    #[test]
    fn parallel_results_may_have_any_order() {
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
    fn ids_may_repeat_in_later_turns() {
        let turn = [call(&["a"]), result("a")];
        assert_eq!(check_pairing(turn.iter().chain(&turn)), Ok(()));
    }

    #[test]
    fn first_function_api_is_checked_by_name() {
        let calls = Message::assistant("")
            .with_field("function_call", json!({"name": "f", "arguments": "{}"}));
        let answer = |name: &str| Message::new(Role::Function, "r").with_name(name);
        assert_eq!(check_pairing(&[calls.clone(), answer("f"), calls.clone()]), Ok(()));
        let error = check_pairing(&[calls, answer("g")]).unwrap_err();
        assert_eq!(error, PairingError::WithoutCall { index: 1, call: "function_call:g".into() });
    }

    fn messages(history: &[serde_json::Value]) -> Vec<Message> {
        history.iter().map(|json| Message::from_value(json.clone()).unwrap()).collect()
    }

    #[test]
    fn anthropic_blocks_are_paired() {
        let call = json!({"role": "assistant", "content": [
            {"type": "tool_use", "id": "a", "name": "weather", "input": {"city": "Oslo"}},
            {"type": "tool_use", "id": "b", "name": "weather", "input": {"city": "Bergen"}}]});
        let results = json!({"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "a", "content": "rain"},
            {"type": "tool_result", "tool_use_id": "b", "content": "sun"},
            {"type": "text", "text": "and now?"}]});
        let talk = json!({"role": "user", "content": "Never mind, what time is it?"});
        let check = |history: &[serde_json::Value]| check_pairing(&messages(history));
        assert_eq!(check(&[call.clone(), results.clone(), talk.clone()]), Ok(()));
        let open = check(&[call.clone(), talk]).unwrap_err();
        assert_eq!(open, PairingError::Unanswered { index: 1, calls_at: 0, call: "a".into() });
        assert_eq!(check(&[results]).unwrap_err().index(), 0);
    }

    #[test]
    fn calls_as_items_are_one_turn() {
        let item = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        let history = [
            item(r#"{"type":"function_call","call_id":"a","name":"f","arguments":"{}"}"#),
            item(r#"{"type":"reasoning","id":"rs","summary":[]}"#),
            item(r#"{"type":"function_call","call_id":"b","name":"f","arguments":"{}"}"#),
            item(r#"{"type":"function_call_output","call_id":"b","output":"2"}"#),
            item(r#"{"type":"function_call_output","call_id":"a","output":"1"}"#),
            item(r#"{"role":"user","content":"thanks"}"#),
        ];
        assert_eq!(check_pairing(&messages(&history)), Ok(()));
        let torn = [history[0].clone(), history[2].clone(), history[3].clone(), history[5].clone()];
        assert_eq!(check_pairing(&messages(&torn)).unwrap_err().index(), 3);
    }

    #[test]
    fn results_without_id_match_name_or_position() {
        let call = |name: &str| json!({"function": {"name": name, "arguments": {}}});
        let calls =
            json!({"role": "assistant", "content": "", "tool_calls": [call("f"), call("g")]});
        let named = |name: &str| json!({"role": "tool", "tool_name": name, "content": "r"});
        let check = |history: &[serde_json::Value]| check_pairing(&messages(history));
        assert_eq!(check(&[calls.clone(), named("g"), named("f")]), Ok(()));
        let nameless = json!({"role": "tool", "content": "r"});
        assert_eq!(check(&[calls.clone(), nameless.clone(), nameless]), Ok(()));
        let wrong = check(&[calls, named("h")]).unwrap_err();
        assert_eq!(wrong, PairingError::WithoutCall { index: 1, call: "h".into() });
    }
}
