//! Recorded conversations of tool-using agents, flushed and trimmed in many ways.

mod cleared;
mod conversions;
mod requests;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use flate2::read::GzDecoder;
use jiff::Timestamp;
use memory_core::plan::{Block, Policy, check_pairing, plan_context};
use memory_core::resource::FlushSettings;
use memory_core::sibling::View;
use memory_core::store::{Counters, Generation, MessageId, Page};
use memory_core::{
    ContentType, EstimateCounter, Message, Priority, Profile, Sequence, StoredMessage,
    WindowOptions, check_request, trim_messages,
};
use memory_flush::{
    Fifo, FlushInput, FlushRecord, FlushStrategy, HybridSummary, PriorityEviction,
    RuleBasedSummarizer, Summary, SummaryRequest, WrittenSummary, flush_due, splice_for,
    validate_plan,
};
use uuid::Uuid;

/// The conversations; empty if the data is missing.
pub(crate) fn conversations() -> Vec<Vec<Message>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../shared/data/conversations/tau-bench-airline.jsonl.gz");
    let Ok(file) = File::open(&path) else {
        println!("skipped: {} is not there", path.display());
        return Vec::new();
    };
    let mut conversations: BTreeMap<String, Vec<Message>> = BTreeMap::new();
    for line in BufReader::new(GzDecoder::new(file)).lines() {
        let message = Message::from_json(&line.unwrap()).unwrap();
        let id = message.field("conversation_id").unwrap().to_string();
        conversations.entry(id).or_default().push(message);
    }
    conversations.into_values().collect()
}

/// A message as a memory stores it.
fn stored(message: Message, number: u64, policy: &Policy) -> StoredMessage {
    let id = MessageId::new(Uuid::from_u128(number.into()));
    let new = policy.admit(message.into(), id, Timestamp::UNIX_EPOCH, &EstimateCounter);
    new.stored_at(Sequence::new(number))
}

fn blocks() -> Vec<Block> {
    use ContentType::{
        HistoricalMessages, ImportantFacts, RecentContext, SystemPrompt, UserProfile,
    };
    let block = |priority, content_types: &[ContentType], limit| Block {
        priority: Priority::new(priority),
        content_types: content_types.to_vec(),
        limit,
    };
    vec![
        block(0, &[SystemPrompt, UserProfile], None),
        block(1, &[RecentContext, ImportantFacts], Some(1_500)),
        block(2, &[HistoricalMessages], None),
    ]
}

#[test]
fn conversation_trimmed_to_any_budget_is_valid() {
    for messages in conversations() {
        for budget in [200, 500, 1_000, 2_000, 3_000, 5_000, 100_000] {
            let Ok(window) = trim_messages(messages.clone(), &EstimateCounter, budget) else {
                continue;
            };
            assert!(window.tokens <= budget);
            assert_eq!(window.tokens, window.request.count_tokens(&EstimateCounter));
            let request = window.request.to_string();
            assert_eq!(check_request(&request, &Profile::openai_chat()), Ok(()));
            if budget == 100_000 && check_pairing(&messages).is_ok() {
                assert_eq!(window.messages, messages, "nothing had to go");
            }
        }
    }
}

#[test]
fn growing_conversation_keeps_every_promise() {
    let strategies: [&dyn FlushStrategy; 3] = [&Fifo, &PriorityEviction, &HybridSummary];
    let mut flushes = 0;
    for messages in conversations() {
        for strategy in strategies {
            for blocks in [Vec::new(), blocks()] {
                let policy =
                    Policy { blocks, recent_window: 1_500, ..Policy::with_max_tokens(4_000) };
                flushes += grow(&messages, &policy, strategy);
            }
        }
    }
    println!("{flushes} flushes");
}

