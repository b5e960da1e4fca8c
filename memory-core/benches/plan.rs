//! Planning an eviction over 10,000 messages, at most 1 ms; a window of 200 messages out of 1,000, at most 300 us; a
//! window of 4,000 tokens of plain talk that is all in memory, at most 100 us over 1,000 messages and 300 us over
//! 10,000.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use jiff::{SignedDuration, Timestamp};
use memory_core::dialect::ToolCall;
use memory_core::plan::Step;
use memory_core::plan::{
    Block, ContextPlanner, EvictionGoal, Policy, ToolLink, ToolRef, Units, check_pairing,
    plan_eviction,
};
use memory_core::store::{MessageId, MessageMeta};
use memory_core::{ContentType, Priority, Sequence, trim_messages};
use memory_core::{Entry, EstimateCounter, Message, StoredMessage, WindowOptions};
use uuid::Uuid;

const MESSAGES: u64 = 10_000;

/// A deterministic pseudo-random number (SplitMix64).
fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn now() -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_hours(480_000)
}

/// A typical agent history: turns of a question, one to three parallel calls with ids in OpenAI's form, their
/// results, sometimes a message of another agent in between, and an answer; occasionally a fact; one result in a
/// hundred is missing.
fn history() -> Vec<MessageMeta> {
    let mut metas: Vec<MessageMeta> = Vec::new();
    let mut push = |link: ToolLink, content_type: ContentType, priority: Option<Priority>| {
        let number = metas.len() as u64 + 1;
        let id = MessageId::new(Uuid::from_u128(number.into()));
        let age = SignedDuration::from_secs(i64::try_from(MESSAGES - number).unwrap_or(0));
        let mut meta = MessageMeta::new(Sequence::new(number), id, content_type, now() - age);
        meta.tokens = u32::try_from(mix(number) % 120 + 5).unwrap_or(5);
        meta.priority = priority;
        meta.link = link;
        metas.push(meta);
        number
    };
    push(ToolLink::default(), ContentType::SystemPrompt, Some(Priority::CRITICAL));
    let talk = || (ContentType::Conversation, None);
    loop {
        let (kind, priority) = talk();
        let at = push(ToolLink::default(), kind, priority);
        if at >= MESSAGES {
            break;
        }
        let dice = mix(at ^ 0xdead);
        let ids: Vec<Box<str>> = (0..1 + dice % 3)
            .map(|n| format!("call_{:024x}", u128::from(mix(at + n))).into())
            .collect();
        if dice % 10 < 7 {
            let calls =
                ids.iter().map(|id| ToolRef { id: id.clone(), name: "look_up_flight".into() });
            push(ToolLink::of_calls(calls), talk().0, None);
            if dice % 50 < 10 {
                push(ToolLink::default(), talk().0, None);
            }
            for id in ids.into_iter().filter(|_| !dice.is_multiple_of(100)) {
                push(ToolLink::of_results([ToolRef::by_id(id)]), talk().0, None);
            }
        }
        push(ToolLink::default(), talk().0, None);
        if dice.is_multiple_of(20) {
            push(ToolLink::default(), ContentType::ImportantFacts, Some(Priority::IMPORTANT));
        }
    }
    metas.truncate(usize::try_from(MESSAGES).unwrap_or(usize::MAX));
    metas
}

