//! Conversations through [`GenaiMemory`].

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use genai::ModelIden;
use genai::adapter::AdapterKind;
use genai::chat::{
    ChatMessage, ChatResponse, ChatRole, ContentPart, MessageContent, ToolCall, ToolResponse, Usage,
};
use memory_genai::{GenaiMemory, answer_message, genai_from_messages, message_from_genai};
use memory_instance::{
    ErrorCode, FlushMode, MemoryManager, MemoryResource, WindowOptions, WriterId,
};
use serde_json::{Value, json};

async fn chat(url: &str) -> GenaiMemory {
    let manager = MemoryManager::builder()
        .with_resource(MemoryResource::new("support", 100_000))
        .with_flush_mode(FlushMode::Manual)
        .open(url)
        .await
        .unwrap();
    GenaiMemory::new(manager.memory("support", "case-4711").unwrap())
}

/// A question, a call with a signature, its result and an answer.
fn turn(tag: &str) -> Vec<ChatMessage> {
    let call = ToolCall {
        call_id: format!("call-{tag}"),
        fn_name: "weather".into(),
        fn_arguments: json!({"city": tag}),
        thought_signatures: Some(vec![tag.into()]),
    };
    let response = ToolResponse::from_tool_call(&call, format!("{tag}: rain"));
    vec![
        ChatMessage::user(format!("{tag}: how is the weather?")),
        vec![call].into(),
        response.into(),
        ChatMessage::assistant(format!("{tag}: it rains")),
    ]
}

async fn messages(chat: &GenaiMemory) -> Vec<ChatMessage> {
    chat.request().await.unwrap().messages
}

fn response(content: Vec<ContentPart>, reasoning: Option<&str>) -> ChatResponse {
    let model = ModelIden::new(AdapterKind::OpenAI, "local-model");
    ChatResponse {
        content: MessageContent::from_parts(content),
        reasoning_content: reasoning.map(str::to_owned),
        model_iden: model.clone(),
        provider_model_iden: model,
        stop_reason: None,
        usage: Usage::default(),
        captured_raw_body: None,
        response_id: None,
    }
}

#[tokio::test]
async fn requests_have_the_system_prompt_and_turns() {
    let chat = chat("memory://").await;
    chat.append(&turn("one")).await.unwrap();
    chat.append(&turn("two")).await.unwrap();
    let window = WindowOptions::new(8_000).with_system("You help.");
    let request = chat.clone().with_window(window).request().await.unwrap();
    assert_eq!(request.system.as_deref(), Some("You help."));
    assert_eq!(json!(request.messages), json!([turn("one"), turn("two")].concat()));
    assert_eq!(chat.request().await.unwrap().system, None);
}

#[tokio::test]
async fn small_window_has_whole_pairs() {
    let chat = chat("memory://").await;
    for number in 0..40 {
        chat.append(&turn(&number.to_string())).await.unwrap();
    }
    for budget in (40..1_500).step_by(20) {
        let window = messages(&chat.clone().with_window(WindowOptions::new(budget))).await;
        assert!((1..160).contains(&window.len()), "{budget}: {window:?}");
        let mut open: Vec<String> = Vec::new();
        for message in &window {
            let answered: Vec<_> =
                message.content.tool_responses().iter().map(|one| one.call_id.clone()).collect();
            assert_eq!(open, answered, "{budget}");
            open = message.content.tool_calls().iter().map(|call| call.call_id.clone()).collect();
        }
        assert!(open.is_empty(), "{budget}: {open:?}");
    }
}

#[tokio::test]
async fn reasoning_counts_against_the_budget() {
    let chat = chat("memory://").await;
    for number in 0..20 {
        let thought = ContentPart::ReasoningContent("step by step. ".repeat(40));
        let answer = ChatMessage::assistant(vec![thought, format!("{number}.").into()]);
        chat.append(&[ChatMessage::user("Go on."), answer]).await.unwrap();
    }
    let options = WindowOptions::new(2_000).with_answer(500);
    let window = messages(&chat.clone().with_window(options)).await;
    let tokens: u64 = window.iter().map(|one| chat.memory().count(&message_from_genai(one))).sum();
    assert!((1_000..=1_500).contains(&tokens), "{tokens} tokens in {} messages", window.len());
}

