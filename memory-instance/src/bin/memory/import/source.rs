//! A file of messages, or what came in on stdin.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use flate2::bufread::MultiGzDecoder;
use memory_core::{MemoryKey, WriterId};
use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;

/// A source of messages, which is read twice: to check it, and to append it.
#[derive(Debug)]
pub(crate) struct Source {
    name: String,
    input: Input,
    /// The most bytes of a line.
    line_bytes: u64,
    identity: Option<String>,
    /// What the first reading found.
    survey: Option<Survey>,
}

#[derive(Debug)]
enum Input {
    File(PathBuf),
    /// What came in, in a file of our own: it is read twice, and may be larger than the memory.
    Stdin(NamedTempFile),
}

/// What the first reading found.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Survey {
    hash: String,
    lines: u64,
    messages: u64,
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
            let mut file =
                NamedTempFile::new().context("make a file for what comes in on stdin")?;
            io::copy(&mut io::stdin().lock(), &mut file).context("keep what comes in on stdin")?;
            ("stdin".into(), Input::Stdin(file))
        } else {
            (path.display().to_string(), Input::File(path.to_owned()))
        };
        Ok(Self { name, input, line_bytes, identity, survey: None })
    }

    /// What people know it by.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// How many messages it has, once it was surveyed.
    pub(crate) fn messages(&self) -> u64 {
        self.survey.as_ref().map_or(0, |survey| survey.messages)
    }

    /// How many lines it has, once it was surveyed.
    pub(crate) fn lines(&self) -> u64 {
        self.survey.as_ref().map_or(0, |survey| survey.lines)
    }

    /// Keeps what a reading to the end found.
    pub(crate) fn surveyed(&mut self, lines: Lines, messages: u64) {
        let survey = Survey { lines: lines.number, hash: lines.into_hash(), messages };
        self.survey = Some(survey);
    }

    /// Whether this reading found the same bytes as the survey.
    pub(crate) fn is_unchanged(&self, lines: Lines) -> bool {
        let hash = self.survey.as_ref().map(|survey| survey.hash.as_str());
        hash == Some(lines.into_hash().as_str())
    }

    /// The writer of this source's messages in this memory, the same in every process that imports
    /// it, however often.
    pub(crate) fn writer(&self, key: &MemoryKey) -> WriterId {
        let hash = || self.survey.as_ref().map_or_else(String::new, |survey| survey.hash.clone());
        let identity = self.identity.clone().unwrap_or_else(|| format!("sha256:{}", hash()));
        // No key has a line break, so different pairs never share a name.
        WriterId::named(&format!("import\n{identity}\n{key}"))
    }

    /// What to say when reading fails on the way.
    pub(crate) fn unreadable(&self, error: &Unreadable) -> anyhow::Error {
        match error {
            Unreadable::Failed(error) => {
                anyhow!("read {}: {error}; give it a whole JSONL file, plain or gzipped", self.name)
            }
            Unreadable::LongLine { number } => anyhow!(
                "{}:{number}: the line has more than {} bytes; write one message a line, or raise limits.message_bytes of the resource",
                self.name,
                self.line_bytes,
            ),
        }
    }

    /// Reads it from the start.
    pub(crate) fn read(&self) -> anyhow::Result<Lines> {
        let path = match &self.input {
            Input::File(path) => path,
            Input::Stdin(file) => file.path(),
        };
        let file = File::open(path)
            .map_err(|error| anyhow!("open {}: {error}; check the path", self.name))?;
        let raw = Box::new(BufReader::with_capacity(1 << 16, file));
        let reader = unpacked(raw).map_err(|error| self.unreadable(&error.into()))?;
        let (line_bytes, hash) = (self.line_bytes, Sha256::new());
        Ok(Lines { reader, line_bytes, number: 0, hash, buffer: Vec::new() })
    }
}

/// Why the next line cannot be had.
#[derive(Debug)]
pub(crate) enum Unreadable {
    Failed(io::Error),
    /// It is longer than a message may be; it was not read to its end, which may never come.
    LongLine {
        number: u64,
    },
}

impl From<io::Error> for Unreadable {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

/// Unpacks what begins as gzip does (RFC 1952), whatever its name.
fn unpacked(mut raw: Box<dyn BufRead + Send>) -> io::Result<Box<dyn BufRead + Send>> {
    if raw.fill_buf()?.starts_with(&[0x1f, 0x8b]) {
        return Ok(Box::new(BufReader::with_capacity(1 << 16, MultiGzDecoder::new(raw))));
    }
    Ok(raw)
}

/// The lines of a source, one after another.
pub(crate) struct Lines {
    reader: Box<dyn BufRead + Send>,
    line_bytes: u64,
    number: u64,
    hash: Sha256,
    buffer: Vec<u8>,
}

impl Lines {
    /// The next line that is not blank, and its number, counted from 1.
    pub(crate) fn next(&mut self) -> Result<Option<(u64, &[u8])>, Unreadable> {
        loop {
            self.buffer.clear();
            // With room for the line break.
            let most = self.line_bytes.saturating_add(1);
            let read = self.reader.by_ref().take(most).read_until(b'\n', &mut self.buffer)?;
            if read == 0 {
                return Ok(None);
            }
            self.hash.update(&self.buffer);
            self.number += 1;
            if read as u64 == most && self.buffer.last() != Some(&b'\n') {
                return Err(Unreadable::LongLine { number: self.number });
            }
            if !self.buffer.trim_ascii().is_empty() {
                // A byte order mark is what some editors begin a file with.
                let line = self.buffer.trim_ascii();
                let line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
                return Ok(Some((self.number, line)));
            }
        }
    }

    fn into_hash(self) -> String {
        self.hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
