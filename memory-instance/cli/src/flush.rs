//! `memory flush`.

use memory_core::store::{FlushReceipt, SequenceSet};

use crate::args::Memories;
use crate::out::{Out, number, table};

/// Flush a memory down to its target now, and show the receipt
///
/// The threshold is ignored. The budget, the strategy and the archive are the resource's: a memory of a resource other
/// than the built-in `default` needs --resource. The rule-based summarizer writes summaries.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  memory flush --key airline-00-0 --resource support.yaml
  memory flush --key airline-00-0 --json | jq .tokens_after")]
pub(crate) struct Args {}

pub(crate) async fn run(memories: &Memories, _: &Args, out: &mut Out) -> anyhow::Result<()> {
    let memory = memories.the_one_to_remove_from(None).await?;
    let receipt = memory.perform_flush().await?;
    if out.json() {
        return out.compact(&receipt);
    }
    match &receipt {
        Some(receipt) => out.line(receipt_table(receipt)),
        None => {
            let tokens = number(memory.token_count().await?);
            out.line(format!(
                "{}: nothing to do, {tokens} tokens are within the target",
                memory.key()
            ))
        }
    }
}

fn receipt_table(receipt: &FlushReceipt) -> comfy_table::Table {
    let mut rows = table(&["flush", "#before", "#after"]);
    let pair =
        |name: &str, before: u64, after: u64| [name.to_owned(), number(before), number(after)];
    rows.add_row(pair("tokens", receipt.tokens_before, receipt.tokens_after));
    rows.add_row(pair("messages", receipt.messages_before, receipt.messages_after));
    rows.add_row(["evicted", &places(&receipt.evicted), ""]);
    rows.add_row(["summarized", &places(&receipt.summarized), ""]);
    if !receipt.replaced.is_empty() {
        let freed = format!("{} tokens freed", number(receipt.tokens_cleared()));
        rows.add_row(["tool results cleared", &cleared(receipt), &freed]);
    }
    if let Some(summary) = &receipt.summary {
        let text = format!("#{} of {} tokens", summary.sequence, summary.tokens);
        rows.add_row(["summary", &text, &summary.summarizer]);
    }
    if let Some(shortfall) = receipt.shortfall {
        rows.add_row(["over its target", &format!("{shortfall:?}"), ""]);
    }
    rows.add_row(["strategy", &receipt.strategy, &format!("{:?}", receipt.duration)]);
    rows
}

/// The messages whose tool results were cleared.
pub(crate) fn cleared(receipt: &FlushReceipt) -> String {
    places(&receipt.replaced.iter().map(|one| one.sequence).collect())
}

/// The number of places, the first and the last.
pub(crate) fn places(set: &SequenceSet) -> String {
    match (set.ranges().first(), set.ranges().last()) {
        (Some((first, _)), Some((_, last))) => {
            format!("{} (#{first} to #{last})", number(set.len()))
        }
        _ => "none".to_owned(),
    }
}
