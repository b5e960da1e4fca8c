//! The output of the other commands.

use std::io::{BufRead as _, BufReader};

use memory_core::MemoryHealth;
use memory_core::store::FlushReceipt;
use serde_json::{Value, json};

use crate::support::{Folder, Said, counts, lines};

on_every_store!(
    keys_lists_what_there_is,
    list_keys_follows_its_pattern,
    lease_shows_and_breaks,
    memory_of_another_resource_is_found_by_key,
    tail_shows_the_last_messages_and_follows,
    tail_notes_what_flushes_and_edits_remove,
    context_prints_messages_and_health_prints_json,
    flush_prints_its_receipt_or_nothing_due,
    control_characters_are_escaped_for_people,
    clear_counts_removals_and_still_knows_imports,
    rewind_takes_back_the_newest_messages,
    metadata_is_printed_and_changed,
    messages_are_replaced_and_pinned,
    erased_messages_and_deleted_memories_are_gone,
    all_messages_are_replaced_by_a_file,
    archive_lists_and_undoes_removals,
    search_finds_present_and_archived_messages,
    cleared_tool_results_are_shown_and_undone,
    stats_are_grouped_by_a_property,
    run_executes_documents,
    sweep_removes_unused_memories_on_demand,
);

fn with_talk(folder: &Folder) {
    with_counted_talk(folder, "estimate");
}

fn with_counted_talk(folder: &Folder, tokenizer: &str) {
    let talk = [
        json!({"role": "system", "content": "Be kind.", "case": "k 1"}),
        json!({"role": "user", "content": "Hello\nthere", "name": "ann", "case": "k 1"}),
        json!({"role": "assistant", "content": null, "case": "k 1",
            "tool_calls": [{"id": "c", "type": "function", "function": {"name": "find", "arguments": "{}"}}]}),
        json!({"role": "tool", "tool_call_id": "c", "content": "found", "case": "k 1"}),
    ];
    folder.write("talk.jsonl", talk.map(|message| message.to_string()).join("\n"));
    let args = ["import", "talk.jsonl", "--json", "--key", "case:{{ line.case }}"];
    let said = folder.run_words(args.into_iter().chain(["--tokenizer", tokenizer]));
    assert_eq!(said.code, Some(0), "{said:?}");
}

fn sweep_removes_unused_memories_on_demand(folder: &Folder) {
    with_talk(folder);
    assert_eq!(folder.ok("sweep"), "0 memories with 0 messages removed\n");
    let none = folder.ok("sweep --unused-for 90d --dry-run");
    assert_eq!(none, "0 memories with 0 messages would be removed\n");
    let refused = folder.run("sweep --unused-for 90d");
    assert_eq!(refused.code, Some(2));
    assert!(refused.err.contains("add --yes"), "{refused:?}");
    assert_eq!(folder.run("sweep --unused-for 90").code, Some(2));
    // Expired memories need no confirmation. On Redis the server removes them at some time.
    folder.write("short.yaml", "id: default\nmax_tokens: 1000\npersistence: {ttl: 1ms}\n");
    let import = ["import", "talk.jsonl", "--resource", "short.yaml", "--key", "short"];
    assert_eq!(folder.run_words(import).code, Some(0));
    let swept = folder.json("sweep --json");
    let (memories, messages) = (swept["memories"].as_u64(), swept["messages"].as_u64());
    // It may have expired in the middle of the import, too.
    assert!(matches!((memories, messages), (Some(1), Some(1..=4)) | (Some(0), Some(0))), "{swept}");
    assert_eq!((&swept["dry_run"], &swept["more"]), (&json!(false), &json!(false)));
    assert_eq!(folder.json("sweep --json")["memories"], json!(0));
    assert!(folder.ok("keys").ends_with("1 memory, 4 messages\n"));
}

fn stats_are_grouped_by_a_property(folder: &Folder) {
    with_talk(folder);
    let stats = folder.run_words(one(&["stats", "--by", "extra.name", "--json"]));
    let stats: Value = serde_json::from_str(&stats.out).unwrap();
    let group = |name, tokens: u32| {
        let average = f64::from(tokens);
        json!({"name": name, "messages": 1, "tokens": tokens, "average_tokens": average})
    };
    assert_eq!((&stats["messages"], &stats["average_tokens"]), (&json!(4), &json!(11.25)));
    assert_eq!(stats["groups"][1], group("ann", 10), "{stats}");
    let table = folder.run_words(one(&["stats", "--by", "role"])).out;
    assert!(table.contains("assistant") && table.contains("default:default:case:k%201"), "{table}");
    assert_eq!(folder.run_words(one(&["stats", "--by", "team"])).code, Some(2));
}

