//! Fuzzing: `memory import`, as a process whose memory is limited by the system.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use flate2::Compression;
use flate2::write::GzEncoder;
use memory_core_testkit::fuzz::{SECRET, fuzz};
use tempfile::TempDir;

/// The memory limit of the process, in KiB; a message of its resource has at most 256 KiB.
const MOST_KIB: u32 = 400_000;

const RESOURCE: &str =
    r#"{"id":"r","max_tokens":1000000,"limits":{"message_bytes":262144,"batch_bytes":262144}}"#;

fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("r.json"), RESOURCE).unwrap();
    folder
}

fn memory(folder: &Path, line: &str) -> Command {
    let mut command = Command::new("sh");
    let program = env!("CARGO_BIN_EXE_memory");
    let limited = format!("ulimit -v {MOST_KIB}; exec {program} {line} --resource r.json --json");
    command.args(["-c", &limited]).current_dir(folder).env_remove("RUST_LOG").stdin(Stdio::null());
    command
}

fn run(folder: &Path, line: &str) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = memory(folder, line).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

#[test]
fn import_appends_all_or_reports_without_content() {
    fuzz("import", 40, |input| {
        let folder = folder();
        fs::write(folder.path().join("in.jsonl"), input).unwrap();
        let (code, out, err) = run(folder.path(), "import in.jsonl --key k");
        if code == Some(0) {
            let report: serde_json::Value = serde_json::from_str(&out).unwrap();
            assert_eq!(report["read"], report["appended"], "{out}");
            if report["read"] != 0 {
                let (code, history, err) = run(folder.path(), "export --key k");
                assert_eq!((code, err.as_str()), (Some(0), ""));
                assert_eq!(serde_json::json!(history.lines().count()), report["read"]);
            }
        } else {
            assert_eq!(code, Some(1), "{err}");
            assert_eq!(err.lines().count(), 1, "{err}");
            assert!(err.starts_with("error: ") && !err.contains("panicked"), "{err}");
            assert!(!err.contains(SECRET), "{err}");
            assert!(err.contains("nothing was appended") || err.contains("in.jsonl"), "{err}");
            let lenient = "import in.jsonl --key k --skip-bad --replace-surrogates";
            let (code, out, err) = run(folder.path(), lenient);
            assert!(!err.contains("panicked") && !err.contains(SECRET), "{err}");
            if code == Some(0) {
                assert!(err.is_empty() || err.starts_with("passed over "), "{err}");
                let report: serde_json::Value = serde_json::from_str(&out).unwrap();
                assert_eq!(report["read"], report["appended"], "{out}");
            } else {
                assert_eq!(code, Some(1), "{err}");
                assert!(err.lines().count() == 1 && err.contains("in.jsonl"), "{err}");
            }
        }
    });
}

/// A gigabyte of one line, in a megabyte of gzip, from a file and from stdin.
#[test]
fn endless_line_is_not_read_to_its_end() {
    let folder = folder();
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(br#"{"role":"user","content":""#).unwrap();
    let chunk = vec![b'a'; 1 << 20];
    for _ in 0..1_024 {
        packed.write_all(&chunk).unwrap();
    }
    fs::write(folder.path().join("bomb.gz"), packed.finish().unwrap()).unwrap();
    let error_text = "the line has more than 1576960 bytes; write one message a line, or raise limits.message_bytes of the resource\n";
    let (code, _, err) = run(folder.path(), "import bomb.gz --key k");
    assert_eq!((code, err), (Some(1), format!("error: bomb.gz:1: {error_text}")));

    let mut child = memory(folder.path(), "import - --key k")
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    // More than the process may have in memory.
    for _ in 0..500 {
        input.write_all(&chunk).unwrap();
    }
    drop(input);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(String::from_utf8(output.stderr).unwrap(), format!("error: stdin:1: {error_text}"));
}

#[test]
fn exceeded_limit_is_reported_with_its_place() {
    let folder = folder();
    let line = |text: &str| format!("{{\"role\":\"user\",\"content\":\"{text}\"}}\n");
    let long = line(&"a".repeat(262_141));
    fs::write(folder.path().join("long.jsonl"), line("hi") + &long).unwrap();
    let deep = format!("{{\"role\":\"user\",\"x\":{}{}}}\n", "[".repeat(110), "]".repeat(110));
    fs::write(folder.path().join("deep.jsonl"), deep).unwrap();
    for (file, error_text) in [
        (
            "long.jsonl",
            "long.jsonl:2: the message has 262145 bytes, over the limit of 262144: make it smaller, or raise limits.message_bytes of the resource; nothing was appended",
        ),
        (
            "deep.jsonl",
            "deep.jsonl:1: the message is nested deeper than the limit of 100 levels: flatten it, or raise limits.nesting of the resource (to 120 at most); nothing was appended",
        ),
    ] {
        let (code, _, err) = run(folder.path(), &format!("import {file} --key k"));
        assert_eq!((code, err), (Some(1), format!("error: {error_text}\n")));
    }
}
