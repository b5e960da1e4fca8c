//! Messages of genai come out of a memory as they were appended.

use genai::ModelIden;
use genai::adapter::AdapterKind;
use genai::chat::{
    Binary, BinarySource, CacheControl, ChatMessage, ChatRole, ContentPart, MessageContent,
    MessageOptions, ToolCall, ToolResponse,
};
use memory_genai::{genai_from_messages, message_from_genai};
use memory_instance::Message;
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

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
            btree_map("[a-zA-Z_]{0,6}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn call() -> impl Strategy<Value = ToolCall> {
    let parts = ("[a-z0-9_]{1,12}", "[a-z_]{1,8}", value(), option::of(vec(text(), 0..3)));
    parts.prop_map(|(call_id, fn_name, fn_arguments, thought_signatures)| ToolCall {
        call_id,
        fn_name,
        fn_arguments,
        thought_signatures,
    })
}

fn response() -> impl Strategy<Value = ToolResponse> {
    ("[a-z0-9_]{1,12}", option::of("[a-z_]{1,8}"), text())
        .prop_map(|(call_id, fn_name, content)| ToolResponse { call_id, fn_name, content })
}

fn part() -> impl Strategy<Value = ContentPart> {
    let types = vec!["image/png", "IMAGE/JPEG ", "audio/wav", "application/pdf", "video/mp4", ""];
    let source = prop_oneof![
        text().prop_map(BinarySource::Url),
        "[A-Za-z0-9+/]{0,16}".prop_map(|data| BinarySource::Base64(data.into())),
    ];
    let binary = (select(types), source, option::of(text()))
        .prop_map(|(kind, source, name)| Binary::new(kind, source, name));
    let model = ModelIden::new(AdapterKind::OpenAIResp, "gpt-5");
    let custom = (value(), option::of(Just(model)))
        .prop_map(|(data, model)| ContentPart::from_custom(data, model));
    prop_oneof![
        text().prop_map(ContentPart::Text),
        binary.prop_map(ContentPart::Binary),
        call().prop_map(ContentPart::ToolCall),
        response().prop_map(ContentPart::ToolResponse),
        text().prop_map(ContentPart::ThoughtSignature),
        text().prop_map(ContentPart::ReasoningContent),
        custom,
    ]
}

fn message() -> impl Strategy<Value = ChatMessage> {
    let roles = vec![ChatRole::System, ChatRole::User, ChatRole::Assistant, ChatRole::Tool];
    let caches = vec![CacheControl::Ephemeral, CacheControl::Memory, CacheControl::Ephemeral24h];
    let options =
        option::of(select(caches)).prop_map(|cache_control| MessageOptions { cache_control });
    (select(roles), vec(part(), 0..5), option::of(options)).prop_map(|(role, parts, options)| {
        ChatMessage { role, content: MessageContent::from_parts(parts), options }
    })
}

/// The messages as a store returns them, as JSON of genai.
fn again(messages: &[ChatMessage]) -> Value {
    let store = |message| {
        let json = message_from_genai(message).to_json().expect("a store accepts it");
        Message::from_stored_json(&json).unwrap()
    };
    let stored: Vec<_> = messages.iter().map(store).collect();
    json!(genai_from_messages(&stored))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn messages_survive_a_round_trip(messages in vec(message(), 1..4)) {
        prop_assert_eq!(again(&messages), json!(messages));
    }

    #[test]
    fn calls_and_responses_are_found(
        calls in vec(call(), 1..4),
        responses in vec(response(), 1..4),
    ) {
        let ids: Vec<_> = calls.iter().map(|call| call.call_id.clone()).collect();
        let link = message_from_genai(&calls.into()).tool_link();
        prop_assert_eq!(link.calls.iter().map(|call| call.id.to_string()).collect::<Vec<_>>(), ids);
        let ids: Vec<_> = responses.iter().map(|one| one.call_id.clone()).collect();
        let link = message_from_genai(&responses.into()).tool_link();
        let found: Vec<_> = link.results.iter().map(|one| one.id.to_string()).collect();
        prop_assert_eq!(found, ids);
    }
}

#[test]
fn plain_texts_are_stored_plainly() {
    for (message, stored) in [
        (ChatMessage::system("s"), Message::system("s")),
        (ChatMessage::user("u"), Message::user("u")),
        (ChatMessage::assistant("a"), Message::assistant("a")),
    ] {
        assert_eq!(message_from_genai(&message), stored);
    }
}

#[test]
fn stored_form_is_that_of_the_ai_sdk() {
    let call = ToolCall {
        call_id: "call-1".into(),
        fn_name: "weather".into(),
        fn_arguments: json!({"city": "Oslo"}),
        thought_signatures: Some(vec!["c2ln".into()]),
    };
    let signature = ContentPart::ThoughtSignature("c2VjcmV0".into());
    let answer = ChatMessage::from(ToolResponse::from_tool_call(&call, "rain"));
    let turn = ChatMessage::assistant(vec![signature, ContentPart::ToolCall(call)]);
    assert_eq!(
        message_from_genai(&turn).to_value(),
        json!({
            "role": "assistant",
            "content": [
                {"type": "reasoning", "text": "", "providerOptions": {"genai": {"signature": "c2VjcmV0"}}},
                {"type": "tool-call", "toolCallId": "call-1", "toolName": "weather", "input": {"city": "Oslo"},
                 "providerOptions": {"genai": {"thoughtSignature": ["c2ln"]}}},
            ],
            "providerOptions": {"genai": {}},
        })
    );
    assert_eq!(
        message_from_genai(&answer).to_value(),
        json!({
            "role": "tool",
            "content": [
                {"type": "tool-result", "toolCallId": "call-1", "toolName": "weather",
                 "output": {"type": "text", "value": "rain"}, "providerOptions": {"genai": {}}},
            ],
            "providerOptions": {"genai": {}},
        })
    );
}
