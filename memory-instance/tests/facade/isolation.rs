//! P14, and the cost of an instance.

use std::num::NonZeroUsize;

use memory_core::{MemoryKey, MemoryResource, Message};
use memory_instance::{KeyContext, KeyPattern, MemoryError, MemoryManager};
use memory_lock::{Clock, ClockExt as _};

use crate::support::{On, texts, with};

on_every_backend![
    keys_projects_and_resources_are_isolated,
    keys_are_listed_by_prefix,
    pattern_lists_only_its_resource,
    ten_thousand_instances_work_at_once,
    template_selects_the_memory,
    instance_cache_is_bounded,
    long_keys_work,
    callers_filling_the_blocking_pool_are_served,
];

async fn callers_filling_the_blocking_pool_are_served(on: On) {
    let world = on.world(with(MemoryResource::new("m", 100_000))).await;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .max_blocking_threads(4)
        .enable_all()
        .build()
        .unwrap();
    let callers: Vec<_> = (0..8)
        .map(|_| {
            let memory = world.memory();
            runtime.spawn_blocking(move || {
                tokio::runtime::Handle::current().block_on(async {
                    for _ in 0..20 {
                        memory.append(Message::user("hello")).await.unwrap();
                    }
                    texts(&memory).await;
                });
            })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
    runtime.shutdown_background();
    assert_eq!(texts(&world.memory()).await.len(), 160);
}

async fn keys_projects_and_resources_are_isolated(on: On) {
    let builder =
        with(MemoryResource::new("m", 1_000)).with_resource(MemoryResource::new("n", 1_000));
    let world = on.world(builder).await;
    let (store, locks) = (world.manager.store().clone(), world.manager.locks().clone());
    let other = MemoryManager::builder()
        .with_project("other")
        .with_clock(Clock::tokio())
        .with_resource(MemoryResource::new("m", 1_000))
        .build(store, locks)
        .unwrap();
    let memories = [
        world.manager.memory("m", "a/b").unwrap(),
        world.manager.memory("m", "a_b").unwrap(),
        world.manager.memory("m", "a:b").unwrap(),
        world.manager.memory("n", "a_b").unwrap(),
        other.memory("m", "a_b").unwrap(),
    ];
    for (number, memory) in memories.iter().enumerate() {
        memory.append(Message::user(number.to_string())).await.unwrap();
    }
    for (number, memory) in memories.iter().enumerate() {
        assert_eq!(texts(memory).await, [number.to_string()]);
    }
    memories[0].clear().await.unwrap();
    assert_eq!(texts(&memories[1]).await, ["1"]);
    let keys = world.manager.keys(None, NonZeroUsize::new(10).unwrap()).await.unwrap();
    assert_eq!(keys.len(), 4);
}

async fn pattern_lists_only_its_resource(on: On) {
    let builder =
        with(MemoryResource::new("m", 1_000)).with_resource(MemoryResource::new("n", 1_000));
    let world = on.world(builder).await;
    let manager = &world.manager;
    let (store, locks) = (manager.store().clone(), manager.locks().clone());
    let resource = MemoryResource::new("m", 1_000);
    let builder = MemoryManager::builder().with_project("other").with_clock(Clock::tokio());
    let other = builder.with_resource(resource).build(store, locks).unwrap();
    let long = format!("a-{}", "k".repeat(600));
    for (manager, resource, key) in [
        (manager, "m", "a-1:x"),
        (manager, "m", "a-2:x"),
        (manager, "m", "a-2:y"),
        (manager, "m", "a*:x"),
        (manager, "m", &long),
        (manager, "n", "a-1:x"),
        (&other, "m", "a-3:x"),
    ] {
        manager.memory(resource, key).unwrap().append(Message::user("hi")).await.unwrap();
    }
    let listed = async |pattern: &KeyPattern, after: Option<&MemoryKey>, limit| {
        let limit = NonZeroUsize::new(limit).unwrap();
        let listing = manager.list_keys("m", pattern, after, limit).await.unwrap();
        let name = |key: &MemoryKey| key.parts().map_or_else(String::new, |(.., name)| name);
        (listing.keys.iter().map(name).collect::<Vec<_>>(), listing.truncated)
    };
    let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
    let ends = KeyPattern::parse("a*:x");
    assert_eq!(listed(&ends, None, 3).await, (names(&["a*:x", "a-1:x", "a-2:x"]), false));
    assert_eq!(listed(&ends, None, 2).await, (names(&["a*:x", "a-1:x"]), true));
    let after = MemoryKey::new(manager.project(), "m", "a-1:x").unwrap();
    assert_eq!(listed(&ends, Some(&after), 1).await, (names(&["a-2:x"]), false));
    let letter = KeyPattern::from_texts(["a*", ""]);
    assert_eq!(listed(&letter, None, 9).await, (names(&["a*:x"]), false));
    let all = KeyPattern::parse("a-*");
    let four = (names(&["a-1:x", "a-2:x", "a-2:y", ""]), false);
    assert_eq!(listed(&all, None, 4).await, four, "the long key has no name");
    assert!(listed(&all, None, 3).await.1);
    let one = KeyPattern::from_texts(["a-2:y"]);
    assert_eq!(listed(&one, None, 1).await, (names(&["a-2:y"]), false));
    let too_many = NonZeroUsize::new(50_001).unwrap();
    let refused = manager.list_keys("m", &all, None, too_many).await.unwrap_err();
    assert_eq!(refused.code().as_str(), "invalid_operation");
}

async fn keys_are_listed_by_prefix(on: On) {
    let builder =
        with(MemoryResource::new("m", 1_000)).with_resource(MemoryResource::new("n", 1_000));
    let world = on.world(builder).await;
    let manager = &world.manager;
    for (resource, key) in
        [("n", "a-1"), ("m", "a"), ("m", "a-2"), ("m", "a-1"), ("m", "b"), ("m", "a.")]
    {
        manager.memory(resource, key).unwrap().append(Message::user("hi")).await.unwrap();
    }
    let listed = async |resource, prefix, after: Option<&MemoryKey>, limit| {
        let limit = NonZeroUsize::new(limit).unwrap();
        let keys = manager.keys_with_prefix(resource, prefix, after, limit).await.unwrap();
        keys.iter().map(|key| key.parts().unwrap().2).collect::<Vec<_>>()
    };
    assert_eq!(listed("m", "", None, 10).await, ["a", "a-1", "a-2", "a.", "b"]);
    assert_eq!(
        listed("m", "a", None, 10).await,
        ["a", "a-1", "a-2", "a."],
        "the prefix itself too"
    );
    assert_eq!(listed("m", "a-", None, 10).await, ["a-1", "a-2"]);
    assert_eq!(listed("n", "a", None, 10).await, ["a-1"]);
    assert!(
        listed("o", "", None, 10).await.is_empty() && listed("m", "c", None, 10).await.is_empty()
    );
    assert_eq!(listed("m", "a", None, 1).await, ["a"]);
    let first = MemoryKey::new(manager.project(), "m", "a").unwrap();
    assert_eq!(listed("m", "a", Some(&first), 2).await, ["a-1", "a-2"]);
    let last = MemoryKey::new(manager.project(), "m", "b").unwrap();
    assert!(listed("m", "a", Some(&last), 2).await.is_empty());
}

async fn ten_thousand_instances_work_at_once(on: On) {
    let world = on.world(with(MemoryResource::new("m", 1_000))).await;
    let open: Vec<_> =
        (0..10_000).map(|n| world.manager.memory("m", &n.to_string()).unwrap()).collect();
    let tasks_before = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let mut appends = tokio::task::JoinSet::new();
    for memory in &open {
        let memory = memory.clone();
        appends.spawn(async move { memory.append(Message::user("hello")).await.map(drop) });
    }
    while let Some(appended) = appends.join_next().await {
        appended.unwrap().unwrap();
    }
    let wait = async {
        while tokio::runtime::Handle::current().metrics().num_alive_tasks() > tasks_before {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    let ended = tokio::time::timeout(std::time::Duration::from_secs(60), wait).await;
    ended.expect("an idle instance has no task");
    assert_eq!(texts(&open[9_900]).await, ["hello"]);
}

/// Resident memory of this process, in bytes.
#[cfg(target_os = "linux")]
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    let kilobytes: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kilobytes * 1024
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn idle_instance_takes_half_a_kilobyte() {
    const INSTANCES: u64 = 10_000;
    let world = On::Sqlite.world(with(MemoryResource::new("m", 1_000))).await;
    let memory = |n: u64| world.manager.memory("m", &format!("conversation-{n}")).unwrap();
    memory(0).append(Message::user("warm")).await.unwrap();
    let before = resident();
    let mut open = Vec::new();
    for number in 1..=INSTANCES {
        let memory = memory(number);
        // It has been used, so its writer and its place in the cache count as well.
        if number % 10 == 0 {
            memory.append(Message::user("hello")).await.unwrap();
        }
        open.push(memory);
    }
    let each = resident().saturating_sub(before) / INSTANCES;
    println!("an idle instance takes {each} bytes");
    // The growth of resident memory has a page here and there of other origin.
    assert!(each <= 640, "{each} bytes");
}

async fn template_selects_the_memory(on: On) {
    let world = on.world(with(MemoryResource::new("m", 1_000))).await;
    let context = KeyContext::new().with("workflow.input", serde_json::json!({"userId": "u1"}));
    let template = "user-{{ .workflow.input.userId }}";
    let memory = world.manager.memory_for("m", template, &context).unwrap();
    assert_eq!(memory.key().as_str(), "default:m:user-u1");
    let missing = world.manager.memory_for("m", "{{ session.id }}", &context).unwrap_err();
    assert!(matches!(missing, MemoryError::Template(_)));
    let unknown = world.manager.memory("x", "k").unwrap_err();
    assert_eq!(unknown.to_string(), "no resource has the id `x`; known resources: m");
}

async fn instance_cache_is_bounded(on: On) {
    let bound = NonZeroUsize::new(16).unwrap();
    let world = on.world(with(MemoryResource::new("m", 1_000)).with_cached_instances(bound)).await;
    let held = world.manager.memory("m", "0").unwrap();
    for number in 0..200 {
        let memory = world.manager.memory("m", &number.to_string()).unwrap();
        memory.append(Message::user("x")).await.unwrap();
    }
    let text = format!("{:?}", world.manager);
    let instances = text.split("instances: ").nth(1).unwrap();
    let instances: usize =
        instances.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap();
    assert!(instances <= 16, "{instances} instances are kept");
    held.append(Message::user("still works")).await.unwrap();
    assert_eq!(texts(&world.manager.memory("m", "0").unwrap()).await, ["x", "still works"]);
}

async fn long_keys_work(on: On) {
    let world = on.world(with(MemoryResource::new("m", 1_000))).await;
    for rendered in ["é".repeat(3_000), format!("{}/", "é".repeat(3_000))] {
        let memory = world.manager.memory("m", &rendered).unwrap();
        let batch = (0..90).map(|number| Message::user(format!("message {number}")));
        memory.append_all(batch).await.unwrap();
        memory.perform_flush().await.unwrap().expect("there was much to flush");
        memory.exclusive(|_| async {}).await.unwrap();
        assert_eq!(memory.health().await.unwrap().lifetime.appended, 90);
    }
}

#[test]
fn readme_example_matches_the_compiled_one() {
    let readme = include_str!("../../../README.md");
    let example = include_str!("../../examples/first.rs");
    let shown = readme.split("```rust\n").nth(1).unwrap().split("```").next().unwrap();
    let lines = |text: &str| text.lines().map(|l| l.trim().to_owned()).collect::<Vec<_>>();
    let example = lines(example);
    for line in lines(shown) {
        assert!(line.is_empty() || example.contains(&line), "not in examples/first.rs: {line}");
    }
}
