//! Plain English in comments, pages and error texts: the phrases that `CONTRIBUTING.md` lists are counted.
//!
//! Each may occur as often as `xtask/phrases.txt` says, or twice in 1,000 lines if it is not listed there.
//! `cargo xtask fix` lowers the numbers and never raises them. Names of tests are short.

mod readers;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use regex::Regex;

use self::readers::Line;
use crate::steps::Outcome;

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
    ("starts with what, who", r"(^|[.:] )(what|who|whoever)\b"),
];

const PER_THOUSAND: usize = 2;
const CEILINGS: &str = "xtask/phrases.txt";

/// The most words of a function's name; only tests come close.
const NAME_WORDS: usize = 8;

/// Folders that hold no prose of ours: builds, and inputs of tests.
const NOT_READ: [&str; 5] = ["target", "mutants.out", "corpus", "fixtures", ".git"];

pub(crate) fn check() -> Result<Outcome> {
    let found = Found::in_workspace()?;
    let problems = found.problems(&ceilings()?);
    if !problems.is_empty() {
        bail!("write plainer English:\n  {}", problems.join("\n  "));
    }
    eprintln!("prose: {} lines", found.lines);
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
    /// `file: name` of functions whose names are over [`NAME_WORDS`].
    long_names: Vec<String>,
}

impl Found {
    fn in_workspace() -> Result<Self> {
        let mut texts = Vec::new();
        let mut folders = vec![PathBuf::from(".")];
        while let Some(folder) = folders.pop() {
            let failed = || format!("cannot read {}", folder.display());
            for entry in fs::read_dir(&folder).with_context(failed)? {
                let path = entry.with_context(failed)?.path();
                let is_read =
                    !NOT_READ.map(OsStr::new).contains(&path.file_name().unwrap_or_default());
                if path.is_dir() && is_read {
                    folders.push(path);
                } else if readers::reader(&path).is_some() {
                    let text = fs::read_to_string(&path)
                        .with_context(|| format!("cannot read {}", path.display()))?;
                    texts.push((path.strip_prefix(".").unwrap_or(&path).to_owned(), text));
                }
            }
        }
        texts.sort();
        Self::in_texts(&texts)
    }

    fn in_texts(texts: &[(PathBuf, String)]) -> Result<Self> {
        let patterns = PHRASES.iter().map(|(name, pattern)| {
            Ok((*name, Regex::new(&format!("(?i){pattern}")).context("a pattern is broken")?))
        });
        let patterns = patterns.collect::<Result<Vec<_>>>()?;
        let places = PHRASES.iter().map(|(name, _)| (*name, Vec::new())).collect();
        let mut found = Self { lines: 0, places, long_names: Vec::new() };
        for (path, text) in texts {
            let path_text = path.display();
            let Some(read) = readers::reader(path) else { continue };
            for Line { number, text } in read(path, text) {
                found.lines += 1;
                for (name, pattern) in &patterns {
                    if pattern.is_match(&text) {
                        let places = found.places.entry(*name).or_default();
                        places.push(format!("{path_text}:{number}"));
                    }
                }
            }
            if path.extension().is_some_and(|extension| extension == "rs") {
                let names = readers::long_names(text, NAME_WORDS).into_iter();
                found.long_names.extend(names.map(|name| format!("{path_text}: {name}")));
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
        let long = self.long_names.iter();
        let long = long.map(|name| format!("{name} has more than {NAME_WORDS} words"));
        too_many.chain(long).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Found {
        Found::in_texts(&[("lib.rs".into(), text.to_owned())]).unwrap()
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
                (&"starts with what, who", &line(2)),
            ]
        );
    }

    #[test]
    fn long_names_of_tests_are_problems() {
        let name = ["word"; 9].join("_");
        let found = found(&format!("fn {name}() {{}}\nfn short() {{}}\n"));
        let problem = format!("lib.rs: {name} has more than 8 words");
        assert_eq!(found.problems(&BTreeMap::new()), [problem]);
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
