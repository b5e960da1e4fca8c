//! Messages with content that only their dialect has.

use super::round_trip::{check_identity, read_all};
use super::*;

/// Native messages that the generator does not make.
const NATIVE: &[(Dialect, &str)] = &[
    (Dialect::Chat, r#"{"role":"assistant","content":"391","reasoning_content":"step"}"#),
    (
        Dialect::Chat,
        r#"{"role":"assistant","content":"391","reasoning_details":[{"type":"reasoning.text","text":"a","signature":"s"},{"type":"reasoning.encrypted","data":"ZGF0YQ=="}]}"#,
    ),
    (Dialect::Chat, r#"{"role":"assistant","content":null,"refusal":"no"}"#),
    (
        Dialect::Chat,
        r#"{"role":"assistant","content":null,"function_call":{"name":"f","arguments":"{}"}}"#,
    ),
    (Dialect::Chat, r#"{"role":"function","name":"f","content":"r"}"#),
    (Dialect::Chat, r#"{"role":"tool","name":"f","content":"r"}"#),
    (Dialect::Chat, r#"{"role":"assistant","content":null,"audio":{"id":"a"}}"#),
    (
        Dialect::Chat,
        r#"{"role":"assistant","content":null,"tool_calls":[{"id":"c","type":"custom","custom":{"name":"sh","input":"ls"}}]}"#,
    ),
    (
        Dialect::Chat,
        r#"{"role":"user","content":[{"type":"text","text":"a"},{"type":"image_url","image_url":{"url":"https://example.org/a.png","detail":"low"}},{"type":"file","file":{"file_id":"f"}}]}"#,
    ),
    (Dialect::Chat, r#"{"role":"developer","content":"be brief"}"#),
    (
        Dialect::Responses,
        r#"{"type":"reasoning","summary":[{"type":"summary_text","text":"a"}],"encrypted_content":"gAAA"}"#,
    ),
    (Dialect::Responses, r#"{"type":"custom_tool_call","call_id":"c","name":"sh","input":"ls"}"#),
    (Dialect::Responses, r#"{"type":"custom_tool_call_output","call_id":"c","output":"a"}"#),
    (
        Dialect::Responses,
        r#"{"type":"message","role":"assistant","content":[{"type":"refusal","refusal":"no"}]}"#,
    ),
    (
        Dialect::Responses,
        r#"{"type":"function_call_output","call_id":"c","output":[{"type":"input_text","text":"a"},{"type":"input_image","image_url":"https://example.org/a.png","detail":"high"},{"type":"input_file","file_id":"f"}]}"#,
    ),
    (
        Dialect::Anthropic,
        r#"{"role":"assistant","content":[{"type":"thinking","thinking":"","signature":"c2ln"},{"type":"thinking","thinking":"a","signature":"c2ln"},{"type":"redacted_thinking","data":"ZGF0YQ=="},{"type":"tool_use","id":"t","name":"f","input":{"a":1.0}}]}"#,
    ),
    (
        Dialect::Anthropic,
        r#"{"role":"user","content":[{"type":"document","source":{"type":"text","media_type":"text/plain","data":"words"},"title":"t","context":"c"},{"type":"document","source":{"type":"content","content":[{"type":"text","text":"in"}]}},{"type":"image","source":{"type":"url","url":"https://example.org/a.png"}},{"type":"image","source":{"type":"file","file_id":"f"}}]}"#,
    ),
    (
        Dialect::Anthropic,
        r#"{"role":"user","content":[{"type":"tool_result","tool_use_id":"t","content":[{"type":"text","text":"a"},{"type":"image","source":{"type":"base64","media_type":"image/png","data":"QUJD"}}],"is_error":true},{"type":"text","text":"b"}]}"#,
    ),
    (
        Dialect::Gemini,
        r#"{"role":"model","parts":[{"text":"a","thought":true,"thoughtSignature":"c2ln"},{"functionCall":{"name":"f","args":{"a":1.0}}}]}"#,
    ),
    (
        Dialect::Gemini,
        r#"{"role":"user","parts":[{"functionResponse":{"id":"i","name":"f","response":{"error":{"error":1}},"parts":[{"inlineData":{"mimeType":"image/png","data":"QUJD"}}]}},{"functionResponse":{"name":"f","response":{"result":{"result":5}}}},{"fileData":{"mimeType":"video/mp4","fileUri":"https://youtu.be/x"}}]}"#,
    ),
    (
        Dialect::Bedrock,
        r#"{"role":"assistant","content":[{"reasoningContent":{"reasoningText":{"text":"a","signature":"s"}}},{"reasoningContent":{"redactedContent":"ZGF0YQ=="}},{"toolUse":{"toolUseId":"t","name":"f","input":{}}}]}"#,
    ),
    (
        Dialect::Bedrock,
        r#"{"role":"user","content":[{"toolResult":{"toolUseId":"t","content":[{"json":{"a":1.0}},{"text":"b"},{"image":{"format":"png","source":{"bytes":"QUJD"}}}],"status":"error"}},{"document":{"format":"pdf","name":"a","source":{"s3Location":{"uri":"s3://b/a"}}}}]}"#,
    ),
    (
        Dialect::AiSdk,
        r#"{"role":"assistant","content":[{"type":"reasoning","text":"a"},{"type":"tool-call","toolCallId":"c","toolName":"f","input":{"a":1.0}}]}"#,
    ),
    (
        Dialect::AiSdk,
        r#"{"role":"tool","content":[{"type":"tool-result","toolCallId":"c","toolName":"f","output":{"type":"error-json","value":{"a":1}}},{"type":"tool-result","toolCallId":"d","toolName":"f","output":{"type":"content","value":[{"type":"text","text":"a"},{"type":"media","data":"QUJD","mediaType":"image/png"}]}}]}"#,
    ),
    (
        Dialect::AiSdk,
        r#"{"id":"m","role":"assistant","parts":[{"type":"text","text":"a"},{"type":"tool-f","toolCallId":"c","state":"output-available","input":{"x":1},"output":{"y":2}},{"type":"text","text":"b"}]}"#,
    ),
];

/// The subset of these whose parts cannot be built without their native JSON.
const ONLY_NATIVE: &[(Dialect, &str)] = &[
    (
        Dialect::Responses,
        r#"{"type":"mcp_call","id":"mcp_1","name":"f","server_label":"s","arguments":"{}","output":"ok"}"#,
    ),
    (
        Dialect::Responses,
        r#"{"type":"computer_call_output","call_id":"c","output":{"type":"computer_screenshot","image_url":"data:image/png;base64,QUJD"}}"#,
    ),
    (Dialect::Responses, r#"{"type":"item_reference","id":"msg_1"}"#),
    (Dialect::Responses, r#"{"type":"compaction","encrypted_content":"gAAA"}"#),
    (
        Dialect::Responses,
        r#"{"type":"local_shell_call","id":"lsh_1","call_id":"c","action":{"type":"exec"},"status":"completed"}"#,
    ),
    (
        Dialect::Anthropic,
        r#"{"role":"assistant","content":[{"type":"server_tool_use","id":"s","name":"web_search","input":{"query":"q"}},{"type":"web_search_tool_result","tool_use_id":"s","content":[{"type":"web_search_result","title":"t","url":"u","encrypted_content":"c2VjcmV0"}]},{"type":"text","text":"a","citations":[{"type":"web_search_result_location","cited_text":"q"}],"cache_control":{"type":"ephemeral"}}]}"#,
    ),
    (
        Dialect::Anthropic,
        r#"{"role":"user","content":[{"type":"search_result","source":"s","title":"t","content":[{"type":"text","text":"hit"}]},{"type":"container_upload","file_id":"f"}]}"#,
    ),
    (
        Dialect::Anthropic,
        r#"{"role":"assistant","content":[{"type":"compaction","content":"so far"}]}"#,
    ),
    (
        Dialect::Gemini,
        r#"{"role":"model","parts":[{"executableCode":{"language":"PYTHON","code":"1"}},{"codeExecutionResult":{"outcome":"OUTCOME_OK","output":"1"}},{"functionCall":{"id":"i","name":"f","args":{}},"thoughtSignature":"c2ln"}]}"#,
    ),
    (
        Dialect::Bedrock,
        r#"{"role":"user","content":[{"text":"a"},{"cachePoint":{"type":"default"}},{"guardContent":{"text":{"text":"g"}}},{"image":{"format":"png","source":{"bytes":[1,2]}}}]}"#,
    ),
    (
        Dialect::AiSdk,
        r#"{"role":"assistant","content":[{"type":"reasoning","text":"a","providerOptions":{"anthropic":{"signature":"s"}}},{"type":"tool-call","toolCallId":"c","toolName":"f","input":{},"providerExecuted":true},{"type":"tool-result","toolCallId":"c","toolName":"f","output":{"type":"text","value":"r"}}]}"#,
    ),
];

#[test]
fn native_messages_round_trip() {
    for (dialect, text) in NATIVE {
        let message = json(text);
        assert_eq!(Dialect::detect(&message), Some(*dialect), "{text}");
        check_identity(*dialect, &message);
    }
    for (dialect, text) in NATIVE.iter().chain(ONLY_NATIVE) {
        let message = json(text);
        assert_eq!(Dialect::detect(&message), Some(*dialect), "{text}");
        let same = convert(&message, *dialect, *dialect);
        // A result that is linked by name only lacks an id in both dialects.
        let lost = same.losses.iter().find(|loss| **loss != Loss::IdMissing);
        assert_eq!(lost, None, "{text}");
        if message.get("parts").is_none() || *dialect == Dialect::Gemini {
            assert_eq!(same.messages, [message], "{text}");
        }
    }
}

#[test]
fn native_conversions_keep_calls_and_results() {
    for (from, text) in NATIVE {
        let message = json(text);
        let own = from.parts(&message);
        let count = |parts: &[Part<'_>]| {
            let calls = parts.iter().filter(|part| matches!(part, Part::Call(_))).count();
            let results = parts.iter().filter(|part| matches!(part, Part::Result(_))).count();
            (calls, results)
        };
        for to in Dialect::ALL {
            let written = convert(&message, *from, to);
            let read = read_all(to, &written.messages);
            assert_eq!(count(&read), count(&own), "{from} to {to}: {text}");
            for message in &written.messages {
                assert_eq!(&to.copy_known(message), message, "{from} to {to}: {text}");
            }
        }
    }
}
