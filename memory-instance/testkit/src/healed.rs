//! The second phase: when the faults have ended, everything works again.

use std::sync::Arc;
use std::time::Duration;

use memory_core::store::StoreErrorKind;
use memory_core::tokens::message_tokens;
use memory_core::{Message, Sequence};
use memory_instance::{MemoryError, Session};
use tokio::time::{Instant, sleep, sleep_until};

use crate::agent::{SECRET, Tags, answer, fork_options, inspect, search};
use crate::bug::Bug;
use crate::history::{Answer, Call, Piece, Recorder, Totals, bytes_of, item_of};
use crate::link::deleting;
use crate::program::{Kind, Program};
use crate::run::{BUDGET, Bytes, Process};
use crate::violation::Check;

/// The maximum time of a write: the lease of a dead process expires after two seconds, and late requests may still
/// take it.
const WRITE: Duration = Duration::from_secs(9);
/// The maximum time of a flush, which other flushes may delay.
const FLUSH: Duration = Duration::from_secs(25);
/// The maximum time of a read.
const READ: Duration = Duration::from_secs(1);

/// One process after the faults.
struct Patient<'p> {
    key: usize,
    process: &'p Arc<Process>,
    recorder: &'p Arc<Recorder>,
    tags: &'p Arc<Tags>,
    /// The memories have archives.
    searches: bool,
}

/// After the faults, a process appends, flushes, reads and takes a turn, in bounded time and without an error.
pub(crate) async fn verify_healed(
    key: usize,
    process: &Arc<Process>,
    recorder: &Arc<Recorder>,
    tags: &Arc<Tags>,
    program: &Program,
) {
    sleep_until(process.link.stalled_until()).await;
    let searches = program.past.is_some();
    let patient = Patient { key, process, recorder, tags, searches };
    if key > 0 && program.copies() {
        patient.complete_copy().await;
    }
    patient.within(WRITE, "an append", patient.append()).await;
    patient.within(FLUSH, "a flush", patient.flush()).await;
    patient.within(READ, "a read", patient.read()).await;
    patient.within(WRITE, "a turn", patient.turn()).await;
    patient.within(READ, "a count", patient.count()).await;
    if searches {
        patient.within(READ, "a search", patient.search()).await;
        patient.within(READ, "reading the archive", patient.archive()).await;
        patient.within(READ, "reading the settings", patient.inspect()).await;
    }
}

impl Patient<'_> {
    fn broken(&self, check: Check, what: &str) {
        self.recorder.history().broken(check, format!("memory {}: {what}", self.key));
    }

    async fn within<E: std::fmt::Display>(
        &self,
        limit: Duration,
        name: &str,
        done: impl Future<Output = Result<(), E>>,
    ) {
        let began = Instant::now();
        if let Err(error) = done.await {
            let what = format!("{name} failed after all faults had ended: {error}");
            self.broken(Check::NotHealed, &what);
        }
        let took = began.elapsed();
        if took > limit {
            let what = format!("{name} took {took:?} after all faults had ended");
            self.broken(Check::HealedLate, &what);
        }
    }

    fn message(&self) -> (Message, Vec<Piece>) {
        let tag = self.tags.message();
        // Searches look for the word.
        let word = if self.searches { SECRET } else { "healed" };
        let message = Message::user(format!("#{tag} {word}"));
        let tokens = message_tokens(&Bytes, &message);
        let bytes = bytes_of(&message);
        (message, vec![Piece { tag, tokens, kind: Kind::Talk, bytes }])
    }

    async fn append(&self) -> Result<(), MemoryError> {
        let (message, pieces) = self.message();
        let op = self
            .recorder
            .call(self.key, Call::Append { batch: self.tags.call(), pieces, expected: None });
        let appended = self.process.memory(self.key).append(message).await?;
        self.recorder.answer(op, answer(&appended));
        Ok(())
    }

    async fn flush(&self) -> Result<(), MemoryError> {
        let memory = self.process.memory(self.key);
        let flush = self.recorder.history().flush_began(self.key);
        let mut done = memory.perform_flush().await;
        if done.is_err() {
            // Flushes that were under way may have held the line up.
            done = memory.perform_flush().await;
        }
        self.recorder.history().flush_ended(flush);
        let Some(mut receipt) = done? else { return Ok(()) };
        if self.process.link.bug() == Some(Bug::ShortfallHidden) {
            receipt.shortfall = None;
        }
        if receipt.tokens_after > BUDGET / 2 && receipt.shortfall.is_none() {
            let what = format!("a flush left {} tokens and did not say why", receipt.tokens_after);
            self.broken(Check::ShortfallHidden, &what);
        }
        Ok(())
    }

    async fn read(&self) -> Result<(), MemoryError> {
        let op = self.recorder.call(self.key, Call::Read(None));
        let page = self.process.memory(self.key).page(None, None).await?;
        let places = page.messages.iter().map(item_of).collect();
        self.recorder.answer(op, Answer::Page(places, Some(page.cursor.generation.number())));
        Ok(())
    }

    async fn turn(&self) -> Result<(), String> {
        let (message, pieces) = self.message();
        let (turn, batch) = (self.tags.call(), self.tags.call());
        self.recorder.history().turns.insert(batch, turn);
        let body = async |session: Session| {
            let op = self.recorder.call(self.key, Call::Read(Some(turn)));
            let page = session.page(None, None).await?;
            let places = page.messages.iter().map(item_of).collect();
            self.recorder.answer(op, Answer::Page(places, Some(page.cursor.generation.number())));
            let fence = session.fence().number();
            self.recorder.history().tokens.extend(pieces.iter().map(|piece| (piece.tag, fence)));
            let op = self.recorder.call(self.key, Call::Append { batch, pieces, expected: None });
            let appended = session.append(message).await?;
            self.recorder.answer(op, answer(&appended));
            Ok::<_, MemoryError>(())
        };
        let done = self.process.memory(self.key).exclusive(body).await;
        done.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
    }

    async fn count(&self) -> Result<(), MemoryError> {
        let op = self.recorder.call(self.key, Call::Count);
        let counters = self.process.memory(self.key).counters().await?;
        self.recorder.answer(op, Answer::Counted(Totals::from(&counters)));
        Ok(())
    }

    /// Forks again while a copy is unfinished, or deletes it. Late requests of earlier copies may interfere for some seconds.
    async fn complete_copy(&self) {
        let (source, copy) = (self.process.memory(self.key - 1), self.process.memory(self.key));
        for _ in 0..12 {
            let is_unfinished = copy
                .counters()
                .await
                .is_err_and(|error| error.store_kind() == Some(&StoreErrorKind::Unfinished));
            if !is_unfinished {
                sleep(Duration::from_secs(1)).await;
                continue;
            }
            // A copy of a memory that was deleted cannot be completed.
            let is_source_gone = source.counters().await.is_ok_and(|found| found.appended == 0);
            let is_done = if is_source_gone {
                deleting(copy.delete()).await.is_ok()
            } else {
                source.fork(&copy, fork_options(self.tags)).await.is_ok()
            };
            if is_done {
                return;
            }
            sleep(Duration::from_secs(1)).await;
        }
    }

    async fn search(&self) -> Result<(), MemoryError> {
        search(&self.process.memory(self.key), self.key, self.recorder).await
    }

    async fn inspect(&self) -> Result<(), MemoryError> {
        inspect(&self.process.memory(self.key), self.key, self.recorder).await
    }

    async fn archive(&self) -> Result<(), MemoryError> {
        let memory = self.process.memory(self.key);
        memory.archived(Sequence::ZERO..=Sequence::new(u64::MAX)).await?;
        Ok(())
    }
}
