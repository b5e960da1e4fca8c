//! Operations of memories, of turns and of the manager.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use memory_core::store::{
    Access, Erasure, FlushReceipt, Generation, MessageId, NewMessage, Retention, Splice,
    SummaryRecord, WriterId,
};
use memory_core::{ContentType, EstimateCounter, MemoryKey, Message, Priority, Sequence};
use memory_flush::{
    CompactOptions, FallbackChain, FlushSettings, RuleBasedSummarizer, Summarizer, SummaryRequest,
    Timer, compact, from_fn,
};
use memory_instance::backup::{BackupReader, BackupSink, BackupStream, CopyReceipt, RestoredTtl};
use memory_instance::config::operation::Action;
use memory_instance::{
    Change, ExclusiveError, FlushOptions, ForkOptions, GroupBy, KeyContext, KeyPattern,
    MemoryError, MemoryInstance, MemoryOperation, OnFailure, OperationContext, Session,
    SweepOptions, Usage, Version, WatchFrom, WindowOptions,
};
use memory_lock::LockOptions;
use memory_lock_testkit::{Cut, until};
use tokio::sync::oneshot;
use tokio::time::sleep;

use crate::worlds::{CallEnd, Case, HISTORY, TTL, World};

/// All public async operations of memories; a part after a comma describes a condition.
pub(crate) const OPERATIONS: &[&str] = &[
    "MemoryInstance, writes of a handle that may only read",
    "AgentTurn::append",
    "BackupReader::open",
    "MemoryInstance::append",
    "MemoryInstance::append, with a flush that it finds due",
    "MemoryInstance::append_all",
    "MemoryInstance::append_if",
    "MemoryInstance::archived",
    "MemoryInstance::append_all, during a turn of another process",
    "MemoryInstance::backup",
    "MemoryInstance::break_leases",
    "MemoryInstance::clear",
    "MemoryInstance::clear_with_backup",
    "MemoryInstance::delete",
    "MemoryInstance::erase",
    "MemoryInstance::erasures",
    "MemoryInstance::rewrite_summaries",
    "MemoryInstance::close_call",
    "MemoryInstance::calibrate",
    "MemoryInstance::close_call, with a flush that it finds due",
    "MemoryInstance::context",
    "MemoryInstance::copy_to",
    "MemoryInstance::counters",
    "MemoryInstance::ensure_system",
    "MemoryInstance::ensure_system, of another text",
    "MemoryInstance::exclusive",
    "MemoryInstance::exclusive, during a turn of another process",
    "MemoryInstance::exclusive, with a flush that it finds due",
    "MemoryInstance::flush",
    "MemoryInstance::flush_in_background",
    "MemoryInstance::fork",
    "MemoryInstance::health",
    "MemoryInstance::is_empty",
    "MemoryInstance::leases",
    "MemoryInstance::last",
    "MemoryInstance::len",
    "MemoryInstance::messages",
    "MemoryInstance::metadata",
    "MemoryInstance::origin",
    "MemoryInstance::originals",
    "MemoryInstance::page",
    "MemoryInstance::page_before",
    "MemoryInstance::perform_flush, during a flush of another process",
    "MemoryInstance::plan_flush",
    "MemoryInstance::pop_turn",
    "MemoryInstance::purge",
    "MemoryInstance::receipts",
    "MemoryInstance::removals",
    "MemoryInstance::replace",
    "MemoryInstance::restore_backup",
    "MemoryInstance::replace_all",
    "MemoryInstance::rewind",
    "MemoryInstance::search",
    "MemoryInstance::rebuild_index",
    "MemoryInstance::send",
    "MemoryInstance::send, with a flush that it finds due",
    "MemoryInstance::set_content_type",
    "MemoryInstance::set_priority",
    "MemoryInstance::stats",
    "MemoryInstance::token_count",
    "MemoryInstance::undo_flush",
    "MemoryInstance::undo_flush, of a removal with a system prompt",
    "MemoryInstance::update_metadata",
    "MemoryInstance::version",
    "MemoryInstance::watch",
    "MemoryInstance::window",
    "MemoryManager::keys",
    "MemoryManager::shutdown, with a flush under way",
    "MemoryManager::keys_with_prefix",
    "MemoryManager::list_keys",
    "MemoryManager::run",
    "MemoryManager::scrub",
    "MemoryManager::sweep",
    "PreparedTurn::send",
    "ResolvedMemories::begin_turn",
    "Session::append",
    "Session::append_all",
    "Session::clear",
    "Session::context",
    "Session::ensure_system",
    "Session::last",
    "Session::lost",
    "Session::messages",
    "Session::metadata",
    "Session::page",
    "Session::page_before",
    "Session::replace",
    "Session::send",
    "Session::update_metadata",
    "Session::window",
    "Watcher::next",
    "WorkflowScope::finish",
];

/// Operations that need no backend.
pub(crate) const SUMMARY_OPERATIONS: &[&str] =
    &["FallbackChain::run", "Summarizer::summarize", "compact"];

const BUDGET: u64 = 800;

/// Counts the backups that are complete, and keeps none.
#[derive(Debug, Default)]
struct Counted {
    completed: usize,
}

#[async_trait::async_trait]
impl BackupSink for Counted {
    async fn begin(&mut self, _: &MemoryKey) -> std::io::Result<BackupStream> {
        Ok(Box::new(tokio::io::sink()))
    }

    async fn complete(&mut self, _: &CopyReceipt) -> std::io::Result<String> {
        self.completed += 1;
        Ok(String::new())
    }
}

fn options() -> WindowOptions {
    WindowOptions::new(BUDGET)
}

fn one() -> Message {
    Message::user("one")
}

fn batch() -> [Message; 2] {
    [one(), Message::user("two")]
}

