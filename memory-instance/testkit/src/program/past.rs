//! Programs whose memories have an archive: agents flush, clear and rewind, and undo that, erase messages, read the
//! archive and search.
//!
//! An undo is refused unless it follows its removal closely, so agents act at a high rate, and begin with as many
//! messages as a flush needs.

use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;

use super::plain::{batch, kind, look};
use super::vary::vary_ops;
use super::{Agent, Faults, Keep, Kind, Op, Past, Program, SummarizerKind, Turn, TurnStep};
use crate::history::{Edit, Type};

/// How long removed messages are kept if that ends. Programs are shorter.
pub(crate) const KEPT_FOR: Duration = Duration::from_mins(20);

fn op() -> impl Strategy<Value = Op> {
    let calm = prop_oneof![
        8 => batch(1, 3).prop_map(Op::Append),
        3 => vec(kind(1, 3), 6..=9).prop_map(Op::Append),
        8 => Just(Op::Flush),
        10 => prop_oneof![4 => Just(0_usize), 1 => 1..4_usize].prop_map(Op::Undo),
        6 => (0..40_usize, 1..4_usize).prop_map(|(from, count)| Op::Erase(from, count)),
        5 => (0..12_usize).prop_map(Op::Replace),
        1 => batch(1, 3).prop_map(Op::ReplaceAll),
        5 => batch(1, 3).prop_map(Op::ReplaceAllIf),
        5 => Just(Op::Archive),
        7 => Just(Op::Search),
        3 => Just(Op::Read),
        4 => Just(Op::Delta),
        1 => (200..900_u16).prop_map(Op::Context),
        2 => Just(Op::Count),
        2 => (1..5_usize).prop_map(Op::Rewind),
        2 => Just(Op::Clear),
        1 => Just(Op::Purge),
        1 => prop_oneof![4 => 0..40_u16, 1 => 0..1_500_u16].prop_map(Op::Pause),
        1 => (look(), batch(1, 2), 0..60_u16).prop_map(|(look, kinds, think)| {
            Op::Turn(Turn { look, steps: vec![TurnStep::Append(kinds)], think, stall: 0 })
        }),
        1 => (100..2_500_u16).prop_map(Op::Stall),
    ];
    // One in ten is dropped.
    let cancel = |(polls, op)| match polls {
        0..12 => Op::Cancel(polls, Box::new(op)),
        _ => op,
    };
    (0..120_u8, calm).prop_map(cancel)
}

/// Of an agent of the second memory. It is copied only while it does not exist, so few of them write.
fn second_op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (0..60_u16).prop_map(Op::Pause),
        3 => Just(Op::Read),
        3 => Just(Op::Search),
        2 => Just(Op::Archive),
        2 => Just(Op::Undo(0)),
        1 => (0..40_usize, 1..4_usize).prop_map(|(from, count)| Op::Erase(from, count)),
        1 => Just(Op::Count),
    ]
}

/// An agent that copies the first memory, and then may change it.
fn copier() -> impl Strategy<Value = Vec<Op>> {
    let copy = prop_oneof![
        2 => Just(Op::Fork(0)),
        1 => (1..6_usize).prop_map(Op::Fork),
        2 => Just(Op::CopyTo),
    ];
    (0..60_u16, copy, vec(op(), 0..3))
        .prop_map(|(pause, copy, more)| [vec![Op::Pause(pause), copy], more].concat())
}

/// The second memory is a copy.
fn with_copies(mut agents: Vec<Agent>) -> impl Strategy<Value = Vec<Agent>> {
    agents.iter_mut().for_each(|agent| agent.key = 0);
    let readers = (0..3_u8, vec(second_op(), 2..=5));
    let copiers = vec((0..3_u8, copier()), 1..=2);
    (copiers, readers).prop_map(move |(copiers, (process, ops))| {
        let copiers = copiers.into_iter().map(|(process, ops)| Agent { process, key: 0, ops });
        let reader = Agent { process, key: 1, ops };
        agents.iter().take(2).cloned().chain(copiers).chain([reader]).collect()
    })
}

