//! Unusable files are refused with the reason, and are not changed.

#[cfg(unix)]
mod names;
#[cfg(unix)]
mod replaced;

use std::fs::{self, Permissions};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::{append, checked_outline, key, texts, write};
use memory_core::MemoryStore;
use memory_core::store::{Access, Applied, StoreErrorKind};
use memory_lock::{Clock, ClockExt as _, SqliteLock};
use memory_store_sqlite::SqliteStore;
use rusqlite::Connection;
use tempfile::TempDir;

fn folder() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("memory.db");
    (folder, file)
}

async fn refusal(path: &Path) -> (StoreErrorKind, String) {
    let before = fs::read(path).ok();
    let error = SqliteStore::open(path).await.unwrap_err();
    assert_eq!(fs::read(path).ok(), before, "the file was changed");
    assert_eq!(error.applied(), Applied::No);
    let text = error.to_string().replace(&path.display().to_string(), "FILE");
    (error.kind().clone(), text)
}

async fn ours(path: &Path) {
    let store = SqliteStore::open(path).await.unwrap();
    for number in 1..=50 {
        append(&store, &key("k"), write(1, number), &["x"; 20]).await.unwrap();
    }
}

fn sql(path: &Path, statements: &str) {
    Connection::open(path).unwrap().execute_batch(statements).unwrap();
}

#[tokio::test]
async fn file_that_is_no_database_is_refused() {
    let text = "open: damaged or foreign data: FILE is not a SQLite database or is damaged; check \
                the path or restore a backup";
    for content in
        [b"hello world".to_vec(), vec![0xA5; 100_000], b"SQLite format 3\0 and then noise".to_vec()]
    {
        let (_folder, file) = folder();
        fs::write(&file, content).unwrap();
        let (kind, refused) = refusal(&file).await;
        assert!(matches!(kind, StoreErrorKind::Corrupt(_)));
        assert_eq!(refused, text);
    }
}

#[tokio::test]
async fn truncated_store_file_is_refused() {
    let (_folder, file) = folder();
    ours(&file).await;
    let bytes = fs::read(&file).unwrap();
    for length in [bytes.len() / 2, 4_096, 100] {
        fs::write(&file, &bytes[..length]).unwrap();
        let (kind, text) = refusal(&file).await;
        assert!(matches!(kind, StoreErrorKind::Corrupt(_)), "{length}: {text}");
    }
}

#[tokio::test]
async fn database_of_another_program_is_refused() {
    for (statements, text) in [
        (
            "CREATE TABLE users (id INTEGER PRIMARY KEY); INSERT INTO users VALUES (1)",
            "open: damaged or foreign data: FILE is a database of another program (it has other \
             tables); choose another path",
        ),
        (
            "PRAGMA journal_mode = WAL; CREATE TABLE users (id INTEGER PRIMARY KEY)",
            "open: damaged or foreign data: FILE is a database of another program (it has other \
             tables); choose another path",
        ),
        (
            "PRAGMA application_id = 1196444487; CREATE TABLE features (id INTEGER)",
            "open: damaged or foreign data: FILE is a database of another program (application id \
             0x47504b47); choose another path",
        ),
        (
            "PRAGMA user_version = 3; CREATE TABLE memory_leases (key TEXT)",
            "open: damaged or foreign data: FILE is a database of another program (user version 3); \
             choose another path",
        ),
    ] {
        let (_folder, file) = folder();
        sql(&file, statements);
        let (kind, refused) = refusal(&file).await;
        assert!(matches!(kind, StoreErrorKind::Corrupt(_)));
        assert_eq!(refused, text);
    }
}

#[tokio::test]
async fn file_of_a_newer_version_is_refused() {
    let (_folder, file) = folder();
    ours(&file).await;
    sql(&file, "PRAGMA user_version = 99");
    let (kind, text) = refusal(&file).await;
    assert!(matches!(kind, StoreErrorKind::Newer { found: 99, known: 8, .. }));
    assert_eq!(
        text,
        "open: FILE was written by a newer version (schema 99, this one knows 8); upgrade this program"
    );
}