fn run_executes_documents(folder: &Folder) {
    with_talk(folder);
    let said = |line: &str, document: &str| {
        folder.write("operation.yaml", document);
        let said = folder.run(&format!("run operation.yaml --var my.case=k {line}"));
        let report = serde_json::from_str(&said.out).unwrap_or(Value::Null);
        (said.code, report, said.err)
    };
    let stats = "operation: stats\nmemory_ref: default\nkey_template: case:{{ my.case }}*\n";
    let (code, report, _) = said("--read-only", stats);
    assert_eq!((code, &report["memories"], &report["messages"]), (Some(0), &json!(1), &json!(4)));
    let append = "{operation: append, memory_id: default, memory_key: new, payload: hi}";
    let (code, report, _) = said("", append);
    assert_eq!((code, &report["results"][0]["message_count"]), (Some(0), &json!(1)));
    let (code, report, err) = said("--read-only", append);
    assert_eq!((code, &report["error"]["code"]), (Some(1), &json!("unauthorized")));
    assert!(err.contains("read-only"), "{err}");
    let clear =
        "operation: clear\nmemory_ref: default\nkey_template: '*'\nconfirm: true\nbackup: true\n";
    assert_eq!(said("", clear).1["error"]["code"], "invalid_operation");
    std::fs::create_dir(folder.path("kept")).unwrap();
    let (code, report, err) = said("--backups kept", clear);
    assert_eq!(code, Some(0), "{report} {err}");
    let file = report["results"][1]["backup"].as_str().unwrap();
    assert_eq!(file, "kept/default:default:new.1.memory");
    assert!(folder.ok("keys").ends_with("0 memories, 0 messages\n"));
    folder.ok(&format!("restore {file} --key again"));
    assert!(folder.ok("tail --key again").contains("hi"));
    let (code, _, err) = said("", "operation: clear\nmemory_ref: default\n");
    assert_eq!(code, Some(2));
    assert!(err.contains("`confirm` must be true"), "{err}");
}

fn one<'a>(command: &[&'a str]) -> Vec<&'a str> {
    [command, &["--key", "case:{{ my.case }}", "--var", "my.case=k 1"]].concat()
}

fn lease_shows_and_breaks(folder: &Folder) {
    with_talk(folder);
    let free = folder.run_words(one(&["lease", "--json"]));
    let free: Value = serde_json::from_str(&free.out).unwrap();
    assert_eq!(
        (&free["memory"], &free["flush"], &free["broken"]),
        (&Value::Null, &Value::Null, &json!(false))
    );
    let runtime = tokio::runtime::Runtime::new().unwrap();
    // A stuck holder: its lease is neither refreshed nor released.
    let key = free["key"].as_str().unwrap().parse::<memory_core::MemoryKey>().unwrap();
    let lease = memory_lock::LockKey::new(key.lease_name()).unwrap();
    let manager =
        runtime.block_on(memory_instance::MemoryManager::builder().open(&folder.store())).unwrap();
    let stuck = memory_lock::LockOptions::new();
    let guard = runtime.block_on(manager.locks().lock(&lease, &stuck)).unwrap();

    let owner = guard.proof().owner.to_string().chars().take(8).collect::<String>();
    let held = folder.run_words(one(&["lease"]));
    assert!(held.out.contains(&format!("held by {owner}, token {}", guard.fence())), "{held:?}");
    let broken = folder.run_words(one(&["lease", "break", "--yes"]));
    assert_eq!(broken.code, Some(0), "{broken:?}");
    assert!(broken.out.contains(&format!("broken; was held by {owner}")), "{broken:?}");
    let free = folder.run_words(one(&["lease"]));
    assert!(free.out.contains("free") && !free.out.contains("held"), "{free:?}");
    let again = runtime.block_on(async {
        let outcome = guard.release().await;
        assert_eq!(outcome, memory_lock::ReleaseOutcome::NotOwner);
        manager.locks().lock(&lease, &stuck).await.unwrap().fence().number()
    });
    assert!(again > 0);
}

fn keys_lists_what_there_is(folder: &Folder) {
    // The estimate is 45.
    with_counted_talk(folder, "o200k_base");
    assert_eq!(
        folder.json("keys --json"),
        json!([{"key": "default:default:case:k%201", "project": "default", "resource": "default",
            "name": "case:k 1", "messages": 4, "tokens": 43}])
    );
    let table = folder.ok("keys");
    assert!(table.contains("case:k 1") && table.ends_with("1 memory, 4 messages\n"), "{table}");
}

