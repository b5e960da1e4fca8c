//! Programs whose agents ensure a system prompt, all under one name and most of them with different texts.

use proptest::collection::vec;
use proptest::prelude::*;

use super::plain::{batch, look};
use super::vary::vary_ops;
use super::{Agent, Faults, Op, Program, SummarizerKind};
use crate::program::{Turn, TurnStep};

fn op() -> impl Strategy<Value = Op> {
    let calm = prop_oneof![
        12 => prop::bool::weighted(0.3).prop_map(Op::Ensure),
        6 => batch(1, 2).prop_map(Op::Append),
        5 => Just(Op::Delta),
        2 => Just(Op::Read),
        2 => Just(Op::Flush),
        2 => (200..900_u16).prop_map(Op::Context),
        2 => Just(Op::Count),
        1 => Just(Op::Clear),
        1 => prop_oneof![4 => 0..40_u16, 1 => 0..1_500_u16].prop_map(Op::Pause),
        1 => (look(), batch(1, 2), 0..60_u16).prop_map(|(look, kinds, think)| {
            Op::Turn(Turn { look, steps: vec![TurnStep::Append(kinds)], think, stall: 0 })
        }),
        1 => (100..4_500_u16).prop_map(Op::Stall),
    ];
    // One in ten is dropped.
    let cancel = |(polls, op)| match polls {
        0..12 => Op::Cancel(polls, Box::new(op)),
        _ => op,
    };
    (0..120_u8, calm).prop_map(cancel)
}

fn agent() -> impl Strategy<Value = Agent> {
    let key = prop_oneof![7 => Just(0_u8), 1 => Just(1)];
    let last = prop_oneof![14 => Just(None), 1 => Just(Some(Op::Crash))];
    (0..3_u8, key, vec(op(), 1..=8), last).prop_map(|(process, key, mut ops, last)| {
        ops.extend(last);
        Agent { process, key, ops }
    })
}

/// All programs with prompts: 2 to 5 agents in 1 to 3 processes.
pub fn prompts() -> impl Strategy<Value = Program> {
    let faults = (
        prop_oneof![2 => Just(0_u8), 2 => 1..10_u8, 1 => 10..30_u8],
        prop_oneof![1 => Just(0_u8), 3 => 1..12_u8],
    )
        .prop_map(|(percent, latency)| Faults { percent, latency });
    let inline_flush = prop_oneof![4 => Just(false), 1 => Just(true)];
    let parts = (any::<u64>(), any::<bool>(), faults, inline_flush, vec(agent(), 2..=5));
    let programs = parts.prop_map(|(seed, shared_domain, faults, inline_flush, agents)| Program {
        seed,
        shared_domain,
        faults,
        summarizer: SummarizerKind::Quick,
        inline_flush,
        past: None,
        agents,
    });
    programs.prop_map(vary_ops)
}