fn policies(total: u64) -> [(&'static str, Policy); 3] {
    use ContentType::{
        HistoricalMessages, ImportantFacts, RecentContext, Summary, SystemPrompt, UserProfile,
    };
    let plain = Policy::with_max_tokens(total);
    let block = |priority, types: &[ContentType], limit| Block {
        priority: Priority::new(priority),
        content_types: types.to_vec(),
        limit,
    };
    let blocks = |limits: [Option<u64>; 3]| {
        vec![
            block(0, &[SystemPrompt, UserProfile], limits[0]),
            block(1, &[RecentContext, ImportantFacts, Summary], limits[1]),
            block(2, &[HistoricalMessages], limits[2]),
        ]
    };
    let with = |blocks| Policy { blocks, recent_window: total / 5, ..plain.clone() };
    [
        ("no_blocks", plain.clone()),
        ("blocks", with(blocks([None; 3]))),
        ("limits", with(blocks([Some(500), Some(total / 4), Some(total / 2)]))),
    ]
}

fn plan(c: &mut Criterion) {
    let metas = history();
    let total: u64 = metas.iter().map(|meta| u64::from(meta.tokens)).sum();
    let mut group = c.benchmark_group("plan_10k");
    group.measurement_time(Duration::from_secs(3)).warm_up_time(Duration::from_secs(1));
    group.bench_function("group", |b| {
        b.iter(|| Units::group(black_box(&metas), now(), Duration::from_mins(10)).len());
    });
    for (name, policy) in policies(total) {
        let half = EvictionGoal::tokens(total / 2);
        group.bench_function(BenchmarkId::new("eviction", name), |b| {
            b.iter(|| plan_eviction(black_box(&metas), &policy, half, now()));
        });
    }
    group.finish();
}

/// A window of about 200 messages out of 1,000 in memory: user, call, result, answer, of about 60 tokens each.
fn window(c: &mut Criterion) {
    let policy = Policy::with_max_tokens(1_000_000);
    let text =
        "The tide is high at noon and low in the evening, and the ferry leaves at six. ".repeat(3);
    let stored: Vec<StoredMessage> = (1..=1_000_u64)
        .map(|number| {
            let id = format!("call_{:024x}", number / 4);
            let message = match number % 4 {
                1 => Message::user(&*text),
                2 => Message::calls([ToolCall::function(&id, "tide", r#"{"port":"Brest"}"#)]),
                3 => Message::tool_result(&id, &*text),
                _ => Message::assistant(&*text),
            };
            let id = MessageId::new(Uuid::from_u128(number.into()));
            policy
                .admit(Entry::new(message), id, now(), &EstimateCounter)
                .stored_at(Sequence::new(number))
        })
        .collect();
    let metas: Vec<_> = stored.iter().map(|stored| stored.meta.clone()).collect();
    let newest: u64 = stored.iter().rev().take(200).map(|s| u64::from(s.meta.tokens)).sum();
    let mut group = c.benchmark_group("window_200_of_1000");
    for profile in [
        "openai_chat",
        "openai_responses",
        "anthropic",
        "gemini",
        "bedrock",
        "mistral",
        "strict_template",
    ] {
        let options = WindowOptions::new(newest).with_profile(profile.parse().unwrap_or_default());
        group.bench_function(profile, |b| {
            b.iter(|| {
                let mut planner = ContextPlanner::new(
                    black_box(&metas),
                    &policy,
                    &options,
                    &EstimateCounter,
                    now(),
                );
                loop {
                    match planner.step() {
                        Ok(Step::Ready(plan)) => break Some(plan),
                        Ok(Step::Fetch(places)) => {
                            for place in places {
                                let index = usize::try_from(place.number() - 1).unwrap_or(0);
                                if let Some(stored) = stored.get(index) {
                                    planner.add(place, &stored.message);
                                }
                            }
                        }
                        Err(_) => break None,
                    }
                }
            });
        });
    }
    group.finish();
}

/// A window of 4,000 tokens over plain messages of about 60 tokens, all in memory.
fn plain(c: &mut Criterion) {
    let policy = Policy::with_max_tokens(1_000_000);
    let text =
        "The tide is high at noon and low in the evening, the ferry leaves at six. ".repeat(3);
    let options = WindowOptions::new(4_000);
    let mut group = c.benchmark_group("window_4000_of_plain");
    for count in [1_000_u64, 10_000] {
        let (metas, messages): (Vec<_>, Vec<_>) = (1..=count)
            .map(|number| {
                let entry = Entry::new(Message::user(format!("{number}: {text}")));
                let id = MessageId::new(Uuid::from_u128(number.into()));
                let new = policy.admit(entry, id, now(), &EstimateCounter);
                let stored = new.stored_at(Sequence::new(number));
                (stored.meta, stored.message)
            })
            .unzip();
        group.bench_function(BenchmarkId::from_parameter(count), |b| {
            b.iter(|| {
                let (metas, messages) = (black_box(&metas), black_box(&messages));
                let counter = &EstimateCounter;
                ContextPlanner::with_messages(metas, messages, &policy, &options, counter, now())
                    .step()
            });
        });
    }
    group.finish();
}

/// Trimming without a store: counting, planning and moving the messages, down to 4,000 tokens.
fn trim(c: &mut Criterion) {
    let messages: Vec<Message> = (0..MESSAGES / 4)
        .flat_map(|turn| {
            let id = format!("call_{turn:024x}");
            [
                Message::user(format!("Can I move booking {turn} to another day?")),
                Message::calls([ToolCall::function(&id, "booking", format!("{{\"id\":{turn}}}"))]),
                Message::tool_result(&id, "Changes are free of charge until two days before."),
                Message::assistant("Yes, until two days before, at no charge."),
            ]
        })
        .collect();
    let mut group = c.benchmark_group("trim_10k");
    group.measurement_time(Duration::from_secs(3)).warm_up_time(Duration::from_secs(1));
    group.bench_function("estimate", |b| {
        b.iter_batched(
            || messages.clone(),
            |messages| trim_messages(messages, &EstimateCounter, 4_000),
            criterion::BatchSize::LargeInput,
        );
    });
    group.bench_function("check_pairing", |b| {
        b.iter(|| check_pairing(black_box(&messages)));
    });
    group.finish();
}

criterion_group!(benches, plan, window, plain, trim);
criterion_main!(benches);
