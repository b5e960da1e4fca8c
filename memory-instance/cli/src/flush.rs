//! `memory flush`.

use memory_core::store::{FlushReceipt, SequenceSet};
use memory_instance::{FlushOptions, MemoryError};

use crate::args::Memories;
use crate::failure::usage;
use crate::out::{Out, number, table};

/// Flush a memory down to its target now, and show the receipt
///
/// The threshold is ignored, unless --if-due or --from is given. The budget, the strategy and the archive are the
/// resource's: a memory of a resource other than the built-in `default` needs --resource. The rule-based summarizer
/// writes summaries.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  memory flush --key airline-00-0 --resource support.yaml
  memory flush --key airline-00-0 --json | jq .tokens_after
  memory flush --key airline-00-0 --strategy fifo --free 25 --dry-run
  memory flush --key airline-00-0 --from 0.9 --target 2000")]
pub(crate) struct Args {
    /// Show what a flush would remove, and remove nothing
    #[arg(long)]
    dry_run: bool,
    /// Plan with this strategy: fifo, priority, hybrid_summary or clear_tool_results
    #[arg(long, value_name = "NAME")]
    strategy: Option<String>,
    /// Reduce the memory to at most this many tokens, in place of the resource's target
    #[arg(long, value_name = "TOKENS", conflicts_with = "free")]
    target: Option<u64>,
    /// Free at least this share of the memory's tokens, in percent, in place of the resource's target
    #[arg(long, value_name = "PERCENT")]
    free: Option<u8>,
    /// Flush only if a flush is due by the resource's threshold
    #[arg(long, conflicts_with = "from")]
    if_due: bool,
    /// Flush only if the memory holds at least this share of its budget, such as 0.9
    #[arg(long, value_name = "SHARE")]
    from: Option<f64>,
}

impl Args {
    fn options(&self) -> FlushOptions {
        let mut options = FlushOptions::new();
        if let Some(name) = &self.strategy {
            options = options.with_strategy(name);
        }
        if let Some(tokens) = self.target {
            options = options.with_target_tokens(tokens);
        }
        if let Some(percent) = self.free {
            options = options.with_freed_percent(percent);
        }
        match self.from {
            Some(share) => options.only_from(share),
            None if self.if_due => options.only_if_due(),
            None => options,
        }
    }
}

pub(crate) async fn run(memories: &Memories, args: &Args, out: &mut Out) -> anyhow::Result<()> {
    let memory = memories.the_one_to_remove_from(None).await?;
    let options = args.options();
    let receipt =
        if args.dry_run { memory.plan_flush(&options).await } else { memory.flush(&options).await };
    let receipt = receipt.map_err(|error| match error {
        MemoryError::Options { .. } => usage(error.to_string()),
        error => error.into(),
    })?;
    if out.json() {
        return out.compact(&receipt);
    }
    match &receipt {
        Some(receipt) => out.line(receipt_table(receipt)),
        None => {
            let tokens = number(memory.token_count().await?);
            let reason = if args.from.is_some() || args.if_due {
                "are under the threshold or within the target"
            } else {
                "are within the target"
            };
            out.line(format!("{}: nothing to do, {tokens} tokens {reason}", memory.key()))
        }
    }
}

fn receipt_table(receipt: &FlushReceipt) -> comfy_table::Table {
    let title = if receipt.dry_run { "dry run" } else { "flush" };
    let mut rows = table(&[title, "#before", "#after"]);
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
