//! `cargo xtask api`: prints the public API of each published crate, or its differences from another commit.

use anyhow::{Result, bail};

use crate::run::{Cmd, cargo, has_subcommand, succeeds};
use crate::workspace::{Workspace, published};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only this crate; may be given several times
    #[arg(short, long, value_name = "CRATE")]
    package: Vec<String>,
    /// Print the differences between this commit, branch or tag and HEAD; the working tree must be clean
    #[arg(long, value_name = "REV", conflicts_with = "since_version")]
    since: Option<String>,
    /// Print the differences from this published version; `latest` is the newest one
    #[arg(long, value_name = "VERSION")]
    since_version: Option<String>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    if !has_subcommand("public-api") {
        bail!(
            "cargo-public-api is not installed; `cargo install --locked cargo-public-api` compiles for some minutes"
        );
    }
    if !succeeds("rustup", &["run", "nightly", "rustc", "--version"]) {
        bail!(
            "cargo-public-api reads rustdoc's JSON, which only a nightly toolchain writes: \
             `rustup install nightly --profile minimal`"
        );
    }
    let workspace = Workspace::load()?;
    for name in published(&workspace, &args.package)? {
        print(name, args).run()?;
    }
    Ok(())
}

fn print(name: &str, args: &Args) -> Cmd {
    // `-ss` leaves out blanket implementations, such as `Into`, and auto traits.
    let command = cargo(["public-api", "--package", name, "--all-features", "-ss"]);
    match (&args.since, &args.since_version) {
        (Some(rev), _) => command.args(["diff", &format!("{rev}..HEAD")]),
        (None, Some(version)) => command.args(["diff", version]),
        (None, None) => command,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(since: Option<&str>, since_version: Option<&str>) -> String {
        let args = Args {
            package: Vec::new(),
            since: since.map(str::to_owned),
            since_version: since_version.map(str::to_owned),
        };
        print("memory-core", &args).to_string()
    }

    #[test]
    fn api_is_printed_or_compared() {
        let plain = "cargo public-api --package memory-core --all-features -ss";
        assert_eq!(shown(None, None), plain);
        assert_eq!(shown(Some("v0.1.0"), None), format!("{plain} diff v0.1.0..HEAD"));
        assert_eq!(shown(None, Some("latest")), format!("{plain} diff latest"));
    }
}
