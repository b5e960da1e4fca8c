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
    programs.prop_map(vary_ops).prop_map(vary_past).prop_map(vary_edits)
}

/// Replaces some rewinds. In half of the programs without faults and copies, memories are deleted and TTLs end in place
/// of purges, clears and others; in a quarter of them archives end in place of pauses and counts. Without faults, and with pauses
/// in place of suspensions, each request arrives once and soon: a request that is sent again to a memory that was deleted
/// would be a new one. The choice depends only on the seed and the position, so other programs stay the same.
fn vary_past(mut program: Program) -> Program {
    let is_calm = program.faults.percent == 0 && !program.copies();
    let deletes = is_calm && program.seed.is_multiple_of(2);
    let ends = is_calm && program.seed % 4 == 1;
    if let Some(past) = program.past.as_mut().filter(|_| ends) {
        past.keep = Keep::ForAWhile;
    }
    for (number, agent) in (0..).zip(&mut program.agents) {
        for (index, op) in (0..).zip(&mut agent.ops) {
            let position: usize = 3 * number + index;
            let op = match op {
                Op::Cancel(_, op) => &mut **op,
                op => op,
            };
            match op {
                Op::Rewind(_) if position.is_multiple_of(2) => *op = Op::PopTurn,
                Op::Purge | Op::Pause(_) | Op::ReplaceAll(_) if deletes => *op = Op::Delete,
                Op::Clear if deletes && position.is_multiple_of(3) => *op = Op::Expire,
                Op::Clear if deletes => *op = Op::Delete,
                Op::Pause(_) | Op::Count if ends => *op = Op::EndArchives,
                Op::Stall(millis) if deletes || ends => *op = Op::Pause(*millis / 10),
                _ => {}
            }
        }
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
