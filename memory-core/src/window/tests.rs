//! Windows of random histories with every profile and random budgets.

mod bugs;
mod check;
mod steps;

use proptest::prelude::*;
use serde_json::json;

use self::check::{Case, case, check, stored};
use super::{ContextError, NewestUnit, StartPolicy, SummaryRole, WindowOptions, plan_context};
use crate::check_request::check_request;
use crate::message::Message;
use crate::policy::Policy;
use crate::profile::Profile;
use crate::render::tests::profiles;
use crate::request::RepairKind;
use crate::stored::Sequence;
use crate::testkit::now;
use crate::tokens::EstimateCounter;
use crate::trim_messages;

/// How many histories are tried.
fn histories() -> u32 {
    let wanted = std::env::var("MEMORY_RENDER_HISTORIES").ok();
    wanted.and_then(|number| number.parse().ok()).unwrap_or(500)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(histories()) })]
    #[test]
    fn every_window_is_accepted_and_fits(case in case()) {
        check(&case)?;
    }
}

#[test]
fn task_of_a_long_tool_run_is_kept() {
    let mut history = vec![Message::user("Find the cheapest ferry of the year.")];
    for number in 0..200 {
        let id = format!("call_{number}");
        history.push(Message::calls([crate::dialect::ToolCall::function(
            &id,
            "ferries",
            "{\"day\":1}",
        )]));
        history.push(Message::tool_result(&id, "three ferries, the cheapest for 40 euros"));
    }
    let all = trim_messages(history.clone(), &EstimateCounter, 1_000_000).unwrap();
    for profile in profiles() {
        let options = WindowOptions::new(all.tokens / 10).with_profile(profile.clone());
        let window = trim_messages(history.clone(), &EstimateCounter, options).unwrap();
        let text = window.request.to_string();
        assert_eq!(check_request(&text, &profile), Ok(()));
        assert!(text.contains("Find the cheapest ferry of the year."), "{}", profile.name);
        assert!(window.messages.len() > 20, "{}", profile.name);
        assert!(window.repairs.iter().any(|repair| repair.kind == RepairKind::StartPinned));
        let any = WindowOptions::new(all.tokens / 10)
            .with_profile(profile.clone())
            .with_start(StartPolicy::Any);
        let window = trim_messages(history.clone(), &EstimateCounter, any).unwrap();
        assert!(!window.request.to_string().contains("cheapest ferry of the year"));
    }
}

#[test]
fn newest_unit_is_an_error_or_cut() {
    let history = vec![
        Message::system("You help."),
        Message::user("Hello"),
        Message::user("the harbor of the old town is full of boats today. ".repeat(40)),
    ];
    let error = trim_messages(history.clone(), &EstimateCounter, 100).unwrap_err();
    let ContextError::NewestOverBudget { sequence, tokens, needed, budget, .. } = error else {
        panic!("{error}")
    };
    assert_eq!((sequence, budget), (Sequence::new(3), 100));
    assert!(tokens > 400 && needed > tokens, "{tokens} {needed}");
    let ok = trim_messages(history.clone(), &EstimateCounter, needed).unwrap();
    assert_eq!(ok.messages.len(), 2);
    let options = WindowOptions::new(100).with_newest(NewestUnit::Truncate);
    let window = trim_messages(history, &EstimateCounter, options).unwrap();
    assert!((80..=100).contains(&window.tokens), "{}", window.tokens);
    let text = window.request.to_string();
    assert!(text.contains("[truncated]") && text.contains("the harbor"), "{text}");
    assert!(window.repairs.iter().any(|repair| repair.kind == RepairKind::Truncated));
}

#[test]
fn longest_result_of_newest_unit_is_cut_first() {
    let calls = ["a", "b"].map(|id| crate::dialect::ToolCall::function(id, "read", "{}"));
    let history = vec![
        Message::user("Compare both files, please."),
        Message::calls(calls),
        Message::tool_result("a", "short"),
        Message::tool_result("b", "é".repeat(4_000)),
    ];
    for profile in profiles() {
        let options =
            WindowOptions::new(150).with_profile(profile.clone()).with_newest(NewestUnit::Truncate);
        let window = trim_messages(history.clone(), &EstimateCounter, options).unwrap();
        let text = window.request.to_string();
        assert_eq!(check_request(&text, &profile), Ok(()));
        assert!(window.tokens <= 150 && text.contains("short") && text.contains("éé"), "{text}");
        assert!(text.contains("truncated"), "{text}");
    }
}

