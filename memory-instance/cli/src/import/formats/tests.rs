use proptest::prelude::*;

use super::*;

/// The messages of records of one source.
fn read_all(records: &[&str], only: Option<&str>) -> Result<Vec<String>, String> {
    let mut session = ClaudeSession::default();
    let only = only.map(format);
    let mut messages = Vec::new();
    for record in records {
        messages.extend(read(Json::parse(record).unwrap(), only, &mut session)?);
    }
    // A message that was read can enter a memory.
    for message in &messages {
        Message::try_from(message.clone()).map_err(|error| problem_of(&error))?;
    }
    Ok(messages.iter().map(Json::to_string).collect())
}

fn format(name: &str) -> &'static Format {
    FORMATS.iter().find(|format| format.name == name).unwrap()
}

fn assert_read(records: &[&str], expected: &[&str]) {
    assert_eq!(read_all(records, None).unwrap(), expected, "{records:?}");
}

#[test]
fn native_messages_stay_as_they_are() {
    for message in [
        r#"{"content":"hi","role":"user","x":12345678901234567890123}"#,
        r#"{"role":"ai","content":"","tool_calls":[{"name":"f","args":{"a":1},"id":"c1","type":"tool_call"}]}"#,
        r#"{"type":"reasoning","id":"rs_1","summary":[],"encrypted_content":"gAAA"}"#,
        r#"{"role":"user","content":[{"text":"weather?"}]}"#,
        r#"{"role":"model","parts":[{"functionCall":{"name":"f","args":{}}}]}"#,
        r#"{"role":"user","content":[{"type":"image","source_type":"base64","mime_type":"image/png","data":"AA=="}]}"#,
        r#"{"role":"assistant","created":1,"content":[{"type":"toolRequest","id":"r7","toolCall":{"status":"success","value":{"name":"f","arguments":{}}}}]}"#,
    ] {
        assert_read(&[message], &[message]);
    }
}

#[test]
fn claude_code_lines_give_their_messages() {
    let lines = [
        r#"{"type":"summary","summary":"A talk","leafUuid":"u9"}"#,
        r#"{"type":"file-history-snapshot","messageId":"u1","snapshot":{},"isSnapshotUpdate":false}"#,
        r#"{"uuid":"u1","parentUuid":null,"type":"user","message":{"role":"user","content":"hi"},"sessionId":"s"}"#,
        r#"{"uuid":"u2","parentUuid":"u1","type":"assistant","message":{"id":"m","type":"message","role":"assistant","content":[{"type":"tool_use","id":"t1","name":"Bash","input":{}}],"stop_reason":"tool_use"}}"#,
        r#"{"uuid":"u3","parentUuid":"u2","type":"user","message":{"role":"user","content":[{"type":"tool_result","tool_use_id":"t1","content":"x"}]},"toolUseResult":{"stdout":"x"}}"#,
        r#"{"uuid":"u3","parentUuid":"u2","type":"user","message":{"role":"user","content":"repeated"}}"#,
        r#"{"uuid":"u4","parentUuid":"u3","isSidechain":true,"type":"user","message":{"role":"user","content":"aside"}}"#,
        r#"{"uuid":"u5","type":"system","subtype":"local_command","content":"<command>"}"#,
        r#"{"uuid":"u5b","type":"hook_progress","content":"of a later version"}"#,
        r#"{"type":"queue-operation","operation":"enqueue","content":"next","sessionId":"s"}"#,
        r#"{"uuid":"u6","type":"assistant","isApiErrorMessage":true,"message":{"role":"assistant","content":"API Error"}}"#,
        r#"{"uuid":"u7","type":"assistant","message":{"type":"message","role":"assistant","content":[{"type":"text","text":"done"}]}}"#,
    ];
    assert_read(
        &lines,
        &[
            r#"{"role":"user","content":"hi"}"#,
            r#"{"id":"m","type":"message","role":"assistant","content":[{"type":"tool_use","id":"t1","name":"Bash","input":{}}],"stop_reason":"tool_use"}"#,
            r#"{"role":"user","content":[{"type":"tool_result","tool_use_id":"t1","content":"x"}]}"#,
            r#"{"role":"assistant","content":[{"type":"text","text":"done"}]}"#,
        ],
    );
}

