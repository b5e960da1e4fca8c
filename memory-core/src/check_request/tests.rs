#![expect(clippy::needless_pass_by_value, reason = "rows read better with `json!` in place")]

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{RequestError, RequestRule, check_request, check_request_value};
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

/// A request, as a value or, where a value cannot have the fault, as a text.
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

/// A request that breaks one rule. The place is where it is reported first.
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

/// The answers of both entry points, which must agree.
fn check(request: &Request, profile: &Profile) -> Result<(), RequestError> {
    match request {
        Request::Text(text) => check_request(text, profile),
        Request::Value(value) => {
            let of_value = check_request_value(value, profile);
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
