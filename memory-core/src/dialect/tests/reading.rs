//! The same exchange in every dialect, and special forms of each.

use super::*;

const ARGUMENTS: &str = r#"{"port":"Brest"}"#;

#[test]
fn exchange_reads_alike_in_every_dialect() {
    // Call, result, id, and whether the result names its tool.
    let exchanges = [
        (
            r#"{"role":"assistant","content":null,"tool_calls":[{"id":"call_7","type":"function","function":{"name":"get_tide","arguments":"{\"port\":\"Brest\"}"}}]}"#,
            r#"{"role":"tool","tool_call_id":"call_7","content":"4.1 m"}"#,
            "call_7",
            false,
        ),
        (
            r#"{"type":"function_call","id":"fc_1","call_id":"call_7","name":"get_tide","arguments":"{\"port\":\"Brest\"}"}"#,
            r#"{"type":"function_call_output","call_id":"call_7","output":"4.1 m"}"#,
            "call_7",
            false,
        ),
        (
            r#"{"role":"assistant","content":[{"type":"thinking","thinking":"","signature":"c2ln"},{"type":"tool_use","id":"toolu_7","name":"get_tide","input":{"port":"Brest"}}]}"#,
            r#"{"role":"user","content":[{"type":"tool_result","tool_use_id":"toolu_7","content":[{"type":"text","text":"4.1 m"}]},{"type":"text","text":"and at noon?"}]}"#,
            "toolu_7",
            false,
        ),
        (
            r#"{"role":"model","parts":[{"functionCall":{"name":"get_tide","args":{"port":"Brest"}},"thoughtSignature":"c2ln"}]}"#,
            r#"{"role":"user","parts":[{"functionResponse":{"name":"get_tide","response":{"result":"4.1 m"}}}]}"#,
            "-",
            true,
        ),
        (
            r#"{"role":"assistant","content":[{"toolUse":{"toolUseId":"t7","name":"get_tide","input":{"port":"Brest"}}}]}"#,
            r#"{"role":"user","content":[{"toolResult":{"toolUseId":"t7","status":"success","content":[{"text":"4.1 m"}]}}]}"#,
            "t7",
            false,
        ),
        (
            r#"{"role":"assistant","content":[{"type":"tool-call","toolCallId":"c7","toolName":"get_tide","input":{"port":"Brest"}}]}"#,
            r#"{"role":"tool","content":[{"type":"tool-result","toolCallId":"c7","toolName":"get_tide","output":{"type":"text","value":"4.1 m"}}]}"#,
            "c7",
            true,
        ),
        (
            r#"{"role":"assistant","created":1,"content":[{"type":"toolRequest","id":"r7","toolCall":{"status":"success","value":{"name":"get_tide","arguments":{"port":"Brest"}}}}]}"#,
            r#"{"role":"user","created":2,"content":[{"type":"toolResponse","id":"r7","toolResult":{"status":"success","value":[{"type":"text","text":"4.1 m"}]}}]}"#,
            "r7",
            false,
        ),
        (
            r#"{"type":"ai","content":"","tool_calls":[{"name":"get_tide","args":{"port":"Brest"},"id":"call_7","type":"tool_call"}]}"#,
            r#"{"type":"tool","content":"4.1 m","tool_call_id":"call_7","status":"success"}"#,
            "call_7",
            false,
        ),
        (
            r#"{"role":"assistant","content":"","tool_calls":[{"function":{"name":"get_tide","arguments":{"port":"Brest"}}}]}"#,
            r#"{"role":"tool","tool_name":"get_tide","content":"4.1 m"}"#,
            "-",
            true,
        ),
    ];
    for (call, result, id, named) in exchanges {
        let calls: Vec<_> =
            lines(call).into_iter().filter(|line| !line.starts_with("reasoning")).collect();
        assert_eq!(calls, [format!("call {id} get_tide {ARGUMENTS}")], "{call}");
        let name = if named { " (get_tide)" } else { "" };
        assert_eq!(lines(result)[0], format!("result {id}{name}: text 4.1 m"), "{result}");
        assert_eq!(role(&json(call)), Some(Role::Assistant), "{call}");
    }
    // In a user-interface message, call and result are one part.
    let message = r#"{"id":"m1","role":"assistant","parts":[{"type":"step-start"},{"type":"tool-get_tide","toolCallId":"c7","state":"output-available","input":{"port":"Brest"},"output":"4.1 m"}]}"#;
    assert_eq!(
        lines(message),
        [format!("call c7 get_tide {ARGUMENTS}"), "result c7 (get_tide): text 4.1 m".into()]
    );
}

