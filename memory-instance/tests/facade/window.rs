//! Windows with options, their calibration, and the messages that they leave out.

use std::sync::Arc;

use memory_core::conformance::planning_work;
use memory_core::dialect::ToolCall;
use memory_core::plan::{ContextError, Usage};
use memory_core::profile::ProfileName;
use memory_core::request::RepairKind;
use memory_core::{Entry, MemoryResource, Message, Sequence};
use memory_core::{Profile, check_request};
use memory_instance::{
    Calibrated, FlushMode, MemoryError, MemoryInstance, NewestUnit, WindowAdvance, WindowOptions,
};
use serde_json::{Value, json};

use crate::support::{On, World, hybrid, with};

on_every_backend![
    options_reach_the_request,
    unchanged_prefix_is_reported,
    resource_sets_the_advance,
    stepped_windows_are_equal_in_every_process,
    count_matches_stored_tokens,
    calibration_shrinks_later_windows,
    calibration_is_stale_after_flush_or_clear,
    calibration_of_one_profile_leaves_others,
    calibration_is_kept_per_model,
    window_has_the_newest_reminders,
    blank_messages_are_left_out,
    newest_unit_over_budget_fails_or_is_cut,
    window_groups_each_new_message_once,
];

async fn world(on: On) -> World {
    on.world(with(MemoryResource::new("m", 90_000)).with_flush_mode(FlushMode::Manual)).await
}

async fn talk(memory: &MemoryInstance, count: usize) {
    let talk = (0..count).flat_map(|number| {
        let answer = format!("answer {number} {}", "word ".repeat(10));
        [Message::user(format!("question {number}")), Message::assistant(answer)]
    });
    memory.append_all(talk).await.unwrap();
    memory.append(Message::user("the newest")).await.unwrap();
}

async fn unchanged_prefix_is_reported(on: On) {
    let world = world(on).await;
    let memory = world.memory();
    talk(&memory, 100).await;
    let agents = ["You plan.", "You check."];
    let options = |agent: usize| WindowOptions::new(2_000).with_system(agents[agent]);
    let mut tokens = [0, 0];
    for turn in 0..6 {
        for (agent, before) in tokens.iter_mut().enumerate() {
            let window = memory.window(&options(agent)).await.unwrap();
            assert_eq!(window.unchanged_tokens, *before, "agent {agent} in turn {turn}");
            let json = serde_json::to_value(&window).unwrap();
            assert_eq!(json["unchanged_tokens"], *before);
            *before = window.tokens;
        }
        memory.append(Message::user("and then?")).await.unwrap();
    }
    // A new start leaves the system prompt.
    talk(&memory, 100).await;
    let window = memory.window(&options(0)).await.unwrap();
    assert!((1..20).contains(&window.unchanged_tokens), "{}", window.unchanged_tokens);
}

async fn window_groups_each_new_message_once(on: On) {
    let world = world(on).await;
    let memory = world.memory();
    talk(&memory, 50).await;
    let work = async |memory: &MemoryInstance| {
        let before = planning_work();
        // Not everything fits, so units are chosen.
        let window = memory.context(1_000).await.unwrap();
        assert!(window.left_out.budget.messages > 0);
        let after = planning_work();
        (after.grouped - before.grouped, after.classified - before.classified)
    };
    assert_eq!(work(&memory).await, (101, 0));
    assert_eq!(work(&memory).await, (0, 0));
    memory.append(Message::system("Be kind.")).await.unwrap();
    memory.append(Message::user("and now?")).await.unwrap();
    // Only units that are not plain conversation are classified.
    assert_eq!(work(&memory).await, (2, 1));
    let builder = with(MemoryResource::new("m", 90_000)).with_view_bytes(0);
    let (store, locks) = (Arc::clone(world.manager.store()), world.manager.locks().clone());
    let without_views = builder.build(store, locks).unwrap().memory_at(memory.key()).unwrap();
    assert_eq!(work(&without_views).await, (103, 1));
}

