//! The calls of a store without a facade.

use std::num::NonZeroUsize;

use jiff::Timestamp;
use memory_core::lease::LeaseProof;
use memory_core::store::{
    Access, Append, Clear, CopyStep, CopyWrite, Cursor, Erase, ExpiredMemories, FlushReceipt, Fork,
    ForkOrigin, Forked, FrameWriters, Head, KnownBatch, Read, RemoveUnused, Replace, ReplaceAll,
    Restore, Retention, SearchQuery, Splice, StoreErrorKind, UnusedMemory, UnusedQuery,
    UpdateMetadata, WriteId, WriterId,
};
use memory_core::{MemoryKey, Message, Sequence};
use memory_lock::LockOptions;
use memory_lock_testkit::Cut;
use uuid::Uuid;

use crate::worlds::{CallEnd, Case, HISTORY, TTL};

pub(crate) const OPERATIONS: &[&str] = &[
    "MemoryStore::append",
    "MemoryStore::archived",
    "MemoryStore::claim",
    "MemoryStore::clear",
    "MemoryStore::erase",
    "MemoryStore::erasures",
    "MemoryStore::fetch",
    "MemoryStore::fork",
    "MemoryStore::frame",
    "MemoryStore::head",
    "MemoryStore::keys",
    "MemoryStore::metadata",
    "MemoryStore::origin",
    "MemoryStore::outline",
    "MemoryStore::read",
    "MemoryStore::catch_up",
    "MemoryStore::read_before",
    "MemoryStore::receipts",
    "MemoryStore::removals",
    "MemoryStore::remove",
    "MemoryStore::replace",
    "MemoryStore::replace_all",
    "MemoryStore::restore",
    "MemoryStore::scrub",
    "MemoryStore::search",
    "MemoryStore::rebuild_index",
    "MemoryStore::server",
    "MemoryStore::splice",
    "MemoryStore::unused",
    "MemoryStore::update_metadata",
    "MemoryStore::watch",
    "MemoryStore::write_copy",
    "StoreWatch::changed",
];

fn write() -> WriteId {
    WriterId::new(fastrand::u128(..)).write(1)
}

