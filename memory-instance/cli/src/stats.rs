//! `memory stats`.

use memory_core::store::Tally;
use memory_instance::{GroupBy, MessageStats};

use crate::args::Memories;
use crate::escape;
use crate::out::{Out, number, table};

/// Count the messages and tokens of a memory, in total and by a property
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  memory stats --key airline-00-0
  memory stats --key airline-00-0 --by role
  memory stats --key airline-00-0 --by extra.speaker --json | jq .groups")]
pub(crate) struct Args {
    /// Group by role, priority, content_type, resource, or a field of the messages: extra.NAME. At most 1,000 groups are
    /// listed
    #[arg(long, value_name = "PROPERTY")]
    by: Option<GroupBy>,
}

pub(crate) async fn run(memories: &Memories, args: &Args, out: &mut Out) -> anyhow::Result<()> {
    let memory = memories.the_one().await?;
    let stats = memory.stats(args.by.clone()).await?;
    if out.json() {
        return out.compact(&stats);
    }
    out.line(report(memory.key().as_str(), &stats))
}

fn report(key: &str, stats: &MessageStats) -> comfy_table::Table {
    let heading = stats.group_by.as_ref().map_or_else(|| "memory".to_owned(), ToString::to_string);
    let mut rows = table(&[&heading, "#messages", "#tokens", "#average"]);
    let mut row = |name: &str, Tally { messages, tokens }: Tally, average: String| {
        rows.add_row([&*escape::inline(name), &number(messages), &number(tokens), &average]);
    };
    for group in &stats.groups {
        let tally = Tally { messages: group.messages, tokens: group.tokens };
        row(group.name.as_deref().unwrap_or("-"), tally, format!("{:.1}", group.average_tokens));
    }
    if stats.other.messages > 0 {
        row("(other)", stats.other, String::new());
    }
    let total = Tally { messages: stats.messages, tokens: stats.tokens };
    row(key, total, format!("{:.1}", stats.average_tokens));
    if stats.unreadable > 0 {
        row("(cannot be decoded)", Tally { messages: stats.unreadable, tokens: 0 }, String::new());
    }
    rows
}
