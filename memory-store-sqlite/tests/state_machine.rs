//! Random programs do the same to a file as to the reference store.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test that fails panics, and its output is where people look"
)]

mod support;

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use memory_core::conformance::{ManualClock, assert_counters};
use memory_core::{
    Append, Clear, ContentType, Cursor, FlushReceipt, Generation, InMemoryStore, MemoryKey,
    MemoryStore, Message, NewMessage, Outline, Priority, Read, Sequence, SequenceSet, Splice,
    StoreErrorKind, ToolCall,
};
use memory_store_sqlite::{SqliteConfig, SqliteStore};
use proptest::prelude::*;
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest, prop_state_machine};
use support::{key, message, write};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use uuid::Uuid;

/// Chosen by position among what is there when the program runs.
type Picks = Vec<u8>;

#[derive(Debug, Clone)]
enum Op {
    Append { key: u8, writer: u8, number: u8, messages: Vec<(u8, u8)>, ttl: Option<u8> },
    Splice { key: u8, summarised: Picks, evicted: Picks, closed: Picks, how: How },
    Clear { key: u8, writer: u8, number: u8 },
    Read { key: u8, after: u8, stale: bool, limit: u8 },
    Fetch { key: u8, picks: Picks, stale: bool },
    Wait { seconds: u8 },
    Reopen,
}

#[derive(Debug, Clone)]
struct How {
    summary: bool,
    stale: bool,
    unknown_place: bool,
    receipt: Option<u8>,
    next_flush_at: Option<u8>,
}

struct Programs;

impl ReferenceStateMachine for Programs {
    type State = ();
    type Transition = Op;

    fn init_state() -> BoxedStrategy<()> {
        Just(()).boxed()
    }

    fn transitions((): &()) -> BoxedStrategy<Op> {
        let key = || 0..3_u8;
        // More writers than a memory's row keeps.
        let writer = || prop_oneof![0..3_u8, 0..40_u8];
        let picks = || prop::collection::vec(any::<u8>(), 0..4);
        let how =
            (
                prop::bool::weighted(0.7),
                prop::bool::weighted(0.1),
                prop::bool::weighted(0.1),
                prop::option::of(0..6_u8),
                prop::option::of(any::<u8>()),
            )
                .prop_map(|(summary, stale, unknown_place, receipt, next_flush_at)| {
                    How { summary, stale, unknown_place, receipt, next_flush_at }
                });
        prop_oneof![
            8 => (key(), writer(), 1..9_u8, prop::collection::vec((any::<u8>(), 0..6_u8), 0..5),
                  prop::option::weighted(0.3, 1..30_u8))
                .prop_map(|(key, writer, number, messages, ttl)| Op::Append {
                    key, writer, number, messages, ttl,
                }),
            4 => (key(), picks(), picks(), picks(), how)
                .prop_map(|(key, summarised, evicted, closed, how)| Op::Splice {
                    key, summarised, evicted, closed, how,
                }),
            1 => (key(), writer(), 1..9_u8)
                .prop_map(|(key, writer, number)| Op::Clear { key, writer, number }),
            3 => (key(), any::<u8>(), prop::bool::weighted(0.2), 0..5_u8)
                .prop_map(|(key, after, stale, limit)| Op::Read { key, after, stale, limit }),
            2 => (key(), picks(), prop::bool::weighted(0.2))
                .prop_map(|(key, picks, stale)| Op::Fetch { key, picks, stale }),
            2 => (1..20_u8).prop_map(|seconds| Op::Wait { seconds }),
            1 => Just(Op::Reopen),
        ]
        .boxed()
    }

    fn apply((): (), _: &Op) {}
}

struct Pair {
    runtime: Runtime,
    folder: TempDir,
    clock: ManualClock,
    file: Arc<SqliteStore>,
    reference: InMemoryStore,
    serial: u64,
}

impl Pair {
    fn open(folder: &TempDir, clock: &ManualClock) -> SqliteConfig {
        let clock = clock.clone();
        SqliteConfig::new(folder.path().join("memory.db"))
            .with_durability(memory_core::Durability::Process)
            .with_time_source(move || clock.micros())
    }

    /// Runs the same on both and compares the answers.
    fn both<T: PartialEq + std::fmt::Debug>(
        &self,
        run: &impl AsyncFn(&dyn MemoryStore) -> Result<T, memory_core::StoreError>,
    ) {
        let (file, reference) =
            self.runtime.block_on(async { (run(&*self.file).await, run(&self.reference).await) });
        let kind = |error: memory_core::StoreError| match error.kind().clone() {
            StoreErrorKind::Invalid(_) => StoreErrorKind::Invalid(String::new()),
            kind => kind,
        };
        assert_eq!(file.map_err(kind), reference.map_err(kind));
    }

    fn outline(&self, key: &MemoryKey) -> Outline {
        self.runtime.block_on(self.reference.outline(key)).unwrap()
    }
}

fn picked(outline: &Outline, picks: &[u8]) -> Vec<Sequence> {
    let mut places: Vec<_> = picks
        .iter()
        .filter_map(|pick| {
            let metas = &outline.metas;
            (!metas.is_empty()).then(|| metas[usize::from(*pick) % metas.len()].sequence)
        })
        .collect();
    places.sort_unstable();
    places.dedup();
    places
}

