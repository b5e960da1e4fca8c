//! Checks of the store's answers against earlier answers, if the server may roll back.
//!
//! A place identifies no message after a rollback, so a view is identified by the ids of its messages. When the server
//! answers a read, outline, fetch or splice, it is compared at once with a complete read.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use memory_core::store::{
    Append, AppendOutcome, Appended, CaughtUp, Cursor, KnownBatch, MessageId, MessageMeta, Outline,
    Page, Read, Splice, StoreError,
};
use memory_core::{MemoryKey, Sequence, StoredMessage};

use crate::history::Recorder;
use crate::program::Program;
use crate::run::key_number;
use crate::server::Server;
use crate::violation::Check;

/// The message at each place.
type View = BTreeMap<Sequence, MessageId>;

/// The messages that any process read up to each cursor, per memory.
#[derive(Debug, Default)]
pub(crate) struct Views {
    read: HashMap<(usize, Cursor), View>,
    /// The appended batches, by their newest messages.
    batches: HashMap<(usize, MessageId), View>,
}

/// A batch that is sent.
#[derive(Debug)]
pub(super) struct Sent {
    ids: Vec<MessageId>,
}

/// A request of a recorded write, which may change the memory each time that it arrives.
#[derive(Debug)]
pub(super) struct Effect(Option<(Arc<Recorder>, usize)>);

impl Effect {
    /// Sends the request, and records when it changed the memory.
    pub(super) fn of<T>(
        self,
        server: &Arc<Server>,
        key: &MemoryKey,
        send: impl FnOnce(&Arc<Server>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let Some((recorder, operation)) = self.0 else { return send(server) };
        let version = || server.version(key);
        let before = version();
        let answer = send(server);
        if version() != before {
            let mut history = recorder.history();
            let now = history.tick();
            history.effects.applied(operation, now);
        }
        answer
    }
}

impl Views {
    /// The view of a reader or a planner with this cursor.
    fn of(&self, key: usize, cursor: Cursor) -> View {
        self.read.get(&(key, cursor)).cloned().unwrap_or_default()
    }

    fn learn(&mut self, key: usize, cursor: Cursor, view: View) {
        self.read.insert((key, cursor), view);
    }
}

/// Observes the requests of a connection, only if the server may roll back.
#[derive(Debug, Clone)]
pub(super) struct Witness(Option<Arc<Recorder>>);

impl Witness {
    pub(super) fn of(program: &Program, recorder: &Arc<Recorder>) -> Self {
        Self(program.loses().then(|| Arc::clone(recorder)))
    }

    pub(super) fn batch(append: &Append) -> Sent {
        Sent { ids: append.messages.iter().map(|message| message.id).collect() }
    }

    pub(super) fn appended(&self, key: &MemoryKey, sent: Sent, appended: &Appended) {
        let Some(recorder) = &self.0 else { return };
        let AppendOutcome::Appended { first } = appended.outcome else { return };
        if let Some(newest) = sent.ids.last().copied() {
            let places = (first.number()..).map(Sequence::new);
            let batch = places.zip(sent.ids).collect();
            recorder.history().views.batches.insert((key_number(key), newest), batch);
        }
    }

    /// The request of a recorded write.
    pub(super) fn write(&self, operation: Option<usize>) -> Effect {
        Effect(self.0.clone().zip(operation))
    }

    /// P8: a continued read, together with the earlier pages, equals a complete read.
    pub(super) fn read(&self, server: &Server, key: &MemoryKey, read: Read, page: &Page) {
        self.compare(server, key, read.after, page, &[]);
    }

    /// P8: the same for a read without batches that the reader appended itself.
    pub(super) fn caught_up(
        &self,
        server: &Server,
        key: &MemoryKey,
        after: Cursor,
        caught_up: &CaughtUp,
    ) {
        self.compare(server, key, Some(after), &caught_up.page, &caught_up.confirmed);
    }

    fn compare(
        &self,
        server: &Server,
        key: &MemoryKey,
        after: Option<Cursor>,
        page: &Page,
        confirmed: &[KnownBatch],
    ) {
        let Some(recorder) = &self.0 else { return };
        let Ok(whole) = server.read(key, Read::default()) else { return };
        let mut history = recorder.history();
        let number = key_number(key);
        let after = after.filter(|_| !page.restarted);
        let mut view = after.map(|cursor| history.views.of(number, cursor)).unwrap_or_default();
        view.extend(view_of(page.messages.iter().map(|message| &message.meta)));
        for batch in confirmed {
            view.extend(
                history.views.batches.get(&(number, batch.id)).cloned().unwrap_or_default(),
            );
        }
        let mut there = view_of(whole.messages.iter().map(|message| &message.meta));
        if page.more {
            there.retain(|place, _| *place <= page.cursor.sequence);
        }
        if view != there {
            let (lacks, has) = (without(&there, &view), without(&view, &there));
            let what = format!(
                "memory {number}: a reader continued from {after:?}, lacks {lacks:?} and has {has:?}"
            );
            history.broken(Check::ReaderMisses, what);
        }
        history.views.learn(number, page.cursor, view);
    }

    pub(super) fn outlined(&self, key: &MemoryKey, outline: &Outline) {
        let Some(recorder) = &self.0 else { return };
        let view = view_of(&outline.metas);
        recorder.history().views.learn(key_number(key), outline.cursor(), view);
    }

    /// P8: a fetch by an outline returns messages of that outline.
    pub(super) fn fetched(
        &self,
        key: &MemoryKey,
        snapshot: Cursor,
        places: &[Sequence],
        messages: &[StoredMessage],
    ) {
        let Some(recorder) = &self.0 else { return };
        let mut history = recorder.history();
        let number = key_number(key);
        let mut asked = history.views.of(number, snapshot);
        asked.retain(|place, _| places.contains(place));
        // A place that came after the outline is no part of it.
        let of_outline = messages.iter().map(|message| &message.meta);
        let found = view_of(of_outline.filter(|meta| meta.sequence <= snapshot.sequence));
        if asked != found {
            let what = format!("memory {number}: asked for {asked:?}, fetched {found:?}");
            history.broken(Check::FetchedOther, what);
        }
    }

    /// P1: a splice removes only messages that its flush read.
    pub(super) fn spliced<T, E>(
        &self,
        server: &Arc<Server>,
        key: &MemoryKey,
        splice: Splice,
        send: impl FnOnce(&Arc<Server>, Splice) -> Result<T, E>,
    ) -> Result<T, E> {
        let Some(recorder) = &self.0 else { return send(server, splice) };
        let there = || server.outline(key).map(|outline| view_of(&outline.metas));
        let snapshot = splice.cursor();
        let before = there();
        let answer = send(server, splice);
        if let (Ok(before), Ok(after)) = (before, there()) {
            let mut history = recorder.history();
            let number = key_number(key);
            let seen = history.views.of(number, snapshot);
            let unseen = without(&without(&before, &after), &seen);
            if !unseen.is_empty() {
                let what = format!("memory {number}: a flush took {unseen:?} unseen");
                history.broken(Check::FlushTookUnseen, what);
            }
        }
        answer
    }
}

fn view_of<'m>(metas: impl IntoIterator<Item = &'m MessageMeta>) -> View {
    metas.into_iter().map(|meta| (meta.sequence, meta.id)).collect()
}

/// The messages of one view that are not in the other.
fn without(one: &View, other: &View) -> View {
    let there: BTreeSet<_> = other.values().collect();
    one.iter().filter(|(_, id)| !there.contains(id)).map(|(place, id)| (*place, *id)).collect()
}
