//! Formats that are not dialects, recognized by their keys, so that an error can name them.

use crate::json::{Json, JsonObject};

/// A format, and a function that recognizes it.
type Format = (&'static str, fn(&JsonObject) -> bool);

const FORMATS: &[Format] = &[
    ("a line of a Codex rollout", |o| has(o, &["payload", "type"])),
    ("a line of a Claude Code session", |o| {
        has(o, &["message"]) && any(o, &["uuid", "sessionId", "parentUuid"])
    }),
    ("a message of the ChatGPT export", |o| {
        has(o, &["mapping"]) || has(o, &["author", "content"]) && is_object(o, "author")
    }),
    ("a ShareGPT conversation", |o| has(o, &["conversations"]) || has(o, &["from", "value"])),
    ("a WildChat conversation", |o| has(o, &["conversation"])),
    ("an OpenAI fine-tuning example", |o| has(o, &["messages"])),
    ("a Gemini request", |o| has(o, &["contents"])),
    ("a serialized LangChain message", |o| has(o, &["lc", "kwargs"]) || has(o, &["type", "data"])),
    ("a pydantic-ai message", |o| has(o, &["parts", "kind"])),
    ("an event of Google's ADK", |o| has(o, &["author", "content"])),
    ("a session of Google's ADK", |o| {
        has(o, &["events"]) && any(o, &["app_name", "appName", "state"])
    }),
    ("a Letta message", |o| has(o, &["message_type"])),
    ("an AutoGen message", |o| has(o, &["source", "content", "type"])),
    ("a Semantic Kernel message", |o| {
        any(o, &["Items", "$type"]) || is_object(o, "Role") || is_object(o, "role")
    }),
    ("an OASST message", |o| has(o, &["message_id", "parent_id"]) || has(o, &["message_tree_id"])),
    ("a Cohere v1 message", |o| {
        has(o, &["role", "message"]) || any(o, &["chat_history", "tool_results"])
    }),
    ("an xLAM example", |o| has(o, &["query", "answers"])),
    ("an Alpaca example", |o| has(o, &["instruction", "output"])),
    ("a pair of prompt and completion", |o| has(o, &["prompt", "completion"])),
    ("a call of Gemini's Interactions API", |o| {
        o.get("type").and_then(Json::as_str) == Some("function_call")
    }),
];

/// The format that an object resembles and that is no message of a dialect.
pub(crate) fn resembles(json: &Json) -> Option<&'static str> {
    let object = json.as_object()?;
    FORMATS.iter().find(|(_, is_it)| is_it(object)).map(|(name, _)| *name)
}

fn has(object: &JsonObject, keys: &[&str]) -> bool {
    keys.iter().all(|key| object.contains_key(key))
}

fn any(object: &JsonObject, keys: &[&str]) -> bool {
    keys.iter().any(|key| object.contains_key(key))
}

fn is_object(object: &JsonObject, key: &str) -> bool {
    object.get(key).is_some_and(|value| value.as_object().is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_known_by_their_keys() {
        for (text, expected) in [
            (r#"{"role":"CHATBOT","message":"hello"}"#, Some("a Cohere v1 message")),
            (r#"{"message_type":"user_message","content":"hi"}"#, Some("a Letta message")),
            (r#"{"Role":{"Label":"user"},"Items":[]}"#, Some("a Semantic Kernel message")),
            (r#"{"role":{"label":"user"},"items":[]}"#, Some("a Semantic Kernel message")),
            (r#"{"chat_history":[],"message":"hi"}"#, Some("a Cohere v1 message")),
            (r#"{"role":"TOOL","tool_results":[]}"#, Some("a Cohere v1 message")),
            (r#"{"id":"s","appName":"a","events":[]}"#, Some("a session of Google's ADK")),
            (r#"{"instruction":"a","input":"","output":"b"}"#, Some("an Alpaca example")),
            (r#"{"prompt":"a","completion":"b"}"#, Some("a pair of prompt and completion")),
            (r#"{"message_tree_id":"a","prompt":{}}"#, Some("an OASST message")),
            (
                r#"{"message_id":"a","parent_id":null,"text":"hi","role":"prompter"}"#,
                Some("an OASST message"),
            ),
            (r#"{"author":"user","content":{"parts":[]}}"#, Some("an event of Google's ADK")),
            (r#"{"author":{"role":"user"},"content":{}}"#, Some("a message of the ChatGPT export")),
            (
                r#"{"source":"user","content":"hi","type":"TextMessage"}"#,
                Some("an AutoGen message"),
            ),
            (r#"{"query":"q","answers":"[]","tools":"[]"}"#, Some("an xLAM example")),
            (r#"{"conversation_hash":"h","conversation":[]}"#, Some("a WildChat conversation")),
            (r#"{"role":"narrator"}"#, None),
        ] {
            assert_eq!(resembles(&Json::parse(text).unwrap()), expected, "{text}");
        }
    }
}
