//! The findings of a run of the suite.

use std::fmt;

use thiserror::Error;

/// The cases that a backend failed, and the finding of each.
#[derive(Debug, Default, Error)]
pub struct Failures(Vec<(&'static str, String)>);

impl Failures {
    pub(super) fn add(&mut self, case: &'static str, what: String) {
        self.0.push((case, what));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The names of the cases.
    pub fn cases(&self) -> impl Iterator<Item = &'static str> {
        self.0.iter().map(|(case, _)| *case)
    }
}

impl fmt::Display for Failures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} cases failed", self.0.len())?;
        for (case, what) in &self.0 {
            write!(f, "\n  {case}: {what}")?;
        }
        Ok(())
    }
}
