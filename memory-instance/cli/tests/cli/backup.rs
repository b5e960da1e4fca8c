//! Backups, restores and copies, and the examples of their help.

use std::process::Command;
use std::sync::Arc;

use memory_core::{MemoryResource, Message, TokenCounter};
use memory_instance::MemoryManager;
use serde_json::{Value, json};

use crate::support::Folder;

on_every_store!(
    restored_memory_is_equal_in_every_command,
    cut_off_backup_is_refused_and_deleted,
    example_of_export_keeps_summaries_and_priorities,
    memory_of_the_key_is_not_replaced,
    fork_is_shown_in_health_and_independent,
    copy_of_all_has_archives_and_goes_on,
    clear_keeps_a_backup_or_clears_nothing,
);

const RESOURCE: &str = "id: default\nmax_tokens: 400\narchive: { keep: 30d }\n";

/// A conversation of which a flush has summarized the first messages.
fn with_flushed_talk(folder: &Folder, key: &str) {
    folder.write("r.yaml", RESOURCE);
    let talk = (0..40).map(|number| {
        let text = format!("message {number} of a conversation that goes on");
        json!({"role": if number == 0 { "system" } else { "user" }, "content": text}).to_string()
    });
    folder.write("talk.jsonl", talk.collect::<Vec<_>>().join("\n"));
    let said = folder.run(&format!("import talk.jsonl --key {key}"));
    assert_eq!(said.code, Some(0), "{said:?}");
    folder.ok(&format!("flush --resource r.yaml --key {key}"));
}

/// The outputs of the commands for a memory.
fn shown(folder: &Folder, key: &str) -> Vec<String> {
    let of = |line: &str| folder.ok(&format!("{line} --resource r.yaml --key {key}"));
    let mut health: Value = folder.json(&format!("health --json --resource r.yaml --key {key}"));
    for field in ["key", "store_latency_us", "server", "fence"] {
        health[field] = Value::Null;
    }
    let archive = of("archive --json");
    let number = archive.split("\"number\":").nth(1).unwrap();
    let number = number.split(',').next().unwrap();
    vec![
        of("tail -n 100"),
        of("export"),
        of("context --budget 300 --json"),
        of(&format!("archive --show {number}")),
        of("search goes --json"),
        archive,
        health.to_string(),
    ]
}

fn clear_keeps_a_backup_or_clears_nothing(folder: &Folder) {
    with_flushed_talk(folder, "talk");
    let before = shown(folder, "talk");
    folder.write("taken.memory", "another backup");
    let clear = |file: &str| format!("clear --yes --resource r.yaml --key talk --backup {file}");
    for file in ["taken.memory", "nowhere/talk.memory"] {
        let said = folder.run(&clear(file));
        assert_eq!(said.code, Some(1), "{said:?}");
        assert!(said.err.contains("write the backup"), "{said:?}");
    }
    assert_eq!(std::fs::read_to_string(folder.path("taken.memory")).unwrap(), "another backup");
    assert_eq!(shown(folder, "talk"), before);
    let said = folder.ok(&clear("talk.memory"));
    assert!(said.ends_with("; backed up to talk.memory\n"), "{said}");
    assert_eq!(folder.ok("tail -n 100 --key talk"), "");
    let files = std::fs::read_dir(folder.path(".")).unwrap();
    let is_partial =
        |entry: std::fs::DirEntry| entry.file_name().to_string_lossy().contains("partial");
    assert!(!files.map(Result::unwrap).any(is_partial));
    folder.ok("restore talk.memory --key again");
    let again = shown(folder, "again");
    assert_eq!((&again[0], &again[1]), (&before[0], &before[1]));
}