fn list_keys_follows_its_pattern(folder: &Folder) {
    folder.write("hi.jsonl", r#"{"role":"user","content":"hi"}"#);
    folder.write("sales.yaml", "id: sales\nmax_tokens: 8000\n");
    for key in ["a-1", "a-2", "*-1"] {
        folder.ok(&format!("import hi.jsonl --json --key {key}"));
    }
    folder.ok("import hi.jsonl --json --key a-1 --resource sales.yaml");
    let keys = |line: &str| folder.json(&format!("list-keys --json {line}"));
    let listed =
        |keys: &[&str], truncated| json!({"keys": keys, "hashed": false, "truncated": truncated});
    assert_eq!(keys("--key *-1"), listed(&["default:default:%2A-1", "default:default:a-1"], false));
    assert_eq!(keys("--key {{v}}-1* --var v=*"), listed(&["default:default:%2A-1"], false));
    assert_eq!(keys("--limit 1 --key a*"), listed(&["default:default:a-1"], true));
    assert_eq!(keys("--of sales"), listed(&["default:sales:a-1"], false));
    let hash = "7c419ed0759452ebd4c4b49d3e87e166732889f0288ed85378ff7a6bbeffacfb";
    assert_eq!(keys("--key a-2 --hashed")["keys"], json!([hash]));
    let said = folder.run("list-keys --key a-*");
    assert_eq!(said.out, "default:default:a-1\ndefault:default:a-2\n");
    assert_eq!(said.err, "2 memories of resource `default` in project `default`\n");
    assert_eq!(folder.run("list-keys --limit 50001").code, Some(2));
}

fn memory_of_another_resource_is_found_by_key(folder: &Folder) {
    folder.write("hi.jsonl", r#"{"role":"user","content":"hi"}"#);
    for id in ["support", "sales"] {
        folder.write(&format!("{id}.yaml"), format!("id: {id}\nmax_tokens: 8000\n"));
    }
    folder.ok("import hi.jsonl --json --resource support.yaml --key case-1");
    folder.ok("import hi.jsonl --json --resource support.yaml --key other");
    assert_eq!(folder.ok("tail --key case-1"), "#1 user: hi\n");
    assert_eq!(folder.ok("tail --key default:support:case-1"), "#1 user: hi\n");
    assert_eq!(folder.json("health --key case-1 --json")["key"], "default:support:case-1");
    assert_eq!(folder.json("keys --of support --prefix case --json").as_array().unwrap().len(), 1);
    assert_eq!(folder.json("keys --prefix case --json").as_array().unwrap().len(), 1);
    assert_eq!(folder.json("keys --of sales --json"), json!([]));
    let said = folder.run("tail --key case-1 --resource sales.yaml");
    assert!(said.err.contains("resource `support` has one: leave --resource out"), "{said:?}");

    folder.ok("import hi.jsonl --json --resource sales.yaml --key case-1");
    let said = folder.run("tail --key case-1");
    let ambiguous = "error: no memory has the key `case-1` (project `default`, resource `default`); 2 resources have one: give the storage key, such as --key default:sales:case-1\n";
    assert_eq!((said.code, said.err.as_str()), (Some(1), ambiguous));
    assert_eq!(folder.ok("tail --key default:sales:case-1"), "#1 user: hi\n");
}

fn tail_shows_the_last_messages_and_follows(folder: &Folder) {
    with_talk(folder);
    let said = folder.run_words(one(&["tail", "-n", "3"]));
    assert_eq!(
        said.out,
        "#2 user (ann): Hello\n    there\n#3 assistant: -> find({})\n#4 tool: found\n"
    );

    let mut follower = folder.command(one(&["tail", "-f", "-n", "1", "--json"])).spawn().unwrap();
    let mut followed = BufReader::new(follower.stdout.take().unwrap()).lines();
    let mut next =
        || -> Value { serde_json::from_str(&followed.next().unwrap().unwrap()).unwrap() };
    assert_eq!(next()["sequence"], 4);
    folder.write("more.jsonl", r#"{"role":"user","content":"more"}"#);
    folder.run_words(one(&["import", "more.jsonl"]));
    assert_eq!(
        next(),
        json!({"sequence": 5, "tokens": 5, "summary": false, "message": {"role": "user", "content": "more"}})
    );
    // Both ctrl-c and SIGTERM end it.
    #[cfg(unix)]
    let signal = rustix::process::Signal::TERM;
    #[cfg(unix)]
    rustix::process::kill_process(rustix::process::Pid::from_child(&follower), signal).unwrap();
    #[cfg(not(unix))]
    follower.kill().unwrap();
    let code = follower.wait().unwrap().code();
    assert!(cfg!(not(unix)) || code == Some(0), "{code:?}");
}

fn tail_notes_what_flushes_and_edits_remove(folder: &Folder) {
    folder.write("small.yaml", "id: default\nmax_tokens: 100\n");
    let talk: String = (0..12)
        .map(|n| format!("{{\"role\":\"user\",\"content\":\"number {n} of a long talk\"}}\n"))
        .collect();
    folder.write("talk.jsonl", &talk);
    folder.run_words(one(&["import", "talk.jsonl"]));
    let mut follower = folder.command(one(&["tail", "-f", "-n", "1"])).spawn().unwrap();
    let mut shown = BufReader::new(follower.stdout.take().unwrap()).lines();
    let mut notes = BufReader::new(follower.stderr.take().unwrap()).lines();
    let mut next_note = || notes.next().unwrap().unwrap();
    assert_eq!(shown.next().unwrap().unwrap(), "#12 user: number 11 of a long talk");

    let said = folder.run_words(one(&["flush", "--resource", "small.yaml"]));
    assert_eq!(said.code, Some(0), "{said:?}");
    let flushed = next_note();
    assert!(flushed.starts_with("(#1 to #") && flushed.ends_with(" were summarized)"), "{flushed}");

    let said = folder.run_words(one(&["replace", "12", "--text", "replaced"]));
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(next_note(), "(#12 was replaced)");
    assert_eq!(shown.next().unwrap().unwrap(), "#12 user: replaced");

    let said = folder.run_words(one(&["clear", "--yes"]));
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(next_note(), "(cleared up to #12)");
    follower.kill().unwrap();
    follower.wait().unwrap();
}

fn context_prints_messages_and_health_prints_json(folder: &Folder) {
    with_talk(folder);
    let said = folder.run_words(one(&["context"]));
    let window: Vec<Value> = serde_json::from_str(&said.out).unwrap();
    assert_eq!(window.len(), 4);
    let said = folder.run_words(one(&["health", "--json"]));
    let health: MemoryHealth = serde_json::from_str(&said.out).unwrap();
    assert_eq!(
        (health.messages, health.lifetime.appended, health.max_tokens),
        (4, 4, 1_000_000_000)
    );
    assert_eq!(said.err, "");
    let said = folder.run_words(one(&["health"]));
    let table = said.out;
    assert!(table.contains("healthy") && table.contains("of 1,000,000,000"), "{table}");
    let judged = "judged by a budget of 1,000,000,000 tokens; give --resource to judge by the budget of a resource\n";
    assert_eq!(said.err, judged);
    let all = folder.run("health --all");
    assert!(all.out.contains("case:k 1") && all.err == judged, "{all:?}");
    folder.write("own.json", r#"{"id": "default", "max_tokens": 100}"#);
    let said = folder.run_words(one(&["health", "--resource", "own.json"]));
    assert!(said.out.contains("of 100 ") && said.err.is_empty(), "{said:?}");
}

fn control_characters_are_escaped_for_people(folder: &Folder) {
    // A window title, a cleared screen (C1), a reversed text, a bell, and a forged line.
    let hostile = "\u{1b}]0;owned\u{7}\u{9b}2J\u{202e}cod.exe\u{7f}\rx";
    let message = json!({"role": "assistant", "content": format!("a{hostile}"), "name": format!("n{hostile}\n#9 user: hi"),
        "tool_calls": [{"id": "c", "type": "function", "function": {"name": hostile, "arguments": hostile}}]});
    folder.write("hostile.jsonl", message.to_string());
    let key = format!("k{hostile}\n1 memory");
    let args = ["import", "hostile.jsonl", "--json", "--key", &key];
    assert_eq!(folder.run_words(args).code, Some(0));
    let with_key = |command: &[&str]| folder.run_words([command, &["--key", &key]].concat());
    let bad = folder.run_words(["tail", "--key", &format!("nobody{hostile}")]);
    let shown = [
        with_key(&["tail"]),
        folder.run("keys"),
        with_key(&["health"]),
        folder.run("health --all"),
        bad,
    ];
    for Said { out, err, .. } in &shown {
        for text in [out, err] {
            let unsafe_ones = |c: char| c != '\n' && (c.is_control() || c == '\u{202e}');
            assert!(!text.contains(unsafe_ones), "{text:?}");
        }
        assert!(!format!("{out}{err}").lines().any(|line| line.starts_with("#9 user")));
    }
    assert!(shown[0].out.contains(r"a\u{1b}]0;owned\u{7}"), "{shown:?}");
    assert!(shown[1].out.contains(r"k\u{1b}]0;owned"), "{shown:?}");
    // JSON for programs is unchanged.
    assert_eq!(lines(&with_key(&["export"]).out), [message]);
}

fn flush_prints_its_receipt_or_nothing_due(folder: &Folder) {
    let line = r#"{"role":"user","content":"one two three four five six seven eight nine ten"}"#;
    folder.write("talk.jsonl", [line; 30].join("\n"));
    // 30 messages of 14 tokens: over the target, under the threshold.
    folder.write(
        "r.toml",
        "id = 'r'\nkey = 'k'\nmax_tokens = 600\ntokenizer = 'o200k_base'\n[flushing_strategy]\ntype = 'hybrid_summary'\n",
    );
    folder.ok("import talk.jsonl --resource r.toml");
    let planned = folder.json("flush --resource r.toml --strategy fifo --free 25 --dry-run --json");
    assert_eq!((&planned["dry_run"], &planned["evicted"]), (&json!(true), &json!([[1, 8]])));
    assert!(folder.ok("flush --resource r.toml --target 400 --dry-run").contains("dry run"));
    let due = folder.ok("flush --resource r.toml --if-due");
    assert!(due.contains("420 tokens are under the threshold or within the target"), "{due}");
    assert_eq!(folder.json("flush --resource r.toml --from 0.71 --json"), Value::Null);
    let refused = folder.run("flush --resource r.toml --strategy oldest");
    assert!(refused.code == Some(2) && refused.err.contains("hybrid_summary"), "{refused:?}");
    let receipt: FlushReceipt =
        serde_json::from_value(folder.json("flush --resource r.toml --from 0.7 --json")).unwrap();
    assert!(receipt.tokens_after <= 300 && receipt.tokens_before == 420, "{receipt:?}");
    assert!(!receipt.summarized.is_empty());
    assert_eq!(folder.json("flush --resource r.toml --json"), Value::Null);
    assert!(folder.ok("flush --resource r.toml").contains("nothing to do"));
    let summary = &lines(&folder.ok("export --resource r.toml"))[0];
    assert_eq!(summary["role"], "system");
}

fn archive_lists_and_undoes_removals(folder: &Folder) {
    let line = r#"{"role":"user","content":"one two three four five six seven eight nine ten"}"#;
    folder.write("talk.jsonl", [line; 30].join("\n"));
    folder.write(
        "r.toml",
        "id = 'r'\nkey = 'k'\nmax_tokens = 600\ntokenizer = 'o200k_base'\n[archive]\nkeep = '30d'\n",
    );
    folder.ok("import talk.jsonl --resource r.toml");
    assert!(folder.ok("archive --resource r.toml").contains("the archive is empty"));
    let receipt: FlushReceipt =
        serde_json::from_value(folder.json("flush --resource r.toml --json")).unwrap();
    let removals = folder.json("archive --resource r.toml --json");
    assert_eq!(removals[0]["cause"], "flush");
    let removed = receipt.summarized.len() + receipt.evicted.len();
    assert_eq!(removals[0]["messages"], removed);
    let number = removals[0]["number"].as_u64().unwrap();
    let shown = folder.ok(&format!("archive --resource r.toml --show {number}"));
    assert_eq!(shown.lines().count() as u64, removed);
    assert!(folder.ok("health --resource r.toml").contains("of 1 removal"));
    folder.ok(&format!("archive --resource r.toml --undo {number}"));
    assert_eq!(lines(&folder.ok("export --resource r.toml")).len(), 30);
    assert!(folder.ok("health --resource r.toml").contains("held since a flush was undone"));
    let missing = folder.run(&format!("archive --resource r.toml --undo {number}"));
    assert_eq!(missing.code, Some(1));
    folder.ok("clear --resource r.toml --yes");
    assert_eq!(folder.json("archive --resource r.toml --json")[0]["cause"], "clear");
    folder.ok("clear --resource r.toml --yes --purge");
    assert_eq!(folder.json("archive --resource r.toml --json"), json!([]));
}

fn search_finds_present_and_archived_messages(folder: &Folder) {
    let lines: Vec<_> = (1..=30)
        .map(|number| {
            let role = if number % 2 == 1 { "user" } else { "assistant" };
            let text = format!("number{number} two three four five six seven eight nine ten");
            json!({"role": role, "content": text}).to_string()
        })
        .collect();
    folder.write("talk.jsonl", lines.join("\n"));
    folder.write(
        "r.toml",
        "id = 'r'\nkey = 'k'\nmax_tokens = 600\ntokenizer = 'o200k_base'\n[archive]\nkeep = '30d'\n",
    );
    folder.ok("import talk.jsonl --resource r.toml");
    let shown = folder.ok("search number3 --resource r.toml");
    assert!(shown.starts_with("#3 user (") && shown.trim_end().ends_with("nine ten"), "{shown}");
    let users = folder.json("search number* --role user -n 5 --resource r.toml --json");
    assert_eq!((&users["matches"], users["hits"].as_array().unwrap().len()), (&json!(15), 5));
    assert_eq!(users["coverage"], "complete");
    folder.ok("flush --resource r.toml");
    let archived = folder.json("search number3 --archived --resource r.toml --json");
    assert_eq!(archived["hits"][0]["sequence"], 3);
    assert!(
        folder.ok("search number3 --archived --resource r.toml").contains("archived in removal")
    );
    assert_eq!(
        folder.json("search number3 --since 2999-01-01 --resource r.toml --json")["matches"],
        0
    );
    folder.ok("search --rebuild --resource r.toml");
    let again = folder.json("search number3 --archived --resource r.toml --json");
    assert_eq!(again["hits"], archived["hits"]);
    for (mistake, code) in
        [("search !", 1), ("search", 2), ("search a --since then", 2), ("search a -n 2000", 2)]
    {
        assert_eq!(
            folder.run(&format!("{mistake} --resource r.toml")).code,
            Some(code),
            "{mistake}"
        );
    }
}

fn cleared_tool_results_are_shown_and_undone(folder: &Folder) {
    let turn = |number: usize| {
        let call = json!({"id": format!("c{number}"), "type": "function", "function": {"name": "f", "arguments": "{}"}});
        let result = json!({"role": "tool", "tool_call_id": format!("c{number}"), "content": "a fare ".repeat(60)});
        [json!({"role": "assistant", "content": null, "tool_calls": [call]}), result]
    };
    let talk: Vec<_> = (0..5).flat_map(turn).map(|message| message.to_string()).collect();
    folder.write("talk.jsonl", talk.join("\n"));
    folder.write(
        "r.yaml",
        "id: r\nkey: k\nmax_tokens: 1200\narchive: { keep: 30d }\nflushing_strategy: { type: clear_tool_results, clear_tool_results: { keep: 2 } }\n",
    );
    folder.ok("import talk.jsonl --resource r.yaml");
    let before = folder.ok("export --resource r.yaml");
    let shown = folder.ok("flush --resource r.yaml");
    assert!(shown.contains("tool results cleared") && shown.contains("3 (#2 to #6)"), "{shown}");
    assert!(folder.ok("health --resource r.yaml").contains("tool results cleared 3 (#2 to #6)"));
    let cleared = folder.ok("export --resource r.yaml");
    assert_eq!(cleared.matches("[tool result cleared: ").count(), 3);
    assert!(folder.ok("archive --resource r.yaml").contains("3 (#2 to #6)"));
    let removals = folder.json("archive --resource r.yaml --json");
    assert_eq!(removals[0]["messages"], 3);
    assert_eq!(removals[0]["receipt"]["replaced"].as_array().map(Vec::len), Some(3));
    let number = removals[0]["number"].as_u64().unwrap();
    assert!(
        folder.ok(&format!("archive --resource r.yaml --undo {number}")).contains("3 messages")
    );
    assert_eq!(folder.ok("export --resource r.yaml"), before);
    folder.write("bad.yaml", "id: r\nkey: k\nmax_tokens: 800\nflushing_strategy: { type: fifo, clear_tool_results: { keep: 2 } }\n");
    let refused = folder.run("flush --resource bad.yaml");
    assert!(refused.err.contains("flushing_strategy.clear_tool_results"), "{}", refused.err);
}

fn metadata_is_printed_and_changed(folder: &Folder) {
    with_talk(folder);
    let of = |more: &[&str]| {
        let args = [&["metadata", "--key", "case:k 1"], more].concat();
        folder.run_words(args)
    };
    let json = |said: Said| -> Value {
        assert_eq!(said.code, Some(0), "{said:?}");
        serde_json::from_str(&said.out).unwrap()
    };
    let none = json!({"revision": 0, "values": {}, "updated_at": null});
    assert_eq!(json(of(&[])), none);
    let set = json(of(&["--set", "customer=ACME", "--set", "n=12345678901234567890123"]));
    assert_eq!((&set["revision"], &set["values"]["customer"]), (&json!(1), &json!("ACME")));
    let printed = of(&["--unset", "customer", "--set", "open=true", "--expect", "1"]);
    assert!(
        printed.out.contains(r#""values":{"n":12345678901234567890123,"open":true}"#),
        "{printed:?}"
    );
    assert_eq!(json(of(&[])), json(printed));
    for (more, code, text) in [
        (&["--set", "n=2", "--expect", "1"][..], 1, "has revision 2, not the expected one"),
        (&["--expect", "2"], 2, "--expect needs a change"),
        (&["--set", "n=2", "--unset", "n"], 2, "`n` is set and unset"),
        (&["--set", "n"], 2, "name=value"),
    ] {
        let said = of(more);
        assert_eq!(said.code, Some(code), "{said:?}");
        assert!(said.err.contains(text), "{said:?}");
    }
    // Metadata stays without messages.
    let key = ["--key", "case:k 1"];
    folder.run_words([&["clear", "--purge", "--yes"], &key[..]].concat());
    assert_eq!(json(of(&[]))["revision"], 2);
    folder.run_words([&["delete", "--yes"], &key[..]].concat());
    assert_eq!(of(&[]).code, Some(1));
}

fn rewind_takes_back_the_newest_messages(folder: &Folder) {
    with_talk(folder);
    let before = folder.run_words(one(&["health", "--json"])).out;
    let before: Value = serde_json::from_str(&before).unwrap();
    let said = folder.run_words(one(&["rewind"]));
    assert_eq!(said.code, Some(2));
    let said = folder.run_words(one(&["rewind", "--to", "3"]));
    // The call at 3 and its result at 4 are one unit.
    assert_eq!(
        said.out,
        "default:default:case:k%201: 2 messages taken back, kept in the archive\n"
    );
    let receipt = folder.run_words(one(&["rewind", "--turn", "--json"])).out;
    let receipt: FlushReceipt = serde_json::from_str(&receipt).unwrap();
    assert_eq!(serde_json::to_value(&receipt.withdrawn).unwrap(), json!([[2, 2]]));
    let health = folder.run_words(one(&["health", "--json"])).out;
    let health: Value = serde_json::from_str(&health).unwrap();
    assert_eq!(health["lifetime"]["withdrawn"], 3);
    let all = folder.run("health --all").out;
    assert!(all.contains("cleared") && all.contains("withdrawn"), "{all}");
    let help = folder.ok("health --help");
    let equation = "appended = (present - summaries) + summarized + evicted + cleared + withdrawn";
    assert!(help.contains(equation), "{help}");
    assert_eq!(health["last_flush"], before["last_flush"]);
    let nothing = folder.run_words(one(&["rewind", "--to", "100", "--json"]));
    assert_eq!(nothing.out, "null\n");
}

fn messages_are_replaced_and_pinned(folder: &Folder) {
    with_talk(folder);
    assert_eq!(folder.run_words(one(&["replace", "2"])).code, Some(2));
    assert_eq!(folder.run_words(one(&["set", "2"])).code, Some(2));
    let said = folder.run_words(one(&["replace", "2", "--text", "[removed]"]));
    assert_eq!(said.out, "default:default:case:k%201: message 2 replaced\n");
    let said = folder.run_words(one(&["replace", "4", "--text", "nothing found"]));
    assert_eq!(said.code, Some(0), "{said:?}");
    // A result stays a result.
    let said = folder.run_words(one(&[
        "replace",
        "4",
        "--json-message",
        r#"{"role":"user","content":"x"}"#,
    ]));
    assert!(said.err.contains("other tool calls"), "{said:?}");
    let said = folder.run_words(one(&["replace", "9", "--text", "x"]));
    assert!(said.code == Some(1) && said.err.contains("no message 9"), "{said:?}");
    let words = ["set", "2", "--priority", "0", "--content-type", "important_facts", "--json"];
    let edited: Value = serde_json::from_str(&folder.run_words(one(&words)).out).unwrap();
    assert_eq!((&edited["sequence"], &edited["counters"]["appended"]), (&json!(2), &json!(4)));
    let again = folder.run_words(one(&["set", "2", "--priority", "0"]));
    assert!(again.out.ends_with("message 2 was so already\n"), "{again:?}");
    let exported = folder.run_words(one(&["export", "--json"])).out;
    assert!(exported.contains("[removed]") && exported.contains("nothing found"), "{exported}");
    assert!(!exported.contains("there"), "{exported}");
    let health = folder.run_words(one(&["health", "--json"])).out;
    assert!(health.contains("important_facts"), "{health}");
}

fn erased_messages_and_deleted_memories_are_gone(folder: &Folder) {
    with_talk(folder);
    let said = folder.run_words(one(&["erase", "2", "--reason", ""]));
    assert_ne!(said.code, Some(0));
    let said = folder.run_words(one(&["erase", "2,9-10", "--reason", "request 7", "--checkpoint"]));
    assert!(said.out.starts_with("default:default:case:k%201: 1 message erased, 2 not found\n"));
    assert!(said.out.contains("  not reached: backups\n"), "{}", said.out);
    let receipt = folder.run_words(one(&["erase", "3", "--reason", "test", "--json"])).out;
    let receipt: Value = serde_json::from_str(&receipt).unwrap();
    assert_eq!(receipt["erasure"]["present"], json!([[3, 3]]));
    assert_eq!(receipt["counters"]["withdrawn"], 2);
    assert_eq!(folder.run_words(one(&["delete"])).code, Some(2));
    let said = folder.run_words(one(&["delete", "--yes"]));
    assert!(said.out.starts_with("default:default:case:k%201: deleted, with 2 messages\n"));
    assert_eq!(folder.ok("keys --json"), "[]\n");
}

fn all_messages_are_replaced_by_a_file(folder: &Folder) {
    with_talk(folder);
    std::fs::write(folder.path("new.jsonl"), "{\"role\":\"user\",\"content\":\"anew\"}\n").unwrap();
    let replace =
        |more: &[&str]| folder.run_words(one(&[&["replace-all", "new.jsonl"], more].concat()));
    assert_eq!(replace(&[]).code, Some(2));
    let said = replace(&["--yes", "--expected", "3"]);
    assert!(
        said.code == Some(1) && said.err.contains("the newest message is 4, not 3"),
        "{said:?}"
    );
    let said = replace(&["--yes", "--expected", "4"]);
    assert_eq!(
        said.out,
        "default:default:case:k%201: 4 messages cleared (45 tokens), kept in the archive as 5, and replaced by 1 message\n",
        "{said:?}"
    );
    assert_eq!(folder.run_words(one(&["tail"])).out, "#5 user: anew\n");
    let archive = folder.run_words(one(&["archive"])).out;
    assert!(archive.contains("clear") && archive.contains("4 (#1 to #4)"), "{archive}");
    std::fs::write(folder.path("new.jsonl"), "{}\n").unwrap();
    let said = replace(&["--yes"]);
    assert!(said.code == Some(1) && said.err.contains("new.jsonl:1"), "{said:?}");
}

fn clear_counts_removals_and_still_knows_imports(folder: &Folder) {
    with_talk(folder);
    let said = folder.run_words(one(&["clear", "--yes"]));
    assert_eq!(
        said.out,
        "default:default:case:k%201: 4 messages cleared (45 tokens), kept in the archive as 5\n"
    );
    assert_eq!(folder.ok("keys --json"), "[]\n");
    let again = folder.run_words(one(&["import", "talk.jsonl", "--json"]));
    assert_eq!(counts(&serde_json::from_str(&again.out).unwrap()), [4, 0, 4, 0]);
    let renamed = folder.run_words(one(&["import", "talk.jsonl", "--json", "--source", "again"]));
    assert_eq!(counts(&serde_json::from_str(&renamed.out).unwrap()), [4, 4, 0, 0]);
}

#[test]
fn closed_pipe_ends_an_export_silently() {
    let folder = Folder::new();
    let line = json!({"role": "user", "content": "x".repeat(1_000)}).to_string();
    folder.write("talk.jsonl", vec![line; 500].join("\n"));
    folder.ok("import talk.jsonl --key k --store sqlite://memory.db?synchronous=normal");
    let mut export = folder.command(["export", "--key", "k"]).spawn().unwrap();
    let mut read = BufReader::new(export.stdout.take().unwrap());
    read.read_line(&mut String::new()).unwrap();
    drop(read);
    let said = Said::from(export.wait_with_output().unwrap());
    assert_eq!((said.code, said.err.as_str()), (Some(0), ""));
}

#[cfg(unix)]
#[test]
fn closed_pipe_ends_a_tail() {
    let folder = Folder::new();
    with_talk(&folder);
    let mut tail = folder.command(one(&["tail", "-f", "-n", "1"])).spawn().unwrap();
    let mut read = BufReader::new(tail.stdout.take().unwrap());
    let mut line = String::new();
    read.read_line(&mut line).unwrap();
    assert_eq!(line, "#4 tool: found\n");
    drop(read);
    // Nothing more is written.
    let said = Said::from(tail.wait_with_output().unwrap());
    assert_eq!((said.code, said.err.as_str()), (Some(0), ""));
}

#[test]
fn demo_prints_its_acts_and_balanced_counters() {
    let folder = Folder::new();
    let story = folder.ok("demo");
    for told in [
        "fenced off: the lease with token",
        "of 400 messages",
        "A search finds the original of #7",
        "all 90 are back. Then #7 was erased",
        "nothing was lost, nothing was doubled",
    ] {
        assert!(story.contains(told), "`{told}` is not in the story:\n{story}");
    }
    let health = folder.json("demo --json --store memory://");
    assert_eq!(health["conserved"], true);
    assert!(!folder.path("memory.db").exists(), "the demo left a file");
}

#[test]
fn bench_measures_ours_and_the_bare_database() {
    let folder = Folder::new();
    let quick = "bench --tasks 1,4 --messages 20 --rounds 1 --json";
    let said = folder.run(quick);
    assert_eq!(said.code, Some(0), "{said:?}");
    let figures: Value = serde_json::from_str(&said.out).unwrap();
    let rows = figures["rows"].as_array().unwrap();
    let names: Vec<_> = rows.iter().map(|row| row["operation"].as_str().unwrap()).collect();
    assert_eq!(names[..4], ["bare insert", "append", "append", "append"]);
    assert!(names.contains(&"read 10 new of 10,000"), "{names:?}");
    for row in rows {
        // A rate below one in two seconds is rounded to 0, on a busy machine.
        let has_latency = row["p50_us"].as_f64().unwrap() > 0.0;
        assert!(has_latency && row["operations"].as_u64().unwrap() > 0, "{row}");
    }
    // A given store is left unchanged.
    let said = folder.run(&format!("{quick} append --store sqlite://b.db"));
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(folder.ok("keys --json --store sqlite://b.db"), "[]\n");
    assert_eq!(folder.run("bench append --store memory:// --messages 20 --json").code, Some(0));
}

#[test]
fn store_comes_from_the_environment() {
    let folder = Folder::new();
    folder.write("talk.jsonl", r#"{"role":"user","content":"hi"}"#);
    let run = |line: &str, store: &str| {
        let mut command = folder.command(line.split(' '));
        Said::from(command.env("MEMORY_STORE", store).output().unwrap())
    };
    assert_eq!(run("import talk.jsonl --key k --json", "sqlite://env.db").code, Some(0));
    assert!(folder.path("env.db").exists() && !folder.has_store());
    assert!(run("keys", "sqlite://env.db").out.ends_with("1 memory, 1 message\n"));
    let none = "0 memories, 0 messages\n";
    assert_eq!(run("keys --store memory://", "sqlite://env.db").out, none, "the option counts");
    let refused = run("keys", "mysql://me:secret@host/db");
    assert_eq!(refused.code, Some(2));
    assert!(refused.err.starts_with("error: store URL `mysql://***@host/db`"), "{refused:?}");
    assert_eq!(folder.ok("import talk.jsonl --key k --json").lines().count(), 1);
    assert!(run("keys", "").out.ends_with("1 memory, 1 message\n"), "an empty variable is unset");
}

#[test]
fn path_that_begins_with_file_is_a_path() {
    let folder = Folder::new();
    folder.write("talk.jsonl", r#"{"role":"user","content":"hi"}"#);
    let other = folder.write("x.db", "of another program");
    folder.ok("import talk.jsonl --key k --json --store sqlite://file:x.db");
    assert_eq!(folder.ok("tail --key k --store sqlite://file:x.db"), "#1 user: hi\n");
    assert!(folder.path("file:x.db").exists());
    assert_eq!(std::fs::read_to_string(other).unwrap(), "of another program");
}

#[test]
fn every_command_teaches_by_example() {
    let folder = Folder::new();
    for command in [
        "",
        "import",
        "export",
        "context",
        "health",
        "keys",
        "flush",
        "lease",
        "metadata",
        "archive",
        "backup",
        "restore",
        "copy",
        "fork",
        "clear",
        "erase",
        "delete",
        "replace",
        "replace-all",
        "rewind",
        "search",
        "set",
        "sweep",
        "tail",
        "bench",
    ] {
        let help = folder.ok(&format!("{command} --help"));
        assert!(help.contains("Examples:\n  memory "), "{command}: {help}");
        assert!(help.contains("--store <URL>"), "{command}");
    }
    assert!(folder.ok("--version").starts_with("memory "));
}
