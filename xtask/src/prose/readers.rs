//! The prose of a file: comments, texts that users see, and the names of tests.

use std::path::Path;
use std::sync::LazyLock;

use regex::{Captures, Regex};

/// The comments and string literals of Rust. The other alternatives skip what could be mistaken for them.
static RUST: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r##"(?s)//(?<comment>[^\n]*)|/\*.*?\*/|'(?:\\[^\n]{1,10}?|[^'\\])'|\bb?r#".*?"#|\bb?r"[^"]*"|"(?<text>(?:\\.|[^"\\])*)""##,
    )
});
static SPAN: LazyLock<Regex> = LazyLock::new(|| pattern(r"`[^`]*`"));
static FUNCTION: LazyLock<Regex> = LazyLock::new(|| pattern(r"\bfn\s+(\w+)"));

/// Fewer are labels and names.
const MIN_WORDS: usize = 4;

/// A line of prose and its number in the file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) number: usize,
    pub(super) text: String,
}

impl Line {
    fn new(number: usize, text: &str) -> Self {
        Self { number, text: text.to_owned() }
    }
}

/// Reads the lines of prose in the text of a file.
pub(super) type Reader = fn(&Path, &str) -> Vec<Line>;

/// The reader for files with this extension; `None` if they have no prose.
pub(super) fn reader(path: &Path) -> Option<Reader> {
    match path.extension()?.to_str()? {
        "rs" => Some(|path, text| rust(text, Texts::of(path))),
        "lua" | "sql" => Some(|_, text| marked(text, "--")),
        "toml" | "yaml" | "yml" => Some(|_, text| marked(text, "#")),
        "md" => Some(|_, text| markdown(text)),
        _ => None,
    }
}

/// Whether the string literals of a file are shown to users.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Texts {
    Shown,
    OfTests,
}

impl Texts {
    fn of(path: &Path) -> Self {
        let is = |name: &str| path.iter().any(|part| part == name);
        let is_test = ["tests", "tests.rs", "benches", "examples"].into_iter().any(is);
        if is("src") && !is_test { Self::Shown } else { Self::OfTests }
    }
}

/// Comments, and string literals of several words outside of tests.
fn rust(text: &str, texts: Texts) -> Vec<Line> {
    let tests = text.find("\n#[cfg(test)]\nmod ").unwrap_or(text.len());
    let mut lines = Vec::new();
    let (mut number, mut counted) = (1, 0);
    for found in RUST.captures_iter(text) {
        let Some(whole) = found.get(0) else { continue };
        number += text.get(counted..whole.start()).unwrap_or_default().matches('\n').count();
        counted = whole.start();
        if let Some(comment) = found.name("comment") {
            let text = comment.as_str().trim_start_matches(['/', '!']).trim();
            lines.push(Line::new(number, text));
        } else if let Some(literal) = found.name("text")
            && texts == Texts::Shown
            && literal.start() < tests
        {
            let literal = joined(literal.as_str());
            if literal.split_whitespace().count() >= MIN_WORDS {
                lines.extend(literal.lines().map(|line| Line::new(number, line.trim())));
            }
        }
    }
    lines
}

/// A literal without the breaks that Rust leaves out, and with those that it writes as an escape.
fn joined(literal: &str) -> String {
    let parts: Vec<_> = literal.split("\\\n").map(str::trim_start).collect();
    parts.concat().replace("\\n", "\n")
}

/// Comments that begin with a mark at the start of a line or after a space.
fn marked(text: &str, mark: &str) -> Vec<Line> {
    let comment = |(number, line): (usize, &str)| {
        let mut parts = line.match_indices(mark).map(|(start, _)| line.split_at(start));
        let (_, comment) =
            parts.find(|(code, _)| code.is_empty() || code.ends_with([' ', '\t']))?;
        Some(Line::new(number, comment.trim_start_matches(['#', '-']).trim()))
    };
    (1..).zip(text.lines()).filter_map(comment).collect()
}

