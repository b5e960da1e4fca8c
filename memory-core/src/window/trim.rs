//! Windows over messages that are all in memory.

use jiff::Timestamp;
use uuid::Uuid;

use super::{ContextError, ContextPlan, ContextPlanner, LeftOut, Step, WindowOptions};
use crate::message::Message;
use crate::policy::{Entry, Policy};
use crate::render::{Repair, Request};
use crate::stored::{MessageId, Sequence, StoredMessage};
use crate::tokens::TokenCounter;

/// Plans a context window over stored messages, in ascending order of places (promises P9 and P15).
///
/// - Critical units are included first, then the newest unit; then those with the lowest priority number, the newest
///   first within a priority, each if it still fits (greedy, not the best packing).
/// - Once a conversation unit does not fit, all conversation before it is left out too, so that the conversation has
///   no holes. Facts, profiles and summaries may still fit.
/// - The start moves in steps, see [`WindowAdvance`](crate::plan::WindowAdvance): these rules are applied to the
///   messages up to the last step, with room for one more step, and all messages since are included.
/// - Units are whole, in the order of their first messages. Results directly follow their calls, even if other
///   agents' messages were in between. A call without a result gets a synthetic one.
/// - The conversation starts at a user message, see [`StartPolicy`](crate::plan::StartPolicy).
/// - The request obeys the rules of the profile, and the changes that it needed are listed. Its tokens are counted as
///   they are sent, and are at most the budget.
///
/// Linear in the number of messages.
///
/// # Errors
/// [`ContextError`].
pub fn plan_context(
    messages: &[StoredMessage],
    policy: &Policy,
    options: &WindowOptions,
    counter: &dyn TokenCounter,
    now: Timestamp,
) -> Result<ContextPlan, ContextError> {
    let metas: Vec<_> = messages.iter().map(|stored| stored.meta.clone()).collect();
    let mut planner = ContextPlanner::new(&metas, policy, options, counter, now);
    for stored in messages {
        planner.add(stored.meta.sequence, &stored.message);
    }
    loop {
        match planner.step()? {
            Step::Ready(plan) => return Ok(plan),
            // All messages are present, unless the list was out of order.
            Step::Fetch(places) => planner.give_up(&places),
        }
    }
}

/// A list of messages that was trimmed to a budget.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Trimmed {
    /// The history in the form of the API.
    pub request: Request,
    /// The included messages, unchanged, in the order of their units.
    pub messages: Vec<Message>,
    /// The tokens of the request, at most the budget.
    pub tokens: u64,
    /// The changes that the request needed.
    pub repairs: Vec<Repair>,
    /// The messages that were left out, by reason.
    pub left_out: LeftOut,
}

/// Trims a list of messages to a budget by the rules of [`plan_context`], without a store.
///
/// System prompts are critical, everything else is kept by age; for other priorities use [`plan_context`]. The
/// messages may be of any dialect. A sequence number in a repair is the position of the message, from 1. No call
/// times out here, because a plain message has no creation time.
///
/// # Examples
///
/// ```
/// use memory_core::{EstimateCounter, Message, trim_messages};
/// use memory_core::dialect::ToolCall;
///
/// let mut messages = vec![Message::system("You are a travel agent.")];
/// messages.push(Message::user("Find flights for each day of the year."));
/// for day in 1..=100 {
///     let id = format!("call_{day}");
///     messages.push(Message::calls([ToolCall::function(&id, "flights", "{}")]));
///     messages.push(Message::tool_result(&id, "three flights"));
/// }
/// let window = trim_messages(messages, &EstimateCounter, 500)?;
///
/// assert!(window.tokens <= 500);
/// assert_eq!(window.messages[0].text(), "You are a travel agent.");
/// assert_eq!(window.messages[1].text(), "Find flights for each day of the year.");
/// assert_eq!(window.messages.last().unwrap().text(), "three flights");
/// assert!(window.left_out.budget.messages > 100);
/// # Ok::<(), memory_core::plan::ContextError>(())
/// ```
///
/// # Errors
/// [`ContextError`].
pub fn trim_messages(
    messages: Vec<Message>,
    counter: &dyn TokenCounter,
    options: impl Into<WindowOptions>,
) -> Result<Trimmed, ContextError> {
    let options = options.into();
    let policy = Policy::with_max_tokens(options.budget);
    let now = Timestamp::UNIX_EPOCH;
    let mut stored: Vec<_> = messages
        .into_iter()
        .zip(1_u64..)
        .map(|(message, number)| {
            let id = MessageId::new(Uuid::from_u128(number.into()));
            let new = policy.admit(Entry::new(message), id, now, counter);
            new.stored_at(Sequence::new(number))
        })
        .collect();
    let plan = plan_context(&stored, &policy, &options, counter, now)?;
    let ContextPlan { request, sequences, tokens, repairs, left_out, .. } = plan;
    let mut rank = vec![None; stored.len()];
    for (order, place) in sequences.iter().enumerate() {
        let index = usize::try_from(place.number()).ok().and_then(|number| number.checked_sub(1));
        if let Some(rank) = index.and_then(|index| rank.get_mut(index)) {
            *rank = Some(order);
        }
    }
    let mut rank = rank.into_iter();
    let mut ranked: Vec<_> = stored
        .drain(..)
        .filter_map(|stored| Some((rank.next().flatten()?, stored.message)))
        .collect();
    ranked.sort_by_key(|(order, _)| *order);
    let messages = ranked.into_iter().map(|(_, message)| message).collect();
    Ok(Trimmed { request, messages, tokens, repairs, left_out })
}
