use std::sync::LazyLock;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// Field names and values of the formats, so that arbitrary JSON resembles requests.
const KEYS: [&str; 28] = [
    "role",
    "content",
    "type",
    "text",
    "messages",
    "contents",
    "parts",
    "input",
    "system",
    "tool_calls",
    "id",
    "function",
    "name",
    "arguments",
    "tool_call_id",
    "tool_use_id",
    "call_id",
    "functionCall",
    "functionResponse",
    "toolUse",
    "toolResult",
    "toolUseId",
    "source",
    "thinking",
    "signature",
    "output",
    "summary",
    "other",
];
const WORDS: [&str; 18] = [
    "user",
    "assistant",
    "system",
    "tool",
    "model",
    "text",
    "tool_use",
    "tool_result",
    "function",
    "function_call",
    "function_call_output",
    "reasoning",
    "thinking",
    "image",
    "message",
    "",
    "a",
    "é\"\\",
];

fn arbitrary_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        proptest::sample::select(&WORDS[..]).prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 60, 6, |inner| {
        let key = prop_oneof![
            4 => proptest::sample::select(&KEYS[..]).prop_map(str::to_owned),
            1 => ".{0,6}",
        ];
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Value::from),
            vec((key, inner), 0..6).prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

/// A fault at a random place of a valid request.
#[derive(Debug, Clone)]
enum Edit {
    Replace(Value),
    Remove,
    Repeat,
    Insert(String, Value),
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        arbitrary_json().prop_map(Edit::Replace),
        Just(Edit::Remove),
        Just(Edit::Repeat),
        (proptest::sample::select(&KEYS[..]), arbitrary_json())
            .prop_map(|(key, value)| Edit::Insert(key.to_owned(), value)),
    ]
}

/// Applies an edit at the node that `path` leads to.
fn apply(value: &mut Value, path: &[usize], edit: &Edit) {
    let (Some((step, rest)), true) = (path.split_first(), !matches!(value, Value::Null)) else {
        if let Edit::Replace(new) = edit {
            *value = new.clone();
        }
        return;
    };
    match value {
        Value::Array(items) if !items.is_empty() => {
            let index = step % items.len();
            match edit {
                Edit::Remove if rest.is_empty() => {
                    items.remove(index);
                }
                Edit::Repeat if rest.is_empty() => {
                    let item = items[index].clone();
                    items.insert(index, item);
                }
                _ => apply(&mut items[index], rest, edit),
            }
        }
        Value::Object(fields) if !fields.is_empty() => {
            let key = fields.keys().nth(step % fields.len()).unwrap().clone();
            match edit {
                Edit::Remove if rest.is_empty() => {
                    fields.remove(&key);
                }
                Edit::Insert(name, new) if rest.is_empty() => {
                    fields.insert(name.clone(), new.clone());
                }
                _ => apply(&mut fields[&key], rest, edit),
            }
        }
        leaf => {
            if let Edit::Replace(new) = edit {
                *leaf = new.clone();
            }
        }
    }
}

/// The valid requests without the large ones.
static VALID: LazyLock<Vec<Value>> =
    LazyLock::new(|| all_valid().into_iter().map(|(_, request)| request).collect());

/// Checks a request under every profile: no panic, both forms agree, and each place exists.
fn check_everywhere(request: &Value) -> Result<(), TestCaseError> {
    let text = request.to_string();
    for profile in ProfileName::ALL.map(Profile::from) {
        let of_value = check_request(request, &profile);
        prop_assert_eq!(&check_request(&text, &profile), &of_value);
        if let Err(error) = of_value {
            prop_assert!(error.total >= error.problems.len() && !error.problems.is_empty());
            for problem in &error.problems {
                let place = match problem.rule {
                    RequestRule::MissingField => problem.place.rsplit_once('/').unwrap().0,
                    _ => &problem.place,
                };
                prop_assert!(request.pointer(place).is_some(), "{}", problem);
            }
            prop_assert!(!error.to_string().is_empty());
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_json_never_panics(request in arbitrary_json()) {
        check_everywhere(&request)?;
    }

    #[test]
    fn arbitrary_text_never_panics(text in "\\PC{0,80}") {
        for profile in ProfileName::ALL.map(Profile::from) {
            let is_json = serde_json::from_str::<Value>(&text).is_ok();
            let error = check_request(&text, &profile).unwrap_err();
            prop_assert_eq!(!is_json, error.breaks(RequestRule::Json));
        }
    }

    #[test]
    fn edited_requests_never_panic(
        which in any::<proptest::sample::Index>(),
        edits in vec((vec(any::<usize>(), 1..7), edit()), 1..4),
    ) {
        let mut request = which.get(&VALID).clone();
        for (path, edit) in &edits {
            apply(&mut request, path, edit);
        }
        check_everywhere(&request)?;
    }
}