#[test]
fn system_prompt_of_options_is_first_and_counted() {
    let history = vec![Message::system("Stored."), Message::user("Hello")];
    let plain = trim_messages(history.clone(), &EstimateCounter, 100).unwrap();
    let options = WindowOptions::new(100).with_system("You plan.");
    let window = trim_messages(history.clone(), &EstimateCounter, options).unwrap();
    assert_eq!(window.request.messages()[0].get_str("content"), Some("You plan."));
    assert!(window.tokens > plain.tokens);
    let options =
        WindowOptions::new(100).with_system("You plan.").with_profile(Profile::anthropic());
    let window = trim_messages(history, &EstimateCounter, options).unwrap();
    let expected = json!([
        {"type": "text", "text": "You plan."}, {"type": "text", "text": "Stored."},
    ]);
    assert_eq!(window.request.to_value()["system"], expected);
    let options = WindowOptions::new(4).with_system("You plan.");
    let error = trim_messages(Vec::new(), &EstimateCounter, options).unwrap_err();
    assert!(matches!(error, ContextError::ReserveOverBudget { budget: 4, .. }), "{error}");
}

#[test]
fn summary_has_the_chosen_role() {
    let policy = Policy::with_max_tokens(2_000);
    let history = vec![Message::system("Earlier: a trip to Brest."), Message::user("And now?")];
    let mut stored = stored(history, &policy, 1);
    stored[0].meta.summary = true;
    let request = |options: WindowOptions| {
        let plan = plan_context(&stored, &policy, &options, &EstimateCounter, now()).unwrap();
        plan.request.to_value()
    };
    let said = |role| json!({"role": role, "content": "Earlier: a trip to Brest."});
    let user = json!({"role": "user", "content": "And now?"});
    let options = WindowOptions::new(1_000);
    assert_eq!(request(options.clone()), json!([said("user"), user]));
    let system = options.clone().with_summary_role(SummaryRole::System);
    assert_eq!(request(system.clone()), json!([said("system"), user]));
    let anthropic = system.with_profile(Profile::anthropic());
    let expected = json!({"system": "Earlier: a trip to Brest.", "messages": [user]});
    assert_eq!(request(anthropic), expected);
    let assistant = options.with_summary_role(SummaryRole::Assistant);
    assert_eq!(request(assistant), json!([said("assistant"), user]));
}

#[test]
fn cut_unit_leaves_room_for_the_task() {
    let history = vec![
        Message::user("Summarize the log."),
        Message::assistant("I read it."),
        Message::calls([crate::dialect::ToolCall::function("a", "read", "{}")]),
        Message::tool_result("a", "a line of the log. ".repeat(2_000)),
    ];
    for profile in profiles() {
        let options =
            WindowOptions::new(300).with_profile(profile).with_newest(NewestUnit::Truncate);
        let window = trim_messages(history.clone(), &EstimateCounter, options).unwrap();
        let text = window.request.to_string();
        assert!(text.contains("Summarize the log.") && text.contains("truncated"), "{text}");
        assert!((200..=300).contains(&window.tokens), "{}", window.tokens);
    }
}

/// A user's line and an answer with thinking that is bound to its prefix.
fn bound_thinking() -> Vec<Message> {
    let answer = r#"{"role":"assistant","content":[{"type":"thinking","thinking":"x","signature":"sig"},{"type":"text","text":"ok"}]}"#;
    vec![Message::user("go"), Message::from_json(answer).unwrap(), Message::user("on")]
}

#[test]
fn bound_thinking_is_sent_only_with_its_prefix() {
    let policy = Policy::with_max_tokens(2_000);
    let options = WindowOptions::new(1_000).with_profile(Profile::anthropic());
    let is_sent = |stored: &[crate::StoredMessage], options: &WindowOptions| {
        let plan = plan_context(stored, &policy, options, &EstimateCounter, now()).unwrap();
        plan.request.to_string().contains("thinking")
    };
    let whole = stored(bound_thinking(), &policy, 1);
    assert!(is_sent(&whole, &options));
    // A flush removed what was before.
    let mut flushed = whole.clone();
    for stored in &mut flushed {
        stored.meta.sequence = stored.meta.sequence.plus(5);
    }
    assert!(!is_sent(&flushed, &options));
    let mut summarized = whole.clone();
    summarized[0].meta.summary = true;
    assert!(!is_sent(&summarized, &options));
    assert!(!is_sent(&whole, &options.with_system("Of one agent.")));
}

