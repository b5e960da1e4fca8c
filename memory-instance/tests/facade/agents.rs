//! The memories of agents, from a project document.

use memory_instance::config::ProjectConfig;
use memory_instance::{
    KeyContext, ManagerBuilder, MemoryError, MemoryManager, MemoryResource, Message, Mode,
    OnFailure, WindowOptions,
};
use memory_lock::{Clock, ClockExt as _};

use crate::logs::Logs;
use crate::support::On;

const PROJECT: &str = r#"
memories:
  - { resource: memory, id: berth-log, description: Talk about one berth, max_tokens: 6000, key: "{{ .agent.id }}/{{ .timestamp }}" }
  - { resource: memory, id: pilot-habits, description: How pilots like it, max_tokens: 1500 }
agents:
  - { id: radio, memory: berth-log, memory_key: "berth-{{ .workflow.input.ship }}" }
  - { id: clerk, memory: berth-log }
  - id: harbor-master
    memories:
      - { id: berth-log, mode: read-only, key: "berth-{{ .workflow.input.ship }}" }
      - { id: pilot-habits, key: "pilot-{{ .user.id }}" }
      - { id: berth-log, key: "{{ .project.id }}-notes" }
  - { id: translator }
"#;

fn builder(project: &str) -> ManagerBuilder {
    let config = ProjectConfig::from_yaml(project).unwrap();
    MemoryManager::builder().with_clock(Clock::tokio()).with_project("port").with_config(config)
}

async fn manager(project: &str) -> MemoryManager {
    builder(project).open("memory://").await.unwrap()
}

fn context() -> KeyContext {
    KeyContext::new().with("workflow.input.ship", "aurora").with("user.id", "u/7")
}

on_every_backend!(agents_share_memories_of_a_project);

async fn agents_share_memories_of_a_project(on: On) {
    let world = on.world(builder(PROJECT)).await;
    let resolve = |agent: &str| world.manager.agent(agent).unwrap().resolve(&context()).unwrap();
    let (radio, master) = (resolve("radio"), resolve("harbor-master"));
    let keys: Vec<_> = master.memories().iter().map(|it| (it.key().as_str(), it.mode())).collect();
    assert_eq!(
        keys,
        [
            ("port:berth-log:berth-aurora", Mode::ReadOnly),
            ("port:pilot-habits:pilot-u%2F7", Mode::ReadWrite),
            ("port:berth-log:port-notes", Mode::ReadWrite),
        ]
    );
    assert_eq!(resolve("translator").memories().len(), 0);

    let options = WindowOptions::new(2_000);
    let turn = radio.begin_turn(&options, OnFailure::Fail).await.unwrap();
    let done = turn.append(["Aurora asks for a berth", "Take berth 4"].map(Message::user)).await;
    assert_eq!(done.unwrap().appended.len(), 1);
    let turn = master.begin_turn(&options, OnFailure::Fail).await.unwrap();
    let seen: Vec<_> = turn.windows.iter().map(|it| it.window.messages.len()).collect();
    assert_eq!(seen, [2, 0, 0]);
    let outcome = turn.append([Message::user("Noted")]).await.unwrap();
    assert_eq!(outcome.appended.len(), 2);
    for (memory, expected) in master.memories().iter().zip([2, 1, 1]) {
        assert_eq!(memory.len().await.unwrap(), expected, "{}", memory.key());
    }
    let refused = master.memories()[0].append(Message::user("Noted")).await.unwrap_err();
    let text = "append to port:berth-log:berth-aurora: this handle is read-only; open the memory read-write";
    assert_eq!(refused.to_string(), text);
}

