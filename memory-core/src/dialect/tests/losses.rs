//! Losses of conversions, as listed in the table of the module's docs.

use super::*;

/// Converts a message, and returns the results as text.
fn converted(text: &str, to: Dialect) -> (Vec<String>, Vec<Loss>) {
    let message = json(text);
    let from = Dialect::detect(&message).unwrap();
    let written = convert(&message, from, to);
    (written.messages.iter().map(ToString::to_string).collect(), written.losses)
}

#[test]
fn foreign_reasoning_is_dropped() {
    let message = r#"{"role":"assistant","content":[{"type":"thinking","thinking":"a","signature":"s"},{"type":"text","text":"b"}]}"#;
    for to in Dialect::ALL.into_iter().filter(|to| *to != Dialect::Anthropic) {
        let (messages, losses) = converted(message, to);
        assert_eq!(losses, [Loss::Reasoning], "{to}");
        assert_eq!(all_lines(to, &[json(&messages[0])]), ["text b"], "{to}");
    }
}

#[test]
fn foreign_server_tools_are_dropped_in_pairs() {
    let message = r#"{"role":"assistant","content":[{"type":"server_tool_use","id":"s","name":"web_search","input":{}},{"type":"web_search_tool_result","tool_use_id":"s","content":[]},{"type":"text","text":"b"}]}"#;
    for to in Dialect::ALL.into_iter().filter(|to| *to != Dialect::Anthropic) {
        let (messages, losses) = converted(message, to);
        assert_eq!(losses, [Loss::ProviderRun, Loss::ProviderRun], "{to}");
        assert_eq!(all_lines(to, &[json(&messages[0])]), ["text b"], "{to}");
    }
}

#[test]
fn server_tools_without_native_json_are_dropped() {
    let call = CallPart { provider_run: true, ..CallPart::new(Some("s"), "f", Arguments::Missing) };
    let result =
        ResultPart { provider_run: true, ..ResultPart::new(Some("s"), Some("f"), Vec::new()) };
    let parts = [Part::Call(call), Part::Result(result)];
    for dialect in Dialect::ALL {
        let written = dialect.write(&Role::Assistant, &parts);
        assert_eq!(written.messages, [], "{dialect}");
        assert_eq!(written.losses, [Loss::ProviderRun, Loss::ProviderRun], "{dialect}");
    }
}

#[test]
fn media_of_results_move_behind_all_results() {
    let message = r#"{"role":"user","content":[{"type":"tool_result","tool_use_id":"a","content":[{"type":"text","text":"one"},{"type":"image","source":{"type":"base64","media_type":"image/png","data":"QUJD"}}]},{"type":"tool_result","tool_use_id":"b","content":"two"},{"type":"text","text":"now?"}]}"#;
    let (messages, losses) = converted(message, Dialect::Chat);
    assert_eq!(
        messages,
        [
            r#"{"role":"tool","tool_call_id":"a","content":[{"type":"text","text":"one"},{"type":"text","text":"[see the attachment in the next message]"}]}"#,
            r#"{"role":"tool","tool_call_id":"b","content":"two"}"#,
            r#"{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,QUJD"}},{"type":"text","text":"now?"}]}"#,
        ]
    );
    assert_eq!(losses, [Loss::MediaMoved, Loss::ResultsSplit]);
}

