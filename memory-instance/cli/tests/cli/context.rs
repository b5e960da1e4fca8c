//! `memory context` for each API, on one history of all dialects.

use memory_core::profile::ProfileName;
use memory_core::{Profile, check_request};
use serde_json::{Value, json};

use crate::support::Folder;

on_every_store!(
    each_profile_has_its_form,
    json_has_the_whole_window,
    repairs_are_reported_on_stderr,
    newest_unit_is_cut_on_demand,
    system_prompt_of_the_options_comes_first,
    unknown_profile_is_refused_with_the_list,
);

/// Messages of five dialects, a call without a result among them.
fn with_mixed(folder: &Folder) {
    let history = [
        json!({"role": "system", "content": "You are a travel agent."}),
        json!({"role": "user", "content": "Can I fly to Oslo?"}),
        json!({"role": "assistant", "content": null, "tool_calls": [
            {"id": "call_1", "type": "function", "function": {"name": "flights", "arguments": "{\"day\":1}"}},
            {"id": "call_2", "type": "function", "function": {"name": "weather", "arguments": "{}"}}]}),
        json!({"role": "tool", "tool_call_id": "call_1", "content": "two flights"}),
        json!({"role": "user", "content": [{"type": "text", "text": "And by train?"}]}),
        json!({"role": "assistant", "content": [
            {"type": "tool_use", "id": "toolu_1", "name": "trains", "input": {"day": 2}}]}),
        json!({"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "toolu_1", "content": "a train at noon"}]}),
        json!({"role": "model", "parts": [{"text": "There is one train."}]}),
        json!({"role": "user", "parts": [{"text": "And the ferry?"}]}),
        json!({"role": "assistant", "content": [
            {"toolUse": {"toolUseId": "tooluse_1", "name": "ferries", "input": {}}}]}),
        json!({"role": "user", "content": [
            {"toolResult": {"toolUseId": "tooluse_1", "content": [{"text": "no ferry"}]}}]}),
        json!({"type": "message", "role": "user", "content": [{"type": "input_text", "text": "The newest question."}]}),
    ];
    folder.write("mixed.jsonl", history.map(|message| message.to_string()).join("\n"));
    let report = folder.json("import mixed.jsonl --key k --json");
    assert_eq!(report["appended"], 12, "{report}");
}

fn each_profile_has_its_form(folder: &Folder) {
    with_mixed(folder);
    for name in ProfileName::ALL {
        let said = folder.run(&format!("context --key k --for {name}"));
        assert_eq!(said.code, Some(0), "{name}: {said:?}");
        check_request(&said.out, &Profile::new(name, None))
            .unwrap_or_else(|error| panic!("{name}: {error}: {}", said.out));
        let request: Value = serde_json::from_str(&said.out).unwrap();
        let keys: Vec<_> = request.as_object().into_iter().flatten().map(|(key, _)| key).collect();
        let expected: &[&str] = match name {
            ProfileName::Anthropic | ProfileName::Bedrock => &["messages", "system"],
            ProfileName::Gemini => &["contents", "systemInstruction"],
            ProfileName::OpenaiResponses => &["input"],
            _ => &[],
        };
        assert_eq!(keys, expected, "{name}");
        assert_eq!(request.is_array(), expected.is_empty(), "{name}");
        for text in ["travel agent", "two flights", "at noon", "no ferry", "newest question"] {
            assert_eq!(said.out.matches(text).count(), 1, "{name}: {text} in {}", said.out);
        }
    }
}

fn json_has_the_whole_window(folder: &Folder) {
    with_mixed(folder);
    let request = folder.run("context --key k --for anthropic");
    let said = folder.run("context --key k --for anthropic --json");
    assert_eq!((said.code, said.err.as_str()), (Some(0), ""), "repairs are in the output");
    let window: Value = serde_json::from_str(&said.out).unwrap();
    let keys: Vec<_> = window.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["left_out", "repairs", "request", "tokens", "unchanged_tokens"]);
    assert_eq!(window["request"], serde_json::from_str::<Value>(&request.out).unwrap());
    assert!(window["tokens"].as_u64().unwrap() > 50);
    let synthetic = window["repairs"].as_array().unwrap().iter();
    let synthetic: Vec<_> = synthetic.filter(|it| it["repair"] == "synthetic_result").collect();
    assert_eq!((synthetic.len(), &synthetic[0]["sequence"]), (1, &json!(3)));
    assert_eq!(window["left_out"]["budget"]["messages"], 0);
}

fn repairs_are_reported_on_stderr(folder: &Folder) {
    with_mixed(folder);
    let said = folder.run("context --key k --for openai_chat");
    let repair = "message 3: answered a call without a result with a synthetic result\n";
    assert!(said.err.contains(repair), "{said:?}");
    assert!(!said.out.contains("synthetic result"), "{said:?}");
}

fn newest_unit_is_cut_on_demand(folder: &Folder) {
    with_mixed(folder);
    let long = json!({"role": "user", "content": "secret ".repeat(500)});
    folder.write("long.jsonl", long.to_string());
    folder.json("import long.jsonl --key k --json");
    let said = folder.run("context --key k --budget 100");
    assert_eq!((said.code, said.out.as_str()), (Some(1), ""), "{said:?}");
    let error = "error: context of default:default:k: the newest unit, from message 13 on, takes ";
    assert!(said.err.starts_with(error), "{said:?}");
    assert!(said.err.contains(" tokens and does not fit the budget of 100"), "{said:?}");
    assert!(!said.err.contains("secret"), "{said:?}");
    let window = folder.json("context --key k --budget 100 --newest truncate --json");
    assert!(window["tokens"].as_u64().unwrap() <= 100, "{window}");
    let request = window["request"].to_string();
    assert!(request.contains("[truncated]") && request.contains("travel agent"), "{request}");
    let said = folder.run("context --key k --budget 100 --newest truncate");
    assert!(said.err.contains("message 13: cut a text of the newest unit\n"), "{said:?}");
    let said = folder.run("context --key k --newest cut");
    assert_eq!(said.code, Some(2), "{said:?}");
}

fn system_prompt_of_the_options_comes_first(folder: &Folder) {
    with_mixed(folder);
    for (profile, place) in
        [("openai_chat", "/0"), ("anthropic", "/system"), ("gemini", "/systemInstruction")]
    {
        let args =
            ["context", "--key", "k", "--for", profile, "--system", "Answer in one sentence."];
        let said = folder.run_words(args);
        assert_eq!(said.code, Some(0), "{said:?}");
        let request: Value = serde_json::from_str(&said.out).unwrap();
        let first = request.pointer(place).unwrap().to_string();
        assert!(first.contains("Answer in one sentence."), "{profile}: {first}");
        let own = said.out.find("Answer in one sentence.");
        assert!(own < said.out.find("You are a travel agent."), "{profile}: {said:?}");
    }
    let export = folder.ok("export --key k");
    assert!(!export.contains("Answer in one sentence."), "it is not stored");
}

fn unknown_profile_is_refused_with_the_list(folder: &Folder) {
    with_mixed(folder);
    let said = folder.run("context --key k --for claude");
    assert_eq!(said.code, Some(2), "{said:?}");
    for name in ProfileName::ALL {
        assert!(said.err.contains(name.as_str()), "{name}: {said:?}");
    }
}
