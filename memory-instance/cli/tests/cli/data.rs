//! Conversations: real ones if they are available, else generated ones of the same shape.

use std::collections::{BTreeMap, BTreeSet};
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

/// Every fourth of the real conversations is used: their messages are of few kinds, and each test imports all that are
/// used.
const SPACING: usize = 4;
/// The number of generated conversations.
const MADE: usize = 30;

/// A gzipped JSONL file, and its messages by conversation.
pub(crate) struct Conversations {
    pub(crate) file: PathBuf,
    pub(crate) by_id: BTreeMap<String, Vec<Value>>,
}

impl Conversations {
    /// The number of messages.
    pub(crate) fn messages(&self) -> u64 {
        self.by_id.values().map(|messages| messages.len() as u64).sum()
    }
}

pub(crate) fn conversations(folder: &Folder) -> Conversations {
    let messages = if Path::new(REAL).exists() {
        let mut text = String::new();
        MultiGzDecoder::new(File::open(REAL).unwrap()).read_to_string(&mut text).unwrap();
        let mut messages = lines(&text);
        let ids: BTreeSet<_> = messages.iter().map(conversation_of).collect();
        let chosen: BTreeSet<_> = ids.into_iter().step_by(SPACING).collect();
        messages.retain(|message| chosen.contains(&conversation_of(message)));
        messages
    } else {
        println!("skipped the real conversations: {REAL} is not there; made ones take their place");
        made()
    };
    let file = folder.path("conversations.jsonl.gz");
    let mut gz = GzEncoder::new(File::create(&file).unwrap(), Compression::fast());
    for message in &messages {
        writeln!(gz, "{message}").unwrap();
    }
    gz.finish().unwrap();
    let by_id = by_conversation(messages);
    assert_eq!(by_id.len(), MADE);
    Conversations { file, by_id }
}

fn conversation_of(message: &Value) -> String {
    message["conversation_id"].as_str().unwrap().to_owned()
}

/// Messages by their `conversation_id`, in their original order.
pub(crate) fn by_conversation(messages: Vec<Value>) -> BTreeMap<String, Vec<Value>> {
    let mut by_id: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for message in messages {
        by_id.entry(conversation_of(&message)).or_default().push(message);
    }
    by_id
}

/// Support calls with a long system prompt, tool calls, null contents and large results.
fn made() -> Vec<Value> {
    let policy = "You may book, change or cancel flights once the customer has agreed. ".repeat(85);
    let mut all = Vec::new();
    for conversation in 0..MADE {
        let id = format!("made-{conversation:03}");
        let length = 30 + conversation % 2;
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
