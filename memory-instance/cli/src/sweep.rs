//! `memory sweep`.

use std::num::NonZeroUsize;
use std::time::Duration;

use memory_instance::SweepOptions;

use crate::args::Memories;
use crate::failure::usage;
use crate::out::{Out, count};

/// Remove unused memories of the project permanently
///
/// Without --unused-for it removes expired memories, whose TTL has run out. Readers no longer see them, but in a
/// SQLite file they take up space until their key is written again. SQLite reuses freed pages; the file itself
/// does not shrink. In a SQLite file this machine's clock decides which memories have expired: check it, or use
/// --dry-run first.
///
/// With --unused-for it also removes memories without a write for that long, with all their messages. Reads do
/// not count. Memories that are in use at the moment are kept.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  memory sweep
  memory sweep --project acme --unused-for 90d --dry-run
  memory sweep --project acme --unused-for 90d --max 10000 --yes")]
pub(crate) struct Args {
    /// Also memories that were not written for this long, such as 90d, 12h or 30m
    #[arg(long, value_name = "TIME", value_parser = duration)]
    unused_for: Option<Duration>,

    /// Only report what would be removed
    #[arg(long)]
    dry_run: bool,

    /// The maximum number of memories to remove
    #[arg(long, value_name = "N", default_value = "1000")]
    max: NonZeroUsize,

    /// Confirm the removal of memories that could still be read; --unused-for needs it
    #[arg(long)]
    yes: bool,
}

fn duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return Err("write a number and a unit: s, m, h or d, such as 90d".to_owned()),
    };
    let number: Option<u64> = number.parse().ok();
    match number.and_then(|number| number.checked_mul(seconds)) {
        Some(0) => Err("it must be longer than zero".to_owned()),
        Some(seconds) => Ok(Duration::from_secs(seconds)),
        None => Err("write a number and a unit: s, m, h or d, such as 90d".to_owned()),
    }
}

impl Args {
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        if self.unused_for.is_none() || self.dry_run || self.yes {
            return Ok(());
        }
        Err(usage(
            "--unused-for removes memories that can still be read, for good; see them with --dry-run, and add --yes to do that",
        ))
    }
}

pub(crate) async fn run(memories: &Memories, args: &Args, out: &mut Out) -> anyhow::Result<()> {
    let mut options = SweepOptions::new().with_max(args.max);
    if args.dry_run {
        options = options.with_dry_run();
    }
    if let Some(time) = args.unused_for {
        options = options.with_unused_for(time);
    }
    let report = memories.manager.sweep(options).await?;
    if out.json() {
        return out.compact(&report);
    }
    let done = if args.dry_run { "would be removed" } else { "removed" };
    out.line(format!(
        "{} with {} {done}",
        count(report.memories, "memory", "memories"),
        count(report.messages, "message", "messages"),
    ))?;
    if report.skipped > 0 {
        out.line(format!("{} in use, not removed", count(report.skipped, "memory", "memories")))?;
    }
    if report.more {
        out.line("there may be more: run it again, or raise --max")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_unit() {
        assert_eq!(duration("90d"), Ok(Duration::from_secs(90 * 86_400)));
        assert_eq!(duration("30m"), Ok(Duration::from_secs(1_800)));
        for bad in ["", "90", "d", "-1d", "1w", "0d", "1.5h", "99999999999999999999d"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
