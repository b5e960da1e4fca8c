//! ShareGPT: `{"conversations": [{"from", "value"}], "system", "tools"}` a record, or one turn.
//!
//! A `function_call` becomes a call with an id by its place, and the next `observation` its result. Tools, and other
//! fields of the record and of its turns, are left out.

use std::collections::VecDeque;

use memory_core::json::{Json, JsonObject};

use super::{call, message, text_of};

pub(super) fn is_conversation(json: &Json) -> bool {
    is_turn(json)
        || json
            .get("conversations")
            .and_then(Json::as_array)
            .is_some_and(|turns| turns.iter().any(is_turn))
}

fn is_turn(json: &Json) -> bool {
    let has = |key| json.get(key).is_some();
    json.get_str("from").is_some() && (has("value") || has("text")) && !has("role")
}

pub(super) fn convert(json: &Json) -> Result<Vec<Json>, String> {
    let turns = match json.get("conversations").and_then(Json::as_array) {
        Some(turns) => turns,
        None => std::slice::from_ref(json),
    };
    let mut messages = Vec::new();
    if let Some(system) = json.get_str("system").filter(|text| !text.is_empty()) {
        messages.push(message("system", system).into());
    }
    let mut calls = Calls::default();
    for (turn, number) in turns.iter().zip(1..) {
        let (Some(from), Some(value)) =
            (turn.get_str("from"), turn.get("value").or_else(|| turn.get("text")))
        else {
            return Err(format!("turn {number} needs `from` and `value`"));
        };
        let message = match from.trim().to_ascii_lowercase().as_str() {
            "human" | "user" | "prompter" => message("user", text_of(Some(value))),
            "gpt" | "assistant" | "bot" | "model" | "chatgpt" | "ai" => {
                message("assistant", text_of(Some(value)))
            }
            "system" => message("system", text_of(Some(value))),
            "function_call" | "tool_call" => calls.message(value),
            "observation" | "tool" | "function" | "function_response" | "tool_response"
            | "tool_result" => calls.result(turn, value),
            _ => message(from, text_of(Some(value))),
        };
        messages.push(message.into());
    }
    Ok(messages)
}

/// Calls of a conversation.
#[derive(Default)]
struct Calls {
    made: usize,
    open: VecDeque<String>,
}

impl Calls {
    /// The message of a turn whose value is a call or an array of calls, as an object or as JSON in a text; else its
    /// text.
    fn message(&mut self, value: &Json) -> JsonObject {
        let parsed = value.as_str().and_then(|text| Json::parse(text).ok());
        let parsed = parsed.as_ref().unwrap_or(value);
        let given = parsed.as_array().unwrap_or(std::slice::from_ref(parsed));
        let is_call = |call: &Json| call.get_str("name").is_some();
        if given.is_empty() || !given.iter().all(is_call) {
            return message("assistant", text_of(Some(value)));
        }
        let mut elements = Vec::new();
        for given in given {
            self.made += 1;
            let id =
                given.get_str("id").map_or_else(|| format!("call_{}", self.made), str::to_owned);
            let arguments =
                ["arguments", "args", "parameters"].iter().find_map(|key| given.get(key));
            elements.push(call(Some(&id), given.get_str("name").unwrap_or_default(), arguments));
            self.open.push_back(id);
        }
        message("assistant", Json::Null).with("tool_calls", elements)
    }

    fn result(&mut self, turn: &Json, value: &Json) -> JsonObject {
        let given = turn.get_str("tool_call_id").map(str::to_owned);
        // A turn in a separate record does not know its call.
        let id = given.or_else(|| self.open.pop_front()).unwrap_or_else(|| "call_1".to_owned());
        let mut result = message("tool", text_of(Some(value))).with("tool_call_id", id);
        if let Some(name) = turn.get_str("name") {
            result.insert("name", name);
        }
        result
    }
}
