//! Project documents.

use memory_config::{ConfigErrorKind, ConfigErrors, Mode, ProjectConfig};
use serde_json::{Value, json};

const YAML: &str = r#"
name: harbor
tools: [{ id: tide-table, anything: 1 }]
memories:
  - { resource: memory, id: berth-log, description: Talk about one berth, type: token_based, max_tokens: 6000, persistence: { type: redis, ttl: 36h } }
  - { resource: memory, id: pilot-habits, description: How pilots like it, type: token_based, max_tokens: 1500 }
agents:
  - { id: radio, memory: berth-log, memory_key: "berth-{{ .workflow.input.ship }}" }
  - { id: planner, memory: true, memories: [berth-log, pilot-habits], memory_key: "{{ .workflow.input.ship }}" }
  - id: harbor-master
    config: { provider: openai, model: gpt-4o }
    memories:
      - { id: berth-log, mode: read-only, key: "berth-{{ .workflow.input.ship }}" }
      - { id: pilot-habits, key: "pilot-{{ .user.id }}" }
  - { id: translator }
"#;

const TOML: &str = r#"
name = "harbor"
tools = [{ id = "tide-table", anything = 1 }]
[[memories]]
resource = "memory"
id = "berth-log"
description = "Talk about one berth"
type = "token_based"
max_tokens = 6000
persistence = { type = "redis", ttl = "36h" }
[[memories]]
resource = "memory"
id = "pilot-habits"
description = "How pilots like it"
type = "token_based"
max_tokens = 1500
[[agents]]
id = "radio"
memory = "berth-log"
memory_key = "berth-{{ .workflow.input.ship }}"
[[agents]]
id = "planner"
memory = true
memories = ["berth-log", "pilot-habits"]
memory_key = "{{ .workflow.input.ship }}"
[[agents]]
id = "harbor-master"
config = { provider = "openai", model = "gpt-4o" }
[[agents.memories]]
id = "berth-log"
mode = "read-only"
key = "berth-{{ .workflow.input.ship }}"
[[agents.memories]]
id = "pilot-habits"
key = "pilot-{{ .user.id }}"
[[agents]]
id = "translator"
"#;

#[test]
fn formats_give_the_same_project() {
    let config = ProjectConfig::from_yaml(YAML).unwrap();
    assert_eq!(ProjectConfig::from_toml(TOML), Ok(config.clone()));
    let value: Value = serde_json::to_value(&config.extra).unwrap();
    assert_eq!(value, json!({"name": "harbor", "tools": [{"id": "tide-table", "anything": 1}]}));
    assert_eq!(config.notes, []);
    let ids: Vec<_> = config.memories.iter().map(|memory| &*memory.id).collect();
    assert_eq!(ids, ["berth-log", "pilot-habits"]);
    let master = config.agent("harbor-master").unwrap();
    assert_eq!(master.extra["config"]["model"], "gpt-4o");
    assert_eq!(
        (&*master.memories[1].key, master.memories[0].mode),
        ("pilot-{{ .user.id }}", Mode::ReadOnly)
    );
    assert_eq!(config.agent("planner").unwrap().memories.len(), 2);
    assert_eq!(config.agent("translator").unwrap().memories, []);
    assert_eq!(config.agent("pilot"), None);
}

#[test]
fn agents_models_give_the_context_of_a_ratio() {
    let config = ProjectConfig::from_value(json!({
        "memories": [
            {"id": "a", "description": "A", "max_context_ratio": 0.5, "key": "k"},
            {"id": "b", "description": "B", "max_context_ratio": 0.5, "key": "k"},
        ],
        "agents": [
            {"id": "one", "memory": "a", "config": {"model": "gpt-4o"}},
            {"id": "two", "memories": [{"id": "a"}], "config": {"model": "gpt-4"}},
            {"id": "three", "memory": true, "memories": ["b"], "config": {"model": "gpt-4o"}},
        ],
    }));
    let sizes: Vec<_> = config.unwrap().memories.iter().map(|memory| memory.context_size).collect();
    assert_eq!(sizes, [Some(8_192), Some(128_000)]);
}