/// Sent unchanged, the base64 would count as text.
#[test]
fn base64_within_data_is_sent_as_media() {
    let image = r#"{"type":"image","data":"QUJD","mimeType":"image/png"}"#;
    let text = Json::from(format!("[{image}]")).to_string();
    let chat = format!(r#"{{"role":"tool","tool_call_id":"c","content":{text}}}"#);
    let (messages, losses) = converted(&chat, Dialect::Chat);
    assert_eq!(losses, [Loss::MediaMoved]);
    assert!(!messages[0].contains("QUJD"), "{messages:?}");
    assert!(messages[1].contains(r#""image_url""#), "{messages:?}");
    let item = format!(r#"{{"type":"function_call_output","call_id":"c","output":{text}}}"#);
    let (messages, _) = converted(&item, Dialect::Responses);
    assert_eq!(
        messages,
        [
            r#"{"type":"function_call_output","call_id":"c","output":[{"type":"input_image","image_url":"data:image/png;base64,QUJD"}]}"#
        ]
    );
    let block = format!(
        r#"{{"role":"user","content":[{{"type":"tool_result","tool_use_id":"t","content":{text}}}]}}"#
    );
    let (messages, _) = converted(&block, Dialect::Anthropic);
    assert!(messages[0].contains(r#""source":{"type":"base64""#), "{messages:?}");
    let gemini = format!(
        r#"{{"role":"user","parts":[{{"functionResponse":{{"name":"f","response":{{"content":[{image}]}}}}}}]}}"#
    );
    let (messages, _) = converted(&gemini, Dialect::Gemini);
    assert_eq!(
        messages,
        [
            r#"{"role":"user","parts":[{"functionResponse":{"name":"f","response":{},"parts":[{"inlineData":{"mimeType":"image/png","data":"QUJD"}}]}}]}"#
        ]
    );
    let sdk = format!(
        r#"{{"role":"tool","content":[{{"type":"tool-result","toolCallId":"c","toolName":"f","output":{{"type":"json","value":{{"content":[{image}]}}}}}}]}}"#
    );
    let (messages, _) = converted(&sdk, Dialect::AiSdk);
    assert!(messages[0].contains(r#""output":{"type":"content""#), "{messages:?}");
}

#[test]
fn results_are_grouped_by_dialect() {
    let result = |id| Part::Result(ResultPart::new(Some(id), Some("f"), vec![Part::text("r")]));
    let parts = [result("a"), result("b")];
    for dialect in Dialect::ALL {
        let written = dialect.write(&Role::Tool, &parts);
        let split = matches!(dialect, Dialect::Chat | Dialect::Responses);
        assert_eq!(written.messages.len(), if split { 2 } else { 1 }, "{dialect}");
    }
}

#[test]
fn media_without_a_form_become_notes() {
    let audio = r#"{"role":"user","content":[{"type":"input_audio","input_audio":{"data":"QUJD","format":"mp3"}}]}"#;
    let (messages, losses) = converted(audio, Dialect::Anthropic);
    assert_eq!(messages, [r#"{"role":"user","content":"[audio left out]"}"#]);
    assert_eq!(losses, [Loss::MediaReplaced]);
    let (messages, _) = converted(audio, Dialect::Gemini);
    assert_eq!(
        messages,
        [r#"{"role":"user","parts":[{"inlineData":{"mimeType":"audio/mpeg","data":"QUJD"}}]}"#]
    );
    let (messages, _) = converted(audio, Dialect::Bedrock);
    assert_eq!(
        messages,
        [r#"{"role":"user","content":[{"audio":{"format":"mp3","source":{"bytes":"QUJD"}}}]}"#]
    );
    let file = r#"{"role":"user","content":[{"type":"file","file":{"file_id":"f-1"}}]}"#;
    for to in [Dialect::Anthropic, Dialect::Gemini, Dialect::Bedrock, Dialect::AiSdk] {
        let (messages, losses) = converted(file, to);
        assert_eq!(losses, [Loss::MediaReplaced], "{to}");
        assert!(!messages[0].contains("f-1"), "{to}: an id of another account");
    }
    let url = r#"{"role":"user","content":[{"type":"image_url","image_url":{"url":"https://example.org/a.png"}}]}"#;
    let (messages, losses) = converted(url, Dialect::Bedrock);
    assert_eq!(
        messages,
        [r#"{"role":"user","content":[{"text":"[image left out: https://example.org/a.png]"}]}"#]
    );
    assert_eq!(losses, [Loss::MediaReplaced]);
}

#[test]
fn text_documents_become_text() {
    let document = r#"{"role":"user","content":[{"type":"document","title":"T","context":"C","source":{"type":"text","media_type":"text/plain","data":"words"}}]}"#;
    for to in [Dialect::Chat, Dialect::Responses, Dialect::Gemini, Dialect::AiSdk] {
        let (messages, losses) = converted(document, to);
        assert_eq!(losses, [Loss::DocumentAsText], "{to}");
        assert_eq!(all_lines(to, &[json(&messages[0])]), ["text T\nC\nwords"], "{to}");
    }
    let (_, losses) = converted(document, Dialect::Bedrock);
    assert_eq!(losses, []);
}

#[test]
fn error_flag_becomes_a_prefix_or_a_form() {
    let failed = r#"{"role":"user","content":[{"type":"tool_result","tool_use_id":"a","content":"down","is_error":true}]}"#;
    let result = ResultPart {
        is_error: true,
        ..ResultPart::new(Some("a"), Some("f"), vec![Part::text("down")])
    };
    let cases = [
        (
            Dialect::Gemini,
            r#"{"role":"user","parts":[{"functionResponse":{"id":"a","name":"f","response":{"error":"down"}}}]}"#,
        ),
        (
            Dialect::Bedrock,
            r#"{"role":"user","content":[{"toolResult":{"toolUseId":"a","content":[{"text":"down"}],"status":"error"}}]}"#,
        ),
        (
            Dialect::AiSdk,
            r#"{"role":"tool","content":[{"type":"tool-result","toolCallId":"a","toolName":"f","output":{"type":"error-text","value":"down"}}]}"#,
        ),
    ];
    for (to, expected) in cases {
        let written = to.write(&Role::Tool, &[Part::Result(result.clone())]);
        assert_eq!(written.messages, [json(expected)], "{to}");
        assert!(!written.losses.contains(&Loss::ErrorFlag), "{to}");
    }
    let (messages, losses) = converted(failed, Dialect::Chat);
    assert_eq!(messages, [r#"{"role":"tool","tool_call_id":"a","content":"Error: down"}"#]);
    assert_eq!(losses, [Loss::ErrorFlag]);
    let (messages, losses) = converted(failed, Dialect::Responses);
    assert_eq!(
        messages,
        [r#"{"type":"function_call_output","call_id":"a","output":"Error: down"}"#]
    );
    assert_eq!(losses, [Loss::ErrorFlag]);
}

#[test]
fn non_object_arguments_are_wrapped_and_unwrapped() {
    for arguments in ["not json", "[1, 2]", r#""text""#, r#"{"torn":"#, r#"{"a":1,"a":2}"#] {
        let call = CallPart::new(Some("c"), "f", Arguments::Text(arguments));
        for to in [Dialect::Anthropic, Dialect::Gemini, Dialect::Bedrock, Dialect::AiSdk] {
            let written = to.write(&Role::Assistant, &[Part::Call(call.clone())]);
            assert_eq!(written.losses, [Loss::ArgumentsWrapped], "{to}: {arguments}");
            let back = convert(&written.messages[0], to, Dialect::Chat);
            assert_eq!(back.losses, []);
            let lines = all_lines(Dialect::Chat, &back.messages);
            assert_eq!(lines, [format!("call c f {arguments}")], "{to}");
        }
    }
    // Missing arguments become an empty object, without a loss.
    let call = CallPart::new(Some("c"), "f", Arguments::Text(""));
    let written = Dialect::Anthropic.write(&Role::Assistant, &[Part::Call(call)]);
    assert_eq!(all_lines(Dialect::Anthropic, &written.messages), ["call c f {}"]);
    assert_eq!(written.losses, []);
}

#[test]
fn numbers_in_arguments_survive_every_conversion() {
    let arguments = r#"{"id":12345678901234567890123,"x":1.0,"y":-0,"z":1e400}"#;
    let call = format!(
        r#"{{"role":"assistant","content":[{{"type":"tool_use","id":"c","name":"f","input":{arguments}}}]}}"#
    );
    for to in Dialect::ALL {
        let there = convert(&json(&call), Dialect::Anthropic, to);
        let back = convert(&there.messages[0], to, Dialect::Anthropic);
        assert_eq!(back.messages[0].to_string(), call, "{to}");
    }
}

#[test]
fn ids_and_names_override_native_json() {
    let cases = [
        r#"{"role":"assistant","content":null,"tool_calls":[{"id":"old","type":"function","function":{"name":"f","arguments":"{ }"}}]}"#,
        r#"{"type":"function_call","call_id":"old","name":"f","arguments":"{ }"}"#,
        r#"{"role":"assistant","content":[{"type":"tool_use","id":"old","name":"f","input":{}}]}"#,
        r#"{"role":"model","parts":[{"functionCall":{"id":"old","name":"f","args":{}}}]}"#,
        r#"{"role":"assistant","content":[{"toolUse":{"toolUseId":"old","name":"f","input":{}}}]}"#,
        r#"{"role":"assistant","content":[{"type":"tool-call","toolCallId":"old","toolName":"f","input":{}}]}"#,
        r#"{"role":"tool","tool_call_id":"old","content":"r"}"#,
        r#"{"type":"function_call_output","call_id":"old","output":"r"}"#,
        r#"{"role":"user","content":[{"type":"tool_result","tool_use_id":"old","content":"r"}]}"#,
        r#"{"role":"user","parts":[{"functionResponse":{"id":"old","name":"f","response":{"output":"r"}}}]}"#,
        r#"{"role":"user","content":[{"toolResult":{"toolUseId":"old","content":[{"text":"r"}]}}]}"#,
        r#"{"role":"tool","content":[{"type":"tool-result","toolCallId":"old","toolName":"f","output":{"type":"text","value":"r"}}]}"#,
    ];
    for text in cases {
        let message = json(text);
        let dialect = Dialect::detect(&message).unwrap();
        let mut parts = dialect.parts(&message);
        match &mut parts[0] {
            Part::Call(call) => call.id = Some("new"),
            Part::Result(result) => result.link = Some("new"),
            part => panic!("{part:?}"),
        }
        let written = dialect.write(&dialect.role(&message).unwrap(), &parts);
        assert_eq!(written.messages, [json(&text.replace("old", "new"))]);
        assert_eq!(written.losses, []);
    }
}

#[test]
fn missing_ids_and_names_are_reported() {
    let call = CallPart::new(None, "f", Arguments::Text("{}"));
    let result = ResultPart::new(None, None, vec![Part::text("r")]);
    for dialect in Dialect::ALL {
        let written = dialect.write(&Role::Assistant, &[Part::Call(call.clone())]);
        let expected: &[Loss] = if dialect == Dialect::Gemini { &[] } else { &[Loss::IdMissing] };
        assert_eq!(written.losses, expected, "{dialect}");
        let written = dialect.write(&Role::Tool, &[Part::Result(result.clone())]);
        let expected: &[Loss] = match dialect {
            Dialect::Gemini => &[Loss::NameMissing],
            Dialect::AiSdk => &[Loss::IdMissing, Loss::NameMissing],
            _ => &[Loss::IdMissing],
        };
        assert_eq!(written.losses, expected, "{dialect}");
    }
}

#[test]
fn extras_of_texts_are_reported() {
    let cited = r#"{"role":"assistant","content":[{"type":"text","text":"a","citations":[{"cited_text":"q"}],"cache_control":{"type":"ephemeral"}}]}"#;
    for to in Dialect::ALL.into_iter().filter(|to| *to != Dialect::Anthropic) {
        assert_eq!(converted(cited, to).1, [Loss::Citations, Loss::CacheMark], "{to}");
    }
    let refusal = r#"{"role":"assistant","content":[{"type":"refusal","refusal":"no"}]}"#;
    let (messages, losses) = converted(refusal, Dialect::Anthropic);
    assert_eq!(messages, [r#"{"role":"assistant","content":"no"}"#]);
    assert_eq!(losses, [Loss::TextKind]);
    let named = r#"{"role":"user","name":"ann","content":"hi"}"#;
    assert_eq!(converted(named, Dialect::Anthropic).1, [Loss::Author]);
    assert_eq!(
        converted(named, Dialect::Chat),
        (vec![r#"{"role":"user","content":"hi","name":"ann"}"#.into()], vec![])
    );
}

#[test]
fn text_behind_a_call_is_reported_in_chat() {
    let message = r#"{"role":"assistant","content":[{"type":"tool_use","id":"c","name":"f","input":{}},{"type":"text","text":"b"}]}"#;
    let (messages, losses) = converted(message, Dialect::Chat);
    assert_eq!(
        messages,
        [
            r#"{"role":"assistant","content":"b","tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":"{}"}}]}"#
        ]
    );
    assert_eq!(losses, [Loss::Order]);
}

#[test]
fn unknown_parts_are_reported() {
    let message = r#"{"role":"user","content":[{"type":"tool_result","tool_use_id":"t","content":"r"},{"type":"hologram","data":{}}]}"#;
    let (messages, losses) = converted(message, Dialect::Anthropic);
    assert_eq!(losses, [Loss::Unknown]);
    assert_eq!(all_lines(Dialect::Anthropic, &[json(&messages[0])]), ["result t: text r"]);
}

#[test]
fn nothing_is_written_for_no_parts() {
    for dialect in Dialect::ALL {
        for role in [Role::User, Role::Assistant, Role::System, Role::Tool] {
            assert_eq!(dialect.write(&role, &[]), Written::default());
        }
    }
}
