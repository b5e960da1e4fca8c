//! The file that a path names: links, mounts, modes, and paths that look like something else.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use memory_core::store::StoreErrorKind;
use memory_lock::{Clock, ClockExt as _, LockErrorKind, SqliteLock};
use memory_store_sqlite::{Links, SqliteConfig, SqliteStore};
use rusqlite::Connection;

use super::{AS_CHILD, folder, ours, refusal, run_child, sql};
use crate::support::{append, key, texts, write};

fn mode(path: impl AsRef<Path>) -> u32 {
    path.as_ref().metadata().unwrap().mode() & 0o7777
}

#[tokio::test]
async fn file_with_two_hard_links_is_refused() {
    let (folder, file) = folder();
    ours(&file).await;
    let link = folder.path().join("link.db");
    fs::hard_link(&file, &link).unwrap();
    for path in [&file, &link] {
        let (kind, text) = refusal(path).await;
        assert!(matches!(kind, StoreErrorKind::Invalid(_)), "{text}");
        assert!(text.contains("FILE has 2 hard links"), "{text}");
        assert!(text.contains("`?links=allow`"), "{text}");
        let error = SqliteLock::open(path, Clock::system()).unwrap_err();
        assert_eq!(error.kind(), &LockErrorKind::Refused);
        assert!(error.to_string().contains("has 2 hard links"), "{error}");
    }
    let config = SqliteConfig::new(&file).with_links(Links::Allow);
    let store = SqliteStore::open(config).await.unwrap();
    SqliteLock::open_with_links(&file, Clock::system(), Links::Allow).unwrap();
    append(&store, &key("k"), write(2, 1), &["allowed"]).await.unwrap();
}

/// As snapshot tools create them. The other name is refused, so the link is harmless.
#[tokio::test]
async fn hard_link_to_an_open_store_is_harmless() {
    let (folder, file) = folder();
    let store = SqliteStore::open(file.as_path()).await.unwrap();
    append(&store, &key("k"), write(1, 1), &["one"]).await.unwrap();
    let link = folder.path().join("link.db");
    fs::hard_link(&file, &link).unwrap();
    append(&store, &key("k"), write(1, 2), &["two"]).await.unwrap();
    refusal(&link).await;
    fs::remove_file(&link).unwrap();
    drop(store);
    assert_eq!(texts(&SqliteStore::open(file).await.unwrap(), &key("k")).await, ["one", "two"]);
}

#[tokio::test]
async fn new_files_are_for_their_owner_alone() {
    let (folder, file) = folder();
    let name = |suffix: &str| format!("{}{suffix}", file.display());
    let store = SqliteStore::open(file.as_path()).await.unwrap();
    append(&store, &key("k"), write(1, 1), &["one"]).await.unwrap();
    for suffix in ["", "-wal", "-shm"] {
        assert_eq!(mode(name(suffix)), 0o600, "{suffix}");
    }
    drop(store);
    // The owner's choice.
    fs::set_permissions(&file, Permissions::from_mode(0o640)).unwrap();
    let store = SqliteStore::open(file.as_path()).await.unwrap();
    append(&store, &key("k"), write(1, 2), &["two"]).await.unwrap();
    for suffix in ["", "-wal", "-shm"] {
        assert_eq!(mode(name(suffix)), 0o640, "{suffix}");
    }
    let leases = folder.path().join("leases.db");
    let _lock = SqliteLock::open(&leases, Clock::system()).unwrap();
    assert_eq!(mode(&leases), 0o600);
    assert_eq!(mode(format!("{}-wal", leases.display())), 0o600);
}

#[tokio::test]
async fn umask_does_not_change_modes() {
    let exe = std::env::current_exe().unwrap();
    for umask in ["000", "777"] {
        let (_folder, file) = folder();
        let script = format!("umask {umask}; exec '{}' \"$@\"", exe.display());
        let mut command = Command::new("sh");
        command.args(["-c", &script, "sh"]).args(AS_CHILD);
        let said = run_child(&mut command, &file);
        assert_eq!(said.last().unwrap(), "ack 200", "{umask}");
        assert_eq!(mode(&file), 0o600, "{umask}");
    }
}

/// The bundled SQLite reads `file:` as a URI regardless of its flags.
#[tokio::test]
async fn path_like_a_uri_is_a_path() {
    let (folder, _) = folder();
    let foreign = folder.path().join("x.db");
    sql(&foreign, "CREATE TABLE users (id INTEGER)");
    let before = fs::read(&foreign).unwrap();
    for name in ["file:x.db", "file:x.db?mode=memory", "file:y.db", "x.db#1", "%78.db"] {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(AS_CHILD).current_dir(folder.path());
        let said = run_child(&mut command, Path::new(name));
        assert_eq!(said.last().unwrap(), "ack 200", "{name}");
        assert!(folder.path().join(name).is_file(), "{name}");
    }
    assert_eq!(fs::read(&foreign).unwrap(), before);
    assert!(!folder.path().join("y.db").exists());
    for name in ["", ":memory:"] {
        let error = SqliteStore::open(name).await.unwrap_err();
        assert!(matches!(error.kind(), StoreErrorKind::Invalid(_)), "{error}");
        assert!(error.to_string().contains("memory://"), "{error}");
    }
}

