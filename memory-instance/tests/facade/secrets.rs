//! A search of the stored bytes for secrets of every way in: with a privacy policy none is there, without one each is.

use std::path::Path;

use memory_core::dialect::ToolCall;
use memory_core::resource::ArchiveSettings;
use memory_core::{ContentType, Entry, Message, Priority, Sequence};
use memory_flush::{SummarizeError, from_fn};
use memory_instance::backup::{BackupReader, RestoredTtl};
use memory_instance::{
    Conditional, FlushMode, ForkOptions, ManagerBuilder, MemoryInstance, MemoryManager,
    MetadataPatch, RewriteOutcome, Session,
};

use crate::support::{hybrid, url, with};

/// The ways in of texts that a pattern redacts.
const REDACTED: [&str; 27] = [
    "append",
    "name",
    "argument",
    "result",
    "field",
    "type",
    "condition",
    "prepared",
    "turn",
    "system",
    "json",
    "escaped",
    "model",
    "reason",
    "replaced",
    "session",
    "retyped",
    "why",
    "whole",
    "image",
    "gemini",
    "anthropic",
    "again",
    "imported",
    "newtype",
    "value",
    "nested",
];

/// The messages that are excluded; no pattern matches them.
const EXCLUDED: [&str; 5] = ["flag", "typed", "call", "withheld", "alone"];

