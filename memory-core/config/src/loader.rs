//! Reads the configuration of a project from files.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use memory_core::MemoryResource;
use serde_json::Value;

use crate::error::{ConfigErrorKind, ConfigErrors};
use crate::format::Format;
use crate::note::{NoteKind, Strictness};
use crate::project::{Parts, ProjectConfig};
use crate::report::{Report, shown_id};

/// Reads project documents and folders of resources, and unites them.
///
/// ```
/// use memory_config::ConfigLoader;
///
/// let folder = tempfile::tempdir()?;
/// let memories = folder.path().join("memories");
/// std::fs::create_dir(&memories)?;
/// std::fs::write(
///     memories.join("log.json"),
///     r#"{"resource": "memory", "id": "log", "description": "A log", "max_tokens": 500, "key": "{{ .ship }}"}"#,
/// )?;
/// let document = folder.path().join("project.json");
/// std::fs::write(&document, r#"{"agents": [{"id": "radio", "memory": "log"}]}"#)?;
///
/// let config = ConfigLoader::new().with_document(&document).with_folder(&memories).load()?;
/// assert_eq!(config.agents[0].memories[0].key, "{{ .ship }}");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct ConfigLoader {
    sources: Vec<Source>,
    strictness: Strictness,
}

#[derive(Debug, Clone)]
enum Source {
    Document(PathBuf),
    Folder(PathBuf),
    DefaultFolder(PathBuf),
}

impl ConfigLoader {
    /// A loader without files.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a file: a project document, or one resource if it has an `id`, and neither `memories` nor `agents`. Its name
    /// ends in `.yaml`, `.yml`, `.json` or `.toml`.
    pub fn with_document(mut self, path: impl Into<PathBuf>) -> Self {
        self.sources.push(Source::Document(path.into()));
        self
    }

    /// Adds a folder with one resource in each file, in the order of their names. Its folders, hidden files and files with
    /// another ending, such as backups, are ignored. A file whose `resource` is not `memory` is skipped with a note.
    ///
    /// The folder must exist and have at least one such file.
    pub fn with_folder(mut self, path: impl Into<PathBuf>) -> Self {
        self.sources.push(Source::Folder(path.into()));
        self
    }

    /// As [`with_folder`](Self::with_folder), but the folder may be empty or missing, such as a folder that a program looks
    /// for by default.
    pub fn with_default_folder(mut self, path: impl Into<PathBuf>) -> Self {
        self.sources.push(Source::DefaultFolder(path.into()));
        self
    }

    /// Whether settings without effect are errors. Default: [`Strictness::Lenient`].
    pub const fn with_strictness(mut self, strictness: Strictness) -> Self {
        self.strictness = strictness;
        self
    }

    /// Reads all files. This blocks on the file system.
    ///
    /// # Errors
    /// All problems of all files, at most [`ConfigErrors::MOST`].
    pub fn load(&self) -> Result<ProjectConfig, ConfigErrors> {
        let mut parts = Parts::default();
        let mut report = Report::new(self.strictness);
        for source in &self.sources {
            match source {
                Source::Document(path) => add_document(path, &mut parts, &mut report),
                Source::Folder(path) => add_folder(path, &mut parts, &mut report),
                Source::DefaultFolder(path) if !path.exists() => {}
                Source::DefaultFolder(path) => _ = add_files(path, &mut parts, &mut report),
            }
        }
        parts.read(report)
    }
}

fn add_document(path: &Path, parts: &mut Parts, report: &mut Report) {
    let file = path.display().to_string();
    report.begin(&file);
    let Some(format) = format_of(path) else {
        let problem = "its format is not known; name it .yaml, .yml, .json or .toml";
        return report.refuse(ConfigErrorKind::File, "", problem);
    };
    let Some(value) = read(path, format, report) else { return };
    let has = |name: &str| value.get(name).is_some();
    if has("id") && !has("memories") && !has("agents") {
        parts.add_resource(&file, value);
    } else {
        parts.add_document(&file, value, report);
    }
}

fn add_folder(path: &Path, parts: &mut Parts, report: &mut Report) {
    if let Some(0) = add_files(path, parts, report) {
        report.begin(&path.display().to_string());
        let problem = "has no .yaml, .yml, .json or .toml file; add one, or check the path";
        report.refuse(ConfigErrorKind::File, "", problem);
    }
}

/// Adds the resources of a folder. Returns the number of files, if the folder can be read.
fn add_files(path: &Path, parts: &mut Parts, report: &mut Report) -> Option<usize> {
    let files = match files_of(path) {
        Ok(files) => files,
        Err(error) => {
            report.begin(&path.display().to_string());
            let problem = format!("read the folder: {error}; check the path");
            report.refuse(ConfigErrorKind::File, "", problem);
            return None;
        }
    };
    let count = files.len();
    for (path, format) in files {
        let file = path.display().to_string();
        report.begin(&file);
        let Some(value) = read(&path, format, report) else { continue };
        match value.get("resource").and_then(Value::as_str) {
            Some(kind) if kind != "memory" => {
                let text = format!("describes the resource `{}`, not a memory", shown_id(kind));
                report.note(NoteKind::Skipped, "", text);
            }
            _ => parts.add_resource(&file, value),
        }
    }
    Some(count)
}

/// The files of a folder that may describe resources, by name.
fn files_of(folder: &Path) -> std::io::Result<Vec<(PathBuf, Format)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let is_hidden =
            path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if let Some(format) = format_of(&path)
            && !is_hidden
            && path.is_file()
        {
            files.push((path, format));
        }
    }
    files.sort_by(|(a, _), (b, _)| a.file_name().cmp(&b.file_name()));
    Ok(files)
}

fn format_of(path: &Path) -> Option<Format> {
    Format::of_extension(path.extension()?.to_str()?)
}

/// The value in a file, if it can be read.
fn read(path: &Path, format: Format, report: &mut Report) -> Option<Value> {
    let mut bytes = Vec::new();
    // One byte more than the limit, to detect a file that is too long.
    let most = MemoryResource::MAX_BYTES as u64 + 1;
    let done = fs::File::open(path).and_then(|file| file.take(most).read_to_end(&mut bytes));
    if let Err(error) = done {
        report.refuse(ConfigErrorKind::File, "", format!("read the file: {error}; check the path"));
        return None;
    }
    if bytes.len() > MemoryResource::MAX_BYTES {
        let problem = format!(
            "has more than {} bytes; split it into several files",
            MemoryResource::MAX_BYTES
        );
        report.refuse(ConfigErrorKind::Syntax, "", problem);
        return None;
    }
    let text = match std::str::from_utf8(&bytes) {
        Ok(text) => text.strip_prefix('\u{feff}').unwrap_or(text),
        Err(error) => {
            let problem = format!("is not UTF-8 text (byte {}); convert it", error.valid_up_to());
            report.refuse(ConfigErrorKind::Syntax, "", problem);
            return None;
        }
    };
    match format.read(text) {
        Ok(value) => Some(value),
        Err(problem) => {
            report.refuse(ConfigErrorKind::Syntax, "", problem);
            None
        }
    }
}