/// All but blocks and spans of code.
fn markdown(text: &str) -> Vec<Line> {
    let mut in_code = false;
    let mut lines = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        } else if !in_code {
            let shown = SPAN.replace_all(line, |_: &Captures<'_>| "``");
            lines.push(Line::new(number, shown.trim_start_matches([' ', '|', '>', '*', '-'])));
        }
    }
    lines
}

/// The functions whose names have more words than this.
pub(super) fn long_names(text: &str, most: usize) -> Vec<&str> {
    let names = FUNCTION.captures_iter(text).filter_map(|found| found.get(1));
    let is_long = |name: &&str| name.split('_').filter(|word| !word.is_empty()).count() > most;
    names.map(|name| name.as_str()).filter(is_long).collect()
}

/// A constant pattern.
#[expect(clippy::expect_used, reason = "the tests compile every pattern")]
fn pattern(pattern: &str) -> Regex {
    Regex::new(pattern).expect("the pattern is a constant")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &str, text: &str) -> Vec<(usize, String)> {
        let path = Path::new(path);
        let lines = reader(path).map_or_else(Vec::new, |read| read(path, text));
        lines.into_iter().map(|line| (line.number, line.text)).collect()
    }

    fn expected<const N: usize>(lines: [(usize, &str); N]) -> Vec<(usize, String)> {
        lines.map(|(number, text)| (number, text.to_owned())).into()
    }

    #[test]
    fn comments_and_error_texts_are_read() {
        let text = "//! A page.\n#[error(\n    \"cannot open {path}: \\\n     make it readable\"\n)]\n\
                    let quote = '\"'; // behind code\nlet name = \"two words\";\n\
                    let raw = r#\"neither // a comment nor \"a\" text\"#;\n";
        let texts = (3, "cannot open {path}: make it readable");
        let lines = expected([(1, "A page."), texts, (6, "behind code")]);
        assert_eq!(read("a/src/error.rs", text), lines);
        let comments = expected([(1, "A page."), (6, "behind code")]);
        assert_eq!(read("a/tests/error.rs", text), comments);
        let tests = "// One.\n\n#[cfg(test)]\nmod tests {\n    // Two.\n    f(\"a text of several words\");\n";
        assert_eq!(read("a/src/error.rs", tests), expected([(1, "One."), (5, "Two.")]));
    }

    #[test]
    fn lines_of_a_literal_are_separate() {
        let lines = expected([(1, "first of all"), (1, "second of all")]);
        assert_eq!(read("src/main.rs", r#"f("first of all\nsecond of all");"#), lines);
    }

    #[test]
    fn comments_of_scripts_are_read() {
        let lua = "-- KEYS: memory.\nlocal a = 1 -- a reason\nlocal b = a-1\n";
        let lines = expected([(1, "KEYS: memory."), (2, "a reason")]);
        assert_eq!(read("src/scripts/a.lua", lua), lines);
        assert_eq!(read("src/schema.sql", lua), lines);
    }

    #[test]
    fn comments_of_settings_are_read() {
        let toml = "## Why.\nkey = \"a#b\" # a reason\n";
        let lines = expected([(1, "Why."), (2, "a reason")]);
        assert_eq!(read("Cargo.toml", toml), lines);
        assert_eq!(read("a.yaml", toml), lines);
        assert!(read("a.json", toml).is_empty());
    }

    #[test]
    fn pages_are_read_without_code() {
        let page = "# Title\n\n| `mend` | fix |\n```sh\ngone\n```\n- an item\n";
        let lines = expected([(1, "# Title"), (2, ""), (3, "`` | fix |"), (7, "an item")]);
        assert_eq!(read("README.md", page), lines);
    }

    #[test]
    fn long_names_are_found() {
        let text = "fn one_two_three() {}\nasync fn _one__two_three_four() {}\n";
        assert_eq!(long_names(text, 3), ["_one__two_three_four"]);
        assert!(long_names(text, 4).is_empty());
    }
}
