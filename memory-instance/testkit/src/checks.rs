//! The promises, as checks of what the agents saw.

use std::collections::{BTreeMap, BTreeSet};

use memory_core::{Counters, Outline};

use crate::history::{Answer, Call, History, Item, Recorded, Tag};
use crate::linear::{Verdict, check};
use crate::model::SequentialMemory;
use crate::program::{Op, Program};

/// The most steps of the model for one memory; what takes more is no pass.
const BUDGET: u64 = 50_000;

/// All checks of a whole history, of `keys` memories.
pub(crate) fn check_history(history: &mut History, program: &Program, keys: usize) {
    for key in 0..keys {
        let operations = history.of(key);
        check_linearizable(history, key, &operations);
        check_seen(history, key, &operations, program);
        check_flushes(history, key, &operations, program);
    }
    check_holds(history);
}

/// P1, P2, P3, P8, P10: what every agent saw is explained by one order of all operations.
fn check_linearizable(history: &mut History, key: usize, operations: &[Recorded]) {
    match check(&SequentialMemory::for_history(operations), operations, BUDGET) {
        Verdict::Linearizable => {}
        Verdict::OutOfBudget => {
            history.broken("no verdict", format!("memory {key}: the search took too long"));
        }
        Verdict::Impossible { explained, stuck } => {
            let stuck = operations.get(stuck);
            let (last, count) =
                (explained.last().and_then(|i| operations.get(*i)), explained.len());
            history.broken(
                "linearizable",
                format!("memory {key}: after {count} operations, the last of them {last:?}, nothing explains {stuck:?}"),
            );
        }
    }
}

/// What must hold for each look at a memory by itself.
fn check_seen(history: &mut History, key: usize, operations: &[Recorded], program: &Program) {
    let refused: BTreeSet<Tag> = history.refused.iter().copied().collect();
    let mine: BTreeSet<Tag> = operations.iter().flat_map(sent).collect();
    let has_clear = program.has(|op| matches!(op, Op::Clear));
    for operation in operations {
        let Some((_, Answer::Page(places, _))) = &operation.returned else { continue };
        let tags: Vec<Tag> = places.iter().filter_map(|(_, item)| message(*item)).collect();
        let there: BTreeSet<Tag> = tags.iter().copied().collect();
        if there.len() != tags.len() {
            history.broken("P2", format!("memory {key}: a message is there twice: {tags:?}"));
        }
        if let Some(tag) = tags.iter().find(|tag| refused.contains(tag)) {
            history.broken("P13", format!("memory {key}: message {tag} was told to be refused"));
        }
        if let Some(tag) = tags.iter().find(|tag| !mine.contains(tag) && !refused.contains(tag)) {
            history.broken("P14", format!("memory {key}: message {tag} is another memory's"));
        }
        let tokens: Vec<u64> =
            tags.iter().filter_map(|tag| history.tokens.get(tag)).copied().collect();
        if !tokens.is_sorted() {
            history.broken("P6", format!("memory {key}: written under tokens {tokens:?}"));
        }
        if has_clear {
            continue;
        }
        // A unit goes as a whole, so a result that is there has its call, and a call that was
        // answered before this look has its results.
        for (result, call) in history.answers.clone() {
            let answered = appended_before(operations, result, operation.called);
            let whole = !there.contains(&result) || there.contains(&call);
            let kept = !(there.contains(&call) && answered) || there.contains(&result);
            if !(whole && kept) {
                history.broken(
                    "P5",
                    format!("memory {key}: call {call} and result {result} are apart"),
                );
            }
        }
        for tag in critical_before(operations, operation.called) {
            if !there.contains(&tag) {
                history.broken("P4", format!("memory {key}: critical message {tag} is gone"));
            }
        }
    }
}

fn message(item: Item) -> Option<Tag> {
    match item {
        Item::Message(tag) => Some(tag),
        Item::Summary(_) => None,
    }
}

fn sent(operation: &Recorded) -> Vec<Tag> {
    match &operation.call {
        Call::Append { pieces, .. } => pieces.iter().map(|piece| piece.tag).collect(),
        _ => Vec::new(),
    }
}

/// Whether the message was acknowledged before this time.
fn appended_before(operations: &[Recorded], tag: Tag, time: u64) -> bool {
    operations.iter().any(|operation| {
        sent(operation).contains(&tag)
            && matches!(&operation.returned, Some((at, Answer::Appended { .. })) if *at < time)
    })
}

fn critical_before(operations: &[Recorded], time: u64) -> Vec<Tag> {
    let acknowledged = operations.iter().filter(
        |operation| matches!(&operation.returned, Some((at, Answer::Appended { .. })) if *at < time),
    );
    let pieces = acknowledged.filter_map(|operation| match &operation.call {
        Call::Append { pieces, .. } => Some(pieces),
        _ => None,
    });
    pieces.flatten().filter(|piece| piece.critical).map(|piece| piece.tag).collect()
}

/// P11: a flush that can do nothing is not begun again and again.
fn check_flushes(history: &mut History, key: usize, operations: &[Recorded], program: &Program) {
    let done = operations
        .iter()
        .filter(|operation| matches!(&operation.returned, Some((_, Answer::Spliced(_))) | None));
    let (mut idle, mut useful) = (BTreeSet::new(), 0);
    for operation in done {
        let Call::Splice { summarised, evicted, receipt, .. } = &operation.call else { continue };
        if summarised.is_empty() && evicted.is_empty() {
            idle.insert(*receipt);
        } else {
            useful += 1;
        }
    }
    let by_hand =
        |op: &&Op| matches!(op, Op::Flush) || matches!(op, Op::Cancel(_, op) if **op == Op::Flush);
    let clears =
        |op: &&Op| matches!(op, Op::Clear) || matches!(op, Op::Cancel(_, op) if **op == Op::Clear);
    let ops = || program.agents.iter().flat_map(|agent| &agent.ops);
    // One for each flush by hand, for each mark that was taken away, and for the last one of all.
    let most = ops().filter(by_hand).count() + ops().filter(clears).count() + useful + 2;
    if idle.len() > most {
        let count = idle.len();
        history.broken(
            "P11",
            format!("memory {key}: {count} flushes did nothing, {most} had a reason"),
        );
    }
}

/// P6, P7: holds that are certain do not overlap, and tokens rise.
fn check_holds(history: &mut History) {
    let mut by_key: BTreeMap<usize, Vec<_>> = BTreeMap::new();
    for held in &history.held {
        by_key.entry(held.key).or_default().push(*held);
    }
    for (key, mut holds) in by_key {
        holds.sort_by_key(|held| held.from);
        for pair in holds.windows(2) {
            let [one, two] = pair else { continue };
            if two.from < one.to {
                history.broken("P7", format!("memory {key}: {one:?} and {two:?} overlap"));
            }
            if two.token <= one.token {
                history.broken(
                    "P6",
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
        history.broken("P10", format!("counted {counters:?}, recounted {recount:?}"));
    }
    if !counters.is_conserved() {
        history.broken("P1", format!("not conserved: {counters:?}"));
    }
}
