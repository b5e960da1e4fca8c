//! Runs the command in a separate folder and store.

use std::ffi::OsStr;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use memory_core::MemoryResource;
use memory_instance::{FlushMode, MemoryManager};
use serde_json::Value;
use tempfile::TempDir;

/// A folder, in which all commands run.
pub(crate) struct Folder {
    dir: TempDir,
    /// The store of all commands, unless it is the folder's `memory.db`.
    store: Option<String>,
}

/// The output of a command.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Folder {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), store: None }
    }

    /// A folder whose commands work in this store.
    pub(crate) fn at(store: String) -> Self {
        Self { store: Some(store), ..Self::new() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// The URL of the store.
    pub(crate) fn store(&self) -> String {
        let file = || format!("sqlite://{}", self.path("memory.db").display());
        self.store.clone().unwrap_or_else(file)
    }

    /// Whether the store exists: the first command creates the file.
    pub(crate) fn has_store(&self) -> bool {
        self.store.is_some() || self.path("memory.db").exists()
    }

    /// The command with these arguments, not yet started.
    pub(crate) fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_memory"));
        command.current_dir(self.dir.path()).args(args).stdin(Stdio::null());
        command.env_remove("RUST_LOG").env_remove("MEMORY_STORE");
        // A vocabulary takes longer to load than most commands to run.
        command.env("MEMORY_TOKENIZER", "estimate");
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        if let Some(store) = &self.store {
            command.args(["--store", store]);
        }
        command
    }

    /// Runs the command line, whose arguments are separated by spaces.
    pub(crate) fn run(&self, line: &str) -> Said {
        self.run_words(line.split_whitespace())
    }

    pub(crate) fn run_words<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Said {
        Said::from(self.command(args).output().unwrap())
    }

    /// Runs a command that must succeed, and reads the JSON that it prints.
    pub(crate) fn json(&self, line: &str) -> Value {
        let said = self.run(line);
        assert_eq!(said.code, Some(0), "{line}: {said:?}");
        serde_json::from_str(&said.out).unwrap_or_else(|error| panic!("{line}: {error}: {said:?}"))
    }

    /// Runs a command that must succeed.
    pub(crate) fn ok(&self, line: &str) -> String {
        let said = self.run(line);
        assert_eq!((said.code, said.err.as_str()), (Some(0), ""), "{line}: {said:?}");
        said.out
    }

    /// Opens the store in this process.
    pub(crate) async fn open(&self, resource: MemoryResource) -> MemoryManager {
        let builder =
            MemoryManager::builder().with_resource(resource).with_flush_mode(FlushMode::Manual);
        builder.open(&self.store()).await.unwrap()
    }
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// The JSON values on these lines.
pub(crate) fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The counts that an import reported: read, appended, skipped, failed.
pub(crate) fn counts(report: &Value) -> [u64; 4] {
    ["read", "appended", "skipped", "failed"].map(|field| report[field].as_u64().unwrap())
}
