//! The error of an operation that cannot be read.

use std::fmt;

/// Why a document is not an operation. Its [code](memory_core::ErrorCode) is `invalid_operation`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct OperationError {
    /// The path of the setting, such as `flush.threshold`; empty for the whole document.
    pub path: String,
    /// The problem and the remedy, without text of messages.
    pub problem: String,
}

impl OperationError {
    pub(crate) fn new(path: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { path: path.into(), problem: problem.into() }
    }
}

impl std::error::Error for OperationError {}

impl fmt::Display for OperationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            write!(f, "memory operation: {}", self.problem)
        } else {
            write!(f, "memory operation: `{}` {}", self.path, self.problem)
        }
    }
}
