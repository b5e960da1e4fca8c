//! Invariants that a single read of a memory can show to be violated.
//!
//! A rollback assigns places again, loses acknowledged writes, and admits writes under an older fencing token. So
//! checks that compare places or tokens of different times are skipped after one, and so is the check of units,
//! because an agent may answer a call that was lost meanwhile. Writes acknowledged since the last rollback must be
//! stored.

use std::collections::{BTreeMap, BTreeSet};

use crate::history::{Answer, Call, History, Item, Piece, Recorded, Tag};
use crate::program::{Kind, Program};
use crate::rollback::Rollbacks;
use crate::violation::Check;

/// The invariants of each single read of a memory, and of the reported places.
pub(crate) fn check_seen(
    history: &mut History,
    key: usize,
    operations: &[Recorded],
    program: &Program,
) {
    let mut broken = Vec::new();
    let rollbacks = Rollbacks::of(operations);
    let mut refused: BTreeSet<Tag> = history.refused.iter().copied().collect();
    // A conditional write that was applied and lost may come too late when it is sent again.
    let repeated = history.repeated(key, operations, &rollbacks);
    for tag in repeated.iter().flat_map(sent) {
        refused.remove(&tag);
    }
    let mut mine: BTreeSet<Tag> = operations.iter().flat_map(sent).collect();
    let is_copy = program.copies() && key > 0;
    if is_copy {
        mine.extend((0..key).flat_map(|source| history.of(source)).flat_map(|one| sent(&one)));
    }
    let batches: Vec<Batch<'_>> = operations.iter().filter_map(Batch::of).collect();
    let goes_back = !rollbacks.is_empty();
    if !goes_back {
        check_order(&batches, &mut broken);
    }
    check_windows(operations, &history.answers, &rollbacks, &mut broken);
    let at: BTreeMap<u64, Tag> = batches.iter().flat_map(Batch::places).collect();
    for operation in operations {
        let Some((seen, answer)) = &operation.returned else { continue };
        let Some(places) = answer.places() else { continue };
        let tags: Vec<Tag> = places.iter().filter_map(|(_, item)| message(*item)).collect();
        let there: BTreeSet<Tag> = tags.iter().copied().collect();
        if there.len() != tags.len() {
            broken.push((Check::Twice, format!("a message is there twice: {tags:?}")));
        }
        if let Some(tag) = tags.iter().find(|tag| refused.contains(tag)) {
            broken.push((Check::ErrorLied, format!("message {tag} was reported as refused")));
        }
        if let Some(tag) = tags.iter().find(|tag| !mine.contains(tag) && !refused.contains(tag)) {
            broken.push((Check::Foreign, format!("message {tag} is another memory's")));
        }
        let tokens: Vec<u64> =
            tags.iter().filter_map(|tag| history.tokens.get(tag)).copied().collect();
        // A copy has tokens of its source, too.
        if !goes_back && !is_copy && !tokens.is_sorted() {
            broken.push((Check::StaleWrite, format!("written under tokens {tokens:?}")));
        }
        if !matches!(answer, Answer::Page(..)) {
            // The rest compares complete reads.
            continue;
        }
        let page = Page {
            called: operation.called,
            seen: *seen,
            places,
            operations,
            rollbacks: &rollbacks,
        };
        page.check_batches(&batches, &mut broken);
        for place in page.removed_before().filter(|_| !goes_back) {
            if let Some(tag) = at.get(&place).filter(|tag| there.contains(tag)) {
                let what = format!("message {tag} is there after a flush that removed it");
                broken.push((Check::CameBack, what));
            }
        }
        // An erasure takes critical messages and parts of units, and a cleared result is another message.
        if is_copy
            || program.clears() + program.edits() > 0
            || program.past.is_some_and(|past| past.clears_results)
        {
            continue;
        }
        // A unit is removed as a whole: a stored result has its call, and a call that was answered before
        // this read has its results.
        for (result, call) in history.answers.iter().filter(|_| !goes_back) {
            let answered = appended_before(operations, *result, operation.called);
            // An agent may answer a call that another one has taken back.
            let whole = !there.contains(result) || there.contains(call) || program.rewinds() > 0;
            let kept = !(there.contains(call) && answered) || there.contains(result);
            if !(whole && kept) {
                let what = format!("call {call} and result {result} are apart");
                broken.push((Check::UnitApart, what));
            }
        }
        for tag in page.critical_before() {
            if !there.contains(&tag) {
                broken.push((Check::CriticalGone, format!("critical message {tag} is missing")));
            }
        }
    }
    for (check, what) in broken {
        history.broken(check, format!("memory {key}: {what}"));
    }
}

