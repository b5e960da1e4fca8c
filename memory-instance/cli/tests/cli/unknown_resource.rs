//! Commands that remove messages of a memory whose resource was not given.

use serde_json::{Value, json};

use crate::support::Folder;

on_every_store!(
    removals_need_the_resource_of_the_memory,
    purge_and_edits_need_no_resource,
    replacing_all_keeps_the_ttl,
    import_without_a_resource_keeps_the_ttl,
    clear_reports_what_the_archive_keeps,
    rewind_and_replacement_report_the_archive,
);

const RESOURCE: &str =
    "id: support\nmax_tokens: 1000\narchive: { keep: forever, max_bytes: 1GiB }\n";

const REMOVALS: [&str; 5] =
    ["clear --yes", "flush", "replace-all new.jsonl --yes", "rewind --to 1", "rewind --turn"];

/// A memory of another resource with an archived message.
fn with_talk(folder: &Folder) {
    let line = |text| json!({"role": "user", "content": text}).to_string();
    folder.write("r.yaml", RESOURCE);
    folder.write("talk.jsonl", [line("one"), line("two"), line("three")].join("\n"));
    folder.write("new.jsonl", line("anew"));
    folder.json("import talk.jsonl --json --resource r.yaml --key k");
    folder.ok("rewind --turn --resource r.yaml --key k");
}

fn removals_need_the_resource_of_the_memory(folder: &Folder) {
    with_talk(folder);
    let archive = folder.json("archive --json --key k");
    for key in ["k", "default:support:k"] {
        for removal in REMOVALS {
            let refused = folder.run(&format!("{removal} --key {key}"));
            assert_eq!(refused.code, Some(2), "{removal}: {refused:?}");
            let remedy = "archive and budget of resource `support` are not known; give its file with --resource";
            assert!(refused.err.contains(remedy), "{removal}: {refused:?}");
            assert_eq!(
                refused.err.contains("--purge"),
                removal.starts_with("clear"),
                "{refused:?}"
            );
        }
    }
    assert_eq!(folder.json("archive --json --key k"), archive);
    assert_eq!(folder.ok("tail --key k"), "#1 user: one\n#2 user: two\n");
    for removal in REMOVALS {
        let said = folder.run(&format!("{removal} --resource r.yaml --key k"));
        assert_eq!(said.code, Some(0), "{removal}: {said:?}");
    }
}

fn purge_and_edits_need_no_resource(folder: &Folder) {
    with_talk(folder);
    folder.ok("set 1 --priority 1 --key k");
    folder.ok("replace 1 --text changed --key k");
    folder.ok("erase 1 --reason test --key k");
    folder.ok("clear --yes --purge --key k");
    assert_eq!(folder.json("archive --json --key default:support:k"), json!([]));
}

fn expires(folder: &Folder) -> Value {
    folder.json("health --json --key other")["expires_at"].clone()
}

fn replacing_all_keeps_the_ttl(folder: &Folder) {
    with_talk(folder);
    folder.write("hour.yaml", "id: default\nmax_tokens: 1000\npersistence: { ttl: 1h }\n");
    folder.json("import talk.jsonl --json --resource hour.yaml --key other");
    let before = expires(folder);
    assert_ne!(before, Value::Null);
    let refused = folder.run("replace-all new.jsonl --yes --key other");
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(refused.err.contains("it expires at"), "{refused:?}");
    assert_eq!(expires(folder), before);
    folder.ok("replace-all new.jsonl --yes --resource hour.yaml --key other");
    assert_ne!(expires(folder), Value::Null);
    // A memory without a TTL needs no resource.
    folder.json("import talk.jsonl --json --key endless");
    folder.ok("replace-all new.jsonl --yes --key endless");
}