/// Sets up the operation and drops it at the cut. Returns whether it had completed.
pub(crate) async fn cut_off(case: &Case<'_>, operation: &str, cut: Cut) -> bool {
    let Case { memory, what, .. } = case;
    match operation {
        "ResolvedMemories::begin_turn" => {
            let turn = case.agent();
            let done = cut.off(turn.begin_turn(&options(), OnFailure::Fail)).await;
            done.map(Result::unwrap).is_some()
        }
        "AgentTurn::append" => {
            let turn = case.agent().begin_turn(&options(), OnFailure::Fail).await.unwrap();
            let done = cut.off(turn.append(batch())).await.map(Result::unwrap);
            case.assert_all_or_nothing(done.is_some().into(), &["one", "two"]).await;
            done.is_some()
        }
        "PreparedTurn::send" => {
            let turn = case.agent().begin_turn(&options(), OnFailure::Fail).await.unwrap();
            let prepared = turn.prepare(batch()).unwrap();
            let done = cut.off(prepared.send()).await.map(Result::unwrap);
            // In either case, sending it again ensures that it is stored once.
            let again = prepared.send().await.unwrap();
            assert!(done.is_none() || again.appended[0].outcome.is_duplicate(), "{what}");
            case.assert_all_or_nothing(CallEnd::Completed, &["one", "two"]).await;
            done.is_some()
        }
        "MemoryInstance::append" => {
            let done = cut.off(memory.append(one())).await.map(Result::unwrap);
            case.assert_all_or_nothing(done.is_some().into(), &["one"]).await;
            done.is_some()
        }
        "MemoryInstance::append, with a flush that it finds due" => {
            let done = cut.off(case.flushing().append(one())).await.map(Result::unwrap);
            case.assert_all_or_nothing(done.is_some().into(), &["one"]).await;
            assert_flushed_or_not(case, done.is_some().into()).await;
            done.is_some()
        }
        "MemoryInstance::send, with a flush that it finds due" => {
            let flushing = case.flushing();
            let prepared = flushing.prepare(batch()).unwrap();
            let done = cut.off(flushing.send(&prepared)).await.map(Result::unwrap);
            let again = memory.send(&prepared).await.unwrap();
            assert!(done.is_none() || again.outcome.is_duplicate(), "{what}");
            case.assert_all_or_nothing(CallEnd::Completed, &["one", "two"]).await;
            assert_flushed_or_not(case, done.is_some().into()).await;
            done.is_some()
        }
        "MemoryInstance::close_call, with a flush that it finds due" => {
            let done = cut.off(case.flushing().close_call("open")).await.map(Result::unwrap);
            let again = memory.close_call("open").await;
            assert!(done.is_none() || again.is_err(), "{what}: {again:?}");
            assert_flushed_or_not(case, done.is_some().into()).await;
            done.is_some()
        }
        "MemoryInstance::exclusive, with a flush that it finds due" => {
            let done = cut.off(case.flushing().exclusive(turn)).await.map(Result::unwrap);
            case.assert_all_or_nothing(done.is_some().into(), &["one", "two"]).await;
            assert_flushed_or_not(case, done.is_some().into()).await;
            done.is_some()
        }
        "MemoryInstance::append_all" => {
            let done = cut.off(memory.append_all(batch())).await.map(Result::unwrap);
            case.assert_all_or_nothing(done.is_some().into(), &["one", "two"]).await;
            done.is_some()
        }
        "MemoryInstance::append_all, during a turn of another process" => {
            let turn = hold(case, &case.lease()).await;
            let done = cut.off(memory.append_all(batch())).await.map(Result::unwrap);
            turn.await.unwrap();
            case.assert_all_or_nothing(done.is_some().into(), &["one", "two"]).await;
            done.is_some()
        }
        "MemoryInstance::ensure_system" => {
            let done = cut.off(memory.ensure_system("name", "one")).await.map(Result::unwrap);
            case.assert_all_or_nothing(done.is_some().into(), &["one"]).await;
            // In either case, the next call ensures that the prompt is stored once.
            memory.ensure_system("name", "one").await.unwrap();
            case.assert_all_or_nothing(CallEnd::Completed, &["one"]).await;
            done.is_some()
        }
        "MemoryInstance::ensure_system, of another text" => {
            memory.ensure_system("name", "two").await.unwrap();
            let done = cut.off(memory.ensure_system("name", "one")).await.map(Result::unwrap);
            case.settle().await;
            let mut prompts = case.texts().await;
            prompts.retain(|text| ["one", "two"].contains(&text.as_str()));
            assert!(
                prompts == ["one"] || (prompts == ["two"] && done.is_none()),
                "{what}: {prompts:?}"
            );
            done.is_some()
        }
        "MemoryInstance::send" => {
            let prepared = memory.prepare(batch()).unwrap();
            let done = cut.off(memory.send(&prepared)).await.map(Result::unwrap);
            // In either case, sending it again ensures that it is stored once.
            let again = memory.send(&prepared).await.unwrap();
            assert!(done.is_none() || again.outcome.is_duplicate(), "{what}");
            case.assert_all_or_nothing(CallEnd::Completed, &["one", "two"]).await;
            done.is_some()
        }
        "MemoryInstance::append_if" => {
            let version = memory.version().await.unwrap();
            let append = memory.append_if(version, batch());
            let done = cut.off(append).await.map(|done| done.unwrap().applied().unwrap());
            case.assert_all_or_nothing(done.is_some().into(), &["one", "two"]).await;
            done.is_some()
        }
        "MemoryInstance::rewind" | "MemoryInstance::pop_turn" => {
            let version = memory.version().await.unwrap();
            let before = memory.counters().await.unwrap().present.messages;
            let done = if operation == "MemoryInstance::rewind" {
                cut.off(memory.rewind(Sequence::new(1), version)).await.map(Result::unwrap)
            } else {
                cut.off(memory.pop_turn(version)).await.map(Result::unwrap)
            };
            case.settle().await;
            let counters = memory.counters().await.unwrap();
            let gone = counters.withdrawn;
            assert_eq!(gone + counters.present.messages, counters.appended, "{what}");
            let whole = operation == "MemoryInstance::pop_turn" || gone == before - 1;
            assert!(gone == 0 || whole, "{what}: {gone}");
            let is_done = done.is_some();
            let withdrawn = done.map(|done| done.applied().unwrap().counters.withdrawn);
            assert!(withdrawn.is_none_or(|withdrawn| withdrawn == counters.withdrawn), "{what}");
            is_done
        }
        "MemoryInstance::archived" => {
            let all = Sequence::ZERO..=Sequence::new(u64::MAX);
            cut.off(memory.archived(all)).await.map(Result::unwrap).is_some()
        }
        "MemoryInstance::originals" => {
            let summary = MessageId::new(uuid::Uuid::nil());
            cut.off(memory.originals(summary)).await.map(Result::unwrap).is_some()
        }
        "MemoryInstance::search" => {
            let query = memory_instance::SearchQuery::new("word");
            cut.off(memory.search(&query)).await.map(Result::unwrap).is_some()
        }
        "MemoryInstance::rebuild_index" => {
            cut.off(memory.rebuild_index()).await.map(Result::unwrap).is_some()
        }
        "MemoryInstance::removals" => {
            cut.off(memory.removals(None, NonZeroUsize::MIN)).await.map(Result::unwrap).is_some()
        }
        "MemoryInstance::purge" => {
            let done = cut.off(memory.purge()).await.map(Result::unwrap);
            case.settle().await;
            let cleared = memory.counters().await.unwrap().cleared;
            let all = u64::try_from(HISTORY).unwrap() + 1;
            assert!(cleared == all || (cleared == 0 && done.is_none()), "{what}: {cleared}");
            done.is_some()
        }
        "MemoryInstance::undo_flush"
        | "MemoryInstance::undo_flush, of a removal with a system prompt" => {
            let before = memory.messages().await.unwrap();
            let outline = case.outline().await;
            let mut splice = Splice::of(&outline);
            splice.evicted = outline.metas[..20].iter().map(|meta| meta.sequence).collect();
            let id = uuid::Uuid::from_u128(fastrand::u128(..));
            let mut receipt = FlushReceipt::new(id, "test", outline.metas[0].created_at);
            receipt.evicted = splice.evicted.iter().copied().collect();
            if operation.contains("prompt") {
                receipt.named =
                    vec![MessageId::new(uuid::Builder::from_custom_bytes([7; 16]).into_uuid())];
            }
            splice.receipt = Some(receipt);
            splice.archive = Some(Retention::forever());
            let store = &case.world.store;
            store.splice(memory.key(), Access::OPEN, &splice).await.unwrap();
            let done = cut.off(memory.undo_flush(id)).await.map(Result::unwrap);
            case.settle().await;
            let evicted = memory.counters().await.unwrap().evicted;
            assert!(evicted == 0 || (evicted == 20 && done.is_none()), "{what}: {evicted}");
            let after = memory.messages().await.unwrap();
            let kept = &before[usize::try_from(evicted).unwrap()..];
            assert!(after.starts_with(kept), "{what}: {evicted}");
            done.is_some()
        }
        "MemoryInstance::erase" => {
            let outline = case.outline().await;
            let places: Vec<_> = outline.metas[..2].iter().map(|meta| meta.sequence).collect();
            let done = cut.off(memory.erase(places, "test")).await.map(Result::unwrap);
            case.settle().await;
            let withdrawn = memory.counters().await.unwrap().withdrawn;
            assert!(withdrawn == 2 || (withdrawn == 0 && done.is_none()), "{what}: {withdrawn}");
            let recorded = memory.erasures().await.unwrap().len();
            assert_eq!(recorded, usize::from(withdrawn == 2), "{what}");
            done.is_some()
        }
        "MemoryInstance::rewrite_summaries" => {
            let outline = case.outline().await;
            let mut splice = Splice::of(&outline);
            let metas = &outline.metas[..20];
            splice.summarized = metas.iter().map(|meta| meta.sequence).collect();
            let id = MessageId::new(uuid::Uuid::from_u128(fastrand::u128(..)));
            let now = metas[0].created_at;
            splice.summary = Some(NewMessage {
                id,
                message: Message::system("quotes"),
                tokens: 1,
                priority: None,
                content_type: ContentType::Summary,
                created_at: now,
            });
            let flush = uuid::Uuid::from_u128(fastrand::u128(..));
            let mut receipt = FlushReceipt::new(flush, "test", now);
            receipt.summarized = splice.summarized.iter().copied().collect();
            let at = metas[0].sequence;
            receipt.summary = Some(SummaryRecord::new(id, at, 1, "test"));
            splice.receipt = Some(receipt);
            splice.archive = Some(Retention::forever());
            let store = &case.world.store;
            store.splice(memory.key(), Access::OPEN, &splice).await.unwrap();
            let erasure = memory.erase([metas[1].sequence], "test").await.unwrap().erasure;
            assert_eq!(erasure.summaries.len(), 1, "{what}");
            let done = cut.off(memory.rewrite_summaries(&erasure)).await.map(Result::unwrap);
            case.settle().await;
            let quoted = case.texts().await.iter().any(|text| text == "quotes");
            assert!(!quoted || done.is_none(), "{what}");
            done.is_some()
        }
        "MemoryInstance::backup" | "BackupReader::open" => {
            let mut file = Vec::new();
            if operation == "MemoryInstance::backup" {
                let done = cut.off(memory.backup(&mut file)).await.map(Result::unwrap);
                return done.is_some();
            }
            memory.backup(&mut file).await.unwrap();
            cut.off(BackupReader::open(file.as_slice())).await.map(Result::unwrap).is_some()
        }
        "MemoryInstance::restore_backup" => {
            let mut file = Vec::new();
            memory.backup(&mut file).await.unwrap();
            let other = another(case);
            let restore = async || {
                let backup = BackupReader::open(file.as_slice()).await.unwrap();
                other.restore_backup(backup, RestoredTtl::Kept).await.unwrap()
            };
            let done = cut.off(restore()).await;
            restore().await;
            assert_copied(case, &other).await;
            done.is_some()
        }
        "MemoryInstance::fork" => {
            let other = another(case);
            let options = ForkOptions::new().with_id(uuid::Uuid::from_u128(fastrand::u128(..)));
            let done = cut.off(memory.fork(&other, options)).await.map(Result::unwrap);
            memory.fork(&other, options).await.unwrap();
            assert_copied(case, &other).await;
            done.is_some()
        }
        "MemoryInstance::metadata" => {
            cut.off(memory.metadata()).await.map(Result::unwrap).is_some()
        }
        "MemoryInstance::update_metadata" => {
            let before = memory.metadata().await.unwrap();
            let update = memory.update_metadata([("state", what.clone())], Some(before.revision));
            let done = cut.off(update).await.map(|done| done.unwrap().applied().unwrap());
            case.settle().await;
            let after = memory.metadata().await.unwrap();
            assert!(done.as_ref().is_none_or(|done| *done == after), "{what}");
            assert!(after == before || after.revision == before.revision + 1, "{what}");
            done.is_some()
        }
        "MemoryInstance::origin" => cut.off(memory.origin()).await.map(Result::unwrap).is_some(),
        "MemoryInstance::copy_to" => {
            let other = another(case);
            let done = cut.off(memory.copy_to(&other)).await.map(Result::unwrap);
            memory.copy_to(&other).await.unwrap();
            assert_copied(case, &other).await;
            done.is_some()
        }
        "MemoryInstance::erasures" => {
            cut.off(memory.erasures()).await.map(Result::unwrap).is_some()
        }
        "MemoryInstance::delete" => {
            let done = cut.off(memory.delete()).await.map(Result::unwrap);
            case.settle().await;
            let left = memory.messages().await.unwrap().len();
            // One message came after it.
            assert!(left == 1 || (left > HISTORY && done.is_none()), "{what}: {left}");
            memory.delete().await.unwrap();
            assert_eq!(memory.counters().await.unwrap().appended, 0, "{what}");
            done.is_some()
        }
        "WorkflowScope::finish" => {
            let (_, resource, key) = memory.key().parts().unwrap();
            let scope = case.world.manager.workflow("w", [&*resource]).unwrap();
            for key in [&*key, &*format!("{key}/other")] {
                scope.memory(&resource, key).unwrap().append(one()).await.unwrap();
            }
            let done = cut.off(scope.finish()).await.map(Result::unwrap);
            let again = scope.finish().await.unwrap();
            assert_eq!(again.deleted.len(), 2, "{what}");
            assert!(scope.keys().is_empty(), "{what}");
            assert_eq!(memory.counters().await.unwrap().appended, 0, "{what}");
            done.is_some()
        }
        "MemoryInstance::replace" => {
            let place = case.outline().await.metas[0].sequence;
            let done = cut.off(memory.replace(place, one())).await.map(Result::unwrap);
            case.settle().await;
            let text = memory.messages().await.unwrap()[0].message.text().into_owned();
            assert!(text == "one" || done.is_none(), "{what}: {text}");
            memory.replace(place, one()).await.unwrap().unwrap();
            assert_eq!(memory.messages().await.unwrap()[0].message.text(), "one", "{what}");
            done.is_some()
        }
        "MemoryInstance::replace_all" => {
            let done = cut.off(memory.replace_all(batch(), None)).await.map(Result::unwrap);
            case.settle().await;
            let texts = case.texts().await;
            let cleared = memory.counters().await.unwrap().cleared;
            // One message may have come before the replacement or after it.
            let is_new = texts.starts_with(&["one".into(), "two".into()]) && texts.len() <= 3;
            let is_old = texts.len() > HISTORY && cleared == 0;
            assert!(is_new && cleared > 0 || is_old && done.is_none(), "{what}: {texts:?}");
            done.is_some()
        }
        "MemoryInstance::set_priority" => {
            let place = case.outline().await.metas[0].sequence;
            let set = memory.set_priority(place, Priority::IMPORTANT);
            let done = cut.off(set).await.map(Result::unwrap);
            case.settle().await;
            let is_set = case.outline().await.metas[0].priority == Some(Priority::IMPORTANT);
            assert!(is_set || done.is_none(), "{what}");
            done.is_some()
        }
        "MemoryInstance::set_content_type" => {
            let place = case.outline().await.metas[0].sequence;
            let facts = ContentType::ImportantFacts;
            let set = memory.set_content_type(place, facts.clone());
            let done = cut.off(set).await.map(Result::unwrap);
            case.settle().await;
            let is_set = case.outline().await.metas[0].content_type == facts;
            assert!(is_set || done.is_none(), "{what}");
            done.is_some()
        }
        "MemoryInstance::version" => cut.off(memory.version()).await.map(Result::unwrap).is_some(),
        "MemoryInstance::clear" => {
            let done = cut.off(memory.clear()).await.map(Result::unwrap);
            case.settle().await;
            let cleared = memory.counters().await.unwrap().cleared;
            let all = u64::try_from(HISTORY).unwrap() + 1;
            assert!(cleared == all || (cleared == 0 && done.is_none()), "{what}: {cleared}");
            done.is_some()
        }
        "MemoryInstance::clear_with_backup" => {
            let mut sink = Counted::default();
            let done = cut.off(memory.clear_with_backup(&mut sink)).await.map(Result::unwrap);
            case.settle().await;
            let cleared = memory.counters().await.unwrap().cleared;
            let all = u64::try_from(HISTORY).unwrap() + 1;
            assert!(cleared == all || (cleared == 0 && done.is_none()), "{what}: {cleared}");
            assert!(cleared == 0 || sink.completed > 0, "{what}: no backup");
            done.is_some()
        }
        "MemoryInstance::close_call" => {
            let done = cut.off(memory.close_call("open")).await.map(Result::unwrap);
            case.settle().await;
            let closed = case.outline().await.metas.iter().filter(|meta| meta.closed).count();
            assert!(closed == 1 || (closed == 0 && done.is_none()), "{what}: {closed}");
            // If the call is still open, the next attempt closes it.
            assert_eq!(memory.close_call("open").await.is_ok(), closed == 0, "{what}");
            done.is_some()
        }
        "MemoryInstance::flush" => {
            let done = cut.off(memory.flush(&FlushOptions::new())).await.map(Result::unwrap);
            assert_flushed_or_not(case, done.is_some().into()).await;
            done.is_some()
        }
        "MemoryInstance::perform_flush, during a flush of another process" => {
            let flush = hold(case, &case.flush_lease()).await;
            let done = cut.off(memory.perform_flush()).await.map(Result::unwrap);
            flush.await.unwrap();
            assert_flushed_or_not(case, done.is_some().into()).await;
            done.is_some()
        }
        "MemoryInstance::flush_in_background" => {
            let done = cut.off(memory.flush_in_background()).await.map(Result::unwrap);
            if done.is_some() {
                until(what, async || {
                    let receipts = memory.receipts().await.unwrap().len();
                    if receipts == 1 { Ok(()) } else { Err("it began no flush".into()) }
                })
                .await;
            }
            assert_flushed_or_not(case, done.is_some().into()).await;
            done.is_some()
        }
        "MemoryInstance::exclusive" => {
            let done = cut.off(memory.exclusive(turn)).await.map(Result::unwrap);
            case.assert_all_or_nothing(done.is_some().into(), &["one", "two"]).await;
            done.is_some()
        }
        "MemoryInstance::exclusive, during a turn of another process" => {
            let other = hold(case, &case.lease()).await;
            let done = cut.off(memory.exclusive(turn)).await.map(Result::unwrap);
            other.await.unwrap();
            case.assert_all_or_nothing(done.is_some().into(), &["one", "two"]).await;
            done.is_some()
        }
        "MemoryInstance::break_leases" => {
            let other = hold(case, &case.lease()).await;
            let done = cut.off(memory.break_leases()).await.map(Result::unwrap);
            other.await.unwrap();
            case.settle().await;
            done.is_some()
        }
        "MemoryInstance, writes of a handle that may only read" => {
            let before = case.outline().await;
            let refused = refused_writes(&memory.read_only(), cut).await;
            assert_eq!(case.outline().await, before, "{what}");
            refused
        }
        "MemoryManager::keys" => {
            // A small page, because each case adds a memory.
            let most = NonZeroUsize::new(3).unwrap();
            let done = cut.off(case.world.manager.keys(None, most)).await.map(Result::unwrap);
            done.map(|keys| assert!((1..=3).contains(&keys.len()), "{what}: {keys:?}")).is_some()
        }
        "MemoryManager::keys_with_prefix" => {
            let most = NonZeroUsize::new(3).unwrap();
            let (resource, manager) = (&case.memory.resource().id, &case.world.manager);
            let listing = manager.keys_with_prefix(resource, "", None, most);
            let done = cut.off(listing).await.map(Result::unwrap);
            done.map(|keys| assert!((1..=3).contains(&keys.len()), "{what}: {keys:?}")).is_some()
        }
        "MemoryManager::list_keys" => {
            let most = NonZeroUsize::new(3).unwrap();
            let (resource, all) = (&case.memory.resource().id, KeyPattern::parse("*"));
            let done = cut.off(case.world.manager.list_keys(resource, &all, None, most)).await;
            let keys = done.map(|listing| listing.unwrap().keys.len());
            keys.map(|keys| assert!((1..=3).contains(&keys), "{what}: {keys}")).is_some()
        }
        "MemoryManager::run" => {
            let name = memory.key().parts().unwrap().2;
            let texts = [one(), Message::user("two")];
            let operation = Action::Append { payload: texts.to_vec() };
            let operation = MemoryOperation::new(&memory.resource().id, operation).with_key(name);
            let context = OperationContext::new(KeyContext::new());
            let report = cut.off(case.world.manager.run(&operation, context)).await;
            assert!(report.as_ref().is_none_or(|report| report.success), "{what}: {report:?}");
            case.assert_all_or_nothing(report.is_some().into(), &["one", "two"]).await;
            report.is_some()
        }
        "MemoryManager::shutdown, with a flush under way" => {
            let (store, locks) = (case.world.manager.store(), case.world.manager.locks());
            let closing = World::new("closing", store, locks, None).manager;
            let flusher = closing.memory_at(memory.key()).unwrap();
            let flush = tokio::spawn(async move { flusher.perform_flush().await });
            tokio::task::yield_now().await;
            let done = cut.off(closing.shutdown(TTL)).await;
            // Dropped or not, the flush had time to complete, unless it came after the shutdown.
            let flushed = flush.await.unwrap();
            assert_flushed_or_not(case, flushed.is_ok().into()).await;
            done.map(|report| assert!(report.is_complete(), "{what}: {report:?}")).is_some()
        }
        "MemoryManager::scrub" => {
            cut.off(case.world.manager.scrub()).await.map(Result::unwrap).is_some()
        }
        "MemoryManager::sweep" => {
            // No memory is that old, so all memories are kept.
            let unused = SweepOptions::new().with_unused_for(Duration::from_secs(1 << 30));
            let done = cut.off(case.world.manager.sweep(unused)).await.map(Result::unwrap);
            done.map(|report| assert_eq!(report.memories, 0, "{what}")).is_some()
        }
        "Session::lost" => lost(case, cut).await,
        _ if operation.starts_with("Session::") => in_a_turn(case, operation, cut).await,
        _ => read(case, operation, cut).await,
    }
}

