//! An agent: runs its operations one after another, and records them.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use memory_core::dialect::ToolCall;
use memory_core::health::Lifetime;
use memory_core::store::{Appended, Applied, Cursor};
use memory_core::tokens::message_tokens;
use memory_core::{Entry, MemoryHealth, Message, Priority};
use memory_instance::{EnsureOutcome, MemoryError, MemoryInstance};
use memory_lock::{LockGuard, LockOptions, ReleaseOutcome};
use tokio::time::{Instant, sleep, sleep_until};

use crate::cut::Cut;
use crate::history::{
    Answer, Call, Ensured, Expected, Held, Item, Piece, Position, Recorder, Tag, Totals, bytes_of,
};
use crate::link::writing;
use crate::program::{Agent, Kind, Op, Program};
use crate::run::{Bytes, Process, lease_key};
use crate::violation::Check;

mod copies;
mod edits;
mod past;
mod reads;
mod replace;
mod turn;
mod versions;
mod window;

pub(crate) use self::copies::fork_options;
pub(crate) use self::edits::inspect;
pub(crate) use self::past::search;

/// Text that no error may contain.
pub(crate) const SECRET: &str = "secret";

/// Numbers that are unique within a program.
#[derive(Debug, Default)]
pub(crate) struct Tags {
    messages: AtomicU32,
    calls: AtomicU32,
}

impl Tags {
    pub(crate) fn message(&self) -> Tag {
        self.messages.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(crate) fn call(&self) -> u32 {
        self.calls.fetch_add(1, Ordering::Relaxed) + 1
    }
}

/// An agent while it runs its operations.
struct Run<'a> {
    number: usize,
    key: usize,
    process: Arc<Process>,
    memory: MemoryInstance,
    recorder: &'a Arc<Recorder>,
    tags: &'a Arc<Tags>,
    /// Appends must wait only for each other.
    unhindered: bool,
    /// No faults are injected.
    calm: bool,
    /// A completed turn had the lease to its end. If the server may forget leases, only an answered release proves
    /// that, and a turn does not report its own release.
    turns_are_certain: bool,
    /// The server may roll back to an earlier state.
    goes_back: bool,
    /// How much longer results are than other messages.
    result_length: usize,
    /// Stored calls that were not answered.
    open_calls: VecDeque<Tag>,
    /// The calls of the batch that is being sent.
    unsent_calls: VecDeque<Tag>,
    /// The prompt that this agent ensured last.
    prompt: Option<(String, Piece)>,
    cursor: Option<Cursor>,
    view: Vec<(u64, Item)>,
    /// The position of the last page that was read backward, if there are older messages.
    back: Option<(Cursor, Position)>,
    /// For a planted bug.
    first_window: Option<Vec<Message>>,
}

/// Runs the operations of an agent until its process dies.
pub(crate) async fn run_agent(
    number: usize,
    agent: &Agent,
    process: Arc<Process>,
    recorder: &Arc<Recorder>,
    tags: &Arc<Tags>,
    program: &Program,
) {
    let key = usize::from(agent.key);
    let calm = program.is_calm() && !program.has(|op| matches!(op, Op::Hold(_)));
    let mut run = Run {
        number,
        key,
        memory: process.memory(key),
        recorder,
        tags,
        calm,
        turns_are_certain: !program.has(|op| matches!(op, Op::ForgetLeases)),
        goes_back: program.goes_back(),
        unhindered: calm
            && !program.inline_flush
            && !program.has(|op| matches!(op, Op::Turn(_) | Op::TryHold(_) | Op::Ensure(_))),
        result_length: program.past.map_or(0, |_| 50),
        open_calls: VecDeque::new(),
        unsent_calls: VecDeque::new(),
        prompt: None,
        cursor: None,
        view: Vec::new(),
        back: None,
        first_window: None,
        process: Arc::clone(&process),
    };
    let died = process.died.notified();
    tokio::pin!(died);
    died.as_mut().enable();
    if process.link.is_dead() {
        return;
    }
    let ops = async {
        for op in &agent.ops {
            run.op(op).await;
            // A suspended process does nothing.
            sleep_until(run.process.link.stalled_until()).await;
        }
    };
    tokio::select! {
        biased;
        () = died => {}
        () = ops => {}
    }
}

