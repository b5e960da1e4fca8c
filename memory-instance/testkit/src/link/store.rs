//! The store's half of a connection.

use std::num::NonZeroUsize;
use std::sync::Arc;

use async_trait::async_trait;
use memory_core::health::ServerHealth;
use memory_core::lease::{LeaseDomain, LeaseProof};
use memory_core::store::{
    Access, Append, Appended, Applied, ArchivedRemoval, CaughtUp, Clear, Cleared, CopyProgress,
    CopyStep, CopyWrite, Counters, Cursor, Durability, Erase, Erased, Erasure, FlushReceipt, Fork,
    ForkOrigin, Forked, Frame, FrameWriters, Head, KnownBatch, Metadata, Outline, Page, PageLimit,
    Read, RemainingCopy, RemoveUnused, RemovedUnused, Replace, ReplaceAll, ReplacedAll, Restore,
    Scrubbed, SearchQuery, SearchResults, Splice, StoreError, StoreErrorKind, StoreOperation,
    StoreWatch, UnusedPage, UnusedQuery, UpdateMetadata,
};
use memory_core::{MemoryKey, MemoryStore, Sequence, StoredMessage};

use super::Link;
use super::scopes::{Rewinding, is_deleting, is_restoring, is_rewriting, written_now};
use super::witness::Witness;
use crate::bug::Bug;
use crate::checks::check_outline;
use crate::history::{Answer, Call, Caller, Copied, Item, Removed, Totals, call_of, item_of};
use crate::run::key_number;
use crate::server::{Server, Source};

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl MemoryStore for Link {
    async fn append(
        &self,
        key: &MemoryKey,
        access: Access,
        append: &Append,
    ) -> Result<Appended, StoreError> {
        self.recorder.history().sent(append.messages.iter(), Item::Cleared);
        let (key, append, witness) = (key.clone(), append.clone(), self.witness.clone());
        let effect = witness.write(written_now());
        let append = move |server: &Arc<Server>| {
            let batch = Witness::batch(&append);
            let send = |server: &Arc<Server>| server.append(&key, access, append);
            let appended = effect.of(server, &key, send)?;
            witness.appended(&key, batch, &appended);
            Ok(appended)
        };
        self.store(("append", StoreOperation::Append), append).await
    }

    async fn replace(
        &self,
        key: &MemoryKey,
        access: Access,
        replace: &Replace,
    ) -> Result<Counters, StoreError> {
        self.recorder.history().replacing(replace);
        let (key, replace) = (key.clone(), replace.clone());
        let effect = self.witness.write(written_now());
        self.store(("replace", StoreOperation::Replace), move |server| {
            effect.of(server, &key, |server| server.replace(&key, access, &replace))
        })
        .await
    }

    async fn splice(
        &self,
        key: &MemoryKey,
        access: Access,
        splice: &Splice,
    ) -> Result<Counters, StoreError> {
        self.recorder.history().sent(&splice.summary, Item::Summary);
        let replaced = splice.replaced.iter().map(|replaced| &replaced.message);
        self.recorder.history().sent(replaced, Item::Cleared);
        // The model does not include explicit closing of calls.
        let rewinding = Rewinding::now();
        let op = self.call(key, call_of(splice, rewinding.as_ref().map(|it| it.expected)));
        if let Some(rewinding) = rewinding {
            rewinding.sent(op);
        }
        let (at, splice, witness) = (key.clone(), splice.clone(), self.witness.clone());
        let splice = move |server: &Arc<Server>| {
            witness
                .spliced(server, &at, splice, |server, splice| server.splice(&at, access, splice))
        };
        let answer = self.store(("splice", StoreOperation::Splice), splice).await;
        if self.is_dead() {
            return std::future::pending().await;
        }
        match &answer {
            Ok(counters) => self.recorder.answer(op, Answer::Spliced(Totals::from(counters))),
            Err(error) if error.kind() == &StoreErrorKind::Conflict => {
                self.recorder.answer(op, Answer::Conflict);
            }
            Err(error) if error.applied() == Applied::No => self.recorder.refused(op),
            Err(_) => {}
        }
        answer
    }

    async fn clear(
        &self,
        key: &MemoryKey,
        access: Access,
        clear: &Clear,
    ) -> Result<Cleared, StoreError> {
        // A deletion removes a memory that was changed under it in two steps.
        let op = is_deleting().then(|| {
            let id = self.recorder.history().id_of(clear.write);
            self.call(key, Call::Purge(id))
        });
        let effect = self.witness.write(op.or_else(written_now));
        let (key, clear) = (key.clone(), *clear);
        let clear = move |server: &Arc<Server>| {
            effect.of(server, &key, |server| server.clear(&key, access, &clear))
        };
        let answer = self.store(("clear", StoreOperation::Clear), clear).await;
        match (&answer, op) {
            (Ok(_), Some(op)) => self.recorder.answer(op, Answer::Cleared),
            (Err(error), Some(op)) if error.applied() == Applied::No => self.recorder.refused(op),
            _ => {}
        }
        answer
    }

    async fn replace_all(
        &self,
        key: &MemoryKey,
        access: Access,
        replace: &ReplaceAll,
    ) -> Result<ReplacedAll, StoreError> {
        self.recorder.history().sent(replace.batch.messages.iter(), Item::Cleared);
        let (key, replace) = (key.clone(), replace.clone());
        let effect = self.witness.write(written_now());
        let replace = move |server: &Arc<Server>| {
            effect.of(server, &key, |server| server.replace_all(&key, access, &replace))
        };
        self.store(("replace_all", StoreOperation::ReplaceAll), replace).await
    }

    async fn restore(
        &self,
        key: &MemoryKey,
        access: Access,
        restore: &Restore,
    ) -> Result<Counters, StoreError> {
        let (key, restore) = (key.clone(), *restore);
        let effect = self.witness.write(written_now());
        let restore = move |server: &Arc<Server>| {
            effect.of(server, &key, |server| server.restore(&key, access, &restore))
        };
        self.store(("restore", StoreOperation::Restore), restore).await
    }

    async fn removals(
        &self,
        key: &MemoryKey,
        before: Option<u64>,
        limit: NonZeroUsize,
    ) -> Result<Vec<ArchivedRemoval>, StoreError> {
        let at = key.clone();
        let read = move |server: &Arc<Server>| server.removals(&at, before, limit);
        // The model has the list from its start. All of the programs' lists fit into one page.
        let op = before.is_none().then(|| self.call(key, Call::Removals));
        let removals = self.ask(("removals", StoreOperation::Read), read).await?;
        if let Some(op) = op.filter(|_| removals.len() < limit.get()) {
            let removals = removals.iter().map(Removed::of).collect();
            self.recorder.answer(op, Answer::Removals(removals));
        }
        Ok(removals)
    }

    async fn archived(
        &self,
        key: &MemoryKey,
        removal: u64,
        after: Sequence,
        limit: PageLimit,
    ) -> Result<Vec<StoredMessage>, StoreError> {
        let at = key.clone();
        let read = move |server: &Arc<Server>| server.archived(&at, removal, after, limit);
        let is_start = after == Sequence::ZERO;
        let op = is_start.then(|| self.call(key, Call::Archived(removal)));
        let messages = self.ask(("archived", StoreOperation::Read), read).await?;
        if let Some(op) = op {
            let messages = messages.iter().map(item_of).collect();
            self.recorder.answer(op, Answer::Archived(messages));
        }
        if is_start && is_rewriting() && self.bug() == Some(Bug::RewriteFromStale) {
            return Ok(self.server.with_erased(key, removal, messages));
        }
        Ok(messages)
    }

    async fn erase(
        &self,
        key: &MemoryKey,
        access: Access,
        erase: &Erase,
    ) -> Result<Erased, StoreError> {
        let (key, erase) = (key.clone(), erase.clone());
        let effect = self.witness.write(written_now());
        let erase = move |server: &Arc<Server>| {
            effect.of(server, &key, |server| server.erase(&key, access, &erase))
        };
        self.store(("erase", StoreOperation::Erase), erase).await
    }

    async fn erasures(&self, key: &MemoryKey) -> Result<Vec<Erasure>, StoreError> {
        let key = key.clone();
        self.ask(("erasures", StoreOperation::Read), move |server| server.erasures(&key)).await
    }

    async fn search(
        &self,
        key: &MemoryKey,
        query: &SearchQuery,
    ) -> Result<SearchResults, StoreError> {
        let (key, query) = (key.clone(), query.clone());
        let search = move |server: &Arc<Server>| server.search(&key, &query);
        self.ask(("search", StoreOperation::Search), search).await
    }

    async fn rebuild_index(&self, _: &MemoryKey) -> Result<Option<u64>, StoreError> {
        Ok(None)
    }

    async fn scrub(&self) -> Result<Scrubbed, StoreError> {
        Ok(Scrubbed::Unsupported)
    }

    fn remaining_copies(&self) -> &'static [RemainingCopy] {
        &[]
    }

    async fn frame(&self, key: &MemoryKey, writers: FrameWriters) -> Result<Frame, StoreError> {
        let at = key.clone();
        let op = self.call(key, Call::Snapshot);
        let read = move |server: &Arc<Server>| server.frame(&at, writers);
        let frame = self.ask(("frame", StoreOperation::Read), read).await;
        match &frame {
            Ok(frame) => self.recorder.answer(op, Answer::Version(state_of(frame))),
            Err(_) => drop(self.recorder.strike_out(op)),
        }
        frame
    }

    async fn write_copy(
        &self,
        key: &MemoryKey,
        access: Access,
        write: &CopyWrite,
    ) -> Result<CopyProgress, StoreError> {
        let op = match &write.step {
            CopyStep::Finish { frame, .. } => {
                let call = Call::Begin {
                    copy: write.copy.as_u128(),
                    state: state_of(frame),
                    copied: Copied::of(frame, key_number(key)),
                    appended: frame.counters.appended,
                };
                Some(self.call(key, call))
            }
            _ => None,
        };
        let (key, write) = (key.clone(), write.clone());
        let source = if is_restoring() { Source::Backup } else { Source::Memory };
        let copy = move |server: &Arc<Server>| server.write_copy(&key, access, &write, source);
        let answer = self.store(("copy", StoreOperation::Copy), copy).await;
        match (&answer, op) {
            (Ok(_), Some(op)) => self.recorder.answer(op, Answer::Nothing),
            (Err(error), Some(op)) if error.applied() == Applied::No => self.recorder.refused(op),
            _ => {}
        }
        answer
    }

    async fn fork(
        &self,
        key: &MemoryKey,
        access: Access,
        fork: &Fork,
    ) -> Result<Forked, StoreError> {
        let op = self.call(
            key,
            Call::Fork {
                copy: fork.copy.as_u128(),
                generation: fork.generation.number(),
                at: fork.origin.at.number(),
            },
        );
        let (key, fork) = (key.clone(), fork.clone());
        let write = move |server: &Arc<Server>| server.fork(&key, access, &fork);
        let answer = self.store(("fork", StoreOperation::Copy), write).await;
        match &answer {
            Ok(Forked::Complete) => self.recorder.answer(op, Answer::Nothing),
            Ok(Forked::InParts) => self.recorder.refused(op),
            Err(error) if error.applied() == Applied::No => self.recorder.refused(op),
            Err(_) => {}
        }
        answer
    }

    async fn origin(&self, key: &MemoryKey) -> Result<Option<ForkOrigin>, StoreError> {
        let key = key.clone();
        self.ask(("origin", StoreOperation::Read), move |server| server.origin(&key)).await
    }

    async fn metadata(&self, key: &MemoryKey) -> Result<Metadata, StoreError> {
        let key = key.clone();
        self.ask(("metadata", StoreOperation::Read), move |server| server.metadata(&key)).await
    }

    async fn update_metadata(
        &self,
        key: &MemoryKey,
        access: Access,
        update: &UpdateMetadata,
    ) -> Result<Metadata, StoreError> {
        let (key, update) = (key.clone(), update.clone());
        let update = move |server: &Arc<Server>| server.update_metadata(&key, access, &update);
        self.store(("update_metadata", StoreOperation::UpdateMetadata), update).await
    }

    async fn claim(&self, key: &MemoryKey, lease: LeaseProof) -> Result<(), StoreError> {
        let key = key.clone();
        self.store(("claim", StoreOperation::Claim), move |server| server.claim(&key, lease)).await
    }

    async fn head(&self, key: &MemoryKey) -> Result<Head, StoreError> {
        let key = key.clone();
        self.ask(("head", StoreOperation::Read), move |server| server.head(&key)).await
    }

    async fn read(&self, key: &MemoryKey, read: Read) -> Result<Page, StoreError> {
        if let Some(page) = read.after.and_then(|after| self.unasked(key, after)) {
            return Ok(page);
        }
        let (key, witness) = (key.clone(), self.witness.clone());
        let read = move |server: &Arc<Server>| {
            let page = server.read(&key, read)?;
            witness.read(server, &key, read, &page);
            Ok(page)
        };
        self.ask(("read", StoreOperation::Read), read).await
    }

    async fn catch_up(
        &self,
        key: &MemoryKey,
        after: Cursor,
        known: &[KnownBatch],
    ) -> Result<CaughtUp, StoreError> {
        if let Some(page) = self.unasked(key, after) {
            return Ok(page.into());
        }
        let (key, known, witness) = (key.clone(), known.to_vec(), self.witness.clone());
        let catch_up = move |server: &Arc<Server>| {
            let caught_up = server.catch_up(&key, after, &known)?;
            witness.caught_up(server, &key, after, &caught_up);
            Ok(caught_up)
        };
        self.ask(("catch_up", StoreOperation::Read), catch_up).await
    }

    async fn read_before(
        &self,
        key: &MemoryKey,
        before: Option<Cursor>,
        limit: NonZeroUsize,
    ) -> Result<Page, StoreError> {
        let key = key.clone();
        let read = move |server: &Arc<Server>| server.read_before(&key, before, limit);
        self.ask(("read_before", StoreOperation::Read), read).await
    }

    async fn outline(&self, key: &MemoryKey) -> Result<Outline, StoreError> {
        let (at, witness) = (key.clone(), self.witness.clone());
        let outline = move |server: &Arc<Server>| {
            let outline = server.outline(&at)?;
            witness.outlined(&at, &outline);
            Ok(outline)
        };
        let mut outline = self.ask(("outline", StoreOperation::Read), outline).await?;
        check_outline(&outline, &mut self.recorder.history());
        self.between(key, &mut outline);
        Ok(outline)
    }

    async fn fetch(
        &self,
        key: &MemoryKey,
        snapshot: Cursor,
        places: &[Sequence],
    ) -> Result<Vec<StoredMessage>, StoreError> {
        let (key, places, witness) = (key.clone(), places.to_vec(), self.witness.clone());
        let fetch = move |server: &Arc<Server>| {
            let messages = server.fetch(&key, snapshot, &places)?;
            witness.fetched(&key, snapshot, &places, &messages);
            Ok(messages)
        };
        self.ask(("fetch", StoreOperation::Read), fetch).await
    }

    async fn receipts(&self, key: &MemoryKey) -> Result<Vec<FlushReceipt>, StoreError> {
        let key = key.clone();
        self.ask(("receipts", StoreOperation::Read), move |server| server.receipts(&key)).await
    }

    async fn keys(
        &self,
        after: Option<&MemoryKey>,
        limit: NonZeroUsize,
    ) -> Result<Vec<MemoryKey>, StoreError> {
        let after = after.cloned();
        self.ask(("keys", StoreOperation::ListKeys), move |server| {
            server.keys(after.as_ref(), limit)
        })
        .await
    }

    async fn unused(&self, query: &UnusedQuery) -> Result<UnusedPage, StoreError> {
        let query = query.clone();
        self.ask(("unused", StoreOperation::ListUnused), move |server| server.unused(&query)).await
    }

    async fn remove(
        &self,
        key: &MemoryKey,
        remove: RemoveUnused,
    ) -> Result<RemovedUnused, StoreError> {
        let (key, recorder) = (key.clone(), is_deleting().then(|| Arc::clone(&self.recorder)));
        let remove = move |server: &Arc<Server>| {
            let removed = server.remove(&key, remove)?;
            if let Some(recorder) = recorder.filter(|_| !removed.more) {
                let newest = remove.newest.map(|newest| newest.sequence.number());
                let delete = Call::Delete { generation: remove.generation.number(), newest };
                let op = recorder.call_of(Caller::Server, key_number(&key), delete);
                recorder.answer(op, Answer::Nothing);
            }
            Ok(removed)
        };
        self.store(("remove", StoreOperation::Remove), remove).await
    }

    async fn watch(&self, key: &MemoryKey) -> Result<Box<dyn StoreWatch>, StoreError> {
        // A signal is a hint that no fault of the network can make wrong.
        self.server.watch_memory(key)
    }

    async fn server(&self) -> Result<Option<ServerHealth>, StoreError> {
        self.ask(("server", StoreOperation::AskServer), |_| Ok(None)).await
    }

    fn lease_domain(&self) -> Option<&LeaseDomain> {
        self.store_domain.as_ref()
    }

    fn durability(&self) -> Durability {
        Durability::Memory
    }
}

/// The numbers of the state that a copy takes: its generation and its version.
const fn state_of(frame: &Frame) -> (u64, u64) {
    (frame.generation.number(), frame.version)
}