#[tokio::test]
async fn file_without_table_version_or_id_is_refused() {
    for (loss, told) in [
        ("DROP TABLE writer", "FILE lacks the table `writer`"),
        ("PRAGMA user_version = 0", "FILE has lost the version of its tables"),
        ("PRAGMA application_id = 0", "FILE has lost its application id"),
    ] {
        let (_folder, file) = folder();
        ours(&file).await;
        sql(&file, loss);
        let (_, text) = refusal(&file).await;
        let told = format!("open: damaged or foreign data: {told}; restore a backup");
        assert_eq!(text, told);
    }
}

#[tokio::test]
async fn impossible_file_path_is_refused() {
    let (folder, _) = folder();
    let (_, text) = refusal(folder.path()).await;
    assert_eq!(
        text,
        "open: invalid request: FILE is not a file; give the path of a file, which is created if \
         it is missing"
    );
    let missing = folder.path().join("none");
    let error = SqliteStore::open(missing.join("memory.db")).await.unwrap_err();
    assert!(matches!(error.kind(), StoreErrorKind::Invalid(_)));
    assert_eq!(
        error.to_string(),
        format!(
            "open: invalid request: the folder {} does not exist; create it first",
            missing.display()
        )
    );
    assert!(!missing.exists());
}

#[tokio::test]
async fn empty_file_and_lock_file_are_accepted() {
    let (_folder, file) = folder();
    fs::write(&file, "").unwrap();
    ours(&file).await;

    let (_folder, file) = folder();
    let lock = SqliteLock::open(&file, Clock::system()).unwrap();
    ours(&file).await;
    drop(lock);
    ours(&file).await;

    let (_folder, file) = folder();
    drop(SqliteLock::open(&file, Clock::system()).unwrap());
    ours(&file).await;
}

#[tokio::test]
async fn damaged_message_does_not_hide_its_neighbors() {
    let (_folder, file) = folder();
    {
        let store = SqliteStore::open(file.as_path()).await.unwrap();
        append(&store, &key("k"), write(1, 1), &["one", "two", "three"]).await.unwrap();
    }
    sql(&file, "UPDATE message SET body = '{\"secret\":' WHERE (place & 0xFFFFFFFFF) = 2");
    let store = SqliteStore::open(file.as_path()).await.unwrap();
    let k = key("k");
    let page = store.read(&k, memory_core::store::Read::default()).await.unwrap();
    assert_eq!(texts(&store, &k).await, ["one", "three"]);
    assert_eq!((page.unreadable, page.more), (vec![memory_core::Sequence::new(2)], false));
    let one = std::num::NonZeroUsize::MIN;
    let newest = store.read_before(&k, None, one).await.unwrap();
    assert!(newest.more && newest.unreadable.is_empty());
    let older = store.read_before(&k, Some(newest.cursor), one).await.unwrap();
    assert_eq!((older.messages.len(), older.more), (1, false));
    assert_eq!(older.unreadable, vec![memory_core::Sequence::new(2)]);
    assert_eq!(older.cursor.sequence, memory_core::Sequence::new(1));
    // Plans and evictions do not need the text.
    let outline = checked_outline(&store, &k).await;
    let splice = memory_core::store::Splice {
        evicted: vec![outline.metas[1].sequence],
        ..memory_core::store::Splice::new(outline.head.generation)
    };
    store.splice(&k, Access::OPEN, &splice).await.unwrap();
    assert_eq!(texts(&store, &k).await, ["one", "three"]);
}

