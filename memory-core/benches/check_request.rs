//! Checking a request of 1,000 messages. The limit is 1 ms for each profile, including parsing.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use memory_core::profile::ProfileName;
use memory_core::{Profile, check_request};
use serde_json::{Value, json};

/// The messages of a request, without the system prompt.
const MESSAGES: usize = 1_000;

const QUESTION: &str = "Which harbors between Brest and Lorient can a yacht with a draft of two meters enter \
                        on Friday afternoon, and how long does the tide leave us?";
const ANSWER: &str = "Concarneau is open at every state of the tide.\nLe Guilvinec has enough water from 14:10 to \
                      18:40; plan to arrive by 16:00, because the wind turns \"fresh\" in the evening.";
const RESULT: &str = "{\"port\":\"Concarneau\",\"high\":[{\"at\":\"05:12\",\"height\":4.1},{\"at\":\"17:36\",\"height\":4.3}],\
                      \"low\":[{\"at\":\"11:24\",\"height\":1.2}],\"unit\":\"m\"}";

/// Turns of four messages, as agents make them: a question, a call, its result, an answer.
fn turn(profile: ProfileName, number: usize) -> [Value; 4] {
    let arguments = json!({"port": "Concarneau", "day": number});
    let text = arguments.to_string();
    let id = format!("call_{number:024x}");
    match profile {
        ProfileName::OpenaiResponses => [
            json!({"role": "user", "content": QUESTION}),
            json!({"type": "function_call", "call_id": id, "name": "get_tide", "arguments": text}),
            json!({"type": "function_call_output", "call_id": id, "output": RESULT}),
            json!({"type": "message", "role": "assistant",
                   "content": [{"type": "output_text", "text": ANSWER, "annotations": []}]}),
        ],
        ProfileName::Anthropic => [
            json!({"role": "user", "content": [{"type": "text", "text": QUESTION}]}),
            json!({"role": "assistant", "content": [{"type": "text", "text": "I look it up."},
                {"type": "tool_use", "id": id, "name": "get_tide", "input": arguments}]}),
            json!({"role": "user", "content": [{"type": "tool_result", "tool_use_id": id,
                "content": [{"type": "text", "text": RESULT}]}]}),
            json!({"role": "assistant", "content": [{"type": "text", "text": ANSWER}]}),
        ],
        ProfileName::Bedrock => [
            json!({"role": "user", "content": [{"text": QUESTION}]}),
            json!({"role": "assistant", "content": [{"text": "I look it up."},
                {"toolUse": {"toolUseId": id, "name": "get_tide", "input": arguments}}]}),
            json!({"role": "user", "content": [{"toolResult": {"toolUseId": id, "status": "success",
                "content": [{"text": RESULT}]}}]}),
            json!({"role": "assistant", "content": [{"text": ANSWER}]}),
        ],
        ProfileName::Gemini => [
            json!({"role": "user", "parts": [{"text": QUESTION}]}),
            json!({"role": "model", "parts": [{"functionCall": {"id": id, "name": "get_tide", "args": arguments},
                "thoughtSignature": "c2lnbmF0dXJl"}]}),
            json!({"role": "user", "parts": [{"functionResponse": {"id": id, "name": "get_tide",
                "response": {"result": RESULT}}}]}),
            json!({"role": "model", "parts": [{"text": ANSWER}]}),
        ],
        _ => {
            let id = if profile == ProfileName::Mistral { format!("{number:09}") } else { id };
            [
                json!({"role": "user", "content": QUESTION}),
                json!({"role": "assistant", "content": "", "tool_calls": [{"id": id, "type": "function",
                    "function": {"name": "get_tide", "arguments": text}}]}),
                json!({"role": "tool", "tool_call_id": id, "content": RESULT}),
                json!({"role": "assistant", "content": ANSWER}),
            ]
        }
    }
}

/// A request that ends with a user message or a result, as every API accepts it.
fn request(profile: ProfileName) -> Value {
    let mut messages: Vec<Value> =
        (0..=MESSAGES / 4).flat_map(|number| turn(profile, number)).collect();
    messages.truncate(MESSAGES - 1);
    match profile {
        ProfileName::OpenaiResponses => {
            json!({"instructions": "You know harbors.", "input": messages})
        }
        ProfileName::Anthropic => json!({"system": "You know harbors.", "messages": messages}),
        ProfileName::Bedrock => {
            json!({"system": [{"text": "You know harbors."}], "messages": messages})
        }
        ProfileName::Gemini => {
            json!({"systemInstruction": {"parts": [{"text": "You know harbors."}]},
            "contents": messages})
        }
        _ => {
            messages.insert(0, json!({"role": "system", "content": "You know harbors."}));
            Value::from(messages)
        }
    }
}

fn check(c: &mut Criterion) {
    let mut group = c.benchmark_group("check_request_1k");
    group.measurement_time(Duration::from_secs(3)).warm_up_time(Duration::from_secs(1));
    for name in ProfileName::ALL {
        let profile = Profile::from(name);
        let value = request(name);
        let text = value.to_string();
        assert_eq!(check_request(&text, &profile), Ok(()));
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_function(BenchmarkId::new("text", name), |b| {
            b.iter(|| check_request(black_box(&text), &profile).is_ok());
        });
        group.bench_function(BenchmarkId::new("value", name), |b| {
            b.iter(|| check_request(black_box(&value), &profile).is_ok());
        });
    }
    // The baseline: parsing alone.
    let text = request(ProfileName::OpenaiChat).to_string();
    group.throughput(Throughput::Bytes(text.len() as u64));
    group.bench_function("baseline/serde_json_value", |b| {
        b.iter(|| serde_json::from_str::<Value>(black_box(&text)).is_ok());
    });
    group.finish();
}

criterion_group!(benches, check);
criterion_main!(benches);