/// With a view and without one, in a process that read every window and in one that starts now.
async fn stepped_windows_are_equal_in_every_process(on: On) {
    let world = world(on).await;
    let memory = world.memory();
    let other = |view_bytes| {
        let builder = with(MemoryResource::new("m", 90_000)).with_flush_mode(FlushMode::Manual);
        let (store, locks) = (Arc::clone(world.manager.store()), world.manager.locks().clone());
        let manager = builder.with_view_bytes(view_bytes).build(store, locks).unwrap();
        manager.memory_at(memory.key()).unwrap()
    };
    let without_views = other(0);
    let mut starts = std::collections::BTreeSet::new();
    for number in 0..40 {
        talk(&memory, 4).await;
        if number == 30 {
            memory.perform_flush().await.unwrap();
        }
        for profile in [Profile::openai_chat(), Profile::anthropic()] {
            let options = WindowOptions::new(2_000).with_profile(profile);
            let window = memory.window(&options).await.unwrap();
            starts.insert(window.messages[0].text().into_owned());
            for reader in [&without_views, &other(1 << 20)] {
                let same = reader.window(&options).await.unwrap();
                assert_eq!(same.request().to_string(), window.request().to_string());
                assert_eq!((same.tokens, same.left_out), (window.tokens, window.left_out));
            }
        }
    }
    assert!((3..20).contains(&starts.len()), "{starts:?}");
}

/// The store has the metadata of a message that cannot be decoded. Its call is left out too.
#[tokio::test]
async fn damaged_message_leaves_the_same_window() {
    let world = world(On::Sqlite).await;
    let memory = world.memory();
    talk(&memory, 4).await;
    let call = Message::calls([ToolCall::function("call-1", "tide", "{}")]);
    memory.append_all([call, Message::tool_result("call-1", "low")]).await.unwrap();
    talk(&memory, 4).await;
    let whole = memory.context(2_000).await.unwrap();
    let file = world.folder.as_ref().unwrap().path().join("memory.db");
    let file = rusqlite::Connection::open(file).unwrap();
    let damaged =
        file.execute("UPDATE message SET body = '{' WHERE instr(body, '\"low\"') > 0", ()).unwrap();
    assert_eq!(damaged, 1);
    let reader = |view_bytes| {
        let builder = with(MemoryResource::new("m", 90_000)).with_view_bytes(view_bytes);
        let (store, locks) = (Arc::clone(world.manager.store()), world.manager.locks().clone());
        builder.build(store, locks).unwrap().memory_at(memory.key()).unwrap()
    };
    let (warm, without_views) = (reader(1 << 20), reader(0));
    for _ in 0..3 {
        let window = warm.context(2_000).await.unwrap();
        assert_eq!(window.messages.len(), whole.messages.len() - 2);
        assert_eq!(window, without_views.context(2_000).await.unwrap());
        assert_eq!(warm.last(3).await.unwrap(), without_views.last(3).await.unwrap());
        let all = warm.page(None, None).await.unwrap();
        assert_eq!((all.messages.len(), all.unreadable.len()), (19, 1));
    }
}

async fn resource_sets_the_advance(on: On) {
    let mut resource = MemoryResource::new("m", 90_000);
    resource.window_advance = Some(WindowAdvance::Sliding);
    let world = on.world(with(resource).with_flush_mode(FlushMode::Manual)).await;
    let memory = world.memory();
    let (mut largest, mut starts) = (0, std::collections::HashSet::new());
    talk(&memory, 100).await;
    for _ in 0..6 {
        talk(&memory, 2).await;
        let window = memory.context(2_000).await.unwrap();
        largest = largest.max(window.tokens);
        starts.insert(window.messages[0].text().into_owned());
    }
    assert!(largest > 1_900 && starts.len() > 2, "{largest}, {starts:?}");
}

async fn options_reach_the_request(on: On) {
    let world = world(on).await;
    let memory = world.memory();
    memory.ensure_system("agent", "stored prompt").await.unwrap();
    talk(&memory, 100).await;
    let whole = memory.context(800).await.unwrap();
    assert!((700..=800).contains(&whole.tokens), "{}", whole.tokens);
    let Value::Array(messages) = whole.request().to_value() else { panic!("no array") };
    assert_eq!(messages[0], json!({"role": "system", "content": "stored prompt"}));

    let profile = Profile::new(ProfileName::Anthropic, Some("claude-sonnet-4-5"));
    let options = WindowOptions::new(800)
        .with_profile(profile.clone())
        .with_system("prompt of one agent")
        .with_tools(150)
        .with_answer(250);
    let part = memory.window(&options).await.unwrap();
    assert!((300..=400).contains(&part.tokens), "{}", part.tokens);
    check_request(&part.request().to_string(), &profile).unwrap();
    let request = part.request().to_value();
    let system = request["system"].to_string();
    let places = ["prompt of one agent", "stored prompt"].map(|text| system.find(text).unwrap());
    assert!(places[0] < places[1], "{system}");
    assert_eq!(request["messages"].as_array().unwrap().last().unwrap()["content"], "the newest");
    let json = serde_json::to_value(&part).unwrap();
    assert_eq!((&json["request"], &json["tokens"]), (&request, &json!(part.tokens)));
    assert!(
        memory
            .messages()
            .await
            .unwrap()
            .iter()
            .all(|it| it.message.text() != "prompt of one agent")
    );
}

