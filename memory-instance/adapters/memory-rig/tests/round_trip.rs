//! Messages of rig come out of a memory as they were appended.

use memory_instance::Message;
use memory_instance::memory_core::dialect::Dialect;
use memory_rig::{message_from_rig, rig_from_messages};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::select;
use rig_core::message::{
    AssistantContent, AssistantMessage, Audio, AudioMediaType, CallId, Citation, Document,
    DocumentMediaType, DocumentSourceKind, Image, ImageDetail, ImageMediaType, LocalCallId,
    Message as RigMessage, Opaque, Origin, Reasoning, Source, SourceLocation, StopReason, Text,
    ToolCall, ToolFunction, ToolName, ToolResult, ToolResultContent, UserContent, Video,
    VideoMediaType,
};
use serde_json::{Map, Value, json};

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "\\PC{0,20}",
        Just(String::new()),
        Just(r#"[{"type":"text","text":"nested"}]"#.into())
    ]
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_filter("JSON has no NaN", |x| x.is_finite()).prop_map(Value::from),
        text().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            btree_map("[a-z_]{1,6}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn fields() -> impl Strategy<Value = Map<String, Value>> {
    btree_map("[a-zA-Z_]{0,8}", value(), 0..4).prop_map(|map| map.into_iter().collect())
}

/// Items of providers, with and without signatures.
fn item() -> impl Strategy<Value = Value> {
    let signed = (
        select(vec!["signature", "encrypted_content", "thoughtSignature", "data"]),
        "[A-Za-z0-9+/]{0,40}",
        fields(),
    );
    prop_oneof![
        value(),
        signed.prop_map(|(key, signature, mut fields)| {
            fields.insert(key.into(), signature.into());
            Value::Object(fields)
        }),
    ]
}

/// A block with its provider item, current or of an earlier text, or without one.
fn with_item(
    block: impl Strategy<Value = AssistantContent>,
) -> impl Strategy<Value = AssistantContent> {
    (block, proptest::option::of((item(), any::<bool>()))).prop_map(|(block, native)| {
        let Some((item, is_edited)) = native else { return block };
        let mut block = block.with_native(item);
        match &mut block {
            AssistantContent::Text(text) if is_edited => text.text.push_str(" edited"),
            AssistantContent::Reasoning(part) if is_edited => part.text.push_str(" edited"),
            _ => {}
        }
        block
    })
}

fn cited() -> impl Strategy<Value = Text> {
    let source = (text(), proptest::option::of(0_f32..1.0)).prop_map(|(url, confidence)| {
        let source = Source::new(SourceLocation::Url { url }).title("title").cited_text("quoted");
        match confidence {
            Some(confidence) => source.confidence(confidence),
            None => source,
        }
    });
    (text(), vec(source, 1..3), any::<bool>()).prop_map(|(text, sources, has_span)| {
        let text = Text::new(text);
        let mut citation = Citation::new(sources);
        citation.span = text.span(0..text.text.len()).filter(|_| has_span);
        text.with_citations([citation])
    })
}

fn source() -> impl Strategy<Value = DocumentSourceKind> {
    prop_oneof![
        text().prop_map(DocumentSourceKind::url),
        "[A-Za-z0-9+/]{0,16}".prop_map(DocumentSourceKind::base64),
        text().prop_map(DocumentSourceKind::file_id),
        vec(any::<u8>(), 0..12).prop_map(DocumentSourceKind::Raw),
        text().prop_map(DocumentSourceKind::string),
        Just(DocumentSourceKind::Unknown),
    ]
}

fn image() -> impl Strategy<Value = Image> {
    use ImageMediaType::{GIF, HEIC, HEIF, JPEG, PNG, SVG, WEBP};
    let types = select(vec![GIF, HEIC, HEIF, JPEG, PNG, SVG, WEBP]);
    let details = select(vec![ImageDetail::Low, ImageDetail::High, ImageDetail::Auto]);
    (source(), proptest::option::of(types), proptest::option::of(details))
        .prop_map(|(data, media_type, detail)| Image { data, media_type, detail, native: None })
}

