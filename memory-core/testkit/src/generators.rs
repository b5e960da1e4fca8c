//! Generated histories and policies for property tests.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
pub use memory_core::StoredMessage;
use memory_core::dialect::ToolCall;
pub use memory_core::plan::Block;
use memory_core::plan::Policy;
use memory_core::store::{MessageId, MessageMeta, NewMessage};
use memory_core::{ContentType, Message, Priority, Role, Sequence};
use proptest::prelude::*;

/// The time of every plan.
pub fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

/// A history with conversation, facts, parallel calls, interleaved and missing results, repeated and empty ids,
/// orphans, explicitly closed calls, old and new calls, the older function API, and summaries.
pub fn history(longest: usize) -> impl Strategy<Value = Vec<StoredMessage>> {
    let few = (longest / 3).max(1);
    prop::collection::vec(any_turn(), 0..=few).prop_map(move |turns| {
        let mut messages: Vec<_> = turns.into_iter().flatten().collect();
        messages.truncate(longest);
        messages
            .into_iter()
            .zip(1..)
            .map(|(Drawn { message, kind, priority, tokens, age, closed, summary }, number)| {
                let priority = match &kind {
                    ContentType::Conversation => priority,
                    _ => Some(priority.unwrap_or(Priority::IMPORTANT)),
                };
                let new = NewMessage {
                    id: MessageId::new(uuid::Uuid::from_u128(number)),
                    message,
                    tokens,
                    priority,
                    content_type: kind,
                    created_at: now() - SignedDuration::from_mins(age),
                };
                // Places have gaps, as after a flush.
                let place = Sequence::new(u64::try_from(number + number / 5).unwrap());
                let mut stored = new.stored_at(place);
                stored.meta.closed = closed;
                stored.meta.summary = summary;
                stored
            })
            .collect()
    })
}

/// The metadata of a history.
pub fn metas(history: &[StoredMessage]) -> Vec<MessageMeta> {
    history.iter().map(|message| message.meta.clone()).collect()
}

/// Policies with no, usual and unusual blocks, with and without limits.
pub fn policy() -> impl Strategy<Value = Policy> {
    let limit = || prop::option::of(0..400_u64);
    let block = |priority, types: &[ContentType], limit| Block {
        priority: Priority::new(priority),
        content_types: types.to_vec(),
        limit,
    };
    let blocks = (limit(), limit(), limit(), 0..5_u8).prop_map(move |(a, b, c, form)| {
        use ContentType::{
            HistoricalMessages, ImportantFacts, RecentContext, Summary, SystemPrompt, UserProfile,
        };
        match form {
            0 => vec![],
            1 => vec![
                block(0, &[SystemPrompt, UserProfile], a),
                block(1, &[RecentContext, ImportantFacts], b),
                block(2, &[HistoricalMessages], c),
            ],
            2 => vec![
                block(0, &[SystemPrompt, RecentContext], a),
                block(1, &[Summary, HistoricalMessages, ContentType::from("note")], b),
            ],
            // Old conversation is more important than new, and system prompts may be evicted.
            3 => vec![
                block(1, &[HistoricalMessages], a),
                block(2, &[RecentContext, Summary], b),
                block(3, &[SystemPrompt], c),
            ],
            _ => vec![
                block(0, &[Summary, ImportantFacts], a),
                block(200, &[ContentType::from("note")], b),
            ],
        }
    });
    (blocks, 0..300_u64, 100..2_000_u64, prop::option::of(1..40_u64)).prop_map(
        |(blocks, recent_window, max_tokens, message_limit)| Policy {
            message_limit,
            blocks,
            recent_window,
            open_call_timeout: Duration::from_mins(10),
            ..Policy::with_max_tokens(max_tokens)
        },
    )
}

#[derive(Debug, Clone)]
struct Drawn {
    message: Message,
    kind: ContentType,
    priority: Option<Priority>,
    tokens: u32,
    age: i64,
    closed: bool,
    summary: bool,
}

fn drawn(message: Message, (tokens, age, closed, priority): Draw) -> Drawn {
    let priority = priority.map(Priority::new);
    Drawn {
        message,
        kind: ContentType::Conversation,
        priority,
        tokens,
        age,
        closed,
        summary: false,
    }
}

type Draw = (u32, i64, bool, Option<u8>);

