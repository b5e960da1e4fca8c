#![expect(clippy::needless_pass_by_value, reason = "rows read better with `json!` in place")]

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{RequestError, RequestRule, check_request};
use crate::profile::{Profile, ProfileName};

mod anthropic;
mod bedrock;
mod errors;
mod gemini;
mod mistral;
mod openai_chat;
mod properties;
mod responses;
mod strict_template;

/// A request, as a value, or as a text if a value cannot have the fault.
#[derive(Debug)]
enum Request {
    Value(Value),
    Text(String),
}

impl From<Value> for Request {
    fn from(value: Value) -> Self {
        Self::Value(value)
    }
}

impl From<&str> for Request {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// A request that breaks one rule, and the first reported place.
#[derive(Debug)]
struct Broken {
    profile: Profile,
    rule: RequestRule,
    place: &'static str,
    request: Request,
}

fn breaks(
    profile: Profile,
    rule: RequestRule,
    place: &'static str,
    request: impl Into<Request>,
) -> Broken {
    Broken { profile, rule, place, request: request.into() }
}

fn all_broken() -> Vec<Broken> {
    [
        openai_chat::broken(),
        responses::broken(),
        anthropic::broken(),
        gemini::broken(),
        bedrock::broken(),
        mistral::broken(),
        strict_template::broken(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn all_valid() -> Vec<(Profile, Value)> {
    [
        openai_chat::valid(),
        responses::valid(),
        anthropic::valid(),
        gemini::valid(),
        bedrock::valid(),
        mistral::valid(),
        strict_template::valid(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The messages of every request of these tests, including broken ones, as stored histories.
pub(crate) fn stored_histories() -> Vec<Vec<crate::json::Json>> {
    use crate::json::Json;
    let broken = all_broken().into_iter().map(|broken| match broken.request {
        Request::Value(value) => value.to_string(),
        Request::Text(text) => text,
    });
    let valid = all_valid().into_iter().map(|(_, request)| request.to_string());
    let histories = broken.chain(valid).filter_map(|text| {
        // Requests that are only too large are skipped, because they take too long.
        let json = (text.len() < 1 << 20).then(|| Json::parse(&text).ok())??;
        let keys = ["messages", "contents", "input"];
        let list = keys.iter().find_map(|key| json.get(key)).unwrap_or(&json);
        let messages = list.as_array()?.iter().filter(|message| message.as_object().is_some());
        Some(messages.cloned().collect())
    });
    histories.collect()
}

/// The result of both forms of a request, which must agree.
fn check(request: &Request, profile: &Profile) -> Result<(), RequestError> {
    match request {
        Request::Text(text) => check_request(text, profile),
        Request::Value(value) => {
            let of_value = check_request(value, profile);
            assert_eq!(check_request(&value.to_string(), profile), of_value);
            of_value
        }
    }
}

#[test]
fn broken_rule_is_the_only_one_reported() {
    let mut wrong = Vec::new();
    for Broken { profile, rule, place, request } in all_broken() {
        let found = check(&request, &profile);
        let is_right = found.as_ref().is_err_and(|error| {
            error.problems.iter().all(|problem| problem.rule == rule)
                && error.problems[0].place == place
        });
        if !is_right {
            wrong.push(format!("{profile}: {rule} at {place}: {found:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn valid_requests_pass() {
    for (profile, request) in all_valid() {
        let name = profile.to_string();
        if let Err(error) = check(&Request::Value(request.clone()), &profile) {
            panic!("{name}: {error}\n{request}");
        }
        // Also inside a whole request body.
        let mut body = match request {
            Value::Array(messages) => json!({"messages": messages}),
            body => body,
        };
        body["model"] = json!("some-model");
        body["tools"] = json!([{"name": "get_tide"}]);
        if let Err(error) = check(&Request::Value(body.clone()), &profile) {
            panic!("{name}: {error}\n{body}");
        }
    }
}

#[test]
fn table_lists_the_tested_rules() {
    let mut tested: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for broken in all_broken() {
        tested.entry(broken.rule.as_str()).or_default().insert(broken.profile.name.as_str());
    }
    let listed: BTreeMap<&str, BTreeSet<&str>> = include_str!("rules.md")
        .lines()
        .filter_map(|line| {
            let mut cells = line.strip_prefix("| `")?.split('|').map(str::trim);
            let rule = cells.next()?.strip_suffix('`')?;
            RequestRule::ALL.iter().any(|known| known.as_str() == rule).then_some(())?;
            let profiles = match cells.next()? {
                "all" => ProfileName::ALL.iter().map(|name| name.as_str()).collect(),
                names => names.split(", ").collect(),
            };
            Some((rule, profiles))
        })
        .collect();
    let markdown = || {
        tested
            .iter()
            .map(|(rule, profiles)| {
                let profiles: Vec<_> = profiles.iter().copied().collect();
                format!("| `{rule}` | {} |\n", profiles.join(", "))
            })
            .collect::<String>()
    };
    assert_eq!(listed, tested, "the tests cover:\n{}", markdown());
    let untested: Vec<_> =
        RequestRule::ALL.iter().filter(|rule| !tested.contains_key(rule.as_str())).collect();
    assert!(untested.is_empty(), "{untested:?}");
}

#[test]
fn same_exchange_is_valid_in_every_form() {
    // One call and its result in the form of each API.
    let call = json!({"id": "call_7", "type": "function",
                      "function": {"name": "get_tide", "arguments": "{\"port\":\"Brest\"}"}});
    let chat = json!([
        {"role": "user", "content": "How high is the tide?"},
        {"role": "assistant", "content": null, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_7", "content": "4.1 m"}]);
    // Templates and Mistral require `content`, and Mistral requires its id form.
    let mut strict = chat.clone();
    strict[1]["content"] = json!("");
    let mut mistral = strict.clone();
    mistral[1]["tool_calls"][0]["id"] = json!("call70000");
    mistral[2]["tool_call_id"] = json!("call70000");
    let responses = json!({"input": [
        {"role": "user", "content": "How high is the tide?"},
        {"type": "function_call", "id": "fc_1", "call_id": "call_7", "name": "get_tide",
         "arguments": "{\"port\":\"Brest\"}"},
        {"type": "function_call_output", "call_id": "call_7", "output": "4.1 m"}]});
    let anthropic = json!({"messages": [
        {"role": "user", "content": "How high is the tide?"},
        {"role": "assistant", "content": [
            {"type": "thinking", "thinking": "", "signature": "c2ln"},
            {"type": "tool_use", "id": "toolu_7", "name": "get_tide", "input": {"port": "Brest"}}]},
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "toolu_7",
             "content": [{"type": "text", "text": "4.1 m"}]},
            {"type": "text", "text": "and at noon?"}]}]});
    let gemini = json!({"contents": [
        {"role": "user", "parts": [{"text": "How high is the tide?"}]},
        {"role": "model", "parts": [{"functionCall": {"name": "get_tide", "args": {"port": "Brest"}},
                                     "thoughtSignature": "c2ln"}]},
        {"role": "user", "parts": [
            {"functionResponse": {"name": "get_tide", "response": {"result": "4.1 m"}}}]}]});
    let bedrock = json!({"messages": [
        {"role": "user", "content": [{"text": "How high is the tide?"}]},
        {"role": "assistant", "content": [
            {"toolUse": {"toolUseId": "t7", "name": "get_tide", "input": {"port": "Brest"}}}]},
        {"role": "user", "content": [
            {"toolResult": {"toolUseId": "t7", "status": "success", "content": [{"text": "4.1 m"}]}}]}]});
    let forms = [
        (Profile::openai_chat(), chat),
        (Profile::openai_responses(), responses),
        (Profile::anthropic(), anthropic),
        (Profile::gemini(), gemini),
        (Profile::bedrock(), bedrock),
        (Profile::mistral(), mistral),
        (Profile::strict_template(), strict),
    ];
    for (profile, request) in &forms {
        assert_eq!(check_request(request, profile), Ok(()), "{profile}");
        // No form is valid for an API that requires another one.
        for (other, _) in forms.iter().filter(|(other, _)| other != profile) {
            let is_chat = |profile: &Profile| {
                matches!(
                    profile.name,
                    ProfileName::OpenaiChat | ProfileName::Mistral | ProfileName::StrictTemplate
                )
            };
            let is_valid = check_request(request, other).is_ok();
            assert!(!is_valid || (is_chat(profile) && is_chat(other)), "{profile} as {other}");
        }
    }
}
