//! The invariants, as checks of the agents' observations.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use memory_core::store::{Counters, Outline};

use crate::history::{Answer, Call, History, Recorded, Totals};
use crate::linear::{Explanation, check};
use crate::model::{Memories, ModelPart, SequentialMemory, WindowRules};
use crate::past::{check_erased_before_copies, check_past};
use crate::program::{Op, Program};
use crate::rollback::Rollbacks;
use crate::run::resource;
use crate::seen::check_seen;
use crate::violation::Check;

/// The maximum number of model steps for one memory. A search that needs more does not pass.
const BUDGET: u64 = 50_000;

/// The same if the server rolls back: an operation in flight may then have been applied before, after, both times, or
/// never.
const ROLLBACK_BUDGET: u64 = 1_000_000;

/// The history of one memory.
#[derive(Debug, Clone, Copy)]
struct OfMemory<'h> {
    key: usize,
    operations: &'h [Recorded],
    rollbacks: &'h Rollbacks,
}

/// All checks of a whole history, of `keys` memories.
pub(crate) fn check_history(history: &mut History, program: &Program, keys: usize) {
    #[expect(clippy::expect_used, reason = "the model's own resource is good")]
    let windows = WindowRules::new(&resource(program), std::mem::take(&mut history.sent))
        .expect("the resource is good");
    let windows = Arc::new(windows);
    for key in 0..keys {
        let operations = history.of(key);
        let rollbacks = Rollbacks::of(&operations);
        if !program.copies() {
            let memory = OfMemory { key, operations: &operations, rollbacks: &rollbacks };
            check_linearizable(history, memory, program, &windows);
        }
        check_seen(history, key, &operations, program);
        check_totals(history, key, &operations);
        if program.past.is_some() {
            check_past(history, key, &operations);
        }
        // The mark that prevents futile flushes rolls back with the state.
        if rollbacks.is_empty() {
            check_flushes(history, key, &operations, program);
        }
    }
    if program.copies() {
        check_copies(history, program, &windows);
    }
    check_holds(history);
}

/// The same as `check_linearizable` for all memories at once, because each may be a copy of a state of the one before it.
fn check_copies(history: &mut History, program: &Program, windows: &Arc<WindowRules>) {
    let mut all: Vec<Vec<Recorded>> = (0..program.keys()).map(|key| history.of(key)).collect();
    for pair in all.windows(2) {
        let [source, copy] = pair else { continue };
        check_erased_before_copies(history, source, copy);
    }
    for (key, operations) in (0..).zip(&mut all) {
        let rollbacks = Rollbacks::of(operations);
        let repeated = history.repeated(key, operations, &rollbacks);
        operations.extend(repeated);
    }
    let archive = program.past.map(|past| past.max_bytes);
    let no_turns = BTreeMap::new();
    let turns = if program.goes_back() { &no_turns } else { &history.turns };
    let model = |operations: &Vec<Recorded>| {
        SequentialMemory::for_history(operations, turns)
            .with_archive(archive)
            .with_windows(Arc::clone(windows))
    };
    let memories = Memories::new(all.iter().map(model).collect());
    let slices: Vec<&[Recorded]> = all.iter().map(Vec::as_slice).collect();
    let operations = Memories::history(&slices);
    match check(&memories, &operations, ROLLBACK_BUDGET) {
        Explanation::Linearizable => {}
        Explanation::OutOfBudget => {
            history.broken(Check::NoVerdict, "all memories: the search took too long".into());
        }
        Explanation::Impossible { explained, stuck } => {
            let stuck = operations.get(stuck);
            let last = explained.last().and_then(|index| operations.get(*index));
            let what = format!("all memories: after {last:?}, nothing explains {stuck:?}");
            let is_fine_without = |part| {
                let model = memories.without(part);
                check(&model, &operations, ROLLBACK_BUDGET) == Explanation::Linearizable
            };
            let part = ModelPart::ALL.into_iter().find(|part| is_fine_without(*part));
            let alone = Memories::history(slices.get(..1).unwrap_or_default());
            let is_source_fine =
                || check(&memories, &alone, ROLLBACK_BUDGET) == Explanation::Linearizable;
            let found = match part {
                Some(part) => part.check(),
                None if is_source_fine() => Check::CopyWrong,
                None => Check::Unexplained,
            };
            history.broken(found, what);
        }
    }
}