fn drawn(serial: u64, (size, kind): (u8, u8)) -> NewMessage {
    let text = format!("{serial} {}", "y".repeat(usize::from(size)));
    let plain = message(&text);
    let call = |id: u64| ToolCall::function(format!("c{}", id % 5), "f", "{}");
    match kind {
        0 => NewMessage {
            priority: Some(Priority::CRITICAL),
            content_type: ContentType::SystemPrompt,
            ..plain
        },
        1 => NewMessage { message: Message::calls([call(serial), call(serial + 1)]), ..plain },
        2 => {
            NewMessage { message: Message::tool_result(format!("c{}", serial % 5), text), ..plain }
        }
        3 => NewMessage {
            priority: Some(Priority::new(size)),
            content_type: ContentType::from("it's \"mine\"\n%/é"),
            ..plain
        },
        _ => plain,
    }
}

struct AgainstReference;

impl StateMachineTest for AgainstReference {
    type SystemUnderTest = Pair;
    type Reference = Programs;

    fn init_test((): &()) -> Pair {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let clock = ManualClock::new();
        let file = runtime.block_on(SqliteStore::open(Pair::open(&folder, &clock))).unwrap();
        let now = clock.clone();
        let reference = InMemoryStore::new(move || now.now());
        Pair { runtime, folder, clock, file: Arc::new(file), reference, serial: 0 }
    }

    fn apply(mut pair: Pair, (): &(), op: Op) -> Pair {
        pair.serial += 100;
        let serial = pair.serial;
        match op {
            Op::Append { key: k, writer, number, messages, ttl } => {
                let messages: Vec<_> = messages
                    .into_iter()
                    .zip(serial..)
                    .map(|(drawing, serial)| drawn(serial, drawing))
                    .collect();
                let append = Append {
                    write: write(writer.into(), number.into()),
                    messages: messages.into(),
                    access: memory_core::Access::OPEN,
                    ttl: ttl.map(|seconds| Duration::from_secs(seconds.into())),
                };
                let key = key(&k.to_string());
                pair.both(&async |store| store.append(&key, append.clone()).await);
            }
            Op::Splice { key: k, summarised, evicted, closed, how } => {
                let key = key(&k.to_string());
                let outline = pair.outline(&key);
                let mut splice = Splice {
                    summarised: picked(&outline, &summarised),
                    evicted: picked(&outline, &evicted),
                    closed: picked(&outline, &closed),
                    summary: how.summary.then(|| drawn(serial, (5, 9))),
                    receipt: how.receipt.map(|id| receipt(id.into())),
                    next_flush_at: how.next_flush_at.map(u64::from),
                    ..Splice::new(outline.head.generation)
                };
                if how.stale {
                    splice.generation = Generation::new(splice.generation.number() ^ 1);
                }
                if how.unknown_place {
                    splice.evicted.push(outline.head.last.plus(3));
                }
                pair.both(&async |store| store.splice(&key, splice.clone()).await);
            }
            Op::Clear { key: k, writer, number } => {
                let key = key(&k.to_string());
                let write = write(writer.into(), number.into());
                let clear = Clear { write, access: memory_core::Access::OPEN };
                pair.both(&async |store| store.clear(&key, clear).await);
            }
            Op::Read { key: k, after, stale, limit } => {
                let key = key(&k.to_string());
                let head = pair.outline(&key).head;
                let generation = Generation::new(head.generation.number() ^ u64::from(stale));
                let sequence = Sequence::new(u64::from(after) % (head.last.number() + 2));
                let read = Read {
                    after: Some(Cursor { generation, sequence }),
                    limit: NonZeroUsize::new(limit.into()),
                };
                pair.both(&async |store| store.read(&key, read).await);
            }
            Op::Fetch { key: k, picks, stale } => {
                let key = key(&k.to_string());
                let outline = pair.outline(&key);
                let places = picked(&outline, &picks);
                let number = outline.head.generation.number() ^ u64::from(stale);
                let generation = Generation::new(number);
                pair.both(&async |store| store.fetch(&key, generation, &places).await);
            }
            Op::Wait { seconds } => pair.clock.advance(Duration::from_secs(seconds.into())),
            Op::Reopen => {
                let config = Pair::open(&pair.folder, &pair.clock);
                pair.file = Arc::new(pair.runtime.block_on(SqliteStore::open(config)).unwrap());
            }
        }
        pair
    }

    fn check_invariants(pair: &Pair, (): &()) {
        for name in ["0", "1", "2"] {
            let key = key(name);
            assert_counters(&pair.runtime.block_on(pair.file.outline(&key)).unwrap());
            pair.both(&async |store| store.head(&key).await);
            pair.both(&async |store| store.outline(&key).await);
            pair.both(&async |store| store.read(&key, Read::default()).await);
            pair.both(&async |store| store.receipts(&key).await);
        }
        pair.both(&async |store| store.keys(None, NonZeroUsize::new(2).unwrap()).await);
    }
}

fn receipt(id: u128) -> FlushReceipt {
    FlushReceipt {
        id: Uuid::from_u128(id),
        strategy: "fifo".into(),
        started_at: jiff::Timestamp::UNIX_EPOCH,
        duration: Duration::from_millis(3),
        tokens_before: 9,
        tokens_after: 5,
        messages_before: 3,
        messages_after: 2,
        evicted: SequenceSet::default(),
        summarised: SequenceSet::default(),
        summary: None,
        shortfall: None,
    }
}

prop_state_machine! {
    #![proptest_config(ProptestConfig { cases: 64, max_shrink_iters: 4_000, ..ProptestConfig::default() })]

    #[test]
    fn a_file_answers_as_the_reference_does(sequential 1..60 => AgainstReference);
}
