//! Regression tests: histories that an earlier version rendered incorrectly.

use memory_core::plan::{ContextError, NewestUnit, Policy, Trimmed, plan_context};
use memory_core::profile::ProfileName;
use memory_core::store::MessageId;
use memory_core::{
    Entry, EstimateCounter, Message, Priority, Profile, Sequence, WindowOptions, check_request,
    trim_messages,
};
use serde_json::{Value, json};

fn window(history: &str, profile: &Profile, budget: u64) -> Result<Trimmed, ContextError> {
    let messages: Vec<_> =
        history.lines().map(|line| Message::from_json(line.trim()).unwrap()).collect();
    let options = WindowOptions::new(budget).with_profile(profile.clone());
    let window = trim_messages(messages, &EstimateCounter, options)?;
    assert_eq!(check_request(&window.request.to_string(), profile), Ok(()));
    assert!(window.tokens <= budget);
    Ok(window)
}

/// The request for OpenAI Chat, and the names of its repairs.
fn chat(history: &str) -> (Value, Vec<&'static str>) {
    let window = window(history, &Profile::openai_chat(), 100_000).unwrap();
    (window.request.to_value(), window.repairs.iter().map(|repair| repair.kind.as_str()).collect())
}

fn call(id: &str, name: &str, arguments: &str) -> Value {
    json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}})
}

#[test]
fn unanswered_parallel_call_gets_a_synthetic_result() {
    let history = r#"{"role":"user","content":"Book the ferry, then pay for it."}
        {"role":"assistant","content":"I have found a seat.","tool_calls":[{"id":"a","type":"function","function":{"name":"book","arguments":"{\"seat\":\"14B\"}"}},{"id":"b","type":"function","function":{"name":"pay","arguments":"{\"amount\":40}"}}]}
        {"role":"tool","tool_call_id":"a","content":"booked, reference K7"}
        {"role":"user","content":"Did that work?"}"#;
    let (request, repairs) = chat(history);
    assert_eq!(request[1]["content"], "I have found a seat.");
    let calls =
        json!([call("a", "book", "{\"seat\":\"14B\"}"), call("b", "pay", "{\"amount\":40}")]);
    assert_eq!(request[1]["tool_calls"], calls);
    let result = json!({"role": "tool", "tool_call_id": "a", "content": "booked, reference K7"});
    assert_eq!(request[2], result);
    assert_eq!(request[3]["tool_call_id"], "b");
    assert_eq!(request[4]["content"], "Did that work?");
    assert_eq!(repairs, ["synthetic_result"]);
    // At the end of the history as well.
    for lines in [2, 3] {
        let open: Vec<_> = history.lines().take(lines).collect();
        let (request, repairs) = chat(&open.join("\n"));
        assert_eq!(request.as_array().unwrap().len(), 4);
        assert_eq!(repairs, ["synthetic_result"]);
    }
}

