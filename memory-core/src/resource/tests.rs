use serde_json::{Value, json};

use super::*;

/// The resource that the design shows, in JSON.
fn support() -> Value {
    json!({
        "id": "customer-support-context",
        "description": "Shared history of a support case",
        "type": "token_based",
        "model": "gpt-4o",
        "max_tokens": 8000,
        "priority_blocks": [
            {"priority": 0, "content_types": ["system_prompt", "user_profile"], "max_tokens": 500},
            {"priority": 1, "content_types": ["recent_context", "important_facts"], "max_tokens": 2000},
            {"priority": 2, "content_types": ["historical_messages"]},
        ],
        "token_allocation": {"short_term": 0.7, "long_term": 0.2, "system": 0.1},
        "flushing_strategy": {
            "type": "hybrid_summary", "summarize_threshold": 0.8, "flush_target": 0.5,
            "summary_tokens": 500, "summarize_oldest_percent": 30, "min_messages": 10,
        },
        "lock": {"ttl": "30s", "refresh_interval": "15s", "wait_timeout": "10s"},
        "circuit_breaker": {
            "timeout": "3s", "failure_threshold": 4, "reset_timeout": "1m 30s", "success_threshold": 2,
        },
        "persistence": {"ttl": "24h", "durability": "disk"},
        "privacy_policy": {"redact_patterns": [r"\b\d{3}-\d{2}-\d{4}\b"]},
    })
}

#[test]
fn a_block_may_hold_the_lower_of_its_limit_and_its_share() {
    let policy = MemoryResource::from_value(support()).unwrap().policy().unwrap();
    let limits: Vec<_> = policy.blocks.iter().map(|block| block.limit).collect();
    assert_eq!(limits, [Some(500), Some(2000), Some(1600)]);
    assert_eq!(policy.recent_window, 2000);
    assert_eq!(policy.max_tokens, 8000);
}

#[test]
fn a_ratio_counts_on_the_context_of_the_model() {
    let mut value = support();
    value.as_object_mut().unwrap().remove("max_tokens");
    value["max_context_ratio"] = json!(0.5);
    let resource = MemoryResource::from_value(value).unwrap();
    assert_eq!(resource.policy().unwrap().max_tokens, 64_000);
    assert_eq!(resource.tokenizer(), Tokenizer::O200kBase);
}

#[test]
fn a_resource_reads_back_from_what_it_writes() {
    let resource = MemoryResource::from_value(support()).unwrap();
    let again = MemoryResource::from_value(serde_json::to_value(&resource).unwrap()).unwrap();
    assert_eq!(again, resource);
}

