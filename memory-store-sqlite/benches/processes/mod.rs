//! The throughput of several processes on one file and of one alone, alternately. The children run this same
//! binary.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use memory_core::MemoryStore;
use memory_core::store::Durability;
use memory_store_sqlite::{SqliteConfig, SqliteStore};

use crate::common::{self, key, now};

const FILE: &str = "MEMORY_BENCH_FILE";
const ROUNDS: usize = 5;
const EACH: Duration = Duration::from_secs(2);

/// The latencies of one process in microseconds.
type Latencies = Vec<u64>;

/// The results of the processes of a turn.
struct Outcome {
    appends_per_second: f64,
    p50: u64,
    p99: u64,
    longest: u64,
    /// Of all appends, those of the process with the fewest and with the most.
    shares: (f64, f64),
    /// The length of the log at the end, in megabytes.
    log: f64,
}

/// Does the work of a child if this process is one.
pub(crate) fn run_child() -> bool {
    let Ok(file) = std::env::var(FILE) else { return false };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    let numbers = runtime.block_on(append_for_a_while(Path::new(&file)));
    let line: Vec<_> = numbers.iter().map(u64::to_string).collect();
    println!("{}", line.join(" "));
    true
}

/// The length of the log at the end, in bytes, and the latencies.
async fn append_for_a_while(file: &Path) -> Vec<u64> {
    let config = SqliteConfig::new(file).with_durability(Durability::Disk);
    let store = SqliteStore::open(config).await.unwrap();
    let (k, writer) = (key("shared"), u128::from(std::process::id()));
    store.head(&k).await.unwrap();
    println!("ready");
    std::io::stdout().flush().unwrap();
    std::io::stdin().read_exact(&mut [0]).unwrap();
    let mut latencies = Vec::new();
    let start = now();
    for number in 1.. {
        let before = now();
        common::send(&store, &k, writer, number, vec![common::message()]).await;
        latencies.push(u64::try_from(before.elapsed().as_micros()).unwrap());
        if start.elapsed() >= EACH {
            break;
        }
    }
    // Before the last process closes the file and removes the log.
    latencies.insert(0, file.with_extension("db-wal").metadata().unwrap().len());
    latencies
}

fn spawn(file: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .env(FILE, file)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// The other users of the file.
#[derive(Clone, Copy, PartialEq)]
enum Beside {
    Nothing,
    /// Consecutive reads of 300 ms, as of a backup or an export.
    LongReads,
}

/// Reads until the child has ended, so that the log cannot start over most of the time.
#[expect(clippy::disallowed_methods, reason = "a read takes its time")]
fn read_beside(file: &Path, child: &mut Child) {
    let connection = rusqlite::Connection::open(file).unwrap();
    while child.try_wait().unwrap().is_none() {
        connection.execute_batch("BEGIN; SELECT count(*) FROM message").unwrap();
        std::thread::sleep(Duration::from_millis(300));
        connection.execute_batch("COMMIT").unwrap();
    }
}

/// This many processes on a new file, which start together.
fn turn(processes: usize, beside: Beside) -> Outcome {
    let folder = common::folder();
    let file = folder.path().join("memory.db");
    let mut children: Vec<_> = (0..processes).map(|_| spawn(&file)).collect();
    let mut outputs: Vec<_> = children
        .iter_mut()
        .map(|child| BufReader::new(child.stdout.take().unwrap()).lines())
        .collect();
    for output in &mut outputs {
        assert_eq!(output.next().unwrap().unwrap(), "ready");
    }
    for child in &mut children {
        child.stdin.take().unwrap().write_all(b"g").unwrap();
    }
    if beside == Beside::LongReads {
        read_beside(&file, &mut children[0]);
    }
    let mut log = 0;
    let all: Vec<Latencies> = outputs
        .into_iter()
        .map(|mut output| {
            let line = output.next().unwrap().unwrap();
            let mut numbers = line.split(' ').map(|number| number.parse().unwrap());
            log = log.max(numbers.next().unwrap());
            numbers.collect()
        })
        .collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    let counts = all.iter().map(Vec::len);
    let (fewest, most) = (counts.clone().min().unwrap(), counts.max().unwrap());
    let mut merged = all.concat();
    merged.sort_unstable();
    let total = merged.len() as f64;
    Outcome {
        appends_per_second: total / EACH.as_secs_f64(),
        p50: merged[merged.len() / 2],
        p99: merged[merged.len() * 99 / 100],
        longest: merged[merged.len() - 1],
        shares: (fewest as f64 / total, most as f64 / total),
        log: log as f64 / f64::from(1 << 20),
    }
}

pub(crate) fn compare_processes() {
    use Beside::{LongReads, Nothing};
    for (processes, beside) in [(4, Nothing), (4, LongReads), (2, Nothing), (8, Nothing)] {
        let mut ratios = Vec::new();
        for _ in 0..ROUNDS {
            let (alone, together) = (turn(1, beside), turn(processes, beside));
            let ratio = together.appends_per_second / alone.appends_per_second;
            ratios.push(ratio);
            println!(
                "{processes} processes{} {:>6.0}/s, alone {:>6.0}/s, ratio {ratio:.2}; p50 {} us (alone {} us), \
                 p99 {} us ({} us), longest {} us, shares {:.2} to {:.2}, log {:.0} MB ({:.0} MB)",
                if beside == LongReads { " beside long reads" } else { "" },
                together.appends_per_second,
                alone.appends_per_second,
                together.p50,
                alone.p50,
                together.p99,
                alone.p99,
                together.longest,
                together.shares.0,
                together.shares.1,
                together.log,
                alone.log,
            );
        }
        ratios.sort_by(f64::total_cmp);
        println!("median ratio {:.2}", ratios[ROUNDS / 2]);
    }
}
