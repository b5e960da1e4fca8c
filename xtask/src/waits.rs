//! `ARCHITECTURE.md` lists every duration constant under "Every wait": the table and the code agree, no two constants
//! share a name, and the relations in the last column hold. A duration in the code of a library has a name.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use regex::Regex;

use crate::steps::Outcome;
use crate::workspace::{Package, Workspace};

const PAGE: &str = "ARCHITECTURE.md";
const HEADING: &str = "## Every wait";

pub(crate) fn check() -> Result<Outcome> {
    let page = fs::read_to_string(PAGE).with_context(|| format!("cannot read {PAGE}"))?;
    let (mut constants, mut wrong) = (Vec::new(), Vec::new());
    for package in Workspace::load()?.packages.iter().filter(|package| is_library(package)) {
        let src = package.dir().join("src");
        for (path, text) in package.sources()? {
            // Test kits time tests only.
            let is_code = path.starts_with(&src) && !is_of_tests(&path.display().to_string());
            if is_code {
                let (named, unnamed) = waits_in(&path.display().to_string(), &text)?;
                constants.extend(named);
                wrong.extend(unnamed);
            }
        }
    }
    let rows = rows(&page)?;
    wrong.extend(compare(&constants, &rows));
    if !wrong.is_empty() {
        bail!("the table \"Every wait\" in {PAGE} is wrong:\n  {}", wrong.join("\n  "));
    }
    eprintln!("waits: {} constants", constants.len());
    Ok(Outcome::Passed)
}

/// The waits of the command concern only the person in front of it.
fn is_library(package: &Package) -> bool {
    package.is_published() && package.has_target("lib")
}

fn is_of_tests(path: &str) -> bool {
    ["/tests/", "/tests.rs", "/conformance", "/testkit"].iter().any(|part| path.contains(part))
}

#[derive(Debug)]
struct Constant {
    name: String,
    value: Duration,
    file: String,
}

/// The constants of a file, and the durations that have no name, both without those of its test module.
fn waits_in(file: &str, text: &str) -> Result<(Vec<Constant>, Vec<String>)> {
    let tests = Regex::new(r"\n#\[cfg\((?:all\()?test\b[^\n]*\nmod tests \{")?;
    let code = tests.split(text).next().unwrap_or(text);
    let comments = Regex::new(r"(?m)//[^\n]*")?;
    let code = comments.replace_all(code, "");
    let definition =
        Regex::new(r"const ([A-Z][A-Z0-9_]*): Duration =\s*Duration::from_([a-z]+)\(([^;()]*)\);")?;
    let mut constants = Vec::new();
    for found in definition.captures_iter(&code) {
        let (_, [name, unit, product]) = found.extract();
        let value = value(unit, product)
            .with_context(|| format!("{file}: cannot read the value of {name}"))?;
        constants.push(Constant { name: name.to_owned(), value, file: file.to_owned() });
    }
    let rest = definition.replace_all(&code, "");
    // A literal begins with a digit; a variable is converted.
    let literal = Regex::new(r"Duration::(?:from_[a-z0-9_]+|new)\(\s*[0-9][^)]*\)")?;
    // Such as `const PAUSE_MS: u64 = 50;`.
    let number = Regex::new(r"const [A-Z0-9_]*(?:_MS|_MILLIS|_SECS): [^;]*;")?;
    let unnamed = literal.find_iter(&rest).chain(number.find_iter(&rest));
    let unnamed = unnamed.map(|found| {
        let found = found.as_str();
        format!("{file}: `{found}` needs a name: write `const NAME: Duration = Duration::from_...`")
    });
    Ok((constants, unnamed.collect()))
}

/// A number, or a product of numbers.
fn value(unit: &str, product: &str) -> Option<Duration> {
    let factors =
        product.split('*').map(|factor| factor.trim().replace('_', "").parse::<u64>().ok());
    let number = factors.product::<Option<u64>>()?;
    Some(match unit {
        "micros" => Duration::from_micros(number),
        "millis" => Duration::from_millis(number),
        "secs" => Duration::from_secs(number),
        "mins" => Duration::from_secs(number.checked_mul(60)?),
        _ => return None,
    })
}

#[derive(Debug)]
struct Row {
    name: String,
    value: Duration,
    /// `<`, `<=`, `>` or `>=`, and the constant, duration or sum of them that it is compared with.
    relations: Vec<(String, String)>,
}

fn rows(page: &str) -> Result<Vec<Row>> {
    let section = page.split_once(HEADING).with_context(|| format!("{PAGE} has no {HEADING:?}"))?.1;
    let section = section.split("\n## ").next().unwrap_or(section);
    let rows = section.lines().filter(|line| line.starts_with('`')).map(|line| {
        let mut cells = line.split('|').map(str::trim);
        let row = (|| {
            let name = cells.next()?.trim_matches('`').to_owned();
            let value = written(cells.next()?)?;
            let _bounds = cells.next()?;
            let relations = cells.next()?.split(',').map(str::trim).filter(|text| !text.is_empty());
            let relations = relations.map(|text| {
                let (sign, other) = text.split_once(' ')?;
                Some((sign.to_owned(), other.replace('`', "")))
            });
            Some(Row { name, value, relations: relations.collect::<Option<_>>()? })
        })();
        row.with_context(|| format!("{PAGE}: not a row of constant, value, use, relations: {line}"))
    });
    rows.collect()
}

/// A duration as the table has it: `500 ms`.
fn written(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_once(' ')?;
    let unit = match unit {
        "us" => "micros",
        "ms" => "millis",
        "s" => "secs",
        "min" => "mins",
        _ => return None,
    };
    value(unit, &number.replace(',', ""))
}

