//! The records of exclusions and redactions.

use memory_core::resource::{ExclusionReason, Redactions};

use super::{AuditEvent, AuditOperation, AuditOutcome, TARGET, is_received};
use crate::inner::Inner;

impl Inner {
    /// Records messages that are not stored, or not with their contents: each once.
    pub(crate) fn record_exclusions(&self, reasons: &[ExclusionReason]) {
        if reasons.is_empty() {
            return;
        }
        for reason in reasons {
            self.rules.telemetry.excluded(*reason);
        }
        if !is_received(self) {
            return;
        }
        let mut event = AuditEvent::of(self, AuditOperation::Exclude, AuditOutcome::Applied);
        event.messages = 1;
        for reason in reasons {
            event.reason = Some(*reason);
            tracing::info!(
                target: TARGET,
                event = "exclusion",
                operation = event.operation.as_str(),
                outcome = event.outcome.as_str(),
                project = %event.project,
                memory_id = %event.memory_id,
                key_hash = %event.key_hash,
                messages = event.messages,
                reason = reason.as_str(),
            );
            event.send(self);
        }
    }

    /// Records what was replaced in this number of messages.
    pub(crate) fn record_redactions(&self, messages: u64, redactions: &Redactions) {
        if redactions.is_empty() {
            return;
        }
        // Texts outside of messages count too.
        self.rules.telemetry.redacted(messages.max(1));
        if !is_received(self) {
            return;
        }
        let mut event = AuditEvent::of(self, AuditOperation::Redact, AuditOutcome::Applied);
        event.messages = messages;
        event.matches = redactions.replaced();
        event.patterns = redactions.patterns();
        event.presets = redactions.presets();
        let presets: Vec<_> = event.presets.iter().map(|preset| preset.name()).collect();
        tracing::info!(
            target: TARGET,
            event = "redaction",
            operation = event.operation.as_str(),
            outcome = event.outcome.as_str(),
            project = %event.project,
            memory_id = %event.memory_id,
            key_hash = %event.key_hash,
            messages,
            matches = event.matches,
            patterns = ?event.patterns,
            presets = %presets.join(","),
        );
        event.send(self);
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error;
    use std::sync::{Arc, Mutex};

    use memory_core::resource::RedactPreset;
    use memory_core::{ContentType, Entry, MemoryResource, Message};
    use memory_flush::{SummarizeError, from_fn};

    use super::*;
    use crate::audit::AuditSink;
    use crate::{FlushMode, MemoryManager};

    #[derive(Debug, Default)]
    struct Kept(Mutex<Vec<String>>);

    impl AuditSink for Kept {
        fn record(&self, event: &AuditEvent<'_>) -> Result<(), Box<dyn Error + Send + Sync>> {
            let mut json = serde_json::to_value(event)?;
            for field in ["outcome", "project", "memory_id", "key_hash", "tokens"] {
                json.as_object_mut().unwrap().remove(field).unwrap();
            }
            self.0.lock().unwrap().push(json.to_string());
            Err("the sink is full".into())
        }
    }

    #[tokio::test]
    async fn each_exclusion_and_redaction_is_recorded() {
        let kept = Arc::new(Kept::default());
        let mut resource = MemoryResource::new("m", 400);
        let policy = &mut resource.privacy_policy;
        policy.non_persistable_message_types = vec!["pin".into()];
        policy.redact_patterns = vec!["q{3}".into(), "needle".into()];
        policy.redact_presets = vec![RedactPreset::Email];
        let broken = from_fn("broken", |_| async { Err(SummarizeError::new("a needle")) });
        let manager = MemoryManager::builder()
            .with_resource(resource)
            .with_summarizer(broken)
            .with_flush_mode(FlushMode::Manual)
            .with_audit_sink(Arc::clone(&kept) as _);
        let memory = manager.open("memory://").await.unwrap().memory("m", "k").unwrap();
        let lines = || std::mem::take(&mut *kept.0.lock().unwrap());
        let pin = ContentType::from("pin");
        let batch = [
            Entry::new(Message::user("secret")).do_not_persist(),
            Entry::new(Message::tool_result("c", "secret")).with_content_type(pin),
            Message::user("a needle and a needle of ann@example.com").into(),
            Message::user("nothing").into(),
            Message::user("needle").into(),
        ];
        let prepared = memory.prepare(batch).unwrap();
        assert_eq!(
            lines(),
            [
                r#"{"messages":1,"operation":"exclude","reason":"flag"}"#,
                r#"{"messages":1,"operation":"exclude","reason":"type"}"#,
                r#"{"matches":4,"messages":2,"operation":"redact","patterns":[1],"presets":["email"]}"#,
            ]
        );
        for _ in 0..2 {
            memory.send(&prepared).await.unwrap();
            assert_eq!(lines(), [r#"{"messages":4,"operation":"append"}"#]);
        }
        // A batch that is refused excludes and redacts nothing.
        let long = Message::user("needle ".repeat(1_000));
        let refused = [Entry::new(Message::user("secret")).do_not_persist(), long.into()];
        memory.append_all(refused).await.unwrap_err();
        assert!(lines().is_empty());
        for number in 0..40 {
            memory.append(Message::user(format!("message {number} of a talk"))).await.unwrap();
        }
        lines();
        memory.perform_flush().await.unwrap().unwrap();
        let flushed = lines();
        assert_eq!(flushed.len(), 2);
        assert_eq!(flushed[0], r#"{"matches":1,"messages":1,"operation":"redact","patterns":[1]}"#);
    }
}