async fn turn(session: Session) {
    session.messages().await.unwrap();
    session.append_all(batch()).await.unwrap();
    tokio::task::yield_now().await;
}

/// A lease that another process holds for a short time.
async fn hold(case: &Case<'_>, lease: &memory_lock::LockKey) -> tokio::task::JoinHandle<()> {
    let options = LockOptions::new().with_ttl(TTL);
    let held = case.world.others.lock(lease, &options).await.unwrap();
    tokio::spawn(async move {
        sleep(Duration::from_millis(1)).await;
        held.ensure_held().unwrap();
        drop(held);
    })
}

/// Asserts that the memory is flushed or unchanged, and that a later flush works in both cases.
async fn assert_flushed_or_not(case: &Case<'_>, end: CallEnd) {
    let Case { memory, what, .. } = case;
    case.settle().await;
    let counters = memory.counters().await.unwrap();
    let flushed = counters.summarized > 0;
    assert_eq!(memory.receipts().await.unwrap().len(), usize::from(flushed), "{what}");
    assert_eq!(counters.summaries, u64::from(flushed), "{what}");
    assert!(flushed || end == CallEnd::Dropped, "{what}");
    let next = memory.perform_flush().await.unwrap();
    assert_eq!(next.is_some(), !flushed, "{what}");
}

