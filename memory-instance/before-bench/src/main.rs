//! Appends of this tree and of an earlier commit, by turns in one process, on SQLite and Redis.
//!
//! ```sh
//! git worktree add target/before COMMIT
//! sed -i 's/"0\.1\.0"/"0.0.1"/' target/before/Cargo.toml  # Cargo distinguishes packages by name and version
//! cargo run --release --manifest-path memory-instance/before-bench/Cargo.toml -- redis://127.0.0.1:6379
//! ```
//!
//! Four managers append by turns: two of the earlier commit, whose difference is the noise, and two of this tree, one
//! without an archive and one that keeps everything forever. Each has a separate file, or separate keys.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

const ROUNDS: usize = 400;
const APPENDS_A_ROUND: usize = 25;
const NAMES: [&str; 4] = ["before", "before again", "now", "now, with an archive"];
const TEXT: &str = "The customer asks to move the flight from New York to Seattle to the morning of May 20th, keeping \
                    both seats together and the checked bags as they are booked";

/// A memory of one of the builds, whose types have nothing to do with those of the other.
macro_rules! build {
    ($name:ident, $core:ident, $archive:expr) => {
        mod $name {
            use ::$name as instance;
            use $core::{MemoryResource, Message};

            use super::Kept;

            pub(super) struct Memory {
                memory: instance::MemoryInstance,
                _manager: instance::MemoryManager,
            }

            impl Memory {
                pub(super) async fn open(url: &str, key: &str, kept: Kept) -> Self {
                    let mut resource = MemoryResource::new("bench", 1 << 40);
                    let set: fn(&mut MemoryResource, Kept) = $archive;
                    set(&mut resource, kept);
                    let manager = instance::MemoryManager::builder()
                        .with_resource(resource)
                        .with_flush_mode(instance::FlushMode::Manual)
                        .open(url)
                        .await
                        .unwrap();
                    Self { memory: manager.memory("bench", key).unwrap(), _manager: manager }
                }

                pub(super) async fn append(&self) {
                    self.memory.append(Message::user(super::TEXT)).await.unwrap();
                }
            }
        }
    };
}

/// The messages that an archive keeps.
#[derive(Clone, Copy)]
pub(crate) enum Kept {
    Nothing,
    Everything,
}

build!(before, core_before, |_, _| ());
build!(now, core_now, |resource, kept| {
    resource.archive = match kept {
        crate::Kept::Nothing => core_now::resource::ArchiveSettings::none(),
        crate::Kept::Everything => core_now::resource::ArchiveSettings::forever(),
    };
});

/// The medians of one append of each manager.
async fn medians(urls: [String; 4]) -> [Duration; 4] {
    let [first, second, third, fourth] = urls;
    let run = std::process::id();
    let one = before::Memory::open(&first, &format!("{run}-a"), Kept::Nothing).await;
    let other = before::Memory::open(&second, &format!("{run}-b"), Kept::Nothing).await;
    let plain = now::Memory::open(&third, &format!("{run}-c"), Kept::Nothing).await;
    let archiving = now::Memory::open(&fourth, &format!("{run}-d"), Kept::Everything).await;
    let mut times: [Vec<Duration>; 4] = Default::default();
    for round in 0..ROUNDS {
        // Each position in a round is taken by each manager equally often.
        for at in (0..4).map(|turn| (turn + round) % 4) {
            for _ in 0..APPENDS_A_ROUND {
                let started = Instant::now();
                match at {
                    0 => one.append().await,
                    1 => other.append().await,
                    2 => plain.append().await,
                    _ => archiving.append().await,
                }
                times[at].push(started.elapsed());
            }
        }
    }
    times.map(|mut times| {
        times.sort_unstable();
        times[times.len() / 2]
    })
}

fn row(store: &str, medians: [Duration; 4]) -> String {
    let mut row = format!("{store:<8}");
    for (name, median) in NAMES.iter().zip(medians) {
        let ratio = median.as_secs_f64() / medians[0].as_secs_f64();
        let micros = median.as_secs_f64() * 1e6;
        let _ = write!(row, "  {name}: {micros:.1} us ({ratio:.3})");
    }
    row
}

#[tokio::main]
async fn main() {
    let redis = std::env::args().nth(1);
    for run in 1..=3 {
        println!("run {run}: medians of {} appends", ROUNDS * APPENDS_A_ROUND);
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| format!("sqlite://{}", folder.path().join(name).display());
        println!("{}", row("SQLite", medians(["a.db", "b.db", "c.db", "d.db"].map(file)).await));
        if let Some(redis) = &redis {
            println!("{}", row("Redis", medians([(); 4].map(|()| redis.clone())).await));
        }
    }
}
