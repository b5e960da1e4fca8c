//! Conversations through rig's trait.

use std::error::Error as _;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use memory_instance::{
    ErrorCode, FlushMode, MemoryManager, MemoryResource, Message as Stored, Profile, ProfileName,
    WindowOptions, WriterId,
};
use memory_rig::{ConversationError, RigMemory, rig_from_messages};
use rig_core::id::ConversationId;
use rig_core::memory::{ConversationMemory, MemoryError};
use rig_core::message::{
    AssistantContent, AssistantMessage, Message, Reasoning, ToolCall, ToolFunction, ToolName,
    ToolResultContent, UserContent,
};
use serde_json::json;

const BUDGET: u64 = 100_000;

async fn manager(url: &str) -> MemoryManager {
    MemoryManager::builder()
        .with_resource(MemoryResource::new("support", BUDGET))
        .with_flush_mode(FlushMode::Manual)
        .open(url)
        .await
        .unwrap()
}

async fn in_memory() -> RigMemory {
    RigMemory::new(manager("memory://").await, "support")
}

fn id() -> ConversationId {
    "case-4711".into()
}

fn call(tag: &str) -> ToolCall {
    let function = ToolFunction::new(ToolName::new("weather").unwrap(), json!({"city": tag}));
    ToolCall::from_wire(format!("call-{tag}"), function)
}

/// A question, a call, its result and an answer.
fn turn(tag: &str) -> Vec<Message> {
    let item = json!({"type": "thinking", "thinking": "Look it up.", "signature": tag});
    let thought = AssistantContent::Reasoning(Reasoning::new("Look it up.")).with_native(item);
    let call = call(tag);
    let result = call.result(vec![ToolResultContent::text(format!("{tag}: rain"))]);
    vec![
        Message::user(format!("{tag}: how is the weather?")),
        AssistantMessage::new(vec![thought, AssistantContent::ToolCall(call)]).into(),
        UserContent::ToolResult(result).into(),
        Message::assistant(format!("{tag}: it rains")),
    ]
}

#[tokio::test]
async fn turns_are_loaded_as_appended() {
    let memory = in_memory().await;
    assert_eq!(memory.load(&id()).await.unwrap(), []);
    memory.append(&id(), turn("one")).await.unwrap();
    memory.append(&id(), Vec::new()).await.unwrap();
    memory.append(&id(), turn("two")).await.unwrap();
    memory.append(&"another".into(), turn("three")).await.unwrap();
    assert_eq!(memory.load(&id()).await.unwrap(), [turn("one"), turn("two")].concat());
    memory.clear(&id()).await.unwrap();
    assert_eq!(memory.load(&id()).await.unwrap(), []);
    assert_eq!(memory.load(&"another".into()).await.unwrap(), turn("three"));
}

#[tokio::test]
async fn small_window_has_whole_pairs() {
    let memory = in_memory().await;
    for number in 0..40 {
        memory.append(&id(), turn(&number.to_string())).await.unwrap();
    }
    let all = memory.load(&id()).await.unwrap();
    assert_eq!(all.len(), 160);
    for budget in (40..1_500).step_by(20) {
        let small = memory.clone().with_window(WindowOptions::new(budget));
        let window = small.load(&id()).await.unwrap();
        assert!((1..160).contains(&window.len()) && window.last() == all.last(), "{window:?}");
        let mut rest = all.iter();
        assert!(window.iter().all(|one| rest.any(|other| one == other)), "in order: {window:?}");
        let mut open = Vec::new();
        for message in &window {
            match message {
                Message::Assistant(turn) => {
                    assert!(open.is_empty(), "without a result: {open:?}");
                    open.extend(turn.tool_calls().map(|call| call.id.clone()));
                }
                Message::User { content } => {
                    for content in content {
                        if let UserContent::ToolResult(result) = content {
                            assert_eq!(open.pop().as_ref(), Some(&result.call));
                        }
                    }
                }
                Message::System { .. } => {}
            }
        }
    }
}