/// Reads leave the memory unchanged, through handles of both modes.
async fn read(case: &Case<'_>, operation: &str, cut: Cut) -> bool {
    let Case { memory, what, .. } = case;
    let before = case.outline().await;
    let mut ended = true;
    for memory in [memory.clone(), memory.read_only()] {
        let all = u64::try_from(HISTORY).unwrap() + 1;
        let len = |len: usize| assert_eq!(len, HISTORY + 1, "{what}");
        ended &= match operation {
            "MemoryInstance::messages" => {
                let done = cut.off(memory.messages()).await.map(Result::unwrap);
                done.map(|messages| len(messages.len())).is_some()
            }
            "MemoryInstance::page" => {
                let done = cut.off(memory.page(None, None)).await.map(Result::unwrap);
                done.map(|page| len(page.messages.len())).is_some()
            }
            "MemoryInstance::page_before" => {
                let done = cut.off(memory.page_before(None, NonZeroUsize::MAX)).await;
                done.map(|page| len(page.unwrap().messages.len())).is_some()
            }
            "MemoryInstance::watch" => {
                let Some(watch) = cut.off(memory.watch(WatchFrom::Start)).await else {
                    return false;
                };
                let Change::Appended(messages) = watch.unwrap().next().await.unwrap() else {
                    panic!("{what}")
                };
                len(messages.len());
                true
            }
            "Watcher::next" => {
                let mut watch = memory.watch(WatchFrom::Start).await.unwrap();
                let first = cut.off(watch.next()).await;
                let ended = first.is_some();
                let first = match first {
                    Some(change) => change,
                    // Kept for the next call.
                    None => watch.next().await,
                };
                let Change::Appended(messages) = first.unwrap() else { panic!("{what}") };
                len(messages.len());
                ended
            }
            "MemoryInstance::last" => {
                let done = cut.off(memory.last(2)).await.map(Result::unwrap);
                done.map(|messages| assert_eq!(messages.len(), 2, "{what}")).is_some()
            }
            "MemoryInstance::context" => {
                let done = cut.off(memory.context(BUDGET)).await.map(Result::unwrap);
                done.map(|window| assert!(window.tokens <= BUDGET, "{what}")).is_some()
            }
            "MemoryInstance::window" => {
                let options = WindowOptions::new(BUDGET);
                let done = cut.off(memory.window(&options)).await.map(Result::unwrap);
                done.map(|window| assert!(window.tokens <= BUDGET, "{what}")).is_some()
            }
            "MemoryInstance::calibrate" => {
                let window = memory.context(BUDGET).await.unwrap();
                let usage = Usage::new(window.tokens);
                let done = cut.off(memory.calibrate(window.anchor(), usage)).await;
                done.map(Result::unwrap).is_some()
            }
            "MemoryInstance::len" => {
                let done = cut.off(memory.len()).await.map(Result::unwrap);
                done.map(|there| assert_eq!(there, all, "{what}")).is_some()
            }
            "MemoryInstance::is_empty" => {
                let done = cut.off(memory.is_empty()).await.map(Result::unwrap);
                done.map(|empty| assert!(!empty, "{what}")).is_some()
            }
            "MemoryInstance::token_count" => {
                let done = cut.off(memory.token_count()).await.map(Result::unwrap);
                let tokens = before.head.counters.present.tokens;
                done.map(|there| assert_eq!(there, tokens, "{what}")).is_some()
            }
            "MemoryInstance::counters" => {
                let done = cut.off(memory.counters()).await.map(Result::unwrap);
                done.map(|there| assert_eq!(there, before.head.counters, "{what}")).is_some()
            }
            "MemoryInstance::stats" => {
                let done = cut.off(memory.stats(Some(GroupBy::Role))).await.map(Result::unwrap);
                done.map(|stats| assert_eq!(stats.messages, all, "{what}")).is_some()
            }
            "MemoryInstance::receipts" => {
                let done = cut.off(memory.receipts()).await.map(Result::unwrap);
                done.map(|receipts| assert!(receipts.is_empty(), "{what}")).is_some()
            }
            "MemoryInstance::leases" => {
                let done = cut.off(memory.leases()).await.map(Result::unwrap);
                done.map(|leases| assert_eq!(leases.flush, None, "{what}")).is_some()
            }
            "MemoryInstance::plan_flush" => {
                let options = FlushOptions::new().with_target_tokens(0);
                let done = cut.off(memory.plan_flush(&options)).await.map(Result::unwrap);
                done.map(|plan| assert!(plan.is_some_and(|plan| plan.dry_run), "{what}")).is_some()
            }
            "MemoryInstance::health" => {
                let done = cut.off(memory.health()).await.map(Result::unwrap);
                done.map(|health| assert_eq!(health.messages, all, "{what}")).is_some()
            }
            other => panic!("the sweep has no case for {other}"),
        };
        assert_eq!(case.outline().await, before, "{what}");
    }
    ended
}

