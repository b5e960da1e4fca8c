//! Programs whose server rolls back to an earlier state, or removes a memory after its TTL.
//!
//! After a rollback a cursor, an outline or a plan is wrong only if it was made between the copy and the rollback, and
//! if as many messages as were lost were then appended in the same generation. So the programs save and roll back at a
//! high rate, agents append and read without long pauses, and readers are suspended between two requests.

use proptest::collection::vec;
use proptest::prelude::*;

use super::plain::{batch, kind, turn};
use super::vary::vary_ops;
use super::{Agent, Faults, Op, Program, SummarizerKind};

/// Operations whose effect or answer depends on earlier reads: delta reads, flushes, windows, and batches that are sent
/// again.
fn op(critical: u32, call: u32) -> impl Strategy<Value = Op> {
    let batch = move || batch(critical, call);
    let calm = prop_oneof![
        24 => batch().prop_map(Op::Append),
        4 => (batch(), 0..3_u8).prop_map(|(kinds, again)| Op::Retried(kinds, again)),
        10 => Just(Op::Delta),
        1 => Just(Op::Read),
        6 => Just(Op::Flush),
        10 => (200..900_u16).prop_map(Op::Context),
        1 => Just(Op::Count),
        2 => prop_oneof![4 => 0..40_u16, 1 => 0..1_500_u16].prop_map(Op::Pause),
        1 => turn(critical, call).prop_map(Op::Turn),
        2 => (50..600_u16).prop_map(Op::Stall),
    ];
    // One in ten is dropped.
    let cancel = |(polls, op)| match polls {
        0..12 => Op::Cancel(polls, Box::new(op)),
        _ => op,
    };
    (0..120_u8, calm).prop_map(cancel)
}

/// An agent that writes and reads.
fn agent() -> impl Strategy<Value = Agent> {
    let key = prop_oneof![7 => Just(0_u8), 1 => Just(1)];
    let ops = prop_oneof![
        5 => vec(op(2, 3), 4..=16),
        2 => vec(op(12, 3), 4..=16),
        1 => vec(op(1, 12), 4..=16),
    ];
    let last =
        prop_oneof![14 => Just(None), 1 => Just(Some(Op::Crash)), 1 => Just(Some(Op::Clear))];
    (0..3_u8, key, ops, last).prop_map(|(process, key, mut ops, last)| {
        ops.extend(last);
        Agent { process, key, ops }
    })
}

/// A process that reads repeatedly and is sometimes suspended, also between the two requests of a read.
fn readers() -> impl Strategy<Value = Vec<Agent>> {
    let look = prop_oneof![
        2 => Just(Op::Delta),
        6 => (200..900_u16).prop_map(Op::Context),
        1 => (0..40_u16).prop_map(Op::Pause),
    ];
    let still = (0..250_u16, 60..400_u16)
        .prop_map(|(pause, stall)| vec![Op::Pause(pause), Op::Stall(stall)]);
    (vec(look, 4..=16), vec(still, 1..=3)).prop_map(|(looks, stills)| {
        let agent = |ops| Agent { process: 2, key: 0, ops };
        vec![agent(looks), agent(stills.concat())]
    })
}

/// Saves the state of the server and rolls back to it: once or several times, also twice to the same state, and to the
/// empty one.
fn operator() -> impl Strategy<Value = Agent> {
    let pause = |most: u16| (0..most).prop_map(Op::Pause);
    let keep = prop_oneof![1 => Just(None), 9 => Just(Some(Op::Keep))];
    let round = (pause(250), keep, pause(100)).prop_map(|(before, keep, after)| {
        let ops = [Some(before), keep, Some(after), Some(Op::GoBack)];
        ops.into_iter().flatten().collect::<Vec<_>>()
    });
    // With many messages from the beginning, the first flush comes early.
    let first = prop_oneof![2 => vec(kind(1, 3), 1..=2), 1 => vec(kind(1, 3), 6..=12)];
    let first = first.prop_map(Op::Append);
    (0..2_u8, first, vec(round, 1..=4)).prop_map(|(process, first, rounds)| {
        let ops = [vec![first], rounds.concat()].concat();
        Agent { process, key: 0, ops }
    })
}

/// All programs with rollbacks: 2 to 5 agents in 1 to 3 processes, a process of readers, and an operator.
pub fn rollbacks() -> impl Strategy<Value = Program> {
    let faults = (
        prop_oneof![2 => Just(0_u8), 2 => 1..10_u8, 1 => 10..30_u8],
        prop_oneof![1 => Just(0_u8), 3 => 1..12_u8],
    )
        .prop_map(|(percent, latency)| Faults { percent, latency });
    let summarizer = prop_oneof![
        1 => Just(SummarizerKind::Quick),
        4 => Just(SummarizerKind::Slow),
        1 => Just(SummarizerKind::Hanging),
    ];
    let inline_flush = prop_oneof![4 => Just(false), 1 => Just(true)];
    let agents = (vec(agent(), 2..=5), readers(), operator());
    let agents = agents.prop_map(|(mut agents, readers, operator)| {
        agents.extend(readers);
        agents.push(operator);
        agents
    });
    let parts = (any::<u64>(), any::<bool>(), faults, summarizer, inline_flush, agents);
    let programs =
        parts.prop_map(|(seed, shared_domain, faults, summarizer, inline_flush, agents)| Program {
            seed,
            shared_domain,
            faults,
            summarizer,
            inline_flush,
            past: None,
            agents,
        });
    programs.prop_map(vary_ops)
}

/// All programs in which the TTL of a memory ends: those with rollbacks, with the end of a TTL in place of each rollback.
pub fn expiries() -> impl Strategy<Value = Program> {
    rollbacks().prop_map(|mut program| {
        let ops = program.agents.iter_mut().flat_map(|agent| &mut agent.ops);
        for op in ops.filter(|op| **op == Op::GoBack) {
            *op = Op::Expire;
        }
        program
    })
}
