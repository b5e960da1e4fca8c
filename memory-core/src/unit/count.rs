//! Counts how much is grouped and classified, so that tests notice work that is done twice.

#[cfg(feature = "conformance")]
use std::cell::Cell;

#[cfg(feature = "conformance")]
thread_local! {
    static DONE: Cell<PlanningWork> = const { Cell::new(PlanningWork { grouped: 0, classified: 0 }) };
}

/// The work of the plans of a thread, see [`planning_work`].
#[cfg(feature = "conformance")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct PlanningWork {
    /// The messages that were grouped into units.
    pub grouped: u64,
    /// The units that were classified.
    pub classified: u64,
}

/// The work of the plans of this thread so far. The difference of two calls shows whether a flush or a window
/// groups its messages more than once.
#[cfg(feature = "conformance")]
#[must_use]
pub fn planning_work() -> PlanningWork {
    DONE.get()
}

#[cfg(feature = "conformance")]
fn add(more: PlanningWork) {
    let done = DONE.get();
    let (grouped, classified) = (done.grouped + more.grouped, done.classified + more.classified);
    DONE.set(PlanningWork { grouped, classified });
}

/// Messages were grouped.
#[cfg(feature = "conformance")]
pub(super) fn grouped(messages: usize) {
    add(PlanningWork { grouped: messages as u64, classified: 0 });
}

/// Units were classified.
#[cfg(feature = "conformance")]
pub(crate) fn classified(units: usize) {
    add(PlanningWork { grouped: 0, classified: units as u64 });
}

#[cfg(not(feature = "conformance"))]
pub(super) const fn grouped(_: usize) {}

#[cfg(not(feature = "conformance"))]
pub(crate) const fn classified(_: usize) {}