#[tokio::test]
async fn newest_messages_come_with_long_reasoning() {
    let chat = chat("memory://").await;
    let thought = ContentPart::ReasoningContent("step by step. ".repeat(400));
    let answer = ChatMessage::assistant(vec![thought, "Done.".into()]);
    let turn = [ChatMessage::user("Go on."), answer];
    chat.append(&turn).await.unwrap();
    let small = chat.with_window(WindowOptions::new(500));
    assert_eq!(json!(messages(&small).await), json!(turn));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_turns_are_never_torn() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("memory.db").display());
    // Two managers, as of two processes.
    let chats = [chat(&url).await, chat(&url).await];
    let workers = (0..6).map(|worker| {
        let chat = chats[worker % 2].clone();
        tokio::spawn(async move {
            for number in 0..5 {
                chat.append(&turn(&format!("{worker}-{number}"))).await.unwrap();
            }
        })
    });
    for worker in workers.collect::<Vec<_>>() {
        worker.await.unwrap();
    }
    let all = messages(&chats[1]).await;
    assert_eq!(all.len(), 120);
    for messages in all.chunks(4) {
        let text = messages[0].content.first_text().unwrap();
        assert_eq!(json!(messages), json!(turn(text.split(':').next().unwrap())));
    }
}

#[tokio::test]
async fn repeated_append_has_no_effect() {
    let chat = chat("memory://").await;
    let write = WriterId::named("jobs").write(17);
    for repeated in [false, true] {
        let appended = chat.append_as(write, &turn("one")).await.unwrap();
        assert_eq!(appended.outcome.is_duplicate(), repeated);
    }
    assert_eq!(json!(messages(&chat).await), json!(turn("one")));
}

/// Polls a future at most this many times, and drops it. Returns whether it ended before.
async fn ends_within(polls: usize, future: impl Future<Output = ()>) -> bool {
    let mut future = pin!(future);
    let mut left = polls;
    poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(false);
        }
        left -= 1;
        future.as_mut().poll(context).map(|()| true)
    })
    .await
}

#[tokio::test]
async fn dropped_append_leaves_all_or_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("memory.db").display());
    let manager = MemoryManager::builder()
        .with_resource(MemoryResource::new("support", 100_000))
        .open(&url)
        .await
        .unwrap();
    let (turn, write) = (turn("one"), WriterId::named("jobs").write(17));
    for polls in 0.. {
        let chat = |key: String| GenaiMemory::new(manager.memory("support", &key).unwrap());
        let dropped = chat(format!("case-{polls}"));
        let append = async { drop(dropped.append(&turn).await.unwrap()) };
        let has_ended = ends_within(polls, append).await;
        let all = messages(&dropped).await;
        let is_whole = json!(all) == json!(turn);
        assert!(is_whole || all.is_empty() && !has_ended, "{polls} polls: {all:?}");
        let dropped = chat(format!("job-{polls}"));
        ends_within(polls, async { drop(dropped.append_as(write, &turn).await.unwrap()) }).await;
        dropped.append_as(write, &turn).await.unwrap();
        assert_eq!(json!(messages(&dropped).await), json!(turn), "{polls} polls");
        if has_ended {
            assert!(polls > 1, "the append was never dropped");
            break;
        }
    }
}

#[tokio::test]
async fn nothing_cannot_be_appended() {
    let error = chat("memory://").await.append(&[]).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::InvalidOperation);
}

#[test]
fn answer_has_the_reasoning_once() {
    let text = ContentPart::from_text("Yes.");
    let thought = ContentPart::ReasoningContent("Look.".into());
    let apart = answer_message(&response(vec![text.clone()], Some("Look.")));
    assert_eq!(apart.role, ChatRole::Assistant);
    assert_eq!(json!(apart.content), json!([text, thought]));
    let within = answer_message(&response(vec![thought.clone(), text.clone()], Some("Look.")));
    assert_eq!(json!(within.content), json!([thought, text]));
    let stored = [message_from_genai(&apart)];
    assert_eq!(json!(genai_from_messages(&stored)), Value::from(vec![json!(apart)]));
}
