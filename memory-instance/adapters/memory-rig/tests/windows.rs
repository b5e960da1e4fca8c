//! Open calls, summaries and messages without text in a loaded window.

use memory_instance::{
    FlushMode, MemoryManager, MemoryResource, SummaryRole, WindowAdvance, WindowOptions,
};
use memory_rig::{RigMemory, messages_from_rig};
use rig_core::id::ConversationId;
use rig_core::memory::ConversationMemory;
use rig_core::message::{
    AssistantContent, AssistantMessage, DocumentSourceKind, Image, ImageMediaType, Message, Opaque,
    Reasoning, ToolCall, ToolFunction, ToolName, ToolResult, ToolResultContent, UserContent,
};
use serde_json::json;

async fn memory(max_tokens: u64, mode: FlushMode) -> RigMemory {
    let manager = MemoryManager::builder()
        .with_resource(MemoryResource::new("support", max_tokens))
        .with_flush_mode(mode)
        .open("memory://")
        .await
        .unwrap();
    RigMemory::new(manager, "support")
}

fn id() -> ConversationId {
    "case-4711".into()
}

fn call(tag: &str) -> ToolCall {
    let function = ToolFunction::new(ToolName::new("weather").unwrap(), json!({"city": tag}));
    ToolCall::from_wire(format!("call-{tag}"), function)
}

fn calls<const N: usize>(tags: [&str; N]) -> Message {
    let calls = tags.map(|tag| AssistantContent::ToolCall(call(tag)));
    AssistantMessage::new(calls.to_vec()).into()
}

fn result(tag: &str, text: &str) -> ToolResult {
    call(tag).result(vec![ToolResultContent::text(text)])
}

fn results<const N: usize>(results: [ToolResult; N]) -> Message {
    Message::User { content: results.map(UserContent::ToolResult).to_vec() }
}

#[tokio::test]
async fn open_calls_are_answered() {
    let memory = memory(100_000, FlushMode::Manual).await;
    let stored = vec![
        Message::user("How is the weather?"),
        calls(["one", "two"]),
        results([result("one", "rain")]),
        Message::user("And now?"),
        calls(["three"]),
    ];
    memory.append(&id(), stored.clone()).await.unwrap();
    memory.memory(&id()).unwrap().close_call("call-three").await.unwrap();
    let mut expected = stored;
    expected[2] = results([result("one", "rain"), result("two", "[no result yet]")]);
    let closed = "[no result: the call was interrupted]";
    expected.push(results([result("three", closed)]));
    assert_eq!(memory.load(&id()).await.unwrap(), expected);
    assert_eq!(memory.memory(&id()).unwrap().len().await.unwrap(), 5);
}

#[tokio::test]
async fn summary_has_the_role_of_the_options() {
    let memory = memory(1_000, FlushMode::Inline).await;
    for number in 0..40 {
        let turn = vec![
            Message::user(format!("Question {number}: where is my parcel? ").repeat(4)),
            Message::assistant("It is on its way to Oslo."),
        ];
        memory.append(&id(), turn).await.unwrap();
    }
    let stored = memory.memory(&id()).unwrap().messages().await.unwrap();
    let summary = stored.iter().find(|stored| stored.meta.is_summary()).unwrap();
    let text = summary.message.text().into_owned();
    let loaded = memory.load(&id()).await.unwrap();
    assert_eq!(loaded.first(), Some(&Message::user(&text)));
    let options = WindowOptions::new(1_000).with_summary_role(SummaryRole::System);
    let loaded = memory.with_window(options).load(&id()).await.unwrap();
    assert_eq!(loaded.first(), Some(&Message::system(&text)));
}

#[tokio::test]
async fn messages_without_text_are_loaded() {
    let memory = memory(100_000, FlushMode::Manual).await;
    let item = json!({"type": "thinking", "thinking": "Look.", "signature": "c2ln"});
    let signed = json!({"type": "redacted_thinking", "data": "c2ln"});
    let blocks = [
        AssistantContent::Reasoning(Reasoning::new("Look.")),
        AssistantContent::Reasoning(Reasoning::new("Look.")).with_native(item),
        AssistantContent::Reasoning(Reasoning::new("")).with_native(signed),
        AssistantContent::Opaque(Opaque { item: json!({"type": "compaction"}), replay: true }),
    ];
    let mut turn = Vec::new();
    for block in blocks {
        turn.push(Message::user("Go on."));
        turn.push(AssistantMessage::new(vec![block]).into());
    }
    memory.append(&id(), turn.clone()).await.unwrap();
    assert_eq!(memory.load(&id()).await.unwrap(), turn);
}

#[tokio::test]
async fn window_without_a_question_fits() {
    let memory = memory(1_000_000, FlushMode::Manual).await;
    for number in 0..20 {
        let image = Image {
            data: DocumentSourceKind::base64("aGVsbG8="),
            media_type: Some(ImageMediaType::PNG),
            detail: None,
            native: None,
        };
        let content = vec![AssistantContent::Image(image), AssistantContent::text("A map.")];
        let mut message = AssistantMessage::new(content);
        message.content.push(AssistantContent::text(format!("Map {number}")));
        memory.append(&id(), vec![message.into()]).await.unwrap();
    }
    let stored = memory.memory(&id()).unwrap();
    let options = WindowOptions::new(8_000).with_advance(WindowAdvance::Sliding);
    let messages = memory.with_window(options).load(&id()).await.unwrap();
    let tokens: u64 = messages_from_rig(&messages).iter().map(|one| stored.count(one)).sum();
    assert!((5_000..=8_000).contains(&tokens), "{tokens} tokens in {} messages", messages.len());
}

#[tokio::test]
async fn debug_output_has_no_system_prompt() {
    let options = WindowOptions::new(8_000).with_system("Confidential.");
    let memory = memory(100_000, FlushMode::Manual).await.with_window(options);
    let text = format!("{memory:?}");
    assert!(text.contains("8000") && !text.contains("Confidential"), "{text}");
}