/// One word, as in an index for searches.
fn secret(way: &str) -> String {
    let kind = if EXCLUDED.contains(&way) { "excluded" } else { "needle" };
    assert!(kind == "excluded" || REDACTED.contains(&way), "{way}");
    format!("{kind}{way}4929")
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Privacy {
    On,
    Off,
}

impl Privacy {
    fn builder(self) -> ManagerBuilder {
        let mut resource = hybrid(2_000);
        resource.archive = ArchiveSettings::forever();
        if self == Self::On {
            let policy = &mut resource.privacy_policy;
            policy.redact_patterns = vec!["needle[a-z]+4929".into()];
            policy.non_persistable_message_types = vec!["pin".into()];
        }
        let broken = from_fn("broken", |_| async { Err(SummarizeError::new(secret("reason"))) });
        // Repeats its messages, and adds a secret.
        let echo = from_fn("echo", |request| async move {
            let texts = request.messages.iter().take(3).map(|stored| stored.message.text());
            Ok(format!("{} {}", secret("model"), texts.collect::<Vec<_>>().join("; ")))
        });
        with(resource)
            .with_flush_mode(FlushMode::Manual)
            .with_summarizer(broken)
            .with_summarizer(echo)
    }

    fn excluded(self, entry: Entry) -> Entry {
        if self == Self::On { entry.do_not_persist() } else { entry }
    }
}

fn user(way: &str) -> Entry {
    Message::user(format!("it is {}, as I said", secret(way))).into()
}

/// Writes each secret into memories `k`, `whole`, `copy`, `fork` and `restored`.
async fn fill(manager: &MemoryManager, privacy: Privacy) {
    let memory = manager.memory("m", "k").unwrap();
    let json = |text: &str, way: &str| {
        Entry::new(Message::from_json(&text.replace('$', &secret(way))).unwrap())
    };
    memory.ensure_system("agent", secret("system")).await.unwrap();
    memory.append(user("append")).await.unwrap();
    let call = ToolCall::function("c", "look", format!(r#"{{"id":"{}"}}"#, secret("argument")));
    let batch = [
        Message::calls([call]),
        Message::tool_result("c", secret("result")),
        Message::user("named").with_name(secret("name")),
        Message::user("a field").with_field("note", secret("field")),
    ];
    memory.append_all(batch).await.unwrap();
    let batch = [
        Message::user("a type").into(),
        json(r#"{"role":"user","content":"{\"a\": {\"b\": \"$\"}}"}"#, "json"),
        json(r#"{"role":"user","content":"{\"a\": \"$"}"#, "escaped"),
        json(
            r#"{"role":"user","content":[{"type":"image_url","image_url":{"url":"https://example.com/$"}}]}"#,
            "image",
        ),
        json(r#"{"role":"model","parts":[{"text":"$"}]}"#, "gemini"),
        json(
            r#"{"role":"user","content":[{"type":"document","source":{"type":"text","media_type":"text/plain","data":"$"}}]}"#,
            "anthropic",
        ),
    ];
    memory.append_all(batch).await.unwrap();
    let typed =
        Entry::new(Message::user("typed")).with_content_type(ContentType::from(&*secret("type")));
    memory.append(typed).await.unwrap();
    let version = memory.version().await.unwrap();
    let done = memory.append_if(version, [user("condition")]).await.unwrap();
    assert!(matches!(done, Conditional::Applied(_)));
    let prepared = memory.prepare([user("prepared")]).unwrap();
    memory.send(&prepared).await.unwrap();
    assert!(memory.send(&prepared).await.unwrap().outcome.is_duplicate());
    let turn = |session: Session| async move { session.append(user("turn")).await };
    memory.exclusive(turn).await.unwrap().unwrap();
    let values = serde_json::json!({"state": secret("value"), "more": [{"n": [secret("nested")]}]});
    let values = MetadataPatch::try_from(values).unwrap();
    memory.update_metadata(values, Some(0)).await.unwrap().applied().unwrap();
    fill_excluded(&memory, privacy).await;
    fill_flushed(&memory).await;

    let mut file = Vec::new();
    memory.backup(&mut file).await.unwrap();
    let backup = BackupReader::open(&*file).await.unwrap();
    let restored = manager.memory("m", "restored").unwrap();
    restored.restore_backup(backup, RestoredTtl::Kept).await.unwrap();
    memory.copy_to(&manager.memory("m", "copy").unwrap()).await.unwrap();
    memory.fork(&manager.memory("m", "fork").unwrap(), ForkOptions::new()).await.unwrap();
    let whole = manager.memory("m", "whole").unwrap();
    whole.append(user("imported")).await.unwrap();
    whole.replace_all([user("whole")], None).await.unwrap().applied().unwrap();
}

async fn fill_excluded(memory: &MemoryInstance, privacy: Privacy) {
    let call = ToolCall::function("e", "look", format!(r#"{{"id":"{}"}}"#, secret("call")));
    let pin = |message: Message| Entry::new(message).with_content_type(ContentType::from("pin"));
    let batch = [
        privacy.excluded(user("flag")),
        pin(Message::user(secret("typed"))),
        privacy.excluded(Message::calls([call]).into()),
        pin(Message::tool_result("e", secret("withheld"))),
    ];
    memory.append_all(batch).await.unwrap();
    memory.append(privacy.excluded(user("alone"))).await.unwrap();
}

/// A summary by a model, changes of single messages, and an erasure.
async fn fill_flushed(memory: &MemoryInstance) {
    for number in 0..150 {
        let text = format!("message {number} of a conversation that goes on for some time");
        memory.append(Message::user(text)).await.unwrap();
    }
    let receipt = memory.perform_flush().await.unwrap().unwrap();
    assert_eq!(receipt.summary.as_ref().unwrap().summarizer, "echo");
    let [newest] = &*memory.last(1).await.unwrap() else { panic!("no message") };
    let newest = newest.meta.sequence;
    let before = Sequence::new(newest.number() - 1);
    let typed = user("replaced").with_content_type(ContentType::from(&*secret("newtype")));
    memory.replace(newest, typed).await.unwrap().unwrap();
    let turn = |session: Session| async move { session.replace(before, user("session")).await };
    memory.exclusive(turn).await.unwrap().unwrap().unwrap();
    memory.set_priority(newest, Priority::IMPORTANT).await.unwrap().unwrap();
    let other = Sequence::new(newest.number() - 2);
    let retyped = ContentType::from(&*secret("retyped"));
    memory.set_content_type(other, retyped).await.unwrap().unwrap();
    // The summary has the place of the first message.
    let last = receipt.summarized.iter().last().unwrap();
    let erased = memory.erase([last], &secret("why")).await.unwrap();
    let rewritten = memory.rewrite_summaries(&erased.erasure).await.unwrap();
    assert!(matches!(rewritten[0].outcome, RewriteOutcome::Rewritten { .. }));
    memory.append(user("again")).await.unwrap();
}

/// The secrets that are in the bytes.
fn found(bytes: &[u8]) -> Vec<&'static str> {
    let is_in = |way: &&str| {
        let secret = secret(way);
        bytes.windows(secret.len()).any(|at| at == secret.as_bytes())
    };
    REDACTED.into_iter().chain(EXCLUDED).filter(is_in).collect()
}

fn all() -> Vec<&'static str> {
    REDACTED.into_iter().chain(EXCLUDED).collect()
}

fn files_in(folder: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            bytes.extend(files_in(&path));
        } else {
            bytes.extend(std::fs::read(&path).unwrap_or_default());
            bytes.push(0);
        }
    }
    bytes
}

#[tokio::test(start_paused = true)]
async fn sqlite_file_has_no_secret() {
    for (privacy, expected) in [(Privacy::Off, all()), (Privacy::On, Vec::new())] {
        let folder = tempfile::tempdir().unwrap();
        let manager = privacy.builder().open(&url(&folder)).await.unwrap();
        fill(&manager, privacy).await;
        assert!(folder.path().join("memory.db-wal").exists());
        assert_eq!(found(&files_in(folder.path())), expected, "{privacy:?}");
    }
}

#[cfg(feature = "redis")]
#[tokio::test]
async fn redis_server_has_no_secret() {
    use memory_redis_testkit::Server;
    for (privacy, expected) in [(Privacy::Off, all()), (Privacy::On, Vec::new())] {
        let args = ["--appendonly", "yes", "--rdbcompression", "no"];
        let server = Server::start_with(&args).await;
        let manager = privacy.builder().open(server.url()).await.unwrap();
        fill(&manager, privacy).await;
        let mut keys = Vec::new();
        for key in server.query::<Vec<Vec<u8>>>(&["KEYS", "*"]).await {
            let name = String::from_utf8(key.clone()).unwrap();
            keys.extend(key);
            keys.extend(server.query::<Vec<u8>>(&["DUMP", &name]).await);
        }
        assert_eq!(found(&keys), expected, "keys, {privacy:?}");
        server.command(&["SAVE"]).await;
        assert_eq!(found(&files_in(server.dir())), expected, "files, {privacy:?}");
    }
}