fn compare(constants: &[Constant], rows: &[Row]) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut listed: BTreeMap<&str, &Row> = BTreeMap::new();
    for row in rows {
        if listed.insert(&row.name, row).is_some() {
            wrong.push(format!("`{}` has two rows", row.name));
        }
    }
    let mut known: BTreeMap<&str, &Constant> = BTreeMap::new();
    for constant in constants {
        let Constant { name, value, file } = constant;
        if let Some(other) = known.insert(name, constant) {
            wrong.push(format!("{} and {file} both have a `{name}`", other.file));
        }
        match listed.get(name.as_str()) {
            None => wrong.push(format!("`{name}` of {file} ({value:?}) has no row")),
            Some(row) if row.value != *value => {
                wrong
                    .push(format!("`{name}` is {value:?} in {file}, {:?} in the table", row.value));
            }
            Some(_) => {}
        }
    }
    for row in rows {
        if !known.contains_key(row.name.as_str()) {
            wrong.push(format!("`{}` is in no source", row.name));
        }
        for (sign, other) in &row.relations {
            let term = |name: &str| listed.get(name).map(|row| row.value).or_else(|| written(name));
            let value = other.split(" + ").map(term).sum::<Option<Duration>>();
            let holds = value.and_then(|other| {
                Some(match sign.as_str() {
                    "<" => row.value < other,
                    "<=" => row.value <= other,
                    ">" => row.value > other,
                    ">=" => row.value >= other,
                    _ => return None,
                })
            });
            match holds {
                Some(true) => {}
                Some(false) => wrong.push(format!("`{}` {sign} `{other}` does not hold", row.name)),
                None => wrong.push(format!("cannot read \"{sign} {other}\" of `{}`", row.name)),
            }
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODE: &str = "/// Docs.\nconst TICK: Duration = Duration::from_millis(1_500);\n\
        pub const DAY: Duration =\n    Duration::from_secs(24 * 3_600);\n\
        #[cfg(test)]\nmod tests { const LATER: Duration = Duration::from_secs(1); }";

    fn wrong(code: &str, table: &str) -> Vec<String> {
        let page =
            format!("# Page\n\n{HEADING}\n\nconstant | value | use |\n{table}\n\n## Next\n`X` |");
        let (constants, mut wrong) = waits_in("lib.rs", code).unwrap();
        wrong.extend(compare(&constants, &rows(&page).unwrap()));
        wrong
    }

    #[test]
    fn table_and_code_agree() {
        let table = "`TICK` | 1,500 ms | a look | < `DAY`, >= 1 s |\n`DAY` | 86400 s | a day | |";
        assert_eq!(wrong(CODE, table), Vec::<String>::new());
    }

    #[test]
    fn differences_are_found() {
        let missing = wrong(CODE, "`TICK` | 2 s | a look | |\n`OLD` | 1 s | | |");
        assert_eq!(
            missing,
            [
                "`TICK` is 1.5s in lib.rs, 2s in the table",
                "`DAY` of lib.rs (86400s) has no row",
                "`OLD` is in no source",
            ]
        );
        let row = "`TICK` | 1 s | | |\n";
        let twice = "const TICK: Duration = Duration::from_secs(1);\n".repeat(2);
        assert_eq!(wrong(&twice, row), ["lib.rs and lib.rs both have a `TICK`"]);
        let once = "const TICK: Duration = Duration::from_secs(1);";
        assert_eq!(
            wrong(once, "`TICK` | 1 s | | > 1 s, < NONE |"),
            ["`TICK` > `1 s` does not hold", "cannot read \"< NONE\" of `TICK`"]
        );
    }

    #[test]
    fn sums_are_compared() {
        let code = "const TICK: Duration = Duration::from_secs(3);";
        assert_eq!(
            wrong(code, "`TICK` | 3 s | | > 1 s + 1 s, >= `TICK` + 0 s |"),
            Vec::<String>::new()
        );
        assert_eq!(
            wrong(code, "`TICK` | 3 s | | > `TICK` + 1 ms, < 4 s + NONE |"),
            ["`TICK` > `TICK + 1 ms` does not hold", "cannot read \"< 4 s + NONE\" of `TICK`"]
        );
    }

    #[test]
    fn unnamed_durations_are_found() {
        for planted in [
            "let pause = Duration::from_millis(5);",
            "let pause = std::time::Duration::from_secs(24 * 3_600);",
            "timeout(Duration::from_secs_f64(0.5), call)",
            "const PAUSE: (Duration, Duration) = (Duration::from_millis(2), LATER);",
            "static PAUSE: Duration = Duration::new(1, 0);",
            "const LATER: Duration = Duration::from_secs(1).saturating_mul(2);",
            "const PAUSE_MS: u64 = 50;",
        ] {
            let code = format!("const TICK: Duration = Duration::from_secs(3);\n{planted}\n");
            let wrong = wrong(&code, "`TICK` | 3 s | | |");
            assert_eq!(wrong.len(), 1, "{planted}: {wrong:?}");
            assert!(wrong.iter().all(|text| text.contains("needs a name")), "{wrong:?}");
        }
    }

    #[test]
    fn conversions_and_tests_need_no_name() {
        let code = "/// Duration::from_secs(1) in docs\nlet left = Duration::from_millis(left);\n\
            let none = Duration::ZERO;\nlet at = Duration::new(seconds, nanos);\n\
            #[cfg(all(test, unix))]\nmod tests { fn wait() { Duration::from_secs(1); } }\n";
        assert_eq!(wrong(code, ""), Vec::<String>::new());
    }
}
