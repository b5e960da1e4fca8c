//! An exclusive turn of an agent: it reads, thinks, and writes.

use std::sync::Arc;

use memory_core::store::Applied;
use memory_core::{Entry, Sequence};
use memory_instance::{MemoryError, Session};
use tokio::time::sleep;

use super::window::end_of;
use super::{Run, answer, ms};
use crate::history::{Answer, Call, Held, Piece, Recorder, Tag, item_of, tag_of};
use crate::link::{Reading, writing};
use crate::program::{Look, Turn, TurnStep};
use crate::run::Process;
use crate::violation::Check;

/// A step with its data.
enum Step {
    Append(Batch),
    Clear(u32),
    Look(Look),
}

struct Batch {
    number: u32,
    entries: Vec<Entry>,
    pieces: Vec<Piece>,
    /// The calls of the batch that the batch itself does not answer.
    calls: Vec<Tag>,
}

/// A turn while it runs.
struct Going {
    key: usize,
    recorder: Arc<Recorder>,
    process: Arc<Process>,
    session: Session,
    /// The place after the newest message that the turn appended. `None` if the server may roll back, because it then
    /// assigns earlier places again.
    next: Option<u64>,
    goes_back: bool,
    /// Calls that the turn left open.
    calls: Vec<Tag>,
}

impl Run<'_> {
    pub(super) async fn turn(&mut self, turn: &Turn) {
        let number = self.tags.call();
        let steps: Vec<Step> = turn.steps.iter().map(|step| self.step(step, number)).collect();
        let (recorder, process) = (Arc::clone(self.recorder), Arc::clone(&self.process));
        let (key, first, goes_back) = (self.key, turn.look, self.goes_back);
        let (think, stall) = (ms(turn.think), ms(turn.stall));
        let body = async move |session: Session| {
            let from = recorder.history().tick();
            let fence = session.fence().number();
            let (next, calls) = (None, Vec::new());
            let mut going = Going { key, recorder, process, session, next, goes_back, calls };
            going.look(first, Some(number)).await;
            let stalls_before = steps.len().saturating_sub(1).min(1);
            for (index, step) in steps.into_iter().enumerate() {
                sleep(think).await;
                if index == stalls_before && !stall.is_zero() {
                    going.recorder.note("a turn stalls its process");
                    going.process.link.stall(stall);
                }
                if !going.step(step, fence).await {
                    break;
                }
            }
            let to = going.recorder.history().tick();
            (Held { key, agent: 0, token: fence, from, to }, going.calls)
        };
        match self.memory.exclusive(body).await {
            Ok((held, calls)) => {
                let held = Held { agent: self.number, ..held };
                self.recorder.note(format!("a turn was held: {held:?}"));
                self.open_calls.extend(calls);
                if self.turns_are_certain {
                    self.recorder.history().held.push(held);
                }
            }
            Err(error) => {
                self.recorder.note(format!("agent {}: {error}", self.number));
            }
        }
    }

    fn step(&mut self, step: &TurnStep, turn: u32) -> Step {
        let write = self.tags.call();
        if !matches!(step, TurnStep::Look(_)) {
            self.recorder.history().turns.insert(write, turn);
        }
        match step {
            TurnStep::Append(kinds) => {
                let (entries, pieces) = self.messages(kinds);
                let calls = std::mem::take(&mut self.unsent_calls).into();
                Step::Append(Batch { number: write, entries, pieces, calls })
            }
            TurnStep::Clear => Step::Clear(write),
            TurnStep::Look(look) => Step::Look(*look),
        }
    }
}

impl Going {
    /// Runs one step; returns whether to continue.
    async fn step(&mut self, step: Step, fence: u64) -> bool {
        match step {
            Step::Append(batch) => self.append(batch, fence).await,
            Step::Clear(id) => {
                let op = self.recorder.call(self.key, Call::Clear(id));
                let cleared = writing(op, self.session.clear()).await;
                match &cleared {
                    Ok(_) => self.recorder.answer(op, Answer::Cleared),
                    Err(error) => self.refused(op, error),
                }
                cleared.is_ok()
            }
            Step::Look(look) => {
                self.look(look, None).await;
                true
            }
        }
    }

    async fn append(&mut self, batch: Batch, fence: u64) -> bool {
        let Batch { number, entries, pieces, calls } = batch;
        for piece in &pieces {
            self.recorder.history().tokens.insert(piece.tag, fence);
        }
        let count = u64::try_from(pieces.len()).unwrap_or_default();
        let op =
            self.recorder.call(self.key, Call::Append { batch: number, pieces, expected: None });
        match writing(op, self.session.append_all(entries)).await {
            Ok(appended) => {
                self.recorder.answer(op, answer(&appended));
                let first = appended.outcome.first().map(Sequence::number);
                if let (Some(next), Some(first)) = (self.next, first)
                    && first != next
                {
                    let what =
                        format!("memory {}: {first} in the place of {next} in a turn", self.key);
                    self.recorder.history().broken(Check::TurnInterrupted, what);
                }
                self.next = first.filter(|_| !self.goes_back).map(|first| first + count);
                self.calls.extend(calls);
                true
            }
            Err(error) => {
                self.refused(op, &error);
                false
            }
        }
    }

    fn refused(&self, op: usize, error: &MemoryError) {
        self.recorder.note(format!("in a turn: {error}"));
        if error.applied() == Applied::No {
            self.recorder.refused(op);
        }
    }

    /// Reads the memory. The first read of a turn has its number, because the turn's later writes depend on what
    /// that read returned.
    async fn look(&self, look: Look, turn: Option<u32>) {
        let seen = match look {
            Look::Page => {
                let op = self.recorder.call(self.key, Call::Read(turn));
                let page = self.session.page(None, None).await;
                page.map(|page| {
                    let places = page.messages.iter().map(item_of).collect();
                    let generation = page.cursor.generation.number();
                    self.recorder.answer(op, Answer::Page(places, Some(generation)));
                })
            }
            Look::Messages => {
                let op = self.recorder.call(self.key, Call::Read(turn));
                let messages = Reading::Messages.run(self.session.messages()).await;
                messages.map(|messages| {
                    let places = messages.iter().map(item_of).collect();
                    self.recorder.answer(op, Answer::Page(places, None));
                })
            }
            Look::Context(budget) => {
                let budget = u64::from(budget);
                let op = self.recorder.call(self.key, Call::Window(budget, turn));
                let window = Reading::Window.run(self.session.context(budget)).await;
                if let Err(MemoryError::Context { .. }) = window {
                    self.recorder.answer(op, Answer::NoWindow);
                }
                window.map(|window| {
                    let shown = window.messages.iter().map(tag_of).collect();
                    self.recorder.answer(op, Answer::Window(shown, Some(end_of(&window))));
                })
            }
        };
        if let Err(error) = seen {
            self.recorder.note(format!("in a turn: {error}"));
        }
    }
}
