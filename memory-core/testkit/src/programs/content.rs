//! The messages and receipts of programs.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use memory_core::dialect::ToolCall;
use memory_core::plan::ToolRef;
use memory_core::store::{
    FlushReceipt, Head, MessageId, MessageMeta, NewMessage, Outline, ReplacedRecord, Replacement,
    Retention, Splice, SummaryRecord,
};
use memory_core::{ContentType, Message, Priority, Sequence};
use uuid::Uuid;

use super::op::Keep;

fn message(text: &str) -> NewMessage {
    NewMessage {
        id: MessageId::new(Uuid::from_u128(text.len() as u128)),
        message: Message::user(text),
        tokens: u32::try_from(text.len()).unwrap(),
        priority: None,
        content_type: ContentType::Conversation,
        created_at: Timestamp::UNIX_EPOCH,
    }
}

pub(super) fn drawn(serial: u64, (size, kind): (u8, u8)) -> NewMessage {
    let text = format!("{serial} {}", "y".repeat(usize::from(size)));
    let plain = message(&text);
    let call = |id: u64| ToolCall::function(format!("c{}", id % 5), "f", "{}");
    match kind {
        0 => NewMessage {
            priority: Some(Priority::CRITICAL),
            content_type: ContentType::SystemPrompt,
            ..plain
        },
        1 => NewMessage { message: Message::calls([call(serial), call(serial + 1)]), ..plain },
        2 => {
            NewMessage { message: Message::tool_result(format!("c{}", serial % 5), text), ..plain }
        }
        3 => NewMessage {
            priority: Some(Priority::new(size)),
            content_type: ContentType::from("it's \"mine\"\n%/é"),
            ..plain
        },
        _ => plain,
    }
}

/// A message that makes and answers the same calls as this one.
fn in_place_of(meta: &MessageMeta, serial: u64, size: u8) -> NewMessage {
    let kind = if size.is_multiple_of(2) { 3 } else { 9 };
    let mut new = drawn(serial, (size, kind));
    let id = |call: &ToolRef| call.id.to_string();
    if let Some(result) = meta.link.results.first() {
        new.message = Message::tool_result(id(result), new.message.text());
    } else if !meta.link.calls.is_empty() {
        let calls = meta.link.calls.iter();
        new.message =
            Message::calls(calls.map(|call| ToolCall::function(id(call), &*call.name, "{}")));
    }
    new
}

pub(super) fn receipt(id: u128, splice: &Splice) -> FlushReceipt {
    let mut receipt = FlushReceipt::new(Uuid::from_u128(id), "fifo", Timestamp::UNIX_EPOCH);
    receipt.duration = Duration::from_millis(3);
    (receipt.tokens_before, receipt.tokens_after) = (9, 5);
    (receipt.messages_before, receipt.messages_after) = (3, 2);
    receipt.summarized = splice.summarized.iter().copied().collect();
    receipt.evicted = splice.evicted.iter().copied().collect();
    receipt.withdrawn = splice.withdrawn.iter().copied().collect();
    let records = splice
        .replaced
        .iter()
        .map(|one| ReplacedRecord::new(one.sequence, one.message.id, 9, one.message.tokens));
    receipt.replaced = records.collect();
    receipt.summary = splice.summary.as_ref().map(|summary| {
        SummaryRecord::new(summary.id, splice.summarized[0], summary.tokens, "rules")
    });
    receipt
}

pub(super) fn retention(Keep { minutes, size }: Keep) -> Retention {
    let keep = minutes.map(|minutes| Duration::from_mins(minutes.into()));
    let mut retention = keep.map_or_else(Retention::forever, Retention::keep_for);
    retention.max_bytes = u64::from(size) * 100;
    retention
}

/// A store may forget a memory that never had a message.
pub(super) fn without_oblivion(mut head: Head) -> Head {
    if head.last == Sequence::ZERO {
        head.expires_at = None;
    }
    head
}

/// New messages for places that are not among the others.
pub(super) fn replacements(
    outline: &Outline,
    picks: &[(u8, u8)],
    others: &[Sequence],
    serial: u64,
) -> Vec<Replacement> {
    let mut replaced = BTreeMap::new();
    for ((pick, size), serial) in picks.iter().zip(serial + 50..) {
        let meta = outline.metas.get(usize::from(*pick) % outline.metas.len().max(1));
        let Some(meta) = meta.filter(|meta| !others.contains(&meta.sequence)) else { continue };
        replaced.insert(meta.sequence, in_place_of(meta, serial, *size));
    }
    let new = |(sequence, message)| Replacement { sequence, message };
    replaced.into_iter().map(new).collect()
}

pub(super) fn picked(outline: &Outline, picks: &[u8]) -> Vec<Sequence> {
    let mut places: Vec<_> = picks
        .iter()
        .filter_map(|pick| {
            let metas = &outline.metas;
            (!metas.is_empty()).then(|| metas[usize::from(*pick) % metas.len()].sequence)
        })
        .collect();
    places.sort_unstable();
    places.dedup();
    places
}