fn restored_memory_is_equal_in_every_command(folder: &Folder) {
    with_flushed_talk(folder, "talk");
    let before = shown(folder, "talk");
    let said = folder.ok("backup talk.memory --key talk");
    assert!(said.starts_with("default:default:talk: backed up to talk.memory, "), "{said}");
    assert!(said.contains("of its archive"), "{said}");
    assert!(!folder.path("talk.memory.partial").exists());
    let restored = folder.ok("restore talk.memory --key again");
    assert!(restored.starts_with("default:default:again: restored, "), "{restored}");
    assert_eq!(shown(folder, "again"), before);
    assert_eq!(
        folder.ok("restore talk.memory --key again"),
        "default:default:again: it was restored before\n"
    );
    // Changes have the same results too.
    let number = |key: &str| {
        let removals = folder.json(&format!("archive --json --resource r.yaml --key {key}"));
        removals
            .to_string()
            .split("\"number\":")
            .nth(1)
            .unwrap()
            .split(',')
            .next()
            .unwrap()
            .to_owned()
    };
    for key in ["talk", "again"] {
        let undo = number(key);
        folder.ok(&format!("archive --resource r.yaml --key {key} --undo {undo}"));
    }
    assert_eq!(
        folder.ok("export --resource r.yaml --key talk"),
        folder.ok("export --resource r.yaml --key again")
    );
    let flushed = |key: &str| {
        let mut done = folder.json(&format!("flush --json --resource r.yaml --key {key}"));
        for field in ["id", "started_at", "duration_ms"] {
            done[field] = Value::Null;
        }
        done["summary"]["id"] = Value::Null;
        done
    };
    assert_eq!(flushed("talk"), flushed("again"));
    // Under its own key, in another store.
    let there = Folder::at(format!("sqlite://{}", folder.path("other.db").display()));
    let file = folder.path("talk.memory");
    let other = there.json(&format!("restore {} --json", file.display()));
    assert_eq!(other["key"], "default:default:talk");
    assert!(there.ok("keys").contains("talk"));
}

fn cut_off_backup_is_refused_and_deleted(folder: &Folder) {
    with_flushed_talk(folder, "talk");
    folder.ok("backup talk.memory --key talk");
    let whole = std::fs::read(folder.path("talk.memory")).unwrap();
    folder.write("cut.memory", &whole[..whole.len() - 10]);
    let refused = folder.run("restore cut.memory --key again");
    assert_eq!(refused.code, Some(1), "{refused:?}");
    let damaged = "error: restore cut.memory (the backup is damaged at line ";
    assert!(refused.err.starts_with(damaged), "{refused:?}");
    assert!(refused.err.contains("it was cut off; use another copy of the file"), "{refused:?}");
    for line in ["tail", "health", "export", "flush", "clear --yes", "backup again.memory"] {
        let refused = folder.run(&format!("{line} --key again"));
        assert_eq!(refused.code, Some(1), "{line}: {refused:?}");
        assert!(refused.err.contains("is unfinished; run it again"), "{line}: {refused:?}");
    }
    assert!(!folder.ok("keys").contains("again"));
    folder.ok("delete --yes --key again");
    folder.ok("restore talk.memory --key again");
    assert_eq!(shown(folder, "again"), shown(folder, "talk"));
}

/// Runs the example of the help as it is printed there.
fn example_of_export_keeps_summaries_and_priorities(folder: &Folder) {
    for key in ["airline-00-0", "other"] {
        with_flushed_talk(folder, key);
    }
    let help = folder.ok("export --help");
    let example = help.lines().map(str::trim).find(|line| line.starts_with("memory copy")).unwrap();
    let (example, _) = example.split_once("   ").unwrap();
    let words: Vec<_> = example.split_whitespace().skip(1).collect();
    assert_eq!(words, ["copy", "--all", "--to", "sqlite://copy.db"]);
    let copied = folder.run_words(&words);
    assert_eq!(copied.code, Some(0), "{copied:?}");
    assert_eq!(copied.out.lines().count(), 2, "{copied:?}");
    let there = Folder::at(format!("sqlite://{}", folder.path("copy.db").display()));
    there.write("r.yaml", RESOURCE);
    for key in ["airline-00-0", "other"] {
        assert_eq!(shown(&there, key), shown(folder, key));
    }
    assert!(folder.run_words(&words).out.contains("it was copied before"));
}

fn fork_is_shown_in_health_and_independent(folder: &Folder) {
    with_flushed_talk(folder, "talk");
    let said = folder.ok("fork other --key talk");
    assert_eq!(said, "default:default:other: forked from default:default:talk at message 40\n");
    assert_eq!(folder.ok("export --key other"), folder.ok("export --key talk"));
    let health = folder.run("health --key other");
    assert!(health.out.contains("forked from"), "{health:?}");
    assert!(health.out.contains("default:default:talk at message 40"), "{health:?}");
    let refused = folder.run("fork other --key talk");
    assert!(refused.err.contains("this key already has a memory"), "{refused:?}");
    let refused = folder.run("fork third --key talk --at 3");
    assert!(refused.err.contains("covers messages up to"), "{refused:?}");
    let past = folder.json("fork third --key talk --at 39 --json");
    assert_eq!(past["origin"]["at"], 39);
    let id = "4a0d2c1e-93b5-4f0e-8f60-5a1a9f6f4c11";
    for before in ["", " before"] {
        let said = folder.ok(&format!("fork fourth --key talk --id {id}"));
        let forked = "default:default:fourth: forked from default:default:talk at message 40";
        assert_eq!(said, format!("{forked}{before}\n"));
    }
    let refused = folder.run("fork fourth --key talk --id 4a0d2c1e");
    assert_eq!(refused.code, Some(2), "{refused:?}");
    folder.ok("delete --yes --key talk");
    assert!(folder.ok("keys").contains("3 memories"));
}

