//! The prefix that two requests share, on which providers' prompt caches work.

use std::hash::{BuildHasher as _, Hash, Hasher};

use foldhash::fast::FixedState;

use crate::json::Json;
use crate::message::Role;
use crate::render::{Request, RequestMessage};

/// Identifies the messages of a request, to find the prefix that a later request shares with it.
///
/// Eight bytes for each message, which is compared as a whole. Two different messages are taken for equal once in
/// 4 billion cases.
///
/// ```
/// # use memory_core::{EstimateCounter, Message, Sequence, StoredMessage, WindowOptions};
/// # use memory_core::plan::{Policy, plan_context};
/// # use memory_core::store::MessageId;
/// # use memory_core::Entry;
/// # let (policy, now) = (Policy::with_max_tokens(100), jiff::Timestamp::UNIX_EPOCH);
/// # let stored = |number: u64, message| {
/// #     let id = MessageId::new(uuid::Uuid::from_u128(number.into()));
/// #     policy.admit(Entry::new(message), id, now, &EstimateCounter).stored_at(Sequence::new(number))
/// # };
/// # let plan = |messages: &[StoredMessage]| {
/// #     plan_context(messages, &policy, &WindowOptions::new(1_000), &EstimateCounter, now)
/// # };
/// let mut history = vec![stored(1, Message::user("Where is my parcel?"))];
/// let first = plan(&history)?;
/// history.push(stored(2, Message::assistant("In Brest.")));
/// let second = plan(&history)?;
/// // The second request begins with the whole first one.
/// assert_eq!(second.prefix_mark().unchanged_tokens(&first.prefix_mark()), first.tokens);
/// # Ok::<(), memory_core::plan::ContextError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrefixMark {
    /// The API and the separate system prompt.
    head: Part,
    messages: Box<[Part]>,
}

/// A part of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Part {
    hash: u32,
    tokens: u32,
}

impl PrefixMark {
    /// The mark of a request. `tokens` are those of the system prompt and of each message.
    pub(super) fn new(request: &Request, system: u64, tokens: &[u32]) -> Self {
        let head = (request.profile(), request.system().map(hash_of_json));
        let part = |hash: u64, tokens: u32| Part { hash: fold(hash), tokens };
        let messages = request.as_slice().iter().zip(tokens);
        Self {
            head: part(digest(&head), u32::try_from(system).unwrap_or(u32::MAX)),
            messages: messages.map(|(message, tokens)| part(hash_of(message), *tokens)).collect(),
        }
    }

    /// The bytes that it occupies.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        size_of::<Self>() + size_of::<Part>() * self.messages.len()
    }

    /// The tokens at the start of this request that are the same in an earlier one: the system prompt and whole
    /// messages. 0 if the API or the system prompt differs.
    #[must_use]
    pub fn unchanged_tokens(&self, earlier: &Self) -> u64 {
        if self.head != earlier.head {
            return 0;
        }
        let both = self.messages.iter().zip(&earlier.messages);
        let shared = both.take_while(|(own, earlier)| own == earlier);
        let head = u64::from(self.head.tokens);
        shared.fold(head, |sum, (own, _)| sum.saturating_add(own.tokens.into()))
    }
}

/// The same in every process; collisions can be made, but affect only the count of unchanged tokens.
const STATE: FixedState = FixedState::with_seed(0);

fn digest(value: &impl Hash) -> u64 {
    STATE.hash_one(value)
}

/// Both halves of a hash.
const fn fold(hash: u64) -> u32 {
    let [a, b, c, d, e, f, g, h] = hash.to_le_bytes();
    u32::from_le_bytes([a ^ e, b ^ f, c ^ g, d ^ h])
}

fn hash_of(message: &RequestMessage) -> u64 {
    let mut hasher = STATE.build_hasher();
    match message {
        RequestMessage::Written(json) => hash_json(json, &mut hasher),
        RequestMessage::Shared(message) => match message.as_plain() {
            Some(plain) if plain.is_role_and_text() => {
                hash_role_and_text(&plain.role, &plain.text, &mut hasher);
            }
            _ => hash_json(&message.as_json(), &mut hasher),
        },
    }
    hasher.finish()
}

fn hash_of_json(json: &Json) -> u64 {
    let mut hasher = STATE.build_hasher();
    hash_json(json, &mut hasher);
    hasher.finish()
}

/// The start of an object and of a text.
const OBJECT: u8 = 5;
const TEXT: u8 = 3;

/// As [`hash_json`] of the same message in JSON.
fn hash_role_and_text(role: &Role, text: &str, hasher: &mut impl Hasher) {
    OBJECT.hash(hasher);
    for (key, value) in [("role", role.as_str()), ("content", text)] {
        key.hash(hasher);
        TEXT.hash(hasher);
        value.hash(hasher);
    }
    0_u8.hash(hasher);
}

/// Hashes a value as it is written: the order of members counts.
fn hash_json(json: &Json, hasher: &mut impl Hasher) {
    match json {
        Json::Null => 0_u8.hash(hasher),
        Json::Bool(value) => (1_u8, value).hash(hasher),
        Json::Number(number) => (2_u8, number.to_string()).hash(hasher),
        Json::String(text) => (TEXT, text).hash(hasher),
        Json::Array(items) => {
            (4_u8, items.len()).hash(hasher);
            items.iter().for_each(|item| hash_json(item, hasher));
        }
        Json::Object(object) => {
            OBJECT.hash(hasher);
            for (key, value) in object.iter() {
                key.hash(hasher);
                hash_json(value, hasher);
            }
            0_u8.hash(hasher);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Message;

    #[test]
    fn shared_and_written_messages_have_one_hash() {
        for message in [Message::user("Where is it?"), Message::system(""), Message::assistant("é")]
        {
            let written = RequestMessage::Written(message.as_json().into_owned());
            assert_eq!(hash_of(&written), hash_of(&RequestMessage::Shared(message)));
        }
        let [one, other] =
            ["a", "b"].map(|text| hash_of(&RequestMessage::Shared(Message::user(text))));
        assert_ne!(one, other);
    }
}
