//! Validation of a resource.

use std::collections::HashSet;
use std::time::Duration;

use super::duration::display;
use super::{
    ArchiveKeep, FlushingStrategy, MAX_REDACT_PATTERNS, MemoryResource, ModelInfo, ResourceError,
};
use crate::flush_settings::FlushSettings;
use crate::lease::MIN_LEASE_TTL;
use crate::limits::Limits;

impl MemoryResource {
    /// Validates that this resource can work at run time.
    ///
    /// # Errors
    /// The first contradiction, with the path of the field and the remedy.
    pub fn validate(&self) -> Result<(), ResourceError> {
        if self.id.trim().is_empty() {
            return Err(self.refuse("id", "is empty; name the resource"));
        }
        if let Some(model) = &self.model
            && ModelInfo::of(model).is_none()
            && self.max_tokens.is_none()
            && (self.tokenizer.is_none() || self.context_size.is_none())
        {
            return Err(self.refuse(
                "model",
                format!(
                    "`{model}` is not known, so a share of its context cannot be worked out; set `max_tokens`, or `tokenizer` and `context_size`"
                ),
            ));
        }
        if let Some(factor) = self.token_factor
            && !(0.1..=10.0).contains(&factor)
        {
            return Err(self.refuse(
                "token_factor",
                format!("{factor} is out of range; set it from 0.1 to 10, such as 1.15"),
            ));
        }
        self.check_budget()?;
        self.check_blocks()?;
        self.check_allocation()?;
        self.check_lock()?;
        self.check_breaker()?;
        if self.open_call_timeout == Some(Duration::ZERO) {
            return Err(self.refuse(
                "open_call_timeout",
                "is zero, so every call would be abandoned at once; set some time, such as 10m",
            ));
        }
        if self.reminders.keep == 0 {
            return Err(self.refuse(
                "reminders.keep",
                "is 0, so no reminder would ever be sent; set at least 1, or append no reminders",
            ));
        }
        if self.persistence.ttl == Some(Duration::ZERO) {
            return Err(self.refuse(
                "persistence.ttl",
                "is zero, so nothing would be kept; remove it to keep the memory forever",
            ));
        }
        if self.archive.keep == ArchiveKeep::For(Duration::ZERO) {
            return Err(self.refuse("archive.keep", "is zero; write none to keep nothing"));
        }
        if self.archive.max_bytes == 0 {
            return Err(self.refuse(
                "archive.max_bytes",
                "is zero, so nothing would be kept; set some, such as 64MiB, or archive.keep to none",
            ));
        }
        if self.key.as_deref().is_some_and(|key| key.trim().is_empty()) {
            return Err(self.refuse(
                "key",
                "is empty; write a template such as {{ session.id }}, or remove it",
            ));
        }
        // Templates are parsed completely where they are rendered; only this check needs no parser.
        if let Some(key) = &self.key
            && key.matches("{{").count() != key.matches("}}").count()
        {
            return Err(self.refuse(
                "key",
                "has a brace that is not closed; write variables as {{ session.id }}",
            ));
        }
        self.check_limits()?;
        self.check_excluded_types()?;
        self.flush_settings()?;
        self.redactor()?;
        Ok(())
    }

    /// The validated settings of the flushing strategy.
    ///
    /// # Errors
    /// The first setting that is out of range or contradicts another.
    pub fn flush_settings(&self) -> Result<FlushSettings, ResourceError> {
        let FlushingStrategy { kind, .. } = &self.flushing_strategy;
        if kind.as_deref().is_some_and(|kind| kind.trim().is_empty()) {
            return Err(self.refuse(
                "flushing_strategy.type",
                "is empty; choose fifo, priority, hybrid_summary, clear_tool_results or the name of a registered strategy",
            ));
        }
        let budget = self.budget_tokens()?;
        FlushSettings::from_strategy(&self.flushing_strategy, budget).map_err(|error| {
            self.refuse(&format!("flushing_strategy.{}", error.field), error.remedy)
        })
    }