fn import_without_a_resource_keeps_the_ttl(folder: &Folder) {
    folder.write("hour.yaml", "id: default\nmax_tokens: 1000\npersistence: { ttl: 1h }\n");
    let line = |key| json!({"k": key, "role": "user", "content": "one"}).to_string();
    folder.write("talk.jsonl", line("other"));
    folder.write("both.jsonl", [line("new"), line("other")].join("\n"));
    folder.json("import talk.jsonl --json --resource hour.yaml --key other");
    let before = expires(folder);
    assert_ne!(before, Value::Null);
    let refused = folder.run("import both.jsonl --key {{line.k}}");
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(refused.err.contains("default:default:other: it expires at"), "{refused:?}");
    assert!(refused.err.contains("--resource"), "{refused:?}");
    assert_eq!(expires(folder), before);
    // Nothing was appended to the memory without a TTL either.
    assert_eq!(folder.json("keys --json").as_array().map(Vec::len), Some(1));
    folder.json("import both.jsonl --json --resource hour.yaml --key {{line.k}}");
    assert_ne!(expires(folder), Value::Null);
    folder.json("import talk.jsonl --json --key endless");
    folder.json("import both.jsonl --json --key endless");
}

fn clear_reports_what_the_archive_keeps(folder: &Folder) {
    with_talk(folder);
    folder.write("small.yaml", RESOURCE.replace("1GiB", "50"));
    let archive = folder.json("archive --json --key k");
    let said = folder.ok("clear --yes --resource small.yaml --key k");
    assert_eq!(
        said,
        "default:support:k: 2 messages cleared (10 tokens), not kept in the archive\n"
    );
    assert_eq!(folder.json("archive --json --resource small.yaml --key k"), archive);
    let again = folder.ok("clear --yes --resource small.yaml --key k");
    assert_eq!(again, "default:support:k: 0 messages cleared\n");
    folder.json("import talk.jsonl --json --resource r.yaml --key k --source again");
    let kept = folder.ok("clear --yes --resource r.yaml --key k");
    let removal = &folder.json("archive --json --resource r.yaml --key k")[0];
    let number = &removal["number"];
    let receipt = format!("3 messages cleared (15 tokens), kept in the archive as {number}");
    assert_eq!(kept, format!("default:support:k: {receipt}\n"));
    let json = folder.json("clear --yes --resource r.yaml --key k --json");
    let (receipt, counters) = (&json["receipt"], &json["counters"]);
    assert_eq!((&receipt["messages"], &receipt["removal"]), (&json!(0), &Value::Null));
    assert_eq!(counters["cleared"], json!(5));
    let purged = folder.ok("clear --yes --purge --resource r.yaml --key k");
    assert_eq!(purged, "default:support:k: 0 messages cleared\n");
}

fn rewind_and_replacement_report_the_archive(folder: &Folder) {
    with_talk(folder);
    // One short message fits into the archive, and removals that do not fit leave it there.
    folder.write("small.yaml", RESOURCE.replace("1GiB", "50"));
    folder.write("long.jsonl", json!({"role": "user", "content": "x".repeat(60)}).to_string());
    let text = |command: &str| {
        let said = folder.ok(&format!("{command} --resource small.yaml --key k"));
        said.strip_prefix("default:support:k: ").unwrap_or(&said).trim_end().to_owned()
    };
    let json =
        |command: &str| folder.json(&format!("{command} --json --resource small.yaml --key k"));
    let [short, long] = ["new", "long"].map(|name| format!("replace-all {name}.jsonl --yes"));
    assert_eq!(text("rewind --to 9"), "0 messages taken back");
    assert_eq!(text("rewind --to 0"), "2 messages taken back, not kept in the archive");
    assert_eq!(text(&short), "0 messages cleared, and replaced by 1 message");
    let number = |said: &str| {
        let said = said.strip_prefix("1 message cleared (5 tokens), kept in the archive as ");
        let number = said.and_then(|said| said.strip_suffix(", and replaced by 1 message"));
        number.and_then(|number| number.parse::<u64>().ok())
    };
    let kept = number(&text(&long));
    assert_eq!(kept, folder.json("archive --json --key k")[0]["number"].as_u64());
    assert_eq!(
        text(&short),
        "1 message cleared (12 tokens), not kept in the archive, and replaced by 1 message"
    );
    let removal = |json: &Value| json["receipt"]["removal"].as_u64();
    assert!(removal(&json(&long)) > kept && removal(&json(&short)).is_none());
    assert_eq!(text("rewind --turn"), "1 message taken back, kept in the archive");
    assert_eq!(json(&short)["receipt"]["messages"], json!(0));
    assert_eq!(json("rewind --turn")["kept_in_archive"], json!(true));
}