#[tokio::test]
async fn reasoning_counts_against_the_budget() {
    let memory = in_memory().await;
    for number in 0..20 {
        let thought = Reasoning::new(format!("{number}: step by step. ").repeat(40));
        let content = vec![
            AssistantContent::Reasoning(thought),
            AssistantContent::text(format!("{number}.")),
        ];
        let turn = vec![Message::user("Go on."), AssistantMessage::new(content).into()];
        memory.append(&id(), turn).await.unwrap();
    }
    let stored = memory.memory(&id()).unwrap();
    let options = WindowOptions::new(2_000).with_answer(500);
    let messages = memory.clone().with_window(options).load(&id()).await.unwrap();
    let tokens: u64 =
        memory_rig::messages_from_rig(&messages).iter().map(|one| stored.count(one)).sum();
    assert!((1_000..=1_500).contains(&tokens), "{tokens} tokens in {} messages", messages.len());
}

#[tokio::test]
async fn newest_turn_is_loaded_with_long_reasoning() {
    let memory = in_memory().await;
    let thought = Reasoning::new("step by step. ".repeat(400));
    let content = vec![AssistantContent::Reasoning(thought), AssistantContent::text("Done.")];
    let turn = vec![Message::user("Go on."), AssistantMessage::new(content).into()];
    memory.append(&id(), turn.clone()).await.unwrap();
    let small = memory.with_window(WindowOptions::new(500));
    assert_eq!(small.load(&id()).await.unwrap(), turn);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_turns_are_never_torn() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("memory.db").display());
    // Two managers, as of two processes.
    let memories = [
        RigMemory::new(manager(&url).await, "support"),
        RigMemory::new(manager(&url).await, "support"),
    ];
    let agents = (0..6).map(|agent| {
        let memory = memories[agent % 2].clone();
        tokio::spawn(async move {
            for number in 0..5 {
                memory.append(&id(), turn(&format!("{agent}-{number}"))).await.unwrap();
                let loaded = memory.load(&id()).await.unwrap();
                assert_eq!(loaded.len() % 4, 0, "a torn turn was loaded");
            }
        })
    });
    for agent in agents.collect::<Vec<_>>() {
        agent.await.unwrap();
    }
    let all = memories[1].load(&id()).await.unwrap();
    let mut tags = Vec::new();
    for messages in all.chunks(4) {
        let Message::User { content } = &messages[0] else { panic!("{messages:?}") };
        let [UserContent::Text(text)] = content.as_slice() else { panic!("{content:?}") };
        let tag = text.text.split(':').next().unwrap().to_owned();
        assert_eq!(messages, turn(&tag));
        tags.push(tag);
    }
    tags.sort();
    tags.dedup();
    assert_eq!(tags.len(), 30);
}

#[tokio::test]
async fn repeated_append_has_no_effect() {
    let memory = in_memory().await;
    let write = WriterId::named("jobs").write(17);
    for _ in 0..3 {
        memory.append_as(&id(), write, &turn("one")).await.unwrap();
    }
    memory.append_as(&id(), WriterId::named("jobs").write(18), &[]).await.unwrap();
    assert_eq!(memory.load(&id()).await.unwrap(), turn("one"));
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
    let memory = RigMemory::new(manager(&url).await, "support");
    let (turn, write) = (turn("one"), WriterId::named("jobs").write(17));
    for polls in 0.. {
        let id = format!("case-{polls}").into();
        let append = async { memory.append(&id, turn.clone()).await.unwrap() };
        let has_ended = ends_within(polls, append).await;
        let loaded = memory.load(&id).await.unwrap();
        assert!(loaded == turn || loaded.is_empty() && !has_ended, "{polls} polls: {loaded:?}");
        let id = format!("job-{polls}").into();
        ends_within(polls, async { memory.append_as(&id, write, &turn).await.unwrap() }).await;
        memory.append_as(&id, write, &turn).await.unwrap();
        assert_eq!(memory.load(&id).await.unwrap(), turn, "{polls} polls");
        if has_ended {
            assert!(polls > 1, "the append was never dropped");
            break;
        }
    }
}

#[tokio::test]
async fn messages_of_other_programs_are_loaded() {
    let memory = in_memory().await;
    let stored = memory.memory(&id()).unwrap();
    stored.ensure_system("agent", "You are a travel agent.").await.unwrap();
    stored.append(Stored::user("Hello")).await.unwrap();
    memory.append(&id(), turn("one")).await.unwrap();
    let mut expected = vec![Message::system("You are a travel agent."), Message::user("Hello")];
    expected.extend(turn("one"));
    assert_eq!(memory.load(&id()).await.unwrap(), expected);
    let messages: Vec<_> = stored.messages().await.unwrap();
    let messages = messages.iter().map(|stored| &stored.message);
    assert_eq!(rig_from_messages(messages), expected);
}