#[test]
fn unsendable_reasoning_items_are_not_listed() {
    let reasoning = r#"{"type":"reasoning","summary":[{"type":"summary_text","text":"x"}]}"#;
    let mut history = vec![Message::from_json(reasoning).unwrap(); 20];
    history.push(Message::user("go"));
    let options = WindowOptions::new(1_000).with_profile(Profile::openai_responses());
    let window = trim_messages(history, &EstimateCounter, options).unwrap();
    assert_eq!(window.messages, [Message::user("go")]);
    assert_eq!(window.left_out.empty.messages, 20);
}

#[test]
fn error_names_what_does_not_fit() {
    let long = "x y ".repeat(500);
    let call = |arguments: &str| {
        Message::calls([crate::dialect::ToolCall::function("a", "write", arguments)])
    };
    let history = vec![Message::user("go"), call(&format!("{{\"text\":\"{long}\"}}"))];
    let error = trim_messages(history.clone(), &EstimateCounter, 200).unwrap_err();
    assert!(error.to_string().ends_with("or choose to truncate it"), "{error}");
    let options = WindowOptions::new(200).with_newest(NewestUnit::Truncate);
    let error = trim_messages(history, &EstimateCounter, options).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("with its texts cut") && text.ends_with("or more"), "{text}");
    let ContextError::NewestOverBudget { tokens, needed, .. } = error else { panic!("{error}") };
    assert_eq!(tokens, needed, "nothing is critical");
}

#[test]
fn refused_id_is_mapped_alike_in_every_window() {
    let id = "y".repeat(80);
    let mut history = Vec::new();
    for number in 0..6 {
        let id = format!("{id}{number}");
        history.push(Message::user(format!("question {number}")));
        history.push(Message::calls([crate::dialect::ToolCall::function(&id, "f", "{}")]));
        history.push(Message::tool_result(&id, "r"));
    }
    let last_id = |budget: u64| {
        let window = trim_messages(history.clone(), &EstimateCounter, budget).unwrap();
        let last = window.request.messages().last().unwrap();
        (window.messages.len(), last.get_str("tool_call_id").unwrap().to_owned())
    };
    let ((all, one), (few, other)) = (last_id(10_000), last_id(60));
    assert!(few < all);
    assert_eq!(one, other);
}

/// Message 7 is a reminder, whose unit is critical; message 13 is a newer one, of which nothing can be sent.
#[test]
fn void_reminder_replaces_no_older_one() {
    let output = r#"{"type":"function_call_output","call_id":"a","output":"Hello ~10~"}"#;
    let lines = [
        r#"{"role":"user","content":"Hello ~1~"}"#,
        r#"{"role":"user","content":"Hello ~2~"}"#,
        r#"{"role":"user","content":"Hello ~3~"}"#,
        r#"{"role":"user","content":"Hello ~4~"}"#,
        r#"{"role":"user","content":"Hello ~5~"}"#,
        r#"{"role":"user","content":"Hello ~6~"}"#,
        r#"{"type":"message","id":"msg_1","role":"assistant","status":"completed","content":[{"type":"output_text","text":"Hello ~7~","annotations":[]}]}"#,
        r#"{"type":"function_call","id":"fc_1","call_id":"a","name":"get_tide","arguments":"{}"}"#,
        r#"{"role":"user","content":"Hello ~9~"}"#,
        output,
        r#"{"role":"user","content":"Hello ~11~"}"#,
        r#"{"role":"user","content":"Hello ~12~"}"#,
        r#"{"role":"assistant","content":"","reasoning_content":"thought"}"#,
        r#"{"role":"user","content":"Hello ~14~"}"#,
    ];
    for budget in 30..200 {
        check(&Case::new(&lines, budget, 5)).unwrap();
    }
}
