//! The effect of an operation that failed.

/// Whether an operation that failed may have taken effect nevertheless.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Applied {
    /// It had no effect.
    No,
    /// It may have taken effect: its answer was lost, or is not definite. For a write to a store, sending the same request
    /// again shows it, unless its [writer was forgotten](crate::store::StoreErrorKind::WriterForgotten). Default.
    #[default]
    Unknown,
}