#[tokio::test]
async fn other_programs_read_turns() {
    let memory = in_memory().await;
    memory.append(&id(), turn("one")).await.unwrap();
    let profile = Profile::new(ProfileName::Anthropic, Some("claude-sonnet-4-5"));
    let options = WindowOptions::new(8_000).with_profile(profile);
    let window = memory.memory(&id()).unwrap().window(&options).await.unwrap();
    let call =
        json!({"type": "tool_use", "id": "call-one", "name": "weather", "input": {"city": "one"}});
    let result = json!({"type": "tool_result", "tool_use_id": "call-one", "content": "one: rain"});
    assert_eq!(
        serde_json::to_value(window.request()).unwrap(),
        json!({"messages": [
            {"role": "user", "content": "one: how is the weather?"},
            {"role": "assistant", "content": [call]},
            {"role": "user", "content": [result]},
            {"role": "assistant", "content": "one: it rains"},
        ]})
    );
}

#[tokio::test]
async fn errors_have_their_code() {
    let code = |error: MemoryError| {
        let text = error.to_string();
        let MemoryError::Backend(source) = error else { panic!("{error}") };
        let source = source.downcast::<ConversationError>().unwrap();
        let named = format!("Memory backend error: {}: ", source.code());
        assert!(text.starts_with(&named), "{text}");
        assert_eq!(source.memory_error().code(), source.code());
        let within = source.source().map(ToString::to_string);
        assert_ne!(within, Some(source.memory_error().to_string()), "the text is there twice");
        source.code()
    };
    let memory = RigMemory::new(manager("memory://").await, "unknown");
    assert_eq!(code(memory.load(&id()).await.unwrap_err()), ErrorCode::NotFound);
    assert_eq!(code(memory.append(&id(), turn("one")).await.unwrap_err()), ErrorCode::NotFound);
    assert_eq!(code(memory.clear(&id()).await.unwrap_err()), ErrorCode::NotFound);
    let memory = in_memory().await;
    let long = vec![Message::user("word ".repeat(200_000))];
    assert_eq!(code(memory.append(&id(), long).await.unwrap_err()), ErrorCode::QuotaExceeded);
    memory.append(&id(), turn("one")).await.unwrap();
    let tiny = memory.with_window(WindowOptions::new(5));
    assert_eq!(code(tiny.load(&id()).await.unwrap_err()), ErrorCode::QuotaExceeded);
}

#[tokio::test]
async fn failed_append_gives_its_batch_back() {
    let text = r#"{"id": "support", "max_tokens": 100000, "lock": {"wait_timeout": "50ms"}}"#;
    let manager = MemoryManager::builder()
        .with_resource(MemoryResource::from_json(text).unwrap())
        .open("memory://")
        .await
        .unwrap();
    let memory = RigMemory::new(manager, "support");
    let stored = memory.memory(&id()).unwrap();
    let other = memory.clone();
    // Another agent has an exclusive turn for longer than the append waits.
    let append = tokio::spawn(async move { other.append(&id(), turn("one")).await });
    let held = stored.exclusive(|_| async move { append.await.unwrap().unwrap_err() });
    let MemoryError::Backend(source) = held.await.unwrap() else { panic!("another error") };
    let source = source.downcast::<ConversationError>().unwrap();
    assert_eq!(source.code(), ErrorCode::Timeout);
    let prepared = source.into_prepared().expect("the batch");
    assert_eq!(memory.load(&id()).await.unwrap(), []);
    stored.send(&prepared).await.unwrap();
    assert_eq!(memory.load(&id()).await.unwrap(), turn("one"));
}

/// Rig keeps memories behind `Arc<dyn ConversationMemory>`.
#[tokio::test]
async fn memory_works_as_a_trait_object() {
    let memory: Arc<dyn ConversationMemory> = Arc::new(in_memory().await);
    memory.append(&id(), turn("one")).await.unwrap();
    assert_eq!(memory.load(&id()).await.unwrap().len(), 4);
}
