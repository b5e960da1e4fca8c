//! The records of a message that gets another id.

use super::MemoryState;
use crate::receipt::FlushReceipt;
use crate::stored::MessageId;

impl MemoryState {
    /// Lets the receipts, the removals and the erasures that name this message name it by its new id.
    pub(super) fn rename(&mut self, old: MessageId, new: MessageId) {
        let archived = self.archive.0.iter_mut().filter_map(|kept| kept.removal.receipt.as_mut());
        let written = self.receipts.iter_mut().chain(archived).flat_map(written);
        let affected = self.erasures.iter_mut().flat_map(|erasure| &mut erasure.summaries);
        for id in written.chain(affected.map(|summary| &mut summary.id)) {
            if *id == old {
                *id = new;
            }
        }
    }
}

/// The ids of the messages that a flush wrote.
fn written(receipt: &mut FlushReceipt) -> impl Iterator<Item = &mut MessageId> {
    let summary = receipt.summary.iter_mut().map(|summary| &mut summary.id);
    summary.chain(receipt.replaced.iter_mut().map(|one| &mut one.id))
}