fn medium() -> impl Strategy<Value = UserContent> {
    use AudioMediaType::{AAC, FLAC, MP3, PCM16, WAV};
    use DocumentMediaType::{CSV, MARKDOWN, PDF, Python, TXT};
    use VideoMediaType::{AVI, MOV, MP4, WEBM};
    let params = proptest::option::of(fields().prop_map(Value::Object)).boxed();
    let audio = (source(), proptest::option::of(select(vec![AAC, FLAC, MP3, PCM16, WAV])));
    let video = (source(), proptest::option::of(select(vec![AVI, MOV, MP4, WEBM])), params.clone());
    let types = select(vec![CSV, MARKDOWN, PDF, Python, TXT]);
    let document = (source(), proptest::option::of(types), params);
    prop_oneof![
        image().prop_map(UserContent::Image),
        audio.prop_map(|(data, media_type)| UserContent::Audio(Audio { data, media_type })),
        video.prop_map(|(data, media_type, additional_params)| {
            UserContent::Video(Video { data, media_type, additional_params })
        }),
        document.prop_map(|(data, media_type, additional_params)| {
            UserContent::Document(Document { data, media_type, additional_params })
        }),
    ]
}

fn call_id() -> impl Strategy<Value = CallId> {
    prop_oneof![
        "[a-z0-9_-]{1,12}".prop_map(CallId::from_wire),
        Just(()).prop_map(|()| CallId::Local(LocalCallId::new())),
    ]
}

fn tool_name() -> impl Strategy<Value = ToolName> {
    "[a-z_]{1,8}".prop_map(|name| ToolName::new(name).unwrap())
}

fn call() -> impl Strategy<Value = AssistantContent> {
    let function = (tool_name(), prop_oneof![fields().prop_map(Value::Object), value()])
        .prop_map(|(name, arguments)| ToolFunction::new(name, arguments));
    let cut = (tool_name(), text()).prop_map(|(name, text)| ToolFunction::parse(name, &text));
    (call_id(), prop_oneof![function, cut])
        .prop_map(|(id, function)| AssistantContent::ToolCall(ToolCall::new(id, function)))
}

fn result() -> impl Strategy<Value = UserContent> {
    let content = prop_oneof![
        text().prop_map(ToolResultContent::text),
        image().prop_map(ToolResultContent::Image),
        value().prop_map(|value| ToolResultContent::Json { value }),
    ];
    (call_id(), tool_name(), vec(content, 0..3), any::<bool>()).prop_map(
        |(call, name, content, is_error)| {
            UserContent::ToolResult(ToolResult { call, name, content, is_error })
        },
    )
}

fn turn() -> impl Strategy<Value = AssistantMessage> {
    let reasoning = (text(), any::<bool>()).prop_map(|(text, redacted)| {
        AssistantContent::Reasoning(Reasoning { redacted, ..Reasoning::new(text) })
    });
    let opaque = (item(), any::<bool>())
        .prop_map(|(item, replay)| AssistantContent::Opaque(Opaque { item, replay }));
    let block = prop_oneof![
        with_item(text().prop_map(AssistantContent::text)),
        with_item(cited().prop_map(AssistantContent::Text)),
        with_item(reasoning),
        with_item(call()),
        with_item(image().prop_map(AssistantContent::Image)),
        opaque,
    ];
    let origin = ("[a-z.]{1,12}", text(), text()).prop_map(|(api, provider, model)| Origin {
        response_id: Some("resp_1".into()),
        ..Origin::new(api, provider, model)
    });
    let stop = prop_oneof![
        select(vec![StopReason::Stop, StopReason::Length, StopReason::ToolUse]),
        text().prop_map(StopReason::Error),
        text().prop_map(StopReason::Aborted),
    ];
    (vec(block, 0..5), proptest::option::of(origin), proptest::option::of(stop)).prop_map(
        |(content, origin, stop)| {
            AssistantMessage::new(content).with_origin(origin).with_stop(stop)
        },
    )
}