/// Mostly one operation, else a removal that is undone.
fn ops() -> impl Strategy<Value = Vec<Op>> {
    // A flush does nothing below half of the budget.
    let more = || vec(kind(0, 3), 9..=12).prop_map(Op::Append);
    let results = || {
        let units = [Kind::Call, Kind::Result].repeat(4);
        Just(Op::Append([vec![Kind::Talk], units].concat()))
    };
    prop_oneof![
        9 => op().prop_map(|op| vec![op]),
        2 => more().prop_map(|more| vec![more, Op::Flush, Op::Undo(0)]),
        1 => results().prop_map(|results| vec![results, Op::Flush, Op::Undo(0)]),
        1 => (more(), 0..2_usize)
            .prop_map(|(more, newer)| vec![Op::Flush, more, Op::Flush, Op::Undo(newer), Op::Undo(0)]),
        1 => (0..20_usize).prop_map(|from| vec![Op::Flush, Op::Erase(from, 1), Op::Undo(0)]),
    ]
}

fn agent() -> impl Strategy<Value = Agent> {
    let key = prop_oneof![9 => Just(0_u8), 1 => Just(1)];
    let first = prop_oneof![1 => Just(None), 1 => vec(kind(0, 4), 5..=9).prop_map(Some)];
    let last = prop_oneof![14 => Just(None), 1 => Just(Some(Op::Crash))];
    (0..3_u8, key, first, vec(ops(), 2..=7), last).prop_map(|(process, key, first, ops, last)| {
        let ops = first.map(Op::Append).into_iter().chain(ops.concat()).chain(last).collect();
        Agent { process, key, ops }
    })
}

/// All programs with archives: 2 to 4 agents in 1 to 3 processes.
pub fn past() -> impl Strategy<Value = Program> {
    let faults = (
        prop_oneof![2 => Just(0_u8), 2 => 1..10_u8, 1 => 10..30_u8],
        prop_oneof![1 => Just(0_u8), 3 => 1..12_u8],
    )
        .prop_map(|(percent, latency)| Faults { percent, latency });
    let summarizer = prop_oneof![3 => Just(SummarizerKind::Quick), 1 => Just(SummarizerKind::Slow)];
    let inline_flush = prop_oneof![4 => Just(false), 1 => Just(true)];
    // A message has about 60 bytes.
    let max_bytes = prop_oneof![3 => Just(1_u64 << 20), 1 => 500..2_500_u64];
    let past = (max_bytes, any::<bool>()).prop_map(|(max_bytes, clears_results)| Past {
        max_bytes,
        clears_results,
        keep: Keep::Forever,
    });
    let agents = || vec(agent(), 2..=4);
    let agents =
        prop_oneof![3 => agents().boxed(), 1 => agents().prop_flat_map(with_copies).boxed()];
    let parts = (any::<u64>(), any::<bool>(), faults, summarizer, inline_flush, past, agents);
    let programs =
        parts.prop_map(|(seed, shared_domain, faults, summarizer, inline_flush, past, agents)| {
            Program {
                seed,
                shared_domain,
                faults,
                summarizer,
                inline_flush,
                past: Some(past),
                agents,
            }
        });
    let programs = programs.prop_map(vary_ops).prop_map(vary_past).prop_map(vary_copies);
    programs.prop_map(vary_prompts).prop_map(vary_edits).prop_map(repeat_copies)
}

/// The losses of a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Losses {
    None,
    /// Memories are deleted, and TTLs end.
    Deletions,
    /// The time for which removed messages are kept ends.
    Archives,
    /// The server rolls back.
    Rollbacks,
}

/// The most rollbacks of a program. Each one multiplies the orders that are possible.
const MOST_ROLLBACKS: usize = 3;

impl Losses {
    /// Those of this program, by its seed.
    ///
    /// A server that rolls back has no copies: one is written in parts, and its reader compares only the generation of its
    /// source, which a rollback may give twice. So a copy may have messages of both times.
    fn of(program: &Program) -> Self {
        if program.is_quiet() {
            return match program.seed % 4 {
                0 | 2 => Self::Deletions,
                1 => Self::Archives,
                _ => Self::None,
            };
        }
        match (program.seed / 4) % 4 {
            0 => Self::Deletions,
            1 => Self::Archives,
            2 if program.copies() => Self::Deletions,
            2 => Self::Rollbacks,
            _ => Self::None,
        }
    }
}

