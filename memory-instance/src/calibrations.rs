//! The tokens by which providers' reports exceeded the counts of windows.

use std::sync::{Mutex, PoisonError};

use memory_core::plan::{Anchor, Calibration, Usage};
use memory_core::profile::ProfileName;

/// The effect of a reported usage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Calibrated {
    /// Later windows of this model are smaller by `excess` tokens; 0 if the count was not too low.
    Applied {
        /// The difference between the reported and the counted tokens.
        excess: u64,
    },
    /// The memory was cleared, flushed or calibrated for a newer window meanwhile; the report was ignored.
    Stale,
}

/// The calibrations of a memory in this process, one per API and model.
#[derive(Debug, Default)]
pub(crate) struct Calibrations(Mutex<Vec<Calibration>>);

impl Calibrations {
    pub(crate) fn all(&self) -> Vec<Calibration> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The excess for a window of this budget, and for one of any budget.
    pub(crate) fn excess(
        &self,
        profile: ProfileName,
        model: Option<&str>,
        budget: u64,
    ) -> (u64, u64) {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter()
            .find(|one| one.is_for(profile, model))
            .map_or((0, 0), |one| (one.excess_for(budget), one.excess))
    }

    /// Calibrates for this window, unless it is outdated.
    pub(crate) fn set(&self, anchor: &Anchor, usage: Usage) -> Calibrated {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let new = Calibration::new(anchor, usage);
        let excess = new.excess;
        let model = anchor.model.as_deref();
        match all.iter_mut().find(|one| one.is_for(anchor.profile, model)) {
            Some(old) if !old.is_superseded_by(anchor.cursor) => return Calibrated::Stale,
            Some(old) => *old = new,
            None => all.push(new),
        }
        Calibrated::Applied { excess }
    }
}
