//! P8, P9: snapshots, deltas, windows.

use std::num::NonZeroUsize;
use std::sync::Arc;

use memory_core::dialect::ToolCall;
use memory_core::profile::ProfileName;
use memory_core::{MemoryResource, Message, StoredMessage, WindowOptions};
use memory_instance::FlushMode;

use crate::support::{On, assert_window_fits, hybrid, with};

on_every_backend![
    reader_receives_only_new_messages,
    own_appends_read_as_stored,
    reader_restarts_after_a_flush,
    newest_messages_are_read_backward,
    window_fits_every_budget,
    results_follow_calls_of_interleaved_agents,
    empty_memory_reads_as_empty,
];

async fn reader_receives_only_new_messages(on: On) {
    let world = on.world(with(MemoryResource::new("m", 1 << 20))).await;
    let memory = world.memory();
    memory.append_all((0..25).map(|n| Message::user(n.to_string()))).await.unwrap();
    let mut seen = Vec::new();
    let mut cursor = None;
    loop {
        let page = memory.page(cursor, NonZeroUsize::new(10)).await.unwrap();
        assert!(page.messages.len() <= 10 && !page.restarted);
        seen.extend(page.messages.iter().map(|m| m.message.text().into_owned()));
        cursor = Some(page.cursor);
        if !page.more {
            break;
        }
    }
    let expected: Vec<_> = (0..25).map(|n| n.to_string()).collect();
    assert_eq!(seen, expected);
    memory.append(Message::user("new")).await.unwrap();
    let page = memory.page(cursor, None).await.unwrap();
    assert_eq!(page.messages.len(), 1);
}

