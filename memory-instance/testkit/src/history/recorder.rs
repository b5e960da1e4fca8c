//! Recording operations while they run.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Answer, Call, Caller, History, OfMemory};
use crate::linear::Operation;
use crate::run::elapsed_micros;

/// Records events.
#[derive(Debug, Default)]
pub(crate) struct Recorder(Mutex<History>);

impl Recorder {
    pub(crate) fn history(&self) -> MutexGuard<'_, History> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records the start of an operation. Its outcome is unknown until it is answered.
    pub(crate) fn call(&self, key: usize, call: Call) -> usize {
        let caller = Caller::now();
        debug_assert!(caller.is_some(), "no agent calls {call:?}");
        self.call_of(caller.unwrap_or(Caller::Server), key, call)
    }

    /// The same for an operation of this caller.
    pub(crate) fn call_of(&self, caller: Caller, key: usize, call: Call) -> usize {
        let mut history = self.history();
        let called = history.tick();
        history.trace.push(format!("{} k{key} {call:?}", elapsed_micros()));
        let operation = Operation { call, called, returned: None };
        history.operations.push(OfMemory { key, caller, operation });
        history.operations.len() - 1
    }

    /// Records its answer.
    pub(crate) fn answer(&self, index: usize, answer: Answer) {
        let mut history = self.history();
        let at = history.tick();
        history.trace.push(format!("{} #{index} {answer:?}", elapsed_micros()));
        if let Some(one) = history.operations.get_mut(index) {
            one.operation.returned = Some((at, answer));
        }
    }

    /// Records that it was not applied, so that its messages must not be seen.
    pub(crate) fn refused(&self, index: usize) {
        let call = self.strike_out(index);
        if let Some(Call::Append { pieces, .. } | Call::ReplaceAll { pieces, .. }) = call {
            self.history().refused.extend(pieces.iter().map(|piece| piece.tag));
        }
    }

    /// Records that it was not applied, but may be applied when it is sent again.
    pub(crate) fn strike_out(&self, index: usize) -> Option<Call> {
        let mut history = self.history();
        let at = history.tick();
        history.trace.push(format!("{} #{index} not applied", elapsed_micros()));
        let operation = &mut history.operations.get_mut(index)?.operation;
        operation.returned = Some((at, Answer::Nothing));
        Some(std::mem::replace(&mut operation.call, Call::Nothing))
    }

    pub(crate) fn note(&self, line: impl fmt::Display) {
        self.history().trace.push(format!("{} {line}", elapsed_micros()));
    }
}