    fn check_budget(&self) -> Result<(), ResourceError> {
        if self.max_tokens == Some(0) {
            return Err(
                self.refuse("max_tokens", "is 0; give the memory room for at least one token")
            );
        }
        if self.message_limit == Some(0) {
            return Err(self.refuse("message_limit", "is 0; set at least 1, or remove it"));
        }
        if self.context_size == Some(0) {
            return Err(self.refuse("context_size", "is 0; set the model's context size in tokens"));
        }
        if let Some(ratio) = self.max_context_ratio
            && !(ratio > 0.0 && ratio <= 1.0)
        {
            return Err(self.refuse(
                "max_context_ratio",
                format!("{ratio} is not a share; set it over 0 and at most 1"),
            ));
        }
        let budget = self.budget_tokens()?;
        if let (Some(tokens), Some(context)) = (self.max_tokens, self.context_tokens())
            && tokens > context
        {
            return Err(self.refuse(
                "max_tokens",
                format!("{tokens} is more than the context holds ({context}); lower it"),
            ));
        }
        if let Some(window) = self.recent_window
            && window > budget
        {
            return Err(self.refuse(
                "recent_window",
                format!("{window} is more than the budget ({budget}); lower it"),
            ));
        }
        Ok(())
    }

    fn check_blocks(&self) -> Result<(), ResourceError> {
        let (mut priorities, mut types) = (HashSet::new(), HashSet::new());
        for (index, block) in self.priority_blocks.iter().enumerate() {
            let path = |field: &str| format!("priority_blocks[{index}].{field}");
            if !priorities.insert(block.priority) {
                return Err(self.refuse(
                    &path("priority"),
                    format!("{} has a block already; merge the two", block.priority),
                ));
            }
            if block.content_types.is_empty() {
                return Err(self.refuse(
                    &path("content_types"),
                    "is empty; name at least one type, or remove the block",
                ));
            }
            for content_type in &block.content_types {
                if !types.insert(content_type) {
                    return Err(self.refuse(
                        &path("content_types"),
                        format!("`{content_type}` is named twice; leave it in one block"),
                    ));
                }
            }
            if block.max_tokens == Some(0) {
                return Err(self.refuse(&path("max_tokens"), "is 0; set at least 1, or remove it"));
            }
        }
        Ok(())
    }

    fn check_allocation(&self) -> Result<(), ResourceError> {
        let Some(allocation) = self.token_allocation else {
            return match self.content_shares.keys().next() {
                Some(content_type) => Err(self.refuse(
                    &format!("content_shares.{content_type}"),
                    "has no effect without token_allocation; add that, or remove this",
                )),
                None => Ok(()),
            };
        };
        let shares = [
            ("short_term", allocation.short_term),
            ("long_term", allocation.long_term),
            ("system", allocation.system),
        ];
        for (name, ratio) in shares {
            if !(0.0..=1.0).contains(&ratio) {
                return Err(self.refuse(
                    &format!("token_allocation.{name}"),
                    format!("{ratio} is not a share; set it from 0 to 1"),
                ));
            }
        }
        let sum: f64 = shares.iter().map(|(_, ratio)| ratio).sum();
        // Decimal fractions add up inexactly: 0.7 + 0.2 + 0.1 is a little under 1.
        if sum > 1.0 + 1e-9 {
            return Err(self.refuse(
                "token_allocation",
                format!("the shares add up to {sum:.3}; lower them to 1 or less"),
            ));
        }
        Ok(())
    }

