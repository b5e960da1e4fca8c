//! Writes at the version that the agent read before.

use memory_core::store::{Applied, Version};
use memory_core::{Role, Sequence};
use memory_instance::{Conditional, MemoryError, Withdrawal};

use super::reads::items_of;
use super::{Refused, Run};
use crate::bug::Bug;
use crate::history::{Answer, Call, Expected, Item, numbers};
use crate::link::{Rewinding, writing};
use crate::program::Kind;
use crate::violation::Check;

impl Run<'_> {
    /// Reads, and then appends if no other write came since.
    pub(super) async fn append_if(&mut self, kinds: &[Kind]) {
        let Some((version, items)) = self.read_version().await else { return };
        let expected = Expected::at(version, &items);
        let (entries, pieces) = self.messages(kinds);
        let tags: Vec<_> = pieces.iter().map(|piece| piece.tag).collect();
        let call = Call::Append { batch: self.tags.call(), pieces, expected: Some(expected) };
        let op = self.recorder.call(self.key, call);
        match writing(op, self.memory.append_if(version, entries)).await {
            Ok(Conditional::Applied(appended)) => self.settle(op, Ok(&appended), Refused::ForGood),
            Ok(Conditional::Conflict(_)) => {
                self.recorder.answer(op, Answer::Conflict);
                self.recorder.history().refused.extend(tags);
            }
            Err(error) => self.settle(op, Err(&error), Refused::ForGood),
        }
    }

    /// Reads, and then takes back this number of messages if no other write came since.
    pub(super) async fn rewind(&self, count: usize) {
        let Some((version, items)) = self.read_version().await else { return };
        let to = end_without(&items, count);
        self.take_back(version, &items, |version| self.memory.rewind(to, version)).await;
    }

    /// Reads, and then takes back the newest turn if no other write came since.
    pub(super) async fn pop_turn(&self) {
        let since = self.recorder.history().tick();
        let Some((version, items)) = self.read_version().await else { return };
        let taken = if self.process.link.bug() == Some(Bug::PopTurnTakesMore) {
            let to = end_without(&items, 2);
            self.take_back(version, &items, |version| self.memory.rewind(to, version)).await
        } else {
            self.take_back(version, &items, |version| self.memory.pop_turn(version)).await
        };
        let Some(Taken { places, requests }) = taken else { return };
        if self.recorder.history().is_quiet(self.key, since, &requests) {
            self.check_turn(&items, &places);
        }
    }

    /// Takes messages back at this version. The connection records the requests, and that version with them. If the
    /// answer is a conflict, another write came after the version, and none of these requests was applied.
    async fn take_back<F: Future<Output = Result<Conditional<Withdrawal>, MemoryError>>>(
        &self,
        mut version: Version,
        items: &[(u64, Item)],
        send: impl FnOnce(Version) -> F,
    ) -> Option<Taken> {
        let expected = Expected::at(version, items);
        let op = self.recorder.call(self.key, Call::Rewind(expected));
        let bug = self.process.link.bug();
        if bug == Some(Bug::RewindConflictWithoutReason) && op.is_multiple_of(3) {
            self.recorder.answer(op, Answer::Conflict);
            return None;
        }
        if bug == Some(Bug::RewindIgnoresVersion) {
            version = self.memory.version().await.unwrap_or(version);
        }
        let rewinding = Rewinding::at(expected);
        let done = rewinding.run(send(version)).await;
        self.told(done.as_ref().err());
        let requests = rewinding.requests();
        let none_applied = || requests.iter().for_each(|request| self.recorder.refused(*request));
        let receipt = match done {
            Ok(Conditional::Applied(taken)) if bug != Some(Bug::RewindConflictApplied) => {
                taken.receipt
            }
            Ok(_) => {
                self.recorder.answer(op, Answer::Conflict);
                none_applied();
                return None;
            }
            Err(error) => {
                self.recorder.refused(op);
                if error.applied() == Applied::No {
                    none_applied();
                }
                return None;
            }
        };
        match receipt {
            // The requests have the answer.
            Some(receipt) => {
                self.recorder.refused(op);
                Some(Taken { places: numbers(&receipt.withdrawn), requests })
            }
            None => {
                self.recorder.answer(op, Answer::Nothing);
                None
            }
        }
    }

    /// P1: the newest turn was taken back, of these messages: the newest message of a user and all after it, or else the
    /// newest message, and the units of these. After a flush the turn may begin later, so one with gaps is not judged.
    fn check_turn(&self, items: &[(u64, Item)], taken: &[u64]) {
        let mut history = self.recorder.history();
        let sent = |item: &Item| history.sent.get(item).map(|new| &new.message);
        let begins = |(_, item): &(u64, Item)| {
            let of_user = |message: &&memory_core::Message| {
                *message.role() == Role::User && message.tool_link().results.is_empty()
            };
            sent(item).filter(of_user).is_some()
        };
        let in_unit = |(_, item): &(u64, Item)| {
            let link = sent(item).map(memory_core::Message::tool_link);
            link.is_none_or(|link| !link.calls.is_empty() || !link.results.is_empty())
        };
        let first = items.iter().rposition(begins);
        let looked_at = items.get(first.unwrap_or(0)..).unwrap_or_default();
        let is_whole = looked_at.is_sorted_by(|one, two| one.0 + 1 == two.0)
            && !looked_at.iter().any(|(_, item)| matches!(item, Item::Summary(_)));
        let Some(from) = first.or(items.len().checked_sub(1)).filter(|_| is_whole) else { return };
        let wrong = items.iter().enumerate().find(|(index, one)| {
            let is_taken = taken.contains(&one.0);
            if *index >= from { !is_taken } else { is_taken && !in_unit(one) }
        });
        if let Some((_, wrong)) = wrong {
            let what = format!("of {items:?} {taken:?} were taken back: wrong at {wrong:?}");
            history.broken(Check::WithdrewOther, what);
        }
    }

    pub(super) async fn read_version(&self) -> Option<(Version, Vec<(u64, Item)>)> {
        let op = self.recorder.call(self.key, Call::Read(None));
        let page = self.memory.page(None, None).await;
        self.told(page.as_ref().err());
        let page = page.ok()?;
        let items = items_of(&page.messages);
        let generation = page.cursor.generation.number();
        self.recorder.answer(op, Answer::Page(items.clone(), Some(generation)));
        Some((Version::at_end(page.cursor), items))
    }
}

/// Messages that were taken back.
struct Taken {
    places: Vec<u64>,
    /// The recorded requests.
    requests: Vec<usize>,
}

/// The place of the newest message apart from this number of newer ones.
fn end_without(items: &[(u64, Item)], newer: usize) -> Sequence {
    let kept = items.len().saturating_sub(newer);
    let newest = kept.checked_sub(1).and_then(|at| items.get(at));
    Sequence::new(newest.map_or(0, |(place, _)| *place))
}
