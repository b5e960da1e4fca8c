//! The estimate against exact counts, in many languages and kinds of data.

#![allow(clippy::cast_precision_loss, reason = "a test that fails panics, in its helpers too")]

use memory_core::{EstimateCounter, TokenCounter};
use serde::Deserialize;

/// A text and its count in `o200k_base`.
#[derive(Deserialize)]
struct Sample {
    language: String,
    text: String,
    o200k_base: usize,
}

impl Sample {
    /// The relative error of the estimate.
    fn error(&self) -> f64 {
        let estimate = EstimateCounter.count(&self.text);
        estimate as f64 / self.o200k_base as f64 - 1.0
    }
}

fn read(lines: &str) -> Vec<Sample> {
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn given() -> Vec<Sample> {
    read(include_str!("data/languages.jsonl"))
}

/// Held-out texts, not used for fitting.
fn held_back() -> Vec<Sample> {
    read(include_str!("data/more_languages.jsonl"))
}

fn assert_within(samples: &[Sample], bound: f64) {
    let off: Vec<_> = samples
        .iter()
        .filter(|sample| sample.error().abs() > bound)
        .map(|sample| format!("{} {:+.3}", sample.language, sample.error()))
        .collect();
    assert!(off.is_empty(), "more than {bound}: {off:?}");
}

#[test]
fn estimate_is_within_20_percent_of_given_texts() {
    assert_within(&given(), 0.20);
}

#[test]
fn estimate_is_within_30_percent_of_other_texts() {
    let samples = held_back();
    assert_within(&samples, 0.30);
    let mut errors: Vec<_> = samples.iter().map(|sample| sample.error().abs()).collect();
    errors.sort_by(f64::total_cmp);
    let at = |share: usize| errors.get(errors.len() * share / 100).copied().unwrap();
    println!("of {}: median {:.3}, p90 {:.3}, most {:.3}", errors.len(), at(50), at(90), at(99));
    assert!(at(50) < 0.07 && at(90) < 0.17, "{} {}", at(50), at(90));
}

/// The texts of many languages are concatenated, so that errors cancel.
#[test]
fn long_text_estimate_is_within_5_percent() {
    let samples: Vec<_> = given().into_iter().chain(held_back()).collect();
    let text: String = samples.iter().flat_map(|it| [it.text.as_str(), "\n\n"]).collect();
    let exact: usize = samples.iter().map(|it| it.o200k_base + 1).sum();
    let ratio = EstimateCounter.count(&text) as f64 / exact as f64;
    assert!((0.95..1.05).contains(&ratio), "{ratio}");
}

#[cfg(feature = "tiktoken")]
#[test]
fn exact_counts_are_those_of_the_tokenizer() {
    use memory_core::TiktokenCounter;
    use memory_core::tokens::Vocabulary;

    let exact = TiktokenCounter::new(Vocabulary::O200kBase);
    for sample in given().iter().chain(&held_back()) {
        assert_eq!(exact.count(&sample.text), sample.o200k_base, "{}", sample.language);
    }
}