/// A memory that was never written.
fn another(case: &Case<'_>) -> MemoryInstance {
    let name = uuid::Uuid::from_u128(fastrand::u128(..)).to_string();
    case.world.manager.memory("m", &name).unwrap()
}

/// Asserts that a copy is complete, and deletes it.
async fn assert_copied(case: &Case<'_>, other: &MemoryInstance) {
    let Case { memory, what, .. } = case;
    let (copied, messages) = (other.messages().await, memory.messages().await);
    assert!(copied.unwrap() == messages.unwrap(), "{what}");
    other.delete().await.unwrap();
}

/// Every operation that a read-only handle refuses; returns whether each completed.
async fn refused_writes(memory: &MemoryInstance, cut: Cut) -> bool {
    let prepared = memory.prepare(batch()).unwrap();
    let write = WriterId::new(1).write(1);
    let erasure = Erasure::new(write, "test", jiff::Timestamp::UNIX_EPOCH, Generation::NONE);
    let exclusive = async {
        match memory.exclusive(|_| async {}).await {
            Err(ExclusiveError::Begin(error)) => Err(*error),
            other => panic!("{other:?}"),
        }
    };
    let refusals = [
        cut.off(memory.append(one())).await.map(|done| done.unwrap_err()),
        cut.off(memory.append_all(batch())).await.map(|done| done.unwrap_err()),
        cut.off(memory.send(&prepared)).await.map(|done| done.unwrap_err()),
        cut.off(memory.clear()).await.map(|done| done.unwrap_err()),
        cut.off(memory.purge()).await.map(|done| done.unwrap_err()),
        cut.off(memory.undo_flush(uuid::Uuid::nil())).await.map(|done| done.unwrap_err()),
        cut.off(memory.erase([Sequence::ZERO], "test")).await.map(|done| done.unwrap_err()),
        cut.off(memory.rewrite_summaries(&erasure)).await.map(|done| done.unwrap_err()),
        cut.off(memory.replace(Sequence::ZERO, one())).await.map(|done| done.unwrap_err()),
        cut.off(memory.update_metadata([("a", 1_u64)], None)).await.map(|done| done.unwrap_err()),
        cut.off(memory.replace_all(batch(), None)).await.map(|done| done.unwrap_err()),
        cut.off(memory.delete()).await.map(|done| done.unwrap_err()),
        cut.off(memory.append_if(Version::default(), batch())).await.map(|done| done.unwrap_err()),
        cut.off(memory.rewind(Sequence::ZERO, Version::default()))
            .await
            .map(|done| done.unwrap_err()),
        cut.off(memory.pop_turn(Version::default())).await.map(|done| done.unwrap_err()),
        cut.off(memory.ensure_system("name", "one")).await.map(|done| done.unwrap_err()),
        cut.off(memory.perform_flush()).await.map(|done| done.unwrap_err()),
        cut.off(memory.flush_in_background()).await.map(|done| done.unwrap_err()),
        cut.off(memory.rebuild_index()).await.map(|done| done.unwrap_err()),
        cut.off(memory.close_call("open")).await.map(|done| done.unwrap_err()),
        cut.off(exclusive).await.map(|done: Result<(), MemoryError>| done.unwrap_err()),
    ];
    for refused in refusals.iter().flatten() {
        assert!(matches!(refused, MemoryError::ReadOnly { .. }), "{refused}");
    }
    refusals.iter().all(Option::is_some)
}

