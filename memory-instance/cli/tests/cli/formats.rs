//! Imports of all supported formats.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use memory_core::Message;
use memory_core::dialect::{Dialect, Part};
use serde_json::{Value, json};

use crate::data::conversations;
use crate::support::{Folder, counts, lines};

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/formats").join(name)
}

fn text(name: &str) -> String {
    fs::read_to_string(data(name)).unwrap()
}

/// Estimates tokens, because a vocabulary takes longer to load than the rest of a test.
const RESOURCE: &str = r#"{"id":"default","max_tokens":1000000}"#;

/// Imports under a key, and the history that this makes.
fn import(folder: &Folder, file: &str, key: &str, more: &[&str]) -> Vec<Value> {
    folder.write("r.json", RESOURCE);
    let args = ["import", file, "--key", key, "--json", "--resource", "r.json"];
    let said = folder.run_words([&args, more].concat());
    assert_eq!((said.code, said.err.as_str()), (Some(0), ""), "{file}: {said:?}");
    lines(&folder.ok(&format!("export --key {key} --resource r.json")))
}

fn chat(role: &str, content: &str) -> Value {
    json!({"role": role, "content": content})
}

/// The files whose messages are converted, and the result. The result of all other files is their lines.
fn converted() -> Vec<(&'static str, Vec<Value>)> {
    let greeting = vec![chat("user", "hi"), chat("assistant", "hello")];
    vec![
        ("array.json", greeting.clone()),
        ("array-oneline.jsonl", greeting.clone()),
        ("sharegpt.jsonl", greeting),
        (
            "claude-code.jsonl",
            vec![
                chat("user", "hi"),
                json!({"id": "msg_1", "role": "assistant", "model": "claude-x", "content":
                    [{"type": "tool_use", "id": "toolu_1", "name": "Bash", "input": {"command": "ls"}}]}),
            ],
        ),
        (
            "codex-rollout.jsonl",
            vec![json!({"type": "message", "role": "user",
                "content": [{"type": "input_text", "text": "hi"}]})],
        ),
        (
            "langchain.jsonl",
            vec![
                json!({"role": "user", "content": "hi", "additional_kwargs": {}}),
                json!({"role": "assistant", "content": "", "tool_calls":
                    [{"name": "f", "args": {"a": 1}, "id": "c1", "type": "tool_call"}]}),
            ],
        ),
        (
            "openai-finetune.jsonl",
            vec![
                chat("system", "Marv is a factual chatbot."),
                chat("user", "Capital of France?"),
                json!({"role": "assistant", "content": "Paris.", "weight": 0}),
            ],
        ),
        ("pydantic-ai.jsonl", vec![chat("user", "hi")]),
    ]
}

const NATIVE: [&str; 7] = [
    "aisdk-model.jsonl",
    "bedrock.jsonl",
    "hf-template.jsonl",
    "langchain-role.jsonl",
    "lc-asst-flat.jsonl",
    "ollama.jsonl",
    "responses-items.jsonl",
];

fn all() -> Vec<(&'static str, Vec<Value>)> {
    let native = NATIVE.map(|name| (name, lines(&text(name))));
    converted().into_iter().chain(native).collect()
}

#[test]
fn every_format_gives_its_messages_once() {
    let folder = Folder::new();
    for (name, expected) in all() {
        let path = data(name);
        let path = path.to_str().unwrap();
        assert_eq!(import(&folder, path, name, &[]), expected, "{name}");
        // The stem of the file's name is a name of its format too.
        let format = name.split('.').next().unwrap();
        let format = if name.starts_with("array") { "array" } else { format };
        let format = if format == "lc-asst-flat" { "langchain" } else { format };
        let again = ["import", path, "--key", name, "--format", format, "--json"];
        let said = folder.run_words([again.as_slice(), &["--resource", "r.json"]].concat());
        assert_eq!(said.code, Some(0), "{name}: {said:?}");
        let count = expected.len() as u64;
        assert_eq!(counts(&lines(&said.out)[0]), [count, 0, count, 0], "{name}");
    }
}