#[test]
fn codex_lines_give_their_response_items() {
    let item = r#"{"type":"message","role":"user","content":[{"type":"input_text","text":"hi"}]}"#;
    let call = r#"{"type":"function_call","call_id":"c","name":"shell","arguments":"{}"}"#;
    let line = |kind: &str, payload: &str| {
        format!(r#"{{"timestamp":"t","type":"{kind}","payload":{payload}}}"#)
    };
    let lines = [
        line("session_meta", r#"{"id":"s","cwd":"/"}"#),
        line("turn_context", r#"{"model":"m"}"#),
        line("response_item", item),
        line("event_msg", r#"{"type":"user_message","message":"hi"}"#),
        line("response_item", r#"{"type":"ghost_snapshot","ghost_commit":{}}"#),
        line("response_item", call),
        line("compacted", r#"{"message":"so far"}"#),
        r#"{"id":"s","timestamp":"t","instructions":null,"git":{}}"#.to_owned(),
        r#"{"record_type":"state"}"#.to_owned(),
        item.to_owned(),
    ];
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    assert_read(&lines, &[item, call, item]);
}

#[test]
fn langchain_envelopes_give_chat_messages() {
    let records = [
        r#"{"type":"human","data":{"content":"hi","additional_kwargs":{},"type":"human"}}"#,
        r#"{"data":{"tool_calls":[{"name":"f","args":{},"id":"c"}],"content":""},"type":"ai"}"#,
        r#"{"lc":1,"type":"constructor","id":["langchain","schema","messages","ToolMessage"],"kwargs":{"content":"r","tool_call_id":"c"}}"#,
        r#"{"lc":1,"type":"constructor","id":["langchain","schema","messages","AIMessageChunk"],"kwargs":{"content":"","additional_kwargs":{"tool_calls":[{"id":"d","type":"function","function":{"name":"g","arguments":"{}"}}]}}}"#,
        r#"{"type":"chat","data":{"content":"x","role":"narrator"}}"#,
        r#"{"type":"remove","data":{"id":"m1","content":""}}"#,
        r#"{"type":"remove","id":"m1"}"#,
    ];
    assert_read(
        &records,
        &[
            r#"{"role":"user","content":"hi","additional_kwargs":{}}"#,
            r#"{"role":"assistant","tool_calls":[{"name":"f","args":{},"id":"c"}],"content":""}"#,
            r#"{"role":"tool","content":"r","tool_call_id":"c"}"#,
            r#"{"role":"assistant","content":"","additional_kwargs":{"tool_calls":[{"id":"d","type":"function","function":{"name":"g","arguments":"{}"}}]},"tool_calls":[{"id":"d","type":"function","function":{"name":"g","arguments":"{}"}}]}"#,
            r#"{"role":"narrator","content":"x"}"#,
        ],
    );
}

#[test]
fn sharegpt_calls_are_linked_in_order() {
    let record = r#"{"id":"x","system":"Be kind.","tools":"[]","conversations":[
        {"value":"hi","from":"human"},
        {"from":"function_call","value":"[{\"name\":\"f\",\"arguments\":{\"a\":1}},{\"name\":\"g\",\"arguments\":\"{}\"}]"},
        {"from":"observation","value":"1"},
        {"from":"observation","value":{"b":2}},
        {"from":"function_call","value":"not JSON"},
        {"from":"gpt","value":"done"}]}"#;
    assert_read(
        &[record],
        &[
            r#"{"role":"system","content":"Be kind."}"#,
            r#"{"role":"user","content":"hi"}"#,
            r#"{"role":"assistant","content":null,"tool_calls":[{"id":"call_1","type":"function","function":{"name":"f","arguments":"{\"a\":1}"}},{"id":"call_2","type":"function","function":{"name":"g","arguments":"{}"}}]}"#,
            r#"{"role":"tool","content":"1","tool_call_id":"call_1"}"#,
            r#"{"role":"tool","content":"{\"b\":2}","tool_call_id":"call_2"}"#,
            r#"{"role":"assistant","content":"not JSON"}"#,
            r#"{"role":"assistant","content":"done"}"#,
        ],
    );
    assert_read(&[r#"{"from":"gpt","value":"a"}"#], &[r#"{"role":"assistant","content":"a"}"#]);
}

#[test]
fn conversations_hold_messages_of_any_format() {
    let hi = r#"{"role":"user","content":"hi"}"#;
    let answer = r#"{"role":"assistant","content":"hello","weight":0}"#;
    for record in [
        format!(r#"{{"messages":[{hi},{answer}],"tools":[],"id":7}}"#),
        format!(r#"[{hi},{answer}]"#),
        format!(r#"{{"values":{{"messages":[{hi},{answer}]}},"next":[]}}"#),
        format!(r#"{{"name":"a session","conversation":[{hi},{answer}]}}"#),
        format!(r#"{{"conversations":[{hi},{answer}]}}"#),
        format!(
            r#"{{"input":{{"messages":[{hi}]}},"preferred_output":[{answer}],"non_preferred_output":[{hi}]}}"#
        ),
        format!(r#"{{"prompt":[{hi}],"chosen":[{answer}],"rejected":[{hi}]}}"#),
        format!(
            r#"{{"values":1,"messages":[{{"type":"human","data":{{"content":"hi"}}}},{answer}]}}"#
        ),
    ] {
        assert_read(&[&record], &[hi, answer]);
    }
    assert_read(
        &[
            r#"{"model":"m","system":[{"type":"text","text":"Be kind."}],"messages":[]}"#,
            r#"{"systemInstruction":{"parts":[{"text":"Be brief."}]},"contents":[{"parts":[{"text":"a"}],"role":"user"}]}"#,
            r#"{"model":"m","instructions":"Be fast.","input":"hi"}"#,
            r#"{"contents":[],"system_instruction":{"parts":{"text":"Be a cat."}}}"#,
            r#"{"object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"a"}}]}"#,
        ],
        &[
            r#"{"role":"system","content":[{"type":"text","text":"Be kind."}]}"#,
            r#"{"role":"system","parts":[{"text":"Be brief."}]}"#,
            r#"{"parts":[{"text":"a"}],"role":"user"}"#,
            r#"{"role":"system","content":"Be fast."}"#,
            hi,
            r#"{"role":"system","parts":[{"text":"Be a cat."}]}"#,
            r#"{"role":"assistant","content":"a"}"#,
        ],
    );
}

#[test]
fn pydantic_ai_parts_become_chat_messages() {
    let records = [
        r#"{"kind":"request","parts":[{"part_kind":"system-prompt","content":"Be kind."},{"content":["look",{"url":"https://a/b.png","kind":"image-url"},{"kind":"binary","data":"AA==","media_type":"application/pdf"}],"part_kind":"user-prompt"}]}"#,
        r#"{"parts":[{"part_kind":"thinking","content":"hm","signature":"s"},{"part_kind":"text","content":"Wait."},{"part_kind":"tool-call","tool_name":"f","args":{"a":1},"tool_call_id":"c"},{"part_kind":"tool-call","tool_name":"g","args":"{}","tool_call_id":"d"}],"kind":"response"}"#,
        r#"{"parts":[{"part_kind":"tool-return","tool_name":"f","content":{"ok":true},"tool_call_id":"c"},{"part_kind":"retry-prompt","tool_name":"g","content":"again","tool_call_id":"d"},{"part_kind":"retry-prompt","content":"no JSON"}],"kind":"request"}"#,
        r#"{"parts":[],"kind":"response"}"#,
    ];
    assert_read(
        &records,
        &[
            r#"{"role":"system","content":"Be kind."}"#,
            r#"{"role":"user","content":[{"type":"text","text":"look"},{"type":"image_url","image_url":{"url":"https://a/b.png"}},{"type":"file","data":"AA==","mimeType":"application/pdf"}]}"#,
            r#"{"role":"assistant","content":"Wait.","thinking_blocks":[{"type":"thinking","thinking":"hm","signature":"s"}],"tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":"{\"a\":1}"}},{"id":"d","type":"function","function":{"name":"g","arguments":"{}"}}]}"#,
            r#"{"role":"tool","tool_call_id":"c","name":"f","content":"{\"ok\":true}"}"#,
            r#"{"role":"tool","tool_call_id":"d","name":"g","content":"Error: again"}"#,
            r#"{"role":"user","content":"no JSON"}"#,
        ],
    );
}

#[test]
fn goose_omits_messages_hidden_from_the_agent() {
    let seen = r#"{"role":"user","created":1,"content":[{"type":"text","text":"hi"}]}"#;
    let records = [
        r#"{"working_dir":"/","description":"a talk","message_count":2}"#,
        seen,
        r#"{"role":"user","content":"note","metadata":{"userVisible":true,"agentVisible":false}}"#,
    ];
    assert_read(&records, &[seen]);
}

#[test]
fn foreign_formats_are_named() {
    for (record, named) in [
        (r#"{"id":"m","message_type":"user_message","content":"hi"}"#, "a Letta message"),
        (r#"{"source":"user","content":"hi","type":"TextMessage"}"#, "an AutoGen message"),
        (r#"{"Role":{"Label":"user"},"Items":[]}"#, "a Semantic Kernel message"),
        (
            r#"{"role":{"label":"user"},"items":[{"$type":"TextContent","text":"hi"}]}"#,
            "a Semantic Kernel message",
        ),
        (r#"{"author":"user","content":{"parts":[{"text":"hi"}]}}"#, "an event of Google's ADK"),
        (
            r#"{"message_id":"a","parent_id":null,"text":"hi","role":"prompter"}"#,
            "an OASST message",
        ),
        (r#"{"message_tree_id":"a","prompt":{"text":"hi","replies":[]}}"#, "an OASST"),
        (r#"{"role":"CHATBOT","message":"hello"}"#, "a Cohere v1 message"),
        (
            r#"{"role":"CHATBOT","message":"a","tool_calls":[{"name":"f","parameters":{}}]}"#,
            "a Cohere v1 message",
        ),
        (r#"{"role":"TOOL","tool_results":[{"call":{}}]}"#, "a Cohere v1 message"),
        (r#"{"instruction":"a","input":"","output":"b"}"#, "an Alpaca example"),
        (
            r#"{"source":"a","content":[{"id":"c","name":"f","arguments":"{}"}],"type":"ToolCallRequestEvent"}"#,
            "an AutoGen message",
        ),
        (
            r#"{"chat_history":[{"role":"USER","message":"hi"}],"message":"a"}"#,
            "a Cohere v1 message",
        ),
        (
            r#"{"conversation_hash":"h","conversation":[{"role":"user","content":"hi"}]}"#,
            "a WildChat conversation",
        ),
        (r#"{"query":"q","answers":"[]","tools":"[]"}"#, "an xLAM example"),
        (r#"{"title":"t","mapping":{"a":{}}}"#, "the ChatGPT export"),
        (
            r#"{"id":"n","author":{"role":"user"},"content":{"content_type":"text","parts":["hi"]}}"#,
            "the ChatGPT export",
        ),
    ] {
        let error = read_all(&[record], None).unwrap_err();
        assert!(error.starts_with("this looks like ") && error.contains(named), "{error}");
    }
}

#[test]
fn wrong_format_names_the_likely_one() {
    let chat = r#"{"role":"assistant","content":"a","tool_calls":[]}"#;
    for (only, record, likely) in [
        ("sharegpt", chat, "an OpenAI chat message; use --format chat"),
        ("codex", r#"{"messages":[]}"#, "a conversation; use --format openai-finetune"),
        (
            "chat",
            r#"{"uuid":"u","message":{"role":"user","content":"hi"}}"#,
            "a line of a Claude Code session; use --format claude-code",
        ),
        (
            "anthropic",
            r#"{"role":"user","parts":[{"text":"hi"}]}"#,
            "a Gemini content; use --format gemini",
        ),
        ("openai-finetune", r#"{"id":"m","message_type":"x"}"#, "a Letta message"),
    ] {
        let error = read_all(&[record], Some(only)).unwrap_err();
        let expected = format!("not of --format {only}: this looks like {likely}");
        assert!(error.starts_with(&expected), "{error}");
    }
    let error =
        read_all(&[r#"{"messages":[{"role":"model","parts":[{"text":"a"}]}]}"#], Some("anthropic"));
    assert!(error.unwrap_err().starts_with("message 1 of it: not of --format anthropic"));
}

#[test]
fn named_format_accepts_shared_records() {
    let hi = r#"{"role":"user","content":"hi"}"#;
    for only in
        ["chat", "ollama", "huggingface", "langchain", "goose", "anthropic", "responses", "ai_sdk"]
    {
        for record in [hi.to_owned(), format!("[{hi}]"), format!(r#"{{"messages":[{hi}]}}"#)] {
            assert_eq!(read_all(&[&record], Some(only)), Ok(vec![hi.to_owned()]), "{only}");
        }
    }
}

fn any_json() -> impl Strategy<Value = Json> {
    // Keys and types of all formats, so that values look like records of them.
    let word = || {
        prop::sample::select(vec![
            "role",
            "user",
            "assistant",
            "ai",
            "tool",
            "type",
            "data",
            "kwargs",
            "lc",
            "id",
            "content",
            "parts",
            "part_kind",
            "kind",
            "request",
            "response",
            "text",
            "thinking",
            "tool-call",
            "tool-return",
            "user-prompt",
            "message",
            "messages",
            "uuid",
            "sessionId",
            "isSidechain",
            "payload",
            "response_item",
            "conversations",
            "conversation",
            "from",
            "value",
            "function_call",
            "observation",
            "system",
            "tool_calls",
            "name",
            "args",
            "input",
            "model",
            "prompt",
            "chosen",
            "metadata",
            "agentVisible",
            "working_dir",
            "record_type",
            "url",
            "image-url",
            "",
            "{\"name\":\"f\"}",
            "[",
        ])
    };
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<u64>().prop_map(Json::from),
        word().prop_map(Json::from),
    ];
    leaf.prop_recursive(5, 48, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Json::from),
            prop::collection::vec((word(), inner), 0..6)
                .prop_map(|members| members.into_iter().collect::<JsonObject>().into()),
        ]
    })
}

proptest! {
    #[test]
    fn any_record_is_read_or_refused(record in any_json(), format in 0..=FORMATS.len()) {
        let only = FORMATS.get(format);
        let mut session = ClaudeSession::default();
        if let Ok(messages) = read(record.clone(), only, &mut session) {
            // A record that is read alone is also read among others of its format.
            let mut session = ClaudeSession::default();
            let array = Json::from(vec![record.clone(), record.clone()]);
            let twice = read(array, only, &mut session);
            let is_whole = only.is_some_and(|only| !holds_all(only));
            prop_assert!(is_whole || twice == Ok([messages.clone(), messages].concat()));
        }
    }
}

/// Whether arrays of a format are read with `--format`: those of lines of a session are not.
fn holds_all(only: &Format) -> bool {
    matches!(only.kind, Kind::Message(_))
}

#[test]
fn names_of_formats_are_unique() {
    let mut names: Vec<&str> = FORMATS
        .iter()
        .flat_map(|format| format.aliases.iter().chain([&format.name]))
        .copied()
        .collect();
    names.sort_unstable();
    let count = names.len();
    names.dedup();
    assert_eq!(names.len(), count);
}
