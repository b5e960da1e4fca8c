//! Random histories: all dialects, mixed, complete and incomplete.

use proptest::prelude::*;

use crate::json::Json;
use crate::message::Message;

/// Messages without calls. `$t` is a text, and `$i` an image.
const SAID: &[&str] = &[
    r#"{"role":"user","content":"$t"}"#,
    r#"{"role":"user","content":"$t","name":"Ann Example, Oslo"}"#,
    r#"{"role":" USER ","content":"$t","conversation_id":7,"index":1}"#,
    r#"{"role":"narrator","content":"$t"}"#,
    r#"{"role":"system","content":"$t"}"#,
    r#"{"role":"developer","content":"$t"}"#,
    r#"{"role":"system","content":[{"type":"text","text":"$t"},{"type":"text","text":"more"}]}"#,
    r#"{"role":"assistant","content":"$t"}"#,
    r#"{"role":"assistant","content":"$t","name":"planner"}"#,
    r#"{"role":"assistant","content":"$t","tool_calls":[],"function_call":null,"refusal":null}"#,
    r#"{"role":"assistant","content":null,"refusal":"$t"}"#,
    r#"{"role":"assistant","content":[{"type":"refusal","refusal":"$t"}]}"#,
    r#"{"role":"assistant","content":"$t","reasoning_content":"thought"}"#,
    r#"{"role":"assistant","content":"","reasoning_content":"thought"}"#,
    r#"{"role":"assistant","content":"$t","reasoning_details":[{"type":"reasoning.text","text":"x","signature":"s"}]}"#,
    r#"{"role":"assistant","content":"$t","audio":{"id":"audio_1","transcript":"said"}}"#,
    r#"{"role":"assistant","content":[{"type":"thinking","thinking":[{"type":"text","text":"x"}]},{"type":"text","text":"$t"}]}"#,
    r#"{"role":"user","content":[{"type":"text","text":"$t","cache_control":{"type":"ephemeral"}},{"type":"image_url","image_url":{"url":"https://example.com/a.png","detail":"high"}}]}"#,
    r#"{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,iVBORw0KGgo="}}]}"#,
    r#"{"role":"user","content":[{"type":"image_url","image_url":"https://example.com/a.png"}]}"#,
    r#"{"role":"user","content":[{"type":"input_audio","input_audio":{"data":"UklGRg==","format":"ogg"}},{"type":"file","file":{"filename":"a.pdf","file_data":"data:application/pdf;base64,JVBERi0="}}]}"#,
    r#"{"role":"user","content":[{"type":"video_url","video_url":{"url":"https://example.com/a.mp4"}}]}"#,
    r#"{"role":"user","content":[{"type":"file","file":{"file_id":"file-1"}}]}"#,
    r#"{"role":"user","content":[{"type":"file","file":{"filename":"a.txt","file_data":"aGk="}},{"type":"file","file":{"file_data":"aGk="}}]}"#,
    r#"{"role":"user","content":[{"type":"file","file":{"filename":"r.docx","file_data":"UEsDBA=="}},{"type":"file","file":{"filename":"r.json","file_data":"e30="}},{"type":"file","file":{"filename":"r.png","file_data":"iVBORw0KGgo="}}]}"#,
    r#"{"type":"message","role":"user","content":[{"type":"input_file","filename":"a.pdf","file_data":"JVBERi0="}]}"#,
    r#"{"role":"user","content":[$i,$i,$i,$i,$i,$i,$i,$i,$i,$i,$i]}"#,
    r#"{"role":"user","content":""}"#,
    r#"{"role":"user","content":"  "}"#,
    r#"{"role":"assistant","content":null}"#,
    r#"{"role":"assistant"}"#,
    r#"{"role":"user","content":[]}"#,
    r#"{"role":"user","content":[{"type":"text","text":""},{"type":"text","text":"$t"}]}"#,
    r#"{"role":"user","content":"$t","images":["iVBORw0KGgo="]}"#,
    r#"{"role":"assistant","content":"$t","images":["iVBORw0KGgo="]}"#,
    r#"{"role":"assistant","content":"","images":[{"type":"image_url","image_url":{"url":"data:image/png;base64,iVBORw0KGgo="}}]}"#,
    // Responses
    r#"{"type":"message","role":"user","content":[{"type":"input_text","text":"$t"}]}"#,
    r#"{"type":"message","role":"user","content":[{"type":"input_image","image_url":"https://example.com/a.png","detail":"low"}]}"#,
    r#"{"type":"message","id":"msg_1","role":"assistant","status":"completed","content":[{"type":"output_text","text":"$t","annotations":[]}]}"#,
    r#"{"type":"reasoning","id":"rs_1","summary":[{"type":"summary_text","text":"thought"}],"encrypted_content":"gAAA"}"#,
    r#"{"type":"reasoning","summary":[],"status":null}"#,
    r#"{"type":"web_search_call","id":"ws_1","status":"completed","action":{"type":"search","query":"x"}}"#,
    r#"{"type":"item_reference","id":"msg_9"}"#,
    r#"{"type":"message","role":"developer","content":"$t"}"#,
    // Anthropic
    r#"{"role":"user","content":[{"type":"text","text":"$t","cache_control":{"type":"ephemeral"}}]}"#,
    r#"{"role":"user","content":[{"type":"image","source":{"type":"base64","media_type":"image/png","data":"iVBORw0KGgo="}}]}"#,
    r#"{"role":"user","content":[{"type":"image","source":{"type":"base64","media_type":"image/tiff","data":"iVBORw0KGgo="}}]}"#,
    r#"{"role":"user","content":[{"type":"document","source":{"type":"text","media_type":"text/plain","data":"$t"},"title":"x","citations":{"enabled":true}}]}"#,
    r#"{"role":"user","content":[{"type":"document","source":{"type":"base64","media_type":"application/pdf","data":"JVBERi0="}}]}"#,
    r#"{"role":"user","content":[{"type":"search_result","source":"https://example.com","title":"x","content":[{"type":"text","text":"$t"}]}]}"#,
    r#"{"role":"assistant","content":[{"type":"thinking","thinking":"x","signature":"sig"},{"type":"text","text":"$t"}]}"#,
    r#"{"role":"assistant","content":[{"type":"redacted_thinking","data":"abc"}]}"#,
    r#"{"role":"assistant","content":[{"type":"thinking","thinking":"x","signature":""},{"type":"text","text":"$t","citations":[{"type":"char_location","cited_text":"x"}]}]}"#,
    r#"{"role":"assistant","content":[{"type":"text","text":"$t","citations":[{"url":"https://example.com"}]}]}"#,
    r#"{"role":"assistant","content":[{"type":"server_tool_use","id":"srvtoolu_1","name":"web_search","input":{"query":"x"}},{"type":"web_search_tool_result","tool_use_id":"srvtoolu_1","content":[]},{"type":"text","text":"$t"}]}"#,
    r#"{"role":"assistant","content":[{"type":"text","text":"$t"},{"type":"server_tool_use","id":"srvtoolu_1","name":"web_search","input":{"query":"x"}}]}"#,
    // Gemini
    r#"{"role":"user","parts":[{"text":"$t"}]}"#,
    r#"{"parts":[{"text":"$t"},{"inlineData":{"mimeType":"image/png","data":"iVBORw0KGgo="}}]}"#,
    r#"{"role":"model","parts":[{"text":"x","thought":true},{"text":"$t","thoughtSignature":"c2ln"}]}"#,
    r#"{"role":"model","parts":[{"text":"$t"},{"executableCode":{"language":"PYTHON","code":"1"}},{"codeExecutionResult":{"outcome":"OUTCOME_OK","output":"1"}}]}"#,
    r#"{"role":"user","parts":[{"fileData":{"mimeType":"video/mp4","fileUri":"gs://b/v.mp4"}}]}"#,
    // Bedrock
    r#"{"role":"user","content":[{"text":"$t"},{"cachePoint":{"type":"default"}}]}"#,
    r#"{"role":"user","content":[{"document":{"format":"pdf","name":"a b","source":{"bytes":"JVBERi0="}}}]}"#,
    r#"{"role":"user","content":[{"image":{"format":"png","source":{"bytes":"iVBORw0KGgo="}}}]}"#,
    r#"{"role":"assistant","content":[{"reasoningContent":{"reasoningText":{"text":"x","signature":"sig"}}},{"text":"$t"}]}"#,
    r#"{"role":"assistant","content":[{"text":"$t"},{"reasoningContent":{"reasoningText":{"text":"x"}}}]}"#,
    // AI SDK
    r#"{"id":"m1","role":"user","parts":[{"type":"text","text":"$t"}]}"#,
    r#"{"id":"m1","role":"assistant","parts":[{"type":"step-start"},{"type":"reasoning","text":"x"},{"type":"text","text":"$t"}]}"#,
    r#"{"role":"user","content":[{"type":"text","text":"$t"},{"type":"file","data":"JVBERi0=","mediaType":"application/pdf"}]}"#,
];