#[test]
fn all_problems_are_reported_with_their_places() {
    let errors = ProjectConfig::from_value(json!({
        "memories": [
            {"id": "log", "description": "A", "max_tokens": 9, "key": "k"},
            {"id": "Log", "description": "A", "max_tokens": 9},
            {"id": "bad", "description": "A", "max_tokens": "9", "lock": {"ttl": "1ms"}},
            "text",
            {"description": "A", "max_tokens": 9, "limit": 3},
        ],
        "agents": [
            {"id": "a", "memory": "bad", "memory_key": "k"},
            {"id": "a", "memory": "none", "memory_key": "k"},
            {"memory": "log"},
            7,
        ],
    }));
    let errors = errors.unwrap_err();
    let expected = [
        (
            ConfigErrorKind::Duplicate,
            "memories[1].id: `Log` is there already (memories[0].id); ids differ in more than case",
        ),
        (ConfigErrorKind::Field, "memories[2].max_tokens: \"9\" is text and not a number"),
        (ConfigErrorKind::Field, "memories[2].lock.ttl: 1ms is too short"),
        (ConfigErrorKind::Field, "memories[3]: is a text; write a mapping"),
        (ConfigErrorKind::Field, "memories[4].limit: unknown field `limit`"),
        (ConfigErrorKind::Field, "memories[4]: missing field `id`; name the resource"),
        (
            ConfigErrorKind::Duplicate,
            "agents[1].id: `a` is there already (agents[0].id); each agent",
        ),
        (
            ConfigErrorKind::UnknownResource,
            "agents[1].memory: no memory has the id `none` (there are: Log, bad, log)",
        ),
        (ConfigErrorKind::Field, "agents[2].id: is missing; name the agent"),
        (ConfigErrorKind::Field, "agents[3]: is a number; write a mapping"),
    ];
    let found: Vec<_> =
        errors.errors().iter().map(|error| (error.kind, error.to_string())).collect();
    for (found, expected) in found.iter().zip(expected) {
        assert!(
            found.0 == expected.0 && found.1.starts_with(expected.1),
            "{found:?}, not {expected:?}"
        );
    }
    assert_eq!(found.len(), expected.len(), "{errors}");
    assert_eq!(errors.to_string().lines().count(), expected.len());
}

#[test]
fn at_most_fifty_problems_are_listed() {
    let agents: Vec<_> = (0..60).map(|number| json!({"id": number})).collect();
    let errors = ProjectConfig::from_value(json!({"agents": agents})).unwrap_err();
    assert_eq!((errors.errors().len(), errors.omitted()), (ConfigErrors::MOST, 10));
    assert!(errors.to_string().ends_with("\n10 more problems"), "{errors}");
}

#[test]
fn wrong_documents_are_refused() {
    for (text, kind, expected) in [
        ("memories: {id: a}", ConfigErrorKind::Field, "memories: is a mapping; write a list"),
        ("agents: radio", ConfigErrorKind::Field, "agents: is a text; write a list"),
        ("[1]", ConfigErrorKind::Field, "is a list; write a mapping with `memories` and `agents`"),
        ("memories: [\n", ConfigErrorKind::Syntax, "YAML: unclosed bracket"),
    ] {
        let errors = ProjectConfig::from_yaml(text).unwrap_err();
        let error = &errors.errors()[0];
        assert!(error.kind == kind && error.to_string().starts_with(expected), "{text}: {error}");
    }
    let long = format!("name: {}", "a".repeat(1 << 20));
    let errors = ProjectConfig::from_yaml(&long).unwrap_err();
    assert!(errors.to_string().contains("over the limit of 1048576"), "{errors}");
    assert_eq!(ProjectConfig::from_yaml(""), Ok(ProjectConfig::default()));
}
