//! Running the command in a folder of its own.

use std::ffi::OsStr;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use memory_core::MemoryResource;
use memory_instance::{FlushMode, MemoryManager};
use serde_json::Value;
use tempfile::TempDir;

/// A folder, in which all commands run.
pub(crate) struct Folder(TempDir);

/// What a command said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// The command with these arguments, not yet started.
    pub(crate) fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_memory"));
        command.current_dir(self.0.path()).args(args).env_remove("RUST_LOG").stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs the command line, whose words are set apart by spaces.
    pub(crate) fn run(&self, line: &str) -> Said {
        self.run_words(line.split_whitespace())
    }

    pub(crate) fn run_words<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Said {
        Said::from(self.command(args).output().unwrap())
    }

    /// Runs what must go well, and reads the JSON that it prints.
    pub(crate) fn json(&self, line: &str) -> Value {
        let said = self.run(line);
        assert_eq!(said.code, Some(0), "{line}: {said:?}");
        serde_json::from_str(&said.out).unwrap_or_else(|error| panic!("{line}: {error}: {said:?}"))
    }

    /// Runs what must go well.
    pub(crate) fn ok(&self, line: &str) -> String {
        let said = self.run(line);
        assert_eq!((said.code, said.err.as_str()), (Some(0), ""), "{line}: {said:?}");
        said.out
    }

    /// Opens the folder's `memory.db` in this process.
    pub(crate) async fn open(&self, resource: MemoryResource) -> MemoryManager {
        let url = format!("sqlite://{}", self.path("memory.db").display());
        let builder = MemoryManager::builder().resource(resource).flush_mode(FlushMode::Manual);
        builder.open(&url).await.unwrap()
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

/// What an import reported: read, appended, skipped, failed.
pub(crate) fn counts(report: &Value) -> [u64; 4] {
    ["read", "appended", "skipped", "failed"].map(|field| report[field].as_u64().unwrap())
}
