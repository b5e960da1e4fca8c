//! The values of a profile's fields.

/// Where system messages may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SystemPlacement {
    /// Anywhere among the messages.
    Anywhere,
    /// One or more messages before all others.
    Leading,
    /// At most one message, before all others.
    FirstOnly,
    /// Only in the field beside the messages (`system`, `systemInstruction`).
    TopLevel,
    /// In the field, and among the messages directly after a user message, or after an assistant
    /// message that ends with a server tool, and directly before an assistant message or the end.
    TopLevelOrAfterUser,
}

/// Which message may be the first after the system prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FirstMessage {
    /// Any.
    Any,
    /// A message of the user.
    User,
}

/// Which roles may follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Alternation {
    /// Any order. Tool results are checked by [`ResultPlacement`].
    Free,
    /// Only an assistant message may follow tool results.
    AssistantAfterTool,
    /// A turn with calls follows a user turn or a turn with results.
    CallAfterUser,
    /// User and assistant take turns. Results with a separate role count as the user's.
    Strict,
}

/// Which message may be the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum LastMessage {
    /// Any. A final assistant message is continued, or a new turn starts after it.
    Any,
    /// A final assistant message carries `prefix: true`.
    MarkedPrefix,
    /// Not an assistant message.
    NotAssistant,
}

/// Where the results of calls are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ResultPlacement {
    /// Anywhere after the call.
    AfterCall,
    /// In separate messages, directly after the message with the calls, in any order.
    DirectlyAfter,
    /// All in the next user message, before its other content.
    NextMessageFirst,
    /// All in the next user message, which has no other content.
    NextMessageOnly,
}

/// How the arguments of a call are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ArgumentForm {
    /// A string. It should be JSON, but that is not checked: models make mistakes, and the APIs
    /// send them back.
    Text,
    /// A JSON object, as an object or as a string.
    ObjectOrText,
    /// A JSON object.
    Object,
}

/// Which texts are refused as empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TextForm {
    /// A text has at least one character. The content of a tool result may be empty.
    NotEmpty,
    /// A text has at least one character that is not white space, inside results too.
    NotBlank,
}

/// The `content` of an assistant message without text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ContentKey {
    /// `content` may be missing or `null` beside calls.
    Optional,
    /// `content` is always there; beside calls it may be an empty string.
    Required,
}

/// Which reasoning may be sent back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReasoningForm {
    /// None: a field for it is unknown to the API.
    Refused,
    /// The fields `reasoning_content`, `reasoning` and `reasoning_details` are accepted. A window has only the first
    /// two: the third is for OpenRouter, which has no profile.
    Fields,
    /// As [`Fields`](Self::Fields), and each assistant message with calls has `reasoning_content`,
    /// which may be empty.
    FieldsWithCalls,
    /// Each assistant message with calls has `reasoning_content`, which may be empty; a message without calls
    /// has no field of reasoning.
    FieldsBesideCalls,
    /// `reasoning` items, each directly before the item that it produced.
    Items,
    /// Signed blocks, unmodified.
    SignedBlocks,
    /// Signed blocks that are valid only after the exact same prefix. After any edit of earlier
    /// messages, leave out all later blocks. One request does not show its history, so a check
    /// cannot find a broken binding.
    BoundBlocks,
    /// Reasoning is accepted, with or without a signature.
    Signatures,
    /// The first call of each step of the current turn has a thought signature.
    SignedCalls,
    /// Chunks of the content.
    Chunks,
}

/// Which characters a name or an id may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Alphabet {
    /// Any.
    Any,
    /// `[a-zA-Z0-9]`
    Alphanumeric,
    /// `[a-zA-Z0-9_-]`
    Word,
    /// `[a-zA-Z0-9_.:-]`
    Dotted,
}

/// The form of a name or an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct NameForm {
    /// The characters.
    pub alphabet: Alphabet,
    /// The least number of characters.
    pub min_length: usize,
    /// The greatest number of characters.
    pub max_length: usize,
}

impl NameForm {
    /// A form with at least one character.
    #[must_use]
    pub const fn new(alphabet: Alphabet, max_length: usize) -> Self {
        Self { alphabet, min_length: 1, max_length }
    }

    /// Whether a text has this form.
    ///
    /// ```
    /// use memory_core::profile::{Alphabet, NameForm};
    ///
    /// let form = NameForm::new(Alphabet::Word, 64);
    /// assert!(form.accepts("get_tide-2"));
    /// assert!(!form.accepts("get tide") && !form.accepts(""));
    /// ```
    #[must_use]
    pub fn accepts(&self, text: &str) -> bool {
        let is_known = |byte: u8| match self.alphabet {
            Alphabet::Any => true,
            Alphabet::Alphanumeric => byte.is_ascii_alphanumeric(),
            Alphabet::Word => byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'),
            Alphabet::Dotted => {
                byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b':')
            }
        };
        // Bytes are characters in every alphabet but `Any`.
        let length = match self.alphabet {
            Alphabet::Any => text.chars().count(),
            Alphabet::Alphanumeric | Alphabet::Word | Alphabet::Dotted => text.len(),
        };
        (self.min_length..=self.max_length).contains(&length) && text.bytes().all(is_known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alphabets_and_lengths_are_exact() {
        let all: String = (0..=127_u8).map(char::from).collect();
        let accepted = |alphabet| {
            let form = NameForm::new(alphabet, 1);
            all.chars().filter(|letter| form.accepts(&letter.to_string())).collect::<String>()
        };
        let alphanumeric: String = ('0'..='9').chain('A'..='Z').chain('a'..='z').collect();
        assert_eq!(accepted(Alphabet::Alphanumeric), alphanumeric);
        assert_eq!(accepted(Alphabet::Word).len(), alphanumeric.len() + 2);
        assert_eq!(accepted(Alphabet::Dotted).len(), alphanumeric.len() + 4);
        assert_eq!(accepted(Alphabet::Any), all);

        let nine = NameForm { alphabet: Alphabet::Alphanumeric, min_length: 9, max_length: 9 };
        for (id, right) in [("abcDEF123", true), ("abcDEF12", false), ("abcDEF1234", false)] {
            assert_eq!(nine.accepts(id), right, "{id}");
        }
        assert!(NameForm::new(Alphabet::Any, 2).accepts("éé"), "characters, not bytes");
    }
}
