//! Which messages are in a window.

use std::collections::HashSet;

use memory_instance::memory_core::plan::{
    ContextError, ContextPlan, Policy, SummaryRole, UnitState, Units, plan_context,
};
use memory_instance::{
    Clock, ClockExt as _, MemoryError, MemoryInstance, Message, NewestUnit, Profile, Repair,
    RepairKind, Role, StoredMessage, WindowOptions,
};

use crate::NO_RESULT;
use crate::counter::MemoryCounter;
use crate::substitute::{OpaqueParts, substitute};

/// Plans windows over one snapshot of a memory.
pub(crate) struct Planner<'a> {
    memory: &'a MemoryInstance,
    stored: &'a [StoredMessage],
    policy: Policy,
    options: WindowOptions,
    counter: MemoryCounter,
    clock: Clock,
    /// The tokens for messages and the system prompt.
    allowed: u64,
    system: u64,
    /// The tokens of the result that is added to a call without one.
    per_open_call: u64,
}

/// The messages of a window.
#[derive(Debug)]
pub(crate) struct Window {
    pub(crate) messages: Vec<Message>,
    /// The most calls without a result.
    pub(crate) open_calls: u64,
    /// The tokens of everything in the messages, and of the system prompt.
    tokens: u64,
}

impl Window {
    /// Whether the conversation starts at a message of the user, which many APIs require.
    fn starts_at_user(&self) -> bool {
        let mut roles = self.messages.iter().map(Message::role);
        roles.find(|role| !matches!(role, Role::System | Role::Developer)) == Some(&Role::User)
    }
}

impl<'a> Planner<'a> {
    pub(crate) fn new(
        memory: &'a MemoryInstance,
        options: Option<&WindowOptions>,
        stored: &'a [StoredMessage],
    ) -> Result<Self, MemoryError> {
        let resource = memory.resource();
        let policy = resource.policy()?;
        let options = options.cloned().unwrap_or_else(|| WindowOptions::new(policy.max_tokens));
        let summary_role = options.summary_role.or(resource.summary_role).unwrap_or_default();
        let advance = options.advance.or(resource.window_advance).unwrap_or_default();
        // The library renders the request; this form of it has the fewest rules.
        let options = options
            .with_profile(Profile::openai_chat())
            .with_newest(NewestUnit::Error)
            .with_summary_role(summary_role)
            .with_advance(advance);
        let system = options.system.as_ref().map(|text| memory.count(&Message::system(text)));
        Ok(Self {
            memory,
            stored,
            policy,
            counter: MemoryCounter::new(memory),
            clock: Clock::system(),
            allowed: options.budget.saturating_sub(options.reserved()),
            system: system.unwrap_or_default(),
            per_open_call: memory.count(&Message::tool_result("call", NO_RESULT)),
            options,
        })
    }

    /// The largest window that fits with everything in its messages.
    pub(crate) fn window(&self) -> Result<Window, ContextError> {
        let counted = self.substitutes(OpaqueParts::Counted);
        if let Ok(window) = self.plan(&counted, self.allowed) {
            return Ok(self.shrink(&counted, window));
        }
        // The newest messages are needed, whatever reasoning is in them.
        let short = self.substitutes(OpaqueParts::Short);
        let window = self.plan(&short, self.allowed)?;
        Ok(self.shrink(&short, window))
    }

    /// The ids of the calls that may still be answered.
    pub(crate) fn awaited(&self) -> HashSet<String> {
        let metas: Vec<_> = self.stored.iter().map(|stored| stored.meta.clone()).collect();
        let units = Units::group(&metas, self.clock.now(), self.policy.open_call_timeout);
        let open = units.iter().filter(|unit| unit.state() == UnitState::Open);
        let calls = open.flat_map(|unit| units.members(unit)).flat_map(|meta| &*meta.link.calls);
        calls.map(|call| call.id.to_string()).collect()
    }

    /// The window itself if it fits. Otherwise the largest smaller one that fits and starts at a message of the user,
    /// or one with at least three quarters of the budget; if none starts there, the largest that fits; if none fits,
    /// the smallest that starts there.
    ///
    /// A substitute may have fewer tokens than its message, such as one with an image of the assistant.
    fn shrink(&self, substitutes: &[StoredMessage], window: Window) -> Window {
        if window.tokens <= self.allowed {
            return window;
        }
        let mut over = window;
        let (mut best, mut headless) = (None, None);
        let (mut low, mut high) = (0, self.allowed);
        loop {
            let limit = u64::midpoint(low, high);
            if limit == low {
                break;
            }
            let Ok(window) = self.plan(substitutes, limit) else {
                low = limit;
                continue;
            };
            if window.tokens > self.allowed {
                high = limit;
                if window.starts_at_user() || !over.starts_at_user() {
                    over = window;
                }
                continue;
            }
            low = limit;
            if !window.starts_at_user() {
                headless = Some(window);
                continue;
            }
            let is_full = window.tokens >= self.allowed / 4 * 3;
            best = Some(window);
            if is_full {
                break;
            }
        }
        best.or(headless).unwrap_or(over)
    }

    fn substitutes(&self, opaque: OpaqueParts) -> Vec<StoredMessage> {
        self.stored.iter().map(|stored| substitute(self.memory, stored, opaque)).collect()
    }

    /// Plans a window of at most `limit` tokens of substitutes.
    fn plan(&self, substitutes: &[StoredMessage], limit: u64) -> Result<Window, ContextError> {
        let tools = self.options.tools.saturating_add(self.allowed.saturating_sub(limit));
        let options = self.options.clone().with_tools(tools);
        let now = self.clock.now();
        let plan = plan_context(substitutes, &self.policy, &options, &self.counter, now)?;
        Ok(self.window_of(&plan))
    }

    fn window_of(&self, plan: &ContextPlan) -> Window {
        let is_open = |repair: &&Repair| repair.kind == RepairKind::SyntheticResult;
        let open = plan.repairs.iter().filter(is_open).filter_map(|repair| repair.sequence);
        let open: HashSet<_> = open.collect();
        let (mut open_calls, mut tokens) = (0, self.system);
        let mut messages = Vec::with_capacity(plan.sequences.len());
        for sequence in &plan.sequences {
            let found = self.stored.binary_search_by_key(sequence, |stored| stored.meta.sequence);
            let Some(stored) = found.ok().and_then(|at| self.stored.get(at)) else { continue };
            tokens = tokens.saturating_add(stored.meta.tokens.into());
            if open.contains(sequence) {
                // At most: some of them may have a result.
                open_calls += stored.meta.link.calls.len() as u64;
            }
            messages.push(self.sent(stored));
        }
        let tokens = tokens.saturating_add(self.per_open_call.saturating_mul(open_calls));
        Window { messages, open_calls, tokens }
    }

    /// The message, and a summary with the role of the options.
    fn sent(&self, stored: &StoredMessage) -> Message {
        let text = || stored.message.text();
        match self.options.summary_role.filter(|_| stored.meta.is_summary()) {
            Some(SummaryRole::User) => Message::user(text()),
            Some(SummaryRole::Assistant) => Message::assistant(text()),
            _ => stored.message.clone(),
        }
    }
}
