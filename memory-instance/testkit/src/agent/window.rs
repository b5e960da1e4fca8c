//! Reads of context windows.

use std::collections::HashSet;

use memory_core::plan::ToolRef;
use memory_core::{Message, Profile, Role, check_request};
use memory_instance::{ContextWindow, MemoryError};

use super::Run;
use crate::bug::Bug;
use crate::history::{Answer, Call, tag_of};
use crate::link::Reading;
use crate::run::Bytes;
use crate::violation::Check;

impl Run<'_> {
    /// The window as a planted bug of the facade would have it.
    fn spoil(&mut self, window: &mut ContextWindow) {
        let messages = &mut window.messages;
        let position = |role| messages.iter().position(|message| *message.role() == role);
        match self.process.link.bug() {
            Some(Bug::WindowSplitsUnit) => {
                if let Some(result) = position(Role::Tool) {
                    messages.remove(result.saturating_sub(1));
                }
            }
            Some(Bug::WindowReversed) => messages.reverse(),
            Some(Bug::WindowDoubled) => messages.extend(messages.first().cloned()),
            Some(Bug::WindowWithoutCritical) => {
                if let Some(critical) = position(Role::System) {
                    messages.remove(critical);
                }
            }
            Some(Bug::WindowEmpty) => messages.clear(),
            // Without a result its call would be incomplete.
            Some(Bug::WindowWithoutNewest) if messages.len() > 1 => {
                messages.pop_if(|newest| *newest.role() == Role::User);
            }
            Some(Bug::WindowOfOld) => {
                messages.clone_from(self.first_window.get_or_insert_with(|| messages.clone()));
            }
            _ => {}
        }
    }

    pub(super) async fn context(&mut self, budget: u64) {
        let op = self.recorder.call(self.key, Call::Window(budget, None));
        let window = Reading::Window.run(self.memory.context(budget)).await;
        self.told(window.as_ref().err());
        let window = match window {
            Err(MemoryError::Context { .. }) => {
                return self.recorder.answer(op, Answer::NoWindow);
            }
            Ok(_) if self.process.link.bug() == Some(Bug::WindowRefused) => {
                return self.recorder.answer(op, Answer::NoWindow);
            }
            window => window,
        };
        let Ok(mut window) = window else { return };
        self.spoil(&mut window);
        let counted = window.request().count_tokens(&Bytes);
        if counted > budget || counted != window.tokens {
            let what = format!("{counted} tokens in a window of {budget}");
            self.recorder.history().broken(Check::WindowTooLarge, what);
        }
        let request = window.request();
        let checked = check_request(&request.to_string(), &Profile::openai_chat());
        if let (Err(error), false) = (checked, request.messages().is_empty()) {
            self.recorder.history().broken(Check::WindowUnpaired, format!("a window: {error}"));
        }
        if let Some(id) = stray_result(&window.messages) {
            self.recorder.history().broken(Check::WindowUnpaired, format!("a result of {id}"));
        }
        let shown = window.messages.iter().map(tag_of).collect();
        let mut end = end_of(&window);
        if self.process.link.bug() == Some(Bug::WindowVersionLater)
            && let Ok(later) = self.memory.version().await
        {
            end = later.cursor().sequence.number();
        }
        self.recorder.answer(op, Answer::Window(shown, Some(end)));
    }
}

/// The place of the newest message of a window's version.
pub(super) const fn end_of(window: &ContextWindow) -> u64 {
    window.version().cursor().sequence.number()
}

/// The id of a result whose call is not before it.
fn stray_result(messages: &[Message]) -> Option<Box<str>> {
    let mut calls = HashSet::new();
    for message in messages {
        let link = message.tool_link();
        if let Some(stray) = link.results.iter().find(|result| !calls.contains(*result)) {
            return Some(stray.label().into());
        }
        calls.extend(link.calls.iter().map(|call| ToolRef::by_id(&*call.id)));
    }
    None
}
