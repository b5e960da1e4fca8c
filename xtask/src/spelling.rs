//! Checks spelling with `typos`: misspelled words, and British spelling. `_typos.toml` lists the exceptions.

use anyhow::Result;

use crate::run::{command, succeeds};
use crate::steps::Outcome;

/// The version that `.ci/run` installs. Another one has another list of words.
const VERSION: &str = "1.52.0";

pub(crate) fn check() -> Result<Outcome> {
    if !succeeds("typos", &["--version"]) {
        return Ok(Outcome::NotChecked(remedy()));
    }
    command("typos", ["--format", "brief"]).run()?;
    Ok(Outcome::Passed)
}

fn remedy() -> String {
    format!("typos is not installed (`pip install typos=={VERSION}` brings the binary)")
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    #[test]
    fn ci_installs_the_named_version() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the root");
        let script = fs::read_to_string(root.join(".ci/run")).expect("the script of CI");
        assert!(script.contains(&format!("typos=={}", super::VERSION)));
        assert!(super::remedy().contains(super::VERSION));
    }
}
