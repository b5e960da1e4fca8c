//! Every declared dependency is used.
//!
//! A dependency counts as used if its name is a word in the code for which it is declared. This misses some unused ones
//! and reports no used one, except those that only enable a feature. These are listed, as for cargo-machete, under
//! `[package.metadata.cargo-machete] ignored = [...]`.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::steps::Outcome;
use crate::workspace::{Dependency, Kind, Package, Workspace};

pub(crate) fn check() -> Result<Outcome> {
    let mut unused = Vec::new();
    let mut looked_at = 0;
    for package in &Workspace::load()?.packages {
        let files = package.sources()?;
        for dependency in &package.dependencies {
            looked_at += 1;
            if !is_ignored(package, dependency) && !is_used(package.dir(), &files, dependency) {
                unused.push(format!("{} does not use {}", package.name, dependency.name));
            }
        }
    }
    if !unused.is_empty() {
        bail!("remove unused dependencies:\n  {}", unused.join("\n  "));
    }
    eprintln!("unused: {looked_at} dependencies, all of them used");
    Ok(Outcome::Passed)
}

fn is_ignored(package: &Package, dependency: &Dependency) -> bool {
    let ignored = package.metadata.pointer("/cargo-machete/ignored");
    let names = ignored.and_then(|list| list.as_array()).into_iter().flatten();
    names.filter_map(|name| name.as_str()).any(|name| name == dependency.name)
}

fn is_used(dir: &Path, files: &[(PathBuf, String)], dependency: &Dependency) -> bool {
    let word = dependency.rename.as_ref().unwrap_or(&dependency.name).replace('-', "_");
    files.iter().any(|(path, text)| {
        let concerns = match dependency.kind {
            Kind::Normal => path.starts_with(dir.join("src")),
            Kind::Build => *path == dir.join("build.rs"),
            Kind::Dev => true,
        };
        concerns && mentions(text, &word, dependency.kind)
    })
}

/// Whether `word` is a separate word in the code. Comments count only for tests, because examples in documentation are
/// tests.
fn mentions(text: &str, word: &str, kind: Kind) -> bool {
    text.lines()
        .filter(|line| kind == Kind::Dev || !line.trim_start().starts_with("//"))
        .flat_map(|line| line.split(|c: char| !c.is_alphanumeric() && c != '_'))
        .any(|found| found == word)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::workspace::sources;

    fn dependency(name: &str, kind: Kind) -> Dependency {
        Dependency { name: name.into(), rename: None, kind }
    }

    #[test]
    fn dependency_is_used_by_its_declared_targets() {
        let crate_dir = tempfile::tempdir().expect("a temporary folder");
        let dir = crate_dir.path();
        let write = |path: &str, text: &str| {
            let path = dir.join(path);
            fs::create_dir_all(path.parent().expect("in a folder")).expect("a folder");
            fs::write(path, text).expect("a file");
        };
        write(
            "src/lib.rs",
            "//! Like only_told.\nuse async_trait::async_trait;\n/// in_example::f()",
        );
        write("tests/it.rs", "use only_tested::f;");
        write("nested/Cargo.toml", "");
        write("nested/src/lib.rs", "use only_nested::f;");
        let files = sources(dir).expect("the sources can be read");
        let used = |name, kind| is_used(dir, &files, &dependency(name, kind));

        assert!(used("async-trait", Kind::Normal));
        assert!(!used("async", Kind::Normal), "a part of a name is not the name");
        assert!(!used("only-told", Kind::Normal), "a comment is not a use");
        assert!(!used("only-tested", Kind::Normal), "it should be a dev-dependency");
        assert!(used("only-tested", Kind::Dev));
        assert!(used("in-example", Kind::Dev), "examples in docs are tests");
        assert!(!used("only-nested", Kind::Dev), "another crate's use does not count");
        assert!(!used("async-trait", Kind::Build));
    }

    #[test]
    fn renamed_dependency_is_found_by_new_name() {
        let renamed = Dependency { rename: Some("short".into()), ..dependency("long", Kind::Dev) };
        let files = [(PathBuf::from("tests/it.rs"), "use short::f;".to_owned())];
        assert!(is_used(Path::new(""), &files, &renamed));
        assert!(!is_used(Path::new(""), &files, &dependency("long", Kind::Dev)));
    }
}
