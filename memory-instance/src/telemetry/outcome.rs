//! How operations end.

use memory_core::ErrorCode;

use crate::backup::BackupError;
use crate::error::MemoryError;
use crate::exclusive::ExclusiveError;
use crate::lifecycle::ShutdownReport;
use crate::operation::OperationReport;
use crate::workflow::WorkflowError;

/// The output of an operation.
pub(crate) trait Outcome {
    /// The code of its error.
    fn error_code(&self) -> Option<ErrorCode>;
}

/// An error with a code.
pub(crate) trait Coded {
    fn code_of(&self) -> ErrorCode;
}

impl<T, E: Coded> Outcome for Result<T, E> {
    fn error_code(&self) -> Option<ErrorCode> {
        self.as_ref().err().map(E::code_of)
    }
}

impl Outcome for ShutdownReport {
    fn error_code(&self) -> Option<ErrorCode> {
        (!self.is_complete()).then_some(ErrorCode::Timeout)
    }
}

impl Outcome for OperationReport {
    fn error_code(&self) -> Option<ErrorCode> {
        self.error.as_ref().map(|error| error.code)
    }
}

impl Coded for MemoryError {
    fn code_of(&self) -> ErrorCode {
        self.code()
    }
}

impl<T> Coded for ExclusiveError<T> {
    fn code_of(&self) -> ErrorCode {
        match self {
            Self::Begin(error) => error.code(),
            Self::Lost { .. } => ErrorCode::Conflict,
        }
    }
}

impl Coded for WorkflowError {
    fn code_of(&self) -> ErrorCode {
        self.failures.first().map_or(ErrorCode::Internal, |(_, error)| error.code())
    }
}

impl Coded for BackupError {
    fn code_of(&self) -> ErrorCode {
        self.code()
    }
}