/// P1, P2, P3, P8, P10: one order of all operations explains all answers. If it does not, and does so without one part
/// of the answers, that part is wrong.
fn check_linearizable(
    history: &mut History,
    OfMemory { key, operations, rollbacks }: OfMemory<'_>,
    program: &Program,
    windows: &Arc<WindowRules>,
) {
    let mut operations = operations.to_vec();
    operations.extend(history.repeated(key, &operations, rollbacks));
    let operations = &operations[..];
    // The newest fencing token rolls back with the state. Until the next holder has written, a stale holder may write
    // between that holder's first read and its last write.
    let no_turns = BTreeMap::new();
    // A deletion keeps it.
    let turns = match program.goes_back() && !rollbacks.is_empty() {
        true => &no_turns,
        false => &history.turns,
    };
    let budget = if rollbacks.is_empty() { BUDGET } else { ROLLBACK_BUDGET };
    let memory = SequentialMemory::for_history(operations, turns)
        .with_archive(program.past.map(|past| past.max_bytes))
        .with_windows(Arc::clone(windows));
    match check(&memory, operations, budget) {
        Explanation::Linearizable => {}
        Explanation::OutOfBudget => {
            let what = format!("memory {key}: the search took too long");
            history.broken(Check::NoVerdict, what);
        }
        Explanation::Impossible { explained, stuck } => {
            let stuck = operations.get(stuck);
            let (last, count) =
                (explained.last().and_then(|i| operations.get(*i)), explained.len());
            let what = format!(
                "memory {key}: after {count} operations, the last of them {last:?}, nothing explains {stuck:?}"
            );
            let is_fine_without = |part| {
                check(&memory.without(part), operations, budget) == Explanation::Linearizable
            };
            let part = ModelPart::ALL.into_iter().find(|part| is_fine_without(*part));
            history.broken(part.map_or(Check::Unexplained, ModelPart::check), what);
        }
    }
}

/// P1: all counters account for each message.
fn check_totals(history: &mut History, key: usize, operations: &[Recorded]) {
    for operation in operations {
        let answer = operation.returned.as_ref().map(|(_, answer)| answer);
        let Some(totals) = answer.and_then(Answer::totals) else { continue };
        let Totals {
            present, summaries, appended, summarized, evicted, cleared, withdrawn, ..
        } = *totals;
        if appended + summaries != present + summarized + evicted + cleared + withdrawn {
            history.broken(Check::NotConserved, format!("memory {key}: {totals:?}"));
        }
    }
}

/// P11: a futile flush is not started again and again.
fn check_flushes(history: &mut History, key: usize, operations: &[Recorded], program: &Program) {
    let done = operations
        .iter()
        .filter(|operation| matches!(&operation.returned, Some((_, Answer::Spliced(_))) | None));
    let (mut idle, mut useful) = (BTreeSet::new(), 0);
    for operation in done {
        let Call::Splice { summarized, evicted, withdrawn, replaced, receipt, .. } =
            &operation.call
        else {
            continue;
        };
        let is_idle = summarized.is_empty() && evicted.is_empty() && withdrawn.is_empty();
        if is_idle && replaced.is_empty() {
            idle.insert(*receipt);
        } else {
            useful += 1;
        }
    }
    let by_hand = program.count(|op| usize::from(*op == Op::Flush));
    // One per explicit flush, per removed mark (replacing a prompt removes it too), per process that flushes once
    // after the faults have ended, and one more: the very last flush.
    let processes: BTreeSet<u8> = program.agents.iter().map(|agent| agent.process).collect();
    let most = by_hand
        + program.clears()
        + program.ensures()
        + program.rewinds()
        + program.edits()
        + useful
        + processes.len()
        + 2;
    if idle.len() > most {
        let count = idle.len();
        history.broken(
            Check::IdleFlushes,
            format!("memory {key}: {count} flushes did nothing, {most} had a reason"),
        );
    }
}

/// P6, P7: certain holds do not overlap, and tokens increase.
fn check_holds(history: &mut History) {
    for (check, what) in history.grants.check() {
        history.broken(check, what);
    }
    let mut by_key: BTreeMap<usize, Vec<_>> = BTreeMap::new();
    for held in &history.held {
        by_key.entry(held.key).or_default().push(*held);
    }
    for (key, mut holds) in by_key {
        holds.sort_by_key(|held| held.from);
        for pair in holds.windows(2) {
            let [one, two] = pair else { continue };
            if two.from < one.to {
                history.broken(
                    Check::HoldsOverlap,
                    format!("memory {key}: {one:?} and {two:?} overlap"),
                );
            }
            if two.token <= one.token {
                history.broken(
                    Check::TokenFalls,
                    format!("memory {key}: the token of {two:?} is not above {one:?}"),
                );
            }
        }
    }
}

/// P1, P10: the counters of an outline are those of a recount.
pub(crate) fn check_outline(outline: &Outline, history: &mut History) {
    let recount = Counters::recount(&outline.metas);
    let counters = &outline.head.counters;
    if (counters.present, &counters.classes, counters.summaries)
        != (recount.present, &recount.classes, recount.summaries)
    {
        history.broken(Check::Recount, format!("counted {counters:?}, recounted {recount:?}"));
    }
    if !counters.is_conserved() {
        history.broken(Check::NotConserved, format!("not conserved: {counters:?}"));
    }
}
