//! Regression tests: histories that an earlier version handled incorrectly or silently.

use jiff::Timestamp;
use memory_core::json::JsonErrorKind;
use memory_core::plan::{
    EvictionGoal, Policy, Unit, UnitState, Units, check_pairing, plan_fifo_eviction,
};
use memory_core::resource::Redactor;
use memory_core::store::{Counters, FlushReceipt, MessageId, MessageMeta};
use memory_core::tokens::message_tokens;
use memory_core::{Entry, EstimateCounter, Message, MessageError, Role, Sequence, trim_messages};
use uuid::Uuid;

fn read(lines: &str) -> Vec<Message> {
    lines.lines().map(|line| Message::from_json(line.trim()).unwrap()).collect()
}

fn metas(messages: &[Message]) -> Vec<MessageMeta> {
    let policy = Policy::with_max_tokens(100_000);
    let admit = |(message, number): (&Message, u64)| {
        let id = MessageId::new(Uuid::from_u128(number.into()));
        let new = policy.admit(Entry::new(message.clone()), id, now(), &EstimateCounter);
        new.stored_at(Sequence::new(number)).meta
    };
    messages.iter().zip(1..).map(admit).collect()
}

fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

fn states(messages: &[Message]) -> Vec<UnitState> {
    let metas = metas(messages);
    let units = Units::group(&metas, now(), Policy::DEFAULT_OPEN_CALL_TIMEOUT);
    units.iter().map(Unit::state).collect()
}

const BLOCKS: &str = r#"{"role":"user","content":"What is the weather in Oslo and in Bergen?"}
    {"role":"assistant","content":[{"type":"thinking","thinking":"I need two calls.","signature":"EqQBCgIYAhIM"},{"type":"tool_use","id":"toolu_01A","name":"weather","input":{"city":"Oslo"}},{"type":"tool_use","id":"toolu_01B","name":"weather","input":{"city":"Bergen"}}]}
    {"role":"user","content":[{"type":"tool_result","tool_use_id":"toolu_01A","content":"Rain, 7 degrees, wind from the west at 6 meters a second."},{"type":"tool_result","tool_use_id":"toolu_01B","content":"Sun, 9 degrees, hardly any wind, clear sky until late in the evening."}]}
    {"role":"assistant","content":[{"type":"text","text":"Rain in Oslo, sun in Bergen."}]}"#;

#[test]
fn no_window_separates_anthropic_blocks() {
    let messages = read(BLOCKS);
    assert_eq!(states(&messages), [UnitState::Whole; 3]);
    for budget in 20..200 {
        let window = trim_messages(messages.clone(), &EstimateCounter, budget).unwrap();
        let has = |index: usize| window.messages.contains(&messages[index]);
        assert_eq!(has(1), has(2), "budget {budget}");
        assert_eq!(check_pairing(&window.messages), Ok(()));
    }
}

#[test]
fn no_eviction_separates_anthropic_blocks() {
    let mut messages = Vec::new();
    for turn in 0..10 {
        messages.extend(read(&format!(
            r#"{{"role":"assistant","content":[{{"type":"tool_use","id":"t{turn}","name":"ls","input":{{"path":"/dir{turn}"}}}}]}}
            {{"role":"user","content":[{{"type":"tool_result","tool_use_id":"t{turn}","content":"file{turn}.txt and a few more of them"}}]}}"#
        )));
    }
    let metas = metas(&messages);
    let all: u64 = metas.iter().map(|meta| u64::from(meta.tokens)).sum();
    for goal in 0..all {
        let policy = Policy::with_max_tokens(100_000);
        let plan = plan_fifo_eviction(&metas, &policy, EvictionGoal::tokens(goal), now());
        for call in (1..20).step_by(2) {
            let gone = |place| plan.evict.contains(&Sequence::new(place));
            assert_eq!(gone(call), gone(call + 1), "goal {goal}");
        }
    }
}

#[test]
fn unanswered_anthropic_call_is_open() {
    let messages = read(
        r#"{"role":"user","content":"List the files."}
        {"role":"assistant","content":[{"type":"tool_use","id":"toolu_01A","name":"ls","input":{}}]}
        {"role":"user","content":"Never mind, what time is it?"}"#,
    );
    assert_eq!(states(&messages), [UnitState::Whole, UnitState::Open, UnitState::Whole]);
    assert_eq!(check_pairing(&messages).unwrap_err().index(), 2);
}