/// An append, answered or not.
struct Batch<'h> {
    number: u32,
    pieces: &'h [Piece],
    called: u64,
    /// When it was acknowledged, and its first place.
    acknowledged: Option<(u64, Option<u64>)>,
}

impl<'h> Batch<'h> {
    fn of(operation: &'h Recorded) -> Option<Self> {
        let (Call::Append { batch, pieces, .. } | Call::ReplaceAll { batch, pieces, .. }) =
            &operation.call
        else {
            return None;
        };
        let acknowledged = match &operation.returned {
            Some((at, Answer::Appended { first, .. })) => Some((*at, *first)),
            _ => None,
        };
        Some(Self { number: *batch, pieces, called: operation.called, acknowledged })
    }

    /// The reported places of its messages.
    fn places(&self) -> impl Iterator<Item = (u64, Tag)> {
        let first = self.acknowledged.and_then(|(_, first)| first);
        let tags = self.pieces.iter().map(|piece| piece.tag);
        first.into_iter().flat_map(|first| first..).zip(tags)
    }
}

/// P3: a batch that was sent after another one was acknowledged is stored after it.
fn check_order(batches: &[Batch<'_>], broken: &mut Vec<(Check, String)>) {
    // A batch that was sent more than once may have arrived the first time.
    let mut sent_at: BTreeMap<u32, u64> = BTreeMap::new();
    for batch in batches {
        let at = sent_at.entry(batch.number).or_insert(batch.called);
        *at = batch.called.min(*at);
    }
    for one in batches {
        let Some((at, Some(first))) = one.acknowledged else { continue };
        for two in batches {
            let Some((_, Some(second))) = two.acknowledged else { continue };
            let sent = sent_at.get(&two.number).is_some_and(|sent| *sent > at);
            if sent && two.number != one.number && second <= first {
                let (one, two) = (one.pieces, two.pieces);
                let what = format!("{two:?} at {second} came after {one:?} at {first}");
                broken.push((Check::OutOfOrder, what));
            }
        }
    }
}

/// P9: a window has the order of the memory, with each unit at its first message, and no message twice.
fn check_windows(
    operations: &[Recorded],
    answers: &BTreeMap<Tag, Tag>,
    rollbacks: &Rollbacks,
    broken: &mut Vec<(Check, String)>,
) {
    let mut place_of: BTreeMap<Tag, u64> = BTreeMap::new();
    for operation in operations {
        let answer = operation.returned.as_ref().map(|(_, answer)| answer);
        let places = answer.and_then(Answer::places).unwrap_or_default();
        place_of.extend(places.iter().filter_map(|(at, item)| Some((message(*item)?, *at))));
        if let Some(batch) = Batch::of(operation) {
            place_of.extend(batch.places().map(|(place, tag)| (tag, place)));
        }
    }
    for operation in operations {
        let Some((_, Answer::Window(shown, _))) = &operation.returned else { continue };
        let tags: Vec<Tag> = shown.iter().copied().flatten().collect();
        let there: BTreeSet<Tag> = tags.iter().copied().collect();
        if there.len() != tags.len() {
            broken.push((Check::WindowTwice, format!("a window shows {tags:?}")));
            continue;
        }
        let place = |tag: &Tag| {
            let unit = answers.get(tag).filter(|call| there.contains(call)).unwrap_or(tag);
            Some((place_of.get(unit)?, place_of.get(tag)?))
        };
        let places: Vec<_> = tags.iter().filter_map(place).collect();
        if rollbacks.is_empty() && !places.is_sorted() {
            let what = format!("a window shows {tags:?}, whose places are {places:?}");
            broken.push((Check::WindowOrder, what));
        }
    }
}

/// A read of a memory, and its time.
struct Page<'h> {
    called: u64,
    seen: u64,
    places: &'h [(u64, Item)],
    operations: &'h [Recorded],
    rollbacks: &'h Rollbacks,
}