fn memory_of_the_key_is_not_replaced(folder: &Folder) {
    with_flushed_talk(folder, "talk");
    folder.ok("backup talk.memory --key talk");
    let refused = folder.run("restore talk.memory");
    assert_eq!(refused.code, Some(1));
    assert!(refused.err.contains("this key already has a memory"), "{refused:?}");
    let none = folder.run("backup none.memory --key none");
    assert!(none.err.contains("no memory has the key `none`"), "{none:?}");
    folder.write("empty.memory", "");
    let refused = folder.run("restore empty.memory --key new");
    assert!(refused.err.contains("this is not a backup of a memory"), "{refused:?}");
    let itself = folder.run("copy --key talk --to memory://");
    assert_eq!(itself.code, Some(2), "{itself:?}");
}

fn copy_of_all_has_archives_and_goes_on(folder: &Folder) {
    with_flushed_talk(folder, "a");
    with_flushed_talk(folder, "b");
    // All messages are in the archive.
    with_flushed_talk(folder, "c");
    folder.ok("clear --yes --resource r.yaml --key c");
    with_flushed_talk(folder, "d");
    folder.ok("delete --yes --key d");
    let url = format!("sqlite://{}", folder.path("copy.db").display());
    let copied = folder.ok(&format!("copy --all --to {url}"));
    assert_eq!(copied.lines().count(), 3, "{copied}");
    let there = Folder::at(url.clone());
    assert_eq!(there.ok("archive --json --key c"), folder.ok("archive --json --key c"));
    // One changed since, and another one is new.
    folder.ok("rewind --turn --key a");
    folder.ok("import talk.jsonl --key a2 --json");
    let said = folder.run(&format!("copy --all --to {url}"));
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(
        said.err.contains("default:default:a: ") && said.err.contains("1 memory was not"),
        "{said:?}"
    );
    assert!(there.ok("keys").contains(" a2 "));
}

/// Counts fast.
#[derive(Debug)]
struct Length;

impl TokenCounter for Length {
    fn name(&self) -> &'static str {
        "length"
    }

    fn count(&self, text: &str) -> usize {
        text.len() / 4
    }
}

/// The texts of the memory are four fifths of the data that the commands may allocate, and a command that does nothing allocates
/// a third. So a whole memory in one piece would not fit.
#[tokio::test]
async fn long_memory_is_backed_up_in_bounded_memory() {
    const LIMIT_KIB: usize = 30 << 10;
    let folder = Folder::new();
    let manager = MemoryManager::builder()
        .with_resource(MemoryResource::new("default", 1_000_000_000))
        .with_token_counter(Arc::new(Length))
        .open(&folder.store())
        .await
        .unwrap();
    let memory = manager.memory("default", "long").unwrap();
    let text = "0123456789abcdef".repeat(1 << 10);
    for _ in 0..24 {
        let batch = (0..64).map(|_| Message::user(text.clone()));
        memory.append_all(batch).await.unwrap();
    }
    drop((memory, manager));
    let bounded = |line: &str| {
        let memory = env!("CARGO_BIN_EXE_memory");
        let mut command = Command::new("sh");
        command.args(["-c", &format!("ulimit -d {LIMIT_KIB} && exec {memory} {line}")]);
        let out = command.current_dir(folder.path("")).output().unwrap();
        assert!(out.status.success(), "{line}: {out:?}");
        String::from_utf8(out.stdout).unwrap()
    };
    bounded("backup long.memory --key long");
    let restored = bounded("restore long.memory --key again");
    assert!(restored.contains("1,536 messages"), "{restored}");
    assert!(folder.path("long.memory").metadata().unwrap().len() > 24 << 20);
}
