//! Reading what was written, in one dialect and through another.

use proptest::prelude::*;

use super::*;

/// A part that owns what it holds.
#[derive(Debug, Clone)]
enum Spec {
    Text(String),
    Image(String),
    Pdf(String),
    Call { id: String, name: String, arguments: Args },
    Result { id: String, name: String, content: Vec<Content>, is_error: bool },
}

#[derive(Debug, Clone)]
enum Args {
    Object(Json),
    Text(String),
}

#[derive(Debug, Clone)]
enum Content {
    Text(String),
    Data(Json),
    Image(String),
}

impl Spec {
    fn part(&self) -> Part<'_> {
        match self {
            Self::Text(text) => Part::text(text.as_str()),
            Self::Image(data) => Part::Media(image(data)),
            Self::Pdf(data) => Part::Media(MediaPart {
                media_type: Some("application/pdf"),
                title: Some("a title"),
                ..MediaPart::new(MediaKind::Document, MediaSource::Data(data))
            }),
            Self::Call { id, name, arguments } => {
                let arguments = match arguments {
                    Args::Object(json) => Arguments::Json(json),
                    Args::Text(text) => Arguments::Text(text),
                };
                Part::Call(CallPart::new(Some(id), name, arguments))
            }
            Self::Result { id, name, content, is_error } => {
                let content = content
                    .iter()
                    .map(|content| match content {
                        Content::Text(text) => Part::text(text.as_str()),
                        Content::Data(json) => Part::Data(json),
                        Content::Image(data) => Part::Media(image(data)),
                    })
                    .collect();
                let result = ResultPart::new(Some(id), Some(name), content);
                Part::Result(ResultPart { is_error: *is_error, ..result })
            }
        }
    }
}

fn image(data: &str) -> MediaPart<'_> {
    let media_type = Some("image/png");
    MediaPart { media_type, ..MediaPart::new(MediaKind::Image, MediaSource::Data(data)) }
}

fn text() -> impl Strategy<Value = String> {
    "[a-z0-9äß😀\"\\\\\n ]{0,12}[a-z]"
}

fn number() -> impl Strategy<Value = Json> {
    prop_oneof![
        Just("7"),
        Just("12345678901234567890123"),
        Just("1.0"),
        Just("-0"),
        Just("1e400"),
        Just("292042121000001"),
    ]
    .prop_map(json)
}

fn value() -> impl Strategy<Value = Json> {
    let leaf =
        prop_oneof![number(), text().prop_map(Json::from), Just(Json::Null), Just(true.into())];
    leaf.prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..3).prop_map(Json::from),
            object_of(inner).prop_map(Json::from),
        ]
    })
}

/// With keys that dialects use themselves.
fn object_of(inner: impl Strategy<Value = Json>) -> impl Strategy<Value = JsonObject> {
    let key = prop_oneof![
        Just("result"),
        Just("output"),
        Just("error"),
        Just("content"),
        Just("type"),
        Just("id"),
        Just("name"),
        Just("text"),
        Just("a"),
    ];
    proptest::collection::vec((key, inner), 0..4)
        .prop_map(|members| members.into_iter().collect::<JsonObject>())
}

fn base64() -> impl Strategy<Value = String> {
    "[A-Za-z0-9+/]{8}"
}

fn content() -> impl Strategy<Value = Vec<Content>> {
    prop_oneof![
        Just(Vec::new()),
        text().prop_map(|text| vec![Content::Text(text)]),
        object_of(value()).prop_map(|data| vec![Content::Data(data.into())]),
        (text(), base64()).prop_map(|(text, data)| vec![Content::Text(text), Content::Image(data)]),
    ]
}

fn arguments() -> impl Strategy<Value = Args> {
    prop_oneof![
        3 => object_of(value()).prop_map(|object| Args::Object(object.into())),
        1 => text().prop_map(|text| Args::Text(format!("not JSON: {text}"))),
        1 => object_of(value()).prop_map(|object| Args::Text(object.to_string())),
    ]
}

fn identifier() -> impl Strategy<Value = String> {
    "[a-z_]{1,8}"
}

