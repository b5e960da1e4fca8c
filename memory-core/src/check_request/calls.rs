//! Links results to calls.

use std::collections::HashMap;

use super::check::Check;
use super::json::Json;
use super::rule::RequestRule;

/// The calls of a request and their results, linked by id.
///
/// One map for the whole request: each call and each result costs one lookup.
#[derive(Debug)]
pub(super) struct Calls<'t> {
    by_id: HashMap<&'t str, usize>,
    calls: Vec<Call>,
    /// Whether results may answer calls that are stored by the provider.
    pub(super) has_stored_calls: bool,
}

#[derive(Debug, Clone, Copy)]
struct Call {
    node: usize,
    /// The message or step in which the call is made.
    step: usize,
    kind: ToolKind,
    is_answered: bool,
}

/// The kind of a call, which its results must match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ToolKind {
    Function,
    Custom,
    Computer,
    LocalShell,
    Shell,
    ApplyPatch,
    /// Executed by the provider: call and result are in one message.
    Server,
}

impl<'t> Calls<'t> {
    pub(super) fn new() -> Self {
        Self { by_id: HashMap::new(), calls: Vec::new(), has_stored_calls: false }
    }

    /// A call that was made in this step. Its id must be new.
    pub(super) fn call(
        &mut self,
        check: &mut Check<'t>,
        kind: ToolKind,
        id: Json<'t>,
        step: usize,
    ) {
        let Some(text) = id.as_str() else { return };
        if !check.profile.call_id.accepts(text) {
            check.report(RequestRule::CallId, id);
        }
        let call = Call { node: id.at(), step, kind, is_answered: false };
        if let Some(known) = self.by_id.get(text).and_then(|index| self.calls.get(*index)) {
            check.report(RequestRule::DuplicateCallId, id);
            // One result then answers both calls, so that only the repeated id is reported.
            if known.step == step {
                return;
            }
        }
        self.by_id.insert(text, self.calls.len());
        self.calls.push(call);
    }

    /// A second id by which results can name the last call.
    pub(super) fn alias(&mut self, id: &'t str) {
        if let Some(last) = self.calls.len().checked_sub(1) {
            self.by_id.entry(id).or_insert(last);
        }
    }

    /// A result. `step` is the step whose calls it may answer; `None` allows any earlier one.
    ///
    /// A result whose id has a wrong form is reported only if its call was not, because both have the same id.
    pub(super) fn result(
        &mut self,
        check: &mut Check<'t>,
        kind: ToolKind,
        id: Json<'t>,
        step: Option<usize>,
    ) {
        let Some(text) = id.as_str() else { return };
        let call = self.by_id.get(text).and_then(|index| self.calls.get_mut(*index));
        match call.filter(|call| call.kind == kind) {
            None => {
                if !check.profile.call_id.accepts(text) {
                    check.report(RequestRule::CallId, id);
                }
                if !self.has_stored_calls {
                    check.report(RequestRule::OrphanResult, id);
                }
            }
            Some(call) if call.is_answered => check.report(RequestRule::DuplicateResult, id),
            Some(call) => {
                call.is_answered = true;
                if step.is_some_and(|step| step != call.step) {
                    check.report(RequestRule::ResultPlacement, id);
                }
            }
        }
    }

    /// Reports the calls without results, except those in `paused` that the provider executes, because it continues
    /// them.
    pub(super) fn finish(&self, check: &mut Check<'t>, paused: Option<usize>) {
        for call in self.calls.iter().filter(|call| !call.is_answered) {
            if call.kind != ToolKind::Server || paused != Some(call.step) {
                check.report_node(RequestRule::UnansweredCall, call.node);
            }
        }
    }
}
