//! Rendered requests are accepted for any history.

mod fixed_point;
mod forms;
pub(crate) mod histories;
mod ids;
mod openai_types;
mod repairs;
mod unchanged;

use super::{Extent, Input, Rendered, RepairKind, render};
use crate::check_request::check_request;
use crate::message::Message;
use crate::profile::{Profile, ProfileName};
use crate::stored::Sequence;
use crate::tokens::{EstimateCounter, message_tokens};

/// Every profile, with old and new generations.
pub(crate) fn profiles() -> Vec<Profile> {
    use ProfileName::{
        Anthropic, Bedrock, Gemini, Mistral, OpenaiChat, OpenaiResponses, StrictTemplate,
    };
    [
        (OpenaiChat, None),
        (OpenaiChat, Some("deepseek-v3.2")),
        (OpenaiChat, Some("deepseek-reasoner")),
        (OpenaiChat, Some("qwen3")),
        (OpenaiResponses, None),
        (Anthropic, None),
        (Anthropic, Some("claude-3-5-sonnet-20241022")),
        (Anthropic, Some("claude-opus-4-8")),
        (Gemini, None),
        (Gemini, Some("gemini-2.5-pro")),
        (Bedrock, None),
        (Bedrock, Some("amazon.nova-pro-v1:0")),
        (Mistral, None),
        (Mistral, Some("mistral-large-latest")),
        (StrictTemplate, None),
    ]
    .into_iter()
    .map(|(name, model)| Profile::new(name, model))
    .collect()
}

pub(crate) fn render_all(messages: &[Message], profile: &Profile, extent: Extent) -> Rendered {
    let inputs: Vec<_> = messages
        .iter()
        .zip(1..)
        .map(|(message, number)| Input {
            sequence: Some(Sequence::new(number)),
            tokens: Some(message_tokens(&EstimateCounter, message).into()),
            ..Input::new(message)
        })
        .collect();
    render(&inputs, None, profile, &EstimateCounter, extent, None)
}

/// Requests that break a rule, and valid ones, are used as stored histories.
#[test]
fn broken_requests_are_repaired() {
    let mut wrong = std::collections::BTreeMap::new();
    for history in crate::check_request::tests::stored_histories() {
        let messages: Vec<_> = history.into_iter().map(Message::from_any).collect();
        for profile in profiles() {
            let rendered = render_all(&messages, &profile, Extent::Whole);
            let text = rendered.request.to_string();
            if let Err(error) = check_request(&text, &profile) {
                for problem in &error.problems {
                    let list = wrong
                        .entry((profile.name.to_string(), problem.rule.to_string()))
                        .or_insert_with(Vec::new);
                    list.push(format!("{} in {} of {messages:?}", problem.place, text));
                }
            }
            let recount = rendered.request.count_tokens(&EstimateCounter);
            if rendered.tokens != recount {
                let list = wrong
                    .entry((profile.name.to_string(), "count".into()))
                    .or_insert_with(Vec::new);
                list.push(format!("{} {recount} in {text} of {messages:?}", rendered.tokens));
            }
        }
    }
    for ((profile, rule), list) in &wrong {
        eprintln!("## {profile} {rule} {}\n{}", list.len(), list[0]);
    }
    assert!(wrong.is_empty(), "{:?}", wrong.keys());
}

#[test]
fn sound_is_sent_without_its_transcript() {
    let line =
        r#"{"role":"assistant","content":null,"audio":{"id":"audio_1","transcript":"said"}}"#;
    let messages = [Message::from_json(line).unwrap()];
    let rendered = render_all(&messages, &Profile::openai_chat(), Extent::Whole);
    let expected = r#"[{"role":"assistant","audio":{"id":"audio_1"}}]"#;
    assert_eq!(rendered.request.to_string(), expected);
    let mistral = render_all(&messages, &Profile::mistral(), Extent::Whole);
    assert!(mistral.request.to_string().contains("said"));
}

#[test]
fn invalid_base64_becomes_a_note() {
    let line = r#"{"role":"user","content":[{"type":"text","text":"see"},{"type":"image_url","image_url":{"url":"data:image/png;base64,@@@@"}}]}"#;
    let messages = [Message::from_json(line).unwrap()];
    for profile in profiles() {
        let rendered = render_all(&messages, &profile, Extent::Whole);
        let text = rendered.request.to_string();
        assert!(!text.contains("@@@@") && text.contains("[image left out]"), "{text}");
        assert!(rendered.repairs.iter().any(|repair| repair.kind == RepairKind::MediaReplaced));
    }
}

