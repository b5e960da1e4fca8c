//! Each repair in its minimal history, and the table of the README.

use std::collections::BTreeMap;
use std::ops::Range;

use super::profiles;
use crate::check_request::check_request;
use crate::dialect::Loss;
use crate::json::Json;
use crate::message::Message;
use crate::profile::{Profile, ProfileName};
use crate::render::request::dialect_of;
use crate::render::{Repair, RepairKind};
use crate::stored::Sequence;
use crate::tokens::EstimateCounter;
use crate::window::{NewestUnit, Trimmed, WindowOptions, trim_messages};

struct Case {
    kind: RepairKind,
    /// The message that it concerns; 0 for none.
    sequence: u64,
    profile: ProfileName,
    budget: u64,
    history: String,
    request: String,
}

impl Case {
    fn new(
        kind: RepairKind,
        sequence: u64,
        profile: ProfileName,
        history: &[&str],
        request: &str,
    ) -> Self {
        Self {
            kind,
            sequence,
            profile,
            budget: 100_000,
            history: history.join("\n"),
            request: request.into(),
        }
    }

    fn within(self, budget: u64) -> Self {
        Self { budget, ..self }
    }

    fn trim(&self, profile: &Profile) -> Option<Trimmed> {
        let read = |line: &str| Message::from_any(Json::parse(line).unwrap());
        let messages: Vec<_> = self.history.lines().map(read).collect();
        let options = WindowOptions::new(self.budget)
            .with_profile(profile.clone())
            .with_newest(NewestUnit::Truncate);
        trim_messages(messages, &EstimateCounter, options).ok()
    }
}

const USER: &str = r#"{"role":"user","content":"go"}"#;
const SAID: &str = r#"{"role":"assistant","content":"ok"}"#;
const CALL: &str = r#"{"role":"assistant","content":null,"tool_calls":[{"id":"a","type":"function","function":{"name":"f","arguments":"{}"}}]}"#;
const RESULT: &str = r#"{"role":"tool","tool_call_id":"a","content":"r"}"#;
const IMAGE_RESULT: &str = r#"{"role":"user","content":[{"type":"tool_result","tool_use_id":"a","content":[{"type":"image","source":{"type":"base64","media_type":"image/png","data":"iVBORw0KGgo="}}]}]}"#;