/// The role and parts of one message.
fn message() -> impl Strategy<Value = (Role, Vec<Spec>)> {
    let result = (identifier(), identifier(), content(), any::<bool>())
        .prop_map(|(id, name, content, is_error)| Spec::Result { id, name, content, is_error });
    let results = proptest::collection::vec(result, 0..3);
    let said = prop_oneof![
        text().prop_map(Spec::Text),
        base64().prop_map(Spec::Image),
        base64().prop_map(Spec::Pdf),
    ];
    let call = (identifier(), identifier(), arguments())
        .prop_map(|(id, name, arguments)| Spec::Call { id, name, arguments });
    let texts = proptest::collection::vec(text().prop_map(Spec::Text), 0..3).boxed();
    prop_oneof![
        (results, proptest::collection::vec(said, 0..3))
            .prop_map(|(results, said)| (Role::User, [results, said].concat())),
        (texts.clone(), proptest::collection::vec(call, 0..3))
            .prop_map(|(texts, calls)| (Role::Assistant, [texts, calls].concat())),
        texts.prop_map(|texts| (Role::System, texts)),
    ]
}

/// What every conversion keeps, in the form in which it can be compared.
#[derive(Debug, PartialEq, Default)]
struct Kept {
    text: String,
    calls: Vec<(Option<String>, String, Json)>,
    results: Vec<(Option<String>, String, bool)>,
    media: Vec<String>,
}

/// `has_flags`: whether the dialect says that a result failed other than in text.
fn kept(parts: &[Part<'_>]) -> Kept {
    let mut kept = Kept::default();
    for part in parts {
        match part {
            Part::Text(part) => {
                kept.text.push_str(&part.text);
                kept.text.push('\n');
            }
            Part::Call(part) => {
                let text = part.arguments.to_text();
                let arguments = match Json::parse(&text) {
                    Ok(json @ Json::Object(_)) => json,
                    _ => text.as_ref().into(),
                };
                kept.calls.push((part.id.map(Into::into), part.name.into(), arguments));
            }
            Part::Result(part) => {
                let mut text = part.text().into_owned();
                let mut is_error = part.is_error;
                if let Some(rest) = text.strip_prefix("Error: ") {
                    text = rest.trim_start_matches('\n').into();
                    is_error = true;
                }
                text = text.replace("[see the attachment in the next message]", "");
                kept.results.push((part.link.map(Into::into), text.trim().into(), is_error));
                kept.media.extend(part.content.iter().filter_map(datum));
            }
            part => kept.media.extend(datum(part)),
        }
    }
    kept.media.sort();
    kept
}

fn datum(part: &Part<'_>) -> Option<String> {
    let Part::Media(part) = part else { return None };
    let MediaSource::Data(data) = part.source else { return None };
    Some(format!("{:?} {data}", part.kind))
}

fn read_all(dialect: Dialect, messages: &[Json]) -> Vec<Part<'_>> {
    messages.iter().flat_map(|message| dialect.parts(message)).collect()
}

proptest! {
    #[test]
    fn every_dialect_keeps_text_calls_and_results((role, specs) in message()) {
        let parts: Vec<_> = specs.iter().map(Spec::part).collect();
        let expected = kept(&parts);
        for dialect in Dialect::ALL {
            let written = dialect.write(&role, &parts);
            prop_assert_eq!(&kept(&read_all(dialect, &written.messages)), &expected, "{}: {:?}", dialect, written);
            for message in &written.messages {
                let found = Dialect::detect(message);
                let read = role_of(dialect, message);
                prop_assert!(found == Some(dialect) || found == Some(Dialect::Chat), "{}: {}", dialect, message);
                prop_assert!(!matches!(read, None | Some(Role::Other(_))));
                prop_assert_eq!(dialect.copy_known(message), message.clone(), "unknown fields");
            }
        }
    }

    #[test]
    fn every_pair_keeps_text_calls_and_results((role, specs) in message()) {
        let parts: Vec<_> = specs.iter().map(Spec::part).collect();
        let expected = kept(&parts);
        for from in Dialect::ALL {
            let native = from.write(&role, &parts).messages;
            for to in Dialect::ALL {
                let converted: Vec<Json> =
                    native.iter().flat_map(|message| convert(message, from, to).messages).collect();
                prop_assert_eq!(&kept(&read_all(to, &converted)), &expected, "{} to {}: {:?}", from, to, converted);
                let back: Vec<Json> =
                    converted.iter().flat_map(|message| convert(message, to, from).messages).collect();
                prop_assert_eq!(&kept(&read_all(from, &back)), &expected, "{} to {} and back", from, to);
            }
        }
    }

    #[test]
    fn reading_and_writing_is_identity((role, specs) in message()) {
        let parts: Vec<_> = specs.iter().map(Spec::part).collect();
        for dialect in Dialect::ALL {
            for message in dialect.write(&role, &parts).messages {
                check_identity(dialect, &message);
            }
        }
    }
}