#[test]
fn error_flag_is_sent_as_boolean() {
    use serde_json::json;

    for (flag, sent) in [
        (json!("true"), Some(true)),
        (json!(" TRUE "), Some(true)),
        (json!(1), Some(true)),
        (json!("false"), None),
        (json!(0), None),
        (json!(null), None),
        (json!([]), None),
        (json!(true), Some(true)),
        (json!(false), Some(false)),
    ] {
        let call = json!({"type": "tool_use", "id": "a", "name": "f", "input": {}});
        let result = json!({"type": "tool_result", "tool_use_id": "a", "content": "r",
            "is_error": flag, "cache_control": {"type": "ephemeral"}});
        let messages = [
            json!({"role": "user", "content": "go"}),
            json!({"role": "assistant", "content": [call]}),
            json!({"role": "user", "content": [result]}),
        ]
        .map(|message| Message::from_value(message).unwrap());
        let rendered = render_all(&messages, &Profile::anthropic(), Extent::Whole);
        let request = rendered.request.to_value();
        let result = &request["messages"][2]["content"][0];
        assert_eq!(result.get("is_error").map(|flag| flag.as_bool().unwrap()), sent, "{flag}");
        assert!(result.get("cache_control").is_some(), "{flag}");
        let kinds: Vec<_> = rendered.repairs.iter().map(|repair| repair.kind).collect();
        let expected: &[_] = if flag.is_boolean() { &[] } else { &[RepairKind::ErrorFlagType] };
        assert_eq!(kinds, expected, "{flag}");
    }
}

