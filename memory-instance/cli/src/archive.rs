//! `memory archive`.

use std::num::NonZeroUsize;

use anyhow::Context as _;
use memory_core::Sequence;
use memory_core::store::{ArchivedRemoval, RemovalCause};

use crate::args::Memories;
use crate::flush::{cleared, places};
use crate::out::{Out, count, number, table};
use crate::tail::show;

/// List what was removed from a memory and is in its archive, show it, or undo it
///
/// Removed messages are kept for 30 days, or as the resource says: archive: { keep: 90d }. Undoing a flush returns the original
/// messages and tool results to their places and removes the summary; automatic flushes then wait for the next `memory flush`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  memory archive --key airline-00-0 --resource support.yaml
  memory archive --key airline-00-0 --resource support.yaml --show 412
  memory archive --key airline-00-0 --resource support.yaml --undo 412")]
pub(crate) struct Args {
    /// Show the messages of the removal with this number
    #[arg(long, value_name = "NUMBER", conflicts_with = "undo")]
    show: Option<u64>,
    /// Undo the removal with this number
    #[arg(long, value_name = "NUMBER")]
    undo: Option<u64>,
    /// How many removals to list, the newest first
    #[arg(short, long, default_value = "20")]
    limit: NonZeroUsize,
}

pub(crate) async fn run(memories: &Memories, args: &Args, out: &mut Out) -> anyhow::Result<()> {
    let memory = memories.the_one().await?;
    let find = async |removal: u64| {
        let found = memory.removals(Some(removal.saturating_add(1)), NonZeroUsize::MIN).await?;
        found.into_iter().find(|found| found.number == removal).with_context(|| {
            format!("the archive has no removal {removal}; list it without --show and --undo")
        })
    };
    if let Some(removal) = args.show {
        find(removal).await?;
        for archived in memory.archived(Sequence::ZERO..=Sequence::new(u64::MAX)).await? {
            if archived.removal == removal {
                show(&archived.message, out)?;
            }
        }
        return Ok(());
    }
    if let Some(removal) = args.undo {
        let found = find(removal).await?;
        let receipt =
            found.receipt.context("a clear cannot be undone; show its messages with --show")?;
        let counters = memory.undo_flush(receipt.id).await?;
        if out.json() {
            return out.compact(&counters);
        }
        let back = count(found.messages, "message", "messages");
        return out.line(format!("{}: {back} restored", memory.key()));
    }
    let removals = memory.removals(None, args.limit).await?;
    if out.json() {
        return out.compact(&removals);
    }
    if removals.is_empty() {
        return out.line(format!("{}: the archive is empty", memory.key()));
    }
    let mut rows = table(&[
        "#removal",
        "cause",
        "time",
        "#messages",
        "#tokens",
        "places",
        "tool results cleared",
    ]);
    for removal in &removals {
        let ArchivedRemoval { number: removal_number, removed_at, messages, tokens, .. } = removal;
        rows.add_row([
            removal_number.to_string(),
            cause(removal.cause).to_owned(),
            removed_at.to_string(),
            number(*messages),
            number(*tokens),
            places(&removal.places),
            removal.receipt.as_ref().map_or_else(|| "none".to_owned(), cleared),
        ]);
    }
    out.line(rows)
}

const fn cause(cause: RemovalCause) -> &'static str {
    match cause {
        RemovalCause::Flush => "flush",
        RemovalCause::Clear => "clear",
        RemovalCause::Withdrawal => "rewind",
        _ => "other",
    }
}
