//! Which memories an agent uses, by the types of two fields: `memories` first, then `memory`.

use std::collections::BTreeMap;

use memory_core::sibling::nearest;
use serde_json::{Map, Value};

use crate::agent::{AgentConfig, MemoryReference, Mode};
use crate::error::ConfigErrorKind;
use crate::note::NoteKind;
use crate::report::{Report, join, shown_id, type_of};

/// The ids of the memories of the project, each with the template of its keys.
pub(crate) type Known = BTreeMap<String, Option<String>>;

/// A reference as it was written.
struct Written {
    id: String,
    mode: Mode,
    key: Option<String>,
    /// The path of the id within the agent.
    path: String,
    /// The field that gives the key.
    key_field: &'static str,
}

/// Reads the agent at a path. `None` if something was refused.
pub(crate) fn read_agent(
    value: Value,
    at: &str,
    known: &Known,
    report: &mut Report,
) -> Option<AgentConfig> {
    let Value::Object(mut fields) = value else {
        let problem = format!("is {}; write a mapping with at least `id`", type_of(&value));
        report.refuse(ConfigErrorKind::Field, at, problem);
        return None;
    };
    let before = report.problems();
    let mut reader = AgentReader { at, known, report };
    let id = reader.id(fields.remove("id"));
    let memories = fields.remove("memories").unwrap_or_default();
    let memory = fields.remove("memory").unwrap_or_default();
    let key = fields.remove("memory_key").unwrap_or_default();
    let key = reader.text(key, "memory_key");
    let written = reader.level(memories, memory, key);
    let memories = reader.resolve(written);
    (reader.report.problems() == before).then_some(AgentConfig { id, memories, extra: fields })
}

struct AgentReader<'r> {
    at: &'r str,
    known: &'r Known,
    report: &'r mut Report,
}

