//! Reads written messages back, in one dialect and through another.

use proptest::prelude::*;

use super::*;

/// A part with owned content.
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

/// With keys that dialects also use.
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

/// The content that every conversion keeps, in a comparable form.
#[derive(Debug, PartialEq, Default)]
struct Kept {
    text: String,
    calls: Vec<(Option<String>, String, Json)>,
    results: Vec<(Option<String>, String, bool)>,
    media: Vec<String>,
}

/// `has_flags`: whether the dialect flags a failed result other than by text.
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

pub(super) fn read_all(dialect: Dialect, messages: &[Json]) -> Vec<Part<'_>> {
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

/// Reading, writing and reading again returns the same parts and the same known fields, with and without native JSON.
pub(super) fn check_identity(dialect: Dialect, message: &Json) {
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
