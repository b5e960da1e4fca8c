//! Messages whose tool results are cleared.

use super::Message;
use crate::dialect::{Part, clear, cleared_text, is_clearable, is_cleared};
use crate::json::Json;
use crate::tokens::{TokenCounter, message_tokens, result_tokens};

impl Message {
    /// The message with its tool results replaced by a text each, such as `[tool result cleared: 1,234 tokens]`.
    ///
    /// The message stays in its dialect and form, with all its other fields. It makes and answers the same calls. Media of
    /// the results are removed too. Texts and calls in the same message stay.
    ///
    /// `None` if no result can be cleared, or clearing frees no tokens. These results stay as they are:
    ///
    /// - those that were cleared before, so clearing twice changes nothing;
    /// - those that are smaller than the text in their place;
    /// - those of tools that the provider runs, which it verifies;
    /// - those whose content is not text, media or data, such as references to tools;
    /// - screenshots of `computer_call_output`, which the Responses API requires;
    /// - those of the AI SDK's user-interface messages, where call and result are one part.
    ///
    /// # Examples
    ///
    /// ```
    /// use memory_core::{EstimateCounter, Message};
    ///
    /// let result = Message::tool_result("call_7", "a long page ".repeat(200));
    /// let cleared = result.clear_tool_results(&EstimateCounter).ok_or("nothing to clear")?;
    /// assert_eq!(cleared.tool_link(), result.tool_link());
    /// assert!(cleared.text().starts_with("[tool result cleared: "));
    /// assert_eq!(cleared.clear_tool_results(&EstimateCounter), None);
    /// # Ok::<(), &str>(())
    /// ```
    #[must_use]
    pub fn clear_tool_results(&self, counter: &dyn TokenCounter) -> Option<Self> {
        let texts = self.cleared_texts(counter);
        if texts.iter().all(Option::is_none) {
            return None;
        }
        let mut json = Json::from(self.clone());
        clear(self.dialect(), &mut json, &texts);
        let cleared = Self::from_any(json);
        let is_whole = (cleared.dialect(), cleared.role()) == (self.dialect(), self.role())
            && cleared.tool_link() == self.tool_link()
            && cleared.has_texts(&texts);
        let frees = message_tokens(counter, &cleared) < message_tokens(counter, self);
        (is_whole && frees).then_some(cleared)
    }

    /// The text for each result of a tool that the application ran; `None` for one that stays.
    fn cleared_texts(&self, counter: &dyn TokenCounter) -> Vec<Option<String>> {
        let mut texts = Vec::new();
        self.read(&mut |part| {
            let Part::Result(result) = part else { return };
            if result.provider_run {
                return;
            }
            let tokens = result_tokens(counter, &result);
            let text = cleared_text(tokens);
            let is_smaller = counter.count(&text) < tokens;
            texts.push((is_smaller && is_clearable(&result)).then_some(text));
        });
        texts
    }

    /// Whether the results that were to be cleared have these texts.
    fn has_texts(&self, texts: &[Option<String>]) -> bool {
        let (mut texts, mut is_so) = (texts.iter(), true);
        self.read(&mut |part| {
            if let Part::Result(result) = part
                && !result.provider_run
            {
                let text = texts.next();
                is_so &= text.is_some_and(|text| {
                    text.as_ref().is_none_or(|text| is_cleared(&result) && result.text() == *text)
                });
            }
        });
        is_so && texts.next().is_none()
    }
}

#[cfg(test)]
mod tests;
