//! `cargo xtask bench`: the criterion benches.

use anyhow::{Result, bail};

use crate::run::cargo;
use crate::workspace::Workspace;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A crate, a bench file, or a part of a benchmark's name; all benches when left out
    what: Option<String>,
    /// Arguments after `--` are passed to criterion, such as `--save-baseline before`
    #[arg(last = true, value_name = "ARGS")]
    rest: Vec<String>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let workspace = Workspace::load()?;
    let all = benches(&workspace);
    if all.is_empty() {
        bail!("no crate has a bench yet; put one into <crate>/benches/");
    }
    let (chosen, filter) = choose(&all, args.what.as_deref());
    // Bench by bench: `--benches` would start the unit tests too, which do not know criterion's
    // arguments.
    for (package, bench) in chosen {
        cargo(["bench", "--package", package, "--bench", bench, "--all-features", "--"])
            .args(filter)
            .args(args.rest.iter().cloned())
            .run()?;
    }
    Ok(())
}

/// Crate and name of each bench.
fn benches(workspace: &Workspace) -> Vec<(&str, &str)> {
    workspace
        .packages
        .iter()
        .flat_map(|package| {
            let benches =
                package.targets.iter().filter(|t| t.kind.iter().any(|kind| kind == "bench"));
            benches.map(|bench| (package.name.as_str(), bench.name.as_str()))
        })
        .collect()
}

/// The benches to run, and criterion's filter for the names of their benchmarks.
fn choose<'a>(
    all: &[(&'a str, &'a str)],
    what: Option<&'a str>,
) -> (Vec<(&'a str, &'a str)>, Option<&'a str>) {
    let Some(what) = what else { return (all.to_vec(), None) };
    let named: Vec<_> =
        all.iter().copied().filter(|(package, bench)| *package == what || *bench == what).collect();
    if named.is_empty() { (all.to_vec(), Some(what)) } else { (named, None) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [(&str, &str); 3] =
        [("memory-core", "planning"), ("memory-lock", "lease"), ("memory-lock", "handover")];

    #[test]
    fn benches_are_chosen_by_crate_file_or_name() {
        assert_eq!(choose(&ALL, None), (ALL.to_vec(), None));
        assert_eq!(choose(&ALL, Some("memory-core")), (vec![("memory-core", "planning")], None));
        assert_eq!(choose(&ALL, Some("lease")), (vec![("memory-lock", "lease")], None));
        assert_eq!(choose(&ALL, Some("10000")), (ALL.to_vec(), Some("10000")));
    }
}
