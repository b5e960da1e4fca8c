//! `memory health`.

use std::time::Duration;

use comfy_table::Table;
use memory_core::health::{ServerHealth, Verdict};
use memory_core::store::{ForkOrigin, Tally};
use memory_core::{MemoryHealth, MemoryKey};

use crate::args::Memories;
use crate::escape;
use crate::failure::note;
use crate::flush::{cleared, places};
use crate::keys;
use crate::out::{Out, count, number, table};

/// Show the state of a memory: size, budget, priorities, last flush, lease
///
/// Begins with a verdict, and accounts for every message that was ever appended: it is present, or was
/// summarized, evicted, cleared or withdrawn (taken back or erased).
///
/// appended = (present - summaries) + summarized + evicted + cleared + withdrawn
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  memory health --key airline-00-0
  memory health --all --resource support.yaml
  memory health --key airline-00-0 --json | jq .verdict.status")]
pub(crate) struct Args {
    /// Show every memory of this project and resource, one per row
    #[arg(long)]
    all: bool,
}

pub(crate) async fn run(memories: &Memories, args: &Args, out: &mut Out) -> anyhow::Result<()> {
    if args.all {
        return all(memories, out).await;
    }
    let health = memories.the_one().await?.health().await?;
    if out.json() {
        return out.compact(&health);
    }
    out.line(report(&health))?;
    note_budget(memories, health.max_tokens);
    Ok(())
}

/// Prints the budget, because without `--resource` a memory that is full by its resource's budget would seem to be
/// nearly empty.
fn note_budget(memories: &Memories, max_tokens: u64) {
    if !memories.resource_given {
        note(format_args!(
            "judged by a budget of {} tokens; give --resource to judge by the budget of a resource",
            number(max_tokens)
        ));
    }
}

async fn all(memories: &Memories, out: &mut Out) -> anyhow::Result<()> {
    let manager = &memories.manager;
    let name = MemoryKey::new(manager.project(), &memories.resource.id, "-")?;
    let prefix = name.as_str().trim_end_matches('-');
    let (mut reports, mut others) = (Vec::new(), 0);
    let mut after = None;
    while let Some(page) = keys::page(memories, &mut after).await? {
        for key in page {
            if key.as_str().starts_with(prefix) {
                reports.push(manager.memory_at(&key)?.health().await?);
            } else {
                others += 1;
            }
        }
    }
    if others > 0 {
        note(format_args!(
            "{} of other projects or resources left out; name them with --project and --resource",
            count(others, "memory", "memories")
        ));
    }
    if out.json() {
        return out.compact(&reports);
    }
    let headings = [
        "key",
        "verdict",
        "#messages",
        "#tokens",
        "#budget",
        "#appended",
        "#summarized",
        "#evicted",
        "#cleared",
        "#withdrawn",
    ];
    let mut rows = table(&headings);
    for health in &reports {
        let verdict = match health.verdict {
            Verdict::Healthy => "healthy",
            Verdict::Degraded { .. } => "degraded",
            Verdict::OverBudget { .. } => "over budget",
            _ => "see --json",
        };
        rows.add_row([
            key_name(health),
            verdict.to_owned(),
            number(health.messages),
            number(health.tokens),
            percent(health.budget_used),
            number(health.lifetime.appended),
            number(health.lifetime.summarized),
            number(health.lifetime.evicted),
            number(health.lifetime.cleared),
            number(health.lifetime.withdrawn),
        ]);
    }
    out.line(rows)?;
    note_budget(memories, memories.resource.max_tokens.unwrap_or_default());
    Ok(())
}

fn key_name(health: &MemoryHealth) -> String {
    let name = health.key.parts().map_or_else(|| health.key.to_string(), |(.., name)| name);
    escape::inline(&name).into_owned()
}

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

