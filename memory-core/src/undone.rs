//! The receipts of flushes and rewinds that were not undone.

use std::cmp::Reverse;
use std::collections::HashSet;

use crate::archive::ArchivedRemoval;
use crate::receipt::{FlushReceipt, SequenceSet};
use crate::stored::MessageMeta;

/// The receipts of a memory that were not undone, newest first: those that the store keeps, newest first, and older
/// ones of the archive, whose removals may have any order.
///
/// A store keeps the receipt of a flush that was undone. A place is assigned once, so a removed message at its place
/// returned by an undo. It is present, or a later flush or rewind removed it again. A removal that is in the archive was
/// not undone. Without evidence a receipt is in effect, such as after an erasure of the messages that returned.
#[must_use]
pub fn receipts_in_effect<'a>(
    kept: &[FlushReceipt],
    removals: impl IntoIterator<Item = &'a ArchivedRemoval>,
    present: &[MessageMeta],
) -> Vec<FlushReceipt> {
    let newest: HashSet<_> = kept.iter().map(|receipt| receipt.id).collect();
    let archived = removals.into_iter();
    let mut archived: Vec<_> =
        archived.filter_map(|removal| Some((removal.number, removal.receipt.as_ref()?))).collect();
    archived.sort_unstable_by_key(|(number, _)| Reverse(*number));
    let not_undone: HashSet<_> = archived.iter().map(|(_, receipt)| receipt.id).collect();
    let older = archived.into_iter().map(|(_, receipt)| receipt);
    let older = older.filter(|receipt| !newest.contains(&receipt.id));

    let mut in_effect = Vec::new();
    let mut removed_later = SequenceSet::default();
    for receipt in kept.iter().chain(older) {
        if not_undone.contains(&receipt.id) || !is_undone(receipt, &removed_later, present) {
            in_effect.push(receipt.clone());
        }
        for removed in receipt.removed() {
            removed_later = removed_later.union(removed);
        }
    }
    in_effect
}

/// Whether a message that this flush or rewind removed or replaced returned.
fn is_undone(receipt: &FlushReceipt, removed_later: &SequenceSet, present: &[MessageMeta]) -> bool {
    // The summary has the place of a message that it replaced, and may be removed like any other one.
    let own: SequenceSet = receipt.summary.iter().map(|summary| summary.sequence).collect();
    let is_removed = |meta: &MessageMeta| {
        receipt.removed().into_iter().any(|removed| removed.contains(meta.sequence))
    };
    let is_own = |meta: &MessageMeta| meta.is_summary() && own.contains(meta.sequence);
    let removed = receipt.removed();
    let is_in_place = |one: &MessageMeta| {
        let replaced = receipt.replaced.iter().find(|it| it.sequence == one.sequence);
        replaced.map(|replaced| replaced.id == one.id)
    };
    let mut in_place = present.iter().filter_map(is_in_place).peekable();
    present.iter().any(|meta| is_removed(meta) && !is_own(meta))
        || removed.iter().any(|removed| removed.without(&own).meets(removed_later))
        || removed.iter().all(|removed| removed.is_empty())
            && in_place.peek().is_some()
            && !in_place.any(|is_in_place| is_in_place)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use uuid::Uuid;

    use super::*;
    use crate::archive::{RemovalCause, Retention};
    use crate::priority::ContentType;
    use crate::receipt::{ReplacedRecord, SummaryRecord};
    use crate::stored::{MessageId, Sequence};

    fn places(numbers: impl IntoIterator<Item = u64>) -> SequenceSet {
        numbers.into_iter().map(Sequence::new).collect()
    }

    fn id(number: u64) -> MessageId {
        MessageId::new(Uuid::from_u128(number.into()))
    }

    fn receipt(number: u128) -> FlushReceipt {
        FlushReceipt::new(Uuid::from_u128(number), "test", Timestamp::UNIX_EPOCH)
    }

    /// A flush that summarized these places.
    fn summarized(number: u128, numbers: impl IntoIterator<Item = u64>) -> FlushReceipt {
        let summarized = places(numbers);
        let place = summarized.ranges()[0].0;
        let summary = SummaryRecord::new(id(1_000), place, 5, "test");
        FlushReceipt { summarized, summary: Some(summary), ..receipt(number) }
    }

    fn message(number: u64) -> MessageMeta {
        MessageMeta::new(
            Sequence::new(number),
            id(number),
            ContentType::Conversation,
            Timestamp::UNIX_EPOCH,
        )
    }

    fn in_effect(kept: &[FlushReceipt], present: &[MessageMeta]) -> Vec<u128> {
        let found = receipts_in_effect(kept, [], present);
        found.iter().map(|receipt| receipt.id.as_u128()).collect()
    }

    #[test]
    fn present_message_shows_an_undo() {
        let flush = [summarized(1, 1..=10)];
        let summary = MessageMeta { summary: true, ..message(1) };
        assert_eq!(in_effect(&flush, &[summary.clone(), message(11)]), [1]);
        assert_eq!(in_effect(&flush, &[]), [1]);
        assert!(in_effect(&flush, &[message(1)]).is_empty());
        assert!(in_effect(&flush, &[summary, message(10)]).is_empty());
    }

    #[test]
    fn later_removal_shows_an_undo() {
        let flushes = [summarized(2, 1..=12), summarized(1, 1..=10)];
        assert_eq!(in_effect(&flushes, &[]), [2]);
        // The second flush took the summary of the first one.
        let flushes = [summarized(2, [1, 11, 12]), summarized(1, 1..=10)];
        assert_eq!(in_effect(&flushes, &[]), [2, 1]);
    }

    #[test]
    fn archived_removal_was_not_undone() {
        let mut removal = ArchivedRemoval::new(
            7,
            RemovalCause::Flush,
            Timestamp::UNIX_EPOCH,
            &Retention::forever(),
        );
        removal.receipt = Some(summarized(1, 1..=10));
        let found = receipts_in_effect(&[], [&removal], &[message(10)]);
        assert_eq!(found, [summarized(1, 1..=10)]);
    }

    #[test]
    fn original_of_a_cleared_result_shows_an_undo() {
        let replaced = vec![ReplacedRecord::new(Sequence::new(3), id(30), 90, 20)];
        let flush = [FlushReceipt { replaced, ..receipt(1) }];
        assert_eq!(in_effect(&flush, &[MessageMeta { id: id(30), ..message(3) }]), [1]);
        assert_eq!(in_effect(&flush, &[message(4)]), [1]);
        assert!(in_effect(&flush, &[message(3)]).is_empty());
    }
}
