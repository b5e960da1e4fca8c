//! Fuzz targets.
//!
//! A target is a test binary `fuzz_*`. It runs its corpus, the files of the folder `corpus/NAME` beside it, and
//! several hundred mutations; `PROPTEST_CASES=100000 cargo test --test fuzz_message` runs more. Add every input that
//! found a bug to the corpus.

use std::fs;
use std::path::Path;

use peak_alloc::PeakAlloc;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

/// Makes the allocator of a test binary count, as [`peak_of`] requires.
#[macro_export]
macro_rules! count_allocations {
    () => {
        #[global_allocator]
        static ALLOCATOR: $crate::PeakAlloc = $crate::PeakAlloc;
    };
}

/// Part of every text that an error must not quote.
pub const SECRET: &str = "5ecr3t";

/// Returns the result of `run` and its peak allocation in bytes. Other tests of the same process are counted too;
/// `cargo nextest`, which `cargo xtask test` uses, runs each test in a separate process. The binary must contain
/// [`count_allocations!`](crate::count_allocations).
pub fn peak_of<T>(run: impl FnOnce() -> T) -> (T, usize) {
    let before = PeakAlloc.current_usage();
    assert!(before > 0, "the binary lacks `count_allocations!`");
    PeakAlloc.reset_peak_usage();
    let done = run();
    (done, PeakAlloc.peak_usage().saturating_sub(before))
}

/// The files of a folder below `tests/corpus` of the package under test, with their names.
pub fn corpus(folder: &str) -> Vec<(String, Vec<u8>)> {
    let package =
        std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo names the package under test");
    let folder = Path::new(&package).join("tests/corpus").join(folder);
    let mut files: Vec<_> = fs::read_dir(&folder)
        .unwrap()
        .map(|file| {
            let path = file.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, fs::read(path).unwrap())
        })
        .collect();
    files.sort();
    assert!(!files.is_empty(), "no corpus in {}", folder.display());
    files
}

/// Runs a target on each file of its corpus and on mutations of them: `PROPTEST_CASES` of them if set, else `cases`.
pub fn fuzz(folder: &str, cases: u32, target: impl Fn(&[u8])) {
    let corpus = corpus(folder);
    for (name, input) in &corpus {
        let told = NameOnPanic(name);
        target(input);
        drop(told);
    }
    let seeds: Vec<Vec<u8>> = corpus.into_iter().map(|(_, input)| input).collect();
    let mut config = Config { failure_persistence: None, ..Config::default() };
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = cases;
    }
    let done = TestRunner::new(config).run(&mutated(seeds), |input| {
        target(&input);
        Ok(())
    });
    if let Err(failure) = done {
        panic!("{failure}");
    }
}

struct NameOnPanic<'a>(&'a str);

impl Drop for NameOnPanic<'_> {
    #[expect(clippy::print_stderr, reason = "people read the output of a failed test")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("in the corpus: {}", self.0);
        }
    }
}

/// Inputs that have broken text parsers before.
const NASTY: &[&str] = &[
    "\"\\ud800\"",
    "\\ud83d",
    "\\u0000",
    "\0",
    "1e999999",
    "-0",
    "1e-400",
    "99999999999999999999999999",
    "-9223372036854775809",
    "18446744073709551616",
    "0.1e+1",
    "\u{202e}",
    "\u{feff}",
    "\u{e000}",
    "👩‍👩‍👧",
    "é",
    "{{",
    "}}",
    "{%",
    "%}",
    "%~",
    "%FF",
    "%2F",
    "%",
    "&a ",
    "*a",
    "<<: *a",
    "!!binary ",
    "[",
    "]",
    "{",
    "}",
    "[[",
    "{\"a\":",
    "\\",
    "\n",
    "\r\n",
    "\t",
    "'",
    "\"",
    "\"\"\"",
    "null",
    "true",
    "NaN",
    ".inf",
    ":",
    "::",
    "//",
    "://",
    "@",
    "?",
    "&",
    "=",
    ",",
    "#",
    "|",
    "~",
    "..",
    " ",
    "-1",
    "0",
    "\u{7f}",
    "(",
    ")",
    "not ",
    " | upper",
    " | int",
    " ~ ",
    " | replace(from='', to='aaaaaaaa')",
];

