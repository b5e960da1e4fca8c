//! Kills over a SQLite file.
//!
//! Inside a transaction, the file itself stops the child: the child sets a trigger that never ends just before.
//! Inside a commit, the system kills the child by a limit on the length of files, so that the log usually ends in
//! the middle of a frame. Children that write a lot cover checkpoints of the log. The schema has one version, so
//! migration is limited to creating the tables, in a new file and in one that already contains leases.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use fastrand::Rng;
use rusqlite::Connection;

use crate::child::open;
use crate::ledger::CrashTally;
use crate::marks::EVERYWHERE;
use crate::parent::{
    Child, Errand, Orders, Scene, When, is_deep, kills, pause, seed, tell, wait_until,
};

/// Statements that a trigger stops: the point in a transaction, and the trigger's event.
const INSIDE: [(&str, &str); 5] = [
    (
        "inside an append, between two of a batch",
        "AFTER INSERT ON message WHEN NEW.summary = 0 AND NEW.body LIKE '%p1.%'",
    ),
    ("inside an append or a flush, at the counters", "BEFORE UPDATE ON memory"),
    ("inside a flush, while messages go", "AFTER DELETE ON message"),
    ("inside a flush, at the summary", "AFTER INSERT ON message WHEN NEW.summary = 1"),
    ("inside a flush, at the receipt", "AFTER INSERT ON receipt"),
];

const ENDLESS: &str = "SELECT count(*) FROM \
    (WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT x FROM n)";

/// Sets a trigger that never ends.
pub(crate) fn arm(url: &str, event: &str) {
    let file = Connection::open(url.strip_prefix("sqlite://").unwrap()).unwrap();
    file.busy_timeout(Duration::from_secs(5)).unwrap();
    file.execute_batch(&format!("CREATE TRIGGER stop {event} BEGIN {ENDLESS}; END")).unwrap();
}

/// Waits until a transaction has been open for longer than usual.
fn wait_until_stuck(path: &Path) {
    let file = Connection::open(path).unwrap();
    file.busy_timeout(Duration::ZERO).unwrap();
    let mut busy = 0;
    wait_until("a long transaction", Duration::from_millis(1), || {
        busy = match file.execute_batch("BEGIN IMMEDIATE; ROLLBACK") {
            Ok(()) => 0,
            Err(_) => busy + 1,
        };
        busy == 25
    });
}

fn assert_intact(path: &Path) {
    let file = Connection::open(path).unwrap();
    let found = file.query_row("PRAGMA integrity_check", (), |row| row.get::<_, String>(0));
    assert_eq!(found.unwrap(), "ok");
}

fn log_of(path: &Path) -> PathBuf {
    path.with_extension("db-wal")
}

/// Copies with another process: if this process closed the file, it would lose all its locks on it.
fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").args([from, to]).status().unwrap().success());
}

fn url(path: &Path) -> String {
    format!("sqlite://{}", path.display())
}

async fn at_marked_points(rows: &mut Vec<(String, CrashTally)>, rng: &mut Rng) {
    for point in EVERYWHERE {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("memory.db");
        let url = url(&path);
        let mut scene = Scene::new(&url, rng);
        for _ in 0..kills(1) {
            scene.kill(When::At(point)).await;
            assert_intact(&path);
        }
        rows.push((point.to_owned(), scene.ledger.tally));
    }
}

async fn inside_transactions(rows: &mut Vec<(String, CrashTally)>, rng: &mut Rng) {
    for (name, event) in INSIDE {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("memory.db");
        let url = url(&path);
        let mut scene = Scene::new(&url, rng);
        for _ in 0..kills(1) {
            let mut orders = scene.orders();
            orders.passes = scene.rng.u32(0..10);
            orders.arm = Some(event.to_owned());
            let mut child = Child::start(&orders);
            assert!(child.wait_for("armed"), "{:?}", child.heard);
            wait_until_stuck(&path);
            let heard = child.kill();
            let file = Connection::open(&path).unwrap();
            file.execute_batch("DROP TRIGGER stop").unwrap();
            drop(file);
            scene.examine(&orders, &heard).await;
            assert_intact(&path);
        }
        rows.push((name.to_owned(), scene.ledger.tally));
    }
}

/// Kills inside commits: every commit is written to the log, which ends in the middle of one.
async fn inside_commits(rows: &mut Vec<(String, CrashTally)>, rng: &mut Rng) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("memory.db");
    let url = url(&path);
    let mut scene = Scene::new(&url, rng);
    // Create the tables before.
    drop(open(&url).await);
    for _ in 0..kills(4) {
        let mut orders = scene.orders();
        // The index of the log, a file too, takes 32 or 64 KiB from the beginning.
        let kibibytes = scene.rng.u64(65..600);
        orders.file_limit = Some(kibibytes);
        wait_until("the end of the log", Duration::from_millis(1), || !log_of(&path).exists());
        let mut child = Child::start(&orders);
        child.wait_for_the_limit();
        assert_eq!(log_of(&path).metadata().unwrap().len(), kibibytes << 10);
        scene.bury(&orders, child).await;
        assert_intact(&path);
    }
    rows.push(("inside a commit, the log torn".to_owned(), scene.ledger.tally));
}

