//! The rules of a window, checked independently of the planner and the renderer.

use proptest::prelude::*;

use crate::check_request::check_request;
use crate::dialect::{Part, TextKind};
use crate::message::{Message, Role};
use crate::policy::{Entry, Policy};
use crate::priority::{ContentType, Priority};
use crate::profile::{Profile, SystemPlacement};
use crate::render::RepairKind;
use crate::render::tests::histories::{lines, messages};
use crate::render::tests::profiles;
use crate::stored::{MessageId, Sequence, StoredMessage};
use crate::testkit::now;
use crate::tokens::EstimateCounter;
use crate::unit::{UnitState, Units};
use crate::window::{ContextError, ContextPlan, NewestUnit, WindowOptions, plan_context};

/// A history and the options of its windows.
#[derive(Debug)]
pub(super) struct Case {
    lines: Vec<String>,
    budget: u64,
    dice: u64,
    system: bool,
    newest: NewestUnit,
}

impl Case {
    /// A history with a budget, without a system prompt.
    pub(super) fn new(lines: &[&str], budget: u64, dice: u64) -> Self {
        let lines = lines.iter().map(|line| (*line).to_owned()).collect();
        Self { lines, budget, dice, system: false, newest: NewestUnit::Error }
    }
}

/// Any case.
pub(super) fn case() -> impl Strategy<Value = Case> {
    let newest = prop_oneof![Just(NewestUnit::Error), Just(NewestUnit::Truncate)];
    // Images are expensive.
    let budget = prop_oneof![9 => 1..1_500_u64, 1 => 1_500..30_000_u64];
    (lines(12), budget, 0..15_u64, any::<bool>(), newest).prop_map(
        |(lines, budget, dice, system, newest)| Case { lines, budget, dice, system, newest },
    )
}

/// The messages as a memory stores them; some have an explicit priority, and some are reminders.
pub(super) fn stored(messages: Vec<Message>, policy: &Policy, dice: u64) -> Vec<StoredMessage> {
    let all = messages.into_iter().zip(1_u64..);
    all.map(|(message, number)| {
        let is_plain = message.tool_link().is_none();
        let entry = match (number * 7 + dice) % 15 {
            0 => Entry::new(message).with_priority(Priority::CRITICAL),
            5 => Entry::new(message).with_priority(Priority::IMPORTANT),
            3 | 6 | 9 if is_plain => Entry::reminder(message),
            _ => Entry::new(message),
        };
        let id = MessageId::new(uuid::Uuid::from_u128(number.into()));
        let mut stored =
            policy.admit(entry, id, now(), &EstimateCounter).stored_at(Sequence::new(number));
        stored.meta.closed = (number + dice).is_multiple_of(4);
        stored
    })
    .collect()
}

/// Plans the windows of a case for every profile, and checks each.
pub(super) fn check(case: &Case) -> Result<(), TestCaseError> {
    let mut policy = Policy::with_max_tokens(2_000);
    policy.reminders_kept = 1;
    let stored = stored(messages(&case.lines), &policy, case.dice);
    for profile in profiles() {
        let mut options =
            WindowOptions::new(case.budget).with_profile(profile.clone()).with_newest(case.newest);
        if case.system {
            options = options.with_system("You help.").with_tools(5);
        }
        match plan_context(&stored, &policy, &options, &EstimateCounter, now()) {
            Ok(plan) => {
                let window = Window { stored: &stored, policy: &policy, plan: &plan };
                let result = window.check(&profile, &options);
                let result = result.and_then(|()| window.check_growth(&options));
                result.map_err(|error| {
                    TestCaseError::fail(format!("{}: {error}\n{plan:?}", profile.name))
                })?;
            }
            Err(
                ContextError::CriticalOverBudget { needed, .. }
                | ContextError::ReserveOverBudget { needed, .. }
                | ContextError::NewestOverBudget { needed, .. },
            ) => {
                prop_assert!(needed > case.budget, "{profile:?} needs {needed} of {}", case.budget);
            }
        }
    }
    Ok(())
}

struct Window<'a> {
    stored: &'a [StoredMessage],
    policy: &'a Policy,
    plan: &'a ContextPlan,
}

