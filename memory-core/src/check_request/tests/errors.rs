use super::*;

/// A word that errors must not contain.
const SECRET: &str = "S3cret-word";

/// Replaces every string, and every key that is not a name of the format, by the secret.
fn poison(value: &Value) -> Value {
    match value {
        Value::String(_) => json!(SECRET),
        Value::Array(items) => items.iter().map(poison).collect(),
        Value::Object(fields) => {
            let mut fields: serde_json::Map<_, _> =
                fields.iter().map(|(key, value)| (key.clone(), poison(value))).collect();
            fields.insert(SECRET.to_owned(), json!(SECRET));
            fields.insert(format!("a/{SECRET}"), json!(7));
            Value::Object(fields)
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}

#[test]
fn errors_never_quote_content() {
    let broken = all_broken().into_iter().filter_map(|broken| match broken.request {
        Request::Value(value) => Some((broken.profile, value)),
        Request::Text(_) => None,
    });
    let mut count = 0;
    for (profile, request) in all_valid().into_iter().chain(broken) {
        for request in [poison(&request), keep_structure(&request)] {
            for profile in ProfileName::ALL.map(Profile::from).iter().chain([&profile]) {
                let Err(error) = check_request(&request, profile) else { continue };
                count += 1;
                for text in [error.to_string(), format!("{error:?}"), format!("{error:#?}")] {
                    assert!(!text.contains(SECRET), "{text}");
                }
            }
        }
    }
    assert!(count > 1_000, "{count}");
}

/// Like [`poison`], but keeps roles and types, so that the check gets further.
fn keep_structure(value: &Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .iter()
            .map(|(key, value)| {
                let kept = matches!(key.as_str(), "role" | "type") && value.is_string();
                (key.clone(), if kept { value.clone() } else { keep_structure(value) })
            })
            .collect(),
        Value::Array(items) => items.iter().map(keep_structure).collect(),
        other => poison(other),
    }
}

#[test]
fn unknown_keys_are_shown_only_if_name_like() {
    let place = |key: &str| {
        let request = json!([{"role": "user", "content": "x", key: 1}]);
        check_request(&request, &Profile::openai_chat()).unwrap_err().problems[0].place.clone()
    };
    assert_eq!(place("conversation_id"), "/0/conversation_id");
    let long = "x".repeat(41);
    for key in ["123-45-6789", "ann@example.com", "a b", "", "a/b", "naïve", "k1", &*long] {
        assert_eq!(place(key), "/0", "{key}");
    }
}

#[test]
fn many_problems_are_counted_but_bounded() {
    let request: Value = (0..1_000).map(|_| json!({"role": "bot"})).collect();
    let error = check_request(&request, &Profile::openai_chat()).unwrap_err();
    assert_eq!((error.total, error.problems.len()), (1_000, 256));
    let text = error.to_string();
    assert!(text.ends_with("; and 992 more"), "{text}");
    assert!(text.len() < crate::limits::MAX_ERROR_TEXT, "{}", text.len());
}

#[test]
fn error_names_rule_place_and_remedy() {
    let request = json!([{"role": "user", "content": "x", "name": null}]);
    let error = check_request(&request, &Profile::openai_chat()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "request for openai_chat: /0/name is null; leave the field out (null_field)"
    );
    let error = check_request("", &Profile::gemini()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "request for gemini: the request is not JSON, or is nested too deeply; write one JSON value \
         (json)"
    );
}

#[test]
fn nesting_has_one_bound_for_texts_and_values() {
    let profile = Profile::anthropic();
    let request = |depth: usize| {
        let input = (0..depth).fold(json!({}), |inner, _| json!({"a": inner}));
        json!({"messages": [{"role": "user", "content": "x"},
            {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "f", "input": input}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t"}]}]})
    };
    let mut refused = 0;
    for depth in 100..140 {
        let value = request(depth);
        let of_value = check_request(&value, &profile);
        assert_eq!(check_request(&value.to_string(), &profile), of_value, "{depth}");
        refused += usize::from(of_value.is_err());
    }
    assert!((1..40).contains(&refused), "{refused}");
}