/// The migration is one commit of some 30 KiB, and a child is killed after every fourth KiB of it, or after each in a deep run. The remaining file is
/// opened beside a process that had it open all the time and, as a copy, by one that must recover from the log.
async fn inside_the_migration(rows: &mut Vec<(String, CrashTally)>, rng: &mut Rng) {
    let mut all = CrashTally::default();
    for kibibytes in (1..).step_by(if is_deep() { 1 } else { 4 }) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("memory.db");
        let file = Connection::open(&path).unwrap();
        file.pragma_update(None, "journal_mode", "wal").unwrap();
        // Creates the index of the log now, instead of in the child.
        file.execute_batch("BEGIN IMMEDIATE; ROLLBACK").unwrap();
        let live = url(&path);
        let mut scene = Scene::new(&live, rng);
        let mut orders = scene.orders();
        orders.file_limit = Some(kibibytes);
        let mut child = Child::start(&orders);
        if child.wait_for("up") {
            assert!(kibibytes > 16, "the tables take no more than {kibibytes} KiB?");
            break;
        }
        child.wait_for_the_limit();
        assert_eq!(log_of(&path).metadata().unwrap().len(), kibibytes << 10);
        let torn = folder.path().join("torn.db");
        copy(&path, &torn);
        copy(&log_of(&path), &log_of(&torn));
        scene.bury(&orders, child).await;
        assert_intact(&path);
        all += scene.ledger.tally;

        let torn_url = url(&torn);
        let mut scene = Scene::new(&torn_url, rng);
        let orders = scene.orders();
        scene.examine(&orders, &[]).await;
        assert_intact(&torn);
    }
    rows.push(("inside the migration, along its log".to_owned(), all));
}

/// In WAL mode only a checkpoint writes to the file itself.
async fn during_checkpoints(rows: &mut Vec<(String, CrashTally)>, rng: &mut Rng) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("memory.db");
    let url = url(&path);
    let mut scene = Scene::new(&url, rng);
    for _ in 0..kills(3) {
        let mut orders = scene.orders();
        orders.padding = 24 << 10;
        let mut child = Child::start(&orders);
        assert!(child.wait_for("ack"), "{:?}", child.heard);
        let state = || path.metadata().map(|file| (file.len(), file.modified().unwrap())).unwrap();
        let before = state();
        wait_until("a checkpoint", Duration::from_micros(50), || state() != before);
        pause(Duration::from_micros(scene.rng.u64(0..2_000)));
        scene.bury(&orders, child).await;
        assert_intact(&path);
    }
    rows.push(("while the log is folded into the file".to_owned(), scene.ledger.tally));
}

async fn while_the_file_is_made(rows: &mut Vec<(String, CrashTally)>, rng: &mut Rng) {
    for leases_first in [false, true] {
        let mut all = CrashTally::default();
        for _ in 0..kills(3) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("memory.db");
            let url = url(&path);
            let mut scene = Scene::new(&url, rng);
            let orders = scene.orders();
            if leases_first {
                Child::start(&Orders { errand: Errand::Lease, ..orders.clone() }).wait();
            }
            // The first writing connection creates the log, and the last one to close removes it.
            let child = Child::start(&orders);
            wait_until("the log", Duration::from_micros(20), || log_of(&path).exists());
            pause(Duration::from_micros(scene.rng.u64(0..4_000)));
            scene.bury(&orders, child).await;
            assert_intact(&path);
            all += scene.ledger.tally;
        }
        let name = if leases_first {
            "while the tables are made beside leases"
        } else {
            "while the file and its tables are made"
        };
        rows.push((name.to_owned(), all));
    }
    // The same while another process blocks the creation.
    let mut all = CrashTally::default();
    for _ in 0..2 {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("memory.db");
        let url = url(&path);
        let mut scene = Scene::new(&url, rng);
        let file = Connection::open(&path).unwrap();
        file.pragma_update(None, "journal_mode", "wal").unwrap();
        file.execute_batch("BEGIN IMMEDIATE").unwrap();
        let orders = scene.orders();
        let child = Child::start(&orders);
        pause(Duration::from_millis(scene.rng.u64(20..120)));
        let heard = child.kill();
        file.execute_batch("ROLLBACK").unwrap();
        drop(file);
        scene.examine(&orders, &heard).await;
        assert_intact(&path);
        all += scene.ledger.tally;
    }
    rows.push(("while it waits to make the tables".to_owned(), all));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_processes_lose_and_duplicate_nothing() {
    let seed = seed();
    let (mut rng, mut rows) = (Rng::with_seed(seed), Vec::new());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("memory.db");
    let any = url(&path);
    let mut scene = Scene::new(&any, &mut rng);
    for _ in 0..kills(10) {
        scene.kill(When::AnyMoment).await;
        assert_intact(&path);
    }
    rows.push(("at any moment".to_owned(), scene.ledger.tally));
    at_marked_points(&mut rows, &mut rng).await;
    inside_transactions(&mut rows, &mut rng).await;
    inside_commits(&mut rows, &mut rng).await;
    during_checkpoints(&mut rows, &mut rng).await;
    while_the_file_is_made(&mut rows, &mut rng).await;
    inside_the_migration(&mut rows, &mut rng).await;
    tell("SQLite", seed, &rows, 45);
}
