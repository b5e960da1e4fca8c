//! Checks of the store's answers against earlier answers, if the server may roll back.
//!
//! A place identifies no message after a rollback, so a view is identified by the ids of its messages. When the server
//! answers a read, outline, fetch or splice, it is compared at once with a complete read.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use memory_core::store::{
    Append, Appended, Clear, Cursor, MessageId, MessageMeta, Outline, Page, Read, Splice,
};
use memory_core::{MemoryKey, Sequence, StoredMessage};

use crate::history::{Recorder, Tag, tag_of};
use crate::program::Program;
use crate::run::key_number;
use crate::server::Server;
use crate::violation::Check;

/// The message at each place.
type View = BTreeMap<Sequence, MessageId>;

/// The messages that any process read up to each cursor, per memory.
#[derive(Debug, Default)]
pub(crate) struct Views(HashMap<(usize, Cursor), View>);

impl Views {
    /// The view of a reader or a planner with this cursor.
    fn of(&self, key: usize, cursor: Cursor) -> View {
        self.0.get(&(key, cursor)).cloned().unwrap_or_default()
    }

    fn learn(&mut self, key: usize, cursor: Cursor, view: View) {
        self.0.insert((key, cursor), view);
    }
}

/// Observes the requests of a connection, only if the server may roll back.
#[derive(Debug, Clone)]
pub(super) struct Witness(Option<Arc<Recorder>>);

impl Witness {
    pub(super) fn of(program: &Program, recorder: &Arc<Recorder>) -> Self {
        Self(program.goes_back().then(|| Arc::clone(recorder)))
    }

    /// The batch that is sent, by its first message.
    pub(super) fn batch(append: &Append) -> Option<Tag> {
        append.messages.first().and_then(|first| tag_of(&first.message))
    }

    pub(super) fn appended(&self, batch: Option<Tag>, appended: &Appended) {
        let (Some(recorder), Some(batch)) = (&self.0, batch) else { return };
        if !appended.outcome.is_duplicate() {
            let mut history = recorder.history();
            let now = history.tick();
            history.effects.appended(batch, now);
        }
    }

    pub(super) fn cleared(&self, key: &MemoryKey, clear: &Clear) {
        let Some(recorder) = &self.0 else { return };
        let mut history = recorder.history();
        let now = history.tick();
        history.effects.cleared(key_number(key), clear.write, now);
    }

    /// P8: a continued read, together with the earlier pages, equals a complete read.
    pub(super) fn read(&self, server: &Server, key: &MemoryKey, read: Read, page: &Page) {
        let Some(recorder) = &self.0 else { return };
        let Ok(whole) = server.read(key, Read::default()) else { return };
        let mut history = recorder.history();
        let number = key_number(key);
        let after = read.after.filter(|_| !page.restarted);
        let mut view = after.map(|cursor| history.views.of(number, cursor)).unwrap_or_default();
        view.extend(view_of(page.messages.iter().map(|message| &message.meta)));
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
        let found = view_of(messages.iter().map(|message| &message.meta));
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
