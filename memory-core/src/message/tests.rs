use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::json::JsonErrorKind;

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
            let mut map: serde_json::Map<_, _> = extra.into_iter().collect();
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
    fn reading_and_writing_loses_nothing(value in any_message()) {
        let text = value.to_string();
        let message = Message::from_stored_json(&text).unwrap();
        prop_assert_eq!(&message.to_value(), &value);
        prop_assert_eq!(&*message.as_json(), &Json::parse(&text).unwrap());
        let again = serde_json::to_string(&message).unwrap();
        prop_assert_eq!(message.json_bytes(), again.len() as u64);
        prop_assert_eq!(&Message::from_stored_json(&again).unwrap(), &message);
        prop_assert_eq!(&serde_json::from_str::<Message>(&again).unwrap(), &message);
        if let Ok(json) = message.to_json() {
            prop_assert_eq!(Message::from_json(&json).unwrap(), message);
        }
    }

    #[test]
    fn equal_json_is_an_equal_message(text in "\\PC{0,20}", name in prop::option::of("[a-z]{0,4}")) {
        let mut built = Message::assistant(&*text);
        let mut value = json!({"role": "assistant", "content": text});
        if let Some(name) = name {
            built = built.with_name(&*name);
            value["name"] = name.into();
        }
        prop_assert_eq!(&Message::from_json(&value.to_string()).unwrap(), &built);
        prop_assert_eq!(&Message::from_value(value).unwrap(), &built);
        let escaped = Message::from_json(&built.to_json().unwrap().replace('a', "\\u0061"));
        prop_assert_eq!(escaped.unwrap(), built);
    }

    #[test]
    fn reading_never_panics(value in any_json()) {
        let _ = Message::from_value(value).map(|message| (message.tool_link(), message.text().len()));
    }

    #[test]
    fn errors_never_quote_the_content(secret in "[A-Z]{12}") {
        for value in [
            json!({"role": 7, "content": secret}),
            json!({"role": secret}),
            json!({"role": "user", "name": [secret]}),
            json!({"role": "assistant", "tool_calls": [{"id": 5, "x": secret}]}),
            json!({"from": secret, "value": secret}),
            json!([secret]),
        ] {
            let error = Message::from_value(value).unwrap_err().to_string();
            prop_assert!(!error.contains(&secret), "{}", error);
        }
    }
}

#[test]
fn numbers_keep_their_text() {
    let text = r#"{"role":"user","content":"hi","id":12345678901234567890123,"x":0.1000000000000000055511151231257827,"y":1.0,"z":-0.0,"w":1e2,"v":1e400}"#;
    let message = Message::from_json(text).unwrap();
    assert_eq!(message.to_json().unwrap(), text);
    assert_eq!(serde_json::to_string(&message).unwrap(), text);
    assert_eq!(serde_json::from_str::<Message>(text).unwrap(), message);
    let list: Vec<Message> = serde_json::from_str(&format!("[{text}]")).unwrap();
    assert_eq!(list, [message]);
}

#[test]
fn repeated_keys_are_refused() {
    for text in [
        r#"{"role":"user","content":"safe","content":"other","role":"system"}"#,
        r#"{"role":"user","content":[{"text":"a","text":"b"}]}"#,
    ] {
        let error = Message::from_json(text).unwrap_err();
        assert_eq!(error.json_kind(), Some(JsonErrorKind::DuplicateKey));
    }
}

#[test]
fn roles_compare_trimmed_and_without_case() {
    for text in [
        r#"{"role":"User","content":"hi"}"#,
        r#"{"role":"USER","content":"hi"}"#,
        r#"{"role":" user","content":"hi"}"#,
    ] {
        let message = Message::from_json(text).unwrap();
        assert_eq!((message.role(), message.to_json().as_deref()), (&Role::User, Ok(text)));
    }
}

