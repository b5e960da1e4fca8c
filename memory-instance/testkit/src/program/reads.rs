//! The kinds of complete and partial reads.

use super::{Op, Program};

/// Replaces most complete reads by the facade's other reads. The choice depends only on the position, so a program
/// with a kept seed otherwise stays the same.
pub(super) fn vary_reads(mut program: Program) -> Program {
    for (number, agent) in (0..).zip(&mut program.agents) {
        for (index, op) in (0..).zip(&mut agent.ops) {
            let op = match op {
                Op::Cancel(_, op) => &mut **op,
                op => op,
            };
            if *op == Op::Read {
                *op = read_at(3 * number + index);
            }
        }
    }
    program
}

const fn read_at(position: usize) -> Op {
    match position % 4 {
        0 => Op::Read,
        1 => Op::Messages,
        2 => Op::Last(position % 7),
        _ => Op::Before(1 + position % 3),
    }
}
