//! Writes of single messages and batches in the sequential model.

use super::known::Known;
use super::version::IsCurrent;
use super::{KnownGeneration, State, Stored, WindowRules};
use crate::history::{Answer, Ensured, Expected, Item, Piece};

/// A batch that is sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Batch<'c> {
    pub(super) number: u32,
    pub(super) pieces: &'c [Piece],
    pub(super) expected: Option<&'c Expected>,
    pub(super) replaces: Replaces,
}

/// The messages that a batch replaces.
#[derive(Debug, Clone, Copy)]
pub(super) enum Replaces {
    Nothing,
    All {
        /// The most bytes of the archive, if there is one.
        archive: Option<u64>,
    },
}

impl State {
    pub(super) fn append(
        &mut self,
        known: &Known,
        write: &Batch<'_>,
        answer: Option<&Answer>,
    ) -> bool {
        let Batch { number: batch, pieces, expected, replaces } = *write;
        let new = !self.batches.contains_key(&batch);
        if let Some(expected) = expected.filter(|_| new) {
            let is_current = self.is_at(expected);
            match answer {
                Some(Answer::Conflict) => return is_current.may_be(IsCurrent::No),
                // Without an answer: it came too late, and changed nothing.
                None if is_current == IsCurrent::No => return true,
                _ if !is_current.may_be(IsCurrent::Yes) => return false,
                _ => {}
            }
        }
        let first = *self.batches.entry(batch).or_insert(self.last + 1);
        if new {
            if !self.may_write(known, batch) {
                return false;
            }
            if let Replaces::All { archive } = replaces {
                self.remove_all(archive);
            }
            for piece in pieces {
                self.last += 1;
                if !known.allows(self.rollbacks, self.last, piece.tag) {
                    return false;
                }
                self.put(self.last, piece.into());
                self.totals.appended += 1;
            }
            if matches!(self.generation, KnownGeneration::Fresh | KnownGeneration::Known(0)) {
                self.generation = KnownGeneration::After(0);
            }
        }
        match answer {
            None => true,
            // An append itself resends an unanswered request, so its own batch may already be stored; the counters are
            // then those of a later time.
            Some(Answer::Appended { first: told, duplicate: true, .. }) => {
                told.is_none_or(|told| told == first)
            }
            Some(Answer::Appended { first: told, duplicate: false, totals }) => {
                new && *told == Some(first) && self.may_count(totals)
            }
            Some(_) => false,
        }
    }

    /// One step, although it is a turn: no reader sees the prompt missing or twice.
    pub(super) fn ensure(
        &mut self,
        known: &Known,
        (id, piece): (u32, &Piece),
        (windows, answer): (Option<&WindowRules>, Option<&Answer>),
    ) -> bool {
        let there = self.items.iter().find(|(_, stored)| stored.prompt);
        let (necessary, place) = match there {
            // Another priority or content type is corrected.
            Some((place, stored))
                if stored.item == Item::Message(piece.tag)
                    && windows.is_none_or(|rules| rules.is_as_sent(stored)) =>
            {
                (Ensured::Unchanged, *place)
            }
            Some((place, _)) => (Ensured::Replaced, *place),
            None => (Ensured::Appended, self.last + 1),
        };
        if answer.is_some_and(|answer| *answer != Answer::Ensured(necessary, place)) {
            return false;
        }
        let number = match self.generation {
            KnownGeneration::Fresh => 0,
            KnownGeneration::Known(number) | KnownGeneration::After(number) => number,
        };
        match necessary {
            Ensured::Unchanged => return true,
            Ensured::Replaced => {
                let old = self.items.get(&place).map_or(0, |stored| stored.tokens);
                self.totals.tokens -= u64::from(old);
                self.generation = KnownGeneration::After(number);
            }
            Ensured::Appended => {
                self.last = place;
                self.totals.present += 1;
                self.totals.appended += 1;
                if number == 0 {
                    self.generation = KnownGeneration::After(0);
                }
            }
        }
        self.totals.tokens += u64::from(piece.tokens);
        self.items.insert(place, Stored { prompt: true, ..piece.into() });
        self.may_write(known, id)
    }

    /// Replaces the message at a place, which keeps its kind, its priority and its content type.
    pub(super) fn replace(
        &mut self,
        known: &Known,
        (id, place): (u32, u64),
        piece: &Piece,
        (windows, answer): (Option<&WindowRules>, Option<&Answer>),
    ) -> bool {
        let Some(stored) = self.items.get_mut(&place) else {
            // Without an answer it was refused.
            return answer.is_none_or(|answer| *answer == Answer::NotThere);
        };
        if answer.is_some_and(|answer| *answer != Answer::Replaced) {
            return false;
        }
        self.totals.tokens -= u64::from(stored.tokens);
        self.totals.tokens += u64::from(piece.tokens);
        let (kind, summary) = (stored.kind, stored.summary);
        let settings = windows.and_then(|rules| rules.settings(stored));
        *stored = Stored { kind, summary, settings, ..piece.into() };
        self.generation = self.generation.next();
        self.may_write(known, id)
    }
}
