//! Conversations: real ones if they are available, else generated ones of the same shape.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use crate::support::{Folder, lines};

const REAL: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../../shared/data/conversations/tau-bench-airline.jsonl.gz"
);

/// The number of conversations and messages of either kind.
pub(crate) const MESSAGES: u64 = 3_636;
pub(crate) const CONVERSATIONS: u64 = 120;

/// A gzipped JSONL file, and its messages by conversation.
pub(crate) struct Conversations {
    pub(crate) file: PathBuf,
    pub(crate) by_id: BTreeMap<String, Vec<Value>>,
}

pub(crate) fn conversations(folder: &Folder) -> Conversations {
    let file = if Path::new(REAL).exists() {
        PathBuf::from(REAL)
    } else {
        println!("skipped the real conversations: {REAL} is not there; made ones take their place");
        let path = folder.path("made.jsonl.gz");
        let mut gz = GzEncoder::new(File::create(&path).unwrap(), Compression::fast());
        for message in made() {
            writeln!(gz, "{message}").unwrap();
        }
        gz.finish().unwrap();
        path
    };
    let mut text = String::new();
    MultiGzDecoder::new(File::open(&file).unwrap()).read_to_string(&mut text).unwrap();
    let by_id = by_conversation(lines(&text));
    let messages: usize = by_id.values().map(Vec::len).sum();
    assert_eq!((by_id.len() as u64, messages as u64), (CONVERSATIONS, MESSAGES));
    Conversations { file, by_id }
}

/// Messages by their `conversation_id`, in their original order.
pub(crate) fn by_conversation(messages: Vec<Value>) -> BTreeMap<String, Vec<Value>> {
    let mut by_id: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for message in messages {
        let id = message["conversation_id"].as_str().unwrap().to_owned();
        by_id.entry(id).or_default().push(message);
    }
    by_id
}

/// Support calls with a long system prompt, tool calls, null contents and large results.
fn made() -> Vec<Value> {
    let policy = "You may book, change or cancel flights once the customer has agreed. ".repeat(85);
    let mut all = Vec::new();
    for conversation in 0..CONVERSATIONS {
        let id = format!("made-{conversation:03}");
        // 36 of them are one message longer, which makes 3,636.
        let length = if conversation < 36 { 31 } else { 30 };
        for index in 0..length {
            let mut message = match (index, index % 4) {
                (0, _) => json!({"role": "system", "content": policy}),
                (_, 1) => {
                    json!({"role": "user", "content": format!("My booking K7Q{index:03}, please. Grüße! 東京")})
                }
                (_, 2) => json!({
                    "role": "assistant", "content": null,
                    "tool_calls": [{"id": format!("{id}-{index}"), "type": "function",
                        "function": {"name": "find", "arguments": "{\"booking\": \"K7Q\"}"}}],
                }),
                (_, 3) => json!({
                    "role": "tool", "name": "find", "tool_call_id": format!("{id}-{}", index - 1),
                    "content": "{\"flight\": \"HAT136\", \"price\": 152} ".repeat(1 + index * 3),
                }),
                _ => {
                    json!({"role": "assistant", "content": "It is canceled. Shall I rebook it?", "refusal": null})
                }
            };
            message["conversation_id"] = id.clone().into();
            message["index"] = index.into();
            all.push(message);
        }
    }
    all
}