impl Window<'_> {
    fn check(&self, profile: &Profile, options: &WindowOptions) -> Result<(), TestCaseError> {
        let plan = self.plan;
        prop_assert_eq!(plan.tokens, plan.request.count_tokens(&EstimateCounter));
        prop_assert!(plan.tokens + options.reserved() <= options.budget, "over the budget");
        let text = plan.request.to_string();
        if !self.stored.is_empty() || options.system.is_some() {
            check_request(&text, profile)
                .map_err(|error| TestCaseError::fail(format!("{error}\n{text}")))?;
            if let Some(system) = &options.system {
                prop_assert!(text.contains(system.as_str()), "the system prompt is missing");
            }
        }
        self.check_counts()?;
        self.check_units()?;
        self.check_texts(&text, profile)?;
        self.check_repairs(&text)
    }

    /// The window after one more small message begins with this one, unless a step was reached. Windows slide if a
    /// unit is larger than a step, if most of the budget is critical, or if the stored counts are too low.
    fn check_growth(&self, options: &WindowOptions) -> Result<(), TestCaseError> {
        let metas: Vec<_> = self.stored.iter().map(|stored| stored.meta.clone()).collect();
        let units = Units::group(&metas, now(), self.policy.open_call_timeout);
        let is_large = units.iter().any(|unit| unit.tokens() > options.budget / 5);
        let critical = units.iter().zip(units.classify(self.policy));
        let critical = critical.filter(|(_, class)| class.priority.is_critical());
        let critical: u64 = critical.map(|(unit, _)| unit.tokens()).sum();
        if options.budget < 1_000 || is_large || critical > options.budget / 2 {
            return Ok(());
        }
        let number = self.stored.len() as u64 + 1;
        let id = MessageId::new(uuid::Uuid::from_u128(number.into()));
        let entry = Entry::new(Message::user("and then?"));
        let mut longer = self.stored.to_vec();
        longer.push(
            self.policy.admit(entry, id, now(), &EstimateCounter).stored_at(Sequence::new(number)),
        );
        let step = |all: &[StoredMessage]| {
            let tokens = all.iter().map(|stored| u64::from(stored.meta.tokens)).sum::<u64>();
            tokens / (options.budget / 5)
        };
        let Ok(next) = plan_context(&longer, self.policy, options, &EstimateCounter, now()) else {
            return Ok(());
        };
        let is_kept = next.sequences.starts_with(&self.plan.sequences);
        let is_moved = step(&longer) > step(self.stored) || self.plan.left_out.budget.messages == 0;
        if !is_kept && !is_moved {
            // The stored counts may be far too low for this API, as for images.
            let whole = WindowOptions { budget: 1_000_000, ..options.clone() };
            let whole = plan_context(&longer, self.policy, &whole, &EstimateCounter, now());
            let stored = longer.iter().map(|stored| u64::from(stored.meta.tokens)).sum::<u64>();
            let is_low = whole.is_ok_and(|whole| whole.tokens > stored + stored / 50);
            prop_assert!(is_low, "{:?} follows", next.sequences);
        }
        Ok(())
    }

    fn check_counts(&self) -> Result<(), TestCaseError> {
        let left_out = self.plan.left_out.total();
        let all = self.stored.iter().map(|stored| u64::from(stored.meta.tokens)).sum::<u64>();
        prop_assert!(left_out.tokens <= all);
        let count = self.plan.sequences.len() as u64 + left_out.messages;
        prop_assert_eq!(count, self.stored.len() as u64);
        Ok(())
    }

    fn at(&self, place: Sequence) -> &StoredMessage {
        &self.stored[usize::try_from(place.number() - 1).unwrap()]
    }

    fn is_in(&self, place: Sequence) -> bool {
        self.plan.sequences.contains(&place)
    }

    /// Whether every API accepts something of a message.
    fn is_sendable(&self, place: Sequence) -> bool {
        let message = &self.at(place).message;
        let mut is_sendable = false;
        message.read(&mut |part| {
            is_sendable |= match part {
                Part::Text(text) => text.kind == TextKind::Plain && !text.text.trim().is_empty(),
                Part::Call(call) => !call.provider_run,
                _ => false,
            };
        });
        is_sendable
    }

    /// Units are whole; critical units and the newest are included; conversation has no holes.
    fn check_units(&self) -> Result<(), TestCaseError> {
        let metas: Vec<_> = self.stored.iter().map(|stored| stored.meta.clone()).collect();
        let units = Units::group(&metas, now(), self.policy.open_call_timeout);
        let classes = units.classify(self.policy);
        let kind = |kind| self.plan.repairs.iter().find(|repair| repair.kind == kind);
        let pinned = kind(RepairKind::StartPinned).and_then(|repair| repair.sequence);
        let mut newest_is_seen = false;
        let mut reminders = 0;
        // The priority of the newest conversation that is left out.
        let mut hole: Option<Priority> = None;
        for (unit, class) in units.iter().zip(classes).rev() {
            let places: Vec<_> = units.members(unit).map(|meta| meta.sequence).collect();
            let is_held = places.iter().any(|place| self.is_in(*place));
            let is_sendable = places.iter().any(|place| self.is_sendable(*place));
            let is_whole = unit.state() != UnitState::Orphan && !unit.is_malformed();
            if is_whole && is_held {
                let mut linked = places.iter().filter(|place| {
                    !self.at(**place).meta.link.is_none() || self.is_sendable(**place)
                });
                prop_assert!(linked.all(|place| self.is_in(*place)), "torn unit {places:?}");
            }
            if *class.content_type == ContentType::Reminder && !class.priority.is_critical() {
                reminders += u64::from(is_held);
                prop_assert!(reminders <= self.policy.reminders_kept, "reminder {places:?}");
                if reminders == self.policy.reminders_kept && !is_held {
                    continue;
                }
            }
            if class.priority.is_critical() {
                prop_assert!(is_held || !is_sendable, "critical unit {places:?} is missing");
            }
            if !newest_is_seen {
                prop_assert!(is_held || !is_sendable, "newest unit {places:?} is missing");
                newest_is_seen = is_held;
            }
            if class.conversation && is_held && !class.priority.is_critical() {
                let is_pinned = pinned == places.first().copied();
                let is_behind = hole.is_some_and(|hole| hole <= class.priority);
                prop_assert!(is_pinned || !is_behind, "a hole behind {places:?}");
            }
            if class.conversation && !is_held && is_sendable {
                hole = Some(hole.map_or(class.priority, |hole| hole.min(class.priority)));
            }
        }
        Ok(())
    }

    /// The texts of the listed messages are sent, in order, and no others.
    fn check_texts(&self, request: &str, profile: &Profile) -> Result<(), TestCaseError> {
        let mark = |place: Sequence| format!("~{}~", place.number());
        for stored in self.stored {
            let place = stored.meta.sequence;
            let is_sent = request.contains(&mark(place));
            prop_assert!(self.is_in(place) || !is_sent, "message {place} is sent");
        }
        let (mut talk, mut system) = (0, 0);
        for place in self.plan.sequences.iter().copied() {
            let (stored, mark) = (self.at(place), mark(place));
            let mut is_plain = false;
            stored.message.read(&mut |part| {
                if let Part::Text(text) = part {
                    is_plain |= text.kind == TextKind::Plain && text.text.contains(&mark);
                }
            });
            if !is_plain {
                continue;
            }
            let is = |kind| {
                let mut repairs = self.plan.repairs.iter();
                repairs.any(|repair| repair.kind == kind && repair.sequence == Some(place))
            };
            let Some(at) = request.find(&mark) else {
                prop_assert!(is(RepairKind::Truncated), "the text of message {place} is missing");
                continue;
            };
            let last = match stored.message.role() {
                Role::User | Role::Assistant if stored.meta.link.results.is_empty() => &mut talk,
                // Some remain in the middle, while later ones are moved to the front.
                Role::System | Role::Developer
                    if profile.system != SystemPlacement::TopLevelOrAfterUser =>
                {
                    &mut system
                }
                _ => continue,
            };
            prop_assert!(at > *last, "message {place} is out of order");
            *last = at;
        }
        Ok(())
    }

    /// Inserted texts are listed, and texts are cut between characters.
    fn check_repairs(&self, request: &str) -> Result<(), TestCaseError> {
        let is_listed = |kind| self.plan.repairs.iter().any(|repair| repair.kind == kind);
        for (text, kind) in [
            ("[no result", RepairKind::SyntheticResult),
            ("[earlier messages left out]", RepairKind::StartInserted),
            ("[interrupted]", RepairKind::AssistantInserted),
            ("[continue]", RepairKind::EndInserted),
            ("[truncated]", RepairKind::Truncated),
            ("[no output]", RepairKind::EmptyResult),
            ("skip_thought_signature_validator", RepairKind::SignaturePlaceholder),
        ] {
            let is_sent = request.contains(text);
            prop_assert_eq!(is_sent, is_listed(kind), "{:?}", kind);
        }
        let has_orphans = self.plan.left_out.orphans.messages > 0;
        let is_said = is_listed(RepairKind::OrphanResult) || is_listed(RepairKind::DuplicateResult);
        prop_assert!(!has_orphans || is_said, "orphans are not listed");
        prop_assert!(!request.contains('\u{fffd}'), "cut within a character");
        Ok(())
    }
}