/// Tokens, age in minutes, explicitly closed, and an explicit priority.
fn draw() -> impl Strategy<Value = Draw> {
    (
        prop_oneof![8 => 1..60_u32, 1 => 60..400_u32],
        0..20_i64,
        prop::bool::weighted(0.2),
        prop_oneof![8 => Just(None), 1 => (0..4_u8).prop_map(Some)],
    )
}

fn id() -> impl Strategy<Value = String> {
    prop_oneof![12 => "[a-d]", 1 => Just(String::new())]
}

fn call_of(ids: &[String]) -> Message {
    Message::calls(ids.iter().map(|id| ToolCall::function(id, "f", "{}")))
}

fn any_turn() -> impl Strategy<Value = Vec<Drawn>> {
    prop_oneof![
        4 => any_talk().prop_map(|talk| vec![talk]),
        1 => any_fact().prop_map(|fact| vec![fact]),
        4 => any_calls(),
        2 => any_items(),
        1 => (prop::collection::vec(id(), 1..4), draw())
            .prop_map(|(ids, draw)| vec![drawn(call_of(&ids), draw)]),
        1 => (id(), draw()).prop_map(|(id, draw)| vec![drawn(Message::tool_result(id, "r"), draw)]),
        1 => any_function_call(),
    ]
}

fn any_talk() -> impl Strategy<Value = Drawn> {
    (prop::bool::ANY, draw()).prop_map(|(user, draw)| {
        drawn(if user { Message::user("hello") } else { Message::assistant("hi") }, draw)
    })
}

fn any_fact() -> impl Strategy<Value = Drawn> {
    (0..7_u8, draw()).prop_map(|(which, draw)| {
        let mut drawn = drawn(Message::system("fact"), draw);
        drawn.kind = match which {
            0 => ContentType::SystemPrompt,
            1 => ContentType::UserProfile,
            2 => ContentType::ImportantFacts,
            3 => ContentType::from("note"),
            4 => ContentType::HistoricalMessages,
            5 => ContentType::Reminder,
            _ => ContentType::Summary,
        };
        drawn.summary = drawn.kind == ContentType::Summary;
        drawn
    })
}

/// Calls with different ids, their results in any order, some missing, and conversation in between.
fn any_calls() -> impl Strategy<Value = Vec<Drawn>> {
    let ids = prop::collection::hash_set("[a-h]", 1..4).prop_map(|ids| ids.into_iter().collect());
    ids.prop_flat_map(|ids: Vec<String>| {
        let results = Just(ids.clone()).prop_shuffle();
        let answered = prop_oneof![3 => Just(ids.len()), 1 => 0..=ids.len()];
        let between = prop::option::weighted(0.3, any_talk());
        (Just(ids), results, answered, between, prop::collection::vec(draw(), 4))
    })
    .prop_map(|(ids, results, answered, between, draws)| {
        let mut draws = draws.into_iter();
        let mut turn = vec![drawn(call_of(&ids), draws.next().unwrap())];
        let results = results.into_iter().take(answered).zip(draws);
        turn.extend(results.map(|(id, draw)| drawn(Message::tool_result(id, "r"), draw)));
        if let Some(between) = between {
            turn.insert(1, between);
        }
        turn
    })
}

/// Items of answers in the Responses API, and results of some of the calls.
fn any_items() -> impl Strategy<Value = Vec<Drawn>> {
    let item = ("[a-d]", 0..4_u8, draw()).prop_map(|(id, which, draw)| {
        let item = match which {
            0 => serde_json::json!({"type": "reasoning", "id": id, "summary": []}),
            1 => serde_json::json!({"type": "message", "role": "assistant",
                "content": [{"type": "output_text", "text": "hi"}]}),
            2 => serde_json::json!({"type": "function_call", "call_id": id, "name": "f",
                "arguments": "{}"}),
            _ => serde_json::json!({"type": "function_call_output", "call_id": id, "output": "r"}),
        };
        drawn(Message::from_value(item).unwrap(), draw)
    });
    prop::collection::vec(item, 1..6)
}

fn any_function_call() -> impl Strategy<Value = Vec<Drawn>> {
    (prop::bool::weighted(0.8), draw(), draw()).prop_map(|(answered, a, b)| {
        let call = Message::assistant("")
            .with_field("function_call", serde_json::json!({"name": "g", "arguments": "{}"}));
        let mut turn = vec![drawn(call, a)];
        if answered {
            turn.push(drawn(Message::new(Role::Function, "r").with_name("g"), b));
        }
        turn
    })
}
