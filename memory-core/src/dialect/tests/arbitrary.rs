//! Objects with protocol keys in any arrangement: readers and writers must not panic or send unknown content.

use proptest::prelude::*;

use super::*;

const KEYS: [&str; 40] = [
    "role",
    "content",
    "type",
    "text",
    "parts",
    "tool_calls",
    "tool_call_id",
    "id",
    "call_id",
    "name",
    "function",
    "arguments",
    "input",
    "output",
    "source",
    "data",
    "media_type",
    "image_url",
    "url",
    "tool_use_id",
    "is_error",
    "functionCall",
    "functionResponse",
    "response",
    "args",
    "inlineData",
    "toolUse",
    "toolResult",
    "toolUseId",
    "reasoningContent",
    "thinking",
    "signature",
    "toolCallId",
    "toolName",
    "value",
    "summary",
    "citations",
    "reasoning_details",
    "audio",
    "state",
];

const TEXTS: [&str; 40] = [
    "user",
    "assistant",
    "tool",
    "system",
    "model",
    "function",
    "text",
    "image",
    "image_url",
    "file",
    "document",
    "thinking",
    "redacted_thinking",
    "tool_use",
    "tool_result",
    "server_tool_use",
    "web_search_tool_result",
    "tool-call",
    "tool-result",
    "reasoning",
    "message",
    "function_call",
    "function_call_output",
    "mcp_call",
    "computer_call_output",
    "image_generation_call",
    "input_text",
    "output_text",
    "refusal",
    "base64",
    "json",
    "content",
    "output-available",
    "dynamic-tool",
    "custom_tool_call",
    "search_result",
    "compaction",
    "data:image/png;base64,QUJD",
    "",
    "words",
];

fn any_message() -> impl Strategy<Value = Json> {
    let text = proptest::sample::select(&TEXTS[..]).prop_map(Json::from);
    let leaf = prop_oneof![8 => text, 1 => Just(Json::Null), 1 => Just(true.into()), 1 => Just(7_u64.into())];
    let nested = leaf.prop_recursive(5, 40, 5, |inner| {
        prop_oneof![
            1 => proptest::collection::vec(inner.clone(), 0..4).prop_map(Json::from),
            2 => members(inner).prop_map(Json::from),
        ]
    });
    members(nested).prop_map(Json::from)
}

fn members(inner: impl Strategy<Value = Json>) -> impl Strategy<Value = JsonObject> {
    proptest::collection::vec((proptest::sample::select(&KEYS[..]), inner), 0..6)
        .prop_map(|members| members.into_iter().collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn odd_messages_are_read_and_written(message in any_message()) {
        let detected = Dialect::detect(&message);
        for from in Dialect::ALL {
            for part in from.parts(&message) {
                part.visit_text(&mut |_| ());
                let _ = part.is_blank();
            }
            for to in Dialect::ALL {
                for written in convert(&message, from, to).messages {
                    // Only content that the dialect knows is sent, with a known role or type.
                    prop_assert_eq!(&to.copy_known(&written), &written, "{} to {}: {}", from, to, message);
                    let role = to.role(&written);
                    prop_assert!(!matches!(role, None | Some(Role::Other(_))), "{}: {}", to, written);
                }
            }
        }
        if let Some(dialect) = detected {
            let _ = (dialect.role(&message), dialect.author(&message), dialect.copy_known(&message));
        }
    }
}
