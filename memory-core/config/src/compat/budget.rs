//! The type of a memory, its budget, and the model that counts it.

use memory_core::resource::ModelInfo;
use serde_json::{Map, Value};

use super::{Reader, is_there, take};
use crate::note::NoteKind;
use crate::report::{shown_id, type_of};

/// The budget of a memory that only a number of messages limits.
const UNLIMITED: u64 = 1_000_000_000;

/// The budget that the original assumes beside a message limit.
const ASSUMED_TOKENS: u64 = 4_000;

/// The context size that the original assumes of an unknown model.
const ASSUMED_CONTEXT: u64 = 4_096;

impl Reader<'_> {
    /// Of the provider that counts tokens, only the name of the model has a meaning here.
    pub(super) fn read_token_provider(&mut self) {
        const BLOCK: &str = "token_provider";
        let Some(provider) = take(&mut self.fields, BLOCK) else { return };
        let Value::Object(mut provider) = provider else {
            return self.refuse_type(BLOCK, &provider, "a mapping with `model`");
        };
        if let Some(key) = take(&mut provider, "api_key") {
            let is_clear = !key.as_str().is_some_and(|text| {
                text.trim_start().starts_with("{{") || text.trim_start().starts_with("${")
            });
            let path = "token_provider.api_key";
            if is_clear {
                self.refuse(
                    path,
                    "is a secret in clear text; remove it, because tokens are counted without it, and revoke it if others can read this document",
                );
            } else {
                self.without_effect(path);
            }
        }
        match take(&mut provider, "model") {
            None => {}
            Some(Value::String(model)) => self.read_provider_model(model),
            Some(other) => {
                self.refuse_type("token_provider.model", &other, "the name of a model");
            }
        }
        for (name, _) in provider {
            let path = format!("{BLOCK}.{}", shown_id(&name));
            match name.as_str() {
                "provider" | "api_key_env" | "endpoint" | "fallback" | "settings" => {
                    self.without_effect(&path);
                }
                _ => self.refuse(&path, "is an unknown field; remove it"),
            }
        }
    }

    fn without_effect(&mut self, path: &str) {
        self.note(
            NoteKind::NoEffect,
            path,
            "tokens are counted in this process, without a request",
        );
    }

    fn read_provider_model(&mut self, model: String) {
        let path = "token_provider.model";
        if is_there(&self.fields, "model") {
            return self.refuse_both(path, "model");
        }
        if ModelInfo::of(&model).is_some() {
            self.fields.insert("model".to_owned(), model.into());
            return self.mapped(path, "model");
        }
        if !is_there(&self.fields, "tokenizer") {
            self.fields.insert("tokenizer".to_owned(), "estimate".into());
        }
        let text = format!("`{}` is not known, so its tokens are estimated", shown_id(&model));
        self.note(NoteKind::Replaced, path, text);
    }

    pub(super) fn read_type(&mut self) {
        let kind = self.fields.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
        match kind.as_str() {
            "message_count_based" | "buffer" => {
                self.fields.remove("type");
                let has_limit = is_there(&self.fields, "message_limit");
                let has_budget = is_there(&self.fields, "max_tokens")
                    || is_there(&self.fields, "max_context_ratio");
                if !has_budget {
                    let most = self.context().unwrap_or(UNLIMITED);
                    self.fields.insert("max_tokens".to_owned(), UNLIMITED.min(most).into());
                }
                if has_limit {
                    let budget =
                        if has_budget { "its budget" } else { "a budget that is never reached" };
                    let text = format!(
                        "`{kind}` is read as `token_based` with the message limit and {budget}"
                    );
                    self.note(NoteKind::Replaced, "type", text);
                } else {
                    let problem = format!("`{kind}` needs a message limit; set `message_limit`");
                    self.refuse("type", problem);
                }
            }
            "context" | "summary" => {
                self.fields.remove("type");
                let problem = format!("`{kind}` was never implemented; write `token_based`");
                self.refuse("type", problem);
            }
            _ => {}
        }
    }

    /// The context size, if the resource says or implies one.
    fn context(&self) -> Option<u64> {
        let size = self.fields.get("context_size").and_then(Value::as_u64);
        let model = || ModelInfo::of(self.fields.get("model")?.as_str()?);
        size.or_else(|| Some(model()?.context_size))
    }

    pub(super) fn read_budget(&mut self, agent_models: &[&str]) {
        const RATIO: &str = "max_context_ratio";
        let has_tokens = is_there(&self.fields, "max_tokens");
        match (has_tokens, is_there(&self.fields, RATIO)) {
            (true, true) => {
                self.fields.remove(RATIO);
                self.note(NoteKind::NoEffect, RATIO, "`max_tokens` is set, and decides");
            }
            (false, true) => {
                // A native model that is not known is refused as such.
                if self.context().is_some()
                    || is_there(&self.fields, "context_size")
                    || is_there(&self.fields, "model")
                {
                    return;
                }
                let known = agent_models.iter().filter_map(|model| ModelInfo::of(model));
                let (size, why) = match known.map(|model| model.context_size).min() {
                    Some(size) => (size, "the smallest context of the agents that use the memory"),
                    None => (
                        ASSUMED_CONTEXT,
                        "because no model is known; set `model` or `context_size`",
                    ),
                };
                self.fields.insert("context_size".to_owned(), size.into());
                let text = format!("is read as a share of {size} tokens, {why}");
                self.note(NoteKind::Replaced, RATIO, text);
            }
            (false, false) if is_there(&self.fields, "message_limit") => {
                self.fields.insert("max_tokens".to_owned(), ASSUMED_TOKENS.into());
                let text =
                    format!("is missing beside a message limit, and read as {ASSUMED_TOKENS}");
                self.note(NoteKind::Replaced, "max_tokens", text);
            }
            (_, false) => {}
        }
    }

    pub(super) fn read_allocation(&mut self) {
        const BLOCK: &str = "token_allocation";
        const CUSTOM: &str = "token_allocation.user_defined";
        const NAMES: [&str; 3] = ["short_term", "long_term", "system"];
        let Some(mut block) = self.take_block(BLOCK) else { return };
        let custom = take(&mut block, "user_defined");
        let has_custom = custom.is_some();
        let custom = match custom {
            None => 0.0,
            Some(custom) => match sum_of(&custom) {
                Some(sum) => sum,
                None => {
                    self.refuse(
                        CUSTOM,
                        format!(
                            "is {}; write a mapping of names to shares from 0 to 1",
                            type_of(&custom)
                        ),
                    );
                    return self.put_block(BLOCK, block);
                }
            },
        };
        if has_custom {
            self.note(
                NoteKind::NoEffect,
                CUSTOM,
                "custom shares never had an effect; `content_shares` assigns content types to the three shares",
            );
        }
        let shares: Vec<f64> =
            NAMES.iter().filter_map(|name| block.get(*name).and_then(Value::as_f64)).collect();
        let sum = shares.iter().sum::<f64>() + custom;
        // The original tolerates 0.001, in whatever way the sum was rounded.
        if shares.len() == NAMES.len() && sum > 1.0 + 1e-9 {
            if sum <= 1.001 + 1e-9 {
                for (name, share) in NAMES.iter().zip(shares) {
                    block.insert((*name).to_owned(), (share / sum).into());
                }
                self.note(
                    NoteKind::Replaced,
                    BLOCK,
                    format!("the shares add up to {sum:.4}, and are scaled down to 1"),
                );
            } else if has_custom {
                self.refuse(BLOCK, format!("the shares add up to {sum:.3} with those of `user_defined`; lower them to 1 or less"));
            }
        }
        self.put_block(BLOCK, block);
    }
}

/// The sum of a mapping of shares.
fn sum_of(shares: &Value) -> Option<f64> {
    let shares: &Map<String, Value> = shares.as_object()?;
    let shares =
        shares.values().map(|share| share.as_f64().filter(|share| (0.0..=1.0).contains(share)));
    shares.sum()
}
