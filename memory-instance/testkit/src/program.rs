//! Whole programs: agents, their operations, and faults. Programs whose server rolls back are in
//! `program/rollbacks.rs`, with those in which a TTL ends, and those with system prompts in `program/prompts.rs`.

mod prompts;
mod rollbacks;
mod vary;

use std::fmt;

use proptest::collection::vec;
use proptest::prelude::*;

use self::vary::vary_ops;

pub use self::prompts::prompts;
pub use self::rollbacks::{expiries, rollbacks};

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
    /// The agents.
    pub agents: Vec<Agent>,
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
    /// Starts an operation and drops it after this number of polls.
    Cancel(u8, Box<Self>),
    /// The process dies.
    Crash,
}

/// The mix of message kinds: mostly plain talk, mostly critical messages, or mostly calls.
fn kind(critical: u32, call: u32) -> impl Strategy<Value = Kind> {
    prop_oneof![
        10 => Just(Kind::Talk),
        critical => Just(Kind::Critical),
        2 => Just(Kind::Fact),
        call => Just(Kind::Call),
        3 => Just(Kind::Result),
    ]
}

fn batch(critical: u32, call: u32) -> impl Strategy<Value = Vec<Kind>> {
    let kind = || kind(critical, call);
    prop_oneof![3 => vec(kind(), 1..=1), 2 => vec(kind(), 2..=4)]
}

/// Operations without faults.
fn calm_op(critical: u32, call: u32) -> impl Strategy<Value = Op> {
    let batch = move || batch(critical, call);
    prop_oneof![
        24 => batch().prop_map(Op::Append),
        6 => (batch(), 0..3_u8).prop_map(|(kinds, again)| Op::Retried(kinds, again)),
        5 => Just(Op::Flush),
        5 => Just(Op::Read),
        4 => Just(Op::Delta),
        4 => (40..900_u16).prop_map(Op::Context),
        3 => Just(Op::Count),
        2 => Just(Op::Health),
        3 => prop_oneof![0..20_u16, 0..3_000_u16].prop_map(Op::Pause),
    ]
}

fn look() -> impl Strategy<Value = Look> {
    prop_oneof![
        3 => Just(Look::Page),
        1 => Just(Look::Messages),
        2 => (40..900_u16).prop_map(Look::Context),
    ]
}

fn turn(critical: u32, call: u32) -> impl Strategy<Value = Turn> {
    let step = prop_oneof![
        12 => batch(critical, call).prop_map(TurnStep::Append),
        1 => Just(TurnStep::Clear),
        3 => look().prop_map(TurnStep::Look),
    ];
    let think = prop_oneof![4 => 0..60_u16, 1 => 0..1_200_u16];
    let stall = prop_oneof![5 => Just(0_u16), 2 => 1_500..4_500_u16];
    (look(), vec(step, 1..=4), think, stall).prop_map(|(look, steps, think, stall)| Turn {
        look,
        steps,
        think,
        stall,
    })
}

fn plain_op(critical: u32, call: u32) -> impl Strategy<Value = Op> {
    prop_oneof![
        56 => calm_op(critical, call),
        6 => turn(critical, call).prop_map(Op::Turn),
        4 => prop_oneof![0..300_u16, 0..3_000_u16].prop_map(Op::Hold),
        1 => (0..200_u16).prop_map(Op::TryHold),
        1 => Just(Op::Clear),
        2 => (100..4_500_u16).prop_map(Op::Stall),
        1 => Just(Op::ForgetLeases),
    ]
}

/// Mostly long turns with suspended processes, which compete for the same lease.
fn rival_op(critical: u32, call: u32) -> impl Strategy<Value = Op> {
    let think = (0..2_000_u16, prop_oneof![1 => Just(0_u16), 2 => 1_500..4_500_u16]);
    let turn = (turn(critical, call), think)
        .prop_map(|(turn, (think, stall))| Op::Turn(Turn { think, stall, ..turn }));
    prop_oneof![
        6 => turn,
        4 => batch(critical, call).prop_map(Op::Append),
        1 => (100..4_500_u16).prop_map(Op::Stall),
        1 => Just(Op::Read),
        1 => prop_oneof![0..300_u16, 0..3_000_u16].prop_map(Op::Hold),
    ]
}