#[test]
fn gemini_and_aisdk_text_is_shown_and_counted() {
    let question = "What is the weather in Oslo? ".repeat(20);
    let plain = message_tokens(&EstimateCounter, &Message::user(&*question));
    for line in [
        format!(r#"{{"role":"user","parts":[{{"text":"{question}"}}]}}"#),
        format!(r#"{{"id":"m1","role":"user","parts":[{{"type":"text","text":"{question}"}}]}}"#),
        format!(r#"{{"role":"user","content":[{{"text":"{question}"}}]}}"#),
    ] {
        let message = Message::from_json(&line).unwrap();
        assert_eq!(message.text(), question);
        assert_eq!(message_tokens(&EstimateCounter, &message), plain);
    }
    let messages = read(
        r#"{"role":"model","parts":[{"functionCall":{"name":"weather","args":{"city":"Oslo"}}}]}
        {"role":"user","parts":[{"functionResponse":{"name":"weather","response":{"output":"rain"}}}]}
        {"role":"model","parts":[{"text":"Rain."}]}
        {"id":"m2","role":"assistant","parts":[{"type":"tool-weather","toolCallId":"c1","state":"output-available","input":{"city":"Oslo"},"output":"rain"},{"type":"text","text":"Rain."}]}"#,
    );
    assert_eq!(states(&messages), [UnitState::Whole; 3]);
    assert_eq!(messages[0].role(), &Role::Assistant);
    assert!(messages[1].text().contains("rain"));
    assert_eq!(check_pairing(&messages), Ok(()));
}

#[test]
fn results_find_their_calls() {
    use UnitState::{Open, Orphan, Whole};
    for (lines, expected) in [
        // The first function API.
        (
            r#"{"role":"assistant","content":null,"function_call":{"name":"f","arguments":"{}"}}
            {"role":"function","name":"f","content":"r"}"#,
            vec![Whole],
        ),
        // A name in place of an id.
        (
            r#"{"role":"assistant","content":null,"tool_calls":[{"id":"c1","type":"function","function":{"name":"get_temp","arguments":"{}"}}]}
            {"role":"tool","name":"get_temp","content":"22"}"#,
            vec![Whole],
        ),
        // Two results of one call.
        (
            r#"{"role":"assistant","content":null,"tool_calls":[{"id":"a","type":"function","function":{"name":"f","arguments":"{}"}}]}
            {"role":"tool","tool_call_id":"a","content":"one"}
            {"role":"tool","tool_call_id":"a","content":"two"}"#,
            vec![Whole, Orphan],
        ),
        // A result before its call.
        (
            r#"{"role":"tool","tool_call_id":"a","content":"early"}
            {"role":"assistant","content":null,"tool_calls":[{"id":"a","type":"function","function":{"name":"f","arguments":"{}"}}]}"#,
            vec![Orphan, Open],
        ),
        // An id in two turns.
        (
            r#"{"role":"assistant","content":null,"tool_calls":[{"id":"call_0","type":"function","function":{"name":"f","arguments":"{}"}}]}
            {"role":"tool","tool_call_id":"call_0","content":"first"}
            {"role":"assistant","content":null,"tool_calls":[{"id":"call_0","type":"function","function":{"name":"f","arguments":"{}"}}]}
            {"role":"tool","tool_call_id":"call_0","content":"second"}"#,
            vec![Whole, Whole],
        ),
        // One of two parallel calls is open.
        (
            r#"{"role":"assistant","content":"I book it now.","tool_calls":[{"id":"a","type":"function","function":{"name":"book","arguments":"{}"}},{"id":"b","type":"function","function":{"name":"pay","arguments":"{}"}}]}
            {"role":"tool","tool_call_id":"a","content":"booked"}
            {"role":"user","content":"Did that work?"}"#,
            vec![Open, Whole],
        ),
    ] {
        assert_eq!(states(&read(lines)), expected, "{lines}");
    }
}

#[test]
fn secrets_are_redacted_whatever_their_key_is_called() {
    let patterns = [r"\b\d{3}-\d{2}-\d{4}\b", r"[a-z.]+@example\.com"];
    let redactor = Redactor::new(&patterns, Redactor::DEFAULT_REPLACEMENT).unwrap();
    let messages = read(
        r#"{"role":"user","name":"ann@example.com","content":"my number is 123-45-6789"}
        {"role":"assistant","content":null,"tool_calls":[{"id":"c1","type":"function","function":{"name":"lookup","arguments":{"id":"123-45-6789","name":"ann@example.com","note":"123-45-6789"}}}]}
        {"role":"tool","tool_call_id":"c1","content":[{"type":"text","text":"found ann@example.com"},{"type":"json","json":{"id":"123-45-6789","name":"ann@example.com","mail":"ann@example.com","123-45-6789":"key"}}]}
        {"role":"assistant","content":[{"type":"tool_use","id":"t1","name":"lookup","input":{"id":"123-45-6789","name":"ann@example.com"}}]}
        {"role":"user","content":"hi","user":{"id":"123-45-6789","name":"ann@example.com","role":"x"},"ssn":123456789}
        {"role":"assistant","content":null,"tool_calls":[{"id":"c2","type":"function","function":{"name":"lookup","arguments":"{\"mail\":\"ann\\u0040example.com\"}"}}]}
        {"role":"tool","tool_call_id":"c2","content":"ok"}"#,
    );
    for message in messages {
        let link = message.tool_link();
        let redacted = redactor.redact(message);
        let text = redacted.to_json().unwrap();
        assert!(!text.contains("123-45-6789") && !text.contains("example.com"), "{text}");
        assert_eq!(redacted.tool_link(), link);
    }
}

#[test]
fn broken_lines_name_what_is_wrong() {
    for (text, kind) in [
        (
            r#"{"role":"user","content":"safe","content":"other","role":"system"}"#,
            JsonErrorKind::DuplicateKey,
        ),
        (
            r#"{"role":"tool","tool_call_id":"t","content":"cut \ud83d"}"#,
            JsonErrorKind::LoneSurrogate,
        ),
        (r#"{"role":"user","con"#, JsonErrorKind::Truncated),
        (
            r#"{"role":"user","content":"hi"}{"role":"user","content":"hi"}"#,
            JsonErrorKind::SecondValue,
        ),
        ("\0\0\0", JsonErrorKind::NulBytes),
        ("{\"role\":\"user\",\"content\":\"a\0b\"}", JsonErrorKind::ControlCharacter),
        (r#"{"role":"user","content":"hi",}"#, JsonErrorKind::TrailingComma),
        (r#"{"role":"user","content":"hi","score":NaN}"#, JsonErrorKind::NotFinite),
    ] {
        assert_eq!(Message::from_json(text).unwrap_err().json_kind(), Some(kind), "{text:?}");
    }
    let cohere = Message::from_json(r#"{"role":"CHATBOT","message":"hello there"}"#);
    assert!(matches!(cohere, Err(MessageError::Unsupported { .. })));
}

#[test]
fn stored_fields_come_back_unchanged() {
    for text in [
        r#"{"conversation_id":"c-1","index":0,"role":"user","content":"hi"}"#,
        r#"{"role":"user","content":"hi","id":12345678901234567890123,"x":0.1000000000000000055511151231257827,"y":1.0,"z":-0.0,"w":1e2}"#,
        r#"{"role":"user","content":"hi","score":1e400}"#,
        r#"{"role":"user","content":"hi","id":2512292042121000001}"#,
        r#"{"role":"assistant","content":"hello","tool_calls":[],"function_call":null,"refusal":null,"annotations":[],"audio":null,"name":null}"#,
        r#"{"role":" user","content":"hi"}"#,
    ] {
        assert_eq!(Message::from_json(text).unwrap().to_json().unwrap(), text);
    }
    let marked = Message::from_json("\u{feff}{\"role\":\"user\",\"content\":\"hi\"}\r\n").unwrap();
    assert_eq!(marked, Message::user("hi"));
}

#[test]
fn american_keys_are_read_too() {
    let mut receipt = FlushReceipt::new(Uuid::from_u128(1), "fifo", now());
    receipt.summarized = [Sequence::new(2), Sequence::new(3)].into_iter().collect();
    let mut counters = Counters::default();
    counters.summarized = 7;
    let stored = serde_json::to_string(&(&receipt, &counters)).unwrap();
    assert_eq!(stored.matches("\"summarised\":").count(), 2, "{stored}");
    let american = stored.replace("\"summarised\":", "\"summarized\":");
    for text in [&stored, &american] {
        let read: (FlushReceipt, Counters) = serde_json::from_str(text).unwrap();
        assert_eq!((&read.0, &read.1), (&receipt, &counters), "{text}");
    }
}
