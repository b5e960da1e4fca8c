//! An import into a resource with a privacy policy.

use std::fs;

use crate::support::{Folder, counts};

const MESSAGES: &str = r#"{"role":"user","content":"my card is needle4929"}
{"role":"critic","content":"omitted4929"}
{"role":"assistant","content":null,"tool_calls":[{"id":"c","type":"function","function":{"name":"look","arguments":"{\"id\":\"needle4929\"}"}}]}
{"role":"tool","tool_call_id":"c","content":"omitted4929"}
"#;

fn count(folder: &Folder, secret: &str) -> usize {
    let files = ["memory.db", "memory.db-wal"].map(|name| fs::read(folder.path(name)));
    let bytes = files.into_iter().flatten().collect::<Vec<_>>().concat();
    bytes.windows(secret.len()).filter(|at| *at == secret.as_bytes()).count()
}

#[test]
fn import_stores_no_secret() {
    let folder = Folder::new();
    folder.write("talk.jsonl", MESSAGES);
    folder.write(
        "strict.yaml",
        "id: default\nmax_tokens: 8000\nprivacy_policy:\n  redact_patterns: ['needle\\d+']\n  non_persistable_message_types: [critic, tool]\n",
    );
    let import = "import talk.jsonl --json --key talk --resource strict.yaml";
    let report = folder.json(import);
    let private = |report: &serde_json::Value| {
        [&report["excluded"], &report["withheld"]].map(|it| it.as_u64().unwrap())
    };
    assert_eq!((counts(&report), private(&report)), ([4, 3, 0, 0], [1, 1]));
    let report = folder.json(import);
    assert_eq!((counts(&report), private(&report)), ([4, 0, 3, 0], [1, 0]));
    assert_eq!([count(&folder, "needle4929"), count(&folder, "omitted4929")], [0, 0]);
    let exported = folder.ok("export --key talk --resource strict.yaml");
    assert_eq!(exported.matches("[REDACTED]").count(), 3, "{exported}");

    let open = Folder::new();
    open.write("talk.jsonl", MESSAGES);
    let report = open.json("import talk.jsonl --json --key talk");
    assert_eq!((counts(&report), private(&report)), ([4, 4, 0, 0], [0, 0]));
    assert!(count(&open, "needle4929") >= 2 && count(&open, "omitted4929") >= 2);
}
