//! Errors of a configuration, all at once.

use std::fmt;

/// One problem of a configuration, with its place and the remedy.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConfigError {
    /// The kind.
    pub kind: ConfigErrorKind,
    /// The file; empty for a text or a value.
    pub file: String,
    /// The path of the setting, such as `agents[3].memories[1].mode`; empty for the whole document.
    pub path: String,
    /// The problem and the remedy.
    pub problem: String,
}

/// The kind of a [`ConfigError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ConfigErrorKind {
    /// A file or folder cannot be read.
    File,
    /// The text is not valid JSON, YAML or TOML, or too long.
    Syntax,
    /// A field that is unknown, missing, of another type, out of range, or in contradiction to another.
    Field,
    /// An id, or a reference, that is there twice.
    Duplicate,
    /// An agent refers to a memory that does not exist.
    UnknownResource,
    /// The fields of an agent match no level.
    Level,
    /// [`Strictness::Strict`](crate::Strictness::Strict): a setting has no effect or is replaced by another.
    Strict,
}

impl std::error::Error for ConfigError {}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for place in [&self.file, &self.path] {
            if !place.is_empty() {
                write!(f, "{place}: ")?;
            }
        }
        f.write_str(&self.problem)
    }
}

/// All problems of a configuration: unreadable files first, then memories, then agents. The text has one line for each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors {
    pub(crate) errors: Vec<ConfigError>,
    pub(crate) omitted: usize,
}

impl ConfigErrors {
    /// The most problems that are reported; further ones are counted.
    pub const MOST: usize = 50;

    /// The problems, at least one.
    #[must_use]
    pub fn errors(&self) -> &[ConfigError] {
        &self.errors
    }

    /// The number of further problems.
    #[must_use]
    pub const fn omitted(&self) -> usize {
        self.omitted
    }
}

impl std::error::Error for ConfigErrors {}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.errors.iter().enumerate() {
            let line = if index == 0 { "" } else { "\n" };
            write!(f, "{line}{error}")?;
        }
        match self.omitted {
            0 => Ok(()),
            1 => f.write_str("\n1 more problem"),
            more => write!(f, "\n{more} more problems"),
        }
    }
}
