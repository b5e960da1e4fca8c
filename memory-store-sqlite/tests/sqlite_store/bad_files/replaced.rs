//! A store acknowledges and reads nothing once its path names other files.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memory_core::MemoryStore;
use memory_core::store::{Applied, Read, StoreError, StoreErrorKind};
use memory_store_sqlite::{CommitThread, SqliteConfig, SqliteStore};
use rusqlite::Connection;

use super::{folder, ours, refusal};
use crate::support::{append, key, texts, write};

/// A change to the files of an open store, by paths in a separate folder.
type Attack = fn(&Path);

fn beside(file: &Path, suffix: &str) -> PathBuf {
    format!("{}{suffix}", file.display()).into()
}

fn remove(file: &Path, suffixes: &[&str]) {
    for suffix in suffixes {
        fs::remove_file(beside(file, suffix)).unwrap();
    }
}

/// Moving a folder away and back leaves the path unchanged; a copy in its place does not.
fn replace_folder(file: &Path) {
    let folder = file.parent().unwrap();
    let old = folder.with_extension("old");
    fs::rename(folder, &old).unwrap();
    fs::create_dir(folder).unwrap();
    for entry in fs::read_dir(old).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), folder.join(entry.file_name())).unwrap();
    }
}

const ATTACKS: &[(&str, Attack)] = &[
    ("all files removed", |file| remove(file, &["", "-wal", "-shm"])),
    ("the file removed", |file| remove(file, &[""])),
    ("the log removed", |file| remove(file, &["-wal"])),
    ("the index removed", |file| remove(file, &["-shm"])),
    ("a backup moved over the file", |file| {
        fs::copy(file, beside(file, ".backup")).unwrap();
        fs::rename(beside(file, ".backup"), file).unwrap();
    }),
    ("a log moved over the log", |file| {
        fs::copy(beside(file, "-wal"), beside(file, ".log")).unwrap();
        fs::rename(beside(file, ".log"), beside(file, "-wal")).unwrap();
    }),
    ("the file renamed", |file| fs::rename(file, beside(file, ".old")).unwrap()),
    ("the folder renamed", |file| {
        let folder = file.parent().unwrap();
        fs::rename(folder, folder.with_extension("old")).unwrap();
    }),
    ("the folder replaced by a copy", replace_folder),
    ("the folder replaced by a file", |file| {
        let folder = file.parent().unwrap();
        fs::rename(folder, folder.with_extension("old")).unwrap();
        fs::write(folder, "").unwrap();
    }),
];

#[track_caller]
fn assert_replaced(error: &StoreError, attack: &str) {
    assert!(matches!(error.kind(), StoreErrorKind::Replaced(_)), "{attack}: {error}");
    assert!(!error.is_retryable(), "{attack}");
}

async fn store(file: &Path, commits: CommitThread) -> SqliteStore {
    SqliteStore::open(SqliteConfig::new(file).with_commit_thread(commits)).await.unwrap()
}

#[tokio::test]
async fn nothing_is_acknowledged_after_the_files_changed() {
    let k = key("k");
    for (attack, change) in ATTACKS {
        for commits in [CommitThread::Caller, CommitThread::Store] {
            let (outer, _) = folder();
            let inner = outer.path().join("data");
            fs::create_dir(&inner).unwrap();
            let file = inner.join("memory.db");
            let store = store(&file, commits).await;
            append(&store, &k, write(1, 1), &["before"]).await.unwrap();
            assert_eq!(texts(&store, &k).await, ["before"]);
            change(&file);

            // Before any write has noticed.
            let error = store.read(&k, Read::default()).await.unwrap_err();
            assert_replaced(&error, attack);
            let after = append(&store, &k, write(1, 2), &["after"]).await.unwrap_err();
            assert_replaced(&after, attack);
            assert!(after.to_string().contains("memory.db"), "{after}");
            for error in [
                store.keys(None, std::num::NonZeroUsize::MIN).await.unwrap_err(),
                store.head(&k).await.unwrap_err(),
                store.receipts(&k).await.unwrap_err(),
            ] {
                assert_replaced(&error, attack);
            }
            drop(store);

            // The remedy: all three in order, and a new handle.
            if inner.is_dir() {
                for suffix in ["-wal", "-shm"] {
                    let _ = fs::remove_file(beside(&file, suffix));
                }
            } else {
                let _ = fs::remove_file(&inner);
                fs::create_dir(&inner).unwrap();
            }
            let fresh = self::store(&file, commits).await;
            append(&fresh, &k, write(2, 1), &["fresh"]).await.unwrap();
            assert_eq!(texts(&fresh, &k).await.last().unwrap(), "fresh", "{attack}");
        }
    }
}

