//! Reading is total, and reading again changes nothing.

use memory_config::{NoteKind, ProjectConfig, Strictness, read_compat};
use memory_core::MemoryResource;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

/// Values of every type, and texts that mean something somewhere.
fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-2_i64..2_000).prop_map(Value::from),
        prop_oneof![Just(0.3), Just(1.0), Just(30.0), Just(0.0), any::<f64>()]
            .prop_map(|it| json!(it)),
        prop::sample::select(vec![
            "",
            "a",
            "0",
            "0s",
            "9ms",
            "30s",
            "5m",
            "fifo",
            "simple_fifo",
            "lru",
            "hybrid_summary",
            "time_based",
            "token_based",
            "buffer",
            "summary",
            "memory",
            "redis",
            "in_memory",
            "gpt-4o",
            "gpt-4",
            "estimate",
            "system_prompt",
            "recent_context",
            "(",
            "read-only",
            "append",
            "{{ .a }}",
            "{{",
        ])
        .prop_map(Value::from),
    ];
    leaf.prop_recursive(2, 12, 4, |inner| {
        let name = prop::sample::select(vec!["id", "key", "mode", "type", "model", "a"]);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((name, inner), 0..4).prop_map(|fields| {
                Value::Object(
                    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
                )
            }),
        ]
    })
}

/// Fields by their dotted paths, which are set to plausible values most of the time.
fn resource() -> impl Strategy<Value = Value> {
    const FIELDS: &[(&str, &[&str])] = &[
        ("resource", &["\"memory\""]),
        ("description", &["\"d\""]),
        ("version", &["1.5", "\"1.0.0\""]),
        ("type", &["\"token_based\"", "\"buffer\"", "\"message_count_based\""]),
        ("default_key_template", &["\"{{ .a }}\""]),
        ("max_tokens", &["900", "1", "20"]),
        ("max_context_ratio", &["0.5"]),
        ("message_limit", &["40"]),
        ("max_messages", &["40"]),
        ("context_size", &["9000"]),
        ("model", &["\"gpt-4o\""]),
        ("token_provider", &["{\"model\":\"gpt-4\"}", "{\"model\":\"x\",\"settings\":{}}"]),
        ("token_allocation.short_term", &["0.5"]),
        ("token_allocation.long_term", &["0.3", "0.3005"]),
        ("token_allocation.system", &["0.2", "0.1"]),
        ("token_allocation.user_defined", &["{\"a\":0.1}"]),
        ("flushing.type", &["\"lru\"", "\"simple_fifo\"", "\"hybrid_summary\""]),
        ("flushing.threshold", &["0.7"]),
        ("flushing.summarize_oldest_percent", &["1", "0.4", "30"]),
        ("flushing_strategy.type", &["\"fifo\"", "\"token_aware_lru\""]),
        ("flushing_strategy.summary_tokens", &["3", "500", "1"]),
        ("flushing_strategy.threshold", &["0.9"]),
        ("flushing_strategy.summarize_oldest_percent", &["1.0", "0.004", "55.5"]),
        ("persistence.type", &["\"redis\""]),
        ("persistence.ttl", &["0", "\"0s\"", "\"36h\""]),
        ("persistence.circuit_breaker", &["{\"max_failures\":3}", "{\"enabled\":false}"]),
        ("locking.append_ttl", &["\"20s\"", "\"33ms\""]),
        ("locking.flush_ttl", &["\"5m\""]),
        ("privacy_policy.default_redaction_string", &["\"X\""]),
        ("privacy_policy.redact_patterns", &["[\"a+\"]"]),
    ];
    let field = (prop::sample::select(FIELDS), any::<prop::sample::Index>(), value(), 0..8_u8);
    prop::collection::vec(field, 0..7).prop_map(|fields| {
        let mut resource = json!({"id": "m", "max_tokens": 900});
        for ((path, plausible), index, any, odds) in fields {
            let value = if odds == 0 {
                any
            } else {
                serde_json::from_str(index.get::<&str>(plausible)).unwrap()
            };
            match path.split_once('.') {
                None => resource[path] = value,
                Some((block, field)) => {
                    if !resource[block].is_object() {
                        resource[block] = Map::new().into();
                    }
                    resource[block][field] = value;
                }
            }
        }
        resource
    })
}

proptest! {
    #[test]
    fn reading_again_changes_nothing(written in resource()) {
        let Ok((resource, _)) = read_compat(written.clone(), Strictness::Lenient, &[]) else { return Ok(()) };
        resource.policy().unwrap();
        let value = serde_json::to_value(&resource).unwrap();
        let (again, notes) = read_compat(value, Strictness::Strict, &[]).unwrap();
        prop_assert_eq!(&again, &resource);
        prop_assert!(notes.iter().all(|note| note.kind == NoteKind::Missing), "{:?}", notes);
        // A native resource is read as it is.
        if let Ok(native) = MemoryResource::from_value(written.clone())
            && !matches!(native.strategy(), "lru" | "token_aware_lru" | "simple_fifo")
        {
            prop_assert_eq!(resource, native);
        }
    }

    #[test]
    fn any_resource_is_read_or_refused(written in value()) {
        if let Err(errors) = read_compat(written, Strictness::Lenient, &[]) {
            prop_assert!(!errors.errors().is_empty());
        }
    }

    #[test]
    fn any_project_is_read_or_refused(
        memories in prop::collection::vec(resource(), 0..3),
        memory in value(),
        list in value(),
        key in value(),
        id in value(),
    ) {
        let agent = json!({"id": id, "memory": memory, "memories": list, "memory_key": key});
        let document = json!({"memories": memories, "agents": [agent]});
        match ProjectConfig::from_value(document) {
            Ok(config) => {
                let ids: Vec<_> = config.memories.iter().map(|memory| &memory.id).collect();
                let references = config.agents.iter().flat_map(|agent| &agent.memories);
                for reference in references {
                    prop_assert!(ids.contains(&&reference.id) && !reference.key.trim().is_empty());
                }
            }
            Err(errors) => {
                for error in errors.errors() {
                    prop_assert_eq!(error.to_string().lines().count(), 1);
                    prop_assert!(error.to_string().len() < 6_000);
                }
            }
        }
    }
}
