//! Notes about a document that was read.

use std::fmt;

use serde::Serialize;

/// A setting that was read in another form than it was written, or that is not used. No note is an error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Note {
    /// The file; empty for a text or a value.
    pub file: String,
    /// The path of the setting, such as `memories[0].flushing.type`; empty for a whole file.
    pub path: String,
    /// The kind.
    pub kind: NoteKind,
    /// One sentence.
    pub text: String,
}

/// The kind of a [`Note`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum NoteKind {
    /// Another spelling of the same setting.
    Mapped,
    /// The setting changes nothing. [`Strictness::Strict`] refuses it.
    NoEffect,
    /// The setting is replaced by a similar one. [`Strictness::Strict`] refuses it.
    Replaced,
    /// A setting that should be there, such as a description.
    Missing,
    /// A file that describes something else.
    Skipped,
}

/// The treatment of settings that have no effect or are replaced by others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Strictness {
    /// They are read, with a note.
    #[default]
    Lenient,
    /// They are errors.
    Strict,
}

impl NoteKind {
    /// The name of the kind in text.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Mapped => "mapped",
            Self::NoEffect => "no effect",
            Self::Replaced => "replaced",
            Self::Missing => "missing",
            Self::Skipped => "skipped",
        }
    }

    pub(crate) const fn is_refused(self, strictness: Strictness) -> bool {
        match strictness {
            Strictness::Lenient => false,
            Strictness::Strict => matches!(self, Self::NoEffect | Self::Replaced),
        }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, path, kind, text } = self;
        for place in [file, path] {
            if !place.is_empty() {
                write!(f, "{place}: ")?;
            }
        }
        write!(f, "{}: {text}", kind.as_str())
    }
}
