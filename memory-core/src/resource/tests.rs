//! Resources: explicit settings, defaults and validation.

mod refusals;

use serde_json::{Value, json};

use super::*;

/// The resource from the design, in JSON.
fn support() -> Value {
    json!({
        "resource": "memory",
        "id": "customer-support-context",
        "version": "1.2.0",
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
        "persistence": {"type": "redis", "ttl": "24h", "durability": "disk"},
        "privacy_policy": {"redact_patterns": [r"\b\d{3}-\d{2}-\d{4}\b"]},
    })
}

#[test]
fn block_limit_is_lower_of_limit_and_share() {
    let policy = MemoryResource::from_value(support()).unwrap().policy().unwrap();
    let limits: Vec<_> = policy.blocks.iter().map(|block| block.limit).collect();
    assert_eq!(limits, [Some(500), Some(2000), Some(1600)]);
    assert_eq!(policy.recent_window, 2000);
    assert_eq!(policy.max_tokens, 8000);
}

#[test]
fn ratio_uses_model_context() {
    let mut value = support();
    value.as_object_mut().unwrap().remove("max_tokens");
    value["max_context_ratio"] = json!(0.5);
    let resource = MemoryResource::from_value(value).unwrap();
    assert_eq!(resource.policy().unwrap().max_tokens, 64_000);
    assert_eq!(resource.tokenizer(), Tokenizer::O200kBase);
}

#[test]
fn resource_round_trips() {
    let resource = MemoryResource::from_value(support()).unwrap();
    let written = serde_json::to_value(&resource).unwrap();
    assert_eq!((&written["resource"], &written["version"]), (&json!("memory"), &json!("1.2.0")));
    assert_eq!(MemoryResource::from_value(written), Ok(resource));
}

