//! Invariants of the past of a memory that single answers can show to be violated.

use std::collections::BTreeSet;

use crate::history::{Answer, Call, History, Hit, Item, Recorded, Tag};
use crate::rollback::Rollbacks;
use crate::violation::Check;

/// The invariants of the archive and of erasures of one memory.
pub(crate) fn check_past(history: &mut History, key: usize, operations: &[Recorded]) {
    let mut broken = Vec::new();
    check_archived_once(operations, &mut broken);
    check_erased(operations, &mut broken);
    let explicit = history.flushes.iter().filter(|(of, ..)| *of == key);
    let explicit: Vec<_> = explicit.map(|(_, called, returned)| (*called, *returned)).collect();
    check_held(operations, &explicit, &mut broken);
    for (check, what) in broken {
        history.broken(check, format!("memory {key}: {what}"));
    }
}

/// The texts of system prompts. Each may be stored again, as another message.
fn prompts(operations: &[Recorded]) -> BTreeSet<Tag> {
    let ensured = operations.iter().filter_map(|operation| match &operation.call {
        Call::Ensure { piece, .. } => Some(piece.tag),
        _ => None,
    });
    ensured.collect()
}

/// P17: a message is either present or archived, and once.
fn check_archived_once(operations: &[Recorded], broken: &mut Vec<(Check, String)>) {
    let prompts = prompts(operations);
    for operation in operations {
        let Some((_, Answer::Found(hits))) = &operation.returned else { continue };
        let mut seen = BTreeSet::new();
        for Hit { place, tag, .. } in hits {
            let tag = tag.filter(|tag| !prompts.contains(tag));
            if let Some(tag) = tag.filter(|tag| !seen.insert(*tag)) {
                let what = format!("message {tag} at {place} was found twice: {hits:?}");
                broken.push((Check::ArchivedTwice, what));
            }
        }
    }
}

/// The messages of an answer, with their places.
fn shown(answer: &Answer) -> Vec<(u64, Tag)> {
    let tagged = |(place, item): &(u64, Item)| match item {
        Item::Message(tag) => Some((*place, *tag)),
        Item::Summary(_) | Item::Cleared(_) => None,
    };
    match answer {
        Answer::Page(places, _) | Answer::Before(places, _) | Answer::Archived(places) => {
            places.iter().filter_map(tagged).collect()
        }
        Answer::Found(hits) => hits.iter().filter_map(|hit| Some((hit.place, hit.tag?))).collect(),
        _ => Vec::new(),
    }
}

/// A completed erasure.
struct Gone {
    /// When it was answered.
    erased: u64,
    /// The messages that were known to have its places before. Each of these was erased or removed.
    tags: BTreeSet<Tag>,
}

/// The completed erasures. A rollback assigns places again, so one that had a rollback meanwhile is left out.
fn erasures(operations: &[Recorded], rollbacks: &Rollbacks) -> Vec<Gone> {
    let prompts = prompts(operations);
    let erasures = operations.iter().filter_map(|erasure| {
        let Some((erased, Answer::Erased(present, archived))) = &erasure.returned else {
            return None;
        };
        let epoch = rollbacks.before(erasure.called, *erased)?;
        let places: BTreeSet<u64> = present.iter().chain(archived).copied().collect();
        let mut tags = BTreeSet::new();
        for operation in operations {
            let Some((at, answer)) = &operation.returned else { continue };
            if *at > erasure.called || rollbacks.before(operation.called, *at) != Some(epoch) {
                continue;
            }
            if let (
                Call::Append { pieces, .. } | Call::ReplaceAll { pieces, .. },
                Answer::Appended { first: Some(first), .. },
            ) = (&operation.call, answer)
            {
                let sent = (*first..).zip(pieces).map(|(place, piece)| (place, piece.tag));
                tags.extend(sent.filter(|(place, _)| places.contains(place)).map(|(_, tag)| tag));
            }
            let known = shown(answer).into_iter().filter(|(place, _)| places.contains(place));
            tags.extend(known.map(|(_, tag)| tag).filter(|tag| !prompts.contains(tag)));
        }
        Some(Gone { erased: *erased, tags })
    });
    erasures.collect()
}

