use proptest::prelude::*;
use serde_json::json;

use super::*;

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_filter("JSON has no NaN", |x| x.is_finite()).prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("\\PC{0,6}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn any_call() -> impl Strategy<Value = Value> {
    ("[a-z0-9_]{1,8}", "\\PC{0,8}", prop::option::of(any_json())).prop_map(
        |(id, arguments, more)| {
            let mut call = json!({
                "id": id, "type": "function",
                "function": {"name": "f", "arguments": arguments},
            });
            if let Some(more) = more {
                call["more"] = more;
            }
            call
        },
    )
}

fn any_message() -> impl Strategy<Value = Value> {
    let role = prop_oneof![
        prop::sample::select(vec!["system", "developer", "user", "assistant", "tool", "function"])
            .prop_map(String::from),
        "[a-z]{1,6}",
    ];
    let content = prop_oneof![
        Just(Value::Null),
        "\\PC{0,20}".prop_map(Value::from),
        prop::collection::vec(any_json(), 0..3).prop_map(Value::from),
    ];
    let calls = prop_oneof![
        Just(Value::Null),
        prop::collection::vec(any_call(), 0..3).prop_map(Value::from),
    ];
    let name = prop_oneof![Just(Value::Null), "\\PC{0,6}".prop_map(Value::from)];
    (
        role,
        prop::option::of(content),
        prop::option::of(calls),
        prop::option::of(name.clone()),
        prop::option::of(name),
        prop::collection::btree_map("x[a-z]{0,3}", any_json(), 0..3),
    )
        .prop_map(|(role, content, calls, name, call_id, extra)| {
            let mut map: Map<_, _> = extra.into_iter().collect();
            map.insert("role".into(), role.into());
            for (field, value) in [
                ("content", content),
                ("tool_calls", calls),
                ("name", name),
                ("tool_call_id", call_id),
            ] {
                if let Some(value) = value {
                    map.insert(field.into(), value);
                }
            }
            Value::Object(map)
        })
}

proptest! {
    #[test]
    fn the_direct_form_is_that_of_the_value(
        text in "\\PC{0,20}", name in prop::option::of("[a-z]{1,4}"), calls in 0..3_usize,
    ) {
        let mut message = Message::assistant(text);
        message.name = name;
        message.tool_calls = (0..calls).map(|n| ToolCall::function(n.to_string(), "f", "{}")).collect();
        for extra in [false, true] {
            if extra {
                message.extra.insert("a".into(), Value::Null);
            }
            prop_assert_eq!(message.to_json().unwrap(), message.to_value().to_string());
        }
    }
}

#[test]
fn a_message_that_could_not_be_read_back_is_not_written() {
    assert!(Message::new(Role::Other("".into()), "x").to_json().is_err());
    assert!(Message::calls([ToolCall::function("", "f", "{}")]).to_json().is_err());
    let deep = (0..200).fold(Value::Null, |inner, _| Value::Array(vec![inner]));
    let mut message = Message::user("");
    message.content = Some(Content::Parts(vec![deep]));
    assert!(message.to_json().is_err(), "JSON is read 128 levels deep");
}

proptest! {
    #[test]
    fn reading_and_writing_a_message_loses_nothing(value in any_message()) {
        let text = value.to_string();
        let message = Message::from_json(&text).unwrap();
        prop_assert_eq!(&message.to_value(), &value);
        let again = Message::from_json(&serde_json::to_string(&message).unwrap()).unwrap();
        prop_assert_eq!(again, message);
    }

    #[test]
    fn no_json_value_makes_reading_panic(value in any_json()) {
        let _ = Message::from_value(value).map(|message| message.tool_link());
    }

    #[test]
    fn errors_never_quote_the_content(secret in "[A-Z]{12}") {
        for value in [
            json!({"role": 7, "content": secret}),
            json!({"role": "user", "content": {"text": secret}}),
            json!({"role": "user", "name": [secret]}),
            json!({"role": "assistant", "tool_calls": [{"id": 5, "x": secret}]}),
            json!([secret]),
        ] {
            let error = Message::from_value(value).unwrap_err().to_string();
            prop_assert!(!error.contains(&secret), "{}", error);
        }
    }
}