/// All formats in one file, in every way to write it.
#[test]
fn writing_of_the_records_does_not_matter() {
    let folder = Folder::new();
    let (mut records, mut expected) = (Vec::new(), Vec::new());
    // The arrays among the files are ways of writing themselves.
    for (name, messages) in all().into_iter().filter(|(name, _)| !name.starts_with("array")) {
        records.extend(lines(&text(name)));
        expected.extend(messages);
    }
    let compact: Vec<String> = records.iter().map(Value::to_string).collect();
    let pretty: Vec<String> =
        records.iter().map(|value| serde_json::to_string_pretty(value).unwrap()).collect();
    for (index, written) in [
        compact.join("\n"),
        format!("\u{feff}{}\r\n\r\n  \n\n", compact.join("\r\n")),
        format!("[{}]", compact.join(", ")),
        format!("[\n{}\n]\n", pretty.join(",\n")),
        format!("\u{feff}[\n{}\n]", pretty.join("\n,\n")).replace('\n', "\r\n"),
        pretty.join("\n"),
        compact.iter().map(|line| format!("[{line}]\n")).collect::<String>(),
        format!("[[{}]]", compact.join(",")),
    ]
    .into_iter()
    .enumerate()
    {
        folder.write("written.json", written);
        assert_eq!(import(&folder, "written.json", &index.to_string(), &[]), expected, "{index}");
    }
}

#[test]
fn unsupported_formats_are_named() {
    let folder = Folder::new();
    for (name, format) in [
        ("adk.jsonl", "an event of Google's ADK"),
        ("autogen.jsonl", "an AutoGen message"),
        ("chatgpt-export.jsonl", "a message of the ChatGPT export"),
        ("cohere.jsonl", "a Cohere v1 message"),
        ("letta.jsonl", "a Letta message"),
        ("oasst.jsonl", "an OASST message"),
        ("sk.jsonl", "a Semantic Kernel message"),
        ("wildchat.jsonl", "a WildChat conversation"),
        ("xlam.jsonl", "an xLAM example"),
    ] {
        let path = data(name);
        let said = folder.run_words(["import", path.to_str().unwrap(), "--key", "k"]);
        let expected = format!("{name}:1: this looks like {format}, which import does not read");
        assert!(said.code == Some(1) && said.err.contains(&expected), "{said:?}");
        assert!(said.err.ends_with("; nothing was appended\n"), "{said:?}");
    }
}

#[test]
fn wrong_format_names_the_likely_one() {
    let folder = Folder::new();
    let path = data("claude-code.jsonl");
    let said =
        folder.run_words(["import", path.to_str().unwrap(), "--key", "k", "--format", "sharegpt"]);
    let expected = "claude-code.jsonl:1: not of --format sharegpt: this looks like a line of a Claude Code session; use --format claude-code, or leave --format out (and 1 more bad line); nothing was appended\n";
    assert!(said.code == Some(1) && said.err.ends_with(expected), "{said:?}");
    let said = folder.run("import x --format nonsense");
    assert_eq!(said.code, Some(2));
    assert!(said.err.contains("claude-code") && said.err.lines().count() == 1, "{said:?}");
}

#[test]
fn bad_lines_are_passed_over_and_counted() {
    let folder = Folder::new();
    let line = |text: &str| format!("{}\n", chat("user", text));
    let bad = [
        "{\"role\":\"user\",\"content\":\n",
        "{\"role\":\"tool\",\"tool_call_id\":\"t\",\"content\":\"cut \\ud83d\"}\n",
        "{\"role\":\"user\",\"content\":\"a\"}{\"role\":\"user\",\"content\":\"b\"}\n",
        "\0\0\0\0\n",
        "{\"role\":\"user\",\"role\":\"system\",\"content\":\"a\"}\n",
        "{\"id\":\"m\",\"message_type\":\"user_message\",\"content\":\"a\"}\n",
        "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"},{\"content\":\"b\"}]}\n",
        "{\"role\":\"user\",\"con",
    ];
    let mut text = String::new();
    for (bad, index) in bad.iter().zip(0..) {
        text += &line(&index.to_string());
        text += bad;
    }
    folder.write("bad.jsonl", text);
    let said = folder.run("import bad.jsonl --key k");
    let first = "bad.jsonl:2: invalid JSON at column 26: the line ends within a value, as after a crash of its writer; complete it or remove it (and 7 more bad lines)";
    assert_eq!((said.code, said.err), (Some(1), format!("error: {first}; nothing was appended\n")));
    assert!(folder.run("export --key k").err.contains("no memory has the key"));

    for seen in 0..2 {
        let said = folder.run("import bad.jsonl --key k --skip-bad --json");
        assert_eq!(said.code, Some(0));
        assert_eq!(said.err, format!("passed over 8 bad lines: {first}\n"));
        let report = &lines(&said.out)[0];
        assert_eq!(counts(report), if seen == 0 { [8, 8, 0, 0] } else { [8, 0, 8, 0] });
        assert_eq!(report["bad"], 8);
    }
    let expected: Vec<Value> = (0..8).map(|index| chat("user", &index.to_string())).collect();
    assert_eq!(lines(&folder.ok("export --key k")), expected);
}

