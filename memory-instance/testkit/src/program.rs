//! Whole programs: agents, their operations, and faults. Each family of programs has a file in
//! `program`.

mod past;
mod plain;
mod prompts;
mod rollbacks;
mod vary;

use std::fmt;

use proptest::prelude::*;

pub(crate) use self::past::KEPT_FOR;
pub use self::past::past;
pub use self::plain::program;
pub use self::prompts::prompts;
pub use self::rollbacks::{expiries, rollbacks};
use crate::history::Edit;

/// The bytes of a view of one short message, less than those of two.
const ONE_MESSAGE: usize = 700;

/// A program. The same one always runs in the same way.
#[derive(Clone)]
pub struct Program {
    /// The seed of delays and faults.
    pub seed: u64,
    /// The store checks leases itself, like one file or server for both.
    pub shared_domain: bool,
    /// The rate of faults.
    pub faults: Faults,
    /// The summarizer.
    pub summarizer: SummarizerKind,
    /// Flushes run within the append that makes them due.
    pub inline_flush: bool,
    /// The archive of the memories, if they have one.
    pub past: Option<Past>,
    /// The agents.
    pub agents: Vec<Agent>,
}

/// The archive of the memories of a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Past {
    /// The most bytes of each.
    pub max_bytes: u64,
    /// Flushes clear tool results.
    pub clears_results: bool,
    /// How long removed messages are kept.
    pub keep: Keep,
}

/// How long removed messages are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// Without an end.
    Forever,
    /// Longer than a program lasts, but the clock is stepped beyond it ([`Op::EndArchives`]).
    ForAWhile,
}

/// The rate of faults of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Faults {
    /// Of a hundred requests.
    pub percent: u8,
    /// The longest way to the server, and back, in milliseconds.
    pub latency: u8,
}

/// The behavior of the model's summarizer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SummarizerKind {
    /// It answers at once.
    Quick,
    /// It takes seconds.
    Slow,
    /// It answers with an error.
    Failing,
    /// It never answers.
    Hanging,
    /// It writes nothing.
    Empty,
    /// It exceeds its limit.
    Wordy,
}

/// One agent: its operations come one after another.
#[derive(Debug, Clone)]
pub struct Agent {
    /// Its process, from 0.
    pub process: u8,
    /// Its memory, one of two.
    pub key: u8,
    /// Its operations.
    pub ops: Vec<Op>,
}

/// The kind of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Plain talk.
    Talk,
    /// A message that must never be removed.
    Critical,
    /// An important fact.
    Fact,
    /// A call of a tool.
    Call,
    /// The result of the agent's oldest open call; talk, if there is none.
    Result,
}

/// An exclusive turn of an agent: it reads the memory, and then acts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// The kind of read.
    pub look: Look,
    /// Its steps.
    pub steps: Vec<TurnStep>,
    /// How many milliseconds it thinks before each step.
    pub think: u16,
    /// The milliseconds for which its process is suspended before the second or only step.
    pub stall: u16,
}

/// How a turn reads the memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// A page of everything.
    Page,
    /// All messages.
    Messages,
    /// A window of this many tokens.
    Context(u16),
}

/// One step of a turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TurnStep {
    /// Appends one message or a batch.
    Append(Vec<Kind>),
    /// Removes all.
    Clear,
    /// Looks again.
    Look(Look),
}

