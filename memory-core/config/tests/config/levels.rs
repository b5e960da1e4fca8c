//! The memories of agents: three levels and none.

use memory_config::{ConfigErrorKind, Mode, NoteKind, ProjectConfig};
use serde_json::{Value, json};

/// A project with two memories, of which the second has a key, and one agent.
fn project(agent: &Value) -> Value {
    let mut agent = agent.clone();
    agent["id"] = json!("a");
    json!({
        "memories": [
            {"id": "log", "description": "A log", "max_tokens": 6_000},
            {"id": "habits", "description": "Habits", "max_tokens": 1_500, "key": "h-{{ .user.id }}"},
        ],
        "agents": [agent],
    })
}

type Reference = (&'static str, Mode, &'static str);
/// The path and kind of a note.
type Noted = (&'static str, NoteKind);

#[test]
fn types_of_two_fields_decide_the_level() {
    use Mode::{ReadOnly, ReadWrite};
    use NoteKind::{Mapped, NoEffect, Replaced};
    const HABITS: Reference = ("habits", ReadWrite, "h-{{ .user.id }}");
    let rows: &[(Value, &[Reference], &[Noted])] = &[
        (json!({}), &[], &[]),
        (json!({"memory": null, "memories": null}), &[], &[]),
        (json!({"memory": false}), &[], &[]),
        (json!({"memory_key": "k"}), &[], &[("memory_key", NoEffect)]),
        (json!({"memory": "log", "memory_key": "k"}), &[("log", ReadWrite, "k")], &[]),
        (json!({"memory": "habits"}), &[HABITS], &[]),
        (json!({"memory": "habits", "memory_key": " "}), &[HABITS], &[]),
        (json!({"memory": "habits", "memory_key": "k"}), &[("habits", ReadWrite, "k")], &[]),
        (
            json!({"memory": {"id": "log", "key": "k", "mode": "read-only"}}),
            &[("log", ReadOnly, "k")],
            &[("memory", Mapped)],
        ),
        (
            json!({"memory": ["habits", {"id": "log", "key": "k"}], "memory_key": "x"}),
            &[HABITS, ("log", ReadWrite, "k")],
            &[("memory", Mapped), ("memory_key", NoEffect)],
        ),
        (
            json!({"memory": true, "memories": ["log", "habits"], "memory_key": "k"}),
            &[("log", ReadWrite, "k"), ("habits", ReadWrite, "k")],
            &[],
        ),
        (json!({"memory": true, "memories": ["habits"]}), &[HABITS], &[]),
        (
            json!({"memories": [
                {"id": "log", "mode": "read-only", "key": "k"},
                {"id": "habits"},
                {"id": "log", "mode": "read-write", "key": "other"},
            ]}),
            &[("log", ReadOnly, "k"), HABITS, ("log", ReadWrite, "other")],
            &[],
        ),
        (
            json!({"memory": true, "memories": [{"id": "log", "key": "k"}], "memory_key": "x"}),
            &[("log", ReadWrite, "k")],
            &[("memory_key", NoEffect)],
        ),
        (
            json!({"memories": [{"id": "log", "key": "k", "mode": "append"}]}),
            &[("log", ReadWrite, "k")],
            &[("memories[0].mode", Replaced)],
        ),
        (json!({"memories": []}), &[], &[]),
        (
            json!({"memories": [], "memory": false, "memory_key": "k"}),
            &[],
            &[("memory_key", NoEffect)],
        ),
        (json!({"memories": [], "memory": "log"}), &[], &[("memory", NoEffect)]),
    ];
    for (agent, references, notes) in rows {
        let config =
            ProjectConfig::from_value(project(agent)).unwrap_or_else(|e| panic!("{agent}: {e}"));
        let read: Vec<_> = config.agents[0]
            .memories
            .iter()
            .map(|it| (it.id.as_str(), it.mode, it.key.as_str()))
            .collect();
        assert_eq!(read, *references, "{agent}");
        let noted: Vec<_> =
            config.notes.iter().map(|note| (note.path.as_str(), note.kind)).collect();
        let notes: Vec<_> =
            notes.iter().map(|(path, kind)| (format!("agents[0].{path}"), *kind)).collect();
        assert_eq!(
            noted,
            notes.iter().map(|(path, kind)| (path.as_str(), *kind)).collect::<Vec<_>>(),
            "{agent}"
        );
    }
}

#[test]
fn contradictions_of_an_agent_are_refused() {
    use ConfigErrorKind::{Duplicate, Field, Level, UnknownResource};
    for (agent, kind, expected) in [
        (json!({"memory": true}), Level, "memory: is `true` without `memories`; list the ids"),
        (json!({"memory": ""}), Level, "memory: is empty; name the id"),
        (json!({"memory": 7}), Level, "memory: is a number; name the id"),
        (json!({"memory": []}), Level, "memory: is an empty list; name the id"),
        (json!({"memory": ["habits", 7]}), Level, "memory[1]: is a number; write an id, or"),
        (
            json!({"memories": ["log"], "memory_key": "k"}),
            Level,
            "memories: is a list of ids, which needs `memory: true`",
        ),
        (
            json!({"memories": ["log"], "memory": "log", "memory_key": "k"}),
            Level,
            "memories: is a list of ids, which needs `memory: true`",
        ),
        (json!({"memories": ["log"], "memory": 1}), Level, "memory: is a number beside `memories`"),
        (
            json!({"memories": [{"id": "log", "key": "k"}], "memory": false}),
            Level,
            "memory: is `false` beside `memories`, which contradicts it",
        ),
        (
            json!({"memories": [{"id": "log", "key": "k"}], "memory": "log"}),
            Level,
            "memory: is a text beside `memories`, which contradicts it",
        ),
        (
            json!({"memory": true, "memories": ["log", "habits", {"id": "log"}]}),
            Level,
            "memories[2]: is a mapping, but memories[0] is a text; write either ids or mappings",
        ),
        (
            json!({"memories": [{"id": "habits"}, 5]}),
            Level,
            "memories[1]: is a number, but memories[0] is",
        ),
        (json!({"memories": [1]}), Level, "memories[0]: is a number; write an id"),
        (
            json!({"memories": [], "memory": true}),
            Level,
            "memories: is empty beside `memory: true`",
        ),
        (json!({"memories": "log"}), Level, "memories: is a text; write a list"),
        (json!({"memories": {"id": "log"}}), Level, "memories: is a mapping; write a list"),
        (
            json!({"memory": true, "memories": ["habits", " "]}),
            Level,
            "memories[1]: is empty; name the",
        ),
        // References.
        (json!({"memories": [{"key": "k"}]}), Field, "memories[0].id: is missing; name the id"),
        (json!({"memories": [{"id": 4, "key": "k"}]}), Field, "memories[0].id: is a number; write"),
        (
            json!({"memories": [{"id": "habits", "mode": "write"}]}),
            Field,
            "memories[0].mode: is `write`; write read-write or read-only",
        ),
        (
            json!({"memories": [{"id": "habits", "mode": true}]}),
            Field,
            "memories[0].mode: is `true`; write read-write or read-only",
        ),
        (
            json!({"memories": [{"id": "habits", "kye": "k"}]}),
            Field,
            "memories[0].kye: unknown field `kye`; did you mean `key`?",
        ),
        (
            json!({"memories": [{"id": "log", "key": 5}]}),
            Field,
            "memories[0].key: is a number; write a template",
        ),
        (json!({"memory": "habits", "memory_key": ["k"]}), Field, "memory_key: is a list; write a"),
        (
            json!({"memories": [{"id": "log", "key": "{{ .a"}]}),
            Field,
            "memories[0].id: has a key with a brace that is not closed (`{{ .a`)",
        ),
        // Keys.
        (
            json!({"memory": "log"}),
            Level,
            "memory: has no key; add `memory_key`, or a `key` to the memory `log`",
        ),
        (
            json!({"memory": true, "memories": ["habits", "log"], "memory_key": "\t"}),
            Level,
            "memories[1]: has no key; add `memory_key`, or a `key` to the memory `log`",
        ),
        (
            json!({"memories": [{"id": "log"}]}),
            Level,
            "memories[0].id: has no key; add `key`, or a `key` to the memory `log`",
        ),
        // Existence, at every level.
        (
            json!({"memory": "lgo", "memory_key": "k"}),
            UnknownResource,
            "memory: no memory has the id `lgo`; did you mean `log`? (there are: habits, log)",
        ),
        (
            json!({"memory": "Habits"}),
            UnknownResource,
            "memory: no memory has the id `Habits`; did you mean `habits`?",
        ),
        (
            json!({"memory": true, "memories": ["habits", "diary"], "memory_key": "k"}),
            UnknownResource,
            "memories[1]: no memory has the id `diary` (there are: habits, log)",
        ),
        (
            json!({"memories": [{"id": "diary", "key": "k"}]}),
            UnknownResource,
            "memories[0].id: no memory has the id `diary`",
        ),
        // Duplicates.
        (
            json!({"memory": true, "memories": ["log", "log"], "memory_key": "k"}),
            Duplicate,
            "memories[1]: `log` is there twice with the same key",
        ),
        (
            json!({"memories": [{"id": "habits"}, {"id": "habits", "key": "h-{{ .user.id }}", "mode": "read-only"}]}),
            Duplicate,
            "memories[1].id: `habits` is there twice with the same key",
        ),
    ] {
        let errors = ProjectConfig::from_value(project(&agent)).unwrap_err();
        let [error] = errors.errors() else { panic!("{agent}: {errors}") };
        assert_eq!(error.kind, kind, "{agent}: {error}");
        let expected = format!("agents[0].{expected}");
        assert!(error.to_string().starts_with(&expected), "{agent}: {error}");
    }
}
