//! Flush plans and their validation.

use std::collections::HashSet;

use jiff::Timestamp;
use memory_core::Sequence;
use memory_core::plan::{EvictionPlan, Policy, UnitClass, UnitState, Units};
use memory_core::store::{MessageMeta, Shortfall, Tally};

use crate::clear::answers_only;
use crate::strategy::{FlushInput, tally};

/// The messages that a flush evicts, those that it replaces by a summary, and those whose tool results it clears.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FlushPlan {
    /// The places to evict.
    pub evict: Vec<Sequence>,
    /// The places that one summary replaces.
    pub summarize: Vec<Sequence>,
    /// The places whose tool results are cleared before anything else, ascending; [`FlushInput::clearing`] returns them.
    /// One that is also summarized reaches the summarizer cleared; one that is also evicted is only evicted.
    pub clear: Vec<Sequence>,
    /// The remaining messages, with a summary of the maximum size.
    pub after: Tally,
    /// Why the flush misses its target, if it does.
    pub shortfall: Option<Shortfall>,
}

impl FlushPlan {
    /// A plan of a custom strategy. The remainder is computed from the input; if it is over the target, the shortfall
    /// is [`Shortfall::Strategy`].
    #[must_use]
    pub fn new(input: &FlushInput<'_>, evict: Vec<Sequence>, summarize: Vec<Sequence>) -> Self {
        let places = |places: &[Sequence]| places.iter().copied().collect::<HashSet<_>>();
        let (evicted, replaced) = (places(&evict), places(&summarize));
        let kept = |meta: &&MessageMeta| {
            !evicted.contains(&meta.sequence) && !replaced.contains(&meta.sequence)
        };
        let mut after = tally(input.metas.iter().filter(kept));
        if !summarize.is_empty() {
            after.messages += 1;
            after.tokens = after.tokens.saturating_add(input.settings.summary_tokens);
        }
        let shortfall = if input.metas.is_empty() {
            Some(Shortfall::Empty)
        } else {
            (!input.target.is_met_by(after)).then_some(Shortfall::Strategy)
        };
        Self { evict, summarize, clear: Vec::new(), after, shortfall }
    }

    /// Whether it changes nothing.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.evict.is_empty() && self.summarize.is_empty() && self.clear.is_empty()
    }
}

impl From<EvictionPlan> for FlushPlan {
    fn from(plan: EvictionPlan) -> Self {
        let empty = plan.left.messages == 0 && plan.evict.is_empty();
        Self {
            evict: plan.evict,
            summarize: Vec::new(),
            clear: Vec::new(),
            after: plan.left,
            shortfall: if empty { Some(Shortfall::Empty) } else { plan.shortfall },
        }
    }
}

/// Refuses a plan that would break a promise: critical messages are kept unchanged (P4), and tool calls stay whole, and
/// unchanged while they are open (P5).
///
/// # Errors
/// The first problem of the plan.
pub fn validate_plan(
    plan: &FlushPlan,
    metas: &[MessageMeta],
    policy: &Policy,
    now: Timestamp,
) -> Result<(), PlanError> {
    let units = Units::group(metas, now, policy.open_call_timeout);
    let classes = units.classify(policy);
    validate(plan, metas, &units, &classes)
}

/// As [`validate_plan`], over the units of the messages.
fn validate(
    plan: &FlushPlan,
    metas: &[MessageMeta],
    units: &Units<'_>,
    classes: &[UnitClass<'_>],
) -> Result<(), PlanError> {
    #[derive(Clone, Copy, PartialEq, Eq)]
    enum Fate {
        Kept,
        Evicted,
        Summarized,
    }
    let mut fates = vec![Fate::Kept; metas.len()];
    let evicted = plan.evict.iter().map(|place| (*place, Fate::Evicted));
    let summarized = plan.summarize.iter().map(|place| (*place, Fate::Summarized));
    for (place, fate) in evicted.chain(summarized) {
        let at = metas.binary_search_by_key(&place, |meta| meta.sequence);
        let Some(old) = at.ok().and_then(|at| fates.get_mut(at)) else {
            return Err(PlanError::Unknown { place });
        };
        if *old != Fate::Kept {
            return Err(PlanError::Doubled { place });
        }
        *old = fate;
    }
    let mut cleared = HashSet::new();
    for place in plan.clear.iter().copied() {
        let at = metas.binary_search_by_key(&place, |meta| meta.sequence).ok();
        match at.and_then(|at| metas.get(at)) {
            None => return Err(PlanError::Unknown { place }),
            Some(meta) if !answers_only(meta) => return Err(PlanError::NotClearable { place }),
            Some(_) if !cleared.insert(place) => return Err(PlanError::Doubled { place }),
            Some(_) => {}
        }
    }
    let fate_of = |meta: &MessageMeta| {
        let at = metas.binary_search_by_key(&meta.sequence, |meta| meta.sequence);
        at.ok().and_then(|at| fates.get(at)).copied().unwrap_or(Fate::Kept)
    };
    for (unit, class) in units.iter().zip(classes) {
        let is_cleared =
            !cleared.is_empty() && units.members(unit).any(|meta| cleared.contains(&meta.sequence));
        let mut members = units.members(unit).map(|meta| (meta.sequence, fate_of(meta)));
        let Some((first, fate)) = members.next() else { continue };
        if let Some((other, _)) = members.find(|(_, other)| *other != fate) {
            return Err(PlanError::Split { first, other });
        }
        if fate == Fate::Kept && !is_cleared {
            continue;
        }
        if class.priority.is_critical() {
            return Err(PlanError::Critical { place: first });
        }
        if unit.state() == UnitState::Open {
            return Err(PlanError::OpenCall { place: first });
        }
    }
    Ok(())
}

impl FlushInput<'_> {
    /// Refuses a plan for this input that would break a promise, as [`validate_plan`] does.
    ///
    /// # Errors
    /// The first problem of the plan.
    pub fn validate(&self, plan: &FlushPlan) -> Result<(), PlanError> {
        let is_offered = |place: &Sequence| self.clearable_at(*place).is_some();
        if let Some(place) = plan.clear.iter().copied().find(|place| !is_offered(place)) {
            return Err(PlanError::NotClearable { place });
        }
        let (units, classes) = self.units();
        validate(plan, self.metas, units, classes)
    }
}