fn cases() -> Vec<Case> {
    use ProfileName::{
        Anthropic, Bedrock, Gemini, Mistral, OpenaiChat, OpenaiResponses, StrictTemplate,
    };
    use RepairKind::{
        ArgumentsWrapped, AssistantInserted, AuthorLeftOut, AuthorName, CacheMark, CallId,
        CallsSpread, DocumentName, DuplicateResult, EmptyResult, EmptyText, EndInserted,
        ErrorFlagType, FunctionName, ItemId, Lost, MediaMoved, MediaReplaced, Merged, OrphanResult,
        ProviderRunLeftOut, ReasoningLeftOut, ResultMoved, SignaturePlaceholder, StartInserted,
        StartPinned, SyntheticResult, SystemMoved, TextAdded, TextParted, Truncated,
    };
    let calls = |numbers: Range<u32>| {
        let call = |n| {
            format!(
                r#"{{"id":"c{n}","type":"function","function":{{"name":"f","arguments":"{{}}"}}}}"#
            )
        };
        let calls: Vec<String> = numbers.map(call).collect();
        format!(r#"{{"role":"assistant","content":null,"tool_calls":[{}]}}"#, calls.join(","))
    };
    let results = |numbers: Range<u32>| {
        let result =
            |n| format!(r#"{{"role":"tool","tool_call_id":"c{n}","content":"[no result yet]"}}"#);
        numbers.map(result).collect::<Vec<_>>().join(",")
    };
    let spread = [calls(0..128), results(0..128), calls(128..129), results(128..129)].join(",");
    let words = "the ferry to the island ".repeat(40);
    let long = format!(r#"{{"role":"user","content":"{words}"}}"#);
    let said_long = format!(r#"{{"role":"assistant","content":"{words}"}}"#);
    vec![
        Case::new(SyntheticResult, 1, OpenaiChat, &[CALL], r#"[{"role":"assistant","content":null,"tool_calls":[{"id":"a","type":"function","function":{"name":"f","arguments":"{}"}}]},{"role":"tool","tool_call_id":"a","content":"[no result yet]"}]"#),
        Case::new(OrphanResult, 2, OpenaiChat, &[USER, RESULT], r#"[{"role":"user","content":"go"}]"#),
        Case::new(DuplicateResult, 3, OpenaiChat, &[CALL, RESULT, RESULT], r#"[{"role":"assistant","content":null,"tool_calls":[{"id":"a","type":"function","function":{"name":"f","arguments":"{}"}}]},{"role":"tool","tool_call_id":"a","content":"r"}]"#),
        Case::new(ResultMoved, 3, OpenaiChat, &[CALL, USER, RESULT], r#"[{"role":"assistant","content":null,"tool_calls":[{"id":"a","type":"function","function":{"name":"f","arguments":"{}"}}]},{"role":"tool","tool_call_id":"a","content":"r"},{"role":"user","content":"go"}]"#),
        Case::new(CallId, 3, OpenaiChat, &[CALL, RESULT, CALL, RESULT], r#"[{"role":"assistant","content":null,"tool_calls":[{"id":"a","type":"function","function":{"name":"f","arguments":"{}"}}]},{"role":"tool","tool_call_id":"a","content":"r"},{"role":"assistant","content":null,"tool_calls":[{"id":"call_75615a617645b71358cc","type":"function","function":{"name":"f","arguments":"{}"}}]},{"role":"tool","tool_call_id":"call_75615a617645b71358cc","content":"r"}]"#),
        Case::new(
            FunctionName,
            1,
            OpenaiChat,
            &[
                r#"{"role":"assistant","content":null,"tool_calls":[{"id":"a","type":"function","function":{"name":"get tide","arguments":"{}"}}]}"#,
                RESULT,
            ],
            r#"[{"role":"assistant","content":null,"tool_calls":[{"id":"a","type":"function","function":{"name":"get_tide","arguments":"{}"}}]},{"role":"tool","tool_call_id":"a","content":"r"}]"#,
        ),
        Case::new(
            AuthorName,
            1,
            OpenaiChat,
            &[r#"{"role":"user","content":"go","name":"Ann Example, Oslo"}"#],
            r#"[{"role":"user","content":"go","name":"Ann_Example_Oslo"}]"#,
        ),
        Case::new(
            AuthorLeftOut,
            1,
            Anthropic,
            &[r#"{"role":"user","content":"go","name":"ann"}"#],
            r#"{"messages":[{"role":"user","content":"go"}]}"#,
        ),
        Case::new(
            ArgumentsWrapped,
            2,
            Anthropic,
            &[
                USER,
                r#"{"role":"assistant","content":null,"tool_calls":[{"id":"a","type":"function","function":{"name":"f","arguments":"not json"}}]}"#,
                RESULT,
            ],
            r#"{"messages":[{"role":"user","content":"go"},{"role":"assistant","content":[{"type":"tool_use","id":"a","name":"f","input":{"_raw":"not json"}}]},{"role":"user","content":[{"type":"tool_result","tool_use_id":"a","content":"r"}]}]}"#,
        ),
        Case::new(
            ReasoningLeftOut,
            1,
            OpenaiChat,
            &[
                r#"{"role":"assistant","content":[{"type":"thinking","thinking":"hm","signature":"sig"},{"type":"text","text":"ok"}]}"#,
            ],
            r#"[{"role":"assistant","content":"ok"}]"#,
        ),
        Case::new(SignaturePlaceholder, 0, Gemini, &[USER, CALL, RESULT], r#"{"contents":[{"role":"user","parts":[{"text":"go"}]},{"role":"model","parts":[{"functionCall":{"id":"a","name":"f","args":{}},"thoughtSignature":"skip_thought_signature_validator"}]},{"role":"user","parts":[{"functionResponse":{"id":"a","name":"f","response":{"result":"r"}}}]}]}"#),
        Case::new(
            SystemMoved,
            2,
            Gemini,
            &[USER, r#"{"role":"system","content":"Be brief."}"#],
            r#"{"systemInstruction":{"parts":[{"text":"Be brief."}]},"contents":[{"role":"user","parts":[{"text":"go"}]}]}"#,
        ),
        Case::new(Merged, 2, Bedrock, &[USER, USER], r#"{"messages":[{"role":"user","content":[{"text":"go"},{"text":"go"}]}]}"#),
        Case::new(
            TextParted,
            2,
            Mistral,
            &[
                USER,
                r#"{"role":"assistant","content":"ok","tool_calls":[{"id":"abcdefgh1","type":"function","function":{"name":"f","arguments":"{}"}}]}"#,
                r#"{"role":"tool","tool_call_id":"abcdefgh1","content":"r"}"#,
            ],
            r#"[{"role":"user","content":"go"},{"role":"assistant","content":"ok"},{"role":"assistant","content":"","tool_calls":[{"id":"abcdefgh1","type":"function","function":{"name":"f","arguments":"{}"}}]},{"role":"tool","tool_call_id":"abcdefgh1","content":"r"}]"#,
        ),
        Case::new(CallsSpread, 1, OpenaiChat, &[&calls(0..129)], &format!("[{spread}]")),
        Case::new(StartInserted, 0, StrictTemplate, &[SAID, USER], r#"[{"role":"user","content":"[earlier messages left out]"},{"role":"assistant","content":"ok"},{"role":"user","content":"go"}]"#),
        Case::new(AssistantInserted, 4, StrictTemplate, &[USER, CALL, RESULT, USER], r#"[{"role":"user","content":"go"},{"role":"assistant","content":"","tool_calls":[{"id":"a","type":"function","function":{"name":"f","arguments":"{}"}}]},{"role":"tool","tool_call_id":"a","content":"r"},{"role":"assistant","content":"[interrupted]"},{"role":"user","content":"go"}]"#),
        Case::new(EndInserted, 0, Bedrock, &[USER, SAID], r#"{"messages":[{"role":"user","content":[{"text":"go"}]},{"role":"assistant","content":[{"text":"ok"}]},{"role":"user","content":[{"text":"[continue]"}]}]}"#),
        Case::new(StartPinned, 1, OpenaiChat, &[USER, &said_long, CALL, RESULT], r#"[{"role":"user","content":"go"},{"role":"assistant","content":null,"tool_calls":[{"id":"a","type":"function","function":{"name":"f","arguments":"{}"}}]},{"role":"tool","tool_call_id":"a","content":"r"}]"#).within(60),
        Case::new(Truncated, 1, OpenaiChat, &[&long], r#"[{"role":"user","content":"the ferry to the island the ferry to the island the ferry to the island the ferr\n[truncated]"}]"#).within(30),
        Case::new(
            EmptyText,
            1,
            OpenaiChat,
            &[
                r#"{"role":"user","content":[{"type":"text","text":""},{"type":"text","text":"go"}]}"#,
            ],
            r#"[{"role":"user","content":"go"}]"#,
        ),
        Case::new(
            EmptyResult,
            3,
            Bedrock,
            &[USER, CALL, r#"{"role":"tool","tool_call_id":"a","content":""}"#],
            r#"{"messages":[{"role":"user","content":[{"text":"go"}]},{"role":"assistant","content":[{"toolUse":{"toolUseId":"a","name":"f","input":{}}}]},{"role":"user","content":[{"toolResult":{"toolUseId":"a","content":[{"text":"[no output]"}]}}]}]}"#,
        ),
        Case::new(MediaMoved, 2, OpenaiChat, &[CALL, IMAGE_RESULT], r#"[{"role":"assistant","content":null,"tool_calls":[{"id":"a","type":"function","function":{"name":"f","arguments":"{}"}}]},{"role":"tool","tool_call_id":"a","content":"[see the attachment in the next message]"},{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,iVBORw0KGgo="}}]}]"#),
        Case::new(
            MediaReplaced,
            1,
            OpenaiChat,
            &[
                r#"{"role":"user","content":[{"type":"video_url","video_url":{"url":"https://example.com/a.mp4"}}]}"#,
            ],
            r#"[{"role":"user","content":"[video left out: https://example.com/a.mp4]"}]"#,
        ),
        Case::new(
            TextAdded,
            1,
            Bedrock,
            &[
                r#"{"role":"user","content":[{"document":{"format":"pdf","name":"a","source":{"bytes":"JVBERi0="}}}]}"#,
            ],
            r#"{"messages":[{"role":"user","content":[{"document":{"format":"pdf","name":"a","source":{"bytes":"JVBERi0="}}},{"text":"[document]"}]}]}"#,
        ),
        Case::new(
            ProviderRunLeftOut,
            1,
            OpenaiChat,
            &[
                r#"{"role":"assistant","content":[{"type":"server_tool_use","id":"srvtoolu_1","name":"web_search","input":{}},{"type":"web_search_tool_result","tool_use_id":"srvtoolu_1","content":[]},{"type":"text","text":"ok"}]}"#,
            ],
            r#"[{"role":"assistant","content":"ok"}]"#,
        ),
        Case::new(
            ItemId,
            0,
            OpenaiResponses,
            &[
                r#"{"type":"message","id":"1","role":"assistant","content":[{"type":"output_text","text":"ok","annotations":[]}]}"#,
            ],
            r#"{"input":[{"type":"message","role":"assistant","content":[{"type":"output_text","text":"ok","annotations":[]}]}]}"#,
        ),
        Case::new(
            CacheMark,
            0,
            Anthropic,
            &[
                r#"{"role":"user","content":[{"type":"text","text":"1","cache_control":{"type":"ephemeral"}},{"type":"text","text":"2","cache_control":{"type":"ephemeral"}},{"type":"text","text":"3","cache_control":{"type":"ephemeral"}},{"type":"text","text":"4","cache_control":{"type":"ephemeral"}},{"type":"text","text":"5","cache_control":{"type":"ephemeral"}}]}"#,
            ],
            r#"{"messages":[{"role":"user","content":[{"type":"text","text":"1"},{"type":"text","text":"2","cache_control":{"type":"ephemeral"}},{"type":"text","text":"3","cache_control":{"type":"ephemeral"}},{"type":"text","text":"4","cache_control":{"type":"ephemeral"}},{"type":"text","text":"5","cache_control":{"type":"ephemeral"}}]}]}"#,
        ),
        Case::new(
            DocumentName,
            1,
            Bedrock,
            &[
                r#"{"role":"user","content":[{"text":"go"},{"document":{"format":"pdf","name":"a","source":{"bytes":"JVBERi0="}}},{"document":{"format":"pdf","name":"a","source":{"bytes":"JVBERi0="}}}]}"#,
            ],
            r#"{"messages":[{"role":"user","content":[{"text":"go"},{"document":{"format":"pdf","name":"a","source":{"bytes":"JVBERi0="}}},{"document":{"format":"pdf","name":"a (2)","source":{"bytes":"JVBERi0="}}}]}]}"#,
        ),
        Case::new(
            ErrorFlagType,
            3,
            Anthropic,
            &[
                USER,
                CALL,
                r#"{"role":"user","content":[{"type":"tool_result","tool_use_id":"a","is_error":"true","content":"bad"}]}"#,
            ],
            r#"{"messages":[{"role":"user","content":"go"},{"role":"assistant","content":[{"type":"tool_use","id":"a","name":"f","input":{}}]},{"role":"user","content":[{"type":"tool_result","tool_use_id":"a","content":"bad","is_error":true}]}]}"#,
        ),
        Case::new(
            Lost(Loss::ErrorFlag),
            2,
            OpenaiChat,
            &[
                CALL,
                r#"{"role":"user","content":[{"type":"tool_result","tool_use_id":"a","is_error":true,"content":"bad"}]}"#,
            ],
            r#"[{"role":"assistant","content":null,"tool_calls":[{"id":"a","type":"function","function":{"name":"f","arguments":"{}"}}]},{"role":"tool","tool_call_id":"a","content":"Error: bad"}]"#,
        ),
        Case::new(
            Lost(Loss::Citations),
            1,
            OpenaiChat,
            &[
                r#"{"role":"assistant","content":[{"type":"text","text":"ok","citations":[{"type":"char_location","cited_text":"x"}]}]}"#,
            ],
            r#"[{"role":"assistant","content":"ok"}]"#,
        ),
        Case::new(
            Lost(Loss::DocumentAsText),
            1,
            OpenaiChat,
            &[
                r#"{"role":"user","content":[{"type":"document","source":{"type":"text","media_type":"text/plain","data":"tides"}}]}"#,
            ],
            r#"[{"role":"user","content":"tides"}]"#,
        ),
        Case::new(
            Lost(Loss::Unknown),
            1,
            OpenaiChat,
            &[
                r#"{"role":"user","content":[{"type":"hologram","x":1},{"type":"text","text":"go"}]}"#,
            ],
            r#"[{"role":"user","content":"go"}]"#,
        ),
    ]
}

/// A number for each kind except losses, so that none is missing.
const fn number(kind: RepairKind) -> usize {
    match kind {
        RepairKind::SyntheticResult => 0,
        RepairKind::OrphanResult => 1,
        RepairKind::DuplicateResult => 2,
        RepairKind::ResultMoved => 3,
        RepairKind::CallId => 4,
        RepairKind::FunctionName => 5,
        RepairKind::AuthorName => 6,
        RepairKind::AuthorLeftOut => 7,
        RepairKind::ArgumentsWrapped => 8,
        RepairKind::ReasoningLeftOut => 9,
        RepairKind::SignaturePlaceholder => 10,
        RepairKind::SystemMoved => 11,
        RepairKind::Merged => 12,
        RepairKind::TextParted => 13,
        RepairKind::CallsSpread => 14,
        RepairKind::StartInserted => 15,
        RepairKind::AssistantInserted => 16,
        RepairKind::EndInserted => 17,
        RepairKind::StartPinned => 18,
        RepairKind::Truncated => 19,
        RepairKind::EmptyText => 20,
        RepairKind::EmptyResult => 21,
        RepairKind::MediaMoved => 22,
        RepairKind::MediaReplaced => 23,
        RepairKind::TextAdded => 24,
        RepairKind::ProviderRunLeftOut => 25,
        RepairKind::ItemId => 26,
        RepairKind::CacheMark => 27,
        RepairKind::DocumentName => 28,
        RepairKind::ErrorFlagType => 29,
        RepairKind::Lost(_) => 30,
    }
}

#[test]
fn each_repair_has_its_smallest_history() {
    let mut wrong = Vec::new();
    let mut kinds: Vec<_> = cases().iter().map(|case| number(case.kind)).collect();
    kinds.dedup();
    assert_eq!(kinds, (0..=30).collect::<Vec<_>>());
    for case in cases() {
        let profile = Profile::new(case.profile, None);
        let window = case.trim(&profile).unwrap();
        let sequence = (case.sequence > 0).then(|| Sequence::new(case.sequence));
        let expected = Repair { kind: case.kind, sequence };
        let text = window.request.to_string();
        assert_eq!(check_request(&text, &profile), Ok(()), "{text}");
        let is_listed = window.repairs.contains(&expected);
        if !is_listed || text != case.request {
            wrong.push(format!("{}\n{:?}\n{text}", case.kind.as_str(), window.repairs));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// The tables of the README, as the renderer behaves.
fn tables() -> String {
    let mut names: Vec<ProfileName> = Vec::new();
    for profile in profiles() {
        if !names.contains(&profile.name) {
            names.push(profile.name);
        }
    }
    let mut text = String::from("| profile | dialect of the messages |\n| --- | --- |\n");
    for name in &names {
        text.push_str(&format!("| `{name}` | `{}` |\n", dialect_of(*name).as_str()));
    }
    text.push_str("\n| repair | what was done | profiles |\n| --- | --- | --- |\n");
    let mut found: BTreeMap<&str, Vec<ProfileName>> = BTreeMap::new();
    for case in cases() {
        for profile in profiles() {
            let Some(window) = case.trim(&profile) else { continue };
            for repair in window.repairs {
                let list = found.entry(repair.kind.as_str()).or_default();
                if !list.contains(&profile.name) {
                    list.push(profile.name);
                }
            }
        }
    }
    for case in cases() {
        let kind = case.kind;
        let by = found.get(kind.as_str()).cloned().unwrap_or_default();
        let listed = if by.len() == names.len() {
            String::from("all")
        } else {
            let by: Vec<_> =
                names.iter().filter(|n| by.contains(n)).map(|n| format!("`{n}`")).collect();
            by.join(", ")
        };
        text.push_str(&format!("| `{}` | {} | {listed} |\n", kind.as_str(), kind.text()));
    }
    text
}

#[test]
fn readme_has_the_tables_of_repairs() {
    let readme = include_str!("../../../README.md");
    let tables = tables();
    assert!(readme.contains(&tables), "put this into the README:\n{tables}");
}