#[tokio::test]
async fn new_file_is_created_at_a_dangling_link() {
    let (folder, file) = folder();
    let link = folder.path().join("link.db");
    std::os::unix::fs::symlink("memory.db", &link).unwrap();
    ours(&link).await;
    assert_eq!(mode(&file), 0o600);
}

#[test]
fn another_programs_journal_mode_is_left_alone() {
    for mark in ["", "PRAGMA application_id = 7;", "PRAGMA user_version = 7;"] {
        let (_folder, file) = folder();
        sql(&file, &format!("CREATE TABLE users (id INTEGER); {mark}"));
        let before = fs::read(&file).unwrap();
        let error = SqliteLock::open(&file, Clock::system()).unwrap_err();
        assert_eq!(error.kind(), &LockErrorKind::Corrupt, "{error}");
        assert!(error.to_string().contains("another program"), "{error}");
        let options = memory_sqlite_file::OpenOptions::new();
        memory_sqlite_file::open_connection(&file, &options).unwrap_err();
        assert_eq!(fs::read(&file).unwrap(), before);
    }
    // Leases of this crate, and a journal mode that another program changed.
    let (_folder, file) = folder();
    drop(SqliteLock::open(&file, Clock::system()).unwrap());
    sql(&file, "PRAGMA journal_mode = DELETE");
    SqliteLock::open(&file, Clock::system()).unwrap();
}

/// An unfinished transaction of another program is for that program to undo.
#[tokio::test]
async fn another_programs_unfinished_transaction_is_left_alone() {
    let (folder, file) = folder();
    let (foreign, journal) =
        (folder.path().join("foreign.db"), folder.path().join("foreign.db-journal"));
    let connection = Connection::open(&foreign).unwrap();
    connection
        .execute_batch(
            "CREATE TABLE users (id INTEGER, text TEXT);
             WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500)
             INSERT INTO users SELECT i, hex(randomblob(500)) FROM n;
             PRAGMA cache_size = 1; BEGIN; UPDATE users SET text = 'x';",
        )
        .unwrap();
    fs::copy(&foreign, &file).unwrap();
    fs::copy(&journal, format!("{}-journal", file.display())).unwrap();
    let before = fs::read(&file).unwrap();
    SqliteStore::open(file.as_path()).await.unwrap_err();
    SqliteLock::open(&file, Clock::system()).unwrap_err();
    assert_eq!(fs::read(&file).unwrap(), before);
    assert!(Path::new(&format!("{}-journal", file.display())).exists());
}

/// Runs a script that may mount; `None` if the system does not allow it.
fn in_mount_namespace(script: &str, file: &Path, folder: &Path) -> Option<Vec<String>> {
    let exe = std::env::current_exe().unwrap();
    let script = format!("cd '{}'; {script}; exec '{}' \"$@\"", folder.display(), exe.display());
    for flags in ["-m", "-Urm"] {
        let allowed =
            Command::new("unshare").args([flags, "mount", "-t", "tmpfs", "x", "/mnt"]).output();
        if allowed.is_ok_and(|output| output.status.success()) {
            let mut command = Command::new("unshare");
            command.args([flags, "sh", "-ec", &script, "sh"]).args(AS_CHILD);
            return Some(run_child(&mut command, file));
        }
    }
    eprintln!("not run: this system allows no mounts (unshare -Urm)");
    None
}

#[tokio::test]
async fn separately_mounted_file_is_refused() {
    let (folder, file) = folder();
    ours(&file).await;
    fs::create_dir(folder.path().join("box")).unwrap();
    fs::write(folder.path().join("box/memory.db"), "").unwrap();
    std::os::unix::fs::symlink("box/memory.db", folder.path().join("link.db")).unwrap();
    for name in ["box/memory.db", "link.db"] {
        let mounted = folder.path().join(name);
        let Some(said) =
            in_mount_namespace("mount --bind memory.db box/memory.db", &mounted, folder.path())
        else {
            return;
        };
        assert!(said[0].contains("FILE is mounted as a single file"), "{said:?}");
        assert!(said[0].contains("mount the folder"), "{said:?}");
    }
    fs::remove_file(folder.path().join("box/memory.db")).unwrap();
    let file = folder.path().join("box/memory.db");
    let said = in_mount_namespace("mount --bind . box", &file, folder.path()).unwrap();
    assert_eq!(said.last().unwrap(), "ack 200", "a mounted folder is as good as another");
}

/// The file of an image's layer, which may have other links there, becomes a file of the container.
#[tokio::test]
async fn overlay_copy_up_is_no_replacement() {
    let (folder, _) = folder();
    for name in ["lower", "upper", "merged", "scratch"] {
        fs::create_dir(folder.path().join(name)).unwrap();
    }
    let lower = folder.path().join("lower/memory.db");
    ours(&lower).await;
    fs::hard_link(&lower, folder.path().join("lower/layer")).unwrap();
    let file = folder.path().join("merged/memory.db");
    // The upper layer is on another file system, as with a container.
    let mount = "mount -t tmpfs x scratch; mkdir scratch/upper scratch/work; \
                 mount -t overlay x -o lowerdir=lower,upperdir=scratch/upper,workdir=scratch/work merged";
    if let Some(said) = in_mount_namespace(mount, &file, folder.path()) {
        assert_eq!(said.last().unwrap(), "ack 200", "{said:?}");
    }
    assert_eq!(lower.metadata().unwrap().nlink(), 2);
}