#[test]
fn circuit_breaker_is_off_by_default() {
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
fn yaml_toml_and_json_agree() {
    let resource = MemoryResource::from_value(support()).unwrap();
    let yaml = r"
resource: memory
id: customer-support-context
version: 1.2.0
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
persistence: { type: redis, ttl: 24h, durability: disk }
privacy_policy: { redact_patterns: ['\b\d{3}-\d{2}-\d{4}\b'] }
";
    assert_eq!(MemoryResource::from_yaml(yaml).unwrap(), resource);
    let toml = r#"
resource = "memory"
id = "customer-support-context"
version = "1.2.0"
description = "Shared history of a support case"
type = "token_based"
model = "gpt-4o"
max_tokens = 8000
token_allocation = { short_term = 0.7, long_term = 0.2, system = 0.1 }
lock = { ttl = "30s", refresh_interval = "15s", wait_timeout = "10s" }
circuit_breaker = { timeout = "3s", failure_threshold = 4, reset_timeout = "90s", success_threshold = 2 }
persistence = { type = "redis", ttl = "24h", durability = "disk" }
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

/// A resource with these fields beside an id.
fn resource(fields: &Value) -> Result<MemoryResource, ResourceError> {
    let mut value = json!({"id": "r"});
    value.as_object_mut().unwrap().append(&mut fields.as_object().unwrap().clone());
    MemoryResource::from_value(value)
}

#[test]
fn explicit_factor_and_prices_override_model() {
    let factor = |more: &Value| resource(more).unwrap().token_factor();
    for (more, expected) in [
        (json!({"max_tokens": 10}), 1.0),
        (json!({"max_tokens": 10, "model": "gpt-4o"}), 1.0),
        (json!({"max_tokens": 10, "model": "claude-opus-4-7"}), 1.5),
        (json!({"max_tokens": 10, "model": "claude-opus-4-7", "token_factor": 1.25}), 1.25),
        // The explicit tokenizer counts for the model.
        (json!({"max_tokens": 10, "model": "claude-opus-4-7", "tokenizer": "o200k_base"}), 1.0),
        (json!({"max_tokens": 10, "token_factor": 2}), 2.0),
    ] {
        assert!((factor(&more) - expected).abs() < 1e-9, "{more}");
    }
    let set = json!({"max_tokens": 10, "model": "gpt-4o", "media_tokens": {"image": 1300, "image_low": 85,
        "audio_per_second": 32, "video_per_second": 263, "pdf_page": 2300}});
    let set = resource(&set).unwrap();
    assert_eq!(MemoryResource::from_value(serde_json::to_value(&set).unwrap()), Ok(set.clone()));
    let of_model = resource(&json!({"max_tokens": 10, "model": "gpt-4o"})).unwrap();
    assert_eq!(of_model.media_prices(), MediaPrices::for_model("gpt-4o"));
    assert_ne!(set.media_prices(), of_model.media_prices());
}

#[test]
fn values_within_bounds_are_accepted() {
    for fields in [
        json!({"max_tokens": 1}),
        json!({"max_tokens": 128_000, "model": "gpt-4o"}),
        json!({"max_tokens": 10, "recent_window": 10}),
        json!({"max_tokens": 10, "message_limit": 1}),
        json!({"max_tokens": 10, "reminders": {"keep": 1}}),
        json!({"context_size": 10, "max_context_ratio": 1.0}),
        json!({"max_tokens": 10, "model": "llama-9"}),
        json!({"max_context_ratio": 0.5, "model": "llama-9", "tokenizer": "estimate", "context_size": 10}),
        json!({"max_tokens": 10, "token_factor": 0.1}),
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
fn values_outside_bounds_are_refused() {
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
            json!({"max_context_ratio": 0.5, "model": "llama-9", "tokenizer": "estimate"}),
            "model: `llama-9` is not known, so",
        ),
        (
            json!({"max_context_ratio": 0.5, "model": "llama-9", "context_size": 10}),
            "model: `llama-9` is not known, so",
        ),
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
            json!({"max_tokens": 10, "resource": "agent"}),
            "resource: unknown variant `agent`, expected `memory`",
        ),
        (
            json!({"max_tokens": 10, "persistence": {"type": "in-memory"}}),
            "persistence.type: unknown variant `in-memory`; did you mean `in_memory`?",
        ),
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
fn decimal_shares_may_sum_to_one_inexactly() {
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
fn resource_size_limit_is_a_mebibyte() {
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
fn block_limit_sums_shares_of_its_types() {
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
fn recent_window_uses_most_specific_setting() {
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
fn missing_fields_follow_model_or_default() {
    let plain = MemoryResource::new("r", 10);
    assert_eq!((plain.tokenizer(), plain.strategy()), (Tokenizer::Estimate, "hybrid_summary"));
    assert!(plain.redactor().unwrap().is_none());
    assert_eq!(plain.policy().unwrap().open_call_timeout, Policy::DEFAULT_OPEN_CALL_TIMEOUT);
    assert_eq!(plain.flush_settings().unwrap().min_messages, 10);
    assert_eq!(plain.policy().unwrap().reminders_kept, 3);
    let written = serde_json::to_value(&plain).unwrap();
    assert!(
        written.get("reminders").is_none(),
        "older versions refuse fields that they do not know"
    );
    let five = resource(&json!({"max_tokens": 10, "reminders": {"keep": 5}})).unwrap();
    assert_eq!((five.policy().unwrap().reminders_kept, five.reminders), (5, Reminders::keep(5)));
    assert_eq!(serde_json::to_value(&five).unwrap()["reminders"], json!({"keep": 5}));

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
    assert_eq!(resource(&fields).unwrap().strategy(), "hybrid_summary");
    fields["flushing_strategy"] = json!({"type": "own"});
    assert_eq!(resource(&fields).unwrap().strategy(), "own");
    let named = json!({"max_tokens": 10, "privacy_policy": {"redact_presets": ["email", "ipv4"]}});
    let redactor = resource(&named).unwrap().redactor().unwrap().unwrap();
    let text = redactor.redact_string("a@b.example at 10.0.0.1, 123-45-6789".into());
    assert_eq!(text, "[REDACTED] at [REDACTED], 123-45-6789");
    let secrets = json!({"max_tokens": 10, "privacy_policy": {"redact_patterns": ["a"]}});
    let redactor = resource(&secrets).unwrap().redactor().unwrap().unwrap();
    assert_eq!(redactor.redact(crate::Message::user("bab")).text(), "b[REDACTED]b");
}

#[cfg(feature = "yaml")]
#[test]
fn yaml_alias_expansion_is_limited() {
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

#[test]
fn wait_timeout_defaults_to_max_turn() {
    let lock = |lock: Value| -> LockSettings { serde_json::from_value(lock).unwrap() };
    let times = |lock: LockSettings| {
        let times = [lock.max_turn, lock.wait_timeout, lock.failure_timeout];
        times.map(|time| time.as_secs())
    };
    assert_eq!(times(LockSettings::default()), [60, 60, 10]);
    assert_eq!(times(lock(json!({}))), [60, 60, 10]);
    assert_eq!(times(lock(json!({"max_turn": "5m"}))), [300, 300, 10]);
    assert_eq!(times(lock(json!({"wait_timeout": "4s"}))), [60, 4, 10]);
    let all = json!({"max_turn": "2m", "wait_timeout": "3s", "failure_timeout": "4s"});
    assert_eq!(times(lock(all.clone())), [120, 3, 4]);
    assert_eq!(lock(serde_json::to_value(lock(all.clone())).unwrap()), lock(all));
    // Defaults are not written, because older versions refuse fields that they do not know.
    let written = serde_json::to_value(LockSettings::default()).unwrap();
    assert_eq!(written, json!({"ttl": "30s", "refresh_interval": "15s", "wait_timeout": "1m"}));
    let longer = LockSettings::default().with_max_turn(Duration::from_secs(90));
    assert_eq!(times(longer), [90, 90, 10]);
    let hasty = LockSettings { wait_timeout: Duration::ZERO, ..LockSettings::default() };
    assert_eq!(times(hasty.with_max_turn(Duration::from_secs(90))), [90, 0, 10]);
}