#[derive(Debug, Clone)]
enum Mutation {
    Flip { at: u16, bit: u8 },
    Insert { at: u16, what: String },
    Bytes { at: u16, what: Vec<u8> },
    Cut { at: u16, length: u16 },
    Repeat { at: u16, length: u16, times: u8 },
    Truncate { at: u16 },
    Nest { open: &'static str, close: &'static str, times: u16, at: u16 },
    Splice { with: prop::sample::Index, at: u16 },
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let nests =
        vec![("[", "]"), ("{\"a\":", "}"), ("(", ")"), ("{{", "}}"), ("a:\n ", ""), ("- ", "")];
    prop_oneof![
        4 => (any::<u16>(), 0..8_u8).prop_map(|(at, bit)| Mutation::Flip { at, bit }),
        6 => (any::<u16>(), prop::sample::select(NASTY))
            .prop_map(|(at, what)| Mutation::Insert { at, what: what.to_owned() }),
        1 => (any::<u16>(), prop::collection::vec(any::<u8>(), 1..6))
            .prop_map(|(at, what)| Mutation::Bytes { at, what }),
        2 => (any::<u16>(), 0..40_u16).prop_map(|(at, length)| Mutation::Cut { at, length }),
        2 => (any::<u16>(), 1..60_u16, 1..40_u8)
            .prop_map(|(at, length, times)| Mutation::Repeat { at, length, times }),
        1 => any::<u16>().prop_map(|at| Mutation::Truncate { at }),
        1 => (prop::sample::select(nests), 1..300_u16, any::<u16>())
            .prop_map(|((open, close), times, at)| Mutation::Nest { open, close, times, at }),
        1 => (any::<prop::sample::Index>(), any::<u16>())
            .prop_map(|(with, at)| Mutation::Splice { with, at }),
    ]
}

/// One of these inputs with some changes.
pub fn mutated(seeds: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let mutations = prop::collection::vec(mutation(), 1..6);
    (any::<prop::sample::Index>(), mutations).prop_map(move |(seed, mutations)| {
        let mut input = seed.get(&seeds).clone();
        for mutation in mutations {
            apply(&mut input, mutation, &seeds);
            input.truncate(100_000);
        }
        input
    })
}

fn apply(input: &mut Vec<u8>, mutation: Mutation, seeds: &[Vec<u8>]) {
    let place = |input: &Vec<u8>, at: u16| usize::from(at) % (input.len() + 1);
    let insert = |input: &mut Vec<u8>, at: usize, what: &[u8]| {
        input.splice(at..at, what.iter().copied());
    };
    match mutation {
        Mutation::Flip { at, bit } => {
            let at = place(input, at);
            if let Some(byte) = input.get_mut(at) {
                *byte ^= 1 << bit;
            }
        }
        Mutation::Insert { at, what } => {
            let at = place(input, at);
            insert(input, at, what.as_bytes());
        }
        Mutation::Bytes { at, what } => {
            let at = place(input, at);
            insert(input, at, &what);
        }
        Mutation::Cut { at, length } => {
            let at = place(input, at);
            let end = (at + usize::from(length)).min(input.len());
            input.drain(at..end);
        }
        Mutation::Repeat { at, length, times } => {
            let at = place(input, at);
            let end = (at + usize::from(length)).min(input.len());
            let part = input[at..end].repeat(times.into());
            insert(input, at, &part);
        }
        Mutation::Truncate { at } => {
            let at = place(input, at);
            input.truncate(at);
        }
        Mutation::Nest { open, close, times, at } => {
            let at = place(input, at);
            insert(input, at, close.repeat(times.into()).as_bytes());
            insert(input, at, open.repeat(times.into()).as_bytes());
        }
        Mutation::Splice { with, at } => {
            let other = with.get(seeds);
            let at = place(input, at);
            let from = at.min(other.len());
            input.truncate(at);
            input.extend_from_slice(&other[from..]);
        }
    }
}
