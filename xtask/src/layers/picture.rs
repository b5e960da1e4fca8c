//! The picture in `ARCHITECTURE.md`, compared with the real dependencies.
//!
//! It is the fenced block that begins with ```` ```layers ````: a line for each crate, its name first, and an indented
//! line `-> a, b` with the members that it uses outside its tests. A crate is above all crates that it uses.

use std::collections::BTreeSet;

use crate::workspace::{Kind, Workspace};

/// The page with the picture.
pub(super) const PAGE: &str = "ARCHITECTURE.md";

const FENCE: &str = "```layers";

/// A crate of the picture, and the members that it uses.
struct Drawn<'a> {
    name: &'a str,
    uses: BTreeSet<&'a str>,
}

/// Every difference between the picture on this page and the workspace.
pub(super) fn compare(workspace: &Workspace, page: &str) -> Vec<String> {
    let drawn = match parse(page) {
        Ok(drawn) => drawn,
        Err(problem) => return vec![format!("{PAGE}: {problem}")],
    };
    let mut wrong = Vec::new();
    for package in workspace.packages.iter().filter(|package| package.is_published()) {
        if !drawn.iter().any(|crate_| crate_.name == package.name) {
            wrong.push(format!("{PAGE} does not draw {}", package.name));
        }
    }
    for (at, Drawn { name, uses }) in drawn.iter().enumerate() {
        let Some(package) = workspace.find(name) else {
            wrong.push(format!("{PAGE} draws {name}, which is no member of the workspace"));
            continue;
        };
        let real: BTreeSet<&str> = package
            .dependencies
            .iter()
            .filter(|dependency| dependency.kind == Kind::Normal && dependency.name != *name)
            .map(|dependency| dependency.name.as_str())
            .filter(|lower| workspace.find(lower).is_some())
            .collect();
        for lower in real.difference(uses) {
            wrong.push(format!("{PAGE} does not draw that {name} uses {lower}"));
        }
        for lower in uses.difference(&real) {
            wrong.push(format!("{PAGE} draws that {name} uses {lower}, but it does not"));
        }
        for lower in uses {
            if drawn.iter().take(at + 1).any(|upper| upper.name == *lower) {
                wrong.push(format!("{PAGE} draws {lower} above {name}, which uses it"));
            }
        }
    }
    wrong
}

fn parse(page: &str) -> Result<Vec<Drawn<'_>>, String> {
    let mut lines = page.lines().skip_while(|line| line.trim_end() != FENCE).skip(1);
    let mut drawn: Vec<Drawn<'_>> = Vec::new();
    for line in lines.by_ref().take_while(|line| line.trim_end() != "```") {
        match (line.trim_start().strip_prefix("->"), drawn.last_mut()) {
            (Some(uses), Some(crate_)) => {
                crate_.uses.extend(uses.split(',').map(str::trim).filter(|name| !name.is_empty()));
            }
            (Some(_), None) => return Err("the picture begins with an arrow".to_owned()),
            (None, _) => {
                let name = line.split_whitespace().next();
                drawn.extend(name.map(|name| Drawn { name, uses: BTreeSet::new() }));
            }
        }
    }
    if drawn.is_empty() {
        return Err(format!("there is no block that begins with {FENCE}"));
    }
    Ok(drawn)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const RIGHT: &str = "# Page\n\n```layers\nupper   on top\n  -> middle, lower\nmiddle\n  -> lower\n\
                         lower   (pure)\n```\n\n```layers\nanother\n```\n";

    fn workspace() -> Workspace {
        let package = |name: &str, uses: &[(&str, Option<&str>)]| {
            let uses = uses.iter().map(|(name, kind)| json!({"name": name, "kind": kind}));
            json!({
                "name": name, "manifest_path": "Cargo.toml", "features": {}, "targets": [],
                "publish": null, "dependencies": uses.collect::<Vec<_>>(),
            })
        };
        serde_json::from_value(json!({ "packages": [
            package("lower", &[("serde", None), ("upper", Some("dev"))]),
            package("middle", &[("lower", None)]),
            package("upper", &[("lower", None), ("middle", None)]),
        ]}))
        .expect("the test's workspace is well formed")
    }

    #[test]
    fn right_picture_passes() {
        assert_eq!(compare(&workspace(), RIGHT), Vec::<String>::new());
    }

    #[test]
    fn wrong_picture_is_found() {
        for (old, new, problem) in [
            ("  -> middle, lower\n", "  -> middle\n", "does not draw that upper uses lower"),
            ("(pure)", "(pure)\n  -> middle", "draws that lower uses middle, but it does not"),
            ("middle\n  -> lower\n", "", "does not draw middle"),
            ("(pure)", "(pure)\nstranger", "draws stranger, which is no member"),
            ("lower   (pure)\n", "", "does not draw lower"),
            ("```layers\nupper", "```layers\nlower\nupper", "draws lower above upper"),
            ("```layers\nupper", "```layers\n-> lower\nupper", "begins with an arrow"),
            ("```layers\n", "```text\n", "draws another, which is no member"),
        ] {
            let found = compare(&workspace(), &RIGHT.replacen(old, new, 1));
            assert!(found.iter().any(|it| it.contains(problem)), "{problem}: {found:?}");
        }
        assert!(compare(&workspace(), "# Page").concat().contains("there is no block"));
    }
}