#[test]
fn unknown_role_needs_something_to_read() {
    let kept = Message::from_json(r#"{"role":"narrator","content":"night falls"}"#).unwrap();
    assert_eq!(kept.role(), &Role::Other("narrator".into()));
    for (text, error) in [
        (
            r#"{"role":"narrator","content":" "}"#,
            "`role` is not known and the message has nothing to read: give it a known role such as \"user\", or content",
        ),
        (
            r#"{"role":"CHATBOT","message":"hello"}"#,
            "this looks like a Cohere v1 message: convert it to one message of a supported dialect",
        ),
        (
            r#"{"role":"prompter","message_id":"a","parent_id":null,"text":"hi"}"#,
            "this looks like an OASST message: convert it to one message of a supported dialect",
        ),
    ] {
        assert_eq!(Message::from_json(text).unwrap_err().to_string(), error, "{text}");
    }
}

#[test]
fn empty_content_is_accepted_under_a_known_role() {
    for text in [
        r#"{"role":"assistant","content":""}"#,
        r#"{"role":"assistant","content":null}"#,
        r#"{"role":"assistant","content":[]}"#,
        r#"{"role":"assistant"}"#,
        r#"{"role":"user","content":"  \n"}"#,
        r#"{"role":"assistant","content":"","tool_calls":[],"name":null,"function_call":null}"#,
    ] {
        let message = Message::from_json(text).unwrap();
        assert!(message.is_blank(), "{text}");
        assert_eq!(*message.as_json(), Json::parse(text).unwrap());
    }
    assert!(!Message::calls([ToolCall::function("a", "f", "{}")]).is_blank());
}

#[test]
fn stored_rows_are_always_readable() {
    for text in [
        r#"{"role":"narrator","scene":"no content at all"}"#,
        r#"{"role":"  "}"#,
        r#"{"role":"user","text":"elsewhere"}"#,
        r#"{"role":"user","parts":[{"part_kind":"x"}]}"#,
        r#"{"data":{"content":"hi"},"role":"user","type":"human"}"#,
    ] {
        let message = Message::from_stored_json(text).unwrap();
        assert_eq!(*message.as_json(), Json::parse(text).unwrap(), "{text}");
        let _ = (message.text(), message.tool_link(), message.role());
    }
}

#[test]
fn malformed_message_is_not_written() {
    assert!(Message::new(Role::Other("".into()), "x").to_json().is_err());
    let deep = (0..200).fold(Json::Null, |inner, _| Json::Array(vec![inner]));
    let message = Message::user("").with_field("content", vec![deep]);
    assert!(message.to_json().is_err(), "JSON is read 127 levels deep");
    assert!(Message::user("").with_field("name", 7_u64).to_json().is_err());
}

#[test]
fn malformed_message_names_the_field_and_the_fix() {
    for (text, error) in [
        (
            "{",
            "invalid JSON at line 1, column 2: the text ends within a value: write the value to its end",
        ),
        ("[]", "the message must be a JSON object"),
        ("{}", "`role` is missing: add who speaks, such as \"user\""),
        (r#"{"role":""}"#, "`role` must be a non-empty string"),
        (r#"{"role":"user","content":5}"#, "`content` must be a string, null or an array of parts"),
        (r#"{"role":"user","name":{}}"#, "`name` must be a string or null"),
        (r#"{"role":"tool","tool_call_id":1}"#, "`tool_call_id` must be a string or null"),
        (r#"{"role":"assistant","tool_calls":{}}"#, "`tool_calls` must be an array or null"),
        (r#"{"role":"assistant","tool_calls":[3]}"#, "`tool_calls[0]` must be an object"),
        (
            r#"{"role":"assistant","tool_calls":[{"id":"a"},{"id":5}]}"#,
            "`tool_calls[1].id` must be a string or null",
        ),
    ] {
        assert_eq!(Message::from_json(text).unwrap_err().to_string(), error, "{text}");
    }
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
fn text_of_parts_is_joined_by_line_breaks() {
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
    let result =
        json!([{"type": "tool_result", "tool_use_id": "t", "content": "r"}, part("go on")]);
    assert_eq!(text(result), "r\ngo on");
}

#[test]
fn constructors_fill_what_they_name() {
    for (message, role) in [
        (Message::system("x"), Role::System),
        (Message::user("x"), Role::User),
        (Message::assistant("x"), Role::Assistant),
        (Message::tool_result("c", "x"), Role::Tool),
    ] {
        assert_eq!((message.role(), &*message.text()), (&role, "x"));
    }
    let result = Message::tool_result("c", "x").with_name("f");
    assert_eq!((result.name(), result.author()), (Some("f"), None));
    let expected = json!({"role": "tool", "tool_call_id": "c", "content": "x", "name": "f"});
    assert_eq!(result.to_value(), expected);
    let named = Message::user("x").with_name("ann");
    assert_eq!((named.name(), named.author()), (Some("ann"), Some("ann")));
    let calls = Message::calls([ToolCall::function("c", "f", "{}")]).with_name("bot");
    let expected = json!({"role": "assistant", "content": null, "name": "bot", "tool_calls": [
        {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]});
    assert_eq!(calls.to_value(), expected);
    assert_eq!(Message::from_value(expected).unwrap(), calls);
}

#[test]
fn fields_are_set_and_found() {
    let message = Message::user("x").with_field("step", 7_u64);
    let step = message.field("step").map(Cow::into_owned);
    assert_eq!(step, Some(Json::from(7)));
    assert_eq!(message.field("role").unwrap().as_str(), Some("user"));
    assert_eq!(Message::user("x").field("content").unwrap().as_str(), Some("x"));
    assert_eq!(Message::user("x").field("step"), None);
    assert_eq!(Message::user("x").with_field("content", "y"), Message::user("y"));
}