fn wild_op(critical: u32, call: u32) -> impl Strategy<Value = Op> {
    let plain = move || plain_op(critical, call);
    prop_oneof![
        20 => plain(),
        3 => (0..12_u8, plain()).prop_map(|(polls, op)| Op::Cancel(polls, Box::new(op))),
    ]
}

fn agent<S: Strategy<Value = Op>>(
    op: fn(u32, u32) -> S,
    crashes: u32,
) -> impl Strategy<Value = Agent> {
    let key = prop_oneof![4 => Just(0_u8), 1 => Just(1)];
    let crash = prop_oneof![12 => Just(false), crashes => Just(true)];
    let ops = prop_oneof![
        10 => vec(op(1, 3), 1..=8),
        1 => vec(op(20, 3), 1..=8),
        1 => vec(op(1, 20), 1..=8),
    ];
    (0..3_u8, key, ops, crash).prop_map(|(process, key, mut ops, crash)| {
        if crash {
            ops.push(Op::Crash);
        }
        Agent { process, key, ops }
    })
}

/// All programs: 2 to 8 agents in 1 to 3 processes. Some of them have no faults.
pub fn program() -> impl Strategy<Value = Program> {
    let agents = prop_oneof![
        6 => vec(agent(wild_op, 1), 2..=8),
        1 => vec(agent(calm_op, 0), 2..=8),
        1 => vec(agent(rival_op, 0), 2..=5),
    ];
    let faults = (
        prop_oneof![2 => Just(0_u8), 2 => 1..10_u8, 1 => 10..30_u8],
        prop_oneof![1 => Just(0_u8), 3 => 1..12_u8],
    )
        .prop_map(|(percent, latency)| Faults { percent, latency });
    let summarizer = prop_oneof![
        4 => Just(SummarizerKind::Quick),
        3 => Just(SummarizerKind::Slow),
        1 => Just(SummarizerKind::Failing),
        1 => Just(SummarizerKind::Hanging),
        1 => Just(SummarizerKind::Empty),
        1 => Just(SummarizerKind::Wordy),
    ];
    let inline_flush = prop_oneof![4 => Just(false), 1 => Just(true)];
    let parts = (any::<u64>(), any::<bool>(), faults, summarizer, inline_flush, agents);
    let programs =
        parts.prop_map(|(seed, shared_domain, faults, summarizer, inline_flush, agents)| Program {
            seed,
            shared_domain,
            faults,
            summarizer,
            inline_flush,
            agents,
        });
    programs.prop_map(vary_ops)
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

    fn drawn(programs: &impl Strategy<Value = Self>, number: u64) -> Self {
        use proptest::strategy::ValueTree;

        let tree = programs.new_tree(&mut runner(number));
        tree.map(|tree| tree.current()).unwrap_or_else(|_| Self {
            seed: number,
            shared_domain: false,
            faults: Faults { percent: 0, latency: 0 },
            summarizer: SummarizerKind::Quick,
            inline_flush: false,
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
            && self.agents.iter().all(|agent| agent.ops.iter().all(calm))
    }

    /// The maximum number of clears of a memory.
    #[must_use]
    pub fn clears(&self) -> usize {
        self.count(|op| match op {
            Op::Clear => 1,
            Op::Turn(turn) => turn.steps.iter().filter(|step| **step == TurnStep::Clear).count(),
            _ => 0,
        })
    }

    /// The number of operations that take messages back.
    #[must_use]
    pub fn rewinds(&self) -> usize {
        self.count(|op| usize::from(matches!(op, Op::Rewind(_))))
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
        ops.map(|op| match op {
            Op::Cancel(_, op) => of(op),
            op => of(op),
        })
        .sum()
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
        let Self { seed, shared_domain, faults, summarizer, inline_flush, agents } = self;
        writeln!(
            f,
            "seed {seed}, {} domain, {}% faults, up to {} ms each way, {summarizer:?} summarizer, {} flushes",
            if *shared_domain { "shared" } else { "separate" },
            faults.percent,
            faults.latency,
            if *inline_flush { "inline" } else { "background" },
        )?;
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
