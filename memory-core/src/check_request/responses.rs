//! OpenAI Responses.

mod items;
mod messages;

use std::collections::HashSet;

use self::items::{Effect, ItemForm};
use super::calls::{Calls, ToolKind};
use super::chat::arguments;
use super::check::{Check, Kind, optional, required};
use super::json::Json;
use super::rule::RequestRule;
use crate::profile::{Alphabet, NameForm};

/// The id of an item. (E continue#11494, codex#33176) The limit is that of `call_id`.
const ID: NameForm = NameForm::new(Alphabet::Word, 64);

pub(super) fn check<'t>(check: &mut Check<'t>, request: Json<'t>) {
    if let Some(input) = request.field("input").filter(|input| input.as_str().is_some()) {
        top_level(check, request);
        if input.as_str().is_some_and(|text| check.is_empty_text(text)) {
            check.report(RequestRule::EmptyContent, input);
        }
        return;
    }
    let Some(input) = check.list_field(request, "input") else { return };
    top_level(check, request);
    let is_stored = request.field("store").and_then(Json::as_bool) != Some(false);
    let mut links = Links { calls: Calls::new(), ids: HashSet::new(), reasoning: None, is_stored };
    // The request may answer calls of the stored history.
    links.calls.has_stored_calls = ["previous_response_id", "conversation"]
        .iter()
        .any(|key| request.field(key).is_some_and(|value| !value.is_null()))
        || input.items().any(|item| item.text("type") == Some("item_reference"));
    for (index, item) in input.items().enumerate() {
        links.item(check, item, index);
    }
    if let Some((reasoning, true)) = links.reasoning {
        check.report(RequestRule::ReasoningPlacement, reasoning);
    }
    links.calls.finish(check, None);
}

fn top_level<'t>(check: &mut Check<'t>, request: Json<'t>) {
    check.once(request, &["input", "instructions"]);
    if let Some(instructions) = request.field("instructions") {
        check.kind(instructions, Kind::Text);
        check.sent_text(instructions);
    }
}

/// The state between two items.
#[derive(Debug)]
struct Links<'t> {
    calls: Calls<'t>,
    ids: HashSet<&'t str>,
    /// The reasoning before this item, and whether it has an id.
    reasoning: Option<(Json<'t>, bool)>,
    is_stored: bool,
}

impl<'t> Links<'t> {
    fn item(&mut self, check: &mut Check<'t>, item: Json<'t>, index: usize) {
        if !item.is_object() {
            return check.report(RequestRule::Form, item);
        }
        let kind = item.field("type");
        if let Some(kind) = kind {
            check.kind(kind, Kind::Text);
        }
        let (prefix, effect) = match kind.and_then(Json::as_str) {
            // Messages may leave out their type.
            None if kind.is_some() => return,
            None | Some("message") => ("msg_", messages::message(check, item)),
            Some(name) => match ItemForm::of(name) {
                Some(form) => {
                    check.object(item, form.fields);
                    (form.prefix, form.effect)
                }
                None => return check.report(RequestRule::PartType, item),
            },
        };
        self.id(check, item, prefix);
        self.follow(check, item, effect);
        match effect {
            Effect::Call(kind) => self.call(check, item, kind, index),
            Effect::Output(kind) => self.output(check, item, kind),
            Effect::Reasoning => self.reasoning(check, item),
            Effect::Produced | Effect::Other => {}
        }
    }

    fn id(&mut self, check: &mut Check<'t>, item: Json<'t>, prefix: &str) {
        let Some(id) = item.field("id") else { return };
        let Some(text) = id.as_str() else { return };
        if !text.starts_with(prefix) || !ID.accepts(text) {
            check.report(RequestRule::ItemId, id);
        }
        // A reference repeats the id of a stored item, and the output of a local shell repeats that of its call.
        let names_another =
            matches!(item.text("type"), Some("item_reference" | "local_shell_call_output"));
        if !names_another && !self.ids.insert(text) {
            check.report(RequestRule::DuplicateItemId, id);
        }
    }

    /// A reasoning item with an id is followed by the item that it produced. If the reasoning has no
    /// id, that item has none either.
    fn follow(&mut self, check: &mut Check<'t>, item: Json<'t>, effect: Effect) {
        let is_product = matches!(effect, Effect::Call(_) | Effect::Produced | Effect::Reasoning);
        match self.reasoning.take() {
            Some((reasoning, true)) if !is_product => {
                check.report(RequestRule::ReasoningPlacement, reasoning);
            }
            Some((_, false)) if is_product && effect != Effect::Reasoning => {
                if let Some(id) = item.field("id") {
                    check.report(RequestRule::ItemId, id);
                }
            }
            _ => {}
        }
    }

    fn call(&mut self, check: &mut Check<'t>, item: Json<'t>, kind: ToolKind, index: usize) {
        check.function_name(item);
        if let (ToolKind::Function, Some(text)) = (kind, item.field("arguments")) {
            arguments(check, text);
        }
        if let Some(id) = item.field("call_id") {
            self.calls.call(check, kind, id, index);
            if let (ToolKind::LocalShell, Some(alias)) = (kind, item.text("id")) {
                self.calls.alias(alias);
            }
        }
    }

    fn output(&mut self, check: &mut Check<'t>, item: Json<'t>, kind: ToolKind) {
        let key = if kind == ToolKind::LocalShell { "id" } else { "call_id" };
        if let Some(id) = item.field(key) {
            self.calls.result(check, kind, id, None);
        }
        let Some(output) = item.field("output").filter(|output| output.is_array()) else { return };
        if matches!(kind, ToolKind::Function | ToolKind::Custom) {
            messages::output_parts(check, output);
        }
    }

    fn reasoning(&mut self, check: &mut Check<'t>, item: Json<'t>) {
        self.reasoning = Some((item, item.field("id").is_some()));
        let is_filled =
            |key| item.field(key).is_some_and(|list| list.is_array() && !list.is_empty());
        let is_encrypted = item.text("encrypted_content").is_some_and(|text| !text.is_empty());
        let is_empty = !is_encrypted && !is_filled("summary") && !is_filled("content");
        // Without storage, the provider does not find the item by its id.
        if is_empty || (!self.is_stored && !is_encrypted) {
            check.report(RequestRule::ReasoningForm, item);
        }
        for (list, kind) in [("summary", "summary_text"), ("content", "reasoning_text")] {
            for text in item.field(list).into_iter().flat_map(Json::items) {
                if text.text("type") == Some(kind) {
                    check.object(
                        text,
                        &[required("type", Kind::Text), optional("text", Kind::Text)],
                    );
                } else {
                    check.report(RequestRule::PartType, text);
                }
            }
        }
    }
}