/// Drops a call within a turn, and continues the turn.
async fn in_a_turn(case: &Case<'_>, operation: &str, cut: Cut) -> bool {
    let Case { memory, what, .. } = case;
    let turn = |session: Session| async move {
        let ended = match operation {
            "Session::append" => {
                cut.off(session.append(one())).await.map(|it| drop(it.unwrap())).is_some()
            }
            "Session::append_all" => {
                cut.off(session.append_all(batch())).await.map(|it| drop(it.unwrap())).is_some()
            }
            "Session::send" => {
                let prepared = memory.prepare(batch()).unwrap();
                let done = cut.off(session.send(&prepared)).await.map(Result::unwrap);
                let again = session.send(&prepared).await.unwrap();
                assert!(done.is_none() || again.outcome.is_duplicate(), "{what}");
                done.is_some()
            }
            "Session::clear" => {
                cut.off(session.clear()).await.map(|it| drop(it.unwrap())).is_some()
            }
            "Session::replace" => {
                let place = Sequence::new(1);
                cut.off(session.replace(place, one())).await.map(Result::unwrap).is_some()
            }
            "Session::ensure_system" => {
                let ensured = session.ensure_system("name", "one");
                cut.off(ensured).await.map(Result::unwrap).is_some()
            }
            "Session::window" => {
                let options = WindowOptions::new(BUDGET);
                cut.off(session.window(&options)).await.map(|it| drop(it.unwrap())).is_some()
            }
            "Session::context" => {
                cut.off(session.context(BUDGET)).await.map(|it| drop(it.unwrap())).is_some()
            }
            "Session::metadata" => {
                cut.off(session.metadata()).await.map(|it| drop(it.unwrap())).is_some()
            }
            "Session::update_metadata" => {
                let update = session.update_metadata([("a", 1_u64)], None);
                cut.off(update).await.map(|it| it.unwrap().applied().unwrap()).is_some()
            }
            "Session::messages" => {
                cut.off(session.messages()).await.map(|it| drop(it.unwrap())).is_some()
            }
            "Session::page" => {
                cut.off(session.page(None, None)).await.map(|it| drop(it.unwrap())).is_some()
            }
            "Session::page_before" => {
                let page = session.page_before(None, NonZeroUsize::MIN);
                cut.off(page).await.map(|it| drop(it.unwrap())).is_some()
            }
            "Session::last" => cut.off(session.last(2)).await.map(|it| drop(it.unwrap())).is_some(),
            other => panic!("the sweep has no case for {other}"),
        };
        session.ensure_held().unwrap();
        session.append(Message::user("after")).await.unwrap();
        ended
    };
    let ended = memory.exclusive(turn).await.unwrap();
    case.settle().await;
    let texts = case.texts().await;
    let new: Vec<_> = texts.iter().map(String::as_str).collect();
    let new: Vec<_> =
        new.into_iter().filter(|text| ["one", "two", "after"].contains(text)).collect();
    let whole: &[&str] = match operation {
        "Session::append" | "Session::ensure_system" | "Session::replace" => &["one", "after"],
        "Session::append_all" | "Session::send" => &["one", "two", "after"],
        _ => &["after"],
    };
    let none = !ended && operation != "Session::send" && new == ["after"];
    assert!(new == whole || none, "{what}: {new:?}");
    if operation == "Session::clear" {
        let cleared = memory.counters().await.unwrap().cleared;
        let all = u64::try_from(HISTORY).unwrap() + 1;
        assert!(cleared == all || (cleared == 0 && !ended), "{what}: {cleared}");
    }
    ended
}