#[test]
fn storage_fields_and_empty_fields_are_not_sent() {
    let (request, repairs) = chat(
        r#"{"conversation_id":"c-1","index":0,"role":"user","content":"hi"}
        {"role":"assistant","content":"hello","tool_calls":[],"function_call":null,"refusal":null,"annotations":[],"audio":null,"name":null}"#,
    );
    let expected =
        json!([{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]);
    assert_eq!((request, repairs), (expected, vec![]));
}

#[test]
fn newest_unit_over_budget_is_named_or_cut() {
    let text = "the harbor of the old town is full of boats today. ".repeat(60);
    let history = format!(
        "{{\"role\":\"system\",\"content\":\"You help.\"}}\n{{\"role\":\"user\",\"content\":\"Hello\"}}\n{}",
        json!({"role": "user", "content": text})
    );
    let error = window(&history, &Profile::openai_chat(), 100).unwrap_err();
    let ContextError::NewestOverBudget { sequence, tokens, .. } = error else { panic!("{error}") };
    assert!(sequence == Sequence::new(3) && tokens > 500, "{error}");
    let messages = history.lines().map(|line| Message::from_json(line).unwrap()).collect();
    let options = WindowOptions::new(100).with_newest(NewestUnit::Truncate);
    let window = trim_messages(messages, &EstimateCounter, options).unwrap();
    assert!(window.tokens <= 100 && window.request.to_string().contains("[truncated]"));
}

#[test]
fn repeated_ids_become_unique_in_call_and_result() {
    let round = |text: &str| {
        format!(
            r#"{{"role":"user","content":"{text}"}}
            {{"role":"assistant","content":null,"tool_calls":[{{"id":"call_0","type":"function","function":{{"name":"f","arguments":"{{}}"}}}}]}}
            {{"role":"tool","tool_call_id":"call_0","content":"of {text}"}}"#
        )
    };
    let (request, repairs) = chat(&format!("{}\n{}", round("one"), round("two")));
    let id = |index: usize| request[index]["tool_calls"][0]["id"].as_str().unwrap();
    assert_eq!(id(1), "call_0");
    assert_ne!(id(4), "call_0");
    assert_eq!(
        (&request[2]["tool_call_id"], &request[5]["tool_call_id"]),
        (&json!(id(1)), &json!(id(4)))
    );
    assert_eq!(request[5]["content"], "of two");
    assert_eq!(repairs, ["call_id"]);
}

#[test]
fn empty_content_is_left_out_and_counted() {
    let history = r#"{"role":"system","content":"You help."}
        {"role":"user","content":"hi"}
        {"role":"assistant","content":""}
        {"role":"assistant","content":null}
        {"role":"assistant","content":[]}
        {"role":"assistant"}
        {"role":"user","content":"  \n"}
        {"role":"assistant","content":"yes"}"#;
    let window = window(history, &Profile::openai_chat(), 1_000).unwrap();
    assert_eq!(window.request.messages().len(), 3);
    assert_eq!(window.left_out.empty.messages, 5);
    assert_eq!(window.left_out.total().messages, 5);
}

#[test]
fn history_without_content_is_sendable() {
    let blank = r#"{"role":"user","content":"  "}
        {"role":"assistant","content":null}"#;
    for profile in [Profile::openai_chat(), Profile::anthropic(), Profile::gemini()] {
        let found = window(blank, &profile, 1_000).unwrap();
        assert!(found.request.to_string().contains("[continue]"), "{}", found.request);
        assert_eq!(found.left_out.empty.messages, 2);
        let options = WindowOptions::new(1_000).with_profile(profile);
        let nothing = trim_messages(vec![], &EstimateCounter, options).unwrap();
        assert!(nothing.request.messages().is_empty() && nothing.tokens == 0);
    }
}

#[test]
fn first_message_is_the_users_where_needed() {
    let history = r#"{"role":"system","content":"You help."}
        {"role":"user","content":"Tell me of the harbor, the old town and the fish market, with all their dates, please."}
        {"role":"assistant","content":"The harbor is from 1070."}
        {"role":"user","content":"And the hill?"}
        {"role":"assistant","content":"The hill is 320 m high."}"#;
    for budget in 40..70 {
        let window = window(history, &Profile::anthropic(), budget).unwrap();
        let request = window.request.to_value();
        assert_eq!(request["system"], "You help.");
        assert_eq!(request["messages"][0]["role"], "user", "budget {budget}");
    }
}

#[test]
fn strict_template_has_one_system_message() {
    let history = r#"{"role":"system","content":"You help."}
        {"role":"user","content":"hi"}
        {"role":"assistant","content":"hello"}
        {"role":"system","content":"The user has logged in."}
        {"role":"user","content":"go on"}"#;
    let window = window(history, &Profile::strict_template(), 1_000).unwrap();
    let roles: Vec<_> =
        window.request.messages().iter().map(|message| message.get_str("role").unwrap()).collect();
    assert_eq!(roles, ["system", "user", "assistant", "user"]);
    let system = window.request.messages()[0].get_str("content").unwrap();
    assert_eq!(system, "You help.\n\nThe user has logged in.");
}

#[test]
fn early_and_second_results_are_reported() {
    let call = r#"{"role":"assistant","content":null,"tool_calls":[{"id":"a","type":"function","function":{"name":"f","arguments":"{}"}}]}"#;
    let result = |text: &str| format!(r#"{{"role":"tool","tool_call_id":"a","content":"{text}"}}"#);
    let user = r#"{"role":"user","content":"go"}"#;
    let (request, repairs) = chat(&[user, &result("early"), call, user].join("\n"));
    assert!(!request.to_string().contains("early"));
    assert_eq!(repairs, ["orphan_result", "synthetic_result"]);
    let (request, repairs) = chat(&[user, call, &result("one"), &result("two"), user].join("\n"));
    assert!(request.to_string().contains("one") && !request.to_string().contains("two"));
    assert_eq!(repairs, ["duplicate_result"]);
}

#[test]
fn names_and_ids_are_changed_where_refused() {
    let id = "x".repeat(64);
    let history = format!(
        r#"{{"role":"user","name":"Ann Example, Oslo","content":"hi"}}
        {{"role":"assistant","content":null,"tool_calls":[{{"id":"{id}","type":"function","function":{{"name":"f","arguments":"{{}}"}}}}]}}
        {{"role":"tool","tool_call_id":"{id}","content":"ok"}}"#
    );
    let (request, repairs) = chat(&history);
    assert_eq!(request[0]["name"], "Ann_Example_Oslo");
    assert_eq!(request[1]["tool_calls"][0]["id"], request[2]["tool_call_id"]);
    assert!(request[2]["tool_call_id"].as_str().unwrap().len() <= 40);
    assert_eq!(repairs, ["author_name", "call_id"]);
}

#[test]
fn result_without_id_is_linked_by_name() {
    let (request, repairs) = chat(
        r#"{"role":"user","content":"temp?"}
        {"role":"assistant","content":null,"tool_calls":[{"id":"c1","type":"function","function":{"name":"get_temp","arguments":"{}"}}]}
        {"role":"tool","name":"get_temp","content":"22"}"#,
    );
    assert_eq!(request[2], json!({"role": "tool", "tool_call_id": "c1", "content": "22"}));
    assert_eq!(repairs, [""; 0]);
}

#[test]
fn reasoning_that_is_not_sent_takes_no_room() {
    let long = "multiply step by step. ".repeat(600);
    for reasoning in [
        json!({"reasoning_content": long}),
        json!({"reasoning_details": [{"type": "reasoning.text", "text": long}]}),
        json!({"thinking_blocks": [{"type": "thinking", "thinking": long, "signature": "s"}]}),
    ] {
        let mut answer = json!({"role": "assistant", "content": "391"});
        for (key, value) in reasoning.as_object().unwrap() {
            answer[key] = value.clone();
        }
        let history = format!("{{\"role\":\"user\",\"content\":\"What is 17*23?\"}}\n{answer}");
        let sent = window(&history, &Profile::openai_chat(), 100).unwrap();
        let expected = json!([
            {"role": "user", "content": "What is 17*23?"}, {"role": "assistant", "content": "391"},
        ]);
        assert_eq!(sent.request.to_value(), expected);
        // Reasoning that is sent is counted.
        let deepseek = Profile::for_model(Some("deepseek-v3.2"));
        if reasoning.get("reasoning_content").is_some() {
            assert!(window(&history, &deepseek, 100).is_err());
            assert!(window(&history, &deepseek, 10_000).unwrap().tokens > 2_000);
        }
    }
}

#[test]
fn start_is_pinned_only_where_needed() {
    let mut history = String::new();
    for turn in 0..10 {
        history.push_str(&format!("{{\"role\":\"user\",\"content\":\"question {turn}\"}}\n"));
        history.push_str(&format!("{{\"role\":\"assistant\",\"content\":\"answer {turn}\"}}\n"));
    }
    history.push_str(r#"{"role":"user","content":"last"}"#);
    for profile in [Profile::openai_chat(), Profile::anthropic(), Profile::gemini()] {
        for budget in 12..60 {
            let Ok(found) = window(&history, &profile, budget) else { continue };
            let messages = trimmed_texts(&found);
            // A question without its answer is not the start of a window that has a later question.
            let questions = messages.iter().filter(|text| text.starts_with("question")).count();
            let answers = messages.iter().filter(|text| text.starts_with("answer")).count();
            assert!(questions <= answers.max(1), "{} {budget}: {messages:?}", profile.name);
        }
    }
}

fn trimmed_texts(window: &Trimmed) -> Vec<String> {
    window.messages.iter().map(|message| message.text().into_owned()).collect()
}

#[test]
fn newest_unit_behind_critical_is_cut_everywhere() {
    let words = "word ".repeat(400);
    let entry = |text: &str, sequence: u64, priority: Priority| {
        Policy::with_max_tokens(10_000)
            .admit(
                Entry::from(Message::user(text)).with_priority(priority),
                MessageId::new(uuid::Uuid::from_u128(sequence.into())),
                jiff::Timestamp::UNIX_EPOCH,
                &EstimateCounter,
            )
            .stored_at(Sequence::new(sequence))
    };
    let policy = Policy::with_max_tokens(10_000);
    let history =
        [entry(&"rule ".repeat(60), 1, Priority::CRITICAL), entry(&words, 2, Priority::OPTIONAL)];
    for name in [
        ProfileName::OpenaiChat,
        ProfileName::OpenaiResponses,
        ProfileName::Anthropic,
        ProfileName::Gemini,
        ProfileName::Bedrock,
        ProfileName::Mistral,
        ProfileName::StrictTemplate,
    ] {
        let options = WindowOptions::new(200)
            .with_profile(Profile::new(name, None))
            .with_newest(NewestUnit::Truncate);
        let now = jiff::Timestamp::UNIX_EPOCH;
        let plan = plan_context(&history, &policy, &options, &EstimateCounter, now).unwrap();
        let text = plan.request.to_string();
        assert!(plan.tokens <= 200 && text.contains("[truncated]"), "{name}: {text}");
        assert!(text.contains(&"rule ".repeat(59)), "{name}: critical messages are not cut");
    }
}