/// The report in text form.
pub(crate) fn report(health: &MemoryHealth) -> Table {
    let mut rows = table(&["memory", health.key.as_str()]);
    let mut row = |name: &str, value: String| {
        rows.add_row([name.to_owned(), value]);
    };
    row("verdict", health.verdict.to_string());
    let limit =
        health.message_limit.map_or_else(String::new, |limit| format!(" of {}", number(limit)));
    row("messages", number(health.messages) + &limit);
    let (tokens, budget) = (number(health.tokens), number(health.max_tokens));
    row("tokens", format!("{tokens} of {budget} ({})", percent(health.budget_used)));
    for (priority, tally) in &health.priorities {
        let name = match priority.number() {
            0 => "  priority 0, critical".to_owned(),
            1 => "  priority 1, important".to_owned(),
            number => format!("  priority {number}, optional"),
        };
        row(&name, tally_text(*tally));
    }
    for (content_type, tally) in &health.content_types {
        row(&format!("  {}", escape::inline(content_type.as_str())), tally_text(*tally));
    }
    if health.open_calls + health.abandoned_calls + health.orphaned_results > 0 {
        let MemoryHealth { open_calls, abandoned_calls, orphaned_results, .. } = health;
        let orphaned = count(*orphaned_results, "result", "results");
        let text =
            format!("{open_calls} open, {abandoned_calls} abandoned, {orphaned} without a call");
        row("tool calls", text);
    }
    let life = &health.lifetime;
    row("ever appended", number(life.appended));
    row("  still present", number(life.present));
    row("  summarized", number(life.summarized));
    row("  evicted", number(life.evicted));
    row("  cleared", number(life.cleared));
    row("  withdrawn", number(life.withdrawn));
    row("summaries", number(life.summaries));
    row("flush strategy", health.strategy.clone());
    row("last flush", last_flush(health));
    if let Some(error) = &health.last_flush_error {
        row("last flush error", escape::inline(error).into_owned());
    }
    if health.flush_held {
        row("automatic flushes", "held since a flush was undone, until `memory flush`".to_owned());
    }
    if let Some(archive) = &health.archive {
        let messages = count(archive.messages, "message", "messages");
        let removals = count(archive.removals, "removal", "removals");
        row("archive", format!("{messages} of {removals}, {} bytes", number(archive.bytes)));
    }
    if let Some(origin) = &health.origin {
        let ForkOrigin { key, at, version, forked_at, id: _ } = origin;
        let origin = format!("{key} at message {at} (version {version}), {forked_at}");
        row("forked from", escape::inline(&origin).into_owned());
    }
    row("lease", lease(health));
    row("waiting tasks", number(health.waiting_tasks));
    let fence = health.fence.number();
    row("newest fence", if fence == 0 { "none".to_owned() } else { fence.to_string() });
    row("expires", health.expires_at.map_or_else(|| "never".to_owned(), |at| at.to_string()));
    row("store answered in", format!("{:?}", Duration::from_micros(health.store_latency_us)));
    if let Some(server) = &health.server {
        let ServerHealth { software, role, replicas, persistence, warnings, .. } = server;
        let replicas = count(u64::from(*replicas), "replica", "replicas");
        row("server", format!("{software}, {role}, {replicas}, {persistence}"));
        for warning in warnings {
            row("server warning", warning.to_string());
        }
    }
    if health.unreadable > 0 {
        row("unreadable messages", number(health.unreadable));
    }
    rows
}

fn tally_text(tally: Tally) -> String {
    let messages = count(tally.messages, "message", "messages");
    format!("{messages}, {}", count(tally.tokens, "token", "tokens"))
}

fn last_flush(health: &MemoryHealth) -> String {
    let Some(receipt) = &health.last_flush else { return "never".to_owned() };
    let mut text = format!(
        "{}, {:?}: {} to {} tokens\nsummarized {}, evicted {}",
        receipt.started_at.strftime("%F %T UTC"),
        receipt.duration,
        number(receipt.tokens_before),
        number(receipt.tokens_after),
        places(&receipt.summarized),
        places(&receipt.evicted),
    );
    if !receipt.replaced.is_empty() {
        text.push_str(&format!("\ntool results cleared {}", cleared(receipt)));
    }
    if let Some(summary) = &receipt.summary {
        text.push_str(&format!("\nsummary by {}", summary.summarizer));
        if let Some(fallback) = &summary.fallback {
            text.push_str(&format!(" as fallback: {fallback}"));
        }
    }
    text
}

fn lease(health: &MemoryHealth) -> String {
    health.lease.as_ref().map_or_else(
        || "free".to_owned(),
        |lease| {
            let held = lease.held_ms.map_or_else(String::new, |held| format!(" for {held} ms"));
            let owner: String = lease.owner.chars().take(8).collect();
            format!("held{held} by {owner}, token {}, {} ms left", lease.token, lease.remaining_ms)
        },
    )
}
