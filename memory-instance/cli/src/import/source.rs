//! A file of messages, or the input on stdin.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use flate2::bufread::MultiGzDecoder;
use memory_core::MemoryKey;
use memory_core::store::WriterId;
use tempfile::NamedTempFile;

use super::records::{Records, Unreadable};

/// A source of messages, which is read twice: to check it, and to append it.
#[derive(Debug)]
pub(crate) struct Source {
    name: String,
    input: Input,
    /// The most bytes of a record.
    line_bytes: u64,
    identity: Option<String>,
    /// The result of the first reading.
    survey: Option<Survey>,
}

#[derive(Debug)]
enum Input {
    File(PathBuf),
    /// The input in a temporary file: it is read twice, and may be larger than the memory.
    Stdin(NamedTempFile),
}

/// The result of the first reading.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Survey {
    hash: String,
    bytes: u64,
    messages: u64,
    /// Which records were passed over or changed; empty if none was.
    changes: String,
}

impl Source {
    /// A file, or `-` for stdin, which is kept until it is appended.
    pub(crate) fn open(
        path: &Path,
        identity: Option<&str>,
        line_bytes: u64,
    ) -> anyhow::Result<Self> {
        let identity = identity.map(|name| format!("name:{name}"));
        let (name, input) = if path.as_os_str() == "-" {
            let mut file = NamedTempFile::new().context("make a temporary file for stdin")?;
            io::copy(&mut io::stdin().lock(), &mut file)
                .context("copy stdin to a temporary file")?;
            ("stdin".into(), Input::Stdin(file))
        } else {
            (path.display().to_string(), Input::File(path.to_owned()))
        };
        Ok(Self { name, input, line_bytes, identity, survey: None })
    }

    /// Its name in messages.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The number of messages, once it was surveyed.
    pub(crate) fn messages(&self) -> u64 {
        self.survey.as_ref().map_or(0, |survey| survey.messages)
    }

    /// Keeps the result of a complete reading. `changes` names the records that were skipped or changed.
    pub(crate) fn surveyed(&mut self, records: Records, messages: u64, changes: String) {
        let (hash, bytes) = records.into_hash();
        self.survey = Some(Survey { hash, bytes, messages, changes });
    }

    /// Whether this reading found the same bytes as the survey.
    pub(crate) fn is_unchanged(&self, records: Records) -> bool {
        let (hash, bytes) = records.into_hash();
        self.survey.as_ref().is_some_and(|found| found.hash == hash && found.bytes == bytes)
    }

    /// The writer of this source's messages in this memory, the same in every process that imports
    /// it, however often.
    pub(crate) fn writer(&self, key: &MemoryKey) -> WriterId {
        // A skipped record changes the places of those after it, so another choice of records is another
        // source.
        let content = || match &self.survey {
            None => String::new(),
            Some(found) => format!("sha256:{}{}", found.hash, found.changes),
        };
        let identity = self.identity.clone().unwrap_or_else(content);
        // No key has a line break, so different pairs never share a name.
        WriterId::named(&format!("import\n{identity}\n{key}"))
    }

    /// The error if reading fails after the start.
    pub(crate) fn unreadable(&self, error: &Unreadable) -> anyhow::Error {
        match error {
            Unreadable::Failed(error) => {
                anyhow!("read {}: {error}; give it a whole JSONL file, plain or gzipped", self.name)
            }
            Unreadable::Encoding(problem) => {
                anyhow!("{}:1: the file {problem}; nothing was appended", self.name)
            }
            Unreadable::LongLine { number } => anyhow!(
                "{}:{number}: the line has more than {} bytes; write one message a line, or raise limits.message_bytes of the resource",
                self.name,
                self.line_bytes,
            ),
        }
    }

    /// Reads the source from the start. After the survey it reads only as far as the survey did: a file may
    /// grow meanwhile, and new messages belong to the next import.
    pub(crate) fn read(&self) -> anyhow::Result<Records> {
        let path = match &self.input {
            Input::File(path) => path,
            Input::Stdin(file) => file.path(),
        };
        let file = File::open(path)
            .map_err(|error| anyhow!("open {}: {error}; check the path", self.name))?;
        let raw = Box::new(BufReader::with_capacity(1 << 16, file));
        let reader = unpacked(raw).map_err(|error| self.unreadable(&error.into()))?;
        let most = self.survey.as_ref().map_or(u64::MAX, |survey| survey.bytes);
        Ok(Records::new(Box::new(reader.take(most)), self.line_bytes))
    }
}

/// Decompresses input with a gzip header (RFC 1952), regardless of its name.
fn unpacked(mut raw: Box<dyn BufRead + Send>) -> io::Result<Box<dyn BufRead + Send>> {
    if raw.fill_buf()?.starts_with(&[0x1f, 0x8b]) {
        return Ok(Box::new(BufReader::with_capacity(1 << 16, MultiGzDecoder::new(raw))));
    }
    Ok(raw)
}