#[tokio::test]
async fn first_write_notices_without_a_read() {
    for commits in [CommitThread::Caller, CommitThread::Store] {
        for (attack, change) in ATTACKS {
            let (outer, _) = folder();
            let inner = outer.path().join("data");
            fs::create_dir(&inner).unwrap();
            let file = inner.join("memory.db");
            let store = Arc::new(store(&file, commits).await);
            append(&*store, &key("k"), write(1, 1), &["before"]).await.unwrap();
            change(&file);
            let writes: Vec<_> = (0..5_u128)
                .map(|writer| {
                    let store = Arc::clone(&store);
                    tokio::spawn(async move {
                        append(&*store, &key("k"), write(10 + writer, 1), &["after"]).await
                    })
                })
                .collect();
            for write in writes {
                assert_replaced(&write.await.unwrap().unwrap_err(), attack);
            }
        }
    }
}

#[tokio::test]
async fn returning_files_do_not_revive_the_handle() {
    let (_folder, file) = folder();
    let store = store(&file, CommitThread::Caller).await;
    let k = key("k");
    append(&store, &k, write(1, 1), &["one"]).await.unwrap();
    let away = beside(&file, ".away");
    fs::rename(&file, &away).unwrap();
    assert_replaced(&append(&store, &k, write(1, 2), &["two"]).await.unwrap_err(), "away");
    fs::rename(&away, &file).unwrap();
    let error = append(&store, &k, write(1, 3), &["three"]).await.unwrap_err();
    assert_replaced(&error, "back");
    assert_eq!(error.applied(), Applied::No, "it was not even begun");
    assert_replaced(&store.head(&k).await.unwrap_err(), "back");
    drop(store);

    // Away and back without a write in between: the path names the open file at each check.
    let store = self::store(&file, CommitThread::Caller).await;
    assert_eq!(texts(&store, &k).await.first().unwrap(), "one");
    fs::rename(&file, &away).unwrap();
    fs::rename(&away, &file).unwrap();
    append(&store, &k, write(2, 1), &["still here"]).await.unwrap();
}

#[tokio::test]
async fn names_that_cannot_be_looked_at_are_retryable() {
    let (outer, _) = folder();
    let (inner, away) = (outer.path().join("data"), outer.path().join("away"));
    fs::create_dir(&inner).unwrap();
    let file = inner.join("memory.db");
    let store = store(&file, CommitThread::Caller).await;
    let k = key("k");
    append(&store, &k, write(1, 1), &["one"]).await.unwrap();
    fs::rename(&inner, &away).unwrap();
    // A loop: the system does not report whether the file exists.
    symlink(&inner, &inner).unwrap();
    let error = append(&store, &k, write(1, 2), &["two"]).await.unwrap_err();
    assert!(matches!(error.kind(), StoreErrorKind::Unavailable(_)), "{error}");
    assert!(error.is_retryable());
    fs::remove_file(&inner).unwrap();
    fs::rename(&away, &inner).unwrap();
    append(&store, &k, write(1, 2), &["two"]).await.unwrap();
    assert_eq!(texts(&store, &k).await, ["one", "two"]);
}

#[tokio::test]
async fn symbolic_link_must_keep_its_target() {
    let (outer, file) = folder();
    let link = outer.path().join("link.db");
    symlink("memory.db", &link).unwrap();
    let store = store(&link, CommitThread::Caller).await;
    let k = key("k");
    append(&store, &k, write(1, 1), &["one"]).await.unwrap();
    assert!(beside(&file, "-wal").exists(), "the log is beside the file, not beside the link");
    // Two names for one file and one log.
    let other = self::store(&file, CommitThread::Caller).await;
    append(&other, &k, write(2, 1), &["two"]).await.unwrap();
    assert_eq!(texts(&store, &k).await, ["one", "two"]);

    fs::write(outer.path().join("other.db"), "").unwrap();
    fs::remove_file(&link).unwrap();
    symlink("other.db", &link).unwrap();
    assert_replaced(&append(&store, &k, write(1, 2), &["x"]).await.unwrap_err(), "link");
    append(&other, &k, write(2, 2), &["three"]).await.unwrap();
}

#[tokio::test]
async fn closing_a_replaced_store_keeps_the_new_log() {
    let (_folder, file) = folder();
    let k = key("k");
    let old = store(&file, CommitThread::Caller).await;
    append(&old, &k, write(1, 1), &["old"]).await.unwrap();
    remove(&file, &["", "-wal", "-shm"]);
    let new = store(&file, CommitThread::Caller).await;
    append(&new, &k, write(2, 1), &["new"]).await.unwrap();
    drop(old);
    assert!(beside(&file, "-wal").exists());
    append(&new, &k, write(2, 2), &["newer"]).await.unwrap();
    drop(new);
    assert!(!beside(&file, "-wal").exists(), "the last one to close folds the log");
    assert_eq!(texts(&store(&file, CommitThread::Caller).await, &k).await, ["new", "newer"]);
}