#[test]
fn a_malformed_message_names_the_field_and_the_mend() {
    for (text, error) in [
        ("{", "invalid JSON at line 1, column 1: write one complete JSON object"),
        ("[]", "the message must be a JSON object"),
        ("{}", "`role` is missing: add who speaks, such as \"user\""),
        (r#"{"role":""}"#, "`role` must be a non-empty string"),
        (r#"{"role":"user","content":5}"#, "`content` must be a string, null or an array of parts"),
        (r#"{"role":"user","name":{}}"#, "`name` must be a string or null"),
        (r#"{"role":"tool","tool_call_id":1}"#, "`tool_call_id` must be a string or null"),
        (r#"{"role":"assistant","tool_calls":{}}"#, "`tool_calls` must be an array or null"),
        (r#"{"role":"assistant","tool_calls":[3]}"#, "`tool_calls[0]` must be an object"),
        (
            r#"{"role":"assistant","tool_calls":[{"id":"a"},{"id":""}]}"#,
            "`tool_calls[1].id` must be a non-empty string, for its result refers to it",
        ),
    ] {
        assert_eq!(Message::from_json(text).unwrap_err().to_string(), error, "{text}");
    }
}

#[test]
fn calls_and_results_are_linked_by_id_and_old_functions_by_name() {
    let calls =
        Message::calls([ToolCall::function("a", "f", "{}"), ToolCall::function("b", "g", "{}")]);
    assert_eq!(calls.tool_link(), ToolLink::Calls(["a".into(), "b".into()].into()));
    assert_eq!(Message::tool_result("a", "1").tool_link(), ToolLink::Result("a".into()));
    let old = Message::from_value(
        json!({"role": "assistant", "content": null, "function_call": {"name": "f"}}),
    );
    let result = Message::from_value(json!({"role": "function", "name": "f", "content": "1"}));
    let id: Box<str> = "function_call:f".into();
    assert_eq!(old.unwrap().tool_link(), ToolLink::Calls([id.clone()].into()));
    assert_eq!(result.unwrap().tool_link(), ToolLink::Result(id));
}

#[test]
fn each_role_has_its_name() {
    for (role, name) in [
        (Role::System, "system"),
        (Role::Developer, "developer"),
        (Role::User, "user"),
        (Role::Assistant, "assistant"),
        (Role::Tool, "tool"),
        (Role::Function, "function"),
        (Role::Other("critic".into()), "critic"),
    ] {
        assert_eq!((role.as_str(), &*role.to_string()), (name, name));
        assert_eq!(Role::from(name.to_owned()), role);
    }
}

#[test]
fn the_text_of_parts_is_joined_by_line_breaks_and_other_parts_are_passed_over() {
    let text = |content: Value| {
        let message = Message::from_value(json!({"role": "user", "content": content})).unwrap();
        message.text().into_owned()
    };
    let part = |text: &str| json!({"type": "text", "text": text});
    let image = json!({"type": "image_url", "image_url": {"url": "data:,"}});
    assert_eq!(text(json!("plain")), "plain");
    assert_eq!((text(Value::Null), text(json!([image]))), (String::new(), String::new()));
    assert_eq!(text(json!([image, part("one"), image])), "one");
    assert_eq!(text(json!([part("one"), image, part("two")])), "one\ntwo");
    assert_eq!(text(json!([part("1"), part("2"), part("3"), part("4")])), "1\n2\n3\n4");
}

#[test]
fn the_ways_to_make_a_message_fill_the_fields_that_they_name() {
    for (message, role) in [
        (Message::system("x"), Role::System),
        (Message::user("x"), Role::User),
        (Message::assistant("x"), Role::Assistant),
        (Message::tool_result("c", "x"), Role::Tool),
    ] {
        assert_eq!((message.role.clone(), &*message.text()), (role, "x"));
    }
    assert_eq!(Message::tool_result("c", "x").tool_call_id.as_deref(), Some("c"));
    assert_eq!(Message::user("x").with_name("ann").name.as_deref(), Some("ann"));
    let call = ToolCall::function("c", "f", "{}");
    assert_eq!((call.name(), call.arguments()), (Some("f"), Some("{}")));
    assert_eq!(call.body["type"], "function");
    let bare = ToolCall { body: Map::new(), ..call.clone() };
    assert_eq!((bare.name(), bare.arguments()), (None, None));
    let calls = Message::calls([call.clone()]);
    assert_eq!((calls.role, calls.content), (Role::Assistant, Some(Content::Null)));
    assert_eq!(calls.tool_calls, [call]);
}

#[test]
fn only_an_assistant_calls_and_only_a_tool_answers() {
    let calls = Message::calls([ToolCall::function("a", "f", "{}")]);
    let as_user = Message { role: Role::User, ..calls };
    assert_eq!(as_user.tool_link(), ToolLink::None);
    assert_eq!(Message::assistant("x").tool_link(), ToolLink::None);
    let without_id = Message::new(Role::Tool, "x");
    assert_eq!(without_id.tool_link(), ToolLink::Result("".into()));
    let without_name = Message::new(Role::Function, "x");
    assert_eq!(without_name.tool_link(), ToolLink::Result("function_call:".into()));
    let odd = json!({"role": "assistant", "content": "x", "function_call": {"name": 7}});
    assert_eq!(Message::from_value(odd).unwrap().tool_link(), ToolLink::None);
}