/// Messages with calls. `$1` and `$2` are ids, `$n` is the name of a function.
const CALLS: &[&str] = &[
    r#"{"role":"assistant","content":null,"tool_calls":[{"id":"$1","type":"function","function":{"name":"$n","arguments":"{\"a\":1}"}}]}"#,
    r#"{"role":"assistant","content":"$t","tool_calls":[{"id":"$1","type":"function","function":{"name":"$n","arguments":"{}"}},{"id":"$2","type":"function","function":{"name":"g","arguments":"not json"}}]}"#,
    r#"{"role":"assistant","content":"","reasoning_content":"x","tool_calls":[{"id":"$1","type":"function","function":{"name":"$n","arguments":"[1]"},"index":0}]}"#,
    r#"{"role":"assistant","content":"","tool_calls":[{"function":{"name":"$n","arguments":{"a":1}}}]}"#,
    r#"{"role":"assistant","content":null,"function_call":{"name":"$n","arguments":"{}"}}"#,
    r#"{"role":"assistant","content":null,"tool_calls":[{"id":"$1","type":"custom","custom":{"name":"$n","input":"free text"}}]}"#,
    r#"{"type":"function_call","id":"fc_1","call_id":"$1","name":"$n","arguments":"{}","status":"completed"}"#,
    r#"{"type":"function_call","call_id":"$2","name":"$n","arguments":"{\"b\":2}"}"#,
    r#"{"type":"custom_tool_call","call_id":"$1","name":"$n","input":"free"}"#,
    r#"{"type":"computer_call","id":"cu_1","call_id":"$1","action":{"type":"screenshot"},"pending_safety_checks":[],"status":"completed"}"#,
    r#"{"type":"local_shell_call","id":"$1","call_id":"$1","action":{"type":"exec","command":["ls"]},"status":"completed"}"#,
    r#"{"role":"assistant","content":[{"type":"text","text":"$t"},{"type":"tool_use","id":"$1","name":"$n","input":{"a":1}},{"type":"tool_use","id":"$2","name":"g","input":{}}]}"#,
    r#"{"role":"assistant","content":[{"type":"thinking","thinking":"x","signature":"sig"},{"type":"tool_use","id":"$1","name":"$n","input":{"a":1}}]}"#,
    r#"{"role":"model","parts":[{"text":"$t"},{"functionCall":{"name":"$n","args":{"a":1}},"thoughtSignature":"c2ln"}]}"#,
    r#"{"role":"model","parts":[{"functionCall":{"id":"$1","name":"$n","args":{}}},{"functionCall":{"id":"$2","name":"g"}}]}"#,
    r#"{"role":"assistant","content":[{"toolUse":{"toolUseId":"$1","name":"$n","input":{"a":1}}}]}"#,
    r#"{"role":"assistant","content":[{"type":"text","text":"$t"},{"type":"tool-call","toolCallId":"$1","toolName":"$n","input":{"a":1}}]}"#,
    r#"{"id":"m2","role":"assistant","parts":[{"type":"text","text":"$t"},{"type":"tool-$n","toolCallId":"$1","state":"output-available","input":{"a":1},"output":{"b":2}},{"type":"text","text":"after"}]}"#,
    r#"{"id":"m2","role":"assistant","parts":[{"type":"tool-$n","toolCallId":"$1","state":"input-available","input":{"a":1}}]}"#,
];

