//! Starting a process: its command line is echoed, a failure names it.

use std::fmt;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use anyhow::{Context, Result, bail};

/// A command line that is about to be run.
#[derive(Debug)]
pub(crate) struct Cmd {
    program: String,
    args: Vec<String>,
    env: Vec<(String, String)>,
}

static COMPILED_ONCE: OnceLock<()> = OnceLock::new();

/// Settings of a compilation without a next one: the files of an incremental compilation and line tables cost time and
/// disk. A panic names its line without tables.
const ONCE: [(&str, &str); 2] = [("CARGO_INCREMENTAL", "0"), ("CARGO_PROFILE_DEV_DEBUG", "0")];

/// Compiles incrementally and with line tables only where that was done before.
pub(crate) fn save_compile_time_if_fresh() {
    if is_fresh(Path::new("target/debug/incremental")) {
        COMPILED_ONCE.get_or_init(|| ());
    }
}

/// Whether no member but xtask was compiled yet.
fn is_fresh(folder: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(folder) else { return true };
    entries.flatten().all(|entry| entry.file_name().to_string_lossy().starts_with("xtask"))
}

/// `cargo` with these arguments.
pub(crate) fn cargo<A: Into<String>>(args: impl IntoIterator<Item = A>) -> Cmd {
    command("cargo", args)
}

/// Any program with these arguments.
pub(crate) fn command<A: Into<String>>(program: &str, args: impl IntoIterator<Item = A>) -> Cmd {
    let cmd = Cmd { program: program.into(), args: Vec::new(), env: Vec::new() }.args(args);
    match COMPILED_ONCE.get() {
        Some(()) if program == "cargo" => {
            ONCE.into_iter().fold(cmd, |cmd, (name, value)| cmd.env(name, value))
        }
        _ => cmd,
    }
}

/// Whether a program is there and has nothing to complain about; what it says is not shown.
pub(crate) fn succeeds(program: &str, args: &[&str]) -> bool {
    command(program, args.iter().copied())
        .command()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Whether `cargo <name>` is installed.
pub(crate) fn has_subcommand(name: &str) -> bool {
    succeeds("cargo", &[name, "--version"])
}

/// Installs `cargo <name>` in the version that this project was tried with, unless some version is there.
pub(crate) fn install(name: &str, package: &str, version: &str) -> Result<()> {
    if has_subcommand(name) {
        return Ok(());
    }
    eprintln!("{package} is not installed: installing {version}, which compiles for some minutes");
    cargo(["install", "--locked", package, "--version", version]).run()
}

impl Cmd {
    pub(crate) fn args<A: Into<String>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Runs it on this terminal.
    pub(crate) fn run(&self) -> Result<()> {
        eprintln!("$ {self}");
        let status = self.command().status().with_context(|| format!("cannot start `{self}`"))?;
        if !status.success() {
            bail!("`{self}` failed ({status})");
        }
        Ok(())
    }

    /// Runs it on this terminal and returns its exit code, or nothing if a signal ended it.
    pub(crate) fn code(&self) -> Result<Option<i32>> {
        eprintln!("$ {self}");
        let status = self.command().status().with_context(|| format!("cannot start `{self}`"))?;
        Ok(status.code())
    }

    /// Runs it quietly and returns what it wrote to standard output.
    pub(crate) fn read(&self) -> Result<String> {
        let output = self
            .command()
            .stderr(Stdio::inherit())
            .output()
            .with_context(|| format!("cannot start `{self}`"))?;
        if !output.status.success() {
            bail!("`{self}` failed ({})", output.status);
        }
        String::from_utf8(output.stdout).with_context(|| format!("`{self}` did not write UTF-8"))
    }

    /// Runs it quietly, and returns its standard error if it failed.
    pub(crate) fn complaint(&self) -> Result<Option<String>> {
        let output = self.command().stdin(Stdio::null()).output();
        let output = output.with_context(|| format!("cannot start `{self}`"))?;
        let complaint = || String::from_utf8_lossy(&output.stderr).into_owned();
        Ok((!output.status.success()).then(complaint))
    }

    /// Runs it on this terminal and shows each line of its standard output to `look` as well.
    ///
    /// The inner result is that of the command; `look` has seen every line in either case.
    pub(crate) fn run_watched(&self, mut look: impl FnMut(&str)) -> Result<Result<()>> {
        eprintln!("$ {self}");
        let mut child = self
            .command()
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start `{self}`"))?;
        if let Some(stdout) = child.stdout.take() {
            for line in BufReader::new(stdout).split(b'\n') {
                let line = line.with_context(|| format!("cannot read what `{self}` writes"))?;
                let line = String::from_utf8_lossy(&line);
                eprintln!("{line}");
                look(&line);
            }
        }
        let status = child.wait().with_context(|| format!("cannot wait for `{self}`"))?;
        Ok(if status.success() {
            Ok(())
        } else {
            Err(anyhow::anyhow!("`{self}` failed ({status})"))
        })
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(is_of_running_package) {
                command.env_remove(name);
            }
        }
        command.args(&self.args).envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }
}

/// Whether `cargo run` sets this variable for the program that it starts. Build scripts that read it, as that of `ring`,
/// would run again whenever a command is typed instead, and all crates above them would be compiled again.
fn is_of_running_package(name: &str) -> bool {
    name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")
}

/// As it would be typed into a shell.
impl fmt::Display for Cmd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in &self.env {
            write!(f, "{name}={} ", quoted(value))?;
        }
        f.write_str(&self.program)?;
        self.args.iter().try_for_each(|arg| write!(f, " {}", quoted(arg)))
    }
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=,:@+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_is_shown_as_typed() {
        let cmd = cargo(["doc", "--workspace"]).env("RUSTDOCFLAGS", "-D warnings");
        assert_eq!(cmd.to_string(), "RUSTDOCFLAGS='-D warnings' cargo doc --workspace");
    }

    #[test]
    fn variables_of_xtask_are_not_passed_on() {
        assert!(std::env::var_os("CARGO_PKG_NAME").is_some());
        let variables = command("env", [""; 0]).read().expect("env lists the variables");
        assert!(!variables.contains("CARGO_PKG_") && !variables.contains("CARGO_MANIFEST_"));
    }

    #[test]
    fn only_a_fresh_folder_is_not_incremental() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        assert!(is_fresh(&folder.path().join("missing")) && is_fresh(folder.path()));
        std::fs::create_dir(folder.path().join("xtask-1a2b")).expect("a folder");
        assert!(is_fresh(folder.path()));
        std::fs::create_dir(folder.path().join("memory_core-1a2b")).expect("a folder");
        assert!(!is_fresh(folder.path()));
    }

    #[test]
    fn a_failed_command_is_named() {
        let error = cargo(["no-such-subcommand"]).run().expect_err("there is no such subcommand");
        assert!(error.to_string().contains("`cargo no-such-subcommand` failed"), "{error}");
    }
}