/// One step of an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Appends one message or a batch.
    Append(Vec<Kind>),
    /// Appends, and sends the same batch again until it is answered, and then this number of times.
    Retried(Vec<Kind>, u8),
    /// Reads, and then appends at the version that was read.
    AppendIf(Vec<Kind>),
    /// Reads, and then takes back this number of the newest messages at the version that was read.
    Rewind(usize),
    /// Reads, and then takes back the newest turn at the version that was read.
    PopTurn,
    /// An exclusive turn.
    Turn(Turn),
    /// Takes the lease on the memory directly and keeps it this many milliseconds.
    Hold(u16),
    /// The same, if it is free.
    TryHold(u16),
    /// Flushes.
    Flush,
    /// Reads all, as a page.
    Read,
    /// Reads all messages.
    Messages,
    /// Reads this number of the newest messages.
    Last(usize),
    /// Reads two pages backward, of this size: from the end of the last page that was read so, or from the newest
    /// message.
    Before(usize),
    /// Reads the messages since the last read.
    Delta,
    /// Reads a window of this many tokens.
    Context(u16),
    /// Reads the counters.
    Count,
    /// Reads the health report.
    Health,
    /// Ensures the memory's system prompt: with a new text, or again with the agent's last one.
    Ensure(bool),
    /// Removes all.
    Clear,
    /// Removes all, and the archive.
    Purge,
    /// Deletes the memory.
    Delete,
    /// Deletes the next memory, which is a copy.
    DeleteNext,
    /// Undoes the archived removal before this number of newer ones.
    Undo(usize),
    /// Erases this number of messages, of those present or archived: from this one on, in a fixed order.
    Erase(usize, usize),
    /// Replaces the message at this one of the places in use.
    Replace(usize),
    /// Changes the settings of the message at this one of the places in use.
    Edit(usize, Edit),
    /// Has the summaries rewritten that the newest erasure with affected ones lists.
    Rewrite,
    /// Replaces all messages by a batch.
    ReplaceAll(Vec<Kind>),
    /// Reads, and then replaces all messages at the version that was read.
    ReplaceAllIf(Vec<Kind>),
    /// Forks the memory to the next one, before this number of newer messages.
    Fork(usize),
    /// Copies the memory to the next one.
    CopyTo,
    /// Backs the memory up, and restores it as the next one.
    BackUp,
    /// Reads the settings of all messages, and the receipts.
    Inspect,
    /// Reads the archive.
    Archive,
    /// Reads the originals of the summary before this number of newer ones, present or archived.
    Originals(usize),
    /// Searches for a word that all messages contain.
    Search,
    /// Waits for this many milliseconds.
    Pause(u16),
    /// Suspends the process for this many milliseconds: none of its requests arrives before that.
    Stall(u16),
    /// The server forgets all leases, like a server that restarts without its data.
    ForgetLeases,
    /// The server saves a copy of its memories.
    Keep,
    /// The server rolls back to the last saved copy, or to the empty state: a failover that lost the newest writes, or
    /// a restored snapshot. Leases stay.
    GoBack,
    /// The TTL of the memory ends.
    Expire,
    /// The time for which all archived messages are kept ends.
    EndArchives,
    /// Starts an operation and drops it after this number of polls.
    Cancel(u8, Box<Self>),
    /// The process dies.
    Crash,
}

impl Op {
    /// Whether it copies a memory to another.
    pub(super) const fn copies(&self) -> bool {
        matches!(self, Self::Fork(_) | Self::CopyTo | Self::BackUp)
    }
}

/// The operation, without the drop of one.
fn inner(op: &Op) -> &Op {
    match op {
        Op::Cancel(_, op) => op,
        op => op,
    }
}

/// Families of programs, each with separate numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// The server never rolls back.
    Plain,
    /// The server rolls back to an earlier state, once or several times.
    Rollbacks,
    /// The agents ensure a system prompt.
    Prompts,
    /// The TTL of a memory ends, once or several times.
    Expiries,
    /// The memories have an archive, and the agents use it.
    Past,
}

impl Family {
    /// The program with this number.
    #[must_use]
    pub fn program(self, number: u64) -> Program {
        match self {
            Self::Plain => Program::numbered(number),
            Self::Rollbacks => Program::with_rollbacks(number),
            Self::Prompts => Program::with_prompts(number),
            Self::Expiries => Program::with_expiries(number),
            Self::Past => Program::with_past(number),
        }
    }
}

impl Program {
    /// The program with this number whose server does not roll back.
    #[must_use]
    pub fn numbered(number: u64) -> Self {
        Self::drawn(&program(), number)
    }

    /// The program with this number whose server rolls back.
    #[must_use]
    pub fn with_rollbacks(number: u64) -> Self {
        Self::drawn(&rollbacks(), number)
    }

    /// The program with this number whose agents ensure a system prompt.
    #[must_use]
    pub fn with_prompts(number: u64) -> Self {
        Self::drawn(&prompts(), number)
    }

    /// The program with this number in which the TTL of a memory ends.
    #[must_use]
    pub fn with_expiries(number: u64) -> Self {
        Self::drawn(&expiries(), number)
    }

    /// The program with this number whose memories have an archive.
    #[must_use]
    pub fn with_past(number: u64) -> Self {
        Self::drawn(&past(), number)
    }

    fn drawn(programs: &impl Strategy<Value = Self>, number: u64) -> Self {
        use proptest::strategy::ValueTree;

        let tree = programs.new_tree(&mut runner(number));
        tree.map(|tree| tree.current()).unwrap_or_else(|_| Self {
            seed: number,
            shared_domain: false,
            faults: Faults { percent: 0, latency: 0 },
            summarizer: SummarizerKind::Quick,
            inline_flush: false,
            past: None,
            agents: Vec::new(),
        })
    }

    /// Whether its server rolls back. The end of a TTL is a rollback to the empty state.
    #[must_use]
    pub fn goes_back(&self) -> bool {
        self.has(|op| matches!(op, Op::GoBack | Op::Expire))
    }