fn message() -> impl Strategy<Value = RigMessage> {
    let content = prop_oneof![text().prop_map(UserContent::text), medium(), result()];
    prop_oneof![
        1 => text().prop_map(RigMessage::system),
        3 => vec(content, 0..4).prop_map(|content| RigMessage::User { content }),
        1 => vec(result(), 1..3).prop_map(|content| RigMessage::User { content }),
        4 => turn().prop_map(RigMessage::Assistant),
    ]
}

/// The message as a store returns it.
fn stored(message: &RigMessage) -> Message {
    let stored = message_from_rig(message);
    Message::from_stored_json(&stored.to_json().expect("a store accepts it")).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn messages_survive_a_round_trip(messages in vec(message(), 1..4)) {
        let stored: Vec<_> = messages.iter().map(stored).collect();
        prop_assert_eq!(rig_from_messages(&stored), messages);
    }

    #[test]
    fn calls_and_results_are_found(turn in turn(), results in vec(result(), 1..3)) {
        let ids: Vec<_> = turn.tool_calls().map(|call| call.id.to_string()).collect();
        let link = stored(&RigMessage::Assistant(turn)).tool_link();
        prop_assert_eq!(link.calls.iter().map(|call| call.id.to_string()).collect::<Vec<_>>(), ids);
        let id = |content: &UserContent| match content {
            UserContent::ToolResult(result) => result.call.to_string(),
            _ => String::new(),
        };
        let ids: Vec<_> = results.iter().map(id).collect();
        let link = stored(&RigMessage::User { content: results }).tool_link();
        let found: Vec<_> = link.results.iter().map(|result| result.id.to_string()).collect();
        prop_assert_eq!(found, ids);
    }

    #[test]
    fn provider_items_keep_their_dialect(mut turn in turn()) {
        turn.content.retain(|block| !matches!(block, AssistantContent::Text(_)));
        prop_assume!(!turn.content.is_empty());
        prop_assert_eq!(stored(&RigMessage::Assistant(turn)).dialect(), Dialect::AiSdk);
    }
}

#[test]
fn plain_texts_are_stored_plainly() {
    for (message, stored) in [
        (RigMessage::system("s"), Message::system("s")),
        (RigMessage::user("u"), Message::user("u")),
        (RigMessage::assistant("a"), Message::assistant("a")),
    ] {
        assert_eq!(message_from_rig(&message), stored);
    }
}

#[test]
fn stored_form_is_that_of_the_ai_sdk() {
    let item = json!({"type": "reasoning", "id": "rs_1", "encrypted_content": "c2VjcmV0"});
    let thought = AssistantContent::Reasoning(Reasoning::new("Look it up.")).with_native(item);
    let name = ToolName::new("weather").unwrap();
    let call = ToolCall::from_wire("call-1", ToolFunction::new(name, json!({"city": "Oslo"})));
    let answer = UserContent::ToolResult(call.result(vec![ToolResultContent::text("rain")]));
    let turn = AssistantMessage::new(vec![thought, AssistantContent::ToolCall(call)]);
    let mut stored = message_from_rig(&RigMessage::Assistant(turn)).to_value();
    let fingerprint =
        stored["content"][0]["providerOptions"]["rig"]["native"]["fingerprint"].take();
    assert_eq!(fingerprint.as_str().map(str::len), Some(16));
    assert_eq!(
        stored,
        json!({
            "role": "assistant",
            "content": [
                {"type": "reasoning", "text": "Look it up.", "providerOptions": {"rig": {
                    "native": {"item": {"type": "reasoning", "id": "rs_1"}, "fingerprint": null},
                    "signature": "c2VjcmV0", "signed": "encrypted_content",
                }}},
                {"type": "tool-call", "toolCallId": "call-1", "toolName": "weather",
                 "input": {"city": "Oslo"}, "providerOptions": {"rig": {}}},
            ],
            "providerOptions": {"rig": {}},
        })
    );
    assert_eq!(
        message_from_rig(&RigMessage::User { content: vec![answer] }).to_value(),
        json!({
            "role": "tool",
            "content": [
                {"type": "tool-result", "toolCallId": "call-1", "toolName": "weather",
                 "output": {"type": "text", "value": "rain"}, "providerOptions": {"rig": {}}},
            ],
            "providerOptions": {"rig": {}},
        })
    );
}