/// The first of these messages that an answer shows.
fn first_shown(operation: &Recorded, gone: &BTreeSet<Tag>) -> Option<Tag> {
    let (_, answer) = operation.returned.as_ref()?;
    let mut tags: Vec<Tag> = shown(answer).into_iter().map(|(_, tag)| tag).collect();
    if let Answer::Window(window, _) = answer {
        tags.extend(window.iter().flatten());
    }
    tags.into_iter().find(|tag| gone.contains(tag))
}

/// P18: an erased message is never shown again, until a rollback.
fn check_erased(operations: &[Recorded], broken: &mut Vec<(Check, String)>) {
    let rollbacks = Rollbacks::of(operations);
    for Gone { erased, tags } in erasures(operations, &rollbacks) {
        for operation in operations.iter().filter(|operation| operation.called > erased) {
            let seen = operation.returned.as_ref().map_or(u64::MAX, |(at, _)| *at);
            if rollbacks.any_in(erased, seen) {
                continue;
            }
            if let Some(tag) = first_shown(operation, &tags) {
                let what = format!("message {tag} is shown after its erasure: {operation:?}");
                broken.push((Check::ErasedShown, what));
            }
        }
    }
}

/// P18: a copy that was begun after an erasure does not have the message. After a rollback of its source it may.
pub(crate) fn check_erased_before_copies(
    history: &mut History,
    source: &[Recorded],
    copy: &[Recorded],
) {
    let rollbacks = Rollbacks::of(source);
    if !rollbacks.is_empty() {
        return;
    }
    for Gone { erased, tags } in erasures(source, &rollbacks) {
        let is_earlier = |operation: &Recorded| {
            matches!(operation.call, Call::Snapshot) && operation.called < erased
        };
        if source.iter().any(is_earlier) {
            continue;
        }
        if let Some(tag) = copy.iter().find_map(|operation| first_shown(operation, &tags)) {
            let what = format!("message {tag} was erased, and is in a later copy");
            history.broken(Check::ErasedShown, what);
        }
    }
}

/// P17: after an undo no automatic flush takes messages, until an explicit one, or until all are removed. The explicit
/// flushes are given by their times.
fn check_held(
    operations: &[Recorded],
    explicit: &[(u64, Option<u64>)],
    broken: &mut Vec<(Check, String)>,
) {
    let undos = operations.iter().filter_map(|operation| match &operation.returned {
        Some((at, Answer::Undone)) => Some((operation.called, *at)),
        _ => None,
    });
    for (undo_called, undone) in undos {
        for operation in operations.iter().filter(|operation| operation.called > undone) {
            let Call::Splice { summarized, evicted, replaced, rewrites: false, .. } =
                &operation.call
            else {
                continue;
            };
            let Some((committed, Answer::Spliced(_))) = &operation.returned else { continue };
            if summarized.is_empty() && evicted.is_empty() && replaced.is_empty() {
                continue;
            }
            // Whether it may have ended the state that the undo began.
            let may_end = |called: u64, returned: Option<u64>| {
                called < *committed && returned.is_none_or(|at| at > undo_called)
            };
            let removed_all = operations.iter().any(|operation| {
                let is_it = matches!(
                    operation.call,
                    Call::Clear(_)
                        | Call::Purge(_)
                        | Call::ReplaceAll { .. }
                        | Call::Expire
                        | Call::Delete { .. }
                        | Call::GoBack
                );
                is_it && may_end(operation.called, operation.returned.as_ref().map(|(at, _)| *at))
            });
            let was_asked = explicit.iter().any(|(called, returned)| may_end(*called, *returned));
            if !removed_all && !was_asked {
                let what = format!("a flush took messages after an undo: {operation:?}");
                broken.push((Check::HeldFlush, what));
            }
        }
    }
}
