//! Open calls, summaries and messages without text in a request.

use genai::ModelIden;
use genai::adapter::AdapterKind;
use genai::chat::{
    Binary, BinarySource, ChatMessage, ContentPart, CustomPart, ToolCall, ToolResponse,
};
use memory_genai::{GenaiMemory, message_from_genai};
use memory_instance::{
    FlushMode, MemoryManager, MemoryResource, SummaryRole, WindowAdvance, WindowOptions,
};
use serde_json::json;

async fn chat(max_tokens: u64, mode: FlushMode) -> GenaiMemory {
    let manager = MemoryManager::builder()
        .with_resource(MemoryResource::new("support", max_tokens))
        .with_flush_mode(mode)
        .open("memory://")
        .await
        .unwrap();
    GenaiMemory::new(manager.memory("support", "case-4711").unwrap())
}

async fn messages(chat: &GenaiMemory) -> Vec<ChatMessage> {
    chat.request().await.unwrap().messages
}

fn call(tag: &str) -> ToolCall {
    ToolCall {
        call_id: format!("call-{tag}"),
        fn_name: "weather".into(),
        fn_arguments: json!({"city": tag}),
        thought_signatures: None,
    }
}

fn result(tag: &str, text: &str) -> ChatMessage {
    ToolResponse::from_tool_call(&call(tag), text).into()
}

#[tokio::test]
async fn open_calls_are_answered() {
    let chat = chat(100_000, FlushMode::Manual).await;
    let stored = [
        ChatMessage::user("How is the weather?"),
        vec![call("one"), call("two")].into(),
        result("one", "rain"),
        ChatMessage::user("And now?"),
        vec![call("three")].into(),
    ];
    chat.append(&stored).await.unwrap();
    chat.memory().close_call("call-three").await.unwrap();
    let mut expected = stored.to_vec();
    expected.insert(3, result("two", "[no result yet]"));
    expected.push(result("three", "[no result: the call was interrupted]"));
    assert_eq!(json!(messages(&chat).await), json!(expected));
    assert_eq!(chat.memory().len().await.unwrap(), 5);
}

#[tokio::test]
async fn summary_has_the_role_of_the_options() {
    let chat = chat(1_000, FlushMode::Inline).await;
    for number in 0..40 {
        let question = format!("Question {number}: where is my parcel? ").repeat(4);
        let answer = ChatMessage::assistant("It is on its way to Oslo.");
        chat.append(&[ChatMessage::user(question), answer]).await.unwrap();
    }
    let stored = chat.memory().messages().await.unwrap();
    let summary = stored.iter().find(|stored| stored.meta.is_summary()).unwrap();
    let text = summary.message.text().into_owned();
    assert_eq!(json!(messages(&chat).await[0]), json!(ChatMessage::user(&text)));
    let options = WindowOptions::new(1_000).with_summary_role(SummaryRole::System);
    let chat = chat.with_window(options);
    assert_eq!(json!(messages(&chat).await[0]), json!(ChatMessage::system(&text)));
}

#[tokio::test]
async fn messages_without_text_are_in_the_request() {
    let chat = chat(100_000, FlushMode::Manual).await;
    let model_iden = Some(ModelIden::new(AdapterKind::OpenAI, "local-model"));
    let parts = [
        ContentPart::ReasoningContent("Look.".into()),
        ContentPart::ThoughtSignature("c2ln".into()),
        ContentPart::Custom(CustomPart { model_iden, data: json!({"type": "compaction"}) }),
    ];
    let mut turn = Vec::new();
    for part in parts {
        turn.push(ChatMessage::user("Go on."));
        turn.push(ChatMessage::assistant(vec![part]));
    }
    chat.append(&turn).await.unwrap();
    assert_eq!(json!(messages(&chat).await), json!(turn));
}

#[tokio::test]
async fn window_without_a_question_fits() {
    let chat = chat(1_000_000, FlushMode::Manual).await;
    for number in 0..20 {
        let source = BinarySource::Base64("aGVsbG8=".into());
        let image = ContentPart::Binary(Binary::new("image/png", source, None));
        let parts = vec![image, ContentPart::from_text(format!("Map {number}"))];
        chat.append(&[ChatMessage::assistant(parts)]).await.unwrap();
    }
    let options = WindowOptions::new(8_000).with_advance(WindowAdvance::Sliding);
    let window = messages(&chat.clone().with_window(options)).await;
    let tokens: u64 = window.iter().map(|one| chat.memory().count(&message_from_genai(one))).sum();
    assert!((5_000..=8_000).contains(&tokens), "{tokens} tokens in {} messages", window.len());
}

#[tokio::test]
async fn debug_output_has_no_system_prompt() {
    let options = WindowOptions::new(8_000).with_system("Confidential.");
    let chat = chat(100_000, FlushMode::Manual).await.with_window(options);
    let text = format!("{chat:?}");
    assert!(text.contains("8000") && !text.contains("Confidential"), "{text}");
}