/// Messages with results.
const RESULTS: &[&str] = &[
    r#"{"role":"tool","tool_call_id":"$1","content":"$t"}"#,
    r#"{"role":"tool","tool_call_id":"$2","content":"","name":"$n"}"#,
    r#"{"role":"tool","name":"$n","content":"$t"}"#,
    r#"{"role":"tool","content":"$t"}"#,
    r#"{"role":"tool","tool_name":"$n","content":"$t","images":["iVBORw0KGgo="]}"#,
    r#"{"role":"tool","tool_call_id":"$1","content":[{"type":"text","text":"$t"},{"type":"text","text":"x"}]}"#,
    r#"{"role":"tool","tool_call_id":"$1","content":"[{\"type\":\"image\",\"data\":\"iVBORw0KGgo=\",\"mimeType\":\"image/png\"}]"}"#,
    r#"{"role":"function","name":"$n","content":"$t"}"#,
    r#"{"type":"function_call_output","call_id":"$1","output":"$t"}"#,
    r#"{"type":"function_call_output","call_id":"$2","output":[{"type":"input_text","text":"$t"},{"type":"input_image","image_url":"https://example.com/a.png"}]}"#,
    r#"{"type":"custom_tool_call_output","call_id":"$1","output":"$t"}"#,
    r#"{"type":"computer_call_output","call_id":"$1","output":{"type":"computer_screenshot","image_url":"https://example.com/s.png"}}"#,
    r#"{"type":"local_shell_call_output","id":"$1","output":"ok"}"#,
    r#"{"role":"user","content":[{"type":"tool_result","tool_use_id":"$1","content":"$t"},{"type":"tool_result","tool_use_id":"$2","is_error":true,"content":[{"type":"text","text":"bad"}]},{"type":"text","text":"and now?"}]}"#,
    r#"{"role":"user","content":[{"type":"tool_result","tool_use_id":"$1"}]}"#,
    r#"{"role":"user","content":[{"type":"tool_result","tool_use_id":"$1","is_error":"true","content":"$t"},{"type":"tool_result","tool_use_id":"$2","is_error":null}]}"#,
    r#"{"role":"user","content":[{"type":"text","text":"first"},{"type":"tool_result","tool_use_id":"$1","content":[{"type":"image","source":{"type":"base64","media_type":"image/png","data":"iVBORw0KGgo="}},{"type":"text","text":" "}]}]}"#,
    r#"{"role":"user","parts":[{"functionResponse":{"name":"$n","response":{"result":"$t"}}}]}"#,
    r#"{"role":"user","parts":[{"functionResponse":{"id":"$1","name":"$n","response":{"a":1}}},{"functionResponse":{"id":"$2","name":"g","response":{"error":"bad"}}},{"text":"and now?"}]}"#,
    r#"{"role":"user","content":[{"toolResult":{"toolUseId":"$1","content":[{"json":{"a":1}}],"status":"error"}},{"text":"x"}]}"#,
    r#"{"role":"user","content":[{"toolResult":{"toolUseId":"$2","content":[]}}]}"#,
    r#"{"role":"tool","content":[{"type":"tool-result","toolCallId":"$1","toolName":"$n","output":{"type":"json","value":[1,2]}}]}"#,
];

