//! The memory as a log with places: the sequential specification for the outside checker.

use std::collections::{BTreeMap, BTreeSet};

use stateright::semantics::SequentialSpec;

/// The content of a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Content {
    Message(u64),
    Summary(String),
}

/// The newest message with its place, at which alone an append is done.
pub(crate) type Newest = Option<(u64, Content)>;

#[derive(Debug, Clone)]
pub(crate) enum Request {
    Append {
        batch: u64,
        messages: Vec<u64>,
        expected: Option<Newest>,
    },
    Clear(u64),
    /// At most this number of the newest messages, before a place.
    Read(Option<u64>, usize),
    Splice(Splice),
    /// A rewind at this version that takes nothing back.
    Rewind(Newest),
    Window,
    Count,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Splice {
    pub(crate) generation: u64,
    pub(crate) summarized: Vec<u64>,
    pub(crate) evicted: Vec<u64>,
    pub(crate) withdrawn: Vec<u64>,
    /// The newest place that the planner saw.
    pub(crate) newest: Option<u64>,
    pub(crate) summary: Option<String>,
    pub(crate) flush: Option<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Reply {
    At(u64),
    /// A request that changed nothing, because the memory was not as expected.
    Conflict,
    Cleared,
    /// The content, and the generation if it was reported.
    Content(Vec<(u64, Content)>, Option<u64>),
    Spliced,
    /// The messages of a window; `None` for a summary.
    Window(Vec<Option<u64>>),
    /// No window fits its budget, which the log cannot judge unless it is empty.
    NoWindow,
    Counted(Counts),
}

/// The counters, apart from tokens, which the lines do not have for each message.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Counts {
    pub(crate) present: u64,
    pub(crate) summaries: u64,
    pub(crate) appended: u64,
    pub(crate) summarized: u64,
    pub(crate) evicted: u64,
    pub(crate) cleared: u64,
    pub(crate) withdrawn: u64,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Log {
    content: BTreeMap<u64, Content>,
    last: u64,
    batches: BTreeMap<u64, u64>,
    clears: BTreeSet<u64>,
    flush: Option<String>,
    counts: Counts,
    /// The generation, if an answer reported it since it changed.
    generation: Option<u64>,
}

impl SequentialSpec for Log {
    type Op = Request;
    type Ret = Reply;

    /// The answer if the generation is as expected, unless it is known to be another one.
    fn invoke(&mut self, request: &Request) -> Reply {
        match request {
            Request::Append { batch, messages, expected } => {
                self.append(*batch, messages, expected.as_ref())
            }
            Request::Clear(id) => {
                if self.clears.insert(*id) {
                    self.content.clear();
                    (self.flush, self.generation) = (None, None);
                    let counts = &mut self.counts;
                    counts.cleared += counts.present - counts.summaries;
                    (counts.present, counts.summaries) = (0, 0);
                }
                Reply::Cleared
            }
            Request::Read(before, limit) => Reply::Content(self.read(*before, *limit), None),
            Request::Splice(splice) => self.splice(splice),
            Request::Rewind(_) => Reply::Conflict,
            Request::Window => Reply::Window(Vec::new()),
            Request::Count => Reply::Counted(self.counts),
        }
    }

    fn is_valid_step(&mut self, request: &Request, reply: &Reply) -> bool {
        match (request, reply) {
            (Request::Read(before, limit), Reply::Content(content, generation)) => {
                self.read(*before, *limit) == *content && self.learn(*generation)
            }
            (Request::Window, Reply::Window(shown)) => self.is_window(shown),
            (Request::Window, Reply::NoWindow) => !self.content.is_empty(),
            (Request::Append { batch, expected: Some(expected), .. }, Reply::Conflict) => {
                !self.batches.contains_key(batch) && !self.is_certainly_at(expected)
            }
            (Request::Rewind(expected), Reply::Conflict) => !self.is_certainly_at(expected),
            (Request::Rewind(expected), _) => self.newest() == *expected,
            (Request::Splice(splice), Reply::Conflict) => {
                let is_known = self.generation == Some(splice.generation);
                !self.is_again(splice) && (!is_known || self.is_late(splice))
            }
            _ => self.invoke(request) == *reply,
        }
    }
}

impl Log {
    fn newest(&self) -> Newest {
        self.content.last_key_value().map(|(place, content)| (*place, content.clone()))
    }

    /// Whether an append with this version must be applied. If a newer message was removed, the generation decides,
    /// which the log may not know.
    fn is_certainly_at(&self, expected: &Newest) -> bool {
        let is_last = expected.as_ref().is_some_and(|(place, _)| *place == self.last);
        self.newest() == *expected && is_last
    }

    fn append(&mut self, batch: u64, messages: &[u64], expected: Option<&Newest>) -> Reply {
        if let Some(first) = self.batches.get(&batch) {
            return Reply::At(*first);
        }
        if expected.is_some_and(|expected| self.newest() != *expected) {
            return Reply::Conflict;
        }
        let first = self.last + 1;
        self.batches.insert(batch, first);
        for message in messages {
            self.last += 1;
            self.content.insert(self.last, Content::Message(*message));
            self.counts.present += 1;
            self.counts.appended += 1;
        }
        Reply::At(first)
    }

    fn read(&self, before: Option<u64>, limit: usize) -> Vec<(u64, Content)> {
        let older = self.content.range(..before.unwrap_or(u64::MAX)).rev().take(limit);
        let mut content: Vec<_> = older.map(|(place, one)| (*place, one.clone())).collect();
        content.reverse();
        content
    }

    /// Whether this may be the generation. That of a memory that was never written, 0, changes with its first message.
    fn learn(&mut self, generation: Option<u64>) -> bool {
        let Some(generation) = generation.filter(|generation| *generation > 0) else { return true };
        *self.generation.get_or_insert(generation) == generation
    }

    /// The agents of these programs only talk, and talk has no holes in a window. So its messages are the newest ones,
    /// with at least one of them.
    fn is_window(&self, shown: &[Option<u64>]) -> bool {
        let messages = self.content.values().filter_map(|content| match content {
            Content::Message(message) => Some(*message),
            Content::Summary(_) => None,
        });
        let messages: Vec<u64> = messages.collect();
        let talk: Vec<u64> = shown.iter().flatten().copied().collect();
        let summaries = self.content.len() - messages.len();
        messages.ends_with(&talk)
            && talk.is_empty() == messages.is_empty()
            && shown.len() - talk.len() <= summaries
    }

    /// Whether the splice is sent again.
    fn is_again(&self, splice: &Splice) -> bool {
        splice.flush.is_some() && splice.flush == self.flush
    }

    /// Whether it takes messages back although others came since.
    fn is_late(&self, splice: &Splice) -> bool {
        !splice.withdrawn.is_empty() && self.newest().map(|(place, _)| place) > splice.newest
    }

    fn splice(&mut self, splice: &Splice) -> Reply {
        if self.is_again(splice) {
            return Reply::Spliced;
        }
        let Splice { generation, summarized, evicted, withdrawn, summary, flush, .. } = splice;
        let is_there = |place: &u64| self.content.contains_key(place);
        let is_other = self.generation.is_some_and(|known| known != *generation);
        let removed = [summarized, evicted, withdrawn];
        let is_complete = removed.into_iter().flatten().all(is_there);
        if is_other || self.is_late(splice) || !is_complete {
            return Reply::Conflict;
        }
        let counts = &mut self.counts;
        let counters = [&mut counts.summarized, &mut counts.evicted, &mut counts.withdrawn];
        for (places, counter) in removed.into_iter().zip(counters) {
            for place in places {
                counts.present -= 1;
                match self.content.remove(place) {
                    Some(Content::Summary(_)) => counts.summaries -= 1,
                    _ => *counter += 1,
                }
            }
        }
        if let (Some(summary), Some(place)) = (summary, summarized.first()) {
            self.content.insert(*place, Content::Summary(summary.clone()));
            counts.present += 1;
            counts.summaries += 1;
        }
        let is_idle = removed.iter().all(|places| places.is_empty());
        self.generation = is_idle.then_some(*generation);
        self.flush = flush.clone().or(self.flush.take());
        Reply::Spliced
    }
}
