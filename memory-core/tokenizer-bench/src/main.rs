//! Compares three exact tokenizer crates for `o200k_base`: agreement of ids, speed, start-up and memory, on real
//! messages and on worst-case texts.
//!
//! ```sh
//! cargo run --release --manifest-path memory-core/tokenizer-bench/Cargo.toml -- FILE.jsonl.gz
//! cargo run --release --manifest-path memory-core/tokenizer-bench/Cargo.toml -- start CRATE
//! ```

use std::fs::File;
use std::hint::black_box;
use std::io::{BufRead, BufReader};
use std::time::{Duration, Instant};

use flate2::read::GzDecoder;
use memory_core::{EstimateCounter, TiktokenCounter, TokenCounter};
use memory_core::tokens::Vocabulary;
use serde_json::Value;

type Encode = fn(&str) -> Vec<u32>;

/// `tiktoken-rs` is first, because the others are compared with it.
const CRATES: [(&str, Encode); 3] = [
    ("tiktoken-rs", |text| tiktoken_rs::o200k_base_singleton().encode_ordinary(text)),
    ("tiktoken", |text| tiktoken::get_encoding("o200k_base").unwrap().encode(text)),
    ("bpe-openai", |text| bpe_openai::o200k_base().encode(text)),
];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["start", name] => start(name),
        [file] => compare(&messages(file)),
        _ => eprintln!("usage: tokenizer-bench FILE.jsonl.gz | start CRATE"),
    }
}

/// First use in a fresh process: time, and resident memory.
fn start(name: &str) {
    let (_, encode) = CRATES.iter().find(|(known, _)| *known == name).expect("a known crate");
    let (before, begun) = (resident_kib(), Instant::now());
    black_box(encode("hello world"));
    let took = begun.elapsed();
    println!("{name}: first use {took:.1?}, {} KiB more resident", resident_kib() - before);
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// The texts and the arguments of the calls in a file of chat messages.
fn messages(file: &str) -> Vec<String> {
    let lines = BufReader::new(GzDecoder::new(File::open(file).unwrap())).lines();
    let mut texts = Vec::new();
    for line in lines {
        let message: Value = serde_json::from_str(&line.unwrap()).unwrap();
        texts.extend(message["content"].as_str().map(str::to_owned));
        for call in message["tool_calls"].as_array().into_iter().flatten() {
            texts.extend(call["function"]["arguments"].as_str().map(str::to_owned));
        }
    }
    texts
}

fn compare(real: &[String]) {
    let hurtful = hurtful();
    for (name, encode) in &CRATES[1..] {
        let differ = |text: &&String| encode(text) != CRATES[0].1(text);
        let texts = real.iter().chain(hurtful.iter().map(|(_, text)| text));
        println!("{name}: {} of {} texts differ", texts.clone().filter(differ).count(), texts.count());
    }
    let ours = TiktokenCounter::new(Vocabulary::O200kBase);
    let exact = |text: &&String| ours.count(text) == CRATES[0].1(text).len();
    println!("TiktokenCounter: exact on {} of {}", real.iter().filter(exact).count(), real.len());
    let sum = |counter: &dyn TokenCounter| real.iter().map(|text| counter.count(text)).sum::<usize>();
    println!("EstimateCounter: {:.3} of the exact sum", sum(&EstimateCounter) as f64 / sum(&ours) as f64);

    for (name, encode) in CRATES {
        let all = median(7, || real.iter().map(|text| encode(text).len()).sum());
        println!("{name}: {:.2} us a real message", all.as_secs_f64() * 1e6 / real.len() as f64);
        for (what, text) in &hurtful {
            println!("{name}: {:.2?} for {what}", median(3, || encode(text).len()));
        }
    }
    let all = median(7, || sum(&ours));
    println!("TiktokenCounter: {:.2} us a real message", all.as_secs_f64() * 1e6 / real.len() as f64);
    for (what, text) in &hurtful {
        println!("TiktokenCounter: {:.2?} for {what}", median(3, || ours.count(text)));
    }
}

fn hurtful() -> Vec<(&'static str, String)> {
    let mut state = 12_345_u64;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let words = (0..180_000).map(|_| {
        let letters = 2 + next() % 9;
        (0..letters).map(|_| char::from(b'a' + (next() % 26) as u8)).chain([' ']).collect::<String>()
    });
    vec![
        ("1 MiB of random words", words.collect()),
        ("100,000 x a", "a".repeat(100_000)),
        ("100,000 x space", " ".repeat(100_000)),
        ("100,000 x U+4E2D", "\u{4e2d}".repeat(100_000)),
        ("20,000 x (no-break space, 1)", "\u{a0}1".repeat(20_000)),
    ]
}

fn median(runs: usize, mut work: impl FnMut() -> usize) -> Duration {
    let mut times: Vec<_> = (0..runs)
        .map(|_| {
            let begun = Instant::now();
            black_box(work());
            begun.elapsed()
        })
        .collect();
    times.sort();
    times[runs / 2]
}