#[tokio::test(start_paused = true)]
async fn context_gets_agent_project_and_time() {
    let manager = manager(PROJECT).await;
    let key = |agent: &str, context: &KeyContext| {
        let memories = manager.agent(agent).unwrap().resolve(context).unwrap();
        memories.memories()[0].key().parts().unwrap().2
    };
    let rendered = key("clerk", &KeyContext::new());
    let time = rendered.strip_prefix("clerk/").unwrap();
    assert!(time.parse::<jiff::Timestamp>().is_ok() && time.ends_with('Z'), "{time}");
    let own = KeyContext::new().with("agent.id", "me").with("timestamp", "now");
    assert_eq!(key("clerk", &own), "me/now");
    // A caller's variable of another form is not replaced.
    let other = KeyContext::new().with("agent", "text");
    let refused = manager.agent("clerk").unwrap().resolve(&other).unwrap_err();
    assert!(matches!(refused, MemoryError::Template(_)), "{refused}");

    let own = manager.memory_from("berth-log", &KeyContext::new().with("agent.id", "me")).unwrap();
    assert!(own.key().as_str().starts_with("port:berth-log:me"), "{:?}", own.key());
    let refused = manager.memory_from("pilot-habits", &context()).unwrap_err();
    assert!(refused.to_string().starts_with("resource `pilot-habits` has no `key`"), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn windows_of_a_turn_share_the_budget() {
    let manager = manager(
        r#"
memories:
  - { id: a, description: A, max_tokens: 100000 }
  - { id: b, description: B, max_tokens: 100000 }
agents:
  - { id: one, memories: [{ id: a, key: "{{ .x }}" }, { id: a, mode: read-only, key: k }, { id: b, key: k }] }
"#,
    )
    .await;
    let context = KeyContext::new().with("x", "k");
    let memories = manager.agent("one").unwrap().resolve(&context).unwrap();
    assert_eq!(memories.memories().len(), 3);
    let long = "word ".repeat(30);
    for id in ["a", "b"] {
        let batch: Vec<_> = (0..60).map(|_| Message::user(&*long)).collect();
        memories.memory(id).unwrap().append_all(batch).await.unwrap();
    }
    let options = WindowOptions::new(2_000).with_system("S").with_answer(500).with_tools(300);
    let turn = memories.begin_turn(&options, OnFailure::Fail).await.unwrap();
    let tokens: Vec<_> = turn.windows.iter().map(|it| it.window.tokens).collect();
    // The same memory twice has one window.
    assert_eq!(tokens.len(), 2);
    assert!(tokens[0] <= 600 && tokens.iter().sum::<u64>() <= 1_200, "{tokens:?}");
    // The second memory gets the rest.
    assert!(tokens.iter().sum::<u64>() > 900, "{tokens:?}");
    let systems =
        turn.windows.iter().filter(|it| it.window.request().to_string().contains("\"S\""));
    assert_eq!(systems.count(), 1);

    let prepared = turn.prepare([Message::user("once")]).unwrap();
    for _ in 0..2 {
        assert_eq!(prepared.send().await.unwrap().appended.len(), 2);
    }
    for id in ["a", "b"] {
        assert_eq!(memories.memory(id).unwrap().len().await.unwrap(), 61);
    }
}

#[tokio::test(start_paused = true)]
async fn failing_memory_ends_or_skips_a_turn() {
    let manager = manager(
        r#"
memories: [{ id: small, description: S, max_tokens: 40 }, { id: large, description: L, max_tokens: 9000 }]
agents: [{ id: a, memory: true, memories: [small, large], memory_key: k }]
"#,
    )
    .await;
    let memories = manager.agent("a").unwrap().resolve(&KeyContext::new()).unwrap();
    memories.memory("small").unwrap().append(Message::user("word ".repeat(25))).await.unwrap();
    // Half of the budget cannot hold the only message of the first memory.
    let options = WindowOptions::new(30);
    let failed = memories.begin_turn(&options, OnFailure::Fail).await.unwrap_err();
    assert!(matches!(failed, MemoryError::Context { .. }), "{failed}");
    let (logs, _guard) = Logs::capture();
    let turn = memories.begin_turn(&options, OnFailure::Continue).await.unwrap();
    assert_eq!((turn.windows.len(), turn.failures.len()), (1, 1));
    assert_eq!(turn.windows[0].memory.resource().id, "large");
    let outcome = turn.append([Message::user("word ".repeat(90))]).await.unwrap();
    assert_eq!((outcome.appended.len(), outcome.failures.len()), (1, 1));
    assert!(matches!(outcome.failures[0], MemoryError::TooLarge { .. }), "{:?}", outcome.failures);
    assert_eq!(logs.containing("the turn continues without a memory").len(), 2);

    let turn = memories.begin_turn(&WindowOptions::new(900), OnFailure::Fail).await.unwrap();
    let failed = turn.append([Message::user("word ".repeat(90))]).await.unwrap_err();
    assert!(matches!(failed, MemoryError::TooLarge { .. }), "{failed}");
    let lengths = [memories.memories()[0].len().await, memories.memories()[1].len().await];
    assert_eq!(lengths.map(Result::unwrap), [1, 1], "nothing is sent if one cannot have it");
}

#[tokio::test(start_paused = true)]
async fn wrong_projects_are_refused_at_build() {
    let open = async |builder: ManagerBuilder| match builder.open("memory://").await {
        Ok(_) => String::new(),
        Err(error) => error.to_string(),
    };
    let twice = builder(PROJECT).with_resource(MemoryResource::new("Berth-Log", 10));
    let text = "two resources have the ids `berth-log` and `Berth-Log`; ";
    assert!(open(twice).await.starts_with(text));
    let agent = |text: &str| {
        let mut config = ProjectConfig::from_yaml(PROJECT).unwrap();
        config.memories.clear();
        config.agents.retain(|agent| agent.id == text);
        config
    };
    let text = "two agents have the id `radio`; rename or remove one of the two";
    assert_eq!(open(builder(PROJECT).with_config(agent("radio"))).await, text);
    let text = "no resource has the id `berth-log`; known resources: none";
    let builder_of = |config| MemoryManager::builder().with_config(config);
    assert_eq!(open(builder_of(agent("radio"))).await, text);
    let mut config = ProjectConfig::from_yaml(PROJECT).unwrap();
    config.agents[0].memories[0].key = "{{ a | frobnicate }}".into();
    assert!(open(builder_of(config)).await.contains("Unknown filter `frobnicate`"));
    let unknown = manager(PROJECT).await.agent("pilot").unwrap_err().to_string();
    let known = "clerk, harbor-master, radio, translator";
    assert_eq!(unknown, format!("no agent has the id `pilot`; known agents: {known}"));
}

#[tokio::test(start_paused = true)]
async fn replaced_and_foreign_settings_are_logged() {
    let (logs, _guard) = Logs::capture();
    let project = |store: &str| {
        format!(
            "memories: [{{ id: m, description: M, max_tokens: 900, persistence: {{ type: {store} }}, flushing_strategy: {{ type: lru }} }}]"
        )
    };
    let _fits = manager(&project("in_memory")).await;
    assert_eq!(logs.containing("persistence.type").len(), 0);
    assert_eq!(logs.containing("memories[0].flushing_strategy.type: replaced").len(), 1);
    assert_eq!(logs.containing("min_messages").len(), 0, "a mapped setting is no warning");
    let _other = manager(&project("redis")).await;
    let text = "persistence.type: is `redis`, but the store is memory://";
    assert_eq!(logs.containing(text).len(), 1);
}
