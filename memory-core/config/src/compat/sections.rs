//! Persistence, leases and privacy.

use serde_json::{Map, Value};

use super::{Reader, duration, is_there, lease_of, take};
use crate::note::NoteKind;
use crate::report::shown_id;

impl Reader<'_> {
    pub(super) fn read_persistence(&mut self) {
        let Some(mut block) = self.take_block("persistence") else { return };
        if let Some(breaker) = take(&mut block, "circuit_breaker") {
            self.read_breaker(breaker);
        }
        let is_zero = block.get("ttl").is_some_and(|ttl| {
            ttl.as_f64() == Some(0.0)
                || ttl.as_str().is_some_and(|text| text.trim() == "0")
                || duration(ttl).is_some_and(|ttl| ttl.is_zero())
        });
        if is_zero {
            block.remove("ttl");
            let text = "0 means no TTL, which is the default";
            self.note(NoteKind::NoEffect, "persistence.ttl", text);
        }
        self.put_block("persistence", block);
    }

    fn read_breaker(&mut self, breaker: Value) {
        const NATIVE: &str = "circuit_breaker";
        const WRITTEN: &str = "persistence.circuit_breaker";
        if is_there(&self.fields, NATIVE) {
            return self.refuse_both(WRITTEN, NATIVE);
        }
        let Value::Object(mut breaker) = breaker else {
            return self.refuse_type(
                WRITTEN,
                &breaker,
                "a mapping with `timeout`, `max_failures` and `reset_timeout`",
            );
        };
        match take(&mut breaker, "enabled") {
            None | Some(Value::Bool(true)) => {
                self.rename_in(
                    &mut breaker,
                    (WRITTEN, NATIVE),
                    "max_failures",
                    "failure_threshold",
                );
                self.fields.insert(NATIVE.to_owned(), breaker.into());
                self.mapped(WRITTEN, NATIVE);
            }
            Some(Value::Bool(false)) => {
                self.note(
                    NoteKind::Mapped,
                    WRITTEN,
                    "is not enabled, and read as no circuit breaker",
                );
            }
            Some(other) => {
                let path = format!("{WRITTEN}.enabled");
                self.refuse_type(&path, &other, "true or false");
            }
        }
    }

    pub(super) fn read_locking(&mut self) {
        const BLOCK: &str = "locking";
        let Some(locking) = take(&mut self.fields, BLOCK) else { return };
        if is_there(&self.fields, "lock") {
            return self.refuse_both(BLOCK, "lock");
        }
        let Value::Object(mut locking) = locking else {
            return self.refuse_type(BLOCK, &locking, "a mapping with `append_ttl`");
        };
        if let Some(ttl) = take(&mut locking, "append_ttl") {
            let mut lock = Map::new();
            if let Some(mut settings) = lease_of(&ttl).filter(|it| !it.ttl.is_zero()) {
                settings.refresh_interval = settings.ttl / 2;
                if let Ok(written) = serde_json::to_value(settings)
                    && let Some(interval) = written.get("refresh_interval")
                {
                    lock.insert("refresh_interval".to_owned(), interval.clone());
                }
            }
            lock.insert("ttl".to_owned(), ttl);
            self.fields.insert("lock".to_owned(), lock.into());
            self.mapped("locking.append_ttl", "lock.ttl");
        }
        for (name, _) in locking {
            let path = format!("{BLOCK}.{}", shown_id(&name));
            match name.as_str() {
                "clear_ttl" | "flush_ttl" => {
                    let text = "leases are refreshed until the operation ends";
                    self.note(NoteKind::NoEffect, &path, text);
                }
                _ => self.refuse(&path, "is an unknown field; remove it"),
            }
        }
    }

    pub(super) fn read_privacy(&mut self) {
        const BLOCK: &str = "privacy_policy";
        let Some(mut block) = self.take_block(BLOCK) else { return };
        self.rename_in(&mut block, (BLOCK, BLOCK), "default_redaction_string", "replacement");
        self.put_block(BLOCK, block);
    }
}