impl Program {
    /// Whether no requests fail, and no memory is copied.
    fn is_quiet(&self) -> bool {
        self.faults.percent == 0 && !self.copies()
    }
}

/// Replaces some rewinds. In most programs memories are deleted and TTLs end in place of purges, clears and others, or
/// archives end in place of pauses and counts, or the server rolls back. In those without faults and copies each request
/// arrives once and soon, because pauses take the place of suspensions. In the others a request may be sent again to a
/// memory that was deleted, where it is a new one. The choice depends only on the seed and the position.
fn vary_past(mut program: Program) -> Program {
    let losses = Losses::of(&program);
    let (is_quiet, copies) = (program.is_quiet(), program.copies());
    if let Some(past) = program.past.as_mut().filter(|_| losses == Losses::Archives) {
        past.keep = Keep::ForAWhile;
    }
    let mut rollbacks = 0;
    for (number, agent) in (0..).zip(&mut program.agents) {
        for (index, op) in (0..).zip(&mut agent.ops) {
            let position: usize = 3 * number + index;
            let op = match op {
                Op::Cancel(_, op) => &mut **op,
                op => op,
            };
            match op {
                Op::Rewind(_) if position.is_multiple_of(2) => *op = Op::PopTurn,
                Op::Stall(millis) if is_quiet && losses != Losses::None => {
                    *op = Op::Pause(*millis / 10);
                }
                _ => {}
            }
            match (losses, &*op) {
                // Otherwise there would be nothing to copy.
                (Losses::Deletions, Op::Pause(_)) if copies && agent.key == 0 => {}
                (Losses::Deletions, Op::Purge | Op::Pause(_) | Op::ReplaceAll(_)) => {
                    *op = Op::Delete;
                }
                (Losses::Deletions, Op::Clear) if position.is_multiple_of(3) => *op = Op::Expire,
                (Losses::Deletions, Op::Clear) => *op = Op::Delete,
                (Losses::Archives, Op::Pause(_) | Op::Count) => *op = Op::EndArchives,
                (Losses::Rollbacks, Op::Count | Op::Context(_)) => *op = Op::Keep,
                (Losses::Rollbacks, Op::Pause(_) | Op::Purge | Op::ReplaceAll(_))
                    if rollbacks < MOST_ROLLBACKS =>
                {
                    rollbacks += 1;
                    *op = Op::GoBack;
                }
                _ => {}
            }
        }
    }
    program
}

/// Copies the second memory to a third one in half of the programs with copies.
fn vary_copies(mut program: Program) -> Program {
    if !program.copies() {
        return program;
    }
    if !(program.seed / 16).is_multiple_of(2) {
        return program;
    }
    let onward = [Op::CopyTo, Op::Fork(0), Op::BackUp, Op::Fork(1)];
    let from = usize::try_from(program.seed / 32 % 4).unwrap_or_default();
    let mut onward = onward.into_iter().cycle().skip(from);
    for agent in program.agents.iter_mut().filter(|agent| agent.key == 1) {
        let copies = onward.by_ref().take(2);
        agent.ops.extend(copies.flat_map(|copy| [Op::Pause(120), copy]));
    }
    let ops = vec![Op::Pause(200), Op::Search, Op::Archive, Op::Undo(0), Op::Read, Op::Count];
    program.agents.push(Agent { process: 0, key: 2, ops });
    program
}

/// Where memories are deleted, a copy is at last deleted, and made again.
fn repeat_copies(mut program: Program) -> Program {
    if program.loses() {
        let is_copier = |agent: &&mut Agent| agent.ops.iter().any(|op| super::inner(op).copies());
        if let Some(agent) = program.agents.iter_mut().find(is_copier) {
            let again = [Op::DeleteNext, Op::CopyTo];
            agent.ops.push(Op::Pause(1_500));
            agent.ops.extend(again.iter().chain(&again).cloned());
        }
    }
    program
}