impl Page<'_> {
    /// P1, P3, P8: of each batch.
    fn check_batches(&self, batches: &[Batch<'_>], broken: &mut Vec<(Check, String)>) {
        let places = self.places.iter();
        let place_of: BTreeMap<Tag, u64> =
            places.filter_map(|(place, item)| Some((message(*item)?, *place))).collect();
        for batch in batches {
            // The place of its first message, computed from each stored one.
            let firsts: Vec<Option<u64>> = (0_u64..)
                .zip(batch.pieces)
                .filter_map(|(index, piece)| Some(place_of.get(&piece.tag)?.checked_sub(index)))
                .collect();
            if firsts.windows(2).any(|pair| pair.first() != pair.last()) {
                let what = format!("batch {:?} is at {place_of:?}", batch.pieces);
                broken.push((Check::BatchTorn, what));
                continue;
            }
            let is_kept = !self.rollbacks.any_in(batch.called, self.seen);
            let told = batch.acknowledged.filter(|(at, _)| is_kept && *at < self.called);
            let Some(first) = told.map(|(_, first)| first).or(firsts.first().copied()) else {
                continue;
            };
            let places = first.into_iter().flat_map(|first| first..);
            let missing = places.zip(batch.pieces).find(|(place, piece)| {
                !place_of.contains_key(&piece.tag) && !self.may_be_gone(*place)
            });
            let Some((place, piece)) = missing else { continue };
            let what = format!("message {} is not at {place}, nor removed", piece.tag);
            if told.is_some() {
                broken.push((Check::Lost, what.clone()));
            }
            if !firsts.is_empty() {
                broken.push((Check::HalfSeen, what));
            }
        }
    }

    /// Whether a flush or a clear that had started by then may have removed this place.
    fn may_be_gone(&self, place: u64) -> bool {
        let begun = self.operations.iter().filter(|operation| operation.called < self.seen);
        begun.into_iter().any(|operation| match &operation.call {
            Call::Clear(_) | Call::Purge(_) | Call::ReplaceAll { .. } => true,
            Call::Replace { place: replaced, .. } => *replaced == place,
            Call::Erase { places, .. } => places.contains(&place),
            Call::Splice { summarized, evicted, withdrawn, replaced, .. } => {
                let gone = [summarized, evicted, withdrawn];
                !matches!(operation.returned, Some((_, Answer::Conflict)))
                    && (gone.iter().any(|gone| gone.contains(&place))
                        || replaced.iter().any(|(replaced, _)| *replaced == place))
            }
            _ => false,
        })
    }

    /// Critical messages that were acknowledged before, and neither lost by a rollback nor taken back.
    fn critical_before(&self) -> impl Iterator<Item = Tag> {
        let acknowledged = self.operations.iter().filter(|operation| {
            let is_kept = !self.rollbacks.any_in(operation.called, self.seen);
            is_kept
                && matches!(&operation.returned, Some((at, Answer::Appended { .. })) if *at < self.called)
        });
        let critical = acknowledged.filter_map(Batch::of).flat_map(|batch| {
            let critical = batch.pieces.iter().filter(|piece| piece.kind == Kind::Critical);
            let critical: BTreeSet<Tag> = critical.map(|piece| piece.tag).collect();
            batch.places().filter(|(_, tag)| critical.contains(tag)).collect::<Vec<_>>()
        });
        critical.filter(|(place, _)| !self.may_be_withdrawn(*place)).map(|(_, tag)| tag)
    }

    /// Whether this place may have been taken back by then.
    fn may_be_withdrawn(&self, place: u64) -> bool {
        let begun = self.operations.iter().filter(|operation| operation.called < self.seen);
        begun.into_iter().any(|operation| match &operation.call {
            Call::Splice { withdrawn, .. } => withdrawn.contains(&place),
            _ => false,
        })
    }

    /// Whether this removal may have been undone by then.
    fn may_be_undone(&self, removal: &Call) -> bool {
        let Call::Splice { receipt: Some(removed), .. } = removal else { return false };
        self.operations.iter().any(|operation| match &operation.call {
            Call::Undo { receipt, .. } => receipt == removed && operation.called < self.seen,
            _ => false,
        })
    }

    /// The places whose messages were certainly removed before, and did not return.
    fn removed_before(&self) -> impl Iterator<Item = u64> {
        let done = self.operations.iter().filter(|operation| {
            matches!(&operation.returned, Some((at, Answer::Spliced(_))) if *at < self.called)
                && !self.may_be_undone(&operation.call)
        });
        let removed = done.filter_map(|operation| match &operation.call {
            Call::Splice { summarized, evicted, withdrawn, .. } => {
                Some(summarized.iter().chain(evicted).chain(withdrawn))
            }
            _ => None,
        });
        removed.flatten().copied()
    }
}

fn message(item: Item) -> Option<Tag> {
    match item {
        Item::Message(tag) => Some(tag),
        Item::Summary(_) | Item::Cleared(_) => None,
    }
}

fn sent(operation: &Recorded) -> Vec<Tag> {
    match &operation.call {
        Call::Append { pieces, .. } | Call::ReplaceAll { pieces, .. } => {
            pieces.iter().map(|piece| piece.tag).collect()
        }
        Call::Ensure { piece, .. } | Call::Replace { piece, .. } => vec![piece.tag],
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
