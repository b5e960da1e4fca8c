//! The flushing strategy.

use memory_core::MemoryResource;
use serde_json::{Map, Value};

use super::{Reader, STRATEGY, is_there};
use crate::note::NoteKind;
use crate::report::join;

/// The original flushes memories of more than ten messages, this library those of at least `min_messages`.
const MIN_MESSAGES: u64 = 11;

impl Reader<'_> {
    pub(super) fn read_flushing(&mut self) {
        if self.rename("flushing", STRATEGY) {
            self.flushing = "flushing";
        }
        if let Some(mut block) = self.take_block(STRATEGY) {
            self.read_strategy(&mut block);
            let names = (self.flushing, STRATEGY);
            self.rename_in(&mut block, names, "threshold", "summarize_threshold");
            self.read_percent(&mut block);
            self.put_block(STRATEGY, block);
        }
        self.read_summary_tokens();
        self.read_min_messages();
    }

    fn read_strategy(&mut self, block: &mut Map<String, Value>) {
        let path = join(self.flushing, "type");
        let kind = block.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
        let fifo = |block: &mut Map<String, Value>| block.insert("type".to_owned(), "fifo".into());
        match kind.as_str() {
            "simple_fifo" => {
                fifo(block);
                self.note(NoteKind::Mapped, &path, "read as `fifo`");
            }
            "lru" | "token_aware_lru" => {
                fifo(block);
                let text =
                    format!("`{kind}` is read as `fifo`: it removed the oldest messages too");
                self.note(NoteKind::Replaced, &path, text);
            }
            "token_count" | "message_count" | "time_based" => {
                block.remove("type");
                let problem =
                    format!("`{kind}` never worked; choose hybrid_summary, fifo or priority");
                self.refuse(&path, problem);
            }
            _ if self.flushing != STRATEGY && !is_there(block, "type") => {
                let text = "is missing, which was `simple_fifo`; it is read as `hybrid_summary`, which summarizes before it removes; write `fifo` to remove only";
                self.note(NoteKind::Replaced, &path, text);
            }
            _ => {}
        }
    }

    /// A percentage of the requirements, or a fraction of the later schema.
    fn read_percent(&mut self, block: &mut Map<String, Value>) {
        const FIELD: &str = "summarize_oldest_percent";
        let Some(Value::Number(number)) = block.get(FIELD) else { return };
        let is_later = self.flushing != STRATEGY;
        let percent = match number.as_f64() {
            Some(fraction) if number.is_f64() && fraction > 0.0 && fraction <= 1.0 => {
                fraction * 100.0
            }
            Some(1.0) if is_later => 100.0,
            Some(percent) if number.is_f64() && percent > 1.0 && percent <= 100.0 => percent,
            _ => return,
        };
        // From 0 to 100, so nothing is cut off.
        let percent = percent.round() as u8;
        block.insert(FIELD.to_owned(), percent.into());
        let path = join(self.flushing, FIELD);
        self.note(NoteKind::Mapped, &path, format!("read as {percent} percent"));
    }

    /// A summary that does not fit the flush target becomes as large as by default.
    fn read_summary_tokens(&mut self) {
        const FIELD: &str = "summary_tokens";
        let Some(block) = self.fields.get(STRATEGY).and_then(Value::as_object) else { return };
        let Some(tokens) = block.get(FIELD).and_then(Value::as_u64).filter(|tokens| *tokens > 0)
        else {
            return;
        };
        let mut rest = self.fields.clone();
        if let Some(block) = rest.get_mut(STRATEGY).and_then(Value::as_object_mut) {
            block.remove(FIELD);
        }
        // Without a valid rest there is no target.
        let Ok(rest) = MemoryResource::from_value(rest.into()) else { return };
        let (Ok(settings), Ok(policy)) = (rest.flush_settings(), rest.policy()) else { return };
        let target = settings.target_tokens(policy.max_tokens);
        if tokens < target {
            return;
        }
        let quarter = target / 4;
        if let Some(block) = self.fields.get_mut(STRATEGY).and_then(Value::as_object_mut) {
            if quarter > 0 {
                block.insert(FIELD.to_owned(), quarter.into());
            } else {
                block.remove(FIELD);
            }
        }
        let path = join(self.flushing, FIELD);
        let text = format!(
            "{tokens} does not fit the flush target of {target} tokens, and is read as {quarter}"
        );
        self.note(NoteKind::Replaced, &path, text);
    }

    fn read_min_messages(&mut self) {
        const FIELD: &str = "min_messages";
        if !self.is_old {
            return;
        }
        if !is_there(&self.fields, STRATEGY) {
            self.fields.insert(STRATEGY.to_owned(), Map::new().into());
        }
        let Some(block) = self.fields.get_mut(STRATEGY).and_then(Value::as_object_mut) else {
            return;
        };
        if is_there(block, FIELD) {
            return;
        }
        block.insert(FIELD.to_owned(), MIN_MESSAGES.into());
        let path = join(self.flushing, FIELD);
        let text = format!("{MIN_MESSAGES}, because more than 10 messages are needed for a flush");
        self.note(NoteKind::Mapped, &path, text);
    }
}