async fn count_matches_stored_tokens(on: On) {
    let world = world(on).await;
    let memory = world.memory();
    let image = json!({"type": "image_url", "image_url": {"url": "https://example.com/a.png"}});
    for message in [
        Message::user("A draft, as long as it is."),
        Message::from_value(json!({"role": "user", "content": [image]})).unwrap(),
    ] {
        let before = memory.token_count().await.unwrap();
        let counted = memory.count(&message);
        assert_eq!(memory.token_count().await.unwrap(), before, "a draft is not stored");
        memory.append(message).await.unwrap();
        assert_eq!(memory.token_count().await.unwrap(), before + counted);
    }
}

async fn calibration_shrinks_later_windows(on: On) {
    let world = world(on).await;
    let memory = world.memory();
    talk(&memory, 100).await;
    let options = WindowOptions::new(800).with_tools(50);
    let older = memory.window(&options).await.unwrap();
    memory.append(Message::user("one more")).await.unwrap();
    let first = memory.window(&options).await.unwrap();
    // Providers report the tokens of tools, too.
    let usage = |excess| Usage::new(first.tokens + 50 + excess);
    let applied = memory.calibrate(first.anchor(), usage(200)).await.unwrap();
    assert_eq!(applied, Calibrated::Applied { excess: 200 });
    let next = memory.window(&options).await.unwrap();
    assert!((450..=550).contains(&next.tokens), "{}", next.tokens);
    assert!(next.messages.len() < first.messages.len());
    let health = memory.health().await.unwrap();
    let calibrations: Vec<_> = health.calibrations.iter().map(|one| one.excess).collect();
    assert_eq!(calibrations, [200]);

    // A late report for an older window is ignored.
    let late = memory.calibrate(older.anchor(), Usage::new(5_000)).await.unwrap();
    assert_eq!(late, Calibrated::Stale);
    // The usage of the calibrated window is compared with that window's own count.
    let fits = memory.calibrate(next.anchor(), Usage::new(next.tokens + 50)).await.unwrap();
    assert_eq!(fits, Calibrated::Applied { excess: 0 });
    assert_eq!(memory.window(&options).await.unwrap().tokens, first.tokens);
}

async fn calibration_is_stale_after_flush_or_clear(on: On) {
    let world = on.world(with(hybrid(2_000)).with_flush_mode(FlushMode::Manual)).await;
    let memory = world.memory();
    talk(&memory, 100).await;
    let before = memory.context(800).await.unwrap();
    memory.perform_flush().await.unwrap().expect("there was much to flush");
    let stale = memory.calibrate(before.anchor(), Usage::new(5_000)).await.unwrap();
    assert_eq!(stale, Calibrated::Stale);
    let flushed = memory.context(800).await.unwrap();
    memory.clear().await.unwrap();
    talk(&memory, 2).await;
    let stale = memory.calibrate(flushed.anchor(), Usage::new(5_000)).await.unwrap();
    assert_eq!(stale, Calibrated::Stale);
    assert!(memory.health().await.unwrap().calibrations.is_empty());
    let now = memory.context(800).await.unwrap();
    let usage = Usage::new(now.tokens + 7);
    let applied = memory.calibrate(now.anchor(), usage).await.unwrap();
    assert_eq!(applied, Calibrated::Applied { excess: 7 });
}

async fn calibration_of_one_profile_leaves_others(on: On) {
    let world = world(on).await;
    let memory = world.memory();
    talk(&memory, 100).await;
    let options = WindowOptions::new(800).with_profile(Profile::new(ProfileName::Gemini, None));
    let gemini = memory.window(&options).await.unwrap();
    let chat = memory.context(800).await.unwrap();
    memory.calibrate(gemini.anchor(), Usage::new(gemini.tokens + 300)).await.unwrap();
    assert_eq!(memory.context(800).await.unwrap().tokens, chat.tokens);
    assert!(memory.window(&options).await.unwrap().tokens <= 500);
}

