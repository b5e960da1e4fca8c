//! Every refusal of a resource, with its error text.

use serde_json::{Value, json};

use super::super::*;
use super::support;

#[test]
fn refusal_names_field_and_remedy() {
    // Each row sets one field, by its JSON pointer, to a value; null removes it.
    let rows: &[(&str, Value, &str)] = &[
        ("/id", json!(" "), "id: is empty; name the resource"),
        ("/type", json!("buffer"), "type: unknown variant `buffer`, expected `token_based`"),
        (
            "/max_token",
            json!(5),
            "max_token: unknown field `max_token`; did you mean `max_tokens`?",
        ),
        ("/max_tokens", json!(0), "max_tokens: is 0; give the memory room for at least one token"),
        (
            "/max_tokens",
            json!(-1),
            "max_tokens: -1 is not a whole number in range; write one, 0 or more",
        ),
        (
            "/max_tokens",
            json!("8k"),
            "max_tokens: is the text \"8k\", but a whole number, 0 or more, is expected",
        ),
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
            "max_context_ratio: is set beside max_tokens; keep one of the two",
        ),
        (
            "/max_context_ratio",
            json!(1.5),
            "max_context_ratio: 1.5 is not a share; set it over 0 and at most 1",
        ),
        ("/message_limit", json!(0), "message_limit: is 0; set at least 1, or remove it"),
        ("/context_size", json!(0), "context_size: is 0; set the model's context size in tokens"),
        ("/token_factor", json!(0.01), "token_factor: 0.01 is out of range; set it from 0.1 to 10"),
        ("/media_tokens", json!({"imag": 1}), "media_tokens.imag: "),
        (
            "/tokenizer",
            json!("words"),
            "tokenizer: unknown variant `words`, expected one of `estimate`, `o200k_base`, `cl100k_base`",
        ),
        (
            "/reminders",
            json!({"keep": 0}),
            "reminders.keep: is 0, so no reminder would ever be sent; set at least 1, or append no",
        ),
        ("/reminders", json!({"kep": 2}), "reminders.kep: unknown field `kep`"),
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
            "priority_blocks[1].priority: 300 is not a whole number from 0 to 255",
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
        (
            "/token_allocation/system",
            Value::Null,
            "token_allocation: missing field `system`; add it",
        ),
        (
            "/content_shares",
            json!({"x": "middle"}),
            "content_shares.x: unknown variant `middle`, expected one of `short_term`, `long_term`, `system`",
        ),
        (
            "/flushing_strategy/type",
            json!(""),
            "flushing_strategy.type: is empty; choose fifo, priority, hybrid_summary, clear_tool_results or the name of a registered strategy",
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
        (
            "/lock/ttl",
            json!(30),
            "lock.ttl: 30 has no unit; write 30s for seconds, or another unit as in 10m, 24h or 7d",
        ),
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
        ("/lock/max_turn", json!("0s"), "lock.max_turn: is zero; set some time, such as 60s"),
        (
            "/lock/failure_timeout",
            json!("0s"),
            "lock.failure_timeout: is zero; set some time, such as 10s",
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
            "circuit_breaker.failure_threshold: -1 is not a whole number in range",
        ),
        (
            "/circuit_breaker/reset_timeout",
            json!("0s"),
            "circuit_breaker.reset_timeout: is zero, so an open breaker would refuse nothing; set",
        ),
        (
            "/circuit_breaker/reset_timeout",
            json!(10),
            "circuit_breaker.reset_timeout: 10 has no unit; write 10s for seconds",
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
            "persistence.ttl: is zero, so nothing would be kept; remove it to keep the memory forever",
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
        (
            "/privacy_policy/redact_presets",
            json!(["email", "ip4"]),
            "privacy_policy.redact_presets[1]: unknown variant `ip4`; did you mean `ipv4`?",
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