const IDS: &[&str] = &["a", "b", "call_0", "toolu_1", "", "id with space", "abcDEF123", "é", LONG];
const LONG: &str = "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx";
const IMAGE: &str =
    r#"{"type":"image_url","image_url":{"url":"data:image/png;base64,iVBORw0KGgo="}}"#;
const NAMES: &[&str] = &["get_tide", "get tide.now", "мой", LONG];
/// `#` becomes the number of the line, so that each text can be identified.
const TEXTS: &[&str] = &[
    "Hello ~#~",
    "~#~ The tide in Brest is high at noon, and low at six.",
    "~#~",
    "~#~ Прилив в Бресте в полдень, отлив в шесть часов. Прилив в Бресте в полдень, отлив в шесть часов. \
     Прилив в Бресте в полдень, отлив в шесть часов. Прилив в Бресте в полдень, отлив в шесть часов.",
];

fn line(templates: &'static [&'static str]) -> impl Strategy<Value = String> {
    let part = |list: &'static [&'static str]| proptest::sample::select(list);
    (part(templates), part(TEXTS), part(IDS), part(IDS), part(NAMES)).prop_map(
        |(template, text, one, two, name)| {
            let filled = template.replace("$t", text).replace("$1", one).replace("$i", IMAGE);
            filled.replace("$2", two).replace("$n", name)
        },
    )
}

/// Calls and the results that answer them, all, some or none, in these dialects.
fn round() -> impl Strategy<Value = Vec<String>> {
    let ids = proptest::sample::subsequence(IDS, 2);
    let part = |list: &'static [&'static str]| proptest::sample::select(list);
    let some = proptest::collection::vec(part(RESULTS), 0..3);
    (part(CALLS), some, ids, part(NAMES), part(TEXTS)).prop_map(
        |(call, results, ids, name, text)| {
            let fill = |template: &str| {
                let filled = template.replace("$1", ids[0]).replace("$2", ids[1]);
                filled.replace("$n", name).replace("$t", text)
            };
            std::iter::once(call).chain(results).map(fill).collect()
        },
    )
}

/// A history as lines of JSON.
pub(crate) fn lines(most: usize) -> impl Strategy<Value = Vec<String>> {
    let one = |templates| line(templates).prop_map(|line| vec![line]);
    let step = prop_oneof![
        4 => one(SAID),
        4 => round(),
        1 => one(CALLS),
        1 => one(RESULTS),
    ];
    proptest::collection::vec(step, 0..most).prop_map(|steps| {
        let lines = steps.concat().into_iter().zip(1..);
        lines.map(|(line, number)| line.replace('#', &format!("{number}"))).collect()
    })
}

/// A history as stored messages; messages that an append would refuse are read as if stored earlier.
pub(crate) fn messages(lines: &[String]) -> Vec<Message> {
    let parse = |line: &String| Message::from_any(Json::parse(line).unwrap());
    lines.iter().map(parse).collect()
}