#[test]
fn several_results_and_text_are_kept_in_order() {
    let message = r#"{"role":"user","content":[{"type":"tool_result","tool_use_id":"a","content":"one"},{"type":"tool_result","tool_use_id":"b","is_error":true},{"type":"text","text":"and now?"}]}"#;
    assert_eq!(lines(message), ["result a: text one", "result b failed: ", "text and now?"]);
    let message = r#"{"role":"assistant","content":[{"type":"text","text":"both"},{"type":"tool_use","id":"a","name":"f","input":{}},{"type":"tool_use","id":"b","name":"g","input":{"n":12345678901234567890123}}]}"#;
    assert_eq!(
        lines(message),
        ["text both", "call a f {}", r#"call b g {"n":12345678901234567890123}"#]
    );
}

#[test]
fn server_tools_are_provider_run() {
    let message = r#"{"role":"assistant","content":[{"type":"server_tool_use","id":"srvtoolu_1","name":"web_search","input":{"query":"tide"}},{"type":"web_search_tool_result","tool_use_id":"srvtoolu_1","content":[{"type":"web_search_result","title":"Tides","url":"https://example.org","encrypted_content":"c2VjcmV0"}]},{"type":"text","text":"High at noon."}]}"#;
    assert_eq!(
        lines(message),
        [
            r#"server call srvtoolu_1 web_search {"query":"tide"}"#,
            "server result srvtoolu_1: text Tides + text https://example.org",
            "text High at noon.",
        ]
    );
    let message = r#"{"role":"assistant","content":[{"type":"mcp_tool_use","id":"m1","name":"f","server_name":"s","input":{}},{"type":"mcp_tool_result","tool_use_id":"m1","is_error":false,"content":[{"type":"text","text":"ok"}]}]}"#;
    assert_eq!(lines(message), ["server call m1 f {}", "server result m1: text ok"]);
    let item = r#"{"type":"web_search_call","id":"ws_1","status":"completed","action":{"type":"search","query":"q"}}"#;
    assert_eq!(lines(item), [r#"server call ws_1 web_search {"type":"search","query":"q"}"#]);
    let item = r#"{"type":"mcp_call","id":"mcp_1","name":"f","server_label":"s","arguments":"{}","output":"ok","error":null}"#;
    assert_eq!(lines(item), ["server call mcp_1 f {}", "server result mcp_1: text ok"]);
    let item =
        r#"{"type":"image_generation_call","id":"ig_1","status":"completed","result":"QUJD"}"#;
    assert_eq!(
        lines(item),
        ["server call ig_1 image_generation ", "server result ig_1: Image data QUJD"]
    );
    let message = r#"{"role":"model","parts":[{"executableCode":{"language":"PYTHON","code":"1+1"}},{"codeExecutionResult":{"outcome":"OUTCOME_OK","output":"2"}}]}"#;
    assert_eq!(
        lines(message),
        [
            r#"server call - code_execution {"language":"PYTHON","code":"1+1"}"#,
            "server result - (code_execution): text 2",
        ]
    );
    let message = r#"{"role":"assistant","content":[{"type":"tool-call","toolCallId":"c","toolName":"f","input":{},"providerExecuted":true},{"type":"tool-result","toolCallId":"c","toolName":"f","output":{"type":"json","value":[1]}}]}"#;
    assert_eq!(lines(message), ["server call c f {}", "server result c (f): data [1]"]);
}

#[test]
fn responses_items_have_roles_by_their_type() {
    let cases = [
        (
            r#"{"type":"reasoning","id":"rs_1","summary":[{"type":"summary_text","text":"a"},{"type":"summary_text","text":"b"}],"encrypted_content":"gAAA"}"#,
            Role::Assistant,
            "reasoning \"a\\nb\" gAAA",
        ),
        (
            r#"{"type":"custom_tool_call","call_id":"c","name":"sh","input":"ls -l"}"#,
            Role::Assistant,
            "call c sh ls -l",
        ),
        (
            r#"{"type":"custom_tool_call_output","call_id":"c","output":"a.txt"}"#,
            Role::Tool,
            "result c: text a.txt",
        ),
        (
            r#"{"type":"local_shell_call","id":"lsh_1","call_id":"c","action":{"type":"exec"},"status":"completed"}"#,
            Role::Assistant,
            r#"call lsh_1 local_shell {"type":"exec"}"#,
        ),
        (
            r#"{"type":"local_shell_call_output","id":"lsh_1","output":"done"}"#,
            Role::Tool,
            "result lsh_1: text done",
        ),
        (
            r#"{"type":"computer_call","id":"cu_1","call_id":"c","action":{"type":"screenshot"}}"#,
            Role::Assistant,
            r#"call c computer {"type":"screenshot"}"#,
        ),
        (
            r#"{"type":"computer_call_output","call_id":"c","output":{"type":"computer_screenshot","image_url":"data:image/png;base64,QUJD"}}"#,
            Role::Tool,
            "result c: Image data QUJD <image/png>",
        ),
        (
            r#"{"type":"shell_call_output","call_id":"c","output":[{"stdout":"a","stderr":"","outcome":{"type":"exit","exit_code":0}}]}"#,
            Role::Tool,
            "result c: text a",
        ),
        (
            r#"{"type":"item_reference","id":"msg_1"}"#,
            Role::Assistant,
            r#"other {"type":"item_reference","id":"msg_1"}"#,
        ),
        (
            r#"{"type":"message","role":"developer","content":[{"type":"input_text","text":"be brief"}]}"#,
            Role::Developer,
            "text be brief",
        ),
        (
            r#"{"role":"user","content":[{"type":"input_image","image_url":"https://example.org/a.png","detail":"low"}]}"#,
            Role::User,
            "Image url https://example.org/a.png <low>",
        ),
        (
            r#"{"type":"message","role":"assistant","content":[{"type":"refusal","refusal":"no"}]}"#,
            Role::Assistant,
            "Refusal no",
        ),
    ];
    for (text, expected, line) in cases {
        assert_eq!(role(&json(text)), Some(expected), "{text}");
        assert_eq!(lines(text), [line], "{text}");
    }
}

#[test]
fn roles_are_trimmed_and_without_case() {
    for (text, expected) in [
        (r#"{"role":"User","content":"hi"}"#, Role::User),
        (r#"{"role":"USER","content":"hi"}"#, Role::User),
        (r#"{"role":" user","content":"hi"}"#, Role::User),
        (r#"{"role":"human","content":"hi"}"#, Role::User),
        (r#"{"role":"ai","content":"hi"}"#, Role::Assistant),
        (r#"{"role":"Model","parts":[{"text":"hi"}]}"#, Role::Assistant),
        (r#"{"parts":[{"text":"hi"}]}"#, Role::User),
        (r#"{"role":"narrator","content":"hi"}"#, Role::Other("narrator".into())),
        (
            r#"{"role":"human","content":[{"type":"tool_use","id":"a","name":"f","input":{}}]}"#,
            Role::Other("human".into()),
        ),
    ] {
        assert_eq!(role(&json(text)), Some(expected), "{text}");
    }
    assert_eq!(role(&json(r#"{"role":" ","content":"hi"}"#)), None);
    let narrator = json(r#"{"role":"narrator","content":"hi"}"#);
    let written = convert(&narrator, Dialect::Chat, Dialect::Chat);
    assert_eq!(written.messages, [json(r#"{"role":"user","content":"hi"}"#)]);
    assert_eq!(written.losses, [Loss::Role]);
}

#[test]
fn empty_ids_are_none() {
    for message in [
        r#"{"role":"assistant","tool_calls":[{"id":"","type":"function","function":{"name":"f","arguments":"{}"}}]}"#,
        r#"{"role":"assistant","content":[{"type":"tool_use","id":"","name":"f","input":{}}]}"#,
        r#"{"role":"assistant","tool_calls":[{"type":"function","function":{"name":"f","arguments":{}}}]}"#,
        r#"{"role":"assistant","content":null,"function_call":{"name":"f","arguments":"{}"}}"#,
    ] {
        assert_eq!(lines(message), ["call - f {}"], "{message}");
    }
    for message in [
        r#"{"role":"tool","tool_call_id":"","name":"f","content":"r"}"#,
        r#"{"role":"function","name":"f","content":"r"}"#,
    ] {
        assert_eq!(lines(message), ["result - (f): text r"], "{message}");
    }
}

#[test]
fn roles_are_written_in_api_form() {
    let item = json(r#"{"type":"message","role":" User","content":"hi"}"#);
    let written = convert(&item, Dialect::Responses, Dialect::Responses);
    assert_eq!(written.messages, [json(r#"{"type":"message","role":"user","content":"hi"}"#)]);
}

#[test]
fn assistant_message_is_no_result() {
    let message = r#"{"role":"assistant","tool_call_id":"x","content":"so"}"#;
    assert_eq!(lines(message), ["text so"]);
}

#[test]
fn data_url_without_base64_stays_an_address() {
    let message = r#"{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/svg+xml,%3Csvg%3E"}}]}"#;
    assert_eq!(lines(message), ["Image url data:image/svg+xml,%3Csvg%3E"]);
}

#[test]
fn arguments_as_object_become_text_in_chat() {
    let call = r#"{"role":"assistant","content":"","tool_calls":[{"function":{"name":"f","arguments":{"n":1.0}}}]}"#;
    let written = convert(&json(call), Dialect::Chat, Dialect::Chat);
    let expected = r#"{"role":"assistant","content":null,"tool_calls":[{"type":"function","function":{"name":"f","arguments":"{\"n\":1.0}"}}]}"#;
    assert_eq!(written.messages, [json(expected)]);
    assert_eq!(written.losses, [Loss::IdMissing]);
}

#[test]
fn user_interface_states_are_read() {
    let part = |fields: &str| {
        lines(&format!(
            r#"{{"id":"m","role":"assistant","parts":[{{"type":"dynamic-tool","toolName":"f","toolCallId":"c",{fields}}}]}}"#
        ))
    };
    assert_eq!(part(r#""state":"input-available","input":{}"#), ["call c f {}"]);
    assert_eq!(part(r#""state":"approval-requested","input":{}"#), ["call c f {}"]);
    assert_eq!(
        part(r#""state":"output-error","input":{},"errorText":"down""#),
        ["call c f {}", "result c (f) failed: text down"]
    );
    let old = r#"{"id":"m","role":"assistant","content":"","toolInvocations":[{"state":"result","toolCallId":"c","toolName":"f","args":{"a":1},"result":{"b":2}}]}"#;
    assert_eq!(lines(old), [r#"call c f {"a":1}"#, r#"result c (f): data {"b":2}"#]);
    let old = r#"{"id":"m","role":"assistant","content":"","parts":[{"type":"tool-invocation","toolInvocation":{"state":"call","toolCallId":"c","toolName":"f","args":{}}}]}"#;
    assert_eq!(lines(old), ["call c f {}"]);
}

#[test]
fn gemini_errors_and_data_are_read() {
    let response = |response: &str| {
        lines(&format!(
            r#"{{"role":"user","parts":[{{"functionResponse":{{"id":"i","name":"f","response":{response}}}}}]}}"#
        ))
    };
    assert_eq!(response(r#"{"output":"rain"}"#), ["result i (f): text rain"]);
    assert_eq!(response(r#"{"error":"down"}"#), ["result i (f) failed: text down"]);
    assert_eq!(response(r#"{"a":1,"result":2}"#), [r#"result i (f): data {"a":1,"result":2}"#]);
    assert_eq!(response("{}"), ["result i (f): "]);
    assert_eq!(
        response(r#"{"content":[{"type":"image","data":"QUJD","mimeType":"image/png"}]}"#),
        ["result i (f): Image data QUJD <image/png>"]
    );
    let snake = r#"{"role":"model","parts":[{"function_call":{"name":"f","args":{}}},{"text":"so","thought":true,"thought_signature":"c2ln"}]}"#;
    assert_eq!(lines(snake), ["call - f {}", "reasoning \"so\" c2ln"]);
}
