//! Fitting calls of tools that the caller runs.

use super::Fit;
use crate::dialect::{CallKind, CallPart, Dialect};
use crate::profile::ProfileName;
use crate::render::repair::RepairKind;
use crate::stored::Sequence;

impl Fit<'_> {
    pub(super) fn call(
        &mut self,
        call: &mut CallPart<'_>,
        sequence: Option<Sequence>,
        changed: &mut bool,
    ) {
        let is_native = self.is_native(call.native);
        let keeps_kind = match call.kind {
            CallKind::Function => true,
            CallKind::LegacyFunction => {
                self.profile.function_role && self.dialect == Dialect::Chat && call.id.is_none()
            }
            CallKind::Custom => {
                matches!(self.profile.name, ProfileName::OpenaiChat | ProfileName::OpenaiResponses)
            }
            CallKind::Native(_) => is_native && self.dialect == Dialect::Responses,
        };
        if !keeps_kind {
            if let (CallKind::Native(kind), true) = (call.kind, call.name.is_empty()) {
                call.name = kind;
            }
            call.kind = CallKind::Function;
            *changed = true;
        }
        let is_object = |key: &str| {
            call.native.is_some_and(|native| {
                let inner = ["toolUse", "functionCall", "function_call"]
                    .iter()
                    .find_map(|wrap| native.json.get(wrap))
                    .unwrap_or(native.json);
                inner.get(key).map_or(key == "args", |value| value.as_object().is_some())
            })
        };
        let is_text = |key: &str| {
            call.native.is_some_and(|native| {
                native.json.get(key).is_some_and(|value| value.as_str().is_some())
            })
        };
        let keeps_native = is_native
            && keeps_kind
            && match self.dialect {
                Dialect::Chat | Dialect::AiSdk => false,
                Dialect::Anthropic | Dialect::Bedrock => is_object("input"),
                Dialect::Gemini => is_object("args"),
                Dialect::Responses => match call.kind {
                    CallKind::Native(_) => true,
                    CallKind::Custom => is_text("input"),
                    _ => is_text("arguments"),
                },
            };
        if !keeps_native {
            let was_chat = call.native.is_some_and(|native| native.dialect == Dialect::Chat);
            // A chat call is rebuilt with the same name and arguments.
            *changed |= !(was_chat && self.dialect == Dialect::Chat);
            call.native = None;
        }
        if call.name.is_empty() && !matches!(call.kind, CallKind::Native(_)) {
            call.name = "tool";
            *changed = true;
            self.repairs.add(RepairKind::FunctionName, sequence);
        }
    }
}
