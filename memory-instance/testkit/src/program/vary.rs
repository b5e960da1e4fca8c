//! Variants of operations: the kinds of reads, and writes at a version.

use super::{Op, Program};

/// Replaces most complete reads by the facade's other reads, some appends by conditional ones, and some reads of
/// counters by rewinds. The choice depends only on the position, so a program with a kept seed otherwise stays the same.
pub(super) fn vary_ops(mut program: Program) -> Program {
    for (number, agent) in (0..).zip(&mut program.agents) {
        for (index, op) in (0..).zip(&mut agent.ops) {
            let position = 3 * number + index;
            let op = match op {
                Op::Cancel(_, op) => &mut **op,
                op => op,
            };
            match op {
                Op::Read => *op = read_at(position),
                Op::Append(kinds) if position % 5 == 3 => *op = Op::AppendIf(std::mem::take(kinds)),
                Op::Count if position % 2 == 0 => *op = Op::Rewind(1 + position % 4),
                _ => {}
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