/// Prints the outcome on its standard output; does nothing unless the parent requests it.
#[test]
fn child() {
    let Ok(file) = std::env::var("MEMORY_TEST_FILE") else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let store = match SqliteStore::open(file.as_str()).await {
            Ok(store) => store,
            Err(error) => return println!("\nsays {error}"),
        };
        for number in 1..=200 {
            let text = format!("{number} {}", "x".repeat(4_000));
            match append(&store, &key("k"), write(1, number), &[&text]).await {
                Ok(_) => println!("\nack {number}"),
                Err(error) => return println!("\nsays {:?} {error}", error.applied()),
            }
        }
    });
}

fn run_child(command: &mut Command, file: &Path) -> Vec<String> {
    let output = command.env("MEMORY_TEST_FILE", file).stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).replace(&file.display().to_string(), "FILE");
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let ours = |line: &&str| line.starts_with("ack ") || line.starts_with("says ");
    text.lines().filter(ours).map(str::to_owned).collect()
}

const AS_CHILD: [&str; 3] = ["--exact", "bad_files::child", "--nocapture"];

/// The files of this process may not grow beyond a limit, which simulates a full disk without
/// filling one. The kernel calls it `EFBIG`, and SQLite an I/O error.
#[cfg(unix)]
#[tokio::test]
async fn acknowledged_writes_survive_a_file_size_limit() {
    let (_folder, file) = folder();
    let exe = std::env::current_exe().unwrap();
    let script = format!("trap '' XFSZ; ulimit -f 600; exec '{}' \"$@\"", exe.display());
    let mut command = Command::new("sh");
    command.args(["-c", &script, "sh"]).args(AS_CHILD);
    let said = run_child(&mut command, &file);
    let (last, acks) = said.split_last().unwrap();
    assert!(!acks.is_empty() && acks.len() < 200, "{said:?}");
    assert!(
        last.ends_with(
            "append to tests:sqlite:k: the store did not answer: FILE cannot be opened, read or \
             written; check its folder, permissions, disk and quota"
        ),
        "{last}"
    );
    let store = SqliteStore::open(file.as_path()).await.unwrap();
    let present = checked_outline(&store, &key("k")).await.metas.len();
    // The failed write may be stored if its outcome was unknown.
    let most = acks.len() + usize::from(last.contains("Unknown"));
    assert!((acks.len()..=most).contains(&present), "{present} of {}", acks.len());
    for number in acks.len() as u64 + 1..=acks.len() as u64 + 5 {
        append(&store, &key("k"), write(1, number), &["room again"]).await.unwrap();
    }
    assert_eq!(texts(&store, &key("k")).await.len(), acks.len() + 5);
}

/// Root may write anywhere, so the child then runs as another user.
#[cfg(unix)]
#[tokio::test]
async fn read_only_file_is_refused() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::os::unix::process::CommandExt;

    for (file_mode, folder_mode) in [(0o444, 0o755), (0o444, 0o555), (0o644, 0o555)] {
        let (folder, file) = folder();
        ours(&file).await;
        let before = fs::read(&file).unwrap();
        let root = folder.path().metadata().unwrap().uid() == 0;
        if !root && file_mode == 0o644 {
            // The owner of both may write to the file.
            continue;
        }
        // A copy that other users may run.
        let exe = folder.path().join("exe");
        fs::copy(std::env::current_exe().unwrap(), &exe).unwrap();
        fs::set_permissions(&exe, Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(&file, Permissions::from_mode(file_mode)).unwrap();
        fs::set_permissions(folder.path(), Permissions::from_mode(folder_mode)).unwrap();
        let mut command = Command::new(&exe);
        command.args(AS_CHILD);
        if root {
            command.uid(65_534).gid(65_534);
        }
        let said = run_child(&mut command, &file);
        let read_only = "says open: the store is read-only: FILE may not be written; check the \
                         permissions of the file and its folder";
        assert_eq!(said, [read_only], "{file_mode:o} in {folder_mode:o}");
        assert_eq!(fs::read(&file).unwrap(), before);
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    }
}