impl Run<'_> {
    fn op<'s>(&'s mut self, op: &'s Op) -> Pin<Box<dyn Future<Output = ()> + Send + 's>> {
        Box::pin(async move {
            match op {
                Op::Append(kinds) => self.append(kinds).await,
                Op::AppendIf(kinds) => self.append_if(kinds).await,
                Op::Rewind(count) => self.rewind(*count).await,
                Op::PopTurn => self.pop_turn().await,
                Op::Retried(kinds, again) => self.retried(kinds, *again).await,
                Op::Turn(turn) => self.turn(turn).await,
                Op::Hold(millis) => {
                    let lease = lease_key(self.memory.key());
                    let options = LockOptions::new()
                        .with_ttl(Duration::from_secs(2))
                        .with_refresh_interval(Duration::from_millis(700));
                    let taken = self.process.manager.locks().lock(&lease, &options).await;
                    self.told(taken.as_ref().err());
                    self.hold(taken.ok(), *millis).await;
                }
                Op::TryHold(millis) => {
                    let lease = lease_key(self.memory.key());
                    let options = LockOptions::new().with_ttl(Duration::from_secs(2));
                    let taken = self.process.manager.locks().try_lock(&lease, &options).await;
                    self.told(taken.as_ref().err());
                    self.hold(taken.ok().flatten(), *millis).await;
                }
                Op::Flush => {
                    let flush = self.recorder.history().flush_began(self.key);
                    let done = self.memory.perform_flush().await;
                    self.told(done.as_ref().err());
                    if let Ok(receipt) = done {
                        self.recorder.note(format!("flushed: {}", receipt.is_some()));
                        self.recorder.history().flush_ended(flush);
                    }
                }
                Op::Read => self.read().await,
                Op::Messages => self.read_messages().await,
                Op::Last(n) => self.last(*n).await,
                Op::Before(limit) => self.before(*limit).await,
                Op::Delta => self.delta().await,
                Op::Context(budget) => self.context(u64::from(*budget)).await,
                Op::Count => {
                    let op = self.recorder.call(self.key, Call::Count);
                    let counters = self.memory.counters().await;
                    self.told(counters.as_ref().err());
                    if let Ok(counters) = counters {
                        self.recorder.answer(op, Answer::Counted(Totals::from(&counters)));
                    }
                }
                Op::Health => {
                    let op = self.recorder.call(self.key, Call::Count);
                    let health = self.memory.health().await;
                    self.told(health.as_ref().err());
                    if let Ok(health) = health {
                        self.recorder.answer(op, Answer::Counted(totals(&health)));
                    }
                }
                Op::Clear => {
                    let op = self.recorder.call(self.key, Call::Clear(self.tags.call()));
                    let cleared = writing(op, self.memory.clear()).await;
                    self.told(cleared.as_ref().err());
                    match cleared {
                        Ok(_) => self.recorder.answer(op, Answer::Cleared),
                        Err(error) if error.applied() == Applied::No => self.recorder.refused(op),
                        Err(_) => {}
                    }
                }
                Op::Purge => self.purge().await,
                Op::Delete => self.delete(self.key).await,
                Op::DeleteNext => self.delete(self.key + 1).await,
                Op::Undo(newer) => self.undo(*newer).await,
                Op::Erase(from, count) => self.erase(*from, *count).await,
                Op::Replace(at) => self.replace(*at).await,
                Op::ReplaceAll(kinds) => self.replace_all(kinds, None).await,
                Op::ReplaceAllIf(kinds) => {
                    if let Some((version, items)) = self.read_version().await {
                        let expected = Expected::at(version, &items);
                        self.replace_all(kinds, Some((version, expected))).await;
                    }
                }
                Op::Fork(newer) => self.fork(*newer).await,
                Op::CopyTo => self.copy_to().await,
                Op::BackUp => self.back_up().await,
                Op::Edit(at, edit) => self.edit(*at, *edit).await,
                Op::Rewrite => self.rewrite().await,
                Op::Inspect => {
                    let read = inspect(&self.memory, self.key, self.recorder).await;
                    self.told(read.as_ref().err());
                }
                Op::Archive => self.archive().await,
                Op::Originals(newer) => self.originals(*newer).await,
                Op::Search => {
                    let found = search(&self.memory, self.key, self.recorder).await;
                    self.told(found.as_ref().err());
                }
                Op::Ensure(again) => {
                    let last = self.prompt.take().filter(|_| *again);
                    self.ensure(last).await;
                }
                Op::Pause(millis) => sleep(ms(*millis)).await,
                Op::Stall(millis) => {
                    self.recorder.note(format!("agent {} stalls its process", self.number));
                    self.process.link.stall(ms(*millis));
                }
                Op::ForgetLeases => {
                    self.recorder.note("the server forgets all leases");
                    self.process.link.forget_leases();
                }
                Op::Keep => self.process.link.keep(),
                Op::GoBack => self.process.link.go_back(),
                Op::EndArchives => self.process.link.end_archives(),
                Op::Expire => self.process.link.expire(self.memory.key()),
                Op::Cancel(polls, op) => {
                    let polls = *polls;
                    let future = Box::pin(self.op(op));
                    let done = Cut { future, polls }.await;
                    self.recorder.note(format!("canceled: {}", done.is_none()));
                }
                Op::Crash => {
                    self.recorder.note(format!("agent {} crashes its process", self.number));
                    self.process.die();
                    std::future::pending::<()>().await;
                }
            }
        })
    }

    /// Ensures this prompt, or a new one.
    async fn ensure(&mut self, last: Option<(String, Piece)>) {
        let (text, piece) = last.unwrap_or_else(|| {
            let tag = self.tags.message();
            let text = format!("#{tag} {SECRET} {}", "x".repeat(8 + usize::from(tag as u8 % 24)));
            let message = Message::system(text.as_str());
            let (tokens, bytes) = (message_tokens(&Bytes, &message), bytes_of(&message));
            (text, Piece { tag, tokens, kind: Kind::Critical, bytes })
        });
        self.prompt = Some((text.clone(), piece));
        let op = self.recorder.call(self.key, Call::Ensure { id: self.tags.call(), piece });
        let ensured = writing(op, self.memory.ensure_system("prompt", text)).await;
        self.told(ensured.as_ref().err());
        match ensured {
            Ok(ensured) => {
                let necessary = match ensured.outcome {
                    EnsureOutcome::Unchanged => Ensured::Unchanged,
                    EnsureOutcome::Appended => Ensured::Appended,
                    EnsureOutcome::Replaced => Ensured::Replaced,
                    // Without an answer the call counts as one that may have happened.
                    unknown => {
                        debug_assert!(false, "the history has no {unknown:?}");
                        return;
                    }
                };
                self.recorder.answer(op, Answer::Ensured(necessary, ensured.sequence.number()));
            }
            // The same text may be sent again.
            Err(error) if error.applied() == Applied::No => drop(self.recorder.strike_out(op)),
            Err(_) => {}
        }
    }

    /// P13: no error quotes a message. In a calm program the only errors are about limits.
    fn told(&self, error: Option<&(impl std::error::Error + 'static)>) {
        let Some(error) = error else { return };
        let mut text = format!("{error} {error:?}");
        let mut source = error.source();
        while let Some(cause) = source {
            text.push_str(&format!(" {cause} {cause:?}"));
            source = cause.source();
        }
        if text.contains(SECRET) {
            self.recorder
                .history()
                .broken(Check::ErrorQuotes, format!("an error quotes a message: {text}"));
        }
        self.recorder.note(format!("agent {}: {error}", self.number));
    }

    /// Messages of these kinds, and their properties for the checker.
    fn messages(&mut self, kinds: &[Kind]) -> (Vec<Entry>, Vec<Piece>) {
        let mut entries = Vec::new();
        let mut pieces = Vec::new();
        // Only calls that are known to be there, or are in the same batch, are answered.
        let mut calls_here = VecDeque::new();
        for kind in kinds {
            let tag = self.tags.message();
            // The text in place of a cleared tool result must be shorter.
            let length = if *kind == Kind::Result { self.result_length } else { 0 };
            let length = 8 + usize::from(tag as u8 % 24) + length;
            let text = format!("#{tag} {SECRET} {}", "x".repeat(length));
            let call = match kind {
                Kind::Result => self.open_calls.pop_front().or_else(|| calls_here.pop_front()),
                _ => None,
            };
            let is_result = call.is_some();
            let entry: Entry = match (kind, call) {
                (Kind::Critical, _) => Entry::new(Message::system(text)),
                (Kind::Fact, _) => {
                    Entry::new(Message::user(text)).with_priority(Priority::IMPORTANT)
                }
                (Kind::Call, _) => {
                    calls_here.push_back(tag);
                    let call = ToolCall::function(format!("c{tag}"), "look_up", SECRET);
                    Message::calls([call]).into()
                }
                (Kind::Result, Some(call)) => {
                    self.recorder.history().answers.insert(tag, call);
                    Message::tool_result(format!("c{call}"), text).into()
                }
                (Kind::Talk | Kind::Result, _) => Message::user(text).into(),
            };
            let tokens = message_tokens(&Bytes, &entry.message);
            let kind = if *kind == Kind::Result && !is_result { Kind::Talk } else { *kind };
            let bytes = bytes_of(&entry.message);
            pieces.push(Piece { tag, tokens, kind, bytes });
            entries.push(entry);
        }
        self.unsent_calls = calls_here;
        (entries, pieces)
    }

    async fn append(&mut self, kinds: &[Kind]) {
        let (entries, pieces) = self.messages(kinds);
        let batch = self.tags.call();
        let op = self.recorder.call(self.key, Call::Append { batch, pieces, expected: None });
        let began = Instant::now();
        let appended = writing(op, self.memory.append_all(entries)).await;
        let took = began.elapsed();
        if self.unhindered && took > Duration::from_secs(1) {
            let what = format!("an append took {took:?} with nothing in its way");
            self.recorder.history().broken(Check::Hindered, what);
        }
        self.settle(op, appended.as_ref(), Refused::ForGood);
    }

    /// Records the outcome of an append. The agent only answers calls that it knows to be stored.
    fn settle(&mut self, op: usize, appended: Result<&Appended, &MemoryError>, refused: Refused) {
        match appended {
            Ok(appended) => {
                self.recorder.answer(op, answer(appended));
                self.open_calls.append(&mut self.unsent_calls);
            }
            Err(error) => {
                self.told(Some(error));
                if self.calm {
                    let what = format!("an append failed in a calm program: {error}");
                    self.recorder.history().broken(Check::FailedInCalm, what);
                }
                match (error.applied(), refused) {
                    (Applied::No, Refused::ForGood) => self.recorder.refused(op),
                    (Applied::No, Refused::ForNow) => drop(self.recorder.strike_out(op)),
                    (Applied::Unknown, _) => {}
                }
            }
        }
    }

    async fn retried(&mut self, kinds: &[Kind], again: u8) {
        let (entries, pieces) = self.messages(kinds);
        let batch = self.tags.call();
        let Ok(prepared) = self.memory.prepare(entries) else { return };
        let mut again = again;
        for _ in 0..4 {
            let call = Call::Append { batch, pieces: pieces.clone(), expected: None };
            let op = self.recorder.call(self.key, call);
            let sent = writing(op, self.memory.send(&prepared)).await;
            let done = sent.is_ok();
            self.settle(op, sent.as_ref(), Refused::ForNow);
            if done {
                if again == 0 {
                    break;
                }
                again -= 1;
            }
        }
    }

    async fn hold(&mut self, guard: Option<LockGuard>, millis: u16) {
        let Some(guard) = guard else { return };
        let token = guard.fence().number();
        let from = self.recorder.history().tick();
        sleep(ms(millis)).await;
        let to = self.recorder.history().tick();
        let held = guard.ensure_held().is_ok();
        let released = guard.release().await;
        self.recorder.note(format!("agent {} held {token}: {released:?}", self.number));
        // Where the server may forget leases, only an answered release proves it.
        if held && (self.turns_are_certain || released == ReleaseOutcome::Released) {
            let held = Held { key: self.key, agent: self.number, token, from, to };
            self.recorder.history().held.push(held);
        }
    }
}

/// Whether a batch that was refused will be sent again.
#[derive(Debug, Clone, Copy)]
enum Refused {
    ForGood,
    ForNow,
}

fn ms(millis: u16) -> Duration {
    Duration::from_millis(millis.into())
}

pub(crate) fn answer(appended: &Appended) -> Answer {
    Answer::Appended {
        first: appended.outcome.first().map(memory_core::Sequence::number),
        duplicate: appended.outcome.is_duplicate(),
        totals: Totals::from(&appended.counters),
    }
}

/// The counters of a report.
fn totals(health: &MemoryHealth) -> Totals {
    let Lifetime { appended, present, summarized, evicted, cleared, withdrawn, summaries, .. } =
        health.lifetime;
    Totals {
        present: present + summaries,
        tokens: health.tokens,
        summaries,
        appended,
        summarized,
        evicted,
        cleared,
        withdrawn,
    }
}
