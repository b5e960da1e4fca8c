//! Plain English in comments: the phrases that `CONTRIBUTING.md` lists are counted.
//!
//! Each may occur as often as `xtask/phrases.txt` says, or twice in 1,000 lines of comments if it is not listed there.
//! `cargo xtask fix` lowers the numbers and never raises them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use regex::Regex;

use crate::steps::Outcome;
use crate::workspace::Workspace;

/// The name of a phrase and its pattern, without case.
const PHRASES: [(&str, &str); 9] = [
    ("by hand", r"\bby hand\b"),
    ("for, as a cause", r", for (the|an?|its?|they|there|no|this|that|each|every|nothing)\b"),
    ("may pass", r"\bmay pass\b"),
    ("mend", r"\bmend(s|ed|ing)?\b"),
    ("nobody, everybody", r"\b(nobody|everybody|somebody|whoever)\b"),
    ("of its own", r"\bof (one's|its|their|your|his) own\b"),
    ("stands, lies, goes", r"\b(stands?|stood|lies|lie|goes|went|gone)\b"),
    ("tells, told", r"\b(tells?|told)\b"),
    ("what, who at the start", r"(^|[.:] )(what|who|whoever)\b"),
];

const PER_THOUSAND: usize = 2;
const CEILINGS: &str = "xtask/phrases.txt";

pub(crate) fn check() -> Result<Outcome> {
    let found = Found::in_workspace()?;
    let problems = found.problems(&ceilings()?);
    if !problems.is_empty() {
        bail!("write plainer comments:\n  {}", problems.join("\n  "));
    }
    eprintln!("prose: {} lines of comments", found.lines);
    Ok(Outcome::Passed)
}

/// Writes the numbers of today where they are lower.
pub(crate) fn lower_ceilings() -> Result<()> {
    let found = Found::in_workspace()?;
    let before = ceilings()?;
    let mut text = String::new();
    for (name, places) in &found.places {
        let most = before.get(*name).map_or(places.len(), |most| places.len().min(*most));
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{most:>4} {name}");
    }
    fs::write(CEILINGS, text).with_context(|| format!("cannot write {CEILINGS}"))
}

/// How often each listed phrase may occur.
fn ceilings() -> Result<BTreeMap<String, usize>> {
    if !Path::new(CEILINGS).exists() {
        return Ok(BTreeMap::new());
    }
    let text = fs::read_to_string(CEILINGS).with_context(|| format!("cannot read {CEILINGS}"))?;
    let line = |line: &str| {
        let (most, name) = line.trim().split_once(' ')?;
        Some((name.to_owned(), most.parse().ok()?))
    };
    text.lines()
        .map(|text| line(text).with_context(|| format!("{CEILINGS}: not `NUMBER PHRASE`: {text}")))
        .collect()
}

#[derive(Debug)]
struct Found {
    lines: usize,
    /// For each phrase `file:line`.
    places: BTreeMap<&'static str, Vec<String>>,
}

impl Found {
    fn in_workspace() -> Result<Self> {
        let mut texts = Vec::new();
        for package in &Workspace::load()?.packages {
            for (path, text) in package.sources()? {
                let is_rust = path.extension().is_some_and(|extension| extension == "rs");
                if is_rust {
                    texts.push((path.display().to_string(), text));
                }
            }
        }
        Self::in_texts(&texts)
    }

    fn in_texts(texts: &[(String, String)]) -> Result<Self> {
        let patterns = PHRASES.iter().map(|(name, pattern)| {
            Ok((*name, Regex::new(&format!("(?i){pattern}")).context("a pattern is broken")?))
        });
        let patterns = patterns.collect::<Result<Vec<_>>>()?;
        let places = PHRASES.iter().map(|(name, _)| (*name, Vec::new())).collect();
        let mut found = Self { lines: 0, places };
        for (path, text) in texts {
            for (number, line) in text.lines().enumerate() {
                let Some(comment) = comment(line) else { continue };
                found.lines += 1;
                for (name, pattern) in &patterns {
                    if pattern.is_match(comment) {
                        let places = found.places.entry(*name).or_default();
                        places.push(format!("{path}:{}", number + 1));
                    }
                }
            }
        }
        Ok(found)
    }

    fn problems(&self, ceilings: &BTreeMap<String, usize>) -> Vec<String> {
        let most = (self.lines * PER_THOUSAND).div_ceil(1_000);
        let too_many = self.places.iter().filter_map(|(name, places)| {
            let most = ceilings.get(*name).copied().unwrap_or(most);
            (places.len() > most).then(|| {
                let shown: Vec<_> = places.iter().take(40).map(String::as_str).collect();
                format!("\"{name}\" {} times, at most {most}: {}", places.len(), shown.join(" "))
            })
        });
        too_many.collect()
    }
}

/// The text of a comment that has a line to itself.
fn comment(line: &str) -> Option<&str> {
    let text = line.trim_start().strip_prefix("//")?;
    Some(text.trim_start_matches(['/', '!']).trim_start())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Found {
        Found::in_texts(&[("lib.rs".to_owned(), text.to_owned())]).unwrap()
    }

    #[test]
    fn phrases_in_comments_are_counted() {
        let text = "/// Nobody mends it.\n// Fine. What stands here?\nlet told = \"by hand\";\n";
        let found = found(text);
        assert_eq!(found.lines, 2);
        let names: Vec<_> = found.places.iter().filter(|(_, places)| !places.is_empty()).collect();
        let line = |number: usize| vec![format!("lib.rs:{number}")];
        assert_eq!(
            names,
            [
                (&"mend", &line(1)),
                (&"nobody, everybody", &line(1)),
                (&"stands, lies, goes", &line(2)),
                (&"what, who at the start", &line(2)),
            ]
        );
    }

    #[test]
    fn a_count_may_only_fall() {
        let found = found(&"// It mends.\n".repeat(3));
        assert_eq!(found.problems(&BTreeMap::new()).len(), 1, "2 in 1,000");
        let few = Found { lines: 10_000, ..found };
        assert!(few.problems(&BTreeMap::from([("mend".to_owned(), 3)])).is_empty());
        let problems = few.problems(&BTreeMap::from([("mend".to_owned(), 2)]));
        assert_eq!(problems.len(), 1);
        assert!(problems[0].starts_with("\"mend\" 3 times, at most 2: lib.rs:1"), "{problems:?}");
    }
}