/// The log's index, which the old handle keeps, would refer the new one to frames that do not exist.
#[tokio::test]
async fn store_without_log_needs_old_handle_closed() {
    let (_folder, file) = folder();
    let old = store(&file, CommitThread::Caller).await;
    append(&old, &key("k"), write(1, 1), &["old"]).await.unwrap();
    remove(&file, &["-wal"]);
    SqliteStore::open(file.as_path()).await.unwrap_err();
    drop(old);
    let fresh = store(&file, CommitThread::Caller).await;
    append(&fresh, &key("k"), write(2, 1), &["fresh"]).await.unwrap();
    drop(fresh);
    assert_eq!(
        texts(&store(&file, CommitThread::Caller).await, &key("k")).await.last().unwrap(),
        "fresh"
    );
}

#[tokio::test]
async fn backup_beside_an_old_log_is_refused() {
    let (_folder, file) = folder();
    let k = key("k");
    let store = store(&file, CommitThread::Caller).await;
    append(&store, &k, write(1, 1), &["kept"]).await.unwrap();
    let backup = beside(&file, ".backup");
    Connection::open(&file).unwrap().execute("VACUUM INTO ?1", [backup.to_str().unwrap()]).unwrap();
    append(&store, &k, write(1, 2), &["undone"]).await.unwrap();
    fs::rename(&backup, &file).unwrap();
    assert_replaced(&store.head(&k).await.unwrap_err(), "backup");
    let (kind, text) = refusal(&file).await;
    assert!(matches!(kind, StoreErrorKind::Corrupt(_)), "{text}");
    assert!(text.contains("remove FILE-wal and FILE-shm"), "{text}");
    drop(store);
    assert!(beside(&file, "-wal").exists());
    assert_eq!(refusal(&file).await, (kind, text), "and not only while the old handle is open");

    remove(&file, &["-wal", "-shm"]);
    let restored = self::store(&file, CommitThread::Caller).await;
    assert_eq!(texts(&restored, &k).await, ["kept"]);
    append(&restored, &k, write(1, 2), &["again"]).await.unwrap();
    drop(restored);
    assert_eq!(texts(&self::store(&file, CommitThread::Caller).await, &k).await, ["kept", "again"]);
}

/// A copy of file and log, as after a power loss, is a complete store.
#[tokio::test]
async fn copy_of_file_and_log_is_opened() {
    let (folder, file) = folder();
    let store = store(&file, CommitThread::Caller).await;
    append(&store, &key("k"), write(1, 1), &["in the log"]).await.unwrap();
    let copy = folder.path().join("copy.db");
    for suffix in ["", "-wal"] {
        fs::copy(beside(&file, suffix), beside(&copy, suffix)).unwrap();
    }
    assert_eq!(
        texts(&self::store(&copy, CommitThread::Caller).await, &key("k")).await,
        ["in the log"]
    );
    ours(&copy).await;
}

#[tokio::test]
async fn log_without_its_file_is_refused_and_kept() {
    let (folder, file) = folder();
    let copy = folder.path().join("copy.db");
    let store = store(&file, CommitThread::Caller).await;
    append(&store, &key("k"), write(1, 1), &["kept"]).await.unwrap();
    // As after a crash: the log is whole, and was not folded into the file.
    fs::copy(&file, &copy).unwrap();
    let log = fs::read(beside(&file, "-wal")).unwrap();
    drop(store);
    for suffix in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(beside(&file, suffix));
    }
    fs::write(beside(&file, "-wal"), &log).unwrap();
    let (_, refused) = refusal(&file).await;
    for part in ["FILE is missing", "FILE-wal is still there", "put the file back, or remove"] {
        assert!(refused.contains(part), "{refused}");
    }
    assert!(!file.exists() && !beside(&file, "-shm").exists());
    assert_eq!(fs::read(beside(&file, "-wal")).unwrap(), log);

    fs::rename(&copy, &file).unwrap();
    let store = self::store(&file, CommitThread::Caller).await;
    assert_eq!(texts(&store, &key("k")).await, ["kept"]);
    drop(store);
    for suffix in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(beside(&file, suffix));
    }
    // An empty log is accepted.
    fs::write(beside(&file, "-wal"), "").unwrap();
    assert!(texts(&self::store(&file, CommitThread::Caller).await, &key("k")).await.is_empty());
}
