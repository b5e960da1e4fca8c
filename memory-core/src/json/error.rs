//! Why a text was refused as JSON.

use std::fmt;

/// Why a text was refused. The error names the place, never a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonError {
    kind: JsonErrorKind,
    line: usize,
    column: usize,
    path: String,
}

/// The kind of a JSON error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum JsonErrorKind {
    /// The text is empty.
    Empty,
    /// The text ends within a value.
    Truncated,
    /// Another array or object follows the value.
    SecondValue,
    /// Something other than an array or object follows the value.
    TrailingCharacters,
    /// A comma before a closing bracket.
    TrailingComma,
    /// An object has one key twice.
    DuplicateKey,
    /// More than [`MAX_JSON_DEPTH`](super::MAX_JSON_DEPTH) levels.
    TooDeep,
    /// A `\ud800` to `\udfff` escape without its other half.
    LoneSurrogate,
    /// A control character within a string.
    ControlCharacter,
    /// NUL bytes in place of a value, as a file system leaves them after a crash.
    NulBytes,
    /// `NaN` or `Infinity`.
    NotFinite,
    /// The bytes are UTF-16.
    Utf16,
    /// The bytes are not UTF-8.
    NotUtf8,
    /// Any other error.
    Syntax,
}

impl JsonErrorKind {
    fn text(self) -> &'static str {
        match self {
            Self::Empty => "the text is empty: write one JSON value",
            Self::Truncated => "the text ends within a value: write the value to its end",
            Self::SecondValue => {
                "a second value follows the first: write one value per line, or separate them"
            }
            Self::TrailingCharacters => "characters follow the value: remove them",
            Self::TrailingComma => "a comma precedes a closing bracket: remove the comma",
            Self::DuplicateKey => "the object has this key twice: leave one of them out",
            Self::TooDeep => {
                "arrays and objects are nested more than 127 levels deep: flatten them"
            }
            Self::LoneSurrogate => {
                "a surrogate escape lacks its other half: write the whole character, or U+FFFD"
            }
            Self::ControlCharacter => "a string holds a control character: write it as an escape",
            Self::NulBytes => "NUL bytes instead of a value: remove them",
            Self::NotFinite => "JSON has no NaN and no Infinity: write null or a string",
            Self::Utf16 => "the text is UTF-16: convert it to UTF-8",
            Self::NotUtf8 => "the text is not UTF-8: convert it to UTF-8",
            Self::Syntax => "this is not JSON: write one complete JSON value",
        }
    }
}

impl JsonError {
    /// The kind of the error.
    #[must_use]
    pub const fn kind(&self) -> JsonErrorKind {
        self.kind
    }

    /// The line, counted from 1; 0 if there is no text to point into.
    #[must_use]
    pub const fn line(&self) -> usize {
        self.line
    }

    /// The column in characters, counted from 1; 0 if there is no text to point into.
    #[must_use]
    pub const fn column(&self) -> usize {
        self.column
    }

    /// The place within the value, such as `tool_calls[0].id`; empty at its top. A key that does not look like a
    /// field's name could be data and is shown as `{3}`, its number within the object.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// An error at this byte of the text.
    pub(super) fn new(kind: JsonErrorKind, text: &str, offset: usize) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let column = before.get(line_start..).map_or(0, |line| line.chars().count());
        let line = before.bytes().filter(|byte| *byte == b'\n').count();
        Self { kind, line: line + 1, column: column + 1, path: String::new() }
    }

    /// An error without a place in a text.
    pub(super) fn placeless(kind: JsonErrorKind) -> Self {
        Self { kind, line: 0, column: 0, path: String::new() }
    }

    /// The same error, seen from the array that holds the value.
    pub(super) fn in_item(mut self, index: usize) -> Self {
        let dot = if self.path.is_empty() || self.path.starts_with('[') { "" } else { "." };
        self.path = format!("[{index}]{dot}{}", self.path);
        self
    }

    /// The same error, seen from the object that holds the value.
    pub(super) fn in_member(mut self, key: &str, index: usize) -> Self {
        let dot = if self.path.is_empty() || self.path.starts_with('[') { "" } else { "." };
        self.path = if is_field_name(key) {
            format!("{key}{dot}{}", self.path)
        } else {
            format!("{{{}}}{dot}{}", index + 1, self.path)
        };
        self
    }
}

fn is_field_name(key: &str) -> bool {
    key.len() <= 40
        && key.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}

/// The most characters of a path that an error shows, because values may be nested deep.
const LONGEST_PATH: usize = 60;

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("invalid JSON")?;
        if self.line > 0 {
            write!(f, " at line {}, column {}", self.line, self.column)?;
        }
        if let Some((cut, _)) = self.path.char_indices().nth(LONGEST_PATH) {
            write!(f, ", `{}...`", self.path.get(..cut).unwrap_or_default())?;
        } else if !self.path.is_empty() {
            write!(f, ", `{}`", self.path)?;
        }
        write!(f, ": {}", self.kind.text())
    }
}

impl std::error::Error for JsonError {}