#[test]
fn a_breaker_is_there_only_where_a_resource_asks_for_one() {
    let without = MemoryResource::from_json(r#"{"id": "r", "max_tokens": 100}"#).unwrap();
    assert_eq!(without.circuit_breaker, None);
    let text = r#"{"id": "r", "max_tokens": 100, "circuit_breaker": {"failure_threshold": 3}}"#;
    let breaker = MemoryResource::from_json(text).unwrap().circuit_breaker.unwrap();
    assert_eq!(
        breaker,
        CircuitBreakerSettings {
            timeout: Duration::from_secs(2),
            failure_threshold: 3,
            reset_timeout: Duration::from_secs(10),
            success_threshold: 1,
        }
    );
}

#[cfg(all(feature = "yaml", feature = "toml"))]
#[test]
fn yaml_toml_and_json_say_the_same() {
    let resource = MemoryResource::from_value(support()).unwrap();
    let yaml = r"
id: customer-support-context
description: Shared history of a support case
type: token_based
model: gpt-4o
max_tokens: 8000
priority_blocks:
  - { priority: 0, content_types: [system_prompt, user_profile], max_tokens: 500 }
  - { priority: 1, content_types: [recent_context, important_facts], max_tokens: 2000 }
  - { priority: 2, content_types: [historical_messages] }
token_allocation: { short_term: 0.7, long_term: 0.2, system: 0.1 }
flushing_strategy:
  type: hybrid_summary
  summarize_threshold: 0.8
  flush_target: 0.5
  summary_tokens: 500
  summarize_oldest_percent: 30
  min_messages: 10
lock: { ttl: 30s, refresh_interval: 15s, wait_timeout: 10s }
circuit_breaker: { timeout: 3s, failure_threshold: 4, reset_timeout: 90s, success_threshold: 2 }
persistence: { ttl: 24h, durability: disk }
privacy_policy: { redact_patterns: ['\b\d{3}-\d{2}-\d{4}\b'] }
";
    assert_eq!(MemoryResource::from_yaml(yaml).unwrap(), resource);
    let toml = r#"
id = "customer-support-context"
description = "Shared history of a support case"
type = "token_based"
model = "gpt-4o"
max_tokens = 8000
token_allocation = { short_term = 0.7, long_term = 0.2, system = 0.1 }
lock = { ttl = "30s", refresh_interval = "15s", wait_timeout = "10s" }
circuit_breaker = { timeout = "3s", failure_threshold = 4, reset_timeout = "90s", success_threshold = 2 }
persistence = { ttl = "24h", durability = "disk" }
privacy_policy = { redact_patterns = ['\b\d{3}-\d{2}-\d{4}\b'] }
[[priority_blocks]]
priority = 0
content_types = ["system_prompt", "user_profile"]
max_tokens = 500
[[priority_blocks]]
priority = 1
content_types = ["recent_context", "important_facts"]
max_tokens = 2000
[[priority_blocks]]
priority = 2
content_types = ["historical_messages"]
[flushing_strategy]
type = "hybrid_summary"
summarize_threshold = 0.8
flush_target = 0.5
summary_tokens = 500
summarize_oldest_percent = 30
min_messages = 10
"#;
    assert_eq!(MemoryResource::from_toml(toml).unwrap(), resource);
}

/// Each contradiction, and the text that a user sees.
#[test]
fn what_cannot_work_is_refused_with_the_field_and_the_mend() {
    // Each row sets one field, by its JSON pointer, to a value; null removes it.
    let rows: &[(&str, Value, &str)] = &[
        ("/id", json!(" "), "id: is empty; name the resource"),
        ("/type", json!("buffer"), "type: unknown variant `buffer`, expected `token_based`"),
        ("/max_token", json!(5), "max_token: unknown field `max_token`, expected one of"),
        ("/max_tokens", json!(0), "max_tokens: is 0; give the memory room for at least one token"),
        ("/max_tokens", json!(-1), "max_tokens: invalid value: integer `-1`, expected u64"),
        ("/max_tokens", json!("8k"), "max_tokens: invalid type: string \"8k\", expected u64"),
        (
            "/max_tokens",
            Value::Null,
            "max_tokens: is missing; set the budget in tokens, or max_context_ratio with a model",
        ),
        (
            "/max_tokens",
            json!(200_000),
            "max_tokens: 200000 is more than the context holds (128000); lower it",
        ),
        (
            "/max_context_ratio",
            json!(0.5),
            "max_context_ratio: stands beside max_tokens; keep one of the two",
        ),
        (
            "/max_context_ratio",
            json!(1.5),
            "max_context_ratio: 1.5 is not a share; set it over 0 and at most 1",
        ),
        ("/message_limit", json!(0), "message_limit: is 0; set at least 1, or remove it"),
        ("/context_size", json!(0), "context_size: is 0; set the model's context size in tokens"),
        ("/model", json!("llama-9"), "model: `llama-9` is not known (known: gpt-5,"),
        (
            "/tokenizer",
            json!("words"),
            "tokenizer: unknown variant `words`, expected one of `estimate`, `o200k_base`, `cl100k_base`",
        ),
        (
            "/recent_window",
            json!(9000),
            "recent_window: 9000 is more than the budget (8000); lower it",
        ),
        (
            "/open_call_timeout",
            json!("0s"),
            "open_call_timeout: is zero, so every call would be abandoned at once",
        ),
        (
            "/open_call_timeout",
            json!("soon"),
            "open_call_timeout: write a duration with its unit, such as 30s, 10m, 24h or 7d",
        ),
        (
            "/key",
            json!(""),
            "key: is empty; write a template such as {{ session.id }}, or remove it",
        ),
        (
            "/priority_blocks/1/priority",
            json!(0),
            "priority_blocks[1].priority: 0 has a block already; merge the two",
        ),
        (
            "/priority_blocks/1/priority",
            json!(300),
            "priority_blocks[1].priority: invalid value: integer `300`, expected u8",
        ),
        (
            "/priority_blocks/1/content_types",
            json!([]),
            "priority_blocks[1].content_types: is empty; name at least one type, or remove the block",
        ),
        (
            "/priority_blocks/2/content_types",
            json!(["user_profile"]),
            "priority_blocks[2].content_types: `user_profile` is named twice; leave it in one block",
        ),
        (
            "/priority_blocks/2/content_types",
            json!([""]),
            "priority_blocks[2].content_types[0]: a content type must not be empty",
        ),
        (
            "/priority_blocks/0/max_tokens",
            json!(0),
            "priority_blocks[0].max_tokens: is 0; set at least 1, or remove it",
        ),
        (
            "/priority_blocks/0/limit",
            json!(1),
            "priority_blocks[0].limit: unknown field `limit`, expected one of `priority`, `content_types`, `max_tokens`",
        ),
        (
            "/token_allocation/system",
            json!(0.2),
            "token_allocation: the shares add up to 1.100; lower them to 1 or less",
        ),
        (
            "/token_allocation/system",
            json!(-0.1),
            "token_allocation.system: -0.1 is not a share; set it from 0 to 1",
        ),
        ("/token_allocation/system", Value::Null, "token_allocation: missing field `system`"),
        (
            "/content_shares",
            json!({"x": "middle"}),
            "content_shares.x: unknown variant `middle`, expected one of `short_term`, `long_term`, `system`",
        ),
        (
            "/flushing_strategy/type",
            json!(""),
            "flushing_strategy.type: is empty; choose fifo, priority, hybrid_summary or the name of your own",
        ),
        ("/flushing_strategy/flush_target", json!(0.9), "flushing_strategy.flush_target: "),
        (
            "/flushing_strategy/summarize_threshold",
            json!(1.2),
            "flushing_strategy.summarize_threshold: ",
        ),
        (
            "/flushing_strategy/summarize_oldest_percent",
            json!(101),
            "flushing_strategy.summarize_oldest_percent: ",
        ),
        ("/flushing_strategy/summary_tokens", json!(7000), "flushing_strategy.summary_tokens: "),
        (
            "/flushing_strategy/treshold",
            json!(0.9),
            "flushing_strategy.treshold: unknown field `treshold`",
        ),
        (
            "/lock/ttl",
            json!("0s"),
            "lock.ttl: 0s is too short for a lease; set at least 10ms, better 30s",
        ),
        ("/lock/ttl", json!(30), "lock.ttl: invalid type: integer `30`, expected a string"),
        (
            "/lock/refresh_interval",
            json!("16s"),
            "lock.refresh_interval: 16s is more than half of the ttl (30s); set it to 15s or less",
        ),
        (
            "/lock/refresh_interval",
            json!("0s"),
            "lock.refresh_interval: is zero; set up to half of the ttl",
        ),
        (
            "/circuit_breaker/timeout",
            json!("0s"),
            "circuit_breaker.timeout: is zero, so no call could end in time; set some time",
        ),
        (
            "/circuit_breaker/timeout",
            json!("10s"),
            "circuit_breaker.timeout: 10s is not less than lock.wait_timeout (10s), after which",
        ),
        (
            "/circuit_breaker/failure_threshold",
            json!(0),
            "circuit_breaker.failure_threshold: is 0, so the breaker would open without a failure; set",
        ),
        (
            "/circuit_breaker/failure_threshold",
            json!(-1),
            "circuit_breaker.failure_threshold: invalid value: integer `-1`, expected u32",
        ),
        (
            "/circuit_breaker/reset_timeout",
            json!("0s"),
            "circuit_breaker.reset_timeout: is zero, so an open breaker would refuse nothing; set",
        ),
        (
            "/circuit_breaker/reset_timeout",
            json!(10),
            "circuit_breaker.reset_timeout: invalid type: integer `10`, expected a string",
        ),
        (
            "/circuit_breaker/success_threshold",
            json!(0),
            "circuit_breaker.success_threshold: is 0, so the breaker would close without a probe; set",
        ),
        (
            "/circuit_breaker/open_for",
            json!("10s"),
            "circuit_breaker.open_for: unknown field `open_for`, expected one of `timeout`, `failure_threshold`, `reset_timeout`, `success_threshold`",
        ),
        (
            "/persistence/ttl",
            json!("0h"),
            "persistence.ttl: is zero, so nothing would be kept; remove it to keep the memory for ever",
        ),
        ("/persistence/ttl", json!("-5s"), "persistence.ttl: a duration must not be negative"),
        (
            "/persistence/durability",
            json!("paper"),
            "persistence.durability: unknown variant `paper`, expected one of `memory`, `process`, `disk`",
        ),
        (
            "/privacy_policy/redact_patterns",
            json!(["a", "("]),
            "privacy_policy.redact_patterns[1]: is not a regular expression",
        ),
    ];
    for (pointer, field, expected) in rows {
        let mut value = support();
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        let parent = match parent {
            "/priority_blocks" => unreachable!("rows name a field of a block"),
            parent => value.pointer_mut(parent).unwrap().as_object_mut().unwrap(),
        };
        match field {
            Value::Null => parent.remove(name),
            field => parent.insert(name.into(), field.clone()),
        };
        let error = MemoryResource::from_value(value).unwrap_err().to_string();
        let id = if *pointer == "/id" { " " } else { "customer-support-context" };
        let expected = format!("resource `{id}`: {expected}");
        assert!(
            error.starts_with(&expected),
            "{pointer} = {field}\n got: {error}\nwant: {expected}"
        );
        assert!(!error.contains('\n'), "one line: {error}");
    }
}

/// A resource with these fields beside an id.
fn resource(fields: &Value) -> Result<MemoryResource, ResourceError> {
    let mut value = json!({"id": "r"});
    value.as_object_mut().unwrap().append(&mut fields.as_object().unwrap().clone());
    MemoryResource::from_value(value)
}

#[test]
fn what_is_just_within_its_bounds_is_taken() {
    for fields in [
        json!({"max_tokens": 1}),
        json!({"max_tokens": 128_000, "model": "gpt-4o"}),
        json!({"max_tokens": 10, "recent_window": 10}),
        json!({"max_tokens": 10, "message_limit": 1}),
        json!({"context_size": 10, "max_context_ratio": 1.0}),
        json!({"max_tokens": 10, "model": "llama-9", "tokenizer": "estimate", "context_size": 10}),
        json!({"max_tokens": 10, "token_allocation": {"short_term": 1.0, "long_term": 0, "system": 0}}),
        json!({"max_tokens": 10, "lock": {"ttl": "10ms", "refresh_interval": "5ms"}}),
        json!({"max_tokens": 10, "circuit_breaker": {"timeout": "9s 999ms"}}),
        json!({"max_tokens": 10, "limits": {"nesting": 120}}),
        json!({"max_tokens": 10, "limits": {"message_bytes": 9, "batch_bytes": 9}}),
        json!({"max_tokens": 10, "limits": {"message_bytes": 1, "nesting": 1, "batch_messages": 1}}),
        json!({"max_tokens": 10, "privacy_policy": {"redact_patterns": vec!["a"; 100]}}),
    ] {
        assert_eq!(resource(&fields).map(|_| ()), Ok(()), "{fields}");
    }
}

#[test]
fn what_is_just_outside_its_bounds_is_refused() {
    for (fields, expected) in [
        (json!({"max_tokens": 128_001, "model": "gpt-4o"}), "max_tokens: 128001 is more than the"),
        (
            json!({"max_tokens": 10, "recent_window": 11}),
            "recent_window: 11 is more than the budget",
        ),
        (
            json!({"context_size": 10, "max_context_ratio": 0.0}),
            "max_context_ratio: 0 is not a share",
        ),
        (
            json!({"max_context_ratio": 0.5}),
            "max_context_ratio: is a share of the context size, which is not known; add `model` or",
        ),
        (
            json!({"max_tokens": 10, "model": "llama-9", "tokenizer": "estimate"}),
            "model: `llama-9`",
        ),
        (json!({"max_tokens": 10, "model": "llama-9", "context_size": 10}), "model: `llama-9`"),
        (
            json!({"max_tokens": 10, "token_allocation": {"short_term": 1.1, "long_term": 0, "system": 0}}),
            "token_allocation.short_term: 1.1 is not a share; set it from 0 to 1",
        ),
        (
            json!({"max_tokens": 10, "content_shares": {"note": "system"}}),
            "content_shares.note: has no effect without token_allocation; add that, or remove this",
        ),
        (
            json!({"max_tokens": 10, "lock": {"ttl": "9ms"}}),
            "lock.ttl: 9ms is too short for a lease",
        ),
        (
            json!({"max_tokens": 10, "limits": {"nesting": 121}}),
            "limits.nesting: 121 is more than can be read back; set 120 or less",
        ),
        (
            json!({"max_tokens": 10, "limits": {"message_bytes": 10, "batch_bytes": 9}}),
            "limits.message_bytes: 10 is more than limits.batch_bytes (9)",
        ),
        (
            json!({"max_tokens": 10, "privacy_policy": {"redact_patterns": vec!["a"; 101]}}),
            "privacy_policy.redact_patterns: has 101 patterns, over the limit of 100; join some",
        ),
        (
            json!({"max_tokens": 10, "privacy_policy": {"redact_patterns": [r"(\w{100}){100}"]}}),
            "privacy_policy.redact_patterns[0]: takes more than 4194304 bytes when compiled",
        ),
        (json!({"max_tokens": 10, "key": " "}), "key: is empty"),
        (
            json!({"max_tokens": 10, "flushing_strategy": {"type": " "}}),
            "flushing_strategy.type: is",
        ),
    ] {
        let error = resource(&fields).unwrap_err().to_string();
        assert!(error.starts_with(&format!("resource `r`: {expected}")), "{fields}: {error}");
    }
    for name in ["message_bytes", "nesting", "batch_messages", "batch_bytes"] {
        let error = resource(&json!({"max_tokens": 10, "limits": {name: 0}})).unwrap_err();
        let expected = format!("resource `r`: limits.{name}: is 0, so nothing could be appended; ");
        assert!(error.to_string().starts_with(&expected), "{error}");
    }
}

#[test]
fn decimal_shares_that_add_up_to_one_are_taken_although_their_sum_is_inexact() {
    let shares = |system: f64| {
        let allocation = json!({"short_term": 0.7, "long_term": 0.2, "system": system});
        resource(&json!({"max_tokens": 10, "token_allocation": allocation})).is_ok()
    };
    assert!(shares(0.1) && shares(0.100_000_000_1));
    assert!(!shares(0.101));
    let tolerated = json!({"short_term": 1.0, "long_term": 1e-9, "system": 0.0});
    assert!(resource(&json!({"max_tokens": 10, "token_allocation": tolerated})).is_ok());
}

#[test]
fn a_resource_is_read_up_to_a_mebibyte() {
    assert_eq!(MemoryResource::MAX_BYTES, 1_048_576);
    let padded = |bytes: usize| {
        let text = r#"{"id": "r", "max_tokens": 10}"#;
        MemoryResource::from_json(&format!("{text}{}", " ".repeat(bytes - text.len())))
    };
    assert!(padded(MemoryResource::MAX_BYTES).is_ok());
    assert_eq!(
        padded(MemoryResource::MAX_BYTES + 1).unwrap_err().to_string(),
        "a resource in JSON: has 1048577 bytes, over the limit of 1048576; give it the file of one \
         resource"
    );
}

#[test]
fn a_block_has_the_limits_of_all_the_shares_that_its_types_belong_to() {
    let limits = |blocks: Value, shares: Value| {
        let allocation = json!({"short_term": 0.5, "long_term": 0.3, "system": 0.2});
        let fields = json!({"max_tokens": 1_000, "priority_blocks": blocks,
            "token_allocation": allocation, "content_shares": shares});
        let policy = resource(&fields).unwrap().policy().unwrap();
        policy.blocks.iter().map(|block| (block.priority.number(), block.limit)).collect::<Vec<_>>()
    };
    let block = |priority: u8, types: Value| json!({"priority": priority, "content_types": types});
    let one = |content_type: &str| {
        limits(json!([block(0, json!([content_type]))]), json!({})).remove(0).1
    };
    for (content_type, limit) in [
        ("system_prompt", Some(200)),
        ("user_profile", Some(200)),
        ("summary", Some(300)),
        ("historical_messages", Some(300)),
        ("recent_context", Some(500)),
        ("important_facts", Some(500)),
        ("conversation", None),
        ("note", None),
    ] {
        assert_eq!(one(content_type), limit, "{content_type}");
    }
    let both = json!([block(0, json!(["summary", "historical_messages", "system_prompt"]))]);
    assert_eq!(limits(both, json!({})), [(0, Some(500))], "each share once");
    let outside = json!([block(0, json!(["summary", "note"]))]);
    assert_eq!(limits(outside.clone(), json!({})), [(0, None)]);
    assert_eq!(limits(outside, json!({"note": "system"})), [(0, Some(500))]);
    let unsorted = json!([block(7, json!(["summary"])), block(1, json!(["recent_context"]))]);
    assert_eq!(limits(unsorted, json!({})), [(1, Some(500)), (7, Some(300))], "ascending");
    let own = json!([{"priority": 0, "content_types": ["summary"], "max_tokens": 301}]);
    assert_eq!(limits(own, json!({})), [(0, Some(300))], "the lower of the two");
    let lower = json!([{"priority": 0, "content_types": ["summary"], "max_tokens": 299}]);
    assert_eq!(limits(lower, json!({})), [(0, Some(299))]);
    let alone = json!([{"priority": 0, "content_types": ["note"], "max_tokens": 7}]);
    assert_eq!(limits(alone, json!({})), [(0, Some(7))]);
}

#[test]
fn the_recent_window_is_the_nearest_that_is_told() {
    let window = |fields: Value| resource(&fields).unwrap().policy().unwrap().recent_window;
    let mut fields = json!({"max_tokens": 1_001});
    assert_eq!(window(fields.clone()), 500, "half of the budget");
    fields["token_allocation"] = json!({"short_term": 0.4, "long_term": 0.2, "system": 0.1});
    assert_eq!(window(fields.clone()), 400, "the share of recent talk");
    fields["priority_blocks"] =
        json!([{"priority": 1, "content_types": ["recent_context"], "max_tokens": 300}]);
    assert_eq!(window(fields.clone()), 300, "the limit of its block");
    fields["recent_window"] = json!(200);
    assert_eq!(window(fields), 200, "its own number");
}

#[test]
fn what_a_resource_does_not_say_follows_from_its_model_or_is_the_default() {
    let plain = MemoryResource::new("r", 10);
    assert_eq!((plain.tokenizer(), plain.strategy()), (Tokenizer::Estimate, "fifo"));
    assert!(plain.redactor().unwrap().is_none());
    assert_eq!(plain.policy().unwrap().open_call_timeout, Policy::DEFAULT_OPEN_CALL_TIMEOUT);
    assert_eq!(plain.flush_settings().unwrap().min_messages, 10);

    let of_model = resource(&json!({"model": "gpt-4", "max_context_ratio": 0.5})).unwrap();
    assert_eq!(of_model.tokenizer(), Tokenizer::Cl100kBase);
    assert_eq!(of_model.policy().unwrap().max_tokens, 4_096);
    let own = json!({"model": "gpt-4", "max_context_ratio": 0.5, "context_size": 100,
        "tokenizer": "o200k_base", "open_call_timeout": "1m", "message_limit": 7});
    let own = resource(&own).unwrap();
    let policy = own.policy().unwrap();
    assert_eq!((own.tokenizer(), policy.max_tokens), (Tokenizer::O200kBase, 50));
    assert_eq!(policy.open_call_timeout, Duration::from_secs(60));
    assert_eq!(policy.message_limit, Some(7));
    let tiny = resource(&json!({"context_size": 1, "max_context_ratio": 0.5})).unwrap();
    assert_eq!(tiny.policy().unwrap().max_tokens, 1, "there is always room for something");

    let blocks = json!([{"priority": 1, "content_types": ["summary"]}]);
    let mut fields = json!({"max_tokens": 10, "priority_blocks": blocks});
    assert_eq!(resource(&fields).unwrap().strategy(), "priority");
    fields["flushing_strategy"] = json!({"type": "own"});
    assert_eq!(resource(&fields).unwrap().strategy(), "own");
    let secrets = json!({"max_tokens": 10, "privacy_policy": {"redact_patterns": ["a"]}});
    let redactor = resource(&secrets).unwrap().redactor().unwrap().unwrap();
    assert_eq!(redactor.redact(crate::Message::user("bab")).text(), "b[REDACTED]b");
}

#[cfg(feature = "yaml")]
#[test]
fn aliases_of_yaml_are_replayed_only_so_often() {
    let read = |aliases: usize| {
        let (items, names) = (vec!["1"; 200].join(", "), vec!["*a"; aliases].join(", "));
        let yaml = format!("id: r\nmax_tokens: 10\na: &a [{items}]\nb: [{names}]\n");
        MemoryResource::from_yaml(&yaml).unwrap_err()
    };
    let few = read(10);
    assert!(matches!(&few, ResourceError::Field { path, .. } if path == "a"), "{few}");
    let many = read(90);
    assert!(matches!(many, ResourceError::Syntax { format: "YAML", .. }), "{many}");
}