fn role_of(dialect: Dialect, message: &Json) -> Option<Role> {
    dialect.role(message)
}

/// Reading, writing and reading again gives the same parts and the same known fields, with native JSON and
/// without it.
fn check_identity(dialect: Dialect, message: &Json) {
    let lines = all_lines(dialect, std::slice::from_ref(message));
    let same = convert(message, dialect, dialect);
    assert_eq!(all_lines(dialect, &same.messages), lines, "{dialect}: {message}");
    let mut parts = dialect.parts(message);
    parts.iter_mut().for_each(Part::forget_native);
    let role = dialect.role(message).unwrap();
    let built = dialect.write(&role, &parts);
    assert_eq!(
        all_lines(dialect, &built.messages),
        lines,
        "{dialect}, built: {message}: {built:?}"
    );
}

/// Native messages that the generator does not make: what only their dialect has.
const NATIVE: &[(Dialect, &str)] = &[
    (Dialect::Chat, r#"{"role":"assistant","content":"391","reasoning_content":"step"}"#),
    (
        Dialect::Chat,
        r#"{"role":"assistant","content":"391","reasoning_details":[{"type":"reasoning.text","text":"a","signature":"s"},{"type":"reasoning.encrypted","data":"ZGF0YQ=="}]}"#,
    ),
    (Dialect::Chat, r#"{"role":"assistant","content":null,"refusal":"no"}"#),
    (
        Dialect::Chat,
        r#"{"role":"assistant","content":null,"function_call":{"name":"f","arguments":"{}"}}"#,
    ),
    (Dialect::Chat, r#"{"role":"function","name":"f","content":"r"}"#),
    (Dialect::Chat, r#"{"role":"tool","name":"f","content":"r"}"#),
    (Dialect::Chat, r#"{"role":"assistant","content":null,"audio":{"id":"a"}}"#),
    (
        Dialect::Chat,
        r#"{"role":"assistant","content":null,"tool_calls":[{"id":"c","type":"custom","custom":{"name":"sh","input":"ls"}}]}"#,
    ),
    (
        Dialect::Chat,
        r#"{"role":"user","content":[{"type":"text","text":"a"},{"type":"image_url","image_url":{"url":"https://example.org/a.png","detail":"low"}},{"type":"file","file":{"file_id":"f"}}]}"#,
    ),
    (Dialect::Chat, r#"{"role":"developer","content":"be brief"}"#),
    (
        Dialect::Responses,
        r#"{"type":"reasoning","summary":[{"type":"summary_text","text":"a"}],"encrypted_content":"gAAA"}"#,
    ),
    (Dialect::Responses, r#"{"type":"custom_tool_call","call_id":"c","name":"sh","input":"ls"}"#),
    (Dialect::Responses, r#"{"type":"custom_tool_call_output","call_id":"c","output":"a"}"#),
    (
        Dialect::Responses,
        r#"{"type":"message","role":"assistant","content":[{"type":"refusal","refusal":"no"}]}"#,
    ),
    (
        Dialect::Responses,
        r#"{"type":"function_call_output","call_id":"c","output":[{"type":"input_text","text":"a"},{"type":"input_image","image_url":"https://example.org/a.png","detail":"high"},{"type":"input_file","file_id":"f"}]}"#,
    ),
    (
        Dialect::Anthropic,
        r#"{"role":"assistant","content":[{"type":"thinking","thinking":"","signature":"c2ln"},{"type":"thinking","thinking":"a","signature":"c2ln"},{"type":"redacted_thinking","data":"ZGF0YQ=="},{"type":"tool_use","id":"t","name":"f","input":{"a":1.0}}]}"#,
    ),
    (
        Dialect::Anthropic,
        r#"{"role":"user","content":[{"type":"document","source":{"type":"text","media_type":"text/plain","data":"words"},"title":"t","context":"c"},{"type":"document","source":{"type":"content","content":[{"type":"text","text":"in"}]}},{"type":"image","source":{"type":"url","url":"https://example.org/a.png"}},{"type":"image","source":{"type":"file","file_id":"f"}}]}"#,
    ),
    (
        Dialect::Anthropic,
        r#"{"role":"user","content":[{"type":"tool_result","tool_use_id":"t","content":[{"type":"text","text":"a"},{"type":"image","source":{"type":"base64","media_type":"image/png","data":"QUJD"}}],"is_error":true},{"type":"text","text":"b"}]}"#,
    ),
    (
        Dialect::Gemini,
        r#"{"role":"model","parts":[{"text":"a","thought":true,"thoughtSignature":"c2ln"},{"functionCall":{"name":"f","args":{"a":1.0}}}]}"#,
    ),
    (
        Dialect::Gemini,
        r#"{"role":"user","parts":[{"functionResponse":{"id":"i","name":"f","response":{"error":{"error":1}},"parts":[{"inlineData":{"mimeType":"image/png","data":"QUJD"}}]}},{"functionResponse":{"name":"f","response":{"result":{"result":5}}}},{"fileData":{"mimeType":"video/mp4","fileUri":"https://youtu.be/x"}}]}"#,
    ),
    (
        Dialect::Bedrock,
        r#"{"role":"assistant","content":[{"reasoningContent":{"reasoningText":{"text":"a","signature":"s"}}},{"reasoningContent":{"redactedContent":"ZGF0YQ=="}},{"toolUse":{"toolUseId":"t","name":"f","input":{}}}]}"#,
    ),
    (
        Dialect::Bedrock,
        r#"{"role":"user","content":[{"toolResult":{"toolUseId":"t","content":[{"json":{"a":1.0}},{"text":"b"},{"image":{"format":"png","source":{"bytes":"QUJD"}}}],"status":"error"}},{"document":{"format":"pdf","name":"a","source":{"s3Location":{"uri":"s3://b/a"}}}}]}"#,
    ),
    (
        Dialect::AiSdk,
        r#"{"role":"assistant","content":[{"type":"reasoning","text":"a"},{"type":"tool-call","toolCallId":"c","toolName":"f","input":{"a":1.0}}]}"#,
    ),
    (
        Dialect::AiSdk,
        r#"{"role":"tool","content":[{"type":"tool-result","toolCallId":"c","toolName":"f","output":{"type":"error-json","value":{"a":1}}},{"type":"tool-result","toolCallId":"d","toolName":"f","output":{"type":"content","value":[{"type":"text","text":"a"},{"type":"media","data":"QUJD","mediaType":"image/png"}]}}]}"#,
    ),
    (
        Dialect::AiSdk,
        r#"{"id":"m","role":"assistant","parts":[{"type":"text","text":"a"},{"type":"tool-f","toolCallId":"c","state":"output-available","input":{"x":1},"output":{"y":2}},{"type":"text","text":"b"}]}"#,
    ),
];

/// Of these, parts that cannot be built without their native JSON.
const ONLY_NATIVE: &[(Dialect, &str)] = &[
    (
        Dialect::Responses,
        r#"{"type":"mcp_call","id":"mcp_1","name":"f","server_label":"s","arguments":"{}","output":"ok"}"#,
    ),
    (
        Dialect::Responses,
        r#"{"type":"computer_call_output","call_id":"c","output":{"type":"computer_screenshot","image_url":"data:image/png;base64,QUJD"}}"#,
    ),
    (Dialect::Responses, r#"{"type":"item_reference","id":"msg_1"}"#),
    (Dialect::Responses, r#"{"type":"compaction","encrypted_content":"gAAA"}"#),
    (
        Dialect::Responses,
        r#"{"type":"local_shell_call","id":"lsh_1","call_id":"c","action":{"type":"exec"},"status":"completed"}"#,
    ),
    (
        Dialect::Anthropic,
        r#"{"role":"assistant","content":[{"type":"server_tool_use","id":"s","name":"web_search","input":{"query":"q"}},{"type":"web_search_tool_result","tool_use_id":"s","content":[{"type":"web_search_result","title":"t","url":"u","encrypted_content":"c2VjcmV0"}]},{"type":"text","text":"a","citations":[{"type":"web_search_result_location","cited_text":"q"}],"cache_control":{"type":"ephemeral"}}]}"#,
    ),
    (
        Dialect::Anthropic,
        r#"{"role":"user","content":[{"type":"search_result","source":"s","title":"t","content":[{"type":"text","text":"hit"}]},{"type":"container_upload","file_id":"f"}]}"#,
    ),
    (
        Dialect::Anthropic,
        r#"{"role":"assistant","content":[{"type":"compaction","content":"so far"}]}"#,
    ),
    (
        Dialect::Gemini,
        r#"{"role":"model","parts":[{"executableCode":{"language":"PYTHON","code":"1"}},{"codeExecutionResult":{"outcome":"OUTCOME_OK","output":"1"}},{"functionCall":{"id":"i","name":"f","args":{}},"thoughtSignature":"c2ln"}]}"#,
    ),
    (
        Dialect::Bedrock,
        r#"{"role":"user","content":[{"text":"a"},{"cachePoint":{"type":"default"}},{"guardContent":{"text":{"text":"g"}}},{"image":{"format":"png","source":{"bytes":[1,2]}}}]}"#,
    ),
    (
        Dialect::AiSdk,
        r#"{"role":"assistant","content":[{"type":"reasoning","text":"a","providerOptions":{"anthropic":{"signature":"s"}}},{"type":"tool-call","toolCallId":"c","toolName":"f","input":{},"providerExecuted":true},{"type":"tool-result","toolCallId":"c","toolName":"f","output":{"type":"text","value":"r"}}]}"#,
    ),
];

#[test]
fn native_messages_come_back() {
    for (dialect, text) in NATIVE {
        let message = json(text);
        assert_eq!(Dialect::detect(&message), Some(*dialect), "{text}");
        check_identity(*dialect, &message);
    }
    for (dialect, text) in NATIVE.iter().chain(ONLY_NATIVE) {
        let message = json(text);
        assert_eq!(Dialect::detect(&message), Some(*dialect), "{text}");
        let same = convert(&message, *dialect, *dialect);
        // A result that is linked by name alone lacks an id here as there.
        let lost = same.losses.iter().find(|loss| **loss != Loss::IdMissing);
        assert_eq!(lost, None, "{text}");
        if message.get("parts").is_none() || *dialect == Dialect::Gemini {
            assert_eq!(same.messages, [message], "{text}");
        }
    }
}

#[test]
fn conversions_of_native_messages_keep_calls_and_results() {
    for (from, text) in NATIVE {
        let message = json(text);
        let own = from.parts(&message);
        let count = |parts: &[Part<'_>]| {
            let calls = parts.iter().filter(|part| matches!(part, Part::Call(_))).count();
            let results = parts.iter().filter(|part| matches!(part, Part::Result(_))).count();
            (calls, results)
        };
        for to in Dialect::ALL {
            let written = convert(&message, *from, to);
            let read = read_all(to, &written.messages);
            assert_eq!(count(&read), count(&own), "{from} to {to}: {text}");
            for message in &written.messages {
                assert_eq!(&to.copy_known(message), message, "{from} to {to}: {text}");
            }
        }
    }
}