#[test]
fn numbers_and_roles_are_kept() {
    let folder = Folder::new();
    let number = r#"{"role":"user","content":"hi","id":12345678901234567890123,"x":0.1000000000000000055511151231257827,"y":1.0,"z":-0.0,"w":1e2}"#;
    let roles = [" user", "USER", "User", "narrator", "Assistant "];
    let roles: Vec<Value> = roles.iter().map(|role| chat(role, "hi")).collect();
    let text: String = roles.iter().map(|message| format!("{message}\n")).collect();
    folder.write("odd.jsonl", format!("{number}\n{text}"));
    folder.ok("import odd.jsonl --key k");
    let history = folder.ok("export --key k");
    assert_eq!(history.lines().next(), Some(number));
    assert_eq!(lines(&history)[1..], roles);
    let said = folder.run("export --key k --format chat");
    let roles =
        lines(&said.out).iter().map(|message| message["role"].to_string()).collect::<Vec<_>>();
    assert_eq!(roles.join(" "), r#""user" "user" "user" "user" "user" "assistant""#);
    assert_eq!(
        said.err,
        "converted to chat: roles that the dialect lacks were written as `user` (1 x)\n"
    );
}

#[test]
fn other_encoding_is_named_with_any_options() {
    let folder = Folder::new();
    let utf16: Vec<u8> =
        "\u{feff}[{\"role\":\"user\"}]".encode_utf16().flat_map(u16::to_le_bytes).collect();
    folder.write("u.json", &utf16);
    folder.write("le.json", &utf16[2..]);
    for options in ["", " --skip-bad", " --replace-surrogates"] {
        for file in ["u.json", "le.json"] {
            let said = folder.run(&format!("import {file} --key k{options}"));
            assert_eq!(said.code, Some(1), "{said:?}");
            assert!(said.err.contains(&format!("{file}:1: the file is UTF-16")), "{said:?}");
        }
    }
}

#[test]
fn other_choice_of_lines_is_another_source() {
    let folder = Folder::new();
    let lone = "{\"role\":\"user\",\"content\":\"cut \\ud83d\"}\n";
    folder.write("l.jsonl", format!("{lone}{}\n", chat("user", "whole")));
    assert_eq!(folder.run("import l.jsonl --key k --skip-bad").code, Some(0));
    // The skipped line is a message now, and must not be mistaken for the imported one.
    let report = folder.json("import l.jsonl --key k --skip-bad --replace-surrogates --json");
    assert_eq!(counts(&report), [2, 2, 0, 0]);
    assert_eq!(report["replaced_surrogates"], 1);
    let again = folder.json("import l.jsonl --key k --replace-surrogates --json");
    assert_eq!(counts(&again), [2, 0, 2, 0]);
    let last = lines(&folder.ok("export --key k"));
    assert_eq!(last[1..], [chat("user", "cut \u{fffd}"), chat("user", "whole")]);
}

#[test]
fn options_for_bad_lines_change_nothing_without_them() {
    let folder = Folder::new();
    folder.write("good.jsonl", chat("user", "hi").to_string());
    folder.ok("import good.jsonl --key k");
    for more in ["--skip-bad", "--replace-surrogates", "--format chat"] {
        let report = folder.json(&format!("import good.jsonl --key k --json {more}"));
        assert_eq!(counts(&report), [1, 0, 1, 0], "{more}");
    }
}

#[test]
fn conversations_take_their_key_from_the_outer_object() {
    let folder = Folder::new();
    let records = [
        json!({"id": "a", "conversations": [{"from": "human", "value": "1"}, {"from": "gpt", "value": "2"}]}),
        json!({"messages": [{"role": "user", "content": "3", "id": "inner"}], "id": "b"}),
        json!({"parentUuid": null, "uuid": "u", "type": "user", "id": "a",
            "message": {"role": "user", "content": "4"}}),
    ];
    folder.write("c.jsonl", records.map(|record| record.to_string()).join("\n"));
    folder.write("r.yaml", "id: default\nmax_tokens: 1000\nkey: 'c-{{ line.id }}'\n");
    folder.ok("import c.jsonl --resource r.yaml");
    let texts = |key: &str| -> Vec<String> {
        let history = lines(&folder.ok(&format!("export --key {key}")));
        history.iter().map(|message| message["content"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(
        (texts("c-a"), texts("c-b")),
        (vec!["1".into(), "2".into(), "4".into()], vec!["3".into()])
    );

    let said = folder.run_words(["import", "c.jsonl", "--key", "n{{ record.number }}"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(
        (texts("n1").len(), texts("n2"), texts("n3")),
        (2, vec!["3".into()], vec!["4".into()])
    );
    let said = folder.run("import c.jsonl");
    assert!(said.err.contains("c.jsonl:1:") && said.err.contains("line.conversations"), "{said:?}");
}

#[test]
fn lines_of_one_claude_code_message_are_merged() {
    let folder = Folder::new();
    let line = |uuid: &str, kind: &str, id: &str, block: Value| {
        let message = match kind {
            "assistant" => json!({"id": id, "role": kind, "content": [block], "stop_reason": null}),
            _ => json!({"role": kind, "content": [block]}),
        };
        json!({"type": kind, "uuid": uuid, "sessionId": "s", "message": message}).to_string()
    };
    let call = |id: &str| json!({"type": "tool_use", "id": id, "name": "Bash", "input": {}});
    let result = |id: &str| json!({"type": "tool_result", "tool_use_id": id, "content": "x"});
    let thought = json!({"type": "thinking", "thinking": "hm", "signature": "s"});
    let records = [
        line("1", "assistant", "m1", thought.clone()),
        json!({"type": "system", "subtype": "hook", "uuid": "2", "sessionId": "s"}).to_string(),
        line("3", "assistant", "m1", call("a")),
        line("4", "assistant", "m1", call("b")),
        line("5", "user", "", result("a")),
        line("6", "user", "", result("b")),
        line("7", "assistant", "m2", json!({"type": "text", "text": "one"})),
        line("8", "assistant", "m3", json!({"type": "text", "text": "two"})),
    ];
    folder.write("session.jsonl", records.join("\n"));
    let args = ["import", "session.jsonl", "--key", "{{ line.sessionId }}", "--json"];
    let said = folder.run_words(args);
    assert_eq!(said.code, Some(0), "{said:?}");
    let report = &lines(&said.out)[0];
    assert_eq!((counts(report), &report["left_out"]), ([5, 5, 0, 0], &json!(1)));
    assert_eq!(counts(&lines(&folder.run_words(args).out)[0]), [5, 0, 5, 0]);
    let history = lines(&folder.ok("export --key s"));
    assert_eq!(history[0]["content"], json!([thought, call("a"), call("b")]));
    let ids: Vec<&Value> = history.iter().map(|message| &message["id"]).collect();
    assert_eq!(ids, [&json!("m1"), &Value::Null, &Value::Null, &json!("m2"), &json!("m3")]);
}

#[test]
fn printed_context_can_be_imported() {
    let folder = Folder::new();
    let path = data("responses-items.jsonl");
    import(&folder, path.to_str().unwrap(), "k", &[]);
    let said = folder.run("context --key k");
    assert_eq!((said.code, said.err.as_str()), (Some(0), "message 2: left out reasoning\n"));
    let context = said.out;
    folder.write("context.json", &context);
    let expected: Value = serde_json::from_str(&context).unwrap();
    assert_eq!(json!(import(&folder, "context.json", "copy", &[])), expected);
}

#[test]
fn metadata_is_counted_as_left_out() {
    let folder = Folder::new();
    let path = data("codex-rollout.jsonl");
    let said = folder.run_words(["import", path.to_str().unwrap(), "--key", "k", "--json"]);
    let report = &lines(&said.out)[0];
    assert_eq!((counts(report), &report["left_out"]), ([1, 1, 0, 0], &json!(2)));
}

/// The content that a conversion keeps: texts, calls with their arguments, and results of these calls.
fn kept(history: &str) -> Vec<String> {
    let (mut kept, mut names) = (Vec::new(), HashMap::new());
    for line in history.lines() {
        Message::from_json(line).unwrap().read(&mut |part| match part {
            Part::Text(text) if text.text.is_empty() => {}
            Part::Text(text) => kept.push(format!("text {}", text.text)),
            Part::Call(call) => {
                let arguments = serde_json::from_str::<Value>(&call.arguments.to_text());
                kept.push(format!("call {} {:?}", call.name, arguments.ok()));
                names.extend(call.id.map(|id| (id.to_owned(), call.name.to_owned())));
            }
            Part::Result(result) => {
                let named = result.link.and_then(|id| names.get(id).map(String::as_str));
                let name = named.or(result.name).unwrap();
                kept.push(format!("result of {name} {}", result.text()));
            }
            _ => {}
        });
    }
    kept
}

#[test]
fn exports_in_every_dialect_come_back() {
    let folder = Folder::new();
    let conversations = conversations(&folder);
    let real = conversations.by_id.values().take(4).flatten();
    folder.write("real.jsonl", real.map(|message| format!("{message}\n")).collect::<String>());
    let mixed = all().into_iter().map(|(name, _)| text(name).trim().to_owned() + "\n");
    folder.write("mixed.json", mixed.collect::<String>());
    for (file, least) in [("real.jsonl", 100), ("mixed.json", 25)] {
        import(&folder, file, file, &[]);
        let original = kept(&folder.ok(&format!("export --key {file} --resource r.json")));
        assert!(original.len() > least, "{}", original.len());
        for dialect in Dialect::ALL {
            let export = format!("export --key {file} --format {dialect} --resource r.json");
            let said = folder.run(&export);
            assert_eq!(said.code, Some(0), "{dialect}: {said:?}");
            assert_eq!(kept(&said.out), original, "{dialect}");
            for line in said.err.lines() {
                let is_note = line.starts_with(&format!("converted to {dialect}: "));
                assert!(is_note && line.ends_with(" x)"), "{line}");
            }
            folder.write("copy.jsonl", &said.out);
            let key = format!("{file}-{dialect}");
            import(&folder, "copy.jsonl", &key, &["--format", dialect.as_str()]);
            let back = folder.run(&format!("export --key {key} --format chat --resource r.json"));
            assert_eq!(kept(&back.out), original, "{dialect} and back");
        }
    }
}

#[test]
fn losses_of_an_export_are_counted_by_kind() {
    let folder = Folder::new();
    let path = data("responses-items.jsonl");
    import(&folder, path.to_str().unwrap(), "k", &[]);
    let said = folder.run("export --key k --format anthropic");
    assert_eq!(
        said.err,
        "converted to anthropic: reasoning of another provider was left out (1 x)\n"
    );
    let expected = [
        chat("user", "weather?"),
        json!({"role": "assistant", "content":
            [{"type": "tool_use", "id": "call_1", "name": "weather", "input": {}}]}),
        json!({"role": "user", "content":
            [{"type": "tool_result", "tool_use_id": "call_1", "content": "rain"}]}),
        chat("assistant", "Rain."),
    ];
    assert_eq!((said.code, lines(&said.out).as_slice()), (Some(0), expected.as_slice()));
    let said = folder.run("export --key k --format claude");
    assert!(said.code == Some(2) && said.err.contains("anthropic"), "{said:?}");
}
