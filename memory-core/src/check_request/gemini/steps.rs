//! Links responses to calls: by id if both have one, else by name.

use std::collections::HashMap;

use crate::check_request::check::Check;
use crate::check_request::json::Json;
use crate::check_request::rule::RequestRule;

/// The calls of the last step, and those that are answered.
#[derive(Debug)]
pub(super) struct Steps<'t> {
    /// The content with the calls.
    content: Option<(Json<'t>, usize)>,
    /// Whether each id is answered. Empty if a call has no id.
    by_id: HashMap<&'t str, bool>,
    /// The number of open calls with each name.
    by_name: HashMap<&'t str, usize>,
    open: usize,
}

impl<'t> Steps<'t> {
    pub(super) fn new() -> Self {
        Self { content: None, by_id: HashMap::new(), by_name: HashMap::new(), open: 0 }
    }

    /// Begins a step with the calls of this content.
    pub(super) fn calls(&mut self, check: &mut Check<'t>, content: Json<'t>, index: usize) {
        self.finish(check);
        self.by_id.clear();
        self.by_name.clear();
        self.content = Some((content, index));
        for call in bodies(content, "functionCall", "function_call") {
            self.open += 1;
            *self.by_name.entry(call.text("name").unwrap_or_default()).or_default() += 1;
            if let Some(id) = call.field("id")
                && let Some(text) = id.as_str()
            {
                check.name(id, check.profile.call_id, RequestRule::CallId);
                if self.by_id.insert(text, false).is_some() {
                    check.report(RequestRule::DuplicateCallId, id);
                }
            }
        }
        if self.by_id.len() < self.open {
            self.by_id.clear();
        }
    }

    /// The responses of this content.
    pub(super) fn results(&mut self, check: &mut Check<'t>, content: Json<'t>, index: usize) {
        let Some((_, step)) = self.content else {
            for response in bodies(content, "functionResponse", "function_response") {
                check.report(RequestRule::OrphanResult, response);
            }
            return;
        };
        if step + 1 != index {
            check.report(RequestRule::ResultPlacement, content);
        }
        for response in bodies(content, "functionResponse", "function_response") {
            self.result(check, response);
        }
    }

    fn result(&mut self, check: &mut Check<'t>, response: Json<'t>) {
        let id = response.text("id").filter(|_| !self.by_id.is_empty());
        let name = response.text("name").unwrap_or_default();
        if let Some(id) = id {
            match self.by_id.get_mut(id) {
                None => return check.report(RequestRule::OrphanResult, response),
                Some(true) => return check.report(RequestRule::DuplicateResult, response),
                Some(answered) => *answered = true,
            }
        }
        match self.by_name.get_mut(name) {
            None => check.report(RequestRule::OrphanResult, response),
            Some(0) => check.report(RequestRule::DuplicateResult, response),
            Some(open) => {
                *open -= 1;
                self.open = self.open.saturating_sub(1);
            }
        }
    }

    /// Reports the content of the last step, once for each call that has no response.
    pub(super) fn finish(&mut self, check: &mut Check<'t>) {
        if let Some((content, _)) = self.content.take() {
            for _ in 0..self.open {
                check.report(RequestRule::UnansweredCall, content);
            }
        }
        self.open = 0;
    }
}

fn bodies<'t>(content: Json<'t>, camel: &str, snake: &str) -> impl Iterator<Item = Json<'t>> {
    let parts = content.field("parts").into_iter().flat_map(Json::items);
    parts.filter_map(move |part| part.field(camel).or_else(|| part.field(snake)))
}
