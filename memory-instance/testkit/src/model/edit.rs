//! Priorities and content types in the sequential model.

use memory_core::ContentType;

use super::known::Known;
use super::{State, Stored, WindowRules};
use crate::history::{Answer, Edit, Settings};

impl WindowRules {
    /// The settings of a message; `None` if it was never sent.
    pub(super) fn settings(&self, stored: &Stored) -> Option<Settings> {
        let sent = || self.sent.get(&stored.item);
        let as_sent = || sent().map(|new| Settings::new(new.priority, &new.content_type));
        stored.settings.or_else(as_sent)
    }

    /// Whether a message has the settings with which it was sent.
    pub(super) fn is_as_sent(&self, stored: &Stored) -> bool {
        self.settings(stored) == self.settings(&Stored { settings: None, ..*stored })
    }

    /// The settings after an edit. A priority that followed from the old content type becomes that of the new one.
    fn edited(&self, stored: &Stored, edit: Edit) -> Option<Settings> {
        let old = self.settings(stored)?;
        let content_type = match edit {
            Edit::Priority(priority) => return Some(Settings { priority: Some(priority), ..old }),
            Edit::Type(content_type) => content_type,
        };
        let of = |content_type| Some(self.policy.priority_of(content_type).number());
        let old_type = match old.content_type.content_type() {
            Some(content_type) => content_type,
            None => self.sent.get(&stored.item)?.content_type.clone(),
        };
        let fixed = content_type.content_type()?;
        let is_derived = old.priority.is_none() || old.priority == of(&old_type);
        let derived = match fixed {
            ContentType::Conversation => None,
            ref fixed => of(fixed),
        };
        let priority = if is_derived { derived } else { old.priority };
        Some(Settings { priority, content_type })
    }
}

impl State {
    /// Changes the settings of the message at a place, and keeps its text, whatever it is now.
    pub(super) fn edit(
        &mut self,
        known: &Known,
        (id, place): (u32, u64),
        edit: Edit,
        (windows, answer): (Option<&WindowRules>, Option<&Answer>),
    ) -> bool {
        let Some(stored) = self.items.get_mut(&place) else {
            // Without an answer it was refused.
            return answer.is_none_or(|answer| *answer == Answer::NotThere);
        };
        if answer.is_some_and(|answer| *answer != Answer::Replaced) {
            return false;
        }
        let Some((old, new)) =
            windows.and_then(|rules| Some((rules.settings(stored)?, rules.edited(stored, edit)?)))
        else {
            return false;
        };
        if new == old {
            // Not without a change of the state, because it may change something after an operation in flight.
            self.moves += 1;
            return true;
        }
        (stored.settings, stored.edited) = (Some(new), true);
        self.generation = self.generation.next();
        self.may_write(known, id)
    }

    /// Whether all messages have these settings.
    pub(super) fn settings(&self, told: &[(u64, Settings)], windows: Option<&WindowRules>) -> bool {
        let settings = |(place, stored): (&u64, &Stored)| {
            Some((*place, windows.and_then(|rules| rules.settings(stored))?))
        };
        self.items.iter().map(settings).eq(told.iter().copied().map(Some))
    }
}
