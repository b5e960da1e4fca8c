//! Collects the notes and errors of a configuration.

use serde_json::Value;

use crate::error::{ConfigError, ConfigErrorKind, ConfigErrors};
use crate::note::{Note, NoteKind, Strictness};

/// The notes and errors so far, and the file that is being read.
#[derive(Debug, Default)]
pub(crate) struct Report {
    strictness: Strictness,
    file: String,
    pub(crate) notes: Vec<Note>,
    errors: Vec<ConfigError>,
    omitted: usize,
}

impl Report {
    pub(crate) fn new(strictness: Strictness) -> Self {
        Self { strictness, ..Self::default() }
    }

    /// The following notes and errors concern this file.
    pub(crate) fn begin(&mut self, file: &str) {
        file.clone_into(&mut self.file);
    }

    pub(crate) fn refuse(
        &mut self,
        kind: ConfigErrorKind,
        path: impl Into<String>,
        problem: impl Into<String>,
    ) {
        if self.errors.len() >= ConfigErrors::MOST {
            self.omitted += 1;
            return;
        }
        let (file, path, problem) = (self.file.clone(), path.into(), problem.into());
        self.errors.push(ConfigError { kind, file, path: shown(&path, 900), problem });
    }

    /// Notes a setting, or refuses it if the strictness asks for that.
    pub(crate) fn note(
        &mut self,
        kind: NoteKind,
        path: impl Into<String>,
        text: impl Into<String>,
    ) {
        if kind.is_refused(self.strictness) {
            return self.refuse(ConfigErrorKind::Strict, path, text);
        }
        let (file, path, text) = (self.file.clone(), path.into(), text.into());
        self.notes.push(Note { file, path: shown(&path, 900), kind, text });
    }

    /// The number of problems so far.
    pub(crate) const fn problems(&self) -> usize {
        self.errors.len() + self.omitted
    }

    /// The result with the notes, if there are no errors.
    pub(crate) fn finish<T>(self, result: Option<T>) -> Result<(T, Vec<Note>), ConfigErrors> {
        match result {
            Some(result) if self.errors.is_empty() => Ok((result, self.notes)),
            _ => Err(ConfigErrors { errors: self.errors, omitted: self.omitted }),
        }
    }
}

/// A text in an error, on one line and of bounded length.
pub(crate) fn shown(text: &str, most: usize) -> String {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

/// An id in an error.
pub(crate) fn shown_id(id: &str) -> String {
    shown(id, 100)
}

/// The type of a value, with its article.
pub(crate) const fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "empty",
        Value::Bool(true) => "`true`",
        Value::Bool(false) => "`false`",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a mapping",
    }
}

/// The path of a field below another path.
pub(crate) fn join(path: &str, field: &str) -> String {
    match (path.is_empty(), field.is_empty()) {
        (true, _) => field.to_owned(),
        (_, true) => path.to_owned(),
        _ => format!("{path}.{field}"),
    }
}