    /// Whether it has no faults: no process dies or is suspended, no operation is dropped, and the server does not roll
    /// back.
    #[must_use]
    pub fn is_calm(&self) -> bool {
        let calm = |op: &Op| {
            !matches!(op, Op::Stall(_) | Op::Crash | Op::Cancel(..) | Op::ForgetLeases)
                && !matches!(op, Op::Turn(Turn { stall: 1.., .. }))
        };
        self.faults.percent == 0
            && !self.goes_back()
            && !self.copies()
            && self.agents.iter().all(|agent| agent.ops.iter().all(calm))
    }

    /// The bytes of all views of a process: the default in half of the programs, none, or one message. The seed decides, so
    /// a program with a kept seed otherwise stays the same.
    #[must_use]
    pub fn view_bytes(&self) -> Option<usize> {
        match self.seed % 4 {
            0 => Some(0),
            1 => Some(ONE_MESSAGE),
            _ => None,
        }
    }

    /// The seed of a process.
    pub(crate) const fn process_seed(&self, number: u64) -> u64 {
        self.seed.wrapping_mul(31).wrapping_add(number)
    }

    /// The maximum number of clears of a memory.
    #[must_use]
    pub fn clears(&self) -> usize {
        self.count(|op| match op {
            Op::Clear | Op::Purge | Op::Delete | Op::DeleteNext => 1,
            Op::Turn(turn) => turn.steps.iter().filter(|step| **step == TurnStep::Clear).count(),
            _ => 0,
        })
    }

    /// The number of operations that take messages back.
    #[must_use]
    pub fn rewinds(&self) -> usize {
        self.count(|op| usize::from(matches!(op, Op::Rewind(_) | Op::PopTurn)))
    }

    /// The number of operations that remove or change single messages on demand, or bring them back.
    #[must_use]
    pub fn edits(&self) -> usize {
        self.count(|op| {
            usize::from(matches!(
                op,
                Op::Undo(_)
                    | Op::Erase(..)
                    | Op::Replace(_)
                    | Op::Edit(..)
                    | Op::Rewrite
                    | Op::ReplaceAll(_)
                    | Op::ReplaceAllIf(_)
            ))
        })
    }

    /// Whether writes that were acknowledged may be lost: its server rolls back, or memories are deleted.
    #[must_use]
    pub fn loses(&self) -> bool {
        self.goes_back() || self.has(|op| matches!(op, Op::Delete | Op::DeleteNext))
    }

    /// The number of its memories.
    #[must_use]
    pub fn keys(&self) -> usize {
        let last = |agent: &Agent| {
            let copies = agent.ops.iter().any(|op| inner(op).copies());
            usize::from(agent.key) + usize::from(copies)
        };
        self.agents.iter().map(last).max().unwrap_or(0).max(1) + 1
    }

    /// Whether it copies a memory to another.
    #[must_use]
    pub fn copies(&self) -> bool {
        self.has(Op::copies)
    }

    /// The number of operations that ensure a system prompt.
    #[must_use]
    pub fn ensures(&self) -> usize {
        self.count(|op| usize::from(matches!(op, Op::Ensure(_))))
    }

    /// The sum over all operations.
    #[must_use]
    pub fn count(&self, of: impl Fn(&Op) -> usize) -> usize {
        let ops = self.agents.iter().flat_map(|agent| &agent.ops);
        ops.map(|op| of(inner(op))).sum()
    }

    /// Whether it contains an operation like this.
    #[must_use]
    pub fn has(&self, wanted: impl Fn(&Op) -> bool) -> bool {
        self.count(|op| usize::from(wanted(op))) > 0
    }
}

/// The generator of the program with this number.
#[must_use]
pub fn runner(number: u64) -> proptest::test_runner::TestRunner {
    use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

    let mut seed = [0; 32];
    for (to, from) in seed.iter_mut().zip(number.to_le_bytes()) {
        *to = from;
    }
    let config = Config { failure_persistence: None, max_shrink_iters: 2_000, ..Config::default() };
    TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &seed))
}

impl fmt::Debug for Program {
    /// The program, one line for each agent.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, shared_domain, faults, summarizer, inline_flush, past, agents } = self;
        writeln!(
            f,
            "seed {seed}, {} domain, {}% faults, up to {} ms each way, {summarizer:?} summarizer, {} flushes, {} views",
            if *shared_domain { "shared" } else { "separate" },
            faults.percent,
            faults.latency,
            if *inline_flush { "inline" } else { "background" },
            match self.view_bytes() {
                None => "usual",
                Some(0) => "no",
                Some(_) => "tiny",
            },
        )?;
        if let Some(past) = past {
            writeln!(f, "  {past:?}")?;
        }
        for (number, agent) in agents.iter().enumerate() {
            writeln!(
                f,
                "  agent {number} in process {} on memory {}: {:?}",
                agent.process, agent.key, agent.ops
            )?;
        }
        Ok(())
    }
}
