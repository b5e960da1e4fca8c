//! Imports that are interrupted, repeated, or blocked.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::Stdio;

use flate2::Compression;
use flate2::write::GzEncoder;
use memory_core::MemoryResource;
use serde_json::{Value, json};

use crate::support::{Folder, Said, counts, lines};

on_every_store!(;
    on_servers: a_killed_import_goes_on_where_it_was,
    named_source_continues_and_changed_unnamed_is_new,
    source_is_identified_by_content,
    blank_lines_crlf_and_bom_are_accepted,
    an_empty_file_is_no_mistake,
    unwritable_memory_does_not_stop_others,
);

fn log(numbers: std::ops::Range<u64>) -> String {
    numbers.fold(String::new(), |mut text, number| {
        let _ = writeln!(text, "{}", json!({"role": "user", "content": "x", "n": number}));
        text
    })
}

fn numbers(exported: &str) -> Vec<u64> {
    lines(exported).iter().map(|message| message["n"].as_u64().unwrap()).collect()
}

fn a_killed_import_goes_on_where_it_was(folder: &Folder) {
    folder.write("log.jsonl", log(0..2_000));
    let args = ["import", "log.jsonl", "--key", "k", "--json"];
    let mut child = folder.command(args).spawn().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        while !folder.has_store() {
            tokio::task::yield_now().await;
        }
        let manager = folder.open(MemoryResource::new("default", 1_000)).await;
        let memory = manager.memory("default", "k").unwrap();
        while memory.len().await.unwrap() < 20 {
            tokio::task::yield_now().await;
        }
        child.kill().unwrap();
        child.wait().unwrap();
    });
    let [read, appended, skipped, failed] = counts(&folder.json(&args.join(" ")));
    assert_eq!((read, appended + skipped, failed), (2_000, 2_000, 0));
    assert!(skipped >= 20, "{skipped} skipped: what was acknowledged is gone");
    assert_eq!(numbers(&folder.ok("export --key k")), (0..2_000).collect::<Vec<_>>());
}

fn named_source_continues_and_changed_unnamed_is_new(folder: &Folder) {
    folder.write("log.jsonl", log(0..3));
    let named = "import log.jsonl --key named --source log --json";
    let unnamed = "import log.jsonl --key unnamed --json";
    assert_eq!(counts(&folder.json(named)), [3, 3, 0, 0]);
    assert_eq!(counts(&folder.json(unnamed)), [3, 3, 0, 0]);
    folder.write("log.jsonl", log(0..5));
    assert_eq!(counts(&folder.json(named)), [5, 2, 3, 0]);
    assert_eq!(counts(&folder.json(unnamed)), [5, 5, 0, 0]);
    assert_eq!(numbers(&folder.ok("export --key named")), [0, 1, 2, 3, 4]);
}

fn source_is_identified_by_content(folder: &Folder) {
    let text = log(0..4);
    folder.write("plain.jsonl", &text);
    let mut gz = GzEncoder::new(Vec::new(), Compression::fast());
    gz.write_all(text.as_bytes()).unwrap();
    let packed = gz.finish().unwrap();
    folder.write("packed", &packed);
    assert_eq!(counts(&folder.json("import plain.jsonl --key k --json")), [4, 4, 0, 0]);
    assert_eq!(counts(&folder.json("import packed plain.jsonl --key k --json")), [8, 0, 8, 0]);
    let mut child = folder
        .command(["import", "-", "--key", "k", "--json"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(&packed).unwrap();
    let said = Said::from(child.wait_with_output().unwrap());
    assert_eq!(counts(&serde_json::from_str(&said.out).unwrap()), [4, 0, 4, 0], "{said:?}");
}

fn blank_lines_crlf_and_bom_are_accepted(folder: &Folder) {
    folder.write(
        "w.jsonl",
        "\u{feff}{\"role\":\"user\",\"n\":1}\r\n\r\n  \n{\"role\":\"assistant\",\"n\":2}",
    );
    assert_eq!(counts(&folder.json("import w.jsonl --key k --json")), [2, 2, 0, 0]);
    assert_eq!(numbers(&folder.ok("export --key k")), [1, 2]);
}

fn an_empty_file_is_no_mistake(folder: &Folder) {
    folder.write("empty.jsonl", "");
    assert_eq!(counts(&folder.json("import empty.jsonl --json")), [0, 0, 0, 0]);
    assert_eq!(folder.ok("keys --json"), "[]\n");
    assert_eq!(folder.ok("export --all"), "");
}

fn unwritable_memory_does_not_stop_others(folder: &Folder) {
    folder.write("r.json", r#"{"id":"r","max_tokens":1000,"lock":{"wait_timeout":"200ms"}}"#);
    let message = |key: &str, n: u64| json!({"role": "user", "content": "x", "key": key, "n": n});
    let text: Vec<_> = [("a", 0), ("b", 0), ("a", 1), ("b", 1), ("b", 2)]
        .map(|(key, n)| message(key, n).to_string())
        .into();
    folder.write("two.jsonl", text.join("\n"));
    let args = ["import", "two.jsonl", "--resource", "r.json", "--json", "--key", "{{ line.key }}"];

    let runtime = tokio::runtime::Runtime::new().unwrap();
    let said = runtime.block_on(async {
        let manager = folder.open(MemoryResource::new("r", 1_000)).await;
        let blocked = manager.memory("r", "b").unwrap();
        let turn = blocked.exclusive(|_| async { folder.run_words(args) });
        turn.await.unwrap()
    });
    assert_eq!(said.code, Some(1), "{said:?}");
    let report: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(counts(&report), [5, 2, 0, 3]);
    assert_eq!(said.err.lines().count(), 1);
    assert!(said.err.starts_with("error: two.jsonl:2: "), "{}", said.err);
    assert!(
        said.err
            .ends_with("(and 2 more messages were not appended; run the import again to go on)\n")
    );

    let again = folder.run_words(args);
    assert_eq!(counts(&serde_json::from_str(&again.out).unwrap()), [5, 3, 2, 0]);
    assert_eq!(numbers(&folder.ok("export --resource r.json --key b")), [0, 1, 2]);
}

/// A service manager stops it with SIGTERM.
#[cfg(unix)]
#[test]
fn stopped_import_ends_in_order() {
    let folder = Folder::new();
    let mut command = folder.command(["import", "-", "--key", "k"]);
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    // It waits for its standard input once the store is open.
    let step = std::time::Duration::from_millis(20);
    while !folder.has_store() {
        #[expect(
            clippy::disallowed_methods,
            reason = "another process makes the file, and gives no signal of it"
        )]
        std::thread::sleep(step);
    }
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let input = child.stdin.take();
    let said = Said::from(child.wait_with_output().unwrap());
    drop(input);
    assert_eq!(said.code, Some(1), "{said:?}");
    assert_eq!(
        said.err,
        "error: import: stopped by a signal; appended messages are kept, run the import again to continue\n"
    );
}