async fn calibration_is_kept_per_model(on: On) {
    let world = world(on).await;
    let memory = world.memory();
    talk(&memory, 100).await;
    let of = |model| WindowOptions::new(800).with_profile(Profile::for_model(Some(model)));
    let (sonnet, opus) = (of("claude-sonnet-4-5"), of("claude-opus-4-6"));
    let before = memory.window(&opus).await.unwrap().tokens;
    let window = memory.window(&sonnet).await.unwrap();
    memory.calibrate(window.anchor(), Usage::new(window.tokens + 300)).await.unwrap();
    assert_eq!(memory.window(&opus).await.unwrap().tokens, before);
    assert!(memory.window(&sonnet).await.unwrap().tokens <= 500);
    let health = memory.health().await.unwrap();
    assert_eq!(health.calibrations[0].model.as_deref(), Some("claude-sonnet-4-5"));
    // The error separates the excess, and its remedy works.
    let over = sonnet.clone().with_tools(700);
    let error = memory.window(&over).await.unwrap_err();
    assert!(error.to_string().contains("300 tokens of it"), "{error}");
    let MemoryError::Context { reason, calibrated: 300, .. } = error else { panic!("{error}") };
    let needed = match reason {
        ContextError::ReserveOverBudget { needed, .. }
        | ContextError::CriticalOverBudget { needed, .. }
        | ContextError::NewestOverBudget { needed, .. } => needed,
        other => panic!("{other}"),
    };
    let mut enough = over;
    enough.budget = needed + 20;
    memory.window(&enough).await.unwrap();
}

async fn window_has_the_newest_reminders(on: On) {
    let world = world(on).await;
    let memory = world.memory();
    for number in 0..10 {
        let reminder = Entry::reminder(Message::user(format!("reminder {number}")));
        memory.append(reminder).await.unwrap();
        memory.append(Message::user(format!("question {number}"))).await.unwrap();
    }
    let window = memory.context(8_000).await.unwrap();
    let texts: Vec<_> = window.messages.iter().map(|message| message.text()).collect();
    let reminders: Vec<_> = texts.iter().filter(|text| text.starts_with("reminder")).collect();
    assert_eq!(reminders, ["reminder 7", "reminder 8", "reminder 9"]);
    assert_eq!((texts.len(), window.left_out.reminders.messages), (13, 7));
    assert_eq!(window.left_out.total().messages, 7);
}

async fn blank_messages_are_left_out(on: On) {
    let world = world(on).await;
    let memory = world.memory();
    for text in ["a question", "", " \n", "another"] {
        memory.append(Message::user(text)).await.unwrap();
    }
    let window = memory.context(8_000).await.unwrap();
    let texts: Vec<_> = window.messages.iter().map(|message| message.text()).collect();
    assert_eq!(texts, ["a question", "another"]);
    assert_eq!(window.left_out.empty.messages, 2);
    assert_eq!(window.left_out.total(), window.left_out.empty);
}

async fn newest_unit_over_budget_fails_or_is_cut(on: On) {
    let world = world(on).await;
    let memory = world.memory();
    memory.ensure_system("agent", "You are a travel agent.").await.unwrap();
    memory.append(Message::user("word ".repeat(500))).await.unwrap();
    let error = memory.context(100).await.unwrap_err();
    assert!(!error.to_string().contains("word "), "{error}");
    let MemoryError::Context { reason, .. } = error else { panic!("{error}") };
    let ContextError::NewestOverBudget { sequence, tokens, needed, budget, .. } = reason else {
        panic!("{reason}");
    };
    assert_eq!((sequence, budget), (Sequence::new(2), 100));
    assert!(tokens > 500 && needed > tokens, "{reason}");
    assert_eq!(memory.context(needed).await.unwrap().messages.len(), 2, "the remedy works");
    memory.context(needed - 1).await.unwrap_err();

    let options = WindowOptions::new(100).with_newest(NewestUnit::Truncate);
    let window = memory.window(&options).await.unwrap();
    assert!((60..=100).contains(&window.tokens), "{}", window.tokens);
    let cut = window.repairs.iter().find(|repair| repair.kind == RepairKind::Truncated).unwrap();
    assert_eq!(cut.sequence, Some(Sequence::new(2)));
    let text = window.request().to_string();
    assert!(text.contains("You are a travel agent.") && text.contains("[truncated]"), "{text}");
    assert_eq!(
        memory.messages().await.unwrap()[1].message.text().len(),
        2_500,
        "it is stored whole"
    );
}

#[test]
fn unknown_profile_is_refused_with_the_list() {
    let refused = |profile: &str| {
        let yaml = format!("id: support\nmax_tokens: 8000\nprofile: {profile}\n");
        MemoryResource::from_yaml(&yaml).unwrap_err().to_string()
    };
    let error = refused("my_gateway");
    assert!(error.starts_with("resource `support`: profile: "), "{error}");
    for name in ProfileName::ALL {
        assert!(error.contains(name.as_str()), "{name} is not in {error}");
    }
    let error = refused("opneai_chat");
    assert!(error.ends_with("did you mean `openai_chat`?"), "{error}");
}
