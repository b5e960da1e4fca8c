//! Resources in the spellings of the original engine.

use memory_config::{ConfigErrorKind, NoteKind, Strictness, read_compat};
use memory_core::MemoryResource;
use serde_json::{Value, json};

/// The paths and kinds of notes.
type Notes = Vec<(&'static str, NoteKind)>;

/// A resource with a description, and these fields.
fn resource(fields: &Value) -> Value {
    let mut value = json!({"id": "m", "description": "A memory"});
    for (name, field) in fields.as_object().unwrap() {
        value[name] = field.clone();
    }
    value
}

#[test]
fn fields_are_read_in_both_spellings() {
    use NoteKind::{Mapped, Missing, NoEffect, Replaced};
    let old = |fields: Value| {
        let mut fields = fields;
        fields["flushing_strategy"]["min_messages"] = json!(11);
        fields
    };
    let shares = |a: f64, b: f64, c: f64| json!({"short_term": a, "long_term": b, "system": c});
    let rows: Vec<(Value, Value, Notes)> = vec![
        (
            json!({"max_tokens": 9, "version": 1.5}),
            old(json!({"max_tokens": 9, "version": "1.5"})),
            vec![("version", Mapped)],
        ),
        (
            json!({"max_tokens": 9, "description": null}),
            json!({"max_tokens": 9, "description": null}),
            vec![("description", Missing)],
        ),
        (
            json!({"type": "message_count_based", "max_messages": 40}),
            old(json!({"max_tokens": 1_000_000_000, "message_limit": 40})),
            vec![("max_messages", Mapped), ("type", Replaced)],
        ),
        (
            json!({"type": "buffer", "message_limit": 40, "max_tokens": 900}),
            old(json!({"max_tokens": 900, "message_limit": 40})),
            vec![("type", Replaced)],
        ),
        (
            json!({"type": "buffer", "message_limit": 40, "token_provider": {"model": "gpt-4"}}),
            old(json!({"max_tokens": 8_192, "message_limit": 40, "model": "gpt-4"})),
            vec![("token_provider.model", Mapped), ("type", Replaced)],
        ),
        (
            json!({"max_tokens": 9, "default_key_template": "{{ .a }}"}),
            old(json!({"max_tokens": 9, "key": "{{ .a }}"})),
            vec![("default_key_template", Mapped)],
        ),
        (
            json!({"max_tokens": 9, "max_context_ratio": 0.5}),
            old(json!({"max_tokens": 9})),
            vec![("max_context_ratio", NoEffect)],
        ),
        (
            json!({"max_context_ratio": 0.5, "token_provider": {"provider": "openai", "model": "gpt-4o"}}),
            old(json!({"max_context_ratio": 0.5, "model": "gpt-4o"})),
            vec![("token_provider.model", Mapped), ("token_provider.provider", NoEffect)],
        ),
        (
            json!({"max_context_ratio": 0.5}),
            old(json!({"max_context_ratio": 0.5, "context_size": 4_096})),
            vec![("max_context_ratio", Replaced)],
        ),
        (
            json!({"message_limit": 40}),
            old(json!({"message_limit": 40, "max_tokens": 4_000})),
            vec![("max_tokens", Replaced)],
        ),
        (
            json!({"max_tokens": 900, "token_allocation": {"short_term": 0.5, "long_term": 0.2, "system": 0.1, "user_defined": {"notes": 0.2}}}),
            old(json!({"max_tokens": 900, "token_allocation": shares(0.5, 0.2, 0.1)})),
            vec![("token_allocation.user_defined", NoEffect)],
        ),
        (
            json!({"max_tokens": 900, "token_allocation": shares(0.5, 0.25, 0.251)}),
            old(
                json!({"max_tokens": 900, "token_allocation": shares(0.5 / 1.001, 0.25 / 1.001, 0.251 / 1.001)}),
            ),
            vec![("token_allocation", Replaced)],
        ),
        (
            json!({"max_tokens": 9_000, "flushing": {"type": "simple_fifo", "threshold": 0.7}}),
            old(
                json!({"max_tokens": 9_000, "flushing_strategy": {"type": "fifo", "summarize_threshold": 0.7}}),
            ),
            vec![
                ("flushing", Mapped),
                ("flushing.type", Mapped),
                ("flushing.threshold", Mapped),
                ("flushing.min_messages", Mapped),
            ],
        ),
        (
            json!({"max_tokens": 9_000, "flushing_strategy": {"type": "lru", "min_messages": 20}}),
            json!({"max_tokens": 9_000, "flushing_strategy": {"type": "fifo", "min_messages": 20}}),
            vec![("flushing_strategy.type", Replaced)],
        ),
        (
            json!({"max_tokens": 9_000, "flushing": {"type": "token_aware_lru", "summarize_oldest_percent": 1}}),
            old(
                json!({"max_tokens": 9_000, "flushing_strategy": {"type": "fifo", "summarize_oldest_percent": 100}}),
            ),
            vec![
                ("flushing", Mapped),
                ("flushing.type", Replaced),
                ("flushing.summarize_oldest_percent", Mapped),
                ("flushing.min_messages", Mapped),
            ],
        ),
        (
            json!({"max_tokens": 9_000, "flushing": {"summary_tokens": 300}}),
            old(json!({"max_tokens": 9_000, "flushing_strategy": {"summary_tokens": 300}})),
            vec![
                ("flushing", Mapped),
                ("flushing.type", Replaced),
                ("flushing.min_messages", Mapped),
            ],
        ),
        (
            json!({"max_tokens": 800, "flushing_strategy": {"type": "hybrid_summary", "summary_tokens": 400, "summarize_oldest_percent": 0.296}}),
            old(
                json!({"max_tokens": 800, "flushing_strategy": {"type": "hybrid_summary", "summary_tokens": 100, "summarize_oldest_percent": 30}}),
            ),
            vec![
                ("flushing_strategy.summarize_oldest_percent", Mapped),
                ("flushing_strategy.summary_tokens", Replaced),
            ],
        ),
        (
            json!({"max_tokens": 900, "persistence": {"type": "redis", "ttl": "0s"}}),
            old(json!({"max_tokens": 900, "persistence": {"type": "redis"}})),
            vec![("persistence.ttl", NoEffect)],
        ),
        (
            json!({"max_tokens": 900, "persistence": {"type": "in_memory", "ttl": 0, "circuit_breaker": {"timeout": "100ms", "max_failures": 3, "reset_timeout": "30s"}}}),
            old(
                json!({"max_tokens": 900, "persistence": {"type": "in_memory"}, "circuit_breaker": {"timeout": "100ms", "failure_threshold": 3, "reset_timeout": "30s"}}),
            ),
            vec![
                ("persistence.circuit_breaker.max_failures", Mapped),
                ("persistence.circuit_breaker", Mapped),
                ("persistence.ttl", NoEffect),
            ],
        ),
        (
            json!({"max_tokens": 900, "persistence": {"ttl": "168h", "circuit_breaker": {"enabled": false, "max_failures": 3}}}),
            old(json!({"max_tokens": 900, "persistence": {"ttl": "7d"}})),
            vec![("persistence.circuit_breaker", Mapped)],
        ),
        (
            json!({"max_tokens": 900, "locking": {"append_ttl": "40s", "clear_ttl": "10s", "flush_ttl": "5m"}}),
            old(json!({"max_tokens": 900, "lock": {"ttl": "40s", "refresh_interval": "20s"}})),
            vec![
                ("locking.append_ttl", Mapped),
                ("locking.clear_ttl", NoEffect),
                ("locking.flush_ttl", NoEffect),
            ],
        ),
        (
            json!({"max_tokens": 900, "privacy_policy": {"redact_patterns": ["a+"], "default_redaction_string": "[X]"}}),
            old(
                json!({"max_tokens": 900, "privacy_policy": {"redact_patterns": ["a+"], "replacement": "[X]"}}),
            ),
            vec![("privacy_policy.default_redaction_string", Mapped)],
        ),
        (
            json!({"max_tokens": 900, "privacy_policy": {"non_persistable_message_types": ["system", "pin"], "default_redaction_string": "[X]"}}),
            old(
                json!({"max_tokens": 900, "privacy_policy": {"non_persistable_message_types": ["system", "pin"], "replacement": "[X]"}}),
            ),
            vec![("privacy_policy.default_redaction_string", Mapped)],
        ),
        (
            json!({"max_tokens": 900, "token_provider": {"provider": "x", "model": "no-such", "api_key": "{{ .env.KEY }}", "api_key_env": "KEY", "endpoint": "e", "fallback": "f", "settings": {}}}),
            old(json!({"max_tokens": 900, "tokenizer": "estimate"})),
            vec![
                ("token_provider.api_key", NoEffect),
                ("token_provider.model", Replaced),
                ("token_provider.api_key_env", NoEffect),
                ("token_provider.endpoint", NoEffect),
                ("token_provider.fallback", NoEffect),
                ("token_provider.provider", NoEffect),
                ("token_provider.settings", NoEffect),
            ],
        ),
    ];
    for (written, native, notes) in rows {
        let read = read_compat(resource(&written), Strictness::Lenient, &[]);
        let (read, noted) = read.unwrap_or_else(|errors| panic!("{written}: {errors}"));
        assert_eq!(read, MemoryResource::from_value(resource(&native)).unwrap(), "{written}");
        let mut expected = notes;
        let is_old = expected.iter().any(|(_, kind)| *kind != Missing);
        let block = "flushing_strategy.min_messages";
        if is_old
            && !expected.iter().any(|(path, _)| path.ends_with("min_messages"))
            && written["flushing_strategy"]["min_messages"].is_null()
        {
            expected.push((block, Mapped));
        }
        let noted: Vec<_> = noted.iter().map(|note| (note.path.as_str(), note.kind)).collect();
        assert_eq!(noted, expected, "{written}");
        let strict = read_compat(resource(&written), Strictness::Strict, &[]);
        let refused: Vec<_> = expected
            .iter()
            .filter(|(_, kind)| matches!(kind, NoEffect | Replaced))
            .map(|(path, _)| *path)
            .collect();
        let found: Vec<_> =
            strict.err().iter().flat_map(|errors| errors.errors().to_vec()).collect();
        assert!(found.iter().all(|error| error.kind == ConfigErrorKind::Strict), "{found:?}");
        assert_eq!(
            found.iter().map(|error| &*error.path).collect::<Vec<_>>(),
            refused,
            "{written}"
        );
    }
}

#[test]
fn ratio_counts_the_smallest_known_context() {
    let ratio = resource(&json!({"max_context_ratio": 0.5}));
    let models = ["gpt-4o", "no-such-model", "gpt-4"];
    let (read, notes) = read_compat(ratio, Strictness::Lenient, &models).unwrap();
    assert_eq!(read.context_size, Some(8_192));
    assert!(notes[0].text.contains("8192"), "{notes:?}");
}

#[test]
fn contradictions_and_drafts_are_refused() {
    for (fields, expected) in [
        (json!({"max_tokens": 9, "resource": "tool"}), "resource: unknown variant `tool`"),
        (
            json!({"max_tokens": 9, "key": "a", "default_key_template": "b"}),
            "default_key_template: is set beside `key`",
        ),
        (
            json!({"max_tokens": 9, "message_limit": 1, "max_messages": 1}),
            "max_messages: is set beside",
        ),
        (
            json!({"max_tokens": 9, "flushing": {"type": "fifo"}, "flushing_strategy": {}}),
            "flushing: is set beside",
        ),
        (
            json!({"max_tokens": 9, "flushing": {"type": "fifo", "threshold": 0.8, "summarize_threshold": 0.8}}),
            "flushing.threshold: is set beside `flushing.summarize_threshold`",
        ),
        (
            json!({"max_tokens": 9, "circuit_breaker": {}, "persistence": {"circuit_breaker": {}}}),
            "persistence.circuit_breaker: is set beside `circuit_breaker`",
        ),
        (
            json!({"max_tokens": 9, "persistence": {"circuit_breaker": {"max_failures": 0}}}),
            "persistence.circuit_breaker.max_failures: is 0, so",
        ),
        (
            json!({"max_tokens": 9, "persistence": {"circuit_breaker": {"enabled": "yes"}}}),
            "persistence.circuit_breaker.enabled: is a text; write true or false",
        ),
        (
            json!({"max_tokens": 9, "persistence": {"circuit_breaker": 3}}),
            "persistence.circuit_breaker: is a number; write",
        ),
        (
            json!({"max_tokens": 9, "persistence": {"type": "postgres"}}),
            "persistence.type: unknown variant",
        ),
        (json!({"max_tokens": 9, "lock": {}, "locking": {}}), "locking: is set beside `lock`"),
        (
            json!({"max_tokens": 9, "locking": {"append_ttl": "9ms"}}),
            "locking.append_ttl: 9ms is too short",
        ),
        (
            json!({"max_tokens": 9, "locking": {"append_ttl": "0s"}}),
            "locking.append_ttl: 0s is too short",
        ),
        (
            json!({"max_tokens": 9, "locking": {"read_ttl": "9s"}}),
            "locking.read_ttl: is an unknown field",
        ),
        (json!({"max_tokens": 9, "locking": "30s"}), "locking: is a text; write a mapping"),
        (
            json!({"max_tokens": 9, "privacy_policy": {"replacement": "a", "default_redaction_string": "b"}}),
            "privacy_policy.default_redaction_string: is set beside `privacy_policy.replacement`",
        ),
        (
            json!({"max_tokens": 9, "privacy_policy": {"redact_patterns": ["ok", "(?=a)"]}}),
            "privacy_policy.redact_patterns[1]: is not a regular expression",
        ),
        (
            json!({"max_tokens": 9, "privacy_policy": {"non_persistable_message_types": ["pin", ""]}}),
            "privacy_policy.non_persistable_message_types[1]: is empty; name a role",
        ),
        (json!({"type": "context", "max_tokens": 9}), "type: `context` was never implemented"),
        (json!({"type": "summary", "max_tokens": 9}), "type: `summary` was never implemented"),
        (json!({"type": "buffer"}), "type: `buffer` needs a message limit"),
        (json!({}), "max_tokens: is missing; set the budget"),
        (
            json!({"max_tokens": 9, "flushing_strategy": {"type": "time_based"}}),
            "flushing_strategy.type: `time_based` never worked",
        ),
        (
            json!({"max_tokens": 9, "token_allocation": {"short_term": 0.5, "long_term": 0.4, "system": 0.1, "user_defined": {"a": 0.1}}}),
            "token_allocation: the shares add up to 1.100 with those of `user_defined`",
        ),
        (
            json!({"max_tokens": 9, "token_allocation": {"short_term": 0.5, "long_term": 0.4, "system": 0.2}}),
            "token_allocation: the shares add up to 1.100; lower",
        ),
        (
            json!({"max_tokens": 9, "token_allocation": {"short_term": 0.5, "long_term": 0.4, "system": 0, "user_defined": {"a": "b"}}}),
            "token_allocation.user_defined: is a mapping; write a mapping of names to shares",
        ),
        (
            json!({"max_tokens": 9, "token_provider": {"api_key": "sk-secret"}}),
            "token_provider.api_key: is a secret",
        ),
        (
            json!({"max_tokens": 9, "token_provider": "sk-secret"}),
            "token_provider: is a text; write a mapping",
        ),
        (
            json!({"max_tokens": 9, "token_provider": {"modal": "a"}}),
            "token_provider.modal: is an unknown field",
        ),
        (
            json!({"max_tokens": 9, "token_provider": {"model": 4}}),
            "token_provider.model: is a number",
        ),
        (
            json!({"max_tokens": 9, "model": "gpt-4o", "token_provider": {"model": "gpt-4"}}),
            "token_provider.model: is set",
        ),
        // Spellings that no engine reads.
        (json!({"max_tokens": 9, "storage": {}}), "storage: unknown field `storage`"),
        (json!({"max_tokens": 9, "token_management": {}}), "token_management: unknown field"),
        (json!({"max_tokens": 9, "health": {}}), "health: unknown field"),
        (json!({"max_tokens": 9, "allocations": {}}), "allocations: unknown field"),
        (json!({"max_tokens": 9, "privacy": {"retention_days": 3}}), "privacy: unknown field"),
    ] {
        let errors = read_compat(resource(&fields), Strictness::Lenient, &[]).unwrap_err();
        let text = errors.to_string();
        assert!(text.starts_with(expected) && errors.errors().len() == 1, "{fields}: {text}");
        assert!(!text.contains("sk-secret"), "{text}");
    }
}

/// The three forms of the requirements, and the three types of the later schema.
#[test]
fn whole_documents_of_the_original_are_read() {
    let native = |value: Value| MemoryResource::from_value(value).unwrap();
    for (written, expected) in [
        (
            json!({
                "resource": "memory", "id": "berth-log", "description": "Talk about one berth", "version": "0.1.0",
                "type": "token_based", "max_tokens": 6000,
                "priority_blocks": [
                    {"priority": 0, "content_types": ["system_prompt"], "max_tokens": 900},
                    {"priority": 1, "content_types": ["recent_context"]},
                ],
                "token_allocation": {"short_term": 0.6, "long_term": 0.3, "system": 0.1},
                "flushing_strategy": {"type": "hybrid_summary", "summarize_threshold": 0.75, "summary_tokens": 400, "summarize_oldest_percent": 25},
                "persistence": {"type": "redis", "ttl": "36h"},
                "privacy_policy": {"redact_patterns": [r"\b\d{3}-\d{2}-\d{4}\b"]},
            }),
            None,
        ),
        (
            json!({"resource": "memory", "id": "watch", "description": "A watch", "type": "token_based", "max_tokens": 5000, "message_limit": 90,
                "flushing": {"type": "lru", "threshold": 0.9, "summarize_oldest_percent": 0.4},
                "locking": {"append_ttl": "20s"}, "persistence": {"type": "in_memory"}}),
            Some(
                json!({"resource": "memory", "id": "watch", "description": "A watch", "max_tokens": 5000, "message_limit": 90,
                "flushing_strategy": {"type": "fifo", "summarize_threshold": 0.9, "summarize_oldest_percent": 40, "min_messages": 11},
                "lock": {"ttl": "20s", "refresh_interval": "10s"}, "persistence": {"type": "in_memory"}}),
            ),
        ),
        (
            json!({"resource": "memory", "id": "tide", "description": "Tides", "type": "message_count_based", "max_messages": 70,
                "flushing_strategy": {"type": "simple_fifo", "threshold": 0.85}, "persistence": {"type": "redis", "ttl": "48h"}}),
            Some(
                json!({"resource": "memory", "id": "tide", "description": "Tides", "max_tokens": 1_000_000_000, "message_limit": 70,
                "flushing_strategy": {"type": "fifo", "summarize_threshold": 0.85, "min_messages": 11}, "persistence": {"type": "redis", "ttl": "48h"}}),
            ),
        ),
        (
            json!({"resource": "memory", "id": "fog", "description": "Fog", "type": "buffer", "max_messages": 30, "max_tokens": 700,
                "default_key_template": "fog:{{ .workflow.input.port }}", "persistence": {"type": "redis", "ttl": "24h"}}),
            Some(
                json!({"resource": "memory", "id": "fog", "description": "Fog", "max_tokens": 700, "message_limit": 30,
                "key": "fog:{{ .workflow.input.port }}", "flushing_strategy": {"min_messages": 11}, "persistence": {"type": "redis", "ttl": "24h"}}),
            ),
        ),
        (
            json!({"resource": "memory", "id": "brief", "description": "Short", "type": "token_based", "message_limit": 12}),
            Some(
                json!({"resource": "memory", "id": "brief", "description": "Short", "max_tokens": 4000, "message_limit": 12, "flushing_strategy": {"min_messages": 11}}),
            ),
        ),
    ] {
        let (read, notes) = read_compat(written.clone(), Strictness::Lenient, &[]).unwrap();
        assert_eq!(notes.is_empty(), expected.is_none(), "{notes:?}");
        assert_eq!(read, native(expected.unwrap_or(written)));
    }
}