/// Sets up the call and drops it at the cut. Returns whether it had completed. A write that is then sent again under
/// its own id is applied once.
pub(crate) async fn cut_off(case: &Case<'_>, operation: &str, cut: Cut) -> bool {
    let Case { memory, what, world } = case;
    let (store, key) = (&world.store, memory.key());
    match operation {
        "MemoryStore::append" => {
            let batch = memory.prepare(["one", "two"].map(Message::user)).unwrap();
            let messages = batch.messages().to_vec().into();
            let append = Append { write: write(), messages, ttl: None, expected: None };
            let done = cut.off(store.append(key, Access::OPEN, &append)).await.map(Result::unwrap);
            let again = store.append(key, Access::OPEN, &append).await.unwrap();
            assert!(done.is_none() || again.outcome.is_duplicate(), "{what}");
            case.assert_all_or_nothing(CallEnd::Completed, &["one", "two"]).await;
            done.is_some()
        }
        "MemoryStore::clear" => {
            let clear = Clear::new(write());
            let done = cut.off(store.clear(key, Access::OPEN, &clear)).await.map(Result::unwrap);
            let again = store.clear(key, Access::OPEN, &clear).await.unwrap();
            assert_eq!(again.counters.cleared, u64::try_from(HISTORY).unwrap() + 1, "{what}");
            done.is_some()
        }
        "MemoryStore::replace_all" => {
            let messages = memory.prepare([Message::user("one")]).unwrap().messages().into();
            let batch = Append { write: write(), messages, ttl: Some(TTL), expected: None };
            let replace = ReplaceAll { batch, archive: None };
            let done = cut.off(store.replace_all(key, Access::OPEN, &replace)).await;
            let done = done.map(Result::unwrap);
            let again = store.replace_all(key, Access::OPEN, &replace).await.unwrap().appended;
            let all = u64::try_from(HISTORY).unwrap() + 1;
            assert_eq!(
                (again.counters.cleared, again.counters.present.messages),
                (all, 1),
                "{what}"
            );
            done.is_some()
        }
        "MemoryStore::replace" => {
            let batch = memory.prepare([Message::user("one")]).unwrap();
            let old = store.outline(key).await.unwrap().metas.swap_remove(1);
            let replace = Replace {
                write: write(),
                sequence: old.sequence,
                replaced: old.id,
                message: batch.messages()[0].clone(),
            };
            let done =
                cut.off(store.replace(key, Access::OPEN, &replace)).await.map(Result::unwrap);
            let again = store.replace(key, Access::OPEN, &replace).await.unwrap();
            assert!(done.as_ref().is_none_or(|done| *done == again), "{what}");
            let found = store.outline(key).await.unwrap();
            assert_eq!(found.metas[1].id, replace.message.id, "{what}");
            assert_eq!(found.metas.len(), HISTORY + 1, "{what}");
            done.is_some()
        }
        "MemoryStore::splice" => {
            let outline = store.outline(key).await.unwrap();
            let mut splice = Splice::of(&outline);
            splice.evicted = outline.metas[..2].iter().map(|meta| meta.sequence).collect();
            let done = cut.off(store.splice(key, Access::OPEN, &splice)).await.map(Result::unwrap);
            // Without a receipt, a repeated splice is recognized by its outdated generation.
            let again = store.splice(key, Access::OPEN, &splice).await;
            let refused = again.as_ref().is_err_and(|it| it.kind() == &StoreErrorKind::Conflict);
            assert!(refused || (again.is_ok() && done.is_none()), "{what}: {again:?}");
            assert_eq!(store.head(key).await.unwrap().counters.evicted, 2, "{what}");
            done.is_some()
        }
        "MemoryStore::restore" => {
            let outline = store.outline(key).await.unwrap();
            let id = Uuid::from_u128(fastrand::u128(..));
            let mut receipt = FlushReceipt::new(id, "fifo", Timestamp::UNIX_EPOCH);
            let evicted: Vec<_> = outline.metas[..2].iter().map(|meta| meta.sequence).collect();
            receipt.evicted = evicted.iter().copied().collect();
            let archive = Some(Retention::forever());
            let splice =
                Splice { evicted, receipt: Some(receipt), archive, ..Splice::of(&outline) };
            store.splice(key, Access::OPEN, &splice).await.unwrap();
            let restore = Restore { write: write(), receipt: id };
            let done =
                cut.off(store.restore(key, Access::OPEN, &restore)).await.map(Result::unwrap);
            let again = store.restore(key, Access::OPEN, &restore).await.unwrap();
            assert!(done.as_ref().is_none_or(|done| *done == again), "{what}");
            let found = store.outline(key).await.unwrap();
            assert_eq!(found.metas, outline.metas, "{what}");
            assert_eq!(again.evicted, 0, "{what}");
            done.is_some()
        }
        "MemoryStore::erase" => {
            let places = store.outline(key).await.unwrap().metas[1..3]
                .iter()
                .map(|meta| meta.sequence)
                .collect();
            let erase = Erase { write: write(), places, reason: "test".into() };
            let done = cut.off(store.erase(key, Access::OPEN, &erase)).await.map(Result::unwrap);
            let again = store.erase(key, Access::OPEN, &erase).await.unwrap();
            assert!(done.as_ref().is_none_or(|done| *done == again), "{what}");
            assert_eq!(again.erasure.messages, 2, "{what}");
            let counters = store.head(key).await.unwrap().counters;
            assert_eq!((counters.withdrawn, counters.is_conserved()), (2, true), "{what}");
            done.is_some()
        }
        "MemoryStore::update_metadata" => {
            let expected = Some(store.metadata(key).await.unwrap().revision);
            let patch = [("state", what.as_str())].into();
            let update = UpdateMetadata { write: write(), patch, expected, ttl: None };
            let done = cut.off(store.update_metadata(key, Access::OPEN, &update)).await;
            let done = done.map(Result::unwrap);
            // Sent again, it is no conflict with itself.
            let again = store.update_metadata(key, Access::OPEN, &update).await.unwrap();
            assert!(done.as_ref().is_none_or(|done| *done == again), "{what}");
            assert_eq!(Some(again.revision), expected.map(|before| before + 1), "{what}");
            done.is_some()
        }
        "MemoryStore::metadata" => cut.off(store.metadata(key)).await.map(Result::unwrap).is_some(),
        "MemoryStore::erasures" => cut.off(store.erasures(key)).await.map(Result::unwrap).is_some(),
        "MemoryStore::write_copy" => {
            let to =
                MemoryKey::new("copies", "m", &Uuid::from_u128(fastrand::u128(..)).to_string());
            let (to, copy) = (to.unwrap(), Uuid::from_u128(fastrand::u128(..)));
            let page = store.read(key, Read::default()).await.unwrap();
            let frame = Box::new(store.frame(key, FrameWriters::Included).await.unwrap());
            let steps = [
                CopyStep::Begin,
                CopyStep::Messages(page.messages),
                CopyStep::Finish { frame, removals: 0 },
            ];
            let mut ended = true;
            for step in steps {
                let write = CopyWrite { copy, attempt: 1, step };
                let done = cut.off(store.write_copy(&to, Access::OPEN, &write)).await;
                ended &= done.map(Result::unwrap).is_some();
                store.write_copy(&to, Access::OPEN, &write).await.unwrap();
            }
            let (copied, outline) = (store.outline(&to).await, store.outline(key).await);
            assert_eq!(copied.unwrap().metas, outline.unwrap().metas, "{what}");
            ended
        }
        "MemoryStore::fork" => {
            let to = MemoryKey::new("forks", "m", &Uuid::from_u128(fastrand::u128(..)).to_string());
            let (to, copy) = (to.unwrap(), Uuid::from_u128(fastrand::u128(..)));
            let outline = store.outline(key).await.unwrap();
            let Head { generation, version, last: at, .. } = outline.head;
            let forked_at = Timestamp::UNIX_EPOCH;
            let origin = ForkOrigin { key: key.clone(), at, version, forked_at, id: None };
            let fork = Fork { from: key.clone(), generation, copy, origin };
            let done = cut.off(store.fork(&to, Access::OPEN, &fork)).await.map(Result::unwrap);
            let again = store.fork(&to, Access::OPEN, &fork).await.unwrap();
            assert!(done.is_none_or(|done| done == again), "{what}");
            let metas = store.outline(&to).await.unwrap().metas;
            let expected = if again == Forked::Complete { outline.metas } else { Vec::new() };
            assert_eq!(metas, expected, "{what}");
            done.is_some()
        }
        "MemoryStore::scrub" => {
            let done = cut.off(store.scrub()).await.map(Result::unwrap).is_some();
            assert_eq!(store.outline(key).await.unwrap().metas.len(), HISTORY + 1, "{what}");
            done
        }
        "MemoryStore::remove" => {
            let Head { generation, version, counters, .. } = store.head(key).await.unwrap();
            let newest = Splice::of(&store.outline(key).await.unwrap()).newest;
            let (key, messages) = (key.clone(), counters.present.messages);
            let mut memory = UnusedMemory::new(key, generation, version);
            (memory.newest, memory.messages) = (newest, messages);
            let remove = RemoveUnused::new(&memory, NonZeroUsize::MAX);
            let done = cut.off(store.remove(&memory.key, remove)).await.map(Result::unwrap);
            let again = store.remove(&memory.key, remove).await.unwrap();
            assert!(done.is_none_or(|done| done.messages == messages), "{what}: {done:?}");
            assert!(done.is_none() || again.messages == 0, "{what}: {again:?}");
            assert_eq!(store.head(&memory.key).await.unwrap(), Head::default(), "{what}");
            done.is_some()
        }
        "MemoryStore::watch" => {
            let watch = cut.off(store.watch(key)).await.map(Result::unwrap);
            memory.append(Message::user("watched")).await.unwrap();
            let ended = watch.is_some();
            if let Some(mut watch) = watch {
                watch.changed().await.unwrap();
            }
            ended
        }
        "StoreWatch::changed" => {
            let mut watch = store.watch(key).await.unwrap();
            memory.append(Message::user("watched")).await.unwrap();
            let ended = cut.off(watch.changed()).await.map(Result::unwrap).is_some();
            if !ended {
                // The signal was kept, or this call returned it.
                memory.append(Message::user("again")).await.unwrap();
                watch.changed().await.unwrap();
            }
            ended
        }
        "MemoryStore::claim" => {
            let options = LockOptions::new().with_ttl(TTL);
            let held = world.others.lock(&case.lease(), &options).await.unwrap();
            let lease: LeaseProof = held.proof();
            let done = cut.off(store.claim(key, lease)).await.map(Result::unwrap);
            store.claim(key, lease).await.unwrap();
            assert_eq!(store.head(key).await.unwrap().fence, lease.token, "{what}");
            drop(held);
            done.is_some()
        }
        _ => {
            let before = store.outline(key).await.unwrap();
            let places: Vec<Sequence> = before.metas.iter().map(|meta| meta.sequence).collect();
            // A small page, because each case adds a memory.
            let most = NonZeroUsize::new(3).unwrap();
            let all = HISTORY + 1;
            let ended = match operation {
                "MemoryStore::head" => {
                    let done = cut.off(store.head(key)).await.map(Result::unwrap);
                    done.map(|head| assert_eq!(head, before.head, "{what}")).is_some()
                }
                "MemoryStore::frame" => {
                    let done =
                        cut.off(store.frame(key, FrameWriters::Included)).await.map(Result::unwrap);
                    done.map(|frame| assert_eq!(frame.last, before.head.last, "{what}")).is_some()
                }
                "MemoryStore::origin" => {
                    let done = cut.off(store.origin(key)).await.map(Result::unwrap);
                    done.map(|origin| assert_eq!(origin, None, "{what}")).is_some()
                }
                "MemoryStore::read" => {
                    let done = cut.off(store.read(key, Read::default())).await.map(Result::unwrap);
                    done.map(|page| assert_eq!(page.messages.len(), all, "{what}")).is_some()
                }
                "MemoryStore::catch_up" => {
                    let start = Cursor::from(before.head.generation);
                    let newest = before.metas.last().unwrap();
                    let (first, last) = (newest.sequence, newest.sequence);
                    let known = [KnownBatch { first, last, id: newest.id }];
                    let caught_up = store.catch_up(key, start, &known);
                    let done = cut.off(caught_up).await.map(Result::unwrap);
                    done.map(|caught_up| {
                        assert_eq!(caught_up.page.messages.len(), all - 1, "{what}");
                        assert_eq!(caught_up.confirmed, known, "{what}");
                    })
                    .is_some()
                }
                "MemoryStore::read_before" => {
                    let read = store.read_before(key, None, most);
                    let done = cut.off(read).await.map(Result::unwrap);
                    done.map(|page| assert_eq!(page.messages.len(), 3, "{what}")).is_some()
                }
                "MemoryStore::outline" => {
                    let done = cut.off(store.outline(key)).await.map(Result::unwrap);
                    done.map(|outline| assert_eq!(outline, before, "{what}")).is_some()
                }
                "MemoryStore::fetch" => {
                    let fetch = store.fetch(key, before.cursor(), &places);
                    let done = cut.off(fetch).await.map(Result::unwrap);
                    done.map(|found| assert_eq!(found.len(), all, "{what}")).is_some()
                }
                "MemoryStore::receipts" => {
                    let done = cut.off(store.receipts(key)).await.map(Result::unwrap);
                    done.map(|receipts| assert!(receipts.is_empty(), "{what}")).is_some()
                }
                "MemoryStore::removals" => {
                    let removals = store.removals(key, None, most);
                    let done = cut.off(removals).await.map(Result::unwrap);
                    done.map(|removals| assert!(removals.is_empty(), "{what}")).is_some()
                }
                "MemoryStore::archived" => {
                    let archived = store.archived(key, 1, Sequence::ZERO, most.into());
                    let done = cut.off(archived).await.map(Result::unwrap);
                    done.map(|messages| assert!(messages.is_empty(), "{what}")).is_some()
                }
                "MemoryStore::search" => {
                    let query = SearchQuery::new("word");
                    let done = cut.off(store.search(key, &query)).await.map(Result::unwrap);
                    done.map(|found| assert!(found.coverage.next().is_none(), "{what}")).is_some()
                }
                "MemoryStore::rebuild_index" => {
                    let done = cut.off(store.rebuild_index(key)).await.map(Result::unwrap);
                    done.map(|places| assert!(places.is_none_or(|n| n == all as u64), "{what}"))
                        .is_some()
                }
                "MemoryStore::keys" => {
                    let done = cut.off(store.keys(None, most)).await.map(Result::unwrap);
                    done.map(|keys| assert!((1..=3).contains(&keys.len()), "{what}")).is_some()
                }
                "MemoryStore::unused" => {
                    let query = UnusedQuery {
                        prefix: key.as_str().to_owned(),
                        after: None,
                        expired: ExpiredMemories::Selected,
                        unwritten_for: Some(std::time::Duration::MAX),
                        limit: most,
                    };
                    let done = cut.off(store.unused(&query)).await.map(Result::unwrap);
                    done.map(|page| assert!(page.memories.is_empty(), "{what}: {page:?}")).is_some()
                }
                "MemoryStore::server" => {
                    cut.off(store.server()).await.map(|done| drop(done.unwrap())).is_some()
                }
                other => panic!("the sweep has no case for {other}"),
            };
            assert_eq!(store.outline(key).await.unwrap(), before, "{what}");
            ended
        }
    }
}