impl AgentReader<'_> {
    fn refuse(&mut self, kind: ConfigErrorKind, path: &str, problem: impl Into<String>) {
        self.report.refuse(kind, join(self.at, path), problem);
    }

    fn refuse_level(&mut self, path: &str, problem: impl Into<String>) -> Vec<Written> {
        self.refuse(ConfigErrorKind::Level, path, problem);
        Vec::new()
    }

    fn note(&mut self, kind: NoteKind, path: &str, text: &str) {
        self.report.note(kind, join(self.at, path), text);
    }

    fn id(&mut self, id: Option<Value>) -> String {
        match id {
            Some(Value::String(id)) if !id.trim().is_empty() => return id,
            None | Some(Value::Null) => {
                self.refuse(ConfigErrorKind::Field, "id", "is missing; name the agent");
            }
            Some(Value::String(_)) => {
                self.refuse(ConfigErrorKind::Field, "id", "is empty; name the agent");
            }
            Some(other) => {
                let problem =
                    format!("is {}; write the name of the agent as text", type_of(&other));
                self.refuse(ConfigErrorKind::Field, "id", problem);
            }
        }
        String::new()
    }

    /// A template of keys; one without text counts as absent.
    fn text(&mut self, value: Value, path: &str) -> Option<String> {
        match value {
            Value::Null => None,
            Value::String(text) => (!text.trim().is_empty()).then_some(text),
            other => {
                let problem = format!(
                    "is {}; write a template as text, such as \"{{{{ session.id }}}}\"",
                    type_of(&other)
                );
                self.refuse(ConfigErrorKind::Field, path, problem);
                // So that the key is not reported as missing too.
                Some(String::from("-"))
            }
        }
    }

    fn level(&mut self, memories: Value, memory: Value, key: Option<String>) -> Vec<Written> {
        match (memories, memory) {
            (Value::Null, memory) => self.read_memory(memory, key),
            (Value::Array(items), Value::Bool(true)) if items.is_empty() => self.refuse_level(
                "memories",
                "is empty beside `memory: true`; list the ids of the memories",
            ),
            (Value::Array(items), memory) if items.is_empty() => {
                if !matches!(memory, Value::Null | Value::Bool(false)) {
                    let text = "`memories` is empty, so the agent has no memory";
                    self.note(NoteKind::NoEffect, "memory", text);
                }
                self.without_memory(key.as_deref())
            }
            (Value::Array(items), memory) => self.read_list(items, memory, key.as_deref()),
            (other, _) => {
                let found = type_of(&other);
                self.refuse_level("memories", format!("is {found}; write a list of ids, or of mappings with `id`, `mode` and `key`"))
            }
        }
    }

    fn without_memory(&mut self, key: Option<&str>) -> Vec<Written> {
        if key.is_some() {
            self.note(NoteKind::NoEffect, "memory_key", "the agent has no memory");
        }
        Vec::new()
    }

    /// Without `memories`.
    fn read_memory(&mut self, memory: Value, key: Option<String>) -> Vec<Written> {
        match memory {
            Value::Null | Value::Bool(false) => self.without_memory(key.as_deref()),
            Value::Bool(true) => self.refuse_level(
                "memory",
                "is `true` without `memories`; list the ids of the memories there, or write one id",
            ),
            Value::String(id) if !id.trim().is_empty() => vec![Written {
                id,
                mode: Mode::ReadWrite,
                key,
                path: "memory".to_owned(),
                key_field: "memory_key",
            }],
            Value::Object(reference) => {
                self.note(NoteKind::Mapped, "memory", "read as `memories` with one reference");
                self.unused_key(key.as_deref());
                self.reference(reference, "memory").into_iter().collect()
            }
            Value::Array(items) if !items.is_empty() => {
                self.note(NoteKind::Mapped, "memory", "read as `memories`");
                self.unused_key(key.as_deref());
                let mut written = Vec::new();
                for (index, item) in items.into_iter().enumerate() {
                    let path = format!("memory[{index}]");
                    match item {
                        Value::Object(reference) => {
                            written.extend(self.reference(reference, &path));
                        }
                        Value::String(id) => written.extend(self.named(id, None, path, "key")),
                        other => {
                            let found = type_of(&other);
                            self.refuse_level(&path, format!("is {found}; write an id, or a mapping with `id`, `mode` and `key`"));
                        }
                    }
                }
                written
            }
            Value::String(_) => {
                self.refuse_level("memory", "is empty; name the id of a memory, or remove it")
            }
            other => {
                let found = match other {
                    Value::Array(_) => "an empty list",
                    ref other => type_of(other),
                };
                self.refuse_level(
                    "memory",
                    format!("is {found}; name the id of a memory, or remove it"),
                )
            }
        }
    }

    /// With items in `memories`.
    fn read_list(&mut self, items: Vec<Value>, memory: Value, key: Option<&str>) -> Vec<Written> {
        let is_same =
            |a: &Value, b: &Value| a.is_string() == b.is_string() && a.is_object() == b.is_object();
        let Some(first) = items.first() else { return Vec::new() };
        if !first.is_string() && !first.is_object() {
            let found = type_of(first);
            return self.refuse_level(
                "memories[0]",
                format!("is {found}; write an id, or a mapping with `id`, `mode` and `key`"),
            );
        }
        if let Some((index, other)) =
            items.iter().enumerate().find(|(_, item)| !is_same(first, item))
        {
            let problem = format!(
                "is {}, but memories[0] is {}; write either ids or mappings",
                type_of(other),
                type_of(first)
            );
            return self.refuse_level(&format!("memories[{index}]"), problem);
        }
        let is_texts = first.is_string();
        match memory {
            Value::Bool(true) if is_texts => {
                let ids = items.into_iter().filter_map(|item| match item {
                    Value::String(id) => Some(id),
                    _ => None,
                });
                let mut written = Vec::new();
                for (index, id) in ids.enumerate() {
                    let path = format!("memories[{index}]");
                    written.extend(self.named(id, key.map(str::to_owned), path, "memory_key"));
                }
                written
            }
            Value::Null | Value::Bool(false) | Value::String(_) if is_texts => self.refuse_level(
                "memories",
                "is a list of ids, which needs `memory: true`; add that, or write mappings with `id` and `key`",
            ),
            Value::Null | Value::Bool(true) => {
                self.unused_key(key);
                let mut written = Vec::new();
                for (index, item) in items.into_iter().enumerate() {
                    if let Value::Object(reference) = item {
                        written.extend(self.reference(reference, &format!("memories[{index}]")));
                    }
                }
                written
            }
            Value::Bool(false) | Value::String(_) => self.refuse_level(
                "memory",
                format!("is {} beside `memories`, which contradicts it; remove one of the two", type_of(&memory)),
            ),
            other => self.refuse_level(
                "memory",
                format!("is {} beside `memories`; remove it, or write `true`", type_of(&other)),
            ),
        }
    }

    fn unused_key(&mut self, key: Option<&str>) {
        if key.is_some() {
            self.note(NoteKind::NoEffect, "memory_key", "each reference has its own `key`");
        }
    }

    fn named(
        &mut self,
        id: String,
        key: Option<String>,
        path: String,
        key_field: &'static str,
    ) -> Option<Written> {
        if id.trim().is_empty() {
            self.refuse_level(&path, "is empty; name the id of a memory, or remove it");
            return None;
        }
        Some(Written { id, mode: Mode::ReadWrite, key, path, key_field })
    }

    fn reference(&mut self, mut fields: Map<String, Value>, at: &str) -> Option<Written> {
        let field = |name: &str| join(at, name);
        let id = fields.remove("id").unwrap_or_default();
        let mode = fields.remove("mode").unwrap_or_default();
        let key = fields.remove("key").unwrap_or_default();
        for (name, _) in fields {
            let hint = nearest(&name, ["id", "mode", "key"]);
            let hint = hint.map_or_else(
                || "there are `id`, `mode` and `key`".to_owned(),
                |meant| format!("did you mean `{meant}`?"),
            );
            let name = shown_id(&name);
            self.refuse(
                ConfigErrorKind::Field,
                &field(&name),
                format!("unknown field `{name}`; {hint}"),
            );
        }
        let mode = self.mode(&mode, &field("mode"));
        let key = self.text(key, &field("key"));
        match id {
            Value::String(id) => {
                let written = self.named(id, key, field("id"), "key")?;
                Some(Written { mode, ..written })
            }
            Value::Null => {
                self.refuse(
                    ConfigErrorKind::Field,
                    &field("id"),
                    "is missing; name the id of a memory",
                );
                None
            }
            other => {
                let problem = format!("is {}; write the id of a memory as text", type_of(&other));
                self.refuse(ConfigErrorKind::Field, &field("id"), problem);
                None
            }
        }
    }

    fn mode(&mut self, mode: &Value, path: &str) -> Mode {
        match mode.as_str() {
            Some("read-write") => return Mode::ReadWrite,
            Some("read-only") => return Mode::ReadOnly,
            Some("append") => {
                let text =
                    "`append` is read as `read-write`: memories are append-only in this mode too";
                self.note(NoteKind::Replaced, path, text);
                return Mode::ReadWrite;
            }
            _ if mode.is_null() => return Mode::ReadWrite,
            _ => {}
        }
        let found = match mode.as_str() {
            Some(text) => format!("`{}`", shown_id(text)),
            None => type_of(mode).to_owned(),
        };
        let problem = format!("is {found}; write read-write or read-only");
        self.refuse(ConfigErrorKind::Field, path, problem);
        Mode::ReadWrite
    }

    /// Looks the references up: each memory exists, has a key, and is there once with it.
    fn resolve(&mut self, written: Vec<Written>) -> Vec<MemoryReference> {
        let mut references: Vec<MemoryReference> = Vec::new();
        for Written { id, mode, key, path, key_field } in written {
            let Some(default_key) = self.known.get(&id) else {
                let problem = unknown(&id, self.known);
                self.refuse(ConfigErrorKind::UnknownResource, &path, problem);
                continue;
            };
            let Some(key) = key.or_else(|| default_key.clone()) else {
                let id = shown_id(&id);
                let problem =
                    format!("has no key; add `{key_field}`, or a `key` to the memory `{id}`");
                self.refuse(ConfigErrorKind::Level, &path, problem);
                continue;
            };
            // Only a parser of templates can judge the rest.
            if key.matches("{{").count() != key.matches("}}").count() {
                let problem = format!(
                    "has a key with a brace that is not closed (`{}`); write variables as {{{{ session.id }}}}",
                    shown_id(&key)
                );
                self.refuse(ConfigErrorKind::Field, &path, problem);
                continue;
            }
            if references.iter().any(|earlier| earlier.id == id && earlier.key == key) {
                let id = shown_id(&id);
                let problem = format!("`{id}` is there twice with the same key; leave one of them");
                self.refuse(ConfigErrorKind::Duplicate, &path, problem);
                continue;
            }
            references.push(MemoryReference { id, mode, key });
        }
        references
    }
}

/// The refusal of an id that no memory has.
fn unknown(id: &str, known: &Known) -> String {
    /// The most ids that an error lists.
    const LISTED: usize = 20;
    let other_case = known.keys().find(|other| other.to_lowercase() == id.to_lowercase());
    let meant =
        other_case.map(String::as_str).or_else(|| nearest(id, known.keys().map(String::as_str)));
    let meant =
        meant.map_or_else(String::new, |meant| format!("; did you mean `{}`?", shown_id(meant)));
    let mut listed: Vec<_> = known.keys().take(LISTED).map(|id| shown_id(id)).collect();
    if let Some(more) = known.len().checked_sub(LISTED).filter(|more| *more > 0) {
        listed.push(format!("and {more} more"));
    }
    let listed = if listed.is_empty() { "none".to_owned() } else { listed.join(", ") };
    format!("no memory has the id `{}`{meant} (there are: {listed})", shown_id(id))
}