/// Ensures a system prompt in a fifth of the programs, also around rewinds that are undone. As above, other programs stay
/// the same.
///
/// None in programs whose server rolls back: a prompt is looked for and then appended, under a lease. If the server
/// returns to a state with a prompt in between, there are two.
fn vary_prompts(mut program: Program) -> Program {
    if !program.seed.is_multiple_of(5) || program.has(|op| *op == Op::GoBack) {
        return program;
    }
    for (number, agent) in (0..).zip(&mut program.agents) {
        let mut ops = Vec::new();
        for (index, mut op) in (0..).zip(std::mem::take(&mut agent.ops)) {
            let position: usize = 3 * number + index;
            let inner = match &mut op {
                Op::Cancel(_, op) => &mut **op,
                op => op,
            };
            match inner {
                Op::Read | Op::Messages | Op::Context(_) => {
                    *inner = Op::Ensure(position.is_multiple_of(2));
                }
                Op::Rewind(count) if agent.key == 0 => {
                    *count = 1;
                    ops.push(Op::Ensure(false));
                    ops.extend([op, Op::Undo(0), Op::Ensure(true)]);
                    continue;
                }
                // An early place may be that of the prompt.
                Op::Replace(at) => {
                    *inner = Op::Edit(*at % 3, Edit::Priority(1));
                    ops.extend([op, Op::Ensure(true)]);
                    continue;
                }
                _ => {}
            }
            ops.push(op);
        }
        if number == 0 {
            let changed = [Op::Ensure(false), Op::Edit(0, Edit::Priority(1)), Op::Ensure(true)];
            ops.splice(0..0, changed);
        }
        if agent.key == 0 {
            ops.extend([Op::Ensure(false), Op::Rewind(1), Op::Undo(0), Op::Ensure(true)]);
        }
        agent.ops = ops;
    }
    program
}

/// Changes settings in place of some replacements, and has summaries rewritten after erasures, in a third of the programs;
/// makes backups in place of half of the copies. As above, other programs stay the same.
fn vary_edits(mut program: Program) -> Program {
    let edits = program.seed.is_multiple_of(3);
    for (number, agent) in (0..).zip(&mut program.agents) {
        let mut ops = Vec::new();
        for (index, mut op) in (0..).zip(std::mem::take(&mut agent.ops)) {
            let position: usize = 3 * number + index;
            let inner = match &mut op {
                Op::Cancel(_, op) => &mut **op,
                op => op,
            };
            let before = inner.clone();
            match inner {
                Op::CopyTo if edits || position.is_multiple_of(2) => *inner = Op::BackUp,
                Op::Fork(0) if edits => *inner = Op::BackUp,
                Op::Replace(at) if edits => *inner = edit_at(position, *at),
                Op::ReplaceAllIf(_) if edits => *inner = edit_at(position, 0),
                Op::ReplaceAll(_) if edits => *inner = Op::Rewrite,
                Op::Search if position.is_multiple_of(3) => *inner = Op::Inspect,
                Op::Search if position % 3 == 1 => *inner = Op::Originals(1 + position % 4),
                _ => {}
            }
            if matches!(inner, Op::BackUp) && position.is_multiple_of(2) {
                // With a summary and an archive.
                ops.extend([Op::Append(vec![Kind::Talk; 12]), Op::Flush]);
            }
            ops.push(op);
            match before {
                Op::Erase(..) if edits => ops.push(Op::Rewrite),
                // The first place is that of the summary, if there is one.
                Op::Flush if edits && position % 3 == 1 => ops.push(edit_at(position, 0)),
                Op::Undo(_) if edits && position % 4 == 1 => {
                    let pinned = Op::Edit(position % 3, Edit::Priority(0));
                    ops.extend([pinned, Op::Append(vec![Kind::Talk; 12]), Op::Flush]);
                }
                _ => {}
            }
        }
        agent.ops = ops;
    }
    program
}

/// An edit of the message at this one of the places in use; a replacement at some positions.
const fn edit_at(position: usize, at: usize) -> Op {
    match position % 7 {
        0 | 4 => Op::Edit(at, Edit::Priority(0)),
        1 => Op::Edit(at, Edit::Type(Type::Facts)),
        2 => Op::Edit(at, Edit::Priority(5)),
        3 => Op::Edit(at, Edit::Type(Type::Conversation)),
        5 => Op::Edit(at, Edit::Priority(1)),
        _ => Op::Replace(at),
    }
}