/// A problem of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// A place without a message.
    #[error(
        "the plan names place {place}, where there is no message: name places of its input only"
    )]
    Unknown {
        /// The place.
        place: Sequence,
    },
    /// A place that is named twice.
    #[error("the plan names place {place} twice: evict, summarize or clear each message once")]
    Doubled {
        /// The place.
        place: Sequence,
    },
    /// The plan removes or clears a critical unit.
    #[error(
        "the plan removes or clears the critical message at place {place}: keep critical messages"
    )]
    Critical {
        /// The place of its first message.
        place: Sequence,
    },
    /// The plan removes or clears an open call.
    #[error(
        "the plan removes or clears the call at place {place}, which still waits for a result: keep open calls"
    )]
    OpenCall {
        /// The place of the call.
        place: Sequence,
    },
    /// The plan clears a message that has no result that can be cleared.
    #[error(
        "the plan clears place {place}, which has no tool result to clear: name places that `FlushInput::clearing` returned"
    )]
    NotClearable {
        /// The place.
        place: Sequence,
    },
    /// The plan splits a unit.
    #[error(
        "the plan splits places {first} and {other}, a call and its result: \
         evict, summarize or keep both"
    )]
    Split {
        /// The place of the call.
        first: Sequence,
        /// A place of its unit that the plan treats differently.
        other: Sequence,
    },
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use memory_core_testkit::generators::{history, metas, now, policy};

    fn plan(evict: Vec<Sequence>, summarize: Vec<Sequence>) -> FlushPlan {
        FlushPlan { evict, summarize, ..FlushPlan::default() }
    }

    /// Removable and other units, each as its places.
    fn by_fate(metas: &[MessageMeta], policy: &Policy) -> (Vec<Vec<Sequence>>, Vec<Vec<Sequence>>) {
        let units = Units::group(metas, now(), policy.open_call_timeout);
        let (mut free, mut pinned) = (Vec::new(), Vec::new());
        for (unit, class) in units.iter().zip(units.classify(policy)) {
            let places = units.members(unit).map(|meta| meta.sequence).collect();
            if unit.is_pinned(&class) { pinned.push(places) } else { free.push(places) }
        }
        (free, pinned)
    }

    proptest! {
        #[test]
        fn any_removable_whole_units_are_accepted(
            history in history(30), policy in policy(), picks in prop::collection::vec(0..3_u8, 30),
        ) {
            let metas = metas(&history);
            let mut chosen = plan(vec![], vec![]);
            for (unit, pick) in by_fate(&metas, &policy).0.into_iter().zip(picks).rev() {
                match pick {
                    0 => chosen.evict.extend(unit),
                    1 => chosen.summarize.extend(unit),
                    _ => {}
                }
            }
            prop_assert_eq!(validate_plan(&chosen, &metas, &policy, now()), Ok(()));
        }

        #[test]
        fn plan_that_breaks_a_promise_is_refused(
            history in history(30), policy in policy(), pick in any::<prop::sample::Index>(),
        ) {
            let metas = metas(&history);
            let (free, pinned) = by_fate(&metas, &policy);
            let verdict = |evict: &[Sequence], summarize: &[Sequence]| {
                validate_plan(&plan(evict.to_vec(), summarize.to_vec()), &metas, &policy, now())
            };
            if !pinned.is_empty() {
                let unit = pick.get(&pinned);
                for error in [verdict(unit, &[]).unwrap_err(), verdict(&[], unit).unwrap_err()] {
                    let pinned = [
                        PlanError::Critical { place: unit[0] },
                        PlanError::OpenCall { place: unit[0] },
                    ];
                    prop_assert!(pinned.contains(&error));
                }
            }
            for unit in free.iter().filter(|unit| unit.len() > 1) {
                let split = Err(PlanError::Split { first: unit[0], other: unit[1] });
                prop_assert_eq!(verdict(&unit[1..], &[]), split);
                prop_assert_eq!(verdict(&unit[..1], &unit[1..]), split);
            }
            if !free.is_empty() {
                let unit = pick.get(&free);
                let doubled = Err(PlanError::Doubled { place: unit[0] });
                prop_assert_eq!(verdict(unit, unit), doubled);
                prop_assert_eq!(verdict(&[unit[0], unit[0]], &[]), doubled);
            }
            let nowhere = Sequence::new(9_999);
            prop_assert_eq!(verdict(&[nowhere], &[]), Err(PlanError::Unknown { place: nowhere }));
        }
    }
}
