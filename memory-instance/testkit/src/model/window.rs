//! Windows in the sequential model.

use std::collections::{BTreeMap, BTreeSet};

use memory_core::plan::{ContextError, Policy, plan_context};
use memory_core::store::NewMessage;
use memory_core::{MemoryResource, Priority, ResourceError, Sequence, WindowOptions};

use super::{ModelPart, State, Stored};
use crate::history::{Item, Tag};
use crate::program::Kind;
use crate::run::Bytes;

/// The messages of a window.
type Planned = Result<Vec<Option<Tag>>, ContextError>;

/// The messages that were sent, and the rules of the memory: together with a state they decide each window.
///
/// A window must be exactly the plan of the state at the instant of the call, so it must have the newest messages. The
/// planner is that of the facade. That is sound, because a plan is a pure function of the stored messages and of the
/// options, and nothing else of a program changes it: the open calls are too young to be abandoned, no agent closes
/// them, and no window is calibrated. A wrong plan is no matter of concurrency. The checks that do not use the planner
/// remain (`State::is_window` and `check_windows`).
#[derive(Debug, Clone)]
pub struct WindowRules {
    pub(super) sent: BTreeMap<Item, NewMessage>,
    pub(super) policy: Policy,
    options: WindowOptions,
}

impl WindowRules {
    /// The rules of this resource, and the messages that were sent to the store.
    ///
    /// # Errors
    /// If the resource is not valid.
    pub fn new(
        resource: &MemoryResource,
        sent: BTreeMap<Item, NewMessage>,
    ) -> Result<Self, ResourceError> {
        let mut options = WindowOptions::new(0).with_profile(resource.profile());
        (options.summary_role, options.advance) = (resource.summary_role, resource.window_advance);
        Ok(Self { sent, policy: resource.policy()?, options })
    }

    /// The window of these messages in its order, with `None` for a summary or a cleared result; or an error if the budget
    /// is too small. `None` if a message was never sent.
    fn window(&self, items: &BTreeMap<u64, Stored>, budget: u64) -> Option<Planned> {
        let stored = |(place, stored): (&u64, &Stored)| {
            let mut message = self.sent.get(&stored.item)?.clone().stored_at(Sequence::new(*place));
            message.meta.summary = stored.summary;
            if let Some(settings) = stored.settings {
                message.meta.priority = settings.priority.map(Priority::new);
                if let Some(content_type) = settings.content_type.content_type() {
                    message.meta.content_type = content_type;
                }
            }
            Some(message)
        };
        let messages: Vec<_> = items.iter().map(stored).collect::<Option<_>>()?;
        let Some(now) = messages.iter().map(|message| message.meta.created_at).max() else {
            return Some(Ok(Vec::new()));
        };
        let mut options = self.options.clone();
        options.budget = budget;
        let plan = plan_context(&messages, &self.policy, &options, &Bytes, now);
        let tag = |place: &Sequence| match items.get(&place.number())?.item {
            Item::Message(tag) => Some(tag),
            Item::Summary(_) | Item::Cleared(_) => None,
        };
        Some(plan.map(|plan| plan.sequences.iter().map(tag).collect()))
    }
}

impl State {
    /// Whether a window may contain this, and have a version whose newest message is at this place. `rules` are known for recorded programs.
    pub(super) fn is_window(
        &self,
        budget: u64,
        (shown, end): (&[Option<Tag>], Option<u64>),
        rules: Option<&WindowRules>,
        without: Option<ModelPart>,
    ) -> bool {
        let any = |part| without == Some(part) || without == Some(ModelPart::Windows);
        let shows = |tag| shown.contains(&Some(tag));
        let are_here = || {
            let here: BTreeSet<Tag> = self.tags().map(|(tag, _)| tag).collect();
            let untagged = |stored: &&Stored| !matches!(stored.item, Item::Message(_));
            let most = self.items.values().filter(untagged).count();
            shown.iter().flatten().all(|tag| here.contains(tag))
                && shown.iter().filter(|one| one.is_none()).count() <= most
        };
        let has_critical =
            || self.tags().filter(|(_, stored)| is_shown(stored)).all(|(tag, _)| shows(tag));
        // A window that violates one of the others is not planned either.
        let ignores_plan = matches!(
            without,
            Some(ModelPart::Plan | ModelPart::Critical | ModelPart::Room | ModelPart::Windows)
        );
        let ignores_version = ignores_plan || without == Some(ModelPart::WindowVersion);
        let is_planned = |rules: &WindowRules| matches!(rules.window(&self.items, budget), Some(Ok(planned)) if planned == shown);
        (any(ModelPart::Windows) || are_here())
            && (any(ModelPart::Critical) || has_critical())
            && (any(ModelPart::Room) || !shown.is_empty() || !self.has_what_fits(budget))
            && (ignores_plan || rules.is_none_or(is_planned))
            && (ignores_version || end.is_none_or(|place| self.ends_at(place)))
    }

    /// Whether this is the place of the newest message.
    fn ends_at(&self, place: u64) -> bool {
        self.items.last_key_value().map_or(0, |(place, _)| *place) == place
    }

    /// Whether no window may fit this budget.
    pub(super) fn has_no_window(
        &self,
        budget: u64,
        rules: Option<&WindowRules>,
        without: Option<ModelPart>,
    ) -> bool {
        let is_refused =
            |rules: &WindowRules| matches!(rules.window(&self.items, budget), Some(Err(_)));
        matches!(without, Some(ModelPart::Plan | ModelPart::Windows))
            || rules.is_none_or(is_refused)
    }

    fn tags(&self) -> impl Iterator<Item = (Tag, &Stored)> {
        self.items.values().filter_map(|stored| match stored.item {
            Item::Message(tag) => Some((tag, stored)),
            Item::Summary(_) | Item::Cleared(_) => None,
        })
    }

    /// Whether a window of this budget certainly contains a message. Open and incomplete calls are omitted, and so are
    /// messages before talk that does not fit, even important ones.
    fn has_what_fits(&self, budget: u64) -> bool {
        let fits = |stored: &Stored| u64::from(stored.tokens) <= budget;
        let newest = self.items.values().next_back();
        newest.is_some_and(|stored| is_alone(stored) && fits(stored))
            || self.items.values().any(|stored| match stored.item {
                Item::Message(_) => is_shown(stored),
                Item::Summary(_) => fits(stored),
                Item::Cleared(_) => false,
            })
    }
}

/// Not a part of a unit.
const fn is_alone(stored: &Stored) -> bool {
    !matches!(stored.kind, Kind::Call | Kind::Result)
}

/// Whether every window has it.
fn is_shown(stored: &Stored) -> bool {
    stored.is_critical() && is_alone(stored)
}