/// Appends the messages one by one, flushes when due, and returns the number of flushes.
fn grow(messages: &[Message], policy: &Policy, strategy: &dyn FlushStrategy) -> u32 {
    let settings = FlushSettings::for_budget(policy.max_tokens);
    let now = Timestamp::UNIX_EPOCH;
    let counter = Arc::new(EstimateCounter);
    let (mut history, mut counters) = (Vec::<StoredMessage>::new(), Counters::default());
    let (mut next_flush_at, mut flushes) = (None, 0);
    for (message, number) in messages.iter().zip(1_u64..) {
        let id = MessageId::new(Uuid::from_u128(number.into()));
        let new = policy.admit(message.clone().into(), id, now, &*counter);
        counters.append(&new);
        history.push(new.stored_at(Sequence::new(number)));
        if !flush_due(&counters, next_flush_at, policy, &settings).is_due() {
            continue;
        }
        flushes += 1;
        let metas: Vec<_> = history.iter().map(|stored| stored.meta.clone()).collect();
        let input = FlushInput::new(&metas, policy, &settings, now);
        let plan = strategy.plan(&input);
        assert_eq!(validate_plan(&plan, &metas, policy, now), Ok(()));
        let old = history.iter().filter(|stored| plan.summarize.contains(&stored.meta.sequence));
        let request = SummaryRequest::new(old.cloned().collect(), &settings, counter.clone());
        let written = request.and_then(|request| {
            let text = RuleBasedSummarizer::default().write(&request);
            let summary = Summary::new(text, RuleBasedSummarizer::NAME);
            WrittenSummary::new(&summary, MessageId::new(Uuid::nil()), now, policy, &*counter)
        });
        let record = FlushRecord {
            id: Uuid::nil(),
            strategy: strategy.name().into(),
            started_at: now,
            duration: Duration::ZERO,
        };
        let splice = splice_for(&plan, &input, Generation::NONE, written, record);
        next_flush_at = splice.next_flush_at;
        history.retain(|StoredMessage { meta, .. }| {
            if splice.evicted.contains(&meta.sequence) {
                counters.evict(meta);
            } else if splice.summarized.contains(&meta.sequence) {
                counters.summarize(meta);
            } else {
                return true;
            }
            false
        });
        if let Some(summary) = splice.summary {
            assert!(u64::from(summary.tokens) <= settings.summary_tokens);
            counters.insert_summary(&summary);
            let mut stored = summary.stored_at(splice.summarized[0]);
            stored.meta.summary = true;
            history.push(stored);
            history.sort_by_key(|stored| stored.meta.sequence);
        }
        let receipt = splice.receipt.unwrap();
        assert_eq!(receipt.tokens_after, counters.present.tokens);
        assert_eq!(receipt.shortfall.is_none(), input.target.is_met_by(counters.present));
        assert!(counters.is_conserved());
        assert!(counters.summaries <= 1);
        assert_eq!(history[0].message, messages[0], "the system prompt stays, and stays first");

        let options = WindowOptions::new(policy.max_tokens);
        let window = plan_context(&history, policy, &options, &EstimateCounter, now).unwrap();
        assert!(window.left_out.orphans.messages == 0, "a flush tore a unit");
        let request = window.request.to_string();
        assert_eq!(check_request(&request, &Profile::openai_chat()), Ok(()));
    }
    flushes
}

/// Beside the bytes of the messages in JSON, from which a store decodes them. The bound of views counts what they
/// allocate.
#[test]
fn view_bytes_are_bounded_by_the_json() {
    let policy = Policy::with_max_tokens(1 << 20);
    let (mut json, mut view_bytes, mut allocated) = (0, 0, 0);
    for messages in conversations() {
        let lines: Vec<_> =
            messages.iter().map(|message| serde_json::to_string(message).unwrap()).collect();
        json += lines.iter().map(String::len).sum::<usize>();
        // The whole memory at once, and then turn by turn, as it is written.
        let (read_at_once, grown) = lines.split_at(lines.len() / 2);
        let mut view = View::default();
        let bytes = allocation_counter::measure(|| {
            let mut number = 0;
            for lines in std::iter::once(read_at_once).chain(grown.chunks(2)) {
                let mut page = Page::new(Generation::new(1).into());
                let stored = |line: &String| {
                    number += 1;
                    stored(Message::from_json(line).unwrap(), number, &policy)
                };
                page.messages = lines.iter().map(stored).collect();
                view.apply(page);
            }
        });
        view_bytes += view.bytes();
        allocated += usize::try_from(bytes.bytes_current).unwrap();
    }
    println!("{view_bytes} bytes in views, {allocated} allocated, {json} in JSON");
    assert!(allocated * 2 <= json * 5, "{allocated} bytes allocated, {json} in JSON");
    assert!(allocated.abs_diff(view_bytes) * 10 <= allocated, "{allocated}, not {view_bytes}");
}