/// A turn whose lease was broken.
async fn lost(case: &Case<'_>, cut: Cut) -> bool {
    let short = Case::new(case.world, "short", case.what.clone()).await;
    let (hand_out, handed_out) = oneshot::channel();
    let memory = short.memory.clone();
    let turn = tokio::spawn(async move {
        let turn = |session: Session| async move {
            hand_out.send(session).unwrap();
            std::future::pending::<()>().await;
        };
        memory.exclusive(turn).await
    });
    let session = handed_out.await.unwrap();
    let backend = case.world.others.backend();
    let holder = backend.inspect(&short.lease()).await.unwrap().unwrap().owner;
    backend.release(&short.lease(), holder).await.unwrap();
    let done = cut.off(session.lost()).await;
    let lost = turn.await.unwrap().unwrap_err();
    assert!(matches!(lost, ExclusiveError::Lost { output: None, .. }), "{}: {lost}", case.what);
    done.is_some()
}

/// Summarizers have no side effects, and their inner futures are dropped with them.
pub(crate) async fn cut_off_summary(case: &Case<'_>, operation: &str, cut: Cut) -> bool {
    #[derive(Debug)]
    struct Tokio;
    impl Timer for Tokio {
        fn sleep(&self, time: Duration) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send + '_>> {
            Box::pin(sleep(time))
        }
    }
    let running = Arc::new(());
    let held = Arc::clone(&running);
    let slow = from_fn("slow", move |_| {
        let held = Arc::clone(&held);
        async move {
            tokio::task::yield_now().await;
            sleep(Duration::from_millis(1)).await;
            drop(held);
            Ok("a summary".to_owned())
        }
    });
    let messages = case.memory.messages().await.unwrap();
    let settings = FlushSettings::for_budget(1_000);
    let request = || {
        let counter = Arc::new(EstimateCounter);
        SummaryRequest::new(messages.clone(), &settings, counter).unwrap()
    };
    let hangs = from_fn("hangs", |_| std::future::pending());
    let ended = match operation {
        "FallbackChain::run" => {
            let chain = FallbackChain::default().with_time_limit(Duration::from_millis(20));
            let chain = chain.with_step(hangs).with_step(Arc::clone(&slow));
            let done = cut.off(chain.run(request(), &Tokio)).await;
            done.map(|summary| assert!(!summary.text.is_empty())).is_some()
        }
        "compact" => {
            let messages: Vec<_> = request().messages.iter().map(|it| it.message.clone()).collect();
            let options = CompactOptions::new(60).with_summarizer(Arc::clone(&slow));
            let done = cut.off(compact(&messages, &options)).await;
            done.map(|done| assert!(done.summarizer.is_some(), "{done:?}")).is_some()
        }
        "Summarizer::summarize" => {
            let rules = RuleBasedSummarizer::default();
            let by_rule = cut.off(rules.summarize(request())).await.map(Result::unwrap);
            let done = cut.off(slow.summarize(request())).await.map(Result::unwrap);
            done.is_some() && by_rule.is_some()
        }
        other => panic!("the sweep has no case for {other}"),
    };
    drop(slow);
    assert_eq!(Arc::strong_count(&running), 1, "{}: a summarizer goes on", case.what);
    ended
}