#[test]
fn citations_stay_with_their_provider() {
    use serde_json::json;

    let own = json!([{"type": "web_search_result_location", "url": "https://example.com",
        "title": "x", "cited_text": "x", "encrypted_index": "abc"}]);
    let foreign = json!([{"start": 0, "end": 2, "document_ids": ["doc_1"]}]);
    let annotation = json!([{"type": "url_citation", "url": "https://example.com"}]);
    let claude = |citations| json!({"type": "text", "text": "ok", "citations": citations});
    let openai = json!({"type": "message", "role": "assistant", "content": [
        {"type": "output_text", "text": "ok", "annotations": annotation}]});
    let said = |block| json!({"role": "assistant", "content": [block]});
    let bedrock = said(json!({"citationsContent": {"content": [{"text": "ok"}],
        "citations": [{"title": "x"}]}}));
    let in_result = json!({"role": "user", "content": [{"type": "tool_result",
        "tool_use_id": "a", "content": [claude(foreign.clone())]}]});
    for (message, keeps) in [
        (said(claude(own)), Some(ProfileName::Anthropic)),
        (said(claude(foreign)), None),
        (said(claude(json!({"enabled": true}))), None),
        (openai, Some(ProfileName::OpenaiResponses)),
        (bedrock, Some(ProfileName::Bedrock)),
        (in_result, None),
    ] {
        let call = json!({"type": "tool_use", "id": "a", "name": "f", "input": {}});
        let messages = [json!({"role": "user", "content": "go"}), said(call), message]
            .map(|message| Message::from_value(message).unwrap());
        for name in ProfileName::ALL {
            let rendered = render_all(&messages, &Profile::from(name), Extent::Whole);
            let text = rendered.request.to_string();
            let words = ["citation", "example.com", "doc_1", "enabled", r#""title""#];
            let is_sent = words.iter().any(|word| text.contains(word));
            let lost = RepairKind::Lost(crate::dialect::Loss::Citations);
            let is_listed = rendered.repairs.iter().any(|repair| repair.kind == lost);
            assert_eq!((is_sent, is_listed), (keeps == Some(name), keeps != Some(name)), "{text}");
        }
    }
}

#[test]
fn reasoning_fields_follow_the_model() {
    use serde_json::{Value, json};

    let details = json!([{"type": "reasoning.text", "text": "hm", "signature": "sig"},
        {"type": "reasoning.encrypted", "data": "c2VjcmV0"}]);
    let call =
        json!([{"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}]);
    let said = json!({"role": "assistant", "content": "ok", "reasoning_content": "hm"});
    let called = json!({"role": "assistant", "content": "", "tool_calls": call, "reasoning": "hm",
        "reasoning_details": details});
    let detailed = json!({"role": "assistant", "content": "ok", "reasoning_details": details});
    let result = json!({"role": "tool", "tool_call_id": "a", "content": "r"});
    let user = json!({"role": "user", "content": "go"});
    let messages = [&user, &said, &user, &called, &result, &detailed, &user]
        .map(|message| Message::from_value(message.clone()).unwrap());
    let fields = |message: &Value| {
        let keys = ["reasoning_content", "reasoning", "reasoning_details"];
        let found = keys.iter().filter_map(|key| Some(format!("{key}={}", message.get(key)?)));
        found.collect::<Vec<_>>().join(" ")
    };
    let text = r#"reasoning_content="hm""#;
    let both = r#"reasoning_content="" reasoning="hm""#;
    for (model, expected) in [
        ("gpt-5", ["", "", ""]),
        ("deepseek-r1", ["", "", ""]),
        ("deepseek-reasoner", ["", both, ""]),
        ("deepseek-v3.2", [text, both, text]),
        ("kimi-k3", [text, both, text]),
        ("qwen3", [text, r#"reasoning="hm""#, text]),
        ("openrouter/qwen/qwen3", [text, r#"reasoning="hm""#, text]),
    ] {
        let rendered = render_all(&messages, &Profile::for_model(Some(model)), Extent::Whole);
        let request = rendered.request.to_value();
        assert_eq!([1, 3, 5].map(|at| fields(&request[at])), expected, "{model}");
        assert_eq!(rendered.tokens, rendered.request.count_tokens(&EstimateCounter), "{model}");
        let left_out = rendered.repairs.iter().filter(|it| it.kind == RepairKind::ReasoningLeftOut);
        let places: Vec<_> = left_out.filter_map(|it| it.sequence).collect();
        let all = [2, 4, 6].map(Sequence::new);
        let is_sent = expected[0] == text;
        assert_eq!(places, if is_sent { &all[1..] } else { &all[..] }, "{model}");
    }
}

#[test]
fn reasoning_is_sent_once() {
    use serde_json::json;

    let profile = Profile::strict_template();
    for message in [
        json!({"role": "assistant", "content": "ok", "reasoning": "hm",
            "reasoning_details": [{"type": "reasoning.text", "text": "hm"}]}),
        json!({"role": "assistant", "content": "ok", "reasoning": "hm", "reasoning_content": "hm"}),
    ] {
        let messages = [Message::user("go"), Message::from_value(message).unwrap()];
        let rendered = render_all(&messages, &profile, Extent::Whole);
        assert!(rendered.request.to_string().matches("hm").count() <= 1, "{}", rendered.request);
    }
}

#[test]
fn provider_run_tools_are_not_reported_as_reasoning() {
    let search = r#"{"role":"assistant","content":[
        {"type":"server_tool_use","id":"srvtoolu_1","name":"web_search","input":{"query":"x"}},
        {"type":"web_search_tool_result","tool_use_id":"srvtoolu_1","content":[]}]}"#;
    let messages = [Message::user("go"), Message::from_json(search).unwrap()];
    let rendered = render_all(&messages, &Profile::openai_chat(), Extent::Whole);
    let kinds: Vec<_> = rendered.repairs.iter().map(|repair| repair.kind).collect();
    assert_eq!(kinds, [RepairKind::ProviderRunLeftOut]);
}

#[test]
fn documents_have_formats_that_bedrock_reads() {
    use serde_json::json;

    let file = |name: &str, data: &str| json!({"type": "file", "file": {"filename": name, "file_data": data}});
    let content = [
        json!({"type": "text", "text": "see"}),
        file("r.docx", "UEsDBA=="),
        file("r.xlsx", "UEsDBA=="),
        file("r.md", "aGk="),
        file("r.json", "e30="),
    ];
    let message = Message::from_value(json!({"role": "user", "content": content})).unwrap();
    let rendered = render_all(&[message], &Profile::bedrock(), Extent::Whole);
    let request = rendered.request.to_value();
    let formats: Vec<_> = (1..5)
        .map(|at| request["messages"][0]["content"][at]["document"]["format"].as_str())
        .collect();
    assert_eq!(formats, [Some("docx"), Some("xlsx"), Some("md"), None], "{request}");
    assert_eq!(check_request(&request, &Profile::bedrock()), Ok(()));

    let word = json!({"role": "user", "content": [{"text": "see"},
        {"document": {"format": "docx", "name": "r", "source": {"bytes": "UEsDBA=="}}}]});
    let rendered =
        render_all(&[Message::from_value(word).unwrap()], &Profile::openai_chat(), Extent::Whole);
    let request = rendered.request.to_string();
    assert!(
        request.contains("data:application/vnd.openxmlformats-officedocument.wordprocessingml")
    );
}

#[test]
fn raw_file_data_become_a_data_url() {
    use serde_json::json;

    let chat = |file| json!({"role": "user", "content": [{"type": "file", "file": file}]});
    let responses = |file: serde_json::Value| {
        let mut file = file;
        file["type"] = json!("input_file");
        json!({"type": "message", "role": "user", "content": [file]})
    };
    let sdk = json!({"role": "user", "content": [{"type": "file", "data": "aGk=",
        "filename": "a.csv", "mediaType": "text/csv"}]});
    let claude = json!({"role": "user", "content": [{"type": "document",
        "source": {"type": "base64", "data": "JVBERi0x"}}]});
    let pdf = json!({"file_data": "JVBERi0x"});
    let text = json!({"filename": "Notes.TXT", "file_data": "aGk="});
    let unknown = json!({"filename": "notes", "file_data": "aGk="});
    for (message, url) in [
        (chat(pdf.clone()), Some("data:application/pdf;base64,JVBERi0x")),
        (chat(text.clone()), Some("data:text/plain;base64,aGk=")),
        (chat(unknown.clone()), None),
        (chat(json!({"file_data": "data:;base64,aGk="})), None),
        (responses(pdf), Some("data:application/pdf;base64,JVBERi0x")),
        (responses(text), Some("data:text/plain;base64,aGk=")),
        (responses(unknown), None),
        (sdk, Some("data:text/csv;base64,aGk=")),
        (claude, Some("data:application/pdf;base64,JVBERi0x")),
    ] {
        let messages = [Message::from_value(message.clone()).unwrap()];
        for name in [ProfileName::OpenaiChat, ProfileName::OpenaiResponses, ProfileName::Mistral] {
            let profile = Profile::from(name);
            let rendered = render_all(&messages, &profile, Extent::Whole);
            let request = rendered.request.to_string();
            check_request(&request, &profile).unwrap();
            let is_listed = |it: &super::Repair| it.kind == RepairKind::MediaReplaced;
            let is_replaced = rendered.repairs.iter().any(is_listed);
            assert_eq!(is_replaced, url.is_none(), "{name}: {message}");
            let sent = url.map_or_else(|| "[document left out".into(), |url| format!("\"{url}\""));
            assert!(request.contains(&sent), "{name}: {request}");
            assert_eq!(rendered.tokens, rendered.request.count_tokens(&EstimateCounter));
        }
    }
}

#[test]
fn images_beside_the_content_are_sent_or_reported() {
    use serde_json::json;

    let data = "iVBORw0KGgo=";
    let url = format!("data:image/png;base64,{data}");
    let part = json!({"type": "image_url", "image_url": {"url": url}});
    let call =
        json!([{"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}]);
    let called = json!({"role": "assistant", "content": null, "tool_calls": call});
    for images in [json!([data]), json!([url]), json!([part])] {
        let said = json!({"role": "assistant", "content": "", "images": images});
        let result = json!({"role": "tool", "tool_call_id": "a", "content": "r", "images": images});
        for last in [said, result] {
            let user = json!({"role": "user", "content": "go"});
            let messages = [&user, &called, &last, &user]
                .map(|message| Message::from_value(message.clone()).unwrap());
            let price = message_tokens(&EstimateCounter, &messages[2]);
            assert!(price > 100, "{price} tokens of {last}");
            for profile in profiles() {
                let rendered = render_all(&messages, &profile, Extent::Whole);
                let request = rendered.request.to_string();
                check_request(&request, &profile).unwrap();
                assert_eq!(rendered.tokens, rendered.request.count_tokens(&EstimateCounter));
                let is = |kind| rendered.repairs.iter().any(|repair| repair.kind == kind);
                let is_replaced = request.contains("[image left out]");
                assert_eq!(is(RepairKind::MediaReplaced), is_replaced, "{request}");
                assert!(is_replaced || request.contains(data), "{request}");
            }
        }
    }
}