    fn check_limits(&self) -> Result<(), ResourceError> {
        let limits = self.limits;
        for (name, value) in [
            ("message_bytes", limits.message_bytes),
            ("nesting", u64::from(limits.nesting)),
            ("batch_messages", limits.batch_messages),
            ("batch_bytes", limits.batch_bytes),
        ] {
            if value == 0 {
                return Err(self.refuse(
                    &format!("limits.{name}"),
                    "is 0, so nothing could be appended; set at least 1, or remove it",
                ));
            }
        }
        if limits.nesting > Limits::MOST_NESTING {
            let most = Limits::MOST_NESTING;
            return Err(self.refuse(
                "limits.nesting",
                format!("{} is more than can be read back; set {most} or less", limits.nesting),
            ));
        }
        if limits.message_bytes > limits.batch_bytes {
            return Err(self.refuse(
                "limits.message_bytes",
                format!(
                    "{} is more than limits.batch_bytes ({}), and a message is a batch of one; lower it, or raise that",
                    limits.message_bytes, limits.batch_bytes,
                ),
            ));
        }
        let patterns = self.privacy_policy.redact_patterns.len();
        if patterns > MAX_REDACT_PATTERNS {
            return Err(self.refuse(
                "privacy_policy.redact_patterns",
                format!("has {patterns} patterns, over the limit of {MAX_REDACT_PATTERNS}; join some of them with `|`"),
            ));
        }
        Ok(())
    }

    fn check_lock(&self) -> Result<(), ResourceError> {
        let lock = self.lock;
        if lock.ttl < MIN_LEASE_TTL {
            return Err(self.refuse(
                "lock.ttl",
                format!(
                    "{} is too short for a lease; set at least 10ms, better 30s",
                    display(lock.ttl)
                ),
            ));
        }
        if lock.refresh_interval.is_zero() {
            return Err(self.refuse("lock.refresh_interval", "is zero; set up to half of the ttl"));
        }
        let half = lock.ttl / 2;
        if lock.refresh_interval > half {
            return Err(self.refuse(
                "lock.refresh_interval",
                format!(
                    "{} is more than half of the ttl ({}); set it to {} or less",
                    display(lock.refresh_interval),
                    display(lock.ttl),
                    display(half),
                ),
            ));
        }
        for (path, time, usual) in [
            ("lock.max_turn", lock.max_turn, "60s"),
            ("lock.failure_timeout", lock.failure_timeout, "10s"),
        ] {
            if time.is_zero() {
                return Err(self.refuse(path, format!("is zero; set some time, such as {usual}")));
            }
        }
        Ok(())
    }

    fn check_breaker(&self) -> Result<(), ResourceError> {
        let Some(breaker) = self.circuit_breaker else { return Ok(()) };
        let lock = self.lock;
        let (limit, wait) = if lock.wait_timeout <= lock.failure_timeout {
            ("lock.wait_timeout", lock.wait_timeout)
        } else {
            ("lock.failure_timeout", lock.failure_timeout)
        };
        if breaker.timeout.is_zero() {
            return Err(self.refuse(
                "circuit_breaker.timeout",
                "is zero, so no call could end in time; set some time, such as 2s",
            ));
        }
        // A write whose caller times out first does not count as a failure, so the breaker would never open.
        if breaker.timeout >= wait {
            return Err(self.refuse(
                "circuit_breaker.timeout",
                format!(
                    "{} is not less than {limit} ({}), after which a write is given up without being counted; lower it, or raise that",
                    display(breaker.timeout),
                    display(wait),
                ),
            ));
        }
        if breaker.failure_threshold == 0 {
            return Err(self.refuse(
                "circuit_breaker.failure_threshold",
                "is 0, so the breaker would open without a failure; set at least 1, better 5",
            ));
        }
        if breaker.reset_timeout.is_zero() {
            return Err(self.refuse(
                "circuit_breaker.reset_timeout",
                "is zero, so an open breaker would refuse nothing; set some time, such as 10s",
            ));
        }
        if breaker.success_threshold == 0 {
            return Err(self.refuse(
                "circuit_breaker.success_threshold",
                "is 0, so the breaker would close without a probe; set at least 1",
            ));
        }
        Ok(())
    }

    fn refuse(&self, path: &str, problem: impl Into<String>) -> ResourceError {
        ResourceError::field(&self.id, path, problem)
    }
}
