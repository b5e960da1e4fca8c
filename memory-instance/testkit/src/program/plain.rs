//! Programs whose server never rolls back, and the parts that other families use.

use proptest::collection::vec;
use proptest::prelude::*;

use super::vary::vary_ops;
use super::{Agent, Faults, Kind, Look, Op, Program, SummarizerKind, Turn, TurnStep};

/// The mix of message kinds: mostly plain talk, mostly critical messages, or mostly calls.
pub(super) fn kind(critical: u32, call: u32) -> impl Strategy<Value = Kind> {
    prop_oneof![
        10 => Just(Kind::Talk),
        critical => Just(Kind::Critical),
        2 => Just(Kind::Fact),
        call => Just(Kind::Call),
        3 => Just(Kind::Result),
    ]
}

pub(super) fn batch(critical: u32, call: u32) -> impl Strategy<Value = Vec<Kind>> {
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

pub(super) fn look() -> impl Strategy<Value = Look> {
    prop_oneof![
        3 => Just(Look::Page),
        1 => Just(Look::Messages),
        2 => (40..900_u16).prop_map(Look::Context),
    ]
}

pub(super) fn turn(critical: u32, call: u32) -> impl Strategy<Value = Turn> {
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
            past: None,
            agents,
        });
    programs.prop_map(vary_ops)
}
