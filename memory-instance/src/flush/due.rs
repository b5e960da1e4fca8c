//! Decides whether a flush is due.

use memory_core::store::{Appended, Counters, Head};
use memory_flush::flush_due;

use crate::inner::Inner;
use crate::rules::Rules;

impl Inner {
    pub(crate) fn is_due(&self, head: &Head) -> bool {
        let Rules { policy, settings, .. } = &*self.rules;
        flush_due(&head.counters, head.next_flush_at, policy, settings).is_due()
    }

    /// Decides from the returned counters, without another read, whether a flush is due.
    pub(crate) fn finds_due(&self, appended: &Appended) -> bool {
        self.are_due(&appended.counters, appended.next_flush_at)
    }

    pub(crate) fn are_due(&self, counters: &Counters, next_flush_at: Option<u64>) -> bool {
        let Rules { policy, settings, telemetry, .. } = &*self.rules;
        let due = flush_due(counters, next_flush_at, policy, settings).is_due();
        if !due {
            telemetry.gate_stopped();
        }
        due
    }
}