/// Turns of every dialect, with numbers and fields that a parser could change.
const DIALECTS: [&[&str]; 5] = [
    &[r#"{"role":"user","content":"plain \u00e9\ud83d\ude00","name":"ann"}"#],
    &[
        r#"{"role":"assistant","content":[{"type":"thinking","thinking":"hm","signature":"s"},{"type":"tool_use","id":"a","name":"f","input":{"x":1.0,"y":1e400,"z":12345678901234567890123}}]}"#,
        r#"{"role":"user","content":[{"type":"tool_result","tool_use_id":"a","content":[{"type":"text","text":"ok"}],"cache_control":{"type":"ephemeral"}}]}"#,
    ],
    &[
        r#"{"type":"reasoning","id":"rs_1","summary":[],"encrypted_content":"gAAA"}"#,
        r#"{"type":"function_call","id":"fc_1","call_id":"b","name":"f","arguments":"{\"b\":2,\"a\":1}"}"#,
        r#"{"type":"function_call_output","call_id":"b","output":"ok"}"#,
    ],
    &[
        r#"{"role":"model","parts":[{"functionCall":{"name":"f","args":{"x":-0.0}},"thoughtSignature":"c2ln"}]}"#,
        r#"{"role":"user","parts":[{"functionResponse":{"name":"f","response":{"ok":true}}}]}"#,
    ],
    &[
        r#"{"role":"assistant","content":[{"toolUse":{"toolUseId":"c","name":"f","input":{}}}]}"#,
        r#"{"role":"user","content":[{"toolResult":{"toolUseId":"c","content":[{"json":{"n":1.50}}]}}]}"#,
    ],
];

/// A process takes its own appends from memory; a new one reads them from the store.
async fn own_appends_read_as_stored(on: On) {
    let settings = || with(MemoryResource::new("m", 1 << 20)).with_flush_mode(FlushMode::Manual);
    let world = on.world(settings()).await;
    let memory = world.memory();
    memory.messages().await.unwrap();
    for turn in DIALECTS {
        let turn = turn.iter().map(|line| Message::from_json(line).unwrap());
        memory.append_all(turn).await.unwrap();
        let (store, locks) = (Arc::clone(world.manager.store()), world.manager.locks().clone());
        let other = settings().build(store, locks).unwrap();
        let cold = other.memory_at(memory.key()).unwrap();
        let [warm_messages, messages] =
            [memory.messages().await.unwrap(), cold.messages().await.unwrap()];
        assert_eq!(warm_messages, messages);
        let lines = |messages: &[StoredMessage]| -> Vec<_> {
            messages.iter().map(|stored| serde_json::to_string(&stored.message).unwrap()).collect()
        };
        assert_eq!(lines(&warm_messages), lines(&messages));
        for profile in ProfileName::ALL {
            let options = WindowOptions::new(60_000).with_profile(profile.into());
            let [warm, cold] =
                [memory.window(&options).await.unwrap(), cold.window(&options).await.unwrap()];
            assert_eq!(warm.request().to_string(), cold.request().to_string());
            assert_eq!((warm.tokens, warm.repairs), (cold.tokens, cold.repairs));
        }
    }
}

async fn reader_restarts_after_a_flush(on: On) {
    let world = on.world(with(hybrid(1_000)).with_flush_mode(FlushMode::Manual)).await;
    let memory = world.memory();
    memory.append_all((0..90).map(|n| Message::user(format!("message {n}")))).await.unwrap();
    let first = memory.page(None, None).await.unwrap();
    memory.perform_flush().await.unwrap().unwrap();
    let second = memory.page(Some(first.cursor), None).await.unwrap();
    assert!(second.restarted, "what was read may be gone");
    assert_eq!(second.messages.len() as u64, memory.len().await.unwrap());
}

async fn newest_messages_are_read_backward(on: On) {
    let world = on.world(with(hybrid(1_000)).with_flush_mode(FlushMode::Manual)).await;
    let memory = world.memory();
    assert!(memory.last(3).await.unwrap().is_empty());
    memory.append_all((0..90).map(|n| Message::user(format!("message {n}")))).await.unwrap();
    let limit = NonZeroUsize::new(40).unwrap();
    // Without a view of the memory and with one.
    for _ in 0..2 {
        let (mut pages, mut before) = (Vec::new(), None);
        loop {
            let page = memory.page_before(before, limit).await.unwrap();
            assert!(page.messages.len() <= 40 && !page.restarted);
            before = Some(page.cursor);
            pages.push(page.messages);
            if !page.more {
                break;
            }
        }
        pages.reverse();
        let all = memory.messages().await.unwrap();
        assert_eq!(pages.concat(), all);
        assert_eq!(memory.last(3).await.unwrap(), all[87..]);
        assert_eq!(memory.last(100).await.unwrap(), all);
        assert!(memory.last(0).await.unwrap().is_empty());
    }
    let page = memory.page_before(None, limit).await.unwrap();
    memory.append(Message::user("new")).await.unwrap();
    assert_eq!(memory.last(1).await.unwrap()[0].message.text(), "new");
    let older = memory.page_before(Some(page.cursor), limit).await.unwrap();
    assert!(!older.restarted, "an append removes nothing");
    memory.perform_flush().await.unwrap().unwrap();
    let newest = memory.page_before(Some(older.cursor), NonZeroUsize::MIN).await.unwrap();
    assert!(newest.restarted, "what was read may be gone");
    assert_eq!(newest.messages[0].message.text(), "new");
}

async fn window_fits_every_budget(on: On) {
    let world = on.world(with(MemoryResource::new("m", 1 << 20))).await;
    let memory = world.memory();
    memory.append(Message::system("you are kind")).await.unwrap();
    for number in 0..30 {
        let id = format!("c{number}");
        memory.append(Message::user(format!("question {number}"))).await.unwrap();
        memory.append(Message::calls([ToolCall::function(&id, "f", "{}")])).await.unwrap();
        memory.append(Message::tool_result(&id, "result ".repeat(number + 1))).await.unwrap();
    }
    for budget in (120..2_000).step_by(37) {
        let window = assert_window_fits(&memory, budget).await;
        assert_eq!(window[0].text(), "you are kind");
    }
    assert!(memory.context(3).await.is_err(), "the system prompt does not fit");
}

async fn results_follow_calls_of_interleaved_agents(on: On) {
    let world = on.world(with(MemoryResource::new("m", 1 << 20))).await;
    let memory = world.memory();
    let call = |id: &str| Message::calls([ToolCall::function(id, "f", "{}")]);
    memory.append(call("a")).await.unwrap();
    memory.append(call("b")).await.unwrap();
    memory.append(Message::user("meanwhile")).await.unwrap();
    memory.append(Message::tool_result("b", "of b")).await.unwrap();
    memory.append(Message::tool_result("a", "of a")).await.unwrap();
    memory.append(Message::tool_result("x", "of nobody")).await.unwrap();
    let window = assert_window_fits(&memory, 1_000).await;
    let texts: Vec<_> = window.iter().map(|message| message.text()).collect();
    assert_eq!(texts, ["", "of a", "", "of b", "meanwhile"]);
    assert_eq!(memory.health().await.unwrap().orphaned_results, 1);
}

async fn empty_memory_reads_as_empty(on: On) {
    let world = on.world(with(MemoryResource::new("m", 100))).await;
    let memory = world.memory();
    assert!(memory.is_empty().await.unwrap());
    assert_eq!(memory.token_count().await.unwrap(), 0);
    assert!(memory.messages().await.unwrap().is_empty());
    assert!(memory.context(10).await.unwrap().messages.is_empty());
    assert!(memory.receipts().await.unwrap().is_empty());
    let health = memory.health().await.unwrap();
    assert_eq!((health.messages, health.lifetime.appended), (0, 0));
}
